"""Other activations beside sigmoid(4), on the same weights and fault sets; some beside torch.

Every row is checked against float64 before it is timed, as in peers.py.
"""

import argparse
import copy
import time
from dataclasses import replace

from contenders import Faults, Neurosim, TorchBatched, check
from machine import interleaved, print_table, write_rows
from networks import Problem, problem
from peers import timed

import neurosim as ns

BASE = "sigmoid(4)"
OTHERS = (  # peers.py has relu and tanh
    "leaky_relu(0.01)", "relu6", "hard_tanh", "hard_swish", "elu", "softplus",
    "soft_leaky_relu(0.01)", "soft_clip(6)", "silu", "gelu", "gelu_tanh", "mish",
)  # fmt: skip
CASES = [("neuron", p) for p in (1e-4, 1e-3, 1e-2, 5e-2)]
CASES += [("synapse", p) for p in (1e-3, 1e-2, 5e-2)]
# Those that cost most, where nearly everything changes: over batched torch.
COSTLY, DENSE = ("softplus", "soft_clip(6)", "gelu", "mish"), (5e-2, 0.5)


def with_activation(found, faults, activation):
    """The problem and its fault sets with another activation of the hidden layer."""
    layers = found.network.layers
    network = ns.Network.dense(
        weights=[layer.weight for layer in layers],
        biases=[layer.bias for layer in layers],
        activations=[activation, "identity"],
    )
    other = Problem(name=found.name, network=network, inputs=found.inputs, accuracy=0.1)
    changed = copy.copy(faults)
    deployment = ns.deploy(network, ns.Chip.load("ideal"))
    changed.campaign = replace(faults.campaign, deployment=deployment)
    return other, changed


def measure(found, site, p, names, kinds, rounds, seconds):
    """Rows of one case: contenders (activation, kind) take turns."""
    faults, runs, differences = Faults(found, site, p), {}, {}
    for name in names:
        other = with_activation(found, faults, name)
        for entry in check(kinds, *other):
            key = name, entry.contender.name
            if not entry.passed:
                print(f"{' '.join(key)}: off by {entry.difference:.1e}, not timed")
                continue
            runs[key], differences[key] = timed(entry.contender, seconds), entry.difference
    for (name, contender), timing in interleaved(runs, rounds).items():
        yield {
            "beside": BASE if len(kinds) == 1 else TorchBatched.name,
            "activation": name,
            "site": site,
            "probability": p,
            "contender": contender,
            "us_per_trial": f"{1e6 * timing.median:.4g}",
            "spread": f"{timing.spread:.2f}",
            "trusted": "yes" if timing.trusted else "no",
            "largest_difference": f"{differences[name, contender]:.2g}",
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two cases")
    parser.add_argument(
        "--only",
        default="",
        help='words of a case, as "neuron p=0.01": the results of all other cases stay',
    )
    arguments = parser.parse_args()
    cases = [(site, p, (BASE, *OTHERS), (Neurosim,)) for site, p in CASES]
    cases += [("neuron", p, COSTLY, (Neurosim, TorchBatched)) for p in DENSE]
    wanted = set(arguments.only.split())
    cases = [case for case in cases if wanted <= {case[0], f"p={case[1]:g}"}]
    if not cases:
        parser.error(f"--only: expected words of a case, got {arguments.only!r}")
    if arguments.quick:
        cases = cases[2::4]
    found, rows = problem("784-500-10 sigmoid", 100), []
    key = ("beside", "activation", "site", "probability", "contender")
    for site, p, names, kinds in cases:
        start = time.perf_counter()
        rows += measure(found, site, p, names, kinds, 3, 0.1)
        write_rows("activations.csv", rows, keep=key if arguments.only else ())
        print(f"{site} p={p:g}: {time.perf_counter() - start:.0f} s", flush=True)
    print_table(list(rows[0]), [list(r.values()) for r in rows])


if __name__ == "__main__":
    main()
