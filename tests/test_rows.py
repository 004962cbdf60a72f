"""Kernels of pairs with several dead neurons: sums of columns, cuts into blocks, outputs."""

import numpy as np
import pytest

from neurosim.kernels.rows import add_columns, cut_rows, multiply_rows


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
