"""What groups of neurons or synapses of one layer do in a graph of layers, for one input.

Rows, columns, cores, links, parts of weights, and what is stuck at a value. z and y: golden values
of every node, (1, *shape).
"""

from __future__ import annotations

import numpy as np

from neurosim.faults import Sites
from neurosim.graph import Graph
from neurosim.layers import Array, Conv2D, Weighted
from neurosim.physical_sites import SiteGroups, members_of

__all__ = ["changes", "first_order"]


def first_order(
    groups: SiteGroups, graph: Graph, sites: Sites, layer: int, y: list[Array], by: dict[int, Array]
) -> Array:
    """Derivatives times what each member changes by, summed: (n_outputs, n_sites).

    by: derivatives by what the node of the layer sends, at its number, and by its pre-activations,
    at the negative of it.
    """
    number = graph.weighted[layer]
    lead = len(by[number])
    total = np.zeros((lead, len(groups)))
    unit = sites.neurons(groups.neurons)[1]
    if len(unit):
        change = groups.neuron_values - y[number].reshape(-1)[unit]
        parts = by[number].reshape(lead, -1)[:, unit] * change
        total += _sums(parts, np.diff(groups.neuron_offsets))
    if len(groups.synapses):
        node = graph.nodes[number - 1]
        part, source, cotangent = node.layer, y[node.sources[0]], by[-number]
        assert isinstance(part, Weighted)
        _, out, in_ = sites.synapses(groups.synapses)
        channels = len(part.weight)
        if isinstance(part, Conv2D) and sites.weight_shapes[layer - 1][0] > channels:
            seen = part.patches(source)[0][_group(part, out % channels), in_, out // channels]
            flat = cotangent.reshape(lead, channels, -1)
            gradient = flat[:, out % channels, out // channels] * seen
        else:
            gradient = part.weight_gradient(cotangent, source)[:, 0][:, out, in_]
        parts = gradient * (groups.synapse_weights - _weights(part, out, in_))
        total += _sums(parts, np.diff(groups.synapse_offsets))
    return total


def changes(
    groups: SiteGroups,
    graph: Graph,
    sites: Sites,
    layer: int,
    chosen: Array,
    z: list[Array],
    y: list[Array],
) -> Array:
    """Exact change of what the layer sends that each chosen site makes alone, (n, *shape)."""
    number = graph.weighted[layer]
    dy = np.zeros((len(chosen), *y[number].shape[1:]))
    who, at = members_of(groups.synapse_offsets, np.arange(len(groups.synapses)), chosen)
    if len(at):
        node = graph.nodes[number - 1]
        part, source = node.layer, y[node.sources[0]]
        assert isinstance(part, Weighted)
        _, out, in_ = sites.synapses(groups.synapses[at])
        by = groups.synapse_weights[at] - _weights(part, out, in_)
        replicated = sites.weight_shapes[layer - 1][0] > len(part.weight)
        _add_drives(part, source, replicated, (who, out, in_), by, dy)
        dy = part.activation.change(z[number], dy)
    who, at = members_of(groups.neuron_offsets, np.arange(len(groups.neurons)), chosen)
    unit = sites.neurons(groups.neurons[at])[1]
    held = groups.neuron_values[at] - y[number].reshape(-1)[unit]
    dy.reshape(len(chosen), -1)[who, unit] = held
    return dy


def _add_drives(
    part: Weighted,
    source: Array,
    replicated: bool,
    place: tuple[Array, Array, Array],
    by: Array,
    dz: Array,
) -> None:
    """Add to dz, (n_sites, *shape), what weights at (site, out, in) that change by `by` add."""
    who, out, in_ = place
    flat = dz.reshape(len(dz), len(part.weight), -1)
    copy, channel = np.divmod(out, len(part.weight))
    if not isinstance(part, Conv2D):
        np.add.at(flat[:, :, 0], (who, channel), by * source[0, in_])
        return
    patches, group = part.patches(source)[0], _group(part, channel)
    if replicated:
        np.add.at(flat, (who, channel, copy), by * patches[group, in_, copy])
        return
    # One copy for all positions: a product of matrices for each site and group.
    key = who * part.groups + group
    order = np.argsort(key, kind="stable")
    for here in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        rows, row = np.unique(channel[here], return_inverse=True)
        columns, column = np.unique(in_[here], return_inverse=True)
        weights = np.zeros((len(rows), len(columns)))
        weights[row, column] = by[here]
        flat[who[here[0]], rows] += weights @ patches[group[here[0]], columns]


def _group(part: Conv2D, channel: Array) -> Array:
    return channel // (len(part.weight) // part.groups)


def _weights(part: Weighted, out: Array, in_: Array) -> Array:
    matrix = part.weight.reshape(part.matrix_shape)
    return np.asarray(matrix[out % len(matrix), in_])


def _sums(parts: Array, counts: Array) -> Array:
    """Sums over members, (n, n_sites), of (n, n_members), so many for each site."""
    ends = np.cumsum(counts)
    held = np.flatnonzero(counts)
    total = np.zeros((len(parts), len(counts)))
    total[:, held] = np.add.reduceat(parts, (ends - counts)[held], axis=1)
    return total
