"""Noise on blocks of numbers: inverted dropout, and Gaussian noise.

Every random number is a hash of a key and a position, one for each lane of a register, so that an element meets the
same number in any order, on any thread, on any processor, in float32 and float64. The hash is lowbias32 (Wellons,
Prospecting for Hash Functions, 2018), two rounds of a shift and a multiplication, without its last shift, which would
change the lower half of the bits only. Half of the key comes in before the first round and half between the two. Only
the lower 32 bits of a position count.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from .elementary import log
from .linking import DOUBLE, INT, NUMBERS, inlined, kernel
from .random import random_bits
from .simd import INT32, INT64, Lanes, Vector, fma, lanes, llvm_vector, load, splat, sqrt, store, vector_function

HASH_1, HASH_2 = 0x7FEB352D, 0x846CA68B


def _emit_bits(builder: ir.IRBuilder, key: ir.Value, position: ir.Value, count: int) -> ir.Value:
    """Emit `count` lanes of 32 random bits, for ``position``, ``position + 1`` ... of the stream `key`.

    Keys must not resemble one another: `random_bits` makes such keys.
    """
    kind = ir.VectorType(INT32, count)

    def everywhere(number: int) -> ir.Constant:
        return ir.Constant(kind, [number] * count)

    def fold(bits: ir.Value, distance: int) -> ir.Value:
        return builder.xor(bits, builder.lshr(bits, everywhere(distance)))

    lower = splat(builder, builder.trunc(key, INT32), kind)
    upper = splat(builder, builder.trunc(builder.lshr(key, INT64(32)), INT32), kind)
    first = splat(builder, builder.trunc(position, INT32), kind)
    bits = builder.xor(builder.add(first, ir.Constant(kind, list(range(count)))), lower)
    bits = builder.mul(fold(bits, 16), everywhere(HASH_1))
    bits = builder.add(fold(bits, 15), upper)
    return builder.mul(bits, everywhere(HASH_2))


@intrinsic
def random_signed(typing_context, block, key, position):
    """Vector of random whole numbers, uniform from -2**31 to 2**31 - 1; for the element type of the pointer `block`.

    In float32 they are rounded to 24 bits.
    """
    vector = Vector(block.dtype)

    def generate(context, builder, sig, values):
        bits = _emit_bits(builder, values[1], values[2], vector.lanes)
        return builder.sitofp(bits, llvm_vector(vector))

    return vector(block, key, position), generate


@intrinsic
def _random_halves(typing_context, block, key, position):
    """The same from 0 to 2**31 - 1."""
    vector = Vector(block.dtype)

    def generate(context, builder, sig, values):
        bits = _emit_bits(builder, values[1], values[2], vector.lanes)
        halves = builder.lshr(bits, ir.Constant(bits.type, [1] * vector.lanes))
        return builder.sitofp(halves, llvm_vector(vector))

    return vector(block, key, position), generate


# ---- dropout


@intrinsic
def _zero_or_scale(typing_context, block, key, position, threshold, scale):
    """Vector with 0 where the random number from -2**31 to 2**31 - 1 is below `threshold`, else `scale`."""
    vector = Vector(block.dtype)

    def generate(context, builder, sig, values):
        _, key, position, threshold, scale = values
        bits = _emit_bits(builder, key, position, vector.lanes)
        below = builder.icmp_signed("<", bits, splat(builder, builder.trunc(threshold, INT32), bits.type))
        kind = llvm_vector(vector)
        kept = splat(builder, context.cast(builder, scale, sig.args[4], vector.dtype), kind)
        return builder.select(below, ir.Constant(kind, None), kept)

    return vector(block, key, position, threshold, scale), generate


@kernel(INT, INT, INT, INT, INT, DOUBLE, INT, NUMBERS, NUMBERS, on_demand=True)
def drop(key, first, row_stride, rows, columns, rate, keeps, block, kept):
    """Inverted dropout (Srivastava et al., 2014): each element times 0 with probability `rate`, else 1 / (1 - rate).

    Element (r, c) is dropped if the random number from -2**31 to 2**31 - 1 at position ``first + r * row_stride + c``
    of the stream `key` is below ``rate * 2**32``, rounded, less 2**31. NaN and infinity become NaN where they are
    dropped: they are not hidden.

    Parameters
    ----------
    row_stride : from the position of a row's first element to that of the next row's
    rows, columns : size of the block, whose rows follow one another; whole registers of columns
    rate : at least 0 and below 1
    keeps : whether the elements of `kept` are multiplied by the same factors
    block, kept : (rows x columns) numbers; `kept` is not looked at unless `keeps`
    """
    step = lanes(block)
    threshold = min(math.floor(rate * 2.0**32 + 0.5), 2**32 - 1) - 2**31
    scale = 1.0 / (1.0 - rate)
    bits_key = random_bits(np.uint64(key), 0)
    for r in range(rows):
        position, place = first + r * row_stride, r * columns
        for c in range(0, columns, step):
            factor = _zero_or_scale(block, bits_key, position + c, threshold, scale)
            store(block, place + c, load(block, place + c) * factor)
            if keeps:
                store(kept, place + c, load(kept, place + c) * factor)


# ---- Gaussian noise


@vector_function
def _sine_of_half_turns(v: Lanes) -> Lanes:
    """sin(pi v) for v in [-1/2, 1/2], by its power series: pi v - (pi v)^3 / 3! + ..."""
    square = v * v
    last = 21 if v.is_double else 13
    series = v.constant(_sine_coefficient(last))
    for k in range(last - 2, 0, -2):
        series = series.fma(square, _sine_coefficient(k))
    return v * series


def _sine_coefficient(k: int) -> float:
    """Factor of v^k, k odd, in the power series of sin(pi v)."""
    return (-1) ** (k // 2) * math.pi**k / math.factorial(k)


@inlined
def _normal(block, radius_key, angle_key, position):
    """Vector of normal random numbers: sqrt(-2 log u) sin(pi v), u uniform in (0, 1], v in [-1/2, 1/2].

    One of the two numbers of Box and Muller (1958). With 31 bits of u the largest possible is 6.7.
    """
    u = fma(_random_halves(block, radius_key, position), 2.0**-31, 2.0**-32)
    v = random_signed(block, angle_key, position) * 2.0**-32
    return sqrt(log(u) * -2.0) * _sine_of_half_turns(v)


@kernel(INT, INT, INT, INT, INT, DOUBLE, NUMBERS, on_demand=True)
def add_noise(key, first, row_stride, rows, columns, deviation, block):
    """Add Gaussian noise with that standard deviation.

    Element (r, c) gets `deviation` times the normal random number at position ``first + r * row_stride + c`` of the
    stream `key`; the block and the positions are as in `drop`.
    """
    step = lanes(block)
    radius_key, angle_key = random_bits(np.uint64(key), 0), random_bits(np.uint64(key), 1)
    for r in range(rows):
        position, place = first + r * row_stride, r * columns
        for c in range(0, columns, step):
            normal = _normal(block, radius_key, angle_key, position + c)
            store(block, place + c, fma(normal, deviation, load(block, place + c)))
