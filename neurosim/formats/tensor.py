"""Layers from the tensors of a foreign graph.

A reader walks through the nodes of a file and makes a `Tensor` of each, by its methods or by the
functions of activations, pooling and joins; what the last tensor remembers is the network: finished
layers (neurosim.formats.steps), then one affine step that is still open (neurosim.formats.folding).
Axes are followed (neurosim.formats.axes): a weight behind a transposition is written for the values
as they lie, and a step that would mix inputs with one another is an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np

from neurosim.formats.axes import Order, known, target_shape
from neurosim.formats.folding import OpenStep
from neurosim.formats.padding import together
from neurosim.formats.steps import Parts, Step, UnreadableError, nodes_of
from neurosim.layers import Activation, Add, Array, Dense, Shape, Transpose
from neurosim.layers.windows import NO_PADDING, Padding, Pair

__all__ = ["Layout", "Tensor"]

# Inputs are rows (n_inputs, ...) or columns (n_in, n_inputs); there may be a single one, a vector.
# A tensor is open while rows and columns are both possible: (n_in, 1), say.
Layout: TypeAlias = Literal["rows", "columns", "vector", "open"]

_NOTHING_OPEN = OpenStep()


@dataclass(frozen=True, eq=False)
class Tensor:
    """What a graph has computed from the input: finished layers, then one affine step.

    Parameters
    ----------
    order
        The shape of one input's value, and how it lies.
    step
        The last finished layer.
    layout
        Where the axis of the inputs is; shapes are without it.
    batch
        The number of inputs where the graph fixes it, otherwise 0.
    open
        The affine step behind it, of values as they are stored.
    zeros
        Before and behind each axis of the shape, for the next window to take in; empty: none.
    softmax
        Whether it is the read-out, which nothing follows.
    shared
        Whether several nodes take this tensor.
    """

    order: Order
    step: Step
    layout: Layout = "rows"
    batch: int = 0
    open: OpenStep = _NOTHING_OPEN
    zeros: tuple[tuple[int, int], ...] = ()
    softmax: bool = False
    shared: bool = False

    @staticmethod
    def start(shape: Shape | None, *, layout: Layout = "rows", batch: int = 0) -> "Tensor":
        """The input of a graph."""
        step = Step(None, (), shape)
        return Tensor(order=Order.plain(shape), step=step, layout=layout, batch=batch)

    @property
    def shape(self) -> Shape | None:
        """Of one input's value, with 0 where a size is unknown; None if all is."""
        return self.order.shape

    @property
    def size(self) -> int:
        """Values an input has here; 0 if unknown."""
        return prod(self.shape) if self.shape is not None else 0

    def axis(self, number: int) -> int:
        """An axis counted from the front, that of the inputs being 0."""
        rank = len(self.shape or ()) + 1
        if not -rank <= number < rank:
            raise UnreadableError(f"expected an axis of {rank}, got {number}")
        return int(number) % rank

    # Affine steps, weights, activations

    def times(self, constant: Array | float) -> "Tensor":
        """The product with a constant of a shape that broadcasts."""
        constant = np.asarray(constant)
        if constant.size == 1 and constant.item() > 0:
            gain = self.open.gain * constant.item()
            return replace(self._going_on(), open=replace(self.open, gain=gain))
        return self._plain()._affine(constant, np.zeros(()))

    def plus(self, constant: Array | float) -> "Tensor":
        """The sum with a constant of a shape that broadcasts."""
        return self._plain()._affine(np.ones(()), np.asarray(constant))

    def normalised(
        self, mean: Array, variance: Array, gamma: Array, beta: Array, epsilon: float, axis: int
    ) -> "Tensor":
        """A trained batch normalisation; `axis`: of the channels, without that of the inputs."""
        sizes = self.known_shape()
        shape = [1] * len(sizes)
        for name, values in (
            ("variance", variance), ("mean", mean), ("scale", gamma), ("shift", beta),
        ):  # fmt: skip
            if np.shape(values) != (sizes[axis],):
                raise UnreadableError(
                    f"expected one {name} for each of {sizes[axis]} channels, got shape "
                    f"{np.shape(values)}"
                )
        spread = np.asarray(variance, np.float64) + epsilon
        if not (spread > 0).all():
            raise UnreadableError("expected a variance above 0")
        shape[axis] = spread.size
        factor = np.asarray(gamma, np.float64) / np.sqrt(spread)
        term = np.asarray(beta, np.float64) - np.asarray(mean, np.float64) * factor
        rows = self.in_rows()._plain()
        return rows._affine(factor.reshape(shape), term.reshape(shape))

    def _affine(self, factor: Array, term: Array) -> "Tensor":
        tensor, factor = self._spread(factor)
        tensor, term = tensor._spread(term)
        opened = tensor.open.then(factor, term, tensor.order.stored)
        if opened is None:
            tensor = tensor.closed(Activation("identity"))
            opened = tensor.open.then(factor, term, tensor.order.stored)
        assert opened is not None
        return replace(tensor, open=opened)

    def through(self, weight: Array, *, first: bool = False) -> "Tensor":
        """A matrix product W @ y, W (n_out, n_in); `first`: written in front of the tensor.

        Of values with several axes, of the last one: a convolution with kernels of size 1.
        """
        tensor = self._plain()._laid("columns" if first else "rows")
        if len(tensor.shape or ()) > 1 and tensor.known_shape()[-1] == weight.shape[1]:
            return tensor._at_each_place(weight)
        if tensor.shape is not None and len(tensor.shape) != 1:
            raise UnreadableError(
                f"expected one axis of units before a weight, got values of shape {tensor.shape} "
                "an input; is a Flatten missing?"
            )
        if tensor.size not in (0, weight.shape[1]):
            raise UnreadableError(
                f"expected a weight for {tensor.size} inputs, got one for {weight.shape[1]}"
            )
        if tensor.open.weight is not None:  # a linear layer of its own on the chip
            tensor = tensor.closed(Activation("identity"))
        opened = tensor.open.through(tensor.order.as_stored(weight), tensor.order.stored)
        return replace(tensor, order=Order.plain((len(weight),)), open=opened)

    def _at_each_place(self, weight: Array) -> "Tensor":
        """A matrix product over the last axis, one for all places on the others."""
        *places, n_in = self.known_shape()
        rank = len(places) + 2
        channels = self.transposed([0, rank - 1, *range(1, rank - 1)])
        lines = channels.viewed((n_in, prod(places[:-1]), places[-1]))
        made = lines.convolved(weight[:, :, None, None]).viewed((len(weight), *places))
        return made.transposed([0, *range(2, rank), 1])

    def convolved(
        self,
        kernel: Array,
        *,
        stride: Pair = (1, 1),
        padding: Padding = NO_PADDING,
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> "Tensor":
        """A convolution with a kernel (channels_out, channels_in / groups, height, width)."""
        tensor = self.as_map()
        padding = together(tensor.around, padding)
        tensor = replace(tensor, zeros=())
        if tensor.open.weight is not None:
            tensor = tensor.closed(Activation("identity"))
        shape = tensor.known_shape()
        channels = shape[0]
        if kernel.shape[1] * groups != channels or len(kernel) % groups:
            raise UnreadableError(
                f"expected a kernel for {channels} channels, got {kernel.shape} in {groups} groups"
            )
        window: dict[str, Any] = {
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        }
        opened = tensor.open.convolved(kernel, window, shape)
        if opened is None:
            tensor = tensor._settled_affine()
            opened = tensor.open.convolved(kernel, window, shape)
        assert opened is not None
        layer = opened.weighted_layer(Activation("identity"))
        order = Order.plain(layer.output_shape(shape))
        return replace(tensor, step=tensor.sent, order=order, open=opened)

    def activated(self, kind: str, parameter: float = 0.0) -> "Tensor":
        """An activation; a factor in front of a sigmoid becomes its gain."""
        if kind == "sigmoid":
            tensor = replace(self._going_on(), open=replace(self.open, gain=1.0))
            return tensor.closed(Activation(kind, self.open.gain))
        return self.closed(Activation(kind, parameter))

    def closed(self, activation: Activation) -> "Tensor":
        """The open step and an activation as a layer."""
        tensor = self._plain()
        if tensor.open.weight is None:
            if tensor.open.bare and activation.kind == "identity":
                return tensor
            last = tensor.step.layer
            if tensor.open.bare and isinstance(last, Add) and not tensor.shared:
                step = Step(Add(activation=activation), tensor.step.sources, tensor.step.shape)
                return replace(tensor, step=step)
            return tensor._settled_affine(activation)
        layer = tensor.open.weighted_layer(activation)
        source = tensor.step
        if isinstance(layer, Dense):
            source = source.sending((layer.n_in,))
            shape: Shape = (layer.n_out,)
        else:
            shape = layer.output_shape(known(source.shape))
        return replace(tensor, step=Step(layer, (source,), shape), open=_NOTHING_OPEN, shared=False)

    def settled(self) -> "Tensor":
        """For several nodes to take: its weight is a layer of its own."""
        open_weight = self.open.weight is not None and not self.softmax
        tensor = self.closed(Activation("identity")) if open_weight else self
        return replace(tensor, shared=True)

    def read_out(self) -> "Tensor":
        """A softmax over the units, as the last step."""
        return replace(self.closed(Activation("identity")), softmax=True)

    # Zeros around a map

    @property
    def around(self) -> Padding:
        """Zeros above and below, left and right of a map."""
        return (self.zeros[1], self.zeros[2]) if self.zeros else NO_PADDING

    @property
    def map_size(self) -> Pair:
        """Height and width of a map, with the zeros around it."""
        rows, columns = self.around
        _, height, width = self.known_shape()
        return height + sum(rows), width + sum(columns)

    def padded(self, zeros: Padding) -> "Tensor":
        """Zeros around a map, which the next convolution or pool takes in."""
        tensor = self.as_map()
        zeros = together(tensor.around, zeros)
        return replace(tensor, zeros=((0, 0), *zeros)) if np.any(zeros) else tensor

    def upright(self) -> "Tensor":
        """A line (channels, length) as a map of one row."""
        tensor = replace(self, zeros=()).in_rows()
        shape = tensor.known_shape()
        if len(shape) != 2:
            raise UnreadableError(
                f"expected a line (channels, length), got values of shape {shape} an input"
            )
        zeros = (self.zeros[0], (0, 0), self.zeros[1]) if self.zeros else ()
        return replace(tensor.viewed((shape[0], 1, shape[1])), zeros=zeros)

    def lying(self) -> "Tensor":
        """A map of one row as a line (channels, length)."""
        tensor = replace(self, zeros=())
        channels, _, length = tensor.known_shape()
        return replace(tensor.viewed((channels, length)), zeros=self.zeros[::2])

    # Axes

    def flattened(self) -> "Tensor":
        """All values of an input on one axis, in C order."""
        tensor = self.in_rows()
        return tensor.viewed((tensor.size,))

    def reshaped(self, target: Sequence[int]) -> "Tensor":
        """The same values an input, in the same order, in another shape.

        Sizes of 0 are kept, -1 takes what is left; the first one is that of the inputs.
        """
        tensor = self.in_rows()
        return tensor.viewed(target_shape(tensor.shape, target, tensor.batch))

    def squeezed(self, axes: Sequence[int] | None) -> "Tensor":
        """Without axes of length 1; where a graph is of a single input, that of the inputs too."""
        tensor = self.in_rows()
        shape = tensor.known_shape()
        if axes is None:
            axes = [n for n, size in enumerate((tensor.batch, *shape)) if size == 1]
        gone = {tensor.axis(axis) for axis in axes}
        if 0 in gone and tensor.batch == 1:
            gone.remove(0)
            if len(shape) - len(gone) != 1:
                raise UnreadableError(
                    f"expected axes left behind that of the inputs, got values of shape {shape} an "
                    "input without it; export the network for any number of inputs"
                )
            tensor = replace(tensor, layout="vector")
        if 0 in gone or any(shape[axis - 1] != 1 for axis in gone):
            raise UnreadableError(
                f"expected axes of length 1 of values of shape {shape} an input, got "
                f"{sorted(gone)} (axis 0 is that of the inputs)"
            )
        return tensor.viewed(tuple(n for i, n in enumerate(shape, 1) if i not in gone))

    def unsqueezed(self, axes: Sequence[int]) -> "Tensor":
        """With axes of length 1 put in, behind that of the inputs."""
        tensor = self.in_rows()
        shape = tensor.known_shape()
        rank = len(shape) + len(axes) + 1
        new = sorted(int(axis) % rank for axis in axes)
        if not all(-rank <= axis < rank for axis in axes) or 0 in new or len(set(new)) < len(new):
            raise UnreadableError(f"expected new axes behind that of the inputs, got {list(axes)}")
        sizes = iter(shape)
        return tensor.viewed(tuple(1 if k in new else next(sizes) for k in range(1, rank)))

    def transposed(self, axes: Sequence[int] | None) -> "Tensor":
        """Axes in another order; that of the inputs, 0, stays the first."""
        rank = len(self.known_shape()) + (self.layout != "vector")
        axes = [int(axis) for axis in axes] if axes is not None else list(range(rank))[::-1]
        if axes == list(range(rank)):
            return self
        tensor = self._rows()  # zeros go with their axes: the next window may put these back
        if axes[0] != 0 or sorted(axes) != list(range(rank)):
            raise UnreadableError(
                f"expected an order of axes that keeps that of the inputs first, got {axes}"
            )
        if tensor.zeros:
            tensor = replace(tensor, zeros=tuple(tensor.zeros[axis - 1] for axis in axes[1:]))
        if not tensor.order.keeps_axes:
            tensor = tensor.arranged()
        order = tensor.order.transposed([axis - 1 for axis in axes[1:]])
        if order.in_place:
            plain = replace(tensor, order=Order.plain(order.stored))
            return plain.viewed(order.turned)
        return replace(tensor, order=order)

    # The end

    def finished(self) -> Parts:
        """Nodes, read-out and shape of an input.

        Raises
        ------
        UnreadableError
            If there is no weighted layer, or the shape of an input is not known.
        """
        tensor = replace(self, softmax=False)._going_on().solid().arranged()
        if tensor.size:  # outputs are (n_inputs, n_outputs)
            tensor = replace(tensor, step=tensor.step.sending((tensor.size,)))
        nodes, start = nodes_of(tensor.step)
        readout = "softmax" if self.softmax else None
        shape, first = start.shape or (), nodes[0].layer
        # In columns, an input is one column of the tensor.
        if isinstance(first, Dense) and (
            self.layout == "columns" or not shape or prod(shape) != first.n_in
        ):
            return nodes, readout, (first.n_in,)
        return nodes, readout, known(start.shape)

    # What steps have in common

    def _going_on(self) -> "Tensor":
        if self.softmax:
            raise UnreadableError("expected Softmax as the last step, for it is the read-out")
        if np.any(self.zeros):
            raise UnreadableError("expected a convolution or a pool after zeros around a map")
        return self

    def _plain(self) -> "Tensor":
        """The same with the gain multiplied in."""
        tensor = self._going_on()
        return replace(tensor, open=tensor.open.plain())

    def _decided(self, layout: Layout) -> "Tensor":
        """Where the axis of the inputs is, if it was open."""
        if self.layout != "open":
            return self
        if layout == "rows" or self.step.layer is not None:
            return replace(self, layout=layout)
        shape = (self.batch,)  # what was taken for the number of inputs is their size
        return replace(
            self, layout=layout, order=Order.plain(shape), step=Step(None, (), shape), batch=0
        )

    def _laid(self, layout: Layout) -> "Tensor":
        tensor = self._decided(layout)
        if tensor.layout not in (layout, "vector"):
            written = {"rows": "the weight as the second factor", "columns": "the weight first"}
            raise UnreadableError(
                f"expected {written[tensor.layout]}, as inputs are {tensor.layout}"
            )
        return tensor

    def _rows(self) -> "Tensor":
        tensor = self._decided("rows")
        if tensor.layout != "rows":
            raise UnreadableError("expected a first axis of inputs, (n_inputs, ...)")
        return tensor

    def in_rows(self) -> "Tensor":
        """The same with a first axis of inputs, and without zeros around."""
        return self._rows()._going_on()

    def known_shape(self) -> Shape:
        """Of one input's value.

        Raises
        ------
        UnreadableError
            If it is not known.
        """
        return known(self.shape)

    @property
    def sent(self) -> Step:
        """The last finished layer, its values in the shape in which they are stored."""
        return self.step.sending(self.order.stored)

    def as_map(self) -> "Tensor":
        """The same as a feature map (channels, height, width) whose axes lie in this order."""
        zeros, tensor = self.zeros, replace(self, zeros=()).in_rows()._plain()
        shape = tensor.known_shape()
        if len(shape) != 3:
            raise UnreadableError(
                f"expected a feature map (channels, height, width), got values of shape {shape} "
                "an input"
            )
        if zeros and any(zeros[0]):
            raise UnreadableError(
                "expected zeros around height and width, the last two axes, got some around the "
                "channels"
            )
        tensor = tensor.arranged()
        if tensor.open.weight is None:
            tensor = replace(tensor, step=tensor.sent)
        return replace(tensor, zeros=zeros)

    def solid(self) -> "Tensor":
        """The same with nothing open."""
        tensor = replace(self, zeros=()).closed(Activation("identity"))
        return replace(tensor, zeros=self.zeros)

    def arranged(self) -> "Tensor":
        """The same with its values in the order of the graph, by a Transpose if need be.

        A scale and shift that are still open move behind it, for the next weight to take them in.
        """
        axes = self.order.axes
        if axes is None:
            return self
        tensor = self.solid() if self.open.weight is not None else self
        stored, shape, layer = known(self.order.stored), self.known_shape(), Transpose(axes=axes)
        step = Step(layer, (tensor.sent,), layer.output_shape(stored))
        opened = tensor.open.transposed(stored, axes, shape)
        return replace(tensor, step=step, order=Order.plain(shape), open=opened, shared=False)

    def viewed(self, shape: Shape) -> "Tensor":
        """The same values in another shape."""
        opened = self.open
        if self.order.axes is None and 0 not in shape:
            before = self.shape if self.shape is not None and self.size else (prod(shape),)
            opened = opened.viewed(before, shape)
        return replace(self, order=self.order.viewed(shape), open=opened)

    def followed(self, layer: Any, *others: "Tensor") -> "Tensor":
        """A layer that takes this solid tensor, and others whose axes lie alike."""
        tensors = (self, *others)
        stored = layer.output_shape(*(known(tensor.order.stored) for tensor in tensors))
        step = Step(layer, tuple(tensor.sent for tensor in tensors), stored)
        return replace(self, step=step, order=self.order.resized(stored), zeros=(), shared=False)

    def _settled_affine(self, activation: Activation | None = None) -> "Tensor":
        """The open step, which has no weight, as an Affine layer: one scale a channel or value."""
        stored = known(self.order.stored)
        layer, shape = self.open.affine_layer(activation or Activation("identity"), stored)
        step = Step(layer, (self.step.sending(shape),), shape)
        return replace(self, step=step, open=_NOTHING_OPEN, shared=False)

    def _spread(self, constant: Array) -> tuple["Tensor", Array]:
        """A constant in the order in which the values are stored."""
        if constant.size == 1:
            return self, constant.reshape(())
        standing = constant.ndim == 2 and constant.shape[1] == 1
        tensor = self._decided("columns" if standing else "rows")
        shape = tensor.shape
        fits: Array | None = None
        if tensor.layout == "columns":
            if standing and tensor.size in (0, constant.size):
                fits = constant.reshape(-1)
        elif shape is None or shape == (0,):  # the next weight checks the length
            if constant.size == constant.shape[-1]:
                fits = constant.reshape(-1)
        else:
            one = constant.ndim == len(shape) + 1 and len(constant) == 1
            fits = tensor.order.spread(constant[0] if one and tensor.layout == "rows" else constant)
        if fits is None:
            raise UnreadableError(
                f"expected one value a unit, got a constant of shape {constant.shape} for values "
                f"of shape {shape or 'unknown'} an input"
            )
        return tensor, fits
