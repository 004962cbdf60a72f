"""Executors: who computes the units of work. Results come back in the order of the items.

An executor has one method, `map(function, items)`. Function and items are picklable and the
function is a pure function of the item, so that an executor may compute them in other processes
or on other machines; whatever it does, the results are the same bits.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from threadpoolctl import threadpool_limits

from neurosim.errors import InputError

__all__ = ["Executor", "SerialExecutor", "ThreadExecutor", "one_blas_thread"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Executor(Protocol):
    """What every executor offers."""

    def map(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """Results of function(item), lazily, in the order of the items.

        Every call of the function runs with one BLAS thread: how a matrix product is split among
        threads decides its last bits. An error of the function is raised where its result would
        have come; the results before it have come by then.
        """
        ...


def one_blas_thread() -> AbstractContextManager[object]:
    """Context in which BLAS uses one thread, so that products have the same bits everywhere."""
    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits


class SerialExecutor:
    """Compute in the calling thread, one item after the other.

    Examples
    --------
    >>> list(SerialExecutor().map(abs, [-1, 2, -3]))
    [1, 2, 3]
    """

    def map(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """Results of function(item) in the order of the items."""
        with one_blas_thread():
            for item in items:
                yield function(item)


class ThreadExecutor:
    """Compute in threads of this process.

    The heavy kernels release Python's global lock, so threads use all cores and share the
    network. At most two items a thread are in work or waiting to be fetched.

    Parameters
    ----------
    threads : int, optional
        By default as many as there are cores this process may use.

    Raises
    ------
    InputError
        If threads is not a whole number from 1 on.

    Examples
    --------
    >>> list(ThreadExecutor(threads=2).map(abs, [-1, 2, -3]))
    [1, 2, 3]
    """

    def __init__(self, threads: int | None = None) -> None:
        if threads is not None and (
            isinstance(threads, bool) or not isinstance(threads, int) or threads < 1
        ):
            raise InputError(f"threads: expected a whole number from 1 on, got {threads!r}")
        self.threads = threads or _usable_cores()

    def map(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """Results of function(item) in the order of the items.

        When the caller stops early, by Ctrl-C, an error or closing the iterator, items that wait
        are dropped and those in work are waited for.
        """
        with one_blas_thread():
            pool = ThreadPoolExecutor(self.threads, thread_name_prefix="neurosim")
            waiting: deque[Future[_Result]] = deque()
            try:
                for item in items:
                    waiting.append(pool.submit(function, item))
                    if len(waiting) >= 2 * self.threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def __repr__(self) -> str:
        return f"ThreadExecutor(threads={self.threads})"


def _usable_cores() -> int:
    """Cores this process may run on, which a batch system or container may have narrowed."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
