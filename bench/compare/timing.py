"""Timing: the sides of a comparison take turns, and the median of several turns counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from statistics import median
from timeit import Timer
from typing import TypeVar

# After a parallel product the worker threads of a BLAS or of OpenMP spin before they sleep: up to a tenth of a second
# were measured, in which they keep the processors from whoever is next.
SECONDS_TO_SETTLE = 0.2

Side = TypeVar("Side", bound=Hashable)


@dataclass(frozen=True)
class Effort:
    """How long to measure: the number of turns, and the seconds that a turn lasts at least."""

    repeats: int
    seconds: float


def measure(sides: Mapping[Side, Callable[[], object]], effort: Effort) -> dict[Side, float]:
    """Time the same work done by different sides.

    Every side is first called until it is warm, which also compiles what is needed. Then they take turns, so that
    whatever else happens on the machine meets them alike.

    Parameters
    ----------
    sides : mapping of functions without arguments
    effort : Effort

    Returns
    -------
    dict
        For each side the median seconds of a call.
    """
    timers = {side: Timer(call) for side, call in sides.items()}
    calls = {side: _calls_in(timer, effort.seconds) for side, timer in timers.items()}
    turns: dict[Side, list[float]] = {side: [] for side in sides}
    for _ in range(effort.repeats):
        for side, timer in timers.items():
            time.sleep(SECONDS_TO_SETTLE)
            turns[side].append(timer.timeit(calls[side]) / calls[side])
    return {side: median(seconds) for side, seconds in turns.items()}


def _calls_in(timer: Timer, seconds: float) -> int:
    """Return a number of calls that take so many seconds or longer."""
    timer.timeit(1)
    calls = 1
    while timer.timeit(calls) < seconds:
        calls *= 2
    return calls
