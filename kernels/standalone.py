"""The kernels one by one, on NumPy arrays: for use outside a training loop, for tests and benchmarks.

Every function here checks its arrays, lays them out as the kernels want them, and calls the kernel; the products on
several threads if asked to. Arrays are float32 or float64, all of one dtype; results are new arrays. Activations,
losses and optimizers are named by the codes of `activations`, `losses` and `updates`.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numba import config

from . import activations, batches, layout, losses, products, updates
from .dense import backward, gradient
from .linking import FLOATS, kernel_table
from .simd import TILE_VECTORS, lanes_of
from .threading_layer import LEAST_PARALLEL_WORK, team_of

Array = np.ndarray[Any, np.dtype[Any]]


def _check(name: str, array: Any, shape: tuple[int | None, ...], dtype: np.dtype[Any] | None = None) -> Array:
    """Return `array` in C order if it has the shape (None for any length but 0) and dtype."""
    # What is as it should be passes without more ado: a small product takes hardly longer than these checks.
    if (type(array) is np.ndarray and array.dtype in ((dtype,) if dtype else FLOATS) and array.flags.carray
            and array.ndim == len(shape) and all(n and m in (None, n) for n, m in zip(array.shape, shape))):  # noqa: B905
        return array
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be an array, got {type(array).__name__}")
    allowed = ("float32", "float64") if dtype is None else (np.dtype(dtype).name,)
    if array.dtype.name not in allowed or not array.dtype.isnative:
        raise TypeError(f"{name} must be of dtype {' or '.join(allowed)}, got {array.dtype}")
    wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
    fits = array.ndim == len(shape) and all(m in (None, n) for n, m in zip(array.shape, shape, strict=True))
    if not fits or 0 in array.shape:
        raise ValueError(f"{name} must have shape {wanted} and no length 0, got {array.shape}")
    return np.require(array, requirements=["C", "A", "W"])


def _check_code(name: str, code: Any, codes: range) -> int:
    if isinstance(code, bool) or not isinstance(code, (int, np.integer)):
        raise TypeError(f"{name} must be an integer code from 0 to {codes[-1]}, got {code!r}")
    if code not in codes:
        raise ValueError(f"{name} must be an integer code from 0 to {codes[-1]}, got {code!r}")
    return int(code)


def _check_threads(threads: Any) -> int:
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)):
        raise TypeError(f"threads must be an integer from 1 to {config.NUMBA_NUM_THREADS}, got {threads!r}")
    if not 1 <= threads <= config.NUMBA_NUM_THREADS:
        raise ValueError(f"threads must be an integer from 1 to {config.NUMBA_NUM_THREADS}, got {threads!r}")
    return int(threads)


ACTIVATIONS = range(activations.SOFTMAX + 1)
LOSSES = range(losses.CODES)


def _to_panels(matrix: Array) -> Array:
    """Copy a 2-d array to column panels, with zeros in the padding."""
    rows, columns = matrix.shape
    panels = layout.aligned_zeros(rows * layout.round_up(columns, lanes_of(matrix.itemsize)), matrix.dtype)
    batches.stage_rows(kernel_table(matrix.dtype), matrix.ctypes.data, batches.FLOAT32, 1, columns, np.arange(rows),
                       rows, 0, rows, columns, matrix, matrix, 0, matrix, panels, np.zeros(1, np.int64))
    return panels


def _from_panels(panels: Array, rows: int, columns: int) -> Array:
    """Copy column panels to a 2-d array."""
    matrix = np.empty((rows, columns), panels.dtype)
    kernels = kernel_table(panels.dtype, batches.unstage_rows)
    batches.unstage_rows(kernels, panels, rows, 0, rows, columns, matrix, columns)
    return matrix


def _whole_registers(array: Array) -> Array:
    """Copy an array to a flat one of whole registers."""
    flat = layout.aligned_zeros(layout.round_up(array.size, lanes_of(array.itemsize)), array.dtype)
    flat[: array.size] = array.ravel()
    return flat


def _row_scratch(units: int, dtype: np.dtype[Any]) -> Array:
    """Memory for what works on a register full of rows."""
    return layout.aligned_zeros(layout.row_scratch_size(units, dtype.itemsize), dtype)


class _Memory(threading.local):
    """What the products of one thread work in; it grows with the largest product."""

    def __init__(self) -> None:
        self.numbers = {np.dtype(dtype): layout.aligned_zeros(0, np.dtype(dtype)) for dtype in ("float32", "float64")}
        self.integers = np.zeros(0, np.int64)

    def reserve(self, dtype: np.dtype[Any], rows: int, inputs: int, units: int, threads: int) -> tuple[Array, Array]:
        """Return the two arrays that `products.multiply` takes."""
        lanes = lanes_of(dtype.itemsize)
        padded_inputs, padded_units = layout.round_up(inputs, lanes), layout.round_up(units, lanes)
        size = (2 * rows * (padded_inputs + padded_units) + (inputs + 1) * padded_units
                + threads * (padded_units + 1) * TILE_VECTORS * lanes)
        if len(self.numbers[dtype]) < size:
            self.numbers[dtype] = layout.aligned_zeros(size, dtype)
        count = products.ROW_NUMBERS + max(rows, inputs)
        if len(self.integers) < count:
            self.integers = np.zeros(2 * count, np.int64)
            self.integers[products.ROW_NUMBERS :] = np.arange(2 * count - products.ROW_NUMBERS)
        return self.numbers[dtype], self.integers


_memory = _Memory()


def _multiply(program: int, threads: int, activation: int, alpha: float, first: Array, second: Array, vector: Array,
              outputs: Array, result: Array) -> None:
    """Call `products.multiply` on up to `threads` threads."""
    inputs, units = result.shape if program == products.GRADIENT else second.shape
    rows = len(first)
    if threads > 1 and rows * inputs * units < LEAST_PARALLEL_WORK:
        threads = 1
    numbers, integers = _memory.reserve(first.dtype, rows, inputs, units, threads)
    kernels = kernel_table(first.dtype, backward, gradient, batches.unstage_rows)
    if threads == 1:
        products.multiply(program, 1, kernels, integers, activation, alpha, numbers, first, second, vector, outputs,
                          result)
        return
    with team_of(threads) as parts:
        products.multiply(program, parts, kernels, integers, activation, alpha, numbers, first, second, vector,
                          outputs, result)


def dense_forward(X: Array, weights: Array, bias: Array, activation: int = activations.IDENTITY, alpha: float = 0.0,
                  threads: int = 1) -> Array:
    """Matmul, bias and activation of a dense layer: f(X W + b).

    Parameters
    ----------
    X : array (rows, inputs)
    weights, bias : arrays (inputs, units) and (units,)
    activation : int
        Code of f.
    alpha : float
        Slope of leaky relu, alpha of elu.
    threads : int
        Most threads to work on; small products take one.

    Returns
    -------
    array (rows, units)
    """
    X = _check("X", X, (None, None))
    weights = _check("weights", weights, (None, None), X.dtype)
    inputs, units = weights.shape
    X = _check("X", X, (None, inputs))
    bias = _check("bias", bias, (units,), X.dtype)
    activation = _check_code("activation", activation, ACTIVATIONS)
    result = np.empty((len(X), units), X.dtype)
    _multiply(products.FORWARD, _check_threads(threads), activation, float(alpha), X, weights, bias, X, result)
    return result


def activate(z: Array, activation: int, alpha: float = 0.0) -> Array:
    """f(z), element by element; softmax by rows. z is (rows, units)."""
    z = _check("z", z, (None, None))
    activation = _check_code("activation", activation, ACTIVATIONS)
    kernels, (rows, units) = kernel_table(z.dtype), z.shape
    if activation == activations.SOFTMAX:
        panels = _to_panels(z)
        activations.softmax_rows(kernels, panels, rows, 0, rows, units, _row_scratch(units, z.dtype))
        return _from_panels(panels, rows, units)
    flat = _whole_registers(z)
    activations.activate(kernels, activation, alpha, flat, len(flat))
    return flat[: z.size].reshape(z.shape)


def activation_backward(delta: Array, a: Array, activation: int, alpha: float = 0.0) -> Array:
    """Loss by z from loss by a = f(z): delta * f'(z), computed from a; for softmax, p (delta - sum p delta)."""
    delta = _check("delta", delta, (None, None))
    a = _check("a", a, delta.shape, delta.dtype)
    activation = _check_code("activation", activation, ACTIVATIONS)
    kernels, (rows, units) = kernel_table(a.dtype), a.shape
    if activation == activations.SOFTMAX:
        deltas = _to_panels(delta)
        activations.softmax_backward_rows(kernels, deltas, _to_panels(a), rows, 0, rows, units,
                                          _row_scratch(units, a.dtype))
        return _from_panels(deltas, rows, units)
    flat = _whole_registers(delta)
    activations.multiply_by_derivative(kernels, activation, alpha, flat, _whole_registers(a), len(flat))
    return flat[: a.size].reshape(a.shape)


def loss_and_delta(outputs: Array, targets: Array, loss: int, parameter: float = 0.0) -> tuple[float, Array]:
    """Mean loss over the rows and its derivative by `outputs`, in one pass.

    Parameters
    ----------
    outputs : array (rows, units)
        For the two cross entropies pre-activations z, whose softmax or sigmoid the loss takes; else outputs.
    targets : array
        int64 labels (rows,) for cross entropy, or (rows, units) of the dtype of `outputs`. A label that is none of
        the units gives NaN.
    loss : int
        Code of the loss.
    parameter : float
        Label smoothing of the two cross entropies, delta of Huber's loss, for which it must be above 0.
    """
    outputs = _check("outputs", outputs, (None, None))
    loss = _check_code("loss", loss, LOSSES)
    if loss == losses.HUBER and not parameter > 0.0:
        raise ValueError(f"parameter must be a number above 0 for Huber's loss, got {parameter!r}")
    rows, units = outputs.shape
    if loss == losses.CROSS_ENTROPY and isinstance(targets, np.ndarray) and targets.ndim == 1:
        targets, kind = _check("targets", targets, (rows,), np.dtype(np.int64)), batches.LABELS
    else:
        targets = _check("targets", targets, outputs.shape, outputs.dtype)
        kind = batches.FLOAT32 if outputs.dtype == np.float32 else batches.FLOAT64
    panels = _to_panels(outputs)
    deltas, row_losses = np.zeros_like(panels), np.zeros(rows)
    losses.loss_rows(kernel_table(outputs.dtype), loss, parameter, panels, rows, 0, rows, units, targets.ctypes.data,
                     kind, units, 0, np.arange(rows), 1.0 / rows, _row_scratch(units, outputs.dtype), deltas,
                     row_losses)
    return float(row_losses.mean()), _from_panels(deltas, rows, units)


def dense_backward(delta: Array, weights: Array, a: Array | None = None, activation: int = activations.IDENTITY,
                   alpha: float = 0.0, threads: int = 1) -> Array:
    """Fused backprop delta: (delta W^T) * f'(z) of the layer below, whose outputs f(z) are `a`; not for softmax.

    Parameters
    ----------
    delta : array (rows, units)
    weights : array (inputs, units)
    a : array (rows, inputs)
        May be left out where f is the identity.
    activation, alpha, threads
        As in `dense_forward`.

    Returns
    -------
    array (rows, inputs)
    """
    weights = _check("weights", weights, (None, None))
    inputs, units = weights.shape
    delta = _check("delta", delta, (None, units), weights.dtype)
    rows = len(delta)
    activation = _check_code("activation", activation, ACTIVATIONS[:-1])
    if a is None and activation != activations.IDENTITY:
        raise TypeError("a must be an array where the activation is not the identity, got None")
    outputs = delta if a is None else _check("a", a, (rows, inputs), delta.dtype)
    result = np.empty((rows, inputs), delta.dtype)
    _multiply(products.BACKWARD, _check_threads(threads), activation, float(alpha), delta, weights, weights[0],
              outputs, result)
    return result


def weight_gradient(a: Array, delta: Array, threads: int = 1) -> tuple[Array, Array]:
    """dW = a^T delta (inputs, units) and db = sum of the rows of delta (units,).

    Parameters
    ----------
    a, delta : arrays (rows, inputs) and (rows, units)
    threads : int
        As in `dense_forward`.
    """
    a = _check("a", a, (None, None))
    delta = _check("delta", delta, (len(a), None), a.dtype)
    gradient, bias_gradient = np.empty((a.shape[1], delta.shape[1]), a.dtype), np.empty(delta.shape[1], a.dtype)
    _multiply(products.GRADIENT, _check_threads(threads), activations.IDENTITY, 0.0, a, delta, bias_gradient, a,
              gradient)
    return gradient, bias_gradient


def update(
    optimizer: int,
    w: Array,
    g: Array,
    state: list[Array],
    learning_rate: float,
    step: int = 1,
    decay_1: float = 0.9,
    decay_2: float = 0.999,
    epsilon: float = 1e-8,
    l2: float = 0.0,
) -> tuple[Array, list[Array]]:
    """One update of parameters w from their gradient g; returns the new parameters and state.

    Parameters
    ----------
    optimizer : int
        One of `updates`, but WRITE_GRADIENT.
    w, g : arrays (n,)
    state : list of arrays (n,)
        As many as `updates.STATE_SLOTS` tells.
    step : int
        Number of the update, from 1, for Adam's bias correction.
    """
    w = _check("w", w, (None,))
    g = _check("g", g, w.shape, w.dtype)
    slots = updates.STATE_SLOTS[_check_code("optimizer", optimizer, range(updates.SGD, updates.NADAM + 1))]
    if len(state) != slots:
        raise ValueError(f"state must hold {slots} arrays for this optimizer, got {len(state)}")
    count = layout.round_up(len(w), lanes_of(w.itemsize))
    vectors = []
    for name, array in (("w", w), ("g", g), *((f"state[{i}]", array) for i, array in enumerate(state))):
        padded = layout.aligned_zeros(count, w.dtype)
        padded[: len(w)] = _check(name, array, w.shape, w.dtype)
        vectors.append(padded)
    settings, coefficients = np.zeros(updates.SETTINGS), np.zeros(updates.COEFFICIENTS)
    settings[[updates.L2, updates.DECAY_1, updates.DECAY_2, updates.EPSILON]] = l2, decay_1, decay_2, epsilon
    updates.step_coefficients.py_func(optimizer, settings, learning_rate, step, 1.0, coefficients)
    slot_1, slot_2 = (vectors[2:] + vectors[:2])[:2]
    updates.update(kernel_table(w.dtype), optimizer, coefficients, 1, count, vectors[0], vectors[1], slot_1, slot_2)
    return vectors[0][: len(w)], [vector[: len(w)] for vector in vectors[2:]]
