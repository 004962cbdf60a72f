"""Some inputs and the sites that matter to them: fault sets as short lists, and their errors.

At one presentation a permanent, a transient and an intermittent fault are the same: each site has
failed with its probability, independently of the others.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurosim.backends import Backend, make_backend
from neurosim.campaign import Campaign
from neurosim.layers import Array
from neurosim.sampling import FaultySites
from neurosim.theory.setting import Setting
from neurosim.theory.single_fault import SingleEffects

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
    """

    campaign: Campaign
    first: int
    stop: int

    @property
    def _inputs(self) -> Array:
        return self.campaign.inputs[self.first : self.stop]

    @cached_property
    def _setting(self) -> Setting:
        return Setting.of(self.campaign)

    @cached_property
    def _found(self) -> tuple[FaultySites, Array]:
        """The sites, and their places among the effects of all blocks."""
        layout = self.campaign.deployment.sites
        kinds, numbers, probabilities, places = [], [], [], []
        lit, before = (self._inputs != 0).any(axis=0), 0
        for block, p in self._setting.probabilities.items():
            kind, layer = block
            n = self._setting.n_sites(block)
            if kind == "neuron":
                matters = lit if layer == 0 else np.ones(n, np.bool_)
                first = layout.neuron_offsets[layer]
            else:
                weight = self.campaign.network.layers[layer - 1].weight
                matters = ((weight != 0) & (lit if layer == 1 else True)).ravel()
                first = layout.synapse_offsets[layer]
            units = np.flatnonzero(matters)
            kinds.append(np.full(len(units), kind == "synapse", np.int64))
            numbers.append(first + units)
            probabilities.append(np.full(len(units), p))
            places.append(before + units)
            before += n
        nothing = np.empty(0, np.int64)
        sites = FaultySites(
            kinds=np.concatenate([nothing, *kinds]),
            numbers=np.concatenate([nothing, *numbers]),
            probabilities=np.concatenate([np.empty(0), *probabilities]),
        )
        return sites, np.concatenate([nothing, *places])

    @property
    def sites(self) -> FaultySites:
        """The sites."""
        return self._found[0]

    @property
    def probability(self) -> Array:
        """Probability of each site that matters and may also live: (n_sites,), in (0, 1)."""
        return self.sites.probability

    @cached_property
    def backend(self) -> Backend:
        """The campaign's engine for these inputs alone."""
        campaign = self.campaign
        return make_backend(campaign.backend, campaign.network, self._inputs, campaign.dtype)

    @property
    def golden(self) -> Array:
        """Golden outputs in the engine's dtype: (n_inputs, n_outputs)."""
        return self.backend.golden

    def errors(self, offsets: Array, sites: Array) -> Array:
        """Errors (n_sets, n_inputs, n_outputs) of sets of sites, counted as in `probability`."""
        layout = self.campaign.deployment.sites
        batch = self.sites.batch(layout, len(self._inputs), offsets, sites)
        errors: Array = self.backend.changes(batch).dense()
        return errors

    def effects(self) -> Array:
        """Errors at the first input of each site failing alone, by theory: (n_sites, n_outputs)."""
        rows = slice(self.first, self.first + 1)
        singles = SingleEffects(setting=self._setting)
        every = [singles.effects(block, rows)[:, 0] for block in self._setting.probabilities]
        places = self._found[1][self.sites.uncertain]
        return np.concatenate(every, axis=1)[:, places].T

    def set_probabilities(self, offsets: Array, sites: Array) -> Array:
        """Probability of each fault set: (n_sets,)."""
        return self.sites.set_probabilities(offsets, sites)
