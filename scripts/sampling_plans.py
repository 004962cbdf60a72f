"""Print the table of docs/sampling.md: what sampling plans are worth on the network of the demo.

Every neuron dead with probability p, some images; how many times smaller the squared standard error
of a weighted campaign is than that of as many plain trials, medians over inputs and outputs where
both are known. The standard errors of plain trials come from the weighted estimates: at small p no
plain trial would show what they are.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import neurosim as ns
from neurosim import data

PROBABILITIES = (1e-4, 1e-3, 1e-2)
EPSILON = 0.75
PLANS = {
    "`Stratified(control_variate=False)`": ns.Stratified(control_variate=False),
    "`Stratified()`": ns.Stratified(),
    f"`ImportanceTilted(epsilon={EPSILON})`": ns.ImportanceTilted(epsilon=EPSILON),
}


def gains(trace, trials):
    """Squared standard error of plain trials over that of the trace: mean, square, exceedance."""
    found = trace.weighted
    errors = trace.statistics.errors
    mean, third = errors.mean, errors.third_moment
    fourth = errors.fourth_moment + 4 * mean * third + 6 * mean**2 * found.variance.value + mean**4
    plain = [
        found.variance.value,
        fourth - found.second_moment.value**2,
        found.exceedances.value[0] * (1 - found.exceedances.value[0]),
    ]
    errors = [
        found.mean.standard_error,
        found.second_moment.standard_error,
        found.exceedances.standard_error[0],
    ]
    known = [True, True, found.exceedances.trusted[0] & (found.exceedances.value[0] > 0)]
    ratios = []
    for variance, error, some in zip(plain, errors, known, strict=True):
        keep = (error > 0) & np.isfinite(error) & some
        ratios.append(np.median((variance / trials)[keep] / error[keep] ** 2))
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=51_200)
    parser.add_argument("--inputs", type=int, default=20)
    options = parser.parse_args()
    with np.load(data.images_path()) as images:
        inputs = images["inputs"][: options.inputs]
    deployment = ns.deploy(ns.Network.load(data.network_path()), ns.Chip.load("crossbar-256"))
    print("| p | plan | E error | E error^2 | P(\\|error\\| >= 0.75) | median P |")
    print("|---|---|---|---|---|---|")
    for p in PROBABILITIES:
        for name, plan in PLANS.items():
            campaign = ns.resolve(
                ns.Campaign(
                    deployment=deployment,
                    faults=[ns.StuckAtZero("neuron", probability=p)],
                    inputs=inputs,
                    trials=options.trials,
                    seed=1,
                    epsilons=(EPSILON,),
                    plan=plan,
                )
            )
            with TemporaryDirectory() as folder:
                path = Path(folder) / "trace.h5"
                with ns.run(campaign, path, progress=False) as trace:
                    numbers = [f"{gain:.2g}" for gain in gains(trace, options.trials)]
                    middle = f"{np.median(trace.exceedance):.2g}"
            print(f"| {p:g} | {name} | {' | '.join(numbers)} | {middle} |", flush=True)


if __name__ == "__main__":
    main()
