"""Dead synapses that last a whole trial: all inputs of the trial at once.

Arrays here are feature-major, (units, inputs), so that the loop over the inputs becomes vector
code: every input loses the same synapses.
"""

import numpy as np
from numba import njit

from neurosim.kernels.activations import change_row

__all__ = ["finish_trials", "lost_inputs", "trial_changes"]


@njit(cache=True, nogil=True, error_model="numpy")
def _rows_hit(numbers, n_in, n_out):
    """Neurons that lose a synapse, ascending, and where the numbers of each begin, and the end."""
    hit = np.empty(min(len(numbers), n_out), np.int64)
    begins = np.empty(len(hit) + 1, np.int64)
    n, end = 0, np.int64(-1)
    for e in range(len(numbers)):
        if numbers[e] >= end:
            hit[n], begins[n] = numbers[e] // n_in, e
            end = (hit[n] + 1) * n_in
            n += 1
    begins[n] = len(numbers)
    return hit[:n], begins[: n + 1]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _add_rows(units, factors, n, rows_t, sums, k):
    """Row k of sums += sum of factors[e] * rows_t[units[e]] over e < n.

    Eight or four at a time, for each pass over the sums costs as much as one of the rows; units and
    factors have room for three more, which count nothing.
    """
    width, e = sums.shape[1], 0
    for extra in range(n, n + (-n) % 4):
        units[extra], factors[extra] = units[0], 0
    while e + 4 < n:
        u0, u1, u2, u3 = units[e], units[e + 1], units[e + 2], units[e + 3]
        w0, w1, w2, w3 = factors[e], factors[e + 1], factors[e + 2], factors[e + 3]
        u4, u5, u6, u7 = units[e + 4], units[e + 5], units[e + 6], units[e + 7]
        w4, w5, w6, w7 = factors[e + 4], factors[e + 5], factors[e + 6], factors[e + 7]
        for x in range(width):
            sums[k, x] += (
                (w0 * rows_t[u0, x] + w1 * rows_t[u1, x])
                + (w2 * rows_t[u2, x] + w3 * rows_t[u3, x])
            ) + (
                (w4 * rows_t[u4, x] + w5 * rows_t[u5, x])
                + (w6 * rows_t[u6, x] + w7 * rows_t[u7, x])
            )
        e += 8
    if e < n:
        u0, u1, u2, u3 = units[e], units[e + 1], units[e + 2], units[e + 3]
        w0, w1, w2, w3 = factors[e], factors[e + 1], factors[e + 2], factors[e + 3]
        for x in range(width):
            sums[k, x] += (w0 * rows_t[u0, x] + w1 * rows_t[u1, x]) + (
                w2 * rows_t[u2, x] + w3 * rows_t[u3, x]
            )


@njit(cache=True, nogil=True, error_model="numpy")
def lost_inputs(numbers, weight, faulty_t, active):
    """What neurons lose: (hit, lost), the neurons in ascending order and (n_hit, n_inputs).

    numbers: dead synapses out * n_in + in, sorted. lost = sum of W[out, in] * (faulty y[in]).
    active: (n_in,) whether y[in] may differ from 0 on any input.
    """
    n_out, n_in = weight.shape
    hit, begins = _rows_hit(numbers, n_in, n_out)
    lost = np.zeros((len(hit), faulty_t.shape[1]), faulty_t.dtype)
    units, factors = np.empty(n_in + 4, np.int64), np.empty(n_in + 4, faulty_t.dtype)
    for k in range(len(hit)):
        n, base = 0, hit[k] * n_in
        for e in range(begins[k], begins[k + 1]):
            unit = numbers[e] - base
            units[n], factors[n] = unit, weight[hit[k], unit]
            n += active[unit]
        _add_rows(units, factors, n, faulty_t, lost, k)
    return hit, lost


@njit(cache=True, nogil=True, error_model="numpy")
def trial_changes(
    numbers, dead, weight, kind, parameter, first_t, second_t, golden_before_t, active, golden_t
):
    """Change of a layer in a trial where nothing changed before: (units, (n_units, n_inputs)).

    numbers: dead synapses of the layer; dead: its dead neurons; both last the trial, sorted.
    """
    hit, lost = lost_inputs(numbers, weight, golden_before_t, active)
    units = np.empty(len(hit) + len(dead), np.int64)
    values = np.empty((len(units), lost.shape[1]), lost.dtype)
    n = d = 0
    for k in range(len(hit)):
        while d < len(dead) and dead[d] < hit[k]:
            units[n] = dead[d]
            values[n] = -golden_t[dead[d]]
            n += 1
            d += 1
        units[n] = hit[k]
        if d < len(dead) and dead[d] == hit[k]:
            values[n] = -golden_t[dead[d]]
            d += 1
        else:
            for x in range(lost.shape[1]):
                lost[k, x] = -lost[k, x]
            change_row(kind, parameter, first_t[hit[k]], second_t[hit[k]], lost[k], values[n])
        n += 1
    while d < len(dead):
        units[n] = dead[d]
        values[n] = -golden_t[dead[d]]
        n += 1
        d += 1
    return units[:n], values[:n]


@njit(cache=True, nogil=True, error_model="numpy")
def _pass_on(units, values, weight, numbers, golden_t, faulty_t, dz_t):
    """Add to dz_t (n_out, n_inputs) what changed units and dead synapses of the next layer make.

    faulty_t is scratch that equals golden_t on entry and on return.
    """
    n = len(units)
    rows, factors = np.empty(n + 4, np.int64), np.empty(n + 4, values.dtype)
    for out in range(len(dz_t)):
        for k in range(n):
            rows[k], factors[k] = k, weight[out, units[k]]
        _add_rows(rows, factors, n, values, dz_t, out)
    if not len(numbers):
        return
    for k in range(len(units)):
        faulty_t[units[k]] += values[k]
    hit, lost = lost_inputs(numbers, weight, faulty_t, np.ones(weight.shape[1], np.bool_))
    for k in range(len(hit)):
        dz_t[hit[k]] -= lost[k]
    for k in range(len(units)):
        faulty_t[units[k]] = golden_t[units[k]]


@njit(cache=True, nogil=True, error_model="numpy")
def finish_trials(chosen, before_t, active, hidden, last, errors):
    """The last two layers of the chosen trials, in which nothing changed before them.

    hidden and last describe the two layers: (synapses, neurons, weight, kind, parameter, first_t,
    second_t, golden_t); before_t are the golden inputs of the first, and active tells which of them
    are not always 0. Writes errors[trial].
    """
    n_outputs, n_inputs = len(last[2]), before_t.shape[1]
    middle_t = hidden[7]
    faulty_t = middle_t.copy()
    dz_t = np.empty((n_outputs, n_inputs), before_t.dtype)
    dy = np.empty(n_inputs, before_t.dtype)
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
            faulty_t,
            dz_t,
        )
        for out in range(n_outputs):
            change_row(last[3], last[4], last[5][out], last[6][out], dz_t[out], dy)
            errors[t, :, out] = dy
        for e in range(neurons[0][t], neurons[0][t + 1]):
            errors[t, :, neurons[1][e]] = -last[7][neurons[1][e]]
