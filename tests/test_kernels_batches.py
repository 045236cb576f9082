"""Mini-batches: rows staged from the user's arrays, and last batches shorter than the others."""

from __future__ import annotations

import math
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import DTYPES, Array

from fastmlp import MLP, Trainer
from fastmlp.kernels import batches
from fastmlp.kernels.linking import kernel_table

KINDS = {"float32": batches.FLOAT32, "float64": batches.FLOAT64, "uint8": batches.UINT8}
UNTOUCHED = -777.0


def stage_rows(x: Array, index: Any, mean: Any, scale: Any, dtype: str) -> Array:
    """Stage rows of x, whose rows may be further apart than they are long."""
    inputs, index = x.shape[1], np.asarray(index, np.int64)
    target = np.full((len(index) + 1, inputs + 3), UNTOUCHED, dtype)
    mean, scale = (np.ascontiguousarray(np.broadcast_to(number, inputs), dtype) for number in (mean, scale))
    batches.stage_rows(kernel_table(np.dtype(dtype)), x.ctypes.data, KINDS[x.dtype.name], x.strides[0] // x.itemsize,
                       index, len(index), inputs, mean, scale, target, target.shape[1])
    assert (target[:-1, inputs:] == UNTOUCHED).all(), "wrote beyond the columns"
    assert (target[-1] == UNTOUCHED).all(), "wrote beyond the rows"
    return np.asarray(target[:-1, :inputs])


def random_inputs(kind: str, rows: int, columns: int, rng: np.random.Generator) -> Array:
    return (rng.integers(0, 256, (rows, columns)) if kind == "uint8" else rng.normal(size=(rows, columns))).astype(kind)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("columns", (1, 2, 15, 16, 17, 33, 100))
def test_rows_are_standardised_in_the_order_of_the_index(columns: int, kind: str, dtype: str) -> None:
    rng = np.random.default_rng(columns)
    x = random_inputs(kind, 40, columns + 4, rng)[:, :columns]
    index = rng.permutation(40)[:33]
    mean, scale = rng.normal(size=columns).astype(dtype), rng.uniform(0.1, 3, columns).astype(dtype)
    found = stage_rows(x, index, mean, scale, dtype)
    wanted = naive.stage(x[index], mean, scale)
    size = (np.abs(naive.wide(x[index])) + np.abs(mean)) * scale
    assert (np.abs(found - wanted) <= 2 * np.finfo(dtype).eps * size).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 40), columns=st.integers(1, 60), gap=st.integers(0, 5), seed=st.integers(0, 1000))
def test_with_mean_zero_and_scale_one_rows_are_copied(kind: str, dtype: str, rows: int, columns: int, gap: int,
                                                      seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = random_inputs(kind, rows, columns + gap, rng)[:, :columns]
    index = rng.integers(0, rows, 2 * rows)
    np.testing.assert_array_equal(stage_rows(x, index, 0.0, 1.0, dtype), x[index].astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_byte_is_read_as_a_number_from_0_to_255(dtype: str) -> None:
    x = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(stage_rows(x, np.arange(16), 0.0, 1.0, dtype), x)
    np.testing.assert_array_equal(stage_rows(x, np.arange(16), 128.0, 1 / 64, dtype), (x - 128.0) / 64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ("float32", "float64"))
def test_rows_may_lie_backwards_and_nan_and_infinity_are_kept(kind: str, dtype: str) -> None:
    x = np.random.default_rng(0).normal(size=(10, 17)).astype(kind)
    x[3, 16], x[4, 0], x[5, 1] = np.nan, np.inf, -np.inf
    found = stage_rows(x[::-1], np.arange(10), 0.5, 2.0, dtype)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(x[::-1]))
    assert found[5, 0] == math.inf
    assert found[4, 1] == -math.inf
    assert np.isfinite(found).sum() == 10 * 17 - 3


def test_a_double_is_standardised_before_it_is_rounded() -> None:
    """A large mean must not cost the digits of what lies above it."""
    x = np.array([[1e6 + 0.25, 1e6 + 0.0625]])
    found = stage_rows(x, [0], np.float32(1e6), 1.0, "float32")
    np.testing.assert_array_equal(found, [[0.25, 0.0625]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_shared_out_over_threads_come_out_the_same(dtype: str) -> None:
    rng = np.random.default_rng(1)
    x, index = random_inputs("uint8", 100, 50, rng), rng.permutation(100)
    whole = stage_rows(x, index, 3.0, 0.1, dtype)
    parts = naive.in_threads(*(lambda a=a, b=b: stage_rows(x, index[a:b], 3.0, 0.1, dtype)
                               for a, b in ((0, 33), (33, 34), (34, 100))))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


# ---- last batches


def network(model: MLP, alpha: float = 0.0) -> list[naive.Layer]:
    weights = model.get_weights()
    return [(W, b, str(layer.activation), alpha)
            for W, b, layer in zip(weights[::2], weights[1::2], model.layers, strict=True)]


@pytest.mark.parametrize("rows_left", (1, 2, 3, 5, 7, 100, 1023))
def test_a_last_batch_of_fewer_rows_than_there_are_groups_counts_only_its_own_rows(rows_left: int) -> None:
    """A small network's large batch is cut into groups of rows; with few rows left, some groups have none."""
    rng = np.random.default_rng(2)
    batch = 1024
    X, y = rng.normal(size=(batch + rows_left, 4)), rng.integers(0, 3, batch + rows_left)
    model = MLP([4, 6, 3], activation="tanh", dtype="float64", seed=0)
    order = np.arange(len(X))
    losses, wanted = naive.train(X, naive.one_hot(y, 3), network(model), "cross_entropy", "sgd", 0.5,
                                 [order[:batch], order[batch:]])
    trainer = Trainer(model, optimizer="sgd", learning_rate=0.5, batch_size=batch)
    history = trainer.fit(X, y, epochs=1, shuffle=False, progress=False)
    assert history[0]["loss"] == pytest.approx((losses[0] * batch + losses[1] * rows_left) / len(X))
    for found, exact in zip(model.get_weights(), [p for W, b, _, _ in wanted for p in (W, b)], strict=True):
        np.testing.assert_allclose(found, exact, atol=1e-12)


@pytest.mark.parametrize("rows", (31, 32, 33, 64, 65))
def test_batches_of_one_epoch_are_all_rows_once_with_a_short_one_last(rows: int) -> None:
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(rows, 5)), rng.integers(0, 3, rows)
    model = MLP([5, 70, 3], activation="sigmoid", dtype="float64", seed=0)
    order = [np.arange(first, min(first + 32, rows)) for first in range(0, rows, 32)]
    _, wanted = naive.train(X, naive.one_hot(y, 3), network(model), "cross_entropy", "momentum", 0.1, order)
    Trainer(model, optimizer="momentum", learning_rate=0.1, batch_size=32).fit(X, y, epochs=1, shuffle=False,
                                                                              progress=False)
    for found, exact in zip(model.get_weights(), [p for W, b, _, _ in wanted for p in (W, b)], strict=True):
        np.testing.assert_allclose(found, exact, atol=1e-12)
