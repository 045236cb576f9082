"""Epochs of the estimators that go through one compiled call: as many as make no difference, and with the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

import fastmlp
from fastmlp import MLP, Dense, Maxout, engine
from fastmlp.kernels import layout
from fastmlp.kernels.deferred import sum_squared_weights
from fastmlp.kernels.linking import kernel_table
from fastmlp.schedules import ReduceOnPlateau
from fastmlp.sklearn import fits
from fastmlp.thread_choice import ThreadChoice

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)
X, Y = X[:330] / 16, Y[:330]
WEIGHTS = np.random.default_rng(0).integers(0, 3, len(Y)).astype(float)


@pytest.fixture
def slices(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of steps of each compiled call of training, in the order in which they were made."""
    made: list[int] = []
    train = engine.Call.train

    def counted(call: Any, threads: int) -> None:
        train(call, threads)
        made.append(int(call.context[layout.STEPS_DONE] - call.context[layout.FIRST_STEP]))

    monkeypatch.setattr(engine.Call, "train", counted)
    return made


def take_slices_of(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one thread train for so long at a time, however fast the machine is."""
    monkeypatch.setattr(ThreadChoice, "next", lambda choice: (1, seconds))
    monkeypatch.setattr(ThreadChoice, "report", lambda *arguments: None)


def fitted(**parameters: Any) -> Any:
    settings = {"hidden_layer_sizes": (20,), "batch_size": 100, "max_iter": 60, "random_state": 0} | parameters
    return fastmlp.MLPClassifier(**settings).fit(X, Y, sample_weight=WEIGHTS if "alpha" in parameters else None)


@pytest.mark.parametrize("parameters", [
    {},
    {"alpha": 1.0},  # weighted rows, whose losses go by the order of each epoch
    {"shuffle": False},
    {"tol": 0.05, "n_iter_no_change": 4},
    {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.2, "tol": 0.05, "n_iter_no_change": 2},
    {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.5},
    {"early_stopping": True, "n_iter_no_change": 3},
    {"dropout": 0.3},
    {"schedule": "cosine"},
    {"schedule": ReduceOnPlateau("loss"), "solver": "sgd"},
], ids=lambda parameters: " ".join(map(str, parameters.values())))
def test_the_course_of_training_does_not_depend_on_it(parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    many = fitted(verbose=True, **parameters)
    printed = capsys.readouterr().out
    monkeypatch.setattr(fits, "MOST_EPOCHS_AT_ONCE", 1)
    one = fitted(verbose=True, **parameters)
    assert printed == capsys.readouterr().out
    assert (many.n_iter_, many.t_, many.loss_) == (one.n_iter_, one.t_, one.loss_)
    assert many.loss_curve_ == one.loss_curve_
    for ours, expected in zip(many.coefs_ + many.intercepts_, one.coefs_ + one.intercepts_, strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_as_many_epochs_as_training_may_go_on_for(slices: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "SLICE_SECONDS", 1e9)
    take_slices_of(1e9, monkeypatch)
    fitted(max_iter=25, tol=0.0)
    assert slices == [44, 44, 12]  # 4 steps an epoch; 11 epochs without improvement would end training
    slices.clear()
    estimator = fitted(max_iter=200, tol=1e9, n_iter_no_change=3)  # only the first epoch is better than none
    assert estimator.n_iter_ == 5
    assert slices == [16, 4]


@pytest.mark.parametrize("parameters", [
    {"early_stopping": True}, {"callbacks": [lambda trainer, logs: None]},
    {"solver": "sgd", "learning_rate": "invscaling"}, {"schedule": ReduceOnPlateau("loss"), "solver": "sgd"},
], ids=lambda parameters: " ".join(map(str, parameters)))
def test_one_by_one_where_something_is_done_between_them(parameters: dict[str, Any], slices: list[int]) -> None:
    fitted(max_iter=12, **parameters)
    assert max(slices) <= 4


def test_memory_for_the_orders_has_a_limit(slices: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "SLICE_SECONDS", 1e9)
    take_slices_of(1e9, monkeypatch)
    fitted(max_iter=100, n_iter_no_change=np.inf)
    assert slices == [4 * fits.MOST_EPOCHS_AT_ONCE, 4 * (100 - fits.MOST_EPOCHS_AT_ONCE)]


def test_slices_that_end_within_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fitted()
    take_slices_of(0.0, monkeypatch)  # a step each
    assert fitted().loss_curve_ == whole.loss_curve_


def test_an_interruption_within_a_call_keeps_the_epochs_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    train = engine.Call.train

    def interrupted(call: Any, threads: int) -> None:
        train(call, threads)
        if call.context[layout.STEPS_DONE] >= 60:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine.Call, "train", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        estimator = fitted()
    monkeypatch.undo()
    assert estimator.n_iter_ == len(estimator.loss_curve_) >= 15
    with pytest.warns(ConvergenceWarning):
        expected = fitted(max_iter=estimator.n_iter_)
    assert estimator.loss_curve_ == expected.loss_curve_


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layers", [
    [3, 1], [77, 33, 5], [17, Dense(33, "prelu"), Maxout(20, 3), Dense(10, "softmax")],
], ids=["one unit", "odd sizes", "slopes and pieces"])
def test_the_sum_of_the_squares_of_all_weights(layers: list[Any], dtype: Any) -> None:
    model = MLP(layers, dtype=dtype)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=array.shape) for array in model.get_weights()])
    call = engine.training_call(model.network, 8)
    sums = np.full(3, -1.0)
    call.keep(layout.SQUARED_WEIGHTS, sums)
    sum_squared_weights(kernel_table(model.dtype, sum_squared_weights), call.context, model.network.parameters, 1)
    expected = sum(float((array.astype(np.float64) ** 2).sum()) for array in model.get_weights() if array.ndim == 2)
    np.testing.assert_allclose(sums, [-1.0, expected, -1.0], rtol=1e-5 if dtype is np.float32 else 1e-13)
