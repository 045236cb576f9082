"""The end of training when a value is not finite."""

from __future__ import annotations

import math
import warnings
from typing import Any

from .base import Callback
from .monitoring import check_monitor, monitored


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
        If `monitor` is no str; a ValueError if the logs have no value of that name: before training where it is known
        by then, else in `on_epoch_end`.

    Warns
    -----
    RuntimeWarning
        When it stops training.
    """

    def __init__(self, monitor: str = "loss") -> None:
        self.monitor = check_monitor(monitor)
        self.stopped_epoch: int | None = None

    def on_train_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Forget the run before."""
        self.stopped_epoch = None

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        """Stop training if the epoch's value is not finite."""
        value = monitored(self.monitor, logs)
        if not math.isfinite(value):
            self.stopped_epoch = logs["epoch"]
            trainer.stop_training = True
            message = f"training stopped: {self.monitor} is {value} in epoch {self.stopped_epoch}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
