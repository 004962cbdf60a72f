"""Damage that HDF5 does not see: a checksum of statistics, and chunks that do not decompress.

HDF5 checks only what it decompresses. Statistics therefore have a CRC-32; everything that is
recorded of single trials is compressed, and zlib's own checksum tells.
"""

import zlib
from collections.abc import Mapping

import h5py
import numpy as np

from neurosim.layers import Array
from neurosim.trace.packed_rows import check_packed

__all__ = ["CHECKSUM", "check_checksum", "check_rows", "checksum"]

# The attribute of a group.
CHECKSUM = "crc32"

_BLOCK_BYTES = 2**24


def checksum(arrays: Mapping[str, Array]) -> int:
    """CRC-32 of the names, in alphabetical order, each followed by the bytes of its values.

    Examples
    --------
    >>> checksum({"b": np.arange(3), "a": np.ones(2)}) == checksum(
    ...     {"a": np.ones(2), "b": np.arange(3)})
    True
    """
    found = 0
    for name in sorted(arrays):
        found = zlib.crc32(name.encode(), found)
        found = zlib.crc32(np.ascontiguousarray(arrays[name]).data, found)
    return found


def check_checksum(group: h5py.Group, arrays: Mapping[str, Array]) -> None:
    """Compare what was read from a group with its checksum; traces of earlier versions have none.

    Raises
    ------
    ValueError
        If they differ.
    """
    written = group.attrs.get(CHECKSUM)
    if written is not None and int(written) != checksum(arrays):
        raise ValueError(f"the checksum of {group.name} is wrong")


def check_rows(group: h5py.Group) -> None:
    """Read a group `trials` once, block by block, and keep nothing.

    Raises
    ------
    OSError or ValueError
        If a block cannot be decompressed.
    """

    def check(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(item, h5py.Dataset) or not len(item):
            return
        if name in ("errors/inputs", "errors/values"):
            check_packed(item)
            return
        step = max(1, _BLOCK_BYTES * len(item) // max(1, item.nbytes))
        for first in range(0, len(item), step):
            item[first : first + step]

    group.visititems(check)
