"""What the scripts for supplementary Figs. 2 to 4 share: how derivatives fall with the width.

L is the mean squared error: D = mean |dL / dy_1|, H = mean |d2 L / dy_1 dy_1|, H averaged with sign
over 10 samples first, as the authors did. In networks with a continuous limit they fall as 1 / N
and 1 / N^2. P4 says so of the derivatives of the outputs, without the residual that is a factor of
D: these are measured beside them.
"""

import argparse

import numpy as np
from results import row, save_figure, slope, trained

from neurosim.theory import continuity

MANY, SAMPLES = 4000, 10
# Slopes of D and H of the paper, without and with smoothing; and within which ours are its own.
PAPER = {False: (-0.86, -1.36), True: (-0.97, -1.95)}
RANGES = {False: ((-1.05, -0.65), (-1.65, -1.1)), True: ((-1.1, -0.9), (-2.1, -1.85))}
# Of a continuous limit.
LIMIT = (-1.0, -2.0)


def decays(network, inputs, targets):
    """D over 4000 inputs, H over 10, the product of |W_l|_inf, |dy_L / dy_1| and the second."""
    import torch

    from neurosim import training

    ys, _ = training.to_module(network).layers_of(torch.tensor(inputs[:MANY]))
    loss = ((ys[-1] - torch.tensor(targets[:MANY])) ** 2).mean(dim=1).sum()
    (gradients,) = torch.autograd.grad(loss, ys[1])
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
    )


def experiment(data, widths, networks, smooth, after, **fit):
    """What `decays` gives: (networks, widths, 5)."""
    from neurosim import training

    terms = training.Regularisation(paper_derivative=1e-4, paper_gaussian=1e-2) if smooth else None
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


def slopes(widths, values):
    """Of the mean logarithm over networks."""
    return [slope(widths, column) for column in np.exp(np.log(values).mean(axis=0)).T]


def rows(figure, name, widths, values, smooth, paper, ranges):
    """The slopes beside the paper's; (networks, widths, 5) values."""
    how = "with smoothing" if smooth else "no smoothing"
    found = slopes(widths, values)
    each = np.array([slopes(widths, values[k : k + 1]) for k in range(len(values))])

    def why(k):
        if len(values) == 1:
            return f"N = {widths[0]} to {widths[-1]}, one network of each"
        return f"{each[:, k].min():.2f} to {each[:, k].max():.2f} over {len(values)} random starts"

    result = [
        row(figure, f"{name}: slope of {what}, {how}", paper[k], found[k], ranges[k], why(k))
        for k, what in enumerate(("D", "H"))
    ]
    result += [
        row(figure, f"{name}: P4, slope of {what}, {how}", LIMIT[k], found[3 + k],
            RANGES[True][k], why(3 + k))
        for k, what in enumerate(("|dy_L|", "|d2y_L|"))
    ]  # fmt: skip
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
