"""compare_deployments: the same network on the same chip, placed in two ways."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from neurosim.campaign import Campaign
from neurosim.deployment import Deployment
from neurosim.errors import InputError
from neurosim.faults import StuckAtZero
from neurosim.layers import Array
from neurosim.runner import run
from neurosim.theory import predict

__all__ = ["DeploymentComparison", "compare_deployments"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DeploymentComparison:
    """Errors of two deployments: known defects and the faults that come on top of them.

    Arrays are (2, n_inputs, n_outputs), before and after; the error is faulty minus golden output,
    and golden outputs are those without defects. The mean square is mean^2 + variance.

    Parameters
    ----------
    before, after : Deployment
    predicted_mean, predicted_variance : ndarray
        By `predict`.
    simulated_mean, simulated_variance : ndarray
    trials : int
    """

    before: Deployment
    after: Deployment
    predicted_mean: Array
    predicted_variance: Array
    simulated_mean: Array
    simulated_variance: Array
    trials: int

    @property
    def predicted_square(self) -> Array:
        """Predicted mean square error."""
        return np.asarray(self.predicted_mean**2 + self.predicted_variance)

    @property
    def simulated_square(self) -> Array:
        """Simulated mean square error."""
        return np.asarray(self.simulated_mean**2 + self.simulated_variance)

    def __str__(self) -> str:
        lines = [
            f"{self.trials} trials; averages over inputs and outputs",
            f"{'':10}{'variance':>12}{'predicted':>12}{'mean square':>14}{'predicted':>12}"
            f"{'on defects':>12}",
        ]
        for row, (name, one) in enumerate((("before", self.before), ("after", self.after))):
            lines.append(
                f"{name:10}{self.simulated_variance[row].mean():12.3e}"
                f"{self.predicted_variance[row].mean():12.3e}"
                f"{self.simulated_square[row].mean():14.3e}"
                f"{self.predicted_square[row].mean():12.3e}"
                f"{len(one.defective_synapses) + len(one.stuck_synapses):12}"
            )
        return "\n".join(lines)


def compare_deployments(
    before: Deployment,
    after: Deployment,
    inputs: npt.ArrayLike,
    faults: Sequence[StuckAtZero] | None = None,
    *,
    method: str = "single-fault",
    trials: int = 1000,
    seed: int = 0,
) -> DeploymentComparison:
    """Predict and simulate the error of a network placed in two ways.

    Parameters
    ----------
    before, after : Deployment
        Of networks with the same inputs and outputs.
    inputs : array_like, (n_inputs, *input_shape)
    faults : sequence of StuckAtZero, optional
        The faults beside the known defects; by default those of each chip.
    method : str
        As in `predict`.
    trials, seed : int
        Of the simulation of each.

    Returns
    -------
    DeploymentComparison

    Raises
    ------
    InputError
        If the networks differ in inputs or outputs, or as `Campaign` does.

    Examples
    --------
    >>> ns.compare_deployments(naive, placed, inputs)  # doctest: +SKIP
    """
    ends = [(one.network.widths[0], one.network.n_outputs) for one in (before, after)]
    if ends[0] != ends[1]:
        raise InputError(
            f"after: expected a network of {ends[0][0]} inputs and {ends[0][1]} outputs as "
            f"before, got {ends[1][0]} and {ends[1][1]}"
        )
    predicted, simulated = [], []
    for deployment in (before, after):
        campaign = Campaign(
            deployment=deployment,
            faults=faults,  # type: ignore[arg-type]
            inputs=inputs,  # type: ignore[arg-type]
            trials=trials,
            seed=seed,
        )
        prediction = predict(campaign, method)
        predicted.append((prediction.mean, prediction.variance))
        with (
            TemporaryDirectory() as folder,
            run(campaign, Path(folder) / "trace.h5", progress=False) as trace,
        ):
            simulated.append((trace.mean, trace.variance))
    predicted_mean, predicted_variance = (np.array(parts) for parts in zip(*predicted, strict=True))
    simulated_mean, simulated_variance = (np.array(parts) for parts in zip(*simulated, strict=True))
    return DeploymentComparison(
        before=before,
        after=after,
        predicted_mean=predicted_mean,
        predicted_variance=predicted_variance,
        simulated_mean=simulated_mean,
        simulated_variance=simulated_variance,
        trials=trials,
    )
