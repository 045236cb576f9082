"""MLPClassifier and MLPRegressor in the world of scikit-learn: parameters, kinds of data, tools, copies, errors."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from comparing import assert_equal_weights

pytest.importorskip("sklearn")

import joblib
import scipy.sparse
import sklearn.neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_diabetes, load_digits, make_multilabel_classification
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError
from threadpoolctl import threadpool_limits

import fastmlp
from fastmlp import MLPClassifier, MLPRegressor
from fastmlp.sklearn import rows as sparse_rows

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

DIGITS = load_digits().data[:300] / 16, load_digits().target[:300]
DIABETES = load_diabetes().data[:300] * 20, load_diabetes().target[:300] / 100 - 1.5
SMALL: dict[str, Any] = {"hidden_layer_sizes": 12, "max_iter": 8, "random_state": 0}
KINDS = {"MLPClassifier": DIGITS, "MLPRegressor": DIABETES}


@pytest.fixture(autouse=True)
def one_thread_for_theirs() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def make(kind: str, **parameters: Any) -> Any:
    return getattr(fastmlp, kind)(**SMALL | parameters)


# ---- names and parameters


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_of_theirs_has_its_default_and_ours_come_after(kind: str) -> None:
    ours, theirs = (inspect.signature(getattr(module, kind)).parameters
                    for module in (fastmlp, sklearn.neural_network))
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert (ours[name].default, ours[name].kind) == (parameter.default, parameter.kind)
    assert all(ours[name].kind is inspect.Parameter.KEYWORD_ONLY for name in list(ours)[len(theirs) :])


@pytest.mark.parametrize("kind", KINDS)
def test_every_public_method_and_attribute_of_theirs_is_there(kind: str) -> None:
    X, y = KINDS[kind]
    theirs = getattr(sklearn.neural_network, kind)(max_iter=2, early_stopping=True).fit(X, y)
    ours = make(kind, early_stopping=True).fit(X, y)
    for name in dir(theirs):
        assert name.startswith("_") or hasattr(ours, name), name
    assert {name for name in vars(theirs) if name.endswith("_")} <= set(vars(ours))


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_survive_clone_get_and_set(kind: str) -> None:
    estimator = make(kind, dropout=[0.1], activation=["gelu"], optimizer=fastmlp.RMSprop(decay=0.9), n_jobs=1)
    copied = clone(estimator)
    assert copied.get_params() == estimator.get_params()
    assert copied.set_params(alpha=0.5).alpha == 0.5
    assert repr(copied).startswith(kind)


def test_without_scikit_learn_the_names_say_what_to_install() -> None:
    code = """
import sys
sys.modules["sklearn"] = None
import fastmlp
assert not hasattr(fastmlp, "MLPTransformer")
try:
    fastmlp.MLPClassifier
except ImportError as problem:
    print(problem)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "MLPClassifier and MLPRegressor need scikit-learn" in printed
    assert "pip install fastmlp[sklearn]" in printed


# ---- kinds of targets


@pytest.mark.parametrize("labels", [
    np.array(["zero", "one", "two"]), np.array(["zero", "one", "two"], dtype=object), np.array([-5, 7, 100]),
    np.array([0.0, 2.0, 5.0]), np.array(["no", "yes"]), np.array([False, True]), np.array([3, 8]), np.array(["only"]),
], ids=str)
def test_labels_of_any_kind(labels: Any) -> None:
    X, y = DIGITS[0], labels[DIGITS[1] % len(labels)]
    theirs = sklearn.neural_network.MLPClassifier(**SMALL).fit(X, y)
    ours = make("MLPClassifier").fit(X, y)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    for found, wanted in ((ours.predict(X), theirs.predict(X)), (ours.classes_, theirs.classes_)):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-8)
    np.testing.assert_allclose(ours.predict_log_proba(X), theirs.predict_log_proba(X), rtol=1e-8)


@pytest.mark.parametrize("sparse", [False, True])
def test_labels_that_do_not_exclude_one_another(sparse: bool) -> None:
    X, Y = make_multilabel_classification(200, 10, random_state=0)
    given = scipy.sparse.csr_matrix(Y) if sparse else Y
    wanted = sklearn.neural_network.MLPClassifier(**SMALL).fit(X, given)
    found = make("MLPClassifier").fit(X, given)
    np.testing.assert_allclose(found.predict_proba(X), wanted.predict_proba(X), rtol=1e-8)
    of_both = [estimator.predict(X) for estimator in (found, wanted)]
    assert scipy.sparse.issparse(of_both[0]) == sparse  # as they were given
    np.testing.assert_array_equal(*(labels.toarray() if sparse else labels for labels in of_both))
    assert found.out_activation_ == "logistic"
    assert found.score(X, given) == wanted.score(X, given)


def test_several_outputs() -> None:
    X, y = DIABETES
    assert make("MLPRegressor").fit(X, y).predict(X).shape == (300,)
    assert make("MLPRegressor").fit(X, np.stack([y, -y], axis=1)).predict(X).shape == (300, 2)


# ---- kinds of inputs


@pytest.mark.parametrize("library", ["pandas", "polars"])
@pytest.mark.parametrize("kind", KINDS)
def test_data_frames(library: str, kind: str) -> None:
    frames = pytest.importorskip(library)
    X, y = KINDS[kind]
    names = [f"column {number}" for number in range(X.shape[1])]
    frame = frames.DataFrame(dict(zip(names, X.T, strict=True)))
    estimator = make(kind, early_stopping=True).fit(frame, frames.Series("y", y) if library == "polars" else
                                                    frames.Series(y, name="y"))
    assert_equal_weights(estimator, make(kind, early_stopping=True).fit(X, y))
    assert estimator.feature_names_in_.tolist() == names
    assert estimator.predict(frame).shape == (300,)
    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(frame[names[::-1]])
    with pytest.raises(ValueError, match="feature names"):
        estimator.fit(frame, y, X_val=frame[names[::-1]], y_val=y)


@pytest.mark.parametrize("layout", [scipy.sparse.csr_matrix, scipy.sparse.csc_matrix, scipy.sparse.csr_array])
@pytest.mark.parametrize("way", [{}, {"solver": "sgd"}, {"shuffle": False}, {"early_stopping": True, "alpha": 1.0}],
                         ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_sparse_rows_give_the_bits_of_dense_ones(layout: Any, way: dict[str, Any], kind: str,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = KINDS[kind]
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    monkeypatch.setattr(sparse_rows, "WINDOW_BYTES", 50 * X.shape[1] * 8)  # windows of two batches, and one of a rest
    dense = make(kind, batch_size=23, **way).fit(X, y, weights)
    sparse = make(kind, batch_size=23, **way).fit(layout(X), y, weights)
    assert_equal_weights(dense, sparse)
    assert sparse.loss_curve_ == dense.loss_curve_
    np.testing.assert_array_equal(sparse.predict(layout(X)), dense.predict(X))
    if way.get("early_stopping"):
        np.testing.assert_allclose(sparse.validation_scores_, dense.validation_scores_)
        np.testing.assert_allclose(sparse.validation_loss_curve_, dense.validation_loss_curve_)


@pytest.mark.parametrize("kind", KINDS)
def test_sparse_rows_with_lbfgs(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = KINDS[kind]
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    monkeypatch.setattr(sparse_rows, "WINDOW_BYTES", 70 * X.shape[1] * 8)
    dense, sparse = (make(kind, solver="lbfgs", alpha=1.0).fit(inputs, y, weights)
                     for inputs in (X, scipy.sparse.csr_matrix(X)))
    assert sparse.loss_ == pytest.approx(dense.loss_, rel=1e-9)
    np.testing.assert_allclose(sparse.coefs_[0], dense.coefs_[0], rtol=1e-5, atol=1e-7)


def test_a_sparse_matrix_is_never_made_dense_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    X = scipy.sparse.random(4000, 3000, 0.002, format="csr", random_state=0, dtype=np.float32)  # 48 MB if dense
    y = rng.integers(0, 3, 4000)
    monkeypatch.setattr(sparse_rows, "WINDOW_BYTES", 4 << 20)
    largest = []
    toarray = scipy.sparse.csr_matrix.toarray

    def counting(matrix: Any, *arguments: Any, **options: Any) -> Any:
        largest.append(matrix.shape[0] * matrix.shape[1] * 4)
        return toarray(matrix, *arguments, **options)

    monkeypatch.setattr(type(X), "toarray", counting)
    estimator = make("MLPClassifier", max_iter=1, early_stopping=True).fit(X, y)
    estimator.predict(X)
    make("MLPClassifier", max_iter=1, solver="lbfgs").fit(X, y)
    assert len(largest) > 10
    assert max(largest) <= 4 << 20


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize("parameters", [{}, {"activation": "prelu"}, {"hidden_layer_sizes": ()},
                                        {"hidden_layer_sizes": (7, 5), "activation": "tanh"}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_predictions_for_wide_sparse_rows_make_none_of_them_dense(kind: str, parameters: dict[str, Any], dtype: Any,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    X = (scipy.sparse.random(300, 2000, 0.01, format="csr", random_state=0) * 100).astype(dtype)
    y = KINDS[kind][1]
    estimator = make(kind, **parameters).fit(X, y)
    wanted = estimator._outputs(X.toarray())
    monkeypatch.setattr(sparse_rows, "WINDOW_BYTES", 100 * 12 * 8)  # of products
    with monkeypatch.context() as patch:
        patch.setattr(sparse_rows, "DenseWindow", None)
        found = estimator._outputs(X)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-4 if dtype is np.float32 else 1e-9, atol=1e-6)
    estimator.coefs_[0][:] = np.finfo(estimator.coefs_[0].dtype).max  # products are infinite
    np.testing.assert_array_equal(estimator._outputs(X), estimator._outputs(X.toarray()))


@pytest.mark.parametrize("kind", KINDS)
def test_elements_of_one_place_in_a_sparse_matrix_are_added_up(kind: str) -> None:
    X, y = KINDS[kind]
    columns = X.shape[1]
    twice = np.concatenate([np.arange(columns)] * 2)
    X = scipy.sparse.csr_matrix((np.full(300 * 2 * columns, 200, np.uint8), np.tile(twice, 300),
                                 np.arange(301) * 2 * columns), (300, columns))
    estimator = make(kind, max_iter=2).fit(X, y)
    assert_equal_weights(estimator, make(kind, max_iter=2).fit(np.full(X.shape, 400.0), y))
    np.testing.assert_array_equal(estimator._outputs(X), estimator._outputs(np.full(X.shape, 400.0)))


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_other_types_and_orders(kind: str) -> None:
    X, y = KINDS[kind]
    whole = np.rint(X * 16)
    wanted = make(kind).fit(whole, y)
    for same in (np.asfortranarray(whole), whole.astype(np.int64), whole.tolist(), np.repeat(whole, 2, axis=0)[::2]):
        assert_equal_weights(make(kind).fit(same, y), wanted)
        np.testing.assert_array_equal(wanted.predict(same), wanted.predict(whole))
    if kind == "MLPClassifier":
        assert_equal_weights(make(kind).fit(whole.astype(np.uint8), y), wanted)
        sparse = scipy.sparse.csr_matrix(whole.astype(np.uint8))
        assert_equal_weights(make(kind).fit(sparse, y), wanted)


# ---- tools of scikit-learn


@pytest.mark.parametrize("kind", KINDS)
def test_pipelines_searches_and_cross_validation(kind: str) -> None:
    X, y = KINDS[kind]
    pipeline = make_pipeline(StandardScaler(), make(kind))
    name = kind.lower()
    grid = {f"{name}__alpha": [1e-4, 1.0], f"{name}__hidden_layer_sizes": [(4,), (8, 4)]}
    scores = []
    for backend, jobs in (("loky", 2), ("threading", 2), ("sequential", 1)):
        with joblib.parallel_backend(backend):
            search = GridSearchCV(pipeline, grid, cv=2, n_jobs=jobs).fit(X, y)
        scores.append(search.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(scores[0], scores[2])
    np.testing.assert_array_equal(scores[1], scores[2])
    assert cross_val_score(make(kind), X, y, cv=2).shape == (2,)
    assert permutation_importance(make(kind).fit(X, y), X, y, n_repeats=1).importances.shape == (X.shape[1], 1)


def test_calibration_and_voting() -> None:
    X, y = DIGITS
    estimator = make("MLPClassifier", max_iter=60, hidden_layer_sizes=30, learning_rate_init=0.02)
    assert CalibratedClassifierCV(estimator, cv=2).fit(X, y).score(X, y) > 0.9
    assert VotingClassifier([("one", estimator), ("two", clone(estimator))], voting="soft").fit(X, y).score(X, y) > 0.9


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_weights_of_rows_are_routed() -> None:
    X, y = DIGITS
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = make("MLPClassifier").set_fit_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), estimator)
        pipeline.fit(X, y, sample_weight=weights)
    wanted = make("MLPClassifier").fit(StandardScaler().fit_transform(X), y, weights)
    assert_equal_weights(pipeline[-1], wanted)


# ---- copies


def through_pickle(estimator: Any) -> Any:
    return pickle.loads(pickle.dumps(estimator))


def through_joblib(estimator: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("way", [through_pickle, through_joblib, copy.deepcopy])
@pytest.mark.parametrize("parameters", [{}, {"solver": "sgd", "learning_rate": "invscaling"}, {"dropout": 0.3},
                                        {"activation": "prelu"}, {"random_state": np.random.RandomState(3)}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_in_the_middle_of_training_goes_on_with_the_same_bits(way: Any, parameters: Any, kind: str) -> None:
    X, y = KINDS[kind]
    settings = copy.deepcopy(parameters)
    classes = {"classes": np.arange(10)} if kind == "MLPClassifier" else {}
    estimator = make(kind, **settings)
    for _ in range(3):
        estimator.partial_fit(X, y, **classes)
    copied = way(estimator)
    np.testing.assert_array_equal(copied.predict(X), estimator.predict(X))
    for _ in range(3):
        copied.partial_fit(X, y)
        estimator.partial_fit(X, y)
    assert_equal_weights(copied, estimator)
    assert copied.loss_curve_ == estimator.loss_curve_
    assert len(copied.loss_curve_) == 6


@pytest.mark.parametrize("way", [through_pickle, copy.deepcopy])
@pytest.mark.parametrize("parameters", [{}, {"solver": "lbfgs"}, {"activation": "prelu"}], ids=str)
def test_a_copy_that_a_callback_makes_has_the_weights_of_then(way: Any, parameters: Any) -> None:
    X, y = DIGITS
    copies, outputs = [], []
    estimator = make("MLPClassifier", warm_start=True, **parameters)

    def note(trainer: Any, logs: dict[str, Any]) -> None:
        estimator.set_params(callbacks=None)  # they need not be copied
        copies.append(way(estimator))
        outputs.append(estimator.predict_proba(X))

    estimator.set_params(callbacks=[note]).fit(X, y)
    assert len(copies) == 8
    for copied, wanted in zip(copies, outputs, strict=True):
        np.testing.assert_array_equal(copied.predict_proba(X), wanted)
    assert not np.array_equal(outputs[0], outputs[-1])
    assert_equal_weights(copies[-1], estimator)
    np.testing.assert_array_equal(clone(estimator).set_params(warm_start=False).fit(X, y).predict_proba(X), outputs[-1])
    copies[3].coefs_[0][:] = 0.0  # what the copies have is theirs
    np.testing.assert_array_equal(copies[4].predict_proba(X), outputs[4])


# ---- weights set by hand, and the model


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_always_has_the_weights_of_the_estimator(kind: str) -> None:
    X, y = KINDS[kind]
    estimator = make(kind)
    assert not hasattr(estimator, "model_")
    estimator.fit(X, y)
    before = estimator.predict(X)
    model = estimator.model_
    assert isinstance(model, fastmlp.MLP)
    estimator.coefs_[1][:, 0] += 3.0  # in place
    np.testing.assert_array_equal(estimator.model_.get_weights()[2], estimator.coefs_[1])
    assert not np.array_equal(estimator.predict(X), before)
    estimator.coefs_[1][:, 0] -= 3.0
    np.testing.assert_allclose(estimator.predict(X).astype(float), before.astype(float))
    estimator.intercepts_ = [np.zeros(len(bias)) for bias in estimator.intercepts_]
    assert not estimator.model_.get_weights()[1].any()
    estimator.coefs_ = [np.ones((X.shape[1], 5)), np.ones((5, estimator.n_outputs_))]  # another network
    estimator.intercepts_ = [np.zeros(5), np.zeros(estimator.n_outputs_)]
    assert [layer.units for layer in estimator.model_.layers] == [5, estimator.n_outputs_]
    estimator.predict(X)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_and_the_estimator_leave_one_another_alone(kind: str) -> None:
    X, y = KINDS[kind]
    estimator = make(kind).fit(X, y)
    model, before = estimator.model_, estimator.predict(X)
    outputs = model.forward(X)
    estimator.partial_fit(X, y)
    make(kind, warm_start=True).fit(X, y)
    np.testing.assert_array_equal(model.forward(X), outputs)
    estimator = make(kind).fit(X, y)
    estimator.model_.set_weights(0 * weights for weights in model.get_weights())
    fastmlp.Trainer(estimator.model_, "cross_entropy" if kind == "MLPClassifier" else "mean_squared_error").step(X, y)
    np.testing.assert_array_equal(estimator.predict(X), before)


@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_from_weights_set_by_hand_as_theirs_does(kind: str) -> None:
    X, y = KINDS[kind]
    ours, theirs = make(kind), getattr(sklearn.neural_network, kind)(**SMALL)
    for estimator in (ours, theirs):
        estimator.fit(X, y)
        estimator.coefs_[0][:] = np.random.default_rng(1).normal(0, 0.1, estimator.coefs_[0].shape)
        estimator.intercepts_[1][:] = 0.5
        estimator.partial_fit(X, y)
        estimator.partial_fit(X, y)
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=1e-9, atol=1e-12)
    ours.coefs_ = ours.coefs_[:1]
    with pytest.raises(ValueError, match="coefs_ must be"):
        ours.partial_fit(X, y)


# ---- threads


def test_n_jobs_holds_for_the_estimator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = DIGITS
    seen = []
    original = fastmlp.engine.training_call

    def noting(*arguments: Any, **options: Any) -> Any:
        seen.append(fastmlp.get_num_threads())
        return original(*arguments, **options)

    monkeypatch.setattr(fastmlp.engine, "training_call", noting)
    before = fastmlp.get_num_threads()
    one, all_of_them, default = (make("MLPClassifier", n_jobs=n_jobs) for n_jobs in (1, -1, None))
    for estimator in (one, all_of_them, default):
        assert fastmlp.get_num_threads() == before
        estimator.fit(X, y)
    assert seen == [1, fastmlp.threads.available_threads(), before]
    assert fastmlp.get_num_threads() == before
    assert_equal_weights(one, all_of_them)
    with pytest.raises(ValueError, match="n_jobs"):
        make("MLPClassifier", n_jobs=0).fit(X, y)


def test_fits_in_several_threads_leave_the_number_of_threads_alone() -> None:
    before = fastmlp.get_num_threads()
    estimators = [make("MLPClassifier", n_jobs=number % 2 + 1, max_iter=20) for number in range(6)]
    threads = [threading.Thread(target=estimator.fit, args=DIGITS) for estimator in estimators]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fastmlp.get_num_threads() == before
    for estimator in estimators[1:]:
        assert_equal_weights(estimator, estimators[0])


def predict_in_threads(estimator: Any, X: Any, during: Any) -> list[Any]:
    """Call a function while two threads predict; return what they raised."""
    problems: list[Any] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                estimator.predict(X)
            except Exception as problem:
                problems.append(problem)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        during()
    finally:
        done.set()
        for reader in readers:
            reader.join()
    return problems


def test_predictions_in_other_threads_do_not_change_training() -> None:
    X, y = DIGITS
    estimator, alone = (make("MLPClassifier").fit(X, y) for _ in range(2))

    def train(estimator: Any) -> None:
        for number in range(150):
            if number == 50:
                estimator.coefs_[0][0] += 0.01  # by hand
            estimator.partial_fit(X, y)

    assert predict_in_threads(estimator, X[:5], lambda: train(estimator)) == []
    train(alone)
    assert_equal_weights(estimator, alone)
    np.testing.assert_array_equal(estimator.predict(X), alone.predict(X))


def test_a_prediction_never_writes_to_the_network_that_was_trained() -> None:
    X, y = DIGITS
    models: list[Any] = []
    estimator = make("MLPClassifier", callbacks=[lambda trainer, logs: models.append(trainer.model)]).fit(X, y)
    trained = models[0].get_weights()
    estimator.coefs_[0][:] = 0.0
    estimator.predict(X)
    np.testing.assert_array_equal(models[0].get_weights()[0], trained[0])


def test_threads_that_make_the_network_at_once_all_predict_with_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = DIGITS
    fitted = make("MLPClassifier", solver="lbfgs").fit(X, y)
    wanted, estimator = fitted.predict_proba(X), through_pickle(fitted)
    entered = {"first": threading.Event(), "second": threading.Event()}
    both, first_is_done = threading.Barrier(2, timeout=10), threading.Event()
    make_model, set_weights = fastmlp.MLP.__init__, fastmlp.MLP.set_weights

    def slow_init(model: Any, *arguments: Any, **options: Any) -> None:
        make_model(model, *arguments, **options)
        both.wait()
        if threading.current_thread().name == "second":
            entered["first"].wait(2)

    def slow_set_weights(model: Any, weights: Any) -> None:
        name = threading.current_thread().name
        entered[name].set()
        entered["second"].wait(2)
        if name == "second":
            first_is_done.wait(2)
        set_weights(model, weights)

    predicted = []

    def predict(times: int) -> None:
        predicted.extend(estimator.predict_proba(X) for _ in range(times))
        first_is_done.set()

    monkeypatch.setattr(fastmlp.MLP, "__init__", slow_init)
    monkeypatch.setattr(fastmlp.MLP, "set_weights", slow_set_weights)
    threads = [threading.Thread(target=predict, args=(times,), name=name)
               for name, times in (("first", 2), ("second", 1))]
    for thread in threads[::-1]:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(predicted) == 3
    for outputs in predicted:
        np.testing.assert_array_equal(outputs, wanted)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("way", [lambda estimator: estimator, through_pickle], ids=["fitted", "unpickled"])
def test_a_prediction_adds_no_attribute(way: Any, solver: str) -> None:
    estimator = way(make("MLPClassifier", solver=solver).fit(*DIGITS))
    names = set(vars(estimator))  # other threads may go through them
    estimator.predict(DIGITS[0])
    assert set(vars(estimator)) == names


# ---- errors


def test_an_error_after_the_first_weights_were_drawn_leaves_the_network_as_it_was() -> None:
    X, y = DIGITS
    estimator = make("MLPClassifier").fit(X, y)
    before = estimator.predict_proba(X)
    estimator.set_params(random_state=1, schedule=fastmlp.schedules.ReduceOnPlateau(monitor="val_loss"))
    with pytest.raises(ValueError, match="X_val"):
        estimator.fit(X, y)
    np.testing.assert_array_equal(estimator.predict_proba(X), before)


@pytest.mark.parametrize(("parameters", "name"), [
    ({"alpha": -1}, "alpha"), ({"solver": "newton"}, "solver"), ({"batch_size": 0}, "batch_size"),
    ({"hidden_layer_sizes": (5, 0)}, "hidden_layer_sizes"), ({"hidden_layer_sizes": 2.5}, "hidden_layer_sizes"),
    ({"activation": "cube"}, "activation"), ({"activation": ["relu", "tanh"]}, "activation"),
    ({"activation": 3}, "activation"), ({"dropout": 1.5}, "dropout"), ({"dropout": [0.1, 0.1]}, "dropout"),
    ({"optimizer": "newton"}, "optimizer"), ({"loss": "log"}, "loss"), ({"loss": 3}, "loss"),
    ({"schedule": "never"}, "schedule"), ({"callbacks": 3}, "callbacks"), ({"progress": "yes"}, "progress"),
    ({"learning_rate_init": 0.0}, "learning_rate_init"), ({"keep_optimizer": "yes"}, "keep_optimizer"),
    ({"activation": None}, "activation"), ({"epsilon": 1e-30}, "epsilon"),
    ({"solver": "lbfgs", "dropout": 0.1}, "dropout"), ({"solver": "lbfgs", "schedule": "cosine"}, "schedule"),
    ({"schedule": fastmlp.schedules.ReduceOnPlateau(monitor="val_loss")}, "X_val"),
], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_names_the_parameter_and_changes_nothing(parameters: Any, name: str, kind: str) -> None:
    X, y = KINDS[kind]
    estimator = make(kind).fit(X, y)
    random_state = np.random.RandomState(0)
    estimator.set_params(random_state=random_state, **parameters)
    before = {key: copy.deepcopy(value) for key, value in vars(estimator).items() if key.endswith("_")}
    with pytest.raises(ValueError if name == "X_val" else InvalidParameterError, match=name):
        estimator.fit(X[:, :5], y)
    assert random_state.randint(1 << 30) == np.random.RandomState(0).randint(1 << 30)
    after = {key: value for key, value in vars(estimator).items() if key.endswith("_")}
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_equal(after[key], value)


@pytest.mark.parametrize(("arguments", "name"), [
    ({"sample_weight": np.full(300, -1.0)}, "sample_weight"), ({"sample_weight": np.zeros(300)}, "(?i)sample.weight"),
    ({"sample_weight": np.ones(3)}, "sample_weight"), ({"X_val": DIGITS[0]}, "X_val and y_val"),
    ({"y_val": DIGITS[1]}, "X_val and y_val"), ({"X_val": DIGITS[0][:, :3], "y_val": DIGITS[1]}, "X has 3 features"),
    ({"X_val": DIGITS[0], "y_val": DIGITS[1] + 100}, "y_val"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_an_error_names_the_argument_and_changes_nothing(arguments: Any, name: str) -> None:
    estimator = make("MLPClassifier")
    with pytest.raises(ValueError, match=name):
        estimator.fit(*DIGITS, **arguments)
    assert not [key for key in vars(estimator) if key.endswith("_")]
    with pytest.raises(NotFittedError):
        estimator.predict(DIGITS[0])


def test_partial_fit_is_not_there_for_lbfgs_nor_probabilities_for_hinge() -> None:
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    assert not hasattr(MLPRegressor(optimizer=fastmlp.LBFGS()), "partial_fit")
    assert hasattr(MLPClassifier(solver="lbfgs", optimizer="sgd"), "partial_fit")
    assert not hasattr(MLPClassifier(loss="hinge"), "predict_proba")


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_weights_that_are_not_finite_are_an_error(solver: str) -> None:
    X, y = DIABETES
    with pytest.raises(ValueError, match="non-finite parameter weights"), np.errstate(all="ignore"):
        make("MLPRegressor", solver=solver).fit(X * 1e300, y * 1e200)


def test_divergence_with_early_stopping_goes_back_to_the_best_weights() -> None:
    estimator = make("MLPRegressor", solver="sgd", learning_rate_init=3.0, early_stopping=True, activation="identity",
                     max_iter=200)
    with pytest.warns(fastmlp.DivergenceWarning):
        estimator.fit(*DIABETES)
    assert np.isfinite(estimator.coefs_[0]).all()
    assert np.isnan(estimator.validation_scores_[-1])
    assert np.isnan(estimator.loss_)
    assert len(estimator.loss_curve_) == len(estimator.validation_scores_) == estimator.n_iter_ < 200


def test_an_interruption_ends_training_with_a_warning() -> None:
    def interrupt(trainer: Any, logs: dict[str, Any]) -> None:
        if logs["epoch"] == 2:
            raise KeyboardInterrupt

    estimator = make("MLPClassifier", callbacks=[interrupt])
    with pytest.warns(UserWarning, match="interrupted"):
        estimator.fit(*DIGITS)
    assert estimator.n_iter_ == 3
    assert_equal_weights(estimator, make("MLPClassifier", max_iter=3).fit(*DIGITS))


def test_verbose_training_prints_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    make("MLPClassifier", verbose=True, early_stopping=True, tol=10.0, n_iter_no_change=1).fit(*DIGITS)
    printed = capsys.readouterr().out
    assert "Iteration 1, loss = " in printed
    assert "Validation score: " in printed
    assert "did not improve more than tol=10.0" in printed
    make("MLPClassifier", verbose=True, solver="lbfgs").fit(*DIGITS)
    assert "Iteration 8, loss = " in capsys.readouterr().out


@pytest.mark.parametrize("parameters", [{"early_stopping": True}, {"solver": "sgd", "learning_rate": "adaptive"},
                                        {"solver": "sgd"}, {}], ids=str)
def test_verbose_training_tells_why_it_stops_as_theirs_does(parameters: Any,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    settings = SMALL | parameters | {"verbose": True, "tol": 10.0, "n_iter_no_change": 1, "learning_rate_init": 1e-5}
    told = []
    for module in (fastmlp, sklearn.neural_network):
        module.MLPClassifier(**settings).fit(*DIGITS)
        lines = capsys.readouterr().out.splitlines()
        told.append([line for line in lines if "loss = " not in line])
    assert told[0] == told[1]
    assert told[0][-1].endswith("Stopping.")


class WithAParameter(MLPClassifier):  # type: ignore[misc]
    """An estimator of a user's own."""

    def __init__(self, hidden_layer_sizes: Any = (5,), max_iter: int = 3, extra: int = 1) -> None:
        super().__init__(hidden_layer_sizes, max_iter=max_iter)
        self.extra = extra


def test_a_subclass_may_have_parameters_of_its_own() -> None:
    estimator = clone(WithAParameter(extra=2))
    assert estimator.get_params() == {"hidden_layer_sizes": (5,), "max_iter": 3, "extra": 2}
    assert estimator.fit(*DIGITS).predict(DIGITS[0]).shape == (300,)
