"""Derivatives fall with the width (A3, P4; supplementary Figs. 2 to 4): MNIST, Fashion, Boston.

D = mean |dL / dy_1| and H = mean |d2 L / dy_1 dy_1| of the mean squared error L, H averaged with
sign over 10 samples first, as the authors did. With smoothing they should fall as 1 / N and 1 / N^2
(P4); MNIST with smoothing is in width.py.
"""

import time

import numpy as np
from datasets import boston, fashion, mnist
from results import parser, plain_ticks, row, save, save_figure, slope, trained

from neurosim.theory import continuity

MANY, SAMPLES = 4000, 10
# Slopes of D and H without and with smoothing: of the paper, and within which ours are its own.
PAPER = {False: (-0.86, -1.36), True: (-0.97, -1.95)}
RANGES = {False: ((-1.05, -0.65), (-1.65, -1.1)), True: ((-1.1, -0.9), (-2.1, -1.85))}


def decays(network, inputs, targets):
    """D over 4000 inputs, H over the first 10, and the norm of W_2 (largest row sum)."""
    import torch

    from neurosim import training

    ys, _ = training.to_module(network).layers_of(torch.tensor(inputs[:MANY]))
    loss = ((ys[-1] - torch.tensor(targets[:MANY])) ** 2).mean(dim=1).sum()
    (gradients,) = torch.autograd.grad(loss, ys[1])
    hessian = 0.0
    for x, y in zip(inputs[:SAMPLES], targets[:SAMPLES], strict=True):
        first, second = continuity.derivatives(network, x[None], layer=1)
        residual = (network(x[None]) - y)[0]
        k = len(residual)
        hessian = hessian + 2 / k * (
            first[0].T @ first[0] + np.tensordot(residual, second[0], axes=1)
        )
    norm = np.abs(network.layers[1].weight).sum(axis=1).max()
    return float(gradients.abs().mean()), np.abs(hessian / SAMPLES).mean() / SAMPLES, norm


def experiment(data, widths, networks, smooth, after, **fit):
    """(D, H, norm) for every width, the mean of logarithms over networks."""
    from neurosim import training

    terms = training.Regularisation(paper_derivative=1e-4, paper_gaussian=1e-2) if smooth else None
    n_in = data.inputs.shape[1]
    targets = data.targets if data.targets.ndim == 2 else np.eye(10)[data.targets]
    return np.array([
        np.exp(np.mean([
            np.log(decays(
                trained(data, (n_in, n, *after), seed, regularisation=terms, **fit),
                data.inputs, targets,
            ))
            for seed in range(networks)
        ], axis=0))
        for n in widths
    ])  # fmt: skip


def main():
    options = parser(__doc__, mnist=True).parse_args()
    began = time.perf_counter()
    digits, clothes, quick = mnist(options.mnist), fashion(), options.quick
    plain = (50, 100, 200) if quick else tuple(np.linspace(50, 1000, 15).astype(int))
    wide = (50, 100, 200) if quick else tuple(np.linspace(50, 1500, 10).astype(int))
    runs = [("MNIST", digits, False)]
    if clothes is not None:
        runs += [("Fashion", clothes, smooth) for smooth in (False, True)]
    found = {}
    for name, data, smooth in runs:
        many = 10 if name == "MNIST" and not quick else 1
        widths = wide if smooth else plain
        fit = {"epochs": data.epochs_of(30 if smooth and not quick else 15), "batch": 1000}
        found[name, smooth] = widths, experiment(data, widths, many, smooth, (100, 10), **fit)
    widths = (100, 200, 400) if quick else tuple(range(100, 401, 50))
    fit = {"epochs": 1000, "batch": 404}
    found["Boston", False] = (
        widths,
        experiment(boston(), widths, 1 if quick else 5, False, (100, 1), **fit),
    )
    figures = {"MNIST": "Supp. Fig. 2", "Fashion": "Supp. Fig. 3", "Boston": "Supp. Fig. 4"}
    why = "small widths, one network of each" if quick else "other data, or other random starts"
    rows = []
    for (name, smooth), (widths, values) in found.items():
        how = "with smoothing" if smooth else "no smoothing"
        for k, what in enumerate(("D", "H")):
            rows.append(
                row(figures[name], f"{name}: slope of {what}, {how}", PAPER[smooth][k],
                    slope(widths, values[:, k]), RANGES[smooth][k], why)
            )  # fmt: skip
        rows.append(
            row(figures[name], f"{name}: slope of |W_2|_inf, {how}",
                "-", slope(widths, values[:, 2]), says="figure only in the paper")
        )  # fmt: skip
    if clothes is None:
        rows.append(row("Supp. Fig. 3", "Fashion", "-0.97 / -1.95", "-",
                        says="not run: needs Debian's package dataset-fashion-mnist"))  # fmt: skip
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.6))
    every = figure.subplots(2, 2).flat
    for axes, ((name, smooth), (widths, values)) in zip(every, found.items(), strict=False):
        for k, (what, mark) in enumerate((("D", "o-"), ("H", "s-"))):
            fall = slope(widths, values[:, k])
            axes.loglog(widths, values[:, k] / values[0, k], mark, label=f"{what}: {fall:.2f}")
        axes.set(xlabel="width", title=f"{name}{', smooth' if smooth else ''}")
        plain_ticks(axes)
        axes.legend()
    save_figure(figure, "derivatives", options)
    setting = (
        f"{digits.name}; N = {plain[0]} to {plain[-1]}, with smoothing to {wide[-1]}, Boston to "
        f"{widths[-1]}"
    )
    save("derivatives", rows, options, setting, began)


if __name__ == "__main__":
    main()
