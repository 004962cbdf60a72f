"""Sums over trials for streaming statistics, from changed pairs alone.

The errors of a range of trials come as distinct fault sets (`neurosim.kernels.changes`), each with
the number of trials that have it as its weight. Pairs are visited input by input (`by_input`), so
that memory is read in order and the sums of one input stay in the cache; the trials in which an
input does not change are counted, never touched: their errors are exactly 0.
"""

import numpy as np
from numba import njit

__all__ = [
    "by_input",
    "cell_extremes",
    "cell_sums",
    "count_exceedances",
    "count_medians",
    "fill_histogram",
    "over_inputs",
    "weighted_moments",
    "winners",
]


@njit(cache=True, nogil=True, error_model="numpy")
def by_input(inputs, weights, values, n_inputs):
    """Pairs ordered by input: (starts, weights, values), those of x from starts[x] on."""
    n_outputs = values.shape[1]
    starts = np.zeros(n_inputs + 1, np.int64)
    for x in inputs:
        starts[x + 1] += 1
    starts = np.cumsum(starts)
    at = starts[:-1].copy()
    ordered_weights, ordered = np.empty_like(weights), np.empty_like(values)
    for i in range(len(inputs)):
        k = at[inputs[i]]
        at[inputs[i]] += 1
        ordered_weights[k] = weights[i]
        for o in range(n_outputs):
            ordered[k, o] = values[i, o]
    return starts, ordered_weights, ordered


@njit(cache=True, nogil=True, error_model="numpy")
def cell_extremes(cells, values, n_cells):
    """Smallest and largest value over the rows of each cell, infinities where there is none."""
    low = np.full((n_cells, values.shape[1]), np.inf)
    high = np.full((n_cells, values.shape[1]), -np.inf)
    for i in range(len(cells)):
        cell = cells[i]
        for v in range(values.shape[1]):
            low[cell, v] = min(low[cell, v], values[i, v])
            high[cell, v] = max(high[cell, v], values[i, v])
    return low, high


@njit(cache=True, nogil=True, error_model="numpy")
def cell_sums(cells, factors, values, n_cells):
    """Sums of factor times value over the rows of each cell: (n_cells, n_values).

    Rows are added in their order: the bits depend on nothing else.
    """
    n_values = values.shape[1]
    sums = np.zeros((n_cells, n_values))
    for i in range(len(cells)):
        cell, factor = cells[i], factors[i]
        for v in range(n_values):
            sums[cell, v] += factor * values[i, v]
    return sums


@njit(cache=True, nogil=True, error_model="numpy")
def weighted_moments(n, starts, weights, values):
    """Mean, sums of 2nd, 3rd, 4th powers of deviations, minimum, maximum: (n_inputs, n_outputs).

    n trials; row k of values (n_pairs, n_outputs) counts weights[k] times, the rest is 0. Two
    passes in float64, the first about 0, or about the first value where no trial has a 0: nothing
    cancels, and constant values have exactly no spread.
    """
    n_inputs, n_outputs = len(starts) - 1, values.shape[1]
    shape = (n_inputs, n_outputs)
    mean, low, high = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    m2, m3, m4 = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    origin = np.empty(n_outputs)
    for x in range(n_inputs):
        zeros = n
        for k in range(starts[x], starts[x + 1]):
            zeros -= weights[k]
        origin[:] = 0
        if zeros == 0:
            origin[:] = values[starts[x]]
            low[x] = origin
            high[x] = origin
        for k in range(starts[x], starts[x + 1]):
            w = np.float64(weights[k])
            for o in range(n_outputs):
                v = np.float64(values[k, o])
                mean[x, o] += w * (v - origin[o])
                low[x, o] = min(low[x, o], v)
                high[x, o] = max(high[x, o], v)
        for o in range(n_outputs):
            mean[x, o] = origin[o] + mean[x, o] / n
        for k in range(starts[x], starts[x + 1]):
            w = np.float64(weights[k])
            for o in range(n_outputs):
                d = np.float64(values[k, o]) - mean[x, o]
                square = w * (d * d)
                m2[x, o] += square
                m3[x, o] += square * d
                m4[x, o] += square * (d * d)
        for o in range(n_outputs):
            d = -mean[x, o]
            square = zeros * (d * d)
            m2[x, o] += square
            m3[x, o] += square * d
            m4[x, o] += square * (d * d)
    return mean, m2, m3, m4, low, high


@njit(cache=True, nogil=True, error_model="numpy")
def over_inputs(offsets, values, n_inputs):
    """Mean and population variance of each set's errors over its inputs: (n_sets, n_outputs)."""
    n_sets, n_outputs = len(offsets) - 1, values.shape[1]
    mean, variance = np.zeros((n_sets, n_outputs)), np.zeros((n_sets, n_outputs))
    for s in range(n_sets):
        for i in range(offsets[s], offsets[s + 1]):
            for o in range(n_outputs):
                mean[s, o] += np.float64(values[i, o])
        for o in range(n_outputs):
            mean[s, o] /= n_inputs
        for i in range(offsets[s], offsets[s + 1]):
            for o in range(n_outputs):
                d = np.float64(values[i, o]) - mean[s, o]
                variance[s, o] += d * d
        zeros = n_inputs - (offsets[s + 1] - offsets[s])
        for o in range(n_outputs):
            variance[s, o] = (variance[s, o] + zeros * (mean[s, o] * mean[s, o])) / n_inputs
    return mean, variance


@njit(cache=True, nogil=True, error_model="numpy")
def fill_histogram(n, starts, weights, values, edges):
    """Counts (n_inputs, n_outputs, n_bins) over n trials, of the dtype of the weights.

    A bin holds low <= |value| < high on its side of 0; the middle bin holds exactly 0. Bins are
    four an octave: the exponent of |value| and two more bits of it are the number of its bin.
    """
    n_inputs, n_outputs, bins = len(starts) - 1, values.shape[1], len(edges) - 1
    middle = bins // 2
    # The first bin beside the middle one ends at the first of the edges that lie at octaves.
    before = (np.float64(edges[middle + 2]).view(np.int64) >> 50) - 2
    counts = np.zeros((n_inputs, n_outputs, bins), weights.dtype)
    for x in range(n_inputs):
        changed = 0
        for k in range(starts[x], starts[x + 1]):
            w = weights[k]
            changed += w
            for o in range(n_outputs):
                v = np.float64(values[k, o])
                at = (np.float64(abs(v)).view(np.int64) >> 50) - before
                at = min(max(at, 1), middle)
                at = 0 if v == 0.0 else at
                counts[x, o, middle + (at if v > 0.0 else -at)] += w
        counts[x, :, middle] += n - changed
    return counts


@njit(cache=True, nogil=True, error_model="numpy")
def count_exceedances(starts, weights, values, epsilons):
    """How often |value| >= epsilon, and how often at any output of an input.

    Shapes (n_epsilons, n_inputs, n_outputs) and (n_epsilons, n_inputs); epsilons ascend.
    """
    n_inputs, n_outputs, n_epsilons = len(starts) - 1, values.shape[1], len(epsilons)
    each = np.zeros((n_epsilons, n_inputs, n_outputs), np.int64)
    some = np.zeros((n_epsilons, n_inputs), np.int64)
    for x in range(n_inputs):
        for k in range(starts[x], starts[x + 1]):
            largest = 0.0
            for o in range(n_outputs):
                largest = max(largest, abs(np.float64(values[k, o])))
            for e in range(n_epsilons):
                if largest < epsilons[e]:
                    break
                some[e, x] += weights[k]
                for o in range(n_outputs):
                    if abs(np.float64(values[k, o])) >= epsilons[e]:
                        each[e, x, o] += weights[k]
    return each, some


@njit(cache=True, nogil=True, error_model="numpy")
def winners(inputs, values, golden):
    """The largest output, the first of equal ones, of each changed pair under its faults."""
    found = np.empty(len(inputs), np.int64)
    for i in range(len(inputs)):
        best = 0
        largest = values[i, 0] + golden[inputs[i], 0]
        for o in range(1, values.shape[1]):
            v = values[i, o] + golden[inputs[i], o]
            if v > largest:
                best, largest = o, v
        found[i] = best
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _count_sides(rows, values, epsilon, above, below):
    """How many of the rows of values lie at or beyond epsilon on each side, by output."""
    above[:], below[:] = 0, 0
    for i in rows:
        for o in range(values.shape[1]):
            v = np.float64(values[i, o])
            above[o] += v >= epsilon
            below[o] += -v >= epsilon


@njit(cache=True, nogil=True, error_model="numpy")
def _size_of_median(rows, values, o, r):
    """|median| of output o over r trials, r even: `rows` of values, and zeros."""
    ordered = np.zeros(r, values.dtype)
    for k in range(len(rows)):
        ordered[k] = values[rows[k], o]
    ordered.sort()
    return abs(np.float64((ordered[r // 2 - 1] + ordered[r // 2]) / values.dtype.type(2)))


@njit(cache=True, nogil=True, error_model="numpy")
def count_medians(sets, offsets, inputs, values, begin, r, epsilons, n_inputs):
    """How often the median of r consecutive trials, from trial `begin` on, has |.| >= epsilon.

    Returns (groups, each, some) as `count_exceedances` does. The median of an odd number of values
    lies beyond epsilon if more than half of them do, on one side. For that of an even number, the
    mean of the two in the middle, half of them must, and then the values are sorted.
    """
    n_outputs, n_epsilons = values.shape[1], len(epsilons)
    groups, need = max(0, (len(sets) - begin) // r), (r + 1) // 2
    each = np.zeros((n_epsilons, n_inputs, n_outputs), np.int64)
    some = np.zeros((n_epsilons, n_inputs), np.int64)
    count, pairs = np.zeros(n_inputs, np.int64), np.empty((n_inputs, r), np.int64)
    above, below = np.empty(n_outputs, np.int32), np.empty(n_outputs, np.int32)
    for g in range(groups):
        first = begin + g * r
        changed = 0
        for t in range(first, first + r):
            changed += sets[t] >= 0
        if changed < need:
            continue
        count[:] = 0
        for t in range(first, first + r):
            if sets[t] >= 0:
                for i in range(offsets[sets[t]], offsets[sets[t] + 1]):
                    x = inputs[i]
                    pairs[x, count[x]] = i
                    count[x] += 1
        for x in range(n_inputs):
            if count[x] < need:
                continue
            rows = pairs[x, : count[x]]
            for e in range(n_epsilons):
                _count_sides(rows, values, epsilons[e], above, below)
                found = False
                for o in range(n_outputs):
                    beyond = max(above[o], below[o]) >= need
                    if beyond and r % 2 == 0:
                        beyond = _size_of_median(rows, values, o, r) >= epsilons[e]
                    each[e, x, o] += beyond
                    found |= beyond
                if not found:
                    break  # nor beyond larger ones
                some[e, x] += 1
    return groups, each, some
