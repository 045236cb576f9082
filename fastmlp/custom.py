"""A user's own activations and losses: scalar functions that become part of the compiled training loop.

    fastmlp.register_activation("mish", lambda z: z * math.tanh(math.log1p(math.exp(z))), ...)

Numba compiles the two functions, value and derivative, into a loop over a block of numbers; the kernels call it by its
address where they would call their own. Nothing else is compiled, and what calls it is as parallel as ever. No
exception can pass through the kernels: where a function raises one, value and derivative are NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
from numba import njit, types
from numba.core.ccallback import CFunc
from numba.core.errors import NumbaError

from .kernels.linking import FLOATS, INT

Scalar = Callable[..., Any]

POINTS = np.linspace(-4.0, 4.0, 81) + 0.0123  # where derivatives are checked; no round numbers, which may be kinks
STEP = 1e-5
TOLERANCE = 1e-5


class UserFunction:
    """A scalar function and its derivative, compiled for each dtype when it is first used."""

    def __init__(self, loop: Scalar, arguments: str) -> None:
        self._loop = loop
        self._arguments = arguments  # a letter each: p for a pointer, i for an integer

    @functools.cache  # noqa: B019  (a user's functions live as long as the process)
    def compiled(self, dtype: np.dtype[Any]) -> Any:
        pointer = types.CPointer(FLOATS[np.dtype(dtype)])
        arguments = [pointer if letter == "p" else INT for letter in self._arguments]
        compiled = CFunc(self._loop, (tuple(arguments), types.void), locals={}, options={})
        compiled.compile()
        return compiled

    def address(self, dtype: np.dtype[Any]) -> int:
        """Return the address of the loop for numbers of a dtype."""
        return int(self.compiled(dtype).address)


def _compiled(name: str, function: Any) -> Any:
    if not callable(function):
        raise TypeError(f"{name} must be a function of numbers that Numba can compile, got {function!r}")
    if isinstance(function, FunctionType):
        return njit(error_model="numpy")(function)
    # What Numba knows how to call (a compiled function, math.tanh) can be called by a compiled function.
    return njit(error_model="numpy")(lambda *arguments: function(*arguments))


def _value_of(name: str, function: Any, *arguments: float) -> float:
    """Call a user's function, as a check that it compiles and gives a number."""
    try:
        result = function(*arguments)
    except NumbaError as problem:
        raise TypeError(f"{name} must be a function of numbers that Numba can compile: {problem}") from None
    except TypeError as problem:
        raise TypeError(f"{name} must be a function of {len(arguments)} numbers: {problem}") from None
    except Exception as problem:
        raise ValueError(f"{name} must give a number for {', '.join(f'{number:.4g}' for number in arguments)}, but "
                         f"raises {problem!r}") from None
    if isinstance(result, bool) or not isinstance(result, (int, float)):
        raise TypeError(f"{name} must return a number, got {result!r}")
    return float(result)


def _check_derivative(value: Any, derivative: Any, *others: float) -> None:
    """Compare the derivative by the first argument with central differences; kinks are passed over."""
    for z in POINTS:
        point = float(z)
        found = _value_of("derivative", derivative, point, *others)
        before, here, after = (_value_of("value", value, point + step, *others) for step in (-STEP, 0.0, STEP))
        wanted = (after - before) / (2 * STEP)
        one_sided = abs((after - here) - (here - before)) / STEP
        size = max(1.0, abs(wanted))
        if one_sided > 1e-3 * size:
            continue  # the slopes on both sides differ
        if not abs(found - wanted) <= TOLERANCE * size:
            rest = "".join(f", {other:g}" for other in others)
            raise ValueError("derivative must be the derivative of value by its first argument: at "
                             f"({point:.4g}{rest}) it gives {found:.6g}, the difference quotient is {wanted:.6g}")


def activation_function(value: Any, derivative: Any) -> UserFunction:
    """Check and compile an activation f(z) and its derivative f'(z)."""
    f, slope = _compiled("value", value), _compiled("derivative", derivative)
    _check_derivative(f, slope)

    def activation(block, kept, count, keeps):  # type: ignore[no-untyped-def]
        for i in range(count):
            z = block[i]
            try:
                if keeps:
                    kept[i] = slope(z)
                block[i] = f(z)
            except Exception:
                if keeps:
                    kept[i] = np.nan
                block[i] = np.nan

    return UserFunction(activation, "ppii")


def loss_function(value: Any, derivative: Any) -> UserFunction:
    """Check and compile a loss l(a, t) of an output and its target and its derivative by the output."""
    f, slope = _compiled("value", value), _compiled("derivative", derivative)
    for target in (0.0, 1.0):
        _check_derivative(f, slope, target)

    def loss(outputs, targets, values, derivatives, count):  # type: ignore[no-untyped-def]
        for i in range(count):
            try:
                values[i] = f(outputs[i], targets[i])
                derivatives[i] = slope(outputs[i], targets[i])
            except Exception:
                values[i] = np.nan
                derivatives[i] = np.nan

    return UserFunction(loss, "ppppi")
