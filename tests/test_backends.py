import pickle
import tracemalloc
from itertools import pairwise, product

import numpy as np
import pytest
from backend_contract import ACTIVATIONS, BackendContract, batch_for, networks, one, processes
from hypothesis import given, settings

import neurosim as ns
from neurosim.backends import backend_of, make_backend
from neurosim.errors import InputError
from neurosim.kernels.many_dead import dead_outputs
from neurosim.kernels.neurons import classify
from neurosim.kernels.rows import _STRIP


class TestReference(BackendContract):
    def make(self, network, inputs):
        return make_backend("reference", network, inputs, "float64")


class TestCompiled(BackendContract):
    def make(self, network, inputs):
        return make_backend("compiled", network, inputs, "float64")


class TestReferenceInSinglePrecision(BackendContract):
    tolerance = 2e-5

    def make(self, network, inputs):
        return make_backend("reference", network, inputs, "float32")


class TestCompiledInSinglePrecision(BackendContract):
    tolerance = 2e-5

    def make(self, network, inputs):
        return make_backend("compiled", network, inputs, "float32")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_small_errors_keep_their_relative_accuracy(activation):
    # A weight of 1e-6 dies: a difference of two float32 outputs would keep one digit at best.
    rng = np.random.default_rng(3)
    weights = [rng.normal(size=(30, 20)) / 4, rng.normal(size=(1, 30)) / 5]
    weights[0][:, 0] *= 1e-6
    network = ns.Network.dense(
        weights=weights, biases=[rng.normal(size=30), [0.3]], activations=[activation, "identity"]
    )
    inputs = rng.normal(size=(5, 20))
    batch = one(network, inputs, neurons=[(0, 0, 0, 5)])
    exact = make_backend("reference", network, inputs, "float64").errors(batch)
    ours = make_backend("compiled", network, inputs, "float32").errors(batch)
    plain = make_backend("reference", network, inputs, "float32").errors(batch)
    # The last sum may cancel: what is relative there is its largest value.
    np.testing.assert_allclose(ours, exact, rtol=1e-5, atol=1e-7 * abs(exact).max())
    assert abs(plain / exact - 1).max() > 1e-3


@pytest.mark.parametrize("activation", ["softplus", "sigmoid(4)", "tanh"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_changes_across_saturation_are_exact(activation, dtype):
    # Golden values far down, a fault that lifts them all the way up, and the reverse.
    for size, sign in product((29.0, 39.0, 58.0, 78.0, 100.0, 250.0), (-1.0, 1.0)):
        bias = sign * size
        network = ns.Network.dense(
            weights=[[[bias]], [[1.0]]],
            biases=[[-bias / 2], [0.0]],
            activations=[activation, "identity"],
        )
        inputs = np.array([[1.0], [0.5], [2.0]])
        batch = one(network, inputs, neurons=[(0, 0, 0, 3)])
        exact = make_backend("reference", network, inputs, "float64").errors(batch)
        ours = make_backend("compiled", network, inputs, dtype).errors(batch)
        np.testing.assert_allclose(ours, exact, rtol=1e-5 if dtype == "float32" else 1e-12)


def test_wide_layers_take_every_path_of_the_compiled_backend():
    # Long and short lists, dense rows, rows that become dense late, passing and lasting events.
    rng = np.random.default_rng(5)
    widths = [60, 70, 50, 40, 5]
    network = ns.Network.dense(
        weights=[rng.normal(size=(b, a)) / np.sqrt(a) for a, b in pairwise(widths)],
        biases=[rng.normal(size=n) for n in widths[1:]],
        activations=["relu", "sigmoid(4)", "tanh", "softmax"],
    )
    inputs = rng.normal(size=(7, 60))
    inputs[:, ::3] = 0
    for p in (0.001, 0.01, 0.05, 0.3):
        faults = [
            ns.StuckAtZero("neuron", probability=p, persistence=ns.Transient()),
            ns.StuckAtZero("synapse", probability=p),
            ns.StuckAtZero(
                "synapse", probability=p, layers=[3], persistence=ns.Intermittent(mean_duration=2)
            ),
        ]
        batch = batch_for(network, inputs, faults, n_trials=15)
        reference = make_backend("reference", network, inputs, "float64").errors(batch)
        assert reference.any()
        ours = make_backend("compiled", network, inputs, "float64").errors(batch)
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-12)


@given(case=networks(activations=["relu", "sigmoid(4)"]), faults=processes)
@settings(max_examples=20, deadline=None)
def test_extreme_logits_stay_finite(case, faults):
    network, inputs = case
    last = network.layers[-1]
    layers = (*network.layers[:-1], ns.layers.Dense(weight=last.weight * 1e3, bias=last.bias * 1e3))
    network = ns.Network(layers=layers, readout="softmax")
    batch = batch_for(network, inputs, faults)
    exact = make_backend("reference", network, inputs, "float64").errors(batch)
    ours = make_backend("compiled", network, inputs, "float64").errors(batch)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=1e-9)


def test_evaluate_gives_the_error_of_a_chosen_fault_set():
    network = ns.Network.dense(
        weights=[np.eye(2), [[1, 2]]], biases=[[0, 0], [5]], activations=["relu", "identity"]
    )
    deployment = ns.deploy(network, ns.Chip.load("ideal"))
    faults = ns.FaultSet(n_presentations=2, neurons=[(1, 1, 1, 2)], synapses=[(2, 0, 0, 0, 1)])
    assert ns.evaluate(deployment, faults, [[3, 4], [3, 4]]).tolist() == [[-3], [-8]]
    with pytest.raises(InputError, match="fault_set: expected one of 1 presentations"):
        ns.evaluate(deployment, faults, [[3, 4]])
    with pytest.raises(InputError, match="backend: expected one of"):
        ns.evaluate(deployment, faults, [[3, 4], [3, 4]], backend="torch")


def test_golden_values_beyond_the_dtype_are_refused():
    network = ns.Network.dense(weights=[[[2.0]]], biases=[[0.0]], activations=["identity"])
    with pytest.raises(InputError, match=r'golden values in the range of float32.*"float64"'):
        make_backend("compiled", network, np.array([[1e300]]), "float32")
    assert make_backend("compiled", network, np.array([[1e300]]), "float64").golden == 2e300


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_campaign_of_one_input(dtype):
    """One input: its arrays are in C and in Fortran order at once, and read-only."""
    rng = np.random.default_rng(0)
    network = ns.Network.dense(
        weights=[rng.normal(size=(3, 4)), rng.normal(size=(2, 3))],
        biases=[np.ones(3), np.ones(2)],
        activations=["tanh", "identity"],
    )
    faults = [ns.StuckAtZero(site, probability=0.2) for site in ("neuron", "synapse")]
    campaigns = [
        ns.Campaign(
            deployment=ns.deploy(network, ns.Chip.load("ideal")),
            faults=faults, inputs=rng.normal(size=(1, 4)) * 0 + 1, trials=50, seed=0,
            dtype=dtype, backend=backend,
        )
        for backend in ("compiled", "reference")
    ]  # fmt: skip
    fast, slow = (backend_of(c).errors(c.fault_batch(0, 50)) for c in campaigns)
    np.testing.assert_allclose(fast, slow, atol=1e-6)


def deep(widths=(60, 40, 30, 20, 5), activations=("sigmoid(4)", "relu", "tanh", "softmax"), seed=5):
    rng = np.random.default_rng(seed)
    network = ns.Network.dense(
        weights=[rng.normal(size=(b, a)) / np.sqrt(a) for a, b in pairwise(widths)],
        biases=[rng.normal(size=n) for n in widths[1:]],
        activations=list(activations),
    )
    inputs = rng.normal(size=(7, widths[0]))
    inputs[:, ::3] = 0
    return network, inputs


def neurons_at(p, persistence=None):
    return [ns.StuckAtZero("neuron", probability=p, persistence=persistence or ns.Permanent())]


@pytest.mark.parametrize("table_bytes", [2**27, 0])
@pytest.mark.parametrize("persistence", [ns.Permanent(), ns.Transient()])
def test_few_inputs_of_a_trial_on_which_one_dead_neuron_or_none_matters(
    monkeypatch, persistence, table_bytes
):
    monkeypatch.setattr("neurosim.backends.neuron_faults._TABLE_BYTES", table_bytes)
    network, _ = deep((12, 9, 4), ("tanh", "identity"))
    inputs = np.random.default_rng(3).normal(size=(40, 12))
    inputs[[4, 17]] = 0  # none matters
    inputs[30, 1:] = 0  # one, where it fails
    backend, reference = (
        make_backend(name, network, inputs, "float64") for name in ("compiled", "reference")
    )
    faults = [
        ns.StuckAtZero("neuron", probability=p, persistence=persistence, layers=[layer])
        for layer, p in ((0, 0.6), (1, 0.5))
    ]
    batch = batch_for(network, inputs, faults, n_trials=50)
    errors = reference.errors(batch)
    assert errors[:, [4, 17, 30]].any(axis=(0, 2)).all()
    np.testing.assert_allclose(backend.errors(batch), errors, rtol=0, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("room", ["table", "no kept rows", "no table"])
def test_the_table_of_single_dead_neurons_changes_nothing_but_rounding(monkeypatch, depth, room):
    network, inputs = deep(
        (60, 40, 30, 20, 5)[4 - depth :],
        ("sigmoid(4)", "relu", "tanh", "softmax")[4 - depth :],
    )
    if room != "table":
        name = "_KEPT_BYTES" if room == "no kept rows" else "_TABLE_BYTES"
        monkeypatch.setattr(f"neurosim.backends.neuron_faults.{name}", 0)
    ours, reference = (
        make_backend(name, network, inputs, "float64") for name in ("compiled", "reference")
    )
    for p, persistence in ((0.005, None), (0.02, None), (0.02, ns.Transient()), (0.3, None)):
        faults = [
            *neurons_at(p, persistence),
            ns.StuckAtZero("neuron", probability=p / 4, layers=[depth]),
        ]
        batch = batch_for(network, inputs, faults, n_trials=60)
        errors = reference.errors(batch)
        assert errors.any()
        np.testing.assert_allclose(ours.errors(batch), errors, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("p", [0.1, 0.6])
@pytest.mark.parametrize(
    "persistence", [ns.Permanent(), ns.Transient(), ns.Intermittent(mean_duration=3)]
)
def test_one_dead_neuron_and_several_behind_it_start_from_what_is_kept(
    monkeypatch, layer, p, persistence
):
    network, inputs = deep((60, 50, 30, 20, 5), ("relu", "relu", "sigmoid(4)", "identity"))
    starts = []

    def spy(*args):
        found = classify(*args)
        starts.extend(found[3][found[3][:, 3] >= 0, 0])
        return found

    monkeypatch.setattr("neurosim.backends.neuron_faults.classify", spy)
    ours, reference = (
        make_backend(name, network, inputs, "float64") for name in ("compiled", "reference")
    )
    faults = [
        ns.StuckAtZero("neuron", probability=1.2 / network.widths[layer], layers=[layer]),
        ns.StuckAtZero("neuron", probability=p, layers=[layer + 1], persistence=persistence),
        ns.StuckAtZero("neuron", probability=0.02),
    ]
    batch = batch_for(network, inputs, faults, n_trials=60)
    errors = reference.errors(batch)
    found = ours.errors(batch)
    np.testing.assert_allclose(found, errors, rtol=0, atol=1e-12)
    assert starts.count(layer + 1) > 50
    for kept in ours._neurons._kept:
        kept.rows[:] *= 1.001
    assert np.abs(ours.errors(batch) - errors).max() > 1e-6


@pytest.mark.parametrize("widths", [(60, 50, 40, 1, 1, 1), (9, 8, 3, 2, 20, 5)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_kept_takes_no_more_memory_than_its_limit(monkeypatch, widths, dtype):
    network, inputs = deep(widths, ("relu",) * (len(widths) - 1))

    def memory():
        backend = make_backend("compiled", network, inputs, dtype)
        return sum(k.rows.nbytes + k.number.nbytes for k in backend._neurons._kept)

    most = memory()
    assert most > 0
    for limit, expected in ((most, most), (most - 1, 0)):
        monkeypatch.setattr("neurosim.backends.neuron_faults._KEPT_BYTES", limit)
        assert memory() == expected


def test_a_table_beyond_its_limit_is_never_made(monkeypatch):
    monkeypatch.setattr("neurosim.backends.neuron_faults._TABLE_BYTES", 2**20)
    network, _ = deep((20, 100, 50), ("relu", "identity"))
    inputs = np.random.default_rng(0).normal(size=(2000, 20))
    tracemalloc.start()
    try:
        make_backend("compiled", network, inputs, "float64")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * 2000 * 50 * 8 / 2  # half of what the table of the last layer would take


def test_results_do_not_depend_on_who_needs_the_table_first():
    network, inputs = deep()
    early, late = (
        batch_for(network, inputs, neurons_at(0.02), n_trials=80, seed=s) for s in (1, 2)
    )
    one_backend, other = (make_backend("compiled", network, inputs, "float32") for _ in range(2))
    assert_equal_bits(one_backend.errors(early), early, other, first=late)
    # A backend may travel to another process; its table is made again there.
    assert_equal_bits(one_backend.errors(early), early, pickle.loads(pickle.dumps(other)))


def assert_equal_bits(expected, batch, backend, first=None):
    if first is not None:
        backend.errors(first)
    assert expected.any()
    np.testing.assert_array_equal(backend.errors(batch), expected)


def test_equal_fault_sets_are_computed_once():
    network, inputs = deep((6, 4, 3), ("tanh", "identity"))
    batch = batch_for(network, inputs, neurons_at(0.1), n_trials=400)
    backend = make_backend("compiled", network, inputs, "float64")
    changes = backend.changes(batch)
    counts = np.diff(batch.neurons.offsets)
    assert ((changes.sets < 0) == (counts == 0)).all()
    singles = batch.neurons.site[batch.neurons.offsets[:-1][counts == 1]]
    assert len(changes.offsets) - 1 == len(set(singles)) + (counts > 1).sum()
    reference = make_backend("reference", network, inputs, "float64").errors(batch)
    np.testing.assert_allclose(changes.dense(), reference, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(changes.dense(100, 120), changes.dense()[100:120])


@pytest.mark.parametrize("site", ["neuron", "synapse"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_both_sides_of_the_dense_crossover_agree_with_forced_zeros(monkeypatch, site, depth):
    network, inputs = deep((40, 30, 20, 5)[3 - depth :], ("relu", "tanh", "identity")[3 - depth :])
    reference = make_backend("reference", network, inputs, "float64")
    ours = make_backend("compiled", network, inputs, "float64")
    for p in (0.1, 0.25, 0.5, 1):
        faults = [
            ns.StuckAtZero(site, probability=p),
            ns.StuckAtZero("neuron", probability=0.02),
        ]
        batch = batch_for(network, inputs, faults, n_trials=12)
        errors = reference.errors(batch)
        for cost in (0, 1e9):  # never, always
            monkeypatch.setattr("neurosim.backends.synapse_faults._DEAD_COST", cost)
            np.testing.assert_allclose(ours.errors(batch), errors, rtol=0, atol=1e-12)


def test_many_blocks_and_inputs_give_what_one_trial_alone_gives():
    # More pairs than fit a block, and more inputs than a tile of rows.
    network, _ = deep((30, 25, 20, 4), ("sigmoid(4)", "tanh", "identity"))
    inputs = np.random.default_rng(1).normal(size=(37, 30))
    backend = make_backend("compiled", network, inputs, "float64")
    faults = [*neurons_at(0.05), *neurons_at(0.01, ns.Intermittent(mean_duration=5))]
    batch = batch_for(network, inputs, faults, n_trials=200)
    errors = backend.errors(batch)
    for t in range(0, 200, 13):
        alone = backend.errors(type(batch).of(batch[t], batch.sites))[0]
        np.testing.assert_allclose(errors[t], alone, rtol=0, atol=1e-13)


@pytest.mark.parametrize("activation", ["sigmoid(4)", "relu", "softplus"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layers_wider_than_a_strip_of_columns_give_what_forcing_zeros_gives(activation, dtype):
    widths = (30, 2 * _STRIP + 9, _STRIP + 1, 7)
    network, inputs = deep(widths, (activation, activation, "identity"))
    ours = make_backend("compiled", network, inputs, dtype)
    reference = make_backend("reference", network, inputs, "float64")
    for layers in ([0, 1], [1, 2]):
        faults = [ns.StuckAtZero("neuron", probability=0.1, layers=layers)]
        batch = batch_for(network, inputs, faults, n_trials=8)
        np.testing.assert_allclose(
            ours.errors(batch),
            reference.errors(batch),
            rtol=0,
            atol=1e-12 if dtype == "float64" else 5e-6,
        )


@pytest.mark.parametrize("layers", [None, [0], [1], [0, 2]])
@pytest.mark.parametrize(
    "persistence", [ns.Permanent(), ns.Transient(), ns.Intermittent(mean_duration=150)]
)
def test_many_dead_neurons_go_through_blas_and_give_what_forcing_zeros_gives(
    monkeypatch, layers, persistence
):
    rng = np.random.default_rng(3)
    network, _ = deep((90, 80, 30, 5), ("sigmoid(4)", "relu", "identity"))
    inputs = rng.normal(size=(200, 90)) * (rng.random((200, 90)) < 0.95)
    inputs[:, :20] = 0
    multiplied = []

    def spy(pairs, layer, *rest):
        units, taken = dead_outputs(pairs, layer, *rest)
        multiplied.append((layer, len(units), taken.shape[1]))
        return units, taken

    monkeypatch.setattr("neurosim.backends.neuron_faults.dead_outputs", spy)
    ours, reference = (
        make_backend(name, network, inputs, "float64") for name in ("compiled", "reference")
    )
    for p in (0.02, 0.3, 0.95):
        faults = [ns.StuckAtZero("neuron", probability=p, layers=layers, persistence=persistence)]
        batch = batch_for(network, inputs, faults, n_trials=12)
        np.testing.assert_allclose(ours.errors(batch), reference.errors(batch), rtol=0, atol=1e-12)
    assert {layer for layer, _, _ in multiplied} == {0 if layers is None else min(layers)}
    assert all(n >= 8 for _, n, _ in multiplied)
    # Some trials with all inputs, some with those alone that lose more than one neuron.
    assert max(m for _, _, m in multiplied) == 200
