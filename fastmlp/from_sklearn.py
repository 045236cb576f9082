"""Networks that estimators have trained, those of scikit-learn and those of `fastmlp.sklearn`, as models."""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .arrays import as_numeric
from .validation import check_choice

if TYPE_CHECKING:
    from .model import MLP

# The activations of scikit-learn's estimators, and our names of those whose names differ.
ACTIVATIONS = ("identity", "logistic", "tanh", "relu", "softmax", "exp")
OURS = {"logistic": "sigmoid", "exp": "exponential"}


def model_of_estimator(kind: type[MLP], estimator: Any) -> MLP:
    """Take over a fitted estimator; see `MLP.from_sklearn`."""
    if _is_estimator_of(f"{__package__}.sklearn", estimator):
        own: MLP = _fitted(estimator, "model_")
        return copy.deepcopy(own)
    if not _is_estimator_of("sklearn.neural_network", estimator):
        raise TypeError("estimator must be a fitted MLPClassifier or MLPRegressor of scikit-learn or fastmlp, "
                        f"got {estimator!r}")
    matrices, biases = _matrices_of(estimator), list(_fitted(estimator, "intercepts_"))
    if len(biases) != len(matrices):
        raise ValueError(f"estimator.intercepts_ must be {len(matrices)} arrays, got {len(biases)}")
    hidden, output = (_our_name(name, getattr(estimator, name)) for name in ("activation", "out_activation_"))
    dtype = "float32" if all(W.dtype == np.float32 for W in matrices) else "float64"
    model = kind([len(matrices[0]), *(W.shape[1] for W in matrices)], hidden, output, dtype)
    model.set_weights(array for pair in zip(matrices, biases, strict=True) for array in pair)
    return model


def _our_name(attribute: str, activation: Any) -> str:
    name = check_choice(f"estimator.{attribute}", activation, ACTIVATIONS)
    return OURS.get(name, name)


def _is_estimator_of(module: str, estimator: Any) -> bool:
    """Whether this is an MLPClassifier or MLPRegressor of a module; one that was not imported yet has none."""
    loaded = sys.modules.get(module)
    return isinstance(estimator, tuple(getattr(loaded, name, ()) for name in ("MLPClassifier", "MLPRegressor")))


def _fitted(estimator: Any, attribute: str) -> Any:
    """Return what an estimator has once it is fitted."""
    if not hasattr(estimator, attribute):
        raise ValueError(f"estimator must be fitted, got {estimator!r} without {attribute}")
    return getattr(estimator, attribute)


def _matrices_of(estimator: Any) -> list[NDArray[Any]]:
    """Return the matrices of weights (inputs, units) of a fitted estimator of scikit-learn."""
    matrices = []
    for number, values in enumerate(_fitted(estimator, "coefs_")):
        name, allowed = f"estimator.coefs_[{number}]", "an array of real numbers of shape (inputs, units)"
        matrix = as_numeric(name, values, allowed)
        if matrix.ndim != 2:
            raise ValueError(f"{name} must be {allowed}, got shape {matrix.shape}")
        matrices.append(matrix)
    if not matrices:
        raise ValueError("estimator.coefs_ must be one or more arrays, got none")
    return matrices
