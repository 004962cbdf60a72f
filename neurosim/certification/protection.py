"""Which neurons or cores to protect, and the sites that are protected with them."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from neurosim.campaign import Campaign
from neurosim.certification.contributions import Contributions, Method
from neurosim.errors import InputError
from neurosim.layers import Array
from neurosim.theory.setting import Block, Setting

__all__ = ["most_important", "protected_sites", "site_numbers", "without"]


def most_important(
    found: Contributions,
    budget: int,
    unit: Literal["neurons", "cores"],
    method: Method,
    by_failures: bool,
) -> tuple[Array, Array]:
    """Neurons, (n, 2) of (layer, unit), and cores that contribute most; one of them is empty.

    Raises
    ------
    InputError
        If the budget is larger than their number, or nothing contributes.
    """
    variances, failures = (
        (found.cores[method], found.core_failures)
        if unit == "cores"
        else (
            np.concatenate(found.neurons[method]),
            None if found.neuron_failures is None else np.concatenate(found.neuron_failures),
        )
    )
    if budget > len(variances):
        raise InputError(
            f"budget: expected at most the {len(variances)} {unit} there are, got {budget}"
        )
    keys = [variances]
    if by_failures:
        assert failures is not None
        keys.append(failures)  # where they are alike, as 0, the variances decide
        if not failures.any():
            raise InputError(
                "epsilon: expected one that some single fault reaches, got none; choose a smaller "
                'one, or by="variance"'
            )
    if not variances.any():
        raise InputError(f"campaign: expected faults that matter on {unit}, got none")
    chosen = np.lexsort([-key for key in keys])[:budget]
    if unit == "cores":
        return np.empty((0, 2), np.int64), chosen
    layer, neuron = found.campaign.deployment.sites.neurons(chosen)
    return np.stack([layer, neuron], axis=1), np.empty(0, np.int64)


def protected_sites(campaign: Campaign, neurons: Array, cores: Array) -> dict[Block, Array]:
    """Sites that are protected, by block, as indices within it.

    The circuits and incoming synapses of neurons; all that is on cores.
    """
    widths = campaign.network.widths
    dead: dict[Block, list[Array]] = {}

    def add(block: Block, index: Array) -> None:
        dead.setdefault(block, []).append(index)

    for layer, unit in neurons:
        add(("neuron", int(layer)), np.array([unit]))
        if layer > 0:
            n_in = widths[layer - 1]
            add(("synapse", int(layer)), unit * n_in + np.arange(n_in))
    for core in cores:
        block = campaign.deployment.blocks[core]
        out = np.arange(block.out_start, block.out_stop)
        if block.in_start == 0:
            add(("neuron", block.layer), out)
        n_in = widths[block.layer - 1]
        in_ = np.arange(block.in_start, block.in_stop)
        add(("synapse", block.layer), (out[:, None] * n_in + in_).ravel())
    return {
        block: np.unique(np.concatenate(dead[block]))
        for block in Setting.of(campaign).probabilities
        if block in dead
    }


def site_numbers(campaign: Campaign, sites: Mapping[Block, Array]) -> tuple[Array, Array]:
    """The same sites as numbers of neurons and of synapses (`Sites`)."""
    numbering = campaign.deployment.sites
    offsets = {"neuron": numbering.neuron_offsets, "synapse": numbering.synapse_offsets}
    found: dict[str, list[Array]] = {kind: [np.empty(0, np.int64)] for kind in offsets}
    for (kind, layer), index in sites.items():
        found[kind].append(offsets[kind][layer] + index)
    return np.concatenate(found["neuron"]), np.concatenate(found["synapse"])


def without(
    contributions: Mapping[Method, Mapping[Block, Array]], sites: Mapping[Block, Array]
) -> dict[Method, float]:
    """Variance that is left, by method, when some sites never fail."""
    return {
        method: float(
            sum(
                np.delete(values, sites[block]).sum() if block in sites else values.sum()
                for block, values in parts.items()
            )
        )
        for method, parts in contributions.items()
    }
