"""Vectors, pointers, reductions, operators, and the table of instruction sets."""

from __future__ import annotations

import functools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import DTYPES, Array
from numba import config, njit, types

from fastmlp.kernels import simd
from fastmlp.kernels.simd import (
    CACHE_LINE,
    FUSED,
    INSTRUCTION_SET,
    INSTRUCTION_SETS,
    elements_of_line,
    float32_pointer,
    float64_pointer,
    fma,
    full,
    int64_pointer,
    lanes,
    lanes_of,
    load,
    load_first,
    maximum,
    pointer,
    pointer_at,
    prefetch,
    shift,
    sqrt,
    store,
    sum_lanes,
    uint8_pointer,
)

FLOATS = {"float32": types.float32, "float64": types.float64}
UNTOUCHED = -777.0


def width(dtype: str) -> int:
    return lanes_of(np.dtype(dtype).itemsize)


def compile_for(dtype: str, *kinds: Any, result: Any = types.void) -> Callable[[Any], Any]:
    """Compile a function at once for arguments of these types; "array" and "number" are of the dtype."""
    named = {"array": types.Array(FLOATS[dtype], 1, "C"), "number": FLOATS[dtype]}
    signature = result(*(named.get(kind, kind) if isinstance(kind, str) else kind for kind in kinds))
    return njit(signature)


# ---- memory


@functools.cache
def copier(dtype: str) -> Any:
    @compile_for(dtype, "array", types.int64, "array", types.int64)
    def copy(source: Array, i: int, target: Array, j: int) -> None:
        store(pointer(target), j, load(pointer(source), i))

    return copy


@pytest.mark.parametrize("dtype", DTYPES)
def test_load_and_store_move_one_register_at_any_alignment_and_touch_nothing_else(dtype: str) -> None:
    n = width(dtype)
    source = np.arange(1, 3 * n + 1, dtype=dtype)
    for i in range(2 * n + 1):
        for j in (0, 1, n - 1, n, 2 * n):
            target = np.full(3 * n, UNTOUCHED, dtype)
            copier(dtype)(source, i, target, j)
            wanted = np.full(3 * n, UNTOUCHED, dtype)
            wanted[j : j + n] = source[i : i + n]
            np.testing.assert_array_equal(target, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_lanes_are_read_and_the_others_are_zero(dtype: str) -> None:
    @compile_for(dtype, "array", types.int64, types.int64, "array")
    def copy_first(source: Any, i: Any, count: Any, target: Any) -> None:
        store(pointer(target), 0, load_first(pointer(source), i, count))

    size = width(dtype)
    x = np.arange(1, 2 * size + 1, dtype=dtype)
    for i in (0, 1, size):
        for count in range(size + 3):
            target = np.full(size, UNTOUCHED, dtype)
            copy_first(x, i, count, target)
            read = min(count, size)
            np.testing.assert_array_equal(target, np.append(x[i : i + read], np.zeros(size - read)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_lanes_are_the_elements_of_a_register(dtype: str) -> None:
    @compile_for(dtype, "array", result=types.int64)
    def count(x: Array) -> int:
        return lanes(pointer(x))

    assert count(np.zeros(1, dtype)) == lanes_of(np.dtype(dtype).itemsize)
    assert lanes_of(np.dtype(dtype).itemsize) * np.dtype(dtype).itemsize == INSTRUCTION_SET.register_bytes


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cache_line_holds_a_whole_number_of_registers_and_elements(dtype: str) -> None:
    @compile_for(dtype, "array", result=types.int64)
    def count(x: Array) -> int:
        return elements_of_line(pointer(x))

    assert count(np.zeros(1, dtype)) * np.dtype(dtype).itemsize == CACHE_LINE == 64
    assert all(CACHE_LINE % row.register_bytes == 0 for row in INSTRUCTION_SETS)


@pytest.mark.parametrize("dtype", DTYPES)
def test_prefetching_reads_and_writes_nothing_so_that_any_address_will_do(dtype: str) -> None:
    @compile_for(dtype, "array", types.int64)
    def ask(x: Array, index: int) -> None:
        prefetch(pointer(x), index)
        prefetch(uint8_pointer(0), index)

    x = np.arange(100, dtype=dtype)
    for index in (0, 99, 100, -1, 2**40, -(2**40)):
        ask(x, index)
    np.testing.assert_array_equal(x, np.arange(100))
    [code] = ask.inspect_llvm().values()
    assert code.count("call void @llvm.prefetch") == 2, "nothing is asked for"


@pytest.mark.parametrize("dtype", DTYPES)
def test_pointers_move_by_elements_and_come_from_addresses(dtype: str) -> None:
    @compile_for(dtype, "array", types.int64, types.int64, result=types.UniTuple(types.float64, 3))
    def read(x: Array, address: int, elements: int) -> tuple[float, float, float]:
        base = pointer(x)
        moved = shift(base, elements)
        there = pointer_at(address, base)
        there[0] += 1
        return moved[0], there[elements], moved[-elements]

    x = np.arange(10, 30, dtype=dtype)
    assert read(x, x.ctypes.data, 7) == (17.0, 17.0, 11.0)


@pytest.mark.parametrize(("maker", "dtype"), [(int64_pointer, np.int64), (uint8_pointer, np.uint8),
                                              (float32_pointer, np.float32), (float64_pointer, np.float64)])
def test_typed_pointers_read_their_type(maker: Any, dtype: Any) -> None:
    @njit(types.float64(types.int64, types.int64))
    def read(address: int, i: int) -> float:
        return maker(address)[i]

    x = np.array([3, 200, 117], dtype)
    assert [read(x.ctypes.data, i) for i in range(3)] == [3.0, 200.0, 117.0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_full_repeats_numbers_of_any_type(dtype: str) -> None:
    @compile_for(dtype, "array", types.int64, types.float64, "number")
    def fill(x: Array, whole: int, double: float, own: float) -> None:
        target, n = pointer(x), lanes(pointer(x))
        store(target, 0, full(target, whole))
        store(target, n, full(target, double))
        store(target, 2 * n, full(target, own))

    n = width(dtype)
    x = np.zeros(3 * n, dtype)
    fill(x, 7, 0.1, np.dtype(dtype).type(1 / 3))
    np.testing.assert_array_equal(x, np.repeat(np.array([7, 0.1, 1 / 3], dtype), n))


# ---- lanes


@functools.cache
def adder(dtype: str) -> Any:
    @compile_for(dtype, "array", result=FLOATS[dtype])
    def add(x: Array) -> float:
        return sum_lanes(load(pointer(x), 0))

    return add


@pytest.mark.parametrize("dtype", DTYPES)
def test_sum_lanes_takes_every_lane_once(dtype: str) -> None:
    n = width(dtype)
    add = adder(dtype)
    assert add((2.0 ** np.arange(n)).astype(dtype)) == 2.0**n - 1
    for lane in range(n):
        assert add(np.eye(n, dtype=dtype)[lane].copy()) == 1.0


@pytest.mark.parametrize("dtype", DTYPES)
def test_sum_lanes_keeps_nan_and_infinity(dtype: str) -> None:
    n = width(dtype)
    add = adder(dtype)
    for lane in range(n):
        x = np.ones(n, dtype)
        x[lane] = np.nan
        assert math.isnan(add(x))
        x[lane] = -np.inf
        assert add(x) == -np.inf


# ---- arithmetic


@functools.cache
def arithmetic(dtype: str) -> Any:
    @compile_for(dtype, "array", "array", "number", "array")
    def calculate(x: Array, y: Array, number: float, result: Array) -> None:
        target, n = pointer(result), lanes(pointer(result))
        a, b = load(pointer(x), 0), load(pointer(y), 0)
        store(target, 0, a + b)
        store(target, n, a - b)
        store(target, 2 * n, a * b)
        store(target, 3 * n, a / b)
        store(target, 4 * n, -a)
        store(target, 5 * n, a + number)
        store(target, 6 * n, number - a)
        store(target, 7 * n, a * number)
        store(target, 8 * n, number / a)
        store(target, 9 * n, number + a)
        store(target, 10 * n, a - number)
        store(target, 11 * n, number * a)
        store(target, 12 * n, a / number)
        store(target, 13 * n, maximum(a, b))
        store(target, 14 * n, sqrt(a))

    return calculate


def calculated(dtype: str, x: Array, y: Array, number: Any) -> tuple[Array, Array]:
    """The rows that the kernels' operators make, and those that NumPy makes."""
    result = np.zeros(15 * len(x), dtype)
    arithmetic(dtype)(x, y, number, result)
    with np.errstate(all="ignore"):
        wanted = [x + y, x - y, x * y, x / y, -x, x + number, number - x, x * number, number / x, number + x,
                  x - number, number * x, x / number, np.where(x > y, x, y), np.sqrt(x)]
    return result.reshape(15, -1), np.array(wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_operators_between_vectors_and_numbers_are_those_of_ieee_arithmetic(dtype: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = (rng.normal(size=(2, width(dtype))) * 10.0 ** rng.integers(-5, 6, (2, width(dtype)))).astype(dtype)
        found, wanted = calculated(dtype, x, y, np.dtype(dtype).type(rng.normal()))
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_operators_with_nan_infinity_and_zero(dtype: str) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.0, np.finfo(dtype).max], dtype)
    n = width(dtype)
    pairs = np.array(np.meshgrid(values, values)).reshape(2, -1)
    for first in range(0, pairs.shape[1], n):
        x, y = np.ones((2, n), dtype)
        chunk = pairs[:, first : first + n]
        x[: chunk.shape[1]], y[: chunk.shape[1]] = chunk
        for number in values:
            found, wanted = calculated(dtype, x, y, number)
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_double_in_an_operator_is_rounded_to_the_vector_s_type(dtype: str) -> None:
    @compile_for(dtype, "array", types.float64, "array")
    def add(x: Array, number: float, result: Array) -> None:
        store(pointer(result), 0, load(pointer(x), 0) + number)

    x = np.full(width(dtype), 3, dtype)
    result = np.zeros_like(x)
    add(x, 0.1, result)
    assert (result == np.dtype(dtype).type(3) + np.dtype(dtype).type(0.1)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_fma_rounds_once_where_the_processor_can(dtype: str) -> None:
    @compile_for(dtype, "array", "array", "array", "array")
    def multiply_add(x: Array, y: Array, z: Array, result: Array) -> None:
        store(pointer(result), 0, fma(load(pointer(x), 0), load(pointer(y), 0), load(pointer(z), 0)))

    n, eps = width(dtype), np.finfo(dtype).eps
    x, y, z, result = (np.zeros(n, dtype) for _ in range(4))
    x[:], y[:], z[:] = 1 + eps, 1 - eps, -1
    multiply_add(x, y, z, result)
    assert (result == (-eps * eps if FUSED else 0.0)).all()
    x[:], y[:], z[:] = 3, np.arange(n), 100
    multiply_add(x, y, z, result)
    np.testing.assert_array_equal(result, 3 * np.arange(n) + 100)


# ---- the table


def test_every_row_of_the_table_fits_its_register_file() -> None:
    for row in INSTRUCTION_SETS:
        registers = 32 if row.name in ("AVX-512", "NEON") else 16
        for rows, vectors in ((row.tile_rows, row.tile_vectors), (row.array_rows, row.array_vectors)):
            assert rows * vectors + vectors + 1 <= registers, row.name
        assert row.register_bytes in (16, 32, 64), row.name
        assert row.tile_rows >= 1
        assert row.tile_vectors >= 1


def test_the_table_goes_from_the_most_demanding_row_to_one_that_needs_nothing() -> None:
    assert INSTRUCTION_SETS[-1].needs == frozenset()
    for number, row in enumerate(INSTRUCTION_SETS):
        for later in INSTRUCTION_SETS[number + 1 :]:
            assert not later.needs >= row.needs, f"{later.name} can never be chosen after {row.name}"


CHOICES = {
    "+avx,+avx2,+fma,+avx512f,+avx512dq,+avx512vl,+avx512bw,+sse2": "AVX-512",
    "+avx,+avx2,+fma,+avx512f,+avx512dq,-avx512vl,+sse2": "AVX2",  # the first AVX-512 processors had no 256-bit forms
    "+avx,+avx2,+fma,-avx512f,-avx512dq,-avx512vl,+sse2": "AVX2",
    "+avx,+avx2,-fma,+sse2": "AVX",
    "+avx,-avx2,+fma,+sse2": "AVX",
    "+avx,+sse2": "AVX",
    "+sse2,+sse4.2": "128-bit vectors",
    "-avx512f,-avx2,-avx,-fma": "128-bit vectors",
    "+neon,+fp-armv8": "NEON",
    "": "128-bit vectors",
}

CHOOSE = """
import importlib, json, sys
from numba import config
from fastmlp.kernels import simd
names = {}
for features in json.loads(sys.argv[1]):
    config.CPU_FEATURES = features
    names[features] = importlib.reload(simd).INSTRUCTION_SET.name
print(json.dumps(names))
"""


def test_the_instruction_set_is_chosen_by_the_features() -> None:
    done = subprocess.run([sys.executable, "-c", CHOOSE, json.dumps(list(CHOICES))], capture_output=True, text=True,
                          check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == CHOICES


def test_the_features_are_those_that_numba_compiles_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """NUMBA_CPU_FEATURES overrides what the processor has; NUMBA_ENABLE_AVX=0 takes AVX away."""
    monkeypatch.setattr(config, "CPU_FEATURES", "+avx2,-avx512f,+fma")
    assert simd._llvm_features() == {"avx2", "fma"}
    monkeypatch.setattr(config, "CPU_FEATURES", "")
    assert simd._llvm_features() == frozenset()
    monkeypatch.setattr(config, "CPU_FEATURES", None)
    monkeypatch.setattr(config, "ENABLE_AVX", False)
    assert not [name for name in simd._llvm_features() if name.startswith("avx")]


@settings(deadline=None, max_examples=50)
@given(st.sets(st.sampled_from(sorted(set().union(*(row.needs for row in INSTRUCTION_SETS)) | {"sse2", "avx512bw"}))))
def test_any_set_of_features_finds_a_row_that_needs_no_more(features: set[str]) -> None:
    assert any(row.needs <= features for row in INSTRUCTION_SETS)
