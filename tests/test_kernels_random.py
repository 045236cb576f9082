"""Random numbers by counter: the published generator, uniformity, permutations."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import GOLDEN, MASK, Array
from numba import njit, types

from fastmlp.kernels import random

UINT64 = st.integers(0, MASK)


@njit(types.uint64(types.uint64))
def mix(x: int) -> Any:
    return random.mix(x)


@njit(types.uint64(types.int64, types.int64))
def stream_key(seed: int, stream: int) -> Any:
    return random.stream_key(seed, stream)


@njit(types.void(types.int64, types.int64, types.Array(types.uint64, 1, "C")))
def fill_bits(seed: int, stream: int, result: Array) -> None:
    key = random.stream_key(seed, stream)
    for position in range(len(result)):
        result[position] = random.random_bits(key, position)


@njit(types.void(types.int64, types.int64, types.int64, types.Array(types.int64, 1, "C")))
def fill_below(seed: int, stream: int, bound: int, result: Array) -> None:
    key = random.stream_key(seed, stream)
    for position in range(len(result)):
        result[position] = random.random_below(key, position, bound)


@njit(types.void(types.Array(types.int64, 1, "C"), types.int64, types.int64, types.int64))
def shuffle(order: Array, count: int, seed: int, stream: int) -> None:
    random.shuffle(order, count, seed, stream)


def shuffled(count: int, seed: int, stream: int) -> Array:
    order = np.full(count + 2, -7)
    shuffle(order, count, seed, stream)
    assert (order[count:] == -7).all(), "wrote beyond the count"
    return np.asarray(order[:count])


def bits(seed: int, stream: int, count: int) -> Array:
    result = np.zeros(count, np.uint64)
    fill_bits(seed, stream, result)
    return result


def chi_square_bound(cells: int) -> float:
    """Five standard deviations above the mean of chi-square with that many cells."""
    return (cells - 1) + 5 * math.sqrt(2 * (cells - 1))


# ---- the generator


@settings(deadline=None)
@given(UINT64)
def test_mix_is_the_output_function_of_splitmix64(x: int) -> None:
    assert int(mix(x)) == naive.splitmix64(x)


def test_mix_of_counters_gives_the_published_sequence() -> None:
    """The first numbers of Vigna's splitmix64.c from state 1234567."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
                 16408922859458223821]
    assert [int(mix((1234567 + k * GOLDEN) & MASK)) for k in range(1, 6)] == published


@settings(deadline=None)
@given(seed=st.integers(0, 2**63 - 1), stream=st.integers(0, 2**40))
def test_bits_are_numbers_of_a_splitmix64_whose_state_is_the_key(seed: int, stream: int) -> None:
    key = int(stream_key(seed, stream))
    assert bits(seed, stream, 3).tolist() == [naive.splitmix64(key + position * GOLDEN) for position in range(3)]


def test_seeds_and_streams_have_keys_of_their_own() -> None:
    keys = {int(stream_key(seed, stream)) for seed in range(100) for stream in range(100)}
    assert len(keys) == 10_000


def test_bits_are_balanced_and_streams_do_not_resemble_one_another() -> None:
    count = 20_000
    a, b, c = bits(0, 0, count), bits(0, 1, count), bits(1, 0, count)
    for x in (a, a ^ b, a ^ c, b ^ c, a[1:] ^ a[:-1], a[1:] ^ b[:-1]):
        ones = np.unpackbits(x.view(np.uint8)).reshape(-1, 64).sum(axis=0)
        assert (np.abs(ones - len(x) / 2) < 5 * math.sqrt(len(x)) / 2).all()


# ---- integers below a bound


@pytest.mark.parametrize("bound", (1, 2, 3, 7, 10, 1000, 2**31, 2**32 - 1))
def test_random_below_is_in_range_and_uniform(bound: int) -> None:
    result = np.full(50_000, -1)
    fill_below(3, 4, bound, result)
    assert result.min() >= 0
    assert result.max() < bound
    cells = min(bound, 1000)
    if cells > 1:
        counts = np.bincount(result * cells // bound, minlength=cells)
        expected = len(result) / cells
        assert ((counts - expected) ** 2 / expected).sum() < chi_square_bound(cells)


# ---- permutations


@pytest.mark.parametrize("count", (0, 1, 2, 3, 10, 1000, 60_001))
def test_shuffle_gives_a_permutation(count: int) -> None:
    for stream in range(3):
        assert naive.is_permutation(shuffled(count, 1, stream))


@settings(deadline=None, max_examples=50)
@given(count=st.integers(0, 300), seed=st.integers(0, 2**63 - 1), stream=st.integers(0, 2**31))
def test_shuffle_depends_on_count_seed_and_stream_alone(count: int, seed: int, stream: int) -> None:
    order = shuffled(count, seed, stream)
    assert naive.is_permutation(order)
    np.testing.assert_array_equal(shuffled(count, seed, stream), order)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(shuffled(20, seed, stream)) for seed in range(10) for stream in range(50)}
    assert len(orders) == 500


def test_all_permutations_of_four_are_equally_likely() -> None:
    found = np.array([shuffled(4, 0, stream) for stream in range(12_000)])
    _, counts = np.unique(found @ [64, 16, 4, 1], return_counts=True)
    assert len(counts) == 24
    assert ((counts - 500) ** 2 / 500).sum() < chi_square_bound(24)


def test_every_sample_is_equally_likely_in_every_place() -> None:
    count, trials = 30, 9_000
    found = np.array([shuffled(count, trial, 0) for trial in range(trials)])
    for place in range(count):
        counts = np.bincount(found[:, place], minlength=count)
        assert ((counts - trials / count) ** 2 / (trials / count)).sum() < chi_square_bound(count)


def test_orders_of_consecutive_epochs_are_uncorrelated() -> None:
    count = 2000
    orders = [shuffled(count, 0, stream) for stream in range(20)]
    for a, b in pairwise(orders):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(count)
    assert abs(np.corrcoef(orders[0], np.arange(count))[0, 1]) < 5 / math.sqrt(count)
