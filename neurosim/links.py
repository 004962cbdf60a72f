"""Which core sends what reaches the rows of a layer: where the links between cores lead."""

from collections.abc import Iterable

import numpy as np

from neurosim.blocks import seen_by
from neurosim.deployment import Deployment
from neurosim.errors import InputError
from neurosim.graph import Node
from neurosim.layers import (
    Add,
    Affine,
    Array,
    AveragePool2D,
    GlobalAveragePool,
    MaxPool2D,
    Weighted,
)

__all__ = ["sending_cores"]

# In place of the number of a core: padding, what comes from outside, what several cores make.
_NOTHING, _OUTSIDE, _SEVERAL = -3, -2, -1


def sending_cores(deployment: Deployment, layers: Iterable[int]) -> dict[int, Array]:
    """The core that sends what the rows of some layers carry, each (groups, n_in, copies).

    A core sends the outputs of the neurons whose circuits sit on it. Pools, scales and shifts of
    values of one core are computed there, before they are sent. Negative: no core.

    Raises
    ------
    InputError
        If a row carries at some positions what one core sends and at others what another does, or
        what is made of the values of several cores.
    """
    graph, senders, found = deployment.network.graph, _senders(deployment), {}
    for number in layers:
        layer, copies = deployment.network.layers[number - 1], deployment.copies[number - 1]
        source = senders[graph.nodes[graph.weighted[number] - 1].sources[0]]
        # Patches have 0 where there is padding: cores count from above it.
        codes = (source[None] - _NOTHING).astype(np.float64)
        seen = seen_by(layer, codes)[0].astype(np.int64) + _NOTHING
        # A copy serves all positions, or one.
        found[number] = _one_of(seen.reshape(*seen.shape[:2], copies, -1), axis=3)
        if (found[number] == _SEVERAL).any():
            raise InputError(
                "faults: expected links into layers whose rows each carry what one core sends, "
                f"got layer {number}, where sums, pools or positions of a map join what several "
                "cores send; name the layers of the process"
            )
    return found


def _one_of(senders: Array, axis: int | tuple[int, ...]) -> Array:
    """The sender of several values, where it is one for all that are not padding."""
    nothing = senders == _NOTHING
    most = senders.max(axis=axis)
    least = np.where(nothing, np.iinfo(np.int64).max, senders).min(axis=axis)
    return np.where((most == least) | nothing.all(axis=axis), most, _SEVERAL)


def _senders(deployment: Deployment) -> list[Array]:
    """Of the input and every node, the core that sends each value, (*shape)."""
    graph = deployment.network.graph
    found = [np.full(graph.shapes[0], _OUTSIDE)]
    for number, node in enumerate(graph.nodes, start=1):
        if not isinstance(node.layer, Weighted):
            found.append(_passed_on(node, [found[k] for k in node.sources]))
            continue
        shape = graph.shapes[number]
        cores = np.empty((shape[0], int(np.prod(shape[1:]))), np.int64)
        for block in deployment.blocks:
            if block.layer == graph.weighted.index(number) and block.in_start == 0:
                for piece in deployment.pieces(block):
                    cores[piece.channels, piece.positions] = block.core
        found.append(cores.reshape(shape))
    return found


def _passed_on(node: Node, sources: list[Array]) -> Array:
    """Senders of what a layer without weights makes."""
    layer = node.layer
    if isinstance(layer, Affine):
        return sources[0]
    if isinstance(layer, Add):
        return _one_of(np.stack(sources), axis=0)
    if isinstance(layer, GlobalAveragePool):
        return _one_of(sources[0], axis=(1, 2))
    if isinstance(layer, MaxPool2D | AveragePool2D):
        (top, bottom), (left, right) = layer.padding
        around = ((0, 0), (top, bottom), (left, right))
        padded = np.pad(sources[0], around, constant_values=_NOTHING)
        _, *positions = layer.output_shape(sources[0].shape)
        return _one_of(np.stack(layer.parts(padded[None], (positions[0], positions[1])))[:, 0], 0)
    moved: Array = layer.preactivation(*(source[None] for source in sources))[0]
    return moved
