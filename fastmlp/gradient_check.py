"""The gradient check: what backpropagation computes, against differences of the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernels.layout import array_names
from .losses import Loss
from .model import MLP, check_seed
from .validation import check_integer, check_number

Array = NDArray[Any]

MACHINE_EPSILON = float(np.finfo(np.float64).eps)
ROUNDING = 8.0  # a loss is taken to be right to so many times the machine epsilon
ROUNDINGS_IN_A_CHANGE = 20.0  # 4 in the difference of two one-sided quotients, and 16 in twice that at half the step


@dataclass(frozen=True)
class ArrayCheck:
    """The check of one array of parameters.

    Attributes
    ----------
    layer : int
        Number of the layer, from 0.
    name : str
        "weights", "bias" or "slopes".
    shape : tuple of int
    checked : int
        Number of parameters compared.
    left_out : int
        Number of parameters drawn but left out, because their difference quotients do not settle.
    error : float
        Relative error of the array, see `gradient_check`; NaN if `checked` is 0.
    place : tuple of int
        Where the two differ most; () if `checked` is 0.
    analytic, numerical : float
        The gradient and the difference quotient at that place.
    """

    layer: int
    name: str
    shape: tuple[int, ...]
    checked: int
    left_out: int
    error: float
    place: tuple[int, ...]
    analytic: float
    numerical: float

    @property
    def largest_error(self) -> float:
        """The largest difference of an element, absolute."""
        return abs(self.analytic - self.numerical)


@dataclass(frozen=True)
class GradientReport:
    """What `gradient_check` found; ``print`` shows it as a table.

    Attributes
    ----------
    arrays : tuple of ArrayCheck
        In the order of `MLP.get_weights`.
    tolerance : float
        The largest relative error of an array that passes.
    """

    arrays: tuple[ArrayCheck, ...]
    tolerance: float

    @property
    def failed(self) -> tuple[ArrayCheck, ...]:
        """The arrays whose error is above the tolerance, or of which nothing could be checked."""
        return tuple(array for array in self.arrays if not array.error <= self.tolerance)

    @property
    def passed(self) -> bool:
        """Whether every array passed."""
        return not self.failed

    def __str__(self) -> str:
        header = ("layer", "array", "shape", "checked", "left out", "error", "worst place", "analytic", "numerical")
        rows = [(str(array.layer), array.name, str(array.shape), f"{array.checked:,}", f"{array.left_out:,}",
                 f"{array.error:.1e}", str(array.place), f"{array.analytic:.8g}", f"{array.numerical:.8g}")
                for array in self.arrays]
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
                 for row in (header, *rows)]
        if self.passed:
            lines.append(f"passed: no error above {self.tolerance:g}")
        else:
            names = ", ".join(f"layer {array.layer} {array.name}" for array in self.failed)
            lines.append(f"failed (tolerance {self.tolerance:g}): {names}")
        return "\n".join(lines)


def gradient_check(
    model: MLP,
    X: Any,
    y: Any,
    loss: str | Loss = "cross_entropy",
    *,
    epsilon: float | None = None,
    samples: int | None = 100,
    tolerance: float = 1e-7,
    seed: int | None = 0,
) -> GradientReport:
    """Compare the gradients of `model.loss_and_gradients` with central differences of the loss, in float64.

    The model is not changed. Of a float32 model a copy in float64 is checked: differences of float32 losses would say
    little.

    Parameters
    ----------
    model : MLP
    X : array of shape (n, inputs)
        A few dozen rows will do: the loss of all of them is computed four times for each parameter checked.
    y : array
        Targets, as in `Trainer.fit`.
    loss : str or Loss
        As in `Trainer`; default "cross_entropy".
    epsilon : float, optional
        From 1e-12 to 0.1: a parameter w is moved by h = epsilon * max(1, |w|) each way. By default the cube root of
        the machine epsilon, 6e-6, where rounding errors (of order machine epsilon / h) and what the difference
        neglects (of order h^2) are about equal (Press et al., Numerical Recipes, 3rd edition, section 5.7).
    samples : int or None
        At most so many parameters of each array are checked, drawn at random without repetition; None checks all.
        By default 100, with which a 784-128-10 network and 32 rows take a few seconds.
    tolerance : float
        Above 0, at most 1: relative error up to which an array passes; default 1e-7.
    seed : int or None
        Of the parameters drawn; None draws others each time.

    Returns
    -------
    GradientReport

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, or not allowed, or the loss is not finite.

    Notes
    -----
    With g the gradient at the parameters checked and n the difference quotients (L(w + h) - L(w - h)) / 2h, the error
    of an array is ``|g - n| / max(|g| + |n|, tiny)`` in Euclidean norms. `tiny` is what the rounding of the loss alone
    may add to n, divided by the tolerance: where all of g is next to zero, noise in n does not count as an error.

    relu and leaky relu (and elu with another alpha than 1) have a kink at 0, where the slope jumps. If a unit's net
    input is so close to 0 that moving a parameter by h carries it across for some row, then n is a mean of the slopes
    on both sides and differs from g, though nothing is wrong. So n is computed with h / 2 as well. If the loss is
    smooth, n stays, and the difference of the two one-sided quotients (L(w + h) - L(w)) / h and (L(w) - L(w - h)) / h,
    which is about h times the second derivative, is halved. Parameters of which either is not so are left out and
    counted in the report. What g is has no part in this, so a wrong gradient is not excused by it. The same
    happens where the loss is curved too much for the step, as with inputs that are not standardised. An
    array of which nothing is left fails: try other rows, or a smaller epsilon.

    Examples
    --------
    >>> model = MLP([4, 8, 3], activation="tanh")
    >>> report = gradient_check(model, X, y)  # doctest: +SKIP
    >>> assert report.passed, str(report)  # doctest: +SKIP
    """
    if not isinstance(model, MLP):
        raise TypeError(f"model must be an MLP, got {type(model).__name__}")
    if epsilon is None:
        epsilon = MACHINE_EPSILON ** (1 / 3)
    epsilon = check_number("epsilon", epsilon, low=1e-12, high=0.1)
    if samples is not None:
        samples = check_integer("samples", samples, low=1)
    tolerance = check_number("tolerance", tolerance, low=0.0, high=1.0, above=True)
    rng = np.random.default_rng(check_seed(seed))

    double = type(model)._from_description({**model._describe(), "dtype": "float64"}, model._tensors())
    checked = model if model.dtype == double.dtype else double
    value, gradients = checked.loss_and_gradients(X, y, loss)
    if not math.isfinite(value):
        raise ValueError(f"model must have a finite loss to be checked, got {value}")
    probe = _Probe(double, np.asarray(X), np.asarray(y), loss)
    arrays = [(layer, name) for layer, names in enumerate(array_names(double.network.table)) for name in names]
    checks = []
    for number, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
        size = gradient.size
        drawn = np.arange(size) if samples is None or samples >= size else np.sort(rng.choice(size, samples, False))
        places = np.unravel_index(drawn, gradient.shape)
        steps = epsilon * np.maximum(1.0, np.abs(probe.weights[number][places]))
        quotients, changes = probe.difference_quotients(number, places, steps)
        # What rounding of the loss may add to a quotient.
        rounding = ROUNDING * MACHINE_EPSILON * max(1.0, abs(value)) / steps
        settled = changes <= ROUNDINGS_IN_A_CHANGE * rounding + tolerance * np.sqrt(np.mean(quotients**2))
        checks.append(_compare(array, gradient, [place[settled] for place in places], quotients[settled],
                               rounding[settled], tolerance, left_out=int(np.count_nonzero(~settled))))
    return GradientReport(tuple(checks), tolerance)


class _Probe:
    """The loss of a model with one parameter moved."""

    def __init__(self, model: MLP, X: Array, y: Array, loss: str | Loss) -> None:
        self.model = model
        self.data = X, y, loss
        self.weights = model.get_weights()
        self.middle = self.loss()

    def loss(self) -> float:
        return self.model.loss_and_gradients(*self.data)[0]

    def loss_at(self, number: int, place: tuple[int, ...], parameter: float) -> float:
        array = self.weights[number]
        kept = array[place]
        array[place] = parameter
        self.model.set_weights(self.weights)
        array[place] = kept
        return self.loss()

    def difference_quotients(self, number: int, places: tuple[Array, ...], steps: Array) -> tuple[Array, Array]:
        """Return the central difference quotients at some places of an array, and what they change by at half the step.

        The second is the larger change of two: that of the quotient, and that of the difference between the one-sided
        quotients from what it should be, half of it.
        """
        quotients, changes = np.zeros(len(steps)), np.zeros(len(steps))
        for i, place in enumerate(zip(*places, strict=True)):
            central, bend = self._quotient_and_bend(number, place, steps[i])
            nearer, nearer_bend = self._quotient_and_bend(number, place, steps[i] / 2)
            quotients[i] = central
            changes[i] = max(abs(central - nearer), abs(bend - 2 * nearer_bend))
        return quotients, changes

    def _quotient_and_bend(self, number: int, place: tuple[int, ...], step: float) -> tuple[float, float]:
        """Return the central difference quotient, and by how much the forward one is above the backward one."""
        parameter = float(self.weights[number][place])
        above, below = parameter + step, parameter - step
        up, down = self.loss_at(number, place, above), self.loss_at(number, place, below)
        forward = (up - self.middle) / (above - parameter)
        backward = (self.middle - down) / (parameter - below)
        return (up - down) / (above - below), forward - backward


def _compare(array: tuple[int, str], gradient: Array, places: list[Array], quotients: Array, rounding: Array,
             tolerance: float, left_out: int) -> ArrayCheck:
    """Compare the gradient by an array of a layer's parameters with difference quotients at some places."""
    layer, name = array
    if len(quotients) == 0:
        return ArrayCheck(layer, name, gradient.shape, 0, left_out, math.nan, (), math.nan, math.nan)
    analytic = gradient[tuple(places)]
    differences = np.abs(analytic - quotients)
    tiny = np.linalg.norm(rounding) / tolerance
    error = np.linalg.norm(differences) / max(np.linalg.norm(analytic) + np.linalg.norm(quotients), tiny)
    worst = int(np.argmax(differences))
    return ArrayCheck(layer, name, gradient.shape, len(quotients), left_out, float(error),
                      tuple(int(place[worst]) for place in places), float(analytic[worst]), float(quotients[worst]))
