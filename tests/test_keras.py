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

GOLDEN = Path(__file__).parent / "golden" / "keras"
NAMES = ("dense", "convolutional", "residual", "channels_first", "pooled")


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
    rng = np.random.default_rng(0)
    kernel, bias, v = rng.normal(size=(4, 3)), rng.normal(size=3), rng.normal(size=(3, 3))

    def entry(kind, name, sources, **config):
        inbound = [[[source, 0, 0, {}] for source in sources]] if sources else []
        return {
            "class_name": kind,
            "name": name,
            "config": {"name": name, **config},
            "inbound_nodes": inbound,
        }

    layers = [
        entry("InputLayer", "in", [], batch_input_shape=[None, 4]),
        entry("Dense", "first", ["in"], units=3, activation="relu", use_bias=True),
        entry("Dense", "second", ["first"], units=3, activation="linear", use_bias=False),
        entry("Add", "sum", ["first", "second"]),
        entry("LeakyReLU", "leaky", ["sum"], alpha=0.25),
    ]
    config = {"layers": layers, "input_layers": [["in", 0, 0]], "output_layers": [["leaky", 0, 0]]}
    with h5py.File(tmp_path / "n.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Model", "config": config})
        for name, arrays in (
            ("first", {"kernel": kernel, "bias": bias}),
            ("second", {"kernel": v}),
        ):
            group = file.create_group(f"model_weights/{name}")
            names = [f"{name}/{key}:0" for key in arrays]
            group.attrs["weight_names"] = [n.encode() for n in names]
            for written, array in zip(names, arrays.values(), strict=True):
                group[written] = array
    x = rng.normal(size=(5, 4))
    hidden = np.maximum(x @ kernel + bias, 0)
    total = hidden + hidden @ v
    expected = np.where(total > 0, total, 0.25 * total)
    np.testing.assert_allclose(ns.Network.load(tmp_path / "n.h5")(x), expected)


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
        (renamed(2, "Lambda"), r"layer 'dense' \(Lambda\): expected one of Dense, Conv2D"),
        (renamed(2, "LSTM"), r"layer 'dense' \(LSTM\): expected one of Dense, Conv2D"),
        (setting(2, activation="elu"), r"layer 'dense' \(Dense\): expected one of the activations"),
        (setting(2, activation={"class_name": "Mine", "config": {}}), "expected one of the activ"),
        (setting(2, units=8), r"vars/0: expected shape \(6, 8\), got \(6, 7\)"),
        (setting(2, units=10**15), r"vars/0: expected shape"),
        (setting(2, units=None), r"layer 'dense' \(Dense\): expected a configuration as Keras"),
        (setting(4, use_bias=True), r"dense_1/vars/1: expected a dataset, got nothing"),
        (setting(2, use_bias=False), "expected 1 arrays, got 2"),
        (setting(2, name="other"), "expected the weights of layer 'other', got those of 'dense'"),
        (setting(0, batch_shape=[None, None]), "expected one axis of units"),
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
        (setting(3, max_value=4), "expected max_value 6"),
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


def test_a_layer_used_twice_is_refused(tmp_path):
    def twice(config):
        config["layers"][1]["inbound_nodes"] *= 2

    with pytest.raises(FormatError, match="expected one use of each layer, got 2"):
        ns.Network.load(rewritten(tmp_path, twice, "residual"))


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


def test_a_random_crop_is_no_layer_to_leave_out(tmp_path):
    with pytest.raises(FormatError, match=r"\(RandomCrop\): expected one of Dense"):
        ns.Network.load(rewritten(tmp_path, renamed(2, "RandomCrop")))


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
