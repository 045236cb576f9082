"""The gradient of the loss by every parameter, against differences of the loss itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import naive
import numpy as np
import pytest
from naive import layers_of

from fastmlp import MLP, Dense, Maxout, engine
from fastmlp.activations import ACTIVATIONS

Array = np.ndarray[Any, Any]

KINKS = ("relu", "leaky_relu", "prelu", "elu", "selu", "step", "sign")
FLAT = ("step", "sign")  # with derivative zero
CLASSIFYING = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid"}
SQUARED = ("half_squared_error", "mean_squared_error")


def naive_loss(X: Any, targets: Any, layers: list[naive.Layer], loss: str) -> float:
    """The mean loss over the rows; nothing in it knows of gradients."""
    z = naive.preactivations(X, layers)[-1]
    a = z if loss in naive.FROM_PREACTIVATIONS else naive.activation(layers[-1][2], z, layers[-1][3])
    return float(naive.LOSSES[loss](a, targets)[0].mean())


def differences(X: Any, targets: Any, layers: list[naive.Layer], loss: str, step: float = 2e-5) -> list[Array]:
    """The gradient by central differences, one parameter after the other."""
    parameters = naive.parameters_of(layers)
    copies = naive.with_parameters(layers, parameters)
    gradients = []
    for array in parameters:
        gradient = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            kept = array[place]
            array[place] = kept + step
            above = naive_loss(X, targets, copies, loss)
            array[place] = kept - step
            below = naive_loss(X, targets, copies, loss)
            array[place] = kept
            gradient[place] = (above - below) / (2 * step)
        gradients.append(gradient)
    return gradients


def make_case(layers: list[Any], loss: str, rows: int, seed: int = 0, labels: bool = False,
              **options: Any) -> tuple[MLP, Array, Any, Array]:
    """A model with random parameters, inputs that keep away from kinks, and targets: as given, and in full."""
    model = MLP(layers, **{"dtype": "float64", **options})
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=array.shape) * (0.9 / np.sqrt(array.shape[0]) if array.ndim == 2 else 0.3)
                       for array in model.get_weights()])
    X = rng.normal(size=(rows, model.inputs)).astype(model.dtype)
    for _ in range(200):  # draw rows again that are near a kink
        near = np.zeros(rows, bool)
        for z, layer in zip(naive.preactivations(X, layers_of(model)), model.layers, strict=True):
            if layer.activation in KINKS:
                near |= (np.abs(z) < 5e-4).any(axis=1)
        if not near.any():
            break
        X[near] = rng.normal(size=(near.sum(), model.inputs))
    else:
        raise AssertionError("there is no place away from the kinks")
    if loss == "cross_entropy":
        y = rng.integers(0, model.outputs, rows) if labels else rng.dirichlet(np.ones(model.outputs), rows)
        return model, X, y, naive.one_hot(y, model.outputs) if labels else y
    y = rng.random((rows, model.outputs)) if loss == "binary_cross_entropy" else rng.normal(size=(rows, model.outputs))
    return model, X, y, y


def assert_close(found: list[Array], expected: list[Array], tolerance: float) -> None:
    """Each gradient within `tolerance` of its largest element (at least one millionth of the largest of all)."""
    assert len(found) == len(expected)
    largest = max(float(np.abs(array).max()) for array in expected)
    assert largest > 1e-4  # else the comparison says nothing
    for number, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape
        scale = max(float(np.abs(b).max()), 1e-6 * largest)
        error = float(np.abs(a - b).max())
        assert error <= tolerance * scale, f"gradient {number}: {error:.2e} of {scale:.2e}"


def check_case(layers: list[Any], loss: str, rows: int, **options: Any) -> None:
    model, X, y, targets = make_case(layers, loss, rows, **options)
    value, gradients = model.loss_and_gradients(X, y, loss)
    assert value == pytest.approx(naive_loss(X, targets, layers_of(model), loss), rel=1e-12)
    assert [array.dtype for array in gradients] == [np.dtype("float64")] * len(gradients)
    assert_close(gradients, differences(X, targets, layers_of(model), loss), 2e-7)


# ---- every pair


@pytest.mark.parametrize("loss", [*CLASSIFYING, *SQUARED])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_hidden_activation_with_every_loss(activation: str, loss: str) -> None:
    check_case([4, 6, 5, 3], loss, 7, activation=activation, output=CLASSIFYING.get(loss, "identity"))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_hidden_activation_with_labels(activation: str) -> None:
    check_case([4, 6, 5, 3], "cross_entropy", 7, activation=activation, labels=True)


@pytest.mark.parametrize("loss", SQUARED)
@pytest.mark.parametrize("output", [name for name in ACTIVATIONS if name not in FLAT])
def test_every_output_activation_with_the_squared_errors(output: str, loss: str) -> None:
    check_case([4, 5, 3], loss, 7, activation="tanh", output=output)
    check_case([4, 3], loss, 5, output=output)


@pytest.mark.parametrize("activation", FLAT)
def test_no_gradient_passes_through_step_and_sign(activation: str) -> None:
    model, X, y, _ = make_case([4, 6, 3], "mean_squared_error", 7, activation=activation, output="identity")
    _, gradients = model.loss_and_gradients(X, y, "mean_squared_error")
    assert [bool(array.any()) for array in gradients] == [False, False, True, True]


# ---- shapes


@pytest.mark.parametrize("loss", [*CLASSIFYING, *SQUARED])
@pytest.mark.parametrize("hidden", [[], [3], [3, 4, 2]], ids=lambda hidden: f"depth{len(hidden) + 1}")
def test_every_depth(hidden: list[int], loss: str) -> None:
    check_case([3, *hidden, 2], loss, 6, activation="tanh", output=CLASSIFYING.get(loss, "identity"))


@pytest.mark.parametrize("loss", ["binary_cross_entropy", *SQUARED])
def test_one_output_and_one_row(loss: str) -> None:
    output = CLASSIFYING.get(loss, "identity")
    check_case([3, 4, 1], loss, 1, activation="tanh", output=output)
    model, X, y, _ = make_case([3, 4, 1], loss, 9, activation="tanh", output=output)
    flat, column = model.loss_and_gradients(X, y[:, 0], loss), model.loss_and_gradients(X, y, loss)
    assert flat[0] == column[0]
    for a, b in zip(flat[1], column[1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("sizes", [[1, 1, 1], [9, 17, 2], [5, 8, 16, 4], [3, 33, 19]], ids=str)
def test_sizes_around_those_of_registers_and_panels(sizes: list[int]) -> None:
    check_case(sizes, "half_squared_error", 15, activation="tanh", output="identity")


@pytest.mark.parametrize("sizes", [[70, 130, 65, 7], [257, 40, 300, 3]], ids=str)
@pytest.mark.parametrize("activation", ["elu", "tanh"])
def test_large_layers_along_random_directions(sizes: list[int], activation: str) -> None:
    model = MLP(sizes, activation=activation, dtype="float64", seed=1)  # elu has no kink at alpha 1
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(90, sizes[0])), rng.integers(0, sizes[-1], 90)
    targets, layers = naive.one_hot(y, sizes[-1]), layers_of(model)
    _, gradients = model.loss_and_gradients(X, y)
    for number in range(len(gradients)):
        direction = rng.normal(size=gradients[number].shape)
        step = 1e-5 / np.sqrt(direction.size)
        values = []
        for sign in (1, -1):
            moved = [[w, b] for w, b, _, _ in layers]
            moved[number // 2][number % 2] = moved[number // 2][number % 2] + sign * step * direction
            values.append(naive_loss(X, targets, [(w, b, *layer[2:]) for (w, b), layer
                                                  in zip(moved, layers, strict=True)], "cross_entropy"))
        along = (values[0] - values[1]) / (2 * step)
        scale = float(np.linalg.norm(gradients[number]))
        assert abs((gradients[number] * direction).sum() - along) <= 1e-6 * scale * np.sqrt(direction.size)


@pytest.mark.parametrize("activation", ["leaky_relu", "elu"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.7, 10.0])
@pytest.mark.parametrize("place", ["hidden", "output"])
def test_alpha(activation: str, alpha: float, place: str) -> None:
    layer = Dense(5, activation, alpha)
    layers = [4, layer, Dense(3, "tanh"), 2] if place == "hidden" else [4, 3, layer]
    options = {"output": "identity"} if place == "hidden" else {"activation": "tanh"}
    check_case(layers, "half_squared_error", 8, **options)


def test_with_scaled_inputs() -> None:
    mean, std = np.array([1.0, -2.0, 3.0]), np.array([2.0, 0.5, 10.0])
    model, X, y, targets = make_case([3, 4, 2], "cross_entropy", 8, activation="tanh", input_mean=mean, input_std=std)
    _, gradients = model.loss_and_gradients(X, y)
    assert_close(gradients, differences((X - mean) / std, targets, layers_of(model), "cross_entropy"), 2e-7)


# ---- what counts as zero, and sums


def test_probabilities_that_sum_to_a_little_less_than_one() -> None:
    """The loss is - sum t log a for whatever t is given, and so is its gradient."""
    model, X, y, _ = make_case([4, 5, 3], "cross_entropy", 6, activation="tanh")
    y = y * 0.995
    value, gradients = model.loss_and_gradients(X, y)
    assert value == pytest.approx(naive_loss(X, y, layers_of(model), "cross_entropy"), rel=1e-12)
    assert_close(gradients, differences(X, y, layers_of(model), "cross_entropy"), 2e-7)


def test_labels_are_probabilities_of_one() -> None:
    model, X, y, targets = make_case([4, 5, 3], "cross_entropy", 40, activation="tanh", labels=True)
    by_label, by_probability = model.loss_and_gradients(X, y), model.loss_and_gradients(X, targets)
    assert by_label[0] == pytest.approx(by_probability[0], rel=1e-14)
    assert_close(by_label[1], by_probability[1], 1e-13)


def test_the_gradient_of_a_batch_is_the_mean_of_those_of_its_rows() -> None:
    model, X, y, _ = make_case([4, 5, 3], "cross_entropy", 11, activation="relu", labels=True)
    value, gradients = model.loss_and_gradients(X, y)
    alone = [model.loss_and_gradients(X[r : r + 1], y[r : r + 1]) for r in range(11)]
    assert value == pytest.approx(np.mean([loss for loss, _ in alone]), rel=1e-13)
    for number, gradient in enumerate(gradients):
        np.testing.assert_allclose(gradient, np.mean([g[number] for _, g in alone], axis=0), rtol=0, atol=1e-15)


def test_sure_predictions_neither_overflow_nor_lose_the_gradient() -> None:
    """Logits of thousands: the loss of a wrong and sure prediction is the logit itself."""
    for dtype in ("float32", "float64"):
        model = MLP([1, 2], dtype=dtype)
        model.set_weights([np.array([[5000.0, -5000.0]]), np.zeros(2)])
        value, (dw, db) = model.loss_and_gradients([[1.0]], [1])
        assert value == 10000.0
        assert dw.tolist() == [[1, -1]]
        assert db.tolist() == [1, -1]
        model = MLP([1, 1], dtype=dtype)
        model.set_weights([np.array([[5000.0]]), np.zeros(1)])
        value, (dw, db) = model.loss_and_gradients([[1.0]], [0], "binary_cross_entropy")
        assert (value, dw.item(), db.item()) == (5000.0, 1.0, 1.0)


# ---- both dtypes


@pytest.mark.parametrize("loss", [*CLASSIFYING, *SQUARED])
@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "exponential"])
@pytest.mark.parametrize("rows", [37, 300])
def test_float32_is_float64_but_for_rounding(activation: str, loss: str, rows: int) -> None:
    options: dict[str, Any] = {"activation": activation, "output": CLASSIFYING.get(loss, "identity")}
    sizes = [20, 40, 17, 5]
    single, X, y, _ = make_case(sizes, loss, rows, dtype="float32", **options)
    double = MLP(sizes, dtype="float64", **options)
    double.set_weights(single.get_weights())
    value, gradients = single.loss_and_gradients(X, y, loss)
    exact, expected = double.loss_and_gradients(X.astype(np.float64), y, loss)
    assert value == pytest.approx(exact, rel=3e-6)
    assert {array.dtype for array in gradients} == {np.dtype("float32")}
    assert_close(gradients, expected, 2e-5)


# ---- rows in groups


@pytest.mark.parametrize("rows", [256, 300, 1000, 2500])
@pytest.mark.parametrize(("loss", "activation", "output"), [
    ("cross_entropy", "relu", "softmax"), ("binary_cross_entropy", "softmax", "sigmoid"),
    ("half_squared_error", "tanh", "identity"), ("mean_squared_error", "elu", "softmax"),
    ("cross_entropy", "prelu", "softmax"), ("half_squared_error", "gelu", "prelu"),
])
def test_rows_in_groups(rows: int, loss: str, activation: str, output: str) -> None:
    model, X, y, targets = make_case([4, 6, 5, 3], loss, rows, activation=activation, output=output)
    assert engine.groups_for(model.network, rows) > 1
    value, gradients = model.loss_and_gradients(X, y, loss)
    exact, by_theory = naive.loss_and_gradients(X, targets, layers_of(model), loss)
    assert value == pytest.approx(exact, rel=1e-12)
    assert_close(gradients, by_theory, 1e-11)
    if rows == 256:
        assert_close(gradients, differences(X, targets, layers_of(model), loss), 2e-7)


def test_groups_are_for_small_networks_and_large_batches() -> None:
    small, large = MLP([4, 6, 3]).network, MLP([784, 128, 10]).network
    assert engine.groups_for(small, 32) == 1
    assert engine.groups_for(small, 256) > 1
    assert engine.groups_for(large, 10_000) == 1


@pytest.mark.parametrize("rows", [255, 256, 257, 511, 2047, 2048, 2049])
def test_in_groups_or_not_the_gradient_is_the_same_but_for_rounding(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, X, y, _ = make_case([13, 18, 5], "cross_entropy", rows, activation="tanh", labels=True)
    value, gradients = model.loss_and_gradients(X, y)
    monkeypatch.setattr(engine, "groups_for", lambda network, batch: 1)
    exact, expected = model.loss_and_gradients(X, y)
    assert value == pytest.approx(exact, rel=1e-14)
    assert_close(gradients, expected, 1e-12)


# ---- threads, and what must not change


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("sizes", "rows"), [([50, 70, 33, 5], 90), ([6, 9, 3], 1000), ([4, 3], 5),
                                             ([300, 400, 4], 40)], ids=str)
def test_the_same_bits_on_one_thread_and_on_two(sizes: list[int], rows: int, dtype: str,
                                                threads: Callable[[int], None],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LEAST_PARALLEL_WORK", 0)
    for activation in ("tanh", "softmax"):
        model, X, y, _ = make_case(sizes, "cross_entropy", rows, activation=activation, labels=True, dtype=dtype)
        threads(1)
        value, gradients = model.loss_and_gradients(X, y)
        threads(2)
        again, others = model.loss_and_gradients(X, y)
        assert again == value
        assert [a.tobytes() for a in others] == [a.tobytes() for a in gradients]


def test_the_model_and_the_data_are_not_changed() -> None:
    for rows in (20, 700):
        model, X, y, _ = make_case([4, 6, 3], "cross_entropy", rows, activation="relu")
        weights, kept_X, kept_y = model.get_weights(), X.copy(), y.copy()
        first = model.loss_and_gradients(X, y)
        second = model.loss_and_gradients(X, y)
        for a, b in zip(model.get_weights(), weights, strict=True):
            assert a.tobytes() == b.tobytes()
        np.testing.assert_array_equal(X, kept_X)
        np.testing.assert_array_equal(y, kept_y)
        assert first[0] == second[0]
        for a, b in zip(first[1], second[1], strict=True):
            assert a.tobytes() == b.tobytes()
            assert not np.shares_memory(a, b)


def test_gradients_come_in_the_order_and_shapes_of_the_weights() -> None:
    model = MLP([4, 6, 3])
    _, gradients = model.loss_and_gradients(np.ones((2, 4)), [0, 1])
    assert [g.shape for g in gradients] == [w.shape for w in model.get_weights()] == [(4, 6), (6,), (6, 3), (3,)]
    model = MLP([4, Dense(6, "prelu"), Dense(5, "prelu", shared=True), Maxout(2, 3), 3])
    _, gradients = model.loss_and_gradients(np.ones((2, 4)), [0, 1])
    assert [g.shape for g in gradients] == [w.shape for w in model.get_weights()] == [
        (4, 6), (6,), (6,), (6, 5), (5,), (1,), (5, 6), (6,), (2, 3), (3,)]


@pytest.mark.parametrize(("arguments", "error", "name"), [
    ({"loss": "focal"}, ValueError, "loss"),
    ({"loss": None}, TypeError, "loss"),
    ({"loss": "binary_cross_entropy"}, ValueError, "loss"),
    ({"X": np.ones((2, 3))}, ValueError, "X"),
    ({"X": np.ones((0, 4)), "y": []}, ValueError, "X"),
    ({"X": np.full((2, 4), np.nan)}, ValueError, "X"),
    ({"y": [0, 3]}, ValueError, "y"),
    ({"y": [0]}, ValueError, "y"),
    ({"y": "01"}, TypeError, "y"),
])
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=f"^{name} "):
        MLP([4, 6, 3]).loss_and_gradients(**{"X": np.ones((2, 4)), "y": [0, 1], **arguments})


@pytest.mark.parametrize("output", [name for name in ACTIVATIONS if name not in CLASSIFYING.values()])
def test_the_cross_entropies_need_their_outputs(output: str) -> None:
    model = MLP([4, 2], output=output)
    for loss, needed in CLASSIFYING.items():
        with pytest.raises(ValueError, match=f"^loss '{loss}' needs a model with output='{needed}', got "):
            model.loss_and_gradients(np.ones((2, 4)), np.ones((2, 2)), loss)
