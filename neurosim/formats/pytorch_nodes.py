"""What each node of a graph of PyTorch makes: a torch constant, or a `Tensor` of the network."""

import operator
from collections.abc import Callable, Mapping
from math import prod
from typing import Any, TypeAlias

import numpy as np

from neurosim.formats.refusals import reason_against
from neurosim.formats.tensor import BATCH, Padding, Tensor, UnreadableError, same_padding
from neurosim.layers import Array

__all__ = ["fuse", "real_array", "step"]

# Arguments of a function of ATen, by their names.
Given: TypeAlias = Mapping[str, Any]


_HOW_MANY = "expected numbers that do not depend on how many inputs there are"


def real_array(label: str, value: Any) -> Array:
    """Numbers of a torch tensor as float64.

    Raises
    ------
    UnreadableError
        If it holds anything but real numbers, or none at all.
    """
    import torch

    if value.is_meta:
        raise UnreadableError(f"{label}: expected numbers, got a tensor on the device meta")
    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        raise UnreadableError(
            f"{label}: expected real numbers in a dense tensor, got {value.dtype}"
        )
    return np.asarray(value.detach().to("cpu", torch.float64).numpy())


def fuse(graph: Any) -> None:
    """Turn z * sigmoid(z), z * hardsigmoid(z) and z * tanh(softplus(z)) into one node each."""
    import torch

    gates = {
        torch.ops.aten.sigmoid.default: torch.ops.aten.silu.default,
        torch.ops.aten.hardsigmoid.default: torch.ops.aten.hardswish.default,
    }
    for node in graph.nodes:
        if node.target != torch.ops.aten.mul.Tensor:
            continue
        for z, gate in (node.args, node.args[::-1]):
            target = getattr(gate, "target", None)
            if target in gates and gate.args[0] is z:
                node.target, node.args = gates[target], (z,)
                break
            inner: Any = gate.args[0] if target == torch.ops.aten.tanh.default else None
            soft = getattr(inner, "target", None) == torch.ops.aten.softplus.default
            if soft and inner.args == (z,):
                node.target, node.args = torch.ops.aten.mish.default, (z,)
                break
    graph.eliminate_dead_code()


def step(node: Any, values: Mapping[str, Any]) -> Any:
    """The value a node makes: a constant, a `Tensor`, or a tuple where it has several results.

    Raises
    ------
    UnreadableError
        If the node has no place in a network, with the reason.
    """
    import torch

    def value(argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            return values[argument.name]
        if isinstance(argument, list | tuple):
            return [value(part) for part in argument]
        return argument

    if node.op == "get_attr":
        raise UnreadableError(
            "expected one graph, got another one inside it; leave torch.no_grad, autocast and "
            "torch.cond out of forward"
        )
    arguments = [value(argument) for argument in node.args]
    keywords = {key: value(argument) for key, argument in node.kwargs.items()}
    if node.target is operator.getitem:
        part = arguments[0][arguments[1]]
        if part is None:
            raise UnreadableError("expected values, got the places of maxima or statistics")
        return part
    flat = [part for a in arguments for part in (a if isinstance(a, list) else [a])]
    if not any(isinstance(a, Tensor) for a in (*flat, *keywords.values())):
        made = node.target(*arguments, **keywords)
        if not isinstance(made, int) and any(map(_counts_inputs, (*flat, *keywords.values()))):
            raise UnreadableError(_HOW_MANY)
        return made
    if not hasattr(node.target, "_schema"):
        raise UnreadableError(f"expected a function of ATen, got {node.target}")
    given = {
        a.name: a.default_value if a.has_default_value() else None
        for a in node.target._schema.arguments
    }
    given.update(zip(given, arguments, strict=False))
    given.update(keywords)
    kind = node.target._schema.name.removeprefix("aten::").removesuffix("_")
    read = _READ.get(kind)
    if read is None:
        raise UnreadableError(reason_against(kind, tuple(k for k in _READ if k[0] != "_")))
    return read(given)


def _values(given: Given) -> Tensor:
    """The argument that must be computed."""
    x = given.get("self", given.get("input"))
    if not isinstance(x, Tensor):
        raise UnreadableError("expected the network's values as the first argument")
    return x


def _counts_inputs(value: Any) -> bool:
    """Whether a number is that of the inputs, or computed from it."""
    return isinstance(value, int) and value <= BATCH // 2


def _real(value: Any) -> Array:
    if isinstance(value, Tensor):
        raise UnreadableError("expected constant weights, got ones that depend on the input")
    if _counts_inputs(value):
        raise UnreadableError(_HOW_MANY)
    if hasattr(value, "detach"):
        return real_array("constant", value)
    return np.asarray(value, np.float64)


# Weights


def _linear(given: Given) -> Tensor:
    y = _values(given).through(_real(given["weight"]))
    return y if given["bias"] is None else y.plus(_real(given["bias"]))


def _product(given: Given) -> Tensor:
    weight = _real(given["mat2"] if "mat2" in given else given["other"])
    if weight.ndim != 2:
        raise UnreadableError(f"expected a weight with two axes, got {weight.ndim}")
    return _values(given).through(weight.T)


def _product_and_sum(given: Given) -> Tensor:
    if not isinstance(given["mat1"], Tensor):
        raise UnreadableError("expected the weight as the second factor")
    y = given["mat1"].through(given["alpha"] * _real(given["mat2"]).T)
    return y.plus(given["beta"] * _real(given["self"]))


def _convolution(given: Given) -> Tensor:
    if given.get("transposed"):
        raise UnreadableError(reason_against("conv_transpose2d", ()))
    x, kernel = _values(given), _real(given["weight"])
    x, line = _map(x, kernel.ndim - 2)
    kernel = kernel.reshape(*kernel.shape[:2], 1, -1) if line else kernel
    stride, dilation = (_pair(given[key], line, 1) for key in ("stride", "dilation"))
    padding = given["padding"]
    if padding == "same":
        extents = [d * (n - 1) + 1 for n, d in zip(kernel.shape[2:], dilation, strict=True)]
        sides = same_padding(x.map_size, extents, (1, 1))
    else:
        sides = _sides(0 if padding == "valid" else padding, line)
    groups = int(given["groups"])
    y = x.convolved(kernel, stride=stride, padding=sides, dilation=dilation, groups=groups)
    if given["bias"] is not None:
        y = y.plus(_real(given["bias"]).reshape(-1, 1, 1))
    return y.lying() if line else y


def _batch_norm(given: Given) -> Tensor:
    if given.get("training") or given.get("use_input_stats"):
        if "use_input_stats" in given:
            raise UnreadableError(reason_against("instance_norm", ()))
        raise UnreadableError("expected trained statistics, got those of a batch; call eval()")
    mean, variance = _real(given["running_mean"]), _real(given["running_var"])
    weight, bias = given["weight"], given["bias"]
    gamma = np.ones_like(mean) if weight is None else _real(weight)
    beta = np.zeros_like(mean) if bias is None else _real(bias)
    return _values(given).normalised(mean, variance, gamma, beta, float(given["eps"]), 0)


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


def _pair(value: Any, line: bool, other: int) -> tuple[int, int]:
    """Height and width; `other` is the height of a line."""
    parts = [value] if isinstance(value, int) else [int(part) for part in value]
    return (other, parts[0]) if line else (parts[0], parts[-1])


def _sides(value: Any, line: bool) -> Padding:
    rows, columns = _pair(value, line, 0)
    return (rows, rows), (columns, columns)


def _pool(axes: int, kind: str) -> Callable[[Given], Any]:
    def read(given: Given) -> Any:
        x, line = _map(_values(given), axes)
        size = _pair(given["kernel_size"], line, 1)
        stride = _pair(given["stride"], line, 1) if given["stride"] else size
        padding, ceil = _sides(given["padding"], line), bool(given["ceil_mode"])
        if kind == "max":
            dilation = _pair(given["dilation"], line, 1)
            y = x.max_pooled(size, stride=stride, padding=padding, dilation=dilation, ceil=ceil)
        else:
            if given.get("divisor_override") is not None:
                raise UnreadableError("expected a mean without divisor_override")
            counted = bool(given["count_include_pad"])
            y = x.average_pooled(
                size, stride=stride, padding=padding, count_padding=counted, ceil=ceil
            )
        return y.lying() if line else y

    return read


def _adaptive_pool(axes: int, kind: str) -> Callable[[Given], Tensor]:
    """Pools over the whole map, or over equal parts of it."""

    def read(given: Given) -> Tensor:
        x, line = _map(_values(given), axes)
        size = x.map_size
        written = given["output_size"]
        parts = [written] if isinstance(written, int) else list(written)
        pair = (1, parts[0]) if line else (parts[0], parts[-1])
        target = [n if m is None else int(m) for n, m in zip(size, pair, strict=True)]
        if target == [1, 1]:
            y = x.reduced([2, 3], kind, keep=True)
        else:
            if any(n % m for n, m in zip(size, target, strict=True)):
                raise UnreadableError(
                    f"expected parts of one size, got a map of {size[0]} x {size[1]} in "
                    f"{target[0]} x {target[1]} parts"
                )
            window = (size[0] // target[0], size[1] // target[1])
            pooled = x.max_pooled if kind == "max" else x.average_pooled
            y = pooled(window, stride=window)
        return y.lying() if line else y

    return read


def _with_indices(read: Callable[[Given], Any]) -> Callable[[Given], Any]:
    """Of a pair of values and the places they come from, the values."""
    return lambda given: (read(given), None)


def _reduced(kind: str) -> Callable[[Given], Tensor]:
    """A mean, sum or maximum of each input over some of its axes."""

    def read(given: Given) -> Tensor:
        x, axes = _values(given), given.get("dim")
        axes = [axes] if isinstance(axes, int) else axes
        over = [x.axis(int(axis)) for axis in axes or range(len(x.shape or ()) + 1)]
        return x.reduced(over, kind, keep=bool(given.get("keepdim")))

    return read


# Arithmetic


def _sum(sign: float) -> Callable[[Given], Tensor]:
    """Self + alpha * other or self - alpha * other."""

    def read(given: Given) -> Tensor:
        x, other = given["self"], given["other"]
        factor = sign * float(given.get("alpha", 1))
        if isinstance(x, Tensor) and isinstance(other, Tensor):
            return Tensor.added([x, other if factor == 1 else other.times(np.array(factor))])
        if isinstance(x, Tensor):
            return x.plus(factor * _real(other))
        return (other if factor == 1 else other.times(np.array(factor))).plus(_real(x))

    return read


def _reversed_difference(given: Given) -> Tensor:
    """Other - alpha * self."""
    return _sum(-1)({**given, "self": given["other"], "other": given["self"]})


def _times(given: Given) -> Tensor:
    x, other = given["self"], given["other"]
    if isinstance(x, Tensor) and isinstance(other, Tensor):
        raise UnreadableError(reason_against("bmm", ()))
    return x.times(_real(other)) if isinstance(x, Tensor) else other.times(_real(x))


def _quotient(given: Given) -> Tensor:
    if given.get("rounding_mode") is not None:
        raise UnreadableError("expected a division of real numbers")
    divisor = _real(given["other"])
    if not isinstance(given["self"], Tensor) or not divisor.all():
        raise UnreadableError("expected a constant divisor other than 0")
    return given["self"].times(1 / divisor)


# Activations


def _activation(kind: str) -> Callable[[Given], Tensor]:
    return lambda given: _values(given).activated(kind)


def _leaky(given: Given) -> Tensor:
    return _values(given).activated("leaky_relu", float(given["negative_slope"]))


def _random_leaky(given: Given) -> Tensor:
    if given["training"]:
        raise UnreadableError(reason_against("bernoulli", ()))
    slope = (float(given["lower"]) + float(given["upper"])) / 2
    return _values(given).activated("leaky_relu", slope)


def _prelu(given: Given) -> Tensor:
    slopes = np.unique(_real(given["weight"]))
    if len(slopes) != 1:
        raise UnreadableError(f"expected one slope of all channels, got {len(slopes)}")
    return _values(given).activated("leaky_relu", float(slopes[0]))


def _clamp(low: str, high: str) -> Callable[[Given], Tensor]:
    def read(given: Given) -> Tensor:
        bounds = [given.get(low), given.get(high)]
        return _values(given).clamped(*(None if b is None else _bound(b) for b in bounds))

    return read


def _bound(value: Any) -> float:
    """A bound of all values."""
    values = np.unique(_real(value))
    if len(values) != 1:
        raise UnreadableError(f"expected one bound of all values, got {len(values)}")
    return float(values[0])


def _maximum(given: Given) -> Tensor:
    x, other = given["self"], given["other"]
    if isinstance(x, Tensor) and isinstance(other, Tensor):
        raise UnreadableError("expected the maximum with 0, a relu, got that of two computed ones")
    x, other = (x, other) if isinstance(x, Tensor) else (other, x)
    return x.clamped(_bound(other), None)


def _largest(given: Given) -> Any:
    """Of several tensors, or of an axis with the places of the maxima."""
    return _maximum(given) if "other" in given else (_reduced("max")(given), None)


def _threshold(given: Given) -> Tensor:
    """X where x is above the threshold, elsewhere the value."""
    threshold, value = float(given["threshold"]), float(given["value"])
    if threshold != value:
        raise UnreadableError(f"expected threshold and value alike, got {threshold} and {value}")
    return _values(given).clamped(value, None)


def _softplus(given: Given) -> Tensor:
    beta, threshold = float(given["beta"]), float(given["threshold"])
    if threshold < 20:  # beyond, torch returns z itself: off by 2e-9 at 20
        raise UnreadableError(
            f"expected softplus with a threshold of 20 or more, got {given['threshold']}"
        )
    if beta <= 0:
        raise UnreadableError(f"expected softplus with a beta above 0, got {beta}")
    y = _values(given).times(np.array(beta)).activated("softplus")
    return y if beta == 1 else y.times(np.array(1 / beta))


def _log_sigmoid(given: Given) -> Tensor:
    minus = np.array(-1.0)
    return _values(given).times(minus).activated("softplus").times(minus)


def _gelu(given: Given) -> Tensor:
    return _values(given).activated("gelu" if given["approximate"] == "none" else "gelu_tanh")


def _elu(given: Given) -> Tensor:
    alpha, scale, spread = (float(given[k]) for k in ("alpha", "scale", "input_scale"))
    return _values(given).elu(alpha, scale=scale, spread=spread)


def _softmax(given: Given) -> Tensor:
    x = _values(given)
    if len(x.shape or ()) != 1 or x.axis(int(given["dim"])) != 1:
        raise UnreadableError(
            f"expected a softmax over the units, got one over axis {given['dim']} of values of "
            f"shape {x.shape} an input"
        )
    return x.read_out()


# What leaves values as they are


def _passed(given: Given) -> Tensor:
    if given.get("train"):
        raise UnreadableError(reason_against("native_dropout", ()))
    return _values(given)


def _cast(given: Given) -> Tensor:
    dtype = given.get("dtype", getattr(given.get("other"), "dtype", None))
    if dtype is not None and not dtype.is_floating_point:
        raise UnreadableError(f"expected a cast to real numbers, got one to {dtype}")
    return _values(given)


def _expanded(given: Given) -> Tensor:
    x = _values(given)
    if "other" in given:  # expand_as
        given = {"size": (-1, *(getattr(given["other"], "shape", None) or ()))}
    sizes = [int(n) for n in given["size"]]
    known = (x.batch or BATCH, *(x.shape or ()))
    if len(sizes) != len(known) or any(n not in (-1, m) for n, m in zip(sizes, known, strict=True)):
        raise UnreadableError(reason_against("repeat", ()))
    return x


def _nothing(given: Given) -> None:
    """A check of types and shapes, whose result nobody takes."""


# Axes


def _padded(given: Given) -> Tensor:
    x = _values(given)
    sizes = [int(n) for n in given["pad"]] + [0] * 8
    mode, value = given.get("mode", "constant"), given.get("value")
    if mode != "constant" or value not in (None, 0) or min(sizes) < 0 or any(sizes[4:]):
        wanted = "expected zeros around height and width of a map"
        raise UnreadableError(f"{wanted}, got mode {mode}, value {value}, sizes {given['pad']}")
    if len(x.shape or ()) == 2 and not any(sizes[2:]):
        return x.upright().padded(((0, 0), (sizes[0], sizes[1]))).lying()
    return x.padded(((sizes[2], sizes[3]), (sizes[0], sizes[1])))


def _flattened(given: Given) -> Tensor:
    x = _values(given)
    first, last = x.axis(int(given["start_dim"])), x.axis(int(given["end_dim"]))
    sizes = [BATCH, *(x.shape or ())]
    return x.reshaped([*sizes[:first], prod(sizes[first : last + 1]), *sizes[last + 1 :]])


def _viewed(given: Given) -> Tensor:
    return _values(given).reshaped([int(n) for n in given.get("size") or given["shape"]])


def _unflattened(given: Given) -> Tensor:
    x = _values(given)
    axis, sizes = x.axis(int(given["dim"])), [BATCH, *(x.shape or ())]
    return x.reshaped([*sizes[:axis], *(int(n) for n in given["sizes"]), *sizes[axis + 1 :]])


def _squeezed(given: Given) -> Tensor:
    x, axes = _values(given), given.get("dim")
    if axes is None:
        return x.squeezed(None)
    axes = [axes] if isinstance(axes, int) else axes
    sizes = (x.batch, *(x.shape or ()))  # axes of another length stay, as torch has it
    return x.squeezed([a for a in (x.axis(int(a)) for a in axes) if sizes[a] == 1])


def _transposed(given: Given) -> Tensor:
    x = _values(given)
    axes = list(range(len(x.shape or ()) + 1))
    a, b = (x.axis(int(given[key])) for key in ("dim0", "dim1"))
    axes[a], axes[b] = axes[b], axes[a]
    return x.transposed(axes)


def _permuted(given: Given) -> Tensor:
    x = _values(given)
    return x.transposed([x.axis(int(n)) for n in given["dims"]])


def _shuffled(given: Given) -> Tensor:
    """Channels dealt out from groups in turn."""
    x, groups = _values(given), int(given["groups"])
    channels, *rest = x.shape or (0,)
    split = x.reshaped([BATCH, groups, channels // groups, *rest])
    turned = split.transposed([0, 2, 1, *range(3, 3 + len(rest))])
    return turned.reshaped([BATCH, channels, *rest])


def _pixels(factor: str, *, down: bool) -> Callable[[Given], Tensor]:
    """Channels laid out over the map, or squares of the map as channels."""

    def read(given: Given) -> Tensor:
        x, r = _values(given), int(given[factor])
        c, h, w = (x.shape or ())[-3:]
        if down:
            split = x.reshaped([BATCH, c, h // r, r, w // r, r])
            turned = split.transposed([0, 1, 3, 5, 2, 4])
            return turned.reshaped([BATCH, c * r * r, h // r, w // r])
        split = x.reshaped([BATCH, c // r**2, r, r, h, w])
        return split.transposed([0, 1, 4, 2, 5, 3]).reshaped([BATCH, c // r**2, h * r, w * r])

    return read


# Parts and joins


def _concatenated(given: Given) -> Tensor:
    tensors = given["tensors"]
    if not all(isinstance(part, Tensor) for part in tensors):
        raise UnreadableError("expected computed inputs, got a constant among them")
    return Tensor.concatenated(tensors, tensors[0].axis(int(given["dim"])) - 1)


def _stacked(given: Given) -> Tensor:
    tensors = given["tensors"]
    if not all(isinstance(part, Tensor) for part in tensors):
        raise UnreadableError("expected computed inputs, got a constant among them")
    axis = int(given["dim"]) % (len(tensors[0].shape or ()) + 2)
    return Tensor.concatenated([part.unsqueezed([axis]) for part in tensors], axis - 1)


def _sliced(given: Given) -> Tensor:
    x = _values(given)
    start, stop = given["start"], given["end"]
    return x.sliced(x.axis(int(given["dim"])), start, stop, int(given["step"]))


def _narrowed(given: Given) -> Tensor:
    x, start = _values(given), int(given["start"])
    stop = start + int(given["length"])
    return x.sliced(x.axis(int(given["dim"])), start, None if start < 0 == stop else stop)


def _selected(given: Given) -> Tensor:
    x, index = _values(given), int(given["index"])
    axis = x.axis(int(given["dim"]))
    return x.sliced(axis, index, index + 1 or None).squeezed([axis])


def _split(given: Given) -> tuple[Tensor, ...]:
    """Parts of one size, or of given sizes; chunks are so many parts of one size, the last less."""
    x = _values(given)
    axis = x.axis(int(given["dim"]))
    n = ([0, *(x.shape or ())])[axis]
    sizes = given.get("split_sizes", given.get("split_size"))
    if "chunks" in given:
        sizes = -(-n // int(given["chunks"]))
    if isinstance(sizes, int):
        size = max(1, sizes)
        sizes = [min(size, n - start) for start in range(0, n, size)]
    return x.split(axis, [int(size) for size in sizes])


def _unbound(given: Given) -> tuple[Tensor, ...]:
    x = _values(given)
    axis = x.axis(int(given["dim"]))
    parts = x.split(axis, [1] * ([0, *(x.shape or ())])[axis])
    return tuple(part.squeezed([axis]) for part in parts)


def _size(given: Given) -> int:
    """A size that a graph asks for."""
    x = _values(given)
    axis = x.axis(int(given["dim"]))
    return x.batch or BATCH if axis == 0 else (x.shape or ())[axis - 1]


_READ: dict[str, Callable[[Given], Any]] = {
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
    "mean": _reduced("mean"),
    "sum": _reduced("sum"),
    "amax": _reduced("max"),
    "add": _sum(1),
    "sub": _sum(-1),
    "rsub": _reversed_difference,
    "mul": _times,
    "div": _quotient,
    "neg": lambda given: _values(given).times(np.array(-1.0)),
    "relu": _activation("relu"),
    "relu6": _activation("relu6"),
    "sigmoid": _activation("sigmoid"),
    "tanh": _activation("tanh"),
    "silu": _activation("silu"),
    "hardswish": _activation("hard_swish"),
    "hardsigmoid": lambda given: _values(given).hard_sigmoid(1 / 6, 0.5),
    "leaky_relu": _leaky,
    "rrelu": _random_leaky,
    "prelu": _prelu,
    "hardtanh": _clamp("min_val", "max_val"),
    "clamp": _clamp("min", "max"),
    "clamp_min": _clamp("min", "max"),
    "maximum": _maximum,
    "max": _largest,
    "threshold": _threshold,
    "softplus": _softplus,
    "log_sigmoid": _log_sigmoid,
    "gelu": _gelu,
    "mish": _activation("mish"),
    "elu": _elu,
    "selu": lambda given: _values(given).selu(),
    "celu": lambda given: _values(given).celu(float(given["alpha"])),
    "softmax": _softmax,
    "_softmax": _softmax,
    "dropout": _passed,
    "feature_dropout": _passed,
    "alpha_dropout": _passed,
    "feature_alpha_dropout": _passed,
    "contiguous": _passed,
    "clone": _passed,
    "alias": _passed,
    "detach": _passed,
    "lift_fresh_copy": _passed,
    "to": _cast,
    "type_as": _cast,
    "_to_copy": _cast,
    "expand": _expanded,
    "expand_as": _expanded,
    "_assert_tensor_metadata": _nothing,
    "pad": _padded,
    "constant_pad_nd": _padded,
    "flatten": _flattened,
    "unflatten": _unflattened,
    "view": _viewed,
    "reshape": _viewed,
    "_unsafe_view": _viewed,
    "squeeze": _squeezed,
    "unsqueeze": lambda given: _values(given).unsqueezed([int(given["dim"])]),
    "permute": _permuted,
    "transpose": _transposed,
    "channel_shuffle": _shuffled,
    "pixel_shuffle": _pixels("upscale_factor", down=False),
    "pixel_unshuffle": _pixels("downscale_factor", down=True),
    "cat": _concatenated,
    "concat": _concatenated,
    "stack": _stacked,
    "slice": _sliced,
    "narrow": _narrowed,
    "select": _selected,
    "split": _split,
    "split_with_sizes": _split,
    "chunk": _split,
    "unbind": _unbound,
    "sym_size": _size,
}
