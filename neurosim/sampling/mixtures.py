"""Mixtures of laws of fault sets, with exact weights of what is drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurosim.kernels.tilted import log_ratios, mixture_weights
from neurosim.layers import Array
from neurosim.sampling.cut_sets import CutLaw
from neurosim.sampling.fault_laws import FaultLaw

__all__ = ["Mixture"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mixture:
    """Laws to draw from, the true one first, with exact weights of what is drawn.

    Parameters
    ----------
    laws : tuple of FaultLaw
        The first is the law of the faults; its part in every draw bounds the weights. Instead of
        it, there may be one for each range of numbers of faults.
    cuts : CutLaw, optional
        One more law, after them.
    """

    laws: tuple[FaultLaw, ...]
    cuts: CutLaw | None = None

    @cached_property
    def _shifts(self) -> tuple[Array, Array]:
        true = self.laws[0]
        shifts = np.stack([law.log_odds - true.log_odds for law in self.laws], axis=1)
        constants = np.array(
            [law.log_alive - true.log_alive - math.log(law.mass) for law in self.laws]
        )
        return shifts, constants

    def log_ratios(self, offsets: Array, sites: Array) -> Array:
        """Log of the probability of each set under each law by the true one: (n_sets, n_laws)."""
        ratios: Array = log_ratios(offsets, sites, *self._shifts)
        sizes = np.diff(offsets)
        for c, law in enumerate(self.laws):
            ratios[~law.holds(sizes), c] = -np.inf
        if self.cuts is not None:
            held = self.cuts.log_ratios(offsets, sites)
            ratios = np.concatenate([ratios, held[:, None]], axis=1)
        return ratios

    def draw(
        self, counts: Sequence[int] | Array, seed: int, stream: int, first: int
    ) -> tuple[Array, Array]:
        """counts[c] fault sets from each law, one law after the other: (offsets, sites)."""
        offsets, sites = [np.zeros(1, np.int64)], []
        total = 0
        every: list[FaultLaw | CutLaw] = [*self.laws]
        if self.cuts is not None:
            every.append(self.cuts)
        for law, n in zip(every, counts, strict=True):
            if n:
                starts, drawn = law.draw(seed, stream, first, int(n))
                offsets.append(starts[1:] + total)
                sites.append(drawn)
                total += len(drawn)
                first += int(n)
        return np.concatenate(offsets), np.concatenate(sites)

    def weights(self, shares: Array, ratios: Array) -> Array:
        """Weights of sets drawn in these shares from the laws, from their `log_ratios`.

        The mean of weight times f over sets drawn is an unbiased estimate of E f of the true
        faults, for every f that is 0 on sets that the first law does not draw.
        """
        result: Array = mixture_weights(ratios, np.asarray(shares, np.float64))
        return result
