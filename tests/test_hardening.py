"""What to protect or duplicate: the best choice by enumeration, the gain by simulation."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from exact import PlainNetwork, enumerate_faults

import neurosim as ns
from neurosim.certification.contributions import contributions_of
from neurosim.certification.outcomes import outcome_of
from neurosim.certification.protection import protected_sites, without
from neurosim.theory.continuity import duplicate


def campaign_of(network, p, inputs, *, synapses=False, layers=None, chip=None, trials=4000):
    faults = [ns.StuckAtZero("neuron", probability=p, layers=layers)]
    if synapses:
        faults.append(ns.StuckAtZero("synapse", probability=p / 3))
    return ns.Campaign(
        deployment=ns.deploy(network, chip or ns.Chip.load("ideal")),
        faults=faults,
        inputs=inputs,
        trials=trials,
        seed=7,
    )


def linear(rng, n, n_out=2):
    return ns.Network.dense(
        weights=[rng.normal(size=(n, 2)), rng.normal(size=(n_out, n))],
        biases=[rng.normal(size=n), np.zeros(n_out)],
        activations=["identity", "identity"],
    )


@pytest.fixture(scope="module")
def deep():
    rng = np.random.default_rng(3)
    network = ns.Network.dense(
        weights=[rng.normal(size=(n, m)) / np.sqrt(m) for m, n in ((6, 12), (12, 10), (10, 3))],
        biases=[rng.normal(size=n) / 2 for n in (12, 10, 3)],
        activations=["tanh", "tanh", "identity"],
    )
    chip = ns.Chip(name="small", rows=8, columns=8)
    return campaign_of(network, 0.01, rng.normal(size=(5, 6)), synapses=True, chip=chip)


@pytest.mark.parametrize("method", ["first-order", "single-fault"])
def test_contributions_add_up_to_the_predicted_variance(deep, method):
    found = contributions_of(deep)
    total = ns.predict(deep, method).variance.sum(axis=1).mean()
    assert found.total(method) == pytest.approx(total, rel=1e-9)
    assert sum(part.sum() for part in found.neurons[method]) == pytest.approx(total, rel=1e-9)
    # The circuits of the inputs are on no core.
    inputs = found.sites[method]["neuron", 0].sum()
    assert found.cores[method].sum() + inputs == pytest.approx(total, rel=1e-9)
    assert found.cores[method].shape == (deep.deployment.n_cores,)


def test_contributions_of_a_core_are_those_of_its_sites(deep):
    found = contributions_of(deep)
    block = next(b for b in deep.deployment.blocks if b.layer == 2 and b.in_start > 0)
    synapses = found.sites["first-order"]["synapse", 2].reshape(10, 12)
    mine = synapses[block.out_start : block.out_stop, block.in_start : block.in_stop].sum()
    assert found.cores["first-order"][block.core] == pytest.approx(mine)


def test_contributions_to_failures_are_the_first_order_of_their_probability():
    rng = np.random.default_rng(0)
    p = 1e-7
    network = linear(rng, 6)
    campaign = campaign_of(network, p, rng.normal(size=(3, 2)))
    sites = [("neuron", 0, i) for i in range(2)] + [("neuron", 1, i) for i in range(6)]
    epsilon = 1.0
    truth = np.mean([
        enumerate_faults(PlainNetwork.of(network), x, sites, p).tail_any(epsilon)
        for x in campaign.inputs
    ])  # fmt: skip
    found = contributions_of(campaign, epsilon)
    assert truth > 0
    assert sum(part.sum() for part in found.failures.values()) == pytest.approx(truth, rel=1e-5)


def exact_variance(network, p, inputs, layer=1):
    sites = [("neuron", layer, i) for i in range(network.widths[layer])]
    plain = PlainNetwork.of(network)
    return np.mean([enumerate_faults(plain, x, sites, p).variance.sum() for x in inputs])


@pytest.mark.parametrize("seed", range(3))
def test_copies_are_the_best_of_all_choices(seed):
    rng = np.random.default_rng(seed)
    network, inputs, p, budget = linear(rng, 4), rng.normal(size=(2, 2)), 0.1, 4
    campaign = campaign_of(network, p, inputs, layers=[1])
    hardening = ns.harden(campaign, budget=budget, simulate=False)
    choices = {
        k: exact_variance(duplicate(network, 1, np.array(k)), p, inputs)
        for k in product(range(1, budget + 2), repeat=4)
        if sum(k) == 4 + budget
    }
    chosen = choices[tuple(int(k) for k in hardening.copies[0])]
    assert chosen == pytest.approx(min(choices.values()), rel=1e-9)
    # Linear: what is predicted is exact. The choice matters: another is far worse.
    assert hardening.best.predicted["first-order"] == pytest.approx(chosen, rel=1e-9)
    assert max(choices.values()) > 1.2 * chosen
    evenly = choices[(2, 2, 2, 2)]
    assert hardening.predicted_gain("evenly") == pytest.approx(evenly / chosen, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_protected_neurons_are_the_best_of_all_choices(seed):
    rng = np.random.default_rng(10 + seed)
    network, inputs, p = linear(rng, 5), rng.normal(size=(2, 2)), 0.1
    campaign = campaign_of(network, p, inputs, layers=[1])
    hardening = ns.harden(campaign, budget=2, action="protect", simulate=False)
    plain = PlainNetwork.of(network)

    def left(protected):
        sites = [("neuron", 1, i) for i in range(5) if i not in protected]
        return np.mean([enumerate_faults(plain, x, sites, p).variance.sum() for x in inputs])

    choices = {pair: left(pair) for pair in combinations(range(5), 2)}
    chosen = tuple(sorted(int(unit) for _, unit in hardening.protected_neurons))
    assert choices[chosen] == pytest.approx(min(choices.values()), rel=1e-9)
    assert hardening.best.predicted["first-order"] == pytest.approx(choices[chosen], rel=1e-9)


def test_predicted_and_simulated_gains_agree(deep):
    """Differences beyond 5 standard errors: false-alarm rate below 1e-5 for both."""
    campaign = replace(deep, trials=20_000)
    for options in ({"budget": 22}, {"budget": 3, "action": "protect"}):
        hardening = ns.harden(campaign, method="single-fault", **options)
        gain, error = hardening.simulated_gain()
        predicted = hardening.predicted_gain()
        assert error < 0.1 * gain
        # Single faults are right to first order in p: 5 % is left to the second.
        assert abs(gain - predicted) < 5 * error + 0.05 * gain
        assert gain > 1.2


def test_a_bad_choice_gains_less(deep):
    campaign = replace(deep, trials=20_000)
    hardening = ns.harden(campaign, budget=3, action="protect")
    worst = np.argsort(np.concatenate(contributions_of(deep).neurons["first-order"]))[:3]
    bad = outcome_of(campaign, None, worst)
    assert hardening.best.simulated.gain_over(bad)[0] > 1.2


def test_protected_sites_do_not_fail_and_the_others_fail_as_before(deep):
    nothing = outcome_of(deep, 0.1)
    assert nothing.failure > 0
    untouched = outcome_of(deep, 0.1, np.empty(0, np.int64), np.empty(0, np.int64))
    np.testing.assert_array_equal(nothing.variances, untouched.variances)
    numbering = deep.deployment.sites
    everything = outcome_of(
        deep,
        0.1,
        np.arange(numbering.neuron_offsets[-1]),
        np.arange(numbering.synapse_offsets[-1]),
    )
    assert everything.variance == 0
    assert everything.failure == 0
    assert everything.gain_over(nothing) == (float("inf"), 0.0)


def test_outcomes_are_those_of_a_run(deep, tmp_path):
    outcome = outcome_of(deep, 0.1)
    counting = replace(deep, epsilons=(0.1 * (1 - 1e-5),))
    with ns.run(counting, tmp_path / "t.h5", progress=False) as trace:
        frequency = trace.exceedances_any[0].mean() / deep.trials
        variance = trace.variance.sum(axis=1).mean()
    assert outcome.failure == pytest.approx(frequency, rel=1e-12)
    assert outcome.variance == pytest.approx(variance, rel=0.02)


def test_a_budget_of_cores_is_kept_and_used(deep):
    for budget in (2, 6):
        hardening = ns.harden(deep, budget=budget, unit="cores", simulate=False)
        allowed = deep.deployment.n_cores + budget
        assert all(variant.cores <= allowed for variant in hardening.variants)
        # One neuron more would not fit, or would not be the best one's turn.
        assert hardening.best.neurons > hardening.variant("as it is").neurons
    cores = ns.harden(deep, budget=2, unit="cores", action="protect", simulate=False)
    by_core = contributions_of(deep).cores["first-order"]
    assert list(cores.protected_cores) == list(np.argsort(-by_core)[:2])


def test_a_protected_core_takes_along_what_is_on_it_and_no_more(deep):
    found = contributions_of(deep)
    for block in deep.deployment.blocks:
        sites = protected_sites(deep, np.empty((0, 2), np.int64), np.array([block.core]))
        # The circuit of a neuron is on the first of the cores that share its column.
        assert (("neuron", block.layer) in sites) == (block.in_start == 0 and block.layer < 3)
        assert len(sites["synapse", block.layer]) == block.size
        left = without(found.sites, sites)["single-fault"]
        taken = found.cores["single-fault"][block.core]
        assert left == pytest.approx(found.total("single-fault") - taken, rel=1e-9)


def test_failures_may_guide_protection(deep):
    by_failures = ns.harden(
        deep, budget=2, action="protect", by="failures", epsilon=0.3, simulate=False
    )
    parts = contributions_of(deep, 0.3).neuron_failures
    chosen = [parts[layer][unit] for layer, unit in by_failures.protected_neurons]
    assert chosen == sorted(np.concatenate(parts))[::-1][:2]
    assert "contributions of single faults to failures" in str(by_failures)


def test_a_hardening_explains_itself(deep):
    text = str(ns.harden(deep, budget=5, epsilon=0.1))
    for words in ("5 more neurons", "most copies", "as it is", "evenly", "best", "predicted gain"):
        assert words in text
    assert "1 core protected" in str(
        ns.harden(deep, budget=1, unit="cores", action="protect", simulate=False)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, "budget: expected a whole number from 1"),
        ({"budget": 2, "unit": "chips"}, 'unit: expected one of "neurons", "cores"'),
        ({"budget": 2, "action": "pray"}, "action: expected one of"),
        ({"budget": 2, "by": "failures"}, 'by: expected "failures" with an epsilon'),
        ({"budget": 2, "method": "guess"}, "method: expected one of"),
        ({"budget": 99, "action": "protect"}, "budget: expected at most the 31 neurons"),
        (
            {"budget": 1, "action": "protect", "by": "failures", "epsilon": 1e6},
            "epsilon: expected one that some single fault reaches",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(deep, options, message):
    with pytest.raises(ns.InputError, match=message):
        ns.harden(deep, simulate=False, **options)


def test_nothing_to_duplicate_is_refused(deep):
    rng = np.random.default_rng(0)
    shallow = ns.Network.dense(weights=[np.ones((1, 3))], biases=[[0.0]], activations=["identity"])
    with pytest.raises(ns.InputError, match="expected a network with a hidden layer"):
        ns.harden(campaign_of(shallow, 0.1, np.ones((1, 3))), budget=1, simulate=False)
    inputs_only = campaign_of(linear(rng, 3), 0.1, np.ones((1, 2)), layers=[0])
    with pytest.raises(ns.InputError, match="expected faults of hidden neurons"):
        ns.harden(inputs_only, budget=1, simulate=False)
    with pytest.raises(ns.InputError, match="unit: expected a chip with cores of a size"):
        ns.harden(
            campaign_of(linear(rng, 3), 0.1, np.ones((1, 2))),
            budget=1,
            unit="cores",
            simulate=False,
        )
    hardening = ns.harden(deep, budget=1, simulate=False)
    with pytest.raises(ns.InputError, match="variant: expected one of"):
        hardening.variant("worse")
    with pytest.raises(ns.InputError, match="simulated_gain: expected simulate=True"):
        hardening.simulated_gain()
