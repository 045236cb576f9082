"""Activations and their derivatives, on blocks of a panel.

A derivative is computed from the activation's own output a = f(z), so that z need not be kept:
sigmoid a (1 - a), tanh 1 - a^2, relu 1 where a > 0, leaky relu the slope where a <= 0, elu a + alpha where a <= 0
(Bishop, Pattern Recognition and Machine Learning, 2006, section 5.3; Clevert et al., 2016, for elu).
Softmax is not a function of one element; it works on whole rows, a register of rows at a time (`panels`).
"""

from __future__ import annotations

from .elementary import exp, expm1, sigmoid, tanh
from .linking import DOUBLE, INT, NUMBERS, inlined, kernel
from .panels import gather_rows, gathered_size, scatter_rows
from .simd import (
    Lanes,
    fma,
    full,
    lanes,
    load,
    maximum,
    shift,
    store,
    vector_function,
)

IDENTITY, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, SOFTMAX = range(7)


@vector_function
def _relu(z: Lanes) -> Lanes:
    """max(z, 0), NaN kept."""
    return z.where("<", 0.0, 0.0, z).settled()


@vector_function
def _leaky_relu(z: Lanes, slope: Lanes) -> Lanes:
    return z.where("<", 0.0, slope * z, z).settled()


@vector_function
def _elu(z: Lanes, exponential: Lanes) -> Lanes:
    return z.where("<", 0.0, exponential, z).settled()


@vector_function
def _relu_backward(delta: Lanes, a: Lanes) -> Lanes:
    return a.where(">", 0.0, delta, 0.0).settled()


@vector_function
def _leaky_relu_backward(delta: Lanes, a: Lanes, slope: Lanes) -> Lanes:
    return a.where("<=", 0.0, slope * delta, delta).settled()


@vector_function
def _elu_backward(delta: Lanes, a: Lanes, alpha: Lanes) -> Lanes:
    return a.where("<=", 0.0, delta * (a + alpha), delta).settled()


@kernel(INT, DOUBLE, NUMBERS, INT)
def activate(code, alpha, block, count):
    """Replace z by f(z) in `count` (whole registers) numbers; not for softmax.

    `alpha` is the slope of leaky relu and the alpha of elu.
    """
    step = lanes(block)
    if code == RELU:
        for i in range(0, count, step):
            store(block, i, _relu(load(block, i)))
    elif code == SIGMOID:
        for i in range(0, count, step):
            store(block, i, sigmoid(load(block, i)))
    elif code == TANH:
        for i in range(0, count, step):
            store(block, i, tanh(load(block, i)))
    elif code == LEAKY_RELU:
        for i in range(0, count, step):
            store(block, i, _leaky_relu(load(block, i), alpha))
    elif code == ELU:
        for i in range(0, count, step):
            z = load(block, i)
            store(block, i, _elu(z, expm1(z) * alpha))


@kernel(INT, DOUBLE, NUMBERS, NUMBERS, INT)
def multiply_by_derivative(code, alpha, deltas, outputs, count):
    """Multiply `count` (whole registers) deltas by f'(z), computed from the outputs f(z); not for softmax."""
    step = lanes(deltas)
    if code == RELU:
        for i in range(0, count, step):
            store(deltas, i, _relu_backward(load(deltas, i), load(outputs, i)))
    elif code == SIGMOID:
        for i in range(0, count, step):
            a = load(outputs, i)
            store(deltas, i, load(deltas, i) * (a * (1.0 - a)))
    elif code == TANH:
        for i in range(0, count, step):
            a = load(outputs, i)
            store(deltas, i, load(deltas, i) * fma(-a, a, 1.0))
    elif code == LEAKY_RELU:
        for i in range(0, count, step):
            store(deltas, i, _leaky_relu_backward(load(deltas, i), load(outputs, i), alpha))
    elif code == ELU:
        for i in range(0, count, step):
            store(deltas, i, _elu_backward(load(deltas, i), load(outputs, i), alpha))


@inlined
def softmax_exponentials(z, units, target):
    """Write exp(z - max z) to `target`, a register of rows at a time; return (max z, sum of exponentials).

    z and target hold a register for each unit, with a row of the batch in each lane (`gather_rows`). The maximum may
    pass over a NaN: its own exponential then makes the sum NaN.
    """
    step = lanes(z)
    top = load(z, 0)
    for i in range(step, units * step, step):
        top = maximum(top, load(z, i))
    total = full(z, 0.0)
    for i in range(0, units * step, step):
        e = exp(load(z, i) - top)
        store(target, i, e)
        total = total + e
    return top, total


@kernel(NUMBERS, INT, INT, INT, INT, NUMBERS)
def softmax_rows(kernels, block, rows, begin, end, units, scratch):
    """Replace pre-activations by their softmax, exp(z_i) / sum over j of exp(z_j), in the rows `begin` to `end`.

    Parameters
    ----------
    block, rows : outputs in panels of `rows` rows
    scratch : `layout.row_scratch_size` numbers
    """
    step = lanes(block)
    for first in range(begin, end, step):
        count = min(step, end - first)
        gather_rows(kernels, block, rows, first, count, units, scratch)
        _, total = softmax_exponentials(scratch, units, scratch)
        for i in range(0, units * step, step):
            store(scratch, i, load(scratch, i) / total)
        scatter_rows(kernels, scratch, block, rows, first, count, units)


@kernel(NUMBERS, NUMBERS, INT, INT, INT, INT, NUMBERS)
def softmax_backward_rows(kernels, deltas, outputs, rows, begin, end, units, scratch):
    """Turn loss by softmax outputs into loss by pre-activations: p_i (g_i - sum over j of p_j g_j).

    Parameters
    ----------
    deltas, outputs, rows : in panels of `rows` rows; the rows `begin` to `end` are turned
    scratch : `layout.row_scratch_size` numbers
    """
    step = lanes(deltas)
    p, g = scratch, shift(scratch, gathered_size(units, scratch))
    for first in range(begin, end, step):
        count = min(step, end - first)
        gather_rows(kernels, outputs, rows, first, count, units, p)
        gather_rows(kernels, deltas, rows, first, count, units, g)
        mean = full(deltas, 0.0)
        for i in range(0, units * step, step):
            mean = fma(load(p, i), load(g, i), mean)
        for i in range(0, units * step, step):
            store(g, i, load(p, i) * (load(g, i) - mean))
        scatter_rows(kernels, g, deltas, rows, first, count, units)
