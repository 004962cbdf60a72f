"""The fast backend of any graph of layers: differences on the window of each map that changed.

A fault of one neuron reaches a window of the next map as large as the kernel, and so on: while the
window is small so is the work. It is the bounding box of all that changed, in a block of trials.
Large windows are matrix products of patches. docs/engine.md explains the algorithm.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from neurosim.errors import InputError
from neurosim.faults import Events, FaultBatch, Sites, ValuedEvents
from neurosim.graph import Node
from neurosim.kernels.patches import lose_weights
from neurosim.layers import (
    Activation,
    Add,
    Affine,
    Array,
    AveragePool2D,
    Concatenate,
    Conv2D,
    Dense,
    GlobalAveragePool,
    MaxPool2D,
    Shape,
    Slice,
    softmax_change,
)
from neurosim.layers.correlation import Finish, correlate
from neurosim.layers.threads import for_each, slices
from neurosim.layers.windows import NO_PADDING, Window, pad
from neurosim.network import Network
from neurosim.statistics import Changes

__all__ = ["GraphBackend"]

# Values of the largest layer that the trials of a block may have together.
_BLOCK_VALUES = 2**21

# Values of some channels that are pooled together, in the cache.
_PART_VALUES = 2**17

# Golden values that are kept, in bytes.
_GOLDEN_BYTES = 2**28

# Rows and columns [r0, r1, c0, c1) of a map.
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Change:
    """Changes of what a node sends, (n_trials, *shape); of maps only those in a box."""

    values: Array
    box: Box | None


@dataclass(frozen=True)
class _Faults:
    """Faults of some trials at one presentation: of layer l, those first[l]:first[l + 1].

    Parameters
    ----------
    trial, number : ndarray
        Sorted by layer, then trial; number: the unit, or out * n_in + in.
    value : ndarray
        What each is stuck at; 0 where it is dead.
    first : ndarray, (L + 2,)
    """

    trial: Array
    number: Array
    value: Array
    first: Array

    @staticmethod
    def at(dead: Events, held: ValuedEvents | None, offsets: Array, presentation: int) -> "_Faults":
        trial, site = _now(dead, presentation)
        value = np.zeros(len(trial))
        if held is not None and len(held.site):
            of_trial, of_site = _now(held, presentation)
            now = (held.start <= presentation) & (presentation < held.stop)
            # Where something is dead too, it is 0: the first of two is kept.
            keys = np.concatenate([trial, of_trial]) * offsets[-1] + np.concatenate([site, of_site])
            keys, chosen = np.unique(keys, return_index=True)
            trial, site = np.divmod(keys, offsets[-1])
            value = np.concatenate([value, held.value[now]])[chosen]
        layer = np.searchsorted(offsets, site, side="right") - 1
        order = np.argsort(layer, kind="stable")
        first = np.searchsorted(layer[order], np.arange(len(offsets)))
        return _Faults(trial[order], (site - offsets[layer])[order], value[order], first)

    def of(self, layer: int, place: Array) -> tuple[Array, Array, Array]:
        """(place of the trial in a block, number, value); without trials that are not in it."""
        rows = slice(self.first[layer], self.first[layer + 1])
        at = place[self.trial[rows]]
        here = at >= 0
        return at[here], self.number[rows][here], self.value[rows][here]

    def lowest(self, n_trials: int) -> Array:
        """The lowest faulty layer of each trial; a large number where nothing failed."""
        lowest = np.full(n_trials, len(self.first))
        for layer in range(len(self.first) - 2, -1, -1):
            lowest[self.trial[self.first[layer] : self.first[layer + 1]]] = layer
        return lowest


def _now(events: Events, presentation: int) -> tuple[Array, Array]:
    """(trial, site) of the events of one presentation."""
    now = (events.start <= presentation) & (presentation < events.stop)
    trial = np.repeat(np.arange(len(events.offsets) - 1), np.diff(events.offsets))
    return trial[now], events.site[now]


class GraphBackend:
    """Errors of fault batches for one network and its inputs.

    Parameters
    ----------
    network : Network
    inputs : ndarray, (n_inputs, n_0)
    dtype : "float32" or "float64"
        What everything is computed in.

    Raises
    ------
    InputError
        If a golden value is beyond the range of the dtype.
    """

    def __init__(self, network: Network, inputs: Array, dtype: str) -> None:
        self._network, self._graph = network, network.graph
        self._inputs = inputs.astype(dtype)
        self._kept: dict[int, tuple[list[Array], list[Array]]] = {}
        self._lock = Lock()
        sizes = [int(np.prod(shape)) for shape in self._graph.shapes]
        self._block = max(1, _BLOCK_VALUES // max(sizes))
        self._most_kept = max(1, _GOLDEN_BYTES // (2 * sum(sizes) * self._inputs.itemsize))
        logits = [self._golden(x)[1][-1] for x in range(len(inputs))]
        self._logits = np.concatenate(logits)
        if not np.isfinite(self._logits).all():
            raise InputError(
                f"inputs: expected golden values in the range of {dtype}, got larger ones; "
                + ('use dtype "float64"' if dtype == "float32" else "scale the inputs")
            )
        self.golden = network.read_out(self._logits)

    def __getstate__(self) -> dict[str, Any]:
        """Without golden values, which another process makes again."""
        return {"network": self._network, "inputs": self._inputs}

    def __setstate__(self, state: dict[str, Any]) -> None:
        inputs = state["inputs"]
        self.__init__(state["network"], inputs, str(inputs.dtype))  # type: ignore[misc]

    def _golden(self, x: int) -> tuple[list[Array], list[Array]]:
        """Before and after the activation of every node, for one input."""
        found = self._kept.get(x)
        if found is None:
            with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused
                found = self._graph.values(self._inputs[x : x + 1])
            with self._lock:
                if len(self._kept) < self._most_kept:
                    self._kept[x] = found
        return found

    def errors(self, batch: FaultBatch) -> Array:
        """Faulty minus golden outputs, (n_trials, n_inputs, n_outputs), in the backend's dtype."""
        return self._errors(batch, [])

    def changes(self, batch: FaultBatch) -> Changes:
        """The same without its zeros."""
        return Changes.of(self.errors(batch))

    def errors_and_hidden(self, batch: FaultBatch) -> tuple[Array, list[Array]]:
        """Errors, and the errors of layers 1..L-1, each (n_trials, n_inputs, n_l)."""
        shape = (len(batch), len(self._inputs))
        hidden = [np.zeros((*shape, n), self._inputs.dtype) for n in self._network.widths[1:-1]]
        return self._errors(batch, hidden), hidden

    def _errors(self, batch: FaultBatch, hidden: list[Array]) -> Array:
        n_trials, n_inputs = len(batch), len(self._inputs)
        errors = np.zeros((n_trials, n_inputs, self.golden.shape[1]), self._inputs.dtype)
        sites = batch.sites
        for x in range(n_inputs):
            neurons = _Faults.at(batch.neurons, batch.neuron_values, sites.neuron_offsets, x)
            synapses = _Faults.at(batch.synapses, batch.synapse_weights, sites.synapse_offsets, x)
            lowest = np.minimum(neurons.lowest(n_trials), synapses.lowest(n_trials))
            order = np.argsort(lowest, kind="stable")
            order = order[lowest[order] < len(sites.neuron_offsets)]
            if not len(order):
                continue
            golden = self._golden(x)
            for start in range(0, len(order), self._block):
                trials = order[start : start + self._block]
                place = np.full(n_trials, -1)
                place[trials] = np.arange(len(trials))
                block = _Block(self._network, golden, sites, (neurons, synapses), place)
                for number, change in block.changes(self._graph.weighted[lowest[trials[0]]]):
                    layer = block.layer_of.get(number, 0)
                    if 0 < layer <= len(hidden):
                        whole = _whole(change, self._graph.shapes[number])
                        hidden[layer - 1][trials, x] = whole.reshape(len(trials), -1)
                    if number == len(self._graph.nodes):
                        dy = change.values.reshape(len(trials), -1)
                        if self._network.readout == "softmax":
                            dy = softmax_change(golden[1][-1], np.zeros(len(dy), np.int64), dy)
                        errors[trials, x] = dy
        return errors


class _Block:
    """Some trials at one presentation.

    Parameters
    ----------
    network : Network
    golden : lists of ndarray
        Before and after the activation of every node, (1, *shape).
    sites : Sites
    faults : (neurons, synapses)
    place : ndarray, (n_trials,)
        Where in the block a trial of the batch is; -1 elsewhere.
    """

    def __init__(
        self,
        network: Network,
        golden: tuple[list[Array], list[Array]],
        sites: Sites,
        faults: tuple[_Faults, _Faults],
        place: Array,
    ) -> None:
        self._graph, self._sites, self._place = network.graph, sites, place
        self._z, self._y = golden
        self._neurons, self._synapses = faults
        self._size = int(place.max()) + 1
        self.layer_of = {number: layer for layer, number in enumerate(self._graph.weighted)}

    def changes(self, first: int) -> Iterator[tuple[int, _Change]]:
        """Changes of what nodes send, from the first faulty one on; those without are left out."""
        graph = self._graph
        found: dict[int, _Change] = {}
        for number in range(first, len(graph.nodes) + 1):
            layer = self.layer_of.get(number)
            change = None
            if number:
                node = graph.nodes[number - 1]
                sources = [found.get(k) for k in node.sources]
                activation = node.layer.activation
                # A convolution that loses no weights applies it part by part, in the cache.
                part_by_part = isinstance(node.layer, Conv2D) and not self._loses_weights(layer)
                if any(source is not None for source in sources):
                    change = self._drive_change(
                        node, number, sources, activation if part_by_part else None
                    )
                if layer is not None:
                    change = self._without_weights(number, layer, sources[0], change)
                if change is not None and activation.kind != "identity" and not part_by_part:
                    z = _part(self._z[number], change.box)
                    change = _Change(activation.change(z, change.values), change.box)
            if layer is not None:
                change = self._without_neurons(number, layer, change)
            if change is not None:
                found[number] = change
                yield number, change
            for k in graph.nodes[number - 1].sources if number else ():
                if graph.last_uses[k] == number:
                    found.pop(k, None)

    def _loses_weights(self, layer: int | None) -> bool:
        return layer is not None and layer > 0 and len(self._synapses.of(layer, self._place)[0]) > 0

    def _drive_change(
        self, node: Node, number: int, sources: list[_Change | None], activation: Activation | None
    ) -> _Change | None:
        """Changes before the activation; of a convolution, where one is given, after it."""
        layer, change = node.layer, sources[0]
        shapes = [self._graph.shapes[k] for k in node.sources]
        if isinstance(layer, Add | Concatenate):
            return self._joined(layer, shapes, sources, self._graph.shapes[number])
        assert change is not None
        if isinstance(layer, Conv2D | MaxPool2D | AveragePool2D):
            return self._slid(layer, node.sources[0], number, change, activation)
        if isinstance(layer, Affine):
            scale = layer.scale.astype(change.values.dtype)
            if scale.ndim:
                scale = scale.reshape(-1, *(1,) * (change.values.ndim - 2))
            return _Change(scale * change.values, change.box)
        if isinstance(layer, GlobalAveragePool):
            total = change.values.sum(axis=(2, 3))
            return _Change(total / total.dtype.type(np.prod(shapes[0][1:])), None)
        if isinstance(layer, Dense):
            return _Change(change.values @ layer.weight_as(change.values.dtype).T, None)
        if isinstance(layer, Slice) and layer.axis == 0 and change.box is not None:
            return _Change(layer.preactivation(change.values), change.box)
        # What is left moves values only.
        moved = layer.preactivation(_whole(change, shapes[0]))
        return _Change(moved, _all_of(self._graph.shapes[number]))

    def _joined(
        self, layer: Add | Concatenate, shapes: list[Shape], sources: list[_Change | None],
        shape: Shape,
    ) -> _Change:  # fmt: skip
        maps = len(shape) == 3 and (isinstance(layer, Add) or layer.axis == 0)
        boxes = [change.box for change in sources if change is not None and change.box is not None]
        box = _around(boxes) if maps else _all_of(shape)
        parts = []
        for change, own in zip(sources, shapes, strict=True):
            wanted = box if maps else _all_of(own)
            if change is None:
                values = np.zeros((self._size, *_shape_in(own, wanted)), self._y[0].dtype)
            else:
                values = _within(change, own, wanted)
            parts.append(values)
        return _Change(layer.preactivation(*parts), box)

    def _slid(
        self,
        layer: Conv2D | MaxPool2D | AveragePool2D,
        source: int,
        number: int,
        change: _Change,
        activation: Activation | None,
    ) -> _Change | None:
        """Changes of the positions of a window that see changed values."""
        window: Window = layer.window
        positions = self._graph.shapes[number][1:]
        assert change.box is not None
        rows = window.reached(0, *change.box[:2], positions[0])
        columns = window.reached(1, *change.box[2:], positions[1])
        if rows[0] == rows[1] or columns[0] == columns[1]:
            return None
        seen = (*window.seen(0, *rows), *window.seen(1, *columns))
        dy = _cut(change.values, change.box, seen, 0.0)
        box = (*rows, *columns)
        if isinstance(layer, Conv2D):
            weight = layer.weight_as(dy.dtype)
            if layer.groups == 1:
                changed = np.flatnonzero(dy.any(axis=(0, 2, 3)))
                if not len(changed):
                    return None
                if 2 * len(changed) <= dy.shape[1]:
                    dy, weight = dy[:, changed], weight[:, changed]
            finish = None
            if activation is not None and activation.kind != "identity":
                z = _part(self._z[number], box).reshape(len(weight), 1, -1)
                finish = _activating(activation, z)
            dz = correlate(
                dy, weight, layer.stride, layer.dilation, layer.groups, NO_PADDING, finish
            )
            return _Change(dz, box)
        if isinstance(layer, AveragePool2D):
            parts = layer.parts(dy, (rows[1] - rows[0], columns[1] - columns[0]))
            counts = layer.counts(*self._graph.shapes[source][1:]).astype(dy.dtype)
            total = parts[0].copy()
            for part in parts[1:]:
                total += part
            return _Change(total / _part(counts, box), box)
        return _Change(self._largest(layer, source, number, dy, seen, box), box)

    def _largest(
        self, layer: MaxPool2D, source: int, number: int, dy: Array, seen: Box, box: Box
    ) -> Array:
        """Changes of maxima, relative to the golden ones: small ones keep their accuracy."""
        largest = _part(self._z[number], box)
        shape = largest.shape[2:]
        whole = _all_of(self._graph.shapes[source])
        assert whole is not None
        result = np.empty((*dy.shape[:2], *shape), dy.dtype)

        def compute(some: slice) -> None:
            golden = _cut(self._y[source][:, some], whole, seen, -np.inf)
            pairs = zip(layer.parts(golden, shape), layer.parts(dy[:, some], shape), strict=True)
            for place, (own, part) in enumerate(pairs):
                found = (own - largest[:, some]) + part
                if place:
                    np.maximum(result[:, some], found, out=found)
                result[:, some] = found

        for_each(slices(dy.shape[1], max(1, _PART_VALUES // dy[:, 0].size)), compute)
        return result

    def _without_weights(
        self, number: int, layer: int, source: _Change | None, change: _Change | None
    ) -> _Change | None:
        """Less what faulty synapses add no more: of faulty values."""
        if not layer:
            return change
        trial, faulty_synapses, held = self._synapses.of(layer, self._place)
        if not len(trial):
            return change
        node = self._graph.nodes[number - 1]
        shape, before = self._graph.shapes[number], node.sources[0]
        golden = self._y[before]
        dtype, part = golden.dtype, node.layer
        change = change or _Change(np.zeros((self._size, *shape), dtype), _all_of(shape))
        values = _whole(change, shape)
        assert isinstance(part, Dense | Conv2D)
        out, in_ = np.divmod(faulty_synapses, self._sites.weight_shapes[layer - 1][1])
        # In float64: a weight that is set to what it is changes nothing.
        matrix = part.weight.reshape(part.matrix_shape)
        less = (matrix[out % len(matrix), in_] - held).astype(dtype)
        if isinstance(part, Dense):
            faulty = golden[0, in_]
            if source is not None:
                faulty = faulty + source.values[trial, in_]
            lost = np.bincount(trial * part.n_out + out, less * faulty, self._size * part.n_out)
            return _Change(values - lost.reshape(values.shape).astype(dtype), None)
        faulty = np.broadcast_to(golden, (self._size, *golden.shape[1:]))
        if source is not None:
            faulty = golden + _whole(source, golden.shape[1:])
        n_out, n_in, kh, kw = part.weight.shape
        positions = shape[1] * shape[2]
        copy, channel = np.divmod(out, n_out)
        copies = self._sites.weight_shapes[layer - 1][0] // n_out
        offset, column = np.divmod(in_, kw)
        inside, row = np.divmod(offset, kh)
        values = np.ascontiguousarray(values)
        lose_weights(
            trial,
            channel,
            channel // (n_out // part.groups) * n_in + inside,
            row * part.dilation[0],
            column * part.dilation[1],
            less,
            -(-copy * positions // copies),
            -(-(copy + 1) * positions // copies),
            part.stride,
            pad(faulty, part.padding),
            values,
        )
        return _Change(values, _all_of(shape))

    def _without_neurons(self, number: int, layer: int, change: _Change | None) -> _Change | None:
        """With the outputs of faulty neurons at 0, or at what they are stuck at."""
        trial, unit, held = self._neurons.of(layer, self._place)
        if not len(trial):
            return change
        shape, golden = self._graph.shapes[number], self._y[number]
        if len(shape) != 3:
            values = _whole(change, shape) if change else np.zeros(
                (self._size, *shape), golden.dtype
            )  # fmt: skip
            values.reshape(self._size, -1)[trial, unit] = held - golden.reshape(-1)[unit]
            return _Change(values, None)
        channel, row, column = np.unravel_index(unit, shape)
        by = held.astype(golden.dtype) - golden[0, channel, row, column]
        # Those that change nothing matter only where something may wake them.
        felt = by != 0
        if change is not None:
            assert change.box is not None
            r0, r1, c0, c1 = change.box
            felt |= (row >= r0) & (row < r1) & (column >= c0) & (column < c1)
        if not felt.any():
            return change
        trial, channel, row, column, by = (a[felt] for a in (trial, channel, row, column, by))
        around = (int(row.min()), int(row.max()) + 1, int(column.min()), int(column.max()) + 1)
        if change is None:
            box = around
            values = np.zeros((self._size, *_shape_in(shape, box)), golden.dtype)
        else:
            assert change.box is not None
            box = _around([change.box, around])
            values = _within(change, shape, box)
        values[trial, channel, row - box[0], column - box[2]] = by
        return _Change(values, box)


def _activating(activation: Activation, z: Array) -> Finish:
    """Turns changes before an activation into those after it; z (channels, 1, positions)."""

    def finish(maps: Array, channels: slice, positions: slice) -> None:
        maps[...] = activation.change(z[channels, :, positions], maps)

    return finish


def _all_of(shape: Shape) -> Box | None:
    return (0, shape[1], 0, shape[2]) if len(shape) == 3 else None


def _around(boxes: list[Box]) -> Box:
    """The smallest box that holds all of them."""
    sides = np.array(boxes)
    low, high = sides.min(axis=0), sides.max(axis=0)
    return int(low[0]), int(high[1]), int(low[2]), int(high[3])


def _shape_in(shape: Shape, box: Box | None) -> Shape:
    return shape if box is None else (shape[0], box[1] - box[0], box[3] - box[2])


def _part(values: Array, box: Box | None) -> Array:
    return values if box is None else values[..., box[0] : box[1], box[2] : box[3]]


def _cut(values: Array, box: Box, wanted: Box, outside: float) -> Array:
    """Values (n, c, ...) that lie in a box, on another box; outside it a number."""
    if box == wanted:
        return values
    shape = (wanted[1] - wanted[0], wanted[3] - wanted[2])
    result = np.full((*values.shape[:2], *shape), outside, values.dtype)
    r0, r1 = max(box[0], wanted[0]), min(box[1], wanted[1])
    c0, c1 = max(box[2], wanted[2]), min(box[3], wanted[3])
    if r0 < r1 and c0 < c1:
        result[:, :, r0 - wanted[0] : r1 - wanted[0], c0 - wanted[2] : c1 - wanted[2]] = values[
            :, :, r0 - box[0] : r1 - box[0], c0 - box[2] : c1 - box[2]
        ]
    return result


def _within(change: _Change, shape: Shape, box: Box | None) -> Array:
    """Changes on a box that holds theirs; an array of its own."""
    if change.box is None or box is None or change.box == box:
        return change.values.copy()
    return _cut(change.values, change.box, box, 0.0)


def _whole(change: _Change, shape: Shape) -> Array:
    """Changes of everything a node sends; an array of its own."""
    return _within(change, shape, _all_of(shape))
