"""The regressor."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin, _fit_context
from sklearn.utils.metaestimators import available_if

from ..losses import HalfSquaredError, Loss, Poisson
from .base import MLPEstimator
from .objective import Objective, loss_of_fastmlp, poisson_offset, r2_score

Array = NDArray[Any]


class MLPRegressor(RegressorMixin, MLPEstimator):  # type: ignore[misc]
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
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
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
        loss = loss_of_fastmlp(self.loss, {"squared_error"}, "identity")
        return Objective(loss, loss.output or "identity", outputs)

    def _encode(self, y: Array, loss: Loss) -> Array:
        return y.astype(np.result_type(y.dtype, np.float32), copy=False).reshape(len(y), -1)

    def _score_outputs(self, y: Array, outputs: Array, weights: Array | None) -> float:
        return r2_score(y, outputs, weights)
