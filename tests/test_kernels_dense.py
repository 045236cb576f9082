"""The three products of a dense layer against the oracle: shapes, order of rows, strides, threads, NaN."""

from __future__ import annotations

import math
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import DTYPES, Array, error_bound

from fastmlp.kernels import activations, dense, layout, updates
from fastmlp.kernels.linking import kernel_table
from fastmlp.kernels.simd import TILE_ROWS, TILE_VECTORS, lanes_of

CODES = {"identity": activations.IDENTITY, "sigmoid": activations.SIGMOID, "tanh": activations.TANH,
         "relu": activations.RELU, "leaky_relu": activations.LEAKY_RELU, "elu": activations.ELU}
ALPHA = {"leaky_relu": 0.125, "elu": 1.5}
STEEPEST = {"sigmoid": 0.25, "elu": 1.5}  # the largest f'(z), where it is not 1
OPTIMIZERS = {"sgd": updates.SGD, "momentum": updates.MOMENTUM, "nesterov": updates.NESTEROV, "adam": updates.ADAM}

# rows, inputs, units
SHAPES = [(1, 1, 1), (2, 1, 3), (1, 7, 16), (15, 2, 1), (16, 16, 16), (17, 15, 33), (33, 100, 10), (14, 31, 32),
          (28, 32, 65), (100, 17, 2), (3, 257, 128), (57, 64, 100)]


def width_of(dtype: Any) -> int:
    """Columns of a panel."""
    return TILE_VECTORS * lanes_of(np.dtype(dtype).itemsize)


def items_for(columns: int, rows: int, dtype: Any) -> int:
    """Items of a call: panels times tiles of rows."""
    return math.ceil(columns / width_of(dtype)) * math.ceil(rows / TILE_ROWS)


def constants(dtype: Any) -> Array:
    """A register tile's row of zeros, then a one."""
    return np.array([0.0] * width_of(dtype) + [1.0], dtype)


class Layer:
    """A layer with random parameters, a batch of inputs in scattered rows and a batch of deltas."""

    def __init__(self, dtype: str, rows: int, inputs: int, units: int, seed: int = 0, whole: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.rng, self.dtype = rng, np.dtype(dtype)
        self.rows, self.inputs, self.units = rows, inputs, units

        def numbers(*shape: int) -> Array:
            """Whole numbers make every sum exact, so that results can be compared bit by bit with any order's."""
            return (rng.integers(-8, 9, shape) if whole else rng.normal(size=shape)).astype(dtype)

        self.W, self.b = numbers(inputs, units), numbers(units)
        self.layer = layout.layer_table([inputs, units], [0], self.dtype)[0]
        self.layer[layout.WEIGHTS] = 2 * width_of(dtype)  # not at the beginning of the parameters
        self.count = layout.parameter_count(self.layer[np.newaxis]) + 3 * width_of(dtype)
        self.parameters = layout.aligned_zeros(self.count, self.dtype)
        layout.pack_layer(self.layer, self.parameters, self.W, self.b)
        # The rows of the batch lie among others, in any order, further apart than they are long.
        self.index = rng.permutation(rows + 5)[:rows].astype(np.int64)
        self.x = np.full((rows + 5, inputs + 3), np.nan, dtype)
        self.X = numbers(rows, inputs)
        self.x[self.index, :inputs] = self.X
        self.padded, self.stride = int(self.layer[layout.PADDED]), int(self.layer[layout.STRIDE])
        self.delta = numbers(rows, units)
        self.deltas = np.zeros((rows, self.stride), dtype)
        self.deltas[:, :units] = self.delta

    def items(self) -> int:
        return items_for(self.padded, self.rows, self.dtype)

    def forward(self, code: int = activations.IDENTITY, alpha: float = 0.0,
                ranges: list[tuple[int, int]] | None = None) -> Array:
        """The outputs with their padding; `ranges` of items are worked on at the same time, a thread each."""
        outputs = np.full((self.rows, self.stride), np.nan, self.dtype)

        def call(first: int, last: int) -> None:
            dense.forward(kernel_table(self.dtype), self.layer, self.parameters, self.x, self.x.shape[1], self.index,
                          self.rows, outputs, code, alpha, first, last)

        at_once(call, ranges or [(0, self.items())])
        return outputs

    def backward(self, z_below: Array, name: str = "identity", ranges: list[tuple[int, int]] | None = None) -> Array:
        """The deltas of a layer below whose pre-activations are z_below, with their padding."""
        alpha = ALPHA.get(name, 0.0)
        below = layout.layer_table([1, self.inputs], [0], self.dtype)[0]
        stride = int(below[layout.STRIDE])
        outputs_below = np.zeros((self.rows, stride), self.dtype)
        outputs_below[:, : self.inputs] = naive.activation(name, z_below, alpha)
        deltas_below = np.full((self.rows, stride), np.nan, self.dtype)

        def call(first: int, last: int) -> None:
            scratch = np.full(self.units * width_of(self.dtype), np.nan, self.dtype)
            dense.backward(kernel_table(self.dtype), self.layer, below, self.parameters, self.deltas,
                           np.arange(self.rows), self.rows, deltas_below, outputs_below, CODES[name], alpha,
                           constants(self.dtype), scratch, first, last)

        at_once(call, ranges or [(0, items_for(int(below[layout.PADDED]), self.rows, self.dtype))])
        return deltas_below

    def gradient(self, optimizer: int = updates.WRITE_GRADIENT, coefficients: Array | None = None,
                 state: Array | None = None, gradients: Array | None = None, accumulate: int = 0,
                 ranges: list[tuple[int, int]] | None = None) -> Array:
        """The vector of gradients, or for an optimizer that of parameters."""
        if gradients is None:
            gradients = np.full(self.count, np.nan, self.dtype)
        if coefficients is None:
            coefficients = np.zeros(updates.COEFFICIENTS)
        if state is None:
            state = np.zeros(1, self.dtype)

        def call(first: int, last: int) -> None:
            scratch = np.full(TILE_ROWS * width_of(self.dtype), np.nan, self.dtype)
            dense.gradient(kernel_table(self.dtype), self.layer, self.x, self.x.shape[1], self.index, self.rows,
                           self.deltas, constants(self.dtype), optimizer, coefficients, self.parameters, state,
                           self.count, gradients, accumulate, scratch, first, last)

        at_once(call, ranges or [(0, items_for(self.padded, self.inputs, self.dtype))])
        return gradients if optimizer == updates.WRITE_GRADIENT else self.parameters


def at_once(call: Any, ranges: list[tuple[int, int]]) -> None:
    if len(ranges) == 1:
        call(*ranges[0])
    else:
        naive.in_threads(*(lambda first=first, last=last: call(first, last) for first, last in ranges))


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
def test_forward_writes_padding_and_nothing_after_it(dtype: str) -> None:
    """Columns between units and PADDED hold f(0), those up to STRIDE are left alone."""
    wide = 1024 // np.dtype(dtype).itemsize
    case = Layer(dtype, 5, 3, wide - 3)
    outputs = case.forward(activations.SIGMOID)
    assert case.stride > case.padded
    assert (outputs[:, case.units : case.padded] == 0.5).all()
    assert np.isnan(outputs[:, case.padded :]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_does_only_the_items_asked_for(dtype: str) -> None:
    case = Layer(dtype, 3 * TILE_ROWS, 4, 2 * width_of(dtype))
    whole = case.forward()
    for item in range(case.items()):
        part = case.forward(ranges=[(item, item + 1)])
        done = ~np.isnan(part)
        assert done.sum() == TILE_ROWS * width_of(dtype)
        np.testing.assert_array_equal(part[done], whole[done])
    assert np.isnan(case.forward(ranges=[(2, 2)])).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_do_not_depend_on_the_batch_they_are_in(dtype: str) -> None:
    case = Layer(dtype, 40, 30, 50)
    together = case.forward(activations.TANH)
    index = case.index
    for rows in (1, 13, TILE_ROWS + 1):
        case.rows, case.index = rows, index[20 : 20 + rows]
        np.testing.assert_array_equal(case.forward(activations.TANH)[:, : case.padded],
                                      together[20 : 20 + rows, : case.padded])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
def test_forward_of_nan_and_infinity(dtype: str, value: float) -> None:
    case = Layer(dtype, 20, 6, 40)
    case.x[case.index[7], 3] = value
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
    padded = layout.round_up(inputs, lanes_of(case.dtype.itemsize))
    assert (deltas[:, inputs:padded] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_backward_of_nan(dtype: str) -> None:
    case = Layer(dtype, 20, 35, 6)
    case.deltas[4, 2] = np.nan
    deltas = case.backward(case.rng.normal(size=(20, 35)), "tanh")[:, :35]
    assert np.isnan(deltas[4]).all()
    assert np.isfinite(np.delete(deltas, 4, axis=0)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "columns", "from_row", "rows_taken"),
                         [(5, 3, 0, 5), (40, 70, 8, 20), (33, 16, 32, 1)])
def test_transposed_weights(dtype: str, rows: int, columns: int, from_row: int, rows_taken: int) -> None:
    case = Layer(dtype, 1, rows, columns)
    width = width_of(dtype)
    target = np.full((columns + 1, width), np.nan, dtype)
    dense.transpose_weights(kernel_table(case.dtype), case.layer, case.parameters, from_row, min(rows_taken, width),
                            target, width)
    taken = min(rows_taken, width)
    np.testing.assert_array_equal(target[:columns, :taken], case.W[from_row : from_row + taken].T)
    assert (target[:columns, taken:] == 0).all()
    assert np.isnan(target[columns]).all()


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
@pytest.mark.parametrize("shape", SHAPES)
def test_accumulated_gradients_are_added_to_what_is_there(dtype: str, shape: tuple[int, int, int]) -> None:
    case = Layer(dtype, *shape, whole=True)
    once = case.gradient()
    twice = case.gradient(gradients=once.copy(), accumulate=1)
    np.testing.assert_array_equal(twice, 2 * once)


def test_accumulation_in_parts_makes_the_whole_gradient() -> None:
    case = Layer("float64", 50, 20, 30, whole=True)
    whole = case.gradient()
    index, deltas = case.index, case.deltas
    gradients = np.full(case.count, np.nan)
    for first, last in ((0, 20), (20, 21), (21, 50)):
        case.rows, case.index, case.deltas = last - first, index[first:last], deltas[first:last]
        case.gradient(gradients=gradients, accumulate=int(first > 0))
    np.testing.assert_array_equal(gradients, whole)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (17, 15, 33), (33, 100, 10), (3, 65, 128)])
def test_updates_fused_with_the_gradient(dtype: str, name: str, shape: tuple[int, int, int]) -> None:
    """Three updates from the same batch; L2 regularisation on the weights, not on the bias."""
    case = Layer(dtype, *shape)
    rate, l2 = 0.01, 0.1
    settings_ = np.zeros(updates.SETTINGS)
    settings_[[updates.L2, updates.DECAY_1, updates.DECAY_2, updates.EPSILON]] = l2, 0.9, 0.999, 1e-8
    state = np.zeros(updates.STATE_SLOTS[OPTIMIZERS[name]] * case.count + 1, dtype)
    wanted = [naive.wide(case.W), naive.wide(case.b)]
    states = [naive.new_state(name, w) for w in wanted]
    gradients = naive.weight_gradient(case.X, case.delta)
    for step in (1, 2, 3):
        coefficients = np.zeros(updates.COEFFICIENTS)
        updates.step_coefficients.py_func(OPTIMIZERS[name], settings_, rate, step, coefficients)
        case.gradient(OPTIMIZERS[name], coefficients, state)
        for i in (0, 1):
            wanted[i], states[i] = naive.update(name, wanted[i], gradients[i], states[i], rate, step,
                                                l2=l2 if i == 0 else 0.0)
    magnitudes = naive.weight_gradient(np.abs(case.X), np.abs(case.delta))
    for found, w, m, start, g in zip(layout.unpack_layer(case.layer, case.parameters), wanted, magnitudes,
                                     (case.W, case.b), gradients, strict=True):
        error = error_bound(case.rows, m, dtype)  # of the gradient
        # Adam divides by the gradient's size: there the relative error counts, and a step is one rate long at most.
        moved = (3 * rate * np.minimum(1.0, error / np.maximum(np.abs(g + l2 * start), 1e-30)) if name == "adam"
                 else 10 * rate * error)
        rounding = 20 * np.finfo(dtype).eps * (np.abs(start) + np.abs(w) + rate)
        assert (np.abs(found - w) <= moved + rounding).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_padding_of_the_parameters_stays_zero_in_an_update(dtype: str) -> None:
    case = Layer(dtype, 17, 15, 33)
    settings_ = np.zeros(updates.SETTINGS)
    settings_[[updates.L2, updates.DECAY_1, updates.DECAY_2, updates.EPSILON]] = 0.1, 0.9, 0.999, 1e-8
    coefficients = np.zeros(updates.COEFFICIENTS)
    updates.step_coefficients.py_func(updates.ADAM, settings_, 0.01, 1, coefficients)
    case.gradient(updates.ADAM, coefficients, np.zeros(2 * case.count, dtype))
    used = np.zeros(case.count, dtype)
    layout.pack_layer(case.layer, used, np.ones((15, 33)), np.ones(33))
    assert (case.parameters[used == 0] == 0).all()
    assert (case.parameters[used == 1] != 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_of_nan(dtype: str) -> None:
    case = Layer(dtype, 12, 5, 40)
    case.deltas[3, 17] = np.nan
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
    for seed in range(5):
        case = Layer(dtype, 61, 53, 150, seed)
        rng = np.random.default_rng(seed)
        np.testing.assert_array_equal(case.forward(activations.TANH, ranges=naive.cuts(case.items(), parts, rng)),
                                      case.forward(activations.TANH))
        z = rng.normal(size=(61, 53))
        items = items_for(layout.round_up(53, lanes_of(case.dtype.itemsize)), 61, dtype)
        np.testing.assert_array_equal(case.backward(z, "elu", naive.cuts(items, parts, rng)), case.backward(z, "elu"))
        items = items_for(case.padded, case.inputs, dtype)
        np.testing.assert_array_equal(case.gradient(ranges=naive.cuts(items, parts, rng)), case.gradient())


@pytest.mark.parametrize("dtype", DTYPES)
def test_updates_do_not_depend_on_how_the_items_are_shared_out(dtype: str) -> None:
    coefficients = np.zeros(updates.COEFFICIENTS)
    settings_ = np.array([0.1, 0.9, 0.999, 1e-8])
    updates.step_coefficients.py_func(updates.ADAM, settings_, 0.01, 1, coefficients)
    results = []
    for parts in (1, 2, 3):
        case = Layer(dtype, 61, 53, 150)
        items = items_for(case.padded, case.inputs, dtype)
        ranges = naive.cuts(items, parts, np.random.default_rng(parts))
        results.append(case.gradient(updates.ADAM, coefficients, np.zeros(2 * case.count, dtype), ranges=ranges))
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])
