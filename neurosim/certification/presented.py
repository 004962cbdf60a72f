"""Some inputs and the sites that matter to them: fault sets as short lists, and their errors.

At one presentation a permanent, a transient and an intermittent fault are the same: each site has
failed with its probability, independently of the others.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurosim.backends import Backend, make_backend
from neurosim.campaign import Campaign
from neurosim.faults import Events, FaultBatch
from neurosim.layers import Array
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
    def _sites(self) -> tuple[Array, Array, Array, Array]:
        """Kind (0 neuron, 1 synapse), number, probability, and position among effects of blocks."""
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
        if not kinds:
            nothing = np.empty(0, np.int64)
            return nothing, nothing, np.empty(0), nothing
        return (
            np.concatenate(kinds),
            np.concatenate(numbers),
            np.concatenate(probabilities),
            np.concatenate(places),
        )

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
        campaign = self.campaign
        return make_backend(campaign.backend, campaign.network, self._inputs, campaign.dtype)

    @property
    def golden(self) -> Array:
        """Golden outputs in the engine's dtype: (n_inputs, n_outputs)."""
        return self.backend.golden

    def errors(self, offsets: Array, sites: Array) -> Array:
        """Errors (n_sets, n_inputs, n_outputs) of sets of sites, counted as in `probability`."""
        n_sets = len(offsets) - 1
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
        events = [
            self._events(n_sets, trial[of_kind == kind], numbers[chosen[of_kind == kind]])
            for kind in (0, 1)
        ]
        batch = FaultBatch(
            sites=self.campaign.deployment.sites,
            n_presentations=len(self._inputs),
            neurons=events[0],
            synapses=events[1],
            counts=np.empty((n_sets, 0), np.int64),
        )
        errors: Array = self.backend.changes(batch).dense()
        return errors

    def effects(self) -> Array:
        """Errors at the first input of each site failing alone, by theory: (n_sites, n_outputs)."""
        rows = slice(self.first, self.first + 1)
        singles = SingleEffects(setting=self._setting)
        every = [singles.effects(block, rows)[:, 0] for block in self._setting.probabilities]
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
