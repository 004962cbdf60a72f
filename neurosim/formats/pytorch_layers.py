"""Layers of PyTorch: weights, batch normalisation, pools and what else reduces axes."""

from typing import Any

import numpy as np

from neurosim.formats.padding import same_padding
from neurosim.formats.pooling import average_pooled, max_pooled, reduced
from neurosim.formats.pytorch_arguments import Given, Reader, computed, real
from neurosim.formats.refusals import reason_against
from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers.windows import Padding, Pair

__all__ = ["LAYERS", "reduction"]


# Weights


def _linear(given: Given) -> Tensor:
    y = computed(given).through(real(given["weight"]))
    return y if given["bias"] is None else y.plus(real(given["bias"]))


def _product(given: Given) -> Tensor:
    weight = real(given["mat2"] if "mat2" in given else given["other"])
    if weight.ndim != 2:
        raise UnreadableError(f"expected a weight with two axes, got {weight.ndim}")
    return computed(given).through(weight.T)


def _product_and_sum(given: Given) -> Tensor:
    if not isinstance(given["mat1"], Tensor):
        raise UnreadableError("expected the weight as the second factor")
    y = given["mat1"].through(given["alpha"] * real(given["mat2"]).T)
    return y.plus(given["beta"] * real(given["self"]))


def _convolution(given: Given) -> Tensor:
    if given.get("transposed"):
        raise UnreadableError(reason_against("conv_transpose2d", ()))
    x, kernel = computed(given), real(given["weight"])
    x, line = _map(x, kernel.ndim - 2)
    kernel = kernel.reshape(*kernel.shape[:2], 1, -1) if line else kernel
    stride, dilation = (_pair(given[key], line, 1) for key in ("stride", "dilation"))
    padding = given["padding"]
    if padding == "same":
        sides = same_padding(x.map_size, kernel.shape[2:], (1, 1), dilation)
    else:
        sides = _sides(0 if padding == "valid" else padding, line)
    groups = int(given["groups"])
    y = x.convolved(kernel, stride=stride, padding=sides, dilation=dilation, groups=groups)
    if given["bias"] is not None:
        y = y.plus(real(given["bias"]).reshape(-1, 1, 1))
    return y.lying() if line else y


def _batch_norm(given: Given) -> Tensor:
    if given.get("training") or given.get("use_input_stats"):
        if "use_input_stats" in given:
            raise UnreadableError(reason_against("instance_norm", ()))
        raise UnreadableError("expected trained statistics, got those of a batch; call eval()")
    mean, variance = real(given["running_mean"]), real(given["running_var"])
    weight, bias = given["weight"], given["bias"]
    gamma = np.ones_like(mean) if weight is None else real(weight)
    beta = np.zeros_like(mean) if bias is None else real(bias)
    return computed(given).normalised(mean, variance, gamma, beta, float(given["eps"]), 0)


# Windows over a map, or over a line, which is a map of one row


def _map(x: Tensor, axes: int) -> tuple[Tensor, bool]:
    """Values as a map, and whether they are (channels, length)."""
    rank = len(x.shape or ())
    if axes not in (1, 2) or rank != axes + 1:
        raise UnreadableError(
            f"expected a feature map for a window over {axes} axes, got values of shape {x.shape} "
            "an input"
        )
    if axes == 2:
        return x, False
    return x.upright(), True


def _pair(value: Any, line: bool, other: int) -> Pair:
    """Height and width; `other` is the height of a line."""
    parts = [value] if isinstance(value, int) else [int(part) for part in value]
    return (other, parts[0]) if line else (parts[0], parts[-1])


def _sides(value: Any, line: bool) -> Padding:
    rows, columns = _pair(value, line, 0)
    return (rows, rows), (columns, columns)


def _pool(axes: int, kind: str) -> Reader:
    def read(given: Given) -> Tensor:
        x, line = _map(computed(given), axes)
        size = _pair(given["kernel_size"], line, 1)
        stride = _pair(given["stride"], line, 1) if given["stride"] else size
        padding, ceil = _sides(given["padding"], line), bool(given["ceil_mode"])
        if kind == "max":
            dilation = _pair(given["dilation"], line, 1)
            y = max_pooled(x, size, stride=stride, padding=padding, dilation=dilation, ceil=ceil)
        else:
            if given.get("divisor_override") is not None:
                raise UnreadableError("expected a mean without divisor_override")
            counted = bool(given["count_include_pad"])
            y = average_pooled(
                x, size, stride=stride, padding=padding, count_padding=counted, ceil=ceil
            )
        return y.lying() if line else y

    return read


def _adaptive_pool(axes: int, kind: str) -> Reader:
    """Pools over the whole map, or over equal parts of it."""

    def read(given: Given) -> Tensor:
        x, line = _map(computed(given), axes)
        size = x.map_size
        written = given["output_size"]
        parts = [written] if isinstance(written, int) else list(written)
        pair = (1, parts[0]) if line else (parts[0], parts[-1])
        target = [n if m is None else int(m) for n, m in zip(size, pair, strict=True)]
        if target == [1, 1]:
            y = reduced(x, [2, 3], kind, keep=True)
        else:
            if any(n % m for n, m in zip(size, target, strict=True)):
                raise UnreadableError(
                    f"expected parts of one size, got a map of {size[0]} x {size[1]} in "
                    f"{target[0]} x {target[1]} parts"
                )
            window = (size[0] // target[0], size[1] // target[1])
            pooled = max_pooled if kind == "max" else average_pooled
            y = pooled(x, window, stride=window)
        return y.lying() if line else y

    return read


def _with_indices(read: Reader) -> Reader:
    """Of a pair of values and the places they come from, the values."""
    return lambda given: (read(given), None)


def reduction(kind: str) -> Reader:
    """A mean, sum or maximum of each input over some of its axes."""

    def read(given: Given) -> Tensor:
        x, axes = computed(given), given.get("dim")
        axes = [axes] if isinstance(axes, int) else axes
        over = [x.axis(int(axis)) for axis in axes or range(len(x.shape or ()) + 1)]
        return reduced(x, over, kind, keep=bool(given.get("keepdim")))

    return read


LAYERS: dict[str, Reader] = {
    "linear": _linear,
    "mm": _product,
    "matmul": _product,
    "addmm": _product_and_sum,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "convolution": _convolution,
    "batch_norm": _batch_norm,
    "instance_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": lambda given: (_batch_norm(given), None, None),
    "max_pool1d": _pool(1, "max"),
    "max_pool2d": _pool(2, "max"),
    "max_pool1d_with_indices": _with_indices(_pool(1, "max")),
    "max_pool2d_with_indices": _with_indices(_pool(2, "max")),
    "avg_pool1d": _pool(1, "mean"),
    "avg_pool2d": _pool(2, "mean"),
    "adaptive_avg_pool1d": _adaptive_pool(1, "mean"),
    "adaptive_avg_pool2d": _adaptive_pool(2, "mean"),
    "_adaptive_avg_pool2d": _adaptive_pool(2, "mean"),
    "adaptive_max_pool1d": _with_indices(_adaptive_pool(1, "max")),
    "adaptive_max_pool2d": _with_indices(_adaptive_pool(2, "max")),
    "mean": reduction("mean"),
    "sum": reduction("sum"),
    "amax": reduction("max"),
}
