"""What spiking backends have in common: from spike counts to errors, rates and rasters."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from neurosim.backends.spiking.lowering import Lowered
from neurosim.errors import InputError
from neurosim.faults import FaultBatch
from neurosim.layers import Array
from neurosim.statistics import Changes

__all__ = ["Activity", "Rasters", "Simulator", "SpikingBackend"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rasters:
    """Single spikes of several trials, flat.

    Parameters
    ----------
    offsets : ndarray of int64, (n_trials + 1,)
        The spikes of trial t are offsets[t]:offsets[t + 1], by presentation, layer, step and unit.
    presentation, step, layer, unit : ndarray of int32, (n_spikes,)
    sign : ndarray of int8, (n_spikes,)
        -1 for the negative spikes of neurons with signed activities.
    """

    offsets: Array
    presentation: Array
    step: Array
    layer: Array
    unit: Array
    sign: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Activity:
    """What a simulator counted, for several trials.

    Parameters
    ----------
    counts : ndarray of int32, (n_trials, n_inputs, n_neurons)
        Positive minus negative spikes of each neuron, layer after layer.
    totals : ndarray of int64, (n_trials, n_inputs, L + 1)
        Spikes of each layer.
    potentials : ndarray, (n_trials, n_inputs, n_L)
        What the neurons of the last layer have integrated at the end.
    alive_steps : ndarray of int64, (n_trials, n_inputs, n_L)
        Steps in which those neurons integrated; 0 where the read-out counts spikes.
    """

    counts: Array
    totals: Array
    potentials: Array
    alive_steps: Array


class Simulator(Protocol):
    """What runs a lowered network."""

    def run(self, batch: FaultBatch) -> Activity:
        """Run every trial on every input."""
        ...

    def rasters(self, batch: FaultBatch) -> Rasters:
        """Run every trial on every input and keep every spike."""
        ...


class SpikingBackend:
    """Errors of fault batches from spikes: golden and faulty outputs come from the same simulator.

    Parameters
    ----------
    lowered : Lowered
    simulator : Simulator
    dtype : "float32" or "float64"
        Of the results; membranes are float64.
    """

    def __init__(self, lowered: Lowered, simulator: Simulator, dtype: str) -> None:
        self._lowered, self._simulator, self._dtype = lowered, simulator, np.dtype(dtype)
        network, model = lowered.network, lowered.model
        self._nothing = FaultBatch.without_faults(network.widths, lowered.n_inputs * model.ticks)
        golden = simulator.run(self._nothing)
        self._golden_layers = self._layers(golden)
        self._golden_outputs = network.read_out(self._golden_layers[-1])
        self.golden = self._golden_outputs[0].astype(self._dtype)

    @property
    def lowered(self) -> Lowered:
        """The network as spiking layers."""
        return self._lowered

    def errors(self, batch: FaultBatch) -> Array:
        """Faulty minus golden outputs, (n_trials, n_inputs, n_outputs), in the backend's dtype."""
        return self.errors_and_hidden(batch)[0]

    def changes(self, batch: FaultBatch) -> Changes:
        """The errors of the presentations in which some output changes."""
        return Changes.of(self.errors(batch))

    def errors_and_hidden(self, batch: FaultBatch) -> tuple[Array, list[Array]]:
        """Errors, and the errors of layers 1..L-1, each (n_trials, n_inputs, n_l)."""
        return self.errors_hidden_and_rates(batch)[:2]

    def errors_hidden_and_rates(self, batch: FaultBatch) -> tuple[Array, list[Array], Array]:
        """Errors, hidden errors, and mean rates of the neurons of each layer 0..L in hertz.

        The rates (n_trials, n_inputs, L + 1) count positive and negative spikes.
        """
        activity = self._run(batch)
        layers = self._layers(activity)
        errors = self._lowered.network.read_out(layers[-1]) - self._golden_outputs
        hidden = [
            (y - golden).astype(self._dtype)
            for y, golden in zip(layers[:-1], self._golden_layers[:-1], strict=True)
        ]
        seconds = np.array(self._lowered.network.widths) * self._lowered.model.duration_s
        return errors.astype(self._dtype), hidden, (activity.totals / seconds).astype(np.float32)

    def rasters(self, batch: FaultBatch | None = None) -> Rasters:
        """Every spike of the trials of a batch; of one trial without faults by default."""
        return self._simulator.rasters(self._nothing if batch is None else self._checked(batch))

    def _checked(self, batch: FaultBatch) -> FaultBatch:
        expected = self._nothing.n_presentations
        if batch.n_presentations != expected:
            raise InputError(
                f"fault_set: expected windows in {expected} ticks, {self._lowered.model.ticks} for "
                f"each of {self._lowered.n_inputs} inputs, got {batch.n_presentations}"
            )
        if len(batch.valued):
            raise InputError(
                "fault_set: expected neurons and synapses that are dead, got some stuck at a "
                "value; spikes carry no values"
            )
        return batch

    def _run(self, batch: FaultBatch) -> Activity:
        return self._simulator.run(self._checked(batch))

    def _layers(self, activity: Activity) -> list[Array]:
        """y_1, ..., y_L of every pair of trial and input."""
        lowered, offsets = self._lowered, self._lowered.layers.offsets
        depth = lowered.network.depth
        counts = [activity.counts[..., offsets[n] : offsets[n + 1]] for n in range(1, depth + 1)]
        hidden = [lowered.activity(n, c) for n, c in enumerate(counts[:-1], start=1)]
        return [*hidden, lowered.outputs(counts[-1], activity.potentials, activity.alive_steps)]
