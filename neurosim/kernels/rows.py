"""Pairs in which several dead neurons matter: rows of changes, one layer after the other.

Pairs come as `several` of `kernels.neurons.classify`, events as described there. Rows are computed
in tiles that stay in the innermost cache: the dead columns of W, phi, dead neurons of the layer,
and for the last hidden layer the outputs. Nothing is called or viewed for a single row, which would
cost as much as a hundred additions: matrices are indexed in place.
"""

import numpy as np
from numba import njit

from neurosim.kernels.activations import change_rows_at

__all__ = ["add_columns", "change_rows", "cut_rows", "finish_rows", "multiply_rows"]

# Rows of a tile. Even, for outputs are summed for two rows together.
_TILE = 8


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
def add_columns(units, values, n, columns, total, k):
    """Row k of total = sum of values[e] * columns[units[e]] over e < n, four at a time."""
    width = total.shape[1]
    u0, u1, u2, u3 = units[0], units[1], units[2], units[3]
    a0, a1, a2, a3 = values[0], values[1], values[2], values[3]
    e = 1 + (n - 1) % 4 if n > 0 else 0
    if e == 4:
        for i in range(width):
            total[k, i] = (a0 * columns[u0, i] + a1 * columns[u1, i]) + (
                a2 * columns[u2, i] + a3 * columns[u3, i]
            )
    elif e == 3:
        for i in range(width):
            total[k, i] = (a0 * columns[u0, i] + a1 * columns[u1, i]) + a2 * columns[u2, i]
    elif e == 2:
        for i in range(width):
            total[k, i] = a0 * columns[u0, i] + a1 * columns[u1, i]
    elif e == 1:
        for i in range(width):
            total[k, i] = a0 * columns[u0, i]
    else:
        total[k] = 0
    while e < n:
        u0, u1, u2, u3 = units[e], units[e + 1], units[e + 2], units[e + 3]
        a0, a1, a2, a3 = values[e], values[e + 1], values[e + 2], values[e + 3]
        for i in range(width):
            total[k, i] += (a0 * columns[u0, i] + a1 * columns[u1, i]) + (
                a2 * columns[u2, i] + a3 * columns[u3, i]
            )
        e += 4


@njit(cache=True, nogil=True, error_model="numpy")
def _dead(begin, end, x, site, start, stop, first_site, golden_t, units, values):
    """Dead neurons of a layer on input x with an output other than 0: units, minus their outputs.

    Events begin .. end - 1; returns how many there are.
    """
    n = 0
    for e in range(begin, end):
        y = golden_t[site[e], x]
        # Written before it is known whether it counts: a wrong guess of a branch costs more.
        units[n], values[n] = site[e] - first_site, -y
        n += (start[e] <= x) & (x < stop[e]) & (y != golden_t.dtype.type(0))
    return n


@njit(cache=True, nogil=True, error_model="numpy")
def _change_tile(
    layer, begin, m, n_products, several, inputs, bounds, site, start, stop, golden_t, site_offsets,
    weight_t, activation, golden, products, scratch, tile,
):  # fmt: skip
    """Rows begin .. begin + m - 1 of `change_rows`, into tile; all have products, or none."""
    kind, parameter, first, second = activation
    xs, dz, units, values = scratch
    for k in range(m):
        xs[k] = inputs[several[begin + k, 2]]
    if begin < n_products:
        sums = products[begin : begin + m]
        change_rows_at(kind, parameter, xs[:m], first, second, sums, tile)
    else:
        for k in range(m):
            t = several[begin + k, 1]
            n = _dead(
                bounds[t, layer - 1], bounds[t, layer], xs[k], site, start, stop,
                site_offsets[layer - 1], golden_t, units, values,
            )  # fmt: skip
            add_columns(units, values, n, weight_t, dz, k)
        change_rows_at(kind, parameter, xs[:m], first, second, dz, tile)
    for k in range(m):
        t, x = several[begin + k, 1], xs[k]
        for e in range(bounds[t, layer], bounds[t, layer + 1]):
            if start[e] <= x < stop[e]:
                unit = site[e] - site_offsets[layer]
                tile[k, unit] = -golden[x, unit]


@njit(cache=True, nogil=True, error_model="numpy")
def _scratch(bounds, width, dtype):
    """Inputs and sums of a tile; units and values of the dead neurons of a layer in one pair."""
    most = 0
    for t in range(len(bounds)):
        for layer in range(bounds.shape[1] - 1):
            most = max(most, bounds[t, layer + 1] - bounds[t, layer])
    # One more is written by `_dead`; four at least are read by `add_columns`.
    units, values = np.zeros(most + 4, np.int64), np.zeros(most + 4, dtype)
    return np.empty(_TILE, np.int64), np.empty((_TILE, width), dtype), units, values


@njit(cache=True, nogil=True, error_model="numpy")
def change_rows(
    layer, n_products, several, inputs, bounds, site, start, stop, golden_t, site_offsets,
    weight_t, activation, golden, products, rows,
):  # fmt: skip
    """Changes of the outputs of `layer`, one row a pair, for the first len(rows) of `several`.

    products (n_products, n) holds W dy of the first n_products pairs. In the others dead neurons of
    the layer before are the first to change anything; they multiply the columns of W, weight_t
    (n_in, n). golden (n_inputs, n): outputs of the layer.
    """
    scratch = _scratch(bounds, rows.shape[1], rows.dtype)
    begin = 0
    while begin < len(rows):
        m = min(_TILE, (n_products if begin < n_products else len(rows)) - begin)
        _change_tile(
            layer, begin, m, n_products, several, inputs, bounds, site, start, stop, golden_t,
            site_offsets, weight_t, activation, golden, products, scratch, rows[begin : begin + m],
        )  # fmt: skip
        begin += m


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def multiply_rows(n, rows, weight, sums):
    """Sums (n, n_out) = rows (n, n_in) times weight (n_out, n_in) transposed.

    In blocks of two rows and five outputs, whose ten sums stay in registers. rows has an even
    number of rows; the last block of outputs overlaps the one before, or repeats the last output.
    """
    n_out, n_in = weight.shape
    for r in range(0, n, 2):
        s = r + 1
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
            sums[r, o0], sums[r, o1], sums[r, o2], sums[r, o3], sums[r, o4] = a0, a1, a2, a3, a4
            sums[s, o0], sums[s, o1], sums[s, o2], sums[s, o3], sums[s, o4] = b0, b1, b2, b3, b4


@njit(cache=True, nogil=True, error_model="numpy")
def finish_rows(
    layer, n_products, several, inputs, bounds, site, start, stop, golden_t, site_offsets,
    weight_t, activation, golden, products, weight_out, kept, sums,
):  # fmt: skip
    """`change_rows` for layer L - 1 and its product with W_L, weight_out (n_out, n), into sums.

    kept: (len(several), n) to keep the rows as well, or no rows.
    """
    n = weight_out.shape[1]
    scratch = _scratch(bounds, n, sums.dtype)
    tile = np.zeros((_TILE, n), sums.dtype)
    into = np.empty((_TILE, len(weight_out)), sums.dtype)
    begin = 0
    while begin < len(several):
        m = min(_TILE, (n_products if begin < n_products else len(several)) - begin)
        _change_tile(
            layer, begin, m, n_products, several, inputs, bounds, site, start, stop, golden_t,
            site_offsets, weight_t, activation, golden, products, scratch, tile,
        )  # fmt: skip
        if len(kept):
            kept[begin : begin + m] = tile[:m]
        multiply_rows(m, tile, weight_out, into)
        for k in range(m):
            for o in range(len(weight_out)):
                sums[several[begin + k, 2], o] = into[k, o]
        begin += m
