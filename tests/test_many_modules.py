"""Networks of many kinds, from torch and as it exports them: read right or refused by name."""

import warnings
from zlib import crc32

import numpy as np
import pytest

import neurosim as ns
from neurosim.errors import FormatError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch imports what others have deprecated
    torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional

pytestmark = pytest.mark.filterwarnings("ignore")

MAP = (3, 8, 8)


class Forward(nn.Module):
    """Named parts, and what is done with them."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.steps = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x):
        return self.steps(self, x)


def dense(*between):
    """Steps between two linear layers."""
    return nn.Sequential(nn.Linear(6, 5), *between, nn.Linear(5, 2))


def maps(*behind, channels=4):
    """A convolution, 4 x 6 x 6, and steps behind it."""
    return nn.Sequential(nn.Conv2d(3, channels, 3), *behind)


def head(n):
    return nn.Sequential(nn.Flatten(), nn.Linear(n, 2))


def parameter(*shape):
    return nn.Parameter(torch.randn(*shape))


def shared(m):
    """A module whose second layer has the weights of the first."""
    m[2].weight = m[0].weight
    return m


class ShuffleUnit(nn.Module):
    """ShuffleNet v2: half of the channels go round, the others through."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x):
        still, moved = x.chunk(2, dim=1)
        y = torch.cat((still, self.branch(moved)), dim=1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class C2f(nn.Module):
    """YOLO v8: the parts of a split, and what bottlenecks make of the last one, side by side."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(8, 4, 1)
        self.bodies = nn.ModuleList(nn.Conv2d(2, 2, 3, padding=1) for _ in range(2))

    def forward(self, x):
        parts = list(self.first(x).chunk(2, 1))
        for body in self.bodies:
            parts.append(parts[-1] + functional.silu(body(parts[-1])))
        return functional.silu(self.last(torch.cat(parts, 1)))


class Inception(nn.Module):
    """Branches of different depth."""

    def __init__(self):
        super().__init__()
        self.one, self.five = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 5, padding=2)
        self.wide = nn.Sequential(nn.Conv2d(3, 2, (1, 3), padding=(0, 1)), nn.ReLU(),
                                  nn.Conv2d(2, 2, (3, 1), padding=(1, 0)))  # fmt: skip

    def forward(self, x):
        one = functional.relu(self.one(x))
        pooled = functional.avg_pool2d(x, 3, 1, 1)
        return torch.cat([one, functional.relu(self.five(one)), self.wide(x), pooled], 1)


class DenseBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(n) for n in (3, 5, 7))
        self.convs = nn.ModuleList(nn.Conv2d(n, 2, 3, padding=1) for n in (3, 5, 7))

    def forward(self, x):
        parts = [x]
        for norm, conv in zip(self.norms, self.convs, strict=True):
            parts.append(conv(functional.relu(norm(torch.cat(parts, 1)))))
        return torch.cat(parts, 1)


def bottleneck():
    """Torchvision's block: 1 x 1, 3 x 3, 1 x 1 and a shortcut."""
    return Forward(
        lambda s, x: functional.relu(s.body(x) + s.short(x)),
        body=nn.Sequential(
            nn.Conv2d(3, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU(inplace=True),
            nn.Conv2d(2, 2, 3, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU(inplace=True),
            nn.Conv2d(2, 8, 1, bias=False), nn.BatchNorm2d(8),
        ),
        short=nn.Sequential(nn.Conv2d(3, 8, 1, 2, bias=False), nn.BatchNorm2d(8)),
    )  # fmt: skip


def inverted_residual():
    """MobileNet v2's block."""
    return Forward(
        lambda s, x: x + s.body(x),
        body=nn.Sequential(
            nn.Conv2d(3, 9, 1), nn.BatchNorm2d(9), nn.ReLU6(),
            nn.Conv2d(9, 9, 3, padding=1, groups=9), nn.BatchNorm2d(9), nn.ReLU6(),
            nn.Conv2d(9, 3, 1), nn.BatchNorm2d(3),
        ),
    )  # fmt: skip


def in_place(s, x):
    y = s.a(x)
    y += x
    return s.b(functional.relu_(y))


LINE = (3, 12)
torch.manual_seed(2)  # of the weights that modules begin with

READ = {
    # dense
    "sequential of sequentials": (
        nn.Sequential(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), nn.Sequential(nn.Linear(5, 2))),
        (6,),
    ),
    "skip": (
        Forward(lambda s, x: s.b(torch.tanh(s.a(x)) + x), a=nn.Linear(6, 6), b=nn.Linear(6, 2)),
        (6,),
    ),
    "in place": (Forward(in_place, a=nn.Linear(6, 6), b=nn.Linear(6, 2)), (6,)),
    "tied": (shared(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6))), (6,)),
    "dense net": (
        Forward(
            lambda s, x: s.b(torch.cat([x, torch.relu(s.a(x))], 1)),
            a=nn.Linear(6, 2),
            b=nn.Linear(8, 2),
        ),
        (6,),
    ),
    "difference": (
        Forward(
            lambda s, x: s.c(s.a(x) - torch.relu(s.b(x))),
            a=nn.Linear(6, 5),
            b=nn.Linear(6, 5),
            c=nn.Linear(5, 2),
        ),
        (6,),
    ),
    "alpha": (
        Forward(
            lambda s, x: s.b(torch.add(s.a(x), x, alpha=2) - torch.sub(s.a(x), x, alpha=0.5)),
            a=nn.Linear(6, 6),
            b=nn.Linear(6, 2),
        ),
        (6,),
    ),
    "one minus": (
        Forward(lambda s, x: s.b(1 - torch.sigmoid(s.a(x))), a=nn.Linear(6, 5), b=nn.Linear(5, 2)),
        (6,),
    ),
    "negated": (
        Forward(lambda s, x: s.b(-torch.relu(s.a(x))), a=nn.Linear(6, 5), b=nn.Linear(5, 2)),
        (6,),
    ),
    "maximum": (
        Forward(
            lambda s, x: s.b(torch.maximum(s.a(x), torch.zeros(()))),
            a=nn.Linear(6, 5),
            b=nn.Linear(5, 2),
        ),
        (6,),
    ),
    "clamp from 0": (
        Forward(lambda s, x: s.b(s.a(x).clamp(min=0)), a=nn.Linear(6, 5), b=nn.Linear(5, 2)),
        (6,),
    ),
    "clamp to 1": (
        Forward(lambda s, x: s.b(s.a(x).clamp(0, 1)), a=nn.Linear(6, 5), b=nn.Linear(5, 2)),
        (6,),
    ),
    "threshold": (dense(nn.Threshold(0, 0)), (6,)),
    "hard sigmoid": (dense(nn.Hardsigmoid()), (6,)),
    "softplus, beta": (dense(nn.Softplus(2)), (6,)),
    "log sigmoid": (dense(nn.LogSigmoid()), (6,)),
    "rrelu": (dense(nn.RReLU()), (6,)),
    "prelu": (dense(nn.PReLU()), (6,)),
    "softmin": (nn.Sequential(nn.Linear(6, 4), nn.Softmin(1)), (6,)),
    "dropouts": (dense(nn.Dropout(), nn.AlphaDropout(), nn.FeatureAlphaDropout()), (6,)),
    "weight norm": (
        dense(nn.ReLU(), nn.utils.parametrizations.weight_norm(nn.Linear(5, 5)), nn.Tanh()),
        (6,),
    ),
    "spectral norm": (
        dense(nn.ReLU(), nn.utils.parametrizations.spectral_norm(nn.Linear(5, 5)), nn.Tanh()),
        (6,),
    ),
    "products by hand": (
        Forward(
            lambda s, x: torch.relu(x @ s.w.T + s.b) @ s.v.t(),
            w=parameter(5, 6),
            b=parameter(5),
            v=parameter(2, 5),
        ),
        (6,),
    ),
    "addmm": (
        Forward(
            lambda s, x: torch.addmm(s.b, x, s.w, beta=0.5, alpha=2),
            w=parameter(6, 5),
            b=parameter(5),
        ),
        (6,),
    ),
    "casts": (
        Forward(
            lambda s, x: s.b(torch.relu(s.a(x.float())).to("cpu").to(torch.float32)).type_as(x),
            a=nn.Linear(6, 5),
            b=nn.Linear(5, 2),
        ),
        (6,),
    ),
    "double and back": (Forward(lambda s, x: s.a(x.double().float()), a=nn.Linear(6, 2)), (6,)),
    "sum of units": (Forward(lambda s, x: s.a(x).sum(1), a=nn.Linear(6, 3)), (6,)),
    # one value an input, without an axis of its own
    "one unit, squashed": (
        Forward(lambda s, x: torch.sigmoid(s.a(x)[:, 1]), a=nn.Linear(6, 3)),
        (6,),
    ),
    "one unit, scaled back": (
        Forward(lambda s, x: torch.relu(s.a(x)).squeeze(-1) * 3 - 1, a=nn.Linear(6, 1)),
        (6,),
    ),
    "value and residual": (
        Forward(
            lambda s, x: torch.tanh(s.a(x)).squeeze(1) + s.b(x).squeeze(1),
            a=nn.Linear(6, 1),
            b=nn.Linear(6, 1),
        ),
        (6,),
    ),
    "sums side by side": (
        Forward(
            lambda s, x: s.b(torch.stack([s.a(x).sum(1), torch.relu(s.a(x)[:, 0])], 1)),
            a=nn.Linear(6, 3),
            b=nn.Linear(2, 2),
        ),
        (6,),
    ),
    "centred": (Forward(lambda s, x: s.a(x).mean(1, keepdim=True), a=nn.Linear(6, 3)), (6,)),
    "stack": (
        Forward(
            lambda s, x: torch.stack([s.a(x), s.b(x)], -1).flatten(1),
            a=nn.Linear(6, 2),
            b=nn.Linear(6, 2),
        ),
        (6,),
    ),
    "tokens": (
        nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3), nn.Flatten(), nn.Linear(15, 2)),
        (5, 6),
    ),
    "tokens mixed": (
        Forward(
            lambda s, x: s.c(torch.tanh(s.b(torch.relu(s.a(x)).transpose(1, 2))).mean(2)),
            a=nn.Linear(6, 4),
            b=nn.Linear(5, 3),
            c=nn.Linear(4, 2),
        ),
        (5, 6),
    ),
    # parts
    "slice of the input": (Forward(lambda s, x: s.a(x[:, 1:4]), a=nn.Linear(3, 2)), (6,)),
    "every other": (
        Forward(
            lambda s, x: s.b(torch.relu(s.a(x))[:, 1::2]), a=nn.Linear(6, 5), b=nn.Linear(2, 2)
        ),
        (6,),
    ),
    "chunks": (
        Forward(
            lambda s, x: (lambda p, q: s.b(p) - torch.relu(q))(*s.a(x).chunk(2, 1)),
            a=nn.Linear(6, 6),
            b=nn.Linear(3, 3),
        ),
        (6,),
    ),
    "split sizes": (
        Forward(
            lambda s, x: (lambda p, q, r: torch.cat([r, s.b(p) + q], 1))(
                *torch.relu(s.a(x)).split([2, 2, 1], 1)
            ),
            a=nn.Linear(6, 5),
            b=nn.Linear(2, 2),
        ),
        (6,),
    ),
    "unbind": (
        Forward(lambda s, x: sum(s.a(part) for part in x.unbind(1)[:1]), a=nn.Linear(6, 2)),
        (2, 6),
    ),
    "select": (
        Forward(
            lambda s, x: s.l(s.c(x)[:, :, 2].flatten(1)), c=nn.Conv2d(3, 4, 3), l=nn.Linear(24, 2)
        ),
        MAP,
    ),
    "crop": (
        Forward(
            lambda s, x: s.d(s.c(x)[:, 1:, 1:-1, 2:]).flatten(1),
            c=nn.Conv2d(3, 4, 3),
            d=nn.Conv2d(3, 2, 3),
        ),
        MAP,
    ),
    "narrow": (
        Forward(
            lambda s, x: s.d(torch.narrow(s.c(x), 1, 1, 2)),
            c=nn.Conv2d(3, 4, 3),
            d=nn.Conv2d(2, 2, 3),
        ),
        MAP,
    ),
    "focus": (
        Forward(
            lambda s, x: s.c(
                torch.cat(
                    [x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1
                )
            ),
            c=nn.Conv2d(12, 2, 3),
        ),
        MAP,
    ),
    "channels last, slice": (
        Forward(
            lambda s, x: s.l(torch.relu(s.c(x)).permute(0, 2, 3, 1)[..., 1:3].flatten(1)),
            c=nn.Conv2d(3, 4, 3),
            l=nn.Linear(72, 2),
        ),
        MAP,
    ),
    "shuffle unit": (
        nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.ReLU(),
            ShuffleUnit(),
            ShuffleUnit(),
            nn.AdaptiveAvgPool2d(1),
            head(8),
        ),
        MAP,
    ),
    "c2f": (nn.Sequential(C2f(), nn.Conv2d(4, 2, 3)), MAP),
    # maps
    "inception": (nn.Sequential(Inception(), nn.MaxPool2d(2), head(144)), MAP),
    "dense block": (nn.Sequential(DenseBlock(), nn.AvgPool2d(2), head(144)), MAP),
    "bottleneck": (nn.Sequential(bottleneck(), nn.AdaptiveAvgPool2d((1, 1)), head(8)), MAP),
    "inverted residual": (nn.Sequential(inverted_residual(), inverted_residual(), head(192)), MAP),
    "dilated, strided": (maps(nn.ReLU(), nn.Conv2d(4, 2, 3, 2, 2, 2), head(18)), MAP),
    "separable": (maps(nn.Conv2d(4, 8, 3, groups=4), nn.SiLU(), nn.Conv2d(8, 2, 1), head(32)), MAP),
    "conv mobile": (
        maps(
            nn.Hardswish(),
            nn.Conv2d(4, 4, 5, padding=2, groups=4),
            nn.BatchNorm2d(4),
            nn.Hardsigmoid(),
            head(144),
        ),
        MAP,
    ),
    "mean image": (
        Forward(
            lambda s, x: s.c(x - s.mean).flatten(1), c=nn.Conv2d(3, 4, 3), mean=parameter(3, 8, 8)
        ),
        MAP,
    ),
    "mean image, padded": (
        Forward(
            lambda s, x: s.c((x - s.mean) / 2).flatten(1),
            c=nn.Conv2d(3, 4, 3, padding=1),
            mean=parameter(3, 8, 8),
        ),
        MAP,
    ),
    "positions": (
        Forward(
            lambda s, x: s.d(torch.relu(s.c(x) + s.p) * s.q).flatten(1),
            c=nn.Conv2d(3, 4, 3),
            d=nn.Conv2d(4, 2, 3),
            p=parameter(1, 4, 6, 6),
            q=parameter(1, 4, 6, 6),
        ),
        MAP,
    ),
    "channel scaler": (
        Forward(
            lambda s, x: s.c((x - s.m) / 0.5).flatten(1),
            c=nn.Conv2d(3, 4, 3, padding=1),
            m=parameter(3, 1, 1),
        ),
        MAP,
    ),
    "instance norm, trained": (
        maps(nn.InstanceNorm2d(4, affine=True, track_running_stats=True), nn.ReLU(), head(144)),
        MAP,
    ),
    "adaptive max": (maps(nn.AdaptiveMaxPool2d(1), head(4)), MAP),
    "adaptive max, parts": (maps(nn.AdaptiveMaxPool2d((3, 2)), head(24)), MAP),
    "adaptive, whole height": (maps(nn.AdaptiveAvgPool2d((None, 1)), head(24)), MAP),
    "max with places": (
        Forward(
            lambda s, x: s.l(s.p(s.c(x))[0].flatten(1)),
            c=nn.Conv2d(3, 4, 3),
            p=nn.MaxPool2d(2, return_indices=True),
            l=nn.Linear(36, 2),
        ),
        MAP,
    ),
    "both pools": (
        Forward(
            lambda s, x: s.l(torch.cat([(y := s.c(x)).mean((2, 3)), y.amax((2, 3))], 1)),
            c=nn.Conv2d(3, 4, 3),
            l=nn.Linear(8, 2),
        ),
        MAP,
    ),
    "largest of an axis": (
        Forward(
            lambda s, x: s.l(s.c(x).max(-1)[0].max(-1).values),
            c=nn.Conv2d(3, 4, 3),
            l=nn.Linear(4, 2),
        ),
        MAP,
    ),
    "means one by one": (
        Forward(
            lambda s, x: s.l(s.c(x).mean(-1).mean(-1)), c=nn.Conv2d(3, 4, 3), l=nn.Linear(4, 2)
        ),
        MAP,
    ),
    "mean of a row": (
        Forward(
            lambda s, x: s.l(s.c(x).flatten(2).mean(2)), c=nn.Conv2d(3, 4, 3), l=nn.Linear(4, 2)
        ),
        MAP,
    ),
    "mean over channels": (
        Forward(
            lambda s, x: s.l(s.c(x).mean(1).flatten(1)), c=nn.Conv2d(3, 4, 3), l=nn.Linear(36, 2)
        ),
        MAP,
    ),
    "sum over the map": (
        Forward(lambda s, x: s.l(s.c(x).sum((2, 3))), c=nn.Conv2d(3, 4, 3), l=nn.Linear(4, 2)),
        MAP,
    ),
    "channels last, linear": (
        Forward(
            lambda s, x: (
                s.b(torch.relu(s.a(s.c(x).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2).flatten(1)
            ),
            c=nn.Conv2d(3, 4, 3),
            a=nn.Linear(4, 8),
            b=nn.Linear(8, 2),
        ),
        MAP,
    ),
    "linear over width": (maps(nn.Linear(6, 2), nn.ReLU(), head(48)), MAP),
    "pixel shuffle": (maps(nn.PixelShuffle(2), nn.Conv2d(1, 2, 3, 2), head(50)), MAP),
    "pixel unshuffle": (maps(nn.PixelUnshuffle(2), nn.Conv2d(16, 2, 3), head(2)), MAP),
    "channel shuffle": (maps(nn.ChannelShuffle(2), nn.Conv2d(4, 2, 3, groups=2), head(32)), MAP),
    "unflatten": (
        nn.Sequential(
            nn.Linear(6, 12),
            nn.ReLU(),
            nn.Unflatten(1, (3, 2, 2)),
            nn.Conv2d(3, 2, 2),
            nn.Flatten(),
        ),
        (6,),
    ),
    "zeros around": (nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(3, 2, 3), head(126)), MAP),
    "same padding": (nn.Sequential(nn.Conv2d(3, 2, 4, padding="same"), nn.GELU(), head(128)), MAP),
    # lines
    "line": (
        nn.Sequential(
            nn.Conv1d(3, 4, 3, 2, 1),
            nn.BatchNorm1d(4),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(4, 4, 3, padding="same", dilation=2, groups=2),
            nn.AvgPool1d(3),
            nn.Flatten(),
            nn.Linear(4, 2),
        ),
        LINE,
    ),
    "line, global": (
        nn.Sequential(
            nn.Conv1d(3, 4, 5),
            nn.Hardswish(),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(4, 2),
        ),
        LINE,
    ),
    "line, largest": (
        nn.Sequential(nn.Conv1d(3, 4, 5), nn.AdaptiveMaxPool1d(2), nn.Flatten(), nn.Linear(8, 2)),
        LINE,
    ),
    "line, residual": (
        Forward(
            lambda s, x: s.l(torch.relu(s.c(x) + x).mean(-1)),
            c=nn.Conv1d(3, 3, 3, padding=1),
            l=nn.Linear(3, 2),
        ),
        LINE,
    ),
    "line, causal": (
        Forward(
            lambda s, x: s.l(s.c(functional.pad(x, (4, 0))).flatten(1)),
            c=nn.Conv1d(3, 2, 3, dilation=2),
            l=nn.Linear(24, 2),
        ),
        LINE,
    ),
    "elu": (dense(nn.ELU(0.7)), (6,)),
    "selu": (dense(nn.SELU()), (6,)),
    "celu": (dense(nn.CELU(2.5)), (6,)),
    "mish": (dense(nn.Mish()), (6,)),
    "mish by hand": (
        Forward(
            lambda s, x: s.b((y := s.a(x)) * torch.tanh(functional.softplus(y))),
            a=nn.Linear(6, 5),
            b=nn.Linear(5, 3),
        ),
        (6,),
    ),
    "gelu, tanh": (dense(nn.GELU("tanh")), (6,)),
    "hard tanh": (dense(nn.Hardtanh()), (6,)),
    "hard tanh, uneven": (dense(nn.Hardtanh(-0.3, 0.5)), (6,)),
}

# What the older exporter has no operator for, or writes in other steps than those that are read.
NOT_EXPORTED = {
    "adaptive, whole height",
    "channel shuffle",
    "instance norm, trained",
    "log sigmoid",
    "spectral norm",
}
OPSETS = range(11, 21)


def random(module):
    """The module with random weights and statistics, in single precision."""
    torch.manual_seed(1)
    for key, buffer in module.named_buffers():
        if "mean" in key:
            buffer.copy_(torch.randn_like(buffer))
        elif "var" in key:
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    for value in module.parameters():
        if value.ndim == 1:
            value.data += 0.5 * torch.randn_like(value)
    return module.eval()


def case(name):
    """A module, inputs, and its outputs in single precision."""
    module, shape = READ[name]
    random(module)
    inputs = np.random.default_rng(crc32(name.encode())).normal(size=(4, *shape))
    with torch.no_grad():
        expected = module(torch.as_tensor(inputs, dtype=torch.float32)).numpy()
    return module, shape, inputs, expected.reshape(len(inputs), -1)


def assert_close(network, inputs, expected):
    made = network(inputs)
    assert made.shape == expected.shape
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-5 * max(1, abs(expected).max()))


@pytest.mark.parametrize("name", READ)
def test_modules_of_many_kinds_are_read(name):
    module, shape, inputs, expected = case(name)
    assert np.ptp(expected, axis=0).min() > 1e-3  # the outputs do depend on the inputs
    assert_close(ns.Network.load(module, input_shape=shape), inputs, expected)


@pytest.mark.parametrize("name", sorted(set(READ) - NOT_EXPORTED))
def test_what_torch_exports_of_them_is_read(name, tmp_path):
    module, _, inputs, expected = case(name)
    opset = OPSETS[crc32(name.encode()) % len(OPSETS)]
    torch.onnx.export(
        module,
        (torch.as_tensor(inputs, dtype=torch.float32),),
        tmp_path / "n.onnx",
        dynamo=False,
        opset_version=opset,
        input_names=["x"],
        dynamic_axes={"x": {0: "n"}},
    )
    assert_close(ns.Network.load(tmp_path / "n.onnx"), inputs, expected)


def gate(s, x):
    y = s.a(x)
    return y * torch.sigmoid(s.b(y.mean((2, 3), keepdim=True)))


REFUSED = {
    "lstm": (
        Forward(lambda s, x: s.a(x)[0][:, -1], a=nn.LSTM(6, 5, batch_first=True)),
        (4, 6),
        "lstm of 'a'.*got a recurrent layer",
    ),
    "gru": (
        Forward(lambda s, x: s.a(x)[0][:, -1], a=nn.GRU(6, 5, batch_first=True)),
        (4, 6),
        "gru of 'a'.*got a recurrent layer",
    ),
    "rnn": (
        Forward(lambda s, x: s.a(x)[0][:, -1], a=nn.RNN(6, 5, batch_first=True)),
        (4, 6),
        "rnn_tanh of 'a'.*got a recurrent layer",
    ),
    "attention": (
        Forward(lambda s, x: s.a(x, x, x)[0], a=nn.MultiheadAttention(6, 2, batch_first=True)),
        (4, 6),
        "of 'a'.*expected",
    ),
    "attention by hand": (
        Forward(lambda s, x: s.a(x) @ s.a(x).transpose(1, 2), a=nn.Linear(6, 5)),
        (4, 6),
        "node matmul.*constant weights",
    ),
    "scaled products": (
        Forward(
            lambda s, x: functional.scaled_dot_product_attention(s.a(x), x, x), a=nn.Linear(6, 6)
        ),
        (4, 6),
        "got one of two computed values",
    ),
    "transformer": (nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), (4, 6), "expected"),
    "layer norm": (dense(nn.LayerNorm(5)), (6,), "layer_norm of '1'.*trained statistics"),
    "group norm": (maps(nn.GroupNorm(2, 4), head(144)), MAP, "group_norm of '1'.*trained"),
    "instance norm": (maps(nn.InstanceNorm2d(4), head(144)), MAP, "instance_norm.*trained"),
    "rms norm": (dense(nn.RMSNorm(5)), (6,), "trained statistics"),
    "batch norm of a batch": (
        maps(nn.BatchNorm2d(4, track_running_stats=False), head(144)),
        MAP,
        "batch_norm of '1'.*those of a batch",
    ),
    "normalised": (
        Forward(lambda s, x: functional.normalize(s.a(x)), a=nn.Linear(6, 4)),
        (6,),
        "trained statistics",
    ),
    "squeeze and excitation": (
        Forward(gate, a=nn.Conv2d(3, 4, 3), b=nn.Conv2d(4, 4, 1)),
        MAP,
        r"node mul \(.*got one of two computed values",
    ),
    "glu": (nn.Sequential(nn.Linear(6, 4), nn.GLU(1)), (6,), "glu of '1'.*two computed values"),
    "bilinear": (Forward(lambda s, x: s.a(x, x), a=nn.Bilinear(6, 6, 3)), (6,), "two computed"),
    "square": (Forward(lambda s, x: s.a(x) ** 2, a=nn.Linear(6, 5)), (6,), "an activation of"),
    "softsign": (dense(nn.Softsign()), (6,), "abs.* of '1'.*expected an activation"),
    "prelu of channels": (
        maps(nn.PReLU(4), head(144)),
        MAP,
        "prelu of '1'.*expected one slope of all channels, got 4",
    ),
    "softshrink": (
        dense(nn.Softshrink()),
        (6,),
        r"of '1' .*expected an activation of neurosim \(relu",
    ),
    "elu falling": (
        dense(nn.ELU(-1.0)),
        (6,),
        r"an elu with an alpha and factors above 0, got -1\.0",
    ),
    "clamp above 0": (dense(nn.Hardtanh(0.5, 1)), (6,), r"got 0\.5 to 1\.0"),
    "clamp from below 0": (
        Forward(lambda s, x: s.a(x).clamp(min=-1), a=nn.Linear(6, 4)),
        (6,),
        r"got -1\.0 to None",
    ),
    "threshold": (dense(nn.Threshold(0.5, 0.1)), (6,), "threshold and value alike"),
    "transposed": (maps(nn.ConvTranspose2d(4, 2, 2)), MAP, "conv_transpose2d of '1'.*enlarges"),
    "upsampling": (maps(nn.Upsample(scale_factor=2)), MAP, "of '1'.*one that enlarges it"),
    "bilinear upsampling": (
        maps(nn.Upsample(scale_factor=2, mode="bilinear")),
        MAP,
        "of '1'.*one that enlarges it",
    ),
    "three axes": (nn.Sequential(nn.Conv3d(1, 2, 2), nn.Flatten()), (1, 4, 4, 4), "got three"),
    "reflection": (
        nn.Sequential(nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect")),
        MAP,
        "pad of '0'.*got mode reflect",
    ),
    "circular": (
        nn.Sequential(nn.Conv2d(3, 2, 3, padding=1, padding_mode="circular")),
        MAP,
        "pad of '0'.*got mode circular",
    ),
    "ones around": (
        nn.Sequential(nn.ConstantPad2d(1, 1.0), nn.Conv2d(3, 2, 3)),
        MAP,
        r"pad of '0'.*value 1\.0",
    ),
    "uneven parts": (
        maps(nn.AdaptiveAvgPool2d(4), head(64)),
        MAP,
        "expected parts of one size, got a map of 6 x 6 in 4 x 4 parts",
    ),
    "places of maxima": (
        Forward(
            lambda s, x: s.p(s.c(x))[1].float(),
            c=nn.Conv2d(3, 4, 3),
            p=nn.MaxPool2d(2, return_indices=True),
        ),
        MAP,
        "got the places of maxima",
    ),
    "log-softmax": (
        nn.Sequential(nn.Linear(6, 4), nn.LogSoftmax(1)),
        (6,),
        "log_softmax of '1'.*leave this step out.*or put a softmax in its place",
    ),
    "softmax between": (
        nn.Sequential(nn.Linear(6, 4), nn.Softmax(1), nn.Linear(4, 2)),
        (6,),
        "linear_1 of '2'.*expected Softmax as the last step",
    ),
    "argmax": (Forward(lambda s, x: s.a(x).argmax(1), a=nn.Linear(6, 4)), (6,), "other read-outs"),
    "choice": (
        Forward(lambda s, x: torch.where((y := s.a(x)) > 0, y, 0.1 * y), a=nn.Linear(6, 4)),
        (6,),
        "a choice that depends on the values",
    ),
    "look-up": (
        Forward(lambda s, x: s.a(x)[:, [2, 0, 1]], a=nn.Linear(6, 4)),
        (6,),
        "got a look-up",
    ),
    "excitation as": (
        Forward(
            lambda s, x: (y := s.a(x)) * y.mean((2, 3), True).expand_as(y), a=nn.Conv2d(3, 4, 3)
        ),
        (3, 6, 6),
        "expand_as.*got one that enlarges it",
    ),
    "product as": (
        Forward(
            lambda s, x: (y := s.a(x)) * s.b(x).expand_as(y), a=nn.Linear(6, 4), b=nn.Linear(6, 4)
        ),
        (6,),
        r"\(aten.mul.Tensor\): .*got one of two computed values",
    ),
    "smaller of two": (
        Forward(lambda s, x: torch.min(s.a(x), s.b(x)), a=nn.Linear(6, 4), b=nn.Linear(6, 4)),
        (6,),
        "got the smallest, which no layer gives",
    ),
    "smallest": (
        Forward(lambda s, x: s.a(x).amin((2, 3)), a=nn.Conv2d(3, 4, 3)),
        (3, 6, 6),
        r"got the smallest, .* are -amax\(-x\)",
    ),
    "distance": (
        Forward(
            lambda s, x: nn.functional.pairwise_distance(s.a(x), s.b(x)),
            a=nn.Linear(6, 4),
            b=nn.Linear(6, 4),
        ),
        (6,),
        "got a distance, whose parts are squared",
    ),
    "flip": (Forward(lambda s, x: s.a(x.flip(1)), a=nn.Linear(6, 4)), (6,), "got a look-up"),
    "noise": (
        Forward(lambda s, x: s.a(x + torch.randn_like(x)), a=nn.Linear(6, 4)),
        (6,),
        "do not depend on chance",
    ),
    "over the batch": (
        Forward(lambda s, x: s.a(x - x.mean(0)), a=nn.Linear(6, 4)),
        (6,),
        "inputs are not mixed with one another",
    ),
    "first input alone": (
        Forward(lambda s, x: s.a(x[:1]), a=nn.Linear(6, 4)),
        (6,),
        "expected a slice of each input, got one of the inputs",
    ),
    "whole numbers": (
        Forward(lambda s, x: s.a(x.int().float()), a=nn.Linear(6, 4)),
        (6,),
        r"a cast to real numbers, got one to torch\.int32",
    ),
    "two outputs": (Forward(lambda s, x: (s.a(x), x), a=nn.Linear(6, 4)), (6,), "of one output"),
    "no weights": (nn.Sequential(nn.Flatten(), nn.ReLU()), MAP, "at least one weighted layer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_layer_does_is_refused_by_name(name):
    module, shape, said = REFUSED[name]
    with pytest.raises(FormatError, match=said) as raised:
        ns.Network.load(random(module), input_shape=shape)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(type(module).__name__)


@pytest.mark.parametrize("name", REFUSED)
def test_what_torch_exports_of_it_is_refused_or_right(name, tmp_path):
    module, shape, _ = REFUSED[name]
    inputs = np.random.default_rng(5).normal(size=(4, *shape))
    example = torch.as_tensor(inputs, dtype=torch.float32)
    axes = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
    path = tmp_path / "n.onnx"
    try:
        torch.onnx.export(random(module), (example,), path, dynamo=False, opset_version=17, **axes)
    except Exception as error:  # the exporter's own refusals
        pytest.skip(f"torch does not export it: {type(error).__name__}")
    if name == "circular":  # as steps that are read: slices, side by side
        with torch.no_grad():
            expected = module(example).numpy().reshape(len(inputs), -1)
        assert_close(ns.Network.load(path), inputs, expected)
        return
    with pytest.raises(FormatError, match="expected") as raised:
        ns.Network.load(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def exported(dynamic):
    module, shape, inputs, expected = case("shuffle unit")
    axes = ({0: torch.export.Dim("n")},) if dynamic else None
    example = (torch.zeros(3, *shape),)
    return torch.export.export(module, example, dynamic_shapes=axes), inputs, expected


@pytest.mark.parametrize("dynamic", [False, True])
def test_exported_programs_are_read_and_stay_what_they_are(dynamic):
    program, inputs, expected = exported(dynamic)
    before = str(program.graph_module.graph)
    assert_close(ns.Network.load(program), inputs, expected)
    assert_close(ns.Network.load(program, input_shape=MAP), inputs, expected)
    assert str(program.graph_module.graph) == before
    with pytest.raises(ns.InputError, match=r"input_shape: expected \(3, 8, 8\), with which"):
        ns.Network.load(program, input_shape=(3, 9, 9))
    # eval() of a module made from a program raises: none may be asked for
    assert_close(ns.Network.load(program.module()), inputs, expected)


def test_programs_exported_while_training_are_refused():
    module = maps(nn.BatchNorm2d(4), nn.Dropout(), head(144)).train()
    program = torch.export.export(module, (torch.zeros(3, *MAP),))
    with pytest.raises(FormatError, match=r"batch_norm.*call eval\(\)"):
        ns.Network.load(program)
    module = nn.Sequential(nn.Linear(6, 2), nn.Dropout()).train()
    program = torch.export.export(module, (torch.zeros(3, 6),))
    with pytest.raises(FormatError, match=r"dropout.*call eval\(\) before exporting"):
        ns.Network.load(program)


def test_scripts_are_told_what_to_give():
    with pytest.raises(FormatError, match="the module that this script was made from"):
        ns.Network.load(torch.jit.script(nn.Linear(2, 2).eval()))


def test_several_inputs_are_to_be_cut_from_one():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(4, 2)

        def forward(self, wide, deep, scale=1.0):
            return self.a(wide) * scale + self.b(deep)

    module = Sum().eval()
    with pytest.raises(FormatError, match=r"Sum: .* one input, got 2 \(wide, deep\); wrap it"):
        ns.Network.load(module, input_shape=(3,))
    wrapped = Forward(lambda s, x: s.a(x[:, :3], x[:, 3:]), a=module).eval()
    x = torch.randn(5, 7)
    made = ns.Network.load(wrapped, input_shape=(7,))(x.numpy())
    np.testing.assert_allclose(made, wrapped(x).detach(), atol=1e-6)


def test_the_smallest_values_of_a_map_are_minus_the_largest_of_minus():
    module = Forward(lambda s, x: -(-s.a(x)).amax((2, 3)), a=nn.Conv2d(3, 4, 3)).eval()
    x = torch.randn(5, 3, 6, 6)
    made = ns.Network.load(module, input_shape=(3, 6, 6))(x.numpy())
    np.testing.assert_allclose(made, module.a(x).amin((2, 3)).detach(), atol=1e-6)


def test_parts_of_a_layer_are_one_layer():
    module, shape = READ["chunks"]
    network = ns.Network.load(random(module), input_shape=shape)
    assert network.widths == (6, 6, 3)  # no neuron twice, and no synapse that only passes on
    inputs = np.random.default_rng(0).normal(size=(1, 6))
    x = torch.as_tensor(inputs, dtype=torch.float32)
    deployment = ns.deploy(network, ns.Chip.load("ideal"))
    for neuron in range(6):
        dead = ns.FaultSet(n_presentations=1, neurons=[(1, neuron, 0, 1)])
        error = ns.evaluate(deployment, dead, inputs)
        with torch.no_grad():
            y = module.a(x)
            golden = module.b(y[:, :3]) - torch.relu(y[:, 3:])
            y[:, neuron] = 0
            faulty = module.b(y[:, :3]) - torch.relu(y[:, 3:])
        np.testing.assert_allclose(error, (faulty - golden).numpy(), atol=1e-6)
