"""What only some layers do: learned slopes, a user's activation, dropout, maxout.

Where the derivative cannot be computed from the output, the forward pass keeps in a block of its own, `kept`, what the
backward pass multiplies the deltas by: the slope f'(z), times 1 / (1 - rate) or 0 with dropout (inverted dropout,
Srivastava et al., 2014). A layer with learned slopes (PReLU, He et al., 2015: z for z > 0, else a z) keeps z itself, as
the gradient by a is delta min(z, 0).
"""

from __future__ import annotations

from . import layout
from .activations import (
    CUSTOM,
    PRELU,
    activate,
    activate_and_keep,
    keeps_slope,
    multiply_by_derivative,
    multiply_by_slopes,
)
from .linking import DOUBLE, INT, INT_POINTER, NUMBERS, call_activation, inlined, kernel
from .noise import drop
from .panels import panel_width
from .simd import Lanes, full, lanes, load, shift, store, vector_function

FULL_RATE = 4294967296.0  # 2**32: a rate of dropout in the table of layers is so many times as large


@vector_function
def _prelu(z: Lanes, slope: Lanes) -> Lanes:
    return z.where(">", 0.0, z, slope * z).settled()


@vector_function
def _negative_part(z: Lanes) -> Lanes:
    return z.where(">", 0.0, 0.0, z).settled()


@vector_function
def _where_dropped(z: Lanes, yes: Lanes, no: Lanes) -> Lanes:
    return z.where("==", 0.0, yes, no)


@vector_function
def _where_positive(z: Lanes, yes: Lanes, no: Lanes) -> Lanes:
    return z.where(">", 0.0, yes, no).settled()


@inlined
def _slopes_of(layer, parameters, column):
    """Where the slopes of a panel that begins at `column` lie, and how many of them to go on for the next register."""
    if layer[layout.SHARED]:
        return shift(parameters, layer[layout.SLOPES]), 0
    return shift(parameters, layer[layout.SLOPES] + column), 1


@kernel(INT_POINTER, NUMBERS, INT, DOUBLE, NUMBERS, NUMBERS, INT, INT, INT, INT, INT, INT)
def activate_specially(kernels, layer, parameters, code, alpha, block, kept, keeps, column, rows, columns, key,
                       first_row):
    """Replace z by f(z) in a piece of a panel, drop some outputs, and keep what the backward pass needs.

    Parameters
    ----------
    layer, parameters, code, alpha : as in `dense.forward`
    block, kept : `rows` rows of a panel that is `columns` wide and begins at `column`
    keeps : 0 in prediction: nothing is kept or dropped, and `kept` is not touched
    key : of the random numbers of this step and layer
    first_row : number of the first row in its batch
    """
    count = rows * columns
    step = lanes(block)
    if code == PRELU:
        slopes, advance = _slopes_of(layer, parameters, column)
        for r in range(0, count, columns):
            for i in range(0, columns, step):
                z = load(block, r + i)
                if keeps:
                    store(kept, r + i, z)
                store(block, r + i, _prelu(z, load(slopes, advance * i)))
    elif code == CUSTOM:
        call_activation(layer[layout.FUNCTION], block, kept, count, keeps)
        # The function may have no value at 0, which is z in the padding: NaN would go into the norm of the gradient.
        for j in range(min(columns, layer[layout.UNITS] - column), columns):
            for place in range(j, count, columns):
                block[place] = 0.0
                if keeps:
                    kept[place] = 0.0
    elif keeps and keeps_slope(code):
        activate_and_keep(kernels, code, block, kept, count)
    else:
        activate(kernels, code, alpha, block, count)
        if keeps:
            for i in range(0, count, step):
                store(kept, i, full(kept, 1.0))
            multiply_by_derivative(kernels, code, alpha, kept, block, count)
    if keeps and layer[layout.DROPOUT]:
        padded = layer[layout.PADDED]
        drop(kernels, key, first_row * padded + column, padded, rows, columns, layer[layout.DROPOUT] / FULL_RATE, 1,
             block, kept)


@kernel(INT_POINTER, NUMBERS, INT, NUMBERS, NUMBERS, INT, INT, INT)
def multiply_by_kept(kernels, layer, parameters, code, deltas, kept, column, rows, columns):
    """Turn loss by outputs into loss by pre-activations, by what the forward pass kept.

    With learned slopes, `kept` becomes what the gradient by the slopes is the sum of.
    """
    count = rows * columns
    if code != PRELU:
        multiply_by_slopes(kernels, deltas, kept, count)
        return
    slopes, advance = _slopes_of(layer, parameters, column)
    rate = layer[layout.DROPOUT] / FULL_RATE
    factor = 1.0 / (1.0 - rate)
    for r in range(0, count, columns):
        for i in range(0, columns, lanes(deltas)):
            z, delta = load(kept, r + i), load(deltas, r + i)
            slope = load(slopes, advance * i)
            store(kept, r + i, delta * _negative_part(z))
            result = _where_positive(z, delta * factor, delta * (slope * factor))
            if rate > 0.0:  # what was dropped is zero
                result = _where_dropped(z, 0.0, result)
            store(deltas, r + i, result)


@vector_function
def _larger(best: Lanes, z: Lanes) -> Lanes:
    """The larger of the two; NaN if one is."""
    larger = best.where("<", z, z, best)
    return z.where("ord", z, larger, z)


@vector_function
def _passed_on(z: Lanes, best: Lanes, delta: Lanes) -> Lanes:
    return z.where("==", best, delta, 0.0).settled()


@inlined
def _largest_piece(z, place, piece, pieces):
    best = load(z, place)
    for p in range(1, pieces):
        best = _larger(best, load(z, place + p * piece))
    return best


@inlined
def _piece_size(layer, rows):
    """Numbers from one piece of maxout to the next."""
    return layer[layout.INPUTS] // layer[layout.PIECES] * rows


@kernel(INT_POINTER, NUMBERS, NUMBERS, INT, INT, INT, INT, INT, INT, on_demand=True)
def maxout(kernels, layer, z, outputs, rows, begin, end, panel, key, first_row):
    """outputs = the largest of the pieces, element by element (Goodfellow et al., 2013), in one panel.

    Parameters
    ----------
    layer : row of the table of layers, with PIECES
    z : the dense layer's outputs, in panels of `rows` rows; each piece has panels of its own
    outputs : in panels of `rows` rows; the rows `begin` to `end` are computed
    panel : number of the panel of outputs
    key, first_row : as in `activate_specially`, of row 0
    """
    width, step = panel_width(z), lanes(z)
    column = panel * width
    padded = layer[layout.PADDED]
    columns = min(width, padded - column)
    piece = _piece_size(layer, rows)
    for r in range(begin, end):
        for i in range(0, columns, step):
            best = _largest_piece(z, column * rows + r * width + i, piece, layer[layout.PIECES])
            store(outputs, column * rows + r * columns + i, best)
    if layer[layout.KEPT]:
        place = column * rows + begin * columns
        block = shift(outputs, place)
        kept = shift(block, layer[layout.KEPT] - layer[layout.OUTPUTS])
        for i in range(0, (end - begin) * columns, step):
            store(kept, i, full(kept, 1.0))
        drop(kernels, key, (first_row + begin) * padded + column, padded, end - begin, columns,
             layer[layout.DROPOUT] / FULL_RATE, 1, block, kept)


@kernel(INT_POINTER, NUMBERS, NUMBERS, NUMBERS, INT, INT, on_demand=True)
def maxout_backward(layer, z, deltas, deltas_below, rows, panel):
    """deltas_below = deltas for the first of the largest pieces, 0 for the others, in one panel of each piece.

    Parameters
    ----------
    layer : row of the table of layers, with PIECES
    z, deltas_below : the dense layer's outputs and what becomes the loss by them, in panels of `rows` rows
    deltas : loss by outputs, in panels of `rows` rows
    panel : number of the panel of outputs
    """
    width, step = panel_width(z), lanes(z)
    column = panel * width
    columns = min(width, layer[layout.PADDED] - column)
    piece = _piece_size(layer, rows)
    for r in range(rows):
        for i in range(0, columns, step):
            place = column * rows + r * width + i
            best = _largest_piece(z, place, piece, layer[layout.PIECES])
            delta = load(deltas, column * rows + r * columns + i)
            for p in range(layer[layout.PIECES]):
                passed = _passed_on(load(z, place + p * piece), best, delta)
                store(deltas_below, place + p * piece, passed)
                delta = delta - passed
        for i in range(columns, width, step):  # padding
            for p in range(layer[layout.PIECES]):
                store(deltas_below, column * rows + r * width + i + p * piece, full(deltas, 0.0))
