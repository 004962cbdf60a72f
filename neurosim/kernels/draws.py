"""Draws of fault events: sorted cells of a Bernoulli grid, by geometric gaps between faults.

A stream is (process, purpose); the random numbers of a trial depend on nothing but (seed, stream,
trial), never on the batch it is drawn in. Every draw can be made at a higher probability and
thinned: campaigns at different probabilities then share their random numbers.
"""

import math

import numpy as np
from numba import njit

from neurosim.kernels.philox import uniforms

__all__ = ["draw_bursts", "draw_cells", "draw_states", "merge_windows"]

# Purposes of the streams of one process.
_CELLS, _INITIAL, _INITIAL_DURATION, _ONSET_DURATION = 0, 1, 2, 3
_STREAMS_PER_PROCESS = 4
_STATES = 1  # of permanent faults, which have no bursts
# Trials whose first random numbers are made together.
_BLOCK = 256


@njit(cache=True, nogil=True, error_model="numpy")
def _stream(process, purpose):
    return np.uint64(process * _STREAMS_PER_PROCESS + purpose)


@njit(cache=True, nogil=True, error_model="numpy")
def _walk(n_cells, probability, keep, stream, trial, seed, cells, ordinals, n):
    """Append the failing cells of one trial; return the (perhaps regrown) buffers and the count.

    Gaps between Bernoulli successes are geometric: P(gap >= k) = (1 - p)^k = P(u <= (1 - p)^k).
    """
    if probability <= 0.0 or n_cells == 0:
        return cells, ordinals, n
    scale = 1.0 / math.log1p(-probability) if probability < 1.0 else 0.0
    cell = np.int64(-1)
    block = np.uint64(0)
    while True:
        u, mark = uniforms(block, stream, trial, seed)
        # -0.0 for a probability of 1: every cell. Kept a float: a gap may exceed an int64.
        gap = np.floor(math.log(u) * scale)
        if not gap < n_cells - 1 - cell:
            return cells, ordinals, n
        cell += np.int64(gap) + 1
        if mark < keep:
            if n == len(cells):
                more_cells = np.empty(2 * n + 16, np.int64)
                more_cells[:n] = cells
                cells = more_cells
                more_ordinals = np.empty(2 * n + 16, np.int64)
                more_ordinals[:n] = ordinals
                ordinals = more_ordinals
            cells[n] = cell
            ordinals[n] = np.int64(block)
            n += 1
        block += np.uint64(1)


@njit(cache=True, nogil=True, error_model="numpy")
def _first_uniforms(stream, first, seed, u):
    """The uniform that decides the first gap, of trials first .. first + len(u) - 1."""
    for t in range(len(u)):
        u[t], _ = uniforms(np.uint64(0), stream, first + np.uint64(t), seed)


@njit(cache=True, nogil=True, error_model="numpy")
def draw_cells(seed, process, first, n_trials, n_cells, probability, keep):
    """Failing cells of trials first .. first + n_trials: (offsets, cells), sorted in a trial.

    Each of n_cells fails independently with `probability` and is then kept with `keep`.
    """
    offsets = np.zeros(n_trials + 1, np.int64)
    guess = int(1.05 * n_trials * n_cells * probability * keep) + 64
    cells, ordinals = np.empty(guess, np.int64), np.empty(guess, np.int64)
    n = 0
    stream = _stream(process, _CELLS)
    # Where little fails, most trials have no failing cell: u <= (1 - p)^n, less what the logarithm
    # in `_walk` may be off. To find them is vector code, to walk is not.
    nothing = (
        math.exp(n_cells * math.log1p(-probability)) * (1 - 1e-9) if probability < 1.0 else 0.0
    )
    u = np.empty(_BLOCK)
    for begin in range(0, n_trials, _BLOCK):
        _first_uniforms(stream, np.uint64(first + begin), seed, u)
        for k in range(min(_BLOCK, n_trials - begin)):
            if u[k] > nothing:
                trial = np.uint64(first + begin + k)
                cells, ordinals, n = _walk(
                    n_cells, probability, keep, stream, trial, seed, cells, ordinals, n
                )
            offsets[begin + k + 1] = n
    return offsets, cells[:n]


@njit(cache=True, nogil=True, error_model="numpy")
def draw_states(seed, process, first, offsets, cells, share):
    """Of the cells that `draw_cells` found: whether each is in the second of two states.

    share: the probability of the first state. A cell's state depends on nothing but (seed, process,
    trial, cell).
    """
    second = np.empty(len(cells), np.int64)
    stream = _stream(process, _STATES)
    for t in range(len(offsets) - 1):
        for n in range(offsets[t], offsets[t + 1]):
            _, u = uniforms(np.uint64(cells[n]), stream, np.uint64(first + t), seed)
            second[n] = u >= share
    return second


@njit(cache=True, nogil=True, error_model="numpy")
def _duration(mean, ordinal, stream, trial, seed):
    """A geometric duration >= 1 with P(end) = 1 / mean at each step, as a float."""
    if mean <= 1.0:
        return 1.0
    u, _ = uniforms(np.uint64(ordinal), stream, trial, seed)
    return 1.0 + np.floor(math.log(u) / math.log1p(-1.0 / mean))


@njit(cache=True, nogil=True, error_model="numpy")
def draw_bursts(
    seed,
    process,
    first,
    n_trials,
    n_sites,
    n_presentations,
    n_steps,
    probability,
    keep,
    onset,
    keep_onset,
    mean_duration,
):
    """Bursts of a stationary two-state chain at each site: (offsets, site, start, stop).

    A site is bad at presentation 0 with probability * keep; a good site turns bad in each of the
    first n_steps steps to the next presentation with onset * keep_onset; a bad one is repaired with
    1 / mean_duration. Sorted by (site, start) in a trial; windows of a site neither overlap nor
    touch.
    """
    offsets = np.zeros(n_trials + 1, np.int64)
    size = 64
    site, start, stop = np.empty(size, np.int64), np.empty(size, np.int32), np.empty(size, np.int32)
    n = 0
    bad, bad_ordinal = np.empty(64, np.int64), np.empty(64, np.int64)
    coin, coin_ordinal = np.empty(64, np.int64), np.empty(64, np.int64)
    for t in range(n_trials):
        trial = np.uint64(first + t)
        bad, bad_ordinal, n_bad = _walk(
            n_sites,
            probability,
            keep,
            _stream(process, _INITIAL),
            trial,
            seed,
            bad,
            bad_ordinal,
            0,
        )
        coin, coin_ordinal, n_coin = _walk(
            n_sites * n_steps,
            onset,
            keep_onset,
            _stream(process, _CELLS),
            trial,
            seed,
            coin,
            coin_ordinal,
            0,
        )
        i = j = 0
        current, end = np.int64(-1), np.int64(-1)  # the site at hand, the end of its last burst
        while i < n_bad or j < n_coin:
            initial = j >= n_coin or (i < n_bad and bad[i] <= coin[j] // n_steps)
            if initial:
                where, when = bad[i], np.int64(0)
                length = _duration(
                    mean_duration, bad_ordinal[i], _stream(process, _INITIAL_DURATION), trial, seed
                )
                i += 1
            else:
                where, when = coin[j] // n_steps, coin[j] % n_steps + 1
                length = _duration(
                    mean_duration, coin_ordinal[j], _stream(process, _ONSET_DURATION), trial, seed
                )
                j += 1
                # The coin decides the step (when - 1) -> when of a site that is good at when - 1.
                if where == current and when <= end:
                    continue
            current = where
            end = n_presentations if length >= n_presentations - when else when + np.int64(length)
            if n == size:
                size *= 2
                grown = np.empty(size, np.int64)
                grown[:n] = site
                site = grown
                grown32 = np.empty(size, np.int32)
                grown32[:n] = start
                start = grown32
                grown32 = np.empty(size, np.int32)
                grown32[:n] = stop
                stop = grown32
            site[n], start[n], stop[n] = where, when, end
            n += 1
        offsets[t + 1] = n
    return offsets, site[:n], start[:n], stop[:n]


@njit(cache=True, nogil=True, error_model="numpy")
def merge_windows(n_trials, trial, site, start, stop):
    """Unite overlapping windows of equal sites in events sorted by (trial, site, start).

    Returns (offsets, site, start, stop); works in place on its arguments.
    """
    offsets = np.zeros(n_trials + 1, np.int64)
    n = -1
    for e in range(len(site)):
        new = n < 0 or trial[n] != trial[e] or site[n] != site[e] or start[e] >= stop[n]
        if new:
            n += 1
            trial[n], site[n], start[n], stop[n] = trial[e], site[e], start[e], stop[e]
            offsets[trial[e] + 1] += 1
        elif stop[e] > stop[n]:
            stop[n] = stop[e]
    n += 1
    return np.cumsum(offsets), site[:n], start[:n], stop[:n]
