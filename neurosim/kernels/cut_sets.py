"""Cuts, sites that fail together: draws of sets that hold one, how many are held, growth."""

import numpy as np
from numba import njit

from neurosim.kernels.philox import uniforms

__all__ = ["choose_cuts", "count_held", "predict_grown", "unite"]

_CHOICE = np.uint64(2**32 - 1)  # block of random numbers beyond those of draws of sites


@njit(cache=True, nogil=True, error_model="numpy")
def choose_cuts(seed, stream, first, n_trials, cumulative):
    """A cut for each trial, with the chances whose cumulative sums are given: (n_trials,)."""
    chosen = np.empty(n_trials, np.int64)
    for t in range(n_trials):
        u, _ = uniforms(_CHOICE, stream, np.uint64(first + t), seed)
        chosen[t] = np.searchsorted(cumulative, u * cumulative[-1])
    return chosen


@njit(cache=True, nogil=True, error_model="numpy")
def unite(offsets, sites, chosen, cut_offsets, cut_sites):
    """Each set with the cut chosen for it, all ascending: (offsets, sites)."""
    united = np.zeros(len(offsets), np.int64)
    most = len(sites)
    for c in chosen:
        most += cut_offsets[c + 1] - cut_offsets[c]
    result = np.empty(most, np.int64)
    n = 0
    for t in range(len(chosen)):
        i, last = offsets[t], offsets[t + 1]
        j, end = cut_offsets[chosen[t]], cut_offsets[chosen[t] + 1]
        while i < last or j < end:
            if j == end or (i < last and sites[i] < cut_sites[j]):
                result[n] = sites[i]
                i += 1
            else:
                if i < last and sites[i] == cut_sites[j]:
                    i += 1
                result[n] = cut_sites[j]
                j += 1
            n += 1
        united[t + 1] = n
    return united, result[:n]


@njit(cache=True, nogil=True, error_model="numpy")
def count_held(offsets, sites, starts, listed, cut_offsets, cut_sites):
    """How many cuts each set holds as a whole: (n_sets,).

    Each cut is listed at one of its sites: those of site s are listed[starts[s] : starts[s + 1]].
    """
    counts = np.zeros(len(offsets) - 1, np.int64)
    taken = np.zeros(len(starts) - 1, np.bool_)
    for t in range(len(counts)):
        for i in range(offsets[t], offsets[t + 1]):
            taken[sites[i]] = True
        for i in range(offsets[t], offsets[t + 1]):
            for k in range(starts[sites[i]], starts[sites[i] + 1]):
                held = True
                for j in range(cut_offsets[listed[k]], cut_offsets[listed[k] + 1]):
                    held &= taken[cut_sites[j]]
                counts[t] += held
        for i in range(offsets[t], offsets[t + 1]):
            taken[sites[i]] = False
    return counts


@njit(cache=True, nogil=True, error_model="numpy")
def predict_grown(sets, reached, alone, pairs):
    """How far each set reaches with one more site: (n_sets, n_sites), -inf for its own sites.

    sets (n_sets, size); reached (n_sets, n_drives), what each reaches; alone (n_sites,
    n_drives), what a site adds to nothing; pairs (n_sites, n_sites, n_drives), what two add beyond
    that. The largest over drives.
    """
    n_sites, n_drives = alone.shape
    result = np.full((len(sets), n_sites), -np.inf)
    sums = np.empty((n_sites, n_drives))
    for t in range(len(sets)):
        for s in range(n_sites):
            for d in range(n_drives):
                sums[s, d] = alone[s, d] + reached[t, d]
        for i in sets[t]:
            for s in range(n_sites):
                for d in range(n_drives):
                    sums[s, d] += pairs[i, s, d]
        for s in range(n_sites):
            top = -np.inf
            for d in range(n_drives):
                top = max(top, sums[s, d])
            result[t, s] = top
        for i in sets[t]:
            result[t, i] = -np.inf
    return result
