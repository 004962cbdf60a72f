"""Kernels of activations: every kind against formulas without cancellation, and its bits."""

from itertools import pairwise

import numpy as np
import pytest
from backend_contract import batch_for, processes
from hypothesis import given, settings
from hypothesis import strategies as st

import neurosim as ns
from neurosim.backends import CompiledBackend, make_backend
from neurosim.backends.prepared import _prepare
from neurosim.kernels.activations import change_row, change_rows_at
from neurosim.layers import Activation
from neurosim.layers.activation import _DEFAULT_PARAMETER

NAMES = [
    "identity", "relu", "leaky_relu(0.1)", "relu6", "hard_swish", "sigmoid(4)", "tanh", "softplus",
    "soft_clip(6)", "soft_clip(0.5)", "soft_clip(23)", "soft_clip(90)", "soft_leaky_relu(0.1)",
    "silu", "gelu", "gelu_tanh", "mish", "elu(1)", "elu(1.7)", "hard_tanh(1)", "hard_tanh(0.4)",
]  # fmt: skip
# Those that rise everywhere, without a kink behind which they are flat.
RISING = [
    "softplus",
    "soft_clip(6)",
    "soft_clip(0.5)",
    "soft_leaky_relu(0.1)",
    "elu(1)",
    "elu(1.7)",
]
KINKS = {
    "relu": [0], "leaky_relu(0.1)": [0], "relu6": [0, 6], "hard_swish": [-3, 3], "elu(1)": [0],
    "hard_tanh(1)": [-1, 1], "hard_tanh(0.4)": [-0.4, 1], "elu(1.7)": [0],
}  # fmt: skip
UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}
ROUNDINGS = {"float32": 16, "float64": 128}


def test_every_activation_is_here():
    assert {Activation.parse(name).kind for name in NAMES} == set(_DEFAULT_PARAMETER)


def prepared(name, z, dtype):
    kind, parameter, caches = _prepare(Activation.parse(name), z, np.dtype(dtype))
    first, second = (np.ascontiguousarray(c, dtype) for c in caches)
    return kind, parameter, first, second


def changes(name, z, d):
    """Changes by the kernels for golden z (n,) in float64 and d (n,) in the dtype of the engine."""
    kind, parameter, first, second = prepared(name, z, d.dtype)
    out = np.empty_like(d)
    change_row(kind, parameter, first, second, d, out)
    return out


def exact_changes(name, z, d):
    """The formulas of `neurosim.layers` with more digits than the kernels have, or as many."""
    phi, real = Activation.parse(name), np.float64 if name == "gelu" else np.longdouble
    return phi.change(z.astype(real), d.astype(real))


def grid(dtype, largest_z, largest_d, n=400, seed=0):
    """Values of both signs and all sizes up to the largest, some of them 0."""
    rng = np.random.default_rng(seed)
    z = rng.choice([-1, 1], n) * largest_z * rng.random(n) ** rng.choice([1, 4], n)
    d = rng.choice([-1, 1], n) * largest_d * rng.random(n)
    z[:5], d[3:8] = 0, 0
    return z, d.astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_errors_of_changes_are_a_few_roundings_of_the_change_of_z(name, dtype):
    phi = Activation.parse(name)
    tiny = np.finfo(dtype).tiny
    for largest_z in (0.1, 1, 5, 20, 60, 1000, 1e4):
        for largest_d in (1e-30, 1e-9, 1e-3, 0.5, 2, 10, 40, 100, 1e4):
            z, d = grid(dtype, largest_z, largest_d)
            found, exact = changes(name, z, d), exact_changes(name, z, d)
            few = ROUNDINGS[dtype] * UNIT[dtype]
            bound = few * np.abs(d).astype(float) * phi.lipschitz + 4 * tiny
            assert (np.abs(found - exact) <= bound).all()
            assert (found[3:8] == 0).all()
            if name in RISING:
                # z has its own rounding; what is next to nothing runs out of range.
                rtol = few * (1 + 0.1 * np.abs(d))
                nothing = 1e-10 if largest_z > 60 else 1e-30
                floor = nothing * np.abs(d) + 4 * tiny
                assert (np.abs(found - exact) <= rtol * np.abs(exact) + floor).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", KINKS)
def test_changes_beside_kinks_know_their_side(name, dtype):
    rng, phi = np.random.default_rng(0), Activation.parse(name)
    for kink in KINKS[name]:
        for size in (1e-3, 1e-6, 1e-9, 1e-12):
            z = kink + size * rng.uniform(-1, 1, 200)
            d = (size * rng.uniform(-2, 2, 200)).astype(dtype)
            bound = 8 * UNIT[dtype] * np.abs(d) * phi.lipschitz
            if name == "hard_swish":  # whose exact changes are of z / 6
                bound = bound + 1e-18
            error = changes(name, z, d) - exact_changes(name, z, d)
            assert (np.abs(error) <= bound).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_a_change_does_not_depend_on_what_is_computed_with_it(name, dtype):
    """Bits alone, in rows of any length and in whole rows, with far changes beside it or not."""
    if name in ("sigmoid(4)", "tanh"):
        pytest.skip("their rows choose between two formulas as a whole")
    rng = np.random.default_rng(1)
    n = 77
    z, d = rng.normal(scale=3, size=(4, n)), rng.normal(scale=0.3, size=(4, n)).astype(dtype)
    d[1] *= 4
    d[2, 5::9] = 1e3
    d[3, 7::5] *= 40
    kind, parameter, first, second = prepared(name, z, dtype)
    whole = np.full((7, n + 2), np.nan, dtype)
    whole[2:6, 1:-1] = d
    padded = [np.pad(c, ((1, 0), (1, 1)), constant_values=1) for c in (first, second)]
    change_rows_at(kind, parameter, np.arange(1, 5), *padded, whole, 2, 1, n + 1)
    assert np.isnan(whole[[0, 1, 6]]).all()
    assert np.isnan(whole[:, [0, -1]]).all()
    whole = whole[2:6, 1:-1]
    for row in range(4):
        for length in (1, 3, 16, 31, n):
            out = np.empty(n, dtype)
            for begin in range(0, n, length):
                part = slice(begin, begin + length)
                change_row(
                    kind, parameter, first[row, part], second[row, part], d[row, part], out[part]
                )
            assert (out == whole[row]).all()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "relu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinite_changes_and_no_numbers_stay_in_their_places(name, dtype):
    z = np.array([0.3, -0.7, 0.3, -0.7])
    d = np.array([0.1, np.nan, np.inf, -0.2], dtype)
    found = changes(name, z, d)
    calm = changes(name, z, np.array([0.1, 0, 0, -0.2], dtype))
    assert (found[[0, 3]] == calm[[0, 3]]).all()
    assert np.isnan(found[1])
    if name.startswith(("relu6", "sigmoid", "tanh", "hard_tanh", "soft_clip")):
        top = Activation.parse(name)(np.array([1e3]))[0]
        assert found[2] == pytest.approx(top - Activation.parse(name)(z)[2], rel=1e-6)
    else:
        assert found[2] == np.inf


@pytest.mark.parametrize("parameter", [1e-300, 1e-30, 1e30, 1e300])
@pytest.mark.parametrize("kind", ["elu", "hard_tanh"])
def test_parameters_beyond_single_precision_do_no_harm(kind, parameter):
    phi, z = Activation(kind, parameter), np.array([0.5, 0.25, 3.0])
    d = np.array([0.0, 0.1, -0.2], np.float32)
    np.testing.assert_allclose(
        changes(str(phi), z, d), phi.change(z, d.astype(float)), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("top", [1.0, 1e-3, 1e-9, 1e-20])
def test_soft_clips_of_low_tops_do_not_cancel(dtype, top):
    """Between the slopes at its ends a soft clip is top times a sigmoid, when the top is low."""
    phi, few = Activation("soft_clip", top), 64 * UNIT[dtype]
    for largest_d in (1e-9, 0.5, 10, 1e4):
        z, d = grid(dtype, 20, largest_d)
        exact = d.astype(float)
        for found in (changes(str(phi), z, d), phi.change(z, exact)):
            np.testing.assert_allclose(
                found, phi(z + exact) - phi(z), rtol=0, atol=few * top * max(1, 1e-2 * largest_d)
            )
            if top < 1e-10:
                slope = Activation("sigmoid", 1.0).change(z, exact)
                np.testing.assert_allclose(found, top * slope, rtol=20 * few, atol=few * top)


@st.composite
def networks(draw):
    """Two hidden layers of any activation, and inputs some of which are 0."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    widths = [draw(st.integers(1, 25)) for _ in range(4)]
    scale = draw(st.sampled_from([0.5, 1.0, 2.0]))
    names = [draw(st.sampled_from(NAMES)) for _ in range(3)]
    network = ns.Network.dense(
        weights=[scale * rng.normal(size=(b, a)) / np.sqrt(a) for a, b in pairwise(widths)],
        biases=[rng.normal(size=n) for n in widths[1:]],
        activations=names,
    )
    inputs = rng.normal(size=(draw(st.integers(1, 5)), widths[0]))
    inputs[rng.random(inputs.shape) < 0.3] = 0
    return network, inputs


@given(case=networks(), faults=processes)
@settings(max_examples=60, deadline=None)
def test_campaigns_of_any_activations_are_those_of_the_reference(case, faults):
    network, inputs = case
    batch = batch_for(network, inputs, faults)
    exact = make_backend("reference", network, inputs, "float64").errors(batch)
    # Roundings of a layer grow with what comes behind it.
    scale = 1 + max(float(np.abs(y).max()) for y in network.activations(inputs))
    for layer in network.layers:
        scale *= max(1.0, layer.activation.lipschitz * np.abs(layer.weight).sum(axis=1).max())
    for dtype, tolerance in (("float64", 1e-13), ("float32", 3e-6)):
        backend = make_backend("compiled", network, inputs, dtype)
        assert isinstance(backend, CompiledBackend)
        np.testing.assert_allclose(backend.errors(batch), exact, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("site", ["neuron", "synapse"])
def test_both_hidden_layers_of_every_activation(name, site):
    rng = np.random.default_rng(2)
    widths = (40, 60, 50, 5)
    network = ns.Network.dense(
        weights=[rng.normal(size=(b, a)) / np.sqrt(a) for a, b in pairwise(widths)],
        biases=[rng.normal(size=n) for n in widths[1:]],
        activations=[name, name, "identity"],
    )
    inputs = rng.normal(size=(20, 40))
    faults = [ns.StuckAtZero(site, probability=0.03)]
    batch = batch_for(network, inputs, faults, n_trials=8)
    exact = make_backend("reference", network, inputs, "float64").errors(batch)
    assert exact.any()
    for dtype, tolerance in (("float64", 1e-12), ("float32", 2e-6)):
        ours = make_backend("compiled", network, inputs, dtype).errors(batch)
        np.testing.assert_allclose(ours, exact, rtol=0, atol=tolerance)
