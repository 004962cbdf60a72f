"""Checks of a comparison: bounds, medians of replicas, laws, realised fault rates."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from neurosim.analysis.intervals import AGREES, CANNOT_TELL, DISAGREES, Verdicts, judge
from neurosim.campaign import Campaign
from neurosim.faults import (
    FaultProcess,
    Intermittent,
    Permanent,
    Transient,
    chain_of,
    onset_window,
)
from neurosim.layers import Array
from neurosim.statistics import Statistics
from neurosim.theory import Prediction
from neurosim.theory.surrogate import SurrogateLaw
from neurosim.theory.tails import binomial_interval, cantelli, chebyshev, median_failure
from neurosim.weight_faults import count_sites
from neurosim.weighted_statistics import Estimate, WeightedResults

__all__ = [
    "BoundChecks",
    "LawChecks",
    "MedianChecks",
    "RateCheck",
    "check_bounds",
    "check_laws",
    "check_medians",
    "check_rates",
]

HOLDS, VIOLATED = "holds", "violated"


@dataclass(frozen=True, kw_only=True, eq=False)
class BoundChecks:
    """Simulated P(|error| >= epsilon) beside Chebyshev's and Cantelli's delta (P5, both sides).

    A bound is violated only if the lower confidence limit exceeds it. Arrays are (n_epsilons,
    n_inputs, n_outputs), those of the largest error of an input (n_epsilons, n_inputs).
    """

    epsilons: tuple[float, ...]
    exceedance: Array
    low: Array
    high: Array
    chebyshev: Array
    cantelli: Array
    chebyshev_verdict: Array
    cantelli_verdict: Array
    any_exceedance: Array
    any_low: Array
    any_high: Array
    any_cantelli: Array
    any_verdict: Array


def check_bounds(
    statistics: Statistics,
    prediction: Prediction,
    level: float,
    weighted: WeightedResults | None = None,
) -> BoundChecks:
    """Bounds by the predicted moments; level: false-alarm rate of one verdict.

    weighted: of weighted trials; limits are then normal, where enough effective failures were seen.
    """
    n = statistics.errors.count
    epsilon = np.array(statistics.epsilons).reshape(-1, 1, 1)
    bounds = {
        bound.__name__: np.asarray(
            bound(prediction.mean, prediction.variance, epsilon, two_sided=True)
        )
        for bound in (chebyshev, cantelli)
    }
    # Two-sided intervals at 2 level: one-sided limits at level.
    if weighted is None:
        confidence = 1 - 2 * level
        low, high = binomial_interval(statistics.exceedances, n, confidence)
        any_low, any_high = binomial_interval(statistics.exceedances_any, n, confidence)
    else:
        low, high = _normal_limits(weighted.exceedances, level)
        any_low, any_high = _normal_limits(weighted.exceedances_any, level)
    any_cantelli = np.minimum(bounds["cantelli"].sum(axis=2), 1)
    return BoundChecks(
        epsilons=statistics.epsilons,
        exceedance=statistics.exceedances / n,
        low=low,
        high=high,
        chebyshev=bounds["chebyshev"],
        cantelli=bounds["cantelli"],
        chebyshev_verdict=_held(low, bounds["chebyshev"]),
        cantelli_verdict=_held(low, bounds["cantelli"]),
        any_exceedance=statistics.exceedances_any / n,
        any_low=any_low,
        any_high=any_high,
        any_cantelli=any_cantelli,
        any_verdict=_held(any_low, any_cantelli),
    )


def _normal_limits(estimate: Estimate, level: float) -> tuple[Array, Array]:
    half = stats.norm.isf(level) * estimate.standard_error
    known = estimate.trusted & np.isfinite(half)
    low = np.where(known, np.maximum(estimate.value - half, 0), 0.0)
    return low, np.where(known, np.minimum(estimate.value + half, 1), 1.0)


def _held(low: Array, bound: Array) -> Array:
    return np.where(low > bound, VIOLATED, HOLDS)


@dataclass(frozen=True, kw_only=True, eq=False)
class MedianChecks:
    """Simulated failures of the component-wise median of R replicas beside the binomial, per input.

    Arrays are (n_replicas, n_epsilons, n_inputs, n_outputs). `expected` is P(Bin(R, delta) >=
    ceil(R / 2)) with the simulated delta, `limit` with its upper confidence limit, `cantelli` with
    Cantelli's delta. The binomial is one of single inputs, never of a delta averaged over inputs.
    hopeless: (n_epsilons, n_inputs, n_outputs), where delta is 1/2 or more and no R helps.
    """

    replicas: tuple[int, ...]
    epsilons: tuple[float, ...]
    groups: Array
    failure: Array
    low: Array
    high: Array
    expected: Array
    limit: Array
    cantelli: Array
    verdict: Array
    cantelli_verdict: Array
    hopeless: Array


def check_medians(statistics: Statistics, bounds: BoundChecks, level: float) -> MedianChecks:
    """Medians of replicas; level: false-alarm rate of one verdict."""
    groups = statistics.median_groups
    n = np.maximum(groups, 1).reshape(-1, 1, 1, 1)
    replicas = np.array(statistics.replicas, np.int64).reshape(-1, 1, 1, 1)
    low, high = binomial_interval(
        statistics.median_exceedances,
        np.broadcast_to(n, statistics.median_exceedances.shape),
        confidence=1 - 2 * level,
    )
    limit = np.asarray(median_failure(bounds.high[None], replicas))
    by_cantelli = np.asarray(median_failure(np.minimum(bounds.cantelli, 1)[None], replicas))
    return MedianChecks(
        replicas=statistics.replicas,
        epsilons=statistics.epsilons,
        groups=groups,
        failure=statistics.median_exceedances / n,
        low=low,
        high=high,
        expected=np.asarray(median_failure(bounds.exceedance[None], replicas)),
        limit=limit,
        cantelli=by_cantelli,
        verdict=_held(low, limit),
        cantelli_verdict=_held(low, by_cantelli),
        hopeless=bounds.exceedance >= 0.5,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class LawChecks:
    """The exact law of the linear surrogate against the simulated distribution.

    Parameters
    ----------
    inputs, outputs : ndarray of int, (n,) and (m,)
        Those it was tested for.
    laws : tuple of n tuples of m SurrogateLaw
    edges : ndarray, (n_edges,)
        Finite edges of the histogram.
    simulated_cdf, predicted_cdf : ndarray, (n, m, n_edges)
        P(error < edge) at positive edges, P(error <= edge) at negative ones.
    band : float
        Half width of the simultaneous band about a simulated distribution (Dvoretzky, Kiefer,
        Wolfowitz).
    distance : ndarray, (n, m)
        Largest difference of the two, after allowing for the lattice of the law.
    verdict : ndarray of str, (n, m)
    zero : Verdicts, (n, m)
        Probability that the error is exactly 0.
    exceedance : ndarray, (n_epsilons, n, m)
        P(|error| >= epsilon) by the law.
    """

    inputs: Array
    outputs: Array
    laws: tuple[tuple[SurrogateLaw, ...], ...]
    edges: Array
    simulated_cdf: Array
    predicted_cdf: Array
    band: float
    distance: Array
    verdict: Array
    zero: Verdicts
    exceedance: Array


def check_laws(
    statistics: Statistics,
    campaign: Campaign,
    prediction: Prediction,
    inputs: Array,
    outputs: Array,
    level: float,
    tolerance: float,
) -> LawChecks:
    """Laws of some outputs for some inputs; level: false-alarm rate of one verdict."""
    n = statistics.errors.count
    edges = campaign.histogram_edges[1:-1]
    middle = len(campaign.histogram_edges) // 2 - 1  # the bin of exact zeros
    laws = tuple(tuple(prediction.distribution(int(i), int(k)) for k in outputs) for i in inputs)
    counts = statistics.histogram[np.ix_(inputs, outputs)]
    simulated = np.cumsum(counts, axis=2)[..., :-1] / n
    predicted = np.array([[_cdf(law, edges) for law in row] for row in laws])
    predicted = predicted.reshape(simulated.shape)
    distance = np.array(
        [
            [_distance(law, edges, simulated[a, k]) for k, law in enumerate(row)]
            for a, row in enumerate(laws)
        ]
    ).reshape(counts.shape[:2])
    band = float(np.sqrt(np.log(2 / level) / (2 * n)))
    if tolerance > 0:
        verdict = np.where(
            distance - band > tolerance,
            DISAGREES,
            np.where(distance + band <= tolerance, AGREES, CANNOT_TELL),
        )
    else:
        verdict = np.where(distance > band, DISAGREES, AGREES)
    at_zero = np.array([[law.mass_at_zero for law in row] for row in laws])
    at_zero = at_zero.reshape(counts.shape[:2])
    zero = judge(
        counts[..., middle] / n,
        binomial_interval(counts[..., middle], n, confidence=1 - level),
        at_zero,
        tolerance,
    )
    exceedance = np.array(
        [
            [[law.exceedance(epsilon) for law in row] for row in laws]
            for epsilon in statistics.epsilons
        ]
    ).reshape(len(statistics.epsilons), *at_zero.shape)
    return LawChecks(
        inputs=inputs,
        outputs=outputs,
        laws=laws,
        edges=edges,
        simulated_cdf=simulated,
        predicted_cdf=predicted,
        band=band,
        distance=distance,
        verdict=verdict,
        zero=zero,
        exceedance=exceedance,
    )


def _cdf(law: SurrogateLaw, edges: Array) -> Array:
    """P(sum < edge) right of 0, P(sum <= edge) left of it; 0 itself apart, whatever the lattice."""
    near = 0.5 * law.step
    moved = np.where(np.abs(edges) < near, np.sign(edges) * near, edges)
    return np.where(edges > 0, 1 - law.sf(moved), law.cdf(moved))


def _distance(law: SurrogateLaw, edges: Array, simulated: Array) -> float:
    """Largest distance of the distributions, were the law's atoms moved by its lattice's error."""
    slack = 2 * law.step + 3 * law.location_error + 1e-6 * np.abs(edges)
    far = np.abs(edges) > slack
    if not far.any():
        return 0.0
    at, by = edges[far], slack[far]
    return float(
        max(
            0.0,
            (simulated[far] - law.cdf(at + by)).max(),
            (law.cdf(at - by) - simulated[far]).max(),
        )
    )


@dataclass(frozen=True, kw_only=True)
class RateCheck:
    """Requested against realised faults of one process.

    Parameters
    ----------
    process : FaultProcess
    draws : int
        Chances to fail: sites x trials, for transient and intermittent faults x inputs too (of an
        onset window of transient faults those in it).
    faults : int
        How many did.
    requested, realised : float
    p_value : float
        Two-sided: exact binomial; for intermittent faults normal with the variance of the chain.
    verdict : str
        "agrees" or "disagrees".
    """

    process: FaultProcess
    draws: int
    faults: int
    requested: float
    realised: float
    p_value: float
    verdict: str


def check_rates(
    campaign: Campaign, faults: Iterable[int], trials: int, level: float
) -> tuple[RateCheck, ...]:
    """Requested against realised rates; faults: the total each process drew."""
    checks = []
    for process, total in zip(campaign.faults, faults, strict=True):
        n_sites = count_sites(campaign.deployment, process)
        p, m = process.probability, campaign.n_inputs
        window = onset_window(process.persistence)
        permanent = isinstance(process.persistence, Permanent)
        draws = n_sites * trials * (1 if permanent else m)
        if isinstance(process.persistence, Transient) and window is not None:
            draws = n_sites * trials * (window[1] - window[0])
        if p in (0, 1) or not isinstance(process.persistence, Intermittent):
            p_value = float(stats.binomtest(int(total), draws, p).pvalue)
        else:
            each, carry = chain_of(process, m)
            p, variance, memory = float(each.mean()), 0.0, 0.0
            for v, b in zip(each * (1 - each), carry, strict=True):
                variance += v + 2 * memory
                memory = b * (memory + v)
            sd = np.sqrt(n_sites * trials * variance)
            p_value = float(2 * stats.norm.sf(abs(total - draws * p) / sd))
        checks.append(
            RateCheck(
                process=process,
                draws=draws,
                faults=int(total),
                requested=p,
                realised=total / draws,
                p_value=p_value,
                verdict=AGREES if p_value >= level else DISAGREES,
            )
        )
    return tuple(checks)
