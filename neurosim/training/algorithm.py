"""Algorithm 1: train, check, raise a penalty or widen, until replicas give the guarantee."""

import math
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from neurosim.campaign import Campaign
from neurosim.chip import Chip
from neurosim.deployment import deploy
from neurosim.errors import InputError
from neurosim.faults import StuckAtZero
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.theory.continuity import balance, copies_by_importance, duplicate, smoothness
from neurosim.theory.prediction import Prediction, predict
from neurosim.theory.tails import cantelli, chebyshev, replicas_needed, weight_perturbation
from neurosim.training.confirmation import Confirmation, confirm
from neurosim.training.fitting import Fit, train
from neurosim.training.iterations import Achievement, Iteration, save_iterations
from neurosim.training.modules import DenseModule, random_module, to_module
from neurosim.training.regularisers import Regularisation

__all__ = ["Goal", "Search", "achieve"]

# Algorithm 1: q must not be below, Chebyshev's share and delta_0 not above.
_LEAST_BALANCE, _MOST_FAILURE, _MOST_WEIGHT_FAILURE = 1e-2, 1 / 3, 1 / 6
# The authors' alpha of P3 as a multiple of p.
_ALPHA = math.exp(2.5)
# The median of more replicas than this is no design.
_MOST_REPLICAS = 99


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The guarantee wanted: an error of epsilon or more with probability at most delta.

    Parameters
    ----------
    epsilon : float
        In the units of the outputs, or of the loss.
    delta : float
        Between 0 and 1.
    error : "outputs" or "loss"
        What epsilon is about: max_k |Delta_k|, or the rise of the squared error of the median's
        outputs. The median protects outputs, not a loss: the loss is kept by the box of output
        errors that cannot raise it by epsilon, |Delta_k| < sqrt(a^2 + epsilon) - a with a the mean
        |y_L - y*| of the input.

    Raises
    ------
    InputError
        If a value is out of range.

    Examples
    --------
    >>> print(Goal(epsilon=0.1, delta=1e-5))
    P(an output is off by 0.1 or more) <= 1e-05
    """

    epsilon: float
    delta: float
    error: Literal["outputs", "loss"] = "outputs"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.epsilon) and self.epsilon > 0):
            raise InputError(f"epsilon: expected a number above 0, got {self.epsilon!r}")
        if not 0 < self.delta < 1:
            raise InputError(f"delta: expected a number between 0 and 1, got {self.delta!r}")
        if self.error not in ("outputs", "loss"):
            raise InputError(f'error: expected "outputs" or "loss", got {self.error!r}')

    def __str__(self) -> str:
        what = "an output is off" if self.error == "outputs" else "the loss is higher"
        return f"P({what} by {self.epsilon:g} or more) <= {self.delta:g}"


@dataclass(frozen=True, kw_only=True)
class Search:
    """How Algorithm 1 searches.

    Parameters
    ----------
    widen_by : int
        Neurons added where the layer is too narrow.
    smoothness_limit : float, optional
        C: where R3 of the layer is above, psi is raised. None asks for nothing.
    most_iterations : int
    trials : int
        Of the simulation that confirms.
    confidence : float
    duplicate : bool
        Widen by copies of the trained neurons, the important ones first, and start the next
        training there; else each training starts from new random weights.
    anchor : float
        With duplicate: factor of the mean squared distance to the duplicated weights (what the
        paper names as sufficient for A3).

    Raises
    ------
    InputError
        If a value is out of range.
    """

    widen_by: int = 100
    smoothness_limit: float | None = None
    most_iterations: int = 20
    trials: int = 10_000
    confidence: float = 0.99
    duplicate: bool = False
    anchor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("widen_by", "most_iterations", "trials"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name}: expected a whole number from 1 on, got {value!r}")
        if not 0 < self.confidence < 1:
            raise InputError(f"confidence: expected between 0 and 1, got {self.confidence!r}")
        if self.anchor and not self.duplicate:
            raise InputError("anchor: expected it with duplicate=True only")


# As the authors began.
_START = Regularisation(variance=1e-10, balance=1e-10, paper_derivative=1e-8, paper_gaussian=1e-6)


@dataclass(frozen=True, kw_only=True)
class _Task:
    """All that stays the same through the loop."""

    inputs: Array
    targets: Array
    goal: Goal
    fit: Fit
    faults: StuckAtZero
    layer: int
    seed: int
    search: Search
    method: str
    start: Regularisation = field(default_factory=lambda: _START)

    def campaign(self, network: Network) -> Campaign:
        return Campaign(
            deployment=deploy(network, Chip.load("ideal")),
            faults=[self.faults],
            inputs=self.inputs,
            targets=self.targets,
            trials=self.search.trials,
            seed=self.seed,
            loss=None if self.goal.error == "outputs" else "squared_error",
        )


def _crash(
    faults: StuckAtZero | Sequence[StuckAtZero], widths: Sequence[int]
) -> tuple[StuckAtZero, int]:
    processes = (faults,) if isinstance(faults, StuckAtZero) else tuple(faults)
    if len(processes) != 1 or processes[0].site != "neuron":
        raise InputError(
            "faults: expected one process of dead neurons, the case of Algorithm 1, got "
            f"{'; '.join(map(str, processes)) or 'none'}"
        )
    layers = processes[0].layers_in(widths)
    if len(layers) != 1 or not 0 < layers[0] < len(widths) - 1:
        raise InputError(
            f"faults: expected dead neurons of one hidden layer, 1 to {len(widths) - 2}, got "
            f"layers {', '.join(map(str, layers))}; name it: layers=[1]"
        )
    return processes[0], layers[0]


def _tolerances(task: _Task, network: Network) -> Array:
    """Per input, |error| of an output from which on it counts as failed."""
    golden = network(task.inputs)
    if task.goal.error == "outputs":
        return np.full(len(golden), task.goal.epsilon)
    a = np.abs(golden - task.targets).mean(axis=1)
    # sqrt(a^2 + eps) - a, without cancellation.
    return np.asarray(task.goal.epsilon / (np.sqrt(a**2 + task.goal.epsilon) + a))


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What one trained network offers."""

    largest_mean: float
    infeasible_share: float
    delta: float
    replicas: int | None
    claimed_width: float


def _measure(task: _Task, network: Network, delta_0: float) -> _Measured:
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
    return _Measured(
        largest_mean=float(means.max()) / epsilon,
        infeasible_share=float((means >= epsilon).mean()),
        delta=float(delta.max()),
        replicas=None if needed is None or needed > _MOST_REPLICAS else needed,
        claimed_width=_claimed(task, prediction, tolerance),
    )


def _claimed(task: _Task, prediction: Prediction, tolerance: Array) -> float:
    """C p / (t^2 / 3) with C p = n Var: what Chebyshev needs for 1/3 at the worst input."""
    width = prediction.campaign.network.widths[task.layer]
    t = np.maximum(tolerance - np.abs(prediction.mean), 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.where(prediction.variance > 0, width * prediction.variance * 3 / t**2, 0.0)
    return float(wanted.max())


def _measure_as_paper(task: _Task, network: Network) -> _Measured:
    """The first example alone, its loss to first order, the printed R."""
    one = replace(task, inputs=task.inputs[:1], targets=task.targets[:1])
    prediction = predict(one.campaign(network), "first-order", loss="squared_error")
    assert prediction.mean_paper is not None
    assert prediction.variance_paper is not None
    mean = float(prediction.mean_paper[0, 0])
    variance = float(prediction.variance_paper[0, 0])
    epsilon = task.goal.epsilon
    delta = float(chebyshev(mean, variance, epsilon))
    t = max(epsilon - mean, 0.0)
    return _Measured(
        largest_mean=mean / epsilon,
        infeasible_share=float(mean >= epsilon),
        delta=delta,
        replicas=replicas_needed(delta, task.goal.delta, method="paper"),
        claimed_width=network.widths[task.layer] * variance * 3 / t**2 if t else math.inf,
    )


def _confirm(task: _Task, network: Network, replicas: int) -> Confirmation:
    """Simulate the network that is certified, with other random numbers than its training."""
    if task.method == "valid":
        tolerance = _tolerances(task, network)[:, None]

        def failed(errors: Array) -> Array:
            return np.asarray(np.abs(errors) >= tolerance)

        one = task
    else:  # the loss of the first example, and nothing more
        one = replace(task, inputs=task.inputs[:1], targets=task.targets[:1])
        residual = network(one.inputs) - one.targets

        def failed(errors: Array) -> Array:
            rise = (2 * residual * errors + errors**2).mean(axis=-1, keepdims=True)
            return np.asarray(rise >= task.goal.epsilon)

    return confirm(
        one.campaign(network),
        failed,
        replicas,
        task.goal.delta,
        task.search.confidence,
        of_outputs=task.method == "valid",
    )


def _peak_memory() -> int:
    """Bytes the process has held at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _raised(terms: Regularisation, *names: str) -> Regularisation:
    return replace(terms, **{name: 10 * getattr(terms, name) for name in names})


_ROUGH = ("smoothness", "paper_derivative", "paper_gaussian")


def _judge(
    task: _Task, network: Network, terms: Regularisation
) -> tuple[dict[str, float], str, Regularisation, Confirmation | None]:
    """Lines 5 to 15 of Algorithm 1: the figures, the action, the next penalties."""
    weight, bias = network.layers[task.layer - 1].weight, network.layers[task.layer - 1].bias
    p, paper = task.faults.probability, task.method == "paper"
    method: Literal["valid", "paper"] = "paper" if paper else "valid"
    rough = smoothness(weight, bias, method)
    figures = {
        "balance": balance(weight),
        "weight_failure": float(weight_perturbation(weight, p, min(1.0, _ALPHA * p), method)),
        "smoothness": rough.c1 if paper else rough.total,
    }
    blank = _Measured(
        largest_mean=math.nan, infeasible_share=math.nan, delta=math.nan, replicas=None,
        claimed_width=math.nan,
    )  # fmt: skip

    def answer(
        action: str,
        after: Regularisation = terms,
        found: _Measured = blank,
        confirmation: Confirmation | None = None,
    ) -> tuple[dict[str, float], str, Regularisation, Confirmation | None]:
        return (
            figures | {**vars(found), "replicas": found.replicas or 0}, action, after, confirmation
        )  # fmt: skip

    if figures["balance"] < _LEAST_BALANCE:
        return answer("raise mu", _raised(terms, "balance"))
    if figures["weight_failure"] > _MOST_WEIGHT_FAILURE:
        return answer("widen")
    limit = task.search.smoothness_limit
    if limit is not None and figures["smoothness"] > limit:
        return answer("raise psi", _raised(terms, *_ROUGH))
    found = _measure_as_paper(task, network) if paper else _measure(
        task, network, figures["weight_failure"]
    )  # fmt: skip
    if found.infeasible_share > (0 if paper else task.goal.delta):
        return answer("infeasible", terms, found)
    if found.replicas is None or (paper and found.delta >= _MOST_FAILURE):
        return answer("widen, raise lambda", _raised(terms, "variance"), found)
    confirmation = _confirm(task, network, found.replicas)
    if not paper and not confirmation.holds:
        action = "simulation does not confirm: widen, raise lambda"
        return answer(action, _raised(terms, "variance"), found, confirmation)
    return answer("done", terms, found, confirmation)


def _wider(task: _Task, module: DenseModule, network: Network, turn: int) -> DenseModule:
    """The next start: copies of the trained neurons, or new random weights."""
    width = network.widths[task.layer] + task.search.widen_by
    if not task.search.duplicate:
        return _fresh(task, module, width, turn)
    shares = predict(task.campaign(network), "first-order").site_contributions("neuron", task.layer)
    copies = copies_by_importance(np.sqrt(shares.sum(axis=0)), width)
    return to_module(duplicate(network, task.layer, copies), module.weights[0].dtype)


def _fresh(task: _Task, module: DenseModule, width: int, turn: int) -> DenseModule:
    widths = list(module.widths)
    widths[task.layer] = width
    seed = int(np.random.SeedSequence([task.seed, turn]).generate_state(1)[0])
    return random_module(widths, str(module.activations[0]), seed, dtype=module.weights[0].dtype)


def achieve(
    inputs: npt.ArrayLike,
    targets: npt.ArrayLike,
    goal: Goal,
    *,
    hidden: Sequence[int],
    activation: str,
    faults: StuckAtZero | Sequence[StuckAtZero],
    fit: Fit,
    seed: int,
    certified: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    start: Regularisation = _START,
    search: Search | None = None,
    method: Literal["valid", "paper"] = "valid",
    log: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Achievement:
    """Find a network and a number of replicas that keep a guarantee (Algorithm 1).

    Train; if q < 1e-2 raise mu, if delta_0 > 1/6 widen, if R3 > C raise psi; if the mean error is
    beyond epsilon stop, infeasible; if no number of replicas will do widen and raise lambda; else
    simulate the very network, and stop if that confirms. A raised factor is ten times as large.

    Delta is taken for every input and output: the two-sided Cantelli bound of b4's moments, plus
    delta_0; R from E_x[sum_k B(R, delta_k(x))] with the exact binomial. These moments are
    approximations: the guarantee is what `confirmation` says, from simulation.

    Parameters
    ----------
    inputs, targets : array_like
        To train on; as for `train`.
    goal : Goal
    hidden : sequence of int
        Widths of the hidden layers to start with.
    activation : str
        Of the hidden layers; the last layer is linear.
    faults : StuckAtZero
        Dead neurons of one hidden layer.
    fit : Fit
    seed : int
    certified : (inputs, targets), optional
        Inputs that the guarantee is about; by default those to train on.
    start : Regularisation
        Eq. 1's factors to start with. A factor of 0 stays 0.
    search : Search, optional
    method : "valid" or "paper"
        "paper": as its authors ran it. Loss of the first example only, by AP9 without the
        curvature of the loss; p g^2; Chebyshev below 1/3; the printed R. The simulation then
        shows what that is worth.
    log : str or path-like, optional
        An HDF5 file with one row an iteration, complete after each.
    progress : bool

    Returns
    -------
    Achievement

    Raises
    ------
    InputError
        If a value is not what it must be.

    Examples
    --------
    >>> x = np.linspace(0, 1, 64)[:, None]
    >>> found = achieve(
    ...     x, np.sin(3 * x), Goal(epsilon=0.5, delta=1e-4), hidden=(60,), activation="tanh",
    ...     faults=StuckAtZero("neuron", probability=0.01, layers=[1]), seed=0, progress=False,
    ...     fit=Fit(epochs=40, batch_size=8, learning_rate=0.01),
    ...     search=Search(widen_by=60, trials=4000))
    >>> found.verdict, found.confirmation.holds
    ('achieved', True)
    """
    if method not in ("valid", "paper"):
        raise InputError(f'method: expected "valid" or "paper", got {method!r}')
    if method == "paper" and goal.error != "loss":
        raise InputError('goal: expected error="loss" with method="paper", its only question')
    if fit.loss != "squared_error":
        raise InputError(f'fit: expected loss="squared_error", got {fit.loss!r}')
    x, y = np.asarray(inputs), np.asarray(targets)
    if x.ndim < 2 or y.ndim not in (1, 2):
        raise InputError(
            f"inputs, targets: expected (n_inputs, ...) and (n_inputs,) or (n_inputs, n_outputs), "
            f"got {x.shape} and {y.shape}"
        )
    n_outputs = int(y.max()) + 1 if y.ndim == 1 else y.shape[1]
    widths = (int(np.prod(x.shape[1:])), *hidden, n_outputs)
    process, layer = _crash(faults, widths)
    about, wanted = (np.asarray(a) for a in (certified or (x, y)))
    task = _Task(
        inputs=about.reshape(len(about), -1),
        targets=np.eye(n_outputs)[wanted] if wanted.ndim == 1 else wanted,
        goal=goal, fit=fit, faults=process, layer=layer, seed=seed,
        search=search or Search(), method=method,
    )  # fmt: skip
    terms = replace(start, variance_layer=layer)
    module = _fresh(task, random_module(widths, activation, seed), widths[layer], 0)
    rows: list[Iteration] = []
    anchor = 0.0
    for turn in range(1, task.search.most_iterations + 1):
        began = time.perf_counter()
        record = train(
            module, x, y, fit, seed=seed + turn, regularisation=terms, anchor=anchor,
            progress=progress,
        )  # fmt: skip
        network = record.network
        figures, action, after, confirmation = _judge(task, network, terms)
        rows.append(
            Iteration(
                width=network.widths[layer],
                variance_factor=terms.variance,
                balance_factor=terms.balance,
                smoothness_factor=max(getattr(terms, name) for name in _ROUGH),
                training_loss=record.losses[-1],
                seconds=time.perf_counter() - began,
                peak_memory_bytes=_peak_memory(),
                action=action,
                **figures,  # type: ignore[arg-type]
            )
        )
        if log is not None:
            save_iterations(log, rows, method)
        if action in ("done", "infeasible"):
            break
        terms, anchor = after, 0.0
        if "widen" in action:
            module = _wider(task, record.module, network, turn)
            anchor = task.search.anchor
        else:
            module = _fresh(task, module, network.widths[layer], turn)
    return _finish(task, network, tuple(rows), confirmation)


def _finish(
    task: _Task, network: Network, rows: tuple[Iteration, ...], confirmation: Confirmation | None
) -> Achievement:
    last, goal = rows[-1], task.goal
    verdict: Literal["achieved", "infeasible", "not achieved"]
    if last.action == "done":
        promise = f"{goal} for the median of {last.replicas} replicas"
        if task.method == "paper":
            promise += ", says the paper"
        verdict, reason = "achieved", promise
    elif last.action == "infeasible":
        verdict = "infeasible"
        reason = (
            f"the mean error alone is beyond epsilon = {goal.epsilon:g} at "
            f"{last.infeasible_share:.1%} of the inputs (largest: {last.largest_mean:.3g} epsilon),"
            f" more than delta = {goal.delta:g} allows; neither neurons nor replicas lower a mean"
        )
    else:
        verdict = "not achieved"
        reason = (
            f"after {len(rows)} iterations the last step is still: {last.action} (delta of one "
            f"chip up to {last.delta:.3g}); allow more iterations, a larger widen_by or epsilon"
        )
    return Achievement(
        verdict=verdict,
        reason=reason,
        network=network,
        replicas=last.replicas if last.action == "done" else 0,
        iterations=rows,
        confirmation=confirmation,
        method=task.method,
    )
