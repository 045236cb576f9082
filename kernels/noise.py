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
from numba import types
from numba.extending import intrinsic

from .elementary import emit_log
from .linking import DOUBLE, INT, NUMBERS, inlined, kernel
from .random import random_bits
from .simd import INT32, INT64, Lanes, Vector, fma, lanes, llvm_vector, load, splat, store, vector_function

HASH_1, HASH_2 = 0x7FEB352D, 0x846CA68B


def _emit_bits(builder: ir.IRBuilder, key: ir.Value, position: ir.Value, count: int, stride: int = 1) -> ir.Value:
    """Emit `count` lanes of 32 random bits, for ``position``, ``position + stride`` ... of the stream `key`.

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
    bits = builder.xor(builder.add(first, ir.Constant(kind, [stride * lane for lane in range(count)])), lower)
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


@intrinsic
def _random_of_pairs(typing_context, block, key, position):
    """Vector as `random_signed`, for `position` and every second one after it."""
    vector = Vector(block.dtype)

    def generate(context, builder, sig, values):
        return builder.sitofp(_emit_bits(builder, values[1], values[2], vector.lanes, stride=2), llvm_vector(vector))

    return vector(block, key, position), generate


@vector_function
def _sine_of_half_turns(v: Lanes) -> Lanes:
    """sin(pi v) for v in [-1/2, 1/2], by its power series: pi v - (pi v)^3 / 3! + ..."""
    return v * _power_series(v, 21 if v.is_double else 13)


@vector_function
def _cosine_of_half_turns(v: Lanes) -> Lanes:
    """cos(pi v) for v in [-1/2, 1/2], by its power series: 1 - (pi v)^2 / 2! + ..."""
    return _power_series(v, 22 if v.is_double else 12)


def _power_series(v: Lanes, last: int) -> Lanes:
    """Sum of (-1)^(k // 2) pi^k v^k / k! for k to `last` that are even, or for those that are odd, by v."""
    square = v * v
    series = v.constant(_coefficient(last))
    for k in range(last - 2, -1, -2):
        series = series.fma(square, _coefficient(k))
    return series


def _coefficient(k: int) -> float:
    return (-1) ** (k // 2) * math.pi**k / math.factorial(k)


@vector_function
def _radius(b: Lanes) -> Lanes:
    """sqrt(-2 log u) with u in (0, 1] from the 31 bits of a random number beside its sign; the largest is 6.7."""
    u = b.abs().fma((1.0 - 2.0**-32) * 2.0**-31, 2.0**-32)
    return (emit_log(u) * -2.0).sqrt()


@vector_function
def _with_sign(x: Lanes, sign: Lanes) -> Lanes:
    return x.copysign(sign)


@intrinsic
def _interleaved(typing_context, a, b):
    """The vectors a0 b0 a1 b1 ... and what follows."""

    def generate(context, builder, sig, values):
        count = a.lanes
        order = [lane + count * side for lane in range(count) for side in (0, 1)]
        halves = [builder.shuffle_vector(*values, ir.Constant(ir.VectorType(INT32, count), part))
                  for part in (order[:count], order[count:])]
        return context.make_tuple(builder, sig.return_type, halves)

    return types.UniTuple(a, 2)(a, b), generate


@inlined
def _normal(block, radius_key, angle_key, position):
    """Two vectors of normal random numbers, for `position` and those that follow it, by Box and Muller (1958).

    They come in pairs, sqrt(-2 log u) times sin(pi v) and times plus or minus cos(pi v), with u uniform in (0, 1], v in
    [-1/2, 1/2]. The random numbers of a pair are those of the first one's position.
    """
    b = _random_of_pairs(block, radius_key, position)
    v = _random_of_pairs(block, angle_key, position) * 2.0**-32
    radius = _radius(b)
    return _interleaved(radius * _sine_of_half_turns(v), radius * _with_sign(_cosine_of_half_turns(v), b))


@kernel(INT, INT, INT, INT, INT, DOUBLE, NUMBERS, on_demand=True)
def add_noise(key, first, row_stride, rows, columns, deviation, block):
    """Add Gaussian noise with that standard deviation.

    Element (r, c) gets `deviation` times one of two normal random numbers (`_normal`) that the stream `key` has at
    position ``first + r * row_stride + c``, or for odd c at the one before it; the block and the positions are as in
    `drop`.
    """
    step = lanes(block)
    radius_key, angle_key = random_bits(np.uint64(key), 0), random_bits(np.uint64(key), 1)
    for r in range(rows):
        position, place = first + r * row_stride, r * columns
        for c in range(0, columns, 2 * step):
            normal, following = _normal(block, radius_key, angle_key, position + c)
            store(block, place + c, fma(normal, deviation, load(block, place + c)))
            if c + step < columns:
                store(block, place + c + step, fma(following, deviation, load(block, place + c + step)))
