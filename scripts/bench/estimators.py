"""What the estimators are worth: noise of moments and of tails against plain trials.

For a network of networks.py. Moments: how many times smaller the variance of the estimates of
E error and E error^2 is than that of as many plain trials (median over inputs and outputs), the
spread between seeds over the standard error reported, and how many plain trials would do as well.
Times: how long `estimate_moments` takes, and how long plain trials by batched forward passes in
torch would take to the same standard error of E error: their number times the measured time of one.
Tails: the relative standard error of P(any output beyond epsilon) at one input, down to 1e-8, from
a given number of evaluations. Beside it `exceedance` on the demo network, with its time.
"""

import argparse
import subprocess
import sys
import time

import numpy as np
from machine import interleaved, write_rows
from networks import NETWORKS, problem

import neurosim as ns
from neurosim import data
from neurosim.certification.importance import StoppingRule, estimate_input

PROBABILITIES = (1e-4, 1e-3, 1e-2, 5e-2)
LEVELS = (1e-3, 1e-4, 1e-6, 1e-8)
# A process that computes next to nothing with the kernels that `exceedance` loads.
STARTED = """
import neurosim as ns
from neurosim import data
network = ns.Network.load(data.network_path())
campaign = ns.Campaign(
    deployment=ns.deploy(network, ns.Chip.load("crossbar-256")), trials=1, seed=1,
    faults=[ns.StuckAtZero("neuron", probability=1e-3)], inputs=[[1.0] * network.widths[0]])
ns.exceedance(campaign, 0.5)
"""


def campaign(found, p: float, seed: int) -> ns.Campaign:
    """Crashes of every neuron before the outputs."""
    return ns.Campaign(
        deployment=ns.deploy(found.network, ns.Chip.load("ideal")),
        faults=[ns.StuckAtZero("neuron", probability=p)],
        inputs=found.inputs,
        trials=1,
        seed=seed,
    )


def fourth_moment(work: ns.Campaign, evaluations: int) -> np.ndarray:
    """Plain estimate of E error^4, (n_inputs, n_outputs); drawn given at least one fault."""
    from neurosim.certification.presented import PresentedInputs
    from neurosim.sampling import FaultLaw

    shown = PresentedInputs(campaign=work, first=0, stop=work.n_inputs)
    law = FaultLaw(probability=shown.probability, least=1)
    total = 0.0
    for first in range(0, evaluations, 256):
        n = min(256, evaluations - first)
        errors = shown.errors(*law.draw(work.seed, 2**31 + 200, first, n)).astype(np.float64)
        total = total + (errors**4).sum(axis=0)
    return law.mass * total / evaluations


def moments(found, evaluations: int, seeds: int) -> list[dict[str, str]]:
    """A row a probability: variance reduction of the mean and second moment, spread, time."""
    rows = []
    for p in PROBABILITIES:
        work = campaign(found, p, 1)
        ns.estimate_moments(work, 256)
        begin = time.perf_counter()
        best = ns.estimate_moments(work, evaluations)
        seconds = time.perf_counter() - begin
        fourth = fourth_moment(work, 2048)
        plain = {
            "mean": best.variance / evaluations,
            "second_moment": np.maximum(fourth - best.second_moment**2, 0) / evaluations,
        }
        row = {"p": f"{p:g}", "evaluations": str(evaluations), "seconds": f"{seconds:.3g}"}
        several = [ns.estimate_moments(campaign(found, p, s), evaluations) for s in range(seeds)]
        for name, variance in plain.items():
            error = getattr(best, name + "_standard_error")
            row[f"{name}_gain"] = f"{np.median(variance / error**2):.3g}"
            values = np.array([getattr(e, name) for e in several])
            said = np.mean([getattr(e, name + "_standard_error") ** 2 for e in several], axis=0)
            ratio = np.sqrt(np.mean(values.var(axis=0, ddof=1) / said))
            row[f"{name}_spread_over_error"] = f"{ratio:.3f}"
        # Plain trials of one input and output for the same standard error of the mean.
        needed = np.median(best.variance / best.mean_standard_error**2)
        row["plain_trials_for_the_same_error"] = f"{needed:.3g}"
        rows.append(row)
        print(", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    return rows


def times(found, evaluations: int, rounds: int = 3) -> list[dict[str, str]]:
    """A row a probability: seconds to one standard error of E error, of both, in turns."""
    from contenders import Faults, TorchBatched
    from peers import timed

    rows = []
    for p in PROBABILITIES:
        work = campaign(found, p, 1)
        best = ns.estimate_moments(work, evaluations)
        needed = np.median(best.variance / best.mean_standard_error**2)
        runs = {
            "torch": timed(TorchBatched(found, Faults(found, "neuron", p)), 0.5),
            "neurosim": (lambda work=work: ns.estimate_moments(work, evaluations), 1),
        }
        timings = interleaved(runs, rounds)
        plain, ours = timings["torch"], timings["neurosim"]
        rows.append({
            "p": f"{p:g}",
            "evaluations": str(evaluations),
            "seconds": f"{ours.median:.3g}",
            "torch_us_per_trial": f"{1e6 * plain.median:.4g}",
            "plain_trials_for_the_same_error": f"{needed:.3g}",
            "torch_seconds": f"{needed * plain.median:.3g}",
            "times_shorter": f"{needed * plain.median / ours.median:.3g}",
            "quiet": "yes" if plain.trusted and ours.trusted else "no",
        })  # fmt: skip
        print(", ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    return rows


def thresholds(work: ns.Campaign, input: int, levels) -> list[float]:
    """Tolerances that some output exceeds about so often at the input, by the surrogates' laws."""
    prediction = ns.predict(work, method="single-fault")
    laws = [prediction.distribution(input, output) for output in range(work.n_outputs)]
    found = []
    for level in levels:
        low, high = 0.0, max(float(np.abs(law.grid).max()) for law in laws)
        for _ in range(50):
            middle = (low + high) / 2
            often = sum(float(law.exceedance(middle)) for law in laws) > level
            low, high = (middle, high) if often else (low, middle)
        found.append(high)
    return found


def tails(found, evaluations: int, inputs: int, levels) -> list[dict[str, str]]:
    """A row a probability and level: relative standard errors at one input and any output."""
    rows = []
    rule = StoppingRule(
        relative_error=1e-6, z=1.0, every_cell=False, most=evaluations, batches=None
    )
    for p in PROBABILITIES:
        work = campaign(found, p, 1)
        epsilons = [thresholds(work, x, levels) for x in range(inputs)]
        for number, level in enumerate(levels):
            results, ratios = [], []
            for x in range(inputs):
                epsilon = epsilons[x][number]
                begin = time.perf_counter()
                one = estimate_input(work, "error", epsilon, rule, x)
                seconds = time.perf_counter() - begin
                again = estimate_input(campaign(found, p, 2), "error", epsilon, rule, x)
                value, error = one.probability[-1], one.standard_error[-1]
                results.append((value, error / value, one.effective_sample_size[-1], seconds))
                both = np.hypot(error, again.standard_error[-1])
                ratios.append((value - again.probability[-1]) / both)
            values, relative, sizes, times = np.array(results).T
            row = {
                "p": f"{p:g}",
                "level": f"{level:g}",
                "probability": f"{np.median(values):.2g}",
                "relative_standard_error": f"{np.median(relative):.3f}",
                "largest": f"{relative.max():.3f}",
                "gain": f"{np.median(1 / values / evaluations / relative**2):.3g}",
                "effective_sample_size": f"{np.median(sizes):.0f}",
                "difference_of_seeds_over_error": f"{np.sqrt(np.mean(np.square(ratios))):.2f}",
                "seconds": f"{np.median(times):.2f}",
            }
            rows.append(row)
            print(", ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    return rows


def demo(tolerances=(0.5, 0.75, 0.95), every=4) -> list[dict[str, str]]:
    """A row a tolerance: `exceedance` at all inputs of the demo network, p = 1e-3, and its time.

    Beside it, at some of the inputs, a run of another seed to 2 %: the differences in standard
    errors of both, and the value that is most too small, of those that are reached.
    """
    images = np.load(data.images_path())

    def work(seed, inputs):
        return ns.Campaign(
            deployment=ns.deploy(
                ns.Network.load(data.network_path()), ns.Chip.load("crossbar-256")
            ),
            faults=[ns.StuckAtZero("neuron", probability=1e-3)],
            inputs=inputs,
            trials=1,
            seed=seed,
        )

    inputs = images["inputs"]
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", STARTED], check=True)
    start = time.perf_counter() - begin
    ns.exceedance(work(1, inputs[:1]), tolerances[-1])
    rows = []
    for epsilon in tolerances:
        begin, spent = time.perf_counter(), time.process_time()
        found = ns.exceedance(work(1, inputs), epsilon)
        seconds, spent = time.perf_counter() - begin, time.process_time() - spent
        low, middle, high = np.percentile(found.any_output[found.any_output_reached], [5, 50, 95])
        longer = ns.exceedance(work(2, inputs[::every]), epsilon, 0.02, max_evaluations=600_000)
        reached = found.any_output_reached[::every]
        value, truth = found.any_output[::every], longer.any_output
        error = np.hypot(found.any_output_standard_error[::every], longer.any_output_standard_error)
        z = ((value - truth) / error)[reached]
        rows.append({
            "epsilon": f"{epsilon:g}",
            "reached": f"{int(found.any_output_reached.sum())} of {len(inputs)}",
            "probability_5_percent": f"{low:.2g}",
            "probability_median": f"{middle:.2g}",
            "probability_95_percent": f"{high:.2g}",
            "evaluations": str(int(found.evaluations.sum())),
            "start_seconds": f"{start:.1f}",
            "seconds": f"{seconds:.1f}",
            "processor_seconds": f"{spent:.1f}",
            "difference_over_error": f"{np.sqrt(np.mean(z**2)):.2f}",
            "most_below": f"{max(0.0, 1 - (value / truth)[reached].min()):.0%}",
        })  # fmt: skip
        print(", ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="784-500-10 sigmoid", choices=list(NETWORKS))
    parser.add_argument("--inputs", type=int, default=100, help="of the moments")
    parser.add_argument("--tail-inputs", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=2000, help="of the moments")
    parser.add_argument("--tail-evaluations", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", choices=("demo", "moments", "times", "tails"))
    given = parser.parse_args()
    name = given.network.replace(" ", "-")
    parts = {
        "demo": lambda: write_rows("estimators-demo.csv", demo()),
        "moments": lambda: write_rows(
            f"estimators-moments-{name}.csv", moments(found, given.evaluations, given.seeds)
        ),
        "times": lambda: write_rows(
            f"estimators-times-{name}.csv", times(found, given.evaluations)
        ),
        "tails": lambda: write_rows(
            f"estimators-tails-{name}.csv",
            tails(found, given.tail_evaluations, given.tail_inputs, LEVELS),
        ),
    }
    found = None if given.only == "demo" else problem(given.network, given.inputs)
    for part, run in parts.items():
        if given.only in (None, part):
            run()


if __name__ == "__main__":
    main()
