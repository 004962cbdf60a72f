"""What Algorithm 1 is asked for, and how it may search."""

import math
from dataclasses import dataclass
from typing import Literal

from neurosim.errors import InputError

__all__ = ["Goal", "Search"]


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
        Neurons added to one layer where it is too narrow.
    smoothness_limit : float, optional
        C: where R3 of a failing layer is above, psi is raised. None asks for nothing.
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
