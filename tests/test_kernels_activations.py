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
from numba import njit
from panels import Fences, from_panels, lanes, padded_columns, padding_of, panel_width

from fastmlp.kernels import activations
from fastmlp.kernels.linking import kernel_table
from fastmlp.layers import Dense

CODES = {"identity": activations.IDENTITY, "sigmoid": activations.SIGMOID, "tanh": activations.TANH,
         "relu": activations.RELU, "leaky_relu": activations.LEAKY_RELU, "elu": activations.ELU,
         "selu": activations.SELU, "softplus": activations.SOFTPLUS, "exponential": activations.EXPONENTIAL,
         "step": activations.STEP, "sign": activations.SIGN}
KEPT = {"gelu": activations.GELU, "silu": activations.SILU}  # with these the derivative is kept in the forward pass
ALPHAS = {"leaky_relu": (0.01, 0.3, 1.0), "elu": (1.0, 0.1, 3.0)}
CASES = [(name, alpha) for name in CODES for alpha in ALPHAS.get(name, (0.0,))]
ALL_CASES = [*CASES, *((name, 0.0) for name in KEPT)]
ALL_CODES = {**CODES, **KEPT}
SIZES = [(1, 1), (1, 17), (3, 2), (5, 15), (2, 16), (7, 33), (4, 100), (8, 3), (9, 32), (17, 31), (33, 65)]


def activate(z: Array, code: int, alpha: float = 0.0) -> Array:
    fences = Fences()
    block = fences.panels(z, shift=1)
    activations.activate(kernel_table(z.dtype), code, alpha, block, len(block))
    fences.check()
    return from_panels(block, *z.shape)


def times_derivative(delta: Array, a: Array, code: int, alpha: float = 0.0) -> Array:
    fences = Fences()
    deltas, outputs = fences.panels(delta, shift=1), fences.panels(a, shift=3)
    before = outputs.copy()
    activations.multiply_by_derivative(kernel_table(a.dtype), code, alpha, deltas, outputs, len(deltas))
    fences.check()
    np.testing.assert_array_equal(outputs, before)
    assert (padding_of(deltas, *a.shape) == 0).all(), "the padding is not zero"
    return from_panels(deltas, *a.shape)


def activate_and_keep(z: Array, code: int) -> tuple[Array, Array]:
    """f(z) and f'(z)."""
    fences = Fences()
    block, slopes = fences.panels(z, shift=1), fences.panels(np.full_like(z, np.nan), padding=np.nan, shift=3)
    activations.activate_and_keep(kernel_table(z.dtype), code, block, slopes, len(block))
    fences.check()
    return from_panels(block, *z.shape), from_panels(slopes, *z.shape)


def scratch_for(fences: Fences, units: int, dtype: Any, registers: int = 1) -> Array:
    """Memory for `registers` registers full of rows: for each unit, a row in each lane."""
    return fences.full(registers * padded_columns(units, dtype) * lanes(dtype), dtype)


def softmax(z: Array, begin: int = 0, end: int | None = None) -> Array:
    """All rows after the rows `begin` to `end` went through softmax; what lay in the padding must not count."""
    end = len(z) if end is None else end
    fences = Fences()
    block = fences.panels(z, padding=np.nan, shift=1)
    activations.softmax_rows(kernel_table(z.dtype), block, len(z), begin, end, z.shape[1],
                             scratch_for(fences, z.shape[1], z.dtype))
    fences.check()
    padding = padding_of(block, *z.shape)
    assert (padding[begin:end] == 0).all(), "the padding is not zero"
    assert np.isnan(padding[:begin]).all() and np.isnan(padding[end:]).all(), "wrote to the padding of other rows"
    return from_panels(block, *z.shape)


def softmax_backward(delta: Array, p: Array, begin: int = 0, end: int | None = None) -> Array:
    """All rows of deltas after the rows `begin` to `end` were turned."""
    end = len(p) if end is None else end
    fences = Fences()
    deltas, outputs = (fences.panels(matrix, padding=np.nan, shift=1) for matrix in (delta, p))
    before = outputs.copy()
    activations.softmax_backward_rows(kernel_table(p.dtype), deltas, outputs, len(p), begin, end, p.shape[1],
                                      scratch_for(fences, p.shape[1], p.dtype, 2))
    fences.check()
    np.testing.assert_array_equal(outputs, before)
    padding = padding_of(deltas, *p.shape)
    assert (padding[begin:end] == 0).all(), "the padding is not zero"
    assert np.isnan(padding[:begin]).all() and np.isnan(padding[end:]).all(), "wrote to the padding of other rows"
    return from_panels(deltas, *p.shape)


def edge_sizes(dtype: Any) -> list[tuple[int, int]]:
    """Rows beside a register's lanes, units beside a register and beside one panel and three."""
    step, width = lanes(dtype), panel_width(dtype)
    return [(rows, units) for rows in (1, step - 1, step, step + 1, 2 * step + 1)
            for edge in (step, width, 3 * width) for units in (edge - 1, edge, edge + 1)]


# ---- f(z)


def rounding_bound(name: str, z: Array, wanted: Array) -> Array:
    """Largest error allowed of f(z)."""
    relative, least = 4 * np.finfo(z.dtype).eps, 2 * float(np.finfo(z.dtype).tiny)
    if name in KEPT:
        least *= 500  # where Phi or the sigmoid is denormal, or zero for that, |z| is less than 1000
    if name == "gelu":
        relative = relative + np.clip(naive.wide(z), -40, 0) ** 2 * np.finfo(np.float64).eps  # that of naive.gelu
    return np.asarray(relative * np.abs(wanted) + least)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "alpha"), ALL_CASES)
def test_activations(name: str, alpha: float, dtype: str) -> None:
    rng = np.random.default_rng(0)
    for rows, columns in SIZES:
        for spread in (0.01, 1.0, 20.0):
            z = (spread * rng.normal(size=(rows, columns))).astype(dtype)
            wanted = naive.activation(name, z, alpha)
            error = np.abs(activate(z, ALL_CODES[name], alpha) - wanted)
            np.testing.assert_array_less(error, rounding_bound(name, z, wanted))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "alpha"), ALL_CASES)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_activations_of_any_finite_number(name: str, alpha: float, dtype: str, data: st.DataObject) -> None:
    numbers = st.floats(width=int(dtype[5:]), allow_nan=False, allow_infinity=False, allow_subnormal=False)
    z = np.array([data.draw(st.lists(numbers, min_size=1, max_size=40))], dtype)
    with np.errstate(under="ignore", over="ignore"):
        wanted = naive.activation(name, z, alpha)
        overflows = np.isinf(wanted.astype(dtype))
    found = activate(z, ALL_CODES[name], alpha)
    np.testing.assert_array_equal(np.isinf(found), overflows)
    assert not overflows.any() or name in ("exponential", "selu")
    found, wanted, z = found[~overflows], wanted[~overflows], z[~overflows]
    np.testing.assert_array_less(np.abs(found - wanted), rounding_bound(name, z, wanted))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "alpha"), ALL_CASES)
def test_activations_keep_nan_in_its_place(name: str, alpha: float, dtype: str) -> None:
    z = np.ones((3, 40), dtype)
    z[1, 0] = z[1, 17] = z[2, 39] = np.nan
    np.testing.assert_array_equal(np.isnan(activate(z, ALL_CODES[name], alpha)), np.isnan(z))


@pytest.mark.parametrize("dtype", DTYPES)
def test_activations_of_infinity(dtype: str) -> None:
    z = np.array([[np.inf, -np.inf]], dtype)
    for name, wanted in {"identity": [np.inf, -np.inf], "sigmoid": [1, 0], "tanh": [1, -1], "relu": [np.inf, 0],
                         "leaky_relu": [np.inf, -np.inf], "elu": [np.inf, -1.5], "softplus": [np.inf, 0],
                         "exponential": [np.inf, 0], "step": [1, 0], "sign": [1, -1], "gelu": [np.inf, 0],
                         "silu": [np.inf, 0]}.items():
        np.testing.assert_array_equal(activate(z, ALL_CODES[name], 1.5)[0], wanted)
    limit = -activations.SELU_SCALE * activations.SELU_ALPHA
    np.testing.assert_allclose(activate(z, activations.SELU)[0], [np.inf, limit], rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_step_and_sign_are_one_at_zero(dtype: str) -> None:
    tiny = np.finfo(dtype).tiny
    z = np.array([[0.0, -0.0, tiny, -tiny]], dtype)
    np.testing.assert_array_equal(activate(z, activations.STEP)[0], [1, 1, 1, 0])
    np.testing.assert_array_equal(activate(z, activations.SIGN)[0], [1, 1, 1, -1])


def test_selu_keeps_mean_and_variance() -> None:
    """What its two constants are for: standard normal inputs give outputs of mean 0 and variance 1."""
    # Integrals over both sides of the corner by Gauss and Legendre; the density beyond 11 is below 1e-26.
    nodes, weights = np.polynomial.legendre.leggauss(80)
    z = np.concatenate([5.5 * (nodes - 1), 5.5 * (nodes + 1)])
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) * 5.5 * np.concatenate([weights, weights])
    a = activate(z[None], activations.SELU)[0]
    assert (density * a).sum() == pytest.approx(0.0, abs=1e-14)
    assert (density * a**2).sum() == pytest.approx(1.0, abs=1e-14)


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
    np.testing.assert_allclose(found, slope, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
def test_a_delta_of_nan_stays_nan(name: str, dtype: str) -> None:
    delta = np.ones((1, 20), dtype)
    delta[0, 13] = np.nan
    found = times_derivative(delta, np.full((1, 20), 0.5, dtype), CODES[name], 0.5)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(delta))


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_at_infinite_outputs(dtype: str) -> None:
    a = np.array([[np.inf]], dtype)
    for name, wanted in {"relu": 3.0, "elu": 3.0, "softplus": 3.0, "selu": 3 * activations.SELU_SCALE,
                         "step": 0.0, "sign": 0.0}.items():
        found = times_derivative(np.full((1, 1), 3.0, dtype), a, CODES[name], 1.5)
        np.testing.assert_allclose(found, [[wanted]], rtol=np.finfo(dtype).eps)


# ---- f'(z) kept in the forward pass


def test_the_table_of_those_that_keep_their_slope() -> None:
    codes = range(activations.CUSTOM + 1)
    assert [code for code in codes if activations.keeps_slope.py_func(code)] == sorted(activations.KEEPS_SLOPE)
    assert set(activations.KEEPS_SLOPE) == {*KEPT.values(), activations.PRELU, activations.CUSTOM}

    @njit
    def compiled(code: int) -> bool:
        return bool(activations.keeps_slope(code))

    assert [code for code in codes if compiled(code)] == sorted(activations.KEEPS_SLOPE)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", KEPT)
def test_kept_slopes(name: str, dtype: str) -> None:
    rng = np.random.default_rng(8)
    for rows, columns in SIZES:
        for spread in (0.01, 1.0, 10.0):
            z = (spread * rng.normal(size=(rows, columns))).astype(dtype)
            a, slopes = activate_and_keep(z, KEPT[name])
            np.testing.assert_array_equal(a, activate(z, KEPT[name]))
            # The slope is the sum of two terms that may cancel, and 1 - s loses digits: an absolute error, for s
            # rounded to 1 of |z| e^-|z|, which is then less than |z| eps.
            bound = 4 * np.finfo(dtype).eps * (1 + np.minimum(np.abs(z), 1)) + 20 * np.finfo(dtype).eps * (z > 4)
            np.testing.assert_array_less(np.abs(slopes - naive.derivative(name, z)), bound)


@pytest.mark.parametrize("name", KEPT)
def test_kept_slopes_are_the_slopes_of_the_activations(name: str) -> None:
    """Against a difference quotient of the kernel itself."""
    z = np.random.default_rng(9).uniform(-6, 6, (4, 50))
    h = 1e-6
    slope = (activate(z + h, KEPT[name]) - activate(z - h, KEPT[name])) / (2 * h)
    np.testing.assert_allclose(activate_and_keep(z, KEPT[name])[1], slope, rtol=1e-8, atol=2e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", KEPT)
def test_kept_slopes_of_special_values(name: str, dtype: str) -> None:
    largest = float(np.finfo(dtype).max)
    z = np.array([[np.inf, -np.inf, largest, -largest, 1e5, -1e5, 0.0, -0.0, np.nan]], dtype)
    a, slopes = activate_and_keep(z, KEPT[name])
    np.testing.assert_array_equal(a[0], [np.inf, 0, z[0, 2], 0, 1e5, 0, 0, 0, np.nan])
    np.testing.assert_array_equal(slopes[0], [1, 0, 1, 0, 1, 0, 0.5, 0.5, np.nan])


@pytest.mark.parametrize("dtype", DTYPES)
def test_deltas_times_slopes(dtype: str) -> None:
    rng = np.random.default_rng(10)
    for rows, columns in SIZES:
        delta, slope = rng.normal(size=(2, rows, columns)).astype(dtype)
        delta[0, 0] = np.nan
        fences = Fences()
        deltas, slopes = fences.panels(delta, shift=1), fences.panels(slope, shift=3)
        before = slopes.copy()
        activations.multiply_by_slopes(kernel_table(np.dtype(dtype)), deltas, slopes, len(deltas))
        fences.check()
        np.testing.assert_array_equal(slopes, before)
        np.testing.assert_array_equal(from_panels(deltas, rows, columns), delta * slope)


# ---- softmax


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax(dtype: str) -> None:
    rng = np.random.default_rng(3)
    for rows, columns in [*SIZES, *edge_sizes(dtype)]:
        for spread in (0.01, 1.0, 10.0):
            z = (spread * rng.normal(size=(rows, columns))).astype(dtype)
            # The exponent's own rounding, |z - max z| eps / 2, is a relative error of the exponential.
            rtol = (8 + columns + 5 * spread) * np.finfo(dtype).eps
            np.testing.assert_allclose(softmax(z), naive.softmax(z), rtol=rtol, atol=np.finfo(dtype).tiny)


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
    for rows, columns in [*SIZES, *edge_sizes(dtype)]:
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


# ---- some of the rows


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=60)
@given(rows=st.integers(1, 40), units=st.integers(1, 70), data=st.data())
def test_rows_from_begin_to_end_and_no_others_come_out_as_they_do_among_all(dtype: str, rows: int, units: int,
                                                                            data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, rows))
    end = data.draw(st.integers(begin, rows))
    rng = np.random.default_rng(rows * units)
    z = rng.normal(size=(rows, units)).astype(dtype)
    p, delta = naive.softmax(z).astype(dtype), rng.normal(size=(rows, units)).astype(dtype)
    for call, given_rows in ((softmax, (z,)), (softmax_backward, (delta, p))):
        wanted = given_rows[0].copy()
        wanted[begin:end] = call(*given_rows)[begin:end]
        np.testing.assert_array_equal(call(*given_rows, begin=begin, end=end), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ("activate", "multiply_by_derivative"))
def test_a_block_begins_and_ends_where_it_is_told(name: str, dtype: str) -> None:
    """With memory of the same panel on both sides: here the rows 3 to 8 of a panel of eleven."""
    width, inside = panel_width(dtype), slice(3 * panel_width(dtype), 8 * panel_width(dtype))
    fences = Fences()
    panel, outputs = fences.full(11 * width, dtype, -2.0), fences.full(11 * width, dtype, 0.5)
    if name == "activate":
        activations.activate(kernel_table(panel.dtype), activations.LEAKY_RELU, 0.25, panel[inside], 5 * width)
    else:
        activations.multiply_by_derivative(kernel_table(panel.dtype), activations.SIGMOID, 0.0, panel[inside],
                                           outputs[inside], 5 * width)
    fences.check()
    wanted = np.full(11 * width, -2.0, dtype)
    wanted[inside] = -0.5
    np.testing.assert_array_equal(panel, wanted)


# ---- threads


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_shared_out_over_threads_come_out_the_same(dtype: str) -> None:
    z = np.random.default_rng(6).normal(size=(200, 100)).astype(dtype)
    for call in (lambda rows: activate(rows, activations.TANH), lambda rows: activate(rows, activations.ELU, 1.0)):
        whole = call(z)
        parts = naive.in_threads(lambda call=call: call(z[:61]), lambda call=call: call(z[61:62]),
                                 lambda call=call: call(z[62:]))
        np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", (3, 61, 200))
def test_threads_share_the_rows_of_one_matrix(rows: int, dtype: str) -> None:
    rng = np.random.default_rng(7)
    units, kernels = 45, kernel_table(np.dtype(dtype))
    z, delta = rng.normal(size=(2, rows, units)).astype(dtype)
    p = softmax(z)
    fences = Fences()
    block, outputs, deltas = (fences.panels(matrix) for matrix in (z, p, delta))
    ranges = naive.cuts(rows, 5, rng)
    scratches = [scratch_for(fences, units, dtype, 2) for _ in ranges]
    naive.in_threads(*(lambda a=a, b=b, scratch=scratch: activations.softmax_rows(
        kernels, block, rows, a, b, units, scratch) for (a, b), scratch in zip(ranges, scratches, strict=True)))
    naive.in_threads(*(lambda a=a, b=b, scratch=scratch: activations.softmax_backward_rows(
        kernels, deltas, outputs, rows, a, b, units, scratch)
        for (a, b), scratch in zip(ranges, scratches, strict=True)))
    fences.check()
    np.testing.assert_array_equal(from_panels(block, rows, units), p)
    np.testing.assert_array_equal(from_panels(deltas, rows, units), softmax_backward(delta, p))
