"""What a prediction for a graph of layers is asked later, with few passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurosim.layers import Array
from neurosim.theory.effects import covariance, law_of_sites
from neurosim.theory.graph_effects import GraphEffects, GraphSingleEffects
from neurosim.theory.presentations import InputMean
from neurosim.theory.setting import Block, Setting
from neurosim.theory.surrogate import SurrogateLaw

__all__ = ["GraphModel"]

# Effects, and what is remembered of them from input to input, that are held at once: 256 MB.
_VALUES = 2**25


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphModel:
    """The sum of the effects of single sites of a graph.

    Moments and kurtosis come of one walk over all inputs and outputs, the mean over several inputs
    of a second one, a law of a pass for its input and output.

    Parameters
    ----------
    effects : GraphEffects or GraphSingleEffects
    """

    effects: GraphEffects | GraphSingleEffects

    @property
    def setting(self) -> Setting:
        """What is predicted."""
        return self.effects.setting

    def covariance(self) -> Array:
        """Covariances of the outputs: (n_inputs, n_outputs, n_outputs)."""
        return covariance(self.effects)

    def site_variances(self, block: Block) -> Array:
        """What each site of a block adds to the variance, mean over inputs: (n_outputs, n)."""
        p = self.setting.probabilities[block]
        return p * (1 - p) * self.effects.site_sums(block, 2) / self.setting.n_inputs

    def _variances(self) -> tuple[dict[Block, Array], Array]:
        """Variance by block, and in all, each (n_inputs, n_outputs)."""
        setting = self.setting
        p = setting.probabilities
        squares = self.effects.sums(slice(None))
        parts = {block: p[block] * (1 - p[block]) * two for block, (_, two) in squares.items()}
        zero = np.zeros((setting.n_inputs, setting.n_outputs))
        return parts, np.asarray(sum(parts.values(), zero))

    def kurtosis(self) -> Array:
        """Fourth standardised moment, 3 + the sum of the sites' fourth cumulants / Var^2."""
        parts, variance = self._variances()
        result = np.where(variance > 0, 3.0, 1.0)
        whole = np.where(variance > 0, variance, np.inf)
        for block, excess in self.effects.excess().items():
            result += excess * (parts[block] / whole) ** 2
        return np.asarray(result)

    def input_mean(self) -> InputMean:
        """Variance over trials of the mean error over inputs: `presentations.input_mean`."""
        setting = self.setting
        shape = (2, setting.n_outputs)
        total = np.zeros(shape)  # of all, and of what stays fixed
        lags = {
            block: [(c, b) for c, b in terms if b != 0 and setting.n_inputs > 1]
            for block, terms in setting.lags.items()
        }
        squares = self.effects.sums(slice(None))
        for block, terms in setting.lags.items():
            for coefficient, base in terms:
                if base == 1 and setting.n_inputs > 1:
                    continue  # the square of a sum over inputs, below
                own = coefficient * squares[block][1].sum(axis=0)
                total[0] += own
                total[1] += own if base == 1 else 0.0
        if any(lags.values()):
            held = sum(setting.n_sites(block) * (1 + len(lags[block])) for block in lags)
            step = max(1, _VALUES // max(1, held))
            for start in range(0, setting.n_outputs, step):
                outputs = slice(start, min(start + step, setting.n_outputs))
                total[:, outputs] += self._across_inputs(outputs, lags)
        total /= setting.n_inputs**2
        each = self._variances()[1].mean(axis=0)
        return InputMean(variance=total[0], between=total[1], each=each)

    def _across_inputs(self, outputs: slice, lags: dict[Block, list[tuple[float, float]]]) -> Array:
        """What pairs of inputs add, for some outputs: of all, and of what stays fixed."""
        n = outputs.stop - outputs.start
        total = np.zeros((2, n))
        memory = {
            (block, base): np.zeros((n, self.setting.n_sites(block)))
            for block, terms in lags.items()
            for _, base in terms
        }
        for x in range(self.setting.n_inputs):
            for block, e in self.effects.of_input(x, outputs).items():
                for coefficient, base in lags[block]:
                    before = memory[block, base]
                    if base != 1:
                        total[0] += 2 * coefficient * np.einsum("ks,ks->k", e, before)
                    before += e
                    if base != 1:
                        before *= base
        for block, terms in lags.items():
            for coefficient, base in terms:
                if base == 1:
                    total += coefficient * (memory[block, base] ** 2).sum(axis=1)
        return total

    def law(self, input: int, output: int) -> SurrogateLaw:
        """The law of the error of one output for one input."""
        found = self.effects.states(input, slice(output, output + 1))
        effects = {block: e[0] for block, e in found.items()}
        return law_of_sites(self.setting, effects, self.setting.probabilities)
