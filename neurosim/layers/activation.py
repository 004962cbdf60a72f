"""Elementwise activation functions: values, derivatives, and changes without cancellation."""

import re
from dataclasses import dataclass

import numpy as np

from neurosim.errors import InputError
from neurosim.layers.arrays import Array

__all__ = ["Activation", "softmax", "softmax_change"]

# The value is the parameter when none is written; None: the activation takes no parameter.
_DEFAULT_PARAMETER: dict[str, float | None] = {
    "identity": None,
    "relu": None,
    "leaky_relu": 0.01,
    "relu6": None,
    "hard_swish": None,
    "sigmoid": 1.0,
    "tanh": None,
    "softplus": None,
    "soft_clip": 6.0,
    "soft_leaky_relu": 0.01,
    "silu": None,
    "gelu": None,
}
_SPELLING = re.compile(r"\s*([a-z_0-9]+)\s*(?:\(\s*([^()]*?)\s*\))?\s*")

_KINKED = ("relu", "leaky_relu", "relu6", "hard_swish")

# Largest slopes, where they are not 1: at 2.399, at the square root of 2, and at 3.
_LIPSCHITZ = {"silu": 1.0998393194498374, "gelu": 1.1289041451851823, "hard_swish": 1.5}

# Nodes and weights of Gauss and Legendre on [0, 1]: enough for the bell of Gauss over a step of 1.
_NODES, _WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(12))
_NODES = _NODES + 0.5


def _logistic(t: Array) -> Array:
    """1 / (1 + exp(-t)) without overflow."""
    e = np.exp(-np.abs(t))
    return np.where(t >= 0, 1, e) / (1 + e)


def _logistic_slope(t: Array) -> Array:
    """The derivative of `_logistic`; s * (1 - s) would be 0 far above 0 and right far below."""
    e = np.exp(-np.abs(t))
    return e / (1 + e) ** 2


def _logistic_change(t: Array, d: Array) -> Array:
    """sigma(t + d) - sigma(t) to full relative precision."""
    up = d >= 0
    share = _logistic(np.where(up, -t, t)) * _logistic(np.where(up, t + d, -t - d))
    return np.where(up, 1, -1) * -np.expm1(-np.abs(d)) * share


def _bell(z: Array) -> Array:
    """Density of the standard normal law."""
    return np.exp(-0.5 * z * z) * z.dtype.type(1 / np.sqrt(2 * np.pi))


def _normal(z: Array) -> Array:
    """Distribution function of the standard normal law."""
    from scipy.special import ndtr

    value: Array = ndtr(z)
    return value


def _normal_change(z: Array, d: Array) -> Array:
    """Change of `_normal`: small steps by quadrature of the density, which does not cancel."""
    near = np.clip(d, -1, 1)
    mean = sum(w.astype(z.dtype) * _bell(z + n.astype(z.dtype) * near)
               for n, w in zip(_NODES, _WEIGHTS, strict=True))  # fmt: skip
    return np.where(np.abs(d) <= 1, d * mean, _normal(z + d) - _normal(z))


def _softplus(z: Array) -> Array:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def _softplus_change(z: Array, d: Array) -> Array:
    """log((1 + exp(z + d)) / (1 + exp(z))) in the form that does not cancel where z lies."""
    near, small = np.clip(d, -50, 50), _logistic(-np.abs(z))
    below = np.log1p(small * np.expm1(np.where(z <= 0, near, -near)))
    return np.where(
        np.abs(d) > 50, _softplus(z + d) - _softplus(z), np.where(z <= 0, below, d + below)
    )


def _soft_clip_change(z: Array, d: Array, top: Array) -> Array:
    """The same of softplus(z) - softplus(z - top), odd about top / 2, from the lower side."""
    above = z > top / 2
    low, step = np.where(above, top - z, z), np.where(above, -d, d)
    change = _softplus_change(low, step) - _softplus_change(low - top, step)
    return np.where(above, -change, change)


def _part_of_six(z: Array) -> Array:
    """min(max(z + 3, 0), 6) / 6."""
    return np.clip(z / 6 + z.dtype.type(0.5), 0, 1)


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
        "identity", "relu", "leaky_relu", "relu6", "hard_swish", "sigmoid", "tanh", "softplus",
        "soft_clip" (softplus(z) - softplus(z - top)), "soft_leaky_relu" (slope z + (1 - slope)
        softplus(z)), "silu" (z sigma(z)) or "gelu" (z Phi(z)).
    parameter : float
        The gain of a sigmoid, 1 / (1 + exp(-gain z)); the top of a soft clip; the slope of a leaky
        relu, soft or not, below 0; otherwise 0 and unused.

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
        if self.kind == "soft_clip" and not (np.isfinite(self.parameter) and self.parameter > 0):
            raise InputError(f"activation: expected soft_clip(top > 0), got {self}")
        if self.kind in ("leaky_relu", "soft_leaky_relu") and not (0 <= self.parameter <= 1):
            raise InputError(f"activation: expected {self.kind}(slope in [0, 1]), got {self}")

    @staticmethod
    def of(given: "Activation | str") -> "Activation":
        """An activation, or the one that a text names.

        Raises
        ------
        InputError
            If it is neither.

        Examples
        --------
        >>> Activation.of("relu") == Activation.of(Activation("relu"))
        True
        """
        if isinstance(given, Activation):
            return given
        if not isinstance(given, str):
            raise InputError(
                f'activation: expected an Activation, or a name such as "relu", got {given!r}'
            )
        return Activation.parse(given)

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
        if self.kind == "soft_clip":
            return float(np.tanh(self.parameter / 4))
        return self.parameter / 4 if self.kind == "sigmoid" else _LIPSCHITZ.get(self.kind, 1.0)

    @property
    def smooth(self) -> bool:
        """Whether every derivative exists everywhere."""
        return self.kind not in _KINKED

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
            case "softplus":
                return _softplus(z)
            case "soft_clip":
                return -_softplus_change(z, np.full_like(z, -self.parameter))
            case "soft_leaky_relu":
                slope = z.dtype.type(self.parameter)
                return slope * z + (1 - slope) * _softplus(z)
            case "relu6":
                return np.clip(z, 0, 6)
            case "hard_swish":
                return z * _part_of_six(z)
            case "silu":
                return z * _logistic(z)
            case _:
                return z * _normal(z)

    def overwrite(self, z: Array) -> None:
        """Put phi(z) in the place of z."""
        match self.kind:
            case "identity":
                return
            case "relu":
                np.maximum(z, 0, out=z)
            case "relu6":
                np.clip(z, 0, 6, out=z)
            case _:
                z[...] = self(z)

    def change(self, z: Array, dz: Array) -> Array:
        """phi(z + dz) - phi(z), elementwise, without the cancellation of the two.

        Parameters
        ----------
        z, dz : ndarray
            Of shapes that broadcast and one dtype.

        Examples
        --------
        >>> Activation("silu").change(np.array([0.0]), np.array([1e-20]))
        array([5.e-21])
        """
        match self.kind:
            case "identity":
                return dz
            case "relu":
                return np.maximum(dz + np.minimum(z, 0), -np.maximum(z, 0))
            case "leaky_relu":
                slope = z.dtype.type(self.parameter)
                above = np.maximum(dz + np.minimum(z, 0), -np.maximum(z, 0))
                return slope * dz + (1 - slope) * above
            case "relu6":
                y = np.clip(z, 0, 6)
                return np.clip(dz + (z - y), -y, 6 - y)
            case "hard_swish":
                part = _part_of_six(z)
                over = (z / 6 + z.dtype.type(0.5)) - part
                return dz * _part_of_six(z + dz) + z * np.clip(dz / 6 + over, -part, 1 - part)
            case "sigmoid":
                return _logistic_change(*(_scaled(self.parameter, t) for t in (z, dz)))
            case "tanh":
                return 2 * _logistic_change(_scaled(2, z), _scaled(2, dz))
            case "softplus":
                return _softplus_change(z, dz)
            case "soft_clip":
                return _soft_clip_change(z, dz, z.dtype.type(self.parameter))
            case "soft_leaky_relu":
                slope = z.dtype.type(self.parameter)
                return slope * dz + (1 - slope) * _softplus_change(z, dz)
            case "silu":
                return dz * _logistic(z + dz) + z * _logistic_change(z, dz)
            case _:
                return dz * _normal(z + dz) + z * _normal_change(z, dz)

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
            case "softplus":
                return _logistic(z)
            case "soft_clip":
                return -_logistic_change(z, np.full_like(z, -self.parameter))
            case "soft_leaky_relu":
                slope = z.dtype.type(self.parameter)
                return slope + (1 - slope) * _logistic(z)
            case "relu6":
                return ((z > 0) & (z <= 6)).astype(z.dtype)
            case "hard_swish":
                bent = (z > -3) & (z <= 3)
                return np.where(bent, z / 3 + z.dtype.type(0.5), (z > 3).astype(z.dtype))
            case "silu":
                return _logistic(z) + z * _logistic_slope(z)
            case _:
                return _normal(z) + z * _bell(z)

    def second_derivative(self, z: Array) -> Array:
        """phi''(z), elementwise; it cannot show kinks, beside which it is 0 if phi is linear."""
        match self.kind:
            case "sigmoid":
                slope, bend = self.derivative(z), np.tanh(_scaled(self.parameter / 2, z))
                return -z.dtype.type(self.parameter) * slope * bend
            case "tanh":
                return -2 * np.tanh(z) * self.derivative(z)
            case "softplus":
                return _logistic_slope(z)
            case "soft_clip":
                return _logistic_slope(z) - _logistic_slope(z - z.dtype.type(self.parameter))
            case "soft_leaky_relu":
                return z.dtype.type(1 - self.parameter) * _logistic_slope(z)
            case "silu":
                return _logistic_slope(z) * (2 - z * np.tanh(z / 2))
            case "gelu":
                return _bell(z) * (2 - z * z)
            case "hard_swish":
                return np.where((z > -3) & (z <= 3), z.dtype.type(1 / 3), z.dtype.type(0))
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


def softmax_change(logits: Array, rows: Array, dy: Array) -> Array:
    """Changes of softmax outputs, (n, n_outputs), that changes of logits make; float64.

    p_k (e_k - T) / T with e = exp(dy - max dy) and T = sum p_j e_j; where T is near 1 the same by
    expm1, so that small changes keep their relative accuracy.

    Parameters
    ----------
    logits : ndarray, (n_inputs, n_outputs)
        Golden ones.
    rows : ndarray of int, (n,)
        Which of the inputs each change belongs to.
    dy : ndarray, (n, n_outputs)
        Changes of the logits.

    Examples
    --------
    >>> softmax_change(np.zeros((1, 2)), np.array([0]), np.array([[0.0, np.log(3)]]))
    array([[-0.25,  0.25]])
    """
    logits, dy = logits.astype(np.float64, copy=False), dy.astype(np.float64, copy=False)
    p = softmax(logits)[rows]
    below = dy - dy.max(axis=1, keepdims=True)
    e, minus = np.exp(below), np.expm1(below)
    total = (p * e).sum(axis=1, keepdims=True)
    difference = np.where(total < 0.5, e - total, minus - (p * minus).sum(axis=1, keepdims=True))
    # Where all golden mass sits on logits that fell out of range, T is 0: subtract outputs.
    lost = total[:, 0] < np.finfo(np.float64).tiny
    total[lost] = 1
    result = p * difference / total
    if lost.any():
        result[lost] = softmax(logits[rows[lost]] + dy[lost]) - p[lost]
    return np.asarray(result)
