"""Streaming statistics of weighted trials: sums over trials, and what was enumerated beside them.

Each estimate is the exact part, over sets of at most one fault, and the mean over trials of weight
times value; its standard error comes from the spread of weight times value. Both go stratum by
stratum, each with its share of the trials.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from neurosim.campaign import Campaign
from neurosim.errors import InputError
from neurosim.kernels.accumulate import (
    by_input,
    cell_extremes,
    cell_sums,
    fill_histogram,
    winners,
)
from neurosim.kernels.tilted import effect_sums
from neurosim.layers import Array
from neurosim.sampling import ResolvedDraws, WeightedTrials
from neurosim.statistics import Changes, Moments, Statistics, loss_values

__all__ = [
    "LEAST_EFFECTIVE",
    "Estimate",
    "WeightedResults",
    "WeightedStatistics",
    "enumerate_few",
    "summarise_weighted",
    "with_control",
]

# Below so many effective failures neither an estimate nor its standard error is to be trusted.
LEAST_EFFECTIVE = 30.0
_ROWS = 256  # trials whose errors are dense at a time, where there is a control variate


@dataclass(frozen=True, kw_only=True, eq=False)
class Estimate:
    """An estimate, elementwise.

    Parameters
    ----------
    value, standard_error : ndarray
    effective_sample_size : ndarray
        (sum of |weight x value|)^2 / sum of its square, over what was drawn: for failures, about
        how many independent ones the estimate rests on.
    drawn_share : ndarray
        Part of the value that was drawn; the rest is exact.
    """

    value: Array
    standard_error: Array
    effective_sample_size: Array
    drawn_share: Array

    @property
    def trusted(self) -> Array:
        """Whether enough was drawn; where most is exact, less has to be.

        Also where nothing was drawn that would count: then the error is that of one more.
        """
        needed = LEAST_EFFECTIVE * np.minimum(np.abs(self.drawn_share), 1)
        seen = self.drawn_share != 0
        return ~seen | (self.effective_sample_size >= np.maximum(needed, 10))


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightedStatistics:
    """Sums over trials first .. stop - 1 of weight times value, and of their squares.

    `i` is the number of inputs, `k` of outputs, `s` of strata, `e` of epsilons. Families of sums
    have a leading axis: weight times value, and its square.

    Parameters
    ----------
    first, stop : int
    evaluated : ndarray of int64, (s, i)
        Trials that are about each input.
    weights : ndarray, (2, s, i)
        Of the weights themselves.
    mean, second : ndarray, (2, s, i, k)
        Of the error and its square, less their control variate.
    mixed : ndarray, (s, i, k)
        Of the product of those two.
    powers : ndarray, (2, s, i, k)
        Weight times third and fourth power of the error.
    minimum, maximum : ndarray, (i, k)
        Of errors with a weight above 0.
    histogram : ndarray, (i, k, bins)
        Weights of trials in each bin, those of unchanged outputs left out.
    exceedances : ndarray, (2, e, s, i, k)
    exceedances_any : ndarray, (2, e, s, i)
    class_changes : ndarray, (2, s, i)
    accuracy : ndarray, (2, s, i), or None
        Of the change in whether an input is classified correctly.
    accuracy_square : ndarray, (s,), or None
        Squares of weight times its mean over the inputs of a trial.
    loss : ndarray, (2, s, i), or None
    epsilons : tuple of float
    """

    first: int
    stop: int
    evaluated: Array
    weights: Array
    mean: Array
    second: Array
    mixed: Array
    powers: Array
    minimum: Array
    maximum: Array
    histogram: Array
    exceedances: Array
    exceedances_any: Array
    class_changes: Array
    accuracy: Array | None
    accuracy_square: Array | None
    loss: Array | None
    epsilons: tuple[float, ...]

    def merge(self, after: "WeightedStatistics") -> "WeightedStatistics":
        """Statistics of this range and the one that follows it.

        Raises
        ------
        InputError
            If the other range does not begin where this one ends.
        """
        if self.stop != after.first:
            raise InputError(
                f"statistics: expected trials from {self.stop} on, got {after.first} on"
            )
        merged: dict[str, Any] = {"first": self.first, "stop": after.stop}
        merged["epsilons"] = self.epsilons
        merged["minimum"] = np.minimum(self.minimum, after.minimum)
        merged["maximum"] = np.maximum(self.maximum, after.maximum)
        for item in fields(self):
            if item.name not in merged:
                mine, theirs = getattr(self, item.name), getattr(after, item.name)
                merged[item.name] = None if mine is None else mine + theirs
        return WeightedStatistics(**merged)

    def to_arrays(self) -> dict[str, Array]:
        """Flat name -> array form, for storage; `from_arrays` is its inverse."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: np.asarray(value) for name, value in values.items() if value is not None}

    @staticmethod
    def from_arrays(flat: Mapping[str, Array]) -> "WeightedStatistics":
        """Statistics from what `to_arrays` returned."""
        values: dict[str, Any] = {
            item.name: flat.get(item.name) for item in fields(WeightedStatistics)
        }
        values["first"], values["stop"] = int(flat["first"]), int(flat["stop"])
        values["epsilons"] = tuple(float(e) for e in np.atleast_1d(flat["epsilons"]))
        return WeightedStatistics(**values)


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightedResults:
    """Estimates from weighted trials: what was enumerated and what was drawn.

    Parameters
    ----------
    enumerated : WeightedStatistics
        Of all sets of at most one fault, with their probabilities as weights.
    drawn : WeightedStatistics
    largest_weight : ndarray, (n_inputs,)
        What no weight exceeds.
    shares : ndarray, (n_strata,)
        Of the trials: by how much strata count.
    together : bool
        Whether each trial is about all inputs, else about one.
    """

    enumerated: WeightedStatistics
    drawn: WeightedStatistics
    largest_weight: Array
    shares: Array
    together: bool

    def _estimate(
        self, exact: Array, total: Array, square: Array, failures: bool = False
    ) -> Estimate:
        """From an exact part (i, ...) and sums (s, i, ...)."""
        drawn, rest = self.drawn, (1,) * (exact.ndim - 1)
        n = drawn.evaluated.reshape(*drawn.evaluated.shape, *rest)
        sampled, variance = self._over_strata(total, square, n)
        # What was drawn less than twice has no spread to see.
        unknown = (n < 2).any(axis=0) & (self.largest_weight > 0).reshape(-1, *rest)
        error = np.where(unknown, np.inf, np.sqrt(variance))
        if failures:
            # Nothing seen is not nothing there: one failure of the largest weight could be next.
            unseen = self.largest_weight.reshape(-1, *rest) / np.maximum(n.sum(axis=0), 1)
            error = np.where(sampled > 0, error, np.maximum(error, unseen))
            size = _effective(total.sum(axis=0), square.sum(axis=0))
        else:
            size = np.broadcast_to(self.effective_sample_size.reshape(-1, *rest), exact.shape)
        value = exact + sampled
        share = np.divide(sampled, value, out=np.zeros_like(value), where=value != 0)
        return Estimate(
            value=value, standard_error=error, effective_sample_size=size, drawn_share=share
        )

    def _over_strata(self, total: Array, square: Array, n: Array) -> tuple[Array, Array]:
        """Mean and its variance from sums (s, ...) over n trials of each stratum."""
        shares = self.shares.reshape(-1, *(1,) * (total.ndim - 1))
        each = np.maximum(n, 1)
        spread = np.maximum(square - total**2 / each, 0) / np.maximum(n - 1, 1)
        mean = (shares * total / each).sum(axis=0)
        return mean, (shares**2 * spread / each).sum(axis=0)

    @property
    def effective_sample_size(self) -> Array:
        """(sum of weights)^2 / sum of their squares, of the trials about each input."""
        return _effective(*self.drawn.weights.sum(axis=1))

    @property
    def total_weight(self) -> Estimate:
        """Probability of all sets, estimated: 1 within its standard error, else weights are off."""
        return self._of("weights")

    @cached_property
    def mean(self) -> Estimate:
        """Mean error, (n_inputs, n_outputs)."""
        return self._of("mean")

    @cached_property
    def second_moment(self) -> Estimate:
        """Mean square of the error, (n_inputs, n_outputs)."""
        return self._of("second")

    @cached_property
    def variance(self) -> Estimate:
        """Variance of the error, (n_inputs, n_outputs); its error to first order."""
        drawn, mean = self.drawn, self.mean.value
        first, second = drawn.mean, drawn.second
        combined = self._estimate(
            self.second_moment.value,
            second[0] - 2 * mean * first[0],
            second[1] - 4 * mean * drawn.mixed + 4 * mean**2 * first[1],
        )
        return replace(
            combined,
            value=self.second_moment.value - mean**2,
            drawn_share=self.second_moment.drawn_share,
        )

    @cached_property
    def exceedances(self) -> Estimate:
        """P(|error| >= epsilon), (n_epsilons, n_inputs, n_outputs)."""
        return self._each("exceedances")

    @cached_property
    def exceedances_any(self) -> Estimate:
        """P(max over outputs of |error| >= epsilon), (n_epsilons, n_inputs)."""
        return self._each("exceedances_any")

    @cached_property
    def class_changes(self) -> Estimate:
        """P(another output than the golden one is the largest), (n_inputs,)."""
        return self._of("class_changes", failures=True)

    @cached_property
    def loss(self) -> Estimate | None:
        """Mean of the faulty minus the golden loss, (n_inputs,)."""
        return None if self.drawn.loss is None else self._of("loss")

    @cached_property
    def accuracy_change(self) -> tuple[float, float] | None:
        """Mean over inputs of what faults add to the accuracy, and its standard error."""
        drawn = self.drawn
        if drawn.accuracy is None or drawn.accuracy_square is None:
            return None
        each = self._of("accuracy")
        value, n = float(each.value.mean()), len(each.value)
        if not self.together:
            return value, float(np.sqrt((each.standard_error**2).sum()) / n)
        total = drawn.accuracy[0].sum(axis=1) / n
        variance = self._over_strata(total, drawn.accuracy_square, drawn.evaluated[:, 0])[1]
        return value, float(np.sqrt(variance))

    def _of(self, name: str, failures: bool = False) -> Estimate:
        total, square = getattr(self.drawn, name)
        return self._estimate(getattr(self.enumerated, name)[0, 0], total, square, failures)

    def _each(self, name: str) -> Estimate:
        exact, sums = getattr(self.enumerated, name)[0, :, 0], getattr(self.drawn, name)
        found = [
            self._estimate(exact[e], sums[0, e], sums[1, e], failures=True)
            for e in range(len(exact))
        ]
        none = exact[:0]
        parts = {
            item.name: np.stack([getattr(f, item.name) for f in found]) if found else none
            for item in fields(Estimate)
        }
        return Estimate(**parts)

    def statistics(self, right: Array | None) -> Statistics:
        """The estimates in the form of plain statistics: counts are trials times probabilities.

        right: (n_inputs,), which inputs are classified correctly without faults; None without
        labels. What has no meaning is NaN or empty.
        """
        drawn, exact = self.drawn, self.enumerated
        n = drawn.stop - drawn.first
        each = drawn.evaluated[:, :, None]
        third, fourth = (
            exact.powers[power, 0] + self._over_strata(sums, sums, each)[0]
            for power, sums in enumerate(drawn.powers)
        )
        mean, second = self.mean.value, self.second_moment.value
        nothing = np.full(mean.shape[1], np.nan)
        empty = np.zeros((0, len(self.drawn.epsilons), *mean.shape))
        loss = None
        if self.loss is not None:
            unknown = np.full(len(mean), np.nan)
            loss = _moments(n, self.loss.value, unknown, unknown, unknown)
        accuracy = None
        if right is not None and self.accuracy_change is not None:
            unknown = np.full((), np.nan)
            value = np.asarray(right.mean() + self.accuracy_change[0])
            accuracy = _moments(n, value, unknown, unknown, unknown)
        return Statistics(
            first=drawn.first,
            stop=drawn.stop,
            errors=replace(
                _moments(
                    n,
                    mean,
                    self.variance.value * (n - 1),
                    n * (third - 3 * mean * second + 2 * mean**3),
                    n * (fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4),
                ),
                minimum=np.minimum(exact.minimum, drawn.minimum),
                maximum=np.maximum(exact.maximum, drawn.maximum),
            ),
            loss=loss,
            input_mean=_moments(n, nothing, nothing, nothing, nothing),
            input_variance=_moments(n, nothing, nothing, nothing, nothing),
            accuracy=accuracy,
            histogram=n * self._shares,
            exceedances=n * self.exceedances.value,
            exceedances_any=n * self.exceedances_any.value,
            class_changes=n * self.class_changes.value,
            median_groups=np.zeros(0, np.int64),
            median_exceedances=empty,
            median_exceedances_any=empty[..., 0],
            head=empty[:, 0],
            tail=empty[:, 0],
            replicas=(),
            epsilons=drawn.epsilons,
        )

    @property
    def _shares(self) -> Array:
        """Probability of each bin of the error; together 1."""
        drawn, exact = self.drawn, self.enumerated
        each = np.maximum(drawn.evaluated.sum(axis=0), 1)[:, None, None]
        found = exact.histogram + drawn.histogram / each
        weight = self.total_weight.value[:, None]
        middle = found.shape[2] // 2
        found[..., middle] = np.maximum(found[..., middle] + weight, 0)
        return np.asarray(found / found.sum(axis=2, keepdims=True))


def _moments(n: int, mean: Array, m2: Array, m3: Array, m4: Array) -> Moments:
    unknown = np.full_like(mean, np.nan)
    return Moments(count=n, mean=mean, m2=m2, m3=m3, m4=m4, minimum=unknown, maximum=unknown)


def _effective(total: Array, square: Array) -> Array:
    size = np.zeros_like(total)
    np.divide(total**2, square, out=size, where=square > 0)
    return size


def enumerate_few(
    campaign: Campaign,
    golden: Array,
    changes: Changes,
    chances: Array,
    inputs: tuple[int, int],
    first: int,
) -> WeightedStatistics:
    """Exact parts of the sums from sets that are all computed.

    Parameters
    ----------
    campaign : Campaign
    golden : ndarray, (n_inputs, n_outputs)
    changes : Changes
        Errors of the sets.
    chances : ndarray, (n_sets,)
        Their probabilities.
    inputs : tuple of int
        The inputs they are about, first and stop.
    first : int
        Number of the first set.
    """
    evaluated = np.zeros((1, campaign.n_inputs), np.int64)
    evaluated[:, inputs[0] : inputs[1]] = len(chances)
    weights = np.zeros((2, 1, campaign.n_inputs))
    weights[:, 0, inputs[0] : inputs[1]] = [[chances.sum()], [(chances**2).sum()]]
    pairs = _Pairs.of(changes, chances, np.zeros(len(chances), np.int64), 1)
    return _summed(campaign, golden, pairs, evaluated, weights, first, first + len(chances))


def with_control(enumerated: WeightedStatistics, draws: ResolvedDraws) -> WeightedStatistics:
    """The exact parts with what the control variate has at two or more faults."""
    if draws.effects is None or draws.base is None:
        return enumerated
    p, effects, base = draws.groups[0].sites.probability, draws.effects, draws.base
    none = float(np.exp(np.log1p(-p).sum()))
    alone = p / (1 - p) * none
    mean = base + np.tensordot(p, effects, 1)
    spread = np.tensordot(p * (1 - p), effects**2, 1)
    few = none * base + np.tensordot(alone, base + effects, 1)
    few_squares = none * base**2 + np.tensordot(alone, (base + effects) ** 2, 1)
    first, second = enumerated.mean.copy(), enumerated.second.copy()
    first[0, 0] += mean - few
    second[0, 0] += mean**2 + spread - few_squares
    return replace(enumerated, mean=first, second=second)


def summarise_weighted(
    campaign: Campaign, golden: Array, trials: WeightedTrials, changes: Changes, first: int
) -> WeightedStatistics:
    """Statistics of one range of weighted trials.

    Parameters
    ----------
    campaign : Campaign
    golden : ndarray, (n_inputs, n_outputs)
        Golden outputs of the same backend.
    trials : WeightedTrials
    changes : Changes
        Their errors.
    first : int
        Number of the first trial.
    """
    draws, n = campaign.draws, len(trials.weights)
    strata = trials.laws if draws.strata else np.zeros(n, np.int64)
    pairs = _Pairs.of(changes, trials.weights, strata, draws.n_strata)
    evaluated = draws.evaluated(campaign.n_inputs, first, first + n)
    weights = np.zeros((2, draws.n_strata, campaign.n_inputs))
    groups = (first + np.arange(n)) % len(draws.groups)
    cells = strata * len(draws.groups) + groups
    for power in (1, 2):
        found = np.bincount(cells, trials.weights**power, draws.n_strata * len(draws.groups))
        by_group = found.reshape(draws.n_strata, -1)
        for g, group in enumerate(draws.groups):
            weights[power - 1, :, group.first : group.stop] = by_group[:, g, None]
    found_sums = _summed(campaign, golden, pairs, evaluated, weights, first, first + n)
    if draws.effects is None or draws.base is None:
        return found_sums
    mean, second, mixed = _controlled(changes, trials, strata, draws)
    return replace(found_sums, mean=mean, second=second, mixed=mixed)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs:
    """Changed pairs of trial and input: arrays (n_pairs,), values (n_pairs, n_outputs)."""

    trials: Array
    inputs: Array
    values: Array
    weights: Array
    cells: Array
    n_strata: int
    n_inputs: int
    n_trials: int

    @staticmethod
    def of(changes: Changes, weights: Array, strata: Array, n_strata: int) -> "_Pairs":
        """Those with a weight above 0, trial after trial."""
        start, stop = changes.pairs()
        sizes = np.where(weights > 0, stop - start, 0)
        trials = np.repeat(np.arange(len(sizes)), sizes)
        before = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        rows = np.repeat(start - before, sizes) + np.arange(len(trials))
        inputs = changes.inputs[rows]
        return _Pairs(
            trials=trials,
            inputs=inputs,
            values=changes.values[rows],
            weights=weights[trials],
            cells=strata[trials] * changes.n_inputs + inputs,
            n_strata=n_strata,
            n_inputs=changes.n_inputs,
            n_trials=len(sizes),
        )

    def sums(self, factors: Array, values: Array) -> Array:
        """Sums of factor times value, (n_strata, n_inputs, ...)."""
        columns = values.reshape(len(values), prod(values.shape[1:]))
        columns = columns.astype(np.float64, copy=False)
        found = cell_sums(self.cells, factors, columns, self.n_strata * self.n_inputs)
        return np.asarray(found.reshape(self.n_strata, self.n_inputs, *values.shape[1:]))

    def both(self, values: Array) -> Array:
        """Sums of weight times value and of its square, (2, n_strata, n_inputs, ...)."""
        numbers = values.astype(np.float64)
        return np.stack([
            self.sums(self.weights, numbers), self.sums(self.weights**2, numbers**2)
        ])  # fmt: skip


def _summed(
    campaign: Campaign,
    golden: Array,
    pairs: _Pairs,
    evaluated: Array,
    weights: Array,
    first: int,
    stop: int,
) -> WeightedStatistics:
    errors = pairs.values.astype(np.float64)
    sizes = np.abs(errors)
    inputs, n_inputs = pairs.inputs, pairs.n_inputs
    n_outputs, shape = errors.shape[1], (pairs.n_strata, n_inputs)
    each = [pairs.both(sizes >= e) for e in campaign.epsilons]
    some = [pairs.both(np.asarray((sizes >= e).any(axis=1))) for e in campaign.epsilons]
    won, best = winners(inputs, pairs.values, golden), golden.argmax(axis=1)
    accuracy, accuracy_square, loss = None, None, None
    if campaign.labels is not None:
        right, labels = best == campaign.labels, campaign.labels
        gained = (won == labels[inputs]).astype(np.float64) - right[inputs]
        accuracy = pairs.both(gained)
        accuracy_square = _accuracy_square(pairs, gained)
    if campaign.loss is not None:
        wanted = campaign.target_outputs
        outputs = (pairs.values + golden[inputs]).astype(np.float64)
        without = loss_values(campaign.loss, golden.astype(np.float64), wanted)
        loss = pairs.both(loss_values(campaign.loss, outputs, wanted[inputs]) - without[inputs])
    low, high = cell_extremes(inputs, errors, n_inputs)
    # Trials that leave an input alone have the error 0 there.
    unchanged = (np.bincount(inputs, minlength=n_inputs) < evaluated.sum(axis=0))[:, None]
    ordered = by_input(inputs, pairs.weights, pairs.values, n_inputs)
    total_square = pairs.weights**2
    return WeightedStatistics(
        first=first,
        stop=stop,
        evaluated=evaluated,
        weights=weights,
        mean=pairs.both(errors),
        second=pairs.both(errors**2),
        mixed=pairs.sums(total_square, errors**3),
        powers=np.stack([pairs.sums(pairs.weights, errors**power) for power in (3, 4)]),
        minimum=np.where(unchanged, np.minimum(low, 0), low),
        maximum=np.where(unchanged, np.maximum(high, 0), high),
        histogram=fill_histogram(0, *ordered, campaign.histogram_edges),
        exceedances=np.stack(each, axis=1) if each else np.zeros((2, 0, *shape, n_outputs)),
        exceedances_any=np.stack(some, axis=1) if some else np.zeros((2, 0, *shape)),
        class_changes=pairs.both(np.asarray(won != best[inputs])),
        accuracy=accuracy,
        accuracy_square=accuracy_square,
        loss=loss,
        epsilons=tuple(campaign.epsilons),
    )


def _accuracy_square(pairs: _Pairs, gained: Array) -> Array:
    """Squares of weight times the mean gain of a trial over all inputs, by stratum."""
    gain = np.bincount(pairs.trials, gained, pairs.n_trials) / pairs.n_inputs
    first = np.flatnonzero(np.diff(pairs.trials, prepend=-1))
    square = (pairs.weights[first] * gain[pairs.trials[first]]) ** 2
    return np.bincount(pairs.cells[first] // pairs.n_inputs, square, pairs.n_strata)


def _controlled(
    changes: Changes, trials: WeightedTrials, strata: Array, draws: ResolvedDraws
) -> tuple[Array, Array, Array]:
    """`mean`, `second` and `mixed` with the control variate, from dense errors."""
    assert draws.effects is not None
    assert draws.base is not None
    shape, n_strata = draws.base.shape, draws.n_strata
    base = draws.base.ravel()
    effects = draws.effects.reshape(len(draws.effects), len(base))  # no rows where nothing may fail
    sums = np.zeros((5, n_strata, base.size))
    for first in range(0, len(strata), _ROWS):
        stop = min(first + _ROWS, len(strata))
        offsets = trials.offsets[first : stop + 1]
        sites = trials.sites[offsets[0] : offsets[-1]]
        errors = changes.dense(first, stop).reshape(stop - first, -1).astype(np.float64)
        control = base + effect_sums(offsets - offsets[0], sites, effects)
        w = trials.weights[first:stop, None]
        one, two = w * (errors - control), w * (errors**2 - control**2)
        for h in range(n_strata):
            own = strata[first:stop] == h
            a, b = one[own], two[own]
            sums[:, h] += [v.sum(axis=0) for v in (a, a**2, b, b**2, a * b)]
    parts = sums.reshape(5, n_strata, *shape)
    return parts[:2], parts[2:4], parts[4]
