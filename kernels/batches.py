"""Between the user's arrays, row after row, and the panels that the kernels work on.

The rows of a batch are copied into panels at the start of a step, converted and standardised on the way. The copy
costs some per cent of a step; the products then read memory in order.
"""

from __future__ import annotations

from .linking import INT, INT_POINTER, NUMBERS, inlined, inlined_always, kernel
from .panels import padded_columns, panel_width
from .simd import (
    CACHE_LINE,
    TILE_VECTORS,
    elements_of_line,
    float32_pointer,
    float64_pointer,
    fma,
    full,
    lanes,
    load,
    load_first,
    pointer_at,
    prefetch,
    shift,
    store,
    sum_lanes,
    uint8_pointer,
)

# Element types of the user's arrays.
FLOAT32, FLOAT64, UINT8, LABELS = range(4)  # LABELS: int64


@inlined
def _convert(source, mean, scale, count, target):
    """Convert a row; what has more digits than the network is standardised before it is rounded."""
    for i in range(count):
        target[i] = (source[i] - mean[i]) * scale[i]


# Rows are copied so many at a time, panel after panel, so that only few pages of memory are written in turn.
ROWS_AT_ONCE = 8


@inlined
def element_bytes(kind):
    return 4 if kind == FLOAT32 else 8 if kind == FLOAT64 else 1


@inlined
def lines_of_row(kind, inputs):
    """Cache lines that a row of the inputs takes up, not counting the one it may end in."""
    return (inputs * element_bytes(kind) + CACHE_LINE - 1) // CACHE_LINE


@inlined
def prefetch_line(x, kind, stride, row, line):
    """Ask for one cache line of a row of the inputs."""
    prefetch(uint8_pointer(x), row * stride * element_bytes(kind) + line * CACHE_LINE)


@inlined
def _convert_row(x, kind, stride, row, following, inputs, mean, scale, converted):
    """Convert a row of the inputs, and ask for the one that follows."""
    for line in range(lines_of_row(kind, inputs)):
        prefetch_line(x, kind, stride, following, line)
    if kind == FLOAT32:
        _convert(shift(float32_pointer(x), row * stride), mean, scale, inputs, converted)
    elif kind == FLOAT64:
        _convert(shift(float64_pointer(x), row * stride), mean, scale, inputs, converted)
    else:
        _convert(shift(uint8_pointer(x), row * stride), mean, scale, inputs, converted)


@inlined
def _copy_full_piece(source, mean, scale, standardised, target):
    """Copy as many numbers as a full panel is wide to `target`, as ``(source - mean) * scale`` if `standardised`.

    Returns a register that holds zeros, or NaN somewhere if a number of the source is not finite.
    """
    step = lanes(target)
    check = full(target, 0.0)
    for v in range(TILE_VECTORS):
        x = load(source, v * step)
        check = fma(x, 0.0, check)
        if standardised:
            x = (x - load(mean, v * step)) * load(scale, v * step)
        store(target, v * step, x)
    return check


@inlined_always
def _copy_piece(source, mean, scale, standardised, count, target):
    """Copy `count` numbers as `_copy_full_piece` does, and zeros up to a whole register."""
    step = lanes(target)
    check = full(target, 0.0)
    for i in range(0, count, step):
        x = load_first(source, i, count - i)
        check = fma(x, 0.0, check)
        if standardised:
            x = (x - load_first(mean, i, count - i)) * load_first(scale, i, count - i)
        store(target, i, x)
    return check


@inlined_always
def _copy_rows(x, stride, index, first, last, end, inputs, mean, scale, standardised, target, rows):
    """Copy rows that hold numbers of the dtype of the network, panel after panel; see `stage_rows`."""
    padded, width = padded_columns(inputs, target), panel_width(target)
    full_columns = inputs // width * width
    check = full(target, 0.0)
    for column in range(0, full_columns, width):
        panel = shift(target, column * rows)
        for r in range(first, last):
            # Rows lie anywhere in memory: those that come next are asked for in advance.
            following = index[min(r + ROWS_AT_ONCE, end - 1)] * stride + column
            for line in range(0, width, elements_of_line(target)):
                prefetch(x, following + line)
            check = check + _copy_full_piece(shift(x, index[r] * stride + column), shift(mean, column),
                                             shift(scale, column), standardised, shift(panel, r * width))
    if full_columns < inputs:
        panel, columns = shift(target, full_columns * rows), padded - full_columns
        for r in range(first, last):
            check = check + _copy_piece(shift(x, index[r] * stride + full_columns), shift(mean, full_columns),
                                        shift(scale, full_columns), standardised, inputs - full_columns,
                                        shift(panel, r * columns))
    return check


@kernel(INT, INT, INT, INT, INT_POINTER, INT, INT, INT, INT, NUMBERS, NUMBERS, INT, NUMBERS, NUMBERS, INT_POINTER)
def stage_rows(x, kind, direct, stride, index, rows, begin, end, inputs, mean, scale, standardised, converted, target,
               not_finite):
    """Copy rows of the inputs into the rows `begin` to `end` of a matrix in panels, as ``(x - mean) * scale``.

    Parameters
    ----------
    x, kind, stride : address of the inputs; FLOAT32, FLOAT64 or UINT8, looked at unless `direct`; and elements from row
        to row
    index : for each row of the target, the row of the inputs that is copied there
    direct : whether they are of the dtype of the network, so that nothing is to be converted
    mean, scale : (inputs,) numbers, 0 and 1 unless `standardised`
    converted : (inputs,) numbers of scratch memory
    target : panels of `rows` rows; columns beyond `inputs` are set to zero
    not_finite : one number, set to 1 if any of the inputs is not finite in the dtype of the network
    """
    check = full(target, 0.0)
    at_once = ROWS_AT_ONCE if direct else 1
    for first in range(begin, end, at_once):
        source, source_stride, unscaled = pointer_at(x, target), stride, standardised
        if not direct:
            _convert_row(x, kind, stride, index[first], index[min(first + 1, end - 1)], inputs, mean, scale, converted)
            source, source_stride, unscaled = converted, 0, 0
        check = check + _copy_rows(source, source_stride, index, first, min(first + at_once, end), end, inputs, mean,
                                   scale, unscaled, target, rows)
    if sum_lanes(check) != 0.0:
        not_finite[0] = 1


@kernel(NUMBERS, INT, INT, INT, INT, NUMBERS, on_demand=True)
def unstage_rows(source, rows, begin, end, units, target):
    """Copy the rows `begin` to `end` of a matrix in panels to rows of `units` numbers, one after the other."""
    step, width, padded = lanes(source), panel_width(source), padded_columns(units, source)
    full_columns = units // width * width
    start = begin
    if full_columns == 0:
        # While there is room behind a row it is written in whole registers; what is too much, the next one overwrites.
        start = max(begin, end + 1 - (padded + units - 1) // units)
        for r in range(begin, start):
            for i in range(0, padded, step):
                store(target, (r - begin) * units + i, load(source, r * padded + i))
    for first in range(start, end, ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, end)
        for column in range(0, full_columns, width):
            for r in range(first, last):
                line, result = shift(source, column * rows + r * width), shift(target, (r - begin) * units + column)
                for v in range(TILE_VECTORS):
                    store(result, v * step, load(line, v * step))
        for r in range(first, last):
            line = shift(source, full_columns * rows + r * (padded - full_columns))
            result = shift(target, (r - begin) * units + full_columns)
            for i in range(units - full_columns):
                result[i] = line[i]
