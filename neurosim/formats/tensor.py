"""Layers from the tensors of a foreign graph.

A reader walks through the nodes of a file and calls a method of `Tensor` for each; what the last
tensor remembers is the network: finished layers (neurosim.formats.steps), then one affine step
that is still open (neurosim.formats.folding). Axes are followed: a weight behind a transposition is
written for the values as they lie, and a step that would mix inputs with one another is an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np

from neurosim.formats.folding import OpenStep
from neurosim.formats.steps import Parts, Step, UnreadableError, nodes_of
from neurosim.layers import (
    Activation,
    Add,
    Array,
    AveragePool2D,
    Concatenate,
    Dense,
    GlobalAveragePool,
    Layer,
    MaxPool2D,
    Shape,
    Slice,
    Transpose,
)

__all__ = [
    "BATCH",
    "SELU_ALPHA",
    "SELU_SCALE",
    "Layout",
    "Padding",
    "Parts",
    "Tensor",
    "UnreadableError",
    "same_padding",
]

# Inputs are rows (n_inputs, ...) or columns (n_in, n_inputs); there may be a single one, a vector.
# A tensor is open while rows and columns are both possible: (n_in, 1), say.
Layout: TypeAlias = Literal["rows", "columns", "vector", "open"]

# A slice that ends beyond goes to the end, as exporters write it.
_MOST_INPUTS = 2**30

# Above and below, left and right.
Padding: TypeAlias = tuple[tuple[int, int], tuple[int, int]]

# Stands for the number of inputs in a computed shape; no true size is negative.
BATCH = -(2**30)

# Of selu: the fixed point of mean 0 and variance 1.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

_NO_PADDING: Padding = ((0, 0), (0, 0))
_NOTHING_OPEN = OpenStep()
_NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "softplus")


def same_padding(
    sizes: Sequence[int],
    extents: Sequence[int],
    strides: Sequence[int],
    *,
    more_in_front: bool = False,
) -> Padding:
    """Zeros around a map that make its size ceil(size / stride): "same" in Keras and ONNX.

    extents: of the window, dilation counted. The odd one of an odd number comes last, or first.
    """
    pairs = []
    for size, extent, stride in zip(sizes, extents, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + extent - size)
        few, many = total // 2, total - total // 2
        pairs.append((many, few) if more_in_front else (few, many))
    return pairs[0], pairs[1]


def _together(inner: Padding, outer: Padding) -> Padding:
    """Zeros around zeros around a map."""
    (top, bottom), (left, right) = inner
    (above, below), (before, after) = outer
    return (top + above, bottom + below), (left + before, right + after)


@dataclass(frozen=True, eq=False)
class Tensor:
    """What a graph has computed from the input: finished layers, then one affine step.

    Parameters
    ----------
    shape
        Of one input's value as the graph has it, with 0 where a size is unknown, None if all is.
    step
        The last finished layer.
    stored, axes
        The values lie in the order of an array of shape `stored`; those of the graph are that array
        with its axes in the order `axes`, reshaped to `shape`. axes None: as they are.
    layout
        Where the axis of the inputs is; `shape` is without it.
    batch
        The number of inputs where the graph fixes it, otherwise 0.
    open
        The affine step behind it, of values of shape `stored`.
    zeros
        Before and behind each axis of `shape`, for the next window to take in; empty: none.
    shared
        Whether several nodes take this tensor.
    """

    shape: Shape | None
    step: Step
    stored: Shape | None
    layout: Layout = "rows"
    batch: int = 0
    axes: tuple[int, ...] | None = None
    open: OpenStep = _NOTHING_OPEN
    zeros: tuple[tuple[int, int], ...] = ()
    softmax: bool = False
    shared: bool = False

    @staticmethod
    def start(shape: Shape | None, *, layout: Layout = "rows", batch: int = 0) -> "Tensor":
        """The input of a graph."""
        step = Step(None, (), shape)
        return Tensor(shape=shape, step=step, stored=shape, layout=layout, batch=batch)

    @property
    def size(self) -> int:
        """Values an input has here; 0 if unknown."""
        return prod(self.shape) if self.shape is not None else 0

    @property
    def around(self) -> Padding:
        """Zeros above and below, left and right of a map."""
        return (self.zeros[1], self.zeros[2]) if self.zeros else _NO_PADDING

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of a map, with the zeros around it."""
        rows, columns = self.around
        _, height, width = self._known_shape()
        return height + sum(rows), width + sum(columns)

    def axis(self, number: int) -> int:
        """An axis counted from the front, that of the inputs being 0."""
        rank = len(self.shape or ()) + 1
        if not -rank <= number < rank:
            raise UnreadableError(f"expected an axis of {rank}, got {number}")
        return int(number) % rank

    # Affine steps, weights, activations

    def times(self, constant: Array) -> "Tensor":
        """The product with a constant of a shape that broadcasts."""
        if constant.size == 1 and constant.item() > 0:
            gain = self.open.gain * constant.item()
            return replace(self._going_on(), open=replace(self.open, gain=gain))
        return self._plain()._affine(constant, np.zeros(()))

    def plus(self, constant: Array) -> "Tensor":
        """The sum with a constant of a shape that broadcasts."""
        return self._plain()._affine(np.ones(()), constant)

    def normalised(
        self, mean: Array, variance: Array, gamma: Array, beta: Array, epsilon: float, axis: int
    ) -> "Tensor":
        """A trained batch normalisation; `axis`: of the channels, without that of the inputs."""
        known = self._known_shape()
        shape = [1] * len(known)
        for name, values in (
            ("variance", variance), ("mean", mean), ("scale", gamma), ("shift", beta),
        ):  # fmt: skip
            if np.shape(values) != (known[axis],):
                raise UnreadableError(
                    f"expected one {name} for each of {known[axis]} channels, got shape "
                    f"{np.shape(values)}"
                )
        spread = np.asarray(variance, np.float64) + epsilon
        if not (spread > 0).all():
            raise UnreadableError("expected a variance above 0")
        shape[axis] = spread.size
        factor = np.asarray(gamma, np.float64) / np.sqrt(spread)
        term = np.asarray(beta, np.float64) - np.asarray(mean, np.float64) * factor
        rows = self._in_rows()._plain()
        return rows._affine(factor.reshape(shape), term.reshape(shape))

    def _affine(self, factor: Array, term: Array) -> "Tensor":
        tensor, factor = self._spread(factor)
        tensor, term = tensor._spread(term)
        opened = tensor.open.then(factor, term, tensor.stored)
        if opened is None:
            tensor = tensor.closed(Activation("identity"))
            opened = tensor.open.then(factor, term, tensor.stored)
        assert opened is not None
        return replace(tensor, open=opened)

    def through(self, weight: Array, *, first: bool = False) -> "Tensor":
        """A matrix product W @ y, W (n_out, n_in); `first`: written in front of the tensor.

        Of values with several axes, of the last one: a convolution with kernels of size 1.
        """
        tensor = self._plain()._laid("columns" if first else "rows")
        if len(tensor.shape or ()) > 1 and tensor._known_shape()[-1] == weight.shape[1]:
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
        if tensor.axes is not None:
            assert tensor.stored is not None
            order = np.arange(weight.shape[1]).reshape(tensor.stored).transpose(tensor.axes)
            as_stored = np.empty_like(weight)
            as_stored[:, order.ravel()] = weight
            weight = as_stored
        shape = (len(weight),)
        opened = tensor.open.through(weight, tensor.stored)
        return replace(tensor, shape=shape, stored=shape, axes=None, open=opened)

    def _at_each_place(self, weight: Array) -> "Tensor":
        """A matrix product over the last axis, one for all places on the others."""
        *places, n_in = self._known_shape()
        rank = len(places) + 2
        channels = self.transposed([0, rank - 1, *range(1, rank - 1)])
        lines = channels._viewed((n_in, prod(places[:-1]), places[-1]))
        made = lines.convolved(weight[:, :, None, None])._viewed((len(weight), *places))
        return made.transposed([0, *range(2, rank), 1])

    def convolved(
        self,
        kernel: Array,
        *,
        stride: tuple[int, int] = (1, 1),
        padding: Padding = _NO_PADDING,
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
    ) -> "Tensor":
        """A convolution with a kernel (channels_out, channels_in / groups, height, width)."""
        tensor = self._map()
        if tensor.open.weight is not None:
            zeros = tensor.zeros
            tensor = replace(tensor, zeros=()).closed(Activation("identity"))
            tensor = replace(tensor, zeros=zeros, step=tensor.step.sending(tensor.stored))
        padding = _together(tensor.around, padding)
        channels = tensor._known_shape()[0]
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
        tensor = replace(tensor, zeros=())
        opened = tensor.open.convolved(kernel, window, tensor._known_shape())
        if opened is None:
            tensor = tensor._settled_affine()
            tensor = replace(tensor, step=tensor.step.sending(tensor.stored))
            opened = tensor.open.convolved(kernel, window, tensor._known_shape())
        assert opened is not None
        layer = opened.weighted_layer(Activation("identity"))
        shape = layer.output_shape(tensor._known_shape())
        return replace(tensor, shape=shape, stored=shape, open=opened)

    def activated(self, kind: str, parameter: float = 0.0) -> "Tensor":
        """An activation; a factor in front of a sigmoid becomes its gain."""
        if kind == "sigmoid":
            tensor = replace(self._going_on(), open=replace(self.open, gain=1.0))
            return tensor.closed(Activation(kind, self.open.gain))
        return self.closed(Activation(kind, parameter))

    def clamped(self, low: float | None, high: float | None) -> "Tensor":
        """The nearest value between two bounds: relu, relu6 or hard tanh, rescaled."""
        if high is not None and high >= np.finfo(np.float32).max:
            high = None
        if low is not None and high is not None and low < 0 < high:
            scaled = self.times(np.array(1 / high)).activated("hard_tanh", -low / high)
            return scaled.times(np.array(high))
        if low != 0 or (high is not None and high <= 0):
            raise UnreadableError(
                "expected a clamp between two numbers, from 0 or less to more, or from 0 on, as a "
                f"dead neuron sends 0, got {low} to {high}"
            )
        if high is None:
            return self.activated("relu")
        if high == 6:
            return self.activated("relu6")
        return self.times(np.array(6 / high)).activated("relu6").times(np.array(high / 6))

    def elu(self, alpha: float, *, scale: float = 1.0, spread: float = 1.0) -> "Tensor":
        """Scale z above 0, scale alpha (exp(spread z) - 1) below: elu, selu or celu.

        The neuron sends an elu of a scaled value; the factor that is left is folded in behind.
        """
        if not (alpha > 0 and scale > 0 and spread > 0):
            raise UnreadableError(
                f"expected an elu with an alpha and factors above 0, got {alpha}, {scale}, {spread}"
            )
        inner = self if spread == 1 else self.times(np.array(spread))
        outer = inner.activated("elu", alpha * spread)
        factor = scale / spread
        return outer if factor == 1 else outer.times(np.array(factor))

    def selu(self, alpha: float = SELU_ALPHA, scale: float = SELU_SCALE) -> "Tensor":
        """An elu of a given alpha and scale, those that keep mean 0 and variance 1 by default."""
        return self.elu(alpha, scale=scale)

    def celu(self, alpha: float) -> "Tensor":
        """max(z, 0) + alpha (exp(min(z, 0) / alpha) - 1)."""
        if not alpha > 0:
            raise UnreadableError(f"expected a celu with an alpha above 0, got {alpha}")
        return self.elu(alpha, spread=1 / alpha)

    def hard_sigmoid(self, slope: float, shift: float) -> "Tensor":
        """Slope * z + shift between 0 and 1."""
        if slope <= 0:
            raise UnreadableError(f"expected a hard sigmoid with a slope above 0, got {slope}")
        return self.times(np.array(slope)).plus(np.array(shift)).clamped(0, 1)

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
            assert source.shape is not None
            shape = layer.output_shape(source.shape)
        return replace(tensor, step=Step(layer, (source,), shape), open=_NOTHING_OPEN, shared=False)

    def settled(self) -> "Tensor":
        """For several nodes to take: its weight is a layer of its own."""
        open_weight = self.open.weight is not None and not self.softmax
        tensor = self.closed(Activation("identity")) if open_weight else self
        return replace(tensor, shared=True)

    def read_out(self) -> "Tensor":
        """A softmax over the units, as the last step."""
        return replace(self._plain().closed(Activation("identity")), softmax=True)

    # Windows, sums, joins

    def padded(self, zeros: Padding) -> "Tensor":
        """Zeros around a map, which the next convolution or pool takes in."""
        tensor = self._map()
        zeros = _together(tensor.around, zeros)
        return replace(tensor, zeros=((0, 0), *zeros)) if np.any(zeros) else tensor

    def upright(self) -> "Tensor":
        """A line (channels, length) as a map of one row."""
        tensor = replace(self, zeros=())._in_rows()
        shape = tensor._known_shape()
        if len(shape) != 2:
            raise UnreadableError(
                f"expected a line (channels, length), got values of shape {shape} an input"
            )
        zeros = (self.zeros[0], (0, 0), self.zeros[1]) if self.zeros else ()
        return replace(tensor._viewed((shape[0], 1, shape[1])), zeros=zeros)

    def lying(self) -> "Tensor":
        """A map of one row as a line (channels, length)."""
        tensor = replace(self, zeros=())
        channels, _, length = tensor._known_shape()
        return replace(tensor._viewed((channels, length)), zeros=self.zeros[::2])

    def max_pooled(
        self,
        size: tuple[int, int],
        *,
        stride: tuple[int, int],
        padding: Padding = _NO_PADDING,
        dilation: tuple[int, int] = (1, 1),
        ceil: bool = False,
    ) -> "Tensor":
        """The largest value of each window; `ceil`: windows that reach over the end count too."""
        tensor = self._map()._solid()
        if np.any(tensor.zeros):
            # Among values that are never negative, a zero is as good as nothing.
            last = tensor.step.layer
            if last is None or last.activation.kind not in _NOT_NEGATIVE or np.any(padding):
                raise UnreadableError(
                    "expected zeros around a map in front of a convolution or, after an "
                    "activation that is never negative, a pool"
                )
        if ceil:
            padding = tensor._reaching(size, stride, padding, dilation)
        padding, tensor = _together(tensor.around, padding), replace(tensor, zeros=())
        pool = MaxPool2D(size=size, stride=stride, padding=padding, dilation=dilation)
        return tensor._after(pool)

    def average_pooled(
        self,
        size: tuple[int, int],
        *,
        stride: tuple[int, int],
        padding: Padding = _NO_PADDING,
        count_padding: bool = False,
        ceil: bool = False,
    ) -> "Tensor":
        """The mean of each window; `count_padding`: zeros around the map count as values."""
        tensor = self._map()._solid()
        around = tensor.around
        if np.any(around):
            if np.any(padding) and not count_padding:
                raise UnreadableError("expected zeros around a map in front of a convolution")
            count_padding = True
        wider = tensor._reaching(size, stride, padding, (1, 1)) if ceil else padding
        if wider != padding:
            if count_padding and np.any((around, padding)):
                raise UnreadableError(
                    "expected ceil_mode without padding that counts, for its last windows are "
                    "divided by less"
                )
            padding, count_padding = wider, False
        padding, tensor = _together(around, padding), replace(tensor, zeros=())
        pool = AveragePool2D(size=size, stride=stride, padding=padding, count_padding=count_padding)
        return tensor._after(pool)

    def averaged(self) -> "Tensor":
        """The mean of each channel, (channels,)."""
        return self._map()._solid(without_zeros=True)._after(GlobalAveragePool())

    def largest(self) -> "Tensor":
        """The largest value of each channel, (channels, 1, 1)."""
        tensor = self._map()._solid(without_zeros=True)
        _, height, width = tensor._known_shape()
        return tensor._after(MaxPool2D(size=(height, width)))

    def reduced(self, axes: Sequence[int], kind: str, *, keep: bool = False) -> "Tensor":
        """The "mean", "sum" or "max" of each input over some axes; `keep`: as axes of length 1.

        Axis 0 is that of the inputs and may not be among them.
        """
        tensor = self._in_rows()
        shape = tensor._known_shape()
        rank = len(shape) + 1
        over = sorted({tensor.axis(axis) for axis in axes})
        if 0 in over or not over:
            raise UnreadableError(
                f"expected a {kind} over axes of one input, from 1 to {rank - 1}, got {over}: "
                "inputs are not mixed with one another"
            )
        kept = [k for k in range(1, rank) if k not in over]
        n = prod(shape[k - 1] for k in over)
        turned = tensor.transposed([0, *kept, *over])
        if (len(kept), len(over)) != (1, 2):
            turned = turned._viewed((prod(shape[k - 1] for k in kept), 1, n))
        made = turned.largest() if kind == "max" else turned.averaged()
        if kind == "sum":
            made = made.times(np.array(float(n)))
        left = [shape[k - 1] for k in kept] or [1]
        if keep:
            left = [1 if k in over else shape[k - 1] for k in range(1, rank)]
        return made._viewed(tuple(left))

    def sliced(
        self, axis: int, start: int | None = None, stop: int | None = None, by: int = 1
    ) -> "Tensor":
        """A part of every input; axis 0 is that of the inputs, all of which go on."""
        tensor = self._in_rows()
        if axis == 0:
            if by == 1 and start in (None, 0) and (stop is None or stop > _MOST_INPUTS):
                return tensor
            raise UnreadableError("expected a slice of each input, got one of the inputs")
        shape = tensor._known_shape()
        if by < 1:
            raise UnreadableError(f"expected a slice in steps from 1 on, got {by}")
        first, end, _ = slice(start, stop, by).indices(shape[axis - 1])
        if first >= end:
            raise UnreadableError(
                f"expected a slice with values in it, got {first} to {end} of {shape[axis - 1]}"
            )
        if (first, end, by) == (0, shape[axis - 1], 1):
            return tensor
        (solid,) = Tensor._alike([tensor])
        axes, stored = solid.axes, solid._known(solid.stored)
        layer = Slice(
            axis=axis - 1 if axes is None else axes[axis - 1], start=first, stop=end, step=by
        )
        left = layer.output_shape(stored)
        part = solid._joined(layer, (solid.step.sending(stored),), left)
        return replace(part, shape=left if axes is None else tuple(left[k] for k in axes))

    def split(self, axis: int, sizes: Sequence[int]) -> tuple["Tensor", ...]:
        """Parts of every input, one after the other; axis 0 is that of the inputs."""
        (tensor,) = Tensor._alike([self])
        if axis == 0 or sum(sizes) != tensor._known_shape()[axis - 1]:
            raise UnreadableError(
                f"expected parts of each input that make up axis {axis} of values of shape "
                f"{tensor.shape}, got sizes {list(sizes)}"
            )
        tensor = replace(tensor, shared=True)
        ends = np.cumsum(sizes).tolist()
        return tuple(
            tensor.sliced(axis, end - size, end) for size, end in zip(sizes, ends, strict=True)
        )

    @staticmethod
    def added(tensors: Sequence["Tensor"]) -> "Tensor":
        """The sum of tensors of one shape."""
        solid = Tensor._alike(tensors)
        shapes = {tensor._known_shape() for tensor in solid}
        if len(shapes) != 1:
            text = (
                f"expected computed inputs of one shape, got {', '.join(map(str, sorted(shapes)))}"
            )
            try:
                np.broadcast_shapes(*shapes)
            except ValueError:
                raise UnreadableError(text) from None
            raise UnreadableError(
                f"{text}; no layer repeats a value: let the layer that makes the smaller one have "
                "as many outputs as the sum, by repeating the rows of its weight and bias"
            )
        sources = tuple(tensor.step.sending(tensor.stored) for tensor in solid)
        return solid[0]._joined(Add(), sources, solid[0].stored)

    @staticmethod
    def concatenated(tensors: Sequence["Tensor"], axis: int) -> "Tensor":
        """Tensors one after the other on an axis, without that of the inputs."""
        solid = Tensor._alike(tensors)
        shapes = [tensor._known_shape() for tensor in solid]
        rank = len(shapes[0])
        if not 0 <= axis < rank or any(len(shape) != rank for shape in shapes):
            raise UnreadableError(
                f"expected tensors alike but for axis {axis} (without that of the inputs), got "
                f"{', '.join(map(str, shapes))}"
            )
        axes = solid[0].axes
        join = Concatenate(axis=axis if axes is None else axes[axis])
        sources = tuple(tensor.step.sending(tensor.stored) for tensor in solid)
        stored = join.output_shape(*(tensor.stored or () for tensor in solid))
        shape = stored if axes is None else tuple(stored[k] for k in axes)
        return replace(solid[0]._joined(join, sources, stored), shape=shape)

    # Axes

    def flattened(self) -> "Tensor":
        """All values of an input on one axis, in C order."""
        tensor = self._in_rows()
        return tensor._viewed((tensor.size,))

    def reshaped(self, target: Sequence[int]) -> "Tensor":
        """The same values an input, in the same order, in another shape.

        Sizes of 0 are kept, -1 takes what is left; the first one is that of the inputs.
        """
        tensor, written = self._in_rows(), [int(n) for n in target]
        sizes = written[1:]
        for axis, n in enumerate(sizes):
            if n == 0 and tensor.shape is not None and axis < len(tensor.shape):
                sizes[axis] = tensor.shape[axis]
        if tensor.size and sizes.count(-1) == 1:
            sizes[sizes.index(-1)] = tensor.size // max(1, -prod(sizes))
        elif sizes == [-1]:
            sizes = [0]
        first = {0, -1, BATCH} | ({tensor.batch} if tensor.batch else set())
        # With every other size fixed to the values of one input, -1 is the number of inputs.
        if (
            not written
            or written[0] not in first
            or min(sizes, default=0) < 0
            or (tensor.size or prod(sizes)) != prod(sizes)
        ):
            shown = ["n_inputs" if n == BATCH else n for n in written]
            raise UnreadableError(
                f"expected a shape that keeps the {tensor.size or 'unknown number of'} values of "
                f"an input together, got {shown}"
            )
        return tensor._viewed(tuple(sizes))

    def squeezed(self, axes: Sequence[int] | None) -> "Tensor":
        """Without axes of length 1; where a graph is of a single input, that of the inputs too."""
        tensor = self._in_rows()
        shape = tensor._known_shape()
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
        return tensor._viewed(tuple(n for i, n in enumerate(shape, 1) if i not in gone))

    def unsqueezed(self, axes: Sequence[int]) -> "Tensor":
        """With axes of length 1 put in, behind that of the inputs."""
        tensor = self._in_rows()
        shape = tensor._known_shape()
        rank = len(shape) + len(axes) + 1
        new = sorted(int(axis) % rank for axis in axes)
        if not all(-rank <= axis < rank for axis in axes) or 0 in new or len(set(new)) < len(new):
            raise UnreadableError(f"expected new axes behind that of the inputs, got {list(axes)}")
        sizes = iter(shape)
        return tensor._viewed(tuple(1 if k in new else next(sizes) for k in range(1, rank)))

    def transposed(self, axes: Sequence[int] | None) -> "Tensor":
        """Axes in another order; that of the inputs, 0, stays the first."""
        rank = len(self._known_shape()) + (self.layout != "vector")
        axes = [int(axis) for axis in axes] if axes is not None else list(range(rank))[::-1]
        if axes == list(range(rank)):
            return self
        tensor = self._rows()  # zeros go with their axes: the next window may put these back
        shape = tensor._known_shape()
        if axes[0] != 0 or sorted(axes) != list(range(rank)):
            raise UnreadableError(
                f"expected an order of axes that keeps that of the inputs first, got {axes}"
            )
        new = tuple(axis - 1 for axis in axes[1:])
        if tensor.zeros:
            tensor = replace(tensor, zeros=tuple(tensor.zeros[axis - 1] for axis in axes[1:]))
        before = tensor.axes
        if before is not None:
            if shape != tuple(tensor._known(tensor.stored)[k] for k in before):  # reshaped since
                tensor = tensor._arranged()
            else:
                new = tuple(before[k] for k in new)
        stored = tensor._known(tensor.stored)
        moved = tuple(stored[k] for k in new)
        long = [k for k in new if stored[k] != 1]
        if long == sorted(long):  # the values keep their order
            return replace(tensor, axes=None, shape=stored)._viewed(moved)
        return replace(tensor, axes=new, shape=moved)

    # The end

    def finished(self) -> Parts:
        """Nodes, read-out and shape of an input.

        Raises
        ------
        UnreadableError
            If there is no weighted layer.
        """
        tensor = replace(self, softmax=False)._going_on()._solid()._arranged()
        if tensor.size:  # outputs are (n_inputs, n_outputs)
            tensor = replace(tensor, step=tensor.step.sending((tensor.size,)))
        nodes, start = nodes_of(tensor.step)
        readout = "softmax" if self.softmax else None
        shape = start.shape or ()
        first = nodes[0].layer
        if isinstance(first, Dense) and (self.layout == "columns" or prod(shape) != first.n_in):
            shape = (first.n_in,)  # in columns, an input is one column of the tensor
        return nodes, readout, shape or (first.weight.shape[1],)  # type: ignore[union-attr]

    # What the steps above have in common

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

    def _laid(self, layout: Layout) -> "Tensor":
        if self.layout == "open":
            return replace(self, layout=layout)
        if self.layout not in (layout, "vector"):
            written = {"rows": "the weight as the second factor", "columns": "the weight first"}
            raise UnreadableError(f"expected {written[self.layout]}, as inputs are {self.layout}")
        return self

    def _rows(self) -> "Tensor":
        tensor = replace(self, layout="rows") if self.layout == "open" else self
        if tensor.layout != "rows":
            raise UnreadableError("expected a first axis of inputs, (n_inputs, ...)")
        return tensor

    def _in_rows(self) -> "Tensor":
        return self._rows()._going_on()

    def _known_shape(self) -> Shape:
        return self._known(self.shape)

    def _known(self, shape: Shape | None) -> Shape:
        if shape is None or 0 in shape:
            raise UnreadableError(
                "expected an input whose shape the file states; if it does not, give input_shape"
            )
        return shape

    def _map(self) -> "Tensor":
        """The same as a feature map (channels, height, width) whose axes lie in this order."""
        zeros, tensor = self.zeros, replace(self, zeros=())._in_rows()._plain()
        shape = tensor._known_shape()
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
        tensor = tensor._arranged()
        if tensor.open.weight is None and tensor.step.shape != shape:
            source = tensor.step.sending(shape)
            tensor = replace(tensor, step=source)
        return replace(tensor, zeros=zeros)

    def _solid(self, *, without_zeros: bool = False) -> "Tensor":
        """The same with nothing open."""
        if without_zeros:
            self._going_on()
        tensor = replace(self, zeros=())._plain().closed(Activation("identity"))
        return replace(tensor, zeros=self.zeros)

    def _arranged(self) -> "Tensor":
        """The same with its values in the order of the graph, by a Transpose if need be.

        A scale and shift that are still open move behind it, for the next weight to take them in.
        """
        if self.axes is None:
            return self
        tensor = self._solid() if self.open.weight is not None else self
        stored, axes, shape = tensor._known(tensor.stored), self.axes, tensor._known_shape()
        layer = Transpose(axes=axes)
        step = Step(layer, (tensor.step.sending(stored),), layer.output_shape(stored))
        opened = tensor.open.transposed(stored, axes, shape)
        return replace(tensor, step=step, stored=shape, axes=None, open=opened, shared=False)

    def _after(self, layer: Any) -> "Tensor":
        """A layer without weights that takes this map, which is solid."""
        shape = layer.output_shape(self._known_shape())
        step = Step(layer, (self.step.sending(self._known_shape()),), shape)
        return replace(self, step=step, shape=shape, stored=shape, shared=False)

    def _joined(self, layer: Layer, sources: tuple[Step, ...], stored: Shape | None) -> "Tensor":
        step = Step(layer, sources, stored)
        return replace(self, step=step, stored=stored, shared=False)

    @staticmethod
    def _alike(tensors: Sequence["Tensor"]) -> list["Tensor"]:
        """Solid tensors whose values lie in the same order of axes."""
        solid = [tensor._in_rows()._solid() for tensor in tensors]
        plain = [
            t.axes is None or t.shape == tuple(t._known(t.stored)[k] for k in t.axes) for t in solid
        ]
        if len({tensor.axes for tensor in solid}) > 1 or not all(plain):
            solid = [tensor._arranged() for tensor in solid]
        return solid

    def _reaching(
        self,
        size: tuple[int, int],
        stride: tuple[int, int],
        padding: Padding,
        dilation: tuple[int, int],
    ) -> Padding:
        """Padding that gives every window which begins on the map its place."""
        pairs = []
        for k in (0, 1):
            before, after = padding[k]
            n, extent = self.map_size[k], dilation[k] * (size[k] - 1) + 1
            places = -(-(n + before + after - extent) // stride[k]) + 1
            if (places - 1) * stride[k] >= n + before:
                places -= 1
            pairs.append((before, max(after, (places - 1) * stride[k] + extent - n - before)))
        return pairs[0], pairs[1]

    def _viewed(self, shape: Shape) -> "Tensor":
        """The same values in another shape."""
        if self.axes is not None:
            return replace(self, shape=shape)
        if self.shape is None or 0 in self.shape:
            return replace(self, shape=shape, stored=shape)
        return replace(self, shape=shape, stored=shape, open=self.open.viewed(self.shape, shape))

    def _settled_affine(self, activation: Activation | None = None) -> "Tensor":
        """The open step, which has no weight, as an Affine layer: one scale a channel or value."""
        stored = self._known(self.stored)
        layer, shape = self.open.affine_layer(activation or Activation("identity"), stored)
        step = Step(layer, (self.step.sending(shape),), shape)
        return replace(self, step=step, open=_NOTHING_OPEN, shared=False)

    def _spread(self, constant: Array) -> tuple["Tensor", Array]:
        """A constant in the order in which the values are stored."""
        if constant.size == 1:
            return self, constant.reshape(())
        wrong = UnreadableError(
            f"expected one value a unit, got a constant of shape {constant.shape} for values of "
            f"shape {self.shape or 'unknown'} an input"
        )
        standing = constant.ndim == 2 and constant.shape[1] == 1
        tensor = self
        if tensor.layout == "open":
            tensor = replace(tensor, layout="columns" if standing else "rows")
        if tensor.layout == "columns":
            if not standing or tensor.size not in (0, constant.size):
                raise wrong
            return tensor, constant.reshape(-1)
        if tensor.shape is None or tensor.shape == (0,):  # the next weight checks the length
            if constant.size != constant.shape[-1]:
                raise wrong
            return tensor, constant.reshape(-1)
        if 0 in tensor.shape:
            raise wrong
        rank = len(tensor.shape)
        if constant.ndim == rank + 1 and len(constant) == 1 and tensor.layout == "rows":
            constant = constant[0]
        if constant.ndim > rank:
            raise wrong
        constant = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
        try:
            full = np.broadcast_to(constant, tensor.shape)
        except ValueError:
            raise wrong from None
        if tensor.axes is None:
            return tensor, constant
        stored = tensor._known(tensor.stored)
        moved = full.reshape([stored[k] for k in tensor.axes])
        return tensor, moved.transpose(np.argsort(tensor.axes))
