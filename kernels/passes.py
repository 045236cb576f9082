"""Forward and backward through all layers of a network, as a team of threads: the phases of a training step.

`context` holds the arguments of the call (`layout`), `workspace` the outputs and deltas of a batch, `index` the
samples that its rows are. Each function is called by every member of the team, `part` of `parts`, and does that
member's share of each phase. `goal` is what the barrier counts to next.
"""

from __future__ import annotations

from numba import njit

from . import layout
from .activations import IDENTITY, SOFTMAX, multiply_by_derivative, softmax_backward_rows, softmax_rows
from .batches import stage_rows
from .dense import backward, backward_items, forward, forward_items, gradient, gradient_items
from .layout import ACTIVATION, DELTAS, INPUTS, LAYER_FIELDS, OUTPUTS, PADDED, STRIDE, UNITS
from .losses import loss_rows, takes_preactivations
from .simd import float64_pointer, int64_pointer, pointer_at, shift
from .team import barrier

# Multiply-adds below which a phase is left to one thread: sharing it saves less than the caches lose by it.
LEAST_SHARED_WORK = 16_000


@njit
def kernels_of(context):
    return int64_pointer(context[layout.KERNELS])


@njit
def layer_of(context, number):
    return shift(int64_pointer(context[layout.LAYERS]), number * LAYER_FIELDS)


@njit
def alpha_of(context, number):
    return float64_pointer(context[layout.ALPHAS])[number]


@njit
def first_of(items, part, parts, work):
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
        below = layer_of(context, l - 1)
        return shift(workspace, below[OUTPUTS]), below[STRIDE]
    if context[layout.X_STAGED]:
        return shift(workspace, context[layout.STAGED]), context[layout.STAGED_STRIDE]
    return pointer_at(context[layout.X], workspace), context[layout.X_STRIDE]


@njit
def forward_pass(context, parameters, workspace, index, rows, layers, part, parts, goal):
    """Stage the rows and go forward through the first `layers` layers; each ends with a barrier."""
    kernels = kernels_of(context)
    team = int64_pointer(context[layout.TEAM])
    if context[layout.X_STAGED]:
        inputs = layer_of(context, 0)[INPUTS]
        first, last = first_of(rows, part, parts, rows * inputs), first_of(rows, part + 1, parts, rows * inputs)
        stride = context[layout.STAGED_STRIDE]
        stage_rows(kernels, context[layout.X], context[layout.X_KIND], context[layout.X_STRIDE], shift(index, first),
                   last - first, inputs, pointer_at(context[layout.X_MEAN], workspace),
                   pointer_at(context[layout.X_SCALE], workspace),
                   shift(workspace, context[layout.STAGED] + first * stride), stride)
        goal = barrier(team, parts, goal)
    for l in range(layers):
        layer = layer_of(context, l)
        a, a_stride = _inputs_of(context, l, workspace)
        outputs = shift(workspace, layer[OUTPUTS])
        items = forward_items(layer, rows, workspace)
        work = rows * layer[INPUTS] * layer[PADDED]
        forward(kernels, layer, parameters, a, a_stride, _hidden_index(context, l, index), rows, outputs,
                layer[ACTIVATION], alpha_of(context, l), first_of(items, part, parts, work),
                first_of(items, part + 1, parts, work))
        goal = barrier(team, parts, goal)
        if layer[ACTIVATION] == SOFTMAX:
            first, last = first_of(rows, part, parts, work), first_of(rows, part + 1, parts, work)
            softmax_rows(kernels, shift(outputs, first * layer[STRIDE]), layer[STRIDE], last - first, layer[UNITS])
            goal = barrier(team, parts, goal)
    return goal


@njit
def output_layer(context, parameters, workspace, index, rows, first, last):
    """Forward through the output layer for rows `first` to `last`, leaving what the loss takes."""
    kernels = kernels_of(context)
    l = context[layout.DEPTH] - 1
    layer = layer_of(context, l)
    a, a_stride = _inputs_of(context, l, workspace)
    layer_index = _hidden_index(context, l, index)
    if l > 0 or context[layout.X_STAGED]:
        a = shift(a, first * a_stride)
    else:
        layer_index = shift(layer_index, first)
    block = shift(workspace, layer[OUTPUTS] + first * layer[STRIDE])
    code = IDENTITY if takes_preactivations(context[layout.LOSS]) else layer[ACTIVATION]
    forward(kernels, layer, parameters, a, a_stride, layer_index, last - first, block, code, alpha_of(context, l), 0,
            forward_items(layer, last - first, workspace))
    if code == SOFTMAX:
        softmax_rows(kernels, block, layer[STRIDE], last - first, layer[UNITS])


@njit
def _backward_layer(context, parameters, workspace, scratch, l, first_row, rows, first, last):
    """Delta of layer ``l - 1`` from that of layer `l`, for `rows` rows from `first_row`; items first to last."""
    kernels = kernels_of(context)
    layer, below = layer_of(context, l), layer_of(context, l - 1)
    row_numbers = int64_pointer(context[layout.ROW_NUMBERS])
    backward(kernels, layer, below, parameters, shift(workspace, layer[DELTAS] + first_row * layer[STRIDE]),
             row_numbers, rows, shift(workspace, below[DELTAS] + first_row * below[STRIDE]),
             shift(workspace, below[OUTPUTS] + first_row * below[STRIDE]), below[ACTIVATION],
             alpha_of(context, l - 1), pointer_at(context[layout.CONSTANTS], workspace),
             shift(scratch, context[layout.SCRATCH_PANEL]), first, last)


@njit
def _softmax_backward(context, workspace, l, first, last):
    """Finish the delta of layer `l` where its activation is softmax."""
    kernels = kernels_of(context)
    layer = layer_of(context, l)
    if layer[ACTIVATION] == SOFTMAX:
        offset = first * layer[STRIDE]
        softmax_backward_rows(kernels, shift(workspace, layer[DELTAS] + offset),
                              shift(workspace, layer[OUTPUTS] + offset), layer[STRIDE], last - first, layer[UNITS])


@njit
def _derivative_of_output(context, workspace, first, last):
    """Turn loss by outputs into delta, for a loss that does not do so itself."""
    kernels = kernels_of(context)
    l = context[layout.DEPTH] - 1
    layer = layer_of(context, l)
    offset = first * layer[STRIDE]
    multiply_by_derivative(kernels, layer[ACTIVATION], alpha_of(context, l),
                           shift(workspace, layer[DELTAS] + offset), shift(workspace, layer[OUTPUTS] + offset),
                           layer[STRIDE], last - first, layer[PADDED])
    _softmax_backward(context, workspace, l, first, last)


@njit
def forward_backward(context, parameters, workspace, scratch, index, rows, batch_rows, row_losses, part, parts, goal):
    """Outputs and deltas of all layers for `rows` rows of a batch of `batch_rows`; ends with a barrier."""
    kernels = kernels_of(context)
    team = int64_pointer(context[layout.TEAM])
    depth = context[layout.DEPTH]
    goal = forward_pass(context, parameters, workspace, index, rows, depth - 1, part, parts, goal)

    layer = layer_of(context, depth - 1)
    work = rows * layer[INPUTS] * layer[PADDED]
    first, last = first_of(rows, part, parts, work), first_of(rows, part + 1, parts, work)
    if first < last:
        output_layer(context, parameters, workspace, index, rows, first, last)
        offset = first * layer[STRIDE]
        loss_rows(kernels, context[layout.LOSS], shift(workspace, layer[OUTPUTS] + offset), layer[STRIDE],
                  layer[UNITS], context[layout.Y], context[layout.Y_KIND], context[layout.Y_STRIDE],
                  shift(index, first), last - first, 1.0 / batch_rows, shift(scratch, context[layout.SCRATCH_TARGET]),
                  shift(workspace, layer[DELTAS] + offset), shift(row_losses, first))
        if not takes_preactivations(context[layout.LOSS]):
            _derivative_of_output(context, workspace, first, last)
        if depth > 1:
            below = layer_of(context, depth - 2)
            _backward_layer(context, parameters, workspace, scratch, depth - 1, first, last - first,
                            0, backward_items(below, last - first, workspace))
            _softmax_backward(context, workspace, depth - 2, first, last)
    goal = barrier(team, parts, goal)

    for l in range(depth - 2, 0, -1):
        layer, below = layer_of(context, l), layer_of(context, l - 1)
        items = backward_items(below, rows, workspace)
        work = rows * layer[INPUTS] * layer[PADDED]
        _backward_layer(context, parameters, workspace, scratch, l, 0, rows,
                        first_of(items, part, parts, work), first_of(items, part + 1, parts, work))
        goal = barrier(team, parts, goal)
        if below[ACTIVATION] == SOFTMAX:
            _softmax_backward(context, workspace, l - 1, first_of(rows, part, parts, work),
                              first_of(rows, part + 1, parts, work))
            goal = barrier(team, parts, goal)
    return goal


@njit
def weight_gradients(context, parameters, workspace, scratch, index, rows, optimizer, coefficients, gradients,
                     accumulate, part, parts):
    """Weight gradients of all layers, and the updates they cause."""
    kernels = kernels_of(context)
    state = pointer_at(context[layout.STATE], workspace)
    constants = pointer_at(context[layout.CONSTANTS], workspace)
    for l in range(context[layout.DEPTH]):
        layer = layer_of(context, l)
        a, a_stride = _inputs_of(context, l, workspace)
        items = gradient_items(layer, workspace)
        work = rows * layer[INPUTS] * layer[PADDED]
        gradient(kernels, layer, a, a_stride, _hidden_index(context, l, index), rows,
                 shift(workspace, layer[DELTAS]), constants, optimizer, coefficients, parameters, state,
                 context[layout.COUNT], gradients, accumulate, scratch,
                 first_of(items, part, parts, work), first_of(items, part + 1, parts, work))
