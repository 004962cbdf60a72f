"""Trials in which many neurons of the first layer that changes are dead: for products in BLAS.

All inputs of a trial lose nearly the same columns of W. With D of them dead on some input, the sums
of m pairs change by (m, D) times (D, n): BLAS multiplies many times as fast as columns are added,
but also where an output is 0 or not dead on an input.
"""

import numpy as np
from numba import njit

from neurosim.kernels.neurons import NONE, end_of_trial

__all__ = ["dead_outputs", "order_by_product"]

# Adding an effective column to one pair costs as much as this many multiplications with it in BLAS;
# to gather a column for BLAS costs as much as multiplying it with so many pairs (estimates).
_COLUMN_COST, _GATHER_COST = 1.5, 40
_FEWEST = 8


@njit(cache=True, nogil=True, error_model="numpy")
def _worth(begin, end, n_pairs, site, start, stop, active, n_inputs):
    """Whether BLAS is faster for a trial with events begin .. end - 1 in n_pairs pairs."""
    n, previous, effective = 0, -1, 0
    for e in range(begin, end):
        if active[site[e]] == 0:
            continue
        n += site[e] != previous
        previous = site[e]
        effective += active[site[e]] * (stop[e] - start[e])
    return n >= _FEWEST and _COLUMN_COST * effective > n * (n_pairs + _GATHER_COST) * n_inputs


@njit(cache=True, nogil=True, error_model="numpy")
def order_by_product(several, bounds, site, start, stop, active, n_inputs):
    """The pairs `several` of `kernels.neurons.classify`, those for BLAS first in their layer.

    Returns (several, edges, groups): pairs whose first change is in layer l are edges[l] ..
    edges[l + 1] - 1; groups (n, 3) tell (layer, first, stop) of the pairs of a trial that are to
    be multiplied by BLAS, in order. active (n_early_sites,): on how many inputs an output is not 0.
    """
    depth = bounds.shape[1] - 2
    ordered = np.empty_like(several)
    groups = np.empty((len(several), 3), np.int64)
    edges = np.zeros(depth, np.int64)
    n_groups = first = 0
    for layer in range(depth - 1):
        stop_layer = first
        while stop_layer < len(several) and several[stop_layer, 0] == layer:
            stop_layer += 1
        at = first
        for chosen in (True, False):
            r = first
            while r < stop_layer:
                t, end = several[r, 1], end_of_trial(several, r, stop_layer)
                worth = several[r, 3] == NONE and _worth(
                    bounds[t, layer], bounds[t, layer + 1], end - r, site, start, stop, active,
                    n_inputs,
                )  # fmt: skip
                if worth == chosen:
                    ordered[at : at + end - r] = several[r:end]
                    if chosen:
                        groups[n_groups, 0] = layer
                        groups[n_groups, 1], groups[n_groups, 2] = at, at + end - r
                        n_groups += 1
                    at += end - r
                r = end
        first = stop_layer
        edges[layer + 1] = first
    return ordered, edges, groups[:n_groups].copy()


@njit(cache=True, nogil=True, error_model="numpy")
def dead_outputs(pairs, layer, inputs, bounds, site, start, stop, golden_t, active, site_offsets):
    """What the dead neurons of a layer take in the pairs of one trial: (units, -y).

    pairs (m, 4), some of `several`; -y (n_units, m) is 0 where a neuron is not dead.
    """
    t, m, n = pairs[0, 1], len(pairs), 0
    begin, end = bounds[t, layer], bounds[t, layer + 1]
    units, taken = np.empty(end - begin, np.int64), np.empty((end - begin, m), golden_t.dtype)
    for e in range(begin, end):
        if active[site[e]] == 0:
            continue
        unit = site[e] - site_offsets[layer]
        if n == 0 or units[n - 1] != unit:
            units[n] = unit
            taken[n] = 0
            n += 1
        if m == golden_t.shape[1]:  # all inputs, in order
            into = taken[n - 1, start[e] : stop[e]]
            outputs = golden_t[site[e], start[e] : stop[e]]
            for k in range(len(into)):
                into[k] = -outputs[k]
            continue
        for k in range(m):
            x = inputs[pairs[k, 2]]
            if start[e] <= x < stop[e]:
                taken[n - 1, k] = -golden_t[site[e], x]
    return units[:n], taken[:n]
