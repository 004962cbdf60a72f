"""What each layer and operation of Keras makes of a tensor.

Keras keeps feature maps as (height, width, channels) unless `data_format` says otherwise.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from neurosim.formats.keras_weights import Weights
from neurosim.formats.tensor import Padding, Tensor, UnreadableError, same_padding
from neurosim.layers import Array

__all__ = ["Config", "constant_of", "made_by"]

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
    "Identity",
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

# Operations on tensors: of Keras 3 (keras.ops, x + y), and functions of TensorFlow in tf.keras.
_OPERATIONS = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Silu": "silu",
    "HardSilu": "hard_silu",
}
_FUNCTIONS = {
    "__operators__.add": "Add",
    "math.add": "Add",
    "math.subtract": "Subtract",
    "math.multiply": "Multiply",
    "math.truediv": "Divide",
    "math.divide": "Divide",
    "math.negative": "Negative",
    "concat": "Concatenate",
    "nn.relu": "Relu",
    "nn.relu6": "Relu6",
    "math.sigmoid": "Sigmoid",
    "math.tanh": "Tanh",
    "math.softplus": "Softplus",
    "nn.silu": "Silu",
    "nn.softmax": "Softmax",
}
_ARITHMETIC = ("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Average")
_EPSILON = 1e-7  # keras.config.epsilon(), unless it was set

Config: TypeAlias = Mapping[str, Any]
# What an operation takes: a tensor of the graph, or a constant.
Operand: TypeAlias = Tensor | Array


def constant_of(value: Any) -> Array:
    """Numbers as a configuration has them: one, a list, or an array of NumPy."""
    if isinstance(value, dict):
        if value.get("class_name") not in ("__numpy__", "__tensor__"):
            raise UnreadableError(f"expected numbers, got {value!r:.60}")
        value = value["config"]["value"]
    numbers = np.asarray(value, np.float64)
    if not np.isfinite(numbers).all():
        raise UnreadableError(f"expected finite numbers, got {value!r:.60}")
    return numbers


def made_by(kind: str, config: Config, operands: Sequence[Operand], weights: Weights) -> Tensor:
    """What a layer or an operation makes of its inputs."""
    if kind == "TFOpLambda":
        if config["function"] not in _FUNCTIONS:
            raise UnreadableError(
                f"expected one of tf.{', tf.'.join(_FUNCTIONS)}, got tf.{config['function']}"
            )
        return made_by(_FUNCTIONS[config["function"]], config, operands, weights)
    if kind in _ARITHMETIC:
        return _computed(kind, operands)
    if any(not isinstance(operand, Tensor) for operand in operands):
        raise UnreadableError(
            "expected layers as inputs, got a constant; only sums, differences, products and "
            "quotients take one"
        )
    return _layer(kind, config, [x for x in operands if isinstance(x, Tensor)], weights)


def _computed(kind: str, operands: Sequence[Operand]) -> Tensor:
    """A sum, difference, product, quotient or mean, where it is linear in what is computed."""
    tensors = [x for x in operands if isinstance(x, Tensor)]
    constants = [x for x in operands if not isinstance(x, Tensor)]
    if kind == "Average":
        return Tensor.added(tensors).times(np.asarray(1 / len(tensors)))
    if kind == "Add" and not constants:
        return Tensor.added(tensors)
    if len(operands) != 2 or not tensors:
        raise UnreadableError(f"expected two operands, a layer among them, got {len(operands)}")
    first, second = operands
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if kind == "Subtract":
            return Tensor.added([first, second.times(np.asarray(-1.0))])
        word = "product" if kind == "Multiply" else "quotient"
        raise UnreadableError(
            f"expected a constant as one operand, got the {word} of two computed values, which no "
            "layer computes"
        )
    (x,), (constant,) = tensors, constants
    match kind:
        case "Add":
            return x.plus(constant)
        case "Subtract":
            turned = isinstance(second, Tensor)
            return x.times(np.asarray(-1.0)).plus(constant) if turned else x.plus(-constant)
        case "Multiply":
            return x.times(constant)
    if isinstance(second, Tensor):
        raise UnreadableError("expected a constant divisor, got a computed one")
    if not constant.all():
        raise UnreadableError("expected a divisor without zeros, got one with zeros")
    return x.times(1 / constant)


def _layer(kind: str, config: Config, sources: list[Tensor], weights: Weights) -> Tensor:
    """What a layer makes of its inputs."""
    x = sources[0]
    if kind == "Concatenate":
        return Tensor.concatenated(sources, x.axis(int(config.get("axis", -1))) - 1)
    if kind in ("Maximum", "Minimum", "Dot"):
        raise UnreadableError(
            "expected a sum, a difference, a mean or a concatenation of computed values; no layer "
            f"computes their {kind.lower()}"
        )
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
            return x.times(constant_of(config["scale"])).plus(constant_of(config["offset"]))
        case "Normalization":
            return _standardised(config, x, weights)
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
            rank = len(x.shape or ()) + 1
            if config.get("data_format") == "channels_first" and rank > 2:
                x = x.transposed((0, *range(2, rank), 1))  # Keras flattens in this order
            return x.flattened()
        case "Reshape":
            if "newshape" in config:  # keras.ops.reshape: the inputs' axis is written too
                return x.reshaped(config["newshape"])
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
        case "PReLU":
            return _leaky(config, x, weights)
        case "Softmax":
            return _softmax(x, config.get("axis", -1))
        case "Negative":
            return x.times(np.asarray(-1.0))
        case "Gelu":
            if config.get("approximate", True):
                raise UnreadableError("expected gelu with approximate=False, got the one of tanh")
            return _activated(x, "gelu")
        case _ if kind in _OPERATIONS:
            return _activated(x, _OPERATIONS[kind])
        case _:
            raise UnreadableError(
                "expected one of Dense, Conv2D, DepthwiseConv2D, SeparableConv2D, "
                "BatchNormalization, Normalization, Rescaling, MaxPooling2D, AveragePooling2D, "
                "GlobalAveragePooling2D, GlobalMaxPooling2D, ZeroPadding2D, Flatten, Reshape, "
                "Permute, Activation, ReLU, LeakyReLU, PReLU, Softmax, Add, Subtract, Average, "
                "Concatenate, Identity, dropout and noise, Sequential or Functional; no layer of "
                "neurosim does what this one does"
            )


def _activated(x: Tensor, activation: Any) -> Tensor:
    """An activation given by its name, or as a layer of its own."""
    if isinstance(activation, dict):
        kind, config = activation["class_name"], activation["config"]
        if kind in ("ReLU", "LeakyReLU", "Softmax"):
            return _layer(kind, config, [x], lambda shapes, unread=0: [])
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


def _leaky(config: Config, x: Tensor, weights: Weights) -> Tensor:
    """A PReLU, whose slopes must be one."""
    shared = config.get("shared_axes") or []
    shape = tuple(1 if axis in shared else n for axis, n in enumerate(x.shape or (), start=1))
    (slopes,) = weights([shape])
    if not (slopes == slopes.flat[0]).all():
        raise UnreadableError(
            f"expected one slope for all units, got slopes from {slopes.min():g} to "
            f"{slopes.max():g}"
        )
    return x.activated("leaky_relu", float(slopes.flat[0]))


def _softmax(x: Tensor, axis: Any) -> Tensor:
    if isinstance(axis, list) and len(axis) == 1:
        axis = axis[0]
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
    extents = [d * (n - 1) + 1 for n, d in zip(size, dilation, strict=True)]
    return stride, same_padding(x.map_size, extents, stride)


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


def _standardised(config: Config, x: Tensor, weights: Weights) -> Tensor:
    """A Normalization, adapted to data or given its means and variances."""
    if x.shape is None or 0 in x.shape:
        raise UnreadableError("expected an input whose shape the file states; give input_shape")
    axes, rank = config.get("axis", -1), len(x.shape) + 1
    axes = [] if axes is None else axes if isinstance(axes, list) else [axes]
    kept = sorted(int(axis) % rank for axis in axes)
    if 0 in kept:
        raise UnreadableError(f"expected axes without that of the inputs, got {axes}")
    stored = tuple(x.shape[axis - 1] for axis in kept)
    if config.get("mean") is not None:
        mean, variance = (constant_of(config[key]) for key in ("mean", "variance"))
    else:
        mean, variance = weights([stored, stored], unread=1)  # the third counts the data
    if not (variance >= 0).all():
        raise UnreadableError("expected variances from 0 on")
    shape = tuple(n if axis in kept else 1 for axis, n in enumerate(x.shape, start=1))
    mean, variance = (
        part.reshape(shape) if part.shape == stored else np.broadcast_to(part, shape)
        for part in (mean, variance)
    )
    spread = np.maximum(np.sqrt(variance), _EPSILON)
    if config.get("invert"):
        return x.times(spread).plus(mean)
    return x.times(1 / spread).plus(-mean / spread)


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
