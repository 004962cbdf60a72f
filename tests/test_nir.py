from itertools import pairwise
from types import SimpleNamespace

import h5py
import nir
import numpy as np
import pytest

import neurosim as ns
from neurosim.backends.spiking import compiled_backend
from neurosim.errors import FormatError, InputError
from neurosim.graph import Node
from neurosim.layers import (
    Activation,
    Add,
    Affine,
    AveragePool2D,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool,
    MaxPool2D,
    Transpose,
)
from neurosim.nir_graph.reader import _chain

rng = np.random.default_rng(2)
WEIGHTS = [rng.normal(size=(8, 6)) / 2, rng.normal(size=(5, 8)) / 2]
INPUTS = rng.random(size=(3, 6))
TIMES = {"duration_s": 0.05, "time_step_s": 1e-3}


def graph_of(nodes, n_in=6, n_out=5):
    shape = np.array([n_in]) if isinstance(n_in, int) else np.array(n_in)
    whole = {"input": nir.Input({"input": shape}), **nodes}
    whole["output"] = nir.Output({"output": np.array([n_out])})
    names = list(whole)
    return nir.NIRGraph(nodes=whole, edges=list(pairwise(names)), type_check=False)


def neurons(kind, n, tau=0.02, tau_syn=0.008, threshold=0.7):
    one = np.ones(n)
    if kind == "IF":
        return nir.IF(r=900 * one, v_threshold=threshold * one)
    if kind == "LIF":
        return nir.LIF(tau=tau * one, r=15 * one, v_leak=0.1 * one, v_threshold=threshold * one)
    return nir.CubaLIF(
        tau_syn=tau_syn * one,
        tau_mem=tau * one,
        r=20 * one,
        v_leak=0 * one,
        v_threshold=threshold * one,
        w_in=3 * one,
    )


def network_graph(kind, biases):
    nodes = {}
    for number, (weight, bias) in enumerate(zip(WEIGHTS, biases, strict=True), start=1):
        nodes[f"w{number}"] = nir.Affine(weight=weight, bias=bias)
        nodes[f"n{number}"] = neurons(kind, len(weight))
    return graph_of(nodes)


def stepped(kind, biases, trains, dt=1e-3):
    """Spikes of both layers by the equations of NIR, forward Euler; trains (n_steps, n_in)."""
    spikes = trains
    result = []
    for weight, bias in zip(WEIGHTS, biases, strict=True):
        node = neurons(kind, len(weight))
        v, current, rows = np.zeros(len(weight)), np.zeros(len(weight)), []
        for row in spikes:
            arriving = weight @ row + bias
            if kind == "IF":
                v = v + dt * node.r * arriving
            elif kind == "LIF":
                v = v + dt / node.tau * (node.v_leak - v + node.r * arriving)
            else:
                current = current + dt / node.tau_syn * (-current + node.w_in * arriving)
                v = v + dt / node.tau_mem * (node.v_leak - v + node.r * current)
            fired = v > node.v_threshold
            v = np.where(fired, 0.0, v)
            rows.append(fired.astype(float))
        spikes = np.array(rows)
        result.append(spikes)
    return result


@pytest.mark.parametrize("kind", ["IF", "LIF", "CubaLIF"])
def test_a_graph_runs_as_its_equations_say(tmp_path, kind):
    biases = [np.zeros(8), np.zeros(5)] if kind == "CubaLIF" else [0.1 * np.ones(8), np.ones(5) / 9]
    nir.write(tmp_path / "g.nir", network_graph(kind, biases))
    network, model = ns.load_nir(tmp_path / "g.nir", **TIMES)
    assert model.reset == "zero"
    backend = compiled_backend(network, INPUTS, "float64", model)
    rasters = backend.rasters()
    for x in range(3):
        if model.coding == "current":
            trains = np.tile(INPUTS[x], (50, 1))
        else:
            trains = np.zeros((50, 6))
            here = (rasters.presentation == x) & (rasters.layer == 0)
            trains[rasters.step[here], rasters.unit[here]] = 1
        for layer, expected in enumerate(stepped(kind, biases, trains), start=1):
            ours = np.zeros_like(expected)
            here = (rasters.presentation == x) & (rasters.layer == layer)
            ours[rasters.step[here], rasters.unit[here]] = 1
            # A spike takes one step to the next layer here, none there.
            lag = layer if model.coding != "current" else layer - 1
            np.testing.assert_array_equal(ours[lag:], expected[: 50 - lag])
            assert expected.any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reset": "zero", "threshold_v": 0.02},
        {"neuron": "lif", "membrane_time_constant_s": 0.02},
        {"coding": "regular", "maximum_rate_hz": 500},
        {"readout": "membrane"},
    ],
)
def test_what_is_written_runs_the_same(tmp_path, options):
    membrane = options.get("readout") == "membrane"
    network = ns.Network.dense(
        weights=WEIGHTS,
        biases=[0.1 * np.ones(8), np.zeros(5)],
        activations=["relu", "identity" if membrane else "relu"],
    )
    model = ns.SpikingModel(**TIMES, **options).calibrated(network, INPUTS)
    ns.save_nir(network, model, tmp_path / "n.nir")
    again, read = ns.load_nir(tmp_path / "n.nir", **TIMES)
    assert read.reset == model.reset
    assert read.readout == model.readout
    if model.coding == "current":
        ours = compiled_backend(network, INPUTS, "float64", model)
        theirs = compiled_backend(again, INPUTS, "float64", read)
        np.testing.assert_array_equal(ours.rasters().step, theirs.rasters().step)
        np.testing.assert_array_equal(ours.rasters().unit, theirs.rasters().unit)


def test_synaptic_currents_are_written_as_cubalif(tmp_path):
    network = ns.Network.dense(
        weights=WEIGHTS, biases=[np.zeros(8), np.zeros(5)], activations=["relu", "relu"]
    )
    model = ns.SpikingModel(
        **TIMES,
        coding="regular",
        neuron="lif",
        membrane_time_constant_s=0.02,
        synaptic_time_constant_s=0.005,
        scales=(1.0, 1.0, 1.0),
    )
    ns.save_nir(network, model, tmp_path / "n.nir")
    again, read = ns.load_nir(tmp_path / "n.nir", **TIMES)
    assert read == model
    for ours, theirs in zip(network.layers, again.layers, strict=True):
        np.testing.assert_allclose(ours.weight, theirs.weight, rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 1, "padding": 1, "dilation": 1, "groups": 1},
        {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2), "groups": 2},
        {"stride": 1, "padding": "same", "dilation": 1, "groups": 1},
    ],
)
def test_a_convolution_becomes_its_matrix(tmp_path, options):
    weight = rng.normal(size=(4, 2 // options["groups"], 3, 3))
    node = nir.Conv2d(input_shape=(6, 5), weight=weight, bias=rng.normal(size=4), **options)
    height, width = (int(n) for n in node.output_type["output"][1:])
    n = 4 * height * width
    nodes = {"conv": node, "n": neurons("IF", n)}
    nir.write(tmp_path / "c.nir", graph_of(nodes, n_in=[2, 6, 5], n_out=n))
    network, _ = ns.load_nir(tmp_path / "c.nir", **TIMES)
    x = rng.normal(size=(2, 6, 5))
    factor = 1e-3 * 900 / 0.7
    ours = (network.layers[0].weight @ x.ravel() / factor).reshape(4, height, width)
    stride, dilation = (np.broadcast_to(options[k], 2) for k in ("stride", "dilation"))
    padding = (1, 1) if options["padding"] == "same" else np.broadcast_to(options["padding"], 2)
    padded = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2))
    for out, row, column in np.ndindex(4, height, width):
        channels = slice(0, 2)
        if options["groups"] == 2:
            channels = slice(out // 2, out // 2 + 1)
        y, z = row * stride[0], column * stride[1]
        patch = padded[channels, y : y + 2 * dilation[0] + 1 : dilation[0]]
        patch = patch[:, :, z : z + 2 * dilation[1] + 1 : dilation[1]]
        assert ours[out, row, column] == pytest.approx((patch * weight[out]).sum())


def convolutional(last="relu"):
    rng = np.random.default_rng(5)
    relu = Activation("relu")
    layers = [
        Conv2D(weight=rng.normal(size=(4, 2, 3, 2)) / 3, bias=0.1 * rng.normal(size=4),
               stride=(1, 2), padding=(1, 0), activation=relu),
        AveragePool2D(size=2, stride=(2, 1), padding=(0, 1)),
        Conv2D(weight=rng.normal(size=(4, 1, 2, 2)), bias=np.zeros(4), groups=4, dilation=(1, 2),
               activation=relu),
        GlobalAveragePool(),
        Dense(weight=rng.normal(size=(3, 4)), bias=[0.2, 0, 0.1], activation=Activation(last)),
    ]  # fmt: skip
    return ns.Network(layers=layers, input_shape=(2, 6, 6)), rng.random(size=(3, 2, 6, 6))


@pytest.mark.parametrize("last", ["relu", "identity"])
@pytest.mark.parametrize("options", [{}, {"neuron": "lif", "membrane_time_constant_s": 0.02}])
def test_convolutions_and_pools_are_written_and_read_back(tmp_path, last, options):
    network, x = convolutional(last)
    readout = "membrane" if last == "identity" else "count"
    model = ns.SpikingModel(**TIMES, **options, readout=readout).calibrated(network, x)
    ns.save_nir(network, model, tmp_path / "n.nir")
    kinds = [type(node).__name__ for node in nir.read(tmp_path / "n.nir", type_check=False)
             .nodes.values()]  # fmt: skip
    for kind, number in (("Conv2d", 2), ("AvgPool2d", 2), ("Flatten", 1), ("Affine", 1)):
        assert kinds.count(kind) == number
    kept, read = ns.load_nir(tmp_path / "n.nir", unroll=False, **TIMES)
    matrices, same = ns.load_nir(tmp_path / "n.nir", **TIMES)
    assert read == same
    assert [type(node.layer) for node in kept.graph.nodes] == [
        Conv2D, AveragePool2D, Conv2D, AveragePool2D, Flatten, Dense
    ]  # fmt: skip
    assert kept.widths == matrices.widths == network.widths
    np.testing.assert_allclose(matrices(x), kept(x), rtol=1e-10)
    # Activities are those of the network, in shares of the scales.
    scale = model.scales[-1] if last == "relu" else 1.0
    np.testing.assert_allclose(kept(x) * scale, network(x), rtol=1e-10)
    # What was read can be written again, and is the same.
    ns.save_nir(kept, read, tmp_path / "again.nir")
    again, _ = ns.load_nir(tmp_path / "again.nir", unroll=False, **TIMES)
    np.testing.assert_allclose(again(x), kept(x), rtol=1e-10)
    rasters = compiled_backend(matrices, matrices.flatten(x), "float64", same).rasters()
    assert {1, 2} <= set(rasters.layer.tolist())


def test_other_simulators_take_square_convolutions(tmp_path):
    """The package checks shapes when it reads, by rules of its own."""
    weight = np.random.default_rng(1).random(size=(2, 1, 3, 3))
    network = ns.Network(
        layers=[
            Conv2D(weight=weight, bias=[0, 0], activation=Activation("relu")),
            AveragePool2D(size=2), Flatten(),
            Dense(weight=np.ones((2, 8)), bias=[0, 0], activation=Activation("relu")),
        ],
        input_shape=(1, 6, 6),
    )  # fmt: skip
    model = ns.SpikingModel(**TIMES).calibrated(network, np.ones((1, 1, 6, 6)))
    ns.save_nir(network, model, tmp_path / "n.nir")
    assert len(nir.read(tmp_path / "n.nir", type_check=True).nodes) == 8


def test_sums_over_windows_are_means_times_their_size(tmp_path):
    pool = {"kernel_size": np.array([2, 2]), "stride": np.array([2, 2]),
            "padding": np.array([0, 0])}  # fmt: skip
    weight = rng.normal(size=(5, 8))
    found = []
    for factor, kind in ((1.0, nir.SumPool2d), (4.0, nir.AvgPool2d)):
        nodes = {"pool": kind(**pool), "flat": nir.Flatten({"input": np.array([2, 2, 2])}, 0),
                 "w": nir.Linear(factor * weight), "n": neurons("IF", 5)}  # fmt: skip
        nir.write(tmp_path / "s.nir", graph_of(nodes, n_in=[2, 4, 4]))
        found += [ns.load_nir(tmp_path / "s.nir", unroll=u, **TIMES)[0] for u in (True, False)]
    x = rng.normal(size=(3, 2, 4, 4))
    summed = x.reshape(3, 2, 2, 2, 2, 2).sum(axis=(3, 5)).reshape(3, -1)
    expected = np.maximum(summed @ weight.T * (1e-3 * 900 / 0.7), 0)
    for network in found:
        np.testing.assert_allclose(network(x), expected, rtol=1e-12)


def test_neurons_of_a_channel_that_differ_need_matrices(tmp_path):
    node = nir.Conv2d(input_shape=(4, 4), weight=np.ones((1, 1, 3, 3)), bias=np.zeros(1),
                      stride=1, padding=0, dilation=1, groups=1)  # fmt: skip
    threshold = np.arange(1.0, 5.0).reshape(1, 2, 2)
    nodes = {"conv": node, "n": nir.IF(r=np.ones((1, 2, 2)), v_threshold=threshold)}
    nir.write(tmp_path / "d.nir", graph_of(nodes, n_in=[1, 4, 4], n_out=4))
    network, _ = ns.load_nir(tmp_path / "d.nir", **TIMES)
    x = np.ones((1, 1, 4, 4))
    np.testing.assert_allclose(network(x)[0], 9e-3 / np.arange(1, 5))
    with pytest.raises(FormatError, match="node n: expected neurons that are alike within a chan"):
        ns.load_nir(tmp_path / "d.nir", unroll=False, **TIMES)


def unwritable():
    rng = np.random.default_rng(6)
    relu = Activation("relu")

    def conv(**options):
        return Conv2D(weight=rng.normal(size=(1, 1, 2, 2)), bias=[0], activation=relu, **options)

    yield [conv(padding=((0, 1), (0, 0)))], "layer 1: expected as much padding before as after"
    yield [conv(), MaxPool2D(size=2)], "node 2: expected an average pool or a flatten, got MaxPool"
    yield [conv(), AveragePool2D(size=2, padding=1, count_padding=False)], "node 2: expected padd"
    yield [conv(), AveragePool2D(size=2, padding=((0, 1), (0, 0)))], "node 2: expected a pool with"
    yield [conv(), Transpose(axes=(0, 2, 1))], "node 2: .* got Transpose, for which NIR has no node"
    yield [conv(), Affine(scale=2.0)], "node 2: .* got Affine, for which NIR has no node"


@pytest.mark.parametrize(("layers", "why"), list(unwritable()))
def test_layers_that_nir_does_not_have_are_refused(tmp_path, layers, why):
    network = ns.Network(layers=[*layers, Flatten()], input_shape=(1, 5, 5))
    model = ns.SpikingModel(**TIMES).calibrated(network, np.ones((1, 1, 5, 5)))
    with pytest.raises(InputError, match=why):
        ns.save_nir(network, model, tmp_path / "n.nir")


def test_branches_are_not_written(tmp_path):
    relu = Activation("relu")
    network = ns.Network(
        nodes=[
            Node(Dense(weight=np.eye(2), bias=[0, 0], activation=relu), (0,)), Node(Add(), (0, 1)),
            Node(Dense(weight=np.eye(2), bias=[0, 0], activation=relu), (2,)),
        ],
        input_shape=(2,),
    )  # fmt: skip
    model = ns.SpikingModel(**TIMES).calibrated(network, np.ones((1, 2)))
    with pytest.raises(InputError, match=r"node 2: expected what the node before it sends"):
        ns.save_nir(network, model, tmp_path / "n.nir")


def test_graphs_without_weights_are_refused(tmp_path):
    flat = nir.Flatten({"input": np.array([2, 4, 4])}, 0)
    pool = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    for nodes, why in (
        ({"flat": flat}, "expected weights after the Input, got none"),
        ({"pool": pool, "flat": flat}, "node flat: expected weights after it, got the Output"),
        ({"pool": pool, "n": neurons("IF", 8)}, "node n: expected weights before neurons, got IF"),
        ({"w": nir.Linear(np.ones((8, 32))), "pool": pool}, "node pool: expected neurons"),
        (
            {"pool": nir.AvgPool2d(np.array([9, 9]), np.array([1, 1]), np.array([0, 0])),
             "w": nir.Linear(np.ones((8, 32)))},
            "node pool: kernel: expected one within the padded map",
        ),
    ):  # fmt: skip
        nir.write(tmp_path / "g.nir", graph_of(nodes, n_in=[2, 4, 4], n_out=8))
        with pytest.raises(FormatError, match=why):
            ns.load_nir(tmp_path / "g.nir", **TIMES)


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ({"w": nir.Linear(WEIGHTS[0]), "d": nir.Delay(np.ones(8))}, "node d: expected one of"),
        ({"n": neurons("IF", 6)}, "expected weights after the Input"),
        ({"w": nir.Linear(WEIGHTS[1])}, "node w: expected weights for 6 inputs"),
        ({"w": nir.Linear(WEIGHTS[0]), "v": nir.Linear(WEIGHTS[1])}, "node v: expected neurons"),
        (
            {
                "w": nir.Linear(WEIGHTS[0]),
                "n": neurons("LIF", 8, tau=0.02),
                "v": nir.Linear(WEIGHTS[1]),
                "m": neurons("LIF", 5, tau=0.03),
            },
            "node m: expected neurons of one kind with the same time constants",
        ),
        (
            {"w": nir.Affine(WEIGHTS[0], np.ones(8)), "n": neurons("CubaLIF", 8)},
            "expected no bias before CubaLIF",
        ),
        (
            {"w": nir.Linear(WEIGHTS[0]), "n": neurons("LIF", 8, tau=np.linspace(1, 2, 8))},
            "expected the same tau for all neurons",
        ),
        (
            {"w": nir.Linear(WEIGHTS[0]), "n": nir.IF(np.ones(8), np.ones(8), np.ones(8))},
            "expected v_reset 0",
        ),
        ({"w": nir.Linear(WEIGHTS[0]), "n": neurons("LIF", 8, tau=1e-4)}, "more than the time st"),
        ({"w": nir.Linear(WEIGHTS[0]), "n": neurons("LIF", 8, tau=0.0)}, "expected tau above 0"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(tmp_path, nodes, why):
    nir.write(tmp_path / "g.nir", graph_of(nodes))
    with pytest.raises(FormatError, match=why):
        ns.load_nir(tmp_path / "g.nir", **TIMES)


def rewritten(path, node, changes):
    """A graph of IF neurons with values of one node replaced; None takes them away."""
    nir.write(path, network_graph("LIF", [np.zeros(8), np.zeros(5)]))
    with h5py.File(path, "r+") as file:
        group = file[f"node/nodes/{node}"]
        for key, value in changes.items():
            del group[key]
            if value is not None:
                group[key] = value
    return path


@pytest.mark.parametrize(
    ("node", "changes", "why"),
    [
        ("n1", {"v_threshold": np.array([b"x"] * 8)}, "node n1: v_threshold: expected real"),
        (
            "w1",
            {"weight": WEIGHTS[0] * 1j},
            "node w1: weight: expected real numbers, got .* complex",
        ),
        ("n1", {"r": np.ones(5)}, "node n1: expected a node of NIR, got LIF that it cannot read"),
        ("n2", {"tau": None}, "node n2: expected a node of NIR, got LIF .* argument: 'tau'"),
        ("n2", {"type": None}, "node n2: .* got a node without type"),
        ("n2", {"type": b"LIFX"}, "node n2: .* got LIFX"),
        ("n1", {"r": np.full(8, np.nan)}, "node n1: r: expected finite numbers, got nan among 8"),
        ("w2", {"weight": np.full((5, 8), np.inf)}, "node w2: weight: expected finite numbers"),
        ("w2", {"weight": np.zeros((0, 8))}, "node w2: weight: expected finite numbers, got none"),
        ("w2", {"weight": np.ones(8)}, "node w2: .* got Affine that it cannot read"),
        ("w2", {"bias": np.ones((5, 1))}, "node w2: bias: expected one axis"),
        ("input", {"shape": None}, "node input: .* KeyError: 'shape'"),
    ],
)
def test_a_damaged_node_is_named(tmp_path, node, changes, why):
    with pytest.raises(FormatError, match=why) as raised:
        ns.load_nir(rewritten(tmp_path / "g.nir", node, changes), **TIMES)
    assert "\n" not in str(raised.value)


def conv_graph(**changes):
    conv = nir.Conv2d((6, 6), np.ones((4, 2, 3, 3)), 1, 0, 1, 1, np.zeros(4))
    for key, value in changes.items():
        setattr(conv, key, value)
    pool = nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
    return {"w": conv, "n": neurons("IF", 64), "p": pool}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"weight": np.ones((4, 2, 3))}, r"node w: weight: expected axes \(channels_out"),
        ({"stride": np.array([1, 2, 3])}, "node w: stride: expected a whole number, or two"),
        ({"dilation": 0}, "node w: dilation: expected a whole number from 1"),
        ({"groups": 3}, "node w: groups: expected a divisor"),
    ],
)
def test_convolutions_that_cannot_be_are_named(tmp_path, changes, why):
    nodes = {**conv_graph(**changes), "v": nir.Linear(np.ones((5, 16)))}
    nir.write(tmp_path / "g.nir", graph_of(nodes, n_in=[2, 6, 6]))
    with pytest.raises(FormatError, match=why):
        ns.load_nir(tmp_path / "g.nir", **TIMES)


def test_pools_of_three_numbers_are_named(tmp_path):
    nodes = {**conv_graph(), "v": nir.Linear(np.ones((5, 16)))}
    nodes["p"].kernel_size = np.array([2, 2, 2])
    nir.write(tmp_path / "g.nir", graph_of(nodes, n_in=[2, 6, 6]))
    with pytest.raises(FormatError, match="node p: kernel_size: expected a whole number, or two"):
        ns.load_nir(tmp_path / "g.nir", **TIMES)


@pytest.mark.parametrize(("start", "end"), [(0, -1), (1, -1), (0, 2), (-3, -1)])
def test_a_flatten_joins_all_axes(tmp_path, start, end):
    weight = rng.normal(size=(5, 24))
    flatten = nir.Flatten({"input": np.array([2, 3, 4])}, 0)
    flatten.start_dim, flatten.end_dim = start, end
    nodes = {"f": flatten, "w": nir.Linear(weight), "n": neurons("IF", 5)}
    nir.write(tmp_path / "g.nir", graph_of(nodes, n_in=[2, 3, 4]))
    network, _ = ns.load_nir(tmp_path / "g.nir", **TIMES)
    np.testing.assert_allclose(network.layers[0].weight, 1e-3 * 900 / 0.7 * weight)


@pytest.mark.parametrize(("start", "end"), [(2, -1), (0, 1), (5, -1)])
def test_a_flatten_of_some_axes_is_refused(tmp_path, start, end):
    flatten = nir.Flatten({"input": np.array([2, 3, 4])}, 0)
    flatten.start_dim, flatten.end_dim = start, end
    nodes = {"f": flatten, "w": nir.Linear(np.ones((5, 24))), "n": neurons("IF", 5)}
    nir.write(tmp_path / "g.nir", graph_of(nodes, n_in=[2, 3, 4]))
    with pytest.raises(FormatError, match="node f: expected a flatten of all axes"):
        ns.load_nir(tmp_path / "g.nir", **TIMES)


@pytest.mark.parametrize("unroll", [True, False])
def test_scales_are_factors_of_weights(tmp_path, unroll):
    kernel = rng.normal(size=(4, 2, 3, 3))
    before, rows = rng.normal(size=(2, 6, 6)), np.repeat(rng.normal(size=4), 16)
    weight, between = rng.normal(size=(5, 64)), rng.normal(size=64)
    conv = nir.Conv2d((6, 6), kernel, 1, 0, 1, 1, rng.normal(size=4))
    nodes = {"s": nir.Scale(before), "c": conv, "t": nir.Scale(rows.reshape(4, 4, 4))}
    nodes |= {"n": neurons("IF", 64), "u": nir.Scale(between), "w": nir.Linear(weight)}
    nodes |= {"x": nir.Scale(np.arange(1.0, 6)), "m": neurons("IF", 5)}
    nir.write(tmp_path / "g.nir", graph_of(nodes, n_in=[2, 6, 6]))
    network, _ = ns.load_nir(tmp_path / "g.nir", **TIMES, unroll=unroll)
    x = rng.random((3, 2, 6, 6))
    y = Conv2D(weight=kernel, bias=conv.bias).preactivation(x * before).reshape(3, -1) * rows
    y = np.maximum(1e-3 * 900 / 0.7 * y, 0)
    expected = np.maximum(1e-3 * 900 / 0.7 * ((y * between) @ weight.T) * np.arange(1, 6), 0)
    np.testing.assert_allclose(network(x.reshape(3, -1) if unroll else x), expected, atol=1e-12)


def test_scales_that_do_not_fit_are_named(tmp_path):
    scale = nir.Scale(np.ones(7))
    for nodes in (
        {"s": scale, "w": nir.Linear(WEIGHTS[0]), "n": neurons("IF", 8)},
        {"w": nir.Linear(WEIGHTS[0]), "s": scale, "n": neurons("IF", 8)},
    ):
        nir.write(tmp_path / "g.nir", graph_of(nodes))
        with pytest.raises(FormatError, match=r"node s: .*got 7"):
            ns.load_nir(tmp_path / "g.nir", **TIMES)


def test_a_graph_inside_a_graph_is_refused(tmp_path):
    inner = graph_of({"k": neurons("IF", 8)}, n_in=8, n_out=8)
    nir.write(tmp_path / "g.nir", graph_of({"w": nir.Linear(WEIGHTS[0]), "g": inner}, n_out=8))
    with pytest.raises(FormatError, match=r"node g: .* put the nodes of the inner graph into"):
        ns.load_nir(tmp_path / "g.nir", **TIMES)


def test_what_is_no_path_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"path: expected the path of a .*, got None"):
        ns.load_nir(None, **TIMES)
    with pytest.raises(FormatError, match="got a folder"):
        ns.load_nir(tmp_path, **TIMES)


def test_recurrent_graphs_and_foreign_files_are_refused(tmp_path):
    graph = network_graph("IF", [np.zeros(8), np.zeros(5)])
    graph.edges.append(("n1", "w1"))
    nir.write(tmp_path / "r.nir", graph)
    with pytest.raises(FormatError, match="recurrent and branching"):
        ns.load_nir(tmp_path / "r.nir", **TIMES)
    for edges, why in (
        ([("input", "w1"), ("w1", "n1"), ("n1", "w1"), ("n2", "output")], "one before and one"),
        (
            [("input", "w1"), ("w1", "n1"), ("w2", "n2")],
            "node n1: expected an edge to the node aft",
        ),
        ([("input", "w1"), ("n1", "w1")], "an edge to w1, which has others from n1"),
        ([("input", "w1"), ("w1", "input")], "node input: expected a chain, got a cycle"),
        ([("input", "w1"), ("w1", "nowhere")], "expected edges between nodes, got one to 'nowh"),
        (
            [("input", "w1"), ("w1", "n1"), ("n1", "output")],
            "got others that no edge joins to them: n2, w2",
        ),
    ):
        graph = network_graph("IF", [np.zeros(8), np.zeros(5)])
        with pytest.raises(FormatError, match=why):
            _chain(tmp_path / "c.nir", SimpleNamespace(nodes=graph.nodes, edges=edges))
    with pytest.raises(FormatError, match="got nothing there"):
        ns.load_nir(tmp_path / "none.nir", **TIMES)
    (tmp_path / "t.nir").write_text("text")
    with pytest.raises(FormatError, match="expected a NIR file, got"):
        ns.load_nir(tmp_path / "t.nir", **TIMES)


@pytest.mark.parametrize(
    ("activation", "options", "why"),
    [
        ("tanh", {}, "layer 2: expected relu, got tanh"),
        ("relu", {"scales": None}, "model: expected scales"),
        ("relu", {"refractory_s": 2e-3}, "NIR has no refractory"),
        ("relu", {"synaptic_time_constant_s": 5e-3}, "layer 1: expected no bias"),
    ],
)
def test_what_nir_cannot_represent_is_not_written(tmp_path, activation, options, why):
    network = ns.Network.dense(
        weights=WEIGHTS, biases=[np.ones(8), np.zeros(5)], activations=["relu", activation]
    )
    model = ns.SpikingModel(**{**TIMES, "scales": (1.0, 1.0, 1.0), **options})
    with pytest.raises(InputError, match=why):
        ns.save_nir(network, model, tmp_path / "n.nir")


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated:DeprecationWarning")
def test_norse_gives_the_same_spikes(tmp_path):
    # Norse computes in single precision: a spike within rounding of its threshold may move.
    torch = pytest.importorskip("torch")
    norse = pytest.importorskip("norse")
    network = ns.Network.dense(
        weights=WEIGHTS, biases=[0.1 * np.ones(8), np.ones(5) / 9], activations=["relu", "relu"]
    )
    model = ns.SpikingModel(
        **{**TIMES, "duration_s": 0.5}, neuron="lif", membrane_time_constant_s=0.02, reset="zero"
    ).calibrated(network, INPUTS)
    ns.save_nir(network, model, tmp_path / "n.nir")
    theirs = norse.torch.from_nir(nir.read(tmp_path / "n.nir"), dt=model.time_step_s)
    rasters = compiled_backend(network, INPUTS, "float64", model).rasters()
    for x in range(3):
        state, expected = None, []
        with torch.no_grad():
            for _ in range(model.n_steps):
                spikes, state = theirs(torch.tensor(INPUTS[x : x + 1], dtype=torch.float32), state)
                expected.append(spikes[0].numpy())
        here = (rasters.presentation == x) & (rasters.layer == 2)
        ours = np.zeros((model.n_steps, 5))
        ours[rasters.step[here], rasters.unit[here]] = 1
        # A spike takes one step to the next layer here, none there.
        expected = np.array(expected)
        assert expected.sum() > 20
        assert (ours[1:] != expected[:-1]).sum() <= 0.02 * expected.sum()
        # It could have seen spikes that are one step off.
        assert (ours[:-1] != expected[:-1]).sum() > 0.5 * expected.sum()
