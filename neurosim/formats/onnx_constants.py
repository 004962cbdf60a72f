"""Constants of an ONNX graph, and nodes of constants, computed while reading by onnx itself."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper

from neurosim.formats.axes import BATCH
from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers import Array

__all__ = ["COMPUTED", "REAL_TYPES", "computed", "real"]

REAL_TYPES = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
)

# Shapes that exporters compute are short; a file that asks for more wants to fill memory.
_MOST_CONSTANTS = 10**6

_MOST_JOINED = 10**8  # weights may be joined, too
_WHOLE = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)

_ELEMENTWISE = frozenset((
    "Abs", "Add", "And", "BitShift", "Ceil", "Clip", "Cos", "Div", "Equal", "Erf", "Exp",
    "Floor", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min",
    "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign",
    "Sin", "Softplus", "Sqrt", "Sub", "Sum", "Tanh", "Where", "Xor"
))  # fmt: skip
# Those that keep the number of inputs in a computed shape what it is.
_MOVING = frozenset((
    "Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Gather", "Concat",
    "Slice", "Split", "Add", "Sub", "Mul"
))  # fmt: skip
_OTHERS = frozenset((
    "CastLike", "ConstantOfShape", "Expand", "Flatten", "Gemm", "MatMul", "Range", "ReduceL1",
    "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Shape", "Size", "Tile", "Trilu"
))  # fmt: skip
COMPUTED = _ELEMENTWISE | _MOVING | _OTHERS


def real(value: Any) -> Array:
    """A constant to compute with, as float64."""
    if isinstance(value, Tensor):
        raise UnreadableError("expected constant weights, got ones that depend on the input")
    array = np.asarray(value)
    if array.dtype.kind in "iubcOSU":  # whole numbers: a division of theirs would be another one
        raise UnreadableError(f"expected a constant of real numbers, got {array.dtype}")
    return array.astype(np.float64)


def computed(
    node: Any, arguments: Sequence[Any], attributes: Mapping[str, Any], opset: int
) -> tuple[Array, ...]:
    """What a node of constants makes, an array for each of its outputs.

    Raises
    ------
    UnreadableError
        If the operator is none of constants, or it would fill memory, or onnx refuses to compute.
    """
    kind = node.op_type
    if kind not in COMPUTED:
        raise UnreadableError(
            "expected an operator whose constants can be computed while reading, or an input "
            "that depends on the network's input; simplify the graph, or export it anew with "
            "constants folded"
        )
    known = [np.asarray(a) for a in arguments if a is not None]
    if any(a.dtype.kind == "i" and np.any(a <= BATCH // 2) for a in known) and (
        kind not in _MOVING or attributes.get("to", _WHOLE[0]) not in _WHOLE
    ):
        raise UnreadableError(
            "expected a constant whose shape does not depend on the inputs, got one for each of "
            "them; export the network for a fixed number of inputs"
        )
    size, most = _size(kind, known, attributes), max(_MOST_CONSTANTS, *(a.size for a in known))
    most = _MOST_JOINED if kind == "Concat" else most
    if size > most:
        raise UnreadableError(f"expected at most {most} values, got {size}")
    from onnx.reference import ReferenceEvaluator

    names = [name for name in node.input if name]
    outputs = [name for name in node.output if name]
    opsets = [helper.make_opsetid("", opset)]
    try:
        function = helper.make_function("", "constants", names, outputs, [node], opsets)
        made = ReferenceEvaluator(function).run(
            None, dict(zip(names, known, strict=True)), attributes={}
        )
    except Exception as error:  # its own errors, and those of NumPy
        text = " ".join(str(error).split())
        raise UnreadableError(f"expected constants that onnx can compute, got {text:.200}") from (
            error
        )
    by_name = dict(zip(outputs, made, strict=True))
    return tuple(np.asarray(by_name.get(name)) for name in node.output)


def _size(kind: str, known: Sequence[Array], attributes: Mapping[str, Any]) -> int:
    """Values that a node makes, where they may be many more than it is given."""
    shapes = [a.shape for a in known]
    match kind:
        case "ConstantOfShape":
            return prod(known[0].ravel().tolist())
        case "Expand":
            return prod(np.broadcast_shapes(shapes[0], tuple(known[1].ravel().tolist())))
        case "Tile":
            return known[0].size * prod(known[1].ravel().tolist())
        case "Range":
            start, limit, by = (float(a.item()) for a in known)
            return int((limit - start) / by) + 1
        case "Concat":
            return sum(a.size for a in known)
        case "Gather":
            return known[0].size // max(1, shapes[0][attributes.get("axis", 0)]) * known[1].size
        case "MatMul" | "Gemm":
            return max(shapes[0], default=1) * max(shapes[1], default=1) * prod(shapes[0][:-2])
        case _ if kind in _ELEMENTWISE:
            return prod(np.broadcast_shapes(*shapes))
    return 0
