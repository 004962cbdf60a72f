"""Delta propagation of pairs: from the change of layer l - 1 to the change of layer l.

A *pair* is one trial on one input, number trial * n_inputs + input. Only pairs in which something
changed are kept, in ascending order; the change dy of a layer's outputs is a short list of
(unit, value) or a dense row. A dead neuron is the change -y of its golden output; a dead synapse
W[out, in] takes W[out, in] * (faulty y[in]) from dz[out]. docs/engine.md tells it with formulas.

Events of a layer come as (lasting_offsets, lasting, passing_offsets, passing): numbers of sites
within the layer, by trial for those that last the whole trial, by pair for the others; the last two
are empty without such events. The changes of a layer come as (pairs, dense, offsets, units,
values): for pair number i its row in a matrix of dense changes or -1, and its list.

Every pair is computed by itself in a fixed order of operations, so results do not depend on which
other pairs are in the batch; only the matrix product for dense rows is left to BLAS.
"""

import numpy as np
from numba import njit

from neurosim.kernels.activations import change_row
from neurosim.kernels.lost_synapses import lost_inputs

__all__ = [
    "add_scaled",
    "advance",
    "change_rows_of_all",
    "dead_inputs",
    "lasting_trials",
    "layer_events",
    "plan",
    "split_weights",
]

# A list of more than an eighth of a layer is written as a dense row: BLAS is then faster.
_SHORT = 8


@njit(cache=True, nogil=True, error_model="numpy")
def lasting_trials(offsets, start, stop, n_inputs):
    """Trials all of whose events last the whole trial, (n_trials,) bool."""
    lasting = np.empty(len(offsets) - 1, np.bool_)
    for t in range(len(lasting)):
        n = 0
        for e in range(np.uint64(offsets[t]), np.uint64(offsets[t + 1])):
            n += stop[e] - start[e] == n_inputs
        lasting[t] = n == offsets[t + 1] - offsets[t]
    return lasting


@njit(cache=True, nogil=True, error_model="numpy")
def layer_events(begins, ends, site, start, stop, low, n_inputs, all_last):
    """Events begins[t] .. ends[t] - 1 of each trial t, as numbers site - low, by trial or pair.

    all_last: whether all events are known to last whole trials; else it is looked up.
    """
    n_trials = len(begins)
    lasting_offsets = np.zeros(n_trials + 1, np.int64)
    n_passing = 0
    for t in range(n_trials):
        n, total = ends[t] - begins[t], 0
        if not all_last:
            n = 0
            for e in range(np.uint64(begins[t]), np.uint64(ends[t])):
                length = stop[e] - start[e]
                n += length == n_inputs
                total += length
            n_passing += total - n * n_inputs
        lasting_offsets[t + 1] = lasting_offsets[t] + n
    lasting = np.empty(lasting_offsets[-1], np.int64)
    passing = np.empty(n_passing, np.int64)
    passing_offsets = np.zeros(n_trials * n_inputs + 1 if n_passing else 0, np.int64)
    for t in range(n_trials):
        n = lasting_offsets[t]
        if lasting_offsets[t + 1] - n == ends[t] - begins[t]:  # all, the usual case
            for i in range(ends[t] - begins[t]):
                lasting[n + i] = site[begins[t] + i] - low
            continue
        for e in range(begins[t], ends[t]):
            if stop[e] - start[e] == n_inputs:
                lasting[n] = site[e] - low
                n += 1
            else:
                for x in range(start[e], stop[e]):
                    passing_offsets[t * n_inputs + x + 1] += 1
    if n_passing:
        passing_offsets = np.cumsum(passing_offsets)
        at = passing_offsets.copy()
        for t in range(n_trials):
            for e in range(begins[t], ends[t]):
                if stop[e] - start[e] < n_inputs:
                    for x in range(start[e], stop[e]):
                        pair = t * n_inputs + x
                        passing[at[pair]] = site[e] - low
                        at[pair] += 1
    return lasting_offsets, lasting, passing_offsets, passing


@njit(cache=True, nogil=True, error_model="numpy")
def add_scaled(factor, column, total):
    """Total += factor * column; a function of its own so that the compiler sees plain vectors."""
    for i in range(len(total)):
        total[i] += factor * column[i]


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _set(units, values, begin, n, unit, golden, search):
    """Enter a dead unit in a list: its change is -golden[unit]. Returns the new end of the list.

    search: whether the unit may be in the list already. An output that is 0 changes nothing.
    """
    if search:
        for e in range(begin, n):
            if units[e] == unit:
                values[e] = -golden[unit]
                return n
    if golden[unit] == values.dtype.type(0):
        return n
    units[n], values[n] = unit, -golden[unit]
    return n + 1


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _add(units, values, begin, n, unit, value):
    """Add to an entry of a list, or append it; returns the new end of the list.

    Searched from the end, for events are sorted by unit.
    """
    for e in range(n - 1, begin - 1, -1):
        if units[e] == unit:
            values[e] += value
            return n
    units[n], values[n] = unit, value
    return n + 1


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _passing(events, pair):
    """Number of passing events of a pair."""
    return events[2][pair + 1] - events[2][pair] if len(events[3]) else 0


@njit(cache=True, nogil=True, error_model="numpy")
def dead_inputs(n_trials, n_inputs, neurons, golden):
    """The change of layer 0: ((pairs, dense, offsets, units, values), rows)."""
    width = golden.shape[1]
    candidates = room = 0
    for t in range(n_trials):
        lasting = neurons[0][t + 1] - neurons[0][t]
        if lasting or len(neurons[3]):
            candidates += n_inputs
            room += lasting * n_inputs
    room += len(neurons[3])
    pairs, dense = np.empty(candidates, np.int64), np.empty(candidates, np.int64)
    offsets = np.zeros(candidates + 1, np.int64)
    units, values = np.empty(room, np.int64), np.empty(room, golden.dtype)
    long_units, long_values = [np.empty(0, np.int64)], [np.empty(0, golden.dtype)]
    n = n_pairs = 0
    for t in range(n_trials):
        a, b = neurons[0][t], neurons[0][t + 1]
        if a == b and not len(neurons[3]):
            continue
        for x in range(n_inputs):
            pair = t * n_inputs + x
            begin = n
            for e in range(a, b):
                n = _set(units, values, begin, n, neurons[1][e], golden[x], False)
            for e in range(_passing(neurons, pair)):
                unit = neurons[3][neurons[2][pair] + e]
                n = _set(units, values, begin, n, unit, golden[x], True)
            if n == begin:
                continue
            pairs[n_pairs], dense[n_pairs] = pair, -1
            if (n - begin) * _SHORT > width:
                dense[n_pairs] = len(long_units) - 1
                long_units.append(units[begin:n].copy())
                long_values.append(values[begin:n].copy())
                n = begin
            n_pairs += 1
            offsets[n_pairs] = n
    rows = np.zeros((len(long_units) - 1, width), golden.dtype)
    for row in range(len(rows)):
        for e in range(len(long_units[row + 1])):
            rows[row, long_units[row + 1][e]] = long_values[row + 1][e]
    changes = pairs[:n_pairs], dense[:n_pairs], offsets[: n_pairs + 1], units[:n], values[:n]
    return changes, rows


@njit(cache=True, nogil=True, error_model="numpy")
def plan(n_trials, n_inputs, width, changes, synapses, neurons, skip, last):
    """Which pairs change in this layer, and in which form.

    skip: (n_trials,) trials that another kernel handles. Returns (pairs, before, dense, n_dense,
    room): `before` is the index of the pair in `changes` or -1; rows of pairs that were dense keep
    their numbers, as BLAS fills them in one product; room: the most list entries there can be.
    """
    n_before = len(changes[0])
    most = n_before + len(synapses[3]) + len(neurons[3])
    for t in range(n_trials):
        if synapses[0][t + 1] > synapses[0][t] or neurons[0][t + 1] > neurons[0][t]:
            most += n_inputs
    pairs, before, dense = (
        np.empty(most, np.int64),
        np.empty(most, np.int64),
        np.empty(most, np.int64),
    )
    n_dense = 0
    for i in range(n_before):
        n_dense += changes[1][i] >= 0
    n = room = 0
    i = 0
    sometimes = len(synapses[3]) > 0 or len(neurons[3]) > 0
    for t in range(n_trials):
        lasting = synapses[0][t + 1] - synapses[0][t] + neurons[0][t + 1] - neurons[0][t]
        end = (t + 1) * n_inputs
        if skip[t] or not (lasting or sometimes or (i < n_before and changes[0][i] < end)):
            continue
        for x in range(n_inputs):
            pair = t * n_inputs + x
            was = i < n_before and changes[0][i] == pair
            hits = lasting + _passing(synapses, pair) + _passing(neurons, pair)
            if not (was or hits):
                continue
            pairs[n], before[n], dense[n] = pair, -1, -1
            if was:
                before[n] = i
                dense[n] = changes[1][i]
            # A changed unit of the layer before reaches every unit of this one. Lists pay while
            # short; the output layer is always written out.
            if dense[n] < 0:
                if was or hits * _SHORT > width or last:
                    dense[n] = n_dense
                    n_dense += 1
                else:
                    room += hits
            n += 1
            i += was
    return pairs[:n], before[:n], dense[:n], n_dense, room


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _faulty_input(unit, golden, index, changes, rows):
    """Faulty output of a unit of the layer before, for pair number `index` of changes or -1."""
    if index < 0:
        return golden[unit]
    if changes[1][index] >= 0:
        return golden[unit] + rows[changes[1][index], unit]
    for e in range(changes[2][index], changes[2][index + 1]):
        if changes[3][e] == unit:
            return golden[unit] + changes[4][e]
    return golden[unit]


@njit(cache=True, nogil=True, error_model="numpy")
def advance(
    n_inputs,
    weight,
    weight_t,
    kind,
    parameter,
    first,
    second,
    golden_before,
    golden_before_t,
    golden,
    changes,
    rows,
    synapses,
    neurons,
    planned,
    new_rows,
):
    """Fill the change of layer l: the dense `new_rows`, and return the changes of this layer.

    On entry the first rows of `new_rows` hold W dy of the pairs that were dense already. planned is
    what `plan` returned.
    """
    pairs, before, dense, _, room = planned
    n_in, n_out = len(golden_before[0]), len(golden[0])
    zero = new_rows.dtype.type(0)
    offsets = np.zeros(len(pairs) + 1, np.int64)
    units, values = np.empty(room, np.int64), np.empty(room, new_rows.dtype)
    # Rows of their own: loops whose output may overlap their input do not become vector code.
    dz = np.empty(n_out, new_rows.dtype)
    cached = np.empty((2, n_out), new_rows.dtype)
    faulty_t = golden_before_t[:0]
    hit, lost = np.empty(0, np.int64), golden_before_t[:0]
    any_unit = np.ones(n_in, np.bool_)
    n = n_pairs = 0
    trial = -1
    for i in range(len(pairs)):
        pair = pairs[i]
        x = pair % n_inputs
        if pair // n_inputs != trial:
            trial = pair // n_inputs
            a, b = synapses[0][trial], synapses[0][trial + 1]
            if b > a:
                if not len(faulty_t):
                    faulty_t = golden_before_t.copy()
                touched = _patch(i, pairs, before, n_inputs, changes, rows, faulty_t)
                hit, lost = lost_inputs(synapses[1][a:b], weight, faulty_t, any_unit, 0)
                if touched:
                    _restore(i, pairs, before, n_inputs, changes, golden_before_t, faulty_t)
            else:
                hit = hit[:0]
        row, was = dense[i], before[i]
        begin = n
        if row >= 0:
            if was >= 0 and changes[1][was] >= 0:
                dz[:] = new_rows[row]
            else:
                dz[:] = zero
                if was >= 0:
                    for e in range(changes[2][was], changes[2][was + 1]):
                        add_scaled(changes[4][e], weight_t[changes[3][e]], dz)
            for e in range(len(hit)):
                dz[hit[e]] += lost[e, x]
        else:
            for e in range(len(hit)):
                if lost[e, x] != zero:
                    units[n], values[n] = hit[e], lost[e, x]
                    n += 1
        for e in range(_passing(synapses, pair)):
            number = synapses[3][synapses[2][pair] + e]
            out, unit = number // n_in, number % n_in
            value = weight[out, unit] * _faulty_input(unit, golden_before[x], was, changes, rows)
            if row >= 0:
                dz[out] -= value
            elif value != zero:
                n = _add(units, values, begin, n, out, -value)
        if row >= 0:
            change_row(kind, parameter, first[x], second[x], dz, new_rows[row])
        else:
            m = n - begin
            for e in range(m):
                unit = units[begin + e]
                cached[0, e], cached[1, e] = first[x, unit], second[x, unit]
                dz[e] = values[begin + e]
            change_row(kind, parameter, cached[0, :m], cached[1, :m], dz[:m], values[begin:n])
        for e in range(neurons[0][trial], neurons[0][trial + 1]):
            unit = neurons[1][e]
            if row >= 0:
                new_rows[row, unit] = -golden[x, unit]
            else:
                n = _set(units, values, begin, n, unit, golden[x], True)
        for e in range(_passing(neurons, pair)):
            unit = neurons[3][neurons[2][pair] + e]
            if row >= 0:
                new_rows[row, unit] = -golden[x, unit]
            else:
                n = _set(units, values, begin, n, unit, golden[x], True)
        if row >= 0 or n > begin:  # pairs in which nothing changed are dropped
            pairs[n_pairs], dense[n_pairs] = pair, row
            n_pairs += 1
            offsets[n_pairs] = n
    return pairs[:n_pairs], dense[:n_pairs], offsets[: n_pairs + 1], units[:n], values[:n]


@njit(cache=True, nogil=True, error_model="numpy")
def _patch(i, pairs, before, n_inputs, changes, rows, faulty_t):
    """Add the changes of the trial of pair number i to the outputs faulty_t (units, inputs)."""
    trial = pairs[i] // n_inputs
    touched = False
    while i < len(pairs) and pairs[i] // n_inputs == trial:
        x, was = pairs[i] % n_inputs, before[i]
        i += 1
        if was < 0:
            continue
        touched = True
        if changes[1][was] >= 0:
            faulty_t[:, x] += rows[changes[1][was]]
        else:
            for e in range(changes[2][was], changes[2][was + 1]):
                faulty_t[changes[3][e], x] += changes[4][e]
    return touched


@njit(cache=True, nogil=True, error_model="numpy")
def _restore(i, pairs, before, n_inputs, changes, golden_t, faulty_t):
    """Undo `_patch`."""
    trial = pairs[i] // n_inputs
    while i < len(pairs) and pairs[i] // n_inputs == trial:
        x, was = pairs[i] % n_inputs, before[i]
        i += 1
        if was < 0:
            continue
        if changes[1][was] >= 0:
            faulty_t[:, x] = golden_t[:, x]
        else:
            for e in range(changes[2][was], changes[2][was + 1]):
                faulty_t[changes[3][e], x] = golden_t[changes[3][e], x]


@njit(cache=True, nogil=True, error_model="numpy")
def split_weights(site, low, n_in, column, weight, keep_dead, result):
    """Write into result the weights of dead synapses, the rest 0; or without keep_dead the reverse.

    site - low = out * n_in + unit, sorted. weight and result (n_out, n_columns) have the columns of
    some units: column (n_in,) tells which, -1 for none.
    """
    if keep_dead:
        result[:] = 0
    else:
        result[:] = weight
    out, base = 0, low
    for number in site:
        while number >= base + n_in:
            out += 1
            base += n_in
        k = column[np.uint64(number - base)]
        if k >= 0:
            result[np.uint64(out), np.uint64(k)] = (
                weight[np.uint64(out), np.uint64(k)] if keep_dead else weight.dtype.type(0)
            )


@njit(cache=True, nogil=True, error_model="numpy")
def change_rows_of_all(kind, parameter, first, second, dz, dead, golden, dy):
    """Changes dy (n_inputs, n) of a layer on all inputs from dz; then dead neurons to -golden."""
    for x in range(len(dz)):
        change_row(kind, parameter, first[x], second[x], dz[x], dy[x])
        for unit in dead:
            dy[x, unit] = -golden[x, unit]
