"""Finished layers of a foreign graph, each with what it takes its inputs from."""

from dataclasses import dataclass, field
from itertools import count
from math import prod
from typing import TypeAlias

from neurosim.graph import Node
from neurosim.layers import Dense, Flatten, Layer, Reshape, Shape, Weighted

__all__ = ["Parts", "Step", "UnreadableError", "nodes_of"]

# Nodes of a network, read-out (None or "softmax"), shape of one input.
Parts: TypeAlias = tuple[tuple[Node, ...], str | None, Shape]


class UnreadableError(Exception):
    """Why a step has no place in a network; the reader adds which step it is."""


@dataclass(frozen=True, eq=False)
class Step:
    """A finished layer, what it takes its inputs from, and the shape of what it sends."""

    layer: Layer | None  # None: the input
    sources: tuple["Step", ...]
    shape: Shape | None
    number: int = field(default_factory=count().__next__)

    def sending(self, shape: Shape | None) -> "Step":
        """A step that sends the same values in a shape: this one, or one behind it."""
        if self.shape is None or shape is None or self.shape == shape or 0 in self.shape:
            return self
        if prod(self.shape) != prod(shape):
            raise UnreadableError(f"expected {prod(self.shape)} values an input, got {prod(shape)}")
        layer = Flatten() if len(shape) == 1 else Reshape(shape=shape)
        return Step(layer, (self,), shape)


def nodes_of(last: Step) -> tuple[tuple[Node, ...], Step]:
    """The nodes that a last step needs, in order, and the step that is the input.

    Raises
    ------
    UnreadableError
        If there is no weighted layer.
    """
    found: set[Step] = set()
    waiting = [last]
    while waiting:
        step = waiting.pop()
        if step not in found:
            found.add(step)
            waiting.extend(step.sources)
    steps = sorted((step for step in found if step.layer), key=lambda step: step.number)
    (start,) = (step for step in found if step.layer is None)
    if not any(isinstance(step.layer, Weighted) for step in steps):
        raise UnreadableError("expected at least one weighted layer, got none")
    if all(isinstance(step.layer, Dense | Flatten) for step in steps):  # a chain: one source each
        steps = [step for step in steps if isinstance(step.layer, Dense)]
        nodes = tuple(Node(step.layer, (k,)) for k, step in enumerate(steps) if step.layer)
        return nodes, start
    numbers = {start: 0} | {step: k for k, step in enumerate(steps, start=1)}
    nodes = tuple(
        Node(step.layer, tuple(numbers[source] for source in step.sources))
        for step in steps
        if step.layer
    )
    return nodes, start
