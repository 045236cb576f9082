"""Inputs and targets: checked, and described to the kernels by address, element type and stride.

Arrays that the kernels can read where they lie are not copied: float32, float64 and uint8 in native byte order whose
rows are contiguous, at any distance from one another. Everything else that is real and numeric is converted once.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernels.batches import FLOAT32, FLOAT64, LABELS, UINT8
from .kernels.layout import address_of

KINDS: dict[np.dtype[Any], int] = {
    np.dtype(np.float32): FLOAT32,
    np.dtype(np.float64): FLOAT64,
    np.dtype(np.uint8): UINT8,
}
LARGEST = {dtype: float(np.finfo(str(dtype)).max) for dtype in KINDS if dtype.kind == "f"}
BLOCK_BYTES = 1 << 18  # inputs are searched for NaN in blocks of this size, which stay in the cache


@dataclass
class Source:
    """An array as the kernels see it; `array` keeps the memory alive."""

    array: NDArray[Any]
    kind: int
    stride: int

    @property
    def address(self) -> int:
        return address_of(self.array)

    @property
    def rows(self) -> int:
        return int(self.array.shape[0])

    def split(self, rows: int) -> tuple[Source, Source]:
        """Return the first `rows` rows and the rest, as views."""
        return Source(self.array[:rows], self.kind, self.stride), Source(self.array[rows:], self.kind, self.stride)


@dataclass
class Targets:
    """What a loss compares the outputs with."""

    source: Source
    loss: int  # code of the loss, or address of a user's
    parameter: NDArray[np.float64]  # (1,): of the loss
    weights: NDArray[np.float64] | None = None  # (rows,): of the samples

    def split(self, rows: int) -> tuple[Targets, Targets]:
        """Return the targets of the first `rows` rows and of the rest."""
        first, rest = self.source.split(rows)
        weights = (None, None) if self.weights is None else (self.weights[:rows], self.weights[rows:])
        return replace(self, source=first, weights=weights[0]), replace(self, source=rest, weights=weights[1])


def as_numeric(name: str, values: Any, allowed: str) -> NDArray[Any]:
    """Return `values` as an array of real numbers, or raise TypeError."""
    masked = sys.modules.get("numpy.ma")  # a masked array is there only if its module is
    if masked is not None and isinstance(values, masked.MaskedArray):
        raise TypeError(f"{name} must be {allowed}, got a masked array; fill in what is masked, or leave it out")
    try:
        array = np.asarray(values)
    except ValueError as problem:  # rows of different lengths
        raise ValueError(f"{name} must be {allowed}: {problem}") from None
    if array.dtype.kind not in "biuf":
        got = f"dtype {array.dtype}" if array.ndim else type(values).__name__
        raise TypeError(f"{name} must be {allowed}, got {got}")
    return array


def _describe(array: NDArray[Any], dtype: np.dtype[Any]) -> Source:
    """Describe a 2-d array; convert it to `dtype` if the kernels cannot read it where it lies."""
    in_place = (
        array.dtype in KINDS
        and array.dtype.isnative
        and array.flags.aligned
        and (array.shape[1] == 1 or array.strides[1] == array.itemsize)
        and array.strides[0] % array.itemsize == 0
    )
    if not in_place:
        with np.errstate(over="ignore"):  # what overflows is found as infinite afterwards
            array = np.ascontiguousarray(array, dtype=dtype)
    return Source(array, KINDS[array.dtype], array.strides[0] // array.itemsize)


def require_finite(name: str, array: NDArray[Any], dtype: np.dtype[Any], first_row: int = 0) -> None:
    """Raise ValueError naming the first number of a 2-d array that is not finite as `dtype`.

    A block's least and largest number tell whether there is one. (A dot product with itself would, too, but linear
    algebra libraries take several threads for it, which still spin when ours begin to work.)
    """
    if array.dtype.kind != "f" or array.size == 0:
        return
    largest = LARGEST[dtype]
    block = max(1, BLOCK_BYTES // (array.itemsize * array.shape[1]))
    for first in range(0, array.shape[0], block):
        rows = array[first : first + block]
        with np.errstate(invalid="ignore"):  # some dtypes warn of a NaN
            if float(rows.min()) >= -largest and float(rows.max()) <= largest:  # neither is true with a NaN
                continue
        wrong = np.argwhere(~(np.abs(rows.astype(np.float64)) <= largest))
        if len(wrong):
            row, column = int(wrong[0, 0]), int(wrong[0, 1])
            place = f"row {first_row + first + row}, column {column}"
            raise ValueError(f"{name} must be finite as {dtype}, got {rows[row, column]} in {place}")


def check_inputs(X: Any, inputs: int, dtype: np.dtype[Any], *, finite: bool = True, empty: bool = False) -> Source:
    """Check the argument X: a (rows, inputs) array of finite real numbers.

    Raises
    ------
    TypeError
        If X is not an array of real numbers.
    ValueError
        If it has another shape, no rows (unless `empty`), or NaN or infinity.
    """
    allowed = f"an array of real numbers of shape (rows, {inputs})"
    array = as_numeric("X", X, allowed)
    if array.ndim != 2 or array.shape[1] != inputs:
        raise ValueError(f"X must be {allowed}, got shape {array.shape}")
    if array.shape[0] == 0 and not empty:
        raise ValueError(f"X must be {allowed} with at least one row, got shape {array.shape}")
    source = _describe(array, dtype)
    if finite:
        require_finite("X", array, dtype)
    return source


def check_weights(name: str, weights: Any, rows: int) -> NDArray[np.float64]:
    """Check weights of samples: finite numbers of at least 0, one for each row."""
    allowed = f"finite numbers of at least 0 of shape ({rows},)"
    array = as_numeric(name, weights, allowed)
    if array.shape != (rows,):
        raise ValueError(f"{name} must be {allowed}, one for each row, got shape {array.shape}")
    wrong = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if len(wrong):
        raise ValueError(f"{name} must be {allowed}, got {array[wrong[0]]} at position {wrong[0]}")
    return np.array(array, np.float64, order="C")


def check_labels(y: Any, rows: int, classes: int) -> Source:
    """Check targets that are integer labels 0 ... classes - 1, one for each row of X."""
    allowed = f"whole numbers from 0 to {classes - 1} of shape ({rows},)"
    array = as_numeric("y", y, allowed)
    if array.shape != (rows,):
        raise ValueError(f"y must be {allowed}, one for each row of X, got shape {array.shape}")
    if array.dtype.kind == "f":
        wrong = np.flatnonzero(~(np.isfinite(array) & (array == np.floor(array))))
        if len(wrong):
            raise ValueError(f"y must be {allowed}, got {array[wrong[0]]} at position {wrong[0]}")
    if rows and (array.min() < 0 or array.max() >= classes):
        position = int(np.flatnonzero((array < 0) | (array >= classes))[0])
        raise ValueError(f"y must be {allowed}, got {array[position]} at position {position}")
    return Source(np.ascontiguousarray(array, dtype=np.int64), LABELS, 1)


def check_targets(y: Any, rows: int, outputs: int, dtype: np.dtype[Any], *, low: float | None = None,
                  high: float | None = None, distribution: bool = False) -> Source:
    """Check targets that are real numbers of shape (rows, outputs); (rows,) will do for one output.

    Parameters
    ----------
    low, high : float, optional
        Limits of the values.
    distribution : bool
        Whether each row must sum to 1.
    """
    allowed = f"an array of real numbers of shape ({rows}, {outputs})"
    array = as_numeric("y", y, allowed)
    if outputs == 1 and array.ndim == 1:
        array = array[:, np.newaxis]
    if array.shape != (rows, outputs):
        raise ValueError(f"y must be {allowed}, one row for each row of X, got shape {array.shape}")
    if array.dtype == np.uint8:
        array = array.astype(dtype)
    source = _describe(array, dtype)
    require_finite("y", array, dtype)
    if rows and low is not None and high is not None and (array.min() < low or array.max() > high):
        found = f"values from {array.min()} to {array.max()}"
        raise ValueError(f"y must be {allowed} from {low:g} to {high:g}, got {found}")
    if distribution:
        wrong = np.flatnonzero(np.abs(array.sum(axis=1, dtype=np.float64) - 1.0) > 0.01)
        if len(wrong):
            total = float(array[wrong[0]].sum(dtype=np.float64))
            raise ValueError(f"y must hold probabilities that sum to 1 in each row, got {total:g} in row {wrong[0]}")
    return source
