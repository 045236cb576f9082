"""No element outside of any array is read or written.

The kernels run on arrays that end right before a protected memory page, or begin right after one, so that one element
too far ends the process. That happens in a process of its own, which is this file run as a script.
"""

from __future__ import annotations

import ctypes
import faulthandler
import math
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

PAGE = mmap.PAGESIZE


def _mprotect() -> Any:
    """The system's mprotect, or None where there is none."""
    if os.name != "posix":
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "mprotect", None)
    if function is not None:
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function


MPROTECT = _mprotect()


# ---- guarded memory


class Guard:
    """Makes arrays that touch a protected page with their last element ("end") or their first ("begin")."""

    def __init__(self, placement: str) -> None:
        self.at_end = {"end": True, "begin": False}[placement]

    def empty(self, count: int, dtype: Any) -> Any:
        """Array of `count` elements, filled with what makes a sum that takes it in conspicuous."""
        dtype = np.dtype(dtype)
        size = count * dtype.itemsize
        if size == 0:
            return np.empty(0, dtype)
        pages = math.ceil(size / PAGE)
        memory = mmap.mmap(-1, (pages + 2) * PAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for page in (0, pages + 1):
            if MPROTECT(address + page * PAGE, PAGE, 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect failed")
        start = (pages + 1) * PAGE - size if self.at_end else PAGE
        array = np.frombuffer(memory, dtype, count, start)
        array.view(np.uint8)[:] = 0xFF  # NaN, -1, 255
        return array

    def copy(self, array: Any) -> Any:
        """A guarded copy in C order."""
        array = np.asarray(array)
        copied = self.empty(array.size, array.dtype).reshape(array.shape)
        copied[...] = array
        return copied

    def zeros(self, shape: Any, dtype: Any = np.float64) -> Any:
        count = math.prod(shape) if isinstance(shape, tuple) else int(shape)
        array = self.empty(count, dtype)
        array[:] = 0
        return array.reshape(shape)

    def rows(self, array: Any, stride: int) -> Any:
        """Rows `stride` elements apart, of which the last one ends with its last element; returns the flat array."""
        count, columns = array.shape
        flat = self.empty((count - 1) * stride + columns, array.dtype)
        for r, row in enumerate(array):
            flat[r * stride : r * stride + columns] = row
        return flat

    def strided(self, array: Any, stride: int) -> Any:
        """The same as a 2-d view."""
        flat = self.rows(array, stride)
        return np.lib.stride_tricks.as_strided(flat, array.shape, (stride * array.itemsize, array.itemsize))


class GuardedNumpy:
    """NumPy whose new arrays are guarded."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard

    def __getattr__(self, name: str) -> Any:
        made = getattr(np, name)
        if name not in ("zeros", "empty", "arange", "array", "ascontiguousarray"):
            return made
        return lambda *arguments, **options: self.guard.copy(made(*arguments, **options))


# ---- what runs in a process of its own


DTYPES = ("float32", "float64")
SHAPES = [(1, 1, 1), (2, 1, 15), (1, 2, 16), (15, 17, 33), (16, 100, 10), (33, 33, 17), (29, 16, 64), (3, 31, 100)]


def run_kernels(placement: str) -> None:
    """Every kernel with every array as long as its description says, and not an element longer."""
    from fastmlp.kernels import activations, batches, dense, layout, losses, tile, updates
    from fastmlp.kernels.linking import kernel_table
    from fastmlp.kernels.simd import TILE_ROWS, TILE_VECTORS, lanes_of

    guard = Guard(placement)
    rng = np.random.default_rng(0)
    for dtype in map(np.dtype, DTYPES):
        kernels = guard.copy(kernel_table(dtype))
        lanes = lanes_of(dtype.itemsize)
        width = TILE_VECTORS * lanes
        constants = guard.copy(np.array([0.0] * width + [1.0], dtype))

        def items_for(columns: int, rows: int, width: int = width) -> int:
            return math.ceil(columns / width) * math.ceil(rows / TILE_ROWS)

        def numbers(*shape: int, dtype: Any = dtype) -> Any:
            return rng.normal(size=shape).astype(dtype)

        for height in (1, TILE_ROWS):
            for vectors in range(1, TILE_VECTORS + 1):
                columns, steps = vectors * lanes, 5
                c = guard.rows(numbers(height, columns), columns + 3)
                b = guard.rows(numbers(steps, columns), columns + 1)
                start = guard.rows(numbers(height, columns), columns + 2)
                for kernel, rows, length in ((tile.row_tile, height, steps), (tile.column_tile, steps, height)):
                    a = guard.rows(numbers(rows, length), length + 4)
                    kernel(kernels, height, vectors, steps, a, length + 4, guard.copy(rng.permutation(rows)), b,
                           columns + 1, start, columns + 2, c, columns + 3)
                    assert np.isfinite(c[:columns]).all()

        for rows, inputs, units in SHAPES:
            table = layout.layer_table([inputs, units], [0], dtype)
            layer, below = guard.copy(table[0]), guard.copy(layout.layer_table([1, inputs], [0], dtype)[0])
            padded, stride = int(layer[layout.PADDED]), int(layer[layout.STRIDE])
            padded_below, stride_below = int(below[layout.PADDED]), int(below[layout.STRIDE])
            count = layout.parameter_count(table)
            parameters = guard.zeros(count, dtype)
            layout.pack_layer(layer, parameters, numbers(inputs, units), numbers(units))
            index = guard.copy(rng.permutation(rows))
            row_numbers = guard.copy(np.arange(rows))
            x_stride = inputs + 3
            x = guard.rows(numbers(rows, inputs), x_stride)

            outputs = guard.rows(np.zeros((rows, padded), dtype), stride)
            for code in range(activations.SOFTMAX):
                dense.forward(kernels, layer, parameters, x, x_stride, index, rows, outputs, code, 0.5, 0,
                              items_for(padded, rows))
                assert np.isfinite(outputs[:units]).all()

            panel = guard.empty(units * min(width, padded_below), dtype)
            dense.transpose_weights(kernels, layer, parameters, 0, min(width, inputs), panel, min(width, padded_below))

            deltas = guard.rows(np.pad(numbers(rows, units), ((0, 0), (0, padded - units))), stride)
            outputs_below = guard.rows(np.abs(np.tanh(numbers(rows, padded_below))), stride_below)
            for code in range(activations.SOFTMAX):
                deltas_below = guard.rows(np.zeros((rows, padded_below), dtype), stride_below)
                dense.backward(kernels, layer, below, parameters, deltas, row_numbers, rows, deltas_below,
                               outputs_below, code, 0.5, guard.zeros(width, dtype), guard.empty(units * width, dtype),
                               0, items_for(padded_below, rows))
                assert np.isfinite(deltas_below[:inputs]).all()

            state, gradients = guard.zeros(2 * count, dtype), guard.zeros(count, dtype)
            settings = np.array([0.1, 0.9, 0.999, 1e-8])
            for optimizer in range(updates.ADAM + 1):
                coefficients = guard.zeros(updates.COEFFICIENTS)
                updates.step_coefficients.py_func(optimizer, settings, 0.01, 1, coefficients)
                slots = guard.copy(state[: updates.STATE_SLOTS[optimizer] * count])
                for accumulate in (0, 1) if optimizer == updates.WRITE_GRADIENT else (0,):
                    dense.gradient(kernels, layer, x, x_stride, index, rows, deltas, constants, optimizer,
                                   coefficients, parameters, slots, count, gradients, accumulate,
                                   guard.empty(TILE_ROWS * width, dtype), 0, items_for(padded, inputs))
                assert np.isfinite(parameters).all()
                if optimizer != updates.WRITE_GRADIENT:
                    w, g, one, two = (guard.copy(numbers(padded)) for _ in range(4))
                    updates.update(kernels, optimizer, coefficients, 1, padded, w, g, one, np.abs(two, out=two))

            for code in range(activations.SOFTMAX):
                block = guard.rows(numbers(rows, padded), stride)
                activations.activate(kernels, code, 0.5, block, stride, rows, padded)
                activations.multiply_by_derivative(kernels, code, 0.5, guard.copy(block), block, stride, rows, padded)
            block = guard.rows(numbers(rows, padded), stride)
            activations.softmax_rows(kernels, block, stride, rows, units)
            activations.softmax_backward_rows(kernels, guard.copy(block), block, stride, rows, units)

            labels = guard.copy(rng.integers(0, units, rows))
            targets = [labels, *(guard.strided(rng.random((rows, units)).astype(kind), units + 2) for kind in DTYPES)]
            for y, kind in zip(targets, (batches.LABELS, batches.FLOAT32, batches.FLOAT64), strict=True):
                for loss in range(losses.MEAN_SQUARED_ERROR + 1):
                    if kind == batches.LABELS and loss != losses.CROSS_ENTROPY:
                        continue
                    row_losses = guard.zeros(rows)
                    losses.loss_rows(kernels, loss, outputs, stride, units, y.ctypes.data, kind,
                                     y.strides[0] // y.itemsize, index, rows, 0.5, guard.empty(padded, dtype),
                                     guard.rows(np.zeros((rows, padded), dtype), stride), row_losses)
                    assert np.isfinite(row_losses).all()

            mean, scale = guard.copy(numbers(inputs)), guard.copy(numbers(inputs))
            for kind, source in ((batches.FLOAT32, "float32"), (batches.FLOAT64, "float64"), (batches.UINT8, "uint8")):
                given = guard.rows(rng.integers(0, 200, (rows, inputs)).astype(source), x_stride)
                staged = guard.rows(np.zeros((rows, inputs), dtype), inputs + 1)
                batches.stage_rows(kernels, given.ctypes.data, kind, x_stride, index, rows, inputs, mean, scale, staged,
                                   inputs + 1)
                assert np.isfinite(staged[:inputs]).all()

    run_shuffle(guard)


def run_shuffle(guard: Guard) -> None:
    from numba import njit, types

    from fastmlp.kernels import random

    @njit(types.void(types.Array(types.int64, 1, "C"), types.int64))
    def shuffle(order: Any, count: int) -> None:
        random.shuffle(order, count, 1, 2)

    for count in (1, 2, 17, 1000):
        order = guard.empty(count, np.int64)
        shuffle(order, count)
        assert sorted(order.tolist()) == list(range(count))


def run_api(placement: str) -> None:
    """Training, prediction, evaluation and gradients, with inputs, targets and all of the engine's memory guarded."""
    import naive

    import fastmlp
    from fastmlp import engine, model, threads, trainer
    from fastmlp.kernels import layout

    guard = Guard(placement)
    guarded_numpy = GuardedNumpy(guard)
    plain_table = engine.kernel_table
    for module in (engine, model, trainer):
        module.np = guarded_numpy  # type: ignore[attr-defined]
    layout.aligned_zeros = guard.zeros
    engine.kernel_table = lambda dtype: guard.copy(plain_table(dtype))

    rng = np.random.default_rng(0)

    def train(sizes: list[int], rows: int, batch: int, kind: str, dtype: str, activation: str, output: str, loss: str,
              optimizer: str) -> None:
        values = rng.integers(0, 256, (rows, sizes[0])) if kind == "uint8" else rng.normal(size=(rows, sizes[0]))
        X = guard.strided(values.astype(kind), sizes[0] + 3)
        if loss == "cross_entropy":
            y = guard.copy(rng.integers(0, sizes[-1], rows))
            targets = naive.one_hot(y, sizes[-1])
        else:
            y = guard.strided(rng.integers(0, 2, (rows, sizes[-1])).astype(dtype), sizes[-1] + 1)
            targets = np.asarray(y)
        mean, std = (100.0, 50.0) if kind == "uint8" else (0.0, 1.0)
        net = fastmlp.MLP(sizes, activation, output, dtype=dtype, seed=0, input_mean=mean, input_std=std)
        weights = net.get_weights()
        net.set_weights([guard.copy(w) for w in weights])
        layers = [(W, b, str(layer.activation), 0.01 if layer.activation == "leaky_relu" else 1.0)
                  for W, b, layer in zip(weights[::2], weights[1::2], net.layers, strict=True)]
        standardised = naive.stage(X, mean, 1 / std)
        tolerance = {"rtol": 1e-3, "atol": 1e-4}
        np.testing.assert_allclose(net.forward(X), naive.forward(standardised, layers), **tolerance)
        net.forward(X[:1])
        value, gradients = net.loss_and_gradients(X, y, loss)
        wanted, exact = naive.loss_and_gradients(standardised, targets, layers, loss)
        np.testing.assert_allclose(value, wanted, **tolerance)
        for found, gradient in zip(gradients, exact, strict=True):
            np.testing.assert_allclose(found, gradient, **tolerance)
        coach = fastmlp.Trainer(net, loss, optimizer, batch_size=batch, l2=1e-4)
        history = coach.fit(X, y, epochs=2, validation_data=(X[: rows // 2 + 1], y[: rows // 2 + 1]), progress=False)
        assert math.isfinite(history[-1]["loss"])
        assert math.isfinite(coach.step(X, y))
        assert math.isfinite(coach.evaluate(X, y)["loss"])

    for number in sorted({1, min(2, threads.available_threads())}):
        threads.set_num_threads(number)
        for dtype in DTYPES:
            for kind in ("float32", "float64", "uint8"):
                train([17, 33, 10], 61, 16, kind, dtype, "relu", "softmax", "cross_entropy", "adam")
        train([1, 1], 1, 1, "float32", "float32", "tanh", "sigmoid", "binary_cross_entropy", "sgd")
        train([2, 5, 1], 33, 32, "float64", "float32", "tanh", "sigmoid", "binary_cross_entropy", "momentum")
        train([33, 16, 17, 2], 50, 7, "float32", "float32", "elu", "sigmoid", "binary_cross_entropy", "nesterov")
        train([5, 40, 3], 50, 13, "float64", "float64", "leaky_relu", "identity", "mean_squared_error", "adam")
        train([15, 64, 3], 40, 40, "float32", "float32", "sigmoid", "softmax", "half_squared_error", "sgd")
        # A small network with a large batch: in groups. A large one: on several threads.
        train([7, 9, 4], 700, 512, "uint8", "float32", "tanh", "softmax", "cross_entropy", "momentum")
        train([100, 257, 130, 10], 150, 64, "float32", "float32", "relu", "softmax", "cross_entropy", "adam")


def touch(placement: str, how: str) -> None:
    """Read or write one element beyond an array by Python itself, or by a kernel that is told a wrong size."""
    guard = Guard(placement)
    array = guard.zeros(16, np.float32)
    beyond = 16 * 4 if placement == "end" else -4
    if how == "inside":
        ctypes.memmove(array.ctypes.data, bytes(64), 64)
    elif how == "read":
        ctypes.string_at(array.ctypes.data + beyond, 1)
    elif how == "write":
        ctypes.memset(array.ctypes.data + beyond, 0, 1)
    else:
        from fastmlp.kernels import activations
        from fastmlp.kernels.linking import kernel_table
        from fastmlp.kernels.simd import lanes_of

        lanes = lanes_of(4)
        block = guard.zeros(4 * lanes, np.float32)
        shifted = block[1:] if placement == "end" else block.ctypes.data - 4
        if how == "kernel inside":
            shifted = block
        kernels = kernel_table(np.dtype(np.float32))
        activations.activate(kernels, activations.RELU, 0.0, shifted, 4 * lanes, 1, 4 * lanes)


SCRIPTS: dict[str, Callable[..., None]] = {"kernels": run_kernels, "api": run_api, "touch": touch}


# ---- the tests


pytestmark = pytest.mark.skipif(MPROTECT is None, reason="needs mprotect")


def run_guarded(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    return done.returncode, done.stderr


@pytest.mark.parametrize("placement", ("end", "begin"))
@pytest.mark.parametrize("how", ("read", "write", "kernel"))
def test_the_guard_sees_one_element_outside(how: str, placement: str) -> None:
    code, _ = run_guarded("touch", placement, how)
    assert code in (-signal.SIGSEGV, -signal.SIGBUS)


@pytest.mark.parametrize("placement", ("end", "begin"))
@pytest.mark.parametrize("how", ("inside", "kernel inside"))
def test_the_guard_lets_the_array_itself_be_used(how: str, placement: str) -> None:
    assert run_guarded("touch", placement, how) == (0, "")


@pytest.mark.parametrize("placement", ("end", "begin"))
def test_kernels_stay_inside_their_arrays(placement: str) -> None:
    code, errors = run_guarded("kernels", placement)
    assert code == 0, errors


@pytest.mark.parametrize("placement", ("end", "begin"))
def test_training_and_prediction_stay_inside_their_arrays(placement: str) -> None:
    code, errors = run_guarded("api", placement)
    assert code == 0, errors


if __name__ == "__main__":
    faulthandler.enable()
    SCRIPTS[sys.argv[1]](*sys.argv[2:])
