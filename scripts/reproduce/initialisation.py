"""Random weights gain nothing from width (AP6, and the NTK-like counter-example of the supplement).

1-n-1 networks with W ~ N(0, 1 / fan_in), b = 0, sigmoid(4), p = 0.5 at the hidden layer: the
standard deviation of the error over faults and starts does not fall with n. AP6: Var Delta over
weights and faults is p Var y at every width.
"""

import time

import numpy as np
from results import crash_campaign, parser, row, save, save_figure, slope

import neurosim as ns

P = 0.5


def moments(n, starts, x, rng):
    """Mean over starts of E Delta^2 (exact: the rest is linear), and of y^2."""
    squares, outputs = [], []
    for _ in range(starts):
        network = ns.Network.dense(
            weights=[rng.normal(size=(n, 1)), rng.normal(size=(1, n)) / np.sqrt(n)],
            biases=[np.zeros(n), [0.0]],
            activations=["sigmoid(4)", "identity"],
        )
        prediction = ns.predict(crash_campaign(network, x, [1], P, 1), "first-order")
        assert prediction.exact
        squares.append(prediction.mean**2 + prediction.variance)
        outputs.append(network(x) ** 2)
    return float(np.mean(squares)), float(np.mean(outputs))


def main():
    options = parser(__doc__).parse_args()
    began = time.perf_counter()
    starts = 100 if options.quick else 1000
    widths = (1, 10, 100, 1000) if options.quick else (1, 10, 100, 1000, 10_000)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10, 1))
    found = np.array([moments(n, starts, x, rng) for n in widths])
    deviation, ratio = np.sqrt(found[:, 0]), found[:, 0] / (P * found[:, 1])
    rows = [
        row("NTK-like start", "slope of the error's deviation on width", 0.0,
            slope(widths, deviation), (-0.06, 0.06), "few random starts"),
        row("AP6", "Var Delta / (p Var y), least over widths", 1.0, float(ratio.min()),
            (0.9, 1.1), "few random starts"),
        row("AP6", "Var Delta / (p Var y), most over widths", 1.0, float(ratio.max()),
            (0.9, 1.1), "few random starts"),
    ]  # fmt: skip
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.2))
    axes = figure.add_subplot()
    axes.loglog(widths, deviation, "o-", label="random weights")
    axes.loglog(widths, deviation[0] / np.sqrt(widths), "k:", label="a continuous limit")
    axes.set(xlabel="width", ylabel="deviation of the error")
    axes.legend()
    save_figure(figure, "initialisation", options)
    save("initialisation", rows, options, f"{starts} random starts", began)


if __name__ == "__main__":
    main()
