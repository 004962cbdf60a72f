"""The writer: checkpoints while a campaign runs, one file at the end.

While trials are computed, the folder `<trace>.segments` holds files of trials, each with the
rows of a range, and states, each with the statistics of all trials up to one number. A state
counts once the trials before it are there; every file appears complete or not at all. At the end
all is written into one file aside, which then takes the place of the trace.
"""

import re
import time
import warnings
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import h5py
from filelock import BaseFileLock, FileLock, Timeout

from neurosim import environment
from neurosim.campaign import Campaign
from neurosim.environment import Environment
from neurosim.errors import CampaignMismatchError, TraceError
from neurosim.layers import Array
from neurosim.statistics import Statistics
from neurosim.trace import provenance
from neurosim.trace.changed_rows import Places
from neurosim.trace.damage import check_rows
from neurosim.trace.files import (
    on_disk,
    open_hdf5,
    reading,
    uninterrupted,
    writing,
    written_aside,
)
from neurosim.trace.layout import (
    STATE,
    TRACE,
    TRIALS,
    Header,
    Rows,
    append_rows,
    check_same_campaign,
    copy_rows,
    joined_rows,
    merged,
    placed_rows,
    read_header,
    read_state,
    read_statistics,
    row_bytes,
    write_campaign,
    write_header,
    write_plan,
    write_results,
    write_statistics,
)
from neurosim.weighted_statistics import WeightedStatistics

__all__ = ["TraceWriter", "checkpointed", "is_finished", "segments_folder"]

_STATE_NAME = re.compile(r"(\d+)\.state\.h5")
_TRIALS_NAME = re.compile(r"(\d+)-(\d+)\.trials\.h5")
_MEMORY = 2**25  # bytes of recorded rows that wait to be written
_AnyStatistics: TypeAlias = Statistics | WeightedStatistics
_Found: TypeAlias = tuple[Path, _AnyStatistics, list[Environment], list[Path]]
_PLACES = "places_crc32"  # attribute of a file of trials: the places of rows stored before
_MEND = "give another path, or delete that file to begin anew"


def segments_folder(path: Path) -> Path:
    """Where the checkpoints of an unfinished trace lie."""
    return path.with_name(path.name + ".segments")


def checkpointed(path: Path) -> int | None:
    """Tell up to which trial the checkpoints of an unfinished trace reach; None without any."""
    with suppress(OSError):
        names = [_STATE_NAME.fullmatch(p.name) for p in segments_folder(path).iterdir()]
        return max((int(match[1]) for match in names if match), default=None)
    return None


def is_finished(campaign: Campaign, path: Path, trials: range) -> bool:
    """Whether the trace at `path` holds exactly these trials of the campaign.

    Raises
    ------
    CampaignMismatchError
        If it is the trace of another campaign.
    TraceError
        If the path cannot become this trace: a folder, a foreign file, other or more trials.
    """
    if not path.exists():
        return False
    with open_hdf5(path) as file:
        header = read_header(file, path, TRACE)
    _check(path, header, campaign, trials)
    return header.stop == trials.stop


def _check(path: Path, header: Header, campaign: Campaign, trials: range) -> None:
    check_same_campaign(path, header, campaign.fingerprint, campaign.components, _MEND)
    if header.first != trials.start:
        raise TraceError(
            f"{path}: expected a trace that begins with trial {trials.start}, got one that begins "
            f"with trial {header.first}; give each range of trials a path of its own"
        )
    if header.stop > trials.stop:
        raise TraceError(
            f"{path}: expected at most the {len(trials)} trials asked for, got "
            f"{header.stop - header.first} already; ask for that many or more, or give another path"
        )


class TraceWriter:
    """Collects results of units of work, in order, into a trace.

    Use it as a context manager: the one writer of the trace until the block ends.

    Parameters
    ----------
    campaign : Campaign
    path : Path
        Of the trace.
    trials : range
        Which trials the trace is to hold; begins at a multiple of campaign.chunk.
    golden : ndarray, (n_inputs, n_outputs)
    enumerated : WeightedStatistics, optional
        Of a weighted plan: what is computed beside its trials.
    checkpoint_seconds : float
        Least time between two checkpoints; 0 writes one after every unit of work. At most 1 % of
        the time since the start, and 5 % for writing, go before the next (up to 60 times it).

    Raises
    ------
    CampaignMismatchError
        If what lies at the path belongs to another campaign.
    TraceError
        If the path cannot be written or continued, or another process is writing it.
    """

    def __init__(
        self,
        campaign: Campaign,
        path: Path,
        trials: range,
        golden: Array,
        *,
        enumerated: WeightedStatistics | None = None,
        checkpoint_seconds: float,
    ) -> None:
        self._campaign, self._path, self._trials = campaign, path, trials
        self._golden, self._enumerated = golden, enumerated
        self._seconds = checkpoint_seconds
        self._folder = segments_folder(path)
        self._stack = ExitStack()
        self._state: _AnyStatistics | None = None
        self._base_stop = trials.start  # trials before it lie in the finished trace
        self._segments: list[Path] = []
        self._environments: list[Environment] = []
        self._places, self._places_before = Places(), 0
        self._checkpoint = trials.start
        self._not_on_disk: list[Path] = []  # segments since the last checkpoint
        self._pending: list[Rows] = []
        self._pending_first = trials.start
        self._tail: tuple[_AnyStatistics, Rows] | None = None
        self._began = self._last = time.monotonic()
        self._cost = 0.0

    def __enter__(self) -> Self:
        try:
            self._lock()
            self._recover()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def next_trial(self) -> int:
        """The first trial that is not part of the fold of complete units of work."""
        return self._trials.start if self._state is None else self._state.stop

    @property
    def checkpoint(self) -> int:
        """Trials up to this number survive a crash."""
        return self._checkpoint

    def add(self, statistics: _AnyStatistics, rows: Rows) -> None:
        """Take the result of the next unit of work; write a checkpoint when it is time.

        Raises
        ------
        TraceError
            If a checkpoint cannot be written.
        """
        with uninterrupted():
            if statistics.stop - statistics.first < self._campaign.chunk:
                self._tail = (statistics, placed_rows(rows, self._places))
                return
            self._state = merged(self._state, statistics)
            if not self._pending:
                self._places_before = self._places.checksum
            self._pending.append(placed_rows(rows, self._places))
            now = time.monotonic()
            wait = max(20 * self._cost, (now - self._began) / 100)
            wait = max(self._seconds, min(wait, 60 * self._seconds))
            if now - self._last >= wait:
                self.write_checkpoint()
            elif sum(map(row_bytes, self._pending)) > _MEMORY:
                self._write_segment()

    def write_checkpoint(self) -> None:
        """Put all complete units of work on the disk.

        Raises
        ------
        TraceError
            If that fails; the checkpoints before stay.
        """
        if self._state is None or self._state.stop == self._checkpoint:
            return
        with uninterrupted():
            begin = time.monotonic()
            self._write_segment()
            with writing(self._folder):
                for path in (*self._not_on_disk, self._folder):
                    on_disk(path)
            state = self._folder / f"{self._state.stop:015d}.state.h5"
            with written_aside(state, _part(state)) as (file, _):
                self._write_state(file, self._state)
            self._checkpoint, self._not_on_disk = self._state.stop, []
            with writing(self._folder):
                # Two states stay: should the newest turn out damaged, there is one before it.
                for old in sorted(self._folder.glob("*.state.h5"))[:-2]:
                    old.unlink()
            self._last = time.monotonic()
            self._cost = self._last - begin

    def _write_segment(self) -> None:
        """Write the rows that wait into a file of trials; a state will make it count."""
        if not self._pending or self._state is None:
            return
        first, stop = self._pending_first, self._state.stop
        target = self._folder / f"{first:015d}-{stop:015d}.trials.h5"
        with written_aside(target, _part(target), sync=False) as (file, check):
            write_header(file, TRIALS, self._campaign.fingerprint, first, stop, stop)
            file.attrs[_PLACES] = self._places_before
            rows = joined_rows(self._pending)
            append_rows(file.create_group("trials"), rows, first, stop - first, check)
        self._segments.append(target)
        self._not_on_disk.append(target)
        self._pending, self._pending_first = [], stop

    def finish(self) -> None:
        """Write everything into the trace and remove the checkpoints.

        Raises
        ------
        TraceError
            If that fails; the checkpoints stay.
        """
        try:
            self._write_trace()
        except TraceError:
            with suppress(TraceError):
                self.write_checkpoint()
            raise
        self._tidy(keep=set())

    def _write_trace(self) -> None:
        state, total = self._state, self._state
        if self._tail is not None:
            total = merged(state, self._tail[0])
        if total is None or total.stop != self._trials.stop:
            raise RuntimeError("finish: not all trials have been added")
        aside = _part(self._folder / self._path.name)
        with written_aside(self._path, aside) as (file, check):
            resume = total.first if state is None else state.stop
            write_header(file, TRACE, self._campaign.fingerprint, total.first, total.stop, resume)
            about = file.create_group("campaign")
            write_campaign(about, self._campaign, self._golden)
            write_plan(about, self._campaign, self._enumerated)
            trials = file.create_group("trials")
            if self._base_stop > total.first:
                with open_hdf5(self._path) as base:
                    with reading(self._path):
                        check_rows(base["trials"])
                    copy_rows(trials, base, self._path, self._base_stop - total.first, check)
            # Segments of an earlier run were checked when they were found.
            for segment in self._segments:
                with open_hdf5(segment) as source:
                    header = read_header(source, segment, TRIALS)
                    copy_rows(trials, source, segment, header.stop - header.first, check)
            # Units of work since the last checkpoint go where they belong at once.
            last = [*self._pending, *(() if self._tail is None else (self._tail[1],))]
            if last:
                first = self._pending_first
                append_rows(trials, joined_rows(last), first, total.stop - first, check)
            # Last: rows go to the disk meanwhile.
            write_results(file, total, state, self._environments)

    def _write_state(self, file: h5py.File, state: _AnyStatistics) -> None:
        write_header(file, STATE, self._campaign.fingerprint, state.first, state.stop, state.stop)
        write_campaign(file.create_group("campaign"), self._campaign, self._golden)
        write_statistics(file.create_group("statistics"), state)
        provenance.write(file.create_group("provenance"), self._environments)

    def _lock(self) -> None:
        for path, what in ((self._path, "the path of a file"), (self._folder, "a folder")):
            if path.exists() and path.is_dir() != (path == self._folder):
                got = "a folder" if path.is_dir() else "a file"
                raise TraceError(f"{path}: expected {what}, got {got}")
        lock = FileLock(self._folder / "lock")
        with writing(self._path):
            self._folder.mkdir(exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise TraceError(
                    f"{self._path}: expected one writer, but another process is writing it; wait "
                    "until that has ended, or give another path"
                ) from error
        self._stack.callback(self._release, lock)

    def _release(self, lock: BaseFileLock) -> None:
        """Remove the lock, and the folder if nothing else is in it, while they are still ours."""
        with suppress(OSError):
            if not any(p.name != "lock" for p in self._folder.iterdir()):
                (self._folder / "lock").unlink()
                self._folder.rmdir()
        lock.release()

    def _recover(self) -> None:
        """Find out what was computed before, and remove what was left unfinished."""
        if self._path.exists():
            with open_hdf5(self._path) as base:
                header = read_header(base, self._path, TRACE)
                _check(self._path, header, self._campaign, self._trials)
                self._base_stop = header.resume
                self._state = read_state(base, self._path)
                with reading(self._path):
                    self._environments = provenance.read(base["provenance"])
        newest = self._newest_state()
        keep: set[Path] = set()
        if newest is not None:
            path, self._state, self._environments, self._segments = newest
            keep = {path, *self._segments}
        self._checkpoint = self._pending_first = self.next_trial
        if "error" in self._campaign.record:
            self._find_places()
        self._tidy(keep)
        self._note_environment()

    def _find_places(self) -> None:
        """Find out which rows of recorded errors are stored already."""
        base = [self._path] if self._base_stop > self._trials.start else []
        for path in (*base, *self._segments):
            with open_hdf5(path) as file, reading(path):
                first, stop = int(file.attrs["first_trial"]), int(file.attrs["stop_trial"])
                stop = self._base_stop if path == self._path else stop
                before = file.attrs.get(_PLACES)  # version 2 has rows that stand alone
                if before is not None and int(before) != self._places.checksum:
                    raise TraceError(
                        f"{path}: expected rows that continue what is in {self._path}, but that is "
                        "another file than when they were written; put the former one back, or "
                        f"delete {self._folder} to compute these trials again"
                    )
                errors = file["trials/errors"]
                if isinstance(errors, h5py.Group):  # in version 1 a dataset
                    self._places.add(errors, first, stop - first)

    def _newest_state(self) -> _Found | None:
        """Find the newest usable state beyond the finished trace, if any state is there."""
        states = {int(match[1]): path for match, path in self._files(_STATE_NAME)}
        refused: list[str] = []
        for stop in sorted(states, reverse=True):
            if stop <= self._base_stop:
                break  # left from before the finished trace was written
            try:
                found = self._read_state(states[stop])
            except CampaignMismatchError:
                raise
            except TraceError as error:
                refused.append(str(error))
                continue
            if stop > self._trials.stop:
                raise TraceError(
                    f"{self._path}: expected at most the {len(self._trials)} trials asked for, "
                    f"got {stop - self._trials.start} already in its checkpoints; ask for that "
                    "many or more, or give another path"
                )
            for line in refused:
                warnings.warn(f"{line}; trials from {stop} on are computed again", stacklevel=2)
            return found
        if refused:
            raise TraceError(
                f"{refused[0]}; without it the checkpoints cannot be continued: put it back, or "
                f"delete {self._folder} to compute these trials again"
            )
        return None

    def _read_state(self, path: Path) -> _Found:
        with open_hdf5(path) as file:
            header = read_header(file, path, STATE)
            check_same_campaign(
                self._folder,
                header,
                self._campaign.fingerprint,
                self._campaign.components,
                "give another path, or delete that folder to begin anew",
            )
            if header.first != self._trials.start:
                raise CampaignMismatchError(
                    f"{self._folder}: expected checkpoints that begin with trial "
                    f"{self._trials.start}, got some that begin with trial {header.first}; give "
                    "each range of trials a path of its own"
                )
            state = read_statistics(file, path)
            with reading(path):
                environments = provenance.read(file["provenance"])
        return path, state, environments, self._chain(header.stop)

    def _chain(self, stop: int) -> list[Path]:
        """Files of trials that together hold those from the finished trace's end to `stop`."""
        files = {int(match[2]): (int(match[1]), path) for match, path in self._files(_TRIALS_NAME)}
        chain: list[Path] = []
        while stop > self._base_stop:
            if stop not in files:
                raise TraceError(
                    f"{self._folder}: expected a file with the trials before {stop}, got none"
                )
            first, path = files[stop]
            with open_hdf5(path) as file:
                header = read_header(file, path, TRIALS)
            if (header.fingerprint, header.first, header.stop) != (
                self._campaign.fingerprint,
                first,
                stop,
            ):
                raise TraceError(f"{path}: expected trials {first} to {stop - 1} of this campaign")
            with open_hdf5(path) as file, reading(path):
                check_rows(file["trials"])
            chain.append(path)
            stop = first
        if stop != self._base_stop:
            raise TraceError(
                f"{self._folder}: expected checkpoints from trial {self._base_stop} on, got some "
                f"from trial {stop} on"
            )
        return chain[::-1]

    def _files(self, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], Path]]:
        with writing(self._folder):
            found = [(pattern.fullmatch(p.name), p) for p in sorted(self._folder.iterdir())]
        return [(match, path) for match, path in found if match]

    def _tidy(self, keep: set[Path]) -> None:
        """Remove our files from the folder, but those to keep: half-written ones, old ones."""
        with writing(self._folder):
            for path in sorted(self._folder.iterdir()):
                ours = path.name.endswith((".state.h5", ".trials.h5", ".part"))
                if ours and path not in keep:
                    path.unlink()

    def _note_environment(self) -> None:
        now = environment.current()
        before = self._environments[-1] if self._environments else None
        if before is not None:
            changed = environment.differences(before, now)
            if not changed:
                return
            warnings.warn(
                f"{self._path}: continued in another environment ({'; '.join(changed)}): the last "
                "bits of results may differ from those of an unbroken run",
                stacklevel=2,
            )
        self._environments = [*self._environments, now]


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
