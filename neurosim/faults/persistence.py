"""How long a fault lasts: permanent, transient, intermittent."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from neurosim.errors import InputError

__all__ = ["Intermittent", "Permanent", "Persistence", "Transient", "is_number", "persistence_of"]


def is_number(value: object) -> bool:
    """Whether a value is a number, of Python or NumPy, and no bool."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


@dataclass(frozen=True)
class Permanent:
    """A fault drawn once a trial that lasts the whole trial.

    Examples
    --------
    >>> from neurosim.faults import StuckAtZero
    >>> StuckAtZero("neuron", probability=1e-3, persistence=Permanent()).persistence
    Permanent()
    """

    def __str__(self) -> str:
        return "permanent"


@dataclass(frozen=True)
class Transient:
    """A fault drawn anew, independently, at each presentation.

    Examples
    --------
    >>> from neurosim.faults import StuckAtZero
    >>> str(StuckAtZero("synapse", probability=1e-4, persistence=Transient()))
    'stuck-at-0 synapses of every layer, p = 0.0001, transient'
    """

    def __str__(self) -> str:
        return "transient"


@dataclass(frozen=True, kw_only=True)
class Intermittent:
    """A fault that comes and goes: a stationary two-state Markov chain over the presentations.

    Parameters
    ----------
    mean_duration : float
        Mean length of a burst in presentations, at least 1. With the probability p of the
        process it fixes P(repair) = 1/m and P(onset) = p / (m (1 - p)) for one step.

    Raises
    ------
    InputError
        If mean_duration is below 1 or not finite.

    Examples
    --------
    >>> Intermittent(mean_duration=5).mean_duration
    5
    """

    mean_duration: float

    def __post_init__(self) -> None:
        if not (is_number(self.mean_duration) and 1 <= self.mean_duration < np.inf):
            raise InputError(
                "mean_duration: expected at least 1 presentation and finite, "
                f"got {self.mean_duration!r}"
            )

    def __str__(self) -> str:
        return f"intermittent, mean duration {self.mean_duration:g} presentations or ticks"


Persistence: TypeAlias = Permanent | Transient | Intermittent


def persistence_of(kind: str, mean_duration: float | None) -> Persistence:
    """The persistence that a file names: permanent, transient, or intermittent with its duration.

    Raises
    ------
    InputError
        If the kind is unknown, or a mean duration is missing or out of place.
    """
    if kind not in ("permanent", "transient", "intermittent"):
        raise InputError(
            f"persistence: expected permanent, transient or intermittent, got {kind!r}"
        )
    if kind == "intermittent":
        if mean_duration is None:
            raise InputError("mean_duration: expected one for an intermittent fault, got none")
        return Intermittent(mean_duration=mean_duration)
    if mean_duration is not None:
        raise InputError(
            f"mean_duration: expected one for intermittent faults only, got one for a {kind} fault"
        )
    return Permanent() if kind == "permanent" else Transient()
