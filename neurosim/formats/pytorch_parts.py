"""Functions of PyTorch that join tensors or cut parts from one."""

from neurosim.formats.joins import concatenated, sliced, split
from neurosim.formats.pytorch_arguments import Given, Reader, computed
from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor

__all__ = ["PARTS"]


def _tensors(given: Given) -> list[Tensor]:
    tensors: list[Tensor] = given["tensors"]
    if not all(isinstance(part, Tensor) for part in tensors):
        raise UnreadableError("expected computed inputs, got a constant among them")
    return tensors


def _concatenated(given: Given) -> Tensor:
    tensors = _tensors(given)
    return concatenated(tensors, tensors[0].axis(int(given["dim"])) - 1)


def _stacked(given: Given) -> Tensor:
    tensors = _tensors(given)
    axis = int(given["dim"]) % (len(tensors[0].shape or ()) + 2)
    return concatenated([part.unsqueezed([axis]) for part in tensors], axis - 1)


def _sliced(given: Given) -> Tensor:
    x = computed(given)
    start, stop = given["start"], given["end"]
    return sliced(x, x.axis(int(given["dim"])), start, stop, int(given["step"]))


def _narrowed(given: Given) -> Tensor:
    x, start = computed(given), int(given["start"])
    stop = start + int(given["length"])
    return sliced(x, x.axis(int(given["dim"])), start, None if start < 0 == stop else stop)


def _selected(given: Given) -> Tensor:
    x, index = computed(given), int(given["index"])
    axis = x.axis(int(given["dim"]))
    return sliced(x, axis, index, index + 1 or None).squeezed([axis])


def _split(given: Given) -> tuple[Tensor, ...]:
    """Parts of one size, or of given sizes; chunks are so many parts of one size, the last less."""
    x = computed(given)
    axis = x.axis(int(given["dim"]))
    n = ([0, *(x.shape or ())])[axis]
    sizes = given.get("split_sizes", given.get("split_size"))
    if "chunks" in given:
        sizes = -(-n // int(given["chunks"]))
    if isinstance(sizes, int):
        size = max(1, sizes)
        sizes = [min(size, n - start) for start in range(0, n, size)]
    return split(x, axis, [int(size) for size in sizes])


def _unbound(given: Given) -> tuple[Tensor, ...]:
    axis = computed(given).axis(int(given["dim"]))
    return tuple(part.squeezed([axis]) for part in _split({**given, "split_size": 1}))


PARTS: dict[str, Reader] = {
    "cat": _concatenated,
    "concat": _concatenated,
    "stack": _stacked,
    "slice": _sliced,
    "narrow": _narrowed,
    "select": _selected,
    "split": _split,
    "split_with_sizes": _split,
    "chunk": _split,
    "unbind": _unbound,
}
