"""The optimizers' updates over several steps against the published rules and PyTorch; the coefficients of a step."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import DTYPES, Array
from numba import njit

from fastmlp.kernels import updates
from fastmlp.kernels.layout import round_up
from fastmlp.kernels.linking import kernel_table
from fastmlp.kernels.simd import CACHE_LINE, lanes_of
from fastmlp.optimizers import SGD, Adadelta, Adagrad, Adam, AdamW, Momentum, NAdam, Nesterov, Optimizer, RMSprop

RULES: dict[str, Optimizer] = {
    "sgd": SGD(), "momentum": Momentum(), "nesterov": Nesterov(), "adam": Adam(), "nadam": NAdam(),
    "adam with epsilon hat": Adam(epsilon=1e-3, epsilon_hat=True),
    "nadam with epsilon hat": NAdam(epsilon=1e-3, epsilon_hat=True),
    "adagrad": Adagrad(), "adadelta": Adadelta(), "rmsprop": RMSprop(), "rmsprop with momentum": RMSprop(momentum=0.9),
}
UNTOUCHED = -777.0


def coefficients_of(optimizer: Optimizer, rate: float, step: int, l2: float = 0.0, l1: float = 0.0,
                    clip_value: float = 0.0) -> Array:
    chosen = np.zeros(updates.SETTINGS)
    chosen[updates.OF_OPTIMIZER] = optimizer.settings()
    chosen[[updates.L2, updates.L1, updates.CLIP_VALUE]] = l2, l1, clip_value
    chosen[updates.WEIGHT_DECAY] = optimizer.weight_decay
    coefficients = np.zeros(updates.COEFFICIENTS)
    updates.step_coefficients.py_func(optimizer.code, chosen, rate, step, 1.0, coefficients)
    return coefficients


class Parameters:
    """Parameters and state of an optimizer in whole registers, with more memory after them that must stay."""

    def __init__(self, optimizer: Optimizer, w: Array) -> None:
        self.optimizer, self.length, self.dtype = optimizer, len(w), w.dtype
        self.count = round_up(len(w), lanes_of(w.itemsize))
        self.vectors = np.full((2 + optimizer.slots, self.count + 16), UNTOUCHED, w.dtype)
        self.vectors[:, : self.count] = 0
        self.vectors[0, : len(w)] = w

    @property
    def w(self) -> Array:
        return np.asarray(self.vectors[0, : self.length])

    @property
    def state(self) -> list[Array]:
        return [np.asarray(slot[: self.length]) for slot in self.vectors[2:]]

    @property
    def g(self) -> Array:
        return np.asarray(self.vectors[1, : self.length])

    def update(self, g: Array, rate: float, step: int, l2: float = 0.0, weights: int = 1) -> None:
        self.vectors[1, : self.length] = g
        slots = [*self.vectors[2:], *self.vectors[:2]][:2]  # what an optimizer has no use for is any memory
        coefficients = coefficients_of(self.optimizer, rate, step, l2)
        updates.update(kernel_table(self.dtype), self.optimizer.code, coefficients, weights, self.count,
                       self.vectors[0], self.vectors[1], *slots)
        assert (self.vectors[:, self.count :] == UNTOUCHED).all(), "wrote beyond the count"
        np.testing.assert_array_equal(self.g, g)

    def regularise(self, g: Array, rate: float, weights: int = 1, **settings: float) -> None:
        self.vectors[1, : self.length] = g
        coefficients = coefficients_of(self.optimizer, rate, 1, **settings)
        updates.regularise(kernel_table(self.dtype), coefficients, weights, self.count, *self.vectors[:2])
        assert (self.vectors[:, self.count :] == UNTOUCHED).all(), "wrote beyond the count"


def compare(name: str, dtype: str, length: int, rate: float, l2: float, weights: int, steps: int, seed: int,
            spread: float = 1.0) -> None:
    """Train `steps` steps on random gradients; errors may grow by a few roundings of the largest number a step."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=length).astype(dtype)
    optimizer, rule = RULES[name], name.split()[0]
    found = Parameters(optimizer, w)
    wanted, state = naive.wide(w), naive.new_state(rule, w)
    eps = float(np.finfo(dtype).eps)
    largest = 1.0
    sizes = [0.0 for _ in state]  # the largest number that each slot has held: later ones may cancel
    for step in range(1, steps + 1):
        g = (spread * rng.normal(size=length)).astype(dtype)
        found.update(g, rate, step, l2, weights)
        wanted, state = naive.update(rule, wanted, g, state, rate, step, l2=l2 if weights else 0.0,
                                     **dataclasses.asdict(optimizer))
        largest = max(largest, float(np.abs(wanted).max()), rate * spread * 10)
        # In each step the direction, at most a few long, has a relative error of several roundings.
        np.testing.assert_allclose(found.w, wanted, rtol=0, atol=8 * step * eps * (largest + 20 * rate))
        for i, (slot, exact) in enumerate(zip(found.state, state, strict=True)):
            sizes[i] = max(sizes[i], float(np.abs(exact).max() + largest * l2))
            np.testing.assert_allclose(slot, exact, rtol=0, atol=8 * step * eps * sizes[i])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("length", (1, 15, 16, 17, 33, 100))
def test_ten_updates(name: str, length: int, dtype: str) -> None:
    compare(name, dtype, length, rate=0.01, l2=0.0, weights=1, steps=10, seed=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RULES)
def test_l2_regularisation_is_added_to_the_gradient_of_weights_and_not_of_biases(name: str, dtype: str) -> None:
    compare(name, dtype, 40, rate=0.05, l2=0.3, weights=1, steps=10, seed=1)
    compare(name, dtype, 40, rate=0.05, l2=0.3, weights=0, steps=10, seed=1)


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(sorted(RULES)), length=st.integers(1, 120), rate=st.floats(1e-5, 0.5),
       l2=st.floats(0, 1), weights=st.integers(0, 1), seed=st.integers(0, 1000),
       spread=st.sampled_from([1e-6, 1e-3, 1.0, 1e3]))
def test_updates_of_any_size(dtype: str, name: str, length: int, rate: float, l2: float, weights: int, seed: int,
                             spread: float) -> None:
    compare(name, dtype, length, rate, l2, weights, steps=4, seed=seed, spread=spread)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_update_of_adam_is_one_learning_rate_long_whatever_the_gradient_s_size(dtype: str) -> None:
    """The bias corrections cancel: m / (1 - b1) = g and sqrt(v / (1 - b2)) = |g|."""
    for size in (1e-4, 1.0, 1e4, 1e15):
        found = Parameters(Adam(), np.zeros(3, dtype))
        found.update(np.array([size, -size, 0], dtype), rate=0.25, step=1)
        np.testing.assert_allclose(found.w, [-0.25, 0.25, 0], rtol=2e-4 if size < 1e-3 else 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ("adam", "nadam", "adagrad", "adadelta", "rmsprop", "rmsprop with momentum"))
def test_a_gradient_whose_square_overflows_does_not_make_weights_nan(name: str, dtype: str) -> None:
    size = math.sqrt(float(np.finfo(dtype).max)) * 100
    found = Parameters(RULES[name], np.ones(3, dtype))
    found.update(np.array([size, -size, 1.0], dtype), rate=0.25, step=1)
    assert np.isfinite(found.w).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("value", (np.nan, np.inf))
def test_a_gradient_that_is_not_finite_reaches_its_weight_and_no_other(name: str, dtype: str, value: float) -> None:
    g = np.ones(40, dtype)
    g[21] = value
    found = Parameters(RULES[name], np.ones(40, dtype))
    found.update(g, rate=0.1, step=1)
    np.testing.assert_array_equal(np.isfinite(found.w), np.isfinite(g))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RULES)
def test_zero_gradients_leave_fresh_weights_as_they_are(name: str, dtype: str) -> None:
    w = np.random.default_rng(2).normal(size=33).astype(dtype)
    found = Parameters(RULES[name], w)
    for step in (1, 2, 3):
        found.update(np.zeros(33, dtype), rate=0.1, step=step)
    np.testing.assert_array_equal(found.w, w)


@pytest.mark.parametrize("dtype", DTYPES)
def test_momentum_goes_on_without_a_gradient(dtype: str) -> None:
    found = Parameters(Momentum(), np.zeros(1, dtype))
    found.update(np.ones(1, dtype), rate=1.0, step=1)
    for step in range(2, 40):
        found.update(np.zeros(1, dtype), rate=1.0, step=step)
    assert found.w[0] == pytest.approx(-(1 - 0.9**39) / (1 - 0.9), rel=1e-5)


# ---- regularisation


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=60)
@given(length=st.integers(1, 120), rate=st.floats(1e-5, 0.5), l1=st.sampled_from([0.0, 0.3]),
       weight_decay=st.sampled_from([0.0, 0.1, 5.0]), clip_value=st.sampled_from([0.0, 1e-3, 0.5, 1e30]),
       weights=st.integers(0, 1), seed=st.integers(0, 1000))
def test_regularisation_of_any_size(dtype: str, length: int, rate: float, l1: float, weight_decay: float,
                                    clip_value: float, weights: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w, g = rng.normal(size=(2, length)).astype(dtype)
    w[rng.random(length) < 0.2] = 0.0
    found = Parameters(AdamW(weight_decay=weight_decay), w)
    found.regularise(g, rate, weights, l1=l1, clip_value=clip_value)
    if not weights:
        l1, weight_decay = 0.0, 0.0
    wanted_w, wanted_g = naive.regularise(w, g, rate, l1, weight_decay, clip_value)
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(found.g, wanted_g, rtol=2 * eps, atol=eps * l1)
    np.testing.assert_allclose(found.w, wanted_w, rtol=2 * eps, atol=2 * eps * float(np.abs(w).max()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_regularisation_turned_off_leaves_weights_and_gradients_as_they_are(dtype: str) -> None:
    w, g = np.random.default_rng(0).normal(size=(2, 33)).astype(dtype)
    found = Parameters(SGD(), w)
    found.regularise(g, rate=0.1)
    np.testing.assert_array_equal(found.w, w)
    np.testing.assert_array_equal(found.g, g)


@pytest.mark.parametrize("dtype", DTYPES)
def test_clipping_is_of_the_loss_s_gradient_before_l1_is_added_to_it(dtype: str) -> None:
    found = Parameters(SGD(), np.array([1.0, -1.0, 0.0, -0.0, 1.0], dtype))
    found.regularise(np.array([5.0, -5.0, 5.0, 0.25, -5.0], dtype), rate=0.1, l1=0.25, clip_value=2.0)
    assert found.g.tolist() == [2.25, -2.25, 2.0, 0.25, -1.75]
    assert found.w.tolist() == [1.0, -1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_clipping_keeps_nan_and_makes_infinity_finite(dtype: str) -> None:
    found = Parameters(SGD(), np.ones(4, dtype))
    found.regularise(np.array([np.nan, np.inf, -np.inf, 1.0], dtype), rate=0.1, clip_value=3.0)
    np.testing.assert_array_equal(found.g, [np.nan, 3.0, -3.0, 1.0])
    found.regularise(np.array([np.nan, np.inf, -np.inf, 1.0], dtype), rate=0.1)
    np.testing.assert_array_equal(found.g, [np.nan, np.inf, -np.inf, 1.0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_decay_by_the_learning_rate_before_adam_s_correction_of_it(dtype: str) -> None:
    coefficients = coefficients_of(AdamW(weight_decay=0.5), rate=0.25, step=1)
    assert coefficients[updates.C_WEIGHT_DECAY] == 0.125
    assert coefficients[updates.C_RATE] != 0.25
    found = Parameters(AdamW(weight_decay=0.5), np.array([8.0, -8.0], dtype))
    found.regularise(np.array([1.0, 2.0], dtype), rate=0.25)
    assert found.w.tolist() == [7.0, -7.0]
    assert found.g.tolist() == [1.0, 2.0]


def test_small_decays_are_right_on_average_in_float32() -> None:
    """The factor 1 - 1e-5, rounded to float32, would be 1 - 1.0014e-5."""
    w = np.random.default_rng(0).uniform(1, 2, 10_000).astype("float32")
    found = Parameters(AdamW(weight_decay=0.01), w)
    found.regularise(np.zeros_like(w), rate=1e-3)
    assert np.mean((naive.wide(w) - found.w) / w) == pytest.approx(1e-5, rel=2e-4)


# ---- PyTorch


def torch_optimizer(name: str, torch: Any, parameters: list[Any], l2: float) -> Any:
    optimizer = RULES.get(name, AdamW(weight_decay=0.1))
    options = dataclasses.asdict(optimizer)
    options.pop("epsilon_hat", None)
    if "beta_1" in options:
        options["betas"] = options.pop("beta_1"), options.pop("beta_2")
    if "epsilon" in options:
        options["eps"] = options.pop("epsilon")
    if "decay" in options:
        options["alpha"] = options.pop("decay")
    kind = {"sgd": "SGD", "momentum": "SGD", "nesterov": "SGD"}.get(name, type(optimizer).__name__)
    if name == "nesterov":
        options["nesterov"] = True
    return getattr(torch.optim, kind)(parameters, **{"weight_decay": l2, **options})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*(name for name in RULES if not name.endswith("epsilon hat")), "adamw"])
@pytest.mark.parametrize("l2", (0.0, 0.1))
def test_a_hundred_updates_are_pytorch_s(l2: float, name: str, dtype: str) -> None:
    """With a learning rate that falls; but for momentum, which PyTorch multiplies by the rate of the day only."""
    torch = pytest.importorskip("torch")
    if name == "adamw":
        l2 = 0.0  # PyTorch's has the one or the other
    rng = np.random.default_rng(7)
    w = rng.normal(size=50).astype(dtype)
    wanted = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    torch.set_default_dtype(torch.float64)  # in which PyTorch keeps the product of NAdam's momenta
    try:
        theirs = torch_optimizer(name, torch, [wanted], l2)
        found = Parameters(RULES.get(name, AdamW(weight_decay=0.1)), w)
        for step in range(1, 101):
            rate = 0.02 if name in ("momentum", "nesterov") else 0.02 / (1 + 0.01 * step)
            g = (rng.normal(size=50) + 0.5).astype(dtype)
            theirs.param_groups[0]["lr"] = rate
            wanted.grad = torch.tensor(g, dtype=torch.float64)
            theirs.step()
            found.update(g, rate, step, l2)
    finally:
        torch.set_default_dtype(torch.float32)
    exact = wanted.detach().numpy()
    tolerance = 1e-12 if dtype == "float64" else 20 * np.finfo(dtype).eps
    np.testing.assert_allclose(found.w, exact, rtol=tolerance, atol=tolerance * np.abs(exact).max())
    assert np.abs(exact - w).max() > 1e-3, "nothing moved"


# ---- coefficients


@pytest.mark.parametrize("step", (1, 2, 10, 1000, 100_000, 10**7))
@pytest.mark.parametrize("decays", ((0.9, 0.999), (0.0, 0.0), (0.5, 0.0), (0.0, 0.999), (0.99999, 0.9999999)))
def test_adam_s_coefficients_hold_the_bias_corrections(step: int, decays: tuple[float, float]) -> None:
    """rate' m / (sqrt(v) + eps') must be rate m_hat / (sqrt(v_hat) + eps) for any m and v."""
    found = coefficients_of(Adam(*decays, epsilon=1e-4), 0.01, step, l2=0.3)
    assert found[[updates.C_L2, updates.C_DECAY_1, updates.C_DECAY_2]].tolist() == [0.3, *decays]
    np.testing.assert_allclose(found[[updates.C_GAIN_1, updates.C_GAIN_2]], [1 - decays[0], 1 - decays[1]])
    correction_1, correction_2 = (1 - np.longdouble(decay) ** step for decay in decays)
    for m, v in ((1.0, 1.0), (0.5, 1e-10), (-1e-3, 4.0), (1.0, 0.0)):
        wanted = 0.01 * (m / correction_1) / (np.sqrt(v / correction_2) + np.longdouble(1e-4))
        assert found[updates.C_RATE] * m / (math.sqrt(v) + found[updates.C_EPSILON]) == pytest.approx(
            float(wanted), rel=1e-9)


@pytest.mark.parametrize("beta_1", (0.0, 0.5, 0.9, 0.999, 1 - 2**-53))
def test_nadam_s_coefficients_hold_the_product_of_all_momenta(beta_1: float) -> None:
    """In steps 1 to 300: where the product is taken for zero, it makes no difference any more."""
    momenta = beta_1 * (1 - 0.5 * 0.96 ** (0.004 * np.arange(1, 302)))
    products = np.cumprod(momenta)
    for step in range(1, 301):
        found = coefficients_of(NAdam(beta_1=beta_1), 0.01, step)
        wanted = [(1 - momenta[step - 1]) / (1 - products[step - 1]), momenta[step] / (1 - products[step])]
        np.testing.assert_allclose(found[[updates.C_SLOPE, updates.C_MOMENT]], wanted, rtol=1e-14)
    assert 1.0 - products[updates.NADAM_STEPS - 1] == 1.0


@pytest.mark.parametrize("name", RULES)
def test_coefficients_are_the_same_compiled_and_whatever_stood_there_before(name: str) -> None:
    """A thread's row of coefficients is used again and again; another's is fresh."""

    @njit
    def compiled(optimizer: int, chosen: Array, rate: float, step: int, coefficients: Array) -> None:
        updates.step_coefficients(optimizer, chosen, rate, step, 1.0, coefficients)

    optimizer = RULES[name]
    chosen = np.zeros(updates.SETTINGS)
    chosen[updates.OF_OPTIMIZER] = optimizer.settings()
    used = np.full(updates.COEFFICIENTS, np.nan)
    for step in (1, 2, 3, 50, 63, 64, 65, 66, 1000, 10**7):
        fresh = np.full(updates.COEFFICIENTS, np.nan)
        compiled(optimizer.code, chosen, 0.1, step, fresh)
        compiled(optimizer.code, chosen, 0.1, step, used)
        known = np.isfinite(fresh) | (np.arange(len(fresh)) == updates.C_CLIP_VALUE)
        np.testing.assert_array_equal(used[known], fresh[known])
        np.testing.assert_allclose(coefficients_of(optimizer, 0.1, step)[known], fresh[known], rtol=1e-13)


@pytest.mark.parametrize("name", ("sgd", "momentum", "nesterov", "rmsprop", "rmsprop with momentum", "adadelta"))
def test_the_other_optimizers_coefficients_are_the_settings(name: str) -> None:
    for step in (1, 7):
        found = coefficients_of(RULES[name], 0.125, step, l2=0.5)
        places = [updates.C_RATE, updates.C_L2, updates.C_DECAY_1, updates.C_DECAY_2, updates.C_EPSILON]
        assert found[places].tolist() == [0.125, 0.5, *RULES[name].settings()[:3]]


def test_adagrad_s_squares_are_summed_whatever_decay_stands_in_the_settings() -> None:
    chosen, coefficients = np.full(updates.SETTINGS, 0.75), np.zeros(updates.COEFFICIENTS)
    updates.step_coefficients.py_func(updates.ADAGRAD, chosen, 0.1, 5, 1.0, coefficients)
    assert coefficients[[updates.C_DECAY_2, updates.C_GAIN_2]].tolist() == [1.0, 1.0]


def test_codes_and_places_are_distinct_and_fit() -> None:
    codes = [updates.WRITE_GRADIENT, updates.SGD, updates.MOMENTUM, updates.NESTEROV, updates.ADAM, updates.ADAGRAD,
             updates.ADADELTA, updates.RMSPROP, updates.NADAM]
    assert codes == list(range(9))
    assert set(updates.STATE_SLOTS) == set(codes)
    places = [updates.L2, updates.DECAY_1, updates.DECAY_2, updates.EPSILON, updates.EPSILON_HAT, updates.L1,
              updates.WEIGHT_DECAY, updates.CLIP_VALUE, updates.CLIP_NORM, updates.DECAYS_BIASES, updates.LOSS_SCALE,
              updates.L2_OF_SUM]
    assert places == list(range(updates.SETTINGS))
    places = [updates.C_RATE, updates.C_L2, updates.C_DECAY_1, updates.C_GAIN_1, updates.C_DECAY_2, updates.C_GAIN_2,
              updates.C_EPSILON, updates.C_SLOPE, updates.C_MOMENT, updates.C_L1, updates.C_WEIGHT_DECAY,
              updates.C_CLIP_VALUE, updates.C_REGULARISES, updates.C_DECAYS_BIASES]
    assert len(set(places)) == len(places)
    assert max(places) < updates.COEFFICIENTS
    assert updates.COEFFICIENTS * 8 % CACHE_LINE == 0, "threads would write to one cache line"


# ---- threads


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", RULES)
def test_parameters_shared_out_over_threads_come_out_the_same(name: str, dtype: str) -> None:
    rng = np.random.default_rng(3)
    w, gradients = rng.normal(size=480).astype(dtype), rng.normal(size=(3, 480)).astype(dtype)

    def train(first: int, last: int) -> Array:
        found = Parameters(RULES[name], w[first:last])
        for step, g in enumerate(gradients, 1):
            found.update(g[first:last], 0.1, step, l2=0.1)
        return found.w

    parts = naive.in_threads(lambda: train(0, 48), lambda: train(48, 64), lambda: train(64, 480))
    np.testing.assert_array_equal(np.concatenate(parts), train(0, 480))
