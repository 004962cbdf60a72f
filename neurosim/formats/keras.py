"""Networks saved by Keras: .keras archives of Keras 3, .h5 files of Keras 2 and 3.

Read with h5py from the configuration and the weights; Keras is not needed and no code of the file
is run. Keras keeps feature maps as (height, width, channels) unless `data_format` says otherwise:
what follows a Flatten is written for that order, and the network's inputs are given in it.
"""

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from neurosim.errors import FormatError, InputError
from neurosim.formats.archives import hdf5_array, zip_member
from neurosim.formats.tensor import Padding, Parts, Tensor, UnreadableError, same_padding
from neurosim.layers import Array, Shape

__all__ = ["read_keras"]

_ACTIVATIONS = {
    "linear": "identity",
    "relu": "relu",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "softplus": "softplus",
    "silu": "silu",
    "swish": "silu",
    "hard_silu": "hard_swish",
    "hard_swish": "hard_swish",
    "gelu": "gelu",
}
# They do nothing once a network is trained.
_INACTIVE = (
    "InputLayer",
    "Dropout",
    "SpatialDropout2D",
    "AlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "ActivityRegularization",
    "RandomFlip",
    "RandomRotation",
    "RandomZoom",
    "RandomTranslation",
    "RandomContrast",
    "RandomBrightness",
)
_MODELS = ("Sequential", "Functional", "Model")
# What Python raises where a configuration lacks a key or holds a value of another kind.
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError)

Config: TypeAlias = Mapping[str, Any]
# A layer's arrays from their shapes, in the order in which Keras makes them.
Weights: TypeAlias = Callable[[Sequence[tuple[int, ...]]], list[Array]]
# The arrays of a layer: its class, name and number among those of its class, and the models around.
Store: TypeAlias = Callable[[str, str, int, Sequence[tuple[str, str, int]]], Weights]


@dataclass(frozen=True)
class _Call:
    """A layer of a model, its number among those of its class, and the layers it takes."""

    kind: str
    name: str
    config: Config
    number: int
    sources: tuple[str, ...]


def read_keras(path: Path, input_shape: Shape | None = None) -> Parts:
    """Nodes, read-out and input shape of a .keras or .h5 file.

    input_shape: where the file leaves sizes open.

    Raises
    ------
    FormatError
        If the file is truncated or foreign, or has a layer that neurosim cannot represent; the
        message names the layer.
    """
    import h5py

    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                text = zip_member(path, archive, "config.json")
                data = io.BytesIO(zip_member(path, archive, "model.weights.h5"))
            with h5py.File(data, "r") as file:
                return _read(path, text, _stored_by_number(path, file), input_shape)
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
            if text is None or file.get("model_weights", getlink=True) is None:
                raise FormatError(
                    f"{path}: expected a whole Keras model (model_config and model_weights), got "
                    f"{', '.join(file) or 'an empty file'}; save the model, not its weights alone"
                )
            return _read(path, text, _stored_by_name(path, file), input_shape)
    except (OSError, RuntimeError, KeyError, ValueError, zipfile.BadZipFile) as error:
        kind = "a Keras archive" if path.suffix == ".keras" else "an HDF5 file"
        raise FormatError(
            f"{path}: expected {kind}, got {' '.join(str(error).split())}; is it truncated?"
        ) from error


def _read(path: Path, text: str | bytes, store: Store, input_shape: Shape | None) -> Parts:
    try:
        model = json.loads(text)
        kind, config = str(model["class_name"]), model["config"]
    except (ValueError, RecursionError, *_MALFORMED) as error:
        raise FormatError(
            f"{path}: expected a model's configuration as JSON, got {error}"
        ) from error
    if kind not in _MODELS:
        raise FormatError(
            f"{path}: expected a Sequential or Functional model, got {kind}; a subclassed model "
            "keeps its graph in code: export it to ONNX"
        )
    start = None if input_shape is None else Tensor.start(input_shape)
    tensor = _model(path, kind, config, start, store, ())
    try:
        return tensor.finished()
    except (UnreadableError, InputError) as error:
        raise FormatError(f"{path}: {error}") from error


def _model(
    path: Path,
    kind: str,
    config: Any,
    start: Tensor | None,
    store: Store,
    inside: tuple[tuple[str, str, int], ...],
) -> Tensor:
    """What a model makes of a tensor, or of its own input."""
    try:
        calls, output = _calls(kind, config)
    except _MALFORMED as error:
        raise FormatError(
            f"{path}: expected the configuration of a {kind} model, got {error!r}"
        ) from error
    except UnreadableError as error:
        raise FormatError(f"{path}: {error}") from error
    uses = Counter(source for call in calls for source in call.sources)
    values: dict[str, Tensor] = {}
    for call in calls:
        label = f"{path}: layer {call.name!r} ({call.kind})"
        try:
            unknown = [source for source in call.sources if source not in values]
            if unknown:
                raise UnreadableError(f"expected sources before it, got {unknown[0]!r}")
            sources = [values[source] for source in call.sources]
            if not sources:
                sources = [_input(call.config, start)]
            if call.kind in _MODELS:
                level = (*inside, (call.kind, call.name, call.number))
                made = _model(path, call.kind, call.config, sources[0], store, level)
            else:
                weights = store(call.kind, call.name, call.number, inside)
                made = _layer(call.kind, call.config, sources, weights)
        except (UnreadableError, InputError, *_MALFORMED) as error:
            raise FormatError(f"{label}: {_said(error)}") from error
        values[call.name] = made.settled() if uses[call.name] > 1 else made
    return values[output]


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    known = isinstance(error, UnreadableError | InputError)
    return text if known else f"expected a configuration as Keras writes it, got {error!r}"


def _calls(kind: str, config: Any) -> tuple[list[_Call], str]:
    """Layers in an order in which every source comes first, and the one that makes the output."""
    layers = config["layers"] if isinstance(config, dict) else config  # Keras 1 and 2.2: a list
    numbers: Counter[str] = Counter()
    calls: list[_Call] = []
    before: tuple[str, ...] = ()
    for item in layers:
        layer, settings = str(item["class_name"]), item["config"]
        name = str(settings["name"] if isinstance(settings, dict) else item["name"])
        sources = before
        if kind != "Sequential":
            nodes = item["inbound_nodes"]
            if len(nodes) > 1:
                raise UnreadableError(
                    f"layer {name!r} ({layer}): expected one use of each layer, got {len(nodes)}"
                )
            sources = tuple(_sources(nodes))
        calls.append(_Call(layer, name, settings, numbers[layer], sources))
        numbers[layer] += 1
        before = (name,)
    if not calls or len({call.name for call in calls}) < len(calls):
        raise UnreadableError("expected layers with names of their own")
    if kind == "Sequential":
        return calls, calls[-1].name
    ends = {}
    for key in ("input_layers", "output_layers"):
        names = config[key]
        names = [names] if names and isinstance(names[0], str) else names
        if len(names) != 1:
            raise UnreadableError(f"{key}: expected one, got {len(names)}")
        ends[key] = str(names[0][0])
    waiting, ordered, made = calls, [], set[str]()
    while waiting:
        ready = [call for call in waiting if made.issuperset(call.sources)]
        if not ready:
            raise UnreadableError(f"layer {waiting[0].name!r}: expected sources that are made")
        ordered += ready
        made.update(call.name for call in ready)
        waiting = [call for call in waiting if call.name not in made]
    return ordered, ends["output_layers"]


def _refuse_arguments(keywords: Mapping[str, Any]) -> None:
    """Of the call of a layer: it must work as it does when a network is run."""
    for key, argument in keywords.items():
        if key == "training" and argument:
            raise UnreadableError("expected a layer as it is after training, got training=True")
        if argument is not None and not isinstance(argument, bool):
            raise UnreadableError(f"expected no argument {key}, got {argument!r:.60}")


def _sources(nodes: Any) -> Iterator[str]:
    """Names of the layers whose outputs a layer takes."""
    if isinstance(nodes, dict):
        if nodes.get("class_name") == "__keras_tensor__":
            yield str(nodes["config"]["keras_history"][0])
            return
        yield from _sources(nodes["args"])
        _refuse_arguments(nodes["kwargs"])
        return
    if not isinstance(nodes, list):
        return
    if len(nodes) >= 3 and isinstance(nodes[0], str):  # Keras 2: [name, node, tensor, keywords]
        _refuse_arguments(nodes[3] if len(nodes) > 3 else {})
        yield nodes[0]
        return
    for node in nodes:
        if isinstance(node, int | float) and not isinstance(node, bool):
            raise UnreadableError(f"expected layers as inputs, got the number {node}")
        yield from _sources(node)


def _input(config: Config, start: Tensor | None) -> Tensor:
    """The input of a model: what is given, which must fit what the file states."""
    stated = config.get("batch_shape") or config.get("batch_input_shape")
    if stated is None:
        if start is None:
            raise UnreadableError("expected the shape of an input (batch_shape), got none")
        return start
    shape = tuple(0 if n is None else int(n) for n in stated[1:])
    given = start.shape if start is not None else None
    if start is None or given is None:
        return Tensor.start(shape)
    if len(given) != len(shape) or any(n not in (0, m) for n, m in zip(shape, given, strict=True)):
        raise UnreadableError(f"expected values of shape {shape} (0: any), got {given}")
    return start


# Layers


def _layer(kind: str, config: Config, sources: list[Tensor], weights: Weights) -> Tensor:
    """What a layer makes of its inputs."""
    x = sources[0]
    if kind in ("Add", "Concatenate"):
        if kind == "Add":
            return Tensor.added(sources)
        axis, rank = int(config["axis"]), len(x.shape or ()) + 1
        return Tensor.concatenated(sources, axis % rank - 1)
    if len(sources) != 1:
        raise UnreadableError(f"expected one input, got {len(sources)}")
    if kind in _INACTIVE:
        return x
    match kind:
        case "Dense":
            units = int(config["units"])
            n_in = x.shape[0] if x.shape is not None and len(x.shape) == 1 else 0
            if not n_in:
                raise UnreadableError(
                    f"expected one axis of units, got values of shape {x.shape} an input; is a "
                    "Flatten missing?"
                )
            shapes = [(n_in, units), (units,)]
            kernel, *bias = weights(shapes if config.get("use_bias", True) else shapes[:1])
            y = x.through(kernel.T)
            return _activated(y.plus(bias[0]) if bias else y, config["activation"])
        case "Conv2D" | "DepthwiseConv2D" | "SeparableConv2D":
            return _convolution(kind, config, x, weights)
        case "BatchNormalization":
            axis = config["axis"]
            axis = int(axis[0] if isinstance(axis, list) else axis)
            return _batch_normalised(config, x, axis, weights)
        case "Rescaling":
            return x.times(np.asarray(config["scale"], float)).plus(
                np.asarray(config["offset"], float)
            )
        case "MaxPooling2D" | "AveragePooling2D":
            return _pooled(kind, config, x)
        case "GlobalAveragePooling2D" | "GlobalMaxPooling2D":
            first = _channels_first(config, x)
            y = (
                first.averaged()
                if kind == "GlobalAveragePooling2D"
                else first.largest().flattened()
            )
            return y.reshaped(_keeping(config, y.size)) if config.get("keepdims") else y
        case "ZeroPadding2D":
            (top, bottom), (left, right) = config["padding"]
            first = _channels_first(config, x)
            return _as_written(config, first.padded(((top, bottom), (left, right))))
        case "Flatten":
            if config.get("data_format") == "channels_first" and len(x.shape or ()) == 3:
                x = x.transposed((0, 2, 3, 1))  # Keras flattens in this order
            return x.flattened()
        case "Reshape":
            return x.reshaped([-1, *config["target_shape"]])
        case "Permute":
            return x.transposed([0, *config["dims"]])
        case "Activation":
            return _activated(x, config["activation"])
        case "ReLU":
            return _relu(config, x)
        case "LeakyReLU":
            slope = config.get("negative_slope", config.get("alpha", 0.3))
            return x.activated("leaky_relu", float(slope))
        case "Softmax":
            return _softmax(x, int(config.get("axis", -1)))
        case _:
            raise UnreadableError(
                "expected one of Dense, Conv2D, DepthwiseConv2D, SeparableConv2D, "
                "BatchNormalization, Rescaling, MaxPooling2D, AveragePooling2D, "
                "GlobalAveragePooling2D, GlobalMaxPooling2D, ZeroPadding2D, Flatten, Reshape, "
                "Permute, Activation, ReLU, LeakyReLU, Softmax, Add, Concatenate, dropout and "
                "noise, Sequential or Functional"
            )


def _activated(x: Tensor, activation: Any) -> Tensor:
    """An activation given by its name, or as a layer of its own."""
    if isinstance(activation, dict):
        kind, config = activation["class_name"], activation["config"]
        if kind in ("ReLU", "LeakyReLU", "Softmax"):
            return _layer(kind, config, [x], lambda shapes: [])
        activation = config if isinstance(config, str) else kind
    if activation is None:
        return x
    if activation == "softmax":
        return _softmax(x, -1)
    if activation not in _ACTIVATIONS:
        raise UnreadableError(
            f"expected one of the activations {', '.join(_ACTIVATIONS)}, softmax, got {activation}"
        )
    kind = _ACTIVATIONS[activation]
    if kind == "identity":  # a linear layer; normalisation behind it can still be folded
        return x
    return x.activated(kind, 0.2 if kind == "leaky_relu" else 0.0)


def _relu(config: Config, x: Tensor) -> Tensor:
    top, slope = config.get("max_value"), float(config.get("negative_slope") or 0)
    if config.get("threshold"):
        raise UnreadableError(f"expected threshold 0, got {config['threshold']}")
    if top is None:
        return x.activated("leaky_relu", slope) if slope else x.activated("relu")
    if top != 6 or slope:
        raise UnreadableError(f"expected max_value 6 and negative_slope 0, got {top} and {slope}")
    return x.activated("relu6")


def _softmax(x: Tensor, axis: int) -> Tensor:
    if len(x.shape or ()) != 1 or axis not in (-1, 1):
        raise UnreadableError(f"expected a softmax over the units, got axis {axis} of {x.shape}")
    return x.read_out()


def _channels_first(config: Config, x: Tensor) -> Tensor:
    """A feature map as (channels, height, width)."""
    if len(x.shape or ()) != 3:
        raise UnreadableError(f"expected a feature map, got values of shape {x.shape} an input")
    return x if config.get("data_format") == "channels_first" else x.transposed((0, 3, 1, 2))


def _as_written(config: Config, x: Tensor) -> Tensor:
    """A feature map in the order of the file again."""
    return x if config.get("data_format") == "channels_first" else x.transposed((0, 2, 3, 1))


def _keeping(config: Config, channels: int) -> list[int]:
    first = config.get("data_format") == "channels_first"
    return [-1, channels, 1, 1] if first else [-1, 1, 1, channels]


def _window(
    config: Config, x: Tensor, size: Sequence[int], dilation: Sequence[int] = (1, 1)
) -> tuple[tuple[int, int], Padding]:
    """Stride and padding of a convolution or pool over a map (channels, height, width)."""
    stride = config["strides"] or size
    stride = (stride, stride) if isinstance(stride, int) else stride
    stride = (int(stride[0]), int(stride[1]))
    padding = config["padding"]
    if padding == "valid":
        return stride, ((0, 0), (0, 0))
    if padding != "same":
        raise UnreadableError(f'expected padding "valid" or "same", got {padding!r}')
    if np.any(x.zeros):
        raise UnreadableError('expected padding "valid" after ZeroPadding2D, got "same"')
    extents = [d * (n - 1) + 1 for n, d in zip(size, dilation, strict=True)]
    assert x.shape is not None
    return stride, same_padding(x.shape[1:], extents, stride)


def _pair(value: Any) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def _convolution(kind: str, config: Config, x: Tensor, weights: Weights) -> Tensor:
    first = _channels_first(config, x)
    assert first.shape is not None
    channels, size = first.shape[0], _pair(config["kernel_size"])
    dilation = _pair(config.get("dilation_rate", 1))
    stride, padding = _window(config, first, size, dilation)
    shapes: list[tuple[int, ...]] = []
    groups, multiplier = int(config.get("groups", 1)), int(config.get("depth_multiplier", 1))
    if kind == "Conv2D":
        if groups < 1 or channels % groups:
            raise UnreadableError(f"expected groups that divide {channels} channels, got {groups}")
        filters = int(config["filters"])
        shapes.append((*size, channels // groups, filters))
    else:
        groups = channels
        shapes.append((*size, channels, multiplier))
        filters = channels * multiplier
        if kind == "SeparableConv2D":
            filters = int(config["filters"])
            shapes.append((1, 1, channels * multiplier, filters))
    kernels = list(shapes)
    if config.get("use_bias", True):
        shapes.append((filters,))
    arrays = weights(shapes)
    kernel = arrays[0]
    if kind == "Conv2D":
        kernel = kernel.transpose(3, 2, 0, 1)
    else:
        kernel = kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, *size)
    y = first.convolved(kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    if kind == "SeparableConv2D":
        y = y.convolved(arrays[1].transpose(3, 2, 0, 1))
    if len(arrays) > len(kernels):
        y = y.plus(arrays[-1][:, None, None])
    return _activated(_as_written(config, y), config["activation"])


def _pooled(kind: str, config: Config, x: Tensor) -> Tensor:
    first = _channels_first(config, x)
    size = _pair(config["pool_size"])
    stride, padding = _window(config, first, size)
    if kind == "MaxPooling2D":
        return _as_written(config, first.max_pooled(size, stride=stride, padding=padding))
    return _as_written(config, first.average_pooled(size, stride=stride, padding=padding))


def _batch_normalised(config: Config, x: Tensor, axis: int, weights: Weights) -> Tensor:
    if x.shape is None or not -len(x.shape) <= axis <= len(x.shape) or axis == 0:
        raise UnreadableError(f"expected an axis of channels, got {axis} of {x.shape}")
    axis = axis % (len(x.shape) + 1) - 1
    n = (x.shape[axis],)
    has = {key: bool(config.get(key, True)) for key in ("scale", "center")}
    arrays = weights([n] * (2 + sum(has.values())))
    gamma = arrays.pop(0) if has["scale"] else np.ones(n)
    beta = arrays.pop(0) if has["center"] else np.zeros(n)
    mean, variance = arrays
    return x.normalised(mean, variance, gamma, beta, float(config["epsilon"]), axis)


# Where a layer's weights lie


def _snake_case(name: str) -> str:
    """The name of a class as Keras 3 writes it in a path."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _stored_by_number(path: Path, file: Any) -> Store:
    """Keras 3: layers/conv2d_1/vars/0, by class and number."""

    def folder(kind: str, number: int) -> str:
        return f"layers/{_snake_case(kind)}" + (f"_{number}" if number else "")

    def store(kind: str, name: str, number: int, inside: Sequence[tuple[str, str, int]]) -> Weights:
        places = [folder(model, k) for model, _, k in inside]
        place = "/".join([*places, folder(kind, number), "vars"])

        def weights(shapes: Sequence[tuple[int, ...]]) -> list[Array]:
            arrays = [hdf5_array(path, file, f"{place}/{k}", n) for k, n in enumerate(shapes)]
            written = file[place].attrs.get("name", name)
            if written != name:  # newer versions write it down
                raise FormatError(
                    f"{path}: {place}: expected the weights of layer {name!r}, got those of "
                    f"{written!r}"
                )
            if len(file[place]) > len(shapes):
                raise FormatError(
                    f"{path}: {place}: expected {len(shapes)} arrays, got {len(file[place])}"
                )
            return arrays

        return weights

    return store


def _stored_by_name(path: Path, file: Any) -> Store:
    """.h5: model_weights/NAME, whose attribute weight_names lists all arrays."""

    def store(kind: str, name: str, number: int, inside: Sequence[tuple[str, str, int]]) -> Weights:
        outer = inside[0][1] if inside else name

        def weights(shapes: Sequence[tuple[int, ...]]) -> list[Array]:
            where = f"model_weights/{outer}"
            link = file["model_weights"].get(outer, getlink=True)
            if type(link).__name__ != "HardLink":
                raise FormatError(f"{path}: {where}: expected the weights of layer {name!r}")
            names = file[where].attrs.get("weight_names", ())
            names = [n.decode() if isinstance(n, bytes) else str(n) for n in names]
            if inside:
                names = [n for n in names if n.split("/")[-2:-1] == [name]]
            if len(names) != len(shapes):
                raise FormatError(
                    f"{path}: {where}: expected {len(shapes)} arrays of layer {name!r}, got "
                    f"{len(names)}"
                )
            return [
                hdf5_array(path, file, f"{where}/{n}", shape)
                for n, shape in zip(names, shapes, strict=True)
            ]

        return weights

    return store
