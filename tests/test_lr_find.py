"""The learning-rate range test: what is measured, when it ends, what it suggests; the model stays as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import MLP, Dense, Trainer
from fastmlp.lr_find import LearningRates, _row_order, lr_find
from fastmlp.optimizers import Adam

Array = np.ndarray[Any, Any]


def make_data(rows: int = 200, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 6)).astype(np.float32)
    return X, (X @ rng.normal(size=(6, 3))).argmax(axis=1)


def make_model(**options: Any) -> MLP:
    return MLP([6, 16, 3], seed=0, **options)


def bits(model: MLP) -> list[bytes]:
    return [array.tobytes() for array in model.get_weights()]


def smooth(losses: Any, share: float) -> list[float]:
    """The moving average of the losses so far, each with its weight written out."""
    averages = []
    for t in range(1, len(losses) + 1):
        weights = share * (1 - share) ** np.arange(t - 1, -1, -1)
        averages.append(float(weights @ losses[:t] / weights.sum()))
    return averages


# ---- what is measured


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd", "nesterov"])
def test_each_rate_makes_one_step(optimizer: str, dtype: str) -> None:
    X, y = make_data()
    found = lr_find(make_model(dtype=dtype), X, y, optimizer=optimizer, lowest=1e-4, highest=0.1, steps=30,
                    batch_size=50, seed=3)
    model = make_model(dtype=dtype)
    trainer = Trainer(model, optimizer=optimizer)
    expected = []
    for rate, rows in zip(10.0 ** np.linspace(-4, -1, 30), _row_order(200, 50, 30, 3), strict=True):
        trainer.learning_rate = rate
        expected.append(trainer.step(X[rows], y[rows]))
    np.testing.assert_allclose(found.losses, expected, rtol=1e-4 if dtype == "float32" else 1e-10)
    np.testing.assert_allclose(found.rates, 10.0 ** np.linspace(-4, -1, 30), rtol=1e-12)
    np.testing.assert_allclose(found.smoothed, smooth(found.losses, 0.1), rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.02, 0.5, 1.0])
def test_losses_are_smoothed(smoothing: float) -> None:
    found = lr_find(make_model(), *make_data(), smoothing=smoothing, highest=0.1)
    np.testing.assert_allclose(found.smoothed, smooth(found.losses, smoothing), rtol=1e-12)
    if smoothing == 1.0:
        np.testing.assert_allclose(found.smoothed, found.losses, rtol=1e-12)


@given(rows=st.integers(1, 50), batch=st.integers(1, 60), steps=st.integers(2, 30))
def test_every_row_is_taken_before_any_is_taken_again(rows: int, batch: int, steps: int) -> None:
    order = _row_order(rows, min(batch, rows), steps, 0)
    assert order.shape == (steps, min(batch, rows))
    counts = np.bincount(order.ravel(), minlength=rows)
    assert counts.max() - counts.min() <= 1
    assert len(counts) == rows


@pytest.mark.parametrize("optimizer", ["adam", Adam(beta_1=0.5)])
def test_the_model_is_not_changed(optimizer: Any) -> None:
    model = make_model()
    before = bits(model)
    parameters = model.network.parameters.copy()
    lr_find(model, *make_data(), optimizer=optimizer)
    assert bits(model) == before
    np.testing.assert_array_equal(model.network.parameters, parameters)


def test_the_same_seed_gives_the_same_result_and_another_another() -> None:
    first, again, other, any_order = (lr_find(make_model(), *make_data(), highest=0.1, seed=seed)
                                      for seed in (1, 1, 2, None))
    np.testing.assert_array_equal(first.losses, again.losses)
    assert (first.losses != other.losses).any()
    assert (first.losses != any_order.losses).any()


def test_every_loss_and_kind_of_target() -> None:
    X, labels = make_data()
    values = X[:, :1] * 2
    for output, loss, y in (("identity", "mean_squared_error", values), ("identity", "huber", values[:, 0].tolist()),
                            ("sigmoid", "binary_cross_entropy", (values > 0).astype(float))):
        model = MLP([6, Dense(8, dropout=0.1), 1], output=output, seed=0)
        assert lr_find(model, X.tolist(), y, loss, highest=0.01, steps=20).losses.shape == (20,)
    probabilities = np.eye(3)[labels]
    np.testing.assert_allclose(lr_find(make_model(), X, probabilities, highest=0.1).losses,
                               lr_find(make_model(), X, labels, highest=0.1).losses, rtol=1e-5)


# ---- when it ends


def test_it_ends_when_the_smoothed_loss_is_four_times_the_best() -> None:
    X, y = make_data()
    found = lr_find(make_model(), X, y, optimizer="sgd", highest=1e6)
    assert 10 < len(found.rates) < 100
    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    assert found.smoothed[-1] > 4 * found.smoothed[:-1].min()
    assert (found.smoothed[:-1] <= 4 * np.minimum.accumulate(found.smoothed[:-1])).all()


def test_a_loss_that_is_not_finite_ends_it_without_a_warning() -> None:
    X, y = make_data()
    model = MLP([6, 16, 1], output="identity", seed=0)
    found = lr_find(model, X * 1e15, y.astype(float), "mean_squared_error", "sgd", lowest=1e10, highest=1e30)
    assert len(found.rates) < 3
    assert np.isfinite(found.losses).all()
    assert found.suggestion is None


def test_a_negative_loss_is_not_four_times_the_best() -> None:
    """The loss of Poisson regression is below zero where the rates are high."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 6))
    y = rng.poisson(20.0, 200)
    model = MLP([6, 8, 1], output="exponential", dtype="float64", seed=0)
    Trainer(model, "poisson", learning_rate=0.01).fit(X, y, epochs=60, progress=False)
    found = lr_find(model, X, y, "poisson", highest=1e-5, steps=40)
    assert (found.losses < 0).all()
    assert len(found.rates) == 40


# ---- what it suggests


def rates_of(smoothed: Any) -> LearningRates:
    values = np.array(smoothed, np.float64)
    return LearningRates(np.geomspace(1e-6, 1.0, len(values)), values, values)


def test_the_suggestion_is_where_the_loss_falls_most_steeply() -> None:
    log_rate = np.linspace(-6, 0, 61)
    found = rates_of(1 / (1 + np.exp(4 * (log_rate + 2))))  # steepest at 0.01
    assert found.suggestion == pytest.approx(1e-2, rel=0.3)


def test_noise_before_the_fall_and_the_way_back_from_a_spike_do_not_count() -> None:
    plateau = [2.0, 1.4, 2.0] + [2.0] * 7
    fall = [1.9, 1.6, 1.4, 1.3]
    spike = [1.5, 5.0, 1.8]
    found = rates_of(plateau + fall + spike)
    assert found.suggestion == found.rates[11]


@pytest.mark.parametrize("smoothed", [[], [1.0], [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]])
def test_no_suggestion_where_nothing_falls(smoothed: list[float]) -> None:
    assert rates_of(smoothed).suggestion is None


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "momentum"])
def test_the_suggestion_learns(optimizer: str) -> None:
    X, y = make_data(1000)
    rate = lr_find(make_model(), X, y, optimizer=optimizer).suggestion
    assert rate is not None
    losses = {}
    for factor in (1.0, 1e-3):
        trainer = Trainer(make_model(), optimizer=optimizer, learning_rate=rate * factor)
        losses[factor] = trainer.fit(X, y, epochs=3, progress=False)["loss"][-1]
    assert losses[1.0] < 0.4 < losses[1e-3]


# ---- the plot


@pytest.fixture
def pyplot() -> Iterator[Any]:
    matplotlib = pytest.importorskip("matplotlib")
    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")
    matplotlib.use(before)


@pytest.mark.parametrize(("smoothed", "lines"), [([3.0, 3.0, 2.0, 1.0], 3), ([1.0, 2.0], 2), ([], 2)])
def test_the_plot_shows_losses_and_suggestion(smoothed: list[float], lines: int, pyplot: Any) -> None:
    found = rates_of(smoothed)
    axes = found.plot()
    assert axes.get_xscale() == "log"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("learning rate", "loss")
    assert len(axes.get_lines()) == lines
    np.testing.assert_array_equal(axes.get_lines()[1].get_xdata(), found.rates)
    np.testing.assert_array_equal(axes.get_lines()[1].get_ydata(), found.smoothed)
    if found.suggestion is not None:
        assert axes.get_lines()[2].get_xdata()[0] == found.suggestion
    axes.figure.canvas.draw()


def test_without_matplotlib_the_plot_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install fastmlp\[plot\]"):
        rates_of([2.0, 1.0]).plot()


# ---- what is refused


@pytest.mark.parametrize(("arguments", "error", "name"), [
    ({"model": "adam"}, TypeError, "model"),
    ({"X": np.zeros((4, 5))}, ValueError, "X"),
    ({"X": np.full((200, 6), np.nan)}, ValueError, "X"),
    ({"y": np.full(200, 7)}, ValueError, "y"),
    ({"loss": "entropy"}, ValueError, "loss"),
    ({"optimizer": "bfgs"}, ValueError, "optimizer"),
    ({"optimizer": "lbfgs"}, ValueError, "optimizer"),
    ({"lowest": 0.0}, ValueError, "lowest"),
    ({"lowest": "low"}, TypeError, "lowest"),
    ({"highest": 1e-7}, ValueError, "highest"),
    ({"highest": float("inf")}, ValueError, "highest"),
    ({"steps": 1}, ValueError, "steps"),
    ({"steps": 9.0}, TypeError, "steps"),
    ({"batch_size": 0}, ValueError, "batch_size"),
    ({"smoothing": 0.0}, ValueError, "smoothing"),
    ({"smoothing": 1.1}, ValueError, "smoothing"),
    ({"seed": -1}, ValueError, "seed"),
])
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], name: str) -> None:
    X, y = make_data()
    with pytest.raises(error, match=f"^{name} must "):
        lr_find(**{"model": make_model(), "X": X, "y": y, **arguments})
