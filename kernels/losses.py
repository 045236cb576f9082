"""Losses and the deltas of the output layer, in one pass over each row.

With a the outputs of a row, t its targets, K outputs, and the mean over the rows of the batch taken by `scale`:

    cross entropy          - sum t_k log a_k,  a = softmax z;              delta = a sum t - t   (a - t for one-hot t)
    binary cross entropy   - mean (t_k log a_k + (1 - t_k) log(1 - a_k)),  a = sigmoid z;  delta = (a - t) / K
    half squared error     1/2 sum (a_k - t_k)^2                           loss by a: a - t
    mean squared error     mean (a_k - t_k)^2                              loss by a: 2 (a - t) / K

(Bishop, Pattern Recognition and Machine Learning, 2006, sections 4.3 and 5.2.) The two cross entropies work on the
pre-activations z, in log-sum-exp and softplus form, and nothing overflows; the squared errors take any activation,
whose derivative is then applied to the loss by a.
"""

from __future__ import annotations

from numba import njit

from .activations import softmax_exponentials
from .batches import FLOAT32, LABELS
from .elementary import log, sigmoid, softplus
from .linking import DOUBLE, DOUBLE_POINTER, INT, INT_POINTER, NUMBERS, kernel
from .simd import (
    float32_pointer,
    float64_pointer,
    fma,
    full,
    int64_pointer,
    keep_first,
    lanes,
    load,
    shift,
    store,
    sum_lanes,
)

CROSS_ENTROPY, BINARY_CROSS_ENTROPY, HALF_SQUARED_ERROR, MEAN_SQUARED_ERROR = range(4)


@njit
def takes_preactivations(loss):
    """Whether a loss works on pre-activations, so that the output layer's activation is not applied before it."""
    return loss in (CROSS_ENTROPY, BINARY_CROSS_ENTROPY)


@njit
def read_targets(y, kind, stride, sample, units, target):
    """Copy one sample's targets to `target` in the dtype of the network, with zeros up to whole registers."""
    step = lanes(target)
    for i in range(0, units, step):
        store(target, i, full(target, 0.0))
    if kind == FLOAT32:
        single = float32_pointer(y)
        for k in range(units):
            target[k] = single[sample * stride + k]
    else:
        double = float64_pointer(y)
        for k in range(units):
            target[k] = double[sample * stride + k]


@njit
def _label_cross_entropy(outputs, stride, units, labels, samples, rows, scale, totals, deltas, row_losses):
    """Cross entropy with integer labels, log sum exp z - z of the label; NaN where it is none of the units.

    The logarithms are taken of a register full of rows at a time; `totals` holds their sums of exponentials.
    """
    step = lanes(outputs)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        store(totals, 0, full(totals, 1.0))
        for r in range(count):
            z = shift(outputs, (first + r) * stride)
            delta = shift(deltas, (first + r) * stride)
            top, totals[r] = softmax_exponentials(z, delta, units)
            factor = scale / totals[r]
            for i in range(0, units, step):
                store(delta, i, load(delta, i) * factor)
            label = labels[samples[first + r]]
            if label < 0 or label >= units:
                row_losses[first + r] = float("nan")
                continue
            delta[label] -= scale
            row_losses[first + r] = top - z[label]
        store(totals, 0, log(load(totals, 0)))
        for r in range(count):
            row_losses[first + r] += totals[r]


@njit
def _target_cross_entropy(z, delta, units, target, scale):
    """Cross entropy of one row with a probability for each unit."""
    step = lanes(z)
    top, total = softmax_exponentials(z, delta, units)
    log_total = sum_lanes(keep_first(log(full(z, total)), 1, 0.0)) + top
    mass = full(z, 0.0)
    loss = full(z, 0.0)
    for i in range(0, units, step):
        t = load(target, i)
        mass = mass + t
        loss = fma(t, keep_first(log_total - load(z, i), units - i, 0.0), loss)
    factor = sum_lanes(mass) * scale / total
    for i in range(0, units, step):
        store(delta, i, fma(load(delta, i), factor, -scale * load(target, i)))
    return sum_lanes(loss)


@njit
def _binary_cross_entropy(z, delta, units, target, scale):
    """Binary cross entropy of one row: mean of softplus(z) - t z."""
    step = lanes(z)
    loss = full(z, 0.0)
    for i in range(0, units, step):
        logits = load(z, i)
        t = load(target, i)
        store(delta, i, keep_first((sigmoid(logits) - t) * (scale / units), units - i, 0.0))
        loss = loss + keep_first(softplus(logits) - t * logits, units - i, 0.0)
    return sum_lanes(loss) / units


@njit
def _squared_error(a, delta, units, target, loss_factor, delta_factor):
    """loss_factor * sum of squared errors of one row; loss by outputs is delta_factor * error."""
    step = lanes(a)
    loss = full(a, 0.0)
    for i in range(0, units, step):
        error = keep_first(load(a, i) - load(target, i), units - i, 0.0)
        store(delta, i, error * delta_factor)
        loss = fma(error, error, loss)
    return sum_lanes(loss) * loss_factor


@kernel(INT, NUMBERS, INT, INT, INT, INT, INT, INT_POINTER, INT, DOUBLE, NUMBERS, NUMBERS, DOUBLE_POINTER)
def loss_rows(loss, outputs, stride, units, y, y_kind, y_stride, samples, rows, scale, target, deltas, row_losses):
    """Loss of each row, and its derivative, times `scale`, by `outputs`.

    Parameters
    ----------
    loss : code of the loss
    outputs : rows of `units` numbers, `stride` apart: pre-activations z for the two cross entropies, else f(z)
    y, y_kind, y_stride : address of the targets, LABELS, FLOAT32 or FLOAT64, and elements from row to row
    samples : for each row, the sample of `y` it belongs to
    target : a row of scratch memory
    deltas : like `outputs`, written
    row_losses : (rows,) float64, written
    """
    if y_kind == LABELS:
        _label_cross_entropy(outputs, stride, units, int64_pointer(y), samples, rows, scale, target, deltas,
                             row_losses)
        return
    for r in range(rows):
        row = shift(outputs, r * stride)
        delta = shift(deltas, r * stride)
        read_targets(y, y_kind, y_stride, samples[r], units, target)
        if loss == CROSS_ENTROPY:
            row_losses[r] = _target_cross_entropy(row, delta, units, target, scale)
        elif loss == BINARY_CROSS_ENTROPY:
            row_losses[r] = _binary_cross_entropy(row, delta, units, target, scale)
        elif loss == HALF_SQUARED_ERROR:
            row_losses[r] = _squared_error(row, delta, units, target, 0.5, scale)
        else:
            row_losses[r] = _squared_error(row, delta, units, target, 1.0 / units, 2.0 * scale / units)
