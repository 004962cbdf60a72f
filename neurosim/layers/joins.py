"""Layers without weights that reshape, scale or join what others send; no sites of faults."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from neurosim.errors import InputError
from neurosim.layers.activation import Activation
from neurosim.layers.arrays import Array, Shape, frozen

__all__ = ["Add", "Affine", "Concatenate", "Flatten", "Reshape", "Slice", "Transpose"]


def _identity() -> Activation:
    return Activation("identity")


@dataclass(frozen=True, kw_only=True, eq=False)
class Flatten:
    """All values of an example on one axis, in C order.

    Examples
    --------
    >>> Flatten()(np.ones((2, 3, 4))).shape
    (2, 12)
    """

    @property
    def activation(self) -> Activation:
        """None: the identity."""
        return _identity()

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of what an input of a shape becomes."""
        return (prod(shape),)

    def preactivation(self, y: Array) -> Array:
        """(n, *shape) as (n, n_values)."""
        return y.reshape(len(y), -1)

    def __call__(self, y: Array) -> Array:
        """(n, *shape) as (n, n_values)."""
        return self.preactivation(y)

    def push_forward(self, dy: Array, y: Array) -> Array:
        """The change in the new shape; any first axes before those of y."""
        return dy.reshape(*dy.shape[: dy.ndim - y.ndim + 1], -1)

    def pull_back(self, cotangent: Array, y: Array) -> Array:
        """The derivative in the shape before."""
        return cotangent.reshape(*cotangent.shape[:-1], *y.shape[1:])


@dataclass(frozen=True, kw_only=True, eq=False)
class Reshape:
    """The same values of an example, in C order, in another shape.

    Parameters
    ----------
    shape : tuple of int
        Without the axis of the inputs; sizes from 1 on.

    Examples
    --------
    >>> Reshape(shape=(1, 2, 2))(np.ones((5, 4))).shape
    (5, 1, 2, 2)
    """

    shape: Shape

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if not shape or min(shape) < 1:
            raise InputError(f"shape: expected sizes from 1 on, got {self.shape}")
        object.__setattr__(self, "shape", shape)

    @property
    def activation(self) -> Activation:
        """None: the identity."""
        return _identity()

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of what an input of a shape becomes.

        Raises
        ------
        InputError
            If the number of values differs.
        """
        if prod(shape) != prod(self.shape):
            raise InputError(
                f"shape: expected {prod(shape)} values, those of {shape}, got {self.shape}"
            )
        return self.shape

    def preactivation(self, y: Array) -> Array:
        """(n, *before) as (n, *shape)."""
        return y.reshape(len(y), *self.shape)

    def __call__(self, y: Array) -> Array:
        """(n, *before) as (n, *shape)."""
        return self.preactivation(y)

    def push_forward(self, dy: Array, y: Array) -> Array:
        """The change in the new shape; any first axes before those of y."""
        return dy.reshape(*dy.shape[: dy.ndim - y.ndim + 1], *self.shape)

    def pull_back(self, cotangent: Array, y: Array) -> Array:
        """The derivative in the shape before."""
        return cotangent.reshape(*cotangent.shape[: -len(self.shape)], *y.shape[1:])


@dataclass(frozen=True, kw_only=True, eq=False)
class Transpose:
    """The axes of an example in another order, for instance (2, 0, 1) from NHWC to NCHW.

    Parameters
    ----------
    axes : tuple of int
        A permutation of 0, 1, ...: axis k of the result is axis axes[k] before; the axis of the
        inputs does not count.

    Examples
    --------
    >>> Transpose(axes=(2, 0, 1))(np.ones((1, 4, 5, 3))).shape
    (1, 3, 4, 5)
    """

    axes: tuple[int, ...]

    def __post_init__(self) -> None:
        axes = tuple(int(n) for n in self.axes)
        if sorted(axes) != list(range(len(axes))):
            raise InputError(f"axes: expected a permutation of 0, 1, ..., got {self.axes}")
        object.__setattr__(self, "axes", axes)

    @property
    def activation(self) -> Activation:
        """None: the identity."""
        return _identity()

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of what an input of a shape becomes.

        Raises
        ------
        InputError
            If it has another number of axes.
        """
        if len(shape) != len(self.axes):
            raise InputError(f"axes: expected one for each axis of {shape}, got {self.axes}")
        return tuple(shape[axis] for axis in self.axes)

    def _moved(self, array: Array, axes: tuple[int, ...]) -> Array:
        lead = array.ndim - len(axes)
        order = (*range(lead), *(lead + axis for axis in axes))
        return np.ascontiguousarray(array.transpose(order))

    def preactivation(self, y: Array) -> Array:
        """The values with their axes in the new order."""
        return self._moved(y, self.axes)

    def __call__(self, y: Array) -> Array:
        """The values with their axes in the new order."""
        return self.preactivation(y)

    def push_forward(self, dy: Array, y: Array | None = None) -> Array:
        """The change with its axes in the new order."""
        return self._moved(dy, self.axes)

    def pull_back(self, cotangent: Array, y: Array | None = None) -> Array:
        """The derivative with its axes in the order before."""
        return self._moved(cotangent, tuple(int(n) for n in np.argsort(self.axes)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """Every step-th value of an axis, from start up to stop: some of the channels, say.

    What it leaves out stays what it is: a neuron whose value goes on to several slices is one site.

    Parameters
    ----------
    axis : int
        Of an example: 0 for the channels of feature maps.
    start, stop : int
        0 <= start < stop.
    step : int

    Raises
    ------
    InputError
        If nothing would be left.

    Examples
    --------
    >>> Slice(start=1, stop=3)(np.array([[5.0, 6.0, 7.0]]))
    array([[6., 7.]])
    """

    start: int
    stop: int
    step: int = 1
    axis: int = 0

    def __post_init__(self) -> None:
        for name in ("axis", "start", "stop", "step"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise InputError(f"{name}: expected a whole number, got {value!r}")
            object.__setattr__(self, name, int(value))
        if self.axis < 0 or self.step < 1 or not 0 <= self.start < self.stop:
            raise InputError(
                "start, stop, step, axis: expected 0 <= start < stop, a step from 1 on and an axis "
                f"from 0 on, got {self.start}, {self.stop}, {self.step}, {self.axis}"
            )

    @property
    def activation(self) -> Activation:
        """None: the identity."""
        return _identity()

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of what an input of a shape becomes.

        Raises
        ------
        InputError
            If it has no such values.
        """
        if self.axis >= len(shape) or self.stop > shape[self.axis]:
            raise InputError(
                f"stop: expected values up to {self.stop} on axis {self.axis}, got shape {shape}"
            )
        left = len(range(self.start, self.stop, self.step))
        return (*shape[: self.axis], left, *shape[self.axis + 1 :])

    def _part(self, lead: int) -> tuple[slice, ...]:
        """The index of the part; `lead`: axes before those of an example."""
        whole = (slice(None),) * (lead + self.axis)
        return (*whole, slice(self.start, self.stop, self.step))

    def preactivation(self, y: Array) -> Array:
        """The part of each example."""
        return np.ascontiguousarray(y[self._part(1)])

    def __call__(self, y: Array) -> Array:
        """The part of each example."""
        return self.preactivation(y)

    def push_forward(self, dy: Array, y: Array) -> Array:
        """The part of the change; any first axes before those of y."""
        return np.ascontiguousarray(dy[self._part(dy.ndim - y.ndim + 1)])

    def pull_back(self, cotangent: Array, y: Array) -> Array:
        """The derivative in its place, zeros elsewhere."""
        lead = cotangent.ndim - y.ndim + 1
        whole = np.zeros((*cotangent.shape[:lead], *y.shape[1:]), cotangent.dtype)
        whole[self._part(lead)] = cotangent
        return whole


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """phi(scale y + shift), a scale and a shift for each channel (the first axis of an example).

    What batch normalisation is where it cannot be folded into a layer before it, and what an
    activation is that stands alone.

    Parameters
    ----------
    scale, shift : array_like, shape (channels,) or ()
    activation : Activation or str

    Raises
    ------
    InputError
        If a shape is wrong or a value is not finite.

    Examples
    --------
    >>> Affine(scale=[2.0], shift=[1.0])(np.ones((1, 1, 2, 2)))[0, 0, 0]
    array([3., 3.])
    """

    scale: Array = 1.0  # type: ignore[assignment]
    shift: Array = 0.0  # type: ignore[assignment]
    activation: Activation = field(default_factory=_identity)

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", Activation.of(self.activation))
        try:
            scale, shift = np.broadcast_arrays(
                np.asarray(self.scale, np.float64), np.asarray(self.shift, np.float64)
            )
        except (TypeError, ValueError) as error:
            raise InputError(
                f"scale, shift: expected numbers, one of each a channel, got {error}"
            ) from error
        for name, array in (("scale", scale), ("shift", shift)):
            if array.ndim > 1 or array.size == 0 or not np.isfinite(array).all():
                raise InputError(
                    f"{name}: expected finite numbers of shape (channels,) or one, got shape "
                    f"{array.shape}"
                )
            object.__setattr__(self, name, frozen(array, np.float64))

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of what an input of a shape becomes.

        Raises
        ------
        InputError
            If it has another number of channels.
        """
        if self.scale.ndim and (not shape or shape[0] != len(self.scale)):
            raise InputError(
                f"scale: expected one for each of the {shape[0]} channels before, "
                f"got {len(self.scale)}"
            )
        return shape

    def _spread(self, constant: Array, y: Array, axes: int) -> Array:
        constant = constant.astype(y.dtype)
        return constant.reshape(*constant.shape, *(1,) * (axes - 1)) if constant.ndim else constant

    def preactivation(self, y: Array) -> Array:
        """Scale y + shift for y of shape (n, *shape)."""
        axes = y.ndim - 1
        return self._spread(self.scale, y, axes) * y + self._spread(self.shift, y, axes)

    def __call__(self, y: Array) -> Array:
        """phi(scale y + shift)."""
        return self.activation(self.preactivation(y))

    def push_forward(self, dy: Array, y: Array) -> Array:
        """Change before the activation; any first axes before those of y."""
        return self._spread(self.scale, dy, y.ndim - 1) * dy

    def pull_back(self, cotangent: Array, y: Array) -> Array:
        """Derivative by y, from that before the activation."""
        return self._spread(self.scale, cotangent, y.ndim - 1) * cotangent


@dataclass(frozen=True, kw_only=True, eq=False)
class Add:
    """The sum of what several layers send, all of one shape (a residual connection).

    Parameters
    ----------
    activation : Activation or str

    Examples
    --------
    >>> Add()(np.ones((1, 2)), np.ones((1, 2)))
    array([[2., 2.]])
    """

    activation: Activation = field(default_factory=_identity)

    def __post_init__(self) -> None:
        object.__setattr__(self, "activation", Activation.of(self.activation))

    def output_shape(self, *shapes: Shape) -> Shape:
        """Shape of the sum.

        Raises
        ------
        InputError
            If the shapes differ.
        """
        if len(set(shapes)) != 1:
            raise InputError(
                f"Add: expected sources of one shape, got {', '.join(map(str, shapes))}"
            )
        return shapes[0]

    def preactivation(self, *y: Array) -> Array:
        """The sum."""
        return np.asarray(sum(y[1:], y[0]))

    def __call__(self, *y: Array) -> Array:
        """Phi of the sum."""
        return self.activation(self.preactivation(*y))

    def push_forward(self, dy: Sequence[Array], y: Sequence[Array]) -> Array:
        """Change before the activation, from the changes of the sources."""
        return self.preactivation(*dy)

    def pull_back(self, cotangent: Array, y: Sequence[Array]) -> tuple[Array, ...]:
        """Derivatives by the sources, from that before the activation."""
        return (cotangent,) * len(y)


@dataclass(frozen=True, kw_only=True, eq=False)
class Concatenate:
    """What several layers send, one after the other.

    Parameters
    ----------
    axis : int
        Of an example: 0 for the channels of feature maps.

    Examples
    --------
    >>> Concatenate()(np.ones((1, 2)), np.zeros((1, 1)))
    array([[1., 1., 0.]])
    """

    axis: int = 0

    @property
    def activation(self) -> Activation:
        """None: the identity."""
        return _identity()

    def output_shape(self, *shapes: Shape) -> Shape:
        """Shape of all together.

        Raises
        ------
        InputError
            If the shapes differ on another axis, or there is no such axis.
        """
        rests = {shape[: self.axis] + shape[self.axis + 1 :] for shape in shapes}
        ranks = {len(shape) for shape in shapes}
        if len(rests) != 1 or len(ranks) != 1 or not 0 <= self.axis < min(ranks):
            raise InputError(
                f"Concatenate: expected sources alike but for axis {self.axis}, got "
                f"{', '.join(map(str, shapes))}"
            )
        whole = list(shapes[0])
        whole[self.axis] = sum(shape[self.axis] for shape in shapes)
        return tuple(whole)

    def preactivation(self, *y: Array) -> Array:
        """All together."""
        return np.concatenate(y, axis=self.axis + 1)

    def __call__(self, *y: Array) -> Array:
        """All together."""
        return self.preactivation(*y)

    def push_forward(self, dy: Sequence[Array], y: Sequence[Array]) -> Array:
        """Change of all together; any first axes before those of y."""
        return np.concatenate(dy, axis=self.axis + 1 - y[0].ndim)

    def pull_back(self, cotangent: Array, y: Sequence[Array]) -> tuple[Array, ...]:
        """Derivatives by the sources: parts of that by all together."""
        axis = self.axis + 1 - y[0].ndim
        ends = np.cumsum([part.shape[axis] for part in y])
        return tuple(np.split(cotangent, ends[:-1], axis=axis))
