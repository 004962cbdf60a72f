"""Activations that an ONNX graph spells out in several nodes, written as one node each."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import pi, sqrt
from typing import Any

import numpy as np
from onnx import defs, helper, numpy_helper

from neurosim.layers import Array

__all__ = ["fused", "slope"]

# From here on softplus(z) is z to single precision.
_SOFTPLUS_IS_LINEAR = 17


def _is_whole(node: Any) -> bool:
    """Whether a node has as many inputs as its operator takes, and outputs."""
    named = isinstance(node.op_type, str)  # bytes, where a damaged name is no text
    if not (node.output and named and defs.has(node.op_type)):
        return False
    schema = defs.get_schema(node.op_type)
    return bool(schema.min_input <= len(node.input) <= schema.max_input)


def fused(nodes: Sequence[Any], constants: Mapping[str, Array]) -> list[Any]:
    """Nodes with one each for silu, hard-swish, gelu, mish and softplus spelled out in several."""
    makers = {name: node for node in nodes if _is_whole(node) for name in node.output if name}
    uses = Counter(name for node in nodes for name in node.input)

    def made_by(name: str, kind: str) -> Any:
        node = makers.get(name)
        return node if node is not None and node.op_type == kind else None

    def factors(name: str) -> list[str]:
        """What a product multiplies, parts used elsewhere left whole."""
        node = made_by(name, "Mul")
        if node is None or uses[name] > 1:
            return [name]
        return [factor for part in node.input for factor in factors(part)]

    def number(name: str) -> float | None:
        node = made_by(name, "Constant")
        value = constants.get(name)
        try:
            if node is not None and node.attribute and node.attribute[0].name == "value":
                value = numpy_helper.to_array(node.attribute[0].t)
            return float(value.item()) if value is not None and value.size == 1 else None
        except (TypeError, ValueError):  # text, say: the node that takes it is refused
            return None

    def of(kind: str, name: str, wanted: float) -> str | None:
        """The computed one of two inputs, where the other one (a divisor) is a given number."""
        node = made_by(name, kind)
        orders = ((0, 1),) if kind == "Div" else ((0, 1), (1, 0))
        for a, b in orders if node is not None and len(node.input) == 2 else ():
            value = number(node.input[b])
            if value is not None and abs(value - wanted) <= 1e-6 * abs(wanted):
                return str(node.input[a])
        return None

    def cubic(inner: str, z: str) -> bool:
        """Whether a value is sqrt(2 / pi) (z + 0.044715 z^3)."""
        for a, b in sums(of("Mul", inner, sqrt(2 / pi)) or ""):
            parts = [part for name in factors(b) for part in cubed(name)]
            known = [value for value in map(number, parts) if value is not None]
            if a == z and parts.count(z) == 3 and len(parts) == 4 and len(known) == 1:
                return bool(np.isclose(known[0], 0.044715, rtol=1e-6))
        return False

    def sums(name: str) -> Sequence[tuple[str, str]]:
        """The two parts of a sum, in both orders."""
        node = made_by(name, "Add")
        return () if node is None else (tuple(node.input), tuple(node.input[::-1]))

    def cubed(name: str) -> list[str]:
        """The three factors of a third power."""
        node = made_by(name, "Pow")
        return [node.input[0]] * 3 if node is not None and number(node.input[1]) == 3 else [name]

    def argument_of_gelu(node: Any) -> tuple[str, str] | None:
        """What it is of, and by which approximation."""
        if node.op_type == "Div" and number(node.input[1]) == 2:
            parts = [*factors(node.input[0]), node.input[1]]
        elif node.op_type == "Mul":
            parts = [part for name in node.input for part in factors(name)]
        else:
            return None
        half = [part for part in parts if number(part) in (0.5, 2)][-1:]
        if len(parts) != 3 or len(half) != 1:
            return None
        x, one_more = (part for part in parts if part != half[0])
        for z, rest in ((x, one_more), (one_more, x)):
            gate = of("Add", rest, 1.0) or ""
            tanh, erf = made_by(gate, "Tanh"), made_by(gate, "Erf")
            if tanh is not None and cubic(tanh.input[0], z):
                return z, "tanh"
            if erf is not None:
                inner = erf.input[0]
                if z in (of("Div", inner, sqrt(2)), of("Mul", inner, 1 / sqrt(2))):
                    return z, "none"
        return None

    def sixth(name: str) -> str | None:
        """What is divided by 6."""
        return of("Div", name, 6.0) or of("Mul", name, 1 / 6)

    def clipped(name: str | None, z: str) -> bool:
        """Whether a value is z + 3 between 0 and 6."""
        node = made_by(name or "", "Clip")
        if node is None or of("Add", node.input[0], 3.0) != z:
            return False
        bounds = {item.name: item.f for item in node.attribute}
        given = [number(name) if name else None for name in node.input[1:]]
        return [*given, *[bounds.get(key) for key in ("min", "max")][len(given) :]] == [0, 6]

    def argument_of_hard_swish(node: Any) -> str | None:
        """Before opset 14, z clip(z + 3, 0, 6) / 6, divided before or after."""
        product = made_by(sixth(node.output[0]) or "", "Mul")
        if product is not None:
            for z, other in (product.input, product.input[::-1]):
                if clipped(other, z):
                    return str(z)
        elif node.op_type == "Mul" and len(node.input) == 2:
            for z, other in (node.input, node.input[::-1]):
                if clipped(sixth(other), z):
                    return str(z)
        return None

    def argument_of_softplus(node: Any) -> str | None:
        """Torch writes where(z > 20, z, softplus(z))."""
        if node.op_type != "Where":
            return None
        far, z, soft = node.input
        made, above = made_by(soft, "Softplus"), made_by(far, "Greater")
        if made is None or above is None or {made.input[0], above.input[0]} != {z}:
            return None
        bound = number(above.input[1])
        return str(z) if bound is not None and bound >= _SOFTPLUS_IS_LINEAR else None

    def replacement(node: Any) -> Any:
        if not _is_whole(node):
            return node
        argument = argument_of_softplus(node)
        if argument is not None:
            return helper.make_node("Softplus", [argument], node.output, name=node.name)
        argument = argument_of_hard_swish(node)
        if argument is not None:
            return helper.make_node("HardSwish", [argument], node.output, name=node.name)
        if node.op_type not in ("Mul", "Div") or len(node.input) != 2:
            return node
        for z, other in (node.input, node.input[::-1]) if node.op_type == "Mul" else ():
            squashed = made_by(other, "Tanh")
            soft = made_by(squashed.input[0], "Softplus") if squashed is not None else None
            if soft is not None and soft.input[0] == z:
                return helper.make_node("Mish", [z], node.output, name=node.name)
            gate = made_by(other, "Sigmoid")
            if gate is not None and gate.input[0] == z:
                return helper.make_node("Swish", [z], node.output, name=node.name)
            gate = made_by(other, "HardSigmoid")
            if gate is not None and gate.input[0] == z and np.allclose(slope(gate), (1 / 6, 0.5)):
                return helper.make_node("HardSwish", [z], node.output, name=node.name)
        gelu = argument_of_gelu(node)
        if gelu is None:
            return node
        z, approximate = gelu
        return helper.make_node("Gelu", [z], node.output, name=node.name, approximate=approximate)

    return [replacement(node) for node in nodes]


def slope(node: Any) -> tuple[float, float]:
    """Slope and shift of a HardSigmoid."""
    attributes = {item.name: item.f for item in node.attribute}
    return attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
