"""Derivatives fall with the width (A3, P4; supplementary Figs. 2 to 4): MNIST, Fashion, Boston.

D = mean |dL / dy_1| and H = mean |d2 L / dy_1 dy_1| of the mean squared error L, H averaged with
sign over 10 samples first, as the authors did. With smoothing they should fall as 1 / N and 1 / N^2
(P4).
"""

import time

import numpy as np
from datasets import boston, fashion, mnist
from results import parser, row, save, save_figure, slope, trained

from neurosim.theory import continuity

SAMPLES = 10


def decays(network, inputs, targets):
    """D, H and the norm of W_2 (largest row sum)."""
    hessian, gradients = 0.0, []
    for x, y in zip(inputs[:SAMPLES], targets[:SAMPLES], strict=True):
        first, second = continuity.derivatives(network, x[None], layer=1)
        residual = (network(x[None]) - y)[0]
        k = len(residual)
        gradients.append(2 / k * residual @ first[0])
        hessian = hessian + 2 / k * (
            first[0].T @ first[0] + np.tensordot(residual, second[0], axes=1)
        )
    norm = np.abs(network.layers[1].weight).sum(axis=1).max()
    return np.abs(gradients).mean(), np.abs(hessian / SAMPLES).mean() / SAMPLES, norm


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
    after = (100, 10)
    plain = (25, 50, 100) if quick else tuple(np.linspace(50, 1000, 15).astype(int))
    wide = (25, 50, 100) if quick else tuple(np.linspace(50, 1500, 10).astype(int))
    images = {"MNIST": digits} | ({} if clothes is None else {"Fashion": clothes})
    found, rows = {}, []
    for name, data in images.items():
        many = 10 if name == "MNIST" else 1
        for smooth in (False, True):
            short = 12 if name == "MNIST" else 1
            fit = (
                {"epochs": short, "batch": 200 if name == "MNIST" else 150}
                if quick
                else {"epochs": data.epochs_of(30 if smooth else 15), "batch": 1000}
            )
            widths = wide if smooth else plain
            found[name, smooth] = (
                widths,
                experiment(data, widths, 1 if quick else many, smooth, after, **fit),
            )
    cities = boston()
    widths = (100, 200, 400) if quick else tuple(range(100, 401, 50))
    found["Boston", False] = (
        widths,
        experiment(
            cities,
            widths,
            1 if quick else 5,
            False,
            (100, 1),
            epochs=300 if quick else 1000,
            batch=404,
        ),
    )
    paper = {False: (-0.86, -1.36), True: (-0.97, -1.95)}
    ranges = {False: ((-1.05, -0.65), (-1.65, -1.1)), True: ((-1.1, -0.9), (-2.1, -1.85))}
    figures = {"MNIST": "Supp. Fig. 2", "Fashion": "Supp. Fig. 3", "Boston": "Supp. Fig. 4"}
    why = "small widths and short training" if quick else "other data, or other random starts"
    for (name, smooth), (widths, values) in found.items():
        how = "with smoothing" if smooth else "no smoothing"
        for k, what in enumerate(("D", "H")):
            rows.append(
                row(figures[name], f"{name}: slope of {what}, {how}",
                    paper[smooth][k], slope(widths, values[:, k]), ranges[smooth][k], why)
            )  # fmt: skip
        rows.append(
            row(figures[name], f"{name}: slope of |W_2|_inf, {how}",
                "-", slope(widths, values[:, 2]), says="figure only in the paper")
        )  # fmt: skip
    if clothes is None:
        rows.append(row("Supp. Fig. 3", "Fashion", "-0.97 / -1.95", "-",
                        says="not run: needs Debian's package dataset-fashion-mnist"))  # fmt: skip
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(found), 3.2))
    for axes, ((name, smooth), (widths, values)) in zip(
        figure.subplots(1, len(found)), found.items(), strict=True
    ):
        axes.loglog(widths, values[:, 0] / values[0, 0], "o-", label="D")
        axes.loglog(widths, values[:, 1] / values[0, 1], "s-", label="H")
        axes.set(xlabel="width", title=f"{name}{', smooth' if smooth else ''}")
        axes.legend()
    save_figure(figure, "derivatives", options)
    save("derivatives", rows, options, f"{digits.name}; N = {plain[0]}..{plain[-1]}", began)


if __name__ == "__main__":
    main()
