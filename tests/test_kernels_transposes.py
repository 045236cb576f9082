"""Transposing in registers: every number of rows and columns, strides, zeros up to whole registers, nothing else."""

from __future__ import annotations

import numpy as np
import panels
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import DTYPES, Array, in_threads

from fastmlp.kernels.linking import kernel_table
from fastmlp.kernels.transposes import transpose

UNTOUCHED = -777.0

dtypes = pytest.mark.parametrize("dtype", DTYPES)


def numbered(rows: int, columns: int, dtype: str) -> Array:
    """A matrix without two equal elements."""
    return (1 + np.arange(rows * columns)).reshape(rows, columns).astype(dtype)


def check(matrix: Array, source_gap: int = 0, target_gap: int = 0, shift: int = 0) -> None:
    """Transpose a matrix that lies among NaN, with gaps after the rows; look at everything that may be written."""
    dtype, (rows, columns) = matrix.dtype, matrix.shape
    fences = panels.Fences()
    source_stride = panels.padded_columns(columns, dtype) + source_gap
    whole_rows = panels.padded_columns(rows, dtype)
    target_stride = whole_rows + target_gap
    source = np.full((rows, source_stride), np.nan, dtype)
    source[:, :columns] = matrix
    target = fences.full(columns * target_stride, dtype, UNTOUCHED, shift)
    transpose(kernel_table(dtype), fences.copy(source, shift), source_stride, rows, columns, target, target_stride)
    fences.check()
    found = target.reshape(columns, target_stride)
    np.testing.assert_array_equal(found[:, :rows], matrix.T)
    assert (found[:, rows:whole_rows] == 0).all(), "no zeros up to a whole register"
    assert (found[:, whole_rows:] == UNTOUCHED).all(), "wrote beyond a whole register"


@dtypes
def test_every_number_of_rows_and_columns_about_the_size_of_a_register(dtype: str) -> None:
    most = 2 * panels.lanes(dtype) + 1
    for rows in range(1, most + 1):
        for columns in range(1, most + 1):
            check(numbered(rows, columns, dtype))


@dtypes
@pytest.mark.parametrize("gaps", [(0, 3), (5, 0), (7, 11)])
def test_rows_further_apart_than_they_are_long(dtype: str, gaps: tuple[int, int]) -> None:
    lanes = panels.lanes(dtype)
    for rows, columns in ((1, 1), (lanes - 1, lanes + 1), (lanes, lanes), (2 * lanes + 1, 3), (5, 3 * lanes)):
        check(numbered(max(rows, 1), columns, dtype), *gaps)


@dtypes
@pytest.mark.parametrize("shift", (1, 3))
def test_memory_of_any_alignment(dtype: str, shift: int) -> None:
    lanes = panels.lanes(dtype)
    check(numbered(2 * lanes + 1, 3 * lanes - 1, dtype), 1, 1, shift)


@dtypes
@settings(deadline=None, max_examples=60)
@given(rows=st.integers(1, 130), columns=st.integers(1, 70), source_gap=st.integers(0, 40),
       target_gap=st.integers(0, 40))
def test_any_shape(dtype: str, rows: int, columns: int, source_gap: int, target_gap: int) -> None:
    check(numbered(rows, columns, dtype), source_gap, target_gap)


@dtypes
def test_every_bit_is_kept(dtype: str) -> None:
    """Infinities, zeros with a sign, denormal numbers and NaN are moved like any others."""
    numbers = np.finfo(dtype)
    special = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, numbers.smallest_subnormal, numbers.max, -numbers.tiny],
                       dtype)
    rows, columns = 13, 21
    matrix = np.resize(special, (rows, columns))
    whole_rows = panels.padded_columns(rows, dtype)
    source = np.full((rows, panels.padded_columns(columns, dtype)), np.nan, dtype)
    source[:, :columns] = matrix
    target = np.full((columns, whole_rows), UNTOUCHED, dtype)
    transpose(kernel_table(np.dtype(dtype)), source, source.shape[1], rows, columns, target, whole_rows)
    moved = np.ascontiguousarray(target[:, :rows])
    assert moved.tobytes() == np.ascontiguousarray(matrix.T).tobytes()
    assert (target[:, rows:] == 0).all()


@dtypes
def test_there_and_back_again(dtype: str) -> None:
    matrix = numbered(37, 29, dtype)
    rows, columns = (panels.padded_columns(n, dtype) for n in matrix.shape)
    source = np.zeros((37, columns), dtype)
    source[:, :29] = matrix
    there, back = np.full((29, rows), UNTOUCHED, dtype), np.full((37, columns), UNTOUCHED, dtype)
    transpose(kernel_table(np.dtype(dtype)), source, columns, 37, 29, there, rows)
    transpose(kernel_table(np.dtype(dtype)), there, rows, 29, 37, back, columns)
    np.testing.assert_array_equal(back, source)


@dtypes
def test_two_threads_at_once(dtype: str) -> None:
    in_threads(*(lambda rows=rows: check(numbered(rows, 100, dtype)) for rows in (65, 66)))
