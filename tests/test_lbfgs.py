"""L-BFGS through SciPy: what it minimises, that it does, what is recorded, how it stops, and what it refuses."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import bits
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.neural_network import MLPClassifier, MLPRegressor

from fastmlp import (
    MLP,
    Augmentation,
    Callback,
    CSVLogger,
    Dense,
    DivergenceWarning,
    EarlyStopping,
    LearningRateLogger,
    Maxout,
    Trainer,
    engine,
)
from fastmlp.kernels import layout
from fastmlp.lbfgs import Minimisation
from fastmlp.optimizers import LBFGS, check_optimizer

Array = np.ndarray[Any, Any]

# Padded panels, several panels, slopes of units and shared slopes, pieces of maxout.
MODELS: dict[str, list[Any]] = {
    "dense": [6, 8, 3],
    "wide": [6, 130, 3],
    "no hidden layer": [6, 3],
    "prelu": [6, Dense(7, "prelu"), 3],
    "shared prelu": [6, Dense(7, "prelu", shared=True), Dense(5, "prelu", shared=True), 3],
    "maxout": [6, Maxout(5, 3), 3],
}


def make_data(rows: int = 80, seed: int = 0) -> tuple[Array, Array]:
    """Inputs and labels that have something to do with one another, though not everything."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 6))
    return X, (X @ rng.normal(size=(6, 3)) + rng.normal(size=(rows, 3))).argmax(axis=1)


def make_trainer(name: str = "dense", dtype: str = "float64", **settings: Any) -> Trainer:
    return Trainer(MLP(MODELS[name], activation="tanh", dtype=dtype, seed=1), optimizer="lbfgs", **settings)


def fit(trainer: Trainer, epochs: int = 10, rows: int = 80, **arguments: Any) -> Trainer:
    trainer.fit(*make_data(rows), epochs=epochs, progress=False, **arguments)
    return trainer


def flat(arrays: list[Array]) -> Array:
    return np.concatenate([array.ravel() for array in arrays])


def minimisation(trainer: Trainer, rows: int = 80) -> Minimisation:
    source, targets = trainer._check_data(*make_data(rows))
    return Minimisation(trainer, source, targets, None, 10, [], False)


class Plain:
    """The same objective from the public parts of a model: what SciPy should see."""

    def __init__(self, trainer: Trainer, l2: float = 0.0, biases: bool = False) -> None:
        self.model = copy.deepcopy(trainer.model)
        self.shapes = [array.shape for array in self.model.get_weights()]
        names = [name for names in layout.array_names(self.model.network.table) for name in names]
        self.decay = flat([np.full(shape, l2 * (name == "weights" or (name == "bias" and biases)))
                           for name, shape in zip(names, self.shapes, strict=True)])

    def __call__(self, x: Array) -> tuple[float, Array]:
        cuts = np.cumsum([int(np.prod(shape)) for shape in self.shapes])[:-1]
        self.model.set_weights([part.reshape(shape) for part, shape in zip(np.split(x, cuts), self.shapes,
                                                                           strict=True)])
        loss, gradients = self.model.loss_and_gradients(*make_data())
        gradient = flat(gradients).astype(np.float64)
        return loss + 0.5 * (self.decay * x**2).sum(), gradient + self.decay * x


# ---- what is minimised


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("l2", "biases"), [(0.0, False), (0.3, False), (0.3, True)])
def test_scipy_sees_the_loss_and_the_gradient_by_every_parameter_once(name: str, dtype: str, l2: float,
                                                                      biases: bool) -> None:
    trainer = make_trainer(name, dtype, l2=l2, regularise_biases=biases)
    run, plain = minimisation(trainer), Plain(trainer, l2, biases)
    x = run._get_parameters()
    assert x.dtype == np.float64
    assert len(x) == trainer.model.parameter_count
    np.testing.assert_array_equal(x, flat(trainer.model.get_weights()))
    for _ in range(3):  # one call, used again
        found, expected = run.objective(x), plain(x)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-12, atol=1e-14)
        assert found[1].dtype == np.float64
        x = x - 0.1 * found[1]


@pytest.mark.parametrize("name", MODELS)
def test_the_gradient_is_that_of_the_objective(name: str) -> None:
    run = minimisation(make_trainer(name, l2=0.2))
    x = run._get_parameters()
    gradient = run.objective(x)[1]
    rng = np.random.default_rng(0)
    for _ in range(5):
        direction = rng.normal(size=len(x))
        h = 1e-6
        slope = (run.objective(x + h * direction)[0] - run.objective(x - h * direction)[0]) / (2 * h)
        assert slope == pytest.approx(gradient @ direction, rel=1e-6, abs=1e-8)


@settings(deadline=None)
@given(units=st.lists(st.integers(1, 40), min_size=1, max_size=4), wide=st.booleans(), shared=st.booleans())
def test_parameters_go_to_scipy_and_back(units: list[int], wide: bool, shared: bool) -> None:
    hidden = [Dense(count, "prelu", shared=shared) for count in units]
    model = MLP([6, *hidden, 3], dtype="float64" if wide else "float32")
    run = minimisation(Trainer(model, optimizer="lbfgs"), rows=4)
    before = model.network.parameters.copy()
    x = run._get_parameters()
    np.testing.assert_array_equal(x, flat(model.get_weights()))
    run._set_parameters(x + 1.0)
    for moved, weights in zip(model.get_weights(), np.split(x, np.cumsum([w.size for w in model.get_weights()])[:-1]),
                              strict=True):
        np.testing.assert_array_equal(moved.ravel(), (weights + 1.0).astype(model.dtype))
    run._set_parameters(x)
    np.testing.assert_array_equal(model.network.parameters, before)  # repeated slopes and padding, too


def test_rows_that_do_not_fit_into_a_pass_and_many_rows_count_all() -> None:
    for rows in (engine.MOST_PASS_ROWS + 7, 3 * engine.MOST_PASS_ROWS):
        for name in ("dense", "wide"):
            trainer = make_trainer(name)
            run = minimisation(trainer, rows)
            expected = trainer.model.loss_and_gradients(*make_data(rows))
            found = run.objective(run._get_parameters())
            assert found[0] == pytest.approx(expected[0], rel=1e-12)
            np.testing.assert_allclose(found[1], flat(expected[1]), rtol=1e-9, atol=1e-12)
            assert run.call.rows <= engine.MOST_PASS_ROWS  # the memory of a pass


# ---- that it is minimised


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_the_iterates_are_those_of_scipy_on_the_plain_objective(name: str, l2: float) -> None:
    """Also where units share a slope, which lies in memory several times."""
    trainer = make_trainer(name, l2=l2)
    plain, losses = Plain(trainer, l2), []

    def note(x: Array) -> None:
        losses.append(plain(x)[0] - 0.5 * float((plain.decay * x**2).sum()))

    result = minimize(plain, flat(trainer.model.get_weights()), jac=True, method="L-BFGS-B", callback=note,
                      options={"maxiter": 15, "gtol": 1e-5})
    fit(trainer, epochs=15)
    np.testing.assert_allclose(trainer.history["loss"], losses, rtol=1e-6)
    np.testing.assert_allclose(flat(trainer.model.get_weights()), result.x, rtol=0, atol=1e-5)
    assert trainer.history[-1]["message"] == result.message


def start_like(network: Any, model: MLP, X: Array, y: Array) -> None:
    """Give a network of scikit-learn the weights of a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has not converged
        network.set_params(max_iter=1).fit(X, y)
    weights = model.get_weights()
    network.coefs_, network.intercepts_ = weights[::2], weights[1::2]
    network.set_params(max_iter=400, warm_start=True)


def penalty(model: MLP, l2: float) -> float:
    return 0.5 * l2 * sum(float((W**2).sum()) for W in model.get_weights()[::2])


@pytest.mark.parametrize("alpha", [0.3, 3.0])
@pytest.mark.parametrize("activation", ["tanh", "logistic"])
def test_classification_ends_with_the_loss_of_scikit_learn(alpha: float, activation: str) -> None:
    X, y = make_data()
    own = "sigmoid" if activation == "logistic" else activation
    model = MLP([6, 8, 3], activation=own, dtype="float64", seed=1)
    network = MLPClassifier(hidden_layer_sizes=(8,), activation=activation, solver="lbfgs", alpha=alpha, tol=1e-6)
    start_like(network, model, X, y)
    network.fit(X, y)
    l2 = alpha / len(X)
    trainer = Trainer(model, optimizer=LBFGS(tolerance=1e-6), l2=l2)
    trainer.fit(X, y, epochs=400, progress=False)
    assert trainer.evaluate(X, y)["loss"] + penalty(model, l2) == pytest.approx(network.loss_, abs=1e-6)
    np.testing.assert_array_equal(model.predict(X), network.predict(X))


def test_regression_ends_with_the_loss_of_scikit_learn() -> None:
    X, _ = make_data()
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]
    model = MLP([6, 8, 1], activation="tanh", output="identity", dtype="float64", seed=1)
    network = MLPRegressor(hidden_layer_sizes=(8,), activation="tanh", solver="lbfgs", alpha=1.0, tol=1e-6)
    start_like(network, model, X, y)
    network.fit(X, y)
    trainer = Trainer(model, "half_squared_error", LBFGS(tolerance=1e-6), l2=1.0 / len(X))
    trainer.fit(X, y, epochs=400, progress=False)
    assert trainer.evaluate(X, y)["loss"] + penalty(model, 1.0 / len(X)) == pytest.approx(network.loss_, abs=1e-6)


def test_float32_comes_close_to_float64() -> None:
    results = [fit(make_trainer(dtype=dtype, l2=0.01), epochs=200).history[-1]["loss"]
               for dtype in ("float32", "float64")]
    assert results[0] == pytest.approx(results[1], rel=1e-3)


def test_weights_of_samples_count_as_rows_do() -> None:
    X, y = make_data()
    counts = np.random.default_rng(1).integers(0, 4, len(X))
    weighted, repeated = make_trainer(l2=0.05), make_trainer(l2=0.05)
    weighted.fit(X, y, epochs=20, progress=False, sample_weight=counts)
    repeated.fit(np.repeat(X, counts, axis=0), np.repeat(y, counts), epochs=20, progress=False)
    np.testing.assert_allclose(weighted.history["loss"], repeated.history["loss"], rtol=1e-6)


def test_weights_of_classes_count() -> None:
    X, y = make_data()
    by_class, by_row = make_trainer(l2=0.05), make_trainer(l2=0.05)
    by_class.fit(X, y, epochs=20, progress=False, class_weight={0: 3.0, 2: 0.5})
    by_row.fit(X, y, epochs=20, progress=False, sample_weight=np.array([3.0, 1.0, 0.5])[y])
    assert bits(by_class) == bits(by_row) != bits(fit(make_trainer(l2=0.05), epochs=20))


def test_settings_of_batches_play_no_part() -> None:
    plain = bits(fit(make_trainer()))
    assert bits(fit(make_trainer(batch_size=7, accumulation=2, seed=5, learning_rate=3.0))) == plain
    assert bits(fit(make_trainer(), shuffle=False)) == plain


def test_one_thread_and_two_give_the_same_bits(threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LEAST_PARALLEL_WORK", 1)
    results = []
    for number in (1, 2):
        threads(number)
        results.append(bits(fit(make_trainer("wide", "float32"), epochs=8, rows=300)))
    assert results[0] == results[1]


# ---- what is recorded, and when it stops


def test_what_the_history_holds() -> None:
    X, y = make_data()
    trainer = make_trainer(metrics=["f1"])
    history = trainer.fit(X, y, epochs=5, validation_data=(X[:20], y[:20]), progress=False)
    assert history is trainer.history
    assert history["epoch"] == [0, 1, 2, 3, 4]
    assert trainer.epochs == trainer.steps == 5
    assert set(history[0]) == {"epoch", "loss", "samples_per_second", "f1", "val_loss", "val_accuracy", "val_f1"}
    assert set(history[-1]) - set(history[0]) == {"message"}
    assert "ITERATIONS" in history[-1]["message"].upper()
    end = trainer.evaluate(X, y)
    assert history[-1]["loss"] == pytest.approx(end["loss"], rel=1e-12)
    assert history[-1]["f1"] == end["f1"]
    assert history[-1]["val_loss"] == trainer.evaluate(X[:20], y[:20])["loss"]
    assert history[-1]["samples_per_second"] > 0


def test_losses_fall_and_are_without_the_penalty() -> None:
    trainer = fit(make_trainer(l2=0.1), epochs=30)
    losses = trainer.history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    assert losses[-1] == pytest.approx(trainer.evaluate(*make_data())["loss"], rel=1e-12)


def test_it_stops_where_the_gradient_is_small_enough() -> None:
    made = [0]
    for tolerance in (1e-2, 1e-3, 1e-4):
        trainer = Trainer(make_trainer().model, optimizer=LBFGS(tolerance=tolerance), l2=0.1)
        history = fit(trainer, epochs=1000).history
        assert made[-1] < len(history) < 1000
        made.append(len(history))
        assert "CONVERGENCE" in history[-1]["message"]
        assert np.abs(Plain(trainer, 0.1)(flat(trainer.model.get_weights()))[1]).max() <= tolerance


def test_at_a_minimum_there_is_nothing_to_do() -> None:
    trainer = fit(make_trainer(l2=0.1), epochs=1000)
    made, before = len(trainer.history), bits(trainer)
    trainer = Trainer(trainer.model, optimizer=LBFGS(tolerance=0.1), l2=0.1)
    assert len(fit(trainer).history) == 0
    assert bits(trainer) == before
    assert made > 0


def test_evaluations_are_limited() -> None:
    trainer = Trainer(make_trainer().model, optimizer=LBFGS(max_evaluations=5))
    assert 1 <= len(fit(trainer, epochs=100).history) <= 5
    assert "EVALUATIONS" in trainer.history[-1]["message"]


def test_the_memory_makes_a_difference() -> None:
    short, long = (Trainer(make_trainer().model, optimizer=LBFGS(memory=memory)) for memory in (1, 10))
    assert bits(fit(short, epochs=15)) != bits(fit(long, epochs=15))


def test_fit_called_again_goes_on_from_the_weights() -> None:
    trainer = fit(fit(make_trainer(), epochs=5), epochs=5)
    assert trainer.history["epoch"] == list(range(10))
    assert trainer.history["loss"][5] < trainer.history["loss"][4]
    assert [("message" in record) for record in trainer.history] == [number in (4, 9) for number in range(10)]


@pytest.mark.parametrize("way", ["copy", "pickle"])
def test_a_copy_of_a_trainer_goes_on_by_itself(way: str) -> None:
    trainer = fit(make_trainer("shared prelu"), epochs=3)
    other = copy.deepcopy(trainer) if way == "copy" else pickle.loads(pickle.dumps(trainer))
    before = bits(trainer)
    fit(other, epochs=4)
    assert bits(trainer) == before
    assert bits(fit(trainer, epochs=4)) == bits(other)


# ---- callbacks


class Recorder(Callback):
    """Takes note of what it is told, and may stop training after an epoch."""

    def __init__(self, last: int | None = None) -> None:
        self.events: list[Any] = []
        self.last = last

    def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        self.events.append("begin")

    def on_train_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        self.events.append("end")

    def on_epoch_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        self.events.append(("epoch begins", logs["epoch"]))

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        self.events.append(("epoch ends", logs["epoch"], trainer.evaluate(*make_data())["loss"], dict(logs)))
        if logs["epoch"] == self.last:
            trainer.stop_training = True


def test_callbacks_see_every_iteration_and_the_weights_after_it() -> None:
    recorder, running = Recorder(), []
    trainer = make_trainer()
    history = fit(trainer, epochs=4, callbacks=[recorder, lambda trainer, logs: running.append(trainer.callbacks[0])]
                  ).history
    assert running == [recorder] * 4
    assert trainer.callbacks == []
    assert [event if isinstance(event, str) else event[:2] for event in recorder.events] == [
        "begin", *((event, epoch) for epoch in range(4) for event in ("epoch begins", "epoch ends")), "end"]
    for epoch, (_, _, loss, logs) in enumerate(recorder.events[2:-1:2]):
        assert loss == pytest.approx(history[epoch]["loss"], rel=1e-12)
        assert logs == {name: value for name, value in history[epoch].items() if name != "message"}


def test_stop_training_ends_fit_with_the_weights_of_that_iteration() -> None:
    recorder = Recorder(last=2)
    trainer = fit(make_trainer(), epochs=50, callbacks=[recorder])
    assert trainer.history["epoch"] == [0, 1, 2]
    assert recorder.events[-1] == "end"
    assert bits(trainer) == bits(fit(make_trainer(), epochs=3))
    fit(trainer, epochs=2)  # the next call begins anew
    assert len(trainer.history) == 5


def test_stop_training_before_the_first_iteration() -> None:
    class Stop(Callback):
        def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
            trainer.stop_training = True

    trainer = fit(make_trainer(), callbacks=[Stop()])
    assert len(trainer.history) == 0
    assert bits(trainer) == bits(make_trainer())


def test_weights_set_when_training_begins_are_those_it_begins_with() -> None:
    other = MLP(MODELS["dense"], activation="tanh", dtype="float64", seed=9)

    class Begin(Callback):
        def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
            trainer.model.set_weights(other.get_weights())

    trainer = fit(make_trainer(), callbacks=[Begin()])
    assert bits(trainer) == bits(fit(Trainer(other, optimizer="lbfgs")))


def test_early_stopping_goes_back_to_the_best_weights() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 6)), rng.integers(0, 3, 60)  # nothing to learn but by heart
    trainer = make_trainer()
    stopping = EarlyStopping(patience=3)
    history = trainer.fit(X, y, epochs=300, validation_split=0.5, callbacks=[stopping], progress=False)
    assert len(history) < 300
    assert trainer.evaluate(X[30:], y[30:])["loss"] == stopping.best_value == min(history["val_loss"])


def test_an_error_in_a_callback_comes_through_and_leaves_the_trainer_usable() -> None:
    def fail(trainer: Any, logs: dict[str, Any]) -> None:
        if logs["epoch"] == 1:
            raise RuntimeError("from a callback")

    trainer = make_trainer()
    with pytest.raises(RuntimeError, match="from a callback"):
        fit(trainer, callbacks=[fail])
    assert bits(trainer) == bits(fit(make_trainer(), epochs=2))
    assert len(fit(trainer, epochs=2).history) == 4


def test_a_trainer_is_not_used_from_its_own_callback() -> None:
    trainer = make_trainer()
    with pytest.raises(RuntimeError, match="training already"):
        fit(trainer, callbacks=[lambda trainer, logs: fit(trainer)])


def test_records_can_be_written_to_a_file(tmp_path: Any) -> None:
    fit(make_trainer(), epochs=3, callbacks=[CSVLogger(tmp_path / "log.csv")])
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4


def test_the_progress_bar_counts_iterations(capsys: pytest.CaptureFixture[str]) -> None:
    make_trainer().fit(*make_data(), epochs=3)
    shown = capsys.readouterr().err
    assert "epoch 3/3" in shown
    assert "100%" in shown
    assert "loss=" in shown


# ---- interruption and divergence


def at_evaluation(monkeypatch: pytest.MonkeyPatch, number: int, action: Callable[[engine.Call], None]) -> None:
    """Let something happen when the loss and its gradient are computed for the time `number`, from 1."""
    original = engine.Call.train
    count = 0

    def train(call: engine.Call, threads: int) -> None:
        nonlocal count
        original(call, threads)
        count += 1
        if count == number:
            action(call)

    monkeypatch.setattr(engine.Call, "train", train)


def interrupt(call: engine.Call) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("evaluation", [1, 2, 3, 8])
def test_an_interrupt_leaves_the_last_iterate(evaluation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, recorder = make_trainer(), Recorder()
    with monkeypatch.context() as patch:
        at_evaluation(patch, evaluation, interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(trainer, epochs=50, callbacks=[recorder])
    assert recorder.events[-1] == "end"
    made = len(trainer.history)
    assert made < evaluation
    assert trainer.steps == trainer.epochs == made
    assert bits(trainer) == bits(fit(make_trainer(), epochs=made) if made else make_trainer())
    assert len(fit(trainer, epochs=2).history) == made + 2


def test_an_interrupt_within_a_line_search_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the second iteration: the model then has weights that were only tried."""
    tried = []

    def interrupted(call: engine.Call) -> None:
        tried.append(call.network.parameters.tobytes())
        raise KeyboardInterrupt

    trainer = make_trainer()
    at_evaluation(monkeypatch, 4, interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, epochs=50)
    assert trainer.model.network.parameters.tobytes() != tried[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_training(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(call: engine.Call) -> None:
        call.kept(layout.LOSSES)[0] = value

    trainer = make_trainer()
    with monkeypatch.context() as patch:
        at_evaluation(patch, 6, spoil)
        with pytest.warns(DivergenceWarning, match=f"the loss is {value} in epoch [0-9].* weights from before") as seen:
            fit(trainer, epochs=50)
    assert seen[0].filename == __file__
    made = len(trainer.history)
    assert 0 < made < 6
    assert "message" not in trainer.history[-1]
    assert bits(trainer) == bits(fit(make_trainer(), epochs=made))


def test_a_first_loss_that_is_not_finite() -> None:
    trainer = Trainer(MLP(MODELS["dense"], dtype="float64"), optimizer="lbfgs")
    trainer.model.set_weights([weights * 1e200 for weights in trainer.model.get_weights()])
    before = bits(trainer)
    with pytest.warns(DivergenceWarning):
        fit(trainer)
    assert len(trainer.history) == 0
    assert bits(trainer) == before


def test_weights_beyond_float32_are_no_error_of_numpy() -> None:
    run = minimisation(make_trainer(dtype="float32"))
    run._set_parameters(np.full(len(run.places), 1e300))
    assert np.isinf(run.trainer.model.get_weights()[0]).all()


def test_fit_is_not_entered_from_two_threads() -> None:
    trainer, errors = make_trainer(), []

    def other(trainer: Any, logs: dict[str, Any]) -> None:
        def use() -> None:
            try:
                fit(trainer)
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join()

    fit(trainer, epochs=1, callbacks=[other])
    assert len(errors) == 1


# ---- what is refused

REFUSED = {"l1": 0.1, "weight_decay": 0.1, "clip_norm": 1.0, "clip_value": 1.0, "input_dropout": 0.1,
           "input_noise": 0.1}


@pytest.mark.parametrize(("name", "value"), REFUSED.items())
def test_settings_that_are_not_smooth_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be 0 with the optimizer 'lbfgs'.*got {value}"):
        make_trainer(**{name: value})
    trainer = make_trainer()
    setattr(trainer, name, value)
    with pytest.raises(ValueError, match=f"^{name} must be 0 with the optimizer 'lbfgs'.*got {value}"):
        fit(trainer)
    assert bits(trainer) == bits(make_trainer())


@pytest.mark.parametrize(("layer", "message"), [
    (Dense(4, dropout=0.5), "^dropout must be 0 in all layers .*got 0.5 in layer 1"),
    (Maxout(4, dropout=0.5), "^dropout must be 0 in all layers .*got 0.5 in layer 1"),
    (Dense(4, max_norm=2.0), "^max_norm must be None in all layers .*got 2.0 in layer 1"),
])
def test_layers_that_are_not_smooth_are_refused(layer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trainer(MLP([6, 5, layer, 3]), optimizer="lbfgs")


def test_augmentation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^augmentation must be None with the optimizer 'lbfgs'"):
        make_trainer(augmentation=Augmentation((2, 3)))


@pytest.mark.parametrize("schedule", ["cosine", "step", lambda step: 0.1])
def test_schedules_are_refused(schedule: Any) -> None:
    with pytest.raises(ValueError, match=r"^schedule must be None with the optimizer 'lbfgs'"):
        make_trainer(schedule=schedule)


def test_single_steps_are_refused() -> None:
    trainer = make_trainer()
    X, y = make_data()
    with pytest.raises(ValueError, match=r"^optimizer must be one that makes single steps, got LBFGS.*use fit"):
        trainer.step(X, y)
    trainer.forward(X)
    trainer.compute_loss(y)
    trainer.backward()
    expected = trainer.model.loss_and_gradients(X, y)[1]
    for found, gradient in zip(trainer.get_gradients(), expected, strict=True):
        np.testing.assert_array_equal(found, gradient)
    with pytest.raises(ValueError, match=r"^optimizer must be one that makes single steps"):
        trainer.update()
    assert bits(trainer) == bits(make_trainer())
    assert trainer.steps == 0


def test_there_is_nothing_to_resume() -> None:
    trainer = make_trainer()
    with pytest.raises(ValueError, match=r"^resume must be False with the optimizer 'lbfgs'"):
        fit(trainer, resume=True)


@pytest.mark.parametrize("rows", [80, 400_000])
def test_inputs_that_are_not_finite_are_found_before_anything_is_done(rows: int) -> None:
    X, y = np.zeros((rows, 6)), np.zeros(rows, int)
    X[-1, 2] = np.nan
    trainer = make_trainer()
    with pytest.raises(ValueError, match="X must be finite"):
        trainer.fit(X, y, progress=False)
    assert bits(trainer) == bits(make_trainer())


def test_without_scipy_the_trainer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match=r"pip install fastmlp\[scipy\]"):
        make_trainer()
    Trainer(MLP([6, 3]))


# ---- the optimizer's description


def test_names_and_defaults() -> None:
    assert check_optimizer("lbfgs") == LBFGS() == LBFGS(10, 1e-5, 15000)
    optimizer = LBFGS(memory=3)
    assert check_optimizer(optimizer) is optimizer
    assert optimizer.slots == 0
    assert optimizer.weight_decay == 0
    with pytest.raises(ValueError, match="'lbfgs' or an instance of LBFGS, got 'bfgs'"):
        check_optimizer("bfgs")


@pytest.mark.parametrize(("name", "value", "error"), [
    ("memory", 0, ValueError), ("memory", 1001, ValueError), ("memory", 1.5, TypeError), ("memory", True, TypeError),
    ("tolerance", -1e-9, ValueError), ("tolerance", float("nan"), ValueError), ("tolerance", "small", TypeError),
    ("max_evaluations", 0, ValueError), ("max_evaluations", None, TypeError),
])
def test_settings_are_checked_and_named(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{name} must be "):
        LBFGS(**{name: value})


def test_a_trainer_with_lbfgs_is_saved_and_trains_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    trainer = Trainer(MLP([4, 6, 3], dtype="float64", seed=0), optimizer=LBFGS(memory=5), l2=0.01)
    rates = LearningRateLogger()
    trainer.fit(X, y, epochs=3, callbacks=[rates], progress=False)
    assert len(rates.rates) == 3 and np.isnan(rates.rates).all()
    trainer.save(tmp_path / "trainer")
    loaded = Trainer.load(tmp_path / "trainer")
    assert loaded.optimizer == trainer.optimizer and loaded.epochs == 3
    loss = loaded.history["loss"][-1]
    loaded.fit(X, y, epochs=5, progress=False)
    assert loaded.history["loss"][-1] < loss
