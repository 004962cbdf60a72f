"""The executor of a Dask cluster.

The function is scattered to the workers once, and tasks refer to it. Scattered data has no recipe:
if all workers that hold it die, Dask cancels every task that needs it (dask/distributed issue
3149), so it is then scattered again and the tasks are submitted anew. Tasks of a worker that dies
are given to others by the scheduler; after `distributed.scheduler.allowed-failures` deaths of its
workers it gives a task up, which is an error here too.
"""

import logging
import operator
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Generic, TypeVar, Union

from neurosim.environment import Environment, current
from neurosim.errors import ExecutorError, InputError
from neurosim.executors.work import Agreement, Work, in_order

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["DaskExecutor"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# How often a result may be lost together with all that held the function.
_LOSSES = 4

# Seconds to wait for a scheduler to answer, and for its first worker.
_CONNECT, _FIRST_WORKER = 10, 60


class DaskExecutor:
    """Compute on a Dask cluster.

    The function is sent to the workers once. What a worker that dies had in work is computed by
    others; workers may join and leave. At most two items a thread of the cluster are in work or
    waiting to be fetched. Worker processes keep one BLAS thread from then on.

    Parameters
    ----------
    scheduler : str or distributed.Client
        Address of the scheduler, as "tcp://10.0.0.1:8786", or a client that is connected.

    Raises
    ------
    InputError
        If scheduler is neither, not an address, or an asynchronous client.
    ExecutorError
        If the library distributed is not installed.

    Examples
    --------
    >>> from distributed import Client, LocalCluster
    >>> with (
    ...     LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
    ...     Client(cluster) as client,
    ... ):
    ...     list(DaskExecutor(client).map(abs, [-1, 2, -3]))
    [1, 2, 3]
    """

    def __init__(self, scheduler: Union[str, "Client"]) -> None:
        try:
            from distributed import Client
            from distributed.comm.addressing import get_address_host_port
        except ImportError as error:
            raise ExecutorError(
                "DaskExecutor: expected the library distributed, which is not installed; "
                'pip install "neurosim-faults[dask]"'
            ) from error
        if not isinstance(scheduler, str | Client):
            raise InputError(
                'scheduler: expected an address, as "tcp://10.0.0.1:8786", or a '
                f"distributed.Client, got {scheduler!r}"
            )
        if isinstance(scheduler, Client) and scheduler.asynchronous:
            raise InputError("scheduler: expected a client with asynchronous=False")
        if isinstance(scheduler, str):
            try:
                get_address_host_port(scheduler, strict=True)
            except ValueError as error:
                raise InputError(
                    'scheduler: expected an address, as "tcp://10.0.0.1:8786", got '
                    f"{scheduler!r} ({error})"
                ) from error
        self.scheduler = scheduler

    def map(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item]
    ) -> Iterator[_Result]:
        """Results of function(item) in the order of the items.

        When the caller stops early, by Ctrl-C, an error or closing the iterator, tasks that wait
        are cancelled; those in work end on their workers and are forgotten.

        Raises
        ------
        ExecutorError
            If the scheduler does not answer in 10 s, has no worker for 60 s or goes away, if
            workers have other versions, or if an item is lost with its workers again and again.
        """
        home = current()
        agreement = Agreement(home)
        with _connected(self.scheduler) as client:
            tasks: _Tasks[_Item, _Result] = _Tasks(client, Work(function, home), agreement)
            try:
                for there, result in in_order(tasks.submit, items, tasks.look_ahead):
                    agreement.check(there)
                    yield result
            finally:
                tasks.cancel()

    def __repr__(self) -> str:
        return f"DaskExecutor({self.scheduler!r})"


class _Tasks(Generic[_Item, _Result]):
    """The tasks of one map.

    Parameters
    ----------
    client : Client
    work : Work
    agreement : Agreement
    """

    def __init__(self, client: "Client", work: Work, agreement: Agreement) -> None:
        self.client = client
        self._work, self._agreement = work, agreement
        self._under_way: set[_Task[_Item, _Result]] = set()
        self._scatter()

    def submit(self, item: _Item) -> "_Task[_Item, _Result]":
        """Give an item to the cluster."""
        task = _Task(self, item)
        self._under_way.add(task)
        return task

    def future(self, item: _Item) -> "Future[tuple[Environment, _Result]]":
        """Submit an item, with the function again if the cluster has lost it."""
        if self._scattered.status != "finished":
            self._scatter()
        with _asking(self.client):
            # operator.call, so that a scheduler need not import neurosim.
            return self.client.submit(operator.call, self._scattered, item, pure=False)

    def look_ahead(self) -> int:
        """Two items for each thread the cluster has now."""
        with _asking(self.client):
            return max(1, 2 * sum(self.client.nthreads().values()))

    def done(self, task: "_Task[_Item, _Result]") -> None:
        """Forget a task, so that the cluster forgets its result."""
        self._under_way.discard(task)

    def cancel(self) -> None:
        """Let the cluster forget all, if it is still there."""
        with suppress(OSError):
            self.client.cancel([*(task.future for task in self._under_way), self._scattered])

    def _scatter(self) -> None:
        with _asking(self.client):
            self.client.wait_for_workers(1, timeout=_FIRST_WORKER)
            # First what they are: another version may not even be able to read the function.
            answers = self.client.run(current, on_error="return")
            for address, there in answers.items():
                if isinstance(there, Exception):
                    raise ExecutorError(
                        f"worker {address}: expected neurosim to be installed, got {there!r}"
                    )
                self._agreement.check(there)
            self._scattered = self.client.scatter(self._work, broadcast=True, hash=False)


class _Task(Generic[_Item, _Result]):
    """An item under way."""

    def __init__(self, tasks: _Tasks[_Item, _Result], item: _Item) -> None:
        self._tasks, self._item = tasks, item
        self.future = tasks.future(item)

    def result(self) -> tuple[Environment, _Result]:
        """Wait for the result; submit the item again if it is lost."""
        from distributed.scheduler import KilledWorker

        for _ in range(_LOSSES):
            try:
                value = self.future.result()
            except CancelledError:
                self.future = self._tasks.future(self._item)
            except KilledWorker as error:
                raise ExecutorError(
                    f"item {self._item!r}: given up after {error.allowed_failures + 1} workers "
                    "died while they had it in work; do they have enough memory?"
                ) from error
            else:
                self._tasks.done(self)
                return value
        raise ExecutorError(
            f"item {self._item!r}: lost with all workers {_LOSSES} times; do they have enough "
            "memory, and does the scheduler still run?"
        )


@contextmanager
def _connected(scheduler: Union[str, "Client"]) -> Iterator["Client"]:
    """The client of the user, left open; or one of our own."""
    from distributed import Client

    if isinstance(scheduler, Client):
        yield scheduler
        return
    # What a client of our own logs when its scheduler goes away is said by ExecutorError.
    log = logging.getLogger("distributed.client")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with _opened(scheduler) as client:
            yield client
    finally:
        log.setLevel(level)


def _opened(address: str) -> "Client":
    from distributed import Client

    try:
        return Client(address, timeout=_CONNECT, set_as_default=False)
    except OSError as error:
        raise ExecutorError(
            f"scheduler: expected a Dask scheduler running at {address}, got no answer in "
            f"{_CONNECT} s ({error})"
        ) from error


@contextmanager
def _asking(client: "Client") -> Iterator[None]:
    """Say in one line that the scheduler has no workers or is gone."""
    try:
        yield
    except (OSError, CancelledError) as error:
        raise ExecutorError(
            f"scheduler {client.scheduler.address if client.scheduler else ''}: expected a "
            f"connection and workers within {_FIRST_WORKER} s, got {error!r}"
        ) from error
