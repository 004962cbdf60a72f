"""What one trained network offers: failure probabilities, replicas, and whether they hold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from neurosim.campaign import Campaign
from neurosim.chip import Chip
from neurosim.deployment import deploy
from neurosim.faults import StuckAtZero
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.theory.prediction import Prediction, predict
from neurosim.theory.tails import cantelli, chebyshev, replicas_needed
from neurosim.training.confirmation import Confirmation, confirm
from neurosim.training.fitting import Fit
from neurosim.training.goals import Goal, Search

__all__ = ["NOTHING", "Measured", "Task", "confirmed", "measure", "measure_as_paper"]

# The median of more replicas than this is no design.
_MOST_REPLICAS = 99


@dataclass(frozen=True, kw_only=True)
class Task:
    """All that stays the same through the loop of Algorithm 1.

    rates: the probability of a dead neuron in each layer that fails, processes merged.
    """

    inputs: Array
    targets: Array
    goal: Goal
    fit: Fit
    faults: tuple[StuckAtZero, ...]
    rates: Mapping[int, float]
    seed: int
    search: Search
    method: str

    def campaign(self, network: Network) -> Campaign:
        """The faults on a network, for the inputs that the guarantee is about."""
        return Campaign(
            deployment=deploy(network, Chip.load("ideal")),
            faults=list(self.faults),
            inputs=self.inputs,
            targets=self.targets,
            trials=self.search.trials,
            seed=self.seed,
            loss=None if self.goal.error == "outputs" else "squared_error",
        )

    def first(self) -> "Task":
        """The same of the first input alone, which the authors looked at."""
        return replace(self, inputs=self.inputs[:1], targets=self.targets[:1])


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Figures of one network; `Iteration` says what they are.

    layer_variances: what each failing layer adds to the variance, mean over inputs and outputs.
    """

    largest_mean: float
    infeasible_share: float
    delta: float
    replicas: int | None
    claimed_width: float
    layer_variances: Mapping[int, float] = field(default_factory=dict)


NOTHING = Measured(
    largest_mean=math.nan, infeasible_share=math.nan, delta=math.nan, replicas=None,
    claimed_width=math.nan,
)  # fmt: skip


def _tolerances(task: Task, network: Network) -> Array:
    """Per input, |error| of an output from which on it counts as failed."""
    golden = network(task.inputs)
    if task.goal.error == "outputs":
        return np.full(len(golden), task.goal.epsilon)
    a = np.abs(golden - task.targets).mean(axis=1)
    # sqrt(a^2 + eps) - a, without cancellation.
    return np.asarray(task.goal.epsilon / (np.sqrt(a**2 + task.goal.epsilon) + a))


def _claimed(task: Task, prediction: Prediction, tolerance: Array) -> float:
    """C p / (t^2 / 3) with C p = n Var, n all neurons that may fail: Chebyshev's 1/3, worst input.

    The layers of one budget of neurons in proportion: all Var_l fall as 1 / n together.
    """
    width = sum(prediction.campaign.network.widths[layer] for layer in task.rates)
    t = np.maximum(tolerance - np.abs(prediction.mean), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.where(prediction.variance > 0, width * prediction.variance * 3 / t**2, 0.0)
    return float(wanted.max())


def measure(task: Task, network: Network, delta_0: float) -> Measured:
    """Delta per input and output by b4, R by the exact binomial per input."""
    campaign, epsilon = task.campaign(network), task.goal.epsilon
    prediction = predict(campaign, "single-fault")
    if task.goal.error == "outputs":
        means = np.abs(prediction.mean).max(axis=1)
    else:
        means = predict(campaign, "single-fault", loss="squared_error").mean[:, 0]
    tolerance = _tolerances(task, network)[:, None]
    tails = cantelli(prediction.mean, prediction.variance, tolerance, two_sided=True)
    delta = np.minimum(tails + delta_0, 1.0)
    needed = replicas_needed(delta, task.goal.delta)
    return Measured(
        largest_mean=float(means.max()) / epsilon,
        infeasible_share=float((means >= epsilon).mean()),
        delta=float(delta.max()),
        replicas=None if needed is None or needed > _MOST_REPLICAS else needed,
        claimed_width=_claimed(task, prediction, tolerance),
        layer_variances={
            layer: float(part.mean())
            for (_, layer), part in prediction.variance_contributions.items()
        },
    )


def measure_as_paper(task: Task, network: Network) -> Measured:
    """The first example alone, its loss to first order, the printed R."""
    prediction = predict(task.first().campaign(network), "first-order", loss="squared_error")
    assert prediction.mean_paper is not None
    assert prediction.variance_paper is not None
    mean = float(prediction.mean_paper[0, 0])
    variance = float(prediction.variance_paper[0, 0])
    epsilon = task.goal.epsilon
    delta = float(chebyshev(mean, variance, epsilon))
    t = max(epsilon - mean, 0.0)
    (layer,) = task.rates
    return Measured(
        largest_mean=mean / epsilon,
        infeasible_share=float(mean >= epsilon),
        delta=delta,
        replicas=replicas_needed(delta, task.goal.delta, method="paper"),
        claimed_width=network.widths[layer] * variance * 3 / t**2 if t else math.inf,
        layer_variances={layer: variance},
    )


def confirmed(task: Task, network: Network, replicas: int) -> Confirmation:
    """Simulate the network that is certified, with other random numbers than its training."""
    if task.method == "valid":
        tolerance = _tolerances(task, network)[:, None]

        def failed(errors: Array) -> Array:
            return np.asarray(np.abs(errors) >= tolerance)

        about = task
    else:  # the loss of the first example, and nothing more
        about = task.first()
        residual = network(about.inputs) - about.targets

        def failed(errors: Array) -> Array:
            rise = (2 * residual * errors + errors**2).mean(axis=-1, keepdims=True)
            return np.asarray(rise >= task.goal.epsilon)

    return confirm(
        about.campaign(network),
        failed,
        replicas,
        task.goal.delta,
        task.search.confidence,
        of_outputs=task.method == "valid",
    )
