"""Moments of the error of a loss from those of the outputs: AP9 with the terms it drops.

To first order in the faults E Delta_{L+1} = -sum p_s <grad loss, g_s> (AP9). On inputs that the
network fits well the gradient is nearly 0 and the curvature of the loss decides: with the linear
surrogate Delta = -G xi of the outputs, mean m and covariance K, and the loss a.Delta + 1/2 Delta.H
Delta (exact for squared errors),

    E = a.m + 1/2 m.H m + 1/2 tr(H K)
    Var = sum_s p_s q_s c_s^2 + 1/2 (tr((H K)^2) - sum_s (p_s q_s)^2 (g_s.H g_s)^2)
    c_s = -(a + H m).g_s + (1/2 - p_s) g_s.H g_s

the exact moments of a quadratic form in independent faults.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from neurosim.layers import Array
from neurosim.theory.effects import ProductEffects, Term, covariance
from neurosim.theory.first_order import LinearEffects
from neurosim.theory.setting import Block, Setting

__all__ = ["LossEffects"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LossEffects(ProductEffects):
    """Effects c_s of every site on a loss: the part of its error that is linear in the faults.

    Parameters
    ----------
    setting : Setting
        Of a loss.
    outputs : LinearEffects
        Effects on the outputs in which the loss is expanded.
    mean : ndarray, shape (n_inputs, n_L)
        Mean change of those outputs.
    """

    setting: Setting
    outputs: LinearEffects
    mean: Array

    @staticmethod
    def of(setting: Setting, at_mean: bool) -> "LossEffects":
        """Effects at the fault-free network, or (mean-field) where every site has its mean."""
        inner = replace(setting, head=setting.head.expanded_in, targets=None)
        outputs = LinearEffects(setting=inner, at_mean=at_mean)
        mean = np.zeros((inner.n_inputs, inner.n_outputs))
        if not at_mean:
            for rows in inner.chunks(inner.n_outputs * max(inner.widths)):
                for block, (first, _) in outputs.sums(rows).items():
                    mean[rows] += inner.probabilities[block] * first
        return LossEffects(setting=setting, outputs=outputs, mean=mean)

    @cached_property
    def _expansion(self) -> tuple[Array, Array]:
        setting = self.setting
        last = [
            self.outputs.last_layer(rows)
            for rows in setting.chunks(setting.n_outputs * max(setting.widths))
        ]
        return setting.head.expansion(np.concatenate(last), setting.targets)

    @cached_property
    def _covariance(self) -> Array:
        return covariance(self.outputs)

    @property
    def exact(self) -> bool:
        """Whether the error of the loss is this quadratic form of the faults."""
        return self.setting.head.loss == "squared_error" and self.outputs.setting.exact

    @property
    def curvature_mean(self) -> Array:
        """1/2 m.H m + 1/2 tr(H K) of every input: (n_inputs, 1)."""
        curvature = self._expansion[1]
        square = self._covariance + self.mean[:, :, None] * self.mean[:, None, :]
        return 0.5 * np.einsum("xkl,xkl->x", curvature, square)[:, None]

    def terms(self, rows: slice) -> dict[Block, tuple[Term, ...]]:
        """-(a + H m).g_s + (1/2 - p) g_s.H g_s."""
        gradient, curvature = (part[rows] for part in self._expansion)
        slope = gradient + np.einsum("xkl,xl->xk", curvature, self.mean[rows])
        found: dict[Block, tuple[Term, ...]] = {}
        for block, (term,) in self.outputs.terms(rows).items():
            bend = _bend(term.coefficient, curvature)
            along = np.einsum("xk,kxi->xi", slope, _each(term.coefficient, len(slope)))
            found[block] = (
                Term(coefficient=along[None], feature=term.feature, power=term.power),
                Term(
                    coefficient=((0.5 - self.setting.probabilities[block]) * bend)[None],
                    feature=term.feature**2,
                    power=2 * term.power,
                ),
            )
        return found

    def pair_variances(self) -> dict[Block, Array]:
        """What pairs of faults add to the variance, by block: each (n_inputs, 1).

        A pair of sites of two blocks counts half for each.
        """
        curvature, total = self._expansion[1], self._covariance
        bent = curvature @ total @ curvature
        result = {}
        for block, p in self.setting.probabilities.items():
            part = np.zeros((self.setting.n_inputs, 1))
            for rows in self.setting.chunks(self.setting.n_outputs * max(self.setting.widths)):
                share = p * (1 - p) * self.outputs.products(block, rows)
                (term,) = self.outputs.terms(rows)[block]
                square = term.feature**4
                if term.power:
                    weight = self.setting.layers[block[1] - 1].weight
                    square = square @ (weight**4).T
                own = (_bend(term.coefficient, curvature[rows]) ** 2 * square).sum(axis=1)
                whole = np.einsum("xkl,xkl->x", bent[rows], share)
                part[rows, 0] = 0.5 * (whole - (p * (1 - p)) ** 2 * own)
            result[block] = part
        return result


def _each(coefficient: Array, n_inputs: int) -> Array:
    """Coefficients (n_outputs, n_inputs or 1, n) as (n_outputs, n_inputs, n)."""
    return np.broadcast_to(coefficient, (len(coefficient), n_inputs, coefficient.shape[2]))


def _bend(coefficient: Array, curvature: Array) -> Array:
    """Second derivative sum_kl c_k H_kl c_l: (n_inputs, n)."""
    c = _each(coefficient, len(curvature)).transpose(1, 0, 2)
    return np.asarray((c * (curvature @ c)).sum(axis=1))
