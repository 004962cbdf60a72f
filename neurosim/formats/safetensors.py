"""Named arrays of a .safetensors file: a header in JSON and plain numbers, nothing that runs."""

from pathlib import Path

import numpy as np

from neurosim.errors import FormatError
from neurosim.layers import Array

__all__ = ["read_safetensors"]


def read_safetensors(path: Path) -> dict[str, Array]:
    """Arrays by name, in their own dtype.

    Raises
    ------
    FormatError
        If the file is truncated or foreign, or holds numbers that NumPy has no type for.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise FormatError(
            f"{path}: expected the package safetensors to read it; pip install safetensors"
        ) from error
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise FormatError(
            f"{path}: expected a safetensors file of float16, float32 or float64, got "
            f"{' '.join(str(error).split())}; is it truncated?"
        ) from error
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or array.dtype.name == "bfloat16":
            raise FormatError(f"{path}: {name}: expected real numbers, got dtype {array.dtype}")
    return arrays
