"""The three matrix products of a dense layer, each with what follows it fused in.

With A the inputs (rows x inputs), W the weights (inputs x units), b the bias and delta the derivative of the loss
by the pre-activations z (rows x units), as in any derivation of backpropagation (Rumelhart et al., 1986):

    forward          z = A W + b,  outputs f(z)
    backward         delta of the layer below = (delta W^T) * f'(z below), element by element
    gradient         dW = A^T delta,  db = sum of the rows of delta;  then the optimizer's update

The work of a call is cut into items, numbered so that those of one panel follow one another; a thread takes a range
of items. Every element is a sum in one fixed order, so the results do not depend on how the items are shared out.
All arguments are pointers and integers; all matrices lie in panels of columns (`panels`).
"""

from __future__ import annotations

from .activations import PRELU, activate, multiply_by_derivative
from .layout import DELTAS, INPUTS, KEPT, OUTPUTS, PADDED, SHARED, SLOPES, UNITS, WEIGHTS
from .linking import DOUBLE, DOUBLE_POINTER, INT, INT_POINTER, NUMBERS, inlined, kernel
from .panels import padded_columns, panel_width, panels_for
from .read_ahead import take_lines
from .simd import INSTRUCTION_SET, TILE_ROWS, TILE_VECTORS, full, lanes, load, shift, store, sum_lanes
from .special import activate_specially, multiply_by_kept
from .tile import PANELS_AT_ONCE, STEPS_AT_ONCE, column_tile, row_tile
from .transposes import transpose
from .updates import WRITE_GRADIENT, biases_decay, update

MOST_ROWS_AT_ONCE = max(PANELS_AT_ONCE)
AT_ONCE = tuple(PANELS_AT_ONCE.get(height, 1) for height in range(MOST_ROWS_AT_ONCE + 1))

# Rows that a weight gradient is summed over at a time: two panels of so many rows stay in the first-level cache, which
# has 32 KB or more.
GRADIENT_ROWS = 16384 // (TILE_VECTORS * INSTRUCTION_SET.register_bytes)

# Deltas of this size stay in the second-level cache; inputs that are four times as large do not.
NEAR_BYTES = 1 << 18
REGISTER_BYTES = INSTRUCTION_SET.register_bytes


@inlined
def tiles_for(rows):
    """Number of tiles that `rows` rows are cut into; the first ones may be one row taller than the rest."""
    return (rows + TILE_ROWS - 1) // TILE_ROWS


@inlined
def _heights(rows, tiles):
    """Rows of the last of the tiles that `rows` rows are cut into, and how many of the first are one row taller."""
    if tiles == 1:  # a division takes as long as a small tile
        return rows, 0
    return rows // tiles, rows % tiles


@inlined
def _first_row(tile, height, taller):
    """Row that a tile begins at."""
    return tile * height + min(tile, taller)


@inlined
def _row_tiles(kernels, vectors, panels, inputs, a, rows, begin, height, taller, first, last, b, b_panel, c, c_panel):
    """Tiles `first` to `last` of those that the rows from `begin` on are cut into, of these `_heights`."""
    short = max(first, min(last, taller))
    if first < short:
        row_tile(kernels, height + 1, vectors, panels, short - first, inputs, a, rows,
                 begin + _first_row(first, height, taller), b, b_panel, c, c_panel)
    if short < last:
        row_tile(kernels, height, vectors, panels, last - short, inputs, a, rows,
                 begin + _first_row(short, height, taller), b, b_panel, c, c_panel)


@inlined
def _panel_of(item, items):
    """Panel that an item belongs to, and its number there, of `items`."""
    if item == 0:  # which most calls begin with
        return 0, 0
    return item // items, item % items


@inlined
def forward_items(layer, rows, like):
    """Number of items of `forward` for `rows` rows: the tiles of each panel of outputs."""
    return panels_for(layer[PADDED], like) * tiles_for(rows)


@kernel(INT_POINTER, NUMBERS, NUMBERS, NUMBERS, INT, INT, INT, INT, DOUBLE, INT, INT, INT, INT)
def forward(kernels, layer, parameters, a, outputs, rows, begin, end, code, alpha, key, first_row, first, last):
    """outputs = f(A W + b) for the rows `begin` to `end`; items `first` to `last` of `forward_items`.

    Parameters
    ----------
    kernels : table of addresses (`linking`)
    layer : row of the table of layers
    parameters : the vector of parameters
    a, outputs : inputs and outputs, each in panels of `rows` rows
    code, alpha : activation, applied while the tiles are in cache; IDENTITY leaves z
    key, first_row : of dropout: key of the random numbers of this step and layer, number of row 0 in its batch
    """
    special = layer[KEPT] != 0 or code >= PRELU  # the last codes: PRELU and CUSTOM
    inputs, padded = layer[INPUTS], layer[PADDED]
    tiles = tiles_for(end - begin)
    width = panel_width(a)
    most = AT_ONCE[end - begin] if end - begin <= MOST_ROWS_AT_ONCE else 1
    full_panels = padded // width
    height, taller = _heights(end - begin, tiles)
    panel, from_tile = _panel_of(first, tiles)
    while panel * tiles + from_tile < last:
        together = most if panel + most <= min(full_panels, last) else 1  # several only where a panel is one tile
        to_tile = min(last - (panel + together - 1) * tiles, tiles)
        column = panel * width
        columns = min(width, padded - column)
        weights = shift(parameters, layer[WEIGHTS] + column * (inputs + 1))
        _row_tiles(kernels, columns // lanes(a), together, inputs, a, rows, begin, height, taller, from_tile, to_tile,
                   weights, (inputs + 1) * width, shift(outputs, column * rows), rows * width)
        from_row = begin + _first_row(from_tile, height, taller)
        to_row = begin + _first_row(to_tile, height, taller)
        for p in range(panel, panel + together):
            block = shift(outputs, p * width * rows + from_row * columns)
            if special:
                activate_specially(kernels, layer, parameters, code, alpha, block,
                                   shift(block, layer[KEPT] - layer[OUTPUTS]), int(layer[KEPT] != 0), p * width,
                                   to_row - from_row, columns, key, first_row + from_row)
            else:
                activate(kernels, code, alpha, block, (to_row - from_row) * columns)
        panel, from_tile = panel + together, 0


@inlined
def _transpose_weights(kernels, layer, parameters, first_input, inputs, target, width):
    """Copy rows of W to the panel target[unit, input], zero in columns `inputs` to `width`; a row of zeros follows.

    That row stands where the micro-kernel expects a bias.
    """
    units, padded = layer[UNITS], layer[PADDED]
    step = lanes(parameters)
    for column in range(0, units, panel_width(parameters)):
        columns = min(panel_width(parameters), padded - column)
        panel = shift(parameters, layer[WEIGHTS] + column * (layer[INPUTS] + 1) + first_input * columns)
        transpose(kernels, panel, columns, inputs, min(columns, units - column), shift(target, column * width), width)
    for i in range(0, width, step):
        store(target, units * width + i, full(target, 0.0))


@inlined
def derive(kernels, layer, parameters, code, alpha, deltas, outputs, column, rows, columns):
    """Turn loss by outputs into loss by pre-activations, in `rows` rows of the panel that begins at `column`."""
    if layer[KEPT]:
        multiply_by_kept(kernels, layer, parameters, code, deltas, shift(outputs, layer[KEPT] - layer[OUTPUTS]), column,
                         rows, columns)
    else:
        multiply_by_derivative(kernels, code, alpha, deltas, outputs, rows * columns)


@inlined
def backward_items(below, rows, like):
    """Number of items of `backward` for `rows` rows: the tiles of each panel of the layer below."""
    return panels_for(below[PADDED], like) * tiles_for(rows)


@kernel(INT_POINTER, INT_POINTER, NUMBERS, NUMBERS, NUMBERS, NUMBERS, INT, INT, INT, INT, DOUBLE, NUMBERS, INT, INT,
        on_demand=True)
def backward(kernels, layer, below, parameters, deltas, deltas_below, outputs_below, rows, begin, end, code, alpha,
             scratch, first, last):
    """deltas_below = (deltas W^T) * f'(outputs_below) for the rows `begin` to `end`; items `first` to `last`.

    Parameters
    ----------
    kernels : table of addresses (`linking`)
    layer, below : rows of the table of layers: of the layer whose deltas are known and of the one below it
    deltas, deltas_below, outputs_below : each in panels of `rows` rows
    code, alpha : activation of the layer below
    scratch : (UNITS + 1) x panel width numbers of this thread
    """
    units = layer[UNITS]
    padded = below[PADDED]
    tiles = tiles_for(end - begin)
    width = panel_width(deltas)
    height, taller = _heights(end - begin, tiles)
    panel, from_tile = _panel_of(first, tiles)
    while panel * tiles + from_tile < last:
        to_tile = min(last - panel * tiles, tiles)
        column = panel * width
        columns = min(width, padded - column)
        _transpose_weights(kernels, layer, parameters, column, min(columns, layer[INPUTS] - column), scratch, columns)
        target = shift(deltas_below, column * rows)
        _row_tiles(kernels, columns // lanes(deltas), 1, units, deltas, rows, begin, height, taller, from_tile, to_tile,
                   scratch, 0, target, 0)
        from_row = begin + _first_row(from_tile, height, taller)
        to_row = begin + _first_row(to_tile, height, taller)
        block = column * rows + from_row * columns
        derive(kernels, below, parameters, code, alpha, shift(deltas_below, block), shift(outputs_below, block),
               column, to_row - from_row, columns)
        panel, from_tile = panel + 1, 0


@inlined
def _column_tile(kernels, height, vectors, repeat, rows, a, a_width, b, c, accumulate, ahead):
    """Call `column_tile`, with as many lines of the list `ahead` as it has rounds."""
    address, lines = take_lines(ahead, repeat * (rows // STEPS_AT_ONCE))
    column_tile(kernels, height, vectors, repeat, rows, a, a_width, b, c, accumulate, address, lines)


@inlined
def _column_tiles(kernels, columns, width, rows, a, a_width, b, c, accumulate, ahead):
    """C = A^T B for `columns` columns of a panel of A, `rows` rows of A and B, and a panel of B `width` wide."""
    tiles = tiles_for(columns)
    height, taller = _heights(columns, tiles)
    vectors = width // lanes(a)
    if taller:
        _column_tile(kernels, height + 1, vectors, taller, rows, a, a_width, b, c, accumulate, ahead)
    done = taller * (height + 1)
    _column_tile(kernels, height, vectors, tiles - taller, rows, shift(a, done), a_width, b, shift(c, done * width),
                 accumulate, ahead)


@inlined
def _sum_rows(block, width, rows, sums, accumulate):
    """sums = the sum of the rows of a panel, added to what is there if `accumulate`."""
    for i in range(0, width, lanes(block)):
        total = load(sums, i) if accumulate else full(sums, 0.0)
        # Four sums side by side, so that an addition need not wait for the one before it.
        second, third, fourth = full(sums, 0.0), full(sums, 0.0), full(sums, 0.0)
        whole = rows // 4 * 4
        for r in range(0, whole, 4):
            place = r * width + i
            total = total + load(block, place)
            second = second + load(block, place + width)
            third = third + load(block, place + 2 * width)
            fourth = fourth + load(block, place + 3 * width)
        for r in range(whole, rows):
            total = total + load(block, r * width + i)
        store(sums, i, (total + second) + (third + fourth))


@inlined
def _sum_for_slopes(layer, kept, rows, column, columns, target, accumulate):
    """The gradient by the slopes of a panel; by the one slope that all units share, repeated in a register."""
    if not layer[SHARED]:
        _sum_rows(shift(kept, column * rows), columns, rows, target, accumulate)
        return
    total = full(kept, 0.0)
    for i in range(0, layer[PADDED] * rows, lanes(kept)):
        total = total + load(kept, i)
    shared = full(kept, sum_lanes(total))
    store(target, 0, load(target, 0) + shared if accumulate else shared)


@inlined
def update_from(kernels, optimizer, coefficients, decays, count, parameters, g, state, size, place):
    """Update `count` parameters from number `place` on by their gradient `g`; `state` holds slots of `size` numbers."""
    update(kernels, optimizer, coefficients, decays, count, shift(parameters, place), g, shift(state, place),
           shift(state, size + place))


@inlined
def gradient_items(layer, like):
    """Number of items of `gradient`: the weights between a panel of inputs and one of units make one."""
    return panels_for(layer[PADDED], like) * panels_for(layer[INPUTS], like)


@inlined
def _goes_by_inputs(inputs, padded, rows, like):
    """Whether all items of a panel of inputs follow one another, not those of a panel of units.

    Inputs that do not stay in the second-level cache are then read once, not once for each panel of units: 784-100-10
    in float64 with 200 rows takes 5 % less time.
    """
    bytes_of_column = rows * (REGISTER_BYTES // lanes(like))
    return inputs * bytes_of_column > 4 * NEAR_BYTES and padded * bytes_of_column <= NEAR_BYTES


@kernel(INT_POINTER, NUMBERS, NUMBERS, INT, INT, DOUBLE_POINTER, NUMBERS, NUMBERS, INT, NUMBERS, INT, NUMBERS,
        INT_POINTER, INT, INT, on_demand=True)
def gradient(kernels, layer, a, deltas, rows, optimizer, coefficients, parameters, state, count, gradients, accumulate,
             scratch, ahead, first, last):
    """dW and db of a layer and the update they cause; items `first` to `last` of `gradient_items`.

    Parameters
    ----------
    kernels, layer, a, rows : as in `forward`
    deltas : loss by pre-activations, in panels of `rows` rows
    optimizer : code of the update; WRITE_GRADIENT writes to `gradients` and changes nothing else
    coefficients : numbers of the update, see `updates`
    parameters, state, count : the vector of parameters, the optimizer's slots of `count` numbers each
    gradients : vector like `parameters`; with `accumulate` the gradient is added to what is there
    scratch : (panel width + 1) x panel width numbers of this thread
    ahead : list of what to read ahead meanwhile, as far as there are tiles for it
    """
    inputs, padded = layer[INPUTS], layer[PADDED]
    padded_inputs = padded_columns(inputs, a)
    width = panel_width(a)
    in_place = optimizer == WRITE_GRADIENT or accumulate
    alike = optimizer != WRITE_GRADIENT and biases_decay(coefficients)
    by_inputs = _goes_by_inputs(inputs, padded, rows, a)
    panels_inside = panels_for(padded if by_inputs else inputs, a)
    outer, inner = _panel_of(first, panels_inside)
    for _ in range(first, last):
        input_panel, unit_panel = (outer, inner) if by_inputs else (inner, outer)
        column, row = unit_panel * width, input_panel * width
        columns, height = min(width, padded - column), min(width, inputs - row)
        a_panel, a_width = shift(a, row * rows), min(width, padded_inputs - row)
        delta_panel = shift(deltas, column * rows)
        panel = layer[WEIGHTS] + column * (inputs + 1)
        place = panel + row * columns
        target = shift(gradients, place) if in_place else scratch
        for begin in range(0, rows, GRADIENT_ROWS):
            _column_tiles(kernels, height, columns, min(GRADIENT_ROWS, rows - begin), shift(a_panel, begin * a_width),
                          a_width, shift(delta_panel, begin * columns), target, int(accumulate or begin > 0), ahead)
        # The biases follow the weights of the last inputs, and go with them where they are updated alike.
        has_biases = row + height == inputs
        size = height * columns
        if has_biases:
            _sum_rows(delta_panel, columns, rows, shift(target, size), accumulate)
        if optimizer != WRITE_GRADIENT:
            together = size + columns if has_biases and alike else size
            update_from(kernels, optimizer, coefficients, 1, together, parameters, target, state, count, place)
            if has_biases and not alike:
                update_from(kernels, optimizer, coefficients, 0, columns, parameters, shift(target, size), state, count,
                            place + size)
        if has_biases and layer[SLOPES] and (column == 0 or not layer[SHARED]):
            place = layer[SLOPES] + column
            target = shift(gradients, place) if in_place else scratch
            _sum_for_slopes(layer, shift(deltas, layer[KEPT] - layer[DELTAS]), rows, column, columns, target,
                            accumulate)
            if optimizer != WRITE_GRADIENT:
                update_from(kernels, optimizer, coefficients, 0, lanes(a) if layer[SHARED] else columns, parameters,
                            target, state, count, place)
        inner += 1
        if inner == panels_inside:
            outer, inner = outer + 1, 0
