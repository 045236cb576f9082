"""The three products of a dense layer on arrays in C order, with threads: what `standalone` calls.

A product has three phases, with a barrier after each of the first two: the factors are copied into panels, shared by
rows; the tiles are computed, shared by panels; the result is copied out of its panels, shared by rows.
"""

from __future__ import annotations

from numba import njit, prange

from .activations import IDENTITY, SOFTMAX, softmax_rows
from .batches import FLOAT32, stage_rows, unstage_rows
from .dense import backward, backward_items, forward, forward_items, gradient, gradient_items
from .layout import INPUTS, LAYER_FIELDS, PADDED, UNITS, WEIGHTS
from .linking import cache_on_disk, inlined
from .panels import padded_columns, panel_width
from .simd import address, float64_pointer, flush_denormals, pointer, restore_mode, shift
from .team import TEAM_SIZE, barrier, join
from .updates import WRITE_GRADIENT

FORWARD, BACKWARD, GRADIENT = range(3)

# Places in the array of integers that a call takes: the layer, the one below it, the team, a number nobody reads, and
# the row numbers 0, 1, 2 ...
LAYER, BELOW, TEAM, IGNORED, ROW_NUMBERS = 0, LAYER_FIELDS, 64, 64 + TEAM_SIZE, 65 + TEAM_SIZE


@inlined
def _share(items, part, parts):
    return items * part // parts


@inlined
def _to_panels(kernels, integers, x, columns, rows, begin, end, first_row, target):
    """Copy rows of an array at address `x`, from its row `first_row`, to the rows `begin` to `end` of a matrix."""
    row_numbers = shift(integers, ROW_NUMBERS + first_row - begin)
    stage_rows(kernels, x, FLOAT32, 1, columns, row_numbers, rows, begin, end, columns, target, target, 0, target,
               target, shift(integers, IGNORED))


@inlined
def scratch_size(padded_units, like):
    """Elements of scratch memory that a thread takes."""
    return (padded_units + 1) * panel_width(like)


@inlined
def _describe(layer, inputs, units, like):
    """Fill in what the kernels read of a row of the table of layers."""
    layer[INPUTS], layer[UNITS], layer[PADDED], layer[WEIGHTS] = inputs, units, padded_columns(units, like), 0


@inlined
def _part(program, part, parts, kernels, integers, code, alpha, memory, first, second, vector, outputs, result):
    """What one thread does of a product; see `multiply`."""
    team = shift(integers, TEAM)
    parts = join(team, part, parts)
    if parts == 0:
        return
    mode = flush_denormals()
    rows = first.shape[0]
    inputs = second.shape[0] if program != GRADIENT else first.shape[1]
    units = second.shape[1]
    layer, below = shift(integers, LAYER), shift(integers, BELOW)
    padded_inputs, padded_units = padded_columns(inputs, memory), padded_columns(units, memory)
    of_inputs = memory  # a matrix of rows x inputs in panels, and so on
    of_units = shift(of_inputs, rows * padded_inputs)
    weights = shift(of_units, rows * padded_units)
    more_inputs = shift(weights, (inputs + 1) * padded_units)
    scratch = shift(more_inputs, rows * padded_inputs + part * scratch_size(padded_units, memory))
    begin, end = _share(rows, part, parts), _share(rows, part + 1, parts)
    begin_input, end_input = _share(inputs, part, parts), _share(inputs, part + 1, parts)

    _to_panels(kernels, integers, address(first), first.shape[1], rows, begin, end, begin,
               of_units if program == BACKWARD else of_inputs)
    if program == GRADIENT:
        _to_panels(kernels, integers, address(second), units, rows, begin, end, begin, of_units)
    else:
        _to_panels(kernels, integers, address(second), units, inputs + 1, begin_input, end_input, begin_input, weights)
        if part == 0 and program == FORWARD:
            _to_panels(kernels, integers, address(vector), units, inputs + 1, inputs, inputs + 1, 0, weights)
    if program == BACKWARD and code != IDENTITY:
        _to_panels(kernels, integers, address(outputs), inputs, rows, begin, end, begin, of_inputs)
    barrier(team, parts)

    if program == FORWARD:
        items = forward_items(layer, rows, memory)
        forward(kernels, layer, weights, of_inputs, of_units, rows, 0, rows, code, alpha, 0, 0,
                _share(items, part, parts), _share(items, part + 1, parts))
    elif program == BACKWARD:
        items = backward_items(below, rows, memory)
        backward(kernels, layer, below, weights, of_units, more_inputs, of_inputs, rows, 0, rows, code, alpha, scratch,
                 _share(items, part, parts), _share(items, part + 1, parts))
    else:
        items = gradient_items(layer, memory)
        gradient(kernels, layer, of_inputs, of_units, rows, WRITE_GRADIENT, float64_pointer(0), weights, weights, 0,
                 weights, 0, scratch, _share(items, part, parts), _share(items, part + 1, parts))
    barrier(team, parts)

    target = pointer(result)
    if program == FORWARD:
        if code == SOFTMAX:
            softmax_rows(kernels, of_units, rows, begin, end, units, scratch)
        unstage_rows(kernels, of_units, rows, begin, end, units, shift(target, begin * units), units)
    elif program == BACKWARD:
        unstage_rows(kernels, more_inputs, rows, begin, end, inputs, shift(target, begin * inputs), inputs)
    else:
        unstage_rows(kernels, weights, inputs + 1, begin_input, end_input, units, shift(target, begin_input * units),
                     units)
        if part == 0:
            unstage_rows(kernels, weights, inputs + 1, inputs, inputs + 1, units, pointer(vector), units)
    restore_mode(mode)


@njit(parallel=True)
def _multiply_in_parallel(program, parts, kernels, integers, code, alpha, memory, first, second, vector, outputs,
                          result):
    for part in prange(parts):
        _part(program, part, parts, pointer(kernels), pointer(integers), code, alpha, pointer(memory), first, second,
              vector, outputs, result)


@cache_on_disk
@njit(nogil=True)
def multiply(program, parts, kernels, integers, code, alpha, memory, first, second, vector, outputs, result):
    """Compute a product on `parts` threads.

    Parameters
    ----------
    program : FORWARD, BACKWARD or GRADIENT
    kernels : the table of kernels
    integers : ROW_NUMBERS + the largest number of rows or inputs, holding 0, 1, 2 ... from ROW_NUMBERS
    code, alpha : activation of the layer (FORWARD), or of the layer below (BACKWARD)
    memory : ``2 rows (padded inputs + padded units) + (inputs + 1) padded units + parts scratch_size`` numbers
    first, second : X (rows, inputs) and W (inputs, units); delta (rows, units) and W; a (rows, inputs) and delta
    vector : b (units,), read by FORWARD; db, written by GRADIENT
    outputs : a (rows, inputs), read by BACKWARD unless `code` is IDENTITY
    result : f(X W + b), (delta W^T) * f'(a) or a^T delta, written
    """
    numbers, like = pointer(integers), pointer(memory)
    inputs = first.shape[1] if program == GRADIENT else second.shape[0]
    _describe(shift(numbers, LAYER), inputs, second.shape[1], like)
    _describe(shift(numbers, BELOW), 1, inputs, like)
    for i in range(TEAM, TEAM + TEAM_SIZE):
        numbers[i] = 0
    if parts == 1:
        _part(program, 0, 1, pointer(kernels), numbers, code, alpha, like, first, second, vector, outputs, result)
    else:
        _multiply_in_parallel(program, parts, kernels, integers, code, alpha, memory, first, second, vector, outputs,
                              result)
