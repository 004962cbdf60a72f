"""Campaigns written as TOML: the same values as `Campaign`, with paths of network and inputs."""

import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from neurosim.campaign import Campaign, Plan
from neurosim.chip import Chip
from neurosim.defects import DefectMap
from neurosim.deployment import deploy
from neurosim.errors import FormatError, InputError, named_entry, path_of
from neurosim.faults import FaultProcess, fault_process, persistence_of
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.sampling import ImportanceTilted, PlainMonteCarlo, Stratified
from neurosim.spiking_model import SpikingModel

__all__ = ["load_campaign", "make_campaign", "read_arrays"]


class FaultEntry(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One [[faults]] table."""

    site: str
    probability: float | None = None
    stuck_lrs: float | None = None
    stuck_hrs: float | None = None
    bits: list[int] | None = None
    layers: list[int] | None = None
    persistence: str = "permanent"
    mean_duration: float | None = None
    mean_duration_s: float | None = None
    onset: list[int] | None = None
    onset_s: list[float] | None = None
    value: float | str | None = None
    length: int | None = None
    along: str | None = None


class PlanEntry(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The [plan] table: the kind, and the parameters of that plan by their names."""

    kind: str
    epsilon: float | None = None
    strata: list[int] | None = None
    allocation: list[int] | None = None
    control_variate: bool | None = None


class CampaignEntries(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The keys of a campaign file; [[faults]] may be left out where the chip has its own."""

    network: str
    chip: str
    inputs: str
    trials: int
    seed: int
    targets: str | None = None
    defects: str | None = None
    loss: str | None = None
    backend: str = "compiled"
    dtype: str = "float32"
    record: list[str] = []
    epsilons: list[float] = []
    replicas: list[int] = []
    device_seed: int | None = None
    spiking: dict[str, Any] | None = None
    plan: PlanEntry | None = None
    faults: list[FaultEntry] | None = None


def load_campaign(path: str | PathLike[str]) -> Campaign:
    """Read a campaign file (TOML); relative paths in it start at its own folder.

    Raises
    ------
    FormatError
        If the file is missing or no TOML.
    InputError
        If a key is unknown or missing, or a value is not what it must be.

    Examples
    --------
    >>> load_campaign("campaign.toml")  # doctest: +SKIP
    """
    return make_campaign({}, path_of(path))


def make_campaign(given: Mapping[str, Any], path: Path | None = None) -> Campaign:
    """A campaign from given values and, for those that are not given, a campaign file.

    Parameters
    ----------
    given : mapping of str to values
        Entries by their keys, as flags of the command line say them.
    path : Path, optional
    """
    entries: dict[str, Any] = {}
    source = "campaign"
    if path is not None:
        source = str(path)
        try:
            entries = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise FormatError(f"{path}: expected a readable campaign file, got {error}") from error
        except tomllib.TOMLDecodeError as error:
            raise FormatError(f"{path}: expected TOML, got an error: {error}") from error
        for key in ("network", "chip", "inputs", "targets", "defects"):
            value = entries.get(key)
            beside = path.parent / value if isinstance(value, str) else None
            # A chip may be a path or the name of a profile.
            if beside is not None and (key != "chip" or beside.is_file()):
                entries[key] = str(beside)
    entries.update(given)
    _suggest(source, entries, CampaignEntries)
    missing = [key for key in ("network", "chip", "inputs", "trials", "seed") if key not in entries]
    if missing:
        raise InputError(f"{source}: expected {', '.join(missing)}, got none")
    faults = _flag("faults") if "faults" in given else f"{source}: faults"
    plan = _flag("plan") if "plan" in given else f"{source}: plan"
    for number, entry in enumerate(_tables(entries.get("faults")), start=1):
        _suggest(_numbered(faults, number), entry, FaultEntry)
    for entry in _tables([entries.get("plan")]):
        _suggest(plan, entry, PlanEntry)
    try:
        checked = msgspec.convert(entries, CampaignEntries)
    except msgspec.ValidationError as error:
        about = named_entry(str(error))
        key, dot, rest = about.partition(".")
        where = f"{_flag(key)}{dot}{rest}" if key in given else f"{source}: {about}"
        raise InputError(where) from error
    inputs, found_targets = read_arrays(checked.inputs)
    targets = read_arrays(checked.targets)[0] if checked.targets else found_targets
    defects = None if checked.defects is None else DefectMap.read(checked.defects)
    return Campaign(
        deployment=deploy(
            Network.load(checked.network),
            Chip.load(checked.chip),
            defects,
            device_seed=checked.device_seed,
        ),
        faults=_processes(faults, checked.faults),  # type: ignore[arg-type]
        inputs=inputs,
        targets=targets,
        trials=checked.trials,
        seed=checked.seed,
        loss=checked.loss,  # type: ignore[arg-type]
        backend=checked.backend,
        dtype=checked.dtype,
        spiking=None if checked.spiking is None else _spiking_model(source, checked.spiking),
        plan=PlainMonteCarlo() if checked.plan is None else _plan(plan, checked.plan),
        record=tuple(checked.record),
        epsilons=tuple(checked.epsilons),
        replicas=tuple(checked.replicas),
    )


def _flag(key: str) -> str:
    """The flag of the command line that stands for an entry."""
    return "--" + {"faults": "fault", "epsilons": "epsilon"}.get(key, key.replace("_", "-"))


def _numbered(where: str, number: int) -> str:
    return f"{where} {number}" if where.startswith("--") else f"{where}.{number}"


def _tables(entries: Any) -> list[dict[str, Any]]:
    """The tables among what may be a list of them; what else is there is refused by its type."""
    return [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []


def _suggest(source: str, entries: Mapping[str, Any], shape: type[msgspec.Struct]) -> None:
    """Refuse unknown keys with the closest known one."""
    known = shape.__struct_fields__
    for key in entries:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            mend = f"; did you mean {close[0]}?" if close else ""
            raise InputError(f"{source}: expected keys {', '.join(known)}, got {key}{mend}")


def _spiking_model(source: str, entries: Mapping[str, Any]) -> SpikingModel:
    """The [spiking] table: the parameters of `SpikingModel` by their names."""
    known = [field.name for field in fields(SpikingModel)]
    for key in entries:
        if key not in known:
            close = get_close_matches(key, known, n=1)
            mend = f"; did you mean {close[0]}?" if close else ""
            raise InputError(
                f"{source}: spiking: expected keys {', '.join(known)}, got {key}{mend}"
            )
    return SpikingModel(**entries)


def _plan(where: str, entry: PlanEntry) -> Plan:
    """The [plan] table as a value; parameters of other plans are refused."""
    kinds: dict[str, Any] = {
        "plain": PlainMonteCarlo,
        "stratified": Stratified,
        "tilted": ImportanceTilted,
    }
    if entry.kind not in kinds:
        raise InputError(f"{where}: expected the kind {_either(kinds)}, got {entry.kind!r}")
    plan = kinds[entry.kind]
    known = {field.name for field in fields(plan)} - {"resolved", "draw_at"}
    given = {
        name: getattr(entry, name)
        for name in entry.__struct_fields__
        if name != "kind" and getattr(entry, name) is not None
    }
    for name in given:
        if name not in known:
            raise InputError(
                f"{where}: expected {', '.join(sorted(known)) or 'nothing'} beside kind "
                f"{entry.kind}, got {name}"
            )
    if plan is ImportanceTilted and entry.epsilon is None:
        raise InputError(f"{where}: expected an epsilon beside kind tilted, got none")
    return plan(**given)


def _either(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}"


def _processes(where: str, entries: list[FaultEntry] | None) -> tuple[FaultProcess, ...] | None:
    if entries is None:
        return None
    processes = []
    for number, entry in enumerate(entries, start=1):
        try:
            processes.append(_process(entry))
        except InputError as error:
            raise InputError(f"{_numbered(where, number)}: {error}") from error
    return tuple(processes)


def _process(entry: FaultEntry) -> FaultProcess:
    return fault_process(
        entry.site,
        probability=entry.probability,
        stuck_lrs=entry.stuck_lrs,
        stuck_hrs=entry.stuck_hrs,
        bits=entry.bits,
        value=entry.value,
        length=entry.length,
        along=entry.along,
        layers=entry.layers,
        persistence=persistence_of(
            entry.persistence,
            entry.mean_duration,
            mean_duration_s=entry.mean_duration_s,
            onset=entry.onset,
            onset_s=entry.onset_s,
        ),
    )


def read_arrays(path: str) -> tuple[Array, Array | None]:
    """Inputs, and targets where the file has them: .npy, or .npz with `inputs` and `targets`."""
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded, None
            with loaded as archive:
                if "inputs" not in archive:
                    raise InputError(
                        f"{path}: expected an array named inputs (and targets), "
                        f"got {', '.join(archive) or 'nothing'}"
                    )
                return archive["inputs"], archive.get("targets")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise FormatError(
            f"{path}: expected an array as .npy, or .npz with inputs and targets, got {error}"
        ) from error
