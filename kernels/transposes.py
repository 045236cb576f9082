"""Transposing matrices in registers, in square blocks of as many rows and columns as a register has lanes.

Element by element, the copy of a layer's weights that the backward product needs took up to a fifth of that product.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import simd
from .linking import INT, NUMBERS, kernel
from .simd import INT32, INT64, Vector, lanes, shift


def _swap(builder: ir.IRBuilder, vectors: list[ir.Value]) -> list[ir.Value]:
    """Transpose a square of vectors: blocks of one, two, four ... elements change places with their mirror images."""
    size = len(vectors)
    rows = list(vectors)
    distance = 1
    while distance < size:
        upper = [lane if lane & distance == 0 else size + lane - distance for lane in range(size)]
        lower = [lane + distance if lane & distance == 0 else size + lane for lane in range(size)]
        for i in range(size):
            if i & distance == 0:
                a, b = rows[i], rows[i + distance]
                for row, picks in ((i, upper), (i + distance, lower)):
                    indices = ir.Constant(ir.VectorType(INT32, size), picks)
                    rows[row] = builder.shuffle_vector(a, b, indices)
        distance *= 2
    return rows


@intrinsic
def _transpose_block(typing_context, source, source_stride, source_rows, target, target_stride, target_rows):
    """target[j, i] = source[i, j] for one block; zero for i >= source_rows; rows j >= target_rows are not written."""
    sig = types.void(source, types.int64, types.int64, source, types.int64, types.int64)

    def generate(context, builder, sig, values):
        source, source_stride, source_rows, target, target_stride, target_rows = values
        vector = Vector(sig.args[0].dtype)
        kind, size = simd.llvm_vector(vector), vector.lanes
        align = vector.dtype.bitwidth // 8

        def place(base: ir.Value, stride: ir.Value, row: int, rows: ir.Value) -> ir.Value:
            """Address of a row; of the last one for rows that are not there."""
            last = builder.sub(rows, INT64(1))
            there = builder.select(builder.icmp_signed("<", INT64(row), last), INT64(row), last)
            return simd.vector_pointer(builder, base, kind, builder.mul(there, stride))

        rows = [builder.load(place(source, source_stride, i, source_rows)) for i in range(size)]
        for row in rows:
            row.align = align
        columns = _swap(builder, rows)
        mask = simd.emit_mask(builder, source_rows, size)
        # From the last to the first: what is written for a row that is not there is overwritten by the one that is.
        for j in reversed(range(size)):
            kept = builder.select(mask, columns[j], ir.Constant(kind, None))
            stored = builder.store(kept, place(target, target_stride, j, target_rows))
            stored.align = align
        return context.get_dummy_value()

    return sig, generate


@kernel(NUMBERS, INT, INT, INT, NUMBERS, INT)
def transpose(source, source_stride, rows, columns, target, target_stride):
    """target[j, i] = source[i, j] for i < rows, j < columns; zeros follow in each row of target up to a whole register.

    Rows of the source must be readable up to a whole register.
    """
    size = lanes(source)
    for i in range(0, rows, size):
        for j in range(0, columns, size):
            _transpose_block(shift(source, i * source_stride + j), source_stride, min(size, rows - i),
                             shift(target, j * target_stride + i), target_stride, min(size, columns - j))
