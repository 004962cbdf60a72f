"""Some inputs and the sites that matter to them: fault sets as short lists, and their errors.

At one presentation a permanent, a transient and an intermittent fault are the same: each site has
failed with its probability, independently of the others.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurosim.backends import Backend, make_backend
from neurosim.campaign import Campaign
from neurosim.faults import Events, FaultBatch, Sites
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.physical_sites import SiteGroups, members_of
from neurosim.statistics import Changes
from neurosim.theory.group_effects import GroupEffects
from neurosim.theory.setting import Block, Setting

__all__ = ["PresentedInputs"]

# Kinds of sites; a row, column, core or link is a group of neurons and synapses.
_NEURON, _SYNAPSE, _GROUP = range(3)


@dataclass(frozen=True, kw_only=True, eq=False)
class PresentedInputs:
    """The sites of a campaign that can do something to some of its inputs.

    Pixels dark in all of them and weights of 0 are left out: their faults change nothing. Sites
    that fail with probability 1 are dead in every fault set.

    Parameters
    ----------
    campaign : Campaign
    first, stop : int
        Which inputs: first .. stop - 1.
    layer : int, optional
        Look at the outputs of this layer (0: the input) in place of those of the network, and at
        the sites before them only.
    known : Setting, optional
        That of the campaign, where it has been read already.
    """

    campaign: Campaign
    first: int
    stop: int
    layer: int | None = None
    known: Setting | None = None

    @property
    def _inputs(self) -> Array:
        return self.campaign.inputs[self.first : self.stop]

    @cached_property
    def setting(self) -> Setting:
        """What the campaign says about its faults."""
        return self.known or Setting.of(self.campaign)

    @cached_property
    def _site_numbers(self) -> Sites:
        """Numbers of neurons and synapses, of the first layers those of all layers."""
        if self.layer is None:
            return self.campaign.deployment.sites
        return Sites(self.campaign.network.widths[: self.layer + 1])

    @cached_property
    def _sites(self) -> tuple[Array, Array, Array, Array]:
        """Kind, number, probability, and position among effects of blocks.

        The number of a group is its place among all groups.
        """
        kinds, numbers, probabilities, places = [], [], [], []
        before, groups_before = 0, 0
        for block, p in self.setting.probabilities.items():
            n, groups = self.setting.n_sites(block), self.setting.groups.get(block)
            if groups is not None:
                kind, first, matters = _GROUP, groups_before, self._groups_matter(groups)
                groups_before += len(groups)
            elif self._is_behind(block):
                continue
            else:
                kind, first, matters = self._block_matters(block)
            units = np.flatnonzero(matters)
            kinds.append(np.full(len(units), kind))
            numbers.append(first + units)
            probabilities.append(np.full(len(units), p))
            places.append(before + units)
            before += n
        if not kinds:
            nothing = np.empty(0, np.int64)
            return nothing, nothing, np.empty(0), nothing
        return (
            np.concatenate(kinds),
            np.concatenate(numbers),
            np.concatenate(probabilities),
            np.concatenate(places),
        )

    def _is_behind(self, block: Block) -> bool:
        """Whether its sites come after what is looked at, or are its own neurons."""
        kind, number = block
        return self.layer is not None and number + (kind == "neuron") > self.layer

    @cached_property
    def _lit(self) -> Array:
        return np.asarray((self._inputs != 0).any(axis=0))

    def _synapses_matter(self, layer: int) -> Array:
        weight = self.campaign.network.layers[layer - 1].weight
        return np.asarray(((weight != 0) & (self._lit if layer == 1 else True)).ravel())

    def _block_matters(self, block: Block) -> tuple[int, int, Array]:
        """Kind and first number of the neurons or synapses of a block, and which matter."""
        layout = self.campaign.deployment.sites
        kind, layer = block
        if kind == "neuron":
            all_of_them = np.ones(self.setting.n_sites(block), np.bool_)
            matters = self._lit if layer == 0 else all_of_them
            return _NEURON, int(layout.neuron_offsets[layer]), matters
        return _SYNAPSE, int(layout.synapse_offsets[layer]), self._synapses_matter(layer)

    def _groups_matter(self, groups: SiteGroups) -> Array:
        """Which groups hold a neuron or a synapse that matters."""
        layout = self.campaign.deployment.sites
        matters = np.diff(groups.neuron_offsets) > 0  # circuits of neurons lie behind the input
        for layer in np.unique(groups.layer):
            each = self._synapses_matter(int(layer))
            here = np.flatnonzero(groups.layer == layer)
            which, synapse = members_of(groups.synapse_offsets, groups.synapses, here)
            found = each[synapse - layout.synapse_offsets[layer]]
            matters[here] |= np.bincount(which, found, minlength=len(here)) > 0
        return np.asarray(matters)

    @cached_property
    def _members(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """Of all groups, one after the other: offsets and members, neurons then synapses."""
        several = list(self.setting.groups.values())
        found = []
        for kind in ("neuron", "synapse"):
            counts = [np.diff(getattr(g, kind + "_offsets")) for g in several]
            members = [getattr(g, kind + "s") for g in several]
            offsets = np.concatenate([[0], np.cumsum(np.concatenate([*counts, np.empty(0, int)]))])
            found.append((offsets, np.concatenate([*members, np.empty(0, np.int64)])))
        return found[0], found[1]

    @cached_property
    def _uncertain(self) -> Array:
        return np.flatnonzero(self._sites[2] < 1)

    @cached_property
    def probability(self) -> Array:
        """Probability of each site that matters and may also live: (n_sites,), in (0, 1)."""
        return self._sites[2][self._uncertain]

    @cached_property
    def backend(self) -> Backend:
        """The campaign's engine for these inputs alone."""
        campaign, network = self.campaign, self.campaign.network
        if self.layer is not None:
            network = Network(layers=network.layers[: self.layer], input_shape=network.input_shape)
        return make_backend(campaign.backend, network, self._inputs, campaign.dtype)

    @property
    def golden(self) -> Array:
        """Golden outputs in the engine's dtype: (n_inputs, n_outputs)."""
        if self.layer == 0:
            return np.asarray(self._inputs.astype(self.campaign.dtype))
        return self.backend.golden

    def errors(self, offsets: Array, sites: Array) -> Array:
        """Errors (n_sets, n_inputs, n_outputs) of sets of sites, counted as in `probability`."""
        return self.changes(offsets, sites).dense()

    def changes(self, offsets: Array, sites: Array) -> Changes:
        """The same without its zeros."""
        n_sets = len(offsets) - 1
        if self.layer == 0:  # nothing lies before the input
            return Changes.of(np.zeros((n_sets, *self.golden.shape), self.golden.dtype))
        trial = np.repeat(np.arange(n_sets), np.diff(offsets))
        chosen = self._uncertain[sites]
        kinds, numbers, probabilities, _ = self._sites
        certain = np.flatnonzero(probabilities == 1)
        if len(certain):
            trial = np.concatenate([trial, np.repeat(np.arange(n_sets), len(certain))])
            chosen = np.concatenate([chosen, np.tile(certain, n_sets)])
            order = np.lexsort((chosen, trial))
            trial, chosen = trial[order], chosen[order]
        of_kind = kinds[chosen]
        groups = of_kind == _GROUP
        group_trial, group = trial[groups], numbers[chosen[groups]]
        events = []
        for kind, members in zip((_NEURON, _SYNAPSE), self._members, strict=True):
            single = of_kind == kind
            when, what = trial[single], numbers[chosen[single]]
            if len(group):
                when, what = _with_members(when, what, group_trial, group, *members)
            events.append(self._events(n_sets, when, what))
        batch = FaultBatch(
            sites=self._site_numbers,
            n_presentations=len(self._inputs),
            neurons=events[0],
            synapses=events[1],
            counts=np.empty((n_sets, 0), np.int64),
        )
        return self.backend.changes(batch)

    def effects(self) -> Array:
        """Errors at the first input of each site failing alone, by theory: (n_sites, n_outputs)."""
        rows = slice(self.first, self.first + 1)
        singles = GroupEffects(setting=self.setting, by_derivatives=False)
        every = [singles.effects(block, rows)[:, 0] for block in self.setting.probabilities]
        places = self._sites[3][self._uncertain]
        return np.concatenate(every, axis=1)[:, places].T

    def set_probabilities(self, offsets: Array, sites: Array) -> Array:
        """Probability of each fault set: (n_sets,)."""
        p = self.probability
        odds = np.append((np.log(p) - np.log1p(-p))[sites], 0.0)
        log_odds = np.add.reduceat(odds, offsets[:-1]) * (np.diff(offsets) > 0)
        result: Array = np.exp(log_odds + np.log1p(-p).sum())
        return result

    def _events(self, n_sets: int, trial: Array, site: Array) -> Events:
        return Events(
            offsets=np.concatenate([[0], np.cumsum(np.bincount(trial, minlength=n_sets))]),
            site=site,
            start=np.zeros(len(site), np.int32),
            stop=np.full(len(site), len(self._inputs), np.int32),
        )


def _with_members(
    trial: Array, site: Array, group_trial: Array, group: Array, offsets: Array, members: Array
) -> tuple[Array, Array]:
    """Sites of each trial with the members of its groups, each once, in order."""
    which, member = members_of(offsets, members, group)
    trial = np.concatenate([trial, group_trial[which]])
    site = np.concatenate([site, member])
    order = np.lexsort((site, trial))
    trial, site = trial[order], site[order]
    first = np.append(True, (np.diff(trial) != 0) | (np.diff(site) != 0))[: len(trial)]
    return trial[first], site[first]
