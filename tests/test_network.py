import math

import numpy as np
import pytest
from backend_contract import networks
from hypothesis import given, settings

import neurosim as ns
from neurosim.errors import FormatError, InputError
from neurosim.layers import Dense


@given(case=networks())
@settings(max_examples=40, deadline=None)
def test_golden_outputs_are_sums_of_products(case):
    network, inputs = case
    for x, golden in zip(inputs, network(inputs), strict=True):
        y = list(x)
        for layer in network.layers:
            z = [
                math.fsum(w * v for w, v in zip(row, y, strict=True)) + b
                for row, b in zip(layer.weight, layer.bias, strict=True)
            ]
            y = list(layer.activation(np.array(z)))
        if network.readout == "softmax":
            e = [math.exp(v - max(y)) for v in y]
            y = [v / sum(e) for v in e]
        np.testing.assert_allclose(golden, y, rtol=1e-10, atol=1e-12)


def make(**changes):
    values = {
        "weights": [np.ones((4, 6)), np.ones((3, 4))],
        "biases": [np.zeros(4), np.zeros(3)],
        "activations": ["relu", "identity"],
        **changes,
    }
    return ns.Network.dense(**values)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"biases": [np.zeros(4)]}, "expected one of each a layer, got 2, 1 and 2"),
        (
            {"weights": [np.ones((4, 6)), np.ones((4, 3))], "biases": [np.zeros(4)] * 2},
            "expected layer 2 to have 4 inputs.*is one transposed",
        ),
        ({"activations": ["softmax", "relu"]}, "layer 1: activation: expected one of"),
        ({"biases": [np.zeros(4), np.zeros(4)]}, "layer 2: bias: expected shape"),
        ({"input_shape": (2, 2)}, "input_shape: expected 6 values in all"),
        ({"input_shape": (-2, -3)}, "input_shape: expected 6 values in all"),
        ({"weights": [], "biases": [], "activations": []}, "at least one weighted layer"),
    ],
)
def test_what_is_no_network_is_refused(changes, said):
    with pytest.raises(InputError, match=said):
        make(**changes)


def test_an_unknown_readout_is_refused():
    with pytest.raises(InputError, match="readout: expected None or"):
        ns.Network(layers=(Dense(weight=[[1]], bias=[0]),), readout="argmax")


def test_inputs_may_have_the_shape_of_images_or_be_flat():
    network = make(input_shape=(2, 3))
    images = np.arange(12).reshape(2, 2, 3)
    np.testing.assert_array_equal(network(images), network(images.reshape(2, 6)))
    with pytest.raises(InputError, match=r"expected shape \(n_inputs, 2, 3\), got \(2, 3\)"):
        network(images[0])


def test_whole_numbers_and_booleans_are_inputs():
    assert make()(np.ones((1, 6), np.uint8)).tolist() == [[24, 24, 24]]
    assert make()(np.ones((1, 6), bool)).tolist() == [[24, 24, 24]]


def test_a_network_prints_its_chain():
    assert str(make(activations=["sigmoid(4)", "softmax"])) == (
        "Network 6 -> 4 sigmoid(4) -> 3 identity -> softmax"
    )
    assert make().widths == (6, 4, 3)
    assert make().depth == 2


def test_layers_of_a_file_that_do_not_fit_name_the_file(tmp_path):
    make().save(tmp_path / "n.npz")
    with np.load(tmp_path / "n.npz") as archive:
        arrays = {**archive, "weight_2": np.ones((3, 5))}
    np.savez(tmp_path / "n.npz", **arrays)
    with pytest.raises(FormatError, match=r"n\.npz: node 2 .Dense.: weight: expected 4 inputs"):
        ns.Network.load(tmp_path / "n.npz")


def test_a_softmax_read_out_is_a_softmax_of_the_last_layer():
    weights = {"weights": [np.diag([1.0, 2.0, 3.0])], "biases": [np.array([0.5, 0.0, -1.0])]}
    x = np.array([[0.3, -0.2, 0.1], [0.0, 0.0, 0.0]])
    logits = ns.Network.dense(**weights, activations=["identity"])(x)
    outputs = ns.Network.dense(**weights, activations=["softmax"])(x)
    np.testing.assert_allclose(outputs, np.exp(logits) / np.exp(logits).sum(axis=1)[:, None])


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (np.ones((2, 5)), r"expected shape \(n_inputs, 6\), got \(2, 5\)"),
        (np.ones(6), "one input alone needs a first axis of length 1"),
        (np.ones((0, 6)), "expected at least one input, got none"),
        ([[1, 2, 3, 4, 5, np.nan]], r"expected finite numbers, got nan at \(0, 5\)"),
        (np.full((1, 6), 1j), "expected real numbers, got dtype complex128"),
        (3.0, "expected shape"),
    ],
)
def test_what_is_no_input_is_refused(inputs, said):
    with pytest.raises(InputError, match=f"inputs: {said}" if "one input" not in said else said):
        make()(inputs)
