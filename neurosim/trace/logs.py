"""Tables of named columns in HDF5: the log of a search, complete after every row."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neurosim.errors import TraceError
from neurosim.layers import Array
from neurosim.trace.files import open_hdf5, reading, written_aside

__all__ = ["read_log", "write_log"]

_KIND = "neurosim log"


def write_log(
    path: str | os.PathLike[str], columns: Mapping[str, Any], attributes: Mapping[str, Any]
) -> None:
    """Write a table, one dataset a column; the file is replaced as a whole.

    Parameters
    ----------
    path : str or path-like
    columns : mapping of str to a sequence of numbers or strings
        All of one length.
    attributes : mapping of str to a number or a string

    Raises
    ------
    TraceError
        If it cannot be written, or there is a file that is no such log.
    """
    target = Path(path)
    if target.exists():
        read_log(target)
    aside = target.with_name(target.name + ".new")
    with written_aside(target, aside) as (file, _):
        file.attrs["kind"] = _KIND
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, values in columns.items():
            array = np.asarray(values)
            if array.dtype.kind in "UO":
                file.create_dataset(name, data=list(values), dtype=h5py.string_dtype())
            else:
                file.create_dataset(name, data=array)


def read_log(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Columns and attributes of a table that `write_log` wrote.

    Raises
    ------
    TraceError
        If there is no such file, or it is something else.
    """
    target = Path(path)
    with reading(target), open_hdf5(target) as file:
        attributes = dict(file.attrs)
        if attributes.pop("kind", None) != _KIND:
            raise TraceError(f"{target}: expected a log of a search, got another HDF5 file")
        columns = {
            name: dataset.asstr()[()] if h5py.check_string_dtype(dataset.dtype) else dataset[()]
            for name, dataset in file.items()
        }
    return columns, attributes
