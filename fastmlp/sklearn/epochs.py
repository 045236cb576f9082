"""What scikit-learn's estimators do before training, and after an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..callbacks import Callback
from ..model import MLP
from ..optimizers import LBFGS, SGD, Adam, Momentum, Nesterov, Optimizer, check_optimizer
from ..trainer import Trainer
from .fits import EpochFit, Order
from .objective import Objective
from .parameters import checks_parameters
from .rows import HeldOut

SMALLEST_RATE = 1e-6  # of an adaptive learning rate: training ends there


@checks_parameters()
def make_trainer(estimator: Any, model: MLP, objective: Objective) -> Trainer:
    """Return a trainer with the optimizer, the learning rate and the schedule of an estimator."""
    has_dropout = any(layer.dropout for layer in model.layers)
    seed = int(estimator._random_state.randint(2**31 - 1)) if has_dropout else 0
    return Trainer(model, objective.loss, _optimizer_of(estimator), estimator.learning_rate_init,
                   estimator.schedule, seed=seed)


def _optimizer_of(estimator: Any) -> Optimizer:
    if estimator.optimizer is not None:
        return check_optimizer(estimator.optimizer)
    if estimator.solver == "lbfgs":
        return LBFGS(tolerance=estimator.tol, max_evaluations=estimator.max_fun)
    if estimator.solver == "adam":
        return Adam(estimator.beta_1, estimator.beta_2, estimator.epsilon, epsilon_hat=True)
    if estimator.momentum == 0:
        return SGD()
    return (Nesterov if estimator.nesterovs_momentum else Momentum)(estimator.momentum)


def shuffled_orders(count: int, random_state: np.random.RandomState) -> Callable[[], Order]:
    """Return a function that draws the order of the rows for the next epoch as scikit-learn does, from the last order.

    It takes some tens of nanoseconds a row, which is little beside the arithmetic of an epoch.
    """
    order = np.arange(count)

    def draw() -> Order:
        nonlocal order
        shuffled = np.arange(count)
        random_state.shuffle(shuffled)
        order = order[shuffled]
        return order

    return draw


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

    def epochs_ahead(self) -> int:
        """Return how many epochs may be trained before this has to be called for them.

        It neither ends training nor changes the rate before so many epochs without improvement have gone by.
        """
        estimator = self.estimator
        if self.best is not None or (self.changes_rate and estimator.learning_rate == "invscaling"):
            return 1
        return int(max(1, min(estimator.n_iter_no_change + 1 - estimator._no_improvement_count, estimator.max_iter)))

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
        adapts = self.changes_rate and estimator.learning_rate == "adaptive"
        if not adapts or trainer.learning_rate <= SMALLEST_RATE:
            trainer.stop_training = True
            what = "Learning rate too small. Stopping." if adapts else "Stopping."
        else:
            trainer.learning_rate /= 5.0
            estimator._no_improvement_count = 0
            what = f"Setting learning rate to {trainer.learning_rate:f}"
        if estimator.verbose:
            value = "Training loss" if self.best is None else "Validation score"
            print(f"{value} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change} "
                  f"consecutive epochs. {what}")

    def note_divergence(self) -> None:
        """Record the epoch that was not finished because the loss was not finite."""
        estimator = self.estimator
        estimator.n_iter_ += 1
        estimator.loss_ = float("nan")
        estimator.loss_curve_.append(estimator.loss_)
        if self.best is not None:
            estimator.validation_scores_.append(float("nan"))

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
