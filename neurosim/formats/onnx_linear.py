"""Linear models of ONNX-ML, as skl2onnx writes them: one dense layer each."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from neurosim.formats.steps import UnreadableError
from neurosim.formats.tensor import Tensor

__all__ = ["LINEAR_MODELS", "linear_model"]

LINEAR_MODELS = ("LinearRegressor", "LinearClassifier")


def linear_model(kind: str, x: Tensor, attributes: Mapping[str, Any]) -> Any:
    """What a LinearRegressor makes; a tuple of nothing and the scores for a LinearClassifier.

    Of two classes with the probabilities 1 - p and p the one neuron of p is read.

    Raises
    ------
    UnreadableError
        If there are not as many coefficients as inputs and outputs take, or the scores become
        probabilities in another way than by a sigmoid or softmax.
    """
    classifies = kind == "LinearClassifier"
    coefficients = np.asarray(attributes.get("coefficients", ()), np.float64)
    if not x.size or coefficients.size % x.size or not coefficients.size:
        raise UnreadableError(
            f"expected coefficients for {x.size or 'a stated number of'} inputs, got "
            f"{coefficients.size}"
        )
    weight = coefficients.reshape(-1, x.size)
    n = len(weight)
    bias = np.asarray(attributes.get("intercepts", np.zeros(n)), np.float64)
    if bias.shape != (n,) or (not classifies and n != attributes.get("targets", 1)):
        raise UnreadableError(
            f"expected one intercept for each of {n} outputs, got {bias.size} (targets "
            f"{attributes.get('targets', 1)})"
        )
    way = attributes.get("post_transform", b"NONE")
    if way == b"LOGISTIC" and n == 2 and not (weight.sum(0).any() or bias.sum()):
        weight, bias = weight[1:], bias[1:]
    y = x.through(weight).plus(bias)
    if way == b"LOGISTIC":
        y = y.activated("sigmoid")
    elif way == b"SOFTMAX":
        y = y.read_out()
    elif way != b"NONE":
        raise UnreadableError(f"expected NONE, LOGISTIC or SOFTMAX as post_transform, got {way!r}")
    return (None, y) if classifies else y
