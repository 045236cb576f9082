"""The three matrix products of a dense layer, each with what follows it fused in.

With A the inputs (rows x inputs), W the weights (inputs x units), b the bias and delta the derivative of the loss
by the pre-activations z (rows x units), as in any derivation of backpropagation (Rumelhart et al., 1986):

    forward          z = A W + b,  outputs f(z)
    backward         delta of the layer below = (delta W^T) * f'(z below), element by element
    gradient         dW = A^T delta,  db = sum of the rows of delta;  then the optimizer's update

The work of a call is cut into items, a register tile each, numbered so that the tiles of one panel of weights follow
one another; a thread takes a range of items. Every element is a sum in one fixed order, so the results do not
depend on how the items are shared out. All arguments are pointers and integers; see `layout` for the table of
layers and the panels.
"""

from __future__ import annotations

from numba import njit

from .activations import activate, multiply_by_derivative
from .layout import INPUTS, PADDED, STRIDE, UNITS, WEIGHTS
from .linking import DOUBLE, DOUBLE_POINTER, INT, INT_POINTER, NUMBERS, kernel
from .simd import TILE_ROWS, TILE_VECTORS, lanes, shift
from .tile import column_tile, row_tile
from .updates import WRITE_GRADIENT, update


@njit
def tiles_for(rows):
    """Number of tiles that `rows` rows are cut into; they differ by one row at most."""
    return (rows + TILE_ROWS - 1) // TILE_ROWS


@njit
def panels_for(columns, pointer_like):
    """Number of panels that hold `columns` columns."""
    width = TILE_VECTORS * lanes(pointer_like)
    return (columns + width - 1) // width


@njit
def share(items, part, parts):
    """First item of part `part` of `parts`; the next part's first item ends it."""
    return items * part // parts


@njit
def forward_items(layer, rows, like):
    """Number of items of `forward`."""
    return panels_for(layer[PADDED], like) * tiles_for(rows)


@kernel(INT_POINTER, NUMBERS, NUMBERS, INT, INT_POINTER, INT, NUMBERS, INT, DOUBLE, INT, INT)
def forward(kernels, layer, parameters, a, a_stride, index, rows, outputs, code, alpha, first, last):
    """outputs[i] = f(W^T a[index[i]] + b) for i < rows; items `first` to `last` of `forward_items`.

    Parameters
    ----------
    kernels : table of addresses (`linking`)
    layer : row of the table of layers
    parameters : the vector of parameters
    a, a_stride : inputs; row r begins at ``a + r * a_stride``
    index : for each row of the batch, the row of `a` that it reads
    outputs : (rows, PADDED) with stride STRIDE
    code, alpha : activation, applied while a tile is in the first-level cache; IDENTITY leaves z
    """
    inputs, padded, stride = layer[INPUTS], layer[PADDED], layer[STRIDE]
    tiles = tiles_for(rows)
    width = TILE_VECTORS * lanes(a)
    for item in range(first, last):
        column = item // tiles * width
        columns = min(width, padded - column)
        tile = item % tiles
        row = rows * tile // tiles
        height = rows * (tile + 1) // tiles - row
        panel = shift(parameters, layer[WEIGHTS] + column * (inputs + 1))
        bias = shift(panel, inputs * columns)
        block = shift(outputs, row * stride + column)
        row_tile(kernels, height, columns // lanes(a), inputs, a, a_stride, shift(index, row), panel, columns,
                 bias, 0, block, stride)
        activate(kernels, code, alpha, block, stride, height, columns)


@kernel(INT_POINTER, NUMBERS, INT, INT, NUMBERS, INT)
def transpose_weights(layer, parameters, row, rows, target, width):
    """Copy rows `row` to ``row + rows`` of W to the panel target[unit, row], zero in columns rows to width."""
    inputs, units, padded = layer[INPUTS], layer[UNITS], layer[PADDED]
    panel_width = TILE_VECTORS * lanes(parameters)
    for column in range(0, units, panel_width):
        columns = min(panel_width, padded - column)
        panel = shift(parameters, layer[WEIGHTS] + column * (inputs + 1) + row * columns)
        for unit in range(column, min(column + columns, units)):
            line = shift(target, unit * width)
            for i in range(rows):
                line[i] = panel[i * columns + unit - column]
            for i in range(rows, width):
                line[i] = 0.0


@njit
def backward_items(below, rows, like):
    """Number of items of `backward`."""
    return panels_for(below[PADDED], like) * tiles_for(rows)


@kernel(INT_POINTER, INT_POINTER, NUMBERS, NUMBERS, INT_POINTER, INT, NUMBERS, NUMBERS, INT, DOUBLE, NUMBERS,
        NUMBERS, INT, INT)
def backward(kernels, layer, below, parameters, deltas, index, rows, deltas_below, outputs_below, code, alpha, zeros,
             scratch, first, last):
    """deltas_below = (deltas W^T) * f'(outputs_below); items `first` to `last` of `backward_items`.

    Parameters
    ----------
    kernels : table of addresses (`linking`)
    layer, below : rows of the table of layers: of the layer whose deltas are known and of the one below it
    deltas, deltas_below, outputs_below : batches with the strides of their layers
    index : 0, 1, 2, ...
    code, alpha : activation of the layer below
    zeros : a register tile's row of zeros
    scratch : UNITS x tile width numbers of this thread
    """
    units, stride = layer[UNITS], layer[STRIDE]
    padded, stride_below = below[PADDED], below[STRIDE]
    tiles = tiles_for(rows)
    width = TILE_VECTORS * lanes(deltas)
    packed = -1
    for item in range(first, last):
        column = item // tiles * width
        columns = min(width, padded - column)
        if column != packed:
            weights = min(columns, layer[INPUTS] - column)
            transpose_weights(kernels, layer, parameters, column, weights, scratch, columns)
            packed = column
        tile = item % tiles
        row = rows * tile // tiles
        height = rows * (tile + 1) // tiles - row
        block = shift(deltas_below, row * stride_below + column)
        row_tile(kernels, height, columns // lanes(deltas), units, deltas, stride, shift(index, row), scratch, columns,
                 zeros, 0, block, stride_below)
        multiply_by_derivative(kernels, code, alpha, block, shift(outputs_below, row * stride_below + column),
                               stride_below, height, columns)


@njit
def gradient_items(layer, like):
    """Number of items of `gradient`."""
    return panels_for(layer[PADDED], like) * tiles_for(layer[INPUTS])


@kernel(INT_POINTER, NUMBERS, INT, INT_POINTER, INT, NUMBERS, NUMBERS, INT, DOUBLE_POINTER, NUMBERS, NUMBERS, INT,
        NUMBERS, INT, NUMBERS, INT, INT)
def gradient(kernels, layer, a, a_stride, index, rows, deltas, constants, optimizer, coefficients, parameters, state,
             count, gradients, accumulate, scratch, first, last):
    """dW and db of a layer and the update they cause; items `first` to `last` of `gradient_items`.

    Parameters
    ----------
    kernels, layer, a, a_stride, index, rows : as in `forward`
    deltas : loss by pre-activations, (rows, PADDED) with stride STRIDE
    constants : a register tile's row of zeros, then a one
    optimizer : code of the update; WRITE_GRADIENT writes to `gradients` and changes nothing else
    coefficients : numbers of the update, see `updates`
    parameters, state, count : the vector of parameters, the optimizer's slots of `count` numbers each
    gradients : vector like `parameters`; with `accumulate` the gradient is added to what is there
    scratch : one register tile of this thread
    """
    inputs, padded, stride = layer[INPUTS], layer[PADDED], layer[STRIDE]
    tiles = tiles_for(inputs)
    width = TILE_VECTORS * lanes(a)
    one = shift(constants, width)
    for item in range(first, last):
        column = item // tiles * width
        columns = min(width, padded - column)
        tile = item % tiles
        row = inputs * tile // tiles
        height = inputs * (tile + 1) // tiles - row
        panel = layer[WEIGHTS] + column * (inputs + 1)
        delta_columns = shift(deltas, column)
        place = panel + row * columns
        target = shift(gradients, place) if optimizer == WRITE_GRADIENT else scratch
        start = target if accumulate else constants
        column_tile(kernels, height, columns // lanes(a), rows, shift(a, row), a_stride, index, delta_columns, stride,
                    start, columns if accumulate else 0, target, columns)
        if optimizer != WRITE_GRADIENT:
            update(kernels, optimizer, coefficients, 1, height * columns, shift(parameters, place), target,
                   shift(state, place), shift(state, count + place))
        if tile == 0:
            # The bias is the weight of an input that is always one.
            place = panel + inputs * columns
            target = shift(gradients, place) if optimizer == WRITE_GRADIENT else scratch
            start = target if accumulate else constants
            column_tile(kernels, 1, columns // lanes(a), rows, one, 0, index, delta_columns, stride,
                        start, 0, target, columns)
            if optimizer != WRITE_GRADIENT:
                update(kernels, optimizer, coefficients, 0, columns, shift(parameters, place), target,
                       shift(state, place), shift(state, count + place))
