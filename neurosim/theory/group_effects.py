"""Effects of groups that fail together (rows, columns, cores, links), and of stuck values.

Stuck devices have two states that exclude each other: `exclusive_states` says what stands for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from neurosim.faults import Sites
from neurosim.layers import Array
from neurosim.physical_sites import SiteGroups
from neurosim.theory.effects import Effects
from neurosim.theory.exclusive_states import means_and_spreads, n_means
from neurosim.theory.first_order import LinearEffects
from neurosim.theory.passes import GoldenPass
from neurosim.theory.setting import Block, Setting
from neurosim.theory.single_fault import SingleEffects
from neurosim.theory.site_changes import (
    EffectTable,
    MemberRows,
    exact_changes,
    first_order_changes,
    in_series,
    paths,
)

__all__ = ["GroupEffects"]

# Values that the changes of one batch of sites may hold.
_VALUES = 2**21


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupEffects:
    """Effects of every site of a setting some of whose sites are groups.

    Parameters
    ----------
    setting : Setting
    by_derivatives : bool
        T1: the derivatives times what each member changes by, summed over the members; a group
        some of whose members lie on a path behind others enters with its exact change. Else b4,
        the exact change that the group makes alone.
    """

    setting: Setting
    by_derivatives: bool
    # Effects at the input seen last: laws ask for one output after the other.
    _kept: dict[tuple[Block, int], Array] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def _plain(self) -> Effects:
        """Effects of single neurons and synapses."""
        processes = {b: p for b, p in self.setting.processes.items() if b not in self._groups}
        setting = replace(self.setting, processes=processes, groups={})
        return LinearEffects(setting=setting) if self.by_derivatives else SingleEffects(
            setting=setting
        )  # fmt: skip

    @property
    def _groups(self) -> dict[Block, SiteGroups]:
        return dict(self.setting.groups)

    @cached_property
    def _tables(self) -> dict[Block, EffectTable]:
        return {block: _table(groups, self.setting) for block, groups in self._groups.items()}

    @cached_property
    def _in_series(self) -> dict[Block, Array]:
        """Of each block, which groups have members behind each other."""
        found = {}
        for block, table in self._tables.items():
            # Members of a row, column, core or link are synapses of one layer or neurons of one.
            several = np.flatnonzero(
                (np.diff(table.neurons.offsets) > 0) & (np.diff(table.synapses.offsets) > 0)
            )
            behind = np.zeros(len(self._groups[block]), bool)
            for site in several:
                batch = table.batch(1, np.zeros(1, np.int64), np.array([site]))
                behind[site] = in_series(self.setting, batch)
            found[block] = behind
        return found

    @cached_property
    def exact(self) -> bool:
        """Whether the effects add up, and are those of the network."""
        if len(self.setting.processes) > 1:
            return False
        ((_, table),) = self._tables.items()
        sites = np.arange(len(table.n_members))
        batch = table.batch(len(sites), sites, sites)
        (((kind, _), groups),) = self._groups.items()
        if kind in ("device", "bit"):
            # What the parts of one weight add to it adds up, without an activation behind it.
            lie = paths(self.setting, batch, groups.synapses)
            return not (lie.behind or lie.bent)
        lie = paths(self.setting, batch, sites)
        return not (lie.behind or (lie.bent if self.by_derivatives else lie.shared))

    def effects(self, block: Block, rows: slice) -> Array:
        """Effects of every site of a block: (n_outputs, n_inputs, n_sites).

        Of sites with two states m of all sites, then r of all (`exclusive_states`).
        """
        states = self.states(block, rows)
        if block not in self._groups:
            return states
        return means_and_spreads(states, self._groups[block], self.setting.probabilities[block])

    def states(self, block: Block, rows: slice) -> Array:
        """The same, of sites with two states the effects of the first of all, then of the second.

        What changes nothing is exactly 0 here.
        """
        if block not in self._groups:
            return self._plain.effects(block, rows)
        if (block, rows.start) in self._kept and rows.stop == rows.start + 1:
            return self._kept[block, rows.start]
        golden = GoldenPass(setting=self.setting, rows=rows)
        table, n_sites = self._tables[block], len(self._groups[block])
        width = max(self.setting.widths) + int(table.n_members.max(initial=0))
        step = max(1, _VALUES // (len(golden.y[0]) * width))
        found = [np.empty((len(golden.y[0]), 0, self.setting.n_outputs))]
        for first in range(0, n_sites, step):
            sites = np.arange(first, min(first + step, n_sites))
            found.append(self._changes(golden, block, sites))
        states = np.concatenate(found, axis=1).transpose(2, 0, 1)
        if rows.stop == rows.start + 1 and states.size <= 8 * _VALUES:
            for key in [key for key in self._kept if key[1] != rows.start]:
                self._kept.pop(key, None)
            self._kept[block, rows.start] = states
        return states

    def _changes(self, golden: GoldenPass, block: Block, sites: Array) -> Array:
        table, into = self._tables[block], np.arange(len(sites))
        batch = table.batch(len(sites), into, sites)
        if not self.by_derivatives:
            return exact_changes(golden, batch)
        changes = first_order_changes(golden, batch)
        behind = np.flatnonzero(self._in_series[block][sites])
        if len(behind):
            batch = table.batch(len(behind), np.arange(len(behind)), sites[behind])
            changes[:, behind] = exact_changes(golden, batch)
        return changes

    def sums(self, rows: slice) -> dict[Block, tuple[Array, Array]]:
        """Sum and sum of squares of each block: each (n_inputs, n_outputs)."""
        found = self._plain.sums(rows) if self._plain.setting.processes else {}
        for block in self._groups:
            e = self.effects(block, rows)
            found[block] = (
                e[:, :, : n_means(self._groups[block])].sum(axis=2).T,
                np.einsum("kxs,kxs->xk", e, e),
            )
        return found

    def site_sums(self, block: Block, power: int) -> Array:
        """Effects of every site, or their squares, summed over inputs: (n_outputs, n_sites).

        The squares m^2 + r^2 of a site with two states are one number.
        """
        if block not in self._groups:
            return self._plain.site_sums(block, power)
        setting = self.setting
        total = np.zeros((setting.n_outputs, setting.n_sites(block)))
        for rows in setting.chunks(setting.n_outputs * setting.n_sites(block)):
            total += (self.effects(block, rows) ** power).sum(axis=1)
        if power == 2:
            return total.reshape(setting.n_outputs, -1, n_means(self._groups[block])).sum(axis=1)
        return total

    def products(self, block: Block, rows: slice) -> Array:
        """Products e_k e_l of two outputs summed over sites: (n_inputs, n_outputs, n_outputs)."""
        if block not in self._groups:
            return self._plain.products(block, rows)
        e = self.effects(block, rows).transpose(1, 0, 2)
        return np.asarray(e @ e.transpose(0, 2, 1))


def _table(groups: SiteGroups, setting: Setting) -> EffectTable:
    """Groups as effects that set outputs and weights."""
    return EffectTable(
        sites=Sites(setting.widths),
        neurons=MemberRows(
            offsets=groups.neuron_offsets,
            number=groups.neurons,
            value=groups.neuron_values,
        ),
        synapses=MemberRows(
            offsets=groups.synapse_offsets,
            number=groups.synapses,
            value=groups.synapse_weights,
        ),
    )
