"""The arguments of `Trainer.fit`: each is checked before anything is changed, then training is set up from them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .activations import RANGES
from .arrays import Source, Targets, check_inputs, check_weights, require_finite
from .callbacks import (
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    LearningRateLogger,
    StopOnNaN,
    check_callbacks,
    check_watched,
)
from .checkpoints import MOST_EPOCHS
from .fitting import Fit, StreamFit
from .lbfgs import Minimisation, check_settings
from .optimizers import LBFGS
from .streams import Stream, open_stream
from .validation import check_flag, check_integer, check_number

if TYPE_CHECKING:
    from .trainer import Trainer

LARGE_BYTES = 8 << 20  # inputs above this size are searched for NaN only if training on them goes wrong

# Callbacks that put no values into the logs, for those behind them to watch.
READERS = (Checkpoint, CSVLogger, EarlyStopping, LearningRateLogger, StopOnNaN)

Data = tuple[Source, Targets]


@dataclass
class FitArguments:
    """What `Trainer.fit` was given, checked.

    Attributes
    ----------
    data : Stream or (Source, Targets)
        What to train on, without what `validation_split` holds out.
    validation : (Source, Targets) or None
    epochs, callbacks, progress, shuffle, resume
        As in `Trainer.fit`; functions are callbacks by now.
    searched : bool
        Whether inputs were searched for NaN and infinity; else it is left to the first epoch. A stream searches its
        windows.
    """

    data: Stream | Data
    validation: Data | None
    epochs: int
    callbacks: list[Any]
    progress: bool
    shuffle: bool
    resume: bool
    searched: bool

    def begin(self, trainer: Trainer) -> Fit | Minimisation:
        """Return what trains when it is run; the trainer is not changed before."""
        if isinstance(self.data, Stream):
            return StreamFit(trainer, self.data, self.validation, self.epochs, self.callbacks, self.progress,
                             self.resume)
        source, targets = self.data
        if isinstance(trainer.optimizer, LBFGS):
            return Minimisation(trainer, source, targets, self.validation, self.epochs, self.callbacks, self.progress)
        fit = Fit(trainer, source, targets, self.validation, self.epochs, self.callbacks, self.progress, self.shuffle,
                  self.resume)
        if not self.searched:
            fit.defer_check()
        return fit


def check_fit_arguments(trainer: Trainer, X: Any, y: Any, epochs: Any, validation_data: Any, validation_split: Any,
                        callbacks: Any, progress: Any, shuffle: Any, sample_weight: Any, class_weight: Any, resume: Any,
                        window: Any, steps_per_epoch: Any) -> FitArguments:
    """Check the arguments of `Trainer.fit`; nothing is changed.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, or not allowed.
    """
    epochs = check_integer("epochs", epochs, low=1, high=MOST_EPOCHS)
    split = check_number("validation_split", validation_split, low=0.0, high=1.0, below=True)
    progress = check_flag("progress", progress)
    shuffle = check_flag("shuffle", shuffle)
    callbacks = check_callbacks(callbacks)
    if isinstance(trainer.optimizer, LBFGS):
        check_settings(trainer)
    resume = _check_resume(trainer, resume, epochs)
    data: Stream | Data | None = open_stream(trainer, X, y, sample_weight, class_weight, split, shuffle, window,
                                             steps_per_epoch)
    searched = True
    if data is None:
        data, searched = _check_arrays(trainer, X, y, sample_weight, class_weight, resume)
    elif isinstance(trainer.optimizer, LBFGS):
        raise ValueError("X must be an array in memory with the optimizer 'lbfgs', which takes the whole set in "
                         f"each step, got {type(X).__name__}")
    validation = None
    if validation_data is not None:
        if split:
            raise ValueError(f"validation_split must be 0 when validation_data is given, got {validation_split!r}")
        validation = _check_validation(trainer, validation_data)
    elif split and not isinstance(data, Stream):
        data, validation = _split(trainer, data, split, sample_weight)
    if trainer.schedule.monitor == "val_loss" and validation is None:
        raise ValueError("validation_data must be given, or validation_split, for the schedule "
                         f"{trainer.schedule!r}, which goes by the loss on it, got None")
    if callbacks:
        _check_monitors(callbacks, _values_of_epoch(trainer, isinstance(data, Stream), validation is not None))
    return FitArguments(data, validation, epochs, callbacks, progress, shuffle, resume, searched)


def _check_arrays(trainer: Trainer, X: Any, y: Any, sample_weight: Any, class_weight: Any,
                  resume: bool) -> tuple[Data, bool]:
    """Return inputs and targets in memory, and whether the inputs were searched for NaN and infinity."""
    model = trainer.model
    source = check_inputs(X, model.inputs, model.dtype, finite=False)
    # What has to be converted is searched in its own dtype: numbers may be too large for the model's. A call that is
    # resumed may begin within an epoch, and leave the rows before unread.
    searched = (source.array.nbytes <= LARGE_BYTES or source.array.dtype != model.dtype or resume
                or isinstance(trainer.optimizer, LBFGS))
    if searched:
        require_finite("X", source.array, model.dtype)
    targets = trainer.loss.check_targets(y, source.rows, model.outputs, model.dtype, sample_weight, class_weight)
    if trainer.loss.output is None and model.output in RANGES:
        _warn_of_range(targets.source.array, model.output)
    return (source, targets), searched


def _warn_of_range(y: Any, output: str) -> None:
    """Warn if there are targets that the output activation cannot give."""
    (low, high), least, most = RANGES[output], float(y.min()), float(y.max())
    if least < low or most > high:
        warnings.warn(f"y has values from {least:g} to {most:g}, but a model with output={output!r} gives values from "
                      f"{low:g} to {high:g} only; output='identity' gives any", stacklevel=5)


def _check_resume(trainer: Trainer, resume: Any, epochs: int) -> bool:
    resumes = check_flag("resume", resume)
    if resumes and trainer.unfinished is not None and trainer.unfinished["epochs"] != epochs:
        raise ValueError(f"epochs must be {trainer.unfinished['epochs']} to resume the call of fit that was not "
                         f"finished, got {epochs}")
    if resumes and isinstance(trainer.optimizer, LBFGS):
        raise ValueError("resume must be False with the optimizer 'lbfgs', whose memory ends with a call, got True")
    return resumes


def _values_of_epoch(trainer: Trainer, streams: bool, validates: bool) -> list[str]:
    """Return the names of the values in the record of an epoch."""
    metrics = [metric.name for metric in trainer.metrics]
    names = ["epoch", "loss", "samples_per_second"]
    if not isinstance(trainer.optimizer, LBFGS):
        names.append("learning_rate")
    if not streams:
        names += metrics
    if validates:
        of_validation = ["loss", *(["accuracy"] if trainer.loss.counts_hits else []), *metrics]
        names += [f"val_{name}" for name in of_validation]
    return names


def _check_monitors(callbacks: list[Any], names: list[str]) -> None:
    """Raise ValueError if a callback watches a value that will not be there, as far as that is known beforehand."""
    for callback in callbacks:
        if type(callback) not in READERS:
            return
        monitor = getattr(callback, "monitor", None)
        if monitor is not None:
            check_watched(monitor, names)


def _check_validation(trainer: Trainer, validation_data: Any) -> Data:
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        raise TypeError("validation_data must be a tuple (X, y) or (X, y, sample_weight), got "
                        f"{type(validation_data).__name__}")
    try:
        return trainer._check_data(*validation_data)
    except (TypeError, ValueError) as problem:
        raise type(problem)(f"validation_data: {problem}") from None


def _split(trainer: Trainer, data: Data, split: float, sample_weight: Any) -> tuple[Data, Data]:
    """Return the rows to train on and those to validate on, which are the last; classes have no weights there."""
    source, targets = data
    held_out = max(1, round(split * source.rows))
    if held_out >= source.rows:
        raise ValueError(f"validation_split must leave rows to train on, got {split} of {source.rows} rows")
    weights = None if sample_weight is None else check_weights("sample_weight", sample_weight, source.rows)
    source, kept = source.split(source.rows - held_out)
    targets, kept_targets = targets.split(source.rows)
    kept_targets = replace(kept_targets, weights=None if weights is None else weights[source.rows :])
    for side, part in (("train on", targets), ("validate on", kept_targets)):
        if part.weights is not None and not part.weights.sum() > 0.0:
            raise ValueError(f"sample_weight and class_weight must leave rows to {side} with a weight above 0, "
                             "got none")
    require_finite("X", kept.array, trainer.model.dtype, first_row=source.rows)
    return (source, targets), (kept, kept_targets)
