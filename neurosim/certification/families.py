"""Families of fault sets small enough to compute all of them."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np

from neurosim.kernels.tilted import largest_sums
from neurosim.layers import Array

__all__ = ["Family", "complete_sizes", "largest_choice", "sets_of_size"]


@lru_cache(maxsize=16)
def sets_of_size(n_sites: int, size: int) -> Array:
    """All subsets of a size, (n_sets, size), each ascending."""
    n = comb(n_sites, size)
    flat = (site for chosen in combinations(range(n_sites), size) for site in chosen)
    return np.fromiter(flat, np.int64, n * size).reshape(n, size)


def complete_sizes(n_sites: int, most_sets: int) -> int:
    """How many faults: the sets of so many and of fewer are at most `most_sets` together.

    Examples
    --------
    >>> complete_sizes(20, 2**14)
    4
    """
    total, most = 1, 0
    while most < n_sites and total + comb(n_sites, most + 1) <= most_sets:
        most += 1
        total += comb(n_sites, most)
    return most


def largest_choice(n_sites: int, size: int, most_sets: int) -> int:
    """Of how many sites, at most n_sites, all subsets of a size are at most `most_sets`."""
    n = min(size, n_sites)
    while n < n_sites and comb(n + 1, size) <= most_sets:
        n += 1
    return n


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """All fault sets of k faults among the first limits[k] sites of an order that reach far enough.

    How far a set reaches is the largest, over drives, of the sum of what its sites add to it.

    Parameters
    ----------
    order : ndarray, shape (n_sites,)
    limits : tuple of int
        For k = 0, 1, ...; none of more faults.
    reach : ndarray, (n_sites, n_drives), optional
        What each site adds.
    cuts : tuple of float, optional
        How far sets of k faults have to reach, for k = 0, 1, ...; by default all do.
    """

    order: Array
    limits: tuple[int, ...]
    reach: Array | None = None
    cuts: tuple[float, ...] = ()

    def sets(self, size: int) -> tuple[Array, Array]:
        """Those of one size: (offsets, sites)."""
        chosen = np.sort(self.order[: self.limits[size]])[sets_of_size(self.limits[size], size)]
        if self.is_cut(size):
            offsets = np.arange(len(chosen) + 1) * size
            chosen = chosen[self._reached(offsets, chosen.ravel()) >= self.cuts[size]]
        return np.arange(len(chosen) + 1) * size, chosen.ravel()

    def is_cut(self, size: int) -> bool:
        """Whether sets of so many faults have to reach anything."""
        return self.reach is not None and self.cuts[size] > -np.inf

    def farthest(self, size: int, n_sets: int) -> float:
        """How far the n_sets sets of a size that reach farthest reach at least."""
        chosen = np.sort(self.order[: self.limits[size]])[sets_of_size(self.limits[size], size)]
        if len(chosen) <= n_sets:
            return -np.inf
        reached = self._reached(np.arange(len(chosen) + 1) * size, chosen.ravel())
        return float(np.partition(reached, -n_sets)[-n_sets])

    def holds(self, offsets: Array, sites: Array) -> Array:
        """Which of the sets are in the family: (n_sets,) of bool."""
        rank = np.empty(len(self.order), np.int64)
        rank[self.order] = np.arange(len(rank))
        sizes = np.diff(offsets)
        last = np.maximum.reduceat(np.append(rank[sites], -1), offsets[:-1])
        limits = np.array([*self.limits, 0])[np.minimum(sizes, len(self.limits))]
        within = (last < limits) | ((sizes == 0) & (len(self.limits) > 0))
        if self.reach is None:
            return np.asarray(within)
        # The sums are those of `sets` to the last bit: the same kernel, sites in the same order.
        cuts = np.array([*self.cuts, np.inf])[np.minimum(sizes, len(self.limits))]
        return np.asarray(within & (self._reached(offsets, sites) >= cuts))

    def _reached(self, offsets: Array, sites: Array) -> Array:
        return np.asarray(largest_sums(offsets, sites, self.reach))
