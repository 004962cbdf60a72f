"""Predictions against exact enumeration of all fault sets (tests/exact.py)."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from exact import PlainNetwork, enumerate_faults, enumerate_trials, single_faults
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

import neurosim as ns
from neurosim.errors import InputError
from neurosim.theory.prediction import Method
from neurosim.theory.surrogate import surrogate_law

ACTIVATIONS = ["identity", "relu", "leaky_relu(0.1)", "sigmoid(4)", "tanh", "softplus"]


@st.composite
def cases(draw, activations=ACTIVATIONS, max_width=4, softmax=True):
    """A small network, its inputs, and fault processes that leave at most ten sites."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    depth = draw(st.integers(1, 3))
    widths = [draw(st.integers(1, max_width)) for _ in range(depth + 1)]
    chosen = [draw(st.sampled_from(activations)) for _ in range(depth)]
    if softmax and draw(st.booleans()):
        chosen[-1] = "softmax"
    network = ns.Network.dense(
        weights=[rng.normal(size=(b, a)) for a, b in pairwise(widths)],
        biases=[rng.normal(size=n) for n in widths[1:]],
        activations=chosen,
    )
    plain, blocks, sites = PlainNetwork.of(network), [], []
    options = [("neuron", n) for n in range(depth + 1)] + [
        ("synapse", n) for n in range(1, depth + 1)
    ]
    for kind, layer in draw(st.permutations(options)):
        found = list(plain.neurons(layer) if kind == "neuron" else plain.synapses(layer))
        if len(sites) + len(found) <= 10:
            blocks.append((kind, layer))
            sites += found
    assume(blocks)
    keep = draw(st.integers(1, len(blocks)))
    blocks = blocks[:keep]
    sites = []
    for kind, layer in blocks:
        sites += plain.neurons(layer) if kind == "neuron" else plain.synapses(layer)
    return network, plain, rng.normal(size=(2, widths[0])), blocks, sites


def predict(network, inputs, blocks, p, method, **options):
    campaign = ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero(kind, probability=p, layers=[layer]) for kind, layer in blocks],
        inputs=inputs,
        trials=1,
        seed=0,
    )
    return ns.predict(campaign, method=method, **options)


@given(case=cases(), p=st.sampled_from([1e-4, 0.01, 0.3, 0.5]))
@settings(max_examples=200, deadline=None)
def test_single_fault_moments_are_sums_over_exact_single_errors(case, p):
    network, plain, inputs, blocks, sites = case
    prediction = predict(network, inputs, blocks, p, "single-fault")
    for x, y in enumerate(inputs):
        d = single_faults(plain, y, sites)
        np.testing.assert_allclose(prediction.mean[x], p * d.sum(axis=0), rtol=1e-7, atol=1e-11)
        np.testing.assert_allclose(
            prediction.variance[x], p * (1 - p) * (d**2).sum(axis=0), rtol=1e-7, atol=1e-11
        )
        np.testing.assert_allclose(
            prediction.variance_paper[x], p * (d**2).sum(axis=0), rtol=1e-7, atol=1e-11
        )


@given(case=cases())
@settings(max_examples=200, deadline=None)
def test_single_fault_tends_to_the_exact_moments_as_faults_become_rare(case):
    network, plain, inputs, blocks, sites = case
    gaps = []
    for p in (1e-3, 1e-4):
        prediction = predict(network, inputs[:1], blocks, p, "single-fault")
        law = enumerate_faults(plain, inputs[0], sites, p)
        gaps.append(
            [abs(prediction.mean[0] - law.mean), abs(prediction.variance[0] - law.variance)]
        )
    # The gap is of second order in p: a tenth of p, a hundredth of the gap, or more where the third
    # order cancels some of it; were it of first order, a tenth.
    gaps = np.array(gaps)
    scale = 1 + abs(single_faults(plain, inputs[0], sites)).max() ** 2
    assert (gaps[1] <= gaps[0] / 20 + 1e-12 * scale).all()


@given(case=cases(), p=st.sampled_from([1e-4, 0.05, 0.5]))
@settings(max_examples=200, deadline=None)
def test_exact_means_exact(case, p):
    network, plain, inputs, blocks, sites = case
    prediction = predict(network, inputs, blocks, p, "single-fault")
    assume(prediction.exact)
    for x, y in enumerate(inputs):
        law = enumerate_faults(plain, y, sites, p)
        np.testing.assert_allclose(prediction.mean[x], law.mean, rtol=1e-7, atol=1e-11)
        np.testing.assert_allclose(prediction.variance[x], law.variance, rtol=1e-7, atol=1e-11)


@given(case=cases(activations=["identity", "sigmoid(4)", "tanh", "softplus"]))
@settings(max_examples=200, deadline=None)
def test_first_order_effects_are_derivatives(case):
    network, _, inputs, blocks, sites = case
    prediction = predict(network, inputs[:1], blocks, 0.01, "first-order")
    # g_s is the derivative by the strength of a fault: a neuron or synapse scaled by 1 - h.
    h, effects = 1e-6, []
    for site in sites:
        change = []
        for step in (h, -h):
            change.append(scaled(network, inputs[:1], site, step))
        effects.append((change[0] - change[1]) / (2 * h))
    e = np.array(effects)[:, 0]
    np.testing.assert_allclose(prediction.mean[0], 0.01 * e.sum(axis=0), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(
        prediction.variance[0], 0.01 * 0.99 * (e**2).sum(axis=0), rtol=1e-5, atol=1e-10
    )


def scaled(network, inputs, site, step):
    """Outputs with one neuron or synapse scaled by 1 - step."""
    y = inputs.copy()
    if site[:2] == ("neuron", 0):
        y[:, site[2]] *= 1 - step
    for number, layer in enumerate(network.layers, start=1):
        weight = layer.weight.copy()
        if site[:2] == ("synapse", number):
            weight[site[2], site[3]] *= 1 - step
        y = layer.activation(y @ weight.T + layer.bias)
        if site[:2] == ("neuron", number):
            y[:, site[2]] *= 1 - step
    return network.read_out(y)


def test_first_order_is_blind_where_one_fault_is_no_small_change():
    # y = (x_1 - a)^2 at x_1 = a: the derivative is 0; d = a^2. Here by relu: the kink.
    network = ns.Network.dense(
        weights=[[[1.0]], [[1.0]]], biases=[[-1.0], [0.0]], activations=["relu", "identity"]
    )
    blocks = [("neuron", 0)]
    assert predict(network, [[0.5]], blocks, 0.1, "first-order").variance[0, 0] == 0
    network = ns.Network.dense(
        weights=[[[-1.0]], [[1.0]]], biases=[[0.5], [0.0]], activations=["relu", "identity"]
    )
    first = predict(network, [[1.0]], blocks, 0.1, "first-order").variance[0, 0]
    single = predict(network, [[1.0]], blocks, 0.1, "single-fault").variance[0, 0]
    law = enumerate_faults(PlainNetwork.of(network), [1.0], [("neuron", 0, 0)], 0.1)
    assert first == 0
    assert single == pytest.approx(law.variance[0])


def test_the_toys_of_the_paper():
    n, p = 50, 0.03
    mean = ns.Network.dense(
        weights=[np.full((1, n), 1 / n)], biases=[[0]], activations=["identity"]
    )
    first = ns.Network.dense(weights=[np.eye(1, n)], biases=[[0]], activations=["identity"])
    for network, e, variance in ((mean, -p, p * (1 - p) / n), (first, -p, p * (1 - p))):
        prediction = predict(network, np.ones((1, n)), [("neuron", 0)], p, "first-order")
        assert prediction.exact
        assert prediction.mean[0, 0] == pytest.approx(e)
        assert prediction.variance[0, 0] == pytest.approx(variance)


@pytest.mark.parametrize(
    "persistence", [ns.Permanent(), ns.Transient(), ns.Intermittent(mean_duration=1.5)]
)
def test_moments_of_a_trial_follow_from_the_persistence(persistence):
    rng = np.random.default_rng(2)
    network = ns.Network.dense(
        weights=[rng.normal(size=(3, 2)), rng.normal(size=(2, 3))],
        biases=[np.ones(3), np.ones(2)],
        activations=["tanh", "identity"],
    )
    inputs = rng.normal(size=(4, 2))
    campaign = ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        inputs=inputs,
        trials=1,
        seed=0,
        faults=[ns.StuckAtZero("neuron", probability=0.2, layers=[1], persistence=persistence)],
    )
    prediction = ns.predict(campaign, method="single-fault")
    how = {"permanent": "permanent", "transient": "transient"}.get(str(persistence), 1.5)
    mean, between, within = enumerate_trials(
        PlainNetwork.of(network), inputs, [("neuron", 1, i) for i in range(3)], 0.2, [how] * 3
    )
    np.testing.assert_allclose(prediction.input_mean, mean)
    np.testing.assert_allclose(prediction.input_mean_variance, between)
    np.testing.assert_allclose(prediction.within_chip_variance, within)
    if how == "permanent":
        np.testing.assert_allclose(prediction.between_chip_variance, between)
    else:
        assert not prediction.between_chip_variance.any()


def test_contributions_add_up_and_overlapping_processes_merge():
    rng = np.random.default_rng(0)
    network = ns.Network.dense(
        weights=[rng.normal(size=(6, 5)), rng.normal(size=(2, 6))],
        biases=[np.ones(6), np.ones(2)],
        activations=["sigmoid(4)", "identity"],
    )
    deployment = ns.deploy(network, ns.Chip.load("ideal"))

    def of(*faults):
        return ns.predict(
            ns.Campaign(
                deployment=deployment,
                faults=faults,
                inputs=rng.normal(size=(1, 5)) * 0 + 1,
                trials=1,
                seed=0,
            )
        )

    both = of(
        ns.StuckAtZero("neuron", probability=0.1), ns.StuckAtZero("synapse", probability=0.02)
    )
    np.testing.assert_allclose(sum(both.variance_contributions.values()), both.variance)
    np.testing.assert_allclose(sum(both.mean_contributions.values()), both.mean)
    assert both.overlaps
    merged = of(
        ns.StuckAtZero("neuron", probability=0.1), ns.StuckAtZero("neuron", probability=0.2)
    )
    one = of(ns.StuckAtZero("neuron", probability=1 - 0.9 * 0.8))
    np.testing.assert_allclose(merged.variance, one.variance)
    assert "output" in str(both)


def test_laws_are_those_of_sums_of_independent_faults():
    # Equal effects: a binomial. Two kinds: enumerated.
    law = surrogate_law([(np.full(30, 0.25), 0.1)])
    k = np.arange(31)
    np.testing.assert_allclose(law.cdf(0.25 * k), binom.cdf(k, 30, 0.1), atol=1e-9)
    assert law.mass_at_zero == pytest.approx(0.9**30)
    rng = np.random.default_rng(0)
    effects = rng.normal(size=10)
    law = surrogate_law([(effects, 0.2)])
    sets = (np.arange(1024)[:, None] >> np.arange(10)) & 1
    values, chance = sets @ effects, np.prod(np.where(sets, 0.2, 0.8), axis=1)
    for t in (-1.5, -0.3, 0.4, 1.1):
        slack = 2 * law.step + 4 * law.location_error
        assert law.cdf(t - slack) - 1e-9 <= chance[values <= t].sum() <= law.cdf(t + slack) + 1e-9
    assert law.mean == pytest.approx(0.2 * effects.sum())
    assert law.variance == pytest.approx(0.16 * (effects**2).sum())


@pytest.mark.parametrize("p", [1e-6, 1e-3, 0.1, 0.3])
def test_laws_by_the_series_are_products_over_sites(monkeypatch, p):
    """Characteristic functions of single sites multiplied out, for effects off the lattice."""
    effects = np.random.default_rng(1).normal(size=300)
    by_series = surrogate_law([(effects, p), (effects[:40], p / 2)])
    monkeypatch.setattr("neurosim.theory.surrogate._SERIES_LIMIT", 0.0)
    one_by_one = surrogate_law([(effects, p), (effects[:40], p / 2)])
    np.testing.assert_array_equal(by_series.grid, one_by_one.grid)
    np.testing.assert_allclose(by_series.mass, one_by_one.mass, rtol=0, atol=1e-14)
    np.testing.assert_allclose(by_series.sf(effects), one_by_one.sf(effects), rtol=0, atol=1e-12)


def test_laws_of_many_sites_keep_the_largest_effects_whole(monkeypatch):
    effects = np.random.default_rng(2).normal(size=3000)
    law = surrogate_law([(effects, 0.01)])
    monkeypatch.setattr("neurosim.theory.surrogate._WHOLE", len(effects))
    whole = surrogate_law([(effects, 0.01)])
    np.testing.assert_allclose(law.sf(law.grid), whole.sf(law.grid), rtol=0, atol=1e-6)


def test_small_effects_do_not_drown_in_the_lattice_of_a_large_one():
    # 2000 sites of standard deviation 0.045 together, and one that moves the sum by 150.
    rng = np.random.default_rng(1)
    small = rng.normal(scale=0.01, size=2000)
    blocks = [(small, 0.01), ([150.0], 1e-9)]
    coarse, law, alone = (
        surrogate_law(blocks, points=2**14),
        surrogate_law(blocks),
        surrogate_law(blocks[:1]),
    )
    at = np.sqrt(alone.variance) * np.array([0.25, 0.5, 1.0, 2.0])
    assert coarse.location_error > alone.variance**0.5 / 32 >= law.location_error
    assert len(law.grid) > len(alone.grid) == len(coarse.grid)
    np.testing.assert_allclose(law.sf(at), alone.sf(at), atol=2e-3)
    assert abs(coarse.sf(at) - alone.sf(at)).max() > 0.01
    assert law.sf(120.0) == pytest.approx(1e-9, rel=1e-4)


def test_errors_at_hidden_layers_are_predicted_too():
    rng = np.random.default_rng(1)
    network = ns.Network.dense(
        weights=[rng.normal(size=(3, 4)), rng.normal(size=(2, 3))],
        biases=[np.ones(3), np.ones(2)],
        activations=["tanh", "identity"],
    )
    x = rng.normal(size=(1, 4))
    prediction = predict(network, x, [("neuron", 0)], 0.1, "single-fault", layer=1)
    plain = PlainNetwork.of(network)
    d = single_faults(plain, x[0], plain.neurons(0), layer=1)
    np.testing.assert_allclose(prediction.mean[0], 0.1 * d.sum(axis=0))


def test_unknown_methods_and_places_are_refused():
    network = ns.Network.dense(weights=[[[1.0]]], biases=[[0]], activations=["identity"])
    with pytest.raises(InputError, match="method: expected one of"):
        predict(network, [[1.0]], [("neuron", 0)], 0.1, "third-order")
    with pytest.raises(InputError, match="layer: expected a layer from 0"):
        predict(network, [[1.0]], [("neuron", 0)], 0.1, "first-order", layer=2)
    prediction = predict(network, [[1.0]], [("neuron", 0)], 0.1, "first-order")
    with pytest.raises(InputError, match="output: expected a whole number from 0 to 0"):
        prediction.distribution(0, 1)


@pytest.mark.parametrize("kind", ["neuron", "synapse"])
def test_a_softmax_whose_golden_logit_falls_far_keeps_its_numbers(kind):
    # All golden mass sits on logit 0, which falls by 900 or by 2000: exp(-900) is 0 in a float.
    layer = 0 if kind == "neuron" else 1
    network = ns.Network.dense(
        weights=[[[900.0, 2000.0], [1.0, 0.0], [0.0, 2.0]]],
        biases=[np.zeros(3)],
        activations=["softmax"],
    )
    plain, x = PlainNetwork.of(network), np.ones((1, 2))
    d = single_faults(plain, x[0], plain.neurons(0) if kind == "neuron" else plain.synapses(1))
    single = predict(network, x, [(kind, layer)], 0.1, "single-fault")
    np.testing.assert_allclose(single.mean[0], 0.1 * d.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(single.variance[0], 0.09 * (d**2).sum(axis=0), rtol=1e-12)
    law = enumerate_faults(plain, x[0], plain.neurons(0), 0.1)
    exact = predict(network, x, [("neuron", 0)], 0.1, "enumeration")
    np.testing.assert_allclose(exact.mean[0], law.mean, rtol=1e-12)
    mean_field = predict(network, x, [("neuron", 0)], 0.999, "mean-field")
    np.testing.assert_allclose(
        mean_field.mean[0], network(0.001 * x)[0] - network(x)[0], rtol=1e-12
    )


@pytest.mark.parametrize("activations", [["softmax"], ["identity", "softmax"]])
def test_small_changes_of_a_saturated_softmax_keep_their_digits(activations):
    # Logits (60, 5); a dead synapse takes the 5: both outputs move by 1e-24.
    weights = [np.array([[60.0, 0.0], [0.0, 5.0]]), np.eye(2)][: len(activations)]
    network = ns.Network.dense(
        weights=weights, biases=[np.zeros(2)] * len(weights), activations=activations
    )
    prediction = predict(network, [[1.0, 1.0]], [("synapse", 1)], 1e-3, "single-fault")
    effects = prediction.model.effects.effects(("synapse", 1), slice(0, 1))[:, 0, 3]
    change = 1 / (1 + np.exp(60.0)) - 1 / (1 + np.exp(55.0))
    np.testing.assert_allclose(effects, [-change, change], rtol=1e-12)


def loss_effects(network, target, loss):
    """Changes of a loss when each of the inputs (1, 1) alone is dead."""
    campaign = ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero("neuron", probability=0.1, layers=[0])],
        inputs=[[1.0, 1.0]],
        targets=target,
        trials=1,
        seed=0,
    )
    prediction = ns.predict(campaign, "single-fault", loss=loss)
    return prediction.model.effects.effects(("neuron", 0), slice(0, 1))[0, 0]


def test_small_changes_of_losses_keep_their_digits():
    # The logit of the class wanted falls from 60 to 50: its loss is as good as 0 before and after.
    network = ns.Network.dense(
        weights=[[[10.0, 50.0], [0.0, 0.0]]], biases=[[0, 0]], activations=["softmax"]
    )
    change = loss_effects(network, [0], "cross_entropy")[0]
    np.testing.assert_allclose(change, np.exp(-50) - np.exp(-60), rtol=1e-12)
    # An output of 1 far from its target changes by 1e-12.
    network = ns.Network.dense(weights=[[[1e-12, 1.0]]], biases=[[0]], activations=["identity"])
    for target, sign in ((3.0, 1), (-3.0, -1)):
        change = loss_effects(network, [[target]], "absolute_error")
        np.testing.assert_allclose(change, [sign * 1e-12, sign * 1.0], rtol=1e-12)
    # Over the target: |0.5 - 1| - |1.5 - 1| and |1 - 1| - |1.5 - 1|.
    network = ns.Network.dense(weights=[[[1.0, 0.5]]], biases=[[0]], activations=["identity"])
    np.testing.assert_allclose(loss_effects(network, [[1.0]], "absolute_error"), [0, -0.5])


@pytest.mark.parametrize("method", get_args(Method))
def test_moments_beyond_a_float_are_refused_in_one_line(method):
    network = ns.Network.dense(
        weights=[np.full((2, 2), 1e100), np.full((1, 2), 1e100)],
        biases=[[0, 0], [0]],
        activations=["identity", "identity"],
    )
    with pytest.raises(InputError, match="network: expected weights and inputs for which") as info:
        predict(network, [[1.0, 1.0]], [("neuron", 0), ("neuron", 1)], 0.1, method)
    assert "\n" not in str(info.value)


def test_tiny_errors_have_a_kurtosis():
    for scale in (1e-150, 1e-70, 1.0, 1e70):
        network = ns.Network.dense(
            weights=[[[scale, 2 * scale]]], biases=[[0]], activations=["identity"]
        )
        kurtosis = [
            predict(network, [[1.0, 1.0]], [("neuron", 0)], 0.1, method).kurtosis
            for method in ("first-order", "enumeration")
        ]
        # 3 + (1 - 6 p q) (1 + 2^4) / (p q (1 + 2^2)^2)
        np.testing.assert_allclose(kurtosis, 3 + (1 - 0.54) * 17 / (0.09 * 25), rtol=1e-12)


@pytest.mark.parametrize("method", get_args(Method))
def test_certain_faults_leave_nothing_within_a_chip_below_zero(method):
    network = ns.Network.dense(
        weights=[np.zeros((3, 3))], biases=[np.zeros(3)], activations=["softplus"]
    )
    inputs = np.arange(9.0).reshape(3, 3)
    found = predict(network, inputs, [("neuron", 1)], 1.0, method)
    assert (found.within_chip_variance >= 0).all()


@pytest.mark.parametrize("value", [None, "x", 1, [1]])
def test_what_is_no_campaign_is_refused(value):
    for ask in (ns.predict, ns.check_assumptions):
        with pytest.raises(InputError, match="campaign: expected a Campaign, got"):
            ask(value)


@pytest.mark.parametrize("place", [None, "x", 0.0, [0], np.array([1]), np.nan])
def test_places_that_are_no_whole_numbers_are_refused(place):
    network = ns.Network.dense(weights=[[[1.0]]], biases=[[0]], activations=["identity"])
    prediction = predict(network, [[1.0]], [("neuron", 0)], 0.1, "first-order")
    with pytest.raises(InputError, match="input: expected a whole number"):
        prediction.distribution(place, 0)
    with pytest.raises(InputError, match="output: expected a whole number"):
        prediction.distribution(0, place)
    with pytest.raises(InputError, match="layer: expected a whole number"):
        prediction.site_contributions("neuron", place)
    with pytest.raises(InputError, match="site: expected"):
        prediction.site_contributions(place, 0)


@pytest.mark.parametrize("value", [None, "x", np.nan, [np.nan], [[1, 2], [3]]])
def test_laws_are_asked_at_numbers(value):
    network = ns.Network.dense(weights=[[[1.0]]], biases=[[0]], activations=["identity"])
    law = predict(network, [[1.0]], [("neuron", 0)], 0.1, "first-order").distribution(0, 0)
    for ask, name in ((law.cdf, "t"), (law.sf, "t"), (law.exceedance, "epsilon")):
        with pytest.raises(InputError, match=f"{name}: expected numbers"):
            ask(value)
    assert law.cdf(np.inf) == 1


@pytest.mark.parametrize(
    ("method", "loss"), [("second-order", None), ("first-order", "squared_error")]
)
def test_one_input_has_no_variance_within_a_chip(method, loss):
    rng = np.random.default_rng(0)
    network = ns.Network.dense(
        weights=[rng.normal(size=(4, 3)), rng.normal(size=(2, 4))],
        biases=[np.zeros(4), np.zeros(2)],
        activations=["tanh", "identity"],
    )
    campaign = ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero("neuron", probability=0.3, layers=[0])],
        inputs=rng.normal(size=(1, 3)),
        targets=[[0.0, 0.0]],
        trials=1,
        seed=0,
    )
    prediction = ns.predict(campaign, method, loss=loss)
    np.testing.assert_allclose(prediction.within_chip_variance, 0, atol=1e-14)
    np.testing.assert_allclose(
        prediction.between_chip_variance, prediction.input_mean_variance, rtol=1e-12
    )
    # What pairs add is in the variance at the input.
    assert (prediction.variance.mean(axis=0) > prediction.input_mean_variance).all()
