"""Changes of smooth activations at one value in float64, phi(z + d) - phi(z), by the C library.

For any z and d, without cancellation, one value after the other: several times slower than the
formulas of `kernels.single_precision`.
"""

import math

import numpy as np
from numba import njit

__all__ = [
    "elu_change",
    "gelu_change",
    "gelu_tanh_change",
    "mish_change",
    "sigmoid_change",
    "silu_change",
    "soft_clip_change",
    "softplus_change",
]

_SQRT_HALF, _PEAK = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi)
# Three of the six nodes of Gauss and Legendre on [-1, 1], the others are minus these; half of the
# weights: exact to rounding for the density of the normal law over a step of 1/2.
_NODES, _WEIGHTS = (
    tuple(part[3:] / k) for part, k in zip(np.polynomial.legendre.leggauss(6), (1, 2), strict=True)
)
# The gate of gelu_tanh, sigma(a (z + c z^3)), is 0 or 1 beyond these ends, that of mish 1.
_GATE, _CUBE, _GATE_END = 2 * math.sqrt(2 / math.pi), 0.044715, 25.0


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid(a):
    e = math.exp(-abs(a))
    return 1.0 / (1.0 + e) if a > 0.0 else e / (1.0 + e)


@njit(cache=True, nogil=True, error_model="numpy")
def sigmoid_change(a, d):
    """sigma(a + d) - sigma(a) to full relative precision, for any a and d.

    Far changes are differences of sigma, or of 1 - sigma on the side where that is the small one.
    """
    side = 1.0 if a < 0.0 else -1.0  # sigma(side a) is the small one of the two
    e = math.exp(side * a)
    small = e / (1.0 + e)
    if abs(d) > 30.0:
        return side * (_sigmoid(side * (a + d)) - small)
    m = math.expm1(side * d)
    return side * (small * (1.0 - small) * m / (1.0 + small * m))


@njit(cache=True, nogil=True, error_model="numpy")
def _softplus(z):
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


@njit(cache=True, nogil=True, error_model="numpy")
def softplus_change(z, d):
    """log((1 + exp(z + d)) / (1 + exp(z))), in the form that does not cancel where z lies.

    Below 0 that is log1p(sigma(z) expm1(d)), above it d + log1p(sigma(-z) expm1(-d)): the factor
    of expm1 is at most 1/2. Where expm1 would overflow the two values are far apart.
    """
    if abs(d) > 500.0:
        return _softplus(z + d) - _softplus(z)
    e = math.exp(-abs(z))
    if z <= 0.0:
        return math.log1p(e / (1.0 + e) * math.expm1(d))
    return d + math.log1p(e / (1.0 + e) * math.expm1(-d))


@njit(cache=True, nogil=True, error_model="numpy")
def soft_clip_change(z, d, top):
    """The same of softplus(z) - softplus(z - top), odd about top / 2, from the lower side.

    Of a low top the two are nearly equal: there from the upper one of z and z + d, with
    s = sigma(z) and d < 0, log1p((1 - exp(-top)) s expm1(d) sigma(top - z - d)).
    """
    if top <= 1.0:
        start = top - z if d > 0.0 else z
        change = math.expm1(-top) * math.expm1(-abs(d))
        change = math.log1p(-change * _sigmoid(start) * _sigmoid(top - start + abs(d)))
        return -change if d > 0.0 else change
    side = 1.0 if z <= 0.5 * top else -1.0
    low, step = (z, d) if side > 0.0 else (top - z, -d)
    step = min(step, top - low + 60.0)  # at the top to rounding from there on
    return side * (softplus_change(low, step) - softplus_change(low - top, step))


@njit(cache=True, nogil=True, error_model="numpy")
def silu_change(z, d):
    """Of z sigma(z)."""
    return d * _sigmoid(z + d) + z * sigmoid_change(z, d)


@njit(cache=True, nogil=True, error_model="numpy")
def _gate_argument(z):
    return _GATE * z * (1.0 + _CUBE * z * z)


@njit(cache=True, nogil=True, error_model="numpy")
def gelu_tanh_change(z, d):
    """Of z sigma(a (z + c z^3)); z and z + d are kept where the gate is not 0 or 1."""
    start = min(max(z, -_GATE_END), _GATE_END)
    step = min(max(d + (z - start), -_GATE_END - start), _GATE_END - start)
    middle = start + 0.5 * step
    rise = _GATE * step * (1.0 + _CUBE * (3.0 * middle * middle + 0.25 * step * step))
    before, gate = _gate_argument(start), _sigmoid(_gate_argument(start + step))
    # Far apart, one of the two gates is 0 or 1.
    change = sigmoid_change(before, rise) if abs(rise) <= 30.0 else gate - _sigmoid(before)
    return d * gate + z * change


@njit(cache=True, nogil=True, error_model="numpy")
def mish_change(z, d):
    """Of z tanh(softplus(z)), tanh(x) = 2 sigma(2 x) - 1."""
    gate = math.tanh(_softplus(z + d))
    if z <= _GATE_END:
        change = 2.0 * sigmoid_change(2.0 * _softplus(z), 2.0 * softplus_change(z, d))
    else:
        change = gate - 1.0
    return d * gate + z * change


@njit(cache=True, nogil=True, error_model="numpy")
def elu_change(z, d, alpha):
    """The change of max(z, 0), and of alpha (exp(min(z, 0)) - 1) from its higher end."""
    above, start = max(d + min(z, 0.0), -max(z, 0.0)), min(z, 0.0)
    step = min(d + max(z, 0.0), -start)
    part = -math.expm1(-abs(step)) * math.exp(start + max(step, 0.0))
    return above + alpha * (part if step > 0.0 else -part)


@njit(cache=True, nogil=True, error_model="numpy")
def _normal(z):
    return 0.5 * math.erfc(-_SQRT_HALF * z)


@njit(cache=True, nogil=True, error_model="numpy")
def gelu_change(z, d):
    """Of z Phi(z); the change of Phi in a small step by quadrature of its density."""
    if abs(d) > 0.5:
        change = _normal(z + d) - _normal(z)
    else:
        mean, half = 0.0, 0.5 * d
        for k in range(3):
            a, b = z + half - half * _NODES[k], z + half + half * _NODES[k]
            mean += _WEIGHTS[k] * (math.exp(-0.5 * a * a) + math.exp(-0.5 * b * b))
        change = d * (_PEAK * mean)
    return d * _normal(z + d) + z * change
