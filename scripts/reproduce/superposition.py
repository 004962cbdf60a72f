"""Errors of several layers add (AP7, supplementary Fig. 11): random 50-51-52-53 networks.

Every subset of the four layers fails, the input and the output included. For 25 pairs of disjoint
subsets a, b: |D_ab - D_a - D_b| / |D_ab| of the mean and of the variance. Two halves of the trials
tell how much of that is noise of the simulation.
"""

import time
from itertools import combinations

import numpy as np
from results import crash_campaign, parser, random_network, row, save, save_figure, simulate

import neurosim as ns

P = 0.01


def main():
    options = parser(__doc__).parse_args()
    began = time.perf_counter()
    trials = 50_000 if options.quick else 500_000
    rng = np.random.default_rng(42)
    network = random_network(rng, (50, 51, 52, 53), "relu")
    inputs = rng.normal(size=(5, 50)) + 0.1
    subsets = [s for n in range(1, 5) for s in combinations(range(4), n)]
    found = {}
    for number, subset in enumerate(subsets):
        halves = [
            simulate(crash_campaign(network, inputs, subset, P, trials // 2, seed)).errors
            for seed in (number, number + len(subsets))
        ]
        found[subset] = {
            "mean": np.array([half.mean for half in halves]),
            "variance": np.array([half.variance for half in halves]),
        }
    pairs = [(a, b) for a in subsets for b in subsets if a < b and not set(a) & set(b)]
    assert len(pairs) == 25
    relative, noise = {}, {}
    for kind in ("mean", "variance"):
        wholes = [found[tuple(sorted(a + b))][kind] for a, b in pairs]
        rests = [
            whole - found[a][kind] - found[b][kind]
            for whole, (a, b) in zip(wholes, pairs, strict=True)
        ]
        sizes = [np.linalg.norm(whole.mean(axis=0)) for whole in wholes]
        relative[kind] = [
            np.linalg.norm(r.mean(axis=0)) / s for r, s in zip(rests, sizes, strict=True)
        ]
        noise[kind] = [
            np.linalg.norm(r[0] - r[1]) / 2 / s for r, s in zip(rests, sizes, strict=True)
        ]
    everything = crash_campaign(network, inputs, range(4), P, trials)
    prediction = ns.predict(everything, "single-fault")
    whole = found[(0, 1, 2, 3)]["variance"].mean(axis=0)
    off = np.linalg.norm(prediction.variance - whole)
    why = "another random network, and other noise of the simulation"
    rows = [
        row("Supp. Fig. 11", "superposition error of the mean", 0.019,
            float(np.mean(relative["mean"])), (0.01, 0.035), why),
        row("Supp. Fig. 11", "superposition error of the variance", 0.047,
            float(np.mean(relative["variance"])), (0.025, 0.08), why),
        row("Supp. Fig. 11", "b4 off the simulated variance, all layers at once", "-",
            float(off / np.linalg.norm(whole)), says="not in the paper"),
    ]  # fmt: skip
    for kind, values in noise.items():
        rows.append(
            row("Supp. Fig. 11", f"noise of the simulation in that: {kind}", "-",
                float(np.mean(values)), says="not in the paper, which has 50000 trials")
        )  # fmt: skip
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2))
    axes = figure.add_subplot()
    axes.hist(list(relative.values()), bins=12, label=list(relative))
    axes.set(xlabel="relative error of superposition", ylabel="pairs of subsets")
    axes.legend()
    save_figure(figure, "superposition", options)
    save("superposition", rows, options, f"{trials} trials a subset", began)


if __name__ == "__main__":
    main()
