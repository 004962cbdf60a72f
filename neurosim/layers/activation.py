"""Elementwise activation functions: values, derivatives, and changes without cancellation."""

import re
from dataclasses import dataclass

import numpy as np

from neurosim.errors import InputError
from neurosim.layers.arrays import Array
from neurosim.layers.elementwise import (
    bell,
    clip_change,
    gelu_gate,
    gelu_gate_change,
    gelu_gate_derivatives,
    logistic,
    logistic_change,
    logistic_slope,
    mish_gate,
    mish_gate_change,
    mish_gate_derivatives,
    normal,
    normal_change,
    part_of_six,
    scaled,
    soft_clip_change,
    softplus,
    softplus_change,
)

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
    "gelu_tanh": None,
    "mish": None,
    "elu": 1.0,
    "hard_tanh": 1.0,
}
_SPELLING = re.compile(r"\s*([a-z_0-9]+)\s*(?:\(\s*([^()]*?)\s*\))?\s*")

# The second derivative of elu(1) jumps, the first one of the others.
_KINKED = ("relu", "leaky_relu", "relu6", "hard_swish", "elu", "hard_tanh")

# Largest slopes, where they are not 1: at 2.399, at the square root of 2, at 3, 1.419 and 1.491.
_LIPSCHITZ = {
    "silu": 1.0998393194498374,
    "gelu": 1.1289041451851823,
    "hard_swish": 1.5,
    "gelu_tanh": 1.1289930686577718,
    "mish": 1.0884981612511578,
}

# Where activations that do not rise everywhere are least: they fall before it and rise behind it.
_LEAST_AT = {
    "silu": -1.2784645427610738,
    "gelu": -0.7517915246935645,
    "hard_swish": -1.5,
    "gelu_tanh": -0.7524614220710163,
    "mish": -1.1924312145154952,
}


@dataclass(frozen=True)
class Activation:
    """An elementwise activation function with its derivatives.

    Parameters
    ----------
    kind : str
        "identity", "relu", "leaky_relu", "relu6", "hard_swish", "sigmoid", "tanh", "softplus",
        "soft_clip" (softplus(z) - softplus(z - top)), "soft_leaky_relu" (slope z + (1 - slope)
        softplus(z)), "silu" (z sigma(z)), "gelu" (z Phi(z)), "gelu_tanh" (the same by tanh, z / 2
        (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3)))), "mish" (z tanh(softplus(z))), "elu" (alpha
        (exp(z) - 1) below 0) or "hard_tanh" (min(max(z, -bottom), 1)).
    parameter : float
        The gain of a sigmoid, 1 / (1 + exp(-gain z)); the top of a soft clip; the slope of a leaky
        relu, soft or not, below 0; the alpha of an elu; the bottom of a hard tanh, which is 1 by
        default; otherwise 0 and unused.

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
        above = {"sigmoid": "gain", "soft_clip": "top", "elu": "alpha", "hard_tanh": "bottom"}
        positive = bool(np.isfinite(self.parameter)) and self.parameter > 0
        if self.kind in above and not positive:
            raise InputError(
                f"activation: expected {self.kind}({above[self.kind]} > 0), got {self}"
            )
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
        if self.kind == "elu":
            return max(1.0, self.parameter)
        return self.parameter / 4 if self.kind == "sigmoid" else _LIPSCHITZ.get(self.kind, 1.0)

    @property
    def smooth(self) -> bool:
        """Whether every derivative exists everywhere."""
        return self.kind not in _KINKED

    def interval(self, low: Array, high: Array) -> tuple[Array, Array]:
        """The least and the greatest phi(z) for low <= z <= high, elementwise.

        Examples
        --------
        >>> Activation("hard_swish").interval(np.array([-3.0]), np.array([0.0]))
        (array([-0.375]), array([0.]))
        """
        ends = self(low), self(high)
        if self.kind not in _LEAST_AT:
            return ends
        lowest = self(np.clip(np.full_like(low, _LEAST_AT[self.kind]), low, high))
        return lowest, np.maximum(*ends)

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
                return logistic(scaled(self.parameter, z))
            case "tanh":
                return np.tanh(z)
            case "softplus":
                return softplus(z)
            case "soft_clip":
                return -softplus_change(z, np.full_like(z, -self.parameter))
            case "soft_leaky_relu":
                slope = z.dtype.type(self.parameter)
                return slope * z + (1 - slope) * softplus(z)
            case "relu6":
                return np.clip(z, 0, 6)
            case "hard_swish":
                return z * part_of_six(z)
            case "silu":
                return z * logistic(z)
            case "gelu_tanh":
                return z * gelu_gate(z)
            case "mish":
                return z * mish_gate(z)
            case "elu":
                return np.where(z > 0, z, scaled(self.parameter, np.expm1(np.minimum(z, 0))))
            case "hard_tanh":
                return np.clip(z, z.dtype.type(-self.parameter), 1)
            case _:
                return z * normal(z)

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
                return clip_change(z, dz, 0, 6)
            case "hard_tanh":
                return clip_change(z, dz, -self.parameter, 1)
            case "elu":
                above = np.maximum(dz + np.minimum(z, 0), -np.maximum(z, 0))
                start = np.minimum(z, 0)
                below = np.minimum(dz + np.maximum(z, 0), -start)  # the change of min(z, 0)
                top = np.where(below > 0, start + below, start)
                step = -np.sign(below) * np.expm1(-np.abs(below)) * np.exp(top)
                return above + scaled(self.parameter, step)
            case "hard_swish":
                part = part_of_six(z)
                over = (z / 6 + z.dtype.type(0.5)) - part
                return dz * part_of_six(z + dz) + z * np.clip(dz / 6 + over, -part, 1 - part)
            case "sigmoid":
                return logistic_change(*(scaled(self.parameter, t) for t in (z, dz)))
            case "tanh":
                return 2 * logistic_change(scaled(2, z), scaled(2, dz))
            case "softplus":
                return softplus_change(z, dz)
            case "soft_clip":
                return soft_clip_change(z, dz, z.dtype.type(self.parameter))
            case "soft_leaky_relu":
                slope = z.dtype.type(self.parameter)
                return slope * dz + (1 - slope) * softplus_change(z, dz)
            case "silu":
                return dz * logistic(z + dz) + z * logistic_change(z, dz)
            case "gelu_tanh":
                return dz * gelu_gate(z + dz) + z * gelu_gate_change(z, dz)
            case "mish":
                return dz * mish_gate(z + dz) + z * mish_gate_change(z, dz)
            case _:
                return dz * normal(z + dz) + z * normal_change(z, dz)

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
                slope = logistic_slope(scaled(self.parameter, z))
                return z.dtype.type(self.parameter) * slope
            case "tanh":
                return 4 * logistic_slope(scaled(2, z))
            case "softplus":
                return logistic(z)
            case "soft_clip":
                return -logistic_change(z, np.full_like(z, -self.parameter))
            case "soft_leaky_relu":
                slope = z.dtype.type(self.parameter)
                return slope + (1 - slope) * logistic(z)
            case "relu6":
                return ((z > 0) & (z <= 6)).astype(z.dtype)
            case "hard_swish":
                bent = (z > -3) & (z <= 3)
                return np.where(bent, z / 3 + z.dtype.type(0.5), (z > 3).astype(z.dtype))
            case "silu":
                return logistic(z) + z * logistic_slope(z)
            case "gelu_tanh":
                return gelu_gate(z) + z * gelu_gate_derivatives(z)[0]
            case "mish":
                return mish_gate(z) + z * mish_gate_derivatives(z)[0]
            case "elu":
                below = scaled(self.parameter, np.exp(np.minimum(z, 0)))
                return np.where(z > 0, z.dtype.type(1), below)
            case "hard_tanh":
                return ((z > -self.parameter) & (z <= 1)).astype(z.dtype)
            case _:
                return normal(z) + z * bell(z)

    def second_derivative(self, z: Array) -> Array:
        """phi''(z), elementwise; it cannot show kinks, beside which it is 0 if phi is linear."""
        match self.kind:
            case "sigmoid":
                slope, bend = self.derivative(z), np.tanh(scaled(self.parameter / 2, z))
                return -z.dtype.type(self.parameter) * slope * bend
            case "tanh":
                return -2 * np.tanh(z) * self.derivative(z)
            case "softplus":
                return logistic_slope(z)
            case "soft_clip":
                return logistic_slope(z) - logistic_slope(z - z.dtype.type(self.parameter))
            case "soft_leaky_relu":
                return z.dtype.type(1 - self.parameter) * logistic_slope(z)
            case "silu":
                return logistic_slope(z) * (2 - z * np.tanh(z / 2))
            case "gelu":
                return bell(z) * (2 - np.clip(z, -40, 40) ** 2)  # further out it is 0
            case "gelu_tanh" | "mish":
                of = gelu_gate_derivatives if self.kind == "gelu_tanh" else mish_gate_derivatives
                first, second = of(z)
                return 2 * first + z * second
            case "elu":
                below = scaled(self.parameter, np.exp(np.minimum(z, 0)))
                return np.where(z > 0, z.dtype.type(0), below)
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
