"""Executors: who computes the units of work. Results come back in the order of the items.

An executor has one method, `map(function, items)`. Function and items are picklable and the
function is a pure function of the item, so that an executor may compute them in other processes
or on other machines; whatever it does, the results are the same bits. docs/executors.md says
when to use which.
"""

from neurosim.executors.cluster import DaskExecutor
from neurosim.executors.local import SerialExecutor, ThreadExecutor
from neurosim.executors.processes import ProcessExecutor
from neurosim.executors.work import Executor, one_blas_thread

__all__ = [
    "DaskExecutor",
    "Executor",
    "ProcessExecutor",
    "SerialExecutor",
    "ThreadExecutor",
    "one_blas_thread",
]
