"""Losses and the deltas of the output layer, in one pass over a register full of rows (`panels`).

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

from .activations import softmax_exponentials
from .batches import FLOAT32, LABELS
from .elementary import log, sigmoid, softplus
from .linking import DOUBLE, DOUBLE_POINTER, INT, INT_POINTER, NUMBERS, inlined, kernel
from .panels import gather_rows, gathered_size, place_of, scatter_rows
from .simd import (
    float32_pointer,
    float64_pointer,
    fma,
    full,
    int64_pointer,
    lanes,
    load,
    shift,
    store,
)

CROSS_ENTROPY, BINARY_CROSS_ENTROPY, HALF_SQUARED_ERROR, MEAN_SQUARED_ERROR = range(4)


@inlined
def takes_preactivations(loss):
    """Whether a loss works on pre-activations, so that the output layer's activation is not applied before it."""
    return loss in (CROSS_ENTROPY, BINARY_CROSS_ENTROPY)


@inlined
def read_targets(y, kind, stride, sample, units, target, step):
    """Copy one sample's targets to every `step`-th element of `target`, in the dtype of the network."""
    if kind == FLOAT32:
        single = float32_pointer(y)
        for k in range(units):
            target[k * step] = single[sample * stride + k]
    else:
        double = float64_pointer(y)
        for k in range(units):
            target[k * step] = double[sample * stride + k]


# The losses of a register full of rows. z, t and delta hold a register for each unit, with a row in each lane; each
# function writes the deltas, which may take the place of z, and returns a register of losses.


@inlined
def _label_cross_entropy(z, units, scale, delta):
    """Softmax times `scale`, and log sum exp z in two parts: what is left is to subtract at the label."""
    step = lanes(z)
    top, total = softmax_exponentials(z, units, delta)
    factor = scale / total
    for i in range(0, units * step, step):
        store(delta, i, load(delta, i) * factor)
    return top, log(total)


@inlined
def _target_cross_entropy(z, t, units, scale, exponentials, delta):
    """Cross entropy with a probability for each unit."""
    step = lanes(z)
    top, total = softmax_exponentials(z, units, exponentials)
    log_total = log(total)
    mass, loss = full(z, 0.0), full(z, 0.0)
    for i in range(0, units * step, step):
        target = load(t, i)
        mass = mass + target
        loss = fma(target, log_total - (load(z, i) - top), loss)
    factor = mass * scale / total
    for i in range(0, units * step, step):
        store(delta, i, fma(load(exponentials, i), factor, -scale * load(t, i)))
    return loss


@inlined
def _binary_cross_entropy(z, t, units, scale, delta):
    """Mean over the units of softplus(z) - t z."""
    step = lanes(z)
    loss = full(z, 0.0)
    for i in range(0, units * step, step):
        logits, target = load(z, i), load(t, i)
        store(delta, i, (sigmoid(logits) - target) * (scale / units))
        loss = loss + (softplus(logits) - target * logits)
    return loss * (1.0 / units)


@inlined
def _squared_error(a, t, units, loss_factor, delta_factor, delta):
    """loss_factor * sum of squared errors; the loss by outputs is delta_factor * error."""
    step = lanes(a)
    loss = full(a, 0.0)
    for i in range(0, units * step, step):
        error = load(a, i) - load(t, i)
        store(delta, i, error * delta_factor)
        loss = fma(error, error, loss)
    return loss * loss_factor


@kernel(INT, NUMBERS, INT, INT, INT, INT, INT, INT, INT, INT_POINTER, DOUBLE, NUMBERS, NUMBERS,
        DOUBLE_POINTER)
def loss_rows(kernels, loss, outputs, rows, begin, end, units, y, y_kind, y_stride, samples, scale, scratch, deltas,
              row_losses):
    """Loss of each of the rows `begin` to `end`, and its derivative, times `scale`, by `outputs`.

    Parameters
    ----------
    loss : code of the loss
    outputs, deltas : in panels of `rows` rows; outputs are pre-activations z for the two cross entropies, else f(z)
    units : number of outputs
    y, y_kind, y_stride : address of the targets, LABELS, FLOAT32 or FLOAT64, and elements from row to row
    samples : for each row, the sample of `y` it belongs to
    scratch : `layout.row_scratch_size` numbers
    row_losses : float64, one for each row; NaN for a label that is none of the units
    """
    step, size = lanes(outputs), gathered_size(units, outputs)
    z, t, spare = scratch, shift(scratch, size), shift(scratch, 2 * size)
    tops, results = shift(scratch, 3 * size), shift(scratch, 3 * size + step)
    for first in range(begin, end, step):
        count = min(step, end - first)
        gather_rows(kernels, outputs, rows, first, count, units, z)
        if y_kind == LABELS:
            top, log_total = _label_cross_entropy(z, units, scale, z)
            store(tops, 0, top)
            store(results, 0, log_total)
        else:
            for r in range(step):
                read_targets(y, y_kind, y_stride, samples[first + min(r, count - 1)], units, shift(t, r), step)
            if loss == CROSS_ENTROPY:
                store(results, 0, _target_cross_entropy(z, t, units, scale, spare, z))
            elif loss == BINARY_CROSS_ENTROPY:
                store(results, 0, _binary_cross_entropy(z, t, units, scale, z))
            elif loss == HALF_SQUARED_ERROR:
                store(results, 0, _squared_error(z, t, units, 0.5, scale, z))
            else:
                store(results, 0, _squared_error(z, t, units, 1.0 / units, 2.0 * scale / units, z))
        scatter_rows(kernels, z, deltas, rows, first, count, units)
        for r in range(count):
            row = first + r
            row_losses[row] = results[r]
            if y_kind == LABELS:
                label = int64_pointer(y)[samples[row]]
                if label < 0 or label >= units:
                    row_losses[row] = float("nan")
                    continue
                place = place_of(row, label, rows, units, outputs)
                deltas[place] -= scale
                row_losses[row] += tops[r] - outputs[place]
