"""The learning-rate range test: a short training run whose learning rate grows until the loss does."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .losses import Loss
from .model import MLP, check_seed
from .optimizers import LBFGS, check_optimizer
from .schedules import MOST_STEPS
from .trainer import Trainer
from .validation import check_integer, check_number

Vector = NDArray[np.float64]

DIVERGED = 4.0  # the test ends when the smoothed loss is so many times the best one


@dataclass(frozen=True, eq=False)
class LearningRates:
    """What `lr_find` measured.

    Attributes
    ----------
    rates : float64 array of shape (n,)
        The learning rates tried, rising; fewer than `steps` if the loss diverged.
    losses : float64 array of shape (n,)
        The loss of each step's batch, before its update.
    smoothed : float64 array of shape (n,)
        Moving average of the losses, see `lr_find`.
    """

    rates: Vector
    losses: Vector
    smoothed: Vector

    @property
    def suggestion(self) -> float | None:
        """The rate at which the smoothed loss falls most steeply over the logarithm of the rate; None if it does not.

        The steepest slope as fastai and PyTorch Lightning take it, but of the fall alone: from the last rate at which
        the smoothed loss was still at its median or above it, to that at which it is lowest. So neither the noise of
        rates too small for learning counts nor the way back from a spike.
        """
        if len(self.rates) == 0:
            return None
        last = int(self.smoothed.argmin())
        before = self.smoothed[: last + 1]
        first = int(np.flatnonzero(before >= np.median(before))[-1])
        if first == last:
            return None
        slopes = np.gradient(self.smoothed[first : last + 1], np.log(self.rates[first : last + 1]))
        return float(self.rates[first + int(slopes.argmin())])

    def plot(self) -> Any:
        """Draw the losses over the rates, with the suggestion, in a new figure of matplotlib.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is missing.
        """
        try:
            from matplotlib import pyplot
        except ImportError as problem:
            raise ImportError("plot needs matplotlib: pip install fastmlp[plot]") from problem
        _, axes = pyplot.subplots()
        axes.plot(self.rates, self.losses, color="lightgray", label="loss of a batch")
        axes.plot(self.rates, self.smoothed, label="smoothed")
        suggestion = self.suggestion
        if suggestion is not None:
            axes.axvline(suggestion, color="black", linestyle="--", label=f"suggestion: {suggestion:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.legend()
        return axes


def lr_find(
    model: MLP,
    X: Any,
    y: Any,
    loss: str | Loss = "cross_entropy",
    optimizer: Any = "adam",
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
    smoothing: float = 0.1,
    seed: int | None = 0,
) -> LearningRates:
    """Find a learning rate by the range test (Smith, 2017, "Cyclical learning rates", section 3.3).

    A copy of the model is trained, one batch for each rate from `lowest` to `highest`, each a constant factor above the
    one before. Below the right rates the loss hardly moves, around them it falls, above them it grows. The test ends
    early when the smoothed loss is four times the lowest one so far, or a loss is no finite number. The model is not
    changed.

    Parameters
    ----------
    model : MLP
    X : array of shape (n, inputs)
        As in `Trainer.fit`.
    y : array
        As in `Trainer.fit`.
    loss, optimizer
        As in `Trainer`; not "lbfgs", which has no learning rate.
    lowest, highest : float
        The first and the last rate, 0 < lowest < highest; default 1e-7 and 10.
    steps : int
        Number of rates, at least 2; default 100.
    batch_size : int
        Rows of a batch, at least 1; default 32. A set smaller than that is one batch.
    smoothing : float
        s, the share of the newest loss in the moving average, above 0 and at most 1 (not smoothed); default 0.1. With
        a_t = (1 - s) a_(t-1) + s loss_t and a_0 = 0, the smoothed loss of step t (from 1) is a_t / (1 - (1 - s)^t).
    seed : int or None
        Of the order of the rows; default 0. None takes another one each time.

    Returns
    -------
    LearningRates
        Its `suggestion` is a rate to begin with, `plot` draws the test.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, or not allowed.

    Examples
    --------
    >>> found = lr_find(model, X, y)  # doctest: +SKIP
    >>> trainer = Trainer(model, learning_rate=found.suggestion)  # doctest: +SKIP
    """
    if not isinstance(model, MLP):
        raise TypeError(f"model must be an MLP, got {type(model).__name__}")
    if isinstance(check_optimizer(optimizer), LBFGS):
        raise ValueError(f"optimizer must be one with a learning rate, got {optimizer!r}")
    lowest = check_number("lowest", lowest, low=0.0, above=True)
    highest = check_number("highest", highest, low=lowest, above=True)
    steps = check_integer("steps", steps, low=2, high=MOST_STEPS)
    smoothing = check_number("smoothing", smoothing, low=0.0, high=1.0, above=True)
    seed = check_seed(seed)
    rates = np.geomspace(lowest, highest, steps)
    trainer = Trainer(copy.deepcopy(model), loss, optimizer, schedule=lambda step: float(rates[step]),
                      batch_size=batch_size, seed=seed)
    source, targets = trainer._check_data(X, y)
    order = _row_order(source.rows, min(trainer.batch_size, source.rows), steps, seed)

    losses, smoothed = [], []
    average, best = 0.0, math.inf
    for step, rows in enumerate(order):
        value = trainer.step(source.array[rows], targets.source.array[rows])
        if not math.isfinite(value):
            break
        average += smoothing * (value - average)
        losses.append(value)
        smoothed.append(average / (1.0 - (1.0 - smoothing) ** (step + 1)))
        best = min(best, smoothed[-1])
        if smoothed[-1] > best + (DIVERGED - 1.0) * abs(best):  # a loss may be negative
            break
    return LearningRates(rates[: len(losses)], np.array(losses), np.array(smoothed))


def _row_order(rows: int, batch: int, steps: int, seed: int) -> NDArray[np.intp]:
    """Return the rows of each step, (steps, batch): all rows in a new order, again and again."""
    rng = np.random.default_rng(seed)
    passes = -(-steps * batch // rows)
    order = np.concatenate([rng.permutation(rows) for _ in range(passes)])
    return order[: steps * batch].reshape(steps, batch)
