"""The least time a trial can take on this machine by propagating differences, and by plain passes.

Differences cost what cannot be avoided: the products of what failed, the activations and products
of pairs of trial and input that changed, and writing the errors. Run alone, prints both for a
network.
"""

import argparse
from itertools import pairwise

import numpy as np
from machine import Limits, measure_limits, print_table
from networks import NETWORKS, Problem, problem


def least_seconds(
    found: Problem, site: str, probability: float, limits: Limits, tabulated: bool = False
) -> float:
    """Seconds a trial, from below, for one that propagates differences.

    Parameters
    ----------
    found : Problem
    site : "neuron" or "synapse"
    probability : float
    limits : Limits
    tabulated : bool
        Whether the effects of single dead inputs are looked up: then only pairs with at least two
        of them cost more.
    """
    widths = found.network.widths
    gemm, a, write = max(limits.sgemm.values()), _activation(found, limits), limits.write
    n_out, depth = widths[-1], len(widths) - 1
    outputs = [found.inputs.astype(np.float64)]
    for layer in found.network.layers:
        outputs.append(layer.activation(outputs[-1] @ layer.weight.T + layer.bias))
    effective = [(y != 0).sum(axis=1) for y in outputs]
    if site == "synapse":
        seconds = 0.0
        for n, m in pairwise(widths):
            seconds += probability * n * m * 2 / limits.axpy
        if depth > 2:
            raise ValueError("the limit of synapses is known for one hidden layer only")
        live = float((found.inputs != 0).any(axis=0).sum())
        hit = widths[1] * (1 - (1 - probability) ** live)
        seconds += hit * (a + 2 * n_out / gemm)
        return len(found.inputs) * (seconds + 4 * n_out / write)
    changed = 1 - (1 - probability) ** effective[0]
    seconds = probability * effective[0].mean() * 2 * widths[1] / gemm
    if tabulated:
        one = effective[0] * probability * (1 - probability) ** np.maximum(effective[0] - 1, 0)
        changed = changed - one
    for number in range(1, depth):
        if number > 1:
            changed = 1 - (1 - changed) * (1 - probability) ** effective[number - 1]
        products = 2 * widths[number] * widths[number + 1] / gemm
        seconds += changed.mean() * (widths[number] * a + products)
    return len(found.inputs) * (seconds + 4 * n_out / write)


def plain_seconds(found: Problem, limits: Limits) -> float:
    """Seconds a trial, from below, for a masked forward pass."""
    widths, gemm = found.network.widths, max(limits.sgemm.values())
    products = sum(2 * n * m for n, m in pairwise(widths)) / gemm
    activations = sum(widths[1:-1]) * _activation(found, limits)
    return len(found.inputs) * (products + activations + 4 * widths[-1] / limits.write)


def _activation(found: Problem, limits: Limits) -> float:
    if found.hidden == "tanh":  # tanh(z) = 2 sigmoid(2 z) - 1
        return min(limits.activation["tanh"], limits.activation["sigmoid"])
    return limits.activation[found.hidden]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, default=next(iter(NETWORKS)))
    parser.add_argument("--inputs", type=int, default=100)
    arguments = parser.parse_args()
    found, limits = problem(arguments.network, arguments.inputs), measure_limits()
    rows = []
    for p in (1e-4, 1e-3, 1e-2, 5e-2):
        row = [f"{p:g}", f"{1e6 * least_seconds(found, 'neuron', p, limits):.2f}"]
        row.append(f"{1e6 * least_seconds(found, 'neuron', p, limits, tabulated=True):.2f}")
        if len(found.network.widths) == 3:
            row.append(f"{1e6 * least_seconds(found, 'synapse', p, limits):.2f}")
        else:
            row.append("-")
        rows.append([*row, f"{1e6 * plain_seconds(found, limits):.1f}"])
    print("us a trial, from below")
    print_table(("p", "neurons", "singles tabulated", "synapses", "plain pass"), rows)


if __name__ == "__main__":
    main()
