"""The micro-kernel: one register tile of a matrix product.

    C[i, j] = start[i, j] + sum over p of A(i, p) * B[p, j]        i < height <= TILE_ROWS, j < vectors * lanes

The accumulators stay in registers for the whole sum; each step of p costs one broadcast a row and one fused
multiply-add an accumulator. For every height and width there is a separate, fully unrolled loop; all sums run
over p = 0, 1, 2 ... one after the other, so that an element of C does not depend on the tile it lies in.

`row_tile` reads A(i, p) = A[rows[i], p]: the rows of a mini-batch where they lie, in any order.
`column_tile` reads A(i, p) = A[rows[p], i]: the transpose of A, for weight gradients.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import simd
from .linking import INT, INT_POINTER, NUMBERS, kernel
from .simd import INT64, TILE_ROWS, TILE_VECTORS, Lanes, Vector


def _tile_function(module: ir.Module, by_column: bool, height: int, vectors: int, vector: Vector,
                   parameters: list[ir.Type]) -> ir.Function:
    """Emit the unrolled loop for one height and width as a function of its own."""
    kind = simd.llvm_vector(vector)
    way = "column" if by_column else "row"
    name = f"fastmlp_{way}_tile_{height}x{vectors}_{kind.element}".replace(" ", "")
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), parameters), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    steps, a, a_stride, rows, b, b_stride, start, start_stride, c, c_stride = function.args
    for argument in (c, start, a, b, rows):
        argument.name = argument.name or ""
    entry = function.append_basic_block("entry")
    loop = function.append_basic_block("loop")
    done = function.append_basic_block("done")
    builder = ir.IRBuilder(entry)
    element_bytes = vector.dtype.bitwidth // 8

    def load_vector(base: ir.Value, index: ir.Value) -> ir.Value:
        loaded = builder.load(simd.vector_pointer(builder, base, kind, index))
        loaded.align = element_bytes
        return loaded

    def row_offset(index: ir.Value) -> ir.Value:
        return builder.mul(builder.load(builder.gep(rows, [index])), a_stride)

    if not by_column:
        row_pointers = [builder.gep(a, [row_offset(INT64(i))]) for i in range(height)]
    first = [[load_vector(start, builder.add(builder.mul(start_stride, INT64(i)), INT64(j * vector.lanes)))
              for j in range(vectors)] for i in range(height)]
    builder.cbranch(builder.icmp_signed(">", steps, INT64(0)), loop, done)

    builder.position_at_end(loop)
    p = builder.phi(INT64)
    p.add_incoming(INT64(0), entry)
    sums = [[builder.phi(kind) for _ in range(vectors)] for _ in range(height)]
    b_offset = builder.mul(p, b_stride)
    b_vectors = [load_vector(b, builder.add(b_offset, INT64(j * vector.lanes))) for j in range(vectors)]
    if by_column:
        column = builder.gep(a, [row_offset(p)])
    following = []
    for i in range(height):
        where = builder.gep(column, [INT64(i)]) if by_column else builder.gep(row_pointers[i], [p])
        factor = Lanes(builder, simd.splat(builder, builder.load(where), kind), vector)
        following.append([factor.fma(Lanes(builder, b_vectors[j], vector), Lanes(builder, sums[i][j], vector)).value
                          for j in range(vectors)])
    p_next = builder.add(p, INT64(1))
    p.add_incoming(p_next, loop)
    builder.cbranch(builder.icmp_signed("<", p_next, steps), loop, done)

    builder.position_at_end(done)
    for i in range(height):
        for j in range(vectors):
            sums[i][j].add_incoming(first[i][j], entry)
            sums[i][j].add_incoming(following[i][j], loop)
            total = builder.phi(kind)
            total.add_incoming(first[i][j], entry)
            total.add_incoming(following[i][j], loop)
            following[i][j] = total
    for i in range(height):
        for j in range(vectors):
            offset = builder.add(builder.mul(c_stride, INT64(i)), INT64(j * vector.lanes))
            stored = builder.store(following[i][j], simd.vector_pointer(builder, c, kind, offset))
            stored.align = element_bytes
    builder.ret_void()
    return function


def _tile_dispatch(by_column: bool) -> Any:
    """Make the Numba intrinsic that jumps to the loop for a height and a width."""

    @intrinsic
    def dispatch(typing_context, height, vectors, steps, a, a_stride, rows,
                 b, b_stride, start, start_stride, c, c_stride):
        vector = Vector(a.dtype)
        index_pointer = types.CPointer(types.int64)
        sig = types.void(types.int64, types.int64, types.int64, a, types.int64, index_pointer,
                         a, types.int64, a, types.int64, a, types.int64)

        def generate(context, builder, sig, values):
            height_value, vectors_value, *arguments = values
            end = builder.append_basic_block("tile.end")
            case = builder.add(builder.mul(height_value, INT64(TILE_VECTORS)), vectors_value)
            switch = builder.switch(case, end)
            for rows_of_tile in range(1, TILE_ROWS + 1):
                for width in range(1, TILE_VECTORS + 1):
                    function = _tile_function(builder.module, by_column, rows_of_tile, width, vector,
                                              [value.type for value in arguments])
                    block = builder.append_basic_block("tile.call")
                    switch.add_case(INT64(rows_of_tile * TILE_VECTORS + width), block)
                    builder.position_at_end(block)
                    builder.call(function, arguments)
                    builder.branch(end)
            builder.position_at_end(end)
            return context.get_dummy_value()

        return sig, generate

    return dispatch


_row_tile = _tile_dispatch(by_column=False)
_column_tile = _tile_dispatch(by_column=True)


@kernel(INT, INT, INT, NUMBERS, INT, INT_POINTER, NUMBERS, INT, NUMBERS, INT, NUMBERS, INT)
def row_tile(height, vectors, steps, a, a_stride, rows, b, b_stride, start, start_stride, c, c_stride):
    """C[i] = start[i] + sum over p < steps of A[rows[i], p] * B[p], for i < height; all of them pointers."""
    _row_tile(height, vectors, steps, a, a_stride, rows, b, b_stride, start, start_stride, c, c_stride)


@kernel(INT, INT, INT, NUMBERS, INT, INT_POINTER, NUMBERS, INT, NUMBERS, INT, NUMBERS, INT)
def column_tile(height, vectors, steps, a, a_stride, rows, b, b_stride, start, start_stride, c, c_stride):
    """C[i] = start[i] + sum over p < steps of A[rows[p], i] * B[p], for i < height; all of them pointers."""
    _column_tile(height, vectors, steps, a, a_stride, rows, b, b_stride, start, start_stride, c, c_stride)
