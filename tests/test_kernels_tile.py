"""The micro-kernel: every height and width of a register tile, any strides, rows in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import DTYPES, Array, error_bound, in_threads

from fastmlp.kernels import tile
from fastmlp.kernels.linking import kernel_table
from fastmlp.kernels.simd import TILE_ROWS, TILE_VECTORS, lanes_of

UNTOUCHED = -777.0
HEIGHTS = range(1, TILE_ROWS + 1)
WIDTHS = range(1, TILE_VECTORS + 1)


class Case:
    """Operands of one tile: A in rows further apart than they are long, NaN in what must not be read."""

    def __init__(self, kind: str, dtype: str, height: int, vectors: int, steps: int, whole: bool = True,
                 seed: int = 0) -> None:
        self.kind, self.dtype, self.height, self.vectors, self.steps = kind, np.dtype(dtype), height, vectors, steps
        self.rng = np.random.default_rng(seed)
        self.columns = vectors * lanes_of(self.dtype.itemsize)
        used_rows, used_columns = (height, steps) if kind == "row" else (steps, height)
        stored = used_rows + 3
        self.rows = self.rng.permutation(stored)[:used_rows].astype(np.int64)
        self.a = np.full((stored, used_columns + 5), np.nan, dtype)
        self.a[self.rows, :used_columns] = self.numbers((used_rows, used_columns), whole)
        used = self.a[self.rows, :used_columns].astype(np.float64)
        self.factor = used if kind == "row" else used.T
        self.b = np.full((steps, self.columns + 3), np.nan, dtype)
        self.b[:, : self.columns] = self.numbers((steps, self.columns), whole)
        self.start = np.full((height, self.columns + 2), np.nan, dtype)
        self.start[:, : self.columns] = self.numbers((height, self.columns), whole)

    def numbers(self, shape: tuple[int, int], whole: bool) -> Array:
        """Small whole numbers, whose products and sums are exact in any order, or numbers of any size."""
        return self.rng.integers(-8, 9, shape) if whole else self.rng.normal(size=shape)

    def exact(self) -> Array:
        b, start = self.b[:, : self.columns].astype(np.float64), self.start[:, : self.columns].astype(np.float64)
        return start + self.factor @ b

    def magnitudes(self) -> Any:
        b, start = self.b[:, : self.columns].astype(np.float64), self.start[:, : self.columns].astype(np.float64)
        return np.abs(start) + np.abs(self.factor) @ np.abs(b)

    def run(self, start: Array | None = None, start_stride: int | None = None, c: Array | None = None) -> Array:
        """Call the kernel; C lies in rows with room after them that must stay as it is."""
        if c is None:
            c = np.full((self.height + 1, self.columns + 4), UNTOUCHED, self.dtype)
        if start is None:
            start, start_stride = self.start, self.start.shape[1]
        kernel = tile.row_tile if self.kind == "row" else tile.column_tile
        kernel(kernel_table(self.dtype), self.height, self.vectors, self.steps, self.a, self.a.shape[1], self.rows,
               self.b, self.b.shape[1], start, start_stride, c, c.shape[1])
        return c


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ("row", "column"))
@pytest.mark.parametrize("steps", (0, 1, 2, 3, 17, 100))
def test_every_height_and_width_gives_the_exact_product_of_whole_numbers(kind: str, dtype: str, steps: int) -> None:
    for height in HEIGHTS:
        for vectors in WIDTHS:
            case = Case(kind, dtype, height, vectors, steps, seed=height)
            c = case.run()
            np.testing.assert_array_equal(c[:height, : case.columns], case.exact())
            assert (c[:height, case.columns :] == UNTOUCHED).all(), "wrote beyond the columns"
            assert (c[height:] == UNTOUCHED).all(), "wrote beyond the rows"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ("row", "column"))
@settings(deadline=None, max_examples=60)
@given(height=st.sampled_from(HEIGHTS), vectors=st.sampled_from(WIDTHS), steps=st.integers(0, 300),
       seed=st.integers(0, 2**32 - 1))
def test_rounding_errors_are_those_of_one_sum(kind: str, dtype: str, height: int, vectors: int, steps: int,
                                              seed: int) -> None:
    case = Case(kind, dtype, height, vectors, steps, whole=False, seed=seed)
    error = np.abs(case.run()[:height, : case.columns] - case.exact())
    assert (error <= error_bound(steps + 1, case.magnitudes(), dtype)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ("row", "column"))
def test_an_element_does_not_depend_on_the_tile_it_lies_in(kind: str, dtype: str) -> None:
    case = Case(kind, dtype, TILE_ROWS, TILE_VECTORS, 50, whole=False)
    together = case.run()
    lanes = lanes_of(case.dtype.itemsize)
    kernel = tile.row_tile if kind == "row" else tile.column_tile
    for i in range(TILE_ROWS):
        for j in range(0, case.columns, lanes):
            alone = np.zeros(lanes, dtype)
            a = case.a if kind == "row" else case.a.ravel()[i:]
            kernel(kernel_table(case.dtype), 1, 1, case.steps, a, case.a.shape[1],
                   case.rows[i:] if kind == "row" else case.rows, case.b.ravel()[j:], case.b.shape[1],
                   case.start[i, j:], 0, alone, lanes)
            np.testing.assert_array_equal(alone, together[i, j : j + lanes])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ("row", "column"))
def test_a_start_with_stride_zero_is_added_to_every_row(kind: str, dtype: str) -> None:
    for height in (1, 2, TILE_ROWS):
        case = Case(kind, dtype, height, TILE_VECTORS, 7)
        case.start[:] = case.start[0]
        c = case.run(start=case.start[0], start_stride=0)
        np.testing.assert_array_equal(c[:height, : case.columns], case.exact())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ("row", "column"))
def test_the_start_may_be_the_result_itself(kind: str, dtype: str) -> None:
    """A gradient is accumulated in place."""
    for height in (1, 3, TILE_ROWS):
        case = Case(kind, dtype, height, TILE_VECTORS, 9)
        exact = case.exact()
        c = case.run(start=case.start, start_stride=case.start.shape[1], c=case.start)
        np.testing.assert_array_equal(c[:, : case.columns], exact)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_row_may_be_read_many_times(dtype: str) -> None:
    case = Case("row", dtype, TILE_ROWS, 1, 10)
    case.rows[:] = case.rows[0]
    c = case.run()
    b = case.b[:, : case.columns].astype(np.float64)
    np.testing.assert_array_equal(c[:TILE_ROWS, : case.columns], case.start[:, : case.columns] + case.factor[0] @ b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_column_of_stride_zero_sums_the_rows_of_b(dtype: str) -> None:
    """The gradient of a bias: the factor is the same one for every row."""
    case = Case("column", dtype, 1, TILE_VECTORS, 33)
    one, c = np.ones(1, dtype), np.zeros(case.columns, dtype)
    b = np.ascontiguousarray(case.b[:, : case.columns])
    tile.column_tile(kernel_table(case.dtype), 1, TILE_VECTORS, 33, one, 0, np.arange(33), b, case.columns, c.copy(),
                     0, c, case.columns)
    np.testing.assert_array_equal(c, b.sum(axis=0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ("row", "column"))
@pytest.mark.parametrize("value", (np.nan, np.inf))
def test_nan_and_infinity_reach_exactly_the_sums_they_belong_to(kind: str, dtype: str, value: float) -> None:
    case = Case(kind, dtype, TILE_ROWS, TILE_VECTORS, 20)
    i, p = TILE_ROWS - 1, 13
    case.b[:, : case.columns] = np.abs(case.b[:, : case.columns]) + 1
    if kind == "row":
        case.a[case.rows[i], p] = value
    else:
        case.a[case.rows[p], i] = value
    c = case.run()[:TILE_ROWS, : case.columns]
    wrong = ~np.isfinite(c)
    assert wrong[i].all()
    assert not wrong[:i].any()
    np.testing.assert_array_equal(c[i], np.full(case.columns, value))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ("row", "column"))
def test_two_threads_at_once_get_what_one_gets(kind: str, dtype: str) -> None:
    cases = [Case(kind, dtype, TILE_ROWS, TILE_VECTORS, 2000, whole=False, seed=seed) for seed in (0, 1)]
    alone = [case.run() for case in cases]
    for found, wanted in zip(in_threads(*(case.run for case in cases)), alone, strict=True):
        np.testing.assert_array_equal(found, wanted)
