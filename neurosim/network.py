"""The trained network: its layers and its golden (fault-free) outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurosim.errors import FormatError, InputError
from neurosim.formats import read_network, write_npz
from neurosim.layers import Activation, Array, Dense, softmax

__all__ = ["Network"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A trained feed-forward network.

    Parameters
    ----------
    layers : sequence of Dense
        The weighted layers 1..L in order.
    readout : None or "softmax"
        What is computed off the chip from the outputs of layer L; it cannot fail. A dead output
        has logit 0.
    input_shape : tuple of int, optional
        Shape of one input, flattened in C order; (n_0,) by default.

    Raises
    ------
    InputError
        If the shapes of neighbouring layers do not fit.

    Examples
    --------
    >>> network = Network.dense(weights=[[[1.0, -1.0]]], biases=[[0.5]], activations=["identity"])
    >>> network(np.array([[2.0, 1.0]]))
    array([[1.5]])
    """

    layers: tuple[Dense, ...]
    readout: str | None = None
    input_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise InputError("layers: expected at least one weighted layer, got none")
        for number, (before, after) in enumerate(pairwise(self.layers), start=2):
            if after.n_in != before.n_out:
                raise InputError(
                    f"layers: expected layer {number} to have {before.n_out} inputs, the number "
                    f"of neurons of layer {number - 1}, got {after.n_in}; weights are "
                    "(n_out, n_in): is one transposed?"
                )
        if self.readout not in (None, "softmax"):
            raise InputError(f'readout: expected None or "softmax", got {self.readout!r}')
        shape = tuple(int(n) for n in self.input_shape) or (self.layers[0].n_in,)
        if min(shape) < 1 or int(np.prod(shape)) != self.layers[0].n_in:
            raise InputError(
                f"input_shape: expected {self.layers[0].n_in} values in all, the inputs of "
                f"layer 1, got {shape}"
            )
        object.__setattr__(self, "input_shape", shape)

    @staticmethod
    def dense(
        *,
        weights: Sequence[npt.ArrayLike],
        biases: Sequence[npt.ArrayLike],
        activations: Sequence[str],
        input_shape: tuple[int, ...] = (),
    ) -> "Network":
        """Build a fully connected network from its weight matrices.

        Parameters
        ----------
        weights : sequence of array_like, shapes (n_1, n_0), (n_2, n_1), ...
        biases : sequence of array_like, shapes (n_1,), (n_2,), ...
        activations : sequence of str
            One a layer: "identity", "relu", "leaky_relu(0.01)", "sigmoid(4)", "tanh",
            "softplus"; "softmax" for the last one makes a read-out off the chip.
        input_shape : tuple of int, optional
            Shape of one input; (n_0,) by default.

        Raises
        ------
        InputError
            If the lists differ in length or a matrix has a wrong shape.

        Examples
        --------
        >>> Network.dense(weights=[np.eye(2)], biases=[[0, 0]], activations=["softmax"]).readout
        'softmax'
        """
        if not len(weights) == len(biases) == len(activations):
            raise InputError(
                "weights, biases, activations: expected one of each a layer, got "
                f"{len(weights)}, {len(biases)} and {len(activations)}"
            )
        readout = None
        spelled = list(activations)
        if spelled and spelled[-1] == "softmax":
            readout, spelled[-1] = "softmax", "identity"
        layers = []
        for number, parts in enumerate(zip(weights, biases, spelled, strict=True), start=1):
            try:
                weight, bias, activation = parts
                layers.append(
                    Dense(weight=weight, bias=bias, activation=Activation.parse(activation))  # type: ignore[arg-type]
                )
            except InputError as error:
                raise InputError(f"layer {number}: {error}") from error
        return Network(layers=tuple(layers), readout=readout, input_shape=input_shape)

    @staticmethod
    def load(path: str | PathLike[str]) -> "Network":
        """Read a network from a file; the ending says which format (.npz, .onnx).

        Raises
        ------
        FormatError
            If the file is missing, truncated, foreign, or holds what neurosim cannot represent;
            the message names the node.

        Examples
        --------
        >>> Network.load("digits.onnx")  # doctest: +SKIP
        """
        layers, readout, input_shape = read_network(Path(path))
        try:
            return Network(layers=layers, readout=readout, input_shape=input_shape)
        except InputError as error:
            raise FormatError(f"{path}: {error}") from error

    def save(self, path: str | PathLike[str]) -> None:
        """Write the network as .npz (the keys are documented in docs/formats.md)."""
        write_npz(Path(path), self.layers, self.readout, self.input_shape)

    @property
    def depth(self) -> int:
        """L, the number of weighted layers."""
        return len(self.layers)

    @property
    def widths(self) -> tuple[int, ...]:
        """n_0, n_1, ..., n_L."""
        return (self.layers[0].n_in, *(layer.n_out for layer in self.layers))

    def flatten(self, inputs: npt.ArrayLike) -> Array:
        """Inputs of shape (n_inputs, *input_shape) as (n_inputs, n_0), checked.

        Raises
        ------
        InputError
            If the shape is wrong or a value is not finite.
        """
        try:
            array = np.asarray(inputs)
        except ValueError as error:
            raise InputError(
                "inputs: expected an array (n_inputs, "
                f"{', '.join(map(str, self.input_shape))}), got a ragged list"
            ) from error
        if array.dtype.kind not in "fiub":
            raise InputError(f"inputs: expected real numbers, got dtype {array.dtype}")
        if array.shape[1:] not in (self.input_shape, self.widths[:1]) or array.ndim < 2:
            hint = (
                "; one input alone needs a first axis of length 1"
                if (array.shape in (self.input_shape, self.widths[:1]))
                else ""
            )
            raise InputError(
                f"inputs: expected shape (n_inputs, {', '.join(map(str, self.input_shape))}), "
                f"got {array.shape}{hint}"
            )
        if len(array) == 0:
            raise InputError("inputs: expected at least one input, got none")
        if not np.isfinite(array).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise InputError(f"inputs: expected finite numbers, got {array[where]} at {where}")
        if array.dtype.kind != "f" or array.dtype.itemsize < 4:
            array = array.astype(np.float64)
        return array.reshape(len(array), -1)

    def preactivations(self, y0: Array) -> list[Array]:
        """z_1, ..., z_L for flattened inputs (n_inputs, n_0), in the dtype of y0."""
        result, y = [], y0
        for layer in self.layers:
            result.append(layer.preactivation(y))
            y = layer.activation(result[-1])
        return result

    def activations(self, y0: Array) -> list[Array]:
        """y_0, y_1, ..., y_L for flattened inputs (n_inputs, n_0), before the read-out."""
        pairs = zip(self.layers, self.preactivations(y0), strict=True)
        return [y0, *(layer.activation(z) for layer, z in pairs)]

    def read_out(self, y: Array) -> Array:
        """Outputs from the outputs of layer L, (..., n_outputs): the part off the chip."""
        return softmax(y) if self.readout == "softmax" else y

    def __call__(self, inputs: npt.ArrayLike) -> Array:
        """Golden outputs.

        Parameters
        ----------
        inputs : array_like, shape (n_inputs, *input_shape) or (n_inputs, n_0)

        Returns
        -------
        ndarray, shape (n_inputs, n_outputs), float64

        Raises
        ------
        InputError
            If the shape is wrong or a value is not finite.
        """
        y = self.flatten(inputs).astype(np.float64, copy=False)
        for layer in self.layers:
            y = layer(y)
        return self.read_out(y)

    def __str__(self) -> str:
        chain = " ".join(f"-> {layer.n_out} {layer.activation}" for layer in self.layers)
        return f"Network {self.widths[0]} {chain}" + (f" -> {self.readout}" if self.readout else "")
