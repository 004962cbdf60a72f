"""The fast backend: Numba kernels that propagate differences, BLAS for the dense middle layers.

It starts at the first faulty layer of each pair of trial and input, does nothing where nothing
failed, and never forms faulty outputs: small errors keep their relative accuracy. docs/engine.md
explains the algorithm.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from neurosim.errors import InputError
from neurosim.faults import Events, FaultBatch
from neurosim.kernels import activations as codes
from neurosim.kernels.lost_synapses import finish_trials
from neurosim.kernels.propagation import advance, dead_inputs, layer_events, plan
from neurosim.layers import Activation, Array
from neurosim.network import Network

__all__ = ["CompiledBackend"]

_CODES = {
    "identity": codes.IDENTITY,
    "relu": codes.RELU,
    "leaky_relu": codes.LEAKY_RELU,
    "sigmoid": codes.SIGMOID,
    "tanh": codes.TANH,
    "softplus": codes.SOFTPLUS,
}

# Events of one layer, as kernels.propagation describes them.
_LayerEvents: TypeAlias = tuple[Array, Array, Array, Array]

# Values of one layer that the pairs of a block may need: they should stay in the cache.
_BLOCK_VALUES = 2**21


class CompiledBackend:
    """Errors of fault batches for one network and its inputs.

    Parameters
    ----------
    network : Network
    inputs : ndarray, (n_inputs, n_0)
    dtype : "float32" or "float64"
        Of weights, golden activations and differences. Golden values are made in float64.
    """

    def __init__(self, network: Network, inputs: Array, dtype: str) -> None:
        self._network, self._dtype = network, np.dtype(dtype)
        y0 = inputs.astype(np.float64, copy=False)
        preactivations = network.preactivations(y0)
        outputs = [y0] + [
            layer.activation(z) for layer, z in zip(network.layers, preactivations, strict=True)
        ]
        weights = [layer.weight for layer in network.layers]
        largest = max(
            float(np.abs(values).max()) for values in (*outputs, *preactivations, *weights)
        )
        if not largest <= float(np.finfo(self._dtype).max):
            raise InputError(
                f"inputs: expected golden values in the range of {self._dtype}, got {largest:g}; "
                + ('use dtype "float64"' if self._dtype.itemsize == 4 else "scale the inputs")
            )
        self._logits = outputs[-1]
        self.golden = network.read_out(outputs[-1]).astype(self._dtype)
        # Copies: the inputs are read-only, which kernels take for another type of array.
        self._outputs = [np.array(y, self._dtype, order="C") for y in outputs]
        self._weights = [layer.weight.astype(self._dtype) for layer in network.layers]
        self._weights_t = [np.ascontiguousarray(w.T) for w in self._weights]
        prepared = [
            _prepare(layer.activation, z, self._dtype)
            for layer, z in zip(network.layers, preactivations, strict=True)
        ]
        self._kinds = [kind for kind, _ in prepared]
        self._caches = [
            tuple(np.ascontiguousarray(c, self._dtype) for c in caches) for _, caches in prepared
        ]
        # Feature-major copies, for faults that all inputs of a trial share.
        self._outputs_t = [np.ascontiguousarray(y.T) for y in self._outputs]
        self._caches_t = [
            tuple(np.ascontiguousarray(c.T) for c in caches) for caches in self._caches
        ]
        # Blocks depend on the network and the inputs alone: the shapes that BLAS sees, and with
        # them the last bits of results, are the same whoever computes a trial.
        self._block = max(1, _BLOCK_VALUES // (len(y0) * max(network.widths)))

    def errors(self, batch: FaultBatch) -> Array:
        """Faulty minus golden outputs, (n_trials, n_inputs, n_outputs), in the backend's dtype."""
        return self._run(batch, hidden=False)[-1]

    def errors_and_hidden(self, batch: FaultBatch) -> tuple[Array, list[Array]]:
        """Errors, and the errors of layers 1..L-1, each (n_trials, n_inputs, n_l)."""
        *hidden, errors = self._run(batch, hidden=True)
        return errors, hidden

    def _run(self, batch: FaultBatch, hidden: bool) -> list[Array]:
        widths, depth = self._network.widths, self._network.depth
        wanted = range(1, depth + 1) if hidden else range(depth, depth + 1)
        n_inputs = len(self.golden)
        results = [np.zeros((len(batch), n_inputs, widths[n]), self._dtype) for n in wanted]
        for first in range(0, len(batch), self._block):
            stop = min(first + self._block, len(batch))
            self._run_block(batch, first, stop, [r[first:stop] for r in results], wanted)
        return results

    def _run_block(
        self, batch: FaultBatch, first: int, stop: int, results: list[Array], wanted: range
    ) -> None:
        n_trials, n_inputs = stop - first, len(self.golden)
        network, depth = self._network, self._network.depth
        neurons = _select(batch.neurons, batch.sites.neuron_offsets, first, stop, n_inputs)
        synapses = _select(batch.synapses, batch.sites.synapse_offsets, first, stop, n_inputs)
        changes, rows = dead_inputs(n_trials, n_inputs, neurons(0), self._outputs[0])
        finished = np.zeros(n_trials, np.bool_)
        for number, layer in enumerate(network.layers, start=1):
            dead_synapses, dead_neurons = synapses(number), neurons(number)
            if number == depth - 1 and number not in wanted:
                finished = self._finish_trials(
                    changes[0],
                    (dead_synapses, dead_neurons),
                    (synapses(depth), neurons(depth)),
                    results[-1],
                )
            if not (
                len(changes[0])
                or any(
                    len(numbers)
                    for events in (dead_synapses, dead_neurons)
                    for numbers in (events[1], events[3])
                )
            ):
                continue
            weight_t = self._weights_t[number - 1]
            planned = plan(
                n_trials,
                n_inputs,
                layer.n_out,
                changes,
                dead_synapses,
                dead_neurons,
                finished,
                number == depth,
            )
            new_rows = np.empty((planned[3], layer.n_out), self._dtype)
            if len(rows):
                np.matmul(rows, weight_t, out=new_rows[: len(rows)])
            changes = advance(
                n_inputs,
                self._weights[number - 1],
                weight_t,
                self._kinds[number - 1],
                layer.activation.parameter,
                *self._caches[number - 1],
                self._outputs[number - 1],
                self._outputs_t[number - 1],
                self._outputs[number],
                changes,
                rows,
                dead_synapses,
                dead_neurons,
                planned,
                new_rows,
            )
            rows = new_rows
            if number in wanted:
                flat = results[number - wanted.start].reshape(n_trials * n_inputs, -1)
                pairs, dense, offsets, units, values = changes
                flat[pairs[dense >= 0]] = rows[dense[dense >= 0]]
                flat[np.repeat(pairs, np.diff(offsets)), units] = values
        if network.readout == "softmax":
            self._soften(results[-1])

    def _finish_trials(
        self,
        changed: Array,
        hidden: tuple[_LayerEvents, _LayerEvents],
        last: tuple[_LayerEvents, _LayerEvents],
        errors: Array,
    ) -> Array:
        """Finish the trials whose first change are lasting dead synapses of layer L - 1.

        All their inputs lose the same, which is faster done at once. hidden and last: events of
        synapses and of neurons of the two layers; returns which trials were finished.
        """
        depth = self._network.depth
        finished = np.diff(hidden[0][0]) > 0
        finished[changed // len(self.golden)] = False
        if any(len(events[3]) for events in (*hidden, *last)):
            finished[:] = False
        if finished.any():
            about = [
                (
                    *events,
                    self._weights[number - 1],
                    self._kinds[number - 1],
                    self._network.layers[number - 1].activation.parameter,
                    *self._caches_t[number - 1],
                    self._outputs_t[number],
                )
                for number, events in ((depth - 1, hidden), (depth, last))
            ]
            finish_trials(finished, self._outputs_t[depth - 2], about[0], about[1], errors)
        return finished

    def _soften(self, errors: Array) -> None:
        """Turn changes of logits into changes of softmax outputs, in place.

        p_k (e_k - T) / T with e = exp(dy - max dy) and T = sum p_j e_j; where T is near 1 the same
        by expm1, so that small changes keep their relative accuracy.
        """
        changed = errors.any(axis=2)
        p = np.broadcast_to(self._network.read_out(self._logits), errors.shape)[changed]
        dy = errors[changed].astype(np.float64)
        below = dy - dy.max(axis=1, keepdims=True)
        e, minus = np.exp(below), np.expm1(below)
        total = (p * e).sum(axis=1, keepdims=True)
        difference = np.where(
            total < 0.5, e - total, minus - (p * minus).sum(axis=1, keepdims=True)
        )
        # Where all golden mass sits on logits that fell out of range, T is 0: subtract outputs.
        lost = total[:, 0] < np.finfo(np.float64).tiny
        total[lost] = 1
        result = p * difference / total
        if lost.any():
            logits = np.broadcast_to(self._logits, errors.shape)[changed][lost]
            result[lost] = self._network.read_out(logits + dy[lost]) - p[lost]
        errors[changed] = result


def _select(
    events: Events, site_offsets: Array, first: int, stop: int, n_inputs: int
) -> Callable[[int], _LayerEvents]:
    """Events of the trials of a block, by layer, as `layer_events` returns them."""
    offsets = events.offsets[first : stop + 1]
    nothing = np.empty(0, np.int64)
    none = (np.zeros(stop - first + 1, np.int64), nothing, nothing, nothing)

    def of_layer(layer: int) -> _LayerEvents:
        if offsets[0] == offsets[-1]:
            return none
        return layer_events(
            offsets,
            events.site,
            events.start,
            events.stop,
            site_offsets[layer],
            site_offsets[layer + 1],
            n_inputs,
        )

    return of_layer


def _prepare(
    activation: Activation, z: Array, dtype: np.dtype[Any]
) -> tuple[int, tuple[Array, Array]]:
    """Kind and golden caches of a layer, for the kernels of `neurosim.kernels.activations`."""
    kind = activation.kind
    if kind in ("sigmoid", "tanh"):
        sigmoid = activation if kind == "sigmoid" else Activation("sigmoid", 2.0)
        # exp(-80) is still a normal number in single precision, exp(-700) in double.
        if np.abs(sigmoid.parameter * z).max() > (80 if dtype.itemsize == 4 else 700):
            return codes.WIDE_SIGMOID if kind == "sigmoid" else codes.WIDE_TANH, (z, z)
        return _CODES[kind], (sigmoid(z), sigmoid(-z))
    if kind == "softplus":
        return _CODES[kind], (z, z)
    return _CODES[kind], (np.maximum(z, 0), np.minimum(z, 0))
