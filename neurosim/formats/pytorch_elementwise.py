"""Functions of PyTorch of each value, arithmetic and activations, and the softmax behind them."""

from typing import Any

import numpy as np

from neurosim.formats.activations import bound, celu, clamped, elu, hard_sigmoid, selu
from neurosim.formats.joins import added
from neurosim.formats.pytorch_arguments import Given, Reader, computed, real
from neurosim.formats.pytorch_layers import reduction
from neurosim.formats.refusals import reason_against
from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor

__all__ = ["ELEMENTWISE"]


# Arithmetic


def _sum(sign: float) -> Reader:
    """Self + alpha * other or self - alpha * other."""

    def read(given: Given) -> Tensor:
        x, other = given["self"], given["other"]
        factor = sign * float(given.get("alpha", 1))
        if isinstance(x, Tensor) and isinstance(other, Tensor):
            return added([x, other.times(factor)])
        if isinstance(x, Tensor):
            return x.plus(factor * real(other))
        return other.times(factor).plus(real(x))

    return read


def _reversed_difference(given: Given) -> Tensor:
    """Other - alpha * self."""
    return _sum(-1)({**given, "self": given["other"], "other": given["self"]})


def _times(given: Given) -> Tensor:
    x, other = given["self"], given["other"]
    if isinstance(x, Tensor) and isinstance(other, Tensor):
        raise UnreadableError(reason_against("bmm", ()))
    return x.times(real(other)) if isinstance(x, Tensor) else other.times(real(x))


def _quotient(given: Given) -> Tensor:
    if given.get("rounding_mode") is not None:
        raise UnreadableError("expected a division of real numbers")
    divisor = real(given["other"])
    if not isinstance(given["self"], Tensor) or not divisor.all():
        raise UnreadableError("expected a constant divisor other than 0")
    return given["self"].times(1 / divisor)


# Activations


def _activation(kind: str) -> Reader:
    return lambda given: computed(given).activated(kind)


def _leaky(given: Given) -> Tensor:
    return computed(given).activated("leaky_relu", float(given["negative_slope"]))


def _random_leaky(given: Given) -> Tensor:
    if given["training"]:
        raise UnreadableError(reason_against("bernoulli", ()))
    slope = (float(given["lower"]) + float(given["upper"])) / 2
    return computed(given).activated("leaky_relu", slope)


def _prelu(given: Given) -> Tensor:
    slopes = np.unique(real(given["weight"]))
    if len(slopes) != 1:
        raise UnreadableError(f"expected one slope of all channels, got {len(slopes)}")
    return computed(given).activated("leaky_relu", float(slopes[0]))


def _clamp(low: str, high: str) -> Reader:
    def read(given: Given) -> Tensor:
        bounds = [given.get(low), given.get(high)]
        return clamped(computed(given), *(None if b is None else bound(real(b)) for b in bounds))

    return read


def _maximum(given: Given) -> Tensor:
    x, other = given["self"], given["other"]
    if isinstance(x, Tensor) and isinstance(other, Tensor):
        raise UnreadableError("expected the maximum with 0, a relu, got that of two computed ones")
    x, other = (x, other) if isinstance(x, Tensor) else (other, x)
    return clamped(x, bound(real(other)), None)


def _largest(given: Given) -> Any:
    """Of several tensors, or of an axis with the places of the maxima."""
    return _maximum(given) if "other" in given else (reduction("max")(given), None)


def _threshold(given: Given) -> Tensor:
    """X where x is above the threshold, elsewhere the value."""
    threshold, value = float(given["threshold"]), float(given["value"])
    if threshold != value:
        raise UnreadableError(f"expected threshold and value alike, got {threshold} and {value}")
    return clamped(computed(given), value, None)


def _softplus(given: Given) -> Tensor:
    beta, threshold = float(given["beta"]), float(given["threshold"])
    if threshold < 20:  # beyond, torch returns z itself: off by 2e-9 at 20
        raise UnreadableError(
            f"expected softplus with a threshold of 20 or more, got {given['threshold']}"
        )
    if beta <= 0:
        raise UnreadableError(f"expected softplus with a beta above 0, got {beta}")
    return computed(given).times(beta).activated("softplus").times(1 / beta)


def _log_sigmoid(given: Given) -> Tensor:
    return computed(given).times(-1.0).activated("softplus").times(-1.0)


def _gelu(given: Given) -> Tensor:
    return computed(given).activated("gelu" if given["approximate"] == "none" else "gelu_tanh")


def _elu(given: Given) -> Tensor:
    alpha, scale, spread = (float(given[k]) for k in ("alpha", "scale", "input_scale"))
    return elu(computed(given), alpha, scale=scale, spread=spread)


def _softmax(given: Given) -> Tensor:
    x = computed(given)
    if len(x.shape or ()) != 1 or x.axis(int(given["dim"])) != 1:
        raise UnreadableError(
            f"expected a softmax over the units, got one over axis {given['dim']} of values of "
            f"shape {x.shape} an input"
        )
    return x.read_out()


ELEMENTWISE: dict[str, Reader] = {
    "add": _sum(1),
    "sub": _sum(-1),
    "rsub": _reversed_difference,
    "mul": _times,
    "div": _quotient,
    "neg": lambda given: computed(given).times(-1.0),
    "relu": _activation("relu"),
    "relu6": _activation("relu6"),
    "sigmoid": _activation("sigmoid"),
    "tanh": _activation("tanh"),
    "silu": _activation("silu"),
    "hardswish": _activation("hard_swish"),
    "hardsigmoid": lambda given: hard_sigmoid(computed(given), 1 / 6, 0.5),
    "leaky_relu": _leaky,
    "rrelu": _random_leaky,
    "prelu": _prelu,
    "hardtanh": _clamp("min_val", "max_val"),
    "clamp": _clamp("min", "max"),
    "clamp_min": _clamp("min", "max"),
    "maximum": _maximum,
    "max": _largest,
    "threshold": _threshold,
    "softplus": _softplus,
    "log_sigmoid": _log_sigmoid,
    "gelu": _gelu,
    "mish": _activation("mish"),
    "elu": _elu,
    "selu": lambda given: selu(computed(given)),
    "celu": lambda given: celu(computed(given), float(given["alpha"])),
    "softmax": _softmax,
    "_softmax": _softmax,
}
