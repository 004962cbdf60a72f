"""Lists of changed pairs: trials with equal faults, dense errors.

The changes of a range of trials are told by distinct fault *set*: those of set s are the inputs
`inputs[offsets[s]:offsets[s + 1]]` in ascending order with a row of `values` (n_pairs, n_outputs)
each; trial t has the set `sets[t]`, or -1 where nothing failed.
"""

import numpy as np
from numba import njit

__all__ = ["distinct_trials", "nonzero_rows", "spread", "take_events", "take_sets"]


@njit(cache=True, nogil=True, error_model="numpy")
def distinct_trials(neuron_offsets, neuron_site, neuron_lasts, synapse_offsets, n_sites):
    """One trial for each distinct fault set, (chosen, sets, n_neuron_sets, alone).

    Sets without synapses come first. Only the sets that fail in one neuron for the whole trial are
    looked up: of larger ones there are too many for two trials to share one often.

    Parameters
    ----------
    neuron_offsets, synapse_offsets : (n_trials + 1,)
    neuron_site : numbers of dead neurons
    neuron_lasts : bool, whether the event lasts the whole trial
    n_sites : number of neurons

    Returns
    -------
    chosen : trials, one a set
    sets : (n_trials,) the set of each trial, -1 without a fault
    n_neuron_sets : sets without synapses
    alone : (n_sites,) the set that fails in this neuron only, for the whole trial, -1 without one
    """
    n_trials = len(neuron_offsets) - 1
    sets = np.full(n_trials, -1, np.int64)
    chosen = np.empty(n_trials, np.int64)
    alone = np.full(n_sites, -1, np.int64)
    n = 0
    for t in range(n_trials):
        a, b = neuron_offsets[t], neuron_offsets[t + 1]
        if b == a or synapse_offsets[t + 1] > synapse_offsets[t]:
            continue
        single = b - a == 1 and neuron_lasts[a]
        if single and alone[neuron_site[a]] >= 0:
            sets[t] = alone[neuron_site[a]]
            continue
        if single:
            alone[neuron_site[a]] = n
        chosen[n], sets[t] = t, n
        n += 1
    n_neuron_sets = n
    for t in range(n_trials):
        if synapse_offsets[t + 1] > synapse_offsets[t]:
            chosen[n], sets[t] = t, n
            n += 1
    return chosen[:n].copy(), sets, n_neuron_sets, alone


@njit(cache=True, nogil=True, error_model="numpy")
def take_events(offsets, site, start, stop, chosen):
    """Events of the chosen trials, in their order: (offsets, site, start, stop)."""
    new_offsets = np.zeros(len(chosen) + 1, np.int64)
    for k in range(len(chosen)):
        new_offsets[k + 1] = new_offsets[k] + offsets[chosen[k] + 1] - offsets[chosen[k]]
    n = new_offsets[-1]
    new_site, new_start, new_stop = (
        np.empty(n, np.int64),
        np.empty(n, np.int32),
        np.empty(n, np.int32),
    )
    for k in range(len(chosen)):
        shift = new_offsets[k] - offsets[chosen[k]]
        for e in range(offsets[chosen[k]], offsets[chosen[k] + 1]):
            new_site[e + shift], new_start[e + shift], new_stop[e + shift] = (
                site[e],
                start[e],
                stop[e],
            )
    return new_offsets, new_site, new_start, new_stop


@njit(cache=True, nogil=True, error_model="numpy")
def take_sets(offsets, inputs, values, chosen):
    """Changed pairs of the chosen sets, in their order: (offsets, inputs, values)."""
    new_offsets = np.zeros(len(chosen) + 1, np.int64)
    for k in range(len(chosen)):
        new_offsets[k + 1] = new_offsets[k] + offsets[chosen[k] + 1] - offsets[chosen[k]]
    n, n_outputs = new_offsets[-1], values.shape[1]
    new_inputs, new_values = np.empty(n, inputs.dtype), np.empty((n, n_outputs), values.dtype)
    for k in range(len(chosen)):
        shift = offsets[chosen[k]] - new_offsets[k]
        for i in range(new_offsets[k], new_offsets[k + 1]):
            new_inputs[i] = inputs[i + shift]
            for o in range(n_outputs):
                new_values[i, o] = values[i + shift, o]
    return new_offsets, new_inputs, new_values


@njit(cache=True, nogil=True, error_model="numpy")
def nonzero_rows(errors):
    """Which pairs of dense errors (n_trials, n_inputs, n_outputs) changed: (offsets, inputs)."""
    n_trials, n_inputs, n_outputs = errors.shape
    offsets = np.zeros(n_trials + 1, np.int64)
    inputs = np.empty(n_trials * n_inputs, np.int32)
    zero = errors.dtype.type(0)
    n = 0
    for t in range(n_trials):
        for x in range(n_inputs):
            for o in range(n_outputs):
                if errors[t, x, o] != zero:
                    inputs[n] = x
                    n += 1
                    break
        offsets[t + 1] = n
    return offsets, inputs[:n].copy()


@njit(cache=True, nogil=True, error_model="numpy")
def spread(start, stop, inputs, values, errors):
    """Write the errors (n_trials, n_inputs, n_outputs), zeros on entry, from changed pairs.

    Those of trial t are start[t] .. stop[t] - 1.
    """
    n_outputs = values.shape[1]
    for t in range(len(start)):
        for i in range(start[t], stop[t]):
            for o in range(n_outputs):
                errors[t, inputs[i], o] = values[i, o]
