"""The training loop, compiled: many steps in one call; and its smaller relatives, prediction and evaluation.

All of them are one program that every thread of a team runs, each doing its share of a phase before the team meets
at a barrier (`team`). A step of a network of L layers on a batch has these phases:

    stage        the batch's rows are copied into panels, each thread a share
    forward      one phase for each hidden layer, shared by panels of weights
    output       shared by rows: output layer, loss, delta, and delta of the layer below
    backward     one phase for each further hidden layer, from the last, shared by panels
    update       all layers: weight gradients, and the optimizer's update of each tile, shared by panels

A thread keeps the same panels in every phase and step, so that its weights and optimizer state stay in its cache; what
a slower one has left when a thread is done, that one takes over (`shares`).
A large batch goes through the network in several passes of PASS_ROWS rows, whose gradients add up; the last one makes
the update. A small network with a large batch has few panels and many rows: its batch is cut into groups of rows, each
of which goes through all phases on one thread and leaves its own gradient; the groups' gradients are then summed in
order. The numbers of passes and groups do not depend on the number of threads, and neither does anything else: the
results have the same bits on any number of threads.
"""

from __future__ import annotations

import math

from numba import njit, prange

from . import layout
from .batches import LABELS, unstage_rows
from .deferred import apply_gradients, limit_norms, sum_squared_weights
from .denormals import flush_denormals, restore_mode
from .dense import backward, gradient
from .layout import GRADIENT, OUTPUTS, UNITS, UPDATE
from .linking import INT, INT_POINTER, NUMBERS, cache_on_disk, inlined, kernel
from .losses import BINARY_CROSS_ENTROPY, read_targets
from .panels import place_of
from .passes import (
    forward_backward,
    forward_pass,
    layer_of,
    loss_and_deltas,
    output_layer,
    stage,
    weight_gradients,
)
from .random import shuffle
from .shares import first_in_part
from .simd import (
    address,
    float32_pointer,
    float64_pointer,
    full,
    int64_pointer,
    lanes,
    pointer,
    pointer_at,
    shift,
    store,
)
from .team import NEXT_CHUNK, TEAM_SIZE, atomic_add, barrier, join
from .threading_layer import get_threads, set_threads
from .updates import COEFFICIENTS, LOSS_SCALE, WRITE_GRADIENT, step_coefficients


@inlined
def _group_gradients(kernels, context, parameters, scratch, index, rows, scale, row_losses, update, part, parts):
    """Gradients of a thread's share of the groups of rows of a batch."""
    groups = context[layout.GROUPS]
    workspace = shift(pointer_at(context[layout.WORKSPACE], scratch), part * context[layout.WORKSPACE_SIZE])
    coefficients = float64_pointer(context[layout.COEFFICIENTS])
    for group in range(first_in_part(groups, part, parts), first_in_part(groups, part + 1, parts)):
        gradients = shift(pointer_at(context[layout.GRADIENTS], scratch), group * context[layout.COUNT])
        begin, end = rows * group // groups, rows * (group + 1) // groups
        keeps_sum = group == 0 and context[layout.ACCUMULATE] != 0
        if begin == end and not keeps_sum:  # fewer rows than groups
            for i in range(0, context[layout.COUNT], lanes(scratch)):
                store(gradients, i, full(gradients, 0.0))
        for row in range(begin, end, context[layout.PASS_ROWS]):
            count = min(context[layout.PASS_ROWS], end - row)
            forward_backward(kernels, context, parameters, workspace, scratch, shift(index, row), count, scale,
                             shift(row_losses, row), update, context[layout.FIRST_ROW] + row, 0, 1)
            weight_gradients(kernels, context, parameters, workspace, scratch, count, WRITE_GRADIENT, coefficients,
                             gradients, int(row > begin or keeps_sum), index, 0, 0, 1)


@inlined
def _sum_of_weights(context, index, rows):
    """Sum of the weights of a batch's rows: their number, if all count alike."""
    if context[layout.WEIGHTS_OF_SAMPLES] == 0:
        return float(rows)
    weights = float64_pointer(context[layout.WEIGHTS_OF_SAMPLES])
    total = 0.0
    for r in range(rows):
        total += weights[index[r]]
    return total


@inlined
def _sum_of_losses(row_losses, rows):
    """Sum of the losses of a batch's rows, in four sums: no addition has to wait for the one before it."""
    first, second, third, fourth = 0.0, 0.0, 0.0, 0.0
    whole = rows // 4 * 4
    for r in range(0, whole, 4):
        first += row_losses[r]
        second += row_losses[r + 1]
        third += row_losses[r + 2]
        fourth += row_losses[r + 3]
    for r in range(whole, rows):
        first += row_losses[r]
    return (first + second) + (third + fourth)


@inlined
def _record_loss(context, row_losses, rows, total_weight, step):
    """Note the mean loss of a batch, and where training is to stop because it is not finite."""
    total = _sum_of_losses(row_losses, rows)
    place = step - context[layout.FIRST_STEP]
    float64_pointer(context[layout.LOSSES])[place] = total / total_weight if total_weight > 0.0 else total
    float64_pointer(context[layout.STEP_WEIGHTS])[place] = total_weight
    if not math.isfinite(total):
        context[layout.NOT_FINITE] = step + 1


@kernel(INT, INT, NUMBERS, INT_POINTER, on_demand=True)
def train_part(kernels, part, parts, parameters, context):
    """What one thread does of the steps FIRST_STEP to LAST_STEP."""
    team = int64_pointer(context[layout.TEAM])
    order_epoch = context[layout.ORDER_EPOCH]
    parts = join(team, part, parts)
    if parts == 0:
        return
    mode = flush_denormals()
    workspace = pointer_at(context[layout.WORKSPACE], parameters)
    scratch = shift(pointer_at(context[layout.SCRATCH], parameters), part * context[layout.SCRATCH_SIZE])
    coefficients = shift(float64_pointer(context[layout.COEFFICIENTS]), part * COEFFICIENTS)
    row_losses = float64_pointer(context[layout.ROW_LOSSES])
    gradients = pointer_at(context[layout.GRADIENTS], parameters)
    order = int64_pointer(context[layout.ORDER])
    rates = float64_pointer(context[layout.RATES])
    settings = float64_pointer(context[layout.SETTINGS])
    samples, batch = context[layout.SAMPLES], context[layout.ROWS]
    steps_per_epoch = (samples + batch - 1) // batch
    first_epoch = context[layout.FIRST_STEP] // steps_per_epoch
    optimizer = context[layout.OPTIMIZER]
    # The update is fused into the gradient's tiles, unless it has to wait for the whole of the gradient.
    fused = context[layout.GROUPS] == 1 and not context[layout.DEFERRED]
    for step in range(context[layout.FIRST_STEP], context[layout.LAST_STEP]):
        epoch = step // steps_per_epoch
        epochs_done = epoch - first_epoch  # in this call
        begin = (step - epoch * steps_per_epoch) * batch
        epoch += context[layout.EPOCHS_BEFORE]
        rows = min(batch, samples - begin)
        index = shift(order, begin + (epoch - order_epoch) * context[layout.ORDER_STRIDE])
        following = min(context[layout.PASS_ROWS], samples - begin - rows) if context[layout.X_FAR] else 0
        if context[layout.SHUFFLE] and epoch != order_epoch:
            if part == 0:
                shuffle(order, samples, context[layout.SEED], epoch)
                context[layout.ORDER_EPOCH] = epoch
            order_epoch = epoch
            barrier(team, parts)
        update = context[layout.UPDATES_BEFORE] + step
        total_weight = _sum_of_weights(context, index, rows)
        step_coefficients(optimizer, settings, rates[step - context[layout.FIRST_STEP]], update + 1, total_weight,
                          coefficients)

        if context[layout.PHASES] & GRADIENT:
            scale = settings[LOSS_SCALE] / total_weight if total_weight > 0.0 else 0.0
            if context[layout.GROUPS] > 1:
                _group_gradients(kernels, context, parameters, scratch, index, rows, scale, row_losses, update, part,
                                 parts)
                barrier(team, parts)
            else:
                for row in range(0, rows, context[layout.PASS_ROWS]):
                    count = min(context[layout.PASS_ROWS], rows - row)
                    is_last = row + count == rows
                    forward_backward(kernels, context, parameters, workspace, scratch, shift(index, row), count, scale,
                                     shift(row_losses, row), update, context[layout.FIRST_ROW] + row, part, parts)
                    if is_last and part == 0:
                        _record_loss(context, row_losses, rows, total_weight, step)
                    weight_gradients(kernels, context, parameters, workspace, scratch, count,
                                     optimizer if is_last and fused else WRITE_GRADIENT, coefficients, gradients,
                                     int(row > 0 or context[layout.ACCUMULATE] != 0), shift(index, rows),
                                     following if is_last else 0, part, parts)
                    barrier(team, parts)
            if context[layout.GROUPS] > 1 and part == 0:
                _record_loss(context, row_losses, rows, total_weight, step)
        if not fused:
            apply_gradients(kernels, context, parameters, optimizer, coefficients, part, parts)
            barrier(team, parts)
        if context[layout.CONSTRAINED] and optimizer != WRITE_GRADIENT and context[layout.PHASES] & UPDATE:
            limit_norms(kernels, context, parameters, part, parts)
            barrier(team, parts)
        if part == 0:
            if context[layout.SQUARED_WEIGHTS] and begin + rows == samples:
                sum_squared_weights(kernels, context, parameters, epochs_done)
            context[layout.STEPS_DONE] = step + 1
        if context[layout.NOT_FINITE]:
            break
    restore_mode(mode)


@inlined
def _count_hits(context, outputs, rows, samples, target):
    """Right predictions among `rows` rows of outputs or pre-activations: arg max, or the side of the threshold."""
    layer = layer_of(context, context[layout.DEPTH] - 1)
    units = layer[UNITS]
    hits = 0.0
    for r in range(rows):
        if context[layout.Y_KIND] != LABELS:
            read_targets(context[layout.Y], context[layout.Y_KIND], context[layout.Y_STRIDE], samples[r], units,
                         target, 1)
        if context[layout.LOSS] == BINARY_CROSS_ENTROPY:
            right = 0
            for k in range(units):
                right += (outputs[place_of(r, k, rows, units, outputs)] > 0.0) == (target[k] > 0.5)
            hits += right / units
            continue
        best, largest = 0, outputs[place_of(r, 0, rows, units, outputs)]
        for k in range(1, units):
            output = outputs[place_of(r, k, rows, units, outputs)]
            if output > largest:
                best, largest = k, output
        if context[layout.Y_KIND] == LABELS:
            hits += int64_pointer(context[layout.Y])[samples[r]] == best
        else:
            wanted = 0
            for k in range(1, units):
                if target[k] > target[wanted]:
                    wanted = k
            hits += wanted == best
    return hits


@inlined
def _predict_chunk(kernels, context, parameters, workspace, scratch, first_row, rows, part, parts):
    """Write the outputs of `rows` staged rows to the RESULTS of the rows from `first_row` on."""
    depth = context[layout.DEPTH]
    forward_pass(kernels, context, parameters, workspace, scratch, rows, depth, 0, 0, part, parts)
    layer = layer_of(context, depth - 1)
    begin, end = first_in_part(rows, part, parts), first_in_part(rows, part + 1, parts)
    results = shift(pointer_at(context[layout.RESULTS], workspace), (first_row + begin) * layer[UNITS])
    unstage_rows(kernels, shift(workspace, layer[OUTPUTS]), rows, begin, end, layer[UNITS], results)


@inlined
def _evaluate_chunk(kernels, context, parameters, workspace, scratch, index, rows, chunk, row_losses, part, parts):
    """Write a chunk's sum of losses to LOSSES and its number of right predictions to HITS."""
    depth = context[layout.DEPTH]
    forward_pass(kernels, context, parameters, workspace, scratch, rows, depth - 1, 0, 0, part, parts)
    begin, end = first_in_part(rows, part, parts), first_in_part(rows, part + 1, parts)
    output_layer(kernels, context, parameters, workspace, scratch, rows, begin, end)
    loss_and_deltas(kernels, context, workspace, scratch, index, rows, begin, end, 1.0, row_losses)
    barrier(int64_pointer(context[layout.TEAM]), parts)
    if part == 0:
        outputs = shift(workspace, layer_of(context, depth - 1)[OUTPUTS])
        float64_pointer(context[layout.HITS])[chunk] = _count_hits(context, outputs, rows, index,
                                                                   shift(scratch, context[layout.SCRATCH_ROWS]))
        float64_pointer(context[layout.LOSSES])[chunk] = _sum_of_losses(row_losses, rows)


@kernel(INT, INT, NUMBERS, INT_POINTER, on_demand=True)
def predict_part(kernels, part, parts, parameters, context):
    """What one thread does of a prediction (RESULTS) or evaluation (LOSSES, HITS), in chunks of up to ROWS rows.

    Each thread takes the next chunk for itself when it is done with one; with SHARES_CHUNKS all threads go through
    every chunk together, as in training, so that each reads its share of the weights only.
    """
    team = int64_pointer(context[layout.TEAM])
    member, members = 0, 1  # of those that go through a chunk together
    takes_all = parts == 1 or context[layout.SHARES_CHUNKS] != 0
    if context[layout.SHARES_CHUNKS]:
        member, members = part, join(team, part, parts)
        if members == 0:
            return
    mode = flush_denormals()
    workspace = shift(pointer_at(context[layout.WORKSPACE], parameters), part * context[layout.WORKSPACE_SIZE])
    scratch = shift(pointer_at(context[layout.SCRATCH], parameters), part * context[layout.SCRATCH_SIZE])
    index = shift(int64_pointer(context[layout.ORDER]), part * context[layout.ROWS])
    samples = context[layout.SAMPLES]
    chunks = (samples + context[layout.ROWS] - 1) // context[layout.ROWS]
    chunk = -1
    while True:
        chunk = chunk + 1 if takes_all else atomic_add(shift(team, NEXT_CHUNK), 1)
        if chunk >= chunks:
            break
        begin, end = samples * chunk // chunks, samples * (chunk + 1) // chunks
        rows = end - begin
        for r in range(rows):
            index[r] = begin + r
        stage(kernels, context, workspace, scratch, index, rows, member, members)
        if context[layout.ROW_LOSSES] == 0:
            _predict_chunk(kernels, context, parameters, workspace, scratch, begin, rows, member, members)
        else:
            row_losses = shift(float64_pointer(context[layout.ROW_LOSSES]), (part - member) * context[layout.ROWS])
            _evaluate_chunk(kernels, context, parameters, workspace, scratch, index, rows, chunk, row_losses, member,
                            members)
        barrier(team, members)
    restore_mode(mode)


TRAIN, PREDICT = range(2)

# Kernels on demand that a program needs whatever the network.
TRAINING = (train_part, forward_backward, weight_gradients, backward, gradient, apply_gradients)
PREDICTION = (predict_part, unstage_rows)


@inlined
def _run_part(program, part, parts, context):
    kernels = int64_pointer(context[layout.KERNELS])
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
    fields = pointer(context)
    if parts == 1:
        _run_part(program, 0, 1, fields)
        return
    team = int64_pointer(fields[layout.TEAM])
    for i in range(TEAM_SIZE):
        team[i] = 0
    before = get_threads()
    set_threads(parts)
    _run_team(program, parts, context)
    set_threads(before)


@cache_on_disk
@njit(nogil=True)
def predict(context, X, results, parts):
    """Predict the rows of X, an array in C order of the network's dtype; return whether one of them is not finite.

    The same as `run`, but some microseconds sooner: the arrays are unpacked by compiled code. For more than one of
    `parts` it sets the arguments only, and `run` is to be called: together they would take a second more to compile.
    """
    fields = pointer(context)
    fields[layout.X] = address(X)
    fields[layout.X_DIRECT] = 1
    fields[layout.X_STRIDE] = X.shape[1]
    fields[layout.SAMPLES] = len(X)
    fields[layout.RESULTS] = address(results)
    fields[layout.ROW_LOSSES] = 0
    fields[layout.X_NOT_FINITE] = 0
    if parts == 1:
        _run_part(PREDICT, 0, 1, fields)
    return fields[layout.X_NOT_FINITE]
