"""Derivatives fall with the width on Fashion-MNIST, without and with smoothing (supp. Fig. 3).

784-N-100-10, Debian's 60 000 training images, the authors' psi, batches and number of steps. The
paper gives no slopes for it but those of MNIST, and "similar behavior".
"""

import time

import numpy as np
from datasets import fashion
from derivatives import PAPER, RANGES, draw, estimate_runs, experiment, rows
from results import parser, row, save

BATCH, PART = 1000, 1


def main():
    options = parser(__doc__, long=True).parse_args()
    began = time.perf_counter()
    data = fashion()
    if data is None:
        missing = row("Supp. Fig. 3", "Fashion", "-0.97 / -1.95", "-",
                      says="not run: needs Debian's package dataset-fashion-mnist")  # fmt: skip
        save("derivatives_fashion", [missing], options, "no data", began)
        return
    # Quick: the widths of width.py, where smoothing has the upper hand.
    few = (100, 200, 400, 800) if options.quick and not options.estimate else None
    runs = (
        (False, 15, few or tuple(np.linspace(50, 1000, 15).astype(int))),
        (True, 30, few or tuple(np.linspace(50, 1500, 10).astype(int))),
    )
    if options.estimate:
        parts = [
            (data, widths, 1, smooth, (100, 10), {"epochs": epochs, "batch": BATCH}, PART)
            for smooth, epochs, widths in runs
        ]
        what = f"{PART} of 15 and of 30 epochs at 3 widths"
        estimate_runs("derivatives_fashion", parts, what, options)
        return
    result, found = [], []
    for smooth, epochs, widths in runs:
        values = experiment(data, widths, 1, smooth, (100, 10), epochs=epochs, batch=BATCH)
        found.append((f"Fashion, {'with' if smooth else 'no'} smoothing", widths, values))
        result += rows("Supp. Fig. 3", "Fashion", widths, values, smooth, PAPER[smooth],
                       RANGES[smooth], limit=smooth)  # fmt: skip
    draw("derivatives_fashion", found, options)
    setting = "; ".join(f"{title}, N = {w[0]} to {w[-1]}" for title, w, _ in found)
    save("derivatives_fashion", result, options, setting, began)


if __name__ == "__main__":
    main()
