"""Smooth networks of growing width: Var falls as 1 / N, derivatives as 1 / N and 1 / N^2.

Fig. 2 and the smoothed half of supplementary Fig. 2 (A3, P4, T1). MNIST 784-N-100-10, crashes of
hidden layer 1; smoothing (psi = 1e-4, 1e-2), lambda = 0.001, batches and number of steps are the
authors'. Quick: widths where smoothing has the upper hand (it pulls at each weight with the same
force at every width, the loss with one that falls as 1 / N); one network of each, so the variance
is a mean over 100 images in place of one; without lambda, which takes most of the time.
"""

import time
from functools import partial

import numpy as np
from datasets import mnist
from derivatives import PAPER, RANGES, decays, draw_decays, rows
from results import (
    crash_campaign,
    estimate,
    parser,
    row,
    save,
    save_figure,
    simulate,
    slope,
    trained,
)

P, LAMBDA = 0.01, 1e-3
BATCH, EPOCHS, PART = 1000, 30, 1


def main():
    options = parser(__doc__, mnist=True, long=True).parse_args()
    began = time.perf_counter()
    from neurosim import training

    data, quick = mnist(options.mnist), options.quick and not options.estimate
    if quick:
        widths, networks, trials, images = (100, 200, 400, 800), 1, 5000, 100
    else:
        widths = (50, 211, 372, 533, 694, 855, 1016, 1177, 1338, 1500)
        networks, trials, images = 10, 50_000, 1
    # The authors' lambda multiplies p R1.
    smooth = training.Regularisation(
        variance=0.0 if quick else LAMBDA * P, paper_derivative=1e-4, paper_gaussian=1e-2
    )
    targets, epochs = np.eye(10)[data.targets], data.epochs_of(EPOCHS)

    def network_of(n, passes, seed=0):
        return trained(
            data, (784, n, 100, 10), seed, epochs=passes, batch=BATCH, regularisation=smooth
        )

    def measured(network, seed=0):
        campaign = crash_campaign(network, data.inputs[:images], [1], P, trials, seed)
        variance = simulate(campaign).errors.variance.mean()
        right = network(data.test_inputs).argmax(axis=1) == data.test_targets
        return *decays(network, data.inputs, targets), variance, right.mean()

    if options.estimate:
        some = widths[1::4]
        many = networks * len(widths) / len(some)
        parts = []
        for n in some:
            parts += [
                (many * epochs / PART, partial(network_of, n, PART)),
                (many, partial(measured, network_of(n, 1))),
            ]
        estimate("width", parts, f"{PART} of {epochs} epochs, {len(some)} widths", options)
        return
    found = []
    for n in widths:
        found.append([measured(network_of(n, epochs, seed), seed) for seed in range(networks)])
        print(f"N = {n}: {np.exp(np.log(found[-1]).mean(axis=0))}", flush=True)
    every = np.array(found).transpose(1, 0, 2)
    values, variances, accuracies = every[..., :-2], every[..., -2].mean(axis=0), every[..., -1]
    fall = slope(widths, variances)
    why = "one network of each width" if networks == 1 else data.name
    result = [
        row("Fig. 2", "slope of Var on width, with smoothing", -1.06, fall, (-1.15, -0.85), why),
        row("Fig. 2", f"slope of Var, last {'doubling of the width' if quick else 'two widths'}",
            "-", slope(widths[-2:], variances[-2:]), says="not in the paper"),
        row("Fig. 2", "test accuracy, least and most", "0.90",
            f"{accuracies.min():.3f} to {accuracies.max():.3f}",
            says="reproduced" if accuracies.min() > 0.85 else f"differs: {why}"),
    ]  # fmt: skip
    result += rows("Supp. Fig. 2", "MNIST", widths, values, True, PAPER[True], RANGES[True])
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4))
    left, right = figure.subplots(1, 2)
    left.loglog(widths, variances, "o-", label=f"simulated, slope {fall:.2f}")
    left.loglog(widths, variances[0] * widths[0] / np.array(widths), "k:", label="slope -1")
    left.set(xlabel="width of hidden layer 1", ylabel="variance of the error")
    left.legend()
    draw_decays(right, widths, values)
    save_figure(figure, "width", options)
    setting = (
        f"{data.name}, N = {widths[0]} to {widths[-1]}, networks of each: {networks}, "
        f"{epochs} epochs, batches of {BATCH}, Var at {images} images"
    )
    save("width", result, options, setting, began)


if __name__ == "__main__":
    main()
