"""Arguments of a function of ATen: constants of torch, and tensors of the network."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from neurosim.formats.axes import BATCH
from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers import Array

__all__ = ["Given", "Reader", "check_counts", "computed", "real", "real_array"]

# Arguments of a function of ATen, by their names.
Given: TypeAlias = Mapping[str, Any]
# What a function makes of them.
Reader: TypeAlias = Callable[[Given], Any]


def computed(given: Given) -> Tensor:
    """The argument that must be computed."""
    x = given.get("self", given.get("input"))
    if not isinstance(x, Tensor):
        raise UnreadableError("expected the network's values as the first argument")
    return x


def real(value: Any) -> Array:
    """A constant to compute with, as float64."""
    if isinstance(value, Tensor):
        raise UnreadableError("expected constant weights, got ones that depend on the input")
    check_counts([value])
    if hasattr(value, "detach"):
        return real_array("constant", value)
    return np.asarray(value, np.float64)


def real_array(label: str, value: Any) -> Array:
    """Numbers of a torch tensor as float64.

    Raises
    ------
    UnreadableError
        If it holds anything but real numbers, or none at all.
    """
    import torch

    if value.is_meta:
        raise UnreadableError(f"{label}: expected numbers, got a tensor on the device meta")
    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        raise UnreadableError(
            f"{label}: expected real numbers in a dense tensor, got {value.dtype}"
        )
    return np.asarray(value.detach().to("cpu", torch.float64).numpy())


def check_counts(values: Iterable[Any]) -> None:
    """Refuse the number of inputs, or what is computed from it, among constants."""
    if any(isinstance(value, int) and value <= BATCH // 2 for value in values):
        raise UnreadableError("expected numbers that do not depend on how many inputs there are")
