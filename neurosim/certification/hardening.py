"""harden: which neurons or cores to protect or duplicate under a budget, and what it gains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

import numpy as np

from neurosim.campaign import Campaign
from neurosim.certification.contributions import Contributions, Method, contributions_of
from neurosim.certification.outcomes import Outcome, outcome_of
from neurosim.certification.protection import (
    most_important,
    protected_sites,
    site_numbers,
    without,
)
from neurosim.certification.scope import require_formulas
from neurosim.certification.single_chip import positive
from neurosim.deployment import deploy
from neurosim.errors import InputError
from neurosim.executors import Executor
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.theory import predict
from neurosim.theory.arguments import check_campaign, whole_number
from neurosim.theory.continuity import copies_by_importance, duplicate

__all__ = ["Hardening", "Variant", "harden"]

Action: TypeAlias = Literal["duplicate", "protect"]
Unit: TypeAlias = Literal["neurons", "cores"]
By: TypeAlias = Literal["variance", "failures"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Variant:
    """One way of spending the budget.

    Parameters
    ----------
    name : str
    neurons, cores : int
        Neurons of layers 1..L, and cores, of the chip.
    predicted : dict of method to float
        Variance of the error: mean over inputs, summed over outputs.
    simulated : Outcome or None
    """

    name: str
    neurons: int
    cores: int
    predicted: dict[Method, float]
    simulated: Outcome | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Hardening:
    """What `harden` found.

    Parameters
    ----------
    campaign : Campaign
        As it was given.
    budget : int
    unit : "neurons" or "cores"
    action : "duplicate" or "protect"
    by : "variance" or "failures"
        What the choice is to lower.
    method : "first-order" or "single-fault"
        Whose contributions the choice goes by.
    contributions : Contributions
        Of the campaign as it was given.
    network : Network
        The network to deploy: with its copies, or as it was.
    copies : tuple of ndarray
        How many neurons stand for each neuron of the hidden layers 1..L-1; all 1 for "protect".
    protected_neurons : ndarray of int, shape (n, 2)
        (layer, unit) of neurons to protect, with the synapses into them; most important first.
    protected_cores : ndarray of int
        Cores to protect, most important first.
    variants : tuple of Variant
        As it is; for "duplicate" the same budget spent evenly; the best choice, last.
    """

    campaign: Campaign
    budget: int
    unit: Unit
    action: Action
    by: By
    method: Method
    contributions: Contributions
    network: Network
    copies: tuple[Array, ...]
    protected_neurons: Array
    protected_cores: Array
    variants: tuple[Variant, ...]

    @property
    def best(self) -> Variant:
        """The best choice."""
        return self.variants[-1]

    def predicted_gain(self, over: str = "as it is", method: Method = "single-fault") -> float:
        """By how much the best choice lowers the predicted variance, against another variant."""
        before, after = self.variant(over).predicted[method], self.best.predicted[method]
        return before / after if after else float("inf")

    def simulated_gain(self, over: str = "as it is") -> tuple[float, float]:
        """The same of the simulated variance, with its standard error.

        Raises
        ------
        InputError
            If nothing was simulated.
        """
        before, after = self.variant(over).simulated, self.best.simulated
        if before is None or after is None:
            raise InputError("simulated_gain: expected simulate=True in harden, got none simulated")
        return after.gain_over(before)

    def variant(self, name: str) -> Variant:
        """A variant by its name.

        Raises
        ------
        InputError
            If there is none of that name.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        names = ", ".join(repr(variant.name) for variant in self.variants)
        raise InputError(f"variant: expected one of {names}, got {name!r}")

    def __str__(self) -> str:
        many = self.unit if self.budget != 1 else self.unit[:-1]
        if self.action == "protect":
            spent = f"{self.budget} {many} protected"
        elif self.unit == "neurons":
            spent = f"{self.budget} more {many}"
        else:
            spent = f"copies of neurons within {self.budget} more {many}"
        why = (
            f"{self.method} contributions to the variance"
            if self.by == "variance"
            else "contributions of single faults to failures"
        )
        lines = [
            f"{spent}, chosen by the {why}",
            f"first-order and single-fault contributions of neurons correlate by "
            f"{self.contributions.agreement():.3f}",
            "",
            *self._choice(),
            "",
            f"{'variance (sum over outputs)':28}{'neurons':>8}{'cores':>7}{'first-order':>13}"
            f"{'single-fault':>14}{'simulated':>22}{self._epsilon_head()}",
        ]
        for variant in self.variants:
            row = (
                f"{variant.name:28}{variant.neurons:8}{variant.cores:7}"
                f"{variant.predicted['first-order']:13.3e}"
                f"{variant.predicted['single-fault']:14.3e}"
            )
            seen = variant.simulated
            if seen is not None:
                row += f"{f'{seen.variance:.3e} +- {seen.variance_error:.0e}':>22}"
                if self.contributions.epsilon is not None:
                    rate = f"{seen.failure:.3e} +- {seen.failure_error:.0e}"
                    row += f"{rate if seen.failure else 'none seen':>24}"
            lines.append(row)
        lines.append("")
        for variant in self.variants[:-1]:
            gain = self.predicted_gain(variant.name)
            words = f"against {variant.name!r}: predicted gain {gain:.3g}"
            if self.best.simulated is not None:
                gain, error = self.simulated_gain(variant.name)
                words += f", simulated {gain:.3g} +- {error:.1g}"
            lines.append(words)
        return "\n".join(lines)

    def _epsilon_head(self) -> str:
        epsilon = self.contributions.epsilon
        simulated = self.best.simulated is not None
        return f"{f'P(any off by {epsilon:g})':>24}" if epsilon is not None and simulated else ""

    def _choice(self, most: int = 10) -> list[str]:
        if self.action == "duplicate":
            return [
                f"layer {layer}: {int(k.sum())} neurons for {len(k)}"
                + "".join(
                    f"{', ' if n else '; most copies: '}neuron {i} x {k[i]}"
                    for n, i in enumerate(np.argsort(-k, kind="stable")[:5])
                    if k[i] > 1
                )
                for layer, k in enumerate(self.copies, start=1)
            ]
        if self.unit == "cores":
            return ["cores: " + ", ".join(str(core) for core in self.protected_cores[:most])]
        chosen = [f"{layer}:{unit}" for layer, unit in self.protected_neurons[:most]]
        rest = len(self.protected_neurons) - len(chosen)
        return [
            "neurons (layer:number): " + ", ".join(chosen) + (f" and {rest} more" if rest else "")
        ]


def harden(
    campaign: Campaign,
    *,
    budget: int,
    unit: Unit = "neurons",
    action: Action = "duplicate",
    by: By = "variance",
    epsilon: float | None = None,
    method: Method = "first-order",
    simulate: bool = True,
    executor: Executor | None = None,
) -> Hardening:
    """Choose what to duplicate or protect under a budget, and compare with an even choice.

    Every site adds p (1 - p) g^2 to the variance of the error (T1), so a neuron with its incoming
    synapses, or a core, adds the sum of its sites. To protect: those that add most. To duplicate:
    k copies of a neuron, each with a k-th of its outgoing weights, add a k-th of what it added; so
    copies in proportion to |g_i|, over data sqrt(E_x g_i^2), lower the variance most (exactly the
    best whole numbers for faults of neurons; where synapses fail too, a good choice).

    Parameters
    ----------
    campaign : Campaign
        Its trials are simulated for every variant.
    budget : int
        Neurons or cores to add (duplicate) or to protect.
    unit : "neurons" or "cores"
    action : "duplicate" or "protect"
        A protected neuron never fails, nor do the synapses into it; nor anything on a protected
        core. Copies are of neurons of hidden layers.
    by : "variance" or "failures"
        What to protect by: contributions to the variance, or to P(max_k |Delta_k| >= epsilon) of
        single faults (needs an epsilon). Copies go by the variance.
    epsilon : float, optional
        Failures are counted, too, with this threshold.
    method : "first-order" or "single-fault"
        Whose contributions to the variance are taken: g, or the exact effect d of each site
        alone, which differs where one removal is no small change.
    simulate : bool
        Whether the variants are simulated.
    executor
        As in `run`.

    Returns
    -------
    Hardening

    Raises
    ------
    InputError
        If a value is out of range, or nothing that could be chosen contributes.
    DeploymentError
        If the copies do not fit on the chip.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[[[1.0], [1.0]], [[1.0, 3.0]]], biases=[[0, 0], [0]],
    ...                            activations=["identity", "identity"])
    >>> campaign = ns.Campaign(
    ...     deployment=ns.deploy(network, ns.Chip.load("ideal")), inputs=[[1.0]], trials=100,
    ...     faults=[ns.StuckAtZero("neuron", probability=0.1, layers=[1])], seed=0)
    >>> hardening = ns.harden(campaign, budget=2, simulate=False)
    >>> hardening.copies  # 1 : 3
    (array([1, 3]),)
    >>> round(hardening.predicted_gain(over="evenly"), 3)
    1.25
    """
    check_campaign(campaign)
    require_formulas(campaign, "harden")
    spent = whole_number("budget", budget, 1)
    for name, value, allowed in (
        ("unit", unit, Unit),
        ("action", action, Action),
        ("by", by, By),
        ("method", method, Method),
    ):
        if value not in get_args(allowed):
            spelled = ", ".join(f'"{a}"' for a in get_args(allowed))
            raise InputError(f"{name}: expected one of {spelled}, got {value!r}")
    tolerance = None if epsilon is None else positive("epsilon", epsilon)
    if by == "failures" and (tolerance is None or action == "duplicate"):
        raise InputError(
            'by: expected "failures" with an epsilon and action "protect" only, got '
            f"epsilon={epsilon!r} and action={action!r}; copies go by the variance"
        )
    found = contributions_of(campaign, tolerance)
    as_it_is = Variant(
        name="as it is",
        neurons=sum(campaign.network.widths[1:]),
        cores=campaign.deployment.n_cores,
        predicted={m: found.total(m) for m in found.sites},
        simulated=outcome_of(campaign, tolerance, executor=executor) if simulate else None,
    )
    variants = [as_it_is]
    copies = [np.ones(n, np.int64) for n in campaign.network.widths[1:-1]]
    neurons, cores = np.empty((0, 2), np.int64), np.empty(0, np.int64)
    network = campaign.network
    if action == "protect":
        neurons, cores = most_important(found, spent, unit, method, by == "failures")
        sites = protected_sites(campaign, neurons, cores)
        outcome = None
        if simulate:
            outcome = outcome_of(
                campaign, tolerance, *site_numbers(campaign, sites), executor=executor
            )
        left = without(found.sites, sites)
        variants.append(replace(as_it_is, name="best", predicted=left, simulated=outcome))
    else:
        importance = _importance(found, method)
        even = [np.ones_like(part) for part in importance]
        for name, weights in (("evenly", even), ("best", importance)):
            copies = _copies(campaign, weights, spent, unit)
            changed = with_copies(campaign, copies)
            network = changed.network
            variants.append(
                Variant(
                    name=name,
                    neurons=sum(network.widths[1:]),
                    cores=changed.deployment.n_cores,
                    predicted=_predicted(changed),
                    simulated=outcome_of(changed, tolerance, executor=executor)
                    if simulate
                    else None,
                )
            )
    return Hardening(
        campaign=campaign,
        budget=spent,
        unit=unit,
        action=action,
        by=by,
        method=method,
        contributions=found,
        network=network,
        copies=tuple(copies),
        protected_neurons=neurons,
        protected_cores=cores,
        variants=tuple(variants),
    )


def _predicted(campaign: Campaign) -> dict[Method, float]:
    methods: tuple[Method, ...] = ("first-order", "single-fault")
    return {m: float(predict(campaign, m).variance.sum(axis=1).mean()) for m in methods}


def with_copies(campaign: Campaign, copies: list[Array]) -> Campaign:
    """The campaign on the network with so many copies of each hidden neuron."""
    network = campaign.network
    for layer, k in enumerate(copies, start=1):
        network = duplicate(network, layer, k)
    return replace(campaign, deployment=deploy(network, campaign.deployment.chip))


def _importance(found: Contributions, method: Method) -> list[Array]:
    """|g_i| sqrt(p (1 - p)) of the neurons of each hidden layer, synapses of both sides added."""
    widths = found.campaign.network.widths
    if len(widths) < 3:
        raise InputError(
            "action: expected a network with a hidden layer to duplicate, got one without; "
            'choose "protect"'
        )
    variance = [part.copy() for part in found.neurons[method]]
    for (kind, layer), values in found.sites[method].items():
        if kind == "synapse":
            variance[layer - 1] += values.reshape(widths[layer], -1).sum(axis=0)
    importance = [np.sqrt(part) for part in variance[1:-1]]
    if not any(part.any() for part in importance):
        raise InputError(
            "campaign: expected faults of hidden neurons or their synapses to duplicate against, "
            'got none that matter; choose "protect"'
        )
    return importance


def _copies(campaign: Campaign, importance: list[Array], budget: int, unit: Unit) -> list[Array]:
    """Copies of the neurons of each hidden layer, with so many more neurons or cores."""
    ends = np.cumsum([len(part) for part in importance])
    everything = np.concatenate(importance)

    def spend(neurons: int) -> list[Array]:
        return np.split(copies_by_importance(everything, len(everything) + neurons), ends[:-1])

    if unit == "neurons":
        return spend(budget)
    allowed = campaign.deployment.n_cores + budget
    network, chip = campaign.network, campaign.deployment.chip
    rows, columns = chip.rows, chip.columns
    if rows is None or columns is None:
        raise InputError(
            f"unit: expected a chip with cores of a size to count in cores, got {chip.name}, "
            'whose cores are unlimited; choose "neurons"'
        )

    def fits(neurons: int) -> bool:
        widths = [network.widths[0], *(int(k.sum()) for k in spend(neurons)), network.widths[-1]]
        cores = sum(-(-n // rows) * -(-m // columns) for n, m in pairwise(widths))
        return cores <= allowed

    # Copies are given one by one, so that the number of cores never falls with that of neurons.
    most = 1
    while fits(most):
        most *= 2
    low = 0
    while most - low > 1:
        middle = (low + most) // 2
        low, most = (middle, most) if fits(middle) else (low, middle)
    if not low:
        raise InputError(
            f"budget: expected enough cores for one more neuron, got {budget}; the cores in use "
            "are full"
        )
    return spend(low)
