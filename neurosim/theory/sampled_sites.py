"""Single-fault moments of a graph (b4) from a random sample of its sites.

The sum over sites of f(d_s) is that of f(-g_s), known from backward passes, and the sum of the
difference, which is estimated without bias: sites s drawn with probabilities q_s add
(f(d_s) - f(-g_s)) / q_s each. Half of them are drawn by what they add to the variance of T1, half
alike, for where T1 sees nothing a kink may still let something through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neurosim.layers import Array
from neurosim.theory.graph_effects import GraphEffects, GraphSingleEffects
from neurosim.theory.setting import Setting

__all__ = ["SampledMoments", "sampled_moments"]

# Effects of all sites that are held at once: 256 MB.
_VALUES = 2**25


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledMoments:
    """Single-fault moments that are estimated.

    Parameters
    ----------
    mean, variance : ndarray, shape (n_inputs, n_outputs)
        Unbiased estimates.
    mean_error, variance_error : ndarray, shape (n_inputs, n_outputs)
        Their standard errors, by the spread over the sites drawn.
    """

    mean: Array
    variance: Array
    mean_error: Array
    variance_error: Array


def sampled_moments(setting: Setting, samples: int, seed: int) -> SampledMoments:
    """Means and variances of the sum of the effects of single faults.

    Parameters
    ----------
    setting : Setting
        Of a graph.
    samples : int
        Sites drawn an input, with replacement, at least 2.
    seed : int
    """
    rng = np.random.default_rng(seed)
    found = np.zeros((4, setting.n_inputs, setting.n_outputs))
    blocks = list(setting.probabilities)
    starts = np.cumsum([0, *(setting.n_sites(block) for block in blocks)])
    p = np.repeat([setting.probabilities[block] for block in blocks], np.diff(starts))
    for x in range(setting.n_inputs if blocks else 0):
        found[:, x] = _of_input(setting, x, starts, p, samples, rng)
    mean, variance, mean_error, variance_error = found
    return SampledMoments(
        mean=mean,
        variance=np.maximum(variance, 0),
        mean_error=mean_error,
        variance_error=variance_error,
    )


def _of_input(
    setting: Setting, x: int, starts: Array, p: Array, samples: int, rng: np.random.Generator
) -> Array:
    """Mean, variance and their errors at one input: (4, n_outputs)."""
    spread = p * (1 - p)
    weights = np.zeros_like(p)
    derived = np.zeros((2, setting.n_outputs))
    for outputs, e in _derived(setting, x):
        derived[:, outputs] = e @ p, e**2 @ spread
        weights += np.einsum("ks,ks->s", e, e) * spread
    total, whole = weights.sum(), spread.sum()
    alike = spread / whole if whole > 0 else np.full_like(p, 1 / len(p))
    chance = 0.5 * (weights / total + alike) if total > 0 else alike
    drawn = rng.choice(len(p), samples, p=chance)
    g = np.concatenate([e[:, drawn] for _, e in _derived(setting, x)])
    d = np.zeros_like(g)
    exact = GraphSingleEffects(setting=setting)
    golden = exact.golden(x)
    for number, block in enumerate(setting.probabilities):
        here = ((drawn >= starts[number]) & (drawn < starts[number + 1])).nonzero()[0]
        if len(here):
            d[:, here] = exact.of_sites(block, drawn[here] - starts[number], x, golden)
    shares = np.stack([p[drawn] * (d - g), spread[drawn] * (d**2 - g**2)]) / chance[drawn]
    error = shares.std(axis=2, ddof=1) / np.sqrt(samples)
    return np.concatenate([derived + shares.mean(axis=2), error])


def _derived(setting: Setting, x: int) -> Iterator[tuple[slice, Array]]:
    """First-order effects of all sites on some outputs at a time: (n_outputs, n_sites)."""
    effects = GraphEffects(setting=setting)
    n_sites = sum(setting.n_sites(block) for block in setting.probabilities)
    step = max(1, _VALUES // n_sites)
    for start in range(0, setting.n_outputs, step):
        outputs = slice(start, min(start + step, setting.n_outputs))
        found = effects.of_input(x, outputs)
        yield outputs, np.concatenate(list(found.values()), axis=1)
