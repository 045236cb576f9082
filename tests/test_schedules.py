"""Learning-rate schedules: their values, step by step."""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from comparing import bits
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp import MLP, Callback, Trainer, engine
from fastmlp.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    Function,
    InverseScaling,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    Span,
    StepDecay,
    WarmUp,
    check_schedule,
)

Array = np.ndarray[Any, Any]


def rates_of(schedule: Schedule, learning_rate: float, horizon: int, steps_per_epoch: int = 1, updates: int = 0,
             epochs: int = 0) -> Array:
    """All rates of a call of `fit` after some updates and epochs."""
    span = Span(horizon, steps_per_epoch, updates, epochs * steps_per_epoch, {})
    return schedule.rates(learning_rate, np.arange(horizon), span)


def half_cosine(start: float, end: float, share: float) -> float:
    """From `start` to `end` along half a cosine, as PyTorch writes it."""
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)


def pytorch_one_cycle(max_lr: float, total_steps: int) -> list[float]:
    """The rates of OneCycleLR(max_lr, total_steps) with its defaults, from its documentation."""
    initial, minimal = max_lr / 25.0, max_lr / 25.0 / 1e4
    peak = 0.3 * total_steps - 1
    rates = []
    for step in range(total_steps):
        if step <= peak:
            rates.append(half_cosine(initial, max_lr, step / peak))
        else:
            rates.append(half_cosine(max_lr, minimal, (step - peak) / (total_steps - 1 - peak)))
    return rates


def test_constant_is_the_same_for_every_step() -> None:
    np.testing.assert_array_equal(rates_of(Constant(), 0.25, 7), np.full(7, 0.25))


# ---- one cycle


def test_one_cycle_at_the_steps_that_are_known_by_hand() -> None:
    rates = rates_of(OneCycle(), 0.5, 100)  # the peak is at step 0.3 * 100 - 1 = 29
    assert rates[0] == pytest.approx(0.5 / 25, rel=1e-12)
    assert rates[29] == pytest.approx(0.5, rel=1e-12)
    assert rates[64] == pytest.approx((0.5 + 0.5 / 250_000) / 2, rel=1e-12)  # half of the way down
    assert rates[99] == pytest.approx(0.5 / 250_000, rel=1e-9)
    assert rates.argmax() == 29
    assert (np.diff(rates[:30]) > 0).all()
    assert (np.diff(rates[29:]) < 0).all()


# From OneCycleLR(max_lr=0.1, total_steps=10) and (max_lr=1.0, total_steps=1000) in PyTorch 2.
PYTORCH_10 = [0.0040000000000000036, 0.052000000000000005, 0.1, 0.09504846320134738, 0.0811745653949763,
              0.06112620219362893, 0.03887419780637107, 0.0188258346050237, 0.004951936798652629, 4e-07]
PYTORCH_1000 = {0: 0.040000000000000036, 100: 0.2814573614486898, 299: 1.0, 500: 0.8099881015401794,
                650: 0.49775802175648615, 998: 9.035483855369959e-06, 999: 4e-06}


def test_one_cycle_equals_recorded_values_of_pytorch() -> None:
    np.testing.assert_allclose(rates_of(OneCycle(), 0.1, 10), PYTORCH_10, rtol=1e-9)
    rates = rates_of(OneCycle(), 1.0, 1000)
    np.testing.assert_allclose(rates[list(PYTORCH_1000)], list(PYTORCH_1000.values()), rtol=1e-9)


@pytest.mark.parametrize("horizon", [2, 3, 4, 5, 7, 10, 33, 100, 1000])
def test_one_cycle_equals_the_formula_of_pytorch(horizon: int) -> None:
    np.testing.assert_allclose(rates_of(OneCycle(), 0.3, horizon), pytorch_one_cycle(0.3, horizon), rtol=1e-9)


@settings(deadline=None)
@given(learning_rate=st.floats(1e-6, 10), horizon=st.integers(1, 400))
def test_one_cycle_stays_within_its_limits(learning_rate: float, horizon: int) -> None:
    rates = rates_of(OneCycle(), learning_rate, horizon)
    assert (rates >= learning_rate / 25e4 * (1 - 1e-9)).all()
    assert (rates <= learning_rate * (1 + 1e-12)).all()


# ---- values known by hand


def test_step_decay_by_hand() -> None:
    rates = rates_of(StepDecay(every=2, factor=0.5), 0.8, horizon=15, steps_per_epoch=3)
    np.testing.assert_array_equal(rates, [0.8] * 6 + [0.4] * 6 + [0.2] * 3)
    later = rates_of(StepDecay(every=2, factor=0.5), 0.8, horizon=6, steps_per_epoch=3, epochs=3, updates=50)
    np.testing.assert_array_equal(later, [0.4] * 3 + [0.2] * 3)  # epochs 3 and 4, whatever the number of updates


def test_exponential_by_hand() -> None:
    rates = rates_of(Exponential(decay=0.25, every=2), 1.0, horizon=9, steps_per_epoch=2)
    np.testing.assert_allclose(rates, [2 ** (-step / 2) for step in range(9)], rtol=1e-14)
    later = rates_of(Exponential(decay=0.25, every=2), 1.0, horizon=2, steps_per_epoch=2, epochs=4, updates=50)
    np.testing.assert_allclose(later, [2**-4, 2**-4.5], rtol=1e-14)


def test_inverse_scaling_by_hand() -> None:
    np.testing.assert_allclose(rates_of(InverseScaling(), 0.5, 4), [0.5 / math.sqrt(t) for t in (1, 2, 3, 4)])
    np.testing.assert_allclose(rates_of(InverseScaling(1), 0.5, 2, updates=9, epochs=2), [0.5 / 10, 0.5 / 11])


def test_cosine_by_hand() -> None:
    rates = rates_of(Cosine(minimum=0.1), 0.5, horizon=4, updates=50, epochs=7)
    half = math.sqrt(0.5)
    np.testing.assert_allclose(rates, [0.5, 0.3 + 0.2 * half, 0.3, 0.3 - 0.2 * half], rtol=1e-14)


def test_cosine_restarts_by_hand() -> None:
    cycle = [half_cosine(0.5, 0.1, share) for share in (0, 0.25, 0.5, 0.75)]
    rates = rates_of(CosineRestarts(first=2, minimum=0.1), 0.5, horizon=10, steps_per_epoch=2)
    np.testing.assert_allclose(rates, [*cycle, *cycle, *cycle[:2]], rtol=1e-14)
    # Cycles of 2, 3 and 4.5 steps: the third begins at step 5, the fourth at 9.5.
    rates = rates_of(CosineRestarts(first=2, growth=1.5), 1.0, horizon=12)
    shares = [0, 1 / 2, 0, 1 / 3, 2 / 3, *(np.arange(5) / 4.5), 0.5 / 6.75, 1.5 / 6.75]
    np.testing.assert_allclose(rates, [half_cosine(1, 0, share) for share in shares], rtol=1e-12)
    span = Span(12, 1, 0, 0, {})
    alone = [CosineRestarts(first=2, growth=1.5).rates(1.0, np.array([step]), span)[0] for step in range(12)]
    np.testing.assert_array_equal(alone, rates)


@pytest.mark.parametrize("schedule", [Cosine(minimum=0.5), CosineRestarts(minimum=0.5), ReduceOnPlateau(minimum=0.5)])
def test_a_rate_below_the_minimum_stays_as_it_is(schedule: Schedule) -> None:
    np.testing.assert_array_equal(rates_of(schedule, 0.25, 5), np.full(5, 0.25))


def test_warm_up_by_hand() -> None:
    np.testing.assert_allclose(rates_of(WarmUp(steps=4), 0.8, 6), [0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    np.testing.assert_allclose(rates_of(WarmUp(epochs=2), 0.8, 6, steps_per_epoch=2), [0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
    np.testing.assert_allclose(rates_of(WarmUp(steps=4), 0.8, 3, updates=2, epochs=0), [0.6, 0.8, 0.8])
    np.testing.assert_allclose(rates_of(WarmUp(epochs=2), 0.8, 3, steps_per_epoch=2, updates=50, epochs=1),
                               [0.6, 0.8, 0.8])
    np.testing.assert_array_equal(rates_of(WarmUp(steps=4), 0.8, 3, updates=4), np.full(3, 0.8))


def test_what_follows_a_warm_up_counts_from_its_end() -> None:
    for then in ("cosine", "one_cycle", StepDecay(every=1), CosineRestarts(1), InverseScaling(),
                 lambda step: 1 / (9 + step)):
        rates = rates_of(WarmUp(steps=5, then=then), 0.5, horizon=20, steps_per_epoch=4)
        np.testing.assert_array_equal(rates[5:], rates_of(check_schedule(then), 0.5, horizon=15, steps_per_epoch=4))
    later = rates_of(WarmUp(epochs=2, then=StepDecay(every=1)), 1.0, horizon=4, steps_per_epoch=2, updates=6, epochs=3)
    np.testing.assert_allclose(later, [0.1, 0.1, 0.01, 0.01])
    later = rates_of(WarmUp(steps=4, then=InverseScaling(1)), 1.0, horizon=2, steps_per_epoch=2, updates=6, epochs=3)
    np.testing.assert_allclose(later, [1 / 3, 1 / 4])
    # A horizon is that of the call of fit: after the warm-up all of it.
    later = rates_of(WarmUp(steps=4, then=Cosine()), 1.0, horizon=6, updates=6)
    np.testing.assert_array_equal(later, rates_of(Cosine(), 1.0, 6))


def test_a_function_after_a_warm_up_is_called_with_0_first() -> None:
    then = Function(lambda step: 0.01 + step)
    rates = rates_of(WarmUp(epochs=2, then=then), 1.0, horizon=4, steps_per_epoch=2, updates=50, epochs=1)
    np.testing.assert_allclose(rates, [0.75, 1, 0.01, 1.01])


def test_a_warm_up_in_a_warm_up() -> None:
    rates = rates_of(WarmUp(steps=2, then=WarmUp(epochs=1, then=StepDecay(1))), 1.0, horizon=8, steps_per_epoch=2)
    np.testing.assert_allclose(rates, [0.5, 1, 0.5, 1, 1, 1, 0.1, 0.1])


def test_a_function_gives_the_rates_of_all_updates() -> None:
    asked = []

    def function(step: int) -> float:
        asked.append(step)
        return step / 8

    np.testing.assert_array_equal(rates_of(Function(function), 99.0, 3, updates=16), [2, 2.125, 2.25])
    assert asked == [16, 17, 18]
    assert {type(step) for step in asked} == {int}


@pytest.mark.parametrize(("rate", "error"), [
    (-1e-9, ValueError), (math.nan, ValueError), (math.inf, ValueError), (None, TypeError), ("0.1", TypeError),
    (True, TypeError), (np.zeros(1), TypeError),
])
def test_a_bad_rate_of_a_function_is_named_with_its_step(rate: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^the learning rate of step 12 must be a finite number of at least 0, got"):
        rates_of(Function(lambda step: rate if step == 12 else 0.0), 0.1, 5, updates=10)


# ---- all of them

ALL: list[Schedule] = [
    *(make() for make in SCHEDULES.values()), Exponential(0.3, 0.7), InverseScaling(0.3), InverseScaling(samples=50),
    CosineRestarts(3, 1.7, 0.01), CosineRestarts(2, 2), WarmUp(steps=17), WarmUp(steps=17, then="cosine"),
    WarmUp(epochs=2, then="one_cycle"), Function(lambda step: math.exp(-step)),
]


@settings(deadline=None)
@given(schedule=st.sampled_from(ALL), learning_rate=st.floats(1e-6, 10), epochs=st.integers(1, 40),
       steps_per_epoch=st.integers(1, 10), before=st.integers(0, 30), data=st.data())
def test_rates_do_not_depend_on_slices(schedule: Schedule, learning_rate: float, epochs: int, steps_per_epoch: int,
                                       before: int, data: st.DataObject) -> None:
    horizon = epochs * steps_per_epoch
    span = Span(horizon, steps_per_epoch, before * steps_per_epoch, before * steps_per_epoch, {})
    rates = schedule.rates(learning_rate, np.arange(horizon), span)
    assert rates.shape == (horizon,)
    assert rates.dtype == np.float64
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()
    cut = data.draw(st.integers(0, horizon))
    parts = [schedule.rates(learning_rate, np.arange(*ends), span) for ends in ((0, cut), (cut, horizon))]
    np.testing.assert_array_equal(np.concatenate(parts), rates)


@pytest.mark.parametrize("schedule", [one for one in ALL if not isinstance(one, (Cosine, OneCycle))
                                      and not (isinstance(one, WarmUp) and one.then != Constant())])
def test_two_calls_of_fit_are_as_one(schedule: Schedule) -> None:
    whole = rates_of(schedule, 0.5, horizon=60, steps_per_epoch=3)
    second = rates_of(schedule, 0.5, horizon=39, steps_per_epoch=3, updates=21, epochs=7)
    np.testing.assert_array_equal(second, whole[21:])


# ---- against other libraries

PLATEAUS = [
    {"patience": 1}, {"patience": 3, "factor": 0.5, "cooldown": 2}, {"patience": 2, "min_delta": 0.05, "minimum": 0.02},
    {"patience": 1, "factor": 0.5, "cooldown": 1, "min_delta": 0.2},
]
TORCH = """
import json, sys, torch, warnings
from torch.optim import lr_scheduler as lr

def rates(make, steps, losses=None):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))], lr=0.3)
    schedule = make(optimizer)
    found = []
    for step in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if losses:
            schedule.step(losses[step])
        elif step + 1 < steps:
            schedule.step()
    return found

def plateau(options):
    options = {"min_delta": 1e-4, "minimum": 0.0, **options}
    options["patience"] -= 1  # PyTorch reduces when there are more epochs without improvement than that
    options["threshold"], options["min_lr"] = options.pop("min_delta"), options.pop("minimum")
    return lambda optimizer: lr.ReduceLROnPlateau(optimizer, threshold_mode="abs", eps=0.0, **options)

def warm_up(optimizer):
    rise = lr.LinearLR(optimizer, start_factor=1 / 10, total_iters=9)
    return lr.SequentialLR(optimizer, [rise, lr.CosineAnnealingLR(optimizer, 90)], milestones=[10])

def one_cycle(steps, **options):
    return rates(lambda optimizer: lr.OneCycleLR(optimizer, 0.3, steps, cycle_momentum=False, **options), steps)

def restarts(first, growth):
    return rates(lambda optimizer: lr.CosineAnnealingWarmRestarts(optimizer, first, growth, 0.01), 100)

warnings.simplefilter("ignore")
given = json.load(sys.stdin)
print(json.dumps({
    "step": rates(lambda optimizer: lr.StepLR(optimizer, 20, 0.2), 100),
    "exponential": rates(lambda optimizer: lr.ExponentialLR(optimizer, 0.9), 20),
    "cosine": rates(lambda optimizer: lr.CosineAnnealingLR(optimizer, 100, 0.01), 100),
    "restarts": restarts(15, 1),
    "growing restarts": restarts(10, 2),
    "warm-up": rates(warm_up, 100),
    "one cycle": {steps: one_cycle(steps) for steps in (5, 10, 33, 100)},
    "other cycle": one_cycle(100, pct_start=0.6, div_factor=3.0, final_div_factor=7.0),
    "falling cycle": one_cycle(100, pct_start=0.0),
    "plateaus": [rates(plateau(options), len(given["losses"]), given["losses"]) for options in given["plateaus"]],
}))
"""


def plateau_losses() -> list[float]:
    """Losses that fall, stay and rise again."""
    noise = np.random.default_rng(3).normal(scale=0.05, size=100)
    return [float(loss) for loss in np.maximum(1 - np.arange(100) / 40, 0.3) + noise]


@pytest.fixture(scope="module")
def torch_rates() -> dict[str, Any]:
    """The rates of PyTorch's schedulers, begun at 0.3."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    # In a process of its own: PyTorch brings a threading library that would stay in this one.
    given = json.dumps({"losses": plateau_losses(), "plateaus": PLATEAUS})
    done = subprocess.run([sys.executable, "-c", TORCH], input=given, capture_output=True, text=True, timeout=240,
                          check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("name", "schedule", "steps_per_epoch"), [
    ("step", StepDecay(every=4, factor=0.2), 5),
    ("exponential", StepDecay(every=1, factor=0.9), 1),
    ("exponential", Exponential(decay=0.81, every=0.5), 4),  # by the step: 0.81 ** (1 / 2)
    ("cosine", Cosine(minimum=0.01), 5),
    ("restarts", CosineRestarts(first=3, minimum=0.01), 5),
    ("growing restarts", CosineRestarts(first=2, growth=2, minimum=0.01), 5),
    ("warm-up", WarmUp(steps=10, then="cosine"), 5),
    ("warm-up", WarmUp(epochs=2, then=Cosine()), 5),
    ("other cycle", OneCycle(0.6, 3, 7), 5),
    ("falling cycle", OneCycle(warm=0), 5),
])
def test_rates_equal_those_of_pytorch(torch_rates: dict[str, Any], name: str, schedule: Schedule,
                                      steps_per_epoch: int) -> None:
    expected = torch_rates[name]
    np.testing.assert_allclose(rates_of(schedule, 0.3, len(expected), steps_per_epoch), expected, rtol=1e-9)


def test_one_cycle_equals_pytorch(torch_rates: dict[str, Any]) -> None:
    for horizon, expected in torch_rates["one cycle"].items():
        np.testing.assert_allclose(rates_of(OneCycle(), 0.3, int(horizon)), expected, rtol=1e-9)


def plateau_rates(schedule: Schedule, losses: Sequence[float], steps_per_epoch: int = 1, name: str = "val_loss",
                  learning_rate: float = 0.3) -> list[float]:
    """The rate of the last step of each epoch when the epochs end with these losses."""
    span = Span(len(losses) * steps_per_epoch, steps_per_epoch, 0, 0, {})
    rates = []
    for epoch, loss in enumerate(losses):
        last = (epoch + 1) * steps_per_epoch - 1
        rates.append(float(schedule.rates(learning_rate, np.array([last]), span)[0]))
        schedule.after_epoch({"epoch": epoch, name: loss, "learning_rate": rates[-1]}, last, span)
        assert json.loads(json.dumps(span.state)) == span.state
    return rates


@pytest.mark.parametrize("number", range(len(PLATEAUS)))
def test_plateaus_equal_those_of_pytorch(torch_rates: dict[str, Any], number: int) -> None:
    expected = torch_rates["plateaus"][number]
    assert len(set(expected)) > 2
    found = plateau_rates(ReduceOnPlateau(**PLATEAUS[number]), plateau_losses())  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_inverse_scaling_by_samples_equals_scikit_learn() -> None:
    optimizers = pytest.importorskip("sklearn.neural_network._stochastic_optimizers")
    optimizer = optimizers.SGDOptimizer([], learning_rate_init=0.2, lr_schedule="invscaling", power_t=0.3)
    expected = []
    for epoch in range(8):
        expected += [optimizer.learning_rate] * 4
        optimizer.iteration_ends((epoch + 1) * 50)
    rates = rates_of(InverseScaling(0.3, samples=50), 0.2, horizon=32, steps_per_epoch=4)
    np.testing.assert_allclose(rates, expected, rtol=1e-14)


# ---- plateaus


def test_a_plateau_by_hand() -> None:
    schedule = ReduceOnPlateau(monitor="loss", factor=0.5, patience=2, min_delta=0.5)
    losses = [5, 4, 3.75, 3.5, 3, math.nan, 3, 9, 9, 9]
    expected = [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]
    assert plateau_rates(schedule, losses, name="loss", learning_rate=1.0) == expected


def test_a_plateau_waits_from_the_end_of_a_warm_up() -> None:
    then = ReduceOnPlateau(factor=0.5, patience=2)
    for schedule in (WarmUp(epochs=3, then=then), WarmUp(steps=5, then=then)):  # in the third epoch of two steps
        assert schedule.monitor == "val_loss"
        rates = plateau_rates(schedule, [1.0] * 9, steps_per_epoch=2, learning_rate=1.0)[3:]
        assert rates == ([1, 1, 1, 0.5, 0.5, 0.25] if schedule.epochs else [1, 1, 0.5, 0.5, 0.25, 0.25])


def test_a_plateau_waits_from_the_end_of_two_warm_ups() -> None:
    schedule = WarmUp(steps=3, then=WarmUp(epochs=1, then=ReduceOnPlateau(factor=0.5, patience=1)))
    rates = plateau_rates(schedule, [1.0] * 6, steps_per_epoch=2, learning_rate=1.0)
    assert rates == [2 / 3, 0.5, 1, 1, 0.5, 0.25]  # the rise ends in the third epoch, which has the best loss


def test_a_plateau_at_its_minimum_takes_note_of_no_further_reduction() -> None:
    schedule = ReduceOnPlateau(factor=0.5, patience=1, minimum=0.1)
    span = Span(9, 1, 0, 0, {})
    for _ in range(9):
        rate = float(schedule.rates(0.3, np.zeros(1, np.int64), span)[0])
        schedule.after_epoch({"val_loss": 1.0, "learning_rate": rate}, 0, span)
    assert rate == 0.1
    assert span.state["scale"] == 0.25


def test_an_epoch_without_the_loss_is_no_plateau() -> None:
    span = Span(1, 1, 0, 0, {})
    ReduceOnPlateau(patience=1).after_epoch({"loss": 1.0, "learning_rate": 0.1}, 0, span)
    assert span.state == {}


# ---- parameters


@pytest.mark.parametrize(("make", "options", "error", "name"), [
    (StepDecay, {"every": 0}, ValueError, "every"),
    (StepDecay, {"every": 10**30}, ValueError, "every"),
    (StepDecay, {"every": 1.5}, TypeError, "every"),
    (StepDecay, {"factor": 0}, ValueError, "factor"),
    (StepDecay, {"factor": 1.1}, ValueError, "factor"),
    (Exponential, {"decay": 0}, ValueError, "decay"),
    (Exponential, {"decay": 1.01}, ValueError, "decay"),
    (Exponential, {"every": 0}, ValueError, "every"),
    (Exponential, {"every": "1"}, TypeError, "every"),
    (InverseScaling, {"power": -0.1}, ValueError, "power"),
    (InverseScaling, {"samples": 0}, ValueError, "samples"),
    (InverseScaling, {"samples": 2**80}, ValueError, "samples"),
    (InverseScaling, {"samples": 1.0}, TypeError, "samples"),
    (Cosine, {"minimum": -1}, ValueError, "minimum"),
    (Cosine, {"minimum": math.nan}, ValueError, "minimum"),
    (CosineRestarts, {"first": 0}, ValueError, "first"),
    (CosineRestarts, {"first": 2**62}, ValueError, "first"),
    (CosineRestarts, {"growth": 0.9}, ValueError, "growth"),
    (CosineRestarts, {"minimum": -1}, ValueError, "minimum"),
    (OneCycle, {"warm": -0.1}, ValueError, "warm"),
    (OneCycle, {"warm": 1.1}, ValueError, "warm"),
    (OneCycle, {"start_divisor": 0.9}, ValueError, "start_divisor"),
    (OneCycle, {"end_divisor": 0.9}, ValueError, "end_divisor"),
    (WarmUp, {"steps": 2**80}, ValueError, "steps"),
    (WarmUp, {"epochs": 2**62}, ValueError, "epochs"),
    (WarmUp, {}, ValueError, "exactly one of steps and epochs"),
    (WarmUp, {"steps": 1, "epochs": 1}, ValueError, "exactly one of steps and epochs"),
    (WarmUp, {"steps": 0}, ValueError, "steps"),
    (WarmUp, {"epochs": 0}, ValueError, "epochs"),
    (WarmUp, {"epochs": 0.5}, TypeError, "epochs"),
    (WarmUp, {"steps": 5, "then": "linear"}, ValueError, "then"),
    (WarmUp, {"steps": 5, "then": Cosine}, TypeError, "then"),
    (ReduceOnPlateau, {"monitor": "val_accuracy"}, ValueError, "monitor"),
    (ReduceOnPlateau, {"monitor": None}, TypeError, "monitor"),
    (ReduceOnPlateau, {"factor": 0}, ValueError, "factor"),
    (ReduceOnPlateau, {"factor": 1}, ValueError, "factor"),
    (ReduceOnPlateau, {"patience": 0}, ValueError, "patience"),
    (ReduceOnPlateau, {"min_delta": -1e-9}, ValueError, "min_delta"),
    (ReduceOnPlateau, {"minimum": -1e-9}, ValueError, "minimum"),
    (ReduceOnPlateau, {"cooldown": -1}, ValueError, "cooldown"),
    (ReduceOnPlateau, {"cooldown": True}, TypeError, "cooldown"),
    (Function, {"function": 0.1}, TypeError, "function"),
])
def test_bad_parameters_are_named(make: type[Schedule], options: dict[str, Any], error: type[Exception],
                                  name: str) -> None:
    with pytest.raises(error, match=f"^{name} must be"):
        make(**options)


@pytest.mark.parametrize("schedule", [
    StepDecay(every=2**31), InverseScaling(samples=2**53), CosineRestarts(first=2**31),
    CosineRestarts(first=2**31, growth=2.0), WarmUp(epochs=2**31), WarmUp(steps=2**53)])
def test_the_largest_counts_do_not_overflow(schedule: Schedule) -> None:
    rates = rates_of(schedule, 0.5, horizon=4, steps_per_epoch=2**31, epochs=2**20)
    assert (np.isfinite(rates) & (rates >= 0)).all()


def test_schedules_are_plain_data() -> None:
    assert CosineRestarts(np.int64(3), Fraction(3, 2), np.float32(0.5)) == CosineRestarts(3, 1.5, 0.5)  # type: ignore[arg-type]
    assert repr(CosineRestarts(np.int64(3), Fraction(3, 2))) == "CosineRestarts(first=3, growth=1.5, minimum=0.0)"  # type: ignore[arg-type]
    with pytest.raises(FrozenInstanceError):
        StepDecay().every = 3  # type: ignore[misc]
    for schedule in ALL[:-1]:
        assert pickle.loads(pickle.dumps(schedule)) == schedule


@pytest.mark.parametrize(("make", "options"), [
    (StepDecay, {"every": np.uint8(200), "factor": Fraction(1, 2)}),
    (OneCycle, {"start_divisor": np.float16(25), "end_divisor": np.float16(10_000)}),
    (CosineRestarts, {"first": np.int8(100), "growth": Fraction(2)}),
    (InverseScaling, {"samples": np.uint8(200)}),
    (WarmUp, {"epochs": np.uint8(200)}),
])
def test_narrow_types_of_parameters_do_not_matter(make: type[Schedule], options: dict[str, Any]) -> None:
    plain = make(**{name: float(value) if isinstance(value, (Fraction, np.floating)) else int(value)
                    for name, value in options.items()})
    np.testing.assert_array_equal(rates_of(make(**options), 0.5, 6000, 20), rates_of(plain, 0.5, 6000, 20))


def test_schedules_are_found_by_name_and_none_is_constant() -> None:
    assert list(SCHEDULES) == ["constant", "step", "exponential", "inverse_scaling", "cosine", "cosine_restarts",
                               "one_cycle", "reduce_on_plateau"]
    assert check_schedule(None) == Constant()
    for name, make in SCHEDULES.items():
        assert check_schedule(name) == make()
        assert check_schedule(schedule := make()) is schedule
    assert check_schedule(math.exp) == Function(math.exp)


@pytest.mark.parametrize(("value", "error"), [
    ("linear", ValueError), ("", ValueError), ("One_Cycle", ValueError),
    (1, TypeError), (OneCycle, TypeError), (["constant"], TypeError),
])
def test_anything_else_is_refused_and_told_what_there_is(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^schedule must be None, one of 'constant', 'step', .*'reduce_on_plateau', an "
                                    r"instance of Schedule, or a function of the step number, got"):
        check_schedule(value)


# ---- in a trainer

X = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
Y = X[:, :3].argmax(axis=1)


def make_trainer(schedule: Any, learning_rate: float = 0.1) -> Trainer:
    return Trainer(MLP([5, 6, 3]), learning_rate=learning_rate, schedule=schedule, batch_size=20)


class Losses(Callback):
    """Puts losses of one's own into the records that a plateau sees."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, losses: Sequence[float]) -> None:
        values = iter(losses)
        monkeypatch.setattr(Trainer, "_evaluate", lambda *_: {"loss": next(values)})


@pytest.mark.parametrize("schedule", ["step", "exponential", "inverse_scaling", "cosine_restarts",
                                      WarmUp(steps=7), lambda step: 0.1 / (1 + step)])
def test_training_goes_on_where_the_schedule_stood(schedule: Any) -> None:
    if schedule == "step":
        schedule = StepDecay(every=2)
    elif schedule == "cosine_restarts":
        schedule = CosineRestarts(2, 2)
    whole, parts = make_trainer(schedule), make_trainer(schedule)
    whole.fit(X, Y, epochs=7, progress=False)
    parts.fit(X, Y, epochs=3, progress=False)
    parts = pickle.loads(pickle.dumps(parts)) if not callable(schedule) else parts
    parts.fit(X, Y, epochs=4, progress=False)
    assert bits(whole) == bits(parts)
    rates = rates_of(check_schedule(schedule), 0.1, 21, 3)
    assert whole.history["learning_rate"] == parts.history["learning_rate"] == list(rates[2::3])


@pytest.mark.parametrize("rate", [math.nan, math.inf, -0.1])
def test_a_schedule_of_ones_own_must_give_rates(rate: float) -> None:
    class Own(Schedule):
        needs_horizon = False

        def rates(self, learning_rate: float, steps: Any, span: Span) -> Any:
            return np.where(steps + span.first_update == 1, rate, 0.01)

    trainer = make_trainer(Own())
    trainer.step(X, Y)
    for call in (lambda: trainer.step(X, Y), lambda: trainer.fit(X, Y, progress=False)):
        before = bits(trainer)
        with pytest.raises(ValueError, match=f"^schedule must give finite numbers of at least 0, got {rate} from"):
            call()
        assert bits(trainer) == before


def test_epochs_count_also_when_their_length_changes() -> None:
    trainer = make_trainer(StepDecay(every=2))
    trainer.fit(X, Y, epochs=1, progress=False)
    trainer.fit(X[:20], Y[:20], epochs=2, progress=False)
    assert trainer.history["learning_rate"] == pytest.approx([0.1, 0.1, 0.01])


@pytest.mark.parametrize("schedule", [None, "constant", "inverse_scaling", WarmUp(steps=3),
                                      WarmUp(steps=2, then=InverseScaling()), lambda step: 0.1 / (1 + step)])
def test_single_steps_follow_a_schedule_that_needs_no_epochs(schedule: Any) -> None:
    stepping, by_hand = make_trainer(schedule), make_trainer(None)
    for rate in rates_of(check_schedule(schedule), 0.1, 5):
        by_hand.learning_rate = float(rate)
        assert stepping.step(X, Y) == by_hand.step(X, Y)
    assert bits(stepping) == bits(by_hand)


@pytest.mark.parametrize("schedule", ["step", "exponential", InverseScaling(samples=50), "cosine", "cosine_restarts",
                                      "one_cycle", "reduce_on_plateau", WarmUp(epochs=1),
                                      WarmUp(steps=9, then="cosine")])
def test_single_steps_are_refused_where_epochs_are_needed(schedule: Any) -> None:
    trainer = make_trainer(schedule)
    before = bits(trainer)
    with pytest.raises(ValueError, match=r"^schedule must be None, or one that does not go by epochs, .* use fit"):
        trainer.step(X, Y)
    assert bits(trainer) == before
    assert trainer.steps == 0


def test_a_function_that_goes_wrong_leaves_a_trainer_fit_for_use() -> None:
    trainer = make_trainer(lambda step: 0.1 if step < 2 else -1.0)
    for _ in range(2):
        trainer.step(X, Y)
    before = bits(trainer)
    for train in (lambda: trainer.step(X, Y), lambda: trainer.fit(X, Y, progress=False)):
        with pytest.raises(ValueError, match=r"^the learning rate of step 2 must be"):
            train()
        assert bits(trainer) == before
        assert trainer.steps == 2


class Short(Schedule):
    """Forgets the last step."""

    needs_horizon = False

    def rates(self, learning_rate: float, steps: Array, span: Span) -> Array:
        return np.full(len(steps) - 1, learning_rate)


def test_too_few_rates_are_refused() -> None:
    trainer = make_trainer(Short())
    for train in (lambda: trainer.step(X, Y), lambda: trainer.fit(X, Y, progress=False)):
        with pytest.raises(ValueError, match=r"^schedule must give an array of shape \(\d+,\), a learning rate"):
            train()


def test_a_plateau_in_a_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = plateau_losses()[:20]
    schedule = ReduceOnPlateau(patience=2, factor=0.5, cooldown=1)
    trainer = make_trainer(schedule)
    Losses(monkeypatch, losses)
    trainer.fit(X, Y, epochs=12, validation_data=(X, Y), progress=False)
    restored = copy.deepcopy(trainer)
    assert restored.schedule_state == trainer.schedule_state != {}
    for going_on in (trainer, restored):
        Losses(monkeypatch, losses[12:])
        going_on.fit(X, Y, epochs=8, validation_data=(X, Y), progress=False)
        rates = going_on.history["learning_rate"]
        assert rates == plateau_rates(schedule, losses, learning_rate=0.1)
        assert len(set(rates)) > 2
    assert bits(trainer) == bits(restored)
    assert trainer.learning_rate == 0.1


def test_a_plateau_of_the_training_loss_stops_at_every_epoch() -> None:
    """Without anything else to do between epochs a slice would run on with the old rate."""
    trainer = make_trainer(ReduceOnPlateau("loss", patience=1, factor=0.5, min_delta=1e6))
    trainer.fit(X, Y, epochs=4, progress=False)
    assert trainer.history["learning_rate"] == [0.1, 0.1, 0.05, 0.025]


def test_a_plateau_in_a_trainer_counts_the_epoch_in_which_a_warm_up_ends() -> None:
    trainer = make_trainer(WarmUp(steps=5, then=ReduceOnPlateau("loss", patience=1, factor=0.5, min_delta=1e6)))
    trainer.fit(X, Y, epochs=4, progress=False)  # of three steps
    np.testing.assert_allclose(trainer.history["learning_rate"], [0.06, 0.1, 0.1, 0.05])


def test_callbacks_see_the_state_after_the_epoch() -> None:
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
            seen.append(dict(trainer.schedule_state))

    trainer = make_trainer(ReduceOnPlateau("loss"))
    trainer.fit(X, Y, epochs=1, callbacks=[Watch()], progress=False)
    assert seen == [{"best": trainer.history[0]["loss"], "wait": 0, "cooldown": 0}]


@pytest.mark.parametrize("schedule", ["reduce_on_plateau", WarmUp(steps=3, then=ReduceOnPlateau())])
def test_a_plateau_without_validation_data_is_refused(schedule: Any) -> None:
    trainer = make_trainer(schedule)
    before = bits(trainer)
    with pytest.raises(ValueError, match=r"^validation_data must be given"):
        trainer.fit(X, Y, progress=False)
    assert bits(trainer) == before
    trainer.fit(X, Y, epochs=1, validation_split=0.2, progress=False)


def test_an_undone_epoch_leaves_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted after an epoch over inputs that turn out to hold NaN."""
    monkeypatch.setattr("fastmlp.fit_arguments.LARGE_BYTES", 0)
    trainer = make_trainer(ReduceOnPlateau("loss"))
    trainer.fit(X, Y, epochs=1, progress=False)
    before = dict(trainer.schedule_state)
    ruined = X.copy()
    ruined[3, 2] = np.nan
    original = engine.Call.train

    def interrupt(call: engine.Call, threads: int) -> None:
        original(call, threads)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.Call, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(ruined, Y, epochs=1, progress=False)
    assert trainer.steps == 3
    assert trainer.schedule_state == before
