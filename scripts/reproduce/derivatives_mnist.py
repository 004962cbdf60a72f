"""Derivatives fall with the width on MNIST, without smoothing (upper half of supplementary Fig. 2).

784-N-100-10, 15 epochs of 1000 images a batch; with smoothing: width.py.
"""

import time
from functools import partial

import numpy as np
from datasets import mnist
from derivatives import PAPER, RANGES, decays, draw, experiment, rows
from results import estimate, parser, save, trained

EPOCHS, BATCH, PART = 15, 1000, 3


def main():
    options = parser(__doc__, mnist=True, long=True).parse_args()
    began = time.perf_counter()
    data = mnist(options.mnist)
    if options.quick and not options.estimate:
        widths, networks = (100, 200, 400, 800), 1
    else:
        widths, networks = np.linspace(50, 1000, 15).astype(int), 10
    epochs = data.epochs_of(EPOCHS)
    if options.estimate:
        some = widths[[0, len(widths) // 2, -1]]
        many = networks * len(widths) / len(some)
        parts = []
        for n in some:
            training = partial(trained, data, (784, n, 100, 10), 0, epochs=PART, batch=BATCH)
            measuring = partial(decays, training(), data.inputs, np.eye(10)[data.targets])
            parts += [(many * epochs / PART, training), (many, measuring)]
        estimate("derivatives_mnist", parts, f"{PART} of {epochs} epochs, 3 widths", options)
        return
    values = experiment(data, widths, networks, False, (100, 10), epochs=epochs, batch=BATCH)
    result = rows("Supp. Fig. 2", "MNIST", widths, values, False, PAPER[False], RANGES[False])
    draw("derivatives_mnist", [("MNIST, no smoothing", widths, values)], options)
    setting = (
        f"{data.name}, N = {widths[0]} to {widths[-1]}, networks of each: {networks}, "
        f"{epochs} epochs, batches of {BATCH}"
    )
    save("derivatives_mnist", result, options, setting, began)


if __name__ == "__main__":
    main()
