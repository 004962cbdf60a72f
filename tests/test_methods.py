"""The methods of `predict` beside T1 and b4, and what a prediction tells besides its moments."""

from itertools import pairwise

import numpy as np
import pytest
from exact import (
    ExactLaw,
    PlainNetwork,
    enumerate_faults,
    enumerate_trials,
    fault_sets,
    loss_value,
    set_probabilities,
    single_faults,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_prediction import cases

import neurosim as ns
from neurosim.errors import InputError
from neurosim.theory import second_order
from neurosim.theory.effects import covariance
from neurosim.theory.losses import Head

SMOOTH = ["identity", "sigmoid(4)", "tanh", "softplus"]
LOSSES = ["squared_error", "absolute_error", "cross_entropy"]


def campaign_of(network, inputs, faults, targets=None):
    return ns.Campaign(
        deployment=ns.deploy(network, ns.Chip.load("ideal")),
        faults=faults,
        inputs=inputs,
        targets=targets,
        trials=1,
        seed=0,
    )


def predict(network, inputs, blocks, p, method, targets=None, **options):
    faults = [ns.StuckAtZero(kind, probability=p, layers=[layer]) for kind, layer in blocks]
    return ns.predict(campaign_of(network, inputs, faults, targets), method, **options)


def targets_of(network, n_inputs):
    return np.abs(np.random.default_rng(5).normal(size=(n_inputs, network.widths[-1])))


def losses_of(network):
    return [None, *LOSSES[: 3 if network.readout == "softmax" else 2]]


def quadratic_law(plain, x, sites, p, loss, target, step=1e-4):
    """The law of -g.xi + 1/2 xi.H xi over all fault sets, g and H by finite differences."""
    n, h = len(sites), step

    def change(strengths):
        outputs = plain.forward(x, sites, np.array(strengths))
        return outputs if loss is None else loss_value(loss, outputs, target)[:, None]

    one = np.eye(n) * h
    f0 = change(np.zeros((1, n)))[0]
    g = (change(one) - change(-one)) / (2 * h)
    curvature = np.zeros((n, n, len(f0)))
    for s in range(n):
        for t in range(n):
            f = change([one[s] + one[t], one[s] - one[t], one[t] - one[s], -one[s] - one[t]])
            curvature[s, t] = (f[0] - f[1] - f[2] + f[3]) / (4 * h * h)
    sets = fault_sets(n).astype(float)
    values = sets @ g + 0.5 * np.einsum("as,stk,at->ak", sets, curvature, sets)
    return ExactLaw(values, set_probabilities(n, p))


@given(case=cases(activations=SMOOTH, max_width=3), p=st.sampled_from([0.01, 0.3]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_second_order_moments_are_those_of_the_quadratic_surrogate(case, p, data):
    network, plain, inputs, blocks, sites = case
    targets = targets_of(network, len(inputs))
    loss = data.draw(st.sampled_from([n for n in losses_of(network) if n != "absolute_error"]))
    prediction = predict(network, inputs, blocks, p, "second-order", targets, loss=loss)
    for i, x in enumerate(inputs):
        law = quadratic_law(plain, x, sites, p, loss, targets[i])
        # Second differences with steps of 1e-4 are good to about 1e-6 of the values.
        scale = 1e-5 * (1 + np.abs(law.values).max() ** 2)
        np.testing.assert_allclose(prediction.mean[i], law.mean, rtol=1e-5, atol=scale)
        np.testing.assert_allclose(prediction.covariance[i], law.covariance, rtol=1e-5, atol=scale)
    np.testing.assert_allclose(
        np.diagonal(prediction.covariance, axis1=1, axis2=2), prediction.variance, rtol=1e-9
    )
    np.testing.assert_allclose(
        sum(prediction.variance_contributions.values()), prediction.variance, rtol=1e-9, atol=1e-15
    )
    np.testing.assert_allclose(
        sum(prediction.mean_contributions.values()), prediction.mean, rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(sum(prediction.mean_terms.values()), prediction.mean, atol=1e-12)


def test_second_order_is_exact_where_the_network_is_quadratic_in_the_faults():
    # Linear layers and faults in two of them: a polynomial of degree two, no site twice.
    rng = np.random.default_rng(3)
    network = ns.Network.dense(
        weights=[rng.normal(size=(2, 3)), rng.normal(size=(2, 2))],
        biases=[rng.normal(size=2), rng.normal(size=2)],
        activations=["identity", "identity"],
    )
    plain = PlainNetwork.of(network)
    x = rng.normal(size=(1, 3))
    for blocks in (
        [("neuron", 0), ("neuron", 1)],
        [("neuron", 0), ("synapse", 1)],
        [("synapse", 1), ("neuron", 1)],
        [("synapse", 1), ("synapse", 2)],
        [("neuron", 1), ("synapse", 2)],
        [("synapse", 2), ("neuron", 2)],
    ):
        sites = []
        for kind, n in blocks:
            sites += plain.neurons(n) if kind == "neuron" else plain.synapses(n)
        law = enumerate_faults(plain, x[0], sites, 0.3)
        prediction = predict(network, x, blocks, 0.3, "second-order")
        np.testing.assert_allclose(prediction.mean[0], law.mean, rtol=1e-10)
        np.testing.assert_allclose(prediction.covariance[0], law.covariance, rtol=1e-10, atol=1e-14)
        # The negative control: first order misses both.
        first = predict(network, x, blocks, 0.3, "first-order")
        assert (abs(first.variance[0] - law.variance) > 1e-3 * law.variance).any()


def test_randomised_pairs_agree_with_exact_ones_within_their_standard_error(monkeypatch):
    rng = np.random.default_rng(4)
    network = ns.Network.dense(
        weights=[rng.normal(size=(b, a)) / 3 for a, b in pairwise((8, 12, 6, 2))],
        biases=[rng.normal(size=n) for n in (12, 6, 2)],
        activations=["tanh", "sigmoid(4)", "identity"],
    )  # fmt: skip
    inputs = rng.normal(size=(20, 8))
    blocks = [("neuron", 0), ("synapse", 1), ("neuron", 1), ("synapse", 3)]
    exact = predict(network, inputs, blocks, 0.2, "second-order")
    assert not exact.variance_error.any()
    monkeypatch.setattr(second_order, "_MOST_TANGENTS", 0)
    estimated = predict(network, inputs, blocks, 0.2, "second-order")
    assert "randomised part" in str(estimated)
    z = (estimated.variance - exact.variance) / estimated.variance_error
    # Probes are shared by inputs, so their z are nearly the same: a bound for a few, 1e-4 each.
    assert np.abs(z).max() < 4.5
    # It could have seen pairs that are wrong by a factor of two.
    single = np.diagonal(covariance(exact.model.effects), axis1=1, axis2=2)
    assert ((exact.variance - single) / estimated.variance_error).max() > 9


def test_kinks_have_no_second_order():
    relu = ns.Network.dense(
        weights=[[[1.0]], [[1.0]]], biases=[[0.0], [0.0]], activations=["relu", "identity"]
    )
    with pytest.raises(InputError, match="relu in layer 1: its curvature sits in the kink"):
        predict(relu, [[1.0]], [("neuron", 0)], 0.1, "second-order")
    # Behind the kink nothing bends.
    assert predict(relu, [[1.0]], [("neuron", 1)], 0.1, "second-order").mean[0, 0] == -0.1
    with pytest.raises(InputError, match="loss: expected a smooth one"):
        predict(relu, [[1.0]], [("neuron", 1)], 0.1, "second-order", [[0.0]], loss="absolute_error")


@given(case=cases(), p=st.sampled_from([1e-4, 0.05, 0.5]), data=st.data())
@settings(max_examples=200, deadline=None)
def test_enumeration_equals_the_oracle(case, p, data):
    network, plain, inputs, blocks, sites = case
    targets = targets_of(network, len(inputs))
    loss = data.draw(st.sampled_from(losses_of(network)))
    prediction = predict(network, inputs, blocks, p, "enumeration", targets, loss=loss)
    for i, x in enumerate(inputs):
        law = enumerate_faults(plain, x, sites, p, loss=loss, target=targets[i])
        tight = {"rtol": 1e-8, "atol": 1e-11 * (1 + np.abs(law.values).max() ** 2)}
        np.testing.assert_allclose(prediction.mean[i], law.mean, **tight)
        np.testing.assert_allclose(prediction.variance[i], law.variance, **tight)
        np.testing.assert_allclose(prediction.covariance[i], law.covariance, **tight)
        exact = prediction.distribution(i, 0)
        for t in np.quantile(law.values[:, 0], [0.1, 0.5, 0.9]) + 1e-7:
            assert exact.cdf(t) == pytest.approx(law.cdf(np.array([t]))[0], abs=1e-9)
    if loss is None:
        # The moments every method tends to as faults become rare (b4), from the other side.
        d = single_faults(plain, inputs[0], sites)
        if p == 1e-4:
            size = 1 + np.abs(law.values).max()
            n = len(sites)
            assert np.abs(prediction.mean[0] - p * d.sum(axis=0)).max() < 4 * (n * p) ** 2 * size


def test_enumeration_by_layer_and_site():
    rng = np.random.default_rng(8)
    network = ns.Network.dense(
        weights=[rng.normal(size=(3, 2)), rng.normal(size=(2, 3))],
        biases=[np.ones(3), np.ones(2)],
        activations=["tanh", "identity"],
    )
    plain, x = PlainNetwork.of(network), rng.normal(size=(3, 2))
    both = predict(network, x, [("neuron", 0), ("neuron", 1)], 0.2, "enumeration")
    for layer in (0, 1):
        alone = predict(network, x, [("neuron", layer)], 0.2, "enumeration")
        np.testing.assert_allclose(both.mean_contributions["neuron", layer], alone.mean)
    assert (sum(both.variance_contributions.values()) < both.variance).all()
    # What a site does by itself is Var E[error | that site].
    law = enumerate_faults(plain, x[0], plain.neurons(0, 1), 0.2)
    sets = fault_sets(5)
    found = predict(network, x[:1], [("neuron", 0), ("neuron", 1)], 0.2, "enumeration")
    for layer, unit, bit in ((0, 1, 1), (1, 2, 4)):
        dead = sets[:, bit] == 1
        gap = np.average(law.values[dead], axis=0, weights=law.probabilities[dead]) - np.average(
            law.values[~dead], axis=0, weights=law.probabilities[~dead]
        )
        np.testing.assert_allclose(
            found.site_contributions("neuron", layer)[:, unit], 0.2 * 0.8 * gap**2
        )
    # Kurtosis.
    centred = law.values - law.mean
    np.testing.assert_allclose(
        found.kurtosis[0], law.probabilities @ centred**4 / law.variance**2, rtol=1e-10
    )


@pytest.mark.parametrize("method", ["enumeration", "single-fault", "first-order"])
def test_processes_of_different_persistence_meet_on_the_same_sites(method):
    # Linear in the faults of one layer: exact for all methods, persistence by persistence.
    rng = np.random.default_rng(2)
    network = ns.Network.dense(
        weights=[rng.normal(size=(2, 3))], biases=[np.ones(2)], activations=["identity"]
    )
    inputs = rng.normal(size=(3, 3))
    how = [ns.Permanent(), ns.Transient(), ns.Intermittent(mean_duration=2.5)]
    for chosen in ([how[0]], [how[1]], [how[2]]):
        faults = [
            ns.StuckAtZero("neuron", probability=0.3, layers=[0], persistence=one)
            for one in chosen
        ]  # fmt: skip
        prediction = ns.predict(campaign_of(network, inputs, faults), method)
        names = [
            {"permanent": "permanent", "transient": "transient"}.get(str(c), 2.5) for c in chosen
        ]
        mean, whole, within = enumerate_trials(
            PlainNetwork.of(network), inputs, [("neuron", 0, i) for i in range(3)], 0.3, names * 3
        )
        np.testing.assert_allclose(prediction.input_mean, mean)
        np.testing.assert_allclose(prediction.input_mean_variance, whole)
        np.testing.assert_allclose(prediction.within_chip_variance, within)


@pytest.mark.parametrize("duration", [1.5, 4.0])
def test_enumerated_trials_with_mixed_persistence(duration):
    # Nonlinear, three processes on the same two neurons: histories of six bits.
    rng = np.random.default_rng(6)
    network = ns.Network.dense(
        weights=[rng.normal(size=(2, 2)), rng.normal(size=(1, 2))],
        biases=[np.ones(2), np.ones(1)],
        activations=["tanh", "tanh"],
    )
    inputs = rng.normal(size=(2, 2))
    persistences = [ns.Permanent(), ns.Transient(), ns.Intermittent(mean_duration=duration)]
    probabilities = [0.2, 0.1, 0.3]
    faults = [
        ns.StuckAtZero("neuron", probability=p, layers=[1], persistence=how)
        for p, how in zip(probabilities, persistences, strict=True)
    ]
    prediction = ns.predict(campaign_of(network, inputs, faults), "enumeration")
    # The same site three times: a plain network in which a neuron is dead if any of them is.
    sites = [("neuron", 1, i) for i in range(2) for _ in range(3)]
    mean, whole, within = enumerate_trials(
        PlainNetwork.of(network),
        inputs,
        sites,
        np.array(probabilities * 2),
        ["permanent", "transient", duration] * 2,
    )
    np.testing.assert_allclose(prediction.input_mean, mean)
    np.testing.assert_allclose(prediction.input_mean_variance, whole)
    np.testing.assert_allclose(prediction.within_chip_variance, within)
    assert (prediction.between_chip_variance < whole).all()
    # Between chips: what is known of a trial's mean once the permanent faults are.
    only = ns.predict(campaign_of(network, inputs, faults[:1]), "enumeration")
    assert (prediction.between_chip_variance < only.between_chip_variance * 2).all()


def test_enumeration_takes_twenty_sites_and_refuses_more():
    rng = np.random.default_rng(0)

    def network(n):
        return ns.Network.dense(
            weights=[rng.normal(size=(1, n))], biases=[[0.0]], activations=["tanh"]
        )

    x = rng.normal(size=(1, 20))
    twenty = network(20)
    found = predict(twenty, x, [("neuron", 0)], 0.1, "enumeration")
    plain = PlainNetwork.of(twenty)
    law = enumerate_faults(plain, x[0], plain.neurons(0), 0.1)
    np.testing.assert_allclose(found.variance[0], law.variance, rtol=1e-9)
    with pytest.raises(InputError, match=r"at most 20 sites.*got 21"):
        predict(network(21), np.ones((1, 21)), [("neuron", 0)], 0.1, "enumeration")
    with pytest.raises(InputError, match=r"at most 20 sites.*got 784"):
        predict(network(784), np.ones((1, 784)), [("neuron", 0)], 0.1, "enumeration")


@pytest.mark.parametrize("method", ["first-order", "single-fault"])
@given(case=cases(), p=st.sampled_from([0.01, 0.3]))
@settings(max_examples=60, deadline=None)
def test_covariances_and_sites_of_sums_of_effects(method, case, p):
    network, plain, inputs, blocks, sites = case
    prediction = predict(network, inputs, blocks, p, method)
    variance = np.diagonal(prediction.covariance, axis1=1, axis2=2)
    np.testing.assert_allclose(variance, prediction.variance, rtol=1e-7, atol=1e-15)
    by_site = sum(
        prediction.site_contributions(kind, n).reshape(prediction.n_outputs, -1).sum(axis=1)
        for kind, n in blocks
    )
    np.testing.assert_allclose(by_site, prediction.variance.mean(axis=0), rtol=1e-7, atol=1e-15)
    if method == "single-fault":
        d = np.array([single_faults(plain, x, sites) for x in inputs])
        expected = p * (1 - p) * np.einsum("xsk,xsl->xkl", d, d)
        np.testing.assert_allclose(prediction.covariance, expected, rtol=1e-7, atol=1e-11)


def test_site_contributions_have_the_shape_of_the_layer():
    network = ns.Network.dense(
        weights=[np.ones((3, 2)), np.ones((1, 3))],
        biases=[np.zeros(3), np.zeros(1)],
        activations=["tanh", "identity"],
    )
    prediction = predict(network, [[1.0, 2.0]], [("synapse", 1)], 0.1, "first-order")
    found = prediction.site_contributions("synapse", 1)
    assert found.shape == (1, 3, 2)
    assert (found[0, :, 1] > found[0, :, 0]).all()
    assert not prediction.site_contributions("neuron", 0).any()
    with pytest.raises(InputError, match="layer: expected a whole number from 1 to 2, got 0"):
        prediction.site_contributions("synapse", 0)
    assert prediction.site_contributions("core", 1).shape == (1, 0)
    with pytest.raises(InputError, match='site: expected one of "neuron", "synapse", "row"'):
        prediction.site_contributions("axon", 1)


# Mean field


def duplicated(network, k):
    """Every neuron of layer 1 as k copies, each with 1/k of the outgoing weights."""
    one, two = network.layers
    return ns.Network.dense(
        weights=[np.repeat(one.weight, k, axis=0), np.repeat(two.weight, k, axis=1) / k],
        biases=[np.repeat(one.bias, k), two.bias],
        activations=[str(one.activation), str(two.activation)],
    )


def test_many_copies_at_fixed_probability_tend_to_the_mean_field():
    rng = np.random.default_rng(1)
    network = ns.Network.dense(
        weights=[rng.normal(size=(2, 2)), 3 * rng.normal(size=(1, 2))],
        biases=[rng.normal(size=2), rng.normal(size=1)],
        activations=["sigmoid(4)", "tanh"],
    )
    x, p = rng.normal(size=(1, 2)), 0.3
    limit = predict(network, x, [("neuron", 1)], p, "mean-field")
    first = predict(network, x, [("neuron", 1)], p, "first-order")
    gaps = []
    for k in (2, 4, 8):
        plain = PlainNetwork.of(duplicated(network, k))
        law = enumerate_faults(plain, x[0], plain.neurons(1), p)
        gaps.append([abs(law.mean - limit.mean[0]), abs(k * law.variance - limit.variance[0])])
    gaps = np.array(gaps)[..., 0]
    # Both gaps fall as 1/k; T1 is off by more than what is left of them.
    assert (gaps[1:] < 0.62 * gaps[:-1]).all()
    assert abs(first.mean - limit.mean) > 2 * gaps[-1, 0]
    assert abs(first.variance - limit.variance) > 2 * gaps[-1, 1]
    # As p -> 0 T1 is the limit too.
    rare = [predict(network, x, [("neuron", 1)], 1e-6, m) for m in ("mean-field", "first-order")]
    np.testing.assert_allclose(rare[0].mean, rare[1].mean, rtol=1e-5)
    np.testing.assert_allclose(rare[0].variance, rare[1].variance, rtol=1e-5)


def test_mean_field_of_joint_layers_and_synapses_is_the_network_of_mean_weights():
    rng = np.random.default_rng(7)
    weights = [rng.normal(size=(4, 3)), rng.normal(size=(3, 4)), rng.normal(size=(2, 3))]
    biases = [rng.normal(size=n) for n in (4, 3, 2)]
    activations = ["tanh", "softplus", "softmax"]
    network = ns.Network.dense(weights=weights, biases=biases, activations=activations)
    x, p = rng.normal(size=(5, 3)), 0.2
    blocks = [("neuron", 0), ("synapse", 1), ("neuron", 2), ("synapse", 3)]
    prediction = predict(network, x, blocks, p, "mean-field")
    # A mean neuron of layer l scales the weights behind it.
    scaled = ns.Network.dense(
        weights=[weights[0] * (1 - p) ** 2, weights[1], weights[2] * (1 - p) ** 2],
        biases=biases,
        activations=activations,
    )
    np.testing.assert_allclose(prediction.mean, scaled(x) - network(x), rtol=1e-10, atol=1e-14)


# Losses


@given(case=cases(activations=["identity"], softmax=False), p=st.sampled_from([1e-3, 0.4]))
@settings(max_examples=60, deadline=None)
def test_the_corrected_squared_error_is_exact_where_the_rest_is_linear(case, p):
    network, plain, inputs, blocks, sites = case
    assume(len(blocks) == 1)
    targets = targets_of(network, len(inputs))
    for method in ("first-order", "mean-field"):
        prediction = predict(network, inputs, blocks, p, method, targets, loss="squared_error")
        assert prediction.exact
        for i, x in enumerate(inputs):
            law = enumerate_faults(plain, x, sites, p, loss="squared_error", target=targets[i])
            scale = 1e-10 * (1 + np.abs(law.values).max() ** 2)
            np.testing.assert_allclose(prediction.mean[i], law.mean, rtol=1e-9, atol=scale)
            np.testing.assert_allclose(prediction.variance[i], law.variance, rtol=1e-9, atol=scale)


@given(case=cases(activations=SMOOTH, max_width=3), data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_corrected_loss_is_the_quadratic_form_of_t1(case, data):
    network, plain, inputs, blocks, sites = case
    targets = targets_of(network, len(inputs))
    loss = data.draw(st.sampled_from(losses_of(network)[1:]))
    prediction = predict(network, inputs, blocks, 0.2, "first-order", targets, loss=loss)
    inner = Head(readout=None if loss == "cross_entropy" else network.readout)
    logits = PlainNetwork(plain.weights, plain.biases, plain.activations)
    used = logits if inner.readout is None else plain
    for i, x in enumerate(inputs):
        h = 1e-6
        step = np.eye(len(sites)) * h
        g = (used.forward(x, sites, step) - used.forward(x, sites, -step)) / (2 * h)
        delta = fault_sets(len(sites)) @ g
        outputs = used.forward(x)[0]
        if loss == "cross_entropy":
            s = plain.forward(x)[0]
            slope = s * targets[i].sum() - targets[i]
            bend = targets[i].sum() * (np.diag(s) - np.outer(s, s))
        elif loss == "squared_error":
            slope, bend = (
                2 * (outputs - targets[i]) / len(outputs),
                2 * np.eye(len(outputs)) / len(outputs),
            )
        else:
            slope, bend = (
                np.sign(outputs - targets[i]) / len(outputs),
                np.zeros((len(outputs),) * 2),
            )
        values = delta @ slope + 0.5 * np.einsum("ak,kl,al->a", delta, bend, delta)
        law = ExactLaw(values[:, None], set_probabilities(len(sites), 0.2))
        scale = 1e-6 * (1 + np.abs(values).max() ** 2)
        np.testing.assert_allclose(prediction.mean[i], law.mean, rtol=1e-5, atol=scale)
        np.testing.assert_allclose(prediction.variance[i], law.variance, rtol=1e-5, atol=scale)
        # AP9: E = -sum p <grad loss, g>.
        np.testing.assert_allclose(
            prediction.mean_paper[i], 0.2 * (g @ slope).sum(), rtol=1e-5, atol=scale
        )


def test_the_first_order_loss_is_far_too_low_on_fitted_inputs():
    """AP9 drops the curvature of the loss, which is all there is where the network fits well."""
    rng = np.random.default_rng(9)
    network = ns.Network.dense(
        weights=[rng.normal(size=(6, 3)), rng.normal(size=(2, 6)) / 6],
        biases=[rng.normal(size=6), rng.normal(size=2)],
        activations=["tanh", "identity"],
    )
    plain, x, p = PlainNetwork.of(network), rng.normal(size=(4, 3)), 0.01
    targets = network(x) + 1e-5
    prediction = predict(
        network, x, [("neuron", 1)], p, "first-order", targets, loss="squared_error"
    )
    for i in range(4):
        law = enumerate_faults(
            plain, x[i], plain.neurons(1), p, loss="squared_error", target=targets[i]
        )
        assert prediction.mean[i] == pytest.approx(law.mean, rel=1e-9)
        assert abs(prediction.mean_paper[i]) < abs(law.mean) / 100
    assert "curvature" in str(prediction)
    assert "squared error" in str(prediction)


def test_losses_are_checked_at_the_door():
    network = ns.Network.dense(weights=[[[1.0]]], biases=[[0]], activations=["identity"])
    blocks = [("neuron", 0)]
    with pytest.raises(InputError, match="loss: expected one of"):
        predict(network, [[1.0]], blocks, 0.1, "first-order", [[0.0]], loss="hinge")
    with pytest.raises(InputError, match="targets: expected them for loss"):
        predict(network, [[1.0]], blocks, 0.1, "first-order", loss="squared_error")
    with pytest.raises(InputError, match="loss: expected a network with a softmax"):
        predict(network, [[1.0]], blocks, 0.1, "first-order", [[0.0]], loss="cross_entropy")
    with pytest.raises(InputError, match="loss: expected none beside a layer"):
        predict(
            network, [[1.0]], blocks, 0.1, "first-order", [[0.0]], loss="squared_error", layer=1
        )


# Identities of the paper


@given(case=cases(activations=SMOOTH, softmax=False))
@settings(max_examples=60, deadline=None)
def test_identity_ap8(case):
    """sum_i (dy/dW_l^ij) W_l^ij = (dy/dy_{l-1}^j) y_{l-1}^j: synapses out of a neuron, and it."""
    network, _, inputs, _, _ = case
    for number in range(1, network.depth + 1):
        both = predict(
            network, inputs, [("neuron", number - 1), ("synapse", number)], 0.1, "first-order"
        )
        effects = both.model.effects
        rows = slice(0, len(inputs))
        neurons = effects.effects(("neuron", number - 1), rows)
        synapses = effects.effects(("synapse", number), rows)
        n_out, n_in = network.layers[number - 1].weight.shape
        sums = synapses.reshape(*synapses.shape[:2], n_out, n_in).sum(axis=2)
        np.testing.assert_allclose(sums, neurons, rtol=1e-9, atol=1e-12)


def test_identities_ap7_ap9_and_p6():
    rng = np.random.default_rng(11)
    weights = [rng.normal(size=(5, 4)), rng.normal(size=(3, 5)), rng.normal(size=(2, 3))]
    biases = [rng.normal(size=n) for n in (5, 3, 2)]
    activations = ["sigmoid(4)", "tanh", "identity"]
    network = ns.Network.dense(weights=weights, biases=biases, activations=activations)
    x, targets, p = rng.normal(size=(3, 4)), rng.normal(size=(3, 2)), 0.1
    # AP7: layers add, for means and variances of the first order.
    blocks = [("neuron", n) for n in range(3)]
    joint = predict(network, x, blocks, p, "first-order")
    alone = [predict(network, x, [block], p, "first-order") for block in blocks]
    np.testing.assert_allclose(sum(a.mean for a in alone), joint.mean)
    np.testing.assert_allclose(sum(a.variance for a in alone), joint.variance)
    # AP9: E Delta_{L+1} = -sum_l p_{l-1} <grad_{W_l} loss, W_l>, gradients by differences.
    found = predict(network, x, blocks, p, "first-order", targets, loss="squared_error")

    def loss(scale):
        scaled = ns.Network.dense(
            weights=[w * (1 + s) for w, s in zip(weights, scale, strict=True)],
            biases=biases,
            activations=activations,
        )
        return ((scaled(x) - targets) ** 2).mean(axis=1)

    h = 1e-6
    slopes = [(loss(h * e) - loss(-h * e)) / (2 * h) for e in np.eye(3)]
    np.testing.assert_allclose(found.mean_paper[:, 0], -p * sum(slopes), rtol=1e-6)
    # P6: it vanishes where the gradient does, here at targets that the network meets.
    fitted = predict(network, x, blocks, p, "first-order", network(x), loss="squared_error")
    assert np.abs(fitted.mean_paper).max() < 1e-12


def test_a_dead_neuron_is_not_a_zeroed_incoming_row():
    """D3 zeroes the incoming weights, which leaves phi(b_i): not what T1 and experiments mean."""
    network = ns.Network.dense(
        weights=[[[1.0]], [[2.0]]], biases=[[0.5], [0.0]], activations=["sigmoid(4)", "identity"]
    )
    plain = PlainNetwork.of(network)
    dead = enumerate_faults(plain, [1.0], [("neuron", 1, 0)], 1.0).mean[0]
    row = enumerate_faults(plain, [1.0], [("synapse", 1, 0, 0)], 1.0).mean[0]
    assert row - dead == pytest.approx(2 / (1 + np.exp(-2)))  # 2 phi(b)
    assert predict(network, [[1.0]], [("neuron", 1)], 1.0, "first-order").mean[0, 0] == (
        pytest.approx(dead)
    )


def test_predictions_print_what_was_asked():
    rng = np.random.default_rng(0)
    network = ns.Network.dense(
        weights=[rng.normal(size=(b, a)) for a, b in pairwise((3, 4, 2))],
        biases=[np.zeros(4), np.zeros(2)],
        activations=["tanh", "identity"],
    )
    text = str(predict(network, np.ones((1, 3)), [("neuron", 0)], 0.1, "second-order"))
    assert "terms of the mean, mean absolute values: linear" in text
    assert "layer 1" in str(
        predict(network, np.ones((1, 3)), [("neuron", 0)], 0.1, "first-order", layer=1)
    )
