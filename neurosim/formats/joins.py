"""Sums of tensors, tensors one after the other, and parts of one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers import Add, Concatenate, Slice

__all__ = ["added", "concatenated", "sliced", "split"]

# A slice that ends beyond goes to the end, as exporters write it.
_MOST_INPUTS = 2**30


def added(tensors: Sequence[Tensor]) -> Tensor:
    """The sum of tensors of one shape."""
    solid = _alike(tensors)
    shapes = {tensor.known_shape() for tensor in solid}
    if len(shapes) != 1:
        text = f"expected computed inputs of one shape, got {', '.join(map(str, sorted(shapes)))}"
        try:
            np.broadcast_shapes(*shapes)
        except ValueError:
            raise UnreadableError(text) from None
        raise UnreadableError(
            f"{text}; no layer repeats a value: let the layer that makes the smaller one have "
            "as many outputs as the sum, by repeating the rows of its weight and bias"
        )
    return solid[0].followed(Add(), *solid[1:])


def concatenated(tensors: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors one after the other on an axis, without that of the inputs."""
    solid = _alike(tensors)
    shapes = [tensor.known_shape() for tensor in solid]
    rank = len(shapes[0])
    if not 0 <= axis < rank or any(len(shape) != rank for shape in shapes):
        raise UnreadableError(
            f"expected tensors alike but for axis {axis} (without that of the inputs), got "
            f"{', '.join(map(str, shapes))}"
        )
    join = Concatenate(axis=solid[0].order.stored_axis(axis))
    return solid[0].followed(join, *solid[1:])


def sliced(
    x: Tensor, axis: int, start: int | None = None, stop: int | None = None, by: int = 1
) -> Tensor:
    """A part of every input; axis 0 is that of the inputs, all of which go on."""
    tensor = x.in_rows()
    if axis == 0:
        if by == 1 and start in (None, 0) and (stop is None or stop > _MOST_INPUTS):
            return tensor
        raise UnreadableError("expected a slice of each input, got one of the inputs")
    size = tensor.known_shape()[axis - 1]
    if by < 1:
        raise UnreadableError(f"expected a slice in steps from 1 on, got {by}")
    first, end, _ = slice(start, stop, by).indices(size)
    if first >= end:
        raise UnreadableError(f"expected a slice with values in it, got {first} to {end} of {size}")
    if (first, end, by) == (0, size, 1):
        return tensor
    (solid,) = _alike([tensor])
    place = solid.order.stored_axis(axis - 1)
    return solid.followed(Slice(axis=place, start=first, stop=end, step=by))


def split(x: Tensor, axis: int, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Parts of every input, one after the other; axis 0 is that of the inputs."""
    (tensor,) = _alike([x])
    if axis == 0 or sum(sizes) != tensor.known_shape()[axis - 1]:
        raise UnreadableError(
            f"expected parts of each input that make up axis {axis} of values of shape "
            f"{tensor.shape}, got sizes {list(sizes)}"
        )
    tensor = replace(tensor, shared=True)
    ends = np.cumsum(sizes).tolist()
    return tuple(
        sliced(tensor, axis, end - size, end) for size, end in zip(sizes, ends, strict=True)
    )


def _alike(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Solid tensors whose values lie in the same order of axes."""
    solid = [tensor.in_rows().solid() for tensor in tensors]
    orders = [tensor.order for tensor in solid]
    if len({order.axes for order in orders}) > 1 or not all(o.keeps_axes for o in orders):
        solid = [tensor.arranged() for tensor in solid]
    return solid
