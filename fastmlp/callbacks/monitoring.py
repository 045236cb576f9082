"""Values of the logs that callbacks watch, and whether one is better than another."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..validation import check_choice, check_number

# "auto" takes a value as better when it is higher if the monitor's name contains one of these words.
_HIGHER_IS_BETTER = ("accuracy", "f1", "precision", "recall", "r2", "top_")


def check_monitor(monitor: Any) -> str:
    if not isinstance(monitor, str):
        raise TypeError(f"monitor must be the name of a value in the history, got {monitor!r}")
    return monitor


def monitored(monitor: str, logs: dict[str, Any]) -> float:
    """Return the value of the logs that is named `monitor`."""
    check_watched(monitor, logs)
    return float(logs[monitor])


def check_watched(monitor: str, names: Iterable[str]) -> None:
    """Raise ValueError if `monitor` is none of the names of the values in the logs."""
    names = list(names)
    if monitor in names:
        return
    shown = ", ".join(map(repr, names)) or "none"
    message = f"monitor must be the name of a value in the logs ({shown}), got {monitor!r}"
    if monitor.startswith("val_") and not any(name.startswith("val_") for name in names):
        message += "; values that begin with 'val_' need validation_data or validation_split in fit"
    raise ValueError(message)


def check_mode(mode: Any) -> str:
    return check_choice("mode", mode, ("auto", "min", "max"))


def is_better(value: float, best: float | None, monitor: str, mode: str, min_delta: float = 0.0) -> bool:
    """Whether a monitored value is better than the best one so far by more than `min_delta`; NaN never is."""
    if best is None:
        return not math.isnan(value)
    if mode == "max" or (mode == "auto" and any(word in monitor for word in _HIGHER_IS_BETTER)):
        return value > best + min_delta
    return value < best - min_delta


def check_best_value(state: dict[str, Any]) -> float | None:
    value = state["best_value"]
    if value is None or (isinstance(value, float) and math.isinf(value)):
        return value
    return check_number("state['best_value']", value)
