"""What executors share: the protocol, the order of results, one BLAS thread, equal workers."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeVar

from threadpoolctl import threadpool_limits

from neurosim.environment import Environment, current, differences
from neurosim.errors import ExecutorError, InputError

__all__ = ["Agreement", "Executor", "Work", "in_order", "one_blas_thread", "workers_asked"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Covariant = TypeVar("_Covariant", covariant=True)


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


class Pending(Protocol[_Covariant]):
    """A result that may still be in work."""

    def result(self) -> _Covariant:
        """Wait for it."""
        ...


def in_order(
    submit: Callable[[_Item], Pending[_Result]],
    items: Iterable[_Item],
    look_ahead: Callable[[], int],
) -> Iterator[_Result]:
    """Submit items while fewer than look_ahead() are under way; yield the results in order."""
    waiting: deque[Pending[_Result]] = deque()
    for item in items:
        waiting.append(submit(item))
        while len(waiting) >= look_ahead():
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def one_blas_thread() -> AbstractContextManager[object]:
    """Context in which BLAS uses one thread, so that products have the same bits everywhere."""
    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits


def workers_asked(name: str, number: int | None) -> int:
    """Check a number of threads or processes; None stands for as many as usable cores."""
    if number is None:
        return _usable_cores()
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise InputError(f"{name}: expected a whole number from 1 on, got {number!r}")
    return number


def _usable_cores() -> int:
    """Cores this process may run on, which a batch system or container may have narrowed."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Work:
    """A function as workers get it: it says where each result was computed.

    Parameters
    ----------
    function : callable
    home : Environment
        Of the submitting process.
    """

    function: Callable[[Any], Any]
    home: Environment

    def __call__(self, item: Any) -> tuple[Environment, Any]:
        """The environment of the worker, and function(item).

        Raises
        ------
        ExecutorError
            If versions are not those of the submitting process.
        """
        here = _settled()
        refuse_other_versions(self.home, here)
        return here, self.function(item)


@cache
def _settled() -> Environment:
    """Once for each worker process: one BLAS thread from now on, and what the process is.

    Not for the time of each call: calls that overlap in threads of a worker would put back the
    number of BLAS threads, which belongs to the process, under each other's hands.
    """
    threadpool_limits(1, user_api="blas")
    return current()


def refuse_other_versions(home: Environment, there: Environment) -> None:
    """Raise an error if a worker has other versions of what computes."""
    other = [
        f"{name} {there.get(name)} instead of {home[name]}"
        for name in ("neurosim", "numpy", "numba")
        if there.get(name) != home[name]
    ]
    if other:
        raise ExecutorError(
            f"workers: expected the versions of the submitting process, got {', '.join(other)}; "
            "install the same versions everywhere"
        )


class Agreement:
    """What is known of the workers of one map: their results may be mixed if they are alike.

    Parameters
    ----------
    home : Environment
        Of the submitting process.
    """

    def __init__(self, home: Environment) -> None:
        self._home = home
        self._warned: set[str] = set()

    def check(self, there: Environment) -> None:
        """Warn once of each kind of worker whose last bits may differ.

        Raises
        ------
        ExecutorError
            If its versions differ.
        """
        refuse_other_versions(self._home, there)
        said = "; ".join(differences(self._home, there, ("here", "on a worker")))
        if said and said not in self._warned:
            self._warned.add(said)
            warnings.warn(
                f"a worker differs from the submitting process ({said}): the last bits of results "
                "may depend on who computed them",
                stacklevel=2,
            )
