"""Layers that feed each other without cycles, and values and derivatives along them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from math import prod

import numpy as np

from neurosim.errors import InputError
from neurosim.layers import Add, Array, Concatenate, Dense, Flatten, Layer, Shape, Weighted

__all__ = ["Graph", "Node", "chain_of", "pull_back", "push_forward"]


@dataclass(frozen=True, eq=False)
class Node:
    """A layer and what it gets its inputs from.

    Parameters
    ----------
    layer : Layer
    sources : tuple of int
        Numbers of nodes: 0 is the input of the network, k the output of the k-th node. One for
        every layer but Add and Concatenate, which take at least one.

    Examples
    --------
    >>> Node(Add(), (0, 2)).sources
    (0, 2)
    """

    layer: Layer
    sources: tuple[int, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.layer, Layer):
            raise InputError(f"layer: expected one of neurosim.layers, got {self.layer!r}")
        sources = tuple(int(k) for k in self.sources)
        many = isinstance(self.layer, Add | Concatenate)
        if not sources or (len(sources) > 1 and not many):
            raise InputError(
                f"sources: expected {'at least one' if many else 'one'} of a "
                f"{type(self.layer).__name__}, got {sources}"
            )
        object.__setattr__(self, "sources", sources)

    @property
    def settings(self) -> str:
        """All of the layer that is not an array, in words."""
        values = {entry.name: getattr(self.layer, entry.name) for entry in fields(self.layer)}
        spelled = (f"{k}={v}" for k, v in values.items() if not isinstance(v, np.ndarray))
        return f"{type(self.layer).__name__}({', '.join(spelled)})"


def chain_of(layers: Sequence[Layer]) -> tuple[Node, ...]:
    """Nodes of layers each of which feeds the next."""
    return tuple(Node(layer, (number,)) for number, layer in enumerate(layers))


def push_forward(layer: Layer, dy: Sequence[Array], y: Sequence[Array]) -> Array:
    """Change before the activation that changes dy of the sources make, to first order.

    y: golden values of the sources, (n, *shape); dy: (..., n or 1, *shape).
    """
    if isinstance(layer, Add | Concatenate):
        return layer.push_forward(dy, y)
    return layer.push_forward(dy[0], y[0])


def pull_back(layer: Layer, cotangent: Array, y: Sequence[Array]) -> tuple[Array, ...]:
    """Derivatives by the sources, from that by what stands before the activation."""
    if isinstance(layer, Add | Concatenate):
        return layer.pull_back(cotangent, y)
    return (layer.pull_back(cotangent, y[0]),)


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A directed acyclic graph of layers in topological order.

    Parameters
    ----------
    nodes : sequence of Node
        Every source comes before its node.
    input_shape : tuple of int
        Of one example.

    Raises
    ------
    InputError
        If a source comes later, or a layer does not take what its sources send.

    Examples
    --------
    >>> skip = Graph(nodes=[Node(Dense(weight=np.eye(2), bias=[0, 0]), (0,)), Node(Add(), (0, 1))],
    ...              input_shape=(2,))
    >>> skip.outputs(np.array([[1.0, 2.0]]))
    array([[2., 4.]])
    """

    nodes: tuple[Node, ...]
    input_shape: Shape

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        for number, node in enumerate(self.nodes, start=1):
            if not isinstance(node, Node):
                raise InputError(f"nodes: expected Node(...) values, got {node!r}")
            for source in node.sources:
                if not 0 <= source < number:
                    raise InputError(
                        f"nodes: expected sources of node {number} from 0, the input, to "
                        f"{number - 1}, the node before it, got {source}"
                    )
        _ = self.shapes

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of the input and of what each node sends, for one example."""
        shapes: list[Shape] = [tuple(int(n) for n in self.input_shape)]
        for number, node in enumerate(self.nodes, start=1):
            try:
                shapes.append(node.layer.output_shape(*(shapes[k] for k in node.sources)))
            except InputError as error:
                kind = type(node.layer).__name__
                raise InputError(f"node {number} ({kind}): {error}") from error
        return tuple(shapes)

    @cached_property
    def weighted(self) -> tuple[int, ...]:
        """Numbers of the nodes of layers 0, 1, ..., L: the input, then those with weights."""
        numbers = [k for k, n in enumerate(self.nodes, start=1) if isinstance(n.layer, Weighted)]
        return (0, *numbers)

    @property
    def widths(self) -> tuple[int, ...]:
        """n_0, ..., n_L: elements of the input and of each weighted layer."""
        return tuple(prod(self.shapes[k]) for k in self.weighted)

    @cached_property
    def last_uses(self) -> tuple[int, ...]:
        """The last node that takes what each node, and the input, sends."""
        last = list(range(len(self.nodes) + 1))
        for number, node in enumerate(self.nodes, start=1):
            for source in node.sources:
                last[source] = number
        return tuple(last)

    def up_to(self, layer: int) -> "Graph":
        """The part that makes the output of weighted layer l."""
        return Graph(nodes=self.nodes[: self.weighted[layer]], input_shape=self.input_shape)

    def simplified(self) -> "Graph":
        """The same without Flatten layers that change nothing."""
        nodes: list[Node] = []
        new = [0]
        for node in self.nodes:
            sources = tuple(new[k] for k in node.sources)
            if isinstance(node.layer, Flatten) and len(self.shapes[node.sources[0]]) == 1:
                new.append(sources[0])
                continue
            nodes.append(Node(node.layer, sources))
            new.append(len(nodes))
        return Graph(nodes=tuple(nodes), input_shape=self.input_shape)

    @property
    def dense_chain(self) -> tuple[Dense, ...] | None:
        """The layers, where they are dense and each feeds the next; None for any other graph."""
        layers = tuple(node.layer for node in self.nodes if isinstance(node.layer, Dense))
        chained = all(node.sources == (k,) for k, node in enumerate(self.nodes))
        return layers if chained and len(layers) == len(self.nodes) else None

    def shaped(self, y0: Array) -> Array:
        """Flattened inputs (n, n_0) as (n, *input_shape)."""
        return y0.reshape(len(y0), *self.shapes[0])

    def values(self, y0: Array) -> tuple[list[Array], list[Array]]:
        """Before and after the activation of every node, each (n, *shape), the input first.

        y0: (n, n_0); everything is computed in its dtype.
        """
        y, z = [self.shaped(y0)], [self.shaped(y0)]
        for node in self.nodes:
            z.append(node.layer.preactivation(*(y[k] for k in node.sources)))
            y.append(node.layer.activation(z[-1]))
        return z, y

    def outputs(self, y0: Array) -> Array:
        """What the last node sends, (n, n_outputs), keeping no more values than needed."""
        y: list[Array | None] = [self.shaped(y0)]
        for number, node in enumerate(self.nodes, start=1):
            sources = [y[k] for k in node.sources]
            y.append(node.layer(*sources))  # type: ignore[arg-type]
            for source in node.sources:
                if self.last_uses[source] == number:
                    y[source] = None
        last = y[-1]
        assert last is not None
        return last.reshape(len(last), -1)

    def __str__(self) -> str:
        return " ".join(
            f"-> {describe(node.layer, shape)}"
            + ("" if node.sources == (k,) else f" of {', '.join(map(str, node.sources))}")
            for k, (node, shape) in enumerate(zip(self.nodes, self.shapes[1:], strict=True))
        )


def describe(layer: Layer, shape: Shape) -> str:
    """A layer in few words, with the shape of what it sends."""
    size = " x ".join(map(str, shape))
    if isinstance(layer, Dense):
        return f"{size} {layer.activation}"
    named = isinstance(layer, Weighted) or layer.activation.kind != "identity"
    return f"{type(layer).__name__} {size}" + (f" {layer.activation}" if named else "")
