"""Spiking layers in time: integrate-and-fire neurons, one pair of trial and input after another.

Each time step does, in this order: decay (leak, currents, biases), threshold, synapses (spikes of
this step add to the currents of the next layer), reset. Sums run over neurons in ascending order,
so that results have the same bits as those of any simulator that keeps this order.

What saves time changes no bit. Spikes run forward only, so a layer is run through all steps before
the next one. Layers before the first one that a fault can change replay their golden spikes, and so
do the currents that these bring where no fault meets them; a pair in whose windows nothing fails is
copied.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

__all__ = [
    "IDENTITY",
    "LEAKY_RELU",
    "MEMBRANE",
    "RELU",
    "SIGMOID",
    "SOFTPLUS",
    "TANH",
    "Layers",
    "Spikes",
    "Windows",
    "golden_pass",
    "run_trials",
]

# Kinds of neurons. From LEAKY_RELU on they apply their function to their mean input; MEMBRANE
# neurons only integrate.
RELU, IDENTITY, LEAKY_RELU, SIGMOID, TANH, SOFTPLUS, MEMBRANE = range(7)


class Layers(NamedTuple):
    """The neurons and synapses of layers 0..L (n neurons in all), flat.

    offsets (L + 2,): first neuron of each layer, and n. weights: of layers 1..L one after another,
    each (n_in, n_out); weight_offsets (L + 2,): where layer l begins. biases (n,): current in each
    step. kinds, parameters, gains, firsts (L + 1,): kind of neuron; parameter of its function;
    spikes a step for activity 1; the step in which a layer begins. threshold, keep, keep_current:
    shares that stay of membrane and synaptic current; refractory: steps from spike to spike.
    current_inputs: whether layer 0 is constant currents instead of spikes.
    """

    offsets: np.ndarray
    weights: np.ndarray
    weight_offsets: np.ndarray
    biases: np.ndarray
    kinds: np.ndarray
    parameters: np.ndarray
    gains: np.ndarray
    firsts: np.ndarray
    threshold: float
    keep: float
    keep_current: float
    refractory: int
    reset_to_zero: bool
    current_inputs: bool
    n_steps: int
    ticks: int


class Spikes(NamedTuple):
    """Spikes of all inputs, layers and steps: units[offsets[x, l, k] : offsets[x, l, k + 1]].

    A unit that spikes with negative sign is written ~unit. offsets (n_inputs, L + 1, n_steps + 1).
    """

    offsets: np.ndarray
    units: np.ndarray


class Windows(NamedTuple):
    """Fault events of trials: those of trial t are offsets[t]:offsets[t + 1].

    site: number of the neuron, or of the synapse; start, stop: half-open windows of ticks since the
    first presentation. For synapses also layer, pre (number of the neuron before it) and out (its
    unit in the layer).
    """

    offsets: np.ndarray
    site: np.ndarray
    layer: np.ndarray
    pre: np.ndarray
    out: np.ndarray
    start: np.ndarray
    stop: np.ndarray


class _State(NamedTuple):
    """What a pair needs while it runs; arrays over all n neurons unless said otherwise.

    offsets (L + 1, n_steps + 1), units: spikes that each layer emitted in this pair. `begins`
    (L + 1,): where those of a layer begin. head: first dead synapse of a neuron, a list through
    `after` (by event), -1 at its end; kept: room for one number an event. replayed (n_steps, n):
    currents of golden spikes, there for layers `known` (L + 1,). disturbed (n_steps,): whether a
    fault meets the golden spikes of a step.
    """

    v: np.ndarray
    current: np.ndarray
    arriving: np.ndarray
    drive: np.ndarray
    emitted_before: np.ndarray
    rests_until: np.ndarray
    alive: np.ndarray
    alive_steps: np.ndarray
    begins: np.ndarray
    offsets: np.ndarray
    units: np.ndarray
    head: np.ndarray
    after: np.ndarray
    kept: np.ndarray
    replayed: np.ndarray
    known: np.ndarray
    disturbed: np.ndarray


@njit(cache=True, nogil=True, error_model="numpy")
def _state(layers, n_events):
    n, n_layers, n_steps = layers.offsets[-1], len(layers.kinds), layers.n_steps
    return _State(
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n),
        np.zeros(n, np.int64),
        np.ones(n, np.bool_),
        np.zeros(n, np.int64),
        layers.offsets[:-1] * n_steps,
        np.zeros((n_layers, n_steps + 1), np.int64),
        np.empty(n * n_steps, np.int32),
        np.full(n, -1, np.int64),
        np.zeros(n_events, np.int64),
        np.zeros(n_events),
        np.empty((n_steps, n)),
        np.zeros(n_layers, np.bool_),
        np.zeros(n_steps, np.bool_),
    )


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _apply(kind, parameter, mean):
    """The function of a neuron of its mean input."""
    if kind == LEAKY_RELU:
        return mean if mean > 0.0 else parameter * mean
    if kind == SIGMOID:
        return 1.0 / (1.0 + np.exp(-parameter * mean))
    if kind == TANH:
        return np.tanh(mean)
    return max(mean, 0.0) + np.log1p(np.exp(-abs(mean)))


@njit(cache=True, nogil=True, error_model="numpy")
def _integrate(v, current, drive, keep, theta, signed):
    """Decay; returns how many membranes are beyond their threshold.

    A function of its own, as the next one, so that the compiler sees plain vectors.
    """
    beyond = 0
    if signed:
        for i in range(len(v)):
            v[i] = v[i] * keep + current[i] + drive[i]
            beyond += (v[i] >= theta) | (v[i] <= -theta)
    else:
        for i in range(len(v)):
            v[i] = v[i] * keep + current[i] + drive[i]
            beyond += v[i] >= theta
    return beyond


@njit(cache=True, nogil=True, error_model="numpy")
def _integrate_bias(v, drive, keep, theta, signed):
    """The same where no current flows."""
    beyond = 0
    if signed:
        for i in range(len(v)):
            v[i] = v[i] * keep + drive[i]
            beyond += (v[i] >= theta) | (v[i] <= -theta)
    else:
        for i in range(len(v)):
            v[i] = v[i] * keep + drive[i]
            beyond += v[i] >= theta
    return beyond


@njit(cache=True, nogil=True, error_model="numpy")
def _deliver(weight, units, head, after, out, kept, total):
    """Set `total` to the weights of the spiking units, but of dead synapses."""
    total[:] = 0.0
    for e in range(len(units)):
        unit, up = (units[e], True) if units[e] >= 0 else (~units[e], False)
        event = head[unit]
        while event >= 0:
            kept[event] = total[out[event]]
            event = after[event]
        row = weight[unit]
        if up:
            for i in range(len(total)):
                total[i] += row[i]
        else:
            for i in range(len(total)):
                total[i] -= row[i]
        event = head[unit]
        while event >= 0:
            total[out[event]] = kept[event]
            event = after[event]


@njit(cache=True, nogil=True, error_model="numpy")
def _drive_inputs(bias, weight, currents, alive, head, after, out, kept, total):
    """Constant currents of layer 1: bias and weighted inputs, without what is dead."""
    total[:] = bias
    for j in range(len(currents)):
        value = currents[j]
        if value == 0.0 or not alive[j]:
            continue
        event = head[j]
        while event >= 0:
            kept[event] = total[out[event]]
            event = after[event]
        row = weight[j]
        for i in range(len(total)):
            total[i] += row[i] * value
        event = head[j]
        while event >= 0:
            total[out[event]] = kept[event]
            event = after[event]


@njit(cache=True, nogil=True, error_model="numpy")
def _weight(layers, layer):
    """Weights of a layer, (n_in, n_out)."""
    flat = layers.weights[layers.weight_offsets[layer] : layers.weight_offsets[layer + 1]]
    n_out = layers.offsets[layer + 1] - layers.offsets[layer]
    return flat.reshape(len(flat) // n_out, n_out)


@njit(cache=True, nogil=True, error_model="numpy")
def _emit(code, alive, units, end):
    """Append the spike of a neuron that is not dead; returns the new end of the list."""
    if alive[code if code >= 0 else ~code]:
        units[end] = code
        return end + 1
    return end


@njit(cache=True, nogil=True, error_model="numpy")
def _run_layer(layers, state, synapses, layer, replaying, begin, stop):
    """Run one layer through the steps from `begin` to `stop`, in which the same things are dead."""
    a, b = layers.offsets[layer], layers.offsets[layer + 1]
    v, drive, alive = state.v[a:b], state.drive[a:b], state.alive[a:b]
    current, arriving = state.current[a:b], state.arriving[a:b]
    before, rests_until = state.emitted_before[a:b], state.rests_until[a:b]
    offsets, units = state.offsets[layer], state.units
    sent_offsets, head = state.offsets[layer - 1], state.head[layers.offsets[layer - 1] : a]
    weight, replayed = _weight(layers, layer), state.replayed[:, a:b]
    kind, theta, keep_current = layers.kinds[layer], layers.threshold, layers.keep_current
    refractory, first, zero = layers.refractory, layers.firsts[layer], layers.reset_to_zero
    curved = LEAKY_RELU <= kind < MEMBRANE
    signed = kind in (IDENTITY, LEAKY_RELU, TANH)
    keep = 1.0 if curved else layers.keep
    spiking_inputs = layer > 1 or not layers.current_inputs
    flows = current.any()
    end = offsets[begin] if begin else state.begins[layer]
    for step in range(begin, stop):
        offsets[step] = end
        if step >= first:
            if kind == MEMBRANE:
                for i in range(len(v)):
                    if alive[i]:
                        v[i] = v[i] + current[i] + drive[i]
                        state.alive_steps[a + i] += 1
                beyond = 0
            elif flows:
                beyond = _integrate(v, current, drive, keep, theta, signed)
            else:
                beyond = _integrate_bias(v, drive, keep, theta, signed)
            if curved:
                steps = float(step - first + 1)
                gain = layers.gains[layer] * steps
                for i in range(len(v)):
                    mean = v[i] / steps
                    lag = gain * _apply(kind, layers.parameters[layer], mean) - before[i]
                    crosses = lag >= 1.0 or (signed and lag <= -1.0)
                    if crosses and rests_until[i] <= step:
                        before[i] += 1.0 if lag >= 1.0 else -1.0
                        rests_until[i] = step + refractory
                        end = _emit(i if lag >= 1.0 else ~i, alive, units, end)
            elif beyond:
                for i in range(len(v)):
                    up = v[i] >= theta
                    crosses = up or (signed and v[i] <= -theta)
                    if crosses and rests_until[i] <= step:
                        v[i] = 0.0 if zero else (v[i] - theta if up else v[i] + theta)
                        rests_until[i] = step + refractory
                        end = _emit(i if up else ~i, alive, units, end)
            if keep_current == 0.0:
                if flows:
                    current[:] = 0.0
                    flows = False
            else:
                for i in range(len(v)):
                    current[i] *= keep_current
        # Synapses: the spikes that the layer before emitted in this same step.
        if spiking_inputs and sent_offsets[step + 1] > sent_offsets[step]:
            flows = True
            if replaying and not state.disturbed[step]:
                arrived = replayed[step]
                for i in range(len(current)):
                    current[i] += arrived[i]
            else:
                sent = units[sent_offsets[step] : sent_offsets[step + 1]]
                _deliver(weight, sent, head, state.after, synapses.out, state.kept, arriving)
                for i in range(len(current)):
                    current[i] += arriving[i]
    offsets[stop] = end


@njit(cache=True, nogil=True, error_model="numpy")
def _replay(layers, state, golden, x, layer, begin, stop):
    """Spikes of a layer that no fault reaches: the golden ones, but those of dead neurons."""
    a, b = layers.offsets[layer], layers.offsets[layer + 1]
    alive, head = state.alive[a:b], state.head[a:b]
    offsets, end = state.offsets[layer], state.begins[layer]
    if begin:
        end = offsets[begin]
    for step in range(begin, stop):
        offsets[step] = end
        disturbed = False
        for e in range(golden.offsets[x, layer, step], golden.offsets[x, layer, step + 1]):
            code = golden.units[e]
            unit = code if code >= 0 else ~code
            if alive[unit]:
                state.units[end] = code
                end += 1
                disturbed |= head[unit] >= 0
            else:
                disturbed = True
        state.disturbed[step] = disturbed
    offsets[stop] = end


@njit(cache=True, nogil=True, error_model="numpy")
def _golden_currents(layers, state, golden, synapses, x, layer):
    """Fill `state.replayed` for one layer: the currents that golden spikes of input x bring."""
    a, b = layers.offsets[layer], layers.offsets[layer + 1]
    head, weight = state.head[layers.offsets[layer - 1] : a], _weight(layers, layer)
    for step in range(layers.n_steps):
        units = golden.units[
            golden.offsets[x, layer - 1, step] : golden.offsets[x, layer - 1, step + 1]
        ]
        total = state.replayed[step, a:b]
        _deliver(weight, units, head, state.after, synapses.out, state.kept, total)
    state.known[layer] = True


@njit(cache=True, nogil=True, error_model="numpy")
def _mark(state, neurons, synapses, t, tick, dead):
    """Enter what is dead in trial t at one tick, or take it back."""
    for e in range(neurons.offsets[t], neurons.offsets[t + 1]):
        if neurons.start[e] <= tick < neurons.stop[e]:
            state.alive[neurons.site[e]] = not dead
    for e in range(synapses.offsets[t], synapses.offsets[t + 1]):
        if synapses.start[e] <= tick < synapses.stop[e]:
            pre = synapses.pre[e]
            state.after[e] = state.head[pre]
            state.head[pre] = e if dead else -1


@njit(cache=True, nogil=True, error_model="numpy")
def _changes(events, t, tick):
    """Whether other events of a trial are on at this tick than at the one before."""
    for e in range(events.offsets[t], events.offsets[t + 1]):
        if events.start[e] == tick or events.stop[e] == tick:
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _run_pair(layers, state, golden, x, currents, first, replay_from, neurons, synapses, t):
    """Run layers `first`..L of trial t on input x; replay from layer `replay_from` to first - 1.

    The spikes lie in state.units afterwards.
    """
    depth, a = len(layers.kinds) - 1, layers.offsets[first]
    state.v[a:], state.current[a:], state.emitted_before[a:] = 0.0, 0.0, 0.0
    state.rests_until[a:], state.alive_steps[a:] = 0, 0
    state.drive[a:] = layers.biases[a:]
    per_tick = layers.n_steps // layers.ticks
    for layer in range(replay_from, depth + 1):
        tick = x * layers.ticks
        while tick < (x + 1) * layers.ticks:
            until = tick + 1
            while until < (x + 1) * layers.ticks and not (
                _changes(neurons, t, until) or _changes(synapses, t, until)
            ):
                until += 1
            _mark(state, neurons, synapses, t, tick, True)
            begin = (tick - x * layers.ticks) * per_tick
            stop = (until - x * layers.ticks) * per_tick
            if layer < first:
                _replay(layers, state, golden, x, layer, begin, stop)
            else:
                if layer == 1 and layers.current_inputs:
                    b, c = layers.offsets[1], layers.offsets[2]
                    _drive_inputs(
                        layers.biases[b:c], _weight(layers, 1), currents, state.alive, state.head,
                        state.after, synapses.out, state.kept, state.drive[b:c],
                    )  # fmt: skip
                replaying = layer == first and state.known[layer]
                _run_layer(layers, state, synapses, layer, replaying, begin, stop)
            _mark(state, neurons, synapses, t, tick, False)
            tick = until


@njit(cache=True, nogil=True, error_model="numpy")
def _count(layers, state, begin, counts, totals):
    """Counts and totals of the layers from `begin` on."""
    for layer in range(begin, len(layers.kinds)):
        a, b = layers.offsets[layer], layers.offsets[layer + 1]
        counts[a:b] = 0
        first, last = state.offsets[layer, 0], state.offsets[layer, -1]
        totals[layer] = last - first
        for e in range(first, last):
            code = state.units[e]
            if code >= 0:
                counts[a + code] += 1
            else:
                counts[a + ~code] -= 1


@njit(cache=True, nogil=True, error_model="numpy")
def golden_pass(layers, inputs, currents, nothing):
    """Run every input without faults.

    inputs: Spikes of layer 0 (none if inputs are currents); currents (n_inputs, n_0); nothing:
    Windows of one trial without events.

    Returns
    -------
    Spikes of all layers, counts (n_inputs, n), totals (n_inputs, L + 1), potentials and alive steps
    of the last layer, both (n_inputs, n_L).
    """
    n_inputs, n, n_layers = len(currents), layers.offsets[-1], len(layers.kinds)
    state = _state(layers, 0)
    counts, totals = np.zeros((n_inputs, n), np.int32), np.zeros((n_inputs, n_layers), np.int64)
    a = layers.offsets[n_layers - 1]
    potentials, alive_steps = np.zeros((n_inputs, n - a)), np.zeros((n_inputs, n - a), np.int64)
    offsets = np.zeros((n_inputs, n_layers, layers.n_steps + 1), np.int64)
    units = np.empty(2**16, np.int32)
    end = 0
    for x in range(n_inputs):
        _run_pair(layers, state, inputs, x, currents[x], 1, 0, nothing, nothing, 0)
        _count(layers, state, 0, counts[x], totals[x])
        potentials[x], alive_steps[x] = state.v[a:], state.alive_steps[a:]
        while end + totals[x].sum() > len(units):
            units = np.concatenate((units, np.empty_like(units)))
        for layer in range(n_layers):
            begin = state.offsets[layer, 0]
            offsets[x, layer] = state.offsets[layer] - begin + end
            size = totals[x, layer]
            units[end : end + size] = state.units[begin : begin + size]
            end += size
    return Spikes(offsets, units[:end].copy()), counts, totals, potentials, alive_steps


@njit(cache=True, nogil=True, error_model="numpy")
def _first_layer(layers, neurons, synapses, t, x):
    """First layer that the faults of a pair can change, and whether there are any.

    A dead neuron changes what its spikes reach, from the next layer on; L + 1 if that is nothing.
    """
    depth = len(layers.kinds) - 1
    low, high = x * layers.ticks, (x + 1) * layers.ticks
    first, touched = depth + 1, False
    for e in range(neurons.offsets[t], neurons.offsets[t + 1]):
        if neurons.start[e] < high and neurons.stop[e] > low:
            touched = True
            reads = neurons.layer[e] == depth and layers.kinds[depth] == MEMBRANE
            first = min(first, neurons.layer[e] + (0 if reads else 1))
    for e in range(synapses.offsets[t], synapses.offsets[t + 1]):
        if synapses.start[e] < high and synapses.stop[e] > low:
            touched = True
            first = min(first, synapses.layer[e])
    return first, touched


@njit(cache=True, nogil=True, error_model="numpy")
def run_trials(
    layers, golden, golden_counts, golden_totals, golden_potentials, golden_alive_steps,
    currents, neurons, synapses, spike_offsets,
):  # fmt: skip
    """Run every trial on every input.

    golden: what `golden_pass` returned; currents (n_inputs, n_0). spike_offsets (n_trials + 1,):
    where to put the spikes of each trial, or of length 0 if they are not wanted.

    Returns
    -------
    counts (n_trials, n_inputs, n), totals (n_trials, n_inputs, L + 1), potentials and alive steps
    (n_trials, n_inputs, n_L), and for each spike, by trial, input, layer, step and unit: input,
    layer, unit, step, sign.
    """
    n_trials, n_inputs = len(neurons.offsets) - 1, len(currents)
    n, depth = layers.offsets[-1], len(layers.kinds) - 1
    a = layers.offsets[depth]
    state = _state(layers, len(synapses.site))
    counts = np.empty((n_trials, n_inputs, n), np.int32)
    totals = np.empty((n_trials, n_inputs, depth + 1), np.int64)
    potentials = np.empty((n_trials, n_inputs, n - a))
    alive_steps = np.empty((n_trials, n_inputs, n - a), np.int64)
    recording = len(spike_offsets) > 0
    room = spike_offsets[-1] if recording else 0
    presentations, of_layers = np.empty(room, np.int32), np.empty(room, np.int32)
    units, steps = np.empty(room, np.int32), np.empty(room, np.int32)
    signs = np.empty(room, np.int8)
    ends = spike_offsets.copy()
    for x in range(n_inputs):
        state.known[:] = False
        for t in range(n_trials):
            counts[t, x], totals[t, x] = golden_counts[x], golden_totals[x]
            potentials[t, x] = golden_potentials[x]
            alive_steps[t, x] = golden_alive_steps[x]
            first, touched = _first_layer(layers, neurons, synapses, t, x)
            if not (touched or recording):
                continue
            if (
                first <= depth
                and not state.known[first]
                and (first > 1 or not layers.current_inputs)
            ):
                _golden_currents(layers, state, golden, synapses, x, first)
            begin = 0 if recording else first - 1
            _run_pair(layers, state, golden, x, currents[x], first, begin, neurons, synapses, t)
            _count(layers, state, begin, counts[t, x], totals[t, x])
            if first <= depth:
                potentials[t, x], alive_steps[t, x] = state.v[a:], state.alive_steps[a:]
            if not recording:
                continue
            for layer in range(depth + 1):
                for step in range(layers.n_steps):
                    for e in range(state.offsets[layer, step], state.offsets[layer, step + 1]):
                        code, end = state.units[e], ends[t]
                        presentations[end], of_layers[end], steps[end] = x, layer, step
                        units[end], signs[end] = (code, 1) if code >= 0 else (~code, -1)
                        ends[t] += 1
    return (
        counts, totals, potentials, alive_steps,
        presentations, of_layers, units, steps, signs,
    )  # fmt: skip
