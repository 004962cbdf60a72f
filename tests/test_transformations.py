"""Smoothed networks: near the trained one where sharp, and no kinks left for the theory."""

import numpy as np
import pytest
from backend_contract import settings
from graphs import convolution, dense, networks
from hypothesis import given

import neurosim as ns
from neurosim.chip import Chip
from neurosim.errors import FormatError, InputError
from neurosim.faults import StuckAtZero
from neurosim.layers import Flatten, MaxPool2D
from neurosim.network import Network

smoothed = ns.smoothed

KINKED = ["relu", "identity", "tanh", "relu6", "leaky_relu(0.2)"]


def pooled():
    rng = np.random.default_rng(3)
    layers = [
        convolution(rng, 1, 2, 3, "relu", padding=1), MaxPool2D(size=2, padding=1), Flatten(),
        dense(rng, 18, 4, "hard_swish"), dense(rng, 4, 2),
    ]  # fmt: skip
    return Network(layers=layers, input_shape=(1, 4, 4)), rng.normal(size=(3, 1, 4, 4))


def plain():
    weights = [np.array([[1.0, -2.0], [0.5, 1.0]]), np.array([[1.0, 3.0]])]
    network = Network.dense(weights=weights, biases=[[0.1, 0], [0.2]], activations=["relu", "relu"])
    return network, np.array([[0.3, 0.4], [-1.0, 2.0]])


@settings(20)
@given(networks(activations=KINKED, pools=False))
def test_a_sharp_softplus_is_a_relu(case):
    network, inputs = case
    sharp = smoothed(network, sharpness=1e7)
    np.testing.assert_allclose(sharp(inputs), network(inputs), rtol=1e-4, atol=1e-4)
    assert sharp.depth == network.depth
    assert sharp.widths == network.widths


def test_a_hard_tanh_becomes_a_tanh_and_what_has_no_counterpart_is_refused():
    rng = np.random.default_rng(3)
    network = Network(layers=[dense(rng, 3, 4, "hard_tanh(1)"), dense(rng, 4, 2)])
    assert [str(layer.activation) for layer in smoothed(network).layers] == ["tanh", "identity"]
    for kind in ("elu(1)", "hard_tanh(0.5)"):
        network = Network(layers=[dense(rng, 3, 4), dense(rng, 4, 2, kind)])
        with pytest.raises(InputError, match="network: expected activations with a smooth"):
            smoothed(network)


def test_softplus_has_the_sharpness_asked_for():
    network, x = plain()

    def softplus(z):
        return np.log1p(np.exp(5 * z)) / 5

    first, last = network.layers
    expected = softplus(softplus(x @ first.weight.T + first.bias) @ last.weight.T + last.bias)
    np.testing.assert_allclose(smoothed(network, sharpness=5)(x), expected, rtol=1e-12)


def test_chains_of_dense_layers_stay_chains():
    network = Network.dense(
        weights=[np.eye(2), np.eye(2)], biases=[[0, 0]] * 2, activations=["relu", "identity"]
    )
    assert smoothed(network, sharpness=7).nodes == ()


def test_a_max_pool_becomes_the_mean_of_what_it_saw():
    layers = [MaxPool2D(size=2, padding=1), Flatten(), dense(np.random.default_rng(1), 9, 9)]
    network = Network(layers=layers, input_shape=(1, 4, 4))
    maps = np.ones((1, 1, 4, 4))  # of a map of ones both are 1, the padding left out
    np.testing.assert_allclose(smoothed(network)(maps), network(maps))


def test_assumptions_no_longer_flag_kinks():
    network, x = pooled()
    faults = [StuckAtZero("neuron", probability=1e-3)]
    verdicts = []
    for one in (network, smoothed(network, sharpness=4)):
        deployment = ns.deploy(one, Chip(name="any"))
        campaign = ns.Campaign(deployment=deployment, faults=faults, inputs=x, trials=1, seed=0)
        verdicts.append(ns.check_assumptions(campaign)["smooth"].verdict)
    assert verdicts == ["fails", "holds"]


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu(0.2)"])
@pytest.mark.parametrize("sharpness", [0.5, 3, 40])
def test_no_value_is_off_by_more_than_the_sharpness_says(name, sharpness):
    z = np.linspace(-20, 20, 4001)[:, None]
    network = Network.dense(weights=[[[1.0]], [[1.0]]], biases=[[0], [0]],
                            activations=[name, "identity"])  # fmt: skip
    smooth = smoothed(network, sharpness=sharpness)
    change = smooth(z) - network(z)
    assert np.abs(change).max() <= np.log(2) / sharpness * (1 + 1e-9)
    assert np.abs(change).max() > 0.7 * np.log(2) / sharpness
    assert smooth.layers[0].activation.smooth
    assert smooth.depth == network.depth


def test_what_is_smoothed_is_saved_as_npz_only(tmp_path):
    network = Network.dense(weights=[np.eye(2)], biases=[[0, 0]], activations=["relu6"])
    smooth = smoothed(network, sharpness=2)
    smooth.save(tmp_path / "smooth.npz")
    again = Network.load(tmp_path / "smooth.npz")
    x = np.array([[1.0, 7.0]])
    np.testing.assert_array_equal(again(x), smooth(x))
    with pytest.raises(FormatError, match=r"got soft_clip\(12\) of dense_1; save as .npz"):
        smooth.save(tmp_path / "smooth.onnx")


def test_wrong_sharpness_is_refused():
    for bad in (0, -1, np.inf, "sharp"):
        with pytest.raises(InputError, match="sharpness"):
            smoothed(pooled()[0], sharpness=bad)
