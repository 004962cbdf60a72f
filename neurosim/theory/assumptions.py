"""check_assumptions: whether a campaign meets what the theory asks, and which method to trust."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log2
from typing import TYPE_CHECKING

import numpy as np

from neurosim.errors import InputError
from neurosim.layers import Array, Conv2D, Dense, Layer, MaxPool2D
from neurosim.theory.arguments import check_campaign, whole_number
from neurosim.theory.continuity import balance, kernel_smoothness, smoothness
from neurosim.theory.effects import Effects, block_sums
from neurosim.theory.first_order import LinearEffects
from neurosim.theory.graph_effects import GraphEffects, GraphSingleEffects
from neurosim.theory.group_effects import GroupEffects
from neurosim.theory.mean_field import mean_field_change
from neurosim.theory.sampled_sites import sampled_moments
from neurosim.theory.second_order import QuadraticEffects, check_smooth
from neurosim.theory.setting import Block, Setting, is_linear
from neurosim.theory.single_fault import SingleEffects

if TYPE_CHECKING:
    from neurosim.campaign import Campaign

__all__ = ["Assumption", "Assumptions", "check_assumptions"]

HOLDS, FAILS, UNKNOWN = "holds", "fails", "unknown"

# What counts as small: a term beside the standard deviation, a relative difference of variances.
_SMALL = 0.1
# Multiplications that the exact effects of single faults may take; about 10 s.
_MOST_WORK = 1e10
# The same for a sample of sites; how many sites it has.
_MOST_SAMPLED_WORK, _FEWEST_SAMPLES, _MOST_SAMPLES = 4e10, 50, 1000


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """One thing that the theory asks of a campaign.

    Parameters
    ----------
    name : str
        For instance "A1".
    verdict : str
        "holds", "fails" or "unknown".
    figure : float or None
        What was measured.
    statement : str
        What is asked, and what the figure is.
    """

    name: str
    verdict: str
    figure: float | None
    statement: str

    def __str__(self) -> str:
        figure = "-" if self.figure is None else f"{self.figure:.3g}"
        return f"{self.name:14}{self.verdict:9}{figure:>10}  {self.statement}"


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What `check_assumptions` found.

    Parameters
    ----------
    entries : tuple of Assumption
    method : str
        The method of `predict` to use.
    advice : str
        Why, in words.
    """

    entries: tuple[Assumption, ...]
    method: str
    advice: str

    def __getitem__(self, name: str) -> Assumption:
        for entry in self.entries:
            if entry.name == name:
                return entry
        names = ", ".join(entry.name for entry in self.entries)
        raise InputError(f"name: expected one of {names}, got {name!r}")

    def __iter__(self) -> Iterator[Assumption]:
        return iter(self.entries)

    def __str__(self) -> str:
        head = "Assumptions of the theory (A1, A2, AA1, A3 of arXiv 1902.01686):"
        return "\n".join([head, *(f"  {e}" for e in self.entries), f"  {self.advice}"])


def check_assumptions(campaign: Campaign, inputs: int = 8) -> Assumptions:
    """Check what the theory asks of a network and its faults, one by one, with figures.

    A1 small probabilities, A2 wide layers, AA1 balanced weights, A3 a continuous limit, smooth and
    1-Lipschitz activations, T1's remainder of order (p + 1/n)^3 below p/n; then how far T1 is from
    b4, the second-order and the mean-field terms, on some inputs. What data cannot tell (the
    derivatives D12 of the continuous limit) is "unknown".

    Parameters
    ----------
    campaign : Campaign
    inputs : int
        On how many inputs, evenly spaced, the methods are compared.

    Returns
    -------
    Assumptions
        Printed, it says which method of `predict` to trust.

    Raises
    ------
    InputError
        If inputs is not a whole number from 1 on.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[[[1, 1]]], biases=[[0]], activations=["identity"])
    >>> campaign = ns.Campaign(
    ...     deployment=ns.deploy(network, ns.Chip.load("ideal")), inputs=[[1.0, 2.0]],
    ...     faults=[ns.StuckAtZero("neuron", probability=1e-3)], trials=1, seed=0)
    >>> ns.check_assumptions(campaign)["A2"].verdict
    'fails'
    """
    check_campaign(campaign)
    setting = _some_inputs(Setting.of(campaign, onsets=True), whole_number("inputs", inputs, 1))
    with np.errstate(over="ignore", invalid="ignore"):  # what is no number is "unknown"
        terms = _terms(setting)
    entries = (*_about_the_network(setting), *terms)
    method, advice = _advice(setting, {entry.name: entry for entry in terms})
    return Assumptions(entries=entries, method=method, advice=advice)


def _some_inputs(setting: Setting, number: int) -> Setting:
    """The same with at most some of its inputs, evenly spaced."""
    last = setting.n_inputs - 1
    chosen = np.unique(np.linspace(0, last, min(number, last + 1)).astype(np.int64))
    return replace(setting, inputs=setting.inputs[chosen])


def _entry(name: str, figure: float | None, statement: str, holds: float, fails: float,
           small: bool = True) -> Assumption:  # fmt: skip
    """Judge a figure that should be small (or large): holds up to one limit, fails from another."""
    if figure is None:
        verdict = UNKNOWN
    elif (figure <= holds) if small else (figure >= holds):
        verdict = HOLDS
    elif (figure >= fails) if small else (figure <= fails):
        verdict = FAILS
    else:
        verdict = UNKNOWN
    return Assumption(name=name, verdict=verdict, figure=figure, statement=statement)


def _about_the_network(setting: Setting) -> list[Assumption]:
    p = max(setting.probabilities.values(), default=0.0)
    low = min((n - (kind != "neuron") for kind, n in setting.probabilities), default=0)
    n = min(setting.widths[low : setting.depth])
    parts = _layers_behind(setting, low)
    behind = [part.activation for part in parts if not is_linear(part.activation)]
    kinks = [str(a) for a in behind if not a.smooth]
    kinks += ["max-pool" for part in parts if isinstance(part, MaxPool2D)]
    every = _layers_behind(setting, 0)
    steepest = max((part.activation.lipschitz for part in every), default=1.0)
    rough = max(
        (_roughness(layer) for layer in setting.layers[:-1] if layer.weight.any()),
        default=None,
    )
    r = p + 1 / n
    balances = [q for q in (_balance(setting, b) for b in setting.probabilities) if q is not None]
    return [
        _entry("A1", p, "largest fault probability, at most 1e-3", 1e-3, 1e-3),
        _entry("A2", float(n), "narrowest layer that fails or lies behind, at least 100",
               100, 99, small=False),
        _entry("AA1", min(balances, default=None),
               "least balance q of the weights of failing layers, at least 0.01",
               0.01, 0.01, small=False),
        _entry("A3", rough,
               "mean step between neighbouring hidden weights beside |W|; falls as 1/n in a limit",
               _SMALL, 1.0),
        Assumption(
            name="smooth",
            verdict=FAILS if kinks else HOLDS,
            figure=None,
            statement=f"no kinks behind the faults: {', '.join(sorted(set(kinks))) or 'none'}"
            + ("; derivatives do not see them" if kinks else ""),
        ),
        _entry("Lipschitz", steepest, "steepest activation, at most 1 (bounds take the factor in)",
               1.0, 1.0),
        _entry("remainder", r**3 / (p / n) if p else 0.0,
               "T1's remainder (p + 1/n)^3 beside p/n, but for the factor D12, which is unknown",
               _SMALL, 1.0),
    ]  # fmt: skip


def _layers_behind(setting: Setting, low: int) -> list[Layer]:
    """What follows layer low, with and without weights."""
    if setting.graph is None:
        return list(setting.layers[low:])
    return [node.layer for node in setting.graph.nodes[setting.graph.weighted[low] :]]


def _roughness(layer: Dense | Conv2D) -> float:
    """Mean step between neighbouring neurons or inputs beside the mean |W|: about 1.4 at random.

    Of a convolution between neighbouring elements of its kernels: 2 / size or more.
    """
    weight = layer.weight
    if isinstance(layer, Conv2D):
        return kernel_smoothness(weight).step
    smooth = smoothness(weight)
    steps = max(smooth.c1, smooth.c2 * weight.shape[0] / weight.shape[1])
    return steps / float(np.abs(weight).sum())


def _balance(setting: Setting, block: Block) -> float | None:
    """What the failing neurons receive (P3); of the inputs, what they send. None for 0 / 0."""
    number = block[1]
    layer = setting.layers[max(number, 1) - 1]
    weight = layer.weight.reshape(layer.matrix_shape)
    if not weight.any():
        return None
    return balance(weight.T if number == 0 else weight)


def _terms(setting: Setting) -> list[Assumption]:
    """Distances between the methods, each where nine of ten cells lie below."""
    if not setting.probabilities:
        return []
    if setting.graph is not None:
        return _graph_terms(setting)
    if setting.groups:
        return _terms_of_groups(setting)
    first = LinearEffects(setting=setting)
    mean, variance = _moments(first)
    deviation = np.sqrt(variance)
    near: float | None = None
    affordable = int(_MOST_WORK / _work(setting))
    if affordable:
        few = _some_inputs(setting, affordable)
        exact = _moments(SingleEffects(setting=few))[1]
        near = _gap(exact, _moments(LinearEffects(setting=few))[1])
    curved: float | None = None
    try:
        check_smooth(setting)
    except InputError:
        pass
    else:
        whole = slice(0, setting.n_inputs)
        found = QuadraticEffects(setting=setting).means(whole)
        second = sum(part["curvature"] + part["pairs"] for part in found.values())
        curved = _share(np.abs(np.asarray(second)), deviation)
    at_mean = LinearEffects(setting=setting, at_mean=True)
    shifted = _share(np.abs(mean_field_change(setting, slice(None)) - mean), deviation)
    spread = _gap(_moments(at_mean)[1], variance)
    return [
        _entry("T1 near b4", near, "relative difference of their variances", _SMALL, _SMALL),
        _entry("second order", curved, "second-order part of the mean, in standard deviations",
               _SMALL, _SMALL),
        _entry("mean field", float(np.maximum(shifted, spread)),
               "what the mean activations change: of the mean in standard deviations, of the "
               "variance relatively", _SMALL, _SMALL),
    ]  # fmt: skip


def _terms_of_groups(setting: Setting) -> list[Assumption]:
    """The same where rows, columns, cores or links fail, which two of the methods do not know."""
    derived, exact = (
        _moments(GroupEffects(setting=setting, by_derivatives=flag))[1] for flag in (True, False)
    )
    statement = 'not known where groups fail together: "single-fault" and "first-order" only'
    return [
        _entry("T1 near b4", _gap(exact, derived), "relative difference of their variances",
               _SMALL, _SMALL),
        _entry("second order", None, statement, _SMALL, _SMALL),
        _entry("mean field", None, statement, _SMALL, _SMALL),
    ]  # fmt: skip


def _graph_terms(setting: Setting) -> list[Assumption]:
    """The same for a graph of layers, of which only the first two methods are known."""
    statement = "relative difference of their variances"
    work = _work(setting)
    affordable = int(_MOST_WORK / work)
    if affordable:
        few = _some_inputs(setting, affordable)
        exact = _moments(GraphSingleEffects(setting=few))[1]
        near = _gap(exact, _moments(GraphEffects(setting=few))[1])
        first = _entry("T1 near b4", near, statement, _SMALL, _SMALL)
    else:
        n_sites = sum(setting.n_sites(block) for block in setting.probabilities)
        first = _sampled_term(setting, int(_MOST_SAMPLED_WORK * n_sites / work), statement)
    return [
        first,
        _entry("second order", None, "known for chains of dense layers only", _SMALL, _SMALL),
        _entry("mean field", None, "known for chains of dense layers only", _SMALL, _SMALL),
    ]


def _sampled_term(setting: Setting, samples: int, statement: str) -> Assumption:
    """How far T1 is from b4 by a sample of sites at one input: unknown within two errors of 0.1."""
    if samples < _FEWEST_SAMPLES:
        return _entry("T1 near b4", None, statement, _SMALL, _SMALL)
    few = _some_inputs(setting, 1)
    found = sampled_moments(few, min(samples, _MOST_SAMPLES), seed=0)
    near = _gap(found.variance, _moments(GraphEffects(setting=few))[1])
    margin = 2 * _share(found.variance_error, found.variance)
    return _entry("T1 near b4", near, f"{statement}, +- {margin / 2:.2g} by a sample of sites",
                  _SMALL - margin, _SMALL + margin)  # fmt: skip


def _moments(effects: Effects) -> tuple[Array, Array]:
    p = effects.setting.probabilities
    first, second = block_sums(effects)
    mean = sum(p[block] * part for block, part in first.items())
    variance = sum(p[block] * (1 - p[block]) * part for block, part in second.items())
    return np.asarray(mean), np.asarray(variance)


def _share(part: Array, whole: Array) -> float:
    """The ratio that nine of ten cells stay below; infinite where only the whole is 0."""
    ratio = np.divide(part, whole, out=np.where(part > 0, np.inf, 0.0), where=whole > 0)
    return float(np.quantile(ratio, 0.9, method="higher"))


def _gap(variance: Array, reference: Array) -> float:
    return _share(np.abs(variance - reference), np.minimum(variance, reference))


def _work(setting: Setting) -> float:
    """Multiplications that the exact effects of all single faults take for one input, about."""
    widths = setting.widths
    if setting.graph is not None:
        n_sites = sum(setting.n_sites(block) for block in setting.probabilities)
        passes = sum(
            layer.weight.size * (width // len(layer.weight))
            for layer, width in zip(setting.layers, widths[1:], strict=True)
        )
        return float(n_sites * passes)
    total = 0.0
    for kind, number in setting.probabilities:
        behind = sum(
            a * b for a, b in zip(widths[number + 1 :], widths[number + 2 :], strict=False)
        )
        nxt = widths[number + 1] if number < setting.depth else 1
        total += setting.n_sites((kind, number)) * (behind + 4 * nxt)
    return total


def _advice(setting: Setting, terms: dict[str, Assumption]) -> tuple[str, str]:
    if not setting.probabilities:
        return "first-order", "Nothing fails."
    states = {b: len(groups.shares) for b, groups in setting.groups.items()}
    sites = {b: setting.n_sites(b) // states.get(b, 1) for b in setting.probabilities}
    n_sites = sum(sites.values())
    bits = sum(n * log2(1 + states.get(b, 1)) for b, n in sites.items())
    if setting.exact:
        return "first-order", (
            'The output is linear in these faults: "first-order" and "single-fault" are exact.'
        )
    if bits <= 20 and setting.graph is None:
        return "enumeration", f'With {n_sites} sites "enumeration" is exact: use it.'
    if terms["T1 near b4"].verdict == UNKNOWN:
        return "single-fault", (
            '"first-order" (T1) was not set beside "single-fault" (b4), which takes long here: '
            "compare both with a simulation."
        )
    near = terms["T1 near b4"].verdict == HOLDS
    if setting.groups:
        return "single-fault", (
            'Trust "single-fault" (b4) as faults become rare: each part of the chip '
            "enters with the change that it makes alone."
        )
    bent = terms["second order"].verdict == FAILS
    moved = terms["mean field"].verdict == FAILS
    if near and not bent and not moved:
        return "first-order", 'Trust "first-order" (T1): the other methods say the same.'
    if near and moved:
        return "mean-field", (
            'Single faults are small, many together are not: trust "mean-field", not "first-order".'
        )
    if moved or bent:
        return "single-fault", (
            'Do not trust "first-order" (T1). "single-fault" (b4) is right as faults become rare, '
            "but here several at once matter too: believe the simulation."
        )
    return "single-fault", (
        'Do not trust "first-order" (T1): one fault is no small change. Trust "single-fault" (b4).'
    )
