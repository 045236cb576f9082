"""Augmentation: images shifted, rotated, scaled, sheared and elastically distorted as they are put into a batch.

A pixel (y, x) of the new picture is read at the place of the old one that it comes from,

    A (y - cy, x - cx) + (cy, cx) + shift + displacement(y, x)

with (cy, cx) the centre, by bilinear interpolation; outside, the old picture is zero. A undoes a scaling, then a
shear, then a rotation about the centre.

The displacements are those of Simard, Steinkraus and Platt (Best practices for convolutional neural networks applied
to visual document analysis, 2003): for each axis a field of numbers uniform in [-1, 1], smoothed by a Gaussian and
multiplied by alpha. As in most programs since, ``gaussian_filter(field, sigma, mode="constant", truncate=3) * alpha``
with SciPy's filter, the smoothed field is not normalised, and what is smoothed is zero outside the picture. Where
sigma is 4 or more, there is one number for a rectangle of several pixels (`_spacing`), with a weight that keeps the
variance: sums of Gaussians no further apart than half their sigma are flat to many digits. The smooth fields have the
same variances and covariances, within half a per cent, for a fraction of the work. Both passes of the filter are
matrix products.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .batches import FLOAT32, FLOAT64
from .dense import tiles_for
from .layout import round_up
from .linking import DOUBLE_POINTER, INT, INT_POINTER, NUMBERS, inlined, kernel
from .noise import add_noise, random_signed
from .panels import padded_columns, panel_width, place_of
from .random import random_bits, stream_key
from .simd import (
    INT32,
    INT64,
    Lanes,
    Vector,
    float32_pointer,
    float64_pointer,
    fma,
    full,
    lanes,
    lanes_of,
    llvm_vector,
    load,
    shift,
    splat,
    store,
    uint8_pointer,
    vector_function,
)
from .tile import row_tile

# Settings, float64: how far pictures are changed. What is 0 is left out.
SHIFT = 0  # largest shift along each axis, in pixels
ROTATION = 1  # largest angle, in degrees
SCALING = 2  # s below 1: the factor along each axis is uniform in [1 - s, 1 + s]
SHEAR = 3  # largest angle, in degrees
ELASTIC_ALPHA = 4  # of the elastic distortion, in pixels
ELASTIC_SIGMA = 5  # in pixels
NOISE = 6  # standard deviation of the Gaussian noise that is added to each pixel
SETTINGS = 7

# Number of the stream of random numbers, beyond those of the epochs' orders.
AUGMENTATION_STREAM = 1 << 40

# What is drawn for an image, by number: six numbers, and keys for the fields and the noise.
DRAW_SHIFT_Y, DRAW_SHIFT_X, DRAW_ANGLE, DRAW_SHEAR, DRAW_SCALE_Y, DRAW_SCALE_X, FIELD_Y, FIELD_X, PIXEL_NOISE = range(9)

TRUNCATE = 3.0  # sigmas at which the Gaussian ends
LEAST_CELLS = 8  # random numbers of a field along an axis

# Images that are made and then put into panels, while they are in the second cache.
IMAGES_AT_ONCE = 16

# Pixels of zeros around an image: one before, two behind, so that every corner of a square around a place is there.
BORDER = 3


def scratch_size(height: int, width: int) -> int:
    """Return how many numbers of scratch memory `augment_rows` needs for images of that size."""
    step = lanes_of(4)  # of float32, the most
    padded_height, padded_width = round_up(height, step), round_up(width, step)
    image = round_up((height + BORDER) * (width + BORDER), step) + step
    picture = round_up(height * width, step) + step
    weights = height * padded_height + (width + 1) * padded_width
    fields = (height + 1) * padded_width + 3 * height * padded_width
    return image + 4 * picture + weights + fields


# ---- elastic distortion


@inlined
def _spacing(size, sigma):
    """Pixels from one random number of a field to the next: the largest divisor of `size` up to sigma / 2.

    There are LEAST_CELLS numbers, unless there are fewer pixels.
    """
    spacing = max(1, int(min(0.5 * sigma, size // LEAST_CELLS)))
    while size % spacing != 0:
        spacing -= 1
    return spacing


@inlined
def gaussian_weights(size, sigma, factor, transposed, target):
    """Weights of the random numbers in the smoothed field, times `factor`, along an axis of `size` pixels.

    Writes the matrix (size, cells) in panels; or, if `transposed`, (cells + 1, size) with a last row of zeros, which
    stands where the micro-kernel expects a bias.
    """
    spacing = _spacing(size, sigma)
    cells = size // spacing
    rows, columns = (cells + 1, size) if transposed else (size, cells)
    for i in range(0, rows * padded_columns(columns, target), lanes(target)):
        store(target, i, full(target, 0.0))
    reach = TRUNCATE * sigma
    total = 1.0
    for distance in range(1, int(min(reach + 0.5, 2.0**31)) + 1):
        total += 2.0 * math.exp(-0.5 * (distance / sigma) ** 2)
    factor *= math.sqrt(spacing) / total
    first = 0.5 * (spacing - 1)  # the middle of the first cell
    for difference in range(-spacing * (cells - 1), size):  # pixel - spacing * cell
        distance = difference - first
        if abs(distance) <= reach + 0.5:
            weight = factor * math.exp(-0.5 * (distance / sigma) ** 2)
            for cell in range(cells):
                pixel = difference + spacing * cell
                if 0 <= pixel < size:
                    row, column = (cell, pixel) if transposed else (pixel, cell)
                    target[place_of(row, column, rows, columns, target)] = weight


@inlined
def _draw_field(key, rows, columns, target):
    """Fill the panels of a matrix with numbers uniform in [-1, 1); a row of zeros follows."""
    for row in range(rows):
        for column in range(0, columns, lanes(target)):
            numbers = random_signed(target, key, row * columns + column) * 2.0**-31
            store(target, place_of(row, column, rows + 1, columns, target), numbers)
    for column in range(0, columns, lanes(target)):
        store(target, place_of(rows, column, rows + 1, columns, target), full(target, 0.0))


@inlined
def _product(kernels, a, rows, inputs, b, columns, target):
    """target = A B, all in panels; a row of zeros follows the last row of B."""
    tiles = tiles_for(rows)
    height, taller = rows // tiles, rows % tiles
    for column in range(0, columns, panel_width(a)):
        vectors = min(panel_width(a), padded_columns(columns, a) - column) // lanes(a)
        b_panel, target_panel = shift(b, column * (inputs + 1)), shift(target, column * rows)
        if taller:
            row_tile(kernels, height + 1, vectors, 1, taller, inputs, a, rows, 0, b_panel, 0, target_panel, 0)
        row_tile(kernels, height, vectors, 1, tiles - taller, inputs, a, rows, taller * (height + 1), b_panel, 0,
                 target_panel, 0)


@inlined
def draw_displacements(kernels, key, height, width, cells_y, cells_x, weights_y, weights_x, field, half, displacements):
    """Draw a field and smooth it: (height x width) displacements along one axis, in panels.

    Parameters
    ----------
    cells_y, cells_x : rows and columns of the field
    weights_y, weights_x : (height x cells_y) and (cells_x x width) weights, from `gaussian_weights`
    field, half : scratch memory for (cells_y + 1) and `height` rows of cells_x numbers, in panels
    """
    _draw_field(key, cells_y, cells_x, field)
    _product(kernels, weights_y, height, cells_y, field, cells_x, half)
    _product(kernels, half, height, cells_x, weights_x, width, displacements)


# ---- the mapping


@inlined
def inverse_matrix(angle, shear, scale_y, scale_x):
    """A, row by row, which maps (y, x) back: the inverse of a scaling, then a shear x + tan(shear) y, then a rotation.

    Angles in degrees; the rotation is counterclockwise for who looks at the picture, whose y points down.
    """
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    slope = math.tan(math.radians(shear))
    return (cosine / scale_y, sine / scale_y,
            (-sine - slope * cosine) / scale_x, (cosine - slope * sine) / scale_x)


@intrinsic
def _ramp(typing_context, block):
    """Vector 0, 1, 2 ... for the element type of the pointer `block`."""
    vector = Vector(block.dtype)

    def generate(context, builder, sig, values):
        return ir.Constant(llvm_vector(vector), [float(lane) for lane in range(vector.lanes)])

    return vector(block), generate


@vector_function
def _limited(x: Lanes, high: Lanes) -> Lanes:
    """x, or the nearest number from 0 to `high`; 0 for NaN."""
    x = x.where(">", 0.0, x, 0.0)
    return x.where("<", high, x, high)


@intrinsic
def _whole(typing_context, x):
    """x without its fraction, for |x| below 2**31."""

    def generate(context, builder, sig, values):
        return builder.sitofp(builder.fptosi(values[0], ir.VectorType(INT32, values[0].type.count)), values[0].type)

    return x(x), generate


def _joined(builder: ir.IRBuilder, vectors: list[ir.Value]) -> ir.Value:
    """Emit the vector of all elements of some vectors, whose number is a power of 2."""
    while len(vectors) > 1:
        count = 2 * vectors[0].type.count
        every = ir.Constant(ir.VectorType(INT32, count), list(range(count)))
        vectors = [builder.shuffle_vector(a, b, every) for a, b in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


@intrinsic
def _keep_corners(typing_context, corners, first, pitch, y, x):
    """From element `first` on, write where in an image with rows of `pitch` numbers the corners lie: (int y, int x)."""

    def generate(context, builder, sig, values):
        corners, first, pitch, y, x = values
        whole_kind = ir.VectorType(INT32, y.type.count)
        row, column = builder.fptosi(y, whole_kind), builder.fptosi(x, whole_kind)
        places = builder.add(builder.mul(row, splat(builder, builder.trunc(pitch, INT32), whole_kind)), column)
        target = builder.gep(builder.bitcast(corners, INT32.as_pointer()), [first])
        builder.store(places, builder.bitcast(target, whole_kind.as_pointer())).align = 4
        return context.get_dummy_value()

    return types.none(corners, first, pitch, y, x), generate


@intrinsic
def _neighbours(typing_context, image, corners, first):
    """The two numbers at each lane's corner and to its right: all the left ones, and all the right ones.

    A pair is one load. The pairs fill two registers in such an order that picking the left numbers takes one
    instruction, which keeps to blocks of 16 bytes.
    """
    vector = Vector(image.dtype)

    def generate(context, builder, sig, values):
        image, corners, first = values
        pair_kind = ir.VectorType(llvm_vector(vector).element, 2)
        size = vector.dtype.bitwidth // 8
        places = builder.gep(builder.bitcast(corners, INT32.as_pointer()), [first])
        pairs = []
        for lane in range(vector.lanes):
            place = builder.zext(builder.load(builder.gep(places, [INT32(lane)])), INT64)
            pair = builder.load(builder.bitcast(builder.gep(image, [place]), pair_kind.as_pointer()))
            pair.align = size
            pairs.append(pair)
        block = max(2, 16 // size)  # lanes
        in_first = [lane for lane in range(vector.lanes) if lane % block < block // 2]
        in_second = [lane for lane in range(vector.lanes) if lane % block >= block // 2]
        registers = [_joined(builder, [pairs[lane] for lane in part]) for part in (in_first, in_second)]
        places_of_lanes = {lane: 2 * place for place, lane in enumerate(in_first + in_second)}
        sides = [builder.shuffle_vector(*registers, ir.Constant(
            ir.VectorType(INT32, vector.lanes), [places_of_lanes[lane] + side for lane in range(vector.lanes)]))
            for side in (0, 1)]
        return context.make_tuple(builder, sig.return_type, sides)

    return types.UniTuple(vector, 2)(image, corners, first), generate


@inlined
def warp(image, height, width, matrix, shift_y, shift_x, elastic, displacements_y, displacements_x, corners, down,
         right, picture):
    """Write the picture that the mapping at the top of this file makes of an image.

    First where all pixels come from, then their values: a loop that does both takes a third longer, as each value
    waits for a chain of instructions from the place to its address, to the numbers, to the sum.

    Parameters
    ----------
    image : (height + BORDER) x (width + BORDER) numbers, from `add_border`
    matrix : A, row by row, from `inverse_matrix`
    elastic : whether there are displacements
    displacements_y, displacements_x : (height x width) numbers in panels
    corners, down, right : scratch memory for height * width numbers and a register, each
    picture : height * width numbers, followed by room for a register
    """
    a_yy, a_yx, a_xy, a_xx = matrix
    centre_y, centre_x = 0.5 * (height - 1), 0.5 * (width - 1)
    pitch = width + BORDER
    ramp = _ramp(image)
    _keep_corners(corners, height * width, pitch, full(image, 0.0), full(image, 0.0))  # fill the last register
    # Where the first pixel of a row comes from, in the image with its border.
    from_y = -a_yy * centre_y - a_yx * centre_x + centre_y + shift_y + 1.0
    from_x = -a_xy * centre_y - a_xx * centre_x + centre_x + shift_x + 1.0
    for y in range(height):
        numbers = ramp
        for x in range(0, width, lanes(image)):
            place_y, place_x = fma(numbers, a_yx, full(image, from_y)), fma(numbers, a_xx, full(image, from_x))
            numbers = numbers + lanes(image)
            if elastic:
                place = place_of(y, x, height, width, image)
                place_y = place_y + load(displacements_y, place)
                place_x = place_x + load(displacements_x, place)
            place_y, place_x = _limited(place_y, height + 1.0), _limited(place_x, width + 1.0)
            # What is beyond the end of a row is overwritten by the next row.
            pixel = y * width + x
            _keep_corners(corners, pixel, pitch, place_y, place_x)
            store(down, pixel, place_y - _whole(place_y))
            store(right, pixel, place_x - _whole(place_x))
        from_y += a_yy
        from_x += a_xy
    for pixel in range(0, height * width, lanes(image)):
        a, b = _neighbours(image, corners, pixel)
        c, d = _neighbours(shift(image, pitch), corners, pixel)
        to_right = load(right, pixel)
        upper, lower = fma(to_right, b - a, a), fma(to_right, d - c, c)
        store(picture, pixel, fma(load(down, pixel), lower - upper, upper))


# ---- rows


@inlined
def _convert(source, count, target):
    for i in range(count):
        target[i] = source[i]


@inlined
def _copy_row(x, kind, start, count, target):
    """Copy `count` numbers of the inputs, from element `start`."""
    if kind == FLOAT32:
        _convert(shift(float32_pointer(x), start), count, target)
    elif kind == FLOAT64:
        _convert(shift(float64_pointer(x), start), count, target)
    else:
        _convert(shift(uint8_pointer(x), start), count, target)


@inlined
def add_border(picture, height, width, image):
    """Copy a picture to the inside of `image`, with zeros around it.

    Both are followed by room for a register; the zeros above the image are there already.
    """
    pitch = width + BORDER
    for y in range(height):
        inside = shift(image, (y + 1) * pitch + 1)
        for x in range(0, width, lanes(image)):
            store(inside, x, load(picture, y * width + x))
        # What was written beyond the end of the row becomes zero, or is overwritten by the next row.
        for x in range(width, width + BORDER, lanes(image)):
            store(inside, x, full(image, 0.0))
    below = shift(image, (height + 1) * pitch)
    for x in range(0, 2 * pitch, lanes(image)):
        store(below, x, full(image, 0.0))


@inlined
def _draw(key, number):
    """A number uniform in [-1, 1)."""
    return np.int64(random_bits(key, number)) * 2.0**-63


@inlined
def _part(memory, count):
    """What follows `count` numbers, in whole registers."""
    return shift(memory, padded_columns(count, memory))


@kernel(INT, INT, INT, INT_POINTER, INT, INT, INT, INT, DOUBLE_POINTER, INT, INT, INT, NUMBERS, NUMBERS,
        on_demand=True)
def augment_rows(kernels, x, kind, stride, index, begin, end, height, width, settings, seed, step, first_row, scratch,
                 target):
    """Copy the images of a batch's rows `begin` to `end`, each changed at random.

    The random numbers depend on the seed, the step and ``first_row`` + row alone.

    Parameters
    ----------
    x, kind, stride : address of the inputs; FLOAT32, FLOAT64 or UINT8 (`batches`); elements from row to row. A row
        begins with height * width numbers, row after row of the image
    index : for each row of the batch, the row of the inputs
    settings : SETTINGS numbers, see above
    first_row : number of row 0 in the batch, for a batch that is made in parts
    scratch : `scratch_size` numbers
    target : for each row of the batch, height * width numbers, one after the other
    """
    pixels = height * width
    pitch = width + BORDER
    image = scratch
    picture = _part(image, (height + BORDER) * pitch + lanes(scratch))
    cells_y = height // _spacing(height, settings[ELASTIC_SIGMA])
    cells_x = width // _spacing(width, settings[ELASTIC_SIGMA])
    weights_y = _part(picture, pixels + lanes(scratch))
    weights_x = _part(weights_y, height * padded_columns(cells_y, scratch))
    field = _part(weights_x, (cells_x + 1) * padded_columns(width, scratch))
    half = _part(field, (cells_y + 1) * padded_columns(cells_x, scratch))
    displacements_y = _part(half, height * padded_columns(cells_x, scratch))
    displacements_x = _part(displacements_y, height * padded_columns(width, scratch))
    corners = _part(displacements_x, height * padded_columns(width, scratch))
    down = _part(corners, pixels + lanes(scratch))
    right = _part(down, pixels + lanes(scratch))

    elastic = settings[ELASTIC_ALPHA] != 0.0
    warped = elastic
    for number in range(SHEAR + 1):
        warped = warped or settings[number] != 0.0
    if warped:
        for i in range(pitch + 1):
            image[i] = 0.0
    if elastic:
        gaussian_weights(height, settings[ELASTIC_SIGMA], settings[ELASTIC_ALPHA], False, weights_y)
        gaussian_weights(width, settings[ELASTIC_SIGMA], 1.0, True, weights_x)
    step_key = random_bits(stream_key(seed, AUGMENTATION_STREAM), step)
    for r in range(begin, end):
        key = random_bits(step_key, first_row + r)
        # What is written beyond the end of an image is overwritten by the next one; the last is made elsewhere.
        in_place = (end - r - 1) * pixels >= lanes(target)
        made = shift(target, r * pixels) if in_place else picture
        if warped:
            _copy_row(x, kind, index[r] * stride, pixels, picture)
            add_border(picture, height, width, image)
            if elastic:
                draw_displacements(kernels, random_bits(key, FIELD_Y), height, width, cells_y, cells_x, weights_y,
                                   weights_x, field, half, displacements_y)
                draw_displacements(kernels, random_bits(key, FIELD_X), height, width, cells_y, cells_x, weights_y,
                                   weights_x, field, half, displacements_x)
            matrix = inverse_matrix(settings[ROTATION] * _draw(key, DRAW_ANGLE),
                                    settings[SHEAR] * _draw(key, DRAW_SHEAR),
                                    1.0 + settings[SCALING] * _draw(key, DRAW_SCALE_Y),
                                    1.0 + settings[SCALING] * _draw(key, DRAW_SCALE_X))
            warp(image, height, width, matrix, settings[SHIFT] * _draw(key, DRAW_SHIFT_Y),
                 settings[SHIFT] * _draw(key, DRAW_SHIFT_X), elastic, displacements_y, displacements_x, corners, down,
                 right, made)
        else:
            _copy_row(x, kind, index[r] * stride, pixels, made)
        if settings[NOISE] != 0.0:
            add_noise(kernels, random_bits(key, PIXEL_NOISE), 0, 0, 1, padded_columns(pixels, made), settings[NOISE],
                      made)
        if not in_place:
            _convert(picture, pixels, shift(target, r * pixels))
