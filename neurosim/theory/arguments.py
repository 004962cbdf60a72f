"""Arguments checked at the door, and results on their way out."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.campaign import Campaign
from neurosim.errors import InputError
from neurosim.layers import Array
from neurosim.network import Network

__all__ = [
    "broadcast",
    "check_campaign",
    "check_network",
    "check_range",
    "counts",
    "fraction",
    "numbers",
    "probabilities",
    "sequence",
    "weight_matrix",
    "whole_number",
]

# Beyond it float64 does not hold every whole number.
_MOST_COUNT = 2**53


def numbers(
    name: str, value: npt.ArrayLike, wanted: str, accept: Callable[[Array], Array]
) -> Array:
    """Return the argument as a float64 array, each value checked."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"{name}: expected {wanted}, got a ragged list") from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"{name}: expected {wanted}, got {value!r}")
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
        name,
        value,
        f"whole numbers from {least} to 2^53",
        lambda n: (n >= least) & (n <= _MOST_COUNT) & (n == np.floor(n)),
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


def sequence(name: str, value: Any, wanted: str) -> list[Any]:
    """Return the items of a list, tuple or array."""
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str | bytes):
        raise InputError(f"{name}: expected {wanted}, got {value!r}")
    if isinstance(value, np.ndarray) and value.ndim == 0:
        raise InputError(f"{name}: expected {wanted}, got one value, {value!r}")
    return list(value)


def check_network(value: object, name: str = "network") -> None:
    """Refuse what is no Network."""
    if not isinstance(value, Network):
        raise InputError(f"{name}: expected a Network, got {value!r}")
    value.require_chain("this part of the theory")


def check_campaign(value: object) -> None:
    """Refuse what is no Campaign."""
    if not isinstance(value, Campaign):
        raise InputError(f"campaign: expected a Campaign, got {value!r}")


def check_range(what: str, *arrays: Array) -> None:
    """Refuse results that left the range of a float64, as products of huge weights do."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise InputError(
            f"network: expected weights and inputs for which {what} stay within a float64 (below "
            "1e308), got larger ones; scale them down, or did the training diverge?"
        )


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
