"""How long a fault lasts: permanent, transient, intermittent; and when it may begin."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np

from neurosim.errors import InputError

__all__ = [
    "Intermittent",
    "Permanent",
    "Persistence",
    "Transient",
    "is_number",
    "onset_window",
    "persistence_of",
]


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

    @property
    def in_seconds(self) -> bool:
        """Whether a time is given in seconds, for a campaign to turn into presentations."""
        return False

    def __str__(self) -> str:
        return "permanent"


@dataclass(frozen=True, kw_only=True, repr=False)
class _InTime:
    """Faults that come and go."""

    onset: Sequence[int] | None = None
    onset_s: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.onset is not None and self.onset_s is not None:
            raise InputError("onset: expected onset or onset_s, got both")
        for name in ("onset", "onset_s"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _window(name, getattr(self, name)))

    @property
    def in_seconds(self) -> bool:
        """Whether a time is given in seconds, for a campaign to turn into presentations."""
        return self.onset_s is not None

    def _onset_every(self, seconds: float) -> Sequence[int] | None:
        """The onset window in presentations that begin every so many seconds."""
        if self.onset_s is None:
            return self.onset
        # A presentation counts where it begins; products of decimal fractions are not exact.
        first, stop = (math.ceil(t / seconds * (1 - 1e-12)) for t in self.onset_s)
        if first == stop:
            raise InputError(
                f"onset_s: expected a window in which a presentation begins, one every "
                f"{seconds:g} s, got {self.onset_s[0]:g} to {self.onset_s[1]:g} s"
            )
        return (first, stop)

    def __repr__(self) -> str:
        pairs = ((entry.name, getattr(self, entry.name)) for entry in fields(self))
        given = ", ".join(f"{name}={value!r}" for name, value in pairs if value is not None)
        return f"{type(self).__name__}({given})"

    @property
    def _onset_text(self) -> str:
        if self.onset is not None:
            return f", beginning in presentations or ticks {self.onset[0]} to {self.onset[1] - 1}"
        if self.onset_s is not None:
            return f", beginning from {self.onset_s[0]:g} to {self.onset_s[1]:g} s"
        return ""


def _window(name: str, value: object) -> tuple[int, int] | tuple[float, float]:
    pair = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else ()
    whole = name == "onset"
    kinds = int | np.integer if whole else int | float | np.integer | np.floating
    if not (
        len(pair) == 2
        and all(isinstance(n, kinds) and is_number(n) for n in pair)
        and 0 <= pair[0] < pair[1] < np.inf
    ):
        unit = "whole numbers of presentations" if whole else "seconds"
        raise InputError(f"{name}: expected {unit}, first < stop from 0 on, got {value!r}")
    return (int(pair[0]), int(pair[1])) if whole else (float(pair[0]), float(pair[1]))


@dataclass(frozen=True, kw_only=True, repr=False)
class Transient(_InTime):
    """A fault drawn anew, independently, at each presentation.

    Parameters
    ----------
    onset : (int, int), optional
        First and stop of the presentations (or ticks) in which faults occur, a half-open window;
        by default all.
    onset_s : (float, float), optional
        The same in seconds since the beginning of a trial: presentations that begin there.

    Raises
    ------
    InputError
        If a window is empty, negative, or given twice.

    Examples
    --------
    >>> from neurosim.faults import StuckAtZero
    >>> str(StuckAtZero("synapse", probability=1e-4, persistence=Transient()))
    'stuck-at-0 synapses of every layer, p = 0.0001, transient'
    >>> str(Transient(onset=(10, 20)))
    'transient, beginning in presentations or ticks 10 to 19'
    """

    def every(self, seconds: float) -> "Transient":
        """The same, its times turned into presentations that take so many seconds."""
        return Transient(onset=self._onset_every(seconds))

    def __str__(self) -> str:
        return f"transient{self._onset_text}"


@dataclass(frozen=True, kw_only=True, repr=False)
class Intermittent(_InTime):
    """A fault that comes and goes: a two-state Markov chain over the presentations.

    It is stationary, so that a burst may have begun before the first presentation; with an onset
    window nothing is faulty before it, bursts begin in it only and may outlast it.

    Parameters
    ----------
    mean_duration : float
        Mean length of a burst in presentations (or ticks), at least 1. With the probability p of
        the process it fixes P(repair) = 1/m and P(onset) = p / (m (1 - p)) for one step.
    mean_duration_s : float
        The same in seconds, in its place: a campaign knows how long a presentation takes.
    onset, onset_s
        As in `Transient`: where bursts begin.

    Raises
    ------
    InputError
        If a duration is below 1 presentation or not finite, or none or both are given, or a window
        is empty.

    Examples
    --------
    >>> Intermittent(mean_duration=5).mean_duration
    5
    >>> Intermittent(mean_duration_s=0.5, onset=(0, 10))
    Intermittent(onset=(0, 10), mean_duration_s=0.5)
    """

    mean_duration: float | None = None
    mean_duration_s: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        m, seconds = self.mean_duration, self.mean_duration_s
        if m is not None and seconds is not None:
            raise InputError("mean_duration: expected mean_duration or mean_duration_s, got both")
        if m is None and seconds is None:
            raise InputError(
                "mean_duration: expected mean_duration or mean_duration_s, got neither"
            )
        if seconds is not None:
            if not (is_number(seconds) and 0 < seconds < np.inf):
                raise InputError(
                    f"mean_duration_s: expected finite seconds above 0, got {seconds!r}"
                )
        elif not (is_number(m) and 1 <= m < np.inf):  # type: ignore[operator]
            raise InputError(
                f"mean_duration: expected at least 1 presentation and finite, got {m!r}"
            )

    @property
    def in_seconds(self) -> bool:
        """Whether a time is given in seconds, for a campaign to turn into presentations."""
        return self.mean_duration_s is not None or super().in_seconds

    @property
    def presentations(self) -> float:
        """Mean length of a burst in presentations.

        Raises
        ------
        InputError
            If it is given in seconds.
        """
        if self.mean_duration is None:
            raise InputError(
                f"mean_duration_s: expected a campaign, which knows how long a presentation takes, "
                f"for {self.mean_duration_s!r} s; or give mean_duration in presentations"
            )
        return self.mean_duration

    def every(self, seconds: float) -> "Intermittent":
        """The same, its times turned into presentations that take so many seconds.

        Raises
        ------
        InputError
            If a mean duration is shorter than a presentation.
        """
        m = self.mean_duration
        if self.mean_duration_s is not None:
            m = self.mean_duration_s / seconds
            if m < 1:
                raise InputError(
                    f"mean_duration_s: expected at least {seconds:g} s, the time that one "
                    f"presentation takes (or one tick), got {self.mean_duration_s:g} s; such a "
                    "fault is transient"
                )
        return Intermittent(mean_duration=m, onset=self._onset_every(seconds))

    def __str__(self) -> str:
        duration = (
            f"{self.mean_duration_s:g} s"
            if self.mean_duration is None
            else f"{self.mean_duration:g} presentations or ticks"
        )
        return f"intermittent, mean duration {duration}{self._onset_text}"


Persistence: TypeAlias = Permanent | Transient | Intermittent


def onset_window(persistence: Persistence) -> tuple[int, int] | None:
    """The presentations in which faults may begin; None where they may at any time."""
    if isinstance(persistence, Permanent) or persistence.onset is None:
        return None
    first, stop = persistence.onset
    return first, stop


def persistence_of(
    kind: str,
    mean_duration: float | None = None,
    *,
    mean_duration_s: float | None = None,
    onset: Sequence[int] | None = None,
    onset_s: Sequence[float] | None = None,
) -> Persistence:
    """The persistence that a file names: permanent, transient, or intermittent with its duration.

    Raises
    ------
    InputError
        If the kind is unknown, or a duration or a window is missing or out of place.
    """
    if kind not in ("permanent", "transient", "intermittent"):
        raise InputError(
            f"persistence: expected permanent, transient or intermittent, got {kind!r}"
        )
    durations: dict[str, float | None]
    windows: dict[str, Sequence[float] | None]
    durations = {"mean_duration": mean_duration, "mean_duration_s": mean_duration_s}
    windows = {"onset": onset, "onset_s": onset_s}
    if kind == "intermittent":
        if mean_duration is None and mean_duration_s is None:
            raise InputError(
                "mean_duration: expected one, or mean_duration_s, for an intermittent fault, got "
                "none"
            )
        return Intermittent(**durations, **windows)  # type: ignore[arg-type]
    for name, value in durations.items():
        if value is not None:
            raise InputError(
                f"{name}: expected one for intermittent faults only, got one for a {kind} fault"
            )
    if kind == "transient":
        return Transient(**windows)  # type: ignore[arg-type]
    for name, window in windows.items():
        if window is not None:
            raise InputError(
                f"{name}: expected one for transient and intermittent faults only, got one for a "
                "permanent fault"
            )
    return Permanent()
