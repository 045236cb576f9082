"""The micro-kernel: one register tile of a matrix product.

    row tile        C[i, j] = B[K, j] + sum over p < K of A[i, p] * B[p, j]       the last row of B is the bias
    column tile     C[i, j] = C[i, j] or 0 + sum over p of A[p, i] * B[p, j]      for weight gradients

    i < height <= TILE_ROWS, j < vectors * lanes

The accumulators stay in registers for the whole sum; each step of p costs one broadcast for a row of the tile and one
fused multiply-add for an accumulator. For every height and width there is a separate, fully unrolled loop; all sums
run over p = 0, 1, 2 ... one after the other, so that an element of C does not depend on the tile it lies in.

All matrices lie in column panels (`panels`): a panel's rows follow one another, so that a tile reads memory in order,
from few pages, with distances between its rows that are known when the loop is compiled. Reading the rows of A where
a user's array has them, a page or more apart, costs up to 40 % of the speed of a column tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from . import simd
from .linking import INT, NUMBERS, kernel
from .simd import CACHE_LINE, INT64, TILE_ROWS, TILE_VECTORS, Lanes, Vector

# Panels of B that a row tile of a small height goes through at once: with fewer accumulators, each multiply-add would
# wait for the one before it.
PANELS_AT_ONCE = {1: 4, 2: 3, 3: 2}

# Such a tile waits for memory more than for multiply-adds; B is asked for so many steps in advance. Of a panel's row
# only the first line is: with AVX-512 it has two, and asking for both takes a sixth longer where the second-level cache
# holds the weights, and gains nothing where it does not.
PREFETCH_STEPS = 8

# A round of a tile's loop goes through several steps at once: through a whole panel of A where that makes no more
# multiply-adds than MOST_IN_A_ROUND in the largest tile, else STEPS_AT_ONCE; one where tiles have more registers than
# MOST_UNROLLED. A processor whose other hardware thread is busy takes on half as many instructions in a cycle, and
# those that only count rounds would cost up to 7 % of the time.
MOST_IN_A_ROUND = 192
STEPS_AT_ONCE, MOST_UNROLLED = 4, 12

# One row in so many reads its number within each of its multiply-adds (`simd.EMBEDS_BROADCASTS`). A tile of 13 x 2
# registers has 37 instructions in a step then, not 41, but reads more: with two rows of three it would be slower again.
ROWS_TO_AN_EMBEDDED = 3


def steps_at_once(registers: int) -> int:
    """Steps in a round of a loop for a tile of so many registers."""
    return STEPS_AT_ONCE if registers <= MOST_UNROLLED else 1


def _steps_on_panels(registers: int) -> int:
    """Steps in a round where the rows of a tile are in a panel of A: where few pointers are enough for all of them."""
    return STEPS_AT_ONCE if simd.EMBEDS_BROADCASTS else steps_at_once(registers)


class RegisterTile:
    """The accumulators of a tile while its code is emitted."""

    def __init__(self, builder: ir.IRBuilder, vector: Vector, height: int, vectors: int) -> None:
        self.builder = builder
        self.vector = vector
        self.height = height
        self.vectors = vectors
        self.kind = simd.llvm_vector(vector)
        # Memory in name only: LLVM turns it into registers.
        self.sums = [[builder.alloca(self.kind) for _ in range(vectors)] for _ in range(height)]

    def load(self, base: ir.Value, offset: ir.Value) -> ir.Value:
        loaded = self.builder.load(simd.vector_pointer(self.builder, base, self.kind, offset))
        loaded.align = self.vector.dtype.bitwidth // 8
        return loaded

    def set(self, value: Callable[[int, int], ir.Value]) -> None:
        """Set the accumulator of each row and vector."""
        for i, row in enumerate(self.sums):
            for j, place in enumerate(row):
                self.builder.store(value(i, j), place)

    def pointers_to(self, a: ir.Value) -> list[ir.Value]:
        """Return what to read A through: a second pointer as well, if this tile is to have embedded rows.

        Of two reads through the same one LLVM would make one, to a register. As they are moved it loses sight of their
        being the same. (With one vector a row there is one read of each number, which LLVM embeds by itself.)
        """
        return [a, a] if simd.EMBEDS_BROADCASTS and self.vectors == 2 else [a]

    def moved(self, a: Sequence[ir.Value], distance: ir.Value) -> list[ir.Value]:
        """Return the pointers to A, `distance` further on.

        A processor takes an embedded read apart again if its address has a distance in a register, as LLVM would have
        it if it saw that all pointers are the first one and a multiple of the round's number.
        """
        moved = [self.builder.gep(pointer, [distance]) for pointer in a]
        return [simd.emit_opaque(self.builder, pointer) for pointer in moved] if simd.EMBEDS_BROADCASTS else moved

    def add_products(self, a: Sequence[ir.Value], place: Callable[[int], ir.Value],
                     b_vector: Callable[[int], ir.Value]) -> None:
        """Add to row i the number at element ``place(i)`` of A, from `pointers_to`, times the vectors ``b_vector(j)``.
        """
        builder = self.builder

        def factor(i: int, pointer: ir.Value) -> Lanes:
            number = builder.load(builder.gep(pointer, [place(i)]))
            return Lanes(builder, simd.splat(builder, number, self.kind), self.vector)

        def b(j: int) -> Lanes:
            return Lanes(builder, b_vector(j), self.vector)

        def add_product(i: int, j: int, factor: Lanes, b: Lanes) -> None:
            total = Lanes(builder, builder.load(self.sums[i][j]), self.vector)
            builder.store(factor.fma(b, total).value, self.sums[i][j])

        # What there is less of is loaded first and kept, so that the registers suffice.
        if self.vectors <= self.height:
            vectors = [b(j) for j in range(self.vectors)]
            for i in range(self.height):
                row = again = factor(i, a[0])
                if len(a) > 1 and i % ROWS_TO_AN_EMBEDDED == 1:
                    again = factor(i, a[1])
                for j, vector in enumerate(vectors):
                    add_product(i, j, again if j else row, vector)
        else:
            factors = [factor(i, a[0]) for i in range(self.height)]
            for j in range(self.vectors):
                vector = b(j)
                for i, row in enumerate(factors):
                    add_product(i, j, row, vector)

    def store(self, base: ir.Value, offset: Callable[[int, int], ir.Value]) -> None:
        for i, row in enumerate(self.sums):
            for j, place in enumerate(row):
                stored = self.builder.store(self.builder.load(place), simd.vector_pointer(
                    self.builder, base, self.kind, offset(i, j)))
                stored.align = self.vector.dtype.bitwidth // 8


@contextmanager
def counted_loop(builder: ir.IRBuilder, count: ir.Value,
                 *starts: ir.Value) -> Iterator[tuple[list[ir.Value], list[ir.Value]]]:
    """Emit a loop of `count` rounds with variables that begin as `starts`; the body fills in their next values.

    Yields the list of variables, the round's number first, and the list to put the next values in.
    """
    before = builder.block
    body, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.cbranch(builder.icmp_signed(">", count, INT64(0)), body, after)
    builder.position_at_end(body)
    variables = [builder.phi(start.type) for start in (INT64(0), *starts)]
    following: list[ir.Value] = []
    yield variables, following
    following.insert(0, builder.add(variables[0], INT64(1)))
    for variable, start, value in zip(variables, (INT64(0), *starts), following, strict=True):
        variable.add_incoming(start, before)
        variable.add_incoming(value, builder.block)
    jump = builder.cbranch(builder.icmp_signed("<", following[0], count), body, after)
    jump.set_metadata("llvm.loop", _not_unrolled(builder.module))
    builder.position_at_end(after)


def _not_unrolled(module: ir.Module) -> ir.MDValue:
    """Return what tells LLVM to leave a loop as it is: unrolling tiles further takes it long and gains nothing."""
    name = "fastmlp.not_unrolled"
    if name not in module.namedmetadata:
        disable = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
        loop = ir.MDValue(module, [disable], name=str(len(module.metadata)))
        loop.operands = (loop, disable)  # that the first operand is the node itself is part of the format
        module.add_named_metadata(name, loop)
    return module.get_named_metadata(name).operands[0]


def emit_steps(builder: ir.IRBuilder, step: Callable[..., list[ir.Value]], steps: ir.Value, at_once: int,
               starts: list[ir.Value], distances: list[ir.Value],
               begin_round: Callable[[], None] | None = None) -> None:
    """Emit a loop of `steps` calls of `step`, `at_once` in a round as far as they go.

    Parameters
    ----------
    step : emits one step; takes pointers and returns those for the next one, `distances` further on
    starts : the pointers for the first step
    begin_round : emits what comes before the first step of each round
    """
    rest = builder.urem(steps, INT64(at_once))
    whole = builder.sub(steps, rest)
    of_rest = [builder.gep(start, [builder.mul(whole, distance)])
               for start, distance in zip(starts, distances, strict=True)]
    for count, in_a_round, pointers in ((builder.udiv(steps, INT64(at_once)), at_once, starts), (rest, 1, of_rest)):
        with counted_loop(builder, count, *pointers) as ((_, *places), following):
            if begin_round is not None:
                begin_round()
            for _ in range(in_a_round):
                places = step(*places)
            following += places


def internal_function(module: ir.Module, name: str, parameters: list[ir.Type]) -> tuple[ir.Function, ir.IRBuilder]:
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), parameters), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    return function, ir.IRBuilder(function.append_basic_block("entry"))


def _row_tile_function(module: ir.Module, height: int, vectors: int, panels: int, vector: Vector,
                       parameters: list[ir.Type]) -> ir.Function:
    """Emit the loops of a row tile of one height and width, on `panels` panels of B side by side."""
    name = f"fastmlp_row_tile_{height}x{vectors}x{panels}_{vector.dtype}"
    if name in module.globals:
        return module.globals[name]
    function, builder = internal_function(module, name, parameters)
    repeat, inputs, a, rows, first_row, b, b_panel, c, c_panel = function.args
    lanes, width = vector.lanes, vectors * vector.lanes
    a_width = TILE_VECTORS * lanes
    element_bytes = vector.dtype.bitwidth // 8
    tile = RegisterTile(builder, vector, height, vectors * panels)
    places = [(panel, INT64(v * lanes)) for panel in range(panels) for v in range(vectors)]

    def b_vector(row: ir.Value, j: int) -> ir.Value:
        panel, offset = places[j]
        start = builder.add(builder.mul(row, INT64(width)), builder.mul(b_panel, INT64(panel)))
        return tile.load(b, builder.add(start, offset))

    def one_column(a_row: ir.Value, row: ir.Value, p: ir.Value, stride: int) -> None:
        """Add the products of column `p` of a panel of A whose rows are `stride` apart; `row` is the first one's of B.
        """
        b_row = builder.add(row, p)
        if panels > 1:
            ahead = builder.mul(builder.add(b_row, INT64(PREFETCH_STEPS)), INT64(width))
            for panel in range(panels):
                start = builder.add(ahead, builder.mul(b_panel, INT64(panel)))
                simd.emit_prefetch(builder, builder.gep(b, [start]))
        tile.add_products([a_row], lambda i: builder.add(p, INT64(i * stride)), lambda j: b_vector(b_row, j))

    def column_of_round(p: int, a_row: Sequence[ir.Value], b_row: ir.Value) -> None:
        tile.add_products(a_row, lambda i: INT64(i * a_width + p),
                          lambda j: tile.load(b_row, INT64(p * width + j * lanes)))

    def whole_round(b_row: ir.Value, next_panel: ir.Value, *a_row: ir.Value) -> list[ir.Value]:
        """Add the products of `at_once` columns of a full panel of A, and ask for as much of the next panel.

        Return the pointers for the next round.
        """
        for line in range(0, height * at_once, CACHE_LINE // element_bytes):
            simd.emit_prefetch(builder, builder.gep(next_panel, [INT64(line)]))
        for p in range(at_once):
            column_of_round(p, a_row, b_row)
        return [builder.gep(b_row, [INT64(at_once * width)]), builder.gep(next_panel, [INT64(height * at_once)]),
                *tile.moved(a_row, INT64(at_once))]

    is_short = a_width * TILE_ROWS * TILE_VECTORS <= MOST_IN_A_ROUND
    at_once = a_width if is_short else _steps_on_panels(height * vectors)
    full_panels = builder.udiv(inputs, INT64(a_width))
    full_inputs = builder.mul(full_panels, INT64(a_width))
    rest = builder.sub(inputs, full_inputs)
    with counted_loop(builder, repeat, first_row) as ((_, row), next_row):
        bias = [b_vector(inputs, j) for j in range(tile.vectors)]
        tile.set(lambda i, j: bias[j])
        with counted_loop(builder, full_panels) as ((q,), _):
            first_input = builder.mul(q, INT64(a_width))
            place = builder.add(builder.mul(first_input, rows), builder.mul(row, INT64(a_width)))
            a_row = builder.gep(a, [place])
            if panels > 1:  # a step at a time: with more, LLVM would spill registers
                with counted_loop(builder, INT64(a_width)) as ((p,), _):
                    one_column(a_row, first_input, p, a_width)
            else:
                # The processor does not foresee the jump to the next panel.
                next_panel = builder.gep(a_row, [builder.mul(rows, INT64(a_width))])
                b_row = builder.gep(b, [builder.mul(first_input, INT64(width))])
                starts = [b_row, next_panel, *tile.pointers_to(a_row)]
                with counted_loop(builder, INT64(a_width // at_once), *starts) as ((_, *pointers), following):
                    following += whole_round(*pointers)
        # The last panel of A is as wide as its columns need, in whole registers.
        last_panel = builder.mul(full_inputs, rows)
        for count in range(1, TILE_VECTORS + 1):
            stride = count * lanes
            fits = builder.and_(builder.icmp_signed(">", rest, INT64(stride - lanes)),
                                builder.icmp_signed("<=", rest, INT64(stride)))
            steps = builder.select(fits, rest, INT64(0))
            place = builder.add(last_panel, builder.mul(row, INT64(stride)))
            a_row = builder.gep(a, [place])
            with counted_loop(builder, steps) as ((p,), _):
                one_column(a_row, full_inputs, p, stride)
        c_row = builder.mul(row, INT64(width))
        tile.store(c, lambda i, j: builder.add(builder.add(c_row, builder.mul(c_panel, INT64(places[j][0]))),
                                               builder.add(places[j][1], INT64(i * width))))
        next_row.append(builder.add(row, INT64(height)))
    builder.ret_void()
    return function


def _column_tile_function(module: ir.Module, height: int, vectors: int, vector: Vector,
                          parameters: list[ir.Type]) -> ir.Function:
    """Emit the loop of a column tile of one height and width."""
    name = f"fastmlp_column_tile_{height}x{vectors}_{vector.dtype}"
    if name in module.globals:
        return module.globals[name]
    function, builder = internal_function(module, name, parameters)
    repeat, steps, a, a_width, b, c, accumulate, ahead, lines = function.args
    lanes, width = vector.lanes, vectors * vector.lanes
    tile = RegisterTile(builder, vector, height, vectors)
    offsets = [[INT64(i * width + j * lanes) for j in range(vectors)] for i in range(height)]
    at_once = _steps_on_panels(height * vectors)
    zero = ir.Constant(tile.kind, None)

    # What is to be read ahead; the first line of B, which is near, where that is nothing.
    is_some = builder.icmp_signed(">", lines, INT64(0))
    first_line = builder.select(is_some, ahead, builder.ptrtoint(b, INT64))
    further = builder.select(is_some, builder.sub(lines, INT64(1)), INT64(0))
    last_line = builder.add(first_line, builder.mul(further, INT64(CACHE_LINE)))
    line_place = builder.alloca(INT64)  # in name only
    builder.store(first_line, line_place)

    def read_ahead() -> None:
        line = builder.load(line_place)
        simd.emit_prefetch(builder, builder.inttoptr(line, ir.IntType(8).as_pointer()))
        is_last = builder.icmp_unsigned(">=", line, last_line)
        builder.store(builder.select(is_last, line, builder.add(line, INT64(CACHE_LINE))), line_place)

    def step(b_row: ir.Value, *a_row: ir.Value) -> list[ir.Value]:
        tile.add_products(a_row, INT64, lambda j: tile.load(b_row, INT64(j * lanes)))
        return [builder.gep(b_row, [INT64(width)]), *tile.moved(a_row, a_width)]

    with counted_loop(builder, repeat, a, c) as ((_, a_tile, c_tile), following):
        tile.set(lambda i, j: zero)
        with builder.if_then(builder.icmp_signed("!=", accumulate, INT64(0))):
            tile.set(lambda i, j: tile.load(c_tile, offsets[i][j]))
        a_rows = tile.pointers_to(a_tile)
        emit_steps(builder, step, steps, at_once, [b, *a_rows], [INT64(width), *[a_width] * len(a_rows)],
                   read_ahead)
        tile.store(c_tile, lambda i, j: offsets[i][j])
        following += [builder.gep(a_tile, [INT64(height)]), builder.gep(c_tile, [INT64(height * width)])]
    builder.ret_void()
    return function


def call_one_of(builder: ir.IRBuilder, case: ir.Value, functions: dict[int, ir.Function],
                 arguments: list[ir.Value]) -> None:
    """Emit a jump to the function whose number is `case`."""
    end = builder.append_basic_block("tile.end")
    switch = builder.switch(case, end)
    for number, function in functions.items():
        block = builder.append_basic_block("tile.call")
        switch.add_case(INT64(number), block)
        builder.position_at_end(block)
        builder.call(function, arguments)
        builder.branch(end)
    builder.position_at_end(end)


@intrinsic
def _row_tile(typing_context, height, vectors, panels, repeat, inputs, a, rows, first_row, b, b_panel, c, c_panel):
    integer = types.int64
    sig = types.void(*[integer] * 5, a, integer, integer, a, integer, a, integer)

    def generate(context, builder, sig, values):
        height, vectors, panels, *arguments = values
        parameters = [value.type for value in arguments]
        vector = Vector(sig.args[5].dtype)

        def number(height: Any, vectors: Any, panels: Any) -> Any:
            return (height * TILE_VECTORS + vectors) * 8 + panels

        functions = {
            number(h, v, 1): _row_tile_function(builder.module, h, v, 1, vector, parameters)
            for h in range(1, TILE_ROWS + 1) for v in range(1, TILE_VECTORS + 1)
        }
        for h, p in PANELS_AT_ONCE.items():
            functions[number(h, TILE_VECTORS, p)] = _row_tile_function(
                builder.module, h, TILE_VECTORS, p, vector, parameters)
        case = builder.add(builder.mul(height, INT64(TILE_VECTORS)), vectors)
        case = builder.add(builder.mul(case, INT64(8)), panels)
        call_one_of(builder, case, functions, arguments)
        return context.get_dummy_value()

    return sig, generate


@intrinsic
def _column_tile(typing_context, height, vectors, repeat, steps, a, a_width, b, c, accumulate, ahead, lines):
    integer = types.int64
    sig = types.void(*[integer] * 4, a, integer, a, a, *[integer] * 3)

    def generate(context, builder, sig, values):
        height, vectors, *arguments = values
        parameters = [value.type for value in arguments]
        vector = Vector(sig.args[4].dtype)
        functions = {
            h * TILE_VECTORS + v: _column_tile_function(builder.module, h, v, vector, parameters)
            for h in range(1, TILE_ROWS + 1) for v in range(1, TILE_VECTORS + 1)
        }
        case = builder.add(builder.mul(height, INT64(TILE_VECTORS)), vectors)
        call_one_of(builder, case, functions, arguments)
        return context.get_dummy_value()

    return sig, generate


@kernel(INT, INT, INT, INT, INT, NUMBERS, INT, INT, NUMBERS, INT, NUMBERS, INT)
def row_tile(height, vectors, panels, repeat, inputs, a, rows, first_row, b, b_panel, c, c_panel):
    """`repeat` row tiles one below the other, from row `first_row`.

    Parameters
    ----------
    height, vectors : size of the tile
    panels : 1, or ``PANELS_AT_ONCE[height]`` panels of B and C side by side, if `vectors` is TILE_VECTORS
    inputs : K
    a, rows : A in panels of `rows` rows
    b, b_panel : panel of B, (inputs + 1) rows; elements from one panel to the next
    c, c_panel : panel of C; elements from one panel to the next
    """
    _row_tile(height, vectors, panels, repeat, inputs, a, rows, first_row, b, b_panel, c, c_panel)


@kernel(INT, INT, INT, INT, NUMBERS, INT, NUMBERS, NUMBERS, INT, INT, INT)
def column_tile(height, vectors, repeat, steps, a, a_width, b, c, accumulate, ahead, lines):
    """`repeat` column tiles one below the other in C, so side by side in A, summed over `steps` rows of A and B.

    Parameters
    ----------
    height, vectors : size of the tile
    a, a_width : first column in a panel of A, and the panel's width
    b, c : panels of B and C
    accumulate : whether C holds a sum to go on from
    ahead, lines : address of the first of so many cache lines, one after the other, to ask for meanwhile: one in a
        round of the loop, as far as there are rounds (`read_ahead`)
    """
    _column_tile(height, vectors, repeat, steps, a, a_width, b, c, accumulate, ahead, lines)
