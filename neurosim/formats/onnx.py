"""Networks from ONNX graphs as torch, Keras (tf2onnx), scikit-learn (skl2onnx) export them.

What is no layer of a network is an error that names the node.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import external_data_helper, numpy_helper

from neurosim.errors import FormatError, InputError
from neurosim.formats.onnx_constants import REAL_TYPES
from neurosim.formats.onnx_fusions import fused
from neurosim.formats.onnx_nodes import has_no_place, step
from neurosim.formats.refusals import reason_against
from neurosim.formats.steps import Parts, UnreadableError
from neurosim.formats.tensor import Layout, Tensor
from neurosim.layers import Array, Shape

__all__ = ["read_onnx"]

# Before opset 7, sums and products of tensors of unlike shape had an axis of their own.
_FIRST_OPSET = 7
# Constants that are computed while reading, all together: so many, or so many times those stored.
_MOST_COMPUTED, _MOST_TIMES = 10**8, 8
# What onnx and NumPy raise where a file lacks an argument or an attribute, or states a wrong one.
_MALFORMED = (ValueError, TypeError, IndexError, KeyError, ArithmeticError)


def read_onnx(path: Path, input_shape: Shape | None = None) -> Parts:
    """Nodes, read-out and input shape of an ONNX file.

    input_shape: where the file leaves sizes open.

    Raises
    ------
    FormatError
        If the file is truncated or foreign, or the graph has a node that neurosim cannot
        represent; the message names it.
    """
    model = _load(path)
    graph = model.graph
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < _FIRST_OPSET:
        raise FormatError(
            f"{path}: expected opset {_FIRST_OPSET} or later, got {opset}; export it anew"
        )
    constants = {}
    for item in graph.initializer:
        try:
            constants[item.name] = numpy_helper.to_array(item)
        except _MALFORMED as error:
            raise FormatError(
                f"{path}: expected numbers for {item.name!r}, got {_one_line(error)}"
            ) from error
    inputs = [item for item in graph.input if item.name not in constants]
    if len(inputs) != 1:
        raise FormatError(
            f"{path}: expected a graph with one input, got {len(inputs)}: "
            f"{', '.join(item.name for item in inputs)}"
        )
    start = _start(path, inputs[0], input_shape)
    wanted, nodes = _wanted(path, graph, constants)
    values: dict[str, Any] = {**constants, inputs[0].name: start, "": None}
    # Who asks for a shape does not take the values.
    uses = Counter(name for node in nodes if node.op_type != "Shape" for name in set(node.input))
    stored, filled = sum(array.size for array in constants.values()), 0
    for node in nodes:
        try:
            # Numbers too large to fold become infinite, which the layer then refuses.
            with np.errstate(all="ignore"):
                made = step(node, values, opset)
                several = made if isinstance(made, tuple) else (made,)
                n = sum(np.size(value) for value in several if not isinstance(value, Tensor))
                if node.op_type == "Constant":
                    stored += n
                else:
                    filled += n
                if filled > max(_MOST_COMPUTED, _MOST_TIMES * stored):
                    raise UnreadableError(
                        f"expected constants made of the {stored} numbers of the file, got "
                        f"{filled}; simplify the graph"
                    )
                for name, value in zip(node.output, several, strict=False):
                    shared = isinstance(value, Tensor) and uses[name] > 1
                    values[name] = value.settled() if shared else value
        except (UnreadableError, InputError, *_MALFORMED) as error:
            constant = not any(isinstance(values.get(name), Tensor) for name in node.input)
            user = _user_without_a_place(node, nodes) if constant else None
            said = reason_against(user.op_type, ()) if user else _one_line(error)
            raise FormatError(f"{path}: {_label(user or node)}: {said}") from error
    tensor = values.get(wanted)
    if not isinstance(tensor, Tensor):
        raise FormatError(f"{path}: expected output {wanted!r} to depend on the input, it does not")
    try:
        return tensor.finished()
    except (UnreadableError, InputError) as error:
        raise FormatError(f"{path}: output {wanted!r}: {error}") from error


def _label(node: Any) -> str:
    name = repr(node.name) if node.name else f"making {node.output[0]!r}"
    return f"node {name} ({node.op_type})"


def _user_without_a_place(failed: Any, nodes: list[Any]) -> Any:
    """The first node behind one of constants that no network has: a first state is an LSTM's."""
    made = set(failed.output)
    for node in nodes:
        if made.intersection(node.input):
            if has_no_place(node.op_type):
                return node
            made.update(node.output)
    return None


def _load(path: Path) -> Any:
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise FormatError(
            f"{path}: expected an ONNX file, got {error}; is it truncated?"
        ) from error
    if not model.graph.node:
        raise FormatError(f"{path}: expected an ONNX graph with nodes, got none; is it truncated?")
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and (
                Path(entry.value).is_absolute() or ".." in Path(entry.value).parts
            ):
                raise FormatError(
                    f"{path}: expected external data in the folder of the file, got {entry.value!r}"
                )
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise FormatError(
            f"{path}: expected readable external data in the folder of the file, got "
            f"{_one_line(error)}"
        ) from error
    return model


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _start(path: Path, item: Any, input_shape: Shape | None) -> Tensor:
    """The input of the graph; its first axis counts inputs unless the shape says otherwise."""
    if not item.type.tensor_type.HasField("shape"):
        return Tensor.start(input_shape)
    sizes = tuple(d.dim_value for d in item.type.tensor_type.shape.dim)
    if input_shape is not None:
        stated = sizes[1:]
        if len(stated) != len(input_shape) or any(
            n not in (0, given) for n, given in zip(stated, input_shape, strict=True)
        ):
            raise FormatError(
                f"{path}: input {item.name!r}: expected inputs of shape {stated} (0: any), got "
                f"input_shape {input_shape}"
            )
        return Tensor.start(input_shape, batch=max(0, sizes[0]))
    if len(sizes) < 2:
        return Tensor.start(sizes, layout="vector")
    # (n_in, n_inputs): the first axis has a length and the second has none, or 1.
    columns = len(sizes) == 2 and sizes[0] > 0 and sizes[1] <= 1
    layout: Layout = "open" if columns else "rows"
    return Tensor.start(sizes[1:], layout=layout, batch=max(0, sizes[0]))


def _wanted(path: Path, graph: Any, constants: Mapping[str, Array]) -> tuple[str, list[Any]]:
    """The output to read and the nodes it needs, in order.

    Classifiers from skl2onnx have a branch for the label, which is left out, and pack the
    probabilities in a ZipMap; with two classes they are 1 - p and p, of one neuron p, which is
    what is read.
    """
    nodes = fused(graph.node, constants)
    makers = {name: node for node in nodes for name in node.output if name}

    def made_by(name: str, kind: str) -> Any:
        return makers[name] if name in makers and makers[name].op_type == kind else None

    names = [item.name for item in graph.output]
    if len(names) != 1:
        numbers = [
            item.name
            for item in graph.output
            if item.type.tensor_type.elem_type in REAL_TYPES or made_by(item.name, "ZipMap")
        ]
        if len(numbers) != 1:
            raise FormatError(
                f"{path}: expected one output of real numbers, got {len(numbers)} "
                f"among {', '.join(names) or 'none'}; export the model with the one to look at"
            )
        names = numbers
    wanted = names[0]
    if made_by(wanted, "ZipMap"):
        wanted = makers[wanted].input[0]
    tail = made_by(wanted, "Reshape")
    # A regressor's outputs end below one another, (n_inputs * n_outputs, 1), in the same order.
    if tail and np.array_equal(constants.get(tail.input[-1], 0), [-1, 1]):
        wanted = tail.input[0]
    pair = made_by(wanted, "Concat")
    rest = made_by(pair.input[0], "Sub") if pair and len(pair.input) == 2 else None
    if rest and rest.input[1] == pair.input[1] and constants.get(rest.input[0]) == 1:
        wanted = pair.input[1]
    needed, open_names = set(), [wanted]
    while open_names:
        node = makers.get(open_names.pop())
        if node is not None and node.output[0] not in needed:
            needed.add(node.output[0])
            open_names.extend(node.input)
    return wanted, [node for node in nodes if needed.intersection(node.output)]
