"""Weight noise against enumeration of two-point noise, and against its limit of small noise."""

from itertools import pairwise

import numpy as np
import pytest
from exact import ExactLaw, PlainNetwork, fault_sets, loss_value
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import neurosim as ns
from neurosim.errors import InputError
from neurosim.theory import WeightNoise, predict_noise

SMOOTH = ["identity", "sigmoid(4)", "tanh", "softplus"]
ALL = [*SMOOTH, "relu", "leaky_relu(0.1)"]


def network_of(rng, widths, activations):
    return ns.Network.dense(
        weights=[rng.normal(size=(b, a)) for a, b in pairwise(widths)],
        biases=[rng.normal(size=n) for n in widths[1:]],
        activations=activations,
    )


def two_point_law(network, x, noise, layer=None, loss=None, target=None):
    """The exact law of the error where each weight is off by m - s or m + s, each half the time.

    `noise` holds (layer, m, s) with arrays of the shape of the weights.
    """
    plain = PlainNetwork.of(network)
    places = [(n, i, j) for n, m, _ in noise for i, j in np.ndindex(m.shape)]
    mean = np.concatenate([m.ravel() for _, m, _ in noise])
    deviation = np.concatenate([s.ravel() for _, _, s in noise])
    weight = np.array([plain.weights[n - 1][i, j] for n, i, j in places])
    errors = []
    for signs in fault_sets(len(places)) * 2 - 1:
        rows = [(*p, w) for p, w in zip(places, weight + mean + signs * deviation, strict=True)]
        values = [plain.with_effect(x, (), s, layer) for s in ((), rows)]
        if loss is not None:
            values = [loss_value(loss, y[None], target) for y in values]
        errors.append(values[1] - values[0])
    return ExactLaw(np.array(errors), np.full(len(errors), 1 / len(errors)))


@given(seed=st.integers(0, 2**32), behind=st.booleans(), hidden=st.booleans())
@settings(max_examples=60, deadline=None)
def test_noise_on_a_linear_rest_is_exact(seed, behind, hidden):
    rng = np.random.default_rng(seed)
    widths = [int(n) for n in rng.integers(1, 4, size=4)]
    number = 2 if behind else 3
    chosen = ["tanh", "identity" if behind else "relu", "identity"]
    network = network_of(rng, widths, chosen)
    layer = 2 if hidden and behind else None
    shape = network.layers[number - 1].weight.shape
    mean, deviation = rng.normal(size=shape), abs(rng.normal(size=shape))
    inputs = rng.normal(size=(2, widths[0]))
    noise = WeightNoise(layer=number, mean=mean, standard_deviation=deviation)
    prediction = predict_noise(network, inputs, noise, layer=layer)
    assert prediction.exact
    for x in range(2):
        law = two_point_law(network, inputs[x], [(number, mean, deviation)], layer)
        close = {"rtol": 1e-7, "atol": 1e-10}
        np.testing.assert_allclose(prediction.mean[x], law.mean, **close)
        np.testing.assert_allclose(prediction.variance[x], law.variance, **close)
        np.testing.assert_allclose(prediction.covariance[x], law.covariance, **close)


@given(
    seed=st.integers(0, 2**32),
    activations=st.tuples(st.sampled_from(ALL), st.sampled_from(ALL)),
    softmax=st.booleans(),
    outcome=st.sampled_from([None, 1, 2, "squared_error", "cross_entropy"]),
)
@settings(max_examples=60, deadline=None)
def test_small_noise_tends_to_the_first_order(seed, activations, softmax, outcome):
    rng = np.random.default_rng(seed)
    widths = [int(n) for n in rng.integers(1, 3, size=3)]
    softmax = softmax or outcome == "cross_entropy"
    network = network_of(rng, widths, [activations[0], "softmax" if softmax else activations[1]])
    inputs, target = rng.normal(size=(1, widths[0])), rng.dirichlet(np.ones(widths[2]))
    of = {"layer": outcome} if isinstance(outcome, int) else {"loss": outcome}
    given_targets = {} if isinstance(outcome, int) or outcome is None else {"targets": [target]}
    small, noise = 1e-5, []
    for number in (1, 2):
        shape = network.layers[number - 1].weight.shape
        noise.append((number, small * rng.normal(size=shape), small * abs(rng.normal(size=shape))))
    prediction = predict_noise(
        network,
        inputs,
        [WeightNoise(layer=n, mean=m, standard_deviation=s) for n, m, s in noise],
        **of,
        **given_targets,
    )
    law = two_point_law(
        network, inputs[0], noise, **of, **({"target": target} if given_targets else {})
    )
    # What is left out is of second order in the noise; kinks lie farther off than that.
    np.testing.assert_allclose(prediction.mean[0] / small, law.mean / small, rtol=1e-3, atol=3e-3)
    np.testing.assert_allclose(
        prediction.covariance[0] / small**2, law.covariance / small**2, rtol=2e-3, atol=3e-3
    )
    np.testing.assert_array_equal(prediction.variance, sum(prediction.variance_contributions))
    together = sum(prediction.mean_contributions)
    # To the mean of a loss the means of two noises add, to second order in them.
    left_out = 1e3 * small**2 if given_targets else 0
    np.testing.assert_allclose(prediction.mean, together, rtol=1e-12, atol=left_out)
    np.testing.assert_allclose(prediction.variance[0], np.diag(prediction.covariance[0]))


def test_exact_only_where_the_error_is_linear_in_the_noise():
    rng = np.random.default_rng(0)
    linear = network_of(rng, [2, 2, 2], ["identity", "identity"])
    x = rng.normal(size=(1, 2))
    noise = [WeightNoise(layer=n, standard_deviation=0.1) for n in (1, 2)]
    assert predict_noise(linear, x, noise[0]).exact
    assert predict_noise(linear, x, [noise[0], noise[0]]).exact
    # Noise on two layers multiplies, but noise above a hidden layer does not reach it.
    assert not predict_noise(linear, x, noise).exact
    assert predict_noise(linear, x, noise, layer=1).exact
    assert not predict_noise(linear, x, noise[0], loss="squared_error", targets=[0]).exact
    assert not predict_noise(network_of(rng, [2, 2], ["softmax"]), x, noise[0]).exact
    assert not predict_noise(network_of(rng, [2, 2], ["tanh"]), x, noise[0]).exact
    hidden = predict_noise(linear, x, noise, layer=1)
    assert not hidden.variance_contributions[1].any()


def test_deviations_may_follow_the_weights():
    rng = np.random.default_rng(1)
    network = network_of(rng, [3, 4, 2], ["tanh", "identity"])
    inputs = rng.normal(size=(3, 3))
    weight = network.layers[1].weight
    relative = WeightNoise(layer=2, standard_deviation=0.05 * abs(weight), mean=-0.1 * weight)
    prediction = predict_noise(network, inputs, relative)
    y = np.tanh(inputs @ network.layers[0].weight.T + network.layers[0].bias)
    np.testing.assert_allclose(prediction.mean, -0.1 * y @ weight.T)
    np.testing.assert_allclose(prediction.variance, 0.05**2 * y**2 @ (weight**2).T)
    one_number = predict_noise(network, inputs, WeightNoise(layer=2, standard_deviation=0.2))
    np.testing.assert_allclose(one_number.variance[:, 0], 0.04 * (y**2).sum(axis=1))


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({"layer": 0, "standard_deviation": 1}, "layer: expected a whole number from 1 on"),
        ({"layer": 2, "standard_deviation": 1}, "layer: expected a weighted layer from 1 to 1"),
        ({"layer": 1, "standard_deviation": -1}, "numbers from 0 on, got -1"),
        ({"layer": 1, "standard_deviation": [1, 2]}, r"array of shape \(1, 2\), .* got \(2,\)"),
        ({"layer": 1, "standard_deviation": 1, "mean": np.inf}, "mean: expected finite numbers"),
        ({"layer": 1, "standard_deviation": "much"}, "finite numbers from 0 on, got 'much'"),
    ],
)
def test_wrong_noise_is_refused(noise, message):
    network = ns.Network.dense(weights=[[[1.0, 2.0]]], biases=[[0]], activations=["identity"])
    with pytest.raises(InputError, match=message):
        predict_noise(network, [[1.0, 1.0]], WeightNoise(**noise))


@pytest.mark.parametrize("noise", [None, 1.0, "x", [None], ["x"], [[1, 2], [3]]])
def test_what_is_no_noise_is_refused(noise):
    network = ns.Network.dense(weights=[[[1.0, 2.0]]], biases=[[0]], activations=["identity"])
    with pytest.raises(InputError, match="noise: expected WeightNoise values, got"):
        predict_noise(network, [[1.0, 1.0]], noise)


@pytest.mark.parametrize("layer", [None, "x", 1.5, [1], True])
def test_layers_of_noise_are_whole_numbers(layer):
    with pytest.raises(InputError, match="layer: expected a whole number from 1 on"):
        WeightNoise(layer=layer, standard_deviation=0.1)


def test_what_is_no_network_is_refused_and_what_leaves_the_range_of_a_float():
    with pytest.raises(InputError, match="network: expected a Network, got"):
        predict_noise([1.0], [[1.0]], WeightNoise(layer=1, standard_deviation=0.1))
    network = ns.Network.dense(weights=[[[1.0, 2.0]]], biases=[[0]], activations=["identity"])
    with pytest.raises(InputError, match="network: expected weights and inputs for which"):
        predict_noise(network, [[1.0, 1.0]], WeightNoise(layer=1, standard_deviation=1e200))


def test_noise_of_mean_zero_costs_a_fitted_network_its_curvature():
    """The gradient of the loss is 0 there; AP9 would predict nothing."""
    rng = np.random.default_rng(4)
    network = network_of(rng, [3, 2], ["identity"])
    x = rng.normal(size=(2, 3))
    targets = network(x)
    deviation = abs(rng.normal(size=(2, 3)))
    mean = 0.1 * rng.normal(size=(2, 3))
    for shift in (0 * mean, mean):
        noise = WeightNoise(layer=1, mean=shift, standard_deviation=deviation)
        prediction = predict_noise(network, x, noise, loss="squared_error", targets=targets)
        for i in range(2):
            law = two_point_law(
                network, x[i], [(1, shift, deviation)], loss="squared_error", target=targets[i]
            )
            assert prediction.mean[i] == pytest.approx(law.mean, rel=1e-10)
        assert np.abs(prediction.mean_paper).max() < 1e-12
    # The variance is that of a normal error of the outputs: of many small noises.
    wide = network_of(rng, [400, 1], ["identity"])
    y = rng.normal(size=(1, 400))
    noise = WeightNoise(layer=1, mean=0.01, standard_deviation=0.05)
    found = predict_noise(wide, y, noise, loss="squared_error", targets=wide(y) + 0.3)
    draws = (0.01 + 0.05 * rng.choice([-1, 1], (40_000, 400))) @ y[0]
    losses = (draws - 0.3) ** 2 - 0.3**2
    error = losses.std() * np.sqrt(stats.kurtosis(losses, fisher=False) / len(losses))
    assert abs(found.mean[0, 0] - losses.mean()) < 4 * losses.std() / np.sqrt(len(losses))
    # 4 standard errors of a variance: a false alarm in 16 000; the linear part is far outside.
    tolerance = 4 * losses.std() * error
    assert abs(found.variance[0, 0] - losses.var()) < tolerance
    linear = (2 * 0.3) ** 2 * 0.05**2 * (y**2).sum()
    assert abs(linear - losses.var()) > 3 * tolerance
