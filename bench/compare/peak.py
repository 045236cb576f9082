"""The speed limit of the machine: fused multiply-adds on registers, with nothing to load or store."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from fastmlp.kernels.simd import INT32, INT64, TILE_ROWS, TILE_VECTORS, Lanes, Vector, llvm_vector

from .results import Peak

VECTOR = Vector(types.float32)
# Independent sums, one register each: as many as a register tile has, which fills the pipelines without spilling.
ACCUMULATORS = TILE_ROWS * TILE_VECTORS
STEPS = 5_000_000
FACTOR = 0.999


def _emit_loop(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> ir.Value:
    """Emit a loop of `values[0]` steps, each with one multiply-add to every accumulator; return a sum of them all."""
    kind = llvm_vector(VECTOR)

    def constant(number: float) -> ir.Constant:
        return ir.Constant(kind, [number] * VECTOR.lanes)

    entry, loop, end = builder.block, builder.append_basic_block(), builder.append_basic_block()
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(INT64)
    before = [builder.phi(kind) for _ in range(ACCUMULATORS)]
    next_step = builder.add(step, INT64(1))
    step.add_incoming(INT64(0), entry)
    step.add_incoming(next_step, loop)
    factor = Lanes(builder, constant(FACTOR), VECTOR)
    sums = [Lanes(builder, accumulator, VECTOR).fma(factor, factor) for accumulator in before]
    for number, (accumulator, following) in enumerate(zip(before, sums, strict=True)):
        accumulator.add_incoming(constant(number), entry)  # all different, or they might become one
        accumulator.add_incoming(following.value, loop)
    builder.cbranch(builder.icmp_signed("<", next_step, values[0]), loop, end)
    builder.position_at_end(end)
    total = sums[0]
    for one in sums[1:]:
        total = total + one
    return builder.extract_element(total.value, INT32(0))


def _typed_loop(typing_context: Any, steps: types.Type) -> Any:
    return types.float32(types.int64), _emit_loop


_loop = intrinsic(_typed_loop)


def _multiply_add(steps: int) -> float:
    result: float = _loop(steps)
    return result


multiply_add = njit(nogil=True)(_multiply_add)


def flops_per_second(threads: int, repeats: int) -> float:
    """Return the floating-point operations a second of so many threads, in the best of several runs."""
    flops = 2 * VECTOR.lanes * ACCUMULATORS * STEPS * threads
    multiply_add(1)  # compiles
    seconds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repeats):
            began = time.perf_counter()
            list(pool.map(multiply_add, [STEPS] * threads))
            seconds.append(time.perf_counter() - began)
    return flops / min(seconds)


def measure_peak(threads: int, repeats: int) -> Peak:
    """Measure the limit of one core and of `threads` of them."""
    return Peak(flops_per_second(1, repeats), flops_per_second(threads, repeats))
