"""Losses and the deltas of the output layer, in one pass over a register full of rows (`panels`).

With a the outputs of a row, t its targets, K outputs, and the mean over the rows of the batch taken by `scale`:

    cross entropy          - sum t_k log a_k,  a = softmax z;              delta = a sum t - t   (a - t for one-hot t)
    binary cross entropy   - mean (t_k log a_k + (1 - t_k) log(1 - a_k)),  a = sigmoid z;  delta = (a - t) / K
    Poisson                mean (a_k - t_k log a_k),  a = exp z;           delta = (a - t) / K
    half squared error     1/2 sum (a_k - t_k)^2                           loss by a: a - t
    mean squared error     mean (a_k - t_k)^2                              loss by a: 2 (a - t) / K
    mean absolute error    mean |a_k - t_k|                                loss by a: sign(a - t) / K, 0 for a = t
    Huber                  mean e^2 / 2 for |e| <= d, else d (|e| - d / 2), e = a_k - t_k
                                                                           loss by a: e limited to -d ... d, / K
    hinge                  mean max(0, 1 - t_k a_k),  t_k = -1 or 1        loss by a: -t / K where 1 - t a > 0, else 0

(Bishop, Pattern Recognition and Machine Learning, 2006, sections 4.3, 5.2 and 7.1; McCullagh and Nelder, Generalized
Linear Models, 1989, chapter 6, for Poisson; Huber, Robust Estimation of a Location Parameter, 1964.) The first three
work on the pre-activations z, the cross entropies in log-sum-exp and softplus form, so that nothing overflows; the
rate e^z of Poisson may. The others take any activation, whose derivative is then applied to the loss by a.

Label smoothing s (Szegedy et al., Rethinking the Inception Architecture for Computer Vision, 2016, section 7) puts
(1 - s) t + s / K in the place of the targets t of cross entropy, and (1 - s) t + s / 2 in binary cross entropy.
"""

from __future__ import annotations

from .activations import softmax_exponentials
from .batches import FLOAT32, LABELS
from .elementary import exp, log, sigmoid, softplus
from .linking import DOUBLE, DOUBLE_POINTER, INT, INT_POINTER, NUMBERS, call_loss, inlined, inlined_always, kernel
from .panels import gather_rows, gathered_size, scatter_rows
from .simd import (
    Lanes,
    float32_pointer,
    float64_pointer,
    fma,
    full,
    int64_pointer,
    lanes,
    load,
    shift,
    store,
    vector_function,
)
from .updates import clip

(CROSS_ENTROPY, BINARY_CROSS_ENTROPY, HALF_SQUARED_ERROR, MEAN_SQUARED_ERROR, MEAN_ABSOLUTE_ERROR, HUBER, HINGE,
 POISSON) = range(8)
CODES = 8  # numbers from here on are addresses of users' functions


@inlined
def takes_preactivations(loss):
    """Whether a loss works on pre-activations, so that the output layer's activation is not applied before it."""
    return loss in (CROSS_ENTROPY, BINARY_CROSS_ENTROPY, POISSON)


@inlined_always
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


@inlined
def _targets_of_rows(y, kind, stride, samples, first, count, units, t):
    """Write the targets of `count` rows to t[unit, row], one-hot for labels.

    For a label that is none of the units a target is NaN, and so are then the loss and the deltas of the row.
    """
    step = lanes(t)
    if kind == LABELS:
        for i in range(0, units * step, step):
            store(t, i, full(t, 0.0))
    for r in range(count):
        sample = samples[first + r]
        if kind == LABELS:
            label = int64_pointer(y)[sample]
            if 0 <= label < units:
                t[label * step + r] = 1.0
            else:
                t[r] = float("nan")
        else:
            read_targets(y, kind, stride, sample, units, shift(t, r), step)


@inlined
def _smooth(t, units, smoothing, classes):
    """Replace targets t by (1 - s) t + s / classes."""
    step = lanes(t)
    for i in range(0, units * step, step):
        store(t, i, fma(load(t, i), 1.0 - smoothing, smoothing / classes))


@vector_function
def _product(t: Lanes, x: Lanes) -> Lanes:
    """t x, and 0 for t = 0 even where x is infinite, as t log a is taken to be in an entropy."""
    return t.where("==", 0.0, 0.0, t * x)


@vector_function
def _sign(x: Lanes) -> Lanes:
    """-1, 0 or 1, NaN kept."""
    return x.where(">", 0.0, 1.0, x.where("<", 0.0, -1.0, x))


@vector_function
def _above_zero(x: Lanes, y: Lanes) -> Lanes:
    """y where x > 0, 0 elsewhere, NaN where x is NaN."""
    return x.where(">", 0.0, y, x.where("<=", 0.0, 0.0, x))


# Losses of a register full of rows. z (or a), t and delta hold a register for each unit, with a row in each lane;
# `scale` is a register, too. Both functions write the deltas, which may take the place of z, and return the losses.


@inlined
def _cross_entropy(z, t, units, scale, exponentials, delta):
    """Sum over the units of t (log sum exp z - z)."""
    step = lanes(z)
    top, total = softmax_exponentials(z, units, exponentials)
    mass, loss = full(z, 0.0), full(z, 0.0)
    for i in range(0, units * step, step):
        target = load(t, i)
        mass = mass + target
        loss = loss + _product(target, top - load(z, i))
    factor = mass * scale / total
    for i in range(0, units * step, step):
        store(delta, i, fma(load(exponentials, i), factor, -scale * load(t, i)))
    return fma(mass, log(total), loss)


@inlined
def _sum_over_units(loss, parameter, a, t, units, scale, spare, delta):
    """Sum of the losses of the units, of the squared errors half; a is z for a loss that takes it."""
    step = lanes(a)
    total = full(a, 0.0)
    if loss == BINARY_CROSS_ENTROPY:  # softplus z - t z
        for i in range(0, units * step, step):
            logits, target = load(a, i), load(t, i)
            store(delta, i, (sigmoid(logits) - target) * scale)
            total = total + (softplus(logits) - target * logits)
    elif loss == POISSON:  # e^z - t z
        for i in range(0, units * step, step):
            log_rate, target = load(a, i), load(t, i)
            rate = exp(log_rate)
            store(delta, i, (rate - target) * scale)
            total = total + (rate - target * log_rate)
    elif loss == HINGE:
        for i in range(0, units * step, step):
            target = load(t, i)
            missing = 1.0 - target * load(a, i)
            store(delta, i, _above_zero(missing, -target) * scale)
            total = total + _above_zero(missing, missing)
    elif loss == MEAN_ABSOLUTE_ERROR:
        for i in range(0, units * step, step):
            error = load(a, i) - load(t, i)
            sign = _sign(error)
            store(delta, i, sign * scale)
            total = total + error * sign
    elif loss == HUBER:  # l (e - l / 2), where l is the error e limited to -d ... d
        for i in range(0, units * step, step):
            error = load(a, i) - load(t, i)
            limited = clip(error, parameter)
            store(delta, i, limited * scale)
            total = total + limited * (error - 0.5 * limited)
    elif loss >= CODES:
        call_loss(loss, a, t, spare, delta, units * step)
        for i in range(0, units * step, step):
            store(delta, i, load(delta, i) * scale)
            total = total + load(spare, i)
    else:
        for i in range(0, units * step, step):
            error = load(a, i) - load(t, i)
            store(delta, i, error * scale)
            total = total + 0.5 * error * error
    return total


@inlined
def _share(loss, units):
    """What the sum over the units is to be multiplied by."""
    if loss in (CROSS_ENTROPY, HALF_SQUARED_ERROR):
        return 1.0
    return (2.0 if loss == MEAN_SQUARED_ERROR else 1.0) / units


@kernel(INT, DOUBLE, NUMBERS, INT, INT, INT, INT, INT, INT, INT, INT, INT_POINTER, DOUBLE, NUMBERS, NUMBERS,
        DOUBLE_POINTER)
def loss_rows(kernels, loss, parameter, outputs, rows, begin, end, units, y, y_kind, y_stride, weights, samples, scale,
              scratch, deltas, row_losses):
    """Loss of each of the rows `begin` to `end`, and its derivative, times `scale`, by `outputs`.

    Parameters
    ----------
    loss : code of the loss, or the address of a user's function
    parameter : label smoothing of the two cross entropies, 0 for none; Huber's d; of no meaning to the other losses
    outputs, deltas : in panels of `rows` rows; outputs are what the loss takes (`takes_preactivations`), z or f(z)
    units : number of outputs
    y, y_kind, y_stride : address of the targets, LABELS, FLOAT32 or FLOAT64, and elements from row to row
    weights : address of float64 weights, one for each sample of `y`, 0 for none; the loss and the deltas of a row are
        multiplied by its weight, and nothing else: with a weight of 0, a loss of NaN or infinity comes out as NaN
    samples : for each row, the sample of `y` it belongs to
    scratch : `layout.row_scratch_size` numbers
    row_losses : float64, one for each row; NaN, as the deltas are, for a label that is none of the units
    """
    step, size = lanes(outputs), gathered_size(units, outputs)
    z, t, spare = scratch, shift(scratch, size), shift(scratch, 2 * size)
    of_lanes = shift(scratch, 3 * size)
    share = _share(loss, units)
    for first in range(begin, end, step):
        count = min(step, end - first)
        gather_rows(kernels, outputs, rows, first, count, units, z)
        _targets_of_rows(y, y_kind, y_stride, samples, first, count, units, t)
        if parameter > 0.0 and loss in (CROSS_ENTROPY, BINARY_CROSS_ENTROPY):
            _smooth(t, units, parameter, units if loss == CROSS_ENTROPY else 2)
        delta_scale = full(z, share * scale)
        if weights != 0:
            for r in range(count):
                of_lanes[r] = share * scale * float64_pointer(weights)[samples[first + r]]
            delta_scale = load(of_lanes, 0)
        if loss == CROSS_ENTROPY:
            total = _cross_entropy(z, t, units, delta_scale, spare, z)
        else:
            total = _sum_over_units(loss, parameter, z, t, units, delta_scale, spare, z)
        store(of_lanes, 0, total)
        scatter_rows(kernels, z, deltas, rows, first, count, units)
        for r in range(count):
            row_losses[first + r] = share * of_lanes[r]
            if weights != 0:
                row_losses[first + r] *= float64_pointer(weights)[samples[first + r]]
