"""One step of delta propagation: from the change of layer l - 1 to the change of layer l.

A *pair* is one trial on one input, number trial * n_inputs + input. The change dy of a layer's
outputs is kept per pair in one of three forms: none, a short list of (unit, value), or a dense row.
A dead neuron is the change -y of its golden output; a dead synapse W[out, in] takes
W[out, in] * (faulty y[in]) from dz[out]. docs/engine.md tells the algorithm with its formulas.

Every pair is computed by itself in a fixed order of operations, so results do not depend on which
other pairs are in the batch; only the matrix product for dense rows is left to BLAS.
"""

import numpy as np
from numba import njit

from neurosim.kernels.activations import change_row

__all__ = ["advance", "classify", "dead_inputs", "layer_events"]


@njit(cache=True, nogil=True, error_model="numpy")
def layer_events(offsets, site, start, stop, low, high, n_inputs):  # type: ignore[no-untyped-def]
    """Events with low <= site < high, as numbers site - low, per trial and per pair.

    Returns (lasting_offsets, lasting, passing_offsets, passing): those that last the whole trial,
    by trial, and the others, by pair, each sorted by site. Without passing ones the last two are
    empty.
    """
    n_trials = len(offsets) - 1
    lasting_offsets = np.zeros(n_trials + 1, np.int64)
    n_passing = 0
    for t in range(n_trials):
        for e in range(offsets[t], offsets[t + 1]):
            if low <= site[e] < high:
                if stop[e] - start[e] == n_inputs:
                    lasting_offsets[t + 1] += 1
                else:
                    n_passing += stop[e] - start[e]
    lasting_offsets = np.cumsum(lasting_offsets)
    lasting = np.empty(lasting_offsets[-1], np.int64)
    passing = np.empty(n_passing, np.int64)
    passing_offsets = np.zeros(n_trials * n_inputs + 1 if n_passing else 0, np.int64)
    n = 0
    for t in range(n_trials):
        for e in range(offsets[t], offsets[t + 1]):
            if low <= site[e] < high:
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
            for e in range(offsets[t], offsets[t + 1]):
                if low <= site[e] < high and stop[e] - start[e] < n_inputs:
                    for x in range(start[e], stop[e]):
                        pair = t * n_inputs + x
                        passing[at[pair]] = site[e] - low
                        at[pair] += 1
    return lasting_offsets, lasting, passing_offsets, passing


@njit(cache=True, nogil=True, error_model="numpy")
def dead_inputs(n_trials, n_inputs, neurons, golden):  # type: ignore[no-untyped-def]
    """The change of layer 0: (dense, rows, list_offsets, units, values).

    Only inputs that are not 0 already change; a list of more than an eighth of the units becomes
    a dense row.
    """
    width = golden.shape[1]
    n_pairs = n_trials * n_inputs
    dense = np.full(n_pairs, -1, np.int64)
    offsets = np.zeros(n_pairs + 1, np.int64)
    room = 0
    for t in range(n_trials):
        for x in range(n_inputs):
            room += _count(neurons, t, t * n_inputs + x)
    units, values = np.empty(room, np.int64), np.empty(room, golden.dtype)
    n = n_dense = 0
    for t in range(n_trials):
        for x in range(n_inputs):
            pair = t * n_inputs + x
            begin = n
            for part in range(2):
                if part == 0:
                    a, b = neurons[0][t], neurons[0][t + 1]
                elif len(neurons[3]):
                    a, b = neurons[2][pair], neurons[2][pair + 1]
                else:
                    break
                for e in range(a, b):
                    n = _set((units, values), begin, n, neurons[2 * part + 1][e], golden[x], part)
            if (n - begin) * 8 > width:
                dense[pair] = n_dense
                n_dense += 1
            offsets[pair + 1] = n
    rows = np.zeros((n_dense, width), golden.dtype)
    if n_dense:
        # Take the long lists out of the list of lists.
        kept = 0
        previous = np.int64(0)
        for pair in range(n_pairs):
            a, b = previous, offsets[pair + 1]
            previous = b
            if dense[pair] >= 0:
                for e in range(a, b):
                    rows[dense[pair], units[e]] = values[e]
            else:
                for e in range(a, b):
                    units[kept], values[kept] = units[e], values[e]
                    kept += 1
            offsets[pair + 1] = kept
    return dense, rows, offsets, units, values


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _count(events, trial, pair):  # type: ignore[no-untyped-def]
    """Number of active events of a pair."""
    n = events[0][trial + 1] - events[0][trial]
    if len(events[3]):
        n += events[2][pair + 1] - events[2][pair]
    return n


@njit(cache=True, nogil=True, error_model="numpy")
def classify(n_trials, n_inputs, width, dense, list_offsets, synapses, neurons, last):  # type: ignore[no-untyped-def]
    """Which form the change of this layer takes for each pair.

    dense: (n_pairs,) row number of the previous layer's dense change or -1. Returns
    (new_dense, n_dense, n_listed): rows of pairs that were dense keep their numbers, as BLAS fills
    them in one product; -1: a list of at most n_listed[pair] entries, which may be empty.
    """
    n_pairs = n_trials * n_inputs
    new_dense = dense.copy()
    n_listed = np.zeros(n_pairs, np.int64)
    n_dense = 0
    for pair in range(n_pairs):
        n_dense += dense[pair] >= 0
    for t in range(n_trials):
        for x in range(n_inputs):
            pair = t * n_inputs + x
            if dense[pair] >= 0:
                continue
            hits = _count(synapses, t, pair) + _count(neurons, t, pair)
            # A changed unit of the layer before reaches every unit of this one. Lists pay while
            # short; the output layer is always written out.
            spread = list_offsets[pair + 1] > list_offsets[pair]
            if spread or hits * 8 > width or (last and hits > 0):
                new_dense[pair] = n_dense
                n_dense += 1
            else:
                n_listed[pair] = hits
    return new_dense, n_dense, n_listed


@njit(cache=True, nogil=True, error_model="numpy")
def add_scaled(factor, column, total):  # type: ignore[no-untyped-def]
    """Total += factor * column; a function of its own so that the compiler sees plain vectors."""
    for i in range(len(total)):
        total[i] += factor * column[i]


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _faulty_input(unit, golden, row, before, listed, first, stop):  # type: ignore[no-untyped-def]
    """Faulty output of a unit of the layer before, from a dense row (row >= 0) or a list."""
    if row >= 0:
        return golden[unit] + before[row, unit]
    for e in range(first, stop):
        if listed[0][e] == unit:
            return golden[unit] + listed[1][e]
    return golden[unit]


@njit(cache=True, nogil=True, error_model="numpy")
def advance(  # type: ignore[no-untyped-def]
    n_trials, n_inputs, weight, weight_t, kind, parameter, first, second,
    golden_before, golden, dense_before, before, list_offsets, listed,
    synapses, neurons, dense, change, new_listed,
):
    """Fill the change of layer l: dense rows `change` and lists `new_listed`; return their offsets.

    On entry the first rows of `change` hold W dy of the pairs that were dense already. listed and
    new_listed are (units, values); new_listed has room for the counts of `classify`.
    """
    n_in, n_out = len(golden_before[0]), len(golden[0])
    zero = change.dtype.type(0)
    new_offsets = np.zeros(n_trials * n_inputs + 1, np.int64)
    n = 0
    # Rows of their own: loops whose output may overlap their input do not become vector code.
    dz = np.empty(n_out, change.dtype)
    cached = np.empty((2, n_out), change.dtype)
    for t in range(n_trials):
        for x in range(n_inputs):
            pair = t * n_inputs + x
            low, high = list_offsets[pair], list_offsets[pair + 1]
            row, row_before = dense[pair], dense_before[pair]
            if row_before >= 0:
                dz[:] = change[row]
            elif row >= 0:
                dz[:] = zero
                for e in range(low, high):
                    add_scaled(listed[1][e], weight_t[listed[0][e]], dz)
            # Dead synapses: the lasting ones of the trial, then the passing ones of the pair.
            begin = n
            for part in range(2):
                if part == 0:
                    a, b = synapses[0][t], synapses[0][t + 1]
                elif len(synapses[3]):
                    a, b = synapses[2][pair], synapses[2][pair + 1]
                else:
                    break
                numbers = synapses[2 * part + 1]
                for e in range(a, b):
                    out, unit = numbers[e] // n_in, numbers[e] % n_in
                    value = weight[out, unit] * _faulty_input(
                        unit, golden_before[x], row_before, before, listed, low, high)
                    if value == zero:
                        continue
                    if row >= 0:
                        dz[out] -= value
                    else:
                        n = _add(new_listed, begin, n, out, -value)
            if row >= 0:
                change_row(kind, parameter, first[x], second[x], dz, change[row])
            else:
                m = n - begin
                for e in range(m):
                    i = new_listed[0][begin + e]
                    cached[0, e], cached[1, e] = first[x, i], second[x, i]
                    dz[e] = new_listed[1][begin + e]
                change_row(
                    kind, parameter, cached[0, :m], cached[1, :m], dz[:m], new_listed[1][begin:n])
            for part in range(2):
                if part == 0:
                    a, b = neurons[0][t], neurons[0][t + 1]
                elif len(neurons[3]):
                    a, b = neurons[2][pair], neurons[2][pair + 1]
                else:
                    break
                numbers = neurons[2 * part + 1]
                for e in range(a, b):
                    i = numbers[e]
                    if row >= 0:
                        change[row, i] = -golden[x, i]
                    else:
                        n = _set(new_listed, begin, n, i, golden[x], 1)
            new_offsets[pair + 1] = n
    return new_offsets


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _add(listed, begin, n, unit, value):  # type: ignore[no-untyped-def]
    """Add to an entry of a pair's list, or append it; returns the new end of the list.

    Searched from the end, for events are sorted by unit.
    """
    for e in range(n - 1, begin - 1, -1):
        if listed[0][e] == unit:
            listed[1][e] += value
            return n
    listed[0][n], listed[1][n] = unit, value
    return n + 1


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _set(listed, begin, n, unit, golden, search):  # type: ignore[no-untyped-def]
    """Enter a dead unit: its change is -golden[unit]. Returns the new end of the list.

    search: whether the unit may be in the list already. An output that is 0 changes nothing.
    """
    if search:
        for e in range(begin, n):
            if listed[0][e] == unit:
                listed[1][e] = -golden[unit]
                return n
    if golden[unit] == listed[1].dtype.type(0):
        return n
    listed[0][n], listed[1][n] = unit, -golden[unit]
    return n + 1
