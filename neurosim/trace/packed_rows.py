"""Rows of HDF5 datasets as compressed chunks: made anywhere, moved from file to file as they are.

A chunk is what HDF5 itself makes of its filters shuffle and gzip, made faster: by a faster zlib,
and without trying to compress what is noise.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np

from neurosim.kernels.shuffling import shuffle_words
from neurosim.layers import Array

try:
    from isal import isal_zlib as zlib
except ImportError:  # a processor that this faster one does not know
    import zlib  # type: ignore[no-redef]

__all__ = ["PackedRows", "append_array", "append_packed", "check_packed", "packed"]

_LEVEL = 1
_CHUNK_BYTES = 2**20
_FILTERS: dict[str, Any] = {"compression": "gzip", "compression_opts": _LEVEL, "shuffle": True}


@dataclass(frozen=True)
class PackedRows:
    """Rows of a dataset as its compressed chunks, the last one filled up with zeros.

    Parameters
    ----------
    row : tuple of int
        Shape of a row.
    dtype : numpy dtype
    chunk : int
        Rows in each chunk.
    chunks : tuple of bytes
    """

    row: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk: int
    chunks: tuple[bytes, ...]

    def __len__(self) -> int:
        return self.chunk * len(self.chunks)

    @property
    def nbytes(self) -> int:
        """Memory that the chunks take."""
        return sum(map(len, self.chunks))

    @staticmethod
    def joined(parts: "Sequence[PackedRows]") -> "PackedRows":
        """Rows of one dataset, one after the other."""
        return replace(parts[0], chunks=tuple(c for part in parts for c in part.chunks))


def packed(values: Array, chunk: int) -> PackedRows:
    """The rows of an array, `chunk` of them together."""
    firsts = range(0, len(values), chunk)
    chunks = tuple(_compressed(values[first : first + chunk], chunk) for first in firsts)
    return PackedRows(row=values.shape[1:], dtype=values.dtype, chunk=chunk, chunks=chunks)


def _compressed(rows: Array, chunk: int) -> bytes:
    """A chunk as HDF5 writes it: first bytes of all values, second bytes and so on; then zlib."""
    whole = rows
    if len(rows) < chunk:
        whole = np.zeros((chunk, *rows.shape[1:]), rows.dtype)
        whole[: len(rows)] = rows
    by_byte = _shuffled(whole)
    n_noise = rows.dtype.itemsize * 3 // 4 if rows.dtype.kind == "f" else 0
    if n_noise and len(rows) == chunk and _is_noise(by_byte[:n_noise]):
        return _stored_and_compressed(by_byte.reshape(-1), n_noise * by_byte.shape[1])
    return zlib.compress(by_byte, _LEVEL)


def _shuffled(rows: Array) -> Array:
    """Bytes (itemsize, n_values) of contiguous rows."""
    size = rows.dtype.itemsize
    if size == 4 and sys.byteorder == "little":
        by_byte = np.empty((4, rows.size), np.uint8)
        shuffle_words(rows.view(np.uint32).reshape(-1), by_byte)
        return by_byte
    return np.ascontiguousarray(rows.view(np.uint8).reshape(-1, size).T)


def _is_noise(by_byte: Array) -> bool:
    """Whether bytes seem not to be worth compressing, which the last bits of results rarely are."""
    sample = np.ascontiguousarray(by_byte[:, :: max(1, by_byte.shape[1] // 1024)])
    return len(zlib.compress(sample, _LEVEL)) > 0.95 * sample.size


def _stored_and_compressed(data: Array, n_stored: int) -> bytes:
    """A zlib stream (RFC 1950, 1951) whose first n_stored bytes are stored, the others compressed.

    So they take the time of copying, not that of finding out that nothing can be saved.
    """
    pieces: list[bytes | memoryview] = [b"\x78\x01"]  # deflate, window of 32 KiB, fastest
    for first in range(0, n_stored, 65535):
        block = data[first : min(first + 65535, n_stored)]
        size = len(block)
        pieces += [b"\0", size.to_bytes(2, "little"), (size ^ 65535).to_bytes(2, "little")]
        pieces.append(block.data)
    pieces.append(zlib.compress(data[n_stored:], _LEVEL, wbits=-15))
    pieces.append(zlib.adler32(data).to_bytes(4, "big"))
    return b"".join(pieces)


def append_packed(
    group: h5py.Group,
    name: str,
    source: h5py.Dataset | PackedRows,
    n_rows: int,
    check: Callable[[], None],
) -> None:
    """Append the first n_rows rows, whole chunks, to a dataset as they are, damaged or not."""
    if isinstance(source, PackedRows):
        row, chunk = source.row, source.chunk
    else:
        row, chunk = source.shape[1:], source.chunks[0]
    if name not in group:
        group.create_dataset(
            name,
            shape=(0, *row),
            maxshape=(None, *row),
            dtype=source.dtype,
            chunks=(chunk, *row),
            **_FILTERS,
        )
    target = group[name]
    end = len(target)
    target.resize(end + n_rows, axis=0)
    at = (0,) * len(row)
    for first in range(0, n_rows, chunk):
        if isinstance(source, PackedRows):
            data = source.chunks[first // chunk]
        else:
            _, data = source.id.read_direct_chunk((first, *at))
        target.id.write_direct_chunk((end + first, *at), data)
        check()


def append_array(
    group: h5py.Group,
    name: str,
    values: h5py.Dataset | Array,
    start: int,
    stop: int,
    check: Callable[[], None],
    shift: int = 0,
) -> None:
    """Append values[start:stop] + shift to a dataset, chunk by chunk.

    Parameters
    ----------
    group : h5py.Group
        The dataset is made on the first call.
    name : str
    values : h5py.Dataset or ndarray
    start, stop : int
    check : callable
        Called between chunks.
    shift : int
    """
    if name not in group:
        row = values.shape[1:]
        size = max(1, int(np.prod(row)) * values.dtype.itemsize)
        chunk = max(1, min(_CHUNK_BYTES // size, 2**16))
        group.create_dataset(
            name,
            shape=(0, *row),
            maxshape=(None, *row),
            dtype=values.dtype,
            chunks=(chunk, *(max(1, n) for n in row)),
            **(_FILTERS if 0 not in row else {}),
        )
    target = group[name]
    chunk, end = target.chunks[0], len(target)
    target.resize(end + stop - start, axis=0)
    while start < stop:
        filled = end % chunk
        block = values[start : min(stop, start + chunk - filled)]
        block = block + shift if shift else block
        if filled or target.compression is None:
            target[end : end + len(block)] = block
        else:
            data = _compressed(np.ascontiguousarray(block, target.dtype), chunk)
            target.id.write_direct_chunk((end, *(0 for _ in block.shape[1:])), data)
        start, end = start + len(block), end + len(block)
        check()


def check_packed(source: h5py.Dataset) -> None:
    """Find out whether all chunks of a dataset are what was written.

    Raises
    ------
    ValueError
        If one is damaged.
    """
    size = int(np.prod(source.chunks)) * source.dtype.itemsize
    for first in range(0, len(source), source.chunks[0]):
        _, data = source.id.read_direct_chunk((first, *(0 for _ in source.shape[1:])))
        try:
            found = len(zlib.decompress(data))
        except zlib.error as error:  # type: ignore[misc]
            raise ValueError(f"a chunk of {source.name} is damaged: {error}") from error
        if found != size:
            raise ValueError(f"a chunk of {source.name} is damaged: it has another size")
