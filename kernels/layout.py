"""How a network lies in memory: the table of layers, the panels of weights, and the arguments of a compiled call.

A network is data. One int64 table holds a row a layer; one flat vector holds all parameters. A layer's weights lie
in column panels: panel j holds columns j * width ... of the weight matrix, ``(inputs + 1) x width`` numbers row
after row, the last row being the bias; `width` is that of a register tile, for the last panel perhaps less. Columns
beyond the number of units are padding and stay zero. Gradients and optimizer state have the same layout.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from .simd import TILE_VECTORS, lanes_of

# Columns of the table of layers.
INPUTS = 0  # number of inputs
UNITS = 1  # number of units
PADDED = 2  # number of units rounded up to whole registers
ACTIVATION = 3  # code of the activation, kernels.activations
WEIGHTS = 4  # where the first panel begins in the vector of parameters
OUTPUTS = 5  # where the outputs of a batch begin in the workspace
DELTAS = 6  # where the deltas (loss by pre-activation) of a batch begin in the workspace
# What only some layers have; 0 for none.
KEPT = 7  # where the forward pass leaves, in the workspace, what the backward pass multiplies deltas by
SLOPES = 8  # where learned slopes begin in the vector of parameters: one a unit, or a register full of one for all
SLOPE_COUNT = 9  # numbers that they take up
SHARED = 10  # 1 if all units share one slope
FUNCTION = 11  # address of the user's activation
DROPOUT = 12  # probability that an output is dropped, times 2**32
PIECES = 13  # of maxout, which is a row of its own without weights, after that of the dense layer it takes maxima of
LAYER_FIELDS = 14

NO_SLOPES, A_SLOPE_A_UNIT, ONE_SLOPE = range(3)

# Columns of the settings of a layer, float64.
ALPHA = 0  # parameter of the activation
MAX_NORM = 1  # largest norm of the weights into a unit; 0 for any
LAYER_SETTINGS = 2

ALIGNMENT = 64  # bytes: a cache line, and the widest register


def address_of(array: Any) -> int:
    """Return the address of an array's first element, in a quarter of the time of ``array.ctypes.data``."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):  # read-only, empty or not contiguous
        return int(array.__array_interface__["data"][0])


def aligned_empty(count: int, dtype: np.dtype, make: Callable[..., np.ndarray] = np.empty) -> np.ndarray:
    """Return room for `count` numbers that begins at a cache line, in memory that `make` allots."""
    dtype = np.dtype(dtype)
    raw = make(count * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -address_of(raw) % ALIGNMENT
    return raw[start : start + count * dtype.itemsize].view(dtype)


def aligned_zeros(count: int, dtype: np.dtype) -> np.ndarray:
    """Return `count` zeros that begin at a cache line."""
    return aligned_empty(count, dtype, np.zeros)


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def row_scratch_size(units: int, itemsize: int) -> int:
    """Elements that softmax and losses work in: three matrices of a register for each unit, and two registers."""
    lanes = lanes_of(itemsize)
    return (3 * round_up(units, lanes) + 2) * lanes


def layer_table(sizes: list[int], activations: list[int], dtype: np.dtype, pieces: Sequence[int] = (),
                slopes: Sequence[int] = ()) -> np.ndarray:
    """Table of layers, with no places in a workspace.

    Parameters
    ----------
    sizes : number of inputs, then the units of each layer
    activations : code of each layer's activation
    dtype : of the network
    pieces : for each layer the pieces of maxout, 0 for a dense layer; none by default
    slopes : for each layer NO_SLOPES, A_SLOPE_A_UNIT or ONE_SLOPE; none by default

    Returns
    -------
    int64 (rows, LAYER_FIELDS): a row for each layer, two for maxout.
    """
    lanes = lanes_of(np.dtype(dtype).itemsize)
    rows, offset, inputs = [], 0, sizes[0]
    for l, (units, activation) in enumerate(zip(sizes[1:], activations, strict=True)):
        row = np.zeros(LAYER_FIELDS, np.int64)
        rows.append(row)
        count = pieces[l] if pieces else 0
        # The pieces of maxout begin at panels of their own.
        columns = count * round_up(units, TILE_VECTORS * lanes) if count else units
        row[INPUTS], row[UNITS], row[PADDED], row[WEIGHTS] = inputs, columns, round_up(columns, lanes), offset
        offset += (inputs + 1) * int(row[PADDED])
        if count:
            row = np.zeros(LAYER_FIELDS, np.int64)
            rows.append(row)
            row[INPUTS], row[UNITS], row[PADDED], row[PIECES] = columns, units, round_up(units, lanes), count
        row[ACTIVATION] = activation
        inputs = units
        if slopes and slopes[l] != NO_SLOPES:
            row[SHARED] = slopes[l] == ONE_SLOPE
            row[SLOPE_COUNT] = lanes if row[SHARED] else row[PADDED]
    for row in rows:
        if row[SLOPE_COUNT]:
            row[SLOPES] = offset
            offset += int(row[SLOPE_COUNT])
    return np.array(rows)


def has_weights(row: np.ndarray) -> bool:
    """Whether a row of the table is a dense layer, and not the maxima of maxout."""
    return int(row[PIECES]) == 0


def work_of(table: np.ndarray) -> np.ndarray:
    """Multiply-adds of each row of the table for one row of inputs, forward."""
    return np.where(table[:, PIECES] == 0, table[:, INPUTS] * table[:, PADDED], 0)


def parameter_count(table: np.ndarray) -> int:
    """Length of the vector of parameters, padding included."""
    return int((work_of(table) + np.where(table[:, PIECES] == 0, table[:, PADDED], 0) + table[:, SLOPE_COUNT]).sum())


def _panels(row: np.ndarray, parameters: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """Views of a layer's panels: first column, number of columns that are units, (inputs + 1, width) array."""
    width = TILE_VECTORS * lanes_of(parameters.itemsize)
    inputs, units, padded = int(row[INPUTS]), int(row[UNITS]), int(row[PADDED])
    views = []
    for first in range(0, padded, width):
        columns = min(width, padded - first)
        start = int(row[WEIGHTS]) + first * (inputs + 1)
        panel = parameters[start : start + (inputs + 1) * columns].reshape(inputs + 1, columns)
        views.append((first, min(columns, units - first), panel))
    return views


def pack_layer(row: np.ndarray, parameters: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> None:
    """Write weights (inputs, units) and bias (units,) into the panels of one layer."""
    for first, used, panel in _panels(row, parameters):
        panel[:-1, :used] = weights[:, first : first + used]
        panel[-1, :used] = bias[first : first + used]


def _columns(pool: np.ndarray | None, row: np.ndarray) -> np.ndarray:
    """Columns of a layer's weight matrix that hold the user's, in their order: piece after piece for maxout."""
    if pool is None:
        return np.arange(row[UNITS])
    stride = row[UNITS] // pool[PIECES]
    return (np.arange(pool[PIECES])[:, np.newaxis] * stride + np.arange(pool[UNITS])).ravel()


def _dense_layers(table: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Each row with weights, and the row of maxout that belongs to it."""
    for number, row in enumerate(table):
        if has_weights(row):
            pool = table[number + 1] if number + 1 < len(table) and not has_weights(table[number + 1]) else None
            yield row, pool


def array_names(table: np.ndarray) -> list[list[str]]:
    """For each layer the names of its arrays of parameters, in the order of `unpack`."""
    return [["weights", "bias", "slopes"] if row[SLOPES] else ["weights", "bias"] for row, _ in _dense_layers(table)]


def array_shapes(table: np.ndarray) -> list[tuple[int, ...]]:
    """Shapes of the arrays of `unpack`."""
    shapes: list[tuple[int, ...]] = []
    for row, pool in _dense_layers(table):
        columns = len(_columns(pool, row))
        shapes += [(int(row[INPUTS]), columns), (columns,)]
        if row[SLOPES]:
            shapes.append((1 if row[SHARED] else columns,))
    return shapes


def pack(table: np.ndarray, parameters: np.ndarray, arrays: list[np.ndarray]) -> None:
    """Write [W0, b0, W1, b1, ...] into the panels of all layers; a layer with learned slopes has a third array."""
    given = iter(arrays)
    for row, pool in _dense_layers(table):
        columns = _columns(pool, row)
        weights, bias = np.zeros((row[INPUTS], row[UNITS]), parameters.dtype), np.zeros(row[UNITS], parameters.dtype)
        weights[:, columns], bias[columns] = next(given), next(given)
        pack_layer(row, parameters, weights, bias)
        if row[SLOPES]:
            slopes, place = next(given), int(row[SLOPES])
            count = int(row[SLOPE_COUNT]) if row[SHARED] else len(slopes)
            parameters[place : place + count] = slopes


def unpack(table: np.ndarray, parameters: np.ndarray) -> list[np.ndarray]:
    """Return copies of the parameters of all layers, in the order of `pack`."""
    arrays = []
    for row, pool in _dense_layers(table):
        weights, bias = unpack_layer(row, parameters)
        columns = _columns(pool, row)
        arrays += [weights, bias] if pool is None else [weights[:, columns], bias[columns]]
        if row[SLOPES]:
            place = int(row[SLOPES])
            arrays.append(parameters[place : place + (1 if row[SHARED] else len(columns))].copy())
    return arrays


def unpack_layer(row: np.ndarray, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return copies of the weights (inputs, units) and bias (units,) of one layer."""
    inputs, units = int(row[INPUTS]), int(row[UNITS])
    weights = np.empty((inputs, units), parameters.dtype)
    bias = np.empty(units, parameters.dtype)
    for first, used, panel in _panels(row, parameters):
        weights[:, first : first + used] = panel[:-1, :used]
        bias[first : first + used] = panel[-1, :used]
    return weights, bias


# The arguments of a compiled call: one int64 array, so that calling costs little and nothing recompiles. A name that
# is marked "address" holds the address of an array that the caller keeps alive for the duration of the call.
LAYERS = 0  # address: the table of layers
DEPTH = 1  # number of layers
LAYER_NUMBERS = 2  # address: float64 (DEPTH, LAYER_SETTINGS)
PARAMETERS = 3  # address: the vector of parameters
WORKSPACE = 4  # address: staged rows, outputs and deltas; one for all threads, or one for each
WORKSPACE_SIZE = 5  # elements from one thread's workspace to the next
SCRATCH = 6  # address: scratch memory of each thread, which begins with (panel width + 1) x panel width numbers
SCRATCH_SIZE = 7  # elements from one thread's scratch memory to the next
SCRATCH_ROWS = 8  # where it has room for what works on a register full of rows
SCRATCH_PANEL = 9  # where it has room for a transposed panel of weights
SCRATCH_LINE = 10  # where it has room for a row of inputs
STAGED = 11  # where a workspace has room for the rows of a pass, in panels
TEAM = 12  # address: the team's counters
X = 13  # address: the inputs
X_KIND = 14  # FLOAT32, FLOAT64 or UINT8
X_DIRECT = 15  # 1 if that is the dtype of the network
X_STRIDE = 16  # elements from row to row
X_FAR = 17  # 1 if X is too large for the caches, so that its rows are worth asking for in advance
X_NOT_FINITE = 18  # set to 1 if a number in the rows that were read is not finite
X_MEAN = 19  # address: (inputs,) subtracted from each row
X_SCALE = 20  # address: (inputs,) that it is then multiplied by
X_STANDARDISED = 21  # 1 if these two are to be used
Y = 22  # address: the targets
Y_KIND = 23  # LABELS, FLOAT32 or FLOAT64
Y_STRIDE = 24  # elements from row to row
LOSS = 25  # code of the loss
SAMPLES = 26  # number of rows of X
ROWS = 27  # rows of a batch (training) or of a chunk (prediction)
LOSSES = 28  # address: float64, the mean loss of each step (training) or the sum of a chunk (evaluation)
HITS = 29  # address: float64, right predictions of each chunk (evaluation)
RESULTS = 30  # address: (SAMPLES, units) outputs of the network (prediction)
ROW_LOSSES = 31  # address: float64, ROWS numbers (training) or ROWS for each thread (evaluation); 0 to predict
FIRST_STEP = 32  # number of the first step of this call; step 0 begins the first epoch on this data
LAST_STEP = 33  # number of the step to stop before
ORDER = 34  # address: int64, SAMPLES numbers: the order of the samples (training); ROWS for each thread (prediction)
ORDER_EPOCH = 35  # epoch whose order ORDER holds, or the first of them; -1 for none
SHUFFLE = 36  # 1 to draw a new order for each epoch
SEED = 37  # of the random numbers
OPTIMIZER = 38  # code of the update
SETTINGS = 39  # address: float64, the optimizer's settings
RATES = 40  # address: float64, the learning rate of each step of this call
UPDATES_BEFORE = 41  # updates made before step 0, for Adam's bias correction
STATE = 42  # address: the optimizer's slots, COUNT elements each
GRADIENTS = 43  # address: vectors like the parameters: of WRITE_GRADIENT, of several passes, or one for each group
GROUPS = 44  # groups of rows whose gradients are summed; 1 to share panels among the threads
PASS_ROWS = 45  # most rows that go through the network at a time
COEFFICIENTS = 46  # address: float64, the coefficients of a step for each thread
NOT_FINITE = 47  # set to 1 + the number of the step whose loss was not finite, when training stops there
STEPS_DONE = 48  # number of the step after the last one whose update is complete
EPOCHS_BEFORE = 49  # epochs made before step 0, so that every epoch has an order of its own
KERNELS = 50  # address: the table of kernels, kernels.linking
COUNT = 51  # length of the vector of parameters
PHASES = 52  # what a step does: GRADIENT, UPDATE or both
DEFERRED = 53  # 1 if the update needs the whole gradient
ACCUMULATE = 54  # 1 to add the first gradient to what is in GRADIENTS
SQUARES = 55  # address: float64, sums of squares of the parts of the gradient, for its norm
CONSTRAINED = 56  # 1 if a layer has a MAX_NORM
WEIGHTS_OF_SAMPLES = 57  # address: float64, a weight for each row of X; 0 if all count alike
STEP_WEIGHTS = 58  # address: float64, the sum of the weights of the rows of each step
LOSS_PARAMETER = 59  # address: float64, one number
INPUT_DROPOUT = 60  # probability that an input is dropped, times 2**32
INPUT_NOISE = 61  # address: float64, standard deviation of the noise that is added to inputs; 0 for none
AUGMENTATION = 62  # address: float64, settings of the augmentation of images; 0 for none
IMAGE_HEIGHT = 63  # of the images that the rows of X are
IMAGE_WIDTH = 64
SCRATCH_IMAGE = 65  # where scratch memory has room for making an image
SCRATCH_AUGMENTED = 66  # where it has room for IMAGES_AT_ONCE images
ROW_NUMBERS = 67  # address: 0, 1, 2 ... IMAGES_AT_ONCE - 1
SHARES_CHUNKS = 68  # 1 if all threads go through each chunk together, by panels (prediction)
ORDER_STRIDE = 69  # SAMPLES if ORDER holds the orders of several epochs, one after the other; else 0
SQUARED_WEIGHTS = 70  # address: float64, the sum of the squares of all weights after each epoch; 0 if not wanted
FIRST_ROW = 71  # rows of an update that went before those of its batch, in calls of their own
AHEAD = 72  # address: int64, the list of what each thread reads ahead (`read_ahead`)
CONTEXT_FIELDS = 73

# Values of PHASES, which may be added.
GRADIENT, UPDATE = 1, 2
