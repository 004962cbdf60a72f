"""How convolutions are computed: as products of patches, or channel by channel.

The work is cut into parts that fit into the cache of a core, by the shapes alone; several threads
may share them.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from neurosim.kernels.patches import correlate_channels, gather_patches
from neurosim.layers.arrays import Array
from neurosim.layers.threads import for_each, slices
from neurosim.layers.windows import NO_PADDING, Padding, Pair, Window, pad

__all__ = ["PATCH_VALUES", "Finish", "bands", "correlate", "is_depthwise"]

# What is done, in place, to a part of the result while it is in the cache: (maps, channels,
# positions), maps (n_channels, n_images, n_positions), positions of the flattened map.
Finish: TypeAlias = Callable[[Array, slice, slice], None]

# Values of a matrix of patches: what fits into the cache of a core while BLAS reads it.
PATCH_VALUES = 2**19

# Multiplications that are worth a part of their own.
_PART_WORK = 2**23

# Parts that a layer is cut into where the cache asks for fewer, if each is worth it.
_LEAST_PARTS = 4


def correlate(
    x: Array,
    weight: Array,
    stride: Pair,
    dilation: Pair,
    groups: int,
    padding: Padding = NO_PADDING,
    finish: Finish | None = None,
) -> Array:
    """Correlation of feature maps, (n, c, h, w), with weights, (c_out, c / groups, kh, kw).

    Products of patches; depthwise channels one by one.
    """
    window = Window(size=weight.shape[2:], stride=stride, dilation=dilation, padding=padding)
    z = np.empty((len(x), len(weight), *window.over(*x.shape[2:])), x.dtype)
    finish = finish or _nothing
    if is_depthwise(weight, groups):
        _each_channel(np.ascontiguousarray(x), weight[:, 0], window, z, finish)
    elif window.size == (1, 1) and stride == (1, 1) and padding == NO_PADDING and (
        len(x) == 1 or z[0, 0].size >= 64
    ):  # fmt: skip
        _points(np.ascontiguousarray(x), weight, groups, z, finish)
    else:
        _patches(pad(x, padding), weight, groups, window, z, finish)
    return z


def is_depthwise(weight: Array, groups: int) -> bool:
    """Whether each output channel sees one input channel alone."""
    return groups > 1 and weight.shape[1] == 1


def _nothing(maps: Array, channels: slice, positions: slice) -> None:
    """No finish."""


def _flat(maps: Array) -> Array:
    """Maps of one image, (channels, height, width), as a finish takes them: a view."""
    return maps.reshape(len(maps), 1, -1)


def _each_channel(x: Array, weight: Array, window: Window, z: Array, finish: Finish) -> None:
    step = max(1, _PART_WORK // (16 * z[0, 0].size * int(np.prod(window.size))))
    whole = slice(0, z[0, 0].size)

    def compute(part: tuple[int, slice]) -> None:
        image, channels = part
        correlate_channels(
            x[image], weight, window.stride, window.dilation, window.padding,
            channels.start, channels.stop, z[image],
        )  # fmt: skip
        finish(_flat(z[image, channels]), channels, whole)

    for_each([(i, c) for i in range(len(x)) for c in slices(len(weight), step)], compute)


def _points(x: Array, weight: Array, groups: int, z: Array, finish: Finish) -> None:
    """Kernels of one element: the maps are the patches."""
    n_out, n_in = len(weight) // groups, weight.shape[1]
    flat = x.reshape(*x.shape[:2], -1)
    into = z.reshape(*z.shape[:2], -1)
    matrix = weight.reshape(len(weight), n_in)
    n_positions = flat.shape[2]
    n_parts = max(1, min(_LEAST_PARTS, n_out * n_in * n_positions // _PART_WORK))
    rows, columns = n_out, max(64, PATCH_VALUES // n_in)
    if n_positions > n_out:
        columns = min(columns, -(-n_positions // n_parts))
    else:
        rows = -(-n_out // n_parts)

    def compute(part: tuple[int, int, slice, slice]) -> None:
        image, g, channels, positions = part
        found = into[image, channels, positions]
        seen = flat[image, g * n_in : (g + 1) * n_in, positions]
        np.matmul(matrix[channels], seen, out=found)
        finish(found[:, None], channels, positions)

    for_each(
        [
            (i, g, slice(g * n_out + c.start, g * n_out + c.stop), p)
            for i in range(len(x))
            for g in range(groups)
            for p in slices(n_positions, columns)
            for c in slices(n_out, rows)
        ],
        compute,
    )


def _patches(
    padded: Array, weight: Array, groups: int, window: Window, z: Array, finish: Finish
) -> None:
    n_out, n_in = len(weight) // groups, weight.shape[1]
    height, width = z.shape[2:]
    matrix = weight.reshape(len(weight), -1)

    def compute(part: tuple[int, tuple[slice, int, int]]) -> None:
        g, (images, first, stop) = part
        channels = slice(g * n_out, (g + 1) * n_out)
        count = images.stop - images.start
        columns = np.empty((matrix.shape[1], count * (stop - first) * width), padded.dtype)
        gather_patches(
            padded[:, g * n_in : (g + 1) * n_in], images.start, images.stop, first, stop, width,
            window.size, window.stride, window.dilation, columns,
        )  # fmt: skip
        positions = slice(first * width, stop * width)
        if count == 1:
            found = z[images.start, channels].reshape(n_out, -1)[:, positions]
            np.matmul(matrix[channels], columns, out=found)
            finish(found[:, None], channels, positions)
            return
        found = (matrix[channels] @ columns).reshape(n_out, count, -1)
        finish(found, channels, positions)
        parts = found.reshape(n_out, count, stop - first, width)
        z[images, channels, first:stop] = parts.transpose(1, 0, 2, 3)

    parts = bands(len(z), height, width, matrix.shape[1])
    for_each([(g, part) for g in range(groups) for part in parts], compute)


def bands(n: int, height: int, width: int, rows: int) -> list[tuple[slice, int, int]]:
    """Images and output rows whose patches go through one product: whole images, or part of one."""
    columns = max(64, PATCH_VALUES // rows)
    if height * width <= columns:
        step = max(1, columns // (height * width))
        return [(images, 0, height) for images in slices(n, step)]
    parts = slices(height, max(1, columns // width))
    return [(slice(i, i + 1), part.start, part.stop) for i in range(n) for part in parts]
