"""Spiking networks as NIR graphs, the exchange format of spiking simulators and chips.

Pedersen et al., "Neuromorphic intermediate representation: a unified instruction set for
interoperable brain-inspired computing", Nature Communications 15:8122, 2024. The package nir is
loaded when it is first needed.
"""

from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.errors import FormatError, InputError
from neurosim.layers import Activation, Array, Dense
from neurosim.network import Network
from neurosim.spiking_model import Reset, SpikingModel

__all__ = ["load_nir", "save_nir"]

_WEIGHTS = ("Affine", "Linear", "Conv2d")
_NEURONS = ("IF", "LIF", "CubaLIF")


def load_nir(
    path: str | PathLike[str],
    *,
    duration_s: float,
    time_step_s: float,
    reset: Reset | None = None,
) -> tuple[Network, SpikingModel]:
    """Read a NIR graph as a network and the spiking model that runs it.

    A chain of Affine, Linear or Conv2d nodes (Flatten between them), each followed by IF, LIF or
    CubaLIF neurons; a last one without neurons is read out by membrane. A convolution becomes a
    matrix. Currents act in one time step, as NIR's simulators have it: v grows by
    (dt / tau) (v_leak - v + R I), that of an IF neuron by dt R I.

    Parameters
    ----------
    path : str or path-like
    duration_s, time_step_s : float
        Of a presentation, in seconds: NIR has neither.
    reset : "zero" or "subtract", optional
        NIR resets to a voltage, which must be 0 here ("zero", the default). A graph that `save_nir`
        wrote says in its metadata whether it subtracts instead.

    Returns
    -------
    network : Network
        Weights in shares of the threshold.
    model : SpikingModel

    Raises
    ------
    FormatError
        If the file is missing or foreign, or has a node that neurosim cannot run; it is named.

    Examples
    --------
    >>> network, model = load_nir("net.nir", duration_s=0.1, time_step_s=1e-3)  # doctest: +SKIP
    """
    import nir

    source = Path(path)
    if not source.is_file():
        raise FormatError(f"{source}: expected a NIR file, got nothing there")
    try:
        # Shapes are checked below, with messages that name the node.
        graph = nir.read(source, type_check=False)
    except Exception as error:  # h5py, KeyError, ValueError or TypeError, by what is wrong
        raise FormatError(
            f"{source}: expected a NIR file, got {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    chain, shape = _chain(source, graph)
    found: dict[str, float] = {}
    layers = []
    input_shape = shape
    while chain:
        name, node = chain.pop(0)
        kind = type(node).__name__
        if kind == "Flatten":
            shape = (int(np.prod(shape)),)
            continue
        if kind not in _WEIGHTS:
            raise FormatError(f"{source}: node {name}: expected weights before neurons, got {kind}")
        weight, bias, shape = _weights(source, name, node, shape)
        if not chain:
            layers.append(Dense(weight=weight, bias=bias, activation=Activation("identity")))
            break
        while chain and type(chain[0][1]).__name__ == "Flatten":
            chain.pop(0)
            shape = (int(np.prod(shape)),)
        name, neurons = chain.pop(0) if chain else (name, node)
        if type(neurons).__name__ not in _NEURONS:
            raise FormatError(
                f"{source}: node {name}: expected neurons ({', '.join(_NEURONS)}) after weights, "
                f"got {type(neurons).__name__}"
            )
        scale, shift = _neurons(source, name, neurons, time_step_s, found)
        if "tau_syn" in found and bias.any():
            raise FormatError(
                f"{source}: node {name}: expected no bias before CubaLIF neurons, got one: biases "
                "here act on the membrane, not through the synapse"
            )
        layers.append(
            Dense(
                weight=weight * scale[:, None],
                bias=bias * scale + shift,
                activation=Activation("relu"),
            )
        )
    wanted = reset or ("subtract" if graph.metadata.get("reset") == "subtract" else "zero")
    try:
        network = Network(layers=tuple(layers), input_shape=input_shape)
        model = SpikingModel(
            duration_s=duration_s,
            time_step_s=time_step_s,
            neuron="lif" if found.get("tau_mem") else "if",
            membrane_time_constant_s=found.get("tau_mem") or None,
            synaptic_time_constant_s=found.get("tau_syn"),
            reset=wanted,
            coding="regular" if "tau_syn" in found else "current",
            readout="membrane" if str(layers[-1].activation) == "identity" else "count",
            scales=(1.0,) * (len(layers) + 1),
        )
    except InputError as error:
        raise FormatError(f"{source}: {error}") from error
    return network, model


def _chain(source: Path, graph: Any) -> tuple[list[tuple[str, Any]], tuple[int, ...]]:
    """Nodes between Input and Output in their order, and the shape of an input."""
    ends = {"Input": [], "Output": []}  # type: dict[str, list[str]]
    for name, node in graph.nodes.items():
        kind = type(node).__name__
        if kind in ends:
            ends[kind].append(name)
        elif kind not in (*_WEIGHTS, *_NEURONS, "Flatten"):
            known = ", ".join(("Input", "Output", "Flatten", *_WEIGHTS, *_NEURONS))
            raise FormatError(f"{source}: node {name}: expected one of {known}, got {kind}")
    if [len(names) for names in ends.values()] != [1, 1]:
        raise FormatError(
            f"{source}: expected one Input and one Output, got {len(ends['Input'])} and "
            f"{len(ends['Output'])}"
        )
    edges = [(str(a), str(b)) for a, b in graph.edges]
    name, chain = ends["Input"][0], []
    while True:
        after = [b for a, b in edges if a == name]
        if len(after) != 1 or len([a for a, b in edges if b == after[0]]) != 1:
            raise FormatError(
                f"{source}: node {name}: expected a chain, every node with one before and one "
                f"after it, got edges to {', '.join(after) or 'nothing'}; recurrent and branching "
                "networks cannot be run"
            )
        name = after[0]
        if name == ends["Output"][0]:
            break
        chain.append((name, graph.nodes[name]))
    if not chain or type(chain[0][1]).__name__ in _NEURONS:
        raise FormatError(f"{source}: expected weights after the Input, got {chain[:1] or 'none'}")
    shape = next(iter(graph.nodes[ends["Input"][0]].input_type.values()))
    return chain, tuple(int(n) for n in shape)


def _weights(
    source: Path, name: str, node: Any, shape: tuple[int, ...]
) -> tuple[Array, Array, tuple[int, ...]]:
    """Matrix (n_out, n_in) and bias of a node, and the shape of its output."""
    weight = np.asarray(node.weight, np.float64)
    if type(node).__name__ == "Conv2d":
        return _convolution(source, name, node, weight, shape)
    if weight.ndim != 2 or weight.shape[1] != int(np.prod(shape)):
        raise FormatError(
            f"{source}: node {name}: expected weights for {int(np.prod(shape))} inputs, "
            f"got shape {weight.shape}"
        )
    bias = np.asarray(getattr(node, "bias", np.zeros(len(weight))), np.float64)
    return weight, bias, (len(weight),)


def _convolution(
    source: Path, name: str, node: Any, weight: Array, shape: tuple[int, ...]
) -> tuple[Array, Array, tuple[int, ...]]:
    """A convolution as a matrix: one row for each place of each output channel."""
    if len(shape) != 3 or shape[0] != weight.shape[1] * node.groups:
        raise FormatError(
            f"{source}: node {name}: expected an input of {weight.shape[1] * node.groups} channels "
            f"x height x width, got shape {shape}"
        )
    size = np.array(weight.shape[2:])
    stride, dilation = (np.broadcast_to(np.asarray(n), 2) for n in (node.stride, node.dilation))
    reach = dilation * (size - 1)
    if isinstance(node.padding, str):
        before = reach // 2 if node.padding == "same" else np.zeros(2, np.int64)
        total = reach if node.padding == "same" else np.zeros(2, np.int64)
    else:
        before = np.broadcast_to(np.asarray(node.padding), 2)
        total = 2 * before
    height, width = (int(n) for n in (np.array(shape[1:]) + total - reach - 1) // stride + 1)
    if min(height, width) < 1:
        raise FormatError(f"{source}: node {name}: expected inputs as large as the kernel")
    matrix = np.zeros((len(weight), height, width, *shape))
    per_group = len(weight) // node.groups
    rows, columns = np.arange(height), np.arange(width)
    for out in range(len(weight)):
        channels = np.arange(weight.shape[1]) + out // per_group * weight.shape[1]
        for i, j in np.ndindex(*weight.shape[2:]):
            y = rows * stride[0] - before[0] + i * dilation[0]
            x = columns * stride[1] - before[1] + j * dilation[1]
            for row in rows[(y >= 0) & (y < shape[1])]:
                for column in columns[(x >= 0) & (x < shape[2])]:
                    matrix[out, row, column, channels, y[row], x[column]] = weight[out, :, i, j]
    bias = np.repeat(np.asarray(node.bias, np.float64), height * width)
    flat = matrix.reshape(len(weight) * height * width, -1)
    return flat, bias, (len(weight), height, width)


def _neurons(
    source: Path, name: str, node: Any, dt: float, found: dict[str, float]
) -> tuple[Array, Array]:
    """Factor from weights to shares of the threshold in one step, and what v_leak adds in one.

    found: the time constants of the graph so far, which all of its neurons must share.
    """

    def values(key: str) -> Array:
        return np.asarray(getattr(node, key), np.float64).ravel()

    kind = type(node).__name__
    constants = {"tau_mem": 0.0}
    if kind == "LIF":
        constants["tau_mem"] = _common(source, name, "tau", values("tau"))
    elif kind == "CubaLIF":
        constants["tau_mem"] = _common(source, name, "tau_mem", values("tau_mem"))
        constants["tau_syn"] = _common(source, name, "tau_syn", values("tau_syn"))
    if found and found != constants:
        raise FormatError(
            f"{source}: node {name}: expected neurons of one kind with the same time constants in "
            f"all layers, got {kind} with {constants} after {found}"
        )
    found.update(constants)
    threshold = values("v_threshold")
    if not (threshold > 0).all():
        raise FormatError(f"{source}: node {name}: expected v_threshold above 0")
    if values("v_reset").any():
        raise FormatError(f"{source}: node {name}: expected v_reset 0, got another voltage")
    share = dt / constants["tau_mem"] if constants["tau_mem"] else dt
    leak = values("v_leak") if kind != "IF" else np.zeros_like(threshold)
    gain = values("w_in") if kind == "CubaLIF" else 1.0
    return share * values("r") * gain / threshold, share * leak / threshold


def _common(source: Path, name: str, key: str, values: Array) -> float:
    if not np.allclose(values, values[0], rtol=1e-6, atol=0):
        raise FormatError(
            f"{source}: node {name}: expected the same {key} for all neurons, "
            f"got {values.min():g} to {values.max():g} s"
        )
    return float(values[0])


def save_nir(network: Network, model: SpikingModel, path: str | PathLike[str]) -> None:
    """Write a network with its spiking model as a NIR graph.

    Weights are those of the spikes, scaled by `model.scales`. Time steps, coding of inputs and
    ticks have no place in NIR; that a reset subtracts is written as metadata.

    Parameters
    ----------
    network : Network
        With relu layers; the last one may be an identity that is read out by membrane.
    model : SpikingModel
        With scales (`SpikingModel.calibrated`).
    path : str or path-like

    Raises
    ------
    InputError
        If NIR cannot represent the two, with the reason.

    Examples
    --------
    >>> save_nir(network, model.calibrated(network, inputs), "net.nir")  # doctest: +SKIP
    """
    import nir

    if model.scales is None or len(model.scales) != network.depth + 1:
        raise InputError(
            "model: expected scales for every layer, got "
            f"{model.scales!r}; use model.calibrated(network, inputs)"
        )
    network.require_chain("a NIR graph")
    if model.refractory_steps > 1:
        raise InputError("refractory_s: expected none, for NIR has no refractory neurons")
    theta, rate = model.threshold_v, model.largest_rate
    leak = (model.membrane_time_constant_s or 1.0) / model.time_step_s
    nodes: dict[str, Any] = {"input": nir.Input({"input": np.array([network.widths[0]])})}
    for number, layer in enumerate(network.layers, start=1):
        last = number == network.depth and model.readout == "membrane"
        kind = layer.activation.kind
        if kind != ("identity" if last else "relu"):
            raise InputError(
                f"layer {number}: expected {'identity' if last else 'relu'}, got "
                f"{layer.activation}: NIR has no neurons with other functions"
            )
        if model.synaptic_time_constant_s is not None and layer.bias.any() and not last:
            raise InputError(
                f"layer {number}: expected no bias with synaptic currents, got one: NIR would "
                "filter it"
            )
        # Other simulators want resistances of 1: weights make up for the time constants.
        to = 1.0 if last else theta * rate / model.scales[number] * leak
        of = model.scales[number - 1] / rate
        if number == 1 and model.coding == "current":
            of = 1.0
        nodes[f"weights_{number}"] = nir.Affine(
            weight=layer.weight.astype(np.float64) * (to * of),
            bias=layer.bias.astype(np.float64) * to,
        )
        if not last:
            nodes[f"neurons_{number}"] = _nir_neurons(model, layer.n_out)
    nodes["output"] = nir.Output({"output": np.array([network.widths[-1]])})
    names = list(nodes)
    graph = nir.NIRGraph(
        nodes=nodes,
        edges=list(pairwise(names)),
        metadata={"reset": model.reset},
    )
    try:
        nir.write(Path(path), graph)
    except OSError as error:
        raise InputError(f"path: expected one that can be written, got {error}") from error


def _nir_neurons(model: SpikingModel, n: int) -> Any:
    """Neurons of one layer, with resistances of 1."""
    import nir

    one = np.ones(n)
    threshold = {"v_threshold": model.threshold_v * one, "v_reset": 0 * one}
    tau, synaptic = model.membrane_time_constant_s, model.synaptic_time_constant_s
    if synaptic is not None:
        if tau is None:
            raise InputError('neuron: expected "lif" with synaptic currents, for NIR has CubaLIF')
        return nir.CubaLIF(
            tau_syn=synaptic * one,
            tau_mem=tau * one,
            r=one,
            v_leak=0 * one,
            w_in=one,
            **threshold,
        )
    if tau is not None:
        return nir.LIF(tau=tau * one, r=one, v_leak=0 * one, **threshold)
    return nir.IF(r=one, **threshold)
