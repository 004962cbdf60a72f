"""Eq. 1's terms against theory, faults while training, resumed training, Algorithm 1."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch")

import neurosim as ns  # noqa: E402
from neurosim import training as tr  # noqa: E402
from neurosim.errors import InputError, TraceError  # noqa: E402
from neurosim.layers import activation  # noqa: E402
from neurosim.theory import continuity  # noqa: E402
from neurosim.trace.logs import read_log  # noqa: E402
from neurosim.training import (  # noqa: E402
    algorithm,
    fault_masks,
    fitting,
    losses,
    measurement,
    modules,
)

WIDTHS = (5, 40, 24, 3)
KINDS = (
    "identity", "relu", "leaky_relu(0.1)", "sigmoid(4)", "tanh", "softplus", "soft_clip(2)",
    "soft_leaky_relu(0.1)", "relu6", "hard_swish", "silu", "gelu", "gelu_tanh", "mish", "elu(0.7)",
    "hard_tanh(0.5)",
)  # fmt: skip


def module_of(activation="tanh", widths=WIDTHS, **options):
    return tr.random_module(widths, activation, seed=3, dtype=torch.float64, **options)


def campaign_of(network, inputs, p, layer, **options):
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero("neuron", probability=p, layers=[layer])],
        inputs=inputs,
        trials=1,
        seed=0,
        **options,
    )


def number(tensor):
    return tensor.detach().item()


@pytest.fixture
def inputs():
    return np.random.default_rng(1).normal(size=(6, 5))


@pytest.mark.parametrize("activation", KINDS)
def test_a_module_computes_what_its_network_does_and_back(activation, inputs):
    module = module_of(activation)
    network = tr.to_network(module)
    np.testing.assert_allclose(
        network(inputs), module(torch.tensor(inputs)).detach().numpy(), rtol=1e-12, atol=1e-13
    )
    again = tr.to_module(network)
    for a, b in zip(module.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_every_activation_of_networks_is_one_of_modules():
    """Values and slopes, at the kinks and far outside too; none falls through to another."""
    kinds = {ns.layers.Activation.parse(text).kind for text in KINDS}
    assert kinds == set(activation._DEFAULT_PARAMETER)
    z = np.concatenate([np.linspace(-12, 12, 97), [-3.0, 0.0, 2.0, 3.0, 6.0]])
    for text in KINDS:
        kind = ns.layers.Activation.parse(text)
        t = torch.tensor(z, requires_grad=True)
        values = modules._activate(kind, t)
        np.testing.assert_allclose(values.detach(), kind(z), rtol=1e-10, atol=1e-12, err_msg=text)
        slopes = modules.slope(kind, t)
        np.testing.assert_allclose(
            slopes.detach(), kind.derivative(z), rtol=1e-9, atol=1e-12, err_msg=text
        )
        if kind.smooth and text != "identity":  # R1's gradients go through the slopes
            (second,) = torch.autograd.grad(slopes.sum(), t)
            np.testing.assert_allclose(second, kind.second_derivative(z), atol=1e-9, err_msg=text)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("activation", KINDS)
def test_r1_is_the_variance_of_t1_over_p(activation, layer, inputs):
    module = module_of(activation)
    r1 = number(tr.variance_penalty(module, torch.tensor(inputs), layer))
    p = 0.01
    found = ns.predict(campaign_of(tr.to_network(module), inputs, p, layer), "first-order")
    assert r1 == pytest.approx(found.variance_paper.mean() / p, rel=1e-6)
    other = ns.predict(campaign_of(tr.to_network(module), inputs, p, (layer + 1) % 3))
    assert r1 != pytest.approx(other.variance_paper.mean() / p, rel=1e-3)  # a layer off is seen


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "cross_entropy"])
def test_r1_of_a_loss_is_ap9s_variance_over_p(loss, inputs):
    module = module_of(last="softmax" if loss == "cross_entropy" else "identity")
    targets = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    p = 0.02
    campaign = campaign_of(tr.to_network(module), inputs, p, 1, targets=targets)
    found = ns.predict(campaign, "first-order", loss=loss)
    r1 = tr.variance_penalty(
        module, torch.tensor(inputs), 1, loss=loss, targets=torch.tensor(targets)
    )
    assert number(r1) == pytest.approx(found.variance_paper.mean() / p, rel=1e-6)


def test_r2_r3_and_the_norm_are_those_of_continuity():
    module = module_of()
    network = tr.to_network(module)
    one = network.layers[0].weight
    assert number(tr.balance_penalty(module)) == pytest.approx(continuity.balance_penalty(one))
    received = np.abs(one).sum(axis=1)
    assert number(tr.balance_penalty(module, method="paper")) == pytest.approx(
        received.max() ** 2 / (1e-5 + received.min() ** 2)
    )
    hidden = network.layers[:-1]
    total = sum(continuity.smoothness(part.weight, part.bias).total for part in hidden)
    assert number(tr.smoothness_penalty(module)) == pytest.approx(total, rel=1e-12)
    paper = [continuity.smoothness(part.weight, part.bias, "paper") for part in hidden]
    wanted = sum(2 * part.c1 + 3 * part.c3 for part in paper)
    assert number(tr.paper_smoothness(module, 2.0, 3.0)) == pytest.approx(wanted, rel=1e-12)
    norms = sum(np.abs(part.weight).sum(axis=1).max() for part in network.layers)
    assert number(tr.infinity_norm(module)) == pytest.approx(norms)


def test_curvature_and_the_gaussian_process_prefer_smooth_weights():
    t = torch.arange(1, 201, dtype=torch.float64)[:, None] / 200
    smooth = torch.sin(2 * np.pi * t) * torch.tensor([[1.0, 2.0]])
    rng = np.random.default_rng(0)
    rough = smooth[torch.tensor(rng.permutation(200))]

    def module(weight):
        zeros = torch.zeros(200, dtype=torch.float64)
        end = torch.zeros(1, 200, dtype=torch.float64)
        kinds = [ns.layers.Activation("tanh"), ns.layers.Activation("identity")]
        return tr.DenseModule([weight, end], [zeros, zeros[:1]], kinds)

    # The integral of |d^2/dt^2 sin 2 pi t| is 4 (2 pi), here in W / n_in times 1 + 2.
    assert number(tr.curvature_penalty(module(smooth))) == pytest.approx(3 * 8 * np.pi, rel=0.02)
    for penalty in (tr.curvature_penalty, tr.gaussian_process_penalty):
        assert number(penalty(module(rough))) > 100 * number(penalty(module(smooth)))


def test_the_gaussian_process_is_the_density_of_its_weights():
    module = module_of()
    total = 0.0
    for layer in tr.to_network(module).layers[:-1]:
        n_out, n_in = layer.weight.shape
        t = np.arange(1, n_out + 1) / n_out
        kernel = np.exp(-0.5 * ((t[:, None] - t) / 0.2) ** 2) + 1e-3 * np.eye(n_out)
        w = n_in * layer.weight
        total += np.einsum("ij,ij->", w, np.linalg.solve(kernel, w)) / (2 * n_out) / n_in
    assert number(tr.gaussian_process_penalty(module, 0.2)) == pytest.approx(total, rel=1e-6)


def test_random_modules_have_the_deviations_of_the_authors():
    module = tr.random_module((200, 300, 400), "sigmoid(8)", seed=0, dtype=torch.float64)
    for weight, before in zip(module.weights, (200, 300), strict=True):
        wanted = np.sqrt(2 / before) / 2  # the largest slope of sigmoid(8) is 2
        # 5.5 standard deviations: false alarms below 1e-7.
        assert abs(number(weight.std()) / wanted - 1) < 5.5 / np.sqrt(2 * weight.numel())
    biases = torch.cat(list(module.biases))
    assert abs(number(biases.std()) - 1) < 5.5 / np.sqrt(2 * 700)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "cross_entropy"])
def test_losses_and_their_gradients(loss):
    """Against NumPy; of targets, too, that are no distribution."""
    rng = np.random.default_rng(0)
    outputs, targets = rng.normal(size=(5, 3)), rng.random(size=(5, 3))
    wanted = {
        "squared_error": ((outputs - targets) ** 2).mean(axis=1),
        "absolute_error": np.abs(outputs - targets).mean(axis=1),
        "cross_entropy": -(targets * np.log(ns.layers.softmax(outputs))).sum(axis=1),
    }[loss]
    y, t = torch.tensor(outputs, requires_grad=True), torch.tensor(targets)
    found = losses.losses(y, t, loss)
    np.testing.assert_allclose(found.detach(), wanted, rtol=1e-12)
    (slope,) = torch.autograd.grad(found.sum(), y)
    np.testing.assert_allclose(losses.loss_gradient(y, t, loss).detach(), slope, atol=1e-14)


@pytest.mark.parametrize(
    "penalty",
    [
        lambda m, x: tr.variance_penalty(m, x, 1),
        lambda m, x: tr.variance_penalty(
            m, x, 1, loss="squared_error", targets=torch.ones(6, 3, dtype=torch.float64)
        ),
        lambda m, x: tr.balance_penalty(m),
        lambda m, x: tr.smoothness_penalty(m),
        lambda m, x: tr.paper_smoothness(m, 1.0, 1.0),
        lambda m, x: tr.infinity_norm(m),
        lambda m, x: tr.curvature_penalty(m),
        lambda m, x: tr.gaussian_process_penalty(m),
    ],
    ids=["R1", "R1-loss", "R2", "R3", "R3-paper", "norm", "curvature", "process"],
)
def test_gradients_are_those_of_finite_differences(penalty, inputs):
    module, x = module_of(), torch.tensor(inputs)
    penalty(module, x).backward()
    rng, step = np.random.default_rng(5), 1e-6
    # Along one random direction of each weight that the penalty knows of.
    for parameter in module.parameters():
        if parameter.grad is None:
            continue
        gradient = parameter.grad.clone()
        direction = torch.tensor(rng.normal(size=parameter.shape))
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * step * direction
            values.append(number(penalty(module, x)))
            with torch.no_grad():
                parameter -= sign * step * direction
        slope = (values[0] - values[1]) / (2 * step)
        assert number((gradient * direction).sum()) == pytest.approx(slope, rel=2e-4, abs=1e-6)


def test_masks_have_the_rates_and_the_persistence_of_their_processes():
    faults = [
        ns.StuckAtZero("neuron", probability=0.1, layers=[1], persistence=ns.Transient()),
        ns.StuckAtZero("neuron", probability=0.2, layers=[1]),
        ns.StuckAtZero("synapse", probability=0.3, layers=[2]),
    ]
    widths, n = (2, 400, 50), 500
    neurons, synapses = fault_masks.draw_masks(
        faults, widths, n, torch.Generator().manual_seed(0), torch.float64
    )
    assert neurons[1].shape == (n, 400)
    assert synapses[2].shape == (50, 400)
    always_dead = (neurons[1] == 0).all(dim=0).double().mean()
    # 5.5 standard deviations: false alarms below 1e-7. 0.9 would mean a factor forgotten.
    assert abs(number(always_dead) - 0.2) < 5.5 * np.sqrt(0.2 * 0.8 / 400)
    alive = neurons[1][:, (neurons[1] != 0).any(dim=0)].mean()
    assert abs(number(alive) - 0.9) < 5.5 * np.sqrt(0.09 / (n * 320))
    assert abs(number(synapses[2].mean()) - 0.7) < 5.5 * np.sqrt(0.21 / 20000)


def test_a_masked_pass_is_the_faulty_pass_of_the_engine(inputs):
    network = tr.to_network(module_of())
    faults = ns.FaultSet(
        n_presentations=6, neurons=[(0, 1, 0, 6), (1, 3, 0, 6)], synapses=[(2, 4, 5, 0, 6)]
    )
    neurons = {0: torch.ones(5).double(), 1: torch.ones(40).double()}
    neurons[0][1] = neurons[1][3] = 0
    synapses = {2: torch.ones(24, 40).double()}
    synapses[2][4, 5] = 0
    faulty = tr.to_module(network)(torch.tensor(inputs), (neurons, synapses)).detach().numpy()
    error = ns.evaluate(ns.deploy(network, ns.Chip.load("ideal")), faults, inputs)
    np.testing.assert_allclose(faulty - network(inputs), error, atol=1e-12)
    # A mask of each example is the same as one for all.
    wide = ({k: v.expand(6, -1) for k, v in neurons.items()}, {2: synapses[2].expand(6, -1, -1)})
    again = tr.to_module(network)(torch.tensor(inputs), wide).detach().numpy()
    np.testing.assert_allclose(again, faulty, atol=1e-12)


def test_intermittent_faults_are_refused():
    process = ns.StuckAtZero(
        "neuron", probability=0.1, persistence=ns.Intermittent(mean_duration=3)
    )
    with pytest.raises(InputError, match="permanent or transient"):
        fault_masks.check_faults([process], WIDTHS)


def problem():
    x = np.linspace(0, 1, 48)[:, None]
    return x, np.sin(3 * x)


@pytest.mark.parametrize("optimiser", ["adam", "adadelta"])
def test_resumed_training_has_the_same_bits(tmp_path, monkeypatch, optimiser):
    x, y = problem()
    fit = tr.Fit(epochs=6, batch_size=10, optimiser=optimiser, patience=5)
    options = {
        "seed": 7,
        "regularisation": tr.Regularisation(variance=1e-3, smoothness=1e-5),
        "faults": [ns.StuckAtZero("neuron", probability=0.1, layers=[1])],
        "validation": (x[::3], y[::3]),
        "progress": False,
    }
    start = tr.random_module((1, 12, 1), "tanh", seed=1)
    whole = tr.train(start, x, y, fit, **options)

    path, done = tmp_path / "checkpoint", []
    original = fitting._save

    def interrupted(*arguments):
        original(*arguments)
        done.append(1)
        if len(done) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "_save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tr.train(start, x, y, fit, **options, checkpoint=path)
    monkeypatch.setattr(fitting, "_save", original)
    resumed = tr.train(start, x, y, fit, **options, checkpoint=path)
    assert resumed.losses == whole.losses
    for a, b in zip(whole.module.parameters(), resumed.module.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(TraceError, match="one of other data"):
        tr.train(start, x, y, fit, **options | {"seed": 8}, checkpoint=path)
    other = tr.DenseModule(start.weights, start.biases, [ns.layers.Activation("gelu")] * 2)
    with pytest.raises(TraceError, match="one of other data"):
        tr.train(other, x, y, fit, **options, checkpoint=path)
    path.write_bytes(b"nonsense")
    with pytest.raises(TraceError, match="expected a checkpoint"):
        tr.train(start, x, y, fit, **options, checkpoint=path)


def test_the_losses_of_a_record_are_means_over_steps():
    x, y = problem()
    start = tr.random_module((1, 12, 1), "tanh", seed=1)
    fit = tr.Fit(epochs=1, batch_size=24, learning_rate=1e-12)  # as good as no step
    found = tr.train(start, x, y, fit, seed=0, progress=False,
                     regularisation=tr.Regularisation(norm=2.0))  # fmt: skip
    assert found.losses == (pytest.approx(((tr.to_network(start)(x) - y) ** 2).mean(), rel=1e-5),)
    assert found.penalties == (pytest.approx(2 * number(tr.infinity_norm(start)), rel=1e-5),)


def test_the_anchor_counts_the_distance_to_the_start():
    x, y = problem()
    start = tr.random_module((1, 20, 1), "tanh", seed=0, dtype=torch.float64)

    def trained(epochs, anchor):
        fit = tr.Fit(epochs=epochs, batch_size=len(x))  # one step an epoch
        return tr.train(start, x, y, fit, seed=0, anchor=anchor, progress=False)

    # At the start the anchor pulls nowhere: the first step is that without it.
    parts = zip(trained(1, 0.0).module.parameters(), start.parameters(), strict=True)
    distance = sum(number(((moved - origin) ** 2).mean()) for moved, origin in parts)
    assert trained(2, 7.0).penalties == (0.0, pytest.approx(7 * distance))


def test_patience_returns_the_best_weights():
    x, y = problem()
    fit = tr.Fit(epochs=60, batch_size=48, learning_rate=3.0, patience=2)
    start = tr.random_module((1, 12, 1), "tanh", seed=1)
    record = tr.train(start, x, y, fit, seed=0, validation=(x, y), progress=False)
    assert record.stopped_early
    assert len(record.losses) < 60
    assert len(record.losses) - 1 - int(np.argmin(record.validation_losses)) == fit.patience
    outputs = record.network(x)
    assert ((outputs - y) ** 2).mean() == pytest.approx(min(record.validation_losses), rel=1e-4)


def test_faults_while_training_make_networks_tolerant():
    x, y = problem()
    start = tr.random_module((1, 30, 1), "tanh", seed=1)
    fit = tr.Fit(epochs=150, batch_size=12, learning_rate=0.01)
    dropped = [ns.StuckAtZero("neuron", probability=0.1, layers=[1], persistence=ns.Transient())]
    found = [
        ns.predict(
            campaign_of(
                tr.train(start, x, y, fit, seed=0, progress=False, **options).network, x, 0.1, 1
            )
        ).variance.mean()
        for options in (
            {},
            {"faults": dropped},
            {"regularisation": tr.Regularisation(variance=0.1)},
        )
    ]
    assert found[1] < 0.5 * found[0]
    assert found[2] < 0.5 * found[0]


CRASH = ns.StuckAtZero("neuron", probability=0.02, layers=[1])


def search(tmp_path, goal, hidden=(20,), **options):
    x, y = problem()
    return tr.achieve(
        x, y, goal, hidden=hidden, activation="tanh", faults=CRASH, seed=0, progress=False,
        fit=tr.Fit(epochs=60, batch_size=12, learning_rate=0.01), log=tmp_path / "log.h5",
        **options,
    )  # fmt: skip


@pytest.mark.parametrize("duplicate", [False, True])
def test_algorithm_1_ends_with_a_certificate_that_fresh_simulation_confirms(tmp_path, duplicate):
    goal = tr.Goal(epsilon=0.35, delta=1e-4)
    options = tr.Search(
        widen_by=40, trials=4000, duplicate=duplicate, anchor=0.1 if duplicate else 0.0
    )
    found = search(tmp_path, goal, search=options)
    assert found.verdict == "achieved", found
    assert found.confirmation.holds
    assert found.iterations[0].action != "done"  # so there was something to search for
    # Again, with other random numbers and the trace's own medians.
    x, _ = problem()
    campaign = ns.Campaign(
        deployment=ns.deploy(found.network, ns.Chip.load("ideal")), faults=[CRASH], inputs=x,
        trials=1000 * found.replicas, seed=99, epsilons=[0.35], replicas=[found.replicas],
    )  # fmt: skip
    with ns.run(campaign, tmp_path / "t.h5", progress=False) as trace:
        assert trace.median_exceedances.sum() == 0
    columns, attributes = read_log(tmp_path / "log.h5")
    assert attributes["method"] == "valid"
    assert list(columns["action"]) == [row.action for row in found.iterations]
    assert columns["widths"].tolist() == [list(row.widths) for row in found.iterations]
    assert "achieved" in str(found)
    assert "width" in str(found)


BOTH = (
    ns.StuckAtZero("neuron", probability=0.02, layers=[1]),
    ns.StuckAtZero("neuron", probability=0.01, layers=[1, 2]),
)


def test_algorithm_1_certifies_a_network_whose_layers_all_fail(tmp_path):
    """The guarantee is held against a simulation that shares no code with the package."""
    x, y = problem()
    goal = tr.Goal(epsilon=0.5, delta=1e-3)
    found = tr.achieve(
        x, y, goal, hidden=(20, 20), activation="tanh", faults=BOTH, seed=0, progress=False,
        fit=tr.Fit(epochs=60, batch_size=12, learning_rate=0.01), log=tmp_path / "log.h5",
        search=tr.Search(widen_by=30, trials=4000),
    )  # fmt: skip
    assert found.verdict == "achieved", found
    assert found.confirmation.holds
    assert {row.action.split(",")[0] for row in found.iterations} > {"done"}
    widened = [row.widths for row in found.iterations]
    assert all(len(widths) == 2 for widths in widened)
    assert read_log(tmp_path / "log.h5")[0]["widths"].tolist() == [list(w) for w in widened]
    assert "+".join(map(str, widened[-1])) in str(found)
    # Both layers fail, layer 1 by either process.
    first, second, last = found.network.layers
    rates = ((first.weight, 1 - (1 - 0.02) * (1 - 0.01)), (second.weight, 0.01))
    row = found.iterations[-1]
    lost = [ns.theory.tails.weight_perturbation(w, p, np.exp(2.5) * p) for w, p in rates]
    assert row.weight_failure == pytest.approx(sum(lost))
    assert row.balance == pytest.approx(min(continuity.balance(w) for w, _ in rates))
    rough = [continuity.smoothness(part.weight, part.bias).total for part in (first, second)]
    assert row.smoothness == pytest.approx(max(rough))
    rng, chips = np.random.default_rng(3), 3000
    h1 = np.tanh(x @ first.weight.T + first.bias)
    alive_1 = rng.random((chips, 1, len(first.weight))) >= 1 - (1 - 0.02) * (1 - 0.01)
    alive_2 = rng.random((chips, 1, len(second.weight))) >= 0.01
    h2 = np.tanh((h1 * alive_1) @ second.weight.T + second.bias) * alive_2
    errors = (h2 @ last.weight.T + last.bias)[..., 0] - found.network(x)[:, 0]
    failures = (np.abs(errors) >= goal.epsilon).sum(axis=0)
    # The limit holds for one chip too: 5 standard deviations above it would be a false promise.
    limit = found.confirmation.chip_limit
    assert failures.max() / chips <= limit + 5 * np.sqrt(limit / chips)
    groups = chips // found.replicas * found.replicas
    medians = np.median(errors[:groups].reshape(-1, found.replicas, len(x)), axis=1)
    # At most 1e-3 of them on average; 48 inputs share a chip, so groups count, not medians.
    bad = (np.abs(medians) >= goal.epsilon).any(axis=1).sum()
    assert bad <= 48e-3 * len(medians) + 5 * np.sqrt(48e-3 * len(medians))


def test_the_terms_of_a_search_are_about_the_layers_that_fail(monkeypatch):
    seen = []

    def spy(*values, regularisation, **options):
        seen.append(regularisation)
        return fitting.train(*values, regularisation=regularisation, **options)

    monkeypatch.setattr(algorithm, "train", spy)
    x, y = problem()
    tr.achieve(
        x, y, tr.Goal(epsilon=0.5, delta=1e-3), hidden=(20, 20), activation="tanh", faults=BOTH,
        fit=tr.Fit(epochs=2, batch_size=12), seed=0, progress=False,
        search=tr.Search(most_iterations=1, trials=100),
    )  # fmt: skip
    most = 1 - (1 - 0.02) * (1 - 0.01)
    assert seen[0].variance_layers == {1: pytest.approx(1), 2: pytest.approx(0.01 / most)}
    assert tuple(seen[0].balance_layers) == (1, 2)


@pytest.mark.parametrize("hidden", [(12, 200), (200, 12)])
def test_the_layer_is_widened_that_the_variance_comes_from(hidden, monkeypatch):
    x, y = problem()
    monkeypatch.setattr(algorithm, "_LEAST_BALANCE", 0.0)
    monkeypatch.setattr(algorithm, "_MOST_WEIGHT_FAILURE", 2.0)
    found = tr.achieve(
        x, y, tr.Goal(epsilon=0.8, delta=1e-90), hidden=hidden, activation="tanh",
        faults=ns.StuckAtZero("neuron", probability=0.02, layers=(1, 2)), seed=0,
        fit=tr.Fit(epochs=20, batch_size=12, learning_rate=0.01), progress=False,
        search=tr.Search(widen_by=10, most_iterations=2, trials=100),
    )  # fmt: skip
    narrow = int(np.argmin(hidden))
    assert found.iterations[0].action == f"widen layer {narrow + 1}, raise lambda"
    wanted = list(hidden)
    wanted[narrow] += 10
    assert found.iterations[1].widths == tuple(wanted)


def test_penalties_of_several_layers_add(inputs):
    module, x = module_of(), torch.tensor(inputs)
    y = torch.zeros(6, 3, dtype=torch.float64)
    terms = tr.Regularisation(
        variance=2.0, variance_layers={1: 0.5, 2: 1.0}, balance=3.0, balance_layers=(1, 2)
    )
    wanted = (
        tr.variance_penalty(module, x, 1)
        + 2 * tr.variance_penalty(module, x, 2)
        + 3 * tr.balance_penalty(module, 1)
        + 3 * tr.balance_penalty(module, 2)
    )
    assert number(terms.penalty(module, x, y, "squared_error")) == pytest.approx(number(wanted))
    # R1 of layers that fail at rates p_l: what predict says of both, over the larger rate.
    network = tr.to_network(module)
    faults = [
        ns.StuckAtZero("neuron", probability=p, layers=[k]) for k, p in ((1, 0.01), (2, 0.02))
    ]
    campaign = ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")), faults=faults, inputs=inputs,
        trials=1, seed=0,
    )  # fmt: skip
    both = tr.Regularisation(variance=1.0, variance_layers={1: 0.5, 2: 1.0})
    found = ns.predict(campaign, "first-order").variance_paper.mean() / 0.02
    assert number(both.penalty(module, x, y, "squared_error")) == pytest.approx(found, rel=1e-6)
    with pytest.raises(InputError, match="variance_layers"):
        tr.Regularisation(variance_layers={1: -1.0})


def test_each_factor_weighs_its_own_term(inputs):
    """Every term of Eq. 1 alone: two factors exchanged would be seen."""
    module, x = module_of(), torch.tensor(inputs)
    y = torch.zeros(6, 3, dtype=torch.float64)
    alone = {
        "variance": tr.variance_penalty(module, x, 1),
        "balance": tr.balance_penalty(module),
        "smoothness": tr.smoothness_penalty(module),
        "paper_derivative": tr.paper_smoothness(module, 1.0, 0.0),
        "paper_gaussian": tr.paper_smoothness(module, 0.0, 1.0),
        "norm": tr.infinity_norm(module),
        "curvature": tr.curvature_penalty(module),
        "gaussian_process": tr.gaussian_process_penalty(module),
    }
    assert set(alone) == set(tr.Regularisation._factors())
    for name, term in alone.items():
        found = tr.Regularisation(**{name: 3.0}).penalty(module, x, y, "squared_error")
        assert number(found) == pytest.approx(3 * number(term), rel=1e-12), name


@pytest.mark.parametrize(
    ("raised", "changes", "factor"),
    [
        ("mu", {"_LEAST_BALANCE": 1.0}, "balance_factor"),
        ("psi", {"_LEAST_BALANCE": 0.0}, "smoothness_factor"),
        ("lambda", {"_LEAST_BALANCE": 0.0, "_MOST_WEIGHT_FAILURE": 1.0}, "variance_factor"),
    ],
)
def test_what_is_found_wanting_raises_its_own_factor(
    tmp_path, monkeypatch, raised, changes, factor
):
    for name, value in changes.items():
        monkeypatch.setattr(algorithm, name, value)
    options = tr.Search(
        most_iterations=2, widen_by=1, trials=100, smoothness_limit=0.0 if raised == "psi" else None
    )
    start = tr.Regularisation(variance=1e-10, balance=2e-10, smoothness=3e-10)
    goal = tr.Goal(epsilon=0.8, delta=1e-90)
    found = search(tmp_path, goal, hidden=(120,), search=options, start=start)
    before, after = found.iterations
    assert f"raise {raised}" in before.action
    for name in ("variance_factor", "balance_factor", "smoothness_factor"):
        times = 10 if name == factor else 1
        assert getattr(after, name) == pytest.approx(times * getattr(before, name)), name
    assert (after.widths != before.widths) == ("widen" in before.action)


def test_infeasible_says_why(tmp_path):
    found = search(tmp_path, tr.Goal(epsilon=1e-3, delta=1e-4), hidden=(200,))
    assert found.verdict == "infeasible"
    assert "the mean error alone is beyond epsilon" in found.reason
    assert found.replicas == 0


@pytest.mark.parametrize(("share", "infeasible"), [(0.04, False), (0.06, True)])
def test_infeasible_inputs_may_be_as_rare_as_failures(tmp_path, monkeypatch, share, infeasible):
    found = replace(measurement.NOTHING, infeasible_share=share, layer_variances={1: 1.0})
    monkeypatch.setattr(algorithm, "measure", lambda *_: found)
    monkeypatch.setattr(algorithm, "_LEAST_BALANCE", 0.0)
    monkeypatch.setattr(algorithm, "_MOST_WEIGHT_FAILURE", 2.0)
    goal, options = tr.Goal(epsilon=0.5, delta=0.05), tr.Search(most_iterations=1, trials=100)
    done = search(tmp_path, goal, hidden=(200,), search=options)
    assert done.iterations[0].action == ("infeasible" if infeasible else "widen, raise lambda")


def test_copies_follow_the_size_of_the_derivatives(tmp_path, monkeypatch):
    """As many of a neuron as its |g|, over data the root mean square, not its square."""
    seen = []

    def spy(importance, budget):
        seen.append((np.asarray(importance), networks[-1]))
        return continuity.copies_by_importance(importance, budget)

    monkeypatch.setattr(algorithm, "copies_by_importance", spy)
    networks, judge = [], algorithm._judge
    monkeypatch.setattr(
        algorithm, "_judge", lambda task, network, terms: networks.append(network) or judge(
            task, network, terms)
    )  # fmt: skip
    options = tr.Search(most_iterations=3, widen_by=5, trials=100, duplicate=True)
    search(tmp_path, tr.Goal(epsilon=0.35, delta=1e-4), search=options)
    x, _ = problem()
    found, network = seen[0]
    first, last = network.layers
    g = np.tanh(x @ first.weight.T + first.bias) * last.weight[0]
    size = np.sqrt((g**2).mean(axis=0))
    np.testing.assert_allclose(found / found.sum(), size / size.sum(), rtol=1e-6)


def test_the_anchor_holds_what_was_duplicated(tmp_path, monkeypatch):
    seen = []

    def spy(*values, anchor, **options):
        seen.append(anchor)
        return fitting.train(*values, anchor=anchor, **options)

    monkeypatch.setattr(algorithm, "train", spy)
    options = tr.Search(most_iterations=4, widen_by=5, trials=100, duplicate=True, anchor=0.3)
    found = search(tmp_path, tr.Goal(epsilon=0.35, delta=1e-4), search=options)
    widened = ["widen" in row.action for row in found.iterations[:-1]]
    assert seen == [0.0, *(0.3 if grown else 0.0 for grown in widened)]
    assert any(widened)
    assert not all(widened)


def test_the_search_may_end_without_an_answer(tmp_path):
    options = tr.Search(most_iterations=2, widen_by=1)
    found = search(tmp_path, tr.Goal(epsilon=0.12, delta=1e-4), hidden=(30,), search=options)
    assert found.verdict == "not achieved"
    assert "2 iterations" in found.reason


def test_a_goal_for_the_loss_keeps_the_loss_of_the_medians(tmp_path):
    goal = tr.Goal(epsilon=0.2, delta=1e-3, error="loss")
    found = search(tmp_path, goal, hidden=(100,), search=tr.Search(trials=4000, widen_by=100))
    assert found.verdict == "achieved", found
    x, y = problem()
    rng = np.random.default_rng(0)
    dead = rng.random((400, found.replicas, found.network.widths[1])) < 0.02
    hidden = found.network.activations(x)[1]
    out = found.network.layers[1].weight[0]
    errors = -np.einsum("trn,xn->trx", dead, hidden * out)
    golden = found.network(x)[:, 0]
    median = golden + np.median(errors, axis=1)
    rise = (median - y[:, 0]) ** 2 - (golden - y[:, 0]) ** 2
    assert (rise < goal.epsilon).all()


def test_the_authors_version_promises_more_than_it_keeps(tmp_path):
    goal = tr.Goal(epsilon=0.02, delta=1e-5, error="loss")
    found = search(
        tmp_path, goal, hidden=(120,), method="paper",
        search=tr.Search(trials=4000, widen_by=100),
    )  # fmt: skip
    assert found.verdict == "achieved", found
    assert found.replicas == 20
    assert "says the paper" in found.reason
    with h5py.File(tmp_path / "log.h5") as file:
        assert file.attrs["method"] == "paper"


def one_network(alike=False):
    """A network with a linear rest, so that b4 is exact: y = V tanh(W x + b).

    alike: both outputs are the same but for a tenth, and fail together.
    """
    rng = np.random.default_rng(8)
    w, b, v = rng.normal(size=(30, 1)), rng.normal(size=30), rng.normal(size=(2, 30)) / 6
    if alike:
        v[1] = v[0] + v[1] / 10
    network = ns.Network.dense(
        weights=[w, v], biases=[b, [0.1, -0.2]], activations=["tanh", "identity"]
    )
    x = np.linspace(-1, 1, 5)[:, None]
    effects = -v[None] * np.tanh(x @ w.T + b)[:, None, :]  # (n_inputs, n_outputs, n_1)
    return network, x, effects


def task_of(network, x, goal, method="valid", p=0.02, **options):
    return measurement.Task(
        inputs=x, targets=network(x) + np.array([0.05, -0.3]), goal=goal,
        fit=tr.Fit(epochs=1, batch_size=1), seed=4, method=method, rates={1: p},
        faults=(ns.StuckAtZero("neuron", probability=p, layers=[1]),), search=tr.Search(**options),
    )  # fmt: skip


def tails_of(mean, variance, tolerance):
    """P(|Delta| >= tolerance) by the least of Cantelli's and Chebyshev's bounds."""
    cantelli = sum(variance / (variance + (tolerance - sign * mean) ** 2) for sign in (1, -1))
    chebyshev = variance / (tolerance - np.abs(mean)) ** 2
    second = (variance + mean**2) / tolerance**2
    return np.minimum(np.minimum(cantelli, chebyshev), second)


@pytest.mark.parametrize("error", ["outputs", "loss"])
def test_what_one_network_offers_follows_from_its_single_faults(error):
    network, x, effects = one_network()
    p, delta_0 = 0.02, 0.01
    goal = tr.Goal(epsilon=0.6 if error == "outputs" else 0.5, delta=1e-3, error=error)
    found = measurement.measure(task_of(network, x, goal), network, delta_0)
    mean, variance = p * effects.sum(axis=-1), p * (1 - p) * (effects**2).sum(axis=-1)
    if error == "outputs":
        tolerance, means = goal.epsilon, np.abs(mean).max(axis=1)
    else:  # the box in which no loss rises by epsilon; residuals are -0.05 and 0.3
        tolerance = np.sqrt(0.175**2 + goal.epsilon) - 0.175
        residual = np.array([-0.05, 0.3])[:, None]
        means = p * (2 * residual * effects + effects**2).mean(axis=1).sum(axis=-1)
    delta = np.minimum(tails_of(mean, variance, tolerance) + delta_0, 1)
    assert 0.02 < delta.max() < 0.5
    assert found.delta == pytest.approx(delta.max())
    assert found.largest_mean == pytest.approx(means.max() / goal.epsilon)
    assert found.infeasible_share == 0
    assert found.layer_variances == {1: pytest.approx(variance.mean())}
    worst = (30 * variance * 3 / (tolerance - np.abs(mean)) ** 2).max()
    assert found.claimed_width == pytest.approx(worst)

    def failure(replicas):
        return stats.binom.sf((replicas + 1) // 2 - 1, replicas, delta).sum(axis=1).mean()

    assert found.replicas == next(r for r in range(1, 99, 2) if failure(r) <= goal.delta)
    # The worst of the five inputs beyond epsilon.
    tight = tr.Goal(epsilon=0.999 * means.max(), delta=1e-3, error=error)
    assert (means >= tight.epsilon).sum() == 1
    assert measurement.measure(task_of(network, x, tight), network, 0.0).infeasible_share == 0.2


def test_the_authors_look_at_the_first_loss_to_first_order():
    network, x, effects = one_network()
    goal = tr.Goal(epsilon=0.2, delta=1e-5, error="loss")
    found = measurement.measure_as_paper(task_of(network, x, goal, "paper"), network)
    # dL / dy is r for the mean of two squares; effects are exact, for the rest is linear.
    slopes = np.array([-0.05, 0.3]) @ effects[0]
    mean, variance = 0.02 * slopes.sum(), 0.02 * (slopes**2).sum()  # p g^2, without 1 - p
    assert found.largest_mean == pytest.approx(mean / goal.epsilon)
    assert found.delta == pytest.approx(variance / (goal.epsilon - mean) ** 2)
    assert found.claimed_width == pytest.approx(30 * variance * 3 / (goal.epsilon - mean) ** 2)
    assert found.replicas == 20  # 2 ln(1e5) / ln 3, cut


@pytest.mark.parametrize(("method", "alike"), [("valid", False), ("valid", True), ("paper", False)])
def test_a_confirmation_is_the_limit_of_its_own_trials(method, alike, tmp_path):
    """Counted again from the recorded errors of the same chips, and bounded by SciPy's beta."""
    network, x, _ = one_network(alike)
    goal = tr.Goal(epsilon=0.3 if method == "valid" else 0.02, delta=1e-3,
                   error="outputs" if method == "valid" else "loss")  # fmt: skip
    trials, replicas, confidence = 900, 3, 0.95
    task = task_of(network, x, goal, method, p=0.05, trials=trials, confidence=confidence)
    found = measurement.confirmed(task, network, replicas)
    about = task if method == "valid" else task.first()
    with ns.run(replace(about.campaign(network), record=["error"], loss=None), tmp_path / "t.h5",
                progress=False) as trace:  # fmt: skip
        errors = np.asarray(trace.errors)
    medians = np.median(errors.reshape(-1, replicas, *errors.shape[1:]), axis=1)
    if method == "valid":
        bad, bad_medians = np.abs(errors) >= goal.epsilon, np.abs(medians) >= goal.epsilon
    else:
        residual = np.array([-0.05, 0.3])

        def rises(some):
            rise = ((residual + some) ** 2 - residual**2).mean(axis=-1, keepdims=True)
            return rise >= goal.epsilon

        bad, bad_medians = rises(errors), rises(medians)
    counts = np.concatenate([bad.sum(axis=0), bad.any(axis=-1).sum(axis=0)[:, None]], axis=1)
    n_outputs = errors.shape[-1]
    if method == "paper":  # one count a loss, in the place of each output's
        n_outputs = 2
    tail = (1 - confidence) / (len(counts) * (n_outputs + 1))
    upper = stats.beta.isf(tail, counts + 1, trials - counts)
    assert 0 < counts[:, :-1].max() < trials
    assert found.median_groups == len(medians) * len(counts)
    assert found.median_failures == bad_medians.any(axis=-1).sum() > 0
    if method == "valid":
        assert found.chip_limit == pytest.approx(upper[:, :-1].max())
        by_output = stats.binom.sf(1, 3, upper)
        limit = np.minimum(by_output[:, :-1].sum(axis=1), by_output[:, -1])
        # Which of the two is the lesser depends on whether outputs fail together.
        assert ((by_output[:, -1] < by_output[:, :-1].sum(axis=1)) == alike).all()
        assert found.failure_limit == pytest.approx(np.minimum(limit, 1).mean())
    else:  # the median protects no loss: the limit is of the medians themselves
        k, n = found.median_failures, found.median_groups
        assert found.failure_limit == pytest.approx(stats.beta.isf(1 - confidence, k + 1, n - k))


@pytest.mark.parametrize("chunk", [1, 10, 1000])
def test_medians_of_a_confirmation_do_not_depend_on_batches(chunk, monkeypatch):
    network, x, _ = one_network()
    task = task_of(network, x, tr.Goal(epsilon=0.3, delta=1e-3), p=0.05, trials=120)
    whole = measurement.confirmed(task, network, 3)
    monkeypatch.setattr(ns.Campaign, "chunk", chunk)
    found = measurement.confirmed(task, network, 3)
    assert found == whole
    assert found.median_groups == 120 // 3 * len(x)
    assert found.median_failures > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "both"}, "valid"),
        ({"method": "paper"}, "loss"),
        ({"faults": ns.StuckAtZero("neuron", probability=0.1)}, "of hidden layers, 1 to 1"),
        ({"faults": ns.StuckAtZero("neuron", probability=0.0, layers=[1])}, "above 0"),
        ({"faults": ()}, "dead neurons"),
        ({"faults": ns.StuckAtZero("synapse", probability=0.1, layers=[1])}, "dead neurons"),
        ({"fit": tr.Fit(epochs=1, batch_size=1, loss="absolute_error")}, "squared_error"),
        ({"targets": np.zeros(48)}, "class numbers .48,., integers, .* got float64"),
        ({"targets": np.zeros(48, int), "certified": (np.zeros((2, 1)), [0, 1])}, "from 0 to 0"),
        ({"certified": (np.zeros((2, 1)), np.zeros((3, 1)))}, "shape .3, 1."),
    ],
)
def test_wrong_questions_are_refused(change, message):
    x, y = problem()
    good = {
        "hidden": (5,), "activation": "tanh", "faults": CRASH, "seed": 0,
        "fit": tr.Fit(epochs=1, batch_size=8), "inputs": x, "targets": y,
    }  # fmt: skip
    with pytest.raises(InputError, match=message):
        tr.achieve(goal=tr.Goal(epsilon=0.1, delta=0.1), **good | change)


def test_the_authors_version_knows_one_layer():
    x, y = problem()
    with pytest.raises(InputError, match="one hidden layer"):
        tr.achieve(
            x, y, tr.Goal(epsilon=0.1, delta=0.1, error="loss"), hidden=(5, 5), faults=BOTH,
            activation="tanh", seed=0, fit=tr.Fit(epochs=1, batch_size=8), method="paper",
        )  # fmt: skip


def test_the_command_line_searches_too(tmp_path):
    from click.testing import CliRunner

    from neurosim.cli import main

    x, y = problem()
    np.savez(tmp_path / "data.npz", inputs=x, targets=y)
    command = [
        "achieve", "--inputs", str(tmp_path / "data.npz"), "--hidden", "60", "--probability",
        "0.02", "--epsilon", "0.5", "--delta", "1e-3", "--epochs", "100", "--batch-size", "12",
        "--iterations", "3", "--trials", "2000", "--activation", "tanh", "--seed", "0", "--quiet",
        "-o", str(tmp_path / "found.npz"), "--log", str(tmp_path / "log.h5"),
    ]  # fmt: skip
    done = CliRunner().invoke(main, command)
    assert done.exit_code in (0, 1), done.output
    assert "achieved:" in done.output
    assert ("\nconfirmed by" in done.output) == (done.exit_code == 0)
    assert ns.Network.load(tmp_path / "found.npz").widths[1] >= 60
