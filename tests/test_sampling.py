"""Drawn fault sets against the laws they are said to follow.

Every random test uses a fixed seed and bounds from binomial tails at the false-alarm rate ALARM.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neurosim.errors import InputError
from neurosim.faults import Intermittent, Permanent, Sites, StuckAtZero, Transient
from neurosim.kernels.draws import draw_cells
from neurosim.kernels.philox import philox, uniforms
from neurosim.sampling import PlainMonteCarlo, draw

ALARM = 1e-6
PLAIN = PlainMonteCarlo()


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_published_known_answers(counter, key, expected):
    assert list(philox(*map(np.uint64, counter + key))) == expected


def test_uniforms_are_uniform_and_in_range():
    block = np.arange(4000, dtype=np.uint64)
    one, two = np.array(
        [uniforms(b, np.uint64(0), np.uint64(7), np.uint64(2**63 + 5)) for b in block]
    ).T
    assert (one > 0).all()
    assert (one <= 1).all()
    assert (two >= 0).all()
    assert (two < 1).all()
    for u in (one, two):
        assert stats.kstest(u, "uniform").pvalue > ALARM
    assert abs(np.corrcoef(one, two)[0, 1]) < 5 / np.sqrt(len(block))


def counts_of(process, n_trials, widths=(50, 40, 10), n_inputs=1, seed=1, plan=PLAIN):
    batch = draw([process], plan, Sites(widths), n_inputs, seed, 0, n_trials)
    return batch, batch.counts[:, 0]


def assert_binomial(successes, trials, probability):
    low, high = stats.binom.interval(1 - ALARM, trials, probability)
    assert low <= successes <= high
    return high - low


@pytest.mark.parametrize("site", ["neuron", "synapse"])
@pytest.mark.parametrize("probability", [1e-6, 1e-3, 0.1])
def test_realised_rates_are_the_requested_ones(site, probability):
    widths = (50, 40, 10)
    n_sites = 90 if site == "neuron" else 2400
    n_trials = (300_000 if site == "neuron" else 30_000) if probability < 0.1 else 3_000
    _, counts = counts_of(StuckAtZero(site, probability=probability), n_trials, widths)
    width = assert_binomial(counts.sum(), n_trials * n_sites, probability)
    if probability > 1e-6:
        # The test can see a rate that is 10 % off.
        assert width < 0.1 * n_trials * n_sites * probability


@pytest.mark.parametrize("site", ["neuron", "synapse"])
@pytest.mark.parametrize("persistence", [Permanent(), Transient(), Intermittent(mean_duration=3)])
def test_probability_0_fails_nothing_and_1_everything(site, persistence):
    n_sites = 90 if site == "neuron" else 2400
    for probability in (0, 1):
        batch, counts = counts_of(
            StuckAtZero(site, probability=probability, persistence=persistence), 3, n_inputs=2
        )
        expected = n_sites * (1 if isinstance(persistence, Permanent) else 2) * probability
        assert (counts == expected).all()
        for fault_set in batch:
            for x in range(2):
                assert sum(map(len, fault_set.masks(x))) == n_sites * probability


def test_the_number_of_faults_of_a_trial_is_binomial_not_rounded():
    _, counts = counts_of(StuckAtZero("neuron", probability=0.1), 20_000)
    observed = np.bincount(counts, minlength=31)[:31]
    expected = stats.binom.pmf(np.arange(31), 90, 0.1) * len(counts)
    keep = expected > 5
    assert (
        stats.chisquare(
            observed[keep], expected[keep] * observed[keep].sum() / expected[keep].sum()
        ).pvalue
        > ALARM
    )


def test_every_site_fails_equally_often_and_independently():
    n_trials, p = 20_000, 0.1
    batch, _ = counts_of(StuckAtZero("neuron", probability=p), n_trials)
    dead = np.zeros((n_trials, 90), bool)
    trial = np.repeat(np.arange(n_trials), np.diff(batch.neurons.offsets))
    dead[trial, batch.neurons.site] = True
    low, high = stats.binom.interval(1 - ALARM / 90, n_trials, p)
    assert (low <= dead.sum(axis=0)).all()
    assert (dead.sum(axis=0) <= high).all()
    # Neighbours, which one stream draws one after the other, and a site in consecutive trials.
    for a, b in ((dead[:, :-1], dead[:, 1:]), (dead[:-1], dead[1:])):
        assert_binomial((a & b).sum(), a.size, p * p)


def test_a_wrong_rate_would_be_seen():
    _, counts = counts_of(StuckAtZero("neuron", probability=0.11), 20_000)
    low, high = stats.binom.interval(1 - ALARM, 20_000 * 90, 0.1)
    assert not low <= counts.sum() <= high


@pytest.mark.parametrize("p", [1e-15, 1e-6, 1e-3, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("n_cells", [1, 40, 3000])
def test_cells_are_those_of_a_walk_by_gaps(n_cells, p):
    """Draws look for trials without faults first; here every gap is a logarithm."""
    seed, first, n_trials = np.uint64(9), 2**32 - 150, 300  # more than one block of trials
    offsets, cells = draw_cells(seed, 2, first, n_trials, n_cells, p, 1.0)
    for t in range(0, n_trials, 1 if n_cells * p < 5 else 50):
        expected, cell, block = [], -1, 0
        while True:
            u, _ = uniforms(np.uint64(block), np.uint64(8), np.uint64(first + t), seed)
            cell += 1 + (np.floor(np.log(u) / np.log1p(-p)) if p < 1 else 0)
            if cell >= n_cells:
                break
            expected.append(cell)
            block += 1
        assert cells[offsets[t] : offsets[t + 1]].tolist() == expected


def test_tiny_probabilities_on_a_billion_cells_are_exact():
    offsets, cells = draw_cells(np.uint64(3), 0, 0, 2000, 10**9, 1e-8, 1.0)
    assert_binomial(offsets[-1], 2000 * 10**9, 1e-8)
    assert stats.kstest(cells / 1e9, "uniform").pvalue > ALARM
    assert draw_cells(np.uint64(3), 0, 0, 10, 10**9, 1e-300, 1.0)[0][-1] == 0


@given(
    seed=st.integers(0, 2**64 - 1),
    first=st.integers(0, 2**40),
    site=st.sampled_from(["neuron", "synapse"]),
    persistence=st.sampled_from([Permanent(), Transient(), Intermittent(mean_duration=2)]),
    probability=st.sampled_from([0.01, 0.2, 0.5]),
)
@settings(max_examples=40, deadline=None)
def test_a_fault_set_does_not_depend_on_the_batch_it_is_drawn_in(
    seed, first, site, persistence, probability
):
    processes = [
        StuckAtZero(site, probability=probability, persistence=persistence),
        StuckAtZero("neuron", probability=0.3, layers=[1]),
    ]
    sites = Sites((6, 5, 2))
    batch = draw(processes, PLAIN, sites, 3, seed, first, first + 5)
    for k in range(5):
        alone = draw(processes, PLAIN, sites, 3, seed, first + k, first + k + 1)
        assert alone[0] == batch[k]
        assert (alone.counts[0] == batch.counts[k]).all()


def test_seeds_trials_and_processes_have_streams_of_their_own():
    one = StuckAtZero("neuron", probability=0.2)
    sites = Sites((400, 1))
    a = draw([one], PLAIN, sites, 1, 1, 0, 2)
    b = draw([one], PLAIN, sites, 1, 2, 0, 1)
    assert a[0] != a[1]
    assert a[0] != b[0]
    both = draw([one, one], PLAIN, sites, 1, 1, 0, 200)
    # Two independent processes overlap: the union fails with 1 - 0.8^2.
    assert_binomial(len(both.neurons.site), 200 * 400, 0.36)
    assert (both.counts[:, 0] == draw([one], PLAIN, sites, 1, 1, 0, 200).counts[:, 0]).all()


def test_transient_faults_are_independent_between_presentations():
    n_trials, p = 4_000, 0.1
    batch, counts = counts_of(
        StuckAtZero("neuron", probability=p, persistence=Transient()), n_trials, n_inputs=5
    )
    assert_binomial(counts.sum(), n_trials * 90 * 5, p)
    dead = windows(batch, 90, 5)
    assert_binomial((dead[..., :-1] & dead[..., 1:]).sum(), dead[..., 1:].size, p * p)


def windows(batch, n_sites, n_inputs):
    dead = np.zeros((len(batch), n_sites, n_inputs), bool)
    trial = np.repeat(np.arange(len(batch)), np.diff(batch.neurons.offsets))
    events = batch.neurons
    for t, s, a, b in zip(trial, events.site, events.start, events.stop, strict=True):
        dead[t, s, a:b] = True
    return dead


@pytest.mark.parametrize(("p", "m"), [(0.1, 4.0), (0.5, 1.0), (0.3, 1 / 0.7), (0.6, 10.0)])
def test_intermittent_faults_follow_the_stationary_chain(p, m):
    process = StuckAtZero("neuron", probability=p, persistence=Intermittent(mean_duration=m))
    n_trials, n_inputs = 3_000, 8
    batch, counts = counts_of(process, n_trials, n_inputs=n_inputs)
    dead = windows(batch, 90, n_inputs)
    assert dead.sum() == counts.sum()
    n = n_trials * 90
    onset, repair = p / (m * (1 - p)), 1 / m
    for x in range(n_inputs):  # stationary from the start
        assert_binomial(dead[..., x].sum(), n, p)
    for x in range(n_inputs - 1):
        before, after = dead[..., x], dead[..., x + 1]
        assert_binomial((before & ~after).sum(), before.sum(), repair)
        assert_binomial((~before & after).sum(), (~before).sum(), onset)
    # Memoryless beyond one step: the state two steps ago does not matter.
    bad = dead[..., 1]
    for earlier in (dead[..., 0], ~dead[..., 0]):
        assert_binomial((earlier & bad & ~dead[..., 2]).sum(), (earlier & bad).sum(), repair)
    # Cov(xi_t, xi_{t+h}) = p (1 - p) rho^h (theory section 1), here h = 3.
    rho = 1 - 1 / (m * (1 - p))
    joint = p * p + p * (1 - p) * rho**3
    assert_binomial((dead[..., 0] & dead[..., 3]).sum(), n, joint)


@given(
    low=st.floats(0.001, 0.5),
    persistence=st.sampled_from([Permanent(), Transient(), Intermittent(mean_duration=3)]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=30, deadline=None)
def test_thinned_sets_are_nested_and_keep_their_law(low, persistence, seed):
    sites, n_trials = Sites((30, 20, 2)), 50
    plan = PlainMonteCarlo(draw_at=(0.6,))
    drawn = {}
    for p in (low, 0.6):
        process = StuckAtZero("neuron", probability=p, persistence=persistence)
        batch = draw([process], plan, sites, 4, seed, 0, n_trials)
        drawn[p] = windows(batch, 50, 4)
        # A loose check at each example; the sharp one is below.
        assert (
            abs(
                batch.counts.sum()
                / (drawn[p].size if not isinstance(persistence, Permanent) else n_trials * 50)
                - p
            )
            < 0.12
        )
    if not isinstance(persistence, Intermittent):
        assert (drawn[low] <= drawn[0.6]).all()


@pytest.mark.parametrize("persistence", [Permanent(), Transient(), Intermittent(mean_duration=3)])
def test_thinned_rates_are_exact(persistence):
    process = StuckAtZero("neuron", probability=0.05, persistence=persistence)
    batch, _ = counts_of(process, 4000, n_inputs=3, plan=PlainMonteCarlo(draw_at=(0.5,)))
    dead = windows(batch, 90, 3)
    for x in range(3):
        assert_binomial(dead[..., x].sum(), dead[..., x].size, 0.05)


def test_a_plan_that_draws_too_rarely_is_refused():
    process = StuckAtZero("neuron", probability=0.05)
    with pytest.raises(InputError, match=r"draw_at: expected a probability from 0\.05"):
        PlainMonteCarlo(draw_at=(0.04,)).probabilities([process])
    with pytest.raises(InputError, match="one probability for each of 1 processes"):
        PlainMonteCarlo(draw_at=(0.5, 0.5)).probabilities([process])


def test_layers_that_do_not_touch_are_numbered_rightly():
    process = StuckAtZero("neuron", probability=1, layers=[0, 2])
    batch = draw([process], PLAIN, Sites((2, 3, 2)), 1, 0, 0, 1)
    assert batch[0].neurons[["layer", "unit"]].tolist() == [(0, 0), (0, 1), (2, 0), (2, 1)]
