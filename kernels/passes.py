"""Forward and backward through all layers of a network, as a team of threads: the phases of a training step.

`context` holds the arguments of the call (`layout`), `workspace` the outputs and deltas of a pass, `scratch` the memory
of one thread, `index` the samples that the rows of the pass are. Each function is called by every member of the
team, `part` of `parts`, and does that member's share of each phase, and what others have left of theirs (`shares`).
"""

from __future__ import annotations

import numpy as np

from . import layout
from .activations import IDENTITY, SOFTMAX, softmax_backward_rows, softmax_rows
from .augmentation import IMAGES_AT_ONCE, augment_rows
from .batches import lines_of_row, stage_rows
from .dense import backward, backward_items, derive, forward, forward_items, gradient, gradient_items
from .layout import (
    ACTIVATION,
    ALPHA,
    DELTAS,
    DROPOUT,
    INPUTS,
    LAYER_FIELDS,
    LAYER_SETTINGS,
    OUTPUTS,
    PADDED,
    PIECES,
    UNITS,
)
from .linking import DOUBLE, DOUBLE_POINTER, INT, INT_POINTER, NUMBERS, inlined, kernel
from .losses import loss_rows, takes_preactivations
from .noise import add_noise, drop
from .panels import padded_columns, panel_width, panels_for
from .random import stream_key
from .read_ahead import LIST_FIELDS, ask_for_rest, make_list
from .shares import BACKWARD, FORWARD, UPDATE, first_in_part, first_of, give_back_shares, take_items
from .simd import address_at, float64_pointer, int64_pointer, pointer_at, shift
from .special import FULL_RATE, maxout, maxout_backward
from .team import barrier


@inlined
def layer_of(context, number):
    return shift(int64_pointer(context[layout.LAYERS]), number * LAYER_FIELDS)


@inlined
def alpha_of(context, number):
    return float64_pointer(context[layout.LAYER_NUMBERS])[number * LAYER_SETTINGS + ALPHA]


@inlined
def _key_of(context, update, layer_number):
    """Key of the random numbers that a layer draws in an update; the inputs are layers -1 and -2."""
    # Streams of negative number, as epochs take those from 0 on for the order of the samples.
    return np.int64(stream_key(stream_key(context[layout.SEED], -1 - update), layer_number))


@inlined
def _inputs_of(context, l, workspace):
    """Where the inputs of layer `l` lie."""
    return shift(workspace, layer_of(context, l - 1)[OUTPUTS] if l > 0 else context[layout.STAGED])


@inlined
def _row_scratch(context, scratch):
    """Scratch memory for what works on a register full of rows."""
    return shift(scratch, context[layout.SCRATCH_ROWS])


@inlined
def stage(kernels, context, workspace, scratch, index, rows, part, parts):
    """Copy the rows of a chunk into panels, to predict: each thread a share; ends with a barrier."""
    begin, end = first_in_part(rows, part, parts), first_in_part(rows, part + 1, parts)
    _stage_share(kernels, context, scratch, shift(workspace, context[layout.STAGED]), index, rows, begin, end)
    give_back_shares(context, part, parts)
    barrier(int64_pointer(context[layout.TEAM]), parts)


@inlined
def _stage_share(kernels, context, scratch, staged, index, rows, begin, end):
    """Copy the rows `begin` to `end` of a pass into the panels `staged`."""
    x_mean, x_scale = pointer_at(context[layout.X_MEAN], scratch), pointer_at(context[layout.X_SCALE], scratch)
    stage_rows(kernels, context[layout.X], context[layout.X_KIND], context[layout.X_DIRECT],
               context[layout.X_STRIDE], index, rows, begin, end, layer_of(context, 0)[INPUTS], x_mean, x_scale,
               context[layout.X_STANDARDISED], shift(scratch, context[layout.SCRATCH_LINE]),
               staged, shift(context, layout.X_NOT_FINITE))


@inlined
def _stage_for_training(kernels, context, workspace, scratch, index, rows, update, first_row, part, parts):
    """Copy the rows of a pass into panels, changed at random as asked for: each thread a share; ends with a barrier."""
    begin, end = first_in_part(rows, part, parts), first_in_part(rows, part + 1, parts)
    staged = shift(workspace, context[layout.STAGED])
    if context[layout.AUGMENTATION]:
        for first in range(begin, end, IMAGES_AT_ONCE):
            _stage_augmented(kernels, context, scratch, staged, index, rows, first, min(first + IMAGES_AT_ONCE, end),
                             update, first_row)
    else:
        _stage_share(kernels, context, scratch, staged, index, rows, begin, end)
    if context[layout.INPUT_NOISE] or context[layout.INPUT_DROPOUT]:
        _disturb_inputs(kernels, context, staged, rows, begin, end, update, first_row)
    give_back_shares(context, part, parts)
    barrier(int64_pointer(context[layout.TEAM]), parts)


@inlined
def _disturb_inputs(kernels, context, staged, rows, begin, end, update, first_row):
    """Add noise to the rows `begin` to `end` of a pass, and drop some of their numbers."""
    width, padded = panel_width(staged), padded_columns(layer_of(context, 0)[INPUTS], staged)
    for column in range(0, padded, width):
        columns = min(width, padded - column)
        block = shift(staged, column * rows + begin * columns)
        place = (first_row + begin) * padded + column
        if context[layout.INPUT_NOISE]:
            add_noise(kernels, _key_of(context, update, -2), place, padded, end - begin, columns,
                      float64_pointer(context[layout.INPUT_NOISE])[0], block)
        if context[layout.INPUT_DROPOUT]:
            drop(kernels, _key_of(context, update, -1), place, padded, end - begin, columns,
                 context[layout.INPUT_DROPOUT] / FULL_RATE, 0, block, block)


@inlined
def _stage_augmented(kernels, context, scratch, staged, index, rows, first, last, update, first_row):
    """Change the images in the rows `first` to `last` of a pass at random, and copy them into panels."""
    inputs = layer_of(context, 0)[INPUTS]
    images = shift(scratch, context[layout.SCRATCH_AUGMENTED])
    augment_rows(kernels, context[layout.X], context[layout.X_KIND], context[layout.X_STRIDE], shift(index, first), 0,
                 last - first, context[layout.IMAGE_HEIGHT], context[layout.IMAGE_WIDTH],
                 float64_pointer(context[layout.AUGMENTATION]), context[layout.SEED], update, first_row + first,
                 shift(scratch, context[layout.SCRATCH_IMAGE]), images)
    x_mean, x_scale = pointer_at(context[layout.X_MEAN], scratch), pointer_at(context[layout.X_SCALE], scratch)
    numbers_from_first = shift(int64_pointer(context[layout.ROW_NUMBERS]), -first)
    stage_rows(kernels, address_at(images), 0, 1, inputs, numbers_from_first, rows, first, last, inputs, x_mean,
               x_scale, context[layout.X_STANDARDISED], scratch, staged, shift(context, layout.X_NOT_FINITE))


@kernel(INT_POINTER, NUMBERS, NUMBERS, NUMBERS, INT, INT, INT, INT, INT, INT)
def forward_pass(kernels, context, parameters, workspace, scratch, rows, layers, update, first_row, part, parts):
    """Go forward through the first `layers` layers, from staged rows; each ends with a barrier.

    Random numbers depend on the number of the `update` and on that of the first row in its batch.
    """
    team = int64_pointer(context[layout.TEAM])
    for l in range(layers):
        layer = layer_of(context, l)
        a, outputs = _inputs_of(context, l, workspace), shift(workspace, layer[OUTPUTS])
        key = _key_of(context, update, l) if layer[DROPOUT] else 0
        work = rows * layer[INPUTS] * layer[PADDED]
        items = panels_for(layer[PADDED], workspace) if layer[PIECES] else forward_items(layer, rows, workspace)
        helped = 0
        while True:
            first, last, helped = take_items(context, FORWARD, l, items, 1, work, part, parts, helped)
            if first == last:
                break
            if layer[PIECES]:
                for panel in range(first, last):
                    maxout(kernels, layer, a, outputs, rows, 0, rows, panel, key, first_row)
            else:
                forward(kernels, layer, parameters, a, outputs, rows, 0, rows, layer[ACTIVATION], alpha_of(context, l),
                        key, first_row, first, last)
        barrier(team, parts)
        if layer[ACTIVATION] == SOFTMAX:
            softmax_rows(kernels, outputs, rows, first_of(rows, part, parts, work),
                         first_of(rows, part + 1, parts, work), layer[UNITS], _row_scratch(context, scratch))
            barrier(team, parts)


@inlined
def output_layer(kernels, context, parameters, workspace, scratch, rows, begin, end):
    """Forward through the output layer for rows `begin` to `end`, leaving what the loss takes."""
    l = context[layout.DEPTH] - 1
    layer = layer_of(context, l)
    outputs = shift(workspace, layer[OUTPUTS])
    code = IDENTITY if takes_preactivations(context[layout.LOSS]) else layer[ACTIVATION]
    forward(kernels, layer, parameters, _inputs_of(context, l, workspace), outputs, rows, begin, end, code,
            alpha_of(context, l), 0, 0, 0, forward_items(layer, end - begin, workspace))
    if code == SOFTMAX:
        softmax_rows(kernels, outputs, rows, begin, end, layer[UNITS], _row_scratch(context, scratch))


@inlined
def loss_and_deltas(kernels, context, workspace, scratch, index, rows, begin, end, scale, row_losses):
    """Losses of rows `begin` to `end`, and the derivative of `scale` times their sum by the outputs."""
    layer = layer_of(context, context[layout.DEPTH] - 1)
    loss_rows(kernels, context[layout.LOSS], float64_pointer(context[layout.LOSS_PARAMETER])[0],
              shift(workspace, layer[OUTPUTS]), rows, begin, end, layer[UNITS], context[layout.Y],
              context[layout.Y_KIND], context[layout.Y_STRIDE], context[layout.WEIGHTS_OF_SAMPLES], index, scale,
              _row_scratch(context, scratch), shift(workspace, layer[DELTAS]), row_losses)


@inlined
def _backward_layer(kernels, context, parameters, workspace, scratch, l, rows, begin, end, first, last):
    """Delta of layer ``l - 1`` from that of layer `l`, for rows `begin` to `end`; items first to last."""
    layer, below = layer_of(context, l), layer_of(context, l - 1)
    backward(kernels, layer, below, parameters, shift(workspace, layer[DELTAS]),
             shift(workspace, below[DELTAS]), shift(workspace, below[OUTPUTS]), rows, begin, end, below[ACTIVATION],
             alpha_of(context, l - 1), shift(scratch, context[layout.SCRATCH_PANEL]), first, last)


@inlined
def _softmax_backward(kernels, context, workspace, scratch, l, rows, begin, end):
    """Finish the delta of layer `l` where its activation is softmax."""
    layer = layer_of(context, l)
    if layer[ACTIVATION] == SOFTMAX:
        softmax_backward_rows(kernels, shift(workspace, layer[DELTAS]), shift(workspace, layer[OUTPUTS]),
                              rows, begin, end, layer[UNITS], _row_scratch(context, scratch))


@inlined
def _derivative_of_output(kernels, context, parameters, workspace, scratch, rows, begin, end):
    """Turn loss by outputs into delta, for a loss that does not do so itself."""
    l = context[layout.DEPTH] - 1
    layer = layer_of(context, l)
    width = panel_width(workspace)
    for column in range(0, layer[PADDED], width):
        columns = min(width, layer[PADDED] - column)
        block = column * rows + begin * columns
        derive(kernels, layer, parameters, layer[ACTIVATION], alpha_of(context, l),
               shift(workspace, layer[DELTAS] + block), shift(workspace, layer[OUTPUTS] + block), column, end - begin,
               columns)
    _softmax_backward(kernels, context, workspace, scratch, l, rows, begin, end)


@kernel(INT_POINTER, NUMBERS, NUMBERS, NUMBERS, INT_POINTER, INT, DOUBLE, DOUBLE_POINTER, INT, INT, INT, INT,
        on_demand=True)
def forward_backward(kernels, context, parameters, workspace, scratch, index, rows, scale, row_losses, update,
                     first_row, part, parts):
    """Outputs and deltas of all layers for `rows` rows, of the loss times `scale`; ends with a barrier.

    `update` and `first_row` are as in `forward_pass`.
    """
    team = int64_pointer(context[layout.TEAM])
    depth = context[layout.DEPTH]
    _stage_for_training(kernels, context, workspace, scratch, index, rows, update, first_row, part, parts)
    forward_pass(kernels, context, parameters, workspace, scratch, rows, depth - 1, update, first_row, part, parts)

    layer = layer_of(context, depth - 1)
    work = rows * layer[INPUTS] * layer[PADDED]
    begin, end = first_of(rows, part, parts, work), first_of(rows, part + 1, parts, work)
    if begin < end:
        output_layer(kernels, context, parameters, workspace, scratch, rows, begin, end)
        loss_and_deltas(kernels, context, workspace, scratch, index, rows, begin, end, scale, row_losses)
        if not takes_preactivations(context[layout.LOSS]):
            _derivative_of_output(kernels, context, parameters, workspace, scratch, rows, begin, end)
        if depth > 1:
            below = layer_of(context, depth - 2)
            _backward_layer(kernels, context, parameters, workspace, scratch, depth - 1, rows, begin, end,
                            0, backward_items(below, end - begin, workspace))
            _softmax_backward(kernels, context, workspace, scratch, depth - 2, rows, begin, end)
    barrier(team, parts)

    for l in range(depth - 2, 0, -1):
        layer, below = layer_of(context, l), layer_of(context, l - 1)
        work = rows * layer[INPUTS] * layer[PADDED]
        panels = panels_for(layer[PADDED] if layer[PIECES] else below[PADDED], workspace)
        items = panels if layer[PIECES] else backward_items(below, rows, workspace)
        helped = 0
        while True:
            # A panel of weights is transposed by each member that works on it.
            first, last, helped = take_items(context, BACKWARD, l, items, items // panels, work, part, parts, helped)
            if first == last:
                break
            if layer[PIECES]:
                for panel in range(first, last):
                    maxout_backward(kernels, layer, shift(workspace, below[OUTPUTS]), shift(workspace, layer[DELTAS]),
                                    shift(workspace, below[DELTAS]), rows, panel)
            else:
                _backward_layer(kernels, context, parameters, workspace, scratch, l, rows, 0, rows, first, last)
        barrier(team, parts)
        if below[ACTIVATION] == SOFTMAX:
            _softmax_backward(kernels, context, workspace, scratch, l - 1, rows, first_of(rows, part, parts, work),
                              first_of(rows, part + 1, parts, work))
            barrier(team, parts)


@kernel(INT_POINTER, NUMBERS, NUMBERS, NUMBERS, INT, INT, DOUBLE_POINTER, NUMBERS, INT, INT_POINTER, INT, INT, INT,
        on_demand=True)
def weight_gradients(kernels, context, parameters, workspace, scratch, rows, optimizer, coefficients, gradients,
                     accumulate, next_index, next_rows, part, parts):
    """Weight gradients of all layers, and the updates they cause.

    Meanwhile the rows of the next pass, which `next_index` names, are asked for (`read_ahead`).
    """
    state = pointer_at(context[layout.STATE], workspace)
    ahead = shift(int64_pointer(context[layout.AHEAD]), part * LIST_FIELDS)  # of which nothing is left
    next_lines = next_rows * lines_of_row(context[layout.X_KIND], layer_of(context, 0)[INPUTS])
    for l in range(context[layout.DEPTH]):
        layer = layer_of(context, l)
        if layer[PIECES]:
            continue
        a, deltas = _inputs_of(context, l, workspace), shift(workspace, layer[DELTAS])
        items = gradient_items(layer, workspace)
        work = rows * layer[INPUTS] * layer[PADDED]
        helped = 0
        while True:
            first, last, helped = take_items(context, UPDATE, l, items, 1, work, part, parts, helped)
            if first == last:
                break
            if l == 0 and next_lines > 0:
                make_list(ahead, context, layer[INPUTS], next_index, next_lines * first // items,
                          next_lines * last // items)
            gradient(kernels, layer, a, deltas, rows, optimizer, coefficients, parameters, state,
                     context[layout.COUNT], gradients, accumulate, scratch, ahead, first, last)
            ask_for_rest(ahead)
