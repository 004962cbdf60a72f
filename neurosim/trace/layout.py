"""What lies where in a trace: its header, its statistics, its rows of trials.

`docs/trace-format.md` is the description; a change here that old readers would misread raises
VERSION there and here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from neurosim import environment
from neurosim.campaign import Campaign
from neurosim.environment import Environment
from neurosim.errors import CampaignMismatchError, TraceError
from neurosim.faults import Events, FaultBatch
from neurosim.layers import Array
from neurosim.statistics import Changes, Statistics
from neurosim.trace import provenance
from neurosim.trace.changed_rows import (
    ChangedRows,
    PlacedRows,
    Places,
    append_errors,
    joined_errors,
    pack,
)
from neurosim.trace.damage import CHECKSUM, check_checksum, checksum
from neurosim.trace.files import reading
from neurosim.trace.packed_rows import append_array
from neurosim.weighted_statistics import WeightedResults, WeightedStatistics

__all__ = [
    "STATE",
    "TRACE",
    "TRIALS",
    "VERSION",
    "Header",
    "Rows",
    "append_rows",
    "check_same_campaign",
    "copy_rows",
    "joined_rows",
    "merged",
    "placed_rows",
    "read_header",
    "read_state",
    "read_statistics",
    "read_weighted",
    "row_bytes",
    "rows_of",
    "write_campaign",
    "write_header",
    "write_plan",
    "write_results",
    "write_statistics",
]

VERSION = 3

# The `format` attribute of the three kinds of files.
TRACE, STATE, TRIALS = "neurosim trace", "neurosim trace state", "neurosim trace trials"

# Values a trial at a time (or an event at a time), by the name of their dataset in group `trials`;
# `errors` is a group of several.
Rows: TypeAlias = dict[str, Array | ChangedRows | PlacedRows]

_COMPRESSION: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
_SMALL = 2**16  # bytes below which compression is not worth a chunked dataset
_BLOCK_BYTES = 2**24
_KNOWN_ELSEWHERE = ("epsilons", "replicas")  # of Statistics: they lie in group `campaign`


@dataclass(frozen=True, kw_only=True)
class Header:
    """Which trials of which campaign a file holds.

    Parameters
    ----------
    fingerprint : str
    components : dict of str to str
        What determines the numbers, by name. Empty in a file of trials.
    first, stop : int
        The trials: first .. stop - 1.
    resume : int
        Where a continuation begins to compute: the end of the last complete unit of work.
    """

    fingerprint: str
    components: dict[str, str]
    first: int
    stop: int
    resume: int


def write_header(
    file: h5py.File, kind: str, fingerprint: str, first: int, stop: int, resume: int
) -> None:
    """Write the attributes that every file begins with."""
    file.attrs["format"] = kind
    file.attrs["version"] = VERSION
    file.attrs["fingerprint"] = fingerprint
    for name, value in (("first_trial", first), ("stop_trial", stop), ("resume_trial", resume)):
        file.attrs[name] = value


def read_header(file: h5py.File, path: Path, kind: str) -> Header:
    """Read and check the attributes that every file begins with.

    Raises
    ------
    TraceError
        If the file is of another kind, of a newer version or damaged.
    """
    with reading(path):
        found = file.attrs.get("format")
        if found != kind:
            what = "an HDF5 file of something else" if not isinstance(found, str) else found
            raise TraceError(f"{path}: expected a file of format {kind!r}, got {what!r}")
        version = int(file.attrs["version"])
        if version > VERSION:
            raise TraceError(
                f"{path}: expected format version {VERSION} or older, got {version}; it was "
                "written by a newer neurosim: install that one"
            )
        components = {}
        if "campaign" in file:
            names = file["campaign/component_names"].asstr()[()]
            values = file["campaign/component_values"].asstr()[()]
            components = dict(zip(names, values, strict=True))
        return Header(
            fingerprint=str(file.attrs["fingerprint"]),
            components=components,
            first=int(file.attrs["first_trial"]),
            stop=int(file.attrs["stop_trial"]),
            resume=int(file.attrs["resume_trial"]),
        )


def check_same_campaign(
    path: Path, header: Header, fingerprint: str, components: Mapping[str, str], mend: str
) -> None:
    """Refuse the trace of another campaign.

    Raises
    ------
    CampaignMismatchError
        Naming what differs, with both values.
    """
    if header.fingerprint == fingerprint:
        return
    names = [*components, *(name for name in header.components if name not in components)]
    different = [
        f"{name} is {_short(header.components.get(name))} there and "
        f"{_short(components.get(name))} here"
        for name in names
        if header.components.get(name) != components.get(name)
    ]
    raise CampaignMismatchError(
        f"{path}: expected a trace of this campaign, got one of another: "
        f"{'; '.join(different) or 'the fingerprints differ'}; {mend}"
    )


def _short(value: str | None) -> str:
    if value is None:
        return "absent"
    is_hash = len(value) == 64 and set(value) <= set("0123456789abcdef")
    if is_hash:
        return f"{value[:12]}..."
    return value if len(value) <= 160 else f"{value[:157]}..."


def write_plan(
    group: h5py.Group, campaign: Campaign, enumerated: WeightedStatistics | None
) -> None:
    """Write the explicit arrays of a weighted plan, and what was enumerated beside its trials."""
    if enumerated is None:
        return
    draws = campaign.draws
    plan = group.create_group("plan")
    plan.attrs["plan"] = str(campaign.plan)
    plan.attrs["resolved_from"] = draws.campaign
    largest = np.zeros(campaign.n_inputs)
    for one in draws.groups:
        largest[one.first : one.stop] = one.largest_weight
    derived = {"largest_weight": largest, "stratum_share": draws.shares}
    for name, array in (draws.arrays | derived).items():
        _create(plan, name, array)
    write_statistics(group.create_group("enumerated"), enumerated)


def _create(group: h5py.Group, name: str, array: Array) -> None:
    options = _COMPRESSION if array.ndim and array.nbytes > _SMALL else {}
    group.create_dataset(name, data=array, **options)


def write_campaign(group: h5py.Group, campaign: Campaign, golden: Array) -> None:
    """Write what a reader needs to know of the campaign."""
    text = h5py.string_dtype("utf-8")
    components = campaign.components
    processes = [str(process) for process in campaign.faults]
    for name, strings in (
        ("component_names", list(components)),
        ("component_values", list(components.values())),
        ("processes", processes),
    ):
        group.create_dataset(name, data=np.array(strings, dtype=object), dtype=text)
    group["ticks"] = campaign.ticks
    group["widths"] = np.array(campaign.network.widths, np.int64)
    group["epsilons"] = np.array(campaign.epsilons, np.float64)
    group["replicas"] = np.array(campaign.replicas, np.int64)
    group["histogram_edges"] = campaign.histogram_edges
    group["golden"] = golden
    if campaign.targets is not None:
        group["targets"] = campaign.targets
    if campaign.labels is not None:
        group["labels"] = campaign.labels


def write_statistics(group: h5py.Group, statistics: Statistics | WeightedStatistics) -> None:
    """Write statistics, one dataset for each entry of their `to_arrays`, and a checksum."""
    arrays = {
        name: np.asarray(value)
        for name, value in statistics.to_arrays().items()
        if name not in _KNOWN_ELSEWHERE
    }
    for name, array in arrays.items():
        _create(group, name, array)
    group.attrs[CHECKSUM] = checksum(arrays)


def read_statistics(
    file: h5py.File, path: Path, group: str = "statistics"
) -> Statistics | WeightedStatistics:
    """Read what `write_statistics` wrote.

    Raises
    ------
    TraceError
        If the file is damaged.
    """
    with reading(path):
        flat = {name: dataset[()] for name, dataset in file[group].items()}
        check_checksum(file[group], flat)
        for name in _KNOWN_ELSEWHERE:
            flat[name] = file["campaign"][name][()]
        if "evaluated" in flat:
            return WeightedStatistics.from_arrays(flat)
        return Statistics.from_arrays(flat)


def read_weighted(file: h5py.File, path: Path) -> WeightedResults | None:
    """Read the estimates of a weighted plan; None where trials have no weights.

    Raises
    ------
    TraceError
        If the file is damaged.
    """
    with reading(path):
        if "plan" not in file["campaign"]:
            return None
        drawn = read_statistics(file, path)
        enumerated = read_statistics(file, path, "campaign/enumerated")
        if not (
            isinstance(drawn, WeightedStatistics) and isinstance(enumerated, WeightedStatistics)
        ):
            raise TraceError(f"{path}: expected statistics of weighted trials, got plain ones")
        return WeightedResults(
            enumerated=enumerated,
            drawn=drawn,
            largest_weight=file["campaign/plan/largest_weight"][()],
            shares=file["campaign/plan/stratum_share"][()],
            together=len(file["campaign/plan/input_first"]) == 1,
        )


def write_results(
    file: h5py.File,
    total: Statistics | WeightedStatistics,
    state: Statistics | WeightedStatistics | None,
    environments: Sequence[Environment],
) -> None:
    """Write the statistics, what a continuation starts from, and where they were computed.

    Parameters
    ----------
    file : h5py.File
    total : Statistics or WeightedStatistics
        Of all trials.
    state : the same, or None
        Of the complete units of work; None if there is none yet.
    environments : sequence of dict
    """
    write_statistics(file.create_group("statistics"), total)
    if state is not None and state.stop != total.stop:
        write_statistics(file.create_group("checkpoint"), state)
    group = file.create_group("provenance")
    provenance.write(group, environments)
    group.attrs["finished"] = environment.now()


def read_state(file: h5py.File, path: Path) -> Statistics | WeightedStatistics | None:
    """Statistics of the complete units of work of a trace, None if there is none.

    Raises
    ------
    TraceError
        If the file is damaged.
    """
    header = read_header(file, path, TRACE)
    if header.resume == header.first:
        return None
    return read_statistics(
        file, path, "statistics" if header.resume == header.stop else "checkpoint"
    )


def merged(
    before: Statistics | WeightedStatistics | None, after: Statistics | WeightedStatistics
) -> Statistics | WeightedStatistics:
    """Statistics of a range of trials, if there is one, and of the one that follows it.

    Raises
    ------
    TraceError
        If trials of one have weights and those of the other have none.
    """
    if before is None:
        return after
    if isinstance(before, Statistics) and isinstance(after, Statistics):
        return before.merge(after)
    if isinstance(before, WeightedStatistics) and isinstance(after, WeightedStatistics):
        return before.merge(after)
    raise TraceError("statistics: expected both of weighted or both of plain trials")


def rows_of(
    campaign: Campaign, first: int, batch: FaultBatch, changes: Changes, hidden: list[Array] | None
) -> Rows:
    """Collect what a campaign records of each trial of a batch.

    Parameters
    ----------
    campaign : Campaign
    first : int
        The first trial.
    batch : FaultBatch
    changes : Changes
        The errors.
    hidden : list of ndarray, (n_trials, n_inputs, n_l), for layers 1..L-1
        Needed if the campaign records it.
    """
    rows: Rows = {"fault_counts": batch.counts}
    if "faults" in campaign.record:
        rows |= _event_rows("neurons", batch.neurons, ("layer", "unit"), batch.sites.neurons)
        rows |= _event_rows(
            "synapses", batch.synapses, ("layer", "out", "in"), batch.sites.synapses
        )
        if batch.neuron_values is not None:
            rows |= _event_rows(
                "neuron_values", batch.neuron_values, ("layer", "unit"), batch.sites.neurons
            )
            rows["neuron_values/value"] = batch.neuron_values.value
        if batch.synapse_weights is not None:
            names = ("layer", "out", "in")
            rows |= _event_rows(
                "synapse_weights", batch.synapse_weights, names, batch.sites.synapses
            )
            rows["synapse_weights/weight"] = batch.synapse_weights.value
    if "error" in campaign.record:
        rows["errors"] = pack(changes, first)
    if "hidden" in campaign.record:
        for number, values in enumerate(hidden or [], start=1):
            rows[f"hidden/{number}"] = values
    return rows


def _event_rows(
    kind: str,
    events: Events,
    names: tuple[str, ...],
    locate: Callable[[Array], tuple[Array, ...]],
) -> Rows:
    columns = dict(zip(names, locate(events.site), strict=True))
    columns |= {"start": events.start, "stop": events.stop}
    rows: Rows = {f"{kind}/{name}": values.astype(np.int64) for name, values in columns.items()}
    rows[f"{kind}/offsets"] = events.offsets.astype(np.int64)
    return rows


def placed_rows(rows: Rows, places: Places) -> Rows:
    """The rows of the next unit of work, with recorded errors given their places."""
    errors = rows.get("errors")
    return rows if not isinstance(errors, ChangedRows) else rows | {"errors": places.place(errors)}


def row_bytes(rows: Rows) -> int:
    """Memory that placed rows take."""
    return sum(values.nbytes for values in rows.values() if not isinstance(values, ChangedRows))


def joined_rows(parts: list[Rows]) -> Rows:
    """Placed rows of consecutive ranges of trials as one."""
    return {name: _joined([part[name] for part in parts], name) for name in parts[0]}


def _joined(parts: list[Any], name: str) -> Array | PlacedRows:
    if name == "errors":
        return joined_errors(parts)
    if not name.endswith("/offsets"):
        return np.concatenate(parts)
    before = np.cumsum([0, *(array[-1] for array in parts)])
    return np.concatenate(
        [[0], *(array[1:] + n for array, n in zip(parts, before[:-1], strict=True))]
    )


def copy_rows(
    group: h5py.Group, source: h5py.File, path: Path, n_trials: int, check: Callable[[], None]
) -> None:
    """Append the first n_trials trials of the file at `path` to a group `trials`.

    Raises
    ------
    TraceError
        If the source is damaged.
    """
    with reading(path):
        append_rows(group, source["trials"], int(source.attrs["first_trial"]), n_trials, check)


def append_rows(
    group: h5py.Group,
    source: h5py.Group | Rows,
    first: int,
    n_trials: int,
    check: Callable[[], None],
) -> None:
    """Append trials first .. first + n_trials - 1, the first ones of a source, to a group `trials`.

    Parameters
    ----------
    group : h5py.Group
        Its datasets are made on the first call.
    source : h5py.Group or dict of str to ndarray
        The group `trials` of another file, or placed rows in memory. Copied block by block.
    first, n_trials : int
    check : callable
        Called between blocks.
    """
    for name in _row_names(source):
        values: Any = source[name]
        if name == "errors":
            errors = group.require_group(name)
            if isinstance(values, h5py.Dataset):
                _append_version_1(errors, values, first, n_trials, check)
            else:
                append_errors(errors, values, first, n_trials, check)
            continue
        if name.endswith("/offsets"):
            if name not in group:
                append_array(group, name, np.zeros(1, np.int64), 0, 1, check)
            append_array(group, name, values, 1, n_trials + 1, check, shift=int(group[name][-1]))
        else:
            kind, _, column = name.partition("/")
            stop = n_trials
            if column and f"{kind}/offsets" in source:
                offsets: Any = source[f"{kind}/offsets"]
                stop = int(offsets[n_trials])
            append_array(group, name, values, 0, stop, check)


def _append_version_1(
    group: h5py.Group, errors: h5py.Dataset, first: int, n_trials: int, check: Callable[[], None]
) -> None:
    """Append errors (n_trials, n_inputs, n_outputs), zeros included."""
    step = max(1, _BLOCK_BYTES // max(1, errors[:1].nbytes))
    for start in range(0, n_trials, step):
        stop = min(start + step, n_trials)
        unit = pack(Changes.of(errors[start:stop]), first + start)
        append_errors(group, Places().place(unit), first + start, stop - start, check)


def _row_names(source: h5py.Group | Rows) -> Iterator[str]:
    if isinstance(source, dict):
        yield from source
        return
    for name, item in source.items():
        if isinstance(item, h5py.Group) and name != "errors":
            yield from (f"{name}/{inner}" for inner in item)
        else:
            yield name
