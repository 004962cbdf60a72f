"""Trials in which only neurons died: the table of single dead neurons, and rows of changes."""

from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np

from neurosim.backends.prepared import PreparedActivation, PreparedNetwork
from neurosim.faults import Events, Sites
from neurosim.kernels.many_dead import dead_outputs, order_by_product
from neurosim.kernels.neurons import (
    NONE,
    classify,
    drop_silent,
    fill_pairs,
    finish_outputs,
    layer_bounds,
)
from neurosim.kernels.rows import TILE, change_rows, cut_rows, finish_rows
from neurosim.layers import Array

__all__ = ["NeuronFaults", "Part"]

# Pairs whose rows of changes go through the kernels and a matrix product together: enough that the
# calls from Python cost little, few enough for the cache.
_BLOCK_ROWS = 2048

# Neurons whose rows of the table are made together: the shapes that BLAS sees must not depend on
# who needs which neuron first.
_GROUP = 8

# The table of single dead neurons may take this much memory, and what is kept of hidden layers.
_TABLE_BYTES, _KEPT_BYTES = 2**27, 2**29

# Bytes of a line of the cache, and of the widest vectors.
_LINE = 64

# Bytes of a large page, and of the arrays for which numpy asks for such pages, where there are any.
_PAGE, _ASKS_FOR_PAGES = 2**21, 2**22


@dataclass(frozen=True)
class Part:
    """Changed pairs of consecutive fault sets; the fields are those of `statistics.Changes`."""

    offsets: Array
    inputs: Array
    values: Array


@dataclass(frozen=True)
class _Block:
    """Events of consecutive trials as `kernels.neurons` takes them."""

    bounds: Array
    site: Array
    start: Array
    stop: Array

    @property
    def arguments(self) -> tuple[Array, Array, Array, Array]:
        return self.bounds, self.site, self.start, self.stop


@dataclass(frozen=True)
class _Kept:
    """What single dead neurons, first .. stop - 1, do to the sums dz of a layer m.

    They are those of layer m - 2, for m = L - 1 also those before. Rows are kept for the inputs on
    which their output is not 0; number (n_early_sites, n_inputs) tells the row, and means nothing
    for other neurons and inputs.
    """

    first: int
    stop: int
    rows: Array
    number: Array


def _whole_lines(width: int, dtype: np.dtype[Any]) -> int:
    """Values in the lines of the cache that hold a row."""
    line = _LINE // dtype.itemsize
    return -(-width // line) * line


def _aligned_zeros(n: int, width: int, dtype: np.dtype[Any]) -> Array:
    """Zeros (n, >= width) whose rows are whole lines of the cache, for wide vectors.

    Loads that cross two lines cost twice. What fills much of a large page begins with one: rows are
    read in no order, from more small pages than a processor keeps in mind.
    """
    whole = _whole_lines(width, dtype)
    n_bytes, unit, least = n * whole * dtype.itemsize, _LINE, 0
    if n_bytes >= _PAGE // 2:
        unit, least = _PAGE, _ASKS_FOR_PAGES  # memory that is not touched is not taken
    memory = np.zeros(max(n_bytes + unit, least), np.uint8)
    start = -memory.ctypes.data % unit
    return memory[start : start + n_bytes].view(dtype).reshape(n, whole)


def _aligned(rows: Array, padding: float) -> Array:
    """A copy in whole lines of the cache, filled up with `padding`."""
    result = _aligned_zeros(len(rows), rows.shape[1], rows.dtype)
    result[:, : rows.shape[1]] = rows
    result[:, rows.shape[1] :] = padding
    return result


class NeuronFaults:
    """Changes of outputs in trials whose fault sets have neurons only.

    Parameters
    ----------
    prepared : PreparedNetwork
    """

    def __init__(self, prepared: PreparedNetwork) -> None:
        self._prepared = prepared
        widths, dtype = prepared.network.widths, prepared.dtype
        self._depth, n_inputs = prepared.network.depth, prepared.n_inputs
        self._site_offsets = Sites(widths).neuron_offsets
        self._golden_t = np.concatenate(prepared.outputs_t)
        # Neurons before layer L - 1; on how many inputs the output of each is not 0.
        self._n_early = n_early = int(self._site_offsets[self._depth - 1])
        self._active = np.count_nonzero(self._golden_t[:n_early], axis=1)
        # Of all neurons; a hidden one with output 0 may have another after faults before it.
        self._silent = np.zeros(len(self._golden_t), np.bool_)
        self._silent[: widths[0]] = ~prepared.active[0]
        table_bytes = n_early * n_inputs * widths[-1] * dtype.itemsize
        self._tabled = 0 < table_bytes <= _TABLE_BYTES
        shape = (n_early if self._tabled else 0, n_inputs, widths[-1])
        self._table = np.zeros(shape, dtype)
        # Ranges of neurons by the layer m whose dz is kept. That of layer L - 1 serves them all.
        ranges = {
            m: (0 if m == self._depth - 1 else self._site_offsets[m - 2], self._site_offsets[m - 1])
            for m in range(2, self._depth)
        }
        n_rows = {m: int(self._active[first:stop].sum()) for m, (first, stop) in ranges.items()}
        # Short rows are whole lines, and the numbers may take more than the rows.
        kept_bytes = sum(n * _whole_lines(widths[m], dtype) for m, n in n_rows.items())
        kept_bytes *= dtype.itemsize
        kept_bytes += len(n_rows) * n_early * n_inputs * np.dtype(np.int64).itemsize
        keeps = self._tabled and kept_bytes <= _KEPT_BYTES
        self._kept = [
            self._make_kept(*ranges.get(m, (0, 0)), widths[m], keeps) for m in range(self._depth)
        ]
        early = np.arange(self._depth - 1) < self._depth - 2
        self._patchable = ~early | keeps
        self._starts = early & keeps
        late_bytes = widths[-2] * n_inputs * widths[-1] * dtype.itemsize
        n_late = widths[-2] if late_bytes <= _TABLE_BYTES else 0
        outputs_t, weight_t = prepared.outputs_t[-2][:n_late], prepared.weights_t[-1][:n_late]
        self._late_table = outputs_t[:, :, None] * -weight_t[:, None, :]
        # What rows of tiles meet, aligned.
        self._weights_t = [_aligned(w, 0) for w in prepared.weights_t[:-1]]
        self._weight_out = _aligned(prepared.weights[-1], 0)
        self._activations: list[PreparedActivation] = [
            (kind, parameter, _aligned(first, 1), _aligned(second, 1))
            for kind, parameter, first, second in prepared.activations[:-1]
        ]
        self._made = np.zeros(-(-n_early // _GROUP), np.bool_)
        self._locks = [Lock() for _ in self._made]

    def __getstate__(self) -> dict[str, Any]:
        """Without the table, which another process makes again, bit by bit the same."""
        return {"_prepared": self._prepared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_prepared"])  # type: ignore[misc]

    @property
    def single_is_fixed(self) -> bool:
        """Whether rows of a single dead neuron are the same bits whatever is computed beside it.

        They come from tables; else the shape of a product may decide their last bits.
        """
        return self._tabled or self._n_early == 0

    def changes(self, events: Events) -> Part:
        """Changed pairs of the trials of `events`."""
        trials, *about = drop_silent(
            events.offsets, events.site, events.start, events.stop, self._silent
        )
        block = _Block(layer_bounds(trials, about[0], self._site_offsets), *about)
        prepared, depth = self._prepared, self._depth
        offsets, inputs, single, several = classify(
            *block.arguments, self._golden_t, self._patchable, self._tabled, self._starts
        )
        self._make_table(single, several[:, 3])
        sums = np.zeros((len(inputs), prepared.network.widths[-1]), prepared.dtype)
        hidden = max(0, depth - 2)
        kept = self._kept[depth - 1]
        fill_pairs(
            *block.arguments,
            offsets,
            inputs,
            single,
            self._golden_t,
            self._site_offsets,
            self._table,
            self._late_table,
            (kept.rows, kept.number),
            prepared.weights[hidden],
            prepared.weights_t[-1],
            prepared.activations_t[hidden],
            sums,
        )
        for first, stop in pairwise(cut_rows(several, _BLOCK_ROWS)):
            self._several(block, inputs, several[first:stop], sums)
        finish_outputs(
            *block.arguments,
            offsets,
            inputs,
            self._site_offsets,
            prepared.activations[-1],
            prepared.outputs[-1],
            sums,
        )
        return Part(offsets, inputs, sums)

    def _several(
        self, block: _Block, inputs: Array, several: Array, sums: Array, keep: bool = False
    ) -> list[Array]:
        """Write dz_L of the pairs in `several` into sums.

        With keep returns, for layers 1..L-1, dz of the pairs that change before the layer before.
        """
        prepared = self._prepared
        several, edges, groups = order_by_product(
            several, *block.arguments, self._active, prepared.n_inputs
        )
        rows, products = np.empty((0, prepared.network.widths[0]), prepared.dtype), []
        for layer in range(1, self._depth):
            weight_t = prepared.weights_t[layer - 1]
            for_blas = groups[groups[:, 0] == layer - 1, 1:]
            n_products = int(for_blas[-1, 1]) if len(for_blas) else len(rows)
            last = layer == self._depth - 1
            n_rows = n_products if last else int(edges[layer])
            before, rows = rows, np.empty((n_rows, weight_t.shape[1]), prepared.dtype)
            if len(before):
                np.matmul(before, weight_t, out=rows[: len(before)])
            if keep:
                products.append(rows[: len(before)].copy())
            for first, stop in for_blas:
                units, taken = dead_outputs(
                    several[first:stop],
                    layer - 1,
                    inputs,
                    *block.arguments,
                    self._golden_t,
                    self._active,
                    self._site_offsets,
                )
                np.matmul(taken.T, weight_t[units], out=rows[first:stop])
            kept, earlier = self._kept[layer], max(0, layer - 2)
            about = (
                layer,
                n_products,
                several,
                inputs,
                *block.arguments,
                self._golden_t,
                self._site_offsets,
                self._weights_t[layer - 1],
                self._activations[layer - 1],
                (prepared.weights[earlier], *self._activations[earlier]),
                (kept.rows, kept.number),
                rows,
            )
            if last:
                tile = _aligned(np.zeros((TILE, weight_t.shape[1]), prepared.dtype), 0)
                finish_rows(*about, self._weight_out, tile, sums)
            else:
                change_rows(*about)
        return products

    def _make_kept(self, first: int, stop: int, width: int, keeps: bool) -> _Kept:
        """Room for dz of a layer of this width, for neurons first .. stop - 1, or none."""
        outputs = self._golden_t[first : stop if keeps else first]
        number = np.full((self._n_early if len(outputs) else 0, self._prepared.n_inputs), NONE)
        number[first : first + len(outputs)] = np.cumsum(outputs != 0).reshape(outputs.shape) - 1
        n_rows = int(np.count_nonzero(outputs))
        return _Kept(first, stop, _aligned_zeros(n_rows, width, outputs.dtype), number)

    def _make_table(self, *wanted: Array) -> None:
        """Fill the table for neurons that are `wanted`, or NONE, where it is not there already."""
        if self._made.all():
            return
        missing = np.zeros_like(self._made)
        for neurons in wanted:
            missing[neurons[neurons >= 0] // _GROUP] = True
        # Threads share the work: at first each makes groups that no other is making.
        for waits in (False, True):
            for group in np.flatnonzero(missing & ~self._made):
                if self._locks[group].acquire(blocking=waits):
                    try:
                        if not self._made[group]:
                            self._make_group(int(group))
                            self._made[group] = True
                    finally:
                        self._locks[group].release()

    def _make_group(self, group: int) -> None:
        n_inputs = self._prepared.n_inputs
        sites = np.arange(group * _GROUP, min((group + 1) * _GROUP, self._n_early))
        block = _Block(
            layer_bounds(np.arange(len(sites) + 1), sites, self._site_offsets),
            sites,
            np.zeros(len(sites), np.int32),
            np.full(len(sites), n_inputs, np.int32),
        )
        offsets, inputs, _, several = classify(
            *block.arguments, self._golden_t, self._patchable, False, np.zeros_like(self._starts)
        )
        sums = np.empty((len(inputs), self._table.shape[2]), self._table.dtype)
        products = self._several(block, inputs, several, sums, keep=True)
        site = np.repeat(sites, np.diff(offsets))
        self._table[site, inputs] = sums
        # Rows come by the first layer that changes, which for single neurons is by number.
        for kept, dz in zip(self._kept[1:], products, strict=True):
            if len(kept.rows):
                chosen = (site >= kept.first) & (site < kept.stop)
                rows = kept.number[site[chosen], inputs[chosen]]
                kept.rows[rows, : dz.shape[1]] = dz[chosen[: len(dz)]]
