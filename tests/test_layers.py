from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_expit

from neurosim.errors import InputError
from neurosim.layers import Activation, Add, Affine, Conv2D, Dense, softmax, softmax_change

SPELLED = ["identity", "relu", "leaky_relu(0.01)", "sigmoid(1)", "sigmoid(4)", "tanh", "softplus"]
CLOSED = {
    "identity": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu(0.01)": lambda z: np.where(z > 0, z, 0.01 * z),
    "sigmoid(1)": expit,
    "sigmoid(4)": lambda z: expit(4 * z),
    "tanh": np.tanh,
    "softplus": lambda z: -log_expit(-z),
}
EXTREME = np.array([-1e300, -1e4, -700, -40, -1, -1e-8, 1e-8, 1, 40, 700, 1e4, 1e300])


@pytest.mark.parametrize("text", SPELLED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_are_their_closed_forms_even_far_out(text, dtype):
    z = np.concatenate([np.linspace(-5, 5, 101), EXTREME[1:-1] if dtype == np.float32 else EXTREME])
    z = z.astype(dtype)
    y = Activation.parse(text)(z)
    assert y.dtype == dtype
    np.testing.assert_allclose(
        y,
        CLOSED[text](z.astype(np.float64)),
        rtol=4 * np.finfo(dtype).eps,
        atol=1e-37 if dtype == np.float32 else 1e-300,
    )


# s(t) s(-t) keeps its digits on both sides of 0, and so does 1 - 2 s(t) = s(-t) - s(t).
SLOPES = {
    "identity": np.ones_like,
    "relu": lambda z: np.where(z > 0, 1.0, 0.0),
    "leaky_relu(0.01)": lambda z: np.where(z > 0, 1.0, 0.01),
    "sigmoid(1)": lambda z: expit(z) * expit(-z),
    "sigmoid(4)": lambda z: 4 * expit(4 * z) * expit(-4 * z),
    "tanh": lambda z: 4 * expit(2 * z) * expit(-2 * z),
    "softplus": expit,
}
BENDS = {
    "sigmoid(1)": lambda z: SLOPES["sigmoid(1)"](z) * (expit(-z) - expit(z)),
    "sigmoid(4)": lambda z: 4 * SLOPES["sigmoid(4)"](z) * (expit(-4 * z) - expit(4 * z)),
    "tanh": lambda z: -2 * np.tanh(z) * SLOPES["tanh"](z),
    "softplus": SLOPES["sigmoid(1)"],
}


@pytest.mark.parametrize("text", SPELLED)
def test_derivatives_keep_their_digits_far_out(text):
    activation = Activation.parse(text)
    z = np.concatenate([EXTREME[1:-1], np.linspace(-300, 300, 601)])
    np.testing.assert_allclose(activation.derivative(z), SLOPES[text](z), rtol=1e-14, atol=1e-300)
    bend = BENDS.get(text, np.zeros_like)(z)
    # Below |z| = 0.1 the difference of two sigmoids, not the function, loses digits.
    far = (abs(z) > 0.1) | (bend == 0)
    second = activation.second_derivative(z)
    np.testing.assert_allclose(second[far], bend[far], rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(second, bend, atol=1e-14)


@pytest.mark.parametrize("text", SPELLED)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_numbers_of_a_dtype_do_not_overflow(text, dtype):
    activation, top = Activation.parse(text), np.finfo(dtype).max
    z = np.array([-top, top], dtype)
    for function in (activation, activation.derivative, activation.second_derivative):
        assert function(z).dtype == dtype
        assert np.isfinite(function(z)).all()
    if not activation.smooth or text in ("identity", "softplus"):
        return
    assert activation.derivative(z).tolist() == [0, 0]
    assert activation(z)[1] == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["silu", "gelu", "gelu_tanh", "mish", "hard_swish"])
def test_slopes_far_out_are_those_of_the_limit(kind, dtype):
    activation, top = Activation.parse(kind), np.finfo(dtype).max
    for far in (dtype(1000), np.sqrt(top) * 2, top):
        z = np.array([-far, far], dtype)
        with np.errstate(over="raise", invalid="raise"):
            slopes, bends = activation.derivative(z), activation.second_derivative(z)
        assert slopes.dtype == bends.dtype == dtype
        assert slopes.tolist() == [0, 1]
        assert bends.tolist() == [0, 0]


@pytest.mark.parametrize("text", SPELLED)
def test_derivatives_are_those_of_finite_differences(text):
    activation, h = Activation.parse(text), 1e-5
    z = np.linspace(-3, 3, 60)  # no kink among them
    first = (activation(z + h) - activation(z - h)) / (2 * h)
    np.testing.assert_allclose(activation.derivative(z), first, rtol=1e-8, atol=1e-9)
    second = (activation.derivative(z + h) - activation.derivative(z - h)) / (2 * h)
    np.testing.assert_allclose(activation.second_derivative(z), second, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("text", SPELLED)
def test_the_lipschitz_constant_is_the_largest_slope(text):
    activation = Activation.parse(text)
    z = np.linspace(-10, 10, 2001)
    slopes = abs(activation.derivative(z))
    assert slopes.max() <= activation.lipschitz * (1 + 1e-12)
    assert slopes.max() >= activation.lipschitz * 0.9999


@given(
    st.one_of(
        st.sampled_from(["identity", "relu", "tanh", "softplus"]).map(Activation),
        st.floats(1e-300, 1e300).map(lambda gain: Activation("sigmoid", gain)),
        st.floats(0, 1).map(lambda slope: Activation("leaky_relu", slope)),
        st.floats(1e-300, 1e300).map(lambda alpha: Activation("elu", alpha)),
        st.floats(1e-300, 1e300).map(lambda bottom: Activation("hard_tanh", bottom)),
    )
)
def test_an_activation_is_read_back_from_how_it_is_written(activation):
    assert Activation.parse(str(activation)) == activation


@pytest.mark.parametrize(
    "text",
    [
        *SPELLED, "relu6", "hard_swish", "silu", "gelu", "gelu_tanh", "mish", "elu(2)",
        "hard_tanh(0.5)",
    ],
)  # fmt: skip
def test_what_overwrites_is_what_is_returned(text):
    whole = np.linspace(-9, 9, 120, dtype=np.float32).reshape(4, 5, 6)
    whole[0, 0, 0] = np.nan
    expected = Activation.parse(text)(whole[:, 1:4])
    before = whole.copy()
    Activation.parse(text).overwrite(whole[:, 1:4])  # a part, as layers finish their maps
    np.testing.assert_array_equal(whole[:, 1:4], expected)
    np.testing.assert_array_equal(whole[:, [0, 4]], before[:, [0, 4]])


def test_parameters_have_defaults():
    assert Activation.parse("sigmoid") == Activation("sigmoid", 1.0)
    assert Activation.parse(" leaky_relu ( 0.2 ) ") == Activation("leaky_relu", 0.2)


@pytest.mark.parametrize(
    "text",
    [
        "swish",
        "relu(2)",
        "sigmoid(x)",
        "sigmoid(0)",
        "sigmoid(-1)",
        "elu(0)",
        "hard_tanh(-1)",
        "mish(1)",
        "leaky_relu(2)",
        "",
        "softmax",
        None,
        "sigmoid(nan)",
        "sigmoid(4",
    ],
)
def test_what_is_no_activation_is_refused(text):
    with pytest.raises(InputError, match="activation: expected"):
        Activation.parse(text)


def test_softmax_does_not_overflow():
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0], [-1e4, -1e4]])), [[1, 0], [0.5, 0.5]])


@pytest.mark.parametrize("scale", [1e-18, 1e-9, 1e-3, 1.0, 30.0, 3000.0])
def test_changes_of_softmax_outputs_keep_their_relative_accuracy(scale):
    rng = np.random.default_rng(4)
    logits, rows = rng.normal(scale=4, size=(3, 5)), np.array([2, 0, 2, 1, 1, 0, 0])
    dy = scale * rng.normal(size=(7, 5))
    found = softmax_change(logits, rows, dy)
    with localcontext() as context:
        context.prec = 80
        for row, change, result in zip(rows, dy, found, strict=True):
            z = [Decimal(value) for value in logits[row].tolist()]
            moved = [a + Decimal(b) for a, b in zip(z, change.tolist(), strict=True)]
            before, after = ([value.exp() for value in values] for values in (z, moved))
            pairs = zip(after, before, strict=True)
            exact = [float(a / sum(after) - b / sum(before)) for a, b in pairs]
            np.testing.assert_allclose(result, exact, rtol=1e-13, atol=1e-13 * np.abs(exact).max())


def test_softmax_outputs_change_where_all_golden_mass_falls_out_of_range():
    change = softmax_change(np.array([[800.0, 0.0]]), np.array([0]), np.array([[-2000.0, 0.0]]))
    np.testing.assert_allclose(change, [[-1, 1]], rtol=1e-15)


@pytest.mark.parametrize(
    ("weight", "bias", "said"),
    [
        (np.ones(3), [0], r"weight: expected shape \(n_out, n_in\), got \(3,\)"),
        (np.ones((2, 0)), [0, 0], "weight: expected shape"),
        (np.ones((2, 3)), [0], r"bias: expected shape \(2,\)"),
        ([[1, np.nan]], [0], r"weight: expected finite numbers, got nan at \(0, 1\)"),
        (np.ones((1, 2)), [np.inf], "bias: expected finite numbers, got inf"),
        ([["a"]], [0], "weight: expected real numbers"),
        ([[1, 2], [3]], [0, 0], "weight: expected real numbers"),
    ],
)
def test_wrong_weights_are_refused(weight, bias, said):
    with pytest.raises(InputError, match=said):
        Dense(weight=weight, bias=bias)


def test_a_layer_owns_its_weights():
    weight = np.ones((2, 3))
    layer = Dense(weight=weight, bias=[0, 0])
    weight[:] = 7
    assert (layer.weight == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[0, 0] = 2


def test_pull_back_is_the_transpose_of_push_forward():
    rng = np.random.default_rng(0)
    layer = Dense(weight=rng.normal(size=(4, 6)), bias=np.zeros(4))
    dy, cotangent = rng.normal(size=(5, 6)), rng.normal(size=(5, 4))
    np.testing.assert_allclose(
        (layer.push_forward(dy) * cotangent).sum(axis=1),
        (dy * layer.pull_back(cotangent)).sum(axis=1),
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda a: Dense(weight=[[1.0]], bias=[0.0], activation=a),
        lambda a: Conv2D(weight=np.ones((1, 1, 1, 1)), bias=[0.0], activation=a),
        lambda a: Affine(activation=a),
        lambda a: Add(activation=a),
    ],
)
def test_layers_take_the_name_of_an_activation_and_nothing_else(make):
    assert make("sigmoid(4)").activation == Activation("sigmoid", 4.0)
    assert make(Activation("relu")).activation == Activation("relu")
    with pytest.raises(InputError, match="activation: expected one of identity"):
        make("rellu")
    with pytest.raises(InputError, match='expected an Activation, or a name such as "relu", got 3'):
        make(3)
