"""Intervals for means and variances of errors that are rare and skewed, and their verdicts.

Most trials of a campaign at a small fault probability have no error at all: the normal interval of
a mean fails there. These intervals correct for skewness and kurtosis, take the larger of the
sample's and the prediction's spread, and refuse to speak while too few trials carry the moments.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from neurosim.layers import Array
from neurosim.statistics import Moments

__all__ = [
    "AGREES",
    "CANNOT_TELL",
    "DISAGREES",
    "Verdicts",
    "judge",
    "mean_interval",
    "reliable",
    "variance_interval",
]

AGREES, DISAGREES, CANNOT_TELL = "agrees", "disagrees", "cannot tell"


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdicts:
    """Simulated beside predicted values, elementwise.

    Parameters
    ----------
    simulated, predicted : ndarray
    low, high : ndarray
        Interval of the simulated value at the level of the family.
    tolerance : ndarray
        Difference that still counts as agreement; 0: the interval must hold the prediction.
    verdict : ndarray of str
        "agrees", "disagrees" or "cannot tell".
    """

    simulated: Array
    low: Array
    high: Array
    predicted: Array
    tolerance: Array
    verdict: Array

    def count(self, word: str) -> int:
        """How many verdicts read so."""
        return int((self.verdict == word).sum())

    @property
    def counts(self) -> dict[str, int]:
        """All three words with their counts."""
        return {word: self.count(word) for word in (AGREES, DISAGREES, CANNOT_TELL)}


def _kurtosis(moments: Moments) -> Array:
    """Fourth standardised moment of the sample; 1 where nothing varies."""
    square = (moments.m2 / moments.count) ** 2
    return np.divide(moments.fourth_moment, square, out=np.ones_like(square), where=square > 0)


def reliable(moments: Moments, level: float, kurtosis: npt.ArrayLike = 1.0) -> Array:
    """Whether enough trials carry the moments for an interval at this level.

    n over the kurtosis is about the number of trials with an error, for rare ones; intervals hold
    their level from about 2 z^2 of them on (z: the normal quantile of the level).
    """
    z = stats.norm.isf(level / 2)
    enough = moments.count / np.maximum(_kurtosis(moments), kurtosis) >= 2 * z**2
    # Nothing varied: that alone tells little unless nothing was predicted to.
    return np.asarray(enough & (moments.m2 > 0))


def variance_interval(
    moments: Moments, level: float, kurtosis: npt.ArrayLike = 1.0
) -> tuple[Array, Array]:
    """Two-sided interval of a variance: chi-square with the degrees of freedom its spread has.

    kurtosis: that of the prediction; the larger of it and the sample's counts, for a sample may
    miss a rare large error.
    """
    n = moments.count
    k = np.maximum(_kurtosis(moments), kurtosis)
    freedom = 2 / ((k - 1) / n + 2 / (n * max(n - 1, 1)))
    scaled, below = moments.variance * freedom, stats.chi2.ppf(level / 2, freedom)
    # Of far too few trials for errors as rare as predicted the quantile is 0: no limit is known.
    above = np.full(np.shape(scaled), np.inf)
    np.divide(scaled, below, out=above, where=below > 0)
    return scaled / stats.chi2.isf(level / 2, freedom), above


def mean_interval(
    moments: Moments, level: float, variance: npt.ArrayLike = 0.0
) -> tuple[Array, Array]:
    """Two-sided interval of a mean, widened for skewness and kurtosis (Edgeworth's quantiles).

    variance: that of the prediction; the largest of it and the upper limit of the sample's counts.
    """
    n, z = moments.count, stats.norm.isf(level / 2)
    spread = np.maximum(variance_interval(moments, level)[1], variance)
    deviation = (moments.m2 / n) ** 1.5
    skewness = np.divide(
        np.abs(moments.third_moment), deviation, out=np.zeros_like(deviation), where=deviation > 0
    )
    excess = np.maximum(_kurtosis(moments) - 3, 0)
    quantile = z + skewness * (z**2 - 1) / (6 * np.sqrt(n)) + excess * (z**3 - 3 * z) / (24 * n)
    half = quantile * np.sqrt(spread / n)
    return moments.mean - half, moments.mean + half


def judge(
    simulated: Array,
    interval: tuple[Array, Array],
    predicted: Array,
    tolerance: npt.ArrayLike,
    trusted: npt.ArrayLike = True,
) -> Verdicts:
    """Verdicts on differences between simulation and prediction.

    "agrees": the interval of the difference lies within the tolerance (0: it holds 0);
    "disagrees": it lies wholly outside; else, or where it is not to be trusted, "cannot tell".
    Equal values that nothing was simulated or predicted to change agree.
    """
    low, high = interval
    tolerance = np.broadcast_to(np.asarray(tolerance, np.float64), predicted.shape)
    outside = (low - predicted > tolerance) | (predicted - high > tolerance)
    inside = np.where(
        tolerance > 0,
        (low - predicted >= -tolerance) & (high - predicted <= tolerance),
        (low <= predicted) & (predicted <= high),
    )
    verdict = np.where(outside, DISAGREES, np.where(inside, AGREES, CANNOT_TELL))
    same = (simulated == predicted) & (low == high)
    verdict = np.where(trusted, verdict, CANNOT_TELL)
    return Verdicts(
        simulated=simulated,
        low=low,
        high=high,
        predicted=predicted,
        tolerance=tolerance,
        verdict=np.where(same, AGREES, verdict),
    )
