"""Checkpoints: training that was broken off and goes on from a file ends with the bits of training without a break."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import bits, records_of
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmlp
from fastmlp import (
    MLP,
    Adadelta,
    Adam,
    AdamW,
    BinaryCrossEntropy,
    Callback,
    CrossEntropy,
    Dense,
    EarlyStopping,
    Huber,
    Maxout,
    ModelFileError,
    Momentum,
    RMSprop,
    Trainer,
    serialization,
    trainer,
)
from fastmlp.activations import ACTIVATIONS
from fastmlp.augmentation import Augmentation
from fastmlp.callbacks import Checkpoint
from fastmlp.checkpoints import _decode, _encode
from fastmlp.losses import LOSSES
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.schedules import (
    SCHEDULES,
    CosineRestarts,
    Exponential,
    InverseScaling,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    StepDecay,
    WarmUp,
)
from fastmlp.serialization import TRAINING_PREFIX, read_checkpoint_file, write_model_file

Array = np.ndarray[Any, Any]
EPOCHS = 6


@pytest.fixture(scope="module", autouse=True)
def own_functions(registries: None) -> None:
    fastmlp.register_activation("checkpoint_cube", lambda z: z**3, lambda z: 3 * z**2)
    fastmlp.register_loss("checkpoint_fourth_power", lambda a, t: (a - t) ** 4, lambda a, t: 4 * (a - t) ** 3)


def make_data(rows: int, inputs: int = 5, classes: int = 3) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, inputs)), rng.integers(0, classes, rows)


def assert_same(resumed: Trainer, unbroken: Trainer) -> None:
    assert records_of(resumed) == records_of(unbroken)
    assert bits(resumed) == bits(unbroken)
    assert (resumed.steps, resumed.epochs, resumed.schedule_state, resumed.unfinished, resumed.stop_training) == (
        unbroken.steps, unbroken.epochs, unbroken.schedule_state, unbroken.unfinished, unbroken.stop_training)


def function_of_step(step: int) -> float:
    return 0.01 / (1 + step)


def share_of_class_0(y: Array, outputs: Array) -> float:
    return float((outputs.argmax(axis=1) == 0).mean())


# ---- the same bits


def one(**options: Any) -> Callable[[], Trainer]:
    """A small trainer; options of `MLP` and of `Trainer`."""
    def make() -> Trainer:
        layers = options.get("layers", [5, 8, 3])
        model = MLP(layers, dtype=options.get("dtype", "float32"), activation=options.get("activation", "tanh"))
        rest = {name: value for name, value in options.items() if name not in ("layers", "dtype", "activation")}
        return Trainer(model, **{"batch_size": 16, "learning_rate": 0.02, **rest})
    return make


CASES: dict[str, tuple[Callable[[], Trainer], dict[str, Any]]] = {
    **{name: (one(optimizer=name), {}) for name in OPTIMIZERS},
    **{f"schedule {name}": (one(schedule=name), {"validation_split": 0.2}) for name in SCHEDULES},
    "float64": (one(dtype="float64"), {}),
    "in order": (one(optimizer="momentum"), {"shuffle": False}),
    "dropout and noise": (one(layers=[5, Dense(17, dropout=0.4), Dense(9, dropout=0.1), 3], dtype="float64",
                              input_dropout=0.1, input_noise=0.2), {}),
    "learned slopes": (one(layers=[5, Dense(9, "prelu"), Dense(9, "prelu", shared=True), 3]), {}),
    "maxout and max-norm": (one(layers=[5, Maxout(9, 3, dropout=0.2), Dense(20, max_norm=0.7), 3]), {}),
    "regularisation": (one(l1=1e-3, l2=1e-3, weight_decay=0.1, regularise_biases=True, clip_norm=0.1, clip_value=0.01,
                           optimizer=AdamW(beta_1=0.8)), {}),
    "accumulation": (one(accumulation=3), {}),
    "plateau soon": (one(schedule=ReduceOnPlateau("loss", patience=1, min_delta=0.02, cooldown=1)), {}),
    "warm-up to one cycle": (one(schedule=WarmUp(epochs=2, then="one_cycle")), {}),
    "warm-up to plateau": (one(schedule=WarmUp(steps=7, then=ReduceOnPlateau(patience=1, min_delta=0.1))),
                           {"validation_split": 0.2}),
    "metrics and weights": (one(metrics=["accuracy", "f1", "top_2"], loss=CrossEntropy(label_smoothing=0.1)),
                            {"class_weight": "balanced"}),
    "augmentation": (one(layers=[6, 8, 3], augmentation=Augmentation((3, 2), shift=1.0, elastic_alpha=2.0, noise=0.1)),
                     {"inputs": 6}),
    "own activation": (one(activation="checkpoint_cube"), {}),
    "groups of rows": (one(batch_size=512), {"rows": 1100}),
    "groups, float64": (one(batch_size=512, dtype="float64", optimizer="nesterov"), {"rows": 1100}),
}


@pytest.mark.parametrize("case", CASES)
def test_training_goes_on_with_the_same_bits_from_every_epoch(case: str, tmp_path: Path) -> None:
    make, arguments = CASES[case]
    arguments = {"epochs": EPOCHS, "progress": False, "rows": 60, "inputs": 5, **arguments}
    X, y = make_data(arguments.pop("rows"), arguments.pop("inputs"))

    def callbacks() -> list[Any]:
        return [EarlyStopping("loss", patience=EPOCHS), Checkpoint(tmp_path / "{epoch}")]

    unwatched = make()
    unwatched.fit(X, y, **arguments, callbacks=[EarlyStopping("loss", patience=EPOCHS)])
    unbroken = make()
    unbroken.fit(X, y, **arguments, callbacks=callbacks())
    assert_same(unbroken, unwatched)  # saving changes nothing
    for epoch in range(EPOCHS):
        resumed = Trainer.load(tmp_path / str(epoch))
        assert resumed.epochs == epoch + 1
        resumed.fit(X, y, **arguments, callbacks=callbacks(), resume=True)
        assert_same(resumed, unbroken)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers, batch", [([20, 40, 3], 2000), ([20, 400, 300, 3], 64)], ids=["groups", "panels"])
def test_the_number_of_threads_may_change(dtype: str, layers: list[int], batch: int, tmp_path: Path,
                                          threads: Callable[[int], None]) -> None:
    X, y = make_data(4000 if batch > 64 else 200, 20)
    make = one(layers=layers, dtype=dtype, batch_size=batch)
    threads(1)
    unbroken = make()
    unbroken.fit(X, y, epochs=4, progress=False, callbacks=[Checkpoint(tmp_path / "{epoch}")])
    threads(2)
    resumed = Trainer.load(tmp_path / "1")
    resumed.fit(X, y, epochs=4, progress=False, callbacks=[Checkpoint(tmp_path / "c")], resume=True)
    assert_same(resumed, unbroken)
    resumed = Trainer.load(tmp_path / "2")
    threads(1)
    resumed.fit(X, y, epochs=4, progress=False, resume=True)
    assert_same(resumed, unbroken)


def test_in_a_second_call_of_fit(tmp_path: Path) -> None:
    """Whose schedule begins anew, and whose epochs do not count from 0."""
    X, y = make_data(60)
    unbroken = one(schedule=OneCycle(), optimizer="nadam")()
    unbroken.fit(X, y, epochs=3, progress=False)
    unbroken.fit(X, y, epochs=5, progress=False, callbacks=[Checkpoint(tmp_path / "{epoch}")])
    resumed = Trainer.load(tmp_path / "4")
    assert resumed.unfinished == {"epochs": 5, "first_update": 12, "first_epoch": 3}
    resumed.fit(X, y, epochs=5, progress=False, resume=True)
    assert_same(resumed, unbroken)


def test_saved_between_calls_the_next_call_is_a_new_one(tmp_path: Path) -> None:
    X, y = make_data(60)
    unbroken = one(schedule="cosine", optimizer="momentum")()
    unbroken.fit(X, y, epochs=3, progress=False, callbacks=[EarlyStopping("loss")])
    unbroken.save(tmp_path / "c")
    resumed = Trainer.load(tmp_path / "c")
    assert (resumed.unfinished, resumed.callback_states) == (None, [])
    for resume, each in ((True, resumed), (False, unbroken)):
        each.fit(X, y, epochs=2, progress=False, resume=resume)
    assert_same(resumed, unbroken)
    resumed, unbroken = Trainer.load(tmp_path / "c"), Trainer.load(tmp_path / "c")
    assert bits(resumed) == bits(unbroken)


def test_single_steps_go_on(tmp_path: Path) -> None:
    X, y = make_data(16)
    unbroken = one(optimizer="nadam", clip_norm=0.1)()
    for _ in range(3):
        unbroken.step(X, y)
    unbroken.save(tmp_path / "c")
    resumed = Trainer.load(tmp_path / "c")
    for _ in range(3):
        assert resumed.step(X, y) == unbroken.step(X, y)
    assert_same(resumed, unbroken)


def test_without_resume_fit_begins_a_new_call(tmp_path: Path) -> None:
    X, y = make_data(60)
    one()().fit(X, y, epochs=4, progress=False, callbacks=[EarlyStopping("loss"), Checkpoint(tmp_path / "{epoch}")])
    trainer = Trainer.load(tmp_path / "1")
    stopping = EarlyStopping("loss")
    trainer.fit(X, y, epochs=3, progress=False, callbacks=[stopping])
    assert trainer.history["epoch"] == [0, 1, 2, 3, 4]
    assert stopping.best_epoch is not None and stopping.best_epoch >= 2  # it has not got the old state
    assert trainer.callback_states == []


# ---- early stopping, and calls that are over


class Scripted(Callback):
    """Puts a value into the logs of every epoch; it stands before the callbacks that monitor it."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        logs["value"] = self.values[logs["epoch"]]


VALUES = [5.0, 3.0, 4.0, 2.0, math.nan, 3.0, 3.0, 1.0, 1.0]


@pytest.mark.parametrize("restore_best", [True, False])
def test_early_stopping_goes_on(restore_best: bool, tmp_path: Path) -> None:
    X, y = make_data(60)

    def run(trainer: Trainer) -> EarlyStopping:
        stopping = EarlyStopping("value", patience=3, restore_best=restore_best)
        callbacks = [Scripted(VALUES), stopping, Checkpoint(tmp_path / "{epoch}")]
        trainer.fit(X, y, epochs=9, progress=False, callbacks=callbacks, resume=True)
        return stopping

    unbroken = one()()
    expected = run(unbroken)
    assert (expected.best_epoch, expected.stopped_epoch) == (3, 6)
    assert len(list(tmp_path.iterdir())) == 7
    for epoch in range(7):  # also from the epoch after which training was stopped
        resumed = Trainer.load(tmp_path / str(epoch))
        stopping = run(resumed)
        assert_same(resumed, unbroken)
        assert len(resumed.history) == 7
        for name in ("best_value", "best_epoch", "stopped_epoch"):
            assert getattr(stopping, name) == getattr(expected, name)


def test_the_checkpoint_of_the_last_epoch_has_nothing_left_to_do(tmp_path: Path) -> None:
    X, y = make_data(60)
    calls: list[str] = []

    class Recorder(Callback):
        def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
            calls.append("train_begin")

        def on_train_end(self, trainer: Any, logs: dict[str, Any]) -> None:
            calls.append("train_end")

        def on_epoch_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
            calls.append("epoch_begin")

    unbroken = one()()
    callbacks = [Scripted([2.0, 1.0, 2.0]), EarlyStopping("value"), Checkpoint(tmp_path / "c")]
    unbroken.fit(X, y, epochs=3, progress=False, callbacks=callbacks)
    resumed = Trainer.load(tmp_path / "c")
    before = bits(resumed)
    callbacks = [Recorder(), EarlyStopping("value"), Checkpoint(tmp_path / "c")]
    history = resumed.fit(X, y, epochs=3, callbacks=callbacks, resume=True)
    assert calls == ["train_begin", "train_end"]
    assert bits(resumed) != before  # the weights of the best epoch are back
    assert_same(resumed, unbroken)
    assert history is resumed.history
    resumed.fit(X, y, epochs=2, progress=False, resume=True)  # that call is over: a new one begins
    assert len(resumed.history) == 5


@pytest.mark.parametrize("kind", ["none", "other", "stateless"])
def test_other_callbacks_than_before_are_refused(kind: str, tmp_path: Path) -> None:
    X, y = make_data(60)
    one()().fit(X, y, epochs=3, progress=False, callbacks=[EarlyStopping("loss"), Checkpoint(tmp_path / "{epoch}")])
    trainer = Trainer.load(tmp_path / "0")
    before = pickle.dumps(trainer)
    stateless = type("EarlyStopping", (Callback,), {})
    callbacks = {"none": [], "other": [Checkpoint(tmp_path / "c")], "stateless": [stateless()]}[kind]
    with pytest.raises(ValueError, match="callbacks must be as in the call of fit that is resumed, with one of the "
                                         "class EarlyStopping at position 0, got"):
        trainer.fit(X, y, epochs=3, progress=False, callbacks=callbacks, resume=True)
    assert pickle.dumps(trainer) == before


def test_another_number_of_epochs_is_refused(tmp_path: Path) -> None:
    X, y = make_data(60)
    one()().fit(X, y, epochs=3, progress=False, callbacks=[Checkpoint(tmp_path / "{epoch}")])
    with pytest.raises(ValueError, match="epochs must be 3 to resume the call of fit that was not finished, got 4"):
        Trainer.load(tmp_path / "0").fit(X, y, epochs=4, progress=False, resume=True)


def test_a_checkpoint_may_be_called_by_another_callback(tmp_path: Path) -> None:
    class Wrapper(Callback):
        inner = Checkpoint(tmp_path / "{epoch}")

        def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
            self.inner.on_train_begin(trainer, logs)

        def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
            self.inner.on_epoch_end(trainer, logs)

    X, y = make_data(60)
    trainer = one()()
    trainer.fit(X, y, epochs=2, progress=False, callbacks=[Wrapper()])
    assert bits(Trainer.load(tmp_path / "1")) == bits(trainer)


def test_states_of_callbacks_of_ones_own(tmp_path: Path) -> None:
    state = {"list": [1, None, True, "ü", {"array": np.arange(6.0).reshape(2, 3)}],
             "": {"a.b": -math.inf, "nan": math.nan},
             "scalar": np.float32(0.1), "empty": np.zeros((0, 2), np.uint8), "negative zero": -0.0}

    class Keeper(Callback):
        loaded: Any = None

        def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
            trainer.seen_in_begin = self.loaded is not None

        def state_dict(self) -> dict[str, Any]:
            return state

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.loaded = state

    X, y = make_data(60)
    one()().fit(X, y, epochs=2, progress=False, callbacks=[Keeper(), Checkpoint(tmp_path / "{epoch}")])
    trainer, keeper = Trainer.load(tmp_path / "0"), Keeper()
    trainer.save(tmp_path / "again")  # what was not handed back yet is saved once more
    assert repr(Trainer.load(tmp_path / "again").callback_states) == repr(trainer.callback_states)
    trainer.fit(X, y, epochs=2, progress=False, callbacks=[keeper], resume=True)
    assert trainer.seen_in_begin  # type: ignore[attr-defined]
    assert repr(keeper.loaded) == repr({**state, "scalar": float(np.float32(0.1))})
    for thing in (object(), {1: 2}, {"$float": 1}, {"$tensor": "input_mean"}, 1j, np.datetime64(0, "s"), b"", {1}):
        state["thing"] = thing
        with pytest.raises(TypeError, match=r"^callback_states\[0\]\['state'\]\['thing'\] must be None, a bool"):
            one()().fit(X, y, epochs=2, progress=False, callbacks=[Keeper(), Checkpoint(tmp_path / "new")])
        assert not (tmp_path / "new").exists()


def test_best_weights_of_another_network_are_refused_before_training() -> None:
    X, y = make_data(60)
    stopping, other = EarlyStopping("loss"), one(layers=[5, 9, 3])()
    stopping.load_state_dict({**stopping.state_dict(), "best_weights": other.model.get_weights()})
    trainer = one()()
    with pytest.raises(ValueError, match=r"state\['best_weights'\] must hold arrays of the shapes \[\(5, 8\)"):
        trainer.fit(X, y, epochs=1, progress=False, callbacks=[stopping])
    assert trainer.steps == 0


# ---- what a file holds


FULL: dict[str, Callable[[], Trainer]] = {
    "settings": one(learning_rate=1 / 3, batch_size=7, accumulation=2, l1=0.1, l2=1e-300, weight_decay=0.3,
                    clip_norm=1.5, clip_value=2.5, input_dropout=0.25, input_noise=0.125, regularise_biases=True,
                    seed=2**63 - 1),
    "one's own seed": one(seed=None),
    "weight decay switched off": one(optimizer="adamw", weight_decay=0.0),
    "momentum": one(optimizer=Momentum(0.5)),
    "adam": one(optimizer=Adam(0.1, 0.2, 0.3)),
    "adadelta": one(optimizer=Adadelta(rho=0.7, epsilon=1e-3)),
    "rmsprop": one(optimizer=RMSprop(decay=0.8, epsilon=1e-5, momentum=0.3)),
    "huber": lambda: Trainer(MLP([5, 2], output="identity"), Huber(delta=2.5)),
    "label smoothing": lambda: Trainer(MLP([5, 2], output="sigmoid"), BinaryCrossEntropy(label_smoothing=0.2)),
    "own loss": lambda: Trainer(MLP([5, 2], output="identity"), "checkpoint_fourth_power"),
    "step": one(schedule=StepDecay(3, 0.7)),
    "exponential": one(schedule=Exponential(0.9, 2.5)),
    "inverse": one(schedule=InverseScaling(0.3, samples=60)),
    "restarts": one(schedule=CosineRestarts(2, 1.5, 1e-5)),
    "plateau": one(schedule=ReduceOnPlateau("loss", 0.3, 4, 0.01, 1e-6, 2)),
    "nested": one(schedule=WarmUp(steps=3, then=WarmUp(epochs=2, then=OneCycle(0.4, 20.0, 30.0)))),
    "augmentation": one(augmentation=Augmentation((1, 5), 1.5, 20.0, 0.1, 5.0, 34.0, 5.0, 0.2)),
    "metrics": one(metrics=["precision", "top_2", "accuracy"]),
    "no metric of ours": lambda: Trainer(MLP([5, 2], output="identity"), "huber", metrics=["r2", "rmse"]),
}


@pytest.mark.parametrize("name", FULL)
def test_all_settings_come_back(name: str, tmp_path: Path) -> None:
    saved = FULL[name]()
    saved.schedule_state = {"scale": 0.25, "best": -math.inf, "wait": 3}
    saved.stop_training = True
    saved.save(tmp_path / "c")
    loaded = Trainer.load(tmp_path / "c")
    assert type(loaded.loss) is type(saved.loss)
    for attribute in (*trainer.SETTING_CHECKS, "loss", "optimizer", "schedule",
                      "augmentation", "steps", "epochs", "schedule_state", "stop_training", "unfinished",
                      "callback_states"):
        assert getattr(loaded, attribute) == getattr(saved, attribute), attribute
    assert [metric.name for metric in loaded.metrics] == [metric.name for metric in saved.metrics]
    assert repr(loaded.model) == repr(saved.model)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "c").read_bytes()


def test_every_argument_of_a_trainer_is_saved() -> None:
    """A new one needs a thought about how it gets into the file."""
    import inspect

    apart = {"self", "model", "loss", "optimizer", "schedule", "metrics", "augmentation"}
    assert set(inspect.signature(Trainer.__init__).parameters) - apart == set(one()()._settings())


def test_a_history_of_any_numbers_comes_back(tmp_path: Path) -> None:
    saved = one()()
    saved.history.append({"epoch": 0, "loss": math.nan, "val_loss": -math.inf, "x": np.float64(0.1), "n": np.int64(3)})
    saved.history.append({"epoch": 1, "loss": 1e-320, "note": "ü", "flag": True, "none": None, "many": [1.0, math.inf]})
    saved.save(tmp_path / "c")
    expected = [{"epoch": 0, "loss": math.nan, "val_loss": -math.inf, "x": 0.1, "n": 3}, saved.history[1]]
    assert repr(Trainer.load(tmp_path / "c").history.records) == repr(expected)
    saved.history.append({"epoch": 2, "loss": object()})
    with pytest.raises(TypeError, match=r"history\[2\]\['loss'\] must be None, a bool, number, str or array"):
        saved.save(tmp_path / "c")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8)


@given(value=values)
def test_any_value_comes_back(value: Any) -> None:
    tensors: dict[str, Array] = {}
    text = json.dumps(_encode("value", value, tensors), allow_nan=False)
    assert repr(_decode(json.loads(text), tensors)) == repr(value)


def test_the_model_of_a_checkpoint_can_be_read_alone(tmp_path: Path) -> None:
    X, y = make_data(20)
    saved = one(layers=[5, Maxout(4), Dense(6, "prelu"), 3], optimizer="adam")()
    saved.fit(X, y, epochs=2, progress=False)
    saved.save(tmp_path / "c")
    assert MLP.load(tmp_path / "c").forward(X).tobytes() == saved.model.forward(X).tobytes()


def test_a_model_file_is_no_checkpoint(tmp_path: Path) -> None:
    one()().model.save(tmp_path / "m")
    with pytest.raises(ModelFileError, match=r"holds a model and no state of training; expected a file that "
                                             r"Trainer\.save wrote"):
        Trainer.load(tmp_path / "m")


def test_what_no_reader_would_take_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "MAX_HEADER_BYTES", 4000)
    saved = one()()
    saved.save(tmp_path / "c")
    before = (tmp_path / "c").read_bytes()
    saved.history.append({"note": "x" * 4000})
    with pytest.raises(ValueError, match="tensors and descriptions must need at most 4000 bytes of JSON, got"):
        saved.save(tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == before


@pytest.mark.parametrize("path", [None, 3, b"c"])
def test_paths_are_checked(path: Any) -> None:
    for call in (one()().save, Trainer.load, Checkpoint):
        with pytest.raises(TypeError, match=r"path must be a str or an os.PathLike of str, got"):
            call(path)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Trainer.load(tmp_path / "c")


# ---- functions and classes of the user's


class Halving(Schedule):
    def rates(self, learning_rate: float, steps: Any, span: Any) -> Any:
        return learning_rate / 2.0 ** (span.first_update + steps)


@pytest.mark.parametrize("schedule", [function_of_step, WarmUp(steps=3, then=function_of_step), Halving()],
                         ids=["function", "warm-up", "class"])
def test_a_schedule_of_ones_own_must_be_passed_again(schedule: Any, tmp_path: Path) -> None:
    X, y = make_data(60)
    unbroken = one(schedule=schedule)()
    unbroken.fit(X, y, epochs=4, progress=False, callbacks=[Checkpoint(tmp_path / "{epoch}")])
    with pytest.raises(ValueError, match=r"schedule must be given .* Trainer.load\(path, schedule=...\), got None"
                       ) as caught:
        Trainer.load(tmp_path / "1")
    assert not isinstance(caught.value, ModelFileError)
    with pytest.raises(ValueError, match="schedule must be None, one of"):
        Trainer.load(tmp_path / "1", schedule="no such")
    resumed = Trainer.load(tmp_path / "1", schedule=schedule)
    resumed.fit(X, y, epochs=4, progress=False, resume=True)
    assert_same(resumed, unbroken)


def test_a_schedule_that_the_file_holds_is_not_replaced(tmp_path: Path) -> None:
    one(schedule="cosine")().save(tmp_path / "c")
    with pytest.raises(ValueError, match=r"schedule must be None for this checkpoint, which holds Cosine\(.*, got"):
        Trainer.load(tmp_path / "c", schedule=function_of_step)


def test_metrics_of_ones_own_must_be_passed_again(tmp_path: Path) -> None:
    def accuracy(y: Array, outputs: Array) -> float:  # ours has the same name
        return 0.5

    X, y = make_data(60)
    metrics: list[Any] = [accuracy, "f1", share_of_class_0]
    unbroken = one(metrics=metrics)()
    unbroken.fit(X, y, epochs=3, progress=False, callbacks=[Checkpoint(tmp_path / "{epoch}")])
    with pytest.raises(ValueError, match=r"metrics must be given .*\('accuracy', 'share_of_class_0'\): Trainer.load"
                       ) as caught:
        Trainer.load(tmp_path / "1")
    assert not isinstance(caught.value, ModelFileError)
    for wrong in ([accuracy, "f1"], ["f1", accuracy, share_of_class_0]):
        with pytest.raises(ValueError, match="metrics must be those of this checkpoint"):
            Trainer.load(tmp_path / "1", metrics=wrong)
    with pytest.raises(TypeError, match="metrics must be an iterable"):
        Trainer.load(tmp_path / "1", metrics=3)  # type: ignore[arg-type]
    resumed = Trainer.load(tmp_path / "1", metrics=iter(metrics))
    resumed.fit(X, y, epochs=3, progress=False, resume=True)
    assert_same(resumed, unbroken)
    assert resumed.history["accuracy"] == [0.5] * 3


def test_names_that_are_not_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MLP([5, Dense(4, "checkpoint_cube"), 2], output="identity")
    Trainer(model, "checkpoint_fourth_power").save(tmp_path / "c")
    with monkeypatch.context() as patch:
        patch.delitem(ACTIVATIONS, "checkpoint_cube")
        with pytest.raises(ModelFileError, match=r"activation 'checkpoint_cube' .* registered by register_activation"):
            Trainer.load(tmp_path / "c")
        with pytest.raises(ModelFileError, match=r"activation 'checkpoint_cube' .* registered by register_activation"):
            MLP.load(tmp_path / "c")
    with monkeypatch.context() as patch:
        patch.delitem(LOSSES, "checkpoint_fourth_power")
        with pytest.raises(ModelFileError, match=r"loss must be .* got 'checkpoint_fourth_power'.* by register_loss"):
            Trainer.load(tmp_path / "c")
    assert Trainer.load(tmp_path / "c").loss.name == "checkpoint_fourth_power"


# ---- damaged and hostile files


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with something of everything in it."""
    X, y = make_data(60)
    path = tmp_path_factory.mktemp("good") / "c"
    trainer = one(layers=[5, 2, 3], schedule=WarmUp(steps=2, then="reduce_on_plateau"), metrics=["accuracy"])()
    trainer.history.append({"epoch": 0, "loss": math.nan})
    trainer.fit(X, y, epochs=3, progress=False, validation_split=0.2,
                callbacks=[EarlyStopping(), Checkpoint(path)])
    return path


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "c"


def change(good: Path, scratch: Path, places: tuple[Any, ...], value: Any) -> None:
    """Write the good file with one value of the description of training replaced, or left out if it is `...`."""
    tensors, description, training = read_checkpoint_file(good)
    inner: Any = training
    for place in places[:-1]:
        inner = inner[place]
    if value is ...:
        del inner[places[-1]]
    else:
        inner[places[-1]] = value
    write_model_file(scratch, tensors, description, training)


def test_truncated_files(good: Path, scratch: Path) -> None:
    contents = good.read_bytes()
    for length in (*range(0, len(contents), 61), len(contents) - 1):
        scratch.write_bytes(contents[:length])
        with pytest.raises(ModelFileError):
            Trainer.load(scratch)


HOSTILE: list[tuple[tuple[Any, ...], Any]] = [
    *((("settings", "learning_rate"), value) for value in (0, -1.0, "0.1", None, {"$float": "nan"}, 10**400, True)),
    *((("settings", name), value) for name in ("batch_size", "accumulation") for value in (0, 1.5, 1 << 70, None)),
    *((("settings", "seed"), value) for value in (None, -1, 2**63, 0.5, "0")),
    *((("settings", "regularise_biases"), value) for value in (0, "no", None)),
    *((("settings", "input_dropout"), value) for value in (1.0, -0.1)),
    (("settings", "model"), 3), (("settings", "unknown"), 3), (("settings", "l1"), ...), (("settings",), []),
    *((("loss",), value) for value in (None, "cross_entropy", {}, {"kind": "mean_squared"}, {"kind": ["hinge"]},
                                       {"kind": "poisson"}, {"kind": "huber", "delta": -1},
                                       {"kind": "cross_entropy", "label_smoothing": 2.0},
                                       {"kind": "cross_entropy", "code": 1},
                                       {"kind": "checkpoint_fourth_power", "compiled": 1})),
    *((("optimizer",), value) for value in (None, "adam", {"kind": "sgd"}, {"kind": "lion"}, {"kind": "adam", "x": 1})),
    *((("optimizer", name), value) for name in ("beta_1", "epsilon") for value in (-1, "0.9", None, {"$float": "inf"})),
    *((("schedule",), value) for value in ("cosine", {"kind": "function", "function": 1}, {"kind": "warm_up"}, [])),
    *((("schedule", "then"), value) for value in (None, "cosine", {"kind": "cosine", "minimum": -1}, {"kind": "x"})),
    (("schedule", "then", "monitor"), "accuracy"),
    *((("schedule_state",), value) for value in (None, [], {"scale": None}, {"scale": "1"}, {"scale": [1]})),
    *((("augmentation",), value) for value in (3, [], {}, {"shape": 5}, {"shape": [5]}, {"shape": [2, 3]},
                                               {"shape": [5, 1], "noise": -1.0}, {"shape": [5, 1], "x": 1})),
    *((("metrics",), value) for value in (None, ["accuracy"], "accuracy", {"mae": True}, {"loss": True})),
    *(((name,), value) for name in ("steps", "epochs") for value in (-1, 1.0, None, 1 << 60, [1], True)),
    *((("stop_training",), value) for value in (0, None, "no")),
    *((("unfinished",), value) for value in ([], 3, {}, {"epochs": 3})),
    *((("unfinished", name), value) for name in ("epochs", "first_update", "first_epoch")
      for value in (-1, None, 1 << 63, "1", ...)),
    (("unfinished", "epochs"), 2),
    *((("unfinished", "losses"), value) for value in (None, 3, [1.0], {"$tensor": "training.values.0"})),
    *((("unfinished", "weights"), value) for value in (None, 3, [], [[1.0]], {"$tensor": "training.values.0"})),
    *((("callback_states",), value) for value in (None, {}, [3], [{}], 3)),
    *((("callback_states", 0, "position"), value) for value in (-1, None, 0.5)),
    *((("callback_states", 0, "class"), value) for value in (None, 3)),
    *((("callback_states", 0, "state"), value) for value in (None, 3, [])),
    (("callback_states", 0, "state", "best_weights", 0), {"$tensor": "input_mean"}),
    (("callback_states", 0, "state", "best_weights", 0), {"$tensor": "training.values.1"}),
    (("callback_states", 0, "state", "best_weights", 0), {"$tensor": ["training.values.0"]}),
    (("callback_states", 0, "state", "best_weights", 0), 3),  # so that a tensor is left over
    *((("history",), value) for value in (None, {}, 3, [3], [None], [[]])),
    *((("history", 0, "loss"), {"$float": value}) for value in ("1", "NaN", 3, None, [])),
    *(((name,), ...) for name in ("settings", "loss", "optimizer", "schedule", "schedule_state", "augmentation",
                                  "metrics", "steps", "epochs", "stop_training", "unfinished", "callback_states",
                                  "history")),
]


@pytest.mark.parametrize("places, value", HOSTILE)
def test_impossible_descriptions_are_refused(places: tuple[Any, ...], value: Any, good: Path, scratch: Path) -> None:
    change(good, scratch, places, value)
    with pytest.raises(ModelFileError, match="is not a checkpoint of fastmlp: "):
        Trainer.load(scratch)


@pytest.mark.parametrize("losses", [np.ones(0), np.ones(10), np.ones((3, 1)), np.ones(3, np.float32)], ids=repr)
def test_impossible_losses_of_an_epoch_are_refused(losses: Array, good: Path, scratch: Path) -> None:
    """There must be one for each update, of which there are 9."""
    tensors, description, training = read_checkpoint_file(good)
    training["unfinished"]["losses"] = {"$tensor": "training.values.losses"}
    for values, works in ((np.ones(9), True), (losses, False)):
        write_model_file(scratch, tensors | {"training.values.losses": values}, description, training)
        if works:
            assert len((Trainer.load(scratch).unfinished or {})["losses"]) == 9
        else:
            with pytest.raises(ModelFileError, match="losses must be float64"):
                Trainer.load(scratch)


@pytest.mark.parametrize("depth", [300, 700, 20_000])
@pytest.mark.parametrize("places", [("history",), ("schedule", "then"), ("schedule_state",)])
def test_descriptions_that_are_nested_too_deep(places: tuple[str, ...], depth: int, good: Path, scratch: Path) -> None:
    tensors, description, training = read_checkpoint_file(good)
    inner: Any = training
    for place in places[:-1]:
        inner = inner[place]
    inner[places[-1]] = "here"
    deep = '{"kind":"warm_up","steps":1,"then":' * depth + "null" + "}" * depth
    write_model_file(scratch, tensors, description, training)
    contents = scratch.read_bytes()
    start = 8 + int.from_bytes(contents[:8], "little")
    header = json.loads(contents[8:start])
    header["__metadata__"]["training"] = json.dumps(training).replace('"here"', deep)
    encoded = json.dumps(header).encode()
    scratch.write_bytes(len(encoded).to_bytes(8, "little") + encoded + contents[start:])
    with pytest.raises(ModelFileError):
        Trainer.load(scratch)


@pytest.mark.parametrize("kind", ["missing", "more", "shape", "dtype", "bytes"])
def test_impossible_tensors_are_refused(kind: str, good: Path, scratch: Path) -> None:
    tensors, description, training = read_checkpoint_file(good)
    name = f"{TRAINING_PREFIX}optimizer.1.layers.0.weights"
    array = tensors.pop(name)
    wrong = {"missing": {}, "more": {name: array, TRAINING_PREFIX + "optimizer.2.layers.0.weights": array},
             "shape": {name: array.T}, "dtype": {name: array.astype(np.float64)}, "bytes": {name: array.view(np.int32)}}
    write_model_file(scratch, tensors | wrong[kind], description, training)
    with pytest.raises(ModelFileError, match=r"expected the tensors|must be float32 of shape"):
        Trainer.load(scratch)


def test_impossible_models_are_refused(good: Path, scratch: Path) -> None:
    tensors, description, training = read_checkpoint_file(good)
    for wrong in ({}, {**description, "layers": None}, {**description, "layers": [3]}, {**description, "dtype": "int8"},
                  {**description, "layers": "ab"}, {**description, "layers": [{"activation": []}]}):
        write_model_file(scratch, tensors, wrong, training)
        with pytest.raises(ModelFileError):
            Trainer.load(scratch)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 1 << 70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "kind", "adam", "cosine", "nan", "accuracy", "training.values.0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["kind", "then", "steps", "$float", "$tensor", "position", "class", "state", "epochs"]), inner,
        max_size=3), max_leaves=6)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_change_of_the_description_is_refused_or_makes_a_trainer(good: Path, scratch: Path,
                                                                     data: st.DataObject) -> None:
    places: tuple[Any, ...] = ()
    inner: Any = read_checkpoint_file(good)[2]
    while isinstance(inner, (dict, list)) and inner and (not places or data.draw(st.booleans())):
        place = data.draw(st.sampled_from(list(inner) if isinstance(inner, dict) else list(range(len(inner)))))
        places, inner = (*places, place), inner[place]
    change(good, scratch, places, data.draw(json_values))
    try:
        loaded = Trainer.load(scratch)
    except ModelFileError:
        return
    except ValueError as problem:
        assert str(problem).startswith(("schedule must be given", "metrics must be given"))
        return
    loaded.save(scratch)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_changed_bytes_are_refused_or_make_a_trainer(good: Path, scratch: Path, data: st.DataObject) -> None:
    contents = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        contents[data.draw(st.integers(0, len(contents) - 1))] = data.draw(st.integers(0, 255))
    scratch.write_bytes(contents)
    try:
        Trainer.load(scratch)
    except ModelFileError:
        pass
    except ValueError as problem:
        assert str(problem).startswith(("schedule must be given", "metrics must be given"))


def test_hostile_states_of_early_stopping_are_refused_before_training(good: Path, scratch: Path) -> None:
    X, y = make_data(60)
    for name, value in (("best_value", "low"), ("best_epoch", -1), ("best_weights", 3), ("best_weights", [[1.0]])):
        tensors, description, training = read_checkpoint_file(good)
        state = training["callback_states"][0]["state"]
        if name == "best_weights":
            tensors = {key: tensor for key, tensor in tensors.items() if "values" not in key}
        state[name] = value
        write_model_file(scratch, tensors, description, training)
        loaded = Trainer.load(scratch)
        before = bits(loaded)
        with pytest.raises((TypeError, ValueError), match=f"state\\['{name}'\\] must be|state\\['{name}'\\] must hold"):
            loaded.fit(X, y, epochs=3, progress=False, validation_split=0.2, resume=True,
                       callbacks=[EarlyStopping(), Checkpoint(scratch)])
        assert bits(loaded) == before


# ---- use during training


def test_save_within_fit(tmp_path: Path) -> None:
    """From callbacks of this thread; another thread, which would find weights in the middle of a step, is refused."""
    X, y = make_data(60)
    problems: list[Exception] = []

    def from_another_thread(trainer: Any) -> None:
        try:
            trainer.save(tmp_path / "other")
        except RuntimeError as problem:
            problems.append(problem)

    class Saver(Callback):
        def save(self, trainer: Any, logs: dict[str, Any]) -> None:
            trainer.save(tmp_path / "own")
            thread = threading.Thread(target=from_another_thread, args=(trainer,))
            thread.start()
            thread.join()
            with pytest.raises(RuntimeError, match="training already"):
                trainer.step(X, y)

        on_train_begin = on_train_end = on_epoch_begin = on_epoch_end = save

    trainer = one()()
    trainer.fit(X, y, epochs=2, progress=False, callbacks=[Saver()])
    assert len(problems) == 6 and "training already" in str(problems[0])
    assert (tmp_path / "own").exists() and not (tmp_path / "other").exists()
    from_another_thread(trainer)
    assert (tmp_path / "other").exists()


def test_callbacks_can_be_seen_while_fit_runs_only() -> None:
    X, y = make_data(60)
    seen: list[Any] = []
    callbacks = [EarlyStopping("loss"), lambda trainer, logs: seen.append(
        (list(trainer.callbacks), pickle.loads(pickle.dumps(trainer)), copy.deepcopy(trainer)))]
    trainer = one()()
    trainer.fit(X, y, epochs=1, progress=False, callbacks=callbacks)
    [(listed, pickled, copied)] = seen
    assert listed[0] is callbacks[0] and len(listed) == 2
    assert trainer.callbacks == pickled.callbacks == copied.callbacks == []
    for duplicate in (pickled, copied):  # made within fit, and free of its lock
        assert duplicate._user is None
        duplicate.fit(X, y, epochs=1, progress=False, resume=True)
        assert bits(duplicate) == bits(trainer)

    class Failing(Callback):
        def on_train_end(self, trainer: Any, logs: dict[str, Any]) -> None:
            raise RuntimeError("at the end")

    with pytest.raises(RuntimeError, match="at the end"):
        trainer.fit(X, y, epochs=1, progress=False, callbacks=[Failing()])
    assert trainer.callbacks == []


def test_a_call_that_goes_on_with_impossible_inputs_leaves_the_trainer_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if that is found out late, as it is for large inputs."""
    monkeypatch.setattr("fastmlp.fit_arguments.LARGE_BYTES", 100)
    X, y = make_data(60)
    X = X.astype(np.float32)
    unbroken = one()()
    unbroken.fit(X, y, epochs=4, progress=False, callbacks=[EarlyStopping("loss"), Checkpoint(tmp_path / "{epoch}")])
    resumed = Trainer.load(tmp_path / "1")
    before = pickle.dumps(resumed)
    wrong = X.copy()
    wrong[33, 2] = np.nan
    with pytest.raises(ValueError, match="X"):
        resumed.fit(wrong, y, epochs=4, progress=False, callbacks=[EarlyStopping("loss")], resume=True)
    assert pickle.dumps(resumed) == before
    resumed.fit(X, y, epochs=4, progress=False, callbacks=[EarlyStopping("loss")], resume=True)
    assert_same(resumed, unbroken)


# ---- the callback


def saved_epochs(tmp_path: Path, callback: Checkpoint, values: list[float] = VALUES) -> list[int]:
    X, y = make_data(20)
    one()().fit(X, y, epochs=len(values), progress=False, callbacks=[Scripted(values), callback])
    return sorted(int(path.name.removeprefix("c")) for path in tmp_path.glob("c*"))


def test_every_few_epochs(tmp_path: Path) -> None:
    assert saved_epochs(tmp_path, Checkpoint(tmp_path / "c{epoch}", every=4)) == [3, 7]
    assert Trainer.load(tmp_path / "c3").epochs == 4


@pytest.mark.parametrize("monitor, mode, expected", [
    ("value", "auto", [0, 1, 3, 7]),
    ("value", "max", [0]),
    ("value", "min", [0, 1, 3, 7]),
])
def test_whenever_a_value_is_better(monitor: str, mode: str, expected: list[int], tmp_path: Path) -> None:
    callback = Checkpoint(tmp_path / "c{epoch}", monitor=monitor, mode=mode)
    assert saved_epochs(tmp_path, callback) == expected
    assert callback.best_value == VALUES[expected[-1]]


def test_nan_is_never_better(tmp_path: Path) -> None:
    values = [math.nan, math.nan, 2.0, math.nan, 1.0]
    assert saved_epochs(tmp_path, Checkpoint(tmp_path / "c{epoch}", monitor="value"), values) == [2, 4]


def test_a_new_run_forgets_the_best_value(tmp_path: Path) -> None:
    callback = Checkpoint(tmp_path / "c{epoch}", monitor="value")
    saved_epochs(tmp_path, callback, [1.0, 2.0])
    (tmp_path / "c0").unlink()
    assert saved_epochs(tmp_path, callback, [3.0, 4.0]) == [0]


def test_the_best_value_goes_on(tmp_path: Path) -> None:
    """Of the checkpoint itself, and of one that stands before it."""
    X, y = make_data(20)

    def callbacks(folder: Path) -> list[Any]:
        folder.mkdir(exist_ok=True)
        return [Scripted(VALUES), Checkpoint(folder / "best{epoch}", monitor="value"), Checkpoint(folder / "{epoch}")]

    one()().fit(X, y, epochs=len(VALUES), progress=False, callbacks=callbacks(tmp_path / "all"))
    for name, left in (("best1", {"best3", "best7"}), ("2", {"best3", "best7"}), ("5", {"best7"})):
        resumed = Trainer.load(tmp_path / "all" / name)
        resumed.fit(X, y, epochs=len(VALUES), progress=False, callbacks=callbacks(tmp_path / name), resume=True)
        assert {path.name for path in (tmp_path / name).glob("best*")} == left


def test_without_an_epoch_in_its_name_a_file_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    X, y = make_data(20)
    one()().fit(X, y, epochs=3, progress=False, callbacks=[Checkpoint(str(tmp_path / "c"))])
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert Trainer.load(tmp_path / "c").epochs == 3


@pytest.mark.parametrize("arguments, error, message", [
    ({"every": 0}, ValueError, "every must be an integer of at least 1, got 0"),
    ({"every": 1.5}, TypeError, "every must be"),
    ({"every": True}, TypeError, "every must be"),
    ({"every": 2, "monitor": "loss"}, ValueError, "every must be 1 with a monitor, got 2"),
    ({"monitor": 3}, TypeError, "monitor must be the name of a value in the history, got 3"),
    ({"mode": "best"}, ValueError, "mode must be one of 'auto', 'max', 'min', got 'best'"),
    ({"mode": None}, TypeError, "mode must be"),
])
def test_arguments_of_checkpoint_are_checked(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Checkpoint("c", **arguments)


def test_a_file_holds_as_many_epochs_as_fit_takes(tmp_path: Path) -> None:
    epochs = 2**63 - 1  # sys.maxsize
    X, y = make_data(20)

    def stop(trainer: Trainer, logs: dict[str, Any]) -> None:
        trainer.stop_training = trainer.epochs == 3

    unbroken = one(schedule="cosine")()
    unbroken.fit(X, y, epochs=epochs, progress=False, callbacks=[Checkpoint(tmp_path / "{epoch}"), stop])
    resumed = Trainer.load(tmp_path / "1")
    resumed.fit(X, y, epochs=epochs, progress=False, callbacks=[stop], resume=True)
    assert_same(resumed, unbroken)
    with pytest.raises(ValueError, match="epochs must be an integer from 1 to 9223372036854775807, got 922"):
        unbroken.fit(X, y, epochs=2**63, progress=False)


def test_a_value_that_is_not_there(tmp_path: Path) -> None:
    X, y = make_data(20)
    with pytest.raises(ValueError, match=r"monitor must be the name of a value in the logs .* got 'val_loss'"):
        one()().fit(X, y, epochs=3, progress=False, callbacks=[Checkpoint(tmp_path / "c", monitor="val_loss")])


@pytest.mark.parametrize("state", [3, {}, {"best_value": 1.0, "x": 2}, {"best_value": "1"}, {"best_value": math.nan}])
def test_states_of_checkpoint_are_checked(state: Any) -> None:
    callback = Checkpoint("c", monitor="loss")
    with pytest.raises((TypeError, ValueError), match="state"):
        callback.load_state_dict(state)
    assert callback.best_value is None


def test_a_checkpoint_stands_behind_callbacks_with_a_state(tmp_path: Path) -> None:
    X, y = make_data(20)
    trainer = one()()
    with pytest.raises(ValueError, match="callbacks must have a Checkpoint behind those with a state, got "
                                         "EarlyStopping behind it"):
        trainer.fit(X, y, epochs=3, progress=False, callbacks=[Checkpoint(tmp_path / "c"), EarlyStopping("loss")])
    assert trainer.steps == 0


def test_a_folder_that_is_missing_is_found_out_before_training(tmp_path: Path) -> None:
    X, y = make_data(20)
    trainer = one()()
    with pytest.raises(FileNotFoundError, match="No such folder to write checkpoints into"):
        trainer.fit(X, y, epochs=3, progress=False, callbacks=[Checkpoint(tmp_path / "no" / "c")])
    assert trainer.steps == 0


# ---- killed at any time

# A process that has everything compiled and has no other threads forks one for each life of the training, and kills it.
KILLING = """
import os, random, signal, sys, time
import numpy as np
from fastmlp import MLP, Dense, EarlyStopping, Trainer, set_num_threads
from fastmlp.callbacks import Checkpoint

folder, kills = sys.argv[1], int(sys.argv[2])
EPOCHS = 10 * kills
set_num_threads(1)
rng = np.random.default_rng(0)
X, y = rng.normal(size=(100, 8)), rng.integers(0, 3, 100)

def train(path):
    make = lambda: Trainer(MLP([8, Dense(16, dropout=0.2), 3]), schedule="one_cycle", batch_size=20)
    trainer = Trainer.load(path) if os.path.exists(path) else make()
    trainer.fit(X, y, epochs=EPOCHS, callbacks=[EarlyStopping(patience=EPOCHS), Checkpoint(path)], resume=True,
                validation_split=0.2, progress=False)
    return trainer

def content(trainer):
    arrays = [*trainer.model.get_weights(), *(array for slot in trainer._unpacked_state() for array in slot)]
    history = [{k: v for k, v in record.items() if k != "samples_per_second"} for record in trainer.history]
    return [array.tobytes() for array in arrays], history

unbroken = train(os.path.join(folder, "unbroken"))
killed, breaks = 0, set()
random.seed(0)
path = os.path.join(folder, "killed")
while True:
    child = os.fork()
    if not child:
        status = 1
        try:
            train(path).save(os.path.join(folder, "end"))
            status = 0
        finally:
            os._exit(status)
    if killed < kills:
        time.sleep(random.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.path.exists(path):
        breaks.add(Trainer.load(path).epochs)  # which raises an error if the file is damaged
    if status == 0:
        break
    assert os.WIFSIGNALED(status), "training failed"
    killed += 1
assert content(Trainer.load(os.path.join(folder, "end"))) == content(unbroken)
print(killed, len(breaks))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX processes")
def test_killed_at_any_time_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(
        filter(None, [str(Path(fastmlp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))}
    done = subprocess.run([sys.executable, "-c", KILLING, str(tmp_path), "15"], capture_output=True, text=True,
                          timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    killed, breaks = map(int, done.stdout.split())
    assert killed >= 5 and breaks >= 3  # so that it did go on from several places
