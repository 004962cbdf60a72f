"""The parameters of a spiking deployment: neurons, time, coding and read-out, with their units."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from neurosim.errors import InputError

__all__ = ["SpikingModel"]

NeuronKind: TypeAlias = Literal["if", "lif"]
Reset: TypeAlias = Literal["subtract", "zero"]
Coding: TypeAlias = Literal["current", "poisson", "regular"]
ReadOut: TypeAlias = Literal["count", "membrane"]


@dataclass(frozen=True, kw_only=True)
class SpikingModel:
    """How a network runs in spikes: one inference takes `duration_s`, in steps of `time_step_s`.

    docs/spiking.md has the equations.

    Parameters
    ----------
    duration_s, time_step_s : float
        Of one presentation, in seconds; a whole number of steps.
    threshold_v : float
        Membrane voltage at which a neuron spikes, in volts. Weights are scaled with it.
    neuron : "if" or "lif"
        Integrate-and-fire, without or with a leak.
    membrane_time_constant_s : float, optional
        Of the leak; for "lif" only, and there required.
    synaptic_time_constant_s : float, optional
        Decay of the synaptic current; None: a spike acts at once and only in its step.
    refractory_s : float
        Least time between two spikes of a neuron, a whole number of steps; 0: none, at most one
        spike in a step.
    reset : "subtract" or "zero"
        What a spike does to the membrane: subtract the threshold, or set it to 0 (loses what was
        above the threshold, so rates fall short).
    maximum_rate_hz : float, optional
        Rate that stands for the largest activity of a layer; by default the largest possible one,
        1 / max(time_step_s, refractory_s).
    coding : "current", "regular" or "poisson"
        Inputs as constant currents, as regular spike trains, or as random ones.
    readout : "count" or "membrane"
        Outputs from the spikes of the last layer, or from what its neurons have integrated.
    percentile : float
        The activity of a layer that stands for the maximum rate is this percentile of the absolute
        golden activities of the calibration inputs.
    scales : sequence of float, optional
        These activities themselves, one for each layer 0..L (`calibrated` computes them). By
        default they come from the inputs the network is run on.
    ticks : int
        Parts of a presentation in which faults come and go; a whole number of steps each.
    input_seed : int
        Of "poisson" spike trains: the same for every trial.

    Raises
    ------
    InputError
        If a value is out of range or two values contradict each other.

    Examples
    --------
    >>> SpikingModel(duration_s=0.1, time_step_s=1e-3).n_steps
    100
    """

    duration_s: float = 0.256
    time_step_s: float = 1e-3
    threshold_v: float = 1.0
    neuron: NeuronKind = "if"
    membrane_time_constant_s: float | None = None
    synaptic_time_constant_s: float | None = None
    refractory_s: float = 0.0
    reset: Reset = "subtract"
    maximum_rate_hz: float | None = None
    coding: Coding = "current"
    readout: ReadOut = "count"
    percentile: float = 100.0
    scales: Sequence[float] | None = None
    ticks: int = 1
    input_seed: int = 0

    def __post_init__(self) -> None:
        for name in ("duration_s", "time_step_s", "threshold_v"):
            self._check_positive(name)
        for name, allowed in (
            ("neuron", NeuronKind),
            ("reset", Reset),
            ("coding", Coding),
            ("readout", ReadOut),
        ):
            if getattr(self, name) not in get_args(allowed):
                spelled = ", ".join(f'"{value}"' for value in get_args(allowed))
                raise InputError(f"{name}: expected one of {spelled}, got {getattr(self, name)!r}")
        if (self.neuron == "lif") != (self.membrane_time_constant_s is not None):
            raise InputError(
                'membrane_time_constant_s: expected one for neuron "lif" and none for "if", got '
                f"{self.membrane_time_constant_s!r} for {self.neuron!r}"
            )
        for name in ("membrane_time_constant_s", "synaptic_time_constant_s"):
            if getattr(self, name) is not None:
                self._check_positive(name)
                if getattr(self, name) <= self.time_step_s:
                    raise InputError(
                        f"{name}: expected more than the time step of {self.time_step_s:g} s, "
                        f"got {getattr(self, name):g} s"
                    )
        if not (_is_number(self.refractory_s) and 0 <= self.refractory_s < np.inf):
            raise InputError(f"refractory_s: expected seconds from 0 on, got {self.refractory_s!r}")
        for name in ("duration_s", "refractory_s"):
            if _whole_steps(getattr(self, name), self.time_step_s) is None:
                raise InputError(
                    f"{name}: expected a whole number of time steps of {self.time_step_s:g} s, "
                    f"got {getattr(self, name):g} s"
                )
        if self.maximum_rate_hz is not None:
            self._check_positive("maximum_rate_hz")
            possible = 1 / max(self.time_step_s, self.refractory_s)
            if self.maximum_rate_hz > possible * (1 + 1e-9):
                raise InputError(
                    f"maximum_rate_hz: expected at most {possible:g} Hz, one spike in a time step "
                    f"and in a refractory time, got {self.maximum_rate_hz:g} Hz"
                )
        if not (_is_number(self.percentile) and 0 < self.percentile <= 100):
            raise InputError(f"percentile: expected a number in (0, 100], got {self.percentile!r}")
        for name, least in (("ticks", 1), ("input_seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise InputError(f"{name}: expected a whole number, got {value!r}")
            if value < least:
                raise InputError(f"{name}: expected a whole number from {least} on, got {value}")
            object.__setattr__(self, name, int(value))
        if self.n_steps % self.ticks:
            raise InputError(
                f"ticks: expected a divisor of the {self.n_steps} time steps of a presentation, "
                f"got {self.ticks}"
            )
        if self.scales is not None:
            object.__setattr__(self, "scales", self._checked_scales())

    def _check_positive(self, name: str) -> None:
        value = getattr(self, name)
        if not (_is_number(value) and 0 < value < np.inf):
            raise InputError(f"{name}: expected a finite number above 0, got {value!r}")

    def _checked_scales(self) -> tuple[float, ...]:
        try:
            scales = np.asarray(self.scales, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"scales: expected numbers, got {self.scales!r}") from error
        if scales.ndim != 1 or not (np.isfinite(scales) & (scales > 0)).all():
            raise InputError(f"scales: expected finite numbers above 0, got {self.scales!r}")
        return tuple(float(scale) for scale in scales)

    @property
    def n_steps(self) -> int:
        """Time steps of a presentation."""
        return _whole_steps(self.duration_s, self.time_step_s) or 1

    @property
    def refractory_steps(self) -> int:
        """Least number of time steps from one spike of a neuron to the next."""
        return max(1, _whole_steps(self.refractory_s, self.time_step_s) or 0)

    @property
    def largest_rate(self) -> float:
        """Spikes a time step that stand for the largest activity of a layer, at most 1."""
        if self.maximum_rate_hz is None:
            return 1 / self.refractory_steps
        return min(self.maximum_rate_hz * self.time_step_s, 1 / self.refractory_steps)

    def calibrated(self, network: Any, inputs: npt.ArrayLike) -> "SpikingModel":
        """The same model with its scales taken from calibration inputs.

        Parameters
        ----------
        network : Network
        inputs : array_like, (n_inputs, *input_shape)

        Examples
        --------
        >>> import neurosim as ns
        >>> network = ns.Network.dense(weights=[[[2.0]]], biases=[[0]], activations=["relu"])
        >>> SpikingModel().calibrated(network, [[1.0], [3.0]]).scales
        (3.0, 6.0)
        """
        y0 = network.flatten(inputs).astype(np.float64, copy=False)
        return replace(self, scales=self.scales_of(network.activations(y0)))

    def scales_of(self, activities: Sequence[npt.NDArray[Any]]) -> tuple[float, ...]:
        """The activity that stands for the largest rate, for each layer's activities.

        A layer that is 0 for every input gets 1.
        """
        found = [float(np.percentile(np.abs(y), self.percentile)) for y in activities]
        # A percentile below the few active values of a layer must not be 0.
        return tuple(
            scale or float(np.abs(y).max()) or 1.0
            for scale, y in zip(found, activities, strict=True)
        )

    def __str__(self) -> str:
        parts = [
            f"{self.duration_s:g} s in {self.n_steps} steps",
            f"{self.neuron} neurons",
            f"threshold {self.threshold_v:g} V",
            "reset to zero" if self.reset == "zero" else "reset by subtraction",
            f"{self.coding} inputs",
            f"read-out by {self.readout}",
        ]
        if self.ticks > 1:
            parts.append(f"{self.ticks} ticks")
        return ", ".join(parts)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _whole_steps(seconds: float, step: float) -> int | None:
    """Number of steps in a time; None if it is not whole (to rounding)."""
    steps = seconds / step
    whole = round(steps)
    return whole if abs(steps - whole) <= 1e-6 * max(1, whole) else None
