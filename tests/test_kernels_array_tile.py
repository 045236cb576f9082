"""The micro-kernel on arrays: every height and width, elements any distance apart, nothing beyond the columns."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import panels
import pytest
from naive import DTYPES, Array, wide

from fastmlp.kernels import array_tile
from fastmlp.kernels.linking import kernel_table

UNTOUCHED = -777.0
HEIGHTS = range(1, array_tile.MOST_ROWS + 1)

dtypes = pytest.mark.parametrize("dtype", DTYPES)


def widths(height: int) -> range:
    return range(array_tile.MASKED, array_tile.MOST_VECTORS[height] + 1)


def columns_of(vectors: int, dtype: str) -> list[int]:
    """The smallest and the largest number of columns of a tile, and one between them."""
    lanes = panels.lanes(dtype)
    if vectors == array_tile.MASKED:
        return sorted({1, lanes // 2, lanes - 1})
    return sorted({lanes if vectors == 1 else (vectors - 1) * lanes + 1, vectors * lanes - lanes // 2 if vectors > 1
                   else lanes, vectors * lanes})


def check(dtype: str, height: int, vectors: int, columns: int, steps: int, repeat: int = 1, start: str = "row",
          transposed: bool = False, gap: int = 3) -> None:
    """Compare with NumPy, with NaN or guard values wherever the tile has nothing to look for."""
    kind, rng, fences = np.dtype(dtype), np.random.default_rng(0), panels.Fences()
    rows = height * repeat

    def matrix(count: int, width: int) -> tuple[Array, Array]:
        """Whole numbers, whose products and sums are exact, and the same in rows with NaN behind them."""
        numbers = rng.integers(-8, 9, (count, width)).astype(kind)
        apart = np.full((max(count, 1), width + gap), np.nan, kind)
        apart[:count, :width] = numbers
        return numbers, fences.copy(apart[:, :width] if gap == 0 else apart)

    a, flat_a = matrix(steps, rows) if transposed else matrix(rows, steps)
    a_row, a_step = (1, rows + gap) if transposed else (steps + gap, 1)
    b, flat_b = matrix(steps, columns)
    s, flat_s = matrix(rows if start == "matrix" else 1, columns)
    c_row = columns + gap
    c = fences.copy(np.full((rows, c_row), UNTOUCHED, kind))
    if start == "C":
        s = rng.integers(-8, 9, (rows, columns)).astype(kind)
        c.reshape(rows, c_row)[:, :columns] = s
        flat_s = c
    s_row = 0 if start == "row" else c_row
    array_tile.array_tile(kernel_table(kind, array_tile.array_tile), height, vectors, repeat, steps, columns, flat_a,
                          a_row, a_step, flat_b, columns + gap, flat_s, s_row, c, c_row)
    fences.check()
    found = c.reshape(rows, c_row)
    exact = wide(s) + wide(a.T if transposed else a) @ wide(b)
    np.testing.assert_array_equal(found[:, :columns], exact, str((height, vectors, columns, steps)))
    assert (found[:, columns:] == UNTOUCHED).all(), "wrote beyond the columns"


@dtypes
@pytest.mark.parametrize("steps", (0, 1, 2, 9, 40))
def test_every_height_and_width(dtype: str, steps: int) -> None:
    for height in HEIGHTS:
        for vectors in widths(height):
            for columns in columns_of(vectors, dtype):
                check(dtype, height, vectors, columns, steps)


@dtypes
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("start", ["row", "matrix", "C"])
@pytest.mark.parametrize("repeat", [1, 2, 5])
@pytest.mark.parametrize("gap", [0, 5])
def test_ways_that_matrices_lie(dtype: str, transposed: bool, start: str, repeat: int, gap: int) -> None:
    for height in (1, 2, array_tile.MOST_ROWS - 1, array_tile.MOST_ROWS):
        for vectors in widths(height):
            check(dtype, height, vectors, columns_of(vectors, dtype)[0], 7, repeat, start, transposed, gap)


# Arrays that end where readable memory does: reading beyond them ends the process.
AT_THE_END_OF_MEMORY = """
import ctypes, mmap
import numpy as np
from fastmlp.kernels import standalone

libc, page, kept = ctypes.CDLL(None, use_errno=True), mmap.PAGESIZE, []

def at_the_end(shape, dtype):
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    whole = -(-count // page) * page
    memory = mmap.mmap(-1, whole + page)
    kept.append(memory)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(address + whole), page, 0) == 0
    array = np.frombuffer(memory, dtype, int(np.prod(shape)), whole - count).reshape(shape)
    array[:] = 1
    return array

for dtype in ("float32", "float64"):
    for rows, inputs, units in [(1, 1, 1), (3, 5, 7), (8, 300, 101), (13, 33, 9), (131, 77, 35), (300, 520, 19)]:
        X, W, b, delta = (at_the_end(shape, dtype) for shape in (
            (rows, inputs), (inputs, units), (units,), (rows, units)))
        for activation in (0, 2):
            assert np.isfinite(standalone.dense_forward(X, W, b, activation)).all()
            assert np.isfinite(standalone.dense_backward(delta, W, X, activation)).all()
        assert (standalone.weight_gradient(X, delta)[0] == rows).all()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages of memory as Linux does")
def test_products_do_not_read_beyond_their_arrays() -> None:
    done: Any = subprocess.run([sys.executable, "-c", AT_THE_END_OF_MEMORY], capture_output=True, text=True,
                               timeout=300)
    assert done.returncode == 0, done.stderr
