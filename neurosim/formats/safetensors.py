"""Named arrays of a .safetensors file: a header in JSON and plain numbers, nothing that runs."""

from pathlib import Path

import numpy as np

from neurosim.errors import FormatError
from neurosim.formats.archives import widened
from neurosim.layers import Array

__all__ = ["read_safetensors"]

_KINDS = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8")


def read_safetensors(path: Path) -> dict[str, Array]:
    """Arrays by name, in their own dtype; bfloat16 as float64, exactly.

    Raises
    ------
    FormatError
        If the file is truncated or foreign, or holds other numbers, of 8 bits for instance; the
        message names the array.
    """
    try:
        from safetensors import SafetensorError, deserialize, safe_open
    except ImportError as error:
        raise FormatError(
            f"{path}: expected the package safetensors to read it; pip install safetensors"
        ) from error
    try:
        with safe_open(path, framework="numpy") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            for name, kind in kinds.items():
                if kind not in _KINDS:
                    raise FormatError(
                        f"{path}: {name}: expected one of {', '.join(_KINDS)}, got {kind}; save it "
                        "in float32, for instance tensor.float()"
                    )
            arrays = {n: np.asarray(file.get_tensor(n)) for n in kinds if kinds[n] != "BF16"}
        if len(arrays) < len(kinds):  # NumPy has no bfloat16: its bytes are taken as they are
            for name, stored in deserialize(path.read_bytes()):  # type: ignore[no-untyped-call]
                if stored["dtype"] == "BF16":
                    numbers = np.frombuffer(stored["data"], "<u2").reshape(stored["shape"])
                    arrays[name] = widened(numbers)
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise FormatError(
            f"{path}: expected a safetensors file, got {' '.join(str(error).split())}; is it "
            "truncated?"
        ) from error
    return arrays
