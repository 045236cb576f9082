"""The checks of an estimator's X and y, and when X is searched for NaN and infinity.

scikit-learn reads all of X once more to look for them, which on MNIST takes as long as a tenth of an epoch. The kernels
notice them where they read X anyway; only then is it searched, by scikit-learn, for the sake of its message.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import RegressorMixin
from sklearn.utils import assert_all_finite, column_or_1d
from sklearn.utils.validation import validate_data

from .rows import is_sparse

Array = NDArray[Any]

DTYPES = (np.float64, np.float32, np.uint8)  # what the kernels read where it lies; other numbers become float64


class FoundNotFinite(ValueError):
    """X has NaN or infinity, which was found in the course of training."""


def check_X(estimator: Any, X: Any) -> Any:
    """Return the inputs of a prediction as an array, not searched for NaN, or a CSR matrix, which is."""
    X = validate_data(estimator, X, accept_sparse="csr", dtype=DTYPES, reset=False, ensure_all_finite=False)
    if is_sparse(X):
        require_finite(estimator, X)
    return X


def check_X_y(estimator: Any, X: Any, y: Any, reset: bool) -> tuple[Any, Array]:
    """Return inputs, as an array or a CSR matrix not searched for NaN, and targets.

    Parameters
    ----------
    reset : bool
        Whether the estimator is to take note of the number of features and their names; else they are checked.
    """
    X, y = validate_data(estimator, X, y, accept_sparse="csr", multi_output=True, dtype=DTYPES, reset=reset,
                         y_numeric=isinstance(estimator, RegressorMixin), ensure_all_finite=False)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    return X, y


def require_finite(estimator: Any, X: Any) -> None:
    """Raise ValueError, with scikit-learn's message, if an array or a CSR matrix holds NaN or infinity."""
    assert_all_finite(X, estimator_name=type(estimator).__name__, input_name="X")


def found_not_finite(estimator: Any, X: Any) -> FoundNotFinite:
    """Return the error for an array in which the kernels found NaN or infinity, with scikit-learn's message."""
    message = "Input X contains NaN or infinity."  # should another thread have changed X since
    with config_context(assume_finite=False):  # whatever the user has assumed
        try:
            require_finite(estimator, X)
        except ValueError as problem:
            message = str(problem)
    return FoundNotFinite(message)
