"""How many replicas bring a failure probability down, by which way of joining their outputs.

Replicas have the same weights, see the same input and fail independently of one another. So
binomials are taken input by input; over inputs their mean counts, never the binomial of a mean.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from neurosim.certification.single_chip import ChipTails
from neurosim.layers import Array
from neurosim.theory.tails import median_failure, smallest_replicas

__all__ = ["Over", "joined", "lost_inputs", "mean_replicas", "median_bound", "median_replicas",
           "vote_replicas"]  # fmt: skip

Over: TypeAlias = Literal["worst", "mean"]

# More replicas than this are of no use to anyone.
_MOST_REPLICAS = 10**9


def joined(failures: Array, over: Over) -> float:
    """One number from the failure probability of every input, (n_inputs,)."""
    return float(failures.max() if over == "worst" else failures.mean())


def median_bound(tails: ChipTails, replicas: int) -> Array:
    """Bound the failure of the component-wise median of R replicas, input by input.

    The smaller of sum_k B(R, delta_k) and B(R, delta_any), with B(R, delta) = P(Bin(R, delta) >=
    ceil(R / 2)): if the median is off at output k, at least half of the replicas are.

    Returns
    -------
    ndarray, shape (n_inputs,)
    """
    if replicas == 1:
        return tails.any_output
    by_output = np.asarray(median_failure(tails.each, replicas)).sum(axis=1)
    return np.minimum(by_output, np.asarray(median_failure(tails.any_output, replicas)))


def lost_inputs(tails: ChipTails) -> Array:
    """Inputs that the median of no number of replicas saves: some delta_k(x) >= 1/2."""
    return np.flatnonzero((tails.each >= 0.5).any(axis=1))


def median_replicas(tails: ChipTails, delta: float, over: Over) -> int | None:
    """Find the smallest odd R whose median fails with probability <= delta by `median_bound`.

    Of inputs that are lost the bound by any output counts. None where no R will do.
    """
    if joined(tails.any_output, over) <= delta:
        return 1
    lost = np.isin(np.arange(len(tails.each)), lost_inputs(tails))
    each, some, floor = tails.each[~lost], tails.any_output[~lost], tails.any_output[lost]
    if over == "worst" and len(floor):
        return None

    def falling(replicas: int) -> float:
        """What the inputs that can be saved fail: a function that falls with R."""
        if replicas == 1:
            return np.inf  # asked above
        by_output = np.asarray(median_failure(each, replicas)).sum(axis=1)
        # From 1/2 on B(R, delta_any) rises with R: it is of no use below any target of interest.
        by_any = np.where(some < 0.5, median_failure(some, replicas), np.inf)
        failures = np.minimum(by_output, by_any)
        return float(failures.max() if over == "worst" else failures.sum() / len(lost))

    return smallest_replicas(
        falling,
        lambda r: float(np.sum(median_failure(floor, r))) / len(lost) if len(floor) else 0.0,
        delta,
    )


def mean_replicas(tails: ChipTails, delta: float, over: Over) -> int | None:
    """Find the smallest R whose mean fails with probability <= delta; None where no R will do."""
    failure = tails.mean_failure
    if failure is None:
        return None
    return _smallest(lambda r: joined(failure(r), over), delta)


def _smallest(failure: Callable[[int], float], delta: float) -> int | None:
    """The smallest R with failure(R) <= delta, for a failure that never rises with R."""
    fits, short = 1, 0
    while failure(fits) > delta:
        short, fits = fits, 2 * fits
        if fits > _MOST_REPLICAS:
            return None
    while fits - short > 1:
        middle = (fits + short) // 2
        short, fits = (short, middle) if failure(middle) <= delta else (middle, fits)
    return fits


def vote_replicas(changed: Array, delta: float, over: Over) -> int | None:
    """Find the smallest odd R whose majority vote names another class with probability <= delta.

    Parameters
    ----------
    changed : ndarray, shape (n_inputs,)
        Probability that one chip names another class than the golden one (or an upper bound).
        A vote can go wrong only where at least half of the replicas do.
    """
    if joined(changed, over) <= delta:
        return 1
    low, n = changed < 0.5, len(changed)
    if over == "worst":
        if not low.all():
            return None
        return smallest_replicas(
            lambda r: float(np.max(median_failure(changed, r))), lambda r: 0.0, delta
        )
    return smallest_replicas(
        lambda r: float(np.sum(median_failure(changed[low], r))) / n,
        lambda r: float(np.sum(median_failure(changed[~low], r))) / n,
        delta,
    )
