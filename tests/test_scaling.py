"""Scaling fitted on a training set, against NumPy and scikit-learn, and inside a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import Array
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from fastmlp import MLP, scaling
from fastmlp.scaling import scale_to_range, standardise


def inputs(rows: int = 200, columns: int = 5, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)) * rng.uniform(0.01, 100, columns) + rng.normal(size=columns) * 1000


@pytest.mark.parametrize("block", (1, 1 << 10, 1 << 24))
@pytest.mark.parametrize("dtype", ("float32", "float64", "uint8"))
def test_scalings_are_those_of_scikit_learn(dtype: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "BLOCK_BYTES", block)
    X = np.abs(inputs()).astype(dtype)
    wide = X.astype(np.float64)
    found = standardise(X)
    wanted = StandardScaler().fit(wide)
    np.testing.assert_allclose(found["input_mean"], wanted.mean_, rtol=1e-12)
    np.testing.assert_allclose(found["input_std"], wanted.scale_, rtol=1e-9)
    for low, high in ((0, 1), (-1, 1), (2.5, 10)):
        found = scale_to_range(X, low, high)
        wanted = MinMaxScaler((low, high)).fit_transform(wide)
        np.testing.assert_allclose((wide - found["input_mean"]) / found["input_std"], wanted, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(rows=st.integers(1, 40), columns=st.integers(1, 6), seed=st.integers(0, 1000), offset=st.floats(-1e6, 1e6))
def test_scaled_columns_have_mean_zero_and_deviation_one(rows: int, columns: int, seed: int, offset: float) -> None:
    X = inputs(rows, columns, seed) + offset
    found = standardise(X)
    scaled = (X - found["input_mean"]) / found["input_std"]
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-6)
    if rows > 1:
        np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("value", (0.0, 0.1, 1e9))
def test_constant_columns_are_left_alone(value: float) -> None:
    X = np.full((1000, 2), value)
    assert (standardise(X)["input_std"] == 1).all()
    found = scale_to_range(X, 3, 4)
    np.testing.assert_allclose((X - found["input_mean"]) / found["input_std"], 3, rtol=1e-6)


def test_a_model_holds_its_scaling(tmp_path: Path) -> None:
    X = inputs()
    plain, scaled = MLP([5, 8, 3], dtype="float64", seed=1), MLP([5, 8, 3], dtype="float64", seed=1, **standardise(X))
    wanted = plain.forward(StandardScaler().fit_transform(X))
    np.testing.assert_allclose(scaled.forward(X), wanted, rtol=1e-9)
    scaled.save(tmp_path / "model")
    np.testing.assert_array_equal(MLP.load(tmp_path / "model").forward(X), scaled.forward(X))


BAD: list[tuple[Any, type[Exception], str]] = [
    ([[1.0, np.nan]], ValueError, "X must be finite"),
    ([[1.0, np.inf], [1.0, 2.0]], ValueError, "X must be finite.* column 1"),
    ([1.0, 2.0], ValueError, "X must be an array"),
    (np.zeros((0, 3)), ValueError, "X must be an array"),
    ([["a"]], TypeError, "X must be an array"),
]


@pytest.mark.parametrize("X, error, message", BAD, ids=str)
def test_bad_inputs_are_refused(X: Any, error: type[Exception], message: str) -> None:
    for function in (standardise, scale_to_range):
        with pytest.raises(error, match=message):
            function(X)


def test_a_bad_range_is_refused() -> None:
    with pytest.raises(ValueError, match="low must be below high"):
        scale_to_range([[1.0]], 1, 1)
    with pytest.raises(ValueError, match=r"high must be above low by a finite number, got low=-1e\+308"):
        scale_to_range([[1.0], [2.0]], -1e308, 1e308)
    with pytest.raises(ValueError, match=r"low and high must be .* high=1e\+308 for column 1 from 0 to 1e-30"):
        scale_to_range([[0.0, 0.0], [1.0, 1e-30]], 0, 1e308)
    with pytest.raises(ValueError, match=r"low and high must be .* for column 0 from 0 to 1$"):
        scale_to_range([[0.0], [1.0]], 0, 1e-310)
    with pytest.raises(TypeError, match="high must be"):
        scale_to_range([[1.0]], 0, "1")  # type: ignore[arg-type]
