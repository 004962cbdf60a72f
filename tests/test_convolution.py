"""Convolutions, pools and joins against slow loops, against ONNX Runtime, and their derivatives."""

import pickle
from dataclasses import replace
from unittest import mock

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from neurosim.errors import InputError
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
    folded_batch_norm,
)

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@st.composite
def windows(draw):
    size, stride, dilation = (
        draw(pairs),
        draw(pairs),
        draw(st.sampled_from([(1, 1), (2, 1), (1, 2)])),
    )
    extent = [d * (k - 1) + 1 for k, d in zip(size, dilation, strict=True)]
    padding = tuple(tuple(draw(st.integers(0, min(2, k - 1))) for _ in range(2)) for k in size)
    shape = tuple(draw(st.integers(e, e + 6)) for e in extent)
    return size, stride, dilation, padding, shape


@st.composite
def convolutions(draw):
    size, stride, dilation, padding, shape = draw(windows())
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    per_group = draw(st.integers(1, 2))
    c_out = groups * draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    layer = Conv2D(
        weight=rng.normal(size=(c_out, per_group, *size)),
        bias=rng.normal(size=c_out),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    y = rng.normal(size=(draw(st.integers(1, 3)), groups * per_group, *shape))
    return layer, y


def slow_convolution(layer, y):
    """The sum of the docstring, term by term."""
    (top, bottom), (left, right) = layer.padding
    y = np.pad(y, [(0, 0), (0, 0), (top, bottom), (left, right)])
    c_out, c_in, kh, kw = layer.weight.shape
    (sh, sw), (dh, dw) = layer.stride, layer.dilation
    rows = (y.shape[2] - dh * (kh - 1) - 1) // sh + 1
    columns = (y.shape[3] - dw * (kw - 1) - 1) // sw + 1
    z = np.zeros((len(y), c_out, rows, columns))
    for o in range(c_out):
        first = o // (c_out // layer.groups) * c_in
        for r in range(rows):
            for s in range(columns):
                seen = y[:, first : first + c_in, r * sh :: dh, s * sw :: dw][:, :, :kh, :kw]
                z[:, o, r, s] = (seen * layer.weight[o]).sum(axis=(1, 2, 3)) + layer.bias[o]
    return z


def onnx_run(op, y, *constants, **attributes):
    names = [f"c{k}" for k in range(len(constants))]
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *names], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, y.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.float32(c), n) for c, n in zip(constants, names, strict=True)],
    )
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": np.float32(y)})[0]


def pads(layer):
    (top, bottom), (left, right) = layer.padding
    return [top, left, bottom, right]


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_a_convolution_is_its_sum(case):
    layer, y = case
    z = layer(y)
    np.testing.assert_allclose(z, slow_convolution(layer, y), rtol=1e-12, atol=1e-12)
    assert z.shape[1:] == layer.output_shape(y.shape[1:])


def with_channels_last(y):
    return np.ascontiguousarray(y.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def check_single_precision(layer, y, activation):
    """Against the slow sum; the same bits from maps in either order of memory, and from z."""
    layer = replace(layer, activation=Activation(activation))
    y = y.astype(np.float32)
    z, found = layer.preactivation(y), layer(y)
    size = replace(layer, weight=np.abs(layer.weight), bias=np.abs(layer.bias))
    atol = 1e-6 * slow_convolution(size, np.abs(y.astype(np.float64))).max()
    np.testing.assert_allclose(z, slow_convolution(layer, y.astype(np.float64)), rtol=0, atol=atol)
    assert z.dtype == found.dtype == np.float32
    assert z.flags.c_contiguous
    np.testing.assert_array_equal(layer(with_channels_last(y)), found)
    np.testing.assert_array_equal(found, layer.activation(z))


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.sampled_from(["relu", "relu6", "silu", "identity"]))
def test_a_convolution_in_single_precision_is_its_sum(case, activation):
    check_single_precision(*case, activation)


@settings(max_examples=60, deadline=None)
@given(
    windows(), st.integers(1, 2), st.integers(2, 20), st.integers(0, 2**32),
    st.sampled_from(["relu", "relu6", "silu"]),
)  # fmt: skip
def test_a_depthwise_convolution_in_single_precision_is_its_sum(
    case, n, channels, seed, activation
):
    size, stride, dilation, padding, shape = case
    rng = np.random.default_rng(seed)
    layer = Conv2D(
        weight=rng.normal(size=(channels, 1, *size)), bias=rng.normal(size=channels),
        stride=stride, padding=padding, dilation=dilation, groups=channels,
    )  # fmt: skip
    check_single_precision(layer, rng.normal(size=(n, channels, *shape)), activation)


@pytest.mark.parametrize(
    ("channels", "size", "shape"),
    [((300, 40), 1, (40, 40)), ((400, 300), 1, (9, 9)), ((40, 30), 5, (50, 41)),
     ((90, 90), 3, (58, 51)), ((300, 260), 3, (28, 27)), ((200, 300), 3, (14, 13))],
)  # fmt: skip
def test_what_threads_share_in_single_precision_is_whole(channels, size, shape):
    rng = np.random.default_rng(size)
    layer = Conv2D(
        weight=rng.normal(size=(*channels, size, size)), bias=rng.normal(size=channels[0]),
        padding=size // 2,
    )  # fmt: skip
    y = rng.normal(size=(2, channels[1], *shape))
    exact = layer(y)  # in double precision, by another way
    found = layer(y.astype(np.float32))
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("stride", [(1, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize("dilation", [(1, 2), (2, 3), (3, 1)])
def test_depthwise_strides_and_dilations_meet(stride, dilation):
    rng = np.random.default_rng(2)
    layer = Conv2D(
        weight=rng.normal(size=(6, 1, 3, 2)), bias=rng.normal(size=6), stride=stride,
        padding=((1, 2), (0, 1)), dilation=dilation, groups=3,
    )  # fmt: skip
    y = rng.normal(size=(2, 3, 11, 10))
    np.testing.assert_allclose(layer(y), slow_convolution(layer, y), rtol=1e-12, atol=1e-12)
    check_jacobian(layer, y)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_is_that_of_onnx_runtime(groups):
    rng = np.random.default_rng(groups)
    layer = Conv2D(
        weight=rng.normal(size=(8, 4 // groups, 3, 2)), bias=rng.normal(size=8), stride=(2, 1),
        padding=((1, 0), (0, 1)), dilation=(1, 2), groups=groups,
    )  # fmt: skip
    y = rng.normal(size=(2, 4, 9, 8)).astype(np.float32)
    expected = onnx_run(
        "Conv", y, layer.weight, layer.bias, strides=[2, 1], pads=pads(layer), dilations=[1, 2],
        group=groups,
    )  # fmt: skip
    found = layer(y)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_large_maps_go_through_in_bands():
    rng = np.random.default_rng(1)
    layer = Conv2D(weight=rng.normal(size=(2, 40, 3, 3)), bias=[0, 1], padding=1, stride=(1, 2))
    y = rng.normal(size=(2, 40, 50, 41))
    np.testing.assert_allclose(layer(y), slow_convolution(layer, y), rtol=1e-10, atol=1e-10)
    check_jacobian(layer, y)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 2), st.integers(3, 9), st.integers(3, 9), st.integers(0, 2**32),
    st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 2),
)  # fmt: skip
def test_tiles_are_the_convolution_to_the_rounding_of_floats(n, height, width, seed, padding):
    rng = np.random.default_rng(seed)
    layer = Conv2D(
        weight=rng.normal(size=(17, 16, 3, 3)), bias=rng.normal(size=17), padding=padding,
        activation=Activation("relu"),
    )  # fmt: skip
    y = rng.normal(size=(n, 16, height, width)).astype(np.float32)
    with mock.patch("neurosim.layers.convolution._LEAST_POSITIONS", 1):
        assert layer._takes_tiles(y)
        by_tiles = layer(y), layer.preactivation(y)
    # Errors are relative to sums of absolute values over all that a tile sees.
    size = replace(layer, weight=np.abs(layer.weight), bias=0 * layer.bias)
    scale = slow_convolution(size, np.abs(y.astype(np.float64))).max()
    exact = slow_convolution(layer, y)
    for found, right in zip(by_tiles, (np.maximum(exact, 0), exact), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, right, rtol=0, atol=1e-6 * scale)


@pytest.mark.parametrize(
    ("channels", "options"),
    [((16, 16), {"stride": 2}), ((16, 16), {"dilation": 2}), ((8, 16), {}), ((16, 8), {}),
     ((16, 32), {"groups": 2}), ((16, 16), {})],
)  # fmt: skip
def test_what_tiles_do_not_compute_goes_through_patches(channels, options):
    c_out, c_in = channels
    rng = np.random.default_rng(8)
    weight = rng.normal(size=(c_out, c_in // options.get("groups", 1), 3, 3))
    layer = Conv2D(weight=weight, bias=rng.normal(size=c_out), **options)
    side = 13 if c_in == c_out and not options else 40  # the last case has too few positions
    y = rng.normal(size=(1, c_in, side, side)).astype(np.float32)
    assert not layer._takes_tiles(y)
    np.testing.assert_allclose(layer(y), slow_convolution(layer, y), rtol=1e-4, atol=1e-4)


def test_tiles_do_not_travel_with_their_layer():
    layer = Conv2D(weight=np.ones((16, 16, 3, 3)), bias=np.zeros(16))
    layer(np.ones((1, 16, 20, 20), np.float32))
    assert "_tile_kernels" in vars(layer)
    copy = pickle.loads(pickle.dumps(layer))
    assert set(vars(copy)) == {"weight", "bias", "activation", "stride", "padding", "dilation",
                               "groups"}  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(windows(), st.integers(0, 2**32), st.booleans())
def test_pools_are_those_of_onnx_runtime(case, seed, count_padding):
    size, stride, dilation, padding, shape = case
    y = np.random.default_rng(seed).normal(size=(2, 3, *shape)).astype(np.float32)
    options = {"size": size, "stride": stride, "padding": padding}
    largest = MaxPool2D(**options, dilation=dilation)
    attributes = {"kernel_shape": size, "strides": stride, "pads": pads(largest)}
    np.testing.assert_array_equal(
        largest(y), onnx_run("MaxPool", y, **attributes, dilations=dilation)
    )
    y[0, 1, -1, -1] = np.nan
    np.testing.assert_array_equal(largest(with_channels_last(y)), largest(y))
    y = np.nan_to_num(y)
    mean = AveragePool2D(**options, count_padding=count_padding)
    expected = onnx_run("AveragePool", y, **attributes, count_include_pad=int(count_padding))
    np.testing.assert_allclose(mean(y), expected, rtol=1e-5, atol=1e-6)


def test_a_window_of_nothing_but_padding_has_no_largest_value():
    y = np.zeros((1, 2, 2, 2), np.float32)
    expected = np.full((1, 2, 3, 3), -np.inf)
    expected[:, :, 1, 1] = 0
    pool = MaxPool2D(size=2, padding=2)
    for maps in (y, with_channels_last(y)):
        for _ in range(3):  # memory that was used before
            np.testing.assert_array_equal(pool(maps), expected)
            np.full((1, 3, 3, 2), 7, np.float32)


@pytest.mark.parametrize(
    ("kind", "op", "attributes"),
    [
        ("gelu", "Gelu", {}),
        ("hard_swish", "HardSwish", {}),
        ("softplus", "Softplus", {}),
        ("gelu_tanh", "Gelu", {"approximate": "tanh"}),
        ("mish", "Mish", {}),
        ("elu(0.7)", "Elu", {"alpha": 0.7}),
    ],
)
def test_activations_are_those_of_onnx_runtime(kind, op, attributes):
    z = np.linspace(-9, 9, 200).astype(np.float32)
    expected = onnx_run(op, z, **attributes)
    np.testing.assert_allclose(Activation.parse(kind)(z), expected, rtol=1e-5, atol=2e-6)


ACTIVATIONS = [
    "identity", "relu", "leaky_relu(0.1)", "relu6", "hard_swish", "sigmoid(4)", "tanh",
    "softplus", "silu", "gelu", "soft_clip(6)", "soft_clip(0.5)", "soft_leaky_relu(0.1)",
    "gelu_tanh", "mish", "elu(1)", "elu(1.7)", "hard_tanh(1)", "hard_tanh(0.4)",
]  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_change_without_cancellation(name):
    phi = Activation.parse(name)
    rng = np.random.default_rng(0)
    z = rng.normal(scale=3, size=4000)
    for scale in (1e-9, 1e-3, 1.0, 30.0):
        dz = scale * rng.normal(size=z.size)
        exact = np.float64(phi(np.longdouble(z + 0) + dz) - phi(np.longdouble(z))) if name not in (
            "gelu", "sigmoid(4)") else phi(z + dz) - phi(z)  # fmt: skip
        np.testing.assert_allclose(phi.change(z, dz), exact, rtol=1e-6, atol=1e-14 + 1e-15 * scale)
    assert (phi.change(z, np.zeros_like(z)) == 0).all()
    small = 1e-12 * rng.normal(size=z.size)
    away = np.abs(np.abs(z) - 3) > 0.1  # from the kinks of hard_swish
    for kink in (0, 6, 1, -1, -0.4):
        away &= np.abs(z - kink) > 1e-6
    if name in LEAST:
        away &= np.abs(phi.derivative(z)) > 0.1  # else two terms of it cancel, as they must
    np.testing.assert_allclose(
        phi.change(z, small)[away], (phi.derivative(z) * small)[away], rtol=1e-9
    )


LEAST = {"silu": -0.27846, "gelu": -0.16997, "hard_swish": -0.375, "gelu_tanh": -0.17004,
         "mish": -0.30884}  # fmt: skip
LARGEST = (
    "silu",
    "gelu",
    "hard_swish",
    "sigmoid(4)",
    "soft_clip(6)",
    "gelu_tanh",
    "mish",
)  # largest slopes at the points given


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivatives_and_steepest_slopes_of_activations(name):
    phi = Activation.parse(name)
    z = np.linspace(-8, 8, 4001) + 1.234e-4
    away = np.abs(np.abs(z) - 3) > 0.01
    for kink in (0, 6, 1, -1, -0.4):
        away &= np.abs(z - kink) > 0.01
    h = 1e-6
    for f, df in ((phi, phi.derivative), (phi.derivative, phi.second_derivative)):
        numeric = (f(z + h) - f(z - h)) / (2 * h)
        np.testing.assert_allclose(df(z)[away], numeric[away], rtol=1e-5, atol=1e-7)
    points = [0.0, 3.0, np.sqrt(2), 2.3993572805, 1.4185040088, 1.4905711795]
    slopes = np.abs(phi.derivative(np.concatenate([z, points])))
    assert slopes.max() == pytest.approx(phi.lipschitz, rel=1e-9 if name in LARGEST else 1e-3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_values_of_an_interval_are_those_on_a_grid(name):
    phi, rng = Activation.parse(name), np.random.default_rng(3)
    low = rng.uniform(-6, 6, 200)
    high = low + rng.exponential(2, 200)
    grid = phi(np.linspace(low, high, 4001))
    least, most = phi.interval(low, high)
    np.testing.assert_allclose(most, grid.max(axis=0), rtol=1e-12)
    assert (least <= grid.min(axis=0)).all()
    np.testing.assert_allclose(least, grid.min(axis=0), atol=1e-5)
    if name in LEAST:  # beyond the ends of the intervals
        assert least.min() == pytest.approx(LEAST[name], abs=1e-5)
        assert (least < np.minimum(phi(low), phi(high)) - 1e-3).any()


@pytest.mark.parametrize("name", ["relu6", "gelu_tanh", "mish", "elu(1.7)", "hard_tanh(0.4)"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_of_huge_values_are_finite(name, dtype):
    phi, top = Activation.parse(name), np.finfo(dtype).max
    z = np.array([-top, -1e30, -200, 200, 1e30, top], dtype) / dtype(4)
    for values in (phi(z), phi.derivative(z), phi.change(z, -z), phi.change(z, z)):
        assert values.dtype == dtype
        assert np.isfinite(values).all()
    assert np.isfinite(phi.second_derivative(z)).all()
    for dz in (z, -z):  # to the precision of the larger of two terms that nearly cancel
        error = phi.change(z, dz) - (phi(z + dz) - phi(z))
        assert (abs(error) <= 1e-6 * np.abs(z)).all()


def check_jacobian(layer, *ys):
    """push_forward against differences, pull_back as its transpose."""
    from neurosim.graph import pull_back, push_forward

    rng = np.random.default_rng(5)
    shape = layer.output_shape(*(y.shape[1:] for y in ys))
    dys = [rng.normal(size=(4, *y.shape)) for y in ys]
    pushed = push_forward(layer, dys, ys)
    assert pushed.shape == (4, len(ys[0]), *shape)
    h = 1e-7
    for k in range(4):
        moved = layer.preactivation(*(y + h * dy[k] for y, dy in zip(ys, dys, strict=True)))
        numeric = (moved - layer.preactivation(*ys)) / h
        np.testing.assert_allclose(pushed[k], numeric, rtol=1e-4, atol=1e-4)
    cotangent = rng.normal(size=pushed.shape)
    pulled = pull_back(layer, cotangent, ys)
    both = sum((dy * back).sum() for dy, back in zip(dys, pulled, strict=True))
    np.testing.assert_allclose((pushed * cotangent).sum(), both, rtol=1e-10)


@settings(max_examples=25, deadline=None)
@given(convolutions())
def test_derivatives_of_convolutions(case):
    layer, y = case
    check_jacobian(layer, y)
    rng = np.random.default_rng(0)
    cotangent = rng.normal(size=(2, *layer(y).shape))
    found = layer.weight_gradient(cotangent, y)
    assert found.shape == (2, len(y), *layer.matrix_shape)
    direction = rng.normal(size=layer.weight.shape)
    push = slow_convolution(
        Conv2D(
            weight=direction, bias=0 * layer.bias, stride=layer.stride, padding=layer.padding,
            dilation=layer.dilation, groups=layer.groups,
        ),
        y,
    )  # fmt: skip
    np.testing.assert_allclose(
        (found * direction.reshape(layer.matrix_shape)).sum(axis=(2, 3)),
        (cotangent * push).sum(axis=(2, 3, 4)),
        rtol=1e-9,
        atol=1e-10,
    )


@settings(max_examples=25, deadline=None)
@given(windows(), st.integers(0, 2**32))
def test_derivatives_of_pools(case, seed):
    size, stride, dilation, padding, shape = case
    y = np.random.default_rng(seed).normal(size=(2, 3, *shape))
    for kind in (MaxPool2D, AveragePool2D):
        check_jacobian(kind(size=size, stride=stride, padding=padding, dilation=dilation), y)
    check_jacobian(AveragePool2D(size=size, stride=stride, padding=padding, count_padding=False), y)


def test_derivatives_of_the_other_layers():
    rng = np.random.default_rng(2)
    y, other = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 2, 4, 5))
    for layer in (
        GlobalAveragePool(),
        Flatten(),
        Reshape(shape=(5, 12)),
        Transpose(axes=(1, 2, 0)),
        Slice(start=1, stop=3),
        Slice(axis=2, start=1, stop=5, step=3),
        Affine(scale=[1.0, 2, 3], shift=[1.0, 0, 0]),
        Affine(activation=Activation("relu")),
    ):
        check_jacobian(layer, y)
    check_jacobian(Add(), y, 2 * y, y**2)
    check_jacobian(Concatenate(), y, other)
    check_jacobian(Concatenate(), other, y, y[:, :1])
    check_jacobian(Concatenate(axis=2), y, 2 * y)
    check_jacobian(Dense(weight=rng.normal(size=(2, 3)), bias=[1, 2]), rng.normal(size=(2, 3)))


def test_batch_norm_is_folded():
    rng = np.random.default_rng(3)
    statistics = {
        "mean": rng.normal(size=4), "variance": rng.random(4) + 0.1,
        "gamma": rng.normal(size=4), "beta": rng.normal(size=4),
    }  # fmt: skip
    layers = [
        (Conv2D(weight=rng.normal(size=(4, 2, 3, 3)), bias=rng.normal(size=4)), (2, 6, 6)),
        (Dense(weight=rng.normal(size=(4, 5)), bias=rng.normal(size=4)), (5,)),
    ]  # fmt: skip
    for layer, shape in layers:
        y = rng.normal(size=(3, *shape))
        z = layer(y)
        column = {k: v.reshape(4, *(1,) * (z.ndim - 2)) for k, v in statistics.items()}
        expected = (z - column["mean"]) / np.sqrt(column["variance"] + 1e-3) * column[
            "gamma"
        ] + column["beta"]
        folded = folded_batch_norm(layer, **statistics, epsilon=1e-3)
        np.testing.assert_allclose(folded(y), expected, rtol=1e-12, atol=1e-12)
    with pytest.raises(InputError, match="without an activation"):
        folded_batch_norm(
            Dense(weight=[[1]], bias=[0], activation=Activation("relu")), mean=[0], variance=[1]
        )
    with pytest.raises(InputError, match="variance: expected variance"):
        folded_batch_norm(Dense(weight=[[1]], bias=[0]), mean=[0], variance=[-1])
    with pytest.raises(InputError, match="one value for each of 1 channels"):
        folded_batch_norm(Dense(weight=[[1]], bias=[0]), mean=[0, 1], variance=[1])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Conv2D(weight=np.ones((2, 2)), bias=[0, 0]), "weight: expected shape \\(channels"),
        (lambda: Conv2D(weight=np.ones((3, 1, 1, 1)), bias=[0] * 3, groups=2), "groups: expected"),
        (lambda: Conv2D(weight=np.ones((1, 1, 1, 1)), bias=[0], stride=0), "stride: expected"),
        (lambda: Conv2D(weight=np.ones((1, 1, 1, 1)), bias=[0], padding=-1), "padding: expected"),
        (lambda: Conv2D(weight=np.ones((1, 1, 1, 1)), bias=[0], dilation=(1, 0)), "dilation: exp"),
        (lambda: MaxPool2D(size=2, padding=2).output_shape((1, 4, 4)), "some of the map in every"),
        (lambda: Reshape(shape=(0, 2)), "shape: expected sizes"),
        (lambda: Transpose(axes=(0, 0)), "axes: expected a permutation"),
        (lambda: Slice(start=2, stop=2), "expected 0 <= start < stop"),
        (lambda: Slice(start=0, stop=2, step=0), "a step from 1 on"),
        (lambda: Slice(start=0.5, stop=2), "start: expected a whole number"),
        (lambda: Slice(start=0, stop=4).output_shape((3, 8)), "expected values up to 4 on axis 0"),
        (lambda: Affine(scale=[np.nan]), "scale: expected finite"),
        (lambda: Conv2D(weight=np.ones((1, 2, 1, 1)), bias=[0]).output_shape((3, 4, 4)),
         "expected 3 input channels"),
        (lambda: Conv2D(weight=np.ones((1, 1, 5, 5)), bias=[0]).output_shape((1, 4, 4)),
         "kernel: expected one within the padded map of 4 x 4, got 5 x 5"),
        (lambda: MaxPool2D(size=2).output_shape((5,)), "expected a feature map"),
        (lambda: Add().output_shape((2,), (3,)), "sources of one shape"),
        (lambda: Concatenate().output_shape((2, 3), (2, 4)), "alike but for axis 0"),
        (lambda: Reshape(shape=(5,)).output_shape((2, 3)), "expected 6 values"),
        (lambda: Affine(scale=[1, 2]).output_shape((3, 1, 1)), "each of the 3 channels"),
    ],
)  # fmt: skip
def test_what_is_no_layer_is_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()
