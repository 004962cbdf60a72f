from itertools import pairwise

import nir
import numpy as np
import pytest

import neurosim as ns
from neurosim.backends.spiking import compiled_backend
from neurosim.errors import FormatError, InputError

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
    ],
)
def test_what_cannot_be_run_is_refused_by_name(tmp_path, nodes, why):
    nir.write(tmp_path / "g.nir", graph_of(nodes))
    with pytest.raises(FormatError, match=why):
        ns.load_nir(tmp_path / "g.nir", **TIMES)


def test_recurrent_graphs_and_foreign_files_are_refused(tmp_path):
    graph = network_graph("IF", [np.zeros(8), np.zeros(5)])
    graph.edges.append(("n1", "w1"))
    nir.write(tmp_path / "r.nir", graph)
    with pytest.raises(FormatError, match="recurrent and branching"):
        ns.load_nir(tmp_path / "r.nir", **TIMES)
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
