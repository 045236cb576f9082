"""The kernels one by one on NumPy arrays: results against the oracles, arrays of any memory order, clear errors."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import naive
import numpy as np
import pytest
from naive import DTYPES, Array

from fastmlp.kernels import activations, losses, standalone, updates
from fastmlp.threads import available_threads

ACTIVATIONS = {"identity": activations.IDENTITY, "sigmoid": activations.SIGMOID, "tanh": activations.TANH,
               "relu": activations.RELU, "leaky_relu": activations.LEAKY_RELU, "elu": activations.ELU,
               "softmax": activations.SOFTMAX}
LOSSES = {"cross_entropy": losses.CROSS_ENTROPY, "binary_cross_entropy": losses.BINARY_CROSS_ENTROPY,
          "half_squared_error": losses.HALF_SQUARED_ERROR, "mean_squared_error": losses.MEAN_SQUARED_ERROR,
          "mean_absolute_error": losses.MEAN_ABSOLUTE_ERROR, "huber": losses.HUBER, "hinge": losses.HINGE,
          "poisson": losses.POISSON}
OPTIMIZERS = {"sgd": updates.SGD, "momentum": updates.MOMENTUM, "nesterov": updates.NESTEROV, "adam": updates.ADAM,
              "nadam": updates.NADAM, "adagrad": updates.ADAGRAD, "adadelta": updates.ADADELTA,
              "rmsprop": updates.RMSPROP}
# What `standalone.update` takes for its constants: those of Adam, whatever the rule.
CONSTANTS = {"adagrad": {"epsilon": 1e-8}, "adadelta": {"rho": 0.999, "epsilon": 1e-8},
             "rmsprop": {"decay": 0.999, "momentum": 0.9}}
SHAPES = [(1, 1, 1), (2, 17, 3), (15, 16, 33), (33, 100, 10), (100, 7, 65)]  # rows, inputs, units
# Of several blocks, strips and panels in each direction; of few rows, whose tiles are wide; with weights that are
# streamed.
LARGE = [(1, 70, 200), (3, 600, 5), (8, 300, 100), (130, 1030, 40), (530, 200, 33), (20, 30, 2100), (600, 3, 140),
         (5, 401, 701)]
ALPHA = 0.3
THREADS = min(2, available_threads())
FEWEST_TO_SHARE = standalone.FEWEST_TO_SHARE


@pytest.fixture(autouse=True)
def products_of_any_size_on_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standalone, "FEWEST_TO_SHARE", 0)


def numbers(*shape: int, dtype: str = "float64", seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def close(found: Array, wanted: Any, dtype: str, terms: int = 1) -> None:
    """Compare arrays made of sums of `terms` products of numbers of size about one."""
    assert found.dtype == dtype
    assert found.shape == np.shape(wanted)
    np.testing.assert_allclose(found, wanted, rtol=8 * np.finfo(dtype).eps, atol=(terms + 10) * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_dense_forward(shape: tuple[int, int, int], name: str, dtype: str) -> None:
    rows, inputs, units = shape
    X, W, b = (numbers(*s, dtype=dtype) for s in ((rows, inputs), (inputs, units), (units,)))
    found = standalone.dense_forward(X, W, b, ACTIVATIONS[name], ALPHA)
    close(found, naive.activation(name, naive.dense(X, W, b), ALPHA), dtype, 4 * inputs)
    np.testing.assert_array_equal(standalone.dense_forward(X, W, b, ACTIVATIONS[name], ALPHA, threads=THREADS), found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", LARGE)
def test_large_products(shape: tuple[int, int, int], dtype: str) -> None:
    rows, inputs, units = shape
    X, W, b, delta = (numbers(*s, dtype=dtype, seed=i) for i, s in enumerate(
        ((rows, inputs), (inputs, units), (units,), (rows, units))))
    products: list[tuple[Callable[..., Any], tuple[Array, ...], list[Array], int]] = [
        (standalone.dense_forward, (X, W, b), [naive.dense(X, W, b)], inputs),
        (standalone.dense_backward, (delta, W), [naive.wide(delta) @ naive.wide(W).T], units),
        (standalone.weight_gradient, (X, delta),
         [naive.wide(X).T @ naive.wide(delta), naive.wide(delta).sum(axis=0)], rows),
    ]
    for function, arguments, wanted, terms in products:
        one, many = arrays_of(function(*arguments)), arrays_of(function(*arguments, threads=THREADS))
        for found, again, exact in zip(one, many, wanted, strict=True):
            close(found, exact, dtype, 8 * terms)
            np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize(("shape", "is_shared"), [
    ((1, 400, 300), False), ((1, 1100, 1100), True), ((30, 100, 100), False), ((200, 100, 100), True)])
def test_products_that_are_worth_it_go_on_several_threads(shape: tuple[int, int, int], is_shared: bool,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def team_of(threads: int) -> Any:
        asked.append(threads)
        return contextlib.nullcontext(1)

    monkeypatch.setattr(standalone, "team_of", team_of)
    monkeypatch.setattr(standalone, "FEWEST_TO_SHARE", FEWEST_TO_SHARE)
    monkeypatch.setattr(standalone, "THREADS", range(1, 3))
    rows, inputs, units = shape
    standalone.dense_forward(numbers(rows, inputs), numbers(inputs, units), numbers(units), threads=2)
    standalone.dense_backward(numbers(rows, units), numbers(inputs, units), threads=2)
    assert asked == ([2, 2] if is_shared else [])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 16), (7, 33), (20, 100)])
def test_activations_and_their_derivatives(shape: tuple[int, int], name: str, dtype: str) -> None:
    z, delta = numbers(*shape, dtype=dtype), numbers(*shape, dtype=dtype, seed=1)
    a = standalone.activate(z, ACTIVATIONS[name], ALPHA)
    close(a, naive.activation(name, z, ALPHA), dtype)
    found = standalone.activation_backward(delta, a, ACTIVATIONS[name], ALPHA)
    wanted = (naive.softmax_backward(naive.softmax(z), delta) if name == "softmax"
              else naive.wide(delta) * naive.derivative(name, z, ALPHA))
    close(found, wanted, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 16), (7, 33), (50, 10)])
def test_losses_and_deltas(shape: tuple[int, int], name: str, dtype: str) -> None:
    """The mean over the rows, and its derivative, which is the mean's too."""
    outputs, rng = numbers(*shape, dtype=dtype), np.random.default_rng(1)
    targets = rng.dirichlet(np.ones(shape[1]), shape[0]) if name == "cross_entropy" else rng.random(shape)
    targets = targets.astype(dtype)
    loss, delta = standalone.loss_and_delta(outputs, targets, LOSSES[name], 1.0 if name == "huber" else 0.0)
    row_losses, row_deltas = naive.LOSSES[name](outputs, targets)
    assert loss == pytest.approx(row_losses.mean(), rel=4 * (shape[1] + 10) * float(np.finfo(dtype).eps))
    close(delta, row_deltas / shape[0], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_parameter_of_a_loss(dtype: str) -> None:
    outputs, targets = numbers(20, 7, dtype=dtype), np.random.default_rng(1).dirichlet(np.ones(7), 20).astype(dtype)
    for code, parameter, (row_losses, row_deltas) in (
        (losses.HUBER, 0.3, naive.huber(outputs, targets, 0.3)),
        (losses.CROSS_ENTROPY, 0.2, naive.cross_entropy(outputs, naive.smoothed(targets, 0.2, 7))),
        (losses.BINARY_CROSS_ENTROPY, 0.2, naive.binary_cross_entropy(outputs, naive.smoothed(targets, 0.2, 2))),
    ):
        loss, delta = standalone.loss_and_delta(outputs, targets, code, parameter)
        assert loss == pytest.approx(row_losses.mean(), rel=100 * float(np.finfo(dtype).eps))
        close(delta, row_deltas / 20, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_with_labels(dtype: str) -> None:
    z, labels = numbers(33, 10, dtype=dtype), np.random.default_rng(2).integers(0, 10, 33)
    loss, delta = standalone.loss_and_delta(z, labels, losses.CROSS_ENTROPY)
    row_losses, row_deltas = naive.cross_entropy(z, naive.one_hot(labels, 10))
    assert loss == pytest.approx(row_losses.mean(), rel=100 * float(np.finfo(dtype).eps))
    close(delta, row_deltas / 33, dtype)
    labels[5] = 10
    assert math.isnan(standalone.loss_and_delta(z, labels, losses.CROSS_ENTROPY)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "softmax"])
@pytest.mark.parametrize("shape", SHAPES)
def test_dense_backward(shape: tuple[int, int, int], name: str, dtype: str) -> None:
    rows, inputs, units = shape
    delta, W, z = (numbers(*s, dtype=dtype) for s in ((rows, units), (inputs, units), (rows, inputs)))
    a = naive.activation(name, z, ALPHA).astype(dtype)
    found = standalone.dense_backward(delta, W, a, ACTIVATIONS[name], ALPHA)
    close(found, naive.backward_delta(delta, W, z, name, ALPHA), dtype, 10 * units)
    again = standalone.dense_backward(delta, W, a, ACTIVATIONS[name], ALPHA, threads=THREADS)
    np.testing.assert_array_equal(again, found)
    if name == "identity":
        np.testing.assert_array_equal(standalone.dense_backward(delta, W), found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_weight_gradient(shape: tuple[int, int, int], dtype: str) -> None:
    rows, inputs, units = shape
    a, delta = numbers(rows, inputs, dtype=dtype), numbers(rows, units, dtype=dtype, seed=1)
    one, many = standalone.weight_gradient(a, delta), standalone.weight_gradient(a, delta, threads=THREADS)
    for found, again, wanted in zip(one, many, naive.weight_gradient(a, delta), strict=True):
        close(found, wanted, dtype, 10 * rows)
        np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("length", (1, 16, 33))
def test_updates(length: int, name: str, dtype: str) -> None:
    w = numbers(length, dtype=dtype)
    exact, exact_state = naive.wide(w), naive.new_state(name, w)
    state = [slot.astype(dtype) for slot in exact_state]
    for step in (1, 2, 3):
        g = numbers(length, dtype=dtype, seed=step)
        w, state = standalone.update(OPTIMIZERS[name], w, g, state, 0.1, step, l2=0.2)
        exact, exact_state = naive.update(name, exact, g, exact_state, 0.1, step, l2=0.2, **CONSTANTS.get(name, {}))
        close(w, exact, dtype, 40)
        for slot, wanted in zip(state, exact_state, strict=True):
            close(slot, wanted, dtype, 40)


def test_settings_reach_the_update() -> None:
    w, g, state = numbers(5), numbers(5, seed=1), [numbers(5, seed=2), numbers(5, seed=3) ** 2]
    found, _ = standalone.update(updates.ADAM, w, g, state, 0.1, 4, decay_1=0.7, decay_2=0.8, epsilon=0.01, l2=0.5)
    wanted, _ = naive.update("adam", w, g, state, 0.1, 4, beta_1=0.7, beta_2=0.8, epsilon=0.01, l2=0.5)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


# ---- arrays as users have them


def calls(dtype: str) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Every function with arguments for it."""
    a, W, b, delta = (numbers(*s, dtype=dtype) for s in ((6, 5), (5, 7), (7,), (6, 7)))
    return [
        (standalone.dense_forward, (a, W, b, activations.TANH)),
        (standalone.activate, (a, activations.SOFTMAX)),
        (standalone.activation_backward, (a, a.copy(), activations.TANH)),
        (standalone.loss_and_delta, (delta, delta.copy(), losses.MEAN_SQUARED_ERROR)),
        (standalone.dense_backward, (delta, W, a, activations.SIGMOID)),
        (standalone.dense_backward, (delta, W)),
        (standalone.weight_gradient, (a, delta)),
        (standalone.update, (updates.MOMENTUM, b, b.copy(), [b.copy()], 0.1)),
    ]


def arrays_of(result: Any) -> list[Any]:
    """All arrays and numbers in a result, flat."""
    if isinstance(result, (tuple, list)):
        return [array for item in result for array in arrays_of(item)]
    return [result]


def mapped(arguments: Any, change: Callable[[Array], Array]) -> Any:
    if isinstance(arguments, (tuple, list)):
        return type(arguments)(mapped(argument, change) for argument in arguments)
    return change(arguments) if isinstance(arguments, np.ndarray) else arguments


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "Fortran order": np.asfortranarray,
    "every other column": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "backwards": lambda array: np.ascontiguousarray(array[::-1])[::-1],
    "read-only": lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYOUTS)
def test_arrays_of_any_memory_order_give_the_same_and_are_not_changed(name: str, dtype: str) -> None:
    for function, arguments in calls(dtype):
        plain = function(*arguments)
        changed = mapped(arguments, LAYOUTS[name])
        copies = mapped(changed, np.copy)
        for found, wanted in zip(arrays_of(function(*changed)), arrays_of(plain), strict=True):
            np.testing.assert_array_equal(found, wanted, err_msg=function.__name__)
        for after, before in zip(arrays_of(changed), arrays_of(copies), strict=True):
            np.testing.assert_array_equal(after, before, err_msg=function.__name__)


def test_results_are_arrays_of_their_own() -> None:
    for function, arguments in calls("float32"):
        inputs = [array for array in arrays_of(arguments) if isinstance(array, np.ndarray)]
        for result in arrays_of(function(*arguments)):
            if isinstance(result, np.ndarray):
                assert not any(np.shares_memory(result, array) for array in inputs), function.__name__


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_threads_at_once_get_what_one_gets(dtype: str) -> None:
    X, W, b = (numbers(*s, dtype=dtype) for s in ((64, 50), (50, 40), (40,)))
    wanted = standalone.dense_forward(X, W, b, activations.TANH)

    def many() -> bool:
        return all(np.array_equal(standalone.dense_forward(X, W, b, activations.TANH), wanted) for _ in range(50))

    assert naive.in_threads(many, many) == [True, True]


# ---- errors


def test_wrong_arguments_are_refused_by_name() -> None:
    a, W, b = numbers(6, 5), numbers(5, 7), numbers(7)
    delta = numbers(6, 7)
    wrong: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (TypeError, "X", lambda: standalone.dense_forward(a.tolist(), W, b)),
        (TypeError, "X", lambda: standalone.dense_forward(a.astype(np.int64), W, b)),
        (TypeError, "X|weights", lambda: standalone.dense_forward(a.astype(np.float32), W, b)),
        (TypeError, "weights", lambda: standalone.dense_forward(a, W.astype(">f8"), b)),
        (TypeError, "weights", lambda: standalone.dense_forward(a, W.astype(np.float16), b)),
        (ValueError, "X", lambda: standalone.dense_forward(a[:, :4], W, b)),
        (ValueError, "X", lambda: standalone.dense_forward(a[0], W, b)),
        (ValueError, "X", lambda: standalone.dense_forward(a[:0], W, b)),
        (ValueError, "weights", lambda: standalone.dense_forward(a, W[0], b)),
        (ValueError, "bias", lambda: standalone.dense_forward(a, W, b[:6])),
        (ValueError, "bias", lambda: standalone.dense_forward(a, W, b[:, np.newaxis])),
        (ValueError, "activation", lambda: standalone.dense_forward(a, W, b, 7)),
        (ValueError, "activation", lambda: standalone.dense_forward(a, W, b, -1)),
        (TypeError, "activation", lambda: standalone.dense_forward(a, W, b, "relu")),  # type: ignore[arg-type]
        (TypeError, "activation", lambda: standalone.activate(a, True)),
        (TypeError, "alpha", lambda: standalone.activate(a, 2, alpha="a")),  # type: ignore[arg-type]
        (TypeError, "parameter", lambda: standalone.loss_and_delta(delta, delta, 0, "a")),  # type: ignore[arg-type]
        (TypeError, "X", lambda: standalone.dense_forward(np.ma.array(a), W, b)),
        (TypeError, "activation", lambda: standalone.activate(a, 1.0)),  # type: ignore[arg-type]
        (TypeError, "threads", lambda: standalone.dense_forward(a, W, b, threads=1.0)),  # type: ignore[arg-type]
        (ValueError, "threads", lambda: standalone.weight_gradient(a, delta, threads=0)),
        (ValueError, "threads", lambda: standalone.dense_backward(delta, W, threads=10**6)),
        (TypeError, "a", lambda: standalone.dense_backward(delta, W, None, activations.TANH)),
        (ValueError, "a", lambda: standalone.activation_backward(delta, a, 0)),
        (ValueError, "targets", lambda: standalone.loss_and_delta(delta, delta[:, :6], losses.MEAN_SQUARED_ERROR)),
        (ValueError, "targets", lambda: standalone.loss_and_delta(delta, np.zeros(5, np.int64), losses.CROSS_ENTROPY)),
        (TypeError, "targets", lambda: standalone.loss_and_delta(delta, np.zeros(6), losses.CROSS_ENTROPY)),
        (ValueError, "loss", lambda: standalone.loss_and_delta(delta, delta, losses.CODES)),
        (ValueError, "delta", lambda: standalone.dense_backward(delta[:, :6], W, a)),
        (ValueError, "a", lambda: standalone.dense_backward(delta, W, a[:5])),
        (ValueError, "activation", lambda: standalone.dense_backward(delta, W, a, activations.SOFTMAX)),
        (ValueError, "delta", lambda: standalone.weight_gradient(a, delta[:5])),
        (ValueError, "optimizer", lambda: standalone.update(updates.WRITE_GRADIENT, b, b, [], 0.1)),
        (ValueError, "optimizer", lambda: standalone.update(updates.NADAM + 1, b, b, [], 0.1)),
        (ValueError, "state", lambda: standalone.update(updates.ADAM, b, b, [b], 0.1)),
        (ValueError, "state\\[1\\]", lambda: standalone.update(updates.ADAM, b, b, [b, b[:3]], 0.1)),
        (ValueError, "g", lambda: standalone.update(updates.SGD, b, b[:3], [], 0.1)),
        (TypeError, "state", lambda: standalone.update(updates.SGD, b, b, 3, 0.1)),  # type: ignore[arg-type]
        (ValueError, "learning_rate", lambda: standalone.update(updates.SGD, b, b, [], -0.1)),
        (ValueError, "step", lambda: standalone.update(updates.ADAM, b, b, [b, b], 0.1, 0)),
        (ValueError, "decay_1", lambda: standalone.update(updates.ADAM, b, b, [b, b], 0.1, decay_1=1.0)),
        (ValueError, "decay_2", lambda: standalone.update(updates.ADAM, b, b, [b, b], 0.1, decay_2=-0.1)),
        (ValueError, "epsilon", lambda: standalone.update(updates.ADAM, b, b, [b, b], 0.1, epsilon=np.nan)),
        (ValueError, "l2", lambda: standalone.update(updates.SGD, b, b, [], 0.1, l2=10**400)),
    ]
    for kind, name, call in wrong:
        with pytest.raises(kind, match=rf"^({name})\b|^({name}) "):
            call()
