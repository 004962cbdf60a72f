"""Backends: what turns fault sets into errors. All of them keep the same contract.

A backend is made for one network and its inputs and has `golden` (n_inputs, n_outputs),
`errors(batch)`, `changes(batch)` and `errors_and_hidden(batch)`. Spiking backends also have the
rates of neurons and single spikes.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy.typing as npt

from neurosim.backends.compiled import CompiledBackend
from neurosim.backends.graph import GraphBackend
from neurosim.backends.reference import ReferenceBackend
from neurosim.backends.spiking import SpikingBackend, brian_backend, compiled_backend
from neurosim.campaign import Campaign, spiking_model_for
from neurosim.deployment import Deployment
from neurosim.errors import InputError
from neurosim.faults import FaultBatch, FaultSet
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.spiking_model import SpikingModel
from neurosim.statistics import Changes

__all__ = ["Backend", "SpikingBackend", "backend_of", "evaluate", "make_backend"]


class Backend(Protocol):
    """What every backend offers."""

    golden: Array

    def errors(self, batch: FaultBatch) -> Array:
        """Faulty minus golden outputs, (n_trials, n_inputs, n_outputs)."""
        ...

    def changes(self, batch: FaultBatch) -> Changes:
        """The same without its zeros."""
        ...

    def errors_and_hidden(self, batch: FaultBatch) -> tuple[Array, list[Array]]:
        """Errors, and the errors of layers 1..L-1, each (n_trials, n_inputs, n_l)."""
        ...


def make_backend(
    name: str, network: Network, inputs: Array, dtype: str, spiking: SpikingModel | None = None
) -> Backend:
    """The backend of that name for a network and flattened inputs (n_inputs, n_0)."""
    model = spiking or SpikingModel()
    kinds: dict[str, Callable[[Network, Array, str], Backend]] = {
        "compiled": GraphBackend if network.nodes else CompiledBackend,
        "reference": ReferenceBackend,
        "spiking": partial(brian_backend, model=model),
        "spiking-compiled": partial(compiled_backend, model=model),
    }
    if name not in kinds:
        raise InputError(f"backend: expected one of {', '.join(kinds)}, got {name!r}")
    return kinds[name](network, inputs, dtype)


def backend_of(campaign: Campaign) -> Backend:
    """The backend a campaign asks for."""
    return make_backend(
        campaign.backend, campaign.network, campaign.inputs, campaign.dtype, campaign.spiking
    )


def evaluate(
    deployment: Deployment,
    fault_set: FaultSet,
    inputs: npt.ArrayLike,
    *,
    backend: str = "compiled",
    dtype: str = "float64",
    spiking: SpikingModel | None = None,
) -> Array:
    """Error of a fault set that the user chose.

    Parameters
    ----------
    deployment : Deployment
    fault_set : FaultSet
        Its n_presentations must be the number of inputs (times the ticks of a spiking model).
    inputs : array_like, (n_inputs, *input_shape)
    backend : "compiled", "reference", "spiking-compiled" or "spiking"
    dtype : "float32" or "float64"
    spiking : SpikingModel, optional
        For the spiking backends; by default that of the chip, or SpikingModel().

    Returns
    -------
    ndarray, (n_inputs, n_outputs)
        Faulty minus golden outputs.

    Raises
    ------
    InputError
        If the fault set does not fit the network or the inputs.

    Examples
    --------
    >>> import neurosim as ns
    >>> network = ns.Network.dense(weights=[[[1, 2]]], biases=[[0]], activations=["identity"])
    >>> deployment = ns.deploy(network, ns.Chip.load("ideal"))
    >>> ns.evaluate(deployment, ns.FaultSet(n_presentations=1, neurons=[(0, 1, 0, 1)]), [[3, 4]])
    array([[-8.]])
    """
    flat = deployment.network.flatten(inputs)
    model = spiking_model_for(backend, spiking, deployment.chip)
    windows = len(flat) * (1 if model is None else model.ticks)
    if fault_set.n_presentations != windows:
        raise InputError(
            f"fault_set: expected one of {windows} presentations, as many as there are inputs, "
            f"got {fault_set.n_presentations}"
            if model is None or model.ticks == 1
            else f"fault_set: expected one of {windows} windows, {model.ticks} ticks for each of "
            f"{len(flat)} inputs, got {fault_set.n_presentations}"
        )
    engine = make_backend(backend, deployment.network, flat, dtype, model)
    return engine.errors(FaultBatch.of(fault_set, deployment.sites))[0]
