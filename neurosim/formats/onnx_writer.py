"""Networks as ONNX graphs in single precision, as runtimes take them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from neurosim.errors import FormatError
from neurosim.formats.archives import written_aside
from neurosim.graph import Graph, Node
from neurosim.layers import (
    Activation,
    Add,
    Affine,
    Array,
    AveragePool2D,
    Concatenate,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool,
    MaxPool2D,
    Reshape,
    Shape,
    Slice,
    Transpose,
)

__all__ = ["write_onnx"]

# The first one with Gelu; every reader of ONNX since early 2024 takes it.
_OPSET, _IR_VERSION = 20, 9

_ACTIVATIONS = {
    "relu": "Relu",
    "tanh": "Tanh",
    "softplus": "Softplus",
    "hard_swish": "HardSwish",
    "gelu": "Gelu",
    "mish": "Mish",
}


class _Writer:
    """Nodes and constants of a graph while they are gathered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, array: Array, dtype: Any = np.float32) -> str:
        with np.errstate(over="ignore"):
            cast = np.ascontiguousarray(array, dtype)
        if not np.isfinite(cast).all():
            raise FormatError(
                f"{self.path}: {name}: expected numbers that single precision holds, got "
                f"{abs(array).max():g}"
            )
        self.constants.append(numpy_helper.from_array(cast, name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output


def write_onnx(path: Path, nodes: Sequence[Node], readout: str | None, input_shape: Shape) -> None:
    """Write a network as ONNX, opset 20; numbers are rounded to single precision.

    Raises
    ------
    FormatError
        If a number is too large for single precision, or the path cannot be written.
    """
    writer = _Writer(path)
    names = ["input"]
    shape = tuple(input_shape)
    if len(shape) > 1 and isinstance(nodes[0].layer, Dense):
        names = [writer.node("Flatten", ["input"], "flat")]
        shape = (int(np.prod(shape)),)
    shapes = Graph(nodes=tuple(nodes), input_shape=shape).shapes
    for number, node in enumerate(nodes, start=1):
        label = f"{type(node.layer).__name__.lower()}_{number}"
        sources = [names[k] for k in node.sources]
        rank = len(shapes[node.sources[0]])
        made = _written(writer, label, node.layer, sources, rank)
        names.append(_activated(writer, label, made, node.layer.activation))
    last = names[-1]
    if len(shapes[-1]) > 1:
        last = writer.node("Flatten", [last], "outputs")
    if readout == "softmax":
        last = writer.node("Softmax", [last], "probabilities", axis=-1)
    n_outputs = int(np.prod(shapes[-1]))
    graph = helper.make_graph(
        writer.nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n_inputs", *input_shape])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n_inputs", n_outputs])],
        writer.constants,
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="neurosim"
    )
    onnx.checker.check_model(model)
    with written_aside(path) as file:
        file.write(model.SerializeToString(deterministic=True))


def _pads(padding: Any) -> list[int]:
    (top, bottom), (left, right) = padding
    return [top, left, bottom, right]


def _written(writer: _Writer, label: str, layer: Any, sources: list[str], rank: int) -> str:
    """The name of what a layer makes before its activation."""
    match layer:
        case Dense() | Conv2D():
            weight = writer.constant(f"{label}.weight", layer.weight)
            bias = writer.constant(f"{label}.bias", layer.bias)
            inputs = [*sources, weight, bias]
            if isinstance(layer, Dense):
                return writer.node("Gemm", inputs, label, transB=1)
            return writer.node(
                "Conv",
                inputs,
                label,
                kernel_shape=list(layer.weight.shape[2:]),
                strides=list(layer.stride),
                pads=_pads(layer.padding),
                dilations=list(layer.dilation),
                group=layer.groups,
            )
        case MaxPool2D() | AveragePool2D():
            window = {
                "kernel_shape": list(layer.size),
                "strides": list(layer.stride),
                "pads": _pads(layer.padding),
                "dilations": list(layer.dilation),
            }
            if isinstance(layer, MaxPool2D):
                return writer.node("MaxPool", sources, label, **window)
            counted = int(layer.count_padding)
            return writer.node("AveragePool", sources, label, count_include_pad=counted, **window)
        case GlobalAveragePool():
            writer.node("GlobalAveragePool", sources, f"{label}.map")
            return writer.node("Flatten", [f"{label}.map"], label)
        case Flatten():
            return writer.node("Flatten", sources, label)
        case Reshape():
            shape = writer.constant(f"{label}.shape", np.array([0, *layer.shape]), np.int64)
            return writer.node("Reshape", [*sources, shape], label)
        case Transpose():
            axes = [0, *(axis + 1 for axis in layer.axes)]
            return writer.node("Transpose", sources, label, perm=axes)
        case Slice():
            names = ("start", "stop", "axis", "step")
            values = (layer.start, layer.stop, layer.axis + 1, layer.step)
            parts = [
                writer.constant(f"{label}.{name}", np.array([value]), np.int64)
                for name, value in zip(names, values, strict=True)
            ]
            return writer.node("Slice", [*sources, *parts], label)
        case Affine():
            channels = (-1, *(1,) * (rank - 1))
            scale = writer.constant(f"{label}.scale", np.reshape(layer.scale, channels))
            shift = writer.constant(f"{label}.shift", np.reshape(layer.shift, channels))
            scaled = writer.node("Mul", [*sources, scale], f"{label}.scaled")
            return writer.node("Add", [scaled, shift], label)
        case Add():
            return writer.node("Sum", sources, label)
        case Concatenate():
            return writer.node("Concat", sources, label, axis=layer.axis + 1)
    raise FormatError(f"{writer.path}: expected a layer that ONNX has, got {layer!r}")


def _activated(writer: _Writer, label: str, name: str, activation: Activation) -> str:
    output = f"{label}.{activation.kind}"
    match activation.kind:
        case "identity":
            return name
        case "leaky_relu":
            return writer.node("LeakyRelu", [name], output, alpha=activation.parameter)
        case "relu6":
            bounds = [
                writer.constant(f"{label}.{k}", np.array(v)) for k, v in (("low", 0), ("high", 6))
            ]
            return writer.node("Clip", [name, *bounds], output)
        case "hard_tanh":
            ends = (("low", -activation.parameter), ("high", 1))
            bounds = [writer.constant(f"{label}.{k}", np.array(v)) for k, v in ends]
            return writer.node("Clip", [name, *bounds], output)
        case "elu":
            return writer.node("Elu", [name], output, alpha=activation.parameter)
        case "gelu_tanh":
            return writer.node("Gelu", [name], output, approximate="tanh")
        case "sigmoid":
            if activation.parameter != 1:
                gain = writer.constant(f"{label}.gain", np.array(activation.parameter))
                name = writer.node("Mul", [name, gain], f"{label}.gained")
            return writer.node("Sigmoid", [name], output)
        case "silu":
            gate = writer.node("Sigmoid", [name], f"{label}.gate")
            return writer.node("Mul", [name, gate], output)
        case kind if kind in _ACTIVATIONS:
            return writer.node(_ACTIVATIONS[kind], [name], output)
        case _:
            raise FormatError(
                f"{writer.path}: expected an activation that ONNX has, got {activation} of "
                f"{label}; save as .npz"
            )
