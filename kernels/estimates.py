"""Division and square root by estimates: the processor's, of 14 bits, improved by a Newton step.

Written plainly, the division and the square root of Adam cost as much as the product that made the gradient.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from .simd import INSTRUCTION_SET, Lanes, vector_function

# On AVX-512. With the 12-bit estimates of AVX2 the update was slower than with plain division and square root (0.49 and
# 0.43 ns a parameter on Zen 3, whose divider is fast), so they are not used.
HAS_ESTIMATES = INSTRUCTION_SET.name == "AVX-512"
LARGEST = 3.4028234663852886e38  # of float32


def _estimate(x: Lanes, name: str) -> Lanes:
    """An estimate with a relative error under 2**-14."""
    kind, mask = x.value.type, ir.IntType(16)
    function = cgutils.get_or_insert_function(x.builder.module, ir.FunctionType(kind, [kind, kind, mask]), name)
    return x.like(x.builder.call(function, [x.value, x.constant(0).value, mask(-1)]))


@vector_function
def adam_direction(moment: Lanes, square: Lanes, epsilon: Lanes) -> Lanes:
    """moment / (sqrt(square) + epsilon), within a few ulp.

    In float32 by estimates with one Newton step each: from y = rsqrt(s), the root r = s y, r <- r + (s - r^2) y / 2;
    from c = rcp(d), the quotient q = m c, q <- q + (m - q d) c.
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
    divisor = root + epsilon
    inverse = _estimate(divisor, "llvm.x86.avx512.rcp14.ps.512")
    quotient = moment * inverse
    return (-quotient).fma(divisor, moment).fma(inverse, quotient)
