"""Fitted perceptrons of scikit-learn, read from memory."""

import warnings

import numpy as np
import pytest

import neurosim as ns
from neurosim.errors import FormatError, InputError


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x[:600], y[:600]


def fitted(model, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few steps of training do not converge
        return model.fit(x, y)


def perceptrons():
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

    few = {"hidden_layer_sizes": (12, 8), "max_iter": 3, "random_state": 0}
    classes, many, pairs = (lambda y: y), (lambda y: np.eye(10, dtype=int)[y]), (lambda y: y > 4)
    for activation in ("identity", "logistic", "tanh", "relu"):
        yield MLPClassifier(activation=activation, **few), classes
    yield MLPClassifier(**few), many
    yield MLPClassifier(**few), pairs
    yield MLPRegressor(**few), classes
    yield MLPRegressor(**few), many
    for scaler in (
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        MinMaxScaler((-1, 2)),
        MaxAbsScaler(),
        "passthrough",
    ):
        yield make_pipeline(scaler, MLPClassifier(**few)), classes
    yield make_pipeline(StandardScaler(), MinMaxScaler(), MLPRegressor(**few)), classes


@pytest.mark.parametrize("case", range(15))
def test_outputs_are_those_of_scikit_learn(digits, case):
    model, targets = list(perceptrons())[case]
    x, y = digits
    fitted(model, x, targets(y))
    classifies = hasattr(model, "predict_proba")
    expected = model.predict_proba(x) if classifies else model.predict(x)
    expected = expected.reshape(len(x), -1)
    if classifies and expected.shape[1] == 2:
        expected = expected[:, 1:]  # two classes are one neuron: the probability of the second
    network = ns.Network.load(model)
    assert network.widths[:3] == (64, 12, 8)
    np.testing.assert_allclose(network(x), expected, rtol=1e-5, atol=1e-9)


def test_all_perceptrons_are_tested():
    assert len(list(perceptrons())) == 15


def test_what_is_no_fitted_perceptron_is_named(digits):
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    with pytest.raises(FormatError, match=r"'model' \(MLPClassifier\): expected a fitted one"):
        ns.Network.load(MLPClassifier())
    with pytest.raises(FormatError, match=r"\(LogisticRegression\): expected one of MLPClassif"):
        ns.Network.load(LogisticRegression())
    few = {"hidden_layer_sizes": (3,), "max_iter": 1}
    for step, said in (
        (PCA(2), r"step 'pca' \(PCA\): expected one of StandardScaler"),
        (MinMaxScaler(clip=True), "expected clip = False"),
    ):
        model = fitted(make_pipeline(step, MLPClassifier(**few)), *digits)
        with pytest.raises(FormatError, match=said):
            ns.Network.load(model)
    with pytest.raises(FormatError, match="expected one of MLPClassifier"):
        ns.Network.load(make_pipeline(MinMaxScaler(), None))


def test_objects_that_are_no_network_are_named(digits):
    with pytest.raises(InputError, match=r"source: expected the path .* got builtins\.dict"):
        ns.Network.load({})
    from sklearn.neural_network import MLPClassifier

    with pytest.raises(InputError, match="input_shape: expected none"):
        ns.Network.load(MLPClassifier(), input_shape=(3,))
    with pytest.raises(InputError, match="architecture: expected none"):
        ns.Network.load(MLPClassifier(), architecture={})
