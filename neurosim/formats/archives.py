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

from neurosim.errors import FormatError, InputError
from neurosim.layers import Array

__all__ = ["hdf5_array", "hdf5_child", "widened", "written_aside", "zip_member"]

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


def hdf5_child(group: Any, name: str) -> Any:
    """What lies in an HDF5 group under a name, never in another file; None if nothing does.

    Raises
    ------
    InputError
        If it is a link to elsewhere.
    """
    import h5py

    link = group.get(name, getlink=True) if isinstance(group, h5py.Group) else None
    if link is not None and not isinstance(link, h5py.HardLink):
        raise InputError(f"expected data in the file itself, got a {type(link).__name__}")
    return None if link is None else group[name]


def hdf5_array(file: Any, name: str, shape: tuple[int, ...]) -> Array:
    """Real numbers of a dataset inside this HDF5 file, as float64, bfloat16 among them.

    Raises
    ------
    InputError
        If there is none, it lies in another file, or it has another shape or type.
    """
    import h5py

    data = file
    try:
        for part in [part for part in name.split("/") if part]:
            data = hdf5_child(data, part)
            if data is None:
                raise InputError("expected a dataset, got nothing there")
        if not isinstance(data, h5py.Dataset):
            raise InputError("expected a dataset, got a group")
        if data.external or data.is_virtual:
            raise InputError("expected data in the file itself, got it in another file")
        # HDF5 has no such type: Keras writes two opaque bytes, and says so in archives alone.
        bfloat16 = (
            data.dtype == np.dtype("V2") and data.attrs.get("dtype", "bfloat16") == "bfloat16"
        )
        if data.dtype.kind != "f" and not bfloat16:
            raise InputError(
                f"expected real numbers, got dtype {data.dtype}; save the model with weights of "
                "float32"
            )
        if data.shape != shape:
            raise InputError(f"expected shape {shape}, got {data.shape}")
        if data.nbytes > max(_SMALL, _LARGEST_RATIO * data.id.get_storage_size()):
            raise InputError("expected stored numbers, got a declared size only")
        return widened(data[()]) if bfloat16 else np.asarray(data[()], np.float64)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{name}: expected readable data, got {error}; is it damaged?") from error


def widened(numbers: Array) -> Array:
    """bfloat16, two bytes each, as float64: they are the upper halves of float32."""
    upper = np.asarray(numbers).view("<u2").astype(np.uint32)
    return (upper << 16).view(np.float32).astype(np.float64)


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
