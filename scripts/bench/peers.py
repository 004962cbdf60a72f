"""neurosim beside its peers: microseconds a trial for the same fault sets, in quiet windows.

Every row is checked against float64 before it is timed; contenders take turns in rounds, and
windows in which other processes worked are dropped. Run with --quick for a check of a minute.
"""

import argparse
import time

from contenders import (
    NEURON_CONTENDERS,
    SYNAPSE_CONTENDERS,
    Faults,
    Neurosim,
    NumpyBatched,
    TorchBatched,
    check,
    consume,
)
from limits import least_seconds, plain_seconds
from machine import facts, interleaved, measure_limits, print_table, write_rows
from networks import problem

PROBABILITIES = (1e-4, 1e-3, 1e-2, 5e-2)
SIGMOID, RELU, TANH = "784-500-10 sigmoid", "784-500-10 relu", "784-500-10 tanh"
DEEP = "784-500-500-10 sigmoid"


def cases(quick):
    """(network, site, probability, number of inputs, contenders), one a row."""
    if quick:
        yield SIGMOID, "neuron", 1e-2, 100, NEURON_CONTENDERS
        yield SIGMOID, "synapse", 1e-3, 100, SYNAPSE_CONTENDERS
        return
    networks = (
        (SIGMOID, "neuron", NEURON_CONTENDERS),
        (DEEP, "neuron", NEURON_CONTENDERS),
        (SIGMOID, "synapse", SYNAPSE_CONTENDERS),
    )
    for name, site, kinds in networks:
        for p in PROBABILITIES:
            yield name, site, p, 100, kinds
    for name in (RELU, TANH):
        for p in PROBABILITIES:
            yield name, "neuron", p, 100, (Neurosim, TorchBatched)
    for name, site, _ in networks:
        for p in PROBABILITIES:
            yield name, site, p, 1000, (Neurosim, TorchBatched)
    for name, site in ((SIGMOID, "neuron"), (DEEP, "neuron"), (SIGMOID, "synapse")):
        for p in (0.1, 0.2, 0.3, 0.5):
            yield name, site, p, 100, (Neurosim, TorchBatched, NumpyBatched)


def words(case):
    """A case as people and --only name it."""
    return f"{case[0]} {case[1]} p={case[2]:g} M={case[3]}"


def measure(case, limits, rounds, seconds):
    """Rows of one case, a contender each."""
    name, site, p, n_inputs, kinds = case
    found = problem(name, n_inputs)
    faults = Faults(found, site, p)
    checked = check(kinds, found, faults)
    runs, preparation = {}, 0.0
    for entry in checked:
        if not entry.passed:
            print(f"{entry.contender.name}: off by {entry.difference:.1e}, not timed")
            continue
        runs[entry.contender.name] = timed(entry.contender, seconds)
        if isinstance(entry.contender, Neurosim):
            n_trials = entry.contender.whole(runs[entry.contender.name][1])
            preparation = entry.contender.preparation(n_trials)
    timings = interleaved(runs, rounds)
    tabulated = site == "neuron"
    one_hidden = len(found.network.widths) == 3
    for entry in checked:
        timing = timings.get(entry.contender.name)
        if timing is None:
            continue
        us = 1e6 * timing.median
        ours = isinstance(entry.contender, Neurosim)
        yield {
            "network": name,
            "site": site,
            "probability": p,
            "inputs": n_inputs,
            "contender": entry.contender.name,
            "how": entry.contender.detail,
            "us_per_trial": f"{us:.4g}",
            "spread": f"{timing.spread:.2f}",
            "quiet_windows": len(timing.quiet),
            "dropped_windows": len(timing.noisy),
            "trusted": "yes" if timing.trusted else "no",
            "trials_timed": runs[entry.contender.name][1],
            "largest_difference": f"{entry.difference:.2g}",
            "faulty_trials": f"{(faults.counts > 0).mean():.4f}",
            "preparation_ms": f"{1e3 * preparation:.3g}" if ours else "",
            "limit_us": f"{1e6 * least_seconds(found, site, p, limits):.4g}"
            if site == "neuron" or one_hidden
            else "",
            "limit_tabulated_us": f"{1e6 * least_seconds(found, site, p, limits, True):.4g}"
            if tabulated
            else "",
            "plain_limit_us": f"{1e6 * plain_seconds(found, limits):.4g}",
        }


def timed(contender, seconds):
    """A function that computes for about so many seconds, and its number of trials."""
    n_trials, took = contender.whole(1), 0.0
    consume(contender.errors(n_trials))
    while took < seconds / 4:
        took = float("inf")
        for _ in range(2):
            start = time.perf_counter()
            consume(contender.errors(n_trials))
            took = min(took, time.perf_counter() - start)
        more = contender.whole(2 * n_trials)
        if took >= seconds / 4 or more == n_trials:
            break
        n_trials = more
    wanted = max(1, round(n_trials * seconds / took))
    passes = max(1, round(wanted / contender.whole(wanted)))
    n_trials = contender.whole(wanted)

    def run():
        for _ in range(passes):
            consume(contender.errors(n_trials))

    return run, passes * n_trials


def summary(rows):
    """Print one line a case: microseconds a trial of each contender, and ratios."""
    names = list(dict.fromkeys(r["contender"] for r in rows))
    lines = []
    for case in dict.fromkeys(_case(r) for r in rows):
        us = {r["contender"]: float(r["us_per_trial"]) for r in rows if _case(r) == case}
        line = [" ".join((*case[:2], f"p={float(case[2]):g}", f"M={case[3]}"))]
        line += [f"{us[n]:.4g}" if n in us else "-" for n in names]
        ours = us.get("neurosim")
        for peer in ("torch batched", "numpy batched", "PyTorchFI"):
            line.append(f"{us[peer] / ours:.4g}" if ours and peer in us else "-")
        limit = next(r["limit_us"] for r in rows if _case(r) == case)
        line.append(f"{float(limit) / ours:.0%}" if ours and limit else "-")
        lines.append(line)
    print("us a trial; ratios over batched torch, batched numpy, PyTorchFI; share of the limit")
    print_table(("case", *names, "/torch", "/numpy", "/PyTorchFI", "limit"), lines)


def _case(row):
    return row["network"], row["site"], row["probability"], row["inputs"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rows, short windows")
    parser.add_argument("--rounds", type=int, default=5, help="quiet windows of each contender")
    parser.add_argument("--seconds", type=float, default=0.25, help="length of a window")
    parser.add_argument(
        "--only",
        default="",
        help='words of a case, as "relu p=0.01": the results of all other cases stay',
    )
    arguments = parser.parse_args()
    rounds, seconds = (3, 0.2) if arguments.quick else (arguments.rounds, arguments.seconds)
    wanted = set(arguments.only.split())
    chosen = [case for case in cases(arguments.quick) if wanted <= set(words(case).split())]
    if not chosen:
        parser.error(f"--only: expected words of a case, got {arguments.only!r}")
    known, limits = facts(), measure_limits()
    about = [*known.items(), *limits.rows()]
    for name, value in about:
        print(f"{name:34}{value}")
    write_rows("machine.csv", [{"name": n, "value": v} for n, v in about])
    key = ("network", "site", "probability", "inputs")
    rows = []
    for case in chosen:
        start = time.perf_counter()
        rows += measure(case, limits, rounds, seconds)
        # At once: an interrupted run keeps what it has.
        write_rows("peers.csv", rows, keep=key if arguments.only else ())
        print(f"{words(case)}: {time.perf_counter() - start:.0f} s", flush=True)
    summary(rows)


if __name__ == "__main__":
    main()
