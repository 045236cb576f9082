"""Reading mini-batches from the user's arrays."""

from __future__ import annotations

from numba import njit

from .linking import INT, INT_POINTER, NUMBERS, kernel
from .simd import float32_pointer, float64_pointer, shift, uint8_pointer

# Element types of the user's arrays.
FLOAT32, FLOAT64, UINT8, LABELS = range(4)  # LABELS: int64


@njit
def _standardise(source, mean, scale, count, target):
    for i in range(count):
        target[i] = (source[i] - mean[i]) * scale[i]


@kernel(INT, INT, INT, INT_POINTER, INT, INT, NUMBERS, NUMBERS, NUMBERS, INT)
def stage_rows(x, kind, stride, index, rows, inputs, mean, scale, target, target_stride):
    """Copy the rows ``index[0 : rows]`` of the inputs to `target` as ``(x - mean) * scale``.

    Parameters
    ----------
    x, kind, stride : address of the inputs, FLOAT32, FLOAT64 or UINT8, and elements from row to row
    mean, scale : (inputs,) numbers in the dtype of the network
    target, target_stride : rows in the dtype of the network
    """
    for r in range(rows):
        first = index[r] * stride
        row = shift(target, r * target_stride)
        if kind == FLOAT32:
            _standardise(shift(float32_pointer(x), first), mean, scale, inputs, row)
        elif kind == FLOAT64:
            _standardise(shift(float64_pointer(x), first), mean, scale, inputs, row)
        else:
            _standardise(shift(uint8_pointer(x), first), mean, scale, inputs, row)
