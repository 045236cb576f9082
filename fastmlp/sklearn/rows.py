"""Rows of arrays and of sparse matrices, which are made dense a window at a time."""

from __future__ import annotations

import contextlib
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
SPARSE_COST = 10  # of a multiplication by an element of a sparse matrix, beside one in the kernels


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
        self.X = X = X.astype(np.float64) if X.dtype == np.uint8 else X  # the sum of elements of one place would wrap
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


def predict(model: MLP, X: Any) -> Array:
    """Return the outputs (n, outputs) for an array or a CSR matrix, whichever way takes less time."""
    if not is_sparse(X):
        return engine.predict(model.network, X)
    count, inputs = X.shape
    if count * model.layers[0].units + SPARSE_COST * (X.nnz + inputs) < count * inputs:
        with contextlib.suppress(ValueError):  # products may be infinite, which inputs must not be
            return predict_by_products(model, X)
    outputs = np.empty((count, model.outputs), model.dtype)
    window = DenseWindow(X, 1)
    for rows in window.slices():
        outputs[rows] = engine.predict(model.network, window.fill(rows).array)
    return outputs


def predict_by_products(model: MLP, X: Any) -> Array:
    """Return the outputs (n, outputs) for a CSR matrix, whose product with the first weights is left to SciPy.

    The product goes into a network that has an identity matrix in the place of these weights.

    Raises
    ------
    ValueError
        If the product is not finite.
    """
    first, *others = model.get_weights()
    units = first.shape[1]
    rest = MLP([units, *model.layers], dtype=model.dtype)
    rest.set_weights([np.eye(units), *others])
    outputs = np.empty((X.shape[0], model.outputs), model.dtype)
    step = max(1, WINDOW_BYTES // (units * model.dtype.itemsize))
    for begin in range(0, X.shape[0], step):
        outputs[begin : begin + step] = engine.predict(rest.network, X[begin : begin + step] @ first)
    return outputs


class HeldOut:
    """Rows to validate on.

    Parameters
    ----------
    model : MLP
    X : array, or CSR matrix (n, inputs)
    targets : Targets
    reported : Reported
    score : function of the outputs (n, outputs)
        Returns the score.
    score_is_hits : bool
        Whether the score is the share of right predictions as the kernels count them, which saves a prediction.
    """

    def __init__(self, model: MLP, X: Any, targets: Targets, reported: Reported,
                 score: Callable[[Array], float], score_is_hits: bool) -> None:
        self.model, self.X, self.targets, self.reported = model, X, targets, reported
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
                part = engine.evaluate(self.model.network, window.fill(rows), targets)
                loss, hits, total = loss + part[0] * weight, hits + part[1] * (rows.stop - rows.start), total + weight
            loss, hits = loss / total, hits / count
        else:
            loss, hits = engine.evaluate(self.model.network, source_of(self.X), self.targets)
        score = hits if self.score_is_hits else self.score(predict(self.model, self.X))
        return {"val_loss": self.reported.mean(loss, self.targets.weights), "val_score": score}
