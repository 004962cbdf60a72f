"""Plain trials of a campaign, some of whose sites may be protected: what varies and what fails."""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from neurosim.backends import Backend, backend_of
from neurosim.campaign import Campaign
from neurosim.certification.single_chip import plain
from neurosim.executors import Executor, ThreadExecutor, one_blas_thread
from neurosim.faults import Events
from neurosim.layers import Array
from neurosim.statistics import summarise

__all__ = ["Outcome", "outcome_of", "ratio", "standard_error"]

# Standard errors come from the spread between so many batches of trials.
_BATCHES = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What trials of one campaign gave, batch by batch.

    Parameters
    ----------
    variances : ndarray, shape (n_batches,)
        E Delta^2 - (E Delta)^2, summed over outputs, mean over inputs.
    means : ndarray, shape (n_batches, n_inputs, n_outputs)
        E (Delta + shift).
    squares : ndarray, shape (n_batches,)
        E (Delta + shift)^2, summed over outputs, mean over inputs.
    failures : ndarray, shape (n_batches,)
        Frequency of max_k |Delta_k| >= epsilon, mean over inputs; NaN without an epsilon.
    """

    variances: Array
    means: Array
    squares: Array
    failures: Array

    @property
    def variance(self) -> float:
        """Variance of the error, summed over outputs, mean over inputs."""
        return float(self.variances.mean())

    @property
    def variance_error(self) -> float:
        """Its standard error."""
        return standard_error(self.variances)

    @property
    def failure(self) -> float:
        """P(max_k |Delta_k| >= epsilon), mean over inputs."""
        return float(self.failures.mean())

    @property
    def failure_error(self) -> float:
        """Its standard error."""
        return standard_error(self.failures)

    @property
    def squared_mean(self) -> tuple[float, float]:
        """(E (Delta + shift))^2, summed over outputs, mean over inputs, and its standard error.

        From the products of the means of different batches, so without bias; at times below 0.
        """
        n = len(self.means)
        products = np.tensordot(self.means, self.means, axes=([1, 2], [1, 2]))
        products = products / self.means.shape[1]
        np.fill_diagonal(products, 0)
        left_out = (products.sum() - 2 * products.sum(axis=0)) / ((n - 1) * (n - 2))
        spread = (n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()
        return float(products.sum() / (n * (n - 1))), float(np.sqrt(spread))

    def gain_over(self, other: "Outcome") -> tuple[float, float]:
        """By how much the variance is below another's: the ratio, and its standard error."""
        return ratio(other.variances, self.variances)


def ratio(before: Array, after: Array) -> tuple[float, float]:
    """The ratio of two means over batches, and its standard error by the jackknife."""
    if not after.any():
        return float("inf"), 0.0
    n = len(after)
    left_out = (before.sum() - before) / (after.sum() - after)
    spread = (n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()
    return float(before.mean() / after.mean()), float(np.sqrt(spread))


def standard_error(batches: Array) -> float:
    """Standard error of a mean over batches."""
    return float(batches.std(ddof=1) / np.sqrt(len(batches)))


def outcome_of(
    campaign: Campaign,
    epsilon: float | None = None,
    protected_neurons: Array | None = None,
    protected_synapses: Array | None = None,
    executor: Executor | None = None,
    shift: Array | float = 0.0,
) -> Outcome:
    """Simulate a campaign's trials, without the faults of protected sites.

    Parameters
    ----------
    campaign : Campaign
    epsilon : float, optional
    protected_neurons, protected_synapses : ndarray of int, optional
        Site numbers (`Sites`) that never fail. The other faults are those of the campaign.
    executor : Executor, optional
    shift : float or ndarray, shape (n_inputs, n_outputs)
        What is added to errors before they are squared.
    """
    counting = plain(campaign, 1.0 if epsilon is None else epsilon)
    counting = replace(counting, trials=max(campaign.trials, 2 * _BATCHES))
    with one_blas_thread():
        backend = backend_of(counting)
    work = partial(_batch, counting, backend, protected_neurons, protected_synapses, shift)
    found = list((executor or ThreadExecutor()).map(work, range(_BATCHES)))
    variances, means, squares, failures = (np.array(part) for part in zip(*found, strict=True))
    return Outcome(
        variances=variances,
        means=means,
        squares=squares,
        failures=failures if epsilon is not None else np.full(_BATCHES, np.nan),
    )


def _batch(
    campaign: Campaign,
    backend: Backend,
    neurons: Array | None,
    synapses: Array | None,
    shift: Array | float,
    number: int,
) -> tuple[float, Array, float, float]:
    """Variance, mean, mean square and failure frequency of one batch of trials."""
    ends = np.linspace(0, campaign.trials, _BATCHES + 1).astype(np.int64)
    first, stop = int(ends[number]), int(ends[number + 1])
    total = None
    for start in range(first, stop, campaign.chunk):
        batch = campaign.fault_batch(start, min(start + campaign.chunk, stop))
        batch = replace(
            batch,
            neurons=_without(batch.neurons, neurons),
            synapses=_without(batch.synapses, synapses),
        )
        part = summarise(campaign, backend.golden, backend.changes(batch), start)
        total = part if total is None else total.merge(part)
    assert total is not None
    errors = total.errors
    variance = (errors.m2 / (errors.count - 1)).sum(axis=1).mean()
    mean = errors.mean + shift
    square = (errors.m2 / errors.count + mean**2).sum(axis=1).mean()
    failure = total.exceedances_any[0].mean() / errors.count
    return float(variance), mean, float(square), float(failure)


def _without(events: Events, protected: Array | None) -> Events:
    """The events of all sites but the protected ones."""
    if protected is None or not len(protected):
        return events
    keep = ~np.isin(events.site, protected)
    before = np.concatenate([[0], np.cumsum(keep)])
    return Events(
        offsets=before[events.offsets].astype(np.int64),
        site=events.site[keep],
        start=events.start[keep],
        stop=events.stop[keep],
    )
