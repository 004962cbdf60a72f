"""Pairs in which several dead neurons matter: rows of changes, one layer after the other.

Pairs come as `several` of `kernels.neurons.classify`, events as described there. Rows are computed
in tiles that stay in the innermost cache: the dead columns of W, phi, dead neurons of the layer,
and for the last hidden layer the outputs. Nothing is called or viewed for a single row, which would
cost as much as a hundred additions: matrices are indexed in place.
"""

import numpy as np
from numba import njit

from neurosim.kernels.activations import change_row, change_rows_at
from neurosim.kernels.neurons import NONE, end_of_trial
from neurosim.kernels.vectors import use_wide_vectors

__all__ = ["TILE", "add_columns", "change_rows", "cut_rows", "finish_rows", "multiply_rows"]

# Rows of a tile, and columns of it that are computed together: those of as many columns of W as a
# trial may lose stay in the cache. A tile is even, for outputs are summed for two rows together.
TILE, _STRIP = 8, 512


@njit(cache=True, nogil=True, error_model="numpy")
def cut_rows(several, most):
    """Edges of blocks of about `most` consecutive rows of `several`, no trial cut in a layer."""
    edges = np.empty(len(several) // most + 2, np.int64)
    edges[0] = n = 0
    if not len(several):
        return edges[:1].copy()
    for r in range(1, len(several)):
        new = several[r, 1] != several[r - 1, 1] or several[r, 0] != several[r - 1, 0]
        if new and r - edges[n] >= most:
            n += 1
            edges[n] = r
    edges[n + 1] = len(several)
    return edges[: n + 2].copy()


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def add_columns(units, values, n, columns, rows, at, begin, stop):
    """Row at + k of rows = sum of values[k, e] * columns[units[k, e]] over e < n[k], for each k.

    Only their entries begin .. stop - 1. Four or eight columns at a time: after n[k] come seven
    units, any, with values 0.
    """
    use_wide_vectors()
    for k in range(len(n)):
        row = at + k
        u0, u1, u2, u3 = units[k, 0], units[k, 1], units[k, 2], units[k, 3]
        a0, a1, a2, a3 = values[k, 0], values[k, 1], values[k, 2], values[k, 3]
        if n[k] <= 4:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] = (a0 * columns[u0, i] + a1 * columns[u1, i]) + (
                    a2 * columns[u2, i] + a3 * columns[u3, i]
                )
            continue
        u4, u5, u6, u7 = units[k, 4], units[k, 5], units[k, 6], units[k, 7]
        a4, a5, a6, a7 = values[k, 4], values[k, 5], values[k, 6], values[k, 7]
        for i in range(np.uint64(begin), np.uint64(stop)):
            rows[row, i] = (
                (a0 * columns[u0, i] + a1 * columns[u1, i])
                + (a2 * columns[u2, i] + a3 * columns[u3, i])
            ) + (
                (a4 * columns[u4, i] + a5 * columns[u5, i])
                + (a6 * columns[u6, i] + a7 * columns[u7, i])
            )
        e = 8
        while e < n[k]:
            u0, u1, u2, u3 = units[k, e], units[k, e + 1], units[k, e + 2], units[k, e + 3]
            a0, a1, a2, a3 = values[k, e], values[k, e + 1], values[k, e + 2], values[k, e + 3]
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] += (a0 * columns[u0, i] + a1 * columns[u1, i]) + (
                    a2 * columns[u2, i] + a3 * columns[u3, i]
                )
            e += 4


@njit(cache=True, nogil=True, error_model="numpy")
def _dead(begin, end, xs, first, last, site, start, stop, first_site, golden_t, units, values, n):
    """Dead neurons of a layer, events begin .. end - 1, with an output other than 0.

    On the inputs xs[first .. last - 1] of one trial; writes their rows of units and of values,
    minus their outputs, and into n how many there are; then units with value 0.
    """
    n[first:last] = 0
    for e in range(np.uint64(begin), np.uint64(end)):
        neuron, unit, since, until = np.uint64(site[e]), site[e] - first_site, start[e], stop[e]
        for k in range(np.uint64(first), np.uint64(last)):
            x, i = xs[k], np.uint64(n[k])
            y = golden_t[neuron, np.uint64(x)]
            # Written before it is known whether it counts: a wrong guess of a branch costs more.
            units[k, i], values[k, i] = unit, -y
            n[k] = i + np.uint64((since <= x) & (x < until) & (y != golden_t.dtype.type(0)))
    for k in range(first, last):  # as `add_columns` takes them
        units[k, n[k] : n[k] + 7] = 0
        values[k, n[k] : n[k] + 7] = 0


@njit(cache=True, nogil=True, error_model="numpy")
def _dead_beside(
    several, begin, end, xs, first, last, site, start, stop, low, first_site, golden_t,
    before, flat, units, values, n,
):  # fmt: skip
    """As `_dead`, where one neuron of the layer before is dead too: what they give is y + dy.

    several: the rows of these pairs. low and first_site: first neurons of the two layers; before:
    weight and activation of the layer of the dead neurons. flat: scratch.
    """
    weight, kind, parameter, golden_first, golden_second = before
    n[first:last] = 0
    total = 0
    for k in range(first, last):
        x, alone = xs[k], several[k, 3]
        for e in range(begin, end):
            if start[e] <= x < stop[e]:
                unit = site[e] - first_site
                units[k, n[k]] = unit
                flat[0, total], flat[1, total] = golden_first[x, unit], golden_second[x, unit]
                flat[2, total] = -golden_t[alone, x] * weight[unit, alone - low]
                n[k] += 1
                total += 1
    change_row(kind, parameter, flat[0, :total], flat[1, :total], flat[2, :total], flat[3, :total])
    total = 0
    for k in range(first, last):
        for i in range(n[k]):
            values[k, i] = -golden_t[first_site + units[k, i], xs[k]] - flat[3, total]
            total += 1
        units[k, n[k] : n[k] + 7] = 0
        values[k, n[k] : n[k] + 7] = 0


@njit(cache=True, nogil=True, error_model="numpy")
def _add_kept(which, kept, rows, at, begin, stop):
    """Row at + k of rows += row which[k] of kept, unless NONE; only entries begin .. stop - 1."""
    use_wide_vectors()
    for k in range(len(which)):
        row, own = at + k, which[k]
        if own != NONE:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] += kept[own, i]


@njit(cache=True, nogil=True, error_model="numpy")
def _set_dead(begin, end, xs, first, last, site, start, stop, first_site, golden_t, rows, at):
    """Changes of the dead neurons themselves, minus their outputs; arguments as for `_dead`."""
    for e in range(np.uint64(begin), np.uint64(end)):
        neuron, unit = np.uint64(site[e]), np.uint64(site[e] - first_site)
        since, until = start[e], stop[e]
        for k in range(np.uint64(first), np.uint64(last)):
            x = xs[k]
            if since <= x < until:
                rows[np.uint64(at) + k, unit] = -golden_t[neuron, np.uint64(x)]


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _change_tile(
    layer, begin, m, dense, several, inputs, bounds, site, start, stop, golden_t, site_offsets,
    weight_t, activation, before, kept, scratch, rows, at,
):  # fmt: skip
    """Pairs begin .. begin + m - 1 of `several`, into rows at .. at + m - 1; see `change_rows`.

    dense: whether those rows hold W dy on entry.
    """
    kind, parameter, first, second = activation
    xs, which, units, values, n, flat = scratch
    kept_rows, number = kept
    width = rows.shape[1]
    for k in range(m):
        xs[k] = inputs[several[begin + k, 2]]
    if dense:
        change_rows_at(kind, parameter, xs[:m], first, second, rows, at, 0, width)
    else:
        k = 0
        while k < m:
            t, last = several[begin + k, 1], end_of_trial(several, begin + k, begin + m) - begin
            alone = several[begin + k, 3]
            which[k:last] = NONE
            if alone == NONE:
                _dead(
                    bounds[t, layer - 1], bounds[t, layer], xs, k, last, site, start, stop,
                    site_offsets[layer - 1], golden_t, units, values, n,
                )  # fmt: skip
            else:
                for i in range(k, last):
                    which[i] = number[several[begin + i, 3], xs[i]]
                _dead_beside(
                    several[begin : begin + m], bounds[t, layer - 1], bounds[t, layer], xs, k, last,
                    site, start, stop, site_offsets[layer - 2], site_offsets[layer - 1], golden_t,
                    before, flat, units, values, n,
                )  # fmt: skip
            k = last
        for i in range(0, width, _STRIP):
            end = min(i + _STRIP, width)
            add_columns(units, values, n[:m], weight_t, rows, at, i, end)
            if several[begin + m - 1, 3] != NONE:  # such pairs are the last ones of their layer
                _add_kept(which[:m], kept_rows, rows, at, i, end)
            change_rows_at(kind, parameter, xs[:m], first, second, rows, at, i, end)
    k = 0
    while k < m:
        t, last = several[begin + k, 1], end_of_trial(several, begin + k, begin + m) - begin
        _set_dead(
            bounds[t, layer], bounds[t, layer + 1], xs, k, last, site, start, stop,
            site_offsets[layer], golden_t, rows, at,
        )  # fmt: skip
        k = last


@njit(cache=True, nogil=True, error_model="numpy")
def _scratch(bounds, dtype):
    """Of a tile: its inputs; rows that are kept; units, values and number of dead neurons; more."""
    most = 0
    for t in range(len(bounds)):
        for layer in range(bounds.shape[1] - 1):
            most = max(most, bounds[t, layer + 1] - bounds[t, layer])
    # Seven more are written by `_dead`.
    units, values = np.empty((TILE, most + 7), np.int64), np.empty((TILE, most + 7), dtype)
    xs, which, n = np.empty(TILE, np.int64), np.empty(TILE, np.int64), np.empty(TILE, np.int64)
    return xs, which, units, values, n, np.empty((4, TILE * most), dtype)


@njit(cache=True, nogil=True, error_model="numpy")
def change_rows(
    layer, n_products, several, inputs, bounds, site, start, stop, golden_t, site_offsets,
    weight_t, activation, before, kept, rows,
):  # fmt: skip
    """Changes of the outputs of `layer`, one row a pair, for the first len(rows) of `several`.

    The first n_products rows hold W dy on entry. In the other pairs dead neurons of the layer
    before are the first to change anything, or come on top of one dead neuron of the layer before
    theirs, for which dz is kept; they multiply the columns of W, weight_t (n_in, n).

    before: of the layer before, (weight, kind, parameter, first, second). kept: (rows, number), the
    rows (n, n_out) of dz and their numbers (n_early_sites, n_inputs).
    """
    scratch = _scratch(bounds, rows.dtype)
    begin = 0
    while begin < len(rows):
        dense = begin < n_products
        m = min(TILE, (n_products if dense else len(rows)) - begin)
        _change_tile(
            layer, begin, m, dense, several, inputs, bounds, site, start, stop, golden_t,
            site_offsets, weight_t, activation, before, kept, scratch, rows, begin,
        )  # fmt: skip
        begin += m


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def multiply_rows(at, n, rows, weight, sums):
    """Sums (n, n_out) = n rows, from at on, of rows (n_rows, n_in) times weight (n_out, n_in)^T.

    weight may have more columns than rows.

    In blocks of two rows and five outputs, whose ten sums stay in registers. Where n is odd, the
    last row is its own second; the last block of outputs overlaps the one before, or repeats the
    last output.
    """
    use_wide_vectors()
    n_out, n_in = len(weight), rows.shape[1]
    for k in range(0, n, 2):
        j = min(k + 1, n - 1)
        r, s = at + k, at + j
        for block in range(0, n_out, 5):
            o0 = max(0, min(block, n_out - 5))
            o1, o2 = min(o0 + 1, n_out - 1), min(o0 + 2, n_out - 1)
            o3, o4 = min(o0 + 3, n_out - 1), min(o0 + 4, n_out - 1)
            a0 = a1 = a2 = a3 = a4 = b0 = b1 = b2 = b3 = b4 = rows.dtype.type(0)
            for i in range(n_in):
                a, b = rows[r, i], rows[s, i]
                a0 += weight[o0, i] * a
                a1 += weight[o1, i] * a
                a2 += weight[o2, i] * a
                a3 += weight[o3, i] * a
                a4 += weight[o4, i] * a
                b0 += weight[o0, i] * b
                b1 += weight[o1, i] * b
                b2 += weight[o2, i] * b
                b3 += weight[o3, i] * b
                b4 += weight[o4, i] * b
            sums[k, o0], sums[k, o1], sums[k, o2], sums[k, o3], sums[k, o4] = a0, a1, a2, a3, a4
            sums[j, o0], sums[j, o1], sums[j, o2], sums[j, o3], sums[j, o4] = b0, b1, b2, b3, b4


@njit(cache=True, nogil=True, error_model="numpy")
def finish_rows(
    layer, n_products, several, inputs, bounds, site, start, stop, golden_t, site_offsets,
    weight_t, activation, before, kept, products, weight_out, tile, sums,
):  # fmt: skip
    """`change_rows` for layer L - 1 and its product with W_L, weight_out (n_out, n), into sums.

    products (n_products, n): W dy of the first pairs, is overwritten. tile: scratch, at least eight
    rows, as wide as weight_out.
    """
    scratch = _scratch(bounds, sums.dtype)
    into = np.empty((TILE, len(weight_out)), sums.dtype)
    begin = 0
    while begin < len(several):
        dense = begin < n_products
        m = min(TILE, (n_products if dense else len(several)) - begin)
        rows, at = (products, begin) if dense else (tile, 0)
        _change_tile(
            layer, begin, m, dense, several, inputs, bounds, site, start, stop, golden_t,
            site_offsets, weight_t, activation, before, kept, scratch, rows, at,
        )  # fmt: skip
        multiply_rows(at, m, rows, weight_out, into)
        for k in range(m):
            for o in range(len(weight_out)):
                sums[several[begin + k, 2], o] = into[k, o]
        begin += m
