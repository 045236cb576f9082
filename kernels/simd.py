"""Vectors: one SIMD register as a Numba type, and the table that fits it to the processor.

Everything that depends on the instruction set is in this file. The kernels are written once, on pointers and
`Vector` values; `LANES`, `TILE_ROWS` and `TILE_VECTORS` say how wide a register is and how large a tile of a
matrix product the register file holds. A new kind of processor is a new row in `INSTRUCTION_SETS`.

Two kinds of code are made here:

- functions for compiled kernels: ``load``, ``store``, ``fma``, ``pointer``, the operators of `Vector` ...;
- `vector_function`, which turns a formula written in plain Python on `Lanes` values into such a function. The
  formula runs once, while LLVM code is emitted, so that it may look at the dtype and unroll freely.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

INT32 = ir.IntType(32)
INT64 = ir.IntType(64)

CACHE_LINE = 64  # bytes


def _llvm_features() -> frozenset[str]:
    """Names of the CPU features that Numba compiles for: the host's, or those of NUMBA_CPU_FEATURES."""
    text = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return frozenset(name[1:] for name in text.split(",") if name.startswith("+"))


class InstructionSet(NamedTuple):
    """One row of the table: what a kind of processor can do and the register tile that suits it.

    A tile of ``tile_rows x tile_vectors`` accumulators, ``tile_vectors`` of the second factor and one broadcast
    must fit into the register file: 13 x 2 + 2 + 1 of 32, 6 x 2 + 2 + 1 of 16. (With 14 x 2 and several steps in a
    round, LLVM would move the accumulators from register to register.) A tile on arrays (`array_tile`) needs general
    registers as well, for the distances between its rows: on AVX-512 one of 13 x 2 would have more than there are, and
    took 50 instructions in a step for 26 multiply-adds; 9 x 3 takes 44 for 27.
    """

    name: str
    needs: frozenset[str]
    register_bytes: int
    tile_rows: int
    tile_vectors: int
    array_rows: int
    array_vectors: int
    fused: bool = False  # has fused multiply-add
    embeds_broadcasts: bool = False  # reads one number from memory for all lanes as part of a multiply-add
    has_estimates: bool = False  # of 1 / x and 1 / sqrt(x), in 14 bits


INSTRUCTION_SETS = (
    InstructionSet("AVX-512", frozenset({"avx512f", "avx512dq", "avx512vl", "fma"}), 64, 13, 2, 9, 3, fused=True,
                   embeds_broadcasts=True, has_estimates=True),
    InstructionSet("AVX2", frozenset({"avx2", "fma"}), 32, 6, 2, 6, 2, fused=True),
    InstructionSet("AVX", frozenset({"avx"}), 32, 6, 2, 6, 2),
    InstructionSet("NEON", frozenset({"neon"}), 16, 12, 2, 12, 2, fused=True),
    InstructionSet("128-bit vectors", frozenset(), 16, 6, 2, 6, 2),
)

CPU_FEATURES = _llvm_features()
INSTRUCTION_SET = next(row for row in INSTRUCTION_SETS if row.needs <= CPU_FEATURES)
TILE_ROWS = INSTRUCTION_SET.tile_rows
TILE_VECTORS = INSTRUCTION_SET.tile_vectors
FUSED = INSTRUCTION_SET.fused
EMBEDS_BROADCASTS = INSTRUCTION_SET.embeds_broadcasts
IS_X86 = "sse2" in CPU_FEATURES or llvmlite.binding.get_process_triple().startswith(("x86_64", "i686"))
IS_ARM64 = llvmlite.binding.get_process_triple().startswith(("aarch64", "arm64"))


def lanes_of(itemsize: int) -> int:
    """Number of elements of `itemsize` bytes in one register."""
    return INSTRUCTION_SET.register_bytes // itemsize


class Vector(types.Type):
    """Numba type of one register full of float32 or float64, or of several registers (`lockstep`)."""

    def __init__(self, dtype: types.Float, registers: int = 1) -> None:
        self.dtype = dtype
        self.lanes = registers * lanes_of(dtype.bitwidth // 8)
        super().__init__(name=f"Vector({dtype}x{self.lanes})")


def llvm_vector(vector: Vector) -> ir.VectorType:
    return ir.VectorType(ir.FloatType() if vector.dtype == types.float32 else ir.DoubleType(), vector.lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        super().__init__(dmm, fe_type, llvm_vector(fe_type))


# ---- formulas on Lanes: plain Python that emits LLVM instructions


class Lanes:
    """A vector while code is emitted: arithmetic on it appends LLVM instructions to the function."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value, vector: Vector) -> None:
        self.builder = builder
        self.value = value
        self.vector = vector

    @property
    def is_double(self) -> bool:
        return bool(self.vector.dtype == types.float64)

    def constant(self, number: float) -> Lanes:
        kind = llvm_vector(self.vector)
        return self.like(ir.Constant(kind, [ir.Constant(kind.element, float(number))] * self.vector.lanes))

    def like(self, value: ir.Value) -> Lanes:
        return Lanes(self.builder, value, self.vector)

    def lift(self, other: Lanes | float) -> Lanes:
        return other if isinstance(other, Lanes) else self.constant(other)

    def call(self, name: str, *arguments: Lanes) -> Lanes:
        """Call the LLVM intrinsic `name` of this vector type, for example ``llvm.sqrt``."""
        suffix = f".v{self.vector.lanes}f{self.vector.dtype.bitwidth}"
        return self.like(emit_call(self.builder, name + suffix, [self, *arguments]))

    def __add__(self, other: Lanes | float) -> Lanes:
        return self.like(self.builder.fadd(self.value, self.lift(other).value))

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self.like(self.builder.fsub(self.value, self.lift(other).value))

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self.like(self.builder.fmul(self.value, self.lift(other).value))

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return self.like(self.builder.fdiv(self.value, self.lift(other).value))

    def __radd__(self, other: float) -> Lanes:
        return self.lift(other) + self

    def __rsub__(self, other: float) -> Lanes:
        return self.lift(other) - self

    def __rmul__(self, other: float) -> Lanes:
        return self.lift(other) * self

    def __rtruediv__(self, other: float) -> Lanes:
        return self.lift(other) / self

    def __neg__(self) -> Lanes:
        return self.like(self.builder.fneg(self.value))

    def fma(self, factor: Lanes | float, addend: Lanes | float) -> Lanes:
        """Return self * factor + addend, rounded once where the processor has the instruction."""
        factor, addend = self.lift(factor), self.lift(addend)
        return self.call("llvm.fma", factor, addend) if FUSED else self * factor + addend

    def sqrt(self) -> Lanes:
        return self.call("llvm.sqrt")

    def abs(self) -> Lanes:
        return self.call("llvm.fabs")

    def copysign(self, sign: Lanes) -> Lanes:
        return self.call("llvm.copysign", sign)

    def where(self, comparison: str, other: Lanes | float, yes: Lanes | float, no: Lanes | float) -> Lanes:
        """Return `yes` in the lanes where ``self <comparison> other`` holds, else `no`; NaN compares false."""
        mask = self.builder.fcmp_ordered(comparison, self.value, self.lift(other).value)
        return self.like(self.builder.select(mask, self.lift(yes).value, self.lift(no).value))

    def settled(self) -> Lanes:
        """Return the same value, of which LLVM no longer knows how it came about.

        It would turn the store of a selection between what is there and something else into a masked store, which
        takes AMD's processors without AVX-512 24 cycles: relu took ten times as long as the derivative of tanh.
        """
        if not IS_X86:
            return self
        kind = llvm_vector(Vector(self.vector.dtype))
        same = ir.FunctionType(kind, [kind])
        registers = [self.builder.asm(same, "", "=x,0", [register], False)
                     for register in split(self.builder, self.value, kind.count)]
        return self.like(join(self.builder, registers))

    def bits(self) -> ir.Value:
        """Return the bit patterns as a vector of integers."""
        width = self.vector.dtype.bitwidth
        return self.builder.bitcast(self.value, ir.VectorType(ir.IntType(width), self.vector.lanes))

    def from_bits(self, bits: ir.Value) -> Lanes:
        return self.like(self.builder.bitcast(bits, llvm_vector(self.vector)))

    def integers(self, number: int) -> ir.Constant:
        """Return an integer constant as wide as the lanes."""
        return ir.Constant(ir.VectorType(ir.IntType(self.vector.dtype.bitwidth), self.vector.lanes),
                           [number] * self.vector.lanes)


def emit_call(builder: ir.IRBuilder, name: str, arguments: list[Lanes]) -> ir.Value:
    """Emit a call of an LLVM intrinsic that maps vectors to a vector of the same type."""
    kind = arguments[0].value.type
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [kind] * len(arguments)), name)
    return builder.call(function, [argument.value for argument in arguments])


def splat(builder: ir.IRBuilder, scalar: ir.Value, kind: ir.VectorType) -> ir.Value:
    """Emit a vector whose lanes all hold `scalar`."""
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, scalar, INT32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, kind.count), [0] * kind.count))


def split(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> list[ir.Value]:
    """Emit the parts of a vector that have so many lanes each."""
    if value.type.count == lanes:
        return [value]
    nothing = ir.Constant(value.type, ir.Undefined)
    return [builder.shuffle_vector(value, nothing, ir.Constant(ir.VectorType(INT32, lanes),
                                                               list(range(first, first + lanes))))
            for first in range(0, value.type.count, lanes)]


def join(builder: ir.IRBuilder, parts: list[ir.Value]) -> ir.Value:
    """Emit the vector of the lanes of several, whose number is a power of two, one after the other."""
    while len(parts) > 1:
        both = ir.VectorType(INT32, 2 * parts[0].type.count)
        order = ir.Constant(both, list(range(both.count)))
        parts = [builder.shuffle_vector(first, second, order)
                 for first, second in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def _vector_among(arguments: tuple[types.Type, ...]) -> Vector | None:
    return next((argument for argument in arguments if isinstance(argument, Vector)), None)


def _as_lanes(context: Any, builder: ir.IRBuilder, kind: types.Type, value: ir.Value, vector: Vector) -> Lanes:
    """Take a vector as it is; convert a number to the vector's dtype and repeat it in every lane."""
    if isinstance(kind, Vector):
        return Lanes(builder, value, vector)
    number = context.cast(builder, value, kind, vector.dtype)
    return Lanes(builder, splat(builder, number, llvm_vector(vector)), vector)


def vector_function(formula: Callable[..., Lanes]) -> Callable[..., Any]:
    """Make a function for compiled kernels from a formula on `Lanes`; numbers among its arguments are repeated."""

    def typed(*arguments: types.Type) -> Any:
        vector = _vector_among(arguments)
        if vector is None:
            return None

        def generate(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> ir.Value:
            lanes = [_as_lanes(context, builder, kind, value, vector)
                     for kind, value in zip(sig.args, values, strict=True)]
            return formula(*lanes).value

        return vector(*arguments), generate

    # Numba reads the number of arguments off the function's signature.
    typers: dict[int, Callable[..., Any]] = {
        1: lambda typing_context, a: typed(a),
        2: lambda typing_context, a, b: typed(a, b),
        3: lambda typing_context, a, b, c: typed(a, b, c),
    }
    typer = typers[len(inspect.signature(formula).parameters)]
    typer.__name__ = typer.__qualname__ = formula.__name__
    typer.__doc__ = formula.__doc__
    return intrinsic(typer)


def _register_operator(symbol: Callable[..., Any], arity: int) -> None:
    """Give compiled kernels an arithmetic operator between vectors, or a vector and a number."""

    @infer_global(symbol)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            vector = _vector_among(args)
            if vector is None or len(args) != arity:
                return None
            if not all(isinstance(kind, (Vector, types.Number)) for kind in args):
                return None
            return signature(vector, *args)

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> ir.Value:
        lanes = [_as_lanes(context, builder, kind, value, sig.return_type)
                 for kind, value in zip(sig.args, values, strict=True)]
        return symbol(*lanes).value

    if arity == 1:
        lower_builtin(symbol, Vector)(lower)
    else:
        for kinds in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
            lower_builtin(symbol, *kinds)(lower)


for _symbol in (operator.add, operator.sub, operator.mul, operator.truediv):
    _register_operator(_symbol, 2)
_register_operator(operator.neg, 1)


@vector_function
def fma(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    """a * b + c."""
    return a.fma(b, c)


@vector_function
def sqrt(x: Lanes) -> Lanes:
    """Square root."""
    return x.sqrt()


@vector_function
def maximum(a: Lanes, b: Lanes) -> Lanes:
    """The larger of two vectors, lane by lane; b where either is NaN."""
    return a.where(">", b, a, b)


# ---- pointers


@intrinsic
def pointer(typing_context, array):
    """Pointer to the first element of an array."""

    def generate(context, builder, sig, values):
        return context.make_array(sig.args[0])(context, builder, values[0]).data

    return types.CPointer(array.dtype)(array), generate


@intrinsic
def address(typing_context, array):
    """Address of the first element of an array, as an integer."""

    def generate(context, builder, sig, values):
        return builder.ptrtoint(context.make_array(sig.args[0])(context, builder, values[0]).data, INT64)

    return types.int64(array), generate


@intrinsic
def address_at(typing_context, pointer):
    """Address that a pointer holds, as an integer."""

    def generate(context, builder, sig, values):
        return builder.ptrtoint(values[0], INT64)

    return types.int64(pointer), generate


@intrinsic
def pointer_at(typing_context, address, like):
    """Pointer to memory at an integer address, of the type of the pointer `like`."""

    def generate(context, builder, sig, values):
        return builder.inttoptr(values[0], context.get_value_type(sig.return_type))

    return like(types.int64, like), generate


def _typed_pointer(dtype: types.Type) -> Any:
    @intrinsic
    def pointer_to(typing_context, address):
        def generate(context, builder, sig, values):
            return builder.inttoptr(values[0], context.get_value_type(sig.return_type))

        return types.CPointer(dtype)(types.int64), generate

    return pointer_to


int64_pointer = _typed_pointer(types.int64)
uint8_pointer = _typed_pointer(types.uint8)
float32_pointer = _typed_pointer(types.float32)
float64_pointer = _typed_pointer(types.float64)


@intrinsic
def shift(typing_context, base, elements):
    """Pointer `elements` elements after `base`."""

    def generate(context, builder, sig, values):
        return builder.gep(values[0], [values[1]])

    return base(base, types.int64), generate


# ---- vectors in memory


@intrinsic
def lanes(typing_context, base):
    """Number of elements in a register, for the element type of a pointer: a constant when compiled."""
    count = lanes_of(base.dtype.bitwidth // 8)

    def generate(context, builder, sig, values):
        return INT64(count)

    return types.int64(base), generate


@intrinsic
def elements_of_line(typing_context, base):
    """Number of elements in a cache line, for the element type of a pointer: a constant when compiled."""
    count = CACHE_LINE * 8 // base.dtype.bitwidth

    def generate(context, builder, sig, values):
        return INT64(count)

    return types.int64(base), generate


def vector_pointer(builder: ir.IRBuilder, base: ir.Value, kind: ir.VectorType, index: ir.Value) -> ir.Value:
    """Emit the address of the vector that begins at element `index`."""
    return builder.bitcast(builder.gep(base, [index]), kind.as_pointer())


@intrinsic
def load(typing_context, base, index):
    """Vector of the elements ``base[index : index + lanes]``; any alignment."""
    vector = Vector(base.dtype)

    def generate(context, builder, sig, values):
        kind = llvm_vector(vector)
        loaded = builder.load(vector_pointer(builder, values[0], kind, values[1]))
        loaded.align = kind.element.get_abi_size(context.target_data)
        return loaded

    return vector(base, types.int64), generate


def emit_mask(builder: ir.IRBuilder, count: ir.Value, lanes: int) -> ir.Value:
    """Emit the mask of the first `count` lanes."""
    positions = ir.VectorType(INT32, lanes)
    return builder.icmp_signed("<", ir.Constant(positions, list(range(lanes))),
                               splat(builder, builder.trunc(count, INT32), positions))


def emit_masked_load(builder: ir.IRBuilder, kind: ir.VectorType, place: ir.Value, mask: ir.Value) -> ir.Value:
    """Emit the reading of the lanes in the mask, zero in the others, from any alignment."""
    bits = 32 if isinstance(kind.element, ir.FloatType) else 64
    arguments = [place, INT32(bits // 8), mask, ir.Constant(kind, None)]
    name = f"v{kind.count}f{bits}"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(kind, [value.type for value in arguments]), f"llvm.masked.load.{name}.p0{name}")
    return builder.call(function, arguments)


def emit_store_first(builder: ir.IRBuilder, value: ir.Value, base: ir.Value, count: ir.Value) -> None:
    """Emit the writing of the first `count` lanes, less than all, to `base`, a pointer to an element.

    In pieces of half the lanes, a quarter ... as the bits of `count` say: AVX2's masked store takes 24 cycles on Zen 3.
    """
    element = value.type.element
    piece = value.type.count // 2
    while piece:
        lower, upper = (ir.Constant(ir.VectorType(INT32, piece), list(range(first, first + piece)))
                        for first in (0, piece))
        nothing = ir.Constant(value.type, ir.Undefined)
        written = builder.icmp_signed("!=", builder.and_(count, INT64(piece)), INT64(0))
        first_piece = builder.shuffle_vector(value, nothing, lower)
        with builder.if_then(written):
            stored = builder.store(first_piece, builder.bitcast(base, first_piece.type.as_pointer()))
            stored.align = 4 if isinstance(element, ir.FloatType) else 8
        value = builder.select(written, builder.shuffle_vector(value, nothing, upper), first_piece)
        base = builder.gep(base, [builder.select(written, INT64(piece), INT64(0))])
        piece //= 2


@intrinsic
def load_first(typing_context, base, index, count):
    """Vector of the first `count` of the elements ``base[index : index + lanes]``, zeros behind; reads no others."""
    vector = Vector(base.dtype)

    def generate(context, builder, sig, values):
        kind = llvm_vector(vector)
        return emit_masked_load(builder, kind, vector_pointer(builder, values[0], kind, values[1]),
                                emit_mask(builder, values[2], vector.lanes))

    return vector(base, types.int64, types.int64), generate


@intrinsic
def store(typing_context, base, index, value):
    """Write a vector to ``base[index : index + lanes]``; any alignment."""

    def generate(context, builder, sig, values):
        kind = llvm_vector(value)
        stored = builder.store(values[2], vector_pointer(builder, values[0], kind, values[1]))
        stored.align = kind.element.get_abi_size(context.target_data)
        return context.get_dummy_value()

    return types.void(base, types.int64, value), generate


def emit_opaque(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Emit `value` in such a way that the compiler knows nothing about it.

    From distances that are multiples of one another LLVM makes chains of additions, one for every load, to save
    registers; from these it takes each as it is.
    """
    return builder.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], side_effect=False)


def emit_prefetch(builder: ir.IRBuilder, address: ir.Value) -> None:
    """Emit a request for a cache line that will be read; the address need not be readable."""
    line = builder.bitcast(address, ir.IntType(8).as_pointer())
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [line.type, INT32, INT32, INT32]), "llvm.prefetch.p0i8")
    builder.call(function, [line, INT32(0), INT32(3), INT32(1)])  # to read, into all levels, data


@intrinsic
def prefetch(typing_context, base, index):
    """Ask for the cache line of ``base[index]``, which will be read; it need not be readable."""

    def generate(context, builder, sig, values):
        emit_prefetch(builder, builder.gep(values[0], [values[1]]))
        return context.get_dummy_value()

    return types.void(base, types.int64), generate


@intrinsic
def full(typing_context, base, number):
    """Vector with `number` in every lane, for the element type of the pointer `base`."""
    vector = Vector(base.dtype)

    def generate(context, builder, sig, values):
        return _as_lanes(context, builder, sig.args[1], values[1], vector).value

    return vector(base, number), generate


@intrinsic
def sum_lanes(typing_context, value):
    """Sum of the lanes, by halving, in an order fixed by the vector's width."""

    def generate(context, builder, sig, values):
        current, width = values[0], value.lanes
        while width > 1:
            half = width // 2
            positions = list(range(half, width)) + list(range(half)) + list(range(width, value.lanes))
            indices = ir.Constant(ir.VectorType(INT32, value.lanes), positions)
            swapped = builder.shuffle_vector(current, ir.Constant(current.type, ir.Undefined), indices)
            current = builder.fadd(current, swapped)
            width = half
        return builder.extract_element(current, INT32(0))

    return value.dtype(value), generate
