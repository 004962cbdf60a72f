"""From a network and a spiking model to the arrays that both spiking backends run.

A spike of layer l stands for the same share of the layer's largest activity, `scales[l]`: weights
and biases are scaled so that spikes alone carry the activities from layer to layer.
"""

from dataclasses import dataclass

import numpy as np

from neurosim.errors import InputError
from neurosim.faults import Events, FaultBatch
from neurosim.kernels import spiking as kernels
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.spiking_model import SpikingModel

__all__ = ["Lowered", "lower", "windows_of"]

_KINDS = {
    "relu": kernels.RELU,
    "identity": kernels.IDENTITY,
    "leaky_relu": kernels.LEAKY_RELU,
    "sigmoid": kernels.SIGMOID,
    "tanh": kernels.TANH,
    "softplus": kernels.SOFTPLUS,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Lowered:
    """A network as spiking layers, with its inputs.

    Parameters
    ----------
    network : Network
    model : SpikingModel
    layers : kernels.Layers
    currents : ndarray, (n_inputs, n_0)
        Constant inputs; all 0 where inputs are spikes.
    signs : ndarray, (n_inputs, n_0)
        1, or -1 where the spikes of an input are negative.
    trains : kernels.Spikes
        Spikes of layer 0; none where inputs are currents.
    """

    network: Network
    model: SpikingModel
    layers: kernels.Layers
    currents: Array
    signs: Array
    trains: kernels.Spikes

    @property
    def n_inputs(self) -> int:
        """Presentations in a trial."""
        return len(self.currents)

    def activity(self, layer: int, counts: Array) -> Array:
        """Activities of layer l from its spike counts, (..., n_l)."""
        steps = self.layers.n_steps - self.layers.firsts[layer]
        return counts / (self.layers.gains[layer] * steps)

    def outputs(self, counts: Array, potentials: Array, alive_steps: Array) -> Array:
        """Outputs of layer L before the read-out off the chip, (..., n_L)."""
        depth = self.network.depth
        if self.model.readout == "count":
            return self.activity(depth, counts)
        # What a neuron integrated is its mean input; while it is dead it reads 0.
        steps = self.layers.n_steps - self.layers.firsts[depth]
        mean = potentials / np.maximum(alive_steps, 1)
        return self.network.layers[-1].activation(mean) * (alive_steps / steps)


def lower(network: Network, model: SpikingModel, inputs: Array) -> Lowered:
    """Scale a network for spikes and code its inputs.

    Parameters
    ----------
    network : Network
    model : SpikingModel
    inputs : ndarray, (n_inputs, n_0)

    Raises
    ------
    InputError
        If the model does not fit the network; the message says why.
    """
    depth, widths = network.depth, network.widths
    inputs = inputs.astype(np.float64, copy=False)
    scales = model.scales or model.scales_of(network.activations(inputs))
    if len(scales) != depth + 1:
        raise InputError(
            f"scales: expected {depth + 1}, one for each layer from 0 to {depth}, got {len(scales)}"
        )
    for number, layer in enumerate(network.layers, start=1):
        if layer.activation.kind not in _KINDS:
            raise InputError(
                f"layer {number}: expected an activation that spikes can carry, "
                f"{', '.join(_KINDS)}, got {layer.activation}"
            )
    kinds = [_KINDS[layer.activation.kind] for layer in network.layers]
    if model.readout == "membrane":
        kinds[-1] = kernels.MEMBRANE
    _check_kinds(network, model, kinds)
    current_inputs = model.coding == "current"
    # A layer begins when the first spikes of the layer before can have arrived.
    firsts = np.maximum(np.arange(depth + 1) - int(current_inputs), 0)
    if model.n_steps <= firsts[-1]:
        raise InputError(
            f"duration_s: expected more than {firsts[-1]} time steps, one for each layer that a "
            f"spike must cross, got {model.n_steps}"
        )
    rate, theta = model.largest_rate, model.threshold_v
    gains = rate / np.array(scales)
    keep_current = (
        0.0
        if model.synaptic_time_constant_s is None
        else 1 - model.time_step_s / model.synaptic_time_constant_s
    )
    weights, biases = [], [np.zeros(widths[0])]
    for number, (layer, kind) in enumerate(zip(network.layers, kinds, strict=True), start=1):
        # IF neurons integrate shares of their threshold, the others activities themselves.
        unit = theta * gains[number] if kind in (kernels.RELU, kernels.IDENTITY) else 1.0
        carried = 1.0
        if number > 1 or not current_inputs:
            carried = (1 - keep_current) / gains[number - 1]
        weights.append((layer.weight.T.astype(np.float64) * (unit * carried)).ravel())
        biases.append(layer.bias.astype(np.float64) * unit)
    layers = kernels.Layers(
        offsets=np.cumsum([0, *widths], dtype=np.int64),
        weights=np.concatenate(weights),
        weight_offsets=np.cumsum([0, 0, *(len(w) for w in weights)], dtype=np.int64),
        biases=np.concatenate(biases),
        kinds=np.array([kernels.RELU, *kinds], np.int64),
        parameters=np.array([0.0, *(layer.activation.parameter for layer in network.layers)]),
        gains=gains,
        firsts=firsts.astype(np.int64),
        threshold=float(theta),
        keep=_keep(model),
        keep_current=keep_current,
        refractory=model.refractory_steps,
        reset_to_zero=model.reset == "zero",
        current_inputs=current_inputs,
        n_steps=model.n_steps,
        ticks=model.ticks,
    )
    offsets, units = _input_trains(model, inputs, gains[0])
    whole = np.zeros((len(inputs), depth + 1, model.n_steps + 1), np.int64)
    whole[:, 0] = offsets
    return Lowered(
        network=network,
        model=model,
        layers=layers,
        currents=np.ascontiguousarray(inputs) if current_inputs else np.zeros_like(inputs),
        signs=np.where(inputs < 0, -1.0, 1.0),
        trains=kernels.Spikes(offsets=whole, units=units),
    )


def _keep(model: SpikingModel) -> float:
    if model.membrane_time_constant_s is None:
        return 1.0
    return 1 - model.time_step_s / model.membrane_time_constant_s


def _check_kinds(network: Network, model: SpikingModel, kinds: list[int]) -> None:
    """Refuse activations that a leak or a reset to 0 would falsify."""
    for number, (layer, kind) in enumerate(zip(network.layers, kinds, strict=True), start=1):
        curved = kernels.LEAKY_RELU <= kind < kernels.MEMBRANE
        if curved and model.neuron == "lif":
            raise InputError(
                f"layer {number}: expected relu or identity for LIF neurons, got "
                f"{layer.activation}: a leaky membrane does not know its mean input, to which "
                'the function must be applied; use neuron "if"'
            )
        if model.reset == "zero" and (curved or kind == kernels.IDENTITY):
            raise InputError(
                f'layer {number}: expected relu for reset "zero", got {layer.activation}: its '
                "neurons send positive and negative spikes or follow a function of their mean "
                'input, which only a reset by subtraction keeps; use reset "subtract"'
            )


def _input_trains(model: SpikingModel, inputs: Array, gain: float) -> tuple[Array, Array]:
    """Spikes of layer 0: offsets (n_inputs, n_steps + 1), units; ~unit for negative inputs."""
    n_inputs, n_0 = inputs.shape
    offsets = np.zeros((n_inputs, model.n_steps + 1), np.int64)
    found = [np.empty(0, np.int32)]
    end = 0
    for x, values in enumerate(inputs if model.coding != "current" else ()):
        rates = np.abs(values) * gain
        if model.coding == "regular":
            # The spikes of an integrate-and-fire neuron with this constant input.
            ramp = np.floor(np.minimum(rates, 1) * np.arange(model.n_steps + 1)[:, None] + 1e-9)
            spikes = np.diff(ramp, axis=0) > 0
        else:
            stream = np.random.Generator(np.random.Philox(key=[model.input_seed, x]))
            spikes = stream.random((model.n_steps, n_0)) < rates
        steps, units = np.nonzero(spikes)
        found.append(np.where(values[units] < 0, ~units, units).astype(np.int32))
        offsets[x] = end + np.searchsorted(steps, np.arange(model.n_steps + 1))
        end += len(units)
    return offsets, np.concatenate(found)


def windows_of(batch: FaultBatch) -> tuple[kernels.Windows, kernels.Windows]:
    """Fault events of neurons and of synapses, as the kernel reads them."""
    return _windows(batch, batch.neurons, "neuron"), _windows(batch, batch.synapses, "synapse")


def _windows(batch: FaultBatch, events: Events, kind: str) -> kernels.Windows:
    sites = batch.sites
    if kind == "neuron":
        layer, out = sites.neurons(events.site)
        pre = out
    else:
        layer, out, in_ = sites.synapses(events.site)
        pre = sites.neuron_numbers(layer - 1, in_)
    return kernels.Windows(
        offsets=events.offsets.astype(np.int64),
        site=events.site.astype(np.int64),
        layer=layer.astype(np.int64),
        pre=pre.astype(np.int64),
        out=out.astype(np.int64),
        start=events.start.astype(np.int64),
        stop=events.stop.astype(np.int64),
    )
