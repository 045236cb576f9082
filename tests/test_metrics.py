"""Metrics: against scikit-learn's, and by name as the trainer calls them."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sklearn_metrics

from fastmlp import MLP, Trainer, metrics
from fastmlp.metrics import METRICS, check_metrics

Array = np.ndarray[Any, Any]

EXAMPLES = settings(deadline=None, max_examples=40)

RATIOS: dict[str, tuple[Callable[..., float], Callable[..., float]]] = {
    "precision": (metrics.precision, sklearn_metrics.precision_score),
    "recall": (metrics.recall, sklearn_metrics.recall_score),
    "f1": (metrics.f1, sklearn_metrics.f1_score),
}
REGRESSION: dict[str, tuple[Callable[..., float], Callable[..., float]]] = {
    "mae": (metrics.mean_absolute_error, sklearn_metrics.mean_absolute_error),
    "rmse": (metrics.root_mean_squared_error, sklearn_metrics.root_mean_squared_error),
    "r2": (metrics.r2, sklearn_metrics.r2_score),
}
ALL: list[Callable[..., Any]] = [
    metrics.accuracy,
    *(ours for ours, _ in (RATIOS | REGRESSION).values()),
    partial(metrics.confusion_matrix, classes=4),
]


@st.composite
def weights_or_none(draw: st.DrawFn, rows: int) -> Array | None:
    weights: Array = draw(hnp.arrays(np.float64, rows, elements=st.sampled_from([0.0, 0.25, 1.0, 3.0])))
    return weights if weights.any() else None


@st.composite
def labels(draw: st.DrawFn, low: int = -1, high: int = 4, min_rows: int = 1) -> tuple[Array, Array, Array | None]:
    """True and predicted labels, and weights or None."""
    rows = draw(st.integers(min_rows, 12))
    arrays = hnp.arrays(np.int64, rows, elements=st.integers(low, high))
    return draw(arrays), draw(arrays), draw(weights_or_none(rows))


@st.composite
def truth_values(draw: st.DrawFn) -> tuple[Array, Array, Array | None]:
    """True and predicted values of two to four outputs, and weights or None."""
    rows, outputs = draw(st.integers(1, 8)), draw(st.integers(2, 4))
    arrays = hnp.arrays(np.int64, (rows, outputs), elements=st.integers(0, 1))
    return draw(arrays), draw(arrays), draw(weights_or_none(rows))


@st.composite
def values(draw: st.DrawFn) -> tuple[Array, Array, Array | None]:
    """True and predicted values of one to three outputs, and weights or None.

    Quarters, so that the mean of a constant output is exact; and each weight above 0, so that it is constant with them.
    """
    rows, outputs = draw(st.integers(2, 8)), draw(st.integers(1, 3))
    arrays = hnp.arrays(np.float64, (rows, outputs), elements=st.integers(-40, 40).map(lambda number: number / 4))
    weights = hnp.arrays(np.float64, rows, elements=st.sampled_from([0.25, 1.0, 4.0]))
    return draw(arrays), draw(arrays), draw(st.none() | weights)


# ---- classification


@EXAMPLES
@given(data=labels())
def test_accuracy(data: tuple[Array, Array, Array | None]) -> None:
    y, predicted, weights = data
    expected = sklearn_metrics.accuracy_score(y, predicted, sample_weight=weights)
    assert metrics.accuracy(y, predicted, weights) == pytest.approx(expected)


@EXAMPLES
@given(data=truth_values())
def test_accuracy_of_several_outputs_is_the_share_of_right_entries(data: tuple[Array, Array, Array | None]) -> None:
    y, predicted, weights = data
    repeated = None if weights is None else np.repeat(weights, y.shape[1])
    expected = sklearn_metrics.accuracy_score(y.ravel(), predicted.ravel(), sample_weight=repeated)
    assert metrics.accuracy(y, predicted, weights) == pytest.approx(expected)


@pytest.mark.parametrize("name", RATIOS)
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@EXAMPLES
@given(data=labels() | truth_values())
def test_precision_recall_and_f1(name: str, average: str, data: tuple[Array, Array, Array | None]) -> None:
    y, predicted, weights = data
    ours, theirs = RATIOS[name]
    expected = theirs(y, predicted, average=average, sample_weight=weights, zero_division=0)
    assert ours(y, predicted, average, weights) == pytest.approx(expected)


@pytest.mark.parametrize("name", RATIOS)
@EXAMPLES
@given(data=labels(low=0, high=1))
def test_precision_recall_and_f1_of_the_positive_class(name: str, data: tuple[Array, Array, Array | None]) -> None:
    y, predicted, weights = data
    ours, theirs = RATIOS[name]
    # Two rows more, which do not count, give scikit-learn both labels: it refuses data with 0 or 1 alone.
    both, counts = np.array([0, 1]), np.append(np.ones(len(y)) if weights is None else weights, [0.0, 0.0])
    expected = theirs(np.append(y, both), np.append(predicted, both), average="binary", sample_weight=counts,
                      zero_division=0)
    assert ours(y, predicted, "binary", weights) == pytest.approx(expected)
    assert ours(y[:, np.newaxis], predicted[:, np.newaxis], "binary", weights) == pytest.approx(expected)


def test_ratios_by_hand() -> None:
    y, predicted = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 0]
    assert metrics.precision(y, predicted) == pytest.approx((2 / 4 + 1 / 2 + 0) / 3)
    assert metrics.recall(y, predicted) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert metrics.f1(y, predicted) == pytest.approx((4 / 7 + 2 / 4 + 0) / 3)
    assert metrics.f1(y, predicted, "micro") == metrics.accuracy(y, predicted) == 0.5


@EXAMPLES
@given(data=labels(low=0, high=3))
def test_confusion_matrix(data: tuple[Array, Array, Array | None]) -> None:
    y, predicted, weights = data
    counts = metrics.confusion_matrix(y, predicted, 4)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, sklearn_metrics.confusion_matrix(y, predicted, labels=range(4)))
    if weights is not None:
        sums = metrics.confusion_matrix(y, predicted, 4, weights)
        assert sums.dtype == np.float64
        np.testing.assert_allclose(
            sums, sklearn_metrics.confusion_matrix(y, predicted, labels=range(4), sample_weight=weights)
        )


@pytest.mark.parametrize("k", [1, 2, 3])
@EXAMPLES
@given(data=labels(low=0, high=3), seed=st.integers(0, 1000))
def test_top_k_accuracy(k: int, data: tuple[Array, Array, Array | None], seed: int) -> None:
    y, _, weights = data
    scores = np.random.default_rng(seed).random((len(y), 4))
    expected = sklearn_metrics.top_k_accuracy_score(y, scores, k=k, labels=range(4), sample_weight=weights)
    assert metrics.top_k_accuracy(y, scores, k, weights) == pytest.approx(expected)


@EXAMPLES
@given(scores=hnp.arrays(np.float32, (5, 3), elements=st.sampled_from([0.0, 0.5, 1.0, math.nan])))
def test_the_first_of_equal_scores_is_the_highest_as_in_argmax(scores: Array) -> None:
    y = np.array([0, 1, 2, 0, 1])
    right = (scores.argmax(axis=1) == y) & ~np.isnan(scores).any(axis=1)
    assert metrics.top_k_accuracy(y, scores, 1) == right.mean()


def test_with_k_classes_or_fewer_all_rows_are_right_but_those_of_nan() -> None:
    scores = np.array([[0.5, 0.25], [0.75, 0.0], [0.0, math.nan], [math.nan, 0.0]])
    assert metrics.top_k_accuracy([1, 1, 0, 0], scores, 2) == 0.75
    assert metrics.top_k_accuracy([1, 1, 0, 0], scores) == 0.75
    assert metrics.top_k_accuracy([0], np.ones((1, 1))) == 1


# ---- regression


@pytest.mark.parametrize("name", REGRESSION)
@EXAMPLES
@given(data=values())
def test_regression(name: str, data: tuple[Array, Array, Array | None]) -> None:
    y, predicted, weights = data
    ours, theirs = REGRESSION[name]
    assert ours(y, predicted, weights) == pytest.approx(theirs(y, predicted, sample_weight=weights))


@pytest.mark.parametrize("name", REGRESSION)
def test_one_output_may_be_a_column_or_not(name: str) -> None:
    ours, theirs = REGRESSION[name]
    y, predicted = np.array([1, 2, 4], np.uint8), np.array([[1.5], [2.0], [0.0]], np.float32)
    assert ours(y, predicted) == ours(y[:, np.newaxis], predicted[:, 0]) == pytest.approx(theirs(y, predicted))


def test_root_mean_squared_error_is_a_mean_of_roots() -> None:
    assert metrics.root_mean_squared_error([[0.0, 0.0], [0.0, 0.0]], [[1.0, 3.0], [1.0, 3.0]]) == 2.0


@pytest.mark.parametrize("constant", [0.1, 1e8 + 0.1, -3.3])
@pytest.mark.parametrize("weights", [None, [0.1, 0.2, 0.3, 0.3, 0.1, 0.7]])
def test_r2_of_constant_values_is_1_if_they_are_met_and_else_0(constant: float, weights: Any) -> None:
    y = np.full(6, constant)
    assert metrics.r2(y, y, weights) == 1
    assert metrics.r2(y, y + 1, weights) == 0
    assert metrics.r2(np.column_stack((y, np.arange(6.0))), np.column_stack((y + 1, np.arange(6.0))), weights) == 0.5


def test_r2_of_one_row_is_nan() -> None:
    assert math.isnan(metrics.r2([1.0], [1.0]))


@pytest.mark.parametrize("name", REGRESSION)
@pytest.mark.parametrize("y", [[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]], ids=["constant", "not constant"])
def test_nan_is_carried_on(name: str, y: list[float]) -> None:
    assert math.isnan(REGRESSION[name][0](y, [1.0, math.nan, 3.0]))
    assert not math.isfinite(REGRESSION[name][0]([1.0, 2.0, 3.0], [1.0, math.inf, 3.0]))


# ---- arguments


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int32, np.float32, np.float64])
def test_labels_of_any_dtype(dtype: Any) -> None:
    y, predicted = np.array([0, 1, 1, 0]), np.array([1, 1, 1, 0], dtype)
    assert metrics.accuracy(y, predicted) == 0.75
    assert metrics.f1(y.astype(dtype), predicted, "binary") == pytest.approx(0.8)
    assert metrics.confusion_matrix(y, predicted, 2).tolist() == [[1, 1], [0, 2]]


def test_predictions_of_one_output_go_with_labels_of_one_axis() -> None:
    y, predicted = np.array([0, 1, 1, 0]), np.array([1, 1, 1, 0])
    column = predicted[:, np.newaxis]
    for pair in ((y, column), (y[:, np.newaxis], predicted)):
        assert metrics.accuracy(*pair) == 0.75
        assert metrics.f1(*pair) == metrics.f1(y, predicted)
        assert metrics.f1(*pair, "binary") == pytest.approx(0.8)
        assert metrics.confusion_matrix(*pair, 2).tolist() == [[1, 1], [0, 2]]


BAD_LABELS = [
    ({"y": ["cat", "dog"]}, TypeError, "y must .* got dtype"),
    ({"y": [0.5, 1.0]}, ValueError, "y must .* got 0.5"),
    ({"y": [math.nan, 1.0]}, ValueError, "y must .* got nan"),
    ({"predicted": [math.inf, 1.0]}, ValueError, "predicted must .* got inf"),
    ({"predicted": [1e300, 1.0]}, ValueError, r"predicted must .* got 1e\+300"),
    ({"y": []}, ValueError, r"y must .* got shape \(0,\)"),
    ({"y": 1}, ValueError, r"y must .* got shape \(\)"),
    ({"y": np.zeros((2, 1, 1))}, ValueError, r"y must .* got shape \(2, 1, 1\)"),
    ({"y": [[0, 2], [1, 0]]}, ValueError, "y must .* got 2"),
    ({"predicted": [0, 1, 1]}, ValueError, r"predicted must have the shape of y, \(2,\), got \(3,\)"),
    ({"predicted": [[0], [1], [1]]}, ValueError, r"predicted must have the shape of y, \(2,\), got \(3,\)"),
    ({"predicted": [[0, 0], [1, 1]]}, ValueError, r"predicted must have the shape of y, \(2,\), got \(2, 2\)"),
    ({"sample_weight": [1.0]}, ValueError, r"sample_weight must .* shape \(2,\), .* got shape \(1,\)"),
    ({"sample_weight": [1.0, -1.0]}, ValueError, "sample_weight must .* got -1"),
    ({"sample_weight": [1.0, math.nan]}, ValueError, "sample_weight must .* got nan"),
    ({"sample_weight": [0, 0]}, ValueError, "sample_weight must .* got only 0"),
    ({"sample_weight": "1"}, TypeError, "sample_weight must .* got str"),
]


@pytest.mark.parametrize("function", [metrics.accuracy, metrics.precision, metrics.recall, metrics.f1])
@pytest.mark.parametrize(("arguments", "error", "message"), BAD_LABELS)
def test_labels_are_checked(function: Callable[..., float], arguments: dict[str, Any], error: type[Exception],
                            message: str) -> None:
    with pytest.raises(error, match=message):
        function(**({"y": [0, 1], "predicted": [0, 1]} | arguments))


@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        (metrics.f1, {"average": "samples"}, ValueError, "average must be one of .* got 'samples'"),
        (metrics.f1, {"average": None}, TypeError, "average must be one of .* got None"),
        (metrics.f1, {"average": "binary", "y": [0, 2]}, ValueError, "y must be 0 and 1 .* got 2"),
        (metrics.f1, {"average": "binary", "predicted": [-1, 1]}, ValueError, "predicted must be 0 and 1 .* got -1"),
        (metrics.f1, {"average": "binary", "y": [[0, 1]], "predicted": [[0, 1]]}, ValueError,
         r"y must be 0 and 1 .* got shape \(1, 2\)"),
        (metrics.confusion_matrix, {"classes": 0}, ValueError, "classes must .* got 0"),
        (metrics.confusion_matrix, {"classes": 10**10}, ValueError, "classes must .* got 10000000000"),
        (metrics.confusion_matrix, {"classes": 2.0}, TypeError, "classes must .* got 2.0"),
        (metrics.confusion_matrix, {"classes": 2, "y": [0, 2]}, ValueError, "y must .* 0 to 1 .* got 2"),
        (metrics.confusion_matrix, {"classes": 2, "predicted": [0, -1]}, ValueError, "predicted must .* got -1"),
        (metrics.confusion_matrix, {"classes": 2, "y": [[0, 1]]}, ValueError, r"y must .* got shape \(1, 2\)"),
        (metrics.confusion_matrix, {"classes": 2, "y": [0]}, ValueError, "predicted must have the shape of y"),
    ],
)
def test_other_arguments_of_classification_are_checked(
    function: Callable[..., Any], arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        function(**({"y": [0, 1], "predicted": [0, 1]} | arguments))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, ValueError, "k must .* got 0"),
        ({"k": 1.5}, TypeError, "k must .* got 1.5"),
        ({"scores": [0.5, 0.5]}, ValueError, r"scores must .* got shape \(2,\)"),
        ({"scores": np.zeros((2, 0))}, ValueError, r"scores must .* got shape \(2, 0\)"),
        ({"scores": [["a"], ["b"]]}, TypeError, "scores must .* got dtype"),
        ({"y": [0, 2]}, ValueError, "y must be labels from 0 to 1 .* got 2"),
        ({"y": [0]}, ValueError, "y must have a label for each of the 2 rows of scores, got 1"),
        ({"sample_weight": [1.0]}, ValueError, "sample_weight must"),
    ],
)
def test_arguments_of_top_k_accuracy_are_checked(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        metrics.top_k_accuracy(**({"y": [0, 1], "scores": [[0.5, 0.5], [0.0, 1.0]]} | arguments))


@pytest.mark.parametrize("name", REGRESSION)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"y": ["a", "b"]}, TypeError, "y must .* got dtype"),
        ({"y": [1j, 2]}, TypeError, "y must .* got dtype complex"),
        ({"predicted": []}, ValueError, r"predicted must .* got shape \(0,\)"),
        ({"predicted": [[[1.0]]]}, ValueError, r"predicted must .* got shape \(1, 1, 1\)"),
        ({"predicted": [1.0]}, ValueError, r"predicted must have the shape of y, \(2, 1\), got \(1, 1\)"),
        ({"predicted": [[1.0, 2.0]]}, ValueError, r"predicted must have the shape of y, \(2, 1\), got \(1, 2\)"),
        ({"sample_weight": [-1.0, 1.0]}, ValueError, "sample_weight must .* got -1"),
    ],
)
def test_values_are_checked(name: str, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        REGRESSION[name][0](**({"y": [0.0, 1.0], "predicted": [0.0, 1.0]} | arguments))


@pytest.mark.parametrize("function", ALL)
def test_arguments_are_not_changed(function: Callable[..., Any]) -> None:
    arrays = [np.array([0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0]), np.array([1.0, 2.0, 3.0])]
    for array in arrays:
        array.flags.writeable = False
    function(arrays[0], arrays[1], sample_weight=arrays[2])


# ---- by name

CLASSES = 5
RNG = np.random.default_rng(0)
Y = RNG.integers(0, CLASSES, 40)
OUTPUTS = RNG.dirichlet(np.ones(CLASSES), 40).astype(np.float32)
SEVERAL = (RNG.random((40, CLASSES)) > 0.5).astype(np.float32)


def named(name: str, output: str) -> Callable[[Any, Any], float]:
    (metric,) = check_metrics([name], output)
    assert metric.name == name
    return metric


def macro(score: Callable[..., float]) -> Callable[..., float]:
    return partial(score, average="macro", zero_division=0)


SCORES: dict[str, Callable[..., float]] = {
    "accuracy": sklearn_metrics.accuracy_score,
    "precision": macro(sklearn_metrics.precision_score),
    "recall": macro(sklearn_metrics.recall_score),
    "f1": macro(sklearn_metrics.f1_score),
}


@pytest.mark.parametrize("name", SCORES)
def test_with_softmax_the_most_probable_class_is_the_label(name: str) -> None:
    metric, expected = named(name, "softmax"), SCORES[name](Y, OUTPUTS.argmax(axis=1))
    assert 0 < expected < 1
    value = metric(Y, OUTPUTS)
    assert type(value) is float
    assert value == pytest.approx(expected)
    assert metric(np.eye(CLASSES)[Y], OUTPUTS) == pytest.approx(expected)
    assert metric(0.8 * np.eye(CLASSES)[Y] + 0.2 / CLASSES, OUTPUTS) == pytest.approx(expected)


@pytest.mark.parametrize("k", [1, 2, 4, 5, 12])
def test_top_k_by_name(k: int) -> None:
    metric = named(f"top_{k}", "softmax")
    best = np.argsort(-OUTPUTS, axis=1)[:, :k]
    expected = np.mean([y in row for y, row in zip(Y, best, strict=True)])
    assert metric(Y, OUTPUTS) == pytest.approx(expected)
    assert metric(np.eye(CLASSES)[Y], OUTPUTS) == pytest.approx(expected)


@pytest.mark.parametrize("name", SCORES)
def test_with_sigmoid_an_output_above_one_half_is_a_1(name: str) -> None:
    outputs = np.where(OUTPUTS > 0.2, 0.75, 0.5)  # one half is a 0, as in predict
    predicted = OUTPUTS > 0.2
    expected = np.mean(predicted == SEVERAL) if name == "accuracy" else SCORES[name](SEVERAL, predicted)
    assert 0 < expected < 1
    assert named(name, "sigmoid")(SEVERAL, outputs) == pytest.approx(expected)


@pytest.mark.parametrize("name", SCORES)
def test_with_one_sigmoid_the_class_1_is_the_positive_one(name: str) -> None:
    y, outputs = SEVERAL[:, 0], OUTPUTS[:, :1] * 3
    options = {} if name == "accuracy" else {"average": "binary"}
    expected = SCORES[name](y, outputs[:, 0] > 0.5, **options)
    assert 0 < expected < 1
    for targets in (y, y[:, np.newaxis], y.astype(np.int64), 0.8 * y + 0.1):
        assert named(name, "sigmoid")(targets, outputs) == pytest.approx(expected)


@pytest.mark.parametrize("name", REGRESSION)
@pytest.mark.parametrize("output", ["identity", "tanh", "relu"])
def test_with_any_other_output_values_are_compared(name: str, output: str) -> None:
    metric, theirs = named(name, output), REGRESSION[name][1]
    assert metric(SEVERAL, OUTPUTS) == pytest.approx(theirs(SEVERAL, OUTPUTS))
    assert metric(SEVERAL[:, 0], OUTPUTS[:, :1]) == pytest.approx(theirs(SEVERAL[:, 0], OUTPUTS[:, 0]))


def hamming(y: Any, outputs: Any) -> Any:
    return np.float32(((outputs > 0.5) != y).mean())


def first(y: Any, outputs: Any) -> Any:
    return y, outputs


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "identity"])
def test_a_function_gets_targets_and_outputs_as_they_are(output: str) -> None:
    seen = []

    def watch(y: Any, outputs: Any) -> int:
        seen.append((y, outputs))
        return 3

    (metric,) = check_metrics([watch], output)
    assert metric.name == "watch"
    value = metric(Y, OUTPUTS)
    assert value == 3
    assert type(value) is float
    assert seen[0][0] is Y
    assert seen[0][1] is OUTPUTS


def test_functions_of_this_module_are_metrics_too() -> None:
    (metric,) = check_metrics([metrics.mean_absolute_error], "sigmoid")
    assert metric.name == "mean_absolute_error"
    assert metric(SEVERAL, OUTPUTS) == pytest.approx(np.abs(SEVERAL - OUTPUTS).mean())


def test_a_function_that_returns_no_number_is_named() -> None:
    (metric,) = check_metrics([first], "identity")
    with pytest.raises(TypeError, match=r"metrics must return a number, got tuple from 'first'"):
        metric(Y, OUTPUTS)


def test_a_function_that_returns_what_no_float_holds_is_named() -> None:
    def huge(y: Any, outputs: Any) -> int:
        return 10**400

    (metric,) = check_metrics([huge], "identity")
    with pytest.raises(ValueError, match=r"metrics must return a number, got an int too large from 'huge'"):
        metric(Y, OUTPUTS)


@pytest.mark.parametrize(("loss", "units", "y", "dtype", "shape"), [
    ("cross_entropy", 3, np.arange(6.0) % 3, "int64", (6,)),
    ("cross_entropy", 2, np.full((6, 2), 0.5), "float64", (6, 2)),
    ("binary_cross_entropy", 1, np.arange(6) % 2, "float32", (6, 1)),
    ("huber", 1, np.arange(6.0), "float64", (6, 1)),
    ("huber", 1, np.arange(6, dtype="float32"), "float32", (6, 1)),
])
def test_what_a_function_gets_in_training(loss: str, units: int, y: Any, dtype: str, shape: tuple[int, ...]) -> None:
    seen = []

    def watch(y: Any, outputs: Any) -> float:
        seen.append((y, outputs))
        return 0.0

    model = MLP([2, units], output="identity" if loss == "huber" else None)
    Trainer(model, loss, metrics=[watch]).fit(np.ones((6, 2)), y, epochs=1, progress=False)
    targets, outputs = seen[0]
    assert (targets.dtype, targets.shape) == (dtype, shape)
    assert (outputs.dtype, outputs.shape) == ("float32", (6, units))
    np.testing.assert_array_equal(targets.ravel(), y.ravel())


def test_metrics_keep_their_order_and_can_be_pickled() -> None:
    names = ["f1", hamming, "top_3", "accuracy"]
    checked = check_metrics(iter(names), "softmax")
    assert [metric.name for metric in checked] == ["f1", "hamming", "top_3", "accuracy"]
    copies = pickle.loads(pickle.dumps(checked))
    for metric, copy in zip(checked, copies, strict=True):
        if metric.name != "hamming":
            assert copy(Y, OUTPUTS) == metric(Y, OUTPUTS)
    assert check_metrics(None, "softmax") == check_metrics([], "softmax") == []


def test_every_name_goes_with_some_output() -> None:
    outputs = {"accuracy": {"softmax", "sigmoid"}, "precision": {"softmax", "sigmoid"},
               "recall": {"softmax", "sigmoid"}, "f1": {"softmax", "sigmoid"}, "mae": {"regression"},
               "rmse": {"regression"}, "r2": {"regression"}}
    assert {name: set(metric.arguments) for name, metric in METRICS.items()} == outputs
    assert all(metric.name == name for name, metric in METRICS.items())


@pytest.mark.parametrize(
    ("name", "output", "allowed"),
    [
        ("mae", "softmax", "'accuracy', 'precision', 'recall', 'f1', 'top_<k>' or functions"),
        ("r2", "sigmoid", "'accuracy', 'precision', 'recall', 'f1' or functions"),
        ("top_5", "sigmoid", "'accuracy', 'precision', 'recall', 'f1' or functions"),
        ("accuracy", "identity", "'mae', 'rmse', 'r2' or functions"),
        ("top_5", "identity", "'mae', 'rmse', 'r2' or functions"),
        ("f1", "relu", "'mae', 'rmse', 'r2' or functions"),
        *((name, "softmax", "'top_<k>' or functions")
          for name in ("auc", "top_0", "top_05", "top_k", "top_-1", "top_5 ", "top_1.5", "top_", "", "top_٣")),
    ],
)
def test_a_name_that_does_not_go_with_the_output_says_which_do(name: str, output: str, allowed: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_metrics([name], output)
    message = str(caught.value)
    assert message.startswith(f"metrics of a model with output={output!r} must be ")
    assert allowed in message
    assert message.endswith(f"got {name!r}")


def named_loss(y: Any, outputs: Any) -> float:
    return 0.0


named_loss.__name__ = "loss"
named_epoch, named_val = (lambda y, outputs: 0.0), (lambda y, outputs: 0.0)
named_epoch.__name__, named_val.__name__ = "epoch", "val_loss"


class NoName:
    def __call__(self, y: Any, outputs: Any) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("entries", "error", "message"),
    [
        ("accuracy", TypeError, "metrics must be an iterable .* got 'accuracy'; put a single metric in a list"),
        (hamming, TypeError, "metrics must be an iterable .*; put a single metric in a list"),
        (3, TypeError, "metrics must be an iterable .* got 3$"),
        ({"f1": hamming}, TypeError, "metrics must be an iterable"),
        ([3], TypeError, "metrics must be .* got 3"),
        ([None], TypeError, "metrics must be .* got None"),
        ([NoName()], TypeError, "metrics must be .* __name__, got"),
        ([NoName], TypeError, "metrics must be .* got"),
        ([partial(hamming)], TypeError, "metrics must be .* __name__, got"),
        (["f1", "accuracy", "f1"], ValueError, "metrics must .* got 'f1' twice"),
        ([hamming, hamming], ValueError, "metrics must .* got 'hamming' twice"),
        (["f1", metrics.f1], ValueError, "metrics must .* got 'f1' twice"),
        (["top_2", "top_2"], ValueError, "metrics must .* got 'top_2' twice"),
        ([named_loss], ValueError, "metrics must not be named .* got 'loss'"),
        ([named_epoch], ValueError, "metrics must not be named .* got 'epoch'"),
        ([named_val], ValueError, "metrics must not be named .* got 'val_loss'"),
        (["loss"], ValueError, "metrics .* got 'loss'"),
    ],
)
def test_what_is_no_metric_is_refused(entries: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_metrics(entries, "softmax")


def test_the_output_is_checked() -> None:
    with pytest.raises(ValueError, match=r"output must be one of .* got 'linear'"):
        check_metrics(["mae"], "linear")
