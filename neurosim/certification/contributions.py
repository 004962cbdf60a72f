"""What each site, neuron and core adds to the variance of the error and to failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np

from neurosim.campaign import Campaign
from neurosim.layers import Array, frozen
from neurosim.theory import predict
from neurosim.theory.effects import effect_chunks
from neurosim.theory.setting import Block, Setting
from neurosim.theory.single_fault import SingleEffects

__all__ = ["Contributions", "Method", "contributions_of"]

Method: TypeAlias = Literal["first-order", "single-fault"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Contributions:
    """Contributions of single sites; those of several add up, to first order in the faults.

    Parameters
    ----------
    campaign : Campaign
    epsilon : float or None
    sites : mapping of method to mapping of (site kind, layer) to ndarray, shape (n_sites,)
        Of each site to the variance of the error: mean over inputs, summed over outputs;
        p (1 - p) g^2 ("first-order") or p (1 - p) d^2 ("single-fault").
    failures : mapping of (site kind, layer) to ndarray, shape (n_sites,), or None
        Of each site to P(max_k |Delta_k| >= epsilon), mean over inputs: p times the share of
        inputs that fail where it alone is dead. None without an epsilon.
    """

    campaign: Campaign
    epsilon: float | None
    sites: Mapping[Method, Mapping[Block, Array]]
    failures: Mapping[Block, Array] | None

    def total(self, method: Method) -> float:
        """Variance of the error by a method: mean over inputs, summed over outputs."""
        return float(sum(part.sum() for part in self.sites[method].values()))

    @cached_property
    def neurons(self) -> Mapping[Method, tuple[Array, ...]]:
        """Of each neuron of layers 0..L: its circuit and the synapses into it."""
        return {method: self._by_neuron(parts) for method, parts in self.sites.items()}

    @cached_property
    def neuron_failures(self) -> tuple[Array, ...] | None:
        """The same of `failures`."""
        return None if self.failures is None else self._by_neuron(self.failures)

    def _by_neuron(self, parts: Mapping[Block, Array]) -> tuple[Array, ...]:
        widths = self.campaign.network.widths
        found = [np.zeros(n) for n in widths]
        for (kind, layer), values in parts.items():
            found[layer] += values if kind == "neuron" else values.reshape(widths[layer], -1).sum(1)
        return tuple(frozen(part, np.float64) for part in found)

    @cached_property
    def columns(self) -> Mapping[Method, tuple[Array, ...]]:
        """Of each column of each core: the neuron circuit behind it and the synapses on it.

        The inputs, layer 0, are on no core: they are missing here.
        """
        return {method: self._by_column(parts) for method, parts in self.sites.items()}

    @cached_property
    def cores(self) -> Mapping[Method, Array]:
        """Of each core, (n_cores,): all its columns."""
        return {m: np.array([c.sum() for c in columns]) for m, columns in self.columns.items()}

    @cached_property
    def core_failures(self) -> Array | None:
        """The same of `failures`."""
        if self.failures is None:
            return None
        return np.array([column.sum() for column in self._by_column(self.failures)])

    def _by_column(self, parts: Mapping[Block, Array]) -> tuple[Array, ...]:
        found = []
        for block in self.campaign.deployment.blocks:
            out = slice(block.out_start, block.out_stop)
            total = np.zeros(block.out_stop - block.out_start)
            # The circuit of a neuron is on the first of the cores that share its column.
            if ("neuron", block.layer) in parts and block.in_start == 0:
                total += parts["neuron", block.layer][out]
            if ("synapse", block.layer) in parts:
                n_out = self.campaign.network.widths[block.layer]
                synapses = parts["synapse", block.layer].reshape(n_out, -1)
                total += synapses[out, block.in_start : block.in_stop].sum(axis=1)
            found.append(total)
        return tuple(found)

    def agreement(self) -> float:
        """Correlation of the two methods' contributions over neurons; 1 where T1 is right."""
        first, single = (
            np.concatenate(self.neurons[method]) for method in ("first-order", "single-fault")
        )
        if not (first.std() > 0 and single.std() > 0):
            return 1.0 if np.allclose(first, single) else 0.0
        return float(np.corrcoef(first, single)[0, 1])


def contributions_of(campaign: Campaign, epsilon: float | None = None) -> Contributions:
    """Compute the contributions of every site of a campaign, by both methods."""
    setting = Setting.of(campaign)
    sites: dict[Method, Mapping[Block, Array]] = {}
    methods: tuple[Method, ...] = ("first-order", "single-fault")
    for method in methods:
        prediction = predict(campaign, method)
        sites[method] = MappingProxyType(
            {
                block: frozen(prediction.site_contributions(*block).sum(axis=0).ravel(), np.float64)
                for block in setting.probabilities
            }
        )
    return Contributions(
        campaign=campaign,
        epsilon=epsilon,
        sites=MappingProxyType(sites),
        failures=None if epsilon is None else MappingProxyType(_failures(setting, epsilon)),
    )


def _failures(setting: Setting, epsilon: float) -> dict[Block, Array]:
    effects, found = SingleEffects(setting=setting), {}
    for block, p in setting.probabilities.items():
        share = np.zeros(setting.n_sites(block))
        for rows in effect_chunks(setting, block):
            largest = np.abs(effects.effects(block, rows)).max(axis=0)
            share += (largest >= epsilon).sum(axis=0)
        found[block] = frozen(p * share / setting.n_inputs, np.float64)
    return found
