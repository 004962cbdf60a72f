"""Draws of fault sets from products of unequal probabilities, given the least number of faults.

Sites of equal probability form a class. A set is drawn by the number of its faults, how they fall
to the classes, and which sites of each class they are; so sets with many faults cost nothing more
than others where almost all sets have few. Everything is a pure function of (seed, stream, trial).
"""

import math

import numpy as np
from numba import njit

from neurosim.kernels.philox import uniforms

__all__ = [
    "count_tables",
    "draw_given_count",
    "draw_independent",
    "effect_sums",
    "log_ratios",
    "mixture_weights",
    "solve_tilt",
]


@njit(cache=True, nogil=True, error_model="numpy")
def count_tables(sizes, probabilities, most):
    """Laws of the number of faults, cut off beyond `most`: of each class, of it and all after it.

    Both as arrays over the count: (n_classes, most + 1) and (n_classes + 1, most + 1).
    """
    n_classes = len(sizes)
    own, onward = np.zeros((n_classes, most + 1)), np.zeros((n_classes + 1, most + 1))
    onward[n_classes, 0] = 1.0
    for c in range(n_classes - 1, -1, -1):
        n, q = sizes[c], probabilities[c]
        last = min(n, most)
        log_q, log_not = math.log(q), math.log1p(-q)
        for k in range(last + 1):
            ways = math.lgamma(n + 1.0) - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0)
            own[c, k] = math.exp(ways + k * log_q + (n - k) * log_not)
        for total in range(most + 1):
            s = 0.0
            for k in range(min(last, total) + 1):
                s += own[c, k] * onward[c + 1, total - k]
            onward[c, total] = s
    return own, onward


@njit(cache=True, nogil=True, error_model="numpy")
def _grown(array, n):
    if n <= len(array):
        return array
    larger = np.empty(2 * n, np.int64)
    larger[: len(array)] = array
    return larger


@njit(cache=True, nogil=True, error_model="numpy")
def draw_given_count(seed, stream, first, n_trials, least, members, starts, own, onward):
    """Fault sets of at least `least` faults: (offsets, sites), sorted in a trial.

    members: sites class after class, starts (n_classes + 1,); own, onward as of `count_tables`.
    """
    n_classes, most = len(starts) - 1, onward.shape[1] - 1
    mass = 0.0
    for k in range(most, least - 1, -1):
        mass += onward[0, k]
    offsets = np.zeros(n_trials + 1, np.int64)
    sites = np.empty(n_trials * (least + 4), np.int64)
    taken = np.zeros(len(members), np.bool_)
    n = 0
    for t in range(n_trials):
        trial, block = np.uint64(first + t), np.uint64(0)
        u, v = uniforms(block, stream, trial, seed)
        # Counts from the least on: u in (0, 1] falls to the first whose mass so far reaches it.
        target, total, left = u * mass, least, 0.0
        for k in range(least, most + 1):
            if onward[0, k] > 0.0:
                total = k
            left += onward[0, k]
            if left >= target:
                break
        sites = _grown(sites, n + total)
        begin = n
        for c in range(n_classes):
            if total == 0:
                break
            block += np.uint64(1)
            u, v = uniforms(block, stream, trial, seed)
            target, left, here = u * onward[c, total], 0.0, 0
            for k in range(min(starts[c + 1] - starts[c], total) + 1):
                part = own[c, k] * onward[c + 1, total - k]
                if part > 0.0:
                    here = k
                left += part
                if left >= target:
                    break
            total -= here
            # Floyd's algorithm: a uniform subset of `here` members.
            size = starts[c + 1] - starts[c]
            for j in range(size - here, size):
                block += np.uint64(1)
                u, v = uniforms(block, stream, trial, seed)
                at = starts[c] + np.int64(v * (j + 1))
                if taken[at]:
                    at = starts[c] + j
                taken[at] = True
                sites[n] = at
                n += 1
        for i in range(begin, n):
            taken[sites[i]] = False
            sites[i] = members[sites[i]]
        sites[begin:n].sort()
        offsets[t + 1] = n
    return offsets, sites[:n]


@njit(cache=True, nogil=True, error_model="numpy")
def draw_independent(seed, stream, first, n_trials, members, starts, probabilities):
    """Fault sets of any number of faults: (offsets, sites), sorted in a trial."""
    offsets = np.zeros(n_trials + 1, np.int64)
    mean = 0.0
    for c in range(len(starts) - 1):
        mean += (starts[c + 1] - starts[c]) * probabilities[c]
    sites = np.empty(int(1.1 * n_trials * mean) + 64, np.int64)
    n = 0
    for t in range(n_trials):
        trial, block = np.uint64(first + t), np.uint64(0)
        begin = n
        for c in range(len(starts) - 1):
            scale = 1.0 / math.log1p(-probabilities[c])
            at = starts[c] - 1
            while True:
                u, _ = uniforms(block, stream, trial, seed)
                block += np.uint64(1)
                gap = np.floor(math.log(u) * scale)
                if not gap < starts[c + 1] - 1 - at:
                    break
                at += np.int64(gap) + 1
                sites = _grown(sites, n + 1)
                sites[n] = members[at]
                n += 1
        sites[begin:n].sort()
        offsets[t + 1] = n
    return offsets, sites[:n]


@njit(cache=True, nogil=True, error_model="numpy")
def log_ratios(offsets, sites, shifts, constants):
    """Log of each law's probability of each set by the true one's: (n_trials, n_laws).

    shifts (n_sites, n_laws): what a fault of the site adds; constants (n_laws,): without faults.
    """
    result = np.empty((len(offsets) - 1, len(constants)))
    for t in range(len(result)):
        row = result[t]
        row[:] = constants
        for i in range(offsets[t], offsets[t + 1]):
            shift = shifts[sites[i]]
            for c in range(len(row)):
                row[c] += shift[c]
    return result


@njit(cache=True, nogil=True, error_model="numpy")
def mixture_weights(ratios, shares):
    """1 / sum_c shares_c exp(ratios_tc) of each set, (n_trials,); laws of share 0 are left out."""
    result = np.empty(len(ratios))
    logs = np.log(shares)
    for t in range(len(ratios)):
        top = -np.inf
        for c in range(len(shares)):
            top = max(top, ratios[t, c] + logs[c])
        total = 0.0
        for c in range(len(shares)):
            if shares[c] > 0.0:
                total += math.exp(ratios[t, c] + logs[c] - top)
        result[t] = math.exp(-top) / total
    return result


@njit(cache=True, nogil=True, error_model="numpy")
def effect_sums(offsets, sites, effects):
    """Sums of the effects (n_sites, n_values) of the sites of each set: (n_sets, n_values)."""
    result = np.zeros((len(offsets) - 1, effects.shape[1]))
    for t in range(len(result)):
        row = result[t]
        for i in range(offsets[t], offsets[t + 1]):
            effect = effects[sites[i]]
            for v in range(len(row)):
                row[v] += effect[v]
    return result


@njit(cache=True, nogil=True, error_model="numpy")
def solve_tilt(effects, probabilities, target, largest):
    """Theta >= 0 with sum_s e_s q_s = target, logit q_s = logit p_s + theta e_s; and its bound.

    The second result is log E exp(theta (sum e xi - target)), the logarithm of Chernoff's bound on
    P(sum e xi >= target). |theta e_s| is at most `largest`.
    """
    steepest = 0.0
    for e in effects:
        steepest = max(steepest, abs(e))
    if steepest == 0.0:
        return 0.0, 0.0
    low, high = 0.0, largest / steepest
    theta = 0.0
    for _ in range(60):
        value, slope = -target, 0.0
        for s in range(len(effects)):
            e, p = effects[s], probabilities[s]
            grown = p * math.exp(theta * e)
            q = grown / (1.0 - p + grown)
            value += e * q
            slope += e * e * q * (1.0 - q)
        if abs(value) <= 1e-3 * abs(target):
            break
        if value < 0.0:
            low = theta
        else:
            high = theta
        step = theta - value / slope if slope > 0.0 else high
        theta = step if low < step < high else 0.5 * (low + high)
        if high - low <= 1e-6 * high:
            break
    log_bound = -theta * target
    for s in range(len(effects)):
        log_bound += math.log1p(probabilities[s] * math.expm1(theta * effects[s]))
    return theta, log_bound
