"""The cost of a trial over probability, widths, inputs and trials, beside the least possible.

Widths use untrained networks, for cost depends on shapes alone; all others the trained
784-500-10. Every campaign is checked against float64 first. --quick for a check of a minute.
"""

import argparse
import time

from contenders import Faults, Neurosim, TorchBatched, check, consume
from limits import least_seconds, plain_seconds
from machine import interleaved, measure_limits, print_table, write_rows
from networks import problem, untrained
from peers import timed

NAME = "784-500-10 sigmoid"


def cases(quick):
    """(axis, value, problem, site, probability, contenders)."""
    rivals = (Neurosim, TorchBatched)
    base = problem(NAME, 100)
    fine = (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5)
    for site in ("neuron", "synapse"):
        for p in (1e-4, 1e-2) if quick else fine:
            yield "probability", p, base, site, p, rivals
    for width in (100, 1000) if quick else (50, 200, 500, 2000):
        yield "width", width, untrained((784, width, 10), 100), "neuron", 1e-2, rivals
    for n_inputs in (10, 1000) if quick else (1, 10, 100, 1000):
        yield "inputs", n_inputs, problem(NAME, n_inputs), "neuron", 1e-2, rivals


def measure(case, limits, rounds, seconds):
    """Rows of one case, a contender each."""
    axis, value, found, site, p, kinds = case
    faults = Faults(found, site, p)
    checked = check(kinds, found, faults)
    for entry in checked:
        if not entry.passed:
            print(f"{entry.contender.name}: off by {entry.difference:.1e}, not timed")
    passed = [c.contender for c in checked if c.passed]
    timings = interleaved({c.name: timed(c, seconds) for c in passed}, rounds)
    for contender in passed:
        timing = timings[contender.name]
        yield {
            "axis": axis,
            "value": value,
            "site": site,
            "probability": p,
            "contender": contender.name,
            "us_per_trial": f"{1e6 * timing.median:.4g}",
            "trusted": "yes" if timing.trusted else "no",
            "limit_us": f"{1e6 * least_seconds(found, site, p, limits):.4g}",
            "plain_limit_us": f"{1e6 * plain_seconds(found, limits):.4g}",
        }


def over_trials(limits, quick):
    """Whole time of campaigns of several sizes with a fresh backend: its preparation counts."""
    found = problem(NAME, 100)
    for p in (1e-4, 1e-2):
        faults = Faults(found, "neuron", p)
        contender = Neurosim(found, faults)
        consume(contender.errors(contender.whole(1)))
        size = 64
        while size <= min(faults.n_trials, 2**12 if quick else 2**16):
            # The executor takes units of work; the last may be cut short, as in a campaign.
            runs = {"neurosim": (lambda n=size, f=faults: _campaign(found, f, n), size)}
            timing = interleaved(runs, 3)["neurosim"]
            yield {
                "axis": "trials",
                "value": size,
                "site": "neuron",
                "probability": p,
                "contender": "neurosim",
                "us_per_trial": f"{1e6 * timing.median:.4g}",
                "trusted": "yes" if timing.trusted else "no",
                "limit_us": f"{1e6 * least_seconds(found, 'neuron', p, limits):.4g}",
                "plain_limit_us": f"{1e6 * plain_seconds(found, limits):.4g}",
            }
            size *= 4


def _campaign(found, faults, n_trials):
    consume(Neurosim(found, faults).errors(n_trials))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few points, short windows")
    parser.add_argument(
        "--only",
        choices=("probability", "width", "inputs", "trials"),
        help="one axis: the results of the others stay",
    )
    arguments = parser.parse_args()
    rounds, seconds = (3, 0.1) if arguments.quick else (3, 0.2)
    limits, rows = measure_limits(), []
    for case in cases(arguments.quick):
        if arguments.only not in (None, case[0]):
            continue
        start = time.perf_counter()
        rows += measure(case, limits, rounds, seconds)
        print(f"{case[0]} {case[1]} {case[3]}: {time.perf_counter() - start:.0f} s", flush=True)
    if arguments.only in (None, "trials"):
        rows += over_trials(limits, arguments.quick)
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    write_rows("scaling.csv", rows, keep=("axis",) if arguments.only else ())


if __name__ == "__main__":
    main()
