"""A long campaign through `ns.run`: time, memory, the price of recording errors, start-up.

784-500-10, dead neurons, 100 inputs; moments, histograms and the exceedances of two thresholds are
kept. Every campaign runs in a process of its own. With recorded errors and without them processes
take turns; the fastest runs of both are compared, for other programs only make them slower.
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

NAME, N_INPUTS = "784-500-10 sigmoid", 100

# Probability of a fault, trials, and how many processes of each kind take turns.
CASES = ((1e-4, 100_000, 1), (1e-4, 1_000_000, 4), (1e-3, 200_000, 2), (1e-2, 40_000, 2))
_RUNS = 3  # of a campaign in its process


def campaign(trials, record=(), probability=1e-4):
    """The campaign of this benchmark."""
    found = problem(NAME, N_INPUTS)
    return ns.Campaign(
        deployment=ns.deploy(found.network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero("neuron", probability=probability)],
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


def child(probability, trials, record):
    """What a process of its own measures: a first small run compiles, others are small too."""
    with tempfile.TemporaryDirectory(dir=RESULTS) as folder:
        small = campaign(campaign(1, record, probability).chunk, record, probability)
        seconds_of(small, folder)
        fixed = [seconds_of(small, folder) for _ in range(_RUNS)]
        whole = [seconds_of(campaign(trials, record, probability), folder) for _ in range(_RUNS)]
    # Linux counts kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "fixed": fixed,
        "whole": whole,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
    }


def in_a_process(probability, trials, record):
    """Results of `child`."""
    command = [sys.executable, __file__, "--child", str(probability), str(trials), *record]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def fastest(runs):
    """The fastest of the quiet runs, of all where none was quiet."""
    return min([run for run in runs if run["quiet"]] or runs, key=lambda run: run["seconds"])


def compared(probability, trials, processes, recordings):
    """A row for each of the recordings, whose processes take turns."""
    found = {record: [] for record in recordings}
    for _ in range(processes):
        for record, results in found.items():
            results.append(in_a_process(probability, trials, record))
    rows, without = [], None
    for record, results in found.items():
        whole = fastest([run for one in results for run in one["whole"]])
        fixed = fastest([run for one in results for run in one["fixed"]])
        seconds = whole["seconds"] - fixed["seconds"]
        rows.append({
            "probability": f"{probability:g}",
            "trials": trials,
            "recorded": " ".join(record) or "statistics",
            "run_s": f"{whole['seconds']:.3f}",
            "one_unit_s": f"{fixed['seconds']:.3f}",
            "without_files_s": f"{seconds:.3f}",
            "over_statistics": "" if without is None else f"{seconds / without:.2f}",
            "peak_rss_mb": f"{max(one['rss'] for one in results) / 1e6:.0f}",
            "trace_mb": f"{whole['bytes'] / 1e6:.1f}",
            "quiet": "yes" if whole["quiet"] and fixed["quiet"] else "no",
        })  # fmt: skip
        without = seconds if without is None else without
        print(", ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    return rows


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
        probability, trials, *record = arguments.child
        print(json.dumps(child(float(probability), int(trials), tuple(record))))
        return
    if arguments.first:
        with tempfile.TemporaryDirectory(dir=RESULTS) as folder:
            seconds_of(campaign(campaign(1).chunk), folder)
        return
    problem(NAME, N_INPUTS)  # trained before anything is timed
    rows = []
    for probability, trials, processes in CASES:
        trials //= 10 if arguments.quick else 1
        recordings = ((), ("error",)) if processes > 1 else ((),)
        rows += compared(probability, trials, processes, recordings)
    rows.append({**dict.fromkeys(rows[0], ""), "recorded": "start-up", "run_s": f"{startup():.2f}"})
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    write_rows("streaming.csv", rows)


if __name__ == "__main__":
    main()
