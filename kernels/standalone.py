"""The kernels one by one, on NumPy arrays: for use outside a training loop, for tests and benchmarks.

Every function here checks its arrays, lays them out as the kernels want them, and calls one kernel on the calling
thread. Arrays are float32 or float64, all of one dtype; results are new arrays. Activations, losses and optimizers
are named by the codes of `activations`, `losses` and `updates`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import activations, batches, dense, layout, losses, updates
from .linking import kernel_table
from .simd import TILE_ROWS, TILE_VECTORS, lanes_of

Array = np.ndarray[Any, np.dtype[Any]]


def _check(name: str, array: Any, shape: tuple[int | None, ...], dtype: np.dtype[Any] | None = None) -> Array:
    """Return `array` in C order if it has the shape (None for any length but 0) and dtype."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be an array, got {type(array).__name__}")
    allowed = ("float32", "float64") if dtype is None else (np.dtype(dtype).name,)
    if array.dtype.name not in allowed or not array.dtype.isnative:
        raise TypeError(f"{name} must be of dtype {' or '.join(allowed)}, got {array.dtype}")
    wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ("," if len(shape) == 1 else "") + ")"
    fits = array.ndim == len(shape) and all(m in (None, n) for n, m in zip(array.shape, shape, strict=True))
    if not fits or 0 in array.shape:
        raise ValueError(f"{name} must have shape {wanted} and no length 0, got {array.shape}")
    return np.ascontiguousarray(array)


def _check_code(name: str, code: Any, codes: range) -> int:
    if isinstance(code, bool) or not isinstance(code, (int, np.integer)):
        raise TypeError(f"{name} must be an integer code from 0 to {codes[-1]}, got {code!r}")
    if code not in codes:
        raise ValueError(f"{name} must be an integer code from 0 to {codes[-1]}, got {code!r}")
    return int(code)


ACTIVATIONS = range(activations.SOFTMAX + 1)
LOSSES = range(losses.MEAN_SQUARED_ERROR + 1)


def _layer_row(inputs: int, units: int, dtype: np.dtype[Any]) -> Array:
    return layout.layer_table([inputs, units], [activations.IDENTITY], dtype)[0]


def _padded_rows(array: Array) -> Array:
    """Copy a 2-d array to rows of whole registers, zero beyond its columns, as the kernels keep a layer's outputs."""
    rows, columns = array.shape
    stride = int(_layer_row(1, columns, array.dtype)[layout.STRIDE])
    padded = layout.aligned_zeros(rows * stride, array.dtype).reshape(rows, stride)
    padded[:, :columns] = array
    return padded


def _constants(dtype: np.dtype[Any]) -> Array:
    width = TILE_VECTORS * lanes_of(dtype.itemsize)
    constants = layout.aligned_zeros(width + 1, dtype)
    constants[width] = 1
    return constants


def pack(weights: Array, bias: Array) -> tuple[Array, Array]:
    """Lay out a layer's weights (inputs, units) and bias (units,) in panels.

    Returns
    -------
    layer : int64 array
        The layer's row in a table of layers, see `layout`.
    parameters : array
        The panels.
    """
    weights = _check("weights", weights, (None, None))
    bias = _check("bias", bias, (weights.shape[1],), weights.dtype)
    layer = _layer_row(weights.shape[0], weights.shape[1], weights.dtype)
    parameters = layout.aligned_zeros(layout.parameter_count(layer[np.newaxis]), weights.dtype)
    layout.pack_layer(layer, parameters, weights, bias)
    return layer, parameters


def dense_forward_packed(X: Array, layer: Array, parameters: Array, activation: int = activations.IDENTITY,
                         alpha: float = 0.0) -> Array:
    """f(X W + b) for a layer from `pack`; (rows, units)."""
    layer = _check("layer", layer, (layout.LAYER_FIELDS,), np.dtype(np.int64))
    inputs, units, stride = (int(layer[field]) for field in (layout.INPUTS, layout.UNITS, layout.STRIDE))
    X = _check("X", X, (None, inputs))
    parameters = _check("parameters", parameters, (layout.parameter_count(layer[np.newaxis]),), X.dtype)
    activation = _check_code("activation", activation, ACTIVATIONS)
    kernels, rows = kernel_table(X.dtype), len(X)
    outputs = layout.aligned_zeros(rows * stride, X.dtype)
    items = -(-int(layer[layout.PADDED]) // (TILE_VECTORS * lanes_of(X.itemsize))) * -(-rows // TILE_ROWS)
    dense.forward(kernels, layer, parameters, X, inputs, np.arange(rows), rows, outputs, activation, alpha,
                  0, items)
    if activation == activations.SOFTMAX:
        activations.softmax_rows(kernels, outputs, stride, rows, units)
    return outputs.reshape(rows, stride)[:, :units]


def dense_forward(X: Array, weights: Array, bias: Array, activation: int = activations.IDENTITY,
                  alpha: float = 0.0) -> Array:
    """Matmul, bias and activation of a dense layer: f(X W + b).

    Parameters
    ----------
    X : array (rows, inputs)
    weights, bias : arrays (inputs, units) and (units,)
    activation : int
        Code of f.
    alpha : float
        Slope of leaky relu, alpha of elu.

    Returns
    -------
    array (rows, units)
    """
    X = _check("X", X, (None, None))
    weights = _check("weights", weights, (None, None), X.dtype)
    return dense_forward_packed(X, *pack(weights, bias), activation, alpha)


def activate(z: Array, activation: int, alpha: float = 0.0) -> Array:
    """f(z), element by element; softmax by rows. z is (rows, units)."""
    z = _check("z", z, (None, None))
    activation = _check_code("activation", activation, ACTIVATIONS)
    padded, kernels = _padded_rows(z), kernel_table(z.dtype)
    rows, stride = padded.shape
    if activation == activations.SOFTMAX:
        activations.softmax_rows(kernels, padded, stride, rows, z.shape[1])
    else:
        activations.activate(kernels, activation, alpha, padded, stride, rows, stride)
    return padded[:, : z.shape[1]]


def activation_backward(delta: Array, a: Array, activation: int, alpha: float = 0.0) -> Array:
    """Loss by z from loss by a = f(z): delta * f'(z), computed from a; for softmax, p (delta - sum p delta)."""
    delta = _check("delta", delta, (None, None))
    a = _check("a", a, delta.shape, delta.dtype)
    activation = _check_code("activation", activation, ACTIVATIONS)
    deltas, outputs, kernels = _padded_rows(delta), _padded_rows(a), kernel_table(a.dtype)
    rows, stride = deltas.shape
    if activation == activations.SOFTMAX:
        activations.softmax_backward_rows(kernels, deltas, outputs, stride, rows, a.shape[1])
    else:
        activations.multiply_by_derivative(kernels, activation, alpha, deltas, outputs, stride, rows, stride)
    return deltas[:, : a.shape[1]]


def loss_and_delta(outputs: Array, targets: Array, loss: int) -> tuple[float, Array]:
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
    """
    outputs = _check("outputs", outputs, (None, None))
    loss = _check_code("loss", loss, LOSSES)
    rows, units = outputs.shape
    if loss == losses.CROSS_ENTROPY and isinstance(targets, np.ndarray) and targets.ndim == 1:
        targets, kind = _check("targets", targets, (rows,), np.dtype(np.int64)), batches.LABELS
    else:
        targets = _check("targets", targets, outputs.shape, outputs.dtype)
        kind = batches.FLOAT32 if outputs.dtype == np.float32 else batches.FLOAT64
    padded = _padded_rows(outputs)
    deltas, row_losses = np.zeros_like(padded), np.zeros(rows)
    losses.loss_rows(kernel_table(outputs.dtype), loss, padded, padded.shape[1], units, targets.ctypes.data, kind,
                     units, np.arange(rows), rows, 1.0 / rows, layout.aligned_zeros(padded.shape[1], outputs.dtype),
                     deltas, row_losses)
    return float(row_losses.mean()), deltas[:, :units]


def dense_backward(delta: Array, weights: Array, a: Array, activation: int = activations.IDENTITY,
                   alpha: float = 0.0) -> Array:
    """Fused backprop delta: (delta W^T) * f'(z) of the layer below, whose outputs f(z) are `a`; not for softmax.

    Parameters
    ----------
    delta : array (rows, units)
    weights : array (inputs, units)
    a : array (rows, inputs)

    Returns
    -------
    array (rows, inputs)
    """
    weights = _check("weights", weights, (None, None))
    inputs, units = weights.shape
    delta = _check("delta", delta, (None, units), weights.dtype)
    a = _check("a", a, (len(delta), inputs), weights.dtype)
    activation = _check_code("activation", activation, ACTIVATIONS[:-1])
    layer, parameters = pack(weights, np.zeros(units, weights.dtype))
    below = _layer_row(1, inputs, weights.dtype)
    deltas, outputs = _padded_rows(delta), _padded_rows(a)
    deltas_below, rows = np.zeros_like(outputs), len(delta)
    width = TILE_VECTORS * lanes_of(weights.itemsize)
    items = -(-int(below[layout.PADDED]) // width) * -(-rows // TILE_ROWS)
    kernels = kernel_table(weights.dtype)
    dense.backward(kernels, layer, below, parameters, deltas, np.arange(rows), rows, deltas_below, outputs,
                   activation, alpha, _constants(weights.dtype), layout.aligned_zeros(units * width, weights.dtype),
                   0, items)
    return deltas_below[:, :inputs]


def weight_gradient(a: Array, delta: Array) -> tuple[Array, Array]:
    """dW = a^T delta (inputs, units) and db = sum of the rows of delta (units,)."""
    a = _check("a", a, (None, None))
    delta = _check("delta", delta, (len(a), None), a.dtype)
    rows, inputs = a.shape
    layer = _layer_row(inputs, delta.shape[1], a.dtype)
    count = layout.parameter_count(layer[np.newaxis])
    gradients = layout.aligned_zeros(count, a.dtype)
    width = TILE_VECTORS * lanes_of(a.itemsize)
    items = -(-int(layer[layout.PADDED]) // width) * -(-inputs // TILE_ROWS)
    kernels = kernel_table(a.dtype)
    nothing = layout.aligned_zeros(1, a.dtype)  # in place of what only an update needs
    dense.gradient(kernels, layer, a, inputs, np.arange(rows), rows, _padded_rows(delta), _constants(a.dtype),
                   updates.WRITE_GRADIENT, np.zeros(updates.COEFFICIENTS), nothing, nothing, count, gradients, 0,
                   nothing, 0, items)
    return layout.unpack_layer(layer, gradients)


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
        SGD, MOMENTUM, NESTEROV or ADAM.
    w, g : arrays (n,)
    state : list of arrays (n,)
        None for SGD, the velocity, or Adam's two moments.
    step : int
        Number of the update, from 1, for Adam's bias correction.
    """
    w = _check("w", w, (None,))
    g = _check("g", g, w.shape, w.dtype)
    slots = updates.STATE_SLOTS[_check_code("optimizer", optimizer, range(updates.SGD, updates.ADAM + 1))]
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
    updates.step_coefficients.py_func(optimizer, settings, learning_rate, step, coefficients)
    slot_1, slot_2 = (vectors[2:] + vectors[:2])[:2]
    updates.update(kernel_table(w.dtype), optimizer, coefficients, 1, count, vectors[0], vectors[1], slot_1, slot_2)
    return vectors[0][: len(w)], [vector[: len(w)] for vector in vectors[2:]]
