"""Numbers of plain trials, against the binomial itself."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import neurosim as ns
from neurosim.theory.tails import binomial_interval


@settings(deadline=None, max_examples=100)
@given(
    delta=st.floats(1e-7, 0.9),
    confidence=st.floats(0.6, 0.999),
    failures=st.integers(0, 20),
    statements=st.integers(1, 300),
)
def test_the_limit_reaches_the_bound_at_this_number_and_not_before(
    delta, confidence, failures, statements
):
    n = ns.trials_to_bound(delta, confidence=confidence, failures=failures, statements=statements)
    level = (1 - confidence) / statements
    assert stats.binom.cdf(failures, n, delta) <= level * (1 + 1e-7)
    if n - 1 > failures:
        assert stats.binom.cdf(failures, n - 1, delta) > level * (1 - 1e-7)
    assert binomial_interval(failures, n, 1 - 2 * level)[1] <= delta * (1 + 1e-7)


def test_the_rule_of_three():
    assert ns.trials_to_bound(1e-4) == int(np.ceil(np.log(0.05) / np.log1p(-1e-4)))


@pytest.mark.parametrize(("q", "r"), [(0.3, 0.05), (1e-3, 0.1), (1e-6, 0.5), (0.5, 2.0)])
def test_an_estimate_is_within_its_error(q, r):
    n = ns.trials_to_estimate(q, relative_error=r)
    seen = round(n * q)
    low, high = binomial_interval(seen, n)
    # The expected count is rounded here: one failure more or less in the limits.
    assert high <= q * (1 + r) + 1.5 / n
    assert low >= q * (1 - r) - 1.5 / n
    assert n == pytest.approx((1.96 / r) ** 2 * (1 - q) / q, rel=max(0.5, 3 * r), abs=2 / q)


def test_an_estimate_covers_by_simulation_of_the_binomial():
    q, r = 0.01, 0.2
    n = ns.trials_to_estimate(q, relative_error=r)
    inside = stats.binom.cdf(np.floor(n * q * (1 + r)), n, q) - stats.binom.cdf(
        np.ceil(n * q * (1 - r)) - 1, n, q
    )
    assert 0.95 <= inside < 0.98


def test_what_cannot_be_reached_is_refused():
    with pytest.raises(ns.InputError, match="within reach of 2\\^53 trials"):
        ns.trials_to_bound(1e-17)
    with pytest.raises(ns.InputError, match="relative_error: expected a number above 0"):
        ns.trials_to_estimate(0.1, relative_error=0)
    with pytest.raises(ns.InputError, match="failures: expected a whole number"):
        ns.trials_to_bound(0.1, failures=-1)
