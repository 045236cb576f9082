"""Rows of arrays and of sparse matrices, which are made dense a window at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import engine
from ..arrays import KINDS, Source, Targets, check_inputs
from ..kernels.batches import LABELS
from ..model import MLP
from .objective import Reported

Array = NDArray[Any]

WINDOW_BYTES = 8 << 20  # rows of a sparse matrix are made dense this many bytes at a time


def is_sparse(X: Any) -> bool:
    """Whether X is a sparse matrix or array of SciPy."""
    return hasattr(X, "tocsr")


def take_rows(targets: Targets, rows: Any) -> Targets:
    """Return the targets and weights of some rows, by a slice or their numbers."""
    source = targets.source
    weights = None if targets.weights is None else targets.weights[rows]
    return dataclasses.replace(targets, source=source_of(np.ascontiguousarray(source.array[rows])), weights=weights)


def source_of(array: Array) -> Source:
    if array.ndim == 1:
        return Source(array, LABELS, 1)
    return Source(array, KINDS[array.dtype], array.strides[0] // array.itemsize if len(array) > 1 else array.shape[1])


def readable(X: Any, model: MLP) -> Any:
    """Return inputs as a CSR matrix, or an array that the kernels can read."""
    return X if is_sparse(X) else check_inputs(X, model.inputs, model.dtype, finite=False).array


class DenseWindow:
    """Room for some rows of a CSR matrix, made dense.

    Parameters
    ----------
    X : CSR matrix (n, inputs) of float32, float64 or uint8
    batch : int
        The room is for as many whole batches as `WINDOW_BYTES` hold, at least one.
    """

    def __init__(self, X: Any, batch: int) -> None:
        self.X = X
        count, inputs = X.shape
        row_bytes = inputs * X.dtype.itemsize
        self.rows = min(max(1, WINDOW_BYTES // (batch * row_bytes)) * batch, count)
        self.memory = np.zeros((self.rows, inputs), X.dtype)

    def fill(self, rows: Any) -> Source:
        """Make the rows with these numbers dense."""
        chosen = self.X[rows]
        dense = self.memory[: chosen.shape[0]]
        chosen.toarray(out=dense)
        return source_of(dense)

    def slices(self) -> Iterator[slice]:
        """Yield the rows from the first to the last, a window at a time."""
        count = self.X.shape[0]
        for begin in range(0, count, self.rows):
            yield slice(begin, min(begin + self.rows, count))


def predict(network: engine.Network, X: Any) -> Array:
    """Return the outputs (n, outputs) for an array, or for a CSR matrix, a window of rows at a time."""
    if not is_sparse(X):
        return engine.predict(network, X)
    outputs = np.empty((X.shape[0], network.outputs), network.dtype)
    window = DenseWindow(X, 1)
    for rows in window.slices():
        outputs[rows] = engine.predict(network, window.fill(rows).array)
    return outputs


class HeldOut:
    """Rows to validate on.

    Parameters
    ----------
    network : Network
    X : array, or CSR matrix (n, inputs)
    targets : Targets
    reported : Reported
    score : function of the outputs (n, outputs)
        Returns the score.
    score_is_hits : bool
        Whether the score is the share of right predictions as the kernels count them, which saves a prediction.
    """

    def __init__(self, network: engine.Network, X: Any, targets: Targets, reported: Reported,
                 score: Callable[[Array], float], score_is_hits: bool) -> None:
        self.network, self.X, self.targets, self.reported = network, X, targets, reported
        self.score, self.score_is_hits = score, score_is_hits

    def evaluate(self) -> dict[str, float]:
        """Return "val_loss" and "val_score"."""
        count = self.X.shape[0]
        if is_sparse(self.X):
            window = DenseWindow(self.X, 1)
            loss, hits, total = 0.0, 0.0, 0.0
            for rows in window.slices():
                targets = take_rows(self.targets, rows)
                weight = float(rows.stop - rows.start if targets.weights is None else targets.weights.sum())
                part = engine.evaluate(self.network, window.fill(rows), targets)
                loss, hits, total = loss + part[0] * weight, hits + part[1] * (rows.stop - rows.start), total + weight
            loss, hits = loss / total, hits / count
        else:
            loss, hits = engine.evaluate(self.network, source_of(self.X), self.targets)
        score = hits if self.score_is_hits else self.score(predict(self.network, self.X))
        return {"val_loss": self.reported.mean(loss, self.targets.weights), "val_score": score}
