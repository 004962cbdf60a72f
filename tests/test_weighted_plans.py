"""Weighted plans: unbiased against all fault sets, same bits whatever happens, honest errors.

False-alarm rate of every random test: 1e-6.
"""

import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from exact import ExactLaw, fault_sets, loss_value, set_probabilities
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from test_exceedance import (
    ALARM,
    MIXED,
    NEURONS,
    PHYSICAL,
    exact_law,
    network,
    physical_campaign,
    physical_law,
)
from test_runner import assert_same

import neurosim as ns
from neurosim.certification import resolution, search
from neurosim.errors import CampaignMismatchError, InputError, TraceError
from neurosim.sampling import PERIOD, FaultLaw, Mixture
from neurosim.sampling.weighted import Draws

EPSILONS = (0.4, 1.2)
PLANS = {
    "stratified": ns.Stratified(),
    "without control": ns.Stratified(control_variate=False),
    "own strata": ns.Stratified(strata=(2, 3, 5), allocation=(200, 200, 112)),
    "tilted": ns.ImportanceTilted(epsilon=1.2),
}


def campaign(plan, faults=NEURONS, widths=(4, 4, 3), activation="tanh", trials=8000, **options):
    net = network(widths, activation)
    inputs = np.random.default_rng(11).uniform(0.2, 1, size=(2, widths[0]))
    values = {
        "deployment": ns.deploy(net, ns.Chip.load("ideal")),
        "faults": faults,
        "inputs": inputs,
        "trials": trials,
        "seed": 3,
        "dtype": "float64",
        "epsilons": EPSILONS,
        "targets": [0, 2],
        "loss": "squared_error",
        "plan": plan,
        **options,
    }
    return ns.Campaign(**values)


@pytest.fixture
def simulated(tmp_path):
    """A function that runs a resolved campaign and returns what its trace says."""
    found = []

    def simulate(work, **options):
        path = tmp_path / f"{len(found)}.h5"
        found.append(ns.run(work, path, progress=False, **options))
        return found[-1]

    yield simulate
    for trace in found:
        trace.close()


def z_values(trace, work, law_of=exact_law):
    """(estimate - truth) / standard error of everything that is estimated."""
    weighted, golden, zs = trace.weighted, trace.golden, []
    for x in range(work.n_inputs):
        law = law_of(work, x)
        outputs = law.values + golden[x]
        target = work.target_outputs[x]
        rise = loss_value("squared_error", outputs, target)
        rise = rise - loss_value("squared_error", golden[x][None], target)
        changed = outputs.argmax(axis=1) != golden[x].argmax()
        pairs = [
            (weighted.mean, x, law.mean),
            (weighted.second_moment, x, law.expectation(lambda v: v**2)),
            (weighted.variance, x, law.variance),
            (weighted.loss, x, law.probabilities @ rise),
            (weighted.class_changes, x, law.probabilities @ changed),
            *((weighted.exceedances, (e, x), law.tail(v)) for e, v in enumerate(EPSILONS)),
            *((weighted.exceedances_any, (e, x), law.tail_any(v)) for e, v in enumerate(EPSILONS)),
        ]
        for estimate, at, truth in pairs:
            # What is exact is known to rounding.
            slack = 1e-12 * np.maximum(np.abs(truth), 1e-3)
            error = np.hypot(estimate.standard_error[at], slack)
            zs.append(np.atleast_1d((estimate.value[at] - truth) / error))
    return np.concatenate(zs)


def alarming(zs):
    return np.abs(zs).max() > stats.norm.isf(ALARM / 2 / zs.size)


@pytest.mark.parametrize("faults", [NEURONS, MIXED])
@pytest.mark.parametrize("plan", PLANS)
def test_every_estimate_is_that_of_all_fault_sets(simulated, plan, faults):
    widths = (4, 4, 3) if faults is NEURONS else (4, 3, 3)
    work = ns.resolve(campaign(PLANS[plan], faults, widths))
    assert not alarming(z_values(simulated(work), work))


@pytest.mark.parametrize("faults", PHYSICAL.values(), ids=PHYSICAL.keys())
@pytest.mark.parametrize("plan", [ns.Stratified(), ns.ImportanceTilted(epsilon=0.4)])
def test_rows_columns_cores_and_links_are_sites_too(simulated, plan, faults):
    options = {"targets": [0, 1], "loss": "squared_error", "epsilons": EPSILONS}
    work = replace(physical_campaign(faults, plan=plan, **options), trials=4000)
    trace = simulated(ns.resolve(work))
    zs = z_values(trace, work, lambda *about: ExactLaw(*physical_law(*about)))
    assert not alarming(zs)


def test_certain_faults_are_part_of_every_set(simulated):
    faults = [
        ns.StuckAtZero("neuron", probability=1.0, layers=[2]),
        ns.StuckAtZero("neuron", probability=0.05, layers=[0, 1]),
    ]
    for plan in PLANS.values():
        work = ns.resolve(campaign(plan, faults, (4, 3, 3, 2), targets=[0, 1]))
        assert not alarming(z_values(simulated(work), work))


@pytest.mark.parametrize("plan", ["stratified", "without control", "tilted"])
@pytest.mark.parametrize("probability", [0, 1])
def test_faults_that_never_or_always_happen_leave_nothing_to_draw(tmp_path, plan, probability):
    faults = [ns.StuckAtZero("neuron", probability=probability, layers=[1])]
    chosen = ns.resolve(campaign(PLANS[plan], faults, trials=20))
    fault_set = replace(chosen, plan=ns.PlainMonteCarlo()).fault_set(0)
    error = ns.evaluate(chosen.deployment, fault_set, chosen.inputs, dtype="float64")
    with ns.run(chosen, tmp_path / "certain.h5", progress=False) as trace:
        np.testing.assert_allclose(trace.mean, error, rtol=0, atol=1e-14)
        np.testing.assert_allclose(trace.variance, 0, atol=1e-14)
        assert (trace.exceedances[0] == 20 * (abs(error) >= EPSILONS[0])).all()
        assert abs(error).max() > EPSILONS[0] or not probability


def test_transient_faults_are_tilted_as_permanent_ones_are(simulated):
    faults = [ns.StuckAtZero("neuron", probability=0.03, persistence=ns.Transient())]
    work = ns.resolve(campaign(PLANS["tilted"], faults))
    assert not alarming(z_values(simulated(work), work))


@pytest.mark.parametrize("plan", PLANS)
def test_standard_errors_are_those_between_seeds(simulated, plan):
    squares = []
    for seed in range(30):
        work = ns.resolve(campaign(PLANS[plan], trials=1024, seed=seed, loss=None))
        weighted = simulated(work).weighted
        law = exact_law(work, 0)
        pairs = [
            (weighted.mean.value[0], weighted.mean.standard_error[0], law.mean),
            (weighted.exceedances.value[0, 0], weighted.exceedances.standard_error[0, 0],
             law.tail(EPSILONS[0])),
        ]  # fmt: skip
        squares.append([((v - t) / np.maximum(e, 1e-12)) ** 2 for v, e, t in pairs])
    # Means of 30 squares; laws of a mixture share their draws evenly, so errors may be large.
    means = np.mean(squares, axis=0)
    assert (means < stats.chi2.isf(ALARM, 30) / 30).all()
    assert np.median(means) > 0.3


def test_what_is_enumerated_is_exact(simulated):
    work = ns.resolve(campaign(PLANS["without control"]))
    trace = simulated(work)
    for x in range(2):
        law = exact_law(work, x)
        few = fault_sets(8).sum(axis=1) < 2
        weighted = trace.weighted.enumerated
        chances = law.probabilities[few]
        np.testing.assert_allclose(weighted.mean[0, 0, x], chances @ law.values[few], rtol=1e-9)
        np.testing.assert_allclose(weighted.weights[0, 0, x], chances.sum(), rtol=1e-12)
        tail = chances @ (np.abs(law.values[few]) >= EPSILONS[0])
        np.testing.assert_allclose(weighted.exceedances[0, 0, 0, x], tail, rtol=1e-12)
    # Whole periods have the exact shares of all strata, so all probabilities add up to 1.
    whole = simulated(replace(work, trials=4 * PERIOD)).weighted
    np.testing.assert_allclose(whole.total_weight.value, 1, rtol=1e-12)


def test_histogram_quantiles_extremes_and_accuracy(simulated):
    for plan in PLANS.values():
        work = ns.resolve(campaign(plan, trials=20_000))
        trace = simulated(work)
        np.testing.assert_allclose(trace.histogram.sum(axis=-1), trace.completed)
        right = []
        for x in range(2):
            law = exact_law(work, x)
            for q in (0.02, 0.98):
                for k in range(3):
                    found = trace.quantile(q)[x, k]
                    below = law.probabilities @ (law.values[:, k] <= found * 1.26 + 1e-9)
                    above = law.probabilities @ (law.values[:, k] <= found / 1.26 - 1e-9)
                    low, high = (above, below) if found >= 0 else (
                        law.probabilities @ (law.values[:, k] <= found * 1.26 - 1e-9),
                        law.probabilities @ (law.values[:, k] <= found / 1.26 + 1e-9),
                    )  # fmt: skip
                    assert low - 0.02 <= q <= high + 0.02
            assert (trace.minimum[x] >= law.values.min(axis=0) - 1e-9).all()
            assert (trace.maximum[x] <= law.values.max(axis=0) + 1e-9).all()
            label = work.labels[x]
            right.append(law.probabilities @ ((law.values + trace.golden[x]).argmax(1) == label))
        low, high = trace.accuracy_interval(1 - ALARM)
        assert low <= np.mean(right) <= high
        assert high - low < 0.2


WRONG = {
    "the weight dropped": (Mixture, "weights", lambda right: lambda *a: np.ones_like(right(*a))),
    "a tilt a tenth too small": (
        Mixture, "log_ratios", lambda right: lambda *a: 0.9 * right(*a)),
    "the probability of the stratum forgotten": (
        FaultLaw, "mass", lambda right: property(lambda law: 1.0)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "plan"),
    [
        ("the weight dropped", "without control"),
        ("the weight dropped", "tilted"),
        ("a tilt a tenth too small", "tilted"),
        ("the probability of the stratum forgotten", "own strata"),
    ],
)
def test_a_wrong_weight_is_caught(simulated, monkeypatch, wrong, plan):
    """The negative controls."""
    work = ns.resolve(campaign(PLANS[plan]))
    place, name, change = WRONG[wrong]
    right = place.__dict__[name]
    monkeypatch.setattr(place, name, change(right))
    work = replace(work, plan=replace(work.plan, resolved=replace(work.plan.resolved)))
    for draws in work.plan.resolved.groups:
        draws.__dict__.pop("mixture", None)
    assert alarming(z_values(simulated(work), work))


def conditional(law):
    """Probability of every set under a law, from its definition."""
    n = len(law.probability)
    sizes, chances = fault_sets(n).sum(axis=1), set_probabilities(n, law.probability)
    held = (sizes >= law.least) & (sizes <= (n if law.most is None else law.most))
    return np.where(held, chances, 0) / chances[held].sum()


@pytest.mark.parametrize("plan", PLANS)
def test_weights_are_the_ratio_of_the_laws_for_every_set(plan):
    work = ns.resolve(campaign(PLANS[plan], NEURONS, (3, 3, 2), targets=[0, 1]))
    for draws in work.draws.groups:
        n, shares = len(draws.sites.probability), draws.counts / PERIOD
        sets = fault_sets(n)
        many = sets.sum(axis=1) >= 2
        rows, sites = np.nonzero(sets[many])
        offsets = np.concatenate([[0], np.cumsum(np.bincount(rows))])
        weights = draws.mixture.weights(shares, draws.mixture.log_ratios(offsets, sites))
        chances = sum(s * conditional(law) for s, law in zip(shares, draws.laws, strict=True))
        truth = set_probabilities(n, draws.sites.probability)
        np.testing.assert_allclose(chances[many] * weights, truth[many], rtol=1e-9)
        assert chances[many].sum() == pytest.approx(1)
        assert weights.max() <= draws.largest_weight * (1 + 1e-9)


@settings(max_examples=10, deadline=None)
@given(
    probabilities=st.lists(st.floats(1e-6, 0.4), min_size=1, max_size=2),
    seed=st.integers(0, 2**64 - 1),
    tilted=st.booleans(),
    first=st.integers(0, 3000),
    n=st.integers(1, 300),
    cut=st.integers(0, 300),
)
def test_trials_are_pure_functions_of_their_number(probabilities, seed, tilted, first, n, cut):
    faults = [
        ns.StuckAtZero("neuron", probability=p, layers=[k]) for k, p in enumerate(probabilities)
    ]
    plan = ns.ImportanceTilted(epsilon=1.2) if tilted else ns.Stratified()
    work = ns.resolve(campaign(plan, faults, (3, 3, 2), targets=[0, 1], seed=seed))
    whole = work.weighted_trials(first, first + n)
    largest = max(draws.largest_weight for draws in work.draws.groups)
    assert (whole.weights <= largest * (1 + 1e-9)).all()
    sizes = np.diff(whole.offsets)
    assert (sizes >= 2).all()
    cut = min(cut, n - 1)
    part = work.weighted_trials(first + cut, first + n)
    assert np.array_equal(part.weights, whole.weights[cut:])
    assert np.array_equal(part.laws, whole.laws[cut:])
    for k in (cut, n - 1):
        assert work.fault_set(first + k) == whole.batch[k] == part.batch[k - cut]
        events = whole.batch[k].neurons
        assert len(events) == sizes[k]
        if tilted:
            assert (events["start"] == (first + k) % 2).all()
            assert (events["stop"] == (first + k) % 2 + 1).all()
    counted = work.draws.evaluated(2, first, first + n)
    assert counted.sum() == (n if tilted else 2 * n)


def test_every_trial_draws_from_a_law_as_often_as_its_share():
    """Over seeds, whichever trial it is: else few trials were biased."""
    counts = np.zeros(3)
    for seed in range(400):
        work = campaign(PLANS["own strata"], seed=seed)
        counts[ns.resolve(replace(work, plan=PLANS["own strata"])).draws.groups[0].order[7]] += 1
    expected = 400 * np.array([200, 200, 112]) / PERIOD
    assert stats.chisquare(counts, expected).pvalue > ALARM


def test_tilted_weights_are_bounded_by_the_true_laws_share(monkeypatch):
    work = ns.resolve(campaign(PLANS["tilted"], trials=1))
    draws = work.draws.groups[0]
    p = draws.sites.probability
    many = 1 - np.prod(1 - p) * (1 + (p / (1 - p)).sum())
    assert draws.largest_weight == pytest.approx(many * PERIOD / draws.counts[0])
    assert draws.counts[0] >= 0.09 * PERIOD
    assert draws.laws[0].probability is not None
    assert np.array_equal(draws.laws[0].probability, p)


def test_allocation_follows_probability_and_spread():
    work = ns.resolve(campaign(ns.Stratified(strata=(2, 3, 4), control_variate=False)))
    counts = work.draws.groups[0].counts
    masses = [law.mass for law in work.draws.groups[0].laws]
    assert counts.sum() == PERIOD
    assert (np.diff(counts) < 0).all()
    # More faults spread more: their share is above that of their probability.
    assert counts[2] / counts[0] > masses[2] / masses[0]
    assert (counts >= resolution._LEAST).all()


def test_stratified_needs_far_fewer_trials(simulated):
    faults = [ns.StuckAtZero("neuron", probability=1e-3)]
    exact = exact_law(campaign(ns.PlainMonteCarlo(), faults), 0)
    work = ns.resolve(campaign(ns.Stratified(), faults, trials=4096))
    found = simulated(work)
    plain_error = np.sqrt(exact.variance / 4096)
    assert (plain_error / found.mean_standard_error[0] > 1000).all()


def test_tilted_sees_what_is_rare(simulated):
    faults = [ns.StuckAtZero("neuron", probability=1e-3)]
    changes = {"epsilons": (2.0,), "targets": [0, 1], "trials": 20_000}
    work = ns.resolve(campaign(ns.ImportanceTilted(epsilon=2.0), faults, (8, 8, 2), **changes))
    trace = simulated(work)
    for x in range(2):
        truth = exact_law(work, x).tail_any(2.0)
        assert 1e-9 < truth < 1e-5
        value, error = trace.exceedance_any[0, x], trace.exceedance_any_standard_error[0, x]
        assert abs(value - truth) < stats.norm.isf(ALARM / 4) * error
        # Plain trials, as many as there are about the input, would have these errors.
        assert error < 0.01 * np.sqrt(truth / 10_000)


def test_interrupted_continued_and_joined_runs_give_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr("neurosim.campaign._CHUNK_TRIALS", 256)
    for name in ("stratified", "tilted"):
        work = campaign(PLANS[name], trials=1500, record=("faults", "error"))
        path = {kind: tmp_path / f"{name}-{kind}.h5" for kind in ("a", "b", "c", "d", "e", "f")}
        whole = ns.resolve(work, executor=ns.SerialExecutor())
        ns.run(whole, path["a"], executor=ns.SerialExecutor(), progress=False).close()
        again = ns.resolve(work, executor=ns.ThreadExecutor(3))
        assert again.fingerprint == whole.fingerprint
        ns.run(again, path["b"], executor=ns.ThreadExecutor(3), progress=False).close()
        assert_same(path["a"], path["b"])
        # Interrupted within a unit of work, then longer.
        ns.run(replace(whole, trials=700), path["c"], progress=False).close()
        ns.run(whole, path["c"], progress=False).close()
        assert_same(path["a"], path["c"])
        # Computed in parts; sums in another order agree to rounding, all else to the bit.
        for kind, part in (("d", range(0, 768)), ("e", range(768, 1500))):
            ns.run(whole, path[kind], progress=False, trials=part).close()
        ns.join([path["e"], path["d"]], path["f"])
        with ns.Trace(path["f"]) as joined, ns.Trace(path["a"]) as trace:
            assert np.array_equal(joined.weights, trace.weights)
            np.testing.assert_allclose(joined.mean, trace.mean, rtol=1e-12)
            np.testing.assert_allclose(joined.exceedance, trace.exceedance, rtol=1e-12)
            assert trace.fault_set(11) == whole.fault_set(11)


KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
import neurosim as ns
import neurosim.campaign
from test_weighted_plans import PLANS, campaign

neurosim.campaign._CHUNK_TRIALS = 256

class Killed(ns.SerialExecutor):
    def map(self, function, items):
        for number, result in enumerate(super().map(function, items)):
            if number == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            yield result

work = ns.resolve(campaign(PLANS[{plan!r}], trials=2000))
ns.run(work, {target!r}, executor=Killed(), progress=False, checkpoint_seconds=0)
"""


@pytest.mark.parametrize("plan", ["stratified", "tilted"])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, plan):
    monkeypatch.setattr("neurosim.campaign._CHUNK_TRIALS", 256)
    target = tmp_path / "cut.h5"
    code = KILLED.format(path=sys.path, plan=plan, target=str(target))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not target.exists()
    with pytest.raises(TraceError, match="trials up to"):
        ns.Trace(target)
    work = ns.resolve(campaign(PLANS[plan], trials=2000))
    ns.run(work, target, progress=False).close()
    ns.run(work, tmp_path / "whole.h5", progress=False).close()
    assert_same(tmp_path / "whole.h5", target)


def test_the_trace_holds_the_arrays_and_the_weights(simulated):
    work = ns.resolve(campaign(PLANS["stratified"], trials=1024, record=("error",)))
    trace = simulated(work)
    weights, errors = np.asarray(trace.weights), np.asarray(trace.errors)
    assert np.array_equal(weights, work.weighted_trials(0, 1024).weights)
    # The estimate from what is stored, without the control variate.
    beyond = (np.abs(errors) >= EPSILONS[0]) * weights[:, None, None]
    exact = trace.weighted.enumerated.exceedances[0, 0, 0]
    np.testing.assert_allclose(exact + beyond.mean(axis=0), trace.exceedance[0], rtol=1e-12)
    assert trace.components["plan_arrays"] == work.draws.fingerprint
    masses = trace._array("campaign/plan/law_mass")
    assert masses.tolist() == [law.mass for law in work.draws.groups[0].laws]
    assert trace.mean_standard_error.shape == trace.variance_standard_error.shape == (2, 3)
    with pytest.raises(TraceError, match="each trial counts once"):
        simulated(campaign(ns.PlainMonteCarlo(), trials=10)).weights  # noqa: B018


def test_the_error_of_the_variance_is_that_of_its_linearisation(simulated):
    """From the recorded trials, stratum by stratum: weight x (error^2 - 2 mean error)."""
    work = ns.resolve(campaign(PLANS["without control"], trials=1024, record=("error",)))
    trace = simulated(work)
    errors, trials = np.asarray(trace.errors), work.weighted_trials(0, 1024)
    values = trials.weights[:, None, None] * (errors**2 - 2 * trace.mean * errors)
    square = np.zeros(trace.mean.shape)
    for law, share in enumerate(work.draws.shares):
        own = values[trials.laws == law]
        square += share**2 * own.var(axis=0, ddof=1) / len(own)
    np.testing.assert_allclose(trace.variance_standard_error, np.sqrt(square), rtol=1e-9)


def test_plain_traces_have_standard_errors_too(simulated):
    trace = simulated(campaign(ns.PlainMonteCarlo(), trials=4000))
    assert trace.weighted is None
    law = exact_law(campaign(ns.PlainMonteCarlo()), 0)
    z = (trace.variance[0] - law.variance) / trace.variance_standard_error[0]
    assert np.abs(z).max() < stats.norm.isf(ALARM / 6)
    z = (trace.exceedance[0, 0] - law.tail(EPSILONS[0])) / trace.exceedance_standard_error[0, 0]
    assert np.abs(z).max() < stats.norm.isf(ALARM / 6)
    assert (trace.effective_sample_size == 4000).all()


def test_too_few_effective_trials_are_said_in_words(simulated):
    work = campaign(
        PLANS["without control"], [ns.StuckAtZero("neuron", probability=0.2)], trials=40
    )
    trace = simulated(ns.resolve(work))
    assert "not to be trusted: P(|error| >= 1.2)" in str(trace)
    assert "effective sample size of the weights" in str(trace)
    assert trace.plan is not None
    assert f"  {trace.plan}\n" in str(trace)
    enough = simulated(ns.resolve(replace(work, trials=20_000))).weighted.exceedances
    assert enough.trusted[enough.value > 0.01].all()
    assert not trace.weighted.exceedances.trusted.all()
    # A stratum that was drawn less than twice has no spread: no error is claimed.
    few = simulated(ns.resolve(replace(work, trials=2)))
    assert np.isinf(few.mean_standard_error).all()


def test_compare_takes_weighted_trials(simulated):
    for plan in ("stratified", "without control", "tilted"):
        work = campaign(PLANS[plan], trials=16_384)
        trace = simulated(ns.resolve(work))
        # Of the campaign as given, and as resolved.
        found = ns.compare(trace, ns.predict(work, method="enumeration"))
        assert found.agrees, str(found)
        assert found.mean.count("agrees") == 6
        assert found.between_chips is None
        assert "effective sample size" in str(found)
        assert ns.compare(trace, ns.predict(ns.resolve(work), method="enumeration")).agrees
        other = ns.predict(replace(work, seed=4), method="enumeration")
        with pytest.raises(CampaignMismatchError, match="seed"):
            ns.compare(trace, other)


def test_compare_sees_a_rate_a_fiftieth_off(simulated, monkeypatch):
    """The negative control of the comparison."""
    work = campaign(PLANS["stratified"], trials=16_384)
    trace = simulated(ns.resolve(work))
    wrong = ns.predict(campaign(PLANS["stratified"], [ns.StuckAtZero("neuron", probability=0.0306)],
                                trials=16_384), method="enumeration")  # fmt: skip
    found = ns.compare(trace, replace(ns.predict(work, method="enumeration"), mean=wrong.mean))
    assert not found.agrees
    assert found.mean.count("disagrees") > 0


def test_the_report_shows_the_plan(simulated, tmp_path):
    work = ns.resolve(campaign(PLANS["stratified"], trials=2000))
    found = ns.compare(simulated(work), ns.predict(work))
    page = ns.write_report(found, tmp_path / "report").read_text()
    assert "stratified by the number of faults: 2 in" in page
    assert "effective sample size of the weights" in page


@cache
def resolved():
    return ns.resolve(campaign(PLANS["own strata"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan": "plain"}, "plan: expected PlainMonteCarlo"),
        ({"plan": ns.Stratified(), "replicas": (3,)}, "replicas: expected none"),
        ({"plan": ns.ImportanceTilted(epsilon=0.3)}, "epsilons: expected 0.3 among them"),
        ({"plan": ns.Stratified(), "backend": "spiking-compiled", "loss": None}, "backend"),
        (
            {
                "plan": ns.Stratified(),
                "faults": [ns.StuckAtZero("neuron", probability=0.1, persistence=ns.Transient())],
            },
            "permanent ones with Stratified",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        replace(campaign(ns.PlainMonteCarlo(), activation="relu"), **changes)


def test_plans_are_checked():
    for values in ({"strata": (3,)}, {"strata": (2, 2)}, {"strata": (2, 1.5)}):
        with pytest.raises(InputError, match="strata"):
            ns.Stratified(**values)
    for values in ({"allocation": (512,)}, {"strata": (2, 3), "allocation": (500, 13)}):
        with pytest.raises(InputError, match="allocation"):
            ns.Stratified(**values)
    with pytest.raises(InputError, match="epsilon"):
        ns.ImportanceTilted(epsilon=0)


def test_a_plan_is_resolved_once_and_for_its_campaign(tmp_path):
    work = campaign(PLANS["own strata"])
    for use in (lambda: work.fault_set(0), lambda: ns.run(work, tmp_path / "a.h5")):
        with pytest.raises(InputError, match="resolve it once"):
            use()
    assert ns.resolve(resolved()) is resolved()
    plain = campaign(ns.PlainMonteCarlo())
    assert ns.resolve(plain) is plain
    assert resolved().fingerprint != work.fingerprint
    assert replace(resolved(), trials=5).fingerprint == resolved().fingerprint
    other = replace(resolved(), seed=9)
    with pytest.raises(InputError, match="resolved for another"):
        other.fault_set(0)
    with pytest.raises(InputError, match="resolved for another"):
        resolved().with_probabilities([0.1]).fault_set(0)


def test_what_cannot_be_resolved_is_refused(monkeypatch):
    with pytest.raises(InputError, match="sites that may fail"):
        ns.resolve(campaign(ns.Stratified(strata=(2, 9), allocation=(256, 256))))
    monkeypatch.setattr(resolution, "_VALUES", 10)
    for plan in (PLANS["stratified"], PLANS["tilted"]):
        with pytest.raises(InputError, match="take fewer inputs"):
            ns.resolve(campaign(plan))
    convolutional = [ns.StuckAt("neuron", probability=0.1, value=1.0)]
    with pytest.raises(InputError, match="stuck-at-0"):
        ns.resolve(campaign(PLANS["stratified"], convolutional))


def test_many_faults_are_one_stratum(simulated):
    faults = [ns.StuckAtZero("neuron", probability=0.45)]
    work = ns.resolve(campaign(ns.Stratified(), faults, (200, 3), "identity", trials=2048))
    assert [law.least for law in work.draws.groups[0].laws] == [2]
    assert not alarming_mean(simulated(work), work)
    with pytest.raises(InputError, match="all sets have"):
        ns.resolve(replace(work, plan=ns.Stratified(strata=(2, 3))))


def alarming_mean(trace, work):
    predicted = ns.predict(work)
    assert predicted.exact
    z = (trace.mean - predicted.mean) / np.maximum(trace.mean_standard_error, 1e-9)
    return alarming(z.ravel())


def test_one_site_has_nothing_to_draw(simulated):
    faults = [ns.StuckAtZero("neuron", probability=0.1, layers=[1])]
    for plan in (ns.Stratified(), ns.ImportanceTilted(epsilon=0.4)):
        work = ns.resolve(campaign(plan, faults, (3, 1, 2), trials=10, targets=[0, 1]))
        trace = simulated(work)
        law = exact_law(work, 0)
        np.testing.assert_allclose(trace.mean[0], law.mean, rtol=1e-9)
        np.testing.assert_allclose(trace.exceedance[0, 0], law.tail(0.4), rtol=1e-9)
        assert (np.asarray(trace.weights) == 0).all()
        assert (trace.mean_standard_error < 1e-12).all()


def test_pilots_and_draws_have_random_numbers_of_their_own():
    assert resolution._PILOT_STREAM != search._PILOT_STREAM
    draws = resolved().draws.groups[0]
    law = draws.laws[0]
    drawn = law.draw(3, resolution._PILOT_STREAM, 0, 50)[1]
    used = Draws.draw(draws, 3, 0, 0, 500)
    same = used[1][: len(drawn)]
    assert not np.array_equal(same, drawn)
