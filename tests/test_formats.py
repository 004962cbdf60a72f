"""Readers against onnxruntime, and what they say of files they cannot read."""

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import neurosim as ns
from neurosim.errors import FormatError, InputError

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


def same_as_onnxruntime(path, inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": inputs.astype(np.float32)})[0]
    network = ns.Network.load(path)
    ours = network(inputs.astype(np.float32))
    np.testing.assert_allclose(
        ours, expected, rtol=1e-6, atol=1e-6 * max(1e-3, abs(expected).max())
    )
    return network


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
        (gemm(helper.make_node("Elu", ["z"], ["y"], name="my elu")), r"'my elu' \(Elu\): expected"),
        (gemm(helper.make_node("Add", ["z", "z"], ["y"])), r"\(Add\): expected one computed input"),
        (
            gemm(helper.make_node("Relu", ["z"], ["r"]), helper.make_node("Tanh", ["r"], ["y"])),
            r"\(Tanh\): expected a MatMul or Gemm before every activation",
        ),
        (
            gemm(helper.make_node("Softmax", ["z"], ["s"]), helper.make_node("Relu", ["s"], ["y"])),
            r"\(Relu\): expected Softmax as the last step",
        ),
        (
            gemm(
                helper.make_node("Relu", ["z"], ["r"]), helper.make_node("Add", ["r", "b"], ["y"])
            ),
            "an affine step after it",
        ),
        ([helper.make_node("Relu", ["x"], ["y"])], r"\(Relu\): expected a MatMul or Gemm before"),
        ([helper.make_node("MatMul", ["w", "x"], ["y"])], "weight as the second factor"),
        ([helper.make_node("Gemm", ["x", "w", "b"], ["y"], transA=1, transB=1)], "transA = 0"),
        ([helper.make_node("Identity", ["b"], ["y"])], "depend on the input"),
        ([helper.make_node("Identity", ["x"], ["y"])], "nothing of the kind"),
    ],
)
def test_what_is_no_chain_of_layers_is_named(tmp_path, nodes, said):
    path = build(tmp_path / "n.onnx", nodes, dense(), 4)
    with pytest.raises(FormatError, match=said):
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
    for cut in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises((FormatError, InputError), match=name):
            ns.Network.load(path)


def test_npz_round_trips_exactly(tmp_path):
    before = network(input_shape=(2, 3))
    before.save(tmp_path / "n.npz")
    after = ns.Network.load(tmp_path / "n.npz")
    assert (after.readout, after.input_shape, str(after)) == ("softmax", (2, 3), str(before))
    for a, b in zip(before.layers, after.layers, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)
        np.testing.assert_array_equal(a.bias, b.bias)


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
    ],
)
def test_npz_files_with_wrong_keys_or_values_are_refused(tmp_path, change, said):
    arrays = {k: v for k, v in {**KEYS, **change}.items() if v is not None}
    np.savez(tmp_path / "n.npz", **arrays)
    with pytest.raises((FormatError, InputError), match=said) as raised:
        ns.Network.load(tmp_path / "n.npz")
    assert "n.npz" in str(raised.value)


def test_a_missing_bias_is_zero(tmp_path):
    np.savez(tmp_path / "n.npz", **{k: v for k, v in KEYS.items() if k != "bias_1"})
    np.testing.assert_array_equal(ns.Network.load(tmp_path / "n.npz").layers[0].bias, [0, 0])


def test_paths_that_hold_no_network_are_refused(tmp_path):
    (tmp_path / "f.npz").mkdir()
    for name, said in (
        ("none.npz", "nothing there"),
        ("f.npz", "a folder"),
        ("n.txt", "ending in .npz, .onnx"),
        ("n", "no ending"),
    ):
        with pytest.raises(FormatError, match=said):
            ns.Network.load(tmp_path / name)
    with pytest.raises(FormatError, match="a place to write to"):
        network().save(tmp_path / "none" / "n.npz")
    with pytest.raises(FormatError, match=r"ends in \.npz"):
        network().save(tmp_path / "n.onnx")


def test_what_scikit_learn_exports_is_read(tmp_path):
    # The real thing; its own warnings about convergence do not matter here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from skl2onnx import to_onnx
        from sklearn.datasets import load_digits
        from sklearn.neural_network import MLPClassifier, MLPRegressor
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        x, y = load_digits(return_X_y=True)
        x = x.astype(np.float32)
        options = {"hidden_layer_sizes": (12, 8), "max_iter": 5, "random_state": 0}
        models = [
            MLPClassifier(activation=activation, **options)
            for activation in ("relu", "logistic", "tanh")
        ]
        models += [make_pipeline(StandardScaler(), models[0]), MLPRegressor(**options)]
        for model in models:
            model.fit(x, y)
            regression = isinstance(model, MLPRegressor)
            made = to_onnx(model, x[:1], options=None if regression else {"zipmap": False})
            (tmp_path / "n.onnx").write_bytes(made.SerializeToString())
            wanted = model.predict(x)[:, None] if regression else model.predict_proba(x)
            ours = ns.Network.load(tmp_path / "n.onnx")(x)
            np.testing.assert_allclose(ours, wanted, atol=1e-5 * abs(wanted).max())
