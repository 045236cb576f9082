"""Matrices in column panels, as the kernels take them (`fastmlp.kernels.panels`), in plain NumPy; and guard values.

Panel after panel, and in each panel row after row. A panel is as wide as a register tile; the last one has as many
columns as it needs, in whole registers. Columns of it that the matrix does not have are padding.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.kernels.layout import aligned_zeros
from fastmlp.kernels.simd import TILE_VECTORS, lanes_of

Array = np.ndarray[Any, np.dtype[Any]]

GUARD = -777.0
GUARDED = 256  # elements


def lanes(dtype: Any) -> int:
    """Elements of a register."""
    return lanes_of(np.dtype(dtype).itemsize)


def panel_width(dtype: Any) -> int:
    """Columns of a full panel."""
    return TILE_VECTORS * lanes(dtype)


def padded_columns(columns: int, dtype: Any) -> int:
    """Columns rounded up to whole registers."""
    return -(-columns // lanes(dtype)) * lanes(dtype)


def panel_widths(columns: int, dtype: Any) -> list[int]:
    """Width of each panel of a matrix of so many columns, padding included."""
    whole, rest = divmod(padded_columns(columns, dtype), panel_width(dtype))
    return [panel_width(dtype)] * whole + [rest] * (rest > 0)


def panels_size(rows: int, columns: int, dtype: Any) -> int:
    """Elements that a matrix takes up."""
    return rows * padded_columns(columns, dtype)


def to_panels(matrix: Any, dtype: Any = None, padding: float = 0.0) -> Array:
    """The panels of a matrix in one flat array that begins at a cache line, with `padding` in its padding."""
    matrix = np.asarray(matrix, dtype)
    columns = matrix.shape[1]
    missing = padded_columns(columns, matrix.dtype) - columns
    padded = np.pad(matrix, ((0, 0), (0, missing)), constant_values=padding)
    edges = np.cumsum(panel_widths(columns, matrix.dtype))[:-1]
    flat = aligned_zeros(padded.size, matrix.dtype)
    flat[:] = np.concatenate([panel.ravel() for panel in np.split(padded, edges, axis=1)])
    return flat


def from_panels(flat: Array, rows: int, columns: int) -> Array:
    """The matrix (rows, columns) that lies in panels: a copy. With `padded_columns` for `columns`, padding included."""
    parts, start = [], 0
    for width in panel_widths(columns, flat.dtype):
        parts.append(flat[start : start + rows * width].reshape(rows, width))
        start += rows * width
    return np.concatenate(parts, axis=1)[:, :columns]


def padding_of(flat: Array, rows: int, columns: int) -> Array:
    """The padding of a matrix (rows, columns) that lies in panels: a copy, (rows, columns of padding)."""
    return from_panels(flat, rows, padded_columns(columns, flat.dtype))[:, columns:]


class Fences:
    """Makes arrays with guard values before and after them, which `check` finds untouched or not."""

    def __init__(self) -> None:
        self._made: list[tuple[Array, slice]] = []

    def copy(self, array: Any, shift: int = 0) -> Array:
        """A flat copy that begins `shift` elements beyond the begin of a cache line."""
        array = np.asarray(array).ravel()
        memory = aligned_zeros(2 * GUARDED + shift + array.size, array.dtype)
        memory[:] = GUARD
        inside = slice(GUARDED + shift, GUARDED + shift + array.size)
        memory[inside] = array
        self._made.append((memory, inside))
        return memory[inside]

    def full(self, count: int, dtype: Any, value: float = np.nan, shift: int = 0) -> Array:
        return self.copy(np.full(count, value, dtype), shift)

    def panels(self, matrix: Any, dtype: Any = None, padding: float = 0.0, shift: int = 0) -> Array:
        return self.copy(to_panels(matrix, dtype, padding), shift)

    def check(self) -> None:
        for memory, inside in self._made:
            assert (memory[: inside.start] == GUARD).all(), "wrote before an array"
            assert (memory[inside.stop :] == GUARD).all(), "wrote after an array"
