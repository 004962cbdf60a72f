"""From moments to probabilities: tails, the median of replicas, and intervals for counts.

Functions of numbers and arrays only; arguments broadcast, and each function returns a number for
numbers, an array for arrays. Numbers such as P5 are the paper's (arXiv 1902.01686). A tail bound
is a guarantee only if its moments are: T1's are approximations, exact enumeration and the bounds
of `neurosim.theory.bounds` are not.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from neurosim.errors import InputError
from neurosim.layers import Array
from neurosim.theory.arguments import (
    broadcast,
    counts,
    fraction,
    numbers,
    probabilities,
    weight_matrix,
)

__all__ = [
    "anytime_interval",
    "binomial_interval",
    "cantelli",
    "chebyshev",
    "median_chernoff",
    "median_failure",
    "replicas_needed",
    "smallest_replicas",
    "weight_perturbation",
]

# Beyond this the answer is of no use to anyone, and R + 2 is still exact in a float.
_MOST_REPLICAS = 10**9 + 1


def _tail_arguments(
    mean: npt.ArrayLike, variance: npt.ArrayLike, epsilon: npt.ArrayLike, two_sided: bool
) -> tuple[Array, Array, Array]:
    """E Delta, the standard deviation, epsilon; broadcast."""
    everything = numbers("mean", mean, "finite numbers", np.isfinite)
    spread = numbers("variance", variance, "finite numbers from 0 on", lambda v: v >= 0)
    if two_sided:
        tolerance = numbers(
            "epsilon", epsilon, "finite numbers from 0 on (two-sided)", lambda e: e >= 0
        )
    else:
        tolerance = numbers("epsilon", epsilon, "finite numbers", np.isfinite)
    mean_, spread, tolerance = broadcast(mean=everything, variance=spread, epsilon=tolerance)
    return mean_, np.sqrt(spread), tolerance


def _chebyshev(deviation: Array, t: Array) -> Array:
    """Least of 1 and (deviation / t)^2; 1 where t <= 0."""
    positive = np.where(t > 0, t, 1.0)
    with np.errstate(over="ignore"):
        return np.where(t > 0, np.minimum(1.0, (deviation / positive) ** 2), 1.0)


def _cantelli(deviation: Array, t: Array) -> Array:
    """Var / (Var + t^2); 1 where t <= 0."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        return np.where(t > 0, 1 / (1 + (t / deviation) ** 2), 1.0)


def chebyshev(
    mean: npt.ArrayLike,
    variance: npt.ArrayLike,
    epsilon: npt.ArrayLike,
    two_sided: bool = False,
) -> Array:
    """Bound P(Delta >= epsilon), or P(|Delta| >= epsilon), by Chebyshev's inequality (P5).

    With t = epsilon - E Delta > 0 the probability is at most Var Delta / t^2; where t <= 0 the
    moments say nothing and the bound is 1. Two-sided it is the lesser of Var / (epsilon - |E|)^2
    and (Var + E^2) / epsilon^2. The paper's t = epsilon - E Delta with E Delta < 0 is wrong there.

    Valid also with upper bounds in place of |E Delta| and Var Delta (one-sided: of E Delta),
    since it grows with both. The supplement adds delta_0 of P3 (`weight_perturbation`).

    Parameters
    ----------
    mean, variance : array_like
        E Delta and Var Delta (exact, for a guarantee), in the units of the output and squared.
    epsilon : array_like
        Tolerated error, in the units of the output; at least 0 if two-sided.
    two_sided : bool
        Whether errors of both signs count.

    Returns
    -------
    float or ndarray, the common shape of the arguments
        In [0, 1].

    Raises
    ------
    InputError
        If a value is not finite, a variance is negative, or the shapes do not broadcast.

    Examples
    --------
    >>> float(chebyshev(mean=-1.0, variance=1.0, epsilon=3.0))
    0.0625
    >>> float(chebyshev(mean=-1.0, variance=1.0, epsilon=3.0, two_sided=True).round(4))
    0.2222
    """
    centre, deviation, tolerance = _tail_arguments(mean, variance, epsilon, two_sided)
    if not two_sided:
        return _chebyshev(deviation, tolerance - centre)[()]
    return np.minimum(
        _chebyshev(deviation, tolerance - np.abs(centre)),
        _chebyshev(np.hypot(deviation, centre), tolerance),
    )[()]


def cantelli(
    mean: npt.ArrayLike,
    variance: npt.ArrayLike,
    epsilon: npt.ArrayLike,
    two_sided: bool = False,
) -> Array:
    """Bound P(Delta >= epsilon), or P(|Delta| >= epsilon), by Cantelli's inequality (P5, tighter).

    One-sided Var / (Var + t^2) with t = epsilon - E Delta > 0, never above `chebyshev`; 1 where
    t <= 0. Two-sided it is the least of the two one-sided terms added, with t = epsilon - E Delta
    and t = epsilon + E Delta, and the two terms of `chebyshev`.

    The two-sided sum is valid for the exact mean only, as it may fall while |E Delta| grows: with
    a bound on |E Delta|, use `chebyshev`.

    Parameters
    ----------
    mean, variance : array_like
        E Delta and Var Delta (exact, for a guarantee), in the units of the output and squared.
    epsilon : array_like
        Tolerated error, in the units of the output; at least 0 if two-sided.
    two_sided : bool
        Whether errors of both signs count.

    Returns
    -------
    float or ndarray, the common shape of the arguments
        In [0, 1].

    Raises
    ------
    InputError
        If a value is not finite, a variance is negative, or the shapes do not broadcast.

    Examples
    --------
    >>> float(cantelli(mean=0.0, variance=1.0, epsilon=2.0))
    0.2
    >>> float(cantelli(mean=0.0, variance=1.0, epsilon=2.0, two_sided=True))
    0.25
    """
    centre, deviation, tolerance = _tail_arguments(mean, variance, epsilon, two_sided)
    above = _cantelli(deviation, tolerance - centre)
    if not two_sided:
        return above[()]
    return np.minimum(
        above + _cantelli(deviation, tolerance + centre),
        chebyshev(mean, variance, epsilon, two_sided=True),
    )[()]


def median_failure(delta: npt.ArrayLike, replicas: npt.ArrayLike) -> Array:
    """Bound the failure of a median of R replicas: P(Bin(R, delta) >= ceil(R / 2)), exactly.

    The replicas have the same weights, see the same input and fail independently, each with
    probability delta; the component-wise median is bad only if at least half of them are. Over
    inputs the failure is the mean of median_failure(delta(x), R), NEVER median_failure of the
    mean: replicas share the input. The paper's (1/3)^(R/2) is too small (R = 3: .1925, not .2593).

    Parameters
    ----------
    delta : array_like
        Failure probability of one replica, given the input, in [0, 1].
    replicas : array_like of int
        R, at least 1; odd for the plain median. (Even R: a bound for the mean of the middle two.)

    Returns
    -------
    float or ndarray, the common shape of the arguments
        Relative error below 1e-12 down to 1e-300.

    Raises
    ------
    InputError
        If a value is out of range or the shapes do not broadcast.

    Examples
    --------
    >>> float(median_failure(1 / 3, 3).round(4))  # 7 / 27
    0.2593
    """
    chance = probabilities("delta", delta)
    count = counts("replicas", replicas, 1)
    chance, count = broadcast(delta=chance, replicas=count)
    return np.asarray(stats.binom.sf(np.ceil(count / 2) - 1, count, chance))[()]


def median_chernoff(delta: npt.ArrayLike, replicas: npt.ArrayLike) -> Array:
    """Bound `median_failure` in closed form, by Chernoff: (4 delta (1 - delta))^(R / 2).

    It replaces the paper's (1/3)^(R/2) and delta exp(-R), which are no bounds. 1 where
    delta >= 1/2.

    Parameters
    ----------
    delta : array_like
        Failure probability of one replica, given the input, in [0, 1].
    replicas : array_like of int
        R, at least 1.

    Returns
    -------
    float or ndarray, the common shape of the arguments

    Raises
    ------
    InputError
        If a value is out of range or the shapes do not broadcast.

    Examples
    --------
    >>> float(median_chernoff(0.5, 3)), float(round(median_chernoff(1 / 3, 3), 4))
    (1.0, 0.8381)
    """
    chance = probabilities("delta", delta)
    count = counts("replicas", replicas, 1)
    chance, count = broadcast(delta=chance, replicas=count)
    return np.where(chance < 0.5, (4 * chance * (1 - chance)) ** (count / 2), 1.0)[()]


def replicas_needed(
    delta: npt.ArrayLike,
    target: float,
    outputs: int = 1,
    method: Literal["valid", "paper"] = "valid",
) -> int | None:
    """Find the smallest odd number of replicas whose median fails with probability <= target.

    The failure is E_x sum_k `median_failure` (delta_k(x), R): exact binomial, a union bound over
    outputs, the mean over inputs outside (replicas share the input). Inputs with delta >= 1/2 are
    a floor that no R lowers.

    Parameters
    ----------
    delta : array_like, shape (), (n_inputs,) or (n_inputs, n_outputs)
        Failure probability of one replica: the same for all, per input, or per input and output.
    target : float
        Failure probability wanted, between 0 and 1.
    outputs : int
        Number of outputs that each entry of delta stands for.
    method : "valid" or "paper"
        "paper": the printed 2 ln(outputs / target) / ln 3, cut to a whole number, for any
        delta < 1/3. It rests on the false rule (1/3)^(R/2): use it for comparison only.

    Returns
    -------
    int or None
        None where no number of replicas (up to 10^9) will do; "paper": where delta >= 1/3.

    Raises
    ------
    InputError
        If a value is out of range.

    Examples
    --------
    >>> replicas_needed(0.1, target=1e-5), replicas_needed(0.5, target=1e-5)
    (19, None)
    >>> replicas_needed(0.1, target=1e-5, method="paper")
    20
    """
    chances = probabilities("delta", delta)
    wanted = fraction("target", target)
    union = counts("outputs", outputs, 1)
    if chances.ndim > 2 or chances.size == 0 or union.ndim:
        raise InputError(
            "delta: expected shape (), (n_inputs,) or (n_inputs, n_outputs), not empty, and one "
            f"number of outputs, got {chances.shape} and {outputs!r}"
        )
    if method == "paper":
        if chances.max() >= 1 / 3:
            return None
        return max(1, int(2 * np.log(float(union) / wanted) / np.log(3)))
    if method != "valid":
        raise InputError(f'method: expected "valid" or "paper", got {method!r}')
    n_inputs = chances.shape[0] if chances.ndim else 1
    distinct, repeats = np.unique(chances, return_counts=True)
    weight = repeats * (float(union) / n_inputs)
    low = distinct < 0.5

    def share(part: Array, replicas: int) -> float:
        return float(weight[part] @ median_failure(distinct[part], replicas))

    return smallest_replicas(partial(share, low), partial(share, ~low), wanted)


def smallest_replicas(
    falling: Callable[[int], float], rising: Callable[[int], float], target: float
) -> int | None:
    """Find the smallest odd R with falling(R) + rising(R) <= target; None beyond 10^9.

    Parameters
    ----------
    falling, rising : callable
        Functions of R; the first never rises, the second never falls.
    target : float

    Examples
    --------
    >>> smallest_replicas(lambda r: median_failure(0.1, r), lambda r: 0.0, 1e-5)
    19
    """
    # The answer is at least the first R at which the falling part fits beside the risen part of
    # the R before: go up by such steps.
    replicas = 1
    while replicas <= _MOST_REPLICAS:
        room = target - rising(replicas)
        if falling(replicas) <= room:
            return replicas
        if room <= 0:
            return None
        fits, short = replicas, replicas
        while falling(fits) > room:
            short, fits = fits, 2 * fits + 1
            if fits > 2 * _MOST_REPLICAS:
                return None
        while fits - short > 2:
            middle = short + 2 * ((fits - short) // 4)
            short, fits = (short, middle) if falling(middle) <= room else (middle, fits)
        replicas = fits
    return None


def weight_perturbation(
    weight: npt.ArrayLike,
    probability: npt.ArrayLike,
    alpha: npt.ArrayLike,
    method: Literal["valid", "paper"] = "valid",
) -> Array:
    """Bound the probability that crashes take away a share alpha of the weights (P3's delta_0).

    P{||U||_1 >= alpha ||w||_1} <= exp(-m d_KL(alpha || p)), where w_i = sum_j |W^ij| is what
    neuron i receives and U_i = xi_i w_i. The exponent has m = sum(w) / max(w); the paper's
    m = n q with q = min(w) / max(w) is valid too, and looser. (The participation ratio that AP5
    calls q does not give P3.)

    Parameters
    ----------
    weight : array_like, shape (n_out, n_in)
        W_l. Pass W_{l+1}.T for what the neurons of layer l send.
    probability : array_like
        p_l, the crash probability of a neuron, in [0, 1].
    alpha : array_like
        Share of ||w||_1, in [0, 1]; the bound says nothing (1) where alpha <= p.
    method : "valid" or "paper"
        Which m.

    Returns
    -------
    float or ndarray, the common shape of probability and alpha

    Raises
    ------
    InputError
        If a value is out of range or not finite.

    Examples
    --------
    >>> float(weight_perturbation(np.ones((100, 3)), 0.01, 0.1).round(9))
    5.31e-07
    """
    matrix = weight_matrix(weight)
    if method not in ("valid", "paper"):
        raise InputError(f'method: expected "valid" or "paper", got {method!r}')
    p = probabilities("probability", probability)
    share = numbers("alpha", alpha, "shares in [0, 1]", lambda a: (a >= 0) & (a <= 1))
    p, share = broadcast(probability=p, alpha=share)
    received = np.abs(matrix).sum(axis=1)
    largest = received.max()
    if largest == 0:  # 0 >= alpha * 0 always holds
        return np.ones(p.shape)[()]
    m = len(received) * received.min() if method == "paper" else received.sum()
    divergence = special.rel_entr(share, p) + special.rel_entr(1 - share, 1 - p)
    with np.errstate(invalid="ignore"):  # 0 * inf, when m = 0 and p = 0
        exponent = np.where(m > 0, m / largest * divergence, 0.0)
    return np.where(share > p, np.exp(-exponent), 1.0)[()]


def _count_arguments(successes: npt.ArrayLike, trials: npt.ArrayLike) -> tuple[Array, Array]:
    k, n = broadcast(
        successes=counts("successes", successes, 0), trials=counts("trials", trials, 0)
    )
    if (k > n).any():
        raise InputError(
            f"successes: expected at most as many as trials, got {k[k > n].flat[0]:g} of "
            f"{n[k > n].flat[0]:g}"
        )
    return k, n


def binomial_interval(
    successes: npt.ArrayLike, trials: npt.ArrayLike, confidence: float = 0.95
) -> tuple[Array, Array]:
    """Exact (Clopper-Pearson) confidence interval of a probability from a count.

    For independent trials whose number was fixed beforehand. Under permanent or intermittent
    faults the independent unit is the trial (chip) at one input: pooled counts of (trial, input)
    are not binomial. Looked at again and again while a campaign runs, it fails to keep its
    confidence: use `anytime_interval`. Several intervals hold together at confidence c if each
    is taken at 1 - (1 - c) / number.

    Parameters
    ----------
    successes, trials : array_like of int
        0 <= successes <= trials.
    confidence : float
        Of both limits together; each errs with probability at most (1 - confidence) / 2. For an
        upper limit alone at confidence c ask for 2 c - 1.

    Returns
    -------
    low, high : float or ndarray, the common shape of the counts

    Raises
    ------
    InputError
        If a count or the confidence is out of range.

    References
    ----------
    C. J. Clopper and E. S. Pearson, Biometrika 26 (1934) 404-413.

    Examples
    --------
    >>> [round(float(limit), 4) for limit in binomial_interval(0, 100)]
    [0.0, 0.0362]
    """
    k, n = _count_arguments(successes, trials)
    tail = (1 - fraction("confidence", confidence)) / 2
    some, not_all = k > 0, k < n
    low = np.where(some, special.betaincinv(np.where(some, k, 1), n - k + 1, tail), 0.0)
    high = np.where(not_all, special.betainccinv(k + 1, np.where(not_all, n - k, 1), tail), 1.0)
    return low[()], high[()]


def anytime_interval(
    successes: npt.ArrayLike, trials: npt.ArrayLike, confidence: float = 0.95
) -> tuple[Array, Array]:
    """Confidence interval of a probability that holds at every stopping time at once.

    With probability at least `confidence` the interval holds the true probability after every
    trial 0, 1, 2, ... simultaneously, so a campaign may be watched and stopped at will. It is the
    set of p at which the beta-binomial mixture martingale
    B(k + 1/2, n - k + 1/2) / (B(1/2, 1/2) p^k (1 - p)^(n - k)) stays below 1 / (1 - confidence)
    (Ville's inequality). For independent trials, taken in order.

    Parameters
    ----------
    successes, trials : array_like of int
        0 <= successes <= trials, of all trials so far.
    confidence : float
        Of all intervals together.

    Returns
    -------
    low, high : float or ndarray, the common shape of the counts
        Wider than `binomial_interval`, by a factor that grows as sqrt(log trials).

    Raises
    ------
    InputError
        If a count or the confidence is out of range.

    References
    ----------
    H. Robbins, Ann. Math. Statist. 41 (1970) 1397-1409; S. R. Howard, A. Ramdas, J. McAuliffe,
    J. Sekhon, Ann. Statist. 49 (2021) 1055-1080.

    Examples
    --------
    >>> [round(float(limit), 4) for limit in anytime_interval(0, 100)]
    [0.0, 0.057]
    """
    k, n = _count_arguments(successes, trials)
    tail = 1 - fraction("confidence", confidence)
    level: Array = special.betaln(k + 0.5, n - k + 0.5) - special.betaln(0.5, 0.5) + np.log(tail)

    def outside(x: Array) -> Array:
        """Whether the martingale exceeds its level at p = expit(x)."""
        likelihood: Array = k * special.log_expit(x) + (n - k) * special.log_expit(-x)
        return level > likelihood

    # The likelihood is unimodal with its top at k / n: one end lies on either side of it. On the
    # scale of log-odds bisection keeps the relative precision of small probabilities.
    centre = special.logit((k + 0.5) / (n + 1))
    top = np.where((k > 0) & (k < n), special.logit(k / np.maximum(n, 1)), centre)
    ends: list[Any] = []
    for far, certain in ((-745.0, k == 0), (745.0, k == n)):
        inner, outer = top.copy(), np.full(k.shape, far)
        for _ in range(70):
            middle = (inner + outer) / 2
            out = outside(middle)
            inner, outer = np.where(out, inner, middle), np.where(out, middle, outer)
        ends.append(np.where(certain, 0.0 if far < 0 else 1.0, special.expit(outer)))
    return ends[0][()], ends[1][()]
