"""The continuous limit (Fig. 1, P4, AP4): a function cut into n pieces, and networks cut from one.

f(t) = 1 / (1 + (sin 5t - 0.5)^2) at n = 10, 20, 30; and the derivatives of networks cut from one
continuous network fall as 1 / n and 1 / n^2, T1's variance as 1 / n.
"""

import time

import numpy as np
from results import parser, row, save, save_figure, slope

from neurosim.theory import continuity

SIZES = (10, 20, 30)


def function(t):
    return 1 / (1 + (np.sin(5 * t) - 0.5) ** 2)


def main():
    options = parser(__doc__).parse_args()
    began = time.perf_counter()
    fine = (np.arange(100_000) + 0.5) / 100_000
    integral = function(fine).mean()
    errors = [abs(continuity.sample(function, n).mean() - integral) for n in SIZES]
    widths = (25, 50, 100, 200) if options.quick else (50, 100, 200, 400, 800)
    found = []
    for n in widths:
        network = continuity.discretise(
            [
                lambda t, s: np.cos(3 * t + s),
                lambda t, s: np.sin(2 * t - 3 * s),
                lambda t, s: t + s,
            ],
            [np.sin, np.cos, lambda t: 0 * t],
            (n, n, n, 1),
            ["sigmoid(4)", "sigmoid(4)", "identity"],
        )
        x = continuity.sample(function, n)[None]
        first, second = continuity.derivatives(network, x, layer=1)
        y = network.activations(x)[1]
        found.append((np.abs(first).mean(), np.abs(second).mean(), ((first[:, 0] * y) ** 2).sum()))
    values = np.array(found)
    slopes = [slope(widths, values[:, k]) for k in range(3)]
    rows = [
        row("Fig. 1", "Riemann sum: error at n = 30 over that at n = 10", 1 / 3,
            errors[2] / errors[0], (0.2, 0.45), "the error is not yet O(1 / n)"),
        row("P4", "continuous network: slope of first derivatives", -1.0, slopes[0],
            (-1.1, -0.9), "widths too small"),
        row("P4", "continuous network: slope of second derivatives", -2.0, slopes[1],
            (-2.1, -1.85), "widths too small"),
        row("T1", "continuous network: slope of Var", -1.0, slopes[2], (-1.1, -0.9),
            "widths too small"),
    ]  # fmt: skip
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2)
    for n in SIZES:
        left.step(np.arange(1, n + 1) / n, continuity.sample(function, n), where="pre",
                  label=f"n = {n}")  # fmt: skip
    left.plot(fine, function(fine), "k", lw=1, label="continuous")
    left.set(xlabel="t", ylabel="f(t)")
    left.legend()
    for k, name in enumerate(("first derivatives", "second derivatives", "Var / p by T1")):
        right.loglog(widths, values[:, k] / values[0, k], "o-", label=f"{name}: {slopes[k]:.2f}")
    right.set(xlabel="n", ylabel="relative to the least n")
    right.legend()
    save_figure(figure, "continuous", options)
    save("continuous", rows, options, f"n = {widths[0]} to {widths[-1]}", began)


if __name__ == "__main__":
    main()
