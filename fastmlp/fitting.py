"""One call of `Trainer.fit`: slices of compiled steps, and what happens between them."""

from __future__ import annotations

import contextlib
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Source, Targets, require_finite
from .callbacks import callback_states, load_callback_states, notify
from .engine import keep_gradients
from .kernels import layout
from .schedules import Span, step_rates
from .streams import Stream, Window, read_ahead

if TYPE_CHECKING:
    from .trainer import Trainer

ASSUMED_SPEED = 2e9  # multiply-adds a second taken for granted before a slice has been timed
ASSUMED_OVERHEAD = 3e-7  # seconds of a step beside its multiply-adds
ENDLESS = 1 << 40  # steps of an epoch whose end nobody knows


class DivergenceWarning(RuntimeWarning):
    """Training was stopped because the loss was no longer a finite number."""


class Fit:
    """One call of `Trainer.fit`: slices of compiled steps, and what happens between them.

    Attributes
    ----------
    settings_changed : bool
        To be set when a setting of the trainer was changed: the next steps are made with it.
    """

    fixed_settings = ("batch_size", "accumulation", "seed")  # of the trainer, while this runs

    def __init__(self, trainer: Trainer, source: Source, targets: Targets,
                 validation: tuple[Source, Targets] | None, epochs: int, callbacks: list[Any], progress: bool,
                 shuffle: bool, resume: bool) -> None:
        self.trainer = trainer
        self.validation = validation
        self.epochs = epochs
        self.callbacks = callbacks
        self.progress = progress
        self.shuffle = shuffle
        self.settings_changed = False
        # What a call that was not finished left behind, if this one goes on with it.
        self.resumed = trainer.unfinished if resume else None
        self.first_update, self.first_epoch = trainer.steps, trainer.epochs
        self.losses: list[NDArray[np.float64]] = []  # of the rows of each step of the current epoch, summed
        if self.resumed is not None:
            self.first_update, self.first_epoch = self.resumed["first_update"], self.resumed["first_epoch"]
            if "losses" in self.resumed:
                self.losses.append(self.resumed["losses"])
        self.unfinished_before = trainer.unfinished, trainer.callback_states
        self.beginning = {"epochs": epochs, "first_update": self.first_update, "first_epoch": self.first_epoch}
        self._lay_out(min(trainer.batch_size * trainer.accumulation, source.rows), source.rows)
        self._set_length(-(-source.rows // self.batch), source.rows)
        self.call.set_inputs(source)
        self.call.set_targets(targets)
        self.source, self.targets = source, targets
        self.weight = float(source.rows if targets.weights is None else targets.weights.sum())
        # What takes long, or must not be left out, when an epoch is over.
        self.acts_after_epochs = bool(callbacks or validation or trainer.metrics)
        # Where nothing happens between epochs, a slice may span several of them.
        self.stops_at_epochs = bool(self.acts_after_epochs or progress or trainer.schedule.monitor)
        self.interrupted = False
        self.first_step = 0  # where the data that the call has begins
        self.first_record = len(trainer.history)
        self.seconds = 0.0
        self.seconds_rows = 0
        self.before: tuple[NDArray[Any], NDArray[Any], dict[str, float], int, int] | None = None
        self.undone = False

    def _lay_out(self, batch: int, rows: int) -> None:
        """Make memory for steps of `batch` rows on a set of `rows`."""
        trainer = self.trainer
        self.batch = batch  # rows of an update
        self.call, self.purpose_of_call = trainer._calls.take_for_fit(batch, rows)
        self.call.context[layout.SHUFFLE] = self.shuffle
        self.call.context[layout.UPDATES_BEFORE] = self.first_update
        self.call.context[layout.EPOCHS_BEFORE] = self.first_epoch
        self.choice = trainer._thread_choice(batch)
        self.seconds_per_step = self.choice.work / ASSUMED_SPEED + ASSUMED_OVERHEAD

    def _set_length(self, steps: int, rows: int | None) -> None:
        """Take note of how long an epoch is; where the rows are not known, its last batch counts as full."""
        self.steps_per_epoch, self.rows = steps, rows
        self.total_steps = self.epochs * steps
        self.last_batch = self.batch if rows is None else rows - (steps - 1) * self.batch

    def defer_check(self) -> None:
        """Take note of the state before training, so that inputs need not be searched for NaN beforehand.

        The kernels notice a number that is not finite when they read it. So it is enough to look for its place when
        the first epoch, which reads all of X, is over, and to undo that epoch.
        """
        trainer = self.trainer
        self.before = (trainer.model.network.parameters.copy(), trainer._state.copy(), dict(trainer.schedule_state),
                       trainer.steps, trainer.epochs)

    def _check_deferred(self) -> None:
        """Raise ValueError, with everything as it was before `fit`, if X holds NaN or infinity."""
        before, self.before = self.before, None
        if before is None:
            return
        trainer = self.trainer
        parameters = trainer.model.network.parameters
        # Where training diverged, what follows in X was not read.
        if self.call.context[layout.X_NOT_FINITE] or self.call.context[layout.NOT_FINITE]:
            try:
                require_finite("X", self.source.array, trainer.model.dtype)
            except ValueError:
                parameters[:], trainer._state[:], trainer.schedule_state, trainer.steps, trainer.epochs = before
                trainer.unfinished, trainer.callback_states = self.unfinished_before
                del trainer.history.records[self.first_record :]
                self.undone = True
                raise

    def run(self) -> None:
        """Train. If training cannot begin, nothing is changed."""
        trainer = self.trainer
        trainer._running, trainer.callbacks = self, self.callbacks
        try:
            self._begin()
            try:
                self._train()
                trainer.unfinished = None
            except BaseException:
                self._leave()
                raise
            notify(self.callbacks, "on_train_end", trainer, {})
        finally:
            trainer._running, trainer.callbacks = None, []
            self._stop_reading()
            trainer._calls.keep_of_fit(self.call, self.purpose_of_call)

    def _begin(self) -> None:
        """Tell the callbacks that training begins, and go back to where a call that is resumed was left."""
        trainer, resumed = self.trainer, self.resumed
        stop_training = trainer.stop_training
        try:
            if resumed is None:
                trainer.unfinished, trainer.callback_states, trainer.stop_training = self.beginning, [], False
            else:
                self._check_position()
                load_callback_states(self.callbacks, trainer.callback_states)
            notify(self.callbacks, "on_train_begin", trainer, {})
        except BaseException:
            trainer.unfinished, trainer.callback_states = self.unfinished_before
            trainer.stop_training = stop_training
            raise
        if resumed is not None:
            if "weights" in resumed:
                trainer.model.set_weights(resumed["weights"])
            trainer.unfinished, trainer.callback_states = self.beginning, []

    def _position(self) -> int:
        """Return the number of the step to begin with: 0, unless training is resumed."""
        return (self.trainer.epochs - self.first_epoch) * self.steps_per_epoch + sum(map(len, self.losses))

    def _check_position(self) -> None:
        """Raise ValueError if the updates made since the beginning are not those of the epochs that are over."""
        made, of_epoch = self.trainer.steps - self.first_update, sum(map(len, self.losses))
        if made != self._position() or of_epoch > self.steps_per_epoch:
            raise ValueError("resume must be False if batches are not those of the call of fit that was not finished, "
                             f"or steps were made since: after {self.trainer.epochs - self.first_epoch} epochs of "
                             f"{self.steps_per_epoch} updates and {of_epoch} more there cannot be {made}, got True")

    def _leave(self) -> None:
        """After an error or Ctrl-C: take note of all that a call which resumes this one needs, and end training."""
        trainer = self.trainer
        # If X was about to be found out, what was done with it is undone.
        with contextlib.suppress(ValueError):
            self._check_deferred()
        if self.undone or trainer.unfinished is None:
            notify(self.callbacks, "on_train_end", trainer, {})
            return
        if self.losses:
            trainer.unfinished["losses"] = np.concatenate(self.losses)
        trainer.callback_states = callback_states(self.callbacks)
        weights = trainer.unfinished["weights"] = trainer.model.get_weights()
        notify(self.callbacks, "on_train_end", trainer, {})
        if all(map(np.array_equal, weights, trainer.model.get_weights())):  # no callback has set others
            del trainer.unfinished["weights"]

    def _train(self) -> None:
        """Run all the steps that are left."""
        trainer = self.trainer
        step = self._position()
        done = trainer.epochs - self.first_epoch
        bar = progress_bar(self.epochs, self.rows, done, self._rows_until(step)) if self.progress else None
        try:
            if self.losses:  # of steps of an epoch that was not finished
                self._provide_data(step - 1)
                if step % self.steps_per_epoch == 0:
                    rate = float(self._rates(step - 1, step)[0])
                    self._finish_epoch(step // self.steps_per_epoch - 1, rate, 0.0, bar)
            while step < self.total_steps:
                if step % self.steps_per_epoch == 0:
                    if trainer.stop_training:
                        break
                    epoch = self.first_epoch + step // self.steps_per_epoch
                    notify(self.callbacks, "on_epoch_begin", trainer, {"epoch": epoch})
                if self.settings_changed:
                    self._take_settings()
                self._provide_data(step)
                step = self._run_slice(step, bar)
                if self.call.context[layout.NOT_FINITE]:
                    self._warn_of_divergence()
                    break
        finally:
            if bar is not None:
                bar.close()

    def _take_settings(self) -> None:
        """Have the next steps made with the trainer's settings as they are now."""
        self.settings_changed = False
        call, trainer = self.call, self.trainer
        if trainer.clip_norm > 0.0 and not call.context[layout.GRADIENTS]:  # for which there is no memory yet
            keep_gradients(call, trainer.model.network)
        trainer._calls.set_optimizer(call)

    def _provide_data(self, step: int) -> None:
        """Before a slice from a step on: see to it that the call has its data. Arrays are there from the start."""

    def _stop_reading(self) -> None:
        """At the end of training: let go of what `_provide_data` holds."""

    def _end_of_slices(self, step: int) -> int:
        """Return the step that a slice from a step on must not go beyond."""
        return (step // self.steps_per_epoch + 1) * self.steps_per_epoch if self.stops_at_epochs else self.total_steps

    def _run_slice(self, step: int, bar: Any) -> int:
        """Run some steps from number `step`; record the epochs that end among them; return the next step."""
        threads, limit = self.choice.next()
        slice_steps = max(1, int(limit / self.seconds_per_step))
        end = min(step + slice_steps, self._end_of_slices(step))
        rates = self._rates(step, end)
        self.call.set_steps(step - self.first_step, rates)
        began = time.perf_counter()
        interrupted = True
        try:
            self.call.train(threads)
            interrupted = False
        finally:
            seconds = time.perf_counter() - began
            done = self.first_step + int(self.call.context[layout.STEPS_DONE])
            self.trainer.steps = self.first_update + done
            if interrupted and done > step:
                self.interrupted = True
                self._account(step, done, seconds, rates, bar)
        if done >= self.steps_per_epoch or self.call.context[layout.NOT_FINITE]:
            self._check_deferred()
        self._account(step, done, seconds, rates, bar)
        self.seconds_per_step = max(seconds / (done - step), 1e-7)
        self.choice.report(threads, done - step, seconds)
        return done

    def _rates(self, step: int, end: int) -> NDArray[np.float64]:
        """Return the learning rates of the steps from one to before another."""
        return step_rates(self.trainer.schedule, self.trainer.learning_rate, np.arange(step, end), self._span())

    def _span(self) -> Span:
        return Span(self.total_steps, self.steps_per_epoch, self.first_update, self.first_epoch * self.steps_per_epoch,
                    self.trainer.schedule_state)

    def _account(self, step: int, done: int, seconds: float, rates: NDArray[np.float64], bar: Any) -> None:
        """Add the losses of steps `step` to `done` to their epochs; finish the epochs that end."""
        losses = self.call.kept(layout.LOSSES)[: done - step]
        row_losses = losses * self.call.kept(layout.STEP_WEIGHTS)[: done - step]
        self.seconds += seconds
        self.seconds_rows += self._rows_until(done) - self._rows_until(step)
        speed = self.seconds_rows / max(self.seconds, 1e-9)
        begin = step
        while begin < done:
            epoch = begin // self.steps_per_epoch
            end = min((epoch + 1) * self.steps_per_epoch, done)
            self.losses.append(row_losses[begin - step : end - step])
            if bar is not None:
                bar.set_postfix(loss=f"{losses[end - 1 - step]:.4f}", refresh=False)
                bar.update(self._rows_until(end) - self._rows_until(begin))
            is_over = end == (epoch + 1) * self.steps_per_epoch
            # After Ctrl-C, what takes long is left to a call that resumes this one.
            if is_over and not (self.interrupted and self.acts_after_epochs):
                self._finish_epoch(epoch, float(rates[end - 1 - step]), speed, bar)
                self.seconds, self.seconds_rows = 0.0, 0
            begin = end

    def _rows_until(self, step: int) -> int:
        """Rows of all steps before a step."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        return epochs * ((self.steps_per_epoch - 1) * self.batch + self.last_batch) + steps * self.batch

    def _finish_epoch(self, epoch: int, rate: float, speed: float, bar: Any) -> None:
        trainer = self.trainer
        # Summed at the end, so that the sum does not depend on how the epoch was cut into slices.
        losses = self.losses[0] if len(self.losses) == 1 else np.concatenate(self.losses)
        loss = float(losses.sum() / self._total_weight())
        record: dict[str, Any] = {
            "epoch": self.first_epoch + epoch,
            "loss": loss,
            "learning_rate": rate,
            "samples_per_second": speed,
        }
        record |= self._training_metrics()
        if self.validation is not None:
            record |= {f"val_{name}": value for name, value in trainer._evaluate(*self.validation).items()}
        self.losses.clear()
        trainer.epochs = self.first_epoch + epoch + 1
        trainer.history.records.append(record)
        trainer.schedule.after_epoch(record, (epoch + 1) * self.steps_per_epoch - 1, self._span())
        if bar is not None:
            shown = {name: f"{record[name]:.4f}" for name in ("loss", "val_loss", "val_accuracy") if name in record}
            bar.set_postfix(shown, refresh=False)
            bar.set_description(f"epoch {min(epoch + 2, self.epochs)}/{self.epochs}")
        notify(self.callbacks, "on_epoch_end", trainer, record)

    def _total_weight(self) -> float:
        """Sum of the weights of the rows of an epoch."""
        return self.weight

    def _training_metrics(self) -> dict[str, float]:
        return self.trainer._metrics(self.source, self.targets) if self.trainer.metrics else {}

    def _warn_of_divergence(self) -> None:
        last = int(self.call.context[layout.NOT_FINITE]) - 1
        step = self.first_step + last
        epoch = self.first_epoch + step // self.steps_per_epoch
        loss = float(self.call.kept(layout.LOSSES)[last - int(self.call.context[layout.FIRST_STEP])])
        if (step + 1) % self.steps_per_epoch:  # else the epoch has its record
            rate = float(self._rates(step, step + 1)[0])
            self.trainer.history.append({"epoch": epoch, "loss": loss, "learning_rate": rate})
        of_all = "" if self.steps_per_epoch == ENDLESS else f" of {self.steps_per_epoch}"
        warnings.warn(
            f"training stopped: the loss is {loss} in epoch {epoch}, step {step % self.steps_per_epoch}{of_all}. "
            f"Try a smaller learning_rate than {self.trainer.learning_rate:g}, standardised "
            "inputs, or dtype='float64'; the weights are of no use any more, unless EarlyStopping restores others.",
            DivergenceWarning,
            stacklevel=5,
        )


class StreamFit(Fit):
    """A call of `Trainer.fit` on data that is read a window at a time."""

    def __init__(self, trainer: Trainer, stream: Stream, validation: tuple[Source, Targets] | None, epochs: int,
                 callbacks: list[Any], progress: bool, resume: bool) -> None:
        self.stream = stream
        steps = stream.steps  # as far as it is known before reading
        self.windows = read_ahead(stream.windows(trainer.epochs))
        try:
            window = next(self.windows)  # what is wrong with it is found out before anything is changed
            super().__init__(trainer, window.source, window.targets, validation, epochs, callbacks, progress, False,
                             resume)
        except BaseException:
            self._stop_reading()
            raise
        del self.source, self.targets  # the call keeps them until the next window is there
        if steps is not None:
            self._set_length(steps, stream.rows)
        elif not window.is_last:
            # Epochs that were made before an interruption, of a length nobody knows any more, are counted apart.
            self.epochs -= trainer.epochs - self.first_epoch
            self.first_update, self.first_epoch = trainer.steps - sum(map(len, self.losses)), trainer.epochs
            self._set_length(ENDLESS, None)
        self._set_window(window, (trainer.epochs - self.first_epoch) * self.steps_per_epoch)

    def _provide_data(self, step: int) -> None:
        if step < self.end_of_window:
            return
        began = time.perf_counter()
        if step % self.steps_per_epoch == 0:
            self.windows.close()
            self.windows = read_ahead(self.stream.windows(self.first_epoch + step // self.steps_per_epoch))
        while step >= self.end_of_window:  # once, unless an epoch is resumed
            window = next(self.windows, None)
            if window is None:
                raise ValueError(f"X must have at least {step + 1} batches in the epoch that is resumed, got "
                                 f"{self.end_of_window}")
            self._set_window(window, self.end_of_window)
        self.seconds += time.perf_counter() - began

    def _stop_reading(self) -> None:
        self.stream.closed = True
        self.windows.close()

    def _set_window(self, window: Window, step: int) -> None:
        """Hand the data from a step on to the call; with the last window of an epoch its length is known."""
        rows = len(window.order)
        step_of_epoch = step % self.steps_per_epoch
        if step_of_epoch == 0:
            self.weight = 0.0
            batch = min(self.stream.batch, rows)
            if batch != self.batch:  # the epoch is a single batch, of another size than that before
                self._lay_out(batch, rows)
        end = step + -(-rows // self.batch)
        weights = window.targets.weights
        self.weight += rows if weights is None else float(weights[window.order].sum())
        if window.is_last:
            self._set_length(step_of_epoch + end - step, step_of_epoch * self.batch + rows)
        call = self.call
        call.set_inputs(window.source)
        call.set_targets(window.targets)
        call.keep(layout.ORDER, window.order)
        call.context[layout.SAMPLES] = rows
        call.context[layout.UPDATES_BEFORE] = self.first_update + step
        self.first_step, self.end_of_window = step, end

    def _end_of_slices(self, step: int) -> int:
        return self.end_of_window

    def _finish_epoch(self, epoch: int, rate: float, speed: float, bar: Any) -> None:
        if bar is not None and self.rows is not None:
            bar.total = self.epochs * self.rows
        super()._finish_epoch(epoch, rate, speed, bar)

    def _total_weight(self) -> float:
        if not self.weight > 0.0:
            raise ValueError("sample_weight and class_weight must leave rows with a weight above 0, got none")
        return self.weight

    def _training_metrics(self) -> dict[str, float]:
        return {}  # all outputs and targets would have to be in memory


def progress_bar(epochs: int, rows: int | None, epochs_done: int = 0, rows_done: int = 0) -> Any:
    from tqdm.auto import tqdm

    total = None if rows is None else epochs * rows
    return tqdm(total=total, initial=rows_done, desc=f"epoch {min(epochs_done + 1, epochs)}/{epochs}", unit="sample",
                unit_scale=True, mininterval=0.1)
