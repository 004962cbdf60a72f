"""Certificates: what is called a guarantee holds, by enumeration; what is false is refuted."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from exact import PlainNetwork, enumerate_faults
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

import neurosim as ns
from neurosim.backends import backend_of
from neurosim.certification.certificates import MethodRow, answers
from neurosim.certification.replicas import joined, median_bound, median_replicas, vote_replicas
from neurosim.certification.self_check import CLAIM_HOLDS, CLAIM_REFUTED, self_check
from neurosim.certification.single_chip import (
    THEORY,
    ChipTails,
    plain,
    simulate,
    tails_by_simulation,
    tails_by_theory,
)
from neurosim.runner import compute_chunk
from neurosim.theory.tails import median_failure

ACTIVATIONS = ("relu", "tanh", "sigmoid(4)", "identity", "leaky_relu(0.1)", "softplus")


def small_campaign(seed, n_outputs=None, trials=300, rate=None, n_inputs=2):
    """A random network of at most 10 sites, with its sites as tests/exact.py names them."""
    rng = np.random.default_rng(seed)
    n_outputs = n_outputs or int(rng.integers(1, 4))
    widths = (int(rng.integers(1, 3)), int(rng.integers(2, 5)), n_outputs)
    network = ns.Network.dense(
        weights=[rng.normal(size=(n, m)) for m, n in pairwise(widths)],
        biases=[rng.normal(size=n) for n in widths[1:]],
        activations=[str(rng.choice(ACTIVATIONS)), str(rng.choice(["identity", "softmax"]))]
        if n_outputs > 1
        else [str(rng.choice(ACTIVATIONS)), "identity"],
    )
    p = rate or float(10 ** rng.uniform(-2.5, -0.3))
    faults = [ns.StuckAtZero("neuron", probability=p, layers=(0, 1))]
    sites = [("neuron", 0, i) for i in range(widths[0])]
    sites += [("neuron", 1, i) for i in range(widths[1])]
    probabilities = [p] * len(sites)
    if n_outputs == 1:
        faults.append(ns.StuckAtZero("synapse", probability=p / 2, layers=(2,)))
        extra = [("synapse", 2, 0, j) for j in range(widths[1])]
        sites, probabilities = sites + extra, probabilities + [p / 2] * len(extra)
    campaign = ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=faults,
        inputs=rng.normal(size=(n_inputs, widths[0])),
        trials=trials,
        seed=seed,
        dtype="float64",
    )
    plain_network = PlainNetwork.of(network)
    laws = [enumerate_faults(plain_network, x, sites, probabilities) for x in campaign.inputs]
    return campaign, laws


def a_threshold(laws, rng):
    """An epsilon that some fault set reaches, often the size of an error, where ties are."""
    sizes = np.abs(np.concatenate([law.values.ravel() for law in laws]))
    sizes = sizes[sizes > 1e-9]
    if not len(sizes):
        return 0.1
    return float(rng.choice(sizes)) * float(rng.choice([1.0, 0.7]))


def true_tails(laws, epsilon):
    # Rounding must not hide an error of exactly epsilon from the truth that bounds are held to.
    level = epsilon * (1 + 1e-9)
    return np.array([law.tail(level) for law in laws]), np.array(
        [law.tail_any(level) for law in laws]
    )


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1))
def test_guarantees_hold_on_random_networks(seed):
    campaign, laws = small_campaign(seed)
    epsilon = a_threshold(laws, np.random.default_rng(seed))
    each, some = true_tails(laws, epsilon)
    for method in THEORY:
        tails = tails_by_theory(campaign, epsilon, method)
        if tails.guarantee:
            assert (tails.each >= each - 1e-12).all(), method
            assert (tails.any_output >= some - 1e-12).all(), method
    exact = tails_by_theory(campaign, epsilon, "enumeration")
    at_most = np.array([law.tail_any(epsilon * (1 - 1e-9)) for law in laws])
    assert (exact.any_output <= at_most * (1 + 1e-9)).all()


def true_median_failure(law, epsilon, replicas):
    """P(max_k |median_k| >= epsilon) over all tuples of fault sets."""
    kept = law.probabilities > 0
    values, mass = law.values[kept], law.probabilities[kept]
    total = 0.0
    for sets in product(range(len(mass)), repeat=replicas):
        chosen = list(sets)
        if np.abs(np.median(values[chosen], axis=0)).max() >= epsilon * (1 + 1e-9):
            total += float(np.prod(mass[chosen]))
    return total


@pytest.mark.parametrize("seed", range(12))
def test_the_median_of_three_fails_no_more_than_claimed(seed):
    rng = np.random.default_rng(seed)
    network = ns.Network.dense(
        weights=[rng.normal(size=(4, 2)), rng.normal(size=(2, 4))],
        biases=[rng.normal(size=4), rng.normal(size=2)],
        activations=["tanh", "identity"],
    )
    campaign = ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero("neuron", probability=0.2, layers=(1,))],
        inputs=rng.normal(size=(1, 2)),
        trials=1,
        seed=0,
    )
    sites = [("neuron", 1, i) for i in range(4)]
    law = enumerate_faults(PlainNetwork.of(network), campaign.inputs[0], sites, 0.2)
    epsilon = a_threshold([law], rng)
    tails = tails_by_theory(campaign, epsilon, "enumeration")
    claimed = median_bound(tails, 3)[0]
    truth = true_median_failure(law, epsilon, 3)
    assert truth <= claimed + 1e-12
    # The paper's rule delta^... exp(-R) is no bound: a false one would be seen here.
    assert claimed <= 1.0 or tails.any_output[0] > 0.5


def test_a_certified_number_of_replicas_meets_the_target_in_truth():
    met = 0
    for seed in range(40):
        campaign, laws = small_campaign(seed, n_outputs=1, rate=0.02)
        rng = np.random.default_rng(seed)
        epsilon, delta = a_threshold(laws, rng), 1e-4
        level = epsilon * (1 + 1e-9)
        for method in ("enumeration", "variance-bound", "bernstein"):
            row = MethodRow.of(tails_by_theory(campaign, epsilon, method), delta, "worst")
            if row.replicas is None:
                continue
            for law in laws:  # one output: both signs of the median are binomial
                failure = sum(
                    float(median_failure(law.tail(level, side)[0], row.replicas))
                    for side in ("upper", "lower")
                )
                assert failure <= delta * (1 + 1e-9)
            met += 1
    assert met >= 30


def test_limits_of_simulations_hold_with_their_confidence():
    """Bad limits in more than 5 % of certificates: false-alarm rate of this test below 1e-3."""
    wrong, wrong_frequencies, n = 0, 0, 60
    for seed in range(n):
        campaign, laws = small_campaign(1000 + seed, trials=200)
        epsilon = a_threshold(laws, np.random.default_rng(seed))
        each, some = true_tails(laws, epsilon)
        counting = plain(campaign, epsilon)
        statistics, _ = compute_chunk(counting, backend_of(counting), counting.trials, 0)
        tails = tails_by_simulation(statistics, 0.95)
        wrong += bool((tails.each < each).any() or (tails.any_output < some).any())
        wrong_frequencies += bool((statistics.exceedances_any[0] / 200 < some).any())
    assert stats.binom.sf(wrong - 1, n, 0.05) > 1e-3
    # Negative control: the frequencies themselves are no upper limits.
    assert stats.binom.sf(wrong_frequencies - 1, n, 0.05) < 1e-9


def tails_of(each, any_output=None):
    each = np.asarray(each, float)
    return ChipTails(
        method="given",
        title="given",
        each=each,
        any_output=np.minimum(each.sum(axis=1), 1) if any_output is None else np.array(any_output),
        guarantee=True,
        rests_on="nothing",
    )


def brute_force(tails, delta, over, most=401):
    for r in range(1, most, 2):
        if joined(median_bound(tails, r), over) <= delta:
            return r
    return None


@settings(deadline=None, max_examples=150)
@given(
    each=st.lists(st.lists(st.floats(1e-6, 0.45), min_size=2, max_size=2), min_size=1, max_size=4),
    delta=st.floats(1e-8, 0.4),
    over=st.sampled_from(["worst", "mean"]),
)
def test_the_number_of_replicas_is_the_smallest(each, delta, over):
    tails = tails_of(each)
    found, wanted = median_replicas(tails, delta, over), brute_force(tails, delta, over)
    if wanted is not None:
        # Where B(R, delta_any) counts although delta_any >= 1/2, R may be a little larger.
        assert found == wanted or (found > wanted and (tails.any_output >= 0.5).any())
        assert joined(median_bound(tails, found), over) <= delta


def test_the_binomial_of_a_mean_is_refused():
    """One input of a hundred always fails: that is a floor of 1 %, whatever the replicas."""
    each = np.zeros((100, 1))
    each[7] = 1.0
    tails = tails_of(each)
    assert float(median_failure(tails.any_output.mean(), 9)) < 1e-5  # the false statement
    row = MethodRow.of(tails, 1e-5, "mean")
    assert row.replicas is None
    assert list(row.lost_inputs) == [7]
    assert MethodRow.of(tails, 0.02, "mean").replicas == 1
    assert median_replicas(tails, 1e-5, "worst") is None


def test_a_vote_needs_every_input_below_one_half():
    assert vote_replicas(np.array([0.1]), 1e-5, "worst") == 19
    assert vote_replicas(np.array([0.1, 0.6]), 1e-5, "worst") is None
    assert vote_replicas(np.array([0.1, 0.6]), 0.35, "mean") == 1
    assert vote_replicas(np.array([0.01, 0.01]), 1e-5, "mean") == 5


def test_by_output_and_by_any_output_the_smaller_counts():
    # Ten outputs that fail together: the sum is ten times too large, the binomial of any is right.
    together = tails_of(np.full((1, 10), 0.01), any_output=[0.01])
    apart = tails_of(np.full((1, 10), 0.01))
    assert median_bound(together, 5)[0] == pytest.approx(float(median_failure(0.01, 5)))
    assert median_bound(apart, 5)[0] == pytest.approx(10 * float(median_failure(0.01, 5)))
    assert median_bound(apart, 5)[0] < float(median_failure(0.1, 5))


def equal_shares(n, p):
    """y = the mean of n ones: the error is -Bin(n, p) / n, and that of a mean of R likewise."""
    network = ns.Network.dense(
        weights=[np.full((1, n), 1 / n)], biases=[[0.0]], activations=["identity"]
    )
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero("neuron", probability=p)],
        inputs=np.ones((1, n)),
        trials=1,
        seed=0,
    )


@pytest.mark.parametrize("replicas", [1, 2, 5, 20])
@pytest.mark.parametrize("epsilon", [0.04, 0.07, 0.12])
def test_the_mean_of_replicas_fails_no_more_than_a_binomial_says(replicas, epsilon):
    n, p = 200, 0.02
    campaign = equal_shares(n, p)
    truth = stats.binom.sf(np.ceil(epsilon * n * replicas - 1e-9) - 1, n * replicas, p)
    for method in THEORY[:-1]:
        tails = tails_by_theory(campaign, epsilon, method)
        assert tails.guarantee  # linear: the moments are exact
        assert truth <= tails.mean_failure(replicas)[0] <= 1
        if replicas == 1:
            assert tails.mean_failure(1) == pytest.approx(tails.any_output)
    # A bound that says something, so that one of the wrong power would fall below the truth.
    tails = tails_by_theory(campaign, epsilon, "bernstein")
    if epsilon == 0.07 and replicas == 1:
        assert truth / 2 < tails.any_output[0] < 1e3 * truth < 1
        assert (tails.any_output[0] / 2) ** 2 < truth


@pytest.mark.parametrize("method", THEORY[:-1])
def test_no_mean_of_replicas_lowers_the_bias(method):
    tails = tails_by_theory(equal_shares(200, 0.1), 0.09, method)  # E Delta = -0.1
    assert tails.mean_failure(10**6)[0] == 1
    assert MethodRow.of(tails, 0.01, "worst").mean_replicas is None


@pytest.fixture(scope="module")
def classifier():
    rng = np.random.default_rng(5)
    network = ns.Network.dense(
        weights=[rng.normal(size=(16, 6)) / 2, rng.normal(size=(3, 16)) / 4],
        biases=[np.zeros(16), np.zeros(3)],
        activations=["tanh", "identity"],
    )
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("crossbar-256")),
        faults=[ns.StuckAtZero("neuron", probability=0.01)],
        inputs=rng.normal(size=(6, 6)),
        targets=[0, 1, 2, 0, 1, 2],
        trials=20_000,
        seed=11,
    )


@pytest.fixture(scope="module")
def certificate(classifier):
    return ns.certify(classifier, epsilon=0.4, delta=1e-3, progress=False)


def test_a_certificate_says_what_it_rests_on(certificate, classifier):
    assert certificate.feasible
    assert certificate.replicas % 2 == 1
    assert certificate.best.guarantee
    assert certificate.cores == certificate.replicas * classifier.deployment.n_cores
    text = str(certificate)
    assert "Certified" in text
    assert "Clopper-Pearson limits that hold together at confidence 0.95" in text
    assert "approximation: moments to first order in the faults" in text
    assert certificate.frequency <= certificate.delta_single
    assert certificate.row("simulation").tails.guarantee
    with pytest.raises(ns.InputError, match="method: expected one of"):
        certificate.row("guess")


def test_the_certificate_is_reproducible(certificate, classifier):
    again = ns.certify(classifier, epsilon=0.4, delta=1e-3, progress=False)
    assert str(again) == str(certificate)


def test_moments_over_replicas_take_the_bias_along(certificate):
    row = certificate.row("cantelli-single-fault")
    failure = row.tails.mean_failure
    assert failure(1) == pytest.approx(row.tails.any_output)
    assert joined(failure(row.mean_replicas), "worst") <= 1e-3
    assert joined(failure(row.mean_replicas - 1), "worst") > 1e-3


def test_the_self_check_confirms_true_claims_and_refutes_false_ones(classifier):
    epsilon = 0.2
    campaign = replace(classifier, faults=[ns.StuckAtZero("neuron", probability=0.05)])
    statistics = simulate(plain(campaign, epsilon))
    frequencies = statistics.exceedances_any[0] / statistics.errors.count
    assert frequencies.max() > 0.05  # medians of three fail often enough to be seen
    true = tails_by_simulation(statistics, 0.999)
    false = replace(true, method="false", each=true.each / 2, any_output=true.any_output / 2)
    done = self_check(campaign, epsilon, [true, false], 3, frequencies)
    verdicts = {(c.method, c.replicas): c.verdict for c in done.checks}
    assert verdicts["simulation", 1] == verdicts["simulation", 3] == CLAIM_HOLDS
    assert verdicts["false", 1] == CLAIM_REFUTED
    assert verdicts["false", 3] == CLAIM_REFUTED
    assert done.seed != campaign.seed
    # What the check says it notices, it notices.
    for check in done.checks:
        if check.method == "false":
            assert check.detectable < frequencies.max() * 3


def test_the_self_check_says_what_it_could_not_have_seen(classifier):
    campaign = replace(classifier, faults=[ns.StuckAtZero("neuron", probability=0.001)])
    epsilon = 0.2
    statistics = simulate(plain(campaign, epsilon))
    frequencies = statistics.exceedances_any[0] / statistics.errors.count
    true = tails_by_simulation(statistics, 0.95)
    done = self_check(campaign, epsilon, [true], 5, frequencies)
    certified = next(check for check in done.checks if check.replicas == 5)  # however rare
    assert certified.claimed.max() < certified.detectable
    assert f"from {certified.detectable:.2g} on would have been noticed" in done.sight
    assert "too rare for this check" in done.sight
    assert done.words[0] == done.sight
    assert done.sight in " ".join(str(done).split())
    # Noticed with probability 0.9 from there on: more failures than any claim this small explains.
    level = done.false_alarm_rate / (2 * campaign.n_inputs)
    needed = stats.binom.isf(level, certified.groups, certified.claimed.min()) + 1
    power = stats.binom.sf(needed - 1, certified.groups, certified.detectable)
    assert power == pytest.approx(0.9, abs=1e-6)
    assert stats.binom.sf(needed - 1, certified.groups, 0.8 * certified.detectable) < 0.9
    (three,) = done.unmeasured
    assert (three.replicas, three.too_rare) == (3, True)
    assert f"probabilities from {three.detectable:.2g} on would have been noticed" in done.words[1]
    # A median that did fail so often would be refuted.
    often = self_check(campaign, epsilon, [replace(true, each=true.each * 0 + 1e-9,
                       any_output=true.any_output * 0 + 1e-9)], 3, frequencies)  # fmt: skip
    assert often.refuted
    assert self_check(campaign, epsilon, [true], None, frequencies).sight == ""


def test_bias_and_certain_failures_are_named_as_reasons():
    network = ns.Network.dense(weights=[[[1.0, 0.0]]], biases=[[0.0]], activations=["identity"])
    campaign = ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero("neuron", probability=0.7)],
        inputs=[[1.0, 0.0], [0.1, 0.0]],
        trials=2000,
        seed=0,
    )
    certificate = ns.certify(campaign, epsilon=0.5, delta=0.01, progress=False)
    assert not certificate.feasible
    assert certificate.replicas is None
    assert certificate.cores is None
    assert "The mean error itself is above epsilon at input 0" in certificate.reason
    assert "no number of replicas helps there" in certificate.reason
    assert list(certificate.failing_inputs) == [0]
    assert "Not certified" in certificate.verdict
    # Averaged over the two inputs the first is a floor of 1/2.
    assert not ns.certify(campaign, 0.5, 0.01, over="mean", check=False, progress=False).feasible
    assert ns.certify(campaign, 1.5, 0.01, check=False, progress=False).replicas == 1


def test_theory_says_nothing_about_spikes(classifier):
    spiking = replace(classifier, backend="spiking-compiled")
    statistics = simulate(plain(replace(classifier, trials=50), 0.4))
    rates, spikes = (
        [claim.method for claim in answers(campaign, 0.4, statistics)]
        for campaign in (classifier, spiking)
    )
    assert spikes == ["cantelli-simulated"]
    assert "bernstein" in rates


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "epsilon: expected a finite number above 0"),
        ({"epsilon": [1.0]}, "epsilon: expected a finite number above 0"),
        ({"delta": 0.5}, "delta: expected a probability below 1/2"),
        ({"delta": 0}, "delta: expected a number between 0 and 1"),
        ({"over": "best"}, 'over: expected "worst" or "mean"'),
        ({"confidence": 1.0}, "confidence: expected a number between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(classifier, options, message):
    with pytest.raises(ns.InputError, match=message):
        ns.certify(classifier, **{"epsilon": 0.4, "delta": 1e-3, "progress": False} | options)
