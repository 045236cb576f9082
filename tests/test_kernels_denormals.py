"""Denormal numbers are flushed in compiled programs, and the caller's mode is the same afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from naive import Array
from numba import njit, prange, types

from fastmlp import MLP, Trainer
from fastmlp.kernels import simd
from fastmlp.kernels.denormals import flush_denormals, restore_mode


@njit(types.UniTuple(types.float64, 4)(types.Array(types.float64, 1, "C")))
def halves_in_both_modes(x: Array) -> tuple[float, float, float, float]:
    """Half of the smallest normal number, and twice half of it read from memory: flushed, and after restoring."""
    mode = flush_denormals()
    x[1] = x[0] * 0.5
    flushed, read = x[1], x[2] * 2.0
    restore_mode(mode)
    x[1] = x[0] * 0.5
    return flushed, read, x[1], x[2] * 2.0


def denormals_work() -> bool:
    """Whether arithmetic on this thread makes and reads denormal numbers."""
    results = []
    for dtype in (np.float32, np.float64):
        tiny = np.full(64, np.finfo(dtype).tiny, dtype)
        half = tiny * dtype(0.5)
        results += [bool((half != 0).all()), bool((half * dtype(2) == tiny).all())]
    return all(results)


CAN_FLUSH = simd.IS_X86 or simd.IS_ARM64


@pytest.mark.skipif(not CAN_FLUSH, reason="the kernels know no way to flush denormals on this processor")
def test_denormals_are_flushed_and_the_mode_restored() -> None:
    tiny = float(np.finfo(np.float64).tiny)
    assert denormals_work()
    flushed, read, made, read_again = halves_in_both_modes(np.array([tiny, 0.0, tiny / 2]))
    assert flushed == 0.0, "a result was not flushed"
    assert read == 0.0, "an operand was not flushed"
    assert made == tiny / 2
    assert read_again == tiny
    assert denormals_work()


@pytest.mark.skipif(not CAN_FLUSH, reason="the kernels know no way to flush denormals on this processor")
def test_nested_flushing_restores_the_outer_mode() -> None:
    @njit(types.UniTuple(types.float64, 2)(types.Array(types.float64, 1, "C")))
    def nested(x: Array) -> tuple[float, float]:
        outer = flush_denormals()
        inner = flush_denormals()
        restore_mode(inner)
        x[1] = x[0] * 0.5
        still_flushed = x[1]
        restore_mode(outer)
        x[1] = x[0] * 0.5
        return still_flushed, x[1]

    tiny = float(np.finfo(np.float64).tiny)
    assert nested(np.array([tiny, 0.0])) == (0.0, tiny / 2)


def test_the_callers_mode_is_the_same_after_training_and_prediction() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(600, 40)).astype(np.float32), rng.integers(0, 5, 600)
    model = MLP([40, 64, 5], seed=0)
    trainer = Trainer(model, batch_size=300)
    for call in (lambda: model.forward(X), lambda: model.forward(X[:1]), lambda: trainer.step(X, y),
                 lambda: trainer.fit(X, y, epochs=2, progress=False), lambda: trainer.evaluate(X, y),
                 lambda: model.loss_and_gradients(X, y)):
        call()
        assert denormals_work()


def test_the_mode_of_the_other_threads_is_the_same_after_training() -> None:
    @njit(parallel=True)
    def count_flushed(x: Array) -> int:
        wrong = 0
        for i in prange(len(x)):
            if x[i] * np.float32(0.5) == np.float32(0.0):
                wrong += 1
        return wrong

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(600, 64)).astype(np.float32), rng.integers(0, 5, 600)
    Trainer(MLP([64, 128, 5], seed=0), batch_size=300).fit(X, y, epochs=2, progress=False)
    assert count_flushed(np.full(10_000, np.finfo(np.float32).tiny)) == 0


@pytest.mark.skipif(not CAN_FLUSH, reason="the kernels know no way to flush denormals on this processor")
def test_denormals_are_flushed_inside_training() -> None:
    """A gradient that is denormal leaves the weights as they are, even with a learning rate that would lift it."""
    tiny = np.finfo(np.float32).tiny
    model = MLP([1, 1], output="identity", seed=0)
    model.set_weights([np.zeros((1, 1)), np.zeros(1)])
    trainer = Trainer(model, loss="half_squared_error", optimizer="sgd", learning_rate=1e6)
    trainer.step(np.ones((1, 1), np.float32), np.full((1, 1), tiny / 2, np.float32))
    assert model.get_weights()[0][0, 0] == 0.0
    trainer.step(np.ones((1, 1), np.float32), np.full((1, 1), tiny * 2, np.float32))
    assert model.get_weights()[0][0, 0] != 0.0
