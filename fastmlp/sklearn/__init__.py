"""Estimators that take the place of scikit-learn's MLPClassifier and MLPRegressor.

    from fastmlp import MLPClassifier, MLPRegressor

Parameters, attributes and behaviour are those of `sklearn.neural_network` 1.9: with the same data and random_state,
training goes through the same weights, up to rounding.
"""

from __future__ import annotations

try:
    from sklearn.utils.validation import validate_data as _  # noqa: F401
except ImportError as problem:
    raise ImportError("MLPClassifier and MLPRegressor need scikit-learn 1.6 or later: "
                      f"pip install fastmlp[sklearn] ({problem})") from problem

from .classifier import MLPClassifier
from .regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
