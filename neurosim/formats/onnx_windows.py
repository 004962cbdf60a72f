"""Nodes of an ONNX graph with windows over a map, zeros around it, or reductions of axes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurosim.formats.onnx_constants import real
from neurosim.formats.padding import same_padding
from neurosim.formats.pooling import average_pooled, max_pooled, reduced
from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers.windows import NO_PADDING, Padding, Pair

__all__ = ["REDUCTIONS", "WINDOWS", "padded", "reduction", "window"]

WINDOWS = ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Pad")
REDUCTIONS = {"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "max"}


def window(kind: str, arguments: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    """A convolution or pool over height and width."""
    x = arguments[0]
    kernel = real(arguments[1]) if kind == "Conv" else None
    shape = list(kernel.shape[2:] if kernel is not None else attributes["kernel_shape"])
    if len(shape) not in (1, 2) or len(x.shape or ()) != len(shape) + 1:
        raise UnreadableError(
            f"expected a window over one or two axes of a feature map, got one of {len(shape)} "
            f"axes over values of shape {x.shape} an input"
        )
    if len(shape) == 1:  # a line is a map of one row
        upright = _upright(attributes, shape)
        first = arguments[1:] if kernel is None else [kernel[:, :, None], *arguments[2:]]
        return window(kind, [x.upright(), *first], upright).lying()
    size, stride, dilation = (
        (int(a), int(b))
        for a, b in (shape, attributes.get("strides", (1, 1)), attributes.get("dilations", (1, 1)))
    )
    padding = _padding(x, size, stride, dilation, attributes)
    if kernel is not None:
        groups = int(attributes.get("group", 1))
        y = x.convolved(kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
        bias = arguments[2] if len(arguments) > 2 else None
        return y if bias is None else y.plus(real(bias).reshape(-1, 1, 1))
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


def padded(arguments: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    """Zeros around a map or a line, its channels first or last."""
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


def reduction(kind: str, arguments: list[Any], attributes: Mapping[str, Any]) -> Tensor:
    """The mean, sum or largest value of each input over some axes."""
    x = arguments[0]
    axes = arguments[1] if len(arguments) > 1 else attributes.get("axes")
    over = range(len(x.shape or ()) + 1) if axes is None else np.ravel(axes).tolist()
    return reduced(x, over, REDUCTIONS[kind], keep=bool(attributes.get("keepdims", 1)))
