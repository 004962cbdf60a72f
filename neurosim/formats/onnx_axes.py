"""Nodes of an ONNX graph that put axes in another shape or order, or cut parts along one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurosim.formats.axes import BATCH
from neurosim.formats.joins import sliced, split
from neurosim.formats.onnx_constants import REAL_TYPES
from neurosim.formats.refusals import reason_against
from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers import Array

__all__ = ["PARTS", "RESHAPING", "SQUARES", "part", "reshaping", "shape_of", "squares"]

RESHAPING = (
    "Identity",
    "Dropout",
    "Cast",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Transpose",
)
PARTS = ("Slice", "Split", "Gather")
SQUARES = ("DepthToSpace", "SpaceToDepth")


def reshaping(kind: str, arguments: list[Any], attributes: Mapping[str, Any]) -> Tensor:
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


def shape_of(tensor: Tensor, attributes: Mapping[str, Any]) -> Array:
    """A computed shape, as torch writes x.view(x.size(0), -1)."""
    if tensor.layout != "rows" or tensor.shape is None or 0 in tensor.shape:
        raise UnreadableError("expected an input whose shape the file states")
    sizes = [tensor.batch or BATCH, *tensor.shape]
    return np.array(sizes[attributes.get("start", 0) : attributes.get("end")], np.int64)


def part(kind: str, arguments: list[Any], attributes: Mapping[str, Any], n_outputs: int) -> Any:
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
        raise UnreadableError(reason_against(kind, ()))
    last = int(places.flat[-1])
    part = sliced(x, axis, first, last + 1 or None, by)
    return part if places.ndim else part.squeezed([axis])


def squares(kind: str, x: Tensor, attributes: Mapping[str, Any]) -> Tensor:
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
