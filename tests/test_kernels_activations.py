"""Activations, their derivatives, softmax and its backward pass against the textbook's formulas."""

from __future__ import annotations

import math
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import DTYPES, Array

from fastmlp.kernels import activations
from fastmlp.kernels.layout import round_up
from fastmlp.kernels.linking import kernel_table
from fastmlp.kernels.simd import lanes_of
from fastmlp.layers import Dense

CODES = {"identity": activations.IDENTITY, "sigmoid": activations.SIGMOID, "tanh": activations.TANH,
         "relu": activations.RELU, "leaky_relu": activations.LEAKY_RELU, "elu": activations.ELU}
ALPHAS = {"leaky_relu": (0.01, 0.3, 1.0), "elu": (1.0, 0.1, 3.0)}
CASES = [(name, alpha) for name in CODES for alpha in ALPHAS.get(name, (0.0,))]
SIZES = [(1, 1), (1, 17), (3, 2), (5, 15), (2, 16), (7, 33), (4, 100)]
UNTOUCHED = -777.0


def lanes(dtype: Any) -> int:
    return lanes_of(np.dtype(dtype).itemsize)


def in_rows(array: Array, fill: float = 0.0) -> tuple[Array, int]:
    """Copy to rows of whole registers with one register more after each row; also return the whole registers' width."""
    rows, columns = array.shape
    padded = round_up(columns, lanes(array.dtype))
    block = np.full((rows, padded + lanes(array.dtype)), UNTOUCHED, array.dtype)
    block[:, :padded] = fill
    block[:, :columns] = array
    return block, padded


def activate(z: Array, code: int, alpha: float = 0.0) -> Array:
    block, padded = in_rows(z)
    activations.activate(kernel_table(z.dtype), code, alpha, block, block.shape[1], len(z), padded)
    assert (block[:, padded:] == UNTOUCHED).all(), "wrote beyond the columns"
    return np.asarray(block[:, : z.shape[1]])


def times_derivative(delta: Array, a: Array, code: int, alpha: float = 0.0) -> Array:
    deltas, padded = in_rows(delta)
    outputs, _ = in_rows(a)
    before = outputs.copy()
    activations.multiply_by_derivative(kernel_table(a.dtype), code, alpha, deltas, outputs, deltas.shape[1], len(a),
                                       padded)
    np.testing.assert_array_equal(outputs, before)
    assert (deltas[:, padded:] == UNTOUCHED).all(), "wrote beyond the columns"
    return np.asarray(deltas[:, : a.shape[1]])


def softmax(z: Array, fill: float = 0.0) -> Array:
    block, padded = in_rows(z, fill)
    activations.softmax_rows(kernel_table(z.dtype), block, block.shape[1], len(z), z.shape[1])
    assert (block[:, padded:] == UNTOUCHED).all(), "wrote beyond the columns"
    assert (block[:, z.shape[1] : padded] == 0).all() or np.isnan(block).any(), "the padding is not zero"
    return np.asarray(block[:, : z.shape[1]])


def softmax_backward(delta: Array, p: Array) -> Array:
    deltas, padded = in_rows(delta)
    outputs, _ = in_rows(p)
    activations.softmax_backward_rows(kernel_table(p.dtype), deltas, outputs, deltas.shape[1], len(p), p.shape[1])
    assert (deltas[:, padded:] == UNTOUCHED).all(), "wrote beyond the columns"
    return np.asarray(deltas[:, : p.shape[1]])


# ---- f(z)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "alpha"), CASES)
def test_activations(name: str, alpha: float, dtype: str) -> None:
    rng = np.random.default_rng(0)
    for rows, columns in SIZES:
        for spread in (0.01, 1.0, 30.0):
            z = (spread * rng.normal(size=(rows, columns))).astype(dtype)
            wanted = naive.activation(name, z, alpha)
            np.testing.assert_allclose(activate(z, CODES[name], alpha), wanted, rtol=4 * np.finfo(dtype).eps,
                                       atol=np.finfo(dtype).tiny)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "alpha"), CASES)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_activations_of_any_finite_number(name: str, alpha: float, dtype: str, data: st.DataObject) -> None:
    numbers = st.floats(width=int(dtype[5:]), allow_nan=False, allow_infinity=False, allow_subnormal=False)
    z = np.array([data.draw(st.lists(numbers, min_size=1, max_size=40))], dtype)
    with np.errstate(under="ignore"):
        wanted = naive.activation(name, z, alpha)
    found = activate(z, CODES[name], alpha)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, wanted, rtol=4 * np.finfo(dtype).eps, atol=2 * np.finfo(dtype).tiny)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "alpha"), CASES)
def test_activations_keep_nan_in_its_place(name: str, alpha: float, dtype: str) -> None:
    z = np.ones((3, 40), dtype)
    z[1, 0] = z[1, 17] = z[2, 39] = np.nan
    np.testing.assert_array_equal(np.isnan(activate(z, CODES[name], alpha)), np.isnan(z))


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_of_infinity(dtype: str) -> None:
    z = np.array([[np.inf, -np.inf]], dtype)
    for name, wanted in {"identity": [np.inf, -np.inf], "sigmoid": [1, 0], "tanh": [1, -1], "relu": [np.inf, 0],
                         "leaky_relu": [np.inf, -np.inf], "elu": [np.inf, -1.5]}.items():
        np.testing.assert_array_equal(activate(z, CODES[name], 1.5)[0], wanted)


# ---- f'(z)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "alpha"), CASES)
def test_derivatives_times_deltas(name: str, alpha: float, dtype: str) -> None:
    rng = np.random.default_rng(1)
    for rows, columns in SIZES:
        for spread in (0.01, 1.0, 10.0):
            z = (spread * rng.normal(size=(rows, columns))).astype(dtype)
            delta = rng.normal(size=(rows, columns)).astype(dtype)
            a = activate(z, CODES[name], alpha)
            wanted = naive.wide(delta) * naive.derivative(name, z, alpha)
            # 1 - a and alpha + a lose digits where a nears its bound: what is left is an absolute error.
            np.testing.assert_array_less(np.abs(times_derivative(delta, a, CODES[name], alpha) - wanted),
                                         4 * np.finfo(dtype).eps * (np.abs(wanted) + max(1.0, alpha) * np.abs(delta))
                                         + np.finfo(dtype).tiny)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ("leaky_relu", "elu"))
def test_with_alpha_zero_no_delta_passes_where_the_input_is_negative(name: str, dtype: str) -> None:
    """With alpha zero both are relu: their output is -0.0 for negative z, and the derivative there 0."""
    try:
        Dense(1, name, alpha=0.0)
    except ValueError:
        pytest.skip("no layer takes this alpha")
    z = np.array([[-3.0, -1e-3, 2.0]], dtype)
    delta = np.ones((1, 3), dtype)
    a = activate(z, CODES[name], 0.0)
    np.testing.assert_array_equal(times_derivative(delta, a, CODES[name], 0.0), [[0.0, 0.0, 1.0]])


@pytest.mark.parametrize(("name", "alpha"), CASES)
def test_derivatives_are_the_slopes_of_the_activations(name: str, alpha: float) -> None:
    """Against a difference quotient of the kernel itself; z is kept off the corner at zero."""
    z = np.random.default_rng(2).uniform(0.01, 3, (4, 50)) * np.where(np.arange(50) % 2, 1, -1)
    h = 1e-6
    slope = (activate(z + h, CODES[name], alpha) - activate(z - h, CODES[name], alpha)) / (2 * h)
    found = times_derivative(np.ones_like(z), activate(z, CODES[name], alpha), CODES[name], alpha)
    np.testing.assert_allclose(found, slope, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
def test_a_delta_of_nan_stays_nan(name: str, dtype: str) -> None:
    delta = np.ones((1, 20), dtype)
    delta[0, 13] = np.nan
    found = times_derivative(delta, np.full((1, 20), 0.5, dtype), CODES[name], 0.5)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(delta))


# ---- softmax


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax(dtype: str) -> None:
    rng = np.random.default_rng(3)
    for rows, columns in SIZES:
        for spread in (0.01, 1.0, 10.0):
            z = (spread * rng.normal(size=(rows, columns))).astype(dtype)
            # The exponent's own rounding, |z - max z| eps / 2, is a relative error of the exponential.
            rtol = (8 + columns + 5 * spread) * np.finfo(dtype).eps
            np.testing.assert_allclose(softmax(z, fill=99.0), naive.softmax(z), rtol=rtol, atol=np.finfo(dtype).tiny)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_softmax_of_any_finite_row_is_a_distribution(dtype: str, data: st.DataObject) -> None:
    numbers = st.floats(width=int(dtype[5:]), allow_nan=False, allow_infinity=False, allow_subnormal=False)
    z = np.array([data.draw(st.lists(numbers, min_size=1, max_size=40))], dtype)
    p = softmax(z)
    assert ((p >= 0) & (p <= 1)).all()
    assert p.sum(dtype=np.float64) == pytest.approx(1.0, abs=50 * float(np.finfo(dtype).eps))
    assert p[0, z.argmax()] == p.max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_extreme_rows(dtype: str) -> None:
    largest = float(np.finfo(dtype).max)
    rows = [([largest, -largest], [1, 0]), ([largest, largest], [0.5, 0.5]), ([-largest, -largest], [0.5, 0.5]),
            ([-np.inf, 0.0], [0, 1]), ([-np.inf, -np.inf, 1e4], [0, 0, 1]), ([1e30], [1])]
    for z, wanted in rows:
        np.testing.assert_array_equal(softmax(np.array([z], dtype))[0], wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", (1, 2, 16, 33))
def test_softmax_of_a_row_with_nan_or_infinity_is_nan_and_no_other_row(dtype: str, columns: int) -> None:
    for value in (np.nan, np.inf):
        for place in range(columns):
            z = np.random.default_rng(place).normal(size=(3, columns)).astype(dtype)
            z[1, place] = value
            p = softmax(z)
            if math.isnan(value):
                assert np.isnan(p[1]).all()
            else:
                assert np.isnan(p[1, place])
            assert np.isfinite(p[[0, 2]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_does_not_change_when_a_constant_is_added(dtype: str) -> None:
    z = np.random.default_rng(4).integers(-20, 20, (5, 37)).astype(dtype)
    np.testing.assert_array_equal(softmax(z + 64), softmax(z))


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_backward(dtype: str) -> None:
    rng = np.random.default_rng(5)
    for rows, columns in SIZES:
        p = naive.softmax(3 * rng.normal(size=(rows, columns))).astype(dtype)
        delta = rng.normal(size=(rows, columns)).astype(dtype)
        wanted = naive.softmax_backward(p, delta)
        scale = naive.wide(p) * (np.abs(delta) + (p * np.abs(delta)).sum(axis=1, keepdims=True))
        assert (np.abs(softmax_backward(delta, p) - wanted) <= naive.error_bound(columns, scale, dtype)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_backward_of_nan_stays_in_its_row(dtype: str) -> None:
    p, delta = np.full((3, 20), 0.05, dtype), np.ones((3, 20), dtype)
    delta[1, 18] = np.nan
    found = softmax_backward(delta, p)
    assert np.isnan(found[1]).all()
    assert np.isfinite(found[[0, 2]]).all()


# ---- threads


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_shared_out_over_threads_come_out_the_same(dtype: str) -> None:
    z = np.random.default_rng(6).normal(size=(200, 100)).astype(dtype)
    calls = (softmax, lambda rows: activate(rows, activations.TANH), lambda rows: activate(rows, activations.ELU, 1.0))
    for call in calls:
        whole = call(z)
        parts = naive.in_threads(lambda call=call: call(z[:61]), lambda call=call: call(z[61:62]),
                                 lambda call=call: call(z[62:]))
        np.testing.assert_array_equal(np.concatenate(parts), whole)
