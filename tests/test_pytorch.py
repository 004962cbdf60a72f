"""Modules of PyTorch in memory, and what is read and refused of its files."""

import os
import pickle
import warnings

import numpy as np
import pytest

import neurosim as ns
from neurosim.errors import FormatError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch imports what others have deprecated
    torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        y = functional.relu(self.norm(self.stem(x)))
        y = functional.relu(y + self.body(y))
        return self.head(functional.adaptive_avg_pool2d(y, 1).flatten(1))


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, stride=2)
        self.norm = nn.BatchNorm2d(7)
        self.wide = nn.Conv2d(7, 5, 3, padding="same", dilation=2)
        self.head = nn.Linear(45, 3)

    def forward(self, x):
        y = torch.cat([functional.max_pool2d(x, 3, 2, 1), self.conv(x)], dim=1)
        y = functional.gelu(self.wide(functional.silu(self.norm(y))))
        y = functional.avg_pool2d(y, 2)
        return torch.softmax(self.head(y.view(y.size(0), -1)), dim=-1)


class ChannelsLast(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(2, 3, 2), nn.Linear(48, 4), nn.Linear(4, 2)

    def forward(self, x):
        y = torch.tanh(self.conv((x - 0.3) / 2)).permute(0, 2, 3, 1)
        y = self.first(y.reshape(x.shape[0], -1))
        return self.second(y * torch.sigmoid(y))


class PreActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.again, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2)

    def forward(self, x):
        y = self.conv(functional.pad(x, (1, 1, 0, 0)))
        y = y + self.again(functional.relu(self.norm(y)))
        return self.head(functional.hardswish(y).mean([2, 3]))


MODULES = {
    "dense": (
        lambda: nn.Sequential(
            nn.Linear(6, 5),
            nn.ReLU(),
            nn.BatchNorm1d(5),
            nn.Linear(5, 4, bias=False),
            nn.Sigmoid(),
            nn.Dropout(),
            nn.Linear(4, 3),
            nn.Softmax(1),
        ),
        None,
    ),
    "images": (
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(12, 5), nn.LeakyReLU(0.25), nn.Linear(5, 2), nn.Softplus()
        ),
        (3, 4),
    ),
    "residual": (Residual, (3, 8, 8)),
    "branches": (Branches, (3, 12, 12)),
    "channels last": (ChannelsLast, (2, 5, 5)),
    "pre-activation": (PreActivation, (3, 6, 5)),
    "pools": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.ReLU6(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(4, 4, 3, padding=1, groups=4),
            nn.BatchNorm2d(4, affine=False),
            nn.Hardswish(),
            nn.AvgPool2d(3, 2, 1, count_include_pad=False),
            nn.AdaptiveAvgPool2d((2, 1)),
            nn.Flatten(),
            nn.Linear(8, 2),
        ),
        (3, 9, 7),
    ),
}


def made(name):
    """A module with random weights and statistics, and the network read from it."""
    build, shape = MODULES[name]
    torch.manual_seed(0)
    module = build().double().eval()
    for key, buffer in module.named_buffers():
        if "mean" in key:
            buffer.copy_(torch.randn_like(buffer))
        elif "var" in key:
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    for parameter in module.parameters():
        if parameter.ndim == 1:
            parameter.data += torch.randn_like(parameter)
    return module, ns.Network.load(module, input_shape=shape)


def outputs(module, inputs):
    with torch.no_grad():
        return module(torch.as_tensor(inputs)).numpy().reshape(len(inputs), -1)


@pytest.mark.parametrize("name", MODULES)
def test_golden_outputs_are_those_of_the_module(name):
    module, network = made(name)
    inputs = np.random.default_rng(0).normal(size=(5, *network.input_shape))
    expected = outputs(module, inputs)
    np.testing.assert_allclose(network(inputs), expected, atol=1e-12 * abs(expected).max())


@pytest.mark.parametrize("name", MODULES)
def test_what_torch_exports_is_the_same_network(name, tmp_path):
    module, network = made(name)
    inputs = np.random.default_rng(0).normal(size=(5, *network.input_shape)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.float(),
            (torch.as_tensor(inputs),),
            tmp_path / "n.onnx",
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )
    exported = ns.Network.load(tmp_path / "n.onnx")
    assert str(exported) == str(network)
    scale = abs(network(inputs)).max()
    np.testing.assert_allclose(exported(inputs), network(inputs), atol=1e-5 * scale)


def test_neurons_are_counted_after_their_own_activation():
    _, network = made("pre-activation")
    # The first convolution feeds a sum too, so its neurons are those before the normalisation.
    assert [str(layer.activation) for layer in network.layers] == ["identity"] * 3
    _, network = made("pools")
    assert [str(layer.activation) for layer in network.layers] == [
        "relu6",
        "hard_swish",
        "identity",
    ]


def without_gradients(y):
    with torch.no_grad():
        return 2 * y


class Shaped(nn.Module):
    """A linear layer, then something."""

    def __init__(self, then):
        super().__init__()
        self.first, self.then = nn.Linear(4, 6), then

    def forward(self, x):
        return self.then(self.first(x))


@pytest.mark.parametrize(
    ("then", "said"),
    [
        (nn.Softshrink(), r"node softshrink of 'then' \(aten\.softshrink\.default\): expected an"),
        (nn.Softplus(beta=-1), "expected softplus with a beta above 0"),
        (nn.Softplus(threshold=1), "expected softplus with a threshold of 20 or more"),
        (nn.Hardtanh(1, 2), "expected a clamp between"),
        (lambda y: y * y, "got one of two computed values"),
        (lambda y: y.reshape(-1, 3), "keeps the 6 values of an input together"),
        (lambda y: y.t(), "expected one of linear"),
        (lambda y: y.transpose(0, 1), "keeps that of the inputs first"),
        (lambda y: torch.softmax(y, 0), "expected a softmax over the units"),
        (lambda y: torch.softmax(y, 1) + 1, "expected Softmax as the last step"),
        (nn.LogSoftmax(1), r"log_softmax.* leave this step out"),
        (lambda y: (y, y), "expected a module of one output, got 2; wrap it in one"),
        (lambda y: torch.zeros(7, 2), "expected an output that depends on the input"),
        (lambda y: y.sum(), "inputs are not mixed with one another"),
        (lambda y: y if y.sum() > 0 else -y, "expected a module that torch.export can trace"),
        (lambda y: y.type_as(torch.zeros(1, dtype=torch.int64)), "expected a cast to real numbers"),
        (lambda y: y.expand(7, 7, 6), "got one that enlarges it"),
        (without_gradients, "leave torch.no_grad"),
        (nn.LSTM(6, 2), "expected"),
    ],
)
def test_what_is_no_network_is_named(then, said):
    with pytest.raises(FormatError, match=said) as raised:
        ns.Network.load(Shaped(then).eval())
    assert str(raised.value).startswith("Shaped: ")
    assert "\n" not in str(raised.value)


class Called(nn.Module):
    """A convolution or linear layer that a function calls."""

    def __init__(self, layer, function):
        super().__init__()
        self.layer, self.function = layer, function

    def forward(self, x):
        return self.function(x, self.layer)


ZEROS_BESIDE = (2, 1, 0, 0)


@pytest.mark.parametrize(
    ("function", "layer", "shape"),
    [
        (
            lambda x, layer: layer(functional.pad(x, ZEROS_BESIDE).transpose(2, 3)).flatten(1),
            nn.Conv2d(2, 3, 3),
            (2, 5, 6),
        ),
        (
            lambda x, layer: functional.adaptive_avg_pool2d(
                functional.pad(layer(x), (1, 1, 1, 1)), 2
            ).flatten(1),
            nn.Conv2d(2, 3, 1),
            (2, 4, 4),
        ),
        (lambda x, layer: layer(x.narrow(1, -2, 2)), nn.Linear(2, 3), (5,)),
        (lambda x, layer: layer(x.narrow(1, -3, 2)), nn.Linear(2, 3), (5,)),
    ],
)
def test_zeros_and_places_are_counted_on_their_axes(function, layer, shape):
    module = Called(layer.double(), function).eval()
    inputs = np.random.default_rng(0).normal(size=(5, *shape))
    network = ns.Network.load(module, input_shape=shape)
    np.testing.assert_allclose(network(inputs), outputs(module, inputs), atol=1e-12)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, layer: layer(x) / x.shape[0],
        lambda x, layer: layer(x) * (1 / x.shape[0]),
        lambda x, layer: layer(x) + x.shape[0],
    ],
)
def test_the_number_of_inputs_is_no_constant(function):
    module = Called(nn.Linear(5, 3), function).eval()
    many = ({0: torch.export.Dim("n", min=2, max=100)},)
    program = torch.export.export(module, (torch.zeros(3, 5),), dynamic_shapes=many)
    with pytest.raises(FormatError, match="do not depend on how many inputs there are"):
        ns.Network.load(program)


def exported_for_one(function, layer, shape):
    module = Called(layer, function).eval()
    return module, torch.export.export(module, (torch.zeros(1, *shape),))


def test_a_graph_of_a_single_input_may_lose_the_axis_of_inputs():
    layer = nn.Linear(4, 4)
    module, program = exported_for_one(lambda x, layer: layer(x.squeeze()), layer, (4, 1, 1))
    x = np.random.default_rng(0).normal(size=(1, 4, 1, 1)).astype(np.float32)
    np.testing.assert_allclose(ns.Network.load(program)(x), outputs(module, x), rtol=1e-5)
    for function in (
        lambda x, layer: layer(x.squeeze().mean(1)),
        lambda x, layer: layer(x.squeeze(0).mean(1)),
    ):
        _, program = exported_for_one(function, layer, (4, 4))
        with pytest.raises(FormatError, match="expected axes left behind that of the inputs"):
            ns.Network.load(program)
    _, program = exported_for_one(lambda x, layer: layer(x).expand(3, -1), layer, (4,))
    with pytest.raises(FormatError, match="expand"):
        ns.Network.load(program)


def test_modules_that_are_not_ready_are_refused():
    with pytest.raises(FormatError, match=r"call module\.eval\(\)"):
        ns.Network.load(nn.Linear(2, 2))
    with pytest.raises(FormatError, match="expected input_shape, the shape of one input"):
        ns.Network.load(nn.Conv2d(1, 1, 1).eval())
    with pytest.raises(FormatError, match="can trace with an input of shape"):
        ns.Network.load(nn.Linear(2, 2).eval(), input_shape=(3,))
    with torch.no_grad():
        broken = nn.Linear(2, 2).eval()
        broken.weight[0, 1] = torch.nan
    with pytest.raises(FormatError, match="weight: expected finite numbers"):
        ns.Network.load(broken)


ARCHITECTURE = {
    "input_shape": [6],
    "layer": [
        {"kind": "dense", "name": "0", "activation": "relu"},
        {"kind": "batch_norm", "name": "2"},
        {"kind": "dense", "name": "3", "activation": "sigmoid"},
        {"kind": "dense", "name": "6"},
        {"kind": "softmax"},
    ],
}


@pytest.mark.parametrize("ending", [".pt", ".pth"])
@pytest.mark.parametrize("inside", [None, "state_dict", "model_state_dict"])
def test_a_state_dict_is_read_with_its_architecture(tmp_path, ending, inside):
    module, network = made("dense")
    weights = module.state_dict()
    torch.save({inside: weights, "epoch": 3} if inside else weights, tmp_path / f"n{ending}")
    read = ns.Network.load(tmp_path / f"n{ending}", architecture=ARCHITECTURE)
    inputs = np.random.default_rng(0).normal(size=(5, 6))
    np.testing.assert_array_equal(read(inputs), network(inputs))


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "content",
    [
        Hostile(),
        {"weight": Hostile()},
        nn.Linear(2, 2),
        [1, 2],
        {},
        {"weight": "text"},
        {3: torch.zeros(1)},
        {"weight": torch.zeros(2, dtype=torch.complex64)},
        {"weight": torch.eye(2).to_sparse()},
    ],
    # repr of an object has its address, which differs between processes that share the tests.
    ids=[
        "object",
        "object within",
        "module",
        "list",
        "nothing",
        "text",
        "key",
        "complex",
        "sparse",
    ],
)
def test_files_that_hold_more_than_weights_are_refused(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "n.pt")
    with pytest.raises(FormatError, match=r"n\.pt: .*expected"):
        ns.Network.load("n.pt", architecture=ARCHITECTURE)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("ending", [".pt", ".pth"])
def test_pickles_and_foreign_bytes_are_refused(tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    for content in (pickle.dumps(Hostile()), b"", b"not a network", b"PK\x03\x04" * 9):
        (tmp_path / f"n{ending}").write_bytes(content)
        with pytest.raises(FormatError, match="expected a state_dict"):
            ns.Network.load(tmp_path / f"n{ending}", architecture=ARCHITECTURE)
    assert not (tmp_path / "executed").exists()


class OfTheNumber(nn.Module):
    """Outputs that depend on how many inputs there are, of which the graph shows one number."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x) / x.shape[0]


def test_a_module_that_does_what_its_graph_does_not_show_is_refused():
    with pytest.raises(FormatError, match=r"OfTheNumber: .* off, .* the number of inputs"):
        ns.Network.load(OfTheNumber().eval())
    program = torch.export.export(OfTheNumber().eval(), (torch.zeros(5, 4),))
    assert ns.Network.load(program).widths == (4, 3)  # it takes five inputs, no other number


def test_a_module_whose_own_outputs_overflow_says_nothing_of_what_was_read():
    module = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 1)).eval()
    with torch.no_grad():
        module[0].weight.fill_(3e38)
        module[1].weight[:] = torch.tensor([[1.0, -1.0]])
        assert torch.isnan(module(torch.full((1, 4), 2.0))).all()
    assert ns.Network.load(module).widths == (4, 2, 1)
