"""What a network is made of: layers with their derivatives, and activations.

Functions of arrays only. The first axis of every array is the input (example); dense layers have
the units on the last axis, feature maps are (n_inputs, channels, height, width). Weighted layers
count as in the paper: the inputs are layer 0, the output of the l-th weighted layer is layer l.
"""

from typing import TypeAlias

from neurosim.layers.activation import Activation, softmax, softmax_change
from neurosim.layers.arrays import Array, Shape, frozen
from neurosim.layers.convolution import Conv2D, folded_batch_norm
from neurosim.layers.joins import Add, Affine, Concatenate, Flatten, Reshape, Slice, Transpose
from neurosim.layers.pooling import AveragePool2D, GlobalAveragePool, MaxPool2D
from neurosim.layers.weighted import Dense, Weighted

__all__ = [
    "Activation",
    "Add",
    "Affine",
    "Array",
    "AveragePool2D",
    "Concatenate",
    "Conv2D",
    "Dense",
    "Flatten",
    "GlobalAveragePool",
    "Layer",
    "MaxPool2D",
    "Reshape",
    "Shape",
    "Slice",
    "Transpose",
    "Weighted",
    "folded_batch_norm",
    "frozen",
    "softmax",
    "softmax_change",
]

Layer: TypeAlias = (
    Dense
    | Conv2D
    | MaxPool2D
    | AveragePool2D
    | GlobalAveragePool
    | Flatten
    | Reshape
    | Transpose
    | Slice
    | Affine
    | Add
    | Concatenate
)
