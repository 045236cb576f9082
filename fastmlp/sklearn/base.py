"""What the classifier and the regressor have in common: checks, weights in both worlds, the course of training."""

from __future__ import annotations

import contextlib
import copy
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from ..callbacks import check_callbacks
from ..fit_arguments import LARGE_BYTES
from ..fitting import DivergenceWarning
from ..from_sklearn import OURS
from ..losses import BinaryCrossEntropy, CrossEntropy, Loss
from ..model import MLP
from ..optimizers import LBFGS
from ..threads import limited_to
from ..trainer import Trainer
from .epochs import EpochEnd, IterationEnd, make_trainer, shuffled_orders
from .fits import DenseMinimisation, Diverged, EpochFit, SparseEpochFit, SparseMinimisation
from .inputs import FoundNotFinite, check_X, check_X_y, found_not_finite, require_finite
from .network import (
    THEIRS,
    arrange,
    check_shapes,
    hidden_activations,
    initial_weights,
    is_of,
    layers_of,
    sizes_of,
    sum_of_squares,
    weight_attributes,
)
from .objective import NOT_FINITE, Objective
from .parameters import checks_parameters
from .rows import HeldOut, is_sparse, predict, readable

Array = NDArray[Any]


class MLPEstimator(BaseEstimator, ABC):  # type: ignore[misc]
    """What the classifier and the regressor have in common."""

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "keep_optimizer": ["boolean"],
        "n_jobs": [None, Interval(Integral, 1, None, closed="left"), Options(Integral, {-1})],
        "progress": ["boolean"],
    }

    # Other threads may predict at any time. They read these, each of which is set in one go, and write to no model that
    # others can see: a network for other weights is made anew.
    _served: tuple[MLP | None, Sequence[Array]] = (None, ())  # made when it is needed; with the weights that it has
    _in_training: MLP | None = None  # whose weights are the current ones until training ends
    _trainer: Trainer | None = None  # with the optimizer's state, between calls of partial_fit

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Set the parameters from the local variables of ``__init__``."""
        for name, value in arguments.items():
            if name != "self":
                setattr(self, name, value)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # ---- what differs between the two

    def _check_targets(self, y: Array, incremental: bool) -> None:
        """Check targets of rows to train on; the classifier takes note of the classes."""

    def _require_known(self, name: str, y: Array) -> None:
        """Raise ValueError if there are targets that training has not seen, where that matters."""

    @abstractmethod
    def _objective(self, y: Array) -> Objective:
        """Return what is to be minimised for targets like these."""

    @abstractmethod
    def _encode(self, y: Array, loss: Loss) -> Array:
        """Return targets as the loss takes them: labels (n,), or numbers (n, outputs)."""

    @abstractmethod
    def _score_outputs(self, y: Array, outputs: Array, weights: Array | None) -> float:
        """Return the score of outputs (n, outputs) for encoded targets."""

    def _weights_of_rows(self, y: Array, sample_weight: Array | None, incremental: bool) -> Array | None:
        """Return the weights to train with."""
        return sample_weight

    # ---- training

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, X_val: Any = None, y_val: Any = None) -> Any:
        """Train the network.

        Parameters
        ----------
        X : array, sparse matrix or data frame of shape (n_samples, n_features)
            float32 is trained on in float32, everything else in float64. Rows of a sparse matrix are made dense a few
            batches at a time, which takes 8 MB, or batch_size * n_features * 8 bytes (4 in float32) if that is more.
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            Class labels, or a matrix of 0 and 1 for labels that do not exclude one another; numbers for the regressor.
        sample_weight : array of shape (n_samples,), default=None
            Numbers of at least 0.
        X_val, y_val : arrays, default=None
            Beyond scikit-learn: rows to validate on after every epoch. With `early_stopping` they take the place of a
            part of X.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If a parameter or an argument is not allowed; then nothing is changed. ValueError if the weights at the end
            are not finite.

        Warns
        -----
        ConvergenceWarning
            Of `sklearn.exceptions`, if max_iter or max_fun ended training.
        DivergenceWarning
            Of fastmlp, if the loss was not finite and early stopping went back to better weights.
        """
        return self._fit(X, y, sample_weight, X_val, y_val)

    def _partial_fit_is_available(self) -> bool:
        if self._is_lbfgs():
            raise AttributeError("partial_fit is for solvers and optimizers that go by batches, which lbfgs does not")
        return True

    def _is_lbfgs(self) -> bool:
        optimizer = self.solver if self.optimizer is None else self.optimizer
        return isinstance(optimizer, LBFGS) or (isinstance(optimizer, str) and optimizer == "lbfgs")

    def _limited_threads(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.n_jobs in (None, -1) else limited_to(self.n_jobs)

    def _fit(self, X: Any, y: Any, sample_weight: Any, X_val: Any = None, y_val: Any = None, *,
             incremental: bool = False, classes: Any = None) -> Any:
        before = dict(self.__dict__)
        before.pop("_served", None)  # the model in it may be the one that is trained
        self._random_state = check_random_state(self.random_state)
        drawn = self._random_state.get_state()
        train = None
        try:
            train = self._prepare(X, y, sample_weight, X_val, y_val, incremental, classes)
            with self._limited_threads():
                train()
        except BaseException as problem:
            if train is None or isinstance(problem, FoundNotFinite):
                self._random_state.set_state(drawn)
                for name in self.__dict__.keys() - before.keys():
                    del self.__dict__[name]
                self.__dict__.update(before)
            raise
        if not all(np.isfinite(weights).all() for weights in self._served[1]):
            raise ValueError(NOT_FINITE)
        return self

    def _prepare(self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any, incremental: bool,
                 classes: Any) -> Any:
        """Check everything, and return a function that trains."""
        with checks_parameters():
            callbacks = check_callbacks(self.callbacks)
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given both or neither")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        if incremental:
            self._note_classes(y, classes)
        X, y = check_X_y(self, X, y, reset=first)
        # Only the first epoch of a first call can be undone, as far as nobody else has seen it.
        searched = not first or incremental or callbacks or self.early_stopping or self._is_lbfgs() or (
            is_sparse(X) or X.nbytes <= LARGE_BYTES)
        if searched:
            require_finite(self, X)
        self._check_targets(y, incremental)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        weights = self._weights_of_rows(y, sample_weight, incremental)
        objective = self._objective(y)
        y = self._encode(y, objective.loss)
        held_out = None
        if X_val is not None:
            X_val, y_val = check_X_y(self, X_val, y_val, reset=False)
            require_finite(self, X_val)
            self._require_known("y_val", y_val)
            held_out = X_val, self._encode(y_val, objective.loss), None

        self.n_outputs_ = objective.outputs
        if first:
            self._initialise(X, objective)
        elif not hasattr(self, "out_activation_"):
            self.out_activation_ = THEIRS.get(objective.output, objective.output)
        check_shapes(self.coefs_, self.intercepts_, X.shape[1], self.n_outputs_)
        self.n_layers_ = len(self.coefs_) + 1
        layers, dtype, _ = self._describe()
        model = self._trainer.model if self._trainer is not None else None
        if model is None or not is_of(model, layers, dtype):
            model = MLP(layers, dtype=dtype)
        if self._is_lbfgs():
            return self._prepare_lbfgs(model, X, y, weights, objective, held_out, callbacks)
        self._begin_curves(first)
        if self.early_stopping and held_out is None:
            kept, left_out = self._split(y)
            held_out = X[left_out], y[left_out], None if sample_weight is None else sample_weight[left_out]
            X, y, weights = X[kept], y[kept], None if weights is None else weights[kept]
        return self._prepare_epochs(model, X, y, weights, objective, held_out, callbacks, incremental, bool(searched))

    def _note_classes(self, y: Any, classes: Any) -> None:
        """Take note of the argument `classes` of `partial_fit`."""

    def _initialise(self, X: Any, objective: Objective) -> None:
        """Draw the first weights, as scikit-learn does, and begin everything anew."""
        self.out_activation_ = THEIRS.get(objective.output, objective.output)
        self.n_iter_, self.t_ = 0, 0
        sizes = [X.shape[1], *sizes_of(self.hidden_layer_sizes), objective.outputs]
        dtype = np.float32 if X.dtype == np.float32 else np.float64
        activations = hidden_activations(self.activation, len(sizes) - 2)
        self.coefs_, self.intercepts_ = initial_weights(sizes, activations, self._random_state, np.dtype(dtype))
        self.__dict__.pop("slopes_", None)

    def _begin_curves(self, first: bool) -> None:
        """Begin what is recorded epoch by epoch, or what of it is missing."""
        self.n_iter_ = 0
        if first or not hasattr(self, "loss_curve_"):
            self.loss_curve_: list[float] = []
            self.validation_loss_curve_: list[float] = []
            self.validation_scores_: list[float] | None = None
            self.best_validation_score_: float | None = None
            self.best_loss_: float | None = np.inf
            self._no_improvement_count = 0
        if not hasattr(self, "validation_loss_curve_"):
            self.validation_loss_curve_ = []
        if not hasattr(self, "t_"):
            self.t_ = 0
        if self.early_stopping:
            self.best_loss_ = None
            if self.validation_scores_ is None:
                self.validation_scores_, self.best_validation_score_ = [], -np.inf
        else:
            self.validation_scores_, self.best_validation_score_ = None, None
            if self.best_loss_ is None:
                self.best_loss_ = np.inf

    def _split(self, y: Array) -> tuple[Array, Array]:
        """Return the numbers of the rows to train on, and of those to validate on."""
        stratify = None
        if isinstance(self, ClassifierMixin) and self.n_outputs_ == 1:
            stratify = np.where(y[:, 0] > 0, "True", "False")
        kept, left_out = train_test_split(np.arange(len(y)), random_state=self._random_state,
                                          test_size=self.validation_fraction, stratify=stratify)
        if len(left_out) < 2:
            raise ValueError("The validation set is too small: validation_fraction must leave it two rows or more, "
                             f"got {self.validation_fraction} of {len(y)} rows")
        return kept, left_out

    def _held_out(self, model: MLP, rows: Any, objective: Objective) -> HeldOut | None:
        if rows is None:
            return None
        X, y, weights = rows
        targets = objective.loss.check_targets(y, len(y), model.outputs, model.dtype, weights)
        counted = isinstance(objective.loss, CrossEntropy) or (
            isinstance(objective.loss, BinaryCrossEntropy) and isinstance(self, ClassifierMixin))
        alone = isinstance(self, ClassifierMixin) and len(self.classes_) == 1  # whatever the output, it is right
        hits = weights is None and counted and not alone and (y.ndim == 1 or model.outputs == 1)
        return HeldOut(model, readable(X, model), targets, objective.reported(y),
                       lambda outputs: self._score_outputs(y, outputs, weights), hits)

    def _prepare_epochs(self, model: MLP, X: Any, y: Array, weights: Array | None, objective: Objective,
                        held_out: Any, callbacks: list[Any], incremental: bool, searched: bool) -> Any:
        count = X.shape[0]
        batch = min(200, count) if self.batch_size == "auto" else int(self.batch_size)
        if batch > count:
            warnings.warn(f"batch_size is {batch}, more than the {count} rows there are: all of them make one batch",
                          stacklevel=6)
        trainer = self._trainer
        kept = incremental or (self.warm_start and self.keep_optimizer)
        if trainer is None or not kept or trainer.model is not model or trainer.loss != objective.loss:
            trainer = make_trainer(self, model, objective)
        targets = objective.loss.check_targets(y, count, model.outputs, model.dtype, weights)
        validation = self._held_out(model, held_out, objective)
        if trainer.schedule.monitor == "val_loss" and validation is None:
            raise ValueError("X_val and y_val must be given, or early_stopping=True, for the schedule "
                             f"{trainer.schedule!r}, which goes by the loss on them")
        trainer.batch_size = min(batch, count)
        trainer._l2_of_sum, trainer._loss_scale = self.alpha, objective.scale
        trainer.history.records.clear()
        draw_order = shuffled_orders(count, self._random_state) if self.shuffle else None
        self._trainer = trainer
        epochs = 1 if incremental else self.max_iter

        def train() -> None:
            kind = SparseEpochFit if is_sparse(X) else EpochFit
            with self._training(trainer):
                end = EpochEnd(self, trainer)
                fit = end.fit = kind(trainer, readable(X, model), targets, objective.reported(y), self.alpha,
                                     sum_of_squares(self.coefs_), epochs, end, callbacks, self.progress, draw_order,
                                     validation)
                if not searched:
                    fit.defer_check()
                try:
                    fit.run()
                except KeyboardInterrupt:
                    warnings.warn("Training interrupted by user.", stacklevel=5)
                except ValueError:
                    if not fit.undone:
                        raise
                finally:
                    end.restore_best()
            if fit.undone:
                raise found_not_finite(self, X)
            if fit.diverged:
                end.note_divergence()
                if not self.early_stopping:
                    raise ValueError(NOT_FINITE)
                warnings.warn("training stopped: the loss is not finite; the weights are those of the best epoch "
                              "before", DivergenceWarning, stacklevel=5)
            elif self.n_iter_ == self.max_iter and not incremental and not trainer.stop_training:
                warnings.warn(f"Maximum iterations ({self.max_iter}) reached before training converged",
                              ConvergenceWarning, stacklevel=5)

        return train

    def _prepare_lbfgs(self, model: MLP, X: Any, y: Array, weights: Array | None, objective: Objective, held_out: Any,
                       callbacks: list[Any]) -> Any:
        total = float(X.shape[0] if weights is None else weights.sum())
        trainer = make_trainer(self, model, objective)
        trainer.l2 = self.alpha / (total * objective.scale)
        targets = objective.loss.check_targets(y, X.shape[0], model.outputs, model.dtype, weights)
        validation = self._held_out(model, held_out, objective)
        self._trainer = None
        if validation is not None:
            self.validation_loss_curve_ = []

        def train() -> None:
            listeners = [IterationEnd(self, validation), *callbacks]
            kind = SparseMinimisation if is_sparse(X) else DenseMinimisation
            records = trainer.history.records
            message = ""
            with self._training(trainer):
                fit = kind(trainer, readable(X, model), targets, objective.scale, self.max_iter, listeners,
                           self.progress)
                try:
                    fit.run()
                    message = records[-1]["message"] if records else ""
                except Diverged:
                    if not records:
                        raise ValueError(NOT_FINITE) from None
                    message = "the loss was not finite"
            self.n_iter_ = len(records)
            loss = records[-1]["loss"] if records else fit.loss
            penalty = 0.5 * self.alpha * sum_of_squares(self.coefs_) / total
            self.loss_ = objective.reported(y).mean(loss, weights) + penalty
            if message and not message.startswith("CONVERGENCE") and not trainer.stop_training:
                warnings.warn(f"lbfgs ended after {self.n_iter_} iterations before it converged: {message}",
                              ConvergenceWarning, stacklevel=5)

        return train

    # ---- the network

    @property
    def model_(self) -> MLP:
        """A network of its own with the current weights, made anew whenever it is asked for.

        The estimator never changes it, and what is done with it does not reach the estimator.
        """
        check_is_fitted(self)
        return copy.deepcopy(self._current_model())

    def _describe(self) -> tuple[list[Any], np.dtype[Any], list[Array]]:
        """Return layers and dtype as `MLP` takes them, and the weights in its order, which users may have set."""
        coefs = self.coefs_
        units = [np.shape(coef)[1] for coef in coefs]
        activations = hidden_activations(self.activation, len(units) - 1)
        weights = self._arrange(activations)
        layers = layers_of(units, activations, self.dropout, OURS.get(self.out_activation_, self.out_activation_))
        return [len(coefs[0]), *layers], np.result_type(np.float32, *{weight.dtype for weight in weights}), weights

    def _arrange(self, activations: list[str]) -> list[Array]:
        """Return the weights in the order of `MLP`'s, for our names of the hidden layers' activations."""
        return arrange(self.coefs_, self.intercepts_, self.__dict__.get("slopes_", ()), activations)

    def _current_model(self) -> MLP:
        """Return a model with the current weights, to read only."""
        in_training = self._in_training
        if in_training is not None:
            return in_training
        layers, dtype, weights = self._describe()
        model, seen = self._served
        if model is None or not is_of(model, layers, dtype) or not all(map(np.array_equal, seen, weights)):
            model = MLP(layers, dtype=dtype)
            model.set_weights(weights)
            self._served = model, model.get_weights()
        return model

    @contextlib.contextmanager
    def _training(self, trainer: Trainer) -> Iterator[None]:
        """Give the trainer's model the weights of the attributes, and these, in the end, what the model has learned."""
        model = trainer.model
        with trainer._exclusively():
            model.set_weights(self._arrange(hidden_activations(self.activation, len(model.layers) - 1)))
            self._in_training = model
            try:
                yield
            finally:
                learned = model.get_weights()
                self.__dict__.update(weight_attributes([weights.copy() for weights in learned], model.layers))
                self._served = model, learned
                self._in_training = None

    def _outputs(self, X: Any) -> Array:
        """Return the network's outputs (n_samples, n_outputs)."""
        check_is_fitted(self)
        X = check_X(self, X)
        model = self._current_model()
        try:
            with self._limited_threads():
                return predict(model, X)
        except ValueError:
            require_finite(self, X)  # says it as scikit-learn does
            raise

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__(), "_served": (None, ()), "_in_training": None}  # the weights are in coefs_
        in_training = self._in_training
        if in_training is not None:
            state |= weight_attributes(in_training.get_weights(), in_training.layers)
        return state
