"""Derivatives fall with the width on Boston Housing, without smoothing (supplementary Fig. 4).

13-N-100-1 on raw features, 1000 steps of Adam. The paper: "non-regularized networks already have
the desired characteristics", slopes of -1 and -2. The steps are few for raw prices of 5 to 50:
four times as many show what they do to the slopes.
"""

import time

from datasets import boston
from derivatives import LIMIT, RANGES, draw, estimate_runs, experiment, rows
from results import parser, save

EPOCHS, PART = 1000, 50


def main():
    options = parser(__doc__, long=True).parse_args()
    began = time.perf_counter()
    data = boston()
    quick = options.quick and not options.estimate
    widths, networks = ((100, 200, 400), 3) if quick else (range(100, 401, 50), 5)
    runs = {
        "Boston": EPOCHS,
        "Boston, 4 times the steps": 4 * EPOCHS,
    }
    if options.estimate:
        parts = [
            (data, widths, networks, 0, (100, 1), {"epochs": epochs, "batch": 404}, PART)
            for epochs in runs.values()
        ]
        what = f"{PART} of {EPOCHS} and of {4 * EPOCHS} epochs at 3 widths"
        estimate_runs("derivatives_boston", parts, what, options)
        return
    found = {
        name: experiment(data, widths, networks, 0, (100, 1), epochs=epochs, batch=404)
        for name, epochs in runs.items()
    }
    result = []
    for name, values in found.items():
        result += rows("Supp. Fig. 4", name, widths, values, False, LIMIT, RANGES[True])
    draw("derivatives_boston", [(name, widths, values) for name, values in found.items()], options)
    setting = f"N = {widths[0]} to {widths[-1]}, networks of each: {networks}, {EPOCHS} epochs"
    save("derivatives_boston", result, options, setting, began)


if __name__ == "__main__":
    main()
