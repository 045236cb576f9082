"""NaN and infinity in what the estimators are given, which for much of X is found only in the course of training."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

import scipy.sparse
import sklearn
import sklearn.neural_network
from sklearn.exceptions import NotFittedError

import fastmlp
from fastmlp import engine
from fastmlp.thread_choice import ThreadChoice

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = ["MLPClassifier", "MLPRegressor"]
ROWS, FEATURES = 100, 6
PARAMETERS: dict[str, Any] = {"hidden_layer_sizes": 7, "batch_size": 20, "max_iter": 3}


@pytest.fixture(params=[0, 1 << 30], ids=["found in training", "searched for before"])
def large_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("fastmlp.sklearn.base.LARGE_BYTES", request.param)
    return int(request.param)


def make_data(dtype: str = "float64") -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, FEATURES)).astype(dtype), rng.integers(0, 3, ROWS)


def make(kind: str, **parameters: Any) -> Any:
    return getattr(fastmlp, kind)(**PARAMETERS | parameters)


def message_of_theirs(kind: str, X: Any, y: Any) -> str:
    with pytest.raises(ValueError) as caught:
        getattr(sklearn.neural_network, kind)().fit(X, y)
    return str(caught.value)


def state_of(estimator: Any) -> dict[str, Any]:
    return {name: copy.deepcopy(value) for name, value in vars(estimator).items() if name.endswith("_")}


@pytest.mark.usefixtures("large_bytes")
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_estimator_stays_as_it_was(kind: str, dtype: str, number: float) -> None:
    X, y = make_data(dtype)
    wrong = X.copy()
    wrong[70, 4] = number
    message = message_of_theirs(kind, wrong, y)
    random_state = np.random.RandomState(5)
    estimator = make(kind, random_state=random_state)
    drawn = random_state.get_state()[1].copy()
    for call in (estimator.fit, estimator.partial_fit):
        with pytest.raises(ValueError) as caught:
            call(wrong, y, **({"classes": [0, 1, 2]} if kind == KINDS[0] and call != estimator.fit else {}))
        assert str(caught.value) == message
        np.testing.assert_array_equal(random_state.get_state()[1], drawn)
        assert set(vars(estimator)) == set(vars(make(kind)))
        with pytest.raises(NotFittedError):
            estimator.predict(X)

    estimator.fit(X, y)
    before, predicted = state_of(estimator), estimator.predict(X)
    for warm in (False, True):
        estimator.set_params(warm_start=warm)
        with pytest.raises(ValueError, match="Input X contains"):
            estimator.fit(wrong, y)
        np.testing.assert_equal(state_of(estimator), before)
        np.testing.assert_array_equal(estimator.predict(X), predicted)


@pytest.mark.usefixtures("large_bytes")
@pytest.mark.parametrize("options", [{"early_stopping": True}, {"solver": "lbfgs"}, {"shuffle": False},
                                     {"callbacks": [lambda trainer, logs: None]}], ids=str)
def test_whatever_the_way_of_training(options: dict[str, Any]) -> None:
    X, y = make_data()
    for row in (0, 99):
        wrong = X.copy()
        wrong[row, 0] = np.nan
        estimator = make("MLPClassifier", **options)
        with pytest.raises(ValueError, match=r"^Input X contains NaN\.\nMLPClassifier does not accept"):
            estimator.fit(wrong, y)
        assert not state_of(estimator)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_are_not_read_once_more_to_search_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data()
    monkeypatch.setattr("fastmlp.sklearn.base.LARGE_BYTES", 0)
    estimator = make(kind, random_state=0).fit(X, y)
    searched = make(kind, random_state=0, callbacks=[lambda trainer, logs: None]).fit(X, y)
    for found, wanted in zip(estimator.coefs_, searched.coefs_, strict=True):
        np.testing.assert_array_equal(found, wanted)
    monkeypatch.setattr("fastmlp.sklearn.inputs.assert_all_finite", None)
    estimator.fit(X, y)
    estimator.predict(X)


def test_what_is_found_is_said_whatever_the_user_assumes(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data()
    monkeypatch.setattr("fastmlp.sklearn.base.LARGE_BYTES", 0)
    estimator = make("MLPClassifier").fit(X, y)
    X[50, 3] = np.nan
    with sklearn.config_context(assume_finite=True):
        with pytest.raises(ValueError, match=r"Input X contains NaN\.\nMLPClassifier does not accept"):
            make("MLPClassifier").fit(X, y)
        with pytest.raises(ValueError, match="X must be finite"):
            estimator.predict(X)


def test_nan_is_found_where_training_diverges_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data()
    monkeypatch.setattr("fastmlp.sklearn.base.LARGE_BYTES", 0)
    X[:20] *= 1e200
    X[99, 0] = np.nan
    estimator = make("MLPRegressor", shuffle=False, activation="identity")
    with pytest.raises(ValueError, match="Input X contains NaN"):
        estimator.fit(X, y)
    assert not state_of(estimator)
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        estimator.fit(X[:99], y[:99])


def test_an_interruption_after_nan_was_read_leaves_no_ruined_network(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data()
    monkeypatch.setattr("fastmlp.sklearn.base.LARGE_BYTES", 0)
    monkeypatch.setattr(ThreadChoice, "next", lambda choice: (1, 1e-12))  # a step in each call
    train = engine.Call.train

    def interrupted(call: engine.Call, threads: int) -> None:
        train(call, threads)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.Call, "train", interrupted)
    X[3, 3] = np.inf
    estimator = make("MLPClassifier", shuffle=False)
    with pytest.warns(UserWarning, match="interrupted"), pytest.raises(ValueError, match="Input X contains infinity"):
        estimator.fit(X, y)
    assert not state_of(estimator)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array, scipy.sparse.csc_matrix, np.ndarray.tolist],
                         ids=["array", "csr", "csc", "list"])
def test_inputs_to_predict_and_to_validate_on(form: Any, kind: str) -> None:
    X, y = make_data()
    estimator = make(kind).fit(X, y)
    wrong = X.copy()
    wrong[70, 4] = np.inf
    message = message_of_theirs(kind, wrong, y)
    with pytest.raises(ValueError) as caught:
        estimator.predict(form(wrong))
    assert str(caught.value) == message
    before = state_of(estimator)
    with pytest.raises(ValueError) as caught:
        estimator.fit(X, y, X_val=form(wrong), y_val=y)
    assert str(caught.value) == message
    np.testing.assert_equal(state_of(estimator), before)
