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

__all__ = ["Outcome", "outcome_of"]

# Standard errors come from the spread between so many batches of trials.
_BATCHES = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What trials of one campaign gave, batch by batch.

    Parameters
    ----------
    variances : ndarray, shape (n_batches,)
        E Delta^2 - (E Delta)^2, summed over outputs, mean over inputs.
    failures : ndarray, shape (n_batches,)
        Frequency of max_k |Delta_k| >= epsilon, mean over inputs; NaN without an epsilon.
    """

    variances: Array
    failures: Array

    @property
    def variance(self) -> float:
        """Variance of the error, summed over outputs, mean over inputs."""
        return float(self.variances.mean())

    @property
    def variance_error(self) -> float:
        """Its standard error."""
        return _standard_error(self.variances)

    @property
    def failure(self) -> float:
        """P(max_k |Delta_k| >= epsilon), mean over inputs."""
        return float(self.failures.mean())

    @property
    def failure_error(self) -> float:
        """Its standard error."""
        return _standard_error(self.failures)

    def gain_over(self, other: "Outcome") -> tuple[float, float]:
        """By how much the variance is below another's: the ratio, and its standard error."""
        if not self.variance:
            return float("inf"), 0.0
        n, ratio = len(self.variances), other.variance / self.variance
        left_out = (other.variances.sum() - other.variances) / (
            self.variances.sum() - self.variances
        )
        spread = (n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()
        return ratio, float(np.sqrt(spread))


def _standard_error(batches: Array) -> float:
    return float(batches.std(ddof=1) / np.sqrt(len(batches)))


def outcome_of(
    campaign: Campaign,
    epsilon: float | None = None,
    protected_neurons: Array | None = None,
    protected_synapses: Array | None = None,
    executor: Executor | None = None,
) -> Outcome:
    """Simulate a campaign's trials, without the faults of protected sites.

    Parameters
    ----------
    campaign : Campaign
    epsilon : float, optional
    protected_neurons, protected_synapses : ndarray of int, optional
        Site numbers (`Sites`) that never fail. The other faults are those of the campaign.
    executor : Executor, optional
    """
    counting = plain(campaign, 1.0 if epsilon is None else epsilon)
    counting = replace(counting, trials=max(campaign.trials, 2 * _BATCHES))
    with one_blas_thread():
        backend = backend_of(counting)
    work = partial(_batch, counting, backend, protected_neurons, protected_synapses)
    found = np.array(list((executor or ThreadExecutor()).map(work, range(_BATCHES))))
    return Outcome(
        variances=found[:, 0],
        failures=found[:, 1] if epsilon is not None else np.full(_BATCHES, np.nan),
    )


def _batch(
    campaign: Campaign,
    backend: Backend,
    neurons: Array | None,
    synapses: Array | None,
    number: int,
) -> tuple[float, float]:
    """Variance and failure frequency of one batch of trials."""
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
    return float(variance), float(total.exceedances_any[0].mean() / errors.count)


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
