"""Callbacks: what counts as one, how they are called, and early stopping on a trainer that only counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from fastmlp.callbacks import EVENTS, Callback, EarlyStopping, check_callbacks, notify


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
    [3, [object()], [Recorder(), None], "on_epoch_end", {"on_epoch_end": Recorder()}, [lambda t, logs: None]],
)
def test_check_callbacks_refuses_anything_else(callbacks: Any) -> None:
    with pytest.raises(TypeError, match=r"callbacks must be an iterable of objects.*on_epoch_end"):
        check_callbacks(callbacks)


def test_check_callbacks_refuses_attributes_that_are_no_methods() -> None:
    with pytest.raises(TypeError, match="position 1"):
        check_callbacks([Recorder(), NotAMethod()])


def test_check_callbacks_helps_with_the_usual_slips() -> None:
    with pytest.raises(TypeError, match=r"callbacks must .* put a single callback in a list"):
        check_callbacks(EarlyStopping())  # type: ignore[arg-type]
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
        ({"mode": "best"}, ValueError, "mode must .*'auto', 'min' or 'max', got 'best'"),
        ({"mode": None}, ValueError, "mode must .* got None"),
        ({"restore_best": 1}, TypeError, "restore_best must .* got 1"),
    ],
)
def test_parameters_are_checked(parameters: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EarlyStopping(**parameters)


def test_numpy_parameters() -> None:
    parameters: dict[str, Any] = {"patience": np.int64(1), "min_delta": np.float32(0.5)}
    assert FakeTrainer().fit([1.0, 0.75, 0.0], EarlyStopping(**parameters)) == 2
