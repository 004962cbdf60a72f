"""The statistics of a trace as a table in CSV."""

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurosim.errors import TraceError
from neurosim.layers import Array
from neurosim.trace.files import writing

if TYPE_CHECKING:
    from neurosim.trace.reader import Trace

__all__ = ["write_table"]

_QUANTILES = (0.01, 0.05, 0.5, 0.95, 0.99)


def write_table(trace: "Trace", path: Path) -> None:
    """One row for each input and output; `Trace.to_csv` says which columns.

    Raises
    ------
    TraceError
        If the file cannot be written.
    """
    if path.is_dir():
        raise TraceError(f"{path}: expected the path of a file, got a folder")
    columns = _columns(trace)
    table = [np.broadcast_to(values, trace.mean.shape).ravel() for values in columns.values()]
    part = path.with_name(path.name + ".part")
    with writing(path):
        try:
            with open(part, "w", newline="", encoding="utf-8") as file:
                rows = csv.writer(file, lineterminator="\n")
                rows.writerow(columns)
                rows.writerows(zip(*(column.tolist() for column in table), strict=True))
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _columns(trace: "Trace") -> dict[str, Array]:
    """Arrays that broadcast to (n_inputs, n_outputs), by the name of their column."""
    inputs, outputs = np.indices(trace.mean.shape)
    columns: dict[str, Array] = {
        "input": inputs,
        "output": outputs,
        "golden": trace.golden,
        "trials": np.array(trace.completed),
        "mean": trace.mean,
        "variance": trace.variance,
        "third_moment": trace.third_moment,
        "fourth_moment": trace.fourth_moment,
        "minimum": trace.minimum,
        "maximum": trace.maximum,
    }
    columns |= {f"quantile_{q:g}": trace.quantile(q) for q in _QUANTILES}
    columns["class_changes"] = trace.class_changes[:, None]
    for e, epsilon in enumerate(trace.epsilons):
        columns[f"exceedances_{epsilon!r}"] = trace.exceedances[e]
        columns[f"exceedances_any_{epsilon!r}"] = trace.exceedances_any[e][:, None]
    for r, size in enumerate(trace.replicas):
        columns[f"median{size}_groups"] = trace.median_groups[r]
        for e, epsilon in enumerate(trace.epsilons):
            name = f"median{size}_exceedances"
            columns[f"{name}_{epsilon!r}"] = trace.median_exceedances[r, e]
            columns[f"{name}_any_{epsilon!r}"] = trace.median_exceedances_any[r, e][:, None]
    if trace.loss is not None:
        columns["loss_mean"] = trace.loss.mean[:, None]
        columns["loss_variance"] = trace.loss.variance[:, None]
    return columns
