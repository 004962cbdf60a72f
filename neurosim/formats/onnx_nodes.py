"""What each node of an ONNX graph makes: a constant array, or a `Tensor` of the network."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
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
from neurosim.formats.axes import BATCH
from neurosim.formats.joins import added, concatenated, sliced, split
from neurosim.formats.onnx_constants import COMPUTED, computed
from neurosim.formats.onnx_fusions import slope
from neurosim.formats.onnx_linear import LINEAR_MODELS, linear_model
from neurosim.formats.padding import same_padding
from neurosim.formats.pooling import average_pooled, max_pooled, reduced
from neurosim.formats.refusals import has_reason, reason_against
from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers import Array
from neurosim.layers.windows import NO_PADDING, Padding, Pair

__all__ = ["REAL_TYPES", "has_no_place", "step"]

REAL_TYPES = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
)

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
_WINDOWS = ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Pad")
_REDUCTIONS = {"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max"}
_JOINS = ("Add", "Sub", "Sum", "Concat")
_RESHAPING = (
    "Identity",
    "Dropout",
    "Cast",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
)
_PARTS = ("Slice", "Split", "Gather")
_SQUARES = ("DepthToSpace", "SpaceToDepth")
_READ = (
    "MatMul",
    "Gemm",
    *_WINDOWS,
    *_REDUCTIONS,
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
    *_RESHAPING,
    *_PARTS,
    *_SQUARES,
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
        return _shape_of(arguments[0], attributes)
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
            return _window(kind, arguments, attributes)
        case "GlobalAveragePool" | "GlobalMaxPool":
            spatial = range(2, len(x.shape or ()) + 1)
            return reduced(x, spatial, "mean" if "Average" in kind else "max", keep=True)
        case _ if kind in LINEAR_MODELS:
            return linear_model(kind, x, attributes)
        case _ if kind in _REDUCTIONS:
            return _reduced(kind, arguments, attributes)
        case _ if kind in _PARTS:
            return _part(kind, arguments, attributes, len(node.output))
        case "BatchNormalization":
            gamma, beta, mean, variance = (_real(a) for a in arguments[1:])
            if attributes.get("training_mode", 0):
                raise UnreadableError("expected a trained network, got training_mode = 1")
            epsilon = attributes.get("epsilon", 1e-5)
            return x.normalised(mean, variance, gamma, beta, epsilon, 0)
        case _ if kind in _SQUARES:
            return _squares(kind, x, attributes)
        case "Pad":
            return _padded(arguments, attributes)
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
            slopes = np.unique(_real(arguments[1]))
            if len(slopes) != 1:
                raise UnreadableError(
                    f"expected one slope for all channels, a leaky relu, got {len(slopes)} slopes"
                )
            return x.activated("leaky_relu", float(slopes[0]))
        case "Max":
            return clamped(x, max(bound(_real(a)) for a in arguments if a is not x), None)
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
            return _passed(kind, arguments, attributes)


def _constant(attributes: Mapping[str, Any]) -> Array:
    for key in ("value", "value_float", "value_int", "value_floats", "value_ints"):
        if key in attributes:
            value = attributes[key]
            return numpy_helper.to_array(value) if key == "value" else np.asarray(value)
    raise UnreadableError("expected a constant of numbers")


def _shape_of(tensor: Tensor, attributes: Mapping[str, Any]) -> Array:
    """A computed shape, as torch writes x.view(x.size(0), -1)."""
    if tensor.layout != "rows" or tensor.shape is None or 0 in tensor.shape:
        raise UnreadableError("expected an input whose shape the file states")
    sizes = [tensor.batch or BATCH, *tensor.shape]
    return np.array(sizes[attributes.get("start", 0) : attributes.get("end")], np.int64)


def _real(value: Any) -> Array:
    """A constant to compute with, as float64."""
    if isinstance(value, Tensor):
        raise UnreadableError("expected constant weights, got ones that depend on the input")
    array = np.asarray(value)
    if array.dtype.kind in "iubcOSU":  # whole numbers: a division of theirs would be another one
        raise UnreadableError(f"expected a constant of real numbers, got {array.dtype}")
    return array.astype(np.float64)


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
    weight = _real(other)
    if weight.ndim != 2 or 0 in weight.shape:
        raise UnreadableError(f"expected a weight with two axes, got shape {weight.shape}")
    if kind == "MatMul":
        return tensor.through(weight if first else weight.T, first=first)
    if attributes.get("transA", 0):
        raise UnreadableError("expected transA = 0 for inputs in rows, got 1")
    weight = weight if attributes.get("transB", 0) else weight.T
    product = tensor.through(attributes.get("alpha", 1.0) * weight)
    if len(arguments) > 2 and arguments[2] is not None:
        product = product.plus(attributes.get("beta", 1.0) * _real(arguments[2]))
    return product


def _window(kind: str, arguments: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    """A convolution or pool over height and width."""
    x = arguments[0]
    kernel = _real(arguments[1]) if kind == "Conv" else None
    shape = list(kernel.shape[2:] if kernel is not None else attributes["kernel_shape"])
    if len(shape) not in (1, 2) or len(x.shape or ()) != len(shape) + 1:
        raise UnreadableError(
            f"expected a window over one or two axes of a feature map, got one of {len(shape)} "
            f"axes over values of shape {x.shape} an input"
        )
    if len(shape) == 1:  # a line is a map of one row
        upright = _upright(attributes, shape)
        first = arguments[1:] if kernel is None else [kernel[:, :, None], *arguments[2:]]
        return _window(kind, [x.upright(), *first], upright).lying()
    size, stride, dilation = (
        (int(a), int(b))
        for a, b in (shape, attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1)))
    )
    padding = _padding(x, size, stride, dilation, attributes)
    if kernel is not None:
        groups = int(attributes.get("group", 1))
        y = x.convolved(kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
        bias = arguments[2] if len(arguments) > 2 else None
        return y if bias is None else y.plus(_real(bias).reshape(-1, 1, 1))
    ceil = bool(attributes.get("ceil_mode", 0))
    if kind == "MaxPool":
        return max_pooled(x, size, stride=stride, padding=padding, dilation=dilation, ceil=ceil)
    if dilation != (1, 1):
        raise UnreadableError(f"expected no dilations of a mean, got {dilation}")
    counted = bool(attributes.get("count_include_pad", 0))
    return average_pooled(x, size, stride=stride, padding=padding, count_padding=counted, ceil=ceil)


def _upright(attributes: Mapping[str, Any], shape: list[int]) -> dict[str, Any]:
    """Attributes of a window over one axis as those of one over a map of one row."""
    given = {**attributes, "kernel_shape": [1, *shape]}
    for key in ("strides", "dilations"):
        if key in given:
            given[key] = [1, *given[key]]
    if "pads" in given:
        before, after = given["pads"]
        given["pads"] = [0, before, 0, after]
    return given


def _padding(
    x: Tensor,
    size: Pair,
    stride: Pair,
    dilation: Pair,
    attributes: Mapping[str, Any],
) -> Padding:
    automatic = attributes.get("auto_pad", b"NOTSET")
    if automatic == b"VALID":
        return NO_PADDING
    if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
        lower = automatic == b"SAME_LOWER"
        return same_padding(x.map_size, size, stride, dilation, more_in_front=lower)
    if automatic != b"NOTSET":
        raise UnreadableError(f"expected auto_pad NOTSET, VALID or SAME_..., got {automatic!r}")
    top, left, bottom, right = (int(n) for n in attributes.get("pads", (0, 0, 0, 0)))
    if min(top, left, bottom, right) < 0:
        raise UnreadableError("expected no negative pads")
    return (top, bottom), (left, right)


def _reduced(kind: str, arguments: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    """The mean, sum or largest value of each input over some axes."""
    x = arguments[0]
    axes = arguments[1] if len(arguments) > 1 else attributes.get("axes")
    over = range(len(x.shape or ()) + 1) if axes is None else np.ravel(axes).tolist()
    return reduced(x, over, _REDUCTIONS[kind], keep=bool(attributes.get("keepdims", 1)))


def _part(kind: str, arguments: list[Any], attributes: Mapping[str, Any], n_outputs: int) -> Any:
    """Parts of every input, cut along an axis."""
    if not isinstance(arguments[0], Tensor) or any(isinstance(a, Tensor) for a in arguments[1:]):
        raise UnreadableError("expected constant places, got ones that depend on the values")
    x: Tensor = arguments[0]
    if kind == "Slice":
        keys = ("starts", "ends", "axes", "steps")
        given = [*arguments[1:], None, None] if len(arguments) > 1 else map(attributes.get, keys)
        starts, ends, axes, steps = (
            None if part is None else np.ravel(part).tolist() for part in list(given)[:4]
        )
        if starts is None or ends is None:
            raise UnreadableError("expected starts and ends, got none")
        for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
            axis = x.axis(k if axes is None else axes[k])
            x = sliced(x, axis, start, end, 1 if steps is None else steps[k])
        return x
    axis = x.axis(int(attributes.get("axis", 0)))
    n = ([0, *(x.shape or ())])[axis]
    if kind == "Split":
        sizes = arguments[1] if len(arguments) > 1 else attributes.get("split")
        if sizes is None:
            each = -(-n // n_outputs)
            sizes = [min(each, n - k * each) for k in range(n_outputs)]
        return split(x, axis, [int(n) for n in np.ravel(sizes)])
    places = np.asarray(arguments[1])
    if not places.size or places.min() < -n or places.max() >= n:
        raise UnreadableError(
            f"expected places of {n} values an input, got {places.tolist()!s:.60}"
        )
    first, by = int(places.flat[0]), int(places.flat[1] - places.flat[0]) if places.size > 1 else 1
    if places.ndim > 1 or by < 1 or np.any(places.ravel() != first + by * np.arange(places.size)):
        raise UnreadableError(reason_against(kind, _READ))
    last = int(places.flat[-1])
    part = sliced(x, axis, first, last + 1 or None, by)
    return part if places.ndim else part.squeezed([axis])


def _squares(kind: str, x: Tensor, attributes: Mapping[str, Any]) -> Tensor:
    """Channels laid out as squares of a map, or the other way round."""
    shape, r = x.shape or (), int(attributes["blocksize"])
    if len(shape) != 3:
        raise UnreadableError(f"expected a feature map, got values of shape {shape} an input")
    c, h, w = shape
    if kind == "SpaceToDepth":
        turned = x.reshaped([BATCH, c, h // r, r, w // r, r]).transposed([0, 3, 5, 1, 2, 4])
        return turned.reshaped([BATCH, c * r * r, h // r, w // r])
    c = c // r**2
    if attributes.get("mode", b"DCR") == b"DCR":
        turned = x.reshaped([BATCH, r, r, c, h, w]).transposed([0, 3, 4, 1, 5, 2])
    else:
        turned = x.reshaped([BATCH, c, r, r, h, w]).transposed([0, 1, 4, 2, 5, 3])
    return turned.reshaped([BATCH, c, h * r, w * r])


def _padded(arguments: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    x = arguments[0]
    pads = arguments[1] if len(arguments) > 1 else attributes.get("pads")
    value = arguments[2] if len(arguments) > 2 else attributes.get("value", 0.0)
    mode = attributes.get("mode", b"constant")
    known = pads is not None and not isinstance(pads, Tensor)
    sizes = [int(n) for n in np.ravel(np.asarray(pads))] if known else []
    axes = arguments[3] if len(arguments) > 3 else None
    rank = len(x.shape or ()) + 1
    if axes is not None and len(sizes) == 2 * np.size(axes):
        whole = [0] * 2 * rank
        for k, axis in enumerate(np.ravel(axes).tolist()):
            place = x.axis(axis)
            whole[place], whole[place + rank] = sizes[k], sizes[k + len(sizes) // 2]
        sizes = whole
    written = sizes
    if rank == 3 and len(sizes) == 6:  # a line: a map of one row
        sizes = [*sizes[:2], 0, sizes[2], *sizes[3:5], 0, sizes[5]]
    if mode != b"constant" or np.any(value) or len(sizes) != 8 or min(sizes) < 0:
        raise UnreadableError(
            f"expected zeros around a map, got mode {mode!r}, value {value}, pads {written}"
        )
    if sizes[:2] + sizes[4:6] == [0] * 4:
        around = ((sizes[2], sizes[6]), (sizes[3], sizes[7]))
        return x.upright().padded(around).lying() if rank == 3 else x.padded(around)
    if [sizes[k] for k in (0, 3, 4, 7)] == [0] * 4:  # (n_inputs, height, width, channels)
        around = ((sizes[1], sizes[5]), (sizes[2], sizes[6]))
        if rank == 3:  # (n_inputs, length, channels)
            first = x.transposed((0, 2, 1)).upright().padded(around[::-1]).lying()
            return first.transposed((0, 2, 1))
        return x.transposed((0, 3, 1, 2)).padded(around).transposed((0, 2, 3, 1))
    raise UnreadableError(f"expected zeros around height and width only, got pads {written}")


def _clipped(arguments: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    """Clip, its bounds inputs or attributes."""
    given = [*arguments[1:], None, None]
    low, high = (attributes.get("min"), attributes.get("max"))
    low = given[0] if given[0] is not None else low
    high = given[1] if given[1] is not None else high
    return clamped(arguments[0], *(None if b is None else bound(_real(b)) for b in (low, high)))


def _affine(kind: str, arguments: list[Any]) -> Tensor:
    behind = isinstance(arguments[0], Tensor)
    tensor, other = (arguments[0], arguments[1]) if behind else (arguments[1], arguments[0])
    constant = _real(other)
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


def _passed(kind: str, arguments: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    """Steps that leave the values of every input as they are."""
    if not isinstance(arguments[0], Tensor):
        raise UnreadableError("expected a constant shape, got one that depends on the values")
    x: Tensor = arguments[0]
    axes = arguments[1] if len(arguments) > 1 else attributes.get("axes")
    match kind:
        case "Dropout":
            if len(arguments) > 2 and arguments[2] is not None and np.any(arguments[2]):
                raise UnreadableError("expected a trained network, got training_mode = 1")
        case "Cast":
            if attributes.get("to") not in REAL_TYPES:
                raise UnreadableError("expected a cast to real numbers")
        case "Flatten":
            rank = len(x.shape or ()) + 1
            if attributes.get("axis", 1) not in (1, 1 - rank):
                raise UnreadableError(f"expected axis 1, got {attributes['axis']}")
            return x.flattened()
        case "Reshape":
            target = arguments[1] if len(arguments) > 1 else attributes["shape"]
            if attributes.get("allowzero", 0) and 0 in np.asarray(target):
                raise UnreadableError("expected a shape without sizes of 0")
            return x.reshaped(np.ravel(target).tolist())
        case "Squeeze":
            return x.squeezed(None if axes is None else np.ravel(axes).tolist())
        case "Unsqueeze":
            return x.unsqueezed(np.ravel(np.asarray(axes)).tolist())
        case "Transpose":
            return x.transposed(attributes.get("perm"))
    return x
