"""Sums over trials for streaming statistics; trials run first in every array, cells last."""

import math

import numpy as np
from numba import njit

__all__ = ["central_moments", "count_exceedances", "fill_histogram"]


@njit(cache=True, nogil=True, error_model="numpy")
def central_moments(values):
    """Mean, sums of 2nd, 3rd, 4th powers of deviations, minimum, maximum: each (n_cells,).

    Two passes over values (n_trials, n_cells), both in float64, the first about the first trial,
    so that nothing cancels and constant values have exactly no spread.
    """
    n, cells = values.shape
    origin = values[0].astype(np.float64)
    mean = np.zeros(cells)
    low, high = origin.copy(), origin.copy()
    for t in range(n):
        for c in range(cells):
            v = np.float64(values[t, c])
            mean[c] += v - origin[c]
            low[c] = min(low[c], v)
            high[c] = max(high[c], v)
    for c in range(cells):
        mean[c] = origin[c] + mean[c] / n
    m2, m3, m4 = np.zeros(cells), np.zeros(cells), np.zeros(cells)
    for t in range(n):
        for c in range(cells):
            d = np.float64(values[t, c]) - mean[c]
            square = d * d
            m2[c] += square
            m3[c] += square * d
            m4[c] += square * square
    return mean, m2, m3, m4, low, high


@njit(cache=True, nogil=True, error_model="numpy")
def fill_histogram(values, edges):
    """Counts (n_cells, n_bins) of values (n_trials, n_cells).

    A bin holds low <= |value| < high on its side of 0; the middle bin holds exactly 0.
    """
    n, cells = values.shape
    bins = len(edges) - 1
    middle = bins // 2
    positive = edges[middle + 1 :]
    counts = np.zeros((cells, bins), np.int64)
    for t in range(n):
        for c in range(cells):
            v = np.float64(values[t, c])
            if v == 0.0:
                counts[c, middle] += 1
            else:
                index = np.searchsorted(positive, math.fabs(v), side="right")
                index = min(index, bins - middle - 1)
                counts[c, middle + index if v > 0.0 else middle - index] += 1
    return counts


@njit(cache=True, nogil=True, error_model="numpy")
def count_exceedances(values, n_outputs, epsilons):
    """How often |value| >= epsilon, (n_epsilons, n_cells), and for any output of an input."""
    n, cells = values.shape
    inputs = cells // n_outputs
    each = np.zeros((len(epsilons), cells), np.int64)
    some = np.zeros((len(epsilons), inputs), np.int64)
    for t in range(n):
        for i in range(inputs):
            largest = 0.0
            for c in range(i * n_outputs, (i + 1) * n_outputs):
                size = math.fabs(np.float64(values[t, c]))
                largest = max(largest, size)
                for e in range(len(epsilons)):
                    if size >= epsilons[e]:
                        each[e, c] += 1
            for e in range(len(epsilons)):
                if largest >= epsilons[e]:
                    some[e, i] += 1
    return each, some
