"""Trials in which something is stuck at a value: differences layer by layer, without shortcuts."""

from functools import cached_property
from itertools import pairwise

import numpy as np

from neurosim.backends.prepared import PreparedNetwork
from neurosim.faults import FaultSet
from neurosim.kernels.activations import change_rows_at
from neurosim.layers import Array

__all__ = ["StuckValues"]


class StuckValues:
    """Errors of single trials of any faults, values among them.

    Parameters
    ----------
    prepared : PreparedNetwork
    inputs : ndarray, (n_inputs, n_0)
    """

    def __init__(self, prepared: PreparedNetwork, inputs: Array) -> None:
        self._prepared, self._inputs = prepared, inputs

    @cached_property
    def _golden(self) -> list[Array]:
        """y_0, ..., y_L in float64: what a value differs from them may be small."""
        y0 = self._inputs.astype(np.float64, copy=False)
        return self._prepared.network.activations(y0)

    def errors_of_all_layers(self, fault_set: FaultSet) -> list[Array]:
        """Errors of layers 1..L, each (n_inputs, n_l), before read-out.

        Presentations between which nothing sets in or ends are computed together.
        """
        prepared = self._prepared
        events = (
            fault_set.neurons,
            fault_set.synapses,
            fault_set.neuron_values,
            fault_set.synapse_weights,
        )
        times = [rows[name] for rows in events for name in ("start", "stop")]
        ends = np.unique(np.concatenate([[0, prepared.n_inputs], *times]))
        widths = prepared.network.widths[1:]
        result = [np.zeros((prepared.n_inputs, n), prepared.dtype) for n in widths]
        for first, stop in pairwise(ends.tolist()):
            now = [rows[(rows["start"] <= first) & (first < rows["stop"])] for rows in events]
            if any(map(len, now)):
                for whole, part in zip(result, self._changes(slice(first, stop), now), strict=True):
                    whole[first:stop] = part
        return result

    def _changes(self, rows: slice, events: list[Array]) -> list[Array]:
        """Changes of y_1, ..., y_L of some inputs, each (n, n_l), under the events of all of them.

        dz = W dy + (w - W)(y + dy) for synapses set to w; dy = v - y for neurons set to v. Zeros
        come last and win.
        """
        prepared = self._prepared
        dead_neurons, dead_synapses, neurons, synapses = events
        found: list[Array] = []
        dy = np.zeros_like(prepared.outputs[0][rows])
        self._set(dy, rows, 0, neurons, dead_neurons)
        numbers = np.arange(rows.start, rows.stop)
        for number in range(1, prepared.network.depth + 1):
            # In float64: a weight that is set to what it is changes nothing.
            weight = prepared.network.layers[number - 1].weight
            dz = dy @ prepared.weights_t[number - 1]
            change = np.zeros(weight.shape, prepared.dtype)
            held = synapses[synapses["layer"] == number]
            dead = dead_synapses[dead_synapses["layer"] == number]
            change[held["out"], held["in"]] = held["weight"] - weight[held["out"], held["in"]]
            change[dead["out"], dead["in"]] = -weight[dead["out"], dead["in"]]
            outs = np.flatnonzero(change.any(axis=1))
            if len(outs):
                dz[:, outs] += (prepared.outputs[number - 1][rows] + dy) @ change[outs].T
            kind, parameter, first, second = prepared.activations[number - 1]
            dy = np.array(dz, order="C")
            change_rows_at(kind, parameter, numbers, first, second, dy, 0, 0, dy.shape[1])
            self._set(dy, rows, number, neurons, dead_neurons)
            found.append(dy)
        return found

    def _set(self, dy: Array, rows: slice, number: int, stuck: Array, dead: Array) -> None:
        golden = self._golden[number][rows]
        held = stuck[stuck["layer"] == number]
        dy[:, held["unit"]] = held["value"] - golden[:, held["unit"]]
        units = dead["unit"][dead["layer"] == number]
        dy[:, units] = -golden[:, units]
