"""The law of faults of which some are known to fail together."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurosim.kernels.cut_sets import choose_cuts, count_held, unite
from neurosim.layers import Array
from neurosim.sampling.fault_laws import FaultLaw

__all__ = ["CutLaw"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CutLaw:
    """Independent faults of sites, given that all sites of a cut fail, one that is drawn first.

    A cut is drawn in proportion to the probability that all its sites fail. So a fault set is drawn
    with its true probability times the number of cuts it holds, over the sum of those of the cuts.

    Parameters
    ----------
    probability : ndarray, shape (n_sites,)
        Of each site, in (0, 1).
    offsets, sites : ndarray of int64
        The cuts, at least one, all different: sites[offsets[c] : offsets[c + 1]], ascending.

    References
    ----------
    R. M. Karp, M. Luby and N. Madras, Monte-Carlo approximation algorithms for enumeration
    problems, Journal of Algorithms 10, 429-448, 1989, doi:10.1016/0196-6774(89)90038-2.
    """

    probability: Array
    offsets: Array
    sites: Array

    @cached_property
    def _independent(self) -> FaultLaw:
        return FaultLaw(probability=self.probability, least=0)

    @cached_property
    def _log_chances(self) -> Array:
        """Of each cut, that all its sites fail: (n_cuts,)."""
        return np.asarray(np.add.reduceat(np.log(self.probability)[self.sites], self.offsets[:-1]))

    @cached_property
    def _relative(self) -> Array:
        """Chances by the largest."""
        return np.exp(self._log_chances - self._log_chances.max())

    @cached_property
    def _log_total(self) -> float:
        return float(self._log_chances.max() + np.log(self._relative.sum()))

    @cached_property
    def _listed(self) -> tuple[Array, Array]:
        """Cuts by that of their sites which is in the fewest: where each site begins, the cuts."""
        n_sites = len(self.probability)
        often = np.bincount(self.sites, minlength=n_sites)[self.sites]
        at = np.minimum.reduceat(often * n_sites + self.sites, self.offsets[:-1]) % n_sites
        starts = np.concatenate([[0], np.cumsum(np.bincount(at, minlength=n_sites))])
        return starts, np.argsort(at, kind="stable")

    def held(self, offsets: Array, sites: Array) -> Array:
        """How many cuts each set holds: (n_sets,)."""
        counts: Array = count_held(offsets, sites, *self._listed, self.offsets, self.sites)
        return counts

    def log_ratios(self, offsets: Array, sites: Array) -> Array:
        """Log of its probability of each set by the true one: (n_sets,)."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.held(offsets, sites)) - self._log_total)

    def draw(self, seed: int, stream: int, first: int, n_trials: int) -> tuple[Array, Array]:
        """Fault sets of trials first .. first + n_trials - 1, as those of `FaultLaw`."""
        cumulative = np.cumsum(self._relative)
        chosen = choose_cuts(np.uint64(seed), np.uint64(stream), first, n_trials, cumulative)
        others = self._independent.draw(seed, stream, first, n_trials)
        offsets, sites = unite(*others, chosen, self.offsets, self.sites)
        return offsets, sites
