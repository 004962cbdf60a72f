"""Changes of activations, phi(z + dz) - phi(z), without cancellation: by rows, for every kind.

The golden side of each formula is cached in two arrays a layer, made in float64: s - 1 / 2 and s q
for the sigmoid, s = sigma(a z) and q = sigma(-a z), which are what small changes need; for
tanh(z) = 2 sigma(2 z) - 1 the same of twice s and q, s - 1 and s q, as the formulas are linear in
(s, q); z alone where sigma(a z) is too small ("wide"); max(z, 0) and min(z, 0) for relu and leaky
relu; z - low and z - high for what is cut off there (relu6, hard_tanh, hard_swish). The other kinds
have z and what `kernels.single_precision` says: in float32 their rows are vector code, in float64,
or where a change is far, `kernels.double_precision` computes one value after the other. All stays
in the dtype of the arrays; constants are cast to it, else float32 arithmetic would silently widen.
"""

import math

import numpy as np
from numba import njit

from neurosim.kernels import single_precision as single
from neurosim.kernels.double_precision import (
    elu_change,
    gelu_change,
    gelu_tanh_change,
    mish_change,
    sigmoid_change,
    silu_change,
    soft_clip_change,
    softplus_change,
)
from neurosim.kernels.vectors import use_wide_vectors

__all__ = [
    "CLIP",
    "ELU",
    "GELU",
    "GELU_TANH",
    "HARD_SWISH",
    "IDENTITY",
    "LEAKY_RELU",
    "MISH",
    "RELU",
    "SIGMOID",
    "SILU",
    "SOFTPLUS",
    "SOFT_CLIP",
    "SOFT_LEAKY_RELU",
    "TANH",
    "WIDE_SIGMOID",
    "WIDE_TANH",
    "change_row",
    "change_rows_at",
]

IDENTITY, RELU, LEAKY_RELU, SIGMOID, TANH, WIDE_SIGMOID, WIDE_TANH = range(7)
CLIP, HARD_SWISH, SOFTPLUS, SOFT_LEAKY_RELU, SOFT_CLIP, SILU, GELU, GELU_TANH, MISH, ELU = range(
    7, 17
)

# tanh(x) = x (p0 + p1 v) / (1 + q1 v + q2 v^2), v = x^2, |x| <= 1: fitted for the least relative
# error, 6e-8. Nearly all rows have no change of a sigmoid's argument, 2 x, beyond that.
_NEAR = (0.9999999415195441, 0.09433940487154382, 0.427670625224095, 0.009235634928988823)
_MAGNITUDE = np.int32(0x7FFFFFFF)  # bits of a float32 without its sign

# Changes beyond which single precision does not do: of exp(dz), where golden values may have run
# out of range by then, and of cubes and the like; nor does it for a soft clip with a higher top.
# Each value of a row is computed as if it were alone.
_FAR, _FAR_FOR_POWERS, _HIGHEST_TOP = np.float32(40), np.float32(1e15), 24.0
_HALF = np.float32(0.5)  # up to it gelu takes the short formula


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz"}, forceinline=True)
def _two_sides(centred, product, middle):
    """(s, q), s + q = 2 middle, from s - middle and s q: the smaller one without cancellation."""
    large = middle + abs(centred)
    small = product / large
    return (large, small) if centred > 0 else (small, large)


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid_double(s, q, d):
    """The sigmoid's change in float64, with the exponentials of the C library."""
    e, minus_f = math.exp(-abs(d)), math.expm1(-abs(d))
    own, other = (s, q) if d >= 0.0 else (q, s)
    change = s * q * minus_f / (own + other * e)
    return -change if d >= 0.0 else change


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid_row_single(first, second, dz, gain, scale, out):
    use_wide_vectors()
    g, middle = np.float32(gain), np.float32(scale / 2)
    for i in range(len(dz)):
        s, q = _two_sides(first[i], second[i], middle)
        out[i] = single.sigmoid(s, q, g * dz[i])


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


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _largest(rows, row, begin, stop):
    """Bits of the largest magnitude in a row of float32; those of no number are larger."""
    largest = np.int32(0)
    for i in range(np.uint64(begin), np.uint64(stop)):
        magnitude = np.float32(rows[row, i]).view(np.int32) & _MAGNITUDE
        largest = max(largest, np.int32(magnitude))
    return largest


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid_rows_single(numbers, first, second, gain, scale, rows, at, begin, stop):
    use_wide_vectors()
    g, half, middle = np.float32(gain), gain / 2, np.float32(scale / 2)
    (p0, p1, q1, q2), square = _NEAR, half * half
    quotient = (
        np.float32(half * p0), np.float32(half * square * p1),
        middle, middle * np.float32(square * q1), middle * np.float32(square * square * q2),
    )  # fmt: skip
    # Powers of the gain must be in range.
    near = np.int32(np.float32(1 / half).view(np.int32)) if 1e-4 < half < 1e4 else np.int32(-1)
    for k in range(len(numbers)):
        number = numbers[k]
        if _largest(rows, at + k, begin, stop) <= near:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[at + k, i] = _sigmoid_near(
                    first[number, i], second[number, i], rows[at + k, i], quotient
                )
            continue
        for i in range(np.uint64(begin), np.uint64(stop)):
            s, q = _two_sides(first[number, i], second[number, i], middle)
            rows[at + k, i] = single.sigmoid(s, q, g * rows[at + k, i])


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid_row_double(first, second, dz, gain, scale, out):
    for i in range(len(dz)):
        s, q = _two_sides(first[i], second[i], scale / 2)
        out[i] = _sigmoid_double(s, q, gain * dz[i])


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


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _clipped(below, above, d, zero, width):
    """Change of min(max(z, low), high); below = z - low, above = z - high, width = high - low."""
    beyond = min(below, zero) + max(above, zero)
    return min(max(d + beyond, -min(max(below, zero), width)), min(max(-above, zero), width))


@njit(cache=True, nogil=True, error_model="numpy")
def _clip_rows(numbers, first, second, width, rows, at, begin, stop):
    use_wide_vectors()
    real = rows.dtype.type
    zero, width = real(0), real(width)
    for k in range(len(numbers)):
        number = numbers[k]
        for i in range(np.uint64(begin), np.uint64(stop)):
            rows[at + k, i] = _clipped(
                first[number, i], second[number, i], rows[at + k, i], zero, width
            )


@njit(cache=True, nogil=True, error_model="numpy")
def _hard_swish_rows(numbers, first, second, rows, at, begin, stop):
    """Of z g(z) / 6, g(z) = min(max(z + 3, 0), 6): d g(z + d) and z times the change of g."""
    use_wide_vectors()
    real = rows.dtype.type
    zero, half, width, sixth = real(0), real(0.5), real(6), real(1 / 6)
    for k in range(len(numbers)):
        number = numbers[k]
        for i in range(np.uint64(begin), np.uint64(stop)):
            below, above, d = first[number, i], second[number, i], rows[at + k, i]
            change = _clipped(below, above, d, zero, width)
            gate = min(max(below, zero), width) + change
            rows[at + k, i] = sixth * (d * gate + half * (below + above) * change)


@njit(cache=True, nogil=True, error_model="numpy")
def _change_double(kind, parameter, z, d):
    """The change of a smooth activation in float64."""
    if kind == SOFTPLUS:
        return softplus_change(z, d)
    if kind == SOFT_LEAKY_RELU:
        return parameter * d + (1.0 - parameter) * softplus_change(z, d)
    if kind == SOFT_CLIP:
        return soft_clip_change(z, d, parameter)
    if kind == SILU:
        return silu_change(z, d)
    if kind == GELU:
        return gelu_change(z, d)
    if kind == GELU_TANH:
        return gelu_tanh_change(z, d)
    if kind == MISH:
        return mish_change(z, d)
    return elu_change(z, d, parameter)


@njit(cache=True, nogil=True, error_model="numpy")
def _smooth_rows_double(kind, parameter, numbers, first, rows, at, begin, stop):
    for k in range(len(numbers)):
        for i in range(begin, stop):
            rows[at + k, i] = _change_double(kind, parameter, first[numbers[k], i], rows[at + k, i])


@njit(cache=True, nogil=True, error_model="numpy")
def _hide_far(rows, row, begin, stop, limit):
    """Put 0 for changes beyond the limit; returns the row as it was."""
    kept = rows[row, begin:stop].copy()
    for i in range(len(kept)):
        if not abs(kept[i]) <= limit:  # not a number is far
            rows[row, begin + i] = 0
    return kept


@njit(cache=True, nogil=True, error_model="numpy")
def _finish_far(kind, parameter, z, kept, rows, row, begin, limit):
    """Changes beyond the limit in double precision; z and kept: of the columns from begin on."""
    for i in range(len(kept)):
        if not abs(kept[i]) <= limit:
            rows[row, begin + i] = _change_double(
                kind, parameter, np.float64(z[i]), np.float64(kept[i])
            )


@njit(cache=True, nogil=True, error_model="numpy")
def _smooth_rows_single(kind, parameter, numbers, first, second, rows, at, begin, stop):
    use_wide_vectors()
    limit = _FAR_FOR_POWERS if kind in (GELU, GELU_TANH) else _FAR
    if kind == SOFT_CLIP and parameter > _HIGHEST_TOP:
        limit = np.float32(0)
    far, near = (
        np.int32(np.float32(limit).view(np.int32)),
        np.int32(np.float32(_HALF).view(np.int32)),
    )
    slope, rest = np.float32(parameter), np.float32(1.0 - parameter)
    top = min(abs(parameter), _HIGHEST_TOP)  # with a higher one only changes of 0 are left
    shift, lost = np.float32(math.exp(-top)), np.float32(-math.expm1(-top))
    kept = np.empty(0, rows.dtype)
    for k in range(len(numbers)):
        x, row = np.uint64(numbers[k]), np.uint64(at + k)
        largest = _largest(rows, row, begin, stop)
        if largest > far:
            kept = _hide_far(rows, row, begin, stop, limit)
        if kind == SOFTPLUS:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] = single.softplus(first[x, i], second[x, i], rows[row, i])
        elif kind == SOFT_LEAKY_RELU:
            for i in range(np.uint64(begin), np.uint64(stop)):
                d = rows[row, i]
                rows[row, i] = slope * d + rest * single.softplus(first[x, i], second[x, i], d)
        elif kind == SOFT_CLIP:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] = single.soft_clip(
                    first[x, i], second[x, i], rows[row, i], shift, lost
                )
        elif kind == SILU:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] = single.silu(first[x, i], second[x, i], rows[row, i])
        elif kind == GELU and largest <= near:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] = single.gelu_near(first[x, i], second[x, i], rows[row, i])
        elif kind == GELU:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] = single.gelu(first[x, i], second[x, i], rows[row, i])
        elif kind == GELU_TANH:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] = single.gelu_tanh(first[x, i], second[x, i], rows[row, i])
        elif kind == MISH:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] = single.mish(first[x, i], second[x, i], rows[row, i])
        else:
            for i in range(np.uint64(begin), np.uint64(stop)):
                rows[row, i] = single.elu(first[x, i], second[x, i], rows[row, i])
        if largest > far:
            _finish_far(kind, parameter, first[x, begin:stop], kept, rows, row, begin, limit)


@njit(cache=True, nogil=True, error_model="numpy")
def _other_rows(kind, parameter, numbers, first, second, rows, at, begin, stop):
    """`change_rows_at` for the kinds from CLIP on."""
    if kind == CLIP:
        _clip_rows(numbers, first, second, parameter, rows, at, begin, stop)
    elif kind == HARD_SWISH:
        _hard_swish_rows(numbers, first, second, rows, at, begin, stop)
    elif rows.itemsize == 4:
        _smooth_rows_single(kind, parameter, numbers, first, second, rows, at, begin, stop)
    else:
        _smooth_rows_double(kind, parameter, numbers, first, rows, at, begin, stop)


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
    else:
        n = len(dz)
        for i in range(n):
            out[i] = dz[i]
        if kind != IDENTITY:
            _other_rows(
                kind, parameter, np.zeros(1, np.int64), first.reshape(1, n), second.reshape(1, n),
                out.reshape(1, n), 0, 0, n,
            )  # fmt: skip


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
    elif kind >= CLIP:
        _other_rows(kind, parameter, numbers, first, second, rows, at, begin, stop)
    else:
        for k in range(len(numbers)):
            row = rows[at + k, begin:stop]
            a, b = first[numbers[k], begin:stop], second[numbers[k], begin:stop]
            change_row(kind, parameter, a, b, row, row)
