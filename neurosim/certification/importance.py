"""The failure probability at one input: few faults enumerated, the rest by importance sampling."""

from dataclasses import dataclass, replace

import numpy as np

from neurosim.campaign import Campaign
from neurosim.certification.failures import (
    FailureKind,
    failures_at,
    impossible_cells,
)
from neurosim.certification.families import complete_sizes, sets_of_size
from neurosim.certification.presented import PresentedInputs
from neurosim.certification.search import (
    BATCH,
    DrawingPlan,
    Search,
    Seen,
    failed,
)
from neurosim.layers import Array
from neurosim.sampling import count_law
from neurosim.theory.setting import Setting

__all__ = ["InputEstimate", "StoppingRule", "estimate_input"]

_ENUMERATED = 2**14
_LEAST_BATCHES, _MOST_BATCHES = 4, 8
_LEAST_EFFECTIVE = 30.0
_ROUNDING = 1e-13  # of weights and their sums, relative
_HOPELESS_BATCHES = 32  # without a single failure, after which an input is given up
# Stages of draws, and batches of the first after which its plan is judged: poor where more than so
# many times what was drawn is missing and a draw has so much relative variance. Then the next stage
# begins anew with a better plan, judged twice as late.
_STAGES, _JUDGED_BATCHES, _MANY_MISSING, _POOR = 4, 6, 3.0, 50.0


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
    drawn : int
        Sets drawn.
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
        spread = np.sqrt(np.maximum(self.square - self.mean**2, 0) / self.drawn)
        error = np.hypot(spread, _ROUNDING * self.probability)
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
        # Where most is enumerated, less has to be trusted to what was drawn.
        drawn_part = self.mean / np.maximum(self.probability, np.finfo(float).tiny)
        needed = np.maximum(_LEAST_EFFECTIVE * drawn_part, 10 * (self.mean > 0))
        trusted = (self.effective_sample_size >= needed) & (self.drawn >= _LEAST_BATCHES * BATCH)
        return np.asarray(self.impossible | settled | (close & trusted))


def estimate_input(
    campaign: Campaign,
    kind: FailureKind,
    epsilon: float,
    rule: StoppingRule,
    input: int,
    setting: Setting | None = None,
) -> InputEstimate:
    """Estimate the failure probabilities at one input; a pure function of its arguments.

    setting: that of the campaign, where it is known already.
    """
    shown = PresentedInputs(campaign=campaign, first=input, stop=input + 1, known=setting)
    failure = failures_at(campaign, kind, epsilon, shown.golden[0], input)
    cells = impossible_cells(failure, shown.setting, campaign.network, campaign.inputs[input])
    impossible = np.append(cells, cells.all())
    nothing = np.zeros(len(impossible))
    if cells.all():
        return InputEstimate(
            enumerated=nothing, rest=0.0, mean=nothing, square=nothing, drawn=0,
            largest_weight=0.0, impossible=impossible, evaluations=0,
        )  # fmt: skip
    n_sites = len(shown.probability)
    most = complete_sizes(n_sites, _ENUMERATED)
    parts = [sets_of_size(n_sites, size) for size in range(most + 1)]
    errors = [shown.errors(*sets)[:, 0] for sets in parts]
    law = count_law(shown.probability, most + 1)
    before = InputEstimate(
        enumerated=sum(
            (
                shown.set_probabilities(*sets) @ failed(failure, e)
                for sets, e in zip(parts, errors, strict=True)
            ),
            start=nothing,
        ),
        rest=float(law[most + 1 :][::-1].sum()),
        mean=nothing,
        square=nothing,
        drawn=0,
        largest_weight=0.0,
        impossible=impossible,
        evaluations=sum(len(e) for e in errors),
    )
    if _done(before, rule):
        return before
    search = Search(
        shown=shown,
        failure=failure,
        least=most + 1,
        known=float(before.enumerated[-1]),
        errors=np.concatenate(errors[:2]),
        every_cell=rule.every_cell,
    )
    plan, evaluations = search.plan()
    before = replace(before, evaluations=before.evaluations + evaluations)
    known = before
    for stage in range(_STAGES):
        last = stage == _STAGES - 1 or rule.batches is not None
        judged = None if last else (_JUDGED_BATCHES << stage) * BATCH
        estimate, seen = _sample(search, plan, known, rule, stage, judged)
        if seen is None:
            return estimate
        known = replace(before, evaluations=estimate.evaluations)
        plan = search.again(plan, seen)
    raise AssertionError("the last stage is not judged")


def _done(estimate: InputEstimate, rule: StoppingRule) -> bool:
    reached = estimate.reached(rule)
    return bool(reached[:-1].all() if rule.every_cell else reached[-1])


def _sample(
    search: Search,
    plan: DrawingPlan,
    before: InputEstimate,
    rule: StoppingRule,
    stage: int,
    judged: int | None,
) -> tuple[InputEstimate, Seen | None]:
    """The estimate after a stage of draws; with failures where a better plan is wanted.

    judged: after how many draws the plan is judged, if at all.
    """
    heaviest = plan.mixture.laws[0].mass * BATCH / plan.counts[0]
    estimate = replace(before, largest_weight=heaviest)
    total, squares = np.zeros_like(before.mean), np.zeros_like(before.mean)
    found: list[Seen] = []
    while True:
        batches = _batches_missing(estimate, rule)
        if judged is not None:
            batches = min(batches, max(1, (judged - estimate.drawn) // BATCH))
        part, seen = search.draw(plan, batches, estimate.drawn, stage)
        if seen is not None:
            found.append(seen)
        total, squares = total + part.sum(axis=0), squares + (part**2).sum(axis=0)
        drawn = estimate.drawn + len(part)
        estimate = replace(
            estimate,
            mean=total / drawn,
            square=squares / drawn,
            drawn=drawn,
            evaluations=estimate.evaluations + len(part),
        )
        hopeless = drawn >= _HOPELESS_BATCHES * BATCH and not estimate.probability[-1]
        if rule.batches is not None:
            if drawn >= rule.batches * BATCH:
                return estimate, None
        elif _done(estimate, rule) or estimate.evaluations >= rule.most or hopeless:
            return estimate, None
        if judged is not None and drawn >= judged:
            judged *= 2
            if found and _is_poor(estimate, rule):
                return estimate, Seen.joined(found)


def _is_poor(estimate: InputEstimate, rule: StoppingRule) -> bool:
    """Whether a better plan is worth what was drawn."""
    noise = np.divide(
        estimate.standard_error, estimate.probability,
        out=np.zeros_like(estimate.mean), where=estimate.probability > 0,
    )  # fmt: skip
    wanted = noise[:-1] if rule.every_cell else noise[-1:]
    missing = _missing(estimate, rule) > _MANY_MISSING * estimate.drawn
    return bool(missing and wanted.max() ** 2 * estimate.drawn > _POOR)


def _missing(estimate: InputEstimate, rule: StoppingRule) -> float:
    """Draws that seem to be missing; infinite where nothing was seen."""
    wanted = rule.relative_error * estimate.probability
    error = rule.z * estimate.standard_error
    if not rule.every_cell:
        wanted, error = wanted[-1:], error[-1:]
    ratio = np.divide(error, wanted, out=np.full_like(error, np.inf), where=wanted > 0)
    ratio = np.where(error > 0, ratio, 0)
    return float((ratio.max() ** 2 - 1) * estimate.drawn)


def _batches_missing(estimate: InputEstimate, rule: StoppingRule) -> int:
    """Batches until the next look: about a half of what seems to be missing."""
    if rule.batches is not None:
        return min(_MOST_BATCHES, rule.batches - estimate.drawn // BATCH)
    if not estimate.drawn:
        return _LEAST_BATCHES
    missing = _missing(estimate, rule) / BATCH / 2
    return int(np.clip(missing, 1, _MOST_BATCHES))
