"""Networks as NumPy archives: weight_1, bias_1, activation_1, weight_2, ... (docs/formats.md)."""

import os
import zipfile
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np

from neurosim.errors import FormatError, InputError
from neurosim.layers import Activation, Array, Dense

__all__ = ["read_npz", "write_npz"]


def read_npz(path: Path) -> tuple[tuple[Dense, ...], str | None, tuple[int, ...]]:
    """Layers, read-out and input shape of a .npz network."""
    try:
        with zipfile.ZipFile(path):  # np.load takes some foreign bytes for a pickle
            pass
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise FormatError(
            f"{path}: expected a NumPy archive (.npz) without pickled objects, got {error}; "
            "is the file truncated?"
        ) from error
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
        weight = arrays[f"weight_{number}"]
        spelled = str(arrays[f"activation_{number}"])
        if spelled == "softmax" and number == depth:
            readout, spelled = "softmax", "identity"
        try:
            layers.append(
                Dense(
                    weight=weight,
                    bias=arrays.get(f"bias_{number}", np.zeros(len(weight))),
                    activation=Activation.parse(spelled),
                )
            )
        except InputError as error:
            raise InputError(f"{path}: layer {number}: {error}") from error
    shape = tuple(int(n) for n in np.atleast_1d(arrays.get("input_shape", [])))
    return tuple(layers), readout, shape


def write_npz(
    path: Path, layers: Sequence[Dense], readout: str | None, input_shape: Sequence[int]
) -> None:
    """Write a .npz network: beside the path first, then moved there, so that none is half written.

    Raises
    ------
    FormatError
        If the path does not end in .npz or cannot be written.
    """
    if path.suffix != ".npz":
        raise FormatError(f"{path}: expected a path that ends in .npz, got {path.suffix!r}")
    arrays: dict[str, Array] = {"input_shape": np.array(input_shape, np.int64)}
    for number, layer in enumerate(layers, start=1):
        softmax = readout == "softmax" and number == len(layers)
        arrays[f"weight_{number}"] = layer.weight
        arrays[f"bias_{number}"] = layer.bias
        arrays[f"activation_{number}"] = np.array("softmax" if softmax else str(layer.activation))
    if readout == "softmax" and layers[-1].activation.kind != "identity":
        raise FormatError(
            f"{path}: expected an identity before the softmax read-out, got "
            f"{layers[-1].activation}; .npz holds one activation a layer"
        )
    temporary = None
    try:
        with NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
            temporary = file.name
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise FormatError(f"{path}: expected a place to write to, got {error}") from error
