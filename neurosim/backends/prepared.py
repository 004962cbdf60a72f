"""A network and its inputs made ready for the kernels: golden values in the engine's dtype."""

from typing import Any, TypeAlias

import numpy as np

from neurosim.errors import InputError
from neurosim.kernels import activations as codes
from neurosim.layers import Activation, Array
from neurosim.network import Network

__all__ = ["PreparedActivation", "PreparedNetwork", "has_kernels"]

# Kind, parameter and the two golden caches of `kernels.activations`.
PreparedActivation: TypeAlias = tuple[int, float, Array, Array]

_CODES = {
    "identity": codes.IDENTITY,
    "relu": codes.RELU,
    "leaky_relu": codes.LEAKY_RELU,
    "sigmoid": codes.SIGMOID,
    "tanh": codes.TANH,
    "softplus": codes.SOFTPLUS,
}


def has_kernels(network: Network) -> bool:
    """Whether there are kernels for all of it: a chain of dense layers with activations known."""
    return not network.nodes and all(layer.activation.kind in _CODES for layer in network.layers)


class PreparedNetwork:
    """Golden values of all layers, made in float64 and kept in the engine's dtype.

    Parameters
    ----------
    network : Network
    inputs : ndarray, (n_inputs, n_0)
    dtype : "float32" or "float64"

    Raises
    ------
    InputError
        If a golden value or weight is beyond the range of the dtype.
    """

    def __init__(self, network: Network, inputs: Array, dtype: str) -> None:
        self.network, self.dtype = network, np.dtype(dtype)
        y0 = inputs.astype(np.float64, copy=False)
        preactivations = network.preactivations(y0)
        outputs = [y0] + [
            layer.activation(z) for layer, z in zip(network.layers, preactivations, strict=True)
        ]
        weights = [layer.weight for layer in network.layers]
        largest = max(
            float(np.abs(values).max()) for values in (*outputs, *preactivations, *weights)
        )
        if not largest <= float(np.finfo(self.dtype).max):
            raise InputError(
                f"inputs: expected golden values in the range of {self.dtype}, got {largest:g}; "
                + ('use dtype "float64"' if self.dtype.itemsize == 4 else "scale the inputs")
            )
        self.n_inputs = len(y0)
        self.logits = outputs[-1]
        self.golden = network.read_out(outputs[-1]).astype(self.dtype)
        # Of layers 0..L; the copies with units first are for faults that all inputs share.
        # Copies: inputs are read-only, which kernels take for another type of array.
        self.outputs = [np.array(y, self.dtype, order="C") for y in outputs]
        self.outputs_t = [np.ascontiguousarray(y.T) for y in self.outputs]
        # Units whose golden output is not 0 on every input.
        self.active = [(y != 0).any(axis=0) for y in self.outputs]
        # Of layers 1..L, at index l - 1.
        self.weights = [layer.weight.astype(self.dtype) for layer in network.layers]
        self.weights_t = [np.ascontiguousarray(w.T) for w in self.weights]
        self.activations: list[PreparedActivation] = []
        self.activations_t: list[PreparedActivation] = []
        for layer, z in zip(network.layers, preactivations, strict=True):
            kind, caches = _prepare(layer.activation, z, self.dtype)
            parameter = layer.activation.parameter
            first, second = (np.ascontiguousarray(c, self.dtype) for c in caches)
            self.activations.append((kind, parameter, first, second))
            self.activations_t.append(
                (kind, parameter, np.ascontiguousarray(first.T), np.ascontiguousarray(second.T))
            )


def _prepare(
    activation: Activation, z: Array, dtype: np.dtype[Any]
) -> tuple[int, tuple[Array, Array]]:
    """Kind and golden caches of a layer, for the kernels of `neurosim.kernels.activations`."""
    kind = activation.kind
    if kind in ("sigmoid", "tanh"):
        sigmoid = activation if kind == "sigmoid" else Activation("sigmoid", 2.0)
        # exp(-700) is still a normal number in double precision; in single, changes stop at a
        # factor of 2^125, which must take the smallest sigma to 1.
        if np.abs(sigmoid.parameter * z).max() > (60 if dtype.itemsize == 4 else 700):
            return codes.WIDE_SIGMOID if kind == "sigmoid" else codes.WIDE_TANH, (z, z)
        scale, half = (1, sigmoid.parameter / 2) if kind == "sigmoid" else (2, 1)
        product = scale**2 * sigmoid(z) * sigmoid(-z)
        return _CODES[kind], (scale / 2 * np.tanh(half * z), product)
    if kind == "softplus":
        return _CODES[kind], (z, z)
    return _CODES[kind], (np.maximum(z, 0), np.minimum(z, 0))
