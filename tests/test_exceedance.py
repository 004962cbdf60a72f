"""Failure probabilities of rare failures against all fault sets, and against long plain runs.

False-alarm rate of every random test: 1e-6.
"""

from itertools import product

import numpy as np
import pytest
from exact import PlainNetwork, enumerate_faults, fault_sets
from scipy import stats

import neurosim as ns
from neurosim import data
from neurosim.certification import cuts, importance, rare_failures, search
from neurosim.errors import InputError
from neurosim.physical_sites import site_groups
from neurosim.sampling import CutLaw, Mixture
from neurosim.theory.bounds import bernstein, output_range, variance_bound
from neurosim.theory.site_bounds import site_bounds

ALARM = 1e-6


def network(widths, activation="sigmoid(4)", last="identity", seed=1):
    rng = np.random.default_rng(seed)
    shapes = list(zip(widths[1:], widths[:-1], strict=True))
    return ns.Network.dense(
        weights=[rng.normal(size=s) for s in shapes],
        biases=[rng.normal(size=s[0]) * 0.1 for s in shapes],
        activations=[activation] * (len(shapes) - 1) + [last],
    )


def campaign(net, faults, n_inputs=2, seed=3, **options):
    inputs = np.random.default_rng(11).uniform(0.2, 1, size=(n_inputs, net.widths[0]))
    return ns.Campaign(
        deployment=ns.deploy(net, ns.Chip.load("ideal")),
        faults=faults,
        inputs=inputs,
        trials=1,
        seed=seed,
        dtype="float64",
        **options,
    )


def exact_law(work, x, **options):
    """The exact law at one input, for one process a site."""
    plain = PlainNetwork.of(work.network)
    sites, probabilities = [], []
    for process in work.faults:
        layers = process.layers_in(work.network.widths)
        some = plain.neurons(*layers) if process.site == "neuron" else plain.synapses(*layers)
        sites += some
        probabilities += [process.probability] * len(some)
    return enumerate_faults(plain, work.inputs[x], sites, probabilities, **options)


@pytest.fixture
def sampled(monkeypatch):
    """Enumerate the fault-free set only, so that small networks are sampled too; without cuts."""
    monkeypatch.setattr(importance, "_ENUMERATED", 1)
    monkeypatch.setattr(search, "_FEW", 0.0)


def z_values(found, laws, epsilon):
    """(estimate - truth) / standard error, each output and any, where failures are possible."""
    zs = []
    for x, law in enumerate(laws):
        truth = np.append(law.tail(epsilon), law.tail_any(epsilon))
        got = np.append(found.probability[x], found.any_output[x])
        error = np.append(found.standard_error[x], found.any_output_standard_error[x])
        ready = np.append(found.reached[x], found.any_output_reached[x])
        sampled = ready & (truth > 0)
        zs.append(((got - truth) / np.maximum(error, 1e-300))[sampled])
    return np.concatenate(zs)


NEURONS = [ns.StuckAtZero("neuron", probability=0.03)]
MIXED = [
    ns.StuckAtZero("neuron", probability=0.02, layers=[0, 1]),
    ns.StuckAtZero("synapse", probability=0.05, layers=[2]),
]


@pytest.mark.parametrize(
    ("widths", "activation", "last", "faults", "epsilon"),
    [
        ((6, 6, 3), "sigmoid(4)", "identity", NEURONS, 1.5),
        ((5, 4, 4, 3), "relu", "identity", NEURONS, 0.5),
        ((4, 4, 4, 3), "tanh", "softmax", NEURONS, 0.3),
        ((4, 3, 3), "relu", "identity", MIXED, 0.3),
    ],
)
@pytest.mark.parametrize("few", [0.0, 4.0], ids=["without cuts", "with cuts"])
def test_sampled_probabilities_are_those_of_all_fault_sets(
    sampled, monkeypatch, few, widths, activation, last, faults, epsilon
):
    monkeypatch.setattr(search, "_FEW", few)
    work = campaign(network(widths, activation, last), faults)
    laws = [exact_law(work, x) for x in range(2)]
    found = ns.exceedance(work, epsilon, 0.05, target="outputs", max_evaluations=60_000)
    zs = z_values(found, laws, epsilon)
    assert len(zs) >= 4
    assert np.abs(zs).max() < stats.norm.isf(ALARM / 2 / len(zs))
    assert (found.standard_error / np.maximum(found.probability, 1e-300))[
        found.reached
    ].max() < 0.03


def test_standard_errors_are_those_between_seeds(sampled):
    net = network((6, 6, 3))
    zs = []
    laws = [exact_law(campaign(net, NEURONS, n_inputs=1), 0)]
    for seed in range(40):
        work = campaign(net, NEURONS, n_inputs=1, seed=seed)
        zs.append(z_values(ns.exceedance(work, 2.0, 0.1), laws, 2.0)[-1])
    # Laws share their draws evenly, so errors are rather too large than too small.
    total = np.square(zs).sum()
    assert total < stats.chi2.isf(ALARM, len(zs))
    assert total > 0.3 * len(zs)
    assert abs(np.sum(zs)) < stats.norm.isf(ALARM / 2) * np.sqrt(len(zs))


def test_a_wrong_tilt_weight_is_caught(sampled, monkeypatch):
    """The negative control: weights as if the laws were tilted by a tenth less."""
    right = Mixture.log_ratios
    work = campaign(network((6, 6, 3)), NEURONS, n_inputs=1)
    laws = [exact_law(work, 0)]
    monkeypatch.setattr(Mixture, "log_ratios", lambda *a: 0.9 * right(*a))
    found = ns.exceedance(work, 2.0, 0.05)
    zs = z_values(found, laws, 2.0)
    assert np.abs(zs).max() > stats.norm.isf(ALARM / 2 / len(zs))


@pytest.mark.parametrize("enumerated", [30, 2**14])
@pytest.mark.parametrize("probability", [1e-2, 1e-3, 1e-4])
def test_rare_failures_of_twenty_sites_agree_with_all_fault_sets(
    monkeypatch, probability, enumerated
):
    monkeypatch.setattr(importance, "_ENUMERATED", enumerated)
    net = network((8, 6, 6, 2), seed=5)
    work = campaign(net, [ns.StuckAtZero("neuron", probability=probability)])
    laws = [exact_law(work, x) for x in range(2)]
    smallest = 1.0
    for epsilon in (1.0, 1.5, 2.0, 2.5):
        found = ns.exceedance(work, epsilon, max_evaluations=60_000)
        for x, law in enumerate(laws):
            truth = law.tail_any(epsilon)
            if truth > 0 and found.any_output_reached[x]:
                smallest = min(smallest, truth)
                error = 6 * found.any_output_standard_error[x]
                # Single sets of small weight may stay unseen, all the more with few enumerated:
                # far less than the relative error asked for.
                slack = 0.02 if enumerated > 30 else 0.05
                assert abs(found.any_output[x] - truth) < max(error, slack * truth)
                assert abs(found.any_output[x] - truth) < 0.3 * truth
    assert smallest < {1e-2: 1e-7, 1e-3: 1e-8, 1e-4: 1e-11}[probability]
    if enumerated > 30:
        assert smallest < {1e-2: 1e-7, 1e-3: 1e-11, 1e-4: 1e-15}[probability]


def test_failures_that_single_faults_do_not_announce_are_found(sampled):
    """A gate that every single fault leaves shut: no tilt along single faults finds it."""
    gate = ns.Network.dense(
        weights=[np.eye(12), -np.ones((1, 12)), [[5.0]]],
        biases=[np.zeros(12), [10.5], [0.0]],
        activations=["identity", "relu", "identity"],
    )
    work = ns.Campaign(
        deployment=ns.deploy(gate, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero("neuron", probability=0.01, layers=[0])],
        inputs=np.ones((1, 12)),
        trials=1,
        seed=2,
        dtype="float64",
    )
    # 5 relu(10.5 - living): shut at 12 and 11, and 12.5 or more from four dead of twelve on.
    truth = stats.binom.sf(3, 12, 0.01)
    found = ns.exceedance(work, epsilon=12.0, relative_error=0.05)
    assert found.any_output_reached[0]
    assert abs(found.any_output[0] - truth) < 6 * found.any_output_standard_error[0]


def test_long_plain_runs_agree():
    images = np.load(data.images_path())
    work = ns.Campaign(
        deployment=ns.deploy(ns.Network.load(data.network_path()), ns.Chip.load("crossbar-256")),
        faults=[ns.StuckAtZero("neuron", probability=1e-2)],
        inputs=images["inputs"][:8],
        trials=40_000,
        seed=9,
    )
    backend = ns.certification.importance.PresentedInputs(campaign=work, first=0, stop=8).backend
    errors = backend.errors(work.fault_batch(0, work.trials))
    sizes = np.abs(errors).max(axis=2)
    epsilon = 0.7
    found = ns.exceedance(work, epsilon, 0.05)
    assert found.any_output_reached.all()
    counts = (sizes >= epsilon).sum(axis=0)
    assert (counts > 50).any()
    p = found.any_output
    error = np.sqrt(p * (1 - p) / work.trials + found.any_output_standard_error**2)
    assert np.abs((counts / work.trials - p) / error).max() < stats.norm.isf(ALARM / 16)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "cross_entropy"])
def test_rises_of_the_loss(sampled, loss):
    work = campaign(network((6, 6, 3), last="softmax"), NEURONS, targets=[0, 2], loss=loss)
    found = ns.exceedance(work, 0.2, 0.05, failure="loss", max_evaluations=50_000)
    assert found.probability.shape == (2, 1)
    for x in range(2):
        law = exact_law(work, x, loss=loss, target=np.eye(3)[[0, 2][x]])
        truth = law.tail(0.2, "upper")[0]
        assert abs(found.any_output[x] - truth) <= 6 * found.any_output_standard_error[x]
    assert found.any_output_reached.any()
    assert np.array_equal(found.probability[:, 0], found.any_output)


@pytest.mark.parametrize("last", ["identity", "softmax"])
def test_changed_classes(sampled, last):
    work = campaign(network((6, 6, 3), last=last), NEURONS)
    found = ns.exceedance(work, None, 0.05, failure="class", max_evaluations=50_000)
    for x in range(2):
        law = exact_law(work, x)
        golden = work.network(work.inputs[x : x + 1])[0]
        truth = law.expectation(lambda v, g=golden: (g + v).argmax(axis=1) != g.argmax())
        assert abs(found.any_output[x] - truth) <= 6 * found.any_output_standard_error[x]
    assert found.any_output_reached.any()
    assert "another class" in str(found)


def test_persistence_does_not_matter_at_one_presentation():
    net = network((6, 6, 3))
    kinds = [ns.Permanent(), ns.Transient(), ns.Intermittent(mean_duration=4)]
    found = [
        ns.exceedance(
            campaign(net, [ns.StuckAtZero("neuron", probability=0.02, persistence=kind)]), 2.0
        )
        for kind in kinds
    ]
    for other in found[1:]:
        assert np.array_equal(other.probability, found[0].probability)


def test_one_seed_the_same_bits_for_every_executor(sampled):
    work = campaign(network((6, 6, 3)), NEURONS, n_inputs=3)
    one, two = (
        ns.exceedance(work, 1.5, executor=pool)
        for pool in (ns.SerialExecutor(), ns.ThreadExecutor(threads=3))
    )
    assert np.array_equal(one.probability, two.probability)
    assert np.array_equal(one.standard_error, two.standard_error)
    other = ns.exceedance(campaign(network((6, 6, 3)), NEURONS, n_inputs=3, seed=4), 1.5)
    assert not np.array_equal(one.probability, other.probability)


def test_certain_and_harmless_faults():
    net = network((6, 6, 3))
    faults = [
        ns.StuckAtZero("neuron", probability=1.0, layers=[0]),
        ns.StuckAtZero("neuron", probability=0.02, layers=[1]),
    ]
    work = campaign(net, faults)
    for epsilon in (0.05, 1.0, 2.0):
        found = ns.exceedance(work, epsilon)
        for x in range(2):
            law = exact_law(work, x)
            np.testing.assert_allclose(
                found.probability[x], law.tail(epsilon), rtol=1e-9, atol=1e-18
            )
    nothing = ns.exceedance(campaign(net, [ns.StuckAtZero("neuron", probability=0.0)]), 0.1)
    assert not nothing.probability.any()
    assert nothing.impossible.all()
    always = ns.exceedance(campaign(net, faults[:1]), 0.05)
    assert set(np.unique(always.probability)) <= {0.0, 1.0}


def test_impossible_cells_are_exactly_zero_and_others_are_not_called_so():
    net = network((5, 4, 3), "sigmoid(4)")
    work = campaign(net, NEURONS)
    for epsilon in (0.5, 2.0, 4.0):
        found = ns.exceedance(work, epsilon, max_evaluations=20_000)
        for x in range(2):
            law = exact_law(work, x)
            assert not law.tail(epsilon)[found.impossible[x]].any()
        assert not found.probability[found.impossible].any()
        assert not found.standard_error[found.impossible].any()
        assert found.reached[found.impossible].all()
    assert found.impossible.any()


@pytest.mark.parametrize("last", ["identity", "softmax"])
def test_no_fault_set_leaves_the_output_range(last):
    net = network((4, 4, 3), "tanh", last)
    work = campaign(net, MIXED, n_inputs=3)
    low, high = output_range(net, work.inputs, [0, 1, 2], ["neuron", "neuron", "synapse"])
    golden = net(work.inputs)
    for x in range(3):
        values = golden[x] + exact_law(work, x).values
        assert (values >= low[x] - 1e-12).all()
        assert (values <= high[x] + 1e-12).all()
        assert (low[x] < golden[x]).all()


def test_the_mean_over_inputs_is_reached_with_fewer_evaluations(sampled):
    work = campaign(network((6, 6, 3)), NEURONS, n_inputs=6)
    laws = [exact_law(work, x) for x in range(6)]
    truth = np.mean([law.tail_any(1.5) for law in laws])
    mean = ns.exceedance(work, 1.5, 0.02, target="mean")
    assert abs(mean.mean_over_inputs - truth) < 6 * mean.mean_standard_error
    assert 1.96 * mean.mean_standard_error <= 0.02 * mean.mean_over_inputs
    each = ns.exceedance(work, 1.5, 0.02)
    assert mean.evaluations.sum() < each.evaluations.sum()


def test_what_is_not_reached_is_said_and_not_averaged(sampled):
    work = campaign(network((6, 6, 3)), [ns.StuckAtZero("neuron", probability=1e-3)], n_inputs=4)
    found = ns.exceedance(work, 2.5, 0.001, max_evaluations=3000)
    assert not found.any_output_reached.any()
    assert np.isnan(found.mean_over_inputs)
    assert "did not reach" in str(found)
    assert (found.evaluations < 8000).all()
    assert (found.any_output_standard_error > 0).all()


def test_upper_bounds_hold(sampled):
    work = campaign(network((6, 6, 3)), NEURONS, n_inputs=4)
    truth = np.array([exact_law(work, x).tail_any(1.5) for x in range(4)])
    found = ns.exceedance(work, 1.5)
    usual, sure = found.upper_bound(0.999), found.upper_bound(0.999, guaranteed=True)
    assert (truth <= sure).all()
    assert (truth <= usual).all()
    assert (usual <= sure).all()
    assert (sure <= 1).all()


def test_cuts_are_failures_and_all_smallest_failures_are_among_them(monkeypatch):
    """Of eleven sites, where no set is left out for others that reach farther."""
    monkeypatch.setattr(cuts, "_LITTLE", 0.0)
    monkeypatch.setattr(cuts, "_LARGEST", 11)
    rng = np.random.default_rng(4)
    sets = fault_sets(11)
    bits = 1 << np.arange(11)
    reach, bend = rng.normal(size=(11, 3)), rng.normal(size=(11, 11, 3)) / 4
    reached = sets @ reach + np.einsum("si,sj,ijd->sd", sets, sets, np.triu(bend.T, 1).T)
    fails = (reached >= 1.7).any(axis=1)
    place = np.argsort(sets @ bits)

    def look(offsets, sites):
        number = place[np.add.reduceat(bits[sites], offsets[:-1])]
        return reached[number] / 1.7, fails[number]

    for least in (1, 2, 3):
        offsets, sites, _ = cuts.find_cuts(look, np.full(11, 0.01), rng.permutation(11), least, 0.0)
        found = [frozenset(part.tolist()) for part in np.split(sites, offsets[1:-1])]
        assert len(set(found)) == len(found) > 10
        assert all(len(cut) >= least for cut in found)
        failing = {frozenset(np.flatnonzero(s).tolist()) for s in sets[fails]}
        assert set(found) <= failing
        smallest = {s for s in failing if not any(s - {i} in failing for i in s)}
        smallest = {s for s in smallest if not any(other < s for other in failing)}
        assert {s for s in smallest if len(s) >= least} <= set(found)


def test_pairs_are_not_looked_at_beside_single_failures():
    """One site in forty fails alone; all pairs together are ten thousand times as rare."""

    def look(offsets, sites):
        fails = np.add.reduceat(sites == 7, offsets[:-1]) > 0
        return fails[:, None] * 1.0, fails

    _, sites, looked = cuts.find_cuts(look, np.full(40, 1e-7), np.arange(40), 1, 0.0)
    assert (sites.tolist(), looked) == ([7], 40)
    # Where single faults are enumerated, pairs are the likeliest of what is left.
    assert cuts.find_cuts(look, np.full(40, 1e-7), np.arange(40), 2, 0.0)[2] > 40


def test_the_guarantee_spreads_its_chance_on_every_batch_at_which_draws_may_stop():
    """Without variance the bound tells the chance of each batch; together they are the whole."""
    chance, weight, each = 0.01, 1e-3, []
    for batches in range(1, 3000):
        n = batches * search.BATCH
        nothing = np.zeros(2)
        estimate = importance.InputEstimate(
            enumerated=nothing,
            rest=1.0,
            mean=nothing,
            square=nothing,
            drawn=n,
            largest_weight=weight,
            impossible=np.zeros(2, bool),
            evaluations=n,
        )
        slack = rare_failures._guaranteed(estimate, chance)
        each.append(2 * np.exp(-slack * 3 * (n - 1) / (7 * weight)))
    assert 0.99 * chance < sum(each) <= chance


def test_a_wrong_weight_of_cuts_is_caught(monkeypatch):
    """The negative control: as if cuts were half as likely as they are."""
    right = CutLaw.log_ratios
    monkeypatch.setattr(importance, "_ENUMERATED", 1)
    monkeypatch.setattr(CutLaw, "log_ratios", lambda *a: right(*a) + np.log(2))
    work = campaign(network((6, 6, 3)), NEURONS, n_inputs=1)
    found = ns.exceedance(work, 2.0, 0.05)
    zs = z_values(found, [exact_law(work, 0)], 2.0)
    assert np.abs(zs).max() > stats.norm.isf(ALARM / 2 / len(zs))


@pytest.mark.parametrize("epsilon", [1.5, 2.0])
def test_plans_that_are_made_again_are_unbiased(monkeypatch, epsilon):
    """Each stage is judged too bad, whatever it finds, until the last."""
    monkeypatch.setattr(importance, "_ENUMERATED", 1)
    monkeypatch.setattr(importance, "_JUDGED_BATCHES", 1)
    monkeypatch.setattr(importance, "_is_poor", lambda estimate, rule: True)
    monkeypatch.setattr(
        importance, "_done", lambda estimate, rule: estimate.drawn >= 16 * search.BATCH
    )
    stages = []
    draw = search.Search.draw

    def counted(self, plan, repeats, first, stage):
        stages.append((stage, len(plan.laws.laws)))
        return draw(self, plan, repeats, first, stage)

    monkeypatch.setattr(search.Search, "draw", counted)
    net, zs = network((6, 6, 3)), []
    laws = [exact_law(campaign(net, NEURONS, n_inputs=1), 0)]
    for seed in range(12):
        work = campaign(net, NEURONS, n_inputs=1, seed=seed)
        found = ns.exceedance(work, epsilon, 0.1, executor=ns.SerialExecutor())
        zs.append(z_values(found, laws, epsilon)[-1])
    assert {stage for stage, _ in stages} == set(range(importance._STAGES))
    assert max(n for _, n in stages) > min(n for _, n in stages)
    assert np.square(zs).sum() < stats.chi2.isf(ALARM, len(zs))
    assert abs(np.sum(zs)) < stats.norm.isf(ALARM / 2) * np.sqrt(len(zs))


PHYSICAL = {
    "rows": [ns.StuckAtZero("row", probability=0.05)],
    "columns and cores": [
        ns.StuckAtZero("column", probability=0.04, layers=[1]),
        ns.StuckAtZero("core", probability=0.02, layers=[1]),
    ],
    "links and neurons": [
        ns.StuckAtZero("link", probability=0.05),
        ns.StuckAtZero("neuron", probability=0.03, layers=[0, 1]),
    ],
}


def physical_campaign(faults, seed=3, **options):
    net = network((4, 4, 2), "tanh")
    inputs = np.random.default_rng(11).uniform(0.2, 1, size=(2, 4))
    return ns.Campaign(
        deployment=ns.deploy(net, ns.Chip(name="small", rows=2, columns=2)), faults=faults,
        inputs=inputs, trials=1, seed=seed, dtype="float64", **options,
    )  # fmt: skip


def physical_law(work, x):
    """Errors and probabilities of all sets of sites, by masked forward passes."""
    net, layout = work.network, work.deployment.sites
    sites = []
    for process in work.faults:
        if process.site == "neuron":
            offsets = layout.neuron_offsets
            for layer in process.layers:
                numbers = range(offsets[layer], offsets[layer + 1])
                sites += [([n], [], process.probability) for n in numbers]
            continue
        groups = site_groups(work.deployment, process.site, process.layers_in(net.widths))
        for g in range(len(groups)):
            sites.append((
                groups.neurons[slice(*groups.neuron_offsets[g : g + 2])],
                groups.synapses[slice(*groups.synapse_offsets[g : g + 2])],
                process.probability,
            ))  # fmt: skip
    assert len(sites) <= 12
    errors, chances = [], []
    golden = net(work.inputs[x : x + 1])[0]
    for dead in product((False, True), repeat=len(sites)):
        neurons = np.ones(sum(net.widths))
        synapses = np.ones(layout.synapse_offsets[-1])
        for (n, s, _), gone in zip(sites, dead, strict=True):
            if gone:
                neurons[list(n)], synapses[list(s)] = 0, 0
        alive = np.split(neurons, np.cumsum(net.widths)[:-1])
        y = work.inputs[x] * alive[0]
        for number, layer in enumerate(net.layers, start=1):
            first, last = layout.synapse_offsets[number : number + 2]
            weight = layer.weight * synapses[first:last].reshape(layer.weight.shape)
            y = layer.activation(weight @ y + layer.bias) * alive[number]
        errors.append(y - golden)
        chances.append(
            np.prod([p if gone else 1 - p for (_, _, p), gone in zip(sites, dead, strict=True)])
        )
    return np.array(errors), np.array(chances)


@pytest.mark.parametrize("faults", PHYSICAL.values(), ids=PHYSICAL.keys())
def test_rows_columns_cores_and_links_fail_as_all_sets_of_them_say(monkeypatch, faults):
    work = physical_campaign(faults)
    exact = [physical_law(work, x) for x in range(2)]
    most = min(np.abs(errors).max() for errors, _ in exact)
    for enumerated, epsilon in ((1, 0.5 * most), (1, 0.8 * most), (2**14, 0.8 * most)):
        monkeypatch.setattr(importance, "_ENUMERATED", enumerated)
        found = ns.exceedance(work, epsilon, 0.05, max_evaluations=60_000)
        for x, (errors, chances) in enumerate(exact):
            truth = chances @ (np.abs(errors).max(axis=1) >= epsilon)
            assert truth > 0
            got, error = found.any_output[x], found.any_output_standard_error[x]
            assert abs(got - truth) < max(6 * error, 1e-9 * truth)
            assert error < 0.1 * truth
            each = chances @ (np.abs(errors) >= epsilon)
            assert not each[found.impossible[x]].any()


@pytest.mark.parametrize("faults", PHYSICAL.values(), ids=PHYSICAL.keys())
def test_moments_of_physical_sites_are_those_of_all_sets(faults):
    work = physical_campaign(faults)
    found = ns.estimate_moments(work, 8000)
    assert not found.integrated
    for x in range(2):
        errors, chances = physical_law(work, x)
        for name, truth in (("mean", chances @ errors), ("second_moment", chances @ errors**2)):
            z = (getattr(found, name)[x] - truth) / getattr(found, name + "_standard_error")[x]
            assert np.abs(z).max() < stats.norm.isf(ALARM / 16)


@pytest.mark.parametrize("faults", PHYSICAL.values(), ids=PHYSICAL.keys())
def test_bounds_of_physical_sites_hold(faults):
    work = physical_campaign(faults)
    bounds = site_bounds(work)
    for x in range(2):
        errors, chances = physical_law(work, x)
        mean = chances @ errors
        assert (chances @ np.abs(errors) <= bounds.absolute[x] + 1e-12).all()
        assert (chances @ (errors - mean) ** 2 <= bounds.variance[x] + 1e-12).all()
        for epsilon in (0.5, 1.0, 2.0, 4.0):
            assert (chances @ (errors >= epsilon) <= bounds.tail(epsilon)[x] + 1e-12).all()
            assert (chances @ (errors <= -epsilon) <= bounds.tail(epsilon)[x] + 1e-12).all()


def test_bounds_of_sites_are_those_of_neurons_and_synapses():
    work = campaign(network((5, 4, 3), "tanh"), MIXED)
    found = site_bounds(work)
    where = ([0, 1, 2], [0.02, 0.02, 0.05], ["neuron", "neuron", "synapse"])
    np.testing.assert_allclose(
        found.variance, variance_bound(work.network, work.inputs, *where), rtol=1e-12
    )
    for epsilon in (20.0, 40.0):
        known = bernstein(
            work.network, work.inputs, where[0], where[1], epsilon, site=where[2],
            mean=found.absolute,
        )  # fmt: skip
        np.testing.assert_allclose(found.tail(epsilon), known, rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0.0}, "epsilon: expected"),
        ({"epsilon": None}, "epsilon: expected"),
        ({"epsilon": [0.1, 0.2]}, "epsilon: expected one number"),
        ({"epsilon": 0.1, "relative_error": 0}, "relative_error"),
        ({"epsilon": 0.1, "confidence": 1}, "confidence"),
        ({"epsilon": 0.1, "target": "worst"}, "target"),
        ({"epsilon": 0.1, "max_evaluations": 0}, "max_evaluations"),
        ({"epsilon": 0.1, "failure": "tail"}, "failure"),
        ({"epsilon": 0.1, "failure": "class"}, "epsilon: expected None"),
        ({"epsilon": 0.1, "failure": "loss"}, "failure: expected a campaign with a loss"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        ns.exceedance(campaign(network((3, 3, 2)), NEURONS), **arguments)


def test_spiking_campaigns_are_refused():
    work = campaign(network((3, 3, 2), "relu"), NEURONS, backend="spiking-compiled")
    with pytest.raises(InputError, match="spikes"):
        ns.exceedance(work, 0.1)
