"""The description of an augmentation: its checks, its settings, and what `apply` shows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, Trainer, engine
from fastmlp.augmentation import Augmentation
from fastmlp.kernels import augmentation as codes
from fastmlp.thread_choice import SLICE_SECONDS, ThreadChoice


def test_by_default_nothing_changes() -> None:
    X = np.random.default_rng(0).normal(size=(5, 784)).astype(np.float32)
    found = Augmentation().apply(X)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, X)


def test_settings_are_those_of_the_kernels() -> None:
    augmentation = Augmentation((5, 7), 1, 2, 0.3, 4, 5, 6, 7)
    assert augmentation.inputs == 35
    settings = augmentation.settings()
    assert settings.dtype == np.float64
    named = {codes.SHIFT: 1, codes.ROTATION: 2, codes.SCALING: 0.3, codes.SHEAR: 4, codes.ELASTIC_ALPHA: 5,
             codes.ELASTIC_SIGMA: 6, codes.NOISE: 7}
    assert settings.tolist() == [named[number] for number in range(codes.SETTINGS)]


def test_an_augmentation_is_a_value() -> None:
    assert Augmentation(shift=2) == Augmentation(shift=2)
    assert hash(Augmentation(shift=2)) == hash(Augmentation(shift=2))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Augmentation().shift = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(("name", "value", "error"), [
    ("shape", 28, TypeError), ("shape", [28, 28], TypeError), ("shape", (28,), TypeError),
    ("shape", (28, 28.0), TypeError), ("shape", (0, 28), ValueError), ("shape", (28, 16385), ValueError),
    ("shift", -1, ValueError), ("shift", "1", TypeError), ("shift", np.inf, ValueError),
    ("rotation", 181, ValueError), ("rotation", np.nan, ValueError), ("rotation", None, TypeError),
    ("scaling", 1.0, ValueError), ("scaling", -0.1, ValueError),
    ("shear", 90, ValueError), ("shear", True, TypeError),
    ("elastic_alpha", -1, ValueError), ("elastic_alpha", 1e7, ValueError),
    ("elastic_sigma", 0, ValueError), ("elastic_sigma", 1e5, ValueError),
    ("noise", -0.5, ValueError), ("noise", [1], TypeError),
])
def test_arguments_out_of_range_are_named(name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{name}.* must be .*, got "):
        Augmentation(**{name: value})


def test_numbers_are_kept_as_plain_ones(tmp_path: Path) -> None:
    given: dict[str, Any] = {"shape": (np.int64(2), np.int32(2)), "shift": Fraction(1, 2), "noise": np.float32(0.25)}
    augmentation = Augmentation(**given)
    assert augmentation == Augmentation((2, 2), 0.5, noise=0.25)
    assert {type(value) for value in vars(augmentation).values()} == {tuple, float}
    Trainer(MLP([4, 2]), augmentation=augmentation).save(tmp_path / "trainer")
    assert Trainer.load(tmp_path / "trainer").augmentation == augmentation


def test_the_sides_of_the_shape_are_named() -> None:
    with pytest.raises(ValueError, match="the width in shape must be an integer from 1 to 16384, got 0"):
        Augmentation(shape=(28, 0))


@pytest.mark.parametrize("kind", ("float32", "float64", "uint8", "int16"))
def test_pictures_are_in_the_order_and_the_units_of_the_rows(kind: str) -> None:
    """Shifts below a pixel keep a picture of one number nearly as it is, but for its edges."""
    X = np.repeat(np.arange(1, 201, dtype=kind)[:, None], 63, axis=1)
    found = Augmentation((7, 9), shift=0.9).apply(X).reshape(-1, 7, 9)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 1:-1, 1:-1], np.broadcast_to(X[:, :1, None], (200, 5, 7)), rtol=1e-5)
    assert (found[:, 0] < found[:, 1]).any()


def test_rows_may_lie_apart_and_backwards() -> None:
    X = np.random.default_rng(0).normal(size=(20, 40))
    augmentation = Augmentation((5, 6), rotation=20, noise=0.1)
    np.testing.assert_array_equal(augmentation.apply(X[::-2, 3:33]), augmentation.apply(X[::-2, 3:33].copy()))
    assert augmentation.apply(X[:0, :30]).shape == (0, 30)


def test_seed_and_step_decide() -> None:
    X = np.random.default_rng(0).random((4, 784))
    augmentation = Augmentation(shift=2, elastic_alpha=36, noise=0.1)
    first = augmentation.apply(X, seed=1, step=2)
    np.testing.assert_array_equal(augmentation.apply(X, 1, 2), first)
    np.testing.assert_array_equal(augmentation.apply(X[:2], 1, 2), first[:2])
    for seed, step in ((2, 2), (1, 3), (2**63 - 1, 2**63 - 1)):
        assert (augmentation.apply(X, seed, step) != first).any(axis=1).all()


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ((np.zeros((2, 783)),), ValueError, "X must be .*784"),
    ((np.zeros((2, 28, 28)),), ValueError, "X must be .*784"),
    ((np.full((2, 784), np.nan),), ValueError, "X must be finite"),
    (("pictures",), TypeError, "X must be"),
    ((np.zeros((2, 784)), -1), ValueError, "seed must be an integer from 0 to .*, got -1"),
    ((np.zeros((2, 784)), 0.5), TypeError, "seed must be"),
    ((np.zeros((2, 784)), 0, -1), ValueError, "step must be"),
    ((np.zeros((2, 784)), 0, True), TypeError, "step must be"),
])
def test_apply_names_what_is_wrong(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Augmentation(shift=1).apply(*arguments)


@pytest.mark.parametrize("number_of_threads", (1, 2))
@pytest.mark.parametrize("hidden", (20, 700))  # which is trained in groups of rows, and by panels
@pytest.mark.parametrize("options", ({}, {"accumulation": 2}), ids=str)
def test_training_sees_what_apply_shows(options: dict[str, int], hidden: int, number_of_threads: int,
                                        threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    threads(number_of_threads)
    monkeypatch.setattr(engine, "LEAST_PARALLEL_WORK", 1)
    monkeypatch.setattr(ThreadChoice, "next", lambda choice: (choice.many, SLICE_SECONDS))
    rng = np.random.default_rng(0)
    rows, batch, seed = 620, 307, 5
    X, y = rng.normal(size=(rows, 63)).astype(np.float32), rng.integers(0, 3, rows)
    augmentation = Augmentation((7, 9), shift=2, rotation=20, scaling=0.1, shear=5, noise=0.3)
    of_a_step = batch * options.get("accumulation", 1)
    shown = np.concatenate([augmentation.apply(X[begin : begin + of_a_step], seed, step)
                            for step, begin in enumerate(range(0, rows, of_a_step))])
    seen, wanted = (Trainer(MLP([63, hidden, 3]), batch_size=batch, seed=seed, **changes, **options)
                    for changes in ({"augmentation": augmentation}, {}))
    seen.fit(X, y, epochs=1, shuffle=False, progress=False)
    wanted.fit(shown, y, epochs=1, shuffle=False, progress=False)
    for found, expected in zip(seen.model.get_weights(), wanted.model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
