"""The same weights as scikit-learn's, step after step: from the same random_state, on every way of training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import sklearn.neural_network
from sklearn.datasets import load_diabetes, load_digits, make_multilabel_classification
from threadpoolctl import threadpool_limits

import fastmlp

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
DIGITS = load_digits().data[:330] / 16, load_digits().target[:330]
TWO = DIGITS[0], DIGITS[1] > 4
DIABETES = load_diabetes(scaled=True).data[:330] * 20, load_diabetes().target[:330] / 100 - 1.5
MANY = DIABETES[0], np.stack([DIABETES[1], DIABETES[0][:, 3] ** 2, np.sin(DIABETES[0][:, 1])], axis=1)
LABELS = make_multilabel_classification(n_samples=330, n_features=12, random_state=0)
COUNTS = DIABETES[0], RNG.poisson(np.exp(DIABETES[0][:, 2]))
WEIGHTS = RNG.uniform(0, 3, 330) * (RNG.random(330) > 0.1)


@pytest.fixture(autouse=True)
def one_thread_for_theirs() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def pair(kind: str, **parameters: Any) -> tuple[Any, Any]:
    settings = {"random_state": 3, "hidden_layer_sizes": (17, 9), "max_iter": 50, "n_iter_no_change": 1000, "tol": 0.0,
                "batch_size": 64} | parameters
    return getattr(sklearn.neural_network, kind)(**settings), getattr(fastmlp, kind)(**settings)


def assert_same(theirs: Any, ours: Any, tolerance: float = 1e-9) -> None:
    for wanted, found in zip(theirs.coefs_ + theirs.intercepts_, ours.coefs_ + ours.intercepts_, strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
    assert (ours.n_iter_, ours.t_, ours.n_layers_, ours.n_outputs_, ours.out_activation_, ours.n_features_in_) == (
        theirs.n_iter_, theirs.t_, theirs.n_layers_, theirs.n_outputs_, theirs.out_activation_, theirs.n_features_in_)


def assert_same_curves(theirs: Any, ours: Any, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=tolerance)
    assert ours.loss_ == ours.loss_curve_[-1]
    for name in ("best_loss_", "validation_scores_", "best_validation_score_"):
        wanted, found = getattr(theirs, name), getattr(ours, name)
        if wanted is None:
            assert found is None, name
        else:
            np.testing.assert_allclose(found, wanted, rtol=tolerance, err_msg=name)


CASES = {
    "digits": ("MLPClassifier", DIGITS),
    "two classes": ("MLPClassifier", TWO),
    "labels": ("MLPClassifier", LABELS),
    "diabetes": ("MLPRegressor", DIABETES),
    "many outputs": ("MLPRegressor", MANY),
}
WAYS: dict[str, dict[str, Any]] = {
    "adam": {"alpha": 0.1},
    "plain": {"solver": "sgd", "momentum": 0, "learning_rate_init": 0.01},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False, "learning_rate_init": 0.01, "alpha": 1.0},
    "nesterov": {"solver": "sgd", "learning_rate_init": 0.01, "alpha": 0.1},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_same_weights_after_fifty_epochs(case: str, way: str, shuffle: bool) -> None:
    kind, (X, y) = CASES[case]
    theirs, ours = pair(kind, shuffle=shuffle, **WAYS[way])
    assert_same(theirs.fit(X, y), ours.fit(X, y))
    # The penalty of the loss is taken to change evenly within an epoch, which shows where it is strong.
    assert_same_curves(theirs, ours, 3e-3 if theirs.alpha >= 0.1 else 1e-6)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-8, atol=1e-9)
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y), abs=1e-9)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", ["adam", "nesterov"])
def test_the_same_weights_with_weighted_rows(case: str, way: str) -> None:
    kind, (X, y) = CASES[case]
    theirs, ours = pair(kind, **WAYS[way])
    assert_same(theirs.fit(X, y, WEIGHTS), ours.fit(X, y, WEIGHTS))
    assert_same_curves(theirs, ours, 1e-3)
    theirs, ours = pair(kind, alpha=0.0, max_iter=3)
    assert_same_curves(theirs.fit(X, y, WEIGHTS), ours.fit(X, y, WEIGHTS), 1e-10)


def test_the_same_weights_where_they_clip_probabilities_in_the_loss() -> None:
    theirs, ours = pair("MLPClassifier", alpha=0.0, max_iter=5)
    X, y = DIGITS
    assert_same(theirs.fit(1000 * X, y), ours.fit(1000 * X, y))
    assert ours.loss_curve_[0] > 2 * theirs.loss_curve_[0]


def test_the_loss_of_whole_batches_is_exact_with_any_alpha() -> None:
    theirs, ours = pair("MLPClassifier", alpha=10.0, batch_size=330)
    assert_same_curves(theirs.fit(*DIGITS), ours.fit(*DIGITS), 1e-10)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_the_same_weights_with_each_activation(activation: str, kind: str) -> None:
    X, y = DIGITS if kind == "MLPClassifier" else DIABETES
    theirs, ours = pair(kind, activation=activation)
    assert_same(theirs.fit(X, y), ours.fit(X, y))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("learning_rate", ["constant", "invscaling", "adaptive"])
def test_the_same_weights_with_each_kind_of_learning_rate(learning_rate: str, momentum: float) -> None:
    theirs, ours = pair("MLPClassifier", solver="sgd", learning_rate=learning_rate, learning_rate_init=0.1,
                        momentum=momentum, power_t=0.2, tol=0.02, n_iter_no_change=2, max_iter=120, batch_size=150)
    assert_same(theirs.fit(*DIGITS), ours.fit(*DIGITS), 1e-8)
    assert_same_curves(theirs, ours)
    if learning_rate == "adaptive":
        assert ours._trainer.learning_rate == theirs._optimizer.learning_rate < 0.1


def test_the_same_weights_with_a_momentum_of_one() -> None:
    theirs, ours = pair("MLPClassifier", solver="sgd", momentum=1.0, max_iter=10)
    assert_same(theirs.fit(*DIGITS), ours.fit(*DIGITS))


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
def test_the_same_weights_with_poisson_loss(weights: Any) -> None:
    theirs, ours = pair("MLPRegressor", loss="poisson", shuffle=False)
    X, y = COUNTS
    assert_same(theirs.fit(X, y, weights), ours.fit(X, y, weights))
    assert_same_curves(theirs, ours)
    assert ours.out_activation_ == "exp"


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
def test_the_same_course_of_early_stopping(case: str, weights: Any) -> None:
    kind, (X, y) = CASES[case]
    theirs, ours = pair(kind, early_stopping=True, n_iter_no_change=4, tol=1e-3, max_iter=100, learning_rate_init=0.01)
    assert_same(theirs.fit(X, y, weights), ours.fit(X, y, weights))
    assert_same_curves(theirs, ours)
    assert ours.n_iter_ < 100


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
def test_the_same_course_of_early_stopping_with_one_class(weights: Any) -> None:
    theirs, ours = pair("MLPClassifier", early_stopping=True, max_iter=5)
    X, y = DIGITS[0], np.full(len(DIGITS[0]), "only")
    assert_same(theirs.fit(X, y, weights), ours.fit(X, y, weights))
    assert_same_curves(theirs, ours)
    assert ours.validation_scores_ == [1.0] * 5


@pytest.mark.parametrize("case", CASES)
def test_the_same_end_by_tolerance(case: str) -> None:
    kind, (X, y) = CASES[case]
    theirs, ours = pair(kind, n_iter_no_change=3, tol=5e-3, max_iter=400, learning_rate_init=0.005)
    assert_same(theirs.fit(X, y), ours.fit(X, y))
    assert ours.n_iter_ < 400


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_the_same_weights_in_partial_fit_and_warm_starts(kind: str, solver: str) -> None:
    X, y = DIGITS if kind == "MLPClassifier" else DIABETES
    classes = {"classes": np.arange(10)} if kind == "MLPClassifier" else {}
    pieces = [slice(0, 100), slice(100, 150), slice(150, 330), slice(0, 30)]
    theirs, ours = pair(kind, solver=solver, learning_rate="invscaling", learning_rate_init=0.02, warm_start=False)
    with pytest.warns(UserWarning, match="batch_size"):
        for estimator in (theirs, ours):
            for piece in pieces:
                estimator.partial_fit(X[piece], y[piece], **classes)
    assert_same(theirs, ours)
    for estimator in (theirs, ours):
        estimator.set_params(warm_start=True, max_iter=4).fit(X, y)
        estimator.fit(X, y)
    assert_same(theirs, ours)
    assert len(ours.loss_curve_) == len(theirs.loss_curve_) == 4 + 4 + 4
    with pytest.warns(UserWarning, match="batch_size"):
        for estimator in (theirs, ours):
            estimator.partial_fit(X[:20], y[:20])
    assert_same(theirs, ours)


def test_the_same_weights_in_float32() -> None:
    X, y = DIGITS[0].astype(np.float32), DIGITS[1]
    theirs, ours = pair("MLPClassifier", max_iter=10)
    assert_same(theirs.fit(X, y), ours.fit(X, y), 2e-4)
    assert ours.coefs_[0].dtype == ours.predict_proba(X).dtype == np.float32


def test_a_random_state_is_used_up_as_theirs_is() -> None:
    states = np.random.RandomState(5), np.random.RandomState(5)
    for estimator, state in zip(pair("MLPClassifier", max_iter=3, early_stopping=True), states, strict=True):
        estimator.set_params(random_state=state).fit(*TWO)
    assert states[0].randint(1 << 30) == states[1].randint(1 << 30)


@pytest.mark.parametrize(("case", "activation"), [("digits", "tanh"), ("two classes", "tanh"), ("labels", "tanh"),
                                                  ("diabetes", "tanh")])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
def test_lbfgs_reaches_the_same_loss(case: str, activation: str, weights: Any) -> None:
    kind, (X, y) = CASES[case]
    theirs, ours = pair(kind, solver="lbfgs", alpha=10.0, max_iter=3000, hidden_layer_sizes=(5,), tol=1e-7,
                        activation=activation)
    theirs.fit(X, y, weights), ours.fit(X, y, weights)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-6)
    assert 10 < ours.n_iter_ < 3000


def test_lbfgs_minimises_the_poisson_loss_and_the_sum_of_squared_errors() -> None:
    theirs, ours = pair("MLPRegressor", solver="lbfgs", loss="poisson", alpha=1.0, max_iter=3000, tol=1e-7,
                        hidden_layer_sizes=(4,), activation="tanh")
    assert ours.fit(*COUNTS).loss_ == pytest.approx(theirs.fit(*COUNTS).loss_, abs=1e-6)
    # Of several outputs theirs follows the gradient of the sum, and so do the batches of both.
    ours = pair("MLPRegressor", solver="lbfgs", alpha=1.0, max_iter=3000, activation="identity",
                hidden_layer_sizes=(6,))[1].fit(*MANY)
    X, y = MANY
    squares = sum((coef**2).sum() for coef in ours.coefs_)
    assert ours.loss_ == pytest.approx(0.5 * ((ours.predict(X) - y) ** 2).mean() + 0.5 * squares / len(X), rel=1e-9)
    _, gradients = ours.model_.loss_and_gradients(X, y, "half_squared_error")
    for gradient, coef in zip(gradients[::2], ours.coefs_, strict=True):
        np.testing.assert_allclose(gradient + coef / len(X), 0, atol=2e-4)
