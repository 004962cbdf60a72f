"""Some inputs and the sites that matter to them: fault sets as short lists, and their errors.

At one presentation a permanent, a transient and an intermittent fault are the same: each site has
failed with its probability, independently of the others.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurosim.backends import Backend, make_backend
from neurosim.campaign import Campaign
from neurosim.faults import Sites
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.physical_sites import SiteGroups, members_of
from neurosim.sampling import GROUP, NEURON, SYNAPSE, FaultySites
from neurosim.statistics import Changes
from neurosim.theory.group_effects import GroupEffects
from neurosim.theory.setting import Block, Setting

__all__ = ["PresentedInputs"]


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
    def _found(self) -> tuple[FaultySites, Array]:
        """The sites, and their places among the effects of all blocks."""
        kinds, numbers, probabilities, places = [], [], [], []
        before, groups_before = 0, 0
        for block, p in self.setting.probabilities.items():
            n, groups = self.setting.n_sites(block), self.setting.groups.get(block)
            if groups is not None:
                kind, first, matters = GROUP, groups_before, self._groups_matter(groups)
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
        nothing = np.empty(0, np.int64)
        sites = FaultySites(
            kinds=np.concatenate([nothing, *kinds]),
            numbers=np.concatenate([nothing, *numbers]),
            probabilities=np.concatenate([np.empty(0), *probabilities]),
            members=self.setting.members,
        )
        return sites, np.concatenate([nothing, *places])

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
            return NEURON, int(layout.neuron_offsets[layer]), matters
        return SYNAPSE, int(layout.synapse_offsets[layer]), self._synapses_matter(layer)

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

    @property
    def sites(self) -> FaultySites:
        """The sites that matter."""
        return self._found[0]

    @property
    def probability(self) -> Array:
        """Probability of each site that matters and may also live: (n_sites,), in (0, 1)."""
        return self.sites.probability

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
        if self.layer == 0:  # nothing lies before the input
            nothing = np.zeros((len(offsets) - 1, *self.golden.shape), self.golden.dtype)
            return Changes.of(nothing)
        batch = self.sites.batch(self._site_numbers, len(self._inputs), offsets, sites)
        return self.backend.changes(batch)

    def effects(self) -> Array:
        """Errors at the first input of each site failing alone, by theory: (n_sites, n_outputs)."""
        rows = slice(self.first, self.first + 1)
        singles = GroupEffects(setting=self.setting, by_derivatives=False)
        every = [singles.effects(block, rows)[:, 0] for block in self.setting.probabilities]
        places = self._found[1][self.sites.uncertain]
        return np.concatenate(every, axis=1)[:, places].T

    def set_probabilities(self, offsets: Array, sites: Array) -> Array:
        """Probability of each fault set: (n_sets,)."""
        return self.sites.set_probabilities(offsets, sites)
