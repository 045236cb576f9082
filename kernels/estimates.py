"""Division and square root by estimates: the processor's, of 14 bits, improved by a Newton step.

Written plainly, the division and the square root of Adam cost as much as the product that made the gradient, and their
division is a fifth of tanh and of the sigmoid.
"""

from __future__ import annotations

import math

from llvmlite import ir
from numba.core import cgutils

from .simd import INSTRUCTION_SET, Lanes, Vector, join, llvm_vector, split, vector_function

# On AVX-512. With the 12-bit estimates of AVX2 the update was slower than with plain division and square root (0.49 and
# 0.43 ns a parameter on Zen 3, whose divider is fast), so they are not used.
HAS_ESTIMATES = INSTRUCTION_SET.name == "AVX-512"
LARGEST = 3.4028234663852886e38  # of float32


def _estimate(x: Lanes, name: str) -> Lanes:
    """An estimate with a relative error under 2**-14."""
    kind, mask = llvm_vector(Vector(x.vector.dtype)), ir.IntType(16)
    function = cgutils.get_or_insert_function(x.builder.module, ir.FunctionType(kind, [kind, kind, mask]), name)
    estimates = [x.builder.call(function, [register, ir.Constant(kind, None), mask(-1)])
                 for register in split(x.builder, x.value, kind.count)]
    return x.like(join(x.builder, estimates))


def quotient(dividend: Lanes, divisor: Lanes) -> Lanes:
    """Emit dividend / divisor, within an ulp, for a divisor that is normal, finite or NaN.

    In float32 by an estimate c of 1 / d and one Newton step: q = m c, q <- q + (m - q d) c.
    """
    if dividend.is_double or not HAS_ESTIMATES:
        return dividend / divisor
    estimate = _estimate(divisor, "llvm.x86.avx512.rcp14.ps.512")
    product = dividend * estimate
    return (-product).fma(divisor, dividend).fma(estimate, product)


def inverse(x: Lanes) -> Lanes:
    """Emit 1 / x, within an ulp, for an x that is normal, infinite or NaN."""
    result = quotient(x.constant(1.0), x)
    if x.is_double or not HAS_ESTIMATES:
        return result
    return x.where("==", math.inf, 0.0, result)  # where the Newton step has made NaN of 0 times infinity


@vector_function
def adam_direction(moment: Lanes, square: Lanes, epsilon: Lanes) -> Lanes:
    """moment / (sqrt(square) + epsilon), within a few ulp.

    In float32 by estimates with one Newton step each: from y = rsqrt(s), the root r = s y, r <- r + (s - r^2) y / 2.
    """
    if moment.is_double or not HAS_ESTIMATES:
        return moment / (square.sqrt() + epsilon)
    # Zero and infinity have no finite estimate. What is below the lower bound gets a root of 1e-18, far below an
    # epsilon; the quotient by an infinite root is next to nothing; NaN passes.
    square = square.where("<", 1e-36, 1e-36, square)
    square = square.where(">", LARGEST, LARGEST, square)
    estimate = _estimate(square, "llvm.x86.avx512.rsqrt14.ps.512")
    root = square * estimate
    root = (-root).fma(root, square).fma(estimate * 0.5, root)
    return quotient(moment, root + epsilon)
