"""Smooth networks of growing width: Var falls as 1 / N, derivatives as 1 / N and 1 / N^2.

Fig. 2 and the smoothed half of supplementary Fig. 2 (A3, P4, T1). MNIST 784-N-100-10, crashes of
hidden layer 1; smoothing (psi = 1e-4, 1e-2), lambda = 0.001, batches and number of steps are the
authors'. Quick: widths where smoothing has the upper hand (it pulls at each weight with the same
force at every width, the loss with one that falls as 1 / N); one network of each, so the variance
is a mean over 100 images in place of one; without lambda, which takes most of the time.
"""

import time

import numpy as np
from datasets import mnist
from derivatives import PAPER, RANGES, decays
from results import (
    crash_campaign,
    parser,
    plain_ticks,
    row,
    save,
    save_figure,
    simulate,
    slope,
    trained,
)

P, LAMBDA = 0.01, 1e-3
BATCH = 1000


def main():
    options = parser(__doc__, mnist=True).parse_args()
    began = time.perf_counter()
    from neurosim import training

    data, epochs = mnist(options.mnist), 30
    if options.quick:
        widths, networks, trials, images = (100, 200, 400, 800), 1, 5000, 100
    else:
        widths = (50, 211, 372, 533, 694, 855, 1016, 1177, 1338, 1500)
        networks, trials, images = 10, 50_000, 1
    # The authors' lambda multiplies p R1.
    smooth = training.Regularisation(
        variance=0.0 if options.quick else LAMBDA * P, paper_derivative=1e-4, paper_gaussian=1e-2
    )
    targets = np.eye(10)[data.targets]
    found, accuracies = [], []
    for n in widths:
        of_width = []
        for seed in range(networks):
            network = trained(
                data, (784, n, 100, 10), seed, epochs=data.epochs_of(epochs), batch=BATCH,
                regularisation=smooth,
            )  # fmt: skip
            campaign = crash_campaign(network, data.inputs[:images], [1], P, trials, seed)
            variance = simulate(campaign).errors.variance.mean()
            of_width.append((variance, *decays(network, data.inputs, targets)))
            right = network(data.test_inputs).argmax(axis=1) == data.test_targets
            accuracies.append(right.mean())
        # The paper averages Var, and the logarithms of the rest.
        mean = np.exp(np.log(of_width).mean(axis=0))
        mean[0] = np.mean([values[0] for values in of_width])
        found.append(mean)
        print(f"N = {n}: Var, D, H, |W_2| {mean}", flush=True)
    values = np.array(found)
    slopes = [slope(widths, values[:, k]) for k in range(4)]
    why = "fewer networks" if options.quick else data.name
    rows = [
        row("Fig. 2", "slope of Var on width, with smoothing", -1.06, slopes[0], (-1.15, -0.85),
            why),
        row("Fig. 2", "slope of Var, last doubling of the width" if options.quick
            else "slope of Var, last two widths", "-", slope(widths[-2:], values[-2:, 0]),
            says="not in the paper"),
        row("Fig. 2", "test accuracy, least and most", "0.90",
            f"{min(accuracies):.3f} to {max(accuracies):.3f}",
            says="reproduced" if min(accuracies) > 0.85 else f"differs: {why}"),
    ]  # fmt: skip
    for k, what in enumerate(("D", "H")):
        rows.append(
            row("Supp. Fig. 2", f"MNIST: slope of {what}, with smoothing", PAPER[True][k],
                slopes[1 + k], RANGES[True][k], why)
        )  # fmt: skip
    rows.append(
        row("Supp. Fig. 2", "MNIST: slope of |W_2|_inf, with smoothing", "-", slopes[3],
            says="figure only in the paper")
    )  # fmt: skip
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4))
    left, right = figure.subplots(1, 2)
    left.loglog(widths, values[:, 0], "o-", label=f"simulated, slope {slopes[0]:.2f}")
    left.loglog(widths, values[0, 0] * widths[0] / np.array(widths), "k:", label="slope -1")
    left.set(xlabel="width of hidden layer 1", ylabel="variance of the error")
    for k, (what, mark) in enumerate((("D", "o-"), ("H", "s-")), start=1):
        right.loglog(widths, values[:, k] / values[0, k], mark, label=f"{what}: {slopes[k]:.2f}")
        right.loglog(widths, (widths[0] / np.array(widths)) ** k, "k:")
    right.set(xlabel="width of hidden layer 1", ylabel="derivatives, relative")
    for axes in (left, right):
        axes.legend()
    plain_ticks(left, right)
    save_figure(figure, "width", options)
    setting = (
        f"{data.name}, N = {widths[0]} to {widths[-1]}, networks of each: {networks}, "
        f"{data.epochs_of(epochs)} epochs, batches of {BATCH}, Var at {images} images"
    )
    save("width", rows, options, setting, began)


if __name__ == "__main__":
    main()
