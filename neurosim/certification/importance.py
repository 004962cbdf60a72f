"""The failure probability at one input: few faults enumerated, the rest by importance sampling.

A tilt along what single faults do misses failures that single faults do not announce. So sets of
few faults are all computed, laws that only raise the number of faults explore, and pilots add laws
about the failures they found. The true law keeps a share of every draw, which bounds the weights.
"""

from dataclasses import dataclass, replace

import numpy as np

from neurosim.campaign import Campaign
from neurosim.certification.failures import (
    Failure,
    FailureKind,
    failures_at,
    impossible_cells,
)
from neurosim.certification.presented import PresentedInput, small_sets
from neurosim.kernels.tilted import solve_tilt
from neurosim.layers import Array
from neurosim.sampling import FaultLaw, Mixture, count_law

__all__ = ["InputEstimate", "StoppingRule", "estimate_input"]

_ENUMERATED = 2**14
_BATCH = 512
_LEAST_BATCHES, _MOST_BATCHES = 4, 8
_LEAST_EFFECTIVE = 30.0
_HOPELESS_BATCHES = 32  # without a single failure, after which an input is given up
_PILOTS = 3
# Streams of the draws, beyond those of fault processes; a trial's number holds the input's.
_PILOT_STREAM, _STREAM = 2**31, 2**31 + 64
_TRIALS_AN_INPUT = 2**40
# Shares of the draws: of the true law, of laws of many faults, of all others evenly.
_TRUE, _EXPLORING, _EVENLY = 0.1, 0.1, 0.2
_EXPLORED = (2.0, 4.0, 8.0)
_STEPS = 32  # classes of probabilities that a law has, for each probability of the faults
_LARGEST_SHIFT = 30.0
_LARGEST_LOGIT = 12.0


@dataclass(frozen=True, kw_only=True)
class StoppingRule:
    """When to stop at one input.

    Parameters
    ----------
    relative_error, z : float
        z standard errors are to be within this share of the value.
    every_cell : bool
        Whether all cells must get there, or their union.
    most : int
        Evaluations after which to stop anyway.
    batches : int, optional
        Draw so many batches, whatever comes.
    """

    relative_error: float
    z: float
    every_cell: bool
    most: int
    batches: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class InputEstimate:
    """What is known of one input: arrays (n_cells + 1,), the last entry any of the cells.

    Parameters
    ----------
    enumerated : ndarray
        Exact part: probability of the failing sets of few faults.
    rest : float
        Probability of all sets that were not enumerated: each value is at most enumerated + rest.
    mean, square : ndarray
        Of weight times failure over what was drawn, and of its square.
    drawn, looks : int
        Sets drawn, and how often it was asked whether to stop.
    largest_weight : float
        What no weight exceeds.
    impossible : ndarray of bool
    evaluations : int
        Fault sets computed, pilots and enumeration included.
    """

    enumerated: Array
    rest: float
    mean: Array
    square: Array
    drawn: int
    looks: int
    largest_weight: float
    impossible: Array
    evaluations: int

    @property
    def probability(self) -> Array:
        """Estimates; where nothing was drawn the middle of what is possible."""
        sampled = self.mean if self.drawn else np.full_like(self.mean, self.rest / 2)
        return np.where(self.impossible, 0.0, self.enumerated + sampled)

    @property
    def standard_error(self) -> Array:
        """Standard errors; where nothing was drawn, half of what is possible."""
        if not self.drawn:
            return np.where(self.impossible, 0.0, self.rest / 2)
        error = np.sqrt(np.maximum(self.square - self.mean**2, 0) / self.drawn)
        # Nothing seen is not nothing there: one failure of the largest weight could be next.
        unseen = self.largest_weight / self.drawn
        return np.where(self.impossible, 0.0, np.where(self.mean > 0, error, unseen))

    @property
    def effective_sample_size(self) -> Array:
        """(sum w)^2 / sum w^2 over the failures drawn; infinite where nothing had to be drawn."""
        if not self.drawn:
            return np.full(self.mean.shape, np.inf)
        some = self.square > 0
        size = np.zeros(self.mean.shape)
        np.divide(self.mean**2 * self.drawn, self.square, out=size, where=some)
        return np.where(self.impossible, np.inf, size)

    def reached(self, rule: StoppingRule) -> Array:
        """Which entries are known to the wanted relative error."""
        wanted = rule.relative_error * self.probability
        close = rule.z * self.standard_error <= wanted
        settled = self.rest <= 0.1 * wanted
        trusted = (self.effective_sample_size >= _LEAST_EFFECTIVE) & (
            self.drawn >= _LEAST_BATCHES * _BATCH
        )
        return np.asarray(self.impossible | settled | (close & trusted))


def estimate_input(
    campaign: Campaign, kind: FailureKind, epsilon: float, rule: StoppingRule, input: int
) -> InputEstimate:
    """Estimate the failure probabilities at one input; a pure function of its arguments."""
    shown = PresentedInput(campaign=campaign, number=input)
    failure = failures_at(campaign, kind, epsilon, shown.golden, input)
    cells = impossible_cells(failure, campaign, input)
    impossible = np.append(cells, cells.all())
    nothing = np.zeros(len(impossible))
    if cells.all():
        return InputEstimate(
            enumerated=nothing, rest=0.0, mean=nothing, square=nothing, drawn=0, looks=0,
            largest_weight=0.0, impossible=impossible, evaluations=0,
        )  # fmt: skip
    most = shown.most_enumerated(_ENUMERATED)
    sets = small_sets(len(shown.probability), most)
    errors = shown.errors(*sets)
    law = count_law(shown.probability, most + 1)
    before = InputEstimate(
        enumerated=shown.set_probabilities(*sets) @ _columns(failure, errors),
        rest=float(law[most + 1 :][::-1].sum()),
        mean=nothing,
        square=nothing,
        drawn=0,
        looks=0,
        largest_weight=0.0,
        impossible=impossible,
        evaluations=len(errors),
    )
    if _done(before, rule):
        return before
    search = _Search(
        shown=shown,
        failure=failure,
        least=most + 1,
        errors=errors[: len(shown.probability) + 1] if most else errors[:1],
        every_cell=rule.every_cell,
    )
    return _sample(search, before, rule)


def _columns(failure: Failure, errors: Array) -> Array:
    """Failures of each cell and of any: (n, n_cells + 1) of float64."""
    cells = failure.cells(errors)
    return np.concatenate([cells, cells.any(axis=1, keepdims=True)], axis=1).astype(np.float64)


def _done(estimate: InputEstimate, rule: StoppingRule) -> bool:
    reached = estimate.reached(rule)
    return bool(reached[:-1].all() if rule.every_cell else reached[-1])


def _sample(search: "_Search", before: InputEstimate, rule: StoppingRule) -> InputEstimate:
    mixture, counts = search.laws()
    shares = counts / counts.sum()
    estimate = replace(
        before,
        largest_weight=mixture.laws[0].mass / shares[0],
        evaluations=before.evaluations + _PILOTS * _BATCH,
    )
    total, squares = np.zeros_like(before.mean), np.zeros_like(before.mean)
    while True:
        batches = 1
        if estimate.drawn >= _LEAST_BATCHES * _BATCH:
            batches = _batches_missing(estimate, rule)
        part = search.draw(mixture, counts * batches, shares, _STREAM, estimate.drawn)
        total, squares = total + part.sum(axis=0), squares + (part**2).sum(axis=0)
        drawn = estimate.drawn + len(part)
        estimate = replace(
            estimate,
            mean=total / drawn,
            square=squares / drawn,
            drawn=drawn,
            looks=estimate.looks + 1,
            evaluations=estimate.evaluations + len(part),
        )
        hopeless = drawn >= _HOPELESS_BATCHES * _BATCH and not estimate.probability[-1]
        if rule.batches is not None:
            if drawn >= rule.batches * _BATCH:
                return estimate
        elif _done(estimate, rule) or estimate.evaluations >= rule.most or hopeless:
            return estimate


def _batches_missing(estimate: InputEstimate, rule: StoppingRule) -> int:
    """Batches until the next look: about a half of what seems to be missing."""
    if rule.batches is not None:
        return min(_MOST_BATCHES, rule.batches - estimate.drawn // _BATCH)
    wanted = rule.relative_error * estimate.probability
    error = rule.z * estimate.standard_error
    if not rule.every_cell:
        wanted, error = wanted[-1:], error[-1:]
    if (error > _MOST_BATCHES * wanted).any():
        return _MOST_BATCHES
    ratio = np.divide(error, wanted, out=np.zeros_like(error), where=wanted > 0)
    missing = (ratio.max() ** 2 - 1) * estimate.drawn / _BATCH / 2
    return int(np.clip(missing, 1, _MOST_BATCHES))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Search:
    """Where the failures of one input are looked for.

    errors: of no fault and, if they were enumerated, of each site alone.
    """

    shown: PresentedInput
    failure: Failure
    least: int
    errors: Array
    every_cell: bool

    def draw(
        self, mixture: Mixture, counts: Array, shares: Array, stream: int, first: int
    ) -> Array:
        """Weight times failure of sets drawn from the laws: (n_sets, n_cells + 1)."""
        return self._drawn(mixture, counts, shares, stream, first)[0]

    def _drawn(
        self, mixture: Mixture, counts: Array, shares: Array, stream: int, first: int
    ) -> tuple[Array, Array, Array]:
        number = self.shown.number * _TRIALS_AN_INPUT + first
        offsets, sites = mixture.draw(counts, self.shown.campaign.seed, stream, number)
        weights = mixture.weights(shares, mixture.log_ratios(offsets, sites))
        weights = np.where(np.diff(offsets) >= self.least, weights, 0.0)
        failed = _columns(self.failure, self.shown.errors(offsets, sites))
        return weights[:, None] * failed, offsets, sites

    def laws(self) -> tuple[Mixture, Array]:
        """The laws to draw from, with the number of draws of a batch from each."""
        true = FaultLaw(probability=self.shown.probability, least=self.least)
        tilts, bounds = self._tilts()
        exploring = self._exploring()
        found: list[FaultLaw] = []
        seen: list[tuple[Array, Array, Array]] = []
        for pilot in range(_PILOTS):
            laws = (true, *exploring, *tilts, *found)
            mixture = Mixture(laws=laws)
            shares = _shares(len(exploring), bounds, len(found), None)
            counts = _counts(shares)
            values, offsets, sites = self._drawn(
                mixture, counts, counts / counts.sum(), _PILOT_STREAM + pilot, 0
            )
            value = self._importance(values)
            failing = np.flatnonzero(value)
            if len(failing):
                seen.append((value[failing], *_chosen(offsets, sites, failing)))
                found += self._about(*seen[-1])
        mixture = Mixture(laws=(true, *exploring, *tilts, *found))
        shares = _shares(len(exploring), bounds, len(found), None)
        if seen:
            ratios = np.concatenate([mixture.log_ratios(*sets) for _, *sets in seen])
            values = np.concatenate([value / value.sum() for value, *_ in seen])
            fitted = _fitted(shares, ratios, values)
            shares = _shares(len(exploring), bounds, len(found), fitted)
        return mixture, _counts(shares)

    def _importance(self, values: Array) -> Array:
        """What each set adds to what is wanted: any failure, or all cells on one scale."""
        if not self.every_cell:
            return values[:, -1]
        totals = values[:, :-1].sum(axis=0)
        scaled = values[:, :-1] / np.where(totals > 0, totals, 1)
        return np.asarray(scaled.sum(axis=1))

    def _tilts(self) -> tuple[list[FaultLaw], Array]:
        """A tilt along the effects of single faults for each drive, with Chernoff's bounds."""
        p = self.shown.probability
        base = self.failure.drives(self.errors[:1])
        alone = self.errors[1:] if len(self.errors) > 1 else self.errors[:1] + self.shown.effects()
        effects = self.failure.drives(alone) - base
        laws, bounds = [], []
        for effect, threshold in zip(effects.T, self.failure.thresholds - base[0], strict=True):
            reachable = effect[effect > 0].sum()
            if threshold <= 0 or reachable <= 0:
                continue
            target = min(float(threshold), 0.8 * float(reachable))
            effect = np.ascontiguousarray(effect)
            theta, bound = solve_tilt(effect, p, target, _LARGEST_SHIFT)
            if theta > 0:
                laws.append(self._law(_logit(p) + theta * effect))
                bounds.append(bound)
        return laws, np.array(bounds)

    def _exploring(self) -> list[FaultLaw]:
        """Laws that only raise the number of faults."""
        p = self.shown.probability
        laws = []
        for number in _EXPLORED:
            if p.sum() < number < len(p):
                theta, _ = solve_tilt(np.ones(len(p)), p, number, _LARGEST_SHIFT)
                laws.append(self._law(_logit(p) + theta))
        return laws

    def _about(self, value: Array, offsets: Array, sites: Array) -> list[FaultLaw]:
        """Laws about failures: with their frequencies of faults, and about the likeliest two."""
        p = self.shown.probability
        share = value / value.sum()
        kappa = float((share**2).sum())
        frequency = np.bincount(sites, np.repeat(share, np.diff(offsets)), len(p))
        fitted = np.maximum((frequency + kappa * p) / (1 + kappa), p / 2)
        laws = [self._law(_logit(np.minimum(fitted, 0.95)))]
        likelihood = self.shown.set_probabilities(offsets, sites)
        known: set[bytes] = set()
        for number in np.argsort(-likelihood, kind="stable"):
            chosen = sites[offsets[number] : offsets[number + 1]]
            if chosen.tobytes() in known:
                continue
            known.add(chosen.tobytes())
            raised = p.copy()
            raised[chosen] = np.maximum(p[chosen], 0.7)
            laws.append(self._law(_logit(raised)))
            if len(known) == 2:
                break
        return laws

    def _law(self, logit: Array) -> FaultLaw:
        """A law of few distinct probabilities near the given ones."""
        _, block = np.unique(self.shown.probability, return_inverse=True)
        logit = np.clip(logit, -60.0, _LARGEST_LOGIT)
        low, width = logit.min(), np.ptp(logit) / _STEPS
        step = np.zeros(len(logit), np.int64)
        if width > 0:
            step = np.minimum(((logit - low) / width).astype(np.int64), _STEPS - 1)
        _, index = np.unique(block * _STEPS + step, return_inverse=True)
        mean = np.bincount(index, logit) / np.bincount(index)
        return FaultLaw(probability=1 / (1 + np.exp(-mean[index])), least=self.least)


def _logit(p: Array) -> Array:
    return np.asarray(np.log(p) - np.log1p(-p))


def _chosen(offsets: Array, sites: Array, numbers: Array) -> tuple[Array, Array]:
    """Some of the sets, in order."""
    sizes = np.diff(offsets)[numbers]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    index = np.repeat(offsets[numbers] - starts[:-1], sizes) + np.arange(starts[-1])
    return starts, sites[index]


def _shares(n_exploring: int, bounds: Array, n_found: int, fitted: Array | None) -> Array:
    """Shares of the laws: true, exploring, tilts, found; fitted where pilots saw failures."""
    exploring = np.full(n_exploring, _EXPLORING / max(n_exploring, 1))
    n_others = len(bounds) + n_found
    free = 1 - _TRUE - exploring.sum()
    others = np.full(n_others, 1 / max(n_others, 1))
    if fitted is not None:
        best = fitted[1 + n_exploring :]
    else:
        tilts = np.exp(bounds - bounds.max(initial=-np.inf)) if len(bounds) else bounds
        tilts = tilts / max(tilts.sum(), 1e-300)
        best = np.concatenate([tilts, np.full(n_found, 1 / max(n_found, 1))])
    if n_others and best.sum() > 0:
        others = _EVENLY * others + (1 - _EVENLY) * best / best.sum()
    shares = np.concatenate([[_TRUE], exploring, free * others])
    return shares / shares.sum()


def _fitted(shares: Array, ratios: Array, values: Array) -> Array:
    """Shares under which the sets seen are likeliest, by expectation maximisation."""
    likelihood = np.exp(ratios - ratios.max(axis=1, keepdims=True))
    for _ in range(10):
        joint = likelihood * shares
        joint /= joint.sum(axis=1, keepdims=True)
        shares = values @ joint / values.sum()
    return shares


def _counts(shares: Array) -> Array:
    """Draws of a batch from each law: the shares, rounded so that they add up."""
    wanted = shares * _BATCH
    counts = np.floor(wanted).astype(np.int64)
    missing = _BATCH - counts.sum()
    counts[np.argsort(counts - wanted, kind="stable")[:missing]] += 1
    return counts
