"""Spiking networks read from NIR graphs; the package nir is loaded when it is first needed."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.errors import FormatError, InputError, path_of
from neurosim.layers import (
    Activation,
    Affine,
    AveragePool2D,
    Dense,
    Flatten,
    Layer,
    Shape,
    Weighted,
)
from neurosim.network import Network
from neurosim.nir_graph.nodes import (
    neuron_factors,
    numbers,
    other_layers,
    refuse_part,
    scaled,
    unrolled,
    weighted_layer,
)
from neurosim.spiking_model import Reset, SpikingModel

__all__ = ["load_nir"]

_WEIGHTS = ("Affine", "Linear", "Conv2d")
_POOLS = ("AvgPool2d", "SumPool2d")
_WITHOUT_WEIGHTS = ("Flatten", "Scale", *_POOLS)
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
    Flatten, Scale, AvgPool2d and SumPool2d in front of the weights, and Scale behind them; a last
    one without neurons is read out by membrane. A Flatten joins all axes; its start_dim is 0, or 1
    where the writer counts the axis of the inputs. Currents act in one time step, as NIR's
    simulators have it: v grows by (dt / tau) (v_leak - v + R I), that of an IF neuron by dt R I.

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
        there = "a folder" if source.is_dir() else "nothing there"
        raise FormatError(f"{source}: expected a NIR file, got {there}")
    try:
        # Shapes are checked below, with messages that name the node.
        graph = nir.read(source, type_check=False)
    except Exception as error:  # h5py, KeyError, ValueError or TypeError, by what is wrong
        raise FormatError(f"{source}: {_unread(source, error)}") from error
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


def _unread(source: Path, error: Exception) -> str:
    """Why nir.read fails, with the node at which it does."""
    import h5py
    import nir

    expected = "expected a NIR file"
    with suppress(OSError, KeyError, TypeError, AttributeError), h5py.File(source, "r") as file:
        for name, group in file["node/nodes"].items():
            try:
                nir.dict2NIRNode(nir.serialization.hdf2dict(group))
            except Exception as wrong:  # as above
                stored = group.get("type") if isinstance(group, h5py.Group) else None
                kind = stored[()] if isinstance(stored, h5py.Dataset) else "a node without type"
                kind = kind.decode(errors="replace") if isinstance(kind, bytes) else str(kind)
                expected = f"node {name}: expected a node of NIR, got {kind} that it cannot read"
                error = wrong
                break
    said = " ".join(str(error).split())[:200]
    return f"{expected}, got {type(error).__name__}" + (f": {said}" if said else "")


def _chain(source: Path, graph: Any) -> tuple[list[tuple[str, Any]], tuple[int, ...]]:
    """Nodes between Input and Output in their order, and the shape of an input."""
    ends = {"Input": [], "Output": []}  # type: dict[str, list[str]]
    for name, node in graph.nodes.items():
        kind = type(node).__name__
        if kind in ends:
            ends[kind].append(name)
        elif kind not in (*_WEIGHTS, *_WITHOUT_WEIGHTS, *_NEURONS):
            known = ", ".join(("Input", "Output", *_WITHOUT_WEIGHTS, *_WEIGHTS, *_NEURONS))
            mend = "; put the nodes of the inner graph into the outer one" * (kind == "NIRGraph")
            raise FormatError(f"{source}: node {name}: expected one of {known}, got {kind}{mend}")
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
        if not after:
            raise FormatError(
                f"{source}: node {name}: expected an edge to the node after it, got none: the "
                "nodes before it lead nowhere"
            )
        others = [a for a, b in edges if b == after[0] and a != name]
        if len(after) != 1 or others:
            got = (
                f"edges to {', '.join(after)}"
                if len(after) != 1
                else (f"an edge to {after[0]}, which has others from {', '.join(others)}")
            )
            raise FormatError(
                f"{source}: node {name}: expected a chain, every node with one before and one "
                f"after it, got {got}; recurrent and branching networks cannot be run"
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
            f"{source}: expected nodes between Input and Output only, got others that no edge "
            f"joins to them: {', '.join(sorted(map(str, beside))[:5])}"
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
        while chain and type(chain[0][1]).__name__ in _WITHOUT_WEIGHTS:
            name, node = chain.pop(0)
            with _naming(source, name):
                made, sums = other_layers(node, shape)
                before += made
                for layer in made:
                    shape = layer.output_shape(shape)
                factor *= sums
        if not chain:
            if any(isinstance(layer, AveragePool2D | Affine) for layer in before):
                raise FormatError(
                    f"{source}: node {name}: expected weights after it, got the Output"
                )
            layers += before
            break
        name, node = chain.pop(0)
        if type(node).__name__ not in _WEIGHTS:
            raise FormatError(
                f"{source}: node {name}: expected weights before neurons, got {type(node).__name__}"
            )
        with _naming(source, name):
            part = weighted_layer(node, shape, factor)
            if isinstance(part, Dense) and len(shape) > 1:
                before.append(Flatten())
                shape = (prod(shape),)
            shape = part.output_shape(shape)
            if unroll:
                before, part = [], unrolled([*before, part], start)
        while chain and type(chain[0][1]).__name__ in ("Flatten", "Scale"):
            name, node = chain.pop(0)
            with _naming(source, name):
                if type(node).__name__ == "Scale":
                    part = scaled(part, numbers(node, "scale"), np.zeros(1), prod(shape))
                else:
                    refuse_part(node, shape)
                    shape, after = (prod(shape),), [Flatten()]
        if chain:
            name, node = chain.pop(0)
            if type(node).__name__ not in _NEURONS:
                raise FormatError(
                    f"{source}: node {name}: expected neurons ({', '.join(_NEURONS)}) after "
                    f"weights, got {type(node).__name__}"
                )
            with _naming(source, name):
                scale, shift = neuron_factors(node, dt, found)
                if "tau_syn" in found and part.bias.any():
                    raise InputError(
                        "expected no bias before CubaLIF neurons, got one: biases here act on the "
                        "membrane, not through the synapse"
                    )
                part = replace(
                    scaled(part, scale, shift, prod(shape)), activation=Activation("relu")
                )
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
