"""Networks that are graphs of layers: structure, simulation against the slow backend, mapping."""

import numpy as np
import pytest
from backend_contract import PERSISTENCES, settings
from graphs import KERNELS, as_dense, convolution, dense, networks, sites_of
from hypothesis import given
from hypothesis import strategies as st

import neurosim as ns
from neurosim.backends import make_backend
from neurosim.backends.graph import GraphBackend
from neurosim.backends.reference import ReferenceBackend
from neurosim.chip import Chip
from neurosim.errors import DeploymentError, InputError
from neurosim.faults import FaultBatch, FaultSet, Sites, StuckAtZero
from neurosim.graph import Graph, Node, chain_of
from neurosim.layers import (
    Activation,
    Add,
    AveragePool2D,
    Concatenate,
    Conv2D,
    Dense,
    Flatten,
    MaxPool2D,
    Slice,
)
from neurosim.network import Network
from neurosim.sampling import PlainMonteCarlo, draw

processes = st.lists(
    st.builds(
        StuckAtZero,
        st.sampled_from(["neuron", "synapse"]),
        probability=st.sampled_from([0.002, 0.05, 0.5]),
        persistence=st.sampled_from(PERSISTENCES),
    ),
    min_size=1,
    max_size=2,
)


@settings(40)
@given(networks(), processes, st.sampled_from(KERNELS), st.integers(0, 99))
def test_differences_are_those_of_forced_zeros(case, faults, kernels, seed):
    network, inputs = case
    flat = network.flatten(inputs)
    sites = sites_of(network, kernels)
    batch = draw(faults, PlainMonteCarlo(), sites, len(inputs), seed, 0, 5)
    fast, slow = (kind(network, flat, "float64") for kind in (GraphBackend, ReferenceBackend))
    np.testing.assert_allclose(fast.golden, slow.golden, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(fast.golden, network(inputs), rtol=1e-11, atol=1e-12)
    errors, hidden = fast.errors_and_hidden(batch)
    expected, expected_hidden = slow.errors_and_hidden(batch)
    np.testing.assert_allclose(errors, expected, rtol=1e-9, atol=1e-11)
    for found, right in zip(hidden, expected_hidden, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(fast.errors(batch), errors)
    np.testing.assert_array_equal(fast.changes(batch).dense(), errors)


@settings(10)
@given(networks(), st.integers(0, 99))
def test_single_precision_is_double_precision_rounded(case, seed):
    network, inputs = case
    faults = [StuckAtZero("neuron", probability=0.02), StuckAtZero("synapse", probability=0.02)]
    batch = draw(faults, PlainMonteCarlo(), sites_of(network), len(inputs), seed, 0, 4)
    single, double = (
        make_backend("compiled", network, network.flatten(inputs), dtype).errors(batch)
        for dtype in ("float32", "float64")
    )
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=3e-5)


def test_blocks_of_trials_give_what_one_block_gives(monkeypatch):
    rng = np.random.default_rng(0)
    layers = [convolution(rng, 2, 3, padding=1), MaxPool2D(size=2), Flatten(), dense(rng, 27, 2)]
    network = Network(layers=layers, input_shape=(2, 6, 6))
    x = rng.normal(size=(3, 72))
    faults = [StuckAtZero("neuron", probability=0.01)]
    batch = draw(faults, PlainMonteCarlo(), sites_of(network), 3, 0, 0, 40)
    whole = GraphBackend(network, x, "float64").errors(batch)
    monkeypatch.setattr("neurosim.backends.graph._BLOCK_VALUES", 500)
    monkeypatch.setattr("neurosim.backends.graph._GOLDEN_BYTES", 1)
    backend = GraphBackend(network, x, "float64")
    assert backend._block < 8
    assert backend._most_kept == 1
    np.testing.assert_allclose(backend.errors(batch), whole, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("site", ["neuron", "synapse"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_windows_that_differ_along_rows_and_columns(monkeypatch, site, groups):
    monkeypatch.setattr("neurosim.backends.graph._BLOCK_VALUES", 1)  # each trial in its own window
    rng = np.random.default_rng(7)
    layers = [
        Conv2D(weight=rng.normal(size=(8, 4 // groups, 3, 2)), bias=rng.normal(size=8),
               stride=(1, 2), padding=((1, 0), (0, 2)), dilation=(2, 1), groups=groups,
               activation=Activation("tanh")),
        MaxPool2D(size=(3, 2), stride=(2, 1), padding=((1, 1), (0, 1))),
        AveragePool2D(size=(1, 3), stride=(1, 2), padding=((0, 0), (2, 1)), count_padding=False),
        convolution(rng, 8, 3, 2, "tanh", stride=(3, 1), padding=((0, 1), (2, 0))),
        Flatten(),
    ]  # fmt: skip
    shape = (4, 13, 15)
    sizes = Graph(nodes=chain_of(layers), input_shape=shape).shapes
    network = Network(layers=[*layers, dense(rng, sizes[-1][0], 2)], input_shape=shape)
    x = rng.normal(size=(1, 4 * 13 * 15))
    weights = [layer.weight.size for layer in network.layers]
    probability = 2 / sum(network.widths if site == "neuron" else weights)
    faults = [StuckAtZero(site, probability=probability)]
    batch = draw(faults, PlainMonteCarlo(), sites_of(network), 1, 0, 0, 80)
    errors, expected = (
        kind(network, x, "float64").errors(batch) for kind in (GraphBackend, ReferenceBackend)
    )
    np.testing.assert_allclose(errors, expected, rtol=1e-9, atol=1e-12)
    assert (np.abs(expected).max(axis=2) > 1e-3).sum() > 20


@pytest.mark.parametrize("site", ["neuron", "synapse"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_joined_changes_have_windows_of_their_own(monkeypatch, site, axis):
    monkeypatch.setattr("neurosim.backends.graph._BLOCK_VALUES", 1)
    rng = np.random.default_rng(8)
    nodes = [
        Node(convolution(rng, 2, 4, padding=1), (0,)),
        Node(convolution(rng, 4, 4, 5, "tanh", padding=2), (1,)),
        Node(Add(activation=Activation("relu")), (1, 2)),
        Node(convolution(rng, 4, 2, 3, padding=1), (3,)),
        Node(Concatenate(axis=axis), (0, 4, 1) if axis == 0 else (0, 4, 0)),
        Node(AveragePool2D(size=2), (5,)),
        Node(Flatten(), (6,)),
        Node(dense(rng, 8 * 36 if axis == 0 else 6 * 36, 2), (7,)),
    ]
    network = Network(nodes=nodes, input_shape=(2, 12, 12))
    x = rng.normal(size=(1, 288))
    weights = [layer.weight.size for layer in network.layers]
    probability = 2 / sum(network.widths if site == "neuron" else weights)
    faults = [StuckAtZero(site, probability=probability)]
    batch = draw(faults, PlainMonteCarlo(), sites_of(network), 1, 0, 0, 60)
    errors, expected = (
        kind(network, x, "float64").errors(batch) for kind in (GraphBackend, ReferenceBackend)
    )
    np.testing.assert_allclose(errors, expected, rtol=1e-9, atol=1e-12)
    assert (np.abs(expected).max(axis=2) > 1e-4).sum() > 20


def test_small_changes_keep_their_relative_accuracy():
    rng = np.random.default_rng(1)
    layers = [
        convolution(rng, 1, 4, activation="silu", padding=1), MaxPool2D(size=2),
        convolution(rng, 4, 4, activation="gelu", padding=1), AveragePool2D(size=2),
        Flatten(), dense(rng, 16, 3, "tanh"), dense(rng, 3, 2),
    ]  # fmt: skip
    network = Network(layers=layers, input_shape=(1, 8, 8), readout="softmax")
    x = rng.normal(size=(1, 64))
    x[0, 27] = 1e-6
    faults = FaultSet(n_presentations=1, neurons=[(0, 27, 0, 1)])
    batch = FaultBatch.of(faults, sites_of(network))
    single, double = (
        GraphBackend(network, x, dtype).errors(batch) for dtype in ("float32", "float64")
    )
    np.testing.assert_allclose(single, double, rtol=2e-4)


def test_a_change_stays_in_its_window():
    rng = np.random.default_rng(2)
    layers = [convolution(rng, 1, 2, padding=1), convolution(rng, 2, 2, padding=1),
              Flatten(), dense(rng, 800, 2)]  # fmt: skip
    network = Network(layers=layers, input_shape=(1, 20, 20))
    x = rng.random((1, 400)) + 1
    faults = FaultSet(n_presentations=1, neurons=[(0, 10 * 20 + 7, 0, 1)])
    hidden = GraphBackend(network, x, "float64").errors_and_hidden(
        FaultBatch.of(faults, sites_of(network))
    )[1]
    for reach, errors in enumerate(hidden, start=1):
        rows, columns = np.nonzero(errors[0, 0].reshape(2, 20, 20).any(axis=0))
        assert 10 - reach <= rows.min() <= rows.max() <= 10 + reach
        assert 7 - reach <= columns.min() <= columns.max() <= 7 + reach


def small_chain(readout=None):
    rng = np.random.default_rng(3)
    layers = [
        convolution(rng, 1, 2, 2, "tanh"), AveragePool2D(size=2, stride=1),
        convolution(rng, 2, 2, 1, "sigmoid(4)", stride=2), Flatten(), dense(rng, 2, 2),
    ]  # fmt: skip
    return Network(layers=layers, input_shape=(1, 4, 3), readout=readout), rng


def test_a_chain_of_convolutions_is_the_dense_network_of_its_matrices():
    network, rng = small_chain("softmax")
    plain = as_dense(network)
    assert plain.widths == network.widths
    x = rng.normal(size=(4, 12))
    np.testing.assert_allclose(network(x), plain(x), rtol=1e-12)
    faults = [StuckAtZero("neuron", probability=0.1)]
    errors = [
        make_backend("compiled", one, x, "float64").errors(
            draw(faults, PlainMonteCarlo(), Sites(one.widths), 4, 0, 0, 50)
        )
        for one in (network, plain)
    ]
    np.testing.assert_allclose(*errors, rtol=1e-10, atol=1e-14)


def test_a_dead_shared_weight_is_dead_at_every_position():
    layer = Conv2D(weight=np.ones((1, 1, 2, 2)), bias=[0])
    network = Network(layers=[layer, Flatten()], input_shape=(1, 3, 3))
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    errors = []
    for kernels, out in (("shared_in_time", 0), ("replicated_in_space", 2)):
        deployment = ns.deploy(network, Chip(name="any", kernels=kernels))
        dead = FaultSet(n_presentations=1, synapses=[(1, out, 3, 0, 1)])
        errors.append(ns.evaluate(deployment, dead, x)[0].tolist())
    assert errors == [[-4, -5, -7, -8], [0, 0, -7, 0]]


def test_graphs_are_kept_as_such_and_chains_of_dense_layers_are_not():
    one, two = (
        Dense(weight=np.ones((3, 4)), bias=[0] * 3),
        Dense(weight=np.ones((2, 3)), bias=[0, 0]),
    )
    for layers in ([one, two], [Flatten(), one, Flatten(), two]):
        network = Network(layers=layers, input_shape=(2, 2))
        assert not network.nodes
        assert network.layers == (one, two)
        assert network.input_shape == (2, 2)
    skip = Network(nodes=[Node(one, (0,)), Node(Add(), (1, 1)), Node(two, (2,))], input_shape=(4,))
    assert (skip.depth, skip.widths, len(skip.nodes)) == (2, (4, 3, 2), 3)
    assert str(skip) == "Network 4 -> 3 identity -> Add 3 of 1, 1 -> 2 identity"
    assert skip(np.ones((1, 4))).tolist() == [[24, 24]]
    with pytest.raises(InputError, match="chain of dense layers for x, got one with Add"):
        skip.require_chain("x")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Network(layers=[Flatten()], input_shape=(2, 2)), "at least one weighted layer"),
        (lambda: Network(layers=[Conv2D(weight=np.ones((1, 1, 1, 1)), bias=[0])]), "input_shape: "),
        (lambda: Network(layers=[Conv2D(weight=np.ones((1, 1, 1, 1)), bias=[0])],
                         input_shape=(1, 2, 2)), "add a Flatten"),
        (lambda: Network(layers=[Conv2D(weight=np.ones((1, 1, 1, 1)), bias=[0]),
                                 Dense(weight=np.ones((1, 4)), bias=[0])], input_shape=(1, 2, 2)),
         "node 2 \\(Dense\\): weight: .*is a Flatten missing"),
        (lambda: Network(nodes=[Node(Dense(weight=[[1]], bias=[0]), (0,))] * 2, input_shape=(1,)),
         "expected each to lead to the last one, node 1 does not"),
        (lambda: Graph(nodes=[Node(Flatten(), (1,))], input_shape=(1,)), "got 1"),
        (lambda: Node(Flatten(), (0, 0)), "sources: expected one of a Flatten"),
        (lambda: Node("relu", (0,)), "layer: expected one of neurosim.layers"),
        (lambda: Chip(name="c", kernels="twice"), "kernels: expected"),
    ],
)  # fmt: skip
def test_what_is_no_graph_is_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_two_networks_that_differ_in_a_stride_differ_in_their_structure():
    rng = np.random.default_rng(4)
    layers = [convolution(rng, 1, 1, 2, padding=((1, 0), (0, 1))), Flatten(), dense(rng, 9, 1)]
    moved = Conv2D(weight=layers[0].weight, bias=layers[0].bias, padding=((0, 1), (0, 1)),
                   activation=Activation("relu"))  # fmt: skip
    one, other = (
        Network(layers=[first, *layers[1:]], input_shape=(1, 3, 3)) for first in (layers[0], moved)
    )
    assert str(one) == str(other)
    prints = {
        ns.Campaign(
            deployment=ns.deploy(network, ns.Chip.load("ideal")), inputs=np.ones((1, 9)),
            faults=[StuckAtZero("neuron", probability=0.1)], trials=1, seed=0,
        ).fingerprint
        for network in (one, other)
    }  # fmt: skip
    assert len(prints) == 2


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("core", [(256, 256), (20, 3), (4, 1), (9, 2)])
def test_every_synapse_of_a_convolution_has_one_place(kernels, groups, core):
    rng = np.random.default_rng(5)
    layer = convolution(rng, 4, 4, 2, groups=groups)
    network = Network(layers=[layer, Flatten(), dense(rng, 16, 3)], input_shape=(4, 3, 3))
    chip = Chip(name="c", rows=core[0], columns=core[1], kernels=kernels)
    deployment = ns.deploy(network, chip)
    seen = set()
    for number, (n_out, n_in) in enumerate(deployment.sites.weight_shapes, start=1):
        out, in_ = (a.ravel() for a in np.indices((n_out, n_in)))
        places = list(zip(*deployment.synapse_places(number, out, in_), strict=True))
        matrix = network.layers[number - 1].weight.reshape(-1, n_in)
        for (c, r, k), o, i in zip(places, out, in_, strict=True):
            assert r < core[0]
            assert k < core[1]
            assert deployment.core_weights(c)[r, k] == matrix[o % len(matrix), i]
            block = deployment.blocks[c]
            assert block.layer == number
            assert block.out_start <= o < block.out_stop
        seen |= set(places)
        assert len(set(places)) == n_out * n_in
    assert sum(block.size for block in deployment.blocks) == len(seen)
    assert (deployment.utilisation <= 1).all()


def test_a_deployment_prints_its_convolutions():
    rng = np.random.default_rng(6)
    layers = [convolution(rng, 2, 4, 3, groups=2, padding=1), Flatten(), dense(rng, 36, 2)]
    network = Network(layers=layers, input_shape=(2, 3, 3))
    chip = Chip(name="c", rows=40, columns=40, cores=9, kernels="replicated_in_space")
    assert str(ns.deploy(network, chip)).splitlines()[1:] == [
        "  layer 1: 2 x 3 x 3 -> 4 x 3 x 3 relu, 324 synapses in 9 copies, cores 0-4, "
        "utilisation 4.0%",
        "  layer 2: 36 -> 2 identity, 72 synapses, core 5, utilisation 4.5%",
    ]
    with pytest.raises(DeploymentError, match="needs 6: 1 short; layer 1 alone takes 5"):
        ns.deploy(network, Chip(name="c", rows=40, columns=40, cores=5, kernels=chip.kernels))


def test_a_campaign_on_a_convolutional_network_runs(tmp_path):
    network, rng = small_chain()
    inputs = rng.normal(size=(5, 1, 4, 3))
    errors = {}
    for backend in ("compiled", "reference"):
        campaign = ns.Campaign(
            deployment=ns.deploy(network, ns.Chip.load("crossbar-256")), inputs=inputs,
            faults=[StuckAtZero("neuron", probability=0.05),
                    StuckAtZero("synapse", probability=0.02, persistence=ns.Transient())],
            record=["error"], trials=30, seed=1, backend=backend, dtype="float64",
        )  # fmt: skip
        with ns.run(campaign, tmp_path / f"{backend}.h5") as trace:
            errors[backend] = trace.errors[:]
    np.testing.assert_allclose(errors["compiled"], errors["reference"], atol=1e-12)
    assert np.abs(errors["compiled"]).max() > 0.01
    with pytest.raises(InputError, match="chain of dense layers for a spiking backend"):
        ns.Campaign(
            deployment=campaign.deployment, inputs=inputs, trials=1, seed=1,
            backend="spiking-compiled",
        )  # fmt: skip


@pytest.mark.parametrize(
    "part",
    [Slice(start=1, stop=3), Slice(start=0, stop=3, step=2), Slice(axis=1, start=1, stop=4),
     Slice(axis=2, start=0, stop=5, step=2)],
)  # fmt: skip
def test_each_dead_neuron_in_front_of_a_part(part):
    rng = np.random.default_rng(8)
    first = Conv2D(weight=rng.normal(size=(3, 2, 2, 2)), bias=rng.normal(size=3), activation="tanh")
    second = Conv2D(weight=rng.normal(size=(2, 3, 2, 2)), bias=rng.normal(size=2))
    if part.axis == 0:
        second = Conv2D(weight=rng.normal(size=(2, 2, 2, 2)), bias=rng.normal(size=2))
    network = Network(layers=[first, part, second, Flatten()], input_shape=(2, 6, 6))
    deployment = ns.deploy(network, Chip(name="any"))
    x = rng.normal(size=(1, 2, 6, 6))
    _, y = network.graph.values(network.flatten(x))
    for neuron in range(network.widths[1]):
        faulty = y[1].copy()
        faulty.reshape(-1)[neuron] = 0
        expected = second(part(faulty)) - second(part(y[1]))
        dead = FaultSet(n_presentations=1, neurons=[(1, neuron, 0, 1)])
        for backend in ("compiled", "reference"):
            error = ns.evaluate(deployment, dead, x, backend=backend)
            np.testing.assert_allclose(error, expected.reshape(1, -1), atol=1e-12)
