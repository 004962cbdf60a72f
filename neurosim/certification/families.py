"""All fault sets of few faults."""

from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np

from neurosim.layers import Array

__all__ = ["complete_sizes", "sets_of_size"]


@lru_cache(maxsize=16)
def sets_of_size(n_sites: int, size: int) -> tuple[Array, Array]:
    """All sets of so many sites: (offsets, sites), each ascending."""
    n = comb(n_sites, size)
    flat = (site for chosen in combinations(range(n_sites), size) for site in chosen)
    return np.arange(n + 1) * size, np.fromiter(flat, np.int64, n * size)


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
