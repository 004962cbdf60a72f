"""certify: how likely a chip fails, how many replicas make it safe, and what that rests on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import get_args

import numpy as np

from neurosim.campaign import Campaign
from neurosim.certification.planning import trials_to_bound
from neurosim.certification.replicas import (
    Over,
    joined,
    lost_inputs,
    mean_replicas,
    median_bound,
    median_replicas,
    vote_replicas,
)
from neurosim.certification.scope import beyond_sites
from neurosim.certification.self_check import SelfCheck, self_check
from neurosim.certification.single_chip import (
    SIMULATION,
    THEORY,
    ChipTails,
    enumerable,
    moments_tails,
    plain,
    positive,
    simulate,
    tails_by_exceedance,
    tails_by_simulation,
    tails_by_theory,
    upper_limits,
)
from neurosim.costs import Cost, cost
from neurosim.errors import InputError
from neurosim.executors import Executor
from neurosim.layers import Array
from neurosim.statistics import Statistics
from neurosim.theory.arguments import check_campaign, fraction
from neurosim.theory.tails import binomial_interval, cantelli

__all__ = ["Certificate", "MethodRow", "answers", "certify"]

# Shares of the probability, 1 - confidence, that any limit by simulation is too low.
_SHARES = {"simulation": 0.5, "exceedance": 0.25, "classes": 0.25}


@dataclass(frozen=True, kw_only=True, eq=False)
class MethodRow:
    """What one method says.

    Parameters
    ----------
    tails : ChipTails
        Failure probabilities of one chip, by input and output.
    delta_single : float
        P(max_k |Delta_k| >= epsilon) of one chip, at the worst input or averaged over inputs.
    replicas : int or None
        The smallest odd R whose component-wise median fails with probability <= delta.
    failure : float or None
        The bound of that probability at R.
    mean_replicas : int or None
        The smallest R whose mean does; None where the method cannot say, or no R will do.
    lost_inputs : ndarray of int
        Inputs that no median saves by this method: some delta_k >= 1/2.
    """

    tails: ChipTails
    delta_single: float
    replicas: int | None
    failure: float | None
    mean_replicas: int | None
    lost_inputs: Array

    @staticmethod
    def of(tails: ChipTails, delta: float, over: Over) -> MethodRow:
        """The row of a method."""
        replicas = median_replicas(tails, delta, over)
        return MethodRow(
            tails=tails,
            delta_single=joined(tails.any_output, over),
            replicas=replicas,
            failure=None if replicas is None else joined(median_bound(tails, replicas), over),
            mean_replicas=mean_replicas(tails, delta, over),
            lost_inputs=lost_inputs(tails),
        )

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.tails.method

    @property
    def guarantee(self) -> bool:
        """Whether it is a guarantee, or an approximation."""
        return self.tails.guarantee


@dataclass(frozen=True, kw_only=True, eq=False)
class Certificate:
    """What `certify` found.

    Parameters
    ----------
    campaign : Campaign
    epsilon, delta : float
        The target: P(max_k |Delta_k| >= epsilon) <= delta at one presentation.
    over : "worst" or "mean"
        At the worst of the given inputs, or averaged over them.
    confidence : float
        Of what rests on simulation.
    rows : tuple of MethodRow
        Approximations and guarantees.
    statistics : Statistics
        Of the simulation.
    changed : ndarray, shape (n_inputs,), or None
        Upper limits of the probability that one chip names another class than the golden one;
        None for networks with one output.
    vote_replicas : int or None
        The smallest odd R whose majority vote names another class with probability <= delta.
    self_check : SelfCheck or None
    """

    campaign: Campaign
    epsilon: float
    delta: float
    over: Over
    confidence: float
    rows: tuple[MethodRow, ...]
    statistics: Statistics
    changed: Array | None
    vote_replicas: int | None
    self_check: SelfCheck | None

    @cached_property
    def best(self) -> MethodRow | None:
        """The guarantee that needs the fewest replicas; None if no guarantee reaches the target."""
        able = [row for row in self.rows if row.guarantee and row.replicas is not None]
        return min(able, key=lambda row: (row.replicas, row.delta_single), default=None)

    @property
    def feasible(self) -> bool:
        """Whether a number of replicas is guaranteed to meet the target."""
        return self.best is not None and not self.refuted

    @property
    def refuted(self) -> bool:
        """Whether the self-check refutes a guarantee: then something is wrong, trust none."""
        return self.self_check is not None and any(c.guarantee for c in self.self_check.refuted)

    @property
    def replicas(self) -> int | None:
        """R, the fewest replicas whose component-wise median is guaranteed; None: infeasible."""
        return self.best.replicas if self.best is not None and self.feasible else None

    @property
    def delta_single(self) -> float:
        """The least guaranteed P(max_k |Delta_k| >= epsilon) of one chip."""
        return min(row.delta_single for row in self.rows if row.guarantee)

    @property
    def frequency(self) -> float:
        """The simulated frequency of the same, an estimate."""
        return joined(self.statistics.exceedances_any[0] / self.statistics.errors.count, self.over)

    @property
    def cores(self) -> int | None:
        """Cores of all replicas together."""
        return None if self.replicas is None else self.replicas * self.campaign.deployment.n_cores

    @property
    def cost(self) -> Cost | None:
        """What an inference on all replicas takes, as far as the profile knows."""
        if self.replicas is None:
            return None
        return cost(self.campaign.deployment, self.campaign.inputs, replicas=self.replicas)

    @property
    def biased_inputs(self) -> Array:
        """Inputs at which some simulated |E Delta_k| is above epsilon: bias no replica lowers."""
        return np.flatnonzero((np.abs(self.statistics.errors.mean) > self.epsilon).any(axis=1))

    @property
    def failing_inputs(self) -> Array:
        """Inputs at which some delta_k >= 1/2 is certain: a floor that no R lowers."""
        n, counts = self.statistics.errors.count, self.statistics.exceedances[0]
        level = (1 - self.confidence) / 2 / counts.size
        low = binomial_interval(counts, n, confidence=1 - 2 * level)[0]
        return np.flatnonzero((low >= 0.5).any(axis=1))

    def row(self, method: str) -> MethodRow:
        """The row of one method.

        Raises
        ------
        InputError
            If the certificate has no such row.
        """
        for row in self.rows:
            if row.method == method:
                return row
        raise InputError(
            f"method: expected one of {', '.join(row.method for row in self.rows)}, got {method!r}"
        )

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        target = f"P(some output is off by {self.epsilon:g} or more) <= {self.delta:g}" + (
            " at every given input" if self.over == "worst" else ", averaged over the given inputs"
        )
        if self.refuted:
            return (
                "Not certified: the simulation refutes a guarantee. Trust none of these numbers "
                "and report the case."
            )
        if self.best is None:
            return f"Not certified: {target}. {self.reason}"
        how = f"{self.best.tails.title}; rests on {self.best.tails.rests_on}"
        if self.replicas == 1:
            return f"Certified: {target} holds for one chip ({how})."
        return (
            f"Certified: {target} holds for the component-wise median of {self.replicas} chips, "
            f"{self.cores} cores in all ({how})."
        )

    @property
    def reason(self) -> str:
        """Why no guarantee reaches the target; empty if one does."""
        if self.best is not None:
            return ""
        parts = []
        biased, failing = self.biased_inputs, self.failing_inputs
        if len(biased):
            parts.append(
                f"The mean error itself is above epsilon at {_listed(biased)}: it is common to "
                "all replicas."
            )
        if len(failing):
            parts.append(
                f"One chip fails more often than not at {_listed(failing)}: no number of "
                "replicas helps there."
            )
        if not parts:
            lost = self.row(SIMULATION).lost_inputs
            parts.append(
                f"No method shows delta_k < 1/2 at {_listed(lost)}; more trials may."
                if len(lost)
                else "No method reaches it with up to 10^9 replicas."
            )
        return " ".join(parts)

    def __str__(self) -> str:
        where = "worst input" if self.over == "worst" else "mean over inputs"
        n = self.statistics.errors.count
        lines = [
            f"Target: P(max_k |error_k| >= {self.epsilon:g}) <= {self.delta:g}, {where}; "
            f"{self.campaign.n_inputs} inputs, {n} trials, confidence {self.confidence:g}",
            "",
            f"{'':42}{'one chip':>10}{'median of':>11}{'fails':>11}{'mean of':>9}   rests on",
        ]
        for row in self.rows:
            fails = "" if row.failure is None else f"{row.failure:.2e}"
            lines.append(
                f"{row.tails.title:42}{row.delta_single:10.2e}{_count(row.replicas):>11}"
                f"{fails:>11}{_count(row.mean_replicas):>9}   "
                f"{'guarantee' if row.guarantee else 'approximation'}: {row.tails.rests_on}"
            )
        lines.append(f"simulated frequency for one chip: {self.frequency:.3g}")
        if self.changed is not None:
            lines.append(
                f"another class than the golden one: P <= {joined(self.changed, self.over):.3g} "
                f"for one chip; majority vote of {_count(self.vote_replicas)} for {self.delta:g} "
                "(guarantee: simulation, as above)"
            )
        lines.append(
            f"to show P <= {self.delta:g} for one chip by plain trials without a failure: "
            f"{self._trials_for_one_chip()} trials"
        )
        if self.best is not None and len(self.best.lost_inputs):
            lines.append(f"lost to replicas (delta_k >= 1/2): {_listed(self.best.lost_inputs)}")
        if self.self_check is not None:
            lines += ["", str(self.self_check)]
        cost_lines = [] if self.cost is None else ["", str(self.cost)]
        return "\n".join([*lines, *cost_lines, "", self.verdict])

    def _trials_for_one_chip(self) -> int:
        statements = 1 if self.over == "mean" else self.campaign.n_inputs
        return trials_to_bound(self.delta, confidence=self.confidence, statements=statements)


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


def _listed(inputs: Array, most: int = 10) -> str:
    shown = ", ".join(str(int(x)) for x in inputs[:most])
    more = f" and {len(inputs) - most} more" if len(inputs) > most else ""
    return f"input{'s' if len(inputs) > 1 else ''} {shown}{more}"


def certify(
    campaign: Campaign,
    epsilon: float,
    delta: float,
    *,
    over: Over = "worst",
    confidence: float = 0.95,
    max_evaluations: int = 20_000,
    check: bool = True,
    executor: Executor | None = None,
    progress: bool = True,
) -> Certificate:
    """Say how many replicas make a failure as rare as wanted, and what the answer rests on.

    A presentation fails if some output is off by epsilon or more. Method by method: the failure
    probability delta_k(x) of one chip at each input and output, and from it the smallest odd
    number R of replicas (chips with the same weights, the same input, independent faults) whose
    component-wise median fails with probability at most delta, by the exact binomial at each
    input. Beside it the mean of R chips and, for classifiers, their majority vote. Then the
    claims are put to the test with other faults, where failures are frequent enough to be seen.

    Parameters
    ----------
    campaign : Campaign
        Its trials are simulated (float32 is enough: errors within rounding of epsilon count as
        failures); what it records is ignored.
    epsilon : float
        Tolerated error of an output, above 0, in the units of the output.
    delta : float
        Tolerated probability at one presentation, between 0 and 1/2.
    over : "worst" or "mean"
        At the worst of the given inputs; or averaged over them, E_x of the tail of each input.
    confidence : float
        With which all guarantees that rest on simulation hold, for all inputs and outputs
        together.
    max_evaluations : int
        Fault sets that `exceedance` computes at one input, at most.
    check : bool
        Whether the certificate checks itself, by as many trials again.
    executor, progress
        As in `run`.

    Returns
    -------
    Certificate

    Raises
    ------
    InputError
        If a value is out of range.

    Examples
    --------
    >>> certificate = ns.certify(campaign, epsilon=0.5, delta=1e-5)  # doctest: +SKIP
    >>> certificate.replicas, certificate.cores  # doctest: +SKIP
    """
    check_campaign(campaign)
    tolerance = positive("epsilon", epsilon)
    target = fraction("delta", delta)
    if target >= 0.5:
        raise InputError(
            f"delta: expected a probability below 1/2, got {delta!r}; at 1/2 the median of "
            "replicas is no better than one chip"
        )
    level = fraction("confidence", confidence)
    if over not in get_args(Over):
        raise InputError(f'over: expected "worst" or "mean", got {over!r}')
    simulated = plain(campaign, tolerance)
    statistics = simulate(simulated, executor, progress)
    counted = tails_by_simulation(statistics, level, share=_SHARES["simulation"])
    changed = None
    if campaign.n_outputs > 1:
        alpha = (1 - level) * _SHARES["classes"] / campaign.n_inputs
        changed = upper_limits(statistics.class_changes, statistics.errors.count, alpha)
    claims = [*answers(campaign, tolerance, statistics), counted]
    if campaign.spiking is None and beyond_sites(campaign) is None:
        share = _SHARES["exceedance"]
        claims += tails_by_exceedance(campaign, tolerance, level, share, max_evaluations, executor)
    rows = tuple(MethodRow.of(tails, target, over) for tails in claims)
    certificate = Certificate(
        campaign=campaign,
        epsilon=tolerance,
        delta=target,
        over=over,
        confidence=level,
        rows=rows,
        statistics=statistics,
        changed=changed,
        vote_replicas=None if changed is None else vote_replicas(changed, target, over),
        self_check=None,
    )
    if not check:
        return certificate
    return replace(
        certificate,
        self_check=self_check(
            simulated,
            tolerance,
            claims,
            certificate.replicas,
            statistics.exceedances_any[0] / statistics.errors.count,
            executor=executor,
            progress=progress,
        ),
    )


def answers(campaign: Campaign, epsilon: float, statistics: Statistics) -> list[ChipTails]:
    """The answers of the theory, where it knows the campaign, and of simulated moments."""
    claims = []
    if campaign.spiking is None and beyond_sites(campaign) is None:
        methods = [m for m in THEORY if m != "enumeration" or enumerable(campaign)]
        claims = [tails_by_theory(campaign, epsilon, method) for method in methods]
    simulated = moments_tails(
        method="cantelli-simulated",
        title="Cantelli, simulated moments",
        bound=partial(cantelli, epsilon=epsilon, two_sided=True),
        mean=statistics.errors.mean,
        variance=np.nan_to_num(statistics.errors.variance),
        guarantee=False,
        rests_on="simulated moments, taken for exact",
    )
    return [*claims, simulated]
