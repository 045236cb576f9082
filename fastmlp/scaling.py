"""Scaling of inputs, fitted on the training set; the model holds it and applies it to every row it reads.

    model = MLP([30, 64, 2], **standardise(X_train))

scales by the training set's means and standard deviations, in training, prediction and after loading from a file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import as_numeric
from .validation import check_number

BLOCK_BYTES = 1 << 24  # X is looked at in blocks of about this size, so that a file larger than memory will do


def _blocks(X: Any) -> tuple[NDArray[Any], int]:
    allowed = "an array of finite real numbers of shape (rows, inputs) with at least one row"
    array = as_numeric("X", X, allowed)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"X must be {allowed}, got shape {array.shape}")
    return array, max(1, BLOCK_BYTES // (8 * array.shape[1]))


def _require_finite(*results: NDArray[np.float64]) -> None:
    for result in results:
        wrong = np.flatnonzero(~np.isfinite(result))
        if len(wrong):
            raise ValueError(f"X must be finite, got NaN or infinity, or numbers too far apart, in column {wrong[0]}")


def standardise(X: Any) -> dict[str, NDArray[np.float64]]:
    """Return the scaling to mean 0 and standard deviation 1: the arguments `input_mean` and `input_std` of a model.

    Parameters
    ----------
    X : array of shape (rows, inputs)
        The training set; a memory-mapped file is read block by block.

    Returns
    -------
    dict
        "input_mean" and "input_std", float64 (inputs,): the means of the columns, and their standard deviations
        (divided by the number of rows, as scikit-learn's StandardScaler does); 1 where a column is constant.

    Raises
    ------
    TypeError, ValueError
        If X is not an array of finite real numbers of that shape.
    """
    array, rows = _blocks(X)
    count, mean, squares = 0, np.zeros(array.shape[1]), np.zeros(array.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        for first in range(0, len(array), rows):
            block = np.asarray(array[first : first + rows], np.float64)
            # Means and sums of squares of two parts are combined (Chan, Golub and LeVeque, 1983).
            block_mean = block.mean(axis=0)
            difference, total = block_mean - mean, count + len(block)
            squares += ((block - block_mean) ** 2).sum(axis=0) + difference**2 * count * len(block) / total
            mean += difference * len(block) / total
            count = total
    _require_finite(mean, squares)
    deviation = np.sqrt(squares / count)
    # What rounding makes of a constant column is no deviation (the bound is that of a sum of so many numbers).
    constant = deviation <= count * np.finfo(np.float64).eps * np.abs(mean)
    return {"input_mean": mean, "input_std": np.where(constant, 1.0, deviation)}


def scale_to_range(X: Any, low: float = 0.0, high: float = 1.0) -> dict[str, NDArray[np.float64]]:
    """Return the scaling of each column from its least and largest value to `low` and `high` (min-max scaling).

    Parameters
    ----------
    X : array of shape (rows, inputs)
        The training set; a memory-mapped file is read block by block.
    low, high : float
        The range, default 0 and 1.

    Returns
    -------
    dict
        The arguments "input_mean" and "input_std" of a model, float64 (inputs,), with which ``(X - input_mean) /
        input_std`` is in that range. A constant column becomes `low`.

    Raises
    ------
    TypeError, ValueError
        If X is not an array of finite real numbers of that shape, `low` is not below `high`, or that range is so wide
        or so narrow that float64 does not hold the scaling to it.
    """
    low = check_number("low", low)
    high = check_number("high", high)
    if not low < high:
        raise ValueError(f"low must be below high, got low={low:g} and high={high:g}")
    if not np.isfinite(high - low):
        raise ValueError(f"high must be above low by a finite number, got low={low:g} and high={high:g}")
    array, rows = _blocks(X)
    least, largest = np.full(array.shape[1], np.inf), np.full(array.shape[1], -np.inf)
    for first in range(0, len(array), rows):
        block = np.asarray(array[first : first + rows], np.float64)
        least, largest = np.minimum(least, block.min(axis=0)), np.maximum(largest, block.max(axis=0))
    with np.errstate(over="ignore", invalid="ignore"):
        span = largest - least
    _require_finite(least, largest, span)
    with np.errstate(all="ignore"):
        std = np.where(span > 0, span, 1.0) / (high - low)
        mean = least - low * std
    wrong = np.flatnonzero(~(np.isfinite(mean) & np.isfinite(std) & (std > 0)))
    if len(wrong):
        raise ValueError("low and high must be a range that float64 can scale X to, got "
                         f"low={low:g} and high={high:g} for column {wrong[0]} from {least[wrong[0]]:g} to "
                         f"{largest[wrong[0]]:g}")
    return {"input_mean": mean, "input_std": std}
