"""Changes of activations, phi(z + dz) - phi(z), without cancellation.

The golden side of each formula is cached in two arrays a layer: s - 1 / 2 and s q for the sigmoid,
s = sigma(a z) and q = sigma(-a z), which are what small changes need; for
tanh(z) = 2 sigma(2 z) - 1 the same of twice s and q, s - 1 and s q, as the formulas are linear in
(s, q); z alone where sigma(a z) is too small ("wide"); max(z, 0) and min(z, 0) for the piecewise
linear family, z alone for softplus. All stays in the dtype of the arrays; constants are cast to it,
else float32 arithmetic would silently widen.
"""

import math

import numpy as np
from numba import njit

from neurosim.kernels.vectors import use_wide_vectors

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
# (2^r - 1) / r for |r| <= 1/2, relative error 1e-8: the best polynomial of degree 5 (Remez).
_EXPONENTIAL = (
    0.6931471879266922,
    0.2402264979496646,
    0.055503574336349525,
    0.009618237493736564,
    0.001339073547819539,
    0.00015403512759582956,
)
# tanh(x) = x (p0 + p1 v) / (1 + q1 v + q2 v^2), v = x^2, |x| <= 1: fitted for the least relative
# error, 6e-8. Nearly all rows have no change of a sigmoid's argument, 2 x, beyond that.
_NEAR = (0.9999999415195441, 0.09433940487154382, 0.427670625224095, 0.009235634928988823)
_MAGNITUDE = np.int32(0x7FFFFFFF)  # bits of a float32 without its sign
# Added to a float32 of moderate size, it leaves the nearest integer in the last bits.
_ROUNDER = 12582912.0  # 1.5 * 2^23
_ROUNDER_BITS, _BIAS, _MANTISSA_BITS = 0x4B400000, 127, np.int32(23)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"}, forceinline=True)
def _two_sides(centred, product, middle):
    """(s, q), s + q = 2 middle, from s - middle and s q: the smaller one without cancellation."""
    large = middle + abs(centred)
    small = product / large
    return (large, small) if centred > 0 else (small, large)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"}, forceinline=True)
def _sigmoid_single(s, q, u):
    """sigma(a + d) - sigma(a) in float32, u = d / log 2: s q E / (q + s e), e = 2^u, E = e - 1.

    E is made without cancellation. 2^u is 2^k 2^r with a polynomial, the power of two written as a
    bit pattern: loops over it become vector code. Not to be reassociated: that would undo the
    rounding to k.
    """
    c0, c1, c2, c3, c4, c5 = _EXPONENTIAL
    u = min(max(u, np.float32(-125)), np.float32(125))  # beyond, sigma(a + d) is 0 or 1
    rounded = u + np.float32(_ROUNDER)
    r = u - (rounded - np.float32(_ROUNDER))
    m = np.float32(c3) + r * (np.float32(c4) + r * np.float32(c5))
    m = r * (np.float32(c0) + r * (np.float32(c1) + r * (np.float32(c2) + r * m)))
    k = np.float32(rounded).view(np.int32) - np.int32(_ROUNDER_BITS)
    power = np.int32((k + np.int32(_BIAS)) << _MANTISSA_BITS).view(np.float32)
    e_minus_1 = power * m + (power - np.float32(1))
    e = power * m + power
    return s * q * e_minus_1 / (q + s * e)


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid_double(s, q, d):
    """The same in float64, with the exponentials of the C library."""
    e, minus_f = math.exp(-abs(d)), math.expm1(-abs(d))
    own, other = (s, q) if d >= 0.0 else (q, s)
    change = s * q * minus_f / (own + other * e)
    return -change if d >= 0.0 else change


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid_row_single(first, second, dz, gain, scale, out):
    use_wide_vectors()
    g, middle = np.float32(gain * _LOG2_E), np.float32(scale / 2)
    for i in range(len(dz)):
        s, q = _two_sides(first[i], second[i], middle)
        out[i] = _sigmoid_single(s, q, g * dz[i])


@njit(
    cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp", "ninf"},
    forceinline=True,
)  # fmt: skip
def _sigmoid_near(centred, product, dz, quotient):
    """The change of scale * sigma in float32 for a small change of its argument, gain * dz.

    s = scale sigma(a), q = scale sigma(-a), middle = scale / 2. With t = tanh(gain dz / 2) that is
    s q t / (middle + (s - middle) t), in which t is a quotient and its divisor is multiplied out.
    """
    p0, p1, q0, q1, q2 = quotient
    v = dz * dz
    t = dz * (p0 + v * p1)
    return product * t / ((q0 + v * (q1 + v * q2)) + centred * t)


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid_rows_single(numbers, first, second, gain, scale, rows, at, begin, stop):
    use_wide_vectors()
    g, half, middle = np.float32(gain * _LOG2_E), gain / 2, np.float32(scale / 2)
    (p0, p1, q1, q2), square = _NEAR, half * half
    quotient = (
        np.float32(half * p0), np.float32(half * square * p1),
        middle, middle * np.float32(square * q1), middle * np.float32(square * square * q2),
    )  # fmt: skip
    # Numbers as bits are in their order, not a number last. Powers of the gain must be in range.
    near = np.int32(np.float32(1 / half).view(np.int32)) if 1e-4 < half < 1e4 else np.int32(-1)
    for k in range(len(numbers)):
        number = numbers[k]
        largest = np.int32(0)
        for i in range(np.uint64(begin), np.uint64(stop)):
            magnitude = np.float32(rows[at + k, i]).view(np.int32) & _MAGNITUDE
            largest = max(largest, np.int32(magnitude))
        if largest <= near:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[at + k, i] = _sigmoid_near(
                    first[number, i], second[number, i], rows[at + k, i], quotient
                )
            continue
        for i in range(np.uint64(begin), np.uint64(stop)):
            s, q = _two_sides(first[number, i], second[number, i], middle)
            rows[at + k, i] = _sigmoid_single(s, q, g * rows[at + k, i])


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid_row_double(first, second, dz, gain, scale, out):
    for i in range(len(dz)):
        s, q = _two_sides(first[i], second[i], scale / 2)
        out[i] = _sigmoid_double(s, q, gain * dz[i])


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
def _relu_rows(numbers, first, second, slope, rows, at, begin, stop):
    use_wide_vectors()
    real = rows.dtype.type
    below, above = real(slope), real(1 - slope)
    for k in range(len(numbers)):
        number = numbers[k]
        for i in range(np.uint64(begin), np.uint64(stop)):
            d = rows[at + k, i]
            rows[at + k, i] = below * d + above * max(d + second[number, i], -first[number, i])


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
def change_rows_at(kind, parameter, numbers, first, second, rows, at, begin, stop):
    """`change_row` in place, for columns begin .. stop - 1 of rows at .. at + len(numbers) - 1.

    Row at + k of rows (n_rows, n) has the caches at numbers[k].
    """
    # Without a view of each row, which costs as much as a hundred changes, for most networks. In
    # place, for one array less fits more into the innermost cache.
    if kind in (SIGMOID, TANH) and rows.itemsize == 4:
        gain, scale = (parameter, 1.0) if kind == SIGMOID else (2.0, 2.0)
        _sigmoid_rows_single(numbers, first, second, gain, scale, rows, at, begin, stop)
    elif kind in (RELU, LEAKY_RELU):
        _relu_rows(numbers, first, second, parameter, rows, at, begin, stop)
    else:
        for k in range(len(numbers)):
            row = rows[at + k, begin:stop]
            a, b = first[numbers[k], begin:stop], second[numbers[k], begin:stop]
            change_row(kind, parameter, a, b, row, row)
