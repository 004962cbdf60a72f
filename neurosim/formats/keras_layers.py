"""What each layer and operation of Keras makes of a tensor.

Keras keeps feature maps as (height, width, channels) unless `data_format` says otherwise.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from neurosim.formats.activations import celu, clamped, elu, selu
from neurosim.formats.joins import added, concatenated
from neurosim.formats.keras_weights import Weights
from neurosim.formats.padding import same_padding
from neurosim.formats.pooling import average_pooled, max_pooled, reduced
from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers import Array
from neurosim.layers.windows import NO_PADDING, Padding, Pair

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
    "mish": "mish",
}
# Of each value too, with factors around them.
_SCALED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "elu": lambda x: elu(x, 1.0),
    "selu": selu,
    "celu": lambda x: celu(x, 1.0),
    "hard_tanh": lambda x: clamped(x, -1, 1),
}
# They do nothing once a network is trained.
_INACTIVE = (
    "InputLayer",
    "Identity",
    "Dropout",
    "SpatialDropout1D",
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
    "HardTanh": "hard_tanh",
    "Selu": "selu",
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
    "nn.selu": "Selu",
    "nn.softmax": "Softmax",
}
_CONVOLUTIONS = (
    "Conv1D", "DepthwiseConv1D", "SeparableConv1D", "Conv2D", "DepthwiseConv2D", "SeparableConv2D",
)  # fmt: skip
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
        return added(tensors).times(1 / len(tensors))
    if kind == "Add" and not constants:
        return added(tensors)
    if len(operands) != 2 or not tensors:
        raise UnreadableError(f"expected two operands, a layer among them, got {len(operands)}")
    first, second = operands
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if kind == "Subtract":
            return added([first, second.times(-1.0)])
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
            return x.times(-1.0).plus(constant) if turned else x.plus(-constant)
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
        return concatenated(sources, x.axis(int(config.get("axis", -1))) - 1)
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
            units, n_in = int(config["units"]), (x.shape or (0,))[-1]
            if not n_in:
                raise UnreadableError(
                    f"expected an axis of units, got values of shape {x.shape} an input"
                )
            shapes = [(n_in, units), (units,)]
            kernel, *bias = weights(shapes if config.get("use_bias", True) else shapes[:1])
            y = x.through(kernel.T)
            return _activated(y.plus(bias[0]) if bias else y, config["activation"])
        case "TimeDistributed" if config["layer"]["class_name"] == "Dense":
            return _layer("Dense", config["layer"]["config"], [x], weights)
        case _ if kind in _CONVOLUTIONS:
            return _convolution(kind, config, x, weights)
        case "BatchNormalization":
            axis = config["axis"]
            axis = int(axis[0] if isinstance(axis, list) else axis)
            return _batch_normalised(config, x, axis, weights)
        case "Rescaling":
            return x.times(constant_of(config["scale"])).plus(constant_of(config["offset"]))
        case "Normalization":
            return _standardised(config, x, weights)
        case "MaxPooling1D" | "AveragePooling1D" | "MaxPooling2D" | "AveragePooling2D":
            return _pooled(kind, config, x)
        case _ if kind.startswith("Global") and kind[6:-2] in ("AveragePooling", "MaxPooling"):
            first = _channels_first(config, x, _axes(kind))
            y = reduced(first, [2, 3], "mean" if "Average" in kind else "max")
            return (
                y.reshaped(_keeping(config, y.size, _axes(kind))) if config.get("keepdims") else y
            )
        case "ZeroPadding1D" | "ZeroPadding2D":
            sides = config["padding"]
            (top, bottom), (left, right) = ((0, 0), sides) if kind == "ZeroPadding1D" else sides
            first = _channels_first(config, x, _axes(kind))
            return _as_written(config, first.padded(((top, bottom), (left, right))), _axes(kind))
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
            return x.times(-1.0)
        case "Gelu":
            return x.activated("gelu_tanh" if config.get("approximate", True) else "gelu")
        case "ELU" | "Elu":
            return elu(x, float(config.get("alpha", 1.0)))
        case "Celu":
            return celu(x, float(config.get("alpha", 1.0)))
        case _ if kind in _OPERATIONS:
            return _activated(x, _OPERATIONS[kind])
        case _:
            raise UnreadableError(
                "expected one of Dense, TimeDistributed(Dense), Conv, DepthwiseConv, "
                "SeparableConv, MaxPooling, AveragePooling, GlobalAveragePooling, "
                "GlobalMaxPooling and ZeroPadding of 1D or 2D, "
                "BatchNormalization, Normalization, Rescaling, Flatten, Reshape, "
                "Permute, Activation, ReLU, LeakyReLU, PReLU, ELU, Softmax, Add, Subtract, "
                "Average, Concatenate, Identity, dropout and noise, Sequential or Functional; no "
                "layer of neurosim does what this one does"
            )


def _activated(x: Tensor, activation: Any) -> Tensor:
    """An activation given by its name, or as a layer of its own."""
    if isinstance(activation, dict):
        kind, config = activation["class_name"], activation["config"]
        if kind in ("ReLU", "LeakyReLU", "ELU", "Softmax"):
            return _layer(kind, config, [x], lambda shapes, unread=0: [])
        activation = config if isinstance(config, str) else kind
    if activation is None:
        return x
    if activation == "softmax":
        return _softmax(x, -1)
    if activation in _SCALED:
        return _SCALED[activation](x)
    if activation == "hard_sigmoid":
        raise UnreadableError(
            "expected an activation that is one function in Keras 2 and 3, got hard_sigmoid; "
            "export the model to ONNX, which says its slope"
        )
    if activation not in _ACTIVATIONS:
        known = ", ".join((*_ACTIVATIONS, *_SCALED))
        raise UnreadableError(f"expected one of the activations {known}, softmax, got {activation}")
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
    if slope:
        raise UnreadableError(f"expected negative_slope 0 below max_value {top}, got {slope}")
    return clamped(x, 0, float(top))


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


def _axes(kind: str) -> int:
    """Over how many axes the windows of a layer go: Conv1D, Conv2D."""
    return int(kind[-2])


def _channels_first(config: Config, x: Tensor, axes: int) -> Tensor:
    """A feature map as (channels, height, width), a line as one of one row."""
    if len(x.shape or ()) != axes + 1:
        wanted = "a line" if axes == 1 else "a feature map"
        raise UnreadableError(f"expected {wanted}, got values of shape {x.shape} an input")
    if config.get("data_format") != "channels_first":
        x = x.transposed((0, axes + 1, *range(1, axes + 1)))
    return x.upright() if axes == 1 else x


def _as_written(config: Config, x: Tensor, axes: int) -> Tensor:
    """A feature map or line in the order of the file again."""
    x = x.lying() if axes == 1 else x
    if config.get("data_format") == "channels_first":
        return x
    return x.transposed((0, *range(2, axes + 2), 1))


def _keeping(config: Config, channels: int, axes: int) -> list[int]:
    ones = [1] * axes
    first = config.get("data_format") == "channels_first"
    return [-1, channels, *ones] if first else [-1, *ones, channels]


def _window(
    config: Config, x: Tensor, axes: int, size: Pair, dilation: Pair = (1, 1)
) -> tuple[Pair, Padding]:
    """Stride and padding of a convolution or pool over a map (channels, height, width)."""
    stride = _pair(config["strides"], axes) if config["strides"] else size
    padding = config["padding"]
    if padding == "valid":
        return stride, NO_PADDING
    if padding == "causal" and axes == 1:
        return stride, ((0, 0), (dilation[1] * (size[1] - 1), 0))
    if padding != "same":
        raise UnreadableError(f'expected padding "valid" or "same", got {padding!r}')
    return stride, same_padding(x.map_size, size, stride, dilation)


def _pair(value: Any, axes: int) -> Pair:
    """Height and width; a line has one row."""
    parts = [value] * axes if isinstance(value, int) else value
    if len(parts) != axes:
        raise UnreadableError(f"expected {axes} sizes, got {value!r:.60}")
    return (1, int(parts[0])) if axes == 1 else (int(parts[0]), int(parts[1]))


def _convolution(kind: str, config: Config, x: Tensor, weights: Weights) -> Tensor:
    axes = _axes(kind)
    first = _channels_first(config, x, axes)
    assert first.shape is not None
    channels, size = first.shape[0], _pair(config["kernel_size"], axes)
    dilation = _pair(config.get("dilation_rate", 1), axes)
    stride, padding = _window(config, first, axes, size, dilation)
    along = size[-axes:]
    shapes: list[tuple[int, ...]] = []
    groups, multiplier = int(config.get("groups", 1)), int(config.get("depth_multiplier", 1))
    if kind in ("Conv1D", "Conv2D"):
        if groups < 1 or channels % groups:
            raise UnreadableError(f"expected groups that divide {channels} channels, got {groups}")
        filters = int(config["filters"])
        shapes.append((*along, channels // groups, filters))
    else:
        groups = channels
        shapes.append((*along, channels, multiplier))
        filters = channels * multiplier
        if kind.startswith("Separable"):
            filters = int(config["filters"])
            shapes.append((*(1,) * axes, channels * multiplier, filters))
    kernels = list(shapes)
    if config.get("use_bias", True):
        shapes.append((filters,))
    arrays = weights(shapes)
    kernel = arrays[0].reshape(*size, *arrays[0].shape[axes:])
    if kind in ("Conv1D", "Conv2D"):
        kernel = kernel.transpose(3, 2, 0, 1)
    else:
        kernel = kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, *size)
    y = first.convolved(kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
    if kind.startswith("Separable"):
        y = y.convolved(arrays[1].reshape(1, 1, *arrays[1].shape[axes:]).transpose(3, 2, 0, 1))
    if len(arrays) > len(kernels):
        y = y.plus(arrays[-1][:, None, None])
    return _activated(_as_written(config, y, axes), config["activation"])


def _pooled(kind: str, config: Config, x: Tensor) -> Tensor:
    axes = _axes(kind)
    first = _channels_first(config, x, axes)
    size = _pair(config["pool_size"], axes)
    stride, padding = _window(config, first, axes, size)
    pooled = max_pooled if kind.startswith("Max") else average_pooled
    return _as_written(config, pooled(first, size, stride=stride, padding=padding), axes)


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
