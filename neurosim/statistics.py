"""Streaming statistics of a campaign: results of adjacent ranges of trials add up.

All of it is a fold over chunks of trials in order; nothing here grows with the number of trials.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from neurosim.campaign import Campaign
from neurosim.errors import InputError
from neurosim.kernels.accumulate import (
    by_input,
    count_exceedances,
    count_medians,
    fill_histogram,
    over_inputs,
    weighted_moments,
    winners,
)
from neurosim.kernels.changes import nonzero_rows, spread
from neurosim.layers import Array

__all__ = ["Changes", "Moments", "Statistics", "changed_rows", "loss_values", "summarise"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Changes:
    """Errors of a range of trials without the zeros: each distinct fault set once.

    Parameters
    ----------
    n_inputs : int
    sets : ndarray of int64, (n_trials,)
        Which of the distinct fault sets a trial has, each at least one; -1 where nothing failed.
    offsets : ndarray of int64, (n_sets + 1,)
        The changed inputs of set s are at offsets[s] .. offsets[s + 1] - 1.
    inputs : ndarray of int32, (n_pairs,)
        Inputs whose outputs may differ from the golden ones, ascending in a set.
    values : ndarray, (n_pairs, n_outputs)
        Their errors, faulty minus golden outputs.
    alone : ndarray of int64, (n_neurons,) or (0,)
        The set in which this neuron alone is dead, for the whole trial; -1 where there is none.
        Its rows are the same bits in every range of trials; empty where that is not known.
    """

    n_inputs: int
    sets: Array
    offsets: Array
    inputs: Array
    values: Array
    alone: Array = field(default_factory=lambda: np.empty(0, np.int64))

    @staticmethod
    def of(errors: Array) -> "Changes":
        """The same from dense errors (n_trials, n_inputs, n_outputs)."""
        offsets, inputs, values = changed_rows(errors)
        return Changes(
            n_inputs=errors.shape[1],
            sets=np.arange(len(errors)),
            offsets=offsets,
            inputs=inputs,
            values=values,
        )

    def dense(self, first: int = 0, stop: int | None = None) -> Array:
        """Errors (n_trials, n_inputs, n_outputs) of trials first .. stop - 1, zeros included."""
        sets = self.sets[first:stop]
        n, n_inputs, n_outputs = len(sets), self.n_inputs, self.values.shape[1]
        in_order = n < len(self.offsets) and (sets == np.arange(n)).all()
        if in_order and self.offsets[n] == n * n_inputs:  # the first n sets, all pairs of them
            inputs = self.inputs[: n * n_inputs].reshape(n, n_inputs)
            if (inputs == np.arange(n_inputs)).all():
                return self.values[: n * n_inputs].reshape(n, n_inputs, n_outputs)
        errors = np.zeros((n, n_inputs, n_outputs), self.values.dtype)
        start, stops = self.pairs()
        spread(start[first:stop], stops[first:stop], self.inputs, self.values, errors)
        return errors

    def pairs(self) -> tuple[Array, Array]:
        """Pairs start[t] .. stop[t] - 1 of each trial t: (start, stop), 0 and 0 without any."""
        faulty = self.sets >= 0
        return (
            np.where(faulty, self.offsets[self.sets], 0),
            np.where(faulty, self.offsets[self.sets + 1], 0),
        )

    def repeats(self) -> Array:
        """How many trials have each fault set: (n_sets,)."""
        return np.bincount(self.sets[self.sets >= 0], minlength=len(self.offsets) - 1)

    def __len__(self) -> int:
        return len(self.sets)


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Count, mean, central power sums and extremes of values, elementwise.

    Parameters
    ----------
    count : int
    mean, m2, m3, m4 : ndarray of float64
        Mean and sums of the powers 2, 3, 4 of the deviations from it.
    minimum, maximum : ndarray of float64
    """

    count: int
    mean: Array
    m2: Array
    m3: Array
    m4: Array
    minimum: Array
    maximum: Array

    @staticmethod
    def of(values: Array) -> "Moments":
        """Moments over the first axis of values (n_trials, ...)."""
        flat = np.ascontiguousarray(values.reshape(len(values), -1))
        moments = Moments.weighted(len(flat), np.ones(len(flat), np.int64), flat)
        return moments.reshaped(values.shape[1:])

    @staticmethod
    def by_input(count: int, starts: Array, weights: Array, values: Array) -> "Moments":
        """Moments of shape (n_inputs, n_outputs) over `count` trials, from changed pairs.

        Parameters
        ----------
        count : int
        starts : ndarray of int64, (n_inputs + 1,)
            The pairs of input x are starts[x] .. starts[x + 1] - 1.
        weights : ndarray of int64, (n_pairs,)
            In how many trials a pair is; in the others its input has the value 0.
        values : ndarray, (n_pairs, n_outputs)
        """
        mean, m2, m3, m4, low, high = weighted_moments(count, starts, weights, values)
        return Moments(count=count, mean=mean, m2=m2, m3=m3, m4=m4, minimum=low, maximum=high)

    @staticmethod
    def weighted(count: int, weights: Array, values: Array) -> "Moments":
        """Moments of shape (n_values,) of rows of values, with weights; `count` in all, rest 0."""
        moments = Moments.by_input(count, np.array([0, len(values)]), weights, values)
        return moments.reshaped(values.shape[1:])

    def reshaped(self, shape: tuple[int, ...]) -> "Moments":
        """The same with arrays of that shape."""
        names = [item.name for item in fields(Moments) if item.name != "count"]
        return replace(self, **{name: getattr(self, name).reshape(shape) for name in names})

    def shifted(self, by: float) -> "Moments":
        """Moments of the values plus a constant."""
        return replace(
            self, mean=self.mean + by, minimum=self.minimum + by, maximum=self.maximum + by
        )

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both together (Pébay, SAND2008-6212, eqs. 2.1, 3.1)."""
        a, b = self.count, other.count
        n = a + b
        d = other.mean - self.mean
        return Moments(
            count=n,
            mean=self.mean + d * (b / n),
            m2=self.m2 + other.m2 + d**2 * (a * b / n),
            m3=self.m3
            + other.m3
            + d**3 * (a * b * (a - b) / n**2)
            + 3 * d * (a * other.m2 - b * self.m2) / n,
            m4=self.m4
            + other.m4
            + d**4 * (a * b * (a * a - a * b + b * b) / n**3)
            + 6 * d**2 * (a * a * other.m2 + b * b * self.m2) / n**2
            + 4 * d * (a * other.m3 - b * self.m3) / n,
            minimum=np.minimum(self.minimum, other.minimum),
            maximum=np.maximum(self.maximum, other.maximum),
        )

    @property
    def variance(self) -> Array:
        """Unbiased sample variance (divided by count - 1); NaN for a single value."""
        return self.m2 / (self.count - 1) if self.count > 1 else np.full_like(self.m2, np.nan)

    @property
    def third_moment(self) -> Array:
        """Third central moment, m3 / count."""
        return self.m3 / self.count

    @property
    def fourth_moment(self) -> Array:
        """Fourth central moment, m4 / count."""
        return self.m4 / self.count

    @property
    def standard_error(self) -> Array:
        """Standard error of the mean, from the spread between trials."""
        return np.sqrt(self.variance / self.count)


_MOMENT_FIELDS = ("errors", "loss", "input_mean", "input_variance", "accuracy")


@dataclass(frozen=True, kw_only=True, eq=False)
class Statistics:
    """Statistics of the errors of trials first .. stop - 1.

    Parameters
    ----------
    first, stop : int
        The range of trials.
    errors : Moments, (n_inputs, n_outputs)
        Error = faulty minus golden output.
    loss : Moments, (n_inputs,), or None
        Faulty minus golden loss.
    input_mean, input_variance : Moments, (n_outputs,)
        Mean and population variance of a trial's errors over its inputs: their variance and mean
        over trials are the between-chip and within-chip parts.
    accuracy : Moments, (), or None
        Share of a trial's inputs that are classified correctly under its faults.
    histogram : ndarray of int, (n_inputs, n_outputs, n_bins)
    exceedances : ndarray of int, (n_epsilons, n_inputs, n_outputs)
        Trials with |error| >= epsilon.
    exceedances_any : ndarray of int, (n_epsilons, n_inputs)
        Trials with max over outputs of |error| >= epsilon.
    class_changes : ndarray of int, (n_inputs,)
        Trials whose largest output is another one than the golden one.
    median_groups : ndarray of int, (n_replicas,)
        Complete groups of R consecutive trials, R k .. R k + R - 1, seen so far.
    median_exceedances : ndarray of int, (n_replicas, n_epsilons, n_inputs, n_outputs)
        Groups whose component-wise median has |median| >= epsilon.
    median_exceedances_any : ndarray of int, (n_replicas, n_epsilons, n_inputs)
    head, tail : ndarray, (at most max R - 1, n_inputs, n_outputs)
        Errors of the first and last trials: groups that straddle two ranges are completed when
        the ranges are merged.
    replicas : tuple of int
    epsilons : tuple of float
    """

    first: int
    stop: int
    errors: Moments
    loss: Moments | None
    input_mean: Moments
    input_variance: Moments
    accuracy: Moments | None
    histogram: Array
    exceedances: Array
    exceedances_any: Array
    class_changes: Array
    median_groups: Array
    median_exceedances: Array
    median_exceedances_any: Array
    head: Array
    tail: Array
    replicas: tuple[int, ...]
    epsilons: tuple[float, ...]

    def merge(self, after: "Statistics") -> "Statistics":
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
        both = _between(self, after)
        merged: dict[str, Any] = {
            "first": self.first,
            "stop": after.stop,
            "replicas": self.replicas,
            "epsilons": self.epsilons,
        }
        for name in _MOMENT_FIELDS:
            mine, theirs = getattr(self, name), getattr(after, name)
            merged[name] = None if mine is None else mine.merge(theirs)
        for name in ("histogram", "exceedances", "exceedances_any", "class_changes"):
            merged[name] = getattr(self, name) + getattr(after, name)
        for name, extra in both.items():
            merged[name] = getattr(self, name) + getattr(after, name) + extra
        keep = max(self.replicas, default=1) - 1
        merged["head"] = (
            np.concatenate([self.head, after.head])[:keep]
            if (self.stop - self.first < keep)
            else self.head
        )
        tail = np.concatenate([self.tail, after.tail])
        merged["tail"] = tail[len(tail) - min(keep, len(tail)) :]
        return Statistics(**merged)

    def to_arrays(self) -> dict[str, Array]:
        """Flat name -> array form, for storage; `Statistics.from_arrays` is its inverse."""
        flat: dict[str, Array] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Moments):
                for part in fields(Moments):
                    flat[f"{item.name}_{part.name}"] = np.asarray(getattr(value, part.name))
            elif value is not None:
                flat[item.name] = np.asarray(value)
        return flat

    @staticmethod
    def from_arrays(flat: Mapping[str, Array]) -> "Statistics":
        """Statistics from what `to_arrays` returned."""
        values: dict[str, Any] = {
            "replicas": tuple(int(r) for r in np.atleast_1d(flat["replicas"])),
            "epsilons": tuple(float(e) for e in np.atleast_1d(flat["epsilons"])),
        }
        for item in fields(Statistics):
            name = item.name
            if name in _MOMENT_FIELDS:
                parts: dict[str, Any] = {
                    part.name: flat[f"{name}_{part.name}"]
                    for part in fields(Moments)
                    if f"{name}_{part.name}" in flat
                }
                if parts:
                    parts["count"] = int(parts["count"])
                values[name] = Moments(**parts) if parts else None
            elif name in ("first", "stop"):
                values[name] = int(flat[name])
            elif name not in values:
                values[name] = np.asarray(flat[name])
        return Statistics(**values)


def changed_rows(errors: Array) -> tuple[Array, Array, Array]:
    """`offsets`, `inputs` and `values` of `Changes` from dense errors, each trial a set."""
    offsets, inputs = nonzero_rows(errors)
    values = errors.reshape(-1, errors.shape[2])
    if len(inputs) < len(values):
        trials = np.repeat(np.arange(len(errors)), np.diff(offsets))
        values = values[trials * errors.shape[1] + inputs]
    return offsets, inputs, values


def loss_values(kind: str, outputs: Array, target_outputs: Array) -> Array:
    """Loss of each example from outputs (..., n_outputs).

    Squared and absolute errors are means over outputs, cross-entropy is -sum y* log y of softmax
    outputs.
    """
    if kind == "squared_error":
        return ((outputs - target_outputs) ** 2).mean(axis=-1)
    if kind == "absolute_error":
        return np.abs(outputs - target_outputs).mean(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = target_outputs * np.log(outputs)
    return -np.where(target_outputs > 0, terms, 0).sum(axis=-1)


def summarise(campaign: Campaign, golden: Array, errors: Array | Changes, first: int) -> Statistics:
    """Statistics of one range of trials.

    Parameters
    ----------
    campaign : Campaign
    golden : ndarray, (n_inputs, n_outputs)
        Golden outputs of the same backend.
    errors : Changes, or ndarray (n_trials, n_inputs, n_outputs)
    first : int
        Number of the first trial.
    """
    changes = errors if isinstance(errors, Changes) else Changes.of(errors)
    n_trials, (n_inputs, n_outputs) = len(changes), golden.shape
    inputs, values = changes.inputs, changes.values
    repeats = changes.repeats()
    weights = np.repeat(repeats, np.diff(changes.offsets))
    ordered = by_input(inputs, weights, values, n_inputs)
    epsilons = np.array(campaign.epsilons)
    each, some = count_exceedances(*ordered, epsilons)
    won = winners(inputs, values, golden)
    lost = np.bincount(inputs, weights * (won != golden.argmax(axis=-1)[inputs]), n_inputs)
    mean, variance = over_inputs(changes.offsets, values, n_inputs)
    medians = [_median_counts(changes, first, r, epsilons) for r in campaign.replicas]
    none = np.zeros((0, len(epsilons), n_inputs, n_outputs), np.int64)
    keep = max(campaign.replicas, default=1) - 1
    return Statistics(
        first=first,
        stop=first + n_trials,
        errors=Moments.by_input(n_trials, *ordered),
        loss=_loss(campaign, golden, changes, weights),
        input_mean=Moments.weighted(n_trials, repeats, mean),
        input_variance=Moments.weighted(n_trials, repeats, variance),
        accuracy=_accuracy(campaign, golden, changes, won, repeats),
        histogram=fill_histogram(n_trials, *ordered, campaign.histogram_edges),
        exceedances=each,
        exceedances_any=some,
        class_changes=lost.astype(np.int64),
        median_groups=np.array([m[0] for m in medians], np.int64),
        median_exceedances=np.stack([m[1] for m in medians]) if medians else none,
        median_exceedances_any=np.stack([m[2] for m in medians]) if medians else none[..., 0],
        head=changes.dense(0, min(keep, n_trials)),
        tail=changes.dense(n_trials - min(keep, n_trials), n_trials),
        replicas=tuple(campaign.replicas),
        epsilons=tuple(campaign.epsilons),
    )


def _loss(campaign: Campaign, golden: Array, changes: Changes, weights: Array) -> Moments | None:
    if campaign.loss is None:
        return None
    wanted, inputs = campaign.target_outputs, changes.inputs
    outputs = (changes.values + golden[inputs]).astype(np.float64)
    without = loss_values(campaign.loss, golden.astype(np.float64), wanted)
    extra = loss_values(campaign.loss, outputs, wanted[inputs]) - without[inputs]
    ordered = by_input(inputs, weights, extra[:, None], len(golden))
    return Moments.by_input(len(changes), *ordered).reshaped((len(golden),))


def _accuracy(
    campaign: Campaign, golden: Array, changes: Changes, won: Array, repeats: Array
) -> Moments | None:
    """Share of inputs classified correctly: the golden share, and what a trial's faults add."""
    if campaign.labels is None:
        return None
    labels, inputs = campaign.labels, changes.inputs
    right = golden.argmax(axis=-1) == labels
    gained = (won == labels[inputs]).astype(np.int64) - right[inputs]
    before = np.concatenate([[0], np.cumsum(gained)])[changes.offsets]
    gain = np.diff(before)[:, None] / len(labels)
    return Moments.weighted(len(changes), repeats, gain).reshaped(()).shifted(right.mean())


def _exceed(medians: Array, epsilons: Array) -> tuple[Array, Array]:
    """Counts over the first axis of |median| >= epsilon, for each output and for any output."""
    sizes = np.abs(medians).astype(np.float64)
    each = np.stack([(sizes >= e).sum(axis=0) for e in epsilons])
    some = np.stack([(sizes.max(axis=-1) >= e).sum(axis=0) for e in epsilons])
    return each, some


def _median_counts(
    changes: Changes, first: int, r: int, epsilons: Array
) -> tuple[int, Array, Array]:
    """(groups, counts, counts for any output) of the groups of r that lie within the range."""
    return count_medians(
        changes.sets,
        changes.offsets,
        changes.inputs,
        changes.values,
        -first % r,
        r,
        epsilons,
        changes.n_inputs,
    )


def _between(before: Statistics, after: Statistics) -> dict[str, Array]:
    """Groups that straddle the border of two adjacent ranges."""
    groups = np.zeros_like(before.median_groups)
    each = np.zeros_like(before.median_exceedances)
    some = np.zeros_like(before.median_exceedances_any)
    border = before.stop
    for number, r in enumerate(before.replicas):
        behind = border % r  # trials of the straddling group in the range before
        ahead = r - behind
        if behind and behind <= border - before.first and ahead <= after.stop - border:
            group = np.concatenate([before.tail[len(before.tail) - behind :], after.head[:ahead]])
            groups[number] = 1
            each[number], some[number] = _exceed(
                np.median(group, axis=0)[None], np.array(before.epsilons)
            )
    return {"median_groups": groups, "median_exceedances": each, "median_exceedances_any": some}
