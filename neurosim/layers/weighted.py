"""What layers with weights have in common, and the fully connected one."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from neurosim.errors import InputError
from neurosim.layers.activation import Activation
from neurosim.layers.arrays import Array, Shape, frozen, one_product
from neurosim.layers.threads import for_each, slices

__all__ = ["Dense", "Weighted"]

# Weights and inputs of one product: large enough for BLAS, small enough to share out.
_PART_WEIGHTS, _PART_INPUTS = 2**20, 512


@dataclass(frozen=True, kw_only=True, eq=False)
class Weighted:
    """A layer with weights, whose outputs are neurons: weight, bias and activation, checked.

    The first axis of the weight runs over units that share a bias.
    """

    weight: Array
    bias: Array
    activation: Activation = field(default_factory=lambda: Activation("identity"))

    # How the shape of the weight is written in messages.
    _WRITTEN: ClassVar[tuple[str, ...]] = ("n_out", "n_in")

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", Activation.of(self.activation))
        for name in ("weight", "bias"):
            try:
                array = frozen(getattr(self, name), np.float64)
            except (TypeError, ValueError) as error:
                raise InputError(f"{name}: expected real numbers, got {error}") from error
            object.__setattr__(self, name, array)
        if self.weight.ndim != len(self._WRITTEN) or 0 in self.weight.shape:
            raise InputError(
                f"weight: expected shape ({', '.join(self._WRITTEN)}), got {self.weight.shape}"
            )
        if self.bias.shape != self.weight.shape[:1]:
            raise InputError(
                f"bias: expected shape {self.weight.shape[:1]} as the weight is "
                f"{self.weight.shape}, got {self.bias.shape}"
            )
        for name in ("weight", "bias"):
            if np.isfinite(getattr(self, name)).all():
                continue
            bad = np.argwhere(~np.isfinite(getattr(self, name)))
            raise InputError(
                f"{name}: expected finite numbers, got {getattr(self, name)[tuple(bad[0])]} "
                f"at {tuple(int(i) for i in bad[0])} ({len(bad)} such values); "
                "did the training diverge?"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Without copies of the weights in other forms."""
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Shape of the weights as the matrix that a crossbar holds: (n_out, n_in)."""
        return len(self.weight), self.weight.size // len(self.weight)

    def weight_as(self, dtype: np.dtype[Any]) -> Array:
        """The weight in a dtype; the copy in single precision is made once."""
        if dtype != np.float32:
            return self.weight.astype(dtype, copy=False)
        if "_single" not in self.__dict__:
            self.__dict__["_single"] = frozen(self.weight, np.float32)
        single: Array = self.__dict__["_single"]
        return single


@dataclass(frozen=True, kw_only=True, eq=False)
class Dense(Weighted):
    """A fully connected layer: y_l = phi(W_l y_{l-1} + b_l).

    Parameters
    ----------
    weight : array_like, shape (n_out, n_in)
        W_l, finite; kept as float64.
    bias : array_like, shape (n_out,)
        b_l, finite.
    activation : Activation or str
        phi.

    Raises
    ------
    InputError
        If a shape is wrong or a value is not finite.

    Examples
    --------
    >>> Dense(weight=[[1, 2]], bias=[1], activation=Activation("relu"))(np.array([[1.0, 1.0]]))
    array([[4.]])
    """

    @property
    def n_in(self) -> int:
        """Number of inputs (columns of W_l)."""
        return int(self.weight.shape[1])

    @property
    def n_out(self) -> int:
        """Number of neurons (rows of W_l)."""
        return int(self.weight.shape[0])

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of what an input of a shape becomes.

        Raises
        ------
        InputError
            If the layer takes no such input.
        """
        if shape != (self.n_in,):
            raise InputError(
                f"weight: expected {shape[0] if len(shape) == 1 else shape} inputs, what comes "
                f"before, got a weight (n_out, n_in) of {self.weight.shape}"
                + ("; is a Flatten missing?" if len(shape) > 1 else "; is it transposed?")
            )
        return (self.n_out,)

    def preactivation(self, y: Array) -> Array:
        """z_l = W_l y_{l-1} + b_l for y of shape (..., n_in), in the dtype of y."""
        weight, bias = self.weight_as(y.dtype), self.bias.astype(y.dtype, copy=False)
        flat = y.reshape(-1, self.n_in)
        z = np.empty((len(flat), self.n_out), y.dtype)

        def compute(part: tuple[slice, slice]) -> None:
            some, out = part
            np.matmul(flat[some], weight[out].T, out=z[some, out])
            z[some, out] += bias[out]

        outputs = slices(self.n_out, max(16, _PART_WEIGHTS // self.n_in))
        for_each(
            [(some, out) for some in slices(len(flat), _PART_INPUTS) for out in outputs], compute
        )
        return z.reshape(*y.shape[:-1], self.n_out)

    def __call__(self, y: Array) -> Array:
        """y_l for y_{l-1} of shape (..., n_in)."""
        return self.activation(self.preactivation(y))

    def push_forward(self, dy: Array, y: Array | None = None) -> Array:
        """Change of z_l, (..., n_out), that the change dy, (..., n_in), of y_{l-1} makes."""
        return one_product(dy, self.weight_as(dy.dtype).T)

    def pull_back(self, cotangent: Array, y: Array | None = None) -> Array:
        """Derivative by y_{l-1}, (..., n_in), from the derivative by z_l, (..., n_out)."""
        return one_product(cotangent, self.weight_as(cotangent.dtype))

    def weight_gradient(self, cotangent: Array, y: Array) -> Array:
        """Derivative by the weight matrix, (..., n_out, n_in), one an input.

        cotangent: derivative by z_l, (..., n_out); y: y_{l-1}, (..., n_in).
        """
        return cotangent[..., :, None] * y[..., None, :]
