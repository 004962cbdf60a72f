"""sweep: a campaign at several fault probabilities, with common random numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from neurosim.analysis.comparison import Comparison, compare
from neurosim.campaign import Campaign
from neurosim.errors import InputError
from neurosim.executors import Executor
from neurosim.layers import Array
from neurosim.runner import run
from neurosim.sampling import PlainMonteCarlo
from neurosim.theory import predict

__all__ = ["Sweep", "sweep"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sweep:
    """A campaign at several fault probabilities.

    Parameters
    ----------
    campaign : Campaign
        At the largest probability.
    probabilities : tuple of float
        Ascending.
    comparisons : tuple of Comparison
        One a probability.
    """

    campaign: Campaign
    probabilities: tuple[float, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def agrees(self) -> bool:
        """Whether simulation and theory agree at every probability."""
        return all(comparison.agrees for comparison in self.comparisons)

    @property
    def variance(self) -> Array:
        """Simulated variance, mean over inputs: (n_probabilities, n_outputs)."""
        return np.array([c.variance.simulated.mean(axis=0) for c in self.comparisons])

    @property
    def predicted_variance(self) -> Array:
        """Predicted variance, mean over inputs: (n_probabilities, n_outputs)."""
        return np.array([c.variance.predicted.mean(axis=0) for c in self.comparisons])

    @property
    def exceedance(self) -> Array:
        """Simulated P(|error| >= epsilon), mean over inputs: (n_p, n_epsilons, n_outputs)."""
        return np.array([c.bounds.exceedance.mean(axis=1) for c in self.comparisons])

    @property
    def cantelli(self) -> Array:
        """Cantelli's bound of it, mean over inputs: (n_p, n_epsilons, n_outputs)."""
        return np.array([c.bounds.cantelli.mean(axis=1) for c in self.comparisons])

    def __str__(self) -> str:
        epsilons = self.campaign.epsilons
        head = f"{'p':>10}{'variance':>12}{'predicted':>12}"
        head += "".join(f"{f'P(>={epsilon:g})':>13}" for epsilon in epsilons)
        lines = [
            f"{self.campaign.trials} trials x {self.campaign.n_inputs} inputs at each fault "
            "probability, common random numbers; means over inputs and outputs",
            head + "   verdict",
        ]
        for n, (p, comparison) in enumerate(zip(self.probabilities, self.comparisons, strict=True)):
            row = f"{p:10g}{self.variance[n].mean():12.3e}{self.predicted_variance[n].mean():12.3e}"
            row += "".join(f"{rate:13.3e}" for rate in self.exceedance[n].mean(axis=-1))
            lines.append(f"{row}   {comparison.verdict}")
        return "\n".join(lines)


def sweep(
    campaign: Campaign,
    *,
    probability: Sequence[float],
    path: str | PathLike[str] | None = None,
    method: str = "first-order",
    executor: Executor | None = None,
    progress: bool = True,
) -> Sweep:
    """Run a campaign at several fault probabilities with common random numbers.

    Faults are drawn at the largest probability and thinned: what differs between two points of a
    curve is the probability, not the luck.

    Parameters
    ----------
    campaign : Campaign
        Every process of it gets each probability in turn.
    probability : sequence of float
    path : path, optional
        Folder that keeps the traces; by default they are dropped.
    method : str
        As in `predict`.
    executor, progress
        As in `run`.

    Returns
    -------
    Sweep

    Raises
    ------
    InputError
        If there is no probability or one is outside [0, 1].

    Examples
    --------
    >>> ns.sweep(campaign, probability=[1e-4, 1e-3])  # doctest: +SKIP
    """
    points = sorted({float(p) for p in probability})
    if not points:
        raise InputError("probability: expected at least one, got none")
    plan = PlainMonteCarlo(draw_at=(points[-1],) * len(campaign.faults))
    comparisons = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary if path is None else path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"path: expected a folder for traces, got {error}") from error
        campaigns = [
            replace(campaign, plan=plan, faults=[f.with_probability(p) for f in campaign.faults])
            for p in points
        ]
        for p, point in zip(points, campaigns, strict=True):
            with run(point, folder / f"p-{p:g}.h5", executor, progress) as trace:
                comparisons.append(compare(trace, predict(point, method)))
    return Sweep(
        campaign=campaigns[-1], probabilities=tuple(points), comparisons=tuple(comparisons)
    )
