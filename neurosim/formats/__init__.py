"""One reader for each foreign format: a path in, layers out. Heavy libraries load when needed."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from neurosim.errors import FormatError
from neurosim.formats.npz import read_npz, write_npz
from neurosim.layers import Dense

__all__ = ["read_network", "write_npz"]

# Layers, read-out (None or "softmax"), shape of one input.
Parts: TypeAlias = tuple[tuple[Dense, ...], str | None, tuple[int, ...]]


def _read_onnx(path: Path) -> Parts:
    try:
        from neurosim.formats.onnx import read_onnx
    except Exception as error:  # a protobuf that does not fit raises TypeError or its own errors
        raise FormatError(
            f"{path}: expected the package onnx to read .onnx files, got: "
            f"{' '.join(str(error).split())}; is it installed and does it import?"
        ) from error
    return read_onnx(path)


_READERS: dict[str, Callable[[Path], Parts]] = {".npz": read_npz, ".onnx": _read_onnx}


def read_network(path: Path) -> Parts:
    """Layers, read-out and input shape of a network file, by its ending.

    Raises
    ------
    FormatError
        If the file is missing, of an unknown kind, truncated, or holds what neurosim has no
        layers for.
    """
    if path.suffix not in _READERS:
        raise FormatError(
            f"{path}: expected a network file ending in {', '.join(_READERS)}, "
            f"got {path.suffix or 'no ending'}"
        )
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing there"
        raise FormatError(
            f"{path}: expected a network file ({', '.join(_READERS)} are read), got {found}"
        )
    return _READERS[path.suffix](path)
