"""Elementary functions: within 2 ulp of the correctly rounded result (the normal distribution function within 4),
special values, order, overflow.

The error is measured from the exact value in units of the correctly rounded result's last place, so that 2 ulp
beside the correctly rounded result are less than 2.5. The exact values come from float64 for float32, and for float64
from the 80-bit long double where there is one, and everywhere from the decimal module with 40 digits.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from naive import DTYPES, Array
from numba import njit, types

from fastmlp.kernels import elementary
from fastmlp.kernels.simd import lanes, load, pointer, store

LONG_DOUBLE = np.finfo(np.longdouble).nmant >= 63 and np.finfo(np.longdouble).eps < 1e-18

# name -> (lowest, highest) argument for each dtype: where the result is a normal number, or the domain ends.
RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "exp": {"float32": (-87.33, 88.722), "float64": (-708.39, 709.782)},
    "expm1": {"float32": (-1e4, 88.0), "float64": (-1e4, 709.0)},
    "log": {"float32": (2.0**-126, 2.0**127), "float64": (2.0**-1022, 2.0**1023)},
    "log1p": {"float32": (0.0, 1.0), "float64": (0.0, 1.0)},
    "tanh": {"float32": (-1e4, 1e4), "float64": (-1e4, 1e4)},
    "sigmoid": {"float32": (-87.33, 1e4), "float64": (-708.39, 1e4)},
    "softplus": {"float32": (-87.33, 1e4), "float64": (-708.39, 1e4)},
    "normal_density": {"float32": (-13.1, 13.1), "float64": (-37.6, 37.6)},
    "normal_cdf": {"float32": (-12.9, 40.0), "float64": (-37.5, 40.0)},
}
NAMES = tuple(RANGES)
RISING = tuple(name for name in NAMES if name != "normal_density")
MOST_ULP = {**dict.fromkeys(NAMES, 2.5), "normal_cdf": 4.5}


@functools.cache
def compiled(name: str, dtype: str) -> Callable[[Array, Array], None]:
    function = getattr(elementary, name)
    array = types.Array(types.float32 if dtype == "float32" else types.float64, 1, "C")

    @njit(types.void(array, array))
    def apply(x: Array, result: Array) -> None:
        source, target = pointer(x), pointer(result)
        for i in range(0, len(x), lanes(source)):
            store(target, i, function(load(source, i)))

    return apply


def evaluate(name: str, x: Any, dtype: str) -> Array:
    """Apply the function of the kernels to an array of any length."""
    x = np.asarray(x, dtype)
    padded = np.ones(-(-x.size // 16) * 16, dtype)
    padded[: x.size] = x
    result = np.empty_like(padded)
    compiled(name, dtype)(padded, result)
    return result[: x.size]


# ---- the exact values


def in_wider_floats(name: str, x: Array) -> Array:
    """The function in the dtype of x, which is wider than the one tested; careful formulas of NumPy's own functions."""
    with np.errstate(over="ignore", under="ignore"):
        if name == "sigmoid":
            e = np.exp(-np.abs(x))
            return np.where(x < 0, e, 1) / (1 + e)
        if name == "softplus":
            return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))
        if name in ("normal_density", "normal_cdf"):
            t = np.abs(x)
            # The rounding error of t^2 would be multiplied by t^2 / 2: what a number of few digits leaves of t goes
            # into an exponential of its own.
            head = np.rint(t * 1024) / 1024
            density = np.exp(-head * head / 2) * np.exp(-(t - head) * (t + head) / 2) / np.sqrt(2 * to_pi(x.dtype))
            if name == "normal_density":
                return np.asarray(density)
            tail = np.where(t < 1.5, 0.5 - density * central_integral(np.minimum(t, 2)),
                            density / inverse_of_mills_ratio(np.maximum(t, 1)))
            return np.where(x > 0, 1 - tail, tail)
        return np.asarray(getattr(np, name)(x))


PI = "3.14159265358979323846264338327950288419716939937510582097494459"


def to_pi(dtype: Any) -> Any:
    return np.array([PI]).astype(dtype)[0]


def central_integral(t: Any) -> Any:
    """(Phi(t) - 1/2) / Phi'(t) = t + t^3 / 3 + t^5 / (3 5) + ..., for an array or a Decimal up to 2."""
    term = total = t
    for k in range(3, 120, 2):
        term = term * t * t / k
        total = total + term
    return total


def inverse_of_mills_ratio(t: Any) -> Any:
    """Phi'(t) / Phi(-t) = t + 1 / (t + 2 / (t + 3 / (t + ...))), for an array or a Decimal from 1.5."""
    fraction = t
    for k in range(200, 0, -1):
        fraction = t + k / fraction
    return fraction


DIGITS = Context(prec=60, Emin=-9999, Emax=9999)


def in_decimal(name: str, x: float) -> Decimal:
    """The exact value to some 40 digits or more, from the exact value of a float."""
    c, one = DIGITS, Decimal(1)
    d = Decimal(x)
    if name in ("normal_density", "normal_cdf"):
        with localcontext(c):
            t = abs(d)
            density = (-d * d / 2).exp() / (2 * Decimal(PI)).sqrt()
            if name == "normal_density":
                return density
            tail = Decimal("0.5") - density * central_integral(t) if t < 1.5 else density / inverse_of_mills_ratio(t)
            return 1 - tail if d > 0 else tail
    if name == "log":
        return c.ln(d)
    if name == "log1p":
        return c.ln(c.add(one, d)) if x > 1e-15 else c.subtract(d, c.multiply(d, c.divide(d, Decimal(2))))
    if abs(x) < 1e-15 and name in ("expm1", "tanh"):  # first terms of the power series, where 1 + x would lose digits
        return c.add(d, c.divide(c.multiply(d, d), Decimal(2))) if name == "expm1" else d
    e = c.exp(d)
    if name == "exp":
        return e
    if name == "expm1":
        return c.subtract(e, one)
    if name == "sigmoid":
        return c.divide(e, c.add(one, e))
    if name == "softplus":
        return c.ln(c.add(one, e)) if x > -100 else e  # log(1 + e) = e - e^2 / 2 ...
    assert name == "tanh"
    square = c.multiply(e, e)
    return c.divide(c.subtract(square, one), c.add(square, one))


def ulp_errors(found: Array, exact: Array) -> Array:
    """|found - exact| in units of the last place of exact, rounded to the dtype of found; of normal results only."""
    rounded = np.abs(exact.astype(found.dtype))
    normal = (rounded >= np.finfo(found.dtype).tiny) & np.isfinite(rounded)
    error = np.abs(found[normal].astype(exact.dtype) - exact[normal])
    return np.asarray(error / np.spacing(rounded[normal]), np.float64)


def samples(name: str, dtype: str, count: int, seed: int = 0) -> Array:
    """Arguments over the whole range: evenly spread, spread by magnitude, near zero, near one, and the ends."""
    rng = np.random.default_rng(seed)
    low, high = RANGES[name][dtype]
    tiniest = 2 * float(np.finfo(dtype).tiny)
    parts = [np.array([low, high])]
    if name != "log":
        parts.append(rng.uniform(max(low, -750.0), min(high, 750.0), count))
        parts.append(rng.uniform(max(low, -10.0), min(high, 10.0), count))
    for sign in (-1.0, 1.0):
        if sign * 1.0 < low:
            continue
        largest = max(abs(low), abs(high))
        parts.append(sign * np.exp(rng.uniform(math.log(tiniest), math.log(largest), count)))
        parts.append(sign * np.exp(rng.uniform(math.log(1e-6), math.log(10.0), count)))
        parts.append(sign * (1 + rng.normal(size=count) * 1e-3))
    x = np.concatenate(parts).astype(dtype)
    x = x[(x >= low) & (x <= high)]
    return np.asarray(x[np.abs(x) >= np.finfo(dtype).tiny])


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_within_two_ulp_of_correctly_rounded(name: str) -> None:
    x = samples(name, "float32", 100_000)
    errors = ulp_errors(evaluate(name, x, "float32"), in_wider_floats(name, x.astype(np.float64)))
    assert len(errors) > 0.9 * len(x)
    assert errors.max() < MOST_ULP[name]


@pytest.mark.skipif(not LONG_DOUBLE, reason="needs a long double wider than float64")
@pytest.mark.parametrize("name", NAMES)
def test_float64_is_within_two_ulp_of_correctly_rounded(name: str) -> None:
    x = samples(name, "float64", 30_000)
    errors = ulp_errors(evaluate(name, x, "float64"), in_wider_floats(name, x.astype(np.longdouble)))
    assert len(errors) > 0.9 * len(x)
    assert errors.max() < MOST_ULP[name]


@pytest.mark.parametrize("name", NAMES)
def test_float64_is_within_two_ulp_of_the_decimal_value(name: str) -> None:
    x = samples(name, "float64", 150)
    worst = 0.0
    for argument, found in zip(x.tolist(), evaluate(name, x, "float64").tolist(), strict=True):
        exact = in_decimal(name, argument)
        rounded = abs(float(exact))
        if np.finfo(np.float64).tiny <= rounded < math.inf:
            worst = max(worst, float(abs(Decimal(found) - exact) / Decimal(math.ulp(rounded))))
    assert worst < MOST_ULP[name]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ("exp", "expm1", "log", "tanh"))
def test_accuracy_where_the_reduced_argument_changes(name: str, dtype: str) -> None:
    """The floats next to the odd multiples of ln(2) / 2, and for the logarithm next to sqrt(2) times powers of two."""
    low, high = RANGES[name][dtype]
    if name == "log":
        edges = math.sqrt(2) * 2.0 ** np.arange(math.log2(low) + 1, math.log2(high) - 1)
    else:
        edges = np.arange(-1025, 1026) * (math.log(2) / 2)
    edges = edges[(edges > low) & (edges < high)].astype(dtype)
    x = np.concatenate([edges, np.nextafter(edges, np.asarray(np.inf, dtype)),
                        np.nextafter(edges, np.asarray(-np.inf, dtype))])
    x = x[x != 0]
    x = x[np.abs(x) >= np.finfo(dtype).tiny]
    found = evaluate(name, x, dtype)
    if dtype == "float32":
        assert ulp_errors(found, in_wider_floats(name, x.astype(np.float64))).max() < MOST_ULP[name]
    elif LONG_DOUBLE:
        assert ulp_errors(found, in_wider_floats(name, x.astype(np.longdouble))).max() < MOST_ULP[name]


# ---- special values


SPECIAL = {
    "exp": [(0.0, 1.0), (-0.0, 1.0), (math.inf, math.inf), (-math.inf, 0.0), (1e30, math.inf), (-1e30, 0.0)],
    "expm1": [(0.0, 0.0), (-0.0, 0.0), (-math.inf, -1.0), (-1e30, -1.0)],
    "log": [(1.0, 0.0)],
    "log1p": [(0.0, 0.0)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (math.inf, 1.0), (-math.inf, -1.0), (1e30, 1.0), (-1e30, -1.0)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (math.inf, 1.0), (-math.inf, 0.0), (1e30, 1.0), (-1e30, 0.0)],
    "softplus": [(math.inf, math.inf), (-math.inf, 0.0), (1e30, 1e30), (-1e30, 0.0)],
    "normal_density": [(math.inf, 0.0), (-math.inf, 0.0), (1e30, 0.0), (-1e30, 0.0), (40.0, 0.0), (-40.0, 0.0)],
    "normal_cdf": [(0.0, 0.5), (-0.0, 0.5), (math.inf, 1.0), (-math.inf, 0.0), (1e30, 1.0), (-1e30, 0.0),
                   (40.0, 1.0), (-40.0, 0.0)],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_special_values(name: str, dtype: str) -> None:
    x, wanted = (np.array(column, dtype) for column in zip(*SPECIAL[name], strict=True))
    np.testing.assert_array_equal(evaluate(name, x, dtype), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_keeps_the_sign_of_zero(dtype: str) -> None:
    assert np.signbit(evaluate("tanh", [-0.0, 0.0], dtype)).tolist() == [True, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("log", "log1p")])
def test_nan_is_kept_and_stays_in_its_lane(name: str, dtype: str) -> None:
    x = np.full(32, 0.5)
    x[[0, 5, 31]] = np.nan
    found = evaluate(name, x, dtype)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(x))
    assert (found[~np.isnan(x)] == evaluate(name, [0.5], dtype)[0]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ("expm1", "tanh", "log1p"))
def test_tiny_arguments_are_their_own_results(name: str, dtype: str) -> None:
    x = np.array([1e-30, 3e-37], dtype)
    np.testing.assert_allclose(evaluate(name, x, dtype), x, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", ("exp", "expm1", "tanh", "sigmoid", "softplus", "normal_density", "normal_cdf"))
@pytest.mark.parametrize("dtype", DTYPES)
def test_huge_arguments_do_no_harm(name: str, dtype: str) -> None:
    largest = np.finfo(dtype).max
    x = np.array([-largest, -np.inf, -1e5])
    assert np.isfinite(evaluate(name, x, dtype)).all()
    if name in ("tanh", "sigmoid", "normal_density", "normal_cdf"):
        assert np.isfinite(evaluate(name, -x, dtype)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_exp_overflows_only_where_the_result_does(dtype: str) -> None:
    largest = np.finfo(dtype).max
    edge = np.asarray(math.log(float(largest)), dtype)  # to the nearest float; its neighbours are on both sides
    below = np.nextafter(edge, np.asarray(0, dtype))
    below = np.nextafter(below, np.asarray(0, dtype))
    above = np.nextafter(np.nextafter(edge, np.asarray(np.inf, dtype)), np.asarray(np.inf, dtype))
    found = evaluate("exp", [below, above], dtype)
    assert largest / 1.01 < found[0] <= largest
    assert found[1] == np.inf


@pytest.mark.parametrize("dtype", DTYPES)
def test_softplus_does_not_overflow(dtype: str) -> None:
    largest = np.finfo(dtype).max
    x = np.array([89.0, 710.0, 1e30, largest], dtype)
    np.testing.assert_array_equal(evaluate("softplus", x, dtype), x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sigmoid_is_normal_to_the_end_of_the_range(dtype: str) -> None:
    """1 / (1 + e^-x) must not become zero before it is denormal."""
    x = math.log(float(np.finfo(dtype).tiny)) * (1 - 1e-6)
    found = evaluate("sigmoid", [x], dtype)[0]
    assert found >= np.finfo(dtype).tiny


# ---- order and bounds


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RISING)
def test_monotone(name: str, dtype: str) -> None:
    """These functions rise, so that the results at sorted arguments are sorted.

    Two ulp of freedom allow neighbours to change places; the arguments here are further apart than that.
    """
    low, high = RANGES[name][dtype]
    if name == "log":
        x = np.geomspace(low, high, 20_001)
    else:
        x = np.linspace(max(low, -20.0), min(high, 20.0), 20_001)
        x = np.concatenate([np.linspace(max(low, -1000.0), x[0], 2_001)[:-1], x,
                            np.linspace(x[-1], min(high, 1000.0), 2_001)[1:]])
    found = evaluate(name, x, dtype).astype(np.longdouble)
    rounded = x.astype(dtype).astype(np.longdouble)
    risen = np.diff(found) >= 0
    # Where the exact function is flatter than its rounding, all that can be asked for is the error bound.
    exact = in_wider_floats(name, rounded)
    flat = np.diff(exact) <= 4 * np.spacing(np.abs(exact[1:]).astype(dtype)).astype(np.longdouble)
    assert (risen | flat).all()
    assert not flat.all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_stay_within_the_function_s_bounds(dtype: str) -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(-50, 50, 50_000), rng.uniform(-800, 800, 50_000)]).astype(dtype)
    assert (np.abs(evaluate("tanh", x, dtype)) <= 1).all()
    sigmoid = evaluate("sigmoid", x, dtype)
    assert ((sigmoid >= 0) & (sigmoid <= 1)).all()
    assert (evaluate("expm1", x[x < 80], dtype) >= -1).all()
    assert (evaluate("exp", x, dtype) >= 0).all()
    normal_cdf = evaluate("normal_cdf", x, dtype)
    assert ((normal_cdf >= 0) & (normal_cdf <= 1)).all()
    assert (evaluate("normal_density", x, dtype) >= 0).all()
    softplus = evaluate("softplus", x, dtype)
    assert ((softplus >= 0) & (softplus >= x)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_tanh_is_odd_to_the_last_bit(dtype: str) -> None:
    x = samples("tanh", dtype, 1000)
    np.testing.assert_array_equal(evaluate("tanh", -x, dtype), -evaluate("tanh", x, dtype))


# ---- the reference itself


@pytest.mark.parametrize("name", NAMES)
def test_the_two_references_agree(name: str) -> None:
    """Guards the measurement: the wider floats against the decimal values."""
    x = samples(name, "float32", 40, seed=2).astype(np.longdouble if LONG_DOUBLE else np.float64)
    wide = in_wider_floats(name, x)
    for argument, found in zip(x.tolist(), wide.tolist(), strict=True):
        exact = float(in_decimal(name, float(argument)))
        assert float(found) == pytest.approx(exact, rel=1e-15)


def test_the_measurement_sees_an_error_of_three_ulp() -> None:
    exact = np.array([1.5, 3.0e-5, 7.7e11])
    found = exact.astype(np.float32)
    assert ulp_errors(found, exact).max() <= 0.5
    wrong = found + 3 * np.spacing(found)
    assert ulp_errors(wrong, exact).min() >= MOST_ULP["exp"]
