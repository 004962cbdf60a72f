"""Training: the loss, Eq. 1's terms, faults drawn on the way, checkpoints that resume."""

import copy
import hashlib
import math
import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from neurosim.campaign import Loss
from neurosim.errors import InputError, TraceError
from neurosim.faults import StuckAtZero
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.training.fault_masks import check_faults, draw_masks
from neurosim.training.losses import losses
from neurosim.training.modules import DenseModule, to_network
from neurosim.training.regularisers import Regularisation

__all__ = ["Fit", "TrainingRecord", "train", "wanted_outputs"]

_CHECKPOINT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a module is fitted to data.

    Parameters
    ----------
    epochs : int
        Passes over the data.
    batch_size : int
        Examples a step; a last, smaller batch is used too.
    loss : "squared_error", "absolute_error" or "cross_entropy"
    optimiser : "adam" or "adadelta"
        With the constants of the paper's authors: Adam (0.9, 0.999, 1e-7), Adadelta (0.95, 1e-7).
    learning_rate : float, optional
        1e-3 for Adam, 1 for Adadelta.
    patience : int, optional
        Stop after so many epochs without a better validation loss, and return to the best weights.
    threads : int
        Of PyTorch. Part of what determines the bits.

    Raises
    ------
    InputError
        If a value is out of range.

    Examples
    --------
    >>> Fit(epochs=10, batch_size=100).rate
    0.001
    """

    epochs: int
    batch_size: int
    loss: Loss = "squared_error"
    optimiser: Literal["adam", "adadelta"] = "adam"
    learning_rate: float | None = None
    patience: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience", "threads"):
            value = getattr(self, name)
            if name == "patience" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"{name}: expected a whole number from 1 on, got {value!r}")
        if self.loss not in get_args(Loss):
            spelled = ", ".join(get_args(Loss))
            raise InputError(f"loss: expected one of {spelled}, got {self.loss!r}")
        if self.optimiser not in ("adam", "adadelta"):
            raise InputError(f'optimiser: expected "adam" or "adadelta", got {self.optimiser!r}')
        rate = self.learning_rate
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise InputError(f"learning_rate: expected a number above 0, got {rate!r}")

    @property
    def rate(self) -> float:
        """The learning rate."""
        default = 1e-3 if self.optimiser == "adam" else 1.0
        return default if self.learning_rate is None else self.learning_rate

    def make_optimiser(self, module: DenseModule) -> torch.optim.Optimizer:
        """The optimiser of a module's weights and biases."""
        if self.optimiser == "adam":
            return torch.optim.Adam(module.parameters(), lr=self.rate, eps=1e-7)
        return torch.optim.Adadelta(module.parameters(), lr=self.rate, rho=0.95, eps=1e-7)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingRecord:
    """A trained module, and how it became so.

    Parameters
    ----------
    module : DenseModule
    losses, penalties : tuple of float
        Mean loss and mean of Eq. 1's other terms over the steps of each epoch.
    validation_losses : tuple of float
        After each epoch; empty without validation data.
    stopped_early : bool
    """

    module: DenseModule = field(repr=False)
    losses: tuple[float, ...]
    penalties: tuple[float, ...]
    validation_losses: tuple[float, ...] = ()
    stopped_early: bool = False

    @property
    def network(self) -> Network:
        """The module as a Network."""
        return to_network(self.module)

    def __str__(self) -> str:
        end = " (stopped early)" if self.stopped_early else ""
        return (
            f"{len(self.losses)} epochs{end}: loss {self.losses[0]:.4g} -> {self.losses[-1]:.4g}, "
            f"penalties {self.penalties[-1]:.4g}"
        )


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def wanted_outputs(targets: npt.ArrayLike, n_inputs: int, n_outputs: int) -> Array:
    """Wanted outputs (n_inputs, n_outputs), checked; class numbers become one-hot rows."""
    y = np.asarray(targets)
    if y.shape == (n_inputs,) and y.dtype.kind in "iu":
        if y.min() < 0 or y.max() >= n_outputs:
            raise InputError(
                f"targets: expected class numbers from 0 to {n_outputs - 1}, got {y.min()} to "
                f"{y.max()}"
            )
        y = np.eye(n_outputs)[y]
    if y.shape != (n_inputs, n_outputs):
        raise InputError(
            f"targets: expected class numbers ({n_inputs},), integers, or wanted outputs "
            f"({n_inputs}, {n_outputs}), got {y.dtype} of shape {y.shape}"
        )
    return y


def _pair(
    module: DenseModule, inputs: npt.ArrayLike, targets: npt.ArrayLike, loss: str
) -> tuple[Tensor, Tensor]:
    """Inputs and wanted outputs as tensors, checked."""
    dtype = module.weights[0].dtype
    x = np.asarray(inputs)
    x = x.reshape(len(x), -1) if x.ndim > 1 else x
    n_in = module.widths[0]
    if x.ndim != 2 or x.shape[1] != n_in or not len(x):
        raise InputError(
            f"inputs: expected shape (n_inputs, {n_in}), at least one input, got {np.shape(inputs)}"
        )
    y = wanted_outputs(targets, len(x), module.widths[-1])
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("inputs, targets: expected finite numbers, got NaN or infinity")
    if loss == "cross_entropy" and module.readout != "softmax":
        raise InputError(
            "loss: expected a module with a softmax read-out for cross_entropy, got one without; "
            'make it with last="softmax"'
        )
    return torch.tensor(x, dtype=dtype), torch.tensor(y, dtype=dtype)


def _fingerprint(module: DenseModule, tensors: Sequence[Tensor], options: Sequence[Any]) -> str:
    kind = (module.widths, module.activations, module.readout)
    digest = hashlib.sha256(repr((_CHECKPOINT_VERSION, kind, options)).encode())
    for tensor in (*module.parameters(), *tensors):
        digest.update(tensor.detach().numpy().tobytes())
    return digest.hexdigest()


def _load(path: Path, fingerprint: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        same = state["fingerprint"] == fingerprint
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise TraceError(
            f"{path}: expected a checkpoint of a training, got {type(error).__name__}; remove it"
        ) from error
    if not same:
        raise TraceError(
            f"{path}: expected a checkpoint of this training, got one of other data, options, seed "
            "or starting weights; choose another path or remove it"
        )
    return state


def _save(path: Path, state: dict[str, Any]) -> None:
    aside = path.with_name(path.name + ".new")
    try:
        with open(aside, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        raise TraceError(f"{path}: cannot write the checkpoint: {error}") from error


def _epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """Of the order of the examples and of the faults: a function of the seed and the epoch."""
    state = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def train(
    module: DenseModule,
    inputs: npt.ArrayLike,
    targets: npt.ArrayLike,
    fit: Fit,
    *,
    seed: int,
    regularisation: Regularisation | None = None,
    faults: Sequence[StuckAtZero] = (),
    validation: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
    anchor: float = 0.0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> TrainingRecord:
    """Train a copy of a module; the module itself stays as it is.

    Parameters
    ----------
    module : DenseModule
        Where to start.
    inputs : array_like, shape (n_inputs, ...)
        Flattened to (n_inputs, n_0).
    targets : array_like
        Class numbers (n_inputs,) or wanted outputs (n_inputs, n_outputs).
    fit : Fit
    seed : int
        Of the order of the examples and of the faults. One seed, the same bits, on one machine.
    regularisation : Regularisation, optional
        Eq. 1's terms; none by default. They see the golden network.
    faults : sequence of StuckAtZero
        Drawn at every step: a permanent process one fault set for the batch, a transient one
        another for each example (as dropout, without its factor 1 / (1 - p)).
    validation : (inputs, targets), optional
        For `fit.patience`.
    anchor : float
        Factor of the mean squared distance of the weights to those of `module`.
    checkpoint : str or path-like, optional
        A file written after every epoch. If it is there, training continues from it, to the same
        bits as without a break.
    progress : bool
        Show a progress bar on standard error if that is a terminal.

    Returns
    -------
    TrainingRecord

    Raises
    ------
    InputError
        If a shape or a value is not what it must be, or the loss is no longer finite.
    TraceError
        If the checkpoint cannot be written, or belongs to another training.

    Examples
    --------
    >>> from neurosim.training import random_module
    >>> x = np.linspace(0, 1, 32)[:, None]
    >>> record = train(random_module((1, 8, 1), "tanh", seed=0), x, np.sin(3 * x),
    ...                Fit(epochs=50, batch_size=8, learning_rate=0.01), seed=1, progress=False)
    >>> record.losses[-1] < record.losses[0]
    True
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed: expected a whole number from 0 on, got {seed!r}")
    if not (math.isfinite(anchor) and anchor >= 0):
        raise InputError(f"anchor: expected a finite number from 0 on, got {anchor!r}")
    terms = regularisation or Regularisation()
    processes = check_faults(faults, module.widths)
    x, y = _pair(module, inputs, targets, fit.loss)
    held = None if validation is None else _pair(module, *validation, fit.loss)
    if fit.patience is not None and held is None:
        raise InputError("validation: expected data beside fit.patience, got none")
    start = [parameter.detach().clone() for parameter in module.parameters()]
    model = copy.deepcopy(module)
    optimiser = fit.make_optimiser(model)
    state: dict[str, Any] = {
        "fingerprint": _fingerprint(
            module, (x, y, *(held or ())), (fit, terms, processes, seed, anchor)
        ),
        "losses": [], "penalties": [], "validation": [], "best": None, "stopped": False,
    }  # fmt: skip
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and (loaded := _load(path, state["fingerprint"])) is not None:
        state = loaded
        model.load_state_dict(state["module"])
        optimiser.load_state_dict(state["optimiser"])
    epochs = range(len(state["losses"]), 0 if state["stopped"] else fit.epochs)
    with (
        _threads(fit.threads),
        tqdm(
            total=fit.epochs,
            initial=len(state["losses"]),
            desc="training",
            unit="epoch",
            disable=not (progress and sys.stderr.isatty()),
        ) as bar,
    ):
        for epoch in epochs:
            loss, penalty = _one_epoch(
                model, optimiser, (x, y), fit, terms, processes, (anchor, start),
                _epoch_generator(seed, epoch),
            )  # fmt: skip
            state["losses"].append(loss)
            state["penalties"].append(penalty)
            if held is not None:
                _validate(model, held, fit, state)
            if path is not None:
                state |= {"module": model.state_dict(), "optimiser": optimiser.state_dict()}
                _save(path, state)
            bar.update()
            bar.set_postfix(loss=f"{loss:.4g}")
            if state["stopped"]:
                break
    if fit.patience is not None and state["best"] is not None:
        model.load_state_dict(state["best"])
    return TrainingRecord(
        module=model,
        losses=tuple(state["losses"]),
        penalties=tuple(state["penalties"]),
        validation_losses=tuple(state["validation"]),
        stopped_early=state["stopped"],
    )


def _one_epoch(
    model: DenseModule,
    optimiser: torch.optim.Optimizer,
    data: tuple[Tensor, Tensor],
    fit: Fit,
    terms: Regularisation,
    faults: Sequence[StuckAtZero],
    anchor: tuple[float, Sequence[Tensor]],
    generator: torch.Generator,
) -> tuple[float, float]:
    """One pass over the data; mean loss and mean penalty of its steps."""
    x, y = data
    weight, start = anchor
    sums = [0.0, 0.0]
    batches = torch.split(torch.randperm(len(x), generator=generator), fit.batch_size)
    for rows in batches:
        inputs, wanted = x[rows], y[rows]
        masks = draw_masks(faults, model.widths, len(rows), generator, x.dtype)
        loss = losses(model(inputs, masks), wanted, fit.loss).mean()
        penalty = terms.penalty(model, inputs, wanted, fit.loss)
        if weight:
            for parameter, origin in zip(model.parameters(), start, strict=True):
                penalty = penalty + weight * ((parameter - origin) ** 2).mean()
        total = loss + penalty
        if not torch.isfinite(total):
            raise InputError(
                "fit: expected a training that converges, got a loss that is not finite; lower "
                "the learning rate or the penalties"
            )
        optimiser.zero_grad()
        torch.autograd.backward(total)
        optimiser.step()
        sums[0] += float(loss.detach())
        sums[1] += float(penalty.detach())
    return sums[0] / len(batches), sums[1] / len(batches)


def _validate(
    model: DenseModule, held: tuple[Tensor, Tensor], fit: Fit, state: dict[str, Any]
) -> None:
    """Note the validation loss, the best weights, and whether patience has ended."""
    with torch.no_grad():
        loss = float(losses(model(held[0]), held[1], fit.loss).mean())
    state["validation"].append(loss)
    if loss <= min(state["validation"]):
        state["best"] = copy.deepcopy(model.state_dict())
    since = len(state["validation"]) - 1 - int(np.argmin(state["validation"]))
    state["stopped"] = fit.patience is not None and since >= fit.patience
