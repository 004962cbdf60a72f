"""Kernels of pairs with several dead neurons: sums of columns, cuts into blocks, outputs."""

import numpy as np
import pytest
from scipy.special import expit

from neurosim.kernels.activations import SIGMOID, TANH, change_rows_at
from neurosim.kernels.rows import add_columns, cut_rows, multiply_rows


@pytest.mark.parametrize(
    ("kind", "gain", "scale"),
    [(SIGMOID, 4.0, 1.0), (SIGMOID, 1e12, 1.0), (SIGMOID, 1e-12, 1.0), (TANH, 2.0, 2.0)],
)
@pytest.mark.parametrize("largest", [1e-20, 1e-6, 0.1, 1.9999, 2.0, 2.0001, 4.0, 30.0])
def test_rows_of_sigmoid_changes_are_exact_on_both_sides_of_the_short_formula(
    kind, gain, scale, largest
):
    """The short formula is for rows whose argument changes by 2 at most."""
    rng = np.random.default_rng(1)
    a = rng.uniform(-25, 25, (3, 400)).astype(np.float32).astype(float)
    d = rng.uniform(-largest, largest, (3, 400))
    d[:, 0], d[:, 1], d[:, 2] = largest, -largest, 0
    dz = (d / gain).astype(np.float32)
    d = gain * dz.astype(float)
    caches = scale / 2 * np.tanh(a / 2), scale**2 * expit(a) * expit(-a)
    first, second = (values.astype(np.float32) for values in caches)
    # sigma(a + d) - sigma(a) without cancellation
    exact = scale * expit(a) * expit(-a) * np.expm1(d) / (expit(-a) + expit(a) * np.exp(d))
    rows = np.full((5, 402), np.nan, np.float32)
    rows[1:4, 1:401] = dz
    padded = [
        np.pad(values, ((2, 0), (1, 1)), constant_values=np.nan) for values in (first, second)
    ]
    change_rows_at(kind, gain, np.array([2, 3, 4]), *padded, rows, 1, 1, 401)
    np.testing.assert_allclose(rows[1:4, 1:401], exact, rtol=2e-6)
    assert np.isnan(rows[[0, 4]]).all()
    assert np.isnan(rows[:, [0, 401]]).all()


def test_one_far_change_or_no_number_takes_a_row_to_the_long_formula():
    first, second = np.zeros((1, 5), np.float32), np.full((1, 5), 0.25, np.float32)
    for value in (80.0, np.inf, np.nan):
        rows = np.array([[0.1, value, 0.1, 0, 0]], np.float32)
        change_rows_at(SIGMOID, 1.0, np.array([0]), first, second, rows, 0, 0, 5)
        expected = expit(np.array([0.1, value, 0.1, 0, 0])) - 0.5
        np.testing.assert_allclose(rows[0], expected, rtol=1e-6)


@pytest.mark.parametrize("n", range(11))
def test_columns_add_up_to_a_product(n):
    rng = np.random.default_rng(n)
    several = np.array([n, 3])
    units, values = np.zeros((2, 20), np.int64), np.full((2, 20), np.nan)
    columns, rows = rng.normal(size=(20, 13)), np.full((4, 13), np.nan)
    expected = rows.copy()
    for k in range(2):
        m = several[k]
        units[k, :m], values[k, :m] = rng.integers(0, 20, m), rng.normal(size=m)
        units[k, m : m + 7], values[k, m : m + 7] = 19, 0
        expected[1 + k, 3:11] = values[k, :m] @ columns[units[k, :m], 3:11]
    add_columns(units, values, several, columns, rows, 1, 3, 11)
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("most", [1, 5, 8, 1000])
def test_cuts_never_part_a_trial(most):
    rng = np.random.default_rng(0)
    # By first layer, then by trial; the last trial of a layer may be the first of the next one.
    trials = [np.repeat([0, 3, 4, 9], rng.integers(1, 8, 4)), np.repeat([9, 11], [3, 6])]
    several = np.zeros((sum(map(len, trials)), 4), np.int64)
    several[:, 0] = np.repeat([0, 1], [len(t) for t in trials])
    several[:, 1] = np.concatenate(trials)
    edges = cut_rows(several, most)
    assert (edges[0], edges[-1]) == (0, len(several))
    assert (np.diff(edges) > 0).all()
    for edge in edges[1:-1]:
        assert (several[edge, :2] != several[edge - 1, :2]).any()
    # A block ends at the first end of a trial beyond its size.
    assert (np.diff(edges)[:-1] >= most).all()
    assert (np.diff(edges) < most + 8).all()
    assert len(cut_rows(several[:0], most)) == 1


@pytest.mark.parametrize("n_out", [1, 2, 4, 5, 7, 10, 13])
def test_outputs_of_pairs_of_rows_are_products(n_out):
    rng = np.random.default_rng(n_out)
    rows, weight = rng.normal(size=(9, 37)), rng.normal(size=(n_out, 37))
    sums = np.full((8, n_out), np.nan)
    multiply_rows(2, 7, rows, weight, sums)
    np.testing.assert_allclose(sums[:7], rows[2:] @ weight.T, rtol=0, atol=1e-12)
    assert np.isnan(sums[7]).all()
