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
    "change_rows_at",
    "sigmoid_change",
    "softplus_change",
]

IDENTITY, RELU, LEAKY_RELU, SIGMOID, TANH, SOFTPLUS, WIDE_SIGMOID, WIDE_TANH = range(8)

_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # high part exact in few bits: n * high is exact
_BIAS, _MANTISSA_BITS = np.int32(127), np.int32(23)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"}, forceinline=True)
def _sigmoid_single(s, q, d):
    """sigma(a + d) - sigma(a) in float32: +-s q F / (own + other e), e = exp(-|d|).

    F = 1 - e is made without cancellation. exp is 2^-n exp(r) with a polynomial, the power of two
    written as a bit pattern: loops over it become vector code. Not to be reassociated: that would
    undo the reduction to r.
    """
    one, zero, half = np.float32(1), np.float32(0), np.float32(0.5)
    x = min(abs(d), np.float32(80))  # exp(-80) is as good as 0 and still a normal number
    k = np.int32(x * np.float32(_LOG2_E) + half)
    n = np.float32(k)
    r = (n * np.float32(_LN2_HIGH) - x) + n * np.float32(_LN2_LOW)
    m = np.float32(1 / 720) + r * np.float32(1 / 5040)
    m = np.float32(1 / 24) + r * (np.float32(1 / 120) + r * m)
    m = r * (one + r * (half + r * (np.float32(1 / 6) + r * m)))
    power = np.int32((_BIAS - k) << _MANTISSA_BITS).view(np.float32)
    minus_f = power * m + (power - one)
    e = power * m + power
    own = s if d >= zero else q
    other = q if d >= zero else s
    change = s * q * minus_f / (own + other * e)
    return -change if d >= zero else change


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid_double(s, q, d):
    """The same in float64, with the exponentials of the C library."""
    e, minus_f = math.exp(-abs(d)), math.expm1(-abs(d))
    own, other = (s, q) if d >= 0.0 else (q, s)
    change = s * q * minus_f / (own + other * e)
    return -change if d >= 0.0 else change


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid_row_single(first, second, dz, gain, scale, out):
    g, c = np.float32(gain), np.float32(scale)
    for i in range(len(dz)):
        out[i] = c * _sigmoid_single(first[i], second[i], g * dz[i])


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid_rows_single(rows, first, second, dz, gain, scale, out):
    g, c = np.float32(gain), np.float32(scale)
    for k in range(len(rows)):
        row = rows[k]
        for i in range(dz.shape[1]):
            out[k, i] = c * _sigmoid_single(first[row, i], second[row, i], g * dz[k, i])


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid_row_double(first, second, dz, gain, scale, out):
    for i in range(len(dz)):
        out[i] = scale * _sigmoid_double(first[i], second[i], gain * dz[i])


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


@njit(cache=True, nogil=True, error_model="numpy")
def change_rows_at(kind, parameter, rows, first, second, dz, out):
    """`change_row` for each row of dz and out (n_rows, n), with the caches at rows[k]."""
    if kind in (SIGMOID, TANH) and out.itemsize == 4:
        # Without a view of each row, which costs as much as a hundred changes.
        gain, scale = (parameter, 1.0) if kind == SIGMOID else (2.0, 2.0)
        _sigmoid_rows_single(rows, first, second, dz, gain, scale, out)
    else:
        for k in range(len(rows)):
            change_row(kind, parameter, first[rows[k]], second[rows[k]], dz[k], out[k])
