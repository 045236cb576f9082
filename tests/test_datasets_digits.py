"""The digits that come with the package."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest

from fastmlp.datasets import Dataset, load_digits


def test_form() -> None:
    digits = load_digits()
    assert isinstance(digits, Dataset)
    assert digits.name == "digits"
    assert digits.image_shape == (8, 8)
    assert digits.classes == 10
    assert digits.X_train.shape == (1442, 64)
    assert digits.X_test.shape == (355, 64)
    assert digits.y_train.shape == (1442,)
    assert digits.y_test.shape == (355,)
    for X, y in ((digits.X_train, digits.y_train), (digits.X_test, digits.y_test)):
        assert X.dtype == np.uint8
        assert y.dtype == np.int64
        assert X.flags.c_contiguous
        assert X.flags.writeable
        assert (X.min(), X.max()) == (0, 16)


def test_split_is_stratified() -> None:
    digits = load_digits()
    assert np.bincount(digits.y_test).tolist() == [35, 36, 35, 36, 36, 36, 36, 35, 34, 36]
    assert np.bincount(digits.y_train).tolist() == [143, 146, 142, 147, 145, 146, 145, 144, 140, 144]


def test_calls_are_equal_and_independent() -> None:
    first, second = load_digits(), load_digits()
    first.X_train[:] = 99
    assert second.X_train.max() == 16
    for field in ("y_train", "X_test", "y_test"):
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))


def test_same_images_and_order_as_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    X, y = datasets.load_digits(return_X_y=True)
    digits = load_digits()
    rank_in_class = np.array([np.sum(y[: i + 1] == y[i]) for i in range(len(y))])
    in_test = rank_in_class % 5 == 0
    np.testing.assert_array_equal(digits.X_train, X[~in_test])
    np.testing.assert_array_equal(digits.y_train, y[~in_test])
    np.testing.assert_array_equal(digits.X_test, X[in_test])
    np.testing.assert_array_equal(digits.y_test, y[in_test])


def test_file_is_small() -> None:
    assert len(resources.files("fastmlp.datasets").joinpath("digits.npz").read_bytes()) < 100_000


def test_scikit_learn_is_not_needed() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None; sys.path[:] = sys.argv[1:]; "
        "from fastmlp.datasets import load_digits; assert len(load_digits().X_test) == 355"
    )
    subprocess.run([sys.executable, "-c", code, *sys.path], check=True)


def test_dataset_is_frozen_and_compares_by_identity() -> None:
    first, second = load_digits(), load_digits()
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.name = "other"  # type: ignore[misc]
    assert first == first
    assert first != second
