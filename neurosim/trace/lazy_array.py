"""Arrays in a trace that are read when they are sliced."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from neurosim.errors import TraceError
from neurosim.layers import Array
from neurosim.trace.changed_rows import ChangedErrors
from neurosim.trace.files import reading

__all__ = ["LazyArray"]


class LazyArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array in a trace: slices read what they need from the file, all else reads it whole.

    ``a[10:20]`` reads ten trials; ``np.asarray(a)``, ``a.mean(axis=0)``, ``a - b`` and everything
    else that NumPy arrays can do read all of it first.
    """

    def __init__(self, dataset: h5py.Dataset | ChangedErrors, path: Path) -> None:
        self._dataset, self._path = dataset, path
        self.shape: tuple[int, ...] = dataset.shape
        self.dtype: np.dtype[Any] = dataset.dtype
        self.ndim, self.size = dataset.ndim, dataset.size
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        simple = all(
            part is Ellipsis
            or isinstance(part, int | np.integer)
            or (isinstance(part, slice) and (part.step is None or part.step > 0))
            for part in parts
        )
        if not simple or any(isinstance(part, bool) for part in parts):
            return np.asarray(self)[key]
        if sum(part is not Ellipsis for part in parts) > self.ndim:
            raise IndexError(
                f"expected at most {self.ndim} indices for the shape {self.shape}, got {key!r}"
            )
        for part, n in zip(parts, self.shape, strict=False):
            if part is Ellipsis:
                break
            if isinstance(part, int | np.integer) and not -n <= part < n:
                raise IndexError(f"index {part} is out of bounds for an axis of size {n}")
        self._check_open()
        with reading(self._path):
            return self._dataset[key]

    def __iter__(self) -> Iterator[Array]:
        return (self[k] for k in range(len(self)))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        self._check_open()
        with reading(self._path):
            return np.asarray(self._dataset[()], dtype=dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        loaded = (np.asarray(x) if isinstance(x, LazyArray) else x for x in inputs)
        return getattr(ufunc, method)(*loaded, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(np.asarray(self), name)

    def _check_open(self) -> None:
        if not self._dataset:
            raise TraceError(f"{self._path}: expected an open trace, but it has been closed")

    def __repr__(self) -> str:
        return f"<LazyArray {self.shape} {self.dtype} in {self._path.name}>"
