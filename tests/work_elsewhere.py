"""Functions that test_executors.py gives to workers: a module that is quick to import there."""

import multiprocessing.connection
import os
import signal
import time
from functools import partial
from pathlib import Path

from threadpoolctl import threadpool_info

import neurosim.environment
import neurosim.executors.work


def in_small_units(function, flag, k):
    """Compute one of many units of work; the first to reach unit 4 dies there, leaving a flag."""
    import neurosim.campaign

    neurosim.campaign._CHUNK_TRIALS = 256
    if flag and k == 4 and not Path(flag).exists():
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return function(k)


def square(k):
    return k * k


def fails_at_five(k):
    if k == 5:
        raise KeyError(k)
    return k


def dies_at_two(k):
    if k == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return k


def dies_while_sending(flag, k):
    def half(connection, data):
        os.write(connection.fileno(), bytes(data[: min(len(data) // 2, 30_000)]))
        os.kill(os.getpid(), signal.SIGKILL)

    if k == 1 and not Path(flag).exists():
        Path(flag).touch()
        multiprocessing.connection.Connection._send = half
    return bytes(100_000)


def slow(k):
    time.sleep(0.2)
    return os.getpid()


def blas_threads(k):
    return {i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"}


class Loaded:
    """A function that writes down every process that loads it."""

    def __init__(self, log):
        self.log = log

    def __setstate__(self, state):
        self.__dict__.update(state)
        with open(self.log, "a") as file:
            file.write(f"{os.getpid()}\n")

    def __call__(self, k):
        time.sleep(0.02)
        return k


class SecretError(Exception):
    """An error that pickle cannot make anew."""

    def __init__(self, a, b):
        super().__init__(f"{a} {b}")


def fails_secretly(k):
    raise SecretError("no", "way")


def pretend(name, value):
    """Let a process say of itself what is not so; None takes it back."""
    here = neurosim.environment.current()
    pretended = {**here, **({name: value} if name else {})}
    neurosim.environment.current.__globals__["_cpu"] = (
        partial(pretended.get, "cpu") if name == "cpu" else REAL_CPU
    )
    neurosim.environment.current.__globals__["_version"] = (
        pretended.get if name == "numpy" else REAL_VERSION
    )
    neurosim.executors.work._settled.cache_clear()


REAL_CPU, REAL_VERSION = neurosim.environment._cpu, neurosim.environment._version
