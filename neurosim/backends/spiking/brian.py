"""The oracle: the same spiking layers as Brian2 networks. The only module that imports Brian2.

The trials of a batch run side by side, as replicas in one network: layer l is one NeuronGroup of
n_trials * n_l neurons. Presentations follow each other in one run; between them, and between ticks,
a network operation sets currents, what is dead, and membranes.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import brian2
import numpy as np

from neurosim.backends.spiking.activity import Activity, Rasters
from neurosim.backends.spiking.lowering import Lowered
from neurosim.errors import InputError
from neurosim.faults import FaultBatch
from neurosim.kernels import spiking as kernels
from neurosim.layers import Array

__all__ = ["BrianSimulator"]

# Brian2 keeps global state: one simulation at a time.
_LOCK = threading.Lock()

# Synapses of all replicas that one network may hold.
_MOST_SYNAPSES = 2**21

_PARAMETERS = "\n".join(
    f"{name} : 1"
    for name in (
        "v", "current", "arriving", "drive", "emitted_before", "wait", "alive", "alive_steps",
        "fired", "signed_count", "spike_count", "begun",
    )
)  # fmt: skip

_FUNCTIONS = {
    kernels.LEAKY_RELU: "mean * int(mean > 0) + parameter * mean * int(mean <= 0)",
    kernels.SIGMOID: "1.0 / (1.0 + exp(-parameter * mean))",
    kernels.TANH: "tanh(mean)",
    kernels.SOFTPLUS: "clip(mean, 0, inf) + log1p(exp(-abs(mean)))",
}


class BrianSimulator:
    """Runs the trials of a batch side by side in one Brian2 network.

    Parameters
    ----------
    lowered : Lowered
    target : "auto", "cython" or "numpy"
        How Brian2 runs its code; "auto" takes cython where a C++ compiler is found, else numpy.
        Compiled code is kept on the disk and used again by every later network.
    """

    def __init__(self, lowered: Lowered, target: str = "auto") -> None:
        if target not in ("auto", "cython", "numpy"):
            raise InputError(f'target: expected "auto", "cython" or "numpy", got {target!r}')
        self._lowered, self._target = lowered, target
        self._kept: _Replicas | None = None

    def run(self, batch: FaultBatch) -> Activity:
        """Run every trial on every input."""
        parts = [replicas.activity() for _, replicas in self._run(batch, record=False)]
        names = ("counts", "totals", "potentials", "alive_steps")
        return Activity(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in names})

    def rasters(self, batch: FaultBatch) -> Rasters:
        """Run every trial on every input and keep every spike."""
        names = ("presentation", "step", "layer", "unit", "sign")
        dtypes = (np.int32, np.int32, np.int32, np.int32, np.int8)
        parts = [
            replicas.spikes() + np.array([first, 0, 0, 0, 0, 0])[:, None]
            for first, replicas in self._run(batch, record=True)
        ]
        rows = np.concatenate(parts, axis=1)
        trial = rows[0]
        offsets = np.searchsorted(trial, np.arange(len(batch) + 1)).astype(np.int64)
        columns = {
            name: row.astype(dtype)
            for name, row, dtype in zip(names, rows[1:], dtypes, strict=True)
        }
        return Rasters(offsets=offsets, **columns)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}  # Brian2 networks stay where they were built

    def _run(self, batch: FaultBatch, record: bool) -> Iterator[tuple[int, "_Replicas"]]:
        """Run the trials in groups that fit into one network; yields (first trial, results)."""
        size = max(1, _MOST_SYNAPSES // max(1, len(self._lowered.layers.weights)))
        for first in range(0, len(batch), size):
            stop = min(first + size, len(batch))
            with _LOCK, _settings(self._target):
                kept = self._kept
                if kept is None or (kept.n_trials, kept.record) != (stop - first, record):
                    self._kept = kept = _Replicas(self._lowered, stop - first, record)
                kept.run(batch, first)
                yield first, kept


@contextmanager
def _settings(target: str) -> Iterator[None]:
    """Brian2's preferences for this work, and afterwards those the user had."""
    preferences = {
        "codegen.target": target,
        # Fused or reordered operations would change last bits, and with them spikes.
        "codegen.loop_invariant_optimisations": False,
        "codegen.cpp.extra_compile_args_gcc": ["-w", "-O3", "-ffp-contract=off", "-std=c++11"],
        "codegen.cpp.extra_compile_args_msvc": ["/Ox", "/w", "/fp:precise"],
        "core.default_float_dtype": np.float64,
    }
    before = {name: brian2.prefs[name] for name in preferences}
    try:
        for name, value in preferences.items():
            brian2.prefs[name] = value
        yield
    finally:
        for name, value in before.items():
            brian2.prefs[name] = value


class _Replicas:
    """One Brian2 network of n_trials copies of the spiking layers."""

    def __init__(self, lowered: Lowered, n_trials: int, record: bool) -> None:
        self.n_trials, self.record = n_trials, record
        self._lowered = lowered
        self._dt = lowered.model.time_step_s * brian2.second
        self._clock = brian2.Clock(self._dt)
        layers = lowered.layers
        self._widths = np.diff(layers.offsets)
        n_layers = len(self._widths)
        self._groups = {n: self._group(n) for n in range(1, n_layers)}
        self._inputs = brian2.SpikeGeneratorGroup(
            n_trials * int(self._widths[0]),
            [],
            [] * brian2.second,
            clock=self._clock,
            name="layer_0_*",
        )
        first = 2 if layers.current_inputs else 1
        self._synapses = {n: self._connect(n) for n in range(first, n_layers)}
        self._monitors = {
            n: brian2.SpikeMonitor(group, variables=["fired"])
            for n, group in self._groups.items()
            if record
        }
        tick = layers.n_steps // layers.ticks * self._dt
        operation = brian2.NetworkOperation(self._begin_tick, dt=tick, when="start")
        self._network = brian2.Network(
            self._inputs,
            *self._groups.values(),
            *self._synapses.values(),
            *self._monitors.values(),
            operation,
        )
        self._network.store()

    def _group(self, layer: int) -> Any:
        layers, model = self._lowered.layers, self._lowered.model
        kind, n = layers.kinds[layer], int(self._widths[layer])
        constants = {
            "theta": layers.threshold,
            "keep": layers.keep,
            "keep_current": layers.keep_current,
            "refractory_steps": float(layers.refractory),
            "parameter": float(layers.parameters[layer]),
            "gain": float(layers.gains[layer]),
        }
        before_threshold, after_threshold = [], []
        if kind == kernels.MEMBRANE:
            before_threshold = [
                "on = alive * int(begun >= 0)",
                # Two statements: Brian2 would add up the currents of one first.
                "v = v + current * on",
                "v = v + drive * on",
                "current = current * keep_current * int(begun >= 0) + current * int(begun < 0)",
                "alive_steps = alive_steps + on",
            ]
        else:
            rests = "int(wait <= 0) * int(begun >= 0)"
            curved = kind in _FUNCTIONS
            share = "1.0" if curved else "keep"
            before_threshold = [
                f"v = (v * {share} + current + drive) * int(begun >= 0)",
                "current = current * keep_current * int(begun >= 0) + current * int(begun < 0)",
                "wait = wait - 1",
            ]
            signed = kind in (kernels.IDENTITY, kernels.LEAKY_RELU, kernels.TANH)
            if curved:
                before_threshold += [
                    "mean = v / clip(begun + 1, 1, inf)",
                    f"lag = gain * (begun + 1) * ({_FUNCTIONS[kind]}) - emitted_before",
                    f"fired = (int(lag >= 1){' - int(lag <= -1)' if signed else ''}) * {rests}",
                ]
                after_threshold = ["emitted_before = emitted_before + fired"]
            else:
                before_threshold += [
                    f"fired = (int(v >= theta){' - int(v <= -theta)' if signed else ''}) * {rests}"
                ]
                after_threshold = [
                    "v = v * int(fired == 0)" if model.reset == "zero" else "v = v - theta * fired"
                ]
            after_threshold += [
                "wait = wait * int(fired == 0) + refractory_steps * int(fired != 0)"
            ]
        group = brian2.NeuronGroup(
            self.n_trials * n,
            _PARAMETERS,
            threshold="fired * alive != 0",
            reset="",
            method="exact",
            namespace=constants,
            clock=self._clock,
            name=f"layer_{layer}_*",
        )
        group.run_regularly("\n".join(before_threshold), when="groups", clock=self._clock)
        group.run_regularly(
            "current = current + arriving\narriving = 0", when="after_synapses", clock=self._clock
        )
        after_threshold += [
            "signed_count = signed_count + fired * alive",
            "spike_count = spike_count + abs(fired) * alive",
            "begun = begun + 1",
        ]
        group.run_regularly("\n".join(after_threshold), when="resets", clock=self._clock)
        return group

    def _send_inputs(self) -> None:
        """Give every replica the input spikes that its dead input neurons leave.

        Keeps them as rows trial, presentation, step, layer, unit, sign, and their counts.
        """
        offsets, units = self._lowered.trains
        layers = self._lowered.layers
        per_tick = layers.n_steps // layers.ticks
        found = [np.empty((6, 0), np.int64)]
        for x in range(self._lowered.n_inputs):
            codes = units[offsets[x, 0, 0] : offsets[x, 0, -1]].astype(np.int64)
            step = np.repeat(np.arange(layers.n_steps), np.diff(offsets[x, 0]))
            unit, sign = np.where(codes < 0, ~codes, codes), np.where(codes < 0, -1, 1)
            for trial, fault_set in enumerate(self._fault_sets):
                alive = np.ones((layers.ticks, self._widths[0]), bool)
                for tick in range(layers.ticks):
                    neurons = fault_set.masks(x * layers.ticks + tick)[0]
                    alive[tick, neurons[neurons[:, 0] == 0, 1]] = False
                kept = alive[step // per_tick, unit]
                found.append(
                    np.stack([
                        np.full(kept.sum(), trial), np.full(kept.sum(), x), step[kept],
                        np.zeros(kept.sum(), np.int64), unit[kept], sign[kept],
                    ])
                )  # fmt: skip
        self._sent = np.concatenate(found, axis=1)
        trial, x, step, _, unit, sign = self._sent
        np.add.at(self._counts, (trial, x, unit), sign.astype(np.int32))
        np.add.at(self._totals[..., 0], (trial, x), 1)
        self._inputs.set_spikes(
            trial * self._widths[0] + unit, (x * layers.n_steps + step) * self._dt
        )

    def _weights(self, layer: int) -> Array:
        """Scaled weights of a layer, (n_in, n_out)."""
        layers = self._lowered.layers
        flat = layers.weights[layers.weight_offsets[layer] : layers.weight_offsets[layer + 1]]
        return flat.reshape(self._widths[layer - 1], self._widths[layer])

    def _connect(self, layer: int) -> Any:
        n_in, n_out = (int(n) for n in self._widths[layer - 1 : layer + 1])
        # The sign of an input, the same for all its spikes, is in the weights.
        synapses = brian2.Synapses(
            self._inputs if layer == 1 else self._groups[layer - 1],
            self._groups[layer],
            "w : 1",
            on_pre="arriving_post += w" if layer == 1 else "arriving_post += w * fired_pre",
            method="exact",
            clock=self._clock,
            name=f"synapses_{layer}_*",
        )
        # Trial by trial, neuron by neuron before them: sums run in ascending order.
        trial = np.repeat(np.arange(self.n_trials), n_in * n_out)
        before = np.tile(np.repeat(np.arange(n_in), n_out), self.n_trials)
        out = np.tile(np.arange(n_out), self.n_trials * n_in)
        synapses.connect(i=trial * n_in + before, j=trial * n_out + out)
        return synapses

    def run(self, batch: FaultBatch, first: int) -> None:
        """Run trials first .. first + n_trials - 1 of a batch; the results stay here."""
        n_inputs, layers = self._lowered.n_inputs, self._lowered.layers
        self._fault_sets = [batch[first + t] for t in range(self.n_trials)]
        shape = (self.n_trials, n_inputs)
        self._counts = np.zeros((*shape, layers.offsets[-1]), np.int32)
        self._totals = np.zeros((*shape, len(self._widths)), np.int64)
        self._potentials = np.zeros((*shape, self._widths[-1]))
        self._alive_steps = np.zeros((*shape, self._widths[-1]), np.int64)
        self._network.restore()
        self._send_inputs()
        self._tick = 0
        self._network.run(n_inputs * layers.n_steps * self._dt, namespace={})
        self._collect(n_inputs - 1)

    def _begin_tick(self) -> None:
        """Set what is dead now; at the begin of a presentation everything."""
        ticks = self._lowered.layers.ticks
        presentation, tick = divmod(self._tick, ticks)
        if tick == 0:
            if presentation:
                self._collect(presentation - 1)
            self._begin_presentation()
        masks = [fault_set.masks(self._tick) for fault_set in self._fault_sets]
        self._tick += 1
        alive = [np.ones((self.n_trials, n)) for n in self._widths]
        for trial, (neurons, _) in enumerate(masks):
            for layer, unit in neurons:
                alive[layer][trial, unit] = 0
        for layer, group in self._groups.items():
            group.alive_[:] = alive[layer].ravel()
        weights = {}
        for layer in range(1, len(self._widths)):
            weight = np.repeat(self._weights(layer)[None], self.n_trials, axis=0)
            for trial, (_, synapses) in enumerate(masks):
                dead = synapses[synapses[:, 0] == layer]
                weight[trial, dead[:, 2], dead[:, 1]] = 0
            weights[layer] = weight
        for layer, synapse_group in self._synapses.items():
            if layer == 1:
                weights[1] *= self._lowered.signs[presentation][:, None]
            synapse_group.w_[:] = weights[layer].ravel()
        if self._lowered.layers.current_inputs:
            n_1 = int(self._widths[1])
            drive = np.tile(self._lowered.layers.biases[self._widths[0] :][:n_1], (len(masks), 1))
            for j, value in enumerate(self._lowered.currents[presentation]):
                drive += weights[1][:, j] * (value * alive[0][:, j : j + 1])
            self._groups[1].drive_[:] = drive.ravel()

    def _begin_presentation(self) -> None:
        layers = self._lowered.layers
        for layer, group in self._groups.items():
            for name in (
                "v", "current", "arriving", "emitted_before", "wait", "alive_steps", "fired",
                "signed_count", "spike_count",
            ):  # fmt: skip
                getattr(group, f"{name}_")[:] = 0
            group.begun_[:] = -float(layers.firsts[layer])
            biases = layers.biases[layers.offsets[layer] : layers.offsets[layer + 1]]
            group.drive_[:] = np.tile(biases, self.n_trials)

    def _collect(self, presentation: int) -> None:
        offsets = self._lowered.layers.offsets
        for layer, group in self._groups.items():
            columns = slice(offsets[layer], offsets[layer + 1])
            counts = np.asarray(group.signed_count_[:]).reshape(self.n_trials, -1)
            self._counts[:, presentation, columns] = counts
            totals = np.asarray(group.spike_count_[:]).reshape(self.n_trials, -1).sum(axis=1)
            self._totals[:, presentation, layer] = totals
        last = self._groups[len(self._widths) - 1]
        self._potentials[:, presentation] = np.asarray(last.v_[:]).reshape(self.n_trials, -1)
        steps = np.asarray(last.alive_steps_[:]).reshape(self.n_trials, -1)
        self._alive_steps[:, presentation] = steps

    def activity(self) -> Activity:
        """What was counted in the last run."""
        return Activity(
            counts=self._counts,
            totals=self._totals,
            potentials=self._potentials,
            alive_steps=self._alive_steps,
        )

    def spikes(self) -> Array:
        """Spikes of the last run: rows trial, presentation, step, layer, unit, sign, sorted."""
        n_steps, rows = self._lowered.layers.n_steps, [self._sent]
        for layer, monitor in self._monitors.items():
            trial, unit = np.divmod(np.asarray(monitor.i[:]), self._widths[layer])
            step = np.rint(np.asarray(monitor.t_[:]) / self._lowered.model.time_step_s)
            presentation, step = np.divmod(step.astype(np.int64), n_steps)
            sign = np.asarray(monitor.fired_[:]).astype(np.int64)
            rows.append(
                np.stack([trial, presentation, step, np.full_like(trial, layer), unit, sign])
            )
        together = np.concatenate(rows, axis=1).astype(np.int64)
        return together[:, np.lexsort(together[[4, 2, 3, 1, 0]])]
