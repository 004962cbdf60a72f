"""Golden passes in single precision, through maps whose channels lie side by side in memory.

Maps keep their shape, (n, channels, height, width); it is their memory that has another order, the
one that products of matrices and loops over channels like. Shapes alone cut the work into parts.
"""

from collections.abc import Callable

import numpy as np

from neurosim.kernels.channels_last import (
    add_taps,
    finish_rows,
    gather_windows,
    join_tiles,
    largest,
    split_tiles,
)
from neurosim.layers.activation import Activation
from neurosim.layers.arrays import Array
from neurosim.layers.correlation import PATCH_VALUES, bands
from neurosim.layers.threads import for_each, slices
from neurosim.layers.windows import Pair, Window

__all__ = [
    "channel_kernels",
    "convolve_by_tiles",
    "convolve_each_channel",
    "convolve_patches",
    "has_channels_last",
    "largest_values",
    "patch_kernels",
    "tile_kernels",
]

# Values of the tiles of a part, before and after the product; so many tiles at least, for BLAS.
_TILE_VALUES, _LEAST_TILES = 2**19, 96

# Values of a part of a map that is read once, and multiplications of a product that is shared out.
_PART_VALUES, _PART_WORK = 2**16, 2**23

# Input channels from which on kernels of tiles are large matrices.
_LARGE = 256

# Parts that a layer is cut into where the cache asks for fewer, if each is worth it.
_LEAST_PARTS = 4

# The transform of a kernel is G g G^T.
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])

# Activations that cut off, which kernels do on the way.
_CUTS = {"relu": (0.0, np.inf), "relu6": (0.0, 6.0)}


def has_channels_last(y: Array) -> bool:
    """Whether the channels of maps, (n, channels, height, width), lie side by side in memory."""
    return bool(y.ndim == 4 and y.transpose(0, 2, 3, 1).flags.c_contiguous)


def _inward(y: Array) -> Array:
    """(n, height, width, channels), C order: a view, where maps have channels last."""
    return np.ascontiguousarray(y.transpose(0, 2, 3, 1))


def _ending(
    activation: Activation, dtype: np.dtype
) -> tuple[Array, Array, Callable[[Array], None]]:
    """Where values are cut off, and what is done to them afterwards, in place."""
    low, high = (dtype.type(v) for v in _CUTS.get(activation.kind, (-np.inf, np.inf)))
    if activation.kind in _CUTS:
        return low, high, lambda values: None
    return low, high, activation.overwrite


def _kernel_window(window: Window) -> tuple[Pair, Pair, Pair, Pair]:
    (top, _), (left, _) = window.padding
    return window.size, window.stride, window.dilation, (top, left)


def convolve_patches(
    y: Array, weight: Array, bias: Array, window: Window, activation: Activation
) -> Array:
    """Phi of the convolution as products of patches, which are the maps where a kernel is a point.

    weight: as `patch_kernels` makes it.
    """
    x = _inward(y)
    n_out, n_in = weight.shape
    height, width = window.over(*x.shape[1:3])
    z = np.empty((len(x), height, width, n_out), x.dtype)
    low, high, rest = _ending(activation, x.dtype)
    points = (
        _kernel_window(window) == ((1, 1), (1, 1), (1, 1), (0, 0)) and z.shape[1:3] == x.shape[1:3]
    )
    flat, rows = x.reshape(-1, x.shape[3]), z.reshape(-1, n_out)
    # Shared out by positions or, where they are few, by channels, of which BLAS wants many.
    worth = max(1, n_out * n_in * height * width // _PART_WORK)
    few = height * width < n_out
    parts = 1 if few else min(4, worth)
    bands_of = bands(
        len(x), height, width, max(n_in, n_out, parts * PATCH_VALUES // (height * width))
    )
    outs = slices(n_out, -(-n_out // min(2, worth)) if few else n_out)

    def compute(part: tuple[tuple[slice, int, int], slice]) -> None:
        (images, first, stop), out = part
        seen = slice(images.start * height * width + first * width,
                     (images.stop - 1) * height * width + stop * width)  # fmt: skip
        if points:
            patches = flat[seen]
        else:
            patches = np.empty((seen.stop - seen.start, n_in), x.dtype)
            size = (stop - first) * width
            for k, image in enumerate(range(images.start, images.stop)):
                gather_windows(
                    x[image], _kernel_window(window), first, stop, width,
                    patches[k * size : (k + 1) * size],
                )  # fmt: skip
        found = rows[seen, out]
        np.matmul(patches, weight[out].T, out=found)
        finish_rows(found, bias[out], low, high)
        rest(found)

    for_each([(band, out) for band in bands_of for out in outs], compute)
    return z.transpose(0, 3, 1, 2)


def convolve_each_channel(
    y: Array, weight: Array, bias: Array, window: Window, activation: Activation
) -> Array:
    """Phi of a depthwise convolution; weight: as `channel_kernels` makes it."""
    x = _inward(y)
    height, width = window.over(*x.shape[1:3])
    z = np.empty((len(x), height, width, x.shape[3]), x.dtype)
    low, high, rest = _ending(activation, x.dtype)

    def compute(part: tuple[int, slice]) -> None:
        image, rows = part
        add_taps(
            x[image], weight, bias, low, high, _kernel_window(window), rows.start, rows.stop,
            z[image],
        )  # fmt: skip
        rest(z[image, rows])

    _in_rows(z, compute)
    return z.transpose(0, 3, 1, 2)


def largest_values(y: Array, window: Window) -> Array:
    """The largest value in each window of maps that have channels last."""
    x = _inward(y)
    z = np.empty((len(x), *window.over(*x.shape[1:3]), x.shape[3]), x.dtype)

    def compute(part: tuple[int, slice]) -> None:
        image, rows = part
        largest(x[image], _kernel_window(window), rows.start, rows.stop, z[image])

    _in_rows(z, compute)
    return z.transpose(0, 3, 1, 2)


def _in_rows(z: Array, compute: Callable[[tuple[int, slice]], None]) -> None:
    """Share out images and rows of maps."""
    rows = slices(z.shape[1], max(1, _PART_VALUES // z[0, 0].size))
    for_each([(image, some) for image in range(len(z)) for some in rows], compute)


def patch_kernels(weight: Array) -> Array:
    """Kernels (c_out, c_in, kh, kw) as `convolve_patches` takes them: (c_out, kh kw c_in)."""
    return weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)


def channel_kernels(weight: Array) -> Array:
    """Kernels (channels, 1, kh, kw) as `convolve_each_channel` takes them: (kh, kw, channels)."""
    return np.ascontiguousarray(weight[:, 0].transpose(1, 2, 0))


def tile_kernels(weight: Array) -> Array:
    """G g G^T of kernels (c_out, c_in, 3, 3): (16, c_in, c_out)."""
    found = np.einsum("ik,jl,ockl->ijoc", _G, _G, weight, optimize=True)
    found = np.ascontiguousarray(found).reshape(16, *weight.shape[:2]).transpose(0, 2, 1)
    # In memory as BLAS likes it: it reads ranges of columns of large matrices slowly.
    return np.ascontiguousarray(found) if weight.shape[1] < _LARGE else found


def convolve_by_tiles(
    y: Array, kernels: Array, bias: Array, window: Window, activation: Activation
) -> Array:
    """Phi of a convolution with 3 x 3 kernels, as `tile_kernels` makes them.

    Errors are those of float arithmetic relative to what a tile of four outputs sees: an output
    that sees nothing but zeros need not be 0.
    """
    x = _inward(y)
    _, c_in, c_out = kernels.shape
    height, width = window.over(*x.shape[1:3])
    z = np.empty((len(x), height, width, c_out), x.dtype)
    low, high, rest = _ending(activation, x.dtype)
    (top, _), (left, _) = window.padding
    n_rows, columns = -(-height // 2), -(-width // 2)
    step = max(_TILE_VALUES // (16 * (c_in + c_out)), _LEAST_TILES) // columns
    parts = slices(n_rows, max(1, step))
    # Where tiles are few, output channels are shared out, and each part makes all tiles.
    channels = max(64, -(-c_out * len(parts) // _LEAST_PARTS))

    def compute(part: tuple[int, slice, slice]) -> None:
        image, rows, out = part
        n = (rows.stop - rows.start) * columns
        tiles = np.empty((16, n, c_in), x.dtype)
        split_tiles(x[image], top, left, rows.start, rows.stop, columns, tiles)
        products = np.matmul(tiles, kernels[:, :, out])
        join_tiles(products, bias[out], low, high, rows.start, columns, z[image], out.start)
        rest(z[image, 2 * rows.start : 2 * rows.stop, :, out])

    for_each(
        [
            (image, rows, out)
            for image in range(len(x))
            for rows in parts
            for out in slices(c_out, channels)
        ],
        compute,
    )
    return z.transpose(0, 3, 1, 2)
