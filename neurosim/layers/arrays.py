"""Arrays that values own, and products of stacks of them."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Shape", "frozen", "one_product"]

Array: TypeAlias = npt.NDArray[Any]

# Of one example: without the axis of the inputs.
Shape: TypeAlias = tuple[int, ...]


def frozen(array: npt.ArrayLike, dtype: npt.DTypeLike) -> Array:
    """A read-only copy, C order: values own their arrays."""
    copy = np.array(array, dtype=dtype, order="C")
    copy.setflags(write=False)
    return copy


def one_product(stack: Array, matrix: Array) -> Array:
    """Stack (..., n) @ matrix as one product: NumPy would take one for each of the first axes."""
    flat = stack.reshape(-1, stack.shape[-1]) @ matrix
    return flat.reshape(*stack.shape[:-1], matrix.shape[1])
