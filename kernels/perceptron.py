"""The perceptron's learning rule, compiled: one pass over the rows, each row changing the weights for the next.

`parameters` holds the weights and, after them, the bias.
"""

from __future__ import annotations

import math

from numba import njit

from .linking import cache_on_disk

OVERFLOW = -1


@njit
def net_input(x, parameters):
    """w . x + b, summed in the order of the inputs: the same bits in training and in prediction."""
    total = 0.0
    for i in range(len(x)):
        total += parameters[i] * x[i]
    return total + parameters[len(x)]


@cache_on_disk
@njit(nogil=True)
def learn_epoch(X, targets, order, lowest, learning_rate, parameters):
    """Apply w <- w + r (t - a) x to the rows in `order`; return the mistakes made, or OVERFLOW.

    Parameters
    ----------
    X : (rows, inputs), targets : (rows,), both float64
    order : (n,) int64, numbers of rows
    lowest : the unit's output below zero, 0 or -1; from zero on it is 1
    parameters : (inputs + 1,), updated
    """
    mistakes = 0
    for row in order:
        x = X[row]
        z = net_input(x, parameters)
        if not math.isfinite(z):
            return OVERFLOW
        error = targets[row] - (1.0 if z >= 0.0 else lowest)
        if error != 0.0:
            mistakes += 1
            step = learning_rate * error
            for i in range(len(x)):
                parameters[i] += step * x[i]
            parameters[len(x)] += step
    return mistakes


@cache_on_disk
@njit(nogil=True)
def net_inputs(X, parameters, results):
    """Write w . x + b of each row of X to `results`."""
    for row in range(len(X)):
        results[row] = net_input(X[row], parameters)
