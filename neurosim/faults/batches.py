"""The fault sets of many trials as flat arrays, in the form that engines read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from neurosim.errors import InputError
from neurosim.faults.fault_sets import FAULT_EVENTS, FaultSet, place_of
from neurosim.faults.sites import Sites
from neurosim.kernels.draws import merge_windows
from neurosim.layers import Array

__all__ = ["Events", "FaultBatch", "ValuedEvents"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Events:
    """Fault events of one kind of site over several trials, as flat arrays.

    The events of trial k of the batch are ``offsets[k]:offsets[k + 1]``, sorted by site and start;
    windows of one site do not overlap.

    Parameters
    ----------
    offsets : ndarray of int64, shape (n_trials + 1,)
    site : ndarray of int64, shape (n_events,)
        Site numbers (`Sites`).
    start, stop : ndarray of int32, shape (n_events,)
        Windows of presentations.
    """

    offsets: Array
    site: Array
    start: Array
    stop: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class ValuedEvents(Events):
    """Events that set something to a value.

    Parameters
    ----------
    value : ndarray of float64, shape (n_events,)
        Of the output of a neuron, or the weight of a synapse.
    """

    value: Array


def _valued(site: Array, rows: Array, column: str) -> ValuedEvents:
    """Valued events of one trial."""
    order = np.lexsort((rows["start"], site))
    return ValuedEvents(
        offsets=np.array([0, len(rows)]),
        site=site[order],
        start=rows["start"][order].astype(np.int32),
        stop=rows["stop"][order].astype(np.int32),
        value=rows[column][order].astype(np.float64),
    )


def _events(site: Array, rows: Array) -> Events:
    """Events of one trial; overlapping windows of a site, as users may give them, are united."""
    offsets, site, start, stop = merge_windows(
        1,
        np.zeros(len(rows), np.int64),
        site,
        rows["start"].astype(np.int32),
        rows["stop"].astype(np.int32),
    )
    return Events(offsets=offsets, site=site, start=start, stop=stop)


@dataclass(frozen=True, kw_only=True, eq=False)
class FaultBatch:
    """The fault sets of consecutive trials in the form that engines read.

    Parameters
    ----------
    sites : Sites
    n_presentations : int
    neurons, synapses : Events
    counts : ndarray of int64, shape (n_trials, n_processes)
        Faults each process drew: sites (permanent) or pairs of site and presentation (else),
        before overlaps of processes are merged.
    neuron_values, synapse_weights : ValuedEvents, optional
        What is stuck at a value; None where nothing is. Where it is dead too, it is 0.
    """

    sites: Sites
    n_presentations: int
    neurons: Events
    synapses: Events
    counts: Array
    neuron_values: ValuedEvents | None = None
    synapse_weights: ValuedEvents | None = None

    @property
    def valued(self) -> Array:
        """Trials in which something is stuck at a value, ascending."""
        found = np.zeros(len(self), bool)
        for events in (self.neuron_values, self.synapse_weights):
            if events is not None:
                found |= np.diff(events.offsets) > 0
        return np.flatnonzero(found)

    @staticmethod
    def of(fault_set: FaultSet, sites: Sites) -> "FaultBatch":
        """One fault set as a batch, checked against the network.

        Raises
        ------
        InputError
            If the fault set names a neuron or synapse that the network does not have.
        """
        widths = np.array(sites.widths)
        neurons, synapses = fault_set.neurons, fault_set.synapses
        depth = len(widths) - 1
        set_neurons, set_synapses = fault_set.neuron_values, fault_set.synapse_weights
        for name, rows, first in (
            ("neurons", neurons, 0),
            ("synapses", synapses, 1),
            ("neuron_values", set_neurons, 0),
            ("synapse_weights", set_synapses, 1),
        ):
            for row in rows[(rows["layer"] < first) | (rows["layer"] > depth)]:
                raise InputError(
                    f"{name}: expected layers from {first} to {depth}, got {row['layer']}"
                )
        every = np.array(sites.weight_shapes, np.int64).reshape(-1, 2)
        shapes, held = every[synapses["layer"] - 1], every[set_synapses["layer"] - 1]
        limits = [
            ("neurons", neurons, "unit", widths[neurons["layer"]]),
            ("synapses", synapses, "out", shapes[:, 0]),
            ("synapses", synapses, "in", shapes[:, 1]),
            ("neuron_values", set_neurons, "unit", widths[set_neurons["layer"]]),
            ("synapse_weights", set_synapses, "out", held[:, 0]),
            ("synapse_weights", set_synapses, "in", held[:, 1]),
        ]
        for name, rows, column, limit in limits:
            for row, n in zip(
                rows[rows[column] >= limit], limit[rows[column] >= limit], strict=True
            ):
                raise InputError(
                    f"{name}: expected {column} from 0 to {n - 1} in layer {row['layer']}, "
                    f"got {row[column]}"
                )
        return FaultBatch(
            sites=sites,
            n_presentations=fault_set.n_presentations,
            neurons=_events(sites.neuron_numbers(neurons["layer"], neurons["unit"]), neurons),
            synapses=_events(
                sites.synapse_numbers(synapses["layer"], synapses["out"], synapses["in"]), synapses
            ),
            counts=np.empty((1, 0), np.int64),
            neuron_values=_valued(
                sites.neuron_numbers(set_neurons["layer"], set_neurons["unit"]),
                set_neurons,
                "value",
            ),
            synapse_weights=_valued(
                sites.synapse_numbers(
                    set_synapses["layer"], set_synapses["out"], set_synapses["in"]
                ),
                set_synapses,
                "weight",
            ),
        )

    @staticmethod
    def without_faults(widths: Sequence[int], n_presentations: int) -> "FaultBatch":
        """One trial in which nothing fails."""
        nothing = FaultSet(n_presentations=n_presentations)
        return FaultBatch.of(nothing, Sites(tuple(widths)))

    def __len__(self) -> int:
        return len(self.neurons.offsets) - 1

    def __getitem__(self, k: int) -> FaultSet:
        if not 0 <= k < len(self):
            raise IndexError(k)
        found = {}
        for name, dtype in FAULT_EVENTS.items():
            events = getattr(self, name)
            if events is None:
                continue
            a, b = events.offsets[k : k + 2]
            rows = np.empty(b - a, dtype)
            locate = self.sites.neurons if "neuron" in name else self.sites.synapses
            for column, numbers in zip(place_of(dtype), locate(events.site[a:b]), strict=True):
                rows[column] = numbers
            rows["start"], rows["stop"] = events.start[a:b], events.stop[a:b]
            if isinstance(events, ValuedEvents):
                rows[(dtype.names or ())[-1]] = events.value[a:b]
            found[name] = rows
        return FaultSet(n_presentations=self.n_presentations, **found)

    def __iter__(self) -> Iterator[FaultSet]:
        return (self[k] for k in range(len(self)))
