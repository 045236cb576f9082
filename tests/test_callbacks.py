"""Callbacks: what counts as one, how they are called, and each of them on a trainer that only counts."""

from __future__ import annotations

import csv
import gc
import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, Trainer
from fastmlp.callbacks import (
    EVENTS,
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    LearningRateLogger,
    StopOnNaN,
    check_callbacks,
    notify,
)


class Recorder:
    """A callback that derives from nothing and has two of the four methods."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, Any]] = []

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        self.calls.append(("on_epoch_end", trainer, logs))

    def on_train_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        self.calls.append(("on_train_end", trainer, logs))


class FakeModel:
    """One weight. As in a real model, `get_weights` returns copies and training changes weights in place."""

    def __init__(self) -> None:
        self.weight = np.array([-1.0])

    def get_weights(self) -> list[np.ndarray[Any, Any]]:
        return [self.weight.copy()]

    def set_weights(self, weights: list[np.ndarray[Any, Any]]) -> None:
        self.weight[:] = weights[0]


class FakeTrainer:
    """Runs epochs whose only effects are the given values and a weight that equals the epoch's number."""

    def __init__(self) -> None:
        self.model = FakeModel()
        self.stop_training = False

    def fit(
        self, values: Sequence[float], callback: Callback, name: str = "val_loss", first_epoch: int = 0
    ) -> int:
        """Train an epoch a value, up to the value INTERRUPT, and return how many epochs came to their end."""
        self.stop_training = False
        callback.on_train_begin(self, {})
        epochs = 0
        try:
            for epoch, value in enumerate(values, start=first_epoch):
                callback.on_epoch_begin(self, {"epoch": epoch})
                self.model.weight[:] = epoch
                if value is INTERRUPT:
                    break
                callback.on_epoch_end(self, {"epoch": epoch, "loss": 1.0, name: value})
                epochs += 1
                if self.stop_training:
                    break
        finally:
            callback.on_train_end(self, {})
        return epochs


INTERRUPT = float("nan")  # known by its identity
NAN = math.nan


def test_base_class_has_every_method_and_does_nothing() -> None:
    trainer = object()
    for event in EVENTS:
        logs: dict[str, Any] = {}
        assert getattr(Callback(), event)(trainer, logs) is None
        assert logs == {}


def test_check_callbacks_takes_any_iterable_of_objects_with_any_method() -> None:
    recorder, stopping = Recorder(), EarlyStopping()
    assert check_callbacks(None) == []
    assert check_callbacks(()) == []
    assert check_callbacks((recorder, stopping)) == [recorder, stopping]
    assert check_callbacks(callback for callback in [stopping, recorder]) == [stopping, recorder]


class NotAMethod:
    on_epoch_end = 3


@pytest.mark.parametrize(
    "callbacks",
    [3, [object()], [Recorder(), None], "on_epoch_end", {"on_epoch_end": Recorder()}, lambda trainer, logs: None],
)
def test_check_callbacks_refuses_anything_else(callbacks: Any) -> None:
    with pytest.raises(TypeError, match=r"callbacks must be an iterable of objects.*on_epoch_end"):
        check_callbacks(callbacks)


def test_functions_are_called_at_the_end_of_every_epoch() -> None:
    calls: list[tuple[Any, ...]] = []

    class CallableRecorder(Recorder):
        def __call__(self, trainer: Any, logs: dict[str, Any]) -> None:
            raise AssertionError("it has methods")

    def record(*arguments: Any) -> None:
        calls.append(arguments)

    recorder, trainer, logs = CallableRecorder(), object(), {"epoch": 0}
    checked = check_callbacks([record, recorder, partial(record, "partial"), lambda trainer, logs: record("lambda")])
    assert len(checked) == 4
    assert checked[1] is recorder
    for event in EVENTS:
        notify(checked, event, trainer, logs)
    assert calls == [(trainer, logs), ("partial", trainer, logs), ("lambda",)]
    assert [call[0] for call in recorder.calls] == ["on_train_end", "on_epoch_end"]


def test_check_callbacks_refuses_attributes_that_are_no_methods() -> None:
    with pytest.raises(TypeError, match="position 1"):
        check_callbacks([Recorder(), NotAMethod()])


def test_check_callbacks_helps_with_the_usual_slips() -> None:
    with pytest.raises(TypeError, match=r"callbacks must .* put a single callback in a list"):
        check_callbacks(EarlyStopping())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"callbacks must .* put a single callback in a list"):
        check_callbacks(lambda trainer, logs: None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"callbacks must .* class EarlyStopping .* pass an instance"):
        check_callbacks([EarlyStopping])


def test_notify_calls_those_that_have_the_method_in_order() -> None:
    first, second, trainer, logs = Recorder(), Recorder(), object(), {"epoch": 0}
    shared: list[tuple[str, Any, Any]] = []
    first.calls = second.calls = shared
    notify([first, Callback(), second], "on_epoch_end", trainer, logs)
    notify([first], "on_train_begin", trainer, logs)  # it has no such method
    assert [call[0] for call in shared] == ["on_epoch_end", "on_epoch_end"]
    assert all(call[1] is trainer and call[2] is logs for call in shared)


def test_notify_passes_errors_on() -> None:
    class Failing:
        def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
            raise RuntimeError("from the callback")

    with pytest.raises(RuntimeError, match="from the callback"):
        notify([Failing()], "on_epoch_end", None, {})


def test_stops_after_patience_epochs_without_improvement_and_restores_the_best() -> None:
    trainer, stopping = FakeTrainer(), EarlyStopping(patience=3)
    assert trainer.fit([1.0, 0.5, 0.6, 0.4, 0.41, 0.42, 0.43, 0.1], stopping) == 7
    assert trainer.stop_training
    assert (stopping.best_value, stopping.best_epoch, stopping.stopped_epoch) == (0.4, 3, 6)
    assert trainer.model.weight == 3


def test_epochs_without_improvement_count_only_in_a_row() -> None:
    trainer, stopping = FakeTrainer(), EarlyStopping(patience=2)
    assert trainer.fit([1.0, 2.0, 0.9, 2.0, 0.8, 2.0], stopping) == 6
    assert not trainer.stop_training
    assert stopping.stopped_epoch is None


@pytest.mark.parametrize(("patience", "epochs"), [(0, 2), (1, 2), (2, 3), (3, 4)])
def test_patience(patience: int, epochs: int) -> None:
    assert FakeTrainer().fit([1.0] * 10, EarlyStopping(patience=patience)) == epochs


def test_the_best_is_restored_when_training_ran_to_its_end() -> None:
    trainer, stopping = FakeTrainer(), EarlyStopping(patience=5)
    assert trainer.fit([1.0, 0.5, 0.6], stopping) == 3
    assert stopping.stopped_epoch is None
    assert trainer.model.weight == 1


def test_the_best_is_restored_when_training_was_interrupted() -> None:
    trainer, stopping = FakeTrainer(), EarlyStopping(patience=5)
    assert trainer.fit([1.0, 0.5, INTERRUPT], stopping) == 2
    assert trainer.model.weight == 1


def test_interrupted_before_the_first_value_leaves_the_weights() -> None:
    trainer = FakeTrainer()
    trainer.fit([INTERRUPT], EarlyStopping())
    assert trainer.model.weight == 0


def test_restore_best_false_leaves_the_last_weights_and_copies_none() -> None:
    trainer, stopping = FakeTrainer(), EarlyStopping(patience=2, restore_best=False)
    copies = 0

    def counted(original: Callable[[], Any]) -> Callable[[], Any]:
        def get_weights() -> Any:
            nonlocal copies
            copies += 1
            return original()

        return get_weights

    trainer.model.get_weights = counted(trainer.model.get_weights)  # type: ignore[method-assign]
    assert trainer.fit([1.0, 2.0, 3.0, 0.0], stopping) == 3
    assert trainer.model.weight == 2
    assert copies == 0
    assert stopping.best_epoch == 0


def test_min_delta_asks_for_more_than_that_much() -> None:
    stopping = EarlyStopping(patience=2, min_delta=0.25)
    assert FakeTrainer().fit([1.0, 0.75, 0.5, 0.0], stopping) == 4
    assert (stopping.best_value, stopping.best_epoch) == (0.0, 3)
    stopping = EarlyStopping("val_accuracy", patience=2, min_delta=0.25)
    assert FakeTrainer().fit([0.5, 0.75, 0.625, 1.0], stopping, "val_accuracy") == 3
    assert stopping.best_value == 0.5


@pytest.mark.parametrize(
    ("monitor", "mode", "higher_is_better"),
    [
        ("val_loss", "auto", False),
        ("loss", "auto", False),
        ("mean_squared_error", "auto", False),
        ("val_accuracy", "auto", True),
        ("accuracy", "auto", True),
        ("val_f1", "auto", True),
        ("f1_macro", "auto", True),
        ("val_precision", "auto", True),
        ("val_recall", "auto", True),
        ("val_r2", "auto", True),
        ("top_k_accuracy", "auto", True),
        ("val_top_k", "auto", True),
        ("val_top_5", "auto", True),
        ("val_loss", "max", True),
        ("val_accuracy", "min", False),
    ],
)
def test_mode(monitor: str, mode: str, higher_is_better: bool) -> None:
    stopping = EarlyStopping(monitor, patience=9, mode=mode)
    FakeTrainer().fit([0.5, 0.7, 0.3], stopping, monitor)
    assert stopping.best_value == (0.7 if higher_is_better else 0.3)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_nan_is_never_better(mode: str) -> None:
    trainer, stopping = FakeTrainer(), EarlyStopping(patience=3, mode=mode)
    assert trainer.fit([NAN, 0.5, NAN, NAN, NAN, 0.5], stopping) == 5
    assert (stopping.best_value, stopping.best_epoch, stopping.stopped_epoch) == (0.5, 1, 4)
    assert trainer.model.weight == 1


def test_nan_from_the_start_stops_and_leaves_the_weights() -> None:
    trainer, stopping = FakeTrainer(), EarlyStopping(patience=2)
    assert trainer.fit([NAN] * 5, stopping) == 2
    assert (stopping.best_value, stopping.best_epoch, stopping.stopped_epoch) == (None, None, 1)
    assert trainer.model.weight == 1


def test_an_instance_can_be_used_again() -> None:
    trainer, stopping = FakeTrainer(), EarlyStopping(patience=1)
    trainer.fit([0.1, 0.2], stopping)
    assert trainer.stop_training
    assert trainer.fit([5.0, 4.0], stopping, first_epoch=2) == 2
    assert (stopping.best_value, stopping.best_epoch) == (4.0, 3)
    assert stopping.stopped_epoch is None
    assert trainer.model.weight == 3


def test_an_interrupted_run_goes_on_from_a_loaded_state() -> None:
    values = [1.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.1]
    straight, stopping = FakeTrainer(), EarlyStopping(patience=4)
    assert straight.fit(values, stopping) == 6
    expected = (stopping.best_value, stopping.best_epoch, stopping.stopped_epoch)
    for epochs in range(1, 6):
        first, states = EarlyStopping(patience=4), []
        trainer = FakeTrainer()
        first.on_train_begin(trainer, {})
        for epoch in range(epochs):
            trainer.model.weight[:] = epoch
            first.on_epoch_end(trainer, {"epoch": epoch, "val_loss": values[epoch]})
            states.append(first.state_dict())
        second, resumed = EarlyStopping(patience=4), FakeTrainer()
        second.load_state_dict(states[-1])
        assert resumed.fit(values[epochs:], second, first_epoch=epochs) == 6 - epochs
        assert (second.best_value, second.best_epoch, second.stopped_epoch) == expected
        assert resumed.model.weight == straight.model.weight == 1


def test_a_loaded_state_lasts_for_one_run() -> None:
    trainer, stopping = FakeTrainer(), EarlyStopping(patience=9)
    stopping.load_state_dict(EarlyStopping().state_dict() | {"best_value": 0.25, "best_epoch": 7})
    stopping.on_train_begin(trainer, {})
    assert (stopping.best_value, stopping.best_epoch) == (0.25, 7)
    stopping.on_train_begin(trainer, {})
    assert (stopping.best_value, stopping.best_epoch) == (None, None)


def test_a_state_is_plain_and_a_copy() -> None:
    trainer, stopping = FakeTrainer(), EarlyStopping()
    empty = {"best_value": None, "best_epoch": None, "stopped_epoch": None, "epochs_without_improvement": 0,
             "best_weights": None}
    assert stopping.state_dict() == empty
    for epoch, value in enumerate((0.5, 0.75)):
        stopping.on_epoch_end(trainer, {"epoch": epoch, "val_loss": value})
    state = stopping.state_dict()
    (weight,) = state.pop("best_weights")
    assert state == {"best_value": 0.5, "best_epoch": 0, "stopped_epoch": None, "epochs_without_improvement": 1}
    weight[:] = 9
    assert stopping.state_dict()["best_weights"] == [np.array([-1.0])]

    weights = [np.array([3.0])]
    stopping.load_state_dict(state | {"best_weights": weights})
    weights[0][:] = 9
    assert stopping.state_dict()["best_weights"] == [np.array([3.0])]
    stopping.load_state_dict(empty)
    assert stopping.state_dict() == empty


@pytest.mark.parametrize("value", [math.inf, -math.inf, np.float32(0.5), 3])
def test_any_best_value_can_be_loaded(value: Any) -> None:
    stopping = EarlyStopping()
    stopping.load_state_dict(stopping.state_dict() | {"best_value": value})
    assert stopping.best_value == value
    assert isinstance(stopping.best_value, float)


def test_without_restore_best_loaded_weights_are_not_restored() -> None:
    trainer, stopping = FakeTrainer(), EarlyStopping(restore_best=False)
    stopping.load_state_dict(stopping.state_dict() | {"best_value": 0.25, "best_weights": [np.array([9.0])]})
    trainer.fit([0.5], stopping)
    assert trainer.model.weight == 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"patience": 3}, ValueError, "state must be a dict with the keys 'best_value', .* got .*'patience'"),
        ({"best_value": "0.5"}, TypeError, r"state\['best_value'\] must .* got '0.5'"),
        ({"best_value": NAN}, ValueError, r"state\['best_value'\] must .* got nan"),
        ({"best_epoch": -1}, ValueError, r"state\['best_epoch'\] must .* got -1"),
        ({"stopped_epoch": 0.5}, TypeError, r"state\['stopped_epoch'\] must .* got 0.5"),
        ({"epochs_without_improvement": None}, TypeError, r"state\['epochs_without_improvement'\] must .* got None"),
        ({"best_weights": np.zeros(3)}, TypeError, r"state\['best_weights'\] must .* got ndarray"),
        ({"best_weights": ["a"]}, TypeError, r"state\['best_weights'\] must .* got str"),
    ],
)
def test_a_state_is_checked_before_anything_is_changed(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    stopping = EarlyStopping()
    before = stopping.state_dict()
    new = {"best_value": 0.5, "best_epoch": 3, "stopped_epoch": 4, "epochs_without_improvement": 1,
           "best_weights": [np.ones(3)]}
    with pytest.raises(error, match=message):
        stopping.load_state_dict(new | changes)
    assert stopping.state_dict() == before


def test_a_state_must_be_a_whole_dict() -> None:
    with pytest.raises(TypeError, match=r"state must be a dict .* got list"):
        EarlyStopping().load_state_dict([])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"state must be a dict .* got 'best_value'"):
        EarlyStopping().load_state_dict({"best_value": 0.5})


def test_the_weights_of_one_run_are_not_restored_in_the_next() -> None:
    trainer, stopping = FakeTrainer(), EarlyStopping()
    trainer.fit([0.5], stopping)
    trainer.fit([INTERRUPT], stopping, first_epoch=1)
    assert trainer.model.weight == 1
    assert stopping.best_value is None

    stopping.on_epoch_end(trainer, {"epoch": 2, "val_loss": 0.5})  # of a run that did not get to its end
    trainer.fit([INTERRUPT], stopping, first_epoch=3)
    assert trainer.model.weight == 3


def test_the_copy_of_the_weights_is_let_go_when_training_ends() -> None:
    trainer, stopping = FakeTrainer(), EarlyStopping()
    trainer.fit([0.5, 0.6], stopping)
    trainer.model.weight[:] = 7
    stopping.on_train_end(trainer, {})
    assert trainer.model.weight == 7


@pytest.mark.parametrize("value", [np.float32(0.5), np.float64(0.5), np.array(0.5)])
def test_numpy_values(value: Any) -> None:
    stopping = EarlyStopping()
    FakeTrainer().fit([value], stopping)
    assert type(stopping.best_value) is float
    assert stopping.best_value == 0.5


def test_missing_monitor_names_it_and_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"monitor must .*'epoch', 'loss', 'val_loss'.* got 'auc'$"):
        FakeTrainer().fit([1.0], EarlyStopping("auc"))
    with pytest.raises(ValueError, match=r"got 'val_acc'$"):  # there is validation data
        FakeTrainer().fit([1.0], EarlyStopping("val_acc"))


def test_missing_validation_value_says_what_to_do() -> None:
    with pytest.raises(
        ValueError, match=r"monitor must .* got 'val_loss'; .*validation_data or validation_split"
    ):
        FakeTrainer().fit([1.0], EarlyStopping(), name="accuracy")


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"monitor": 3}, TypeError, "monitor must .* got 3"),
        ({"patience": -1}, ValueError, "patience must .* got -1"),
        ({"patience": 1.5}, TypeError, "patience must .* got 1.5"),
        ({"patience": True}, TypeError, "patience must .* got True"),
        ({"patience": None}, TypeError, "patience must .* got None"),
        ({"min_delta": -0.1}, ValueError, "min_delta must .* got -0.1"),
        ({"min_delta": math.inf}, ValueError, "min_delta must .* got inf"),
        ({"min_delta": math.nan}, ValueError, "min_delta must .* got nan"),
        ({"min_delta": False}, TypeError, "min_delta must .* got False"),
        ({"min_delta": "0.1"}, TypeError, "min_delta must .* got '0.1'"),
        ({"min_delta": 10**400}, ValueError, "min_delta must .* got a number too large"),
        ({"mode": "best"}, ValueError, "mode must be one of 'auto', 'max', 'min', got 'best'"),
        ({"mode": None}, TypeError, "mode must .* got None"),
        ({"mode": np.array(["min", "max"])}, TypeError, "mode must .* got array"),
        ({"restore_best": 1}, TypeError, "restore_best must .* got 1"),
    ],
)
def test_parameters_are_checked(parameters: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EarlyStopping(**parameters)


def test_numpy_parameters() -> None:
    parameters: dict[str, Any] = {"patience": np.int64(1), "min_delta": np.float32(0.5)}
    assert FakeTrainer().fit([1.0, 0.75, 0.0], EarlyStopping(**parameters)) == 2


# ---- StopOnNaN


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf, np.float32(math.nan)])
def test_stops_at_the_first_value_that_is_not_finite(value: float) -> None:
    trainer, stopping = FakeTrainer(), StopOnNaN("val_f1")
    with pytest.warns(RuntimeWarning) as caught:
        assert trainer.fit([0.5, 1e300, value, 0.5], stopping, "val_f1", first_epoch=4) == 3
    assert trainer.stop_training
    assert stopping.stopped_epoch == 6
    assert [str(warning.message) for warning in caught] == [f"training stopped: val_f1 is {value} in epoch 6"]
    assert trainer.fit([0.5, 0.5], stopping, "val_f1") == 2
    assert stopping.stopped_epoch is None


def test_watches_the_loss_unless_told_otherwise() -> None:
    assert FakeTrainer().fit([NAN, NAN], StopOnNaN()) == 2
    with pytest.warns(RuntimeWarning, match="loss is nan"):
        assert FakeTrainer().fit([NAN, NAN], StopOnNaN(), "loss") == 1


def test_training_stops_also_where_the_warning_is_an_error() -> None:
    trainer = FakeTrainer()
    with warnings.catch_warnings(), pytest.raises(RuntimeWarning):
        warnings.simplefilter("error")
        trainer.fit([NAN], StopOnNaN("val_loss"))
    assert trainer.stop_training


def test_stop_on_nan_checks_its_monitor() -> None:
    with pytest.raises(TypeError, match=r"monitor must .* got None"):
        StopOnNaN(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"monitor must .* got 'val_loss'; .*validation_data"):
        FakeTrainer().fit([1.0], StopOnNaN("val_loss"), "loss")


# ---- CSVLogger


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def write(logger: CSVLogger, *records: dict[str, Any]) -> None:
    """Run a training of the given records."""
    logger.on_train_begin(None, {})
    for record in records:
        logger.on_epoch_end(None, record)
    logger.on_train_end(None, {})


@pytest.mark.parametrize("kind", [str, Path])
def test_a_line_an_epoch_below_the_names(kind: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    write(CSVLogger(kind(path)), {"epoch": 0, "loss": 1 / 3}, {"epoch": 1, "loss": np.float64(0.25)},
          {"epoch": 2, "loss": NAN})
    assert path.read_bytes() == b"epoch,loss\n0,0.3333333333333333\n1,0.25\n2,nan\n"


def test_every_line_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    logger = CSVLogger(path)
    logger.on_train_begin(None, {})
    for epoch in range(3):
        logger.on_epoch_end(None, {"epoch": epoch})
        assert rows_of(path) == [["epoch"], *([str(number)] for number in range(epoch + 1))]
    logger.on_train_end(None, {})


@pytest.mark.parametrize("values", [[1.0, 2.0], [1.0, 2.0, INTERRUPT]])
def test_the_file_is_whole_and_closed_when_training_ends_or_is_interrupted(values: list[float], tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        FakeTrainer().fit(values, CSVLogger(path))
        gc.collect()  # a file that was left open would warn
    assert rows_of(path) == [["epoch", "loss", "val_loss"], ["0", "1.0", "1.0"], ["1", "1.0", "2.0"]]


def test_a_later_run_begins_the_file_anew_or_goes_on_with_it(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    logger = CSVLogger(path)
    write(logger, {"epoch": 0, "loss": 1.0})
    write(logger, {"epoch": 1, "accuracy": 0.5})
    assert rows_of(path) == [["epoch", "accuracy"], ["1", "0.5"]]
    write(CSVLogger(path, append=True), {"epoch": 2, "accuracy": 0.75})
    assert rows_of(path) == [["epoch", "accuracy"], ["1", "0.5"], ["2", "0.75"]]


@pytest.mark.parametrize("there", [None, b""])
def test_append_begins_a_file_where_there_is_none(there: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    if there is not None:
        path.write_bytes(there)
    logger = CSVLogger(path, append=True)
    write(logger, {"epoch": 0})
    write(logger, {"epoch": 1})
    assert rows_of(path) == [["epoch"], ["0"], ["1"]]


@pytest.mark.parametrize("append", [False, True])
def test_records_with_other_names_keep_to_the_columns(append: bool, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    records = [{"epoch": 0, "loss": 1.0}, {"val_loss": 3.0, "loss": 2.0, "epoch": 1, "a,b": 4}, {"epoch": 2, "new": 1}]
    if append:
        write(CSVLogger(path), records.pop(0))
    with pytest.warns(RuntimeWarning, match=r"log\.csv has no column for 'val_loss', 'a,b'") as caught:
        write(CSVLogger(path, append), *records)
    assert len(caught) == 1
    assert rows_of(path) == [["epoch", "loss"], ["0", "1.0"], ["1", "2.0"], ["2", ""]]


def test_appending_ends_a_line_that_a_crash_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(b"epoch,loss\r\n0,1.0\r\n1,0.")
    write(CSVLogger(path, append=True), {"epoch": 1, "loss": 0.5})
    assert rows_of(path) == [["epoch", "loss"], ["0", "1.0"], ["1", "0."], ["1", "0.5"]]


@pytest.mark.parametrize("text", ["Dear diary,\nno epochs today\n", "\n"])
def test_nothing_is_appended_to_a_file_of_another_kind(text: str, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"path must .* column 'epoch' to append to, got .*log\.csv"):
        CSVLogger(path, append=True).on_train_begin(None, {})
    assert path.read_text() == text


def test_csv_logger_checks_its_arguments(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"path must .* got 3"):
        CSVLogger(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"append must .* got 'a'"):
        CSVLogger("log.csv", append="a")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        CSVLogger(tmp_path / "missing" / "log.csv").on_train_begin(None, {})


# ---- LearningRateLogger


@pytest.mark.parametrize("verbose", [False, True])
def test_rates_are_recorded_and_printed_if_wanted(verbose: bool, capsys: pytest.CaptureFixture[str]) -> None:
    trainer, logger = FakeTrainer(), LearningRateLogger(verbose)
    trainer.learning_rate = 0.5  # type: ignore[attr-defined]
    for _ in range(2):  # an instance can be used again
        trainer.fit([0.125, np.float64(0.25)], logger, "learning_rate")
        assert logger.rates == [0.125, 0.25]
        assert logger.base_rates == [0.5, 0.5]
        lines = "epoch 0: learning rate 0.125\nepoch 1: learning rate 0.25\n"
        assert capsys.readouterr().out == (lines if verbose else "")


def test_learning_rate_logger_checks_verbose() -> None:
    with pytest.raises(TypeError, match="verbose must be True or False, got 1"):
        LearningRateLogger(1)  # type: ignore[arg-type]


# ---- with a trainer


def test_all_of_them_with_a_trainer_that_is_interrupted(tmp_path: Path) -> None:
    def interrupt(trainer: Any, logs: dict[str, Any]) -> None:
        if logs["epoch"] == 2:
            raise KeyboardInterrupt

    X, y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    trainer = Trainer(MLP([4, 5, 3]), schedule="one_cycle", learning_rate=0.01)
    rates = LearningRateLogger()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, y, epochs=5, validation_split=0.2, progress=False,
                    callbacks=[StopOnNaN("val_loss"), rates, CSVLogger(tmp_path / "log.csv"), interrupt])
    names, *lines = rows_of(tmp_path / "log.csv")
    assert len(lines) == 3
    assert [dict(zip(names, map(float, line), strict=True)) for line in lines] == trainer.history.records
    assert rates.rates == trainer.history["learning_rate"]
    assert rates.base_rates == [0.01] * 3


class Measure(Callback):
    """Puts a value of its own into the logs."""

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        logs["val_own"] = 1.0 / (1 + logs["epoch"])


@pytest.mark.parametrize(("optimizer", "source"), [("adam", "array"), ("adam", "chunks"), ("lbfgs", "array")])
def test_a_value_that_will_not_be_there_is_found_out_before_training(optimizer: str, source: str,
                                                                    tmp_path: Path) -> None:
    X, y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    if optimizer == "lbfgs":
        pytest.importorskip("scipy")
    arguments: tuple[Any, ...] = (X, y) if source == "array" else ([(X, y)],)

    def fit(*callbacks: Any, **options: Any) -> Trainer:
        trainer = Trainer(MLP([4, 5, 3]), optimizer=optimizer, metrics=["f1"])
        trainer.fit(*arguments, epochs=2, progress=False, callbacks=callbacks, **options)
        return trainer

    names = list(fit(validation_data=(X, y)).history[0])
    plain = list(fit().history[0])
    assert ("f1" in plain) == (source == "array")
    watchers: list[Callable[[str], Any]] = [EarlyStopping, StopOnNaN, lambda name: Checkpoint(tmp_path / "c", 1, name)]
    calls: list[str] = []

    class Begun(Callback):
        def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
            calls.append("train_begin")

    for make in watchers:
        for name in names:
            fit(make(name), validation_data=(X, y))
            if name in plain:
                fit(make(name))
                continue
            with pytest.raises(ValueError, match=f"monitor must be the name of a value in the logs .* got '{name}'"):
                fit(LearningRateLogger(), make(name), Begun())
        with pytest.raises(ValueError, match=r"monitor .* got 'val_los'"):
            fit(make("val_los"), Begun(), validation_data=(X, y))
        assert calls == []
        fit(Measure(), make("val_own"))  # which nobody can know of beforehand
