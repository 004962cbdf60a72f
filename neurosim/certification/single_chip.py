"""How likely one chip fails at each input, method by method, and what each answer rests on.

To fail is |error| >= epsilon at some output, at one presentation of an input. Whatever the
persistence of the faults, the faults at one presentation are independent sites that fail with
their (merged, stationary) probabilities: so these numbers do not depend on it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy import stats

from neurosim.campaign import Campaign
from neurosim.certification.rare_failures import exceedance
from neurosim.errors import InputError
from neurosim.executors import Executor
from neurosim.layers import Array
from neurosim.runner import run
from neurosim.sampling import PlainMonteCarlo
from neurosim.statistics import Statistics
from neurosim.theory import predict
from neurosim.theory.bounds import absolute_bound, bernstein, variance_bound
from neurosim.theory.enumeration import Enumeration
from neurosim.theory.setting import Setting
from neurosim.theory.site_bounds import site_bounds
from neurosim.theory.tails import binomial_interval, cantelli, chebyshev

__all__ = [
    "EXCEEDANCE",
    "EXCEEDANCE_GUARANTEED",
    "SIMULATION",
    "THEORY",
    "ChipTails",
    "enumerable",
    "moments_tails",
    "plain",
    "positive",
    "simulate",
    "tails_by_exceedance",
    "tails_by_simulation",
    "tails_by_theory",
    "upper_limits",
]

SIMULATION = "simulation"
EXCEEDANCE, EXCEEDANCE_GUARANTEED = "exceedance", "exceedance-guaranteed"
# Enough for a certificate: importance sampling is asked for no more.
_RELATIVE_ERROR = 0.25
# Every method that needs no simulation, loosest first.
THEORY = (
    "chebyshev-first-order",
    "cantelli-single-fault",
    "variance-bound",
    "bernstein",
    "enumeration",
)
# Rounding of a backend may hide an error of exactly epsilon; relative, far above that rounding.
_ROUNDING = {"float32": 1e-5, "float64": 1e-12}


@dataclass(frozen=True, kw_only=True, eq=False)
class ChipTails:
    """Failure probabilities of one chip by one method.

    Parameters
    ----------
    method, title : str
    each : ndarray, shape (n_inputs, n_outputs)
        P(|Delta_k| >= epsilon), or an upper bound of it.
    any_output : ndarray, shape (n_inputs,)
        P(max_k |Delta_k| >= epsilon), or an upper bound of it.
    guarantee : bool
        Whether the numbers are upper bounds for sure, or with the stated confidence; if not, they
        are approximations.
    rests_on : str
        What a guarantee rests on, or what an approximation takes for granted.
    mean_failure : callable, optional
        R -> upper bound, (n_inputs,), of the probability that the mean over R replicas is off by
        epsilon or more at some output. None where the method says nothing about it.
    """

    method: str
    title: str
    each: Array
    any_output: Array
    guarantee: bool
    rests_on: str
    mean_failure: Callable[[int], Array] | None = field(default=None, repr=False)


def simulate(
    campaign: Campaign, executor: Executor | None = None, progress: bool = False
) -> Statistics:
    """Statistics of a campaign; its trace is dropped."""
    with (
        TemporaryDirectory() as folder,
        run(campaign, Path(folder) / "trace.h5", executor, progress) as trace,
    ):
        return trace.statistics


def enumerable(campaign: Campaign) -> bool:
    """Whether all fault sets of the campaign can be enumerated."""
    setting = Setting.of(campaign)
    sites = sum(
        setting.n_sites(block) * len(processes) for block, processes in setting.processes.items()
    )
    return sites <= 20 and setting.n_outputs << sites <= 2**24


def tails_by_theory(campaign: Campaign, epsilon: float, method: str) -> ChipTails:
    """The answer of one method of `THEORY`."""
    if method == "enumeration":
        return _by_enumeration(campaign, epsilon)
    if method in ("variance-bound", "bernstein"):
        return _by_bounds(campaign, epsilon, method)
    bound, moments = (
        (chebyshev, "first-order")
        if method == "chebyshev-first-order"
        else (cantelli, "single-fault")
    )
    prediction = predict(campaign, moments)
    name = "Chebyshev (P5)" if bound is chebyshev else "Cantelli"
    return moments_tails(
        method=method,
        title=f"{name}, {moments} moments" + (" (T1)" if moments == "first-order" else " (b4)"),
        bound=partial(bound, epsilon=epsilon, two_sided=True),
        mean=prediction.mean,
        variance=prediction.variance,
        guarantee=prediction.exact,
        rests_on="exact moments" if prediction.exact else "moments to first order in the faults",
    )


def moments_tails(
    *,
    method: str,
    title: str,
    bound: Callable[..., Array],
    mean: Array,
    variance: Array,
    guarantee: bool,
    rests_on: str,
) -> ChipTails:
    """Tails by a bound of mean and variance; the mean of R replicas has an R-th of the latter."""
    each = np.asarray(bound(mean, variance))
    return ChipTails(
        method=method,
        title=title,
        each=each,
        any_output=_union(each),
        guarantee=guarantee,
        rests_on=rests_on,
        mean_failure=lambda replicas: _union(np.asarray(bound(mean, variance / replicas))),
    )


def _by_bounds(campaign: Campaign, epsilon: float, method: str) -> ChipTails:
    mean, variance, tail = _bounds(campaign, epsilon, method)
    if method == "variance-bound":
        # Two-sided Chebyshev grows with |E| and Var: upper bounds of both may stand for them.
        return moments_tails(
            method=method,
            title="Chebyshev (P5), rigorous moments",
            bound=partial(chebyshev, epsilon=epsilon, two_sided=True),
            mean=mean,
            variance=variance,
            guarantee=True,
            rests_on="rigorous bounds of mean and variance",
        )
    each = np.minimum(2 * tail, 1.0)
    return ChipTails(
        method=method,
        title="Bernstein",
        each=each,
        any_output=_union(each),
        guarantee=True,
        rests_on="a rigorous bound",
        # R times as many sites, each with an R-th of its effect: the exponent is R times as large.
        mean_failure=lambda replicas: _union(np.minimum(2 * tail**replicas, 1.0)),
    )


def _bounds(campaign: Campaign, epsilon: float, method: str) -> tuple[Array, Array, Array]:
    """Bounds of |E Delta_k|, Var Delta_k and of P(Delta_k >= epsilon), the same for the low side.

    The last two where the method wants them.
    """
    setting = Setting.of(campaign)
    if setting.groups:
        found = site_bounds(campaign)
        return found.absolute, found.variance, found.tail(epsilon)
    network, inputs, nothing = campaign.network, campaign.inputs, np.empty(0)
    where = [layer for _, layer in setting.probabilities], list(setting.probabilities.values())
    sites: list[Any] = [site for site, _ in setting.probabilities]  # "neuron" or "synapse"
    mean = absolute_bound(network, inputs, *where, sites)
    if method == "variance-bound":
        return mean, variance_bound(network, inputs, *where, sites), nothing
    return mean, nothing, bernstein(network, inputs, *where, epsilon, site=sites, mean=mean)


def _by_enumeration(campaign: Campaign, epsilon: float) -> ChipTails:
    """Probabilities of all fault sets that fail, added up."""
    model = Enumeration(setting=Setting.of(campaign))
    shape = (campaign.n_inputs, campaign.n_outputs)
    each, some = np.empty(shape), np.empty(shape[0])
    for x in range(campaign.n_inputs):
        failed = np.abs(model.errors(x)) >= epsilon * (1 - _ROUNDING["float64"])
        each[x] = model.probabilities @ failed
        some[x] = model.probabilities @ failed.any(axis=1)
    return ChipTails(
        method="enumeration",
        title="all fault sets",
        each=np.minimum(each, 1.0),
        any_output=np.minimum(some, 1.0),
        guarantee=True,
        rests_on="the exact probability",
    )


def plain(campaign: Campaign, epsilon: float) -> Campaign:
    """The campaign that counts failures of plain trials, and records nothing else."""
    drawn_plainly = isinstance(campaign.plan, PlainMonteCarlo)
    return replace(
        campaign,
        # No failure is to be lost to rounding.
        epsilons=(epsilon * (1 - _ROUNDING[campaign.dtype]),),
        replicas=(),
        record=(),
        loss=None,
        plan=campaign.plan if drawn_plainly else PlainMonteCarlo(),
    )


def tails_by_simulation(statistics: Statistics, confidence: float, share: float = 1.0) -> ChipTails:
    """Upper confidence limits of simulated frequencies.

    Parameters
    ----------
    statistics : Statistics
        Of a `plain` campaign: one epsilon, a number of trials fixed beforehand.
    confidence : float
        With which all limits together, and what else shares it, hold.
    share : float
        These limits' share of 1 - confidence. Half of it goes to the limits of single outputs,
        half to those of any output; Bonferroni within each.
    """
    n, alpha = statistics.errors.count, (1 - confidence) * share
    each, some = statistics.exceedances[0], statistics.exceedances_any[0]
    return ChipTails(
        method=SIMULATION,
        title=f"simulation, {n} trials",
        each=upper_limits(each, n, alpha / 2 / each.size),
        any_output=upper_limits(some, n, alpha / 2 / some.size),
        guarantee=True,
        rests_on=f"Clopper-Pearson limits that hold together at confidence {confidence:g}",
    )


def tails_by_exceedance(
    campaign: Campaign,
    epsilon: float,
    confidence: float,
    share: float = 1.0,
    max_evaluations: int = 20_000,
    executor: Executor | None = None,
) -> tuple[ChipTails, ChipTails]:
    """Tails by `exceedance`: an approximation, and a guarantee that is far above it.

    Parameters
    ----------
    campaign : Campaign
    epsilon : float
    confidence : float
        With which the limits of the guarantee, and what else shares it, hold together.
    share : float
        These limits' share of 1 - confidence.
    max_evaluations : int
        Fault sets computed at one input, at most.
    executor : Executor, optional
    """
    found = exceedance(
        plain(campaign, epsilon),
        plain(campaign, epsilon).epsilons[0],
        _RELATIVE_ERROR,
        max_evaluations=max_evaluations,
        executor=executor,
    )
    chance = (1 - confidence) * share / campaign.n_inputs
    guaranteed = found.upper_bound(1 - chance, guaranteed=True)
    # Where too few failures were drawn, value and standard error are not to be trusted.
    some = np.where(found.any_output_reached, found.upper_bound(1 - chance), guaranteed)
    spread = float(stats.norm.isf(chance)) * found.standard_error
    each = np.where(found.reached, found.probability + spread, some[:, None])
    return (
        ChipTails(
            method=EXCEEDANCE,
            title="exceedance",
            each=np.minimum(each, some[:, None]),
            any_output=some,
            guarantee=False,
            rests_on=f"importance sampling, value and {stats.norm.isf(chance):.1f} standard errors",
        ),
        ChipTails(
            method=EXCEEDANCE_GUARANTEED,
            title="exceedance, Bernstein limits",
            each=np.broadcast_to(guaranteed[:, None], found.probability.shape),
            any_output=guaranteed,
            guarantee=True,
            rests_on="few faults enumerated, more sampled, empirical Bernstein limits at "
            f"confidence {confidence:g}",
        ),
    )


def upper_limits(counts: Array, n: int, level: float) -> Array:
    """Upper Clopper-Pearson limits of n trials, each too low with probability at most `level`."""
    return np.asarray(binomial_interval(counts, n, confidence=1 - 2 * level)[1])


def _union(each: Array) -> Array:
    return np.minimum(each.sum(axis=1), 1.0)


def positive(name: str, value: float) -> float:
    """One finite number above 0, checked."""
    number = np.asarray(value)
    if number.ndim or number.dtype.kind not in "fiu" or not (np.isfinite(number) and number > 0):
        raise InputError(f"{name}: expected a finite number above 0, got {value!r}")
    return float(number)
