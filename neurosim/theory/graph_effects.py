"""Effects of faults in networks that are graphs of layers: T1 by backward passes, b4 one by one.

Sites that share weights in time enter as one: the derivative by a kernel is a sum over positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from neurosim.faults import Sites
from neurosim.graph import Graph, Node, pull_back, push_forward
from neurosim.layers import Array, Conv2D, MaxPool2D, Weighted
from neurosim.layers.correlation import correlate
from neurosim.layers.windows import pad
from neurosim.theory import graph_groups
from neurosim.theory.exclusive_states import fourth_cumulants, means_and_spreads, n_means
from neurosim.theory.setting import Block, Setting

__all__ = ["BySite", "GraphEffects", "GraphSingleEffects", "pass_of_powers"]

# Values that all derivatives of a pass, or all changes of a batch of sites, may hold: 256 MB.
_VALUES = 2**25


@dataclass(frozen=True, kw_only=True, eq=False)
class BySite:
    """Sums over the effects of each site, for one input after the other."""

    setting: Setting

    @cached_property
    def graph(self) -> Graph:
        """The layers of the setting."""
        graph = self.setting.graph
        assert graph is not None
        return graph

    @cached_property
    def _sites(self) -> Sites:
        return Sites(self.setting.widths, self.setting.matrices)

    def golden(self, x: int) -> tuple[list[Array], list[Array]]:
        """Before and after the activation of every node, for one input."""
        return self.graph.values(self.setting.inputs[x : x + 1])

    def site_effects(self, block: Block, x: int) -> Array:
        """Effects of every site of a block at one input: (n_outputs, n_sites)."""
        raise NotImplementedError

    def _inputs(self, rows: slice) -> range:
        return range(*rows.indices(self.setting.n_inputs))

    def of_input(self, x: int, outputs: slice) -> dict[Block, Array]:
        """Effects of all sites on some outputs at one input, each (n_outputs, n_sites)."""
        return {block: self._columns(block, e) for block, e in self.states(x, outputs).items()}

    def states(self, x: int, outputs: slice) -> dict[Block, Array]:
        """The same, of sites with two states the effects of the first of all, then of the second.

        What changes nothing is exactly 0 here.
        """
        raise NotImplementedError

    def _columns(self, block: Block, states: Array) -> Array:
        """Effects that stand for those of all states: `exclusive_states`."""
        groups = self.setting.groups.get(block)
        if groups is None:
            return states
        return means_and_spreads(states, groups, self.setting.probabilities[block])

    def _block_sums(self) -> Iterator[tuple[Block, int, slice, tuple[Array, Array, Array]]]:
        """(block, input, outputs) and sum, sum of squares and `excess` of the effects of each."""
        raise NotImplementedError

    @cached_property
    def _all_sums(self) -> dict[Block, tuple[Array, Array, Array]]:
        """What `_block_sums` finds, each (n_inputs, n_outputs): computed once, by one walk."""
        shape = (3, self.setting.n_inputs, self.setting.n_outputs)
        found = {block: np.zeros(shape) for block in self.setting.probabilities}
        for block, x, outputs, parts in self._block_sums():
            found[block][:, x, outputs] = parts
        return {block: (a[0], a[1], a[2]) for block, a in found.items()}

    def sums(self, rows: slice) -> dict[Block, tuple[Array, Array]]:
        """Sum and sum of squares of each block: each (n_inputs, n_outputs)."""
        return {block: (one[rows], two[rows]) for block, (one, two, _) in self._all_sums.items()}

    def excess(self) -> dict[Block, Array]:
        """Fourth cumulant of each block beside its squared variance, (n_inputs, n_outputs).

        0 where nothing matters.
        """
        return {block: excess for block, (_, _, excess) in self._all_sums.items()}

    def effects(self, block: Block, rows: slice) -> Array:
        """Effects of every site of a block: (n_outputs, n_inputs, n_sites)."""
        return np.stack([self.site_effects(block, x) for x in self._inputs(rows)], axis=1)

    def site_sums(self, block: Block, power: int) -> Array:
        """Effects of every site, or their squares, summed over inputs: (n_outputs, n_sites)."""
        total = np.zeros((self.setting.n_outputs, self.setting.n_sites(block)))
        for x in range(self.setting.n_inputs):
            total += self.site_effects(block, x) ** power
        groups = self.setting.groups.get(block)
        if power == 2 and groups is not None:  # m^2 + r^2 of a site with two states
            return total.reshape(len(total), -1, n_means(groups)).sum(axis=1)
        return total

    def products(self, block: Block, rows: slice) -> Array:
        """Products e_k e_l of two outputs summed over sites: (n_inputs, n_outputs, n_outputs)."""
        each = (self.site_effects(block, x) for x in self._inputs(rows))
        return np.array([e @ e.T for e in each])

    def sums_of(self, block: Block, e: Array) -> tuple[Array, Array, Array]:
        """Sum, sum of squares and excess of effects (n_outputs, n_sites) of a block."""
        p, groups = self.setting.probabilities[block], self.setting.groups.get(block)
        square = np.einsum("ks,ks->k", e, e)
        # In units of the standard deviation, whose fourth power may leave the range of a float.
        unit = e / np.sqrt(np.where(square > 0, square, np.inf))[:, None]
        if groups is None or len(groups.shares) == 1:
            return e.sum(axis=1), square, _excess(p) * np.einsum("ks,ks->k", unit**2, unit**2)
        fourth = fourth_cumulants(unit, groups, p).sum(axis=1)
        return e[:, : n_means(groups)].sum(axis=1), square, fourth / (p * (1 - p)) ** 2


def _excess(p: float) -> float:
    """Fourth cumulant beside the squared variance of a fault of probability p."""
    q = p * (1 - p)
    return 1 / q - 6 if q > 0 else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphEffects(BySite):
    """First-order effects -g_s of every site (T1 of arXiv 1902.01686), for any graph of layers.

    Parameters
    ----------
    setting : Setting
    """

    def _derivatives(
        self, x: int, outputs: slice = slice(None)
    ) -> Iterator[tuple[slice, list[Array], dict[int, Array]]]:
        """Some of the outputs at a time: golden values, and derivatives of those outputs.

        Derivatives (n_outputs, 1, *shape) by what weighted nodes send, at their number, and by
        their pre-activations, at the negative of it.
        """
        graph, setting = self.graph, self.setting
        z, y = self.golden(x)
        gradient = setting.head.gradient(y[-1].reshape(1, -1), setting.targets_of(slice(x, x + 1)))
        # The lowest node whose derivative somebody asks for; the pass stops there.
        wanted = {graph.weighted[n] for _, n in setting.probabilities}
        low = min(wanted, default=len(y))
        step = max(1, _VALUES // sum(values.size for values in y))
        first, last, _ = outputs.indices(len(gradient))
        for start in range(first, last, step):
            part = gradient[start : min(start + step, last)]
            by: dict[int, Array] = {len(y) - 1: part.reshape(len(part), *y[-1].shape)}
            kept: dict[int, Array] = {}
            for number in range(len(y) - 1, low - 1, -1):
                cotangent = by.pop(number, None)
                if cotangent is None:
                    continue
                if number in wanted:
                    kept[number] = cotangent
                if number == 0:
                    break
                node = graph.nodes[number - 1]
                if node.layer.activation.kind != "identity":
                    cotangent = cotangent * node.layer.activation.derivative(z[number])
                if number in wanted:
                    kept[-number] = cotangent
                sources = [y[k] for k in node.sources]
                if max(node.sources) < low:
                    continue
                back = pull_back(node.layer, cotangent, sources)
                for source, piece in zip(node.sources, back, strict=True):
                    by[source] = by[source] + piece if source in by else piece
            yield slice(start, start + len(part)), y, kept

    def _node(self, number: int) -> Node:
        return self.graph.nodes[number - 1]

    def _of_sites(self, block: Block, y: list[Array], by: dict[int, Array]) -> Array:
        kind, layer = block
        number = self.graph.weighted[layer]
        groups = self.setting.groups.get(block)
        if groups is not None:
            return graph_groups.first_order(groups, self.graph, self._sites, layer, y, by)
        if kind == "neuron":
            return -(by[number] * y[number]).reshape(len(by[number]), -1)
        node = self._node(number)
        part, source, cotangent = node.layer, y[node.sources[0]], by[-number]
        assert isinstance(part, Weighted)
        matrix = part.weight.reshape(part.matrix_shape)
        if self._replicated(layer):
            assert isinstance(part, Conv2D)
            patches = part.patches(source)[0]  # (groups, kernel size, positions)
            by_channel = cotangent.reshape(len(cotangent), len(matrix), -1)
            group = np.arange(len(matrix)) // (len(matrix) // part.groups)
            products = matrix[:, :, None] * patches[group]
            effects = -by_channel[:, :, None, :] * products
            return effects.transpose(0, 3, 1, 2).reshape(len(cotangent), -1)
        gradient = part.weight_gradient(cotangent, source)[:, 0]
        return np.asarray(-(gradient * matrix).reshape(len(gradient), -1))

    def _replicated(self, layer: int) -> bool:
        """Whether a convolution has a copy of its weights for each of several positions."""
        part = self._node(self.graph.weighted[layer]).layer
        assert isinstance(part, Weighted)
        return self.setting.weight_shapes[layer - 1][0] > len(part.weight)

    def acts_at_one_place(self, block: Block) -> bool:
        """Whether each site is a synapse of one neuron, not of a kernel shared in time."""
        kind, layer = block
        dense = not isinstance(self._node(self.graph.weighted[layer]).layer, Conv2D)
        return kind == "synapse" and (dense or self._replicated(layer))

    def _sums_of(
        self, block: Block, y: list[Array], by: dict[int, Array]
    ) -> tuple[Array, Array, Array]:
        """Sum, sum of squares and excess over a block, each (n_outputs,)."""
        if not self.acts_at_one_place(block):
            return self.sums_of(block, self._columns(block, self._of_sites(block, y, by)))
        # Sums of powers are passes with powers of the weights.
        number = self.graph.weighted[block[1]]
        node = self._node(number)
        part, source = node.layer, y[node.sources[0]]
        assert isinstance(part, Weighted)
        cotangent = by[-number].reshape(len(by[-number]), -1)
        drive = push_forward(part, [source], [source]).ravel()
        square = pass_of_powers(part, source, 2).ravel()
        second = cotangent**2 @ square
        # Shares of one neuron do not depend on a scale: 1 is the largest weight and input.
        scaled = replace(part, weight=part.weight / (np.abs(part.weight).max() or 1.0))
        unit = source / (np.abs(source).max() or 1.0)
        below = pass_of_powers(scaled, unit, 2).ravel() ** 2
        fourth = pass_of_powers(scaled, unit, 4).ravel()
        share = np.divide(fourth, below, out=np.zeros_like(fourth), where=below > 0)
        weights = cotangent**2 * square / np.where(second > 0, second, np.inf)[:, None]
        excess = _excess(self.setting.probabilities[block])
        return -cotangent @ drive, second, excess * (weights**2 @ share)

    def _block_sums(self) -> Iterator[tuple[Block, int, slice, tuple[Array, Array, Array]]]:
        for x in range(self.setting.n_inputs):
            for outputs, y, by in self._derivatives(x):
                for block in self.setting.probabilities:
                    yield block, x, outputs, self._sums_of(block, y, by)

    def states(self, x: int, outputs: slice) -> dict[Block, Array]:
        """Effects of all states of all sites on some outputs at one input."""
        blocks = self.setting.probabilities
        parts = [
            {block: self._of_sites(block, y, by) for block in blocks}
            for _, y, by in self._derivatives(x, outputs)
        ]
        return {block: np.concatenate([part[block] for part in parts]) for block in blocks}

    def site_effects(self, block: Block, x: int) -> Array:
        """Effects of every site of a block at one input: (n_outputs, n_sites)."""
        parts = [self._of_sites(block, y, by) for _, y, by in self._only(block)._derivatives(x)]
        return self._columns(block, np.concatenate(parts))

    def _only(self, block: Block) -> GraphEffects:
        return GraphEffects(setting=self.setting.only(block))


def pass_of_powers(layer: Weighted, y: Array, power: int) -> Array:
    """Sum over synapses of (W y)^power for each neuron."""
    if isinstance(layer, Conv2D):
        return correlate(
            pad(y**power, layer.padding),
            layer.weight**power,
            layer.stride,
            layer.dilation,
            layer.groups,
        )
    return np.asarray(y**power @ (layer.weight**power).T)


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphSingleEffects(BySite):
    """Exact effects d_s of every site alone (b4 of arXiv 1902.01686), for any graph of layers.

    Parameters
    ----------
    setting : Setting
    """

    # The effects of the inputs seen last, as many as fit into memory.
    _kept: dict[int, dict[Block, Array]] = field(default_factory=dict, init=False, repr=False)

    def states(self, x: int, outputs: slice) -> dict[Block, Array]:
        """Effects of all states of all sites on some outputs at one input."""
        blocks = self.setting.probabilities
        if x not in self._kept:
            size = self.setting.n_outputs * sum(self.setting.n_sites(block) for block in blocks)
            if size > _VALUES:
                return {block: self._computed(block, x)[outputs] for block in blocks}
            while (len(self._kept) + 1) * size > _VALUES:
                self._kept.pop(next(iter(self._kept)))
            self._kept[x] = {block: self._computed(block, x) for block in blocks}
        return {block: e[outputs] for block, e in self._kept[x].items()}

    def _block_sums(self) -> Iterator[tuple[Block, int, slice, tuple[Array, Array, Array]]]:
        for x in range(self.setting.n_inputs):
            for block, e in self.of_input(x, slice(None)).items():
                yield block, x, slice(None), self.sums_of(block, e)

    def site_effects(self, block: Block, x: int) -> Array:
        """Effects of every site of a block at one input: (n_outputs, n_sites)."""
        kept = self._kept.get(x)
        return self._columns(block, self._computed(block, x) if kept is None else kept[block])

    def _computed(self, block: Block, x: int) -> Array:
        return self.of_sites(block, np.arange(self.setting.n_sites(block)), x, self.golden(x))

    def of_sites(
        self, block: Block, sites: Array, x: int, golden: tuple[list[Array], list[Array]]
    ) -> Array:
        """Effects of some sites of a block at one input: (n_outputs, n_sites).

        golden: what `golden(x)` gives.
        """
        z, y = golden
        step = max(1, _VALUES // (4 * max(values.size for values in y)))
        return np.concatenate(
            [
                self._changes(block, sites[start : start + step], x, z, y)
                for start in range(0, len(sites), step)
            ]
        ).T

    def _changes(self, block: Block, sites: Array, x: int, z: list[Array], y: list[Array]) -> Array:
        """Change of what is predicted by each site alone: (n_sites, n_outputs)."""
        kind, layer = block
        graph, number = self.graph, self.graph.weighted[layer]
        start = np.zeros((len(sites), *y[number].shape[1:]))
        each = np.arange(len(sites))
        groups = self.setting.groups.get(block)
        if groups is not None:
            start = graph_groups.changes(groups, graph, self._sites, layer, sites, z, y)
        elif kind == "neuron":
            start.reshape(len(sites), -1)[each, sites] = -y[number].reshape(-1)[sites]
        else:
            self._lost(layer, sites, start, y)
            start = graph.nodes[number - 1].layer.activation.change(z[number], start)
        found: dict[int, Array] = {number: start}
        for k in range(number + 1, len(graph.nodes) + 1):
            node = graph.nodes[k - 1]
            if not any(source in found for source in node.sources):
                continue
            dy = [
                found.get(source, np.zeros((len(sites), *graph.shapes[source])))
                for source in node.sources
            ]
            if isinstance(node.layer, MaxPool2D):
                found[k] = node.layer(y[node.sources[0]] + dy[0]) - y[k]
            else:
                sources = [y[source] for source in node.sources]
                dz = push_forward(node.layer, dy, sources)
                found[k] = node.layer.activation.change(z[k], dz)
        last = found.get(len(graph.nodes))
        if last is None:
            last = np.zeros((len(sites), *graph.shapes[-1]))
        head = self.setting.head
        targets = self.setting.targets_of(slice(x, x + 1))
        dy_last = last.reshape(1, len(sites), -1)
        return np.asarray(head.change(y[-1].reshape(1, -1), dy_last, targets))[0]

    def _lost(self, layer: int, sites: Array, dz: Array, y: list[Array]) -> None:
        """Write into dz, (n_sites, *shape), what each dead synapse alone takes away."""
        number = self.graph.weighted[layer]
        node = self.graph.nodes[number - 1]
        part, source = node.layer, y[node.sources[0]]
        assert isinstance(part, Weighted)
        n_out, n_in = self.setting.weight_shapes[layer - 1]
        out, in_ = np.divmod(sites, n_in)
        each = np.arange(len(sites))
        matrix = part.weight.reshape(part.matrix_shape)
        if not isinstance(part, Conv2D):
            dz[each, out] = -matrix[out, in_] * source[0, in_]
            return
        copy, channel = np.divmod(out, len(matrix))
        group = channel // (len(matrix) // part.groups)
        lost = -matrix[channel, in_][:, None] * part.patches(source)[0][group, in_]
        flat = dz.reshape(len(sites), len(matrix), -1)
        if n_out == len(matrix):
            flat[each, channel] = lost
        else:
            flat[each, channel, copy] = lost[each, copy]
