"""The training loop, compiled: many steps in one call; and its smaller relatives, prediction and evaluation.

All of them are one program that every thread of a team runs, each doing its share of a phase before the team meets
at a barrier (`team`). A step of a network of L layers on a batch has these phases:

    stage        convert the batch's rows, if they are not used where they lie
    forward      one phase for each hidden layer, shared by panels of weights
    output       shared by rows: output layer, loss, delta, and delta of the layer below
    backward     one phase for each further hidden layer, from the last, shared by panels
    update       all layers: weight gradients, and the optimizer's update of each tile, shared by panels

A thread keeps the same panels in every phase and step, so that its weights and optimizer state stay in its cache.
A small network with a large batch has few panels and many rows: its batch is cut into groups of rows, each of which
goes through all phases on one thread and leaves its own gradient; the groups' gradients are then summed in order.
The number of groups does not depend on the number of threads, and neither does anything else: the results have the
same bits on any number of threads.
"""

from __future__ import annotations

import math

from numba import njit, prange

from . import layout
from .activations import IDENTITY, SOFTMAX, multiply_by_derivative, softmax_backward_rows, softmax_rows
from .batches import LABELS, stage_rows
from .dense import backward, backward_items, forward, forward_items, gradient, gradient_items, panels_for
from .linking import INT, INT_POINTER, NUMBERS, cache_on_disk, kernel
from .layout import ACTIVATION, DELTAS, INPUTS, LAYER_FIELDS, OUTPUTS, PADDED, STRIDE, UNITS, WEIGHTS
from .losses import BINARY_CROSS_ENTROPY, loss_rows, read_targets, takes_preactivations
from .random import shuffle
from .simd import (
    TILE_VECTORS,
    float32_pointer,
    flush_denormals,
    float64_pointer,
    int64_pointer,
    lanes,
    load,
    pointer,
    pointer_at,
    restore_mode,
    shift,
    store,
)
from .team import barrier, join
from .updates import COEFFICIENTS, WRITE_GRADIENT, step_coefficients, update

# Multiply-adds below which a phase is left to one thread: sharing it saves less than the caches lose by it.
LEAST_SHARED_WORK = 16_000


@njit
def _kernels(context):
    return int64_pointer(context[layout.KERNELS])


@njit
def _layer(context, number):
    return shift(int64_pointer(context[layout.LAYERS]), number * LAYER_FIELDS)


@njit
def _alpha(context, number):
    return float64_pointer(context[layout.ALPHAS])[number]


@njit
def _first(items, part, parts, work):
    """First item of a part's share of a phase of `work` multiply-adds; `part + 1` gives its end."""
    workers = parts if work >= LEAST_SHARED_WORK else 1
    return items * min(part, workers) // workers


@njit
def _hidden_index(context, l, index):
    """Index of a layer's input rows: the samples themselves for unstaged inputs, else 0, 1, 2 ..."""
    if l == 0 and context[layout.X_STAGED] == 0:
        return index
    return int64_pointer(context[layout.ROW_NUMBERS])


@njit
def _inputs_of(context, l, workspace):
    """Where the inputs of layer `l` lie and how far apart their rows are."""
    if l > 0:
        below = _layer(context, l - 1)
        return shift(workspace, below[OUTPUTS]), below[STRIDE]
    if context[layout.X_STAGED]:
        return shift(workspace, context[layout.STAGED]), context[layout.STAGED_STRIDE]
    return pointer_at(context[layout.X], workspace), context[layout.X_STRIDE]


@njit
def _forward_pass(context, parameters, workspace, index, rows, layers, part, parts, goal):
    """Stage the rows and go forward through the first `layers` layers; each ends with a barrier."""
    team = int64_pointer(context[layout.TEAM])
    if context[layout.X_STAGED]:
        inputs = _layer(context, 0)[INPUTS]
        first, last = _first(rows, part, parts, rows * inputs), _first(rows, part + 1, parts, rows * inputs)
        stride = context[layout.STAGED_STRIDE]
        stage_rows(_kernels(context), context[layout.X], context[layout.X_KIND], context[layout.X_STRIDE], shift(index, first),
                   last - first, inputs, pointer_at(context[layout.X_MEAN], workspace),
                   pointer_at(context[layout.X_SCALE], workspace),
                   shift(workspace, context[layout.STAGED] + first * stride), stride)
        goal = barrier(team, parts, goal)
    for l in range(layers):
        layer = _layer(context, l)
        a, a_stride = _inputs_of(context, l, workspace)
        outputs = shift(workspace, layer[OUTPUTS])
        items = forward_items(layer, rows, workspace)
        work = rows * layer[INPUTS] * layer[PADDED]
        forward(_kernels(context), _kernels(context), layer, parameters, a, a_stride, _hidden_index(context, l, index), rows, outputs,
                layer[ACTIVATION], _alpha(context, l), _first(items, part, parts, work),
                _first(items, part + 1, parts, work))
        goal = barrier(team, parts, goal)
        if layer[ACTIVATION] == SOFTMAX:
            first, last = _first(rows, part, parts, work), _first(rows, part + 1, parts, work)
            softmax_rows(_kernels(context), shift(outputs, first * layer[STRIDE]), layer[STRIDE], last - first, layer[UNITS])
            goal = barrier(team, parts, goal)
    return goal


@njit
def _output_layer(context, parameters, workspace, index, rows, first, last):
    """Forward through the output layer for rows `first` to `last`, leaving what the loss takes."""
    l = context[layout.DEPTH] - 1
    layer = _layer(context, l)
    a, a_stride = _inputs_of(context, l, workspace)
    layer_index = _hidden_index(context, l, index)
    if l > 0 or context[layout.X_STAGED]:
        a = shift(a, first * a_stride)
    else:
        layer_index = shift(layer_index, first)
    block = shift(workspace, layer[OUTPUTS] + first * layer[STRIDE])
    code = IDENTITY if takes_preactivations(context[layout.LOSS]) else layer[ACTIVATION]
    forward(_kernels(context), _kernels(context), layer, parameters, a, a_stride, layer_index, last - first, block, code, _alpha(context, l),
            0, forward_items(layer, last - first, workspace))
    if code == SOFTMAX:
        softmax_rows(_kernels(context), block, layer[STRIDE], last - first, layer[UNITS])


@njit
def _backward_layer(context, parameters, workspace, scratch, l, first_row, rows, first, last):
    """Delta of layer ``l - 1`` from that of layer `l`, for `rows` rows from `first_row`; items first to last."""
    layer, below = _layer(context, l), _layer(context, l - 1)
    row_numbers = int64_pointer(context[layout.ROW_NUMBERS])
    backward(_kernels(context), _kernels(context), layer, below, parameters, shift(workspace, layer[DELTAS] + first_row * layer[STRIDE]), row_numbers,
             rows, shift(workspace, below[DELTAS] + first_row * below[STRIDE]),
             shift(workspace, below[OUTPUTS] + first_row * below[STRIDE]), below[ACTIVATION],
             _alpha(context, l - 1), pointer_at(context[layout.CONSTANTS], workspace),
             shift(scratch, context[layout.SCRATCH_PANEL]), first, last)


@njit
def _softmax_backward(context, workspace, l, first, last):
    """Finish the delta of layer `l` where its activation is softmax."""
    layer = _layer(context, l)
    if layer[ACTIVATION] == SOFTMAX:
        offset = first * layer[STRIDE]
        softmax_backward_rows(_kernels(context), shift(workspace, layer[DELTAS] + offset), shift(workspace, layer[OUTPUTS] + offset),
                              layer[STRIDE], last - first, layer[UNITS])


@njit
def _derivative_of_output(context, workspace, first, last):
    """Turn loss by outputs into delta, for a loss that does not do so itself."""
    l = context[layout.DEPTH] - 1
    layer = _layer(context, l)
    offset = first * layer[STRIDE]
    multiply_by_derivative(_kernels(context), layer[ACTIVATION], _alpha(context, l),
                           shift(workspace, layer[DELTAS] + offset), shift(workspace, layer[OUTPUTS] + offset),
                           layer[STRIDE], last - first, layer[PADDED])
    _softmax_backward(context, workspace, l, first, last)


@njit
def _forward_backward(context, parameters, workspace, scratch, index, rows, batch_rows, row_losses, part, parts, goal):
    """Outputs and deltas of all layers for `rows` rows of a batch of `batch_rows`; ends with a barrier."""
    team = int64_pointer(context[layout.TEAM])
    depth = context[layout.DEPTH]
    goal = _forward_pass(context, parameters, workspace, index, rows, depth - 1, part, parts, goal)

    layer = _layer(context, depth - 1)
    work = rows * layer[INPUTS] * layer[PADDED]
    first, last = _first(rows, part, parts, work), _first(rows, part + 1, parts, work)
    if first < last:
        _output_layer(context, parameters, workspace, index, rows, first, last)
        offset = first * layer[STRIDE]
        loss_rows(_kernels(context), context[layout.LOSS], shift(workspace, layer[OUTPUTS] + offset), layer[STRIDE],
                  layer[UNITS], context[layout.Y], context[layout.Y_KIND], context[layout.Y_STRIDE],
                  shift(index, first), last - first, 1.0 / batch_rows, shift(scratch, context[layout.SCRATCH_TARGET]),
                  shift(workspace, layer[DELTAS] + offset), shift(row_losses, first))
        if not takes_preactivations(context[layout.LOSS]):
            _derivative_of_output(context, workspace, first, last)
        if depth > 1:
            below = _layer(context, depth - 2)
            _backward_layer(context, parameters, workspace, scratch, depth - 1, first, last - first,
                            0, backward_items(below, last - first, workspace))
            _softmax_backward(context, workspace, depth - 2, first, last)
    goal = barrier(team, parts, goal)

    for l in range(depth - 2, 0, -1):
        layer, below = _layer(context, l), _layer(context, l - 1)
        items = backward_items(below, rows, workspace)
        work = rows * layer[INPUTS] * layer[PADDED]
        _backward_layer(context, parameters, workspace, scratch, l, 0, rows,
                        _first(items, part, parts, work), _first(items, part + 1, parts, work))
        goal = barrier(team, parts, goal)
        if below[ACTIVATION] == SOFTMAX:
            _softmax_backward(context, workspace, l - 1, _first(rows, part, parts, work),
                              _first(rows, part + 1, parts, work))
            goal = barrier(team, parts, goal)
    return goal


@njit
def _gradients(context, parameters, workspace, scratch, index, rows, optimizer, coefficients, gradients, accumulate,
               part, parts):
    """Weight gradients of all layers, and the updates they cause."""
    state = pointer_at(context[layout.STATE], workspace)
    constants = pointer_at(context[layout.CONSTANTS], workspace)
    for l in range(context[layout.DEPTH]):
        layer = _layer(context, l)
        a, a_stride = _inputs_of(context, l, workspace)
        items = gradient_items(layer, workspace)
        work = rows * layer[INPUTS] * layer[PADDED]
        gradient(_kernels(context), _kernels(context), layer, a, a_stride, _hidden_index(context, l, index), rows, shift(workspace, layer[DELTAS]),
                 constants, optimizer, coefficients, parameters, state, context[layout.COUNT], gradients,
                 accumulate, scratch, _first(items, part, parts, work), _first(items, part + 1, parts, work))


@njit
def _group_gradients(context, parameters, scratch, index, rows, row_losses, part, parts):
    """Gradients of a thread's share of the groups of rows of a batch."""
    groups = context[layout.GROUPS]
    workspace = shift(pointer_at(context[layout.WORKSPACE], scratch), part * context[layout.WORKSPACE_SIZE])
    coefficients = float64_pointer(context[layout.COEFFICIENTS])
    for group in range(groups * part // parts, groups * (part + 1) // parts):
        gradients = shift(pointer_at(context[layout.GRADIENTS], scratch), group * context[layout.COUNT])
        begin, end = rows * group // groups, rows * (group + 1) // groups
        for row in range(begin, end, context[layout.GROUP_ROWS]):
            count = min(context[layout.GROUP_ROWS], end - row)
            _forward_backward(context, parameters, workspace, scratch, shift(index, row), count, rows,
                              shift(row_losses, row), 0, 1, 0)
            _gradients(context, parameters, workspace, scratch, shift(index, row), count, WRITE_GRADIENT,
                       coefficients, gradients, int(row > begin), 0, 1)


@njit
def _apply_group_gradients(context, parameters, optimizer, coefficients, part, parts):
    """Sum the groups' gradients, in order, into the first and update the parameters of a share of the panels."""
    gradients = pointer_at(context[layout.GRADIENTS], parameters)
    state = pointer_at(context[layout.STATE], parameters)
    total = context[layout.COUNT]
    width = TILE_VECTORS * lanes(parameters)
    for l in range(context[layout.DEPTH]):
        layer = _layer(context, l)
        panels = panels_for(layer[PADDED], parameters)
        for panel in range(panels * part // parts, panels * (part + 1) // parts):
            columns = min(width, layer[PADDED] - panel * width)
            begin = layer[WEIGHTS] + panel * width * (layer[INPUTS] + 1)
            weights = layer[INPUTS] * columns
            for group in range(1, context[layout.GROUPS]):
                for i in range(begin, begin + weights + columns, lanes(parameters)):
                    store(gradients, i, load(gradients, i) + load(gradients, group * total + i))
            if optimizer != WRITE_GRADIENT:
                bias = begin + weights
                update(_kernels(context), optimizer, coefficients, 1, weights, shift(parameters, begin), shift(gradients, begin),
                       shift(state, begin), shift(state, total + begin))
                update(_kernels(context), optimizer, coefficients, 0, columns, shift(parameters, bias), shift(gradients, bias),
                       shift(state, bias), shift(state, total + bias))


@kernel(INT, INT, NUMBERS, INT_POINTER)
def train_part(part, parts, parameters, context):
    """What one thread does of the steps FIRST_STEP to LAST_STEP."""
    team = int64_pointer(context[layout.TEAM])
    order_epoch = context[layout.ORDER_EPOCH]
    parts = join(team, part, parts)
    if parts == 0:
        return
    goal = parts
    mode = flush_denormals()
    workspace = pointer_at(context[layout.WORKSPACE], parameters)
    scratch = shift(pointer_at(context[layout.SCRATCH], parameters), part * context[layout.SCRATCH_SIZE])
    coefficients = shift(float64_pointer(context[layout.COEFFICIENTS]), part * COEFFICIENTS)
    row_losses = float64_pointer(context[layout.ROW_LOSSES])
    order = int64_pointer(context[layout.ORDER])
    losses = float64_pointer(context[layout.LOSSES])
    rates = float64_pointer(context[layout.RATES])
    samples, batch = context[layout.SAMPLES], context[layout.ROWS]
    steps_per_epoch = (samples + batch - 1) // batch
    optimizer = context[layout.OPTIMIZER]
    first_step = context[layout.FIRST_STEP]
    for step in range(first_step, context[layout.LAST_STEP]):
        epoch = step // steps_per_epoch
        begin = (step - epoch * steps_per_epoch) * batch
        epoch += context[layout.EPOCHS_BEFORE]
        rows = min(batch, samples - begin)
        index = shift(order, begin)
        if context[layout.SHUFFLE] and epoch != order_epoch:
            if part == 0:
                shuffle(order, samples, context[layout.SEED], epoch)
                context[layout.ORDER_EPOCH] = epoch
            order_epoch = epoch
            goal = barrier(team, parts, goal)
        step_coefficients(optimizer, float64_pointer(context[layout.SETTINGS]), rates[step - first_step],
                          context[layout.UPDATES_BEFORE] + step + 1, coefficients)

        if context[layout.GROUPS] > 1:
            _group_gradients(context, parameters, scratch, index, rows, row_losses, part, parts)
            goal = barrier(team, parts, goal)
        else:
            goal = _forward_backward(context, parameters, workspace, scratch, index, rows, rows, row_losses,
                                     part, parts, goal)
        if part == 0:
            total = 0.0
            for r in range(rows):
                total += row_losses[r]
            losses[step - first_step] = total / rows
            if not math.isfinite(total):
                context[layout.NOT_FINITE] = step + 1
        if context[layout.GROUPS] > 1:
            _apply_group_gradients(context, parameters, optimizer, coefficients, part, parts)
        else:
            _gradients(context, parameters, workspace, scratch, index, rows, optimizer, coefficients,
                       pointer_at(context[layout.GRADIENTS], parameters), 0, part, parts)
        goal = barrier(team, parts, goal)
        if part == 0:
            context[layout.STEPS_DONE] = step + 1
        if context[layout.NOT_FINITE]:
            break
    restore_mode(mode)


@njit
def _count_hits(context, outputs, stride, rows, samples, target):
    """Right predictions among `rows` rows of outputs or pre-activations: arg max, or the side of the threshold."""
    layer = _layer(context, context[layout.DEPTH] - 1)
    units = layer[UNITS]
    hits = 0.0
    for r in range(rows):
        row = shift(outputs, r * stride)
        if context[layout.Y_KIND] != LABELS:
            read_targets(context[layout.Y], context[layout.Y_KIND], context[layout.Y_STRIDE], samples[r], units, target)
        if context[layout.LOSS] == BINARY_CROSS_ENTROPY:
            right = 0
            for k in range(units):
                right += (row[k] > 0.0) == (target[k] > 0.5)
            hits += right / units
            continue
        best = 0
        for k in range(1, units):
            if row[k] > row[best]:
                best = k
        if context[layout.Y_KIND] == LABELS:
            hits += int64_pointer(context[layout.Y])[samples[r]] == best
        else:
            wanted = 0
            for k in range(1, units):
                if target[k] > target[wanted]:
                    wanted = k
            hits += wanted == best
    return hits


@kernel(INT, INT, NUMBERS, INT_POINTER)
def predict_part(part, parts, parameters, context):
    """What one thread does of a prediction (RESULTS) or evaluation (LOSSES, HITS): whole chunks of ROWS rows."""
    mode = flush_denormals()
    workspace = shift(pointer_at(context[layout.WORKSPACE], parameters), part * context[layout.WORKSPACE_SIZE])
    scratch = shift(pointer_at(context[layout.SCRATCH], parameters), part * context[layout.SCRATCH_SIZE])
    samples, depth = context[layout.SAMPLES], context[layout.DEPTH]
    layer = _layer(context, depth - 1)
    outputs = shift(workspace, layer[OUTPUTS])
    units, stride = layer[UNITS], layer[STRIDE]
    chunks = (samples + context[layout.ROWS] - 1) // context[layout.ROWS]
    for chunk in range(chunks * part // parts, chunks * (part + 1) // parts):
        begin, end = samples * chunk // chunks, samples * (chunk + 1) // chunks
        rows = end - begin
        index = shift(int64_pointer(context[layout.ORDER]), part * context[layout.ROWS])
        for r in range(rows):
            index[r] = begin + r
        if context[layout.ROW_LOSSES] == 0:
            _forward_pass(context, parameters, workspace, index, rows, depth, 0, 1, 0)
            results = shift(pointer_at(context[layout.RESULTS], workspace), begin * units)
            for r in range(rows):
                for k in range(units):
                    results[r * units + k] = outputs[r * stride + k]
            continue
        row_losses = shift(float64_pointer(context[layout.ROW_LOSSES]), part * context[layout.ROWS])
        target = shift(scratch, context[layout.SCRATCH_TARGET])
        _forward_pass(context, parameters, workspace, index, rows, depth - 1, 0, 1, 0)
        _output_layer(context, parameters, workspace, index, rows, 0, rows)
        float64_pointer(context[layout.HITS])[chunk] = _count_hits(context, outputs, stride, rows, index, target)
        loss_rows(_kernels(context), context[layout.LOSS], outputs, stride, units, context[layout.Y],
                  context[layout.Y_KIND], context[layout.Y_STRIDE], index, rows, 1.0, target,
                  shift(workspace, layer[DELTAS]), row_losses)
        total = 0.0
        for r in range(rows):
            total += row_losses[r]
        float64_pointer(context[layout.LOSSES])[chunk] = total
    restore_mode(mode)


TRAIN, PREDICT = range(2)


@njit
def _run_part(program, part, parts, context):
    kernels = _kernels(context)
    # The table holds kernels of one dtype; to the caller's code, which only passes the pointer on, all are alike.
    parameters = float32_pointer(context[layout.PARAMETERS])
    if program == TRAIN:
        train_part(kernels, part, parts, parameters, context)
    else:
        predict_part(kernels, part, parts, parameters, context)


@njit(parallel=True)
def _run_team(program, parts, context):
    for part in prange(parts):
        _run_part(program, part, parts, pointer(context))


@cache_on_disk
@njit(nogil=True)
def run(program, parts, context):
    """Run TRAIN or PREDICT on `parts` threads, with the arguments in `context` (`layout`)."""
    if parts == 1:
        _run_part(program, 0, 1, pointer(context))
    else:
        _run_team(program, parts, context)
