"""Learning-rate schedules: plain data that gives the learning rate of every step of training.

In the formulas r is the trainer's learning rate, t the number of the step and T the number of steps. Schedules without
a horizon count over all the training of a trainer, so that `fit` called again goes on where it stood. `Cosine` and
`OneCycle` have a horizon: they run once over the epochs of each call of `fit`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .validation import check_choice, check_integer, check_number

# Limits of counts, so that no product of theirs is too large for the 64 bits that step numbers are counted in.
MOST_STEPS = 1 << 53  # that a trainer makes; and its epochs
LONGEST_PERIOD = 1 << 31  # of a schedule, in epochs

Rates = NDArray[np.float64]
Steps = NDArray[np.int64]


class Span(NamedTuple):
    """What a schedule may need to know of the training that its steps are part of.

    Parameters
    ----------
    horizon : int
        Steps of the whole call of `fit`; 0 in `Trainer.step`.
    steps_per_epoch : int
        Steps of an epoch of this call; 0 in `Trainer.step`.
    first_update : int
        Updates made before this call.
    epoch_steps : int
        Epochs made before this call, times `steps_per_epoch`. Not the same as `first_update` if earlier epochs had
        another length.
    state : dict of str to float
        What the schedule has taken note of so far; `Schedule.after_epoch` changes it.
    """

    horizon: int
    steps_per_epoch: int
    first_update: int
    epoch_steps: int
    state: dict[str, float]


class Schedule(ABC):
    """Base class: the learning rates of some steps."""

    @abstractmethod
    def rates(self, learning_rate: float, steps: Steps, span: Span) -> Rates:
        """Return the learning rate of each step.

        Parameters
        ----------
        learning_rate : float
            The trainer's.
        steps : int64 array of shape (n,)
            Numbers of the steps in this call of `fit`, from 0.
        span : Span
            What these steps are part of.

        Returns
        -------
        float64 array of shape (n,)
        """

    def after_epoch(self, record: Mapping[str, Any], step: int, span: Span) -> None:  # noqa: B027  most do nothing
        """Take note of an epoch's values in ``span.state``.

        Parameters
        ----------
        record : mapping of str to value
            The epoch's record in the history.
        step : int
            Number of the epoch's last step in this call of `fit`.
        span : Span
            What the step is part of.
        """

    @property
    def needs_horizon(self) -> bool:
        """Whether the rates depend on the epochs of a call of `fit`, so that `Trainer.step` has none."""
        return True

    @property
    def monitor(self) -> str | None:
        """Name of the value in an epoch's record on which later rates depend; None if there is none."""
        return None


def _keep(schedule: Schedule, **values: Any) -> None:
    """Store checked values in a frozen dataclass, as plain Python numbers."""
    for name, value in values.items():
        object.__setattr__(schedule, name, value)


def _half_cosine(start: float, end: float, share: Rates) -> Rates:
    """Go from `start` to `end` along half a cosine as `share` goes from 0 to 1."""
    return end + (start - end) * (1 + np.cos(np.pi * share)) / 2


@dataclass(frozen=True)
class Constant(Schedule):
    """The same learning rate for every step: r."""

    def rates(self, learning_rate: float, steps: Steps, span: Span) -> Rates:
        rates = np.empty(len(steps))
        rates.fill(learning_rate)  # sooner than np.full, which a single step would notice
        return rates

    @property
    def needs_horizon(self) -> bool:
        return False


@dataclass(frozen=True)
class Function(Schedule):
    """The learning rates that a function gives, in place of the trainer's.

    Parameters
    ----------
    function : callable
        Called with the number of a step (an int from 0, counted over all updates of the trainer); returns its
        learning rate, a finite number of at least 0. Otherwise training ends with a TypeError or ValueError that
        names the step. It is called ahead of time, and again after an interruption, so it should depend on nothing
        else.
    """

    function: Callable[[int], float]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function must be a callable of the step number, got {self.function!r}")

    def rates(self, learning_rate: float, steps: Steps, span: Span) -> Rates:
        updates = (span.first_update + steps).tolist()
        return np.array([check_number(f"the learning rate of step {update}", self.function(update), low=0.0)
                         for update in updates], np.float64)

    @property
    def needs_horizon(self) -> bool:
        return False


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Multiply the rate by a factor every few epochs: r * factor ** floor(epoch / every) (PyTorch's StepLR).

    Parameters
    ----------
    every : int
        Epochs between two reductions, from 1 to 2**31; default 10.
    factor : float
        Above 0 and at most 1; default 0.1.
    """

    every: int = 10
    factor: float = 0.1

    def __post_init__(self) -> None:
        _keep(self, every=check_integer("every", self.every, low=1, high=LONGEST_PERIOD),
              factor=check_number("factor", self.factor, low=0.0, high=1.0, above=True))

    def rates(self, learning_rate: float, steps: Steps, span: Span) -> Rates:
        reductions = (span.epoch_steps + steps) // (self.every * span.steps_per_epoch)
        return learning_rate * np.power(self.factor, reductions.astype(np.float64))


@dataclass(frozen=True)
class Exponential(Schedule):
    """Exponential decay, a little at every step: r * decay ** (t / (every * steps per epoch)).

    Keras's ExponentialDecay with ``decay_steps = every * steps per epoch``. PyTorch's ExponentialLR, which changes the
    rate at the end of an epoch only, is ``StepDecay(every=1, factor=decay)``.

    Parameters
    ----------
    decay : float
        What the rate is multiplied by in the course of `every` epochs, above 0 and at most 1; default 0.95.
    every : float
        Epochs, above 0; default 1.
    """

    decay: float = 0.95
    every: float = 1.0

    def __post_init__(self) -> None:
        _keep(self, decay=check_number("decay", self.decay, low=0.0, high=1.0, above=True),
              every=check_number("every", self.every, low=0.0, above=True))

    def rates(self, learning_rate: float, steps: Steps, span: Span) -> Rates:
        return learning_rate * self.decay ** ((span.epoch_steps + steps) / span.steps_per_epoch / self.every)


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """Decay by a power of the time: r / (t + 1) ** power (Robbins and Monro, 1951, for powers above 0.5 up to 1).

    scikit-learn's "invscaling" counts t in samples and changes the rate between epochs only: r / (k n + 1) ** power
    in the epoch of number k (from 0) over n samples. ``InverseScaling(power, samples=n)`` does the same. From the
    second epoch on that is far below the rate of the count in steps.

    Parameters
    ----------
    power : float
        At least 0; default 0.5.
    samples : int or None
        Samples of an epoch, from 1 to 2**53, to count as scikit-learn does. None (default) counts the updates.
    """

    power: float = 0.5
    samples: int | None = None

    def __post_init__(self) -> None:
        _keep(self, power=check_number("power", self.power, low=0.0))
        if self.samples is not None:
            _keep(self, samples=check_integer("samples", self.samples, low=1, high=MOST_STEPS))

    def rates(self, learning_rate: float, steps: Steps, span: Span) -> Rates:
        if self.samples is None:
            time = (span.first_update + steps).astype(np.float64)
        else:
            time = ((span.epoch_steps + steps) // span.steps_per_epoch).astype(np.float64) * self.samples
        return learning_rate * (time + 1) ** -self.power

    @property
    def needs_horizon(self) -> bool:
        return self.samples is not None


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine over the epochs of a call of `fit`: m + (r - m) (1 + cos(pi t / T)) / 2.

    Loshchilov and Hutter (2017), equation 5, without restarts; PyTorch's CosineAnnealingLR with ``T_max`` = T. The step
    after the last would have the rate m.

    Parameters
    ----------
    minimum : float
        m, at least 0; default 0. A learning rate below it stays as it is.
    """

    minimum: float = 0.0

    def __post_init__(self) -> None:
        _keep(self, minimum=check_number("minimum", self.minimum, low=0.0))

    def rates(self, learning_rate: float, steps: Steps, span: Span) -> Rates:
        return _half_cosine(learning_rate, min(self.minimum, learning_rate), steps / span.horizon)


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Half a cosine again and again: m + (r - m) (1 + cos(pi c / L)) / 2, at step c of a cycle of L steps.

    SGDR (Loshchilov and Hutter, 2017, equation 5); PyTorch's CosineAnnealingWarmRestarts, stepped at every update.

    Parameters
    ----------
    first : int
        Epochs of the first cycle, from 1 to 2**31; default 10.
    growth : float
        How many times as long as a cycle the next one is, at least 1; default 1.
    minimum : float
        m, at least 0; default 0. A learning rate below it stays as it is.
    """

    first: int = 10
    growth: float = 1.0
    minimum: float = 0.0

    def __post_init__(self) -> None:
        _keep(self, first=check_integer("first", self.first, low=1, high=LONGEST_PERIOD),
              growth=check_number("growth", self.growth, low=1.0),
              minimum=check_number("minimum", self.minimum, low=0.0))

    def rates(self, learning_rate: float, steps: Steps, span: Span) -> Rates:
        share = self._share_of_cycle(span.epoch_steps + steps, self.first * span.steps_per_epoch)
        return _half_cosine(learning_rate, min(self.minimum, learning_rate), share)

    def _share_of_cycle(self, steps: Steps, first: int) -> Rates:
        """Return how much of its cycle is over at each step, where the first cycle has `first` steps."""
        if self.growth == 1:
            return (steps % first).astype(np.float64) / first
        last = steps.max(initial=0)
        starts, lengths = [0.0], [float(first)]
        while starts[-1] + lengths[-1] <= last:
            starts.append(starts[-1] + lengths[-1])
            lengths.append(lengths[-1] * self.growth)
        cycles = np.searchsorted(starts, steps, side="right") - 1
        share: Rates = (steps - np.array(starts)[cycles]) / np.array(lengths)[cycles]
        return share


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Rise to the learning rate and fall to nearly zero, over the epochs of a call of `fit`.

    Both along half a cosine (Smith and Topin, 2018, in the form and with the defaults of PyTorch's OneCycleLR).

    Parameters
    ----------
    warm : float
        Share of the steps that rise, from 0 to 1; default 0.3.
    start_divisor : float
        The rate begins at r / start_divisor; at least 1, default 25.
    end_divisor : float
        The rate ends at r / start_divisor / end_divisor; at least 1, default 10,000.
    """

    warm: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4

    def __post_init__(self) -> None:
        _keep(self, warm=check_number("warm", self.warm, low=0.0, high=1.0),
              start_divisor=check_number("start_divisor", self.start_divisor, low=1.0),
              end_divisor=check_number("end_divisor", self.end_divisor, low=1.0))

    def rates(self, learning_rate: float, steps: Steps, span: Span) -> Rates:
        first, last = learning_rate / self.start_divisor, learning_rate / (self.start_divisor * self.end_divisor)
        peak = self.warm * span.horizon - 1
        rising = np.clip(steps / peak, 0, 1) if peak > 0 else np.ones(len(steps))
        falling = np.clip((steps - peak) / max(span.horizon - 1 - peak, 1), 0, 1)
        return np.where(steps < peak, _half_cosine(first, learning_rate, rising),
                        _half_cosine(learning_rate, last, falling))


@dataclass(frozen=True)
class WarmUp(Schedule):
    """A linear rise over the first W steps of a trainer, r (t + 1) / W, and then another schedule (Goyal et al., 2017).

    The other schedule counts its steps and epochs from the end of the rise; its horizon is what is left of the call of
    `fit`. There is one rise only: later calls of `fit` begin with the other schedule.

    Parameters
    ----------
    steps, epochs : int
        How long the rise takes: W, from 1 to 2**53, or W divided by the steps of an epoch, from 1 to 2**31. One of
        the two must be given.
    then : str, Schedule, callable or None
        The schedule that follows, as a trainer takes it; None (default) for a constant learning rate.
    """

    steps: int | None = None
    epochs: int | None = None
    then: Any = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("exactly one of steps and epochs must be given, got "
                             f"steps={self.steps!r} and epochs={self.epochs!r}")
        if self.steps is not None:
            _keep(self, steps=check_integer("steps", self.steps, low=1, high=MOST_STEPS))
        else:
            _keep(self, epochs=check_integer("epochs", self.epochs, low=1, high=LONGEST_PERIOD))
        _keep(self, then=check_schedule(self.then, "then"))

    def rates(self, learning_rate: float, steps: Steps, span: Span) -> Rates:
        length, left, rest = self._divide(span)
        rates = learning_rate * ((length - left + steps + 1) / length)
        after = steps >= left
        if after.any():
            rates[after] = self._schedule.rates(learning_rate, steps[after] - left, rest)
        return rates

    def after_epoch(self, record: Mapping[str, Any], step: int, span: Span) -> None:
        """Hand an epoch that ended after the rise to the schedule that follows."""
        _, left, rest = self._divide(span)
        if step >= left:
            self._schedule.after_epoch(record, step - left, rest)

    def _divide(self, span: Span) -> tuple[int, int, Span]:
        """Return the steps of the rise, how many of them lie in this call of `fit`, and what follows them."""
        if self.steps is not None:
            length, done = self.steps, span.first_update
        else:
            assert self.epochs is not None  # one of the two is given
            length, done = self.epochs * span.steps_per_epoch, span.epoch_steps
        if done < length:
            left = length - done
            return length, left, Span(span.horizon - left, span.steps_per_epoch, 0, 0, span.state)
        updates, epoch_steps = max(span.first_update - length, 0), max(span.epoch_steps - length, 0)
        return length, 0, Span(span.horizon, span.steps_per_epoch, updates, epoch_steps, span.state)

    @property
    def _schedule(self) -> Schedule:
        schedule: Schedule = self.then  # made one in __post_init__
        return schedule

    @property
    def needs_horizon(self) -> bool:
        return self.epochs is not None or self._schedule.needs_horizon

    @property
    def monitor(self) -> str | None:
        return self._schedule.monitor


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """Multiply the rate by a factor when a loss no longer falls (ReduceLROnPlateau of Keras and PyTorch).

    The defaults and the meaning of `patience` are Keras's; PyTorch waits one epoch more. A loss below the best one by
    more than `min_delta` is an improvement; NaN is none. After `patience` epochs without one the rate is reduced. The
    trainer's `schedule_state` keeps, also from one call of `fit` to the next: "scale" (the product of the factors),
    "best" (the best loss), "wait" (epochs without improvement) and "cooldown" (epochs that it still lasts). The
    trainer's `learning_rate` stays as it is.

    Parameters
    ----------
    monitor : str
        "val_loss" (default; `fit` then needs validation data) or "loss".
    factor : float
        Above 0 and below 1; default 0.1.
    patience : int
        At least 1; default 10.
    min_delta : float
        At least 0; default 1e-4.
    minimum : float
        The rate is not reduced below it; at least 0, default 0. A learning rate below it stays as it is.
    cooldown : int
        Epochs after a reduction that do not count as epochs without improvement, as in PyTorch (Keras counts the
        last of them); at least 0, default 0.
    """

    monitor: str = "val_loss"
    factor: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4
    minimum: float = 0.0
    cooldown: int = 0

    def __post_init__(self) -> None:
        check_choice("monitor", self.monitor, ("val_loss", "loss"))
        _keep(self, factor=check_number("factor", self.factor, low=0.0, high=1.0, above=True, below=True),
              patience=check_integer("patience", self.patience, low=1),
              min_delta=check_number("min_delta", self.min_delta, low=0.0),
              minimum=check_number("minimum", self.minimum, low=0.0),
              cooldown=check_integer("cooldown", self.cooldown, low=0))

    def rates(self, learning_rate: float, steps: Steps, span: Span) -> Rates:
        reduced = learning_rate * span.state.get("scale", 1.0)
        return np.full(len(steps), max(reduced, min(self.minimum, learning_rate)))

    def after_epoch(self, record: Mapping[str, Any], step: int, span: Span) -> None:
        """Compare the epoch's loss with the best one; reduce the rate when patience has run out."""
        if self.monitor not in record:  # nothing to compare
            return
        state, loss = span.state, float(record[self.monitor])
        wait, cooldown = state.get("wait", 0), state.get("cooldown", 0)
        if loss < state.get("best", math.inf) - self.min_delta:
            state["best"] = loss
            wait = 0
        elif cooldown == 0:
            wait += 1
        cooldown = max(cooldown - 1, 0)
        if wait >= self.patience and record["learning_rate"] > self.minimum:
            state["scale"] = state.get("scale", 1.0) * self.factor
            wait, cooldown = 0, self.cooldown
        state["wait"], state["cooldown"] = wait, cooldown


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "step": StepDecay,
    "exponential": Exponential,
    "inverse_scaling": InverseScaling,
    "cosine": Cosine,
    "cosine_restarts": CosineRestarts,
    "one_cycle": OneCycle,
    "reduce_on_plateau": ReduceOnPlateau,
}


def check_schedule(schedule: Any, name: str = "schedule") -> Schedule:
    """Return a schedule from its name, with default settings, from an instance or from a function; None is constant.

    Parameters
    ----------
    schedule : str, Schedule, callable or None
        A key of `SCHEDULES`, a schedule, or a function as `Function` takes it.
    name : str
        What errors call the argument.

    Raises
    ------
    TypeError, ValueError
        If it is none of these.
    """
    allowed = (f"None, one of {', '.join(map(repr, SCHEDULES))}, an instance of Schedule, "
               "or a function of the step number")
    if schedule is None:
        return Constant()
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, str):
        if schedule not in SCHEDULES:
            raise ValueError(f"{name} must be {allowed}, got {schedule!r}")
        return SCHEDULES[schedule]()
    if not callable(schedule) or isinstance(schedule, type):
        raise TypeError(f"{name} must be {allowed}, got {schedule!r}")
    return Function(schedule)


def step_rates(schedule: Schedule, learning_rate: float, steps: Steps, span: Span) -> Rates:
    """Return the schedule's learning rate of each step as the kernels read them.

    Raises
    ------
    ValueError
        If there is not one for each step, finite and at least 0.
    """
    rates = np.ascontiguousarray(schedule.rates(learning_rate, steps, span), np.float64)
    if rates.shape != steps.shape:
        raise ValueError(f"schedule must give an array of shape {steps.shape}, a learning rate for each step, got "
                         f"shape {rates.shape} from {schedule!r}")
    if len(rates) and not 0.0 <= rates.min() <= rates.max() < np.inf:
        wrong = rates[~((rates >= 0.0) & (rates < np.inf))][0]
        raise ValueError(f"schedule must give finite numbers of at least 0, got {wrong} from {schedule!r}")
    return rates
