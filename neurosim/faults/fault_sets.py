"""What failed in one trial."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosim.errors import InputError
from neurosim.layers import Array

__all__ = [
    "FAULT_EVENTS",
    "NEURON_EVENT",
    "NEURON_VALUE_EVENT",
    "SYNAPSE_EVENT",
    "SYNAPSE_WEIGHT_EVENT",
    "FaultSet",
    "place_of",
]

NEURON_EVENT = np.dtype([("layer", "i4"), ("unit", "i8"), ("start", "i8"), ("stop", "i8")])
SYNAPSE_EVENT = np.dtype(
    [("layer", "i4"), ("out", "i8"), ("in", "i8"), ("start", "i8"), ("stop", "i8")]
)
NEURON_VALUE_EVENT = np.dtype([*NEURON_EVENT.descr, ("value", "f8")])
SYNAPSE_WEIGHT_EVENT = np.dtype([*SYNAPSE_EVENT.descr, ("weight", "f8")])
# The fields of a FaultSet and the form of their rows.
FAULT_EVENTS = {
    "neurons": NEURON_EVENT,
    "synapses": SYNAPSE_EVENT,
    "neuron_values": NEURON_VALUE_EVENT,
    "synapse_weights": SYNAPSE_WEIGHT_EVENT,
}


def _event_array(name: str, events: Iterable[Any], dtype: np.dtype[np.void]) -> Array:
    fields = dtype.names or ()
    try:
        rows = (
            events
            if isinstance(events, np.ndarray) and events.dtype == dtype
            else np.array([tuple(row) for row in events], dtype=dtype)
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected rows of ({', '.join(fields)}), got {error}") from error
    rows = np.unique(rows)
    rows.setflags(write=False)
    return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class FaultSet:
    """What failed in one trial.

    Parameters
    ----------
    n_presentations : int
        Presentations in the trial; windows are half-open ranges [start, stop) of them.
    neurons : structured array or rows of (layer, unit, start, stop)
        Dead neurons. Sorted, without repetition.
    synapses : structured array or rows of (layer, out, in, start, stop)
        Dead synapses W_layer[out, in]. Sorted, without repetition.
    neuron_values : structured array or rows of (layer, unit, start, stop, value)
        Neurons whose output is stuck at a value; while one is dead too, it is 0.
    synapse_weights : structured array or rows of (layer, out, in, start, stop, weight)
        Synapses whose weight is stuck at a value; while one is dead too, it is 0.

    Raises
    ------
    InputError
        If a window is empty or outside the trial, a number is negative, a value is not finite, or
        one neuron or synapse has two values at a time.

    Examples
    --------
    >>> FaultSet(n_presentations=2, neurons=[(1, 5, 0, 2)]).neurons["unit"]
    array([5])
    """

    n_presentations: int
    neurons: Array = ()  # type: ignore[assignment]
    synapses: Array = ()  # type: ignore[assignment]
    neuron_values: Array = ()  # type: ignore[assignment]
    synapse_weights: Array = ()  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name, dtype in FAULT_EVENTS.items():
            rows = _event_array(name, getattr(self, name), dtype)
            object.__setattr__(self, name, rows)
            for row in rows:
                if not 0 <= row["start"] < row["stop"] <= self.n_presentations:
                    raise InputError(
                        f"{name}: expected windows 0 <= start < stop <= {self.n_presentations} "
                        f"presentations, got [{row['start']}, {row['stop']})"
                    )
            place = place_of(dtype)
            if len(rows) and min(int(rows[f].min()) for f in place) < 0:
                raise InputError(f"{name}: expected numbers from 0 on, got a negative one")
            if name in ("neuron_values", "synapse_weights"):
                _check_values(name, rows, place)

    def masks(self, presentation: int) -> tuple[Array, Array]:
        """Neurons and synapses dead at one presentation.

        Returns
        -------
        neurons : ndarray of int, shape (n, 2), columns (layer, unit)
        synapses : ndarray of int, shape (n, 3), columns (layer, out, in)

        Examples
        --------
        >>> FaultSet(n_presentations=2, neurons=[(1, 5, 1, 2)]).masks(0)[0].shape
        (0, 2)
        """
        if not 0 <= presentation < self.n_presentations:
            raise InputError(
                f"presentation: expected 0 to {self.n_presentations - 1}, got {presentation}"
            )
        found = []
        for rows in (self.neurons, self.synapses):
            now = rows[(rows["start"] <= presentation) & (presentation < rows["stop"])]
            columns = [now[name] for name in place_of(now.dtype)]
            found.append(np.unique(np.stack(columns, axis=1), axis=0))
        return found[0], found[1]

    def values(self, presentation: int) -> tuple[Array, Array]:
        """Neurons and synapses stuck at a value at one presentation, dead ones among them.

        Returns
        -------
        neurons : structured array of (layer, unit, start, stop, value)
        synapses : structured array of (layer, out, in, start, stop, weight)

        Examples
        --------
        >>> fault_set = FaultSet(n_presentations=2, neuron_values=[(1, 5, 0, 2, 1.0)])
        >>> fault_set.values(0)[0]["value"]
        array([1.])
        """
        if not 0 <= presentation < self.n_presentations:
            raise InputError(
                f"presentation: expected 0 to {self.n_presentations - 1}, got {presentation}"
            )
        found = [
            rows[(rows["start"] <= presentation) & (presentation < rows["stop"])]
            for rows in (self.neuron_values, self.synapse_weights)
        ]
        return found[0], found[1]

    def __len__(self) -> int:
        return sum(len(getattr(self, name)) for name in FAULT_EVENTS)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FaultSet):
            return NotImplemented
        return self.n_presentations == other.n_presentations and all(
            np.array_equal(getattr(self, n), getattr(other, n)) for n in FAULT_EVENTS
        )

    def __hash__(self) -> int:
        return hash((self.n_presentations, *(getattr(self, n).tobytes() for n in FAULT_EVENTS)))

    def __str__(self) -> str:
        neurons = len(self.neurons) + len(self.neuron_values)
        synapses = len(self.synapses) + len(self.synapse_weights)
        return (
            f"{neurons} neuron and {synapses} synapse fault events in "
            f"{self.n_presentations} presentations"
        )


def place_of(dtype: np.dtype[Any]) -> tuple[str, ...]:
    """Names of the columns that say where an event is."""
    return tuple(n for n in dtype.names or () if n not in ("start", "stop", "value", "weight"))


def _check_values(name: str, rows: Array, place: tuple[str, ...]) -> None:
    """Refuse values that are not finite, and two of them for one thing at a time."""
    column = (rows.dtype.names or ())[-1]
    if not np.isfinite(rows[column]).all():
        raise InputError(f"{name}: expected finite values, got NaN or infinity")
    rows = np.sort(rows, order=[*place, "start"])
    same = np.ones(max(0, len(rows) - 1), bool)
    for field_name in place:
        same &= rows[field_name][1:] == rows[field_name][:-1]
    if (same & (rows["start"][1:] < rows["stop"][:-1])).any():
        raise InputError(f"{name}: expected one value at a time, got windows that overlap")
