"""Files of weights alone, with a description of the layers."""

import itertools
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim.errors import FormatError, InputError

safetensors = pytest.importorskip("safetensors.numpy")

RNG = np.random.default_rng(0)
WEIGHTS = {
    "stem.weight": RNG.normal(size=(4, 2, 3, 3)),
    "stem.bias": RNG.normal(size=4),
    "norm.weight": RNG.normal(size=4),
    "norm.bias": RNG.normal(size=4),
    "norm.running_mean": RNG.normal(size=4),
    "norm.running_var": RNG.uniform(0.5, 2, 4),
    "norm.num_batches_tracked": np.array(3),
    "body.weight": RNG.normal(size=(4, 1, 3, 3)),
    "head.weight": RNG.normal(size=(3, 6 * 2 * 2)),
    "head.bias": RNG.normal(size=3),
}
ARCHITECTURE = """
input_shape = [2, 8, 8]

[[layer]]
kind = "conv2d"
name = "stem"
stride = 2
padding = [[0, 1], [0, 1]]

[[layer]]
kind = "batch_norm"
name = "norm"
epsilon = 0.1
activation = "relu6"

[[layer]]
kind = "conv2d"
name = "body"
padding = 1
groups = 4
activation = "silu"

[[layer]]
kind = "add"
name = "sum"
inputs = ["norm", "body"]
activation = "leaky_relu(0.25)"

[[layer]]
kind = "average_pool"
name = "small input"
inputs = ["input"]
size = 2

[[layer]]
kind = "concatenate"
inputs = ["small input", "sum"]

[[layer]]
kind = "max_pool"
size = 2

[[layer]]
kind = "flatten"

[[layer]]
kind = "dense"
name = "head"

[[layer]]
kind = "softmax"
"""
DENSE = {"input_shape": [3], "layer": [{"kind": "dense", "name": "fc", "activation": "sigmoid(4)"}]}


def write(folder, weights=WEIGHTS, architecture=ARCHITECTURE):
    path = folder / "n.safetensors"
    safetensors.save_file({k: np.ascontiguousarray(v) for k, v in weights.items()}, path)
    path.with_suffix(".toml").write_text(architecture)
    return path


def by_hand(x):
    """The network of ARCHITECTURE, from sums over windows."""
    w = WEIGHTS
    padded = np.zeros((len(x), 2, 9, 9))
    padded[:, :, :8, :8] = x
    views = np.lib.stride_tricks.sliding_window_view
    patches = views(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    z = np.einsum("nchwij,ocij->nohw", patches, w["stem.weight"]) + w["stem.bias"][:, None, None]
    column = (slice(None), None, None)
    z = (z - w["norm.running_mean"][column]) / np.sqrt(w["norm.running_var"][column] + 0.1)
    y = np.clip(z * w["norm.weight"][column] + w["norm.bias"][column], 0, 6)
    padded = np.pad(y, ((0, 0), (0, 0), (1, 1), (1, 1)))
    z = np.einsum("nchwij,cij->nchw", views(padded, (3, 3), axis=(2, 3)), w["body.weight"][:, 0])
    total = y + z / (1 + np.exp(-z))
    total = np.where(total > 0, total, 0.25 * total)
    small = x.reshape(len(x), 2, 4, 2, 4, 2).mean(axis=(3, 5))
    joined = np.concatenate([small, total], axis=1)
    pooled = joined.reshape(len(x), 6, 2, 2, 2, 2).max(axis=(3, 5))
    logits = pooled.reshape(len(x), -1) @ w["head.weight"].T + w["head.bias"]
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_a_described_network_computes_what_is_described(tmp_path):
    network = ns.Network.load(write(tmp_path))
    x = np.random.default_rng(1).normal(size=(4, 2, 8, 8))
    np.testing.assert_allclose(network(x), by_hand(x), rtol=1e-10)
    assert (network.input_shape, network.readout) == ((2, 8, 8), "softmax")


def test_the_description_may_lie_elsewhere_or_be_a_mapping(tmp_path):
    path = write(tmp_path, {"fc.weight": np.eye(2, 3)}, "")
    (tmp_path / "other.toml").write_text(
        'input_shape = [3]\nlayer = [{ kind = "dense", name = "fc", activation = "sigmoid(4)" }]'
    )
    x = np.array([[0.5, -1.0, 9.0]])
    expected = 1 / (1 + np.exp(-4 * x[:, :2]))
    for architecture in (tmp_path / "other.toml", str(tmp_path / "other.toml"), DENSE):
        network = ns.Network.load(path, architecture=architecture)
        np.testing.assert_allclose(network(x), expected)
    path.with_suffix(".toml").unlink()
    with pytest.raises(FormatError, match=r"expected a description of the layers in .*n\.toml"):
        ns.Network.load(path)


@given(data=st.data())
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_weights_are_read_exactly(tmp_path_factory, dtype, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    widths = data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=4))
    arrays, layers = {}, []
    for k, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        arrays[f"{k}.weight"] = rng.normal(size=(n_out, n_in)).astype(dtype)
        arrays[f"{k}.bias"] = rng.normal(size=n_out).astype(dtype)
        layers.append({"kind": "dense", "name": str(k), "activation": "tanh"})
    path = write(tmp_path_factory.mktemp("weights"), arrays, "")
    network = ns.Network.load(path, architecture={"input_shape": widths[:1], "layer": layers})
    for k, layer in enumerate(network.layers):
        np.testing.assert_array_equal(layer.weight, arrays[f"{k}.weight"])
        np.testing.assert_array_equal(layer.bias, arrays[f"{k}.bias"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("stride = 2", "strides = 2", "layer.1: expected known keys, got strides"),
        ('kind = "flatten"', 'kind = "lstm"', "expected a word that is known here, got 'lstm'"),
        ("input_shape = [2, 8, 8]", "input_shape = [2, 8, 0]", "an input_shape of sizes from 1 on"),
        ("input_shape = [2, 8, 8]", "", "expected input_shape, got a table without it"),
        ("input_shape = [2, 8, 8]", "input_shape = [3, 8, 8]", "layer 1 'stem' .*for 3 channels"),
        ('name = "head"', 'name = "foot"', "expected an array 'foot.weight', got none"),
        ('name = "sum"', 'name = "body"', "expected a name of its own"),
        ('inputs = ["norm", "body"]', 'inputs = ["norm", "later"]', r"layers before it.*'later'"),
        ('inputs = ["norm", "body"]', "inputs = []", "names of layers before it, got none"),
        ('"relu6"', '"swish"', "activation: expected one of"),
        ('kind = "flatten"', 'kind = "softmax"', "layer 9 'head' .* as the last step"),
        ("[[layer]]\nkind = \"flatten\"\n", "", "layer 8 'head' .*is a Flatten missing"),
        ("padding = 1", "padding = -1", "padding"),
        ("size = 2", "size = 20", "expected"),
        ("[[layer]]\nkind = \"softmax\"", "[[layer", "expected TOML"),
    ],
)  # fmt: skip
def test_descriptions_that_do_not_fit_are_refused(tmp_path, old, new, said):
    assert old in ARCHITECTURE
    path = write(tmp_path, architecture=ARCHITECTURE.replace(old, new, 1))
    with pytest.raises(FormatError, match=said):
        ns.Network.load(path)


def test_arrays_left_over_are_named(tmp_path):
    path = write(tmp_path, {**WEIGHTS, "tail.weight": np.ones(2)})
    with pytest.raises(FormatError, match=r"expected arrays that .* names, got tail\.weight"):
        ns.Network.load(path)
    for name, shape in (
        ("head.bias", (1,)), ("stem.bias", (2, 2)), ("norm.bias", (1,)), ("norm.weight", (4, 1)),
        ("norm.running_mean", (3,)), ("norm.running_var", (5,)),
    ):  # fmt: skip
        path = write(tmp_path, {**WEIGHTS, name: np.ones(shape)})
        with pytest.raises(FormatError, match=r"expected (one|an array with 1 axes)"):
            ns.Network.load(path)
    path = write(tmp_path, {**WEIGHTS, "head.weight": np.ones((3, 24, 1))})
    with pytest.raises(FormatError, match="weight: expected an array with 2 axes, got shape"):
        ns.Network.load(path)


def raw(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


TWO = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04pickle",
        struct.pack("<Q", 2**62),
        raw(b"not json"),
        raw({"a": TWO}, b"\0" * 4),
        raw({"a": {**TWO, "data_offsets": [0, 2**40]}}),
        raw({"a": TWO, "b": TWO}, b"\0" * 8),
        raw({"a": {**TWO, "dtype": "OBJECT"}}, b"\0" * 8),
        raw({"a": {"dtype": "BF16", "shape": [5], "data_offsets": [0, 8]}}, b"\0" * 8),
        raw({"a": {"dtype": "BOOL", "shape": [8], "data_offsets": [0, 8]}}, b"\0" * 8),
    ],
)
def test_foreign_and_damaged_safetensors_are_refused(tmp_path, content):
    (tmp_path / "n.safetensors").write_bytes(content)
    with pytest.raises(FormatError, match=r"n\.safetensors: .*expected"):
        ns.Network.load(tmp_path / "n.safetensors", architecture=DENSE)


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "BOOL", "C64"])
def test_numbers_of_other_kinds_are_named(tmp_path, kind):
    size = 8 if kind == "C64" else 1
    header = {"a": TWO, "b": {"dtype": kind, "shape": [3], "data_offsets": [8, 8 + 3 * size]}}
    (tmp_path / "n.safetensors").write_bytes(raw(header, bytes(8 + 3 * size)))
    with pytest.raises(
        FormatError, match=f"safetensors: b: expected one of F64, .* got {kind}; save"
    ):
        ns.Network.load(tmp_path / "n.safetensors", architecture=DENSE)


def test_bfloat16_is_widened_exactly(tmp_path):
    weight = RNG.normal(size=(3, 2)).astype("f4")
    upper, bias = (weight.view("u4") >> 16).astype("<u2"), RNG.normal(size=3)
    header = {
        "head.weight": {"dtype": "BF16", "shape": [3, 2], "data_offsets": [0, 12]},
        "head.bias": {"dtype": "F64", "shape": [3], "data_offsets": [12, 36]},
    }
    (tmp_path / "n.safetensors").write_bytes(raw(header, upper.tobytes() + bias.tobytes()))
    described = {"input_shape": [2], "layer": [{"kind": "dense", "name": "head"}]}
    (layer,) = ns.Network.load(tmp_path / "n.safetensors", architecture=described).layers
    np.testing.assert_array_equal(layer.weight, (weight.view("u4") & 0xFFFF0000).view("f4"))
    np.testing.assert_array_equal(layer.bias, bias)


def test_a_description_of_another_kind_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"architecture: expected .* 5|architecture: expected .* int"
    ):
        ns.Network.load(write(tmp_path), architecture=5)


def test_truncated_safetensors_are_refused(tmp_path):
    path = write(tmp_path)
    whole = path.read_bytes()
    for cut in np.linspace(0, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match=r"n\.safetensors: "):
            ns.Network.load(path)


def test_keywords_that_say_nothing_are_refused(tmp_path):
    with pytest.raises(InputError, match="input_shape: expected none"):
        ns.Network.load(write(tmp_path), input_shape=(2, 8, 8))
