"""The fault rate a chip may have: against closed forms, and what it claims in truth."""

import numpy as np
import pytest
from scipy import optimize, stats

import neurosim as ns


def summing(n, p, trials=1000, process="neuron", weight=None):
    """y = sum of n inputs that are all 1: the error is the number of dead inputs."""
    network = ns.Network.dense(
        weights=[np.ones((1, n)) if weight is None else weight],
        biases=[[0.0]],
        activations=["identity"],
    )
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero(process, probability=p)],
        inputs=np.ones((1, n)),
        trials=trials,
        seed=3,
    )


def true_rate(n, failures, delta):
    """p with P(Bin(n, p) >= failures) = delta."""
    return optimize.brentq(lambda p: stats.binom.sf(failures - 1, n, p) - delta, 1e-12, 0.5)


@pytest.mark.parametrize("start", [1e-6, 0.01, 0.4])
def test_by_enumeration_it_is_the_root_of_a_binomial(start):
    found = ns.largest_probability(
        summing(8, start), 3.0, 1e-3, method="enumeration", precision=1e-6
    )
    assert found.probability == pytest.approx(true_rate(8, 3, 1e-3), rel=2e-6)
    assert found.failure <= 1e-3
    assert found.limited
    assert found.tails.guarantee


def test_replicas_allow_a_larger_rate():
    campaign = summing(8, 0.01)
    single, three = (
        ns.largest_probability(
            campaign, 3.0, 1e-3, replicas=r, method="enumeration", precision=1e-6
        ).probability
        for r in (1, 3)
    )
    per_chip = optimize.brentq(lambda d: 3 * d**2 - 2 * d**3 - 1e-3, 0, 0.5)
    assert three == pytest.approx(true_rate(8, 3, per_chip), rel=1e-5)
    assert three > 2 * single


@pytest.mark.parametrize("method", ["variance-bound", "bernstein", "cantelli-single-fault"])
def test_bounds_allow_less_than_the_truth(method):
    found = ns.largest_probability(summing(100, 1e-3), 10.0, 1e-2, method=method)
    assert 0 < found.probability < true_rate(100, 10, 1e-2)
    assert found.tails.guarantee  # linear: the moments of single faults are exact


def test_simulation_allows_less_than_the_truth_but_not_much_less():
    """The limit holds with confidence 0.95 whatever the number of rates tried."""
    truth = true_rate(50, 4, 0.02)
    found = ns.largest_probability(summing(50, 1e-3, trials=20_000), 4.0, 0.02)
    assert 0.8 * truth < found.probability < truth
    assert found.evaluations < 20
    # The same question, asked from elsewhere, has nearly the same answer.
    other = ns.largest_probability(summing(50, 0.1, trials=20_000), 4.0, 0.02)
    assert other.probability == pytest.approx(found.probability, rel=0.06)


def test_a_target_that_nothing_can_miss():
    found = ns.largest_probability(summing(4, 0.01), 10.0, 1e-3, method="enumeration")
    assert not found.limited
    assert found.probability == 1.0
    assert "every rate meets the target" in str(found)


def test_several_processes_keep_their_proportions():
    network = ns.Network.dense(weights=[np.ones((1, 5))], biases=[[0.0]], activations=["identity"])
    campaign = ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[
            ns.StuckAtZero("neuron", probability=1e-3),
            ns.StuckAtZero(
                "synapse", probability=2e-3, persistence=ns.Intermittent(mean_duration=2)
            ),
        ],
        inputs=np.ones((1, 5)),
        trials=10,
        seed=0,
    )
    found = ns.largest_probability(campaign, 1.5, 1e-3, method="enumeration")
    assert found.probabilities[1] == pytest.approx(2 * found.probabilities[0])
    assert found.probabilities[0] == pytest.approx(1e-3 * found.factor)
    # An intermittent fault of bursts of 2 presentations lasts at most 2/3 of the time.
    all_of_it = ns.largest_probability(campaign, 10.0, 1e-3, method="enumeration")
    assert all_of_it.probabilities[1] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicas": 2}, "replicas: expected an odd number"),
        ({"method": "guess"}, "method: expected one of simulation"),
        ({"delta": 1e-7}, "trials: expected at least"),
        ({"over": "all"}, "over: expected"),
        ({"epsilon": -1}, "epsilon: expected a finite number above 0"),
        ({"precision": 0}, "precision: expected a number between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ns.InputError, match=message):
        ns.largest_probability(summing(4, 0.01), **{"epsilon": 2.0, "delta": 0.1} | options)


def test_no_rate_at_all_is_refused():
    with pytest.raises(ns.InputError, match="expected a fault probability above 0"):
        ns.largest_probability(summing(4, 0.0), 2.0, 0.1)
