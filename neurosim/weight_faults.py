"""Stuck devices and flipped bits: what each of them does to the weight of its synapse."""

from dataclasses import dataclass

import numpy as np

from neurosim.crossbar import HALVES, CrossbarDevice, scale_of
from neurosim.deployment import Deployment
from neurosim.errors import InputError
from neurosim.faults import BitFlip, FaultProcess, StuckDevice
from neurosim.layers import Array
from neurosim.physical_sites import SiteGroups, groups_of

__all__ = ["WeightSites", "count_sites", "weight_sites"]


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightSites:
    """Devices or bits of the weights of some layers, synapse after synapse.

    Parameters
    ----------
    synapse : ndarray of int64, (n_sites,)
        The synapse that each is part of.
    weight : ndarray, (n_sites,)
        The weight of that synapse without faults.
    shift : ndarray, (n_states, n_sites)
        What is added to the weight in each of the states that exclude each other.
    shares : tuple of float
        Probability of each state of a site that is faulty; they add up to 1.
    layer : ndarray of int64, (n_sites,)
    """

    synapse: Array
    weight: Array
    shift: Array
    shares: tuple[float, ...]
    layer: Array

    def __len__(self) -> int:
        return len(self.synapse)

    @property
    def groups(self) -> SiteGroups:
        """Each state of each site as a group of one synapse that is set to its new weight."""
        n, n_states = len(self), len(self.shares)
        states = [f"stuck in {name}" for name in ("LRS", "HRS")] if n_states > 1 else ["flipped"]
        return SiteGroups(
            neuron_offsets=np.zeros(n * n_states + 1, np.int64),
            neurons=np.empty(0, np.int64),
            synapse_offsets=np.arange(n * n_states + 1),
            synapses=np.tile(self.synapse, n_states),
            layer=np.tile(self.layer, n_states),
            names=tuple(f"part {k} of the weights, {state}" for state in states for k in range(n)),
            weights=(self.weight + self.shift).ravel(),
            shares=self.shares,
        )

    def of_layer(self, layer: int) -> "WeightSites":
        """The sites of one layer, in their order."""
        chosen = self.layer == layer
        return WeightSites(
            synapse=self.synapse[chosen],
            weight=self.weight[chosen],
            shift=self.shift[:, chosen],
            shares=self.shares,
            layer=self.layer[chosen],
        )


def weight_sites(deployment: Deployment, process: FaultProcess) -> WeightSites | None:
    """The devices or bits of a process; None for a process of anything else.

    Raises
    ------
    InputError
        If the chip has no such devices or bits.
    """
    if isinstance(process, StuckDevice):
        return _stuck_devices(deployment, process)
    if isinstance(process, BitFlip):
        return _bits(deployment, process)
    return None


def _stuck_devices(deployment: Deployment, process: StuckDevice) -> WeightSites:
    device = deployment.chip.device
    if device is None or device.mapping == "digital":
        raise InputError(
            f"faults: expected a chip with analog devices for stuck ones, got "
            f"{deployment.chip.name}, {_found(device)}; give its profile a [device] table with a "
            '"differential" or "offset" mapping'
        )
    total = process.probability
    shares = (process.stuck_lrs / total, process.stuck_hrs / total) if total else (1.0, 0.0)
    halves = HALVES[:1] if device.mapping == "offset" else HALVES
    shifts = []
    for number in process.layers_in(deployment.network.widths):
        weight = deployment.trained.layers[number - 1].weight
        scale, digits = scale_of(weight), deployment.device_digits(number)
        held = device.weights(digits, scale)
        shifts.append([
            [
                device.stuck_weight(
                    weight, scale, half=half, state=state, slice_number=k, digits=digits
                ) - held
                for half in halves for k in range(device.slices)
            ]
            for state in ("stuck_lrs", "stuck_hrs")
        ])  # fmt: skip
    return _sites(deployment, process, shifts, shares)


def _bits(deployment: Deployment, process: BitFlip) -> WeightSites:
    device = deployment.chip.device
    if device is None or device.mapping != "digital" or device.bits is None:
        raise InputError(
            f"faults: expected a chip with digital weights for bits that flip, got "
            f"{deployment.chip.name}, {_found(device)}; give its profile a [device] table with a "
            '"digital" mapping and bits'
        )
    bits = range(device.bits) if process.bits is None else process.bits
    if max(bits) >= device.bits:
        raise InputError(
            f"bits: expected bits from 0 to {device.bits - 1} of {deployment.chip.name}, got "
            f"{max(bits)}"
        )
    shifts = []
    for number in process.layers_in(deployment.network.widths):
        weight = deployment.trained.layers[number - 1].weight
        scale = scale_of(weight)
        held = device.weights(device.target_digits(weight, scale), scale)
        flipped = [device.flipped_weight(weight, scale, bit=bit) - held for bit in bits]
        shifts.append([flipped])
    return _sites(deployment, process, shifts, (1.0,))


def _found(device: CrossbarDevice | None) -> str:
    return "which has no device" if device is None else f"whose device is {device}"


def _sites(
    deployment: Deployment,
    process: FaultProcess,
    shifts: list[list[list[Array]]],
    shares: tuple[float, ...],
) -> WeightSites:
    """Shifts by layer, state and part of a weight as sites, synapse after synapse."""
    synapse, weight, shift, layer = [], [], [], []
    layers = process.layers_in(deployment.network.widths)
    for number, parts in zip(layers, shifts, strict=True):
        held = deployment.network.layers[number - 1].weight.ravel()
        of_layer: Array = np.array(parts).reshape(len(shares), -1, len(held))
        n = of_layer.shape[1]
        first = deployment.sites.synapse_offsets[number]
        synapse.append(first + np.repeat(np.arange(len(held)), n))
        weight.append(np.repeat(held.astype(np.float64), n))
        shift.append(of_layer.transpose(0, 2, 1).reshape(len(shares), -1))
        layer.append(np.full(n * len(held), number))
    return WeightSites(
        synapse=np.concatenate(synapse),
        weight=np.concatenate(weight),
        shift=np.concatenate(shift, axis=1),
        shares=shares,
        layer=np.concatenate(layer),
    )


def count_sites(deployment: Deployment, process: FaultProcess) -> int:
    """How many sites of a deployment a process may hit."""
    groups = groups_of(deployment, process)
    if groups is not None:
        return len(groups)
    parts = weight_sites(deployment, process)
    if parts is not None:
        return len(parts)
    sites = deployment.sites
    offsets = sites.neuron_offsets if process.site == "neuron" else sites.synapse_offsets
    layers = np.array(process.layers_in(sites.widths), np.int64)
    return int((offsets[layers + 1] - offsets[layers]).sum())
