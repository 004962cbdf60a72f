"""The byte shuffle of HDF5: the first bytes of all values, then their second bytes, and so on."""

import numpy as np
from numba import njit

__all__ = ["shuffle_words"]


@njit(cache=True, nogil=True, error_model="numpy")
def shuffle_words(words, planes):
    """Write byte b of words (n,) uint32 into planes[b], planes (4, n) uint8; little endian.

    Each byte has a loop of its own with a constant shift: so they become vector code.
    """
    for i in range(len(words)):
        planes[0, i] = words[i]
    for i in range(len(words)):
        planes[1, i] = words[i] >> np.uint32(8)
    for i in range(len(words)):
        planes[2, i] = words[i] >> np.uint32(16)
    for i in range(len(words)):
        planes[3, i] = words[i] >> np.uint32(24)
