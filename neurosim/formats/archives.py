"""Foreign archives opened with suspicion, and files that appear whole or not at all."""

import os
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from neurosim.errors import FormatError
from neurosim.layers import Array

__all__ = ["hdf5_array", "written_aside", "zip_member"]

# More than weights ever shrink by, and a size below which it does not matter.
_LARGEST_RATIO, _SMALL = 200, 2**26


def zip_member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of one member, read in memory: no name in the archive becomes a path.

    Raises
    ------
    FormatError
        If there is no such member, there are two, it is damaged or would blow up.
    """
    found = [item for item in archive.infolist() if item.filename == name]
    if len(found) != 1:
        raise FormatError(f"{path}: expected one member {name}, got {len(found)}")
    (item,) = found
    if item.file_size > max(_SMALL, _LARGEST_RATIO * item.compress_size):
        raise FormatError(
            f"{path}: {name}: expected at most {_LARGEST_RATIO} times its compressed size, "
            f"{item.compress_size} bytes, got {item.file_size}; the archive would blow up"
        )
    try:
        return archive.read(item)
    except (
        OSError,
        EOFError,
        RuntimeError,  # encrypted
        NotImplementedError,  # a compression that zipfile does not know
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise FormatError(
            f"{path}: {name}: expected readable data, got {error}; is the file truncated?"
        ) from error


def hdf5_array(path: Path, group: Any, name: str, shape: tuple[int, ...]) -> Array:
    """Real numbers of a dataset inside this HDF5 file, as float64.

    Raises
    ------
    FormatError
        If there is none, it lies in another file, or it has another shape or type.
    """
    import h5py

    where = f"{path}: {group.name.rstrip('/')}/{name}"
    parts = [part for part in name.split("/") if part]
    try:
        for part in parts:
            if not isinstance(group, h5py.Group) or group.get(part, getlink=True) is None:
                raise FormatError(f"{where}: expected a dataset, got nothing there")
            link = group.get(part, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise FormatError(
                    f"{where}: expected data in the file itself, got a {type(link).__name__}"
                )
            group = group[part]
        if not isinstance(group, h5py.Dataset):
            raise FormatError(f"{where}: expected a dataset, got a group")
        if group.external or group.is_virtual:
            raise FormatError(f"{where}: expected data in the file itself, got it in another file")
        if group.dtype.kind != "f":
            raise FormatError(f"{where}: expected real numbers, got dtype {group.dtype}")
        if group.shape != shape:
            raise FormatError(f"{where}: expected shape {shape}, got {group.shape}")
        if group.nbytes > max(_SMALL, _LARGEST_RATIO * group.id.get_storage_size()):
            raise FormatError(f"{where}: expected stored numbers, got a declared size only")
        return np.asarray(group[()], np.float64)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"{where}: expected readable data, got {error}; is it damaged?"
        ) from error


@contextmanager
def written_aside(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, moved to its path once it is whole.

    Raises
    ------
    FormatError
        If it cannot be written.
    """
    # Opened by name, not by tempfile: that one would let nobody but the owner read the network.
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with aside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        raise FormatError(f"{path}: expected a place to write to, got {error}") from error
    finally:
        with suppress(OSError):  # moved, or never made
            aside.unlink()
