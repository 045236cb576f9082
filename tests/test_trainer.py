"""The trainer: what it learns, that it is right to the bit, what it reports, and how it stops."""

from __future__ import annotations

import copy
import functools
import gc
import math
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from comparing import bits
from naive import layers_of

import fastmlp
from fastmlp import (
    MLP,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Callback,
    Dense,
    DivergenceWarning,
    EarlyStopping,
    History,
    Maxout,
    Momentum,
    NAdam,
    Nesterov,
    RMSprop,
    Trainer,
    engine,
)
from fastmlp.activations import ACTIVATIONS
from fastmlp.kernels import layout
from fastmlp.schedules import OneCycle, Span

Array = np.ndarray[Any, Any]

OUTPUTS = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid", "half_squared_error": "identity",
           "mean_squared_error": "identity", "mean_absolute_error": "identity", "huber": "identity",
           "hinge": "identity", "poisson": "exponential"}
OPTIMIZERS = tuple(naive.RULES)
HIDDEN = tuple(name for name in ACTIVATIONS if name != "exponential")  # with that the training in these tests diverges


def make_data(rows: int, inputs: int, classes: int, seed: int = 0) -> tuple[Array, Array]:
    """Inputs and labels that have something to do with one another."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, inputs)).astype(np.float32)
    return X, (X @ rng.normal(size=(inputs, classes))).argmax(axis=1)


def batches_of(rows: int, batch: int, epochs: int) -> list[Array]:
    """The batches of some epochs in the order of the rows."""
    return [np.arange(first, min(first + batch, rows)) for _ in range(epochs) for first in range(0, rows, batch)]


def losses(trainer: Trainer) -> list[float]:
    return list(trainer.history["loss"])


def environment() -> dict[str, str]:
    """The environment for a process that imports the same package."""
    paths = [str(Path(fastmlp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def run_code(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, env=environment())


# ---- exclusive or

XOR_X, XOR_Y = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0.0, 1.0, 1.0, 0.0])


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exclusive_or_is_learned_with_two_hidden_units(activation: str, dtype: str) -> None:
    learned = []
    for seed in range(5):  # some starts end in a local minimum
        model = MLP([2, 2, 1], activation=activation, seed=seed, dtype=dtype)
        trainer = Trainer(model, loss="binary_cross_entropy", optimizer="adam", learning_rate=0.05, batch_size=4)
        trainer.fit(XOR_X, XOR_Y, epochs=1500, progress=False)
        learned.append((model.predict(XOR_X)[:, 0] == XOR_Y).all() and losses(trainer)[-1] < 0.1)
        assert len(trainer.history) == 1500
    assert sum(learned) >= 1


def test_exclusive_or_is_not_learned_without_hidden_units() -> None:
    for seed in range(3):
        model = MLP([2, 1], seed=seed)
        trainer = Trainer(model, loss="binary_cross_entropy", optimizer="adam", learning_rate=0.05, batch_size=4)
        trainer.fit(XOR_X, XOR_Y, epochs=1500, progress=False)
        assert trainer.evaluate(XOR_X, XOR_Y)["accuracy"] <= 0.75
        assert losses(trainer)[-1] > math.log(2) - 0.01


def test_a_separable_problem_is_learned() -> None:
    X, y = make_data(600, 10, 3)
    trainer = Trainer(MLP([10, 16, 3]), learning_rate=0.01)
    before = trainer.evaluate(X, y)
    trainer.fit(X, y, epochs=20, progress=False)
    after = trainer.evaluate(X, y)
    assert after["accuracy"] > 0.97
    assert after["loss"] < before["loss"] / 5


# ---- against a plain training loop


def targets_for(loss: str, rows: int, outputs: int, seed: int = 3) -> tuple[Array, Array]:
    """Targets as they are given, and as numbers for every output."""
    rng = np.random.default_rng(seed)
    if loss == "cross_entropy":
        labels = rng.integers(0, outputs, rows)
        return labels, naive.one_hot(labels, outputs)
    shape = rows, outputs
    targets = {"binary_cross_entropy": rng.random, "poisson": functools.partial(rng.poisson, 2.0),
               "hinge": functools.partial(rng.choice, [-1.0, 1.0])}.get(loss, rng.standard_normal)(shape)
    return targets, targets


def check_against_plain_loop(sizes: list[int], loss: str, optimizer: str, rows: int, batch: int, epochs: int = 4,
                             l2: float = 0.0, rate: float = 0.02, activation: str = "tanh") -> None:
    model = MLP(sizes, activation=activation, output=OUTPUTS[loss], dtype="float64", seed=1)
    X = np.random.default_rng(2).normal(size=(rows, sizes[0]))
    y, targets = targets_for(loss, rows, sizes[-1])
    batches = batches_of(rows, batch, epochs)
    expected_losses, expected = naive.train(X, targets, layers_of(model), loss, optimizer, rate, batches, l2)

    trainer = Trainer(model, loss, optimizer, rate, batch_size=batch, l2=l2)
    history = trainer.fit(X, y, epochs=epochs, shuffle=False, progress=False)
    for found, wanted in zip(model.get_weights(), naive.parameters_of(expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
    per_epoch = np.reshape(expected_losses, (epochs, -1))
    row_counts = [len(rows_of_batch) for rows_of_batch in batches[: per_epoch.shape[1]]]
    np.testing.assert_allclose(history["loss"], (per_epoch * row_counts).sum(axis=1) / rows, rtol=1e-9)
    assert trainer.steps == len(batches)
    assert history["learning_rate"] == [rate] * epochs


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("l2", [0.0, 0.03])
@pytest.mark.parametrize(("rows", "batch"), [(36, 12), (35, 10), (31, 10), (9, 1), (20, 100), (1, 32)])
def test_every_optimizer_is_that_of_the_textbook(optimizer: str, l2: float, rows: int, batch: int) -> None:
    """Whole batches, a smaller last batch (of 5 rows, of 1), batches of one row, one batch larger than the set."""
    check_against_plain_loop([5, 7, 3], "cross_entropy", optimizer, rows, batch, l2=l2)


@pytest.mark.parametrize("loss", OUTPUTS)
@pytest.mark.parametrize("hidden", [[], [9], [6, 5, 4]], ids=lambda hidden: f"depth{len(hidden) + 1}")
def test_every_loss_and_depth_against_a_plain_loop(loss: str, hidden: list[int]) -> None:
    check_against_plain_loop([4, *hidden, 2], loss, "adam", 23, 8)
    check_against_plain_loop([4, *hidden, 2], loss, "sgd", 23, 8, l2=0.1)


@pytest.mark.parametrize("activation", HIDDEN)
def test_every_activation_against_a_plain_loop(activation: str) -> None:
    check_against_plain_loop([4, 18, 33, 2], "mean_squared_error", "nesterov", 23, 8, activation=activation)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("rows", "batch"), [
    (1024, 512),  # whole batches
    (700, 300),  # the last batch has 100 rows
    (515, 512),  # the last batch has 3 rows, fewer than there are groups
    (2049, 2048),  # the last batch has 1 row
    (4100, 2048),  # the last batch has 4 rows, fewer than there are groups
    (300, 5000),  # one batch larger than the set
])
def test_rows_in_groups_against_a_plain_loop(optimizer: str, rows: int, batch: int) -> None:
    assert engine.groups_for(MLP([5, 7, 3]).network, min(batch, rows)) > 1
    check_against_plain_loop([5, 7, 3], "cross_entropy", optimizer, rows, batch, epochs=3, l2=0.03)


PASSES = [
    (64, 32),  # two whole passes
    (99, 99),  # the last pass has 3 rows
    (65, 65),  # the last pass has 1 row
    (150, 100),  # the last batch has passes too, the last one of 18 rows
    (120, 100),  # the last batch is a single pass
    (101, 100),  # the last batch has 1 row
    (200, 255),  # one batch larger than the set
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("rows", "batch"), PASSES)
def test_batches_in_several_passes_against_a_plain_loop(optimizer: str, rows: int, batch: int,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MOST_PASS_ROWS", 32)
    assert engine.groups_for(MLP([5, 37, 3]).network, batch) == 1
    check_against_plain_loop([5, 37, 3], "cross_entropy", optimizer, rows, batch, epochs=3, l2=0.03)


@pytest.mark.parametrize("loss", OUTPUTS)
@pytest.mark.parametrize("activation", HIDDEN)
def test_every_loss_and_activation_in_several_passes_against_a_plain_loop(loss: str, activation: str,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MOST_PASS_ROWS", 10)
    check_against_plain_loop([4, 18, 33, 2], loss, "nesterov", 47, 47, activation=activation)


@pytest.mark.parametrize(("optimizer", "name", "settings"), [
    (Momentum(0.5), "momentum", {"momentum": 0.5}),
    (Momentum(0.0), "sgd", {}),
    (Nesterov(0.99), "nesterov", {"momentum": 0.99}),
    (Adam(beta_1=0.5, beta_2=0.9, epsilon=1e-3), "adam", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
    (Adam(beta_1=0.0), "adam", {"beta_1": 0.0}),
    (Adam(beta_2=0.0, epsilon=0.1), "adam", {"beta_2": 0.0, "epsilon": 0.1}),
    (AdamW(weight_decay=0.0), "adam", {}),
    (NAdam(beta_1=0.5, beta_2=0.9, epsilon=1e-3), "nadam", {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}),
    (Adagrad(epsilon=1e-3), "adagrad", {"epsilon": 1e-3}),
    (Adadelta(rho=0.5, epsilon=1e-3), "adadelta", {"rho": 0.5, "epsilon": 1e-3}),
    (RMSprop(decay=0.5, epsilon=1e-3, momentum=0.5), "rmsprop", {"decay": 0.5, "epsilon": 1e-3, "momentum": 0.5}),
], ids=repr)
def test_settings_of_optimizers(optimizer: Any, name: str, settings: dict[str, float]) -> None:
    model = MLP([4, 6, 2], activation="tanh", dtype="float64")
    X = np.random.default_rng(0).normal(size=(12, 4))
    y, targets = targets_for("cross_entropy", 12, 2)
    parameters, states = model.get_weights(), [naive.new_state(name, p) for p in model.get_weights()]
    trainer = Trainer(model, optimizer=optimizer, learning_rate=0.01, batch_size=12, l2=0.1)
    trainer.fit(X, y, epochs=6, progress=False, shuffle=False)
    layers = layers_of(model)
    for step in range(1, 7):
        current = [(parameters[2 * l], parameters[2 * l + 1], *layers[l][2:]) for l in range(2)]
        _, gradients = naive.loss_and_gradients(X, targets, current, "cross_entropy")
        for i, gradient in enumerate(gradients):
            parameters[i], states[i] = naive.update(name, parameters[i], gradient, states[i], 0.01, step,
                                                    l2=0.1 if i % 2 == 0 else 0.0, **settings)
    for found, expected in zip(model.get_weights(), parameters, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_l2_leaves_the_reported_loss_and_the_biases_alone() -> None:
    X, y = np.zeros((4, 3)), np.array([0, 1, 0, 1])
    model = MLP([3, 2], dtype="float64")
    weights = model.get_weights()[0]
    trainer = Trainer(model, optimizer="sgd", learning_rate=0.1, l2=0.5)
    trainer.fit(X, y, epochs=1, progress=False)
    np.testing.assert_allclose(model.get_weights()[0], weights * (1 - 0.1 * 0.5), rtol=1e-12)  # no gradient but l2 W
    assert losses(trainer)[0] == pytest.approx(math.log(2), rel=1e-12)
    np.testing.assert_array_equal(model.get_weights()[1], 0)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_float32_training_is_float64_training_but_for_rounding(optimizer: str) -> None:
    X, y = make_data(200, 20, 4)
    results = []
    for dtype in ("float32", "float64"):
        model = MLP([20, 30, 4], activation="tanh", dtype=dtype)
        Trainer(model, optimizer=optimizer, learning_rate=0.01, batch_size=32).fit(X, y, epochs=3, progress=False)
        results.append(model.get_weights())
    for single, double in zip(*results, strict=True):
        np.testing.assert_allclose(single, double, rtol=0, atol=2e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_on_scaled_bytes_is_training_on_scaled_numbers(dtype: str) -> None:
    X = np.random.default_rng(0).integers(0, 256, (90, 30), np.uint8)
    y = make_data(90, 30, 3)[1]
    mean, std = 33.0, 78.0
    scaled = MLP([30, 12, 3], dtype=dtype, input_mean=mean, input_std=std)
    plain = MLP([30, 12, 3], dtype=dtype)
    Trainer(scaled, batch_size=20).fit(X, y, epochs=3, progress=False)
    Trainer(plain, batch_size=20).fit((X.astype(np.float64) - mean) / std, y, epochs=3, progress=False)
    for a, b in zip(scaled.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 if dtype == "float32" else 1e-11)


# ---- the same bits


KINDS: dict[str, tuple[list[Any], dict[str, Any], int, int]] = {  # layers, options of MLP, rows, batch
    "wide": ([200, 300, 5], {}, 150, 64),
    "deep": ([30, 40, Dense(50, "softmax"), 40, 4], {"activation": "tanh"}, 130, 32),
    "digits": ([64, 48, 10], {"activation": "elu"}, 330, 32),
    "grouped": ([6, 9, 3], {"activation": "relu"}, 1300, 512),
    "shallow": ([50, 3], {}, 100, 40),
    "scaled": ([64, 48, 10], {"input_mean": 20.0, "input_std": 50.0}, 330, 32),
}


def run_kind(kind: str, dtype: str = "float32", as_bytes: bool = False, epochs: tuple[int, ...] = (3,),
             **options: Any) -> Trainer:
    layers, model_options, rows, batch = KINDS[kind]
    model = MLP(layers, dtype=dtype, seed=4, **model_options)
    X, y = make_data(rows, model.inputs, model.outputs)
    if as_bytes:
        X = np.clip(np.abs(X) * 60, 0, 255).astype(np.uint8)
    trainer = Trainer(model, **{"learning_rate": 0.003, "batch_size": batch, "l2": 0.001, **options})
    for number in epochs:
        trainer.fit(X, y, epochs=number, progress=False)
    return trainer


@pytest.mark.parametrize("as_bytes", [False, True], ids=["floats", "bytes"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_thread_and_two_give_the_same_bits(kind: str, dtype: str, as_bytes: bool, threads: Callable[[int], None],
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LEAST_PARALLEL_WORK", 0)
    used = []
    original = engine.Call.train

    def train(call: engine.Call, number: int) -> None:
        used.append(number)
        original(call, number)

    monkeypatch.setattr(engine.Call, "train", train)
    threads(1)
    alone = run_kind(kind, dtype, as_bytes)
    assert set(used) == {1}
    threads(2)
    together = run_kind(kind, dtype, as_bytes)
    assert 2 in used
    assert bits(together) == bits(alone)
    assert losses(together) == losses(alone)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["wide", "deep", "scaled", "shallow"])
def test_a_batch_in_several_passes_gives_what_one_pass_gives_and_the_same_bits_on_two_threads(
        kind: str, dtype: str, threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LEAST_PARALLEL_WORK", 0)
    # Not with Adam, which divides by what may be hardly more than rounding.
    options: dict[str, Any] = {"optimizer": "momentum", "batch_size": 100}
    threads(1)
    at_once = run_kind(kind, dtype, **options)
    monkeypatch.setattr(engine, "MOST_PASS_ROWS", 24)
    alone = run_kind(kind, dtype, **options)
    assert engine.training_call(alone.model.network, 100).context[fastmlp.kernels.layout.PASS_ROWS] == 24
    threads(2)
    together = run_kind(kind, dtype, **options)
    assert bits(together) == bits(alone)
    assert losses(together) == losses(alone)

    tolerance = 200 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(losses(alone), losses(at_once), rtol=tolerance)
    for a, b in zip(alone.model.get_weights(), at_once.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


def test_a_step_and_a_gradient_in_several_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data(77, 20, 4)
    results = []
    for most in (1024, 77, 76, 20, 1):
        monkeypatch.setattr(engine, "MOST_PASS_ROWS", most)
        model = MLP([20, 40, 4], activation="tanh", dtype="float64")
        loss, gradients = model.loss_and_gradients(X, y)
        trainer = Trainer(model, optimizer="sgd", learning_rate=1.0)
        assert trainer.step(X, y) == pytest.approx(loss, rel=1e-12)
        results.append([np.array([loss]), *gradients, *model.get_weights()])
    for other in results[1:]:
        for found, wanted in zip(other, results[0], strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bits_and_another_seed_another_order(kind: str) -> None:
    first, second, other = run_kind(kind), run_kind(kind), run_kind(kind, seed=1)
    assert bits(first) == bits(second)
    assert losses(first) == losses(second)
    assert bits(first) != bits(other)


def test_the_largest_seed() -> None:
    assert bits(run_kind("digits", seed=2**63 - 1)) == bits(run_kind("digits", seed=2**63 - 1))
    assert bits(run_kind("digits", seed=2**63 - 1)) != bits(run_kind("digits", seed=2**63 - 2))


def test_seed_none_takes_another_order_each_time() -> None:
    assert bits(run_kind("digits", seed=None)) != bits(run_kind("digits", seed=None))
    assert bits(run_kind("digits")) == bits(run_kind("digits", seed=0))


def visited(trainer: Trainer, rows: int, epochs: int, **options: Any) -> list[list[int]]:
    """The order in which `fit` takes the rows: with steps of one row, the loss of step k tells which row it was."""
    orders: list[list[int]] = []

    class Reader(Callback):
        def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
            orders.append(found[-rows:])

    found: list[int] = []
    original = engine.Call.train

    def train(call: engine.Call, number: int) -> None:
        original(call, number)
        found.extend(np.rint(call.kept(fastmlp.kernels.layout.LOSSES)).astype(int).tolist())

    X = np.zeros((rows, 1))
    y = np.sqrt(np.arange(rows, dtype=np.float64))  # with outputs of zero, the squared error of row k is k
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.Call, "train", train)
        trainer.fit(X, y, epochs=epochs, progress=False, callbacks=[Reader()], **options)
    return orders


def order_reader(seed: int | None = 0) -> Trainer:
    model = MLP([1, 1], output="relu", dtype="float64")
    model.set_weights([[[0.0]], [-1.0]])  # its outputs are zero and stay so
    return Trainer(model, "mean_squared_error", "sgd", 1e-30, batch_size=1, seed=seed)


def test_every_epoch_takes_every_row_once_in_an_order_of_its_own() -> None:
    orders = visited(order_reader(), 50, 4)
    for order in orders:
        assert sorted(order) == list(range(50))
        assert order != list(range(50))
    assert len({tuple(order) for order in orders}) == 4
    assert visited(order_reader(), 50, 4) == orders
    assert visited(order_reader(seed=1), 50, 1)[0] != orders[0]


def test_without_shuffling_the_rows_come_as_they_are() -> None:
    assert visited(order_reader(), 30, 2, shuffle=False) == [list(range(30))] * 2


def test_fit_called_again_takes_new_orders() -> None:
    trainer = order_reader()
    first, second = visited(trainer, 50, 2), visited(trainer, 50, 2)
    assert first + second == visited(order_reader(), 50, 4)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["digits", "grouped"])
def test_fit_called_again_goes_on_where_it_stood(kind: str, optimizer: str) -> None:
    once = run_kind(kind, optimizer=optimizer, epochs=(5,))
    again = run_kind(kind, optimizer=optimizer, epochs=(1, 3, 1))
    assert bits(again) == bits(once)
    assert losses(again) == losses(once)
    assert again.history["epoch"] == once.history["epoch"] == [0, 1, 2, 3, 4]
    assert again.steps == once.steps


@pytest.mark.usefixtures("step_by_step")
@pytest.mark.parametrize("kind", KINDS)
def test_the_length_of_slices_does_not_matter(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sliced = run_kind(kind)
    monkeypatch.undo()
    whole = run_kind(kind)
    assert bits(sliced) == bits(whole)
    assert losses(sliced) == losses(whole)
    assert sliced.steps == whole.steps


@pytest.mark.parametrize("progress", [False, True])
def test_watching_does_not_matter(progress: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Callbacks, validation and the progress bar make training stop at each epoch; the bits are the same."""
    X, y = make_data(100, 6, 3)
    plain, watched = (Trainer(MLP([6, 8, 3]), batch_size=16) for _ in range(2))
    plain.fit(X, y, epochs=4, progress=False)
    watched.fit(X, y, epochs=4, progress=progress, callbacks=[Callback()], validation_data=(X[:10], y[:10]))
    assert bits(watched) == bits(plain)
    assert losses(watched) == losses(plain)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "batch"), [(96, 32), (50, 16), (600, 300)])
def test_a_loop_of_steps_is_fit_without_shuffling(optimizer: str, dtype: str, rows: int, batch: int) -> None:
    X, y = make_data(rows, 12, 3)
    fitted, stepped = (Trainer(MLP([12, 20, 3], dtype=dtype), optimizer=optimizer, batch_size=batch, l2=0.01)
                       for _ in range(2))
    fitted.fit(X, y, epochs=3, shuffle=False, progress=False)
    values = [stepped.step(X[index], y[index]) for index in batches_of(rows, batch, 3)]
    assert bits(stepped) == bits(fitted)
    assert stepped.steps == fitted.steps == len(values)
    assert all(type(value) is float for value in values)


def test_steps_and_fits_may_be_mixed() -> None:
    X, y = make_data(64, 12, 3)
    fitted, mixed = (Trainer(MLP([12, 20, 3]), batch_size=32) for _ in range(2))
    fitted.fit(X, y, epochs=3, shuffle=False, progress=False)
    mixed.step(X[:32], y[:32])
    mixed.step(X[32:], y[32:])
    mixed.fit(X, y, epochs=1, shuffle=False, progress=False)
    mixed.step(X[:32], y[:32])
    mixed.step(X[32:], y[32:])
    assert bits(mixed) == bits(fitted)


def test_step_returns_the_loss_before_the_update() -> None:
    X, y = make_data(40, 12, 3)
    trainer = Trainer(MLP([12, 20, 3], dtype="float64"))
    for _ in range(3):
        expected = trainer.evaluate(X, y)["loss"]
        assert trainer.step(X, y) == pytest.approx(expected, rel=1e-12)


def test_steps_with_inputs_of_changing_kind_and_size() -> None:
    X, y = make_data(40, 12, 3)
    trainer, same = Trainer(MLP([12, 20, 3])), Trainer(MLP([12, 20, 3]))
    for rows, dtype in ((40, np.float32), (40, np.float64), (7, np.float32), (300, np.float32), (1, np.float64)):
        index = np.arange(rows) % 40
        trainer.step(X[index].astype(dtype), y[index])
        same.step(X[index], y[index])
    assert bits(trainer) == bits(same)


def test_weights_set_between_steps_count() -> None:
    X, y = make_data(40, 12, 3)
    trainer = Trainer(MLP([12, 20, 3]), optimizer="sgd")
    weights = trainer.model.get_weights()
    trainer.step(X, y)
    after = trainer.model.get_weights()
    trainer.model.set_weights(weights)
    trainer.step(X, y)
    for a, b in zip(trainer.model.get_weights(), after, strict=True):
        np.testing.assert_array_equal(a, b)


USES: dict[str, Callable[[Trainer, Array, Array], Any]] = {
    "fit": lambda trainer, X, y: trainer.fit(X, y, epochs=1, progress=False),
    "step": lambda trainer, X, y: trainer.step(X, y),
    "evaluate": lambda trainer, X, y: trainer.evaluate(X, y),
    "predict": lambda trainer, X, y: trainer.model.predict(X),
    "loss_and_gradients": lambda trainer, X, y: trainer.model.loss_and_gradients(X, y),
}


@pytest.mark.parametrize("use", USES)
def test_nothing_holds_on_to_the_data(use: str) -> None:
    """Memory of the user's that is let go is free again, though the trainer and the model live on."""
    X, y = make_data(40, 12, 3)
    trainer = Trainer(MLP([12, 20, 3]))
    USES[use](trainer, X, y)
    references = [weakref.ref(X), weakref.ref(y)]
    del X, y
    gc.collect()
    assert [reference() is None for reference in references] == [True, True]


@pytest.mark.parametrize(("name", "value"), [("learning_rate", 0.5), ("l2", 0.5)])
def test_settings_changed_between_calls_count_for_fit_and_for_step(name: str, value: float) -> None:
    X, y = make_data(40, 12, 3)
    fitted, stepped = (Trainer(MLP([12, 20, 3]), optimizer="sgd", learning_rate=0.1, batch_size=40) for _ in range(2))
    for trainer in (fitted, stepped):
        trainer.step(X, y)
        setattr(trainer, name, value)
    fitted.fit(X, y, epochs=1, shuffle=False, progress=False)
    stepped.step(X, y)
    assert bits(stepped) == bits(fitted)


@pytest.mark.parametrize(("optimizer", "change"), [
    ("SGD()", "optimizer = Adam()"), ("Momentum()", "optimizer = Adam()"), ("Adam()", "optimizer = SGD()"),
    ("Adam()", "optimizer = Nesterov()"), ("Adam()", "model = MLP([300, 800, 10], seed=1)"),
])
def test_what_is_changed_between_calls_has_room_for_its_state(optimizer: str, change: str) -> None:
    """Or is refused. In processes of their own: one that writes beyond its memory would take this one along."""
    code = f"""
import numpy as np
from fastmlp import MLP, SGD, Adam, Momentum, Nesterov, Trainer
X, y = np.random.default_rng(0).normal(size=(40, 300)).astype("f4"), np.arange(40) % 10
fitted, stepped = (Trainer(MLP([300, 400, 10]), optimizer={optimizer}, batch_size=40) for _ in range(2))
for trainer in (fitted, stepped):
    trainer.step(X, y)
    try:
        trainer.{change}
    except AttributeError:
        pass
for _ in range(5):
    fitted.fit(X, y, epochs=1, shuffle=False, progress=False)
    stepped.step(X, y)
for a, b in zip(fitted.model.get_weights(), stepped.model.get_weights()):
    assert np.isfinite(a).all() and a.tobytes() == b.tobytes()
"""
    done = run_code(code)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr}"


def test_a_model_put_in_the_place_of_another_is_the_one_that_is_trained() -> None:
    """Or is refused."""
    X, y = make_data(40, 12, 3)
    trainer = Trainer(MLP([12, 20, 3]))
    trainer.step(X, y)
    old, new = trainer.model, MLP([12, 20, 3], seed=1)
    before = [[array.tobytes() for array in model.get_weights()] for model in (old, new)]
    try:
        trainer.model = new
    except AttributeError:
        return
    trainer.step(X, y)
    after = [[array.tobytes() for array in model.get_weights()] for model in (old, new)]
    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_copy_of_a_trainer_goes_on_by_itself(way: str, optimizer: str) -> None:
    X, y = make_data(40, 12, 3)
    original = Trainer(MLP([12, 20, 3]), optimizer=optimizer, batch_size=40)
    original.fit(X, y, epochs=1, progress=False)
    original.step(X, y)
    before = bits(original)
    duplicate = copy.deepcopy(original) if way == "deepcopy" else pickle.loads(pickle.dumps(original))
    duplicate.step(X, y)
    assert bits(original) == before  # the original is as it was
    original.step(X, y)
    assert bits(duplicate) == bits(original)  # and the copy has made the same step
    duplicate.fit(X, y, epochs=2, progress=False)
    original.fit(X, y, epochs=2, progress=False)
    assert bits(duplicate) == bits(original)
    assert losses(duplicate) == losses(original)


# ---- validation


@pytest.mark.parametrize("loss", OUTPUTS)
def test_validation_data_are_evaluated_after_every_epoch(loss: str) -> None:
    X = np.random.default_rng(2).normal(size=(60, 5))
    y, _ = targets_for(loss, 60, 3)
    seen = []

    class Evaluator(Callback):
        def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
            seen.append(trainer.evaluate(X[40:], y[40:]))

    trainer = Trainer(MLP([5, 6, 3], output=OUTPUTS[loss]), loss, batch_size=16)
    history = trainer.fit(X[:40], y[:40], epochs=3, validation_data=(X[40:], y[40:]), callbacks=[Evaluator()],
                          progress=False)
    assert history["val_loss"] == [values["loss"] for values in seen]
    assert len(set(history["val_loss"])) == 3
    if loss not in ("cross_entropy", "binary_cross_entropy"):
        assert "val_accuracy" not in history
    else:
        assert history["val_accuracy"] == [values["accuracy"] for values in seen]


@pytest.mark.parametrize(("split", "held_out"), [(0.25, 25), (0.1, 10), (0.001, 1), (0.99, 99), (0.125, 12)])
def test_validation_split_takes_the_last_rows(split: float, held_out: int) -> None:
    X, y = make_data(100, 5, 3)
    by_split, by_hand = (Trainer(MLP([5, 6, 3]), batch_size=16) for _ in range(2))
    by_split.fit(X, y, epochs=2, validation_split=split, progress=False)
    kept = 100 - held_out
    by_hand.fit(X[:kept], y[:kept], epochs=2, validation_data=[X[kept:], y[kept:]], progress=False)
    assert bits(by_split) == bits(by_hand)
    for name in ("loss", "val_loss", "val_accuracy"):
        assert by_split.history[name] == by_hand.history[name]


def test_a_split_copies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = []
    original = engine.Call.set_inputs

    def set_inputs(call: engine.Call, source: engine.Source) -> None:
        arrays.append(source.array)
        original(call, source)

    monkeypatch.setattr(engine.Call, "set_inputs", set_inputs)
    X, y = make_data(100, 5, 3)
    Trainer(MLP([5, 6, 3])).fit(X, y, epochs=1, validation_split=0.2, progress=False)
    assert [array.shape for array in arrays] == [(80, 5), (20, 5)]
    assert all(np.shares_memory(array, X) for array in arrays)


@pytest.mark.parametrize(("rows", "split"), [(1, 0.5), (2, 0.9), (10, 0.99)])
def test_a_split_must_leave_rows(rows: int, split: float) -> None:
    X, y = make_data(rows, 5, 3)
    with pytest.raises(ValueError, match=r"^validation_split must leave rows to train on"):
        Trainer(MLP([5, 3])).fit(X, y, epochs=1, validation_split=split, progress=False)


# ---- callbacks


class Recorder(Callback):
    def __init__(self, name: str, calls: list[Any]) -> None:
        self.name = name
        self.calls = calls

    def note(self, event: str, trainer: Any, logs: dict[str, Any]) -> None:
        self.calls.append((self.name, event, trainer, dict(logs)))

    def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        self.note("train_begin", trainer, logs)

    def on_train_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        self.note("train_end", trainer, logs)

    def on_epoch_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        self.note("epoch_begin", trainer, logs)

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        self.note("epoch_end", trainer, logs)


@pytest.mark.parametrize("slices", ["whole epochs", "single steps"])
def test_callbacks_are_called_in_order_with_what_is_known(slices: str, request: pytest.FixtureRequest) -> None:
    if slices == "single steps":
        request.getfixturevalue("step_by_step")
    X, y = make_data(50, 5, 3)
    trainer = Trainer(MLP([5, 6, 3]), batch_size=16)
    for first_epoch in (0, 2):
        calls: list[Any] = []
        callbacks = iter([Recorder("a", calls), Recorder("b", calls)])  # any iterable will do
        history = trainer.fit(X, y, epochs=2, callbacks=callbacks, validation_split=0.2, progress=False)
        events = ["train_begin", "epoch_begin", "epoch_end", "epoch_begin", "epoch_end", "train_end"]
        assert [(name, event) for name, event, *_ in calls] == [(name, event) for event in events for name in "ab"]
        assert all(who is trainer for _, _, who, _ in calls)
        logs = [values for name, _, _, values in calls if name == "a"]
        assert logs[0] == logs[-1] == {}
        assert logs[1] == {"epoch": first_epoch}
        assert logs[3] == {"epoch": first_epoch + 1}
        assert logs[2] == history[first_epoch]
        assert logs[4] == history[first_epoch + 1]


def test_at_the_end_of_an_epoch_the_trainer_has_made_its_steps() -> None:
    X, y = make_data(50, 5, 3)
    seen = []

    class Reader(Callback):
        def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
            seen.append((trainer.steps, trainer.epochs, len(trainer.history), trainer.history[-1] == logs))

    trainer = Trainer(MLP([5, 6, 3]), batch_size=16)
    trainer.fit(X, y, epochs=3, callbacks=[Reader()], progress=False)
    assert seen == [(4, 1, 1, True), (8, 2, 2, True), (12, 3, 3, True)]


def test_early_stopping_goes_back_to_the_best_weights() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 10))
    y = rng.integers(0, 2, 60)  # nothing to learn but by heart
    trainer = Trainer(MLP([10, 64, 2]), learning_rate=0.02, batch_size=8)
    stopping = EarlyStopping(patience=3)
    history = trainer.fit(X, y, epochs=300, validation_split=0.5, callbacks=[stopping], progress=False)
    assert len(history) < 300
    assert stopping.stopped_epoch == len(history) - 1 == stopping.best_epoch + 3
    assert history["val_loss"][-1] > min(history["val_loss"])
    assert trainer.evaluate(X[30:], y[30:])["loss"] == stopping.best_value == min(history["val_loss"])


def test_early_stopping_needs_what_it_monitors() -> None:
    X, y = make_data(50, 5, 3)
    trainer = Trainer(MLP([5, 6, 3]))
    with pytest.raises(ValueError, match=r"monitor.*'val_loss'.*validation_data"):
        trainer.fit(X, y, epochs=2, callbacks=[EarlyStopping()], progress=False)
    trainer.fit(X, y, epochs=1, progress=False)


@pytest.mark.parametrize("slices", ["whole epochs", "single steps"])
@pytest.mark.parametrize("event", ["on_epoch_begin", "on_epoch_end"])
def test_stop_training_ends_fit_after_the_current_epoch(event: str, slices: str,
                                                        request: pytest.FixtureRequest) -> None:
    if slices == "single steps":
        request.getfixturevalue("step_by_step")

    def stop(trainer: Any, logs: dict[str, Any]) -> None:
        if logs["epoch"] == 2:
            trainer.stop_training = True

    stopper = Callback()
    setattr(stopper, event, stop)
    X, y = make_data(50, 5, 3)
    trainer = Trainer(MLP([5, 6, 3]), batch_size=10)
    trainer.fit(X, y, epochs=10, callbacks=[stopper], progress=False)
    assert trainer.history["epoch"] == [0, 1, 2]
    assert trainer.steps == 15
    trainer.fit(X, y, epochs=2, progress=False)  # the next call begins anew
    assert trainer.history["epoch"] == [0, 1, 2, 3, 4]


def test_a_learning_rate_set_in_a_callback_counts_from_the_next_epoch() -> None:
    class Halver(Callback):
        def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
            trainer.learning_rate /= 2

    X, y = make_data(50, 5, 3)
    halved, by_hand = (Trainer(MLP([5, 6, 3]), learning_rate=0.5, optimizer="sgd") for _ in range(2))
    halved.fit(X, y, epochs=3, callbacks=[Halver()], progress=False)
    for rate in (0.5, 0.25, 0.125):
        by_hand.learning_rate = rate
        by_hand.fit(X, y, epochs=1, progress=False)
    assert halved.history["learning_rate"] == [0.5, 0.25, 0.125]
    assert bits(halved) == bits(by_hand)


@pytest.mark.parametrize("event", ["on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end"])
@pytest.mark.parametrize("use", ["fit", "step"])
def test_a_trainer_is_not_used_from_its_own_callback(use: str, event: str) -> None:
    X, y = make_data(50, 5, 3)

    def reenter(trainer: Any, logs: dict[str, Any]) -> None:
        if use == "fit":
            trainer.fit(X, y, epochs=1, progress=False)
        else:
            trainer.step(X, y)

    callback = Callback()
    setattr(callback, event, reenter)
    trainer, plain = Trainer(MLP([5, 6, 3])), Trainer(MLP([5, 6, 3]))
    with pytest.raises(RuntimeError, match="this trainer is training already"):
        trainer.fit(X, y, epochs=1, callbacks=[callback], progress=False)
    while plain.steps < trainer.steps:
        plain.fit(X, y, epochs=1, progress=False)
    assert bits(trainer) == bits(plain)
    trainer.fit(X, y, epochs=1, progress=False)  # still of use
    trainer.step(X, y)


def test_a_callback_that_catches_the_error_lets_training_go_on() -> None:
    X, y = make_data(50, 5, 3)

    class Careful(Callback):
        def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
            with pytest.raises(RuntimeError):
                trainer.fit(X, y, progress=False)
            with pytest.raises(RuntimeError):
                trainer.step(X, y)

    trainer, plain = Trainer(MLP([5, 6, 3])), Trainer(MLP([5, 6, 3]))
    trainer.fit(X, y, epochs=3, callbacks=[Careful()], progress=False)
    plain.fit(X, y, epochs=3, progress=False)
    assert bits(trainer) == bits(plain)


def test_evaluation_and_prediction_in_a_callback() -> None:
    X, y = make_data(50, 5, 3)
    found = []

    class Reader(Callback):
        def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
            found.append((trainer.evaluate(X, y)["accuracy"], float((trainer.model.predict(X) == y).mean())))

    Trainer(MLP([5, 6, 3])).fit(X, y, epochs=3, callbacks=[Reader()], progress=False)
    assert len(found) == 3
    for evaluated, predicted in found:
        assert evaluated == pytest.approx(predicted, abs=1e-12)


def test_a_trainer_is_not_used_from_two_threads_at_once() -> None:
    X, y = make_data(50, 5, 3)
    inside, leave = threading.Event(), threading.Event()

    class Waiter(Callback):
        def on_epoch_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
            inside.set()
            assert leave.wait(60)

    trainer = Trainer(MLP([5, 6, 3]))
    thread = threading.Thread(target=trainer.fit, args=(X, y, 1),
                              kwargs={"callbacks": [Waiter()], "progress": False})
    thread.start()
    try:
        assert inside.wait(60)
        with pytest.raises(RuntimeError, match="another thread"):
            trainer.step(X, y)
        with pytest.raises(RuntimeError, match="another thread"):
            trainer.fit(X, y, epochs=1, progress=False)
    finally:
        leave.set()
        thread.join(60)
    trainer.step(X, y)
    assert trainer.steps == 3


@pytest.mark.parametrize("event", ["on_train_begin", "on_epoch_begin", "on_epoch_end"])
def test_an_error_in_a_callback_comes_through_and_leaves_the_trainer_usable(event: str, bars: list[Any]) -> None:
    def fail(trainer: Any, logs: dict[str, Any]) -> None:
        raise KeyError("mine")

    failing = Callback()
    setattr(failing, event, fail)
    X, y = make_data(50, 5, 3)
    trainer, plain = Trainer(MLP([5, 6, 3])), Trainer(MLP([5, 6, 3]))
    with pytest.raises(KeyError, match="mine"):
        trainer.fit(X, y, epochs=2, callbacks=[failing])
    assert [bar.closed for bar in bars] == [True] * len(bars)
    trainer.fit(X, y, epochs=2, progress=False)
    plain.fit(X, y, epochs=3 if event == "on_epoch_end" else 2, progress=False)
    assert bits(trainer) == bits(plain)


# ---- the progress bar


class Bar:
    """Stands in for the progress bar and writes down what it is told."""

    def __init__(self, total: int, desc: str, **options: Any) -> None:
        self.total = total
        self.descriptions = [desc]
        self.updates: list[int] = []
        self.postfixes: list[dict[str, Any]] = []
        self.closed = False

    def update(self, count: int) -> None:
        assert not self.closed
        self.updates.append(count)

    def set_description(self, text: str) -> None:
        self.descriptions.append(text)

    def set_postfix(self, values: dict[str, Any] | None = None, refresh: bool = True, **more: Any) -> None:
        self.postfixes.append({**(values or {}), **more})

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []

    def make(*arguments: Any, **options: Any) -> Bar:
        made.append(Bar(*arguments, **options))
        return made[-1]

    monkeypatch.setattr("tqdm.auto.tqdm", make)
    return made


@pytest.mark.usefixtures("step_by_step")
def test_the_progress_bar_moves_within_an_epoch(bars: list[Bar]) -> None:
    X, y = make_data(50, 5, 3)
    Trainer(MLP([5, 6, 3]), batch_size=16).fit(X, y, epochs=2, validation_data=(X, y))
    [bar] = bars
    assert bar.total == 100
    assert bar.updates == [16, 16, 16, 2] * 2
    assert bar.descriptions[0] == "epoch 1/2"
    assert "epoch 2/2" in bar.descriptions
    assert any("val_loss" in postfix for postfix in bar.postfixes)
    assert bar.closed


def test_no_bar_without_progress(bars: list[Bar], capsys: pytest.CaptureFixture[str]) -> None:
    X, y = make_data(50, 5, 3)
    Trainer(MLP([5, 6, 3])).fit(X, y, epochs=2, progress=False)
    assert bars == []
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""


@pytest.mark.usefixtures("step_by_step")
def test_the_progress_bar_is_shown_on_stderr(capsys: pytest.CaptureFixture[str],
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """With steps as slow as those of a large network."""
    original = engine.Call.train

    def slow_train(call: engine.Call, number: int) -> None:
        original(call, number)
        time.sleep(0.12)

    monkeypatch.setattr(engine.Call, "train", slow_train)
    X, y = make_data(100, 5, 3)
    Trainer(MLP([5, 6, 3]), batch_size=20).fit(X, y, epochs=1)
    printed = capsys.readouterr()
    assert printed.out == ""
    shown = {int(percent) for percent in re.findall(r"(\d+)%", printed.err)}
    assert {0, 100} <= shown
    assert len(shown & {20, 40, 60, 80}) >= 2
    assert "loss=" in printed.err


# ---- schedules


def test_one_cycle_runs_over_the_epochs_of_a_call() -> None:
    X, y = make_data(50, 5, 3)
    scheduled, by_hand = (Trainer(MLP([5, 6, 3]), learning_rate=0.1, schedule=schedule, batch_size=20)
                          for schedule in ("one_cycle", None))
    for _ in range(2):  # each call of fit is a cycle of its own
        scheduled.fit(X, y, epochs=4, shuffle=False, progress=False)
        rates = OneCycle().rates(0.1, np.arange(12), Span(12, 3, 0, 0, {}))
        for rate, index in zip(rates, batches_of(50, 20, 4), strict=True):
            by_hand.learning_rate = float(rate)
            by_hand.step(X[index], y[index])
    assert bits(scheduled) == bits(by_hand)
    assert scheduled.history["learning_rate"] == [*rates[2::3], *rates[2::3]]


@pytest.mark.usefixtures("step_by_step")
def test_a_schedule_does_not_depend_on_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    sliced = run_kind("digits", schedule="one_cycle")
    monkeypatch.undo()
    whole = run_kind("digits", schedule="one_cycle")
    assert bits(sliced) == bits(whole)
    assert sliced.history["learning_rate"] == whole.history["learning_rate"]


def test_one_cycle_in_a_loop_of_steps_is_refused_or_of_use() -> None:
    """A step does not know how many will follow; it must not silently take the last, vanishing rate of a cycle."""
    X, y = make_data(50, 5, 3)
    trainer = Trainer(MLP([5, 3], dtype="float64"), optimizer="sgd", learning_rate=0.1, schedule="one_cycle")
    try:
        for _ in range(3):
            before = trainer.model.get_weights()
            _, gradients = trainer.model.loss_and_gradients(X, y)
            trainer.step(X, y)
            moved = np.abs(trainer.model.get_weights()[0] - before[0]).max()
            assert moved >= 0.99 * 0.1 / 25 * np.abs(gradients[0]).max()  # the smallest rate a cycle begins with
    except (ValueError, RuntimeError) as error:
        assert "schedule" in str(error)


# ---- history


def test_what_the_history_holds() -> None:
    X, y = make_data(50, 5, 3)
    trainer = Trainer(MLP([5, 6, 3]), batch_size=16, learning_rate=0.01)
    history = trainer.fit(X, y, epochs=3, progress=False)
    assert history is trainer.history
    assert isinstance(history, History)
    assert len(history) == 3
    for number, record in enumerate(history):
        assert list(record) == ["epoch", "loss", "learning_rate", "samples_per_second"]
        assert record["epoch"] == number
        assert record["learning_rate"] == 0.01
        assert record["samples_per_second"] > 0
        assert {type(value) for value in record.values()} == {int, float}
    trainer.fit(X, y, epochs=1, progress=False, validation_data=(X, y))
    assert list(history[3]) == ["epoch", "loss", "learning_rate", "samples_per_second", "val_loss", "val_accuracy"]
    assert {type(value) for value in history[3].values()} == {int, float}


def test_the_loss_of_an_epoch_is_the_mean_over_its_rows() -> None:
    """Each row counts the same, also those of a smaller last batch."""
    X = np.ones((5, 1))
    y = np.array([0.0, 0.0, 0.0, 0.0, 10.0])
    model = MLP([1, 1], output="identity", dtype="float64")
    model.set_weights([[[0.0]], [0.0]])
    trainer = Trainer(model, "mean_squared_error", "sgd", 1e-300, batch_size=4)
    history = trainer.fit(X, y, epochs=1, shuffle=False, progress=False)
    assert history["loss"] == [pytest.approx(100 / 5)]


# ---- evaluation


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 7, 1300])
@pytest.mark.parametrize("loss", OUTPUTS)
def test_evaluate_is_what_it_is_by_hand(loss: str, rows: int, dtype: str) -> None:
    model = MLP([6, 9, 4], activation="tanh", output=OUTPUTS[loss], dtype=dtype)
    X = np.random.default_rng(0).normal(size=(rows, 6)).astype(dtype)
    y, targets = targets_for(loss, rows, 4)
    values, _ = naive.loss_and_gradients(X, targets, layers_of(model), loss)
    result = Trainer(model, loss).evaluate(X, y)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert result["loss"] == pytest.approx(values, rel=tolerance)
    assert type(result["loss"]) is float
    z = naive.preactivations(X, layers_of(model))[-1]
    if loss == "cross_entropy":
        assert result["accuracy"] == pytest.approx((z.argmax(axis=1) == y).mean(), abs=1e-12)
        result = Trainer(model, loss).evaluate(X, 0.9 * targets + 0.025)  # as probabilities
        assert result["accuracy"] == pytest.approx((z.argmax(axis=1) == y).mean(), abs=1e-12)
    elif loss == "binary_cross_entropy":
        assert result["accuracy"] == pytest.approx(((z > 0) == (targets > 0.5)).mean(), abs=1e-12)
    else:
        assert list(result) == ["loss"]


@pytest.mark.parametrize("output", ACTIVATIONS)
def test_evaluate_with_every_output_and_the_squared_errors(output: str) -> None:
    model = MLP([6, 9, 4], output=output, dtype="float64")
    X = np.random.default_rng(0).normal(size=(700, 6))
    y, _ = targets_for("mean_squared_error", 700, 4)
    errors = naive.forward(X, layers_of(model)) - y
    half = Trainer(model, "half_squared_error").evaluate(X, y)
    mean = Trainer(model, "mean_squared_error").evaluate(X, y)
    assert half == {"loss": pytest.approx((errors**2).sum(axis=1).mean() / 2, rel=1e-12)}
    assert mean == {"loss": pytest.approx((errors**2).mean(), rel=1e-12)}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("layers", [[40, 30, 5], [40, 5], [40, Dense(30, "softmax"), Maxout(20, 2), 5]], ids=len)
def test_evaluate_gives_the_same_bits_on_one_thread_and_on_two(layers: list[Any], shared: bool,
                                                               threads: Callable[[int], None],
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LEAST_PARALLEL_WORK", 0)
    monkeypatch.setattr(engine, "LARGEST_UNSHARED_BYTES", 0 if shared else 1 << 40)
    X, y = make_data(3000, 40, 5)
    trainer = Trainer(MLP(layers))
    threads(1)
    alone = trainer.evaluate(X, y)
    threads(2)
    assert trainer.evaluate(X, y) == alone


def test_evaluate_changes_nothing() -> None:
    X, y = make_data(50, 5, 3)
    trainer = Trainer(MLP([5, 6, 3]))
    trainer.fit(X, y, epochs=1, progress=False)
    before = bits(trainer), trainer.steps, trainer.history.to_dict()
    trainer.evaluate(X, y)
    assert (bits(trainer), trainer.steps, trainer.history.to_dict()) == before


# ---- divergence


def diverging(seed: int = 0) -> tuple[Trainer, Array, Array]:
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(50, 5)), rng.normal(size=(50, 2))
    model = MLP([5, 6, 2], activation="relu", output="identity")
    return Trainer(model, "mean_squared_error", "sgd", learning_rate=2.0, batch_size=16), X, y


@pytest.mark.parametrize("slices", ["whole epochs", "single steps"])
@pytest.mark.parametrize("watched", [False, True])
def test_divergence_stops_training_and_says_where(slices: str, watched: bool, request: pytest.FixtureRequest) -> None:
    if slices == "single steps":
        request.getfixturevalue("step_by_step")
    trainer, X, y = diverging()
    by_hand, _, _ = diverging()
    step = 0
    for index in batches_of(50, 16, 100):
        value = by_hand.step(X[index], y[index])
        if not math.isfinite(value):
            break
        step += 1
    assert 4 < step < 390  # neither in the first epoch nor never
    calls: list[Any] = []
    with pytest.warns(DivergenceWarning) as caught:
        trainer.fit(X, y, epochs=100, shuffle=False, progress=False,
                    callbacks=[Recorder("a", calls)] if watched else None)
    [warning] = caught
    message = str(warning.message)
    assert f"the loss is {value} in epoch {step // 4}, step {step % 4} of 4" in message
    assert "learning_rate than 2" in message
    assert warning.filename == __file__
    assert trainer.steps == step + 1
    # The epoch that did not come to its end has a record, too, but is not shown to callbacks: there is nothing to save.
    assert trainer.history["epoch"] == list(range(step // 4 + 1))
    assert not math.isfinite(trainer.history[-1]["loss"])
    assert trainer.history[-1]["learning_rate"] == 2.0
    if watched:
        assert sum(event == "epoch_end" for _, event, _, _ in calls) == (step + 1) // 4
        assert calls[-1][1] == "train_end"
    # All that is left to do is to begin again, with the same trainer or another.
    trainer.model.set_weights(MLP([5, 6, 2], output="identity").get_weights())
    trainer.learning_rate = 0.01
    trainer.fit(X, y, epochs=1, progress=False)
    assert math.isfinite(trainer.evaluate(X, y)["loss"])


def test_a_divergence_warning_made_an_error_leaves_the_trainer_usable() -> None:
    trainer, X, y = diverging()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DivergenceWarning, match="learning_rate"):
            trainer.fit(X, y, epochs=100, progress=False)
    assert issubclass(DivergenceWarning, RuntimeWarning)
    trainer.model.set_weights(MLP([5, 6, 2], output="identity").get_weights())
    trainer.step(X, y)


def test_divergence_on_two_threads(threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LEAST_PARALLEL_WORK", 0)
    threads(2)
    for batch in (64, 512):  # by panels, and in groups of rows
        X = np.random.default_rng(0).normal(size=(1024, 30))
        trainer = Trainer(MLP([30, 50, 2], output="identity"), "mean_squared_error", "sgd", learning_rate=100.0,
                          batch_size=batch)
        with pytest.warns(DivergenceWarning):
            trainer.fit(X, X[:, :2], epochs=100, progress=False)
        assert trainer.steps < 100 * 1024 // batch


def test_step_reports_a_loss_that_is_not_finite() -> None:
    trainer, X, y = diverging()
    trainer.model.set_weights([np.full_like(array, np.nan) for array in trainer.model.get_weights()])
    assert math.isnan(trainer.step(X, y))
    assert math.isnan(trainer.evaluate(X, y)["loss"])


# ---- Ctrl-C


def interrupt_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """Make the compiled call number `calls` end in a KeyboardInterrupt, as Ctrl-C during that call does."""
    original = engine.Call.train
    count = 0

    def train(call: engine.Call, number: int) -> None:
        nonlocal count
        original(call, number)
        count += 1
        if count == calls:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine.Call, "train", train)


@pytest.mark.usefixtures("step_by_step")
def test_after_an_interrupt_within_an_epoch_training_can_go_on(bars: list[Bar],
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = make_data(50, 5, 3)
    calls: list[Any] = []
    trainer, plain = Trainer(MLP([5, 6, 3]), batch_size=10), Trainer(MLP([5, 6, 3]), batch_size=10)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 8)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(X, y, epochs=5, shuffle=False, callbacks=[Recorder("a", calls)])
    assert calls[-1][1] == "train_end"
    assert bars[0].closed
    assert (trainer.steps, trainer.epochs, len(trainer.history)) == (8, 1, 1)
    for index in batches_of(50, 10, 2)[:8]:
        plain.step(X[index], y[index])
    assert bits(trainer) == bits(plain)
    trainer.fit(X, y, epochs=1, progress=False)
    assert trainer.history["epoch"] == [0, 1]
    assert trainer.steps == 13


def test_after_an_interrupt_the_history_holds_every_epoch_that_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a slice spans several epochs, as it does when nobody watches."""
    X, y = make_data(50, 5, 3)
    trainer, plain = Trainer(MLP([5, 6, 3]), batch_size=10), Trainer(MLP([5, 6, 3]), batch_size=10)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(X, y, epochs=10, progress=False)
    assert trainer.steps == 5 * trainer.epochs > 5  # so that it did span several
    plain.fit(X, y, epochs=trainer.epochs, progress=False)
    assert bits(trainer) == bits(plain)
    assert losses(trainer) == losses(plain)
    trainer.fit(X, y, epochs=1, progress=False)
    assert trainer.history["epoch"] == list(range(trainer.epochs))


def test_no_slice_lasts_much_longer_than_a_tenth_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the first one of the smallest network, whose steps are all overhead."""
    seconds = []
    original = engine.Call.train

    def train(call: engine.Call, number: int) -> None:
        began = time.thread_time()  # of this thread, whatever else the machine does; such a network has but one
        original(call, number)
        seconds.append(time.thread_time() - began)
        if len(seconds) == 3:
            raise KeyboardInterrupt

    Trainer(MLP([1, 1], dtype="float64"), "binary_cross_entropy", batch_size=1).step([[1.0]], [1])  # compiles
    monkeypatch.setattr(engine.Call, "train", train)
    trainer = Trainer(MLP([1, 1], dtype="float64"), "binary_cross_entropy", batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(np.ones((4, 1)), np.ones(4), epochs=5_000_000, progress=False)
    assert max(seconds) < 0.8  # generous


INTERRUPTED = """
import signal, sys, time
import numpy as np
from fastmlp import MLP, Trainer
signal.signal(signal.SIGINT, signal.default_int_handler)
sizes, rows, batch = {sizes}, {rows}, {batch}
rng = np.random.default_rng(0)
X, y = rng.normal(size=(rows, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], rows)
model = MLP(sizes)
trainer = Trainer(model, batch_size=batch, learning_rate=1e-5)
trainer.fit(X, y, epochs=1, progress=False)  # compiles
print("ready", flush=True)
try:
    trainer.fit(X, y, epochs={epochs}, progress={progress})
except KeyboardInterrupt:
    print("caught", time.time(), flush=True)
else:
    sys.exit("fit came to its end")
assert np.isfinite(model.forward(X[:10])).all()
steps = trainer.steps
assert steps > 0
trainer.fit(X, y, epochs=1, progress=False)
assert trainer.steps == steps + -(-rows // batch)
trainer.step(X[:3], y[:3])
print("usable", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
@pytest.mark.parametrize(("sizes", "rows", "batch", "epochs", "progress"), [
    ([4, 8, 3], 64, 32, 10**6, False),  # a slice spans many epochs
    ([784, 256, 10], 20_000, 128, 1000, True),  # an epoch spans several slices, on all threads
], ids=["small", "large"])
def test_ctrl_c_is_answered_at_once(sizes: list[int], rows: int, batch: int, epochs: int, progress: bool) -> None:
    code = INTERRUPTED.format(sizes=sizes, rows=rows, batch=batch, epochs=epochs, progress=progress)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env=environment())
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.4)
        sent = time.time()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    caught, usable = output.splitlines()
    assert float(caught.split()[1]) - sent < 2.0
    assert usable == "usable"


# ---- arguments


@pytest.mark.parametrize(("arguments", "error", "name"), [
    ({"model": None}, TypeError, "model"),
    ({"model": MLP}, TypeError, "model"),
    ({"model": [5, 3]}, TypeError, "model"),
    ({"loss": "mse"}, ValueError, "loss"),
    ({"loss": None}, TypeError, "loss"),
    ({"loss": "binary_cross_entropy"}, ValueError, "loss"),
    ({"optimizer": "lion"}, ValueError, "optimizer"),
    ({"optimizer": None}, TypeError, "optimizer"),
    ({"optimizer": Adam}, TypeError, "optimizer"),
    ({"learning_rate": 0}, ValueError, "learning_rate"),
    ({"learning_rate": -0.1}, ValueError, "learning_rate"),
    ({"learning_rate": math.nan}, ValueError, "learning_rate"),
    ({"learning_rate": math.inf}, ValueError, "learning_rate"),
    ({"learning_rate": 10**400}, ValueError, "learning_rate"),
    ({"learning_rate": "0.1"}, TypeError, "learning_rate"),
    ({"learning_rate": True}, TypeError, "learning_rate"),
    ({"schedule": "linear"}, ValueError, "schedule"),
    ({"schedule": OneCycle}, TypeError, "schedule"),
    ({"batch_size": 0}, ValueError, "batch_size"),
    ({"batch_size": -1}, ValueError, "batch_size"),
    ({"batch_size": 2**40}, ValueError, "batch_size"),
    ({"batch_size": 32.0}, TypeError, "batch_size"),
    ({"batch_size": None}, TypeError, "batch_size"),
    ({"l2": -1e-9}, ValueError, "l2"),
    ({"l2": math.inf}, ValueError, "l2"),
    ({"l2": None}, TypeError, "l2"),
    ({"seed": -1}, ValueError, "seed"),
    ({"seed": 2**63}, ValueError, "seed"),
    ({"seed": 0.5}, TypeError, "seed"),
])
def test_bad_settings_are_named(arguments: dict[str, Any], error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=f"^{name} "):
        Trainer(**{"model": MLP([5, 3]), **arguments})


X50, Y50 = make_data(50, 5, 3)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"epochs": 0}, ValueError, "epochs must be"),
    ({"epochs": -1}, ValueError, "epochs must be"),
    ({"epochs": 1.0}, TypeError, "epochs must be"),
    ({"epochs": None}, TypeError, "epochs must be"),
    ({"validation_split": 1.0}, ValueError, "validation_split must be"),
    ({"validation_split": -0.1}, ValueError, "validation_split must be"),
    ({"validation_split": "0.1"}, TypeError, "validation_split must be"),
    ({"validation_split": None}, TypeError, "validation_split must be"),
    ({"validation_split": 0.2, "validation_data": (X50, Y50)}, ValueError, "validation_split must be 0"),
    ({"validation_data": X50}, TypeError, "validation_data must be"),
    ({"validation_data": (X50,)}, TypeError, "validation_data must be"),
    ({"validation_data": (X50, Y50, Y50 + 1.0, Y50)}, TypeError, "validation_data must be"),
    ({"validation_data": (X50, Y50, -Y50 - 1.0)}, ValueError, "validation_data: sample_weight must be"),
    ({"validation_data": (X50, Y50, Y50[:9])}, ValueError, "validation_data: sample_weight must be"),
    ({"sample_weight": np.zeros(50)}, ValueError, "sample_weight and class_weight must leave"),
    ({"sample_weight": np.full(50, np.nan)}, ValueError, "sample_weight must be"),
    ({"class_weight": "even"}, ValueError, "class_weight must be"),
    ({"class_weight": [1, 2, 3]}, TypeError, "class_weight must be"),
    ({"class_weight": {3: 1.0}}, ValueError, "class_weight must be"),
    ({"resume": 1}, TypeError, "resume must be"),
    ({"validation_data": (X50[:, :4], Y50)}, ValueError, "validation_data: X must be"),
    ({"validation_data": (X50, Y50[:9])}, ValueError, "validation_data: y must be"),
    ({"validation_data": (X50, Y50 + 1)}, ValueError, "validation_data: y must be"),
    ({"validation_data": (X50, None)}, TypeError, "validation_data: y must be"),
    ({"validation_data": (X50[:0], Y50[:0])}, ValueError, "validation_data: X must be"),
    ({"callbacks": Callback()}, TypeError, "callbacks must be"),
    ({"callbacks": [Callback]}, TypeError, "callbacks must be"),
    ({"callbacks": [3]}, TypeError, "callbacks must be"),
    ({"progress": 1}, TypeError, "progress must be"),
    ({"progress": None}, TypeError, "progress must be"),
    ({"shuffle": "yes"}, TypeError, "shuffle must be"),
])
def test_bad_arguments_of_fit_are_named_and_change_nothing(arguments: dict[str, Any], error: type[Exception],
                                                           message: str) -> None:
    trainer = Trainer(MLP([5, 6, 3]))
    trainer.fit(X50, Y50, epochs=1, progress=False)
    before = bits(trainer), trainer.steps, trainer.epochs, trainer.history.to_dict()
    with pytest.raises(error, match=f"^{message}"):
        trainer.fit(X50, Y50, **{"progress": False, **arguments})
    assert (bits(trainer), trainer.steps, trainer.epochs, trainer.history.to_dict()) == before
    trainer.fit(X50, Y50, epochs=1, progress=False)


@pytest.mark.parametrize("output", ACTIVATIONS)
def test_losses_and_the_outputs_they_need(output: str) -> None:
    model = MLP([5, 6, 3], output=output)
    for loss, needed in (("cross_entropy", "softmax"), ("binary_cross_entropy", "sigmoid"), ("poisson", "exponential")):
        if output == needed:
            Trainer(model, loss)
        else:
            with pytest.raises(ValueError, match=f"^loss '{loss}' needs a model with output='{needed}'") as caught:
                Trainer(model, loss)
            assert ("goes with the loss" in str(caught.value)) == (output in ("softmax", "sigmoid", "exponential"))
    for loss, needed in OUTPUTS.items():
        if needed == "identity":
            Trainer(model, loss)


def test_a_seed_set_between_steps_counts() -> None:
    X, y = make_data(50, 5, 3)

    def steps_by(call: str, seed: int) -> list[bytes]:
        trainer = Trainer(MLP([5, Dense(20, dropout=0.5), 3]), "cross_entropy", "sgd", seed=1)
        for _ in range(2):
            if call == "step":
                trainer.step(X, y)
            else:
                trainer.zero_gradients()
                trainer.forward(X)
                trainer.compute_loss(y)
                trainer.backward()
                trainer.update()
            trainer.seed = seed
        return bits(trainer)

    for call in ("step", "by hand"):
        assert steps_by(call, 1) == steps_by(call, 1) != steps_by(call, 2)


def test_forward_between_backward_and_update_lets_go_of_the_weights_of_the_samples() -> None:
    X, y = make_data(50, 5, 3)
    trainers = [Trainer(MLP([5, 3])) for _ in range(2)]
    for trainer in trainers:
        trainer.forward(X)
        trainer.compute_loss(y, sample_weight=np.arange(50.0))
        trainer.backward()
    weights = weakref.ref(trainers[0]._by_hand.targets.weights)  # type: ignore[union-attr]
    trainers[0].forward(X)
    assert weights() is None
    assert trainers[0]._by_hand._call.context[layout.WEIGHTS_OF_SAMPLES] == 0  # type: ignore[union-attr]
    for trainer in trainers:
        trainer.update()
    assert bits(trainers[0]) == bits(trainers[1])


@pytest.mark.parametrize("weight", [1e308, 1e-320])
def test_weights_whose_sum_is_no_number_to_divide_by_are_refused(weight: float) -> None:
    X, y = make_data(50, 5, 3)
    with pytest.raises(ValueError, match=r"must have a sum from 2\.23e-308 to 1\.8e308, got "):
        Trainer(MLP([5, 3])).fit(X, y, sample_weight=np.full(50, weight), progress=False)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("layers", "message"), [
    ([5, Dense(4, "step"), 3], "layer 0 has the activation 'step', whose derivative is 0"),
    ([5, 4, Dense(3, "sign"), Dense(2, "identity")], "layer 1 has the activation 'sign', whose derivative is 0"),
    ([5, 4, Dense(1, "softmax")], "layer 1 has the activation 'softmax' and one unit, whose output is always 1"),
])
def test_layers_that_cannot_learn_are_warned_of(layers: list[Any], message: str) -> None:
    loss = "cross_entropy" if MLP(layers).output == "softmax" else "mean_squared_error"
    with pytest.warns(UserWarning, match=message) as caught:
        Trainer(MLP(layers), loss)
    assert [warning.filename for warning in caught] == [__file__]
    Trainer(MLP([5, Dense(4, "softmax"), Dense(2, "softmax")]))


@pytest.mark.parametrize(("output", "targets", "reach"), [
    ("sigmoid", [-0.5, 0.5], "0 to 1"), ("softmax", [0.5, 1.5], "0 to 1"), ("tanh", [-2.0, 0.0], "-1 to 1"),
    ("relu", [-1.0, 8.0], "0 to inf"), ("softplus", [-1.0, 8.0], "0 to inf"), ("exponential", [-1.0, 8.0], "0 to inf"),
])
def test_targets_that_the_output_cannot_give_are_warned_of(output: str, targets: list[float], reach: str) -> None:
    X, y = make_data(50, 5, 3)[0], np.resize(targets, (50, 2))
    with pytest.warns(UserWarning, match=f"y has values from {min(targets):g} to {max(targets):g}, but .*"
                      f"output='{output}' gives values from {reach} only") as caught:
        Trainer(MLP([5, 2], output=output), "huber", learning_rate=1e-6).fit(X, y, epochs=1, progress=False)
    assert [warning.filename for warning in caught] == [__file__]


def test_targets_that_the_output_can_give_are_not_warned_of() -> None:
    X = make_data(50, 5, 3)[0]
    for output, targets in (("sigmoid", [0, 1]), ("tanh", [-1, 1]), ("relu", [0, 9]), ("identity", [-9, 9])):
        Trainer(MLP([5, 2], output=output), "huber").fit(X, np.resize(targets, (50, 2)), epochs=1, progress=False)


def test_what_is_said_of_targets_of_another_kind() -> None:
    X, y = make_data(50, 5, 3)
    trainer = Trainer(MLP([5, 3]))
    both = r"labels of shape \(50,\), or probabilities of shape \(50, 3\)"
    for wrong, error, got in ((y[:, np.newaxis], ValueError, r"shape \(50, 1\)"), (None, TypeError, "NoneType"),
                              (y.astype(object), TypeError, "dtype object")):
        with pytest.raises(error, match=f"^y must be {both}, got {got}$"):
            trainer.fit(X, wrong, progress=False)


def test_what_callbacks_add_to_the_logs_is_in_the_history() -> None:
    X, y = make_data(50, 5, 3)
    seen = []
    trainer = Trainer(MLP([5, 3]))
    trainer.fit(X, y, epochs=2, progress=False, callbacks=[
        lambda trainer, logs: logs.update(twice=2 * logs["loss"]), lambda trainer, logs: seen.append(logs["twice"])])
    assert seen == trainer.history["twice"] == [2 * loss for loss in trainer.history["loss"]]


def test_a_trainer_is_shown_with_what_it_is_made_of() -> None:
    shown = repr(Trainer(MLP([5, 3]), learning_rate=0.5))
    assert shown == (f"Trainer({MLP([5, 3])!r}, loss='cross_entropy', optimizer={Adam()!r}, learning_rate=0.5, "
                     "batch_size=32, epochs=0)")


def test_defaults() -> None:
    X, y = make_data(100, 5, 3)
    default = Trainer(MLP([5, 6, 3]))
    explicit = Trainer(MLP([5, 6, 3]), "cross_entropy", Adam(), 1e-3, None, 32, 0.0, 0)
    default.fit(X, y, progress=False)
    explicit.fit(X, y, 10, None, 0.0, None, False, True)
    assert bits(default) == bits(explicit)
    assert len(default.history) == 10


# ---- attributes


@pytest.mark.parametrize(("name", "value", "error"), [
    ("batch_size", 0, ValueError), ("batch_size", 2.5, TypeError), ("learning_rate", -1.0, ValueError),
    ("learning_rate", "fast", TypeError), ("l2", float("nan"), ValueError), ("seed", -1, ValueError),
    ("seed", 2**63, ValueError), ("seed", "a", TypeError), ("regularise_biases", 1, TypeError),
    ("steps", -5, ValueError), ("steps", 2**70, ValueError), ("steps", "a", TypeError), ("steps", None, TypeError),
    ("epochs", -5, ValueError), ("epochs", 2**53 + 1, ValueError), ("epochs", 0.5, TypeError),
])
def test_a_setting_is_checked_when_it_is_set(name: str, value: Any, error: type[Exception]) -> None:
    trainer = Trainer(MLP([5, 6, 3]))
    before = getattr(trainer, name)
    with pytest.raises(error, match=f"^{name} "):
        setattr(trainer, name, value)
    assert getattr(trainer, name) == before


def test_seed_none_draws_a_seed_also_when_it_is_set() -> None:
    trainer = Trainer(MLP([5, 6, 3]))
    trainer.seed = None
    assert isinstance(trainer.seed, int) and trainer.seed > 0


@pytest.mark.parametrize("name", ["model", "loss", "optimizer", "schedule", "metrics", "augmentation"])
def test_what_memory_was_laid_out_for_cannot_be_set(name: str) -> None:
    trainer = Trainer(MLP([5, 6, 3]))
    with pytest.raises(AttributeError, match=name):
        setattr(trainer, name, getattr(Trainer(MLP([5, 60, 3]), optimizer="sgd"), name))
