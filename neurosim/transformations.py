"""Networks made of a trained one: its kinks smoothed."""

from dataclasses import replace
from math import isfinite

import numpy as np

from neurosim.errors import InputError
from neurosim.graph import Graph, Node
from neurosim.layers import Activation, Add, Affine, AveragePool2D, MaxPool2D, Weighted
from neurosim.network import Network

__all__ = ["smoothed"]


def smoothed(network: Network, *, sharpness: float = 1.0) -> Network:
    """The network with smooth layers in place of those with kinks, which derivatives do not see.

    relu(z) becomes s(z) = log(1 + exp(sharpness z)) / sharpness, at most log(2) / sharpness above
    it; relu6 becomes s(z) - s(z - 6) and a leaky relu slope z + (1 - slope) s(z), which are off by
    no more; hard-swish becomes SiLU, hard_tanh(1) tanh, and a max-pool the mean over the same
    window without the padding. The outputs are others, by what the example prints: train the
    network further, or look at them, before it stands for the first.

    Parameters
    ----------
    network : Network
    sharpness : float
        Above 0. Weights and bias before a relu, leaky or clipped or not, are multiplied by it and
        the weights behind divided by it (an `Affine` layer divides where what follows has no
        weights).

    Returns
    -------
    Network
        Of the same weighted layers.

    Raises
    ------
    InputError
        If the sharpness is out of range, or an activation has no smooth counterpart (elu, hard
        tanh with another bottom).

    Examples
    --------
    >>> network = Network.dense(
    ...     weights=[[[1.0]], [[1.0]]], biases=[[0], [0]], activations=["relu", "identity"])
    >>> smooth = smoothed(network, sharpness=100)
    >>> (smooth([[-1.0], [0.0], [1.0]]) - network([[-1.0], [0.0], [1.0]])).ravel().round(4)
    array([0.    , 0.0069, 0.    ])
    """
    if not (isinstance(sharpness, int | float) and isfinite(sharpness) and sharpness > 0):
        raise InputError(f"sharpness: expected a finite number above 0, got {sharpness!r}")
    graph = network.graph
    behind = [  # whether what takes the output of a node has weights to divide
        [isinstance(n.layer, Weighted) for n in graph.nodes if number in n.sources]
        for number in range(len(graph.nodes) + 1)
    ]
    nodes: list[Node] = []
    new, factors = [0], [1.0]  # where each node went, and what its consumers divide by
    for number, node in enumerate(graph.nodes, start=1):
        sources = tuple(new[k] for k in node.sources)
        layer, kind = node.layer, node.layer.activation.kind
        factor = 1.0
        if isinstance(layer, Weighted) and factors[node.sources[0]] != 1:
            layer = replace(layer, weight=layer.weight / factors[node.sources[0]])
        if isinstance(layer, MaxPool2D):
            layer = AveragePool2D(
                size=layer.size, stride=layer.stride, padding=layer.padding,
                dilation=layer.dilation, count_padding=False,
            )  # fmt: skip
        elif kind == "hard_swish":
            assert isinstance(layer, Weighted | Affine | Add)
            layer = replace(layer, activation=Activation("silu"))
        elif layer.activation == Activation("hard_tanh", 1.0):
            assert isinstance(layer, Weighted | Affine | Add)
            layer = replace(layer, activation=Activation("tanh"))
        elif kind in ("relu", "relu6", "leaky_relu"):
            assert isinstance(layer, Weighted | Affine | Add)
            factor = float(sharpness)
            soft = _soft(layer.activation, factor)
            if isinstance(layer, Weighted):
                layer = replace(layer, weight=factor * layer.weight, bias=factor * layer.bias)
            elif isinstance(layer, Affine):
                layer = replace(layer, scale=factor * layer.scale, shift=factor * layer.shift)
            elif factor != 1:
                nodes.append(Node(replace(layer, activation=Activation("identity")), sources))
                sources = (len(nodes),)
                layer = Affine(scale=np.array(factor))
            layer = replace(layer, activation=soft)
        elif not layer.activation.smooth:
            raise InputError(
                f"network: expected activations with a smooth counterpart, got {layer.activation} "
                f"in step {number}; train it with gelu, silu or tanh in its place"
            )
        nodes.append(Node(layer, sources))
        if factor != 1 and not (behind[number] and all(behind[number])):
            nodes.append(Node(Affine(scale=np.array(1 / factor)), (len(nodes),)))
            factor = 1.0
        new.append(len(nodes))
        factors.append(factor)
    start = Graph(nodes=tuple(nodes), input_shape=graph.input_shape)
    return Network(nodes=start.nodes, input_shape=network.input_shape, readout=network.readout)


def _soft(activation: Activation, sharpness: float) -> Activation:
    """The smooth counterpart, sharpness times as large, of sharpness times the pre-activation."""
    match activation.kind:
        case "relu6":
            return Activation("soft_clip", 6 * sharpness)
        case "leaky_relu":
            return Activation("soft_leaky_relu", activation.parameter)
        case _:
            return Activation("softplus")
