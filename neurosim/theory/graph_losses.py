"""Moments of the error of a loss on a graph of layers: T1 of the outputs, and the loss's curvature.

The formulas are those of `neurosim.theory.corrected_loss`, site by site.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from neurosim.errors import InputError
from neurosim.layers import Array
from neurosim.theory.graph_effects import BySite, GraphEffects
from neurosim.theory.setting import Block
from neurosim.theory.site_losses import quadratic_mean

__all__ = ["GraphLossEffects"]

# Derivatives of all outputs by all sites that may be held at once: 1 GB.
_MOST_VALUES = 2**27


@dataclass(frozen=True, kw_only=True, eq=False)
class _Walk:
    """What one walk over the inputs finds.

    slope, curvature: a + H m (n_inputs, n_L) and H (n_inputs, n_L, n_L) of the loss;
    curvature_mean: 1/2 m.H m + 1/2 tr(H K), (n_inputs, 1); pairs: what pairs of faults add to the
    variance, by block, (n_inputs, 1); sums: of the effects of each block, as `BySite.sums_of`.
    """

    slope: Array
    curvature: Array
    curvature_mean: Array
    pairs: dict[Block, Array]
    sums: list[tuple[Block, int, tuple[Array, Array, Array]]]


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphLossEffects(BySite):
    """Effects c_s of every site on a loss: the part of its error that is linear in the faults.

    Parameters
    ----------
    setting : Setting
        Of a loss.

    Raises
    ------
    InputError
        If there are too many outputs and sites to hold the derivatives of all.
    """

    def __post_init__(self) -> None:
        setting = self.setting
        n_sites = sum(setting.n_sites(block) for block in setting.probabilities)
        if n_sites * setting.n_sent > _MOST_VALUES:
            raise InputError(
                f'loss: expected at most {_MOST_VALUES} outputs times sites for "first-order", got '
                f"{setting.n_sent} x {n_sites}; let fewer layers fail at a time, or predict "
                "the outputs (with probes) and simulate the loss"
            )

    @cached_property
    def outputs(self) -> GraphEffects:
        """Effects on the outputs in which the loss is expanded."""
        inner = replace(self.setting, head=self.setting.head.expanded_in, targets=None)
        return GraphEffects(setting=inner)

    @property
    def exact(self) -> bool:
        """Whether the error of the loss is this quadratic form of the faults."""
        return self.setting.head.loss == "squared_error" and self.outputs.setting.exact

    @property
    def curvature_mean(self) -> Array:
        """1/2 m.H m + 1/2 tr(H K) of every input: (n_inputs, 1)."""
        return self._walk.curvature_mean

    def pair_variances(self) -> dict[Block, Array]:
        """What pairs of faults add to the variance, by block: each (n_inputs, 1).

        A pair of sites of two blocks counts half for each.
        """
        return self._walk.pairs

    @cached_property
    def _walk(self) -> _Walk:
        setting = self.setting
        p = setting.probabilities
        n_inputs, n_last = setting.n_inputs, setting.n_sent
        slopes, curvatures = np.zeros((n_inputs, n_last)), np.zeros((n_inputs, n_last, n_last))
        curvature_mean = np.zeros((n_inputs, 1))
        pairs = {block: np.zeros((n_inputs, 1)) for block in p}
        sums: list[tuple[Block, int, tuple[Array, Array, Array]]] = []
        for x in range(n_inputs):
            last = self.golden(x)[1][-1].reshape(1, -1)
            slope, curvature = setting.head.expansion(last, setting.targets_of(slice(x, x + 1)))
            found = self.outputs.of_input(x, slice(None))
            mean = np.zeros(n_last)
            spread = {block: p[block] * (1 - p[block]) * (e @ e.T) for block, e in found.items()}
            covariance = sum(spread.values(), np.zeros((n_last, n_last)))
            for block, e in found.items():
                mean += p[block] * e.sum(axis=1)
            slopes[x], curvatures[x] = slope[0] + curvature[0] @ mean, curvature[0]
            curvature_mean[x] = quadratic_mean(curvature, mean[None], covariance[None])
            bent = curvature[0] @ covariance @ curvature[0]
            for block, e in found.items():
                bend = _bend(e, curvature[0])
                q = p[block] * (1 - p[block])
                pairs[block][x] = 0.5 * (np.sum(bent * spread[block]) - q**2 * (bend @ bend))
                along = slopes[x] @ e + (0.5 - p[block]) * bend
                sums.append((block, x, self.sums_of(block, along[None])))
        return _Walk(
            slope=slopes, curvature=curvatures, curvature_mean=curvature_mean, pairs=pairs,
            sums=sums,
        )  # fmt: skip

    def _block_sums(self) -> Iterator[tuple[Block, int, slice, tuple[Array, Array, Array]]]:
        for block, x, parts in self._walk.sums:
            yield block, x, slice(None), parts

    def site_effects(self, block: Block, x: int) -> Array:
        """Effects of every site of a block at one input: (1, n_sites)."""
        e, walk = self.outputs.site_effects(block, x), self._walk
        bend = _bend(e, walk.curvature[x])
        along = walk.slope[x] @ e + (0.5 - self.setting.probabilities[block]) * bend
        return np.asarray(along)[None]


def _bend(e: Array, curvature: Array) -> Array:
    """e.H e of every site, (n_sites,), for effects (n_L, n_sites)."""
    return np.einsum("ks,ks->s", e, curvature @ e)
