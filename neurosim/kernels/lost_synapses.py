"""Dead synapses that last a whole trial: all inputs of the trial at once.

Arrays here are feature-major, (units, inputs), so that the loop over the inputs becomes vector
code: every input loses the same synapses.
"""

import numpy as np
from numba import njit

from neurosim.kernels.activations import IDENTITY, change_rows_at
from neurosim.kernels.vectors import use_wide_vectors

__all__ = ["finish_trials", "lost_inputs", "trial_changes"]


@njit(cache=True, nogil=True, error_model="numpy")
def _list_lost(numbers, weight, active, outs, units, factors):
    """Write (out, in, -W[out, in]) of the dead synapses that carry something; returns how many.

    In a pass of its own the weights, which lie anywhere in memory, are fetched many at a time.
    """
    n_in, n = np.uint64(weight.shape[1]), np.uint64(0)
    for e in range(np.uint64(len(numbers))):
        out = np.uint64(numbers[e]) // n_in
        unit = np.uint64(numbers[e]) - out * n_in
        outs[n], units[n], factors[n] = out, unit, -weight[out, unit]
        n += np.uint64(active[unit])
    return n


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"}, forceinline=True)
def _sum_rows(units, factors, begin, end, rows_t, sums, k):
    """Row k of sums = sum of factors[e] * rows_t[units[e]] over begin <= e < end.

    The first one, two or four rows are written, more are added eight or four at a time, for each
    pass over the sums costs as much as one of the rows; those beyond the end are the last one again
    and count nothing.
    """
    width, last, real = sums.shape[1], end - 1, sums.dtype.type
    u0, w0 = units[begin], factors[begin]
    if end - begin == 1:
        for x in range(width):
            sums[k, x] = w0 * rows_t[u0, x]
        return
    u1, w1 = units[begin + 1], factors[begin + 1]
    if end - begin == 2:
        for x in range(width):
            sums[k, x] = w0 * rows_t[u0, x] + w1 * rows_t[u1, x]
        return
    u2, w2 = units[begin + 2], factors[begin + 2]
    e = min(begin + 3, last)
    u3, w3 = units[e], factors[e] * real(begin + 3 < end)
    for x in range(width):
        sums[k, x] = (w0 * rows_t[u0, x] + w1 * rows_t[u1, x]) + (
            w2 * rows_t[u2, x] + w3 * rows_t[u3, x]
        )
    e = begin + 4
    while e + 4 < end:
        e5, e6, e7 = min(e + 5, last), min(e + 6, last), min(e + 7, last)
        u0, u1, u2, u3 = units[e], units[e + 1], units[e + 2], units[e + 3]
        w0, w1, w2, w3 = factors[e], factors[e + 1], factors[e + 2], factors[e + 3]
        u4, u5, u6, u7 = units[e + 4], units[e5], units[e6], units[e7]
        w4, w5 = factors[e + 4], factors[e5] * real(e + 5 < end)
        w6, w7 = factors[e6] * real(e + 6 < end), factors[e7] * real(e + 7 < end)
        for x in range(width):
            sums[k, x] += (
                (w0 * rows_t[u0, x] + w1 * rows_t[u1, x])
                + (w2 * rows_t[u2, x] + w3 * rows_t[u3, x])
            ) + (
                (w4 * rows_t[u4, x] + w5 * rows_t[u5, x])
                + (w6 * rows_t[u6, x] + w7 * rows_t[u7, x])
            )
        e += 8
    if e < end:
        e1, e2, e3 = min(e + 1, last), min(e + 2, last), min(e + 3, last)
        u0, u1, u2, u3 = units[e], units[e1], units[e2], units[e3]
        w0, w1 = factors[e], factors[e1] * real(e + 1 < end)
        w2, w3 = factors[e2] * real(e + 2 < end), factors[e3] * real(e + 3 < end)
        for x in range(width):
            sums[k, x] += (w0 * rows_t[u0, x] + w1 * rows_t[u1, x]) + (
                w2 * rows_t[u2, x] + w3 * rows_t[u3, x]
            )


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def lost_inputs(numbers, weight, faulty_t, active, room):
    """What neurons lose: (hit, dz), those that do in ascending order and (n_hit + room, n_inputs).

    numbers: dead synapses out * n_in + in, sorted. dz = -sum of W[out, in] * (faulty y[in]).
    active: (n_in,) whether y[in] may differ from 0 on any input.
    """
    use_wide_vectors()
    n_out, most = weight.shape[0], len(numbers)
    outs, units = np.empty(most + 1, np.int64), np.empty(most, np.int64)
    factors = np.empty(most, faulty_t.dtype)
    n = _list_lost(numbers, weight, active, outs, units, factors)
    outs[n] = n_out
    hit = np.empty(min(most, n_out), np.int64)
    dz = np.empty((len(hit) + room, faulty_t.shape[1]), faulty_t.dtype)
    n_hit, begin = 0, 0
    while outs[begin] < n_out:
        end = begin + 1
        while outs[end] == outs[begin]:
            end += 1
        _sum_rows(units, factors, begin, end, faulty_t, dz, n_hit)
        hit[n_hit] = outs[begin]
        n_hit += 1
        begin = end
    return hit[:n_hit], dz[: n_hit + room]


@njit(cache=True, nogil=True, error_model="numpy")
def trial_changes(
    numbers, dead, weight, kind, parameter, first_t, second_t, golden_before_t, active, golden_t
):
    """Change of a layer in a trial where nothing changed before: (units, (n_units, n_inputs)).

    Units that lost synapses come first, then other dead neurons. numbers: dead synapses of the
    layer; dead: its dead neurons; both last the trial, sorted.
    """
    hit, values = lost_inputs(numbers, weight, golden_before_t, active, len(dead))
    n, width = len(hit), values.shape[1]
    units = np.empty(n + len(dead), np.int64)
    units[:n] = hit
    change_rows_at(kind, parameter, hit, first_t, second_t, values, 0, 0, width)
    k = 0
    for unit in dead:
        while k < len(hit) and hit[k] < unit:
            k += 1
        at = k if k < len(hit) and hit[k] == unit else n
        n += at == n
        units[at] = unit
        for x in range(width):
            values[at, x] = -golden_t[unit, x]
    return units[:n], values[:n]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _multiply(units, weight, values, dz_t):
    """dz_t[out] += sum of weight[out, units[k]] * values[k]; four rows, two outputs at a time."""
    use_wide_vectors()
    (n_out, width), n, real = dz_t.shape, len(units), values.dtype.type
    for k in range(0, n, 4):
        k1, k2, k3 = min(k + 1, n - 1), min(k + 2, n - 1), min(k + 3, n - 1)
        # Rows and outputs beyond the end are the last ones again, with weight 0.
        m1, m2, m3 = real(k + 1 < n), real(k + 2 < n), real(k + 3 < n)
        u0, u1, u2, u3 = units[k], units[k1], units[k2], units[k3]
        for o in range(0, n_out - 1, 2):
            p = o + 1
            a0, a1 = weight[o, u0], weight[o, u1] * m1
            a2, a3 = weight[o, u2] * m2, weight[o, u3] * m3
            b0, b1 = weight[p, u0], weight[p, u1] * m1
            b2, b3 = weight[p, u2] * m2, weight[p, u3] * m3
            for x in range(width):
                v0, v1, v2, v3 = values[k, x], values[k1, x], values[k2, x], values[k3, x]
                dz_t[o, x] += (a0 * v0 + a1 * v1) + (a2 * v2 + a3 * v3)
                dz_t[p, x] += (b0 * v0 + b1 * v1) + (b2 * v2 + b3 * v3)
        if n_out % 2 == 1:
            o = n_out - 1
            a0, a1 = weight[o, u0], weight[o, u1] * m1
            a2, a3 = weight[o, u2] * m2, weight[o, u3] * m3
            for x in range(width):
                dz_t[o, x] += (a0 * values[k, x] + a1 * values[k1, x]) + (
                    a2 * values[k2, x] + a3 * values[k3, x]
                )


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _pass_on(units, values, weight, numbers, golden_t, every, place, dz_t):
    """Add to dz_t (n_out, n_inputs) what changed units and dead synapses of the next layer make.

    every: (n_in,) all True. place: (n_in,) scratch, -1 on entry and on return.
    """
    _multiply(units, weight, values, dz_t)
    if not len(numbers):
        return
    hit, dz = lost_inputs(numbers, weight, golden_t, every, 0)
    for k in range(len(hit)):
        dz_t[hit[k]] += dz[k]
    # That took W y from dz; where y changed, W dy must go as well.
    for k in range(len(units)):
        place[units[k]] = k
    for number in numbers:
        out, unit = number // weight.shape[1], number % weight.shape[1]
        k, w = place[unit], weight[out, unit]
        if k >= 0:
            for x in range(dz_t.shape[1]):
                dz_t[out, x] -= w * values[k, x]
    for k in range(len(units)):
        place[units[k]] = -1


@njit(cache=True, nogil=True, error_model="numpy")
def finish_trials(chosen, before_t, active, hidden, last, errors):
    """The last two layers of the chosen trials, in which nothing changed before them.

    hidden and last describe the two layers: (synapses, neurons, weight, kind, parameter, first_t,
    second_t, golden_t); before_t are the golden inputs of the first, and active tells which of them
    are not always 0. Writes errors[trial].
    """
    n_outputs, n_inputs = len(last[2]), before_t.shape[1]
    middle_t = hidden[7]
    every = np.ones(len(middle_t), np.bool_)
    place = np.full(len(middle_t), -1, np.int64)
    dz_t = np.empty((n_outputs, n_inputs), before_t.dtype)
    outputs = np.arange(n_outputs)
    for t in range(len(chosen)):
        if not chosen[t]:
            continue
        synapses, neurons = hidden[0], hidden[1]
        units, values = trial_changes(
            synapses[1][synapses[0][t] : synapses[0][t + 1]],
            neurons[1][neurons[0][t] : neurons[0][t + 1]],
            hidden[2],
            hidden[3],
            hidden[4],
            hidden[5],
            hidden[6],
            before_t,
            active,
            middle_t,
        )
        dz_t[:] = 0
        synapses, neurons = last[0], last[1]
        _pass_on(
            units,
            values,
            last[2],
            synapses[1][synapses[0][t] : synapses[0][t + 1]],
            middle_t,
            every,
            place,
            dz_t,
        )
        if last[3] != IDENTITY:
            change_rows_at(last[3], last[4], outputs, last[5], last[6], dz_t, 0, 0, n_inputs)
        for x in range(n_inputs):
            for out in range(n_outputs):
                errors[t, x, out] = dz_t[out, x]
        for e in range(neurons[0][t], neurons[0][t + 1]):
            errors[t, :, neurons[1][e]] = -last[7][neurons[1][e]]
