"""From moments an input to moments of the mean over inputs: what persistence does (theory, 1)."""

from dataclasses import dataclass

import numpy as np

from neurosim.layers import Array
from neurosim.theory.effects import Effects, effect_chunks
from neurosim.theory.setting import Block

__all__ = ["InputMean", "input_mean"]


@dataclass(frozen=True, kw_only=True, eq=False)
class InputMean:
    """Variance over trials of the mean error over inputs, and the part of it between chips.

    Parameters
    ----------
    variance, between : ndarray, shape (n_outputs,)
    each : ndarray, shape (n_outputs,)
        Variance of the same error at one input, mean over inputs.
    """

    variance: Array
    between: Array
    each: Array


def input_mean(effects: Effects, each: Array) -> InputMean:
    """Variance of the mean over presentations of sum_s e_s(x_t) xi_s(t), and the mean of each.

    N^-2 sum_{t,t'} sum_s Cov(xi_s(t), xi_s(t')) e_s(x_t) e_s(x_t'), with the covariances of
    `lag_terms`; the terms of lag base 1 are what stays fixed during a trial: between chips.
    """
    setting = effects.setting
    variance, between = np.zeros(setting.n_outputs), np.zeros(setting.n_outputs)
    for block, terms in setting.lags.items():
        for coefficient, base in terms:
            part = coefficient / setting.n_inputs**2 * _lagged(effects, block, base)
            variance += part
            if base == 1:
                between += part
    return InputMean(variance=variance, between=between, each=each)


def _lagged(effects: Effects, block: Block, base: float) -> Array:
    """Sum over t, t' and s of base^|t-t'| e_s(x_t) e_s(x_t'): shape (n_outputs,)."""
    setting = effects.setting
    if base == 1:
        return np.asarray((effects.site_sums(block, 1) ** 2).sum(axis=1))
    total = np.zeros(setting.n_outputs)
    memory = np.zeros((setting.n_outputs, setting.n_sites(block)))
    for rows in effect_chunks(setting, block):
        e = effects.effects(block, rows)
        total += np.einsum("kxs,kxs->k", e, e)
        if base != 0:
            for now in e.transpose(1, 0, 2):
                total += 2 * np.einsum("ks,ks->k", now, memory)
                memory += now
                memory *= base
    return total
