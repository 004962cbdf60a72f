"""The machine of a benchmark: its facts, its limits, and windows in which it was quiet.

Run alone, prints facts and limits.
"""

import argparse
import csv
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numba import njit
from threadpoolctl import threadpool_info

RESULTS = Path(__file__).parents[2] / "build" / "bench"
THREADS = 2
OTHERS_MAY_USE = 0.08  # of a core
_ENOUGH = 3  # quiet windows
_TICK = os.sysconf("SC_CLK_TCK")


def write_rows(name, rows, keep=()):
    """Write dictionaries as a CSV file among the results and say where.

    Parameters
    ----------
    name : str
    rows : list of dict
    keep : sequence of str
        Columns that name a case: rows the file has of other cases stay.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / name
    if keep and path.exists():
        new = {tuple(str(r[k]) for k in keep) for r in rows}
        with path.open(newline="") as file:
            old = [r for r in csv.DictReader(file) if tuple(r[k] for k in keep) not in new]
        rows = [*old, *rows]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"written: {os.path.relpath(path)}")


def facts():
    """What a reader must know to judge the numbers."""
    cpu = "unknown"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((s.split(":")[1].strip() for s in lines if s.startswith("model name")), cpu)
        family = next((s.split(":")[1].strip() for s in lines if s.startswith("cpu family")), "")
        cpu += f" (family {family})" if family else ""
    found = {
        "processor": cpu,
        "cores": str(os.cpu_count()),
        "threads used": str(THREADS),
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
        "Python": platform.python_version(),
    }
    for name in ("numpy", "numba", "scipy", "torch", "pytorchfi"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    found["BLAS of numpy"] = "; ".join(
        f"{lib['internal_api']} {lib['version']}, {lib.get('architecture')} kernels"
        for lib in threadpool_info()
        if lib["user_api"] == "blas"
    )
    if found["torch"] != "not installed":
        import torch

        torch.set_num_threads(THREADS)
        settings = torch.__config__.show()
        found["BLAS of torch"] = next(
            (line.strip(" -") for line in settings.splitlines() if "Math Kernel" in line), "other"
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Speeds that no program on this machine exceeds by much, with all threads.

    Parameters
    ----------
    sgemm : dict of str to float
        Floating-point operations a second of a large product, by library.
    activation : dict of str to float
        Seconds an element, in the cache.
    axpy : float
        Floating-point operations a second of z -= w y, y in the second-level cache.
    write : float
        Bytes a second.
    quiet : bool
        Whether others left the machine alone meanwhile; if not, the limits are too loose.
    """

    sgemm: dict[str, float]
    activation: dict[str, float]
    axpy: float
    write: float
    quiet: bool

    def rows(self):
        """Name and value of each, for people."""
        yield from ((f"sgemm {k}, GFLOP/s", f"{v / 1e9:.0f}") for k, v in self.sgemm.items())
        yield from ((f"{k}, ns an element", f"{v * 1e9:.3f}") for k, v in self.activation.items())
        yield "axpy in the L2 cache, GFLOP/s", f"{self.axpy / 1e9:.0f}"
        yield "write, GB/s", f"{self.write / 1e9:.0f}"
        yield "limits measured in quiet windows", "yes" if self.quiet else "no"


def measure_limits():
    """Measure them; the best of many repetitions counts."""
    import torch

    torch.set_num_threads(THREADS)
    quiet = []

    def best(function):
        seconds, was_quiet = _best(function)
        quiet.append(was_quiet)
        return seconds

    a = np.random.default_rng(0).random((2048, 2048), np.float32)
    out, t = np.empty_like(a), torch.from_numpy(a)
    t_out, bias = torch.empty_like(t), torch.zeros(2048)
    flops = 2 * 2048**3
    sgemm = {
        "OpenBLAS (numpy)": flops / best(lambda: np.matmul(a, a, out=out)),
        "MKL (torch)": flops / best(lambda: torch.mm(t, t, out=t_out)),
        "oneDNN (torch)": flops
        / best(lambda: torch.ops.mkldnn._linear_pointwise(t, t, bias, "none", [], "")),
    }
    # 256 KiB a thread: in the second-level cache of both.
    values = torch.rand(THREADS * 2**16)
    changes = {"sigmoid": values.sigmoid_, "tanh": values.tanh_, "relu": values.relu_}
    activation = {k: best(f) / len(values) for k, f in changes.items()}
    large = torch.empty(2**26)  # beyond the caches
    write = large.nbytes / best(lambda: large.fill_(1))
    rng = np.random.default_rng(0)
    y, w = rng.random((784, 256), np.float32), rng.random(20_000, np.float32)
    columns = rng.integers(0, 784, len(w))
    zs = [np.zeros(256, np.float32) for _ in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        seconds = best(lambda: list(pool.map(lambda z: _lose(z, y, w, columns), zs)))
    axpy = THREADS * len(w) * 256 * 2 / seconds
    return Limits(sgemm=sgemm, activation=activation, axpy=axpy, write=write, quiet=all(quiet))


@njit(nogil=True, fastmath=True, cache=True)
def _lose(z, y, w, columns):
    for k in range(len(columns)):
        row = y[columns[k]]
        for i in range(len(z)):
            z[i] -= w[k] * row[i]


def _best(
    function: Callable[[], object], seconds: float = 0.3, tries: int = 5
) -> tuple[float, bool]:
    """Least seconds a call, over windows up to the second quiet one, and whether one was quiet."""
    function()
    fastest, quiet_windows = float("inf"), 0

    def repeat():
        nonlocal fastest
        stop = time.perf_counter() + seconds
        while (start := time.perf_counter()) < stop:
            function()
            fastest = min(fastest, time.perf_counter() - start)

    for _ in range(tries):
        quiet_windows += window(repeat)[1]
        if quiet_windows == 2:
            break
    return fastest, quiet_windows > 0


@dataclass
class Timing:
    """Windows of one contender: seconds a trial in the quiet and in the other ones."""

    quiet: list[float] = field(default_factory=list)
    noisy: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds a trial: over the quiet windows, over all where none was quiet."""
        return statistics.median(self.quiet or self.noisy)

    @property
    def spread(self) -> float:
        """Largest over smallest quiet window, minus 1."""
        values = self.quiet or self.noisy
        return max(values) / min(values) - 1

    @property
    def trusted(self) -> bool:
        """Whether enough windows were quiet."""
        return len(self.quiet) >= _ENOUGH


def used_by_others() -> float:
    """CPU seconds since the start of the machine that other processes used, where it is told.

    Time that the host of a virtual machine took away counts as theirs.
    """
    try:
        with open("/proc/stat") as file:
            ticks = [int(t) for t in file.readline().split()[1:9]]
    except OSError:
        return 0.0
    idle, waiting = ticks[3:5]
    own = os.times()
    mine = own.user + own.system + own.children_user + own.children_system
    return (sum(ticks) - idle - waiting) / _TICK - mine


def window(function: Callable[[], object]) -> tuple[float, bool]:
    """Seconds a call took, and whether others left the machine alone meanwhile."""
    others, start = used_by_others(), time.perf_counter()
    function()
    seconds = time.perf_counter() - start
    # Both clocks tick: one tick a core may be counted late.
    theirs = used_by_others() - others - THREADS / _TICK
    return seconds, theirs <= OTHERS_MAY_USE * seconds


def interleaved(
    runs: dict[str, tuple[Callable[[], object], int]], rounds: int
) -> dict[str, Timing]:
    """Time functions in turns, so that slow changes of the machine meet all of them.

    Parameters
    ----------
    runs : dict
        By name: the function, and how many trials a call computes.
    rounds : int
        Quiet windows wanted of each; at most twice as many rounds are tried.
    """
    timings = {name: Timing() for name in runs}
    for _ in range(2 * rounds):
        for name, (function, trials) in runs.items():
            timing = timings[name]
            if len(timing.quiet) >= rounds:
                continue
            # Threads of the one before may still spin in their barrier.
            time.sleep(0.05)
            seconds, quiet = window(function)
            (timing.quiet if quiet else timing.noisy).append(seconds / trials)
    return timings


def print_table(header, rows):
    """Print columns, the first to the left, the others to the right."""
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        first, *others = (cell.rjust(n) for cell, n in zip(row, widths, strict=True))
        print("  ".join([first.strip().ljust(widths[0]), *others]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    rows = [*facts().items(), *measure_limits().rows()]
    for name, value in rows:
        print(f"{name:34}{value}")
    write_rows("machine.csv", [{"name": n, "value": v} for n, v in rows])


if __name__ == "__main__":
    main()
