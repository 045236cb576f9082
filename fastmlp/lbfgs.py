"""Training by L-BFGS: SciPy minimises the loss of the whole set, the kernels compute it and its gradient."""

from __future__ import annotations

import math
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import engine
from .arrays import Source, Targets
from .callbacks import notify
from .fitting import DivergenceWarning, progress_bar
from .kernels import layout
from .kernels.updates import WRITE_GRADIENT
from .optimizers import LBFGS
from .schedules import Constant

if TYPE_CHECKING:
    from .trainer import Trainer

Vector = NDArray[np.float64]

# Settings of a trainer that change the gradient in a way that is not that of a smooth function of the weights.
NOT_SMOOTH = ("l1", "weight_decay", "clip_norm", "clip_value", "input_dropout", "input_noise")


def require_scipy() -> None:
    """Raise ImportError, saying what to install, if SciPy is missing."""
    try:
        import scipy.optimize  # noqa: F401
    except ImportError as problem:
        raise ImportError("the optimizer 'lbfgs' needs SciPy: pip install fastmlp[scipy]") from problem


def check_settings(trainer: Trainer) -> None:
    """Raise ValueError if a trainer with this optimizer has a setting that does not go with it."""
    why = "with the optimizer 'lbfgs', which minimises a smooth function by line searches"
    for name in NOT_SMOOTH:
        value = getattr(trainer, name)
        if value:
            raise ValueError(f"{name} must be 0 {why}, got {value!r}")
    if trainer.augmentation is not None:
        raise ValueError(f"augmentation must be None {why}, got {trainer.augmentation!r}")
    for number, layer in enumerate(trainer.model.layers):
        if layer.dropout:
            raise ValueError(f"dropout must be 0 in all layers {why}, got {layer.dropout!r} in layer {number}")
        if layer.max_norm is not None:
            raise ValueError(f"max_norm must be None in all layers {why}, got {layer.max_norm!r} in layer {number}")
    if not isinstance(trainer.schedule, Constant):
        raise ValueError("schedule must be None with the optimizer 'lbfgs', whose line search finds the length of each "
                         f"step, got {trainer.schedule!r}")


class NotFinite(Exception):
    """The loss was not a finite number."""


class Minimisation:
    """One call of `Trainer.fit` with the optimizer "lbfgs".

    SciPy sees the parameters as one float64 vector, the arrays of `MLP.get_weights` one after the other: without the
    padding of the panels, and with a slope that units share once. So its inner products are those of the parameters.
    The function that it minimises must stay the same, and so must the settings of the trainer that it depends on.
    """

    fixed_settings = ("batch_size", "accumulation", "seed", "l2", "regularise_biases", *NOT_SMOOTH)
    settings_changed = False

    def __init__(self, trainer: Trainer, source: Source, targets: Targets, validation: tuple[Source, Targets] | None,
                 epochs: int, callbacks: list[Any], progress: bool) -> None:
        network = trainer.model.network
        self.trainer = trainer
        self.source, self.targets, self.validation = source, targets, validation
        self.epochs = epochs
        self.first_epoch = trainer.epochs
        self.callbacks = callbacks
        self.progress = progress
        self.parameters = network.parameters
        self.places = _places_of(network)
        self.repeated = [slice(int(row[layout.SLOPES]), int(row[layout.SLOPES] + row[layout.SLOPE_COUNT]))
                         for row in network.table if row[layout.SHARED]]
        self.decay = _decay_of(trainer)
        self.call = engine.training_call(network, source.rows, gradients=True, drops=False)
        self.call.set_inputs(source)
        self.call.set_targets(targets)
        self.call.set_steps(0, np.zeros(1))
        self.call.keep(layout.ORDER, np.arange(source.rows))
        self.call.context[layout.OPTIMIZER] = WRITE_GRADIENT
        self.choice = trainer._thread_choice(source.rows)
        self.iterate = self._get_parameters()  # the last one that SciPy accepted
        self.loss = math.nan  # of the last evaluation
        self.evaluations, self.seconds = 0, 0.0  # of the current iteration
        self.bar: Any = None

    def run(self) -> None:
        trainer = self.trainer
        trainer.stop_training = False
        trainer._running, trainer.callbacks = self, self.callbacks
        try:
            notify(self.callbacks, "on_train_begin", trainer, {})
            if self.progress:
                self.bar = progress_bar(self.epochs, self.source.rows)
            try:
                if not trainer.stop_training:
                    self._minimise()
            finally:
                if self.bar is not None:
                    self.bar.close()
                notify(self.callbacks, "on_train_end", trainer, {})
        finally:
            trainer._running, trainer.callbacks = None, []

    def _minimise(self) -> None:
        from scipy.optimize import minimize

        trainer = self.trainer
        optimizer = trainer.optimizer
        assert isinstance(optimizer, LBFGS)
        options = {"maxiter": self.epochs, "maxcor": optimizer.memory, "gtol": optimizer.tolerance,
                   "maxfun": optimizer.max_evaluations}
        records = len(trainer.history)
        self.iterate = self._get_parameters()
        try:
            result = minimize(self.objective, self.iterate, jac=True, method="L-BFGS-B", callback=self._end_iteration,
                              options=options)
            if len(trainer.history) > records:
                trainer.history[-1]["message"] = str(result.message)
        except NotFinite:
            warnings.warn(
                f"training stopped: the loss is {self.loss} in epoch {trainer.epochs}; the model has the weights from "
                "before it. Try smaller weights to begin with, standardised inputs, or dtype='float64'.",
                DivergenceWarning,
                stacklevel=4,
            )
        finally:
            self._set_parameters(self.iterate)  # and not those that a line search last tried

    def objective(self, x: Vector) -> tuple[float, Vector]:
        """Return what is minimised, at the parameters x (n,), and its gradient (n,): mean loss + sum(decay x^2) / 2."""
        if self.evaluations == 0:
            notify(self.callbacks, "on_epoch_begin", self.trainer, {"epoch": self.trainer.epochs})
        self._set_parameters(x)
        threads, _ = self.choice.next()
        began = time.perf_counter()
        self.call.train(threads)
        seconds = time.perf_counter() - began
        self.choice.report(threads, 1, seconds)
        self.evaluations += 1
        self.seconds += seconds
        self.loss = float(self.call.kept(layout.LOSSES)[0])
        if not math.isfinite(self.loss):
            raise NotFinite
        gradient = self.call.kept(layout.GRADIENTS)[self.places].astype(np.float64, copy=False)
        if self.decay is None:
            return self.loss, gradient
        decayed = self.decay * x
        gradient += decayed
        return self.loss + 0.5 * float(decayed @ x), gradient

    def _end_iteration(self, x: Vector) -> None:
        """Record an iteration; the model has its parameters x, at which SciPy has just evaluated the loss."""
        trainer = self.trainer
        self.iterate = x
        rows = self.source.rows
        record: dict[str, Any] = {
            "epoch": trainer.epochs,
            "loss": self.loss,
            "samples_per_second": rows * self.evaluations / max(self.seconds, 1e-9),
        }
        trainer.steps += 1
        trainer.epochs += 1
        self.evaluations, self.seconds = 0, 0.0
        if trainer.metrics:
            record |= trainer._metrics(self.source, self.targets)
        if self.validation is not None:
            record |= {f"val_{name}": value for name, value in trainer._evaluate(*self.validation).items()}
        trainer.history.records.append(record)
        if self.bar is not None:
            shown = {name: f"{record[name]:.4f}" for name in ("loss", "val_loss", "val_accuracy") if name in record}
            self.bar.set_postfix(shown, refresh=False)
            self.bar.update(rows)
            following = trainer.epochs - self.first_epoch + 1
            self.bar.set_description(f"epoch {min(following, self.epochs)}/{self.epochs}", refresh=False)
        notify(self.callbacks, "on_epoch_end", trainer, record)
        if trainer.stop_training:
            raise StopIteration  # which SciPy takes as the wish to stop

    def _get_parameters(self) -> Vector:
        return np.array(self.parameters[self.places], np.float64)

    def _set_parameters(self, x: Vector) -> None:
        with np.errstate(over="ignore"):  # what is too large for the dtype becomes infinite
            self.parameters[self.places] = x
        for slopes in self.repeated:
            self.parameters[slopes] = self.parameters[slopes.start]


def _places_of(network: engine.Network) -> NDArray[Any]:
    """Return where each element of the arrays of `get_weights`, one after the other, lies in the parameters."""
    count = len(network.parameters)
    places = np.arange(count, dtype=f"u{network.dtype.itemsize}")  # panels are as wide as the itemsize says
    return np.concatenate([array.ravel() for array in layout.unpack(network.table, places)]).astype(np.intp)


def _decay_of(trainer: Trainer) -> Vector | None:
    """Return the strength of L2 regularisation of each parameter, in the order of `get_weights`; None if all are 0."""
    if trainer.l2 == 0.0:
        return None
    table = trainer.model.network.table
    decaying = {"weights", "bias"} if trainer.regularise_biases else {"weights"}
    names = [name for names in layout.array_names(table) for name in names]
    return np.concatenate([np.full(math.prod(shape), trainer.l2 if name in decaying else 0.0)
                           for name, shape in zip(names, layout.array_shapes(table), strict=True)])
