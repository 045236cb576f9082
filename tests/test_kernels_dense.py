"""The three products of a dense layer against the oracle: shapes, parts of a batch, items, threads, NaN."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import naive
import numpy as np
import panels
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import DTYPES, Array, error_bound
from numba import njit, types

from fastmlp.kernels import activations, dense, layout, read_ahead, updates
from fastmlp.kernels.dense import GRADIENT_ROWS, MOST_ROWS_AT_ONCE, NEAR_BYTES
from fastmlp.kernels.linking import kernel_table
from fastmlp.kernels.simd import TILE_ROWS, pointer

CODES = {"identity": activations.IDENTITY, "sigmoid": activations.SIGMOID, "tanh": activations.TANH,
         "relu": activations.RELU, "leaky_relu": activations.LEAKY_RELU, "elu": activations.ELU}
ALPHA = {"leaky_relu": 0.125, "elu": 1.5}
STEEPEST = {"sigmoid": 0.25, "elu": 1.5}  # the largest f'(z), where it is not 1
OPTIMIZERS = {"sgd": updates.SGD, "momentum": updates.MOMENTUM, "nesterov": updates.NESTEROV, "adam": updates.ADAM,
              "nadam": updates.NADAM, "adagrad": updates.ADAGRAD, "adadelta": updates.ADADELTA,
              "rmsprop": updates.RMSPROP}
# What `coefficients_of` chooses for all of them.
CONSTANTS = {"adagrad": {"epsilon": 1e-8}, "adadelta": {"rho": 0.999, "epsilon": 1e-8},
             "rmsprop": {"decay": 0.999, "momentum": 0.9}}
# How far three steps go at most whatever the gradient is, in learning rates: RMSprop's first one is 1 / sqrt(0.001).
LONGEST = {"adam": 3.0, "nadam": 6.0, "adagrad": 3.0, "adadelta": 0.1, "rmsprop": 150.0}

# rows, inputs, units
SHAPES = [(1, 1, 1), (2, 1, 3), (1, 7, 16), (15, 2, 1), (16, 16, 16), (17, 15, 33), (33, 100, 10), (14, 31, 32),
          (28, 32, 65), (100, 17, 2), (3, 257, 128), (57, 64, 100), (1, 65, 300), (2, 40, 260), (257, 35, 40)]


def items_of_rows(columns: int, rows: int, dtype: Any) -> int:
    """Items of a forward or backward call: panels times tiles of rows."""
    return len(panels.panel_widths(columns, dtype)) * math.ceil(rows / TILE_ROWS)


def items_of_panels(units: int, inputs: int, dtype: Any) -> int:
    """Items of a gradient: panels of units times panels of inputs."""
    return len(panels.panel_widths(units, dtype)) * len(panels.panel_widths(inputs, dtype))


class Layer:
    """A layer with random parameters, a batch of inputs and one of deltas; guard values around every array.

    The padding of the inputs holds NaN, that of the deltas zeros.
    """

    def __init__(self, dtype: str, rows: int, inputs: int, units: int, seed: int = 0, whole: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.rng, self.dtype = rng, np.dtype(dtype)
        self.kernels = kernel_table(self.dtype)
        self.rows, self.inputs, self.units = rows, inputs, units
        self.begin, self.end = 0, rows  # what `forward` and `backward` work on

        def numbers(*shape: int) -> Array:
            """Whole numbers make every sum exact, so that results can be compared bit by bit with any order's."""
            return (rng.integers(-8, 9, shape) if whole else rng.normal(size=shape)).astype(dtype)

        self.W, self.b = numbers(inputs, units), numbers(units)
        self.layer = layout.layer_table([inputs, units], [0], self.dtype)[0]
        self.layer[layout.WEIGHTS] = 2 * panels.panel_width(dtype)  # not at the beginning of the parameters
        self.count = layout.parameter_count(self.layer[np.newaxis]) + 3 * panels.panel_width(dtype)
        self.parameters = layout.aligned_zeros(self.count, self.dtype)
        layout.pack_layer(self.layer, self.parameters, self.W, self.b)
        self.padded = int(self.layer[layout.PADDED])
        self.X, self.delta = numbers(rows, inputs), numbers(rows, units)

    def at_once(self, call: Callable[[int, int], None], ranges: list[tuple[int, int]]) -> None:
        """Call with each range of items, a thread each if there are several."""
        if len(ranges) == 1:
            call(*ranges[0])
        else:
            naive.in_threads(*(functools.partial(call, first, last) for first, last in ranges))

    def items(self) -> int:
        return items_of_rows(self.units, self.end - self.begin, self.dtype)

    def forward(self, code: int = activations.IDENTITY, alpha: float = 0.0,
                ranges: list[tuple[int, int]] | None = None) -> Array:
        """The outputs with their padding; `ranges` of items are worked on at the same time, a thread each."""
        fences = panels.Fences()
        a = fences.panels(self.X, padding=np.nan)
        outputs = fences.full(self.rows * self.padded, self.dtype)
        parameters = fences.copy(self.parameters)

        def call(first: int, last: int) -> None:
            dense.forward(self.kernels, self.layer, parameters, a, outputs, self.rows, self.begin, self.end, code,
                          alpha, 0, 0, first, last)

        self.at_once(call, ranges or [(0, self.items())])
        fences.check()
        np.testing.assert_array_equal(parameters, self.parameters)
        return panels.from_panels(outputs, self.rows, self.padded)

    def backward_items(self) -> int:
        return items_of_rows(self.inputs, self.end - self.begin, self.dtype)

    def backward(self, z_below: Array, name: str = "identity", ranges: list[tuple[int, int]] | None = None) -> Array:
        """The deltas of a layer below whose pre-activations are z_below, with their padding."""
        alpha = ALPHA.get(name, 0.0)
        fences = panels.Fences()
        below = layout.layer_table([1, self.inputs], [0], self.dtype)[0]
        padded = int(below[layout.PADDED])
        deltas = fences.panels(self.delta)
        outputs_below = fences.panels(naive.activation(name, z_below, alpha), self.dtype)
        deltas_below = fences.full(self.rows * padded, self.dtype)
        parameters = fences.copy(self.parameters)

        def call(first: int, last: int) -> None:
            scratch = fences.full((self.units + 1) * panels.panel_width(self.dtype), self.dtype)
            dense.backward(self.kernels, self.layer, below, parameters, deltas, deltas_below, outputs_below, self.rows,
                           self.begin, self.end, CODES[name], alpha, scratch, first, last)

        self.at_once(call, ranges or [(0, self.backward_items())])
        fences.check()
        np.testing.assert_array_equal(parameters, self.parameters)
        np.testing.assert_array_equal(deltas, panels.to_panels(self.delta))
        return panels.from_panels(deltas_below, self.rows, padded)

    def gradient_items(self) -> int:
        return items_of_panels(self.units, self.inputs, self.dtype)

    def gradient(self, optimizer: int = updates.WRITE_GRADIENT, coefficients: Array | None = None,
                 state: Array | None = None, gradients: Array | None = None, accumulate: int = 0,
                 ranges: list[tuple[int, int]] | None = None) -> Array:
        """The vector of gradients; an optimizer changes `self.parameters` and `state` instead."""
        fences = panels.Fences()
        if coefficients is None:
            coefficients = np.zeros(updates.COEFFICIENTS)
        before = np.full(self.count, np.nan, self.dtype) if gradients is None else gradients
        after = fences.copy(before)
        a, deltas = fences.panels(self.X, padding=np.nan), fences.panels(self.delta)
        parameters = fences.copy(self.parameters)
        state = np.zeros(0, self.dtype) if state is None else state
        slots = fences.copy(state)

        def call(first: int, last: int) -> None:
            scratch = fences.full((panels.panel_width(self.dtype) + 1) * panels.panel_width(self.dtype), self.dtype)
            nothing_ahead = fences.copy(np.zeros(read_ahead.LIST_FIELDS, np.int64))
            dense.gradient(self.kernels, self.layer, a, deltas, self.rows, optimizer, coefficients, parameters, slots,
                           self.count, after, accumulate, scratch, nothing_ahead, first, last)

        self.at_once(call, ranges or [(0, self.gradient_items())])
        fences.check()
        if optimizer == updates.WRITE_GRADIENT:
            np.testing.assert_array_equal(parameters, self.parameters)
            np.testing.assert_array_equal(slots, state)
        elif not accumulate:
            np.testing.assert_array_equal(after, before)
        self.parameters[:], state[:] = parameters, slots
        return after


def coefficients_of(optimizer: int, step: int, rate: float = 0.01, l2: float = 0.1) -> Array:
    chosen = np.zeros(updates.SETTINGS)
    chosen[[updates.L2, updates.DECAY_1, updates.DECAY_2, updates.EPSILON]] = l2, 0.9, 0.999, 1e-8
    coefficients = np.zeros(updates.COEFFICIENTS)
    updates.step_coefficients.py_func(optimizer, chosen, rate, step, 1.0, coefficients)
    return coefficients


def state_of(case: Layer, optimizer: int) -> Array:
    return np.zeros(updates.STATE_SLOTS[optimizer] * case.count, case.dtype)


def parts_of(rows: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows: the first, the last, one, a tile, what is left out of either end."""
    for begin, end in ((0, 1), (rows - 1, rows), (0, min(TILE_ROWS, rows)), (1, rows), (0, rows - 1),
                       (rows // 3, rows // 3 + 2), (rows // 2, rows)):
        if 0 <= begin < end <= rows:
            yield begin, end


# ---- items


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_of_items(dtype: str) -> None:
    number = {"float32": types.float32, "float64": types.float64}[dtype]

    @njit(types.UniTuple(types.int64, 3)(types.int64[::1], types.int64[::1], types.int64, types.Array(number, 1, "C")))
    def count(layer: Array, below: Array, rows: int, like: Array) -> tuple[int, int, int]:
        return (dense.forward_items(layer, rows, pointer(like)), dense.backward_items(below, rows, pointer(like)),
                dense.gradient_items(layer, pointer(like)))

    for rows, inputs, units in SHAPES:
        layer, below = (layout.layer_table([a, b], [0], np.dtype(dtype))[0] for a, b in ((inputs, units), (1, inputs)))
        assert count(layer, below, rows, np.zeros(1, dtype)) == (
            items_of_rows(units, rows, dtype), items_of_rows(inputs, rows, dtype),
            items_of_panels(units, inputs, dtype))


# ---- forward


def check_forward(case: Layer, name: str) -> None:
    alpha = ALPHA.get(name, 0.0)
    found = case.forward(CODES[name], alpha)
    z = naive.dense(case.X, case.W, case.b)
    bound = error_bound(case.inputs + 1, np.abs(case.X) @ np.abs(naive.wide(case.W)) + np.abs(case.b), case.dtype)
    wanted = naive.activation(name, z, alpha)
    allowed = STEEPEST.get(name, 1.0) * bound + 4 * np.finfo(case.dtype).eps * np.abs(wanted)
    assert (np.abs(found[:, : case.units] - wanted) <= allowed).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_with_every_activation(dtype: str, shape: tuple[int, int, int]) -> None:
    case = Layer(dtype, *shape)
    for name in CODES:
        check_forward(case, name)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=60)
@given(rows=st.integers(1, 70), inputs=st.integers(1, 70), units=st.integers(1, 140),
       name=st.sampled_from(sorted(CODES)), seed=st.integers(0, 1000))
def test_forward_of_any_shape(dtype: str, rows: int, inputs: int, units: int, name: str, seed: int) -> None:
    check_forward(Layer(dtype, rows, inputs, units, seed), name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_of_whole_numbers_is_exact(dtype: str, shape: tuple[int, int, int]) -> None:
    case = Layer(dtype, *shape, whole=True)
    np.testing.assert_array_equal(case.forward()[:, : case.units], naive.dense(case.X, case.W, case.b))


@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_writes_the_padding_too(dtype: str) -> None:
    """Columns between units and PADDED hold f(0)."""
    for units in (1, panels.lanes(dtype) - 1, 3 * panels.panel_width(dtype) - 1):
        case = Layer(dtype, 5, 3, units)
        assert (case.forward(activations.SIGMOID)[:, units:] == 0.5).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_does_only_the_items_asked_for(dtype: str) -> None:
    case = Layer(dtype, 3 * TILE_ROWS, 4, 2 * panels.panel_width(dtype))
    whole = case.forward(activations.TANH)
    for item in range(case.items()):
        part = case.forward(activations.TANH, ranges=[(item, item + 1)])
        done = ~np.isnan(part)
        assert done.sum() == TILE_ROWS * panels.panel_width(dtype)
        np.testing.assert_array_equal(part[done], whole[done])
    assert np.isnan(case.forward(ranges=[(2, 2)])).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", range(1, MOST_ROWS_AT_ONCE + 2))
def test_few_rows_take_several_panels_at_once_and_no_more_than_asked_for(dtype: str, rows: int) -> None:
    """Item by item a panel; the last panel is narrower than the others."""
    width = panels.panel_width(dtype)
    case = Layer(dtype, rows, 20, 6 * width + panels.lanes(dtype) - 1)
    one_by_one = [case.forward(activations.TANH, ranges=[(item, item + 1)]) for item in range(case.items())]
    whole = np.concatenate([found[:, item * width : (item + 1) * width] for item, found in enumerate(one_by_one)],
                           axis=1)
    wanted = np.tanh(naive.dense(case.X, case.W, case.b))
    np.testing.assert_allclose(whole[:, : case.units], wanted, rtol=1e-4, atol=1e-5)
    for first in range(case.items()):
        for last in range(first, case.items() + 1):
            part = case.forward(activations.TANH, ranges=[(first, last)])
            np.testing.assert_array_equal(part[:, first * width : last * width], whole[:, first * width : last * width])
            assert np.isnan(part[:, : first * width]).all()
            assert np.isnan(part[:, last * width :]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 3, 5), (40, 30, 50), (59, 33, 100)])
def test_forward_of_some_rows_of_a_batch(dtype: str, shape: tuple[int, int, int]) -> None:
    """Bit by bit what all rows at once have there; nothing is written to the other rows."""
    case = Layer(dtype, *shape)
    together = case.forward(activations.TANH)
    for begin, end in parts_of(shape[0]):
        case.begin, case.end = begin, end
        found = case.forward(activations.TANH)
        np.testing.assert_array_equal(found[begin:end], together[begin:end])
        assert np.isnan(found[:begin]).all()
        assert np.isnan(found[end:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_do_not_depend_on_the_batch_they_are_in(dtype: str) -> None:
    case = Layer(dtype, 40, 70, 50)
    together, X = case.forward(activations.TANH), case.X
    for rows in (1, 2, 13, TILE_ROWS + 1):
        case.rows, case.X, case.end = rows, X[20 : 20 + rows], rows
        np.testing.assert_array_equal(case.forward(activations.TANH), together[20 : 20 + rows])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
def test_forward_of_nan_and_infinity(dtype: str, value: float) -> None:
    case = Layer(dtype, 20, 6, 40)
    case.X[7, 3] = value
    for name in CODES:
        outputs = case.forward(CODES[name], ALPHA.get(name, 0.0))[:, : case.units]
        z = value * case.W[3].astype(np.float64)
        np.testing.assert_array_equal(outputs[7], naive.activation(name, z, ALPHA.get(name, 0.0)).astype(dtype))
        assert np.isfinite(np.delete(outputs, 7, axis=0)).all()


# ---- backward


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_backward_with_every_activation(dtype: str, shape: tuple[int, int, int], name: str) -> None:
    case = Layer(dtype, *shape)
    z_below = case.rng.normal(size=(case.rows, case.inputs)).astype(dtype)
    found = case.backward(z_below, name)[:, : case.inputs]
    wanted = naive.backward_delta(case.delta, case.W, z_below, name, ALPHA.get(name, 0.0))
    bound = error_bound(case.units, np.abs(naive.wide(case.delta)) @ np.abs(naive.wide(case.W)).T, dtype)
    # A derivative is computed from the activation's output: a (1 - a) and 1 - a^2 have a few absolute ulp.
    by_outputs = np.abs(naive.wide(case.delta) @ naive.wide(case.W).T)
    allowed = STEEPEST.get(name, 1.0) * bound + 4 * np.finfo(dtype).eps * (np.abs(wanted) + 2 * by_outputs)
    assert (np.abs(found - wanted) <= allowed).all()


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=60)
@given(rows=st.integers(1, 70), inputs=st.integers(1, 140), units=st.integers(1, 140), seed=st.integers(0, 1000))
def test_backward_of_whole_numbers_is_exact_and_leaves_zeros_in_the_padding(dtype: str, rows: int, inputs: int,
                                                                            units: int, seed: int) -> None:
    case = Layer(dtype, rows, inputs, units, seed, whole=True)
    deltas = case.backward(np.zeros((rows, inputs)))
    np.testing.assert_array_equal(deltas[:, :inputs], naive.wide(case.delta) @ naive.wide(case.W).T)
    assert (deltas[:, inputs:] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
def test_backward_leaves_zeros_in_the_padding_whatever_the_activation(dtype: str, name: str) -> None:
    """Outputs of the padding are f(0), whose derivative need not be zero."""
    for inputs in (1, panels.lanes(dtype) + 1, 2 * panels.panel_width(dtype) - 1):
        case = Layer(dtype, 20, inputs, 35)
        deltas = case.backward(case.rng.normal(size=(20, inputs)), name)
        assert np.isfinite(deltas).all()
        assert (deltas[:, inputs:] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 3, 5), (40, 30, 50), (59, 100, 33)])
def test_backward_of_some_rows_of_a_batch(dtype: str, shape: tuple[int, int, int]) -> None:
    case = Layer(dtype, *shape)
    z_below = case.rng.normal(size=(case.rows, case.inputs))
    together = case.backward(z_below, "elu")
    for begin, end in parts_of(shape[0]):
        case.begin, case.end = begin, end
        found = case.backward(z_below, "elu")
        np.testing.assert_array_equal(found[begin:end], together[begin:end])
        assert np.isnan(found[:begin]).all()
        assert np.isnan(found[end:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_does_only_the_items_asked_for(dtype: str) -> None:
    case = Layer(dtype, 2 * TILE_ROWS, 2 * panels.panel_width(dtype), 9)
    z_below = case.rng.normal(size=(case.rows, case.inputs))
    whole = case.backward(z_below, "tanh")
    for item in range(case.backward_items()):
        part = case.backward(z_below, "tanh", [(item, item + 1)])
        done = ~np.isnan(part)
        assert done.sum() == TILE_ROWS * panels.panel_width(dtype)
        np.testing.assert_array_equal(part[done], whole[done])
    assert np.isnan(case.backward(z_below, ranges=[(1, 1)])).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_of_nan(dtype: str) -> None:
    case = Layer(dtype, 20, 35, 6)
    case.delta[4, 2] = np.nan
    deltas = case.backward(case.rng.normal(size=(20, 35)), "tanh")[:, :35]
    assert np.isnan(deltas[4]).all()
    assert np.isfinite(np.delete(deltas, 4, axis=0)).all()


# ---- gradient


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_weight_gradient(dtype: str, shape: tuple[int, int, int]) -> None:
    case = Layer(dtype, *shape)
    found = layout.unpack_layer(case.layer, case.gradient())
    wanted = naive.weight_gradient(case.X, case.delta)
    magnitudes = naive.weight_gradient(np.abs(case.X), np.abs(case.delta))
    for f, w, m in zip(found, wanted, magnitudes, strict=True):
        assert (np.abs(f - w) <= error_bound(case.rows, m, dtype)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=60)
@given(rows=st.integers(1, 70), inputs=st.integers(1, 70), units=st.integers(1, 140), seed=st.integers(0, 1000))
def test_weight_gradient_of_whole_numbers_is_exact(dtype: str, rows: int, inputs: int, units: int, seed: int) -> None:
    case = Layer(dtype, rows, inputs, units, seed, whole=True)
    parameters = case.parameters.copy()
    gradients = case.gradient()
    for found, wanted in zip(layout.unpack_layer(case.layer, gradients), naive.weight_gradient(case.X, case.delta),
                             strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(case.parameters, parameters)
    first = int(case.layer[layout.WEIGHTS])
    last = first + (inputs + 1) * case.padded
    assert np.isnan(gradients[:first]).all(), "wrote before the layer"
    assert np.isnan(gradients[last:]).all(), "wrote after the layer"
    used = np.zeros(case.count, dtype)
    layout.pack_layer(case.layer, used, np.ones((inputs, units)), np.ones(units))
    assert (gradients[first:last][used[first:last] == 0] == 0).all(), "the padding is not zero"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", (GRADIENT_ROWS - 1, GRADIENT_ROWS, GRADIENT_ROWS + 1, 2 * GRADIENT_ROWS + 3))
def test_weight_gradient_of_more_rows_than_are_summed_at_a_time(dtype: str, rows: int) -> None:
    case = Layer(dtype, rows, 50, 40, whole=True)
    once = case.gradient()
    for found, wanted in zip(layout.unpack_layer(case.layer, once), naive.weight_gradient(case.X, case.delta),
                             strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(case.gradient(gradients=once.copy(), accumulate=1), 2 * once)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_does_only_the_items_asked_for(dtype: str) -> None:
    """An item is the weights between a panel of inputs and one of units; with the last inputs comes the bias."""
    width = panels.panel_width(dtype)
    case = Layer(dtype, 9, 2 * width + 1, 2 * width)
    whole = case.gradient()
    for item in range(case.gradient_items()):
        panel, part = divmod(item, 3)
        gradients = case.gradient(ranges=[(item, item + 1)])
        W, b = (array.copy() for array in layout.unpack_layer(case.layer, gradients))
        wanted_W, wanted_b = layout.unpack_layer(case.layer, whole)
        rows, columns = slice(part * width, (part + 1) * width), slice(panel * width, (panel + 1) * width)
        np.testing.assert_array_equal(W[rows, columns], wanted_W[rows, columns])
        W[rows, columns] = np.nan
        if part == 2:
            np.testing.assert_array_equal(b[columns], wanted_b[columns])
            b[columns] = np.nan
        assert np.isnan(W).all()
        assert np.isnan(b).all()
    assert np.isnan(case.gradient(ranges=[(1, 1)])).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_items_of_a_panel_follow_one_another_also_of_inputs_that_are_too_large_for_the_cache(dtype: str) -> None:
    case = Layer(dtype, 403, 700, 70, whole=True)
    row_bytes = 403 * np.dtype(dtype).itemsize
    assert case.inputs * row_bytes > 4 * NEAR_BYTES
    assert case.padded * row_bytes <= NEAR_BYTES
    W, b = naive.weight_gradient(case.X, case.delta)
    cuts = naive.cuts(case.gradient_items(), 3, np.random.default_rng(0))
    for ranges in (None, cuts):
        found_W, found_b = layout.unpack_layer(case.layer, case.gradient(ranges=ranges))
        np.testing.assert_array_equal(found_W, W)
        np.testing.assert_array_equal(found_b, b)
    of_units = -(-70 // panels.panel_width(dtype))
    found_W, found_b = layout.unpack_layer(case.layer, case.gradient(ranges=[(of_units, 2 * of_units)]))
    second = slice(panels.panel_width(dtype), 2 * panels.panel_width(dtype))
    np.testing.assert_array_equal(found_W[second], W[second])
    assert np.isnan(np.delete(found_W, second, axis=0)).all()
    assert np.isnan(found_b).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_accumulated_gradients_are_added_to_what_is_there(dtype: str, shape: tuple[int, int, int]) -> None:
    case = Layer(dtype, *shape, whole=True)
    once = case.gradient()
    twice = case.gradient(gradients=once.copy(), accumulate=1)
    np.testing.assert_array_equal(twice, 2 * once)


def test_accumulation_in_parts_makes_the_whole_gradient() -> None:
    case = Layer("float64", 50, 20, 30, whole=True)
    whole = case.gradient()
    X, delta = case.X, case.delta
    gradients = np.full(case.count, np.nan)
    for first, last in ((0, 20), (20, 21), (21, 50)):
        case.rows, case.X, case.delta = last - first, X[first:last], delta[first:last]
        gradients = case.gradient(gradients=gradients, accumulate=int(first > 0))
    np.testing.assert_array_equal(gradients, whole)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (17, 15, 33), (33, 100, 10), (3, 65, 128)])
def test_updates_fused_with_the_gradient(dtype: str, name: str, shape: tuple[int, int, int]) -> None:
    """Three updates from the same batch; L2 regularisation on the weights, not on the bias."""
    case = Layer(dtype, *shape)
    rate, l2 = 0.01, 0.1
    state = state_of(case, OPTIMIZERS[name])
    wanted = [naive.wide(case.W), naive.wide(case.b)]
    states = [naive.new_state(name, w) for w in wanted]
    gradients = naive.weight_gradient(case.X, case.delta)
    for step in (1, 2, 3):
        case.gradient(OPTIMIZERS[name], coefficients_of(OPTIMIZERS[name], step, rate, l2), state)
        for i in (0, 1):
            wanted[i], states[i] = naive.update(name, wanted[i], gradients[i], states[i], rate, step,
                                                l2=l2 if i == 0 else 0.0, **CONSTANTS.get(name, {}))
    magnitudes = naive.weight_gradient(np.abs(case.X), np.abs(case.delta))
    for found, w, m, start, g in zip(layout.unpack_layer(case.layer, case.parameters), wanted, magnitudes,
                                     (case.W, case.b), gradients, strict=True):
        error = error_bound(case.rows, m, dtype)  # of the gradient
        # Adam and its kin divide by the gradient's size: there the relative error counts, and steps are of one length.
        longest = LONGEST.get(name, 1.0) * rate
        moved = (longest * np.minimum(1.0, error / np.maximum(np.abs(g + l2 * start), 1e-30)) if name in LONGEST
                 else 10 * rate * error)
        rounding = 20 * np.finfo(dtype).eps * (np.abs(start) + np.abs(w) + longest)
        assert (np.abs(found - w) <= moved + rounding).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_update_from_several_parts_of_a_batch_is_that_from_the_whole(dtype: str, name: str) -> None:
    """Two parts write and add their gradients, the last one adds its own and makes the update: bit by bit."""
    optimizer = OPTIMIZERS[name]
    whole, parts = (Layer(dtype, 50, 70, 90, whole=True) for _ in range(2))
    state, state_of_parts = state_of(whole, optimizer), state_of(whole, optimizer)
    whole.gradient(optimizer, coefficients_of(optimizer, 1), state)
    X, delta = parts.X, parts.delta
    gradients = np.full(parts.count, np.nan, dtype)
    for first, last in ((0, 20), (20, 21), (21, 50)):
        parts.rows, parts.X, parts.delta = last - first, X[first:last], delta[first:last]
        gradients = parts.gradient(optimizer if last == 50 else updates.WRITE_GRADIENT, coefficients_of(optimizer, 1),
                                   state_of_parts, gradients, int(first > 0))
    np.testing.assert_array_equal(parts.parameters, whole.parameters)
    np.testing.assert_array_equal(state_of_parts, state)


@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_of_the_parameters_stays_zero_in_an_update(dtype: str) -> None:
    case = Layer(dtype, 17, 15, 33)
    case.gradient(updates.ADAM, coefficients_of(updates.ADAM, 1), state_of(case, updates.ADAM))
    used = np.zeros(case.count, dtype)
    layout.pack_layer(case.layer, used, np.ones((15, 33)), np.ones(33))
    assert (case.parameters[used == 0] == 0).all()
    assert (case.parameters[used == 1] != 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_nan(dtype: str) -> None:
    case = Layer(dtype, 12, 5, 40)
    case.delta[3, 17] = np.nan
    dW, db = layout.unpack_layer(case.layer, case.gradient())
    assert np.isnan(dW[:, 17]).all()
    assert np.isnan(db[17])
    assert np.isfinite(np.delete(dW, 17, axis=1)).all()
    assert np.isfinite(np.delete(db, 17)).all()


# ---- threads


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("parts", (2, 3))
def test_results_do_not_depend_on_how_the_items_are_shared_out(dtype: str, parts: int) -> None:
    """Ranges of items on threads of their own, at the same time, against all items on one: bit by bit."""
    for rows in (1, 2, 17, 61):
        case = Layer(dtype, rows, 53, 250, seed=rows)
        rng = np.random.default_rng(rows)
        np.testing.assert_array_equal(case.forward(activations.TANH, ranges=naive.cuts(case.items(), parts, rng)),
                                      case.forward(activations.TANH))
        z = rng.normal(size=(rows, 53))
        np.testing.assert_array_equal(case.backward(z, "elu", naive.cuts(case.backward_items(), parts, rng)),
                                      case.backward(z, "elu"))
        np.testing.assert_array_equal(case.gradient(ranges=naive.cuts(case.gradient_items(), parts, rng)),
                                      case.gradient())


@pytest.mark.parametrize("dtype", DTYPES)
def test_updates_do_not_depend_on_how_the_items_are_shared_out(dtype: str) -> None:
    results = []
    for parts in (1, 2, 3):
        case = Layer(dtype, 61, 53, 150)
        ranges = naive.cuts(case.gradient_items(), parts, np.random.default_rng(parts))
        state = state_of(case, updates.ADAM)
        case.gradient(updates.ADAM, coefficients_of(updates.ADAM, 1), state, ranges=ranges)
        results.append(np.concatenate([case.parameters, state]))
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])
