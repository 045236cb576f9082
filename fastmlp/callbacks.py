"""Callbacks: objects that `Trainer.fit` calls at the start and the end of training and of every epoch.

A callback is any object that has one or more of the four methods of `Callback`; it need not derive from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

EVENTS = ("on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end")

# "auto" takes a value as better when it is higher if the monitor's name contains one of these words.
_HIGHER_IS_BETTER = ("accuracy", "f1", "precision", "recall", "r2", "top_k")


class Callback:
    """Base class for callbacks: four methods that do nothing. Override those you need.

    Every method gets the trainer (``trainer.model`` is the model; setting ``trainer.stop_training = True``
    ends training after the epoch) and `logs`, a dict of what is known at that point. In `on_epoch_end` the
    logs are the epoch's record in the history: ``epoch``, ``loss``, ``val_loss`` and so on.
    """

    def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Called once, before the first epoch."""

    def on_train_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Called once, after the last epoch, also when training was interrupted."""

    def on_epoch_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Called before every epoch."""

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Called after every epoch, when its training and validation values are known."""


def check_callbacks(callbacks: Iterable[Any] | None) -> list[Any]:
    """Check the `callbacks` argument of `Trainer.fit`.

    Parameters
    ----------
    callbacks : iterable of objects, or None
        Each object must have at least one of the methods ``on_train_begin``, ``on_train_end``,
        ``on_epoch_begin``, ``on_epoch_end``. None stands for no callbacks.

    Returns
    -------
    list
        The callbacks, in their order.

    Raises
    ------
    TypeError
        If `callbacks` is not an iterable of such objects.
    """
    allowed = f"an iterable of objects with any of the methods {', '.join(EVENTS)}"
    if callbacks is None:
        return []
    if not isinstance(callbacks, Iterable):
        hint = "; put a single callback in a list" if _is_callback(callbacks) else ""
        raise TypeError(f"callbacks must be {allowed}, got {callbacks!r}{hint}")
    checked = list(callbacks)
    for position, callback in enumerate(checked):
        if isinstance(callback, type):
            raise TypeError(
                f"callbacks must be {allowed}, got the class {callback.__name__} at position {position}; "
                f"pass an instance of it"
            )
        if not _is_callback(callback):
            raise TypeError(f"callbacks must be {allowed}, got {callback!r} at position {position}")
    return checked


def notify(callbacks: Iterable[Any], event: str, trainer: Any, logs: dict[str, Any]) -> None:
    """Call the method named `event` of every callback that has it, in order.

    Parameters
    ----------
    callbacks : iterable of objects
        As returned by `check_callbacks`.
    event : str
        ``"on_train_begin"``, ``"on_train_end"``, ``"on_epoch_begin"`` or ``"on_epoch_end"``.
    trainer : Trainer
        Passed on to the callbacks.
    logs : dict of str to value
        Passed on to the callbacks.
    """
    for callback in callbacks:
        method = getattr(callback, event, None)
        if callable(method):
            method(trainer, logs)


def _is_callback(candidate: object) -> bool:
    return any(callable(getattr(candidate, event, None)) for event in EVENTS)


class EarlyStopping(Callback):
    """Stop training when a value no longer improves, and go back to the best weights.

    Parameters
    ----------
    monitor : str, default "val_loss"
        Name of the value to watch, as it stands in the history. Names that begin with ``val_`` need
        validation data in ``fit``.
    patience : int, default 5
        Number of epochs in a row without improvement after which training stops; at least 0. With 0, as
        with 1, the first epoch without improvement is the last.
    min_delta : float, default 0.0
        An epoch is an improvement if its value is better than the best one by more than this; at least 0.
    mode : {"auto", "min", "max"}, default "auto"
        Whether a lower ("min") or a higher ("max") value is better. "auto" is "max" if the monitor's name
        contains accuracy, f1, precision, recall, r2 or top_k, else "min".
    restore_best : bool, default True
        Whether the model gets the weights of the best epoch when training ends, be it early, at its last
        epoch or interrupted. A copy of the weights is kept until then.

    Attributes
    ----------
    best_value : float or None
        The best value of this run; None before the first that is not NaN.
    best_epoch : int or None
        ``logs["epoch"]`` of the epoch that gave `best_value`.
    stopped_epoch : int or None
        ``logs["epoch"]`` of the epoch after which training was stopped; None if it was not.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its type or outside its range; in `on_epoch_end`, a ValueError if the logs
        have no value named `monitor`.

    Notes
    -----
    NaN is never an improvement. The state is reset when training begins, so an instance can be used again.

    Examples
    --------
    >>> stopping = EarlyStopping(monitor="val_accuracy", patience=3)
    >>> history = trainer.fit(X, y, epochs=100, validation_split=0.1, callbacks=[stopping])  # doctest: +SKIP
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be the name of a value in the history, got {monitor!r}")
        if isinstance(patience, bool) or not isinstance(patience, (int, np.integer)):
            raise TypeError(f"patience must be an int of at least 0, got {patience!r}")
        if patience < 0:
            raise ValueError(f"patience must be an int of at least 0, got {patience!r}")
        if isinstance(min_delta, bool) or not isinstance(min_delta, (int, float, np.integer, np.floating)):
            raise TypeError(f"min_delta must be a finite number of at least 0, got {min_delta!r}")
        if not (math.isfinite(min_delta) and min_delta >= 0):
            raise ValueError(f"min_delta must be a finite number of at least 0, got {min_delta!r}")
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"mode must be 'auto', 'min' or 'max', got {mode!r}")
        if not isinstance(restore_best, bool):
            raise TypeError(f"restore_best must be True or False, got {restore_best!r}")
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.mode = mode
        self.restore_best = restore_best
        self._reset()

    def _reset(self) -> None:
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._best_weights: list[Any] | None = None
        self._epochs_without_improvement = 0

    def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Forget the run before."""
        self._reset()

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Compare the epoch's value with the best one; stop training when patience has run out."""
        if self.monitor not in logs:
            raise ValueError(self._missing_monitor(logs))
        value = float(logs[self.monitor])
        if self._improves(value):
            self.best_value = value
            self.best_epoch = logs["epoch"]
            self._epochs_without_improvement = 0
            if self.restore_best:
                self._best_weights = trainer.model.get_weights()
            return
        self._epochs_without_improvement += 1
        if self._epochs_without_improvement >= self.patience:
            self.stopped_epoch = logs["epoch"]
            trainer.stop_training = True

    def on_train_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Give the model the weights of the best epoch."""
        if self._best_weights is not None:
            trainer.model.set_weights(self._best_weights)
            self._best_weights = None

    def _improves(self, value: float) -> bool:
        if self.best_value is None:
            return not math.isnan(value)
        if self._higher_is_better():
            return value > self.best_value + self.min_delta
        return value < self.best_value - self.min_delta

    def _higher_is_better(self) -> bool:
        if self.mode == "auto":
            return any(word in self.monitor for word in _HIGHER_IS_BETTER)
        return self.mode == "max"

    def _missing_monitor(self, logs: dict[str, Any]) -> str:
        names = ", ".join(map(repr, logs)) or "none"
        message = f"monitor must be the name of a value in the logs ({names}), got {self.monitor!r}"
        if self.monitor.startswith("val_"):
            message += "; values that begin with 'val_' need validation_data or validation_split in fit"
        return message
