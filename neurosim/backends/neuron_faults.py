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

# The table of single dead neurons may take this much memory, and what it keeps of a hidden layer.
_TABLE_BYTES = 2**27

# Bytes of a line of the cache, and of the widest vectors.
_LINE = 64


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


def _aligned(rows: Array, padding: float) -> Array:
    """A copy whose rows begin at lines of the cache, padded to whole ones, for wide vectors.

    Loads that cross two lines cost twice.
    """
    n, width = rows.shape
    line = _LINE // rows.itemsize
    whole = -(-width // line) * line
    memory = np.full(n * whole + line, padding, rows.dtype)
    start = -memory.ctypes.data % _LINE // rows.itemsize
    result = memory[start : start + n * whole].reshape(n, whole)
    result[:, :width] = rows
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
        n_deep = int(self._site_offsets[max(0, self._depth - 2)])
        table_bytes = n_early * n_inputs * widths[-1] * dtype.itemsize
        kept_bytes = int(self._active[:n_deep].sum()) * widths[-2] * dtype.itemsize
        self._tabled = 0 < table_bytes <= _TABLE_BYTES
        keeps = self._tabled and kept_bytes <= _TABLE_BYTES
        self._patchable = np.arange(self._depth - 1) >= self._depth - 2
        self._patchable |= keeps
        n_kept = int(self._active[:n_deep].sum()) if keeps else 0
        self._number = np.cumsum(self._golden_t[: n_deep if keeps else 0].ravel() != 0)
        self._number = (self._number - 1).reshape(-1, n_inputs)
        shape = (n_early if self._tabled else 0, n_inputs, widths[-1])
        self._table = np.zeros(shape, dtype)
        late = prepared.outputs_t[-2][:, :, None] * -prepared.weights_t[-1][:, None, :]
        self._late_table = late if late.nbytes <= _TABLE_BYTES else late[:0]
        # What rows of tiles meet, aligned.
        self._weights_t = [_aligned(w, 0) for w in prepared.weights_t[:-1]]
        self._weight_out = _aligned(prepared.weights[-1], 0)
        self._activations: list[PreparedActivation] = [
            (kind, parameter, _aligned(first, 1), _aligned(second, 1))
            for kind, parameter, first, second in prepared.activations[:-1]
        ]
        self._rows = np.empty((n_kept, widths[-2]), dtype)
        self._made = np.zeros(-(-n_early // _GROUP), np.bool_)
        self._lock = Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Without the table, which another process makes again, bit by bit the same."""
        return {"_prepared": self._prepared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_prepared"])  # type: ignore[misc]

    def changes(self, events: Events) -> Part:
        """Changed pairs of the trials of `events`."""
        trials, *about = drop_silent(
            events.offsets, events.site, events.start, events.stop, self._silent
        )
        block = _Block(layer_bounds(trials, about[0], self._site_offsets), *about)
        prepared, depth = self._prepared, self._depth
        offsets, inputs, single, several = classify(
            *block.arguments, self._golden_t, self._patchable, self._tabled
        )
        self._make_table(single)
        sums = np.zeros((len(inputs), prepared.network.widths[-1]), prepared.dtype)
        hidden = max(0, depth - 2)
        fill_pairs(
            *block.arguments,
            offsets,
            inputs,
            single,
            self._golden_t,
            self._site_offsets,
            self._table,
            self._late_table,
            (self._rows, self._number),
            prepared.weights[hidden],
            prepared.weights_t[-1],
            prepared.activations_t[hidden],
            sums,
        )
        for first, stop in pairwise(cut_rows(several, _BLOCK_ROWS)):
            self._several(block, inputs, several[first:stop], sums, sums[:0])
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
        self, block: _Block, inputs: Array, several: Array, sums: Array, kept: Array
    ) -> None:
        """Write dz_L of the pairs in `several` into sums, and the rows of layer L - 1 into kept."""
        prepared = self._prepared
        several, edges, groups = order_by_product(
            several, *block.arguments, self._active, prepared.n_inputs
        )
        rows = np.empty((0, prepared.network.widths[0]), prepared.dtype)
        for layer in range(1, self._depth):
            weight_t = prepared.weights_t[layer - 1]
            for_blas = groups[groups[:, 0] == layer - 1, 1:]
            n_products = int(for_blas[-1, 1]) if len(for_blas) else len(rows)
            last = layer == self._depth - 1
            n_rows = n_products if last else int(edges[layer])
            before, rows = rows, np.empty((n_rows, weight_t.shape[1]), prepared.dtype)
            if len(before):
                np.matmul(before, weight_t, out=rows[: len(before)])
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
                rows,
            )
            if last:
                tile = _aligned(np.zeros((TILE, weight_t.shape[1]), prepared.dtype), 0)
                finish_rows(*about, self._weight_out, tile, kept, sums)
            else:
                change_rows(*about)

    def _make_table(self, single: Array) -> None:
        """Fill the table for neurons that are `single` in a pair, where it is not there already."""
        if self._made.all():
            return
        missing = np.zeros_like(self._made)
        missing[single[single >= 0] // _GROUP] = True
        missing &= ~self._made
        if not missing.any():
            return
        with self._lock:
            for group in np.flatnonzero(missing & ~self._made):
                self._make_group(int(group))
                self._made[group] = True

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
            *block.arguments, self._golden_t, self._patchable, False
        )
        sums = np.empty((len(inputs), self._table.shape[2]), self._table.dtype)
        n_kept = int(np.searchsorted(sites, len(self._number)))
        kept = np.empty((len(several) if n_kept else 0, self._rows.shape[1]), self._rows.dtype)
        self._several(block, inputs, several, sums, kept)
        site = np.repeat(sites, np.diff(offsets))
        self._table[site, inputs] = sums
        if n_kept:
            # Rows come by the first layer that changes, which for single neurons is by number.
            deep = site < len(self._number)
            self._rows[self._number[site[deep], inputs[deep]]] = kept[deep]
