"""The variance of the error falls as 1 / width where weights are smooth (Fig. 2).

MNIST 784-N-100-10, smoothing as the authors' (psi = 1e-4, 1e-2) and lambda = 0.001; crashes of
hidden layer 1; the variance at one training image, averaged over outputs. Quick: as many optimiser
steps as the authors took, in batches of 100.
"""

import time

import numpy as np
from datasets import mnist
from results import crash_campaign, parser, row, save, save_figure, simulate, slope, trained

P, LAMBDA = 0.01, 1e-3


def main():
    options = parser(__doc__, mnist=True).parse_args()
    began = time.perf_counter()
    from neurosim import training

    data = mnist(options.mnist)
    if options.quick:
        widths, epochs, batch, networks, trials = (50, 100, 200, 400), 45, 100, 1, 5000
    else:
        widths = (50, 211, 372, 533, 694, 855, 1016, 1177, 1338, 1500)
        epochs, batch, networks, trials = data.epochs_of(30), 1000, 10, 50_000
    # The authors' lambda multiplies p R1.
    smooth = training.Regularisation(
        variance=LAMBDA * P, paper_derivative=1e-4, paper_gaussian=1e-2
    )
    variances, accuracies = [], []
    for n in widths:
        found = []
        for seed in range(networks):
            network = trained(
                data, (784, n, 100, 10), seed, epochs=epochs, batch=batch, regularisation=smooth
            )
            errors = simulate(crash_campaign(network, data.inputs[:1], [1], P, trials, seed)).errors
            found.append(errors.variance.mean())
            right = network(data.test_inputs).argmax(axis=1) == data.test_targets
            accuracies.append(right.mean())
        variances.append(np.mean(found))
    steep = slope(widths, variances)
    rows = [
        row("Fig. 2", "slope of Var on width, with smoothing", -1.06, steep, (-1.15, -0.85),
            "fewer and smaller networks" if options.quick else "5000 images"),
        row("Fig. 2", "test accuracy, least and most", "-",
            f"{min(accuracies):.3f} to {max(accuracies):.3f}", says="not in the paper"),
    ]  # fmt: skip
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4))
    axes = figure.add_subplot()
    axes.loglog(widths, variances, "o-", label=f"simulated, slope {steep:.2f}")
    axes.loglog(widths, variances[0] * widths[0] / np.array(widths), "k:", label="slope -1")
    axes.set(xlabel="width of hidden layer 1", ylabel="variance of the error")
    axes.legend()
    save_figure(figure, "width", options)
    setting = (
        f"{data.name}, N = {widths[0]} to {widths[-1]}, networks of each: {networks}, "
        f"{epochs} epochs, batches of {batch}"
    )
    save("width", rows, options, setting, began)


if __name__ == "__main__":
    main()
