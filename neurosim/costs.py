"""What an inference costs on a chip, to first order: energy, time, cores, with replicas."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neurosim.chip import Quantity
from neurosim.deployment import Deployment
from neurosim.errors import InputError
from neurosim.spiking_model import SpikingModel

__all__ = ["Cost", "cost"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one inference on R replicas; `cost` makes it, docs/hardware-profiles.md explains.

    Parameters
    ----------
    chip : str
    replicas : int
    cores : int
        Of all replicas.
    chips : int
        Chips that hold them; a replica is not split over chips.
    multiply_accumulates : int
        Synapses, each of which counts once an inference; of all replicas.
    spikes, synaptic_operations : float or None
        Spikes that neurons send and synapses that they reach in an inference, of all replicas;
        None where the chip does not spike or no inputs were given.
    energy_j, latency_s : float or None
        None where a number is missing.
    missing : tuple of str
        What the profile or the call lacks for the rest.
    """

    chip: str
    replicas: int
    cores: int
    chips: int
    multiply_accumulates: int
    spikes: float | None
    synaptic_operations: float | None
    energy_j: float | None
    latency_s: float | None
    missing: tuple[str, ...]

    def __str__(self) -> str:
        whole = "1 chip" if self.chips == 1 else f"{self.chips} chips"
        copies = "" if self.replicas == 1 else f" with {self.replicas} replicas"
        lines = [f"cost of one inference on {self.chip}{copies}: {self.cores} cores of {whole}"]
        lines.append(f"  {self.multiply_accumulates} multiply-accumulates")
        if self.synaptic_operations is not None:
            lines.append(
                f"  {self.synaptic_operations:.4g} synaptic operations, {self.spikes:.4g} spikes"
            )
        if self.energy_j is not None:
            lines.append(f"  energy {self.energy_j:.4g} J")
        if self.latency_s is not None:
            lines.append(f"  latency {self.latency_s:.4g} s")
        return "\n".join([*lines, *(f"  {text}" for text in self.missing)])


def cost(deployment: Deployment, inputs: npt.ArrayLike | None = None, *, replicas: int = 1) -> Cost:
    """Energy, latency and cores of one inference, from the numbers of the chip's profile.

    Parameters
    ----------
    deployment : Deployment
    inputs : array_like, shape (n_inputs, *input_shape), optional
        For chips that spike: their activities say how many spikes there are, on average.
    replicas : int
        Copies that compute at the same time; their median is taken off the chip and not counted.

    Raises
    ------
    InputError
        If `replicas` is no whole number from 1 on, or the inputs do not fit.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[[[1, 1]]], biases=[[0]], activations=["relu"])
    >>> print(cost(ns.deploy(network, ns.Chip.load("crossbar-256")), replicas=3))
    cost of one inference on crossbar-256 with 3 replicas: 3 cores of 1 chip
      6 multiply-accumulates
      latency unknown: the profile has no time_per_matrix_vector_product_s or [neurons]
      energy unknown: the profile has no energy_per_multiply_accumulate_j or \
energy_per_synaptic_operation_j
    """
    if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 1:
        raise InputError(f"replicas: expected a whole number from 1 on, got {replicas!r}")
    chip, network = deployment.chip, deployment.network
    operation = _number(deployment, "energy.energy_per_synaptic_operation_j")
    product = _number(deployment, "energy.energy_per_multiply_accumulate_j")
    spike = _number(deployment, "energy.energy_per_spike_j")
    static = _number(deployment, "energy.static_power_w")
    per_product = _number(deployment, "timing.time_per_matrix_vector_product_s")
    # A kernel is used at every position of its map.
    layers = zip(network.layers, network.widths[1:], strict=True)
    synapses = sum(width * layer.matrix_shape[1] for layer, width in layers)
    missing = []

    model = chip.spiking
    latency = None
    if per_product is not None:
        latency = per_product * deployment.products
    elif model is not None:
        latency = model.duration_s
    else:
        missing.append(
            "latency unknown: the profile has no time_per_matrix_vector_product_s or [neurons]"
        )

    spikes = operations = None
    if inputs is not None and product is None and (model is not None or operation is not None):
        spikes, operations = _spikes(deployment, model or SpikingModel(), inputs)
    energy = None
    if product is not None:
        energy = product * synapses
    elif operation is None:
        missing.append(
            "energy unknown: the profile has no energy_per_multiply_accumulate_j or "
            "energy_per_synaptic_operation_j"
        )
    elif operations is None or spikes is None:
        missing.append("energy unknown: it depends on the spikes, and those on inputs; none given")
    else:
        energy = operation * operations + (spike or 0.0) * spikes
        if model is None:
            missing.append(
                "the profile has no [neurons]: spikes are counted with SpikingModel(), "
                f"{SpikingModel()}"
            )
    if energy is not None:
        if static is None:
            missing.append("without static power: the profile has no static_power_w")
        elif latency is None:
            missing.append("without static power: the latency is unknown")
        else:
            energy += static * latency

    cores, chips = deployment.n_cores * replicas, 1
    if chip.cores is not None:
        chips = -(-replicas // (chip.cores // deployment.n_cores))
    return Cost(
        chip=chip.name,
        replicas=replicas,
        cores=cores,
        chips=chips,
        multiply_accumulates=synapses * replicas,
        spikes=None if spikes is None else spikes * replicas,
        synaptic_operations=None if operations is None else operations * replicas,
        energy_j=None if energy is None else energy * replicas,
        latency_s=latency,
        missing=tuple(missing),
    )


def _number(deployment: Deployment, key: str) -> float | None:
    quantity = deployment.chip.quantities.get(key)
    return float(quantity.value) if isinstance(quantity, Quantity) else None


def _spikes(
    deployment: Deployment, model: SpikingModel, inputs: npt.ArrayLike
) -> tuple[float, float]:
    """Mean numbers of spikes and of synaptic operations of one inference, from the activities."""
    network = deployment.network
    network.require_chain("a count of spikes")
    activities = network.activations(network.flatten(inputs).astype(np.float64, copy=False))
    scales = model.scales if model.scales is not None else model.scales_of(activities)
    spikes = operations = 0.0
    for number, (y, scale) in enumerate(zip(activities, scales, strict=True)):
        # A layer's share of the largest rate; neurons below 0 are silent, inputs of either sign
        # are sent.
        share = np.minimum(np.abs(y) if number == 0 else np.maximum(y, 0), scale) / scale
        sent = float(share.sum(axis=1).mean()) * model.largest_rate * model.n_steps
        spikes += sent
        if number < network.depth:
            operations += sent * network.layers[number].n_out
    return spikes, operations
