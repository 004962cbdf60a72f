"""All fault sets of few faults."""

from functools import lru_cache
from math import comb

import numpy as np

from neurosim.layers import Array

__all__ = ["complete_sizes", "sets_of_size"]


@lru_cache(maxsize=16)
def sets_of_size(n_sites: int, size: int) -> tuple[Array, Array]:
    """All sets of so many sites: (offsets, sites), each ascending."""
    sets, following = np.empty((1, 0), np.int64), np.zeros(1, np.int64)
    for _ in range(size):
        counts = n_sites - following
        parent = np.repeat(np.arange(len(sets)), counts)
        before = np.cumsum(counts) - counts
        site = np.arange(len(parent)) + (following - before)[parent]
        sets, following = np.column_stack([sets[parent], site]), site + 1
    return np.arange(len(sets) + 1) * size, sets.ravel()


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
