"""Recorded errors: the rows of changed outputs alone, compressed where they were computed.

Trial t changed the outputs of inputs[start[t]:stop[t]] by values[start[t]:stop[t]]; trials with
equal fault sets share their rows. The rows of a unit of work begin with a chunk of the HDF5
datasets and are filled up with zeros to whole ones: each chunk is compressed once, by the worker,
and later moved from file to file as it is.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from neurosim.kernels.changes import spread
from neurosim.kernels.shuffling import shuffle_words
from neurosim.layers import Array
from neurosim.statistics import Changes

try:
    from isal import isal_zlib as zlib
except ImportError:  # a processor that this faster one does not know
    import zlib  # type: ignore[no-redef]

__all__ = [
    "ChangedErrors",
    "PackedRows",
    "append_packed",
    "check_packed",
    "joined_packed",
    "pack",
    "rows_in_use",
]

_CHUNK_BYTES = 2**18
_LEVEL = 1
# Chunks are what HDF5 itself makes of these filters.
_FILTERS: dict[str, Any] = {"compression": "gzip", "compression_opts": _LEVEL, "shuffle": True}


@dataclass(frozen=True)
class PackedRows:
    """Rows of a dataset as its compressed chunks.

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

    @property
    def nbytes(self) -> int:
        """Memory that the chunks take."""
        return sum(map(len, self.chunks))


def pack(changes: Changes) -> dict[str, Array | PackedRows]:
    """The datasets `errors/...` of a range of trials."""
    start, stop = changes.pairs()
    changed = stop > start
    row_bytes = changes.values.shape[1] * changes.values.dtype.itemsize
    chunk = max(1, min(2**16, _CHUNK_BYTES // row_bytes))
    inputs = changes.inputs.astype(np.min_scalar_type(changes.n_inputs - 1))
    return {
        "errors/start": np.where(changed, start, 0),
        "errors/stop": np.where(changed, stop, 0),
        "errors/inputs": _packed(inputs, chunk),
        "errors/values": _packed(changes.values, chunk),
    }


def _packed(values: Array, chunk: int) -> PackedRows:
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


def joined_packed(parts: Sequence[dict[str, Any]]) -> dict[str, Array | PackedRows]:
    """The datasets of consecutive ranges of trials as those of one."""
    joined: dict[str, Array | PackedRows] = {}
    for name in ("errors/inputs", "errors/values"):
        first: PackedRows = parts[0][name]
        chunks = tuple(c for part in parts for c in part[name].chunks)
        joined[name] = PackedRows(first.row, first.dtype, first.chunk, chunks)
    counts = [len(part["errors/values"].chunks) * part["errors/values"].chunk for part in parts]
    for name in ("errors/start", "errors/stop"):
        joined[name] = np.concatenate([
            shifted(part[name], part["errors/stop"], before)
            for part, before in zip(parts, np.cumsum([0, *counts[:-1]]), strict=True)
        ])  # fmt: skip
    return joined


def shifted(numbers: Array, stop: Array, by: int) -> Array:
    """Numbers of rows, or their ends, that lie `by` rows later; 0 where a trial has none."""
    return np.where(stop > 0, numbers + by, 0)


def rows_in_use(stop: Array, chunk: int) -> int:
    """Rows of the first trials, whose ends are given, in whole chunks."""
    return -(-int(stop.max(initial=0)) // chunk) * chunk


def append_packed(
    group: h5py.Group,
    name: str,
    source: h5py.Dataset | PackedRows,
    n_rows: int,
    check: Callable[[], None],
) -> None:
    """Append the first n_rows rows, whole chunks, to a dataset as they are.

    Raises
    ------
    ValueError
        If a chunk of a file is damaged.
    """
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
            data = _sound_chunk(source, first)
        target.id.write_direct_chunk((end + first, *at), data)
        check()


def check_packed(source: h5py.Dataset) -> None:
    """Find out whether all chunks of a dataset are what was written.

    Raises
    ------
    ValueError
        If one is damaged.
    """
    for first in range(0, len(source), source.chunks[0]):
        _sound_chunk(source, first)


def _sound_chunk(source: h5py.Dataset, first: int) -> bytes:
    """The chunk that begins with row `first`, as it is, once it has been seen to decompress."""
    _, data = source.id.read_direct_chunk((first, *(0 for _ in source.shape[1:])))
    try:
        size = len(zlib.decompress(data))
    except zlib.error as error:  # type: ignore[misc]
        raise ValueError(f"a chunk of {source.name} is damaged: {error}") from error
    if size != int(np.prod(source.chunks)) * source.dtype.itemsize:
        raise ValueError(f"a chunk of {source.name} is damaged: it has another size")
    return bytes(data)


class ChangedErrors:
    """Recorded errors as a dataset (n_trials, n_inputs, n_outputs) that is read in slices.

    Parameters
    ----------
    group : h5py.Group
        With the datasets start, stop, inputs and values.
    n_inputs : int
    """

    def __init__(self, group: h5py.Group, n_inputs: int) -> None:
        self._group = group
        values = group["values"]
        self.shape = (len(group["start"]), n_inputs, values.shape[1])
        self.dtype: np.dtype[Any] = values.dtype
        self.ndim, self.size = 3, int(np.prod(self.shape))

    def __bool__(self) -> bool:
        return bool(self._group)

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        if not parts or parts[0] is Ellipsis:
            return self._read(0, len(self))[key]
        trials, rest = parts[0], parts[1:]
        if not isinstance(trials, slice):
            first = int(trials) % len(self)
            return self._read(first, first + 1)[(0, *rest)]
        first, stop, step = trials.indices(len(self))
        return self._read(first, max(first, stop))[(slice(None, None, step), *rest)]

    def __len__(self) -> int:
        return self.shape[0]

    def _read(self, first: int, last: int) -> Array:
        start, stop = self._group["start"][first:last], self._group["stop"][first:last]
        errors = np.zeros((last - first, *self.shape[1:]), self.dtype)
        changed = np.flatnonzero(stop > start)
        if not len(changed):
            return errors
        low, high = int(start[changed].min()), int(stop.max())
        inputs = self._group["inputs"][low:high].astype(np.int32)
        values = self._group["values"][low:high]
        spread(start - low, stop - low, inputs, values, errors)
        return errors
