"""Philox 4x32-10: a random number is a pure function of a counter and a key.

Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC11, doi:10.1145/2063384.2063405.
"""

import numpy as np
from numba import njit

__all__ = ["philox", "uniforms"]

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_5, _6, _26 = np.uint64(5), np.uint64(6), np.uint64(26)
_ULP = 2.0**-53


@njit(cache=True, nogil=True, inline="always")
def philox(c0, c1, c2, c3, k0, k1):
    """Four 32-bit words (as uint64) from a counter of four words and a key of two (uint64)."""
    for _ in range(10):
        a, b = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (b >> _32) ^ c1 ^ k0, b & _LOW, (a >> _32) ^ c3 ^ k1, a & _LOW
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@njit(cache=True, nogil=True, inline="always")
def uniforms(block, stream, trial, seed):
    """Two independent uniforms with 53 bits, the first in (0, 1], the second in [0, 1).

    Arguments are uint64; block and stream below 2^32.
    """
    w0, w1, w2, w3 = philox(block, stream, trial & _LOW, trial >> _32, seed & _LOW, seed >> _32)
    first = (w0 >> _5 << _26 | w1 >> _6) + np.uint64(1)
    second = w2 >> _5 << _26 | w3 >> _6
    return float(first) * _ULP, float(second) * _ULP
