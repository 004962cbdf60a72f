"""Activations that a graph of PyTorch spells out in several nodes, written as one node each."""

from typing import Any

__all__ = ["fuse"]


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
