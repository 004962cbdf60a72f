"""Parts of a layer's work on several threads, with the same bits for any number of them."""

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from threading import Lock
from typing import TypeVar

import numpy as np
from threadpoolctl import LibController, ThreadpoolController

__all__ = ["for_each", "slices"]

_Part = TypeVar("_Part")

# How many threads BLAS uses is one number for the whole process.
_BLAS_THREADS = Lock()


@cache
def _blas() -> list[LibController]:
    found: list[LibController] = ThreadpoolController().select(user_api="blas").lib_controllers
    return found


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="neurosim-layers")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def for_each(parts: Iterable[_Part], task: Callable[[_Part], None]) -> None:
    """Call task(part) for each part, on as many threads as BLAS may use.

    BLAS itself has one thread meanwhile, for how a product is split decides its last bits: results
    depend on how the work is cut into parts, not on the number of threads. Where BLAS may use one
    thread, as in executors, parts follow each other in the calling one.

    Parameters
    ----------
    parts : iterable
    task : callable
        Calls of it may overlap.

    Examples
    --------
    >>> squares = np.zeros(4)
    >>> for_each(range(4), lambda k: squares.__setitem__(k, k * k))
    >>> squares.tolist()
    [0.0, 1.0, 4.0, 9.0]
    """
    with _BLAS_THREADS:
        allowed = [library.num_threads for library in _blas()]
        if max(allowed, default=1) > 1:
            for library in _blas():
                library.set_num_threads(1)
            try:
                _shared(deque(parts), task, max(allowed))
            finally:
                for library, number in zip(_blas(), allowed, strict=True):
                    library.set_num_threads(number)
            return
    for part in parts:
        task(part)


def slices(n: int, step: int) -> list[slice]:
    """0..n - 1 in parts of nearly one size, of at most step.

    Examples
    --------
    >>> slices(5, 3)
    [slice(0, 2, None), slice(2, 5, None)]
    """
    count = max(1, -(-n // step))
    edges = [n * k // count for k in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _shared(parts: deque[_Part], task: Callable[[_Part], None], threads: int) -> None:
    told = np.geterr()  # which warnings the caller wants

    def work() -> None:
        with np.errstate(**told):
            while True:
                try:
                    part = parts.popleft()
                except IndexError:
                    return
                task(part)

    pool = _pool(threads - 1)
    others = [pool.submit(work) for _ in range(min(threads, len(parts)) - 1)]
    try:
        work()
    finally:
        parts.clear()
        for other in others:
            other.result()
