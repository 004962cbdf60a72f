"""Largest values and means over windows of a feature map, or over whole axes."""

from collections.abc import Sequence
from math import prod

import numpy as np

from neurosim.formats.padding import reaching, together
from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers import AveragePool2D, GlobalAveragePool, MaxPool2D
from neurosim.layers.windows import NO_PADDING, Padding, Pair

__all__ = ["average_pooled", "averaged", "max_pooled", "reduced"]

_NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "softplus")


def max_pooled(
    x: Tensor,
    size: Pair,
    *,
    stride: Pair,
    padding: Padding = NO_PADDING,
    dilation: Pair = (1, 1),
    ceil: bool = False,
) -> Tensor:
    """The largest value of each window; `ceil`: windows that reach over the end count too."""
    tensor = x.as_map().solid()
    if np.any(tensor.zeros):
        # Among values that are never negative, a zero is as good as nothing.
        last = tensor.step.layer
        if last is None or last.activation.kind not in _NOT_NEGATIVE or np.any(padding):
            raise UnreadableError(
                "expected zeros around a map in front of a convolution or, after an "
                "activation that is never negative, a pool"
            )
    if ceil:
        padding = reaching(tensor.map_size, size, stride, padding, dilation)
    padding = together(tensor.around, padding)
    return tensor.followed(MaxPool2D(size=size, stride=stride, padding=padding, dilation=dilation))


def average_pooled(
    x: Tensor,
    size: Pair,
    *,
    stride: Pair,
    padding: Padding = NO_PADDING,
    count_padding: bool = False,
    ceil: bool = False,
) -> Tensor:
    """The mean of each window; `count_padding`: zeros around the map count as values."""
    tensor = x.as_map().solid()
    around = tensor.around
    if np.any(around):
        if np.any(padding) and not count_padding:
            raise UnreadableError("expected zeros around a map in front of a convolution")
        count_padding = True
    wider = reaching(tensor.map_size, size, stride, padding, (1, 1)) if ceil else padding
    if wider != padding:
        if count_padding and np.any((around, padding)):
            raise UnreadableError(
                "expected ceil_mode without padding that counts, for its last windows are "
                "divided by less"
            )
        padding, count_padding = wider, False
    padding = together(around, padding)
    return tensor.followed(
        AveragePool2D(size=size, stride=stride, padding=padding, count_padding=count_padding)
    )


def averaged(x: Tensor) -> Tensor:
    """The mean of each channel, (channels,)."""
    return x.in_rows().as_map().solid().followed(GlobalAveragePool())


def _largest(x: Tensor) -> Tensor:
    """The largest value of each channel, (channels, 1, 1)."""
    tensor = x.in_rows().as_map().solid()
    return tensor.followed(MaxPool2D(size=tensor.map_size))


def reduced(x: Tensor, axes: Sequence[int], kind: str, *, keep: bool = False) -> Tensor:
    """The "mean", "sum" or "max" of each input over some axes; `keep`: as axes of length 1.

    Axis 0 is that of the inputs and may not be among them.
    """
    tensor = x.in_rows()
    shape = tensor.known_shape()
    rank = len(shape) + 1
    over = sorted({tensor.axis(axis) for axis in axes})
    if 0 in over or not over:
        raise UnreadableError(
            f"expected a {kind} over axes of one input, from 1 to {rank - 1}, got {over}: "
            "inputs are not mixed with one another"
        )
    kept = [k for k in range(1, rank) if k not in over]
    n = prod(shape[k - 1] for k in over)
    turned = tensor.transposed([0, *kept, *over])
    if (len(kept), len(over)) != (1, 2):
        turned = turned.viewed((prod(shape[k - 1] for k in kept), 1, n))
    made = _largest(turned) if kind == "max" else averaged(turned)
    if kind == "sum":
        made = made.times(float(n))
    left = [shape[k - 1] for k in kept]
    if keep:
        left = [1 if k in over else shape[k - 1] for k in range(1, rank)]
    return made.viewed(tuple(left))
