"""Cut sets: sites whose faults together are a failure, grown site by site.

Sets of one size more are looked at where the errors computed so far, and what every two sites do
beyond their sum, say that they reach farthest. All that is found is computed, nothing of it is
used in an estimate: a law of faults is made of it.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from neurosim.kernels.cut_sets import predict_grown
from neurosim.layers import Array

__all__ = ["Look", "find_cuts"]

# Of sets (offsets, sites): how far each reaches, (n_sets, n_drives), 1 a threshold; which fail.
Look: TypeAlias = Callable[[Array, Array], tuple[Array, Array]]

# Sites that sets are grown of, sets of a size that are grown, ways to grow them that are looked at,
# the largest size; and the share of what is found below which more is not worth looking at.
_SITES, _PARENTS, _WIDTH, _LARGEST, _LITTLE = 80, 2**10, 3 * 2**10, 8, 0.02


def find_cuts(
    look: Look, probability: Array, order: Array, least: int, known: float
) -> tuple[Array, Array, int]:
    """Sets of at least so many sites that fail: (offsets, sites), and how many were looked at.

    Parameters
    ----------
    look : callable
    probability : ndarray, (n_sites,)
    order : ndarray of int64
        The sites that failures are expected of, the likeliest first.
    least : int
    known : float
        Probability of the failing sets of fewer faults.
    """
    order = order[:_SITES]
    n = len(order)
    sets, found, total = np.arange(n)[:, None], [], known
    alone, fails = look(np.arange(n + 1), order)
    reached, pairs, looked = alone, np.zeros((n, n, alone.shape[1])), n
    if least < 2:
        found.append(order[fails][:, None])
        total += float(probability[order[fails]].sum())
    highest = np.cumprod(np.sort(probability[order])[::-1])
    for size in range(2, min(n, _LARGEST) + 1):
        if _WIDTH * highest[size - 1] < _LITTLE * total or fails.all():
            break
        sets = _grown(sets[~fails], reached[~fails], alone, pairs)
        flat = np.sort(order[sets], axis=1)
        reached, fails = look(np.arange(len(sets) + 1) * size, flat.ravel())
        looked += len(sets)
        if size == 2:
            a, b = sets.T
            pairs[a, b] = pairs[b, a] = reached - alone[a] - alone[b]
        if size < least:
            continue
        found.append(flat[fails])
        added = float(np.prod(probability[found[-1]], axis=1).sum())
        total += added
        if added < _LITTLE * total:
            break
    sizes = [np.full(len(cuts), cuts.shape[1]) for cuts in found]
    offsets = np.cumsum(np.concatenate([[0], *sizes]))
    sites = np.concatenate([np.empty(0, np.int64), *(cuts.ravel() for cuts in found)])
    return offsets, sites, looked


def _grown(sets: Array, reached: Array, alone: Array, pairs: Array) -> Array:
    """Sets of one site more, once each: all pairs; else those that seem to reach farthest."""
    n, several = len(alone), sets.shape[1] > 1
    if several:
        far = _largest(reached.max(axis=1), _PARENTS)
        sets, reached = sets[far], reached[far]
    predicted = predict_grown(sets, reached, alone, pairs).ravel()
    some = _largest(predicted, _WIDTH if several else len(predicted))
    parent, site = np.divmod(some[predicted[some] > -np.inf], n)
    grown = np.sort(np.concatenate([sets[parent], site[:, None]], axis=1), axis=1)
    _, first = np.unique(grown @ n ** np.arange(grown.shape[1]), return_index=True)
    return np.asarray(grown[first])


def _largest(values: Array, most: int) -> Array:
    """Where the largest values are, at most so many."""
    if len(values) <= most:
        return np.arange(len(values))
    return np.argpartition(values, -most)[-most:]
