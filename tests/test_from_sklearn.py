"""A fitted estimator of scikit-learn as a model: the same outputs, and on from there."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, Trainer

networks = pytest.importorskip("sklearn.neural_network")

Array = np.ndarray[Any, Any]

ACTIVATIONS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
TOLERANCE = {"float32": {"rtol": 2e-5, "atol": 1e-5}, "float64": {"rtol": 1e-11, "atol": 1e-12}}
rng = np.random.default_rng(0)
X = rng.standard_normal((120, 5))
SIGNAL = X @ rng.standard_normal((5, 3)) + np.sin(3 * X[:, :1])

CLASSIFICATION = {  # targets, and the output and the loss that go with them
    "binary": (np.where(SIGNAL[:, 0] > 0, "yes", "no"), "sigmoid", "binary_cross_entropy"),
    "multiclass": (np.array(["ape", "bee", "cat"])[SIGNAL.argmax(1)], "softmax", "cross_entropy"),
    "multilabel": ((SIGNAL > 0).astype(int), "sigmoid", "binary_cross_entropy"),
}
REGRESSION = {
    "one": (SIGNAL[:, 0], "squared_error", "identity", "mean_squared_error"),
    "many": (SIGNAL, "squared_error", "identity", "mean_squared_error"),
    "poisson": (rng.poisson(np.exp(SIGNAL[:, 0] / 4)), "poisson", "exponential", "poisson"),
}


@pytest.fixture(autouse=True)
def _short_training() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Stochastic Optimizer: Maximum iterations")
        yield


def classifier(kind: str = "multiclass", dtype: str = "float64", **options: Any) -> Any:
    settings = {"hidden_layer_sizes": (8, 6), "max_iter": 4, "random_state": 0, **options}
    return networks.MLPClassifier(**settings).fit(X.astype(dtype), CLASSIFICATION[kind][0])


def regressor(kind: str = "one", dtype: str = "float64", **options: Any) -> Any:
    y, loss, _, _ = REGRESSION[kind]
    settings = {"hidden_layer_sizes": (8, 6), "max_iter": 4, "random_state": 0, **options}
    if loss != "squared_error":  # a parameter since scikit-learn 1.7
        settings["loss"] = loss
    return networks.MLPRegressor(**settings).fit(X.astype(dtype), y)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", CLASSIFICATION)
def test_a_classifiers_probabilities(kind: str, activation: str, dtype: str) -> None:
    estimator = classifier(kind, dtype, activation=activation)
    model = MLP.from_sklearn(estimator)
    assert model.dtype == dtype
    assert [layer.units for layer in model.layers] == [8, 6, 1 if kind == "binary" else 3]
    assert [layer.activation for layer in model.layers] == [ACTIVATIONS[activation]] * 2 + [CLASSIFICATION[kind][1]]
    expected = estimator.predict_proba(X.astype(dtype))
    np.testing.assert_allclose(model.predict_proba(X.astype(dtype)), expected[:, 1:] if kind == "binary" else expected,
                               **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", REGRESSION)
def test_a_regressors_values(kind: str, activation: str, dtype: str) -> None:
    estimator = regressor(kind, dtype, activation=activation)
    model = MLP.from_sklearn(estimator)
    assert model.dtype == dtype
    assert model.output == REGRESSION[kind][2]
    expected = estimator.predict(X.astype(dtype))
    np.testing.assert_allclose(model.predict(X.astype(dtype)), expected.reshape(len(X), -1), **TOLERANCE[dtype])


def test_labels_are_positions_in_classes() -> None:
    for kind in ("binary", "multiclass"):
        estimator = classifier(kind)
        labels = MLP.from_sklearn(estimator).predict(X).reshape(len(X), -1)[:, 0]
        np.testing.assert_array_equal(estimator.classes_[labels], estimator.predict(X))


@pytest.mark.parametrize("sizes", [(), (7,), 7, (9, 8, 7, 6)], ids=str)
def test_any_number_of_layers(sizes: Any) -> None:
    estimator = classifier(hidden_layer_sizes=sizes)
    np.testing.assert_allclose(MLP.from_sklearn(estimator).forward(X), estimator.predict_proba(X),
                               **TOLERANCE["float64"])


def test_weights_are_exactly_those_of_now() -> None:
    estimator = classifier()
    estimator.coefs_[1][2, 3] = 42.0
    weights = MLP.from_sklearn(estimator).get_weights()
    for found, expected in zip(weights[::2], estimator.coefs_, strict=True):
        np.testing.assert_array_equal(found, expected)
    for found, expected in zip(weights[1::2], estimator.intercepts_, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("estimator", "y", "loss"), [
    *((classifier, kind, loss) for kind, (_, _, loss) in CLASSIFICATION.items()),
    *((regressor, kind, loss) for kind, (_, _, _, loss) in REGRESSION.items())])
def test_training_goes_on(estimator: Any, y: str, loss: str, dtype: str) -> None:
    fitted = estimator(y, dtype)
    before = [W.copy() for W in fitted.coefs_]
    if estimator is classifier:
        targets = CLASSIFICATION[y][0] if y == "multilabel" else np.searchsorted(fitted.classes_, CLASSIFICATION[y][0])
    else:
        targets = REGRESSION[y][0]
    trainer = Trainer(MLP.from_sklearn(fitted), loss, learning_rate=1e-2)
    start = trainer.evaluate(X, targets)["loss"]
    trainer.fit(X, targets, epochs=20, progress=False)
    assert trainer.evaluate(X, targets)["loss"] < 0.8 * start
    for W, old in zip(fitted.coefs_, before, strict=True):  # the estimator is left alone
        np.testing.assert_array_equal(W, old)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_estimators_of_fastmlp(name: str) -> None:
    kind = getattr(pytest.importorskip("fastmlp.sklearn"), name)
    with pytest.raises(ValueError, match=f"estimator must be fitted, got {name}"):
        MLP.from_sklearn(kind())
    y = CLASSIFICATION["multiclass"][0] if name == "MLPClassifier" else SIGNAL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = kind(hidden_layer_sizes=(8, 6), max_iter=4, random_state=0, dropout=0.25).fit(X, y)
    expected = estimator.predict_proba(X) if name == "MLPClassifier" else estimator.predict(X)
    model = MLP.from_sklearn(estimator)
    assert model is not estimator.model_
    assert model.layers == estimator.model_.layers  # dropout, which scikit-learn has not, included
    np.testing.assert_array_equal(model.forward(X), expected)
    model.set_weights(0 * W for W in model.get_weights())
    np.testing.assert_array_equal(MLP.from_sklearn(estimator).forward(X), expected)


@pytest.mark.parametrize("estimator", [None, X, "MLPClassifier()", networks.MLPClassifier, networks.BernoulliRBM(),
                                       MLP([2, 1])], ids=lambda value: type(value).__name__)
def test_something_else(estimator: Any) -> None:
    with pytest.raises(TypeError, match="estimator must be a fitted MLPClassifier or MLPRegressor of scikit-learn"):
        MLP.from_sklearn(estimator)


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_not_fitted(name: str) -> None:
    with pytest.raises(ValueError, match=rf"estimator must be fitted, got {name}\(\) without coefs_"):
        MLP.from_sklearn(getattr(networks, name)())


@pytest.mark.parametrize(("attribute", "value", "message"), [
    ("coefs_", [], "estimator.coefs_ must be one or more arrays, got none"),
    ("coefs_", [X, "word"], r"estimator.coefs_\[1\] must be an array of real numbers of shape \(inputs, units\)"),
    ("coefs_", [np.zeros(3)], r"estimator.coefs_\[0\] must be an array .* got shape \(3,\)"),
    ("coefs_", [np.zeros((5, 8)), np.zeros((7, 6)), np.zeros((6, 3))], r"\[2\] must have shape \(8, 6\), got \(7, 6\)"),
    ("intercepts_", [np.zeros(8)], "estimator.intercepts_ must be 3 arrays, got 1"),
    ("intercepts_", [np.zeros(8), np.zeros(6), np.zeros(4)], r"\[5\] must have shape \(3,\), got \(4,\)"),
    ("activation", "swish", "estimator.activation must be one of .* got 'swish'"),
    ("out_activation_", "step", "estimator.out_activation_ must be one of .* got 'step'"),
])
def test_what_was_set_by_hand_is_checked(attribute: str, value: Any, message: str) -> None:
    estimator = classifier()
    setattr(estimator, attribute, value)
    with pytest.raises((TypeError, ValueError), match=message):
        MLP.from_sklearn(estimator)


def test_scikit_learn_is_not_imported() -> None:
    code = ("import sys; sys.modules['sklearn'] = None\nfrom fastmlp import MLP\n"
            "try:\n    MLP.from_sklearn(object())\nexcept TypeError as problem:\n    print(problem)\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "of scikit-learn or fastmlp, got <object" in done.stdout
