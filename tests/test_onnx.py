"""Graphs with feature maps, branches and all activations, read from ONNX and written to it."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import neurosim as ns
from neurosim.errors import FormatError
from neurosim.graph import Node
from neurosim.layers import (
    Activation,
    Add,
    Affine,
    AveragePool2D,
    Concatenate,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool,
    MaxPool2D,
    Reshape,
    Slice,
    Transpose,
)

ACTIVATIONS = (
    "identity",
    "relu",
    "leaky_relu(0.25)",
    "relu6",
    "hard_swish",
    "sigmoid(1)",
    "sigmoid(2)",
    "tanh",
    "softplus",
    "silu",
    "gelu",
    "gelu_tanh",
    "mish",
    "elu(0.5)",
    "hard_tanh(0.5)",
)


def node(kind, *inputs, out, **attributes):
    return helper.make_node(kind, list(inputs), [out], **attributes)


def save(path, nodes, constants, shape, opset=20):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def outputs_of_onnxruntime(path, inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: inputs.astype(np.float32)})[0]
    return outputs.reshape(len(inputs), -1)


def difference(network, path, inputs):
    """Largest difference to onnxruntime, relative to the largest output."""
    expected = outputs_of_onnxruntime(path, inputs)
    return abs(network(inputs.astype(np.float32)) - expected).max() / abs(expected).max()


RNG = np.random.default_rng(7)
K = RNG.normal(size=(4, 3, 3, 3)).astype("f4")
B4 = RNG.normal(size=4).astype("f4")
DEPTHWISE = RNG.normal(size=(6, 1, 2, 3)).astype("f4")
INPUTS = RNG.normal(size=(5, 3, 8, 7))
NORM = {
    "gamma": RNG.uniform(0.5, 2, 4).astype("f4"),
    "beta": RNG.normal(size=4).astype("f4"),
    "mean": RNG.normal(size=4).astype("f4"),
    "var": RNG.uniform(0.5, 2, 4).astype("f4"),
}
CONV = node("Conv", "x", "k", "b", out="c", pads=[1, 1, 1, 1])


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Conv", "x", "k", out="y", strides=[2, 1], pads=[0, 1, 2, 3], dilations=[2, 1])],
        [node("Conv", "x", "k", "b", out="y", auto_pad="SAME_UPPER", strides=[2, 3])],
        [node("Conv", "x", "k", "b", out="y", auto_pad="SAME_LOWER", strides=[3, 2])],
        [node("Conv", "x", "d", out="y", group=3, auto_pad="VALID")],
        [CONV, node("MaxPool", "c", out="y", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)],
        [
            CONV,
            node("MaxPool", "c", out="y", kernel_shape=[3, 3], pads=[1, 0, 1, 2], dilations=[2, 1]),
        ],
        [
            CONV,
            node(
                "AveragePool",
                "c",
                out="y",
                kernel_shape=[3, 3],
                strides=[2, 2],
                pads=[1] * 4,
                count_include_pad=1,
            ),
        ],
        [CONV, node("AveragePool", "c", out="y", kernel_shape=[2, 2], pads=[0, 1, 1, 0])],
        [CONV, node("GlobalAveragePool", "c", out="y")],
        [CONV, node("GlobalMaxPool", "c", out="p"), node("Flatten", "p", out="y")],
        [CONV, node("ReduceMean", "c", "over", out="y", keepdims=0)],
        [
            CONV,
            node("BatchNormalization", "c", "gamma", "beta", "mean", "var", out="n", epsilon=0.1),
            node("Clip", "n", "zero", "six", out="y"),
        ],
        [  # a branch that takes the convolution before it is normalised
            CONV,
            node("BatchNormalization", "c", "gamma", "beta", "mean", "var", out="n"),
            node("Relu", "n", out="r"),
            node("Conv", "r", "kernel", out="i", pads=[0, 0, 1, 1]),
            node("Add", "i", "c", out="s"),
            node("HardSwish", "s", out="y"),
        ],
        [  # concatenated with the input itself
            CONV,
            node("Sigmoid", "c", out="g"),
            node("Mul", "g", "c", out="s"),
            node("Concat", "s", "x", out="t", axis=-3),
            node("AveragePool", "t", out="y", kernel_shape=[2, 2], strides=[2, 2]),
        ],
        [  # an input that is scaled in front of zeros, which do not shift with it
            node("Sub", "x", "three", out="a"),
            node("Conv", "a", "k", out="y", pads=[1, 1, 0, 0]),
        ],
        [
            node("Div", "x", "three", out="a"),
            node("Sub", "a", "three", out="e"),
            node("Conv", "e", "k", "b", out="y"),
        ],
        [
            node("Pad", "x", "pads", out="p"),
            node("Conv", "p", "k", "b", out="c"),
            node("Relu", "c", out="r"),
            node("Pad", "r", "pads", "zero", out="s"),
            node("MaxPool", "s", out="y", kernel_shape=[3, 3]),
        ],
        [  # as tf2onnx leaves a model of Keras
            CONV,
            node("Transpose", "c", out="t", perm=[0, 2, 3, 1]),
            node("Add", "t", "b", out="u"),
            node("Tanh", "u", out="v"),
            node("Reshape", "v", "flat", out="f"),
            node("MatMul", "f", "m", out="y"),
        ],
        [  # Gelu spelled out, as before opset 20
            CONV,
            node("Div", "c", "root", out="e"),
            node("Erf", "e", out="f"),
            node("Add", "f", "one", out="g"),
            node("Mul", "c", "g", out="h"),
            node("Mul", "h", "half", out="y"),
        ],
        [
            CONV,
            node("HardSigmoid", "c", out="g", alpha=1 / 6),
            node("Mul", "c", "g", out="y"),
        ],
        [  # hard-swish as before opset 14, divided last and first
            CONV,
            node("Add", "c", "three_one", out="a"),
            node("Clip", "a", "zero", "six", out="b6"),
            node("Mul", "c", "b6", out="p"),
            node("Div", "p", "six", out="y"),
        ],
        [
            CONV,
            node("Add", "three_one", "c", out="a"),
            node("Clip", "a", "zero", "six", out="b6"),
            node("Mul", "b6", "sixth", out="s"),
            node("Mul", "s", "c", out="y"),
        ],
        [  # gelu divided by 2
            CONV,
            node("Div", "c", "root", out="e"),
            node("Erf", "e", out="f"),
            node("Add", "f", "one", out="g"),
            node("Mul", "g", "c", out="h"),
            node("Div", "h", "two", out="y"),
        ],
        [  # gelu by tanh spelled out
            CONV,
            node("Pow", "c", "three_one", out="c3"),
            node("Mul", "c3", "cubic", out="k3"),
            node("Add", "c", "k3", out="s"),
            node("Mul", "s", "gate", out="i"),
            node("Tanh", "i", out="t"),
            node("Add", "one", "t", out="g"),
            node("Mul", "c", "g", out="h"),
            node("Mul", "h", "half", out="y"),
        ],
        [
            CONV,
            node("Softplus", "c", out="s"),
            node("Tanh", "s", out="t"),
            node("Mul", "t", "c", out="y"),
        ],
        [CONV, node("Mish", "c", out="y")],
        [CONV, node("Elu", "c", out="y", alpha=0.7)],
        [CONV, node("Selu", "c", out="y")],
        [CONV, node("Selu", "c", out="y", alpha=1.5, gamma=2.0)],
        [CONV, node("Celu", "c", out="y", alpha=2.5)],
        [CONV, node("Gelu", "c", out="y", approximate="tanh")],
        [CONV, node("Clip", "c", "minus_half", "six", out="y")],
        [CONV, node("PRelu", "c", "tenth", out="p"), node("Neg", "p", out="y")],
        [CONV, node("Max", "zero", "c", out="y")],
        [CONV, node("ReduceMax", "c", "over", out="y", keepdims=0)],
        [  # zeros with axes, a weight that is a product of constants
            node("Pad", "x", "two_pads", "zero", "over", out="p"),
            node("Mul", "k", "half", out="k2"),
            node("Conv", "p", "k2", out="y"),
        ],
        [  # softplus as torch spells it
            CONV,
            node("Softplus", "c", out="s"),
            node("Greater", "c", "twenty", out="g"),
            node("Where", "g", "c", "s", out="y"),
        ],
        [  # a map made of units, and one element a unit again
            node("Flatten", "x", out="f"),
            node("MatMul", "f", "w", out="u"),
            node("Reshape", "u", "square", out="q"),
            node("Conv", "q", "one_channel", out="y"),
        ],
        [  # channels shuffled between two groups, whose size the graph works out
            CONV,
            node("Shape", "c", out="s"),
            node("Gather", "s", "first", out="g"),
            node("Div", "g", "two_groups", out="e"),
            node("Unsqueeze", "e", "front", out="u"),
            node("Concat", "batch", "pair", "u", "rest", out="shape", axis=0),
            node("Reshape", "c", "shape", out="r"),
            node("Transpose", "r", out="t", perm=[0, 2, 1, 3, 4]),
            node("Reshape", "t", "back", out="mixed"),
            node("Conv", "mixed", "four", out="y", group=2),
        ],
        [  # a weight that is normalised each time
            node("ReduceL2", "k", "all_but_first", out="l"),
            node("Div", "k", "l", out="v"),
            node("Conv", "x", "v", out="y"),
        ],
        [  # zeros in the order of Keras
            node("Transpose", "x", out="t", perm=[0, 2, 3, 1]),
            node("Pad", "t", "nhwc", out="p"),
            node("Transpose", "p", out="q", perm=[0, 3, 1, 2]),
            node("Conv", "q", "k", out="y"),
        ],
    ],
    ids=lambda nodes: "-".join(n.op_type for n in nodes),
)
def test_outputs_are_those_of_onnxruntime(tmp_path, nodes):
    constants = {
        "k": K,
        "b": B4,
        "d": DEPTHWISE,
        "kernel": RNG.normal(size=(4, 4, 2, 2)).astype("f4"),
        "m": RNG.normal(size=(4 * 56, 2)).astype("f4"),
        "w": RNG.normal(size=(168, 12)).astype("f4"),
        "one_channel": RNG.normal(size=(1, 1, 2, 2)).astype("f4"),
        "square": np.array([-1, 1, 3, 4]),
        "flat": np.array([-1, 4 * 56]),
        "pads": np.array([0, 0, 1, 2, 0, 0, 0, 1]),
        "nhwc": np.array([0, 1, 2, 0, 0, 0, 1, 0]),
        "over": np.array([2, 3]),
        "zero": np.float32(0),
        "six": np.float32(6),
        "twenty": np.float32(20),
        "one": np.float32(1),
        "half": np.float32(0.5),
        "two": np.float32(2),
        "sixth": np.float32(1 / 6),
        "cubic": np.float32(0.044715),
        "gate": np.float32(np.sqrt(2 / np.pi)),
        "minus_half": np.float32(-0.5),
        "tenth": np.full((4, 1, 1), np.float32(0.1)),
        "three_one": np.float32(3),
        "two_pads": np.array([1, 0, 2, 1]),
        "root": np.float32(np.sqrt(2)),
        "three": np.float32([2, 3, 4]).reshape(3, 1, 1),
        "first": np.array(1),
        "two_groups": np.array(2),
        "front": np.array([0]),
        "batch": np.array([-1]),
        "pair": np.array([2]),
        "rest": np.array([8, 7]),
        "back": np.array([-1, 4, 8, 7]),
        "four": RNG.normal(size=(4, 2, 2, 2)).astype("f4"),
        "all_but_first": np.array([1, 2, 3]),
        **NORM,
    }
    path = save(tmp_path / "n.onnx", nodes, constants, (3, 8, 7))
    network = ns.Network.load(path)
    assert network.input_shape == (3, 8, 7)
    assert difference(network, path, INPUTS) < 1e-5
    # The same again through both writers.
    for name in ("again.npz", "again.onnx"):
        network.save(tmp_path / name)
        again = ns.Network.load(tmp_path / name)
        np.testing.assert_allclose(again(INPUTS), network(INPUTS), rtol=1e-5, atol=1e-5)


def test_zeros_in_front_of_a_sequence_are_those_of_the_window_behind(tmp_path):
    # Causal, as torch exports Keras: (n_inputs, length, channels) until the convolution.
    nodes = [
        node("Pad", "x", "pads", out="p"),
        node("Transpose", "p", out="t", perm=[0, 2, 1]),
        node("Conv", "t", "w", out="c"),
        node("Transpose", "c", out="y", perm=[0, 2, 1]),
    ]
    constants = {
        "pads": np.array([0, 2, 0, 0, 1, 0]),
        "w": RNG.normal(size=(5, 3, 4)).astype("f4"),
    }
    path = save(tmp_path / "n.onnx", nodes, constants, (8, 3))
    inputs = RNG.normal(size=(4, 8, 3))
    network = ns.Network.load(path)
    assert difference(network, path, inputs) < 1e-5
    shifted = save(tmp_path / "w.onnx", nodes, {**constants, "pads": [0, 1, 0, 0, 2, 0]}, (8, 3))
    assert difference(network, shifted, inputs) > 1e-2
    channels = save(tmp_path / "c.onnx", nodes, {**constants, "pads": [0, 2, 1, 0, 1, 0]}, (8, 3))
    with pytest.raises(FormatError, match=r"height and width only, got pads \[0, 2, 1, 0, 1, 0\]"):
        ns.Network.load(channels)


def test_a_wrong_kernel_would_be_seen(tmp_path):
    path = save(tmp_path / "n.onnx", [node("Conv", "x", "k", out="y")], {"k": K}, (3, 8, 7))
    network = ns.Network.load(path)
    for wrong in (K[:, :, ::-1], K.transpose(0, 1, 3, 2), K * np.float32(1.0001)):
        save(tmp_path / "w.onnx", [node("Conv", "x", "k", out="y")], {"k": wrong}, (3, 8, 7))
        assert difference(network, tmp_path / "w.onnx", INPUTS) > 5e-5


@pytest.mark.parametrize("opset", [11, 13, 15, 18, 21])
def test_opsets_write_the_same_graph_differently(tmp_path, opset):
    constants = {"k": K, "b": B4, "axes": np.array([2, 3]), **NORM}
    axes = ["axes"] if opset >= 18 else []
    old = {} if axes else {"axes": [2, 3]}
    squeeze = ["axes"] if opset >= 13 else []
    nodes = [
        CONV,
        node("BatchNormalization", "c", "gamma", "beta", "mean", "var", out="n"),
        node("Relu", "n", out="r"),
        node("ReduceMean", "r", *axes, out="m", **old),
        node("Squeeze", "m", *squeeze, out="s", **({} if squeeze else {"axes": [2, 3]})),
        node("Softmax", "s", out="y", axis=1),
    ]
    path = save(tmp_path / "n.onnx", nodes, constants, (3, 8, 7), opset)
    network = ns.Network.load(path)
    assert network.readout == "softmax"
    assert difference(network, path, INPUTS) < 1e-5


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_convolution_and_pool_is_that_of_onnxruntime(tmp_path_factory, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    groups = data.draw(st.sampled_from([1, 2, 3]))
    channels = (groups * data.draw(st.integers(1, 2)), groups * data.draw(st.integers(1, 2)))
    pair = st.lists(st.integers(1, 2), min_size=2, max_size=2)
    size = data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=2))
    strides, dilations = data.draw(pair), data.draw(pair)
    pads = data.draw(st.lists(st.integers(0, 2), min_size=4, max_size=4))
    kernel = rng.normal(size=(channels[1], channels[0] // groups, *size)).astype("f4")
    shape = (channels[0], data.draw(st.integers(7, 10)), data.draw(st.integers(7, 10)))
    automatic = data.draw(st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    where = {"pads": pads} if automatic == "NOTSET" else {"auto_pad": automatic}
    if automatic.startswith("SAME"):
        dilations = [1, 1]  # onnxruntime has no others with it
    pool = data.draw(st.sampled_from(["MaxPool", "AveragePool", None]))
    nodes = [
        node("Conv", "x", "k", out="c", strides=strides, dilations=dilations, group=groups, **where)
    ]
    if pool:
        ceil = data.draw(st.integers(0, 1))
        nodes += [
            node("Relu", "c", out="r"),
            node(pool, "r", out="p", kernel_shape=[2, 1], strides=[2, 2], ceil_mode=ceil,
                 pads=[1, 0, 0, 0]),
            node("Identity", "p", out="y"),
        ]  # fmt: skip
    else:
        nodes.append(node("Identity", "c", out="y"))
    path = save(tmp_path_factory.mktemp("onnx") / "n.onnx", nodes, {"k": kernel}, shape)
    network = ns.Network.load(path)
    assert difference(network, path, rng.normal(size=(2, *shape))) < 1e-5


@st.composite
def networks(draw):
    """Networks over a feature map with every kind of layer."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 3)), 6, 5)

    def activation():
        return Activation.parse(draw(st.sampled_from(ACTIVATIONS)))

    nodes, shapes = [], [shape]

    def put(layer, *sources):
        nodes.append(Node(layer, sources))
        shapes.append(layer.output_shape(*(shapes[k] for k in sources)))
        return len(nodes)

    def convolution(source, n_out, size, padding):
        n_in = shapes[source][0]
        return put(
            Conv2D(
                weight=rng.normal(size=(n_out, n_in, size, size)) / n_in**0.5,
                bias=rng.normal(size=n_out),
                activation=activation(),
                padding=padding,
            ),
            source,
        )

    first = convolution(0, 4, 3, ((1, 1), (1, 1)))
    second = convolution(first, 4, 1, 0)
    last = put(Add(activation=activation()), first, second)
    if draw(st.booleans()):
        last = put(Concatenate(), last, 0)
    n = shapes[last][0]
    if draw(st.booleans()):
        last = put(
            Affine(scale=rng.normal(size=n), shift=rng.normal(size=n), activation=activation()),
            last,
        )
    depthwise = Conv2D(
        weight=rng.normal(size=(2 * n, 1, 2, 2)),
        bias=rng.normal(size=2 * n),
        groups=n,
        stride=(2, 1),
        dilation=(1, 2),
        activation=activation(),
    )
    last = put(depthwise, last)
    pool = draw(st.sampled_from([MaxPool2D, AveragePool2D, GlobalAveragePool, Transpose]))
    if pool is GlobalAveragePool:
        last = put(pool(), last)
    elif pool is Transpose:
        last = put(Slice(axis=1, start=0, stop=1), put(Transpose(axes=(1, 2, 0)), last))
        last = put(Flatten(), last)
    else:
        counted = {"count_padding": draw(st.booleans())} if pool is AveragePool2D else {}
        last = put(pool(size=2, stride=1, padding=((0, 1), (1, 0)), **counted), last)
        last = put(Reshape(shape=(int(np.prod(shapes[last])),)), last)
    n = shapes[last][0]
    layer = Dense(weight=rng.normal(size=(3, n)) / n**0.5, bias=rng.normal(size=3))
    put(layer, last)
    readout = draw(st.sampled_from([None, "softmax"]))
    network = ns.Network(nodes=tuple(nodes), readout=readout, input_shape=shape)
    return network, rng.normal(size=(3, *shape)).astype("f4")


@given(case=networks())
@settings(max_examples=40, deadline=None)
def test_written_networks_are_read_back_and_run_elsewhere(tmp_path_factory, case):
    network, inputs = case
    golden, folder = network(inputs), tmp_path_factory.mktemp("written")
    scale = 1 + abs(golden).max()
    network.save(folder / "n.npz")
    exact = ns.Network.load(folder / "n.npz")
    np.testing.assert_array_equal(exact(inputs), golden)
    assert (str(exact), exact.input_shape) == (str(network), network.input_shape)
    network.save(folder / "n.onnx")
    rounded = ns.Network.load(folder / "n.onnx")
    np.testing.assert_allclose(rounded(inputs), golden, atol=1e-5 * scale)
    elsewhere = outputs_of_onnxruntime(folder / "n.onnx", inputs)
    np.testing.assert_allclose(elsewhere, golden, atol=1e-4 * scale)


def test_the_demo_network_is_written_as_onnx(tmp_path):
    from neurosim import data

    network = ns.Network.load(data.network_path())
    network.save(tmp_path / "a.onnx")
    network.save(tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    again = ns.Network.load(tmp_path / "a.onnx")
    assert (again.widths, again.input_shape) == (network.widths, network.input_shape)
    inputs = np.load(data.images_path())["inputs"][:20]
    assert difference(again, tmp_path / "a.onnx", inputs.reshape(20, *again.input_shape)) < 1e-5


def test_numbers_too_large_for_single_precision_are_refused(tmp_path):
    network = ns.Network.dense(weights=[[[1e39]]], biases=[[0.0]], activations=["relu"])
    with pytest.raises(
        FormatError, match=r"n\.onnx: dense_1\.weight: expected numbers that single"
    ):
        network.save(tmp_path / "n.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([node("ConvTranspose", "x", "k", out="y")], r"\(ConvTranspose\): expected layers that"),
        ([node("Resize", "x", "", "s", out="y")], r"\(Resize\): .* got one that enlarges"),
        ([node("MaxPool", "x", out="y", kernel_shape=[2])], "window over one or two axes"),
        ([node("Conv", "x", "q", out="y")], "expected a kernel for 3 channels"),
        ([node("Conv", "x", "k", out="y", kernel_shape=[3, 3], strides=[9, 9], pads=[-1] * 4)],
         "no negative pads"),
        ([CONV, node("Erf", "c", out="y")], r"\(Erf\): expected an activation"),
        ([CONV, node("Clip", "c", "one", out="y")], "expected a clamp between"),
        ([CONV, node("Max", "c", "one", out="y")], "expected a clamp between"),
        ([CONV, node("PRelu", "c", "b3", out="y")], "expected one slope for all channels"),
        ([CONV, node("LogSoftmax", "c", out="y")], r"\(LogSoftmax\).* leave this step out"),
        ([CONV, node("Div", "pads", "s3", out="d"), node("Reshape", "c", "d", out="y")],
         "expected a shape that keeps the 224 values"),
        ([CONV, helper.make_node("Gelu", ["c"], ["y"], domain="com.microsoft")],
         "expected an operator of ONNX itself, got one of com.microsoft"),
        ([node("Elu", "k", out="e"), node("Conv", "x", "e", out="y")],
         "expected an operator whose constants can be computed while reading"),
        ([CONV, node("Mul", "c", "c", out="y")], "got one of two computed values"),
        ([CONV, node("Add", "c", "x", out="y")], r"computed inputs of one shape, .* 7\)$"),
        ([CONV, node("ReduceMean", "c", "map", out="m"), node("Add", "c", "m", out="y")],
         r"of one shape, got \(4, 1, 1\), \(4, 8, 7\); no layer repeats a value: let the layer"),
        ([CONV, node("Concat", "c", "x", out="y", axis=0)], "alike but for axis"),
        ([CONV, node("ReduceMean", "c", "whole", out="y")], "inputs are not mixed"),
        ([CONV, node("Softmax", "c", out="y")], "Softmax over the units"),
        ([CONV, node("Pad", "c", "pads", "one", out="y")], "zeros around a map"),
        ([CONV, node("Pad", "c", "pads", out="p"), node("Relu", "p", out="y")], "after zeros"),
        ([CONV, node("Pad", "c", "pads", out="y")], "after zeros"),
        ([node("Conv", "x", "x", out="y")], "expected one computed input, got 2"),
        ([node("ConstantOfShape", "huge", out="h"), node("Add", "x", "h", out="y")],
         "expected at most 1000000 values"),
    ],
)  # fmt: skip
def test_nodes_without_a_place_are_named(tmp_path, nodes, said):
    constants = {
        "k": K,
        "b": B4,
        "q": np.ones((1, 4, 1, 1), "f4"),
        "s": np.float32([1, 1, 2, 2]),
        "one": np.float32(1),
        "b3": np.float32([[[1]], [[2]], [[3]], [[4]]]),
        "whole": np.array([0, 2]),
        "map": np.array([2, 3]),
        "s3": np.array(3),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "huge": np.array([10**6, 10**6]),
    }
    path = save(tmp_path / "n.onnx", nodes, constants, (3, 8, 7))
    with pytest.raises(FormatError, match=said) as raised:
        ns.Network.load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("first", ["Conv", "Relu"])
@pytest.mark.parametrize("sizes", [None, ["N", "n_in"]])
def test_inputs_of_unknown_shape_are_given_where_they_are_reshaped(tmp_path, first, sizes):
    nodes = [
        node("Reshape", "x", "s", out="r"),
        *([node("Relu", "r", out="p")] if first == "Relu" else []),
        node("Conv", "p" if first == "Relu" else "r", "k", out="c"),
        node("Flatten", "c", out="y"),
    ]
    constants = {"s": np.array([-1, 3, 8, 7]), "k": K}
    path = save(tmp_path / "n.onnx", nodes, constants, (168,))
    inputs = INPUTS.reshape(len(INPUTS), -1)
    assert difference(ns.Network.load(path), path, inputs) < 1e-5
    model = onnx.load(path)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes))
    onnx.save(model, path)
    with pytest.raises(FormatError, match="give input_shape"):
        ns.Network.load(path)
    assert difference(ns.Network.load(path, input_shape=(168,)), path, inputs) < 1e-5


def test_constants_of_unknown_inputs_are_reshaped_with_them(tmp_path):
    nodes = [node("Add", "x", "t", out="a"), node("Reshape", "a", "s", out="r"),
             node("Conv", "r", "k", out="c"), node("Flatten", "c", out="y")]  # fmt: skip
    rng = np.random.default_rng(2)
    constants = {"s": np.array([-1, 3, 8, 7]), "t": rng.normal(size=168).astype("f4"), "k": K}
    path = save(tmp_path / "n.onnx", nodes, constants, (168,))
    inputs = INPUTS.reshape(len(INPUTS), -1)
    assert difference(ns.Network.load(path), path, inputs) < 1e-5
    model = onnx.load(path)
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))
    onnx.save(model, path)
    with pytest.raises(FormatError, match="give input_shape"):
        ns.Network.load(path)


def test_sizes_that_the_file_leaves_open_are_given(tmp_path):
    nodes = [CONV, node("GlobalAveragePool", "c", out="g"), node("Flatten", "g", out="y")]
    path = save(tmp_path / "n.onnx", nodes, {"k": K, "b": B4}, (3, "h", "w"))
    with pytest.raises(FormatError, match="give input_shape"):
        ns.Network.load(path)
    network = ns.Network.load(path, input_shape=(3, 8, 7))
    assert difference(network, path, INPUTS) < 1e-5
    with pytest.raises(FormatError, match=r"inputs of shape \(3, 0, 0\) \(0: any\), got"):
        ns.Network.load(path, input_shape=(4, 8, 7))


def test_writing_needs_no_more_than_reading():
    program = (
        "import neurosim as ns, sys; ns.Network.dense(weights=[[[1.0]]], biases=[[0.0]], "
        "activations=['relu']); print('onnx' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False False"


def test_a_layer_with_several_users_is_one_layer(tmp_path):
    nodes = [
        CONV,
        node("BatchNormalization", "c", "gamma", "beta", "mean", "var", out="n"),
        node("Relu", "n", out="r"),
        node("Add", "r", "c", out="y"),
    ]
    path = save(tmp_path / "n.onnx", nodes, {"k": K, "b": B4, **NORM}, (3, 8, 7))
    network = ns.Network.load(path)
    assert [type(n.layer).__name__ for n in network.nodes] == ["Conv2D", "Affine", "Add", "Flatten"]
    # Its neurons are those that both users take: before the normalisation of one of them.
    np.testing.assert_array_equal(network.layers[0].weight, K)
    assert difference(network, path, INPUTS) < 1e-5


def test_constants_are_computed_whatever_makes_them(tmp_path):
    nodes = [
        node("Abs", "k", out="positive"),
        node("Sqrt", "positive", out="root"),
        node("Pow", "k", "three", out="cube"),
        node("Greater", "k", "zero", out="above"),
        node("Where", "above", "root", "cube", out="chosen"),
        node("Cast", "chosen", out="wide", to=TensorProto.DOUBLE),
        node("Cast", "wide", out="narrow", to=TensorProto.FLOAT),
        node("Reciprocal", "three", out="third"),
        node("Exp", "third", out="factor"),
        node("Mul", "narrow", "factor", out="scaled"),
        node("Expand", "one", "four", out="ones"),
        node("ReduceSum", "scaled", "whole", out="sums", keepdims=0),
        node("Add", "ones", "sums", out="bias"),
        node("Conv", "x", "scaled", "bias", out="c"),
        node("Shape", "x", out="shape"),
        node("Slice", "shape", "nought", "first", out="batch"),
        node("Shape", "flat_weight", out="pair"),
        node("Gather", "pair", "nought", out="size"),
        node("Concat", "batch", "size", out="target", axis=0),
        node("Reshape", "c", "target", out="f"),
        node("MatMul", "f", "flat_weight", out="y"),
    ]
    constants = {
        "k": K, "three": np.float32(3), "zero": np.float32(0), "one": np.float32(1),
        "four": np.array([4]), "whole": np.array([1, 2, 3]), "nought": np.array([0]),
        "first": np.array([1]), "flat_weight": RNG.normal(size=(4 * 6 * 5, 2)).astype("f4"),
    }  # fmt: skip
    path = save(tmp_path / "n.onnx", nodes, constants, (3, 8, 7))
    assert difference(ns.Network.load(path), path, INPUTS) < 1e-5


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([node("ReduceProd", "shape", out="n")], "does not depend on the inputs"),
        ([node("Equal", "shape", "seven", out="n")], "does not depend on the inputs"),
        ([node("Range", "one", "shape", "one", out="n")], "does not depend on the inputs"),
        ([node("Tile", "k", "many", out="n")], "expected at most 1000000 values"),
        ([node("Expand", "k", "wide", out="n")], "expected at most 1000000 values"),
        ([node("Range", "zero", "large", "one", out="n")], "expected at most 1000000 values"),
        ([node("Reshape", "k", "seven", out="n")], "expected constants that onnx can compute"),
        ([node("RandomNormalLike", "k", out="n")], "whose constants can be computed"),
        ([node("Cast", "shape", out="n", to=TensorProto.FLOAT)], "does not depend on the inputs"),
        (
            [node("Tile", "k", "some", out="t"), node("Concat", *["t"] * 200, out="n", axis=0)],
            "expected at most 100000000 values",
        ),
    ],
)
def test_constants_that_cannot_be_known_are_refused(tmp_path, nodes, said):
    constants = {
        "k": K, "seven": np.array([7]), "one": np.array(1), "zero": np.array(0),
        "large": np.array(10**9), "many": np.array([10**5, 1, 1, 1]),
        "wide": np.array([10**4, 4, 3, 3, 3]), "some": np.array([5000, 1, 1, 1]),
    }  # fmt: skip
    whole = [node("Shape", "x", out="shape"), *nodes, node("Add", "x", "n", out="y")]
    path = save(tmp_path / "n.onnx", whole, constants, (3, 8, 7))
    with pytest.raises(FormatError, match=said) as raised:
        ns.Network.load(path)
    assert "'n' (" in str(raised.value)


def test_many_large_constants_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("neurosim.formats.onnx._MOST_COMPUTED", 10**4)
    doubled = [node("Concat", f"k{n}", f"k{n}", out=f"k{n + 1}", axis=0) for n in range(9)]
    nodes = [*doubled, node("ReduceSum", "k9", out="n"), node("Add", "x", "n", out="y")]
    path = save(tmp_path / "n.onnx", nodes, {"k0": K}, (3, 8, 7))
    with pytest.raises(FormatError, match=r"'k6'.* made of the 108 numbers of the file, got 13608"):
        ns.Network.load(path)


@pytest.mark.parametrize("wrong", [np.array("abc", object), np.array(1 + 2j)])
def test_a_factor_that_is_no_number_is_refused(tmp_path, wrong):
    nodes = [CONV, node("Div", "c", "w", out="y")]
    path = save(tmp_path / "n.onnx", nodes, {"k": K, "b": B4, "w": wrong}, (3, 8, 7))
    with pytest.raises(FormatError, match=r"'y' \(Div\): expected a constant of real numbers"):
        ns.Network.load(path)


@pytest.mark.parametrize(
    "nodes",
    [
        [  # (n_inputs, height, width, channels): zeros beside the width alone
            node("Transpose", "x", out="last", perm=[0, 2, 3, 1]),
            node("Pad", "last", "beside", out="p"),
            node("Transpose", "p", out="first", perm=[0, 3, 1, 2]),
            node("Conv", "first", "k", out="y"),
        ],
        [
            node("Pad", "x", "around", out="p"),
            node("Transpose", "p", out="turned", perm=[0, 1, 3, 2]),
            node("Conv", "turned", "k", out="y"),
        ],
        [
            node("Pad", "x", "around", out="p"),
            node("Conv", "p", "k", out="y", auto_pad="SAME_UPPER", strides=[2, 2]),
        ],
    ],
)
def test_zeros_stay_around_their_axes(tmp_path, nodes):
    constants = {
        "k": K, "beside": np.array([0, 0, 1, 0, 0, 0, 2, 0]),
        "around": np.array([0, 0, 1, 0, 0, 0, 0, 2]),
    }  # fmt: skip
    path = save(tmp_path / "n.onnx", nodes, constants, (3, 8, 7))
    assert difference(ns.Network.load(path), path, INPUTS) < 1e-5


@pytest.mark.parametrize(
    ("kind", "said"), [("MaxPool", "some of the map in every window"), ("AveragePool", "ceil_mode")]
)
def test_a_last_window_of_zeros_alone_is_not_left_out(tmp_path, kind, said):
    pool = node(kind, "p", out="y", kernel_shape=[3, 2], strides=[2, 3], ceil_mode=1)
    nodes = [CONV, node("Relu", "c", out="r"), node("Pad", "r", "beside", out="p"), pool]
    constants = {"k": K, "b": B4, "beside": np.array([0, 0, 0, 0, 0, 0, 0, 3])}
    with pytest.raises(FormatError, match=said):
        ns.Network.load(save(tmp_path / "n.onnx", nodes, constants, (3, 7, 7)))


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([node("Slice", "x", "ones", "threes", "fives", out="y")], "expected an axis of 4, got 5"),
        ([node("ReduceMax", "x", "fives", out="y")], "expected an axis of 4, got 5"),
        ([node("Squeeze", "x", "fives", out="y")], "expected an axis of 4, got 5"),
        ([node("Unsqueeze", "x", "nines", out="y")], "expected new axes"),
        ([node("Concat", "x", "x", out="y", axis=5)], "expected an axis of 4, got 5"),
        ([node("Gather", "x", "threes", out="y", axis=1)], "expected places of 3 values"),
        ([node("Gather", "x", "none", out="y", axis=1)], "expected places of 3 values"),
    ],
)
def test_places_that_are_not_there_are_refused(tmp_path, nodes, said):
    constants = {
        "ones": np.array([1]), "threes": np.array([3]), "fives": np.array([5]),
        "nines": np.array([9]), "none": np.zeros(0, np.int64),
    }  # fmt: skip
    with pytest.raises(FormatError, match=said):
        ns.Network.load(save(tmp_path / "n.onnx", nodes, constants, (3, 8, 7)))


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (node("LSTM", "x", "w", "w", "b", "", "state", out="y"), r"'y' \(LSTM\): .* a recurrent"),
        (node("GRU", "x", "w", "w", "b", "", "state", out="y"), r"'y' \(GRU\): .* a recurrent"),
        (node("Concat", "state", "x", out="y", axis=1),
         r"'state' \(ConstantOfShape\): .*; export the network for a fixed number of inputs"),
    ],
)  # fmt: skip
def test_a_constant_for_each_input_is_blamed_on_the_layer_that_takes_it(tmp_path, last, said):
    nodes = [
        node("Shape", "x", out="shape"),
        node("ConstantOfShape", "shape", out="state"),
        last,
    ]
    constants = {"w": np.ones((1, 4, 1), "f4"), "b": np.ones((1, 8), "f4")}
    with pytest.raises(FormatError, match=said):
        ns.Network.load(save(tmp_path / "n.onnx", nodes, constants, (3, 8)))


def test_an_embedding_is_a_look_up(tmp_path):
    nodes = [node("Gather", "table", "x", out="y")]
    path = save(tmp_path / "n.onnx", nodes, {"table": np.ones((9, 4), "f4")}, (3,))
    with pytest.raises(FormatError, match=r"\(Gather\): .* got an embedding, a look-up"):
        ns.Network.load(path)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_weights_of_other_lengths_are_widened(tmp_path, kind):
    import ml_dtypes

    dtype = np.dtype(getattr(ml_dtypes, kind, None) or kind)
    element = getattr(TensorProto, {"float64": "DOUBLE"}.get(kind, kind.upper()))
    short = {"k": K.astype(dtype), "b": B4.astype(dtype)}
    nodes = [CONV, node("Relu", "c", out="y")]
    path = save(tmp_path / "n.onnx", nodes, {}, (3, 8, 7))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = element
    model.graph.output[0].type.tensor_type.elem_type = element
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in short.items())
    onnx.save(model, path)
    wide = {name: value.astype(np.float64) for name, value in short.items()}
    plain = save(tmp_path / "wide.onnx", nodes, wide, (3, 8, 7))
    network = ns.Network.load(path)
    np.testing.assert_array_equal(network.layers[0].weight, wide["k"])
    np.testing.assert_array_equal(network(INPUTS), ns.Network.load(plain)(INPUTS))


EACH_PART = np.array([1, 2, 1])
PARTS = {
    "split": [
        helper.make_node("Split", ["c", "each"], ["p", "q", "r"], axis=1),
        node("Concat", "r", "q", out="s", axis=1),
        node("Conv", "s", "small", out="y"),
    ],
    "split evenly": [
        helper.make_node("Split", ["c"], ["p", "q"], axis=1, num_outputs=2),
        node("Sub", "p", "q", out="y"),
    ],
    "slices": [
        node("Slice", "c", "starts", "ends", "axes", "steps", out="s"),
        node("Relu", "s", out="y"),
    ],
    "places": [node("Gather", "c", "places", out="g", axis=1), node("Tanh", "g", out="y")],
    "one place": [node("Gather", "c", "last", out="g", axis=2), node("Tanh", "g", out="y")],
    "squares": [
        node("SpaceToDepth", "even", out="d", blocksize=2),
        node("DepthToSpace", "d", out="e", blocksize=2),
        node("DepthToSpace", "d", out="f", blocksize=2, mode="CRD"),
        node("Sub", "e", "f", out="y"),
    ],
    "hard sigmoid": [node("HardSigmoid", "c", out="y", alpha=0.3, beta=0.4)],
    "clip": [node("Clip", "c", "zero", "half", out="y")],
    "sum of axes": [node("ReduceSum", "c", "rows", out="y", keepdims=1)],
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_maps_are_those_of_onnxruntime(tmp_path, name):
    constants = {
        "k": K, "b": B4, "each": EACH_PART, "small": RNG.normal(size=(2, 3, 2, 2)).astype("f4"),
        "starts": np.array([1, -6]), "ends": np.array([2**62, 7]), "axes": np.array([1, -1]),
        "steps": np.array([2, 3]), "places": np.array([0, 2]), "last": np.array(-1),
        "zero": np.float32(0), "half": np.float32(0.5), "rows": np.array([2]),
        "width": np.array([3]), "nought": np.array([0]), "six": np.array([6]),
    }  # fmt: skip
    even = [CONV, node("Slice", "c", "nought", "six", "width", out="even")]
    path = save(tmp_path / "n.onnx", [*even, *PARTS[name]], constants, (3, 8, 7))
    network = ns.Network.load(path)
    assert difference(network, path, INPUTS) < 1e-5
    network.save(tmp_path / "again.npz")
    np.testing.assert_array_equal(ns.Network.load(tmp_path / "again.npz")(INPUTS), network(INPUTS))
    network.save(tmp_path / "again.onnx")
    assert difference(ns.Network.load(tmp_path / "again.onnx"), path, INPUTS) < 1e-5


@pytest.mark.parametrize("kind", ["ReduceMean", "Clip", "Slice", "Reshape", "Scaler", "Expand"])
def test_values_where_a_constant_belongs_are_refused(tmp_path, kind):
    inputs = [["k", "x"], ["k", "x", "x"]][kind == "Slice"]
    path = save(tmp_path / "n.onnx", [node(kind, *inputs, out="y")], {"k": K}, (3, 8, 7))
    with pytest.raises(FormatError, match=rf"'y' \({kind}\): expected"):
        ns.Network.load(path)
