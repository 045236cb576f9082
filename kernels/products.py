"""The three products of a dense layer on arrays in C order, with threads: what `standalone` calls.

The arrays stay where they are; `array_tile` reads them there. Only what would be read again and again from far apart
is copied first, to panels as wide as a tile: a block of the second factor, for a gradient a strip of the first, too.
(A few rows times a transposed factor, whose rows would be copied to be read once, are dot products instead.)
Blocks are of such sizes that one stays in each level of cache (Goto and van de Geijn, 2008): the panels of the second
factor in the second level, while the rows of the first go past them in the first. Threads share the rows of the result
or its columns, and need not wait for one another. Every element is a sum in one fixed order, so that the results do not
depend on how they share.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .activations import IDENTITY, activate, multiply_by_derivative
from .array_tile import MASKED, MOST_ROWS, MOST_VECTORS, array_tile
from .denormals import flush_denormals, restore_mode
from .linking import cache_on_disk, inlined
from .shares import first_in_part
from .simd import (
    CACHE_LINE,
    address,
    fma,
    full,
    lanes,
    load,
    load_first,
    pointer,
    prefetch,
    shift,
    store,
    sum_lanes,
)
from .threading_layer import get_threads, set_threads
from .transposes import transpose

MOST_LANES = 16
WIDEST = max(MOST_VECTORS) * MOST_LANES  # columns of a tile

NEAR = 4096  # elements that the first-level cache holds beside the rest: not worth copying
BLOCK_STEPS = 512  # most products of a sum that are added at a time
# A second factor that is too large for the caches is read once for a few rows: a block of so few of its rows from their
# beginnings to their ends, as many as a processor's prefetcher follows where each lies in a page of its own.
STREAMED_STEPS = 16
TOO_LARGE = 262144  # elements
FAR_APART = 512  # elements from one row to the next: a page of memory holds no more than two of them
GROUP = 65536  # elements of panels that the second-level cache holds beside the rest
# Tiles one below the other that go along the panels of a group together. More calls of the micro-kernel take longer;
# with few steps it mostly writes, and a processor's prefetcher follows no more than some thirty rows.
TILES_TOGETHER, TILES_OF_FEW_STEPS = 4, 2
FEW_STEPS = 64
GRADIENT_STEPS = 256  # rows that a gradient is summed over at a time
STRIP = 16 * MOST_ROWS  # with so many steps, the columns of the first factor that the second-level cache holds
ROWS_AHEAD = 12  # rows that are asked for before they are copied
ROWS_TOGETHER = 8  # rows that are copied panel by panel
FEW_ROWS = 8  # with so many rows, the second factor's transpose is not worth making
COPY_ROWS = 12  # copying a row for one tile takes about as long as going through so many rows of tiles


@inlined
def _tile_width(rows, like):
    """Columns of the tiles that so many rows are cut into."""
    tiles = (rows + MOST_ROWS - 1) // MOST_ROWS
    return MOST_VECTORS[(rows + tiles - 1) // tiles] * lanes(like)


@inlined
def _column_of_tiles(kernels, rows, steps, columns, a, a_row, a_step, b, b_step, s, s_row, c, c_row):
    """C = S + A B for `rows` rows and the columns of one tile; the first tiles may be one row taller than the rest."""
    step = lanes(a)
    vectors = (columns + step - 1) // step if columns >= step else MASKED
    tiles = (rows + MOST_ROWS - 1) // MOST_ROWS
    height, taller = rows // tiles, rows % tiles
    if taller > 0:
        array_tile(kernels, height + 1, vectors, taller, steps, columns, a, a_row, a_step, b, b_step, s, s_row, c,
                   c_row)
    done = taller * (height + 1)
    array_tile(kernels, height, vectors, tiles - taller, steps, columns, shift(a, done * a_row), a_row, a_step, b,
               b_step, shift(s, done * s_row), s_row, shift(c, done * c_row), c_row)


@inlined
def _copy_columns(source, source_row, rows, columns, target, target_row):
    """Copy a matrix of `columns` columns to one whose rows are `target_row` apart."""
    step = lanes(source)
    for r in range(rows):
        # Rows lie so far apart that the processor does not foresee them.
        prefetch(source, (r + ROWS_AHEAD) * source_row)
        prefetch(source, (r + ROWS_AHEAD) * source_row + columns - 1)
        if columns < step:
            for j in range(columns):
                target[r * target_row + j] = source[r * source_row + j]
            continue
        for j in range(0, columns - step, step):
            store(target, r * target_row + j, load(source, r * source_row + j))
        store(target, r * target_row + columns - step, load(source, r * source_row + columns - step))


@inlined
def _copy_to_panels(source, source_row, rows, columns, target, width):
    """Copy a matrix to panels of `width` columns, one after the other; a few rows at a time, which lie together."""
    for r in range(0, rows, ROWS_TOGETHER):
        for first in range(0, columns, width):
            _copy_columns(shift(source, r * source_row + first), source_row, min(ROWS_TOGETHER, rows - r),
                          min(width, columns - first), shift(target, first * rows + r * width), width)


@inlined
def _copy_transposed(kernels, source, source_row, rows, columns, target, target_row):
    """target[j, i] = source[i, j] for i < rows <= target_row, j < columns."""
    step = lanes(source)
    whole = columns // step * step  # a register is not read across the end of the source
    transpose(kernels, source, source_row, rows, whole, target, target_row)
    for j in range(whole, columns):
        for i in range(rows):
            target[j * target_row + i] = source[i * source_row + j]


@inlined
def _four_dot_products(x, w, w_row, rows, count, result):
    """result[i] = sum over p < count of x[p] w[i, p] for i < rows <= 4: a register of sums for each."""
    step, last = lanes(x), rows - 1
    first, second = w, shift(w, min(1, last) * w_row)
    third, fourth = shift(w, min(2, last) * w_row), shift(w, last * w_row)
    sums = full(x, 0.0)
    sums_2, sums_3, sums_4 = sums, sums, sums
    for p in range(0, count, step):
        left = count - p
        if left < step:
            factor = load_first(x, p, left)
            sums = fma(factor, load_first(first, p, left), sums)
            sums_2 = fma(factor, load_first(second, p, left), sums_2)
            sums_3 = fma(factor, load_first(third, p, left), sums_3)
            sums_4 = fma(factor, load_first(fourth, p, left), sums_4)
        else:
            factor = load(x, p)
            sums = fma(factor, load(first, p), sums)
            sums_2 = fma(factor, load(second, p), sums_2)
            sums_3 = fma(factor, load(third, p), sums_3)
            sums_4 = fma(factor, load(fourth, p), sums_4)
    result[last] = sum_lanes(sums_4)
    result[min(2, last)] = sum_lanes(sums_3)
    result[min(1, last)] = sum_lanes(sums_2)
    result[0] = sum_lanes(sums)


@inlined
def _few_rows_times_transposed(a, rows, steps, second, begin, end, c, c_row):
    """The columns `begin` to `end` of C = A second^T for few rows: the rows of `second` lie ready for dot products."""
    for column in range(begin, end, 4):
        for row in range(rows):
            _four_dot_products(shift(a, row * steps), shift(second, column * steps), steps, min(4, end - column), steps,
                               shift(c, row * c_row + column))


@inlined
def _panel_memory(steps, columns):
    """Elements of the panels that `_rows_times` copies."""
    return min(max(GROUP, BLOCK_STEPS * WIDEST), min(steps, BLOCK_STEPS) * (columns + WIDEST))


@inlined
def _copy_group(kernels, second, second_row, is_transposed, step, count, first, last, width, panels):
    """Copy `count` rows from row `step` on, columns `first` to `last`, of B, which is `second` or its transpose."""
    if not is_transposed:
        _copy_to_panels(shift(second, step * second_row + first), second_row, count, last - first, panels, width)
        return
    for column in range(first, last, width):
        _copy_transposed(kernels, shift(second, column * second_row + step), second_row, min(width, last - column),
                         count, shift(panels, (column - first) * count), width)


@inlined
def _rows_times(kernels, a, a_row, rows, steps, second, second_row, is_transposed, begin, end, s, c, c_row, memory):
    """C = S + A B for the columns `begin` to `end` of B, which is `second` or its transpose; S is one row for all."""
    width = _tile_width(rows, a)
    copies = is_transposed or (rows > 2 * MOST_ROWS and steps * second_row > NEAR)
    tiles = (rows + MOST_ROWS - 1) // MOST_ROWS
    is_streamed = not copies and steps * second_row > TOO_LARGE and second_row > FAR_APART
    block = STREAMED_STEPS if is_streamed else BLOCK_STEPS
    parts = (steps + block - 1) // block
    for part in range(parts):
        step, next_step = first_in_part(steps, part, parts), first_in_part(steps, part + 1, parts)
        count = next_step - step
        group, together = end - begin, tiles
        if copies:
            group = max(1, GROUP // (count * width)) * width
            together = TILES_TOGETHER if count >= FEW_STEPS else TILES_OF_FEW_STEPS
        for first in range(begin, end, group):
            last = min(end, first + group)
            if copies:
                _copy_group(kernels, second, second_row, is_transposed, step, count, first, last, width, memory)
            for tile in range(0, tiles, together):
                row = first_in_part(rows, tile, tiles)
                next_row = first_in_part(rows, min(tile + together, tiles), tiles)
                for column in range(first, last, width):
                    b, b_step = shift(second, step * second_row + column), second_row
                    if copies:
                        b, b_step = shift(memory, (column - first) * count), width
                    target = shift(c, row * c_row + column)
                    start, start_row = (shift(s, column), 0) if step == 0 else (target, c_row)
                    _column_of_tiles(kernels, next_row - row, count, min(width, last - column),
                                     shift(a, row * a_row + step), a_row, 1, b, b_step, start, start_row, target,
                                     c_row)


@inlined
def _strip_memory(steps, columns):
    """Elements of the strip and the panels that `_columns_times` copies."""
    return min(steps, GRADIENT_STEPS) * (STRIP + columns + WIDEST)


@inlined
def _columns_times(kernels, a, a_row, begin, end, steps, delta, units, from_unit, to_unit, zeros, c, memory):
    """Rows `begin` to `end` and columns `from_unit` to `to_unit` of C = A^T delta, summed over `steps` rows of both."""
    width = _tile_width(end - begin, a)
    most = min(steps, GRADIENT_STEPS)
    copies_a = to_unit - from_unit > 2 * width and end - begin > MOST_ROWS
    copies_b = end - begin > 2 * MOST_ROWS and most * units > NEAR
    strip, panels = memory, shift(memory, most * STRIP)
    for first in range(0, steps, GRADIENT_STEPS):
        rows = min(GRADIENT_STEPS, steps - first)
        if copies_b:
            for unit in range(from_unit, to_unit, width):
                _copy_columns(shift(delta, first * units + unit), units, rows, min(width, to_unit - unit),
                              shift(panels, (unit - from_unit) * most), width)
        for row in range(begin, end, STRIP):
            count = min(STRIP, end - row)
            of_a, of_a_step = shift(a, first * a_row + row), a_row
            if copies_a:
                _copy_columns(of_a, a_row, rows, count, strip, STRIP)
                of_a, of_a_step = strip, STRIP
            for unit in range(from_unit, to_unit, width):
                columns = min(width, to_unit - unit)
                b, b_step = shift(delta, first * units + unit), units
                if copies_b:
                    b, b_step = shift(panels, (unit - from_unit) * most), width
                target = shift(c, row * units + unit)
                s, s_row = (zeros, 0) if first == 0 else (target, units)
                _column_of_tiles(kernels, count, rows, columns, of_a, 1, of_a_step, b, b_step, s, s_row, target, units)


@inlined
def _copy_rest(values, count, target):
    """Copy what is left of `count` numbers after whole registers; return how many are before it."""
    whole = count // lanes(values) * lanes(values)
    for i in range(count - whole):
        target[i] = values[whole + i]
    return whole


@inlined
def _apply(kernels, is_derivative, code, alpha, values, outputs, count, memory):
    """values = f(values); or values * f'(z), from the outputs f(z)."""
    rest, rest_of_outputs = memory, shift(memory, lanes(values))
    whole = _copy_rest(values, count, rest)
    if is_derivative:
        _copy_rest(outputs, count, rest_of_outputs)
        multiply_by_derivative(kernels, code, alpha, values, outputs, whole)
        multiply_by_derivative(kernels, code, alpha, rest, rest_of_outputs, lanes(values))
    else:
        activate(kernels, code, alpha, values, whole)
        activate(kernels, code, alpha, rest, lanes(values))
    for i in range(count - whole):
        values[whole + i] = rest[i]


@inlined
def _shares_rows(rows, columns, parts, like):
    """Whether threads share the rows of a result, each copying all of the second factor, or its columns."""
    width = _tile_width(rows, like)
    tiles = (columns + width - 1) // width
    largest = min(columns, (tiles + parts - 1) // parts * width)
    return rows * columns // parts + COPY_ROWS * columns <= (rows + COPY_ROWS) * largest


@inlined
def _bounds(columns, width, part, parts):
    """The columns of a thread's share of the tiles."""
    tiles = (columns + width - 1) // width
    begin, end = first_in_part(tiles, part, parts) * width, first_in_part(tiles, part + 1, parts) * width
    return min(columns, begin), min(columns, end)


# Memory is handed to what works in it as an array: as a pointer alone it would be given back before.


@inlined
def _aligned(memory):
    """Pointer to the first element of an array that begins a cache line: a register is then read from a single one."""
    return shift(pointer(memory), (-address(memory)) % CACHE_LINE // memory.itemsize)


@inlined
def _rows_part(kernels, first, second, is_transposed, start, outputs, code, alpha, result, memory, part, parts):
    mode = flush_denormals()
    (rows, steps), columns = first.shape, result.shape[1]
    begin, end, from_column, to_column = 0, rows, 0, columns
    if code != IDENTITY or _shares_rows(rows, columns, parts, pointer(first)):
        begin, end = first_in_part(rows, part, parts), first_in_part(rows, part + 1, parts)
    else:
        from_column, to_column = _bounds(columns, _tile_width(rows, pointer(first)), part, parts)
    block, own = shift(pointer(result), begin * columns), _aligned(memory[part])
    if begin < end:
        own_rows = shift(pointer(first), begin * steps)
        if is_transposed and rows <= FEW_ROWS:
            _few_rows_times_transposed(own_rows, end - begin, steps, pointer(second), from_column, to_column, block,
                                       columns)
        else:
            _rows_times(kernels, own_rows, steps, end - begin, steps, pointer(second), second.shape[1], is_transposed,
                        from_column, to_column, pointer(start), block, columns, own)
        if code != IDENTITY:
            _apply(kernels, is_transposed, code, alpha, block, shift(pointer(outputs), begin * columns),
                   (end - begin) * columns, own)
    restore_mode(mode)


@inlined
def _gradient_part(kernels, a, delta, gradient, bias_gradient, zeros, one, memory, part, parts):
    mode = flush_denormals()
    (rows, inputs), units = a.shape, delta.shape[1]
    width = _tile_width(inputs, pointer(a))
    begin, end, first, last = 0, inputs, 0, units
    if inputs >= 2 * parts * MOST_ROWS:
        begin, end = first_in_part(inputs, part, parts), first_in_part(inputs, part + 1, parts)
    else:
        first, last = _bounds(units, width, part, parts)
    if first < last:
        _columns_times(kernels, pointer(a), inputs, begin, end, rows, pointer(delta), units, first, last,
                       pointer(zeros), pointer(gradient), _aligned(memory[part]))
    if part == 0:
        width = _tile_width(1, pointer(a))
        for unit in range(0, units, width):
            _column_of_tiles(kernels, 1, rows, min(width, units - unit), pointer(one), 0, 0,
                             shift(pointer(delta), unit), units, pointer(zeros), 0,
                             shift(pointer(bias_gradient), unit), 0)
    restore_mode(mode)


@njit(parallel=True)
def _rows_in_parallel(kernels, first, second, is_transposed, start, outputs, code, alpha, result, memory, parts):
    for part in prange(parts):
        _rows_part(pointer(kernels), first, second, is_transposed, start, outputs, code, alpha, result, memory, part,
                   parts)


@njit(parallel=True)
def _gradient_in_parallel(kernels, a, delta, gradient, bias_gradient, zeros, one, memory, parts):
    for part in prange(parts):
        _gradient_part(pointer(kernels), a, delta, gradient, bias_gradient, zeros, one, memory, part, parts)


@cache_on_disk
@njit(nogil=True)
def rows_product(kernels, first, second, start, outputs, is_transposed, code, alpha, parts):
    """f(X W + b), or (delta W^T) * f'(z) if `is_transposed`; on `parts` threads.

    Parameters
    ----------
    kernels : the table of kernels
    first : X (rows, inputs); or delta (rows, units)
    second : W (inputs, units)
    start : b (units,); of no meaning if `is_transposed`
    outputs : f(z), (rows, inputs), if `is_transposed` and f is not the identity; else any matrix
    code, alpha : f, which is not softmax
    """
    steps, columns = (second.shape[1], second.shape[0]) if is_transposed else second.shape
    rows = len(first)
    needs_outputs = is_transposed and code != IDENTITY
    if is_transposed:
        start = np.zeros(columns, first.dtype)
    if first.shape[1] != steps or len(start) != columns or rows * steps * columns == 0 or (
            needs_outputs and outputs.shape != (rows, columns)):
        raise ValueError
    result = np.empty((rows, columns), first.dtype)
    memory = np.empty((parts, _panel_memory(steps, columns) + MOST_LANES), first.dtype)
    if parts == 1:
        _rows_part(pointer(kernels), first, second, is_transposed, start, outputs, code, alpha, result, memory, 0, 1)
    else:
        before = get_threads()
        set_threads(parts)
        _rows_in_parallel(kernels, first, second, is_transposed, start, outputs, code, alpha, result, memory, parts)
        set_threads(before)
    return result


@cache_on_disk
@njit(nogil=True)
def gradient_product(kernels, a, delta, parts):
    """a^T delta (inputs, units) and the sum of the rows of delta, for a (rows, inputs) and delta (rows, units)."""
    if len(a) != len(delta) or a.size == 0 or delta.size == 0:
        raise ValueError
    gradient, bias_gradient = np.empty((a.shape[1], delta.shape[1]), a.dtype), np.empty(delta.shape[1], a.dtype)
    zeros, one = np.zeros(WIDEST, a.dtype), np.ones(1, a.dtype)
    memory = np.empty((parts, _strip_memory(len(delta), delta.shape[1]) + MOST_LANES), a.dtype)
    if parts == 1:
        _gradient_part(pointer(kernels), a, delta, gradient, bias_gradient, zeros, one, memory, 0, 1)
    else:
        before = get_threads()
        set_threads(parts)
        _gradient_in_parallel(kernels, a, delta, gradient, bias_gradient, zeros, one, memory, parts)
        set_threads(before)
    return gradient, bias_gradient
