"""Where the failures of one input are looked for: the laws that fault sets are drawn from.

A law tilted along what single faults do finds the failures that single faults announce, and misses
others. So pilots explore with laws of more faults, and the first two add laws about the failures
they found; how much is drawn from each is fitted to what the others saw. The true law keeps a
share of every draw, which bounds the weights. What pilots draw is not used in any estimate.
"""

from dataclasses import dataclass, field

import numpy as np

from neurosim.certification.failures import Failure
from neurosim.certification.families import Family, largest_choice
from neurosim.certification.presented import PresentedInputs
from neurosim.kernels.tilted import solve_tilt
from neurosim.layers import Array
from neurosim.sampling import FaultLaw, Mixture

__all__ = ["BATCH", "PILOTS", "DrawingPlan", "Search", "failed"]

BATCH = 512
PILOTS, _FINDING = 4, 2  # how many pilots, and how many of them add laws
# Streams of the draws, beyond those of fault processes; a trial's number holds the input's.
_PILOT_STREAM, _STREAM = 2**31, 2**31 + 64
_TRIALS_AN_INPUT = 2**40
# Shares of the draws by kind of law, and the part of each that its laws share evenly.
_SHARES = {"true": 0.1, "exploring": 0.1, "tilted": 0.4, "found": 0.4}
_EVENLY = 0.2
_EXPLORED = (2.0, 4.0, 8.0)
_NEIGHBOURS = 0.7
# Sets of one size computed beside the draws, for how many sizes: those with this share of the
# failures seen, if so many of them are held, and those up to two faults smaller; not where all sets
# of a size are less than a part of what was seen, nor where that is little beside the known.
_EXTENDED, _EXTENSIONS, _COMMON, _HELD, _BELOW = 2**12, 4, 0.02, 0.1, 2
_NEGLIGIBLE, _LITTLE = 1e-3, 0.05
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

    def add(self, kind: str, law: FaultLaw, merit: float = 1.0) -> None:
        """Append one."""
        self.laws.append(law)
        self.kinds.append(kind)
        self.merits.append(merit)

    def counts(self, merits: Array) -> Array:
        """Draws of a batch from each law."""
        kinds = np.array(self.kinds)
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
class _Seen:
    """Failures that a pilot drew: shares (n,), sets, drives (n, n_drives), estimates."""

    means: Array
    value: Array
    offsets: Array
    sites: Array
    drives: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawingPlan:
    """What to draw from, and what not to draw for it is computed anyway.

    Parameters
    ----------
    mixture : Mixture
    counts : ndarray of int
        Draws of a batch from each law.
    family : Family
    """

    mixture: Mixture
    counts: Array
    family: Family


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
    law : ndarray
        Of the number of faults.
    enumerated : ndarray, (n_cells + 1,)
        Probability of the failing sets of fewer faults.
    errors : ndarray, (1 or n_sites + 1, n_outputs)
        Errors without faults and, where known, of each site alone.
    every_cell : bool
        Whether every cell matters, or any.
    extended : bool
        Whether more sets may be computed beside the draws.
    """

    shown: PresentedInputs
    failure: Failure
    least: int
    law: Array
    enumerated: Array
    errors: Array
    every_cell: bool
    extended: bool = True

    def draw(self, plan: DrawingPlan, repeats: int, first: int) -> Array:
        """Weight times failure of batches of sets, 0 in the family: (n_sets, n_cells + 1)."""
        return self._drawn(plan, repeats, _STREAM, first)[0]

    def _drawn(
        self, plan: DrawingPlan, repeats: int, stream: int, first: int
    ) -> tuple[Array, Array, Array, Array]:
        number = self.shown.first * _TRIALS_AN_INPUT + first
        seed = self.shown.campaign.seed
        offsets, sites = plan.mixture.draw(plan.counts * repeats, seed, stream, number)
        ratios = plan.mixture.log_ratios(offsets, sites)
        weights = plan.mixture.weights(plan.counts / plan.counts.sum(), ratios)
        weights[plan.family.holds(offsets, sites)] = 0
        errors = self.shown.errors(offsets, sites)[:, 0]
        return weights[:, None] * failed(self.failure, errors), offsets, sites, errors

    def plan(self) -> DrawingPlan:
        """What to draw from, and what to compute beside it, after all pilots."""
        laws = _Laws()
        laws.add("true", FaultLaw(probability=self.shown.probability, least=self.least))
        self._add_exploring(laws)
        base, effects, thresholds = self._effects()
        for effect, threshold in zip(effects.T, thresholds, strict=True):
            self._add_tilted(laws, effect, float(threshold))
        n_sites = len(self.shown.probability)
        family = Family(order=np.arange(n_sites), limits=(n_sites,) * self.least)
        seen: list[_Seen] = []
        judged = 0
        for pilot in range(PILOTS):
            plan = self._fitted(laws, [], family)
            values, offsets, sites, errors = self._drawn(plan, 1, _PILOT_STREAM + pilot, 0)
            value = self._importance(values)
            failing = np.flatnonzero(value)
            if len(failing):
                starts, chosen = _chosen(offsets, sites, failing)
                seen.append(
                    _Seen(
                        means=values.mean(axis=0),
                        value=value[failing] / value[failing].sum(),
                        offsets=starts,
                        sites=chosen,
                        drives=self.failure.drives(errors[failing]) - base,
                    )
                )
                if pilot < _FINDING:
                    self._add_refitted(laws, seen[-1], effects, thresholds)
                    self._add_found(laws, seen[-1])
                    judged = len(seen)
        # A law is not judged by the failures that it was made from.
        fresh = seen[judged:] or seen
        plan = self._fitted(laws, fresh, family)
        if not self.extended or not any(self._matters(s.means) for s in seen):
            return plan
        return self._fitted(laws, fresh, self._extended(family, plan, seen))

    def _fitted(self, laws: _Laws, seen: list[_Seen], family: Family) -> DrawingPlan:
        """Draws in shares under which the failures seen outside the family are likeliest."""
        mixture = Mixture(laws=tuple(laws.laws))
        values = [s.value * ~family.holds(s.offsets, s.sites) for s in seen]
        merits = np.array(laws.merits)
        if sum(v.sum() for v in values) > 0:
            value = np.concatenate(values) / np.concatenate(values).sum()
            ratios = np.concatenate([mixture.log_ratios(s.offsets, s.sites) for s in seen])
            likelihood = np.exp(ratios - ratios.max(axis=1, keepdims=True))
            merits = np.full(len(merits), 1 / len(merits))
            for _ in range(10):  # expectation maximisation
                joint = likelihood * merits
                merits = value @ (joint / joint.sum(axis=1, keepdims=True))
        return DrawingPlan(mixture=mixture, counts=laws.counts(merits), family=family)

    def _extended(self, family: Family, plan: DrawingPlan, seen: list[_Seen]) -> Family:
        """The family with all sets, of the sizes of the failures seen, of the likeliest sites.

        Of slightly smaller sizes too: there a single failing set may outweigh all that pilots saw.
        """
        offsets, sites = _joined([(s.offsets, s.sites) for s in seen])
        value = np.concatenate([s.value for s in seen]) / len(seen)
        sizes = np.diff(offsets)
        by_size = np.bincount(sizes, value)
        common = np.flatnonzero(by_size > _COMMON)
        marginal = sum(
            n * law.probability for n, law in zip(plan.counts, plan.mixture.laws, strict=True)
        )
        order = np.argsort(-np.asarray(marginal), kind="stable")
        smallest = min(self._smallest(s.means) for s in seen)
        limits = list(family.limits)
        stop = min(int(common.max()) + 1, self.least + _EXTENSIONS, len(self.law))
        for size in range(self.least, stop):
            limit = largest_choice(len(order), size, _EXTENDED)
            if size in common:
                only = Family(order=order, limits=(0,) * size + (limit,))
                held = value @ only.holds(offsets, sites)
                useful = held > _HELD * by_size[size]
            else:
                useful = common.min() - _BELOW <= size < common.min()
            matters = self.law[size] > _NEGLIGIBLE * smallest
            limits.append(limit if useful and matters else 0)
        return Family(order=order, limits=tuple(limits))

    def _importance(self, values: Array) -> Array:
        """What each set adds to what is wanted: any failure, or all cells on one scale."""
        if not self.every_cell:
            return values[:, -1]
        totals = values[:, :-1].sum(axis=0)
        scaled = values[:, :-1] / np.where(totals > 0, totals, 1)
        return np.asarray(scaled.sum(axis=1))

    def _matters(self, means: Array) -> bool:
        """Whether what pilots saw is much beside what is enumerated already, where it is wanted."""
        wanted = slice(None, -1) if self.every_cell else slice(-1, None)
        return bool((means > _LITTLE * self.enumerated)[wanted].any())

    def _smallest(self, means: Array) -> float:
        """The smallest probability that is wanted and was seen."""
        wanted = means[:-1] if self.every_cell else means[-1:]
        return float(wanted[wanted > 0].min())

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

    def _add_refitted(self, laws: _Laws, seen: _Seen, effects: Array, thresholds: Array) -> None:
        """The two tilts that matter most, to where the failures seen lie along the effects."""
        over = (seen.drives >= thresholds) * seen.value[:, None]
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

    def _add_found(self, laws: _Laws, seen: _Seen) -> None:
        """Laws about failures: with their frequencies of faults, and about the likeliest two."""
        # One more fault anywhere, or another in the place of one seen, is to be found too.
        near = self._raised(_NEIGHBOURS)
        kappa = float((seen.value**2).sum())
        frequency = np.bincount(seen.sites, np.repeat(seen.value, np.diff(seen.offsets)), len(near))
        fitted = np.maximum((frequency + kappa * near) / (1 + kappa), near)
        laws.add("found", self._law(_logit(np.minimum(fitted, 0.95))))
        likelihood = self.shown.set_probabilities(seen.offsets, seen.sites)
        known: set[bytes] = set()
        for number in np.argsort(-likelihood, kind="stable"):
            chosen = seen.sites[seen.offsets[number] : seen.offsets[number + 1]]
            if chosen.tobytes() in known:
                continue
            known.add(chosen.tobytes())
            around = near.copy()
            around[chosen] = np.maximum(near[chosen], 0.7)
            laws.add("found", self._law(_logit(around)))
            if len(known) == 2:
                break

    def _raised(self, number: float) -> Array:
        """Probabilities with odds raised, if need be, so that so many faults are expected."""
        p = self.shown.probability
        if not p.sum() < number < len(p):
            return p
        theta, _ = solve_tilt(np.ones(len(p)), p, number, _LARGEST_SHIFT)
        odds = p / (1 - p) * np.exp(theta)
        return np.asarray(odds / (1 + odds))

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


def _joined(sets: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Several lists of sets as one."""
    sizes = np.concatenate([np.diff(offsets) for offsets, _ in sets])
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return starts, np.concatenate([sites for _, sites in sets])
