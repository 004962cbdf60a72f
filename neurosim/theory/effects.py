"""Effects of single sites: what the surrogates of the theory are made of, and sums over them.

A surrogate writes the error of input x as sum_s e_s(x) xi_s, with xi_s = 1 where site s fails. A
layer has n_out x n_in synapses an input, too many to hold; their effects are sums of few products
coefficient_i W_ij^power feature_j, so that sums over synapses are products of small matrices.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product as pairs_of
from typing import Protocol

import numpy as np

from neurosim.kernels.sums import product_sums
from neurosim.layers import Array
from neurosim.theory.exclusive_states import fourth_cumulants
from neurosim.theory.setting import Block, Setting
from neurosim.theory.surrogate import SurrogateLaw, surrogate_law

__all__ = [
    "Effects",
    "ProductEffects",
    "Term",
    "block_sums",
    "covariance",
    "effect_chunks",
    "kurtosis",
    "law_of_sites",
]

# Beyond this many effects their fourth powers are not summed.
_MOST_EFFECTS = 3e8


class Effects(Protocol):
    """Effects e_s(x) of single sites."""

    @property
    def setting(self) -> Setting:
        """What is predicted."""

    def sums(self, rows: slice) -> dict[Block, tuple[Array, Array]]:
        """Sum and sum of squares of each block: each (n_inputs, n_outputs)."""

    def effects(self, block: Block, rows: slice) -> Array:
        """Effects of every site of a block: (n_outputs, n_inputs, n_sites)."""

    def site_sums(self, block: Block, power: int) -> Array:
        """Effects of every site, or their squares, summed over inputs: (n_outputs, n_sites)."""

    def products(self, block: Block, rows: slice) -> Array:
        """Products e_k e_l of two outputs summed over sites: (n_inputs, n_outputs, n_outputs)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """One product in the effects of a block.

    Neuron i of a layer: coefficient_i feature_i. Synapse (i, j): coefficient_i W_ij^power
    feature_j.

    Parameters
    ----------
    coefficient : ndarray, shape (n_outputs, n_inputs or 1, n_l)
    feature : ndarray, shape (n_inputs, n_l) or, for synapses, (n_inputs, n_{l-1})
    power : int
        0 for neurons.
    drive : ndarray, optional, shape (n_inputs, n_l)
        sum_j W_ij^power feature_j where it is known already.
    """

    coefficient: Array
    feature: Array
    power: int = 0
    drive: Array | None = None


class ProductEffects:
    """Effects that are sums of few terms: the `Effects` of every method that differentiates."""

    setting: Setting

    def terms(self, rows: slice) -> dict[Block, tuple[Term, ...]]:
        """Terms of every block for some inputs."""
        raise NotImplementedError

    def _weight(self, block: Block, power: int) -> Array:
        weight = self.setting.layers[block[1] - 1].weight
        return weight if power == 1 else weight**power

    def sums(self, rows: slice) -> dict[Block, tuple[Array, Array]]:
        """Sum and sum of squares of each block: each (n_inputs, n_outputs)."""
        return {block: self._block_sums(block, terms) for block, terms in self.terms(rows).items()}

    def _block_sums(self, block: Block, terms: Sequence[Term]) -> tuple[Array, Array]:
        if block[0] == "neuron":
            if len(terms) == 1:
                return product_sums(terms[0].coefficient, terms[0].feature)
            e = _neuron_effects(terms)
            return e.sum(axis=2).T, np.einsum("kxi,kxi->xk", e, e)
        first: Array = np.zeros(1)
        for term in terms:
            drive = term.drive
            if drive is None:
                drive = term.feature @ self._weight(block, term.power).T
            first = first + product_sums(term.coefficient, drive)[0]
        if len(terms) == 1:
            power = terms[0].feature ** 2 @ self._weight(block, 2 * terms[0].power).T
            # Rounding of a sum of squares can not make it negative.
            return first, product_sums(terms[0].coefficient, np.sqrt(power))[1]
        second: Array = np.zeros(1)
        for a, b in pairs_of(terms, terms):
            drive = (a.feature * b.feature) @ self._weight(block, a.power + b.power).T
            second = second + np.einsum("kxi,kxi,xi->xk", *_alike(a, b), drive)
        return first, np.maximum(second, 0)  # rounding of a sum of squares

    def products(self, block: Block, rows: slice) -> Array:
        """Products e_k e_l of two outputs summed over sites: (n_inputs, n_outputs, n_outputs)."""
        terms = self.terms(rows)[block]
        if block[0] == "neuron":
            e = _neuron_effects(terms).transpose(1, 0, 2)
            return e @ e.transpose(0, 2, 1)
        total: Array = np.zeros(1)
        for a, b in pairs_of(terms, terms):
            drive = (a.feature * b.feature) @ self._weight(block, a.power + b.power).T
            one, other = (c.transpose(1, 0, 2) for c in _alike(a, b))
            total = total + (one * drive[:, None, :]) @ other.transpose(0, 2, 1)
        return total

    def effects(self, block: Block, rows: slice) -> Array:
        """Effects of every site of a block: (n_outputs, n_inputs, n_sites)."""
        terms = self.terms(rows)[block]
        if block[0] == "neuron":
            return _neuron_effects(terms)
        total: Array = np.zeros(1)
        for term in terms:
            columns = self._weight(block, term.power) * term.feature[:, None, :]
            total = total + term.coefficient[..., None] * columns
        return total.reshape(*total.shape[:2], -1)

    def site_sums(self, block: Block, power: int) -> Array:
        """Effects of every site, or their squares, summed over inputs: (n_outputs, n_sites)."""
        setting = self.setting
        total = np.zeros((setting.n_outputs, setting.n_sites(block)))
        for rows in setting.chunks(setting.n_outputs * max(setting.widths)):
            terms = self.terms(rows)[block]
            if block[0] == "neuron":
                total += (_neuron_effects(terms) ** power).sum(axis=1)
                continue
            chosen = [(a,) for a in terms] if power == 1 else list(pairs_of(terms, terms))
            for factors in chosen:
                weight = self._weight(block, sum(t.power for t in factors))
                feature = _product([t.feature for t in factors])
                coefficient = _product([t.coefficient for t in factors])
                shape = (setting.n_outputs, len(feature), len(weight))
                for k, c in enumerate(np.broadcast_to(coefficient, shape)):
                    total[k] += (weight * (c.T @ feature)).ravel()
        return total


def _product(arrays: Sequence[Array]) -> Array:
    result = arrays[0]
    for array in arrays[1:]:
        result = result * array
    return result


def _alike(a: Term, b: Term) -> tuple[Array, Array]:
    """Coefficients of two terms as arrays of one shape."""
    n = (len(a.feature),)
    shape = (len(a.coefficient), *n, a.coefficient.shape[2])
    return np.broadcast_to(a.coefficient, shape), np.broadcast_to(b.coefficient, shape)


def _neuron_effects(terms: Sequence[Term]) -> Array:
    total: Array = np.zeros(1)
    for term in terms:
        total = total + term.coefficient * term.feature
    return total


def effect_chunks(setting: Setting, block: Block) -> Iterator[slice]:
    """Slices of the inputs whose effects of one block fit into memory."""
    return setting.chunks(setting.n_outputs * setting.n_sites(block))


def block_sums(effects: Effects) -> tuple[dict[Block, Array], dict[Block, Array]]:
    """Sums and sums of squares of the effects of every block, each (n_inputs, n_outputs)."""
    setting = effects.setting
    shape = (setting.n_inputs, setting.n_outputs)
    first = {block: np.zeros(shape) for block in setting.probabilities}
    second = {block: np.zeros(shape) for block in setting.probabilities}
    for rows in setting.chunks(setting.n_outputs * max(setting.widths)):
        for block, (one, two) in effects.sums(rows).items():
            first[block][rows], second[block][rows] = one, two
    return first, second


def covariance(effects: Effects) -> Array:
    """Sum of p (1 - p) e_k e_l over all sites: (n_inputs, n_outputs, n_outputs)."""
    setting = effects.setting
    total = np.zeros((setting.n_inputs, setting.n_outputs, setting.n_outputs))
    for block, p in setting.probabilities.items():
        for rows in setting.chunks(setting.n_outputs * max(setting.widths)):
            total[rows] += p * (1 - p) * effects.products(block, rows)
    return total


def kurtosis(effects: Effects, variance: Array) -> Array | None:
    """Kurtosis of sum e_s xi_s, 3 + sum p q (1 - 6 p q) e^4 / Var^2; None for too many effects."""
    setting = effects.setting
    n_sites = sum(setting.n_sites(block) for block in setting.probabilities)
    if n_sites * variance.size > _MOST_EFFECTS:
        return None
    result = np.where(variance > 0, 3.0, 1.0)
    # In units of the standard deviation, whose fourth power may leave the range of a float.
    unit = np.sqrt(np.where(variance > 0, variance, np.inf)).T[:, :, None]
    for block, p in setting.probabilities.items():
        q = p * (1 - p)
        for rows in effect_chunks(setting, block):
            e = effects.effects(block, rows) / unit[:, rows]
            groups = setting.groups.get(block)
            if groups is None or len(groups.shares) == 1:
                result[rows] += q * (1 - 6 * q) * (e**4).sum(axis=2).T
            else:
                result[rows] += fourth_cumulants(e, groups, p).sum(axis=2).T
    return result


def law_of_sites(
    setting: Setting, effects: Mapping[Block, Array], probabilities: Mapping[Block, float]
) -> SurrogateLaw:
    """The law of the sum of the effects of all blocks, each (n_sites,), on one output.

    Of sites with two states the effects of the first of all, then of the second of all.
    """
    parts: list[tuple[Array, float | tuple[float, ...]]] = []
    for block, e in effects.items():
        p, groups = probabilities[block], setting.groups.get(block)
        if groups is None or len(groups.shares) == 1:
            parts.append((e, p))
        else:
            parts.append((e.reshape(2, -1), tuple(p * share for share in groups.shares)))
    return surrogate_law(parts)
