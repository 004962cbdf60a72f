"""Shapes of the values of a foreign graph, and the order in which they lie.

Nothing is moved while reading: where a graph puts axes in another order, that order is kept beside
the values, for the next weight to be written for them as they lie.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from neurosim.formats.steps import UnreadableError
from neurosim.layers import Array, Shape

__all__ = ["BATCH", "Order", "known", "target_shape"]

# Stands for the number of inputs in a computed shape; no true size is negative.
BATCH = -(2**30)


def known(shape: Shape | None) -> Shape:
    """A shape all of whose sizes are known.

    Raises
    ------
    UnreadableError
        If some are not.
    """
    if shape is None or 0 in shape:
        raise UnreadableError(
            "expected an input whose shape the file states; if it does not, give input_shape"
        )
    return shape


@dataclass(frozen=True)
class Order:
    """One input's value as the graph has it, and as it is stored.

    The values lie in the order of an array of shape `stored`; those of the graph are that array
    with its axes in the order `axes`, reshaped to `shape`.

    Parameters
    ----------
    shape, stored
        Without the axis of the inputs, with 0 where a size is unknown, None if all is.
    axes
        None: as they are; `shape` and `stored` are then the same, but that a single value without
        axes, shape (), is stored as (1,).
    """

    shape: Shape | None
    stored: Shape | None
    axes: tuple[int, ...] | None = None

    @staticmethod
    def plain(shape: Shape | None) -> "Order":
        """That of values that are stored as the graph has them."""
        return Order(shape, (1,) if shape == () else shape)

    @property
    def turned(self) -> Shape:
        """The sizes of the stored array with its axes in the order of the graph."""
        stored = known(self.stored)
        return stored if self.axes is None else tuple(stored[k] for k in self.axes)

    @property
    def keeps_axes(self) -> bool:
        """Whether every axis of the graph is one of the stored array."""
        return self.axes is None or self.shape == self.turned

    @property
    def in_place(self) -> bool:
        """Whether the values of the graph lie in C order, whatever its axes."""
        stored = known(self.stored)
        long = [k for k in self.axes or () if stored[k] != 1]
        return long == sorted(long)

    def stored_axis(self, axis: int) -> int:
        """The axis of the stored array that one of the graph is, where they are kept."""
        return axis if self.axes is None else self.axes[axis]

    def viewed(self, shape: Shape) -> "Order":
        """The same values in another shape."""
        return Order.plain(shape) if self.axes is None else replace(self, shape=shape)

    def transposed(self, axes: Sequence[int]) -> "Order":
        """The same values with the axes of the graph, which are kept, in another order."""
        turned = replace(self, axes=tuple(self.stored_axis(axis) for axis in axes))
        return replace(turned, shape=turned.turned)

    def resized(self, stored: Shape) -> "Order":
        """The same axes, which are kept, of other sizes."""
        other = replace(self, stored=stored)
        return replace(other, shape=() if self.shape == () else other.turned)

    def as_stored(self, rows: Array) -> Array:
        """Rows of one number for each value of the graph, (n, size), for the values as stored."""
        if self.axes is None:
            return rows
        back = [0, *(np.argsort(self.axes) + 1)]
        return rows.reshape(len(rows), *self.turned).transpose(back).reshape(rows.shape)

    def spread(self, constant: Array) -> Array | None:
        """A constant that broadcasts to the graph's values, for those as stored; else None."""
        shape = self.shape or ()
        if 0 in shape or constant.ndim > len(shape):
            return None
        constant = constant.reshape((1,) * (len(shape) - constant.ndim) + constant.shape)
        try:
            full = np.broadcast_to(constant, shape)
        except ValueError:
            return None
        if self.axes is None:
            return constant
        return self.as_stored(full.reshape(1, -1)).reshape(known(self.stored))


def target_shape(shape: Shape | None, target: Sequence[int], batch: int) -> Shape:
    """The shape of an input's values where a graph of `batch` inputs (0: any) writes `target`.

    Sizes of 0 are kept, -1 takes what is left; the first one is that of the inputs.

    Raises
    ------
    UnreadableError
        If the values of an input do not stay together.
    """
    written = [int(n) for n in target]
    sizes = written[1:]
    size = prod(shape) if shape is not None else 0
    for axis, n in enumerate(sizes):
        if n == 0 and shape is not None and axis < len(shape):
            sizes[axis] = shape[axis]
    if size and sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = size // max(1, -prod(sizes))
    elif sizes == [-1]:
        sizes = [0]
    first = {0, -1, BATCH} | ({batch} if batch else set())
    # With every other size fixed to the values of one input, -1 is the number of inputs.
    if (
        not written
        or written[0] not in first
        or min(sizes, default=0) < 0
        or (size or prod(sizes)) != prod(sizes)
    ):
        shown = ["n_inputs" if n == BATCH else n for n in written]
        raise UnreadableError(
            f"expected a shape that keeps the {size or 'unknown number of'} values of an input "
            f"together, got {shown}"
        )
    return tuple(sizes)
