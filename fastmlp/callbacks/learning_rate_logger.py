"""A record of the learning rates of all epochs."""

from __future__ import annotations

import math
from typing import Any

from ..validation import check_flag
from .base import Callback


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
