"""Elementary functions on whole registers: exp, expm1, log, log1p, softplus, tanh, sigmoid, the normal distribution.

No branches, no tables. The argument is reduced to a small interval, where a few terms of the function's own
power series reach the precision of the dtype; those coefficients are computed here. (Tanh and the normal distribution
function have polynomials of their own, with coefficients that stand here.) Each function is within 2 ulp of the
correctly rounded result over its whole range, the normal distribution function within 4, keeps NaN, and overflows to
infinity only where the result does. Results below the smallest normal number may be zero.
"""

from __future__ import annotations

import math
import struct

from .estimates import inverse, quotient
from .simd import Lanes, vector_function

LN2_BITS = {False: 11, True: 31}  # bits kept of the leading part of ln 2, so that a multiple of it is exact


def _ln2_parts(double: bool) -> tuple[float, float]:
    """Split ln 2 into a short leading part and the rest (Cody and Waite, 1980)."""
    scale = 2.0 ** (LN2_BITS[double] + 4)
    leading = math.floor(math.log(2) * scale) / scale
    # ln 2 to 40 digits is the double math.log(2) plus this remainder.
    return leading, (math.log(2) - leading) + 2.3190468138462996e-17


def _polynomial(x: Lanes, coefficients: tuple[float, ...]) -> Lanes:
    result = x.constant(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result = result.fma(x, coefficient)
    return result


def _rounding(x: Lanes) -> float:
    """1.5 * 2**(mantissa bits): a sum with it leaves no room for a fraction, and its low bits hold the integer."""
    return 1.5 * 2.0 ** (52 if x.is_double else 23)


def _round_to_integer(x: Lanes, factor: float = 1.0) -> tuple[Lanes, object]:
    """Round x times `factor` to the nearest integer n, |n| < 2**21; return it as a number and in the bits of a sum."""
    shifted = x.fma(factor, _rounding(x))
    return shifted - _rounding(x), shifted.bits()


def _power_of_two(x: Lanes, integer_bits: object, more: int = 0) -> Lanes:
    """Make 2**(n + more) from the bits left by `_round_to_integer`, by placing that exponent, which is within the bias.
    """
    builder = x.builder
    mantissa, bias = (52, 1023) if x.is_double else (23, 127)
    exponent = builder.shl(integer_bits, x.integers(mantissa))
    return x.from_bits(builder.add(exponent, x.integers((bias + more) << mantissa)))


def _series(r: Lanes) -> Lanes:
    """(exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2: 1/2! + r/3! + r^2/4! + ..."""
    last = 13 if r.is_double else 7
    series = r.constant(1 / math.factorial(last))
    for k in range(last - 1, 1, -1):
        series = series.fma(r, 1 / math.factorial(k))
    return series


def _reduce(x: Lanes) -> tuple[Lanes, Lanes, object]:
    """Split x into n ln 2 + r with |r| <= ln(2) / 2; return r and n, as a number and as bits for `_power_of_two`."""
    leading, rest = _ln2_parts(x.is_double)
    n, bits = _round_to_integer(x, 1 / math.log(2))
    r = (-n).fma(leading, x)
    return (-n).fma(rest, r), n, bits


def _exp_of_remainder(r: Lanes) -> Lanes:
    """exp(r) for |r| <= ln(2) / 2."""
    # 1 + (exp(r) - 1), with what the sum 1 + r rounds away added to the small part.
    leading = r + 1.0
    return leading + (r * r).fma(_series(r), r - (leading - 1.0))


def _emit_exp(x: Lanes) -> Lanes:
    # Beyond these limits the result is infinite or zero; NaN passes both comparisons unchanged.
    low, high = (-746.0, 710.0) if x.is_double else (-104.0, 89.0)
    x = x.where("<", low, low, x)
    x = x.where(">", high, high, x)
    r, n, _ = _reduce(x)
    # 2**n in two factors: n may be 128 or 1024, one more than the largest exponent.
    half, half_bits = _round_to_integer(n, 0.5)
    rest, rest_bits = _round_to_integer(n - half)
    return _exp_of_remainder(r) * _power_of_two(half, half_bits) * _power_of_two(rest, rest_bits)


def _emit_expm1(x: Lanes) -> Lanes:
    """exp(x) - 1 = 2**n (exp(r) - 1) + (2**n - 1), for x within the range of normal exponentials."""
    r, _, bits = _reduce(x)
    power = _power_of_two(x, bits)
    return power.fma((r * r).fma(_series(r), r), power - 1.0)


def _emit_log_of_one_plus(f: Lanes, s: Lanes, terms: int) -> Lanes:
    """log(1 + f) from f and s = f / (2 + f).

    It is 2 atanh(s) = 2 s + s R with R = 2 s^2 (1/3 + s^2/5 + s^4/7 + ...), and 2 s = f - s f; written as
    f - s (f - R), the leading term carries no error of the division.
    """
    square = s * s
    series = s.constant(2 / (2 * terms + 1))
    for k in range(terms - 1, 0, -1):
        series = series.fma(square, 2 / (2 * k + 1))
    return (-s).fma(f - square * series, f)


@vector_function
def exp(x: Lanes) -> Lanes:
    """e**x."""
    return _emit_exp(x)


@vector_function
def expm1(x: Lanes) -> Lanes:
    """e**x - 1, without cancellation near zero; for x below 88 (float32) or 709 (float64)."""
    low, high = (-40.0, 709.0) if x.is_double else (-20.0, 88.0)
    x = x.where("<", low, low, x)
    return _emit_expm1(x.where(">", high, high, x))


@vector_function
def log(x: Lanes) -> Lanes:
    """Natural logarithm of a positive, normal, finite x; NaN of NaN."""
    return x.where("ord", x, emit_log(x), x)


def emit_log(x: Lanes) -> Lanes:
    """Emit the natural logarithm of a positive, normal, finite x.

    x = 2**e m with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh((m - 1) / (m + 1)).
    """
    builder = x.builder
    mantissa = 52 if x.is_double else 23
    # Subtracting the bits of sqrt(1/2) makes the exponent field count from there.
    offset = x.integers(_bits_of(math.sqrt(0.5), x.is_double))
    steps = builder.ashr(builder.sub(x.bits(), offset), x.integers(mantissa))
    m = x.from_bits(builder.sub(x.bits(), builder.shl(steps, x.integers(mantissa))))
    e = x.like(builder.sitofp(steps, x.value.type))
    leading, rest = _ln2_parts(x.is_double)
    fraction = m - 1.0
    mantissa_log = _emit_log_of_one_plus(fraction, fraction / (m + 1.0), 11 if x.is_double else 5)
    return e.fma(leading, e.fma(rest, mantissa_log))


def _bits_of(number: float, double: bool) -> int:
    return int(struct.unpack("<q", struct.pack("<d", number))[0] if double
               else struct.unpack("<i", struct.pack("<f", number))[0])


def _emit_log1p(u: Lanes) -> Lanes:
    return _emit_log_of_one_plus(u, u / (u + 2.0), 17 if u.is_double else 8)


@vector_function
def log1p(u: Lanes) -> Lanes:
    """log(1 + u) for u in [0, 1]: 2 atanh(u / (2 + u))."""
    return _emit_log1p(u)


@vector_function
def softplus(x: Lanes) -> Lanes:
    """log(1 + e**x) = max(x, 0) + log1p(e**-|x|)."""
    return x.where("<", 0.0, 0.0, x) + _emit_log1p(_emit_exp(-x.abs()))


# From here on, where tanh is 1/2, it is computed as 1 - q.
TANH_MIDDLE = 0.55

# Polynomial p, lowest power first, with tanh b = b + b^3 p(b^2) for |b| <= TANH_MIDDLE, met at the Chebyshev nodes in
# b^2: linear equations, solved with 90 digits. The relative error is at most 4e-9 and 8e-17.
TANH_SERIES = {
    False: (-0.33333332, 0.133331137, -0.0539094288, 0.0213093887, -0.00661022783),
    True: (-0.3333333333333331, 0.13333333333315647, -0.05396825394889914, 0.021869487712363182, -0.008863217663269123,
           0.003591904413192802, -0.0014541180436174583, 0.0005817724407868131, -0.00021454222089075102,
           5.390642014172177e-05),
}


@vector_function
def tanh(x: Lanes) -> Lanes:
    """Hyperbolic tangent, as tanh of n/2 ln 2 + b, n = 0 where |x| < TANH_MIDDLE.

    With P = 2**n / 2 and t = tanh b its addition theorem is 1 - (1 - t) / D, D = P + 1/2 + (P - 1/2) t. The quotient is
    at most 1/2 for large x, so that its errors count half; for n = 0, t / D is t.
    """
    limit = 20.0 if x.is_double else 10.0  # tanh is 1 from here on
    size = x.abs()
    size = size.where(">", limit, limit, size)
    one = size.where(">=", TANH_MIDDLE, 1.0, 0.0)
    shifted = size.where(">=", TANH_MIDDLE, size.fma(2 / math.log(2), _rounding(x)), _rounding(x))
    n = shifted - _rounding(x)
    leading, rest = _ln2_parts(x.is_double)
    b = (-n).fma(rest / 2, (-n).fma(leading / 2, size))
    square = b * b
    t = (b * square).fma(_polynomial(square, TANH_SERIES[x.is_double]), b)
    power = _power_of_two(x, shifted.bits(), -1)
    return (quotient(t - one, (power - 0.5).fma(t, power + 0.5)) + one).copysign(x)


@vector_function
def sigmoid(x: Lanes) -> Lanes:
    """1 / (1 + e**-x)."""
    # Beyond these limits e**-x is nothing beside 1, or counts as infinite; in between one factor 2**n will do.
    low, high = (-708.0, 710.0) if x.is_double else (-87.0, 89.0)
    negative = -x
    negative = negative.where("<", low, low, negative)
    r, _, bits = _reduce(negative.where(">", high, high, negative))
    return inverse(_exp_of_remainder(r).fma(_power_of_two(r, bits), 1.0))


# ---- the normal distribution

# From here on e**(-t^2 / 2) counts as zero: the exponent of two is the lowest, which stands for zero.
NORMAL_LIMITS = {False: 13.27, True: 37.66}

# Polynomials p and q, lowest power first, with 1 / R(t) = sqrt(2 pi) t + p(t) / q(t) for t from 0 to the limit, where
# R(t) = Phi(-t) e**(t^2 / 2), Mills' ratio over sqrt(2 pi). They meet it at the 2 len(p) Chebyshev nodes in
# (t - k) / (t + k), k = 2 (float32) and 3 (float64): linear equations, solved with 90 digits. The quotient's relative
# error in R is then at most 1.2e-9 and 1.4e-17. No term is negative, so that nothing cancels in the sums.
# Both are scaled to q(0) = 1.5, in the middle between powers of two, where rounding hurts least.
MILLS_NUMERATOR = {
    False: (3.0, 1.8694643, 0.613090741, 0.109084868, 0.00900084919),
    True: (3.0, 3.6993750898412268, 2.3339674554812366, 0.9559078100329231, 0.27596654231759243, 0.05779621527781311,
           0.008755644982688358, 0.0009260575753275702, 6.236458552535361e-05, 2.0599410939539233e-06),
}
MILLS_DENOMINATOR = {
    False: (1.5, 1.61787655, 0.838444024, 0.251324626, 0.043539309, 0.00359039623),
    True: (1.5, 2.5328319096895657, 2.115580633196863, 1.1313779075163224, 0.4252856948439464, 0.11693138096494972,
           0.023791312320228627, 0.0035427566555721224, 0.00037108711722532627, 2.487986995262885e-05,
           8.217975975825635e-07),
}


def _bounded_size(x: Lanes) -> Lanes:
    """|x|, or the limit of the normal distribution where that is less."""
    limit = NORMAL_LIMITS[x.is_double]
    return x.abs().where(">", limit, limit, x.abs())


def _emit_bell(t: Lanes) -> Lanes:
    """e**(-t^2 / 2) for t from 0 to the limit.

    The rounding error of t^2 would be multiplied by t^2 / 2. So t is cut into its leading bits, whose square is exact,
    and the rest; what the rest adds to the square joins the argument after it is reduced.
    """
    mantissa_rest = 27 if t.is_double else 12
    leading = t.from_bits(t.builder.and_(t.bits(), t.integers(-1 << mantissa_rest)))
    exponent = leading * leading * -0.5
    rest = (t - leading) * (t + leading) * -0.5
    n, bits = _round_to_integer(exponent + rest, 1 / math.log(2))
    ln2_leading, ln2_rest = _ln2_parts(t.is_double)
    r = (-n).fma(ln2_rest, (-n).fma(ln2_leading, exponent) + rest)
    return _exp_of_remainder(r) * _power_of_two(r, bits)


@vector_function
def normal_density(x: Lanes) -> Lanes:
    """e**(-x^2 / 2) / sqrt(2 pi)."""
    return _emit_bell(_bounded_size(x)) * (1 / math.sqrt(2 * math.pi))


@vector_function
def normal_cdf(x: Lanes) -> Lanes:
    """Phi(x), the integral of the normal density from minus infinity to x.

    Largest error found: 3.4 (float32) and 4.0 (float64) units of the exact value's last place, 3.9 and 4.4 without
    fused multiply-add.
    """
    t = _bounded_size(x)
    denominator = _polynomial(t, MILLS_DENOMINATOR[x.is_double])
    numerator = _polynomial(t, MILLS_NUMERATOR[x.is_double])
    ratio = denominator / (t * math.sqrt(2 * math.pi)).fma(denominator, numerator)
    tail = _emit_bell(t) * ratio
    return x.where(">", 0.0, 1.0 - tail, tail)
