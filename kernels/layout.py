"""How a network lies in memory: the table of layers, the panels of weights, and the arguments of a compiled call.

A network is data. One int64 table holds a row a layer; one flat vector holds all parameters. A layer's weights lie
in column panels: panel j holds columns j * width ... of the weight matrix, ``(inputs + 1) x width`` numbers row
after row, the last row being the bias; `width` is that of a register tile, for the last panel perhaps less. Columns
beyond the number of units are padding and stay zero. Gradients and optimizer state have the same layout.
"""

from __future__ import annotations

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
STRIDE = 7  # elements from one row of outputs or deltas to the next
LAYER_FIELDS = 8

ALIGNMENT = 64  # bytes: a cache line, and the widest register


def aligned_zeros(count: int, dtype: np.dtype) -> np.ndarray:
    """Return `count` zeros that begin at a cache line."""
    dtype = np.dtype(dtype)
    raw = np.zeros(count * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + count * dtype.itemsize].view(dtype)


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def row_stride(padded: int, itemsize: int) -> int:
    """Elements from one row to the next: a row of `padded` elements, moved off strides that share cache sets.

    Rows a multiple of 1 KiB apart fall into a few sets of the cache, and a tile that walks down a column
    throws out its own lines.
    """
    return padded + lanes_of(itemsize) if padded * itemsize % 1024 == 0 else padded


def layer_table(sizes: list[int], activations: list[int], dtype: np.dtype) -> np.ndarray:
    """Table of layers for ``sizes = [inputs, units of the first layer, ...]``, without places in a workspace."""
    itemsize = np.dtype(dtype).itemsize
    table = np.zeros((len(activations), LAYER_FIELDS), np.int64)
    offset = 0
    for row, inputs, units, activation in zip(table, sizes, sizes[1:], activations, strict=False):
        padded = round_up(units, lanes_of(itemsize))
        row[INPUTS], row[UNITS], row[PADDED], row[ACTIVATION] = inputs, units, padded, activation
        row[WEIGHTS] = offset
        row[STRIDE] = row_stride(padded, itemsize)
        offset += (inputs + 1) * padded
    return table


def parameter_count(table: np.ndarray) -> int:
    """Length of the vector of parameters, padding included."""
    return int(((table[:, INPUTS] + 1) * table[:, PADDED]).sum())


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


def pack(table: np.ndarray, parameters: np.ndarray, weights: list[np.ndarray]) -> None:
    """Write [W0, b0, W1, b1, ...] into the panels of all layers."""
    for row, weight, bias in zip(table, weights[::2], weights[1::2], strict=True):
        pack_layer(row, parameters, weight, bias)


def unpack(table: np.ndarray, parameters: np.ndarray) -> list[np.ndarray]:
    """Return copies of the weights and biases of all layers, [W0, b0, W1, b1, ...]."""
    return [array for row in table for array in unpack_layer(row, parameters)]


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
ALPHAS = 2  # address: float64 (DEPTH,), the parameter of each layer's activation
PARAMETERS = 3  # address: the vector of parameters
CONSTANTS = 4  # address: a register tile's row of zeros, then a one
ROW_NUMBERS = 5  # address: int64 0, 1, 2 ... for the largest number of rows in a workspace
WORKSPACE = 6  # address: outputs and deltas; one for all threads, or one for each
WORKSPACE_SIZE = 7  # elements from one thread's workspace to the next
SCRATCH = 8  # address: scratch memory of each thread
SCRATCH_SIZE = 9  # elements from one thread's scratch memory to the next
SCRATCH_TARGET = 10  # where a row of targets is kept in the scratch memory
SCRATCH_PANEL = 11  # where a transposed panel is kept in the scratch memory
TEAM = 12  # address: the team's counters
X = 13  # address: the inputs
X_KIND = 14  # FLOAT32, FLOAT64 or UINT8
X_STRIDE = 15  # elements from row to row
X_STAGED = 16  # 1 if rows are converted or standardised as they are read, 0 if they are used where they lie
X_MEAN = 17  # address: (inputs,) subtracted from each row that is staged
X_SCALE = 18  # address: (inputs,) that it is then multiplied by
STAGED = 19  # where staged rows begin in the workspace
STAGED_STRIDE = 20  # elements from one staged row to the next
Y = 21  # address: the targets
Y_KIND = 22  # LABELS, FLOAT32 or FLOAT64
Y_STRIDE = 23  # elements from row to row
LOSS = 24  # code of the loss
SAMPLES = 25  # number of rows of X
ROWS = 26  # rows of a batch (training) or of a chunk (prediction)
LOSSES = 27  # address: float64, the mean loss of each step (training) or the sum of a chunk (evaluation)
HITS = 28  # address: float64, right predictions of each chunk (evaluation)
RESULTS = 29  # address: (SAMPLES, units) outputs of the network (prediction)
ROW_LOSSES = 30  # address: float64, ROWS numbers (training) or ROWS for each thread (evaluation); 0 to predict
FIRST_STEP = 31  # number of the first step of this call; step 0 begins the first epoch on this data
LAST_STEP = 32  # number of the step to stop before
ORDER = 33  # address: int64, SAMPLES numbers: the order of the samples (training); ROWS for each thread (prediction)
ORDER_EPOCH = 34  # epoch that ORDER holds, -1 for none
SHUFFLE = 35  # 1 to draw a new order for each epoch
SEED = 36  # of the random numbers
OPTIMIZER = 37  # code of the update
SETTINGS = 38  # address: float64, the optimizer's settings
RATES = 39  # address: float64, the learning rate of each step of this call
UPDATES_BEFORE = 40  # updates made before step 0, for Adam's bias correction
STATE = 41  # address: the optimizer's slots, COUNT elements each
GRADIENTS = 42  # address: vectors like the parameters, for WRITE_GRADIENT or one for each group
GROUPS = 43  # groups of rows whose gradients are summed; 1 to update tile by tile
GROUP_ROWS = 44  # rows that a group works on at a time
COEFFICIENTS = 45  # address: float64, the coefficients of a step for each thread
NOT_FINITE = 46  # set to 1 + the number of the step whose loss was not finite, when training stops there
STEPS_DONE = 47  # number of the step after the last one whose update is complete
EPOCHS_BEFORE = 48  # epochs made before step 0, so that every epoch has an order of its own
KERNELS = 49  # address: the table of kernels, kernels.linking
COUNT = 50  # length of the vector of parameters
CONTEXT_FIELDS = 51
