"""Changes of smooth activations at one value in float32, for loops that become vector code.

phi(z + d) - phi(z) from z, d and one golden number made in float64. Everything rests on (e, e - 1)
with e = exp(d), made from the polynomial of exp without its 1, so that small changes do not cancel.
With s = sigma(z), q = sigma(-z) and w = q + s e = (1 + exp(z + d)) / (1 + exp(z)):

- sigmoid: s q (e - 1) / w;
- softplus: log w, where w is near 1 by the series of log(1 + x) at x = s (e - 1);
- soft_clip, softplus(z) - softplus(z - top): with t = exp(-top) the log of (q + s e)(q + s t) /
  (q + s t e), near 1 at x = s q (1 - t)(e - 1) / (q + s t e);
- z times a gate g, as d g(z + d) + z (g(z + d) - g(z)): for silu g = sigma(z), for gelu_tanh
  sigma(a (z + c z^3)), whose argument changes by a d (1 + c (3 (z + d / 2)^2 + d^2 / 4));
- mish: z tanh(softplus(z)) has the gate (1 - q^2) / (1 + q^2), and q becomes q / w;
- gelu: d Phi(z) + (z + d)(Phi(z + d) - Phi(z)), see `gelu`;
- elu: the change of max(z, 0), and alpha exp(min(z, 0)) (e - 1) for e of the change of min(z, 0).

Changes d are not far (`kernels.activations` sees to that), golden values are any numbers. Not to be
reassociated: that would undo the rounding to whole powers of 2.
"""

import numpy as np
from numba import njit

__all__ = [
    "GATE_END",
    "elu",
    "exponential",
    "gelu",
    "gelu_near",
    "gelu_tanh",
    "mish",
    "sigmoid",
    "silu",
    "soft_clip",
    "softplus",
]


def _single(*values):
    return tuple(np.float32(v) for v in values)


_ZERO, _QUARTER, _HALF, _ONE, _TWO, _THREE = _single(0, 0.25, 0.5, 1, 2, 3)

# Beyond these exp is next to nothing, or so large that what it multiplies has no other part.
_LOWEST, _HIGHEST = _single(-86.6, 86.6)
_LOG2_E, _LN2_HIGH, _LN2_LOW = _single(1.4426950408889634, 0.693359375, -2.12194440e-4)
# Added to a float32 of moderate size, it leaves the nearest integer in the last bits.
(_ROUNDER,) = _single(12582912.0)  # 1.5 * 2^23
_ROUNDER_BITS, _BIAS, _MANTISSA_BITS = np.int32(0x4B400000), np.int32(127), np.int32(23)
# (exp(r) - 1) / r for |r| <= log(2) / 2: the polynomial of degree 5 with the least largest relative
# error, 1e-8.
_EXPONENTIAL = _single(
    1.0000000106279692,
    0.4999999812480392,
    0.1666650621954395,
    0.04166713620578248,
    0.008369068563156605,
    0.001388887298903581,
)
# (log(1 + f) - f) / f^2 for sqrt(1/2) <= 1 + f <= sqrt(2), of degree 7: error of log(1 + f) 3e-8.
_LOGARITHM = _single(
    -0.4999999160646788,
    0.33333950224418185,
    -0.25001755259636027,
    0.1996207209051474,
    -0.16570507996728423,
    0.14917973493208816,
    -0.14307522507096548,
    0.08734844672972773,
)
_SQRT_HALF_BITS = np.float32(np.sqrt(0.5)).view(np.int32)
# Phi(-t) exp(t^2 / 2) = y P(y), y = 1 / (1 + t / 4), 0 <= t <= 6, of degree 6: error of Phi 2e-9.
_TAIL = _single(
    0.10056026754761063,
    0.09947940913769254,
    0.06321868584858714,
    0.21967419582491762,
    -0.2119445212117826,
    0.3154645288844448,
    -0.08645256792074571,
)
# Density of the normal law at 0; where it is 0; factors of its derivatives, 1 / 3!, 1 / 5!, 1 / 7!.
_PEAK, _NORMAL_END = _single(1 / np.sqrt(2 * np.pi), 14)
_H2, _H4, _H6 = _single(1 / 6, 1 / 120, 1 / 5040)
_SIX, _FIFTEEN, _FORTY_FIVE, _SIXTEENTH = _single(6, 15, 45, 1 / 16)
# The gate of gelu_tanh, sigma(a (z + c z^3)); it is 0 or 1 beyond these ends.
_GATE, _CUBE, GATE_END = _single(2 * np.sqrt(2 / np.pi), 0.044715, 9)

_STRICT = {"contract", "nsz"}


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def exponential(x):
    """(exp(x), exp(x) - 1): 2^k exp(r), the power of two written as a bit pattern; |x| < 87."""
    c0, c1, c2, c3, c4, c5 = _EXPONENTIAL
    rounded = x * _LOG2_E + _ROUNDER
    k = rounded - _ROUNDER
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    m = r * (c0 + r * (c1 + r * (c2 + r * (c3 + r * (c4 + r * c5)))))
    bits = np.int32(np.float32(rounded).view(np.int32) - _ROUNDER_BITS)
    power = np.int32(np.int32(bits + _BIAS) << _MANTISSA_BITS).view(np.float32)
    return power * m + power, power * m + (power - _ONE)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def _bounded(x):
    """The argument of an exponential kept where that is in range."""
    return min(max(x, _LOWEST), _HIGHEST)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def _logarithm(w, x):
    """Log w for w = 1 + x > 0 that is not tiny, relative to the log itself where x is."""
    c0, c1, c2, c3, c4, c5, c6, c7 = _LOGARITHM
    bits = np.float32(w).view(np.int32)
    k = np.int32(np.int32(bits - _SQRT_HALF_BITS) >> _MANTISSA_BITS)
    mantissa = np.int32(bits - np.int32(k << _MANTISSA_BITS)).view(np.float32)
    f = x if k == 0 else mantissa - _ONE
    p = c3 + f * (c4 + f * (c5 + f * (c6 + f * c7)))
    p = c0 + f * (c1 + f * (c2 + f * p))
    power = np.float32(k)
    return power * _LN2_HIGH + (f + (f * f * p + power * _LN2_LOW))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def sigmoid(s, q, x):
    """sigma(a + x) - sigma(a) for s = sigma(a), q = sigma(-a); linear in (s, q)."""
    e, m = exponential(_bounded(x))
    return s * q * m / (q + s * e)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def _sides(z, small):
    """(sigma(z), sigma(-z)) from the smaller one of them."""
    large = _ONE - small
    return small if z <= _ZERO else large, large if z <= _ZERO else small


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def softplus(z, small, d):
    """Where small = sigma(-|z|)."""
    s, q = _sides(z, small)
    e, m = exponential(d)
    return _logarithm(q + s * e, s * m)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def soft_clip(z, small, d, t, rest):
    """Where small = sigma(-|z|), t = exp(-top), rest = 1 - t."""
    s, q = _sides(z, small)
    e, m = exponential(d)
    shifted = t * s
    inverse = _ONE / (q + shifted * e)
    # Small changes stay in range in this order.
    return _logarithm((q + s * e) * (q + shifted) * inverse, rest * s * q * inverse * m)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def _gated(z, s, q, d, x):
    """Change of z sigma(a) for s = sigma(a), q = sigma(-a) when z changes by d and a by x."""
    e, m = exponential(x)
    # Where |z| is large s q is 0: in this order nothing overflows.
    return (d * (s * e) + z * (s * q * m)) / (q + s * e)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def silu(z, small, d):
    """Where small = sigma(-|z|)."""
    s, q = _sides(z, small)
    return _gated(z, s, q, d, d)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def gelu_tanh(z, small, d):
    """Where small = sigma(-|a (z + c z^3)|), z cut off at the ends of the gate."""
    s, q = _sides(z, small)
    start = min(max(z, -GATE_END), GATE_END)
    step = min(max(d + (z - start), -GATE_END - start), GATE_END - start)
    middle = start + _HALF * step
    squares = _THREE * (middle * middle) + _QUARTER * (step * step)
    return _gated(z, s, q, d, _bounded(_GATE * step * (_ONE + _CUBE * squares)))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def mish(z, small, d):
    """Where small = sigma(-|z|)."""
    s, q = _sides(z, small)
    e, m = exponential(d)
    risen, w, square = s * e, q + s * e, q * q
    gate = risen * (risen + _TWO * q)
    rise = _TWO * square * (s * m) * (w + _ONE)
    return (d * (gate * (_ONE + square)) + z * rise) / ((_ONE + square) * (w * w + square))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def elu(z, slope, d):
    """Where slope = alpha exp(min(z, 0))."""
    above = max(d + min(z, _ZERO), -max(z, _ZERO))
    _, m = exponential(_bounded(min(d + max(z, _ZERO), -min(z, _ZERO))))
    return above + slope * m


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def _near_change(z, d):
    """Phi(z + d) - Phi(z) for |d| <= 1/2, to an error of 2e-9 d.

    d times the mean of the density, by the even derivatives of that at the middle v = z + d / 2, as
    Hermite polynomials of v.
    """
    v = min(max(z + _HALF * d, -_NORMAL_END), _NORMAL_END)
    v, h = v * v, _QUARTER * d * d
    e, _ = exponential(max(-_HALF * v, _LOWEST))
    mean = _H4 * (v * (v - _SIX) + _THREE)
    mean += h * (_H6 * (v * (v * (v - _FIFTEEN) + _FORTY_FIVE) - _FIFTEEN))
    return d * (_PEAK * e) * (_ONE + h * (_H2 * (v - _ONE) + h * mean))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def gelu_near(z, phi, d):
    """Where phi = Phi(z) and |d| <= 1/2."""
    return d * phi + (z + d) * _near_change(z, d)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_STRICT, forceinline=True)
def gelu(z, phi, d):
    """Where phi = Phi(z); beyond |d| = 1/2 two values of Phi may be subtracted."""
    p0, p1, p2, p3, p4, p5, p6 = _TAIL
    moved = z + d
    t = min(abs(moved), _NORMAL_END)
    e, _ = exponential(max(-_HALF * t * t, _LOWEST))
    y = _ONE / (_ONE + _QUARTER * t)
    tail = p3 + y * (p4 + y * (p5 + y * p6))
    tail = e * (y * (p0 + y * (p1 + y * (p2 + y * tail))))
    far = (_ONE - tail if moved > _ZERO else tail) - phi
    near = _near_change(z, min(max(d, -_HALF), _HALF))
    return d * phi + moved * (near if abs(d) <= _HALF else far)
