"""Changes that effects of failed hardware make: exactly, or by derivatives; many effects at once.

An effect sets outputs of neurons and weights of synapses to values. Its exact change is carried
through the network as a difference from the fault-free pass, from the lowest layer that it touches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from neurosim.faults import Sites
from neurosim.layers import Array
from neurosim.theory.passes import GoldenPass
from neurosim.theory.setting import Setting, is_linear
from neurosim.theory.single_fault import change_outputs

__all__ = [
    "NEURON_VALUE",
    "SYNAPSE_WEIGHT",
    "EffectBatch",
    "EffectTable",
    "MemberRows",
    "Paths",
    "exact_changes",
    "first_order_changes",
    "in_series",
    "paths",
]

# What an effect sets, one row a member.
NEURON_VALUE = np.dtype([("layer", "i8"), ("unit", "i8"), ("value", "f8")])
SYNAPSE_WEIGHT = np.dtype([("layer", "i8"), ("out", "i8"), ("in", "i8"), ("weight", "f8")])

# Neurons of one layer, columns (effect, unit, value); synapses, (effect, out, in, weight).
_Columns: TypeAlias = tuple[Array, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class EffectBatch:
    """What several effects, counted from 0, set.

    Parameters
    ----------
    size : int
        Number of effects.
    neurons : mapping of layer to (effect, unit, value)
        Sorted by effect, then unit; no neuron twice in an effect.
    synapses : mapping of layer to (effect, out, in, weight)
        Sorted by effect, then out; no synapse twice in an effect.
    """

    size: int
    neurons: dict[int, _Columns]
    synapses: dict[int, _Columns]


@dataclass(frozen=True, kw_only=True, eq=False)
class MemberRows:
    """Members of all effects of a table: those of effect e are offsets[e]:offsets[e + 1]."""

    offsets: Array
    number: Array
    value: Array

    def of(self, into: Array, effect: Array) -> tuple[Array, Array, Array]:
        """Columns (into, number, value) of some effects; the same member counts once."""
        counts = np.diff(self.offsets)[effect]
        ends = np.cumsum(counts)
        index = np.repeat(self.offsets[effect] - ends + counts, counts) + np.arange(counts.sum())
        span = int(self.number.max(initial=0)) + 1
        key, first = np.unique(
            np.repeat(into, counts) * span + self.number[index], return_index=True
        )
        return key // span, key % span, self.value[index[first]]


@dataclass(frozen=True, kw_only=True, eq=False)
class EffectTable:
    """Effects in flat arrays, as far as they can reach what is predicted.

    Parameters
    ----------
    sites : Sites
        The numbering of neurons and synapses.
    neurons, synapses : MemberRows
    """

    sites: Sites
    neurons: MemberRows
    synapses: MemberRows

    @staticmethod
    def of(effects: Sequence[tuple[Array, Array]], setting: Setting) -> EffectTable:
        """Flatten effects, each given as the rows of neurons and of synapses that it sets."""
        sites = Sites(setting.widths)
        found = []
        for kind, dtype in enumerate((NEURON_VALUE, SYNAPSE_WEIGHT)):
            kept = [rows[kind][rows[kind]["layer"] <= setting.depth] for rows in effects]
            rows = np.concatenate([np.empty(0, dtype), *kept])
            *place, value = (rows[name] for name in dtype.names or ())
            numbers = sites.neuron_numbers if kind == 0 else sites.synapse_numbers
            offsets = np.cumsum([0, *map(len, kept)])
            found.append(MemberRows(offsets=offsets, number=numbers(*place), value=value))
        return EffectTable(sites=sites, neurons=found[0], synapses=found[1])

    @property
    def n_members(self) -> Array:
        """Neurons and synapses that each effect sets, (n_effects,)."""
        return np.diff(self.neurons.offsets) + np.diff(self.synapses.offsets)

    def batch(self, size: int, into: Array, effect: Array) -> EffectBatch:
        """Effects of a batch, `effect[k]` being (part of) the effect `into[k]` of the batch."""
        who, number, value = self.neurons.of(into, effect)
        neurons = _by_layer(who, *self.sites.neurons(number), value)
        who, number, value = self.synapses.of(into, effect)
        synapses = _by_layer(who, *self.sites.synapses(number), value)
        return EffectBatch(size=size, neurons=neurons, synapses=synapses)


def _by_layer(who: Array, layer: Array, *columns: Array) -> dict[int, _Columns]:
    return {
        int(number): tuple(column[layer == number] for column in (who, *columns))
        for number in np.unique(layer)
    }


def exact_changes(golden: GoldenPass, batch: EffectBatch) -> Array:
    """Exact change that each effect makes of what is predicted: (n_inputs, size, n_outputs)."""
    setting, y = golden.setting, golden.y
    dy: Array | None = None
    for number in range(setting.depth + 1):
        shape = (len(y[0]), batch.size, setting.widths[number])
        synapses = batch.synapses.get(number)
        if number and not (dy is None and synapses is None):
            layer = setting.layers[number - 1]
            dz = np.zeros(shape) if dy is None else layer.push_forward(dy)
            if synapses is not None:
                effect, out, drive = _drive_changes(golden, number, synapses, dy)
                dz[:, effect, out] += drive
            dy = change_outputs(layer.activation, golden.z[number], dz)
        if number in batch.neurons:
            effect, unit, value = batch.neurons[number]
            dy = np.zeros(shape) if dy is None else dy
            dy[:, effect, unit] = value - y[number][:, unit]
    if dy is None:
        dy = np.zeros((len(y[0]), batch.size, setting.widths[-1]))
    return setting.head.change(y[-1], dy, golden.targets)


def first_order_changes(golden: GoldenPass, batch: EffectBatch) -> Array:
    """The same to first order: derivatives times what each member changes by, summed.

    (dy_L/dy)(v - y) for a neuron set to v, <dy_L/dW, w - W> for weights set to w.
    """
    y = golden.y
    by_y, by_z = golden.derivatives
    total = np.zeros((golden.setting.n_outputs, len(y[0]), batch.size))
    for number, (effect, unit, value) in batch.neurons.items():
        parts = by_y[number][:, :, unit] * (value - y[number][:, unit])
        starts = _starts(effect)
        total[:, :, effect[starts]] += np.add.reduceat(parts, starts, axis=2)
    for number, synapses in batch.synapses.items():
        effect, out, drive = _drive_changes(golden, number, synapses, None)
        parts = by_z[number][:, :, out] * drive
        starts = _starts(effect)
        total[:, :, effect[starts]] += np.add.reduceat(parts, starts, axis=2)
    return total.transpose(1, 2, 0)


def _drive_changes(
    golden: GoldenPass, number: int, synapses: _Columns, dy: Array | None
) -> tuple[Array, Array, Array]:
    """What set weights add to W_l y_{l-1}, where dy is the change of y_{l-1}.

    Returns (effect, out, drive (n_inputs, n)), each neuron of an effect once.
    """
    effect, out, in_, weight = synapses
    before = golden.y[number - 1][:, in_]
    if dy is not None:
        before = before + dy[:, effect, in_]
    by = weight - golden.setting.layers[number - 1].weight[out, in_]
    starts = _starts(effect, out)
    return effect[starts], out[starts], np.add.reduceat(by * before, starts, axis=1)


def _starts(*keys: Array) -> Array:
    """Where runs of equal keys start."""
    new = np.zeros(len(keys[0]), bool)
    new[0] = True
    for key in keys:
        new[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(new)


@dataclass(frozen=True, kw_only=True)
class Paths:
    """How the members of several sites lie to each other in a network.

    Parameters
    ----------
    behind : bool
        A member lies on a path behind one of another site, or two sites share a member.
    shared : bool
        A neuron that is not linear, or a head that is not, is reached by two sites.
    bent : bool
        A neuron that is not linear, or a head that is not, is reached at all.
    """

    behind: bool
    shared: bool
    bent: bool


def paths(setting: Setting, members: EffectBatch, site: Array) -> Paths:
    """Follow what the members of a batch can reach, along weights that are not 0.

    Parameters
    ----------
    setting : Setting
    members : EffectBatch
    site : ndarray of int, shape (members.size,)
        The site to which each effect of the batch belongs.
    """
    nobody = int(site.max(initial=0)) + 1
    behind = shared = bent = False
    # The least and the greatest site that reach each neuron: alike where it is but one.
    least, most = np.empty(0, np.int64), np.empty(0, np.int64)
    for number, width in enumerate(setting.widths):
        before = least, most
        least, most = np.full(width, nobody), np.full(width, -1)
        if number:
            layer = setting.layers[number - 1]
            linked = layer.weight != 0
            least = np.where(linked, before[0], nobody).min(axis=1)
            most = np.where(linked, before[1], -1).max(axis=1)
            if number in members.synapses:
                effect, out, in_, weight = members.synapses[number]
                # A weight set to what it is changes nothing.
                changed = weight != layer.weight[out, in_]
                who, out, in_ = site[effect[changed]], out[changed], in_[changed]
                behind |= _reached_by_others(who, before[0][in_], before[1][in_])
                behind |= _held_by_two(who, out * layer.n_in + in_)
                np.minimum.at(least, out, who)
                np.maximum.at(most, out, who)
            if not is_linear(layer.activation):
                bent |= bool((most >= 0).any())
                shared |= bool((least < most).any())
        if number in members.neurons:
            effect, unit, _ = members.neurons[number]
            who = site[effect]
            behind |= _reached_by_others(who, least[unit], most[unit])
            behind |= _held_by_two(who, unit)
            least[unit] = most[unit] = who
    if not setting.head.linear:
        bent |= bool((most >= 0).any())
        shared |= bool(most.max() > least.min())
    return Paths(behind=behind, shared=shared, bent=bent)


def in_series(setting: Setting, effect: EffectBatch) -> bool:
    """Whether a member of one effect lies on a path behind another member of it."""
    if len(effect.neurons) + len(effect.synapses) <= 1:
        return False  # neurons of one layer, or synapses of one, lie side by side
    count = 0
    alone: tuple[dict[int, _Columns], dict[int, _Columns]] = ({}, {})
    for kind, layers in zip(alone, (effect.neurons, effect.synapses), strict=True):
        for number, (who, *columns) in layers.items():
            kind[number] = (np.arange(count, count + len(who)), *columns)
            count += len(who)
    members = EffectBatch(size=count, neurons=alone[0], synapses=alone[1])
    return paths(setting, members, np.arange(count)).behind


def _reached_by_others(who: Array, least: Array, most: Array) -> bool:
    return bool(((most >= 0) & ((least != who) | (most != who))).any())


def _held_by_two(who: Array, place: Array) -> bool:
    order = np.lexsort((who, place))
    who, place = who[order], place[order]
    return bool(((place[1:] == place[:-1]) & (who[1:] != who[:-1])).any())
