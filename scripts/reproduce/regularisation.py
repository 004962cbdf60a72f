"""Training with R1 beside training with dropout (Supp. Fig. 10, and Supp. Fig. 9 at its best rate).

MNIST 784-100-50-10, crashes p = 0.05 of hidden layer 1. The authors' lambda multiplies p R1.
"""

import time
from functools import partial

import numpy as np
from datasets import mnist
from dropout import P, metrics
from results import estimate, parser, row, save, save_figure, trained

import neurosim as ns

# Of the paper: the best crashing test accuracy over all lambda, and over all dropout rates.
PAPER = {"R1": 0.9563, "dropout": 0.9536}
PART = 3


def main():
    options = parser(__doc__, mnist=True, long=True).parse_args()
    began = time.perf_counter()
    from neurosim import training

    data, quick = mnist(options.mnist), options.quick and not options.estimate
    if quick:
        lambdas, rates, networks, epochs = (0.03, 1, 3, 10), (0.01, 0.03, 0.05), 1, 30
    else:
        lambdas = sorted({*np.logspace(-5, 2, 5), *np.linspace(1, 10, 5)})
        rates, networks, epochs = np.linspace(0, 0.06, 10)[1:], 5, data.epochs_of(10)
    seen = slice(1000 if quick else None)

    def network_of(seed=0, passes=epochs, **way):
        return trained(
            data, (784, 100, 50, 10), seed, epochs=passes, batch=100, optimiser="adadelta", **way
        )

    def measured(network):
        return metrics(network, data.test_inputs[seen], data.test_targets[seen])

    def found(**way):
        """Test metrics of each network trained in one way."""
        return [measured(network_of(seed, **way)) for seed in range(networks)]

    def with_r1(factor):
        return {"regularisation": training.Regularisation(variance=factor * P)}

    def with_dropout(rate):
        always = ns.Transient()
        process = ns.StuckAtZero("neuron", probability=rate, layers=[1], persistence=always)
        return {"faults": [process]}

    if options.estimate:
        share = networks * epochs / PART
        parts = [
            (share, partial(network_of, passes=PART)),
            (share * len(lambdas), partial(network_of, passes=PART, **with_r1(1.0))),
            (share * len(rates), partial(network_of, passes=PART, **with_dropout(0.03))),
            (networks * (1 + len(lambdas) + len(rates)), partial(measured, network_of(passes=1))),
        ]
        estimate("regularisation", parts, f"{PART} of {epochs} epochs in each way", options)
        return
    plain = found()
    ways = {
        "R1": {k: found(**with_r1(k)) for k in lambdas},
        "dropout": {rate: found(**with_dropout(rate)) for rate in rates},
    }

    def accuracies(some):
        return [m["crashing accuracy"] for m in some]

    best = {name: max(map(max, map(accuracies, by.values()))) for name, by in ways.items()}
    without = max(accuracies(plain))
    strongest = np.mean([m["T1 Var"] for m in ways["R1"][max(lambdas)]])
    fall = float(strongest / np.mean([m["T1 Var"] for m in plain]))
    why = f"{data.name}" + (", shorter training" if quick else "")
    images = len(data.test_inputs[seen])
    # Two standard errors of the difference of two accuracies, the best of several one of them.
    noise = 2 * np.sqrt(2 * without * (1 - without) / images)
    gain = best["R1"] - without
    if abs(gain) <= noise:
        helps = f"cannot tell: within the noise of {images} images"
    else:
        helps = "reproduced" if gain > 0 else f"differs: {why}"
    rows = [
        row("Supp. Fig. 10", "best crashing test accuracy, R1", PAPER["R1"], best["R1"],
            (0.94, 0.97), why),
        row("Supp. Fig. 10", "best crashing test accuracy, dropout", PAPER["dropout"],
            best["dropout"], (0.94, 0.97), why),
        row("Supp. Fig. 10", "R1's best less dropout's best: as good", 0.0027,
            best["R1"] - best["dropout"], (-0.015, 0.015), why),
        row("Supp. Fig. 10", "crashing test accuracy without either", "-", without,
            says="figure only in the paper"),
        row("Supp. Fig. 10", "R1's best less that: R1 helps", "above 0", gain, says=helps),
        row("Supp. Fig. 10", f"T1's Var at lambda = {max(lambdas):g} over that without", "below 1",
            fall, says="reproduced" if fall < 1 else f"differs: {why}"),
    ]  # fmt: skip
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2))
    for axes, (name, by) in zip(figure.subplots(1, 2, sharey=True), ways.items(), strict=True):
        for kind, mark in (("correct", "s"), ("crashing", "o")):
            axes.plot(
                list(by), [np.mean([m[f"{kind} accuracy"] for m in some]) for some in by.values()],
                f"{mark}-", label=kind,
            )  # fmt: skip
        axes.axhline(np.mean(accuracies(plain)), color="k", ls=":", label="crashing, neither")
        axes.set(xlabel="lambda" if name == "R1" else "dropout while training", title=name)
    figure.axes[0].set(xscale="log", ylabel="test accuracy")
    figure.axes[0].legend()
    if quick:
        axes.set(xticks=rates)
    save_figure(figure, "regularisation", options)
    setting = f"{data.name}, networks of each: {networks}, {epochs} epochs, batches of 100"
    save("regularisation", rows, options, setting, began)


if __name__ == "__main__":
    main()
