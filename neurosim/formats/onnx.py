"""Dense networks from ONNX graphs as torch, Keras (tf2onnx), scikit-learn (skl2onnx) export them.

The graph is read as a chain of steps (`neurosim.formats.chain`). What is no such chain is an error
that names the node.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, numpy_helper

from neurosim.errors import FormatError, InputError
from neurosim.formats.chain import BATCH, Chain, Layout, UnreadableError
from neurosim.layers import Array, Dense

__all__ = ["read_onnx"]

_ACTIVATIONS = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Sigmoid": "sigmoid",
    "LeakyRelu": "leaky_relu",
}
_RESHAPING = ("Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze", "Transpose")
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
    *_RESHAPING,
    "Constant",
)
_REAL_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
# Before opset 7, sums and products of tensors of unlike shape had an axis of their own.
_FIRST_OPSET = 7
# What onnx and NumPy raise where a file lacks an argument or an attribute, or states a wrong one.
_MALFORMED = (ValueError, TypeError, IndexError, KeyError)


def read_onnx(path: Path) -> tuple[tuple[Dense, ...], str | None, tuple[int, ...]]:
    """Layers, read-out and input shape of an ONNX file.

    Raises
    ------
    FormatError
        If the file is truncated or foreign, or the graph is no chain of the nodes that are read;
        the message names the node.
    """
    model = _load(path)
    graph = model.graph
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < _FIRST_OPSET:
        raise FormatError(
            f"{path}: expected opset {_FIRST_OPSET} or later, got {opset}; export it anew"
        )
    constants = {}
    for item in graph.initializer:
        try:
            constants[item.name] = numpy_helper.to_array(item)
        except _MALFORMED as error:
            raise FormatError(
                f"{path}: expected numbers for {item.name!r}, got {_one_line(error)}"
            ) from error
    inputs = [item for item in graph.input if item.name not in constants]
    if len(inputs) != 1:
        raise FormatError(
            f"{path}: expected a graph with one input, got {len(inputs)}: "
            f"{', '.join(item.name for item in inputs)}"
        )
    wanted, nodes = _wanted(path, graph, constants)
    start = _start(inputs[0])
    values: dict[str, Any] = {**constants, inputs[0].name: start, "": None}
    for node in nodes:
        try:
            # Numbers too large to fold become infinite, which the layer then refuses.
            with np.errstate(all="ignore"):
                values[node.output[0]] = _step(node, values, opset)
        except (UnreadableError, InputError, *_MALFORMED) as error:
            name = f" {node.name!r}" if node.name else f" making {node.output[0]!r}"
            raise FormatError(f"{path}: node{name} ({node.op_type}): {_one_line(error)}") from error
    chain = values.get(wanted)
    if not isinstance(chain, Chain):
        raise FormatError(f"{path}: expected output {wanted!r} to depend on the input, it does not")
    try:
        chain = chain.finished()
    except (UnreadableError, InputError) as error:
        raise FormatError(f"{path}: output {wanted!r}: {error}") from error
    n_in = chain.layers[0].n_in
    # In columns, an input is one column of the tensor.
    shape = start.shape if start.size == n_in and chain.layout != "columns" else None
    return chain.layers, "softmax" if chain.softmax else None, shape or (n_in,)


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
        raise FormatError(
            f"{path}: expected readable external data in the folder of the file, got "
            f"{_one_line(error)}"
        ) from error
    return model


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _start(item: Any) -> Chain:
    """The input of the graph; its first axis counts inputs unless the shape says otherwise."""
    if not item.type.tensor_type.HasField("shape"):
        return Chain(shape=None)
    sizes = tuple(d.dim_value for d in item.type.tensor_type.shape.dim)
    if len(sizes) < 2:
        return Chain(shape=sizes, layout="vector")
    # (n_in, n_inputs): the first axis has a length and the second has none, or 1.
    columns = len(sizes) == 2 and sizes[0] > 0 and sizes[1] <= 1
    layout: Layout = "open" if columns else "rows"
    return Chain(shape=sizes[1:], layout=layout, batch=max(0, sizes[0]))


def _wanted(path: Path, graph: Any, constants: Mapping[str, Array]) -> tuple[str, list[Any]]:
    """The output to read and the nodes it needs, in order.

    Classifiers from skl2onnx have a branch for the label, which is left out, and pack the
    probabilities in a ZipMap; with two classes they are 1 - p and p, of one neuron p, which is
    what is read.
    """
    makers = {name: node for node in graph.node for name in node.output if name}

    def made_by(name: str, kind: str) -> Any:
        return makers[name] if name in makers and makers[name].op_type == kind else None

    names = [item.name for item in graph.output]
    if len(names) != 1:
        numbers = [
            item.name
            for item in graph.output
            if item.type.tensor_type.elem_type in _REAL_TYPES or made_by(item.name, "ZipMap")
        ]
        if len(numbers) != 1:
            raise FormatError(
                f"{path}: expected one output of real numbers, got {len(numbers)} "
                f"among {', '.join(names) or 'none'}"
            )
        names = numbers
    wanted = names[0]
    if made_by(wanted, "ZipMap"):
        wanted = makers[wanted].input[0]
    tail = made_by(wanted, "Reshape")
    # A regressor's outputs end below one another, (n_inputs * n_outputs, 1), in the same order.
    if tail and np.array_equal(constants.get(tail.input[-1], 0), [-1, 1]):
        wanted = tail.input[0]
    pair = made_by(wanted, "Concat")
    rest = made_by(pair.input[0], "Sub") if pair and len(pair.input) == 2 else None
    if rest and rest.input[1] == pair.input[1] and constants.get(rest.input[0]) == 1:
        wanted = pair.input[1]
    needed, open_names = set(), [wanted]
    while open_names:
        node = makers.get(open_names.pop())
        if node is not None and node.output[0] not in needed:
            needed.add(node.output[0])
            open_names.extend(node.input)
    return wanted, [node for node in graph.node if needed.intersection(node.output)]


def _step(node: Any, values: Mapping[str, Any], opset: int) -> Any:
    """The value a node makes: a constant array or a `Chain`."""
    unknown = [name for name in node.input if name not in values]
    if unknown:
        raise UnreadableError(f"expected inputs that other nodes make, got {unknown[0]!r}")
    arguments: list[Any] = [values[name] for name in node.input]
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    kind = node.op_type if node.domain in ("", "ai.onnx", "ai.onnx.ml") else "unknown"
    if kind == "Constant":
        return _constant(attributes)
    if kind == "Shape" and isinstance(arguments[0], Chain):
        return _shape_of(arguments[0], attributes)
    chains = [a for a in arguments if isinstance(a, Chain)]
    if not chains:
        return _folded(kind, arguments, attributes)
    if kind not in _READ:
        raise UnreadableError(f"expected one of {', '.join(_READ)}")
    if len(chains) > 1:
        raise UnreadableError("expected one computed input, got two: only chains are read")
    match kind:
        case "MatMul" | "Gemm":
            return _product(kind, arguments, attributes)
        case "Add" | "Sub" | "Mul" | "Div":
            return _affine(kind, arguments)
        case "Scaler":
            offset, scale = (attributes.get(k, v) for k, v in (("offset", 0.0), ("scale", 1.0)))
            return chains[0].plus(-np.asarray(offset, np.float64)).times(np.asarray(scale, float))
        case "Softmax":
            _check_axis(chains[0], attributes.get("axis", 1 if opset < 13 else -1), opset)
            return chains[0].read_out()
        case "LeakyRelu":
            return chains[0].activated("leaky_relu", float(attributes.get("alpha", 0.01)))
        case "Sigmoid" | "Relu" | "Tanh" | "Softplus":
            return chains[0].activated(_ACTIVATIONS[kind], 0.0)
        case _:
            return _passed(kind, arguments, attributes)


def _constant(attributes: Mapping[str, Any]) -> Array:
    for key in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if key in attributes:
            value = attributes[key]
            return numpy_helper.to_array(value) if key == "value" else np.asarray(value)
    raise UnreadableError("expected a constant of numbers")


def _shape_of(chain: Chain, attributes: Mapping[str, Any]) -> Array:
    """A computed shape, as torch writes x.view(x.size(0), -1)."""
    if chain.layout != "rows" or chain.shape is None or 0 in chain.shape:
        raise UnreadableError("expected an input whose shape the file states")
    sizes = [chain.batch or BATCH, *chain.shape]
    return np.array(sizes[attributes.get("start", 0) : attributes.get("end")], np.int64)


def _folded(kind: str, arguments: list[Any], attributes: Mapping[str, Any]) -> Array:
    """A node of constants alone, as exporters leave them behind."""
    first, *rest = arguments or [None]
    axes = rest[0] if rest else attributes.get("axes")
    match kind:
        case "Transpose":
            return np.transpose(first, attributes.get("perm"))
        case "Reshape":
            return np.reshape(first, rest[0])
        case "Identity":
            return np.asarray(first)
        case "Cast":
            return np.asarray(first).astype(onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))
        case "Squeeze":
            return np.squeeze(first, None if axes is None else tuple(np.asarray(axes).ravel()))
        case "Unsqueeze":
            return np.expand_dims(first, tuple(np.asarray(axes).ravel()))
        case "Gather":
            return np.take(first, rest[0], axis=attributes.get("axis", 0))
        case "Concat":
            return np.concatenate(arguments, axis=attributes["axis"])
        case _:
            raise UnreadableError("expected an input that depends on the network's input")


def _real(value: Any) -> Array:
    """A constant to compute with, as float64."""
    array = np.asarray(value)
    if array.dtype.kind in "iubcOSU":  # whole numbers: a division of theirs would be another one
        raise UnreadableError(f"expected a constant of real numbers, got {array.dtype}")
    return array.astype(np.float64)


def _product(kind: str, arguments: list[Any], attributes: Mapping[str, Any]) -> Chain:
    first = not isinstance(arguments[0], Chain)
    if first and kind == "Gemm":
        raise UnreadableError("expected the weight as the second factor")
    chain, other = (arguments[1], arguments[0]) if first else (arguments[0], arguments[1])
    weight = _real(other)
    if weight.ndim != 2 or 0 in weight.shape:
        raise UnreadableError(f"expected a weight with two axes, got shape {weight.shape}")
    if kind == "MatMul":
        return chain.through(weight if first else weight.T, first=first)
    if attributes.get("transA", 0):
        raise UnreadableError("expected transA = 0 for inputs in rows, got 1")
    weight = weight if attributes.get("transB", 0) else weight.T
    product = chain.through(attributes.get("alpha", 1.0) * weight)
    if len(arguments) > 2 and arguments[2] is not None:
        product = product.plus(attributes.get("beta", 1.0) * _real(arguments[2]))
    return product


def _affine(kind: str, arguments: list[Any]) -> Chain:
    behind = isinstance(arguments[0], Chain)
    chain, other = (arguments[0], arguments[1]) if behind else (arguments[1], arguments[0])
    constant = _real(other)
    match kind:
        case "Add":
            return chain.plus(constant)
        case "Mul":
            return chain.times(constant)
        case "Sub":
            return chain.plus(-constant) if behind else chain.times(np.array(-1.0)).plus(constant)
        case _:
            if not behind or not constant.all():
                raise UnreadableError("expected a constant divisor other than 0")
            return chain.times(1 / constant)


def _check_axis(chain: Chain, axis: int, opset: int) -> None:
    """A softmax is over the units of one input, all of them."""
    wanted = 1 if chain.layout == "rows" else 0
    axes = len(chain.shape or ()) + (chain.layout != "vector")
    # Up to opset 12 everything from the axis on is one row; later it is the axis alone.
    one_row = chain.layout != "columns" if opset < 13 else len(chain.shape or ()) == 1
    if not (-axes <= axis < axes) or axis % axes != wanted or not one_row:
        raise UnreadableError(f"expected Softmax over the units, axis {wanted}, got axis {axis}")


def _passed(kind: str, arguments: list[Any], attributes: Mapping[str, Any]) -> Chain:
    """Steps that leave the values of every input as they are, and in their order."""
    if not isinstance(arguments[0], Chain):
        raise UnreadableError("expected a constant shape, got one that depends on the values")
    chain: Chain = arguments[0]
    axes = arguments[1] if len(arguments) > 1 else attributes.get("axes")
    match kind:
        case "Dropout":
            if len(arguments) > 2 and arguments[2] is not None and np.any(arguments[2]):
                raise UnreadableError("expected a trained network, got training_mode = 1")
        case "Cast":
            if attributes.get("to") not in _REAL_TYPES:
                raise UnreadableError("expected a cast to real numbers")
        case "Flatten":
            rank = len(chain.shape or ()) + 1
            if attributes.get("axis", 1) not in (1, 1 - rank):
                raise UnreadableError(f"expected axis 1, got {attributes['axis']}")
            return chain.flattened()
        case "Reshape":
            target = arguments[1] if len(arguments) > 1 else attributes["shape"]
            if attributes.get("allowzero", 0) and 0 in np.asarray(target):
                raise UnreadableError("expected a shape without sizes of 0")
            return chain.reshaped(np.ravel(target).tolist())
        case "Squeeze":
            return chain.squeezed(None if axes is None else np.ravel(axes).tolist())
        case "Transpose":
            return chain.transposed(attributes.get("perm"))
    return replace(chain)
