"""The reader: what a campaign's trace holds, as arrays."""

import os
from functools import cached_property
from types import TracebackType
from typing import Self

import h5py
import numpy as np
import numpy.typing as npt

from neurosim.environment import Environment
from neurosim.errors import InputError, TraceError, path_of
from neurosim.faults import FAULT_EVENTS, FaultSet
from neurosim.layers import Array
from neurosim.statistics import Moments, Statistics
from neurosim.trace import provenance
from neurosim.trace.changed_rows import ChangedErrors
from neurosim.trace.files import open_hdf5, reading
from neurosim.trace.layout import TRACE, read_header, read_statistics, read_weighted
from neurosim.trace.lazy_array import LazyArray
from neurosim.trace.summary import summary
from neurosim.trace.table import write_table
from neurosim.trace.writer import checkpointed, segments_folder
from neurosim.weighted_statistics import WeightedResults

__all__ = ["Trace"]

SPIKE = np.dtype(
    [("presentation", "i4"), ("layer", "i4"), ("step", "i4"), ("unit", "i4"), ("sign", "i1")]
)


class Trace:
    """The results of a campaign: an open HDF5 file. Use it as a context manager.

    Error means faulty minus golden output. Statistics run over the trials; arrays of them have
    shape (n_inputs, n_outputs) where nothing else is said.

    Parameters
    ----------
    path : str or path-like

    Raises
    ------
    TraceError
        If there is no finished trace: missing, foreign, truncated, of a newer version, or only
        begun (then the message says how to continue).

    Examples
    --------
    >>> with Trace("digits.h5") as trace:  # doctest: +SKIP
    ...     trace.mean, trace.quantile(0.99)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path_of(path)
        if self.path.is_dir():
            raise TraceError(f"{self.path}: expected a trace, got a folder")
        reached = checkpointed(self.path)
        if reached is not None and not self.path.exists():
            raise TraceError(
                f"{self.path}: expected a finished trace, got one in progress (trials up to "
                f"{reached} are kept in {segments_folder(self.path).name}); run the campaign "
                "again with the same path to continue"
            )
        self._file = open_hdf5(self.path)
        # Kept open: HDF5 forgets the chunks of a dataset, decompressed, when it is closed.
        self._datasets: dict[str, h5py.Dataset] = {}
        try:
            header = read_header(self._file, self.path, TRACE)
        except BaseException:
            self._file.close()
            raise
        self.fingerprint: str = header.fingerprint
        self.components: dict[str, str] = header.components
        self.first_trial: int = header.first
        self.completed: int = header.stop - header.first

    def close(self) -> None:
        """Close the file. What has been read stays usable."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _dataset(self, name: str) -> h5py.Dataset:
        if not self._file:
            raise TraceError(f"{self.path}: expected an open trace, but it has been closed")
        if name not in self._datasets:
            with reading(self.path):
                self._datasets[name] = self._file[name]
        return self._datasets[name]

    def _has(self, name: str) -> bool:
        if not self._file:
            raise TraceError(f"{self.path}: expected an open trace, but it has been closed")
        with reading(self.path):
            return name in self._file

    def _array(self, name: str) -> Array:
        dataset = self._dataset(name)
        with reading(self.path):
            return np.asarray(dataset[()])

    @cached_property
    def statistics(self) -> Statistics:
        """All streaming statistics, as they were folded.

        Of weighted trials the estimates in the same form: counts are trials times probabilities.
        """
        if self.weighted is not None:
            right = None
            if self.labels is not None:
                right = self.golden.argmax(axis=1) == self.labels
            return self.weighted.statistics(right)
        found = read_statistics(self._file, self.path)
        assert isinstance(found, Statistics)
        return found

    @cached_property
    def weighted(self) -> WeightedResults | None:
        """Estimates with their standard errors, of weighted trials; None where trials are plain."""
        self._dataset("statistics")
        return read_weighted(self._file, self.path)

    @property
    def mean(self) -> Array:
        """Mean error."""
        return self.statistics.errors.mean

    @property
    def variance(self) -> Array:
        """Variance of the error: the unbiased one, divided by completed - 1; NaN for one trial."""
        return self.statistics.errors.variance

    @property
    def mean_standard_error(self) -> Array:
        """Standard error of `mean`, from the spread between trials."""
        if self.weighted is not None:
            return self.weighted.mean.standard_error
        return self.statistics.errors.standard_error

    @property
    def variance_standard_error(self) -> Array:
        """Standard error of `variance`, to first order."""
        if self.weighted is not None:
            return self.weighted.variance.standard_error
        moments = self.statistics.errors
        spread = moments.fourth_moment - (moments.m2 / moments.count) ** 2
        return np.asarray(np.sqrt(np.maximum(spread, 0) / moments.count))

    @property
    def exceedance(self) -> Array:
        """P(|error| >= epsilon), estimated, (n_epsilons, n_inputs, n_outputs)."""
        return self.exceedances / self.completed

    @property
    def exceedance_standard_error(self) -> Array:
        """Standard error of `exceedance`; 0 where plain trials saw none, or nothing else."""
        if self.weighted is not None:
            return self.weighted.exceedances.standard_error
        return _binomial_error(self.exceedance, self.completed)

    @property
    def exceedance_any(self) -> Array:
        """P(|error| >= epsilon at any output), estimated, (n_epsilons, n_inputs)."""
        return self.exceedances_any / self.completed

    @property
    def exceedance_any_standard_error(self) -> Array:
        """Standard error of `exceedance_any`."""
        if self.weighted is not None:
            return self.weighted.exceedances_any.standard_error
        return _binomial_error(self.exceedance_any, self.completed)

    @property
    def effective_sample_size(self) -> Array:
        """(sum of weights)^2 / sum of their squares, of the trials about each input, (n_inputs,).

        That of the failures drawn, which estimates of them rest on, is in
        `weighted.exceedances.effective_sample_size`.
        """
        if self.weighted is not None:
            return self.weighted.effective_sample_size
        return np.full(len(self.golden), float(self.completed))

    @property
    def weights(self) -> LazyArray:
        """Weight of each trial, (n_trials,): E f is what was enumerated and the mean of weight f.

        Raises
        ------
        TraceError
            If the trials are plain: each counts once.
        """
        if self.weighted is None:
            raise TraceError(
                f"{self.path}: expected a plan that weighs trials, got "
                f"{self.components.get('plan')}, in which each trial counts once"
            )
        return LazyArray(self._dataset("trials/weight"), self.path)

    @property
    def third_moment(self) -> Array:
        """Third central moment of the error (divided by completed)."""
        return self.statistics.errors.third_moment

    @property
    def fourth_moment(self) -> Array:
        """Fourth central moment of the error (divided by completed)."""
        return self.statistics.errors.fourth_moment

    @property
    def minimum(self) -> Array:
        """Smallest error."""
        return self.statistics.errors.minimum

    @property
    def maximum(self) -> Array:
        """Largest error."""
        return self.statistics.errors.maximum

    @property
    def loss(self) -> Moments | None:
        """Moments over trials of the faulty minus the golden loss, (n_inputs,); None without."""
        return self.statistics.loss

    @property
    def histogram(self) -> Array:
        """Trials in each bin of the error, (n_inputs, n_outputs, n_bins)."""
        return self.statistics.histogram

    @cached_property
    def histogram_edges(self) -> Array:
        """Edges of the bins, (n_bins + 1,). A bin holds low <= |error| < high on its side of 0."""
        return self._array("campaign/histogram_edges")

    @cached_property
    def epsilons(self) -> tuple[float, ...]:
        """Thresholds of the exceedance counts, ascending."""
        return tuple(float(e) for e in self._array("campaign/epsilons"))

    @cached_property
    def replicas(self) -> tuple[int, ...]:
        """Sizes R of the groups whose median is followed, ascending."""
        return tuple(int(r) for r in self._array("campaign/replicas"))

    @property
    def exceedances(self) -> Array:
        """Trials with |error| >= epsilon, (n_epsilons, n_inputs, n_outputs)."""
        return self.statistics.exceedances

    @property
    def exceedances_any(self) -> Array:
        """Trials with |error| >= epsilon for any output, (n_epsilons, n_inputs)."""
        return self.statistics.exceedances_any

    @property
    def median_groups(self) -> Array:
        """Complete groups of R consecutive trials, (n_replicas,)."""
        return self.statistics.median_groups

    @property
    def median_exceedances(self) -> Array:
        """Groups with |median of R| >= epsilon, (n_replicas, n_epsilons, n_inputs, n_outputs)."""
        return self.statistics.median_exceedances

    @property
    def median_exceedances_any(self) -> Array:
        """The same for any output of an input, (n_replicas, n_epsilons, n_inputs)."""
        return self.statistics.median_exceedances_any

    @property
    def class_changes(self) -> Array:
        """Trials in which another output than the golden one is the largest, (n_inputs,)."""
        return self.statistics.class_changes

    @property
    def accuracy(self) -> float | None:
        """Mean over trials of the share of inputs classified correctly; None without labels."""
        moments = self.statistics.accuracy
        return None if moments is None else float(moments.mean)

    def accuracy_interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """Confidence interval of the accuracy under faults, for these inputs.

        Student's t with the spread between trials, the independent units (inputs of one trial
        share its faults); its part within [0, 1]. NaN for a single trial; None without labels.
        Of weighted trials, normal with the standard error of the estimate.

        Raises
        ------
        InputError
            If confidence is not between 0 and 1.
        """
        if not isinstance(confidence, int | float) or not 0 < confidence < 1:
            raise InputError(f"confidence: expected a number between 0 and 1, got {confidence!r}")
        from scipy.special import ndtri, stdtrit  # not at the start of every campaign

        moments = self.statistics.accuracy
        if moments is None:
            return None
        if self.weighted is not None and self.weighted.accuracy_change is not None:
            half = -float(ndtri((1 - confidence) / 2)) * self.weighted.accuracy_change[1]
            return max(0.0, float(moments.mean) - half), min(1.0, float(moments.mean) + half)
        if moments.count < 2:
            return float("nan"), float("nan")
        half = float(stdtrit(moments.count - 1, (1 + confidence) / 2) * moments.standard_error)
        mean = float(moments.mean)
        return max(0.0, mean - half), min(1.0, mean + half)

    def quantile(self, q: npt.ArrayLike) -> Array:
        """Quantiles of the error, from the histogram.

        Exact at 0 and 1 (the extremes) and where the quantile is exactly 0. Elsewhere right to
        within the bin of the histogram that holds it, a quarter of an octave: off by less than
        25 % of its size where 2^-24 <= |error| < 2^12.

        Parameters
        ----------
        q : float or array_like
            Shares, in [0, 1].

        Returns
        -------
        ndarray, shape (*shape of q, n_inputs, n_outputs)

        Raises
        ------
        InputError
            If a share is outside [0, 1].
        """
        try:
            shares = np.asarray(q, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"q: expected numbers in [0, 1], got {q!r}") from error
        if not ((shares >= 0) & (shares <= 1)).all():
            raise InputError(f"q: expected numbers in [0, 1], got {q!r}")
        found = [self._quantile(float(s)) for s in shares.ravel()]
        return np.array(found, np.float64).reshape(*shares.shape, *self.mean.shape)

    def _quantile(self, share: float) -> Array:
        """Linear between the edges of the bin where the counts reach share * completed."""
        if share == 0:
            return self.minimum.copy()
        if share == 1:
            return self.maximum.copy()
        edges, counts = self.histogram_edges, self.histogram
        reached = np.cumsum(counts, axis=-1)
        rank = share * reached[..., -1]  # all trials
        index = (reached < rank[..., None]).sum(axis=-1)
        inside = np.take_along_axis(counts, index[..., None], axis=-1)[..., 0]
        before = np.take_along_axis(reached, index[..., None], axis=-1)[..., 0] - inside
        # The extremes bound the open bins at both ends, and sharpen the others.
        low = np.clip(edges[index], self.minimum, self.maximum)
        high = np.clip(edges[index + 1], self.minimum, self.maximum)
        value = low + (high - low) * ((rank - before) / inside)
        return np.where(index == len(edges) // 2 - 1, 0.0, value)

    @cached_property
    def golden(self) -> Array:
        """Golden outputs of the backend."""
        return self._array("campaign/golden")

    @cached_property
    def labels(self) -> Array | None:
        """Class numbers, (n_inputs,), if the campaign has any."""
        return self._array("campaign/labels") if self._has("campaign/labels") else None

    @cached_property
    def targets(self) -> Array | None:
        """Targets as the campaign was given them: classes or wanted outputs; None without."""
        return self._array("campaign/targets") if self._has("campaign/targets") else None

    @cached_property
    def plan(self) -> str | None:
        """The plan that weighed the trials, in words; None where they are plain."""
        if self.weighted is None:
            return None
        dataset = self._dataset("campaign/plan")
        with reading(self.path):
            return str(dataset.attrs["plan"])

    @cached_property
    def processes(self) -> tuple[str, ...]:
        """The fault processes, in words."""
        dataset = self._dataset("campaign/processes")
        with reading(self.path):
            return tuple(dataset.asstr()[()])

    @cached_property
    def provenance(self) -> list[Environment]:
        """Versions and machine, one entry for each environment that computed a part."""
        group = self._dataset("provenance")
        with reading(self.path):
            return provenance.read(group)

    @property
    def fault_counts(self) -> LazyArray:
        """Faults each process drew in each trial, (n_trials, n_processes).

        Of weighted trials how many neurons and synapses are dead, (n_trials, 1).
        """
        return LazyArray(self._dataset("trials/fault_counts"), self.path)

    @property
    def errors(self) -> LazyArray:
        """Errors of each trial, (n_trials, n_inputs, n_outputs), read when they are sliced.

        Raises
        ------
        TraceError
            If they were not recorded.
        """
        recorded = self._recorded("trials/errors", "errors", "error")
        if isinstance(recorded, h5py.Group):  # version 1 kept a dataset of all errors
            with reading(self.path):
                about = self.first_trial, self.completed, len(self.golden)
                recorded = ChangedErrors(recorded, *about)
        return LazyArray(recorded, self.path)

    def hidden_errors(self, layer: int) -> LazyArray:
        """Errors of hidden layer l = 1..L-1 in each trial, (n_trials, n_inputs, n_l).

        Raises
        ------
        InputError
            If there is no such hidden layer.
        TraceError
            If they were not recorded.
        """
        last = len(self._array("campaign/widths")) - 2
        if not _is_whole(layer) or not 1 <= layer <= last:
            raise InputError(f"layer: expected a hidden layer from 1 to {last}, got {layer!r}")
        name = f"trials/hidden/{layer}"
        return LazyArray(self._recorded(name, "errors of hidden layers", "hidden"), self.path)

    def fault_set(self, k: int) -> FaultSet:
        """Read what failed in trial k.

        Raises
        ------
        InputError
            If the trace does not hold trial k.
        TraceError
            If the fault sets were not recorded; `Campaign.fault_set` draws them again.
        """
        self._check_trial(k)
        events = {}
        for kind, dtype in FAULT_EVENTS.items():
            if kind not in ("neurons", "synapses") and not self._has(f"trials/{kind}"):
                continue  # nothing is stuck at a value
            offsets = self._recorded(f"trials/{kind}/offsets", "fault sets", "faults")
            with reading(self.path):
                first, last = self._slice(offsets, k)
                rows = np.empty(last - first, dtype)
                for name in dtype.names or ():
                    rows[name] = self._dataset(f"trials/{kind}/{name}")[first:last]
            events[kind] = rows
        # Traces written before there were spiking campaigns have no ticks: one a presentation.
        ticks = int(self._array("campaign/ticks")) if self._has("campaign/ticks") else 1
        windows = len(self.golden) * ticks
        return FaultSet(n_presentations=windows, **events)

    @property
    def rates(self) -> LazyArray:
        """Mean rate of the neurons of each layer in hertz, (n_trials, n_inputs, L + 1).

        Layer 0 is 0 where inputs are currents.

        Raises
        ------
        TraceError
            If the campaign was not a spiking one.
        """
        if not self._has("trials/rates"):
            raise TraceError(
                f"{self.path}: expected the trace of a spiking campaign, got backend "
                f"{self.components.get('backend')}, which knows no rates"
            )
        return LazyArray(self._dataset("trials/rates"), self.path)

    def spikes(self, k: int) -> Array:
        """Every spike of trial k, by presentation, layer, step and unit.

        Returns
        -------
        structured ndarray (n_spikes,) with the fields presentation, layer, step, unit, sign

        Raises
        ------
        InputError
            If the trace does not hold trial k.
        TraceError
            If the spikes were not recorded.
        """
        self._check_trial(k)
        offsets = self._recorded("trials/spikes/offsets", "spikes", "spikes")
        with reading(self.path):
            first, last = self._slice(offsets, k)
            rows = np.empty(last - first, SPIKE)
            for name in SPIKE.names or ():
                rows[name] = self._dataset(f"trials/spikes/{name}")[first:last]
        return rows

    def _slice(self, offsets: h5py.Dataset, k: int) -> tuple[int, int]:
        """Where the rows of trial k begin and end."""
        at = int(k) - self.first_trial
        first, last = offsets[at : at + 2]
        return int(first), int(last)

    def _check_trial(self, k: int) -> None:
        last = self.first_trial + self.completed - 1
        if not _is_whole(k) or not self.first_trial <= k <= last:
            raise InputError(f"k: expected a trial from {self.first_trial} to {last}, got {k!r}")

    def _recorded(self, name: str, what: str, record: str) -> h5py.Dataset:
        if not self._has(name):
            raise TraceError(
                f"{self.path}: expected {what} of each trial in the trace, but they were not "
                f'recorded; run the campaign with record=("{record}",)'
            )
        return self._dataset(name)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the statistics as a table, one row for each input and output.

        The columns: input, output (from 0); golden; trials; mean, variance (unbiased),
        third_moment, fourth_moment (central), minimum, maximum of the error; quantile_0.01,
        _0.05, _0.5, _0.95, _0.99; class_changes (of the input); for each epsilon
        exceedances_EPSILON and exceedances_any_EPSILON (of the input); for each R medianR_groups
        and for each epsilon medianR_exceedances_EPSILON and medianR_exceedances_any_EPSILON; where
        there is a loss loss_mean and loss_variance (of the input). Exceedances are counts of
        trials, or of groups. Numbers are written so that reading them gives the same bits.

        Raises
        ------
        TraceError
            If the file cannot be written.
        """
        write_table(self, path_of(path))

    def __str__(self) -> str:
        if not self._file and "statistics" not in self.__dict__:
            return f"Trace {self.path} (closed)"
        return summary(self)

    def __repr__(self) -> str:
        return f"<Trace {self.path}: {self.completed} trials from {self.first_trial}>"


def _is_whole(number: object) -> bool:
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def _binomial_error(share: Array, n: int) -> Array:
    return np.asarray(np.sqrt(share * (1 - share) / n))
