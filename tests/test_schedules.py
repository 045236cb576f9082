"""Learning-rate schedules: their values, step by step."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp.schedules import SCHEDULES, check_schedule, constant, one_cycle


def rates_of(schedule: Any, learning_rate: float, horizon: int) -> np.ndarray[Any, Any]:
    return schedule(learning_rate, np.arange(horizon), horizon)


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
    np.testing.assert_array_equal(rates_of(constant, 0.25, 7), np.full(7, 0.25))
    assert constant(0.25, np.arange(0), 7).shape == (0,)


def test_one_cycle_at_the_steps_that_are_known_by_hand() -> None:
    rates = rates_of(one_cycle, 0.5, 100)  # the peak is at step 0.3 * 100 - 1 = 29
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
    np.testing.assert_allclose(rates_of(one_cycle, 0.1, 10), PYTORCH_10, rtol=1e-9)
    rates = rates_of(one_cycle, 1.0, 1000)
    np.testing.assert_allclose(rates[list(PYTORCH_1000)], list(PYTORCH_1000.values()), rtol=1e-9)


@pytest.mark.parametrize("horizon", [2, 3, 4, 5, 7, 10, 33, 100, 1000])
def test_one_cycle_equals_the_formula_of_pytorch(horizon: int) -> None:
    np.testing.assert_allclose(rates_of(one_cycle, 0.3, horizon), pytorch_one_cycle(0.3, horizon), rtol=1e-9)


def test_one_cycle_equals_pytorch() -> None:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    code = (
        "import json, torch\n"
        "def rates(horizon):\n"
        "    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)\n"
        "    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.3, total_steps=horizon,\n"
        "                                                   cycle_momentum=False)\n"
        "    found = []\n"
        "    for step in range(horizon):\n"
        "        found.append(optimizer.param_groups[0]['lr'])\n"
        "        optimizer.step()\n"
        "        if step + 1 < horizon: schedule.step()\n"
        "    return found\n"
        "print(json.dumps({horizon: rates(horizon) for horizon in (5, 10, 33, 100)}))\n"
    )
    # In a process of its own: PyTorch brings a threading library that would stay in this one.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    for horizon, expected in json.loads(done.stdout).items():
        np.testing.assert_allclose(rates_of(one_cycle, 0.3, int(horizon)), expected, rtol=1e-9)


@settings(deadline=None)
@given(learning_rate=st.floats(1e-6, 10), horizon=st.integers(1, 400), data=st.data())
def test_one_cycle_stays_within_its_limits_and_does_not_depend_on_slices(learning_rate: float, horizon: int,
                                                                         data: st.DataObject) -> None:
    rates = rates_of(one_cycle, learning_rate, horizon)
    assert rates.shape == (horizon,)
    assert rates.dtype == np.float64
    assert (rates >= learning_rate / 25e4 * (1 - 1e-9)).all()
    assert (rates <= learning_rate * (1 + 1e-12)).all()
    cut = data.draw(st.integers(0, horizon))
    parts = [one_cycle(learning_rate, np.arange(first, last), horizon) for first, last in ((0, cut), (cut, horizon))]
    np.testing.assert_array_equal(np.concatenate(parts), rates)


def test_schedules_are_found_by_name_and_none_is_constant() -> None:
    assert dict(SCHEDULES) == {"constant": constant, "one_cycle": one_cycle}
    assert check_schedule(None) is constant
    for name, schedule in SCHEDULES.items():
        assert check_schedule(name) is schedule


@pytest.mark.parametrize(("value", "error"), [
    ("cosine", ValueError), ("", ValueError), ("One_Cycle", ValueError),
    (1, TypeError), (one_cycle, TypeError), (["constant"], TypeError),
])
def test_anything_else_is_refused_and_told_what_there_is(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^schedule must be None or one of 'constant', 'one_cycle', got"):
        check_schedule(value)
