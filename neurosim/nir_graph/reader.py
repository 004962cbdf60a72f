"""Spiking networks read from NIR graphs; the package nir is loaded when it is first needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.errors import FormatError, InputError, path_of
from neurosim.layers import (
    Activation,
    Array,
    AveragePool2D,
    Conv2D,
    Dense,
    Flatten,
    Layer,
    Shape,
    Weighted,
)
from neurosim.network import Network
from neurosim.spiking_model import Reset, SpikingModel

__all__ = ["load_nir"]

_WEIGHTS = ("Affine", "Linear", "Conv2d")
_POOLS = ("AvgPool2d", "SumPool2d")
_NEURONS = ("IF", "LIF", "CubaLIF")


def load_nir(
    path: str | PathLike[str],
    *,
    duration_s: float,
    time_step_s: float,
    reset: Reset | None = None,
    unroll: bool = True,
) -> tuple[Network, SpikingModel]:
    """Read a NIR graph as a network and the spiking model that runs it.

    A chain of Affine, Linear or Conv2d nodes, each followed by IF, LIF or CubaLIF neurons, with
    Flatten, AvgPool2d and SumPool2d in front of the weights; a last one without neurons is read out
    by membrane. Currents act in one time step, as NIR's simulators have it: v grows by
    (dt / tau) (v_leak - v + R I), that of an IF neuron by dt R I.

    Parameters
    ----------
    path : str or path-like
    duration_s, time_step_s : float
        Of a presentation, in seconds: NIR has neither.
    reset : "zero" or "subtract", optional
        NIR resets to a voltage, which must be 0 here ("zero", the default). A graph that `save_nir`
        wrote says in its metadata whether it subtracts instead.
    unroll : bool
        True: convolutions, with the pools before them, become matrices, which spiking backends run.
        False: they stay layers, for deployments and campaigns without spikes and for `save_nir`;
        the neurons of a channel must then be alike.

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

    source = path_of(path)
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
    chain, input_shape = _chain(source, graph)
    found: dict[str, float] = {}
    layers = _layers(source, chain, input_shape, time_step_s, unroll, found)
    weighted = [layer for layer in layers if isinstance(layer, Weighted)]
    if not weighted:
        raise FormatError(f"{source}: expected weights after the Input, got none")
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
            readout="membrane" if weighted[-1].activation.kind == "identity" else "count",
            scales=(1.0,) * (len(weighted) + 1),
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
        elif kind not in (*_WEIGHTS, *_POOLS, *_NEURONS, "Flatten"):
            known = ", ".join(("Input", "Output", "Flatten", *_POOLS, *_WEIGHTS, *_NEURONS))
            raise FormatError(f"{source}: node {name}: expected one of {known}, got {kind}")
    if [len(names) for names in ends.values()] != [1, 1]:
        raise FormatError(
            f"{source}: expected one Input and one Output, got {len(ends['Input'])} and "
            f"{len(ends['Output'])}"
        )
    edges = [(str(a), str(b)) for a, b in graph.edges]
    name = ends["Input"][0]
    chain: list[tuple[str, Any]] = []
    while True:
        after = [b for a, b in edges if a == name]
        if len(after) != 1 or len([a for a, b in edges if b == after[0]]) != 1:
            raise FormatError(
                f"{source}: node {name}: expected a chain, every node with one before and one "
                f"after it, got edges to {', '.join(after) or 'nothing'}; recurrent and branching "
                "networks cannot be run"
            )
        name = after[0]
        if name not in graph.nodes:
            raise FormatError(f"{source}: expected edges between nodes, got one to {name!r}")
        if name == ends["Input"][0] or any(name == known for known, _ in chain):
            raise FormatError(
                f"{source}: node {name}: expected a chain, got a cycle; recurrent networks cannot "
                "be run"
            )
        if name == ends["Output"][0]:
            break
        chain.append((name, graph.nodes[name]))
    beside = (
        set(graph.nodes) - {known for known, _ in chain} - {names[0] for names in ends.values()}
    )
    if beside:
        raise FormatError(
            f"{source}: expected nodes between Input and Output only, got others: "
            + ", ".join(sorted(map(str, beside))[:5])
        )
    if not chain or type(chain[0][1]).__name__ in _NEURONS:
        raise FormatError(f"{source}: expected weights after the Input, got {chain[:1] or 'none'}")
    shape = next(iter(graph.nodes[ends["Input"][0]].input_type.values()))
    return chain, tuple(int(n) for n in shape)


def _layers(
    source: Path,
    chain: list[tuple[str, Any]],
    shape: Shape,
    dt: float,
    unroll: bool,
    found: dict[str, float],
) -> list[Layer]:
    """The layers of a chain of nodes; found: the time constants of its neurons."""
    layers: list[Layer] = []
    while chain:
        before: list[Layer] = []
        after: list[Layer] = []
        start, factor = shape, 1.0
        while chain and type(chain[0][1]).__name__ in ("Flatten", *_POOLS):
            name, node = chain.pop(0)
            with _naming(source, name):
                layer, sums = _without_weights(node)
                before.append(layer)
                shape, factor = layer.output_shape(shape), factor * sums
        if not chain:
            if any(isinstance(layer, AveragePool2D) for layer in before):
                raise FormatError(f"{source}: expected weights after pools, got the Output")
            layers += before
            break
        name, node = chain.pop(0)
        if type(node).__name__ not in _WEIGHTS:
            raise FormatError(
                f"{source}: node {name}: expected weights before neurons, got {type(node).__name__}"
            )
        with _naming(source, name):
            part = _weighted(node, shape, factor)
            if isinstance(part, Dense) and len(shape) > 1:
                before.append(Flatten())
                shape = (prod(shape),)
            shape = part.output_shape(shape)
            if unroll:
                before, part = [], _unrolled([*before, part], start)
        while chain and type(chain[0][1]).__name__ == "Flatten":
            chain.pop(0)
            shape, after = (prod(shape),), [Flatten()]
        if chain:
            name, node = chain.pop(0)
            if type(node).__name__ not in _NEURONS:
                raise FormatError(
                    f"{source}: node {name}: expected neurons ({', '.join(_NEURONS)}) after "
                    f"weights, got {type(node).__name__}"
                )
            scale, shift = _neurons(source, name, node, dt, found)
            if "tau_syn" in found and part.bias.any():
                raise FormatError(
                    f"{source}: node {name}: expected no bias before CubaLIF neurons, got one: "
                    "biases here act on the membrane, not through the synapse"
                )
            with _naming(source, name):
                part = _spiking(part, scale, shift, prod(shape))
        layers += [*before, part, *after]
    if unroll:  # matrices take and send rows
        return [layer for layer in layers if isinstance(layer, Dense)]
    return layers if len(shape) == 1 else [*layers, Flatten()]


@contextmanager
def _naming(source: Path, name: str) -> Iterator[None]:
    """What is wrong with a layer, with the node it was made of."""
    try:
        yield
    except InputError as error:
        raise FormatError(f"{source}: node {name}: {error}") from error


def _two(value: Any) -> tuple[int, int]:
    first, second = (int(n) for n in np.broadcast_to(np.asarray(value), 2))
    return first, second


def _without_weights(node: Any) -> tuple[Layer, float]:
    """A layer that moves values or takes means, and what makes sums of these."""
    if type(node).__name__ == "Flatten":
        return Flatten(), 1.0
    size, stride = _two(node.kernel_size), _two(node.stride)
    layer = AveragePool2D(size=size, stride=stride, padding=_two(node.padding))  # type: ignore[arg-type]
    return layer, float(prod(size)) if type(node).__name__ == "SumPool2d" else 1.0


def _weighted(node: Any, shape: Shape, factor: float) -> Dense | Conv2D:
    """Weights and bias of a node, the former for inputs times a factor."""
    weight = factor * np.asarray(node.weight, np.float64)
    if type(node).__name__ != "Conv2d":
        if weight.ndim != 2 or weight.shape[1] != prod(shape):
            raise InputError(f"expected weights for {prod(shape)} inputs, got shape {weight.shape}")
        return Dense(weight=weight, bias=getattr(node, "bias", np.zeros(len(weight))))
    stride, dilation = _two(node.stride), _two(node.dilation)
    reach = [d * (n - 1) for d, n in zip(dilation, weight.shape[2:], strict=True)]
    padding: Any = ((0, 0), (0, 0))
    if not isinstance(node.padding, str):
        padding = _two(node.padding)
    elif node.padding == "same":
        padding = tuple((n // 2, n - n // 2) for n in reach)
    return Conv2D(
        weight=weight, bias=node.bias, stride=stride, dilation=dilation, padding=padding,
        groups=int(node.groups),
    )  # fmt: skip


def _unrolled(layers: list[Any], shape: Shape) -> Dense:
    """Linear layers of which the last has weights as one matrix, by what they make of each unit."""
    *before, last = layers
    n = prod(shape)
    units = np.eye(n).reshape(n, *shape)
    for layer in before:
        units = layer.preactivation(units)
    columns = last.push_forward(units).reshape(n, -1)
    return Dense(weight=columns.T, bias=np.repeat(last.bias, columns.shape[1] // len(last.bias)))


def _spiking(part: Dense | Conv2D, scale: Array, shift: Array, n: int) -> Dense | Conv2D:
    """Weights in shares of the thresholds, with what the leak adds."""
    each = []
    for values in (scale, shift):
        if values.size not in (1, n):
            raise InputError(f"expected values for {n} neurons, got {values.size}")
        rows = np.broadcast_to(values, (n,)).reshape(len(part.bias), -1)
        if (rows != rows[:, :1]).any():
            raise InputError(
                "expected neurons that are alike within a channel, got other thresholds, "
                "resistances or leaks; load with unroll=True"
            )
        each.append(rows[:, 0])
    columns = each[0].reshape(-1, *(1,) * (part.weight.ndim - 1))
    return replace(
        part,
        weight=part.weight * columns,
        bias=part.bias * each[0] + each[1],
        activation=Activation("relu"),
    )


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
    if not values[0] > 0:
        raise FormatError(f"{source}: node {name}: expected {key} above 0, got {values[0]:g} s")
    return float(values[0])
