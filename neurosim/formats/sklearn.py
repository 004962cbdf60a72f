"""Multi-layer perceptrons of scikit-learn, alone or behind affine steps in a pipeline.

Read from their fitted attributes; scikit-learn itself is not imported.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from neurosim.errors import FormatError, InputError
from neurosim.formats.tensor import Parts, Tensor, UnreadableError
from neurosim.layers import Array

__all__ = ["read_sklearn"]

_ACTIVATIONS = {"identity": "identity", "relu": "relu", "logistic": "sigmoid", "tanh": "tanh"}
_MLPS = ("MLPClassifier", "MLPRegressor")
_SELECTORS = ("SelectKBest", "SelectPercentile", "SelectFromModel", "RFE", "VarianceThreshold")
_AFFINE = (
    "StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "PCA", "IncrementalPCA",
    "TruncatedSVD", *_SELECTORS,
)  # fmt: skip


def read_sklearn(model: Any) -> Parts:
    """Nodes, read-out and input shape of a fitted MLPClassifier, MLPRegressor or Pipeline.

    Affine steps before the perceptron are folded into its first layer. Of two classes the network
    has one output, the probability of the second.

    Raises
    ------
    FormatError
        If the model is not fitted or has a step that neurosim cannot represent; it is named.
    """
    if isinstance(model, type):
        raise FormatError(
            f"scikit-learn model: expected a fitted one, got the class {model.__name__}"
        )
    *steps, (end, last) = _steps("model", model)
    mend = "; load its best_estimator_" if hasattr(last, "best_estimator_") else ""
    if _kind(last) not in _MLPS:
        raise FormatError(
            f"scikit-learn model: step {end!r} ({_kind(last)}): expected one of "
            f"{', '.join(_MLPS)} as the last step{mend}"
        )
    factors: list[tuple[Array, Array]] = []
    width = 0
    for name, step in steps:
        with _naming(name, step):
            if _kind(step) not in _AFFINE:
                raise UnreadableError(
                    f"expected one of {', '.join(_AFFINE)}; transform the data with it beforehand "
                    "and load the steps behind it"
                )
            n = _taken(step, width)
            matrix, shift = _affine(step, n)
            if matrix.shape[-1] != n or shift.shape != matrix.shape[:1]:
                raise UnreadableError(f"expected one fitted to {n} values, got {matrix.shape}")
            if not (np.isfinite(matrix).all() and np.isfinite(shift).all()):
                raise UnreadableError("expected a fitted one of finite numbers, got others")
            factors.append((matrix, shift))
            width = len(shift)
    with _naming(end, last):
        return _perceptron(last, _taken(last, width), factors).finished()


@contextmanager
def _naming(name: str, step: Any) -> Iterator[None]:
    """What is wrong with a step, with its name."""
    label = f"scikit-learn model: step {name!r} ({_kind(step)})"
    try:
        yield
    except (UnreadableError, InputError) as error:
        raise FormatError(f"{label}: {error}") from error
    except (AttributeError, TypeError, ValueError, IndexError) as error:
        raise FormatError(f"{label}: expected a fitted one, got {error}") from error


def _taken(step: Any, sent: int) -> int:
    """How many values a step takes; sent: by the one before, 0 by the input."""
    if not hasattr(step, "n_features_in_"):
        raise UnreadableError("expected a fitted one, got one without weights")
    n = int(step.n_features_in_)
    if sent and n != sent:
        raise UnreadableError(f"expected one for {sent} values, got one for {n}")
    return n


def _steps(name: str, model: Any, *, last: bool = True) -> Iterator[tuple[str, Any]]:
    """The steps of a pipeline by name, those of a pipeline inside it too; `last`: it ends there."""
    if _kind(model) != "Pipeline":
        yield name, model
        return
    for inner, (key, step) in enumerate(model.steps, start=1):
        # "passthrough" does nothing, nor does None; but as the last step of all it is no network
        ends = last and inner == len(model.steps)
        if ends or not (step is None or step == "passthrough"):
            yield from _steps(key, step, last=ends)


def _kind(model: Any) -> str:
    return type(model).__name__


def _affine(step: Any, n: int) -> tuple[Array, Array]:
    """Matrix (or its diagonal) and shift of what a fitted step makes of n values."""
    kind = _kind(step)
    if kind in _SELECTORS:
        kept = np.asarray(step.get_support())
        return np.eye(n)[kept], np.zeros(int(kept.sum()))
    if kind in ("PCA", "IncrementalPCA", "TruncatedSVD"):
        matrix = np.asarray(step.components_, np.float64)
        if kind == "TruncatedSVD":
            return matrix, np.zeros(len(matrix))
        if step.whiten:  # scikit-learn bounds the variance alike
            spread = np.sqrt(np.asarray(step.explained_variance_))
            matrix = matrix / np.maximum(spread, np.finfo(spread.dtype).eps)[:, None]
        return matrix, -matrix @ np.asarray(step.mean_)
    if getattr(step, "clip", False):
        raise UnreadableError("expected clip = False, for a clipped scaler is not affine")
    if kind == "MinMaxScaler":
        return np.asarray(step.scale_), np.asarray(step.min_)
    center: Any = np.zeros(n)
    if kind == "StandardScaler" and step.with_mean:
        center = step.mean_
    elif kind == "RobustScaler" and step.with_centering:
        center = step.center_
    factor = np.ones(n) if step.scale_ is None else 1 / np.asarray(step.scale_, np.float64)
    return factor, -np.asarray(center, np.float64) * factor


def _perceptron(mlp: Any, n: int, before: list[tuple[Array, Array]]) -> Tensor:
    """The layers of a perceptron for n values; before: affine steps, folded into the first."""
    weights = [np.asarray(weight, np.float64).T for weight in mlp.coefs_]
    biases = [np.asarray(bias, np.float64) for bias in mlp.intercepts_]
    if len(weights) != len(biases) or len(weights) != int(mlp.n_layers_) - 1:
        raise UnreadableError(
            f"expected coefs_ and intercepts_ of {int(mlp.n_layers_) - 1} layers, got "
            f"{len(weights)} and {len(biases)}"
        )
    for number, (weight, bias) in enumerate(zip(weights, biases, strict=True), start=1):
        if weight.ndim != 2 or weight.shape[1] != n or bias.shape != weight.shape[:1]:
            raise UnreadableError(
                f"expected a layer {number} for {n} values, got coefs_ of shape "
                f"{weight.T.shape} and intercepts_ of shape {bias.shape}"
            )
        n = len(bias)
    for matrix, shift in reversed(before):
        biases[0] = biases[0] + weights[0] @ shift
        weights[0] = weights[0] @ matrix if matrix.ndim == 2 else weights[0] * matrix
    tensor = Tensor.start((weights[0].shape[1],))
    kinds = [mlp.activation] * (len(weights) - 1) + [mlp.out_activation_]
    for weight, bias, kind in zip(weights, biases, kinds, strict=True):
        tensor = tensor.through(weight).plus(bias)
        if kind == "softmax":
            tensor = tensor.read_out()
        elif kind in _ACTIVATIONS:
            tensor = tensor.activated(_ACTIVATIONS[kind])
        else:
            raise UnreadableError(
                f"expected one of the activations {', '.join(_ACTIVATIONS)}, got {kind!r}"
            )
    return tensor
