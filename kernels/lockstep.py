"""Several registers in lockstep: each operation of a long formula on all of them, before the next operation.

A processor looks some hundred operations ahead: in a loop over single registers, where each operation waits for the one
before it, too few of them can begin. The same operation on four registers in a row keeps it busy: on Zen 3 a tanh of 29
operations took 5.0 ns a register instead of 7.0, a sigmoid of 24 took 4.3, not 6.9; on Cascade Lake Adam's update took
7.5 instead of 9.3.

    last = count - lanes(block)
    for i in range(0, count, at_once(block)):
        store_several(block, i, last, tanh(load_several(block, i, last)))
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .simd import INT64, Vector, join, lanes_of, llvm_vector, split, vector_pointer

REGISTERS_AT_ONCE = 4


def _emit_places(builder: ir.IRBuilder, index: ir.Value, last: ir.Value, lanes: int) -> list[ir.Value]:
    """Emit the places of the registers from `index` on, `last` in the place of those beyond it."""
    places = [builder.add(index, INT64(i * lanes)) for i in range(REGISTERS_AT_ONCE)]
    return [builder.select(builder.icmp_signed("<", place, last), place, last) for place in places]


@intrinsic
def at_once(typing_context, base):
    """Number of elements in REGISTERS_AT_ONCE registers: a constant when compiled."""
    count = REGISTERS_AT_ONCE * lanes_of(base.dtype.bitwidth // 8)

    def generate(context, builder, sig, values):
        return INT64(count)

    return types.int64(base), generate


@intrinsic
def load_several(typing_context, base, index, last):
    """Vector of the REGISTERS_AT_ONCE registers from element `index` on; any alignment.

    The last register begins at element `last`; it is there again in the place of those beyond it.
    """
    vector = Vector(base.dtype, REGISTERS_AT_ONCE)

    def generate(context, builder, sig, values):
        base, index, last = values
        kind = llvm_vector(Vector(vector.dtype))
        registers = []
        for place in _emit_places(builder, index, last, kind.count):
            loaded = builder.load(vector_pointer(builder, base, kind, place))
            loaded.align = kind.element.get_abi_size(context.target_data)
            registers.append(loaded)
        return join(builder, registers)

    return vector(base, types.int64, types.int64), generate


@intrinsic
def store_several(typing_context, base, index, last, value):
    """Write what was computed, register by register, from a vector that `load_several` read at the same place."""

    def generate(context, builder, sig, values):
        base, index, last, value = values
        kind = llvm_vector(Vector(sig.args[3].dtype))
        places = _emit_places(builder, index, last, kind.count)
        for place, register in zip(places, split(builder, value, kind.count), strict=True):
            stored = builder.store(register, vector_pointer(builder, base, kind, place))
            stored.align = kind.element.get_abi_size(context.target_data)
        return context.get_dummy_value()

    return types.void(base, types.int64, types.int64, value), generate
