"""The oracle: every fault set of a small network, written from the definitions in plain NumPy.

It shares no code with the package: its own forward pass, its own activations. Fault sets are rows
of a matrix of bits; a dead neuron outputs 0, a dead synapse has weight 0, and nothing else is done.

    law = enumerate_faults(PlainNetwork.of(network), x, [("neuron", 1, 0), ("synapse", 2, 0, 1)], p)
    law.mean, law.variance, law.covariance, law.tail(0.1)
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

# ("neuron", layer, unit) with layer 0..L, or ("synapse", layer, out, in) with layer 1..L.
Site = tuple

MOST_SITES = 20
_CHUNK = 2**12


def activate(name, z):
    """phi(z) for an activation spelled as in the package, e.g. "sigmoid(4)"."""
    kind, parameter = re.fullmatch(r"([a-z_]+)(?:\((.*)\))?", name).groups()
    if kind == "identity":
        return z
    if kind == "relu":
        return np.where(z > 0, z, 0.0)
    if kind == "leaky_relu":
        return np.where(z > 0, z, float(parameter or 0.01) * z)
    if kind == "sigmoid":
        return 0.5 * (1 + np.tanh(float(parameter or 1) * z / 2))
    if kind == "tanh":
        return np.tanh(z)
    if kind == "softplus":
        return np.logaddexp(0, z)
    if kind == "silu":
        return z / 2 * (1 + np.tanh(z / 2))
    if kind == "gelu_tanh":
        return z / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    if kind == "mish":
        return z * np.tanh(np.logaddexp(0, z))
    if kind == "elu":
        return np.where(z > 0, z, float(parameter or 1) * (np.exp(np.minimum(z, 0)) - 1))
    if kind == "hard_tanh":
        return np.clip(z, -float(parameter or 1), 1)
    raise ValueError(name)


@dataclass(frozen=True)
class PlainNetwork:
    """Weights (n_l, n_{l-1}), biases (n_l,) and activations by name; softmax read-out or none."""

    weights: tuple
    biases: tuple
    activations: tuple
    softmax: bool = False

    @staticmethod
    def of(network):
        """The plain arrays of a `neurosim.Network`."""
        return PlainNetwork(
            weights=tuple(np.array(layer.weight) for layer in network.layers),
            biases=tuple(np.array(layer.bias) for layer in network.layers),
            activations=tuple(str(layer.activation) for layer in network.layers),
            softmax=network.readout == "softmax",
        )

    @property
    def widths(self):
        return (self.weights[0].shape[1], *(len(w) for w in self.weights))

    def neurons(self, *layers):
        """All neuron sites of some layers."""
        return [("neuron", n, i) for n in layers for i in range(self.widths[n])]

    def synapses(self, *layers):
        """All synapse sites of some layers."""
        return [
            ("synapse", n, i, j)
            for n in layers
            for i in range(self.widths[n])
            for j in range(self.widths[n - 1])
        ]

    def forward(self, x, sites=(), dead=None, layer=None):
        """Outputs for one input x (n_0,) under many fault sets.

        `dead` is (n_sets, n_sites), 1 where the site of that column is dead. The result is
        (n_sets, n_outputs) after the read-out, or the output of layer `layer` if one is given.
        Values of `dead` between 0 and 1 scale the site by 1 - dead (for derivatives).
        """
        dead = np.zeros((1, len(sites))) if dead is None else np.asarray(dead, float)
        last = len(self.weights) if layer is None else layer
        keep = [np.ones((len(dead), n)) for n in self.widths]
        weights = [
            np.repeat(w[None], len(dead), 0) if any(s[:2] == ("synapse", n) for s in sites) else w
            for n, w in enumerate(self.weights, start=1)
        ]
        for column, site in enumerate(sites):
            if site[0] == "neuron":
                keep[site[1]][:, site[2]] *= 1 - dead[:, column]
            else:
                weights[site[1] - 1][:, site[2], site[3]] *= 1 - dead[:, column]
        y = np.asarray(x, float) * keep[0]
        for n in range(1, last + 1):
            w = weights[n - 1]
            z = np.einsum("sij,sj->si", w, y) if w.ndim == 3 else y @ w.T
            y = activate(self.activations[n - 1], z + self.biases[n - 1]) * keep[n]
        if layer is None and self.softmax:
            e = np.exp(y - y.max(axis=1, keepdims=True))
            y = e / e.sum(axis=1, keepdims=True)
        return y

    def with_effect(self, x, neurons=(), synapses=(), layer=None):
        """Outputs (n_outputs,) for one input where outputs and weights are set to values.

        Rows (layer, unit, value) and (layer, out, in, weight); after the read-out, or the output
        of layer `layer` if one is given.
        """
        values = {(n, i): v for n, i, v in neurons}
        weights = [np.array(w) for w in self.weights]
        for n, i, j, w in synapses:
            weights[n - 1][i, j] = w

        def forced(y, n):
            return np.array([values.get((n, i), y[i]) for i in range(len(y))])

        y = forced(np.asarray(x, float), 0)
        last = len(weights) if layer is None else layer
        for n in range(1, last + 1):
            z = weights[n - 1] @ y + self.biases[n - 1]
            y = forced(activate(self.activations[n - 1], z), n)
        if layer is None and self.softmax:
            e = np.exp(y - y.max())
            y = e / e.sum()
        return y


def loss_value(loss, outputs, target):
    """The loss of outputs (n, n_outputs) against one target (n_outputs,): shape (n,).

    Squared and absolute errors are means over outputs; cross-entropy is -sum_k target_k log y_k.
    """
    if loss == "squared_error":
        return ((outputs - target) ** 2).mean(axis=1)
    if loss == "absolute_error":
        return np.abs(outputs - target).mean(axis=1)
    if loss == "cross_entropy":
        return -(np.asarray(target) * np.log(outputs)).sum(axis=1)
    raise ValueError(loss)


@dataclass(frozen=True)
class ExactLaw:
    """An exact discrete law: values (n_sets, n_outputs), probabilities (n_sets,)."""

    values: np.ndarray
    probabilities: np.ndarray

    @property
    def mean(self):
        return self.probabilities @ self.values

    @property
    def variance(self):
        return self.probabilities @ (self.values - self.mean) ** 2

    @property
    def covariance(self):
        centred = self.values - self.mean
        return (centred * self.probabilities[:, None]).T @ centred

    def expectation(self, function):
        """E f(values), f from (n_sets, n_outputs) to (n_sets, ...)."""
        return np.tensordot(self.probabilities, function(self.values), 1)

    def tail(self, epsilon, side="both"):
        """P(|v| >= epsilon), P(v >= epsilon) ("upper") or P(v <= -epsilon) ("lower"), an output."""
        v = {"both": np.abs(self.values), "upper": self.values, "lower": -self.values}[side]
        return self.probabilities @ (v >= epsilon)

    def tail_any(self, epsilon):
        """P(max_k |v_k| >= epsilon)."""
        return float(self.probabilities @ (np.abs(self.values).max(axis=1) >= epsilon))

    def cdf(self, t, output=0):
        """P(v <= t) of one output, for t of shape (n,)."""
        order = np.argsort(self.values[:, output], kind="stable")
        total = np.concatenate([[0.0], np.cumsum(self.probabilities[order])])
        return total[np.searchsorted(self.values[order, output], t, side="right")]


def fault_sets(n_sites):
    """All 2^n rows of bits."""
    assert n_sites <= MOST_SITES, f"{n_sites} sites: too many to enumerate"
    return (np.arange(2**n_sites)[:, None] >> np.arange(n_sites)) & 1


def set_probabilities(n_sites, probability):
    """Probabilities of the rows of `fault_sets`; `probability` a number or one a site."""
    p = np.broadcast_to(np.asarray(probability, float), (n_sites,))
    result = np.ones(1)
    for one in p:
        result = np.concatenate([result * (1 - one), result * one])
    return result


def enumerate_errors(network, x, sites, loss=None, target=None, layer=None):
    """Errors (faulty - golden) of one input under all 2^n fault sets: (2^n, n_outputs)."""
    sets = fault_sets(len(sites))
    outputs = np.concatenate(
        [
            network.forward(x, sites, sets[first : first + _CHUNK], layer)
            for first in range(0, len(sets), _CHUNK)
        ]
    )
    if loss is None:
        return outputs - outputs[:1]
    losses = loss_value(loss, outputs, target)[:, None]
    return losses - losses[:1]


def enumerate_faults(
    network: PlainNetwork,
    x: Sequence[float],
    sites: Sequence[Site],
    probability,
    *,
    loss: str | None = None,
    target=None,
    layer: int | None = None,
) -> ExactLaw:
    """The exact law of the error of one input x over all 2^n fault sets of the given sites.

    `probability` is a number or one a site. The error is that of the outputs after the read-out,
    of the loss (one column) or of the outputs of a hidden layer.
    """
    return ExactLaw(
        enumerate_errors(network, x, sites, loss, target, layer),
        set_probabilities(len(sites), probability),
    )


def single_faults(network, x, sites, **options):
    """d_s of b4: the error with site s alone dead, (n_sites, n_outputs)."""
    errors = []
    for site in sites:
        errors.append(enumerate_errors(network, x, [site], **options)[1])
    return np.array(errors).reshape(len(sites), -1)


def effect_error(network, x, neurons=(), synapses=(), loss=None, target=None, layer=None):
    """The error of one input with outputs and weights set to values: (n_outputs,)."""
    values = [network.with_effect(x, *rows, layer=layer) for rows in ((), (neurons, synapses))]
    if loss is not None:
        values = [loss_value(loss, y[None], target) for y in values]
    return values[1] - values[0]


def enumerate_states(network, x, sites, **options):
    """The exact law of the error over all combinations of states of independent sites.

    A site is a list of exclusive (probability, neurons, synapses) with rows as in `with_effect`;
    what it lacks to 1 is the probability of no fault. None if two sites disagree about a value.
    """
    errors, probabilities = [], []
    choices = [[*site, (1 - sum(p for p, *_ in site), (), ())] for site in sites]
    for states in product(*choices):
        merged = ({}, {})
        for _, *kinds in states:
            for into, rows in zip(merged, kinds, strict=True):
                for *place, value in rows:
                    if into.setdefault(tuple(place), value) != value:
                        return None
        rows = [[(*place, value) for place, value in into.items()] for into in merged]
        errors.append(effect_error(network, x, *rows, **options))
        probabilities.append(math.prod(p for p, *_ in states))
    return ExactLaw(np.array(errors), np.array(probabilities))


def enumerate_trials(network, inputs, sites, probability, persistence):
    """Exact moments of a whole trial that presents every input once.

    `persistence` holds one of "permanent", "transient" or a mean burst length m (a number) a site.
    Returns (mean_of_mean, variance_of_mean, expected_variance), each (n_outputs,): E and Var over
    trials of the mean error over inputs, E over trials of the population variance over inputs.
    Every history of every site is enumerated: (2^n_inputs)^n_sites, so keep both tiny.
    """
    inputs = np.asarray(inputs, float)
    n_inputs, n_sites = len(inputs), len(sites)
    assert n_inputs * n_sites <= 16
    p = np.broadcast_to(np.asarray(probability, float), (n_sites,))
    errors = np.array([enumerate_errors(network, x, sites) for x in inputs])
    histories = fault_sets(n_inputs)
    states, weight = np.zeros((1, n_inputs), int), np.ones(1)
    for s, how in enumerate(persistence):
        chance = np.array([_history_probability(h, p[s], how) for h in histories])
        states = (states[:, None] + (histories << s)[None]).reshape(-1, n_inputs)
        weight = (weight[:, None] * chance[None]).reshape(-1)
    seen = np.stack([errors[t][states[:, t]] for t in range(n_inputs)], axis=1)
    mean = seen.mean(axis=1)
    e_mean = weight @ mean
    return e_mean, weight @ (mean - e_mean) ** 2, weight @ seen.var(axis=1)


def _history_probability(history, p, how):
    if how == "permanent":
        return {0: 1 - p, len(history): p}.get(int(history.sum()), 0.0)
    if how == "transient":
        return math.prod(p if bit else 1 - p for bit in history)
    repair, onset = 1 / how, p / (how * (1 - p))
    chance = p if history[0] else 1 - p
    for before, now in pairwise(history):
        up = 1 - repair if before else onset
        chance *= up if now else 1 - up
    return chance
