"""Windows that slide over feature maps: what convolutions and pools have in common."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from neurosim.errors import InputError
from neurosim.layers.arrays import Array, Shape

__all__ = ["NO_PADDING", "Padding", "Pair", "Window", "pad", "padding_of", "pair"]

Pair: TypeAlias = tuple[int, int]

# Rows above and below, columns left and right.
Padding: TypeAlias = tuple[Pair, Pair]

NO_PADDING: Padding = ((0, 0), (0, 0))


def pair(name: str, value: Any, least: int = 1) -> Pair:
    """A whole number for both axes, or one for each (height, width).

    Raises
    ------
    InputError
        If it is neither.
    """
    both = (value, value) if _is_whole(value) else value
    try:
        first, second = both
    except (TypeError, ValueError):
        first = second = None
    if not (_is_whole(first) and _is_whole(second) and min(first, second) >= least):
        raise InputError(
            f"{name}: expected a whole number from {least} on, or two (height, width), "
            f"got {value!r}"
        )
    return int(first), int(second)


def padding_of(value: Any) -> Padding:
    """A whole number, (height, width), or ((top, bottom), (left, right)).

    Raises
    ------
    InputError
        If it is neither.
    """
    if _is_whole(value):
        value = (value, value)
    try:
        rows, columns = value
        return pair("padding", rows, 0), pair("padding", columns, 0)
    except (TypeError, ValueError, InputError) as error:
        raise InputError(
            "padding: expected a whole number from 0 on, (height, width), or ((top, bottom), "
            f"(left, right)), got {value!r}"
        ) from error


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def pad(x: Array, padding: Padding, value: float = 0.0) -> Array:
    """Feature maps (n, c, h, w) with rows and columns of a value around them, C order."""
    (top, bottom), (left, right) = padding
    if not any((top, bottom, left, right)):
        return np.ascontiguousarray(x)
    n, c, h, w = x.shape
    padded = np.full((n, c, top + h + bottom, left + w + right), value, x.dtype)
    padded[:, :, top : top + h, left : left + w] = x
    return padded


@dataclass(frozen=True, kw_only=True)
class Window:
    """How a window moves over a map.

    Parameters
    ----------
    size, stride, dilation : (height, width)
    padding : ((top, bottom), (left, right))
    """

    size: Pair
    stride: Pair
    dilation: Pair
    padding: Padding

    @property
    def extent(self) -> Pair:
        """Rows and columns from the first to the last that the window sees."""
        (kh, kw), (dh, dw) = self.size, self.dilation
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1

    def over(self, height: int, width: int) -> Pair:
        """Positions of the window over a map.

        Raises
        ------
        InputError
            If the window is larger than the padded map.
        """
        found = []
        for n, e, s, (before, after) in zip(
            (height, width), self.extent, self.stride, self.padding, strict=True
        ):
            found.append((n + before + after - e) // s + 1)
        if min(found) < 1:
            (top, bottom), (left, right) = self.padding
            raise InputError(
                f"kernel: expected one within the padded map of {height + top + bottom} x "
                f"{width + left + right}, got {self.extent[0]} x {self.extent[1]}"
            )
        return found[0], found[1]

    def reached(self, axis: int, first: int, stop: int, positions: int) -> Pair:
        """Positions [first, stop) on an axis whose window sees a part [first, stop) of the map."""
        e, s, before = self.extent[axis], self.stride[axis], self.padding[axis][0]
        low = max(0, -((e - 1 - first - before) // s))
        return low, max(low, min(positions, (stop - 1 + before) // s + 1))

    def seen(self, axis: int, first: int, stop: int) -> Pair:
        """Part [first, stop) of the map, which may lie beyond it, seen from some positions."""
        e, s, before = self.extent[axis], self.stride[axis], self.padding[axis][0]
        return first * s - before, (stop - 1) * s - before + e


def channels_of(name: str, shape: Shape) -> tuple[int, int, int]:
    """(channels, height, width) of a feature map.

    Raises
    ------
    InputError
        If a shape is none of a feature map.
    """
    if len(shape) != 3:
        raise InputError(
            f"{name}: expected a feature map (channels, height, width) before it, got shape {shape}"
        )
    return shape[0], shape[1], shape[2]
