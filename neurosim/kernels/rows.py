"""Pairs in which several dead neurons matter: rows of changes, one layer after the other.

Pairs come as `several` of `kernels.neurons.classify`, events as described there. Rows are computed
in tiles that stay in the innermost cache: the dead columns of W, phi, dead neurons of the layer,
and for the last hidden layer the outputs. Nothing is called or viewed for a single row, which would
cost as much as a hundred additions: matrices are indexed in place.
"""

import numpy as np
from numba import njit

from neurosim.kernels.activations import change_rows_at
from neurosim.kernels.vectors import use_wide_vectors

__all__ = ["TILE", "add_columns", "change_rows", "cut_rows", "finish_rows", "multiply_rows"]

# Rows of a tile, and columns of it that are computed together: those of as many columns of W as a
# trial may lose stay in the cache. A tile is even, for outputs are summed for two rows together.
TILE, _STRIP = 8, 256


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

    Four columns at a time, and only their entries begin .. stop - 1.
    """
    use_wide_vectors()
    for k in range(len(n)):
        row = at + k
        u0, u1, u2, u3 = units[k, 0], units[k, 1], units[k, 2], units[k, 3]
        a0, a1, a2, a3 = values[k, 0], values[k, 1], values[k, 2], values[k, 3]
        e = 1 + (n[k] - 1) % 4 if n[k] > 0 else 0
        if e == 4:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] = (a0 * columns[u0, i] + a1 * columns[u1, i]) + (
                    a2 * columns[u2, i] + a3 * columns[u3, i]
                )
        elif e == 3:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] = (a0 * columns[u0, i] + a1 * columns[u1, i]) + a2 * columns[u2, i]
        elif e == 2:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] = a0 * columns[u0, i] + a1 * columns[u1, i]
        elif e == 1:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] = a0 * columns[u0, i]
        else:
            rows[row, begin:stop] = 0
        while e < n[k]:
            u0, u1, u2, u3 = units[k, e], units[k, e + 1], units[k, e + 2], units[k, e + 3]
            a0, a1, a2, a3 = values[k, e], values[k, e + 1], values[k, e + 2], values[k, e + 3]
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] += (a0 * columns[u0, i] + a1 * columns[u1, i]) + (
                    a2 * columns[u2, i] + a3 * columns[u3, i]
                )
            e += 4


@njit(cache=True, nogil=True, error_model="numpy")
def _dead(begin, end, x, site, start, stop, first_site, golden_t, units, values, k):
    """Dead neurons of a layer on input x with an output other than 0: units, minus their outputs.

    Events begin .. end - 1; writes row k of units and values and returns how many there are.
    """
    n, column = np.uint64(0), np.uint64(x)
    for e in range(np.uint64(begin), np.uint64(end)):
        y = golden_t[np.uint64(site[e]), column]
        # Written before it is known whether it counts: a wrong guess of a branch costs more.
        units[k, n], values[k, n] = site[e] - first_site, -y
        n += np.uint64((start[e] <= x) & (x < stop[e]) & (y != golden_t.dtype.type(0)))
    return np.int64(n)


@njit(cache=True, nogil=True, error_model="numpy")
def _change_tile(
    layer, begin, m, dense, several, inputs, bounds, site, start, stop, golden_t, site_offsets,
    weight_t, activation, golden, scratch, rows, at,
):  # fmt: skip
    """Pairs begin .. begin + m - 1 of `several`, into rows at .. at + m - 1; see `change_rows`.

    dense: whether those rows hold W dy on entry.
    """
    kind, parameter, first, second = activation
    xs, units, values, n = scratch
    width = rows.shape[1]
    for k in range(m):
        xs[k] = inputs[several[begin + k, 2]]
    if dense:
        change_rows_at(kind, parameter, xs[:m], first, second, rows, at, 0, width)
    else:
        for k in range(m):
            t = several[begin + k, 1]
            n[k] = _dead(
                bounds[t, layer - 1], bounds[t, layer], xs[k], site, start, stop,
                site_offsets[layer - 1], golden_t, units, values, k,
            )  # fmt: skip
        for i in range(0, width, _STRIP):
            end = min(i + _STRIP, width)
            add_columns(units, values, n[:m], weight_t, rows, at, i, end)
            change_rows_at(kind, parameter, xs[:m], first, second, rows, at, i, end)
    for k in range(m):
        t, x = several[begin + k, 1], xs[k]
        for e in range(np.uint64(bounds[t, layer]), np.uint64(bounds[t, layer + 1])):
            if start[e] <= x < stop[e]:
                unit = np.uint64(site[e] - site_offsets[layer])
                rows[at + k, unit] = -golden[x, unit]


@njit(cache=True, nogil=True, error_model="numpy")
def _scratch(bounds, dtype):
    """Of a tile: its inputs; units, values and number of the dead neurons of a layer."""
    most = 0
    for t in range(len(bounds)):
        for layer in range(bounds.shape[1] - 1):
            most = max(most, bounds[t, layer + 1] - bounds[t, layer])
    # One more is written by `_dead`; four at least are read by `add_columns`.
    units, values = np.zeros((TILE, most + 4), np.int64), np.zeros((TILE, most + 4), dtype)
    return np.empty(TILE, np.int64), units, values, np.empty(TILE, np.int64)


@njit(cache=True, nogil=True, error_model="numpy")
def change_rows(
    layer, n_products, several, inputs, bounds, site, start, stop, golden_t, site_offsets,
    weight_t, activation, golden, rows,
):  # fmt: skip
    """Changes of the outputs of `layer`, one row a pair, for the first len(rows) of `several`.

    The first n_products rows hold W dy on entry. In the other pairs dead neurons of the layer
    before are the first to change anything; they multiply the columns of W, weight_t (n_in, n).
    golden (n_inputs, n): outputs of the layer.
    """
    scratch = _scratch(bounds, rows.dtype)
    begin = 0
    while begin < len(rows):
        dense = begin < n_products
        m = min(TILE, (n_products if dense else len(rows)) - begin)
        _change_tile(
            layer, begin, m, dense, several, inputs, bounds, site, start, stop, golden_t,
            site_offsets, weight_t, activation, golden, scratch, rows, begin,
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
    weight_t, activation, golden, products, weight_out, tile, kept, sums,
):  # fmt: skip
    """`change_rows` for layer L - 1 and its product with W_L, weight_out (n_out, n), into sums.

    products (n_products, n): W dy of the first pairs, is overwritten. kept: (len(several), n) to
    keep the rows as well, or no rows. tile: scratch, at least eight rows, as wide as weight_out.
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
            site_offsets, weight_t, activation, golden, scratch, rows, at,
        )  # fmt: skip
        if len(kept):
            kept[begin : begin + m] = rows[at : at + m, : kept.shape[1]]
        multiply_rows(at, m, rows, weight_out, into)
        for k in range(m):
            for o in range(len(weight_out)):
                sums[several[begin + k, 2], o] = into[k, o]
        begin += m
