"""What each node of a NIR graph is here: layers, and the factors of neurons."""

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from neurosim.errors import InputError
from neurosim.layers import (
    Affine,
    Array,
    AveragePool2D,
    Conv2D,
    Dense,
    Flatten,
    Reshape,
    Shape,
)

__all__ = [
    "neuron_factors",
    "numbers",
    "other_layers",
    "refuse_part",
    "scaled",
    "unrolled",
    "weighted_layer",
]


def numbers(node: Any, key: str) -> Array:
    """What a node holds under a key, as a row of numbers."""
    stored = np.asarray(getattr(node, key))
    if stored.dtype.kind not in "fiu":
        raise InputError(f"{key}: expected real numbers, got values of dtype {stored.dtype}")
    values = stored.astype(np.float64).ravel()
    wrong = values[~np.isfinite(values)]
    if wrong.size or not values.size:
        got = f"{wrong[0]} among {values.size}" if wrong.size else "none"
        raise InputError(f"{key}: expected finite numbers, got {got}")
    return values


def _two(node: Any, key: str) -> tuple[int, int]:
    values = numbers(node, key)
    if values.size > 2 or (values != values.astype(int)).any():
        raise InputError(
            f"{key}: expected a whole number, or two (height, width), got {values.tolist()}"
        )
    return int(values[0]), int(values[-1])


def refuse_part(node: Any, shape: Shape) -> None:
    """Of a Flatten: it must join all axes, of which some writers count that of the inputs as 0."""
    (start,), (end,) = (numbers(node, key).tolist() for key in ("start_dim", "end_dim"))
    if start not in (0, 1, -len(shape)) or end not in (-1, len(shape) - 1, len(shape)):
        raise InputError(
            f"expected a flatten of all axes, from start_dim 0 or 1 to end_dim -1, got {start:g} "
            f"to {end:g} of values of shape {shape}"
        )


def other_layers(node: Any, shape: Shape) -> tuple[list[Any], float]:
    """Layers that move or scale values or take means, and what makes sums of these."""
    kind = type(node).__name__
    if kind == "Flatten":
        refuse_part(node, shape)
        return [Flatten()], 1.0
    if kind == "Scale":
        n = prod(shape)
        scale = numbers(node, "scale")
        if scale.size not in (1, n):
            raise InputError(f"scale: expected one for each of {n} values, got {scale.size}")
        affine = Affine(scale=np.broadcast_to(scale, (n,)), shift=np.zeros(n))
        return [affine] if len(shape) == 1 else [Flatten(), affine, Reshape(shape=shape)], 1.0
    size, stride = _two(node, "kernel_size"), _two(node, "stride")
    layer = AveragePool2D(size=size, stride=stride, padding=_two(node, "padding"))  # type: ignore[arg-type]
    return [layer], float(prod(size)) if kind == "SumPool2d" else 1.0


def weighted_layer(node: Any, shape: Shape, factor: float) -> Dense | Conv2D:
    """Weights and bias of a node, the former for inputs times a factor."""
    weight = factor * numbers(node, "weight").reshape(np.shape(node.weight))
    bias = numbers(node, "bias") if hasattr(node, "bias") else np.zeros(len(weight))
    if np.shape(getattr(node, "bias", bias)) != bias.shape:
        raise InputError(f"bias: expected one axis, got shape {np.shape(node.bias)}")
    if type(node).__name__ != "Conv2d":
        if weight.ndim != 2 or weight.shape[1] != prod(shape):
            raise InputError(
                f"expected weights for {prod(shape)} inputs, all values of shape {shape}, got "
                f"shape {weight.shape}"
            )
        return Dense(weight=weight, bias=bias)
    if weight.ndim != 4:
        raise InputError(
            "weight: expected axes (channels_out, channels_in / groups, height, width), got shape "
            f"{weight.shape}"
        )
    stride, dilation = _two(node, "stride"), _two(node, "dilation")
    reach = [d * (n - 1) for d, n in zip(dilation, weight.shape[2:], strict=True)]
    padding: Any = ((0, 0), (0, 0))
    if not isinstance(node.padding, str):
        padding = _two(node, "padding")
    elif node.padding == "same":
        padding = tuple((n // 2, n - n // 2) for n in reach)
    elif node.padding != "valid":
        raise InputError(f'padding: expected numbers, "same" or "valid", got {node.padding!r}')
    (groups,) = numbers(node, "groups").tolist()
    return Conv2D(
        weight=weight, bias=bias, stride=stride, dilation=dilation, padding=padding,
        groups=int(groups),
    )  # fmt: skip


def unrolled(layers: list[Any], shape: Shape) -> Dense:
    """Linear layers of which the last has weights as one matrix, by what they make of each unit."""
    *before, last = layers
    n = prod(shape)
    units = np.eye(n).reshape(n, *shape)
    for layer in before:
        units = layer.preactivation(units)
    columns = last.push_forward(units).reshape(n, -1)
    return Dense(weight=columns.T, bias=np.repeat(last.bias, columns.shape[1] // len(last.bias)))


def scaled(part: Dense | Conv2D, scale: Array, shift: Array, n: int) -> Dense | Conv2D:
    """A layer of n units times a scale, plus a shift: one each, or one for all."""
    each = []
    for values in (scale, shift):
        if values.size not in (1, n):
            raise InputError(f"expected values for {n} neurons, got {values.size}")
        rows = np.broadcast_to(values, (n,)).reshape(len(part.bias), -1)
        if (rows != rows[:, :1]).any():
            raise InputError(
                "expected neurons that are alike within a channel, got other thresholds, "
                "resistances, leaks or scales; load with unroll=True"
            )
        each.append(rows[:, 0])
    columns = each[0].reshape(-1, *(1,) * (part.weight.ndim - 1))
    return replace(part, weight=part.weight * columns, bias=part.bias * each[0] + each[1])


def neuron_factors(node: Any, dt: float, found: dict[str, float]) -> tuple[Array, Array]:
    """Factor from weights to shares of the threshold in one step, and what v_leak adds in one.

    found: the time constants of the graph so far, which all of its neurons must share.
    """
    kind = type(node).__name__
    constants = {"tau_mem": 0.0}
    if kind == "LIF":
        constants["tau_mem"] = _common(node, "tau")
    elif kind == "CubaLIF":
        constants["tau_mem"] = _common(node, "tau_mem")
        constants["tau_syn"] = _common(node, "tau_syn")
    if found and found != constants:
        raise InputError(
            "expected neurons of one kind with the same time constants in all layers, got "
            f"{kind} with {constants} after {found}"
        )
    found.update(constants)
    threshold = numbers(node, "v_threshold")
    if not (threshold > 0).all():
        raise InputError("expected v_threshold above 0")
    if numbers(node, "v_reset").any():
        raise InputError("expected v_reset 0, got another voltage")
    share = dt / constants["tau_mem"] if constants["tau_mem"] else dt
    leak = numbers(node, "v_leak") if kind != "IF" else np.zeros_like(threshold)
    gain = numbers(node, "w_in") if kind == "CubaLIF" else np.ones(1)
    resistance = numbers(node, "r")
    sizes = {part.size for part in (threshold, leak, gain, resistance)} - {1}
    if len(sizes) > 1:
        raise InputError(f"expected parameters of one size, got {sorted(sizes)}")
    return share * resistance * gain / threshold, share * leak / threshold


def _common(node: Any, key: str) -> float:
    values = numbers(node, key)
    if not np.allclose(values, values[0], rtol=1e-6, atol=0):
        raise InputError(
            f"expected the same {key} for all neurons, got {values.min():g} to {values.max():g} s"
        )
    if not values[0] > 0:
        raise InputError(f"expected {key} above 0, got {values[0]:g} s")
    return float(values[0])
