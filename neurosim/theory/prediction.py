"""predict: the moments of the output error that the theory expects, beside their laws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np

from neurosim.errors import InputError
from neurosim.faults import Permanent, SiteKind
from neurosim.layers import Array, frozen
from neurosim.theory.arguments import check_campaign, check_range, whole_number
from neurosim.theory.corrected_loss import LossEffects
from neurosim.theory.effects import Effects, block_sums, covariance, kurtosis, law_of_sites
from neurosim.theory.enumeration import Enumeration
from neurosim.theory.first_order import LinearEffects
from neurosim.theory.graph_effects import GraphEffects, GraphSingleEffects
from neurosim.theory.graph_losses import GraphLossEffects
from neurosim.theory.graph_model import GraphModel
from neurosim.theory.graph_probes import ProbedMoments, probed_moments
from neurosim.theory.group_effects import GroupEffects
from neurosim.theory.mean_field import mean_field_change
from neurosim.theory.onsets import OnsetEffects
from neurosim.theory.presentations import InputMean, input_mean
from neurosim.theory.sampled_sites import SampledMoments, sampled_moments
from neurosim.theory.second_order import QuadraticEffects, check_smooth, pair_covariance
from neurosim.theory.setting import KNOWN, Block, Setting
from neurosim.theory.single_fault import SingleEffects
from neurosim.theory.surrogate import SurrogateLaw

if TYPE_CHECKING:
    from neurosim.campaign import Campaign, Loss

__all__ = ["Method", "Prediction", "predict"]

# Methods whose moments probes estimate.
_PROBED = ("first-order", "single-fault")

Method = Literal["first-order", "single-fault", "second-order", "mean-field", "enumeration"]


class Model(Protocol):
    """What a method takes the error for: the source of all that a prediction is asked later."""

    @property
    def setting(self) -> Setting:
        """What is predicted."""

    def covariance(self) -> Array:
        """Covariances of the outputs: (n_inputs, n_outputs, n_outputs)."""

    def site_variances(self, block: Block) -> Array:
        """What each site of a block adds to the variance, mean over inputs: (n_outputs, n)."""

    def input_mean(self) -> InputMean:
        """Variance over trials of the mean error over inputs."""

    def kurtosis(self) -> Array | None:
        """Fourth standardised moment, (n_inputs, n_outputs); None where it costs too much."""

    def law(self, input: int, output: int) -> SurrogateLaw:
        """The law of the error of one output for one input."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Surrogate:
    """A sum of effects of single sites, with what pairs of them add to the covariances.

    Laws, kurtosis and the mean over inputs are those of the sum.
    """

    effects: Effects
    variance: Array
    pairs: Array | None = None

    @property
    def setting(self) -> Setting:
        return self.effects.setting

    def covariance(self) -> Array:
        single = covariance(self.effects)
        return single if self.pairs is None else single + self.pairs

    def site_variances(self, block: Block) -> Array:
        p = self.setting.probabilities[block]
        return p * (1 - p) * self.effects.site_sums(block, 2) / self.setting.n_inputs

    def input_mean(self) -> InputMean:
        variance = self.variance
        if self.pairs is not None:
            variance = variance - np.diagonal(self.pairs, axis1=1, axis2=2)
        return input_mean(self.effects, variance.mean(axis=0))

    def kurtosis(self) -> Array | None:
        return kurtosis(self.effects, self.variance)

    def law(self, input: int, output: int) -> SurrogateLaw:
        rows = slice(input, input + 1)
        several = self.effects
        effects = several.states if isinstance(several, GroupEffects) else several.effects
        found = {block: effects(block, rows)[output, 0] for block in self.setting.probabilities}
        return law_of_sites(self.setting, found, self.setting.probabilities)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shifted:
    """A model of what faults do beside known defects, which shift the error by a constant.

    shift: (n_inputs, n_outputs).
    """

    model: Model
    shift: Array

    @property
    def setting(self) -> Setting:
        return self.model.setting

    def covariance(self) -> Array:
        return self.model.covariance()

    def site_variances(self, block: Block) -> Array:
        return self.model.site_variances(block)

    def input_mean(self) -> InputMean:
        return self.model.input_mean()

    def kurtosis(self) -> Array | None:
        return self.model.kurtosis()

    def law(self, input: int, output: int) -> SurrogateLaw:
        law, by = self.model.law(input, output), float(self.shift[input, output])
        if by == 0:
            return law
        at = law.grid == -by
        zero = float(law.mass[at].sum())
        return replace(law, grid=law.grid + by, mean=law.mean + by, mass_at_zero=zero)


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """Predicted moments of the error (faulty - golden, after the read-out).

    Parameters
    ----------
    campaign : Campaign
    method : str
    layer : int or None
        The hidden layer whose error this is (D4 of the paper); None for the outputs.
    loss : str or None
        The loss whose error Delta_{L+1} this is, with n_outputs = 1; None for the outputs.
    mean, variance : ndarray, shape (n_inputs, n_outputs)
        In the unit of the outputs and its square.
    mean_paper, variance_paper : ndarray, shape (n_inputs, n_outputs), or None
        As printed in the paper: of a loss by its gradient alone (AP9); p in place of p (1 - p).
        None for "enumeration", the latter also for estimated variances.
    mean_error, variance_error : ndarray, shape (n_inputs, n_outputs)
        Standard errors of `mean` and `variance` where these, or a part of them, are randomised
        estimates ("second-order" with many sites; with probes the variance of "first-order", both
        moments of "single-fault"), else 0.
    mean_terms : mapping of str to ndarray (n_inputs, n_outputs)
        What the mean consists of, by kind: "linear" in the faults; "curvature", second order in
        one of them, or that of a loss; "pairs". "interaction": all that is not linear.
    mean_contributions, variance_contributions : mapping of (site kind, layer) to ndarray
        What each kind of site of each layer adds, each (n_inputs, n_outputs). They sum to the
        whole (AP7) for "first-order", "single-fault" and "second-order"; for "mean-field",
        "enumeration" and the mean of a loss the rest is what blocks do together. Empty with probes.
    exact : bool
        Whether the method is exact for this campaign.
    overlaps : tuple of str
        Pairs of kinds of sites of which one hides the other; to first order in the probabilities
        this does not matter.

    Notes
    -----
    Three figures about the mean over inputs, each (n_outputs,), computed when first asked for:
    `input_mean_variance`, the variance over trials of a trial's mean error;
    `between_chip_variance`, the part of it due to faults that stay for a whole trial (all of it
    for permanent faults, none for transient and intermittent ones, whose bursts merely last);
    `within_chip_variance`, the expectation over trials of the variance over inputs. The first and
    the last add up to the variance of the error pooled over trials and inputs. For "second-order"
    and the corrected loss all three leave out what pairs of faults add to the variance.
    """

    campaign: Campaign
    method: str
    layer: int | None
    loss: str | None = None
    mean: Array
    variance: Array
    mean_paper: Array | None = None
    variance_paper: Array | None = None
    mean_error: Array
    variance_error: Array
    mean_terms: Mapping[str, Array]
    mean_contributions: Mapping[Block, Array]
    variance_contributions: Mapping[Block, Array]
    exact: bool
    overlaps: tuple[str, ...]
    model: Model = field(repr=False)

    @property
    def n_inputs(self) -> int:
        """Number of inputs."""
        return int(self.mean.shape[0])

    @property
    def n_outputs(self) -> int:
        """Number of outputs."""
        return int(self.mean.shape[1])

    @cached_property
    def covariance(self) -> Array:
        """Covariances of the outputs, (n_inputs, n_outputs, n_outputs); computed when asked for."""
        return frozen(self.model.covariance(), np.float64)

    def site_contributions(self, site: str, layer: int) -> Array:
        """What each site of a layer adds to the variance, averaged over inputs.

        Parameters
        ----------
        site : "neuron", "synapse", "row", "column", "core", "link", "device" or "bit"
            Dead ones; those stuck at a value (`StuckAt`) are "stuck neuron" and
            "stuck synapse"; stuck
            devices and flipped bits are "device" and "bit"; clusters are called by the `kind` of
            their process, "3-column cluster" say.
        layer : int

        Returns
        -------
        ndarray, shape (n_outputs, n_l); for synapses (n_outputs, n_l, n_{l-1}), of a convolution
            (n_outputs, copies x channels_out, kernel size); else (n_outputs, n_sites) in the order
            of `site_groups`, clusters by core, line and start
            Zeros where these sites do not fail.

        Raises
        ------
        InputError
            If there is no such layer of such sites.

        Examples
        --------
        >>> prediction.site_contributions("neuron", 1).argmax(axis=1)  # doctest: +SKIP
        """
        setting = self.model.setting
        kinds = dict.fromkeys(
            [*get_args(SiteKind), "stuck neuron", "stuck synapse", *(k for k, _ in setting.groups)]
        )
        if not isinstance(site, str) or site not in kinds:
            spelled = ", ".join(f'"{name}"' for name in kinds)
            raise InputError(f"site: expected one of {spelled}, got {site!r}")
        layer = whole_number("layer", layer, 0 if "neuron" in site else 1, setting.depth)
        block = (site, layer)
        if site not in ("neuron", "synapse"):
            if block not in setting.groups:
                return np.zeros((self.n_outputs, 0))
            return self.model.site_variances(block)
        shape = setting.widths[layer : layer + 1]
        if site == "synapse":
            shape = setting.weight_shapes[layer - 1]
        if block not in setting.probabilities:
            return np.zeros((self.n_outputs, *shape))
        return self.model.site_variances(block).reshape(self.n_outputs, *shape)

    @cached_property
    def kurtosis(self) -> Array | None:
        """Fourth standardised moment, (n_inputs, n_outputs); None where it costs too much."""
        return self.model.kurtosis()

    @cached_property
    def _input_mean(self) -> InputMean:
        return self.model.input_mean()

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
        # Rounding alone makes the first part negative: a mean varies less than its terms.
        inner = np.maximum(self._input_mean.each - self._input_mean.variance, 0)
        return np.asarray(inner + self.mean.var(axis=0))

    def __str__(self) -> str:
        what = self.loss or (f"layer {self.layer}" if self.layer is not None else "")
        lines = [
            f"{self.method} prediction for {self.n_inputs} inputs"
            + (f", {what.replace('_', ' ')}" if what else "")
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
        if len(self.mean_terms) > 1:
            sizes = {name: float(np.abs(part).mean()) for name, part in self.mean_terms.items()}
            spelled = ", ".join(f"{name} {size:.3e}" for name, size in sizes.items())
            lines.append(f"  terms of the mean, mean absolute values: {spelled}")
        if self.variance_error.any():
            known = self.variance > 0
            share = float((self.variance_error[known] / self.variance[known]).max())
            lines.append(f"  randomised part of the variance: standard error up to {share:.1%}")
        whole = self.variance.mean()
        for (kind, layer), part in self.variance_contributions.items():
            share = part.mean() / whole if whole else 0.0
            lines.append(f"  {share:.1%} of the variance from {kind}s of layer {layer}")
        return "\n".join([*lines, *(f"  overlap: {text}" for text in self.overlaps)])

    def distribution(self, input: int, output: int) -> SurrogateLaw:
        """The exact law of the linear surrogate of one output for one input.

        Of -sum g_s xi_s for "first-order", sum d_s xi_s for "single-fault", the part of the
        surrogate that is linear in the faults for the others; for "enumeration" the exact law of
        the error itself.

        Raises
        ------
        InputError
            If there is no such input or output.
        """
        return self.model.law(
            whole_number("input", input, 0, self.n_inputs - 1),
            whole_number("output", output, 0, self.n_outputs - 1),
        )


def predict(
    campaign: Campaign,
    method: str = "first-order",
    *,
    layer: int | None = None,
    loss: Loss | None = None,
    probes: int | None = None,
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
        "second-order": the surrogate -g.xi + 1/2 xi.H xi with the second derivatives H; for
        smooth networks; tells how far "first-order" is to be trusted.
        "mean-field": the paper's expansion about the mean activations, E = y_L((1 - p) y) -
        y_L(y), Var = sum p_s (1 - p_s) g_s^2 with g_s taken there; what many small neurons tend
        to at any p.
        "enumeration": exact, by all 2^n fault sets of at most 20 sites.
    layer : int, optional
        Predict the error of the output of this layer (D4) instead of the network's.
    loss : "squared_error", "absolute_error" or "cross_entropy", optional
        Predict the error of this loss instead of the outputs (needs targets). "first-order" and
        "mean-field" add the curvature of the loss, without which they are far too low on inputs
        that the network fits well; AP9, without it, is `mean_paper`.
    probes : int, optional
        For graphs of layers: estimate moments by so many (at least 2) random directions of faults
        ("first-order": variances, each one pass for all outputs of an input in place of a pass for
        each output) or random sites ("single-fault": both moments, each the exact change that a
        site makes alone, as a correction of "first-order"). Unbiased; `mean_error` and
        `variance_error` tell how far off, of directions about (2 / probes)^(1/2) relatively,
        unreliable below some 50 probes. Contributions of blocks are not known.

    Returns
    -------
    Prediction

    Raises
    ------
    InputError
        If the method, the layer or the loss does not exist, the network is not smooth enough for
        "second-order", there are too many sites for "enumeration", or the moments leave the range
        of a float64.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[[[1, 1]]], biases=[[0]], activations=["identity"])
    >>> campaign = ns.Campaign(
    ...     deployment=ns.deploy(network, ns.Chip.load("ideal")), inputs=[[1.0, 2.0]],
    ...     faults=[ns.StuckAtZero("neuron", probability=0.5)], trials=1, seed=0)
    >>> ns.predict(campaign).variance
    array([[1.25]])
    """
    check_campaign(campaign)
    if method not in get_args(Method):
        spelled = ", ".join(f'"{name}"' for name in get_args(Method))
        raise InputError(f"method: expected one of {spelled}, got {method!r}")
    if campaign.ticks > 1 and any(
        not isinstance(process.persistence, Permanent) for process in campaign.faults
    ):
        raise InputError(
            f"ticks: expected 1 tick a presentation for faults that come and go, got "
            f"{campaign.ticks}; the theory knows no time within an inference"
        )
    setting = Setting.of(campaign, layer, loss, onsets=True)
    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused
        if setting.has_onsets:
            parts = _with_onsets(setting, method, probes)
        elif probes is None:
            parts = _parts_of(setting, method, campaign.seed)
        else:
            parts = _by_probes(setting, method, whole_number("probes", probes, 2), campaign.seed)
        check_range("the moments of the error", parts.mean**2 + parts.variance)
    parts = _with_defects(parts, campaign, layer)
    zero = np.zeros((setting.n_inputs, setting.n_outputs))
    return Prediction(
        campaign=campaign,
        method=method,
        layer=layer,
        loss=loss,
        mean=frozen(parts.mean, np.float64),
        variance=frozen(parts.variance, np.float64),
        mean_paper=None if parts.mean_paper is None else frozen(parts.mean_paper, np.float64),
        variance_paper=(
            None if parts.variance_paper is None else frozen(parts.variance_paper, np.float64)
        ),
        mean_error=frozen(zero if parts.mean_error is None else parts.mean_error, np.float64),
        variance_error=frozen(
            zero if parts.variance_error is None else parts.variance_error, np.float64
        ),
        mean_terms=_frozen(parts.mean_terms),
        mean_contributions=_frozen(parts.means),
        variance_contributions=_frozen(parts.variances),
        exact=parts.exact,
        overlaps=setting.overlaps,
        model=parts.model,
    )


def _with_defects(parts: _Parts, campaign: Campaign, layer: int | None) -> _Parts:
    """Add what the known defects of the chip do in every trial."""
    deployment = campaign.deployment
    if not deployment.is_defective:
        return parts
    setting = parts.model.setting
    values = []
    for network in (deployment.defective_network, deployment.network):
        y = network.activations(setting.inputs)[setting.depth]
        values.append(setting.head.value(y, setting.targets))
    shift = values[0] - values[1]
    return replace(
        parts,
        mean=parts.mean + shift,
        mean_terms={**parts.mean_terms, "known defects": shift},
        mean_paper=None if parts.mean_paper is None else parts.mean_paper + shift,
        model=_Shifted(model=parts.model, shift=shift),
    )


def _parts_of(setting: Setting, method: str, seed: int) -> _Parts:
    certain = any(
        len(groups.shares) > 1 and setting.probabilities[b] == 1
        for b, groups in setting.groups.items()
    )
    if certain and method != "enumeration":
        raise InputError(
            "stuck_lrs, stuck_hrs: expected less than 1 together for a prediction, got 1; every "
            "device is stuck, which a simulation shows"
        )
    loss = method == "first-order" and setting.head.loss is not None
    if setting.groups and loss:
        raise InputError(
            f'method: expected "single-fault" or "enumeration" for a loss where '
            f"{', '.join(sorted({kind + 's' for kind, _ in setting.groups}))} fail, got {method!r}"
        )
    if setting.graph is not None:
        if loss:
            return _by_corrected_loss(setting)
        effects = _graph_effects(setting, method)
        return replace(_by_effects(effects), model=GraphModel(effects=effects))
    if method == "enumeration":
        return _by_enumeration(setting)
    if setting.groups:
        return _by_groups(setting, method)
    if method == "second-order":
        return _by_curvature(setting, seed)
    if method == "mean-field":
        return _by_mean_field(setting)
    if method == "single-fault":
        return _by_effects(SingleEffects(setting=setting))
    if loss:
        return _by_corrected_loss(setting)
    return _by_effects(LinearEffects(setting=setting))


def _with_onsets(setting: Setting, method: str, probes: int | None) -> _Parts:
    """Faults that begin in a window: a site's probability is another one at each presentation."""
    if method not in ("first-order", "single-fault") or probes is not None:
        raise InputError(
            'method: expected "single-fault" or "first-order", without probes, for faults with an '
            f"onset window, whose probabilities are others at each presentation, got {method!r}"
        )
    if method == "first-order" and setting.head.loss is not None:
        raise InputError(
            'method: expected "single-fault" for a loss and faults with an onset window, got '
            f"{method!r}, which adds what pairs of faults do at constant probabilities"
        )
    parts = _parts_of(setting, method, seed=0)
    effects = parts.model.effects  # type: ignore[attr-defined]
    in_time = OnsetEffects(effects=effects)
    p = {block: rates[:, None] for block, rates in in_time.probabilities.items()}
    found = _by_effects(effects, p)
    return replace(found, exact=parts.exact, model=replace(in_time, variance=found.variance))


def _by_probes(setting: Setting, method: str, probes: int, seed: int) -> _Parts:
    """Variances by random directions or sites; what is asked later is computed without them."""
    loss = method == "first-order" and setting.head.loss is not None
    if setting.graph is None or setting.groups or loss or method not in _PROBED:
        raise InputError(
            'probes: expected none but for "first-order" of the outputs and "single-fault", and '
            f'dead neurons and synapses in a graph of layers, got {probes} for "{method}"'
            f"{' of a loss' if loss else ''}; leave it out"
        )
    effects = _graph_effects(setting, method)
    found: ProbedMoments | SampledMoments
    if isinstance(effects, GraphEffects):
        found = probed_moments(effects, probes, seed)
    else:
        found = sampled_moments(setting, probes, seed)
    return _Parts(
        mean=found.mean,
        variance=found.variance,
        means={},
        variances={},
        mean_terms={"linear": found.mean},
        model=GraphModel(effects=effects),
        exact=False,
        mean_paper=found.mean,
        mean_error=found.mean_error,
        variance_error=found.variance_error,
    )


def _by_groups(setting: Setting, method: str) -> _Parts:
    """Means and variances where groups fail, or something is stuck at a value."""
    if method not in ("first-order", "single-fault"):
        raise InputError(
            f'method: expected "single-fault", "first-order" or "enumeration" where '
            f"{', '.join(sorted({kind + 's' for kind, _ in setting.groups}))} fail, got {method!r}"
        )
    effects = GroupEffects(setting=setting, by_derivatives=method == "first-order")
    return replace(_by_effects(effects), exact=effects.exact)


def _graph_effects(setting: Setting, method: str) -> GraphEffects | GraphSingleEffects:
    """Effects in a network that is no chain of dense layers with known activations."""
    if method == "single-fault":
        return GraphSingleEffects(setting=setting)
    if method != "first-order":
        raise InputError(
            f'method: expected "single-fault" or "first-order", for method "{method}" knows only '
            f"chains of dense layers with the activations {', '.join(KNOWN)}; got a network beyond "
            "them"
        )
    return GraphEffects(setting=setting)


def _frozen(arrays: Mapping) -> Mapping:  # type: ignore[type-arg]
    return MappingProxyType({key: frozen(array, np.float64) for key, array in arrays.items()})


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What a method found, each (n_inputs, n_outputs)."""

    mean: Array
    variance: Array
    means: Mapping[Block, Array]
    variances: Mapping[Block, Array]
    mean_terms: Mapping[str, Array]
    model: Model
    exact: bool
    mean_paper: Array | None = None
    variance_paper: Array | None = None
    mean_error: Array | None = None
    variance_error: Array | None = None


def _total(parts: Mapping[Block, Array], setting: Setting) -> Array:
    return np.asarray(sum(parts.values(), np.zeros((setting.n_inputs, setting.n_outputs))))


def _by_effects(effects: Effects, rates: Mapping[Block, Array] | None = None) -> _Parts:
    """Means and variances of the sum of the effects (T1, b4).

    rates: probabilities that are others at each presentation, (n_inputs, 1).
    """
    setting = effects.setting
    p = setting.probabilities if rates is None else rates
    first, second = block_sums(effects)
    means = {block: p[block] * first[block] for block in p}
    variances = {block: p[block] * (1 - p[block]) * second[block] for block in p}
    mean, variance = _total(means, setting), _total(variances, setting)
    return _Parts(
        mean=mean,
        variance=variance,
        means=means,
        variances=variances,
        mean_terms={"linear": mean},
        exact=setting.exact,
        mean_paper=mean,
        variance_paper=_total({block: p[block] * second[block] for block in p}, setting),
        model=_Surrogate(effects=effects, variance=variance),
    )


def _by_mean_field(setting: Setting) -> _Parts:
    """The change at the mean activations, and the spread about it."""
    effects = LossEffects.of(setting, at_mean=True) if setting.head.loss else (
        LinearEffects(setting=setting, at_mean=True)
    )  # fmt: skip
    parts = _by_effects(effects)
    shift = np.concatenate([
        mean_field_change(setting, rows) for rows in setting.chunks(max(setting.widths))
    ])  # fmt: skip
    if isinstance(effects, LossEffects):
        parts = _with_pairs(parts, effects.pair_variances(), setting)
        terms = {"mean activations": shift, "curvature": effects.curvature_mean}
        parts = replace(parts, exact=effects.exact)
    else:
        terms = {"linear": parts.mean, "interaction": shift - parts.mean}
    mean = np.asarray(sum(terms.values()))
    return replace(parts, mean=mean, mean_terms=terms, mean_paper=shift)


def _by_corrected_loss(setting: Setting) -> _Parts:
    """AP9 with the curvature of the loss."""
    effects: LossEffects | GraphLossEffects
    if setting.graph is None:
        effects = LossEffects.of(setting, at_mean=False)
        plain = _by_effects(LinearEffects(setting=setting))
    else:
        effects = GraphLossEffects(setting=setting)
        plain = _by_effects(GraphEffects(setting=setting))
    parts = _with_pairs(_by_effects(effects), effects.pair_variances(), setting)
    terms = {"linear": plain.mean, "curvature": effects.curvature_mean}
    return replace(
        parts,
        exact=effects.exact,
        mean=plain.mean + terms["curvature"],
        means=plain.means,
        mean_terms=terms,
        mean_paper=plain.mean,
        variance_paper=plain.variance_paper,
    )


def _by_curvature(setting: Setting, seed: int) -> _Parts:
    check_smooth(setting)
    effects = QuadraticEffects(setting=setting)
    pairs = pair_covariance(effects, seed)
    parts = _with_pairs(_by_effects(effects), pairs.by_block, setting)
    shape = (setting.n_inputs, setting.n_outputs)
    terms = {name: np.zeros(shape) for name in ("linear", "curvature", "pairs")}
    means = {block: np.zeros(shape) for block in setting.probabilities}
    for rows in setting.chunks(setting.n_outputs * max(setting.widths)):
        for block, found in effects.means(rows).items():
            for name, part in found.items():
                terms[name][rows] += part
                means[block][rows] += part
    return replace(
        parts,
        mean=np.asarray(sum(terms.values())),
        means=means,
        mean_terms=terms,
        mean_paper=terms["linear"],
        variance_error=pairs.standard_error,
        model=_Surrogate(effects=effects, variance=parts.variance, pairs=pairs.total),
    )


def _by_enumeration(setting: Setting) -> _Parts:
    model = Enumeration(setting=setting)
    mean, variance, blocks = model.moments()
    return _Parts(
        mean=mean,
        variance=variance,
        means={block: first for block, (first, _) in blocks.items()},
        variances={block: second for block, (_, second) in blocks.items()},
        mean_terms={"all": mean},
        model=model,
        exact=True,
    )


def _with_pairs(parts: _Parts, pairs: Mapping[Block, Array], setting: Setting) -> _Parts:
    """Add what pairs of faults do to the variances."""
    assert isinstance(parts.model, _Surrogate)
    variances = {  # below 0 by rounding alone, or where a randomised estimate scatters about 0
        block: np.maximum(part + pairs[block], 0) for block, part in parts.variances.items()
    }
    variance = _total(variances, setting)
    added = _total(pairs, setting)[:, :, None]
    model = _Surrogate(effects=parts.model.effects, variance=variance, pairs=added)
    return replace(parts, variances=variances, variance=variance, model=model)
