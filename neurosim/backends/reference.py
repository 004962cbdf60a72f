"""The slow, obvious backend: one presentation at a time, faults forced in a plain forward pass."""

import numpy as np

from neurosim.faults import FaultBatch, FaultSet, Sites
from neurosim.layers import Array, Conv2D, Dense
from neurosim.network import Network
from neurosim.statistics import Changes

__all__ = ["ReferenceBackend"]


class ReferenceBackend:
    """Errors of fault batches by forcing zeros.

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
        matrices = tuple(layer.matrix_shape for layer in network.layers)
        sites = Sites(network.widths, matrices)
        self._golden_layers = [self._forward(x, nothing, sites) for x in range(len(inputs))]
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
        errors = np.zeros((*shape, self.golden.shape[1]), dtype)
        hidden = [np.zeros((*shape, n), dtype) for n in self._network.widths[1:-1]]
        for t, fault_set in enumerate(batch):
            for x in range(len(self._inputs)):
                *layers, outputs = self._forward(x, fault_set, batch.sites)
                errors[t, x] = self._network.read_out(outputs) - self.golden[x]
                for number, into in enumerate(hidden):
                    into[t, x] = layers[number] - self._golden_layers[x][number]
        return errors, hidden

    def _forward(self, x: int, fault_set: FaultSet, sites: Sites) -> list[Array]:
        """y_1, ..., y_L and the outputs for input x under the faults of its presentation."""
        neurons, synapses = fault_set.masks(x)
        graph = self._network.graph
        values: list[Array] = []
        outputs: list[Array] = []
        for number in range(len(graph.nodes) + 1):
            layer = graph.weighted.index(number) if number in graph.weighted else None
            if number == 0:
                y = graph.shaped(self._inputs[x][None])[0].copy()
            else:
                node = graph.nodes[number - 1]
                before = [values[k] for k in node.sources]
                if layer is None:
                    y = node.layer(*(value[None] for value in before))[0]
                else:
                    dead = synapses[synapses[:, 0] == layer]
                    n_out, n_in = sites.weight_shapes[layer - 1]
                    matrix = node.layer.weight.reshape(-1, n_in).astype(y.dtype)  # type: ignore[union-attr]
                    weight = np.tile(matrix, (n_out // len(matrix), 1))
                    weight[dead[:, 1], dead[:, 2]] = 0
                    y = node.layer.activation(_weighted_sum(node.layer, weight, before[0]))  # type: ignore[arg-type]
            if layer is not None:
                y.reshape(-1)[neurons[neurons[:, 0] == layer, 1]] = 0
                outputs.append(y.reshape(-1))
            values.append(y)
        return [*outputs[1:], values[-1].reshape(-1)]


def _weighted_sum(layer: Dense | Conv2D, weight: Array, y: Array) -> Array:
    """z_l of one example, with weights of its own for each copy of a kernel.

    weight: (copies x channels_out, kernel size), where position q of P of the map is computed by
    copy q copies // P.
    """
    bias = layer.bias.astype(y.dtype)
    if isinstance(layer, Dense):
        return np.asarray(weight @ y + bias)
    (top, bottom), (left, right) = layer.padding
    (sh, sw), (dh, dw) = layer.stride, layer.dilation
    n_out, n_in, kh, kw = layer.weight.shape
    _, rows, columns = layer.output_shape(y.shape)
    copies = weight.reshape(-1, n_out, n_in, kh, kw)
    y = np.pad(y, [(0, 0), (top, bottom), (left, right)])
    z = np.empty((n_out, rows, columns), y.dtype)
    for o in range(n_out):
        first = o // (n_out // layer.groups) * n_in
        for r in range(rows):
            for s in range(columns):
                seen = y[first : first + n_in, r * sh :: dh, s * sw :: dw][:, :kh, :kw]
                copy = (r * columns + s) * len(copies) // (rows * columns)
                z[o, r, s] = (copies[copy, o] * seen).sum() + bias[o]
    return z
