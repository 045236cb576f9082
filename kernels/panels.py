"""Matrices in column panels: a batch's inputs, outputs and deltas, and a layer's weights.

Panel j of a matrix of `rows` rows holds its columns j * width ... row after row; `width` is that of a register tile,
for the last panel perhaps less, in whole registers. So element (r, c) lies at

    width j rows  +  r width_j  +  c - width j,        j = c // width,  width_j = min(width, padded columns - width j)

What works on rows as wholes (softmax, losses) takes a register full of rows at a time: `gather_rows` transposes them,
so that there is a register for each unit, with a row in each lane. Maxima and sums over units are then plain
operations on registers, and no lane is idle however few units there are.
"""

from __future__ import annotations

from .linking import inlined
from .simd import TILE_VECTORS, lanes, shift
from .transposes import transpose


@inlined
def panel_width(pointer_like):
    """Columns of a full panel."""
    return TILE_VECTORS * lanes(pointer_like)


@inlined
def padded_columns(columns, pointer_like):
    """Columns rounded up to whole registers."""
    step = lanes(pointer_like)
    return (columns + step - 1) // step * step


@inlined
def panels_for(columns, pointer_like):
    """Number of panels that hold `columns` columns."""
    width = panel_width(pointer_like)
    return (columns + width - 1) // width


@inlined
def place_of(row, column, rows, columns, pointer_like):
    """Where the element (row, column) of a matrix of that many rows and columns lies."""
    width = panel_width(pointer_like)
    first = column // width * width
    return first * rows + row * min(width, padded_columns(columns, pointer_like) - first) + column - first


@inlined
def gathered_size(units, pointer_like):
    """Elements that `gather_rows` may write."""
    return padded_columns(units, pointer_like) * lanes(pointer_like)


@inlined
def gather_rows(kernels, matrix, rows, first, count, units, target):
    """Transpose the rows `first` to ``first + count``, a register full at most, to target[unit, row]."""
    width, padded, step = panel_width(matrix), padded_columns(units, matrix), lanes(matrix)
    for column in range(0, units, width):
        columns = min(width, padded - column)
        transpose(kernels, shift(matrix, column * rows + first * columns), columns, count, min(width, units - column),
                  shift(target, column * step), step)


@inlined
def scatter_rows(kernels, source, matrix, rows, first, count, units):
    """Undo `gather_rows`: write source[unit, row] to the rows of a matrix, with zeros in the padding of its columns."""
    width, padded, step = panel_width(matrix), padded_columns(units, matrix), lanes(matrix)
    for column in range(0, units, width):
        columns = min(width, padded - column)
        transpose(kernels, shift(source, column * step), step, min(width, units - column), count,
                  shift(matrix, column * rows + first * columns), columns)
