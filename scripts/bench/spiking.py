"""Spiking kernel beside Brian2, one replica at a time and side by side in one network.

784-100-10, leaky neurons, random input spikes of one image for 100 ms in steps of 0.1 ms; each
replica has dead neurons with p = 1e-2. All contenders run the same model on the same input spikes
and must give the same spike counts. Brian2's networks are built and its code is compiled before
anything is timed; medians of repetitions.
"""

import argparse
import csv
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import neurosim as ns
from neurosim import data
from neurosim.backends.spiking.brian import BrianSimulator
from neurosim.backends.spiking.compiled import CompiledSimulator
from neurosim.backends.spiking.lowering import lower
from neurosim.faults import FaultBatch, Sites
from neurosim.sampling import PlainMonteCarlo, draw

RESULTS = Path(__file__).parents[2] / "build" / "bench"
WIDTHS, REPLICAS, PROBABILITY = (784, 100, 10), 100, 1e-2


def problem():
    """The lowered network and the fault sets of the replicas."""
    rng = np.random.default_rng(0)
    network = ns.Network.dense(
        weights=[
            rng.normal(size=(WIDTHS[n + 1], WIDTHS[n])) / np.sqrt(WIDTHS[n]) for n in range(2)
        ],
        biases=[0.1 * rng.normal(size=n) for n in WIDTHS[1:]],
        activations=["relu", "relu"],
    )
    with np.load(data.images_path()) as images:
        image = images["inputs"][:1].astype(np.float64)
    model = ns.SpikingModel(
        duration_s=0.1,
        time_step_s=1e-4,
        coding="poisson",
        neuron="lif",
        membrane_time_constant_s=0.02,
        maximum_rate_hz=200,
    )
    faults = [ns.StuckAtZero("neuron", probability=PROBABILITY)]
    batch = draw(faults, PlainMonteCarlo(), Sites(WIDTHS), 1, 1, 0, REPLICAS)
    return lower(network, model, image), batch


def parts_of(batch, size):
    """A batch cut into batches of `size` trials; 1 or all of them."""
    if size == len(batch):
        return [batch]
    return [FaultBatch.of(fault_set, batch.sites) for fault_set in batch]


def timed(run, parts, repetitions):
    """Median seconds of running all parts, and the counts."""
    run(parts[0])  # compiles and builds
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        counts = [run(part) for part in parts]
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), np.concatenate(counts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="Brian2 in numpy only")
    arguments = parser.parse_args()
    lowered, batch = problem()
    kernel = CompiledSimulator(lowered)
    rows = []

    def add(name, seconds, replicas, counts, expected):
        same = bool(np.array_equal(counts, expected[: len(counts)]))
        row = {
            "contender": name,
            "ms_per_replica": f"{1e3 * seconds / replicas:.4g}",
            "same_counts": "yes" if same else "no",
        }
        print(", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
        rows.append(row)
        return seconds / replicas

    seconds, expected = timed(lambda part: kernel.run(part).counts, [batch], 15)
    one_thread = add("kernel, 1 thread", seconds, REPLICAS, expected, expected)
    halves = [draw_part(batch, half) for half in (slice(0, 50), slice(50, 100))]
    with ThreadPoolExecutor(2) as pool:

        def on_two(_):
            return np.concatenate([part.counts for part in pool.map(kernel.run, halves)])

        seconds, counts = timed(on_two, [batch], 15)
    fastest = min(one_thread, add("kernel, 2 threads", seconds, REPLICAS, counts, expected))
    for target in ("numpy",) if arguments.quick else ("numpy", "cython"):
        few = parts_of(batch, 1)[:5]
        seconds, counts = timed(counted(lowered, target), few, 3)
        alone = add(f"Brian2 {target}, one replica", seconds, len(few), counts, expected)
        seconds, counts = timed(counted(lowered, target), [batch], 3)
        beside = add(f"Brian2 {target}, side by side", seconds, REPLICAS, counts, expected)
        print(
            f"kernel over Brian2 {target}: {alone / fastest:.0f} times one replica at a time, "
            f"{beside / fastest:.0f} times side by side"
        )
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / "spiking.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def counted(lowered, target):
    """A Brian2 simulation that returns spike counts."""
    simulator = BrianSimulator(lowered, target)
    return lambda part: simulator.run(part).counts


def draw_part(batch, which):
    """Some trials of the batch as a batch of their own."""
    faults = [ns.StuckAtZero("neuron", probability=PROBABILITY)]
    return draw(faults, PlainMonteCarlo(), batch.sites, 1, 1, which.start, which.stop)


if __name__ == "__main__":
    main()
