"""What counts as a failure at one input, and what to push so that it happens."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from neurosim.campaign import Campaign
from neurosim.errors import InputError
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.statistics import loss_values
from neurosim.theory.arguments import numbers
from neurosim.theory.bounds import output_range
from neurosim.theory.setting import Setting
from neurosim.theory.site_bounds import silenced_blocks

__all__ = ["Failure", "FailureKind", "failure_of"]

FailureKind: TypeAlias = Literal["error", "loss", "class"]

# Bounds are rounded: what exceeds epsilon by less than this share of it is not called impossible.
_ROUNDING = 1e-5


@dataclass(frozen=True, kw_only=True, eq=False)
class Failure:
    """A failure at one input: which errors (n, n_outputs) are one, cell by cell.

    Parameters
    ----------
    kind : "error", "loss" or "class"
        |error| >= epsilon of an output (a cell an output); the loss risen by at least epsilon; the
        largest output another one than the golden (one cell).
    epsilon : float
        0 for "class".
    golden : ndarray, shape (n_outputs,)
        In the engine's dtype.
    softmax : bool
        Whether the outputs are probabilities.
    loss : str, optional
    target : ndarray, optional, shape (n_outputs,)
    """

    kind: FailureKind
    epsilon: float
    golden: Array
    softmax: bool
    loss: str | None = None
    target: Array | None = None

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.golden) if self.kind == "error" else 1

    def cells(self, errors: Array) -> Array:
        """Which errors fail in which cell: (n, n_cells) of bool."""
        if self.kind == "error":
            return np.abs(errors).astype(np.float64) >= self.epsilon
        if self.kind == "loss":
            return self._loss_change(errors)[:, None] >= self.epsilon
        return ((self.golden + errors).argmax(axis=1) != self.golden.argmax())[:, None]

    def drives(self, errors: Array) -> Array:
        """What makes failures when it grows, 0 without faults: (n, n_drives)."""
        if self.kind == "error":
            return np.concatenate([errors, -errors], axis=1).astype(np.float64)
        if self.kind == "loss":
            return self._loss_change(errors)[:, None]
        return self._margins(errors) - self._margins(np.zeros_like(errors[:1]))

    @property
    def thresholds(self) -> Array:
        """At how much of each drive there is a failure: (n_drives,), above 0."""
        if self.kind == "error":
            return np.full(2 * len(self.golden), self.epsilon)
        if self.kind == "loss":
            return np.array([self.epsilon])
        margins = -self._margins(np.zeros((1, len(self.golden))))[0]
        return np.maximum(margins, 1e-9 * (1 + np.abs(margins)))

    def _loss_change(self, errors: Array) -> Array:
        assert self.loss is not None
        assert self.target is not None
        golden = self.golden.astype(np.float64)
        after = loss_values(self.loss, golden + errors, self.target)
        return after - loss_values(self.loss, golden, self.target)

    def _margins(self, errors: Array) -> Array:
        """By how much each other output is above the winner, of a softmax by its logarithm."""
        outputs = self.golden.astype(np.float64) + errors
        if self.softmax:
            outputs = np.log(np.maximum(outputs, 1e-30))
        winner = int(self.golden.argmax())
        return np.delete(outputs, winner, axis=1) - outputs[:, [winner]]

    def impossible(self, low: Array, high: Array) -> Array:
        """Which cells no fault set can fail, from the range of the outputs: (n_cells,) of bool."""
        golden = self.golden.astype(np.float64)
        if self.kind == "class":
            winner = int(golden.argmax())
            others = np.delete(high, winner)
            gap = low[winner] - others.max(initial=-np.inf)
            return np.array([gap > _ROUNDING * np.abs(golden).max()])
        if self.kind == "error":
            most = np.maximum(high - golden, golden - low)
        else:
            most = self._largest_loss(low, high) - loss_values(
                self.loss or "", golden, np.asarray(self.target)
            )
            most = np.atleast_1d(most)
        slack = _ROUNDING * max(self.epsilon, float(np.abs(golden).max()))
        return np.asarray(most < self.epsilon - slack)

    def _largest_loss(self, low: Array, high: Array) -> Array:
        target = np.asarray(self.target)
        if self.loss == "cross_entropy":
            return loss_values(self.loss, low, target)
        farther = np.where(np.abs(low - target) > np.abs(high - target), low, high)
        return loss_values(self.loss or "", farther, target)


def failure_of(
    campaign: Campaign, kind: FailureKind, epsilon: float | None
) -> tuple[FailureKind, float]:
    """Check what is asked about a campaign.

    Raises
    ------
    InputError
        If there is no such failure, the campaign has not what it needs, or epsilon does not fit.
    """
    if kind not in get_args(FailureKind):
        spelled = ", ".join(f'"{name}"' for name in get_args(FailureKind))
        raise InputError(f"failure: expected one of {spelled}, got {kind!r}")
    if kind == "class":
        if epsilon is not None:
            raise InputError(
                'epsilon: expected None for failure "class", which has no tolerance, '
                f"got {epsilon!r}"
            )
        if campaign.n_outputs < 2:
            raise InputError('failure: expected a network of at least 2 outputs for "class", got 1')
        return kind, 0.0
    value = numbers(
        "epsilon", np.nan if epsilon is None else epsilon, "a number above 0", lambda e: e > 0
    )
    if value.ndim:
        raise InputError(f"epsilon: expected one number, got shape {value.shape}")
    if kind == "loss":
        if campaign.loss is None:
            raise InputError(
                'failure: expected a campaign with a loss for "loss", got one without; give it '
                'loss="squared_error", "absolute_error" or "cross_entropy"'
            )
        campaign.check_loss(campaign.loss)
    return kind, float(value)


def failures_at(
    campaign: Campaign, kind: FailureKind, epsilon: float, golden: Array, input: int
) -> Failure:
    """The failure at one input, golden its outputs (n_outputs,) in the engine's dtype."""
    with_loss = kind == "loss"
    return Failure(
        kind=kind,
        epsilon=epsilon,
        golden=golden,
        softmax=campaign.network.readout == "softmax",
        loss=campaign.loss if with_loss else None,
        target=campaign.target_outputs[input] if with_loss else None,
    )


def impossible_cells(failure: Failure, setting: Setting, network: Network, values: Array) -> Array:
    """Cells that no fault set can fail at an input, its values (n_0,)."""
    silenced = silenced_blocks(setting)
    if not silenced:
        return np.ones(failure.n_cells, np.bool_)
    kinds: list[Any] = [kind for kind, _ in silenced]  # "neuron" or "synapse"
    layers = [number for _, number in silenced]
    low, high = output_range(network, values.reshape(1, *network.input_shape), layers, kinds)
    return failure.impossible(low[0], high[0])
