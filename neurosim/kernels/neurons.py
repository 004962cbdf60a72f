"""Trials in which neurons died and no synapse: from their events to the change of the outputs.

The change of the sums dz_L of the output layer is what these kernels make; its activation comes
last (`finish_outputs`). A pair (trial, input) is of one of three sorts (`classify`):

- *simple*: nothing before layer L - 1 changed; dz_L is linear in the dead outputs of layer L - 1;
- *single*: one dead neuron before layer L - 1 has an output other than 0. What it does alone is
  read from a table; dead neurons of layer L - 1 are corrected for (`fill_pairs`);
- *several*: computed layer by layer as rows of changes (`change_rows`, `finish_rows`).

Events of a block of trials come as (site, start, stop), sorted by site within a trial, with
bounds[t, l] the first event of trial t in layer l or later, l = 0..L + 1. Golden outputs of all
neurons come as golden_t (n_sites, n_inputs). Every pair is computed by itself in a fixed order of
operations, so that its bits do not depend on which others are in the block.
"""

import numpy as np
from numba import njit

from neurosim.kernels.activations import IDENTITY, change_row

__all__ = [
    "NONE",
    "SEVERAL",
    "add_columns",
    "change_rows",
    "classify",
    "fill_pairs",
    "finish_outputs",
    "finish_rows",
    "layer_bounds",
]

# What is said of a pair instead of the number of its single dead neuron.
NONE, SEVERAL = -1, -2

# Rows whose outputs are summed together: they stay in the innermost cache. Even.
_TILE = 8


@njit(cache=True, nogil=True, error_model="numpy")
def layer_bounds(offsets, site, site_offsets):
    """Bounds (n_trials, L + 2) of the events of each layer; site_offsets (L + 2,)."""
    n_trials, n_layers = len(offsets) - 1, len(site_offsets) - 1
    bounds = np.empty((n_trials, n_layers + 1), np.int64)
    for t in range(n_trials):
        e = offsets[t]
        for layer in range(n_layers):
            bounds[t, layer] = e
            while e < offsets[t + 1] and site[e] < site_offsets[layer + 1]:
                e += 1
        bounds[t, n_layers] = e
    return bounds


@njit(cache=True, nogil=True, error_model="numpy")
def _note(golden, event, count, first):
    """Count an event where the golden output is not 0; note the first such event of an input."""
    zero = golden.dtype.type(0)
    for x in range(len(golden)):
        counts = np.int32(golden[x] != zero)
        first[x] = event if count[x] == 0 and counts == 1 else first[x]
        count[x] += counts


@njit(cache=True, nogil=True, error_model="numpy")
def _layer_of(bounds, event):
    layer = 0
    while bounds[layer + 1] <= event:
        layer += 1
    return layer


@njit(cache=True, nogil=True, error_model="numpy")
def classify(bounds, site, start, stop, golden_t, simple_patch, tabled):
    """Which inputs of each trial change, and how: (offsets, inputs, single, several).

    Parameters
    ----------
    bounds, site, start, stop, golden_t
    simple_patch : (L - 1,) bool
        Layers whose single dead neuron may go together with dead neurons of layer L - 1.
    tabled : bool
        Whether there is a table of single dead neurons.

    Returns
    -------
    offsets : (n_trials + 1,)
        The changed pairs of trial t are offsets[t] .. offsets[t + 1] - 1.
    inputs : (n_pairs,) int32, ascending in a trial
    single : (n_pairs,) int64
        The single dead neuron, NONE or SEVERAL.
    several : (n_several, 3) int64
        (first layer that changes, trial, number of the pair), by layer, then in order.
    """
    n_trials, n_inputs, depth = len(bounds), golden_t.shape[1], bounds.shape[1] - 2
    room = 0
    for t in range(n_trials):
        room += n_inputs if bounds[t, depth + 1] > bounds[t, 0] else 0
    offsets = np.zeros(n_trials + 1, np.int64)
    inputs, single = np.empty(room, np.int32), np.empty(room, np.int64)
    layers = np.empty(room, np.int64)
    count, first = np.empty(n_inputs, np.int32), np.empty(n_inputs, np.int64)
    late = np.empty(n_inputs, np.bool_)
    by_layer = np.zeros(depth + 1, np.int64)
    n = 0
    for t in range(n_trials):
        begin, middle, end = bounds[t, 0], bounds[t, depth - 1], bounds[t, depth + 1]
        offsets[t + 1] = n
        if begin == end:
            continue
        count[:] = 0
        for e in range(begin, middle):
            a, b = start[e], stop[e]
            _note(golden_t[site[e], a:b], np.int64(e), count[a:b], first[a:b])
        late[:] = False
        for e in range(middle, end):
            late[start[e] : stop[e]] = True
        for x in range(n_inputs):
            if count[x] == 0 and not late[x]:
                continue
            inputs[n], single[n], layers[n] = x, NONE, 0
            if count[x] > 0:
                layer = _layer_of(bounds[t], first[x])
                if tabled and count[x] == 1 and (simple_patch[layer] or not late[x]):
                    single[n] = site[first[x]]
                else:
                    single[n], layers[n] = SEVERAL, layer
                    by_layer[layer + 1] += 1
            n += 1
        offsets[t + 1] = n
    several = np.empty((by_layer.sum(), 3), np.int64)
    at = np.cumsum(by_layer)
    for t in range(n_trials):
        for i in range(offsets[t], offsets[t + 1]):
            if single[i] == SEVERAL:
                k = at[layers[i]]
                several[k, 0], several[k, 1], several[k, 2] = layers[i], t, i
                at[layers[i]] += 1
    return offsets, inputs[:n].copy(), single[:n].copy(), several


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _add_four(a0, a1, a2, a3, c0, c1, c2, c3, total):
    for i in range(len(total)):
        total[i] += (a0 * c0[i] + a1 * c1[i]) + (a2 * c2[i] + a3 * c3[i])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _add_one(a, c, total):
    for i in range(len(total)):
        total[i] += a * c[i]


@njit(cache=True, nogil=True, error_model="numpy")
def add_columns(units, values, columns, total):
    """Total += sum of values[e] * columns[units[e]]; four at a time, for each pass costs memory."""
    e, n = 0, len(units)
    while e + 4 <= n:
        _add_four(
            values[e],
            values[e + 1],
            values[e + 2],
            values[e + 3],
            columns[units[e]],
            columns[units[e + 1]],
            columns[units[e + 2]],
            columns[units[e + 3]],
            total,
        )
        e += 4
    while e < n:
        _add_one(values[e], columns[units[e]], total)
        e += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _dead(begin, end, x, site, start, stop, first_site, golden_t, units, values):
    """Dead neurons of a layer on input x with an output other than 0: units, minus their outputs.

    Events begin .. end - 1; returns how many there are.
    """
    n = 0
    for e in range(begin, end):
        y = golden_t[site[e], x]
        if start[e] <= x < stop[e] and y != golden_t.dtype.type(0):
            units[n], values[n] = site[e] - first_site, -y
            n += 1
    return n


@njit(cache=True, nogil=True, error_model="numpy")
def fill_pairs(
    bounds, site, start, stop, offsets, inputs, single, golden_t, site_offsets, table, changes,
    weight, weight_t, hidden, sums,
):  # fmt: skip
    """Write dz_L of the simple and the single pairs into sums (n_pairs, n_out).

    Parameters
    ----------
    table : (n_early_sites, n_inputs, n_out)
        dz_L when one neuron alone is dead.
    changes : (rows, number)
        Rows (n, n_{L-1}) of changes of layer L - 1 under one dead neuron before layer L - 2, and
        their numbers (n_early_sites, n_inputs).
    weight, weight_t
        Of layer L - 1 (n_{L-1}, n_{L-2}), and of layer L transposed (n_{L-1}, n_out).
    hidden : (kind, parameter, first, second)
        Activation and golden caches (n_inputs, n_{L-1}) of layer L - 1.
    """
    depth = len(site_offsets) - 2
    kind, parameter, first, second = hidden
    first_hidden = site_offsets[depth - 1]
    last_early = site_offsets[depth - 2] if depth > 1 else 0
    rows, number = changes
    most = 0
    for t in range(len(bounds)):
        most = max(most, bounds[t, depth] - bounds[t, depth - 1])
    units, values = np.empty(most, np.int64), np.empty(most, sums.dtype)
    dz, dy = np.empty(most, sums.dtype), np.empty(most, sums.dtype)
    cached = np.empty((2, most), sums.dtype)
    for t in range(len(bounds)):
        begin, end = bounds[t, depth - 1], bounds[t, depth]
        for i in range(offsets[t], offsets[t + 1]):
            alone, x = single[i], inputs[i]
            if alone == SEVERAL:
                continue
            total = sums[i]
            m = _dead(begin, end, x, site, start, stop, first_hidden, golden_t, units, values)
            if alone == NONE:
                total[:] = 0
            else:
                total[:] = table[alone, x]
                if m > 0 and alone >= last_early:
                    y = golden_t[alone, x]
                    for e in range(m):
                        cached[0, e], cached[1, e] = first[x, units[e]], second[x, units[e]]
                        dz[e] = -y * weight[units[e], alone - last_early]
                    change_row(kind, parameter, cached[0, :m], cached[1, :m], dz[:m], dy[:m])
                    for e in range(m):
                        values[e] -= dy[e]
                elif m > 0:
                    for e in range(m):
                        values[e] -= rows[number[alone, x], units[e]]
            add_columns(units[:m], values[:m], weight_t, total)


@njit(cache=True, nogil=True, error_model="numpy")
def _change_row(
    r, layer, n_products, several, inputs, bounds, site, start, stop, golden_t, site_offsets,
    weight_t, activation, products, dz, units, values, row,
):  # fmt: skip
    """The change of `layer` in one pair, into row; see `change_rows`."""
    t, x = several[r, 1], inputs[several[r, 2]]
    kind, parameter, first, second = activation
    if r < n_products:
        change_row(kind, parameter, first[x], second[x], products[r], row)
    else:
        n = _dead(
            bounds[t, layer - 1],
            bounds[t, layer],
            x,
            site,
            start,
            stop,
            site_offsets[layer - 1],
            golden_t,
            units,
            values,
        )
        dz[:] = 0
        add_columns(units[:n], values[:n], weight_t, dz)
        change_row(kind, parameter, first[x], second[x], dz, row)
    for e in range(bounds[t, layer], bounds[t, layer + 1]):
        if start[e] <= x < stop[e]:
            row[site[e] - site_offsets[layer]] = -golden_t[site[e], x]


@njit(cache=True, nogil=True, error_model="numpy")
def _scratch(bounds, width, dtype):
    most = 0
    for t in range(len(bounds)):
        for layer in range(bounds.shape[1] - 1):
            most = max(most, bounds[t, layer + 1] - bounds[t, layer])
    return np.empty(width, dtype), np.empty(most, np.int64), np.empty(most, dtype)


@njit(cache=True, nogil=True, error_model="numpy")
def change_rows(
    layer, n_products, several, inputs, bounds, site, start, stop, golden_t, site_offsets,
    weight_t, activation, products, rows,
):  # fmt: skip
    """Changes of the outputs of `layer`, one row a pair, for the first len(rows) of `several`.

    The first n_products rows were rows in the layer before: products (n_products, n) holds their
    W dy. In the others dead neurons of the layer before are the first to change anything; they
    multiply the columns of W, weight_t (n_in, n).
    """
    dz, units, values = _scratch(bounds, rows.shape[1], rows.dtype)
    for r in range(len(rows)):
        _change_row(
            r, layer, n_products, several, inputs, bounds, site, start, stop, golden_t,
            site_offsets, weight_t, activation, products, dz, units, values, rows[r],
        )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _two_by_five(w0, w1, w2, w3, w4, a, b, sum_a, sum_b):
    zero = a.dtype.type(0)
    a0 = a1 = a2 = a3 = a4 = b0 = b1 = b2 = b3 = b4 = zero
    for i in range(len(a)):
        a0 += w0[i] * a[i]
        a1 += w1[i] * a[i]
        a2 += w2[i] * a[i]
        a3 += w3[i] * a[i]
        a4 += w4[i] * a[i]
        b0 += w0[i] * b[i]
        b1 += w1[i] * b[i]
        b2 += w2[i] * b[i]
        b3 += w3[i] * b[i]
        b4 += w4[i] * b[i]
    sum_a[0], sum_a[1], sum_a[2], sum_a[3], sum_a[4] = a0, a1, a2, a3, a4
    sum_b[0], sum_b[1], sum_b[2], sum_b[3], sum_b[4] = b0, b1, b2, b3, b4


@njit(cache=True, nogil=True, error_model="numpy")
def multiply_rows(rows, weight, sums):
    """Sums (n, n_out) = rows (n, n_in) times weight (n_out, n_in) transposed; n is even.

    Blocks of two rows and five outputs; the last block of outputs may overlap the one before.
    """
    n_out = len(weight)
    for r in range(0, len(rows), 2):
        for block in range(0, n_out, 5):
            o = max(0, min(block, n_out - 5))
            w = weight[o : o + 5]
            k = len(w) - 1
            if k == 4:
                _two_by_five(
                    w[0], w[1], w[2], w[3], w[4], rows[r], rows[r + 1],
                    sums[r, o:], sums[r + 1, o:],
                )  # fmt: skip
            else:
                few_a, few_b = np.empty(5, rows.dtype), np.empty(5, rows.dtype)
                _two_by_five(
                    w[0], w[min(1, k)], w[min(2, k)], w[min(3, k)], w[k], rows[r], rows[r + 1],
                    few_a, few_b,
                )  # fmt: skip
                sums[r, :k], sums[r + 1, :k] = few_a[:k], few_b[:k]
                sums[r, k], sums[r + 1, k] = few_a[4], few_b[4]


@njit(cache=True, nogil=True, error_model="numpy")
def finish_rows(
    layer, n_products, several, inputs, bounds, site, start, stop, golden_t, site_offsets,
    weight_t, activation, products, weight_out, kept, sums,
):  # fmt: skip
    """`change_rows` for layer L - 1 and its product with W_L, weight_out (n_out, n), into sums.

    kept: (len(several), n) to keep the rows as well, or no rows.
    """
    n = weight_out.shape[1]
    dz, units, values = _scratch(bounds, n, sums.dtype)
    tile = np.zeros((_TILE, n), sums.dtype)
    into = np.empty((_TILE, len(weight_out)), sums.dtype)
    for begin in range(0, len(several), _TILE):
        m = min(_TILE, len(several) - begin)
        for k in range(m):
            _change_row(
                begin + k, layer, n_products, several, inputs, bounds, site, start, stop,
                golden_t, site_offsets, weight_t, activation, products, dz, units, values, tile[k],
            )  # fmt: skip
            if len(kept):
                kept[begin + k] = tile[k]
        multiply_rows(tile[: m + m % 2], weight_out, into)
        for k in range(m):
            sums[several[begin + k, 2]] = into[k]


@njit(cache=True, nogil=True, error_model="numpy")
def finish_outputs(bounds, site, start, stop, offsets, inputs, site_offsets, activation, golden,
                   sums):  # fmt: skip
    """Turn changes of sums dz_L into changes of outputs, in place, and set dead outputs."""
    kind, parameter, first, second = activation
    depth = len(site_offsets) - 2
    dz = np.empty(sums.shape[1], sums.dtype)
    for t in range(len(bounds)):
        for i in range(offsets[t], offsets[t + 1]):
            x = inputs[i]
            if kind != IDENTITY:
                dz[:] = sums[i]
                change_row(kind, parameter, first[x], second[x], dz, sums[i])
            for e in range(bounds[t, depth], bounds[t, depth + 1]):
                if start[e] <= x < stop[e]:
                    unit = site[e] - site_offsets[depth]
                    sums[i, unit] = -golden[x, unit]
