"""Trials in which neurons died and no synapse: from their events to the change of the outputs.

The change of the sums dz_L of the output layer is what these kernels make; its activation comes
last (`finish_outputs`). A pair (trial, input) is of one of three sorts (`classify`):

- *simple*: nothing before layer L - 1 changed; dz_L is linear in the dead outputs of layer L - 1;
- *single*: one dead neuron before layer L - 1 matters, as its golden output is not 0. What it does
  alone is read from a table; dead neurons of layer L - 1 are corrected for (`fill_pairs`);
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
def _note(golden, event, before, count, first):
    """Count a dead neuron on the inputs where it matters; note the first such event of an input.

    It matters where its golden output is not 0, or where something before its layer changed.
    """
    zero = golden.dtype.type(0)
    for x in range(len(golden)):
        matters = np.int32((golden[x] != zero) | (before[x] > 0))
        first[x] = event if count[x] == 0 and matters == 1 else first[x]
        count[x] += matters


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
    before = np.empty(n_inputs, np.int32)
    late = np.empty(n_inputs, np.bool_)
    by_layer = np.zeros(depth + 1, np.int64)
    n = 0
    for t in range(n_trials):
        begin, middle, end = bounds[t, 0], bounds[t, depth - 1], bounds[t, depth + 1]
        offsets[t + 1] = n
        if begin == end:
            continue
        count[:] = 0
        least = 0
        for layer in range(depth - 1):
            before[:] = count
            for e in range(bounds[t, layer], bounds[t, layer + 1]):
                if e % 8 == 7:
                    least = count.min()
                if least > 1:
                    break  # a third dead neuron says nothing new
                a, b = start[e], stop[e]
                _note(golden_t[site[e], a:b], np.int64(e), before[a:b], count[a:b], first[a:b])
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
def add_columns(units, values, n, columns, total):
    """Total += sum of values[e] * columns[units[e]] over e < n, four at a time.

    Rows of a matrix are indexed in place here and below: a view of a row costs more than it saves.
    """
    width, e = len(total), 0
    while e + 4 <= n:
        u0, u1, u2, u3 = units[e], units[e + 1], units[e + 2], units[e + 3]
        a0, a1, a2, a3 = values[e], values[e + 1], values[e + 2], values[e + 3]
        for i in range(width):
            total[i] += (a0 * columns[u0, i] + a1 * columns[u1, i]) + (
                a2 * columns[u2, i] + a3 * columns[u3, i]
            )
        e += 4
    while e < n:
        u0, a0 = units[e], values[e]
        for i in range(width):
            total[i] += a0 * columns[u0, i]
        e += 1


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
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


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _add_last_hidden(unit, first_pair, begin, end, golden_t, late_table, weight_t, sums):
    """Add what a dead neuron of layer L - 1 does on inputs begin .. end - 1: -y times its column.

    It goes to consecutive rows of sums. late_table (n_{L-1}, n_inputs, n_out) has the products, or
    is empty.
    """
    n_out = sums.shape[1]
    if len(late_table):
        products, total = late_table[unit, begin:end].ravel(), sums[first_pair:].ravel()
        for i in range(len(products)):
            total[i] += products[i]
        return
    for x in range(begin, end):
        row, y = first_pair + x - begin, golden_t[unit, x]
        for o in range(n_out):
            sums[row, o] -= y * weight_t[unit, o]


@njit(cache=True, nogil=True, error_model="numpy")
def _patch(
    pairs, begin, end, site, start, stop, inputs, single, golden_t, site_offsets, changes,
    weight, weight_t, hidden, scratch, sums,
):  # fmt: skip
    """Correct the single pairs `pairs` of a trial for its dead neurons of layer L - 1.

    Those are events begin .. end - 1. `fill_pairs` added -y for each; as the single dead neuron
    changes y by dy, -dy is missing.
    """
    depth = len(site_offsets) - 2
    kind, parameter, first, second = hidden
    first_hidden = site_offsets[depth - 1]
    last_early = site_offsets[depth - 2] if depth > 1 else 0
    rows, number = changes
    units, values, known = scratch
    n = 0
    for i in pairs:
        x, alone = inputs[i], single[i]
        near = alone >= last_early
        for e in range(begin, end):
            if not start[e] <= x < stop[e]:
                continue
            u = site[e] - first_hidden
            units[n] = u
            values[0, n], values[1, n] = first[x, u], second[x, u]
            if near:
                values[2, n] = -golden_t[alone, x] * weight[u, alone - last_early]
                known[n] = 0
            else:
                values[2, n] = 0
                known[n] = rows[number[alone, x], u]
            n += 1
    dy = values[3, :n]
    change_row(kind, parameter, values[0, :n], values[1, :n], values[2, :n], dy)
    for k in range(n):
        known[k] = -(known[k] + dy[k])
    n = 0
    for i in pairs:
        m, x = n, inputs[i]
        for e in range(begin, end):
            m += start[e] <= x < stop[e]
        add_columns(units[n:m], known[n:m], m - n, weight_t, sums[i])
        n = m


@njit(cache=True, nogil=True, error_model="numpy")
def fill_pairs(
    bounds, site, start, stop, offsets, inputs, single, golden_t, site_offsets, table, late_table,
    changes, weight, weight_t, hidden, sums,
):  # fmt: skip
    """Write dz_L of the simple and the single pairs into sums (n_pairs, n_out), zeros on entry.

    Parameters
    ----------
    table : (n_early_sites, n_inputs, n_out)
        dz_L when one neuron before layer L - 1 alone is dead.
    late_table : (n_{L-1}, n_inputs, n_out)
        The same for neurons of layer L - 1, or empty.
    changes : (rows, number)
        Rows (n, n_{L-1}) of changes of layer L - 1 under one dead neuron before layer L - 2, and
        their numbers (n_early_sites, n_inputs).
    weight, weight_t
        Of layer L - 1 (n_{L-1}, n_{L-2}), and of layer L transposed (n_{L-1}, n_out).
    hidden : (kind, parameter, first, second)
        Activation and golden caches (n_inputs, n_{L-1}) of layer L - 1.
    """
    depth, n_inputs = len(site_offsets) - 2, golden_t.shape[1]
    first_hidden, n_out = site_offsets[depth - 1], sums.shape[1]
    golden_hidden_t = golden_t[first_hidden:]
    most = 0
    for t in range(len(bounds)):
        most = max(most, n_inputs * (bounds[t, depth] - bounds[t, depth - 1]))
    scratch = (
        np.empty(most, np.int64),
        np.empty((4, most), sums.dtype),
        np.empty(most, sums.dtype),
    )
    pairs = np.empty(n_inputs, np.int64)
    for t in range(len(bounds)):
        begin, end = bounds[t, depth - 1], bounds[t, depth]
        some = False  # others are written by `finish_rows`
        for i in range(offsets[t], offsets[t + 1]):
            some |= single[i] != SEVERAL
        if not some:
            continue
        for e in range(begin, end):
            row = offsets[t]
            while inputs[row] < start[e]:
                row += 1
            _add_last_hidden(
                site[e] - first_hidden, row, start[e], stop[e], golden_hidden_t, late_table,
                weight_t, sums,
            )  # fmt: skip
        n = 0
        if bounds[t, 0] < begin:
            for i in range(offsets[t], offsets[t + 1]):
                alone, x = single[i], inputs[i]
                if alone >= 0:
                    pairs[n] = i
                    n += 1
                    for o in range(n_out):
                        sums[i, o] += table[alone, x, o]
        if n > 0 and end > begin:
            _patch(
                pairs[:n], begin, end, site, start, stop, inputs, single, golden_t, site_offsets,
                changes, weight, weight_t, hidden, scratch, sums,
            )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _change_row(
    r, layer, n_products, several, inputs, bounds, site, start, stop, golden_t, site_offsets,
    weight_t, activation, golden, products, dz, units, values, row,
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
        add_columns(units, values, n, weight_t, dz)
        change_row(kind, parameter, first[x], second[x], dz, row)
    for e in range(bounds[t, layer], bounds[t, layer + 1]):
        if start[e] <= x < stop[e]:
            unit = site[e] - site_offsets[layer]
            row[unit] = -golden[x, unit]


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
    weight_t, activation, golden, products, rows,
):  # fmt: skip
    """Changes of the outputs of `layer`, one row a pair, for the first len(rows) of `several`.

    products (n_products, n) holds W dy of the first n_products pairs. In the others dead neurons of
    the layer before are the first to change anything; they multiply the columns of W, weight_t
    (n_in, n). golden (n_inputs, n): outputs of the layer.
    """
    dz, units, values = _scratch(bounds, rows.shape[1], rows.dtype)
    for r in range(len(rows)):
        _change_row(
            r, layer, n_products, several, inputs, bounds, site, start, stop, golden_t,
            site_offsets, weight_t, activation, golden, products, dz, units, values, rows[r],
        )  # fmt: skip


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
    dz, units, values = _scratch(bounds, n, sums.dtype)
    tile = np.zeros((_TILE, n), sums.dtype)
    into = np.empty((_TILE, len(weight_out)), sums.dtype)
    for begin in range(0, len(several), _TILE):
        m = min(_TILE, len(several) - begin)
        for k in range(m):
            _change_row(
                begin + k, layer, n_products, several, inputs, bounds, site, start, stop,
                golden_t, site_offsets, weight_t, activation, golden, products, dz, units, values,
                tile[k],
            )  # fmt: skip
            if len(kept):
                kept[begin + k] = tile[k]
        multiply_rows(m, tile, weight_out, into)
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
