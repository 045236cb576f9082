"""Division and square root by estimates: the processor's, of 14 bits, improved by a Newton step.

Written plainly, the division and the square root of Adam cost as much as the product that made the gradient, and their
division is a fifth of tanh and of the sigmoid.
"""

from __future__ import annotations

import math

from llvmlite import ir
from numba.core import cgutils

from .simd import INSTRUCTION_SET, Lanes, Vector, join, llvm_vector, split, vector_function

# With the 12-bit estimates of AVX2 the update was slower than with plain division and square root (0.49 and
# 0.43 ns a parameter on Zen 3, whose divider is fast), so they are not used.
HAS_ESTIMATES = INSTRUCTION_SET.has_estimates
LARGEST = {False: 3.4028234663852886e38, True: 1.7976931348623157e308}  # of float32 and of float64
NEGLIGIBLE = {False: 1e-36, True: 1e-292}  # squares whose roots are next to nothing, but still normal


def _estimate(x: Lanes, name: str) -> Lanes:
    """An estimate with a relative error under 2**-14: ``rcp14``, 1 / x, or ``rsqrt14``, 1 / sqrt(x)."""
    bits, kind = (8, "pd") if x.is_double else (16, "ps")
    register, mask = llvm_vector(Vector(x.vector.dtype)), ir.IntType(bits)
    function = cgutils.get_or_insert_function(
        x.builder.module, ir.FunctionType(register, [register, register, mask]), f"llvm.x86.avx512.{name}.{kind}.512")
    estimates = [x.builder.call(function, [part, ir.Constant(register, None), mask(-1)])
                 for part in split(x.builder, x.value, register.count)]
    return x.like(join(x.builder, estimates))


def quotient(dividend: Lanes, divisor: Lanes) -> Lanes:
    """Emit dividend / divisor, within an ulp, for a divisor that is normal, finite or NaN.

    By an estimate c of 1 / d and a Newton step: q = m c, q <- q + (m - q d) c. In float64 c is improved before it:
    c <- c + (1 - c d) c.
    """
    if not HAS_ESTIMATES:
        return dividend / divisor
    estimate = _estimate(divisor, "rcp14")
    if dividend.is_double:
        estimate = (-estimate).fma(divisor, 1.0).fma(estimate, estimate)
    product = dividend * estimate
    return (-product).fma(divisor, dividend).fma(estimate, product)


def inverse(x: Lanes) -> Lanes:
    """Emit 1 / x, within an ulp, for an x that is normal, infinite or NaN."""
    result = quotient(x.constant(1.0), x)
    if not HAS_ESTIMATES:
        return result
    return x.where("==", math.inf, 0.0, result)  # where the Newton step has made NaN of 0 times infinity


@vector_function
def adam_direction(moment: Lanes, square: Lanes, epsilon: Lanes) -> Lanes:
    """moment / (sqrt(square) + epsilon), within a few ulp.

    By estimates and Newton steps: from y = rsqrt(s), the root r = s y, r <- r + (s - r^2) y / 2; in float64 after
    y <- y + (1 - s y^2) y / 2.
    """
    if not HAS_ESTIMATES:
        return moment / (square.sqrt() + epsilon)
    # Zero and infinity have no finite estimate. What is below the lower bound gets a root of 1e-18 (1e-146), far below
    # an epsilon; the quotient by an infinite root is next to nothing; NaN passes.
    least, most = NEGLIGIBLE[square.is_double], LARGEST[square.is_double]
    square = square.where("<", least, least, square)
    square = square.where(">", most, most, square)
    estimate = _estimate(square, "rsqrt14")
    if square.is_double:
        estimate = (-(square * estimate)).fma(estimate, 1.0).fma(estimate * 0.5, estimate)
    root = square * estimate
    root = (-root).fma(root, square).fma(estimate * 0.5, root)
    return quotient(moment, root + epsilon)
