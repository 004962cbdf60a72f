"""Exceedance: the probability of a failure on one chip, far below what plain trials can see."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import count
from typing import Literal, TypeAlias, get_args

import numpy as np
from scipy import stats

from neurosim.campaign import SPIKING_BACKENDS, Campaign
from neurosim.certification.failures import FailureKind, failure_of
from neurosim.certification.importance import InputEstimate, StoppingRule, estimate_input
from neurosim.certification.scope import require_sites
from neurosim.certification.search import BATCH
from neurosim.errors import InputError
from neurosim.executors import Executor, ThreadExecutor
from neurosim.layers import Array
from neurosim.theory.arguments import check_campaign, fraction, whole_number
from neurosim.theory.setting import Setting

__all__ = ["Exceedance", "Target", "exceedance"]

Target: TypeAlias = Literal["any_output", "outputs", "mean"]

# For a mean over inputs: batches of the first pass, and how many passes at most.
_FIRST_PASS, _PASSES = 8, 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Exceedance:
    """Failure probabilities of one chip, given the input.

    Parameters
    ----------
    epsilon : float or None
        Tolerated error in the units of the output, or rise of the loss; None for "class".
    failure : "error", "loss" or "class"
    relative_error, confidence : float
        What was asked for.
    target : "any_output", "outputs" or "mean"
    estimates : tuple of InputEstimate
        What is known of each input.
    """

    epsilon: float | None
    failure: FailureKind
    relative_error: float
    confidence: float
    target: Target
    estimates: tuple[InputEstimate, ...]

    @property
    def _rule(self) -> StoppingRule:
        return _rule(self.relative_error, self.confidence, self.target, 0)

    @cached_property
    def _all(self) -> dict[str, Array]:
        names = ("probability", "standard_error", "effective_sample_size", "impossible")
        found = {name: np.stack([getattr(e, name) for e in self.estimates]) for name in names}
        found["reached"] = np.stack([e.reached(self._rule) for e in self.estimates])
        return found

    @property
    def probability(self) -> Array:
        """P(|error| >= epsilon) of each output: (n_inputs, n_outputs); else (n_inputs, 1)."""
        return self._all["probability"][:, :-1]

    @property
    def standard_error(self) -> Array:
        """Of `probability`, of the same shape."""
        return self._all["standard_error"][:, :-1]

    @property
    def reached(self) -> Array:
        """Whether `probability` is known to the relative error wanted, of the same shape."""
        return self._all["reached"][:, :-1]

    @property
    def impossible(self) -> Array:
        """Where a failure is proven impossible, of the shape of `probability`."""
        return self._all["impossible"][:, :-1]

    @property
    def effective_sample_size(self) -> Array:
        """(sum w)^2 / sum w^2 of the failures of any output that were drawn: (n_inputs,).

        Infinite where all was enumerated. Below about 30 an estimate and its standard error are
        not to be trusted; such inputs are not `any_output_reached`.
        """
        return self._all["effective_sample_size"][:, -1]

    @property
    def any_output(self) -> Array:
        """P(max_k |error_k| >= epsilon): (n_inputs,)."""
        return self._all["probability"][:, -1]

    @property
    def any_output_standard_error(self) -> Array:
        """Of `any_output`: (n_inputs,)."""
        return self._all["standard_error"][:, -1]

    @property
    def any_output_reached(self) -> Array:
        """Whether `any_output` is known to the relative error wanted: (n_inputs,)."""
        return self._all["reached"][:, -1]

    @property
    def _averaged(self) -> Array:
        every = np.ones(len(self.estimates), np.bool_)
        return every if self.target == "mean" else self.any_output_reached

    @property
    def mean_over_inputs(self) -> float:
        """Mean of `any_output` over the inputs at which it is reached; NaN if there is none.

        With target "mean", over all inputs.
        """
        some = self._averaged
        return float(self.any_output[some].mean()) if some.any() else float("nan")

    @property
    def mean_standard_error(self) -> float:
        """Of `mean_over_inputs`."""
        errors = self.any_output_standard_error[self._averaged]
        return float(np.sqrt((errors**2).sum()) / len(errors)) if len(errors) else float("nan")

    @property
    def evaluations(self) -> Array:
        """Fault sets computed at each input, enumeration and pilots included: (n_inputs,)."""
        return np.array([estimate.evaluations for estimate in self.estimates])

    def upper_bound(self, confidence: float | None = None, guaranteed: bool = False) -> Array:
        """Upper confidence bound of `any_output`: (n_inputs,).

        Parameters
        ----------
        confidence : float, optional
            At each input by itself; by default the confidence asked for.
        guaranteed : bool
            False: value and standard error as if normally distributed, an approximation that
            rests on the effective sample size. True: the empirical Bernstein inequality with the
            largest weight possible, at every look at once; it holds whatever the laws drawn from,
            but sees little below 10 times the probability that was not enumerated by the number
            of draws.

        Raises
        ------
        InputError
            If the confidence is not between 0 and 1.

        References
        ----------
        A. Maurer and M. Pontil, Empirical Bernstein Bounds, COLT 2009, theorem 4.
        """
        chance = 1 - fraction("confidence", self.confidence if confidence is None else confidence)
        if guaranteed:
            return np.array([_guaranteed(estimate, chance) for estimate in self.estimates])
        most = np.array([e.enumerated[-1] + e.rest for e in self.estimates])
        bound = self.any_output + stats.norm.isf(chance) * self.any_output_standard_error
        return np.where(self._all["impossible"][:, -1], 0.0, np.minimum(bound, most))

    def __str__(self) -> str:
        what = {
            "error": f"P(max |error| >= {self.epsilon:g})" if self.epsilon else "",
            "loss": f"P(loss rises by >= {self.epsilon:g})" if self.epsilon else "",
            "class": "P(another class)",
        }[self.failure]
        n, reached = len(self.estimates), self.any_output_reached
        lines = [
            f"{what}: {self.mean_over_inputs:.3g} +- {self.mean_standard_error:.1g}, mean of "
            f"{int(self._averaged.sum())} of {n} inputs; at the worst {self.any_output.max():.3g}",
            f"  {int(self.evaluations.sum())} fault sets computed; impossible at "
            f"{int(self._all['impossible'][:, -1].sum())} inputs",
        ]
        if not reached.all():
            lines.append(
                f"  {n - int(reached.sum())} inputs did not reach a relative error of "
                f"{self.relative_error:g} at confidence {self.confidence:g}: too few effective "
                "failures were drawn to trust their values; raise max_evaluations"
            )
        return "\n".join(lines)


def exceedance(
    campaign: Campaign,
    epsilon: float | None = None,
    relative_error: float = 0.1,
    *,
    failure: FailureKind = "error",
    confidence: float = 0.95,
    target: Target = "any_output",
    max_evaluations: int = 100_000,
    executor: Executor | None = None,
) -> Exceedance:
    """Estimate how likely one chip fails at each input, down to 1e-8 and below.

    At one presentation permanent, transient and intermittent faults are alike: every site has
    failed with its probability. Sets of few faults are all computed; the others are drawn by
    importance sampling from a mixture of laws, each set weighted by its true probability over
    that under the mixture: unbiased, with a standard error of its own.

    Parameters
    ----------
    campaign : Campaign
        Its trials, plan and records are not used; its seed, backend and dtype are.
    epsilon : float or None
        Tolerated error, above 0, in the units of the output or of the loss; None for "class".
    relative_error : float
        Wanted half-width of the confidence interval, as a share of the value.
    failure : "error", "loss" or "class"
        |error| >= epsilon; the loss of the campaign rises by at least epsilon; the largest output
        is another one than without faults.
    confidence : float
        Of that interval.
    target : "any_output", "outputs" or "mean"
        What is to reach it: the failure of any output at each input, of each output at each
        input, or the mean over inputs of the failure of any output.
    max_evaluations : int
        Fault sets computed at one input at most (for "mean", a mean over inputs).
    executor : Executor, optional
        Who computes; threads on all cores by default. The results do not depend on it.

    Returns
    -------
    Exceedance

    Raises
    ------
    InputError
        If a value is out of range or the campaign has not what it needs.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[[[1, 1, 1]]], biases=[[0]], activations=["identity"])
    >>> campaign = ns.Campaign(
    ...     deployment=ns.deploy(network, ns.Chip.load("ideal")), trials=1, seed=1,
    ...     faults=[ns.StuckAtZero("neuron", probability=1e-4)], inputs=[[1.0, 1.0, 1.0]])
    >>> ns.exceedance(campaign, epsilon=2.5).any_output  # three faults: 1e-12
    array([1.e-12])
    """
    check_campaign(campaign)
    require_sites(campaign, "exceedance")
    if campaign.backend in SPIKING_BACKENDS:
        raise InputError(
            'campaign: expected backend "compiled" or "reference", for rare failures are not '
            f"looked for in spikes, got {campaign.backend!r}"
        )
    kind, tolerance = failure_of(campaign, failure, epsilon)
    if target not in get_args(Target):
        spelled = ", ".join(f'"{name}"' for name in get_args(Target))
        raise InputError(f"target: expected one of {spelled}, got {target!r}")
    rule = _rule(
        fraction("relative_error", relative_error),
        fraction("confidence", confidence),
        target,
        whole_number("max_evaluations", max_evaluations, 1),
    )
    work = partial(_one, campaign, kind, tolerance, Setting.of(campaign))
    pool = executor or ThreadExecutor()
    if target == "mean":
        estimates = _mean(campaign.n_inputs, rule, work, pool)
    else:
        items = [(rule, x) for x in range(campaign.n_inputs)]
        estimates = list(pool.map(work, items))
    return Exceedance(
        epsilon=None if kind == "class" else tolerance,
        failure=kind,
        relative_error=rule.relative_error,
        confidence=confidence,
        target=target,
        estimates=tuple(estimates),
    )


def _rule(relative_error: float, confidence: float, target: Target, most: int) -> StoppingRule:
    return StoppingRule(
        relative_error=relative_error,
        z=float(stats.norm.isf((1 - confidence) / 2)),
        every_cell=target == "outputs",
        most=most,
    )


def _one(
    campaign: Campaign,
    kind: FailureKind,
    epsilon: float,
    setting: Setting,
    item: tuple[StoppingRule, int],
) -> InputEstimate:
    rule, x = item
    return estimate_input(campaign, kind, epsilon, rule, x, setting)


def _mean(
    n_inputs: int,
    rule: StoppingRule,
    work: Callable[[tuple[StoppingRule, int]], InputEstimate],
    pool: Executor,
) -> list[InputEstimate]:
    """Passes over the inputs with batches where they help the mean most, until it is known.

    A pass begins anew: batches drawn before are drawn again, with the same numbers.
    """
    batches = np.full(n_inputs, _FIRST_PASS)
    for number in count(1):
        items = [(replace(rule, batches=int(b)), x) for x, b in enumerate(batches)]
        estimates = list(pool.map(work, items))
        mean = np.mean([e.probability[-1] for e in estimates])
        errors = np.array([e.standard_error[-1] for e in estimates])
        wanted = rule.relative_error * mean / rule.z * n_inputs
        if np.sqrt((errors**2).sum()) <= wanted or number == _PASSES:
            return estimates
        # Neyman allocation: batches in proportion to the spread of one.
        spread = errors * np.sqrt(batches)
        needed = 1.2 * spread * spread.sum() / wanted**2 if wanted > 0 else 4 * batches
        most = rule.most * n_inputs // 512
        needed = needed * min(1.0, most / max(needed.sum(), 1.0))
        batches = np.maximum(batches, np.ceil(needed)).astype(np.int64)
    raise AssertionError("count() ends in the loop")


def _guaranteed(estimate: InputEstimate, chance: float) -> float:
    """The empirical Bernstein bound of the failure of any cell, at whichever batch draws stopped.

    The chance is spread on all batches: where draws stop depends on those before.
    """
    most = float(estimate.enumerated[-1] + estimate.rest)
    if estimate.impossible[-1]:
        return 0.0
    n, batches = estimate.drawn, estimate.evaluations // BATCH
    if n < 2:
        return most
    log = np.log(2 * batches * (batches + 1) / chance)
    mean, square = float(estimate.mean[-1]), float(estimate.square[-1])
    variance = max(square - mean**2, 0.0) * n / (n - 1)
    slack = np.sqrt(2 * variance * log / n) + 7 * estimate.largest_weight * log / (3 * (n - 1))
    return min(most, float(estimate.enumerated[-1]) + mean + float(slack))
