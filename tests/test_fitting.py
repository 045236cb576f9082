"""A call of `fit` that is stopped and resumed, that cannot begin, and whose settings are changed by callbacks."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import bits, records_of

import fastmlp
from fastmlp import MLP, Callback, Dense, EarlyStopping, Trainer, engine
from fastmlp.callbacks import Checkpoint
from fastmlp.fitting import DivergenceWarning
from fastmlp.schedules import ReduceOnPlateau
from fastmlp.thread_choice import ThreadChoice

Array = np.ndarray[Any, Any]
EPOCHS = 4


def make_data(rows: int = 50, inputs: int = 5, classes: int = 3) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, inputs)).astype(np.float32), rng.integers(0, classes, rows)


def new_trainer(**options: Any) -> Trainer:
    sizes = options.pop("sizes", [5, 8, 3])
    return Trainer(MLP(sizes), **{"batch_size": 16, "learning_rate": 0.02, **options})


def content(trainer: Trainer) -> tuple[Any, ...]:
    """All that training changes, but for what depends on the clock; as text, so that NaN equals NaN."""
    return (bits(trainer), records_of(trainer), trainer.steps, trainer.epochs, trainer.schedule_state,
            trainer.stop_training, trainer.unfinished, trainer.callback_states)


# ---- settings that callbacks change


SETTINGS = {"learning_rate": 0.1, "l1": 0.05, "l2": 0.5, "weight_decay": 0.5, "clip_norm": 0.01, "clip_value": 0.001,
            "input_dropout": 0.5, "input_noise": 0.5, "regularise_biases": True}


def set_at(event: str, epoch: int, **values: Any) -> Callback:
    """A callback that sets attributes of the trainer when an epoch begins or ends."""
    def act(trainer: Trainer, logs: dict[str, Any]) -> None:
        if logs.get("epoch", epoch) == epoch:
            for name, value in values.items():
                setattr(trainer, name, value)

    callback = Callback()
    setattr(callback, event, act)
    return callback


NETWORKS: dict[str, dict[str, Any]] = {
    "panels": {}, "groups": {"batch_size": 512}, "large": {"sizes": [5, 200, 200, 3]}, "passes": {"accumulation": 3},
}


@pytest.mark.parametrize("event", ["on_epoch_end", "on_epoch_begin", "on_train_begin"])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_a_callback_changes_counts_from_the_next_epoch(name: str, network: str, event: str) -> None:
    X, y = make_data(1100 if network == "groups" else 50)
    options = {"optimizer": "momentum", "l2": 0.01, **NETWORKS[network]}
    changed, expected, without = (new_trainer(**options) for _ in range(3))
    callback = set_at(event, 0 if event == "on_epoch_end" else 1, **{name: SETTINGS[name]})
    changed.fit(X, y, epochs=3, progress=False, callbacks=[callback])
    before = 0 if event == "on_train_begin" else 1
    if before:
        expected.fit(X, y, epochs=1, progress=False)
    setattr(expected, name, SETTINGS[name])
    expected.fit(X, y, epochs=3 - before, progress=False)
    without.fit(X, y, epochs=3, progress=False)
    assert bits(changed) == bits(expected) != bits(without)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_checkpoint_holds_the_settings_that_callbacks_changed(name: str, tmp_path: Path) -> None:
    X, y = make_data()
    chunks = [(X[:30], y[:30]), (X[30:], y[30:])]
    later = False if name == "regularise_biases" else 0.3 * SETTINGS[name]
    for data in ((X, y), (chunks,)):
        def callbacks() -> list[Any]:
            return [set_at("on_epoch_end", 0, **{name: SETTINGS[name]}),
                    set_at("on_epoch_begin", 2, **{name: later}), Checkpoint(tmp_path / "{epoch}")]

        unbroken = new_trainer(l2=0.01)
        unbroken.fit(*data, epochs=EPOCHS, progress=False, callbacks=callbacks())
        for epoch in range(EPOCHS):
            resumed = Trainer.load(tmp_path / str(epoch))
            resumed.fit(*data, epochs=EPOCHS, progress=False, callbacks=callbacks(), resume=True)
            assert content(resumed) == content(unbroken)


def test_a_setting_that_is_changed_beside_callbacks_counts_too() -> None:
    """Clipping needs memory that was not made, also where there is no callback that could ask for it."""
    X, y = make_data()

    def metric(y: Array, outputs: Array) -> float:
        changed.clip_norm = 0.01
        return 0.0

    changed, expected = new_trainer(metrics=[metric]), new_trainer()
    changed.fit(X, y, epochs=2, progress=False)
    expected.fit(X, y, epochs=1, progress=False)
    expected.clip_norm = 0.01
    expected.fit(X, y, epochs=1, progress=False)
    assert bits(changed) == bits(expected)


REFUSED = {"batch_size": 8, "accumulation": 2, "seed": 1}


@pytest.mark.parametrize("event", ["on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_memory_and_order_were_made_for_cannot_be_changed_by_a_callback(name: str, event: str) -> None:
    X, y = make_data()
    trainer = new_trainer()
    before = getattr(trainer, name)
    with pytest.raises(AttributeError, match=f"{name} cannot be changed while fit runs"):
        trainer.fit(X, y, epochs=2, progress=False, callbacks=[set_at(event, 0, **{name: REFUSED[name]})])
    assert getattr(trainer, name) == before
    setattr(trainer, name, REFUSED[name])  # between calls it can
    trainer.fit(X, y, epochs=1, progress=False)
    copied = pickle.loads(pickle.dumps(trainer))
    setattr(copied, name, before)


@pytest.mark.parametrize("name", sorted({*SETTINGS, *REFUSED} - {"learning_rate"}))
def test_with_lbfgs_no_setting_can_be_changed_by_a_callback(name: str) -> None:
    pytest.importorskip("scipy")
    X, y = make_data()
    trainer = new_trainer(optimizer="lbfgs")
    with pytest.raises(AttributeError, match=f"{name} cannot be changed while fit runs"):
        trainer.fit(X, y, epochs=2, progress=False, callbacks=[set_at("on_epoch_end", 0, **{name: 0})])
    trainer.l2 = 0.1
    trainer.fit(X, y, epochs=1, progress=False)


# ---- stopped, and resumed


def after_calls(original: Callable[..., Any], calls: int, error: BaseException) -> Callable[..., Any]:
    """A function that raises an error after so many calls of another one, as Ctrl-C during a call does."""
    count = 0

    def function(*arguments: Any) -> Any:
        nonlocal count
        result = original(*arguments)
        count += 1
        if count == calls:
            raise error
        return result

    return function


class Items:
    def __init__(self, X: Array, y: Array) -> None:
        self.X, self.y = X, y

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, i: int) -> tuple[Array, Any]:
        return self.X[i], self.y[i]


def chunks_of(X: Array, y: Array) -> list[tuple[Array, Array]]:
    return [(X[begin : begin + 9], y[begin : begin + 9]) for begin in range(0, len(X), 9)]


DATA: dict[str, Callable[[Array, Array], tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "arrays": lambda X, y: ((X, y), {}),
    "in order": lambda X, y: ((X, y), {"shuffle": False}),
    "weighted": lambda X, y: ((X, y), {"sample_weight": np.arange(1.0, len(X) + 1)}),
    "blocks": lambda X, y: ((X, y), {"window": 20}),
    "items": lambda X, y: ((Items(X, y),), {"window": 35}),
    "chunks": lambda X, y: ((chunks_of(X, y),), {"window": 20}),
    "one window": lambda X, y: ((lambda: iter(chunks_of(X, y)),), {}),
    "steps": lambda X, y: ((chunks_of(X, y),), {"window": 17, "steps_per_epoch": 3}),
}
TRAINERS: dict[str, tuple[Callable[[], Trainer], dict[str, Any]]] = {
    "plain": (new_trainer, {}),
    "dropout": (lambda: new_trainer(sizes=[5, Dense(9, dropout=0.3), 3], input_noise=0.1), {}),
    "plateau": (lambda: new_trainer(schedule=ReduceOnPlateau("loss", patience=1, min_delta=0.02)), {}),
    "validation": (lambda: new_trainer(schedule="reduce_on_plateau", metrics=["f1"]),
                   {"validation_data": make_data(20)}),
}


def resume(trainer: Trainer, way: str, path: Path, *arguments: Any, **options: Any) -> Trainer:
    if way == "file":
        trainer.save(path)
        trainer = Trainer.load(path)
    elif way == "pickle":
        trainer = pickle.loads(pickle.dumps(trainer))
    trainer.fit(*arguments, resume=True, **options)
    return trainer


OF_UNKNOWN_LENGTH = ("chunks", "one window")  # which schedules that go by epochs do without


@pytest.mark.usefixtures("step_by_step")
@pytest.mark.parametrize(("data", "kind"), [(data, kind) for data in DATA for kind in TRAINERS
                                            if data not in OF_UNKNOWN_LENGTH or kind in ("plain", "dropout")])
def test_after_ctrl_c_at_any_step_training_is_resumed_with_the_same_bits(
    data: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, options = DATA[data](*make_data())
    make, more = TRAINERS[kind]
    options |= {"epochs": EPOCHS, "progress": False, **more}

    def callbacks() -> list[Any]:
        return [EarlyStopping("loss", patience=2, min_delta=0.01)] if kind != "dropout" else []

    unbroken = make()
    unbroken.fit(*arguments, callbacks=callbacks(), **options)
    for stop in range(1, unbroken.steps + 1):
        broken = make()
        with monkeypatch.context() as patch:
            patch.setattr(engine.Call, "train", after_calls(engine.Call.train, stop, KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                broken.fit(*arguments, callbacks=callbacks(), **options)
        assert broken.steps == stop
        way = ("same", "pickle", "file")[stop % 3]
        assert content(resume(broken, way, tmp_path / "c", *arguments, callbacks=callbacks(), **options)) == (
            content(unbroken))


def test_a_call_may_be_stopped_and_resumed_several_times(step_by_step: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for data in DATA:
        arguments, options = DATA[data](*make_data())
        options |= {"epochs": EPOCHS, "progress": False}
        unbroken, broken = new_trainer(), new_trainer()
        for trainer in (unbroken, broken):  # so that it does not begin with the first epoch
            trainer.fit(*arguments, **options)
        unbroken.fit(*arguments, **options)
        stops = 0
        while broken.steps < unbroken.steps and stops < 40:
            with monkeypatch.context() as patch:
                patch.setattr(engine.Call, "train", after_calls(engine.Call.train, 2, KeyboardInterrupt()))
                try:
                    broken.fit(*arguments, **options, resume=True)
                except KeyboardInterrupt:
                    stops += 1
        if broken.unfinished is not None:
            broken.fit(*arguments, **options, resume=True)
        assert 6 <= stops < 40
        assert content(broken) == content(unbroken)


@pytest.mark.parametrize("progress", [False, True])
def test_ctrl_c_between_steps(progress: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In validation, and in a callback that is called at the beginning of an epoch."""
    X, y = make_data()
    options: dict[str, Any] = {"epochs": EPOCHS, "progress": progress, "validation_data": make_data(20)}
    unbroken = new_trainer()
    unbroken.fit(X, y, callbacks=[EarlyStopping()], **options)
    for calls in range(1, EPOCHS + 1):
        broken = new_trainer()
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_evaluate", after_calls(Trainer._evaluate, calls, KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                broken.fit(X, y, callbacks=[EarlyStopping()], **options)
        assert (broken.steps, broken.epochs) == (4 * calls, calls - 1)
        broken.fit(X, y, callbacks=[EarlyStopping()], resume=True, **options)
        assert content(broken) == content(unbroken)

        def interrupt(trainer: Trainer, logs: dict[str, Any], epoch: int = calls - 1) -> None:
            if logs["epoch"] == epoch:
                raise KeyboardInterrupt

        broken, begin = new_trainer(), Callback()
        begin.on_epoch_begin = interrupt  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            broken.fit(X, y, callbacks=[EarlyStopping(), begin], **options)
        broken.fit(X, y, callbacks=[EarlyStopping()], resume=True, **options)
        assert content(broken) == content(unbroken)


@pytest.mark.parametrize("window", [16, 40, 500])
@pytest.mark.parametrize("steps", [None, 6])
def test_after_an_error_of_an_iterable(steps: int | None, window: int, tmp_path: Path) -> None:
    X, y = make_data(95)
    options: dict[str, Any] = {"epochs": 3, "progress": False, "window": window, "steps_per_epoch": steps}

    def failing(at: int) -> Callable[[], Iterator[tuple[Array, Array]]]:
        left = [at]

        def chunks() -> Iterator[tuple[Array, Array]]:
            for chunk in chunks_of(X, y):
                left[0] -= 1
                if left[0] == 0:
                    raise OSError("gone")
                yield chunk

        return chunks

    unbroken = new_trainer()
    unbroken.fit(chunks_of(X, y), **options)
    made = set()
    for at in range(1, 33):
        broken = new_trainer()
        with pytest.raises(OSError, match="gone"):
            broken.fit(failing(at), **options)
        made.add(broken.steps)
        way = ("same", "pickle", "file")[at % 3]
        assert content(resume(broken, way, tmp_path / "c", chunks_of(X, y), **options)) == content(unbroken)
    assert len(made) >= (3 if window == 500 else 8)


class Ruthless(Callback):
    """Sets the weights to zero when training ends, and saves the trainer then."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        trainer.model.set_weights([0 * array for array in trainer.model.get_weights()])
        trainer.save(self.path)


@pytest.mark.parametrize("way", ["same", "pickle", "file", "at the end"])
@pytest.mark.parametrize("ruthless", [False, True])
def test_after_an_error_of_a_callback_states_and_weights_are_those_of_the_epoch(ruthless: bool, way: str,
                                                                               tmp_path: Path) -> None:
    """And not those that callbacks left at the end of training; the model has these."""
    X, y = make_data()
    options: dict[str, Any] = {"epochs": 8, "progress": False, "validation_data": make_data(20)}

    def callbacks(last: int) -> list[Any]:
        def fail(trainer: Trainer, logs: dict[str, Any]) -> None:
            if logs["epoch"] == last:
                raise RuntimeError("mine")

        return [EarlyStopping(patience=3), fail, *([Ruthless(tmp_path / "end")] if ruthless else [])]

    unbroken = new_trainer(learning_rate=0.3)
    unbroken.fit(X, y, callbacks=callbacks(99), **options)
    epochs = unbroken.epochs
    for last in range(epochs):
        broken = new_trainer(learning_rate=0.3)
        early = callbacks(last)
        with pytest.raises(RuntimeError, match="mine"):
            broken.fit(X, y, callbacks=early, **options)
        best = broken.model.get_weights()
        if ruthless:
            assert not any(array.any() for array in best)
            if way == "at the end":
                broken = Trainer.load(tmp_path / "end")
        else:
            assert broken.evaluate(*make_data(20))["loss"] == early[0].best_value
        resumed = resume(broken, way, tmp_path / "c", X, y, callbacks=callbacks(99), **options)
        assert content(resumed) == content(unbroken)


def test_a_call_that_is_not_resumed_begins_with_the_weights_there_are() -> None:
    X, y = make_data()

    def fail(trainer: Trainer, logs: dict[str, Any]) -> None:
        if logs["epoch"] == 3:
            raise RuntimeError("mine")

    broken, plain = new_trainer(), new_trainer()
    with pytest.raises(RuntimeError, match="mine"):
        broken.fit(X, y, epochs=5, progress=False, callbacks=[EarlyStopping("learning_rate"), fail])
    plain.model.set_weights(broken.model.get_weights())
    plain._state[:], plain.steps, plain.epochs = broken._state, broken.steps, broken.epochs
    for trainer in (broken, plain):
        trainer.fit(X, y, epochs=1, progress=False)
    assert bits(broken) == bits(plain)
    assert broken.unfinished is None


def test_after_ctrl_c_nothing_is_called_that_may_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the last step of an epoch; a call that is resumed calls it then."""
    X, y = make_data()
    called: list[str] = []

    def metric(y: Array, outputs: Array) -> float:
        called.append("metric")
        return 0.0

    def callback(trainer: Trainer, logs: dict[str, Any]) -> None:
        called.append("callback")

    trainer = new_trainer(metrics=[metric])
    options: dict[str, Any] = {"progress": False, "validation_data": make_data(20), "callbacks": [callback]}
    with monkeypatch.context() as patch:
        patch.setattr(engine.Call, "train", after_calls(engine.Call.train, 2, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(X, y, epochs=3, **options)
    each = ["metric", "metric", "callback"]
    assert (called, trainer.steps, trainer.epochs) == (each, 8, 1)
    assert trainer.unfinished is not None
    assert set(trainer.unfinished) == {"epochs", "first_update", "first_epoch", "losses"}
    trainer.fit(X, y, epochs=3, resume=True, **options)
    assert called == 3 * each


def stopped(step_count: int, monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> Trainer:
    trainer = new_trainer()
    with monkeypatch.context() as patch:
        patch.setattr(engine.Call, "train", after_calls(engine.Call.train, step_count, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(*arguments, epochs=3, progress=False, **options)
    return trainer


@pytest.mark.usefixtures("step_by_step")
@pytest.mark.parametrize("change", ["rows", "fewer rows", "batch_size", "step"])
def test_other_batches_than_before_are_refused(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data()
    trainer = stopped(3 if change == "fewer rows" else 6, monkeypatch, X, y)
    if change == "step":
        trainer.step(X, y)
    elif change == "batch_size":
        trainer.batch_size = 5
    rows = {"rows": 33, "fewer rows": 20}.get(change, 50)
    before, calls = content(trainer), []
    with pytest.raises(ValueError, match="resume must be False if batches are not those of the call"):
        trainer.fit(X[:rows], y[:rows], epochs=3, progress=False, resume=True,
                    callbacks=[set_at("on_train_begin", 0, l2=0.1), lambda trainer, logs: calls.append(logs)])
    assert (repr(content(trainer)), trainer.l2, calls) == (repr(before), 0.0, [])


@pytest.mark.usefixtures("step_by_step")
@pytest.mark.parametrize("rows", [20, 32])
def test_an_iterable_with_fewer_batches_than_were_made_is_refused(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data()
    trainer = stopped(3, monkeypatch, chunks_of(X, y), window=16)
    assert trainer.steps == 3
    with pytest.raises(ValueError, match=r"resume must be False|X must have at least 3 batches"):
        trainer.fit(chunks_of(X[:rows], y[:rows]), epochs=3, progress=False, resume=True, window=16)
    trainer.fit(chunks_of(X, y), epochs=3, progress=False, resume=True, window=16)
    assert trainer.steps == 12


@pytest.mark.parametrize("row", [3, 45])
def test_nan_is_found_before_a_call_is_resumed(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in large inputs, and in rows that are not read in what is left of the epoch."""
    monkeypatch.setattr("fastmlp.fit_arguments.LARGE_BYTES", 100)
    monkeypatch.setattr(ThreadChoice, "next", lambda choice: (1, 1e-12))
    X, y = make_data()
    trainer = stopped(2, monkeypatch, X, y, shuffle=False)
    before = repr(content(trainer))
    X[row, 2] = np.nan
    with pytest.raises(ValueError, match=f"X must be finite as float32, got nan in row {row}"):
        trainer.fit(X, y, epochs=3, progress=False, shuffle=False, resume=True)
    assert repr(content(trainer)) == before


# ---- calls that cannot begin


def test_a_call_that_cannot_begin_changes_nothing(tmp_path: Path) -> None:
    X, y = make_data()
    options: dict[str, Any] = {"epochs": 8, "progress": False, "validation_data": make_data(20)}

    def callbacks(folder: Path, last: int = 99) -> list[Any]:
        def fail(trainer: Trainer, logs: dict[str, Any]) -> None:
            if logs["epoch"] == last:
                raise RuntimeError("mine")

        return [EarlyStopping(patience=3), fail, Checkpoint(folder / "c")]

    unbroken = new_trainer(learning_rate=0.3)
    unbroken.fit(X, y, callbacks=callbacks(tmp_path), **options)
    broken = new_trainer(learning_rate=0.3)
    with pytest.raises(RuntimeError, match="mine"):
        broken.fit(X, y, callbacks=callbacks(tmp_path, 4), **options)
    for trainer in (Trainer.load(tmp_path / "c"), broken, new_trainer(learning_rate=0.3)):
        for resumes in (True, False):
            before = repr(content(trainer))
            with pytest.raises(FileNotFoundError, match="No such folder"):
                trainer.fit(X, y, callbacks=callbacks(tmp_path / "no"), resume=resumes, **options)
            assert repr(content(trainer)) == before
        if trainer.epochs == 4:  # the file is that of the epoch before
            trainer = Trainer.load(tmp_path / "c")
        trainer.fit(X, y, callbacks=callbacks(tmp_path), resume=True, **options)
        assert content(trainer) == content(unbroken)


def test_after_a_call_that_could_not_begin_the_callbacks_can_be_used() -> None:
    X, y = make_data()
    ended: list[str] = []

    class Failing(Callback):
        def on_train_begin(self, trainer: Trainer, logs: dict[str, Any]) -> None:
            raise KeyError("mine")

        def on_train_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
            ended.append("end")

    for options in ({}, {"optimizer": "lbfgs"}):
        if options:
            pytest.importorskip("scipy")
        trainer = new_trainer(**options)
        before = content(trainer)
        with pytest.raises(KeyError, match="mine"):
            trainer.fit(X, y, epochs=2, progress=False, callbacks=[EarlyStopping("loss"), Failing()])
        assert (content(trainer), trainer.callbacks, ended) == (before, [], [])
        trainer.batch_size = 3  # no call is running


@pytest.mark.parametrize("data", ["arrays", "chunks"])
def test_a_call_without_memory_changes_nothing(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, options = DATA[data](*make_data())

    def no_memory(*arguments: Any, **options: Any) -> None:
        raise MemoryError

    trainer = new_trainer()
    with monkeypatch.context() as patch:
        patch.setattr(engine, "training_call", no_memory)
        with pytest.raises(MemoryError):
            trainer.fit(*arguments, epochs=2, progress=False, **options)
    assert trainer.unfinished is None
    trainer.fit(*arguments, epochs=2, progress=False, resume=True, **options)
    assert trainer.epochs == 2


# ---- epochs of a single batch


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("sizes", [[5, 8, 8], [40, 70, 3], [8, 5, 30], [700, 900, 600], [64, 70, 1]])
def test_an_epoch_that_is_one_batch_may_have_any_number_of_rows(sizes: list[int], accumulation: int,
                                                                 tmp_path: Path) -> None:
    X, y = make_data(2000)
    batch = 1000 // accumulation
    options: dict[str, Any] = {"batch_size": batch, "accumulation": accumulation}
    left: list[int] = []

    def chunks() -> Iterator[tuple[Array, Array]]:
        rows = left.pop(0)
        yield X[:rows], y[:rows]

    trainer, plain = new_trainer(**options), new_trainer(**options)
    left[:] = sizes
    trainer.fit(chunks, epochs=3, shuffle=False, progress=False, callbacks=[Checkpoint(tmp_path / "{epoch}")])
    for rows in sizes:
        plain.fit(X[:rows], y[:rows], epochs=1, shuffle=False, progress=False)
    assert bits(trainer) == bits(plain)
    assert trainer.history["loss"] == plain.history["loss"]
    resumed = Trainer.load(tmp_path / "0")
    left[:] = sizes[1:]
    resumed.fit(chunks, epochs=3, shuffle=False, progress=False, resume=True)
    assert content(resumed) == content(trainer)


# ---- calls of `fit` one after the other, which use the same memory


def fail(trainer: Trainer, logs: dict[str, Any]) -> None:
    raise RuntimeError("no")


def fail_in_fit(trainer: Trainer, X: Array, y: Array) -> None:
    with pytest.raises(RuntimeError, match="no"):
        trainer.fit(X, y, 2, callbacks=[fail], progress=False)


def clip_in_fit(trainer: Trainer, X: Array, y: Array) -> None:
    trainer.fit(X, y, 2, callbacks=[set_at("on_epoch_begin", trainer.epochs, clip_norm=0.01)], progress=False)
    trainer.clip_norm = 0.0


def diverge(trainer: Trainer, X: Array, y: Array) -> None:
    weights = trainer.model.get_weights()
    trainer.model.set_weights([np.full_like(array, 1e38) for array in weights])
    with pytest.warns(DivergenceWarning):
        trainer.fit(X, y, 1, progress=False)
    trainer.model.set_weights(weights)


def halve_batches(trainer: Trainer, X: Array, y: Array) -> None:
    trainer.batch_size, trainer.accumulation = trainer.batch_size // 2, 2


BETWEEN: dict[str, Callable[[Trainer, Array, Array], Any]] = {
    "an order of their own": lambda trainer, X, y: trainer.fit(X, y, 1, shuffle=False, progress=False),
    "weights of samples": lambda trainer, X, y: trainer.fit(X, y, 1, sample_weight=np.arange(len(X)), progress=False),
    "uint8": lambda trainer, X, y: trainer.fit(np.abs(X).astype(np.uint8), y, 1, progress=False),
    "fewer rows": lambda trainer, X, y: trainer.fit(X[:20], y[:20], 1, progress=False),
    "an iterable": lambda trainer, X, y: trainer.fit([(X, y)], epochs=1, progress=False),
    "a step": lambda trainer, X, y: trainer.step(X, y),
    "an error": fail_in_fit,
    "clipping": clip_in_fit,
    "divergence": diverge,
    "other weights": lambda trainer, X, y: trainer.model.set_weights(MLP([5, 8, 3], seed=1).get_weights()),
    "another batch": lambda trainer, X, y: setattr(trainer, "batch_size", 7),
    "accumulation": lambda trainer, X, y: setattr(trainer, "accumulation", 3),
    "batches of as many rows": halve_batches,
    "the norm": lambda trainer, X, y: setattr(trainer, "clip_norm", 0.01),
    "noise": lambda trainer, X, y: setattr(trainer, "input_noise", 0.5),
    "the seed": lambda trainer, X, y: setattr(trainer, "seed", 3),
}


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("between", BETWEEN)
def test_memory_that_was_used_before_makes_no_difference(between: str, shuffle: bool) -> None:
    X, y = make_data()
    used, other = new_trainer(optimizer="sgd"), new_trainer(optimizer="sgd")
    for trainer in (used, other):
        trainer.fit(X, y, 2, progress=False, shuffle=shuffle)
        BETWEEN[between](trainer, X, y)
        if trainer is other:
            trainer._calls.of_fit.clear()
        trainer.fit(X, y, 2, progress=False, shuffle=shuffle)
    assert content(used) == content(other)


def test_the_memory_of_a_call_is_used_by_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data()
    trainer = new_trainer()
    trainer.fit(X, y, 1, progress=False)
    monkeypatch.setattr(engine, "training_call", None)
    trainer.fit(X, y, 1, progress=False)
    with pytest.raises(TypeError):
        trainer.fit(X[:20], y[:20], 1, progress=False)


def test_memory_for_more_threads_than_there_are_now_is_not_used() -> None:
    X, y = make_data()
    trainer = new_trainer()
    threads = fastmlp.get_num_threads()
    try:
        for number in (threads, 1, threads):
            fastmlp.set_num_threads(number)
            trainer.fit(X, y, 1, progress=False)
            (call,) = trainer._calls.of_fit.values()
            assert call.threads == number
    finally:
        fastmlp.set_num_threads(threads)
