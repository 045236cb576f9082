"""The kernels one by one, on NumPy arrays: for use outside a training loop, for tests and benchmarks.

Every function here checks its arrays, lays them out as the kernels want them, and calls the kernel; the products on
several threads if asked to. Arrays are float32 or float64, all of one dtype; results are new arrays. Activations,
losses and optimizers are named by the codes of `activations`, `losses` and `updates`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import config, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import NumbaError

from . import activations, batches, layout, losses, products, updates
from .array_tile import array_tile
from .linking import FLOATS, kernel_table
from .simd import lanes_of
from .threading_layer import CALL_TO_STEP, LEAST_PARALLEL_WORK, team_of

Array = np.ndarray[Any, np.dtype[Any]]


def _check(name: str, array: Any, shape: tuple[int | None, ...], dtype: np.dtype[Any] | None = None) -> Array:
    """Return `array` in C order if it has the shape (None for any length but 0) and dtype."""
    if type(array) is not np.ndarray:
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
            raise TypeError(f"{name} must be an array, got {type(array).__name__}")
        array = array.view(np.ndarray)
    allowed = FLOATS if dtype is None else (dtype,)
    if array.dtype not in allowed:  # nor of these in another byte order
        raise TypeError(f"{name} must be of dtype {' or '.join(map(str, allowed))}, got {array.dtype}")
    fits = array.ndim == len(shape) and all(m is None or m == n for n, m in zip(array.shape, shape, strict=True))
    if not fits or 0 in array.shape:
        wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
        raise ValueError(f"{name} must have shape {wanted} and no length 0, got {array.shape}")
    return array if array.flags.carray else np.require(array, requirements=["C", "A", "W"])


# What compiled products raise for arrays that are no matrices of one dtype in C order, or whose shapes do not match.
# They find it out in a tenth of the time of checks in Python, which then tell what is wrong, or copy what can be used.
NOT_AS_IT_SHOULD_BE = (AttributeError, IndexError, KeyError, TypeError, ValueError, NumbaError)


def _check_integer(name: str, value: Any, allowed: range) -> int:
    if type(value) is int and value in allowed:
        return value
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer from {allowed[0]} to {allowed[-1]}, got {value!r}")
    if value not in allowed:
        raise ValueError(f"{name} must be an integer from {allowed[0]} to {allowed[-1]}, got {value!r}")
    return int(value)


def _check_number(name: str, value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, (float, int, np.floating, np.integer)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be a number, got one too large for a float") from None


def _check_setting(name: str, value: Any, below: float) -> float:
    number = _check_number(name, value)
    if not 0.0 <= number < below:
        raise ValueError(f"{name} must be a number of at least 0 and below {below:g}, got {value!r}")
    return number


FEWEST_TO_SHARE = CALL_TO_STEP * LEAST_PARALLEL_WORK  # multiply-adds of a product that is worth a second thread
LEAST_ROWS = 8  # with fewer rows a product takes about as long: it waits for the weights

ACTIVATIONS = range(activations.SOFTMAX + 1)
BEFORE_SOFTMAX = range(activations.SOFTMAX)
LOSSES = range(losses.CODES)
THREADS = range(1, config.NUMBA_NUM_THREADS + 1)


def _to_panels(matrix: Array) -> Array:
    """Copy a 2-d array to column panels, with zeros in the padding."""
    rows, columns = matrix.shape
    panels = layout.aligned_empty(rows * layout.round_up(columns, lanes_of(matrix.itemsize)), matrix.dtype)
    batches.stage_rows(kernel_table(matrix.dtype), layout.address_of(matrix), batches.FLOAT32, 1, columns,
                       np.arange(rows), rows, 0, rows, columns, matrix, matrix, 0, matrix, panels,
                       np.zeros(1, np.int64))
    return panels


def _from_panels(panels: Array, rows: int, columns: int) -> Array:
    """Copy column panels to a 2-d array."""
    matrix = np.empty((rows, columns), panels.dtype)
    kernels = kernel_table(panels.dtype, batches.unstage_rows)
    batches.unstage_rows(kernels, panels, rows, 0, rows, columns, matrix)
    return matrix


def _whole_registers(array: Array) -> Array:
    """Copy an array to a flat one of whole registers."""
    flat = layout.aligned_empty(layout.round_up(array.size, lanes_of(array.itemsize)), array.dtype)
    flat[: array.size] = array.ravel()
    flat[array.size :] = 0.0
    return flat


def _row_scratch(units: int, dtype: np.dtype[Any]) -> Array:
    """Memory for what works on a register full of rows."""
    return layout.aligned_zeros(layout.row_scratch_size(units, dtype.itemsize), dtype)


@functools.cache
def _product_kernels(dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Compile the products for a dtype, or load them from the cache; return the table of kernels and an empty array."""
    matrix, vector = FLOATS[dtype][:, ::1], FLOATS[dtype][::1]
    kernels, integer, number = types.int64[::1], types.int64, types.float64
    with global_compiler_lock:  # of the dtypes, one at a time
        for product, arguments in (
            (products.rows_product, (kernels, matrix, matrix, vector, matrix, types.boolean, integer, number, integer)),
            (products.gradient_product, (kernels, matrix, matrix, integer)),
        ):
            product.disable_compile(False)
            product.compile(arguments)
            product.disable_compile()  # for arrays of other kinds they raise TypeError
    return kernel_table(dtype, array_tile), np.empty(0, dtype)


def _rows_product(first: Array, second: Array, start: Array | None, outputs: Array, is_transposed: bool,
                  activation: int, alpha: float, threads: int) -> Array:
    """Call `products.rows_product`, on up to `threads` threads."""
    kernels, nothing = _product_kernels(first.dtype)
    if start is None:
        start = nothing
    # Numba takes a masked array, too, and what is behind the mask.
    if not type(first) is type(second) is type(start) is type(outputs) is np.ndarray:
        raise TypeError
    if threads == 1 or max(len(first), LEAST_ROWS) * second.size < FEWEST_TO_SHARE:
        return products.rows_product(kernels, first, second, start, outputs, is_transposed, activation, alpha, 1)
    with team_of(threads) as parts:
        return products.rows_product(kernels, first, second, start, outputs, is_transposed, activation, alpha, parts)


def _gradient_product(a: Array, delta: Array, threads: int) -> tuple[Array, Array]:
    """Call `products.gradient_product`, on up to `threads` threads."""
    kernels, _ = _product_kernels(a.dtype)
    if not type(a) is type(delta) is np.ndarray:
        raise TypeError
    if threads == 1 or a.size * delta.shape[1] < FEWEST_TO_SHARE:
        return products.gradient_product(kernels, a, delta, 1)
    with team_of(threads) as parts:
        return products.gradient_product(kernels, a, delta, parts)


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
    activation = _check_integer("activation", activation, ACTIVATIONS)
    threads = _check_integer("threads", threads, THREADS)
    alpha = _check_number("alpha", alpha)
    if activation == activations.SOFTMAX:
        return activate(dense_forward(X, weights, bias, threads=threads), activation)
    try:
        return _rows_product(X, weights, bias, X, False, activation, alpha, threads)
    except NOT_AS_IT_SHOULD_BE:
        X = _check("X", X, (None, None))
        weights = _check("weights", weights, (None, None), X.dtype)
        X = _check("X", X, (None, len(weights)))
        bias = _check("bias", bias, (weights.shape[1],), X.dtype)
        return _rows_product(X, weights, bias, X, False, activation, alpha, threads)


def activate(z: Array, activation: int, alpha: float = 0.0) -> Array:
    """f(z), element by element; softmax by rows. z is (rows, units)."""
    z = _check("z", z, (None, None))
    activation, alpha = _check_integer("activation", activation, ACTIVATIONS), _check_number("alpha", alpha)
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
    activation, alpha = _check_integer("activation", activation, ACTIVATIONS), _check_number("alpha", alpha)
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
    loss = _check_integer("loss", loss, LOSSES)
    parameter = _check_number("parameter", parameter)
    if loss == losses.HUBER and not parameter > 0.0:
        raise ValueError(f"parameter must be a number above 0 for Huber's loss, got {parameter!r}")
    rows, units = outputs.shape
    if loss == losses.CROSS_ENTROPY and isinstance(targets, np.ndarray) and targets.ndim == 1:
        targets, kind = _check("targets", targets, (rows,), np.dtype(np.int64)), batches.LABELS
    else:
        targets = _check("targets", targets, outputs.shape, outputs.dtype)
        kind = batches.FLOAT32 if outputs.dtype == np.float32 else batches.FLOAT64
    panels = _to_panels(outputs)
    deltas, row_losses = layout.aligned_empty(len(panels), panels.dtype), np.empty(rows)
    losses.loss_rows(kernel_table(outputs.dtype), loss, parameter, panels, rows, 0, rows, units,
                     layout.address_of(targets), kind, units, 0, np.arange(rows), 1.0 / rows,
                     _row_scratch(units, outputs.dtype), deltas, row_losses)
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
    activation = _check_integer("activation", activation, BEFORE_SOFTMAX)
    threads = _check_integer("threads", threads, THREADS)
    alpha = _check_number("alpha", alpha)
    if a is None and activation != activations.IDENTITY:
        raise TypeError("a must be an array where the activation is not the identity, got None")
    try:
        if a is not None and a.shape != (len(delta), len(weights)):
            raise ValueError
        return _rows_product(delta, weights, None, delta if a is None else a, True, activation, alpha, threads)
    except NOT_AS_IT_SHOULD_BE:
        weights = _check("weights", weights, (None, None))
        delta = _check("delta", delta, (None, weights.shape[1]), weights.dtype)
        if a is not None:
            a = _check("a", a, (len(delta), len(weights)), delta.dtype)
        return _rows_product(delta, weights, None, delta if a is None else a, True, activation, alpha, threads)


def weight_gradient(a: Array, delta: Array, threads: int = 1) -> tuple[Array, Array]:
    """dW = a^T delta (inputs, units) and db = sum of the rows of delta (units,).

    Parameters
    ----------
    a, delta : arrays (rows, inputs) and (rows, units)
    threads : int
        As in `dense_forward`.
    """
    threads = _check_integer("threads", threads, THREADS)
    try:
        return _gradient_product(a, delta, threads)
    except NOT_AS_IT_SHOULD_BE:
        a = _check("a", a, (None, None))
        delta = _check("delta", delta, (len(a), None), a.dtype)
        return _gradient_product(a, delta, threads)


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
    learning_rate : float
        At least 0.
    step : int
        Number of the update, from 1, for Adam's bias correction.
    decay_1, decay_2 : float
        From 0 to below 1: the momentum of MOMENTUM and NESTEROV, and beta_1 of ADAM and NADAM, default 0.9; their
        beta_2, ADADELTA's rho and RMSPROP's decay, default 0.999. With RMSPROP decay_1 is a momentum.
    epsilon : float
        Added to what is divided by; at least 0, default 1e-8.
    l2 : float
        ``l2 * w`` is added to the gradient; at least 0, default 0.

    Returns
    -------
    w : array (n,)
    state : list of arrays (n,)
    """
    step = _check_integer("step", step, range(1, 1 << 63))
    learning_rate = _check_setting("learning_rate", learning_rate, math.inf)
    decay_1, decay_2 = _check_setting("decay_1", decay_1, 1.0), _check_setting("decay_2", decay_2, 1.0)
    epsilon, l2 = _check_setting("epsilon", epsilon, math.inf), _check_setting("l2", l2, math.inf)
    if not isinstance(state, (list, tuple)):
        raise TypeError(f"state must be a list of arrays, got {type(state).__name__}")
    w = _check("w", w, (None,))
    slots = updates.STATE_SLOTS[_check_integer("optimizer", optimizer, range(updates.SGD, updates.NADAM + 1))]
    if len(state) != slots:
        raise ValueError(f"state must hold {slots} arrays for this optimizer, got {len(state)}")
    g = _check("g", g, w.shape, w.dtype)
    state = [_check(f"state[{i}]", array, w.shape, w.dtype) for i, array in enumerate(state)]
    # One block, which the C library keeps when it is free; of several it gives the pages back, and getting them anew
    # takes longer than all the rest.
    count = layout.round_up(len(w), lanes_of(w.itemsize))
    block = layout.aligned_empty((2 + slots) * count, w.dtype).reshape(2 + slots, count)
    for row, array in zip(block, (w, g, *state), strict=True):
        row[: len(w)] = array
    block[:, len(w) :] = 0.0
    new_w, new_g, *new_state = block
    settings, coefficients = [0.0] * updates.SETTINGS, [0.0] * updates.COEFFICIENTS
    settings[updates.L2], settings[updates.EPSILON] = l2, epsilon
    settings[updates.DECAY_1], settings[updates.DECAY_2] = decay_1, decay_2
    updates.step_coefficients.py_func(optimizer, settings, learning_rate, step, 1.0, coefficients)
    slot_1, slot_2 = [*new_state, new_w, new_g][:2]
    updates.update(kernel_table(w.dtype), optimizer, np.array(coefficients), 1, count, new_w, new_g, slot_1, slot_2)
    return new_w[: len(w)], [slot[: len(w)] for slot in new_state]
