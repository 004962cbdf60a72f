"""The slow, obvious backend: one presentation at a time, faults forced in a plain forward pass."""

import numpy as np

from neurosim.faults import FaultBatch, FaultSet
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.statistics import Changes

__all__ = ["ReferenceBackend"]


class ReferenceBackend:
    """Errors of fault batches by forcing zeros and values.

    Parameters
    ----------
    network : Network
    inputs : ndarray, (n_inputs, n_0)
    dtype : "float32" or "float64"
        What the forward passes compute in.
    """

    def __init__(self, network: Network, inputs: Array, dtype: str) -> None:
        self._network = network
        self._inputs = inputs.astype(dtype)
        nothing = FaultSet(n_presentations=len(inputs))
        self._golden_layers = [self._forward(x, nothing) for x in range(len(inputs))]
        self.golden = np.stack([network.read_out(layers[-1]) for layers in self._golden_layers])

    def errors(self, batch: FaultBatch) -> Array:
        """Faulty minus golden outputs, (n_trials, n_inputs, n_outputs), in the backend's dtype."""
        return self.errors_and_hidden(batch)[0]

    def changes(self, batch: FaultBatch) -> Changes:
        """The same without its zeros."""
        return Changes.of(self.errors(batch))

    def errors_and_hidden(self, batch: FaultBatch) -> tuple[Array, list[Array]]:
        """Errors, and the errors of layers 1..L-1, each (n_trials, n_inputs, n_l)."""
        shape, dtype = (len(batch), len(self._inputs)), self._inputs.dtype
        errors = np.zeros((*shape, self._network.widths[-1]), dtype)
        hidden = [np.zeros((*shape, n), dtype) for n in self._network.widths[1:-1]]
        for t, fault_set in enumerate(batch):
            for x in range(len(self._inputs)):
                layers = self._forward(x, fault_set)
                errors[t, x] = self._network.read_out(layers[-1]) - self.golden[x]
                for number, faulty in enumerate(layers[:-1]):
                    hidden[number][t, x] = faulty - self._golden_layers[x][number]
        return errors, hidden

    def _forward(self, x: int, fault_set: FaultSet) -> list[Array]:
        """y_1, ..., y_L of input x under the faults of its presentation."""
        neurons, synapses = fault_set.masks(x)
        y = self._inputs[x].copy()
        stuck, weights = fault_set.values(x)
        _set_outputs(y, 0, stuck, neurons)
        outputs = []
        for number, layer in enumerate(self._network.layers, start=1):
            weight = layer.weight.astype(y.dtype)
            held = weights[weights["layer"] == number]
            weight[held["out"], held["in"]] = held["weight"]
            dead = synapses[synapses[:, 0] == number]
            weight[dead[:, 1], dead[:, 2]] = 0
            y = layer.activation(weight @ y + layer.bias.astype(y.dtype))
            _set_outputs(y, number, stuck, neurons)
            outputs.append(y)
        return outputs


def _set_outputs(y: Array, number: int, stuck: Array, dead: Array) -> None:
    """Force the outputs of one layer: values first, then zeros, which win."""
    held = stuck[stuck["layer"] == number]
    y[held["unit"]] = held["value"]
    y[dead[dead[:, 0] == number, 1]] = 0
