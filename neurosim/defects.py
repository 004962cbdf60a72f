"""Defect maps: what a test of one chip found broken, read from CSV or HDF5 and written to them."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import cast

import numpy as np

from neurosim.chip import Chip
from neurosim.crossbar import HALVES, Half, StuckState
from neurosim.errors import FormatError, InputError, path_of
from neurosim.layers import Array

__all__ = ["Defect", "DefectMap"]

_COLUMNS = ("core", "kind", "row", "column")
_DEVICE_COLUMNS = ("half", "slice")  # beside those, in maps with stuck devices

# Which of row and column a kind of defect has.
_KINDS = {
    "synapse": ("row", "column"),
    "row": ("row",),
    "column": ("column",),
    "core": (),
    "stuck_lrs": ("row", "column"),
    "stuck_hrs": ("row", "column"),
}
_STUCK = ("stuck_lrs", "stuck_hrs")


@dataclass(frozen=True, repr=False)
class Defect:
    """One broken piece of hardware: dead, or a device that is stuck.

    Parameters
    ----------
    core : int
    kind : "synapse", "row", "column", "core", "stuck_lrs" or "stuck_hrs"
        The first four are dead. A stuck device has the conductance `g_stuck_lrs_s` or
        `g_stuck_hrs_s` of its chip; what that makes of a weight, `CrossbarDevice.stuck_weight`
        says.
    row, column : int, optional
        Place on the core; None where the kind has none.
    half : "plus" or "minus", optional
        Which device of the crosspoint is stuck; there required.
    slice_number : int, optional
        Which slice of a stuck device; 0, the least significant one, by default.

    Raises
    ------
    InputError
        If the kind is unknown, a number is missing, out of place or negative.

    Examples
    --------
    >>> Defect(3, "column", column=7)
    Defect(core=3, kind='column', row=None, column=7)
    >>> Defect(0, "stuck_hrs", 2, 5, half="plus").slice_number
    0
    """

    core: int
    kind: str
    row: int | None = None
    column: int | None = None
    half: str | None = None
    slice_number: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InputError(f"kind: expected one of {', '.join(_KINDS)}, got {self.kind!r}")
        if self.is_stuck:
            if self.half not in HALVES:
                raise InputError(f"half: expected {' or '.join(HALVES)}, got {self.half!r}")
            number = 0 if self.slice_number is None else self.slice_number
            object.__setattr__(self, "slice_number", number)
            whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
            if not (whole and number >= 0):
                raise InputError(f"slice: expected a whole number from 0 on, got {number!r}")
        elif self.half is not None or self.slice_number is not None:
            raise InputError(f"half, slice: expected none for a defect of kind {self.kind}")
        for name in ("core", "row", "column"):
            value, wanted = getattr(self, name), name == "core" or name in _KINDS[self.kind]
            if not wanted and value is not None:
                raise InputError(f"{name}: expected none for a defect of kind {self.kind}")
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if wanted and not (whole and value >= 0):
                raise InputError(f"{name}: expected a whole number from 0 on, got {value!r}")

    @property
    def is_stuck(self) -> bool:
        """Whether a device is stuck; else something is dead."""
        return self.kind in _STUCK

    def __repr__(self) -> str:
        device = f", half={self.half!r}, slice_number={self.slice_number}" if self.is_stuck else ""
        return (
            f"Defect(core={self.core}, kind={self.kind!r}, row={self.row}, "
            f"column={self.column}{device})"
        )


@dataclass(frozen=True)
class DefectMap:
    """The defects of one chip: permanent faults at known places.

    Parameters
    ----------
    defects : sequence of Defect
    source : str, optional
        The file they were read from; messages name it.

    Examples
    --------
    >>> len(DefectMap([Defect(0, "synapse", 1, 2), Defect(1, "core")]))
    2
    """

    defects: tuple[Defect, ...]
    source: str = ""

    def __init__(self, defects: Iterable[Defect], source: str = "") -> None:
        object.__setattr__(self, "defects", tuple(defects))
        object.__setattr__(self, "source", source)
        for defect in self.defects:
            if not isinstance(defect, Defect):
                raise InputError(f"defects: expected Defect values, got {defect!r}")

    def __len__(self) -> int:
        return len(self.defects)

    def __iter__(self) -> Iterator[Defect]:
        return iter(self.defects)

    @staticmethod
    def read(path: str | PathLike[str]) -> "DefectMap":
        """Read a map from a .csv file or from HDF5 (.h5, .hdf5).

        CSV: a header `core,kind,row,column`, or `core,kind,row,column,half,slice` where devices are
        stuck; one defect a line, what a kind has not left empty. HDF5: a group `defects` with
        datasets of these names, -1 (of `half` the empty text) for what a kind has not.

        Raises
        ------
        FormatError
            If the file is missing or no such file.
        InputError
            If a defect is none; the message names the line.

        Examples
        --------
        >>> DefectMap.read("bench-7.csv")  # doctest: +SKIP
        """
        file = path_of(path)
        rows = _csv_rows(file) if file.suffix == ".csv" else _hdf5_rows(file)
        found = []
        for number, (core, kind, row, column, half, slice_number) in enumerate(rows):
            place = (_number(core), kind, _number(row), _number(column))
            try:
                found.append(Defect(*place, half or None, _number(slice_number)))  # type: ignore[arg-type]
            except InputError as error:
                raise InputError(f"{_line(str(file), number)}: {error}") from error
        return DefectMap(found, str(file))

    def write(self, path: str | PathLike[str]) -> None:
        """Write the map as .csv or as HDF5 (.h5, .hdf5), as `read` takes it.

        Raises
        ------
        InputError
            If the ending is another one.
        """
        file = path_of(path)
        if file.suffix == ".csv":
            with file.open("w", newline="", encoding="utf-8") as opened:
                writer = csv.writer(opened, lineterminator="\n")
                devices = any(d.is_stuck for d in self)
                n = len(_COLUMNS) + (len(_DEVICE_COLUMNS) if devices else 0)
                writer.writerow([*_COLUMNS, *_DEVICE_COLUMNS][:n])
                writer.writerows(
                    [d.core, d.kind, d.row, d.column, d.half, d.slice_number][:n] for d in self
                )
            return
        _check_ending(file)
        import h5py  # loaded when a file is read or written: `neurosim --help` stays fast

        with h5py.File(file, "w") as opened:
            group = opened.create_group("defects")
            kinds = np.array([d.kind for d in self], dtype=object)
            group.create_dataset("kind", data=kinds, dtype=h5py.string_dtype("utf-8"))
            halves = np.array([d.half or "" for d in self], dtype=object)
            group.create_dataset("half", data=halves, dtype=h5py.string_dtype("utf-8"))
            for name in ("core", "row", "column", "slice"):
                field_name = "slice_number" if name == "slice" else name
                numbers = [getattr(d, field_name) for d in self]
                group[name] = np.array([-1 if n is None else n for n in numbers], np.int64)

    def check(self, chip: Chip) -> None:
        """Refuse a map that does not fit a chip.

        Raises
        ------
        InputError
            If the chip has no geometry, a defect lies outside of it, or a device is stuck that the
            chip does not have, or in two states; the message names the line.
        """
        if chip.rows is None or chip.columns is None:
            raise InputError(
                f"defects: expected a chip with rows and columns, got {chip.name}, whose cores are "
                "unlimited; defects have no place there"
            )
        limits = {"core": chip.cores, "row": chip.rows, "column": chip.columns}
        for number, defect in enumerate(self):
            for name, limit in limits.items():
                value = getattr(defect, name)
                if value is not None and limit is not None and value >= limit:
                    raise InputError(
                        f"{_line(self.source, number)}: expected {name} from 0 to {limit - 1}, "
                        f"those of {chip.name}, got {value}"
                    )
        self._check_devices(chip)

    def _check_devices(self, chip: Chip) -> None:
        device, states = chip.device, dict[Defect, str]()
        for number, defect in enumerate(self):
            if not defect.is_stuck:
                continue
            line = _line(self.source, number)
            if device is None or device.mapping == "digital":
                raise InputError(
                    f"{line}: expected a chip with analog devices for a stuck one, got "
                    f"{chip.name}; "
                    'give its profile a [device] table with a "differential" or "offset" mapping'
                )
            if device.mapping == "offset" and defect.half == "minus":
                raise InputError(
                    f"{line}: expected half plus for the offset mapping of {chip.name}, got minus, "
                    "the device of the offset column, which all weights of a row share"
                )
            if (defect.slice_number or 0) >= device.slices:
                raise InputError(
                    f"{line}: expected slice from 0 to {device.slices - 1}, those of {chip.name}, "
                    f"got {defect.slice_number}"
                )
            kind = states.setdefault(replace(defect, kind=_STUCK[0]), defect.kind)
            if kind != defect.kind:
                raise InputError(f"{line}: expected one state of a device, got {kind} before")

    def dead_cores(self) -> frozenset[int]:
        """Cores that are dead as a whole."""
        return frozenset(d.core for d in self if d.kind == "core")

    def dead_devices(self, core: int, rows: int, columns: int) -> Array:
        """Which crosspoints of a core carry nothing: (rows, columns), bool."""
        dead = np.zeros((rows, columns), bool)
        for defect in self:
            if defect.core == core and not defect.is_stuck:
                row = slice(None) if defect.row is None else defect.row
                column = slice(None) if defect.column is None else defect.column
                dead[row, column] = True
        return dead

    def stuck_devices(
        self, core: int, rows: int, columns: int
    ) -> dict[tuple[Half, int, StuckState], Array]:
        """Where on a core each device of a crosspoint is stuck: (rows, columns), bool.

        Keys are (half, slice_number, kind), as `CrossbarDevice.stuck_weight` takes them; devices
        that are stuck nowhere have none. Crosspoints that are dead are left out.
        """
        found: dict[tuple[Half, int, StuckState], Array] = {}
        for defect in self:
            if defect.core == core and defect.is_stuck:
                half, state = cast(Half, defect.half), cast(StuckState, defect.kind)
                key = (half, int(defect.slice_number or 0), state)
                where = found.setdefault(key, np.zeros((rows, columns), bool))
                where[defect.row, defect.column] = True
        dead = self.dead_devices(core, rows, columns)
        return {key: where & ~dead for key, where in sorted(found.items())}

    def __str__(self) -> str:
        counts = {kind: sum(d.kind == kind for d in self) for kind in _KINDS}
        dead = [f"{counts[kind]} {kind}s" for kind in _KINDS if kind not in _STUCK]
        stuck = [f"{counts[kind]} in {kind.removeprefix('stuck_').upper()}" for kind in _STUCK]
        text = f"{', '.join(dead)} dead"
        return f"{text}; devices stuck: {', '.join(stuck)}" if any(
            counts[kind] for kind in _STUCK) else text  # fmt: skip


def _line(source: str, number: int) -> str:
    if source.endswith(".csv"):
        return f"{source}: line {number + 2}"
    return f"{source or 'defects'}: entry {number}"


def _number(text: object) -> object:
    """A whole number where the text is one; None for nothing."""
    if isinstance(text, str):
        text = text.strip()
        if not text:
            return None
        return int(text) if text.isdecimal() else text
    return text


def _csv_rows(file: Path) -> list[list[str]]:
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.reader(opened))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{file}: expected a readable defect map, got {error}") from error
    header = [name.strip() for name in rows[0]] if rows else []
    if header not in (list(_COLUMNS), [*_COLUMNS, *_DEVICE_COLUMNS]):
        raise FormatError(
            f"{file}: line 1: expected the header {','.join(_COLUMNS)} (and "
            f"{','.join(_DEVICE_COLUMNS)} for stuck devices), got {','.join(header)!r}"
        )
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise FormatError(
                f"{file}: line {number}: expected {len(header)} entries, got {len(row)}"
            )
    lacking = [""] * (len(_COLUMNS) + len(_DEVICE_COLUMNS) - len(header))
    return [[entry.strip() for entry in row] + lacking for row in rows[1:]]


def _check_ending(file: Path) -> None:
    if file.suffix not in (".h5", ".hdf5"):
        raise InputError(f"path: expected a name that ends in .csv, .h5 or .hdf5, got {file.name}")


def _hdf5_rows(file: Path) -> Iterator[tuple[object, ...]]:
    _check_ending(file)
    import h5py

    try:
        with h5py.File(file, "r") as opened:
            group = opened["defects"]
            kinds = list(group["kind"].asstr()[()])
            columns = {name: group[name][()] for name in ("core", "row", "column")}
            halves = list(group["half"].asstr()[()]) if "half" in group else [""] * len(kinds)
            columns["slice"] = group["slice"][()] if "slice" in group else np.full(len(kinds), -1)
    except (OSError, KeyError, TypeError) as error:
        raise FormatError(
            f"{file}: expected HDF5 with core, kind, row and column in a group defects, got {error}"
        ) from error
    if {len(values) for values in (*columns.values(), halves)} != {len(kinds)}:
        raise FormatError(f"{file}: expected columns of one length, got others")
    places = zip(*columns.values(), strict=True)
    for kind, half, place in zip(kinds, halves, places, strict=True):
        core, row, column, slice_number = (None if n == -1 else int(n) for n in place)
        yield core, kind, row, column, half, slice_number
