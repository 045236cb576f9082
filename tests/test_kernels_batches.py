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
from panels import GUARD, Fences, from_panels, lanes, padding_of, panel_width, panels_size, to_panels

from fastmlp import MLP, Trainer
from fastmlp.kernels import batches
from fastmlp.kernels.linking import kernel_table

KINDS = {"float32": batches.FLOAT32, "float64": batches.FLOAT64, "uint8": batches.UINT8}


def stage_rows(x: Array, index: Any, mean: Any, scale: Any, dtype: str, direct: bool | None = None, begin: int = 0,
               end: int | None = None) -> Array:
    """Stage rows of x into the rows `begin` to `end` of a matrix with a row for each number of `index`; return those.

    The rows of x may be further apart than they are long. With no mean and scale, they are not standardised.
    """
    inputs, index = x.shape[1], np.asarray(index, np.int64)
    rows = len(index)
    end = rows if end is None else end
    standardised = mean is not None
    direct = x.dtype == dtype if direct is None else direct
    fences = Fences()
    target = fences.full(panels_size(rows, inputs, dtype), dtype, GUARD, shift=1)
    if not standardised:  # not even read where nothing is converted
        mean, scale = (np.nan, np.nan) if direct else (0.0, 1.0)
    mean, scale = (fences.copy(np.broadcast_to(np.asarray(number, dtype), inputs)) for number in (mean, scale))
    converted, not_finite = fences.full(inputs, dtype), fences.copy(np.zeros(1, np.int64))
    batches.stage_rows(kernel_table(np.dtype(dtype)), x.ctypes.data, KINDS[x.dtype.name], int(direct),
                       x.strides[0] // x.itemsize, index, rows, begin, end, inputs, mean, scale, int(standardised),
                       converted, target, not_finite)
    fences.check()
    assert (padding_of(target, rows, inputs)[begin:end] == 0).all()
    found = from_panels(target, rows, inputs)
    assert (found[:begin] == GUARD).all() and (found[end:] == GUARD).all(), "wrote to other rows"
    with np.errstate(over="ignore"):
        assert not_finite[0] == (not np.isfinite(x[index[begin:end]].astype(dtype)).all())
    return found[begin:end]


def edges(dtype: str) -> list[int]:
    """Numbers of columns beside a register, and beside one panel and three."""
    step, width = lanes(dtype), panel_width(dtype)
    return [max(edge + more, 1) for edge in (step, width, 3 * width) for more in (-1, 0, 1)]


def random_inputs(kind: str, rows: int, columns: int, rng: np.random.Generator) -> Array:
    return (rng.integers(0, 256, (rows, columns)) if kind == "uint8" else rng.normal(size=(rows, columns))).astype(kind)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_standardised_in_the_order_of_the_index(kind: str, dtype: str) -> None:
    for columns in (1, 2, 100, *edges(dtype)):
        rng = np.random.default_rng(columns)
        x = random_inputs(kind, 40, columns + 4, rng)[:, :columns]
        mean, scale = rng.normal(size=columns).astype(dtype), rng.uniform(0.1, 3, columns).astype(dtype)
        for rows in (1, 2, batches.ROWS_AT_ONCE - 1, batches.ROWS_AT_ONCE, batches.ROWS_AT_ONCE + 1, 33):
            index = rng.permutation(40)[:rows]
            found = stage_rows(x, index, mean, scale, dtype)
            wanted = naive.stage(x[index], mean, scale)
            size = (np.abs(naive.wide(x[index])) + np.abs(mean)) * scale
            assert (np.abs(found - wanted) <= 2 * np.finfo(dtype).eps * size).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 40), columns=st.integers(1, 60), gap=st.integers(0, 5), seed=st.integers(0, 1000))
def test_rows_are_copied_without_a_mean_and_a_scale_and_with_zero_and_one(kind: str, dtype: str, rows: int,
                                                                          columns: int, gap: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = random_inputs(kind, rows, columns + gap, rng)[:, :columns]
    index = rng.integers(0, rows, 2 * rows)
    for mean, scale in ((0.0, 1.0), (None, None)):
        np.testing.assert_array_equal(stage_rows(x, index, mean, scale, dtype), x[index].astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mean", (None, 0.25))
def test_inputs_of_the_network_s_dtype_give_the_same_bits_read_in_place_and_converted(mean: Any, dtype: str) -> None:
    rng = np.random.default_rng(4)
    for columns in edges(dtype):
        x = random_inputs(dtype, 20, columns, rng)
        index = rng.integers(0, 20, 9)
        scale = None if mean is None else rng.uniform(0.1, 3, columns)
        np.testing.assert_array_equal(stage_rows(x, index, mean, scale, dtype, direct=True),
                                      stage_rows(x, index, mean, scale, dtype, direct=False))


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ("float32", "float64"))
@pytest.mark.parametrize("mean", (None, 3.0))
def test_a_number_that_is_not_finite_is_reported_wherever_it_is_in_the_rows_and_nowhere_else(mean: Any, kind: str,
                                                                                            dtype: str) -> None:
    """`stage_rows` compares what the kernel reports with the rows that were asked for."""
    scale = None if mean is None else 0.5
    for columns in edges(dtype):
        x = np.full((4, columns + 2), np.nan, kind)  # between the rows, and in a row that nobody asks for
        x[:3, :columns] = np.random.default_rng(columns).normal(size=(3, columns))
        for direct in {kind == dtype, False}:
            stage_rows(x[:, :columns], [0, 2, 1], mean, scale, dtype, direct)
            for place in range(columns):
                for value in (np.nan, np.inf, -np.inf):
                    changed = x.copy()
                    changed[1, place] = value
                    stage_rows(changed[:, :columns], [0, 2, 1], mean, scale, dtype, direct)
                    stage_rows(changed[:, :columns], [0, 2], mean, scale, dtype, direct)


@pytest.mark.parametrize("place", (0, 5, 18))
def test_a_double_beyond_the_largest_single_is_reported(place: int) -> None:
    x = np.full((3, 19), -float(np.finfo(np.float32).max))
    stage_rows(x, [0, 1, 2], None, None, "float32")
    x[1, place] = 1e39
    assert stage_rows(x, [0, 1, 2], None, None, "float32")[1, place] == math.inf


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_was_reported_before_stays(dtype: str) -> None:
    x, not_finite = np.ones((2, 3), dtype), np.ones(1, np.int64)
    batches.stage_rows(kernel_table(x.dtype), x.ctypes.data, KINDS[dtype], 1, 3, np.arange(2), 2, 0, 2, 3, x[0], x[0],
                       0, x[0].copy(), np.zeros(panels_size(2, 3, dtype), dtype), not_finite)
    assert not_finite[0] == 1


def test_a_double_is_standardised_before_it_is_rounded() -> None:
    """A large mean must not cost the digits of what lies above it."""
    x = 1e6 + np.array([[0.25, 0.01, 3.003, -0.02, 1e-5, 0.0, 17.0017, -2.5, 0.125]])
    found = stage_rows(x, [0], np.float32(1e6), 1.0, "float32")
    np.testing.assert_allclose(found, x - 1e6, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 40), columns=st.integers(1, 60), data=st.data())
def test_rows_from_begin_to_end_and_no_others_are_staged(kind: str, dtype: str, rows: int, columns: int,
                                                         data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, rows))
    end = data.draw(st.integers(begin, rows))
    rng = np.random.default_rng(rows * columns)
    x, index = random_inputs(kind, 50, columns, rng), rng.permutation(50)[:rows]
    whole = stage_rows(x, index, 0.5, 3.0, dtype)
    found = stage_rows(x, index, 0.5, 3.0, dtype, begin=begin, end=end)
    np.testing.assert_array_equal(found, whole[begin:end])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", (3, 100))
def test_rows_shared_out_over_threads_come_out_the_same(rows: int, dtype: str) -> None:
    """Each thread with a range of the rows of the same matrix."""
    rng = np.random.default_rng(1)
    x, index = random_inputs("uint8", 100, 50, rng), rng.permutation(100)[:rows]
    whole = stage_rows(x, index, 3.0, 0.1, dtype)
    fences = Fences()
    target = fences.full(panels_size(rows, 50, dtype), dtype, GUARD)
    mean, scale = np.full(50, 3.0, dtype), np.full(50, 0.1, dtype)
    kernels, kind = kernel_table(target.dtype), KINDS["uint8"]
    ranges = naive.cuts(rows, 4, rng)
    scratches = [(fences.full(50, dtype), np.zeros(1, np.int64)) for _ in ranges]
    naive.in_threads(*(lambda a=a, b=b, scratch=scratch: batches.stage_rows(
        kernels, x.ctypes.data, kind, 0, 50, index, rows, a, b, 50, mean, scale, 1, scratch[0], target, scratch[1])
        for (a, b), scratch in zip(ranges, scratches, strict=True)))
    fences.check()
    np.testing.assert_array_equal(from_panels(target, rows, 50), whole)


# ---- from panels back to rows


def unstage_rows(matrix: Array, begin: int, end: int) -> Array:
    """The rows `begin` to `end`, written between fences."""
    rows, units = matrix.shape
    fences = Fences()
    source = fences.panels(matrix, padding=np.nan, shift=1)
    before = source.copy()
    target = fences.full((end - begin) * units, matrix.dtype, GUARD, shift=3)
    batches.unstage_rows(kernel_table(matrix.dtype), source, rows, begin, end, units, target)
    fences.check()
    np.testing.assert_array_equal(source, before)
    return target.reshape(end - begin, units)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=60)
@given(rows=st.integers(1, 40), units=st.integers(1, 120), data=st.data())
def test_the_rows_of_a_matrix_in_panels_are_copied_to_rows(dtype: str, rows: int, units: int,
                                                           data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, rows))
    end = data.draw(st.integers(begin, rows))
    matrix = random_inputs(dtype, rows, units, np.random.default_rng(rows * units))
    np.testing.assert_array_equal(unstage_rows(matrix, begin, end), matrix[begin:end])


@pytest.mark.parametrize("dtype", DTYPES)
def test_columns_beside_a_register_and_a_panel_are_copied_to_rows(dtype: str) -> None:
    for units in edges(dtype):
        matrix = random_inputs(dtype, 7, units, np.random.default_rng(units))
        matrix[3, units // 2], matrix[2, -1], matrix[4, 0] = np.nan, np.inf, -np.inf
        np.testing.assert_array_equal(unstage_rows(matrix, 0, 7), matrix)
        np.testing.assert_array_equal(unstage_rows(matrix, 2, 5), matrix[2:5])


@pytest.mark.parametrize("dtype", DTYPES)
def test_staged_rows_come_back(dtype: str) -> None:
    """The kernels' two copies undo one another, and the panels between them are those of the other kernels."""
    x = random_inputs(dtype, 30, 77, np.random.default_rng(5))
    panels = np.zeros(panels_size(30, 77, dtype), dtype)
    kernels = kernel_table(panels.dtype)
    batches.stage_rows(kernels, x.ctypes.data, KINDS[dtype], 1, 77, np.arange(30), 30, 0, 30, 77, x[0], x[0], 0,
                       x[0].copy(), panels, np.zeros(1, np.int64))
    np.testing.assert_array_equal(panels, to_panels(x))
    back = np.empty_like(x)
    batches.unstage_rows(kernels, panels, 30, 0, 30, 77, back)
    np.testing.assert_array_equal(back, x)


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
