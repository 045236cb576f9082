"""The micro-kernel: every height and width of a register tile, several tiles and panels at once, rows among others."""

from __future__ import annotations

from typing import Any

import numpy as np
import panels
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import DTYPES, Array, error_bound, in_threads, wide

from fastmlp.kernels import tile
from fastmlp.kernels.linking import kernel_table
from fastmlp.kernels.simd import TILE_ROWS, TILE_VECTORS
from fastmlp.kernels.tile import PANELS_AT_ONCE

UNTOUCHED = -777.0
HEIGHTS = range(1, TILE_ROWS + 1)
WIDTHS = range(1, TILE_VECTORS + 1)
GAP = 5  # elements between two panels of B or C


def side_by_side(parts: list[Array], filling: float) -> Array:
    """Panels one after the other in one flat array, with a gap between them."""
    gap = np.full(GAP, filling, parts[0].dtype)
    return np.concatenate([piece for part in parts for piece in (gap, part.ravel())][1:])


class Tiles:
    """Operands of C = start + A B for `repeat` tiles one below the other, on some panels of B side by side."""

    def __init__(self, dtype: str, height: int, vectors: int, steps: int, *, at_once: int = 1, repeat: int = 1,
                 whole: bool = True, seed: int = 0) -> None:
        self.dtype, self.kernels = np.dtype(dtype), kernel_table(np.dtype(dtype))
        self.height, self.vectors, self.steps, self.at_once, self.repeat = height, vectors, steps, at_once, repeat
        self.rng, self.whole = np.random.default_rng(seed), whole
        self.rows, self.columns = height * repeat, vectors * panels.lanes(dtype)
        self.a = self.numbers(self.rows, steps)
        self.b = self.numbers(steps, at_once * self.columns)
        self.start = self.numbers(*self.start_shape())

    def numbers(self, *shape: int) -> Array:
        """Small whole numbers, whose products and sums are exact in any order, or numbers of any size."""
        made = self.rng.integers(-8, 9, shape) if self.whole else self.rng.normal(size=shape)
        return made.astype(self.dtype)

    def start_shape(self) -> tuple[int, int]:
        raise NotImplementedError

    def run(self) -> Array:
        """C, after a check that nothing else has been written."""
        raise NotImplementedError

    def exact(self) -> Array:
        return wide(self.start) + wide(self.a) @ wide(self.b)

    def magnitudes(self) -> Array:
        return np.abs(wide(self.start)) + np.abs(wide(self.a)) @ np.abs(wide(self.b))


class RowTiles(Tiles):
    """Row tiles: A lies in panels among other rows, which hold NaN, and the start is a last row of B."""

    before, after = 2, 3  # rows of A and C that are not the tiles'
    shift = 0  # elements from the begin of a cache line

    def start_shape(self) -> tuple[int, int]:
        return 1, self.at_once * self.columns

    def run(self) -> Array:
        fences = panels.Fences()
        rows = self.before + self.rows + self.after
        used = slice(self.before, self.before + self.rows)
        a = np.full((rows, self.steps), np.nan, self.dtype)
        a[used] = self.a
        b = side_by_side(np.split(np.concatenate([self.b, self.start]), self.at_once, axis=1), np.nan)
        c = side_by_side([np.full((rows, self.columns), UNTOUCHED, self.dtype)] * self.at_once, UNTOUCHED)
        c = fences.copy(c, self.shift)
        tile.row_tile(self.kernels, self.height, self.vectors, self.at_once, self.repeat, self.steps,
                      fences.panels(a, padding=np.nan, shift=self.shift), rows, self.before,
                      fences.copy(b, self.shift), (self.steps + 1) * self.columns + GAP, c, rows * self.columns + GAP)
        fences.check()
        found = []
        for panel in range(self.at_once):
            begin = panel * (rows * self.columns + GAP)
            block = c[begin : begin + rows * self.columns].reshape(rows, self.columns)
            found.append(block[used].copy())
            block[used] = UNTOUCHED
        assert (c == UNTOUCHED).all(), "wrote beyond the tiles"
        return np.concatenate(found, axis=1)


class ColumnTiles(Tiles):
    """Column tiles: A lies transposed in a panel among other columns, which hold NaN."""

    before, after = 2, 3  # columns of A's panel that are not the tiles'
    shift = 0
    accumulate = 1
    ahead, lines = 0, 0

    def start_shape(self) -> tuple[int, int]:
        return self.rows, self.columns

    def run(self) -> Array:
        fences = panels.Fences()
        a_width = self.before + self.rows + self.after
        a = np.full((self.steps, a_width), np.nan, self.dtype)
        a[:, self.before : self.before + self.rows] = self.a.T
        flat = fences.copy(a, self.shift)
        c = fences.copy(self.start, self.shift)
        tile.column_tile(self.kernels, self.height, self.vectors, self.repeat, self.steps,
                         flat.ctypes.data + self.before * self.dtype.itemsize, a_width,
                         fences.copy(self.b, self.shift), c, self.accumulate, self.ahead, self.lines)
        fences.check()
        return c.reshape(self.rows, self.columns)


KINDS = {"row": RowTiles, "column": ColumnTiles}
kinds = pytest.mark.parametrize("kind", KINDS)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def numbers_of_steps(dtype: str) -> list[int]:
    """None, few, and about the edges of the registers and panels that A may lie in."""
    lanes, width = panels.lanes(dtype), panels.panel_width(dtype)
    return sorted({0, 1, 2, 3, lanes - 1, lanes, lanes + 1, width - 1, width, width + 1, width + lanes + 1, 2 * width,
                   3 * width + 1, 100})


@dtypes
@kinds
def test_every_height_and_width_gives_the_exact_product_of_whole_numbers(kind: str, dtype: str) -> None:
    for steps in numbers_of_steps(dtype):
        for height in HEIGHTS:
            for vectors in WIDTHS:
                case = KINDS[kind](dtype, height, vectors, steps, seed=height)
                np.testing.assert_array_equal(case.run(), case.exact(), str((height, vectors, steps)))


@dtypes
@kinds
@pytest.mark.parametrize("repeat", (0, 1, 2, 3, 5))
def test_tiles_one_below_the_other(kind: str, dtype: str, repeat: int) -> None:
    for height in (1, 2, 3, TILE_ROWS - 1, TILE_ROWS):
        for vectors in WIDTHS:
            case = KINDS[kind](dtype, height, vectors, panels.panel_width(dtype) + 3, repeat=repeat)
            np.testing.assert_array_equal(case.run(), case.exact())


@dtypes
@pytest.mark.parametrize("height", PANELS_AT_ONCE)
def test_several_panels_at_once(dtype: str, height: int) -> None:
    for steps in numbers_of_steps(dtype):
        for repeat in (1, 2):
            case = RowTiles(dtype, height, TILE_VECTORS, steps, at_once=PANELS_AT_ONCE[height], repeat=repeat)
            np.testing.assert_array_equal(case.run(), case.exact())


def test_panels_at_once_are_of_tiles_that_exist() -> None:
    assert all(height in HEIGHTS and 1 < at_once < 8 for height, at_once in PANELS_AT_ONCE.items())


@dtypes
@pytest.mark.parametrize("before", (0, 1, 7))
@pytest.mark.parametrize("after", (0, 1, 20))
def test_the_rows_of_a_row_tile_lie_anywhere_among_those_of_a_matrix(dtype: str, before: int, after: int) -> None:
    for steps in (1, panels.lanes(dtype), 2 * panels.panel_width(dtype) + 1):
        case = RowTiles(dtype, 3, TILE_VECTORS, steps, repeat=2)
        case.before, case.after = before, after
        np.testing.assert_array_equal(case.run(), case.exact())


@dtypes
@pytest.mark.parametrize("before", (0, 1, 7))
@pytest.mark.parametrize("after", (0, 1, 20))
def test_the_columns_of_a_column_tile_lie_anywhere_in_a_panel(dtype: str, before: int, after: int) -> None:
    for height in (1, TILE_ROWS):
        case = ColumnTiles(dtype, height, TILE_VECTORS, 11, repeat=2)
        case.before, case.after = before, after
        np.testing.assert_array_equal(case.run(), case.exact())


@dtypes
@kinds
def test_memory_of_any_alignment(kind: str, dtype: str) -> None:
    for shift in (1, 3):
        case: Any = KINDS[kind](dtype, TILE_ROWS, TILE_VECTORS, 20, repeat=2)
        case.shift = shift
        np.testing.assert_array_equal(case.run(), case.exact())


@dtypes
@kinds
@settings(deadline=None, max_examples=60)
@given(height=st.sampled_from(HEIGHTS), vectors=st.sampled_from(WIDTHS), steps=st.integers(0, 300),
       repeat=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_rounding_errors_are_those_of_one_sum(kind: str, dtype: str, height: int, vectors: int, steps: int,
                                              repeat: int, seed: int) -> None:
    case = KINDS[kind](dtype, height, vectors, steps, repeat=repeat, whole=False, seed=seed)
    error = np.abs(case.run() - case.exact())
    assert (error <= error_bound(steps + 1, case.magnitudes(), dtype)).all()


@dtypes
@kinds
def test_an_element_does_not_depend_on_the_tile_it_lies_in(kind: str, dtype: str) -> None:
    """Bit by bit: alone, in the largest tile, in one of several tiles."""
    lanes = panels.lanes(dtype)
    whole = KINDS[kind](dtype, TILE_ROWS, TILE_VECTORS, 150, repeat=2, whole=False)
    together = whole.run()
    for i in range(whole.rows):
        for j in range(0, whole.columns, lanes):
            alone = KINDS[kind](dtype, 1, 1, 150)
            alone.a, alone.b = whole.a[i : i + 1], whole.b[:, j : j + lanes]
            alone.start = whole.start[i : i + 1, j : j + lanes] if kind == "column" else whole.start[:, j : j + lanes]
            np.testing.assert_array_equal(alone.run()[0], together[i, j : j + lanes])


@dtypes
@pytest.mark.parametrize("height", PANELS_AT_ONCE)
def test_an_element_does_not_depend_on_the_panels_beside_it(dtype: str, height: int) -> None:
    whole = RowTiles(dtype, height, TILE_VECTORS, 150, at_once=PANELS_AT_ONCE[height], whole=False)
    together = whole.run()
    for j in range(0, together.shape[1], whole.columns):
        alone = RowTiles(dtype, height, TILE_VECTORS, 150)
        panel = slice(j, j + whole.columns)
        alone.a, alone.b, alone.start = whole.a, whole.b[:, panel], whole.start[:, panel]
        np.testing.assert_array_equal(alone.run(), together[:, panel])


@dtypes
def test_a_column_tile_accumulates_only_when_it_is_told_to(dtype: str) -> None:
    for height in (1, 3, TILE_ROWS):
        case = ColumnTiles(dtype, height, TILE_VECTORS, 9, repeat=2)
        np.testing.assert_array_equal(case.run(), case.exact())
        exact = case.exact() - case.start
        case.start[:] = np.nan
        case.accumulate = 0
        np.testing.assert_array_equal(case.run(), exact)


@dtypes
@pytest.mark.parametrize("lines", [1, 3, 1000])
def test_what_a_column_tile_reads_ahead_makes_no_difference(lines: int, dtype: str) -> None:
    """Be it more lines than there are rounds, or where nobody may read."""
    for ahead in (0, 64, np.zeros(1000).ctypes.data):
        case = ColumnTiles(dtype, TILE_ROWS, TILE_VECTORS, 21, repeat=2)
        case.ahead, case.lines = ahead, lines
        np.testing.assert_array_equal(case.run(), case.exact())


@dtypes
@kinds
@pytest.mark.parametrize("value", (np.nan, np.inf))
def test_nan_and_infinity_reach_exactly_the_sums_they_belong_to(kind: str, dtype: str, value: float) -> None:
    case = KINDS[kind](dtype, TILE_ROWS, TILE_VECTORS, 20, repeat=2)
    i, p = TILE_ROWS - 1, 13
    case.b = np.abs(case.b) + 1
    case.a[i, p] = value
    c = case.run()
    np.testing.assert_array_equal(c[i], np.full(case.columns, value))
    assert np.isfinite(np.delete(c, i, axis=0)).all()


@dtypes
@kinds
def test_two_threads_at_once_get_what_one_gets(kind: str, dtype: str) -> None:
    cases = [KINDS[kind](dtype, TILE_ROWS, TILE_VECTORS, 2000, repeat=2, whole=False, seed=seed) for seed in (0, 1)]
    alone = [case.run() for case in cases]
    for found, wanted in zip(in_threads(*(case.run for case in cases)), alone, strict=True):
        np.testing.assert_array_equal(found, wanted)
