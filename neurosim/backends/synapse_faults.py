"""Trials in which synapses died, perhaps with neurons; and the changes of hidden layers."""

from collections.abc import Callable
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from neurosim.backends.prepared import PreparedNetwork
from neurosim.faults import Events, Sites
from neurosim.kernels.lost_synapses import finish_trials
from neurosim.kernels.neurons import layer_bounds
from neurosim.kernels.propagation import (
    advance,
    change_rows_of_all,
    dead_inputs,
    lasting_trials,
    layer_events,
    plan,
    split_weights,
)
from neurosim.layers import Array

__all__ = ["SynapseFaults"]

# Events of one layer, as kernels.propagation describes them.
_LayerEvents: TypeAlias = tuple[Array, Array, Array, Array]

# Values of one layer that the pairs of a block may need: they should stay in the cache.
_BLOCK_VALUES = 2**22

# One dead synapse costs as much as this many multiplications in BLAS (measured).
_DEAD_COST = 6


class SynapseFaults:
    """Errors of trials of any fault sets, layer by layer.

    Parameters
    ----------
    prepared : PreparedNetwork
    """

    def __init__(self, prepared: PreparedNetwork) -> None:
        self._prepared = prepared
        self._sites = Sites(prepared.network.widths)
        # Blocks depend on the network and the inputs alone: the shapes that BLAS sees, and with
        # them the last bits of results, are the same whoever computes a trial.
        widest = prepared.n_inputs * max(prepared.network.widths)
        self._block = max(1, _BLOCK_VALUES // widest)
        self._products = [y @ w.T for y, w in zip(prepared.outputs, prepared.weights, strict=False)]
        # Inputs that are 0 in all presentations take no part in the products of dense trials.
        self._live = [np.flatnonzero(prepared.active[0])]
        self._live += [np.arange(n) for n in prepared.network.widths[1:-1]]
        self._live_weights = [
            np.ascontiguousarray(w[:, live])
            for w, live in zip(prepared.weights, self._live, strict=True)
        ]
        self._columns = [np.full(n, -1, np.int32) for n in prepared.network.widths[:-1]]
        for column, live in zip(self._columns, self._live, strict=True):
            column[live] = np.arange(len(live))
        self._n_weights = sum(w.size for w in prepared.weights)

    def errors(self, neurons: Events, synapses: Events) -> Array:
        """Errors (n_trials, n_inputs, n_outputs), before read-out."""
        depth = self._prepared.network.depth
        last = range(depth, depth + 1)
        many = np.diff(synapses.offsets) * _DEAD_COST > self._n_weights
        (errors,) = self._zeros(len(neurons.offsets) - 1, last)
        lasting = self._lasting(neurons, synapses)
        at_once = self._at_once(neurons, synapses) & lasting.all()
        for first, stop in self._blocks(np.where(at_once & ~many, _load(synapses), 1.0)):
            all_last = bool(lasting[first:stop].all())
            if many[first:stop].all() and all_last:
                for t in range(first, stop):
                    errors[t] = self._dense(neurons, synapses, t)
            else:
                block = [errors[first:stop]]
                self._run(neurons, synapses, first, stop, all_last, block, last)
        return errors

    def _dense(self, neurons: Events, synapses: Events, t: int) -> Array:
        """Errors (n_inputs, n_outputs) of one trial whose many faults last, by BLAS alone.

        dz = -(dead W) y in the first layer that changes, (living W) (y + dy) - W y in later ones.
        """
        prepared = self._prepared
        neuron_offsets, synapse_offsets = self._sites.neuron_offsets, self._sites.synapse_offsets
        dead_neurons = neurons.site[slice(*neurons.offsets[t : t + 2])]
        dead_synapses = synapses.site[slice(*synapses.offsets[t : t + 2])]
        neuron_bounds = np.searchsorted(dead_neurons, neuron_offsets)
        synapse_bounds = np.searchsorted(dead_synapses, synapse_offsets)
        silent = [
            dead_neurons[a:b] - low
            for (a, b), low in zip(pairwise(neuron_bounds), neuron_offsets[:-1], strict=True)
        ]
        dy = np.zeros_like(prepared.outputs[0])
        dy[:, silent[0]] = -prepared.outputs[0][:, silent[0]]
        changed = bool(len(silent[0]))
        for number in range(1, prepared.network.depth + 1):
            live, weight = self._live[number - 1], self._live_weights[number - 1]
            golden = prepared.outputs[number - 1]
            part = np.empty_like(weight)
            split_weights(
                dead_synapses[slice(*synapse_bounds[number : number + 2])],
                synapse_offsets[number],
                golden.shape[1],
                self._columns[number - 1],
                weight,
                not changed,
                part,
            )
            if changed:
                dz = (golden + dy)[:, live] @ part.T - self._products[number - 1]
            else:
                dz = -golden[:, live] @ part.T
            dy = np.empty_like(dz)
            change_rows_of_all(
                *prepared.activations[number - 1],
                dz,
                silent[number],
                prepared.outputs[number],
                dy,
            )
            changed = True
        return dy

    def errors_of_all_layers(self, neurons: Events, synapses: Events) -> list[Array]:
        """Errors of layers 1..L, each (n_trials, n_inputs, n_l), before read-out."""
        layers = range(1, self._prepared.network.depth + 1)
        results = self._zeros(len(neurons.offsets) - 1, layers)
        lasting = self._lasting(neurons, synapses)
        for first, stop in self._blocks(np.ones(len(lasting))):
            all_last, block = bool(lasting[first:stop].all()), [r[first:stop] for r in results]
            self._run(neurons, synapses, first, stop, all_last, block, layers)
        return results

    def _lasting(self, *kinds: Events) -> Array:
        """Trials all of whose events last the whole trial."""
        n_inputs = self._prepared.n_inputs
        neurons, synapses = (
            lasting_trials(events.offsets, events.start, events.stop, n_inputs) for events in kinds
        )
        both: Array = neurons & synapses
        return both

    def _at_once(self, neurons: Events, synapses: Events) -> Array:
        """Trials that `_finish_trials` finishes, so that they keep no rows, if all events last."""
        depth = self._prepared.network.depth
        if depth < 2:
            return np.zeros(len(neurons.offsets) - 1, np.bool_)
        of_neurons = layer_bounds(neurons.offsets, neurons.site, self._sites.neuron_offsets)
        of_synapses = layer_bounds(synapses.offsets, synapses.site, self._sites.synapse_offsets)
        earlier = of_neurons[:, depth - 1] - of_neurons[:, 0]
        earlier += of_synapses[:, depth - 1] - of_synapses[:, 0]
        some: Array = of_synapses[:, depth] > of_synapses[:, depth - 1]
        return some & (earlier == 0)

    def _blocks(self, load: Array) -> list[tuple[int, int]]:
        """Blocks of consecutive trials with a load of `_block` together, or a little more."""
        number = (np.cumsum(load) - load) // self._block
        edges = [0, *(np.flatnonzero(np.diff(number)) + 1), len(load)]
        return [(int(a), int(b)) for a, b in pairwise(edges) if b > a]

    def _zeros(self, n_trials: int, layers: range) -> list[Array]:
        prepared = self._prepared
        widths = prepared.network.widths
        return [np.zeros((n_trials, prepared.n_inputs, widths[n]), prepared.dtype) for n in layers]

    def _run(
        self,
        neuron_events: Events,
        synapse_events: Events,
        first: int,
        stop: int,
        all_last: bool,
        results: list[Array],
        wanted: range,
    ) -> None:
        """Fill results, the errors of the layers `wanted`, for trials first .. stop - 1."""
        prepared, n_trials = self._prepared, stop - first
        depth, n_inputs = prepared.network.depth, prepared.n_inputs
        neurons, synapses = (
            _by_layer(events, site_offsets, first, stop, n_inputs, all_last)
            for events, site_offsets in (
                (neuron_events, self._sites.neuron_offsets),
                (synapse_events, self._sites.synapse_offsets),
            )
        )
        changes, rows = dead_inputs(n_trials, n_inputs, neurons(0), prepared.outputs[0])
        finished = np.zeros(n_trials, np.bool_)
        for number, layer in enumerate(prepared.network.layers, start=1):
            dead_synapses, dead_neurons = synapses(number), neurons(number)
            if number == depth - 1 and number not in wanted:
                finished = self._finish_trials(
                    changes[0],
                    (dead_synapses, dead_neurons),
                    (synapses(depth), neurons(depth)),
                    results[-1],
                )
                if finished.all():
                    return
            if not (
                len(changes[0])
                or any(
                    len(numbers)
                    for events in (dead_synapses, dead_neurons)
                    for numbers in (events[1], events[3])
                )
            ):
                continue
            weight_t = prepared.weights_t[number - 1]
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
            new_rows = np.empty((planned[3], layer.n_out), prepared.dtype)
            if len(rows):
                np.matmul(rows, weight_t, out=new_rows[: len(rows)])
            changes = advance(
                n_inputs,
                prepared.weights[number - 1],
                weight_t,
                *prepared.activations[number - 1],
                prepared.outputs[number - 1],
                prepared.outputs_t[number - 1],
                prepared.outputs[number],
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
        prepared, depth = self._prepared, self._prepared.network.depth
        finished = np.diff(hidden[0][0]) > 0
        finished[changed // prepared.n_inputs] = False
        if any(len(events[3]) for events in (*hidden, *last)):
            finished[:] = False
        if finished.any():
            about = [
                (
                    *events,
                    prepared.weights[number - 1],
                    *prepared.activations_t[number - 1],
                    prepared.outputs_t[number],
                )
                for number, events in ((depth - 1, hidden), (depth, last))
            ]
            before_t, active = prepared.outputs_t[depth - 2], prepared.active[depth - 2]
            finish_trials(finished, before_t, active, about[0], about[1], errors)
        return finished


def _load(synapses: Events) -> Array:
    """Trials that are finished at once count as little in a block; their lists of events count."""
    load: Array = (1 + np.diff(synapses.offsets) / 1000) / 64
    return np.minimum(load, 1.0)


def _by_layer(
    events: Events, site_offsets: Array, first: int, stop: int, n_inputs: int, all_last: bool
) -> Callable[[int], _LayerEvents]:
    """Events of the trials of a block, by layer, as `layer_events` returns them."""
    bounds = layer_bounds(events.offsets[first : stop + 1], events.site, site_offsets)

    def of_layer(layer: int) -> _LayerEvents:
        return layer_events(
            np.ascontiguousarray(bounds[:, layer]),
            np.ascontiguousarray(bounds[:, layer + 1]),
            events.site,
            events.start,
            events.stop,
            site_offsets[layer],
            n_inputs,
            all_last,
        )

    return of_layer
