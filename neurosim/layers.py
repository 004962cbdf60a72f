"""What a network is made of: activations and weighted layers, with their derivatives.

Functions of arrays only. The first axis of every array is the input (example), the last axis the
units. Layers count as in the paper: the inputs are layer 0, the output of the l-th weighted layer
is layer l.
"""

import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from neurosim.errors import InputError

__all__ = ["Activation", "Array", "Dense", "softmax"]

Array: TypeAlias = npt.NDArray[Any]

# The value is the parameter when none is written; None: the activation takes no parameter.
_DEFAULT_PARAMETER: dict[str, float | None] = {
    "identity": None,
    "relu": None,
    "leaky_relu": 0.01,
    "sigmoid": 1.0,
    "tanh": None,
    "softplus": None,
}
_SPELLING = re.compile(r"\s*([a-z_]+)\s*(?:\(\s*([^()]*?)\s*\))?\s*")


def _logistic(t: Array) -> Array:
    """1 / (1 + exp(-t)) without overflow."""
    e = np.exp(-np.abs(t))
    return np.where(t >= 0, 1, e) / (1 + e)


def _logistic_slope(t: Array) -> Array:
    """The derivative of `_logistic`; s * (1 - s) would be 0 far above 0 and right far below."""
    e = np.exp(-np.abs(t))
    return e / (1 + e) ** 2


def _scaled(factor: float, z: Array) -> Array:
    """Factor * z in the dtype of z; what is too large for it saturates as infinity does."""
    with np.errstate(over="ignore"):
        return z.dtype.type(factor) * z


@dataclass(frozen=True)
class Activation:
    """An elementwise activation function with its derivatives.

    Parameters
    ----------
    kind : str
        "identity", "relu", "leaky_relu", "sigmoid", "tanh" or "softplus".
    parameter : float
        The gain of a sigmoid, 1 / (1 + exp(-gain z)); the slope of a leaky relu below 0;
        otherwise 0 and unused.

    Raises
    ------
    InputError
        If the kind is unknown or the parameter is out of range.

    Examples
    --------
    >>> Activation.parse("sigmoid(4)").derivative(np.array([0.0]))
    array([1.])
    """

    kind: str
    parameter: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in _DEFAULT_PARAMETER:
            raise InputError(
                f"activation: expected one of {', '.join(_DEFAULT_PARAMETER)} "
                f"(or softmax as the last one of a network), got {self.kind!r}"
            )
        if self.kind == "sigmoid" and not (np.isfinite(self.parameter) and self.parameter > 0):
            raise InputError(f"activation: expected sigmoid(gain > 0), got {self}")
        if self.kind == "leaky_relu" and not (0 <= self.parameter <= 1):
            raise InputError(f"activation: expected leaky_relu(slope in [0, 1]), got {self}")

    @staticmethod
    def parse(text: str) -> "Activation":
        """Read an activation as it is written, for instance "relu" or "sigmoid(4)".

        Raises
        ------
        InputError
            If the text names no activation or its parameter is not a number in range.

        Examples
        --------
        >>> Activation.parse("leaky_relu(0.1)")
        Activation(kind='leaky_relu', parameter=0.1)
        """
        match = _SPELLING.fullmatch(text) if isinstance(text, str) else None
        if match is None or match[1] not in _DEFAULT_PARAMETER:
            raise InputError(
                f"activation: expected one of {', '.join(_DEFAULT_PARAMETER)} "
                f"(or softmax as the last one of a network), got {text!r}"
            )
        kind, written = match[1], match[2]
        default = _DEFAULT_PARAMETER[kind]
        if not written:
            return Activation(kind, default or 0.0)
        if default is None:
            raise InputError(f"activation: expected {kind} without a parameter, got {text!r}")
        try:
            return Activation(kind, float(written))
        except ValueError as error:
            raise InputError(
                f"activation: expected a number in {kind}(...), got {text!r}"
            ) from error

    def __str__(self) -> str:
        if _DEFAULT_PARAMETER[self.kind] is None:
            return self.kind
        return (
            f"{self.kind}({self.parameter:g})"
            if float(f"{self.parameter:g}") == self.parameter
            else f"{self.kind}({self.parameter!r})"
        )

    @property
    def lipschitz(self) -> float:
        """The largest slope (the K of footnote 1 of the paper)."""
        return self.parameter / 4 if self.kind == "sigmoid" else 1.0

    @property
    def smooth(self) -> bool:
        """Whether every derivative exists everywhere."""
        return self.kind not in ("relu", "leaky_relu")

    def __call__(self, z: Array) -> Array:
        """phi(z), elementwise, in the dtype of z."""
        match self.kind:
            case "identity":
                return z
            case "relu":
                return np.maximum(z, 0)
            case "leaky_relu":
                return np.where(z > 0, z, z.dtype.type(self.parameter) * z)
            case "sigmoid":
                return _logistic(_scaled(self.parameter, z))
            case "tanh":
                return np.tanh(z)
            case _:
                return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))

    def derivative(self, z: Array) -> Array:
        """phi'(z), elementwise; at a kink the slope from the left (0 for relu)."""
        match self.kind:
            case "identity":
                return np.ones_like(z)
            case "relu":
                return (z > 0).astype(z.dtype)
            case "leaky_relu":
                return np.where(z > 0, z.dtype.type(1), z.dtype.type(self.parameter))
            case "sigmoid":
                slope = _logistic_slope(_scaled(self.parameter, z))
                return z.dtype.type(self.parameter) * slope
            case "tanh":
                return 4 * _logistic_slope(_scaled(2, z))
            case _:
                return _logistic(z)

    def second_derivative(self, z: Array) -> Array:
        """phi''(z), elementwise; 0 for piecewise linear activations, whose kinks it cannot show."""
        match self.kind:
            case "sigmoid":
                slope, bend = self.derivative(z), np.tanh(_scaled(self.parameter / 2, z))
                return -z.dtype.type(self.parameter) * slope * bend
            case "tanh":
                return -2 * np.tanh(z) * self.derivative(z)
            case "softplus":
                return _logistic_slope(z)
            case _:
                return np.zeros_like(z)


def softmax(logits: Array) -> Array:
    """Softmax over the last axis.

    Examples
    --------
    >>> softmax(np.array([[0.0, 0.0]]))
    array([[0.5, 0.5]])
    """
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def frozen(array: npt.ArrayLike, dtype: npt.DTypeLike) -> Array:
    """A read-only copy, C order: values own their arrays."""
    copy = np.array(array, dtype=dtype, order="C")
    copy.setflags(write=False)
    return copy


def _one_product(stack: Array, matrix: Array) -> Array:
    """Stack (..., n) @ matrix as one product: NumPy would take one for each of the first axes."""
    flat = stack.reshape(-1, stack.shape[-1]) @ matrix
    return flat.reshape(*stack.shape[:-1], matrix.shape[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Dense:
    """A fully connected layer: y_l = phi(W_l y_{l-1} + b_l).

    Parameters
    ----------
    weight : array_like, shape (n_out, n_in)
        W_l, finite; kept as float64.
    bias : array_like, shape (n_out,)
        b_l, finite.
    activation : Activation
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

    weight: Array
    bias: Array
    activation: Activation = field(default_factory=lambda: Activation("identity"))

    def __post_init__(self) -> None:
        for name in ("weight", "bias"):
            try:
                array = frozen(getattr(self, name), np.float64)
            except (TypeError, ValueError) as error:
                raise InputError(f"{name}: expected real numbers, got {error}") from error
            object.__setattr__(self, name, array)
        if self.weight.ndim != 2 or 0 in self.weight.shape:
            raise InputError(f"weight: expected shape (n_out, n_in), got {self.weight.shape}")
        if self.bias.shape != self.weight.shape[:1]:
            raise InputError(
                f"bias: expected shape {self.weight.shape[:1]} as the weight is "
                f"{self.weight.shape}, got {self.bias.shape}"
            )
        for name in ("weight", "bias"):
            bad = np.argwhere(~np.isfinite(getattr(self, name)))
            if len(bad):
                raise InputError(
                    f"{name}: expected finite numbers, got {getattr(self, name)[tuple(bad[0])]} "
                    f"at {tuple(int(i) for i in bad[0])} ({len(bad)} such values); "
                    "did the training diverge?"
                )

    @property
    def n_in(self) -> int:
        """Number of inputs (columns of W_l)."""
        return int(self.weight.shape[1])

    @property
    def n_out(self) -> int:
        """Number of neurons (rows of W_l)."""
        return int(self.weight.shape[0])

    def preactivation(self, y: Array) -> Array:
        """z_l = W_l y_{l-1} + b_l for y of shape (..., n_in), in the dtype of y."""
        weight = self.weight.astype(y.dtype, copy=False)
        return y @ weight.T + self.bias.astype(y.dtype, copy=False)

    def __call__(self, y: Array) -> Array:
        """y_l for y_{l-1} of shape (..., n_in)."""
        return self.activation(self.preactivation(y))

    def push_forward(self, dy: Array) -> Array:
        """Change of z_l, (..., n_out), that the change dy, (..., n_in), of y_{l-1} makes."""
        return _one_product(dy, self.weight.astype(dy.dtype, copy=False).T)

    def pull_back(self, cotangent: Array) -> Array:
        """Derivative by y_{l-1}, (..., n_in), from the derivative by z_l, (..., n_out)."""
        return _one_product(cotangent, self.weight.astype(cotangent.dtype, copy=False))
