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
from .tile import internal_function

# Registers are cut into groups of so many bytes, within which the processor swaps most cheaply. A matrix of no more
# rows or columns than a group has lanes, as that of a narrow output layer, takes a third of the swaps of a square.
GROUP_BYTES = 16


def element_bytes(kind: ir.VectorType) -> int:
    return 4 if isinstance(kind.element, ir.FloatType) else 8


def few_lanes(kind: ir.VectorType) -> int:
    """Return the number of lanes of a group."""
    return GROUP_BYTES // element_bytes(kind)


def _swap(builder: ir.IRBuilder, vectors: list[ir.Value]) -> list[ir.Value]:
    """Transpose squares of as many lanes as there are vectors, one beside the other.

    Blocks of one, two, four ... elements change places with their mirror images.
    """
    lanes = vectors[0].type.count
    rows = list(vectors)
    distance = 1
    while distance < len(rows):
        upper = [lane if lane & distance == 0 else lanes + lane - distance for lane in range(lanes)]
        lower = [lane + distance if lane & distance == 0 else lanes + lane for lane in range(lanes)]
        for i in range(len(rows)):
            if i & distance == 0:
                a, b = rows[i], rows[i + distance]
                for row, picks in ((i, upper), (i + distance, lower)):
                    indices = ir.Constant(ir.VectorType(INT32, lanes), picks)
                    rows[row] = builder.shuffle_vector(a, b, indices)
        distance *= 2
    return rows


class _Rows:
    """The rows of a matrix that a block takes up: all that a block has, or fewer, `count` of them."""

    def __init__(self, builder: ir.IRBuilder, base: ir.Value, stride: ir.Value, count: ir.Value | None) -> None:
        self.builder, self.base, self.stride = builder, base, stride
        self.last = None if count is None else builder.sub(count, INT64(1))

    def _place(self, row: int, kind: ir.Type) -> ir.Value:
        """Address of a row; of the last one for those that are not there."""
        number = INT64(row)
        if self.last is not None:
            number = self.builder.select(self.builder.icmp_signed("<", number, self.last), number, self.last)
        return simd.vector_pointer(self.builder, self.base, kind, self.builder.mul(number, self.stride))

    def load(self, row: int, kind: ir.VectorType) -> ir.Value:
        """Emit the reading of the first elements of a row."""
        loaded = self.builder.load(self._place(row, kind))
        loaded.align = element_bytes(kind)
        return loaded

    def store(self, vectors: list[ir.Value]) -> None:
        """Emit the writing of all rows, from the last to the first.

        What is written for a row that is not there is overwritten by the one that is.
        """
        for row, vector in reversed(list(enumerate(vectors))):
            self.builder.store(vector, self._place(row, vector.type)).align = element_bytes(vector.type)


def _emit_square(builder: ir.IRBuilder, source: _Rows, source_rows: ir.Value, target: _Rows,
                 kind: ir.VectorType) -> None:
    """Emit the transposition of as many rows and columns as a register has lanes."""
    mask = simd.emit_mask(builder, source_rows, kind.count)
    columns = _swap(builder, [source.load(row, kind) for row in range(kind.count)])
    target.store([builder.select(mask, column, ir.Constant(kind, None)) for column in columns])


def _emit_tall(builder: ir.IRBuilder, source: _Rows, source_rows: ir.Value, target: _Rows, kind: ir.VectorType) -> None:
    """Emit the transposition of as many rows as a register has lanes, but only few columns, as a group has lanes.

    Register k begins as rows k, k + few, k + 2 few ... side by side.
    """
    few = few_lanes(kind)
    mask = simd.emit_mask(builder, source_rows, kind.count)
    part = ir.VectorType(kind.element, few)
    registers = [simd.join(builder, [source.load(row, part) for row in range(first, kind.count, few)])
                 for first in range(few)]
    target.store([builder.select(mask, row, ir.Constant(kind, None)) for row in _swap(builder, registers)])


def _emit_wide(builder: ir.IRBuilder, source: _Rows, source_rows: ir.Value, target: _Rows, kind: ir.VectorType) -> None:
    """Emit the transposition of few rows, as a group has lanes, but as many columns as a register has."""
    few = few_lanes(kind)
    mask = simd.emit_mask(builder, source_rows, few)
    registers = _swap(builder, [source.load(row, kind) for row in range(few)])
    parts = [simd.split(builder, register, few) for register in registers]
    zeros = ir.Constant(ir.VectorType(kind.element, few), None)
    widened = ir.Constant(ir.VectorType(INT32, kind.count), [min(lane, few) for lane in range(kind.count)])
    target.store([builder.shuffle_vector(builder.select(mask, parts[row % few][row // few], zeros), zeros, widened)
                  for row in range(kind.count)])


def _block_function(module: ir.Module, shape: str, whole_source: bool, whole_target: bool, kind: ir.VectorType,
                    parameters: list[ir.Type]) -> ir.Function:
    """Emit the transposition of a block of one shape, of whose matrices all rows are there, or perhaps fewer."""
    rows = f"{'whole' if whole_source else 'part'}_to_{'whole' if whole_target else 'part'}"
    function, builder = internal_function(module, f"fastmlp_transpose_{shape}_{rows}_{kind.element}", parameters)
    source, source_stride, source_rows, target, target_stride, target_rows = function.args
    emit = {"square": _emit_square, "tall": _emit_tall, "wide": _emit_wide}[shape]
    emit(builder, _Rows(builder, source, source_stride, None if whole_source else source_rows), source_rows,
         _Rows(builder, target, target_stride, None if whole_target else target_rows), kind)
    builder.ret_void()
    return function


@intrinsic
def _transpose_block(typing_context, source, source_stride, source_rows, target, target_stride, target_rows):
    """target[j, i] = source[i, j] for one block; zero for i >= source_rows; rows j >= target_rows are not written."""
    sig = types.void(source, types.int64, types.int64, source, types.int64, types.int64)

    def generate(context, builder, sig, values):
        source_rows, target_rows = values[2], values[5]
        kind = simd.llvm_vector(Vector(sig.args[0].dtype))
        few = few_lanes(kind)
        parameters = [value.type for value in values]

        def are_more(rows: ir.Value, than: int) -> ir.Value:
            return builder.icmp_signed(">", rows, INT64(than))

        def call(shape: str, whole_source: bool, whole_target: bool, if_true: ir.Value) -> None:
            """Call the function of a shape for whole matrices if that is so, else the one that looks at each row.

            What it costs to look is more than the transposition itself.
            """
            with builder.if_else(if_true) as (whole, otherwise):
                with whole:
                    function = _block_function(builder.module, shape, whole_source, whole_target, kind, parameters)
                    builder.call(function, values)
                with otherwise:
                    builder.call(_block_function(builder.module, shape, False, False, kind, parameters), values)

        whole_source, whole_target = are_more(source_rows, kind.count - 1), are_more(target_rows, kind.count - 1)
        if few == kind.count:
            call("square", True, True, builder.and_(whole_source, whole_target))
            return context.get_dummy_value()
        with builder.if_else(are_more(target_rows, few)) as (has_columns, is_tall):
            with has_columns, builder.if_else(are_more(source_rows, few)) as (is_square, is_wide):
                with is_square:
                    call("square", True, True, builder.and_(whole_source, whole_target))
                with is_wide:
                    call("wide", False, True, whole_target)
            with is_tall:
                call("tall", True, False, whole_source)
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
