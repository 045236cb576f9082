"""Callbacks: objects that `Trainer.fit` calls at the start and the end of training and of every epoch.

A callback is any object that has one or more of the four methods of `Callback`; it need not derive from it. A plain
function will do as well.

A callback that has the methods ``state_dict()`` and ``load_state_dict(state)`` has a state: checkpoints made within
`Trainer.fit` hold it, and a call of `fit` that goes on from one hands it back. A state is a dict of None, bool, int,
float, str, arrays, and lists and dicts (with str keys) of these; an empty one need not be handed back.
"""

from __future__ import annotations

import csv
import errno
import math
import os
import warnings
from collections.abc import Callable, Iterable
from typing import IO, Any

import numpy as np

from .arrays import as_numeric
from .validation import check_flag, check_integer, check_number

EVENTS = ("on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end")

# "auto" takes a value as better when it is higher if the monitor's name contains one of these words.
_HIGHER_IS_BETTER = ("accuracy", "f1", "precision", "recall", "r2", "top_")


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


def has_state(callback: object) -> bool:
    """Whether a callback has both of the methods ``state_dict`` and ``load_state_dict``."""
    return all(callable(getattr(callback, name, None)) for name in ("state_dict", "load_state_dict"))


def callback_states(callbacks: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the states of the callbacks that have one.

    Returns
    -------
    list of dict
        "position": of the callback, from 0; "class": its name; "state": what its ``state_dict`` returned.
    """
    states = []
    for position, callback in enumerate(callbacks):
        state = callback.state_dict() if has_state(callback) else {}
        if state:
            states.append({"position": position, "class": type(callback).__name__, "state": state})
    return states


def load_callback_states(callbacks: list[Any], states: list[dict[str, Any]]) -> None:
    """Hand the states that `callback_states` returned to callbacks of the same positions and classes.

    Raises
    ------
    ValueError
        If a callback of that class does not stand at a state's position; then no state is handed over.
    TypeError, ValueError
        As ``load_state_dict``.
    """
    for entry in states:
        position, name = entry["position"], entry["class"]
        found = callbacks[position] if position < len(callbacks) else None
        if type(found).__name__ != name or not has_state(found):
            got = "none" if found is None else repr(found)
            raise ValueError(f"callbacks must be as in the call of fit that is resumed, with one of the class {name} "
                             f"at position {position}, got {got}")
    for entry in states:
        callbacks[entry["position"]].load_state_dict(entry["state"])


def _is_callback(candidate: object) -> bool:
    return any(callable(getattr(candidate, event, None)) for event in EVENTS)


class _EpochEnd(Callback):
    """A function as a callback."""

    def __init__(self, function: Callable[[Any, dict[str, Any]], Any]) -> None:
        self._function = function

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        self._function(trainer, logs)


def _check_monitor(monitor: Any) -> str:
    if not isinstance(monitor, str):
        raise TypeError(f"monitor must be the name of a value in the history, got {monitor!r}")
    return monitor


def _monitored(monitor: str, logs: dict[str, Any]) -> float:
    """Return the value of the logs that is named `monitor`."""
    if monitor in logs:
        return float(logs[monitor])
    names = ", ".join(map(repr, logs)) or "none"
    message = f"monitor must be the name of a value in the logs ({names}), got {monitor!r}"
    if monitor.startswith("val_"):
        message += "; values that begin with 'val_' need validation_data or validation_split in fit"
    raise ValueError(message)


def _check_mode(mode: Any) -> str:
    if mode not in ("auto", "min", "max"):
        raise ValueError(f"mode must be 'auto', 'min' or 'max', got {mode!r}")
    return str(mode)


def _is_better(value: float, best: float | None, monitor: str, mode: str, min_delta: float = 0.0) -> bool:
    """Whether a monitored value is better than the best one so far by more than `min_delta`; NaN never is."""
    if best is None:
        return not math.isnan(value)
    if mode == "max" or (mode == "auto" and any(word in monitor for word in _HIGHER_IS_BETTER)):
        return value > best + min_delta
    return value < best - min_delta


def _check_state(state: Any, names: Iterable[str]) -> None:
    """Check that the argument of a ``load_state_dict`` is a dict with these keys."""
    names = list(names)
    allowed = f"a dict with the keys {', '.join(map(repr, names))}"
    if not isinstance(state, dict):
        raise TypeError(f"state must be {allowed}, got {type(state).__name__}")
    if set(state) != set(names):
        raise ValueError(f"state must be {allowed}, got {', '.join(map(repr, state)) or 'none'}")


def _check_best_value(state: dict[str, Any]) -> float | None:
    value = state["best_value"]
    if value is None or (isinstance(value, float) and math.isinf(value)):
        return value
    return check_number("state['best_value']", value)


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
        If a parameter is not of its type or outside its range; in `on_epoch_end`, a ValueError if the logs
        have no value named `monitor`.

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
        _check_monitor(monitor)
        if isinstance(patience, bool) or not isinstance(patience, (int, np.integer)):
            raise TypeError(f"patience must be an int of at least 0, got {patience!r}")
        if patience < 0:
            raise ValueError(f"patience must be an int of at least 0, got {patience!r}")
        if isinstance(min_delta, bool) or not isinstance(min_delta, (int, float, np.integer, np.floating)):
            raise TypeError(f"min_delta must be a finite number of at least 0, got {min_delta!r}")
        if not (math.isfinite(min_delta) and min_delta >= 0):
            raise ValueError(f"min_delta must be a finite number of at least 0, got {min_delta!r}")
        if not isinstance(restore_best, bool):
            raise TypeError(f"restore_best must be True or False, got {restore_best!r}")
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.mode = _check_mode(mode)
        self.restore_best = restore_best
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
        _check_state(state, self.state_dict())
        best_value = _check_best_value(state)
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
        value = _monitored(self.monitor, logs)
        if _is_better(value, self.best_value, self.monitor, self.mode, self.min_delta):
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


class StopOnNaN(Callback):
    """Stop training when a value is NaN or infinite.

    `Trainer.fit` itself stops when the training loss is; this is for the values taken after an epoch.

    Parameters
    ----------
    monitor : str, default "loss"
        Name of the value to watch, as it stands in the history. Names that begin with ``val_`` need validation data
        in ``fit``.

    Attributes
    ----------
    stopped_epoch : int or None
        ``logs["epoch"]`` of the epoch after which training was stopped; None if it was not. Reset when training
        begins.

    Raises
    ------
    TypeError, ValueError
        If `monitor` is no str; in `on_epoch_end`, a ValueError if the logs have no value of that name.

    Warns
    -----
    RuntimeWarning
        When it stops training.
    """

    def __init__(self, monitor: str = "loss") -> None:
        self.monitor = _check_monitor(monitor)
        self.stopped_epoch: int | None = None

    def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Forget the run before."""
        self.stopped_epoch = None

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Stop training if the epoch's value is not finite."""
        value = _monitored(self.monitor, logs)
        if not math.isfinite(value):
            self.stopped_epoch = logs["epoch"]
            trainer.stop_training = True
            message = f"training stopped: {self.monitor} is {value} in epoch {self.stopped_epoch}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)


class LearningRateLogger(Callback):
    """Record the learning rate of every epoch.

    Parameters
    ----------
    verbose : bool, default False
        Whether to print a line an epoch.

    Attributes
    ----------
    rates : list of float
        The rate of each epoch's last step, as in the history; NaN for "lbfgs", which has none. Emptied when training
        begins.
    base_rates : list of float
        ``trainer.learning_rate`` at the end of each epoch: what the schedule starts from. Emptied likewise.

    Raises
    ------
    TypeError
        If `verbose` is neither True nor False.
    """

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = check_flag("verbose", verbose)
        self.rates: list[float] = []
        self.base_rates: list[float] = []

    def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Begin new lists."""
        self.rates, self.base_rates = [], []

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Take note of the epoch's rates."""
        self.rates.append(float(logs.get("learning_rate", math.nan)))
        self.base_rates.append(float(trainer.learning_rate))
        if self.verbose:
            print(f"epoch {logs['epoch']}: learning rate {self.rates[-1]:g}")


class CSVLogger(Callback):
    """Write the record of every epoch to a CSV file: a line each, at once, so that a crash loses none that is over.

    Parameters
    ----------
    path : str or os.PathLike
        The file. Its folder must exist.
    append : bool, default False
        Whether to go on with the file if there is one and it is not empty; by default every call of ``fit`` begins
        it anew.

    Raises
    ------
    TypeError, ValueError, OSError
        If an argument is not of its kind; in `on_train_begin`, if the file cannot be written, or is to be appended
        to and its first line has no column "epoch".

    Warns
    -----
    RuntimeWarning
        Once a run, if a record has values for which the file has no column.

    Notes
    -----
    The first record, or the file that is appended to, says which columns there are, for good: what a later record
    lacks is left empty, and what it has beyond them is left out, with a warning. So lines written are never touched
    again, and all have the same columns. A last line that a crash cut short is ended before others follow.
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"path must be a str or an os.PathLike, got {path!r}")
        self.path = path
        self.append = check_flag("append", append)
        self._columns: list[str] = []
        self._warned = False

    def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Begin the file, or look at what it holds."""
        self._columns, self._warned = [], False
        text = self._text_there() if self.append else ""
        if text:
            self._columns = next(csv.reader(text.splitlines()))
            if "epoch" not in self._columns:
                raise ValueError("path must be a file whose first line has a column 'epoch' to append to, got "
                                 f"{os.fspath(self.path)!r}")
        with self._open("a" if self.append else "w") as file:
            if text and not text.endswith("\n"):
                file.write("\n")

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Write the epoch's line, below a first line with the names if the file is new."""
        # The file is open only here, so that there is nothing to close however training ends.
        with self._open("a") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not self._columns:
                self._columns = list(logs)
                writer.writerow(self._columns)
            writer.writerow([logs.get(name, "") for name in self._columns])
        left_out = [name for name in logs if name not in self._columns]
        if left_out and not self._warned:
            self._warned = True
            message = f"{os.fspath(self.path)} has no column for {', '.join(map(repr, left_out))}; left out"
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _text_there(self) -> str:
        try:
            with self._open("r") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def _open(self, mode: str) -> IO[str]:
        return open(self.path, mode, newline="", encoding="utf-8")


class Checkpoint(Callback):
    """Save the trainer as training goes on: every few epochs, or whenever a value is better than before.

    `Trainer.load` reads such a file, and ``fit(..., resume=True)`` goes on from there, with the bits that training
    would have had without a break. Put it behind the other callbacks, so that the file holds what they took note of in
    the same epoch.

    Parameters
    ----------
    path : str or os.PathLike
        The file; its folder must exist. ``{epoch}`` in it is replaced by the number of the epoch, ``logs["epoch"]``:
        a file each. Without it each checkpoint takes the place of the one before, all or nothing.
    every : int, default 1
        Save after epochs ``every - 1``, ``2 * every - 1`` and so on (they count from 0); at least 1.
    monitor : str, optional
        Name of a value of the history: save only after epochs in which it is better than in all epochs of this call of
        `fit` before. `every` must then be 1.
    mode : {"auto", "min", "max"}, default "auto"
        Whether a lower or a higher value is better, as in `EarlyStopping`.

    Attributes
    ----------
    best_value : float or None
        The best value of `monitor` in this run; None before the first that is not NaN.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not of its type or outside its range; in `on_train_begin`, a ValueError if a callback with a
        state that is no Checkpoint stands behind it; in `on_epoch_end`, a ValueError if the logs have no value named
        `monitor`.
    OSError
        If the file cannot be written; before the first epoch if there is no such folder.

    Notes
    -----
    A process that is killed while it writes leaves the file as it was, and beside it one named ``.fastmlp-*.tmp``,
    which may be deleted.

    Examples
    --------
    A script that may be killed and started again at any time::

        trainer = Trainer.load(path) if os.path.exists(path) else Trainer(model)
        trainer.fit(X, y, epochs=50, callbacks=[Checkpoint(path)], resume=True)
    """

    def __init__(self, path: str | os.PathLike[str], every: int = 1, monitor: str | None = None,
                 mode: str = "auto") -> None:
        if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
            raise TypeError(f"path must be a str or an os.PathLike of str, got {path!r}")
        self.path = path
        self.every = check_integer("every", every, low=1)
        if monitor is not None:
            _check_monitor(monitor)
            if self.every != 1:
                raise ValueError(f"every must be 1 with a monitor, got {self.every}")
        self.monitor = monitor
        self.mode = _check_mode(mode)
        self.best_value: float | None = None
        self._loaded = False  # whether the next run goes on from the state as it is

    def state_dict(self) -> dict[str, Any]:
        """Return "best_value", as the attribute; without a monitor there is no state."""
        return {} if self.monitor is None else {"best_value": self.best_value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on a state; the next call of `fit` goes on from it.

        Raises
        ------
        TypeError, ValueError
            If it is not as `state_dict` returns it; then nothing is changed.
        """
        _check_state(state, self.state_dict())
        if state:
            self.best_value = _check_best_value(state)
        self._loaded = True

    def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Forget the run before, unless its state was just loaded; look whether files can be written."""
        position = next(i for i, callback in enumerate(trainer.callbacks) if callback is self)
        for callback in trainer.callbacks[position + 1 :]:
            if has_state(callback) and not isinstance(callback, Checkpoint):
                raise ValueError("callbacks must have a Checkpoint behind those with a state, got "
                                 f"{type(callback).__name__} behind it")
        folder = os.path.dirname(os.path.abspath(self._path_of(trainer.epochs)))
        if not os.path.isdir(folder):
            raise FileNotFoundError(errno.ENOENT, "No such folder to write checkpoints into", folder)
        if not self._loaded:
            self.best_value = None
        self._loaded = False

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Save the trainer if it is time to."""
        epoch = logs["epoch"]
        if self.monitor is not None:
            value = _monitored(self.monitor, logs)
            if not _is_better(value, self.best_value, self.monitor, self.mode):
                return
            self.best_value = value
        if (epoch + 1) % self.every == 0:
            trainer.save(self._path_of(epoch))

    def _path_of(self, epoch: int) -> str:
        return os.fspath(self.path).replace("{epoch}", str(epoch))
