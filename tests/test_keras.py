"""Files of Keras: outputs that Keras computed (tests/golden/keras), and files that attack."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import neurosim as ns
from neurosim.errors import FormatError, InputError

rng = np.random.default_rng(0)
GOLDEN = Path(__file__).parent / "golden" / "keras"
NAMES = (
    "dense",
    "convolutional",
    "residual",
    "channels_first",
    "pooled",
    "operations",
    "tensorflow",
    "line",
    "gelus",
    "twice",
    "twice_tensorflow",
)


def outputs(name):
    with np.load(GOLDEN / f"{name}.npz") as archive:
        return archive["inputs"], archive["outputs"].reshape(len(archive["inputs"]), -1)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("name", NAMES)
def test_golden_outputs_are_those_of_keras(name, ending, tmp_path):
    inputs, expected = outputs(name)
    network = ns.Network.load(GOLDEN / f"{name}{ending}")
    assert network.input_shape == inputs.shape[1:]
    np.testing.assert_allclose(network(inputs), expected, atol=1e-5 * abs(expected).max())
    network.save(tmp_path / "n.onnx")
    again = ns.Network.load(tmp_path / "n.onnx")(inputs)
    np.testing.assert_allclose(again, expected, atol=2e-5 * abs(expected).max())


def test_a_layer_of_tensorflow_is_its_class_and_number_with_gaps():
    # Its archives count a layer with weights twice: dense, dense_2; Keras 3 has dense, dense_1.
    with zipfile.ZipFile(GOLDEN / "tensorflow.keras") as archive:
        data = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(data) as file:
        listed = file["_layer_checkpoint_dependencies"]
        assert {"dense", "dense_2"} <= set(listed)
        assert "dense_1" not in listed


def test_the_two_formats_hold_the_same_network():
    for name in NAMES:
        one, other = (ns.Network.load(GOLDEN / f"{name}{end}") for end in (".keras", ".h5"))
        assert str(one) == str(other)
        np.testing.assert_array_equal(one(outputs(name)[0]), other(outputs(name)[0]))


def test_weights_behind_a_flatten_are_for_channels_last():
    # Negative control: the same weights, taken to be for channels first, are another network.
    inputs, expected = outputs("convolutional")
    network = ns.Network.load(GOLDEN / "convolutional.keras")
    last = network.nodes[-1].layer
    channels, height, width = network.graph.shapes[network.nodes[-2].sources[0]]
    order = np.arange(last.n_in).reshape(channels, height, width).transpose(1, 2, 0).ravel()
    assert (order != np.arange(last.n_in)).any()
    wrong = type(last)(weight=last.weight[:, order], bias=last.bias, activation=last.activation)
    nodes = (*network.nodes[:-1], type(network.nodes[-1])(wrong, network.nodes[-1].sources))
    network = ns.Network(nodes=nodes, readout="softmax", input_shape=network.input_shape)
    assert abs(network(inputs) - expected).max() > 1e-3


def test_what_keras_2_wrote_is_read(tmp_path):
    # Its layout: weights named "kernel:0" as bytes, inputs given by lists, batch_input_shape.
    kernel, bias, v = rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=(3, 3))
    layers = [
        layer_of("InputLayer", "in", batch_input_shape=[None, 4]),
        layer_of("Dense", "first", ["in"], units=3, activation="relu", use_bias=True),
        layer_of("Dense", "second", ["first"], units=3, activation="linear", use_bias=False),
        layer_of("Add", "sum", ["first", "second"]),
        layer_of("LeakyReLU", "leaky", ["sum"], alpha=0.25),
    ]
    arrays = {
        "first": {"first/kernel:0": kernel, "first/bias:0": bias},
        "second": {"second/kernel:0": v},
    }
    path = written(tmp_path / "n.h5", layers, arrays)
    x = rng.normal(size=(5, 4))
    hidden = np.maximum(x @ kernel + bias, 0)
    total = hidden + hidden @ v
    expected = np.where(total > 0, total, 0.25 * total)
    np.testing.assert_allclose(ns.Network.load(path)(x), expected)


def layer_of(kind, name, sources=(), **config):
    """An entry of a Functional model as Keras 2 writes it."""
    inbound = [[[source, 0, 0, {}] for source in sources]] if sources else []
    return {
        "class_name": kind,
        "name": name,
        "config": {"name": name, **config},
        "inbound_nodes": inbound,
    }


def written(path, layers, arrays, attributes=None):
    """A .h5 file of a Functional model; arrays: those of each layer by its name."""
    ends = {"input_layers": [[layers[0]["name"], 0, 0]]}
    ends["output_layers"] = [[layers[-1]["name"], 0, 0]]
    with h5py.File(path, "w") as file:
        model = {"class_name": "Functional", "config": {"layers": layers, **ends}}
        file.attrs["model_config"] = json.dumps(model)
        file.create_group("model_weights")
        for name, found in arrays.items():
            group = file.create_group(f"model_weights/{name}")
            for key, array in found.items():
                group[key] = array
            for key, value in (attributes or {"weight_names": list(found)}).items():
                group.attrs[key] = [text.encode() for text in value]
    return path


def test_a_list_too_long_for_one_attribute_is_read(tmp_path):
    kernel, bias = rng.normal(size=(4, 3)), rng.normal(size=3)
    layers = [
        layer_of("InputLayer", "in", batch_input_shape=[None, 4]),
        layer_of("Dense", "d", ["in"], units=3, activation="tanh", use_bias=True),
    ]
    cut = {"weight_names0": ["d/kernel:0"], "weight_names1": ["d/bias:0"]}
    path = written(tmp_path / "n.h5", layers, {"d": {"d/kernel:0": kernel, "d/bias:0": bias}}, cut)
    x = rng.normal(size=(5, 4))
    np.testing.assert_allclose(ns.Network.load(path)(x), np.tanh(x @ kernel + bias))


@pytest.mark.parametrize("axis", [-1, None])
@pytest.mark.parametrize("invert", [False, True])
def test_normalization_adapted_to_data_is_read(tmp_path, axis, invert):
    shape = (4,) if axis else ()
    mean, variance = rng.normal(size=shape), rng.uniform(0.5, 2, size=shape)
    kernel = rng.normal(size=(4, 3))
    layers = [
        layer_of("InputLayer", "in", batch_input_shape=[None, 4]),
        layer_of("Normalization", "n", ["in"], axis=axis, mean=None, variance=None, invert=invert),
        layer_of("Dense", "d", ["n"], units=3, activation="tanh", use_bias=False),
    ]
    arrays = {
        "n": {"mean": mean, "variance": variance, "count": np.array(9)},
        "d": {"d/kernel:0": kernel},
    }
    path = written(tmp_path / "n.h5", layers, arrays)
    x = rng.normal(size=(5, 4))
    y = x * np.sqrt(variance) + mean if invert else (x - mean) / np.sqrt(variance)
    network = ns.Network.load(path)
    assert len(network.graph.nodes) == 1  # folded
    np.testing.assert_allclose(network(x), np.tanh(y @ kernel))
    del arrays["n"]["count"]
    with pytest.raises(FormatError, match=r"'n' \(Normalization\): .*expected 3 arrays of the"):
        ns.Network.load(written(tmp_path / "n.h5", layers, arrays))


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2), (2, 2, 2, 3)])
def test_a_flatten_of_channels_first_is_in_the_order_of_channels_last(tmp_path, shape):
    kernel = rng.normal(size=(np.prod(shape), 3))
    layers = [
        layer_of("InputLayer", "in", batch_input_shape=[None, *shape]),
        layer_of("Flatten", "f", ["in"], data_format="channels_first"),
        layer_of("Dense", "d", ["f"], units=3, activation="linear", use_bias=False),
    ]
    path = written(tmp_path / "n.h5", layers, {"d": {"d/kernel:0": kernel}})
    x = rng.normal(size=(5, *shape))
    expected = np.moveaxis(x, 1, -1).reshape(5, -1) @ kernel
    np.testing.assert_allclose(ns.Network.load(path)(x), expected, atol=1e-12)


def test_zeros_before_a_convolution_that_adds_its_own_are_read(tmp_path):
    kernel = rng.normal(size=(3, 2, 2, 3))
    layers = [
        layer_of("InputLayer", "in", batch_input_shape=[None, 6, 5, 2]),
        layer_of("ZeroPadding2D", "z", ["in"], padding=[[0, 1], [2, 0]]),
        layer_of(
            "Conv2D", "c", ["z"], filters=3, kernel_size=[3, 2], strides=[2, 2], padding="same",
            activation="linear", use_bias=False,
        ),
    ]  # fmt: skip
    path = written(tmp_path / "n.h5", layers, {"c": {"c/kernel:0": kernel}})
    x = rng.normal(size=(2, 6, 5, 2))
    # 7 x 7 in windows of 3 x 2, stride 2: 4 x 4, with a row in front, a row and a column behind.
    padded = np.pad(x, ((0, 0), (0, 1), (2, 0), (0, 0)))
    padded = np.pad(padded, ((0, 0), (1, 1), (0, 1), (0, 0)))
    places = [(i, j) for i in range(0, 7, 2) for j in range(0, 7, 2)]
    windows = [padded[:, i : i + 3, j : j + 2] for i, j in places]
    expected = np.stack([np.einsum("nhwc,hwco->no", w, kernel) for w in windows], 1)
    network = ns.Network.load(path)
    np.testing.assert_allclose(network(x), expected.reshape(2, -1), atol=1e-12)


def test_a_scale_for_each_channel_last_is_saved_and_changed_like_any_other(tmp_path):
    kernel, x = rng.normal(size=(2, 2, 3, 4)), rng.normal(size=(3, 4, 5, 3))
    scale, offset = np.array([0.5, 2, -3]), np.array([1.0, 0, -1])
    layers = [
        layer_of("InputLayer", "in", batch_input_shape=[None, 4, 5, 3]),
        layer_of("Rescaling", "r", ["in"], scale=list(scale), offset=list(offset)),
        layer_of(
            "Conv2D", "c", ["r"], filters=4, kernel_size=[2, 2], strides=[1, 1], padding="valid",
            activation="linear", use_bias=False,
        ),
    ]  # fmt: skip
    network = ns.Network.load(written(tmp_path / "n.h5", layers, {"c": {"c/kernel:0": kernel}}))
    # The scale moves behind the transposition into the kernel: no layer of its own.
    kinds = [type(node.layer).__name__ for node in network.nodes]
    assert kinds == ["Transpose", "Conv2D", "Transpose", "Flatten"]
    y = x * scale + offset
    windows = [y[:, i : i + 2, j : j + 2] for i in range(3) for j in range(4)]
    expected = np.stack([np.einsum("nhwc,hwco->no", w, kernel) for w in windows], 1).reshape(3, -1)
    np.testing.assert_allclose(network(x), expected, atol=1e-12)
    network.save(tmp_path / "n.npz")
    np.testing.assert_array_equal(ns.Network.load(tmp_path / "n.npz")(x), network(x))
    network.save(tmp_path / "n.onnx")
    again = ns.Network.load(tmp_path / "n.onnx")
    np.testing.assert_allclose(again(x), expected, atol=1e-5 * abs(expected).max())
    np.testing.assert_array_equal(network.with_layers(network.layers)(x), network(x))


@pytest.mark.parametrize("marked", [True, False])
def test_bfloat16_is_widened(tmp_path, marked):
    kernel = rng.normal(size=(4, 3)).astype("f4")
    upper = (kernel.view("u4") >> 16).astype("u2")
    layers = [
        layer_of("InputLayer", "in", batch_input_shape=[None, 4]),
        layer_of("Dense", "d", ["in"], units=3, activation="linear", use_bias=False),
    ]
    path = written(tmp_path / "n.h5", layers, {"d": {"kernel": upper.view("V2")}})
    with h5py.File(path, "r+") as file:
        if marked:
            file["model_weights/d/kernel"].attrs["dtype"] = "bfloat16"
    expected = (kernel.view("u4") & 0xFFFF0000).view("f4")
    np.testing.assert_array_equal(ns.Network.load(path).layers[0].weight, expected.T)
    with h5py.File(path, "r+") as file:
        file["model_weights/d/kernel"].attrs["dtype"] = "float8"
    with pytest.raises(FormatError, match=r"'d' \(Dense\): .*kernel: expected real numbers, got d"):
        ns.Network.load(path)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("Multiply", "got the product of two computed values"),
        ("Maximum", "no layer computes their maximum"),
    ],
)
def test_what_is_not_linear_in_two_layers_is_refused(tmp_path, kind, said):
    with pytest.raises(FormatError, match=rf"layer 'subtract_1' \({kind}\): .*{said}"):
        ns.Network.load(rewritten(tmp_path, renamed_layer("subtract_1", kind), "operations"))


def renamed_layer(name, kind):
    def change(config):
        (layer,) = [layer for layer in config["layers"] if layer["config"]["name"] == name]
        layer["class_name"] = kind

    return change


def test_several_slopes_are_refused(tmp_path):
    layers = [
        layer_of("InputLayer", "in", batch_input_shape=[None, 2]),
        layer_of("PReLU", "p", ["in"], shared_axes=None),
    ]
    path = written(tmp_path / "n.h5", layers, {"p": {"alpha": np.array([0.25, 0.5])}})
    with pytest.raises(FormatError, match=r"'p' \(PReLU\): expected one slope .* 0.25 to 0.5"):
        ns.Network.load(path)


def test_what_a_sequential_model_was_built_for_is_its_input(tmp_path):
    inputs, expected = outputs("dense")

    def without_input(config):
        del config["layers"][0]
        assert config["build_input_shape"] == [None, 6]

    network = ns.Network.load(rewritten(tmp_path, without_input))
    np.testing.assert_allclose(network(inputs), expected, atol=1e-5)
    with pytest.raises(FormatError, match=r"values of shape \(6,\) .* got \(7,\)"):
        ns.Network.load(tmp_path / "n.keras", input_shape=(7,))


def test_the_end_of_a_model_must_be_one_of_its_layers(tmp_path):
    for end, said in (
        ([["nowhere", 0, 0]], "output_layers: expected a layer of the model, got 'nowhere'"),
        ({"a": ["dense", 0, 0], "b": ["dense_1", 0, 0]}, "output_layers: expected one, got 2"),
        (None, "output_layers: expected a layer, got None"),
    ):
        path = rewritten(
            tmp_path, lambda config, end=end: config.update(output_layers=end), "operations"
        )
        with pytest.raises(FormatError, match=said):
            ns.Network.load(path)


def test_a_wrong_ending_is_said(tmp_path):
    (tmp_path / "n.keras").write_bytes((GOLDEN / "dense.h5").read_bytes())
    (tmp_path / "n.h5").write_bytes((GOLDEN / "dense.keras").read_bytes())
    for name, said in (("n.keras", "got an HDF5 file; rename it to end in .h5"),
                       ("n.h5", "got a zip; rename it to end in .keras")):  # fmt: skip
        with pytest.raises(FormatError, match=said):
            ns.Network.load(tmp_path / name)
    (tmp_path / "n.hdf5").write_bytes((GOLDEN / "dense.h5").read_bytes())
    assert ns.Network.load(tmp_path / "n.hdf5").depth == 5


def test_a_layer_without_a_source_is_refused(tmp_path):
    def cut(config):
        config["layers"][-1]["inbound_nodes"] = []

    with pytest.raises(FormatError, match=r"layer 'dense.*' \(Dense\): .* got no source"):
        ns.Network.load(rewritten(tmp_path, cut, "operations"))


def test_an_argument_by_place_is_refused(tmp_path):
    def call(config):  # normalisation(x, True): as in training
        layer = next(layer for layer in config["layers"] if layer["class_name"] == "PReLU")
        layer["inbound_nodes"][0]["args"].append(True)

    with pytest.raises(FormatError, match=r"'slopes' \(PReLU\): .* tensors alone, got True"):
        ns.Network.load(rewritten(tmp_path, call, "operations"))


def rewritten(tmp_path, change, name="dense", members=("config.json", "model.weights.h5")):
    """A copy of a golden .keras file with a changed configuration."""
    path = tmp_path / "n.keras"
    with zipfile.ZipFile(GOLDEN / f"{name}.keras") as archive:
        config = json.loads(archive.read("config.json"))
        weights = archive.read("model.weights.h5")
    change(config["config"])
    content = {"config.json": json.dumps(config), "model.weights.h5": weights}
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, content[member])
    return path


def setting(number, **changes):
    def change(config):
        config["layers"][number]["config"].update(changes)

    return change


def without_shape(config):
    setting(0, batch_shape=None)(config)
    del config["build_input_shape"]


def renamed(number, kind):
    def change(config):
        config["layers"][number]["class_name"] = kind

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (renamed(2, "Lambda"), r"layer 'dense' \(Lambda\): .* which is not run"),
        (setting(2, activation="hard_sigmoid"), "Keras 2 and 3, got hard_sigmoid; export"),
        (renamed(2, "LSTM"), r"layer 'dense' \(LSTM\): .* a recurrent layer"),
        (
            setting(2, activation="exponential"),
            r"layer 'dense' \(Dense\): expected one of the activations",
        ),
        (setting(2, activation={"class_name": "Mine", "config": {}}), "expected one of the activ"),
        (setting(2, units=8), r"vars/0: expected shape \(6, 8\), got \(6, 7\)"),
        (setting(2, units=10**15), r"vars/0: expected shape"),
        (setting(2, units=None), r"layer 'dense' \(Dense\): expected a configuration as Keras"),
        (setting(4, use_bias=True), r"dense_1/vars/1: expected a dataset, got nothing"),
        (setting(2, use_bias=False), "expected 1 arrays, got 2"),
        (setting(2, name="other"), "expected the weights of layer 'other', got those of 'dense'"),
        (setting(0, batch_shape=[None, None]), "expected an axis of units"),
        (without_shape, "expected the shape of an input .batch_shape., got none; give input_shape"),
        (lambda config: config.update(layers=[]), "expected layers with names of their own"),
        (lambda config: config.update(layers=None), "expected the configuration of a Sequential"),
    ],
)
def test_what_is_no_network_is_named(tmp_path, change, said):
    path = rewritten(tmp_path, change)
    with pytest.raises(FormatError, match=said) as raised:
        ns.Network.load(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (setting(1, padding="causal"), 'expected padding "valid" or "same"'),
        (setting(5, activation="softmax"), r"\(DepthwiseConv2D\): expected a softmax over the"),
        (setting(3, max_value=4, negative_slope=0.1), "expected negative_slope 0"),
        (setting(3, threshold=1.0), "expected threshold 0"),
        (setting(7, groups=5), "expected groups that divide 8 channels"),
        (setting(7, groups=0), "expected groups that divide 8 channels"),
        (
            setting(0, batch_shape=[None, None, None, 3]),
            "whose shape the file states; if it does not, give",
        ),
        (setting(2, axis=1), r"vars/0: expected shape \(5,\), got \(4,\)"),
    ],
)
def test_convolutions_that_cannot_be_are_named(tmp_path, change, said):
    with pytest.raises(FormatError, match=said):
        ns.Network.load(rewritten(tmp_path, change, "convolutional"))


def test_sizes_that_the_file_leaves_open_are_given(tmp_path):
    inputs, expected = outputs("convolutional")
    path = rewritten(tmp_path, setting(0, batch_shape=[None, None, None, 3]), "convolutional")
    network = ns.Network.load(path, input_shape=(9, 8, 3))
    np.testing.assert_allclose(network(inputs), expected, atol=1e-5)
    with pytest.raises(FormatError, match=r"values of shape \(0, 0, 3\) \(0: any\), got"):
        ns.Network.load(path, input_shape=(3, 9, 8))


def test_a_use_of_a_layer_that_nothing_makes_is_refused(tmp_path):
    def later(config):
        text = json.dumps(config["layers"])
        assert '"keras_history": ["step", 1, 0]' in text
        text = text.replace('"keras_history": ["step", 1, 0]', '"keras_history": ["step", 7, 0]')
        config["layers"] = json.loads(text)

    with pytest.raises(FormatError, match="expected sources that are made"):
        ns.Network.load(rewritten(tmp_path, later, "twice"))


def test_layers_used_twice_have_the_same_weights():
    network = ns.Network.load(GOLDEN / "twice.keras")
    same = [layer.weight for layer in network.layers if layer.weight.shape == (8, 8)]
    assert len(same) == 3
    for weight in same[1:]:
        np.testing.assert_array_equal(weight, same[0])


@pytest.mark.parametrize(
    ("keywords", "said"),
    [('{"training": true}', "got training=True"), ('{"mask": 3}', "expected no argument mask")],
)
def test_layers_that_are_called_otherwise_are_refused(tmp_path, keywords, said):
    def call(config):
        text = json.dumps(config["layers"])
        assert '"kwargs": {}' in text
        config["layers"] = json.loads(text.replace('"kwargs": {}', f'"kwargs": {keywords}'))

    with pytest.raises(FormatError, match=said):
        ns.Network.load(rewritten(tmp_path, call, "residual"))

    def call_of_keras_2(config):
        name = config["layers"][0]["name"]
        config["layers"][-1]["inbound_nodes"] = [[[name, 0, 0, json.loads(keywords)]]]

    with pytest.raises(FormatError, match=said):
        ns.Network.load(rewritten(tmp_path, call_of_keras_2, "residual"))


@pytest.mark.parametrize("kind", ["RandomFlip", "Identity", "Dropout"])
def test_a_random_layer_may_be_called_as_in_training(tmp_path, kind):
    # Keras 3 writes training=True into every call of a random layer, and predict() overrides it.
    def change(config):
        layer = next(layer for layer in config["layers"] if layer["class_name"] == "LeakyReLU")
        layer.update(class_name=kind, config={"name": layer["config"]["name"]})
        layer["inbound_nodes"][0]["kwargs"] = {"training": True}

    def without(config):
        change(config)
        layer = next(layer for layer in config["layers"] if layer["class_name"] == kind)
        layer["inbound_nodes"][0]["kwargs"] = {}

    inputs = outputs("residual")[0]
    expected = ns.Network.load(rewritten(tmp_path, without, "residual"))(inputs)
    if kind == "RandomFlip":
        read = ns.Network.load(rewritten(tmp_path, change, "residual"))
        np.testing.assert_array_equal(read(inputs), expected)
    else:
        with pytest.raises(FormatError, match="got training=True"):
            ns.Network.load(rewritten(tmp_path, change, "residual"))


def test_a_random_crop_is_no_layer_to_leave_out(tmp_path):
    with pytest.raises(FormatError, match=r"\(RandomCrop\): expected one of Dense"):
        ns.Network.load(rewritten(tmp_path, renamed(2, "RandomCrop")))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("LSTM", "got a recurrent layer"),
        ("Bidirectional", "got a recurrent layer"),
        ("LayerNormalization", "divides by the spread"),
        ("GroupNormalization", "divides by the spread"),
        ("MultiHeadAttention", "product.* of two computed values"),
        ("UpSampling2D", "enlarges it"),
        ("Conv2DTranspose", "enlarges it"),
        ("Conv3D", "one or two axes, got three"),
        ("Embedding", "a look-up by whole numbers; export the network behind it"),
        ("Lambda", "got code"),
        ("GetItem", "got a slice, .* export the model to ONNX"),
        ("SlicingOpLambda", "got a slice, .* export the model to ONNX"),
    ],
)
def test_the_reason_against_a_layer_is_said_whatever_it_takes(tmp_path, kind, said):
    def change(config):  # a layer of two inputs
        layer = next(layer for layer in config["layers"] if layer["class_name"] == "Add")
        layer["class_name"] = kind
        layer["inbound_nodes"][0]["kwargs"] = {"value": {"class_name": "__slice__", "config": {}}}

    with pytest.raises(FormatError, match=rf"layer '.*' \({kind}\): .*{said}"):
        ns.Network.load(rewritten(tmp_path, change, "residual"))
    with pytest.raises(FormatError, match=rf"layer '.*' \({kind}\): .*{said}"):
        ns.Network.load(rewritten(tmp_path, renamed(2, kind)))  # of a Sequential model


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("input_layers", r"save one part, keras.Model\(model.inputs\[0\], layer.output\)"),
        ("output_layers", r"save one part, keras.Model\(model.inputs, model.outputs\[0\]\)"),
    ],
)
def test_several_ends_are_to_be_cut(tmp_path, key, said):
    def change(config):
        config[key] = [["a", 0, 0], ["b", 0, 0]]

    with pytest.raises(FormatError, match=f"{key}: expected one, got 2; {said}"):
        ns.Network.load(rewritten(tmp_path, change, "residual"))


def test_a_cycle_is_refused(tmp_path):
    def cycle(config):
        text = json.dumps(config["layers"]).replace('"input_layer_2", 0, 0', '"add", 0, 0')
        text = text.replace('"input_layer", 0, 0', '"add", 0, 0')
        config["layers"] = json.loads(text.replace('"input_layer_1", 0, 0', '"add", 0, 0'))

    with pytest.raises(FormatError, match="expected sources that are made"):
        ns.Network.load(rewritten(tmp_path, cycle, "residual"))


def test_archives_with_odd_members_are_refused(tmp_path):
    nothing = rewritten(tmp_path, lambda config: None, members=("config.json",))
    with pytest.raises(FormatError, match=r"expected one member model\.weights\.h5, got 0"):
        ns.Network.load(nothing)
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = rewritten(tmp_path, lambda config: None, members=("config.json", "config.json"))
    with pytest.raises(FormatError, match=r"expected one member config\.json, got 2"):
        ns.Network.load(twice)
    # Names that lead elsewhere are never followed: nothing is unpacked.
    path = rewritten(tmp_path, lambda config: None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../escaped.txt", "x")
    assert ns.Network.load(path).depth == 5
    assert not list(tmp_path.parent.glob("**/escaped.txt"))


def test_an_archive_that_blows_up_is_refused(tmp_path):
    path = tmp_path / "n.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * 2**27)
        archive.writestr("model.weights.h5", b"")
    assert path.stat().st_size < 2**18
    with pytest.raises(FormatError, match="the archive would blow up"):
        ns.Network.load(path)


def with_weights(tmp_path, change):
    """A copy of a golden .h5 file whose first kernel is replaced."""
    path = tmp_path / "n.h5"
    path.write_bytes((GOLDEN / "dense.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        (name,) = [n for n in file["model_weights/dense"].attrs["weight_names"] if "kernel" in n]
        group, key = file["model_weights/dense"], name
        array = group[key][()]
        del group[key]
        change(group, key, array, tmp_path)
    return path


def external_link(group, key, array, folder):
    with h5py.File(folder / "secret.h5", "w") as other:
        other["data"] = array
    group[key] = h5py.ExternalLink(str(folder / "secret.h5"), "data")


def external_storage(group, key, array, folder):
    (folder / "secret.bin").write_bytes(array.tobytes())
    group.create_dataset(
        key, array.shape, array.dtype, external=[(str(folder / "secret.bin"), 0, array.nbytes)]
    )


def virtual(group, key, array, folder):
    with h5py.File(folder / "secret.h5", "w") as other:
        other["data"] = array
    layout = h5py.VirtualLayout(array.shape, array.dtype)
    layout[:] = h5py.VirtualSource(folder / "secret.h5", "data", shape=array.shape)
    group.create_virtual_dataset(key, layout)


@pytest.mark.parametrize("place", ["layers", "layers/dense", "layers/dense/vars"])
def test_folders_of_weights_that_lie_elsewhere_are_refused(tmp_path, place):
    path = rewritten(tmp_path, lambda config: None)
    with zipfile.ZipFile(path) as archive:
        config, data = (archive.read(name) for name in ("config.json", "model.weights.h5"))
    (tmp_path / "secret.h5").write_bytes(data)
    data = io.BytesIO(data)
    with h5py.File(data, "r+") as file:
        del file[place]
        file[place] = h5py.ExternalLink(str(tmp_path / "secret.h5"), place)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", data.getvalue())
    with pytest.raises(FormatError, match=r"'dense' \(Dense\): .*the file itself, got a External"):
        ns.Network.load(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (external_link, "in the file itself, got a ExternalLink"),
        (external_storage, "in the file itself, got it in another file"),
        (virtual, "in the file itself, got it in another file"),
        (lambda g, k, a, f: g.create_dataset(k, data=a.astype(int)), "expected real numbers"),
        (lambda g, k, a, f: g.create_dataset(k, data=a.T), r"expected shape \(6, 7\), got \(7, 6"),
        (lambda g, k, a, f: g.create_dataset(k, data=a * np.nan), "expected finite numbers"),
        (lambda g, k, a, f: g.create_group(k), "expected a dataset, got a group"),
        (lambda g, k, a, f: None, "expected a dataset, got nothing there"),
    ],
)
def test_weights_that_lie_elsewhere_or_are_none_are_refused(tmp_path, change, said):
    with pytest.raises(FormatError, match=said):
        ns.Network.load(with_weights(tmp_path, change))


def test_a_dataset_of_declared_size_only_is_refused(tmp_path):
    def huge(config):
        config["layers"][0]["config"]["batch_shape"] = [None, 2**20]
        config["layers"] = [config["layers"][0], config["layers"][2]]
        config["layers"][1]["config"]["units"] = 2**20

    path = rewritten(tmp_path, huge)
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        shape = (2**20, 2**20)
        file.create_dataset("layers/dense/vars/0", shape, "f4", chunks=(1024, 1024))
    with zipfile.ZipFile(path) as archive:
        config = archive.read("config.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", data.getvalue())
    with pytest.raises(FormatError, match="expected stored numbers, got a declared size only"):
        ns.Network.load(path)


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize(
    "content", [b"", b"not a network", b"PK\x03\x04" * 9, b"\x89HDF\r\n\x1a\n"]
)
def test_foreign_bytes_are_refused(tmp_path, ending, content):
    path = tmp_path / f"n{ending}"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=f"n{ending}: expected"):
        ns.Network.load(path)


def test_weights_without_a_model_are_refused(tmp_path):
    with h5py.File(tmp_path / "n.h5", "w") as file:
        file["dense/kernel"] = np.ones((2, 2))
    with pytest.raises(FormatError, match="expected a whole Keras model"):
        ns.Network.load(tmp_path / "n.h5")
    with h5py.File(tmp_path / "n.h5", "r+") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Mine", "config": {}})
        file.create_group("model_weights")
    with pytest.raises(FormatError, match="expected a Sequential or Functional model, got Mine"):
        ns.Network.load(tmp_path / "n.h5")


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_truncated_files_are_refused(tmp_path, ending):
    path, whole = tmp_path / f"n{ending}", (GOLDEN / f"pooled{ending}").read_bytes()
    for cut in np.linspace(0, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match=f"n{ending}: "):
            ns.Network.load(path)


def test_damaged_archives_are_refused_or_read_but_never_crash(tmp_path):
    # Not so .h5 files, which have no checksums: the HDF5 library itself may loop on them.
    path, rng, said = tmp_path / "n.keras", np.random.default_rng(0), []
    whole = np.frombuffer((GOLDEN / "pooled.keras").read_bytes(), np.uint8)
    for _ in range(150):
        damaged = whole.copy()
        damaged[rng.integers(len(whole), size=5)] = rng.integers(256, size=5)
        path.write_bytes(damaged.tobytes())
        try:
            ns.Network.load(path)
        except FormatError as error:
            said.append(str(error))
    assert len(said) > 100
    assert not [text for text in said if "\n" in text]


def test_keywords_that_say_nothing_are_refused():
    with pytest.raises(InputError, match="architecture: expected none"):
        ns.Network.load(GOLDEN / "dense.keras", architecture={})


def test_a_model_in_memory_is_to_be_saved():
    model = type("Sequential", (), {"__module__": "keras.src.models.sequential"})()
    with pytest.raises(InputError, match=r'a Keras model in memory; model\.save\("mine\.keras"\)'):
        ns.Network.load(model)
