"""A long campaign through `ns.run`: time, memory, the price of recording errors, start-up.

784-500-10, neurons with p = 1e-4, 100 inputs; moments, histograms and the exceedances of two
thresholds are kept. Every campaign runs in a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import RESULTS, THREADS, print_table, window, write_rows
from networks import problem

import neurosim as ns
from neurosim.executors import ThreadExecutor

NAME, PROBABILITY, N_INPUTS = "784-500-10 sigmoid", 1e-4, 100


def campaign(trials, record=()):
    """The campaign of this benchmark."""
    found = problem(NAME, N_INPUTS)
    return ns.Campaign(
        deployment=ns.deploy(found.network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero("neuron", probability=PROBABILITY)],
        inputs=found.inputs,
        trials=trials,
        seed=1,
        epsilons=[0.1, 0.5],
        record=record,
    )


def seconds_of(asked, folder):
    """Wall seconds of `ns.run` into a new trace, and whether the machine was quiet."""
    path = Path(tempfile.mkdtemp(dir=folder)) / "trace.h5"
    executor = ThreadExecutor(threads=THREADS)

    def run():
        ns.run(asked, path, executor, progress=False).close()

    seconds, quiet = window(run)
    size = path.stat().st_size
    path.unlink()
    return {"seconds": seconds, "quiet": quiet, "bytes": size}


def child(trials, record):
    """What a process of its own measures: a first small run compiles, a second one is small too."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=RESULTS) as folder:
        one_unit = campaign(campaign(1).chunk, record)
        first = seconds_of(one_unit, folder)
        fixed = min((seconds_of(one_unit, folder) for _ in range(3)), key=lambda r: r["seconds"])
        whole = seconds_of(campaign(trials, record), folder) if trials else fixed
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "first": first["seconds"],
        "fixed": fixed["seconds"],
        "whole": whole["seconds"],
        "quiet": whole["quiet"],
        "bytes": whole["bytes"],
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "process": time.perf_counter() - began,
    }


def in_a_process(trials, record=(), tries=3):
    """Results of `child`, from the first quiet try or else the last one."""
    for _ in range(tries):
        command = [sys.executable, __file__, "--child", str(trials), *record]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        found["outside"] = time.perf_counter() - start
        if found["quiet"]:
            break
    return found


def startup():
    """Seconds from the start of a process to the first result of a campaign, kernels compiled."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, __file__, "--first"], capture_output=True, text=True, check=True
        )
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if arguments.child:
        trials, *record = arguments.child
        print(json.dumps(child(int(trials), tuple(record))))
        return
    if arguments.first:
        with tempfile.TemporaryDirectory(dir=RESULTS) as folder:
            seconds_of(campaign(campaign(1).chunk), folder)
        return
    problem(NAME, N_INPUTS)  # trained before anything is timed
    tenth = 10 if arguments.quick else 1
    rows = []
    for trials, record in (
        (100_000 // tenth, ()),
        (1_000_000 // tenth, ()),
        (20_000 // tenth, ()),
        (20_000 // tenth, ("error",)),
    ):
        found = in_a_process(trials, record)
        rows.append({
            "trials": trials,
            "recorded": " ".join(record) or "statistics",
            "run_s": f"{found['whole']:.3f}",
            "one_unit_s": f"{found['fixed']:.3f}",
            "without_files_s": f"{found['whole'] - found['fixed']:.3f}",
            "peak_rss_mb": f"{found['rss'] / 1e6:.0f}",
            "trace_mb": f"{found['bytes'] / 1e6:.1f}",
            "quiet": "yes" if found["quiet"] else "no",
        })  # fmt: skip
        print(", ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    rows.append({**dict.fromkeys(rows[0], ""), "recorded": "start-up", "run_s": f"{startup():.2f}"})
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    write_rows("streaming.csv", rows)


if __name__ == "__main__":
    main()
