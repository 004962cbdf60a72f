"""Faults that begin in a window only, and times in seconds."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from exact import PlainNetwork, enumerate_errors, fault_sets
from scipy import stats

import neurosim as ns
from neurosim.errors import InputError
from neurosim.faults import chain_of

BURSTS = ns.Intermittent(mean_duration=2.5, onset=(1, 3))
STRIKES = ns.Transient(onset=(1, 3))


def campaign_of(*faults, trials=20_000, chip=None, n_inputs=5, **options):
    rng = np.random.default_rng(8)
    network = ns.Network.dense(
        weights=[rng.normal(size=(3, 2)), rng.normal(size=(2, 3))],
        biases=[rng.normal(size=3), rng.normal(size=2)],
        activations=["tanh", "identity"],
    )
    return ns.Campaign(
        deployment=ns.deploy(network, chip or ns.Chip(name="c", rows=3, columns=3)),
        faults=faults, inputs=rng.normal(size=(n_inputs, 2)), trials=trials, seed=5, **options,
    )  # fmt: skip


def neurons(persistence, p=0.2, layers=(1,)):
    return ns.StuckAtZero("neuron", probability=p, layers=layers, persistence=persistence)


ALARM = 1e-7  # of one comparison; there are some 500


def assert_binomial(successes, trials, probability):
    if probability in (0, 1):
        assert successes == trials * probability
        return
    low, high = stats.binom.interval(1 - ALARM, trials, probability)
    assert low <= successes <= high


def history_probability(history, process):
    """Probability of a site's states at all presentations, step by step from the definition."""
    p, how = process.probability, process.persistence
    first, stop = getattr(how, "onset", None) or (0, len(history))
    chance = 1.0
    if isinstance(how, ns.Permanent):
        return {0: 1 - p, len(history): p}.get(sum(history), 0.0)
    if isinstance(how, ns.Transient):
        for t, now in enumerate(history):
            q = p if first <= t < stop else 0.0
            chance *= q if now else 1 - q
        return chance
    repair, onset = 1 / how.mean_duration, p / (how.mean_duration * (1 - p))
    if how.onset is None:
        chance, states = (p if history[0] else 1 - p), list(history)
        steps = [True] * (len(history) - 1)
    else:
        states = [0, *history]  # all is well before the window
        steps = [first <= t < stop for t in range(len(history))]
    for (before, now), open_ in zip(pairwise(states), steps, strict=True):
        up = 1 - repair if before else onset * open_
        chance *= up if now else 1 - up
    return chance


PROCESSES = [
    neurons(BURSTS),
    neurons(ns.Intermittent(mean_duration=1.0, onset=(0, 4)), p=0.4),
    neurons(ns.Intermittent(mean_duration=3, onset=(3, 5))),
    neurons(ns.Intermittent(mean_duration=3)),
    neurons(STRIKES),
    neurons(ns.Transient(onset=(2, 5)), p=1.0),
    neurons(ns.Permanent()),
]


@pytest.mark.parametrize("process", PROCESSES)
def test_the_law_in_time_is_that_of_all_histories(process):
    n = 5
    probability, carry = chain_of(process, n)
    histories = list(product([0, 1], repeat=n))
    chance = np.array([history_probability(h, process) for h in histories])
    np.testing.assert_allclose(chance.sum(), 1)
    states = np.array(histories, float)
    mean = chance @ states
    np.testing.assert_allclose(probability, mean, atol=1e-14)
    second = np.einsum("h,ht,hu->tu", chance, states, states) - np.outer(mean, mean)
    for t in range(n):
        for u in range(t, n):
            expected = mean[t] * (1 - mean[t]) * np.prod(carry[t:u])
            np.testing.assert_allclose(second[t, u], expected, atol=1e-14)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("thinned", [False, True])
def test_faults_are_drawn_by_that_law(process, thinned):
    plan = ns.PlainMonteCarlo()
    if thinned and process.probability < 0.3:
        plan = ns.PlainMonteCarlo(draw_at=(0.3,))
    campaign = campaign_of(process, plan=plan)
    batch = campaign.fault_batch(0, 4000)
    seen = np.zeros((4000, 3, 5), int)
    trial = np.repeat(np.arange(4000), np.diff(batch.neurons.offsets))
    unit = campaign.deployment.sites.neurons(batch.neurons.site)[1]
    for t, i, a, b in zip(trial, unit, batch.neurons.start, batch.neurons.stop, strict=True):
        seen[t, i, a:b] += 1
    assert seen.max() == 1
    assert (batch.counts[:, 0] == (seen[:, :, 0].sum(1) if process.persistence == ns.Permanent()
                                   else seen.sum((1, 2)))).all()  # fmt: skip
    codes = (seen << np.arange(5)).sum(axis=2).ravel()
    counts = np.bincount(codes, minlength=32)
    for code, count in enumerate(counts):
        chance = history_probability([code >> t & 1 for t in range(5)], process)
        assert_binomial(count, 12_000, chance)
    assert campaign.fault_set(3) == batch[3]


def test_a_chain_without_its_window_would_be_seen():
    # The control of the test above: the stationary law gives each early fault a chance of 0.2.
    batch = campaign_of(neurons(BURSTS)).fault_batch(0, 4000)
    assert (batch.neurons.start >= 1).all()
    assert (batch.neurons.start < 3).all()
    assert (batch.neurons.stop > 3).any()
    with pytest.raises(AssertionError):
        assert_binomial(int((batch.neurons.stop > 4).sum()), 12_000, 0.2)


def exact_trial(campaign, processes):
    """Mean and variance an input, and of a trial's mean over inputs, over all histories."""
    plain, n = PlainNetwork.of(campaign.network), campaign.n_inputs
    sites = [("neuron", 1, i) for i in range(3)]
    errors = np.array([enumerate_errors(plain, x, sites) for x in campaign.inputs])
    histories = fault_sets(n)
    # Of one site: what several processes make together, state by state.
    chance = np.zeros(2**n)
    parts = [np.array([history_probability(h, one) for h in histories]) for one in processes]
    for several in product(range(2**n), repeat=len(parts)):
        code = 0
        for one in several:
            code |= one
        chance[code] += np.prod([part[one] for part, one in zip(parts, several, strict=True)])
    weight, total = np.ones(1), np.zeros((1, n), int)
    for s in range(3):
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        total = (total[:, None] + (bits << s)[None]).reshape(-1, n)
        weight = (weight[:, None] * chance[None]).reshape(-1)
    seen = np.stack([errors[t][total[:, t]] for t in range(n)], axis=1)
    mean = np.einsum("h,hxk->xk", weight, seen)
    variance = np.einsum("h,hxk->xk", weight, (seen - mean) ** 2)
    of_trial = seen.mean(axis=1)
    return mean, variance, weight @ (of_trial - weight @ of_trial) ** 2


@pytest.mark.parametrize(
    "persistences",
    [
        (STRIKES,),
        (BURSTS,),
        (ns.Permanent(), BURSTS),
        (ns.Intermittent(mean_duration=2), ns.Intermittent(mean_duration=3, onset=(2, 4))),
        (ns.Transient(), STRIKES),
    ],
)
def test_single_faults_are_the_law_of_all_histories_as_faults_become_rare(persistences):
    p = 1e-6
    processes = [neurons(one, p=p) for one in persistences]
    campaign = campaign_of(*processes, n_inputs=4)
    mean, variance, of_trial = exact_trial(campaign, processes)
    for method in ("single-fault", "first-order"):
        found = ns.predict(campaign, method)
        np.testing.assert_allclose(found.mean, mean, rtol=1e-4, atol=1e-13)
        np.testing.assert_allclose(found.variance, variance, rtol=1e-4, atol=1e-13)
        np.testing.assert_allclose(found.input_mean_variance, of_trial, rtol=1e-4)
        np.testing.assert_allclose(
            np.diagonal(found.covariance, axis1=1, axis2=2), found.variance, rtol=1e-12
        )
        shares = found.site_contributions("neuron", 1).sum(axis=1)
        np.testing.assert_allclose(shares, found.variance.mean(axis=0), rtol=1e-12)
        law = found.distribution(1, 0)
        np.testing.assert_allclose(law.mean, found.mean[1, 0], rtol=1e-9)
        if persistences == (STRIKES,):
            assert (found.variance[[0, 3]] == 0).all()


def test_a_linear_network_is_exact_at_any_probability(tmp_path):
    # Neurons of layer 1 send through a linear layer: effects add up, whatever p.
    processes = [neurons(ns.Permanent(), p=0.1), neurons(BURSTS, p=0.3)]
    campaign = campaign_of(*processes, n_inputs=4, epsilons=[0.5])
    mean, variance, of_trial = exact_trial(campaign, processes)
    found = ns.predict(campaign, "single-fault")
    assert found.exact
    np.testing.assert_allclose(found.mean, mean, rtol=1e-10)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-10)
    np.testing.assert_allclose(found.input_mean_variance, of_trial, rtol=1e-10)
    fixed = [neurons(ns.Permanent(), p=0.1)]
    np.testing.assert_array_less(0, found.between_chip_variance)
    alone = ns.predict(campaign_of(*fixed, n_inputs=4), "single-fault").between_chip_variance
    assert (found.between_chip_variance < alone).all()
    with ns.run(campaign, tmp_path / "trace.h5", progress=False) as trace:
        agreed = ns.compare(trace, found, false_alarm_rate=1e-4)
        assert agreed.agrees, str(agreed)
        always = replace(campaign, faults=[fixed[0], neurons(
            ns.Intermittent(mean_duration=2.5), p=0.3)])  # fmt: skip
        wrong = replace(ns.predict(always, "single-fault"), campaign=campaign)
        assert not ns.compare(trace, wrong, false_alarm_rate=1e-4).agrees


def test_groups_and_states_have_windows_too(tmp_path):
    faults = [
        ns.StuckAtZero("column", probability=0.002, persistence=BURSTS),
        ns.Cluster("row", length=2, probability=0.002, persistence=STRIKES),
        ns.StuckAt("neuron", value=0.5, probability=0.002, layers=[1], persistence=STRIKES),
    ]
    campaign = campaign_of(*faults, trials=40_000)
    with ns.run(campaign, tmp_path / "trace.h5", progress=False) as trace:
        found = ns.predict(campaign, "single-fault")
        agreed = ns.compare(trace, found, false_alarm_rate=1e-4)
        assert agreed.agrees, str(agreed)
        assert (found.variance[0] == 0).all()


def test_what_does_not_know_windows_says_so():
    campaign = campaign_of(neurons(BURSTS, p=0.01), epsilons=[0.5], trials=2000)
    for method in ("enumeration", "mean-field", "second-order"):
        with pytest.raises(InputError, match="onset window, whose probabilities are others"):
            ns.predict(campaign, method)
    with pytest.raises(InputError, match="without probes"):
        ns.predict(campaign, probes=10)
    for ask in (
        lambda: ns.exceedance(campaign, epsilon=0.5),
        lambda: ns.estimate_moments(campaign, evaluations=100),
        lambda: ns.harden(campaign, budget=1),
    ):
        with pytest.raises(InputError, match="got an onset window"):
            ask()
    certificate = ns.certify(campaign, 0.5, 0.2, check=False, progress=False)
    assert {row.method for row in certificate.rows} == {"cantelli-simulated", "simulation"}
    with pytest.raises(InputError, match="onset: expected a window in the 5 presentations"):
        campaign_of(neurons(ns.Transient(onset=(2, 6))))
    with pytest.raises(InputError, match="expected below 1 for intermittent faults with an onset"):
        neurons(BURSTS, p=1.0)
    for wrong in ((1, 1), (2, 1), (-1, 3), (0.5, 2), "12", 3, (1, 2, 3), (0, True)):
        with pytest.raises(InputError, match="onset: expected whole numbers of presentations"):
            ns.Transient(onset=wrong)
    with pytest.raises(InputError, match="onset or onset_s, got both"):
        ns.Transient(onset=(0, 1), onset_s=(0, 1))
    for wrong in ((1, 1), (0, float("inf")), (float("nan"), 1)):
        with pytest.raises(InputError, match="onset_s: expected seconds"):
            ns.Transient(onset_s=wrong)


def test_windows_are_hashed_and_recorded(tmp_path):
    plain, windowed = (campaign_of(neurons(p), trials=20, record=["faults"])
                       for p in (ns.Transient(), STRIKES))  # fmt: skip
    assert plain.fingerprint != windowed.fingerprint
    assert "onset" not in repr(plain.faults[0])
    with ns.run(windowed, tmp_path / "trace.h5", progress=False) as trace:
        assert "beginning in presentations or ticks 1 to 2" in str(trace)
        assert trace.fault_set(7) == windowed.fault_set(7)


CLOCKED = ns.Chip(name="clocked", rows=3, columns=3, spiking=ns.SpikingModel(duration_s=0.5))


def test_seconds_become_presentations_where_there_is_a_clock(tmp_path):
    burst = neurons(ns.Intermittent(mean_duration_s=1.25, onset_s=(0.5, 1.6)))
    campaign = campaign_of(burst, chip=CLOCKED)
    (found,) = campaign.faults
    assert found.persistence == ns.Intermittent(mean_duration=2.5, onset=(1, 4))
    assert campaign.window_s == 0.5
    assert campaign.fingerprint == campaign_of(found, chip=CLOCKED).fingerprint
    # Ticks of a spiking campaign are shorter.
    model = ns.SpikingModel(duration_s=0.5, time_step_s=0.05, ticks=2)
    ticking = campaign_of(burst, chip=CLOCKED, backend="spiking-compiled", spiking=model)
    assert ticking.faults[0].persistence == ns.Intermittent(mean_duration=5, onset=(2, 7))
    with pytest.raises(InputError, match=r"mean_duration_s: expected at least 0\.5 s"):
        campaign_of(neurons(ns.Intermittent(mean_duration_s=0.4)), chip=CLOCKED)
    with pytest.raises(InputError, match=r"at least p / \(1 - p\)"):
        campaign_of(neurons(ns.Intermittent(mean_duration_s=0.6), p=0.9), chip=CLOCKED)
    with pytest.raises(InputError, match="a window in which a presentation begins"):
        campaign_of(neurons(ns.Transient(onset_s=(0.1, 0.2))), chip=CLOCKED)
    for persistence in (ns.Transient(onset_s=(0, 1)), ns.Intermittent(mean_duration_s=2)):
        with pytest.raises(InputError, match="a chip that says how long a presentation takes"):
            campaign_of(neurons(persistence))
    for wrong in (0, -1, float("inf"), "1"):
        with pytest.raises(InputError, match="mean_duration_s: expected finite seconds"):
            ns.Intermittent(mean_duration_s=wrong)
    with pytest.raises(InputError, match="got both"):
        ns.Intermittent(mean_duration=2, mean_duration_s=2)
    with pytest.raises(InputError, match="got neither"):
        ns.Intermittent()


@pytest.mark.parametrize(
    ("steps", "seconds"), [((0, 3), (0.0, 0.3)), ((1, 3), (0.1, 0.3)), ((3, 7), (0.3, 0.7))]
)
def test_a_window_of_whole_presentations_in_seconds_is_that_window(steps, seconds):
    assert ns.Transient(onset_s=seconds).every(0.1) == ns.Transient(onset=steps)


def test_a_chip_of_matrix_products_has_a_clock_too(tmp_path):
    number = 'unit = "s", status = "assumption", source = "test" }\n'
    window = number.replace('"s"', '"presentations"')
    head = '[chip]\nname = "c"\ndescription = "d"\n'
    product_ = f"[timing]\ntime_per_matrix_vector_product_s = {{ value = 0.05, {number}"
    fault = (
        '[[faults]]\nsite = "neuron"\npersistence = "intermittent"\nlayers = [1]\n'
        'probability = { value = 0.2, unit = "1", status = "assumption", source = "test" }\n'
        f"mean_duration_s = {{ value = 0.3, {number}"
    )
    path = tmp_path / "chip.toml"
    path.write_text(head + product_ + fault + f"onset = {{ value = [1, 4], {window}")
    chip = ns.Chip.load(path)
    assert chip.faults[0].persistence == ns.Intermittent(mean_duration_s=0.3, onset=(1, 4))
    assert chip.quantities["faults.1.onset"].unit == "presentations"
    plain = campaign_of(neurons(ns.Permanent()))
    campaign = replace(plain, deployment=ns.deploy(plain.network, chip), faults=None)
    # Two layers, one product each: 0.1 s an inference.
    assert campaign.faults[0].persistence.mean_duration == pytest.approx(3)
    path.write_text(head + product_ + fault + f"onset_s = {{ value = [0.1, 0.4], {number}")
    later = replace(campaign, deployment=ns.deploy(campaign.network, ns.Chip.load(path)),
                    faults=None)  # fmt: skip
    assert later.faults[0].persistence.onset == (1, 4)
    path.write_text(head + fault)
    with pytest.raises(InputError, match=r"or timing\.time_per_matrix_vector_product_s"):
        ns.Chip.load(path)


def test_campaign_files_have_seconds_and_windows(tmp_path):
    campaign = campaign_of(neurons(ns.Permanent()))
    campaign.network.save(tmp_path / "net.npz")
    np.save(tmp_path / "x.npy", campaign.inputs)
    head = (
        'network = "net.npz"\ninputs = "x.npy"\nchip = "ideal"\ntrials = 5\nseed = 1\n'
        'backend = "spiking-compiled"\n[spiking]\nduration_s = 0.1\n'
        '[[faults]]\nsite = "neuron"\nprobability = 0.1\n'
    )
    path = tmp_path / "c.toml"
    path.write_text(
        head + 'persistence = "intermittent"\nmean_duration_s = 0.2\nonset_s = [0.1, 0.3]\n'
    )
    found = ns.load_campaign(path).faults[0].persistence
    assert found == ns.Intermittent(mean_duration=2, onset=(1, 3))
    path.write_text(head + 'persistence = "transient"\nonset = [1, 2]\n')
    assert ns.load_campaign(path).faults[0].persistence == ns.Transient(onset=(1, 2))
    path.write_text(head + "onset = [1, 2]\n")
    with pytest.raises(InputError, match="transient and intermittent faults only"):
        ns.load_campaign(path)
    path.write_text(head + 'persistence = "transient"\nmean_duration_s = 1.0\n')
    with pytest.raises(InputError, match="mean_duration_s: expected one for intermittent"):
        ns.load_campaign(path)
