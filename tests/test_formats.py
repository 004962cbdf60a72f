"""Readers against onnxruntime, and what they say of files they cannot read."""

import os
import stat
import subprocess
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, external_data_helper, helper, numpy_helper

import neurosim as ns
from neurosim.errors import FormatError
from neurosim.layers import Activation, Dense

ACTIVATIONS = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Sigmoid": "sigmoid(1)",
    "LeakyRelu": "leaky_relu(0.01)",
}


def build(path, nodes, constants, n_in, outputs=("y",), opset=17, input_shape=None):
    """Write a graph from x to outputs; constants are initializers."""
    shape = ["N", *(input_shape or (n_in,))]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(model, path)
    return path


def single_precision_error(network, inputs):
    """A bound for what rounding to single precision may do to each output, cancellation included.

    A sum of n products in any order errs by at most n eps sum |products|; no activation or softmax
    here has a slope above K. Folded scalers round a few times more: hence the factor.
    """
    eps, y = 4 * np.finfo(np.float32).eps, inputs.reshape(len(inputs), -1).astype(np.float64)
    error = eps * abs(y)
    for layer in network.layers:
        sums = abs(y) @ abs(layer.weight).T + abs(layer.bias)
        error = error @ abs(layer.weight).T + eps * (layer.n_in + 1) * sums
        y = layer(y)
        error = layer.activation.lipschitz * error + eps * np.maximum(abs(y), 0.1)
    return error.sum(axis=1, keepdims=True) if network.readout else error


def same_as_onnxruntime(path, inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = inputs.astype(np.float32)
    expected = session.run(None, {"x": inputs})[0]
    network = ns.Network.load(path)
    ours = network(inputs)
    assert ours.shape == expected.shape
    assert (abs(ours - expected) <= single_precision_error(network, inputs)).all()
    return network


def test_the_rounding_bound_is_tight_enough_to_see_a_wrong_weight(tmp_path):
    constants = dense()
    path = build(tmp_path / "n.onnx", gemm(helper.make_node("Relu", ["z"], ["y"])), constants, 4)
    network = same_as_onnxruntime(path, INPUTS)
    error = single_precision_error(network, INPUTS)
    assert error.max() < 1e-4
    wrong = {**constants, "w": constants["w"] * np.float32(1 + 1e-3)}
    build(path, gemm(helper.make_node("Relu", ["z"], ["y"])), wrong, 4)
    assert (abs(ns.Network.load(path)(INPUTS) - network(INPUTS)) > error).any()


@pytest.mark.parametrize("style", ["torch", "keras", "sklearn"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_golden_outputs_are_those_of_onnxruntime(tmp_path_factory, style, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    depth = data.draw(st.integers(1, 4))
    widths = [data.draw(st.integers(1, 30)) for _ in range(depth + 1)]
    kinds = [data.draw(st.sampled_from([*ACTIVATIONS, None])) for _ in range(depth)]
    softmax = data.draw(st.booleans())
    if softmax:
        kinds[-1] = "Softmax"
    nodes, constants, at = [], {}, "x"
    if style == "sklearn":
        nodes.append(helper.make_node("Cast", ["x"], ["cast"], to=TensorProto.FLOAT))
        at = "cast"
    for k, kind in enumerate(kinds):
        weight = (rng.normal(size=(widths[k + 1], widths[k])) / np.sqrt(widths[k])).astype("f4")
        bias = rng.normal(size=widths[k + 1]).astype("f4")
        if style == "torch":
            constants |= {f"w{k}": weight, f"b{k}": bias}
            nodes.append(helper.make_node("Gemm", [at, f"w{k}", f"b{k}"], [f"z{k}"], transB=1))
        else:
            constants |= {
                f"w{k}": weight.T.copy(),
                f"b{k}": bias[None] if style == "sklearn" else bias,
            }
            nodes.append(helper.make_node("MatMul", [at, f"w{k}"], [f"m{k}"]))
            add = [f"m{k}", f"b{k}"] if style == "keras" else [f"b{k}", f"m{k}"]
            nodes.append(helper.make_node("Add", add, [f"z{k}"]))
        at = f"z{k}"
        if kind:
            nodes.append(helper.make_node(kind, [at], [f"y{k}"]))
            at = f"y{k}"
    nodes.append(helper.make_node("Identity", [at], ["y"]))
    path = build(tmp_path_factory.mktemp("onnx") / "net.onnx", nodes, constants, widths[0])
    network = same_as_onnxruntime(path, rng.normal(size=(5, widths[0])))
    assert network.widths == tuple(widths)
    assert network.readout == ("softmax" if softmax else None)
    assert [str(layer.activation) for layer in network.layers] == [
        ACTIVATIONS.get(kind, "identity") for kind in kinds
    ]


def dense(n_out=3, n_in=4, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(size=(n_out, n_in)).astype("f4"),
        "b": rng.normal(size=n_out).astype("f4"),
    }


INPUTS = np.random.default_rng(9).normal(size=(6, 4))


def test_a_scaled_sigmoid_has_a_gain(tmp_path):
    # torch exports torch.sigmoid(4 * linear(x)) like this.
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["z"], transB=1),
        helper.make_node("Mul", ["four", "z"], ["a"]),
        helper.make_node("Sigmoid", ["a"], ["y"]),
    ]
    path = build(tmp_path / "n.onnx", nodes, {**dense(), "four": np.float32(4)}, 4)
    network = same_as_onnxruntime(path, INPUTS)
    assert str(network.layers[0].activation) == "sigmoid(4)"
    np.testing.assert_array_equal(network.layers[0].weight, dense()["w"])


def test_scalers_are_folded_into_the_next_layer(tmp_path):
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["c"]),
        helper.make_node("Div", ["c", "sd"], ["s"]),
        helper.make_node("Flatten", ["s"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["z"], transB=1, alpha=0.5, beta=2.0),
        helper.make_node("Relu", ["z"], ["r"]),
        helper.make_node("Dropout", ["r"], ["d"]),
        helper.make_node("Mul", ["d", "half"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["m"]),
        helper.make_node("Mul", ["m", "signs"], ["n"]),
        helper.make_node("Sub", ["one", "n"], ["y"]),
    ]
    constants = {
        **dense(),
        "mean": np.float32([1, 2, 3, 4]),
        "sd": np.float32([1, 2, 4, 0.5]),
        "half": np.float32([[0.5, 2, 1]]),
        "v": np.eye(3, 2, dtype="f4"),
        "signs": np.float32([-1, 3]),
        "one": np.float32(1),
    }
    network = same_as_onnxruntime(build(tmp_path / "n.onnx", nodes, constants, 4), INPUTS)
    assert network.widths == (4, 3, 2)


def test_linear_layers_in_a_row_stay_layers(tmp_path):
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["z"], transB=1),
        helper.make_node("MatMul", ["z", "v"], ["y"]),
    ]
    path = build(tmp_path / "n.onnx", nodes, {**dense(), "v": np.ones((3, 2), "f4")}, 4)
    assert same_as_onnxruntime(path, INPUTS).widths == (4, 3, 2)


def test_images_keep_their_shape_and_constants_may_be_nodes(tmp_path):
    nodes = [
        helper.make_node(
            "Constant", [], ["shape"], value=numpy_helper.from_array(np.array([-1, 4]))
        ),
        helper.make_node("Constant", [], ["wt"], value=numpy_helper.from_array(dense()["w"])),
        helper.make_node("Transpose", ["wt"], ["w"], perm=[1, 0]),
        helper.make_node("Reshape", ["x", "shape"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    path = build(tmp_path / "n.onnx", nodes, {}, 4, input_shape=(2, 2))
    assert same_as_onnxruntime(path, INPUTS.reshape(6, 2, 2)).input_shape == (2, 2)


def node(kind, *inputs, out, **attributes):
    return helper.make_node(kind, list(inputs), [out], **attributes)


V4, V8, V12 = (np.random.default_rng(3).normal(size=(n, 3)).astype("f4") for n in (4, 8, 12))
VIEW = [  # x.view(x.size(0), -1)
    node("Shape", "x", out="s"),
    node("Gather", "s", "zero", out="g"),
    node("Unsqueeze", "g", "axes", out="u"),
    node("Concat", "u", "rest", out="sizes", axis=0),
    node("Reshape", "x", "sizes", out="f"),
    node("MatMul", "f", "v", out="y"),
]


@pytest.mark.parametrize(
    ("shape", "nodes", "constants"),
    [
        (
            (2, 2, 2),
            [
                node("Sub", "x", "mean", out="c"),
                node("Flatten", "c", out="f"),
                node("MatMul", "f", "v", out="y"),
            ],
            {"mean": np.float32([[[1]], [[2]]]), "v": V8},
        ),
        (
            (4, 2),
            [
                node("Mul", "x", "last", out="c"),
                node("Reshape", "c", "sizes", out="f"),
                node("MatMul", "f", "v", out="y"),
            ],
            {"last": np.float32([3, -1]), "sizes": np.array([-1, 8]), "v": V8},
        ),
        (
            (2, 4),
            VIEW,
            {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1]), "v": V8},
        ),
        (
            (4,),
            [node("Transpose", "x", out="t", perm=[0, 1]), node("MatMul", "t", "v", out="y")],
            {"v": V4},
        ),
        (
            (1, 2, 2),
            [
                node("Transpose", "x", out="t", perm=[0, 2, 3, 1]),
                node("Flatten", "t", out="f", axis=-3),
                node("MatMul", "f", "v", out="y"),
            ],
            {"v": V4},
        ),
        (
            (2, 3, 2),
            [
                node("Transpose", "x", out="t", perm=[0, 2, 3, 1]),
                node("Mul", "t", "last", out="s"),
                node("Flatten", "s", out="f"),
                node("MatMul", "f", "v", out="y"),
            ],
            {"last": np.float32([3, -1]), "v": V12},
        ),
        (
            (1, 4),
            [node("Squeeze", "x", "axes", out="f"), node("MatMul", "f", "v", out="y")],
            {"axes": np.array([1]), "v": V4},
        ),
        (
            (4,),
            [
                node("Cast", "double", out="w", to=TensorProto.FLOAT),
                node("MatMul", "x", "w", out="y"),
            ],
            {"double": V4 + np.float64(1e-9)},
        ),
    ],
    ids=[
        "channels",
        "last axis",
        "view",
        "transpose",
        "one channel",
        "permuted weight",
        "squeeze",
        "cast weight",
    ],
)
def test_steps_that_keep_the_values_of_an_input_together_are_read(
    tmp_path, shape, nodes, constants
):
    n_in = int(np.prod(shape))
    path = build(tmp_path / "n.onnx", nodes, constants, n_in, input_shape=shape)
    inputs = np.random.default_rng(1).normal(size=(5, *shape))
    assert same_as_onnxruntime(path, inputs).input_shape == shape


@pytest.mark.parametrize(
    ("shape", "nodes", "said"),
    [
        ((4,), [node("Reshape", "x", "pairs", out="y")], "keeps the 4 values of an input"),
        ((4,), [node("Reshape", "x", "one", out="y")], "keeps the 4 values of an input"),
        ((4, 3), [node("MatMul", "x", "v", out="y")], "is a Flatten missing"),
        ((4,), [node("Transpose", "x", out="y", perm=[1, 0])], "keeps that of the inputs first"),
        ((4,), [node("Squeeze", "x", "zero", out="y")], "expected axes of length 1"),
        ((2, 2), [node("Flatten", "x", out="y", axis=2)], "expected axis 1, got 2"),
        ((4,), [node("Add", "x", "each", out="y")], "one value a unit, got a constant of shape"),
        ((5,), [node("MatMul", "x", "v", out="y")], "a weight for 5 inputs, got one for 4"),
        ((4,), [node("Div", "x", "nought", out="y")], "divisor other than 0"),
        ((4,), [node("Div", "x", "two", out="y")], "constant of real numbers, got int64"),
        ((4,), [node("Cast", "x", out="y", to=TensorProto.INT64)], "a cast to real numbers"),
    ],
)
def test_steps_that_mix_or_round_inputs_are_refused(tmp_path, shape, nodes, said):
    constants = {
        "pairs": np.array([-1, 2]),
        "one": np.array([1, -1]),
        "zero": np.array([0]),
        "each": np.ones((6, 1), "f4"),
        "nought": np.float32([1, 0, 1, 1]),
        "two": np.array(2),
        "v": V4,
    }
    path = build(tmp_path / "n.onnx", nodes, constants, 4, input_shape=shape)
    with pytest.raises(FormatError, match=said):
        ns.Network.load(path)


def save_graph(path, nodes, constants, shape, opset=17, outputs=("y",)):
    """A graph whose input has exactly this shape."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


COLUMNS = [
    node("Sub", "x", "mean", out="c"),
    node("MatMul", "w", "c", out="m"),
    node("Add", "m", "b", out="z"),
    node("Tanh", "z", out="h"),
    node("MatMul", "v", "h", out="o"),
    node("Softmax", "o", out="y", axis=0),
]


def test_inputs_in_columns_are_read(tmp_path):
    constants = {
        "mean": np.float32([[1], [2], [3], [4]]),
        "w": V4.T.copy(),
        "b": np.float32([[1], [2], [3]]),
        "v": np.random.default_rng(4).normal(size=(2, 3)).astype("f4"),
    }
    path = save_graph(tmp_path / "n.onnx", COLUMNS, constants, [4, "N"])
    network = ns.Network.load(path)
    assert (network.widths, network.input_shape) == ((4, 3, 2), (4,))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    inputs = INPUTS.astype("f4")
    expected = session.run(None, {"x": inputs.T})[0].T
    np.testing.assert_allclose(network(inputs), expected, atol=1e-5)
    row = {**constants, "b": constants["b"].ravel()}
    with pytest.raises(FormatError, match="one value a unit"):
        ns.Network.load(save_graph(path, COLUMNS, row, [4, "N"]))
    with pytest.raises(FormatError, match="the weight as the second factor"):
        ns.Network.load(save_graph(path, [node("MatMul", "w", "x", out="y")], constants, ["N", 4]))


@pytest.mark.parametrize("nodes", [COLUMNS, COLUMNS[1:]], ids=["shifted", "weight first"])
def test_a_single_input_in_a_column_is_read(tmp_path, nodes):
    rng = np.random.default_rng(4)
    constants = {
        "mean": np.float32([[1], [2], [3], [4]]),
        "w": V4.T.copy(),
        "b": rng.normal(size=(3, 1)).astype("f4"),
        "v": rng.normal(size=(2, 3)).astype("f4"),
    }
    if nodes[0].op_type == "MatMul":
        nodes = [node("MatMul", "w", "x", out="m"), *nodes[1:]]
    path = save_graph(tmp_path / "n.onnx", nodes, constants, [4, 1])
    network = ns.Network.load(path)
    assert (network.widths, network.input_shape) == ((4, 3, 2), (4,))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = [session.run(None, {"x": x[:, None]})[0][:, 0] for x in INPUTS.astype("f4")]
    np.testing.assert_allclose(network(INPUTS), expected, atol=1e-5)


@pytest.mark.parametrize("behind", [True, False])
def test_a_single_input_without_a_first_axis_is_read(tmp_path, behind):
    weight = V4 if behind else V4.T.copy()
    product = ("x", "w") if behind else ("w", "x")
    nodes = [node("MatMul", *product, out="m"), node("Softmax", "m", out="y", axis=-1)]
    path = save_graph(tmp_path / "n.onnx", nodes, {"w": weight}, [4])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = [session.run(None, {"x": x})[0] for x in INPUTS.astype("f4")]
    np.testing.assert_allclose(ns.Network.load(path)(INPUTS), expected, atol=1e-6)


@pytest.mark.parametrize("opset", [7, 9, 11, 12, 13, 17, 21])
def test_opsets_write_the_same_network_differently(tmp_path, opset):
    dropout, squeeze, constants = [], [], {"w": V4.T.copy(), "b": np.ones(3, "f4")}
    if opset >= 12:
        dropout, constants["ratio"] = ["ratio"], np.float32(0.3)
    if opset >= 13:
        squeeze, constants["axes"] = ["axes"], np.array([1])
    old_axes = {} if squeeze else {"axes": [1]}
    softmax_axis = {} if opset < 13 else {"axis": -1}
    nodes = [
        node("Squeeze", "x", *squeeze, out="f", **old_axes),
        node("Gemm", "f", "w", "b", out="z", transB=1),
        node("Dropout", "z", *dropout, out="d"),
        node("Softmax", "d", out="y", **softmax_axis),
    ]
    path = save_graph(tmp_path / "n.onnx", nodes, constants, ["N", 1, 4], opset)
    assert same_as_onnxruntime(path, INPUTS[:, None]).readout == "softmax"


def test_opsets_before_7_are_refused(tmp_path):
    nodes = [node("MatMul", "x", "w", out="y")]
    path = save_graph(tmp_path / "n.onnx", nodes, {"w": V4}, ["N", 4], opset=6)
    with pytest.raises(FormatError, match="expected opset 7 or later, got 6"):
        ns.Network.load(path)


@pytest.mark.parametrize(("opset", "axis"), [(11, 0), (13, 0), (13, 1)])
def test_a_softmax_over_anything_but_the_units_is_refused(tmp_path, opset, axis):
    nodes = [
        node("MatMul", "x", "w", out="m"),
        node("Reshape", "m", "sizes", out="r"),
        node("Softmax", "r", out="y", axis=axis),
    ]
    constants = {"w": V4, "sizes": np.array([0, 3] if axis == 0 else [0, 3, 1])}
    path = save_graph(tmp_path / "n.onnx", nodes, constants, ["N", 4], opset)
    with pytest.raises(FormatError, match="Softmax over the units"):
        ns.Network.load(path)


@pytest.mark.parametrize(
    "names", [["y", "z"], []], ids=["two outputs of real numbers", "no output"]
)
def test_a_graph_without_one_output_is_refused(tmp_path, names):
    nodes = [node("MatMul", "x", "w", out="z"), node("Relu", "z", out="y")]
    path = save_graph(tmp_path / "n.onnx", nodes, {"w": V4}, ["N", 4], outputs=names)
    with pytest.raises(FormatError, match=f"one output of real numbers, got {len(names)}"):
        ns.Network.load(path)


def test_a_graph_with_two_inputs_is_refused(tmp_path):
    model = onnx.load(
        save_graph(tmp_path / "n.onnx", [node("MatMul", "x", "w", out="y")], {"w": V4}, ["N", 4])
    )
    model.graph.input.append(helper.make_tensor_value_info("x2", TensorProto.FLOAT, [1]))
    onnx.save(model, tmp_path / "n.onnx")
    with pytest.raises(FormatError, match="one input, got 2: x, x2"):
        ns.Network.load(tmp_path / "n.onnx")


def test_the_label_branch_of_a_classifier_is_left_out(tmp_path):
    # The shape of what skl2onnx makes of an MLPClassifier, with zipmap off.
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["z"], transB=1),
        helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, None),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(v, k) for k, v in dense().items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "n.onnx"
    )
    assert ns.Network.load(tmp_path / "n.onnx").readout == "softmax"


def gemm(*more):
    return [helper.make_node("Gemm", ["x", "w", "b"], ["z"], transB=1), *more]


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        (gemm(helper.make_node("Erf", ["z"], ["y"], name="my erf")), r"'my erf' \(Erf\): expected"),
        (
            gemm(helper.make_node("Conv", ["z", "w"], ["y"])),
            r"'y' \(Conv\): expected a window over one or two axes",
        ),
        (
            gemm(helper.make_node("Relu", ["z"], ["y"], domain="mine")),
            r"\(Relu\): .* of ONNX itself",
        ),
        (
            gemm(helper.make_node("Relu", ["nowhere"], ["y"])),
            "that other nodes make, got 'nowhere'",
        ),
        (gemm(helper.make_node("Dropout", ["z", "", "yes"], ["y"])), "got training_mode = 1"),
        (
            gemm(
                helper.make_node("Softmax", ["z"], ["s"]),
                helper.make_node("Softmax", ["s"], ["y"]),
            ),
            r"\(Softmax\): expected Softmax as the last step",
        ),
        (
            gemm(
                helper.make_node("Softmax", ["z"], ["s"]),
                helper.make_node("MatMul", ["s", "b"], ["y"]),
            ),
            r"\(MatMul\): expected a weight with two axes",
        ),
        (
            gemm(
                helper.make_node("Softmax", ["z"], ["s"]),
                helper.make_node("Gemm", ["s", "w"], ["y"]),
            ),
            r"\(Gemm\): expected Softmax as the last step",
        ),
        (
            gemm(helper.make_node("Mul", ["z", "z"], ["y"])),
            r"\(Mul\): expected products with constants, got one of two computed",
        ),
        (
            gemm(helper.make_node("Softmax", ["z"], ["s"]), helper.make_node("Relu", ["s"], ["y"])),
            r"\(Relu\): expected Softmax as the last step",
        ),
        ([helper.make_node("Relu", ["x"], ["y"])], "expected at least one weighted layer"),
        ([helper.make_node("MatMul", ["w", "x"], ["y"])], "weight as the second factor"),
        ([helper.make_node("Gemm", ["x", "w", "b"], ["y"], transA=1, transB=1)], "transA = 0"),
        ([helper.make_node("Identity", ["b"], ["y"])], "depend on the input"),
        ([helper.make_node("Identity", ["x"], ["y"])], "at least one weighted layer, got none"),
    ],
)
def test_what_is_no_chain_of_layers_is_named(tmp_path, nodes, said):
    path = build(tmp_path / "n.onnx", nodes, {**dense(), "yes": np.array(True)}, 4)
    with pytest.raises(FormatError, match=said):
        ns.Network.load(path)


def test_numbers_too_large_to_fold_are_refused(tmp_path):
    nodes = [
        node("Mul", "x", "large", out="a"),
        node("Mul", "large", "a", out="c"),
        node("MatMul", "c", "w", out="y"),
    ]
    constants = {"large": np.float64([1e300, 1, 1, 1]), "w": V4}
    path = build(tmp_path / "n.onnx", nodes, constants, 4)
    with pytest.raises(FormatError, match="weight: expected finite numbers"):
        ns.Network.load(path)


def test_non_finite_weights_are_named(tmp_path):
    constants = dense()
    constants["w"][1, 2] = np.nan
    path = build(tmp_path / "n.onnx", gemm(helper.make_node("Relu", ["z"], ["y"])), constants, 4)
    with pytest.raises(FormatError, match=r"weight: expected finite numbers, got nan at \(1, 2\)"):
        ns.Network.load(path)


def test_external_data_outside_the_folder_is_refused(tmp_path):
    (tmp_path / "inside").mkdir()
    path = build(
        tmp_path / "inside" / "n.onnx", gemm(helper.make_node("Relu", ["z"], ["y"])), dense(), 4
    )
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert ns.Network.load(path).widths == (4, 3)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FormatError, match="external data in the folder of the file"):
        ns.Network.load(path)


def test_external_data_of_constant_nodes_is_held_to_the_folder_too(tmp_path):
    (tmp_path / "weights.bin").write_bytes(V4.tobytes())
    (tmp_path / "inside").mkdir()
    tensor = numpy_helper.from_array(V4, "w")
    external_data_helper.set_external_data(tensor, "../weights.bin")
    tensor.ClearField("raw_data")
    nodes = [node("Constant", out="w", value=tensor), node("MatMul", "x", "w", out="y")]
    path = build(tmp_path / "inside" / "n.onnx", nodes, {}, 4)
    with pytest.raises(FormatError, match="external data in the folder of the file"):
        ns.Network.load(path)


def test_missing_external_data_is_named(tmp_path):
    path = build(tmp_path / "n.onnx", gemm(node("Relu", "z", out="y")), dense(), 4)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(
        FormatError, match=r"n\.onnx: expected readable external data.*weights\.bin"
    ):
        ns.Network.load(path)


def test_formats_do_not_import_onnx_until_they_need_it():
    program = "import neurosim.formats, sys; print('onnx' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_an_onnx_that_does_not_import_is_said(tmp_path, monkeypatch):
    path = build(tmp_path / "n.onnx", gemm(node("Relu", "z", out="y")), dense(), 4)
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "neurosim.formats.onnx", raising=False)
    with pytest.raises(FormatError, match=r"n\.onnx: expected the package onnx"):
        ns.Network.load(path)


@pytest.mark.parametrize("name", ["n.onnx", "n.npz", "packed.npz"])
def test_damaged_files_are_read_or_refused_but_never_crash(tmp_path, name):
    path, rng = tmp_path / name, np.random.default_rng(0)
    if name == "n.onnx":
        build(path, gemm(node("LeakyRelu", "z", out="y", alpha=0.5)), dense(), 4)
    elif name == "n.npz":
        network().save(path)
    else:
        np.savez_compressed(path, **KEYS)
    whole, said = np.frombuffer(path.read_bytes(), np.uint8), []
    for _ in range(400):
        damaged = whole.copy()
        damaged[rng.integers(len(whole), size=2)] = rng.integers(256, size=2)
        path.write_bytes(damaged.tobytes())
        try:
            ns.Network.load(path)
        except FormatError as error:
            said.append(str(error))
    assert len(said) > 100
    assert not [text for text in said if "\n" in text]


@pytest.mark.parametrize("name", ["n.onnx", "n.npz"])
@pytest.mark.parametrize("content", [b"", b"not a network", bytes(range(256)) * 20])
def test_foreign_bytes_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=name):
        ns.Network.load(tmp_path / name)


def network(**extra):
    rng = np.random.default_rng(0)
    return ns.Network.dense(
        weights=[rng.normal(size=(5, 6)), rng.normal(size=(2, 5))],
        biases=[np.ones(5), np.ones(2)],
        activations=["sigmoid(4)", "softmax"],
        **extra,
    )


@pytest.mark.parametrize("name", ["n.onnx", "n.npz"])
def test_truncated_files_are_refused(tmp_path, name):
    path = tmp_path / name
    if name == "n.npz":
        network().save(path)
    else:
        build(path, gemm(helper.make_node("Relu", ["z"], ["y"])), dense(), 4)
    whole = path.read_bytes()
    for cut in (*range(0, len(whole), 7), len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match=name):
            ns.Network.load(path)


def test_npz_round_trips_exactly(tmp_path):
    before = network(input_shape=(2, 3))
    before.save(tmp_path / "n.npz")
    after = ns.Network.load(tmp_path / "n.npz")
    assert (after.readout, after.input_shape, str(after)) == ("softmax", (2, 3), str(before))
    for a, b in zip(before.layers, after.layers, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)
        np.testing.assert_array_equal(a.bias, b.bias)


def test_the_same_network_is_written_to_the_same_bytes(tmp_path):
    network().save(tmp_path / "a.npz")
    network().save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_written_network_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    network().save(tmp_path / "n.npz")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "n.npz")]
    assert modes[0] == modes[1]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    network().save(tmp_path / "n.npz")
    before = (tmp_path / "n.npz").read_bytes()

    def full(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(FormatError, match=r"n\.npz: expected a place to write to.*No space"):
        network().save(tmp_path / "n.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["n.npz"]
    assert (tmp_path / "n.npz").read_bytes() == before


def test_a_read_out_that_npz_cannot_hold_is_refused(tmp_path):
    layer = Dense(weight=[[1.0]], bias=[0.0], activation=Activation("relu"))
    with pytest.raises(FormatError, match="identity before the softmax read-out, got relu"):
        ns.Network(layers=(layer,), readout="softmax").save(tmp_path / "n.npz")
    assert not list(tmp_path.iterdir())


KEYS = {"weight_1": np.ones((2, 3)), "bias_1": np.ones(2), "activation_1": "relu"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"wieght_1": np.ones(2)}, "got wieght_1; did you mean weight_1"),
        ({"weight_3": np.ones((2, 2))}, "without gaps"),
        ({"activation_1": None}, "expected key activation_1, got none"),
        ({"activation_1": "swish"}, "layer 1: activation: expected one of"),
        ({"bias_1": np.ones(3)}, "layer 1: bias: expected shape"),
        ({"weight_1": np.full((2, 3), np.inf)}, "layer 1: weight: expected finite"),
        ({"weight_1": np.array([[None, {}]])}, "without pickled objects"),
        ({"weight_1": np.float64(3)}, "layer 1: weight: expected shape"),
        ({"weight_1": np.ones((2, 3)) * 1j}, "weight_1: expected real numbers, got dtype complex"),
        ({"bias_1": np.array(["1", "2"])}, "bias_1: expected real numbers, got dtype <U1"),
        ({"activation_1": 3}, "activation_1: expected one text"),
        ({"activation_1": ["relu", "relu"]}, "activation_1: expected one text"),
        ({"activation_1": b"relu"}, "activation_1: expected one text"),
        ({"input_shape": [2, 2]}, "input_shape: expected sizes of 3 values in all"),
        ({"input_shape": [3.5]}, "input_shape: expected sizes of 3 values in all"),
        ({"input_shape": [-1, -3]}, "input_shape: expected sizes of 3 values in all"),
        ({"input_shape": "three"}, "input_shape: expected sizes of 3 values in all"),
        (
            {"weight_2": np.ones((2, 3)), "activation_2": "relu"},
            "expected 2 inputs, what comes before",
        ),
    ],
)
def test_npz_files_with_wrong_keys_or_values_are_refused(tmp_path, change, said):
    arrays = {k: v for k, v in {**KEYS, **change}.items() if v is not None}
    np.savez(tmp_path / "n.npz", **arrays)
    with pytest.raises(FormatError, match=said) as raised:
        ns.Network.load(tmp_path / "n.npz")
    assert "n.npz" in str(raised.value)


def test_a_missing_bias_is_zero(tmp_path):
    np.savez(tmp_path / "n.npz", **{k: v for k, v in KEYS.items() if k != "bias_1"})
    np.testing.assert_array_equal(ns.Network.load(tmp_path / "n.npz").layers[0].bias, [0, 0])


def test_paths_that_hold_no_network_are_refused(tmp_path):
    (tmp_path / "f.npz").mkdir()
    for name, said in (
        ("none.npz", r"\.pth are read\), got nothing there"),
        ("f.npz", "a folder"),
        ("n.txt", "ending in .npz, .onnx"),
        ("n", "no ending"),
    ):
        with pytest.raises(FormatError, match=said):
            ns.Network.load(tmp_path / name)
    with pytest.raises(FormatError, match="a place to write to"):
        network().save(tmp_path / "none" / "n.npz")
    with pytest.raises(FormatError, match=r"ends in \.npz or \.onnx, got '\.keras'"):
        network().save(tmp_path / "n.keras")


def test_what_scikit_learn_exports_is_read(tmp_path):
    # The real thing; its own warnings about convergence do not matter here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skl2onnx import to_onnx
        from sklearn.datasets import load_digits
        from sklearn.neural_network import MLPClassifier, MLPRegressor
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import MinMaxScaler, StandardScaler

        x, y = load_digits(return_X_y=True)
        x = x.astype(np.float32)
        options = {"hidden_layer_sizes": (12, 8), "max_iter": 5, "random_state": 0}
        models = [
            MLPClassifier(activation=activation, **options)
            for activation in ("relu", "logistic", "tanh")
        ]
        scalers = [make_pipeline(s(), models[0]) for s in (StandardScaler, MinMaxScaler)]
        models += [*scalers, MLPRegressor(**options)]
        cases = [(model, y) for model in models]
        cases += [(MLPClassifier(**options), y > 4), (MLPRegressor(**options), np.eye(10)[y])]
        cases += [(MLPClassifier(**options), np.eye(10, dtype=int)[y])]
        for number, (model, y) in enumerate(cases):
            model.fit(x, y)
            regression = isinstance(model, MLPRegressor)
            zipped = regression or number % 2  # the other half pack their output in a ZipMap
            made = to_onnx(model, x[:1], options=None if zipped else {"zipmap": False})
            (tmp_path / "n.onnx").write_bytes(made.SerializeToString())
            if regression:
                wanted = model.predict(x).reshape(len(x), -1)
            else:
                wanted = model.predict_proba(x)
                # Two classes are one neuron: the probability of the second.
                wanted = wanted[:, 1:] if wanted.shape[1] == 2 else wanted
            ours = ns.Network.load(tmp_path / "n.onnx")(x)
            np.testing.assert_allclose(ours, wanted, atol=1e-5 * abs(wanted).max())


def test_linear_models_that_scikit_learn_exports_are_one_layer(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skl2onnx import to_onnx
        from sklearn.datasets import load_digits
        from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        x, y = load_digits(return_X_y=True)
        x = x.astype(np.float32)
        logistic = LogisticRegression(max_iter=20)
        cases = [
            (LinearRegression(), y),
            (Ridge(), np.eye(10)[y]),
            (logistic, y),
            (logistic, y > 4),
        ]
        cases += [(make_pipeline(StandardScaler(), model), y) for model in (Ridge(), logistic)]
        for model, targets in cases:
            model.fit(x, targets)
            made = to_onnx(model, x[:1])
            (tmp_path / "n.onnx").write_bytes(made.SerializeToString())
            if hasattr(model, "predict_proba"):
                wanted = model.predict_proba(x)
                wanted = wanted[:, 1:] if wanted.shape[1] == 2 else wanted
            else:
                wanted = model.predict(x).reshape(len(x), -1)
            network = ns.Network.load(tmp_path / "n.onnx")
            assert network.depth == 1
            np.testing.assert_allclose(network(x), wanted, atol=2e-5 * abs(wanted).max())


@pytest.mark.parametrize(
    ("kind", "attributes", "said"),
    [
        (
            "LinearRegressor",
            {"coefficients": [1.0] * 4},
            "expected coefficients for 3 inputs, got 4",
        ),
        (
            "LinearRegressor",
            {"coefficients": [1.0] * 6},
            "intercept for each of 2 outputs.*targets 1",
        ),
        ("LinearRegressor", {}, "expected coefficients for 3 inputs, got 0"),
        (
            "LinearClassifier",
            {"coefficients": [1.0] * 6, "intercepts": [1.0]},
            "intercept for each",
        ),
        (
            "LinearClassifier",
            {"coefficients": [1.0] * 6, "post_transform": "PROBIT"},
            "expected NONE, LOGISTIC or SOFTMAX",
        ),
    ],
)
def test_damaged_linear_models_are_named(tmp_path, kind, attributes, said):
    outputs = ["y"] if kind == "LinearRegressor" else ["label", "y"]
    node = helper.make_node(kind, ["x"], outputs, domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "n.onnx")
    with pytest.raises(FormatError, match=rf"\({kind}\): .*{said}"):
        ns.Network.load(tmp_path / "n.onnx")


@pytest.mark.parametrize("given", [None, 5, 3.5, True, b"n.npz", [], object(), np.zeros(3)])
def test_what_is_no_path_is_refused_at_the_door(tmp_path, given):
    network = ns.Network.dense(weights=[np.eye(2)], biases=[[0, 0]], activations=["relu"])
    network.save(tmp_path / "n.onnx")
    (tmp_path / "n.safetensors").write_bytes(b"")
    doors = [
        ("source", lambda: ns.Network.load(given)),
        ("path", lambda: network.save(given)),
        ("chip", lambda: ns.Chip.load(given)),
        ("path", lambda: ns.DefectMap.read(given)),
        ("path", lambda: ns.load_campaign(given)),
        ("path", lambda: ns.load_nir(given, duration_s=1.0, time_step_s=0.1)),
    ]
    if given is not None:
        weights = tmp_path / "n.safetensors"
        doors.append(("architecture", lambda: ns.Network.load(weights, architecture=given)))
    for name, door in doors:
        with pytest.raises(ns.InputError, match=rf"^{name}: expected .*, got "):
            door()


@pytest.mark.parametrize(
    "given", [5, 2.0, True, "2", b"2", (), (0,), (-2,), (2.0,), ("2",), (True,), int]
)
def test_what_is_no_shape_is_refused_at_the_door(tmp_path, given):
    network = ns.Network.dense(weights=[np.eye(2)], biases=[[0, 0]], activations=["relu"])
    network.save(tmp_path / "n.onnx")
    with pytest.raises(ns.InputError, match=r"^input_shape: expected whole numbers from 1 on"):
        ns.Network.load(tmp_path / "n.onnx", input_shape=given)
