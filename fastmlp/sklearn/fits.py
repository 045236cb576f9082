"""Calls of `Trainer.fit` for the estimators: in an order drawn outside, with scikit-learn's loss, on sparse rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Source, Targets
from ..callbacks import notify
from ..fitting import Fit
from ..kernels import layout
from ..kernels.deferred import sum_squared_weights
from ..kernels.linking import kernel_table
from ..lbfgs import Minimisation, NotFinite
from ..thread_choice import SLICE_SECONDS
from ..trainer import Trainer
from .objective import Reported
from .rows import DenseWindow, HeldOut, source_of, take_rows

if TYPE_CHECKING:
    from .epochs import EpochEnd

Order = NDArray[np.int64]

MOST_EPOCHS_AT_ONCE = 64  # whose orders are in memory


class EpochFit(Fit):
    """A call of `Trainer.fit` on rows of an array, in an order that is drawn outside, epoch by epoch.

    Parameters
    ----------
    trainer : Trainer
    X : array (n, inputs) that the kernels can read
    targets : Targets
    reported : Reported
    alpha : float
        Strength of L2 regularisation, as a share in `loss`.
    squares : float
        Sum of the squares of the weights.
    epochs : int
    end : EpochEnd
        Called after every epoch; its `epochs_ahead` says how many may be trained in one go.
    callbacks : list
        Those that are called after `end`.
    progress : bool
    draw_order : function
        Returns the numbers of the rows in the order of the next epoch; None to take the rows as they come.
    held_out : HeldOut or None

    Attributes
    ----------
    loss : float
        Of the last epoch, as scikit-learn computes it: the mean over the rows of their batch's mean loss, with the L2
        penalty of the weights before each batch's update. The sum of their squares is taken to change evenly in the
        course of an epoch.
    diverged : bool
        Whether training was stopped because the loss was not finite.
    """

    def __init__(self, trainer: Trainer, X: Any, targets: Targets, reported: Reported, alpha: float, squares: float,
                 epochs: int, end: EpochEnd, callbacks: list[Any], progress: bool,
                 draw_order: Callable[[], Order] | None, held_out: HeldOut | None) -> None:
        super().__init__(trainer, self._first_rows(X, trainer.batch_size), targets, None, epochs, [end, *callbacks],
                         progress, False, False)
        count = X.shape[0]
        self._set_length(-(-count // self.batch), count)
        self.count = count
        if targets.weights is None:
            self.weight = float(count)  # of the whole set, also where a window of it is in memory
        self.all_targets, self.reported, self.alpha, self.squares = targets, reported, alpha, squares
        self.draw_order, self.held_out, self.end = draw_order, held_out, end
        self.acts_after_epochs = bool(callbacks or held_out or trainer.schedule.monitor)
        self.orders: list[Order] = []  # of the epochs from `first_order` on; none if rows are taken as they come
        self.first_order = 0
        self.end_of_orders = 0  # the step that follows these epochs
        self.loss = np.nan
        self.diverged = False
        self.starts = np.arange(0, count, self.batch)
        self.batch_rows = np.diff(self.starts, append=count)
        self.call.keep(layout.SQUARED_WEIGHTS, np.zeros(MOST_EPOCHS_AT_ONCE))
        kernel_table(trainer.model.dtype, sum_squared_weights)

    def _first_rows(self, X: Any, batch: int) -> Source:
        return source_of(X)

    def _provide_data(self, step: int) -> None:
        if step < self.end_of_orders:
            return
        epochs = self._epochs_at_once(step)
        self.first_order = step // self.steps_per_epoch
        self.end_of_orders = step + epochs * self.steps_per_epoch
        if self.draw_order is not None:
            self.orders = [self.draw_order() for _ in range(epochs)]
            self._hand_over(self.orders)

    def _epochs_at_once(self, step: int) -> int:
        """Return how many epochs from a step on go through one compiled call.

        Calls cost as much as an epoch on a small set. Nothing is to be done between the epochs, and training does not
        end, nor change its rate, before the last of them.
        """
        if self.acts_after_epochs:
            return 1
        in_a_slice = int(SLICE_SECONDS / (self.seconds_per_step * self.steps_per_epoch))
        left = self.epochs - step // self.steps_per_epoch
        return max(1, min(self.end.epochs_ahead(), in_a_slice, left, MOST_EPOCHS_AT_ONCE))

    def _end_of_slices(self, step: int) -> int:
        return self.end_of_orders

    def _hand_over(self, orders: list[Order]) -> None:
        call = self.call
        call.keep(layout.ORDER, np.concatenate(orders))
        call.context[layout.ORDER_EPOCH] = self.first_epoch + self.first_order
        call.context[layout.ORDER_STRIDE] = self.count

    def _finish_epoch(self, epoch: int, rate: float, speed: float, bar: Any) -> None:
        self.loss = self._loss_of_epoch(epoch, np.concatenate(self.losses))
        super()._finish_epoch(epoch, rate, speed, bar)

    def _loss_of_epoch(self, epoch: int, sums: NDArray[np.float64]) -> float:
        """Return scikit-learn's loss for each batch's sum of weighted losses, as the kernels have them."""
        weights, offsets, factor = self.all_targets.weights, self.reported.offsets, self.reported.factor
        steps = len(self.starts)
        if weights is None:
            loss = factor * float(sums.sum()) + (0.0 if offsets is None else float(offsets.sum()))
            shares = float(steps)
        else:
            order = self.orders[epoch - self.first_order] if self.orders else slice(None)
            batch_weights = np.add.reduceat(weights[order], self.starts)
            rows_by_weight = np.divide(self.batch_rows, batch_weights, out=np.zeros(steps), where=batch_weights > 0)
            loss = factor * float((sums * rows_by_weight).sum())
            if offsets is not None:
                summed = np.add.reduceat((weights * offsets)[order], self.starts)
                loss += float((summed * rows_by_weight).sum())
            shares = float(rows_by_weight.sum())
        before, self.squares = self.squares, self._squared_weights(epoch)
        mean = before + (self.squares - before) * (steps - 1) / (2 * steps)
        return float((loss + 0.5 * self.alpha * mean * shares) / self.count)

    def _squared_weights(self, epoch: int) -> float:
        """Return the sum of the squares of the weights after an epoch that ended in the last compiled call."""
        first_step = self.first_step + int(self.call.context[layout.FIRST_STEP])
        return float(self.call.kept(layout.SQUARED_WEIGHTS)[epoch - first_step // self.steps_per_epoch])

    def _training_metrics(self) -> dict[str, float]:
        return {} if self.held_out is None else self.held_out.evaluate()

    def _warn_of_divergence(self) -> None:
        self.diverged = True


class SparseEpochFit(EpochFit):
    """The same on rows of a CSR matrix, which are made dense a window at a time; batches are those of the whole."""

    def _first_rows(self, X: Any, batch: int) -> Source:
        self.window = DenseWindow(X, min(batch, X.shape[0]))
        self.end_of_window = 0
        return source_of(self.window.memory)

    def _epochs_at_once(self, step: int) -> int:
        return 1

    def _hand_over(self, orders: list[Order]) -> None:
        pass

    def _provide_data(self, step: int) -> None:
        super()._provide_data(step)
        if step < self.end_of_window:
            return
        begin = step % self.steps_per_epoch * self.batch
        rows = np.arange(begin, min(begin + self.window.rows, self.count))
        if self.orders:
            rows = self.orders[0][rows]
        call = self.call
        call.set_inputs(self.window.fill(rows))
        call.set_targets(take_rows(self.all_targets, rows))
        call.context[layout.UPDATES_BEFORE] = self.first_update + step
        self.first_step, self.end_of_window = step, step + -(-len(rows) // self.batch)

    def _end_of_slices(self, step: int) -> int:
        return self.end_of_window


class Diverged(Exception):
    """The loss was not finite in a line search; the model has the weights of the last iteration."""


class DenseMinimisation(Minimisation):
    """Training by L-BFGS on what the trainer minimises, times a factor; it raises `Diverged` instead of a warning.

    SciPy's tolerances, and the length of its first step, depend on the factor.
    """

    def __init__(self, trainer: Trainer, X: Any, targets: Targets, factor: float, epochs: int, callbacks: list[Any],
                 progress: bool) -> None:
        self.factor = factor
        super().__init__(trainer, self._first_rows(X), targets, None, epochs, callbacks, progress)

    def _first_rows(self, X: Any) -> Source:
        return source_of(X)

    def objective(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return what is minimised at the parameters x (n,), and its gradient (n,)."""
        try:
            value, gradient = super().objective(x)
        except NotFinite:
            raise Diverged from None
        return self.factor * value, self.factor * gradient


class SparseMinimisation(DenseMinimisation):
    """The same on the rows of a CSR matrix: loss and gradient are summed up, a window at a time."""

    def _first_rows(self, X: Any) -> Source:
        self.window = DenseWindow(X, 1)
        return source_of(self.window.memory)

    def objective(self, x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return what is minimised at the parameters x (n,), and its gradient (n,)."""
        if self.evaluations == 0:
            notify(self.callbacks, "on_epoch_begin", self.trainer, {"epoch": self.trainer.epochs})
        self._set_parameters(x)
        loss, weight = 0.0, 0.0
        gradient = np.zeros(len(x))
        for rows in self.window.slices():
            self.call.set_inputs(self.window.fill(rows))
            self.call.set_targets(take_rows(self.targets, rows))
            self.call.train(self.choice.next()[0])
            weight_of_rows = float(self.call.kept(layout.STEP_WEIGHTS)[0])
            loss += weight_of_rows * float(self.call.kept(layout.LOSSES)[0])
            gradient += weight_of_rows * self.call.kept(layout.GRADIENTS)[self.places]
            weight += weight_of_rows
        self.evaluations += 1
        self.loss = loss / weight
        if not np.isfinite(self.loss):
            raise Diverged
        gradient /= weight
        value = self.loss
        if self.decay is not None:
            decayed = self.decay * x
            value += 0.5 * float((decayed * x).sum())
            gradient += decayed
        return self.factor * value, self.factor * gradient

