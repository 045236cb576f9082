"""The perceptron: a single threshold unit, and Rosenblatt's learning rule."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import as_numeric, check_inputs, require_finite
from .kernels.perceptron import OVERFLOW, learn_epoch, net_inputs
from .layers import MAX_UNITS
from .model import check_seed
from .validation import check_choice, check_integer, check_number

Array = NDArray[Any]

LOWEST = {"step": 0, "sign": -1}  # the output of each activation below zero; from zero on it is 1
FLOAT64 = np.dtype(np.float64)
INITIAL_RANGE = 0.05


class ConvergenceWarning(RuntimeWarning):
    """Training ended before every row was classified right."""


@dataclass(frozen=True)
class PerceptronResult:
    """What `Perceptron.fit` saw.

    Attributes
    ----------
    mistakes : list of int
        Rows that were wrong when their turn came, epoch by epoch; each of them changed the weights.
    converged : bool
        Whether the weights at the end classify every row right.
    """

    mistakes: list[int]
    converged: bool


class Perceptron:
    """A threshold unit, a(x) = f(w . x + b), trained by Rosenblatt's rule.

    Parameters
    ----------
    inputs : int
        Number of inputs, at least 1.
    activation : str
        "step" (default): f(z) = 1 for z >= 0, else 0. "sign": f(z) = 1 for z >= 0, else -1. The unit's outputs are
        the labels it learns.
    learning_rate : float
        r in the rule below, above 0; default 1.
    seed : int or None
        None (default): the weights begin at zero, and `fit` takes the rows in their order. A number: weights and
        bias are drawn uniformly from -0.05 to 0.05, and `fit` takes the rows in a new random order in each epoch.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, or not allowed.

    Notes
    -----
    For each row x with target t and output a = f(w . x + b), one after the other::

        w <- w + r (t - a) x,    b <- b + r (t - a)

    so that a row that is classified right changes nothing (Rosenblatt, 1958; Bishop, Pattern Recognition and Machine
    Learning, 2006, section 4.1.7). With labels -1 and 1, t - a is 2 or -2: steps are twice as long as with 0 and 1.

    If a hyperplane separates the labels with a margin g > 0, and the weights begin at zero, then at most (R / g)^2
    mistakes are made, with R the length of the longest row; both with a constant input 1 for the bias counted in
    (Novikoff, 1962). If there is none, the weights never settle, and those of the last epoch may be worse than earlier
    ones: the best ones are not put aside, as the pocket algorithm (Gallant, 1990) would.

    Arithmetic is in float64.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> unit = Perceptron(2)
    >>> unit.fit(X, [0, 0, 0, 1]).converged
    True
    >>> unit.predict(X)
    array([0, 0, 0, 1])
    """

    def __init__(self, inputs: int, activation: str = "step", learning_rate: float = 1.0,
                 seed: int | None = None) -> None:
        inputs = check_integer("inputs", inputs, low=1, high=MAX_UNITS)
        self._activation = check_choice("activation", activation, LOWEST)
        self._learning_rate = check_number("learning_rate", learning_rate, low=0.0, above=True)
        self._rng = None if seed is None else np.random.default_rng(check_seed(seed))
        self._parameters = np.zeros(inputs + 1)  # the weights, then the bias
        if self._rng is not None:
            self._parameters = self._rng.uniform(-INITIAL_RANGE, INITIAL_RANGE, inputs + 1)

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return len(self._parameters) - 1

    @property
    def activation(self) -> str:
        """"step" or "sign"."""
        return self._activation

    @property
    def learning_rate(self) -> float:
        """Learning rate r."""
        return self._learning_rate

    @property
    def weights(self) -> Array:
        """Weights (inputs,), float64: a copy that cannot be written to. Assign an array to set them.

        Raises
        ------
        TypeError, ValueError
            When set to anything but finite real numbers of that shape.
        """
        weights: Array = self._parameters[:-1].copy()
        weights.flags.writeable = False
        return weights

    @weights.setter
    def weights(self, values: Any) -> None:
        allowed = f"an array of real numbers of shape ({self.inputs},)"
        array = as_numeric("weights", values, allowed)
        if array.shape != (self.inputs,):
            raise ValueError(f"weights must be {allowed}, got shape {array.shape}")
        require_finite("weights", array[np.newaxis], FLOAT64)
        self._parameters[:-1] = array

    @property
    def bias(self) -> float:
        """Bias; assign a finite number to set it (TypeError or ValueError for anything else)."""
        return float(self._parameters[-1])

    @bias.setter
    def bias(self, value: float) -> None:
        self._parameters[-1] = check_number("bias", value)

    def decision_function(self, X: Any) -> Array:
        """Return the net input z = w . x + b of each row: the side of the hyperplane, and how far, times |w|.

        Parameters
        ----------
        X : array of shape (n, inputs)

        Returns
        -------
        array of shape (n,), float64

        Raises
        ------
        TypeError, ValueError
            If X is not an array of finite real numbers of that shape.
        OverflowError
            If a net input is too large for float64.
        """
        return self._net_inputs(self._check_rows(X, empty=True))

    def predict(self, X: Any) -> Array:
        """Return the unit's output for each row: 1 where the net input is 0 or more, else 0 ("step") or -1 ("sign").

        Parameters
        ----------
        X : array of shape (n, inputs)

        Returns
        -------
        array of shape (n,), int64

        Raises
        ------
        TypeError, ValueError, OverflowError
            As `decision_function`.
        """
        return self._outputs(self.decision_function(X))

    def fit(self, X: Any, y: Any, epochs: int = 1000) -> PerceptronResult:
        """Learn from the rows one by one until an epoch passes without a mistake; called again, it goes on.

        Parameters
        ----------
        X : array of shape (n, inputs)
            At least one row; converted to float64.
        y : array of shape (n,)
            Labels: 0 and 1 for "step", -1 and 1 for "sign".
        epochs : int
            At most so many passes over the rows, default 1000.

        Returns
        -------
        PerceptronResult

        Raises
        ------
        TypeError, ValueError
            If an argument is not of its kind, or not allowed; then nothing is changed.
        OverflowError
            If a weight or net input becomes too large for float64; the weights are those before that epoch.
        KeyboardInterrupt
            On Ctrl-C, at the end of an epoch, with the weights learned so far.

        Warns
        -----
        ConvergenceWarning
            If rows are still wrong at the end.
        """
        epochs = check_integer("epochs", epochs, low=1)
        rows = self._check_rows(X)
        targets = self._check_labels(y, len(rows))
        lowest = float(LOWEST[self.activation])
        order = np.arange(len(rows))
        mistakes: list[int] = []
        for epoch in range(epochs):
            if self._rng is not None:
                order = self._rng.permutation(len(rows))
            parameters = self._parameters.copy()
            made = learn_epoch(rows, targets, order, lowest, self.learning_rate, parameters)
            if made == OVERFLOW or not np.isfinite(parameters).all():
                raise OverflowError(f"weights became too large for float64 in epoch {epoch}: scale X down, or take a "
                                    f"smaller learning_rate than {self.learning_rate:g}")
            self._parameters = parameters
            mistakes.append(made)
            if made == 0:
                break
        wrong = int(np.count_nonzero(self._outputs(self._net_inputs(rows)) != targets))
        if wrong:
            warnings.warn(f"{wrong} of {len(rows)} rows were still wrong after {epochs} epochs: the data may not be "
                          "linearly separable, or need more epochs", ConvergenceWarning, stacklevel=2)
        return PerceptronResult(mistakes, converged=wrong == 0)

    def _net_inputs(self, rows: Array) -> Array:
        results = np.empty(len(rows))
        net_inputs(rows, self._parameters, results)
        if not np.isfinite(results).all():
            row = int(np.flatnonzero(~np.isfinite(results))[0])
            raise OverflowError(f"the net input of row {row} of X is too large for float64, got {results[row]}")
        return results

    def _outputs(self, z: Array) -> Array:
        return np.where(z >= 0, 1, LOWEST[self.activation]).astype(np.int64)

    def _check_rows(self, X: Any, *, empty: bool = False) -> Array:
        source = check_inputs(X, self.inputs, FLOAT64, empty=empty)
        rows: Array = np.require(source.array, np.float64, ["C", "A"]).view()
        rows.flags.writeable = False  # whether the caller's is or not: one type for the compiler
        return rows

    def _check_labels(self, y: Any, rows: int) -> Array:
        lowest = LOWEST[self.activation]
        allowed = f"labels {lowest} and 1 of shape ({rows},) for activation={self.activation!r}"
        array = as_numeric("y", y, allowed)
        if array.shape != (rows,):
            raise ValueError(f"y must be {allowed}, one for each row of X, got shape {array.shape}")
        wrong = np.flatnonzero((array != lowest) & (array != 1))
        if len(wrong):
            raise ValueError(f"y must be {allowed}, got {array[wrong[0]]} at position {wrong[0]}")
        return array.astype(np.float64)

    def __repr__(self) -> str:
        return f"Perceptron({self.inputs}, activation={self.activation!r}, learning_rate={self.learning_rate:g})"
