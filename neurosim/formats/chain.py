"""Layers from a chain of single steps, as foreign graphs write a network down.

Affine steps are gathered (in float64) until an activation or the next matrix closes a layer. The
shape of the tensor is followed: a step that would mix inputs with one another is an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal, TypeAlias

import numpy as np

from neurosim.layers import Activation, Array, Dense

__all__ = ["BATCH", "Chain", "Layout", "UnreadableError"]

# Inputs are rows (n_inputs, ...) or columns (n_in, n_inputs); there may be a single one, a vector.
# A tensor is open while rows and columns are both possible: (n_in, 1), say.
Layout: TypeAlias = Literal["rows", "columns", "vector", "open"]

# Stands for the number of inputs in a computed shape; no true size is negative.
BATCH = -(2**30)


class UnreadableError(Exception):
    """Why a step has no place in a network; the reader adds which step it is."""


@dataclass(frozen=True)
class Chain:
    """A tensor computed from the input: finished layers, then one affine step.

    The step is gain * (matrix @ y + shift), or gain * (scale * y + shift) while matrix is None.
    The gain is a positive scalar that is kept apart, as it may turn out to be that of a sigmoid.
    `shape` is that of one input's value, with 0 where a size is unknown, None if all is unknown.
    `batch` is the number of inputs where the graph fixes it, otherwise 0.
    """

    shape: tuple[int, ...] | None
    layout: Layout = "rows"
    batch: int = 0
    layers: tuple[Dense, ...] = ()
    matrix: Array | None = None
    scale: Array | float = 1.0
    shift: Array | float = 0.0
    gain: float = 1.0
    softmax: bool = False

    @property
    def size(self) -> int:
        """Values an input has here; 0 if unknown."""
        return prod(self.shape) if self.shape is not None else 0

    @property
    def bare(self) -> bool:
        """Whether the affine step does nothing."""
        return (
            self.matrix is None
            and self.gain == 1
            and not np.any(self.shift)
            and bool(np.all(np.asarray(self.scale) == 1))
        )

    def times(self, constant: Array) -> "Chain":
        """The product with a constant: a scalar or one value a unit."""
        if constant.size == 1 and constant.item() > 0:
            return replace(self._going_on(), gain=self.gain * constant.item())
        chain, factor = self._plain()._spread(constant)
        shift = np.asarray(chain.shift) * factor
        if chain.matrix is None:
            return replace(chain, scale=np.asarray(chain.scale) * factor, shift=shift)
        return replace(chain, matrix=np.reshape(factor, (-1, 1)) * chain.matrix, shift=shift)

    def plus(self, constant: Array) -> "Chain":
        """The sum with a constant: a scalar or one value a unit."""
        chain, term = self._plain()._spread(constant)
        return replace(chain, shift=np.asarray(chain.shift) + term)

    def through(self, weight: Array, *, first: bool = False) -> "Chain":
        """A matrix product W @ y, W (n_out, n_in); `first`: written in front of the tensor."""
        chain = self._plain()._laid("columns" if first else "rows")
        if chain.shape is not None and len(chain.shape) != 1:
            raise UnreadableError(
                f"expected one axis of units before a weight, got values of shape {chain.shape} "
                "an input; is a Flatten missing?"
            )
        if chain.size not in (0, weight.shape[1]):
            raise UnreadableError(
                f"expected a weight for {chain.size} inputs, got one for {weight.shape[1]}"
            )
        if chain.matrix is not None:  # a linear layer of its own on the chip
            chain = chain.closed(Activation("identity"))
        scale = np.broadcast_to(np.asarray(chain.scale, np.float64), weight.shape[1:])
        shift = np.broadcast_to(np.asarray(chain.shift, np.float64), weight.shape[1:])
        return replace(
            chain,
            shape=(len(weight),),
            matrix=weight * scale,
            shift=weight @ shift,
            scale=1.0,
        )

    def activated(self, kind: str, parameter: float) -> "Chain":
        """An activation; a factor in front of a sigmoid becomes its gain."""
        if kind == "sigmoid":
            return replace(self, gain=1.0).closed(Activation(kind, self.gain))
        return self.closed(Activation(kind, parameter))

    def closed(self, activation: Activation) -> "Chain":
        """The affine step and an activation as a layer."""
        chain = self._plain()
        if chain.matrix is None:
            raise UnreadableError("expected a MatMul or Gemm before every activation")
        shift = np.broadcast_to(np.asarray(chain.shift, np.float64), (len(chain.matrix),))
        layer = Dense(weight=chain.matrix, bias=shift, activation=activation)
        return replace(chain, layers=(*self.layers, layer), matrix=None, scale=1.0, shift=0.0)

    def read_out(self) -> "Chain":
        """A softmax over the units, as the last step."""
        chain = self._plain()
        if chain.matrix is None:
            raise UnreadableError("expected Softmax after a MatMul, Gemm or Add")
        return replace(chain.closed(Activation("identity")), softmax=True)

    def finished(self) -> "Chain":
        """The chain without an open affine step.

        Raises
        ------
        UnreadableError
            If it does not end in a weighted layer, its activation or a softmax.
        """
        chain = self
        if chain.matrix is not None:
            chain = chain.closed(Activation("identity"))
        if not chain.layers or not chain.bare:
            got = "an affine step after it" if chain.layers else "nothing of the kind"
            raise UnreadableError(
                "expected a chain that ends in a weighted layer, its activation or Softmax, "
                f"got {got}"
            )
        return chain

    def flattened(self) -> "Chain":
        """All values of an input on one axis, in C order."""
        chain = self._in_rows()
        return replace(chain, shape=(chain.size,))

    def reshaped(self, target: Sequence[int]) -> "Chain":
        """The same values an input, in the same order, in another shape.

        Sizes of 0 are kept, -1 takes what is left; the first one is that of the inputs.
        """
        chain, written = self._in_rows(), [int(n) for n in target]
        sizes = written[1:]
        for axis, n in enumerate(sizes):
            if n == 0 and chain.shape is not None and axis < len(chain.shape):
                sizes[axis] = chain.shape[axis]
        if chain.size and sizes.count(-1) == 1:
            sizes[sizes.index(-1)] = chain.size // max(1, -prod(sizes))
        elif sizes == [-1]:
            sizes = [0]
        first = {0, -1, BATCH} | ({chain.batch} if chain.batch else set())
        if (
            not written
            or written[0] not in first
            or min(sizes, default=0) < 0
            or (chain.size or prod(sizes)) != prod(sizes)
        ):
            shown = ["n_inputs" if n == BATCH else n for n in written]
            raise UnreadableError(
                f"expected a shape that keeps the {chain.size or 'unknown number of'} values of "
                f"an input together, got {shown}"
            )
        return replace(chain, shape=tuple(sizes))

    def squeezed(self, axes: Sequence[int] | None) -> "Chain":
        """Without axes of length 1, never that of the inputs."""
        chain = self._in_rows()
        shape = chain._known_shape()
        if axes is None:
            axes = [n + 1 for n, size in enumerate(shape) if size == 1]
        gone = {int(axis) % (len(shape) + 1) for axis in axes}
        if 0 in gone or any(shape[axis - 1] != 1 for axis in gone):
            raise UnreadableError(
                f"expected axes of length 1 of values of shape {shape} an input, got "
                f"{sorted(gone)} (axis 0 is that of the inputs)"
            )
        return replace(chain, shape=tuple(n for i, n in enumerate(shape, 1) if i not in gone))

    def transposed(self, axes: Sequence[int] | None) -> "Chain":
        """Axes in another order, where the values keep theirs: only axes of length 1 move."""
        rank = len(self._known_shape()) + (self.layout != "vector")
        axes = [int(axis) for axis in axes] if axes is not None else list(range(rank))[::-1]
        if axes == list(range(rank)):
            return self
        chain = self._in_rows()
        shape = chain._known_shape()
        longer = [axis for axis in axes if axis > 0 and shape[axis - 1] != 1]
        if axes[0] != 0 or longer != sorted(longer):
            raise UnreadableError(
                f"expected an order of axes that leaves the values in theirs, got {axes} for "
                f"values of shape {shape} an input"
            )
        return replace(chain, shape=tuple(shape[axis - 1] for axis in axes[1:]))

    def _going_on(self) -> "Chain":
        if self.softmax:
            raise UnreadableError("expected Softmax as the last step, for it is the read-out")
        return self

    def _plain(self) -> "Chain":
        """The same with the gain multiplied in."""
        chain = self._going_on()
        shift = chain.gain * np.asarray(chain.shift)
        if chain.matrix is None:
            return replace(chain, scale=chain.gain * np.asarray(chain.scale), shift=shift, gain=1.0)
        return replace(chain, matrix=chain.gain * chain.matrix, shift=shift, gain=1.0)

    def _laid(self, layout: Layout) -> "Chain":
        if self.layout == "open":
            return replace(self, layout=layout)
        if self.layout not in (layout, "vector"):
            written = {"rows": "the weight as the second factor", "columns": "the weight first"}
            raise UnreadableError(f"expected {written[self.layout]}, as inputs are {self.layout}")
        return self

    def _in_rows(self) -> "Chain":
        chain = replace(self, layout="rows") if self.layout == "open" else self
        if chain.layout != "rows":
            raise UnreadableError("expected a first axis of inputs, (n_inputs, ...)")
        return chain

    def _known_shape(self) -> tuple[int, ...]:
        if self.shape is None or 0 in self.shape:
            raise UnreadableError("expected an input whose shape the file states")
        return self.shape

    def _spread(self, constant: Array) -> tuple["Chain", Array]:
        """A constant as a scalar or flat, one value a unit."""
        if constant.size == 1:
            return self, constant.reshape(())
        wrong = UnreadableError(
            f"expected one value a unit, got a constant of shape {constant.shape} for values of "
            f"shape {self.shape or 'unknown'} an input"
        )
        standing = constant.ndim == 2 and constant.shape[1] == 1
        chain = self
        if chain.layout == "open":
            chain = replace(chain, layout="columns" if standing else "rows")
        if chain.layout == "columns":
            if not standing or chain.size not in (0, constant.size):
                raise wrong
            return chain, constant.reshape(-1)
        if chain.shape is None or chain.shape == (0,):  # the next weight checks the length
            if constant.size != constant.shape[-1]:
                raise wrong
            return chain, constant.reshape(-1)
        if 0 in chain.shape:
            raise wrong
        rank = len(chain.shape)
        if constant.ndim == rank + 1 and len(constant) == 1 and chain.layout == "rows":
            constant = constant[0]
        try:
            return chain, np.broadcast_to(constant, chain.shape).reshape(-1)
        except ValueError:
            raise wrong from None
