"""Defect maps: what a test of one chip found broken, read from CSV or HDF5 and written to them."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from neurosim.chip import Chip
from neurosim.errors import FormatError, InputError
from neurosim.layers import Array

__all__ = ["Defect", "DefectMap"]

_COLUMNS = ("core", "kind", "row", "column")

# Which of row and column a kind of defect has.
_KINDS = {
    "synapse": ("row", "column"),
    "row": ("row",),
    "column": ("column",),
    "core": (),
}


@dataclass(frozen=True)
class Defect:
    """One dead piece of hardware.

    Parameters
    ----------
    core : int
    kind : "synapse", "row", "column" or "core"
    row, column : int, optional
        Place on the core; None where the kind has none.

    Raises
    ------
    InputError
        If the kind is unknown, a number is missing, out of place or negative.

    Examples
    --------
    >>> Defect(3, "column", column=7)
    Defect(core=3, kind='column', row=None, column=7)
    """

    core: int
    kind: str
    row: int | None = None
    column: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise InputError(f"kind: expected one of {', '.join(_KINDS)}, got {self.kind!r}")
        for name in ("core", "row", "column"):
            value, wanted = getattr(self, name), name == "core" or name in _KINDS[self.kind]
            if not wanted and value is not None:
                raise InputError(f"{name}: expected none for a defect of kind {self.kind}")
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if wanted and not (whole and value >= 0):
                raise InputError(f"{name}: expected a whole number from 0 on, got {value!r}")


@dataclass(frozen=True)
class DefectMap:
    """The defects of one chip: permanent stuck-at-0 faults at known places.

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

        CSV: a header `core,kind,row,column`, one defect a line, what a kind has not left empty.
        HDF5: a group `defects` with datasets of these names, -1 for what a kind has not.

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
        file = Path(path)
        rows = _csv_rows(file) if file.suffix == ".csv" else _hdf5_rows(file)
        found = []
        for number, (core, kind, row, column) in enumerate(rows):
            try:
                found.append(Defect(_number(core), kind, _number(row), _number(column)))  # type: ignore[arg-type]
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
        file = Path(path)
        if file.suffix == ".csv":
            with file.open("w", newline="", encoding="utf-8") as opened:
                writer = csv.writer(opened, lineterminator="\n")
                writer.writerow(_COLUMNS)
                writer.writerows([d.core, d.kind, d.row, d.column] for d in self)
            return
        _check_ending(file)
        import h5py  # loaded when a file is read or written: `neurosim --help` stays fast

        with h5py.File(file, "w") as opened:
            group = opened.create_group("defects")
            kinds = np.array([d.kind for d in self], dtype=object)
            group.create_dataset("kind", data=kinds, dtype=h5py.string_dtype("utf-8"))
            for name in ("core", "row", "column"):
                values = [-1 if getattr(d, name) is None else getattr(d, name) for d in self]
                group[name] = np.array(values, np.int64)

    def check(self, chip: Chip) -> None:
        """Refuse a map that does not fit a chip.

        Raises
        ------
        InputError
            If the chip has no geometry, or a defect lies outside of it; the message names the line.
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

    def dead_cores(self) -> frozenset[int]:
        """Cores that are dead as a whole."""
        return frozenset(d.core for d in self if d.kind == "core")

    def dead_devices(self, core: int, rows: int, columns: int) -> Array:
        """Which crosspoints of a core carry nothing: (rows, columns), bool."""
        dead = np.zeros((rows, columns), bool)
        for defect in self:
            if defect.core == core:
                row = slice(None) if defect.row is None else defect.row
                column = slice(None) if defect.column is None else defect.column
                dead[row, column] = True
        return dead

    def __str__(self) -> str:
        counts = [sum(d.kind == kind for d in self) for kind in _KINDS]
        return ", ".join(f"{n} {kind}s" for n, kind in zip(counts, _KINDS, strict=True)) + " dead"


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
    if header != list(_COLUMNS):
        raise FormatError(
            f"{file}: line 1: expected the header {','.join(_COLUMNS)}, got {','.join(header)!r}"
        )
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(_COLUMNS):
            raise FormatError(
                f"{file}: line {number}: expected {len(_COLUMNS)} entries, got {len(row)}"
            )
    return [[entry.strip() for entry in row] for row in rows[1:]]


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
    except (OSError, KeyError, TypeError) as error:
        raise FormatError(
            f"{file}: expected HDF5 with core, kind, row and column in a group defects, got {error}"
        ) from error
    if {len(values) for values in columns.values()} != {len(kinds)}:
        raise FormatError(f"{file}: expected columns of one length, got others")
    places = zip(*(columns[name] for name in ("core", "row", "column")), strict=True)
    for kind, place in zip(kinds, places, strict=True):
        core, row, column = (None if n == -1 else int(n) for n in place)
        yield core, kind, row, column
