"""Checkpoints as training goes on."""

from __future__ import annotations

import errno
import itertools
import os
from typing import Any

from ..validation import check_integer, check_path
from .base import Callback
from .monitoring import check_best_value, check_mode, check_monitor, is_better, monitored
from .states import check_state, has_state


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
        state that is no Checkpoint stands behind it; a ValueError if the logs have no value named `monitor`: before
        training where it is known by then, else in `on_epoch_end`.
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
        check_path("path", path)
        self.path = path
        self.every = check_integer("every", every, low=1)
        if monitor is not None:
            check_monitor(monitor)
            if self.every != 1:
                raise ValueError(f"every must be 1 with a monitor, got {self.every}")
        self.monitor = monitor
        self.mode = check_mode(mode)
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
        check_state(state, self.state_dict())
        if state:
            self.best_value = check_best_value(state)
        self._loaded = True

    def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Forget the run before, unless its state was just loaded; look whether files can be written."""
        # Another callback may have called this one, which is none of the list then.
        behind = itertools.dropwhile(lambda callback: callback is not self, trainer.callbacks)
        for callback in behind:
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
            value = monitored(self.monitor, logs)
            if not is_better(value, self.best_value, self.monitor, self.mode):
                return
            self.best_value = value
        if (epoch + 1) % self.every == 0:
            trainer.save(self._path_of(epoch))

    def _path_of(self, epoch: int) -> str:
        return os.fspath(self.path).replace("{epoch}", str(epoch))
