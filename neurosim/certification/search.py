"""Where the failures of one input are looked for: the laws that fault sets are drawn from.

A law tilted along what single faults do finds the failures that single faults announce, and misses
others. So cuts are looked for where few faults are expected, sites that fail together, and a pilot
explores with laws of more faults and adds laws about the failures it found; how much is drawn from
each is fitted to what a second pilot sees. The true law keeps a share of every draw, which bounds
the weights. What pilots draw and what cuts are made of is not used in any estimate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from neurosim.certification.cuts import find_cuts
from neurosim.certification.failures import Failure
from neurosim.certification.presented import PresentedInputs
from neurosim.kernels.tilted import solve_tilt
from neurosim.layers import Array
from neurosim.sampling import CutLaw, FaultLaw, Mixture

__all__ = ["BATCH", "DrawingPlan", "Search", "Seen", "failed"]

BATCH = 512
_PILOT = 2  # batches of a pilot
# Streams of the draws, beyond those of fault processes; a trial's number holds the input's.
_PILOT_STREAM, _STREAM = 2**31, 2**31 + 64
_TRIALS_AN_INPUT = 2**40
# Shares of the draws by kind of law, and the part of each that its laws share evenly.
_SHARES = {"true": 0.1, "exploring": 0.1, "tilted": 0.35, "found": 0.25, "cuts": 0.2}
_EVENLY = 0.2
_EXPLORED = (2.0, 4.0, 8.0)
_NEIGHBOURS = 0.7
# Cuts are looked for where at most so many faults are expected, and so many more learnt from draws.
_FEW, _LEARNT = 4.0, 2**8
_STEPS = 32  # classes of probabilities that a law has, for each probability of the faults
_LARGEST_SHIFT = 30.0
_LARGEST_LOGIT = 12.0


def failed(failure: Failure, errors: Array) -> Array:
    """Failures of each cell and of any cell: (n, n_cells + 1) of 0.0 and 1.0."""
    cells = failure.cells(errors)
    return np.concatenate([cells, cells.any(axis=1, keepdims=True)], axis=1).astype(np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Laws:
    """Laws with the kind of each, the true one first, and a first guess of their merits."""

    laws: list[FaultLaw] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    merits: list[float] = field(default_factory=list)
    cuts: CutLaw | None = None

    def add(self, kind: str, law: FaultLaw, merit: float = 1.0) -> None:
        """Append one."""
        self.laws.append(law)
        self.kinds.append(kind)
        self.merits.append(merit)

    def copy(self) -> "_Laws":
        """The same laws, to append others."""
        return _Laws(laws=[*self.laws], kinds=[*self.kinds], merits=[*self.merits], cuts=self.cuts)

    def counts(self, merits: Array) -> Array:
        """Draws of a batch from each law."""
        kinds = np.array(self.kinds if self.cuts is None else [*self.kinds, "cuts"])
        shares = np.zeros(len(kinds))
        for kind, share in _SHARES.items():
            own = kinds == kind
            if own.any():
                total = merits[own].sum()
                best = merits[own] / total if total > 0 else 1 / own.sum()
                shares[own] = share * (_EVENLY / own.sum() + (1 - _EVENLY) * best)
        wanted = BATCH * shares / shares.sum()
        counts = np.floor(wanted).astype(np.int64)
        missing = BATCH - counts.sum()
        counts[np.argsort(counts - wanted, kind="stable")[:missing]] += 1
        return counts


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """Failures that were drawn.

    Parameters
    ----------
    values : ndarray, (n, n_cells + 1)
        Weight times failure of the failing ones.
    offsets, sites : ndarray
        These sets.
    drives : ndarray, (n, n_drives)
    """

    values: Array
    offsets: Array
    sites: Array
    drives: Array

    @staticmethod
    def joined(parts: Sequence["Seen"]) -> "Seen":
        """All of them."""
        sizes = np.concatenate([np.diff(part.offsets) for part in parts])
        return Seen(
            values=np.concatenate([part.values for part in parts]),
            offsets=np.concatenate([[0], np.cumsum(sizes)]),
            sites=np.concatenate([part.sites for part in parts]),
            drives=np.concatenate([part.drives for part in parts]),
        )

    def every_second(self, first: int) -> "Seen":
        """Half of them."""
        chosen = np.arange(first, len(self.values), 2)
        offsets, sites = _chosen(self.offsets, self.sites, chosen)
        return Seen(
            values=self.values[chosen], offsets=offsets, sites=sites,
            drives=self.drives[chosen],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawingPlan:
    """What to draw from.

    Parameters
    ----------
    laws : _Laws
    mixture : Mixture
        Of these laws.
    counts : ndarray of int
        Draws of a batch from each law.
    """

    laws: _Laws
    mixture: Mixture
    counts: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """The search for failures of one input among fault sets of at least so many faults.

    Parameters
    ----------
    shown : PresentedInputs
        One input.
    failure : Failure
    least : int
        Sets of fewer faults are not looked at.
    known : float
        Probability of the failing sets of fewer faults.
    errors : ndarray, (1 or n_sites + 1, n_outputs)
        Errors without faults and, where known, of each site alone.
    every_cell : bool
        Whether every cell matters, or any.
    with_cuts : bool
        Whether cuts may be looked for.
    """

    shown: PresentedInputs
    failure: Failure
    least: int
    known: float
    errors: Array
    every_cell: bool
    with_cuts: bool = True

    def draw(
        self, plan: DrawingPlan, repeats: int, first: int, stage: int
    ) -> tuple[Array, Seen | None]:
        """Weight times failure of batches of sets, 0 of fewer faults; and the failures, if any.

        Of the first, (n_sets, n_cells + 1). Every stage has random numbers of its own.
        """
        return self._drawn(plan, repeats, _STREAM + stage, first)

    def _drawn(
        self, plan: DrawingPlan, repeats: int, stream: int, first: int
    ) -> tuple[Array, Seen | None]:
        number = self.shown.first * _TRIALS_AN_INPUT + first
        seed = self.shown.campaign.seed
        offsets, sites = plan.mixture.draw(plan.counts * repeats, seed, stream, number)
        ratios = plan.mixture.log_ratios(offsets, sites)
        weights = plan.mixture.weights(plan.counts / plan.counts.sum(), ratios)
        weights[np.diff(offsets) < self.least] = 0
        errors = self.shown.errors(offsets, sites)[:, 0]
        values = weights[:, None] * failed(self.failure, errors)
        failing = np.flatnonzero(values[:, -1])
        if not len(failing):
            return values, None
        starts, chosen = _chosen(offsets, sites, failing)
        return values, Seen(
            values=values[failing],
            offsets=starts,
            sites=chosen,
            drives=self.failure.drives(errors[failing]) - self._effects[0],
        )

    def plan(self) -> tuple[DrawingPlan, int]:
        """What to draw from, after all pilots; and how many fault sets were computed for it."""
        laws = _Laws()
        laws.add("true", FaultLaw(probability=self.shown.probability, least=self.least))
        self._add_exploring(laws)
        _, effects, thresholds = self._effects
        for effect, threshold in zip(effects.T, thresholds, strict=True):
            self._add_tilted(laws, effect, float(threshold))
        evaluations = 2 * _PILOT * BATCH
        if self._few:
            cuts, looked = self._grown_cuts(laws)
            laws, evaluations = replace(laws, cuts=cuts), evaluations + looked
        _, found = self._drawn(self._fitted(laws, None), _PILOT, _PILOT_STREAM, 0)
        if found is not None:
            laws = self._with_laws_from(laws, found)
        # A law is not judged by the failures that it was made from, if there are others.
        _, others = self._drawn(self._fitted(laws, None), _PILOT, _PILOT_STREAM + 1, 0)
        return self._fitted(laws, others or found), evaluations

    def again(self, plan: DrawingPlan, seen: Seen) -> DrawingPlan:
        """A better plan, after failures that were drawn by one: half make laws, half judge them."""
        if len(seen.values) < 2:
            return plan
        laws = self._with_laws_from(plan.laws, seen.every_second(0))
        return self._fitted(laws, seen.every_second(1))

    def _with_laws_from(self, laws: _Laws, seen: Seen) -> _Laws:
        """More laws, about failures that were drawn."""
        more = laws.copy()
        self._add_refitted(more, seen)
        self._add_found(more, seen)
        return replace(more, cuts=self._learnt_cuts(laws.cuts, seen)) if self._few else more

    def _fitted(self, laws: _Laws, seen: Seen | None) -> DrawingPlan:
        """Draws in shares under which the failures seen, if any, are likeliest."""
        mixture = Mixture(laws=tuple(laws.laws), cuts=laws.cuts)
        merits = np.array(laws.merits if laws.cuts is None else [*laws.merits, 1.0])
        if seen is not None:
            value = self._shares(seen)
            ratios = mixture.log_ratios(seen.offsets, seen.sites)
            likelihood = np.exp(ratios - ratios.max(axis=1, keepdims=True))
            merits = np.full(len(merits), 1 / len(merits))
            for _ in range(10):  # expectation maximisation
                joint = likelihood * merits
                merits = value @ (joint / joint.sum(axis=1, keepdims=True))
        return DrawingPlan(laws=laws, mixture=mixture, counts=laws.counts(merits))

    @property
    def _few(self) -> bool:
        return self.with_cuts and float(self.shown.probability.sum()) <= _FEW

    def _grown_cuts(self, laws: _Laws) -> tuple[CutLaw | None, int]:
        """Cuts of the sites that the laws expect to fail; and how many sets were computed."""
        marginal = np.asarray(
            laws.counts(np.array(laws.merits)) @ [q.probability for q in laws.laws]
        )
        order = np.argsort(-marginal, kind="stable")
        offsets, sites, looked = find_cuts(
            self._look, self.shown.probability, order, self.least, self.known
        )
        return self._cut_law(offsets, sites), looked

    def _cut_law(self, offsets: Array, sites: Array) -> CutLaw | None:
        if len(offsets) == 1:
            return None
        return CutLaw(probability=self.shown.probability, offsets=offsets, sites=sites)

    def _look(self, offsets: Array, sites: Array) -> tuple[Array, Array]:
        """How far sets reach, by drive, the threshold as the unit; and which fail."""
        base, _, thresholds = self._effects
        errors = self.shown.errors(offsets, sites)[:, 0]
        unit = np.where(thresholds > 0, thresholds, np.inf)
        fails = np.asarray(self.failure.cells(errors).any(axis=1))
        return (self.failure.drives(errors) - base) / unit, fails

    def _learnt_cuts(self, cuts: CutLaw | None, seen: Seen) -> CutLaw | None:
        """The cuts and the likeliest failures that hold none of them."""
        fresh = np.argsort(-self.shown.set_probabilities(seen.offsets, seen.sites), kind="stable")
        if cuts is not None:
            fresh = fresh[cuts.held(seen.offsets, seen.sites)[fresh] == 0]
        numbers = _distinct(seen.offsets, seen.sites, fresh)[:_LEARNT]
        if not len(numbers):
            return cuts
        offsets, sites = _chosen(seen.offsets, seen.sites, numbers)
        if cuts is None:
            return self._cut_law(offsets, sites)
        return self._cut_law(
            np.concatenate([cuts.offsets, cuts.offsets[-1] + offsets[1:]]),
            np.concatenate([cuts.sites, sites]),
        )

    def _shares(self, seen: Seen) -> Array:
        """What each failure adds to what is wanted: any failure, or all cells on one scale."""
        share = seen.values[:, -1]
        if self.every_cell:
            totals = seen.values[:, :-1].sum(axis=0)
            share = (seen.values[:, :-1] / np.where(totals > 0, totals, 1)).sum(axis=1)
        return np.asarray(share / share.sum())

    @cached_property
    def _effects(self) -> tuple[Array, Array, Array]:
        """Drives without faults, what each site alone adds (n_sites, n_drives), and thresholds."""
        base = self.failure.drives(self.errors[:1])[0]
        alone = self.errors[1:] if len(self.errors) > 1 else self.errors[:1] + self.shown.effects()
        return base, self.failure.drives(alone) - base, self.failure.thresholds - base

    def _add_tilted(self, laws: _Laws, effect: Array, target: float) -> None:
        """A tilt along the effects of single faults, so that they reach the target on average."""
        p = self.shown.probability
        reachable = float(effect[effect > 0].sum())
        if target <= 0 or reachable <= 0:
            return
        effect = np.ascontiguousarray(effect)
        theta, bound = solve_tilt(effect, p, min(target, 0.8 * reachable), _LARGEST_SHIFT)
        if theta > 0:
            laws.add("tilted", self._law(_logit(p) + theta * effect), float(np.exp(bound)))

    def _add_refitted(self, laws: _Laws, seen: Seen) -> None:
        """The two tilts that matter most, to where the failures seen lie along the effects."""
        _, effects, thresholds = self._effects
        over = (seen.drives >= thresholds) * self._shares(seen)[:, None]
        counts = np.diff(seen.offsets)
        for drive in np.argsort(-over.sum(axis=0), kind="stable")[:2]:
            if not over[:, drive].any():
                continue
            effect = effects[:, drive]
            each = np.bincount(np.repeat(np.arange(len(counts)), counts), effect[seen.sites])
            self._add_tilted(laws, effect, float(np.average(each, weights=over[:, drive])))

    def _add_exploring(self, laws: _Laws) -> None:
        """Laws that only raise the number of faults."""
        for number in _EXPLORED:
            raised = self._raised(number)
            if raised is not self.shown.probability:
                laws.add("exploring", self._law(_logit(raised)))

    def _add_found(self, laws: _Laws, seen: Seen) -> None:
        """Laws about failures: with their frequencies of faults, and about the likeliest two."""
        # One more fault anywhere, or another in the place of one seen, is to be found too.
        near = self._raised(_NEIGHBOURS)
        shares, sizes = self._shares(seen), np.diff(seen.offsets)
        kappa = float((shares**2).sum())
        frequency = np.bincount(seen.sites, np.repeat(shares, sizes), len(near))
        fitted = np.maximum((frequency + kappa * near) / (1 + kappa), near)
        laws.add("found", self._law(_logit(np.minimum(fitted, 0.95))))
        likelihood = self.shown.set_probabilities(seen.offsets, seen.sites)
        for number in _distinct(seen.offsets, seen.sites, np.argsort(-likelihood, kind="stable"))[
            :2
        ]:
            around = near.copy()
            chosen = seen.sites[seen.offsets[number] : seen.offsets[number + 1]]
            around[chosen] = np.maximum(near[chosen], 0.7)
            laws.add("found", self._law(_logit(around)))

    def _raised(self, number: float) -> Array:
        """Probabilities with odds raised, if need be, so that so many faults are expected."""
        p = self.shown.probability
        if not p.sum() < number < len(p):
            return p
        theta, _ = solve_tilt(np.ones(len(p)), p, number, _LARGEST_SHIFT)
        odds = p / (1 - p) * np.exp(theta)
        return np.asarray(odds / (1 + odds))

    @cached_property
    def _block(self) -> Array:
        """Number of the probability of each site among the distinct ones."""
        return np.unique(self.shown.probability, return_inverse=True)[1]

    def _law(self, logit: Array) -> FaultLaw:
        """A law of few distinct probabilities near the given ones."""
        logit = np.clip(logit, -60.0, _LARGEST_LOGIT)
        low, width = logit.min(), np.ptp(logit) / _STEPS
        step = np.zeros(len(logit), np.int64)
        if width > 0:
            step = np.minimum(((logit - low) / width).astype(np.int64), _STEPS - 1)
        index = self._block * _STEPS + step
        mean = np.bincount(index, logit) / np.maximum(np.bincount(index), 1)
        return FaultLaw(probability=1 / (1 + np.exp(-mean[index])), least=self.least)


def _logit(p: Array) -> Array:
    return np.asarray(np.log(p) - np.log1p(-p))


def _distinct(offsets: Array, sites: Array, numbers: Array) -> Array:
    """Of the sets of these numbers, in order, the first of each that there is."""
    first: dict[bytes, int] = {}
    for number in numbers.tolist():
        first.setdefault(sites[offsets[number] : offsets[number + 1]].tobytes(), number)
    return np.fromiter(first.values(), np.int64, len(first))


def _chosen(offsets: Array, sites: Array, numbers: Array) -> tuple[Array, Array]:
    """Some of the sets, in order."""
    sizes = np.diff(offsets)[numbers]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    index = np.repeat(offsets[numbers] - starts[:-1], sizes) + np.arange(starts[-1])
    return starts, sites[index]
