"""A plain NumPy multilayer perceptron: the baseline that the benchmarks compare fastmlp with.

Vectorised and in place where that is idiomatic, otherwise as a textbook writes it. There is a plain function for each
kernel of `fastmlp.kernels.standalone`, so that each can be put beside its NumPy form. Rows are samples: a batch X is
(rows, inputs), weights W are (inputs, units), a bias b is (units,), pre-activations z = X W + b and outputs a = f(z)
are (rows, units), and a delta is the derivative of the loss by z, of its shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]


# ---- dense layer


def dense_forward(X: Array, W: Array, b: Array) -> Array:
    """Return the pre-activations X W + b, (rows, units)."""
    z: Array = X @ W
    z += b
    return z


def dense_backward(delta: Array, W: Array) -> Array:
    """Return the loss by the layer's inputs, delta W^T, (rows, inputs)."""
    below: Array = delta @ W.T
    return below


def weight_gradient(a: Array, delta: Array) -> tuple[Array, Array]:
    """Return dW = a^T delta, (inputs, units), and db, the sum of the rows of delta, (units,)."""
    return a.T @ delta, delta.sum(axis=0)


# ---- activations f(z), and backward: delta * f'(z), computed from a = f(z)


def identity(z: Array) -> Array:
    """Return z."""
    return z


def identity_backward(delta: Array, a: Array) -> Array:
    """Return delta * 1."""
    return delta


def sigmoid(z: Array) -> Array:
    """Return 1 / (1 + exp(-z))."""
    return 1 / (1 + np.exp(-z))


def sigmoid_backward(delta: Array, a: Array) -> Array:
    """Return delta * a (1 - a)."""
    backward: Array = delta * (a * (1 - a))
    return backward


def tanh(z: Array) -> Array:
    """Return tanh(z)."""
    return np.tanh(z)


def tanh_backward(delta: Array, a: Array) -> Array:
    """Return delta * (1 - a^2)."""
    backward: Array = delta * (1 - a**2)
    return backward


def relu(z: Array) -> Array:
    """Return max(z, 0)."""
    return np.maximum(z, 0)


def relu_backward(delta: Array, a: Array) -> Array:
    """Return delta where a > 0, else 0."""
    return delta * (a > 0)


def leaky_relu(z: Array, alpha: float = 0.01) -> Array:
    """Return z where z > 0, else alpha z; alpha at most 1."""
    return np.maximum(z, alpha * z)


def leaky_relu_backward(delta: Array, a: Array, alpha: float = 0.01) -> Array:
    """Return delta where a > 0, else alpha delta."""
    return np.where(a > 0, delta, alpha * delta)


def elu(z: Array, alpha: float = 1.0) -> Array:
    """Return z where z > 0, else alpha (exp(z) - 1)."""
    return np.maximum(z, 0) + alpha * np.expm1(np.minimum(z, 0))


def elu_backward(delta: Array, a: Array, alpha: float = 1.0) -> Array:
    """Return delta where a > 0, else delta (a + alpha)."""
    return np.where(a > 0, delta, delta * (a + alpha))


def softmax(z: Array) -> Array:
    """Return exp(z_i) / sum over j of exp(z_j), by rows."""
    p: Array = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p


def softmax_backward(delta: Array, p: Array) -> Array:
    """Return p_i (delta_i - sum over j of p_j delta_j), by rows."""
    backward: Array = p * (delta - (p * delta).sum(axis=1, keepdims=True))
    return backward


ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array, Array], Array]]] = {
    "identity": (identity, identity_backward),
    "sigmoid": (sigmoid, sigmoid_backward),
    "tanh": (tanh, tanh_backward),
    "relu": (relu, relu_backward),
    "leaky_relu": (leaky_relu, leaky_relu_backward),
    "elu": (elu, elu_backward),
    "softmax": (softmax, softmax_backward),
}


# ---- losses: the mean over the rows, and its derivative by the outputs (for cross entropies and poisson, by z)


def cross_entropy(z: Array, y: Array) -> tuple[float, Array]:
    """Cross entropy of softmax(z); y is labels (rows,) or a probability for each unit (rows, units)."""
    shifted = z - z.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=1, keepdims=True)
    p /= total
    if y.ndim == 1:
        rows = np.arange(len(z))
        loss = np.mean(np.log(total[:, 0]) - shifted[rows, y])
        p[rows, y] -= 1
    else:
        loss = np.sum(y * (np.log(total) - shifted)) / len(z)
        p -= y
    p /= len(z)
    return float(loss), p


def binary_cross_entropy(z: Array, y: Array) -> tuple[float, Array]:
    """Binary cross entropy of sigmoid(z), a mean over rows and units; y is (rows, units)."""
    loss = np.mean(np.maximum(z, 0) - y * z + np.log1p(np.exp(-np.abs(z))))
    return float(loss), (sigmoid(z) - y) / z.size


def half_squared_error(a: Array, y: Array) -> tuple[float, Array]:
    """Half the sum of squared errors of a row, a mean over rows; y is (rows, units)."""
    error = a - y
    return float(np.sum(error**2) / (2 * len(a))), error / len(a)


def mean_squared_error(a: Array, y: Array) -> tuple[float, Array]:
    """Mean squared error over rows and units; y is (rows, units)."""
    error = a - y
    return float(np.mean(error**2)), error * (2 / a.size)


def mean_absolute_error(a: Array, y: Array) -> tuple[float, Array]:
    """Mean absolute error over rows and units; y is (rows, units)."""
    error = a - y
    return float(np.mean(np.abs(error))), np.sign(error) / a.size


def huber(a: Array, y: Array, d: float = 1.0) -> tuple[float, Array]:
    """Huber's loss, l (e - l / 2) with l the error e limited to -d ... d, a mean over rows and units."""
    error = a - y
    limited = np.clip(error, -d, d)
    return float(np.mean(limited * (error - limited / 2))), limited / a.size


def hinge(a: Array, y: Array) -> tuple[float, Array]:
    """Hinge loss max(0, 1 - y a), a mean over rows and units; y is (rows, units)."""
    missing = 1 - y * a
    return float(np.mean(np.maximum(missing, 0))), (missing > 0) * y / -a.size


def poisson(z: Array, y: Array) -> tuple[float, Array]:
    """Poisson loss e^z - y z, a mean over rows and units; y is (rows, units)."""
    rate = np.exp(z)
    return float(np.mean(rate - y * z)), (rate - y) / z.size


LOSSES: dict[str, Callable[[Array, Array], tuple[float, Array]]] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "half_squared_error": half_squared_error,
    "mean_squared_error": mean_squared_error,
    "mean_absolute_error": mean_absolute_error,
    "huber": huber,
    "hinge": hinge,
    "poisson": poisson,
}


# ---- updates of parameters w from their gradient g, in place; step is the number of the update, from 1

State = list[Array]


def sgd(w: Array, g: Array, state: State, learning_rate: float, step: int) -> None:
    """Stochastic gradient descent: w <- w - r g."""
    w -= learning_rate * g


def momentum(w: Array, g: Array, state: State, learning_rate: float, step: int, mu: float = 0.9) -> None:
    """Gradient descent with momentum: v <- mu v - r g; w <- w + v."""
    (v,) = state
    v *= mu
    v -= learning_rate * g
    w += v


def nesterov(w: Array, g: Array, state: State, learning_rate: float, step: int, mu: float = 0.9) -> None:
    """Nesterov's accelerated gradient: v <- mu v - r g; w <- w + mu v - r g."""
    (v,) = state
    descent = learning_rate * g
    v *= mu
    v -= descent
    w += mu * v - descent


def adam(w: Array, g: Array, state: State, learning_rate: float, step: int, beta_1: float = 0.9,
         beta_2: float = 0.999, epsilon: float = 1e-8) -> None:
    """Adam (Kingma and Ba, 2015, algorithm 1); the state is the two moments."""
    m, v = state
    m *= beta_1
    m += (1 - beta_1) * g
    v *= beta_2
    v += (1 - beta_2) * g**2
    rate = learning_rate / (1 - beta_1**step)
    w -= rate * m / (np.sqrt(v) / math.sqrt(1 - beta_2**step) + epsilon)


def nadam(w: Array, g: Array, state: State, learning_rate: float, step: int, beta_1: float = 0.9,
          beta_2: float = 0.999, epsilon: float = 1e-8) -> None:
    """NAdam (Dozat, 2016), with a momentum that grows; the state is the two moments."""
    m, v = state
    m *= beta_1
    m += (1 - beta_1) * g
    v *= beta_2
    v += (1 - beta_2) * g**2
    momenta = [beta_1 * (1 - 0.5 * 0.96 ** (0.004 * t)) for t in range(1, step + 2)]
    product = math.prod(momenta[:-1])
    ahead = momenta[-1] / (1 - product * momenta[-1]) * m + (1 - momenta[-2]) / (1 - product) * g
    w -= learning_rate * ahead / (np.sqrt(v) / math.sqrt(1 - beta_2**step) + epsilon)


def adagrad(w: Array, g: Array, state: State, learning_rate: float, step: int, epsilon: float = 1e-10) -> None:
    """Adagrad (Duchi, Hazan and Singer, 2011): s <- s + g^2; w <- w - r g / (sqrt(s) + epsilon)."""
    (s,) = state
    s += g**2
    w -= learning_rate * g / (np.sqrt(s) + epsilon)


def adadelta(w: Array, g: Array, state: State, learning_rate: float, step: int, rho: float = 0.9,
             epsilon: float = 1e-6) -> None:
    """Adadelta (Zeiler, 2012, algorithm 1); the state is the mean squares of gradients and of changes."""
    s, u = state
    s *= rho
    s += (1 - rho) * g**2
    change = np.sqrt((u + epsilon) / (s + epsilon)) * g
    u *= rho
    u += (1 - rho) * change**2
    w -= learning_rate * change


def rmsprop(w: Array, g: Array, state: State, learning_rate: float, step: int, decay: float = 0.99,
            epsilon: float = 1e-8) -> None:
    """RMSprop (Tieleman and Hinton, 2012); the state is the mean square and a velocity, unused without momentum."""
    s, _ = state
    s *= decay
    s += (1 - decay) * g**2
    w -= learning_rate * g / (np.sqrt(s) + epsilon)


# AdamW is not among them: its update is Adam's, its decay of the weights comes before that.
OPTIMIZERS: dict[str, tuple[Callable[[Array, Array, State, float, int], None], int]] = {  # update, arrays of state
    "sgd": (sgd, 0),
    "momentum": (momentum, 1),
    "nesterov": (nesterov, 1),
    "adam": (adam, 2),
    "nadam": (nadam, 2),
    "adagrad": (adagrad, 1),
    "adadelta": (adadelta, 2),
    "rmsprop": (rmsprop, 2),
}


# ---- the network

OUTPUT_LOSSES = {"softmax": "cross_entropy", "sigmoid": "binary_cross_entropy", "identity": "mean_squared_error"}


class NumpyMLP:
    """A multilayer perceptron, trained by backpropagation on mini-batches.

    Parameters
    ----------
    sizes : list of int
        Number of inputs, then the units of each layer.
    activation : str
        Activation of the hidden layers, a name of `ACTIVATIONS` other than "softmax".
    output : str
        Activation of the last layer, which decides the loss: "softmax" (cross entropy), "sigmoid" (binary cross
        entropy) or "identity" (mean squared error).
    dtype : dtype
        float32 or float64.
    seed : int
        Of the initial weights and the order of the samples.

    Attributes
    ----------
    parameters : list of arrays
        [W0, b0, W1, b1, ...].
    """

    def __init__(self, sizes: list[int], activation: str = "relu", output: str = "softmax",
                 dtype: DTypeLike = "float32", seed: int = 0) -> None:
        self.activate, self.activate_backward = ACTIVATIONS[activation]
        self.activate_output = ACTIVATIONS[output][0]
        self.loss = LOSSES[OUTPUT_LOSSES[output]]
        self.rng = np.random.default_rng(seed)
        self.parameters: list[Array] = []
        for inputs, units in pairwise(sizes):
            self.parameters.append(self.rng.normal(0, math.sqrt(2 / inputs), (inputs, units)).astype(dtype))
            self.parameters.append(np.zeros(units, dtype))

    def forward(self, X: Array) -> list[Array]:
        """Return X and the outputs of each layer; of the last layer its pre-activations."""
        outputs = [X]
        *hidden, last = zip(self.parameters[::2], self.parameters[1::2], strict=True)
        for W, b in hidden:
            outputs.append(self.activate(dense_forward(outputs[-1], W, b)))
        outputs.append(dense_forward(outputs[-1], *last))
        return outputs

    def predict_proba(self, X: Array) -> Array:
        """Return the network's outputs (rows, outputs); with softmax and sigmoid output they are probabilities."""
        return self.activate_output(self.forward(X)[-1])

    def loss_and_gradients(self, X: Array, y: Array) -> tuple[float, list[Array]]:
        """Return the mean loss over the rows and its gradients, in the order of `parameters`."""
        outputs = self.forward(X)
        loss, delta = self.loss(outputs[-1], y)
        gradients: list[Array] = []
        for l in range(len(outputs) - 2, -1, -1):
            gradients[:0] = weight_gradient(outputs[l], delta)
            if l > 0:
                delta = self.activate_backward(dense_backward(delta, self.parameters[2 * l]), outputs[l])
        return loss, gradients

    def fit(self, X: Array, y: Array, epochs: int = 10, batch_size: int = 32, learning_rate: float = 1e-3,
            optimizer: str = "adam", shuffle: bool = True) -> list[float]:
        """Train, from a fresh optimizer state.

        Parameters
        ----------
        X : array (n, inputs), of the network's dtype
        y : array
            Labels (n,) or probabilities (n, outputs) with softmax output, else values (n, outputs).
        epochs, batch_size : int
            The last batch of an epoch holds the rest.
        learning_rate : float
        optimizer : str
            A name of `OPTIMIZERS`.
        shuffle : bool
            Whether to draw a new order of the rows for every epoch.

        Returns
        -------
        list of float
            The mean loss of each epoch, each batch's taken before its update.
        """
        update, slots = OPTIMIZERS[optimizer]
        state = [[np.zeros_like(w) for _ in range(slots)] for w in self.parameters]
        losses = []
        step = 0
        for _ in range(epochs):
            order = self.rng.permutation(len(X)) if shuffle else np.arange(len(X))
            total = 0.0
            for start in range(0, len(X), batch_size):
                batch = order[start : start + batch_size]
                loss, gradients = self.loss_and_gradients(X[batch], y[batch])
                total += loss * len(batch)
                step += 1
                for w, g, slot in zip(self.parameters, gradients, state, strict=True):
                    update(w, g, slot, learning_rate, step)
            losses.append(total / len(X))
        return losses
