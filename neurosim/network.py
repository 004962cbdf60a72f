"""The trained network: its layers and its golden (fault-free) outputs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import prod
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from neurosim.errors import FormatError, InputError, path_of
from neurosim.formats import Architecture, compare_outputs, read_network, write_network
from neurosim.graph import Graph, Node, chain_of
from neurosim.layers import Activation, Affine, Array, Dense, Flatten, Weighted, softmax

__all__ = ["Network"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A trained feed-forward network.

    Parameters
    ----------
    layers : sequence of layers
        In order, each feeding the next; once made, the weighted layers 1..L in topological order.
    readout : None or "softmax"
        What is computed off the chip from the outputs of the last layer; it cannot fail. A dead
        output has logit 0.
    input_shape : tuple of int, optional
        Shape of one input, flattened in C order; (n_0,) by default. Feature maps are
        (channels, height, width).
    nodes : sequence of Node, optional
        In place of layers: layers that feed each other in any order without cycles; the last one
        makes the outputs. Empty, once made, for a chain of dense layers.

    Raises
    ------
    InputError
        If the shapes of neighbouring layers do not fit, or a node leads nowhere.

    Examples
    --------
    >>> network = Network.dense(weights=[[[1.0, -1.0]]], biases=[[0.5]], activations=["identity"])
    >>> network(np.array([[2.0, 1.0]]))
    array([[1.5]])

    >>> from neurosim.layers import Conv2D, Flatten
    >>> kernel = Conv2D(weight=np.ones((1, 1, 2, 2)), bias=[0], activation=Activation("relu"))
    >>> last = Dense(weight=np.ones((1, 4)), bias=[0])
    >>> network = Network(layers=[kernel, Flatten(), last], input_shape=(1, 3, 3))
    >>> network.depth, network.widths
    (2, (9, 4, 1))
    """

    layers: tuple[Any, ...] = ()
    readout: str | None = None
    input_shape: tuple[int, ...] = ()
    nodes: tuple[Node, ...] = ()

    def __post_init__(self) -> None:
        layers, nodes = tuple(self.layers), tuple(self.nodes)
        if nodes and layers and layers != _weighted_of(nodes):
            raise InputError(
                "layers, nodes: expected one of the two, got both, and other weighted layers"
            )
        if self.readout not in (None, "softmax"):
            raise InputError(f'readout: expected None or "softmax", got {self.readout!r}')
        if not nodes and all(isinstance(layer, Dense) for layer in layers):
            self._keep_chain(layers)
        else:
            self._keep_graph(nodes or chain_of(layers))

    def _keep_chain(self, layers: tuple[Dense, ...]) -> None:
        if not layers:
            raise InputError("layers: expected at least one weighted layer, got none")
        for number, (before, after) in enumerate(pairwise(layers), start=2):
            if after.n_in != before.n_out:
                raise InputError(
                    f"layers: expected layer {number} to have {before.n_out} inputs, the number "
                    f"of neurons of layer {number - 1}, got {after.n_in}; weights are "
                    "(n_out, n_in): is one transposed?"
                )
        shape = tuple(int(n) for n in self.input_shape) or (layers[0].n_in,)
        if min(shape) < 1 or int(np.prod(shape)) != layers[0].n_in:
            raise InputError(
                f"input_shape: expected {layers[0].n_in} values in all, the inputs of "
                f"layer 1, got {shape}"
            )
        self._put(layers=layers, input_shape=shape, nodes=())

    def _keep_graph(self, nodes: tuple[Node, ...]) -> None:
        shape = tuple(int(n) for n in self.input_shape)
        if min(shape, default=0) < 1:
            raise InputError(
                "input_shape: expected the shape of one input, (channels, height, width) of a "
                f"feature map, got {shape}"
            )
        # Dense layers take inputs as rows, whatever shape they have, and need no Flatten.
        readers = [node.layer for node in nodes if 0 in node.sources]
        flat = all(isinstance(layer, Dense | Flatten) for layer in readers)
        start = (int(np.prod(shape)),) if flat else shape
        graph = Graph(nodes=nodes, input_shape=start).simplified()
        readers = [node.layer for node in graph.nodes if 0 in node.sources]
        if flat and not all(isinstance(layer, Dense) for layer in readers):
            graph = Graph(nodes=nodes, input_shape=shape).simplified()
        chain = graph.dense_chain
        if chain:
            self._put(layers=chain, input_shape=shape, nodes=())
            return
        if not _weighted_of(graph.nodes):
            raise InputError("layers: expected at least one weighted layer, got none")
        if len(graph.shapes[-1]) != 1:
            raise InputError(
                f"nodes: expected a last one that sends (n_outputs,), got {graph.shapes[-1]}; "
                "add a Flatten or a GlobalAveragePool"
            )
        for number, last in enumerate(graph.last_uses[:-1]):
            if last == number:
                what = f"node {number}" if number else "the input"
                raise InputError(f"nodes: expected each to lead to the last one, {what} does not")
        self._put(layers=_weighted_of(graph.nodes), input_shape=shape, nodes=graph.nodes)
        self.__dict__["graph"] = graph

    def _put(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

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
    def load(
        source: Any,
        *,
        architecture: Architecture | None = None,
        input_shape: tuple[int, ...] | None = None,
    ) -> "Network":
        """Read a trained network from a file, or from a model in memory.

        Parameters
        ----------
        source : str, path-like, torch.nn.Module, ExportedProgram or scikit-learn estimator
            A file: .npz, .onnx, .keras, .h5, .hdf5; weights alone, .safetensors, .pt, .pth, with an
            architecture. A module in evaluation mode, or what torch.export made of one; a fitted
            MLPClassifier or MLPRegressor, alone or behind affine steps in a Pipeline.
        architecture : str, path-like or mapping, optional
            For weights alone: the layers, in TOML (docs/formats.md); by default the file beside
            the weights that ends in .toml.
        input_shape : tuple of int, optional
            Shape of one input, for a torch module whose first layer does not say it, and for
            ONNX files that leave sizes open.

        Raises
        ------
        FormatError
            If the file is missing, truncated, foreign, or holds what neurosim cannot represent;
            the message names the node. If a torch module has other outputs on random inputs.
        InputError
            If a keyword says nothing about such a source.

        Examples
        --------
        >>> Network.load("digits.onnx")  # doctest: +SKIP
        >>> Network.load(torch_module, input_shape=(3, 32, 32))  # doctest: +SKIP
        """
        nodes, readout, shape = read_network(
            source, architecture=architecture, input_shape=input_shape
        )
        try:
            network = Network(nodes=nodes, readout=readout, input_shape=shape)
        except InputError as error:
            label = source if isinstance(source, str | PathLike) else type(source).__name__
            raise FormatError(f"{label}: {error}") from error
        compare_outputs(source, shape, network)
        return network

    def save(self, path: str | PathLike[str]) -> None:
        """Write the network as .npz, exactly, or as .onnx, in single precision.

        Raises
        ------
        FormatError
            If the path ends in neither or cannot be written.
        """
        write_network(path_of(path), self.graph.nodes, self.readout, self.input_shape)

    def with_layers(self, layers: Sequence[Any]) -> "Network":
        """The same network with other weighted layers 1..L, of the same shapes, in their places."""
        if not self.nodes:
            return replace(self, layers=tuple(layers))
        new = dict(zip(self.graph.weighted[1:], layers, strict=True))
        nodes = [
            Node(new.get(number, node.layer), node.sources)
            for number, node in enumerate(self.nodes, start=1)
        ]
        return replace(self, layers=(), nodes=tuple(nodes))

    @property
    def depth(self) -> int:
        """L, the number of weighted layers."""
        return len(self.layers)

    @cached_property
    def graph(self) -> Graph:
        """All layers, weighted or not, and what feeds them."""
        shape = self.input_shape if self.nodes else self.widths[:1]
        return Graph(nodes=self.nodes or chain_of(self.layers), input_shape=shape)

    @property
    def widths(self) -> tuple[int, ...]:
        """n_0, n_1, ..., n_L; of a convolution the elements of the feature map it sends."""
        if self.nodes:
            return self.graph.widths
        return (self.layers[0].n_in, *(layer.n_out for layer in self.layers))

    @property
    def n_outputs(self) -> int:
        """Values of an output: of the last node, behind layer L where a pool or a join follows."""
        return prod(self.graph.shapes[-1]) if self.nodes else self.layers[-1].n_out

    @property
    def structure(self) -> str:
        """All that is not an array, in words: two networks differ here or in their `arrays`."""
        if not self.nodes:
            return str(self)
        return f"{self} {[(node.settings, node.sources) for node in self.nodes]}"

    @property
    def arrays(self) -> tuple[Array, ...]:
        """Weights and biases, scales and shifts, in order."""
        found: list[Array] = []
        for node in self.graph.nodes:
            if isinstance(node.layer, Weighted):
                found += [node.layer.weight, node.layer.bias]
            elif isinstance(node.layer, Affine):
                found += [node.layer.scale, node.layer.shift]
        return tuple(found)

    @property
    def multiplications(self) -> int:
        """Products of a weight and a value in the forward pass of one input."""
        positions = (n // len(w.weight) for w, n in zip(self.layers, self.widths[1:], strict=True))
        return sum(w.weight.size * n for w, n in zip(self.layers, positions, strict=True))

    def require_chain(self, what: str) -> None:
        """Refuse a network that is no chain of dense layers.

        Raises
        ------
        InputError
            Saying what is for such chains only.
        """
        if self.nodes:
            kinds = sorted({type(node.layer).__name__ for node in self.nodes} - {"Dense"})
            raise InputError(
                f"network: expected a chain of dense layers for {what}, got one with "
                f"{', '.join(kinds) or 'other connections'}"
            )

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
        return self._passed(y0)[0]

    def activations(self, y0: Array) -> list[Array]:
        """y_0, y_1, ..., y_L for flattened inputs (n_inputs, n_0), before the read-out."""
        return [y0, *self._passed(y0)[1]]

    def _passed(self, y0: Array) -> tuple[list[Array], list[Array]]:
        z, y = self.graph.values(y0)
        chosen = self.graph.weighted[1:]
        return [z[k].reshape(len(y0), -1) for k in chosen], [
            y[k].reshape(len(y0), -1) for k in chosen
        ]

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
        y0 = self.flatten(inputs).astype(np.float64, copy=False)
        return self.read_out(self.graph.outputs(y0))

    def __str__(self) -> str:
        size = " x ".join(map(str, self.input_shape)) if self.nodes else self.widths[0]
        return f"Network {size} {self.graph}" + (f" -> {self.readout}" if self.readout else "")


def _weighted_of(nodes: Sequence[Node]) -> tuple[Any, ...]:
    return tuple(node.layer for node in nodes if isinstance(node.layer, Weighted))
