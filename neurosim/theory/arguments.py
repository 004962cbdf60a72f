"""Arguments of array functions, checked at the door."""

import operator
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from neurosim.errors import InputError
from neurosim.layers import Array

__all__ = [
    "broadcast",
    "counts",
    "fraction",
    "numbers",
    "probabilities",
    "weight_matrix",
    "whole_number",
]


def numbers(
    name: str, value: npt.ArrayLike, wanted: str, accept: Callable[[Array], Array]
) -> Array:
    """Return the argument as a float64 array, each value checked."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":
            raise InputError(f"{name}: expected {wanted}, got {value!r}")
    except ValueError as error:
        raise InputError(f"{name}: expected {wanted}, got a ragged list") from error
    array = array.astype(np.float64)
    bad = ~(np.isfinite(array) & accept(array))
    if bad.any():
        raise InputError(f"{name}: expected {wanted}, got {array[bad].flat[0]:g}")
    return array


def probabilities(name: str, value: npt.ArrayLike) -> Array:
    """Return numbers in [0, 1]."""
    return numbers(name, value, "probabilities in [0, 1]", lambda p: (p >= 0) & (p <= 1))


def fraction(name: str, value: float) -> float:
    """Return a number strictly between 0 and 1, checked."""
    array = numbers(name, value, "a number between 0 and 1", lambda c: (c > 0) & (c < 1))
    if array.ndim:
        raise InputError(f"{name}: expected one number, got shape {array.shape}")
    return float(array)


def counts(name: str, value: npt.ArrayLike, least: int) -> Array:
    """Return whole numbers, as float64."""
    return numbers(
        name, value, f"whole numbers from {least} on", lambda n: (n >= least) & (n == np.floor(n))
    )


def whole_number(name: str, value: int, least: int, most: int | None = None) -> int:
    """Return one whole number in a range, as int."""
    wanted = f"a whole number from {least} " + ("on" if most is None else f"to {most}")
    try:
        number = operator.index(value)
    except TypeError as error:
        raise InputError(f"{name}: expected {wanted}, got {value!r}") from error
    if isinstance(value, bool) or number < least or (most is not None and number > most):
        raise InputError(f"{name}: expected {wanted}, got {value!r}")
    return number


def weight_matrix(value: npt.ArrayLike) -> Array:
    """Return a weight matrix (n_out, n_in), finite and not empty."""
    matrix = numbers("weight", value, "finite numbers", np.isfinite)
    if matrix.ndim != 2 or matrix.size == 0:
        raise InputError(f"weight: expected shape (n_out, n_in), got {matrix.shape}")
    return matrix


def broadcast(**arrays: Array) -> tuple[Array, ...]:
    """Return arrays of one shape; the message of a misfit names them."""
    try:
        return np.broadcast_arrays(*arrays.values())
    except ValueError as error:
        shapes = ", ".join(str(a.shape) for a in arrays.values())
        raise InputError(
            f"{', '.join(arrays)}: expected shapes that broadcast, got {shapes}"
        ) from error
