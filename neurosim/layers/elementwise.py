"""Elementwise functions and their changes without cancellation: what activations are made of."""

import numpy as np

from neurosim.layers.arrays import Array

__all__ = [
    "bell",
    "clip_change",
    "gelu_gate",
    "gelu_gate_change",
    "gelu_gate_derivatives",
    "logistic",
    "logistic_change",
    "logistic_slope",
    "mish_gate",
    "mish_gate_change",
    "mish_gate_derivatives",
    "normal",
    "normal_change",
    "part_of_six",
    "scaled",
    "soft_clip_change",
    "softplus",
    "softplus_change",
]

# Nodes and weights of Gauss and Legendre on [0, 1]: enough for the bell of Gauss over a step of 1.
_NODES, _WEIGHTS = (part / 2 for part in np.polynomial.legendre.leggauss(12))
_NODES = _NODES + 0.5


def logistic(t: Array) -> Array:
    """1 / (1 + exp(-t)) without overflow."""
    e = np.exp(-np.abs(t))
    return np.where(t >= 0, 1, e) / (1 + e)


def logistic_slope(t: Array) -> Array:
    """The derivative of `logistic`; s * (1 - s) would be 0 far above 0 and right far below."""
    e = np.exp(-np.abs(t))
    return e / (1 + e) ** 2


def logistic_change(t: Array, d: Array) -> Array:
    """sigma(t + d) - sigma(t) to full relative precision."""
    up = d >= 0
    share = logistic(np.where(up, -t, t)) * logistic(np.where(up, t + d, -t - d))
    return np.where(up, share, -share) * -np.expm1(-np.abs(d))


def bell(z: Array) -> Array:
    """Density of the standard normal law."""
    z = np.clip(z, -40, 40)  # 0 from there on
    return np.exp(-0.5 * z * z) * z.dtype.type(1 / np.sqrt(2 * np.pi))


def normal(z: Array) -> Array:
    """Distribution function of the standard normal law."""
    from scipy.special import ndtr

    value: Array = ndtr(z)
    return value


def normal_change(z: Array, d: Array) -> Array:
    """Change of `normal`: small steps by quadrature of the density, which does not cancel."""
    near = np.clip(d, -1, 1)
    mean = sum(w.astype(z.dtype) * bell(z + n.astype(z.dtype) * near)
               for n, w in zip(_NODES, _WEIGHTS, strict=True))  # fmt: skip
    return np.where(np.abs(d) <= 1, d * mean, normal(z + d) - normal(z))


def softplus(z: Array) -> Array:
    """log(1 + exp(z)) without overflow."""
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def softplus_change(z: Array, d: Array) -> Array:
    """log((1 + exp(z + d)) / (1 + exp(z))) in the form that does not cancel where z lies."""
    near, small = np.clip(d, -50, 50), logistic(-np.abs(z))
    below = np.log1p(small * np.expm1(np.where(z <= 0, near, -near)))
    return np.where(
        np.abs(d) > 50, softplus(z + d) - softplus(z), np.where(z <= 0, below, d + below)
    )


def soft_clip_change(z: Array, d: Array, top: Array) -> Array:
    """The same of softplus(z) - softplus(z - top), odd about top / 2, from the lower side.

    Of a low top the two are nearly equal: there from the upper one of z and z + d, with
    s = sigma(z) and d < 0, log1p((1 - exp(-top)) s expm1(d) sigma(top - z - d)).
    """
    if top <= 1:
        start = np.where(d > 0, top - z, z)
        change = np.expm1(-top) * np.expm1(-np.abs(d))
        change = np.log1p(-change * logistic(start) * logistic(top - start + np.abs(d)))
        return np.where(d > 0, -change, change)
    above = z > top / 2
    low, step = np.where(above, top - z, z), np.where(above, -d, d)
    change = softplus_change(low, step) - softplus_change(low - top, step)
    return np.where(above, -change, change)


def part_of_six(z: Array) -> Array:
    """min(max(z + 3, 0), 6) / 6."""
    return np.clip(z / 6 + z.dtype.type(0.5), 0, 1)


def scaled(factor: float, z: Array) -> Array:
    """Factor * z in the dtype of z; what is too large for it saturates as infinity does."""
    with np.errstate(over="ignore"):
        return z.dtype.type(factor) * z


def clip_change(z: Array, d: Array, low: float, high: float) -> Array:
    """The change of z between two bounds."""
    y = np.clip(z, z.dtype.type(low), z.dtype.type(high))
    return np.clip(d + (z - y), z.dtype.type(low) - y, z.dtype.type(high) - y)


# gelu by tanh is z sigma(a z + b z^3), a = 2 sqrt(2 / pi). Beyond this sigma is 0 or 1.
_GATE_ENDS = 25.0
_GATE = 2 * np.sqrt(2 / np.pi)
_CUBE = 0.044715


def _gate_argument(z: Array) -> tuple[Array, Array]:
    """Z kept where its cube is small, and a z + b z^3."""
    near = np.clip(z, -_GATE_ENDS, _GATE_ENDS)
    return near, z.dtype.type(_GATE) * near * (1 + z.dtype.type(_CUBE) * near * near)


def gelu_gate(z: Array) -> Array:
    """(1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))) / 2, with which gelu by tanh multiplies z."""
    return logistic(_gate_argument(z)[1])


def gelu_gate_change(z: Array, d: Array) -> Array:
    """The change of `gelu_gate`; from far out as a difference, whose other end is 0 or 1."""
    near, argument = _gate_argument(z)
    step = np.clip(d, -z.dtype.type(_GATE_ENDS) - near, z.dtype.type(_GATE_ENDS) - near)
    cubes = z.dtype.type(_CUBE) * (3 * near * (near + step) + step * step)
    change = logistic_change(argument, z.dtype.type(_GATE) * step * (1 + cubes))
    return np.where(near == z, change, gelu_gate(z + d) - gelu_gate(z))


def gelu_gate_derivatives(z: Array) -> tuple[Array, Array]:
    """First and second derivative of `gelu_gate`."""
    near, argument = _gate_argument(z)
    slope = logistic_slope(argument)
    inner = z.dtype.type(_GATE) * (1 + z.dtype.type(3 * _CUBE) * near * near)
    bend = z.dtype.type(6 * _GATE * _CUBE) * near - np.tanh(argument / 2) * inner * inner
    return slope * inner, slope * bend


def mish_gate(z: Array) -> Array:
    """tanh(softplus(z)), with which mish multiplies z."""
    return np.tanh(softplus(z))


def mish_gate_change(z: Array, d: Array) -> Array:
    """The change of `mish_gate`; from far above as a difference, whose other end is 1."""
    change = 2 * logistic_change(scaled(2, softplus(z)), scaled(2, softplus_change(z, d)))
    return np.where(z <= _GATE_ENDS, change, mish_gate(z + d) - 1)


def mish_gate_derivatives(z: Array) -> tuple[Array, Array]:
    """First and second derivative of `mish_gate`."""
    inner, outer = logistic(z), 4 * logistic_slope(scaled(2, softplus(z)))
    return outer * inner, outer * (logistic_slope(z) - 2 * mish_gate(z) * inner * inner)
