"""Changes of activations, phi(z + dz) - phi(z), without cancellation.

The golden side of each formula is cached in two arrays a layer: s = sigma(a z) and q = sigma(-a z)
for the sigmoid family (z alone where sigma(a z) would underflow: "wide"), max(z, 0) and min(z, 0)
for the piecewise linear one, z alone for softplus. All stays in the dtype of the arrays;
constants are cast to it, else float32 arithmetic would silently widen.
"""

import math

import numpy as np
from numba import njit

__all__ = [
    "IDENTITY",
    "LEAKY_RELU",
    "RELU",
    "SIGMOID",
    "SOFTPLUS",
    "TANH",
    "WIDE_SIGMOID",
    "WIDE_TANH",
    "change_row",
    "sigmoid_change",
    "softplus_change",
]

IDENTITY, RELU, LEAKY_RELU, SIGMOID, TANH, SOFTPLUS, WIDE_SIGMOID, WIDE_TANH = range(8)

_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # high part exact in few bits: n * high is exact
_BIAS, _MANTISSA_BITS = np.int32(127), np.int32(23)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
def _sigmoid_row_single(first, second, dz, gain, scale, out):
    """Scale (sigma(a + d) - sigma(a)), d = gain dz: +-s q F / (own + other e), e = exp(-|d|).

    F = 1 - e is made without cancellation. exp is 2^-n exp(r) with a polynomial, the power of two
    written as a bit pattern. Not to be reassociated: that would undo the reduction to r.
    """
    real = out.dtype.type
    g, c, one, zero, half = real(gain), real(scale), real(1), real(0), real(0.5)
    top, log2_e = real(80), real(_LOG2_E)  # exp(-80) is as good as 0 and still a normal number
    high, low = real(_LN2_HIGH), real(_LN2_LOW)
    for i in range(len(dz)):
        d = g * dz[i]
        x = min(abs(d), top)
        k = np.int32(x * log2_e + half)
        n = real(k)
        r = (n * high - x) + n * low
        m = real(1 / 720) + r * real(1 / 5040)
        m = real(1 / 24) + r * (real(1 / 120) + r * m)
        m = r * (one + r * (half + r * (real(1 / 6) + r * m)))
        power = np.int32((_BIAS - k) << _MANTISSA_BITS).view(np.float32)
        minus_f = power * m + (power - one)
        e = power * m + power
        s, q = first[i], second[i]
        own = s if d >= zero else q
        other = q if d >= zero else s
        change = c * (s * q * minus_f / (own + other * e))
        out[i] = -change if d >= zero else change


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid_row_double(first, second, dz, gain, scale, out):
    """The same with the exponentials of the C library."""
    for i in range(len(dz)):
        d = gain * dz[i]
        e, minus_f = math.exp(-abs(d)), math.expm1(-abs(d))
        s, q = first[i], second[i]
        own, other = (s, q) if d >= 0.0 else (q, s)
        change = scale * (s * q * minus_f / (own + other * e))
        out[i] = -change if d >= 0.0 else change


@njit(cache=True, nogil=True, error_model="numpy")
def sigmoid_change(a, d):
    """sigma(a + d) - sigma(a) to full relative precision, for any a and d.

    Far changes are differences of sigma, or of 1 - sigma on the side where that is the small one.
    """
    side = 1.0 if a < 0.0 else -1.0  # sigma(side a) is the small one of the two
    e = math.exp(side * a)
    small = e / (1.0 + e)
    if abs(d) > 30.0:
        moved = side * (a + d)
        e = math.exp(-abs(moved))
        after = 1.0 / (1.0 + e) if moved > 0.0 else e / (1.0 + e)
        return side * (after - small)
    m = math.expm1(side * d)
    return side * (small * (1.0 - small) * m / (1.0 + small * m))


@njit(cache=True, nogil=True, error_model="numpy")
def _wide_sigmoid_row(first, dz, gain, scale, out):
    """The same as the other sigmoid rows, from z itself, where some sigma(a z) underflows."""
    for i in range(len(dz)):
        out[i] = scale * sigmoid_change(gain * np.float64(first[i]), gain * np.float64(dz[i]))


@njit(cache=True, nogil=True, error_model="numpy")
def _relu_row(first, second, dz, slope, out):
    """Slope below 0: max(dz + min(z, 0), -max(z, 0)) is the change of the positive part."""
    real = out.dtype.type
    below, above = real(slope), real(1 - slope)
    for i in range(len(dz)):
        out[i] = below * dz[i] + above * max(dz[i] + second[i], -first[i])


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
def _softplus_row(first, dz, out):
    for i in range(len(dz)):
        out[i] = softplus_change(np.float64(first[i]), np.float64(dz[i]))


@njit(cache=True, nogil=True, error_model="numpy")
def change_row(kind, parameter, first, second, dz, out):
    """Write phi(z + dz) - phi(z) into out; arrays (n,) of one dtype, out may be dz."""
    if kind in (SIGMOID, TANH):
        # tanh(z) = 2 sigma(2 z) - 1
        gain, scale = (parameter, 1.0) if kind == SIGMOID else (2.0, 2.0)
        if out.itemsize == 4:
            _sigmoid_row_single(first, second, dz, gain, scale, out)
        else:
            _sigmoid_row_double(first, second, dz, gain, scale, out)
    elif kind == WIDE_SIGMOID:
        _wide_sigmoid_row(first, dz, parameter, 1.0, out)
    elif kind == WIDE_TANH:
        _wide_sigmoid_row(first, dz, 2.0, 2.0, out)
    elif kind in (RELU, LEAKY_RELU):
        _relu_row(first, second, dz, parameter, out)
    elif kind == SOFTPLUS:
        _softplus_row(first, dz, out)
    else:
        for i in range(len(dz)):
            out[i] = dz[i]
