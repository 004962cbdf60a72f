"""The mean error of the loss falls along training (P6, AP9; supplementary Fig. 12).

Boston 13-20-19-1, mean absolute error, Adadelta: E_x sign(y - y*) E Delta by b3, b4 and simulation.
"""

import time

import numpy as np
from datasets import boston
from results import crash_campaign, parser, row, save, save_figure, simulate, trained

import neurosim as ns

P = 0.01


def main():
    options = parser(__doc__).parse_args()
    began = time.perf_counter()
    data, trials = boston(), 2000 if options.quick else 50_000
    epochs = [1, 50, 100, 150, 200, 250, 300]
    curves = {"simulation": [], "b3": [], "b4": [], "MAE": []}
    for count in epochs:  # the same start and order of examples: the same training, cut short
        network = trained(
            data, (13, 20, 19, 1), 0, epochs=count, batch=404, optimiser="adadelta",
            loss="absolute_error",
        )  # fmt: skip
        sign = np.sign(network(data.inputs) - data.targets)
        campaign = crash_campaign(network, data.inputs, [1], P, trials)
        means = {
            "simulation": simulate(campaign).errors.mean,
            "b3": ns.predict(campaign, "first-order").mean,
            "b4": ns.predict(campaign, "single-fault").mean,
        }
        for name, mean in means.items():
            curves[name].append(float((sign * mean).mean()))
        curves["MAE"].append(float(np.abs(network(data.inputs) - data.targets).mean()))
    b3, mae = np.abs(curves["b3"]), curves["MAE"]
    why = "another random start"
    rows = [
        row("Supp. Fig. 12", "MAE after the first epoch", 21.8, mae[0], (19.0, 23.5), why),
        row("Supp. Fig. 12", "MAE after 300 epochs", 7.0, mae[-1], (5.5, 8.5), why),
        row("Supp. Fig. 12", "mean error of the loss, first epoch (T1)", 1.0e-2, b3[0],
            (3e-3, 3e-2), why),
        row("Supp. Fig. 12", "mean error of the loss, 300 epochs (T1)", 2.1e-3, b3[-1],
            (5e-4, 6e-3), why),
        row("Supp. Fig. 12", "the mean error falls while training", "yes",
            "yes" if b3[-1] < b3[0] else "no",
            says="reproduced" if b3[-1] < b3[0] else f"differs: {why}"),
    ]  # fmt: skip
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4))
    axes = figure.add_subplot()
    for name in ("simulation", "b3", "b4"):
        axes.plot(epochs, curves[name], "o-", label=name)
    axes.axhline(0, color="grey", lw=0.5)
    axes.set(xlabel="epochs", ylabel="mean over data of sign(y - y*) E error")
    axes.legend()
    save_figure(figure, "error-on-training", options)
    save("error_on_training", rows, options, f"{trials} trials", began)


if __name__ == "__main__":
    main()
