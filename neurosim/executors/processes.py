"""The executor of local processes.

Each worker process belongs to one thread of the submitting process, which sends it one item at a
time through a pipe of their own. The pools of concurrent.futures and loky share one pipe for all
results: a worker killed in the middle of writing to it stops them for good, and their workers
outlive a killed parent. Here the pipe breaks with its worker, and the thread starts another one;
and a worker whose parent is gone reads the end of its pipe and ends.
"""

import multiprocessing
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from neurosim.environment import Environment, current
from neurosim.errors import ExecutorError
from neurosim.executors.work import Agreement, Work, in_order, workers_asked

__all__ = ["ProcessExecutor"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# How many workers an item may lose before it is given up.
_LOSSES = 4

# Not fork: a copy of a process with threads (BLAS has some) may hang.
_CONTEXT = multiprocessing.get_context("spawn")


class ProcessExecutor:
    """Compute in processes of this machine.

    The function is sent to each process once. If a process is killed, its item is computed again
    by a new one. At most two items a process are in work or waiting to be fetched.

    Processes are started afresh, not forked. A script that uses this executor must therefore be
    importable, with what it does below `if __name__ == "__main__":`.

    Parameters
    ----------
    processes : int, optional
        By default as many as there are cores this process may use.

    Raises
    ------
    InputError
        If processes is not a whole number from 1 on.

    Examples
    --------
    >>> list(ProcessExecutor(processes=2).map(abs, [-1, 2, -3]))
    [1, 2, 3]
    """

    def __init__(self, processes: int | None = None) -> None:
        self.processes = workers_asked("processes", processes)

    def map(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """Results of function(item) in the order of the items.

        When the caller stops early, by Ctrl-C, an error or closing the iterator, the processes
        are killed.

        Raises
        ------
        ExecutorError
            If an item loses its process four times.
        """
        home = current()
        workers = _Workers(pickle.dumps(Work(function, home)))
        pool = ThreadPoolExecutor(self.processes, thread_name_prefix="neurosim")

        def submit(item: _Item) -> "Future[tuple[Environment, _Result]]":
            return pool.submit(workers.compute, item)

        agreement = Agreement(home)
        try:
            for there, result in in_order(submit, items, lambda: 2 * self.processes):
                agreement.check(there)
                yield result
        finally:
            workers.kill()
            pool.shutdown(wait=True, cancel_futures=True)

    def __repr__(self) -> str:
        return f"ProcessExecutor(processes={self.processes})"


class _WorkerLostError(Exception):
    """The process ended before it gave a result; the message says how it ended."""


class _Worker:
    """A process that computes one item after the other.

    Parameters
    ----------
    work : bytes
        The pickled function.
    """

    def __init__(self, work: bytes) -> None:
        self._work = work
        self._begun = False
        self._connection, end = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(end,), daemon=True)
        with _deaf_to_ctrl_c():
            self._process.start()
        # The process has the only copy of its end now: when it dies, our end breaks.
        end.close()

    def compute(self, item: bytes) -> tuple[bool, Any]:
        """Whether the call went well, and its result or error.

        Raises
        ------
        _WorkerLostError
            If the process ends first.
        ExecutorError
            If it could not even begin.
        """
        try:
            if not self._begun:
                self._connection.recv_bytes()
                self._connection.send_bytes(self._work)
                self._begun = True
            self._connection.send_bytes(item)
            answer = self._connection.recv_bytes()
        except (EOFError, OSError) as error:
            self._process.join(timeout=5)  # so that the exit code is its own, not that of a kill
            self.kill()
            code = self._process.exitcode
            if not self._begun and code is not None and code > 0:
                raise ExecutorError(
                    f"a worker process could not start (exit code {code}; its own message is on "
                    "standard error): in a script, what uses ProcessExecutor belongs below "
                    '`if __name__ == "__main__":`'
                ) from error
            raise _WorkerLostError(_ending(code)) from error
        return pickle.loads(answer)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()


class _Workers:
    """The workers of one map, one for each thread that computes.

    Parameters
    ----------
    work : bytes
        The pickled function.
    """

    def __init__(self, work: bytes) -> None:
        self._work = work
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._all: list[_Worker] = []
        self._stopped = False

    def compute(self, item: Any) -> Any:
        """Let the worker of this thread compute; start another one if it dies."""
        pickled = pickle.dumps(item)
        losses = 0
        while True:
            worker = getattr(self._mine, "worker", None) or self._start()
            try:
                went_well, value = worker.compute(pickled)
            except _WorkerLostError as lost:
                self._mine.worker = None
                losses += 1
                if losses == _LOSSES:
                    raise ExecutorError(
                        f"item {item!r}: {losses} worker processes ended while computing it, the "
                        f"last one {lost}; if memory ran out, use fewer processes"
                    ) from lost
                continue
            if not went_well:
                raise value
            return value

    def kill(self) -> None:
        """End all workers and start no more."""
        with self._lock:
            self._stopped = True
            for worker in self._all:
                worker.kill()

    def _start(self) -> _Worker:
        with self._lock:
            if self._stopped:
                raise ExecutorError("the executor was stopped")
            worker = _Worker(self._work)
            self._all.append(worker)
        self._mine.worker = worker
        return worker


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Block Ctrl-C in this thread, and so in the processes it starts.

    A terminal sends it to all processes; the parent alone says what it means.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # now: starting it under way would lift the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: "Connection[Any, Any]") -> None:
    """The life of a worker process: a function, then items, until the parent ends it or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it could not be blocked
    function: Callable[[Any], Any] | None = None
    with suppress(EOFError, OSError):
        connection.send_bytes(b"begun")
        work = connection.recv_bytes()
        while True:
            item = connection.recv_bytes()
            try:
                if function is None:
                    # Here, so that a function that cannot be loaded is the error of a call.
                    function, work = pickle.loads(work), b""
                answer = pickle.dumps((True, function(pickle.loads(item))))
            except Exception as error:
                answer = pickle.dumps((False, _portable(error)))
            connection.send_bytes(answer)


def _portable(error: Exception) -> Exception:
    """The error, with its traceback as a note, in a form that can be sent."""
    error.add_note(f"in a worker process:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"by signal {signal.Signals(-exit_code).name}"
    return f"with exit code {exit_code}"
