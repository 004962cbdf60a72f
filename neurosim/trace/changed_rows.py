"""Recorded errors: the rows of changed outputs alone, once for equal fault sets.

A trial changed the outputs of inputs[start:stop] by values[start:stop]; trials with equal fault
sets share their rows. A worker compresses the rows of its unit of work. Only those of single dead
neurons, which the trials of most units share, it hands over as they are: who collects the units, in
order, stores those that are new and gives all rows their places.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import h5py
import numpy as np

from neurosim.kernels.changes import spread, take_sets
from neurosim.layers import Array
from neurosim.statistics import Changes
from neurosim.trace.damage import checksum
from neurosim.trace.packed_rows import PackedRows, append_array, append_packed, packed

__all__ = [
    "ChangedErrors",
    "ChangedRows",
    "PlacedRows",
    "Places",
    "append_errors",
    "joined_errors",
    "pack",
    "rows_in_use",
]

_CHUNK_BYTES = 2**18

# Rows of single dead neurons are handed over where at least one in so many neurons failed alone in
# the unit of work: else too few of them were stored before.
_SHARED = 16

_BLOCK = 2**16  # numbers of a dataset that are read together


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangedRows:
    """Errors of a unit of work, packed.

    Parameters
    ----------
    trials : ndarray of int64, (n_changed,)
        Numbers of the trials that changed some output, ascending.
    sets : ndarray of int64, (n_changed,)
        Their fault sets: first come those of `neurons`, then those of `offsets`.
    neurons : ndarray of int64, (n_singles,)
        Single dead neurons, ascending.
    singles : tuple of ndarray (offsets, inputs, values)
        Their rows as in `statistics.Changes`.
    offsets : ndarray of int64, (n_others + 1,)
        Rows of the other fault sets in the next two.
    inputs, values : PackedRows
    """

    trials: Array
    sets: Array
    neurons: Array
    singles: tuple[Array, Array, Array]
    offsets: Array
    inputs: PackedRows
    values: PackedRows


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedRows:
    """The datasets of the group `errors`, of one unit of work or of several.

    Numbers of rows count from the first one here: those of rows stored before are negative.
    """

    trial: Array
    start: Array
    stop: Array
    single_neuron: Array
    single_start: Array
    single_stop: Array
    inputs: PackedRows
    values: PackedRows

    @property
    def nbytes(self) -> int:
        """Memory that they take."""
        return sum(getattr(self, item.name).nbytes for item in fields(self))


_CHANGED = ("trial", "start", "stop")
_SINGLE = ("single_neuron", "single_start", "single_stop")
_OF_ROWS = ("start", "stop", "single_start", "single_stop")
_ROWS = ("inputs", "values")


def pack(changes: Changes, first: int) -> ChangedRows:
    """Errors of a range of trials that begins with trial `first`."""
    lengths = np.diff(changes.offsets)
    changed = np.flatnonzero(changes.sets >= 0)
    changed = changed[lengths[changes.sets[changed]] > 0]
    neurons = np.flatnonzero(changes.alone >= 0)
    if len(neurons) * _SHARED < len(changes.alone):
        neurons = neurons[:0]
    neurons = neurons[lengths[changes.alone[neurons]] > 0]
    singles = changes.alone[neurons]
    others = np.ones(len(lengths), np.bool_)
    others[singles] = False
    number = np.empty(len(lengths), np.int64)
    number[singles] = np.arange(len(singles))
    number[others] = np.arange(len(singles), len(lengths))
    rows = changes.offsets, changes.inputs, changes.values
    offsets, inputs, values = take_sets(*rows, np.flatnonzero(others)) if len(singles) else rows
    chunk = max(1, min(2**16, _CHUNK_BYTES // (values.shape[1] * values.dtype.itemsize)))
    return ChangedRows(
        trials=first + changed,
        sets=number[changes.sets[changed]],
        neurons=neurons,
        singles=take_sets(*rows, singles),
        offsets=offsets,
        inputs=packed(inputs.astype(np.min_scalar_type(changes.n_inputs - 1)), chunk),
        values=packed(values, chunk),
    )


class Places:
    """Where the rows of units of work lie that are collected in order.

    A unit begins with a chunk. Its new rows of single dead neurons come first, then, in chunks of
    their own, the others.
    """

    def __init__(self) -> None:
        self._end = 0
        # Single dead neurons, ascending, whose rows are stored, and where.
        self._neurons, self._start, self._stop = (np.empty(0, np.int64) for _ in range(3))

    @property
    def checksum(self) -> int:
        """CRC-32 of all this, by which rows tell whether they continue what was stored."""
        return checksum({
            "end": np.array(self._end),
            "neurons": self._neurons,
            "start": self._start,
            "stop": self._stop,
        })  # fmt: skip

    def place(self, unit: ChangedRows) -> PlacedRows:
        """The datasets of the next unit of work."""
        new = ~np.isin(unit.neurons, self._neurons)
        offsets, inputs, values = take_sets(*unit.singles, np.flatnonzero(new))
        new_inputs = packed(inputs.astype(unit.inputs.dtype), unit.inputs.chunk)
        new_values = packed(values, unit.values.chunk)
        self._remember(unit.neurons[new], offsets[:-1], offsets[1:])
        at = np.searchsorted(self._neurons, unit.neurons)
        others = len(new_values) + unit.offsets
        start = np.concatenate([self._start[at] - self._end, others[:-1]])
        stop = np.concatenate([self._stop[at] - self._end, others[1:]])
        placed = PlacedRows(
            trial=unit.trials,
            start=start[unit.sets],
            stop=stop[unit.sets],
            single_neuron=unit.neurons[new],
            single_start=offsets[:-1],
            single_stop=offsets[1:],
            inputs=PackedRows.joined([new_inputs, unit.inputs]),
            values=PackedRows.joined([new_values, unit.values]),
        )
        self._end += len(placed.values)
        return placed

    def add(self, group: h5py.Group, first: int, n_trials: int) -> None:
        """Take note of trials first .. first + n_trials - 1 of a group `errors`."""
        n_rows = rows_in_use(group, first, n_trials)
        if "single_neuron" in group:
            neurons, start, stop = (group[name][()] for name in _SINGLE)
            kept = start < n_rows
            self._remember(neurons[kept], start[kept], stop[kept])
        self._end += n_rows

    def _remember(self, neurons: Array, start: Array, stop: Array) -> None:
        """Note rows of single dead neurons, counted from the end; joined traces have some twice."""
        if not len(neurons):
            return
        every = np.concatenate([self._neurons, neurons])
        start = np.concatenate([self._start, self._end + start])
        stop = np.concatenate([self._stop, self._end + stop])
        self._neurons, chosen = np.unique(every, return_index=True)
        self._start, self._stop = start[chosen], stop[chosen]


def joined_errors(parts: Sequence[PlacedRows]) -> PlacedRows:
    """The datasets of consecutive units of work as those of one."""
    before = np.cumsum([0, *(len(part.values) for part in parts[:-1])])
    joined: dict[str, Any] = {}
    for name in (*_CHANGED, *_SINGLE):
        shifts = before if name in _OF_ROWS else np.zeros_like(before)
        joined[name] = np.concatenate(
            [getattr(part, name) + shift for part, shift in zip(parts, shifts, strict=True)]
        )
    for name in _ROWS:
        joined[name] = PackedRows.joined([getattr(part, name) for part in parts])
    return PlacedRows(**joined)


def append_errors(
    group: h5py.Group,
    source: h5py.Group | PlacedRows,
    first: int,
    n_trials: int,
    check: Callable[[], None],
) -> None:
    """Append trials first .. first + n_trials - 1 of a source to a group `errors`.

    Compressed rows are moved as they are: `damage.check_rows` finds out whether they are sound.
    """
    columns: dict[str, Any]
    if isinstance(source, PlacedRows):
        columns, n_rows = vars(source), len(source.values)
    else:
        columns, n_rows = _columns(source, first, n_trials), rows_in_use(source, first, n_trials)
    before = len(group["values"]) if "values" in group else 0
    n_changed = bisect_left(columns["trial"], first + n_trials)
    n_singles = bisect_left(columns["single_start"], n_rows)
    for names, n in ((_CHANGED, n_changed), (_SINGLE, n_singles)):
        for name in names:
            shift = before if name in _OF_ROWS else 0
            append_array(group, name, columns[name], 0, n, check, shift)
    for name in _ROWS:
        append_packed(group, name, columns[name], n_rows, check)


def rows_in_use(group: h5py.Group, first: int, n_trials: int) -> int:
    """Rows of a group `errors`, in whole chunks, that trials first .. first + n_trials - 1 take."""
    stop, chunk = group["stop"], group["values"].chunks[0]
    n = bisect_left(group["trial"], first + n_trials) if "trial" in group else n_trials
    if n == len(stop):
        return len(group["values"])
    blocks = (stop[k : min(k + _BLOCK, n)] for k in range(0, n, _BLOCK))
    return -(-max((int(block.max()) for block in blocks), default=0) // chunk) * chunk


def _columns(group: h5py.Group, first: int, n_trials: int) -> dict[str, Any]:
    """The datasets of a group `errors`; version 2 has a start and a stop for every trial."""
    if "trial" in group:
        return dict(group)
    start, stop = group["start"][:n_trials], group["stop"][:n_trials]
    changed = np.flatnonzero(stop > start)
    none = dict.fromkeys(_SINGLE, np.empty(0, np.int64))
    numbers = {"trial": first + changed, "start": start[changed], "stop": stop[changed]}
    return {**none, **numbers, **{name: group[name] for name in _ROWS}}


class ChangedErrors:
    """Recorded errors as a dataset (n_trials, n_inputs, n_outputs) that is read in slices.

    Parameters
    ----------
    group : h5py.Group
        The group `errors`.
    first, n_trials : int
        The trials that the trace holds.
    n_inputs : int
    """

    def __init__(self, group: h5py.Group, first: int, n_trials: int, n_inputs: int) -> None:
        self._datasets = {name: group[name] for name in (*_ROWS, "start", "stop")}
        self._trial = group.get("trial")
        self._first = first
        values = self._datasets["values"]
        self.shape = (n_trials, n_inputs, values.shape[1])
        self.dtype: np.dtype[Any] = values.dtype
        self.ndim, self.size = 3, int(np.prod(self.shape))
        self._block = lru_cache(16)(self._read_block)

    def __bool__(self) -> bool:
        return bool(self._datasets["values"])

    def __getitem__(self, key: Any) -> Any:
        parts = key if isinstance(key, tuple) else (key,)
        if not parts or parts[0] is Ellipsis:
            return self._read(0, len(self))[key]
        trials, rest = parts[0], parts[1:]
        if not isinstance(trials, slice):
            first = int(trials) % len(self)
            return self._read(first, first + 1)[(0, *rest)]
        first, stop, step = trials.indices(len(self))
        return self._read(first, max(first, stop))[(slice(None, None, step), *rest)]

    def __len__(self) -> int:
        return self.shape[0]

    def _read(self, first: int, last: int) -> Array:
        errors = np.zeros((last - first, *self.shape[1:]), self.dtype)
        start, stop = self._rows(first, last)
        changed = np.flatnonzero(stop > start)
        if not len(changed):
            return errors
        start[changed], stop[changed], inputs, values = self._taken(start[changed], stop[changed])
        spread(start, stop, inputs, values, errors)
        return errors

    def _rows(self, first: int, last: int) -> tuple[Array, Array]:
        """Start and stop of each trial, 0 and 0 where nothing changed."""
        start, stop = self._datasets["start"], self._datasets["stop"]
        if self._trial is None:  # version 2 says it of every trial
            return start[first:last], stop[first:last]
        begin, end = self._changed_before(first), self._changed_before(last)
        at = self._trial[begin:end] - (self._first + first)
        both = np.zeros((2, last - first), np.int64)
        both[0, at], both[1, at] = start[begin:end], stop[begin:end]
        return both[0], both[1]

    def _changed_before(self, trial: int) -> int:
        """Number of trials before that one, counted from the first, that changed something."""
        assert self._trial is not None
        numbers = range(len(self._trial))
        key = lambda n: self._block(n // _BLOCK)[n % _BLOCK]  # noqa: E731
        return bisect_left(numbers, self._first + trial, key=key)

    def _read_block(self, number: int) -> Array:
        assert self._trial is not None
        return np.asarray(self._trial[number * _BLOCK : (number + 1) * _BLOCK])

    def _taken(self, start: Array, stop: Array) -> tuple[Array, Array, Array, Array]:
        """Read rows start .. stop - 1: (start, stop, inputs, values), start and stop in the latter.

        Ranges closer together than a chunk are read at once with what is between them.
        """
        order = np.argsort(start, kind="stable")
        begins, ends = start[order], np.maximum.accumulate(stop[order])
        apart = begins[1:] > ends[:-1] + self._datasets["values"].chunks[0]
        cuts = np.flatnonzero(apart) + 1
        lows, highs = begins[np.r_[0, cuts]], ends[np.r_[cuts - 1, len(order) - 1]]
        shift = np.empty_like(start)
        before = np.cumsum([0, *(highs - lows)[:-1]])
        shift[order] = (before - lows)[np.cumsum([0, *apart])]
        pieces = list(zip(lows, highs, strict=True))
        inputs, values = (
            np.concatenate([self._datasets[name][a:b] for a, b in pieces]) for name in _ROWS
        )
        return start + shift, stop + shift, inputs.astype(np.int32), values
