"""predict: the moments of the output error that the theory expects, beside their laws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from neurosim.errors import InputError
from neurosim.layers import Array, frozen
from neurosim.theory.first_order import LinearEffects
from neurosim.theory.presentations import Effects, InputMean, input_mean
from neurosim.theory.setting import Block, Setting
from neurosim.theory.single_fault import SingleEffects
from neurosim.theory.surrogate import SurrogateLaw, surrogate_law

if TYPE_CHECKING:
    from neurosim.campaign import Campaign

__all__ = ["Method", "Prediction", "predict"]

Method = Literal["first-order", "single-fault"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """Predicted moments of the error (faulty - golden, after the read-out).

    Parameters
    ----------
    campaign : Campaign
    method : str
    layer : int or None
        The hidden layer whose error this is (D4 of the paper); None for the outputs.
    mean, variance : ndarray, shape (n_inputs, n_outputs)
        In the unit of the outputs and its square.
    variance_paper : ndarray, shape (n_inputs, n_outputs)
        As printed in the paper: p in place of p (1 - p).
    mean_contributions, variance_contributions : mapping of (site kind, layer) to ndarray
        What each kind of site of each layer adds, each (n_inputs, n_outputs); they sum to the
        whole (AP7).
    exact : bool
        Whether the method is exact for this campaign.
    overlaps : tuple of str
        Pairs of kinds of sites of which one hides the other; to first order in the probabilities
        this does not matter.
    effects : Effects
        Effects of single sites.

    Notes
    -----
    Three figures about the mean over inputs, each (n_outputs,), computed when first asked for:
    `input_mean_variance`, the variance over trials of a trial's mean error;
    `between_chip_variance`, the part of it due to faults that stay for a whole trial (all of it
    for permanent faults, none for transient and intermittent ones, whose bursts merely last);
    `within_chip_variance`, the expectation over trials of the variance over inputs. The first and
    the last add up to the variance of the error pooled over trials and inputs.
    """

    campaign: Campaign
    method: str
    layer: int | None
    mean: Array
    variance: Array
    variance_paper: Array
    mean_contributions: Mapping[Block, Array]
    variance_contributions: Mapping[Block, Array]
    exact: bool
    overlaps: tuple[str, ...]
    effects: Effects = field(repr=False)

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return int(self.mean.shape[0])

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return int(self.mean.shape[1])

    @cached_property
    def _input_mean(self) -> InputMean:
        return input_mean(self.effects)

    @property
    def input_mean(self) -> Array:
        """Expectation of a trial's mean error over inputs, (n_outputs,)."""
        return np.asarray(self.mean.mean(axis=0))

    @property
    def input_mean_variance(self) -> Array:
        """Variance over trials of a trial's mean error over inputs, (n_outputs,)."""
        return self._input_mean.variance

    @property
    def between_chip_variance(self) -> Array:
        """The part of `input_mean_variance` due to faults that stay for a whole trial."""
        return self._input_mean.between

    @property
    def within_chip_variance(self) -> Array:
        """Expectation over trials of the population variance of the error over inputs."""
        pooled = (self.variance + self.mean**2).mean(axis=0) - self.input_mean**2
        return np.asarray(pooled - self.input_mean_variance)

    def __str__(self) -> str:
        lines = [
            f"{self.method} prediction for {self.n_inputs} inputs"
            + (" (exact for this campaign)" if self.exact else ""),
            f"{'output':>8}{'mean':>12}{'variance':>12}{'sd':>12}   (averages over inputs)",
        ]
        for k in range(min(self.n_outputs, 10)):
            variance = self.variance[:, k].mean()
            lines.append(
                f"{k:8}{self.mean[:, k].mean():12.3e}{variance:12.3e}{np.sqrt(variance):12.3e}"
            )
        if self.n_outputs > 10:
            lines.append(f"     ... {self.n_outputs - 10} more outputs")
        whole = self.variance.mean()
        for (kind, layer), part in self.variance_contributions.items():
            share = part.mean() / whole if whole else 0.0
            lines.append(f"  {share:.1%} of the variance from {kind}s of layer {layer}")
        return "\n".join([*lines, *(f"  overlap: {text}" for text in self.overlaps)])

    def distribution(self, input: int, output: int) -> SurrogateLaw:
        """The exact law of the linear surrogate of one output for one input.

        Of -sum g_s xi_s for "first-order", of sum d_s xi_s for "single-fault".

        Raises
        ------
        InputError
            If there is no such input or output.
        """
        for name, value, n in (("input", input, self.n_inputs), ("output", output, self.n_outputs)):
            if not 0 <= value < n:
                raise InputError(f"{name}: expected 0 to {n - 1}, got {value!r}")
        setting = self.effects.setting
        rows = slice(input, input + 1)
        return surrogate_law([
            (self.effects.effects(block, rows)[output, 0], p)
            for block, p in setting.probabilities.items()
        ])  # fmt: skip


def predict(
    campaign: Campaign, method: str = "first-order", *, layer: int | None = None
) -> Prediction:
    """Predict the moments of the error of a campaign.

    Parameters
    ----------
    campaign : Campaign
    method : str
        "first-order": T1 (b3, AC2), E = -sum p_s g_s, Var = sum p_s (1 - p_s) g_s^2 with the
        derivatives g_s; for wide, smooth networks.
        "single-fault": b4, the same with the exact change d_s that each site makes alone: right
        to first order in p for every network.
    layer : int, optional
        Predict the error of the output of this layer (D4) instead of the network's.

    Returns
    -------
    Prediction

    Raises
    ------
    InputError
        If the method or the layer does not exist.
    """
    if method not in get_args(Method):
        spelled = ", ".join(f'"{name}"' for name in get_args(Method))
        raise InputError(f"method: expected one of {spelled}, got {method!r}")
    setting = Setting.of(campaign, layer)
    effects: Effects
    if method == "first-order":
        effects = LinearEffects(setting=setting)
    else:
        effects = SingleEffects(setting=setting)
    return _from_effects(campaign, effects, method, layer)


def _from_effects(
    campaign: Campaign, effects: Effects, method: str, layer: int | None
) -> Prediction:
    setting = effects.setting
    shape = (setting.n_inputs, setting.n_outputs)
    first = {block: np.zeros(shape) for block in setting.probabilities}
    second = {block: np.zeros(shape) for block in setting.probabilities}
    for rows in setting.chunks(setting.n_outputs * max(setting.widths)):
        for block, (one, two) in effects.sums(rows).items():
            first[block][rows], second[block][rows] = one, two
    p = setting.probabilities
    means = {block: frozen(p[block] * first[block], np.float64) for block in p}
    variances = {
        block: frozen(p[block] * (1 - p[block]) * second[block], np.float64) for block in p
    }
    zero = np.zeros(shape)
    return Prediction(
        campaign=campaign,
        method=method,
        layer=layer,
        mean=frozen(sum(means.values(), zero), np.float64),
        variance=frozen(sum(variances.values(), zero), np.float64),
        variance_paper=frozen(sum((p[b] * second[b] for b in p), zero), np.float64),
        mean_contributions=MappingProxyType(means),
        variance_contributions=MappingProxyType(variances),
        exact=setting.exact,
        overlaps=setting.overlaps,
        effects=effects,
    )
