"""The trainer: gradient descent on a model's parameters, step by step or for whole epochs."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import engine
from .arrays import Source, check_inputs, require_finite
from .callbacks import check_callbacks, notify
from .history import History
from .kernels import layout
from .kernels.updates import DECAY_1, L2
from .losses import check_loss
from .model import MLP, check_seed
from .optimizers import check_optimizer
from .schedules import Schedule, Span, check_schedule, step_rates
from .validation import check_flag, check_integer, check_number

LARGE_BYTES = 8 << 20  # inputs above this size are searched for NaN only if training on them goes wrong
ASSUMED_SPEED = 2e9  # multiply-adds a second taken for granted before a slice has been timed
ASSUMED_OVERHEAD = 3e-7  # seconds of a step beside its multiply-adds
FIRST_STEP = np.zeros(1, np.int64)


# Attributes of a trainer that cannot be set once it is made, and the checks of those that can.
FIXED = ("model", "loss", "optimizer", "schedule")
SETTING_CHECKS: dict[str, Callable[[Any], float]] = {
    "learning_rate": lambda value: check_number("learning_rate", value, low=0.0, above=True),
    "batch_size": lambda value: check_integer("batch_size", value, low=1, high=1 << 31),
    "l2": lambda value: check_number("l2", value, low=0.0),
}


class DivergenceWarning(RuntimeWarning):
    """Training was stopped because the loss was no longer a finite number."""


class Trainer:
    """Trains a model by mini-batch gradient descent.

    Parameters
    ----------
    model : MLP
    loss : str
        "cross_entropy" (default; needs softmax output), "binary_cross_entropy" (needs sigmoid output),
        "mean_squared_error" or "half_squared_error". Losses are means over the rows of a batch.
    optimizer : str or Optimizer
        "adam" (default), "sgd", "momentum", "nesterov", or an instance such as ``Adam(beta_1=0.8)``.
    learning_rate : float
        Above 0; default 1e-3. With a schedule the highest rate; a function gives rates of its own.
    schedule : str, Schedule, callable or None
        None (default) or "constant", "step", "exponential", "inverse_scaling", "cosine", "cosine_restarts",
        "one_cycle", "reduce_on_plateau", an instance from `fastmlp.schedules` such as ``WarmUp(epochs=1,
        then="cosine")``, or a function that takes the number of an update, from 0, and returns its learning rate.
        "cosine" and "one_cycle" run over the `epochs` of each `fit` call, the others over all of them.
    batch_size : int
        Rows of a mini-batch, default 32; the last batch of an epoch holds the rest. A set smaller than a batch is
        one batch.
    l2 : float
        Strength of L2 regularisation, at least 0; default 0. Adds ``l2 * W`` to the gradient of the weights (not
        of the biases), that is ``l2 / 2 * sum W**2`` to what is minimised; reported losses are without it.
    seed : int or None
        Of the order of the samples; default 0. None takes another one each time.

    Attributes
    ----------
    learning_rate, batch_size, l2
        As above; they may be set between calls, and by callbacks.
    history : History
        A record an epoch, over all calls of `fit`.
    steps : int
        Updates made so far.
    schedule_state : dict of str to float
        What the schedule has taken note of so far; only "reduce_on_plateau" does.
    stop_training : bool
        Set it in a callback to end `fit` after the current epoch.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, or not allowed.
    """

    def __init__(
        self,
        model: MLP,
        loss: str = "cross_entropy",
        optimizer: Any = "adam",
        learning_rate: float = 1e-3,
        schedule: str | Schedule | Callable[[int], float] | None = None,
        batch_size: int = 32,
        l2: float = 0.0,
        seed: int | None = 0,
    ) -> None:
        if not isinstance(model, MLP):
            raise TypeError(f"model must be an MLP, got {model!r}")
        self.model = model
        self.loss = check_loss(loss, model.output)
        self.optimizer = check_optimizer(optimizer)
        self.learning_rate = learning_rate
        self.schedule = check_schedule(schedule)
        self.schedule_state: dict[str, float] = {}
        self.batch_size = batch_size
        self.l2 = l2
        self.seed = check_seed(seed)
        self.history = History()
        self.steps = 0
        self.epochs = 0
        self.stop_training = False
        self._state = self._new_state()
        self._step_call: engine.Call | None = None
        self._choice: engine.ThreadChoice | None = None
        self._lock = threading.Lock()

    def __setattr__(self, name: str, value: Any) -> None:
        # Settings may be changed between calls, and by callbacks; what memory was laid out for may not.
        if name in FIXED and name in self.__dict__:
            raise AttributeError(f"the {name} of a trainer cannot be changed; make another Trainer")
        object.__setattr__(self, name, SETTING_CHECKS[name](value) if name in SETTING_CHECKS else value)

    def _new_state(self) -> NDArray[Any]:
        network = self.model.network
        return layout.aligned_zeros(self.optimizer.slots * len(network.parameters), network.dtype)

    # ---- training

    def fit(
        self,
        X: Any,
        y: Any,
        epochs: int = 10,
        validation_data: tuple[Any, Any] | None = None,
        validation_split: float = 0.0,
        callbacks: Iterable[Any] | None = None,
        progress: bool = True,
        shuffle: bool = True,
    ) -> History:
        """Train for a number of epochs; called again, training goes on from where it stood.

        Parameters
        ----------
        X : array of shape (n, inputs)
            float32, float64 and uint8 are read where they lie, without a copy; other real dtypes are converted once.
        y : array
            For cross entropy integer labels (n,), or probabilities (n, outputs); for the other losses real numbers
            (n, outputs), or (n,) for one output.
        epochs : int
            Passes over the data, at least 1; default 10.
        validation_data : tuple (X, y), optional
            Evaluated after every epoch, as val_loss and val_accuracy.
        validation_split : float
            Share of the rows to validate on instead, from 0 (default) to below 1; the last rows are taken.
        callbacks : iterable, optional
            Objects with any of the methods of `fastmlp.callbacks.Callback`.
        progress : bool
            Whether to show a progress bar; default True.
        shuffle : bool
            Whether to draw a new order of the rows for every epoch; default True.

        Returns
        -------
        History
            The trainer's `history`, with a record for each epoch: epoch, loss (the mean over the epoch's batches, each
            taken before its update), learning_rate (of the last step), samples_per_second, and val_loss and
            val_accuracy if there is validation data.

        Raises
        ------
        TypeError, ValueError
            If an argument is not of its kind, or not allowed; then nothing is changed. NaN or infinity in an X of
            more than 8 MB is found in the first epoch, which is then undone.
        KeyboardInterrupt
            On Ctrl-C, within a step or a tenth of a second, with the model and the trainer fit for use.

        Warns
        -----
        DivergenceWarning
            If the loss is infinite or NaN; training then stops.
        """
        epochs = check_integer("epochs", epochs, low=1)
        split = check_number("validation_split", validation_split, low=0.0, high=1.0, below=True)
        progress = check_flag("progress", progress)
        shuffle = check_flag("shuffle", shuffle)
        listeners = check_callbacks(callbacks)
        source = check_inputs(X, self.model.inputs, self.model.dtype, finite=False)
        # What has to be converted is searched in its own dtype: numbers may be too large for the model's.
        large = source.array.nbytes > LARGE_BYTES and source.array.dtype == self.model.dtype
        if not large:
            require_finite("X", source.array, self.model.dtype)
        targets = self.loss.check_targets(y, source.rows, self.model.outputs, self.model.dtype)
        validation = None
        if validation_data is not None:
            if split:
                raise ValueError("validation_split must be 0 when validation_data is given, got "
                                 f"{validation_split!r}")
            validation = self._check_validation(validation_data)
        elif split:
            held_out = max(1, round(split * source.rows))
            if held_out >= source.rows:
                raise ValueError(f"validation_split must leave rows to train on, got {split} of {source.rows} rows")
            source, kept = source.split(source.rows - held_out)
            targets, kept_targets = targets.split(source.rows)
            require_finite("X", kept.array, self.model.dtype, first_row=source.rows)
            validation = kept, kept_targets
        if self.schedule.monitor == "val_loss" and validation is None:
            raise ValueError("validation_data must be given, or validation_split, for the schedule "
                             f"{self.schedule!r}, which goes by the loss on it, got None")
        with self._exclusively():
            fit = _Fit(self, source, targets, validation, epochs, listeners, progress, shuffle)
            if large:
                fit.defer_check()
            fit.run()
        return self.history

    def step(self, X: Any, y: Any) -> float:
        """Make one update on one batch, for loops of one's own.

        Parameters
        ----------
        X, y : arrays
            The batch, as in `fit`; any number of rows.

        Returns
        -------
        float
            The batch's mean loss before the update.

        Raises
        ------
        TypeError, ValueError
            As `fit`; ValueError with a schedule that goes by epochs.
        """
        if self.schedule.needs_horizon:
            raise ValueError("schedule must be None, or one that does not go by epochs, for a single step, got "
                             f"{self.schedule!r}; use fit, or set learning_rate between steps")
        source, targets = self._check_data(X, y)
        network = self.model.network
        with self._exclusively():
            span = Span(0, 0, self.steps, 0, self.schedule_state)
            rates = step_rates(self.schedule, self.learning_rate, FIRST_STEP, span)
            call = self._step_call
            if call is None or call.context[layout.ROWS] != source.rows:
                call = self._step_call = self._training_call(source.rows, source.rows)
            self._set_optimizer(call)
            call.set_inputs(source)
            call.set_targets(targets, self.loss.code)
            call.context[layout.UPDATES_BEFORE] = self.steps
            call.set_steps(0, rates)
            call.context[layout.NOT_FINITE] = 0
            try:
                call.train(engine.threads_for(engine.training_work(network, source.rows)))
            finally:
                self.steps += int(call.context[layout.STEPS_DONE])
                call.forget(layout.X)
                call.forget(layout.Y)
            return float(call.kept(layout.LOSSES)[0])

    def evaluate(self, X: Any, y: Any) -> dict[str, float]:
        """Return the mean loss and, for classification, the accuracy.

        Parameters
        ----------
        X, y : arrays
            As in `fit`.

        Returns
        -------
        dict
            "loss", and with cross entropy "accuracy": the share of rows whose most probable class is right; with
            binary cross entropy, the share of outputs on the right side of one half.

        Raises
        ------
        TypeError, ValueError
            As `fit`.
        """
        return self._evaluate(*self._check_data(X, y))

    def _evaluate(self, source: Source, targets: Source) -> dict[str, float]:
        loss, accuracy = engine.evaluate(self.model.network, source, targets, self.loss.code)
        return {"loss": loss, "accuracy": accuracy} if self.loss.counts_hits else {"loss": loss}

    # ---- helpers

    def _check_data(self, X: Any, y: Any) -> tuple[Source, Source]:
        model = self.model
        source = check_inputs(X, model.inputs, model.dtype)
        return source, self.loss.check_targets(y, source.rows, model.outputs, model.dtype)

    def _check_validation(self, validation_data: Any) -> tuple[Source, Source]:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
            raise TypeError(f"validation_data must be a tuple (X, y), got {type(validation_data).__name__}")
        try:
            return self._check_data(*validation_data)
        except (TypeError, ValueError) as problem:
            raise type(problem)(f"validation_data: {problem}") from None

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Guard against use from two threads, or from one of the trainer's own callbacks, at once."""
        if not self._lock.acquire(blocking=False):
            raise RuntimeError("this trainer is training already, in another thread or around this callback")
        try:
            yield
        finally:
            self._lock.release()

    def _training_call(self, batch: int, samples: int) -> engine.Call:
        """Make a call for steps of `batch` rows with this trainer's optimizer and its state."""
        call = engine.training_call(self.model.network, batch)
        self._set_optimizer(call)
        call.keep(layout.ORDER, np.arange(samples))
        call.context[layout.ORDER_EPOCH] = -1
        call.context[layout.SEED] = self.seed
        return call

    def _set_optimizer(self, call: engine.Call) -> None:
        call.keep(layout.STATE, self._state)
        call.context[layout.OPTIMIZER] = self.optimizer.code
        settings = call.kept(layout.SETTINGS)
        settings[L2] = self.l2
        settings[DECAY_1 : DECAY_1 + 3] = self.optimizer.settings()

    def __getstate__(self) -> dict[str, Any]:
        # The optimizer's state lies in memory as the parameters do, which depends on the processor.
        state = self.__dict__ | {"_step_call": None, "_choice": None}
        del state["_lock"]
        size = len(self.model.network.parameters)
        table = self.model.network.table
        state["_state"] = [layout.unpack(table, self._state[i * size :]) for i in range(self.optimizer.slots)]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
        slots, self._state = state["_state"], self._new_state()
        size = len(self.model.network.parameters)
        for i, arrays in enumerate(slots):
            layout.pack(self.model.network.table, self._state[i * size :], arrays)

    def _thread_choice(self, rows: int) -> engine.ThreadChoice:
        """Return what earlier calls of `fit` have learned about the number of threads, or a new start."""
        network = self.model.network
        work = engine.training_work(network, rows)
        if self._choice is None or not self._choice.suits(work):
            self._choice = engine.ThreadChoice(network.dtype, work)
        return self._choice


class _Fit:
    """One call of `Trainer.fit`: slices of compiled steps, and what happens between them."""

    def __init__(self, trainer: Trainer, source: Source, targets: Source, validation: tuple[Source, Source] | None,
                 epochs: int, callbacks: list[Any], progress: bool, shuffle: bool) -> None:
        self.trainer = trainer
        self.validation = validation
        self.epochs = epochs
        self.callbacks = callbacks
        self.callbacks_of_epochs = callbacks  # none once interrupted
        self.progress = progress
        self.rows = source.rows
        self.batch = min(trainer.batch_size, self.rows)
        self.steps_per_epoch = -(-self.rows // self.batch)
        self.total_steps = epochs * self.steps_per_epoch
        self.first_update = trainer.steps
        self.first_epoch = trainer.epochs
        self.first_record = len(trainer.history)
        self.call = trainer._training_call(self.batch, self.rows)
        self.call.set_inputs(source)
        self.call.set_targets(targets, trainer.loss.code)
        self.call.context[layout.SHUFFLE] = shuffle
        self.call.context[layout.UPDATES_BEFORE] = self.first_update
        self.call.context[layout.EPOCHS_BEFORE] = self.first_epoch
        self.choice = trainer._thread_choice(self.batch)
        self.seconds_per_step = self.choice.work / ASSUMED_SPEED + ASSUMED_OVERHEAD
        # Where nothing happens between epochs, a slice may span several of them.
        self.stops_at_epochs = bool(callbacks or progress or validation or trainer.schedule.monitor)
        self.losses: list[NDArray[np.float64]] = []  # of the rows of each step of the current epoch, summed
        self.seconds = 0.0
        self.seconds_rows = 0
        self.source = source
        self.before: tuple[NDArray[Any], NDArray[Any], dict[str, float]] | None = None

    def defer_check(self) -> None:
        """Take note of the state before training, so that inputs need not be searched for NaN beforehand.

        The kernels notice a number that is not finite when they read it. So it is enough to look for its place when
        the first epoch, which reads all of X, is over, and to undo that epoch.
        """
        trainer = self.trainer
        self.before = trainer.model.network.parameters.copy(), trainer._state.copy(), dict(trainer.schedule_state)

    def _check_deferred(self) -> None:
        """Raise ValueError, with everything as it was before `fit`, if X holds NaN or infinity."""
        before, self.before = self.before, None
        if before is None:
            return
        trainer = self.trainer
        parameters = trainer.model.network.parameters
        if self.call.context[layout.X_NOT_FINITE]:
            try:
                require_finite("X", self.source.array, trainer.model.dtype)
            except ValueError:
                parameters[:], trainer._state[:], trainer.schedule_state = before
                trainer.steps, trainer.epochs = self.first_update, self.first_epoch
                del trainer.history.records[self.first_record :]
                raise

    def _undo_if_ruined(self) -> None:
        """Before an error leaves `fit`: if X was about to be found out, undo what it did."""
        with contextlib.suppress(ValueError):
            self._check_deferred()

    def run(self) -> None:
        trainer = self.trainer
        trainer.stop_training = False
        bar = _progress_bar(self.epochs, self.rows) if self.progress else None
        try:
            notify(self.callbacks, "on_train_begin", trainer, {})
            step = 0
            while step < self.total_steps:
                if step % self.steps_per_epoch == 0:
                    if trainer.stop_training:
                        break
                    epoch = self.first_epoch + step // self.steps_per_epoch
                    notify(self.callbacks, "on_epoch_begin", trainer, {"epoch": epoch})
                step = self._run_slice(step, bar)
                if self.call.context[layout.NOT_FINITE]:
                    self._warn_of_divergence()
                    break
        except BaseException:
            self._undo_if_ruined()
            raise
        finally:
            if bar is not None:
                bar.close()
            notify(self.callbacks, "on_train_end", trainer, {})

    def _run_slice(self, step: int, bar: Any) -> int:
        """Run some steps from number `step`; record the epochs that end among them; return the next step."""
        epoch = step // self.steps_per_epoch
        end_of_epoch = (epoch + 1) * self.steps_per_epoch
        threads, limit = self.choice.next()
        slice_steps = max(1, int(limit / self.seconds_per_step))
        end = min(step + slice_steps, end_of_epoch if self.stops_at_epochs else self.total_steps)
        rates = step_rates(self.trainer.schedule, self.trainer.learning_rate, np.arange(step, end), self._span())
        self.call.set_steps(step, rates)
        began = time.perf_counter()
        interrupted = True
        try:
            self.call.train(threads)
            interrupted = False
        finally:
            seconds = time.perf_counter() - began
            done = int(self.call.context[layout.STEPS_DONE])
            self.trainer.steps = self.first_update + done
            self.trainer.epochs = self.first_epoch + done // self.steps_per_epoch
            if interrupted and done > step:
                self.validation, self.callbacks_of_epochs = None, []
                self._account(step, done, seconds, rates, bar)
        if done >= self.steps_per_epoch or self.call.context[layout.NOT_FINITE]:
            self._check_deferred()
        self.seconds_per_step = max(seconds / (done - step), 1e-7)
        self.choice.report(threads, done - step, seconds)
        self._account(step, done, seconds, rates, bar)
        return done

    def _span(self) -> Span:
        return Span(self.total_steps, self.steps_per_epoch, self.first_update, self.first_epoch * self.steps_per_epoch,
                    self.trainer.schedule_state)

    def _account(self, step: int, done: int, seconds: float, rates: NDArray[np.float64], bar: Any) -> None:
        """Add the losses of steps `step` to `done` to their epochs; finish the epochs that end."""
        steps = np.arange(step, done)
        last_of_epoch = (steps + 1) % self.steps_per_epoch == 0
        rows = np.where(last_of_epoch, self.rows - (self.steps_per_epoch - 1) * self.batch, self.batch)
        losses = self.call.kept(layout.LOSSES)[: done - step]
        row_losses = losses * rows
        ended = [int(position) for position in np.flatnonzero(last_of_epoch)]
        self.seconds += seconds
        self.seconds_rows += int(rows.sum())
        speed = self.seconds_rows / max(self.seconds, 1e-9)
        if bar is not None:
            bar.set_postfix(loss=f"{losses[-1]:.4f}", refresh=False)
            bar.update(int(rows.sum()))
        begin = 0
        for position in ended:
            self.losses.append(row_losses[begin : position + 1])
            self._finish_epoch(int(steps[position]) // self.steps_per_epoch, float(rates[position]), speed, bar)
            begin = position + 1
        self.losses.append(row_losses[begin:])
        if ended:
            self.seconds, self.seconds_rows = 0.0, 0

    def _finish_epoch(self, epoch: int, rate: float, speed: float, bar: Any) -> None:
        trainer = self.trainer
        # Summed at the end, so that the sum does not depend on how the epoch was cut into slices.
        loss = float(np.concatenate(self.losses).sum() / self.rows)
        self.losses.clear()
        record: dict[str, Any] = {
            "epoch": self.first_epoch + epoch,
            "loss": loss,
            "learning_rate": rate,
            "samples_per_second": speed,
        }
        if self.validation is not None:
            record |= {f"val_{name}": value for name, value in trainer._evaluate(*self.validation).items()}
        trainer.history.append(record)
        trainer.schedule.after_epoch(record, (epoch + 1) * self.steps_per_epoch - 1, self._span())
        if bar is not None:
            shown = {name: f"{record[name]:.4f}" for name in ("loss", "val_loss", "val_accuracy") if name in record}
            bar.set_postfix(shown, refresh=False)
            bar.set_description(f"epoch {min(epoch + 2, self.epochs)}/{self.epochs}")
        notify(self.callbacks_of_epochs, "on_epoch_end", trainer, record)

    def _warn_of_divergence(self) -> None:
        step = int(self.call.context[layout.NOT_FINITE]) - 1
        epoch = self.first_epoch + step // self.steps_per_epoch
        loss = float(self.call.kept(layout.LOSSES)[step - int(self.call.context[layout.FIRST_STEP])])
        warnings.warn(
            f"training stopped: the loss is {loss} in epoch {epoch}, step {step % self.steps_per_epoch} of "
            f"{self.steps_per_epoch}. Try a smaller learning_rate than {self.trainer.learning_rate:g}, standardised "
            "inputs, or dtype='float64'; the model's weights are of no use any more.",
            DivergenceWarning,
            stacklevel=4,
        )


def _progress_bar(epochs: int, rows: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=epochs * rows, desc=f"epoch 1/{epochs}", unit="sample", unit_scale=True, mininterval=0.1)
