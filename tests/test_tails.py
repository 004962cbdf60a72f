from decimal import Decimal, localcontext
from functools import cache
from itertools import product
from math import comb, exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neurosim.errors import InputError
from neurosim.theory.tails import (
    anytime_interval,
    binomial_interval,
    cantelli,
    chebyshev,
    median_chernoff,
    median_failure,
    replicas_needed,
    weight_perturbation,
)

SLACK = 1e-9  # rounding of moments and of epsilon, relative
FALSE_ALARM = 1e-6


def exact_binomial_tail(delta: float, replicas: int) -> Decimal:
    with localcontext(prec=60):
        p, n = Decimal(delta), replicas
        return sum(
            (comb(n, k) * p**k * (1 - p) ** (n - k) for k in range((n + 1) // 2, n + 1)),
            Decimal(0),
        )


laws = st.lists(st.tuples(st.floats(-3, 3), st.integers(1, 20)), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(laws, st.floats(0, 4))
def test_chebyshev_and_cantelli_hold_for_every_discrete_law(law, epsilon):
    value = np.array([v for v, _ in law])
    mass = np.array([m for _, m in law], float)
    mass /= mass.sum()
    mean = mass @ value
    variance = mass @ (value - mean) ** 2
    above = mass[value >= epsilon * (1 + SLACK) + SLACK].sum()
    beyond = mass[np.abs(value) >= epsilon * (1 + SLACK) + SLACK].sum()
    one, tight = chebyshev(mean, variance, epsilon), cantelli(mean, variance, epsilon)
    assert above <= tight + SLACK
    assert tight <= one * (1 + SLACK) <= 1 + SLACK
    both = chebyshev(mean, variance, epsilon, two_sided=True)
    tight_both = cantelli(mean, variance, epsilon, two_sided=True)
    assert beyond <= tight_both + SLACK
    assert tight_both <= both * (1 + SLACK) <= 1 + SLACK


def test_cantelli_is_attained_by_a_law_of_two_points():
    # Delta = t with probability q, else -t q / (1 - q): mean 0, variance t^2 q / (1 - q).
    q, t = 0.2, 3.0
    assert cantelli(0, t**2 * q / (1 - q), t) == pytest.approx(q, rel=1e-12)
    assert chebyshev(0, t**2 * q / (1 - q), t) == pytest.approx(q / (1 - q), rel=1e-12)


def test_each_of_the_three_two_sided_terms_is_sometimes_the_least():
    assert chebyshev(0.5, 1e-4, 1, two_sided=True) == pytest.approx(1e-4 / 0.25)
    assert chebyshev(0.9, 0.01, 1, two_sided=True) == pytest.approx(0.82)
    assert cantelli(0.5, 0.1, 1, two_sided=True) == pytest.approx(0.1 / 0.35 + 0.1 / 2.35)
    assert cantelli(0.0, 0.1, 1, two_sided=True) == pytest.approx(0.1)


def test_where_t_is_not_positive_the_bound_is_one():
    for bound in (chebyshev, cantelli):
        assert bound(2.0, 0.1, 1.0) == 1
        assert bound(1.0, 0.0, 1.0) == 1
        assert bound(-2.0, 0.1, 1.0, two_sided=True) == 1
        assert bound(-2.0, 0.1, 1.0) < 1
        assert bound(0.0, 0.0, 0.0, two_sided=True) == 1


def test_no_variance_means_no_tail_and_tiny_numbers_do_not_break_the_ratio():
    for bound in (chebyshev, cantelli):
        assert bound(0.0, 0.0, 1e-200) == 0
        assert bound(0.0, 0.0, 1e-200, two_sided=True) == 0
        assert bound(0.0, 1e300, 1e-200) == 1
    assert chebyshev(0.0, 1e-300, 1e-149) == pytest.approx(1e-2)


def test_tails_broadcast():
    mean = np.zeros((4, 3))
    assert chebyshev(mean, 0.1, [1, 2, 3]).shape == (4, 3)
    assert cantelli(mean, np.full((4, 1), 0.1), 1.0, two_sided=True).shape == (4, 3)


def test_epsilon_minus_a_negative_mean_is_no_two_sided_bound():
    # Delta = -1 or -0.8, equally likely: |Delta| >= 1 half of the time.
    mean, variance, epsilon = -0.9, 0.01, 1.0
    printed = variance / (epsilon - mean) ** 2
    assert printed < 0.003 < 0.5 <= chebyshev(mean, variance, epsilon, two_sided=True)
    assert cantelli(mean, variance, epsilon, two_sided=True) >= 0.5


@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 5, 19, 20, 21, 101, 155, 501, 1001])
def test_median_failure_is_exact_to_1e_12_down_to_1e_300(replicas):
    deltas = [
        1e-300,
        1e-150,
        1e-60,
        1e-20,
        1e-9,
        1e-5,
        1e-3,
        0.01,
        0.1,
        1 / 3,
        0.49,
        0.5,
        0.51,
        0.9,
    ]
    checked = 0
    for delta, got in zip(deltas, median_failure(deltas, replicas), strict=True):
        exact = exact_binomial_tail(delta, replicas)
        if exact >= Decimal("1e-300"):
            checked += 1
            assert abs(Decimal(float(got)) / exact - 1) < Decimal("1e-12"), delta
    assert checked >= 6


def test_median_failure_at_certain_probabilities():
    np.testing.assert_array_equal(median_failure([0, 1], [[1], [3], [4]]), [[0, 1]] * 3)


@settings(max_examples=100, deadline=None)
@given(laws, st.sampled_from([1, 2, 3, 4, 5]), st.floats(0.01, 3))
def test_the_median_of_independent_replicas_never_fails_more_often(law, replicas, epsilon):
    value = np.array([v for v, _ in law])
    mass = np.array([m for _, m in law], float)
    mass /= mass.sum()
    delta = mass[np.abs(value) >= epsilon].sum()
    failure = (
        sum(
            np.prod(mass[list(which)])
            for which in product(range(len(law)), repeat=replicas)
            if abs(np.median(value[list(which)])) >= epsilon
        )
        if len(law) ** replicas <= 4096
        else 0.0
    )
    assert failure <= median_failure(min(delta, 1.0), replicas) + SLACK


def test_the_papers_median_rule_is_false_at_three_replicas():
    assert median_failure(1 / 3, 3) == pytest.approx(7 / 27, rel=1e-14)
    assert round((1 / 3) ** 1.5, 4) == 0.1925
    assert median_failure(1 / 3, 3) > (1 / 3) ** 1.5
    assert median_failure(1 / 3, 3) > np.exp(-3) / 3  # delta exp(-R)
    assert median_failure(1 / 3, 21) > 1000 * 1e-5  # the printed R = 20 was to reach 1e-5


def test_chernoff_bounds_the_median():
    delta = np.linspace(0, 1, 101)[:, None]
    replicas = np.arange(1, 300, 2)
    assert (median_chernoff(delta, replicas) >= median_failure(delta, replicas)).all()
    assert median_chernoff(0.1, 5) == pytest.approx(0.36**2.5)
    assert median_chernoff(0.7, 5) == 1


def test_the_joint_delta_must_not_be_put_into_the_binomial():
    delta = np.zeros(100)
    delta[3] = 1.0  # one input in a hundred always fails, on every replica
    true = np.mean(median_failure(delta, 5))
    assert true == 0.01
    assert median_failure(delta.mean(), 5) < 1.1e-5 < true


@pytest.mark.parametrize(("delta", "replicas"), [(1 / 3, 155), (0.1, 19), (0.01, 5), (0.0, 1)])
def test_replicas_needed_for_1e_5(delta, replicas):
    assert replicas_needed(delta, 1e-5) == replicas


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0, 0.7), min_size=1, max_size=6),
    st.floats(1e-6, 0.9),
    st.integers(1, 10),
)
def test_replicas_needed_is_the_first_odd_number_that_does(deltas, target, outputs):
    failure = outputs * median_failure(np.array(deltas)[:, None], np.arange(1, 2000, 2)).mean(0)
    near = np.isclose(failure, target, rtol=1e-9, atol=0)
    fits = np.flatnonzero(failure <= target)
    got = replicas_needed(deltas, target, outputs=outputs)
    if near.any():
        return
    if len(fits):
        assert got == 2 * fits[0] + 1
    else:
        assert got is None or got > 1999


def test_replicas_needed_sums_over_outputs_and_averages_over_inputs():
    delta = np.array([[0.1, 0.2], [0.05, 0.3]])
    replicas = replicas_needed(delta, 1e-4)
    assert median_failure(delta, replicas).sum(1).mean() <= 1e-4
    assert median_failure(delta, replicas - 2).sum(1).mean() > 1e-4
    assert replicas_needed(0.1, 1e-4, outputs=10) == replicas_needed(np.full((7, 10), 0.1), 1e-4)


def test_inputs_that_fail_half_of_the_time_cannot_be_saved():
    assert replicas_needed(0.5, 1e-5) is None
    assert replicas_needed([0.001] * 99 + [0.5], 1e-3) is None
    # Where the hopeless input gets worse while the others get better, the window is found.
    assert replicas_needed([0.6, 0.3], 0.44) == 3
    assert replicas_needed([0.6, 0.3], 0.43) == 5
    assert replicas_needed([0.6, 0.3], 0.415) is None


def test_the_papers_number_of_replicas():
    assert replicas_needed(0.3, 1e-5, method="paper") == 20
    assert replicas_needed(0.01, 1e-5, method="paper") == 20  # the rule ignores delta
    assert replicas_needed(1 / 3, 1e-5, method="paper") is None
    assert replicas_needed(0.3, 1e-5, outputs=10, method="paper") == int(2 * log(1e6) / log(3))
    assert median_failure(0.3, 20) > 1e-5


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=10),
    st.floats(1e-4, 0.5),
    st.floats(0, 1),
)
def test_p3_holds_with_both_exponents(received, p, alpha):
    received = np.array(received)
    weight = np.stack([received / 2, -received / 2], axis=1)
    alive = np.array(list(product([0, 1], repeat=len(received))))
    mass = np.prod(np.where(alive, p, 1 - p), axis=1)
    total = received.sum()
    lost = mass[alive @ received >= alpha * total * (1 + SLACK)].sum() if total else 1.0
    valid, paper = (weight_perturbation(weight, p, alpha, method=m) for m in ("valid", "paper"))
    assert lost <= valid + SLACK
    assert valid <= paper * (1 + SLACK) <= 1 + SLACK
    if alpha <= p:
        assert valid == 1


def test_p3_of_equal_weights_is_the_chernoff_bound_of_the_binomial():
    n, p, alpha = 50, 0.01, 0.1
    divergence = alpha * log(alpha / p) + (1 - alpha) * log((1 - alpha) / (1 - p))
    weight = np.full((n, 4), -0.3)
    for method in ("valid", "paper"):
        got = weight_perturbation(weight, p, alpha, method=method)
        assert got == pytest.approx(exp(-n * divergence), rel=1e-12)
    uneven = np.array([[1.0], [0.5]])
    d = log(1 / p)
    assert weight_perturbation(uneven, p, 1.0) == pytest.approx(exp(-1.5 * d))
    assert weight_perturbation(uneven, p, 1.0, method="paper") == pytest.approx(exp(-2 * 0.5 * d))


def test_p3_at_its_limits():
    weight = [[1.0], [0.0]]
    assert weight_perturbation(weight, 0.0, 0.5) == 0
    assert weight_perturbation(weight, 1.0, 1.0) == 1
    assert weight_perturbation(weight, 0.0, 0.5, method="paper") == 1
    assert weight_perturbation([[0.0]], 0.1, 0.5) == 1
    assert weight_perturbation(weight, [0.1, 0.2, 0.3], [[0.5], [0.6]]).shape == (2, 3)


def test_ap5s_participation_ratio_does_not_give_p3():
    weight = np.array([1.0] + [0.1] * 9)[:, None]
    p, alpha = 0.01, 1 / 1.9  # the first neuron alone is that share
    divergence = alpha * log(alpha / p) + (1 - alpha) * log((1 - alpha) / (1 - p))
    q = weight.sum() ** 2 / (10 * (weight**2).sum())
    assert exp(-10 * q * divergence) < 0.5 * p
    assert weight_perturbation(weight, p, alpha) >= p


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999999])
def test_clopper_pearson_covers_every_probability(confidence):
    tail = (1 - confidence) / 2
    for n in (0, 1, 7, 40):
        k = np.arange(n + 1)
        low, high = binomial_interval(k, n, confidence)
        for p in [1e-7, 1e-3, 0.05, 0.3, 0.5, 0.77, 0.999]:
            mass = stats.binom.pmf(k, n, p)
            assert mass[p < low].sum() <= tail * (1 + 1e-9)
            assert mass[p > high].sum() <= tail * (1 + 1e-9)
        for i in range(1, n):  # and no wider than it must be
            assert stats.binom.sf(i - 1, n, low[i]) == pytest.approx(tail, rel=1e-8)
            assert stats.binom.cdf(i, n, high[i]) == pytest.approx(tail, rel=1e-8)


def test_clopper_pearson_agrees_with_scipy():
    expected = stats.binomtest(7, 1000).proportion_ci(0.99, method="exact")
    assert binomial_interval(7, 1000, 0.99) == pytest.approx((expected.low, expected.high))
    assert binomial_interval(0, 10)[0] == 0
    assert binomial_interval(10, 10)[1] == 1


LAST = 500


@cache
def interval_table(interval, confidence):
    """Limits after n = 0..LAST trials (rows) with k successes (columns; k <= n)."""
    n, k = np.mgrid[: LAST + 1, : LAST + 1]
    return interval(np.minimum(k, n), n, confidence)


def ever_missed(p: float, interval, confidence: float) -> float:
    """Exact probability that some interval after trials 1..LAST misses p."""
    mass = np.array([1.0])  # of the paths that were covered so far, by number of successes
    low, high = interval_table(interval, confidence)
    for n in range(1, LAST + 1):
        mass = np.append(mass * (1 - p), 0) + np.append(0, mass * p)
        mass[(p < low[n, : n + 1]) | (p > high[n, : n + 1])] = 0
    return 1 - mass.sum()


@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.95])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_anytime_interval_holds_at_all_times_together(p, confidence):
    assert ever_missed(p, anytime_interval, confidence) <= 1 - confidence


def test_clopper_pearson_at_every_step_does_not():
    assert ever_missed(0.3, binomial_interval, 0.95) > 0.05


def test_anytime_coverage_by_simulation_with_clopper_pearson_as_negative_control():
    # 4000 runs watched after each of 500 trials. If at most 10 % of all runs ever miss, more than
    # `most` of these do with probability at most FALSE_ALARM.
    runs, p, confidence = 4000, 0.2, 0.9
    most = stats.binom.isf(FALSE_ALARM, runs, 1 - confidence)
    rng = np.random.default_rng(20240607)
    successes = np.cumsum(rng.random((runs, LAST)) < p, axis=1)
    missed = {}
    for interval in (anytime_interval, binomial_interval):
        low, high = interval_table(interval, confidence)
        out = (p < low) | (p > high)
        missed[interval] = int(out[np.arange(1, LAST + 1), successes].any(axis=1).sum())
    assert missed[anytime_interval] <= most
    assert missed[binomial_interval] > most


def test_the_anytime_interval_solves_its_equation():
    k, n, tail = 3, 50, 0.05
    low, high = anytime_interval(k, n, 1 - tail)
    for p in (low, high):
        martingale = exp(stats.betabinom.logpmf(k, n, 0.5, 0.5) - stats.binom.logpmf(k, n, p))
        assert martingale == pytest.approx(1 / tail, rel=1e-9)
    assert 0 < low < k / n < high < 1


def test_the_anytime_interval_at_its_limits():
    assert anytime_interval(0, 0) == (0, 1)
    low, high = anytime_interval([0, 5], [5, 5])
    assert low[0] == 0
    assert high[1] == 1
    assert 1 - low[1] == pytest.approx(high[0])
    low, high = anytime_interval(1, 10**9)
    assert 1e-16 < low < 1e-9 < high < 1e-7


@pytest.mark.parametrize("interval", [anytime_interval, binomial_interval])
def test_intervals_shrink_with_the_square_root_of_the_trials(interval):
    n = np.array([10**4, 10**6])
    low, high = interval(n // 4, n, 0.95)
    width = high - low
    assert width[1] < width[0] / 7
    assert (low < 0.25).all()
    assert (high > 0.25).all()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: chebyshev(0, -1, 1), "variance"),
        (lambda: chebyshev(np.nan, 1, 1), "mean"),
        (lambda: cantelli(0, 1, np.inf), "epsilon"),
        (lambda: cantelli(0, 1, -1, two_sided=True), "epsilon"),
        (lambda: chebyshev([0, 1], [1, 2, 3], 1), "broadcast"),
        (lambda: chebyshev("0", 1, 1), "mean"),
        (lambda: chebyshev([[0], [1, 2]], 1, 1), "mean"),
        (lambda: median_failure(1.5, 3), "delta"),
        (lambda: median_failure(0.5, 0), "replicas"),
        (lambda: median_chernoff(0.5, 1.5), "replicas"),
        (lambda: replicas_needed(0.1, 0), "target"),
        (lambda: replicas_needed(0.1, [0.1]), "target"),
        (lambda: replicas_needed(0.1, 0.1, outputs=0), "outputs"),
        (lambda: replicas_needed([], 0.1), "delta"),
        (lambda: replicas_needed(0.1, 0.1, method="fast"), "method"),
        (lambda: weight_perturbation([1.0], 0.1, 0.2), "weight"),
        (lambda: weight_perturbation([[np.inf]], 0.1, 0.2), "weight"),
        (lambda: weight_perturbation([[1.0]], 0.1, 1.2), "alpha"),
        (lambda: weight_perturbation([[1.0]], 0.1, 0.2, method="tight"), "method"),
        (lambda: binomial_interval(3, 2), "successes"),
        (lambda: binomial_interval(1, 2, 1.0), "confidence"),
        (lambda: anytime_interval(0.5, 2), "successes"),
        (lambda: anytime_interval(-1, 2), "successes"),
        (lambda: binomial_interval(1, 1e300), "trials"),
        (lambda: chebyshev("0", 1, 1), "got '0'"),
    ],
)
def test_bad_arguments_are_named(call, name):
    with pytest.raises(InputError, match=name):
        call()
