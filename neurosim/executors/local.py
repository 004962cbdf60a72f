"""Executors of this process: one thread, or several."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from neurosim.executors.work import in_order, one_blas_thread, workers_asked

__all__ = ["SerialExecutor", "ThreadExecutor"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


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

    def __repr__(self) -> str:
        return "SerialExecutor()"


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
        self.threads = workers_asked("threads", threads)

    def map(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """Results of function(item) in the order of the items.

        When the caller stops early, by Ctrl-C, an error or closing the iterator, items that wait
        are dropped and those in work are waited for.
        """

        def submit(item: _Item) -> Future[_Result]:
            return pool.submit(function, item)

        with one_blas_thread():
            pool = ThreadPoolExecutor(self.threads, thread_name_prefix="neurosim")
            try:
                yield from in_order(submit, items, lambda: 2 * self.threads)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def __repr__(self) -> str:
        return f"ThreadExecutor(threads={self.threads})"
