"""Updates that wait for the whole gradient: of groups of rows, clipped by its norm, accumulated. And norms of weights.

The vector of parameters is cut into parts, numbered in order: the panels of each layer's weights with their biases, and
each layer's learned slopes. Every sum over a part is made in one order by one thread, and sums of parts are added in
order: the results do not depend on how the parts are shared out.
"""

from __future__ import annotations

import math

from . import layout
from .dense import update_from
from .layout import INPUTS, LAYER_SETTINGS, MAX_NORM, PADDED, PIECES, SHARED, SLOPE_COUNT, SLOPES, WEIGHTS
from .linking import DOUBLE_POINTER, INT, INT_POINTER, NUMBERS, inlined, kernel
from .panels import panel_width, panels_for
from .passes import layer_of
from .shares import first_in_part
from .simd import (
    Lanes,
    float64_pointer,
    fma,
    full,
    int64_pointer,
    lanes,
    load,
    pointer_at,
    shift,
    store,
    sum_lanes,
    vector_function,
)
from .team import barrier
from .updates import CLIP_NORM, WRITE_GRADIENT, biases_decay

SMALL = 1e-6  # added to a norm before dividing by it


@inlined
def _parts_of(layer, like):
    """Number of parts of a layer: its panels of weights, and its slopes if it has some."""
    panels = 0 if layer[PIECES] else panels_for(layer[PADDED], like)
    return panels + int(layer[SLOPE_COUNT] > 0)


@inlined
def _bounds(layer, number, like):
    """Where a part begins, how many weights it has, and how many biases or slopes follow them."""
    width = panel_width(like)
    if number * width >= layer[PADDED]:
        return layer[SLOPES], 0, layer[SLOPE_COUNT]
    columns = min(width, layer[PADDED] - number * width)
    return layer[WEIGHTS] + number * width * (layer[INPUTS] + 1), layer[INPUTS] * columns, columns


@inlined
def _sum_groups(context, gradients, begin, count):
    """Add the groups' gradients, in order, to the first."""
    total = context[layout.COUNT]
    for group in range(1, context[layout.GROUPS]):
        for i in range(begin, begin + count, lanes(gradients)):
            store(gradients, i, load(gradients, i) + load(gradients, group * total + i))


@inlined
def _sum_of_squares(vector, begin, count):
    total = full(vector, 0.0)
    for i in range(begin, begin + count, lanes(vector)):
        number = load(vector, i)
        total = fma(number, number, total)
    return float(sum_lanes(total))


@inlined
def _scale_to_norm(context, largest, like):
    """What the gradient is multiplied by so that its norm is at most `largest` (as PyTorch's clip_grad_norm_)."""
    squares = float64_pointer(context[layout.SQUARES])
    total = 0.0
    part = 0
    for l in range(context[layout.DEPTH]):
        for _ in range(_parts_of(layer_of(context, l), like)):
            total += squares[part]
            part += 1
    scale = largest / (math.sqrt(total) + SMALL)
    return scale if not scale > 1.0 else 1.0  # NaN stays


@kernel(INT_POINTER, NUMBERS, INT, DOUBLE_POINTER, INT, INT, on_demand=True)
def apply_gradients(kernels, context, parameters, optimizer, coefficients, part, parts):
    """Sum the groups' gradients and update the parameters by them: a thread's share of the parts."""
    gradients = pointer_at(context[layout.GRADIENTS], parameters)
    state = pointer_at(context[layout.STATE], parameters)
    clip_norm = float64_pointer(context[layout.SETTINGS])[CLIP_NORM]
    updates = optimizer != WRITE_GRADIENT and context[layout.PHASES] & layout.UPDATE != 0
    clips = updates and clip_norm > 0.0
    number = 0
    for l in range(context[layout.DEPTH]):
        layer = layer_of(context, l)
        count = _parts_of(layer, parameters)
        for p in range(first_in_part(count, part, parts), first_in_part(count, part + 1, parts)):
            begin, weights, others = _bounds(layer, p, parameters)
            if context[layout.PHASES] & layout.GRADIENT:
                _sum_groups(context, gradients, begin, weights + others)
            if clips:
                squares = _sum_of_squares(gradients, begin, weights + others)
                if weights == 0 and layer[SHARED]:
                    squares /= others  # one slope, repeated
                float64_pointer(context[layout.SQUARES])[number + p] = squares
        number += count
    if not updates:
        return
    scale = 1.0
    if clips:
        barrier(int64_pointer(context[layout.TEAM]), parts)
        scale = _scale_to_norm(context, clip_norm, parameters)
    for l in range(context[layout.DEPTH]):
        layer = layer_of(context, l)
        count = _parts_of(layer, parameters)
        for p in range(first_in_part(count, part, parts), first_in_part(count, part + 1, parts)):
            begin, weights, others = _bounds(layer, p, parameters)
            if scale != 1.0:
                for i in range(begin, begin + weights + others, lanes(parameters)):
                    store(gradients, i, load(gradients, i) * scale)
            if weights > 0:
                update_from(kernels, optimizer, coefficients, 1, weights, parameters, shift(gradients, begin), state,
                            context[layout.COUNT], begin)
            decays = biases_decay(coefficients) if weights > 0 else 0  # slopes are never regularised
            update_from(kernels, optimizer, coefficients, decays, others, parameters,
                        shift(gradients, begin + weights), state, context[layout.COUNT], begin + weights)


@vector_function
def _shrinking(squares: Lanes, largest: Lanes) -> Lanes:
    """What weights with this sum of squares are multiplied by to have a norm of at most `largest`."""
    return squares.where(">", largest * largest, largest / squares.sqrt(), 1.0)


@kernel(INT_POINTER, NUMBERS, INT, INT, on_demand=True)
def limit_norms(context, parameters, part, parts):
    """Shrink the weights into each unit whose norm is above the layer's MAX_NORM, in a thread's share of the panels."""
    numbers = float64_pointer(context[layout.LAYER_NUMBERS])
    step = lanes(parameters)
    for l in range(context[layout.DEPTH]):
        layer, largest = layer_of(context, l), numbers[l * LAYER_SETTINGS + MAX_NORM]
        if largest <= 0.0 or layer[PIECES]:
            continue
        panels = panels_for(layer[PADDED], parameters)
        for panel in range(first_in_part(panels, part, parts), first_in_part(panels, part + 1, parts)):
            begin, weights, columns = _bounds(layer, panel, parameters)
            block = shift(parameters, begin)
            for i in range(0, columns, step):
                squares = full(block, 0.0)
                for place in range(i, weights, columns):
                    w = load(block, place)
                    squares = fma(w, w, squares)
                factor = _shrinking(squares, largest)
                for place in range(i, weights, columns):
                    store(block, place, load(block, place) * factor)


@kernel(INT_POINTER, NUMBERS, INT, on_demand=True)
def sum_squared_weights(context, parameters, place):
    """Write the sum of the squares of all weights, without biases and slopes, to a place of SQUARED_WEIGHTS."""
    total = 0.0
    for l in range(context[layout.DEPTH]):
        layer = layer_of(context, l)
        for part in range(_parts_of(layer, parameters)):
            begin, weights, _ = _bounds(layer, part, parameters)
            total += _sum_of_squares(parameters, begin, weights)
    float64_pointer(context[layout.SQUARED_WEIGHTS])[place] = total
