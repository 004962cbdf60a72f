"""Activations that are one of the network's between a factor in front and one behind."""

import numpy as np

from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers import Array

__all__ = ["SELU_ALPHA", "SELU_SCALE", "bound", "celu", "clamped", "elu", "hard_sigmoid", "selu"]

# Of selu: the fixed point of mean 0 and variance 1.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def bound(values: Array) -> float:
    """A bound of all values."""
    different = np.unique(values)
    if len(different) != 1:
        raise UnreadableError(f"expected one bound of all values, got {len(different)}")
    return float(different[0])


def clamped(x: Tensor, low: float | None, high: float | None) -> Tensor:
    """The nearest value between two bounds: relu, relu6 or hard tanh, rescaled."""
    if high is not None and high >= np.finfo(np.float32).max:
        high = None
    if low is not None and high is not None and low < 0 < high:
        return x.times(1 / high).activated("hard_tanh", -low / high).times(high)
    if low != 0 or (high is not None and high <= 0):
        raise UnreadableError(
            "expected a clamp between two numbers, from 0 or less to more, or from 0 on, as a "
            f"dead neuron sends 0, got {low} to {high}"
        )
    if high is None:
        return x.activated("relu")
    return x.times(6 / high).activated("relu6").times(high / 6)


def elu(x: Tensor, alpha: float, *, scale: float = 1.0, spread: float = 1.0) -> Tensor:
    """Scale z above 0, scale alpha (exp(spread z) - 1) below: elu, selu or celu.

    The neuron sends an elu of a scaled value; the factor that is left is folded in behind.
    """
    if not (alpha > 0 and scale > 0 and spread > 0):
        raise UnreadableError(
            f"expected an elu with an alpha and factors above 0, got {alpha}, {scale}, {spread}"
        )
    return x.times(spread).activated("elu", alpha * spread).times(scale / spread)


def selu(x: Tensor) -> Tensor:
    """The elu that keeps mean 0 and variance 1."""
    return elu(x, SELU_ALPHA, scale=SELU_SCALE)


def celu(x: Tensor, alpha: float) -> Tensor:
    """max(z, 0) + alpha (exp(min(z, 0) / alpha) - 1)."""
    if not alpha > 0:
        raise UnreadableError(f"expected a celu with an alpha above 0, got {alpha}")
    return elu(x, alpha, spread=1 / alpha)


def hard_sigmoid(x: Tensor, slope: float, shift: float) -> Tensor:
    """Slope * z + shift between 0 and 1."""
    if slope <= 0:
        raise UnreadableError(f"expected a hard sigmoid with a slope above 0, got {slope}")
    return clamped(x.times(slope).plus(shift), 0, 1)
