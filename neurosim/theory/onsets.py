"""Faults that begin in a window only: probabilities that are others at each presentation.

Effects of single sites do not depend on how likely they are, so those of a surrogate stay; with p_t
the probability of a site at presentation t, the moments of input x_t are those at p_t.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np

from neurosim.faults import FaultProcess, chain_of
from neurosim.layers import Array
from neurosim.theory.effects import Effects, effect_chunks, law_of_sites
from neurosim.theory.exclusive_states import fourth_cumulants
from neurosim.theory.graph_effects import BySite
from neurosim.theory.group_effects import GroupEffects
from neurosim.theory.presentations import InputMean
from neurosim.theory.setting import Block, Setting
from neurosim.theory.surrogate import SurrogateLaw

__all__ = ["OnsetEffects"]


@dataclass(frozen=True, kw_only=True)
class _Term:
    """A part f_t g_u b_t b_{t+1} ... b_{u-1} of the covariance of a site between t <= u."""

    first: Array
    second: Array
    carry: Array
    lasting: bool


def _terms(processes: tuple[FaultProcess, ...], n: int) -> list[_Term]:
    """Covariance of a site that several processes may hit: parts that add up.

    1 - xi is a product over processes, so Cov = prod_k (q_k(t) q_k(u) + Cov_k) - prod_k q_k(t)
    q_k(u), multiplied out; `chain_of` has each Cov_k.
    """
    chains = [chain_of(process, n) for process in processes]
    found = []
    for chosen in product((False, True), repeat=len(chains)):
        if not any(chosen):
            continue
        first, second, carry = np.ones(n), np.ones(n), np.ones(n)
        for (p, b), varies in zip(chains, chosen, strict=True):
            first = first * (p * (1 - p) if varies else 1 - p)
            second = second if varies else second * (1 - p)
            carry = carry * b if varies else carry
        found.append(
            _Term(first=first, second=second, carry=carry, lasting=bool((carry == 1).all()))
        )
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class OnsetEffects:
    """What a sum of effects of single sites does where their probabilities follow the time.

    Parameters
    ----------
    effects : Effects
    variance : ndarray, (n_inputs, n_outputs)
    """

    effects: Effects
    variance: Array = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def setting(self) -> Setting:
        """What is predicted."""
        return self.effects.setting

    @cached_property
    def probabilities(self) -> dict[Block, Array]:
        """Probability of a site of each block at each presentation, (n_inputs,)."""
        n = self.setting.n_inputs
        return {
            block: 1 - np.prod([1 - chain_of(process, n)[0] for process in several], axis=0)
            for block, several in self.setting.processes.items()
        }

    def covariance(self) -> Array:
        """Covariances of the outputs: (n_inputs, n_outputs, n_outputs)."""
        setting = self.setting
        total = np.zeros((setting.n_inputs, setting.n_outputs, setting.n_outputs))
        for block, p in self.probabilities.items():
            for rows in effect_chunks(setting, block):
                e = self.effects.effects(block, rows).transpose(1, 0, 2)
                total[rows] += (p * (1 - p))[rows, None, None] * (e @ e.transpose(0, 2, 1))
        return total

    def site_variances(self, block: Block) -> Array:
        """What each site of a block adds to the variance, mean over inputs: (n_outputs, n)."""
        setting, p = self.setting, self.probabilities[block]
        total = np.zeros((setting.n_outputs, setting.n_sites(block)))
        for rows in effect_chunks(setting, block):
            e = self.effects.effects(block, rows)
            total += np.einsum("x,kxs->ks", (p * (1 - p))[rows], e**2)
        states = len(setting.groups[block].shares) if block in setting.groups else 1
        parts = total.reshape(setting.n_outputs, states, -1).sum(axis=1)
        return np.asarray(parts / setting.n_inputs)

    def input_mean(self) -> InputMean:
        """Variance over trials of the mean error over inputs, and the part of it between chips."""
        setting = self.setting
        variance, between = np.zeros(setting.n_outputs), np.zeros(setting.n_outputs)
        for block, processes in self.setting.processes.items():
            terms = _terms(processes, setting.n_inputs)
            memory: list[Array | float] = [0.0] * len(terms)
            for rows in effect_chunks(setting, block):
                e = self.effects.effects(block, rows).transpose(1, 0, 2)
                for t, now in zip(range(rows.start, rows.stop), e, strict=True):
                    for number, term in enumerate(terms):
                        own = term.first[t] * now
                        part = term.second[t] * (now * (own + 2 * memory[number])).sum(axis=1)
                        variance += part
                        between += part if term.lasting else 0.0
                        memory[number] = term.carry[t] * (memory[number] + own)
        n = setting.n_inputs**2
        return InputMean(
            variance=variance / n, between=between / n, each=self.variance.mean(axis=0)
        )

    def kurtosis(self) -> Array | None:
        """Fourth standardised moment, 3 + sum p q (1 - 6 p q) e^4 / Var^2."""
        setting = self.setting
        result = np.where(self.variance > 0, 3.0, 1.0)
        unit = np.sqrt(np.where(self.variance > 0, self.variance, np.inf)).T[:, :, None]
        for block, p in self.probabilities.items():
            for rows in effect_chunks(setting, block):
                q = (p * (1 - p))[rows, None]
                e = self.effects.effects(block, rows) / unit[:, rows]
                groups = setting.groups.get(block)
                if groups is None or len(groups.shares) == 1:
                    result[rows] += q * (1 - 6 * q) * (e**4).sum(axis=2).T
                else:  # stuck devices are permanent: p is the same at all times
                    result[rows] += fourth_cumulants(e, groups, float(p[0])).sum(axis=2).T
        return result

    def law(self, input: int, output: int) -> SurrogateLaw:
        """The law of the error of one output for one input."""
        found = {block: self._on(block, input, output) for block in self.probabilities}
        p = {block: float(several[input]) for block, several in self.probabilities.items()}
        return law_of_sites(self.setting, found, p)

    def _on(self, block: Block, input: int, output: int) -> Array:
        """Effects of every state of every site of a block on one output, as `law_of_sites`."""
        effects, rows = self.effects, slice(input, input + 1)
        if isinstance(effects, BySite):
            return effects.states(input, slice(output, output + 1))[block][0]
        of_states = effects.states if isinstance(effects, GroupEffects) else effects.effects
        return of_states(block, rows)[output, 0]
