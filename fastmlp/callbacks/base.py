"""What a callback is, and how the trainer calls it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

EVENTS = ("on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end")


class Callback:
    """Base class for callbacks: four methods that do nothing. Override those you need.

    Every method gets the trainer and `logs`, a dict of what is known at that point. ``trainer.model`` is the model;
    setting ``trainer.stop_training = True`` ends training after the epoch, and settings, such as
    ``trainer.learning_rate``, count from the next epoch (see `Trainer`). In `on_epoch_end` the logs are the epoch's
    record in the history: ``epoch``, ``loss``, ``val_loss`` and so on. What a callback adds to them is in the history,
    and there for the callbacks behind it.
    """

    def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Called once, before the first epoch."""

    def on_train_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Called once, after the last epoch, also when training was interrupted; not if it could not begin."""

    def on_epoch_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Called before every epoch."""

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Called after every epoch, when its training and validation values are known."""


def check_callbacks(callbacks: Iterable[Any] | None) -> list[Any]:
    """Check the `callbacks` argument of `Trainer.fit`.

    Parameters
    ----------
    callbacks : iterable of objects and functions, or None
        Each object must have at least one of the methods ``on_train_begin``, ``on_train_end``,
        ``on_epoch_begin``, ``on_epoch_end``. A function ``f(trainer, logs)`` is called as ``on_epoch_end``.
        None stands for no callbacks.

    Returns
    -------
    list
        The callbacks, in their order, functions as objects with the method ``on_epoch_end``.

    Raises
    ------
    TypeError
        If `callbacks` is not an iterable of such objects and functions.
    """
    allowed = f"an iterable of objects with any of the methods {', '.join(EVENTS)}, and functions f(trainer, logs)"
    if callbacks is None:
        return []
    if not isinstance(callbacks, Iterable):
        hint = "; put a single callback in a list" if _is_callback(callbacks) or callable(callbacks) else ""
        raise TypeError(f"callbacks must be {allowed}, got {callbacks!r}{hint}")
    checked = list(callbacks)
    for position, callback in enumerate(checked):
        if isinstance(callback, type):
            raise TypeError(
                f"callbacks must be {allowed}, got the class {callback.__name__} at position {position}; "
                f"pass an instance of it"
            )
        if not _is_callback(callback):
            if not callable(callback):
                raise TypeError(f"callbacks must be {allowed}, got {callback!r} at position {position}")
            checked[position] = _EpochEnd(callback)
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


class _EpochEnd(Callback):
    """A function as a callback."""

    def __init__(self, function: Callable[[Any, dict[str, Any]], Any]) -> None:
        self._function = function

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        self._function(trainer, logs)
