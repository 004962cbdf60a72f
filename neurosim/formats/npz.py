"""Networks as NumPy archives: weight_1, bias_1, activation_1, weight_2, ... (docs/formats.md).

What is no chain of dense layers has a key `nodes` besides, which describes all layers.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.errors import FormatError, InputError
from neurosim.formats.archives import written_aside
from neurosim.formats.steps import Parts
from neurosim.graph import Node
from neurosim.layers import (
    Activation,
    Add,
    Affine,
    Array,
    AveragePool2D,
    Concatenate,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool,
    MaxPool2D,
    Reshape,
    Shape,
    Slice,
    Transpose,
)

__all__ = ["read_npz", "write_npz"]

_LAYERS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Dense,
        Conv2D,
        MaxPool2D,
        AveragePool2D,
        GlobalAveragePool,
        Flatten,
        Reshape,
        Transpose,
        Slice,
        Affine,
        Add,
        Concatenate,
    )
}
# Fields of layers that are arrays of their own, numbered as the nodes are.
_ARRAYS = ("weight", "bias", "scale", "shift")


def read_npz(path: Path) -> Parts:
    """Nodes, read-out and input shape of a .npz network.

    Raises
    ------
    FormatError
        If the file is truncated or foreign, or a key or its value is not as documented.
    """
    arrays = _arrays(path)
    if "nodes" in arrays:
        return _graph(path, arrays)
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
    nodes = tuple(Node(layer, (k,)) for k, layer in enumerate(layers))
    return nodes, readout, _input_shape(path, arrays, layers[0].n_in)


def _graph(path: Path, arrays: Mapping[str, Array]) -> Parts:
    """A network whose layers the key `nodes` describes, as JSON."""
    try:
        described = json.loads(_text(path, arrays, "nodes"))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: nodes: expected JSON, got {error}") from error
    if not isinstance(described, list) or not described:
        raise FormatError(f"{path}: nodes: expected a list of layers, got {described!r}")
    left = set(arrays) - {"nodes", "input_shape", "readout"}
    nodes = []
    for number, entry in enumerate(described, start=1):
        where = f"{path}: nodes: layer {number}"
        if not isinstance(entry, dict) or entry.get("layer") not in _LAYERS:
            raise FormatError(f"{where}: expected one of {', '.join(_LAYERS)}, got {entry!r:.100}")
        kind = _LAYERS[entry["layer"]]
        names = {field.name for field in fields(kind)}
        values = {key: value for key, value in entry.items() if key not in ("layer", "sources")}
        unknown = sorted(set(values) - names | set(values) & set(_ARRAYS))
        if unknown:
            raise FormatError(f"{where}: expected keys {', '.join(sorted(names))}, got {unknown}")
        for key in sorted(names & set(_ARRAYS)):
            if f"{key}_{number}" not in arrays:
                raise FormatError(f"{where}: expected key {key}_{number}, got none")
            values[key] = _numbers(path, arrays, f"{key}_{number}")
            left.discard(f"{key}_{number}")
        try:
            if "activation" in values:
                values["activation"] = Activation.parse(values["activation"])
            nodes.append(Node(kind(**values), entry["sources"]))
        except (InputError, TypeError, ValueError, KeyError) as error:
            raise FormatError(f"{where} ({kind.__name__}): {error}") from error
    if left:
        raise FormatError(f"{path}: expected keys that the nodes name, got {sorted(left)}")
    readout = _text(path, arrays, "readout") if "readout" in arrays else None
    return tuple(nodes), readout, _sizes(path, arrays)


def _sizes(path: Path, arrays: Mapping[str, Array]) -> Shape:
    array = arrays.get("input_shape")
    if array is None or array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
        raise FormatError(f"{path}: input_shape: expected the shape of one input, got {array}")
    return tuple(int(n) for n in array)


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


def write_npz(path: Path, nodes: Sequence[Node], readout: str | None, input_shape: Shape) -> None:
    """Write a .npz network: beside the path first, then moved there, so that none is half written.

    The same network gives the same bytes.

    Raises
    ------
    FormatError
        If the path cannot be written.
    """
    arrays: dict[str, Array] = {"input_shape": np.array(input_shape, np.int64)}
    layers = [node.layer for node in nodes if isinstance(node.layer, Dense)]
    if len(layers) == len(nodes) and all(node.sources == (k,) for k, node in enumerate(nodes)):
        if readout == "softmax" and layers[-1].activation.kind != "identity":
            raise FormatError(
                f"{path}: expected an identity before the softmax read-out, got "
                f"{layers[-1].activation}; .npz holds one activation a layer"
            )
        for number, layer in enumerate(layers, start=1):
            softmax = readout == "softmax" and number == len(layers)
            spelled = "softmax" if softmax else str(layer.activation)
            arrays[f"weight_{number}"] = layer.weight
            arrays[f"bias_{number}"] = layer.bias
            arrays[f"activation_{number}"] = np.array(spelled)
    else:
        described = []
        for number, node in enumerate(nodes, start=1):
            entry: dict[str, Any] = {"layer": type(node.layer).__name__, "sources": node.sources}
            for field in fields(node.layer):
                value = getattr(node.layer, field.name)
                if field.name in _ARRAYS:
                    arrays[f"{field.name}_{number}"] = value
                else:
                    entry[field.name] = str(value) if isinstance(value, Activation) else value
            described.append(entry)
        arrays["nodes"] = np.array(json.dumps(described))
        if readout is not None:
            arrays["readout"] = np.array(readout)
    with written_aside(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
