"""The optimizers' updates over several steps against the published rules; what the coefficients of a step are."""

from __future__ import annotations

import math
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import DTYPES, Array

from fastmlp.kernels import updates
from fastmlp.kernels.layout import round_up
from fastmlp.kernels.linking import kernel_table
from fastmlp.kernels.simd import lanes_of

CODES = {"sgd": updates.SGD, "momentum": updates.MOMENTUM, "nesterov": updates.NESTEROV, "adam": updates.ADAM}
UNTOUCHED = -777.0
DECAYS = {"sgd": (0.0, 0.0), "momentum": (0.9, 0.0), "nesterov": (0.9, 0.0), "adam": (0.9, 0.999)}


def coefficients_of(name: str, rate: float, step: int, l2: float = 0.0, epsilon: float = 1e-8,
                    decays: tuple[float, float] | None = None) -> Array:
    chosen = np.zeros(updates.SETTINGS)
    chosen[[updates.L2, updates.EPSILON]] = l2, epsilon
    chosen[[updates.DECAY_1, updates.DECAY_2]] = decays or DECAYS[name]
    coefficients = np.zeros(updates.COEFFICIENTS)
    updates.step_coefficients.py_func(CODES[name], chosen, rate, step, coefficients)
    return coefficients


class Parameters:
    """Parameters and state of an optimizer in whole registers, with more memory after them that must stay."""

    def __init__(self, name: str, w: Array) -> None:
        self.name, self.length, self.dtype = name, len(w), w.dtype
        self.count = round_up(len(w), lanes_of(w.itemsize))
        slots = updates.STATE_SLOTS[CODES[name]]
        self.vectors = np.full((2 + slots, self.count + 16), UNTOUCHED, w.dtype)
        self.vectors[:, : self.count] = 0
        self.vectors[0, : len(w)] = w

    @property
    def w(self) -> Array:
        return np.asarray(self.vectors[0, : self.length])

    @property
    def state(self) -> list[Array]:
        return [np.asarray(slot[: self.length]) for slot in self.vectors[2:]]

    def update(self, g: Array, rate: float, step: int, l2: float = 0.0, weights: int = 1, **options: Any) -> None:
        self.vectors[1, : self.length] = g
        slots = [*self.vectors[2:], *self.vectors[:2]][:2]  # what an optimizer has no use for is any memory
        coefficients = coefficients_of(self.name, rate, step, l2, **options)
        updates.update(kernel_table(self.dtype), CODES[self.name], coefficients, weights, self.count, self.vectors[0],
                       self.vectors[1], *slots)
        assert (self.vectors[:, self.count :] == UNTOUCHED).all(), "wrote beyond the count"
        np.testing.assert_array_equal(self.vectors[1, : self.length], g)


def compare(name: str, dtype: str, length: int, rate: float, l2: float, weights: int, steps: int, seed: int,
            spread: float = 1.0) -> None:
    """Train `steps` steps on random gradients; errors may grow by a few roundings of the largest number a step."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=length).astype(dtype)
    found = Parameters(name, w)
    wanted, state = naive.wide(w), naive.new_state(name, w)
    eps = float(np.finfo(dtype).eps)
    largest = 1.0
    sizes = [0.0 for _ in state]  # the largest number that each slot has held: later ones may cancel
    for step in range(1, steps + 1):
        g = (spread * rng.normal(size=length)).astype(dtype)
        found.update(g, rate, step, l2, weights)
        wanted, state = naive.update(name, wanted, g, state, rate, step, l2=l2 if weights else 0.0)
        largest = max(largest, float(np.abs(wanted).max()), rate * spread * 10)
        # In each step Adam's direction, at most a few long, has a relative error of several roundings.
        np.testing.assert_allclose(found.w, wanted, rtol=0, atol=8 * step * eps * (largest + 20 * rate))
        for i, (slot, exact) in enumerate(zip(found.state, state, strict=True)):
            sizes[i] = max(sizes[i], float(np.abs(exact).max() + largest * l2))
            np.testing.assert_allclose(slot, exact, rtol=0, atol=8 * step * eps * sizes[i])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("length", (1, 15, 16, 17, 33, 100))
def test_ten_updates(name: str, length: int, dtype: str) -> None:
    compare(name, dtype, length, rate=0.01, l2=0.0, weights=1, steps=10, seed=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
def test_l2_regularisation_is_added_to_the_gradient_of_weights_and_not_of_biases(name: str, dtype: str) -> None:
    compare(name, dtype, 40, rate=0.05, l2=0.3, weights=1, steps=10, seed=1)
    compare(name, dtype, 40, rate=0.05, l2=0.3, weights=0, steps=10, seed=1)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(sorted(CODES)), length=st.integers(1, 120), rate=st.floats(1e-5, 0.5),
       l2=st.floats(0, 1), weights=st.integers(0, 1), seed=st.integers(0, 1000),
       spread=st.sampled_from([1e-6, 1e-3, 1.0, 1e3]))
def test_updates_of_any_size(dtype: str, name: str, length: int, rate: float, l2: float, weights: int, seed: int,
                             spread: float) -> None:
    compare(name, dtype, length, rate, l2, weights, steps=4, seed=seed, spread=spread)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_update_of_adam_is_one_learning_rate_long_whatever_the_gradient_s_size(dtype: str) -> None:
    """The bias corrections cancel: m / (1 - b1) = g and sqrt(v / (1 - b2)) = |g|."""
    for size in (1e-4, 1.0, 1e4, 1e15):
        found = Parameters("adam", np.zeros(3, dtype))
        found.update(np.array([size, -size, 0], dtype), rate=0.25, step=1)
        np.testing.assert_allclose(found.w, [-0.25, 0.25, 0], rtol=2e-4 if size < 1e-3 else 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_whose_square_overflows_does_not_make_adam_s_weights_nan(dtype: str) -> None:
    size = math.sqrt(float(np.finfo(dtype).max)) * 100
    found = Parameters("adam", np.ones(3, dtype))
    found.update(np.array([size, -size, 1.0], dtype), rate=0.25, step=1)
    assert np.isfinite(found.w).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("value", (np.nan, np.inf))
def test_a_gradient_that_is_not_finite_reaches_its_weight_and_no_other(name: str, dtype: str, value: float) -> None:
    g = np.ones(40, dtype)
    g[21] = value
    found = Parameters(name, np.ones(40, dtype))
    found.update(g, rate=0.1, step=1)
    np.testing.assert_array_equal(np.isfinite(found.w), np.isfinite(g))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
def test_zero_gradients_leave_fresh_weights_as_they_are(name: str, dtype: str) -> None:
    w = np.random.default_rng(2).normal(size=33).astype(dtype)
    found = Parameters(name, w)
    for step in (1, 2, 3):
        found.update(np.zeros(33, dtype), rate=0.1, step=step)
    np.testing.assert_array_equal(found.w, w)


@pytest.mark.parametrize("dtype", DTYPES)
def test_momentum_goes_on_without_a_gradient(dtype: str) -> None:
    found = Parameters("momentum", np.zeros(1, dtype))
    found.update(np.ones(1, dtype), rate=1.0, step=1)
    for step in range(2, 40):
        found.update(np.zeros(1, dtype), rate=1.0, step=step)
    assert found.w[0] == pytest.approx(-(1 - 0.9**39) / (1 - 0.9), rel=1e-5)


# ---- coefficients


@pytest.mark.parametrize("step", (1, 2, 10, 1000, 100_000, 10**7))
@pytest.mark.parametrize("decays", ((0.9, 0.999), (0.0, 0.0), (0.5, 0.0), (0.0, 0.999), (0.99999, 0.9999999)))
def test_adam_s_coefficients_hold_the_bias_corrections(step: int, decays: tuple[float, float]) -> None:
    """rate' m / (sqrt(v) + eps') must be rate m_hat / (sqrt(v_hat) + eps) for any m and v."""
    found = coefficients_of("adam", 0.01, step, l2=0.3, epsilon=1e-4, decays=decays)
    assert found[[updates.C_L2, updates.C_DECAY_1, updates.C_DECAY_2]].tolist() == [0.3, *decays]
    np.testing.assert_allclose(found[[updates.C_GAIN_1, updates.C_GAIN_2]], [1 - decays[0], 1 - decays[1]])
    correction_1, correction_2 = (1 - np.longdouble(decay) ** step for decay in decays)
    for m, v in ((1.0, 1.0), (0.5, 1e-10), (-1e-3, 4.0), (1.0, 0.0)):
        wanted = 0.01 * (m / correction_1) / (np.sqrt(v / correction_2) + np.longdouble(1e-4))
        assert found[updates.C_RATE] * m / (math.sqrt(v) + found[updates.C_EPSILON]) == pytest.approx(
            float(wanted), rel=1e-9)


@pytest.mark.parametrize("name", ("sgd", "momentum", "nesterov"))
def test_the_other_optimizers_coefficients_are_the_settings(name: str) -> None:
    for step in (1, 7):
        found = coefficients_of(name, 0.125, step, l2=0.5)
        assert found[[updates.C_RATE, updates.C_L2, updates.C_DECAY_1]].tolist() == [0.125, 0.5, DECAYS[name][0]]


def test_codes_and_places_are_distinct_and_fit() -> None:
    assert len({updates.WRITE_GRADIENT, *CODES.values()}) == 5
    assert set(updates.STATE_SLOTS) == {updates.WRITE_GRADIENT, *CODES.values()}
    assert {updates.L2, updates.DECAY_1, updates.DECAY_2, updates.EPSILON} == set(range(updates.SETTINGS))
    places = [updates.C_RATE, updates.C_L2, updates.C_DECAY_1, updates.C_GAIN_1, updates.C_DECAY_2, updates.C_GAIN_2,
              updates.C_EPSILON]
    assert len(set(places)) == len(places)
    assert max(places) < updates.COEFFICIENTS


# ---- threads


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CODES)
def test_parameters_shared_out_over_threads_come_out_the_same(name: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    w, gradients = rng.normal(size=480).astype(dtype), rng.normal(size=(3, 480)).astype(dtype)

    def train(first: int, last: int) -> Array:
        found = Parameters(name, w[first:last])
        for step, g in enumerate(gradients, 1):
            found.update(g[first:last], 0.1, step, l2=0.1)
        return found.w

    parts = naive.in_threads(lambda: train(0, 48), lambda: train(48, 64), lambda: train(64, 480))
    np.testing.assert_array_equal(np.concatenate(parts), train(0, 480))
