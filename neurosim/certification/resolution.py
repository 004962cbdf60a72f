"""resolve: a weighted plan becomes explicit arrays, after single faults and pilots."""

from dataclasses import replace
from functools import partial

import numpy as np

from neurosim.campaign import Campaign
from neurosim.certification.failures import failures_at
from neurosim.certification.presented import PresentedInputs
from neurosim.certification.scope import require_sites
from neurosim.certification.search import BATCH, Search, failed
from neurosim.errors import InputError
from neurosim.executors import Executor, ThreadExecutor
from neurosim.kernels.philox import uniforms
from neurosim.kernels.tilted import effect_sums
from neurosim.layers import Array
from neurosim.sampling import (
    PERIOD,
    Draws,
    FaultLaw,
    ImportanceTilted,
    PlainMonteCarlo,
    ResolvedDraws,
    Stratified,
    count_law,
)
from neurosim.theory.arguments import check_campaign
from neurosim.theory.setting import Setting

__all__ = ["resolve"]

# Beyond the streams of draws, searches and estimates.
_PILOT_STREAM, _ORDER_STREAM = 2**31 + 192, 2**31 + 255
_PILOT = 256  # draws of each stratum in the pilot
_LEAST = 8  # draws of each stratum in a period
_VALUES = 2**25  # of arrays of a plan, 8 bytes each
_ROWS = 256
_MANY = 64.0  # mean number of faults beyond which strata of their number say nothing


def resolve(campaign: Campaign, *, executor: Executor | None = None) -> Campaign:
    """Resolve a campaign's weighted plan to explicit arrays: what each trial is drawn from.

    Stratified: the exact probability of each stratum, its share of the trials after a pilot, and
    for the control variate the error of every single fault. ImportanceTilted: for each input the
    laws of the search of `exceedance`, after its pilots. Pilots have random numbers of their own
    and are used for nothing else. The same campaign gives the same arrays; they are part of its
    fingerprint and of its trace.

    Parameters
    ----------
    campaign : Campaign
        One with a plain plan, or a resolved one, is returned as it is.
    executor : Executor, optional
        Who computes; threads on all cores by default. The results do not depend on it.

    Returns
    -------
    Campaign

    Raises
    ------
    InputError
        If the campaign is not one of independent dead sites in a chain of dense layers, or the
        arrays do not fit into memory.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[[[1, 2, 3]]], biases=[[0]], activations=["identity"])
    >>> campaign = ns.Campaign(
    ...     deployment=ns.deploy(network, ns.Chip.load("ideal")), trials=1000, seed=1,
    ...     faults=[ns.StuckAtZero("neuron", probability=0.1)], inputs=[[3.0, 4.0, 5.0]],
    ...     plan=ns.Stratified(strata=(2,)))
    >>> print(resolve(campaign).plan)
    stratified by the number of faults: 2+ in 512 of 512 trials, with control variate
    """
    check_campaign(campaign)
    plan = campaign.plan
    if isinstance(plan, PlainMonteCarlo):
        return campaign
    if plan.resolved is not None and campaign.draws is plan.resolved:
        return campaign
    require_sites(campaign, type(plan).__name__)
    if isinstance(plan, Stratified):
        resolved = _stratified(campaign, plan)
    else:
        resolved = _tilted(campaign, plan, executor or ThreadExecutor())
    return replace(campaign, plan=replace(plan, resolved=resolved))


def _order(counts: Array, seed: int) -> Array:
    """Which law each trial of a period draws from: a random order of their shares.

    So a trial draws from a law with exactly the probability of its share, whichever trial it is.
    """
    stream, key = np.uint64(_ORDER_STREAM), np.uint64(seed)
    u = [uniforms(np.uint64(0), stream, np.uint64(k), key)[0] for k in range(PERIOD)]
    laws = np.repeat(np.arange(len(counts)), counts)
    return np.asarray(laws[np.argsort(u, kind="stable")])


def _draws(shown: PresentedInputs, laws: list[FaultLaw], counts: Array) -> Draws:
    order = np.zeros(PERIOD, np.int64)
    if laws:
        order = _order(np.asarray(counts), shown.campaign.seed)
    return Draws(
        first=shown.first, stop=shown.stop, sites=shown.sites, laws=tuple(laws), order=order
    )


def _check_size(values: int, mend: str) -> None:
    if values > _VALUES:
        raise InputError(
            f"plan: expected arrays of at most {_VALUES} values, for they are held in memory and "
            f"in the trace, got {values}; {mend}"
        )


def _stratified(campaign: Campaign, plan: Stratified) -> ResolvedDraws:
    shown = PresentedInputs(campaign=campaign, first=0, stop=campaign.n_inputs)
    p = shown.probability
    effects, base = None, None
    if plan.control_variate:
        _check_size(
            len(p) * campaign.n_inputs * campaign.n_outputs,
            "take fewer inputs, let fewer layers fail, or give control_variate=False",
        )
        base = _errors(shown, np.zeros(2, np.int64), np.empty(0, np.int64))[0]
        rows = [
            _errors(shown, np.arange(stop - first + 1), np.arange(first, stop))
            for first, stop in _ranges(len(p))
        ]
        effects = np.concatenate([*rows, np.empty((0, *base.shape))]) - base
    bounds = _bounds(p, plan.strata)
    ends = [low - 1 for low in bounds[1:]] + [None] * min(len(bounds), 1)
    laws = [
        FaultLaw(probability=p, least=low, most=high)
        for low, high in zip(bounds, ends, strict=True)
    ]
    counts = np.array(plan.allocation or _allocation(shown, laws, effects))
    if len(counts) != len(laws):
        raise InputError(
            f"strata: expected at most the {len(p)} sites that may fail as numbers of faults, got "
            f"{plan.strata}"
        )
    return ResolvedDraws(
        campaign=campaign.recipe,
        groups=(_draws(shown, laws, counts),),
        strata=True,
        effects=effects,
        base=base,
    )


def _ranges(n: int) -> list[tuple[int, int]]:
    return [(first, min(first + _ROWS, n)) for first in range(0, n, _ROWS)]


def _errors(shown: PresentedInputs, offsets: Array, sites: Array) -> Array:
    return shown.errors(offsets, sites).astype(np.float64)


def _bounds(p: Array, wanted: tuple[int, ...] | None) -> list[int]:
    """The least number of faults of each stratum that can be."""
    if wanted is None:
        wanted = (2,)
        if len(p) and p.sum() <= _MANY:
            law = count_law(p, 2)[2:]
            if law.sum() > 0:
                share = np.cumsum(law) / law.sum()
                # A stratum ends where half and nine tenths are reached.
                ends = [2 + int(np.searchsorted(share, q)) for q in (0.5, 0.9)]
                wanted = (2, *sorted({end + 1 for end in ends}))
    elif len(wanted) > 1 and p.sum() > _MANY:
        raise InputError(
            f"strata: expected (2,) where {p.sum():.3g} faults are expected, for all sets have "
            f"many, got {wanted}"
        )
    return [least for least in wanted if least <= len(p)]


def _allocation(shown: PresentedInputs, laws: list[FaultLaw], effects: Array | None) -> list[int]:
    """Draws of each stratum in a period, by its probability times the spread of the error."""
    if len(laws) < 2:
        return [PERIOD] * len(laws)
    spreads = []
    for number, law in enumerate(laws):
        offsets, sites = law.draw(shown.campaign.seed, _PILOT_STREAM + number, 0, _PILOT)
        errors = _errors(shown, offsets, sites).reshape(_PILOT, -1)
        if effects is not None:
            errors = errors - effect_sums(offsets, sites, effects.reshape(len(effects), -1))
        spreads.append(law.mass**2 * errors.var(axis=0))
    # All inputs and outputs count alike, whatever their scale.
    total = np.sum(spreads, axis=0)
    seen = total > 0
    spread = np.array([law.mass for law in laws])
    if seen.any():  # else the pilot saw no spread at all
        spread = np.sqrt([np.mean(s[seen] / total[seen]) for s in spreads])
    free = PERIOD - _LEAST * len(laws)
    wanted = free * spread / spread.sum()
    counts = np.floor(wanted).astype(np.int64)
    counts[np.argsort(counts - wanted, kind="stable")[: free - counts.sum()]] += 1
    return [int(n) for n in counts + _LEAST]


def _tilted(campaign: Campaign, plan: ImportanceTilted, pool: Executor) -> ResolvedDraws:
    setting = Setting.of(campaign)
    sites = [
        len(PresentedInputs(campaign=campaign, first=x, stop=x + 1, known=setting).probability)
        for x in range(campaign.n_inputs)
    ]
    laws = 2 * campaign.n_outputs + 16
    _check_size(sum(sites) * laws, "take fewer inputs, or let fewer layers fail")
    found = pool.map(partial(_about, campaign, plan.epsilon, setting), range(campaign.n_inputs))
    # What comes from other processes has its own copy of what the groups of sites hold.
    groups = tuple(
        replace(draws, sites=replace(draws.sites, members=setting.members)) for draws in found
    )
    return ResolvedDraws(campaign=campaign.recipe, groups=groups, strata=False)


def _about(campaign: Campaign, epsilon: float, setting: Setting, x: int) -> Draws:
    """The draws about one input: the laws that the search for its failures ends with."""
    shown = PresentedInputs(campaign=campaign, first=x, stop=x + 1, known=setting)
    n_sites = len(shown.probability)
    if n_sites < 2:
        return _draws(shown, [], np.empty(0, np.int64))
    failure = failures_at(campaign, "error", epsilon, shown.golden[0], x)
    none = np.zeros(2, np.int64), np.empty(0, np.int64)
    alone = [(np.arange(b - a + 1), np.arange(a, b)) for a, b in _ranges(n_sites)]
    errors = np.concatenate([shown.errors(*sets)[:, 0] for sets in (none, *alone)])
    chances = np.concatenate([shown.set_probabilities(*sets) for sets in (none, *alone)])
    search = Search(
        shown=shown,
        failure=failure,
        least=2,
        known=float((chances @ failed(failure, errors))[-1]),
        errors=errors,
        every_cell=True,
        with_cuts=False,
    )
    found, _ = search.plan()
    some = np.flatnonzero(found.counts)
    laws = [found.mixture.laws[c] for c in some]
    return _draws(shown, laws, found.counts[some] * (PERIOD // BATCH))
