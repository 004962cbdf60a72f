"""Where the inputs and outputs of a block lie on a core with dead crosspoints."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from neurosim.layers import Array

__all__ = ["place_around"]

_ROUNDS = 4


def place_around(weight: Array, dead: Array) -> tuple[Array, Array]:
    """Rows and columns of a core such that little weight falls on dead crosspoints.

    Rows for given columns, and columns for given rows, are linear assignments that are solved
    exactly; the two take turns, which never makes the lost weight larger, until it stays.

    Parameters
    ----------
    weight : ndarray, (n_out, n_in)
    dead : ndarray of bool, (rows, columns)
        At least n_in rows and n_out columns; more of them are spares.

    Returns
    -------
    rows : ndarray of int, (n_in,)
        The row of each input.
    columns : ndarray of int, (n_out,)
        The column of each output.

    Examples
    --------
    The large weight leaves the dead crosspoint of row 0, column 0:

    >>> weight, dead = np.array([[5.0, 1.0]]), np.array([[True], [False]])
    >>> [places.tolist() for places in place_around(weight, dead)]
    [[1, 0], [0]]
    """
    size = np.abs(weight)
    rows, columns = np.arange(weight.shape[1]), np.arange(weight.shape[0])
    lost = float(size.T[dead[np.ix_(rows, columns)]].sum())
    for _ in range(_ROUNDS):
        if lost == 0:
            break
        rows = linear_sum_assignment(size.T @ dead[:, columns].T)[1]
        columns = linear_sum_assignment(size @ dead[rows])[1]
        now = float(size.T[dead[np.ix_(rows, columns)]].sum())
        if now >= lost:
            break
        lost = now
    return rows, columns
