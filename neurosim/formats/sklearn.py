"""Perceptrons and linear models of scikit-learn, alone or behind affine steps in a pipeline.

Read from their fitted attributes; scikit-learn itself is not imported.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from neurosim.errors import FormatError, InputError
from neurosim.formats.steps import Parts, UnreadableError
from neurosim.formats.tensor import Tensor
from neurosim.layers import Array

__all__ = ["read_sklearn"]

_ACTIVATIONS = {"identity": "identity", "relu": "relu", "logistic": "sigmoid", "tanh": "tanh"}
_MLPS = ("MLPClassifier", "MLPRegressor")
_REGRESSORS = (
    "LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV",
    "BayesianRidge", "HuberRegressor", "SGDRegressor", "LinearSVR",
)  # fmt: skip
_LOGISTIC = ("LogisticRegression", "LogisticRegressionCV")
# They give no probabilities: their units are the decision function.
_DECIDERS = ("Perceptron", "RidgeClassifier", "RidgeClassifierCV", "LinearSVC")
_LINEAR = (*_REGRESSORS, *_LOGISTIC, *_DECIDERS)
# Weights (n_out, n_in), bias and activation of a layer.
_Layer: TypeAlias = tuple[Array, Array, str]
_SELECTORS = ("SelectKBest", "SelectPercentile", "SelectFromModel", "RFE", "VarianceThreshold")
_AFFINE = (
    "StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "PCA", "IncrementalPCA",
    "TruncatedSVD", *_SELECTORS,
)  # fmt: skip


def read_sklearn(model: Any) -> Parts:
    """Nodes, read-out and input shape of a fitted perceptron, linear model or Pipeline.

    Affine steps before it are folded into its first layer. Of two classes the network has one
    output, the probability (or decision function) of the second.

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
    if _kind(last) not in (*_MLPS, *_LINEAR):
        raise FormatError(
            f"scikit-learn model: step {end!r} ({_kind(last)}): expected one of "
            f"{', '.join((*_MLPS, *_LINEAR))} as the last step{mend}"
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
        n = _taken(last, width)
        found = _perceptron(last) if _kind(last) in _MLPS else [_linear(last)]
        return _layered(found, n, factors).finished()


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


def _perceptron(mlp: Any) -> list[_Layer]:
    weights, biases = list(mlp.coefs_), list(mlp.intercepts_)
    if len(weights) != len(biases) or len(weights) != int(mlp.n_layers_) - 1:
        raise UnreadableError(
            f"expected coefs_ and intercepts_ of {int(mlp.n_layers_) - 1} layers, got "
            f"{len(weights)} and {len(biases)}"
        )
    kinds = [mlp.activation] * (len(weights) - 1) + [mlp.out_activation_]
    return [
        (np.asarray(weight, np.float64).T, np.asarray(bias, np.float64), kind)
        for weight, bias, kind in zip(weights, biases, kinds, strict=True)
    ]


def _linear(model: Any) -> _Layer:
    """The layer of a linear model, whose activation makes the probabilities that it gives."""
    coefficients = model.coef_.toarray() if hasattr(model.coef_, "toarray") else model.coef_
    weight = np.atleast_2d(np.asarray(coefficients, np.float64))
    bias = np.broadcast_to(np.asarray(model.intercept_, np.float64), weight.shape[:1])
    if _kind(model) not in _LOGISTIC:
        return weight, bias, "identity"
    # "auto" and, from 1.5 to 1.7, "deprecated"; later there is no such choice.
    way = getattr(model, "multi_class", "auto")
    if len(weight) == 1:
        factor = 2.0 if way == "multinomial" else 1.0  # the softmax of -d and d
        return factor * weight, factor * bias, "logistic"
    if way == "ovr" or (way != "multinomial" and model.solver == "liblinear"):
        raise UnreadableError(
            "expected a softmax over more than two classes, got one against the rest, whose "
            "probabilities are divided by their sum; fit it with another solver than liblinear and "
            'without multi_class="ovr"'
        )
    return weight, bias, "softmax"


def _layered(layers: list[_Layer], n: int, before: list[tuple[Array, Array]]) -> Tensor:
    """Layers for n values; before: affine steps, folded into the first."""
    for number, (weight, bias, _) in enumerate(layers, start=1):
        if weight.ndim != 2 or weight.shape[1] != n or bias.shape != weight.shape[:1]:
            raise UnreadableError(
                f"expected a layer {number} for {n} values, got coefs_ of shape "
                f"{weight.T.shape} and intercepts_ of shape {bias.shape}"
            )
        n = len(bias)
    first, shifted, kind = layers[0]
    for matrix, shift in reversed(before):
        shifted = shifted + first @ shift
        first = first @ matrix if matrix.ndim == 2 else first * matrix
    tensor = Tensor.start((first.shape[1],))
    for weight, bias, phi in [(first, shifted, kind), *layers[1:]]:
        tensor = tensor.through(weight).plus(bias)
        if phi == "softmax":
            tensor = tensor.read_out()
        elif phi in _ACTIVATIONS:
            tensor = tensor.activated(_ACTIVATIONS[phi])
        else:
            raise UnreadableError(
                f"expected one of the activations {', '.join(_ACTIVATIONS)}, got {phi!r}"
            )
    return tensor
