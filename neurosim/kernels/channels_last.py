"""Windows over maps whose channels lie side by side in memory: loops over them are innermost.

Maps are (height, width, channels), C order. Beyond a map are zeros; of pools, nothing. Windows are
((kh, kw), (stride, stride), (dilation, dilation), (top, left)), the last the padding.

Tiles: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (arXiv 1509.09308),
F(2x2, 3x3). A tile of 2 x 2 outputs is A^T [(G g G^T) * (B^T d B)] A of the 4 x 4 inputs d that it
sees, with entries of B and A that are 0, 1 or -1: 16 products where there were 36.
"""

import numpy as np
from numba import njit

__all__ = ["add_taps", "finish_rows", "gather_windows", "join_tiles", "largest", "split_tiles"]

# Indices without a sign, for Numba would look for negative ones in the loops; and one place that a
# loop writes to, for LLVM makes no vector code where too many could overlap.


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _between(low, value, high):
    """The nearest value from low to high; NaN stays NaN."""
    value = low if value < low else value
    return high if value > high else value


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _finish(out, at, bias, low, high):
    at = np.uint64(at)
    for c in range(len(bias)):
        out[at + np.uint64(c)] = _between(low, out[at + np.uint64(c)] + bias[c], high)


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _copy(x, a, n, out, at):
    a, at = np.uint64(a), np.uint64(at)
    for k in range(n):
        out[at + np.uint64(k)] = x[a + np.uint64(k)]


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _plus(x, a, y, b, n, out, at):
    a, b, at = np.uint64(a), np.uint64(b), np.uint64(at)
    for k in range(n):
        out[at + np.uint64(k)] = x[a + np.uint64(k)] + y[b + np.uint64(k)]


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _minus(x, a, y, b, n, out, at):
    a, b, at = np.uint64(a), np.uint64(b), np.uint64(at)
    for k in range(n):
        out[at + np.uint64(k)] = x[a + np.uint64(k)] - y[b + np.uint64(k)]


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _plus_plus(x, a, step, n, out, at):
    a, b, d, at = np.uint64(a), np.uint64(a + step), np.uint64(a + 2 * step), np.uint64(at)
    for k in range(n):
        c = np.uint64(k)
        out[at + c] = (x[a + c] + x[b + c]) + x[d + c]


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
def _minus_minus(x, a, step, n, out, at):
    a, b, d, at = np.uint64(a), np.uint64(a + step), np.uint64(a + 2 * step), np.uint64(at)
    for k in range(n):
        c = np.uint64(k)
        out[at + c] = (x[a + c] - x[b + c]) - x[d + c]


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True, fastmath={"contract"})
def _add_one(x, a, weight, w, n, out, at):
    a, w, at = np.uint64(a), np.uint64(w), np.uint64(at)
    for k in range(n):
        c = np.uint64(k)
        out[at + c] += weight[w + c] * x[a + c]


@njit(cache=True, nogil=True, error_model="numpy", forceinline=True, fastmath={"contract"})
def _add_three(x, a, step, weight, w, n, out, at):
    a, b, d = np.uint64(a), np.uint64(a + step), np.uint64(a + 2 * step)
    w, v, u, at = np.uint64(w), np.uint64(w + n), np.uint64(w + 2 * n), np.uint64(at)
    for k in range(n):
        c = np.uint64(k)
        more = weight[w + c] * x[a + c] + weight[v + c] * x[b + c]
        out[at + c] += more + weight[u + c] * x[d + c]


@njit(cache=True, nogil=True, error_model="numpy")
def finish_rows(rows, bias, low, high):
    """Add biases to rows, (n, channels), and cut them off at low and high, in place."""
    for k in range(rows.shape[0]):
        for c in range(rows.shape[1]):
            rows[k, c] = _between(low, rows[k, c] + bias[c], high)


@njit(cache=True, nogil=True, error_model="numpy")
def gather_windows(x, window, first, stop, columns, patches):
    """Write what windows in rows first..stop - 1 see: patches (n_positions, kh kw channels)."""
    height, width, channels = x.shape
    (kh, kw), (sh, sw), (dh, dw), (top, left) = window
    seen, into, at = x.reshape(-1), patches.reshape(-1), 0
    for r in range(first, stop):
        for s in range(columns):
            for i in range(kh):
                row, column = r * sh + i * dh - top, s * sw - left
                inside = 0 <= row < height
                if inside and dw == 1 and 0 <= column <= width - kw:
                    _copy(seen, (row * width + column) * channels, kw * channels, into, at)
                    at += kw * channels
                    continue
                for j in range(kw):
                    if inside and 0 <= column + j * dw < width:
                        start = (row * width + column + j * dw) * channels
                        _copy(seen, start, channels, into, at)
                    else:
                        into[at : at + channels] = 0
                    at += channels


@njit(cache=True, nogil=True, error_model="numpy")
def add_taps(x, weight, bias, low, high, window, first, stop, out):
    """Depthwise convolution, rows first..stop - 1 of out; weight (kh, kw, channels)."""
    height, width, channels = x.shape
    columns = out.shape[1]
    (kh, kw), (sh, sw), (dh, dw), (top, left) = window
    seen, weights, into = x.reshape(-1), weight.reshape(-1), out.reshape(-1)
    for r in range(first, stop):
        for s in range(columns):
            to, column = (r * columns + s) * channels, s * sw - left
            into[to : to + channels] = 0
            for i in range(kh):
                row = r * sh + i * dh - top
                if row < 0 or row >= height:
                    continue
                a, w = (row * width + column) * channels, i * kw * channels
                if kw == 3 and column >= 0 and column + 2 * dw < width:
                    _add_three(seen, a, dw * channels, weights, w, channels, into, to)
                    continue
                for j in range(kw):
                    if 0 <= column + j * dw < width:
                        b = a + j * dw * channels
                        _add_one(seen, b, weights, w + j * channels, channels, into, to)
            _finish(into, to, bias, low, high)


@njit(cache=True, nogil=True, error_model="numpy")
def largest(x, window, first, stop, out):
    """The largest value in each window, rows first..stop - 1 of out; NaN is the largest."""
    height, width, channels = x.shape
    (kh, kw), (sh, sw), (dh, dw), (top, left) = window
    for r in range(first, stop):
        for s in range(out.shape[1]):
            begun = False
            out[r, s] = -np.inf
            for i in range(kh):
                row = r * sh + i * dh - top
                for j in range(kw):
                    column = s * sw + j * dw - left
                    if row < 0 or row >= height or column < 0 or column >= width:
                        continue
                    if not begun:
                        for c in range(channels):
                            out[r, s, c] = x[row, column, c]
                        begun = True
                        continue
                    for c in range(channels):
                        old, new = out[r, s, c], x[row, column, c]
                        out[r, s, c] = old if old > new or old != old else new


@njit(cache=True, nogil=True, error_model="numpy")
def split_tiles(x, top, left, first, stop, columns, tiles):
    """Write B^T d B of the tiles in rows first..stop - 1, `columns` of them a row.

    tiles: (16, n_tiles, channels). The first tile sees rows from -top and columns from -left on.
    """
    height, width, channels = x.shape
    n, wide = columns * channels, width * channels
    half, size = n + channels, tiles.shape[1] * channels
    rows = np.empty(4 * wide, x.dtype)  # B^T d; then its columns 0, 2, ... and 1, 3, ...
    even, odd = np.zeros(4 * half, x.dtype), np.zeros(4 * half, x.dtype)
    edge = np.empty(4 * wide, x.dtype)
    flat, into = x.reshape(-1), tiles.reshape(-1)
    for r in range(stop - first):
        row = 2 * (first + r) - top
        seen, a = flat, row * wide
        if row < 0 or row + 4 > height:
            edge[:] = 0
            for i in range(max(0, -row), min(4, height - row)):
                _copy(flat, (row + i) * wide, wide, edge, i * wide)
            seen, a = edge, 0
        b, d, e = a + wide, a + 2 * wide, a + 3 * wide
        _minus(seen, a, seen, d, wide, rows, 0)
        _plus(seen, b, seen, d, wide, rows, wide)
        _minus(seen, d, seen, b, wide, rows, 2 * wide)
        _minus(seen, b, seen, e, wide, rows, 3 * wide)
        for i in range(4):
            for s in range(width):
                k, to = s + left, i * half + (s + left) // 2 * channels
                _copy(rows, i * wide + s * channels, channels, odd if k % 2 else even, to)
        for i in range(4):
            at, a = 4 * i * size + r * n, i * half
            _minus(even, a, even, a + channels, n, into, at)
            _plus(odd, a, even, a + channels, n, into, at + size)
            _minus(even, a + channels, odd, a, n, into, at + 2 * size)
            _minus(odd, a, odd, a + channels, n, into, at + 3 * size)


@njit(cache=True, nogil=True, error_model="numpy")
def join_tiles(products, bias, low, high, first, columns, out, begin):
    """Write A^T m A of whole rows of tiles, from row `first` on, plus biases and cut off.

    products: (16, n_tiles, c), channels begin..begin + c - 1 of out (height, width, channels).
    """
    height, width, wide = out.shape
    _, n_tiles, channels = products.shape
    size = n_tiles * channels
    some = max(1, 512 // channels)  # tiles at a time, which stay in the first cache
    line = some * channels
    sums = np.empty(8 * line, products.dtype)  # A^T m
    seen, into = products.reshape(-1), out.reshape(-1)
    for r in range(n_tiles // columns):
        for start in range(0, columns, some):
            stop = min(start + some, columns)
            n, at = (stop - start) * channels, (r * columns + start) * channels
            for j in range(4):
                _plus_plus(seen, at + j * size, 4 * size, n, sums, j * line)
                _minus_minus(seen, at + (4 + j) * size, 4 * size, n, sums, (4 + j) * line)
            for i in range(min(2, height - 2 * (first + r))):
                for k in range(stop - start):
                    column, m = 2 * (start + k), 4 * i * line + k * channels
                    to = ((2 * (first + r) + i) * width + column) * wide + begin
                    _plus_plus(sums, m, line, channels, into, to)
                    _finish(into, to, bias, low, high)
                    if column + 1 < width:
                        _minus_minus(sums, m + line, line, channels, into, to + wide)
                        _finish(into, to + wide, bias, low, high)
