"""Simulation of the very network that is to be certified, with a confidence bound."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from neurosim.backends import backend_of
from neurosim.campaign import Campaign
from neurosim.layers import Array
from neurosim.theory.tails import median_failure

__all__ = ["Confirmation", "confirm"]


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """What simulation says about a guarantee.

    Parameters
    ----------
    trials : int
        Chips simulated, independent of everything that the guarantee was derived from.
    confidence : float
        Of the bound, over all inputs and outputs at once.
    replicas : int
        R.
    target : float
        The failure probability promised for the median of R.
    chip_limit : float
        The largest upper limit, over inputs and outputs, of one chip's failure probability.
    failure_limit : float
        Upper limit of the failure of the median: E_x of the lesser of sum_k B(R, delta_k) and
        B(R, delta_any), with simultaneous Clopper-Pearson limits for every delta. Of a loss, which
        the median does not protect, the limit from the simulated medians themselves.
    median_groups, median_failures : int
        Groups of R of the trials, times inputs, and how many of their medians failed.
    """

    trials: int
    confidence: float
    replicas: int
    target: float
    chip_limit: float
    failure_limit: float
    median_groups: int
    median_failures: int

    @property
    def holds(self) -> bool:
        """Whether the upper limit is within what was promised."""
        return self.failure_limit <= self.target

    def __str__(self) -> str:
        verdict = "confirmed" if self.holds else "not confirmed"
        return (
            f"{verdict} by {self.trials} simulated chips: a median of {self.replicas} fails with "
            f"probability <= {self.failure_limit:.3g} (promised {self.target:g}, confidence "
            f"{self.confidence:g}); one chip at the worst input and output <= "
            f"{self.chip_limit:.3g}; {self.median_failures} of {self.median_groups} simulated "
            "medians failed"
        )


def _upper(counts: Array, trials: int, tail: float) -> Array:
    """One-sided Clopper-Pearson limits."""
    rest = np.maximum(trials - counts, 1)
    return np.where(counts < trials, special.betainccinv(counts + 1, rest, tail), 1.0)


def confirm(
    campaign: Campaign,
    failed: Callable[[Array], Array],
    replicas: int,
    target: float,
    confidence: float,
    of_outputs: bool = True,
) -> Confirmation:
    """Bound the failure of the median of R replicas from simulated single chips.

    Parameters
    ----------
    campaign : Campaign
        Its trials are simulated.
    failed : callable
        Of errors (..., n_inputs, n_outputs): whether each output failed, in the same shape; or
        whether the loss did, (..., n_inputs, 1).
    replicas : int
    target : float
    confidence : float
    of_outputs : bool
        Whether a failure is one of an output, so that the median protects from it.

    Returns
    -------
    Confirmation
    """
    backend = backend_of(campaign)
    n, (n_inputs, n_outputs) = campaign.trials, backend.golden.shape
    counts = np.zeros((n_inputs, n_outputs + 1), np.int64)
    groups = failures = 0
    # A multiple of R trials a time, so that groups of R do not straddle two batches.
    step = max(1, min(campaign.chunk, 2**22 // (n_inputs * n_outputs)) // replicas) * replicas
    for first in range(0, n, step):
        errors = backend.errors(campaign.fault_batch(first, min(first + step, n)))
        bad = failed(errors)
        counts[:, :-1] += bad.sum(axis=0)
        counts[:, -1] += bad.any(axis=-1).sum(axis=0)
        whole = len(errors) // replicas
        medians = np.median(
            errors[: whole * replicas].reshape(whole, replicas, n_inputs, n_outputs), axis=1
        )
        groups += whole * n_inputs
        failures += int(failed(medians).any(axis=-1).sum())
    upper = _upper(counts, n, (1 - confidence) / counts.size)
    by_output = median_failure(upper, replicas)
    limit = np.minimum(np.minimum(by_output[:, :-1].sum(axis=1), by_output[:, -1]), 1.0)
    if not of_outputs:
        limit = _upper(np.array([failures]), groups, 1 - confidence)
    return Confirmation(
        trials=n,
        confidence=confidence,
        replicas=replicas,
        target=target,
        chip_limit=float(upper[:, :-1].max()),
        failure_limit=float(limit.mean()),
        median_groups=groups,
        median_failures=failures,
    )
