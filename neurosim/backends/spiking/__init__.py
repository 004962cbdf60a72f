"""Spiking backends: the same faults in networks that run in time.

"spiking" runs in Brian2 and is the oracle, "spiking-compiled" in a kernel; both give the same
spikes. docs/spiking.md has the model.
"""

from neurosim.backends.spiking.activity import Rasters, SpikingBackend
from neurosim.backends.spiking.compiled import CompiledSimulator
from neurosim.backends.spiking.lowering import lower
from neurosim.layers import Array
from neurosim.network import Network
from neurosim.spiking_model import SpikingModel

__all__ = ["Rasters", "SpikingBackend", "brian_backend", "compiled_backend"]


def compiled_backend(
    network: Network, inputs: Array, dtype: str, model: SpikingModel
) -> SpikingBackend:
    """The backend that runs in a kernel, for flattened inputs (n_inputs, n_0)."""
    lowered = lower(network, model, inputs)
    return SpikingBackend(lowered, CompiledSimulator(lowered), dtype)


def brian_backend(
    network: Network, inputs: Array, dtype: str, model: SpikingModel, target: str = "auto"
) -> SpikingBackend:
    """The backend that runs in Brian2; target: "auto", "cython" or "numpy"."""
    from neurosim.backends.spiking.brian import BrianSimulator  # Brian2 takes a second to import

    lowered = lower(network, model, inputs)
    return SpikingBackend(lowered, BrianSimulator(lowered, target), dtype)
