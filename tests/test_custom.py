"""A user's own activations and losses where they fail, and what else might be given in their place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import jit, njit, vectorize

import fastmlp
from fastmlp import MLP, Dense, DivergenceWarning, Trainer

X = np.random.default_rng(0).normal(size=(40, 4))
y = np.arange(40) % 3


@pytest.fixture(scope="module", autouse=True)
def users_functions(registries: None) -> None:
    """What is registered here is known here only."""


def raising(z):  # type: ignore[no-untyped-def]
    if z > 6:
        raise ValueError("too large")
    return z


compiled_raising = njit(raising)


def calling(z):  # type: ignore[no-untyped-def]
    return compiled_raising(z)


def one(z):  # type: ignore[no-untyped-def]
    return 1.0


def model_of(activation: str, dtype: str = "float32") -> MLP:
    """The inputs themselves, through the activation."""
    model = MLP([4, Dense(4, activation), Dense(4, "identity")], dtype=dtype)
    model.set_weights([np.eye(4), np.zeros(4), np.eye(4), np.zeros(4)])
    return model


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", [raising, compiled_raising, calling])
def test_where_an_activation_raises_the_output_is_nan(function: Callable[[Any], Any], dtype: str) -> None:
    fastmlp.register_activation("fails", function, one)
    model = model_of("fails", dtype)
    rows = np.array([[1, 2, 3, 4], [1, 7, 3, 4], [1, 2, 3, 5]], dtype)
    outputs = model.forward(rows)
    np.testing.assert_array_equal(outputs[[0, 2]], rows[[0, 2]])
    assert np.isnan(outputs[1]).all()


@pytest.mark.parametrize("failing", ["value", "derivative"])
def test_training_ends_where_an_activation_raises(failing: str) -> None:
    fastmlp.register_activation("fails", raising if failing == "value" else lambda z: z,
                                (lambda z: 1.0 + 0.0 * compiled_raising(z)) if failing == "derivative" else one)
    trainer = Trainer(MLP([4, Dense(8, "fails"), 3]), batch_size=8)
    with pytest.warns(DivergenceWarning, match="training stopped"):
        trainer.fit(100 * X, y, epochs=2, progress=False)
    assert trainer.steps < 10


@pytest.mark.parametrize("failing", ["value", "derivative"])
def test_training_ends_where_a_loss_raises(failing: str) -> None:
    def value(a, t):  # type: ignore[no-untyped-def]
        if t > 6:
            raise ValueError("too large")
        return (a - t) ** 2

    def derivative(a, t):  # type: ignore[no-untyped-def]
        if t > 6:
            raise ValueError("too large")
        return 2 * (a - t)

    fastmlp.register_loss("fails", value if failing == "value" else lambda a, t: (a - t) ** 2,
                          derivative if failing == "derivative" else lambda a, t: 2 * (a - t))
    model = MLP([4, 1], output="identity")
    targets = np.zeros((40, 1))
    assert math.isfinite(model.loss_and_gradients(X, targets, "fails")[0])
    targets[30] = 7
    assert math.isnan(model.loss_and_gradients(X, targets, "fails")[0])
    with pytest.warns(DivergenceWarning, match="training stopped"):
        Trainer(model, "fails", batch_size=8, seed=0).fit(X, targets, epochs=2, progress=False)


@pytest.mark.parametrize("compile", [lambda function: function, njit])
def test_a_division_by_zero_is_infinity_or_nan(compile: Callable[[Any], Any]) -> None:
    fastmlp.register_activation("divides", compile(lambda z: 1 / (z - 7)), compile(lambda z: -1 / (z - 7) ** 2))
    outputs = model_of("divides").forward([[7, 7, 7, 7]])
    assert not np.isfinite(outputs).any()


def test_a_function_that_raises_where_it_is_checked_is_refused() -> None:
    def value(z):  # type: ignore[no-untyped-def]
        if z > 0:
            raise KeyError("positive")
        return z

    with pytest.raises(ValueError, match=r"^value must give a number for .*, but raises KeyError"):
        fastmlp.register_activation("bad", value, one)


class CallableObject:
    """What looks like a function of Numba's, and is none."""

    py_func = None

    def __call__(self, z: float, *others: float) -> float:
        return z


def in_python(*arguments):  # type: ignore[no-untyped-def]
    return arguments[0]


@pytest.mark.parametrize("function", [CallableObject(), jit(forceobj=True)(in_python)])
def test_what_numba_cannot_compile_is_refused_at_once(function: Any) -> None:
    for name, call in (("value", lambda: fastmlp.register_activation("bad", function, one)),
                       ("derivative", lambda: fastmlp.register_activation("bad", lambda z: z, function)),
                       ("value", lambda: fastmlp.register_loss("bad", function, lambda a, t: 1.0))):
        with pytest.raises(TypeError, match=rf"^{name} must be a function of numbers that Numba can compile"):
            call()


def test_what_numba_compiled_and_functions_that_it_knows_are_taken() -> None:
    wanted = np.tanh(X)
    for function in (njit(lambda z: math.tanh(z)), vectorize(lambda z: math.tanh(z)), math.tanh, np.tanh):
        fastmlp.register_activation("own_tanh", function, lambda z: 1 - math.tanh(z) ** 2)
        np.testing.assert_allclose(model_of("own_tanh", "float64").forward(X), wanted, rtol=0, atol=1e-12)


def reciprocal(z):  # type: ignore[no-untyped-def]
    return 1.0 / z


def slope_of_reciprocal(z):  # type: ignore[no-untyped-def]
    return -1.0 / (z * z)


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}], ids=str)
def test_a_function_without_a_value_at_zero_trains_layers_of_any_width(options: dict[str, Any]) -> None:
    """The kernels fill layers up to whole registers, in which z is 0."""
    fastmlp.register_activation("reciprocal", reciprocal, slope_of_reciprocal)
    inputs = np.random.default_rng(1).uniform(1.0, 2.0, (40, 4))
    model = MLP([4, Dense(5, "reciprocal"), 3], dtype="float64")
    model.set_weights([np.ones((4, 5)), np.ones(5), *model.get_weights()[2:]])
    trainer = Trainer(model, learning_rate=1e-3, **options)
    trainer.fit(inputs, y, epochs=3, progress=False)
    assert np.isfinite(model.network.parameters).all()
