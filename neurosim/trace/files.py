"""Files that are either complete or not there, and errors of files in one line."""

import errno
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import h5py

from neurosim.errors import NeurosimError, TraceError

__all__ = ["on_disk", "open_hdf5", "reading", "uninterrupted", "writing", "written_aside"]

# Room for a few chunks of the largest datasets: appends need not decompress the last one again.
_CHUNK_CACHE = 2**25


# Bytes after which what was written begins to go to the disk, while the rest is made.
_FLUSH = 2**22


# Ctrl-C, and what batch systems send some seconds before they kill.
_STOPS = (signal.SIGINT, signal.SIGTERM)


class _Held:
    """Remembers a signal that came at a bad moment."""

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._pending: int | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        self._pending = number

    def check(self) -> None:
        """Handle the signal now, if there was one: a moment that suits."""
        if self._pending is not None:
            number, self._pending = self._pending, None
            self.handlers[number](number, None)


@contextmanager
def uninterrupted() -> Iterator[_Held]:
    """Hold back Ctrl-C until the end of the block: HDF5 must not be left half-way.

    SIGTERM too, where somebody handles it; else it ends the process at once.
    """
    held = _Held()
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in _STOPS}
        held.handlers = {n: handler for n, handler in handlers.items() if callable(handler)}
    for number in held.handlers:
        signal.signal(number, held.note)
    try:
        yield held
    finally:
        for number, handler in held.handlers.items():
            signal.signal(number, handler)
        held.check()


class _GuardedFile(io.RawIOBase):
    """A file for HDF5 that keeps the first error of writing and then pretends to succeed.

    When a write fails (disk full), HDF5 can neither write what it holds nor let go of it, and
    the process crashes at its end. This lets HDF5 close; the file is then thrown away.
    """

    def __init__(self, raw: io.FileIO) -> None:
        self._raw = raw
        self.error: OSError | None = None
        self.written = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def readinto(self, buffer: Any) -> int | None:
        return self._raw.readinto(buffer)

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        try:
            while len(rest) and self.error is None:
                rest = rest[self._raw.write(rest) :]
        except OSError as error:
            self.error = error
        self.written += len(data)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        try:
            return self._raw.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def check(self) -> None:
        if self.error is not None:
            raise self.error


@contextmanager
def written_aside(
    target: Path, aside: Path, sync: bool = True
) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Write a new HDF5 file that appears at `target`, complete and on the disk, at the end.

    Yields the file and a function to be called now and then in long writes: it raises a
    pending Ctrl-C or the error of an earlier write. If the block fails nothing is left. Without
    `sync` it is the system that decides when the file goes to the disk.

    Raises
    ------
    TraceError
        If it cannot be written.
    """
    with writing(target), uninterrupted() as signals:
        with open(aside, "w+b", buffering=0) as raw, ExitStack() as stack:
            guard = _GuardedFile(raw)
            flusher = stack.enter_context(ThreadPoolExecutor(max_workers=1))
            flushed = 0
            flush: Future[None] | None = None

            def check() -> None:
                nonlocal flushed, flush
                with writing(target):
                    guard.check()
                signals.check()
                if sync and guard.written >= flushed + _FLUSH and (flush is None or flush.done()):
                    flushed, flush = guard.written, flusher.submit(os.fsync, raw.fileno())

            try:
                with h5py.File(guard, "w", rdcc_nbytes=_CHUNK_CACHE) as file:
                    yield file, check
                check()
                if sync:
                    os.fsync(raw.fileno())
            except BaseException:
                aside.unlink(missing_ok=True)
                guard.check()  # what HDF5 said after a failed write is of no interest
                raise
        os.replace(aside, target)
        if sync:
            on_disk(target.parent)


def on_disk(path: Path) -> None:
    """Put a file, or which files a folder holds (where the system can), on the disk."""
    is_folder = path.is_dir()
    if is_folder and os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into one line about `path`."""
    try:
        yield
    except OSError as error:
        raise TraceError(f"{path}: {_why_not_written(path, error)}") from error


def _why_not_written(path: Path, error: OSError) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return f"cannot be written: {os.strerror(error.errno)}; make room and run it again"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return (
                f"cannot be written: {os.strerror(error.errno)}; expected a folder that this user "
                "may write to"
            )
        case errno.ENOTDIR:
            return f"cannot be written: expected {path.parent} to be a folder, but it is a file"
        case errno.ENOENT:
            return f"cannot be written: there is no folder {path.parent}; create it first"
        case _:
            return f"cannot be written: {error.strerror or error}"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what h5py raises on damaged or foreign files into one line about `path`."""
    try:
        yield
    except NeurosimError:
        raise
    except (FileNotFoundError, IsADirectoryError) as error:
        raise TraceError(f"{path}: expected a trace, got no such file") from error
    except PermissionError as error:
        raise TraceError(f"{path}: cannot be read: permission denied") from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        text = str(error)
        if "truncated" in text:
            why = "got a truncated one; is a copy of it incomplete?"
        elif "signature" in text:
            why = "got a file that is not HDF5"
        else:
            why = "got a damaged or foreign HDF5 file (" + " ".join(text.split())[:120] + ")"
        raise TraceError(f"{path}: expected a trace, {why}") from error


def open_hdf5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises
    ------
    TraceError
        If it is missing, foreign or truncated.
    """
    if path.is_dir():
        raise TraceError(f"{path}: expected a trace, got a folder")
    with reading(path):
        return h5py.File(path, "r")
