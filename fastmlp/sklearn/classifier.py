"""The classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from ..losses import BinaryCrossEntropy, CrossEntropy, Hinge, Loss, Poisson
from ..validation import check_number
from .base import MLPEstimator
from .objective import Objective, loss_of_fastmlp
from .parameters import checks_parameters

Array = NDArray[Any]


def _has_probabilities(estimator: Any) -> bool:
    if isinstance(estimator.loss, Hinge) or (isinstance(estimator.loss, str) and estimator.loss == Hinge.name):
        raise AttributeError("there are no probabilities with the loss 'hinge'")
    return True


class MLPClassifier(ClassifierMixin, MLPEstimator):  # type: ignore[misc]
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
        Most threads for the estimator's calls; None and -1 for as many as `fastmlp.set_num_threads` set.
    progress : bool, default=False
        Whether to show a progress bar.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
    loss_, best_loss_ : float
        The last and the least loss of an epoch; `best_loss_` is None with early stopping.
    loss_curve_ : list of float
        The loss of each epoch, regularisation included. For that, the sum of the squared weights is taken to change
        evenly within an epoch, where scikit-learn computes it for each batch. And a certain but wrong prediction counts
        with its whole cross entropy, where scikit-learn keeps probabilities 2.2e-16 (1.2e-7 in float32) away from 0 and
        1 in the loss, though not in its gradient: weights are the same, but the losses may lead to another end of
        training.
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
        A copy of the network, to save, to serve or to train further; made with the current weights whenever it is asked
        for. What is done with it does not change the estimator, nor the estimator it.

    Notes
    -----
    Where it differs from scikit-learn: training stops when the loss is not finite, predictions have the dtype of the
    network, epsilon has limits, and `loss_curve_` is as told above. Rows of a sparse matrix are made dense to train on
    them, a window at a time, with the same result as if they had been dense: with tens of thousands of columns that
    takes longer than in scikit-learn. A weight of a row below 0 is an error.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> MLPClassifier(random_state=0, max_iter=50, dropout=0.2).fit(X[:1500], y[:1500]).score(X[1500:], y[1500:]) > 0.9
    True
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012
        **MLPEstimator._parameter_constraints,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

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
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
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

    def predict(self, X: Any) -> Any:
        """Return the most probable class of each row, (n_samples,), or 0 and 1 for each label, (n_samples, n_labels).

        The matrix of labels is sparse if that given to `fit` was.

        Parameters
        ----------
        X : array, sparse matrix or data frame of shape (n_samples, n_features)
        """
        outputs = self._outputs(X)
        if self.out_activation_ == "identity":
            outputs = (outputs + 1) / 2  # margins of the hinge: targets are -1 and 1
        return self._label_binarizer.inverse_transform(outputs.ravel() if self.n_outputs_ == 1 else outputs)

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
        loss = loss_of_fastmlp(self.loss, {"log_loss"}, "softmax" if multiclass else "sigmoid")
        output = "identity" if isinstance(loss, Hinge) else loss.output or ("softmax" if multiclass else "sigmoid")
        if isinstance(loss, Poisson) or (output == "softmax" and not multiclass):
            kind = "classes" if multiclass else "two classes or a matrix of labels"
            raise ValueError(f"loss must be one for {kind}, such as 'log_loss', got {self.loss!r}")
        return Objective(loss, output, outputs)

    def _encode(self, y: Array, loss: Loss) -> Array:
        if isinstance(loss, CrossEntropy):
            if y.ndim != 1:
                raise ValueError(f"y must be labels of shape (n,), as it was before, got shape {y.shape}")
            return np.searchsorted(self.classes_, y)
        encoded: Array = self._label_binarizer.transform(y).astype(np.float64)
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
            with checks_parameters():
                by_class = [check_number(f"class_weight[{label!r}]", self.class_weight.get(label, 1.0), low=0.0)
                            for label in self.classes_.tolist()]
            weights = np.array(by_class)[np.searchsorted(self.classes_, y)]
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
            right = ((outputs > threshold) == (y > 0)).all(axis=1) | (len(self.classes_) == 1)
        return float(np.average(right, weights=weights))
