"""Networks of PyTorch: modules in memory, through torch.export, and files of weights.

A pickled module would run code on loading; only weights are ever read from a file.
"""

import operator
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim.errors import FormatError, InputError
from neurosim.formats.tensor import (
    BEHIND_THE_UNITS,
    Padding,
    Parts,
    Tensor,
    UnreadableError,
    same_padding,
)
from neurosim.layers import Array, Shape

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["read_module", "read_state_dict"]

# The number of inputs that modules are traced with: no size that networks have by chance.
_BATCH = 7

_ACTIVATIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "silu": "silu",
    "hardswish": "hard_swish",
}
_PASSED = ("dropout", "feature_dropout", "alpha_dropout", "contiguous", "clone", "alias", "detach")
_READ = (
    "linear",
    "addmm",
    "mm",
    "matmul",
    "conv2d",
    "batch_norm",
    "max_pool2d",
    "avg_pool2d",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "mean",
    "add",
    "sub",
    "mul",
    "div",
    "cat",
    "flatten",
    "view",
    "reshape",
    "squeeze",
    "unsqueeze",
    "permute",
    "transpose",
    "pad",
    "softmax",
    *_ACTIVATIONS,
    "leaky_relu",
    "prelu",
    "hardtanh",
    "clamp",
    "clamp_min",
    "softplus",
    "gelu",
    "dropout",
)


def read_state_dict(path: Path) -> dict[str, Array]:
    """Arrays by name of a .pt or .pth file; a checkpoint's own state_dict is found in it.

    Raises
    ------
    FormatError
        If the file is truncated or foreign, or holds anything but weights: a pickled module, say.
    """
    try:
        import torch
    except ImportError as error:
        raise FormatError(
            f"{path}: expected the package torch to read it; pip install neurosim-faults[torch], "
            "or save the weights as safetensors"
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle's, zipfile's and torch's own errors
        text = " ".join(str(error).split())
        raise FormatError(
            f"{path}: expected a state_dict, tensors and their names, got {text[:200]}; pickled "
            "modules are not loaded, for that runs code: save module.state_dict(), or give "
            "Network.load the module itself"
        ) from error
    if isinstance(content, Mapping):
        inner = [key for key in ("state_dict", "model_state_dict", "model") if key in content]
        if inner and isinstance(content[inner[0]], Mapping):
            content = content[inner[0]]
    if not isinstance(content, Mapping) or not content:
        raise FormatError(f"{path}: expected a state_dict, got {type(content).__name__}")
    arrays = {}
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise FormatError(
                f"{path}: {name}: expected a tensor, got {type(value).__name__}; save "
                "module.state_dict() alone"
            )
        arrays[name] = _array(f"{path}: {name}", value)
    return arrays


def _array(label: str, value: "torch.Tensor") -> Array:
    """Numbers of a tensor as float64."""
    import torch

    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        raise FormatError(f"{label}: expected real numbers in a dense tensor, got {value.dtype}")
    return np.asarray(value.detach().to("cpu", torch.float64).numpy())


def read_module(module: "nn.Module", input_shape: Shape | None) -> Parts:
    """Nodes, read-out and input shape of a module in memory.

    Raises
    ------
    FormatError
        If the module cannot be traced or does what neurosim cannot represent; the message names
        the node and the submodule.
    """
    import torch

    label = type(module).__name__
    if any(part.training for part in module.modules()):
        raise FormatError(f"{label}: expected a module in evaluation mode; call module.eval()")
    shape = input_shape or _input_shape(label, module)
    weights = [p for p in (*module.parameters(), *module.buffers()) if p.is_floating_point()]
    like = weights[0] if weights else torch.zeros(1)
    example = torch.zeros((_BATCH, *shape), dtype=like.dtype, device=like.device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own making
            program = torch.export.export(module, (example,))
    except Exception as error:  # whatever the module raises on the way
        text = " ".join(str(error).split())
        raise FormatError(
            f"{label}: expected a module that torch.export can trace with an input of shape "
            f"{tuple(shape)}, got {type(error).__name__}: {text[:300]}"
        ) from error
    return _read(label, program, shape)


def _input_shape(label: str, module: "nn.Module") -> Shape:
    """The shape of an input where the first layer with weights says it."""
    from torch import nn

    for part in module.modules():
        if isinstance(part, nn.Linear):
            return (part.in_features,)
        if next(part.parameters(recurse=False), None) is not None:
            break
    raise FormatError(
        f"{label}: expected input_shape, the shape of one input, for instance (3, 224, 224)"
    )


def _read(label: str, program: Any, shape: Shape) -> Parts:
    graph = program.graph_module.graph
    _fuse(graph)
    values: dict[Any, Any] = {}
    inputs = []
    for item in program.graph_signature.input_specs:
        name = item.arg.name if hasattr(item.arg, "name") else str(item.arg)
        if item.target is None:
            inputs.append(name)
        elif item.target in program.state_dict:
            values[name] = program.state_dict[item.target]
        else:
            values[name] = program.constants[item.target]
    if len(inputs) != 1:
        raise FormatError(
            f"{label}: expected a module of one input, got {len(inputs)}; wrap it in one that "
            "makes the others itself"
        )
    values[inputs[0]] = Tensor.start(tuple(shape), batch=_BATCH)
    result: Any = None
    for node in graph.nodes:
        if node.op == "placeholder":
            continue
        if node.op == "output":
            results = node.args[0]
            if len(results) != 1:
                raise FormatError(
                    f"{label}: expected a module of one output, got {len(results)}; wrap it in one "
                    "that returns the output to look at"
                )
            result = values.get(getattr(results[0], "name", None))
            continue
        where = f"{label}: node {node.name}{_inside(node)}"
        try:
            made = _made(node, values)
        except (UnreadableError, InputError) as error:
            raise FormatError(f"{where} ({node.target}): {error}") from error
        except (ValueError, TypeError, IndexError, KeyError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise FormatError(
                f"{where} ({node.target}): expected arguments that are read, got {text}"
            ) from error
        several = isinstance(made, Tensor) and len(node.users) > 1
        values[node.name] = made.settled() if several else made
    if not isinstance(result, Tensor):
        raise FormatError(f"{label}: expected an output that depends on the input, it does not")
    try:
        return result.finished()
    except (UnreadableError, InputError) as error:
        raise FormatError(f"{label}: {error}") from error


def _inside(node: Any) -> str:
    """The submodule that a node comes from."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return f" of {stack[-1][0]!r}" if stack and stack[-1][0] else ""


def _fuse(graph: Any) -> None:
    """Turn z * sigmoid(z) and z * hardsigmoid(z) into one node each."""
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
    graph.eliminate_dead_code()


def _made(node: Any, values: Mapping[Any, Any]) -> Any:
    """The value of a node: a torch constant or a `Tensor`."""
    import torch

    def value(argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            return values[argument.name]
        if isinstance(argument, list | tuple):
            return [value(part) for part in argument]
        return argument

    arguments = [value(argument) for argument in node.args]
    keywords = {key: value(argument) for key, argument in node.kwargs.items()}
    flat = [part for a in arguments for part in (a if isinstance(a, list) else [a])]
    if not any(isinstance(a, Tensor) for a in (*flat, *keywords.values())):
        return node.target(*arguments, **keywords)
    if node.target is operator.getitem or not hasattr(node.target, "_schema"):
        raise UnreadableError("expected an operation with one result")
    given = {
        a.name: a.default_value if a.has_default_value() else None
        for a in node.target._schema.arguments
    }
    given.update(zip(given, arguments, strict=False))
    given.update(keywords)
    kind = node.target._schema.name.removeprefix("aten::")
    return _layer(kind.removesuffix("_"), given)


def _real(value: Any) -> Array:
    if isinstance(value, Tensor):
        raise UnreadableError("expected constant weights, got ones that depend on the input")
    if hasattr(value, "detach"):
        return _array("constant", value)
    return np.asarray(value, np.float64)


def _layer(kind: str, given: dict[str, Any]) -> Tensor:
    """What an operation of ATen makes, from its arguments by name."""
    if kind == "cat":
        x, axis = given["tensors"], int(given["dim"])
        if not all(isinstance(part, Tensor) for part in x):
            raise UnreadableError("expected computed inputs, got a constant among them")
        return Tensor.concatenated(x, _axis(x[0], axis) - 1)
    if kind in ("add", "sub", "mul", "div"):
        return _arithmetic(kind, given)
    x = given.get("self", given.get("input"))
    if kind == "addmm":
        x, given["mat2"], given["bias"] = given["mat1"], given["mat2"], given["self"]
    if not isinstance(x, Tensor):
        raise UnreadableError("expected the network's values as the first argument")
    if kind in _PASSED:
        return x
    if kind in _ACTIVATIONS:
        return x.activated(_ACTIVATIONS[kind])
    match kind:
        case "linear":
            y = x.through(_real(given["weight"]))
            return y if given["bias"] is None else y.plus(_real(given["bias"]))
        case "addmm" | "mm" | "matmul":
            other = given["mat2"] if "mat2" in given else given["other"]
            weight = _real(other)
            if weight.ndim != 2:
                raise UnreadableError(f"expected a weight with two axes, got {weight.ndim}")
            y = x.through(weight.T)
            if kind != "addmm":
                return y
            if (given["beta"], given["alpha"]) != (1, 1):
                raise UnreadableError("expected alpha and beta 1")
            return y.plus(_real(given["bias"]))
        case "conv2d" | "batch_norm" | "max_pool2d" | "avg_pool2d":
            return _window(kind, x, given)
        case "adaptive_avg_pool2d" | "adaptive_max_pool2d" | "mean":
            return _pooled(kind, x, given)
        case "softmax":
            if len(x.shape or ()) != 1 or _axis(x, int(given["dim"])) != 1:
                raise UnreadableError(f"expected a softmax over the units, got of {x.shape}")
            return x.read_out()
        case "log_softmax" | "argmax" | "topk":
            raise UnreadableError(BEHIND_THE_UNITS)
        case "prelu":
            slopes = np.unique(_real(given["weight"]))
            if len(slopes) != 1:
                raise UnreadableError(f"expected one slope of all channels, got {len(slopes)}")
            return x.activated("leaky_relu", float(slopes[0]))
        case "leaky_relu":
            return x.activated("leaky_relu", float(given["negative_slope"]))
        case "hardtanh" | "clamp" | "clamp_min":
            low, high = (
                (given["min_val"], given["max_val"])
                if kind == "hardtanh"
                else (given["min"], given.get("max"))
            )
            if low == 0 and high in (6, None):
                return x.activated("relu" if high is None else "relu6")
            raise UnreadableError(f"expected a clamp from 0 to 6 or from 0 on, got {low} to {high}")
        case "softplus":
            if given["beta"] != 1:
                raise UnreadableError(f"expected softplus with beta 1, got {given['beta']}")
            if given["threshold"] < 20:  # beyond, torch returns z itself: off by 2e-9 at 20
                raise UnreadableError(
                    f"expected softplus with a threshold of 20 or more, got {given['threshold']}"
                )
            return x.activated("softplus")
        case "gelu":
            if given["approximate"] != "none":
                raise UnreadableError("expected the exact gelu, got approximate = tanh")
            return x.activated("gelu")
        case "pad" | "constant_pad_nd":
            return _padded(x, given)
        case "to" | "_to_copy":
            if given.get("dtype") is not None and not given["dtype"].is_floating_point:
                raise UnreadableError("expected a cast to real numbers")
            return x
        case _:
            return _reshaped(kind, x, given)


def _axis(x: Tensor, axis: int) -> int:
    """An axis counted from the front, that of the inputs being 0."""
    rank = len(x.shape or ()) + 1
    return axis % rank


def _arithmetic(kind: str, given: dict[str, Any]) -> Tensor:
    x, other = given["self"], given["other"]
    if given.get("alpha", 1) != 1:
        raise UnreadableError(f"expected alpha 1, got {given['alpha']}")
    if given.get("rounding_mode") is not None:
        raise UnreadableError("expected a division of real numbers")
    if isinstance(x, Tensor) and isinstance(other, Tensor):
        if kind != "add":
            raise UnreadableError(f"expected one computed input of {kind}, got two")
        return Tensor.added([x, other])
    behind = isinstance(x, Tensor)
    tensor, constant = (x, _real(other)) if behind else (other, _real(x))
    match kind:
        case "add":
            return tensor.plus(constant)
        case "mul":
            return tensor.times(constant)
        case "sub":
            flipped = tensor if behind else tensor.times(np.array(-1.0))
            return flipped.plus(-constant if behind else constant)
        case _:
            if not behind or not constant.all():
                raise UnreadableError("expected a constant divisor other than 0")
            return tensor.times(1 / constant)


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    parts = [int(part) for part in value]
    return (parts[0], parts[-1])


def _sides(value: Any) -> Padding:
    rows, columns = _pair(value)
    return (rows, rows), (columns, columns)


def _window(kind: str, x: Tensor, given: dict[str, Any]) -> Tensor:
    if kind == "batch_norm":
        if given["training"]:
            raise UnreadableError("expected a module in evaluation mode")
        mean, variance = _real(given["running_mean"]), _real(given["running_var"])
        weight, bias = given["weight"], given["bias"]
        gamma = np.ones_like(mean) if weight is None else _real(weight)
        beta = np.zeros_like(mean) if bias is None else _real(bias)
        return x.normalised(mean, variance, gamma, beta, float(given["eps"]), 0)
    if x.shape is None or len(x.shape) != 3:
        raise UnreadableError(f"expected a feature map, got values of shape {x.shape} an input")
    if kind == "conv2d":
        kernel = _real(given["weight"])
        stride, dilation = _pair(given["stride"]), _pair(given["dilation"])
        padding = given["padding"]
        if isinstance(padding, str):
            extents = [d * (n - 1) + 1 for n, d in zip(kernel.shape[2:], dilation, strict=True)]
            sides = same_padding(x.shape[1:], extents, (1, 1)) if padding == "same" else _sides(0)
        else:
            sides = _sides(padding)
        y = x.convolved(
            kernel,
            stride=stride,
            padding=sides,
            dilation=dilation,
            groups=int(given["groups"]),
        )
        return y if given["bias"] is None else y.plus(_real(given["bias"]).reshape(-1, 1, 1))
    size = _pair(given["kernel_size"])
    stride = _pair(given["stride"]) if given["stride"] else size
    padding, ceil = _sides(given["padding"]), bool(given["ceil_mode"])
    if kind == "max_pool2d":
        dilation = _pair(given["dilation"])
        return x.max_pooled(size, stride=stride, padding=padding, dilation=dilation, ceil=ceil)
    if given["divisor_override"] is not None:
        raise UnreadableError("expected a mean without divisor_override")
    counted = bool(given["count_include_pad"])
    return x.average_pooled(size, stride=stride, padding=padding, count_padding=counted, ceil=ceil)


def _pooled(kind: str, x: Tensor, given: dict[str, Any]) -> Tensor:
    """Pools over the whole map, or over equal parts of it."""
    if x.shape is None or len(x.shape) != 3:
        raise UnreadableError(f"expected a feature map, got values of shape {x.shape} an input")
    channels, *size = x.shape
    if kind == "mean":
        axes = given.get("dim")
        over = sorted(_axis(x, int(axis)) for axis in axes) if axes else None
        if over != [2, 3]:
            raise UnreadableError(f"expected a mean over height and width, got axes {over}")
        y = x.averaged()
        return y.reshaped([_BATCH, channels, 1, 1]) if given["keepdim"] else y
    target = _pair(given["output_size"])
    if target == (1, 1):
        if kind == "adaptive_max_pool2d":
            return x.largest()
        return x.averaged().reshaped([_BATCH, channels, 1, 1])
    if any(n % m for n, m in zip(size, target, strict=True)):
        raise UnreadableError(f"expected parts of one size, got {size} in {target}")
    window = _pair([n // m for n, m in zip(size, target, strict=True)])
    if kind == "adaptive_max_pool2d":
        return x.max_pooled(window, stride=window)
    return x.average_pooled(window, stride=window)


def _padded(x: Tensor, given: dict[str, Any]) -> Tensor:
    sizes = [int(n) for n in given["pad"]] + [0] * 8
    mode, value = given.get("mode", "constant"), given.get("value")
    if mode != "constant" or value not in (None, 0) or min(sizes) < 0 or any(sizes[4:]):
        raise UnreadableError("expected zeros around height and width of a map")
    return x.padded(((sizes[2], sizes[3]), (sizes[0], sizes[1])))


def _reshaped(kind: str, x: Tensor, given: dict[str, Any]) -> Tensor:
    """Steps that move values, and the end of what is read."""
    shape = x.shape or ()
    match kind:
        case "flatten":
            first, last = _axis(x, int(given["start_dim"])), _axis(x, int(given["end_dim"]))
            sizes = [_BATCH, *shape]
            merged = [*sizes[:first], int(np.prod(sizes[first : last + 1])), *sizes[last + 1 :]]
            return x.reshaped(merged)
        case "view" | "reshape" | "_unsafe_view":
            return x.reshaped([int(n) for n in given.get("size") or given["shape"]])
        case "squeeze":
            axes = given.get("dim")
            if axes is None:
                return x.squeezed(None)
            axes = [axes] if isinstance(axes, int) else axes
            # Axes of another length stay, as torch has it.
            ones = [a for a in (_axis(x, int(a)) for a in axes) if a and shape[a - 1] == 1]
            return x.squeezed(ones)
        case "unsqueeze":
            return x.unsqueezed([int(given["dim"])])
        case "permute":
            return x.transposed([_axis(x, int(n)) for n in given["dims"]])
        case "transpose":
            axes = list(range(len(shape) + 1))
            a, b = (_axis(x, int(given[key])) for key in ("dim0", "dim1"))
            axes[a], axes[b] = axes[b], axes[a]
            return x.transposed(axes)
        case _:
            raise UnreadableError(f"expected one of {', '.join(_READ)}")
