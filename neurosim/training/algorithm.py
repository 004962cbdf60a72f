"""Algorithm 1: train, check, raise a penalty or widen, until replicas give the guarantee."""

import math
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from neurosim.errors import InputError
from neurosim.faults import StuckAtZero
from neurosim.network import Network
from neurosim.theory.continuity import balance, copies_by_importance, duplicate, smoothness
from neurosim.theory.prediction import predict
from neurosim.theory.tails import weight_perturbation
from neurosim.training.confirmation import Confirmation
from neurosim.training.fitting import Fit, train, wanted_outputs
from neurosim.training.goals import Goal, Search
from neurosim.training.iterations import Achievement, Iteration, save_iterations
from neurosim.training.measurement import (
    NOTHING,
    Measured,
    Task,
    confirmed,
    measure,
    measure_as_paper,
)
from neurosim.training.modules import DenseModule, random_module, to_module
from neurosim.training.regularisers import Regularisation

__all__ = ["achieve"]

# Algorithm 1: q must not be below, delta_0 not above.
_LEAST_BALANCE, _MOST_WEIGHT_FAILURE = 1e-2, 1 / 6
# The authors' alpha of P3 as a multiple of p.
_ALPHA = math.exp(2.5)
# As the authors began.
_START = Regularisation(variance=1e-10, balance=1e-10, paper_derivative=1e-8, paper_gaussian=1e-6)
_ROUGH = ("smoothness", "paper_derivative", "paper_gaussian")


def _crashes(
    faults: StuckAtZero | Sequence[StuckAtZero], widths: Sequence[int], method: str
) -> tuple[tuple[StuckAtZero, ...], dict[int, float]]:
    """The processes, and the probability of a dead neuron by layer."""
    processes = (faults,) if isinstance(faults, StuckAtZero) else tuple(faults)
    if not processes or any(
        not isinstance(process, StuckAtZero) or process.site != "neuron" for process in processes
    ):
        raise InputError(
            "faults: expected dead neurons, the case of Algorithm 1, got "
            f"{'; '.join(map(str, processes)) or 'none'}"
        )
    dead: dict[int, float] = {}
    for process in processes:
        for layer in process.layers_in(widths):
            before, p = dead.get(layer, 0.0), process.probability
            dead[layer] = before + p - before * p
    rates = {layer: dead[layer] for layer in sorted(dead)}
    if any(not 0 < layer < len(widths) - 1 for layer in rates):
        raise InputError(
            f"faults: expected dead neurons of hidden layers, 1 to {len(widths) - 2}, got "
            f"layers {', '.join(map(str, rates))}; name them: layers=[1]"
        )
    if any(rate == 0 for rate in rates.values()):
        raise InputError("faults: expected probabilities above 0, got 0")
    if method == "paper" and len(rates) != 1:
        raise InputError(
            'faults: expected dead neurons of one hidden layer with method="paper", all that its '
            f"authors ran, got layers {', '.join(map(str, rates))}"
        )
    return processes, rates


def _peak_memory() -> int:
    """Bytes the process has held at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _raised(terms: Regularisation, *names: str) -> Regularisation:
    return replace(terms, **{name: 10 * getattr(terms, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class _Judgement:
    """Lines 5 to 15 of Algorithm 1: the figures, the action, the next penalties.

    widen: the layer that the next network has more neurons in.
    """

    figures: dict[str, float]
    found: Measured = NOTHING
    action: str
    terms: Regularisation
    widen: int | None = None
    confirmation: Confirmation | None = None


def _judge(task: Task, network: Network, terms: Regularisation) -> _Judgement:
    paper = task.method == "paper"
    method: Literal["valid", "paper"] = "paper" if paper else "valid"
    q, lost, rough = {}, {}, {}
    for layer, p in task.rates.items():
        weight, bias = network.layers[layer - 1].weight, network.layers[layer - 1].bias
        q[layer] = balance(weight)
        lost[layer] = float(weight_perturbation(weight, p, min(1.0, _ALPHA * p), method))
        smooth = smoothness(weight, bias, method)
        rough[layer] = smooth.c1 if paper else smooth.total
    # Each layer loses its weights by itself: the probabilities add.
    delta_0 = sum(lost.values())
    figures = {
        "balance": min(q.values()),
        "weight_failure": delta_0,
        "smoothness": max(rough.values()),
    }

    def widening(layer: int) -> str:
        return "widen" if len(task.rates) == 1 else f"widen layer {layer}"

    if figures["balance"] < _LEAST_BALANCE:
        return _Judgement(figures=figures, action="raise mu", terms=_raised(terms, "balance"))
    if delta_0 > _MOST_WEIGHT_FAILURE:
        worst = max(lost, key=lambda layer: lost[layer])
        return _Judgement(figures=figures, action=widening(worst), terms=terms, widen=worst)
    limit = task.search.smoothness_limit
    if limit is not None and figures["smoothness"] > limit:
        return _Judgement(figures=figures, action="raise psi", terms=_raised(terms, *_ROUGH))
    found = measure_as_paper(task, network) if paper else measure(task, network, delta_0)
    if found.infeasible_share > (0 if paper else task.goal.delta):
        return _Judgement(figures=figures, found=found, action="infeasible", terms=terms)
    # To first order Var_l falls as 1 / n_l: more neurons gain most here.
    added, widths = task.search.widen_by, network.widths
    narrow = max(
        found.layer_variances,
        key=lambda layer: found.layer_variances[layer] * added / (widths[layer] + added),
    )
    more = f"{widening(narrow)}, raise lambda"
    stronger = _raised(terms, "variance")
    if found.replicas is None:  # with the authors': Chebyshev's share is 1/3 or more
        return _Judgement(figures=figures, found=found, action=more, terms=stronger, widen=narrow)
    confirmation = confirmed(task, network, found.replicas)
    if not paper and not confirmation.holds:
        return _Judgement(
            figures=figures,
            found=found,
            action=f"simulation does not confirm: {more}",
            terms=stronger,
            widen=narrow,
            confirmation=confirmation,
        )
    return _Judgement(
        figures=figures, found=found, action="done", terms=terms, confirmation=confirmation
    )


def _wider(task: Task, module: DenseModule, network: Network, layer: int, turn: int) -> DenseModule:
    """The next start: copies of the trained neurons, or new random weights."""
    width = network.widths[layer] + task.search.widen_by
    if not task.search.duplicate:
        return _fresh(task, module, {layer: width}, turn)
    shares = predict(task.campaign(network), "first-order").site_contributions("neuron", layer)
    copies = copies_by_importance(np.sqrt(shares.sum(axis=0)), width)
    return to_module(duplicate(network, layer, copies), module.weights[0].dtype)


def _fresh(task: Task, module: DenseModule, changed: dict[int, int], turn: int) -> DenseModule:
    widths = [changed.get(layer, width) for layer, width in enumerate(module.widths)]
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

    Where several layers fail, each layer must keep q and R3, delta_0 and b4's moments are sums over
    them (AP7), and the layer is widened that more neurons help most: to first order its share of
    the variance falls as 1 / n_l.

    Parameters
    ----------
    inputs, targets : array_like
        To train on; as for `train`.
    goal : Goal
    hidden : sequence of int
        Widths of the hidden layers to start with.
    activation : str
        Of the hidden layers; the last layer is linear.
    faults : StuckAtZero or sequence of StuckAtZero
        Dead neurons of hidden layers: of each its own probability, if you like.
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
    processes, rates = _crashes(faults, widths, method)
    about, wanted = certified or (x, y)
    about = np.asarray(about)
    task = Task(
        inputs=about.reshape(len(about), -1),
        targets=wanted_outputs(wanted, len(about), n_outputs),
        goal=goal, fit=fit, faults=processes, rates=rates, seed=seed,
        search=search or Search(), method=method,
    )  # fmt: skip
    largest = max(rates.values())
    terms = replace(
        start,
        variance_layers={layer: p / largest for layer, p in rates.items()},
        balance_layers=tuple(rates),
    )
    module = _fresh(task, random_module(widths, activation, seed), {}, 0)
    rows: list[Iteration] = []
    anchor = 0.0
    for turn in range(1, task.search.most_iterations + 1):
        began = time.perf_counter()
        record = train(
            module, x, y, fit, seed=seed + turn, regularisation=terms, anchor=anchor,
            progress=progress,
        )  # fmt: skip
        network = record.network
        judged = _judge(task, network, terms)
        found = judged.found
        rows.append(
            Iteration(
                widths=tuple(network.widths[layer] for layer in rates),
                variance_factor=terms.variance,
                balance_factor=terms.balance,
                smoothness_factor=max(getattr(terms, name) for name in _ROUGH),
                training_loss=record.losses[-1],
                largest_mean=found.largest_mean,
                infeasible_share=found.infeasible_share,
                delta=found.delta,
                claimed_width=found.claimed_width,
                replicas=found.replicas or 0,
                seconds=time.perf_counter() - began,
                peak_memory_bytes=_peak_memory(),
                action=judged.action,
                **judged.figures,
            )
        )
        if log is not None:
            save_iterations(log, rows, method)
        if judged.action in ("done", "infeasible"):
            break
        terms, anchor = judged.terms, 0.0
        if judged.widen is not None:
            module = _wider(task, record.module, network, judged.widen, turn)
            anchor = task.search.anchor
        else:
            module = _fresh(task, module, {}, turn)
    return _finish(task, network, tuple(rows), judged.confirmation)


def _finish(
    task: Task, network: Network, rows: tuple[Iteration, ...], confirmation: Confirmation | None
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
