"""The cost of theory: `ns.predict` beside a plain forward pass of the same inputs."""

import argparse
import time

from machine import interleaved, print_table, write_rows
from networks import problem

import neurosim as ns

SIGMOID, DEEP = "784-500-10 sigmoid", "784-500-500-10 sigmoid"


def repeated(function, seconds):
    """Function that fills a window, and how many calls that are."""
    function()
    start = time.perf_counter()
    function()
    calls = max(1, round(seconds / (time.perf_counter() - start)))

    def run():
        for _ in range(calls):
            function()

    return run, calls


def cases(quick):
    """(network, number of inputs, sites, method)."""
    both = ("neuron", "synapse")
    yield SIGMOID, 100, ("neuron",), "first-order"
    yield SIGMOID, 100, both, "first-order"
    yield SIGMOID, 100, ("neuron",), "single-fault"
    yield SIGMOID, 100, both, "single-fault"
    if not quick:
        yield SIGMOID, 1000, both, "first-order"
        yield DEEP, 100, both, "first-order"
        yield DEEP, 100, ("neuron",), "single-fault"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer cases, short windows")
    arguments = parser.parse_args()
    rows = []
    for name, n_inputs, sites, method in cases(arguments.quick):
        found = problem(name, n_inputs)
        campaign = ns.Campaign(
            deployment=ns.deploy(found.network, ns.Chip.load("ideal")),
            faults=[ns.StuckAtZero(site, probability=1e-3) for site in sites],
            inputs=found.inputs,
            trials=1,
            seed=1,
        )
        inputs = campaign.inputs
        runs = {
            "forward": repeated(lambda x=inputs, net=found.network: net(x), 0.2),
            "predict": repeated(lambda c=campaign, m=method: ns.predict(c, method=m), 0.2),
        }
        timings = interleaved(runs, 3 if arguments.quick else 5)
        forward, predict = timings["forward"], timings["predict"]
        rows.append({
            "network": name,
            "inputs": n_inputs,
            "sites": " and ".join(f"{site}s" for site in sites),
            "method": method,
            "predict_ms": f"{1e3 * predict.median:.4g}",
            "forward_ms": f"{1e3 * forward.median:.4g}",
            "ratio": f"{predict.median / forward.median:.3g}",
            "trusted": "yes" if predict.trusted and forward.trusted else "no",
        })  # fmt: skip
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    write_rows("prediction.csv", rows)


if __name__ == "__main__":
    main()
