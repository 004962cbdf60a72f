"""Dense networks from ONNX graphs as torch, Keras (tf2onnx), scikit-learn (skl2onnx) export them.

The graph is read as a chain: affine steps are gathered (in float64) until an activation closes a
layer. What is no chain of such steps is an error that names the node.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neurosim.errors import FormatError, InputError
from neurosim.layers import Activation, Array, Dense

try:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import external_data_helper, numpy_helper
except ImportError as error:
    raise FormatError(f"expected the package onnx to read .onnx files, got: {error}") from error

__all__ = ["read_onnx"]

_ACTIVATIONS = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Sigmoid": "sigmoid",
    "LeakyRelu": "leaky_relu",
}
_PASSED = ("Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze")
_READ = (
    "MatMul",
    "Gemm",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Scaler",
    *_ACTIVATIONS,
    "Softmax",
    *_PASSED,
    "Constant",
)


class _UnreadableError(Exception):
    """Why a node has no place in a network; the caller adds which node it is."""


@dataclass(frozen=True)
class _Chain:
    """A tensor computed from the input: finished layers, then one affine step.

    The step is gain * (matrix @ y + shift), or gain * (scale * y + shift) while matrix is None.
    The gain is a positive scalar that is kept apart, as it may turn out to be that of a sigmoid.
    """

    layers: tuple[Dense, ...] = ()
    matrix: Array | None = None
    scale: Array | float = 1.0
    shift: Array | float = 0.0
    gain: float = 1.0
    softmax: bool = False

    @property
    def bare(self) -> bool:
        """Whether the affine step does nothing."""
        return (
            self.matrix is None
            and self.gain == 1
            and not np.any(self.shift)
            and bool(np.all(np.asarray(self.scale) == 1))
        )

    def plain(self) -> "_Chain":
        """The same with the gain multiplied in."""
        if self.matrix is None:
            return replace(
                self,
                scale=self.gain * np.asarray(self.scale),
                shift=self.gain * np.asarray(self.shift),
                gain=1.0,
            )
        return replace(
            self, matrix=self.gain * self.matrix, shift=self.gain * np.asarray(self.shift), gain=1.0
        )

    def times(self, factor: Array) -> "_Chain":
        if factor.size == 1 and factor.item() > 0:
            return replace(self, gain=self.gain * factor.item())
        chain, factor = self.plain(), _vector(factor)
        shift = np.asarray(chain.shift) * factor
        if chain.matrix is None:
            return replace(chain, scale=np.asarray(chain.scale) * factor, shift=shift)
        return replace(chain, matrix=np.reshape(factor, (-1, 1)) * chain.matrix, shift=shift)

    def plus(self, term: Array) -> "_Chain":
        chain = self.plain()
        return replace(chain, shift=np.asarray(chain.shift) + _vector(term))

    def through(self, weight: Array) -> "_Chain":
        """A matrix product W @ y, W (n_out, n_in)."""
        chain = self.plain()
        if chain.matrix is not None:  # a linear layer of its own on the chip
            chain = chain.closed(Activation("identity"))
        n_in = weight.shape[1]
        if chain.layers and chain.layers[-1].n_out != n_in:
            raise _UnreadableError(
                f"expected a weight for {chain.layers[-1].n_out} inputs, got {weight.shape}"
            )
        scale = np.broadcast_to(np.asarray(chain.scale, np.float64), (n_in,))
        shift = np.broadcast_to(np.asarray(chain.shift, np.float64), (n_in,))
        return _Chain(layers=chain.layers, matrix=weight * scale, shift=weight @ shift)

    def closed(self, activation: Activation) -> "_Chain":
        """The affine step and an activation as a layer."""
        if self.softmax:
            raise _UnreadableError("expected Softmax as the last step, for it is the read-out")
        if self.matrix is None:
            raise _UnreadableError("expected a MatMul or Gemm before every activation")
        shift = np.broadcast_to(np.asarray(self.shift, np.float64), (len(self.matrix),))
        layer = Dense(weight=self.matrix, bias=shift, activation=activation)
        return _Chain(layers=(*self.layers, layer))


def _vector(constant: Array) -> Array:
    """A constant to add or multiply: a scalar or one value a unit."""
    if constant.size == 1:
        return constant.reshape(())
    if constant.size != constant.shape[-1]:
        raise _UnreadableError(
            f"expected one value a unit, got a constant of shape {constant.shape}"
        )
    return constant.reshape(-1)


def read_onnx(path: Path) -> tuple[tuple[Dense, ...], str | None, tuple[int, ...]]:
    """Layers, read-out and input shape of an ONNX file."""
    graph = _load(path).graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    inputs = [item for item in graph.input if item.name not in constants]
    if len(inputs) != 1:
        raise FormatError(
            f"{path}: expected a graph with one input, got {len(inputs)}: "
            f"{', '.join(item.name for item in inputs)}"
        )
    wanted, nodes = _wanted(path, graph)
    values: dict[str, Any] = {**constants, inputs[0].name: _Chain(), "": None}
    for node in nodes:
        try:
            values[node.output[0]] = _step(node, values)
        except (_UnreadableError, InputError, ValueError) as error:
            name = f" {node.name!r}" if node.name else f" making {node.output[0]!r}"
            raise FormatError(f"{path}: node{name} ({node.op_type}): {error}") from error
    chain = values.get(wanted)
    if not isinstance(chain, _Chain):
        raise FormatError(f"{path}: expected output {wanted!r} to depend on the input, it does not")
    softmax = chain.softmax
    if chain.matrix is not None:
        chain = chain.plain().closed(Activation("identity"))
    if not chain.layers or not (chain.bare or softmax):
        raise FormatError(
            f"{path}: expected a chain that ends in a weighted layer, its activation or Softmax, "
            f"got {'nothing of the kind' if not chain.layers else 'an affine step after it'}"
        )
    return (
        chain.layers,
        "softmax" if softmax else None,
        _input_shape(inputs[0], chain.layers[0].n_in),
    )


def _load(path: Path) -> Any:
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise FormatError(
            f"{path}: expected an ONNX file, got {error}; is it truncated?"
        ) from error
    if not model.graph.node:
        raise FormatError(f"{path}: expected an ONNX graph with nodes, got none; is it truncated?")
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and (
                Path(entry.value).is_absolute() or ".." in Path(entry.value).parts
            ):
                raise FormatError(
                    f"{path}: expected external data in the folder of the file, got {entry.value!r}"
                )
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise FormatError(f"{path}: expected readable external data, got {error}") from error
    return model


def _wanted(path: Path, graph: Any) -> tuple[str, list[Any]]:
    """The output to read and the nodes it needs, in order.

    Classifiers from skl2onnx have a branch for the label, which is left out, and pack the
    probabilities in a ZipMap.
    """
    makers = {name: node for node in graph.node for name in node.output}
    names = [item.name for item in graph.output]
    if len(names) > 1:
        numbers = [
            item.name
            for item in graph.output
            if item.type.tensor_type.elem_type in (1, 10, 11)
            or (item.name in makers and makers[item.name].op_type == "ZipMap")
        ]
        if len(numbers) != 1:
            raise FormatError(
                f"{path}: expected one output of real numbers, got {', '.join(names)}"
            )
        names = numbers
    wanted = names[0]
    if wanted in makers and makers[wanted].op_type == "ZipMap":
        wanted = makers[wanted].input[0]
    needed, open_names = set(), [wanted]
    while open_names:
        node = makers.get(open_names.pop())
        if node is not None and node.output[0] not in needed:
            needed.add(node.output[0])
            open_names.extend(node.input)
    return wanted, [node for node in graph.node if node.output[0] in needed]


def _attributes(node: Any) -> dict[str, Any]:
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def _step(node: Any, values: Mapping[str, Any]) -> Any:
    """The value a node makes: a constant array or a `_Chain`."""
    arguments: list[Any] = [values.get(name) for name in node.input]
    attributes = _attributes(node)
    if node.op_type == "Constant":
        return _constant(attributes)
    if all(not isinstance(a, _Chain) for a in arguments):
        return _folded(node.op_type, arguments, attributes)
    if sum(isinstance(a, _Chain) for a in arguments) > 1:
        raise _UnreadableError("expected one computed input, got two: only chains are read")
    match node.op_type:
        case "MatMul" | "Gemm":
            return _product(node.op_type, arguments, attributes)
        case "Add" | "Sub" | "Mul" | "Div":
            return _affine(node.op_type, arguments)
        case kind if kind in _ACTIVATIONS:
            return _activated(arguments[0], kind, attributes)
        case "Scaler":
            chain = arguments[0].plus(-np.asarray(attributes["offset"], np.float64))
            return chain.times(np.asarray(attributes["scale"], np.float64))
        case "Softmax":
            chain = arguments[0].plain()
            closed = chain if chain.matrix is None else chain.closed(Activation("identity"))
            if (
                not closed.bare
                or not closed.layers
                or closed.layers[-1].activation.kind != ("identity")
            ):
                raise _UnreadableError("expected Softmax after a MatMul, Gemm or Add")
            if attributes.get("axis", -1) not in (-1, 1):
                raise _UnreadableError(f"expected Softmax over axis 1, got {attributes['axis']}")
            return replace(closed, softmax=True)
        case kind if kind in _PASSED:
            return _passed(kind, arguments, attributes)
        case _:
            raise _UnreadableError(f"expected one of {', '.join(_READ)}")


def _activated(chain: _Chain, kind: str, attributes: Mapping[str, Any]) -> _Chain:
    if kind == "Sigmoid":
        return replace(chain, gain=1.0).closed(Activation("sigmoid", chain.gain))
    slope = float(attributes.get("alpha", 0.01)) if kind == "LeakyRelu" else 0.0
    return chain.plain().closed(Activation(_ACTIVATIONS[kind], slope))


def _constant(attributes: Mapping[str, Any]) -> Array:
    for key in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if key in attributes:
            value = attributes[key]
            return numpy_helper.to_array(value) if key == "value" else np.asarray(value)
    raise _UnreadableError("expected a constant of numbers")


def _folded(kind: str, arguments: Iterable[Any], attributes: Mapping[str, Any]) -> Array:
    """A node of constants alone, as exporters leave them behind."""
    first, *rest = arguments
    match kind:
        case "Transpose":
            return np.transpose(first, attributes.get("perm"))
        case "Reshape":
            return np.reshape(first, rest[0])
        case "Identity" | "Cast":
            return np.asarray(first)
        case "Unsqueeze" | "Squeeze":
            return np.asarray(first).reshape(-1)
        case _:
            raise _UnreadableError("expected an input that depends on the network's input")


def _weight(value: Any) -> Array:
    weight = np.asarray(value, np.float64)
    if weight.ndim != 2:
        raise _UnreadableError(f"expected a weight with two axes, got shape {weight.shape}")
    return weight


def _product(kind: str, arguments: list[Any], attributes: Mapping[str, Any]) -> _Chain:
    if not isinstance(arguments[0], _Chain):
        raise _UnreadableError("expected the weight as the second factor")
    weight = _weight(arguments[1])
    if kind == "MatMul":
        return arguments[0].through(weight.T)
    if attributes.get("transA", 0):
        raise _UnreadableError("expected transA = 0 for inputs in rows, got 1")
    weight = weight if attributes.get("transB", 0) else weight.T
    chain = arguments[0].through(attributes.get("alpha", 1.0) * weight)
    if len(arguments) > 2 and arguments[2] is not None:
        chain = chain.plus(attributes.get("beta", 1.0) * np.asarray(arguments[2], np.float64))
    return chain


def _affine(kind: str, arguments: list[Any]) -> _Chain:
    behind = isinstance(arguments[0], _Chain)
    chain, other = (arguments[0], arguments[1]) if behind else (arguments[1], arguments[0])
    if chain.softmax:
        raise _UnreadableError("expected Softmax as the last step, for it is the read-out")
    constant = np.asarray(other, np.float64)
    match kind:
        case "Add":
            return chain.plus(constant)
        case "Mul":
            return chain.times(constant)
        case "Sub":
            return chain.plus(-constant) if behind else chain.times(np.array(-1.0)).plus(constant)
        case _:
            if not behind:
                raise _UnreadableError("expected a constant divisor")
            return chain.times(1 / constant)


def _passed(kind: str, arguments: list[Any], attributes: Mapping[str, Any]) -> _Chain:
    """Steps that change nothing for one row an input."""
    chain: _Chain = arguments[0] if isinstance(arguments[0], _Chain) else arguments[-1]
    if kind == "Reshape":
        shape = arguments[1] if len(arguments) > 1 else attributes.get("shape")
        if shape is None or len(np.ravel(shape)) != 2:
            raise _UnreadableError(f"expected a shape of two axes, inputs and units, got {shape}")
    if kind == "Flatten" and attributes.get("axis", 1) != 1:
        raise _UnreadableError(f"expected axis 1, got {attributes['axis']}")
    if kind == "Cast" and attributes.get("to") not in (1, 10, 11):
        raise _UnreadableError("expected a cast to real numbers")
    return chain


def _input_shape(item: Any, n_in: int) -> tuple[int, ...]:
    """Shape of one input where the graph states it, else (n_in,)."""
    sizes = [d.dim_value for d in item.type.tensor_type.shape.dim][1:]
    return tuple(sizes) if sizes and min(sizes) > 0 and int(np.prod(sizes)) == n_in else (n_in,)
