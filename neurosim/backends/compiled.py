"""The fast backend: Numba kernels that propagate differences, BLAS for the dense middle layers.

It starts at the first faulty layer of each pair of trial and input, does nothing where nothing
failed, and never forms faulty outputs: small errors keep their relative accuracy. docs/engine.md
explains the algorithm.
"""

import numpy as np

from neurosim.backends.neuron_faults import NeuronFaults, Part
from neurosim.backends.prepared import PreparedNetwork
from neurosim.backends.stuck_values import StuckValues
from neurosim.backends.synapse_faults import SynapseFaults
from neurosim.faults import Events, FaultBatch
from neurosim.kernels.changes import distinct_trials, take_events
from neurosim.layers import Array, softmax_change
from neurosim.network import Network
from neurosim.statistics import Changes, changed_rows

__all__ = ["CompiledBackend"]


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
        self._prepared = PreparedNetwork(network, inputs, dtype)
        self.golden = self._prepared.golden
        self._neurons = NeuronFaults(self._prepared)
        self._synapses = SynapseFaults(self._prepared)
        self._values = StuckValues(self._prepared, inputs)

    def errors(self, batch: FaultBatch) -> Array:
        """Faulty minus golden outputs, (n_trials, n_inputs, n_outputs), in the backend's dtype."""
        neurons, synapses = batch.neurons, batch.synapses
        others = len(batch.valued) or len(neurons.site)
        if others or self._prepared.network.readout == "softmax":
            return self.changes(batch).dense()
        # Dead synapses change nearly every pair: to list the changed ones would be a detour.
        some = np.flatnonzero(np.diff(synapses.offsets))
        found = self._synapses.errors(_taken(neurons, some), _taken(synapses, some))
        if len(some) == len(batch):
            return found
        errors = np.zeros((len(batch), *self.golden.shape), self.golden.dtype)
        errors[some] = found
        return errors

    def changes(self, batch: FaultBatch) -> Changes:
        """The errors without their zeros, each distinct fault set computed once."""
        if len(batch.valued):
            return Changes.of(self.errors_and_hidden(batch)[0])
        n_inputs, n_outputs = self.golden.shape
        neurons, synapses = batch.neurons, batch.synapses
        chosen, sets, n_neuron_sets, alone = distinct_trials(
            neurons.offsets,
            neurons.site,
            neurons.stop - neurons.start == n_inputs,
            synapses.offsets,
            sum(self._prepared.network.widths),
        )
        parts = [self._neurons.changes(_taken(neurons, chosen[:n_neuron_sets]))]
        rest = chosen[n_neuron_sets:]
        if len(rest):
            errors = self._synapses.errors(_taken(neurons, rest), _taken(synapses, rest))
            parts.append(Part(*changed_rows(errors)))
        if self._prepared.network.readout == "softmax":
            for part in parts:
                part.values[:] = softmax_change(self._prepared.logits, part.inputs, part.values)
        alone = alone if self._neurons.single_is_fixed else np.empty(0, np.int64)
        nothing = np.empty((0, n_outputs), self.golden.dtype)
        if len(parts) == 1:
            return Changes(
                n_inputs=n_inputs,
                sets=sets,
                alone=alone,
                offsets=parts[0].offsets,
                inputs=parts[0].inputs,
                values=parts[0].values,
            )
        starts = np.cumsum([0, *(len(part.inputs) for part in parts)])
        return Changes(
            n_inputs=n_inputs,
            sets=sets,
            alone=alone,
            offsets=np.concatenate(
                [[0], *(p.offsets[1:] + n for p, n in zip(parts, starts[:-1], strict=True))]
            ),
            inputs=np.concatenate([np.empty(0, np.int32), *(part.inputs for part in parts)]),
            values=np.concatenate([nothing, *(part.values for part in parts)]),
        )

    def errors_and_hidden(self, batch: FaultBatch) -> tuple[Array, list[Array]]:
        """Errors, and the errors of layers 1..L-1, each (n_trials, n_inputs, n_l)."""
        *hidden, errors = self._synapses.errors_of_all_layers(batch.neurons, batch.synapses)
        for trial in batch.valued:
            layers = self._values.errors_of_all_layers(batch[int(trial)])
            for whole, one in zip((*hidden, errors), layers, strict=True):
                whole[trial] = one
        if self._prepared.network.readout == "softmax":
            offsets, inputs, values = changed_rows(errors)
            values = softmax_change(self._prepared.logits, inputs, values)
            trials = np.repeat(np.arange(len(errors)), np.diff(offsets))
            errors[trials, inputs] = values
        return errors, hidden


def _taken(events: Events, chosen: Array) -> Events:
    """Events of the chosen trials, in their order."""
    if len(chosen) == len(events.offsets) - 1:
        return events  # all of them: `distinct_trials` keeps the order
    offsets, site, start, stop = take_events(
        events.offsets, events.site, events.start, events.stop, chosen
    )
    return Events(offsets=offsets, site=site, start=start, stop=stop)
