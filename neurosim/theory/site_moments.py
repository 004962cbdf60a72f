"""Moments as sums over the states of independent sites, or over all their combinations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from neurosim.errors import InputError
from neurosim.layers import Array
from neurosim.theory.passes import GoldenPass
from neurosim.theory.setting import Setting
from neurosim.theory.site_changes import (
    EffectTable,
    Paths,
    exact_changes,
    first_order_changes,
    in_series,
    paths,
)

if TYPE_CHECKING:
    from neurosim.theory.sites import Site

__all__ = ["Enumeration", "SiteSums", "States"]

# Combinations of states that an enumeration goes through at most.
_MOST_COMBINATIONS = 2**20

# Values the widest array of one batch of effects may hold: 16 MB of float64, near the caches.
_VALUES = 2**21


@dataclass(frozen=True, kw_only=True, eq=False)
class States:
    """The failed states that are possible and can reach what is predicted, site after site.

    Sites that touch low layers come last, so that batches of the others start late.

    Parameters
    ----------
    setting : Setting
    n_sites : int
        Sites that were given.
    names : tuple of str
        What to call each of those.
    site : ndarray of int, shape (n_states,)
        The site, among those given, of each state.
    first : ndarray of int, shape (n_kept,)
        The first state of each site that is kept.
    probability : ndarray, shape (n_states,)
    table : EffectTable
        The effect of each state.
    """

    setting: Setting
    n_sites: int
    names: tuple[str, ...]
    site: Array
    first: Array
    probability: Array
    table: EffectTable

    @staticmethod
    def of(sites: Sequence[Site], names: Sequence[str], setting: Setting) -> States:
        """The states of sites that matter for a setting."""
        kept = []
        for number, site in enumerate(sites):
            states = [(number, p, effect) for p, effect in site.states if p > 0]
            # Rows are sorted by layer.
            members = [rows for _, _, e in states for rows in (e.neurons, e.synapses) if len(rows)]
            lowest = min((rows["layer"][0] for rows in members), default=setting.depth + 1)
            if lowest <= setting.depth:
                kept.append((lowest, states))
        kept.sort(key=lambda pair: -pair[0])
        flat = [state for _, states in kept for state in states]
        lengths = [len(states) for _, states in kept]
        return States(
            setting=setting,
            n_sites=len(sites),
            names=tuple(names),
            site=np.array([number for number, _, _ in flat], np.int64),
            first=np.cumsum([0, *lengths])[:-1],
            probability=np.array([p for _, p, _ in flat], np.float64),
            table=EffectTable.of([(e.neurons, e.synapses) for _, _, e in flat], setting),
        )

    def __len__(self) -> int:
        return len(self.site)

    @cached_property
    def of_kept(self) -> Array:
        """The number, among the sites that are kept, of the site of each state."""
        return np.repeat(np.arange(len(self.first)), np.diff([*self.first, len(self)]))

    @cached_property
    def no_fault(self) -> Array:
        """Probability that a site that is kept has no fault, (n_kept,)."""
        failed = np.add.reduceat(self.probability, self.first) if len(self) else np.empty(0)
        return np.maximum(1 - failed, 0.0)  # against rounding: `Site` has checked the sum

    @cached_property
    def paths(self) -> Paths:
        """How the members of different sites lie to each other."""
        everything = np.arange(len(self))
        members = self.table.batch(len(self), everything, everything)
        return paths(self.setting, members, self.site)

    def _members(self) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
        """Of neurons and of synapses, columns (site, number, value)."""
        found = [
            (np.repeat(self.site, np.diff(rows.offsets)), rows.number, rows.value)
            for rows in (self.table.neurons, self.table.synapses)
        ]
        return found[0], found[1]

    def _place(self, kind: int, number: int) -> str:
        one = np.array([number])
        if kind == 0:
            layer, unit = self.table.sites.neurons(one)
            return f"neuron {unit[0]} of layer {layer[0]}"
        layer, out, in_ = self.table.sites.synapses(one)
        return f"synapse [{out[0]}, {in_[0]}] of layer {layer[0]}"

    def overlaps(self) -> tuple[str, ...]:
        """Pairs of sites that set the same thing, or of which one hides the other, in words."""
        found: dict[tuple[int, int], str] = {}
        holders: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})
        for kind, (site, number, _) in enumerate(self._members()):
            for one, who in np.unique(np.stack([number, site], axis=1), axis=0).tolist():
                holders[kind].setdefault(one, []).append(who)
            for one, sites in holders[kind].items():
                for pair in combinations(sites, 2):
                    found.setdefault(pair, f"both set {self._place(kind, one)}")
        if holders[0] and holders[1]:
            synapses = np.array(list(holders[1]))
            layer, out, in_ = self.table.sites.synapses(synapses)
            for how, at, unit in (("into", layer, out), ("out of", layer - 1, in_)):
                neurons = self.table.sites.neuron_numbers(at, unit).tolist()
                for synapse, neuron in zip(synapses.tolist(), neurons, strict=True):
                    for who in holders[0].get(neuron, ()):
                        for other in holders[1][synapse]:
                            if who != other:
                                found.setdefault(
                                    (min(who, other), max(who, other)),
                                    f"{self.names[who]} sets {self._place(0, neuron)} and hides "
                                    f"the synapses {how} it, which {self.names[other]} sets",
                                )
        return tuple(
            f"{self.names[a]} and {self.names[b]}: {text}" for (a, b), text in sorted(found.items())
        )

    def check_agreement(self) -> None:
        """Refuse two sites that set the same thing to different values."""
        for kind, (site, number, value) in enumerate(self._members()):
            order = np.lexsort((site, number))
            site, number, value = site[order], number[order], value[order]
            if not len(number):
                continue
            starts = np.flatnonzero(np.diff(number, prepend=-1))
            several = np.ones(len(starts), bool)
            for column in (site, value):
                lower = np.minimum.reduceat(column, starts)
                several &= lower < np.maximum.reduceat(column, starts)
            for place in number[starts[several]].tolist():
                held = list(zip(site[number == place], value[number == place], strict=True))
                (a, v), (b, w) = next(
                    pair
                    for pair in combinations(held, 2)
                    if pair[0][0] != pair[1][0] and pair[0][1] != pair[1][1]
                )
                raise InputError(
                    f"sites: expected sites that agree on what they set, got {self.names[a]} and "
                    f"{self.names[b]}, which set {self._place(kind, place)} to {v:g} and {w:g}; "
                    'merge them into one site with exclusive states, or use "single-fault"'
                )


def _second(weight: Array, u: Array, full: bool) -> Array:
    """Sum over the middle axis of weight u^2, or of weight u u^T where `full`."""
    weighted = weight[:, None] * u
    if full:
        return np.asarray(weighted.swapaxes(1, 2) @ u)
    return np.asarray((weighted * u).sum(axis=1))


@dataclass(frozen=True, kw_only=True, eq=False)
class SiteSums:
    """Moments as sums over sites of the changes that their states make alone.

    Parameters
    ----------
    states : States
    by_derivatives : bool
        Changes to first order, except those of states whose members lie in series.
    """

    states: States
    by_derivatives: bool

    @cached_property
    def in_series(self) -> Array:
        """States whose members lie on a path behind each other, (n_states,)."""
        table = self.states.table
        result = np.zeros(len(self.states), bool)
        for state in np.flatnonzero(table.n_members > 1):
            effect = table.batch(1, np.zeros(1, np.int64), np.array([state]))
            result[state] = in_series(self.states.setting, effect)
        return result

    @property
    def exact(self) -> bool:
        """Whether the changes add up, and are those of the network."""
        lie = self.states.paths
        return not (lie.behind or (lie.bent if self.by_derivatives else lie.shared))

    def _changes(self, golden: GoldenPass, chosen: slice) -> Array:
        table = self.states.table
        state = np.arange(len(self.states))[chosen]
        batch = table.batch(len(state), np.arange(len(state)), state)
        if not self.by_derivatives:
            return exact_changes(golden, batch)
        d = first_order_changes(golden, batch)
        if (series := np.flatnonzero(self.in_series[chosen])).size:
            batch = table.batch(len(series), np.arange(len(series)), state[series])
            d[:, series] = exact_changes(golden, batch)
        return d

    def parts(self) -> Iterator[tuple[slice, Array, Array, Array, Array]]:
        """(inputs, sites kept, probabilities, means of sites, deviations of states from them)."""
        states, setting = self.states, self.states.setting
        if not len(states):
            return
        # Values an input of the widest array, for each site.
        cost = np.add.reduceat(
            max(setting.widths) + states.table.n_members * setting.n_outputs, states.first
        )
        ends = np.append(states.first[1:], len(states))
        for rows in setting.chunks(max(setting.n_outputs * max(setting.widths), int(cost.max()))):
            golden = GoldenPass(setting=setting, rows=rows)
            batch = np.cumsum(cost) * (rows.stop - rows.start) // _VALUES
            for sites in np.split(np.arange(len(cost)), np.flatnonzero(np.diff(batch)) + 1):
                chosen = slice(int(states.first[sites[0]]), int(ends[sites[-1]]))
                p = states.probability[chosen]
                d = self._changes(golden, chosen)
                starts = states.first[sites] - chosen.start
                mean = np.add.reduceat(p[:, None] * d, starts, axis=1)
                d -= mean[:, states.of_kept[chosen] - sites[0]]
                yield rows, sites, p, mean, d

    def moments(self) -> tuple[Array, Array, Array, Array]:
        """Mean, variance (n_inputs, n_outputs); what each site adds (n_sites, n_outputs)."""
        states, setting = self.states, self.states.setting
        mean, variance = np.zeros((2, setting.n_inputs, setting.n_outputs))
        site_mean, site_variance = np.zeros((2, states.n_sites, setting.n_outputs))
        for rows, sites, p, m, deviation in self.parts():
            starts = states.first[sites] - states.first[sites[0]]
            v = np.add.reduceat(p[:, None] * deviation**2, starts, axis=1)
            v += states.no_fault[sites, None] * m**2
            mean[rows] += m.sum(axis=1)
            variance[rows] += v.sum(axis=1)
            given = states.site[states.first[sites]]
            site_mean[given] += m.sum(axis=0) / setting.n_inputs
            site_variance[given] += v.sum(axis=0) / setting.n_inputs
        return mean, variance, site_mean, site_variance

    def covariance(self) -> Array:
        """Covariance of what is predicted, (n_inputs, n_outputs, n_outputs)."""
        setting = self.states.setting
        total = np.zeros((setting.n_inputs, setting.n_outputs, setting.n_outputs))
        for rows, sites, p, m, deviation in self.parts():
            total[rows] += _second(p, deviation, full=True)
            total[rows] += _second(self.states.no_fault[sites], m, full=True)
        return total


@dataclass(frozen=True, kw_only=True, eq=False)
class Enumeration:
    """Moments by going through all combinations of states.

    Parameters
    ----------
    states : States

    Raises
    ------
    InputError
        If there are too many combinations, or sites that disagree on what they set.
    """

    states: States

    def __post_init__(self) -> None:
        n = math.prod(self._choices)
        if n > _MOST_COMBINATIONS:
            raise InputError(
                f"sites: expected at most 2^20 combinations of states to enumerate, got "
                f"{len(self._choices)} sites with 2^{math.log2(n):.1f}; "
                'use "single-fault", or simulate'
            )
        self.states.check_agreement()

    @property
    def _choices(self) -> list[int]:
        """States of each site that is kept, no fault included."""
        return [int(n) + 1 for n in np.diff([*self.states.first, len(self.states)])]

    def _combinations(self, start: int, stop: int) -> tuple[Array, Array, Array]:
        """Probabilities of some combinations; pairs (combination, state), counted from start."""
        states = self.states
        left = np.arange(start, stop)
        probability = np.ones(stop - start)
        which, state = [], []
        for site, n in enumerate(self._choices):
            left, choice = np.divmod(left, n)
            first = states.first[site]
            probability *= np.append(states.no_fault[site], states.probability[first:][: n - 1])[
                choice
            ]
            failed = np.flatnonzero(choice)
            which.append(failed)
            state.append(first + choice[failed] - 1)
        return probability, np.concatenate(which), np.concatenate(state)

    def _moments(self, full: bool) -> tuple[Array, Array]:
        """Mean, and variance or covariance, merged batch by batch so that nothing cancels."""
        states, setting = self.states, self.states.setting
        k = setting.n_outputs
        mean = np.zeros((setting.n_inputs, k))
        second = np.zeros((setting.n_inputs, k, k) if full else (setting.n_inputs, k))
        if not len(states):
            return mean, second
        cost = max(setting.widths) + int(states.table.n_members.sum())
        total = math.prod(self._choices)
        for rows in setting.chunks(cost):
            golden = GoldenPass(setting=setting, rows=rows)
            step = max(1, _VALUES // (cost * (rows.stop - rows.start)))
            done = 0.0
            for start in range(0, total, step):
                stop = min(start + step, total)
                probability, which, state = self._combinations(start, stop)
                share = probability.sum()
                if share == 0:
                    continue
                d = exact_changes(golden, states.table.batch(stop - start, which, state))
                here = np.einsum("a,xak->xk", probability, d) / share
                second[rows] += _second(probability, d - here[:, None], full)
                step_up = here - mean[rows]
                between = np.array([done * share / (done + share)])
                second[rows] += _second(between, step_up[:, None], full)
                done += share
                mean[rows] += step_up * (share / done)
        return mean, second

    def moments(self) -> tuple[Array, Array, None, None]:
        """Mean and variance, (n_inputs, n_outputs)."""
        return *self._moments(full=False), None, None

    def covariance(self) -> Array:
        """Covariance of what is predicted, (n_inputs, n_outputs, n_outputs)."""
        return self._moments(full=True)[1]
