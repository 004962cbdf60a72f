"""Multi-layer perceptrons of scikit-learn, alone or behind scalers in a pipeline.

Read from their fitted attributes; scikit-learn itself is not imported.
"""

from typing import Any

import numpy as np

from neurosim.errors import FormatError, InputError
from neurosim.formats.tensor import Parts, Tensor, UnreadableError

__all__ = ["read_sklearn"]

_ACTIVATIONS = {"identity": "identity", "relu": "relu", "logistic": "sigmoid", "tanh": "tanh"}
_MLPS = ("MLPClassifier", "MLPRegressor")
_SCALERS = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler")


def read_sklearn(model: Any) -> Parts:
    """Nodes, read-out and input shape of a fitted MLPClassifier, MLPRegressor or Pipeline.

    Of two classes the network has one output, the probability of the second.

    Raises
    ------
    FormatError
        If the model is not fitted or has a step that neurosim cannot represent; it is named.
    """
    steps = list(model.steps) if _kind(model) == "Pipeline" else [("model", model)]
    if _kind(steps[-1][1]) not in _MLPS:
        raise FormatError(
            f"scikit-learn model: step {steps[-1][0]!r} ({_kind(steps[-1][1])}): expected one of "
            f"{', '.join(_MLPS)} as the last step"
        )
    tensor: Tensor | None = None
    for number, (name, step) in enumerate(steps, start=1):
        label = f"scikit-learn model: step {name!r} ({_kind(step)})"
        last = number == len(steps)
        if step is None or isinstance(step, str):  # "passthrough"
            continue
        if not last and _kind(step) not in _SCALERS:
            raise FormatError(f"{label}: expected one of {', '.join(_SCALERS)}")
        if not hasattr(step, "n_features_in_") or (last and not hasattr(step, "coefs_")):
            raise FormatError(f"{label}: expected a fitted one, got one without weights")
        tensor = tensor or Tensor.start((int(step.n_features_in_),))
        try:
            tensor = _perceptron(step, tensor) if last else _scaled(step, tensor)
        except (UnreadableError, InputError) as error:
            raise FormatError(f"{label}: {error}") from error
    assert tensor is not None
    try:
        return tensor.finished()
    except (UnreadableError, InputError) as error:
        raise FormatError(f"scikit-learn model: {error}") from error


def _kind(model: Any) -> str:
    return type(model).__name__


def _scaled(scaler: Any, tensor: Tensor) -> Tensor:
    if _kind(scaler) == "MinMaxScaler":
        if scaler.clip:
            raise UnreadableError("expected clip = False, for a clipped scaler is not affine")
        return tensor.times(np.asarray(scaler.scale_)).plus(np.asarray(scaler.min_))
    if getattr(scaler, "mean_", None) is not None and scaler.with_mean:
        tensor = tensor.plus(-np.asarray(scaler.mean_))
    if scaler.scale_ is not None:
        tensor = tensor.times(1 / np.asarray(scaler.scale_))
    return tensor


def _perceptron(mlp: Any, tensor: Tensor) -> Tensor:
    kinds = [mlp.activation] * (len(mlp.coefs_) - 1) + [mlp.out_activation_]
    for weight, bias, kind in zip(mlp.coefs_, mlp.intercepts_, kinds, strict=True):
        tensor = tensor.through(np.asarray(weight, np.float64).T).plus(np.asarray(bias, np.float64))
        if kind == "softmax":
            tensor = tensor.read_out()
        elif kind in _ACTIVATIONS:
            tensor = tensor.activated(_ACTIVATIONS[kind])
        else:
            raise UnreadableError(
                f"expected one of the activations {', '.join(_ACTIVATIONS)}, got {kind!r}"
            )
    return tensor
