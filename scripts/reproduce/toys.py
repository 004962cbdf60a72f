"""The two toy networks of section 4 and the quadratic counter-example, (x_1 - a)^2.

y = sum x_i / n at x = 1: E = -p, Var = p(1-p)/n. y = x_1: Var = p(1-p). (x_1 - a)^2 at x_1 = a, as
the squared error of the network y = x_1: T1 (AP9) says 0, one dead neuron costs a^2.
"""

import time

import numpy as np
from results import crash_campaign, parser, row, save, save_figure, simulate

import neurosim as ns

P = 0.01


def linear(weights):
    return ns.Network.dense(weights=[[weights]], biases=[[0.0]], activations=["identity"])


def main():
    options = parser(__doc__).parse_args()
    began = time.perf_counter()
    trials = 100_000 if options.quick else 1_000_000
    widths = (4, 16, 64, 256)
    variances = {"mean of all": [], "first alone": []}
    for n in widths:
        for name, weights in (("mean of all", np.full(n, 1 / n)), ("first alone", np.eye(n)[0])):
            errors = simulate(
                crash_campaign(linear(weights), np.ones((1, n)), [0], P, trials)
            ).errors
            variances[name].append(float(errors.variance[0, 0]))
            if n == 64 and name == "mean of all":
                mean = float(errors.mean[0, 0])
    a = 2.0
    quadratic = crash_campaign(
        linear([1.0]), [[a]], [0], P, trials, targets=[[a]], loss="squared_error"
    )
    loss = {
        m: ns.predict(quadratic, m, loss="squared_error") for m in ("first-order", "single-fault")
    }
    simulated = float(simulate(quadratic).loss.mean[0])
    exact = P * (1 - P)
    noise = "noise of the simulation"
    rows = [
        row("Toys", "y = sum x_i / n, n = 64: E", -P, mean, (-1.05 * P, -0.95 * P), noise),
        row("Toys", "y = sum x_i / n, n = 64: n Var", P, 64 * variances["mean of all"][2],
            (0.95 * exact, 1.05 * exact), noise),
        row("Toys", "y = x_1, n = 64: Var", P, variances["first alone"][2],
            (0.95 * exact, 1.05 * exact), noise),
        row("Toys", "y = sum x_i / n: slope of Var on n", -1.0,
            float(np.polyfit(np.log(widths), np.log(variances["mean of all"]), 1)[0]),
            (-1.05, -0.95), noise),
        row("Quadratic", "(x_1 - a)^2 at x_1 = a: E by T1", 0.0,
            float(loss["first-order"].mean_paper[0, 0]), (0.0, 0.0), "T1 must be 0 here"),
        row("Quadratic", f"(x_1 - a)^2 at x_1 = a = {a:g}: E by b4", P * a**2,
            float(loss["single-fault"].mean[0, 0]), (P * a**2 * (1 - 1e-9), P * a**2 * (1 + 1e-9)),
            "b4 must be p a^2 here"),
        row("Quadratic", f"(x_1 - a)^2 at x_1 = a = {a:g}: E simulated", P * a**2, simulated,
            (0.95 * P * a**2, 1.05 * P * a**2), noise),
    ]  # fmt: skip
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2))
    axes = figure.add_subplot()
    for name, values in variances.items():
        axes.loglog(widths, values, "o-", label=f"y = {name}")
    axes.loglog(widths, exact / np.array(widths), "k:", label="p (1 - p) / n")
    axes.set(xlabel="n", ylabel="variance of the error")
    axes.legend()
    save_figure(figure, "toys", options)
    save("toys", rows, options, f"{trials} trials", began)


if __name__ == "__main__":
    main()
