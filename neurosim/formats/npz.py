"""Networks as NumPy archives: weight_1, bias_1, activation_1, weight_2, ... (docs/formats.md)."""

import os
import uuid
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.errors import FormatError, InputError
from neurosim.layers import Activation, Array, Dense

__all__ = ["read_npz", "write_npz"]


def read_npz(path: Path) -> tuple[tuple[Dense, ...], str | None, tuple[int, ...]]:
    """Layers, read-out and input shape of a .npz network.

    Raises
    ------
    FormatError
        If the file is truncated or foreign, or a key or its value is not as documented.
    """
    arrays = _arrays(path)
    depth = sum(key.startswith("weight_") for key in arrays)
    names = [
        f"{part}_{number}"
        for number in range(1, depth + 1)
        for part in ("weight", "bias", "activation")
    ]
    known = [*names, "input_shape"]
    for key in arrays:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            mend = f"; did you mean {close[0]}?" if close else ""
            raise FormatError(
                f"{path}: expected keys weight_1, bias_1, activation_1, weight_2, ... without "
                f"gaps, and input_shape, got {key}{mend}"
            )
    missing = [key for key in names if key not in arrays and not key.startswith("bias")]
    if missing or not depth:
        raise FormatError(f"{path}: expected key {(missing or ['weight_1'])[0]}, got none")
    layers, readout = [], None
    for number in range(1, depth + 1):
        weight = _numbers(path, arrays, f"weight_{number}")
        bias = (
            _numbers(path, arrays, f"bias_{number}")
            if f"bias_{number}" in arrays
            else np.zeros(weight.shape[:1])
        )
        spelled = _text(path, arrays, f"activation_{number}")
        if spelled == "softmax" and number == depth:
            readout, spelled = "softmax", "identity"
        try:
            layers.append(Dense(weight=weight, bias=bias, activation=Activation.parse(spelled)))
        except InputError as error:
            raise FormatError(f"{path}: layer {number}: {error}") from error
    return tuple(layers), readout, _input_shape(path, arrays, layers[0].n_in)


def _arrays(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path):  # np.load takes some foreign bytes for a pickle
            pass
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (
        OSError,
        ValueError,
        EOFError,
        RuntimeError,  # an encrypted archive, or a compression zipfile does not know
        MemoryError,  # a size that was overwritten
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise FormatError(
            f"{path}: expected a NumPy archive (.npz) without pickled objects, got {error}; "
            "is the file truncated?"
        ) from error
    for key, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise FormatError(f"{path}: expected NumPy arrays only, got {key}")
    return arrays


def _numbers(path: Path, arrays: Mapping[str, Array], key: str) -> Array:
    if arrays[key].dtype.kind not in "fiub":
        raise FormatError(f"{path}: {key}: expected real numbers, got dtype {arrays[key].dtype}")
    return arrays[key]


def _text(path: Path, arrays: Mapping[str, Array], key: str) -> str:
    array = arrays[key]
    if array.dtype.kind != "U" or array.ndim:
        raise FormatError(
            f'{path}: {key}: expected one text, for instance "relu", got dtype {array.dtype} '
            f"of shape {array.shape}"
        )
    return str(array)


def _input_shape(path: Path, arrays: Mapping[str, Array], n_in: int) -> tuple[int, ...]:
    array = arrays.get("input_shape", np.array([n_in]))
    sizes = array.ravel().tolist()
    product = 1
    if array.ndim <= 1 and array.dtype.kind in "iu" and min(sizes, default=0) > 0:
        for size in sizes:
            product *= size
        if product == n_in:
            return tuple(sizes)
    raise FormatError(
        f"{path}: input_shape: expected sizes of {n_in} values in all, the inputs of layer 1, "
        f"got {array.tolist()}"
    )


def write_npz(
    path: Path, layers: Sequence[Dense], readout: str | None, input_shape: Sequence[int]
) -> None:
    """Write a .npz network: beside the path first, then moved there, so that none is half written.

    The same network gives the same bytes.

    Raises
    ------
    FormatError
        If the path does not end in .npz or cannot be written.
    """
    if path.suffix != ".npz":
        raise FormatError(f"{path}: expected a path that ends in .npz, got {path.suffix!r}")
    if readout == "softmax" and layers[-1].activation.kind != "identity":
        raise FormatError(
            f"{path}: expected an identity before the softmax read-out, got "
            f"{layers[-1].activation}; .npz holds one activation a layer"
        )
    arrays: dict[str, Array] = {"input_shape": np.array(input_shape, np.int64)}
    for number, layer in enumerate(layers, start=1):
        softmax = readout == "softmax" and number == len(layers)
        arrays[f"weight_{number}"] = layer.weight
        arrays[f"bias_{number}"] = layer.bias
        arrays[f"activation_{number}"] = np.array("softmax" if softmax else str(layer.activation))
    # Opened by name, not by tempfile: that one would let nobody but the owner read the network.
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with aside.open("xb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        raise FormatError(f"{path}: expected a place to write to, got {error}") from error
    finally:
        with suppress(OSError):  # moved, or never made
            aside.unlink()
