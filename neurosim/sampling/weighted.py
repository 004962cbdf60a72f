"""Plans whose trials are weighted: what single faults do is computed, only more of them are drawn.

None and exactly one fault are enumerated; trials draw sets of two or more faults from other laws
than that of the faults, and count by their true probability over that of being drawn. So

    E f = sum of P(set) f(set) over sets of at most one fault + mean over trials of weight f.

A plan is resolved (`neurosim.certification.resolve`) to explicit arrays before its first trial.
"""

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from neurosim.errors import InputError
from neurosim.faults import FaultBatch, Sites
from neurosim.layers import Array
from neurosim.sampling.fault_laws import FaultLaw
from neurosim.sampling.faulty_sites import FaultySites, fault_batch
from neurosim.sampling.mixtures import Mixture

__all__ = [
    "PERIOD",
    "Draws",
    "ImportanceTilted",
    "ResolvedDraws",
    "Stratified",
    "WeightedTrials",
]

# In so many consecutive trials of a group every law has its exact share of draws.
PERIOD = 512
# Streams of the draws, beyond those of fault processes, pilots and estimates; one a law.
_STREAM = 2**31 + 256
_TRIALS_A_GROUP = 2**40
_LEAST = 2  # sets of fewer faults are enumerated


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """What trials about some inputs are drawn from.

    Parameters
    ----------
    first, stop : int
        The inputs; others see no fault in these trials.
    sites : FaultySites
    laws : tuple of FaultLaw
        Of sets of two or more of the uncertain sites; empty where there are fewer sites.
    order : ndarray of int64, (PERIOD,)
        Which law each of so many consecutive trials draws from, and so on again.
    """

    first: int
    stop: int
    sites: FaultySites
    laws: tuple[FaultLaw, ...]
    order: Array

    @cached_property
    def mixture(self) -> Mixture:
        """The laws together."""
        return Mixture(laws=self.laws)

    @cached_property
    def counts(self) -> Array:
        """Trials of each law in a period: (n_laws,)."""
        n = len(self.laws)
        return np.bincount(self.order, minlength=n)[:n]

    @property
    def largest_weight(self) -> float:
        """What no weight exceeds: laws that are not tilted draw every set."""
        if not self.laws:
            return 0.0
        true = self.laws[0].probability
        own = [c for c, law in enumerate(self.laws) if np.array_equal(law.probability, true)]
        return float(max(self.laws[c].mass * PERIOD / self.counts[c] for c in own))

    @property
    def n_enumerated(self) -> int:
        """Sets of at most one fault."""
        return 1 + len(self.sites.probability)

    def enumerated(
        self, layout: Sites, n_presentations: int, first: int, stop: int
    ) -> tuple[FaultBatch, Array]:
        """The empty set (number 0) and those of one fault, and their probabilities."""
        numbers = np.arange(first, stop)
        offsets = np.concatenate([[0], np.cumsum(numbers > 0)])
        sites = numbers[numbers > 0] - 1
        window = (self.first, self.stop)
        batch = self.sites.batch(layout, n_presentations, offsets, sites, window)
        return batch, self.sites.set_probabilities(offsets, sites)

    def draw(self, seed: int, group: int, first: int, stop: int) -> tuple[Array, ...]:
        """Draws first .. stop - 1: (offsets, sites, laws, weights)."""
        n = stop - first
        if not self.laws:
            return np.zeros(n + 1, np.int64), np.empty(0, np.int64), np.zeros(n, int), np.zeros(n)
        laws = self.order[np.arange(first, stop) % PERIOD]
        ranks = [self._rank(c, first) for c in range(len(self.laws))]
        trials, sizes, drawn = [], np.zeros(n, np.int64), []
        for c in np.unique(laws):
            own = np.flatnonzero(laws == c)
            number = group * _TRIALS_A_GROUP + ranks[c]
            offsets, sites = self.laws[c].draw(seed, _STREAM + int(c), number, len(own))
            sizes[own] = np.diff(offsets)
            trials.append(np.repeat(own, sizes[own]))
            drawn.append(sites)
        order = np.argsort(np.concatenate(trials), kind="stable")
        offsets, sites = np.concatenate([[0], np.cumsum(sizes)]), np.concatenate(drawn)[order]
        ratios = self.mixture.log_ratios(offsets, sites)
        weights = self.mixture.weights(self.counts / PERIOD, ratios)
        weights[sizes < _LEAST] = 0  # enumerated; drawn where many faults are expected anyway
        return offsets, sites, laws, weights

    def _rank(self, law: int, first: int) -> int:
        """How many of the draws before `first` are from this law."""
        whole, rest = divmod(first, PERIOD)
        return int(whole * self.counts[law] + (self.order[:rest] == law).sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightedTrials:
    """Trials of a weighted plan.

    Parameters
    ----------
    batch : FaultBatch
    weights : ndarray, (n_trials,)
    laws : ndarray of int64, (n_trials,)
        Which law each was drawn from.
    offsets, sites : ndarray
        Their sets as places among the uncertain sites of their group.
    """

    batch: FaultBatch
    weights: Array
    laws: Array
    offsets: Array
    sites: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class ResolvedDraws:
    """A plan as explicit arrays.

    Parameters
    ----------
    campaign : str
        Fingerprint of the campaign that it was resolved for, its own arrays left out.
    groups : tuple of Draws
        Trial t belongs to group t mod n_groups.
    strata : bool
        Whether the laws are strata, which standard errors may rest on.
    effects : ndarray, (n_sites, n_inputs, n_outputs), optional
        The control variate: what each site alone adds to the error.
    base : ndarray, (n_inputs, n_outputs), optional
        The error without uncertain faults.
    """

    campaign: str
    groups: tuple[Draws, ...]
    strata: bool
    effects: Array | None = None
    base: Array | None = None

    @property
    def n_strata(self) -> int:
        """Strata that sums are kept of."""
        return max(1, len(self.groups[0].laws)) if self.strata else 1

    @property
    def shares(self) -> Array:
        """Of the trials, by stratum: (n_strata,)."""
        draws = self.groups[0]
        return draws.counts / PERIOD if self.strata and draws.laws else np.ones(1)

    def evaluated(self, n_inputs: int, first: int, stop: int) -> Array:
        """How many of the trials first .. stop - 1 are about each input, by stratum.

        Shape (n_strata, n_inputs).
        """
        found = np.zeros((self.n_strata, n_inputs), np.int64)
        for g, draws in enumerate(self.groups):
            begin, end = self._of_group(g, first, stop)
            if self.strata and draws.laws:
                found[:, draws.first : draws.stop] = [
                    [draws._rank(c, end) - draws._rank(c, begin)] for c in range(len(draws.laws))
                ]
            else:
                found[0, draws.first : draws.stop] = end - begin
        return found

    def _of_group(self, group: int, first: int, stop: int) -> tuple[int, int]:
        """The draws of a group that trials first .. stop - 1 are."""
        n = len(self.groups)
        return -((group - first) // n), -((group - stop) // n)

    def draw(
        self, layout: Sites, n_presentations: int, seed: int, first: int, stop: int
    ) -> WeightedTrials:
        """Trials first .. stop - 1: a pure function of the arrays, the seed and their numbers."""
        n = stop - first
        weights, laws = np.zeros(n), np.zeros(n, np.int64)
        sizes, always = np.zeros(n, np.int64), np.zeros(n, np.int64)
        where, drawn, dead = [], [], []
        for g, draws in enumerate(self.groups):
            begin, end = self._of_group(g, first, stop)
            if begin == end:
                continue
            offsets, sites, chosen, weight = draws.draw(seed, g, begin, end)
            own = np.arange(begin, end) * len(self.groups) + g - first
            weights[own], laws[own], sizes[own] = weight, chosen, np.diff(offsets)
            where.append(np.repeat(own, np.diff(offsets)))
            drawn.append(sites)
            sets, kinds, numbers = draws.sites.dead(offsets, sites)
            window = np.broadcast_to([[draws.first], [draws.stop]], (2, len(sets)))
            dead.append((own[sets], kinds, numbers, *window))
            always[own] = len(draws.sites.certain)
        trial, kinds, numbers, start, stops = (
            np.concatenate(column) for column in zip(*dead, strict=True)
        )
        order = np.argsort(trial, kind="stable")
        events = [column[order] for column in (trial, kinds, numbers)]
        windows = [times[order].astype(np.int32) for times in (start, stops)]
        in_order = np.argsort(np.concatenate(where), kind="stable")
        return WeightedTrials(
            batch=fault_batch(layout, n_presentations, sizes + always, *events, *windows),
            weights=weights,
            laws=laws,
            offsets=np.concatenate([[0], np.cumsum(sizes)]),
            sites=np.concatenate(drawn)[in_order],
        )

    @cached_property
    def arrays(self) -> dict[str, Array]:
        """All arrays, those of the groups one after the other."""
        groups = self.groups
        laws = [law for draws in groups for law in draws.laws]
        flat = {
            "input_first": np.array([draws.first for draws in groups]),
            "input_stop": np.array([draws.stop for draws in groups]),
            "site_offsets": np.cumsum([0, *(len(draws.sites.kinds) for draws in groups)]),
            "site_kind": np.concatenate([draws.sites.kinds for draws in groups]),
            "site_number": np.concatenate([draws.sites.numbers for draws in groups]),
            "site_probability": np.concatenate([draws.sites.probabilities for draws in groups]),
            "law_offsets": np.cumsum([0, *(len(draws.laws) for draws in groups)]),
            "law_least": np.array([law.least for law in laws], np.int64),
            "law_most": np.array([-1 if law.most is None else law.most for law in laws], np.int64),
            "law_mass": np.array([law.mass for law in laws], np.float64),
            "law_probability": np.concatenate([np.empty(0), *(law.probability for law in laws)]),
            "order": np.stack([draws.order for draws in groups]),
        }
        for kind, members in zip(("neuron", "synapse"), groups[0].sites.members, strict=False):
            flat |= {f"group_{kind}_offsets": members[0], f"group_{kind}s": members[1]}
        for name in ("effects", "base"):
            value = getattr(self, name)
            if value is not None:
                flat[name] = value
        return flat

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the arrays, in hexadecimal."""
        digest = hashlib.sha256()
        for name, array in self.arrays.items():
            digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Weighted:
    """What weighted plans share."""

    resolved: ResolvedDraws | None = None

    @property
    def draws(self) -> ResolvedDraws:
        """The explicit arrays.

        Raises
        ------
        InputError
            If the plan is not resolved.
        """
        if self.resolved is None:
            raise InputError(
                f"plan: expected one that is resolved to explicit arrays, got {self!r}; resolve it "
                "once: campaign = ns.resolve(campaign)"
            )
        return self.resolved

    def __repr__(self) -> str:
        named = [
            f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.name != "resolved"
        ]
        return f"{type(self).__name__}({', '.join(named)})"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Stratified(_Weighted):
    """Strata by the number of faults: none and one computed, two or more drawn.

    Parameters
    ----------
    strata : tuple of int, optional
        The least number of faults of each stratum that is drawn from, the first 2, ascending. By
        default split where about half and nine tenths of sets of two or more faults lie.
    allocation : tuple of int, optional
        Draws of each stratum in 512 trials. By default in proportion to the probability of the
        stratum times the spread of the error in it, which a pilot estimates.
    control_variate : bool
        Subtract from the error, in its mean and second moment, the sum of the errors of the
        faults alone, whose mean and second moment are known exactly.

    Examples
    --------
    >>> Stratified(strata=(2, 3), allocation=(384, 128))
    Stratified(strata=(2, 3), allocation=(384, 128), control_variate=True)
    """

    strata: tuple[int, ...] | None = None
    allocation: tuple[int, ...] | None = None
    control_variate: bool = True

    def __post_init__(self) -> None:
        for name in ("strata", "allocation"):
            value = getattr(self, name)
            if value is None:
                continue
            if not all(isinstance(v, int | np.integer) for v in value):
                raise InputError(f"{name}: expected whole numbers, got {value!r}")
            object.__setattr__(self, name, tuple(int(v) for v in value))
        if self.strata is not None and (
            self.strata[:1] != (_LEAST,) or list(self.strata) != sorted(set(self.strata))
        ):
            raise InputError(
                f"strata: expected numbers of faults from {_LEAST} on, ascending, as (2, 3), got "
                f"{self.strata}; none and one fault are always strata of their own"
            )
        if self.allocation is not None and (
            self.strata is None
            or len(self.allocation) != len(self.strata)
            or sum(self.allocation) != PERIOD
            or min(self.allocation) < 1
        ):
            raise InputError(
                f"allocation: expected draws of each of the strata in {PERIOD} trials, with that "
                f"sum, got {self.allocation} for strata {self.strata}"
            )

    def __str__(self) -> str:
        text = "stratified by the number of faults"
        if self.resolved is not None and self.resolved.groups[0].laws:
            draws = self.resolved.groups[0]
            shares = zip(draws.laws, draws.counts, strict=True)
            text += ": " + ", ".join(
                f"{_faults(law)} in {n} of {PERIOD} trials" for law, n in shares
            )
        return text + (", with control variate" if self.control_variate else "")


def _faults(law: FaultLaw) -> str:
    """How many faults a law has, in words."""
    if law.most is None:
        return f"{law.least}+"
    return str(law.least) if law.most == law.least else f"{law.least} to {law.most}"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ImportanceTilted(_Weighted):
    """Importance sampling towards errors beyond epsilon: each trial is about one input.

    Sites fail more often the more their fault alone moves an output towards epsilon: a mixture of
    one tilt for each output and sign, laws about failures that pilots found, and, with a tenth of
    the draws, the law of the faults itself, so that weights are bounded.

    Parameters
    ----------
    epsilon : float
        One of the campaign's epsilons.

    Examples
    --------
    >>> ImportanceTilted(epsilon=0.5)
    ImportanceTilted(epsilon=0.5)
    """

    epsilon: float

    def __post_init__(self) -> None:
        if not isinstance(self.epsilon, int | float) or not 0 < self.epsilon < float("inf"):
            raise InputError(f"epsilon: expected a number above 0, got {self.epsilon!r}")

    def __str__(self) -> str:
        text = f"importance sampling of |error| >= {self.epsilon:g}, one input a trial"
        if self.resolved is not None:
            laws = [len(draws.laws) for draws in self.resolved.groups]
            text += f", {min(laws)} to {max(laws)} laws an input"
        return text
