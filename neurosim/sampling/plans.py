"""How the fault sets of trials are drawn: from given arrays, one random stream a trial and process.

A fault set is a pure function of (processes, plan, seed, trial): independent of the batch it is
drawn in, of threads, executors and backends, and of what is recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurosim.errors import InputError
from neurosim.faults import Events, FaultBatch, Intermittent, Permanent, Sites, StuckAtZero
from neurosim.kernels.draws import draw_bursts, draw_cells, merge_windows
from neurosim.layers import Array

__all__ = ["STREAM_VERSION", "PlainMonteCarlo", "draw"]

# Raised whenever the same seed would give other faults: it is part of a campaign's fingerprint.
STREAM_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class PlainMonteCarlo:
    """Independent trials, all of the same weight.

    Parameters
    ----------
    draw_at : tuple of float, optional
        One probability a process, at least its own: faults are drawn at it and thinned. Campaigns
        that share `draw_at` and the seed share their random numbers, so that what differs between
        them is the effect of the probability (`sweep` uses this).

    Examples
    --------
    >>> PlainMonteCarlo()
    PlainMonteCarlo(draw_at=None)
    """

    draw_at: tuple[float, ...] | None = None

    def probabilities(self, processes: Sequence[StuckAtZero]) -> tuple[float, ...]:
        """The probability at which each process is drawn before it is thinned.

        Raises
        ------
        InputError
            If there is not one for each process, or one is below the process's own.
        """
        if self.draw_at is None:
            return tuple(process.probability for process in processes)
        if len(self.draw_at) != len(processes):
            raise InputError(
                f"draw_at: expected one probability for each of {len(processes)} processes, "
                f"got {len(self.draw_at)}"
            )
        for drawn, process in zip(self.draw_at, processes, strict=True):
            if not process.probability <= drawn <= 1:
                raise InputError(
                    f"draw_at: expected a probability from {process.probability:g}, that of the "
                    f"process, to 1, got {drawn!r}"
                )
        return self.draw_at

    def __str__(self) -> str:
        if self.draw_at is None:
            return "plain Monte Carlo"
        drawn = ", ".join(f"{p:g}" for p in self.draw_at)
        return f"plain Monte Carlo, drawn at {drawn} and thinned"


def draw(
    processes: Sequence[StuckAtZero],
    plan: PlainMonteCarlo,
    sites: Sites,
    n_presentations: int,
    seed: int,
    first: int,
    stop: int,
) -> FaultBatch:
    """Draw the fault sets of trials first .. stop - 1."""
    found: dict[str, list[_Drawn]] = {"neuron": [], "synapse": []}
    counts = np.zeros((stop - first, len(processes)), np.int64)
    drawn_at = plan.probabilities(processes)
    for number, (process, probability) in enumerate(zip(processes, drawn_at, strict=True)):
        events = _draw_process(
            process, probability, sites, n_presentations, seed, number, first, stop
        )
        found[process.site].append(events)
        counts[:, number] = events.counts(isinstance(process.persistence, Permanent))
    return FaultBatch(
        sites=sites,
        n_presentations=n_presentations,
        neurons=_union(found["neuron"], stop - first),
        synapses=_union(found["synapse"], stop - first),
        counts=counts,
    )


@dataclass(frozen=True)
class _Drawn:
    """The events of one process before overlaps with other processes are merged."""

    offsets: Array
    site: Array
    start: Array
    stop: Array

    def counts(self, per_site: bool) -> Array:
        if per_site:
            return np.diff(self.offsets)
        total = np.concatenate([[0], np.cumsum(self.stop - self.start, dtype=np.int64)])
        return np.diff(total[self.offsets])


def _draw_process(
    process: StuckAtZero,
    drawn_at: float,
    sites: Sites,
    n_presentations: int,
    seed: int,
    number: int,
    first: int,
    stop: int,
) -> _Drawn:
    layers = np.array(process.layers_in(sites.widths))
    offsets = sites.neuron_offsets if process.site == "neuron" else sites.synapse_offsets
    sizes = offsets[layers + 1] - offsets[layers]
    n_sites, n_trials, p = int(sizes.sum()), stop - first, process.probability
    keep = p / drawn_at if drawn_at > 0 else 1.0
    key = np.uint64(seed)
    # At probability 1 a fault never ends, whatever its persistence.
    if isinstance(process.persistence, Permanent) or p == 1:
        at, local = draw_cells(key, number, first, n_trials, n_sites, drawn_at, keep)
        start = np.zeros(len(local), np.int32)
        end = np.full(len(local), n_presentations, np.int32)
    elif isinstance(process.persistence, Intermittent):
        m = process.persistence.mean_duration
        onset, onset_at = (q / (m * (1 - q)) if q < 1 else 1.0 for q in (p, drawn_at))
        onset_at = min(onset_at, 1.0)
        at, local, start, end = draw_bursts(
            key,
            number,
            first,
            n_trials,
            n_sites,
            n_presentations,
            drawn_at,
            keep,
            onset_at,
            onset / onset_at if onset_at > 0 else 1.0,
            float(m),
        )
    else:
        at, cell = draw_cells(
            key, number, first, n_trials, n_sites * n_presentations, drawn_at, keep
        )
        local, start = cell // n_presentations, (cell % n_presentations).astype(np.int32)
        end = start + np.int32(1)
    before = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    shift = offsets[layers] - before
    if (shift == shift[0]).all():
        return _Drawn(at, local + shift[0], start, end)
    return _Drawn(at, local + shift[np.searchsorted(before, local, side="right") - 1], start, end)


def _union(parts: list[_Drawn], n_trials: int) -> Events:
    """Merge processes: a site that two of them hit at once is dead once."""
    if not parts:
        nothing = np.empty(0, np.int64)
        return Events(
            offsets=np.zeros(n_trials + 1, np.int64),
            site=nothing,
            start=nothing.astype(np.int32),
            stop=nothing.astype(np.int32),
        )
    if len(parts) == 1:
        one = parts[0]
        return Events(offsets=one.offsets, site=one.site, start=one.start, stop=one.stop)
    trial = np.concatenate([np.repeat(np.arange(n_trials), np.diff(p.offsets)) for p in parts])
    site = np.concatenate([p.site for p in parts])
    start = np.concatenate([p.start for p in parts])
    stop = np.concatenate([p.stop for p in parts])
    order = np.lexsort((stop, start, site, trial))
    offsets, site, start, stop = merge_windows(
        n_trials, trial[order], site[order], start[order], stop[order]
    )
    return Events(offsets=offsets, site=site, start=start, stop=stop)
