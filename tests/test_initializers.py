"""Weight initialisation: distributions against the published formulas, determinism, types, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fastmlp.initializers import INITIALIZERS, check_initializer, initial_weights

INPUTS, UNITS = 500, 800  # 400 000 weights: sample moments are within a few thousandths of the true ones

# name -> standard deviation, for a layer of INPUTS x UNITS
DEVIATIONS = {
    "glorot_uniform": math.sqrt(2 / (INPUTS + UNITS)),
    "glorot_normal": math.sqrt(2 / (INPUTS + UNITS)),
    "he_uniform": math.sqrt(2 / INPUTS),
    "he_normal": math.sqrt(2 / INPUTS),
    "lecun_uniform": math.sqrt(1 / INPUTS),
    "lecun_normal": math.sqrt(1 / INPUTS),
    "uniform": 0.05 / math.sqrt(3),
    "normal": 0.05,
}


def draw(name: str, activation: str = "linear", dtype: Any = np.float64, seed: int = 0) -> Any:
    return initial_weights(name, INPUTS, UNITS, activation, np.random.default_rng(seed), dtype)


def test_the_table_holds_the_names_tested_here() -> None:
    assert set(INITIALIZERS) == {*DEVIATIONS, "zeros"}


@pytest.mark.parametrize("name", DEVIATIONS)
def test_moments(name: str) -> None:
    """Mean, variance and kurtosis of the sample; the tolerances are five standard errors."""
    weights = draw(name)
    deviation, n = DEVIATIONS[name], weights.size
    kurtosis = 1.8 if name.endswith("uniform") else 3.0
    assert abs(weights.mean()) < 5 * deviation / math.sqrt(n)
    assert abs(weights.var() / deviation**2 - 1) < 5 * math.sqrt((kurtosis - 1) / n)
    assert abs((weights**4).mean() / deviation**4 - kurtosis) < 5 * math.sqrt(96 / n)


@pytest.mark.parametrize("name", [name for name in DEVIATIONS if name.endswith("uniform")])
def test_uniform_stays_inside_its_limit_and_fills_it(name: str) -> None:
    limit = DEVIATIONS[name] * math.sqrt(3)
    weights = draw(name)
    assert 0.999 * limit < weights.max() <= limit
    assert -limit <= weights.min() < -0.999 * limit


@pytest.mark.parametrize("name", [name for name in DEVIATIONS if name.endswith("normal")])
def test_normal_is_not_truncated(name: str) -> None:
    assert np.abs(draw(name)).max() > 4 * DEVIATIONS[name]


def test_zeros() -> None:
    assert not draw("zeros").any()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "prelu", "elu", "gelu", "silu"])
def test_auto_is_he_normal_for_rectifiers(activation: str) -> None:
    np.testing.assert_array_equal(draw("auto", activation), draw("he_normal"))


@pytest.mark.parametrize("activation", ["linear", "sigmoid", "tanh", "softmax", "softplus", "exponential", "sign"])
def test_auto_is_glorot_uniform_otherwise(activation: str) -> None:
    np.testing.assert_array_equal(draw("auto", activation), draw("glorot_uniform"))


def test_auto_is_lecun_normal_for_selu() -> None:
    np.testing.assert_array_equal(draw("auto", "selu"), draw("lecun_normal"))


@pytest.mark.parametrize("name", ["he_normal", "glorot_uniform", "zeros"])
def test_a_name_does_not_look_at_the_activation(name: str) -> None:
    np.testing.assert_array_equal(draw(name, "relu"), draw(name, "tanh"))


@pytest.mark.parametrize("name", ["auto", *INITIALIZERS])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, "float32", "float64"])
def test_shape_and_dtype(name: str, dtype: Any) -> None:
    weights = initial_weights(name, 7, 3, "relu", np.random.default_rng(0), dtype)
    assert weights.shape == (7, 3)
    assert weights.dtype == np.dtype(dtype)
    assert weights.flags.c_contiguous
    assert weights.flags.writeable


@pytest.mark.parametrize("name", DEVIATIONS)
def test_the_seed_decides(name: str) -> None:
    np.testing.assert_array_equal(draw(name, seed=3), draw(name, seed=3))
    assert not np.array_equal(draw(name, seed=3), draw(name, seed=4))


@pytest.mark.parametrize("name", DEVIATIONS)
def test_both_types_start_from_the_same_numbers(name: str) -> None:
    np.testing.assert_array_equal(draw(name, dtype="float32"), draw(name, dtype="float64").astype("float32"))


@pytest.mark.parametrize("name", DEVIATIONS)
def test_both_types_leave_the_generator_at_the_same_place(name: str) -> None:
    single, double = np.random.default_rng(0), np.random.default_rng(0)
    initial_weights(name, 5, 3, "relu", single, "float32")
    initial_weights(name, 5, 3, "relu", double, "float64")
    assert single.random() == double.random() != np.random.default_rng(0).random()


def test_numpy_sizes() -> None:
    sizes: dict[str, Any] = {"inputs": np.int64(4), "units": np.int32(2)}
    rng = np.random.default_rng(0)
    assert initial_weights("auto", activation="relu", rng=rng, dtype="float32", **sizes).shape == (4, 2)


@pytest.mark.parametrize("name", ["xavier", "Auto", "", None, ["auto"], np.array(["auto", "zeros"])])
def test_unknown_name_lists_the_allowed_ones(name: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="initializer must be one of") as caught:
        check_initializer(name)
    for allowed in ("auto", *INITIALIZERS):
        assert repr(allowed) in str(caught.value)
    assert f"got {name!r}" in str(caught.value)
    with pytest.raises((TypeError, ValueError), match="initializer must be one of"):
        draw(name)


def test_known_names_pass() -> None:
    for name in ("auto", *INITIALIZERS):
        assert check_initializer(name) == name


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"inputs": 0}, ValueError, "inputs must .* got 0"),
        ({"units": -3}, ValueError, "units must .* got -3"),
        ({"inputs": 2.0}, TypeError, "inputs must .* got 2.0"),
        ({"units": True}, TypeError, "units must .* got True"),
        ({"rng": 0}, TypeError, "rng must .* got 0"),
        ({"dtype": "float16"}, ValueError, "dtype must .* got 'float16'"),
        ({"dtype": np.int64}, ValueError, "dtype must"),
    ],
)
def test_arguments_are_checked(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "name": "auto",
        "inputs": 2,
        "units": 3,
        "activation": "relu",
        "rng": np.random.default_rng(0),
        "dtype": "float32",
    }
    initial_weights(**arguments)
    with pytest.raises(error, match=message):
        initial_weights(**(arguments | changes))
