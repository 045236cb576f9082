"""Learning-rate schedules: the learning rate of every step of a `fit` call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rates = NDArray[np.float64]
Schedule = Callable[[float, NDArray[np.int64], int], Rates]


def constant(learning_rate: float, steps: NDArray[np.int64], horizon: int) -> Rates:
    """Return the same learning rate for every step."""
    return np.full(len(steps), learning_rate)


def one_cycle(learning_rate: float, steps: NDArray[np.int64], horizon: int) -> Rates:
    """Rise to `learning_rate` over the first 30 % of the steps and fall to nearly zero over the rest.

    Both along half a cosine: from a 25th of the learning rate, to a 250,000th (Smith and Topin, 2018, in the form and
    with the defaults of PyTorch's OneCycleLR).
    """
    first, last = learning_rate / 25, learning_rate / 25e4
    peak = 0.3 * horizon - 1
    rising = np.clip(steps / peak, 0, 1) if peak > 0 else np.ones(len(steps))
    falling = np.clip((steps - peak) / max(horizon - 1 - peak, 1), 0, 1)
    rise = learning_rate + (first - learning_rate) * (1 + np.cos(np.pi * rising)) / 2
    fall = last + (learning_rate - last) * (1 + np.cos(np.pi * falling)) / 2
    return np.where(steps < peak, rise, fall)


SCHEDULES: dict[str, Schedule] = {"constant": constant, "one_cycle": one_cycle}


def check_schedule(schedule: Any) -> Schedule:
    """Return a schedule from its name; None is "constant"."""
    allowed = f"None or one of {', '.join(map(repr, SCHEDULES))}"
    if schedule is None:
        return constant
    if not isinstance(schedule, str):
        raise TypeError(f"schedule must be {allowed}, got {schedule!r}")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be {allowed}, got {schedule!r}")
    return SCHEDULES[schedule]
