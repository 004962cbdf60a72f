"""Networks of PyTorch: modules in memory, through torch.export, and files of weights.

A pickled module would run code on loading; only weights are ever read from a file.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim.errors import FormatError, InputError
from neurosim.formats.pytorch_arguments import real_array
from neurosim.formats.pytorch_fusions import fuse
from neurosim.formats.pytorch_nodes import step
from neurosim.formats.steps import Parts, UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers import Array, Shape

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.export import ExportedProgram

__all__ = ["compare_module", "read_module", "read_state_dict"]

# The number of inputs that modules are traced with: no size that networks have by chance.
_BATCH = 7

# And with which their outputs are compared: another, for what depends on it to show.
_FEW = 3


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
        try:
            arrays[name] = real_array(f"{path}: {name}", value)
        except UnreadableError as error:
            raise FormatError(str(error)) from error
    return arrays


def read_module(module: "nn.Module | ExportedProgram", input_shape: Shape | None) -> Parts:
    """Nodes, read-out and input shape of a module in memory, or of one that is exported.

    Raises
    ------
    FormatError
        If the module cannot be traced or does what neurosim cannot represent; the message names
        the node and the submodule.
    InputError
        If an exported program was traced with inputs of another shape.
    """
    import torch

    label = type(module).__name__
    if isinstance(module, torch.export.ExportedProgram):
        return _read(label, module, input_shape)
    if isinstance(module, torch.jit.ScriptModule):
        raise FormatError(
            f"{label}: expected the module that this script was made from; a script has no graph "
            "of layers. Give that module, or export it to ONNX"
        )
    traced = _traced_shape(module)
    # Whether an exported graph was trained shows in its nodes: it has no eval().
    if traced is None and any(part.training for part in module.modules()):
        raise FormatError(f"{label}: expected a module in evaluation mode; call module.eval()")
    if traced is None:
        traced = (_BATCH, *(input_shape or _input_shape(label, module)))
    example = _example(module, traced)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's own making
            program = torch.export.export(module, (example,))
    except Exception as error:  # whatever the module raises on the way
        asked = _asked_for(module)
        if len(asked) > 1:
            raise FormatError(_one_input(label, asked)) from error
        text = " ".join(str(error).split())
        raise FormatError(
            f"{label}: expected a module that torch.export can trace with an input of shape "
            f"{traced[1:]}, got {type(error).__name__}: {text[:300]}"
        ) from error
    return _read(label, program, input_shape)


def compare_module(
    module: "nn.Module | ExportedProgram", shape: Shape, outputs: Callable[[Array], Array]
) -> None:
    """Refuse outputs (n, n_outputs) that are not the module's, on random inputs (n, *shape).

    Raises
    ------
    FormatError
        If some are further off than rounding.
    """
    import torch

    label = type(module).__name__
    if isinstance(module, torch.export.ExportedProgram):
        module = module.module()
    traced = _traced_shape(module)
    n = _FEW if traced is None else traced[0]
    example = _example(module, (n, *shape))
    example += torch.as_tensor(np.random.default_rng(0).normal(size=example.shape))
    with torch.no_grad():
        found = module(example)
    while not isinstance(found, torch.Tensor):  # one in a list or under a name
        found = next(iter(found.values() if isinstance(found, Mapping) else found))
    expected = found.double().cpu().numpy().reshape(n, -1)
    off = np.abs(outputs(example.double().cpu().numpy()) - expected).max()
    largest = np.abs(expected).max()
    # Far above the rounding of the type, far below what a misread step does. Outputs of the module
    # that overflow its type tell nothing.
    rounding = largest * (1e-3 if example.dtype.itemsize >= 4 else 5e-2)
    if np.isfinite(largest) and not off <= rounding:
        raise FormatError(
            f"{label}: expected a network with the outputs of the module, got some that are "
            f"{off:.2g} off, where the largest is {largest:.2g}, on {n} random inputs: it does "
            "what its graph does not show, for instance compute with the number of inputs"
        )


def _example(module: "nn.Module", shape: Shape) -> "torch.Tensor":
    """Zeros of the type of the module's weights."""
    import torch

    weights = [p for p in (*module.parameters(), *module.buffers()) if p.is_floating_point()]
    like = weights[0] if weights else torch.zeros(1)
    return torch.zeros(shape, dtype=like.dtype, device=like.device)


def _asked_for(module: "nn.Module") -> list[str]:
    """The names of what the module must be called with."""
    given = inspect.signature(module.forward).parameters.values()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in given if p.default is p.empty and p.kind not in several]


def _one_input(label: str, names: Sequence[str]) -> str:
    which = f" ({', '.join(names)})" if names else ""
    return (
        f"{label}: expected a module of one input, got {len(names)}{which}; wrap it in one that "
        "makes the others itself, or takes all side by side and cuts slices"
    )


def _traced_shape(module: "nn.Module") -> tuple[int, ...] | None:
    """The shape that the graph of an exported program was traced with, of one input of it."""
    import torch

    if not isinstance(module, torch.fx.GraphModule):
        return None
    given = [node for node in module.graph.nodes if node.op == "placeholder"]
    shapes = [getattr(node.meta.get("val"), "shape", None) for node in given]
    if len(shapes) != 1 or shapes[0] is None:
        return None
    # An open number of inputs may be any.
    return tuple(n if isinstance(n, int) else _BATCH for n in shapes[0])


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


def _read(label: str, program: "ExportedProgram", input_shape: Shape | None) -> Parts:
    import torch

    graph = torch.fx.Graph()  # a copy: a program that was given stays what it is
    copies: dict[Any, Any] = {}
    graph.output(graph.graph_copy(program.graph_module.graph, copies))
    named = {node.name: copy.name for node, copy in copies.items()}
    values: dict[Any, Any] = {}
    inputs = []
    for item in program.graph_signature.input_specs:
        name = named[item.arg.name] if hasattr(item.arg, "name") else str(item.arg)
        if item.target is None:
            inputs.append(name)
        elif item.target in program.state_dict:
            values[name] = program.state_dict[item.target]
        else:
            values[name] = program.constants[item.target]
    if len(inputs) != 1:
        raise FormatError(_one_input(label, inputs))
    sizes = [
        size if isinstance(size, int) else 0
        for node in graph.nodes
        if node.name == inputs[0]
        for size in node.meta["val"].shape
    ]
    fuse(graph)
    shape = tuple(sizes[1:])
    if not sizes or 0 in shape:
        raise FormatError(
            f"{label}: expected inputs whose sizes are fixed, but for how many there are, got "
            f"{sizes} (0: any); export it with dynamic_shapes for the first axis alone"
        )
    if input_shape is not None and tuple(input_shape) != shape:
        raise InputError(
            f"input_shape: expected {shape}, with which {label} was exported, got "
            f"{tuple(input_shape)}; leave it out"
        )
    values[inputs[0]] = Tensor.start(shape, batch=sizes[0])
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
            made = step(node, values)
        except (UnreadableError, InputError) as error:
            raise FormatError(f"{where} ({node.target}): {error}") from error
        except (
            ValueError,
            TypeError,
            IndexError,
            KeyError,
            RuntimeError,
            ArithmeticError,
        ) as error:
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
