"""Stuck devices and flipped bits: what each of them does to the weight of its synapse."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from neurosim.crossbar import HALVES, CrossbarDevice, Half, StuckState, scale_of
from neurosim.deployment import Deployment
from neurosim.errors import InputError
from neurosim.faults import BitFlip, Cluster, FaultProcess, StuckDevice
from neurosim.layers import Array
from neurosim.physical_sites import SiteGroups, groups_of

__all__ = ["WeightSites", "count_sites", "weight_sites"]

# One of the devices of a weight, and its slice; or a bit.
_Part: TypeAlias = tuple[Half, int]


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


def _parts_of(deployment: Deployment, process: FaultProcess) -> tuple[CrossbarDevice, list[_Part]]:
    """The device, and which parts of every weight a process of devices or bits may hit.

    Raises
    ------
    InputError
        If the chip has no such devices or bits.
    """
    device, chip = deployment.chip.device, deployment.chip.name
    if isinstance(process, StuckDevice):
        if device is None or device.mapping == "digital":
            raise InputError(
                f"faults: expected a chip with analog devices for stuck ones, got {chip}, "
                f"{_found(device)}; give its profile a [device] table with a "
                '"differential" or "offset" mapping'
            )
        halves = HALVES[:1] if device.mapping == "offset" else HALVES
        return device, [(half, k) for half in halves for k in range(device.slices)]
    assert isinstance(process, BitFlip)
    if device is None or device.mapping != "digital" or device.bits is None:
        raise InputError(
            f"faults: expected a chip with digital weights for bits that flip, got {chip}, "
            f'{_found(device)}; give its profile a [device] table with a "digital" mapping and bits'
        )
    bits = range(device.bits) if process.bits is None else process.bits
    if max(bits) >= device.bits:
        raise InputError(
            f"bits: expected bits from 0 to {device.bits - 1} of {chip}, got {max(bits)}"
        )
    return device, [("plus", bit) for bit in bits]


def _stuck_devices(deployment: Deployment, process: StuckDevice) -> WeightSites:
    _, parts = _parts_of(deployment, process)
    total = process.probability
    shares = (process.stuck_lrs / total, process.stuck_hrs / total) if total else (1.0, 0.0)
    states: tuple[StuckState, StuckState] = ("stuck_lrs", "stuck_hrs")
    shifts = [
        [
            [
                deployment.stuck_shifts(number, half=half, slice_number=k, state=state)
                for half, k in parts
            ]
            for state in states
        ]
        for number in process.layers_in(deployment.network.widths)
    ]
    return _sites(deployment, process, shifts, shares)


def _bits(deployment: Deployment, process: BitFlip) -> WeightSites:
    device, parts = _parts_of(deployment, process)
    shifts = []
    for number in process.layers_in(deployment.network.widths):
        weight = deployment.trained.layers[number - 1].weight
        scale = scale_of(weight)
        held = device.weights(device.target_digits(weight, scale), scale)
        flipped = [device.flipped_weight(weight, scale, bit=bit) - held for _, bit in parts]
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
        copies = deployment.copies[number - 1]
        held = np.tile(deployment.network.layers[number - 1].weight.ravel(), copies)
        of_layer: Array = np.array(parts).reshape(len(shares), len(parts[0]), -1)
        of_layer = np.tile(of_layer, copies)
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
    """How many sites of a deployment a process may hit, without making them where it can.

    Raises
    ------
    InputError
        If the chip has no such sites.
    """
    layers, blocks = process.layers_in(deployment.network.widths), deployment.blocks
    here = [block for block in blocks if block.layer in layers]
    if not isinstance(process, Cluster):
        if process.site == "row":
            return sum(block.rows for block in here)
        if process.site == "column":
            return sum(block.columns for block in here)
        if process.site == "core":
            return len(here)
    groups = groups_of(deployment, process)
    if groups is not None:
        return len(groups)
    sites = deployment.sites
    offsets = sites.neuron_offsets if process.site == "neuron" else sites.synapse_offsets
    chosen = np.array(layers, np.int64)
    n = int((offsets[chosen + 1] - offsets[chosen]).sum())
    if isinstance(process, StuckDevice | BitFlip):
        return n * len(_parts_of(deployment, process)[1])
    return n
