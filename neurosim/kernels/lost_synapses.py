"""Dead synapses that last a whole trial: all inputs of the trial at once.

Arrays here are feature-major, (units, inputs), so that the loop over the inputs becomes vector
code: every input loses the same synapses.
"""

import numpy as np
from numba import njit

from neurosim.kernels.activations import change_row

__all__ = ["finish_trials", "lost_inputs", "trial_changes"]


@njit(cache=True, nogil=True, error_model="numpy")
def _add_four(w0, w1, w2, w3, y0, y1, y2, y3, total):
    for x in range(len(total)):
        total[x] += (w0 * y0[x] + w1 * y1[x]) + (w2 * y2[x] + w3 * y3[x])


@njit(cache=True, nogil=True, error_model="numpy")
def _add_one(w, y, total):
    for x in range(len(total)):
        total[x] += w * y[x]


@njit(cache=True, nogil=True, error_model="numpy")
def lost_inputs(numbers, n_in, weight, faulty_t):
    """What neurons lose: (hit, lost), the neurons in ascending order and (n_hit, n_inputs).

    numbers: dead synapses out * n_in + in, sorted. lost = sum of W[out, in] * (faulty y[in]).
    """
    hit = np.empty(min(len(numbers), len(weight)), np.int64)
    n, e = 0, 0
    while e < len(numbers):
        hit[n] = numbers[e] // n_in
        end = (hit[n] + 1) * n_in
        while e < len(numbers) and numbers[e] < end:
            e += 1
        n += 1
    hit = hit[:n]
    lost = np.zeros((n, faulty_t.shape[1]), faulty_t.dtype)
    e = 0
    for k in range(n):
        w, total = weight[hit[k]], lost[k]
        base, end = hit[k] * n_in, (hit[k] + 1) * n_in
        stop = e
        while stop < len(numbers) and numbers[stop] < end:
            stop += 1
        while e + 4 <= stop:
            i0, i1 = numbers[e] - base, numbers[e + 1] - base
            i2, i3 = numbers[e + 2] - base, numbers[e + 3] - base
            _add_four(
                w[i0],
                w[i1],
                w[i2],
                w[i3],
                faulty_t[i0],
                faulty_t[i1],
                faulty_t[i2],
                faulty_t[i3],
                total,
            )
            e += 4
        while e < stop:
            _add_one(w[numbers[e] - base], faulty_t[numbers[e] - base], total)
            e += 1
    return hit, lost


@njit(cache=True, nogil=True, error_model="numpy")
def trial_changes(
    numbers, dead, weight, kind, parameter, first_t, second_t, golden_before_t, golden_t
):
    """Change of a layer in a trial where nothing changed before: (units, (n_units, n_inputs)).

    numbers: dead synapses of the layer; dead: its dead neurons; both last the trial, sorted.
    """
    n_in = weight.shape[1]
    hit, lost = lost_inputs(numbers, n_in, weight, golden_before_t)
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
    for out in range(len(dz_t)):
        w, total = weight[out], dz_t[out]
        k = 0
        while k + 4 <= len(units):
            _add_four(
                w[units[k]],
                w[units[k + 1]],
                w[units[k + 2]],
                w[units[k + 3]],
                values[k],
                values[k + 1],
                values[k + 2],
                values[k + 3],
                total,
            )
            k += 4
        while k < len(units):
            _add_one(w[units[k]], values[k], total)
            k += 1
    if not len(numbers):
        return
    for k in range(len(units)):
        faulty_t[units[k]] += values[k]
    hit, lost = lost_inputs(numbers, weight.shape[1], weight, faulty_t)
    for k in range(len(hit)):
        dz_t[hit[k]] -= lost[k]
    for k in range(len(units)):
        faulty_t[units[k]] = golden_t[units[k]]


@njit(cache=True, nogil=True, error_model="numpy")
def finish_trials(chosen, before_t, hidden, last, errors):
    """The last two layers of the chosen trials, in which nothing changed before them.

    hidden and last describe the two layers: (synapses, neurons, weight, kind, parameter, first_t,
    second_t, golden_t); before_t are the golden inputs of the first. Writes errors[trial].
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
