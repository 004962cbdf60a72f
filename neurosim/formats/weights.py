"""What a file of weights alone leaves unsaid: the layers, as a description in TOML.

A state_dict holds arrays and their names; the description names the layers in order.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np

from neurosim.errors import FormatError, InputError, named_entry
from neurosim.formats.joins import added, concatenated
from neurosim.formats.pooling import average_pooled, averaged, max_pooled
from neurosim.formats.steps import Parts, UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers import Activation, Array
from neurosim.layers.windows import padding_of, pair

__all__ = ["read_weights"]

Pair: TypeAlias = int | tuple[int, int]
# One number, (height, width), or ((top, bottom), (left, right)).
Sides: TypeAlias = int | list[int | tuple[int, int]]


class _Entry(
    msgspec.Struct,
    tag_field="kind",
    tag=lambda name: name.removesuffix("Entry").lower(),
    forbid_unknown_fields=True,
    kw_only=True,
):
    """One [[layer]] table: its name, and the names of those it takes (the one before)."""

    name: str | None = None
    inputs: list[str] | None = None
    activation: str = "identity"


class DenseEntry(_Entry):
    """NAME.weight (n_out, n_in) and, if there is one, NAME.bias."""


class ConvEntry(_Entry, tag="conv2d"):
    """NAME.weight (channels_out, channels_in / groups, height, width) and perhaps NAME.bias."""

    stride: Pair = 1
    padding: Sides = 0
    dilation: Pair = 1
    groups: int = 1


class NormEntry(_Entry, tag="batch_norm"):
    """NAME.running_mean, NAME.running_var, and perhaps NAME.weight and NAME.bias."""

    epsilon: float = 1e-5


class MaxPoolEntry(_Entry, tag="max_pool"):
    """The largest value of each window."""

    size: Pair
    stride: Pair | None = None
    padding: Sides = 0
    ceil: bool = False


class AveragePoolEntry(_Entry, tag="average_pool"):
    """The mean of each window."""

    size: Pair
    stride: Pair | None = None
    padding: Sides = 0
    count_padding: bool = True
    ceil: bool = False


class GlobalEntry(_Entry, tag="global_average_pool"):
    """The mean of each channel."""


class FlattenEntry(_Entry):
    """All values on one axis."""


class ActivationEntry(_Entry):
    """An activation by itself."""


class SoftmaxEntry(_Entry):
    """The read-out; the last layer."""


class AddEntry(_Entry):
    """The sum of its inputs."""


class ConcatenateEntry(_Entry):
    """Its inputs one after the other; axis 0 has the channels."""

    axis: int = 0


Entry: TypeAlias = (
    DenseEntry
    | ConvEntry
    | NormEntry
    | MaxPoolEntry
    | AveragePoolEntry
    | GlobalEntry
    | FlattenEntry
    | ActivationEntry
    | SoftmaxEntry
    | AddEntry
    | ConcatenateEntry
)


class _Description(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    layer: list[Entry]
    input_shape: list[int]


def read_weights(
    path: Path,
    arrays: Mapping[str, Array],
    architecture: str | PathLike[str] | Mapping[str, Any] | None,
) -> Parts:
    """Nodes, read-out and input shape from named arrays and a description of the layers.

    architecture: the description as a mapping, or the TOML file it is in; by default the file
    beside the weights that ends in .toml.

    Raises
    ------
    FormatError
        If there is no description, it does not fit the arrays, or arrays are left over.
    """
    description, source = _description(path, architecture)
    left = {name for name in arrays if not name.endswith(".num_batches_tracked")}
    start = Tensor.start(tuple(description.input_shape))
    uses = Counter(name for entry in description.layer for name in entry.inputs or ())
    values: dict[str, Tensor] = {"input": start}
    before = start
    for number, entry in enumerate(description.layer, start=1):
        name = f"layer {number}" + (f" {entry.name!r}" if entry.name else "")
        try:
            if entry.inputs is None:
                sources = [before]
            else:
                missing = [source for source in entry.inputs if source not in values]
                if missing or not entry.inputs:
                    raise UnreadableError(
                        f"inputs: expected names of layers before it, got {missing or 'none'}"
                    )
                sources = [values[source] for source in entry.inputs]
            made = _layer(entry, sources, arrays, left)
        except (UnreadableError, InputError) as error:
            raise FormatError(f"{path}: {name} of {source}: {error}") from error
        if entry.name is not None:
            if entry.name in values:
                raise FormatError(f"{source}: {name}: expected a name of its own")
            follower = description.layer[number : number + 1]
            followed = bool(follower) and follower[0].inputs is None
            if uses[entry.name] + followed > 1:
                made = made.settled()
            values[entry.name] = made
        before = made
    if left:
        raise FormatError(
            f"{path}: expected arrays that {source} names, got {', '.join(sorted(left)[:5])}"
            + (f" and {len(left) - 5} more" if len(left) > 5 else "")
        )
    try:
        return before.finished()
    except (UnreadableError, InputError) as error:
        raise FormatError(f"{path}: {error}") from error


def _description(
    path: Path, architecture: str | PathLike[str] | Mapping[str, Any] | None
) -> tuple[_Description, str]:
    source = "architecture"
    if not isinstance(architecture, Mapping):
        if not isinstance(architecture, str | PathLike | None):
            raise InputError(
                "architecture: expected a description of the layers as a mapping, or the path of a "
                f"TOML file, got {type(architecture).__name__}"
            )
        beside = path.with_suffix(".toml") if architecture is None else Path(architecture)
        source = str(beside)
        if not beside.is_file():
            raise FormatError(
                f"{path}: expected a description of the layers in {beside}, for the file holds "
                "weights alone; or give Network.load a torch module with these weights"
            )
        try:
            architecture = tomllib.loads(beside.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise FormatError(f"{beside}: expected TOML, got {error}") from error
    try:
        description = msgspec.convert(architecture, _Description)
    except msgspec.ValidationError as error:
        raise FormatError(f"{source}: {named_entry(str(error))}") from error
    if not description.layer or not description.input_shape or min(description.input_shape) < 1:
        raise FormatError(f"{source}: expected layers, and an input_shape of sizes from 1 on")
    return description, source


def _layer(
    entry: Entry, sources: list[Tensor], arrays: Mapping[str, Array], left: set[str]
) -> Tensor:
    def array(key: str, *, needed: bool = True) -> Array | None:
        name = f"{entry.name}.{key}" if entry.name else key
        if name not in arrays:
            if needed:
                raise UnreadableError(f"expected an array {name!r}, got none of this name")
            return None
        left.discard(name)
        return np.asarray(arrays[name], np.float64)

    x = sources[0]
    if len(sources) > 1 and not isinstance(entry, AddEntry | ConcatenateEntry):
        raise UnreadableError(f"expected one input, got {len(sources)}")
    match entry:
        case DenseEntry():
            weight, bias = _shaped("weight", array("weight"), 2), array("bias", needed=False)
            y = x.through(weight)
            y = y if bias is None else y.plus(_one_each("bias", bias, len(weight)))
        case ConvEntry():
            kernel, bias = _shaped("weight", array("weight"), 4), array("bias", needed=False)
            y = x.convolved(
                kernel,
                stride=pair("stride", entry.stride),
                padding=padding_of(entry.padding),
                dilation=pair("dilation", entry.dilation),
                groups=entry.groups,
            )
            if bias is not None:
                y = y.plus(_one_each("bias", bias, len(kernel)).reshape(-1, 1, 1))
        case NormEntry():
            mean, variance = _shaped("mean", array("running_mean"), 1), array("running_var")
            gamma, beta = array("weight", needed=False), array("bias", needed=False)
            y = x.normalised(
                mean,
                _shaped("running_var", variance, 1),
                np.ones_like(mean) if gamma is None else gamma,
                np.zeros_like(mean) if beta is None else beta,
                entry.epsilon,
                0,
            )
        case MaxPoolEntry():
            y = max_pooled(
                x,
                pair("size", entry.size),
                stride=pair("stride", entry.size if entry.stride is None else entry.stride),
                padding=padding_of(entry.padding),
                ceil=entry.ceil,
            )
        case AveragePoolEntry():
            y = average_pooled(
                x,
                pair("size", entry.size),
                stride=pair("stride", entry.size if entry.stride is None else entry.stride),
                padding=padding_of(entry.padding),
                count_padding=entry.count_padding,
                ceil=entry.ceil,
            )
        case GlobalEntry():
            y = averaged(x)
        case FlattenEntry():
            y = x.flattened()
        case ActivationEntry():
            y = x
        case SoftmaxEntry():
            return x.read_out()
        case AddEntry():
            y = added(sources)
        case ConcatenateEntry():
            y = concatenated(sources, entry.axis)
    activation = Activation.parse(entry.activation)
    if activation.kind == "identity":  # normalisation behind it can still be folded
        return y
    if activation.kind == "sigmoid":
        return y.times(activation.parameter).activated("sigmoid")
    return y.activated(activation.kind, activation.parameter)


def _one_each(key: str, array: Array, n: int) -> Array:
    if array.shape != (n,):
        raise UnreadableError(f"{key}: expected one value for each of {n} units, got {array.shape}")
    return array


def _shaped(key: str, array: Array | None, axes: int) -> Array:
    if array is None or array.ndim != axes or 0 in array.shape:
        got = None if array is None else array.shape
        raise UnreadableError(f"{key}: expected an array with {axes} axes, got shape {got}")
    return array
