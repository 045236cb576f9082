"""The micro-kernel for matrices as users have them, their elements a fixed distance apart from row to row.

    C[i, j] = S[i, j] + sum over p < steps of A[i, p] * B[p, j]      i < height <= MOST_ROWS, j < columns

The same loops as those of `tile`, which reads and writes panels only. A single product (`products`) gains by leaving
its arrays where they are: copying them to panels and back took up to half of its time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import simd
from .linking import INT, NUMBERS, kernel
from .simd import CACHE_LINE, INSTRUCTION_SET, INT64, Vector
from .tile import (
    PREFETCH_STEPS,
    RegisterTile,
    call_one_of,
    counted_loop,
    emit_steps,
    internal_function,
    steps_at_once,
)

MOST_ROWS, USUAL_VECTORS = INSTRUCTION_SET.array_rows, INSTRUCTION_SET.array_vectors  # the largest tile

# Registers side by side in a tile of each height. With few rows there are more, as with fewer accumulators
# multiply-adds would wait for those before.
MOST_VECTORS = tuple({1: 8, 2: 4, 3: 3, 4: 3}.get(height, USUAL_VECTORS) for height in range(MOST_ROWS + 1))

MASKED = 0  # in place of the number of vectors: one, of which only the first columns are there


class _Columns:
    """The vectors that the columns of a tile are read and written in.

    The last one ends with the last column, and may overlap the one before it: nothing beyond the columns is touched.
    Where there are fewer columns than fill a register, its other lanes are masked out.
    """

    def __init__(self, tile: RegisterTile, columns: ir.Value, *, masked: bool) -> None:
        builder, lanes = tile.builder, tile.vector.lanes
        self.tile = tile
        self.columns = columns
        self.offsets = [INT64(j * lanes) for j in range(tile.vectors - 1)]
        self.offsets.append(INT64(0) if masked else builder.sub(columns, INT64(lanes)))
        self.mask: ir.Value | None = None
        if masked:
            self.mask = simd.emit_mask(builder, columns, lanes)

    def load(self, base: ir.Value, j: int) -> ir.Value:
        """Emit vector `j` of the row at `base`."""
        if self.mask is None:
            return self.tile.load(base, self.offsets[j])
        place = self.tile.builder.bitcast(base, self.tile.kind.as_pointer())
        return simd.emit_masked_load(self.tile.builder, self.tile.kind, place, self.mask)

    def store(self, base: ir.Value, values: list[ir.Value]) -> None:
        """Emit the writing of the vectors of the row at `base`."""
        builder = self.tile.builder
        if self.mask is None:
            for value, offset in zip(values, self.offsets, strict=True):
                stored = builder.store(value, simd.vector_pointer(builder, base, self.tile.kind, offset))
                stored.align = self.tile.vector.dtype.bitwidth // 8
        else:
            simd.emit_store_first(builder, values[0], base, self.columns)


def _tile_function(module: ir.Module, height: int, vectors: int, vector: Vector,
                   parameters: list[ir.Type]) -> ir.Function:
    """Emit the loop of a tile of one height and width."""
    name = f"fastmlp_array_tile_{height}x{vectors}_{vector.dtype}"
    if name in module.globals:
        return module.globals[name]
    function, builder = internal_function(module, name, parameters)
    repeat, steps, columns, a, a_row, a_step, b, b_step, s, s_row, c, c_row = function.args
    tile = RegisterTile(builder, vector, height, max(vectors, 1))
    of_tile = _Columns(tile, columns, masked=vectors == MASKED)

    def multiples(distance: ir.Value) -> list[ir.Value]:
        return [builder.mul(distance, INT64(i)) for i in range(height + 1)]

    a_rows, s_rows, c_rows = multiples(a_row), multiples(s_row), multiples(c_row)
    odd_rows = {i: simd.emit_opaque(builder, a_rows[i]) for i in range(1, height, 2)}

    def row_of_a(i: int) -> ir.Value:
        """Emit the distance of row `i`: that of an odd row, which is in a register, times what an address can have."""
        if i == 0:
            return INT64(0)
        power_of_two = i & -i
        return builder.mul(odd_rows[i // power_of_two], INT64(power_of_two))

    def step(a_column: ir.Value, b_row: ir.Value) -> list[ir.Value]:
        # Tiles of few rows wait for B more than for multiply-adds; for others to ask for it in advance costs nothing.
        ahead = builder.gep(b_row, [builder.mul(b_step, INT64(PREFETCH_STEPS))])
        for line in range(0, tile.vectors * vector.lanes, CACHE_LINE * 8 // vector.dtype.bitwidth):
            simd.emit_prefetch(builder, builder.gep(ahead, [INT64(line)]))
        tile.add_products([a_column], row_of_a, lambda j: of_tile.load(b_row, j))
        following = builder.gep(a_column, [a_step]), builder.gep(b_row, [b_step])
        return [simd.emit_opaque(builder, pointer) for pointer in following]

    with counted_loop(builder, repeat, a, s, c) as ((_, a_tile, s_tile, c_tile), following):
        tile.set(lambda i, j: of_tile.load(builder.gep(s_tile, [s_rows[i]]), j))
        emit_steps(builder, step, steps, steps_at_once(height * tile.vectors), [a_tile, b],
                   [a_step, b_step])
        for row, places in zip(c_rows[:height], tile.sums, strict=True):
            of_tile.store(builder.gep(c_tile, [row]), [builder.load(place) for place in places])
        following += [builder.gep(base, [rows[height]])
                      for base, rows in ((a_tile, a_rows), (s_tile, s_rows), (c_tile, c_rows))]
    builder.ret_void()
    return function


@intrinsic
def _array_tile(typing_context, height, vectors, repeat, steps, columns, a, a_row, a_step, b, b_step, s, s_row, c,
                c_row):
    integer = types.int64
    sig = types.void(*[integer] * 5, a, integer, integer, a, integer, a, integer, a, integer)

    def generate(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> ir.Value:
        height, vectors, *arguments = values
        parameters = [value.type for value in arguments]
        vector = Vector(sig.args[5].dtype)
        most = max(MOST_VECTORS)
        functions = {
            h * (most + 1) + v: _tile_function(builder.module, h, v, vector, parameters)
            for h in range(1, MOST_ROWS + 1) for v in range(MASKED, MOST_VECTORS[h] + 1)
        }
        case = builder.add(builder.mul(height, INT64(most + 1)), vectors)
        call_one_of(builder, case, functions, arguments)
        return context.get_dummy_value()

    return sig, generate


@kernel(INT, INT, INT, INT, INT, NUMBERS, INT, INT, NUMBERS, INT, NUMBERS, INT, NUMBERS, INT, on_demand=True)
def array_tile(height, vectors, repeat, steps, columns, a, a_row, a_step, b, b_step, s, s_row, c, c_row):
    """`repeat` tiles one below the other.

    Parameters
    ----------
    height, vectors : size of the tile; at most MOST_ROWS, and MOST_VECTORS of the height
    steps : number of products in a sum
    columns : more than fill ``vectors - 1`` registers, at most as many as fill all; for MASKED less than fill one
    a, a_row, a_step : A, elements from one of its rows to the next, and from one step to the next
    b, b_step : B, elements from one step to the next
    s, s_row : S, elements from one of its rows to the next; what the sums begin with
    c, c_row : C, elements from one of its rows to the next; it may be S
    """
    _array_tile(height, vectors, repeat, steps, columns, a, a_row, a_step, b, b_step, s, s_row, c, c_row)
