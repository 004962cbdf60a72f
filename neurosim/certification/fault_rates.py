"""largest_probability: how often the sites of a chip may fail before it misses its target."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np

from neurosim.campaign import Campaign
from neurosim.certification.planning import trials_to_bound
from neurosim.certification.replicas import Over, joined, median_bound
from neurosim.certification.scope import require_sites
from neurosim.certification.single_chip import (
    EXCEEDANCE,
    EXCEEDANCE_GUARANTEED,
    SIMULATION,
    THEORY,
    ChipTails,
    plain,
    positive,
    simulate,
    tails_by_exceedance,
    tails_by_simulation,
    tails_by_theory,
    upper_limits,
)
from neurosim.errors import InputError
from neurosim.executors import Executor
from neurosim.faults import Intermittent
from neurosim.layers import Array
from neurosim.sampling import PlainMonteCarlo
from neurosim.theory.arguments import check_campaign, fraction, whole_number
from neurosim.theory.tails import median_failure

__all__ = ["LargestProbability", "largest_probability"]

# Rates are tried from 2^-40 of the given ones on; fewer trials of a rate than this are needed.
_LEAST_FACTOR = 2.0**-40
_MOST_EVALUATIONS = 100
_METHODS = (SIMULATION, EXCEEDANCE, EXCEEDANCE_GUARANTEED, *THEORY)


@dataclass(frozen=True, kw_only=True, eq=False)
class LargestProbability:
    """What `largest_probability` found.

    Parameters
    ----------
    campaign : Campaign
        As it was given.
    epsilon, delta : float
    replicas : int
        The median of so many chips is meant; 1: a single chip.
    over : "worst" or "mean"
    factor : float
        By which every fault probability of the campaign may be multiplied.
    probabilities : tuple of float
        The largest fault probabilities, one a process: factor times those given.
    failure : float
        The failure probability (or its bound) there, at most delta.
    tails : ChipTails
        Failure probabilities of one chip there, and what they rest on.
    limited : bool
        Whether a larger rate misses the target; False: the largest rate there can be meets it.
    evaluations : int
        Rates that were tried.
    """

    campaign: Campaign
    epsilon: float
    delta: float
    replicas: int
    over: Over
    factor: float
    probabilities: tuple[float, ...]
    failure: float
    tails: ChipTails
    limited: bool
    evaluations: int

    @property
    def probability(self) -> float:
        """The largest fault probability of the first process."""
        return self.probabilities[0]

    def __str__(self) -> str:
        who = "one chip" if self.replicas == 1 else f"the median of {self.replicas} chips"
        where = "at the worst input" if self.over == "worst" else "averaged over inputs"
        status = "guarantee" if self.tails.guarantee else "approximation"
        lines = [
            f"{who} is off by {self.epsilon:g} or more with probability <= {self.delta:g} {where} "
            f"up to {self.factor:.4g} times the given fault rates",
        ]
        lines += [
            f"  {process}: up to p = {p:.4g}"
            for process, p in zip(self.campaign.faults, self.probabilities, strict=True)
        ]
        lines.append(
            f"  {status} ({self.tails.title}): rests on {self.tails.rests_on}; "
            f"failure there {self.failure:.3g}"
        )
        if not self.limited:
            lines.append("  no larger rate exists: every rate meets the target")
        return "\n".join(lines)


def largest_probability(
    campaign: Campaign,
    epsilon: float,
    delta: float,
    *,
    replicas: int = 1,
    over: Over = "worst",
    method: str = SIMULATION,
    confidence: float = 0.95,
    precision: float = 0.02,
    executor: Executor | None = None,
    progress: bool = False,
) -> LargestProbability:
    """Find the fault rate a chip may have: where P(max_k |Delta_k| >= epsilon) reaches delta.

    All fault probabilities of the campaign are multiplied by one factor. It is doubled or halved
    until the target is between two rates, then bisected; "simulation" draws its trials in the
    bisection at the larger of the two rates and thins them (common random numbers), so that what
    differs between rates is the rate, not the luck.

    The answer is the first crossing seen. Failures grow with the rate as long as faults are rare;
    where they do not, as when everything is dead, larger rates may meet the target again.

    Parameters
    ----------
    campaign : Campaign
        Its fault processes give the proportions of the probabilities.
    epsilon : float
        Tolerated error of an output, above 0.
    delta : float
        Tolerated probability at one presentation, between 0 and 1/2.
    replicas : int
        R, odd: of the component-wise median of R chips; 1: of one chip.
    over : "worst" or "mean"
        At the worst of the given inputs, or averaged over them.
    method : str
        "simulation": upper confidence limits, a guarantee with the confidence; "exceedance": for
        rare failures, an approximation; "exceedance-guaranteed": its guarantee; "variance-bound",
        "bernstein": rigorous bounds, guarantees; "enumeration": exact, at most 20 sites;
        "chebyshev-first-order", "cantelli-single-fault": approximations.
    confidence : float
        For methods that simulate, whatever number of rates is tried.
    precision : float
        The answer is at most this much, relatively, below the crossing.
    executor, progress
        As in `run`.

    Returns
    -------
    LargestProbability

    Raises
    ------
    InputError
        If a value is out of range, no process has a probability above 0, the trials are too few
        to show the target even without a failure, or no rate down to 1e-12 of those given meets
        the target by this method.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[[[1, 1]]], biases=[[0]], activations=["identity"])
    >>> campaign = ns.Campaign(
    ...     deployment=ns.deploy(network, ns.Chip.load("ideal")), inputs=[[1.0, 2.0]],
    ...     faults=[ns.StuckAtZero("neuron", probability=0.5)], trials=1, seed=0)
    >>> found = ns.largest_probability(campaign, 2.5, 0.01, method="enumeration", precision=1e-6)
    >>> round(found.probability, 5)  # both die: p^2
    0.1
    """
    check_campaign(campaign)
    tolerance, target = positive("epsilon", epsilon), fraction("delta", delta)
    count = whole_number("replicas", replicas, 1)
    step = fraction("precision", precision)
    level = fraction("confidence", confidence)
    if count % 2 == 0:
        raise InputError(f"replicas: expected an odd number, got {count}")
    if over not in get_args(Over):
        raise InputError(f'over: expected "worst" or "mean", got {over!r}')
    if method not in _METHODS:
        raise InputError(f"method: expected one of {', '.join(_METHODS)}, got {method!r}")
    given = np.array([process.probability for process in campaign.faults])
    if not given.any():
        raise InputError("campaign: expected a fault probability above 0, got only zeros")
    most = min(
        (m / (1 + m) if m < np.inf else 1.0) / p
        for p, m in zip(given, map(_longest, campaign.faults), strict=True)
        if p > 0
    )
    if method != SIMULATION:
        require_sites(campaign, f'method "{method}"')
    else:
        _check_trials(campaign, target, count, level)
    tried: list[float] = []

    def evaluate(factor: float, drawn_at: float) -> tuple[float, ChipTails]:
        tried.append(factor)
        probabilities = _scaled(given, factor)
        there = replace(campaign, plan=PlainMonteCarlo()).with_probabilities(probabilities)
        if method == SIMULATION:
            plan = PlainMonteCarlo(draw_at=_scaled(given, drawn_at))
            statistics = simulate(plain(replace(there, plan=plan), tolerance), executor, progress)
            # Bonferroni over all rates that may be tried.
            tails = tails_by_simulation(statistics, level, share=1 / _MOST_EVALUATIONS)
        elif method in (EXCEEDANCE, EXCEEDANCE_GUARANTEED):
            share = 1 / _MOST_EVALUATIONS
            both = tails_by_exceedance(there, tolerance, level, share, executor=executor)
            tails = both[method == EXCEEDANCE_GUARANTEED]
        else:
            tails = tails_by_theory(there, tolerance, method)
        return joined(median_bound(tails, count), over), tails

    factor, failure, tails, limited = _crossing(evaluate, target, most, step)
    return LargestProbability(
        campaign=campaign,
        epsilon=tolerance,
        delta=target,
        replicas=count,
        over=over,
        factor=factor,
        probabilities=_scaled(given, factor),
        failure=failure,
        tails=tails,
        limited=limited,
        evaluations=len(tried),
    )


def _longest(process: object) -> float:
    """Mean duration of intermittent faults, which bounds their probability by m / (1 + m)."""
    persistence = getattr(process, "persistence", None)
    return persistence.presentations if isinstance(persistence, Intermittent) else np.inf


def _scaled(given: Array, factor: float) -> tuple[float, ...]:
    return tuple(min(1.0, float(p) * factor) for p in given)


def _check_trials(campaign: Campaign, delta: float, replicas: int, confidence: float) -> None:
    """Refuse numbers of trials in which even no failure at all shows nothing."""
    cells = 2 * campaign.n_inputs
    level = (1 - confidence) / _MOST_EVALUATIONS / cells
    least = float(upper_limits(np.zeros(1), campaign.trials, level)[0])
    if float(median_failure(least, replicas)) <= delta:
        return
    low, high = 0.0, 0.5  # the delta of one chip that R replicas bring down to the target
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if median_failure(middle, replicas) <= delta else (low, middle)
    needed = trials_to_bound(low, confidence=1 - level)
    raise InputError(
        f"trials: expected at least {needed} to show {delta:g} for {replicas} chip(s) at "
        f"{campaign.n_inputs} inputs even without a failure, got {campaign.trials}; or choose "
        "another method"
    )


def _crossing(
    evaluate: Callable[[float, float], tuple[float, ChipTails]],
    delta: float,
    most: float,
    precision: float,
) -> tuple[float, float, ChipTails, bool]:
    """The largest factor that meets the target, by doubling or halving and then bisection."""
    factor = misses = min(1.0, most)
    failure, tails = evaluate(factor, factor)
    if failure <= delta:
        while failure <= delta:
            meets = (factor, failure, tails)
            if factor == most:
                return *meets, False
            factor = misses = min(2 * factor, most)
            failure, tails = evaluate(factor, factor)
    else:
        while failure > delta:
            misses, factor = factor, factor / 2
            if factor < _LEAST_FACTOR:
                raise InputError(
                    f"delta: expected a target that some fault rate meets by this method, got "
                    f"{delta:g}, which {_LEAST_FACTOR:.0e} of the given rates does not; try "
                    "another method"
                )
            failure, tails = evaluate(factor, factor)
        meets = (factor, failure, tails)
    drawn_at = misses
    while misses / meets[0] > 1 + precision:
        factor = float(np.sqrt(misses * meets[0]))
        failure, tails = evaluate(factor, drawn_at)
        if failure <= delta:
            meets = (factor, failure, tails)
        else:
            misses = factor
    return *meets, True
