"""Derivatives fall with the width on Fashion-MNIST, without and with smoothing (supp. Fig. 3).

784-N-100-10, Debian's 60 000 training images, the authors' psi, batches and number of steps. The
paper gives no slopes for it but those of MNIST, and "similar behavior". Quick: also with ten times
the psi, which tells what the slopes owe to the strength of the smoothing.
"""

import time

import numpy as np
from datasets import fashion
from derivatives import PAPER, RANGES, draw, estimate_runs, experiment, rows, slopes
from results import parser, row, save

BATCH, PART, STRONG = 1000, 1, 10


def main():
    options = parser(__doc__, long=True).parse_args()
    began = time.perf_counter()
    data = fashion()
    if data is None:
        missing = row("Supp. Fig. 3", "Fashion", "-0.97 / -1.95", "-",
                      says="not run: needs Debian's package dataset-fashion-mnist")  # fmt: skip
        save("derivatives_fashion", [missing], options, "no data", began)
        return
    few = (100, 200, 400) if options.quick and not options.estimate else None
    runs = [
        (0, 15, few or tuple(np.linspace(50, 1000, 15).astype(int))),
        (1, 30, few or tuple(np.linspace(50, 1500, 10).astype(int))),
    ]
    if few:
        runs.append((STRONG, 30, few))
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
        how = ("no smoothing", "with smoothing", f"{STRONG} times the psi")[min(smooth, 2)]
        found.append((f"Fashion, {how}", widths, values))
        if smooth <= 1:
            known = smooth == 1
            result += rows("Supp. Fig. 3", "Fashion", widths, values, known, PAPER[known],
                           RANGES[known], limit=known)  # fmt: skip
            continue
        names = {0: "slope of D", 1: "slope of H", 3: "P4, slope of |dy_L|",
                 4: "P4, slope of |d2y_L|"}  # fmt: skip
        for k, what in names.items():
            low, high = RANGES[True][k % 3]
            value = slopes(widths, values)[k]
            where = "as a limit has it" if low <= value <= high else "not that of a limit"
            result.append(row("Supp. Fig. 3", f"Fashion: {what}, {how}", "-", value,
                              says=f"not in the paper; {where}"))  # fmt: skip
    draw("derivatives_fashion", found, options)
    setting = "; ".join(f"{title}, N = {w[0]} to {w[-1]}" for title, w, _ in found)
    save("derivatives_fashion", result, options, setting, began)


if __name__ == "__main__":
    main()
