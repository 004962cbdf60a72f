"""Sums of products in one pass over memory."""

import numpy as np
from numba import njit

__all__ = ["product_sums"]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def product_sums(c, a):
    """Sum and sum of squares of c_i a_i: c (n_outputs, n_inputs or 1, n), a (n_inputs, n).

    Both results (n_inputs, n_outputs).
    """
    n_inputs, n = a.shape
    n_outputs = c.shape[0]
    shared = c.shape[1] == 1
    first, second = np.empty((n_inputs, n_outputs)), np.empty((n_inputs, n_outputs))
    for k in range(n_outputs):
        for x in range(n_inputs):
            row, here = c[k, 0 if shared else x], a[x]
            one, two = 0.0, 0.0
            for i in range(n):
                g = row[i] * here[i]
                one += g
                two += g * g
            first[x, k], second[x, k] = one, two
    return first, second
