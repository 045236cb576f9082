"""Checks of what users pass in: each names the argument, what it got, and what is allowed."""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Iterable
from typing import Any

import numpy as np


def check_integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """Return `value` as an int; it may be any integer type but bool."""
    allowed = "an integer"
    if low is not None and high is not None:
        allowed += f" from {low} to {high}"
    elif low is not None:
        allowed += f" of at least {low}"
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be {allowed}, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {allowed}, got {value!r}") from None
    if (low is not None and number < low) or (high is not None and number > high):
        raise ValueError(f"{name} must be {allowed}, got {number}")
    return number


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, above: bool = False,
                 below: bool = False) -> float:
    """Return `value` as a finite float with low <= value <= high; strictly where `above` or `below` is set."""
    allowed = "a finite number"
    if low > -math.inf:
        allowed += f" {'above' if above else 'of at least'} {low:g}"
    if high < math.inf:
        allowed += f"{' and' if low > -math.inf else ''} {'below' if below else 'at most'} {high:g}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be {allowed}, got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} must be {allowed}, got a number too large for a float") from None
    too_low = number <= low if above else number < low
    too_high = number >= high if below else number > high
    if not math.isfinite(number) or too_low or too_high:
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return `value` if it is one of the names in `choices`."""
    names = sorted(choices)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(map(repr, names))}, got {value!r}")
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, names))}, got {value!r}")
    return value


def check_flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def check_path(name: str, value: Any) -> str:
    """Return the path of a file as a str."""
    if isinstance(value, (str, os.PathLike)):
        path = os.fspath(value)
        if isinstance(path, str):
            return path
    raise TypeError(f"{name} must be a str or an os.PathLike of str, got {value!r}")
