"""Estimators that take the place of scikit-learn's MLPClassifier and MLPRegressor.

    from fastmlp import MLPClassifier, MLPRegressor

Parameters, attributes and behaviour are those of `sklearn.neural_network` 1.9: with the same data and random_state,
training goes through the same weights, up to rounding. How it trains is in `fastmlp.sklearn_training`.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import LabelBinarizer
    from sklearn.utils import check_random_state, column_or_1d
    from sklearn.utils._param_validation import Interval, Options, StrOptions
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as problem:
    raise ImportError("MLPClassifier and MLPRegressor need scikit-learn 1.6 or later: "
                      f"pip install fastmlp[sklearn] ({problem})") from problem

from .arrays import check_inputs
from .callbacks import check_callbacks
from .fitting import DivergenceWarning
from .lbfgs import Minimisation
from .losses import LOSSES, BinaryCrossEntropy, CrossEntropy, HalfSquaredError, Hinge, Loss, Poisson, check_loss
from .model import MLP
from .optimizers import LBFGS
from .sklearn_network import (
    OURS,
    THEIRS,
    arrange,
    check_shapes,
    hidden_activations,
    initial_slopes,
    initial_weights,
    layers_of,
    separate,
    sizes_of,
)
from .sklearn_training import (
    EpochEnd,
    EpochFit,
    HeldOut,
    IterationEnd,
    Objective,
    SparseEpochFit,
    SparseMinimisation,
    is_sparse,
    limited_threads,
    make_trainer,
    poisson_offset,
    predict,
    r2_score,
    shuffled_orders,
)
from .trainer import Trainer
from .validation import check_choice

__all__ = ["MLPClassifier", "MLPRegressor"]

Array = NDArray[Any]

INPUT_DTYPES = (np.float64, np.float32, np.uint8)  # what the kernels read where it lies; other numbers become float64
NOT_FINITE = ("Solver produced non-finite parameter weights. The input data may contain large values and need to be "
              "preprocessed.")  # tests of scikit-learn's users go by this text


class _MLPEstimator(BaseEstimator, ABC):  # type: ignore[misc]
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

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Set the parameters from the local variables of ``__init__``."""
        for name in self._get_param_names():
            setattr(self, name, arguments[name])

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

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, X_val: Any = None, y_val: Any = None) -> Any:
        """Train the network.

        Parameters
        ----------
        X : array, sparse matrix or data frame of shape (n_samples, n_features)
            float32 is trained on in float32, everything else in float64. Rows of a sparse matrix are made dense a few
            batches at a time.
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

    def _fit(self, X: Any, y: Any, sample_weight: Any, X_val: Any = None, y_val: Any = None, *,
             incremental: bool = False, classes: Any = None) -> Any:
        before = dict(self.__dict__)
        try:
            train = self._prepare(X, y, sample_weight, X_val, y_val, incremental, classes)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        with limited_threads(self.n_jobs):
            train()
        if not np.isfinite(self._model.network.parameters).all():
            raise ValueError(NOT_FINITE)
        return self

    def _prepare(self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any, incremental: bool,
                 classes: Any) -> Any:
        """Check everything, and return a function that trains."""
        callbacks = check_callbacks(self.callbacks)
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given both or neither")
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        if incremental:
            self._note_classes(y, classes)
        X, y = self._check_X_y(X, y, reset=first)
        self._check_targets(y, incremental)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        weights = self._weights_of_rows(y, sample_weight, incremental)
        objective = self._objective(y)
        y = self._encode(y, objective.loss)
        held_out = None
        if X_val is not None:
            X_val, y_val = self._check_X_y(X_val, y_val, reset=False)
            self._require_known("y_val", y_val)
            held_out = X_val, self._encode(y_val, objective.loss), None

        self._random_state = check_random_state(self.random_state)
        self.n_outputs_ = objective.outputs
        if first:
            self._initialise(X, objective)
        elif not hasattr(self, "out_activation_"):
            self.out_activation_ = THEIRS.get(objective.output, objective.output)
        check_shapes(self.coefs_, self.intercepts_, X.shape[1], self.n_outputs_)
        self.n_layers_ = len(self.coefs_) + 1
        model = self._current_model()
        if self._is_lbfgs():
            return self._prepare_lbfgs(model, X, y, weights, objective, held_out, callbacks)
        self._begin_curves(first)
        if self.early_stopping and held_out is None:
            kept, left_out = self._split(y)
            held_out = X[left_out], y[left_out], None if sample_weight is None else sample_weight[left_out]
            X, y, weights = X[kept], y[kept], None if weights is None else weights[kept]
        return self._prepare_epochs(model, X, y, weights, objective, held_out, callbacks, incremental)

    def _note_classes(self, y: Any, classes: Any) -> None:
        """Take note of the argument `classes` of `partial_fit`."""

    def _check_X_y(self, X: Any, y: Any, reset: bool) -> tuple[Any, Array]:
        """Check inputs and targets; the inputs are then an array or a CSR matrix."""
        X, y = validate_data(self, X, y, accept_sparse="csr", multi_output=True, dtype=INPUT_DTYPES, reset=reset,
                             y_numeric=isinstance(self, RegressorMixin))
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _initialise(self, X: Any, objective: Objective) -> None:
        """Draw the first weights, as scikit-learn does, and begin everything anew."""
        self.out_activation_ = THEIRS.get(objective.output, objective.output)
        self.n_iter_, self.t_ = 0, 0
        sizes = [X.shape[1], *sizes_of(self.hidden_layer_sizes), objective.outputs]
        dtype = np.float32 if X.dtype == np.float32 else np.float64
        activations = hidden_activations(self.activation, len(sizes) - 2)
        self.coefs_, self.intercepts_ = initial_weights(sizes, activations, self._random_state, np.dtype(dtype))
        self.__dict__.pop("slopes_", None)
        slopes = initial_slopes(sizes[1:], activations, np.dtype(dtype))
        if slopes:
            self.slopes_ = slopes

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
        hits = weights is None and counted and (y.ndim == 1 or model.outputs == 1)
        return HeldOut(model.network, _readable(X, model), targets, objective.reported(y),
                       lambda outputs: self._score_outputs(y, outputs, weights), hits)

    def _prepare_epochs(self, model: MLP, X: Any, y: Array, weights: Array | None, objective: Objective,
                        held_out: Any, callbacks: list[Any], incremental: bool) -> Any:
        count = X.shape[0]
        batch = min(200, count) if self.batch_size == "auto" else int(self.batch_size)
        if batch > count:
            warnings.warn(f"batch_size is {batch}, more than the {count} rows there are: all of them make one batch",
                          stacklevel=5)
        trainer: Trainer | None = self.__dict__.get("_trainer")
        kept = incremental or (self.warm_start and self.keep_optimizer)
        if trainer is None or not kept or trainer.model is not model or trainer.loss != objective.loss:
            trainer = make_trainer(self, model, objective)
        trainer.batch_size = min(batch, count)
        trainer._l2_of_sum, trainer._loss_scale = self.alpha, objective.scale
        trainer.history.records.clear()
        targets = objective.loss.check_targets(y, count, model.outputs, model.dtype, weights)
        validation = self._held_out(model, held_out, objective)
        if trainer.schedule.monitor == "val_loss" and validation is None:
            raise ValueError("X_val and y_val must be given, or early_stopping=True, for the schedule "
                             f"{trainer.schedule!r}, which goes by the loss on them")
        draw_order = shuffled_orders(count, self._random_state) if self.shuffle else None
        self._trainer = trainer

        def train() -> None:
            kind = SparseEpochFit if is_sparse(X) else EpochFit
            end = EpochEnd(self, trainer)
            fit = end.fit = kind(trainer, _readable(X, model), targets, objective.reported(y), self.alpha,
                                 1 if incremental else self.max_iter, [end, *callbacks], self.progress, draw_order,
                                 validation)
            try:
                with trainer._exclusively():
                    fit.run()
            except KeyboardInterrupt:
                warnings.warn("Training interrupted by user.", stacklevel=5)
            finally:
                end.restore_best()
                self._take_weights(model)
            if fit.diverged:
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
            if is_sparse(X):
                fit: Minimisation = SparseMinimisation(trainer, X, targets, self.max_iter, listeners, self.progress)
            else:
                source = check_inputs(X, model.inputs, model.dtype, finite=False)
                fit = Minimisation(trainer, source, targets, None, self.max_iter, listeners, self.progress)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", DivergenceWarning)
                try:
                    fit.run()
                finally:
                    self._take_weights(model)
            if any(warning.category is DivergenceWarning for warning in caught):
                raise ValueError(NOT_FINITE)
            records = trainer.history.records
            self.n_iter_ = len(records)
            loss = records[-1]["loss"] if records else fit.loss
            squares = sum(float(np.einsum("ij,ij", coef, coef)) for coef in self.coefs_)
            self.loss_ = objective.reported(y).mean(loss, weights) + 0.5 * self.alpha * squares / total
            message = records[-1]["message"] if records else ""
            if message and not message.startswith("CONVERGENCE") and not trainer.stop_training:
                warnings.warn(f"lbfgs ended after {self.n_iter_} iterations before it converged: {message}",
                              ConvergenceWarning, stacklevel=5)

        return train

    # ---- the network

    @property
    def model_(self) -> MLP:
        """The network, with the weights of `coefs_` and `intercepts_` as they are now."""
        check_is_fitted(self)
        return self._current_model()

    def _current_model(self) -> MLP:
        """Return the model with the current weights, which may have been set by hand or changed in place."""
        sizes = [np.shape(coef)[1] for coef in self.coefs_]
        activations = hidden_activations(self.activation, len(sizes) - 1)
        weights = arrange(self.coefs_, self.intercepts_, self.__dict__.get("slopes_", ()), activations)
        layers = layers_of(sizes, activations, self.dropout, OURS.get(self.out_activation_, self.out_activation_))
        dtype = np.result_type(np.float32, *{weight.dtype for weight in weights})
        model: MLP | None = self.__dict__.get("_model")
        if model is None or model.layers != layers or model.dtype != dtype or model.inputs != len(self.coefs_[0]):
            model = MLP([len(self.coefs_[0]), *layers], dtype=dtype)
            self._model, self._trainer, self._seen = model, None, []
        if len(self._seen) != len(weights) or not all(map(np.array_equal, self._seen, weights)):
            model.set_weights(weights)
            self._seen = model.get_weights()
        return model

    def _take_weights(self, model: MLP) -> None:
        """Set the attributes to the weights of the model after training."""
        self._seen = model.get_weights()
        self.coefs_, self.intercepts_, slopes = separate(model.get_weights(), model.layers)
        if slopes:
            self.slopes_ = slopes

    def _outputs(self, X: Any) -> Array:
        """Return the network's outputs (n_samples, n_outputs)."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=INPUT_DTYPES, reset=False)
        model = self._current_model()
        with limited_threads(self.n_jobs):
            return predict(model.network, X)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_seen", None)  # the weights are in coefs_
        if state.get("_trainer") is None:
            state.pop("_model", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._seen: list[Array] = []


def _readable(X: Any, model: MLP) -> Any:
    """Return inputs as a CSR matrix, or an array that the kernels can read."""
    return X if is_sparse(X) else check_inputs(X, model.inputs, model.dtype, finite=False).array


def _loss_of_fastmlp(loss: Any, theirs: set[str], default: str) -> Loss:
    """Return a loss from one of our names or an instance; `default` is the output if it does not need another."""
    if isinstance(loss, str):
        loss = LOSSES[check_choice("loss", loss, {*theirs, *LOSSES})]()
    output = loss.output if isinstance(loss, Loss) and loss.output is not None else default
    return check_loss(loss, output)


def _has_probabilities(estimator: Any) -> bool:
    if isinstance(estimator.loss, Hinge) or (isinstance(estimator.loss, str) and estimator.loss == Hinge.name):
        raise AttributeError("there are no probabilities with the loss 'hinge'")
    return True


class MLPClassifier(ClassifierMixin, _MLPEstimator):  # type: ignore[misc]
    """A multilayer perceptron for classification, in place of scikit-learn's class of that name.

    Change ``from sklearn.neural_network import MLPClassifier`` to ``from fastmlp import MLPClassifier``, and the same
    program runs on fastmlp's kernels. The parameters before `dropout` have scikit-learn's meanings and defaults.

    Parameters
    ----------
    hidden_layer_sizes : int or list of int, default=(100,)
        Units of each hidden layer.
    activation : str or list of str, default="relu"
        Of the hidden layers: "identity", "logistic", "tanh" or "relu". Beyond scikit-learn: any name of
        `fastmlp.activations.ACTIVATIONS` or given to `fastmlp.register_activation`, and a list with a name for each
        hidden layer.
    solver : {"lbfgs", "sgd", "adam"}, default="adam"
        "adam" adds epsilon to the uncorrected root of the second moment, as scikit-learn does
        (``fastmlp.Adam(epsilon_hat=True)``).
    alpha : float, default=1e-4
        Strength of L2 regularisation. A batch's gradient is (sum of the rows' gradients + alpha W) / sum of their
        weights.
    batch_size : int or "auto", default="auto"
        Rows of a mini-batch; "auto" is min(200, n_samples).
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        With solver "sgd", or with `optimizer`: as it is; learning_rate_init / (t_ + 1) ** power_t after each epoch; or
        a fifth after `n_iter_no_change` epochs without improvement, until it is at most 1e-6.
    learning_rate_init : float, default=0.001
    power_t : float, default=0.5
    max_iter : int, default=200
        Most epochs, or iterations of "lbfgs".
    shuffle : bool, default=True
        Whether rows come in a new order in each epoch, drawn from `random_state` as scikit-learn draws it.
    random_state : int, RandomState or None, default=None
        Of the first weights, the rows held out and the order of the rows.
    tol : float, default=1e-4
        An epoch is an improvement if it lowers the loss, or raises the validation score, by at least this. With "lbfgs"
        training ends when no element of the gradient is larger.
    verbose : bool or int, default=False
        Whether to print the loss of each epoch.
    warm_start : bool, default=False
        Whether `fit` begins with the weights of the fit before.
    momentum : float, default=0.9
    nesterovs_momentum : bool, default=True
    early_stopping : bool, default=False
        Whether to stop by the score on rows that are held out, and to end with the weights of the best epoch.
    validation_fraction : float, default=0.1
        Share of the rows to hold out, in the classes' proportions if there are two classes.
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        Of "adam"; epsilon from 1e-16 to 1e3.
    n_iter_no_change : int or inf, default=10
        Training ends when more epochs than that, one after the other, were no improvement.
    max_fun : int, default=15000
        Most evaluations with "lbfgs".
    dropout : float or list of float, default=0
        Probability that an output of a hidden layer is set to zero in training, from 0 to 0.999; a list has one for
        each hidden layer.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class, by label (1 for those that are missing), or n_samples / (classes * rows of the class). It
        multiplies `sample_weight`. With a matrix of labels a list of dicts, or "balanced": the product over columns.
    loss : str or Loss, default="log_loss"
        "log_loss" is the cross entropy, of two classes or with a matrix of labels the sum over the outputs of the
        binary one. Or a loss of fastmlp by name or instance, also one given to `fastmlp.register_loss`: with the output
        activation it needs, else with that of "log_loss". "hinge" has one linear output for each class and no
        probabilities; the probabilities of "binary_cross_entropy" with more than two classes are scaled to sum to 1.
    optimizer : str, Optimizer or None, default=None
        One of fastmlp's by name or instance, in place of `solver` and the parameters it has.
    schedule : str, Schedule, callable or None, default=None
        One of fastmlp's schedules, in place of `learning_rate`.
    callbacks : list or None, default=None
        Callbacks of `fastmlp.Trainer.fit`; where rows are held out, their logs have "val_loss" and "val_score".
    keep_optimizer : bool, default=False
        Whether a warm start goes on with the state of the optimizer: its moments, count of updates and learning rate.
    n_jobs : int or None, default=None
        Number of threads; -1 for all. None is what `fastmlp.set_num_threads` set.
    progress : bool, default=False
        Whether to show a progress bar.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    loss_, best_loss_ : float
        The last and the least loss of an epoch; `best_loss_` is None with early stopping.
    loss_curve_ : list of float
        The loss of each epoch, regularisation included. For that, the sum of the squared weights is taken to change
        evenly within an epoch, where scikit-learn computes it for each batch.
    validation_scores_, best_validation_score_ : list of float, float
        Accuracy on the rows held out; None without early stopping.
    validation_loss_curve_ : list of float
        The loss on the rows held out or `X_val`, without regularisation; empty if there are none.
    t_ : int
        Rows seen in training.
    coefs_, intercepts_ : lists of arrays (inputs, units) and (units,)
        The weights. They may be set or changed, and training and prediction go on from there.
    slopes_ : list of arrays (units,)
        Learned slopes, if there are layers with the activation "prelu".
    n_features_in_, feature_names_in_, n_iter_, n_layers_, n_outputs_, out_activation_
        As in scikit-learn.
    model_ : MLP
        The network, to save or to serve; with the current weights whenever it is asked for.

    Notes
    -----
    Where it differs from scikit-learn: training stops when the loss is not finite, predictions have the dtype of the
    network, epsilon has limits, and `loss_curve_` is as told above. Rows of a sparse matrix are made dense a window at
    a time, with the same result as if they had been dense. A weight of a row below 0 is an error.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> MLPClassifier(random_state=0, max_iter=50, dropout=0.2).fit(X[:1500], y[:1500]).score(X[1500:], y[1500:]) > 0.9
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        class_weight: Any = None,
        loss: Any = "log_loss",
        optimizer: Any = None,
        schedule: Any = None,
        callbacks: Any = None,
        keep_optimizer: bool = False,
        n_jobs: int | None = None,
        progress: bool = False,
    ) -> None:
        self._keep(locals())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @available_if(lambda estimator: estimator._partial_fit_is_available())  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """Train for one epoch on these rows; optimizer and learning rate go on from the call before.

        Parameters
        ----------
        X, y, sample_weight : arrays
            As in `fit`.
        classes : array of shape (n_classes,), default=None
            All labels there will be; needed in the first call only.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As `fit`; ValueError with early_stopping.
        """
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def predict(self, X: Any) -> Array:
        """Return the most probable class of each row, (n_samples,), or 0 and 1 for each label, (n_samples, n_labels).

        Parameters
        ----------
        X : array, sparse matrix or data frame of shape (n_samples, n_features)
        """
        outputs = self._outputs(X)
        if self.out_activation_ == "identity":
            outputs = (outputs + 1) / 2  # margins of the hinge: targets are -1 and 1
        return np.asarray(self._label_binarizer.inverse_transform(outputs.ravel() if self.n_outputs_ == 1 else outputs))

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Array:
        """Return the probability of each class, or of each label, (n_samples, n_classes).

        Parameters
        ----------
        X : array, sparse matrix or data frame of shape (n_samples, n_features)
        """
        outputs = self._outputs(X)
        if self.n_outputs_ == 1:
            return np.hstack([1 - outputs, outputs])
        if self._is_multiclass() and self.out_activation_ == "logistic":
            outputs /= np.maximum(outputs.sum(axis=1, keepdims=True), np.finfo(outputs.dtype).tiny)
        return outputs

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of `predict_proba`.

        Parameters
        ----------
        X : array, sparse matrix or data frame of shape (n_samples, n_features)
        """
        probabilities = self.predict_proba(X)
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(probabilities, out=probabilities))

    # ---- targets

    def _is_multiclass(self) -> bool:
        return bool(self._label_binarizer.y_type_ == "multiclass")

    def _note_classes(self, y: Any, classes: Any) -> None:
        if _check_partial_fit_first_call(self, classes):
            labels = y if type_of_target(y).startswith("multilabel") else classes
            self._label_binarizer = LabelBinarizer().fit(labels)

    def _check_targets(self, y: Array, incremental: bool) -> None:
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        elif self.warm_start and set(unique_labels(y)) != set(self.classes_):
            raise ValueError("warm_start can only be used where `y` has the same classes as in the previous call to "
                             f"fit. Previously got {self.classes_}, `y` has {unique_labels(y)}")
        else:
            self._require_known("y", y)

    def _require_known(self, name: str, y: Array) -> None:
        unknown = np.setdiff1d(unique_labels(y), self.classes_)
        if len(unknown):
            raise ValueError(f"{name} must have classes of {self.classes_} only, got {unknown}")

    def _objective(self, y: Array) -> Objective:
        multiclass = self._is_multiclass()
        outputs = 1 if self._label_binarizer.y_type_ == "binary" else len(self.classes_)
        if isinstance(self.loss, str) and self.loss == "log_loss":
            if multiclass:
                return Objective(CrossEntropy(), "softmax", outputs)
            return Objective(BinaryCrossEntropy(), "sigmoid", outputs, scale=outputs, factor=outputs)
        loss = _loss_of_fastmlp(self.loss, {"log_loss"}, "softmax" if multiclass else "sigmoid")
        output = "identity" if isinstance(loss, Hinge) else loss.output or ("softmax" if multiclass else "sigmoid")
        if isinstance(loss, Poisson) or (output == "softmax" and not multiclass):
            raise ValueError(f"loss must be one for {'classes' if multiclass else 'two classes or a matrix of labels'}, "
                             f"such as 'log_loss', got {self.loss!r}")
        return Objective(loss, output, outputs)

    def _encode(self, y: Array, loss: Loss) -> Array:
        if isinstance(loss, CrossEntropy):
            if y.ndim != 1:
                raise ValueError(f"y must be labels of shape (n,), as it was before, got shape {y.shape}")
            return np.searchsorted(self.classes_, y)
        encoded = self._label_binarizer.transform(y).astype(np.float64)
        return 2 * encoded - 1 if isinstance(loss, Hinge) else encoded

    def _weights_of_rows(self, y: Array, sample_weight: Array | None, incremental: bool) -> Array | None:
        if self.class_weight is None:
            return sample_weight
        if incremental and isinstance(self.class_weight, str):
            raise ValueError("class_weight must be weights by class in partial_fit, which does not see all rows, got "
                             f"{self.class_weight!r}")
        if isinstance(self.class_weight, dict):
            unknown = [label for label in self.class_weight if label not in self.classes_]
            if unknown or self._label_binarizer.y_type_.startswith("multilabel"):
                raise ValueError(f"class_weight must have classes of {self.classes_} only, or be a list of dicts for a "
                                 f"matrix of labels, got {self.class_weight!r}")
            by_class = np.array([self.class_weight.get(label, 1.0) for label in self.classes_.tolist()], np.float64)
            weights = by_class[np.searchsorted(self.classes_, y)]
        else:
            weights = compute_sample_weight(self.class_weight, y)
        return np.asarray(weights if sample_weight is None else weights * sample_weight)

    def _score_outputs(self, y: Array, outputs: Array, weights: Array | None) -> float:
        if y.ndim == 1:
            right = outputs.argmax(axis=1) == y
        elif self._is_multiclass():
            right = outputs.argmax(axis=1) == y.argmax(axis=1)
        else:
            threshold = 0.0 if self.out_activation_ == "identity" else 0.5
            right = ((outputs > threshold) == (y > 0)).all(axis=1)
        return float(np.average(right, weights=weights))


class MLPRegressor(RegressorMixin, _MLPEstimator):  # type: ignore[misc]
    """A multilayer perceptron for regression, in place of scikit-learn's class of that name.

    Parameters
    ----------
    loss : str or Loss, default="squared_error"
        "squared_error" or "poisson", half the deviance, with an exponential output for targets of at least 0. Or a loss
        of fastmlp by name or instance, such as ``Huber(delta=2)``, also one given to `fastmlp.register_loss`: with the
        output activation it needs, else a linear one.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, \
    shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, \
    validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun, dropout, optimizer, schedule, callbacks, \
    keep_optimizer, n_jobs, progress
        As in `MLPClassifier`.

    Attributes
    ----------
    validation_scores_, best_validation_score_ : list of float, float
        The coefficient of determination on the rows held out; None without early stopping.
    loss_, best_loss_, loss_curve_, validation_loss_curve_, t_, coefs_, intercepts_, slopes_, n_features_in_, \
    feature_names_in_, n_iter_, n_layers_, n_outputs_, out_activation_, model_
        As in `MLPClassifier`.

    Notes
    -----
    Of several outputs, "squared_error" minimises the sum and reports the mean, as scikit-learn does. But "lbfgs" there
    works with the mean and the gradient of the sum, here with the sum in both.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(n_samples=200, n_features=5, random_state=0)
    >>> MLPRegressor(random_state=0, solver="lbfgs", max_iter=1000).fit(X, y).score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        optimizer: Any = None,
        schedule: Any = None,
        callbacks: Any = None,
        keep_optimizer: bool = False,
        n_jobs: int | None = None,
        progress: bool = False,
    ) -> None:
        self._keep(locals())

    @available_if(lambda estimator: estimator._partial_fit_is_available())  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train for one epoch on these rows; optimizer and learning rate go on from the call before.

        Parameters
        ----------
        X, y, sample_weight : arrays
            As in `fit`.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As `fit`; ValueError with early_stopping.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """Return the values of each row, (n_samples,) for one output, else (n_samples, n_outputs).

        Parameters
        ----------
        X : array, sparse matrix or data frame of shape (n_samples, n_features)
        """
        outputs = self._outputs(X)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _objective(self, y: Array) -> Objective:
        outputs = 1 if y.ndim == 1 else y.shape[1]
        if isinstance(self.loss, str) and self.loss == "squared_error":
            return Objective(HalfSquaredError(), "identity", outputs, factor=1 / outputs)
        if isinstance(self.loss, str) and self.loss == "poisson":
            return Objective(Poisson(), "exponential", outputs, scale=outputs, factor=outputs, offset=poisson_offset)
        loss = _loss_of_fastmlp(self.loss, {"squared_error"}, "identity")
        return Objective(loss, loss.output or "identity", outputs)

    def _encode(self, y: Array, loss: Loss) -> Array:
        return y.astype(np.result_type(y.dtype, np.float32), copy=False).reshape(len(y), -1)

    def _score_outputs(self, y: Array, outputs: Array, weights: Array | None) -> float:
        return r2_score(y, outputs, weights)
