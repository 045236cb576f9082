"""Noise: dropout and Gaussian noise, against the same hash in NumPy, and the statistics of both."""

from __future__ import annotations

import math
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import DTYPES, Array
from panels import Fences, lanes

from fastmlp.kernels import noise
from fastmlp.kernels.linking import kernel_table

MASK = 2**64 - 1


def random_bits(key: int, position: int) -> int:
    """`kernels.random.random_bits`."""
    return naive.splitmix64(key + position * naive.GOLDEN)


def hashed(key: int, positions: Any) -> Array:
    """The numbers from -2**31 to 2**31 - 1 at some positions of a stream: lowbias32 without its last shift."""
    lower, upper = np.uint32(key & (2**32 - 1)), np.uint32(key >> 32)
    bits = (np.asarray(positions) & (2**32 - 1)).astype(np.uint32) ^ lower
    bits = (bits ^ bits >> np.uint32(16)) * np.uint32(0x7FEB352D)
    bits = (bits ^ bits >> np.uint32(15)) + upper
    return (bits * np.uint32(0x846CA68B)).view(np.int32).astype(np.int64)


def positions_of(first: int, row_stride: int, rows: int, columns: int) -> Array:
    return first + row_stride * np.arange(rows)[:, None] + np.arange(columns)


def drop(key: int, first: int, row_stride: int, block: Array, rate: float, kept: Array | None = None) -> Array:
    """What the kernel makes of a copy of the block (rows, columns); `kept` is changed in place."""
    fences = Fences()
    rows, columns = block.shape
    dropped = fences.copy(block, shift=1)
    beside = fences.copy(block if kept is None else kept, shift=2)
    noise.drop(kernel_table(block.dtype), key, first, row_stride, rows, columns, rate, int(kept is not None), dropped,
               beside)
    fences.check()
    if kept is not None:
        kept[...] = beside.reshape(kept.shape)
    return dropped.reshape(block.shape)


def factors(key: int, first: int, row_stride: int, rows: int, columns: int, rate: float) -> Array:
    bits = hashed(random_bits(key, 0), positions_of(first, row_stride, rows, columns))
    return np.where(bits < round(rate * 2**32) - 2**31, 0.0, 1 / (1 - rate))


def noise_of(key: int, first: int, row_stride: int, rows: int, columns: int, dtype: str) -> Array:
    fences = Fences()
    block = fences.full(rows * columns, dtype, 0.0, shift=1)
    noise.add_noise(kernel_table(np.dtype(dtype)), key, first, row_stride, rows, columns, 1.0, block)
    fences.check()
    return block.reshape(rows, columns)


# ---- dropout


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=60)
@given(key=st.integers(-(2**63), 2**63 - 1), first=st.integers(0, 2**40), row_stride=st.integers(0, 2**33),
       rows=st.integers(0, 9), registers=st.integers(0, 5), rate=st.floats(0.0, 1.0, exclude_max=True))
def test_elements_are_dropped_by_the_hash_of_key_and_position(dtype: str, key: int, first: int, row_stride: int,
                                                              rows: int, registers: int, rate: float) -> None:
    rate = min(rate, 1 - 2.0**-20)
    columns = registers * lanes(dtype)
    block = np.random.default_rng(rows).normal(size=(rows, columns)).astype(dtype)
    wanted = factors(key & MASK, first, row_stride, rows, columns, rate)
    found = drop(key, first, row_stride, block, rate)
    np.testing.assert_array_equal(found, block * wanted.astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_kept_is_multiplied_by_the_same_factors_and_only_if_asked_to(dtype: str) -> None:
    rng = np.random.default_rng(0)
    block, kept = (rng.normal(size=(7, 3 * lanes(dtype))).astype(dtype) for _ in range(2))
    before = kept.copy()
    alone = drop(5, 9, 100, block, 0.3)
    np.testing.assert_array_equal(drop(5, 9, 100, block, 0.3, kept), alone)
    np.testing.assert_array_equal(kept, before * factors(5, 9, 100, *block.shape, 0.3).astype(dtype))


def test_both_dtypes_drop_the_same_elements() -> None:
    single, double = (drop(3, 77, 500, np.ones((20, 64), dtype), 0.4) for dtype in DTYPES)
    np.testing.assert_array_equal(single == 0, double == 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_block_dropped_in_parts_comes_out_the_same(dtype: str) -> None:
    block = np.random.default_rng(1).normal(size=(6, 4 * lanes(dtype))).astype(dtype)
    whole, half, stride = drop(1, 1000, 333, block, 0.5), 2 * lanes(dtype), 333
    for rows in (slice(0, 2), slice(2, 6)):
        for columns in (slice(0, half), slice(half, 2 * half)):
            part = drop(1, 1000 + rows.start * stride + columns.start, stride, block[rows, columns], 0.5)
            np.testing.assert_array_equal(part, whole[rows, columns])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_rate_of_zero_changes_nothing_and_one_beside_one_drops_almost_all(dtype: str) -> None:
    block = np.random.default_rng(1).normal(size=(16, 4 * lanes(dtype))).astype(dtype)
    np.testing.assert_array_equal(drop(1, 0, 64, block, 0.0), block)
    assert (drop(1, 0, 64, block, 1 - 2.0**-40) == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_dropped_nan_or_infinity_is_nan(dtype: str) -> None:
    block = np.ones((1, 4 * lanes(dtype)), dtype)
    dropped = drop(1, 0, 0, block, 0.5) == 0
    assert 0 < dropped.sum() < block.size
    assert np.isnan(drop(1, 0, 0, block * np.nan, 0.5)).all()
    found = drop(1, 0, 0, block * np.inf, 0.5)
    np.testing.assert_array_equal(np.isnan(found), dropped)
    assert (found[~dropped] == math.inf).all()


@pytest.mark.parametrize("rate", (0.1, 0.5, 0.8))
def test_decisions_have_the_right_rate_and_are_independent_of_their_neighbours_rows_and_keys(rate: float) -> None:
    """Means, variances and correlations of dropped elements, in standard deviations."""
    rows, columns, deviation = 256, 512, math.sqrt(rate * (1 - rate))

    def centred(key: int) -> Array:
        return (drop(key, 0, columns, np.ones((rows, columns), np.float32), rate) == 0).ravel() - rate

    streams = [centred(key) for key in (*range(8), *(2**bit for bit in range(3, 63, 4)))]
    for i, dropped in enumerate(streams):
        count = dropped.size
        assert abs(dropped.sum()) < 5 * deviation * math.sqrt(count)
        for distance in (1, 2, 3, 7, 8, 16, 28, 32, 64, 100, 256, columns, 2 * columns, 784, 4096, 16384):
            products = dropped[distance:] * dropped[:-distance]
            assert abs(products.sum()) < 6 * deviation**2 * math.sqrt(count), (i, distance)
        for other in streams[:i]:
            assert abs((dropped * other).sum()) < 6 * deviation**2 * math.sqrt(count), i


def test_numbers_dropped_of_sixteen_are_binomial() -> None:
    """Chi-square of the counts along a row, along a column, and of one element under many keys."""
    scipy_stats = pytest.importorskip("scipy.stats")
    rate, size = 0.3, 16
    blocks = [drop(key, 0, 1 << 10, np.ones((64, 512), np.float32), rate) == 0 for key in range(20)]
    under_keys = np.stack([drop(key, 0, 1 << 10, np.ones((8, 64), np.float32), rate) == 0 for key in range(1600)])
    for groups in (np.stack(blocks).reshape(-1, size), np.stack(blocks).transpose(0, 2, 1).reshape(-1, size),
                   under_keys.reshape(100, size, -1).transpose(0, 2, 1).reshape(-1, size)):
        found = np.bincount(groups.sum(axis=1), minlength=size + 1).astype(float)
        wanted = scipy_stats.binom.pmf(np.arange(size + 1), size, rate) * len(groups)
        found, wanted = (np.append(x[:10], x[10:].sum()) for x in (found, wanted))
        assert scipy_stats.chisquare(found, wanted).pvalue > 1e-5


# ---- Gaussian noise


def normal_numbers(key: int, positions: Array) -> Array:
    """Pairs of Box and Muller along the last axis, each from the position of its first number."""
    first = positions[..., ::2]
    b, v = hashed(random_bits(key, 0), first), hashed(random_bits(key, 1), first) * 2.0**-32
    radius = np.sqrt(-2 * np.log(abs(b) * 2.0**-31 * (1 - 2.0**-32) + 2.0**-32))
    pairs = np.stack([radius * np.sin(math.pi * v), radius * np.copysign(np.cos(math.pi * v), b)], axis=-1)
    return pairs.reshape(*first.shape[:-1], 2 * first.shape[-1])[..., : positions.shape[-1]]


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=60)
@given(key=st.integers(-(2**63), 2**63 - 1), first=st.integers(0, 2**40), row_stride=st.integers(0, 2**33),
       rows=st.integers(0, 9), registers=st.integers(0, 5))
def test_noise_is_that_of_the_key_and_the_position(dtype: str, key: int, first: int, row_stride: int, rows: int,
                                                   registers: int) -> None:
    columns = registers * lanes(dtype)
    found = noise_of(key, first, row_stride, rows, columns, dtype)
    wanted = normal_numbers(key & MASK, positions_of(first, row_stride, rows, columns))
    # The logarithm of a number near 1 has few digits in float32: 24 bits of u.
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-3 if dtype == "float32" else 1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_noise_is_added_and_multiplied_by_the_deviation(dtype: str) -> None:
    columns = 4 * lanes(dtype)
    block = np.full(5 * columns, 100.0, dtype)
    noise.add_noise(kernel_table(block.dtype), 7, 3, 99, 5, columns, 2.5, block)
    np.testing.assert_allclose(block.reshape(5, -1), 100 + 2.5 * noise_of(7, 3, 99, 5, columns, dtype), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_noise_is_gaussian(dtype: str) -> None:
    """Kolmogorov-Smirnov on a million numbers, moments, and both tails beyond three and four deviations."""
    scipy_stats = pytest.importorskip("scipy.stats")
    numbers = noise_of(1, 0, 1024, 1024, 1024, dtype).ravel().astype(np.float64)
    count = numbers.size
    assert scipy_stats.kstest(numbers, "norm").statistic < 1.5e-3  # 5 % of true samples are above 1.33e-3
    assert abs(numbers.mean()) < 5 / math.sqrt(count)
    assert abs((numbers**2).mean() - 1) < 5 * math.sqrt(2 / count)
    assert abs((numbers**3).mean()) < 5 * math.sqrt(15 / count)
    assert abs((numbers**4).mean() - 3) < 5 * math.sqrt(96 / count)
    for limit in (3.0, 4.0):
        expected = scipy_stats.norm.sf(limit) * count
        for tail in (numbers > limit, numbers < -limit):
            assert abs(tail.sum() - expected) < 4 * math.sqrt(expected)
    for distance in (1, 8, 28, 784, 1024):
        assert abs((numbers[distance:] * numbers[:-distance]).mean()) < 5 / math.sqrt(count)
    other = noise_of(2, 0, 1024, 1024, 1024, dtype).ravel()
    assert abs((numbers * other).mean()) < 5 / math.sqrt(count)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_stay(dtype: str) -> None:
    columns = 2 * lanes(dtype)
    block = np.zeros(columns, dtype)
    block[:3] = np.nan, np.inf, -np.inf
    noise.add_noise(kernel_table(block.dtype), 7, 3, 99, 1, columns, 2.5, block)
    np.testing.assert_array_equal(block[:3], [np.nan, np.inf, -np.inf])
    assert np.isfinite(block[3:]).all()
