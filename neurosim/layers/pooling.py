"""Pools of feature maps: largest values and means over windows."""

from dataclasses import dataclass

import numpy as np

from neurosim.errors import InputError
from neurosim.layers.activation import Activation
from neurosim.layers.arrays import Array, Shape
from neurosim.layers.channels_last import has_channels_last, largest_values
from neurosim.layers.threads import for_each, slices
from neurosim.layers.windows import Padding, Pair, Window, channels_of, pad, padding_of, pair

__all__ = ["AveragePool2D", "GlobalAveragePool", "MaxPool2D", "Pool"]

# Values of the maps of one part of the work, which stay in the cache of a core.
_PART_VALUES = 2**18


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """A window over each channel of a feature map; no site of faults.

    Parameters
    ----------
    size : int or (height, width)
    stride : int or (height, width), optional
        As the size by default.
    padding : int, (height, width) or ((top, bottom), (left, right))
    dilation : int or (height, width)
    """

    size: Pair
    stride: Pair = None  # type: ignore[assignment]
    padding: Padding = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)

    def __post_init__(self) -> None:
        size = pair("size", self.size)
        object.__setattr__(self, "size", size)
        stride = size if self.stride is None else pair("stride", self.stride)
        object.__setattr__(self, "stride", stride)
        object.__setattr__(self, "padding", padding_of(self.padding))
        object.__setattr__(self, "dilation", pair("dilation", self.dilation))

    @property
    def activation(self) -> Activation:
        """None: the identity."""
        return Activation("identity")

    @property
    def window(self) -> Window:
        """How the window moves."""
        return Window(
            size=self.size, stride=self.stride, dilation=self.dilation, padding=self.padding
        )

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of what an input of a shape becomes.

        Raises
        ------
        InputError
            If the layer takes no such input.
        """
        channels, *sizes = channels_of(type(self).__name__, shape)
        positions = self.window.over(*sizes)
        for axis, n in enumerate(positions):
            starts = np.arange(n) * self.stride[axis] - self.padding[axis][0]
            seen = starts[:, None] + np.arange(self.size[axis]) * self.dilation[axis]
            if not ((seen >= 0) & (seen < sizes[axis])).any(axis=1).all():
                raise InputError(
                    f"padding: expected some of the map in every window, got {self.padding} "
                    f"around {sizes[0]} x {sizes[1]}: one has padding alone"
                )
        return (channels, *positions)

    def parts(self, padded: Array, positions: Pair) -> list[Array]:
        """Views of padded maps, (..., h, w): one for each element of the window."""
        (kh, kw), (sh, sw), (dh, dw) = self.size, self.stride, self.dilation
        rows, columns = positions
        return [
            padded[..., i * dh : i * dh + (rows - 1) * sh + 1 : sh,
                   j * dw : j * dw + (columns - 1) * sw + 1 : sw]
            for i in range(kh)
            for j in range(kw)
        ]  # fmt: skip

    def _combined(self, y: Array, outside: float, combine: np.ufunc) -> Array:
        """The elements of each window combined, in order; some channels at a time."""
        planes = y.reshape(-1, *y.shape[-2:])
        positions = self.window.over(*y.shape[-2:])
        z = np.empty((len(planes), *positions), y.dtype)

        def compute(some: slice) -> None:
            padded = pad(planes[None, some], self.padding, outside)[0]
            first, *others = self.parts(padded, positions)
            z[some] = first
            for part in others:
                combine(z[some], part, out=z[some])

        for_each(slices(len(planes), max(1, _PART_VALUES // planes[0].size)), compute)
        return z.reshape(*y.shape[:-2], *positions)

    def _padded(self, y: Array, value: float) -> Array:
        flat = pad(y.reshape(-1, *y.shape[-3:]), self.padding, value)
        return flat.reshape(*y.shape[:-2], *flat.shape[-2:])

    def _inner(self, padded: Array, shape: Shape) -> Array:
        (top, _), (left, _) = self.padding
        return padded[..., top : top + shape[-2], left : left + shape[-1]]


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxPool2D(Pool):
    """The largest value in each window; padding never is.

    Examples
    --------
    >>> MaxPool2D(size=2)(np.arange(4.0).reshape(1, 1, 2, 2))
    array([[[[3.]]]])
    """

    def preactivation(self, y: Array) -> Array:
        """The pooled maps, (n, channels, ...), of (n, channels, height, width)."""
        if has_channels_last(y):
            return largest_values(y, self.window)
        return self._combined(y, -np.inf, np.maximum)

    def __call__(self, y: Array) -> Array:
        """The pooled maps."""
        return self.preactivation(y)

    def _choices(self, y: Array) -> Array:
        """Which element of the window is the largest, the first of several."""
        positions = self.window.over(*y.shape[-2:])
        return np.argmax(self.parts(self._padded(y, -np.inf), positions), axis=0)

    def push_forward(self, dy: Array, y: Array) -> Array:
        """Change to first order: that of the largest element; any first axes before those of y."""
        choices = self._choices(y)
        positions = choices.shape[-2:]
        dz = np.zeros((*dy.shape[:-2], *positions), dy.dtype)
        for number, part in enumerate(self.parts(self._padded(dy, 0.0), positions)):
            dz += np.where(choices == number, part, 0)
        return dz

    def pull_back(self, cotangent: Array, y: Array) -> Array:
        """Derivative by what is pooled, from that by the pooled maps."""
        choices = self._choices(y)
        (top, bottom), (left, right) = self.padding
        height, width = y.shape[-2:]
        shape = (*cotangent.shape[:-2], top + height + bottom, left + width + right)
        padded = np.zeros(shape, cotangent.dtype)
        for number, part in enumerate(self.parts(padded, choices.shape[-2:])):
            part += np.where(choices == number, cotangent, 0)
        return self._inner(padded, y.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragePool2D(Pool):
    """The mean of each window.

    Parameters
    ----------
    count_padding : bool
        Whether padding counts as zeros (as PyTorch does by default) or not at all.

    Examples
    --------
    >>> AveragePool2D(size=2)(np.arange(4.0).reshape(1, 1, 2, 2))
    array([[[[1.5]]]])
    """

    count_padding: bool = True

    def counts(self, height: int, width: int) -> Array:
        """What the sum of each window is divided by, (rows, columns)."""
        positions = self.window.over(height, width)
        if self.count_padding:
            return np.full(positions, float(np.prod(self.size)))
        ones = self._padded(np.ones((1, 1, height, width)), 0.0)
        return np.asarray(sum(self.parts(ones, positions)))[0, 0]

    def preactivation(self, y: Array) -> Array:
        """The pooled maps, (..., channels, ...), of (..., channels, height, width)."""
        z = self._combined(y, 0.0, np.add)
        z /= self.counts(*y.shape[-2:]).astype(y.dtype)
        return z

    def __call__(self, y: Array) -> Array:
        """The pooled maps."""
        return self.preactivation(y)

    def push_forward(self, dy: Array, y: Array | None = None) -> Array:
        """Change of the pooled maps."""
        return self.preactivation(dy)

    def pull_back(self, cotangent: Array, y: Array) -> Array:
        """Derivative by what is pooled, from that by the pooled maps."""
        (top, bottom), (left, right) = self.padding
        height, width = y.shape[-2:]
        counts = self.counts(height, width).astype(cotangent.dtype)
        shape = (*cotangent.shape[:-2], top + height + bottom, left + width + right)
        padded = np.zeros(shape, cotangent.dtype)
        share = cotangent / counts
        for part in self.parts(padded, counts.shape):
            part += share
        return self._inner(padded, y.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class GlobalAveragePool:
    """The mean of each channel: (channels, height, width) to (channels,).

    Examples
    --------
    >>> GlobalAveragePool()(np.ones((1, 3, 2, 2)))
    array([[1., 1., 1.]])
    """

    @property
    def activation(self) -> Activation:
        """None: the identity."""
        return Activation("identity")

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of what an input of a shape becomes.

        Raises
        ------
        InputError
            If the layer takes no such input.
        """
        return channels_of("GlobalAveragePool", shape)[:1]

    def preactivation(self, y: Array) -> Array:
        """Means, (..., channels)."""
        return y.mean(axis=(-2, -1))

    def __call__(self, y: Array) -> Array:
        """Means, (..., channels)."""
        return self.preactivation(y)

    def push_forward(self, dy: Array, y: Array | None = None) -> Array:
        """Change of the means."""
        return self.preactivation(dy)

    def pull_back(self, cotangent: Array, y: Array) -> Array:
        """Derivative by the maps, from that by the means."""
        height, width = y.shape[-2:]
        share = (cotangent / (height * width))[..., None, None]
        return np.broadcast_to(share, (*cotangent.shape, height, width)).copy()
