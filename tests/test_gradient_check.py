"""The gradient check: right gradients pass, wrong ones are found and named, kinks are left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, Dense, Maxout
from fastmlp.activations import ACTIVATIONS
from fastmlp.gradient_check import GradientReport, gradient_check
from fastmlp.losses import LOSSES

Array = np.ndarray[Any, Any]


def make_data(model: MLP, loss: str, rows: int = 12, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, model.inputs))
    if loss == "cross_entropy":
        return X, rng.integers(0, model.outputs, rows)
    if loss == "hinge":
        return X, rng.choice([-1.0, 1.0], (rows, model.outputs))
    return X, rng.random((rows, model.outputs))


def falsify(monkeypatch: pytest.MonkeyPatch, number: int, change: Callable[[Array], Any]) -> None:
    """Make `loss_and_gradients` of every model apply `change` to one of its gradients, in place."""
    right = MLP.loss_and_gradients

    def wrong(self: MLP, *arguments: Any, **options: Any) -> tuple[float, list[Array]]:
        value, gradients = right(self, *arguments, **options)
        change(gradients[number])
        return value, gradients

    monkeypatch.setattr(MLP, "loss_and_gradients", wrong)


def scale(factor: float) -> Callable[[Array], Any]:
    return lambda gradient: np.multiply(gradient, factor, out=gradient)


def failed_names(report: GradientReport) -> list[tuple[int, str]]:
    return [(array.layer, array.name) for array in report.failed]


# ---- right gradients


# Without step and sign, which have no gradient, exponential, whose gradient grows too large, and prelu, which has a
# third array.
SMOOTH = [name for name in ACTIVATIONS if name not in ("step", "sign", "exponential", "prelu")]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", SMOOTH)
def test_right_gradients_pass(activation: str, loss: str) -> None:
    model = MLP([4, 6, 5, 3], activation, output=LOSSES[loss].output or "identity", seed=1)
    report = gradient_check(model, *make_data(model, loss), loss, samples=None)
    assert report.passed, str(report)
    assert [(array.layer, array.name, array.shape) for array in report.arrays] == [
        (0, "weights", (4, 6)), (0, "bias", (6,)), (1, "weights", (6, 5)), (1, "bias", (5,)),
        (2, "weights", (5, 3)), (2, "bias", (3,))]
    assert [array.checked for array in report.arrays] == [24, 6, 30, 5, 15, 3]
    assert not any(array.left_out for array in report.arrays)
    assert all(0 < array.error <= 1e-7 for array in report.arrays)
    assert all(array.largest_error == abs(array.analytic - array.numerical) < 1e-8 for array in report.arrays)


def test_arrays_of_every_kind_of_layer_are_named() -> None:
    model = MLP([5, Dense(4, "prelu"), Maxout(6, pieces=2), Dense(4, "prelu", shared=True), 3], seed=1)
    report = gradient_check(model, *make_data(model, "cross_entropy"), samples=5)
    assert [(array.layer, array.name, array.shape) for array in report.arrays] == [
        (0, "weights", (5, 4)), (0, "bias", (4,)), (0, "slopes", (4,)), (1, "weights", (4, 12)), (1, "bias", (12,)),
        (2, "weights", (6, 4)), (2, "bias", (4,)), (2, "slopes", (1,)), (3, "weights", (4, 3)), (3, "bias", (3,))]


def test_one_layer_one_output_and_scaled_inputs() -> None:
    model = MLP([3, Dense(1, "sigmoid")], dtype="float64", input_mean=[100.0, 0.0, -5.0], input_std=[50.0, 2.0, 0.1])
    X = np.random.default_rng(0).normal(size=(20, 3)) * model.input_std + model.input_mean
    report = gradient_check(model, X, X[:, 0] > 100, "binary_cross_entropy")
    assert report.passed, str(report)
    assert [array.checked for array in report.arrays] == [3, 1]


def test_lists_and_alpha() -> None:
    model = MLP([1, Dense(4, "elu", alpha=0.3), Dense(2, "leaky_relu", alpha=0.2)])
    report = gradient_check(model, [[1.0], [-2.0]], [[0.0, 1.0], [1.0, 1.0]], "half_squared_error")
    assert report.passed, str(report)


@pytest.mark.parametrize("loss", [name for name in LOSSES if name not in ("mean_absolute_error", "huber", "hinge")])
def test_where_the_gradient_is_zero_noise_is_no_error(loss: str) -> None:
    """Units that are off, inputs that are zero, and targets that are met."""
    model = MLP([3, Dense(4, "relu"), Dense(2, LOSSES[loss].output or "identity")], seed=0)
    W, b, V, c = model.get_weights()
    model.set_weights([W, b - 100, V, c])
    X = np.random.default_rng(0).normal(size=(9, 3))
    off = gradient_check(model, X, np.eye(2)[np.arange(9) % 2], loss)
    assert off.passed, str(off)
    assert off.arrays[0].error == 0
    tanh = MLP([3, 4, 2], "tanh", output=LOSSES[loss].output or "identity", dtype="float64", seed=0)
    met = gradient_check(tanh, X, tanh.forward(X), loss)
    assert met.passed, str(met)


@pytest.mark.parametrize("size", [1e-6, 1e-3, 1e3])
def test_small_and_large_weights(size: float) -> None:
    model = MLP([4, 3], output="softmax", dtype="float64")
    W, b = model.get_weights()
    model.set_weights([size * W, b])
    X, y = make_data(model, "cross_entropy")
    report = gradient_check(model, X / max(size, 1), y)
    assert report.passed, str(report)


# ---- wrong gradients


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("change", [scale(1.001), scale(-1), scale(0), scale(math.nan),
                                    lambda gradient: np.add(gradient, 1e-3, out=gradient)],
                         ids=["longer", "opposite", "zero", "nan", "moved"])
def test_a_wrong_gradient_is_found_and_its_layer_named(number: int, change: Callable[[Array], Any],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    model = MLP([4, 6, 5, 3], "tanh", seed=1)
    X, y = make_data(model, "cross_entropy")
    assert gradient_check(model, X, y).passed
    falsify(monkeypatch, number, change)
    report = gradient_check(model, X, y)
    assert not report.passed
    wrong = (number // 2, ("weights", "bias")[number % 2])
    assert failed_names(report) == [wrong]
    assert str(report).splitlines()[-1] == f"failed (tolerance 1e-07): layer {wrong[0]} {wrong[1]}"


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_one_wrong_element_is_found_in_its_place(activation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MLP([4, 6, 3], activation, dtype="float64", seed=1)
    X, y = make_data(model, "cross_entropy")
    exact = model.loss_and_gradients(X, y)[1][0][2, 5]

    def change(gradient: Array) -> None:
        gradient[2, 5] += 1e-4

    falsify(monkeypatch, 0, change)
    report = gradient_check(model, X, y, samples=None)
    assert failed_names(report) == [(0, "weights")]
    row = report.arrays[0]
    assert row.place == (2, 5)
    assert row.analytic == exact + 1e-4
    assert row.numerical == pytest.approx(exact, rel=1e-6)
    assert row.largest_error == pytest.approx(1e-4, rel=1e-4)
    right = model.loss_and_gradients(X, y)[1][0]  # as falsified
    without = np.linalg.norm(right) * 2
    assert row.error == pytest.approx(1e-4 / without, rel=1e-2)


def test_a_model_that_computes_its_own_gradient_is_asked_itself() -> None:
    class Wrong(MLP):
        def loss_and_gradients(self, X: Any, y: Any, loss: str = "cross_entropy") -> tuple[float, list[Array]]:
            value, gradients = super().loss_and_gradients(X, y, loss)
            return value, [*gradients[:-1], 2 * gradients[-1]]

    for dtype in ("float32", "float64"):
        model: MLP = Wrong([4, 6, 3], "tanh", dtype=dtype)
        assert failed_names(gradient_check(model, *make_data(model, "cross_entropy"))) == [(1, "bias")]
    model = MLP([4, 6, 3], "tanh", dtype="float64")
    right = model.loss_and_gradients
    model.loss_and_gradients = (  # type: ignore[method-assign]
        lambda *data: (right(*data)[0], [-gradient for gradient in right(*data)[1]]))
    assert len(gradient_check(model, *make_data(model, "cross_entropy")).failed) == 4


# ---- kinks


def near_a_kink(distance: float) -> tuple[MLP, Array, Array]:
    """Of three relu units the second has a net input of `distance` for the first row, and is clearly on or off else."""
    model = MLP([2, Dense(3, "relu"), Dense(2, "softmax")], dtype="float64", seed=0)
    W, b, V, c = model.get_weights()
    W *= 0.3 / np.abs(W).max()
    X = np.random.default_rng(0).normal(size=(8, 2))
    X[0] = 1  # a weight moved by h moves the net input by h, as the bias does
    b[1] = distance - W[:, 1].sum()
    model.set_weights([W, b, V, c])
    return model, X, np.arange(8) % 2


# The distance as a part of the step, 6e-6: none, within half a step, and near the end of the step.
@pytest.mark.parametrize("part", [0.0, 1e-3, 0.2, 1 / 3, 0.5, 0.7, 0.99, -1e-3, -1 / 3, -0.5, -0.9])
def test_kinks_are_left_out_and_counted(part: float) -> None:
    model, X, y = near_a_kink(part * 6.0554544523933429e-6)
    report = gradient_check(model, X, y, samples=None)
    assert report.passed, str(report)
    assert [(array.checked, array.left_out) for array in report.arrays] == [(4, 2), (2, 1), (6, 0), (2, 0)]


def test_beyond_the_step_nothing_is_left_out() -> None:
    model, X, y = near_a_kink(3e-4)
    assert sum(array.left_out for array in gradient_check(model, X, y).arrays) == 0
    assert sum(array.left_out for array in gradient_check(model, X, y, epsilon=1e-3).arrays) > 0


def test_a_wrong_gradient_is_found_beside_kinks(monkeypatch: pytest.MonkeyPatch) -> None:
    model, X, y = near_a_kink(1e-6)
    falsify(monkeypatch, 1, scale(1.01))
    report = gradient_check(model, X, y)
    assert failed_names(report) == [(0, "bias")]
    assert report.arrays[1].left_out == 1


def test_an_array_of_which_nothing_is_left_fails() -> None:
    model = MLP([1, Dense(1, "relu"), Dense(1, "identity")])
    model.set_weights([[[1.0]], [0.0], [[1.0]], [0.0]])
    report = gradient_check(model, [[0.0]], [[1.0]], "mean_squared_error")
    assert failed_names(report) == [(0, "bias")]
    row = report.arrays[1]
    assert (row.checked, row.left_out, row.place) == (0, 1, ())
    assert math.isnan(row.error)
    assert "nan" in str(report)


# ---- the model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_model_is_not_changed(dtype: str) -> None:
    model = MLP([4, 6, 3], "relu", dtype=dtype, input_mean=0.1, input_std=1.5)
    X, y = make_data(model, "cross_entropy")
    before, data = model.network.parameters.tobytes(), X.copy()
    report = gradient_check(model, X, y)
    assert report.passed, str(report)
    assert model.network.parameters.tobytes() == before
    assert model.dtype == dtype
    assert model.input_std.dtype == dtype
    np.testing.assert_array_equal(X, data)


def test_a_float32_model_is_checked_as_its_copy_in_float64() -> None:
    single = MLP([4, 6, 3], "tanh", seed=3)
    double = MLP([4, 6, 3], "tanh", dtype="float64")
    double.set_weights(single.get_weights())
    data = make_data(single, "cross_entropy")
    assert gradient_check(single, *data) == gradient_check(double, *data)


# ---- samples


def test_samples_are_drawn_with_the_seed() -> None:
    model = MLP([30, 20, 3], "tanh")
    data = make_data(model, "cross_entropy")
    report = gradient_check(model, *data, samples=15)
    assert [array.checked for array in report.arrays] == [15, 15, 15, 3]
    assert report == gradient_check(model, *data, samples=15, seed=0)
    assert report != gradient_check(model, *data, samples=15, seed=1)
    assert [array.checked for array in gradient_check(model, *data).arrays] == [100, 20, 60, 3]


def test_all_parameters_are_checked_if_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MLP([30, 20, 3], "tanh")

    def change(gradient: Array) -> None:
        gradient[29, 19] += 1e-3

    falsify(monkeypatch, 0, change)
    data = make_data(model, "cross_entropy")
    assert not gradient_check(model, *data, samples=None).passed
    assert gradient_check(model, *data, samples=5).passed  # it is not among these


# ---- step and tolerance


def test_epsilon_is_the_step() -> None:
    """A central difference quotient is off by h^2 / 6 times the third derivative."""
    model = MLP([1, Dense(1, "sigmoid")], dtype="float64")
    model.set_weights([[[0.5]], [0.0]])
    X, y = [[1.0]], [[0.0]]
    reports = [gradient_check(model, X, y, "binary_cross_entropy", epsilon=epsilon, tolerance=1e-3)
               for epsilon in (1e-2, 1e-3)]
    errors = [report.arrays[0].largest_error for report in reports]
    s = 1 / (1 + math.exp(-0.5))
    third = s * (1 - s) * (1 - 2 * s)  # the loss is log(1 + exp(w)), its derivative the sigmoid
    assert errors[0] == pytest.approx(1e-4 / 6 * abs(third), rel=1e-3)
    assert errors[1] == pytest.approx(1e-6 / 6 * abs(third), rel=1e-3)


def test_where_the_step_is_too_long_for_the_curvature_parameters_are_left_out() -> None:
    model = MLP([1, Dense(1, "sigmoid")], dtype="float64")
    model.set_weights([[[0.5]], [0.0]])
    for epsilon, left_out in ((None, 0), (1e-2, 1)):
        report = gradient_check(model, [[1.0]], [[0.0]], "binary_cross_entropy", epsilon=epsilon)
        assert [array.left_out for array in report.arrays] == [left_out, left_out]


def test_the_step_grows_with_the_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MLP([1, Dense(1, "identity")], dtype="float64")
    model.set_weights([[[-50.0]], [0.25]])
    moved: list[list[float]] = []
    right = MLP.set_weights

    def seen(self: MLP, weights: Any) -> None:
        moved.append([float(np.ravel(array)[0]) for array in weights])
        right(self, weights)

    monkeypatch.setattr(MLP, "set_weights", seen)
    gradient_check(model, [[1.0]], [[0.0]], "half_squared_error", epsilon=2**-10)
    step = 50 * 2**-10
    assert moved[-8:] == [[-50 + step, 0.25], [-50 - step, 0.25], [-50 + step / 2, 0.25], [-50 - step / 2, 0.25],
                          [-50, 0.25 + 2**-10], [-50, 0.25 - 2**-10], [-50, 0.25 + 2**-11], [-50, 0.25 - 2**-11]]


def test_tolerance_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MLP([4, 6, 3], "tanh")
    data = make_data(model, "cross_entropy")
    falsify(monkeypatch, 0, scale(1.001))
    assert not gradient_check(model, *data, tolerance=1e-4).passed
    report = gradient_check(model, *data, tolerance=1e-3)
    assert report.passed
    assert report.arrays[0].error == pytest.approx(5e-4, rel=1e-3)


# ---- the report


def test_the_table_is_aligned() -> None:
    model = MLP([100, 6, 3], "tanh")
    lines = str(gradient_check(model, *make_data(model, "cross_entropy"), samples=None)).splitlines()
    assert lines[0].split() == ["layer", "array", "shape", "checked", "left", "out", "error", "worst", "place",
                                "analytic", "numerical"]
    assert len(lines) == 6
    assert len({len(line) for line in lines[:5]}) == 1
    assert lines[1].split()[:5] == ["0", "weights", "(100,", "6)", "600"]
    assert lines[4].split()[:4] == ["1", "bias", "(3,)", "3"]
    assert lines[5] == "passed: no error above 1e-07"


# ---- what is wrong


@pytest.mark.parametrize(("arguments", "error", "name"), [
    ({"model": [4, 3]}, TypeError, "model must be"),
    ({"model": None}, TypeError, "model must be"),
    ({"X": np.zeros((3, 2))}, ValueError, "X must be"),
    ({"X": np.full((3, 4), np.nan)}, ValueError, "X must be"),
    ({"X": np.zeros((0, 4))}, ValueError, "X must be"),
    ({"y": [0, 1]}, ValueError, "y must be"),
    ({"y": [0, 1, 7]}, ValueError, "y must be"),
    ({"loss": "squirrel"}, ValueError, "loss must be"),
    ({"loss": "binary_cross_entropy"}, ValueError, "loss 'binary_cross_entropy' needs"),
    ({"epsilon": 0}, ValueError, "epsilon must be"),
    ({"epsilon": 1e-13}, ValueError, "epsilon must be"),
    ({"epsilon": 0.2}, ValueError, "epsilon must be"),
    ({"epsilon": "small"}, TypeError, "epsilon must be"),
    ({"samples": 0}, ValueError, "samples must be"),
    ({"samples": 2.5}, TypeError, "samples must be"),
    ({"tolerance": 0.0}, ValueError, "tolerance must be"),
    ({"tolerance": math.nan}, ValueError, "tolerance must be"),
    ({"tolerance": 2}, ValueError, "tolerance must be"),
    ({"tolerance": None}, TypeError, "tolerance must be"),
    ({"seed": -1}, ValueError, "seed must be"),
    ({"seed": "0"}, TypeError, "seed must be"),
])
def test_arguments_are_checked_and_named(arguments: dict[str, Any], error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=f"^{name}"):
        gradient_check(**{"model": MLP([4, 3]), "X": np.zeros((3, 4)), "y": [0, 1, 2], **arguments})


def test_a_loss_that_is_not_finite_is_refused() -> None:
    model = MLP([1, 1], output="identity")
    model.set_weights([[[math.inf]], [0.0]])
    with pytest.raises(ValueError, match=r"^model must have a finite loss"):
        gradient_check(model, [[1.0]], [[0.0]], "mean_squared_error")
