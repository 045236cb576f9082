"""Activations and their derivatives, on blocks of rows.

A derivative is computed from the activation's own output a = f(z), so that z need not be kept:
sigmoid a (1 - a), tanh 1 - a^2, relu 1 where a > 0, leaky relu the slope where a <= 0, elu a + alpha where a <= 0
(Bishop, Pattern Recognition and Machine Learning, 2006, section 5.3; Clevert et al., 2016, for elu).
Softmax is not a function of one element; it has passes over whole rows.
"""

from __future__ import annotations

from numba import njit

from .elementary import exp, expm1, sigmoid, tanh
from .linking import DOUBLE, INT, NUMBERS, kernel
from .simd import (
    Lanes,
    fma,
    full,
    keep_first,
    lanes,
    load,
    max_lanes,
    maximum,
    shift,
    store,
    sum_lanes,
    vector_function,
)

IDENTITY, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, SOFTMAX = range(7)


@vector_function
def _relu(z: Lanes) -> Lanes:
    """max(z, 0), NaN kept."""
    return z.where("<", 0.0, 0.0, z)


@vector_function
def _leaky_relu(z: Lanes, slope: Lanes) -> Lanes:
    return z.where("<", 0.0, slope * z, z)


@vector_function
def _elu(z: Lanes, exponential: Lanes) -> Lanes:
    return z.where("<", 0.0, exponential, z)


@vector_function
def _relu_backward(delta: Lanes, a: Lanes) -> Lanes:
    return a.where(">", 0.0, delta, 0.0)


@vector_function
def _leaky_relu_backward(delta: Lanes, a: Lanes, slope: Lanes) -> Lanes:
    return a.where("<=", 0.0, slope * delta, delta)


@vector_function
def _elu_backward(delta: Lanes, a: Lanes, alpha: Lanes) -> Lanes:
    return a.where("<=", 0.0, delta * (a + alpha), delta)


@kernel(INT, DOUBLE, NUMBERS, INT, INT, INT)
def activate(code, alpha, block, stride, rows, columns):
    """Replace z by f(z) in a block of `rows` rows and `columns` (whole registers) columns; not for softmax.

    `alpha` is the slope of leaky relu and the alpha of elu.
    """
    step = lanes(block)
    for r in range(rows):
        first = r * stride
        last = first + columns
        if code == RELU:
            for i in range(first, last, step):
                store(block, i, _relu(load(block, i)))
        elif code == SIGMOID:
            for i in range(first, last, step):
                store(block, i, sigmoid(load(block, i)))
        elif code == TANH:
            for i in range(first, last, step):
                store(block, i, tanh(load(block, i)))
        elif code == LEAKY_RELU:
            for i in range(first, last, step):
                store(block, i, _leaky_relu(load(block, i), alpha))
        elif code == ELU:
            for i in range(first, last, step):
                z = load(block, i)
                store(block, i, _elu(z, expm1(z) * alpha))


@kernel(INT, DOUBLE, NUMBERS, NUMBERS, INT, INT, INT)
def multiply_by_derivative(code, alpha, deltas, outputs, stride, rows, columns):
    """Multiply deltas by f'(z), computed from the outputs f(z), in a block of rows; not for softmax."""
    step = lanes(deltas)
    for r in range(rows):
        first = r * stride
        last = first + columns
        if code == RELU:
            for i in range(first, last, step):
                store(deltas, i, _relu_backward(load(deltas, i), load(outputs, i)))
        elif code == SIGMOID:
            for i in range(first, last, step):
                a = load(outputs, i)
                store(deltas, i, load(deltas, i) * (a * (1.0 - a)))
        elif code == TANH:
            for i in range(first, last, step):
                a = load(outputs, i)
                store(deltas, i, load(deltas, i) * fma(-a, a, 1.0))
        elif code == LEAKY_RELU:
            for i in range(first, last, step):
                store(deltas, i, _leaky_relu_backward(load(deltas, i), load(outputs, i), alpha))
        elif code == ELU:
            for i in range(first, last, step):
                store(deltas, i, _elu_backward(load(deltas, i), load(outputs, i), alpha))


@njit
def softmax_exponentials(source, target, units):
    """Write exp(z - max z) of one row to `target`, zero in its padding; return (max z, sum of exponentials).

    The maximum may pass over a NaN: its own exponential then makes the sum NaN.
    """
    step = lanes(source)
    largest = full(source, -float("inf"))
    for i in range(0, units, step):
        largest = maximum(largest, keep_first(load(source, i), units - i, -float("inf")))
    top = max_lanes(largest)
    total = full(source, 0.0)
    for i in range(0, units, step):
        e = keep_first(exp(load(source, i) - top), units - i, 0.0)
        store(target, i, e)
        total = total + e
    return top, sum_lanes(total)


@kernel(NUMBERS, INT, INT, INT)
def softmax_rows(block, stride, rows, units):
    """Replace each row of pre-activations by its softmax, exp(z_i) / sum over j of exp(z_j)."""
    step = lanes(block)
    for r in range(rows):
        row = shift(block, r * stride)
        _, total = softmax_exponentials(row, row, units)
        for i in range(0, units, step):
            store(row, i, load(row, i) / total)


@kernel(NUMBERS, NUMBERS, INT, INT, INT)
def softmax_backward_rows(deltas, outputs, stride, rows, units):
    """Turn loss by softmax outputs into loss by pre-activations: p_i (g_i - sum over j of p_j g_j)."""
    step = lanes(deltas)
    for r in range(rows):
        first = r * stride
        products = full(deltas, 0.0)
        for i in range(first, first + units, step):
            products = fma(load(outputs, i), load(deltas, i), products)
        mean = sum_lanes(products)
        for i in range(first, first + units, step):
            store(deltas, i, load(outputs, i) * (load(deltas, i) - mean))
