"""What each node of a graph of PyTorch makes: a torch constant, or a `Tensor` of the network."""

import operator
from collections.abc import Mapping
from typing import Any

from neurosim.formats.pytorch_arguments import Reader, check_counts
from neurosim.formats.pytorch_axes import AXES
from neurosim.formats.pytorch_elementwise import ELEMENTWISE
from neurosim.formats.pytorch_layers import LAYERS
from neurosim.formats.pytorch_parts import PARTS
from neurosim.formats.refusals import reason_against
from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor

__all__ = ["step"]

_READ: dict[str, Reader] = {**LAYERS, **ELEMENTWISE, **AXES, **PARTS}


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
        if not isinstance(made, int):
            check_counts((*flat, *keywords.values()))
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
