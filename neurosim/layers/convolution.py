"""Convolutions of feature maps, as products of matrices; batch normalisation folded into them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from neurosim.errors import InputError
from neurosim.kernels.patches import gather_patches, scatter_channels, scatter_patches
from neurosim.layers.activation import Activation
from neurosim.layers.arrays import Array, Shape
from neurosim.layers.channels_last import (
    channel_kernels,
    convolve_by_tiles,
    convolve_each_channel,
    convolve_patches,
    patch_kernels,
    tile_kernels,
)
from neurosim.layers.correlation import Finish, bands, correlate, is_depthwise
from neurosim.layers.weighted import Dense, Weighted
from neurosim.layers.windows import Padding, Pair, Window, channels_of, pad, padding_of, pair

__all__ = ["Conv2D", "folded_batch_norm"]

# Channels and positions from which on tiles are faster than patches: BLAS likes no small products.
_LEAST_CHANNELS, _LEAST_POSITIONS = 16, 128


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv2D(Weighted):
    """A convolution of feature maps; its neurons are the elements of the maps that it sends.

    z[o, r, s] = b[o] + sum_{c, i, j} W[o, c, i, j] y[c, r stride + i dilation - top, ...], as
    in PyTorch and ONNX (a cross-correlation); zeros around the map.

    Parameters
    ----------
    weight : array_like, shape (channels_out, channels_in / groups, height, width)
        Finite; kept as float64.
    bias : array_like, shape (channels_out,)
    activation : Activation or str
    stride, dilation : int or (height, width)
    padding : int, (height, width) or ((top, bottom), (left, right))
    groups : int
        Output channels of a group see input channels of the same group only; as many groups as
        input channels make the convolution depthwise.

    Raises
    ------
    InputError
        If a shape is wrong or a value is out of range or not finite.

    Examples
    --------
    >>> layer = Conv2D(weight=np.ones((1, 1, 2, 2)), bias=[0])
    >>> layer(np.arange(9.0).reshape(1, 1, 3, 3))[0, 0]
    array([[ 8., 12.],
           [20., 24.]])
    """

    stride: Pair = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    _WRITTEN: ClassVar = ("channels_out", "channels_in / groups", "height", "width")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "stride", pair("stride", self.stride))
        object.__setattr__(self, "dilation", pair("dilation", self.dilation))
        object.__setattr__(self, "padding", padding_of(self.padding))
        groups = pair("groups", self.groups)[0]
        if len(self.weight) % groups:
            raise InputError(
                f"groups: expected a divisor of the {len(self.weight)} output channels, "
                f"got {groups}"
            )
        object.__setattr__(self, "groups", groups)

    @property
    def window(self) -> Window:
        """How the kernel moves."""
        return Window(
            size=self.weight.shape[2:],
            stride=self.stride,
            dilation=self.dilation,
            padding=self.padding,
        )

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of what an input of a shape becomes.

        Raises
        ------
        InputError
            If the layer takes no such input.
        """
        channels, height, width = channels_of("Conv2D", shape)
        if channels != self.weight.shape[1] * self.groups:
            raise InputError(
                f"weight: expected {channels} input channels, those of what comes before, got "
                f"{self.weight.shape[1]} x {self.groups} groups; weights are (channels_out, "
                "channels_in / groups, height, width): is one in another order?"
            )
        return (len(self.weight), *self.window.over(height, width))

    def preactivation(self, y: Array) -> Array:
        """z_l, (n, channels_out, ...), for y_{l-1}, (n, channels_in, height, width), C order."""
        return np.ascontiguousarray(self._passed(y, Activation("identity")))

    def __call__(self, y: Array) -> Array:
        """y_l for y_{l-1}; in single precision with channels last in memory, where that is fast."""
        return self._passed(y, self.activation)

    def _passed(self, y: Array, activation: Activation) -> Array:
        bias, window = self.bias.astype(y.dtype), self.window
        if y.dtype == np.float32:
            if self._takes_tiles(y):
                return convolve_by_tiles(y, self._kept(tile_kernels), bias, window, activation)
            if self.groups == 1:
                return convolve_patches(y, self._kept(patch_kernels), bias, window, activation)
            if self.groups == y.shape[1] == len(self.weight):
                kernels = self._kept(channel_kernels)
                return convolve_each_channel(y, kernels, bias, window, activation)

        def finish(maps: Array, channels: slice, positions: slice) -> None:
            maps += bias[channels, None, None]
            activation.overwrite(maps)

        return self._correlate(y, finish)

    def _takes_tiles(self, y: Array) -> bool:
        """Whether tiles are as accurate as patches and faster: in single precision."""
        window = self.window
        return bool(
            y.dtype == np.float32
            and (window.size, window.stride, window.dilation) == ((3, 3), (1, 1), (1, 1))
            and self.groups == 1
            and min(self.weight.shape[:2]) >= _LEAST_CHANNELS
            and np.prod(window.over(*y.shape[-2:])) >= _LEAST_POSITIONS
        )

    def _kept(self, make: Callable[[Array], Array]) -> Array:
        """The weights in another form, in single precision, made once."""
        name = f"_{make.__name__}"
        if name not in self.__dict__:
            self.__dict__[name] = np.array(make(self.weight), np.float32)  # in its memory order
            self.__dict__[name].setflags(write=False)
        kernels: Array = self.__dict__[name]
        return kernels

    def _correlate(self, y: Array, finish: Finish | None = None) -> Array:
        return correlate(
            y, self.weight_as(y.dtype), self.stride, self.dilation, self.groups, self.padding,
            finish,
        )  # fmt: skip

    def push_forward(self, dy: Array, y: Array | None = None) -> Array:
        """Change of z_l that the change dy of y_{l-1} makes; any first axes."""
        flat = dy.reshape(-1, *dy.shape[-3:])
        z = self._correlate(flat)
        return z.reshape(*dy.shape[:-3], *z.shape[1:])

    def pull_back(self, cotangent: Array, y: Array) -> Array:
        """Derivative by y_{l-1}, from the derivative by z_l; any first axes.

        y: y_{l-1}, of which only the shape is used.
        """
        flat = np.ascontiguousarray(cotangent.reshape(-1, *cotangent.shape[-3:]))
        (top, bottom), (left, right) = self.padding
        channels, height, width = y.shape[-3:]
        x = np.zeros((len(flat), channels, top + height + bottom, left + width + right), flat.dtype)
        weight = self.weight_as(flat.dtype)
        if is_depthwise(weight, self.groups):
            scatter_channels(flat, weight[:, 0], self.stride, self.dilation, x)
        else:
            self._scatter(flat, weight, x)
        inner = x[:, :, top : top + height, left : left + width]
        return inner.reshape(*cotangent.shape[:-3], channels, height, width)

    def _scatter(self, flat: Array, weight: Array, x: Array) -> None:
        height, width = flat.shape[2:]
        n_out, n_in = len(weight) // self.groups, x.shape[1] // self.groups
        for g in range(self.groups):
            matrix = weight[g * n_out : (g + 1) * n_out].reshape(n_out, -1).T
            part = x[:, g * n_in : (g + 1) * n_in]
            for images, first, stop in bands(len(flat), height, width, len(matrix)):
                here = flat[images, g * n_out : (g + 1) * n_out, first:stop]
                columns = matrix @ here.transpose(1, 0, 2, 3).reshape(n_out, -1)
                scatter_patches(
                    columns, images.start, images.stop, first, stop, width,
                    self.window.size, self.stride, self.dilation, part,
                )  # fmt: skip

    def weight_gradient(self, cotangent: Array, y: Array) -> Array:
        """Derivative by the weight matrix, (..., channels_out, kernel size), one an input.

        cotangent: derivative by z_l, (..., *shape of z_l); y: y_{l-1}, (n, *shape), where the
        last of the other axes of the cotangent is n.
        """
        lead, n_out = cotangent.shape[:-3], len(self.weight) // self.groups
        result = np.empty((*lead, *self.matrix_shape), cotangent.dtype)
        for image in range(len(y)):
            for g, patches in enumerate(self.patches(y[image : image + 1])[0]):
                channels = slice(g * n_out, (g + 1) * n_out)
                here = cotangent[..., image, channels, :, :].reshape(*lead[:-1], n_out, -1)
                result[..., image, channels, :] = here @ patches.T
        return result

    def patches(self, y: Array) -> Array:
        """What the kernel sees at each position: (n, groups, kernel size, positions)."""
        _, height, width = self.output_shape(y.shape[1:])
        padded, n_in = pad(y, self.padding), y.shape[1] // self.groups
        shape = (len(y), self.groups, self.matrix_shape[1], height * width)
        result = np.empty(shape, y.dtype)
        for image in range(len(y)):
            for g in range(self.groups):
                part = padded[image : image + 1, g * n_in : (g + 1) * n_in]
                gather_patches(
                    part, 0, 1, 0, height, width,
                    self.window.size, self.stride, self.dilation, result[image, g],
                )  # fmt: skip
        return result


def folded_batch_norm(
    layer: Any,
    *,
    mean: npt.ArrayLike,
    variance: npt.ArrayLike,
    gamma: npt.ArrayLike = 1.0,
    beta: npt.ArrayLike = 0.0,
    epsilon: float = 1e-5,
) -> Any:
    """The layer with a batch normalisation of what it sends folded into its weights.

    gamma (z - mean) / sqrt(variance + epsilon) + beta; equal to rounding.

    Parameters
    ----------
    layer : Dense or Conv2D
        Without an activation, which would stand between.
    mean, variance, gamma, beta : array_like, shape (channels_out,)
        The statistics that training kept, not those of a batch.
    epsilon : float

    Raises
    ------
    InputError
        If the layer has an activation, or a value is not finite or has a wrong shape.

    Examples
    --------
    >>> layer = Dense(weight=[[2.0]], bias=[1.0])
    >>> folded_batch_norm(layer, mean=[1.0], variance=[3.0], epsilon=1.0).weight
    array([[1.]])
    """
    if not isinstance(layer, Dense | Conv2D) or layer.activation.kind != "identity":
        raise InputError(
            f"layer: expected a Dense or Conv2D without an activation, got {layer!r}; what comes "
            "after an activation is an Affine layer of its own"
        )
    spread = np.asarray(variance, np.float64) + epsilon
    if not (np.isfinite(spread).all() and (spread > 0).all()):
        raise InputError(f"variance: expected variance + epsilon above 0, got {spread.min():g}")
    shape = (len(layer.weight),)
    try:
        scale = np.broadcast_to(np.asarray(gamma, np.float64) / np.sqrt(spread), shape)
        shift = np.broadcast_to(np.asarray(beta, np.float64), shape)
        centre = np.broadcast_to(np.asarray(mean, np.float64), shape)
    except ValueError as error:
        raise InputError(
            f"mean, variance, gamma, beta: expected one value for each of {shape[0]} channels, "
            f"got {error}"
        ) from error
    columns = scale.reshape(-1, *(1,) * (layer.weight.ndim - 1))
    return replace(layer, weight=layer.weight * columns, bias=(layer.bias - centre) * scale + shift)
