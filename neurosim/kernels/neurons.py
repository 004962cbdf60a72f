"""Trials in which neurons died and no synapse: from their events to the change of the outputs.

The change of the sums dz_L of the output layer is what these kernels make; its activation comes
last (`finish_outputs`). A pair (trial, input) is of one of three sorts (`classify`):

- *simple*: nothing before layer L - 1 changed; dz_L is linear in the dead outputs of layer L - 1;
- *single*: one dead neuron before layer L - 1 matters, as its golden output is not 0. What it does
  alone is read from a table; dead neurons of layer L - 1 are corrected for (`fill_pairs`);
- *several*: computed layer by layer as rows of changes (`kernels.rows`); behind a dead neuron that
  is alone in its layer from two layers further on, if those sums are kept.

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
    "classify",
    "drop_silent",
    "end_of_trial",
    "fill_pairs",
    "finish_outputs",
    "layer_bounds",
]

# What is said of a pair instead of the number of its single dead neuron.
NONE, SEVERAL = -1, -2

# Kept values are used in a trial if at least one in so many of its pairs can start from them: to
# make them, each dead neuron of the trial is computed on all inputs.
_WORTH_KEEPING = 8

# All pairs of a trial are filled at once unless fewer than one in so many is needed: to fill one by
# itself costs as much as that many together (estimate).
_FEW = 8


@njit(cache=True, nogil=True, error_model="numpy")
def layer_bounds(offsets, site, site_offsets):
    """Bounds (n_trials, L + 2) of the events of each layer; site_offsets (L + 2,)."""
    n_trials, n_layers = len(offsets) - 1, len(site_offsets) - 1
    bounds = np.empty((n_trials, n_layers + 1), np.int64)
    for t in range(n_trials):
        bounds[t, 0] = offsets[t]
        for layer in range(1, n_layers):
            e, end = bounds[t, layer - 1], offsets[t + 1]
            while e < end:  # the first one is in e .. end
                middle = (e + end) // 2
                if site[middle] < site_offsets[layer]:
                    e = middle + 1
                else:
                    end = middle
            bounds[t, layer] = e
        bounds[t, n_layers] = offsets[t + 1]
    return bounds


@njit(cache=True, nogil=True, error_model="numpy")
def drop_silent(offsets, site, start, stop, silent):
    """Events (offsets, site, start, stop) without those of silent neurons, silent (n,) bool.

    A neuron of layer 0 that is 0 on all inputs may die and change nothing.
    """
    new_offsets, n = np.zeros(len(offsets), np.int64), np.uint64(0)
    new_site = np.empty(len(site), site.dtype)
    new_start, new_stop = np.empty(len(site), start.dtype), np.empty(len(site), stop.dtype)
    for t in range(len(offsets) - 1):
        for e in range(np.uint64(offsets[t]), np.uint64(offsets[t + 1])):
            new_site[n], new_start[n], new_stop[n] = site[e], start[e], stop[e]
            n += np.uint64(not silent[np.uint64(site[e])])
        new_offsets[t + 1] = n
    return new_offsets, new_site[:n], new_start[:n], new_stop[:n]


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
def classify(bounds, site, start, stop, golden_t, patchable, tabled, starts):
    """Which inputs of each trial change, and how: (offsets, inputs, single, several).

    Parameters
    ----------
    bounds, site, start, stop, golden_t
    patchable : (L - 1,) bool
        Layers whose single dead neuron may go together with dead neurons of layer L - 1.
    tabled : bool
        Whether there is a table of single dead neurons.
    starts : (L - 1,) bool
        Layers l for whose dead neurons, each alone, dz of layer l + 2 is kept.

    Returns
    -------
    offsets : (n_trials + 1,)
        The changed pairs of trial t are offsets[t] .. offsets[t + 1] - 1.
    inputs : (n_pairs,) int32, ascending in a trial
    single : (n_pairs,) int64
        The single dead neuron, NONE or SEVERAL.
    several : (n_several, 4) int64
        (first layer to compute, trial, number of the pair, NONE or the dead neuron that is alone in
        the layer before and whose kept dz is the start), by layer, those with NONE first, then in
        order.
    """
    n_trials, n_inputs, depth = len(bounds), golden_t.shape[1], bounds.shape[1] - 2
    room = 0
    for t in range(n_trials):
        room += n_inputs if bounds[t, depth + 1] > bounds[t, 0] else 0
    offsets = np.zeros(n_trials + 1, np.int64)
    inputs, single = np.empty(room, np.int32), np.empty(room, np.int64)
    layers, alone = np.empty(room, np.int64), np.empty(room, np.int64)
    count, first = np.empty(n_inputs, np.int32), np.empty(n_inputs, np.int64)
    before, in_first = np.empty(n_inputs, np.int32), np.empty(n_inputs, np.int32)
    late = np.empty(n_inputs, np.bool_)
    by_start = np.zeros(2 * depth + 1, np.int64)
    n = 0
    for t in range(n_trials):
        begin, middle, end = bounds[t, 0], bounds[t, depth - 1], bounds[t, depth + 1]
        offsets[t + 1] = n
        if begin == end:
            continue
        count[:] = 0
        in_first[:] = 0
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
            for x in range(n_inputs):
                in_first[x] = count[x] if before[x] == 0 else in_first[x]
        late[:] = False
        n_several = n_alone = 0
        for e in range(middle, end):
            late[start[e] : stop[e]] = True
        for x in range(n_inputs):
            if count[x] == 0 and not late[x]:
                continue
            inputs[n], single[n], layers[n], alone[n] = x, NONE, 0, NONE
            if count[x] > 0:
                layer = _layer_of(bounds[t], first[x])
                if tabled and count[x] == 1 and (patchable[layer] or not late[x]):
                    single[n] = site[first[x]]
                else:
                    single[n], layers[n] = SEVERAL, layer
                    n_several += 1
                    if starts[layer] and in_first[x] == 1:
                        alone[n] = site[first[x]]
                        n_alone += 1
            n += 1
        offsets[t + 1] = n
        worth = n_alone * _WORTH_KEEPING >= n_several
        for i in range(offsets[t], n):
            if single[i] == SEVERAL:
                alone[i] = alone[i] if worth else NONE
                layers[i] += alone[i] != NONE
                by_start[2 * layers[i] + (alone[i] != NONE) + 1] += 1
    several = np.empty((by_start.sum(), 4), np.int64)
    at = np.cumsum(by_start)
    for t in range(n_trials):
        for i in range(offsets[t], offsets[t + 1]):
            if single[i] == SEVERAL:
                start_number = 2 * layers[i] + (alone[i] != NONE)
                k = at[start_number]
                several[k, 0], several[k, 1], several[k, 2] = layers[i], t, i
                several[k, 3] = alone[i]
                at[start_number] += 1
    return offsets, inputs[:n].copy(), single[:n].copy(), several


@njit(cache=True, nogil=True, error_model="numpy")
def end_of_trial(several, row, stop):
    """The first of the rows after `row` of another trial or way to start, or stop."""
    end, starts_kept = row + 1, several[row, 3] != NONE
    while (
        end < stop
        and several[end, 1] == several[row, 1]
        and (several[end, 3] != NONE) == starts_kept
    ):
        end += 1
    return end


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _patch(
    pairs, begin, end, site, start, stop, inputs, single, golden_t, site_offsets, kept,
    weight, weight_t, hidden_t, scratch, sums,
):  # fmt: skip
    """Correct the single pairs `pairs` of a trial for its dead neurons of layer L - 1.

    Those are events begin .. end - 1. `fill_pairs` added -y for each; as the single dead neuron
    changes y by dy, -dy is missing. One dead neuron after the other, all pairs at once.
    """
    depth, m = len(site_offsets) - 2, len(pairs)
    kind, parameter, first_t, second_t = hidden_t
    first_hidden = site_offsets[depth - 1]
    last_early = site_offsets[depth - 2] if depth > 1 else 0
    rows, number = kept
    real = sums.dtype.type
    values, unit, from_kept, lost = scratch
    for k in range(m):
        x, alone = inputs[pairs[k]], single[pairs[k]]
        near = alone >= last_early
        unit[k], from_kept[k] = alone - last_early if near else 0, NONE
        if not near and len(number):  # else no dead neuron of layer L - 1 fails on this input
            from_kept[k] = number[alone, x]
        lost[k] = -golden_t[alone, x] if near else real(0)
    n = 0
    for e in range(begin, end):
        u = site[e] - first_hidden
        for k in range(m):
            x = inputs[pairs[k]]
            values[0, n + k], values[1, n + k] = first_t[u, x], second_t[u, x]
            dz = lost[k] * weight[u, unit[k]]
            values[2, n + k] = rows[from_kept[k], u] if from_kept[k] != NONE else dz
        n += m
    change_row(kind, parameter, values[0, :n], values[1, :n], values[2, :n], values[3, :n])
    n = 0
    for e in range(begin, end):
        for k in range(m):
            here = start[e] <= inputs[pairs[k]] < stop[e]
            values[2, n + k] = -values[3, n + k] if here else real(0)
        n += m
    for o in range(sums.shape[1]):
        lost[:m] = 0
        n = 0
        for e in range(begin, end):
            w = weight_t[site[e] - first_hidden, o]
            for k in range(m):
                lost[k] += w * values[2, n + k]
            n += m
        for k in range(m):
            sums[pairs[k], o] += lost[k]


@njit(cache=True, nogil=True, error_model="numpy")
def fill_pairs(
    bounds, site, start, stop, offsets, inputs, single, golden_t, site_offsets, table, late_table,
    kept, weight, weight_t, hidden_t, sums,
):  # fmt: skip
    """Write dz_L of the simple and the single pairs into sums (n_pairs, n_out), zeros on entry.

    Parameters
    ----------
    table : (n_early_sites, n_inputs, n_out)
        dz_L when one neuron before layer L - 1 alone is dead.
    late_table : (n_{L-1}, n_inputs, n_out)
        The same for neurons of layer L - 1, or empty.
    kept : (rows, number)
        Rows (n, n_{L-1}) of dz of layer L - 1 under one dead neuron before layer L - 2, and their
        numbers (n_early_sites, n_inputs).
    weight, weight_t
        Of layer L - 1 (n_{L-1}, n_{L-2}), and of layer L transposed (n_{L-1}, n_out).
    hidden_t : (kind, parameter, first, second)
        Activation and golden caches (n_{L-1}, n_inputs) of layer L - 1.
    """
    depth, n_inputs = len(site_offsets) - 2, golden_t.shape[1]
    first_hidden, n_out = site_offsets[depth - 1], sums.shape[1]
    golden_hidden_t = golden_t[first_hidden:]
    most = 0
    for t in range(len(bounds)):
        most = max(most, n_inputs * (bounds[t, depth] - bounds[t, depth - 1]))
    scratch = (
        np.empty((4, most), sums.dtype),
        np.empty(n_inputs, np.int64),
        np.empty(n_inputs, np.int64),
        np.empty(n_inputs, sums.dtype),
    )
    pairs = np.empty(n_inputs + 1, np.int64)  # one more is written than counts
    for t in range(len(bounds)):
        begin, end = bounds[t, depth - 1], bounds[t, depth]
        n = 0  # others are written by `kernels.rows.finish_rows`
        for i in range(offsets[t], offsets[t + 1]):
            pairs[n] = i
            n += single[i] != SEVERAL
        few = n * _FEW < offsets[t + 1] - offsets[t]
        for e in range(begin, end):
            unit = site[e] - first_hidden
            if few:
                for k in range(n):
                    i, x = pairs[k], inputs[pairs[k]]
                    if start[e] <= x < stop[e]:
                        for o in range(n_out):
                            sums[i, o] -= golden_hidden_t[unit, x] * weight_t[unit, o]
                continue
            row = offsets[t]
            while inputs[row] < start[e]:
                row += 1
            _add_last_hidden(
                unit, row, start[e], stop[e], golden_hidden_t, late_table, weight_t, sums
            )
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
                kept, weight, weight_t, hidden_t, scratch, sums,
            )  # fmt: skip


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
