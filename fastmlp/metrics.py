"""Metrics: how good predictions are, as plain functions of arrays and by name for the trainer.

Definitions are scikit-learn's, with 0 where a ratio has no denominator, unless a docstring says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .activations import ACTIVATIONS
from .arrays import as_numeric, check_weights
from .layers import MAX_UNITS
from .validation import check_choice, check_integer

Array = NDArray[Any]

AVERAGES = ("binary", "macro", "micro", "weighted")
RESERVED = ("epoch", "loss", "learning_rate", "samples_per_second", "message")  # names of other values in the history
LARGEST_WHOLE = 2.0**53  # above it not every whole number is a float64


# ---- classification


def accuracy(y: Any, predicted: Any, sample_weight: Any = None) -> float:
    """Return the share of right labels.

    Parameters
    ----------
    y, predicted : arrays of shape (n,) or (n, outputs)
        Whole numbers, one label a row; or 0 and 1 for each of several outputs. The latter give the share of right
        entries, which is Keras' binary accuracy; scikit-learn's ``accuracy_score`` would ask for whole rows. One may
        be (n,) where the other is (n, 1), as the predictions of a model with one output are.
    sample_weight : array of shape (n,), optional
        How much each row counts: numbers of at least 0, not all 0. By default all count the same.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, shape or range.
    """
    y, predicted = _check_label_pair(y, predicted)
    right = y == predicted
    shares = right if right.ndim == 1 else right.mean(axis=1)
    return float(np.average(shares, weights=_check_weights(sample_weight, len(y))))


def top_k_accuracy(y: Any, scores: Any, k: int = 5, sample_weight: Any = None) -> float:
    """Return the share of rows whose label is among the k classes with the highest scores.

    Parameters
    ----------
    y : array of shape (n,)
        Labels from 0 to classes - 1.
    scores : array of shape (n, classes)
        Probabilities or any other real numbers, the higher the more likely. Of equal scores that of the first class
        counts as the higher, as in ``argmax``, so that k = 1 gives the accuracy.
    k : int
        At least 1; default 5. If there are no more than k classes, every row counts as right; a row whose label has
        the score NaN is wrong for any k.
    sample_weight : array of shape (n,), optional
        As in `accuracy`.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, shape or range.
    """
    allowed = "an array of real numbers of shape (n, classes)"
    k = check_integer("k", k, low=1)
    scores = as_numeric("scores", scores, allowed)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"scores must be {allowed}, not empty, got shape {scores.shape}")
    rows, classes = scores.shape
    y = _check_classes("y", y, classes)
    if len(y) != rows:
        raise ValueError(f"y must have a label for each of the {rows} rows of scores, got {len(y)}")
    own = scores[np.arange(rows), y][:, np.newaxis]
    higher = ~(scores <= own)  # NaN counts as higher than anything, as in argmax
    earlier = (scores == own) & (np.arange(classes) < y[:, np.newaxis])
    rank = (higher | earlier).sum(axis=1)
    return float(np.average(rank < min(k, classes), weights=_check_weights(sample_weight, rows)))


def precision(y: Any, predicted: Any, average: str = "macro", sample_weight: Any = None) -> float:
    """Return the share of right ones among what was predicted: TP / (TP + FP).

    TP, FP and FN are a class's true positives, false positives and false negatives (Sokolova and Lapalme, A
    systematic analysis of performance measures for classification tasks, 2009). A ratio without denominator is 0.

    Parameters
    ----------
    y, predicted : arrays of shape (n,) or (n, outputs)
        Whole numbers, one label a row; or 0 and 1 for each of several outputs, each of which is then a class. Of
        labels, those count as classes that are in `y` or `predicted`.
    average : {"macro", "micro", "weighted", "binary"}
        "macro" (default): the mean over the classes. "weighted": the mean weighted by the rows of each class in `y`.
        "micro": TP, FP and FN are summed over the classes first. "binary": of the class 1 alone; the labels must be
        0 and 1, of shape (n,) or (n, 1).
    sample_weight : array of shape (n,), optional
        As in `accuracy`.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, shape or range.
    """
    true_positives, predicted_positives, actual_positives = _count(y, predicted, average, sample_weight)
    return _average_ratio(true_positives, predicted_positives, actual_positives, average)


def recall(y: Any, predicted: Any, average: str = "macro", sample_weight: Any = None) -> float:
    """Return the share of what there was that was predicted: TP / (TP + FN).

    Parameters, result and errors are those of `precision`.
    """
    true_positives, _, actual_positives = _count(y, predicted, average, sample_weight)
    return _average_ratio(true_positives, actual_positives, actual_positives, average)


def f1(y: Any, predicted: Any, average: str = "macro", sample_weight: Any = None) -> float:
    """Return the harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN).

    Averages are taken over the classes' F1, not over their precision and recall. Parameters, result and errors are
    those of `precision`.
    """
    true_positives, predicted_positives, actual_positives = _count(y, predicted, average, sample_weight)
    return _average_ratio(2 * true_positives, predicted_positives + actual_positives, actual_positives, average)


def confusion_matrix(y: Any, predicted: Any, classes: int, sample_weight: Any = None) -> Array:
    """Return how many rows of each class were predicted as which.

    Parameters
    ----------
    y, predicted : arrays of shape (n,)
        Labels from 0 to classes - 1; 0 and 1 may be of shape (n, 1).
    classes : int
        Number of classes, from 1 to 2**24, the most that a model can have.
    sample_weight : array of shape (n,), optional
        As in `accuracy`.

    Returns
    -------
    int64 array of shape (classes, classes)
        In row i and column j the number of rows with label i that were predicted as j; with `sample_weight` the sum
        of their weights, float64.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, shape or range.
    """
    classes = check_integer("classes", classes, low=1, high=MAX_UNITS)
    y, predicted = _check_classes("y", y, classes), _check_classes("predicted", predicted, classes)
    _require_same_shape(y, predicted)
    weights = _check_weights(sample_weight, len(y))
    return np.bincount(y * classes + predicted, weights, minlength=classes**2).reshape(classes, classes)


# ---- regression


def mean_absolute_error(y: Any, predicted: Any, sample_weight: Any = None) -> float:
    """Return the mean of abs(predicted - y) over rows and outputs.

    Parameters
    ----------
    y, predicted : arrays of shape (n, outputs), or (n,) for one output
        Real numbers. NaN and infinity are carried into the result.
    sample_weight : array of shape (n,), optional
        As in `accuracy`.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, shape or range.
    """
    y, predicted, weights = _check_values(y, predicted, sample_weight)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.average(np.abs(predicted - y), axis=0, weights=weights).mean())


def root_mean_squared_error(y: Any, predicted: Any, sample_weight: Any = None) -> float:
    """Return sqrt(mean (predicted - y)**2) over the rows, and the mean of that over the outputs.

    With more than one output this differs from the root of the mean over all of them, which is Keras' definition.
    Parameters, result and errors are those of `mean_absolute_error`.
    """
    y, predicted, weights = _check_values(y, predicted, sample_weight)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sqrt(np.average((predicted - y) ** 2, axis=0, weights=weights)).mean())


def r2(y: Any, predicted: Any, sample_weight: Any = None) -> float:
    """Return the coefficient of determination, 1 - sum (y - predicted)**2 / sum (y - mean y)**2.

    It is taken for each output by itself and the results are averaged. An output whose `y` is constant gives 1 if it
    is predicted exactly, else 0. With fewer than two rows the result is NaN. Parameters and errors are those of
    `mean_absolute_error`.
    """
    y, predicted, weights = _check_values(y, predicted, sample_weight)
    if len(y) < 2:
        return float("nan")
    with np.errstate(over="ignore", invalid="ignore"):
        errors = np.average((y - predicted) ** 2, axis=0, weights=weights)
        shifted = y - y[0]  # exactly 0 where y is constant, as y minus its rounded mean need not be
        variances = np.average((shifted - np.average(shifted, axis=0, weights=weights)) ** 2, axis=0, weights=weights)
        # NaN is not 0, so that it goes the way of the division.
        unexplained = np.divide(errors, variances, out=np.where(errors == 0, 0.0, 1.0), where=variances != 0)
        unexplained[np.isnan(errors)] = np.nan
    return float((1 - unexplained).mean())


# ---- by name, for the trainer


@dataclass(frozen=True)
class Metric:
    """A metric with a name.

    Attributes
    ----------
    name : str
    function : callable
        Takes true and predicted labels, labels and scores, or true and predicted values.
    arguments : dict of str to callable
        For each kind of output the metric goes with, "softmax", "sigmoid" or "regression", the function that makes
        the arguments of `function` from targets and a model's outputs.
    """

    name: str
    function: Callable[[Any, Any], Any]
    arguments: Mapping[str, Callable[[Any, Any], tuple[Any, Any]]]


@dataclass(frozen=True)
class ModelMetric:
    """A metric of the outputs of one kind of model: ``metric(targets, outputs)``.

    Attributes
    ----------
    name : str
    function, arguments : callables
        As in `Metric`, `arguments` for the model's kind of output.
    """

    name: str
    function: Callable[[Any, Any], Any]
    arguments: Callable[[Any, Any], tuple[Any, Any]]

    def __call__(self, targets: Any, outputs: Any) -> float:
        """Return the metric.

        Parameters
        ----------
        targets : array of shape (n,) or (n, units)
            What the model should have given, as the loss reads it (see `check_metrics`).
        outputs : array of shape (n, units)
            What it gave.

        Raises
        ------
        TypeError, ValueError
            If a function of the user's returns something else than a number, or an integer too large for a float.
        """
        value = self.function(*self.arguments(targets, outputs))
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(f"metrics must return a number, got {type(value).__name__} from {self.name!r}") from None
        except OverflowError:
            raise ValueError(f"metrics must return a number, got an int too large from {self.name!r}") from None


def _softmax_scores(targets: Any, outputs: Any) -> tuple[Any, Any]:
    """Labels, and a score for each class; targets that are probabilities stand for the most probable class."""
    targets = np.asarray(targets)
    return targets if targets.ndim == 1 else targets.argmax(axis=1), outputs


def _softmax_labels(targets: Any, outputs: Any) -> tuple[Any, Any]:
    labels, scores = _softmax_scores(targets, outputs)
    return labels, np.argmax(scores, axis=1)


def _sigmoid_labels(targets: Any, outputs: Any) -> tuple[Any, Any]:
    """Truth values (n, units): the mean over the classes is then that of class 1 alone if there is one unit."""
    targets, outputs = np.asarray(targets), np.asarray(outputs)
    return (targets[:, np.newaxis] if targets.ndim == 1 else targets) > 0.5, outputs > 0.5


def _unchanged(targets: Any, outputs: Any) -> tuple[Any, Any]:
    return targets, outputs


_LABELS = {"softmax": _softmax_labels, "sigmoid": _sigmoid_labels}
_VALUES = {"regression": _unchanged}

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", accuracy, _LABELS),
        Metric("precision", precision, _LABELS),
        Metric("recall", recall, _LABELS),
        Metric("f1", f1, _LABELS),
        Metric("mae", mean_absolute_error, _VALUES),
        Metric("rmse", root_mean_squared_error, _VALUES),
        Metric("r2", r2, _VALUES),
    )
}


def check_metrics(metrics: Iterable[Any] | None, output: str) -> list[ModelMetric]:
    """Check the `metrics` argument of `Trainer`.

    Parameters
    ----------
    metrics : iterable of str and functions, or None
        Names: with softmax output "accuracy", "precision", "recall", "f1" (macro averages) and "top_1", "top_2", ...;
        with sigmoid output "accuracy", "precision", "recall" and "f1", of the class 1 if there is one unit, else macro
        averages over the units; with any other output "mae", "rmse" and "r2". Functions ``f(y, outputs)`` return a
        number and are named by their ``__name__``. They are called with the model's outputs (n, units) and with the
        targets as the loss reads them: labels as int64 (n,); all else as floats (n, units), float32 or float64 as they
        were given, or else of the model's dtype. That is so for a single unit, too, whose targets may be given as (n,):
        ``y - outputs`` is right, and ``y - outputs[:, 0]`` would be (n, n). None stands for no metrics.
    output : str
        Activation of the model's output.

    Returns
    -------
    list of ModelMetric
        In their order.

    Raises
    ------
    TypeError
        If `metrics` is no iterable of names and functions.
    ValueError
        If a name is unknown, does not go with the output, is used twice, or is that of another value in the history.
    """
    output = check_choice("output", output, ACTIVATIONS)
    allowed = "an iterable of names and functions f(y, outputs)"
    if metrics is None:
        return []
    if isinstance(metrics, (str, Mapping)) or not isinstance(metrics, Iterable):
        hint = "; put a single metric in a list" if isinstance(metrics, str) or callable(metrics) else ""
        raise TypeError(f"metrics must be {allowed}, got {metrics!r}{hint}")
    checked: list[ModelMetric] = []
    for entry in metrics:
        if isinstance(entry, str):
            metric = _named_metric(entry, output)
        elif callable(entry) and not isinstance(entry, type) and hasattr(entry, "__name__"):
            metric = ModelMetric(entry.__name__, entry, _unchanged)
        else:
            raise TypeError(f"metrics must be {allowed} with a __name__, got {entry!r}")
        if metric.name in RESERVED or metric.name.startswith("val_"):
            raise ValueError(f"metrics must not be named {', '.join(RESERVED)} or val_..., which the history has for "
                             f"other values, got {metric.name!r}")
        if any(metric.name == other.name for other in checked):
            raise ValueError(f"metrics must have names of their own, got {metric.name!r} twice")
        checked.append(metric)
    return checked


def _named_metric(name: str, output: str) -> ModelMetric:
    kind = output if output in ("softmax", "sigmoid") else "regression"
    top = re.fullmatch(r"top_([1-9][0-9]*)", name)
    metric = METRICS.get(name)
    if top:
        metric = Metric(name, partial(top_k_accuracy, k=int(top[1])), {"softmax": _softmax_scores})
    if metric is None or kind not in metric.arguments:
        names = [repr(known.name) for known in METRICS.values() if kind in known.arguments]
        if kind == "softmax":
            names.append("'top_<k>'")
        raise ValueError(f"metrics of a model with output={output!r} must be {', '.join(names)} or functions "
                         f"f(y, outputs), got {name!r}")
    return ModelMetric(name, metric.function, metric.arguments[kind])


# ---- checks and counts


def _check_labels(name: str, values: Any) -> Array:
    """Return labels (n,) as int64, or truth values (n, outputs) as bool."""
    allowed = "whole numbers of shape (n,), or 0 and 1 of shape (n, outputs)"
    array = as_numeric(name, values, allowed)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"{name} must be {allowed}, not empty, got shape {array.shape}")
    if array.ndim == 2:
        valid = (array == 0) | (array == 1)
    elif array.dtype.kind == "f":
        valid = (np.floor(array) == array) & (np.abs(array.astype(np.float64)) <= LARGEST_WHOLE)
    else:
        valid = np.True_
    if not valid.all():
        raise ValueError(f"{name} must be {allowed}, got {array[~valid][0]}")
    return array.astype(np.int64 if array.ndim == 1 else np.bool_)


def _check_label_pair(y: Any, predicted: Any) -> tuple[Array, Array]:
    y, predicted = _check_labels("y", y), _check_labels("predicted", predicted)
    if y.ndim != predicted.ndim:
        y, predicted = _as_labels(y), _as_labels(predicted)
    _require_same_shape(y, predicted)
    return y, predicted


def _as_labels(values: Array) -> Array:
    """Return truth values of one output, (n, 1), as labels (n,); all else as it is."""
    return values[:, 0].astype(np.int64) if values.ndim == 2 and values.shape[1] == 1 else values


def _check_classes(name: str, values: Any, classes: int) -> Array:
    """Return labels (n,) from 0 to classes - 1 as int64."""
    labels = _as_labels(_check_labels(name, values))
    allowed = f"labels from 0 to {classes - 1} of shape (n,)"
    if labels.ndim != 1:
        raise ValueError(f"{name} must be {allowed}, got shape {labels.shape}")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise ValueError(f"{name} must be {allowed}, got {wrong[0]}")
    return labels


def _check_values(y: Any, predicted: Any, sample_weight: Any) -> tuple[Array, Array, Array | None]:
    """Return true and predicted values as float64 (n, outputs), and the weights."""
    arrays = []
    for name, values in (("y", y), ("predicted", predicted)):
        allowed = "real numbers of shape (n, outputs), or (n,) for one output"
        array = as_numeric(name, values, allowed)
        if array.ndim not in (1, 2) or array.size == 0:
            raise ValueError(f"{name} must be {allowed}, not empty, got shape {array.shape}")
        arrays.append(array.astype(np.float64).reshape(len(array), -1))
    _require_same_shape(*arrays)
    return arrays[0], arrays[1], _check_weights(sample_weight, len(arrays[0]))


def _require_same_shape(y: Array, predicted: Array) -> None:
    if y.shape != predicted.shape:
        raise ValueError(f"predicted must have the shape of y, {y.shape}, got {predicted.shape}")


def _check_weights(sample_weight: Any, rows: int) -> Array | None:
    if sample_weight is None:
        return None
    weights = check_weights("sample_weight", sample_weight, rows)
    if not weights.any():
        raise ValueError("sample_weight must be numbers that are not all 0, got only 0")
    return weights


def _count(y: Any, predicted: Any, average: str, sample_weight: Any) -> tuple[Array, Array, Array]:
    """Return true positives, TP + FP and TP + FN of each class, as sums of the rows' weights: float64 (classes,)."""
    check_choice("average", average, AVERAGES)
    y, predicted = _check_label_pair(y, predicted)
    weights = _check_weights(sample_weight, len(y))
    if average == "binary":
        y, predicted = _check_binary("y", y), _check_binary("predicted", predicted)
    if weights is None:
        weights = np.ones(len(y))
    if y.ndim == 2:
        return weights @ (y & predicted), weights @ predicted, weights @ y
    labels, classes = np.unique(np.concatenate((y, predicted)), return_inverse=True)
    y, predicted = np.split(classes, 2)
    right = y == predicted
    return (
        np.bincount(y[right], weights[right], len(labels)),
        np.bincount(predicted, weights, len(labels)),
        np.bincount(y, weights, len(labels)),
    )


def _check_binary(name: str, labels: Array) -> Array:
    """Return labels 0 and 1 as one output (n, 1)."""
    allowed = "0 and 1 of shape (n,) or (n, 1) with average='binary'"
    if labels.ndim == 2 and labels.shape[1] != 1:
        raise ValueError(f"{name} must be {allowed}, got shape {labels.shape}")
    wrong = labels[(labels != 0) & (labels != 1)]
    if len(wrong):
        raise ValueError(f"{name} must be {allowed}, got {wrong[0]}")
    return labels.reshape(-1, 1).astype(np.bool_)


def _average_ratio(part: Array, whole: Array, actual_positives: Array, average: str) -> float:
    """Average part / whole over the classes; 0 stands for a ratio whose whole is 0."""
    if average == "micro":
        part, whole = part.sum(keepdims=True), whole.sum(keepdims=True)
    ratios = np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
    if average == "weighted":
        support = float(actual_positives.sum())
        return float(ratios @ actual_positives) / support if support else 0.0
    return float(ratios.mean())
