"""Convolutions of 3 x 3 kernels by tiles of four outputs: 16 products where there were 36.

Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (arXiv 1509.09308), F(2x2, 3x3):
a tile of 2 x 2 outputs is A^T [(G g G^T) * (B^T d B)] A of the 4 x 4 inputs d that it sees, with
entries of B and A that are 0, 1 or -1. The tiles of some rows make matrices (c, 16, n_tiles).
"""

import numpy as np
from numba import njit

__all__ = ["join_tiles", "split_tiles"]


@njit(cache=True, nogil=True, error_model="numpy")
def split_tiles(x, top, left, first, stop, columns, tiles):
    """Write B^T d B of the tiles in rows first..stop - 1, `columns` of them a row.

    Parameters
    ----------
    x : (c, height, width)
        Without padding; beyond it are zeros.
    top, left : int
        Padding; the first tile sees rows from -top and columns from -left on.
    tiles : (c, 16, (stop - first) * columns)
    """
    channels, height, width = x.shape
    line = np.zeros((4, 2 * columns + 2), x.dtype)
    even, odd = np.empty(columns + 1, x.dtype), np.empty(columns + 1, x.dtype)
    nothing = np.zeros((1, 1, width), x.dtype)
    for c in range(channels):
        for r in range(stop - first):
            row = 2 * (first + r) - top
            a = x[c, row] if 0 <= row < height else nothing[0, 0]
            b = x[c, row + 1] if 0 <= row + 1 < height else nothing[0, 0]
            d = x[c, row + 2] if 0 <= row + 2 < height else nothing[0, 0]
            e = x[c, row + 3] if 0 <= row + 3 < height else nothing[0, 0]
            one, two, three, four = line[0, left:], line[1, left:], line[2, left:], line[3, left:]
            for s in range(width):
                one[s] = a[s] - d[s]
            for s in range(width):
                two[s] = b[s] + d[s]
            for s in range(width):
                three[s] = d[s] - b[s]
            for s in range(width):
                four[s] = b[s] - e[s]
            for i in range(4):
                for k in range(columns + 1):
                    even[k] = line[i, 2 * k]
                for k in range(columns + 1):
                    odd[k] = line[i, 2 * k + 1]
                to = tiles[c, 4 * i : 4 * i + 4, r * columns : (r + 1) * columns]
                for k in range(columns):
                    to[0, k] = even[k] - even[k + 1]
                for k in range(columns):
                    to[1, k] = odd[k] + even[k + 1]
                for k in range(columns):
                    to[2, k] = even[k + 1] - odd[k]
                for k in range(columns):
                    to[3, k] = odd[k] - odd[k + 1]


@njit(cache=True, nogil=True, error_model="numpy")
def join_tiles(tiles, first, stop, columns, out):
    """Write A^T m A of the tiles in rows first..stop - 1 into the maps out, (c, height, width)."""
    channels, height, width = out.shape
    line = np.empty((2, 2 * columns), out.dtype)
    for c in range(channels):
        for r in range(stop - first):
            at = r * columns
            for k in range(columns):
                p = tiles[c, 4, at + k] + tiles[c, 8, at + k]
                q = tiles[c, 5, at + k] + tiles[c, 9, at + k]
                s = tiles[c, 6, at + k] + tiles[c, 10, at + k]
                t = tiles[c, 7, at + k] + tiles[c, 11, at + k]
                q, s = q + tiles[c, 1, at + k], s + tiles[c, 2, at + k]
                line[0, 2 * k] = (tiles[c, 0, at + k] + p) + (q + s)
                line[0, 2 * k + 1] = (q - s) - (tiles[c, 3, at + k] + t)
            for k in range(columns):
                p = tiles[c, 4, at + k] - tiles[c, 8, at + k]
                q = tiles[c, 5, at + k] - tiles[c, 9, at + k]
                s = tiles[c, 6, at + k] - tiles[c, 10, at + k]
                t = tiles[c, 7, at + k] - tiles[c, 11, at + k]
                q, s = q - tiles[c, 13, at + k], s - tiles[c, 14, at + k]
                line[1, 2 * k] = (p - tiles[c, 12, at + k]) + (q + s)
                line[1, 2 * k + 1] = (q - s) - (t - tiles[c, 15, at + k])
            for i in range(min(2, height - 2 * (first + r))):
                for s in range(width):
                    out[c, 2 * (first + r) + i, s] = line[i, s]
