"""Quotients, and Adam's direction m / (sqrt(v) + epsilon): by estimates where the processor has them, else plainly.

Every test runs twice: with what this processor has, and with estimates that are made here, as coarse as a processor's
may be, so that the Newton steps and the bounds are tested on every processor.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from naive import DTYPES, Array
from numba import njit, types

from fastmlp.kernels import estimates
from fastmlp.kernels.estimates import adam_direction, inverse, quotient
from fastmlp.kernels.linking import FLOATS
from fastmlp.kernels.simd import Lanes, full, lanes, load, pointer, store, vector_function
from fastmlp.optimizers import Adam

WAYS = ("this processor's way", "estimates rounded down", "estimates rounded up")
KEPT_BITS = 14  # of the 23 or 52 of a fraction: what is left has a relative error under 2**-14


def coarse_estimate(x: Lanes, name: str, *, upwards: bool) -> Lanes:
    """1 / x or 1 / sqrt(x) with its last bits cleared, or all set."""
    exact = 1.0 / {"rsqrt14": x.sqrt(), "rcp14": x}[name]
    mask = (1 << ((52 if x.is_double else 23) - KEPT_BITS)) - 1
    if not upwards:
        return x.from_bits(x.builder.and_(exact.bits(), x.integers(~mask)))
    # What is zero, infinite or NaN stays as it is: processors give these exactly.
    rounded = x.from_bits(x.builder.or_(exact.bits(), x.integers(mask)))
    return exact.abs().where("<", math.inf, exact.abs().where(">", 0.0, rounded, exact), exact)


@contextlib.contextmanager
def dividing(way: str) -> Iterator[None]:
    """What is compiled here divides in this way."""
    with pytest.MonkeyPatch.context() as patch:
        if way != WAYS[0]:
            patch.setattr(estimates, "HAS_ESTIMATES", True)
            patch.setattr(estimates, "_estimate", functools.partial(coarse_estimate, upwards=way == WAYS[2]))
        yield


@vector_function
def _quotient(dividend: Lanes, divisor: Lanes) -> Lanes:
    return quotient(dividend, divisor)


@vector_function
def _inverse(x: Lanes) -> Lanes:
    return inverse(x)


@functools.cache
def divider(dtype: str, way: str) -> Any:
    array = types.Array(FLOATS[np.dtype(dtype)], 1, "C")

    def divide(dividends: Array, divisors: Array, quotients: Array, inverses: Array) -> None:
        target = pointer(quotients)
        for i in range(0, len(dividends), lanes(target)):
            divisor = load(pointer(divisors), i)
            store(target, i, _quotient(load(pointer(dividends), i), divisor))
            store(pointer(inverses), i, _inverse(divisor))

    with dividing(way):
        return njit(types.void(array, array, array, array))(divide)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_quotients_are_within_an_ulp(dtype: str, way: str) -> None:
    rng = np.random.default_rng(3)
    dividends = (rng.standard_normal(4096) * 10.0 ** rng.integers(-6, 7, 4096)).astype(dtype)
    divisors = (rng.standard_normal(4096) * 10.0 ** rng.integers(-6, 7, 4096)).astype(dtype)
    quotients, inverses = np.empty_like(dividends), np.empty_like(dividends)
    divider(dtype, way)(dividends, divisors, quotients, inverses)
    for found, above in ((quotients, dividends), (inverses, np.ones_like(dividends))):
        exact = above.astype(np.longdouble) / divisors
        assert (np.abs(found - exact) / np.spacing(np.abs(exact.astype(dtype)))).max() < 1.0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_inverses_of_infinity_and_nan(dtype: str, way: str) -> None:
    x = np.resize(np.array([np.inf, np.nan, 2.0, np.inf], dtype), 64)
    quotients, inverses = np.empty_like(x), np.empty_like(x)
    divider(dtype, way)(np.ones_like(x), x, quotients, inverses)
    np.testing.assert_array_equal(inverses, np.resize(np.array([0.0, np.nan, 0.5, 0.0], dtype), 64))


@functools.cache
def director(dtype: str, way: str) -> Any:
    """Compiled afresh for each way, as the formula runs while it is compiled."""
    array = types.Array(FLOATS[np.dtype(dtype)], 1, "C")

    def direct(moment: Array, square: Array, epsilon: float, result: Array) -> None:
        target = pointer(result)
        for i in range(0, len(moment), lanes(target)):
            store(target, i, adam_direction(load(pointer(moment), i), load(pointer(square), i), full(target, epsilon)))

    with dividing(way):
        return njit(types.void(array, array, types.float64, array))(direct)


def direction(dtype: str, way: str, moment: Any, square: Any, epsilon: float) -> Array:
    moment, square = np.broadcast_arrays(np.asarray(moment, dtype), np.asarray(square, dtype))
    count = moment.size
    padded = np.ones((3, -(-count // 16) * 16), dtype)
    padded[0, :count], padded[1, :count] = moment, square
    director(dtype, way)(padded[0], padded[1], epsilon, padded[2])
    return np.asarray(padded[2, :count])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("epsilon", (1e-8, 1e-3, 1.0))
def test_it_is_within_a_few_ulp(epsilon: float, way: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    square = np.concatenate([[0.0], np.exp(rng.uniform(math.log(1e-38), math.log(1e36), 50_000))]).astype(dtype)
    moment = (np.sqrt(square) * rng.normal(size=square.size)).astype(dtype)
    wide = moment.astype(np.longdouble), square.astype(np.longdouble)
    exact = (wide[0] / (np.sqrt(wide[1]) + np.asarray(epsilon, dtype).astype(np.longdouble))).astype(np.float64)
    with np.errstate(under="ignore"):
        found = direction(dtype, way, moment, square, epsilon).astype(np.float64)
    np.testing.assert_allclose(found, exact, rtol=6 * np.finfo(dtype).eps, atol=2 * np.finfo(dtype).tiny)


def is_allowed(epsilon: float) -> bool:
    try:
        Adam(epsilon=epsilon)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("epsilon", [number for number in (1e-30, 1e-18, 1e-12, 1e-10) if is_allowed(number)])
def test_it_is_as_good_with_a_small_epsilon(epsilon: float, way: str, dtype: str) -> None:
    """Squares are normal numbers here, down to the smallest."""
    square = np.geomspace(1.3e-38, 1e-20, 2000).astype(dtype)
    moment = np.sqrt(square.astype(np.float64)).astype(dtype)
    exact = moment.astype(np.float64) / (np.sqrt(square.astype(np.float64)) + epsilon)
    np.testing.assert_allclose(direction(dtype, way, moment, square, epsilon), exact, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_squares_up_to_the_largest_number(way: str, dtype: str) -> None:
    largest = np.finfo(dtype).max
    square = np.array([largest, largest / 2, np.nextafter(largest, np.asarray(0, dtype))], dtype)
    found = direction(dtype, way, np.sqrt(square), square, 1e-8)
    np.testing.assert_allclose(found, np.ones(3), rtol=6 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_with_an_infinite_square_it_is_next_to_nothing_beside_the_moment(way: str, dtype: str) -> None:
    """The square of a large gradient overflows before the gradient does; it then counts as the largest number, or more.

    So the direction of a moment beyond the root of the largest number may be long, but it is not NaN.
    """
    moment = np.array([1.0, -2.0, 0.0, 1e15, -1e18, 1e38], dtype)
    found = direction(dtype, way, moment, np.full(6, np.inf), 1e-8)
    most = np.abs(moment) / math.sqrt(float(np.finfo(dtype).max))
    assert (np.abs(found) <= (1 + 6 * np.finfo(dtype).eps) * most).all()
    assert (np.sign(found) * np.sign(moment) >= 0).all(), "the sign is wrong"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_nan_is_kept(way: str, dtype: str) -> None:
    found = direction(dtype, way, [np.nan, 1.0, np.inf, 1.0], [1.0, np.nan, np.inf, 1.0], 1e-8)
    assert np.isnan(found).tolist() == [True, True, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_it_is_zero_for_idle_weights(way: str, dtype: str) -> None:
    np.testing.assert_array_equal(direction(dtype, way, [0.0, -0.0, 0.0], [0.0, 0.0, 1.0], 1e-8), np.zeros(3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_squares_too_small_for_an_estimate_count_as_nothing_beside_epsilon(way: str, dtype: str) -> None:
    """Zero, the smallest normal number, and what denormal numbers there are."""
    tiny = float(np.finfo(dtype).tiny)
    found = direction(dtype, way, np.full(5, 3e-7), [0.0, tiny, tiny / 2, tiny / 1024, 1e-37], 1e-8)
    np.testing.assert_allclose(found, np.full(5, 30.0), rtol=8 * np.finfo(np.float32).eps)


def test_estimates_are_used_on_avx_512_only() -> None:
    assert estimates.HAS_ESTIMATES is (estimates.INSTRUCTION_SET.name == "AVX-512")
    moment, square = np.random.default_rng(1).uniform(0.1, 1, (2, 1000))
    for dtype in DTYPES:
        plain, down, up = (direction(dtype, way, moment, square, 1e-8) for way in WAYS)
        assert (down != up).any()
        assert (plain != down).any()
