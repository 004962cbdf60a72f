"""First-order moments of all outputs of a graph at once: tangents in random directions.

A backward pass finds the effects of all sites on one output, a tangent those of one direction of
faults on all outputs: with independent random signs r_s, z = sum_s (p_s (1 - p_s))^(1/2) r_s e_s
has E z^2 = Var of T1, for every output, whatever their number.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neurosim.graph import push_forward
from neurosim.layers import Array, Conv2D, Weighted
from neurosim.theory.graph_effects import GraphEffects, pass_of_powers

__all__ = ["ProbedMoments", "probed_moments"]

# Values that the tangents of a batch of probes may hold in all layers: 256 MB.
_VALUES = 2**25


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbedMoments:
    """First-order moments of which the variances are estimated.

    Parameters
    ----------
    mean : ndarray, shape (n_inputs, n_outputs)
        Exact.
    variance, variance_error : ndarray, shape (n_inputs, n_outputs)
        Unbiased estimates; the error of the variance by the spread of its probes.
    mean_error : None
    """

    mean: Array
    variance: Array
    variance_error: Array
    mean_error: None = None


def probed_moments(effects: GraphEffects, probes: int, seed: int) -> ProbedMoments:
    """Means by one tangent an input, variances by random ones.

    Parameters
    ----------
    effects : GraphEffects
    probes : int
        Random directions an input, at least 2.
    seed : int
    """
    setting = effects.setting
    rng = np.random.default_rng(seed)
    shape = (setting.n_inputs, setting.n_outputs)
    mean, variance, error = np.zeros((3, *shape))
    for x in range(setting.n_inputs):
        z, y = effects.golden(x)
        gradient = setting.head.gradient(y[-1].reshape(1, -1), setting.targets_of(slice(x, x + 1)))

        def at_outputs(tangent: Array, gradient: Array = gradient) -> Array:
            return tangent.reshape(len(tangent), -1) @ gradient[:, 0].T

        mean[x] = at_outputs(_tangent(effects, z, y, *_expected(effects, y)))[0]
        step = max(1, _VALUES // (2 * sum(values.size for values in y)))
        squares = np.concatenate([
            at_outputs(_tangent(effects, z, y, *_random(effects, y, n, rng))) ** 2
            for n in (min(step, probes - start) for start in range(0, probes, step))
        ])  # fmt: skip
        variance[x] = squares.mean(axis=0)
        error[x] = squares.std(axis=0, ddof=1) / np.sqrt(probes)
    return ProbedMoments(mean=mean, variance=variance, variance_error=error)


def _expected(effects: GraphEffects, y: list[Array]) -> tuple[dict[int, Array], dict[int, Array]]:
    """Expected changes of what nodes send and of their pre-activations, (1, 1, *shape)."""
    graph = effects.graph
    sent: dict[int, Array] = {}
    before: dict[int, Array] = {}
    for (kind, layer), p in effects.setting.probabilities.items():
        number = graph.weighted[layer]
        if kind == "neuron":
            sent[number] = -p * y[number][None]
        else:
            node = graph.nodes[number - 1]
            source = y[node.sources[0]]
            before[number] = -p * push_forward(node.layer, [source], [source])[None]
    return sent, before


def _random(
    effects: GraphEffects, y: list[Array], n: int, rng: np.random.Generator
) -> tuple[dict[int, Array], dict[int, Array]]:
    """Random changes with the second moments of the faults, (n, 1, *shape)."""
    graph = effects.graph
    sent: dict[int, Array] = {}
    before: dict[int, Array] = {}
    for block, p in effects.setting.probabilities.items():
        kind, layer = block
        number, deviation = graph.weighted[layer], np.sqrt(p * (1 - p))
        signs = _signs(rng, (n, *y[number].shape))
        if kind == "neuron":
            sent[number] = deviation * y[number] * signs
            continue
        node = graph.nodes[number - 1]
        part, source = node.layer, y[node.sources[0]]
        assert isinstance(part, Weighted)
        if effects.acts_at_one_place(block):
            # The synapses of one neuron need no signs of their own: only their squares matter.
            before[number] = deviation * np.sqrt(pass_of_powers(part, source, 2)) * signs
            continue
        assert isinstance(part, Conv2D)
        before[number] = deviation * np.stack([
            replace(part, weight=part.weight * _signs(rng, part.weight.shape))
            .push_forward(source, source)
            for _ in range(n)
        ])  # fmt: skip
    return sent, before


def _signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.integers(0, 2, shape, np.int8) * 2.0 - 1.0


def _tangent(
    effects: GraphEffects,
    z: list[Array],
    y: list[Array],
    sent: dict[int, Array],
    before: dict[int, Array],
) -> Array:
    """Change of what the last node sends, (n, 1, *shape), by changes put in on the way."""
    graph = effects.graph
    n = len(next(iter([*sent.values(), *before.values()]), np.zeros(1)))
    found: dict[int, Array] = dict(sent)
    for number, node in enumerate(graph.nodes, start=1):
        if number not in before and not any(source in found for source in node.sources):
            continue
        dz = before.get(number)
        if any(source in found for source in node.sources):
            dy = [found.get(source, np.zeros((n, *y[source].shape))) for source in node.sources]
            passed = push_forward(node.layer, dy, [y[source] for source in node.sources])
            dz = passed if dz is None else passed + dz
        assert dz is not None
        if node.layer.activation.kind != "identity":
            dz = dz * node.layer.activation.derivative(z[number])
        found[number] = dz + sent[number] if number in sent else dz
        for source in node.sources:
            if graph.last_uses[source] == number:
                found.pop(source, None)
    return found.get(len(graph.nodes), np.zeros((n, *y[-1].shape)))
