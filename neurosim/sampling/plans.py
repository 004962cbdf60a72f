"""How the fault sets of trials are drawn: from given arrays, one random stream a trial and process.

A fault set is a pure function of (processes, plan, seed, trial): independent of the batch it is
drawn in, of threads, executors and backends, and of what is recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurosim.errors import InputError
from neurosim.faults import (
    Events,
    FaultBatch,
    FaultProcess,
    Intermittent,
    Permanent,
    Sites,
    ValuedEvents,
    onset_window,
)
from neurosim.kernels.draws import draw_bursts, draw_cells, draw_states, merge_windows
from neurosim.layers import Array
from neurosim.physical_sites import SiteGroups, members_of
from neurosim.weight_faults import WeightSites

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

    def probabilities(self, processes: Sequence[FaultProcess]) -> tuple[float, ...]:
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
    processes: Sequence[FaultProcess],
    plan: PlainMonteCarlo,
    sites: Sites,
    n_presentations: int,
    seed: int,
    first: int,
    stop: int,
    groups: Sequence[SiteGroups | None] = (),
    defects: Array | None = None,
    stuck_defects: tuple[Array, Array] | None = None,
    values: Sequence[dict[int, float] | None] = (),
    parts: Sequence[WeightSites | None] = (),
) -> FaultBatch:
    """Draw the fault sets of trials first .. stop - 1.

    groups: for each process its physical sites; None (or nothing at all) for neurons and synapses.
    defects: numbers of synapses that are dead in every trial.
    stuck_defects: numbers of synapses that are stuck in every trial, and at which weights.
    values: for each process what the sites of each layer are stuck at; None for dead ones.
    parts: for each process its devices or bits; None for other processes.
    """
    found: dict[str, list[_Drawn]] = {"neuron": [], "synapse": []}
    stuck: dict[str, list[tuple[_Drawn, Array]]] = {"neuron": [], "synapse": []}
    counts = np.zeros((stop - first, len(processes)), np.int64)
    drawn_at = plan.probabilities(processes)
    several = groups or (None,) * len(processes)
    held = values or (None,) * len(processes)
    devices = parts or (None,) * len(processes)
    for number, (process, probability, group, value, part) in enumerate(
        zip(processes, drawn_at, several, held, devices, strict=True)
    ):
        grouped = group if part is None else part
        n_sites = len(grouped) if grouped is not None else _sizes(process, sites).sum()
        events = _draw_process(
            process, probability, int(n_sites), n_presentations, seed, number, first, stop
        )
        counts[:, number] = events.counts(isinstance(process.persistence, Permanent))
        if part is not None:
            stuck["synapse"].append(_shifted(events, part, seed, number, first))
        elif value is not None:
            placed = _placed(events, process, sites)
            locate = sites.neurons if process.site == "neuron" else sites.synapses
            by_layer = np.array([value.get(n, 0.0) for n in range(len(sites.widths))])
            stuck[process.site].append((placed, by_layer[locate(placed.site)[0]]))
        elif group is None:
            found[process.site].append(_placed(events, process, sites))
        else:
            found["neuron"].append(_lowered(events, group.neuron_offsets, group.neurons))
            found["synapse"].append(_lowered(events, group.synapse_offsets, group.synapses))
    if defects is not None and len(defects):
        found["synapse"].append(_always(defects, stop - first, n_presentations))
    if stuck_defects is not None and len(stuck_defects[0]):
        always = _always(stuck_defects[0], stop - first, n_presentations)
        stuck["synapse"].append((always, np.tile(stuck_defects[1], stop - first)))
    return FaultBatch(
        sites=sites,
        n_presentations=n_presentations,
        neurons=_union(found["neuron"], stop - first),
        synapses=_union(found["synapse"], stop - first),
        counts=counts,
        neuron_values=_together(stuck["neuron"], stop - first),
        synapse_weights=_together(stuck["synapse"], stop - first),
    )


@dataclass(frozen=True)
class _Drawn:
    """The events of one process before overlaps with other processes are merged.

    ordered: whether the events of a trial are sorted by site and start.
    """

    offsets: Array
    site: Array
    start: Array
    stop: Array
    ordered: bool = True

    def counts(self, per_site: bool) -> Array:
        if per_site:
            return np.diff(self.offsets)
        total = np.concatenate([[0], np.cumsum(self.stop - self.start, dtype=np.int64)])
        return np.diff(total[self.offsets])


def _draw_process(
    process: FaultProcess,
    drawn_at: float,
    n_sites: int,
    n_presentations: int,
    seed: int,
    number: int,
    first: int,
    stop: int,
) -> _Drawn:
    """Events of one process, its sites counted from 0."""
    n_trials, p = stop - first, process.probability
    keep = p / drawn_at if drawn_at > 0 else 1.0
    key = np.uint64(seed)
    window = onset_window(process.persistence)
    # At probability 1 a fault never ends, whatever its persistence.
    if isinstance(process.persistence, Permanent) or (p == 1 and window is None):
        at, local = draw_cells(key, number, first, n_trials, n_sites, drawn_at, keep)
        start = np.zeros(len(local), np.int32)
        end = np.full(len(local), n_presentations, np.int32)
    elif isinstance(process.persistence, Intermittent):
        m = process.persistence.presentations
        onset, onset_at = (q / (m * (1 - q)) if q < 1 else 1.0 for q in (p, drawn_at))
        onset_at = min(onset_at, 1.0)
        # The presentation that the chain starts from, and the steps in which bursts begin. All is
        # well in the one before a window, which may be the one before the trial.
        origin, n_steps = (
            (0, n_presentations - 1) if window is None else (window[0] - 1, window[1] - window[0])
        )
        at, local, start, end = draw_bursts(
            key,
            number,
            first,
            n_trials,
            n_sites,
            n_presentations - origin,
            n_steps,
            drawn_at if window is None else 0.0,
            keep,
            onset_at,
            onset / onset_at if onset_at > 0 else 1.0,
            float(m),
        )
        start, end = start + np.int32(origin), end + np.int32(origin)
    else:
        low, high = (0, n_presentations) if window is None else window
        length = high - low
        at, cell = draw_cells(key, number, first, n_trials, n_sites * length, drawn_at, keep)
        local, start = cell // length, (low + cell % length).astype(np.int32)
        end = start + np.int32(1)
    return _Drawn(at, local, start, end)


def _sizes(process: FaultProcess, sites: Sites) -> Array:
    """Neurons or synapses of each layer that a process may hit."""
    layers = np.array(process.layers_in(sites.widths))
    offsets = sites.neuron_offsets if process.site == "neuron" else sites.synapse_offsets
    return offsets[layers + 1] - offsets[layers]


def _placed(events: _Drawn, process: FaultProcess, sites: Sites) -> _Drawn:
    """Events of a process of neurons or synapses, with the numbers of those."""
    layers = np.array(process.layers_in(sites.widths))
    offsets = sites.neuron_offsets if process.site == "neuron" else sites.synapse_offsets
    before = np.concatenate([[0], np.cumsum(_sizes(process, sites))[:-1]])
    shift = offsets[layers] - before
    local = events.site
    if (shift == shift[0]).all():
        site = local + shift[0]
    else:
        site = local + shift[np.searchsorted(before, local, side="right") - 1]
    return _Drawn(events.offsets, site, events.start, events.stop)


def _together(parts: list[tuple[_Drawn, Array]], n_trials: int) -> ValuedEvents | None:
    """Events of processes that never set the same thing, sorted by trial, site and start."""
    if not parts:
        return None
    trial = np.concatenate([np.repeat(np.arange(n_trials), np.diff(p.offsets)) for p, _ in parts])
    site = np.concatenate([p.site for p, _ in parts])
    start = np.concatenate([p.start for p, _ in parts])
    order = np.lexsort((start, site, trial))
    return ValuedEvents(
        offsets=np.asarray(sum(p.offsets for p, _ in parts)),
        site=site[order],
        start=start[order],
        stop=np.concatenate([p.stop for p, _ in parts])[order],
        value=np.concatenate([value for _, value in parts])[order],
    )


def _shifted(
    events: _Drawn, part: WeightSites, seed: int, number: int, first: int
) -> tuple[_Drawn, Array]:
    """Events of devices or bits as events of their synapses, with the new weights.

    All that happens to one weight at a time adds up; windows are alike or apart.
    """
    state: Array = np.zeros(len(events.site), np.int64)
    if len(part.shares) > 1:
        key, share = np.uint64(seed), part.shares[0]
        state = draw_states(key, number, first, events.offsets, events.site, share)
    n_trials = len(events.offsets) - 1
    trial = np.repeat(np.arange(n_trials), np.diff(events.offsets))
    synapse, shift = part.synapse[events.site], part.shift[state, events.site]
    order = np.lexsort((events.start, synapse, trial))
    rows = np.stack([trial, synapse, events.start.astype(np.int64)])[:, order]
    begins = np.flatnonzero(
        np.append(True, (rows[:, 1:] != rows[:, :-1]).any(axis=0))[: len(trial)]
    )
    kept = order[begins]
    total = np.add.reduceat(shift[order], begins) if len(begins) else shift
    offsets = np.concatenate([[0], np.cumsum(np.bincount(trial[kept], minlength=n_trials))])
    drawn = _Drawn(offsets, synapse[kept], events.start[kept], events.stop[kept])
    return drawn, part.weight[events.site[kept]] + total


def _always(synapses: Array, n_trials: int, n_presentations: int) -> _Drawn:
    """Synapses that are defective in every trial from its beginning to its end."""
    n = n_trials * len(synapses)
    return _Drawn(
        np.arange(n_trials + 1) * len(synapses),
        np.tile(synapses, n_trials),
        np.zeros(n, np.int32),
        np.full(n, n_presentations, np.int32),
    )


def _lowered(events: _Drawn, offsets: Array, members: Array) -> _Drawn:
    """Events of physical sites as events of all their members."""
    which, site = members_of(offsets, members, events.site)
    before = np.concatenate([[0], np.cumsum(np.diff(offsets)[events.site])])
    return _Drawn(
        before[events.offsets].astype(np.int64),
        site,
        events.start[which],
        events.stop[which],
        ordered=False,
    )


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
    if len(parts) == 1 and parts[0].ordered:
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
