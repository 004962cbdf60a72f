"""What each node of an ONNX graph makes: a constant array, or a `Tensor` of the network."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import defs, helper, numpy_helper

from neurosim.formats.activations import (
    SELU_ALPHA,
    SELU_SCALE,
    bound,
    celu,
    clamped,
    elu,
    hard_sigmoid,
)
from neurosim.formats.joins import added, concatenated
from neurosim.formats.onnx_axes import PARTS, RESHAPING, SQUARES, part, reshaping, shape_of, squares
from neurosim.formats.onnx_constants import COMPUTED, computed, real
from neurosim.formats.onnx_fusions import slope
from neurosim.formats.onnx_linear import LINEAR_MODELS, linear_model
from neurosim.formats.onnx_windows import REDUCTIONS, WINDOWS, padded, reduction, window
from neurosim.formats.pooling import reduced
from neurosim.formats.refusals import has_reason, reason_against
from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers import Array

__all__ = ["has_no_place", "step"]

_ACTIVATIONS = {
    "Relu": "relu",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Sigmoid": "sigmoid",
    "HardSwish": "hard_swish",
    "Swish": "silu",
    "Gelu": "gelu",
    "Mish": "mish",
}
_JOINS = ("Add", "Sub", "Sum", "Concat")
_READ = (
    "MatMul",
    "Gemm",
    *WINDOWS,
    *REDUCTIONS,
    "BatchNormalization",
    *_JOINS,
    "Mul",
    "Div",
    "Scaler",
    "Neg",
    "LeakyRelu",
    "PRelu",
    "Max",
    "Clip",
    "HardSigmoid",
    "Elu",
    "Selu",
    "Celu",
    *_ACTIVATIONS,
    "Softmax",
    *RESHAPING,
    *PARTS,
    *SQUARES,
    *LINEAR_MODELS,
    "Normalizer",
    "Constant",
)


def has_no_place(kind: str) -> bool:
    """Whether it is known why no network has an operator, whatever its inputs are."""
    return has_reason(kind) and kind not in _READ and kind not in COMPUTED


def step(node: Any, values: Mapping[str, Any], opset: int) -> Any:
    """The value a node makes: a constant array or a `Tensor`; a tuple of those of all its outputs.

    Raises
    ------
    UnreadableError
        If the node has no place in a network, with the reason.
    """
    unknown = [name for name in node.input if name not in values]
    if unknown:
        raise UnreadableError(f"expected inputs that other nodes make, got {unknown[0]!r}")
    arguments: list[Any] = [values[name] for name in node.input]
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    kind = node.op_type
    if node.domain not in ("", "ai.onnx", "ai.onnx.ml"):
        raise UnreadableError(
            f"expected an operator of ONNX itself, got one of {node.domain}; export the network "
            "without the optimisations of a runtime"
        )
    most = defs.get_schema(kind).max_input if defs.has(kind) else len(arguments)
    if len(arguments) > most:
        raise UnreadableError(f"expected at most {most} inputs, got {len(arguments)}")
    if kind == "Constant":
        return _constant(attributes)
    if kind == "Shape" and isinstance(arguments[0], Tensor):
        return shape_of(arguments[0], attributes)
    tensors = [a for a in arguments if isinstance(a, Tensor)]
    if not tensors:
        return computed(node, arguments, attributes, opset)
    if kind not in _READ:
        raise UnreadableError(reason_against(kind, _READ))
    if len(tensors) > 1 or kind in ("Sum", "Concat"):
        return _joined(kind, arguments, attributes)
    x = tensors[0]
    if kind == "Gather" and arguments[0] is not x:
        raise UnreadableError(reason_against("Embedding", _READ))
    if arguments[0] is not x and kind not in ("MatMul", "Gemm", "Add", "Sub", "Mul", "Div", "Max"):
        raise UnreadableError("expected constants behind the first input, got computed values")
    match kind:
        case "MatMul" | "Gemm":
            return _product(kind, arguments, attributes)
        case "Conv" | "MaxPool" | "AveragePool":
            return window(kind, arguments, attributes)
        case "GlobalAveragePool" | "GlobalMaxPool":
            spatial = range(2, len(x.shape or ()) + 1)
            return reduced(x, spatial, "mean" if "Average" in kind else "max", keep=True)
        case _ if kind in LINEAR_MODELS:
            return linear_model(kind, x, attributes)
        case _ if kind in REDUCTIONS:
            return reduction(kind, arguments, attributes)
        case _ if kind in PARTS:
            return part(kind, arguments, attributes, len(node.output))
        case "BatchNormalization":
            gamma, beta, mean, variance = (real(a) for a in arguments[1:])
            if attributes.get("training_mode", 0):
                raise UnreadableError("expected a trained network, got training_mode = 1")
            epsilon = attributes.get("epsilon", 1e-5)
            return x.normalised(mean, variance, gamma, beta, epsilon, 0)
        case _ if kind in SQUARES:
            return squares(kind, x, attributes)
        case "Pad":
            return padded(arguments, attributes)
        case "Add" | "Sub" | "Mul" | "Div":
            return _affine(kind, arguments)
        case "Scaler":
            offset, scale = (attributes.get(k, v) for k, v in (("offset", 0.0), ("scale", 1.0)))
            return x.plus(-np.asarray(offset, np.float64)).times(np.asarray(scale, float))
        case "Softmax":
            _check_axis(x, attributes.get("axis", 1 if opset < 13 else -1), opset)
            return x.read_out()
        case "Normalizer" if x.softmax and attributes.get("norm", b"MAX") == b"L1":
            return x  # probabilities, which add up to 1 already
        case "Normalizer":
            raise UnreadableError(reason_against(kind, _READ))
        case "Neg":
            return x.times(-1.0)
        case "PRelu":
            slopes = np.unique(real(arguments[1]))
            if len(slopes) != 1:
                raise UnreadableError(
                    f"expected one slope for all channels, a leaky relu, got {len(slopes)} slopes"
                )
            return x.activated("leaky_relu", float(slopes[0]))
        case "Max":
            return clamped(x, max(bound(real(a)) for a in arguments if a is not x), None)
        case "HardSigmoid":
            return hard_sigmoid(x, *slope(node))
        case "LeakyRelu":
            return x.activated("leaky_relu", float(attributes.get("alpha", 0.01)))
        case "Clip":
            return _clipped(arguments, attributes)
        case "Gelu" if attributes.get("approximate", b"none") == b"tanh":
            return x.activated("gelu_tanh")
        case "Elu":
            return elu(x, float(attributes.get("alpha", 1.0)))
        case "Selu":
            # The defaults of ONNX are those of selu in single precision.
            scale = float(attributes.get("gamma", SELU_SCALE))
            return elu(x, float(attributes.get("alpha", SELU_ALPHA)), scale=scale)
        case "Celu":
            return celu(x, float(attributes.get("alpha", 1.0)))
        case _ if kind in _ACTIVATIONS:
            if kind == "Swish" and attributes.get("alpha", 1.0) != 1:
                raise UnreadableError("expected Swish with alpha = 1")
            return x.activated(_ACTIVATIONS[kind])
        case _:
            return reshaping(kind, arguments, attributes)


def _constant(attributes: Mapping[str, Any]) -> Array:
    for key in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if key in attributes:
            value = attributes[key]
            return numpy_helper.to_array(value) if key == "value" else np.asarray(value)
    raise UnreadableError("expected a constant of numbers")


def _joined(kind: str, arguments: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    """Several computed inputs in one node."""
    if kind in ("Mul", "MatMul", "Gemm", "Div"):
        raise UnreadableError(reason_against("Attention", _READ))
    if kind not in _JOINS or not all(isinstance(a, Tensor) for a in arguments):
        raise UnreadableError(
            f"expected one computed input, got {len(arguments)}; only {', '.join(_JOINS)} of "
            "computed inputs are read"
        )
    if kind == "Sub":
        return added([arguments[0], arguments[1].times(-1.0)])
    if kind != "Concat":
        return arguments[0] if len(arguments) == 1 else added(arguments)
    return concatenated(arguments, arguments[0].axis(int(attributes["axis"])) - 1)


def _product(kind: str, arguments: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    first = not isinstance(arguments[0], Tensor)
    if first and kind == "Gemm":
        raise UnreadableError("expected the weight as the second factor")
    tensor, other = (arguments[1], arguments[0]) if first else (arguments[0], arguments[1])
    weight = real(other)
    if weight.ndim != 2 or 0 in weight.shape:
        raise UnreadableError(f"expected a weight with two axes, got shape {weight.shape}")
    if kind == "MatMul":
        return tensor.through(weight if first else weight.T, first=first)
    if attributes.get("transA", 0):
        raise UnreadableError("expected transA = 0 for inputs in rows, got 1")
    weight = weight if attributes.get("transB", 0) else weight.T
    product = tensor.through(attributes.get("alpha", 1.0) * weight)
    if len(arguments) > 2 and arguments[2] is not None:
        product = product.plus(attributes.get("beta", 1.0) * real(arguments[2]))
    return product


def _clipped(arguments: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    """Clip, its bounds inputs or attributes."""
    given = [*arguments[1:], None, None]
    low, high = (attributes.get("min"), attributes.get("max"))
    low = given[0] if given[0] is not None else low
    high = given[1] if given[1] is not None else high
    return clamped(arguments[0], *(None if b is None else bound(real(b)) for b in (low, high)))


def _affine(kind: str, arguments: list[Any]) -> Tensor:
    behind = isinstance(arguments[0], Tensor)
    tensor, other = (arguments[0], arguments[1]) if behind else (arguments[1], arguments[0])
    constant = real(other)
    match kind:
        case "Add":
            return tensor.plus(constant)
        case "Mul":
            return tensor.times(constant)
        case "Sub":
            return tensor.plus(-constant) if behind else tensor.times(-1.0).plus(constant)
        case _:
            if not behind or not constant.all():
                raise UnreadableError("expected a constant divisor other than 0")
            return tensor.times(1 / constant)


def _check_axis(tensor: Tensor, axis: int, opset: int) -> None:
    """A softmax is over the units of one input, all of them."""
    wanted = 1 if tensor.layout == "rows" else 0
    axes = len(tensor.shape or ()) + (tensor.layout != "vector")
    # Up to opset 12 everything from the axis on is one row; later it is the axis alone.
    one_row = tensor.layout != "columns" if opset < 13 else len(tensor.shape or ()) == 1
    if not (-axes <= axis < axes) or axis % axes != wanted or not one_row:
        raise UnreadableError(f"expected Softmax over the units, axis {wanted}, got axis {axis}")
