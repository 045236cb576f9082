"""Column panels: places, numbers and sizes, and a register full of rows at a time transposed and back."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
import panels
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import DTYPES, Array
from numba import njit, types

from fastmlp.kernels import layout
from fastmlp.kernels import panels as compiled
from fastmlp.kernels.linking import kernel_table
from fastmlp.kernels.simd import TILE_VECTORS, lanes_of, pointer

FLOATS = {"float32": types.float32, "float64": types.float64}
UNTOUCHED = -777.0

dtypes = pytest.mark.parametrize("dtype", DTYPES)


def edges(dtype: str) -> list[int]:
    """Numbers of columns about the edges of registers and panels."""
    lanes, width = panels.lanes(dtype), panels.panel_width(dtype)
    return sorted({1, 2, lanes - 1, lanes, lanes + 1, width - 1, width, width + 1, width + lanes, width + lanes + 1,
                   2 * width, 3 * width - 1, 3 * width + 2} - {0})


# ---- the tests' own helper


@dtypes
def test_the_helper_puts_panels_one_after_the_other_as_written_down_here(dtype: str) -> None:
    """Two full panels and a narrower one with padding, cut out by hand."""
    lanes, width = lanes_of(np.dtype(dtype).itemsize), TILE_VECTORS * lanes_of(np.dtype(dtype).itemsize)
    rows, columns = 3, 2 * width + lanes - 1
    matrix = np.arange(rows * columns).reshape(rows, columns).astype(dtype)
    last = np.full((rows, lanes), 9.0)
    last[:, :-1] = matrix[:, 2 * width :]
    wanted = [*matrix[:, :width].ravel(), *matrix[:, width : 2 * width].ravel(), *last.ravel()]
    flat = panels.to_panels(matrix, padding=9.0)
    np.testing.assert_array_equal(flat, wanted)
    assert flat.dtype == dtype
    assert flat.ctypes.data % layout.ALIGNMENT == 0


@dtypes
def test_the_helper_undoes_itself(dtype: str) -> None:
    for columns in edges(dtype):
        matrix = np.random.default_rng(columns).normal(size=(5, columns)).astype(dtype)
        flat = panels.to_panels(matrix, padding=3.0)
        assert flat.size == panels.panels_size(5, columns, dtype)
        np.testing.assert_array_equal(panels.from_panels(flat, 5, columns), matrix)
        assert (panels.padding_of(flat, 5, columns) == 3.0).all()
        assert panels.padding_of(flat, 5, columns).shape[1] == -columns % panels.lanes(dtype)


def test_the_helper_sees_what_is_written_around_an_array() -> None:
    for place in (-1, 7, -panels.GUARDED, 7 + panels.GUARDED - 1):
        fences = panels.Fences()
        array = fences.full(7, "float32")
        fences.check()
        ctypes.memset(array.ctypes.data + place * array.itemsize, 0, array.itemsize)
        with pytest.raises(AssertionError, match="wrote"):
            fences.check()


# ---- numbers and places


@functools.cache
def sizes_of(dtype: str) -> Any:
    @njit(types.UniTuple(types.int64, 4)(types.int64, types.Array(FLOATS[dtype], 1, "C")))
    def sizes(columns: int, like: Array) -> tuple[int, int, int, int]:
        p = pointer(like)
        return (compiled.panel_width(p), compiled.padded_columns(columns, p), compiled.panels_for(columns, p),
                compiled.gathered_size(columns, p))

    return lambda columns: sizes(columns, np.zeros(1, dtype))


@dtypes
def test_sizes(dtype: str) -> None:
    for columns in edges(dtype):
        padded = panels.padded_columns(columns, dtype)
        assert sizes_of(dtype)(columns) == (panels.panel_width(dtype), padded, len(panels.panel_widths(columns, dtype)),
                                            padded * panels.lanes(dtype))


@functools.cache
def place_in(dtype: str) -> Any:
    @njit(types.int64(types.int64, types.int64, types.int64, types.int64, types.Array(FLOATS[dtype], 1, "C")))
    def place(row: int, column: int, rows: int, columns: int, like: Array) -> int:
        return compiled.place_of(row, column, rows, columns, pointer(like))

    return lambda *arguments: place(*arguments, np.zeros(1, dtype))


@dtypes
@pytest.mark.parametrize("rows", (1, 2, 5))
def test_the_place_of_every_element(dtype: str, rows: int) -> None:
    for columns in edges(dtype):
        matrix = np.arange(rows * columns).reshape(rows, columns).astype(dtype)
        flat = panels.to_panels(matrix, padding=-1)
        for r in range(rows):
            for c in range(columns):
                assert flat[place_in(dtype)(r, c, rows, columns)] == matrix[r, c]


# ---- a register full of rows at a time


@functools.cache
def gatherer(dtype: str) -> Any:
    array = types.Array(FLOATS[dtype], 1, "C")

    @njit(types.void(types.int64[::1], array, *[types.int64] * 4, array))
    def gather(kernels: Array, matrix: Array, rows: int, first: int, count: int, units: int, target: Array) -> None:
        compiled.gather_rows(pointer(kernels), pointer(matrix), rows, first, count, units, pointer(target))

    return functools.partial(gather, kernel_table(np.dtype(dtype)))


@functools.cache
def scatterer(dtype: str) -> Any:
    array = types.Array(FLOATS[dtype], 1, "C")

    @njit(types.void(types.int64[::1], array, array, *[types.int64] * 4))
    def scatter(kernels: Array, source: Array, matrix: Array, rows: int, first: int, count: int, units: int) -> None:
        compiled.scatter_rows(pointer(kernels), pointer(source), pointer(matrix), rows, first, count, units)

    return functools.partial(scatter, kernel_table(np.dtype(dtype)))


def numbered(rows: int, units: int, dtype: str) -> Array:
    return (1 + np.arange(rows * units)).reshape(rows, units).astype(dtype)


def check_gather(dtype: str, rows: int, units: int, first: int, count: int) -> None:
    """Element [unit, row] of the target, zeros in the lanes without a row; nothing is written beyond the units."""
    lanes = panels.lanes(dtype)
    fences = panels.Fences()
    matrix = numbered(rows, units, dtype)
    target = fences.full(panels.padded_columns(units, dtype) * lanes, dtype, UNTOUCHED)
    source = fences.panels(matrix, padding=np.nan)
    gatherer(dtype)(source, rows, first, count, units, target)
    fences.check()
    found = target.reshape(-1, lanes)
    np.testing.assert_array_equal(found[:units, :count], matrix[first : first + count].T)
    assert (found[:units, count:] == 0).all()
    assert (found[units:] == UNTOUCHED).all()
    np.testing.assert_array_equal(source, panels.to_panels(matrix, padding=np.nan))


def check_scatter(dtype: str, rows: int, units: int, first: int, count: int) -> None:
    """Rows of the matrix, with zeros in the padding of its columns, whatever the source holds for other rows."""
    lanes = panels.lanes(dtype)
    fences = panels.Fences()
    written = numbered(count, units, dtype)
    source = np.full((panels.padded_columns(units, dtype), lanes), np.nan, dtype)
    source[:units, :count] = written.T
    matrix = fences.full(panels.panels_size(rows, units, dtype), dtype, UNTOUCHED)
    scatterer(dtype)(fences.copy(source), matrix, rows, first, count, units)
    fences.check()
    found = panels.from_panels(matrix, rows, panels.padded_columns(units, dtype))
    np.testing.assert_array_equal(found[first : first + count, :units], written)
    assert (found[first : first + count, units:] == 0).all(), "the padding is not zero"
    assert (np.delete(found, slice(first, first + count), axis=0) == UNTOUCHED).all(), "wrote to other rows"


CHECKS = {"gather": check_gather, "scatter": check_scatter}
both = pytest.mark.parametrize("check", CHECKS)


@dtypes
@both
def test_every_number_of_rows(check: str, dtype: str) -> None:
    for units in edges(dtype):
        for count in range(1, panels.lanes(dtype) + 1):
            CHECKS[check](dtype, count, units, 0, count)


@dtypes
@both
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_rows_of_a_larger_matrix(check: str, dtype: str, data: st.DataObject) -> None:
    rows, units = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 140))
    count = data.draw(st.integers(1, min(rows, panels.lanes(dtype))))
    CHECKS[check](dtype, rows, units, data.draw(st.integers(0, rows - count)), count)


@dtypes
def test_gathered_rows_are_scattered_back_to_where_they_were(dtype: str) -> None:
    lanes, rows, units = panels.lanes(dtype), 3 * panels.lanes(dtype) + 1, 70
    matrix = np.random.default_rng(0).normal(size=(rows, units)).astype(dtype)
    source, target = panels.to_panels(matrix), panels.to_panels(np.full((rows, units), UNTOUCHED, dtype))
    rows_in_lanes = np.empty(panels.padded_columns(units, dtype) * lanes, dtype)
    for first in range(0, rows, lanes):
        count = min(lanes, rows - first)
        gatherer(dtype)(source, rows, first, count, units, rows_in_lanes)
        scatterer(dtype)(rows_in_lanes, target, rows, first, count, units)
    np.testing.assert_array_equal(target, source)
