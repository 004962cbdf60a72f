"""Laws of fault sets whose sites fail with unequal probabilities."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurosim.kernels.tilted import (
    count_tables,
    draw_given_count,
    draw_independent,
)
from neurosim.layers import Array

__all__ = ["FaultLaw", "count_law"]

# Laws of more expected faults than this are drawn site by site: few faults are rare there anyway.
_MANY = 64.0
# Counts beyond which less than exp(-160) of the mass lies are cut off.
_LOG_LOST = 160.0


def _classes(probability: Array) -> tuple[Array, Array, Array]:
    """Sites class after class, where each class begins, the probability of each."""
    # The likeliest first: draws end with the class that holds their last fault.
    negative, index = np.unique(-probability, return_inverse=True)
    values = -negative
    members = np.argsort(index, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(index, minlength=len(values)))])
    return members, starts, values


def _most(mean: float, least: int, n_sites: int) -> int:
    """The largest count that matters, by Chernoff's bound of P(count >= k)."""
    low, high = max(least, math.ceil(mean), 1), n_sites
    while low < high:  # the exponent of the bound grows with k
        k = (low + high) // 2
        if k * math.log(k / mean) - k + mean < _LOG_LOST:
            low = k + 1
        else:
            high = k
    return min(max(low, least + 40), n_sites)


def count_law(probability: Array, least: int = 0) -> Array:
    """Law of the number of faults of independent sites: P(count = k) for k = 0, 1, ...

    Parameters
    ----------
    probability : ndarray, shape (n_sites,)
        In (0, 1).
    least : int
        Counts from this one on keep their relative precision, however small.

    Examples
    --------
    >>> count_law(np.array([0.5, 0.5]))
    array([0.25, 0.5 , 0.25])
    """
    if not len(probability):
        return np.ones(1)
    _, starts, values = _classes(probability)
    most = _most(float(probability.sum()), least, len(probability))
    law: Array = count_tables(np.diff(starts), values, most)[1][0]
    return law


@dataclass(frozen=True, kw_only=True, eq=False)
class FaultLaw:
    """Independent faults of sites, given that at least so many of them fail.

    Parameters
    ----------
    probability : ndarray, shape (n_sites,)
        Of each site, in (0, 1); few distinct values, for each is a class of its own.
    least : int
        The least number of faults. Where many are expected anyway (`mass` is then 1) it is not
        enforced: sets of fewer faults are drawn too.
    most : int, optional
        The largest number of faults; then `least` is always enforced.
    """

    probability: Array
    least: int
    most: int | None = None

    @cached_property
    def _sorted(self) -> tuple[Array, Array, Array]:
        return _classes(self.probability)

    @cached_property
    def _tables(self) -> tuple[Array, Array] | None:
        """Laws of counts, or None where sites are drawn one by one."""
        mean = float(self.probability.sum())
        if self.most is None and (self.least == 0 or mean > _MANY):
            return None
        _, starts, values = self._sorted
        most = self.most
        if most is None:
            most = _most(mean, self.least, len(self.probability))
        own, onward = count_tables(np.diff(starts), values, most)
        return own, onward

    @cached_property
    def log_odds(self) -> Array:
        """Of each site: (n_sites,)."""
        q = self.probability
        return np.asarray(np.log(q) - np.log1p(-q))

    @cached_property
    def log_alive(self) -> float:
        """Logarithm of the probability that nothing fails, were it not conditioned."""
        return float(np.log1p(-self.probability).sum())

    @cached_property
    def mass(self) -> float:
        """Probability of what it is conditioned on."""
        if self._tables is None:
            return 1.0
        return float(self._tables[1][0, self.least :][::-1].sum())

    def holds(self, sizes: Array) -> Array:
        """Which sets, of so many faults, it can draw: (n_sets,) of bool."""
        if self._tables is None:
            return np.ones(len(sizes), np.bool_)
        held = sizes >= self.least
        return np.asarray(held if self.most is None else held & (sizes <= self.most))

    def draw(self, seed: int, stream: int, first: int, n_trials: int) -> tuple[Array, Array]:
        """Fault sets of trials first .. first + n_trials - 1: (offsets, sites).

        The sites of trial t are sites[offsets[t] : offsets[t + 1]], ascending.
        """
        members, starts, values = self._sorted
        key, number = np.uint64(seed), np.uint64(stream)
        if self._tables is None:
            drawn = draw_independent(key, number, first, n_trials, members, starts, values)
        else:
            drawn = draw_given_count(
                key, number, first, n_trials, self.least, members, starts, *self._tables
            )
        offsets, sites = drawn
        return offsets, sites
