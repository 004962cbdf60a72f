"""Affine steps gathered in float64 until an activation or the next weight makes a layer of them.

So biases, scalers and batch normalisation are folded. Functions of arrays in the order in which the
values are stored; what the axes of a graph mean is left to `Tensor` (neurosim.formats.tensor).
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from neurosim.layers import Activation, Affine, Array, Conv2D, Dense, Shape

__all__ = ["OpenStep"]


@dataclass(frozen=True, eq=False)
class OpenStep:
    """gain * (weight @ y + shift), or gain * (scale * y + shift) while weight is None.

    The gain is a positive scalar that is kept apart, as it may turn out to be that of a sigmoid.

    Parameters
    ----------
    weight, window
        A matrix, or a kernel and the keywords of Conv2D.
    scale, shift
        Alike in shape to the stored values (they may lack what broadcasting adds); behind a weight,
        one shift a unit or channel.
    gain
    """

    weight: Array | None = None
    window: dict[str, Any] | None = None
    scale: Array | float = 1.0
    shift: Array | float = 0.0
    gain: float = 1.0

    @property
    def bare(self) -> bool:
        """Whether it does nothing."""
        return (
            self.weight is None
            and self.gain == 1
            and not np.any(self.shift)
            and bool(np.all(np.asarray(self.scale) == 1))
        )

    def plain(self) -> "OpenStep":
        """The same with the gain multiplied in."""
        shift = self.gain * np.asarray(self.shift)
        if self.weight is None:
            return replace(self, scale=self.gain * np.asarray(self.scale), shift=shift, gain=1.0)
        return replace(self, weight=self.gain * self.weight, shift=shift, gain=1.0)

    def then(self, factor: Array, term: Array, stored: Shape | None) -> "OpenStep | None":
        """Factor * (this, plain) + term; None where a weight has no one value a unit of them."""
        if self.weight is None:
            scale = np.asarray(self.scale) * factor
            return replace(self, scale=scale, shift=np.asarray(self.shift) * factor + term)
        assert stored is not None
        n = len(self.weight)
        factors, terms = (_per_row(part, n, stored) for part in (factor, term))
        if factors is None or terms is None:
            return None
        columns = factors.reshape(-1, *(1,) * (self.weight.ndim - 1))
        shift = np.asarray(self.shift) * factors + terms
        return replace(self, weight=columns * self.weight, shift=shift)

    def through(self, weight: Array, stored: Shape | None) -> "OpenStep":
        """Weight @ (this, which has none)."""
        scale, shift = (_flat(part, weight.shape[1], stored) for part in (self.scale, self.shift))
        return OpenStep(weight=weight * scale, shift=weight @ shift)

    def convolved(self, kernel: Array, window: dict[str, Any], stored: Shape) -> "OpenStep | None":
        """A kernel over this, which has no weight; None where it is not one value a channel.

        Nor may it shift a map with zeros around it, which do not shift with it.
        """
        channels, groups = stored[0], window["groups"]
        scale, shift = (_per_row(part, channels, stored) for part in (self.scale, self.shift))
        if scale is None or shift is None or (shift.any() and np.any(window["padding"])):
            return None
        inputs = np.arange(channels).reshape(groups, -1)
        inputs = np.repeat(inputs, len(kernel) // groups, axis=0)  # those that each output sees
        bias = np.einsum("oihw,oi->o", kernel, shift[inputs])
        return OpenStep(weight=kernel * scale[inputs][:, :, None, None], window=window, shift=bias)

    def weighted_layer(self, activation: Activation) -> Dense | Conv2D:
        """The layer of a weight and an activation."""
        assert self.weight is not None
        shift = np.broadcast_to(np.asarray(self.shift, np.float64), (len(self.weight),))
        if self.window is None:
            return Dense(weight=self.weight, bias=shift, activation=activation)
        return Conv2D(weight=self.weight, bias=shift, activation=activation, **self.window)

    def affine_layer(self, activation: Activation, stored: Shape) -> tuple[Affine, Shape]:
        """The layer of a step without a weight, one scale a channel or value, and what it takes."""
        shape = stored
        scale, shift = (_per_row(part, stored[0], stored) for part in (self.scale, self.shift))
        if scale is None or shift is None:
            shape = (prod(stored),)
            scale, shift = (_flat(part, shape[0], stored) for part in (self.scale, self.shift))
        return Affine(scale=scale, shift=shift, activation=activation), shape

    def viewed(self, before: Shape, shape: Shape) -> "OpenStep":
        """The same for the same values in another shape."""
        if self.weight is not None:
            return self
        scale, shift = (
            np.asarray(part) if np.size(part) == 1 else np.broadcast_to(part, before).reshape(shape)
            for part in (self.scale, self.shift)
        )
        return replace(self, scale=scale, shift=shift)

    def transposed(self, before: Shape, axes: tuple[int, ...], shape: Shape) -> "OpenStep":
        """The same, without a weight, for the values with their axes in another order, reshaped."""
        scale, shift = (
            np.asarray(part)
            if np.size(part) == 1
            else np.broadcast_to(part, before).transpose(axes).reshape(shape)
            for part in (self.scale, self.shift)
        )
        return replace(self, scale=scale, shift=shift)


def _flat(part: Array | float, n: int, stored: Shape | None) -> Array:
    """A scale or shift as one value for each of n stored values."""
    if np.size(part) > 1 and stored is not None and 0 not in stored:
        part = np.broadcast_to(part, stored).ravel()
    return np.broadcast_to(np.asarray(part, np.float64), (n,))


def _per_row(part: Array | float, n: int, stored: Shape) -> Array | None:
    """A scale or shift as one value for each of n units or channels, if it is that."""
    rows = np.broadcast_to(np.asarray(part, np.float64), stored).reshape(n, -1)
    return rows[:, 0] if (rows == rows[:, :1]).all() else None
