"""Denormal numbers: flushed to zero while a program of kernels runs, and the caller's mode restored after it."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .simd import INT32, INT64, IS_ARM64, IS_X86


@intrinsic
def flush_denormals(typing_context):
    """Treat denormal numbers as zero on this thread from now on; return the mode to `restore_mode`.

    Moments of idle weights decay into denormals, which the processor handles in microcode: a step of training
    took more than twice as long without this.
    """

    def generate(context, builder, sig, values):
        if IS_X86:
            slot = cgutils.alloca_once(builder, INT32)
            _mxcsr(builder, "llvm.x86.sse.stmxcsr", slot)
            before = builder.load(slot)
            builder.store(builder.or_(before, INT32(0x8040)), slot)  # FTZ, bit 15, and DAZ, bit 6
            _mxcsr(builder, "llvm.x86.sse.ldmxcsr", slot)
            return builder.zext(before, INT64)
        if IS_ARM64:
            read = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(INT64, []), "llvm.aarch64.get.fpcr")
            before = builder.call(read, [])
            _set_fpcr(builder, builder.or_(before, INT64(1 << 24)))  # FZ
            return before
        return INT64(0)

    return types.int64(), generate


@intrinsic
def restore_mode(typing_context, mode):
    """Set the mode of denormal numbers to what `flush_denormals` found."""

    def generate(context, builder, sig, values):
        if IS_X86:
            slot = cgutils.alloca_once(builder, INT32)
            builder.store(builder.trunc(values[0], INT32), slot)
            _mxcsr(builder, "llvm.x86.sse.ldmxcsr", slot)
        elif IS_ARM64:
            _set_fpcr(builder, values[0])
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _mxcsr(builder: ir.IRBuilder, name: str, slot: ir.Value) -> None:
    byte_pointer = ir.IntType(8).as_pointer()
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [byte_pointer]), name)
    builder.call(function, [builder.bitcast(slot, byte_pointer)])


def _set_fpcr(builder: ir.IRBuilder, value: ir.Value) -> None:
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [INT64]), "llvm.aarch64.set.fpcr")
    builder.call(function, [value])
