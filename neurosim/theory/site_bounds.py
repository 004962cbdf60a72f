"""Rigorous bounds where rows, columns, cores and links fail: sites that silence several at once.

With c_ks a bound of what site s can do to output k, whatever else is dead, |Delta_k| <= sum c_ks
over the sites that fail. A site that silences several neurons or synapses does at most what they do
one by one, added up.
"""

from dataclasses import dataclass

import numpy as np

from neurosim.campaign import Campaign
from neurosim.faults import Sites
from neurosim.layers import Array
from neurosim.theory.bounds import freedman_tail, gains, value_ranges
from neurosim.theory.setting import Block, Setting

__all__ = ["SiteBounds", "silenced_blocks", "site_bounds"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SiteBounds:
    """Bounds of the errors of independent sites, each (n_inputs, n_outputs).

    Parameters
    ----------
    absolute : ndarray
        sum_s p c_s >= E|Delta_k|.
    variance : ndarray
        sum_s p (1 - p) c_s^2 >= Var Delta_k (Efron and Stein).
    effect : ndarray
        max_s c_s of the sites whose faults are not certain.
    """

    absolute: Array
    variance: Array
    effect: Array

    def tail(self, epsilon: float) -> Array:
        """Bound P(Delta_k >= epsilon), and P(Delta_k <= -epsilon), by Freedman's inequality.

        As `theory.bounds.bernstein`: the faults revealed one by one make a martingale.
        """
        return freedman_tail(epsilon - self.absolute, self.variance, self.effect)


def silenced_blocks(setting: Setting) -> tuple[Block, ...]:
    """Kinds and layers of all neurons and synapses that a fault may silence."""
    found: set[Block] = set()
    for block in setting.probabilities:
        groups = setting.groups.get(block)
        if groups is None:
            found.add(block)
            continue
        if len(groups.neurons):
            found.add(("neuron", block[1]))
        if len(groups.synapses):
            found.add(("synapse", block[1]))
    return tuple(sorted(found))


def site_bounds(campaign: Campaign) -> SiteBounds:
    """Bound mean, variance and largest effect of dead neurons, synapses, and groups of them.

    Parameters
    ----------
    campaign : Campaign
        Of stuck-at-0 faults in a chain of dense layers.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[[[1, 1, 2]]], biases=[[0]], activations=["identity"])
    >>> campaign = ns.Campaign(
    ...     deployment=ns.deploy(network, ns.Chip.load("ideal")), trials=1, seed=1,
    ...     faults=[ns.StuckAtZero("row", probability=0.1)], inputs=[[1.0, 1.0, 1.0]])
    >>> site_bounds(campaign).absolute.round(3)
    array([[0.4]])
    """
    setting, network = Setting.of(campaign), campaign.network
    flags = {kind: [0.0] * (network.depth + 1) for kind in ("neuron", "synapse")}
    for kind, number in silenced_blocks(setting):
        flags[kind][number] = 1.0
    ranges = value_ranges(network, campaign.inputs, flags["neuron"], flags["synapse"])
    largest = [np.maximum(np.abs(low), np.abs(high)) for low, high in ranges]
    by_output, by_preactivation = gains(network)
    sites = Sites(network.widths)
    shape = (campaign.n_inputs, campaign.n_outputs)
    absolute, variance, effect = (np.zeros(shape) for _ in range(3))
    for block, p in setting.probabilities.items():
        number, n_sites = block[1], setting.n_sites(block)
        (of_neurons, neurons), (of_synapses, synapses) = _members(setting, sites, block)
        unit = sites.neurons(neurons)[1]
        _, out, in_ = sites.synapses(synapses)
        of_output = by_output[number][:, unit]
        if len(synapses):
            weight = np.abs(network.layers[number - 1].weight[out, in_])
            of_weight = by_preactivation[number - 1][:, out] * weight
        for x in range(len(absolute)):
            c = np.zeros((shape[1], n_sites))
            if len(neurons):
                c += _added(of_neurons, of_output * largest[number][x, unit])
            if len(synapses):
                c += _added(of_synapses, of_weight * largest[number - 1][x, in_])
            absolute[x] += p * c.sum(axis=1)
            variance[x] += p * (1 - p) * (c**2).sum(axis=1)
            if p < 1:
                effect[x] = np.maximum(effect[x], c.max(axis=1, initial=0.0))
    return SiteBounds(absolute=absolute, variance=variance, effect=effect)


def _members(
    setting: Setting, sites: Sites, block: Block
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Offsets and members of the sites of a block: neurons, then synapses; all of one layer."""
    groups, n = setting.groups.get(block), setting.n_sites(block)
    if groups is not None:
        return (
            (groups.neuron_offsets, groups.neurons),
            (groups.synapse_offsets, groups.synapses),
        )
    kind, number = block
    nothing = np.zeros(n + 1, np.int64), np.empty(0, np.int64)
    if kind == "neuron":
        return (np.arange(n + 1), sites.neuron_offsets[number] + np.arange(n)), nothing
    return nothing, (np.arange(n + 1), sites.synapse_offsets[number] + np.arange(n))


def _added(offsets: Array, values: Array) -> Array:
    """Values (n_outputs, n_members) added up over the members of each site."""
    which = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return np.stack([np.bincount(which, v, minlength=len(offsets) - 1) for v in values])
