"""Small random graphs of layers, and what is equal to them in other words."""

import numpy as np
from hypothesis import strategies as st

from neurosim.chip import Chip
from neurosim.deployment import deploy
from neurosim.graph import Node
from neurosim.layers import (
    Activation,
    Add,
    Affine,
    AveragePool2D,
    Concatenate,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool,
    MaxPool2D,
    Slice,
    Transpose,
)
from neurosim.network import Network

ACTIVATIONS = [
    "identity", "relu", "relu6", "hard_swish", "leaky_relu(0.1)", "sigmoid(4)", "tanh",
    "softplus", "silu", "gelu", "soft_clip(2)", "soft_leaky_relu(0.1)", "gelu_tanh", "mish",
    "elu(0.5)", "hard_tanh(0.6)",
]  # fmt: skip
SMOOTH = [
    "identity", "tanh", "sigmoid(4)", "softplus", "silu", "gelu", "soft_clip(2)", "gelu_tanh",
    "mish",
]  # fmt: skip
KERNELS = ("shared_in_time", "replicated_in_space")


def convolution(rng, c_in, c_out, size=3, activation="relu", groups=1, **options):
    n = c_in // groups * size * size
    return Conv2D(
        weight=rng.normal(size=(c_out, c_in // groups, size, size)) / np.sqrt(n),
        bias=0.3 * rng.normal(size=c_out),
        activation=Activation.parse(activation),
        groups=groups,
        **options,
    )


def dense(rng, n_in, n_out, activation="identity"):
    return Dense(
        weight=rng.normal(size=(n_out, n_in)) / np.sqrt(n_in),
        bias=0.3 * rng.normal(size=n_out),
        activation=Activation.parse(activation),
    )


@st.composite
def networks(draw, activations=ACTIVATIONS, pools=True):
    """A network of a few layers with skips, and inputs, some of them 0 as pixels are."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 3)), draw(st.integers(3, 6)), draw(st.integers(3, 6)))
    nodes, shapes = [], [shape]

    def put(layer, *sources):
        nodes.append(Node(layer, sources or (len(nodes),)))
        shapes.append(nodes[-1].layer.output_shape(*(shapes[k] for k in nodes[-1].sources)))

    def name():
        return draw(st.sampled_from(activations))

    for _ in range(draw(st.integers(1, 3))):
        c, h, w = shapes[-1]
        kind = draw(st.sampled_from(["conv", "conv", "depthwise", "add", "concatenate", "other"]))
        here = len(nodes)
        if kind == "conv" or (kind == "other" and not pools):
            put(
                convolution(
                    rng,
                    c,
                    draw(st.integers(1, 3)),
                    draw(st.integers(1, min(2, h, w))),
                    name(),
                    stride=draw(st.integers(1, 2)),
                    padding=draw(st.integers(0, 1)),
                )
            )
        elif kind == "depthwise":
            put(convolution(rng, c, 2 * c, 3, name(), groups=c, padding=((1, 2), (1, 1))))
        elif kind == "add":
            put(convolution(rng, c, c, 3, name(), padding=1))
            put(Add(activation=Activation.parse(name())), here, here + 1)
        elif kind == "concatenate":
            put(convolution(rng, c, 2, 1, name()))
            put(convolution(rng, c, 1, 3, name(), padding=1), here)
            put(Concatenate(), here + 1, here + 2, here)
        else:
            put(draw(st.sampled_from([
                MaxPool2D(size=2, stride=1, padding=((0, 1), (1, 0))),
                AveragePool2D(size=(2, 1), stride=1, padding=((1, 0), (0, 0)), count_padding=False),
                Affine(scale=rng.normal(size=c), shift=rng.normal(size=c),
                       activation=Activation.parse(name())),
                Transpose(axes=(0, 2, 1)),
                Slice(start=c // 2, stop=c),
                Slice(axis=2, start=0, stop=w, step=2),
            ])))  # fmt: skip
    if draw(st.booleans()) and pools:
        put(GlobalAveragePool())
    else:
        put(Flatten())
    put(dense(rng, shapes[-1][0], draw(st.integers(1, 4)), name()))
    if draw(st.booleans()):
        put(dense(rng, shapes[-1][0], 2))
    network = Network(
        nodes=nodes, input_shape=shape, readout=draw(st.sampled_from([None, "softmax"]))
    )
    inputs = rng.normal(size=(draw(st.integers(1, 3)), *shape))
    inputs[rng.random(inputs.shape) < 0.3] = 0
    return network, inputs


def sites_of(network, kernels="shared_in_time"):
    return deploy(network, Chip(name="any", kernels=kernels)).sites


def as_dense(network):
    """The dense network with the same neurons as a chain of layers: matrices by unit vectors.

    Pools and other layers without weights are multiplied into the next weights: linear ones only.
    """
    weights, biases, activations = [], [], []
    size = int(np.prod(network.input_shape))
    before = np.eye(size).reshape(size, *network.input_shape)
    shift = np.zeros((1, *network.input_shape))
    for node in network.graph.nodes:
        layer = node.layer
        zero = layer.preactivation(shift)
        matrix = layer.preactivation(before + shift) - zero
        if not hasattr(layer, "weight"):
            before, shift = matrix, zero
            continue
        weights.append(matrix.reshape(len(matrix), -1).T)
        biases.append(zero.reshape(-1))
        activations.append(str(layer.activation))
        size = zero.size
        before, shift = np.eye(size).reshape(size, *zero.shape[1:]), np.zeros(zero.shape)
    layers = [
        Dense(weight=w, bias=b, activation=Activation.parse(name))
        for w, b, name in zip(weights, biases, activations, strict=True)
    ]
    return Network(layers=layers, readout=network.readout)
