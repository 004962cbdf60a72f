"""Moments of the error by strata and a control variate, against all fault sets.

False-alarm rate of every random test: 1e-6.
"""

from itertools import product

import numpy as np
import pytest
from scipy import stats
from test_exceedance import ALARM, MIXED, NEURONS, campaign, exact_law, network

import neurosim as ns
from neurosim.errors import InputError

HOW = [
    dict(zip(("stratified", "control_variate", "integrated"), flags, strict=True))
    for flags in product((False, True), repeat=3)
]
LAST = [
    ns.StuckAtZero("neuron", probability=0.1, layers=[0, 1]),
    ns.StuckAtZero("neuron", probability=0.05, layers=[2]),
    ns.StuckAtZero("synapse", probability=0.08, layers=[2]),
]


def z_values(found, work):
    """(estimate - truth) / standard error of mean, second moment and variance."""
    zs = []
    for x in range(work.n_inputs):
        law = exact_law(work, x)
        second = law.expectation(lambda v: v**2)
        for name, truth in (
            ("mean", law.mean),
            ("second_moment", second),
            ("variance", law.variance),
        ):
            error = getattr(found, name + "_standard_error")[x]
            # What is exact is known to rounding.
            slack = 1e-13 * np.maximum(np.abs(truth), 1e-3)
            zs.append((getattr(found, name)[x] - truth) / np.hypot(error, slack))
    return np.array(zs)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("faults", [NEURONS, MIXED, LAST])
def test_every_way_is_unbiased(how, faults):
    work = campaign(network((4, 3, 3), "tanh"), faults)
    found = ns.estimate_moments(work, 8000, **how)
    zs = z_values(found, work)
    assert np.abs(zs).max() < stats.norm.isf(ALARM / 2 / zs.size)
    assert found.mean.shape == (2, 3)


@pytest.mark.parametrize("how", HOW)
def test_certain_faults_are_part_of_every_set(how):
    faults = [
        ns.StuckAtZero("neuron", probability=1.0, layers=[2]),
        ns.StuckAtZero("neuron", probability=0.05, layers=[0, 1]),
    ]
    work = campaign(network((4, 3, 3, 2), "tanh"), faults)
    zs = z_values(ns.estimate_moments(work, 8000, **how), work)
    assert np.abs(zs).max() < stats.norm.isf(ALARM / 2 / zs.size)


@pytest.mark.parametrize("how", HOW)
def test_standard_errors_are_those_between_seeds(how):
    net, faults = network((6, 4, 2)), [ns.StuckAtZero("neuron", probability=0.2)]
    zs = np.array(
        [
            z_values(ns.estimate_moments(work, 400, **how), work)[:2]
            for work in (campaign(net, faults, n_inputs=1, seed=s) for s in range(60))
        ]
    )
    # Means of z^2 of 60 seeds, with room for the spread of a variance of a skew law.
    total = np.square(zs).mean(axis=0)
    assert (total > 0.5).all()
    assert (total < 2.0).all()


def test_less_noise_for_rarer_faults():
    net = network((9, 6, 2))
    gains = []
    for p in (1e-4, 1e-2):
        work = campaign(net, [ns.StuckAtZero("neuron", probability=p)])
        plain, best = (ns.estimate_moments(work, 4000, **how) for how in (HOW[0], HOW[-1]))
        exact = exact_spread(work)
        gains.append(np.median(exact / 4000 / best.mean_standard_error**2))
        some = plain.mean_standard_error > 0
        assert some.any() or p < 1e-3
    assert gains[0] > 1e5
    assert gains[1] > 30


def exact_spread(work):
    """Var error, (n_inputs, n_outputs), by enumeration."""
    return ns.predict(work, method="enumeration").variance


def test_a_wrong_control_mean_is_caught(monkeypatch):
    """The negative control: the mean of the control variate, a fiftieth off."""
    from neurosim.certification import moments

    right = moments._Trials.exact

    def wrong(self, alone):
        mean, second = right(self, alone)
        return mean * 1.02, second

    monkeypatch.setattr(moments._Trials, "exact", wrong)
    work = campaign(network((4, 3, 3), "tanh"), NEURONS)
    zs = z_values(ns.estimate_moments(work, 8000), work)
    assert np.abs(zs).max() > stats.norm.isf(ALARM / 2 / zs.size)


def test_a_wrong_average_over_the_last_layer_is_caught(monkeypatch):
    """The negative control: the variance of what is behind the last hidden outputs, a tenth off."""
    from neurosim.certification import moments

    work = campaign(network((4, 3, 3), "tanh"), LAST)
    zs = z_values(ns.estimate_moments(work, 8000), work)
    assert np.abs(zs).max() < stats.norm.isf(ALARM / 2 / zs.size)
    monkeypatch.setattr(
        moments._LastLayer, "spread", property(lambda s: 0.9 * s.alive * (1 - s.alive))
    )
    zs = z_values(ns.estimate_moments(work, 8000), work)
    assert np.abs(zs[::3]).max() < stats.norm.isf(ALARM / 2 / zs.size)  # the means are right
    assert np.abs(zs).max() > stats.norm.isf(ALARM / 2 / zs.size)


def test_the_last_layer_is_averaged_exactly_where_it_is_linear():
    work = campaign(network((6, 5, 2), "tanh"), [ns.StuckAtZero("neuron", probability=0.1)])
    found = [ns.estimate_moments(work, 4000, integrated=flag) for flag in (False, True)]
    assert [one.integrated for one in found] == [False, True]
    gain = (found[0].mean_standard_error / found[1].mean_standard_error) ** 2
    assert np.median(gain) > 1.3
    softmax = campaign(network((4, 3, 3), last="softmax"), NEURONS)
    assert not ns.estimate_moments(softmax, 100).integrated
    # One failing hidden layer before a linear one: nothing is left to draw.
    alone = campaign(
        network((4, 5, 2), "tanh"), [ns.StuckAtZero("neuron", probability=0.2, layers=[1])]
    )
    exact = ns.predict(alone, method="enumeration")
    known = ns.estimate_moments(alone, 2)
    np.testing.assert_allclose(known.mean, exact.mean, rtol=1e-9)
    np.testing.assert_allclose(known.variance, exact.variance, rtol=1e-9)
    assert not known.mean_standard_error.any()


def test_parts_of_the_inputs_and_executors_do_not_matter(monkeypatch):
    from neurosim.certification import moments

    work = campaign(network((5, 4, 2)), NEURONS, n_inputs=5)
    whole = ns.estimate_moments(work, 600, executor=ns.SerialExecutor())
    threads = ns.estimate_moments(work, 600, executor=ns.ThreadExecutor(threads=3))
    assert np.array_equal(whole.mean, threads.mean)
    monkeypatch.setattr(moments, "_VALUES", 2 * 9 * 2)
    parts = ns.estimate_moments(work, 600)
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-10)
    np.testing.assert_allclose(parts.variance_standard_error, whole.variance_standard_error)
    assert "stratified" in str(parts)


def test_linear_networks_are_exact():
    work = campaign(network((20, 3), "identity"), [ns.StuckAtZero("neuron", probability=0.1)])
    found = ns.estimate_moments(work, 50)
    exact = ns.predict(work, method="enumeration")
    np.testing.assert_allclose(found.mean, exact.mean, rtol=1e-9)
    np.testing.assert_allclose(found.variance, exact.variance, rtol=1e-9)
    assert found.mean_standard_error.max() < 1e-10


def test_what_does_not_fit_is_refused(monkeypatch):
    from neurosim.certification import moments

    work = campaign(network((3, 3, 2)), NEURONS)
    with pytest.raises(InputError, match="evaluations"):
        ns.estimate_moments(work, 1)
    monkeypatch.setattr(moments, "_VALUES", 3)
    with pytest.raises(InputError, match="let fewer layers fail"):
        ns.estimate_moments(work, 10)
    spiking = campaign(network((3, 3, 2), "relu"), NEURONS, backend="spiking-compiled")
    with pytest.raises(InputError, match="spikes"):
        ns.estimate_moments(spiking, 10)
