"""Where the inputs and outputs of a block lie on a core with defective crosspoints."""

import numpy as np

from neurosim.layers import Array

__all__ = ["place_around"]

_ROUNDS = 4


def place_around(loss: Array, where: Array) -> tuple[Array, Array]:
    """Rows and columns of a core such that its defects change little weight.

    Rows for given columns, and columns for given rows, are linear assignments that are solved
    exactly; the two take turns, which never makes the loss larger, until it stays.

    Parameters
    ----------
    loss : ndarray, (n_kinds, n_out, n_in)
        What each kind of defect costs at each weight: its absolute change, |weight| where it is
        dead. Where several are on one crosspoint, they add up.
    where : ndarray of bool, (n_kinds, rows, columns)
        The crosspoints with each kind of defect. At least n_in rows and n_out columns; more of
        them are spares.

    Returns
    -------
    rows : ndarray of int, (n_in,)
        The row of each input.
    columns : ndarray of int, (n_out,)
        The column of each output.

    Examples
    --------
    The large weight leaves the dead crosspoint of row 0, column 0:

    >>> loss, dead = np.array([[[5.0, 1.0]]]), np.array([[[True], [False]]])
    >>> [places.tolist() for places in place_around(loss, dead)]
    [[1, 0], [0]]
    """
    # Imported here: it takes longer than all else that a campaign needs.
    from scipy.optimize import linear_sum_assignment

    _, n_out, n_in = loss.shape
    rows, columns = np.arange(n_in), np.arange(n_out)

    def total() -> float:
        return float(np.einsum("koi,kio->", loss, where[:, rows][:, :, columns]))

    lost = total()
    for _ in range(_ROUNDS):
        if lost == 0:
            break
        rows = linear_sum_assignment(_costs(loss.transpose(0, 2, 1), where[:, :, columns]))[1]
        columns = linear_sum_assignment(_costs(loss, where[:, rows].transpose(0, 2, 1)))[1]
        now = total()
        if now >= lost:
            break
        lost = now
    return rows, columns


def _costs(loss: Array, where: Array) -> Array:
    """What each of (n, m) would lose on each of (p, m): (n, p)."""
    return np.asarray(sum(one @ at.T for one, at in zip(loss, where, strict=True)))
