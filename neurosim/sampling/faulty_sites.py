"""Sites that may fail, and sets of them as the events that engines read."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurosim.faults import Events, FaultBatch, Sites
from neurosim.layers import Array
from neurosim.physical_sites import members_of

__all__ = ["GROUP", "NEURON", "SYNAPSE", "FaultySites", "fault_batch"]

# Kinds of sites; a row, column, core or link is a group of neurons and synapses.
NEURON, SYNAPSE, GROUP = range(3)


@dataclass(frozen=True, kw_only=True, eq=False)
class FaultySites:
    """Sites that may fail, each with its probability, independently.

    Parameters
    ----------
    kinds : ndarray of int64, (n,)
        0 neuron, 1 synapse, 2 a group that fails together.
    numbers : ndarray of int64, (n,)
        Of the neuron or synapse, or of the group; ascending in a kind.
    probabilities : ndarray, (n,)
        In (0, 1]. Sites of probability 1 are dead in every set.
    members : tuple of (offsets, numbers), optional
        Neurons, then synapses, of the groups: those of group g are
        numbers[offsets[g] : offsets[g + 1]].
    """

    kinds: Array
    numbers: Array
    probabilities: Array
    members: tuple[tuple[Array, Array], ...] = ()

    @cached_property
    def uncertain(self) -> Array:
        """Which sites may also live: (n_sites,). Sets are lists of places in this."""
        return np.flatnonzero(self.probabilities < 1)

    @cached_property
    def certain(self) -> Array:
        """Which sites are dead in every set."""
        return np.flatnonzero(self.probabilities == 1)

    @cached_property
    def probability(self) -> Array:
        """Of each site that may also live: (n_sites,), in (0, 1)."""
        return self.probabilities[self.uncertain]

    def set_probabilities(self, offsets: Array, sites: Array) -> Array:
        """Probability of each fault set: (n_sets,)."""
        p = self.probability
        odds = np.append((np.log(p) - np.log1p(-p))[sites], 0.0)
        log_odds = np.add.reduceat(odds, offsets[:-1]) * (np.diff(offsets) > 0)
        result: Array = np.exp(log_odds + np.log1p(-p).sum())
        return result

    def dead(self, offsets: Array, sites: Array) -> tuple[Array, Array, Array]:
        """Neurons and synapses that are dead in each set: (sets, kinds, numbers), ascending."""
        n_sets = len(offsets) - 1
        sets = np.repeat(np.arange(n_sets), np.diff(offsets))
        chosen = self.uncertain[sites]
        if len(self.certain):
            sets = np.concatenate([sets, np.repeat(np.arange(n_sets), len(self.certain))])
            chosen = np.concatenate([chosen, np.tile(self.certain, n_sets)])
            order = np.lexsort((chosen, sets))
            sets, chosen = sets[order], chosen[order]
        kinds, numbers = self.kinds[chosen], self.numbers[chosen]
        return self._with_members(sets, kinds, numbers) if self.members else (sets, kinds, numbers)

    def _with_members(
        self, sets: Array, kinds: Array, numbers: Array
    ) -> tuple[Array, Array, Array]:
        """The members of groups in their place, each neuron and synapse of a set once."""
        group = kinds == GROUP
        columns = [(sets[~group], kinds[~group], numbers[~group])]
        for kind, (starts, several) in zip((NEURON, SYNAPSE), self.members, strict=True):
            which, found = members_of(starts, several, numbers[group])
            columns.append((sets[group][which], np.full(len(found), kind), found))
        sets, kinds, numbers = (np.concatenate(column) for column in zip(*columns, strict=True))
        order = np.lexsort((numbers, kinds, sets))
        sets, kinds, numbers = sets[order], kinds[order], numbers[order]
        changed = (np.diff(sets) != 0) | (np.diff(kinds) != 0) | (np.diff(numbers) != 0)
        first = np.append(True, changed)[: len(sets)]
        return sets[first], kinds[first], numbers[first]

    def batch(
        self,
        layout: Sites,
        n_presentations: int,
        offsets: Array,
        sites: Array,
        window: tuple[int, int] | None = None,
    ) -> FaultBatch:
        """Fault sets that last for a window of presentations, by default all of them."""
        sets, kinds, numbers = self.dead(offsets, sites)
        start, stop = (np.full(len(sets), t, np.int32) for t in window or (0, n_presentations))
        counts = np.diff(offsets) + len(self.certain)
        return fault_batch(layout, n_presentations, counts, sets, kinds, numbers, start, stop)


def fault_batch(
    layout: Sites,
    n_presentations: int,
    counts: Array,
    sets: Array,
    kinds: Array,
    numbers: Array,
    start: Array,
    stop: Array,
) -> FaultBatch:
    """Sets, of counts sites each, from what is dead in them and when, set after set."""
    parts = []
    for kind in (NEURON, SYNAPSE):
        own = kinds == kind
        offsets = np.concatenate([[0], np.cumsum(np.bincount(sets[own], minlength=len(counts)))])
        parts.append(Events(offsets=offsets, site=numbers[own], start=start[own], stop=stop[own]))
    return FaultBatch(
        sites=layout,
        n_presentations=n_presentations,
        neurons=parts[0],
        synapses=parts[1],
        counts=np.asarray(counts)[:, None],
    )
