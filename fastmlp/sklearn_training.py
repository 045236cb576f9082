"""Training as scikit-learn's estimators do it: rows in an order drawn outside, their losses, dense and sparse input.

The estimators themselves are in `fastmlp.sklearn`; nothing here needs scikit-learn.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import engine, threads
from .arrays import KINDS, Source, Targets
from .callbacks import Callback, notify
from .fitting import Fit
from .kernels import layout
from .kernels.batches import LABELS
from .lbfgs import Minimisation, _NotFinite, _places_of
from .losses import Loss
from .model import MLP
from .optimizers import LBFGS, SGD, Adam, Momentum, Nesterov, Optimizer, check_optimizer
from .trainer import Trainer

Array = NDArray[Any]
Order = NDArray[np.int64]

WINDOW_BYTES = 8 << 20  # rows of a sparse matrix are made dense this many bytes at a time
SMALLEST_RATE = 1e-6  # of an adaptive learning rate: training ends there


@dataclasses.dataclass(frozen=True)
class Reported:
    """How the loss that an estimator reports follows from that of the kernels.

    Parameters
    ----------
    factor : float
        On the kernels' loss: a mean over the outputs may have to become a sum, or the other way round.
    offsets : float64 array of shape (n,), optional
        What the targets alone add to the loss of each row; none by default.
    """

    factor: float = 1.0
    offsets: NDArray[np.float64] | None = None

    def mean(self, loss: float, weights: NDArray[np.float64] | None) -> float:
        """Return the mean loss over all rows from the kernels' mean."""
        offset = 0.0 if self.offsets is None else float(np.average(self.offsets, weights=weights))
        return self.factor * loss + offset


@dataclasses.dataclass(frozen=True)
class Objective:
    """What is minimised.

    Parameters
    ----------
    loss : Loss
    output : str
        Our name of the output activation.
    outputs : int
        Number of outputs.
    scale : float
        Factor on the loss, and so on its gradient.
    factor : float
        Factor on the loss that is reported.
    offset : function of the targets (n, outputs), optional
        Returns what is added to the reported loss of each row.
    """

    loss: Loss
    output: str
    outputs: int
    scale: float = 1.0
    factor: float = 1.0
    offset: Callable[[Array], NDArray[np.float64]] | None = None

    def reported(self, y: Array) -> Reported:
        """Return how the loss on these targets is reported."""
        return Reported(self.factor, None if self.offset is None else self.offset(y))


def poisson_offset(y: Array) -> NDArray[np.float64]:
    """Return sum t log t - t for targets (n, outputs): half the deviance is that beside sum a - t log a."""
    t = y.astype(np.float64)
    logs = np.log(t, out=np.zeros_like(t), where=t > 0)
    return np.asarray((t * logs - t).sum(axis=1))


def is_sparse(X: Any) -> bool:
    """Whether X is a sparse matrix or array of SciPy."""
    return hasattr(X, "tocsr")


def take_rows(targets: Targets, rows: Any) -> Targets:
    """Return the targets and weights of some rows, by a slice or their numbers."""
    source = targets.source
    weights = None if targets.weights is None else targets.weights[rows]
    return dataclasses.replace(targets, source=_source(np.ascontiguousarray(source.array[rows])), weights=weights)


def _source(array: Array) -> Source:
    if array.ndim == 1:
        return Source(array, LABELS, 1)
    return Source(array, KINDS[array.dtype], array.strides[0] // array.itemsize if len(array) > 1 else array.shape[1])


class DenseWindow:
    """Room for some rows of a CSR matrix, made dense.

    Parameters
    ----------
    X : CSR matrix (n, inputs) of float32, float64 or uint8
    batch : int
        The room is for as many whole batches as `WINDOW_BYTES` hold, at least one.
    """

    def __init__(self, X: Any, batch: int) -> None:
        self.X = X
        count, inputs = X.shape
        row_bytes = inputs * X.dtype.itemsize
        self.rows = min(max(1, WINDOW_BYTES // (batch * row_bytes)) * batch, count)
        self.memory = np.zeros((self.rows, inputs), X.dtype)

    def fill(self, rows: Any) -> Source:
        """Make the rows with these numbers dense."""
        chosen = self.X[rows]
        dense = self.memory[: chosen.shape[0]]
        chosen.toarray(out=dense)
        return _source(dense)

    def slices(self) -> Iterator[slice]:
        """Yield the rows from the first to the last, a window at a time."""
        count = self.X.shape[0]
        for begin in range(0, count, self.rows):
            yield slice(begin, min(begin + self.rows, count))


def predict(network: engine.Network, X: Any) -> Array:
    """Return the outputs (n, outputs) for an array, or for a CSR matrix, a window of rows at a time."""
    if not is_sparse(X):
        return engine.predict(network, X)
    outputs = np.empty((X.shape[0], network.outputs), network.dtype)
    window = DenseWindow(X, 1)
    for rows in window.slices():
        outputs[rows] = engine.predict(network, window.fill(rows).array)
    return outputs


class HeldOut:
    """Rows to validate on.

    Parameters
    ----------
    network : Network
    X : array, or CSR matrix (n, inputs)
    targets : Targets
    reported : Reported
    score : function of the outputs (n, outputs)
        Returns the score.
    score_is_hits : bool
        Whether the score is the share of right predictions as the kernels count them, which saves a prediction.
    """

    def __init__(self, network: engine.Network, X: Any, targets: Targets, reported: Reported,
                 score: Callable[[Array], float], score_is_hits: bool) -> None:
        self.network, self.X, self.targets, self.reported = network, X, targets, reported
        self.score, self.score_is_hits = score, score_is_hits

    def evaluate(self) -> dict[str, float]:
        """Return "val_loss" and "val_score"."""
        count = self.X.shape[0]
        if is_sparse(self.X):
            window = DenseWindow(self.X, 1)
            loss, hits, total = 0.0, 0.0, 0.0
            for rows in window.slices():
                targets = take_rows(self.targets, rows)
                weight = float(rows.stop - rows.start if targets.weights is None else targets.weights.sum())
                part = engine.evaluate(self.network, window.fill(rows), targets)
                loss, hits, total = loss + part[0] * weight, hits + part[1] * (rows.stop - rows.start), total + weight
            loss, hits = loss / total, hits / count
        else:
            loss, hits = engine.evaluate(self.network, _source(self.X), self.targets)
        score = hits if self.score_is_hits else self.score(predict(self.network, self.X))
        return {"val_loss": self.reported.mean(loss, self.targets.weights), "val_score": score}


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
    epochs : int
    callbacks : list
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

    def __init__(self, trainer: Trainer, X: Any, targets: Targets, reported: Reported, alpha: float, epochs: int,
                 callbacks: list[Any], progress: bool, draw_order: Callable[[], Order] | None,
                 held_out: HeldOut | None) -> None:
        super().__init__(trainer, self._first_rows(X, trainer.batch_size), targets, None, epochs, callbacks, progress,
                         False, False)
        count = X.shape[0]
        self._set_length(-(-count // self.batch), count)
        self.count = count
        self.all_targets, self.reported, self.alpha = targets, reported, alpha
        self.draw_order, self.held_out = draw_order, held_out
        self.order: Order = np.arange(count)
        self.loss = np.nan
        self.diverged = False
        self.starts = np.arange(0, count, self.batch)
        self.batch_rows = np.diff(self.starts, append=count)
        self.bias_places = _bias_places(trainer.model.network) if alpha else None
        self.squares = self._squared_weights()

    def _first_rows(self, X: Any, batch: int) -> Source:
        return _source(X)

    def _squared_weights(self) -> float:
        """Return the sum of the squares of the weights, without the biases."""
        if self.bias_places is None:
            return 0.0
        # No product of linear algebra: its threads would still spin when ours begin to work.
        parameters = self.trainer.model.network.parameters
        biases = parameters[self.bias_places]
        return float(np.einsum("i,i", parameters, parameters) - np.einsum("i,i", biases, biases))

    def _provide_data(self, step: int) -> None:
        if step % self.steps_per_epoch == 0 and self.draw_order is not None:
            self.order = self.draw_order()
            self._hand_over(self.order)

    def _hand_over(self, order: Order) -> None:
        self.call.kept(layout.ORDER)[:] = order

    def _total_weight(self) -> float:
        weights = self.all_targets.weights
        return float(self.count if weights is None else weights.sum())

    def _finish_epoch(self, epoch: int, rate: float, speed: float, bar: Any) -> None:
        self.loss = self._loss_of_epoch(np.concatenate(self.losses))
        super()._finish_epoch(epoch, rate, speed, bar)

    def _loss_of_epoch(self, sums: NDArray[np.float64]) -> float:
        """Return scikit-learn's loss for each batch's sum of weighted losses, as the kernels have them."""
        weights, offsets, factor = self.all_targets.weights, self.reported.offsets, self.reported.factor
        steps = len(self.starts)
        if weights is None:
            loss = factor * float(sums.sum()) + (0.0 if offsets is None else float(offsets.sum()))
            shares = float(steps)
        else:
            batch_weights = np.add.reduceat(weights[self.order], self.starts)
            rows_by_weight = np.divide(self.batch_rows, batch_weights, out=np.zeros(steps), where=batch_weights > 0)
            loss = factor * float((sums * rows_by_weight).sum())
            if offsets is not None:
                summed = np.add.reduceat((weights * offsets)[self.order], self.starts)
                loss += float((summed * rows_by_weight).sum())
            shares = float(rows_by_weight.sum())
        if self.alpha:
            before, self.squares = self.squares, self._squared_weights()
            mean = before + (self.squares - before) * (steps - 1) / (2 * steps)
            loss += 0.5 * self.alpha * mean * shares
        return loss / self.count

    def _training_metrics(self) -> dict[str, float]:
        return {} if self.held_out is None else self.held_out.evaluate()

    def _warn_of_divergence(self) -> None:
        self.diverged = True


class SparseEpochFit(EpochFit):
    """The same on rows of a CSR matrix, which are made dense a window at a time; batches are those of the whole."""

    def _first_rows(self, X: Any, batch: int) -> Source:
        self.window = DenseWindow(X, min(batch, X.shape[0]))
        self.end_of_window = 0
        return _source(self.window.memory)

    def _hand_over(self, order: Order) -> None:
        pass

    def _provide_data(self, step: int) -> None:
        super()._provide_data(step)
        if step < self.end_of_window:
            return
        begin = step % self.steps_per_epoch * self.batch
        rows = self.order[begin : begin + self.window.rows]
        call = self.call
        call.set_inputs(self.window.fill(rows))
        call.set_targets(take_rows(self.all_targets, rows))
        call.context[layout.UPDATES_BEFORE] = self.first_update + step
        self.first_step, self.end_of_window = step, step + -(-len(rows) // self.batch)

    def _end_of_slices(self, step: int) -> int:
        return self.end_of_window


class SparseMinimisation(Minimisation):
    """Training by L-BFGS on the rows of a CSR matrix: loss and gradient are summed up, a window at a time."""

    def __init__(self, trainer: Trainer, X: Any, targets: Targets, epochs: int, callbacks: list[Any],
                 progress: bool) -> None:
        self.window = DenseWindow(X, 1)
        super().__init__(trainer, _source(self.window.memory), targets, None, epochs, callbacks, progress)

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
            raise _NotFinite
        gradient /= weight
        if self.decay is None:
            return self.loss, gradient
        decayed = self.decay * x
        return self.loss + 0.5 * float((decayed * x).sum()), gradient + decayed


def _bias_places(network: engine.Network) -> NDArray[np.intp]:
    """Return where the biases lie in the vector of parameters; and learned slopes, which have no penalty either."""
    names = [name for names in layout.array_names(network.table) for name in names]
    sizes = [int(np.prod(shape)) for shape in layout.array_shapes(network.table)]
    parts = np.split(_places_of(network), np.cumsum(sizes)[:-1])
    return np.concatenate([part for part, name in zip(parts, names, strict=True) if name != "weights"])


def make_trainer(estimator: Any, model: MLP, objective: Objective) -> Trainer:
    """Return a trainer with the optimizer, the learning rate and the schedule of an estimator."""
    has_dropout = any(layer.dropout for layer in model.layers)
    seed = int(estimator._random_state.randint(2**31 - 1)) if has_dropout else 0
    return Trainer(model, objective.loss, _optimizer_of(estimator, objective), estimator.learning_rate_init,
                   estimator.schedule, seed=seed)


def _optimizer_of(estimator: Any, objective: Objective) -> Optimizer:
    if estimator.optimizer is not None:
        return check_optimizer(estimator.optimizer)
    if estimator.solver == "lbfgs":
        return LBFGS(tolerance=estimator.tol / objective.scale, max_evaluations=estimator.max_fun)
    if estimator.solver == "adam":
        return Adam(estimator.beta_1, estimator.beta_2, estimator.epsilon, epsilon_hat=True)
    if estimator.momentum == 0:
        return SGD()
    kind = Nesterov if estimator.nesterovs_momentum else Momentum
    optimizer = kind(min(estimator.momentum, 0.5))
    object.__setattr__(optimizer, "momentum", float(estimator.momentum))  # scikit-learn allows 1, too
    return optimizer


def shuffled_orders(count: int, random_state: np.random.RandomState) -> Callable[[], Order]:
    """Return a function that draws the order of the rows for the next epoch, as scikit-learn does: by shuffling the last.

    It takes about 15 ns a row, which is little beside the arithmetic of an epoch.
    """
    order = np.arange(count)

    def draw() -> Order:
        nonlocal order
        shuffled = np.arange(count)
        random_state.shuffle(shuffled)
        order = order[shuffled]
        return order

    return draw


def r2_score(y: Array, outputs: Array, weights: Array | None) -> float:
    """Return the mean over the outputs of the coefficient of determination; NaN if an output is not finite.

    An output whose targets are all the same counts 1 if it is right everywhere, else 0. A fraction of the time that
    `sklearn.metrics.r2_score` takes, which would show in every epoch of a small set.
    """
    if not np.isfinite(outputs).all() or len(y) < 2:
        return float("nan")
    w = np.ones((len(y), 1)) if weights is None else weights[:, np.newaxis]
    missing = (w * (y - outputs) ** 2).sum(axis=0)
    total = (w * (y - (w * y).sum(axis=0) / w.sum()) ** 2).sum(axis=0)
    scores = np.where(missing == 0, 1.0, 0.0)
    return float(np.subtract(1.0, np.divide(missing, total, where=total > 0, out=1.0 - scores)).mean())


class EpochEnd(Callback):
    """What scikit-learn's estimators do after an epoch: record, print, count epochs without improvement, stop.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Whose attributes are set.
    trainer : Trainer
    """

    fit: EpochFit

    def __init__(self, estimator: Any, trainer: Trainer) -> None:
        self.estimator = estimator
        self.parameters = trainer.model.network.parameters
        self.best = self.parameters.copy() if estimator.early_stopping else None
        self.changes_rate = (estimator.solver == "sgd" or estimator.optimizer is not None) and (
            estimator.schedule is None)

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        estimator = self.estimator
        estimator.n_iter_ += 1
        estimator.t_ += self.fit.count
        estimator.loss_ = self.fit.loss
        estimator.loss_curve_.append(self.fit.loss)
        if "val_loss" in logs:
            estimator.validation_loss_curve_.append(logs["val_loss"])
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {self.fit.loss:.8f}")
        self._count_no_improvement(logs)
        if self.changes_rate and estimator.learning_rate == "invscaling":
            trainer.learning_rate = estimator.learning_rate_init / (estimator.t_ + 1) ** estimator.power_t
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            self._act_on_no_improvement(trainer)

    def _count_no_improvement(self, logs: dict[str, Any]) -> None:
        estimator = self.estimator
        if self.best is not None:
            score = logs["val_score"]
            estimator.validation_scores_.append(score)
            if estimator.verbose:
                print(f"Validation score: {score:f}")
            worse = score < estimator.best_validation_score_ + estimator.tol
            if score > estimator.best_validation_score_:
                estimator.best_validation_score_ = score
                self.best[:] = self.parameters
        else:
            worse = estimator.loss_ > estimator.best_loss_ - estimator.tol
            estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if worse else 0

    def _act_on_no_improvement(self, trainer: Any) -> None:
        estimator = self.estimator
        if not (self.changes_rate and estimator.learning_rate == "adaptive") or (
                trainer.learning_rate <= SMALLEST_RATE):
            trainer.stop_training = True
            what = "Stopping."
        else:
            trainer.learning_rate /= 5.0
            estimator._no_improvement_count = 0
            what = f"Setting learning rate to {trainer.learning_rate:f}"
        if estimator.verbose:
            value = "Training loss" if self.best is None else "Validation score"
            print(f"{value} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change} "
                  f"consecutive epochs. {what}")

    def restore_best(self) -> None:
        """With early stopping: give the model the weights of its best epoch."""
        if self.best is not None:
            self.parameters[:] = self.best


class IterationEnd(Callback):
    """What is recorded and printed after an iteration of L-BFGS."""

    def __init__(self, estimator: Any, held_out: HeldOut | None) -> None:
        self.estimator, self.held_out = estimator, held_out
        self.iterations = 0

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        self.iterations += 1
        if self.estimator.verbose:
            print(f"Iteration {self.iterations}, loss = {logs['loss']:.8f}")
        if self.held_out is not None:
            logs |= self.held_out.evaluate()
            self.estimator.validation_loss_curve_.append(logs["val_loss"])


_threads_lock = threading.Lock()
_limits = 0  # estimators that work under a limit of their own
_threads_before: int | None = None


@contextlib.contextmanager
def limited_threads(number: int | None) -> Iterator[None]:
    """Run the body with that number of threads, at most those there are; None leaves it as it is.

    Where several do so at once, the last to begin decides, and the last to end restores what was; results do not
    depend on it.
    """
    global _limits, _threads_before
    if number is None:
        yield
        return
    with _threads_lock:
        if _limits == 0:
            _threads_before = threads._chosen
        _limits += 1
        available = threads.available_threads()
        threads.set_num_threads(available if number == -1 else min(number, available))
    try:
        yield
    finally:
        with _threads_lock:
            _limits -= 1
            if _limits == 0:
                threads._chosen = _threads_before
