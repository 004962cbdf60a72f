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
    from sklearn.decomposition import PCA, IncrementalPCA, TruncatedSVD
    from sklearn.feature_selection import SelectKBest, VarianceThreshold
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

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
        RobustScaler(),
        RobustScaler(with_centering=False, unit_variance=True),
        RobustScaler(with_scaling=False),
        PCA(9),
        PCA(9, whiten=True),
        IncrementalPCA(7),
        TruncatedSVD(8),
        SelectKBest(k=11),
        VarianceThreshold(),
        "passthrough",
    ):
        yield make_pipeline(scaler, MLPClassifier(**few)), classes
    yield make_pipeline(StandardScaler(), MinMaxScaler(), MLPRegressor(**few)), classes
    inner = make_pipeline(PCA(12), None, make_pipeline(StandardScaler(), MLPClassifier(**few)))
    yield make_pipeline(RobustScaler(), VarianceThreshold(), inner), classes
    scaled = make_pipeline(StandardScaler(), "passthrough")
    yield make_pipeline(scaled, PCA(8), MLPRegressor(**few)), classes


@pytest.mark.parametrize("case", range(26))
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
    assert len(list(perceptrons())) == 26


def linear_models():
    from sklearn import linear_model as lm
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC, LinearSVR

    classes, many, pairs = (lambda y: y), (lambda y: np.eye(10)[y]), (lambda y: y > 4)
    for name in (
        "LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV",
        "BayesianRidge", "HuberRegressor", "SGDRegressor",
    ):  # fmt: skip
        yield make_pipeline(StandardScaler(), getattr(lm, name)()), classes, "predict"
    yield LinearSVR(), classes, "predict"
    yield lm.Ridge(fit_intercept=False), many, "predict"
    yield make_pipeline(StandardScaler(), PCA(9), lm.LinearRegression()), many, "predict"
    for targets in (classes, pairs):
        yield lm.LogisticRegression(max_iter=20), targets, "predict_proba"
        yield lm.LogisticRegressionCV(max_iter=5, cv=2, Cs=2), targets, "predict_proba"
        for model in (lm.Perceptron(), lm.RidgeClassifier(), lm.RidgeClassifierCV(), LinearSVC()):
            yield model, targets, "decision_function"
    scaled = make_pipeline(StandardScaler(), lm.LogisticRegression(solver="liblinear"))
    yield scaled, pairs, "predict_proba"


def test_linear_models_are_one_layer(digits):
    x, y = digits
    for model, targets, method in linear_models():
        fitted(model, x, targets(y))
        expected = getattr(model, method)(x).reshape(len(x), -1)
        if method == "predict_proba" and expected.shape[1] == 2:
            expected = expected[:, 1:]
        network = ns.Network.load(model)
        assert network.depth == 1, model
        assert (network.readout == "softmax") == (method == "predict_proba" and len(expected.T) > 1)
        # Some of scikit-learn's own weights are single precision.
        np.testing.assert_allclose(network(x), expected, rtol=1e-5, atol=1e-7, err_msg=str(model))


def test_sparse_and_old_and_damaged_linear_models(digits):
    from sklearn.linear_model import LogisticRegression

    x, y = digits
    model = fitted(LogisticRegression(max_iter=5), x, y > 4)
    expected = model.predict_proba(x)[:, 1:]
    np.testing.assert_allclose(ns.Network.load(model.sparsify())(x), expected, rtol=1e-9)
    model.multi_class = "multinomial"  # up to 1.7: the softmax of -d and d
    d = model.decision_function(x)[:, None]
    softmax = np.exp(d) / (np.exp(d) + np.exp(-d))
    np.testing.assert_allclose(ns.Network.load(model)(x), softmax, rtol=1e-9)
    model = fitted(LogisticRegression(max_iter=5), x, y)
    for key, value in (("multi_class", "ovr"), ("solver", "liblinear")):
        setattr(model, key, value)
        with pytest.raises(FormatError, match=r"\(LogisticRegression\): .* one against the rest"):
            ns.Network.load(model)
        setattr(model, key, "auto" if key == "multi_class" else "lbfgs")
    model.intercept_ = np.ones(4)
    with pytest.raises(FormatError, match=r"\(LogisticRegression\): expected"):
        ns.Network.load(model)
    with pytest.raises(FormatError, match=r"\(LogisticRegression\): expected a fitted one"):
        ns.Network.load(LogisticRegression())


def test_what_is_no_fitted_perceptron_is_named(digits):
    from sklearn.linear_model import PoissonRegressor
    from sklearn.model_selection import GridSearchCV
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, Normalizer

    with pytest.raises(FormatError, match=r"'model' \(MLPClassifier\): expected a fitted one"):
        ns.Network.load(MLPClassifier())
    with pytest.raises(FormatError, match=r"\(PoissonRegressor\): expected one of MLPClassif"):
        ns.Network.load(PoissonRegressor())
    few = {"hidden_layer_sizes": (3,), "max_iter": 1}
    for step, said in (
        (Normalizer(), r"step 'normalizer' \(Normalizer\): expected one of StandardScaler"),
        (MinMaxScaler(clip=True), "expected clip = False"),
    ):
        model = fitted(make_pipeline(step, MLPClassifier(**few)), *digits)
        with pytest.raises(FormatError, match=said):
            ns.Network.load(model)
    with pytest.raises(FormatError, match="expected one of MLPClassifier"):
        ns.Network.load(make_pipeline(MinMaxScaler(), None))
    with pytest.raises(FormatError, match="expected a fitted one, got the class MLPClassifier"):
        ns.Network.load(MLPClassifier)
    search = GridSearchCV(MLPClassifier(**few), {"alpha": [1e-4]}, cv=2)
    with pytest.raises(FormatError, match=r"\(GridSearchCV\): .* load its best_estimator_"):
        ns.Network.load(fitted(search, *digits))


def test_a_damaged_perceptron_is_named(digits):
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def damaged(change):
        model = fitted(MLPClassifier(hidden_layer_sizes=(5, 4), max_iter=1), *digits)
        change(model)
        return model

    def without(model):
        del model.intercepts_

    for change, said in (
        (lambda m: setattr(m, "coefs_", m.coefs_[:2]), "intercepts_ of 3 layers, got 2 and 3"),
        (without, r"\(MLPClassifier\): expected a fitted one, got .* 'intercepts_'"),
        (lambda m: m.coefs_.__setitem__(1, np.ones((6, 4))), "expected a layer 2 for 5 values"),
        (lambda m: m.intercepts_.__setitem__(2, np.ones(9)), r"intercepts_ of shape \(9,\)"),
        (lambda m: setattr(m, "out_activation_", "exp"), "activations identity, .* got 'exp'"),
    ):
        with pytest.raises(FormatError, match=said):
            ns.Network.load(damaged(change))
    narrow = fitted(StandardScaler(), digits[0][:, :3], None)
    with pytest.raises(FormatError, match=r"'mlpclassifier' .*expected one for 3 values, got one"):
        ns.Network.load(make_pipeline(narrow, damaged(lambda m: None)))
    for key, value, said in (
        ("scale_", np.ones(3), r"'standardscaler' .*expected (a fitted one|one fitted to 64)"),
        ("mean_", None, r"'standardscaler' .* expected a fitted one of finite numbers"),
        ("mean_", np.full(64, np.inf), r"'standardscaler' .* of finite numbers"),
        ("scale_", "text", "expected a fitted one, got"),
    ):
        model = make_pipeline(fitted(StandardScaler(), *digits), damaged(lambda m: None))
        setattr(model.steps[0][1], key, value)
        with pytest.raises(FormatError, match=said):
            ns.Network.load(model)


def test_objects_that_are_no_network_are_named(digits):
    with pytest.raises(InputError, match=r"source: expected the path .* got builtins\.dict"):
        ns.Network.load({})
    from sklearn.neural_network import MLPClassifier

    with pytest.raises(InputError, match="input_shape: expected none"):
        ns.Network.load(MLPClassifier(), input_shape=(3,))
    with pytest.raises(InputError, match="architecture: expected none"):
        ns.Network.load(MLPClassifier(), architecture={})
