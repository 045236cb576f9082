"""Early stopping: training ends when a value no longer improves."""

from __future__ import annotations

from typing import Any

from ..arrays import as_numeric
from ..validation import check_flag, check_integer, check_number
from .base import Callback
from .monitoring import check_best_value, check_mode, check_monitor, is_better, monitored
from .states import check_state


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
        contains accuracy, f1, precision, recall, r2 or top_, else "min".
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
        If a parameter is not of its type or outside its range; a ValueError if the logs have no value named `monitor`:
        before training where it is known by then, else in `on_epoch_end`.

    Notes
    -----
    NaN is never an improvement. The state is reset when training begins, so an instance can be used again; only a
    state that was loaded since is kept.

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
        check_monitor(monitor)
        self.monitor = monitor
        self.patience = check_integer("patience", patience, low=0)
        self.min_delta = check_number("min_delta", min_delta, low=0.0)
        self.mode = check_mode(mode)
        self.restore_best = check_flag("restore_best", restore_best)
        self._reset()

    def _reset(self) -> None:
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._best_weights: list[Any] | None = None
        self._epochs_without_improvement = 0
        self._loaded = False  # whether the next run goes on from the state as it is

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint needs to go on from here.

        Take it in `on_epoch_end` of a callback that stands behind this one: the best weights are let go when
        training ends.

        Returns
        -------
        dict
            "best_value", "best_epoch", "stopped_epoch": as the attributes; "epochs_without_improvement": int;
            "best_weights": list of copies of the arrays of ``get_weights``, or None.
        """
        weights = self._best_weights
        return {
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "stopped_epoch": self.stopped_epoch,
            "epochs_without_improvement": self._epochs_without_improvement,
            "best_weights": None if weights is None else [weight.copy() for weight in weights],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on a state; the next call of `fit` goes on from it.

        Parameters
        ----------
        state : dict
            As `state_dict` returned it; the weights are copied.

        Raises
        ------
        TypeError, ValueError
            If it lacks a key, has others, or a value is not of its kind; then nothing is changed.
        """
        check_state(state, self.state_dict())
        best_value = check_best_value(state)
        best_epoch, stopped_epoch = (
            None if state[name] is None else check_integer(f"state[{name!r}]", state[name], low=0)
            for name in ("best_epoch", "stopped_epoch")
        )
        name = "epochs_without_improvement"
        epochs_without_improvement = check_integer(f"state[{name!r}]", state[name], low=0)
        weights = state["best_weights"]
        if weights is not None:
            allowed = "a list of arrays of real numbers or None"
            if not isinstance(weights, (list, tuple)):
                raise TypeError(f"state['best_weights'] must be {allowed}, got {type(weights).__name__}")
            weights = [as_numeric("state['best_weights']", weight, allowed).copy() for weight in weights]
        self.best_value, self.best_epoch, self.stopped_epoch = best_value, best_epoch, stopped_epoch
        self._epochs_without_improvement = epochs_without_improvement
        self._best_weights = weights if self.restore_best else None
        self._loaded = True

    def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Forget the run before, unless its state was just loaded."""
        if not self._loaded:
            self._reset()
        elif self._best_weights is not None:
            shapes, given = ([weight.shape for weight in weights]
                             for weights in (trainer.model.get_weights(), self._best_weights))
            if given != shapes:
                self._reset()  # so that they are not restored either
                raise ValueError(f"state['best_weights'] must hold arrays of the shapes {shapes}, got {given}")
        self._loaded = False

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Compare the epoch's value with the best one; stop training when patience has run out."""
        value = monitored(self.monitor, logs)
        if is_better(value, self.best_value, self.monitor, self.mode, self.min_delta):
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
