"""Derivatives fall with the width on MNIST, without smoothing (upper half of supplementary Fig. 2).

784-N-100-10, 15 epochs of 1000 images a batch; with smoothing: width.py.
"""

import time

import numpy as np
from datasets import mnist
from derivatives import PAPER, RANGES, draw, estimate_runs, experiment, rows
from results import parser, save

EPOCHS, BATCH, PART = 15, 1000, 3


def main():
    options = parser(__doc__, mnist=True, long=True).parse_args()
    began = time.perf_counter()
    data = mnist(options.mnist)
    if options.quick and not options.estimate:
        widths, networks = (100, 200, 400, 800), 1
    else:
        widths, networks = np.linspace(50, 1000, 15).astype(int), 10
    fit = {"epochs": data.epochs_of(EPOCHS), "batch": BATCH}
    if options.estimate:
        what = f"{PART} of {fit['epochs']} epochs at 3 widths"
        run = (data, widths, networks, 0, (100, 10), fit, PART)
        estimate_runs("derivatives_mnist", [run], what, options)
        return
    values = experiment(data, widths, networks, 0, (100, 10), **fit)
    result = rows("Supp. Fig. 2", "MNIST", widths, values, False, PAPER[False], RANGES[False],
                  limit=False)  # fmt: skip
    draw("derivatives_mnist", [("MNIST, no smoothing", widths, values)], options)
    setting = (
        f"{data.name}, N = {widths[0]} to {widths[-1]}, networks of each: {networks}, "
        f"{fit['epochs']} epochs, batches of {BATCH}"
    )
    save("derivatives_mnist", result, options, setting, began)


if __name__ == "__main__":
    main()
