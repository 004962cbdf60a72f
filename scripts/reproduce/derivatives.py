"""What the scripts for supplementary Figs. 2 to 4 share: how derivatives fall with the width.

L is the mean squared error: D = mean |dL / dy_1|, H = mean |d2 L / dy_1 dy_1|, H averaged with sign
over 10 samples first, as the authors did. In networks with a continuous limit they fall as 1 / N
and 1 / N^2. P4 says so of the derivatives of the outputs, without the residual that is a factor of
D: these are measured beside them.
"""

import argparse
from functools import partial

import numpy as np
from results import estimate, row, save_figure, slope, trained

from neurosim.theory import continuity

MANY, SAMPLES = 4000, 10
# Slopes of D and H of the paper, without and with smoothing; and within which ours are its own.
PAPER = {False: (-0.86, -1.36), True: (-0.97, -1.95)}
RANGES = {False: ((-1.05, -0.65), (-1.65, -1.1)), True: ((-1.1, -0.9), (-2.1, -1.85))}
# Of a continuous limit.
LIMIT = (-1.0, -2.0)


def decays(network, inputs, targets):
    """D, H, product of |W_l|_inf, |dy_L / dy_1|, |d2 y_L / dy_1 dy_1|, and |y_L - y*|.

    D and the last over 4000 inputs, derivatives over 10.
    """
    import torch

    from neurosim import training

    ys, _ = training.to_module(network).layers_of(torch.tensor(inputs[:MANY]))
    residuals = ys[-1] - torch.tensor(targets[:MANY])
    (gradients,) = torch.autograd.grad((residuals**2).mean(dim=1).sum(), ys[1])
    hessian, firsts, seconds = 0.0, [], []
    for x, y in zip(inputs[:SAMPLES], targets[:SAMPLES], strict=True):
        first, second = continuity.derivatives(network, x[None], layer=1)
        residual = (network(x[None]) - y)[0]
        k = len(residual)
        hessian = hessian + 2 / k * (
            first[0].T @ first[0] + np.tensordot(residual, second[0], axes=1)
        )
        firsts.append(np.abs(first).mean())
        seconds.append(np.abs(second).mean())
    return (
        float(gradients.abs().mean()),
        np.abs(hessian / SAMPLES).mean() / SAMPLES,
        np.prod([np.abs(layer.weight).sum(axis=1).max() for layer in network.layers]),
        np.mean(firsts),
        np.mean(seconds),
        float(residuals.detach().abs().mean()),
    )


def smoothing(strength):
    """R3 with the authors' psi, or a multiple of it."""
    from neurosim import training

    return training.Regularisation(paper_derivative=1e-4 * strength, paper_gaussian=1e-2 * strength)


def experiment(data, widths, networks, smooth, after, **fit):
    """What `decays` gives: (networks, widths, 6); smooth is a multiple of the authors' psi."""
    terms = smoothing(smooth)
    n_in = data.inputs.shape[1]
    targets = data.targets if data.targets.ndim == 2 else np.eye(10)[data.targets]
    found = []
    for n in widths:
        found.append([
            decays(
                trained(data, (n_in, n, *after), seed, regularisation=terms, **fit),
                data.inputs, targets,
            )
            for seed in range(networks)
        ])  # fmt: skip
        print(f"N = {n}: {np.exp(np.log(found[-1]).mean(axis=0))}", flush=True)
    return np.array(found).transpose(1, 0, 2)


def estimate_runs(name, runs, measured, options):
    """The full size of several experiments: (data, widths, networks, smooth, after, fit, part).

    Every training is cut to `part` epochs, at three widths.
    """
    parts = []
    for data, widths, networks, smooth, after, fit, part in runs:
        targets = data.targets if data.targets.ndim == 2 else np.eye(10)[data.targets]
        some = np.array(widths)[[0, len(widths) // 2, -1]]
        many = networks * len(widths) / len(some)
        for n in some:
            call = partial(
                trained, data, (data.inputs.shape[1], n, *after), 0,
                regularisation=smoothing(smooth), **fit | {"epochs": part},
            )  # fmt: skip
            parts += [
                (many * fit["epochs"] / part, call),
                (many, partial(decays, call(), data.inputs, targets)),
            ]
    estimate(name, parts, measured, options)


def slopes(widths, values):
    """Of the mean logarithm over networks."""
    return [slope(widths, column) for column in np.exp(np.log(values).mean(axis=0)).T]


def rows(figure, name, widths, values, smooth, paper, ranges, limit=True):
    """The slopes beside the paper's; (networks, widths, 6) values.

    limit: whether the paper says that these networks have a continuous limit; if not, that the
    derivatives fall more slowly.
    """
    how = "with smoothing" if smooth else "no smoothing"
    found = slopes(widths, values)
    each = np.array([slopes(widths, values[k : k + 1]) for k in range(len(values))])

    def why(k):
        if len(values) == 1:
            return "one network of each width"
        return f"{each[:, k].min():.2f} to {each[:, k].max():.2f} over {len(values)} random starts"

    residual = f"; its factor, the residual, falls with slope {found[5]:.2f}"
    result = [
        row(figure, f"{name}: slope of {what}, {how}", paper[k], found[k], ranges[k],
            why(k) + residual)
        for k, what in enumerate(("D", "H"))
    ]  # fmt: skip
    for k, what in enumerate(("|dy_L|", "|d2y_L|"), start=3):
        value, (low, high) = found[k], RANGES[True][k - 3]
        quantity = f"{name}: P4, slope of {what}, {how}"
        if limit:
            result.append(row(figure, quantity, LIMIT[k - 3], value, (low, high), why(k)))
        else:
            says = "reproduced" if value > high else f"differs: {why(k)}"
            result.append(row(figure, quantity, f"above {LIMIT[k - 3]:g}", value, says=says))
    # The paper: rises without smoothing, levels off with it.
    levels = found[2] < 0.2
    result.append(
        row(figure, f"{name}: slope of the product of |W_l|_inf, {how}",
            "levels off" if smooth else "rises", found[2],
            says="reproduced" if levels == smooth else f"differs: {why(2)}")
    )  # fmt: skip
    return result


def draw_decays(axes, widths, values):
    """D and H over the width, each network and their mean, beside the slopes of a limit."""
    mean = np.exp(np.log(values).mean(axis=0))
    for k, (what, mark) in enumerate((("D", "C0o"), ("H", "C1s"))):
        if len(values) > 1:
            axes.loglog(widths, values[:, :, k].T / mean[0, k], mark, ms=3, alpha=0.4)
        axes.loglog(widths, mean[:, k] / mean[0, k], f"{mark}-",
                    label=f"{what}: {slope(widths, mean[:, k]):.2f}")  # fmt: skip
        axes.loglog(widths, (widths[0] / np.array(widths)) ** (k + 1), ("k:", "k--")[k],
                    label=f"slope {LIMIT[k]:.0f}")  # fmt: skip
    axes.set(xlabel="width of hidden layer 1", ylabel="relative to the least width")
    axes.legend()


def draw(name, found, options):
    """One panel for each of (title, widths, values)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(found), 3.8))
    for axes, (title, widths, values) in zip(
        figure.subplots(1, len(found), squeeze=False).flat, found, strict=True
    ):
        draw_decays(axes, widths, values)
        axes.set(title=title)
    save_figure(figure, name, options)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
