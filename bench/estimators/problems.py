"""What the estimators are fitted to, and the targets they are held to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn import datasets
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from fastmlp.datasets import load_mnist

from ..compare.cases import network_name
from ..compare.mnist import Split

DEFAULT_HIDDEN, DEFAULT_EPOCHS = (100,), 200  # scikit-learn's hidden_layer_sizes and max_iter
MNIST_TARGET, SMALL_TARGET, GRID_TARGET = 4, 10, 3

GRID = {
    "hidden_layer_sizes": [(50,), (100,), (100, 50)],
    "activation": ["relu", "tanh"],
    "alpha": [1e-4, 1e-2],
    "learning_rate_init": [1e-3, 1e-2],
}
GRID_FOLDS = 5
QUICK_GRID = {"alpha": [1e-4, 1e-2]}
QUICK_FOLDS = 2


@dataclass(frozen=True)
class Problem:
    """A data set and the hidden layers to fit to it; everything else is as the estimators have it by default.

    Parameters
    ----------
    name : str
        "mnist", or a data set of scikit-learn's.
    target : float
        How many times as long as fastmlp scikit-learn should take.
    hidden : tuple of int
    dtype : str
        Of the inputs, and so of the training.
    timed_epochs, scored_epochs : int
        Epochs of a timed fit; and at most for a score, 0 for none.
    """

    name: str
    target: float
    hidden: tuple[int, ...] = DEFAULT_HIDDEN
    dtype: str = "float64"
    timed_epochs: int = DEFAULT_EPOCHS
    scored_epochs: int = DEFAULT_EPOCHS

    @property
    def estimator(self) -> str:
        """Name of the class."""
        return "MLPRegressor" if self.name == "diabetes" else "MLPClassifier"

    @property
    def score(self) -> str:
        """What the estimator's `score` returns."""
        return "R2" if self.estimator == "MLPRegressor" else "accuracy"

    def load(self, folder: Path | None) -> Split:
        """Return the same training and test rows every time; MNIST is read from a folder."""
        split = Split.of(load_mnist(folder)) if self.name == "mnist" else bundled(self.name)
        return dataclasses.replace(split, X=split.X.astype(self.dtype, copy=False),
                                   X_test=split.X_test.astype(self.dtype, copy=False))

    def network(self, split: Split) -> str:
        """Return the sizes of the layers; two classes have one output."""
        outputs = split.classes if split.classes > 2 else 1
        return network_name((split.X.shape[1], *self.hidden, outputs))


def bundled(name: str) -> Split:
    """Return a data set that comes with scikit-learn, standardised; the values of a regression are, too."""
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    labels = np.unique(y) if y.dtype.kind == "i" else None
    X, X_test, y, y_test = train_test_split(X, y, random_state=0, stratify=None if labels is None else y)
    inputs = StandardScaler().fit(X)
    X, X_test = inputs.transform(X), inputs.transform(X_test)
    if labels is None:
        mean, std = y.mean(), y.std()
        return Split(X, (y - mean) / std, X_test, (y_test - mean) / std, 1)
    return Split(X, y, X_test, y_test, len(labels))


SMALL = (
    Problem("digits", SMALL_TARGET),
    Problem("breast_cancer", SMALL_TARGET),
    Problem("diabetes", SMALL_TARGET),
)
MNIST = (
    Problem("mnist", MNIST_TARGET, (100,), "float32", timed_epochs=2, scored_epochs=10),
    Problem("mnist", MNIST_TARGET, (256, 128), "float32", timed_epochs=2, scored_epochs=10),
    Problem("mnist", MNIST_TARGET, (100,), timed_epochs=2, scored_epochs=0),
    Problem("mnist", MNIST_TARGET, (256, 128), timed_epochs=2, scored_epochs=0),
)
QUICK, QUICK_MNIST = (tuple(dataclasses.replace(problem, timed_epochs=2, scored_epochs=2) for problem in problems)
                      for problems in (SMALL, MNIST[:1]))
