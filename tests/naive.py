"""The oracles: every kernel once more, in plain NumPy on float64, from the textbook's formulas.

Nothing here is fast, clever or numerically careful beyond what float64 gives for the sizes of the tests. Beside the
oracles there are three small helpers that the tests of the kernels share: `error_bound`, `in_threads`, `cuts`.

The formulas are those of Bishop, Pattern Recognition and Machine Learning, 2006 (chapters 4 and 5), Goodfellow,
Bengio and Courville, Deep Learning, 2016 (chapters 6 and 8), and of the papers named below.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

DTYPES = ("float32", "float64")


def wide(array: Any) -> Array:
    return np.asarray(array, np.float64)


# ---- activations f(z) and their derivatives f'(z)


def identity(z: Any) -> Array:
    return wide(z)


def sigmoid(z: Any) -> Array:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-wide(z)))


def tanh(z: Any) -> Array:
    return np.tanh(wide(z))


def relu(z: Any) -> Array:
    return np.where(wide(z) < 0, 0.0, wide(z))


def leaky_relu(z: Any, slope: Any) -> Array:
    return np.where(wide(z) < 0, slope * wide(z), wide(z))


def prelu(z: Any, slopes: Any) -> Array:
    """z for z >= 0, else a z, with a learned slope a for each unit, or one for all (He et al., 2015)."""
    return leaky_relu(z, wide(slopes))


def elu(z: Any, alpha: float) -> Array:
    """z for z >= 0, else alpha (e^z - 1) (Clevert et al., 2016)."""
    return np.where(wide(z) < 0, alpha * np.expm1(np.minimum(wide(z), 0)), wide(z))


def selu(z: Any) -> Array:
    """scale elu(z), with the constants of Klambauer et al., 2017."""
    with np.errstate(over="ignore"):
        return 1.0507009873554804934193349852946 * elu(z, 1.6732632423543772848170429916717)


def softplus(z: Any) -> Array:
    """log(1 + e^z) = max(z, 0) + log(1 + e^-|z|)."""
    return np.maximum(wide(z), 0) + np.log1p(np.exp(-np.abs(wide(z))))


def exponential(z: Any) -> Array:
    with np.errstate(over="ignore"):
        return np.exp(wide(z))


def step(z: Any) -> Array:
    return np.where(wide(z) >= 0, 1.0, 0.0)


def sign(z: Any) -> Array:
    return np.where(wide(z) >= 0, 1.0, -1.0)


def normal_cdf(z: Any) -> Array:
    """Phi(z) = erfc(-z / sqrt(2)) / 2; for negative z, the rounding of the argument makes an error of about z^2 eps."""
    return np.asarray(np.vectorize(math.erfc, [float])(-wide(z) / math.sqrt(2)) / 2)


def gelu(z: Any) -> Array:
    """z Phi(z) (Hendrycks and Gimpel, 2016)."""
    return wide(z) * normal_cdf(z)


def silu(z: Any) -> Array:
    """z sigmoid(z) (Elfwing et al., 2018)."""
    return wide(z) * sigmoid(z)


def softmax(z: Any) -> Array:
    """e^z_i / sum over j of e^z_j, in each row."""
    with np.errstate(invalid="ignore"):
        exponentials = np.exp(wide(z) - wide(z).max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


ACTIVATIONS: dict[str, Callable[..., Array]] = {
    "identity": identity, "sigmoid": sigmoid, "tanh": tanh, "relu": relu, "leaky_relu": leaky_relu, "elu": elu,
    "softmax": softmax, "selu": selu, "softplus": softplus, "exponential": exponential, "step": step, "sign": sign,
    "gelu": gelu, "silu": silu, "prelu": prelu,
}


def activation(name: str, z: Any, alpha: Any = 0.0) -> Array:
    return ACTIVATIONS[name](z, alpha) if name in ("leaky_relu", "elu", "prelu") else ACTIVATIONS[name](z)


def derivative(name: str, z: Any, alpha: Any = 0.0) -> Array:
    """f'(z), element by element; softmax has a Jacobian instead."""
    z = wide(z)
    if name == "identity":
        return np.ones_like(z)
    if name == "sigmoid":
        return sigmoid(z) * (1 - sigmoid(z))
    if name == "tanh":
        return 1 - np.tanh(z) ** 2
    if name == "relu":
        return np.where(z > 0, 1.0, 0.0)
    if name in ("leaky_relu", "prelu"):
        return np.where(z < 0, wide(alpha), 1.0)
    if name == "elu":
        return np.where(z < 0, alpha * np.exp(np.minimum(z, 0)), 1.0)
    if name == "selu":
        return 1.0507009873554804934193349852946 * derivative("elu", z, 1.6732632423543772848170429916717)
    if name == "softplus":
        return sigmoid(z)
    if name == "exponential":
        return exponential(z)
    if name in ("step", "sign"):
        return np.zeros_like(z)
    if name == "gelu":
        return normal_cdf(z) + z * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    assert name == "silu"
    return sigmoid(z) * (1 + z * (1 - sigmoid(z)))


def softmax_backward(outputs: Any, by_outputs: Any) -> Array:
    """Loss by z from loss by p = softmax(z), with the Jacobian d p_i / d z_j = p_i ((i = j) - p_j) written out."""
    result = np.empty_like(wide(outputs))
    for row, (p, g) in enumerate(zip(wide(outputs), wide(by_outputs), strict=True)):
        jacobian = np.diag(p) - np.outer(p, p)
        result[row] = jacobian.T @ g
    return result


# ---- losses of each row, from z for those in FROM_PREACTIVATIONS and from f(z) for the others


def one_hot(labels: Any, units: int) -> Array:
    return np.eye(units)[np.asarray(labels)]


def cross_entropy(z: Any, targets: Any) -> tuple[Array, Array]:
    """- sum over k of t_k log softmax(z)_k of each row, and its derivative by z; targets are probabilities."""
    z, t = wide(z), wide(targets)
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(t * log_p).sum(axis=1), softmax(z) * t.sum(axis=1, keepdims=True) - t


def binary_cross_entropy(z: Any, targets: Any) -> tuple[Array, Array]:
    """- mean over k of t log a + (1 - t) log(1 - a), a = sigmoid(z); log a = -log(1 + e^-z)."""
    z, t = wide(z), wide(targets)
    log_a, log_rest = -np.logaddexp(0, -z), -np.logaddexp(0, z)
    return -(t * log_a + (1 - t) * log_rest).mean(axis=1), (sigmoid(z) - t) / z.shape[1]


def half_squared_error(a: Any, targets: Any) -> tuple[Array, Array]:
    error = wide(a) - wide(targets)
    return 0.5 * (error**2).sum(axis=1), error


def mean_squared_error(a: Any, targets: Any) -> tuple[Array, Array]:
    error = wide(a) - wide(targets)
    return (error**2).mean(axis=1), 2 * error / error.shape[1]


def mean_absolute_error(a: Any, targets: Any) -> tuple[Array, Array]:
    error = wide(a) - wide(targets)
    return np.abs(error).mean(axis=1), np.sign(error) / error.shape[1]


def huber(a: Any, targets: Any, d: float = 1.0) -> tuple[Array, Array]:
    """Mean over k of e^2 / 2 where |e| <= d, and of d (|e| - d / 2) elsewhere (Huber, 1964)."""
    error = wide(a) - wide(targets)
    size = np.abs(error)
    value = np.where(size <= d, error**2 / 2, d * (size - d / 2))
    slope = np.where(size <= d, error, d * np.sign(error))
    return value.mean(axis=1), slope / error.shape[1]


def hinge(a: Any, targets: Any) -> tuple[Array, Array]:
    """Mean over k of max(0, 1 - t a), t = -1 or 1."""
    missing = 1 - wide(targets) * wide(a)
    return np.maximum(missing, 0).mean(axis=1), np.where(missing > 0, -wide(targets), 0) / missing.shape[1]


def poisson(z: Any, targets: Any) -> tuple[Array, Array]:
    """Mean over k of e^z - t z: - log of the Poisson probability of t at the rate e^z, without log t!."""
    rate = np.exp(wide(z))
    return (rate - wide(targets) * wide(z)).mean(axis=1), (rate - wide(targets)) / rate.shape[1]


def smoothed(targets: Any, smoothing: float, classes: int) -> Array:
    """Targets with label smoothing (Szegedy et al., 2016, section 7)."""
    return (1 - smoothing) * wide(targets) + smoothing / classes


LOSSES: dict[str, Callable[[Any, Any], tuple[Array, Array]]] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "half_squared_error": half_squared_error,
    "mean_squared_error": mean_squared_error,
    "mean_absolute_error": mean_absolute_error,
    "huber": huber,
    "hinge": hinge,
    "poisson": poisson,
}
FROM_PREACTIVATIONS = ("cross_entropy", "binary_cross_entropy", "poisson")


# ---- a dense layer


def dense(X: Any, weights: Any, bias: Any) -> Array:
    """Pre-activations: z_ij = sum over p of x_ip w_pj, plus b_j."""
    return wide(X) @ wide(weights) + wide(bias)


def delta_from_outputs(by_outputs: Any, z: Any, name: str, alpha: Any = 0.0) -> Array:
    """Loss by z from loss by f(z): times f'(z), element by element, but for softmax."""
    if name == "softmax":
        return softmax_backward(softmax(z), by_outputs)
    return wide(by_outputs) * derivative(name, z, alpha)


def backward_delta(delta: Any, weights: Any, z_below: Any, name: str, alpha: Any = 0.0) -> Array:
    """Delta of the layer below: (delta W^T) times f'(z) of that layer, element by element."""
    return delta_from_outputs(wide(delta) @ wide(weights).T, z_below, name, alpha)


def weight_gradient(a: Any, delta: Any) -> tuple[Array, Array]:
    """dW_ij = sum over rows of a_ri delta_rj; db_j = sum over rows of delta_rj."""
    return wide(a).T @ wide(delta), wide(delta).sum(axis=0)


def slope_gradient(by_outputs: Any, z: Any, slopes: Any) -> Array:
    """da_j = sum over rows of the loss by outputs times min(z, 0), of prelu; over units, too, if they share a."""
    by_slopes = (wide(by_outputs) * np.minimum(wide(z), 0)).sum(axis=0)
    return by_slopes if len(by_slopes) == len(slopes) else by_slopes.sum(keepdims=True)


# ---- a network: layers is a list of (W, b, name of the activation, alpha); alpha is the array of slopes of prelu

Layer = tuple[Any, Any, str, Any]
ALPHAS = {"leaky_relu": 0.01, "elu": 1.0}  # unless the layer has another


def layers_of(model: Any) -> list[Layer]:
    """The dense layers of a model, with the weights that it has now."""
    arrays = iter(model.get_weights())
    layers = []
    for layer in model.layers:
        weights, bias, name = next(arrays), next(arrays), str(layer.activation)
        alpha = ALPHAS.get(name, 0.0) if layer.alpha is None else layer.alpha
        layers.append((weights, bias, name, next(arrays) if name == "prelu" else alpha))
    assert next(arrays, None) is None
    return layers


def parameters_of(layers: list[Layer]) -> list[Array]:
    """[W0, b0, W1, b1, ...] in float64; a layer of prelu has a third array."""
    return [wide(p).copy() for W, b, name, alpha in layers for p in ((W, b, alpha) if name == "prelu" else (W, b))]


def with_parameters(layers: list[Layer], parameters: Iterable[Any]) -> list[Layer]:
    """The same layers with other parameters."""
    arrays = iter(parameters)
    return [(next(arrays), next(arrays), name, next(arrays) if name == "prelu" else alpha)
            for _, _, name, alpha in layers]


def stage(X: Any, mean: Any = 0.0, scale: Any = 1.0) -> Array:
    return (wide(X) - wide(mean)) * wide(scale)


def preactivations(X: Any, layers: list[Layer], factors: list[Any] | None = None) -> list[Array]:
    """z of each layer; `factors` are what dropout multiplies the outputs of each layer by."""
    a, found = wide(X), []
    for (weights, bias, name, alpha), factor in zip(layers, factors or [1.0] * len(layers), strict=True):
        found.append(dense(a, weights, bias))
        a = activation(name, found[-1], alpha) * factor
    return found


def forward(X: Any, layers: list[Layer]) -> Array:
    return activation(layers[-1][2], preactivations(X, layers)[-1], layers[-1][3])


def loss_and_gradients(X: Any, targets: Any, layers: list[Layer], loss: str, factors: list[Any] | None = None
                       ) -> tuple[float, list[Array]]:
    """Mean loss over the rows, and its gradient by `parameters_of` the layers; targets are (rows, outputs).

    `factors` are as in `preactivations`.
    """
    factors = factors or [1.0] * len(layers)
    z = preactivations(X, layers, factors)
    outputs = [activation(name, z_l, alpha) * factor
               for (_, _, name, alpha), z_l, factor in zip(layers, z, factors, strict=True)]
    from_preactivations = loss in FROM_PREACTIVATIONS
    row_losses, derivatives = LOSSES[loss](z[-1] if from_preactivations else outputs[-1], targets)
    by_outputs = derivatives / len(derivatives)  # for the last layer perhaps by pre-activations
    inputs = [wide(X), *outputs[:-1]]
    gradients: list[Array] = []
    for l in range(len(layers) - 1, -1, -1):
        weights, _, name, alpha = layers[l]
        is_delta = from_preactivations and l == len(layers) - 1
        delta = by_outputs if is_delta else delta_from_outputs(by_outputs, z[l], name, alpha)
        slopes = [slope_gradient(by_outputs, z[l], alpha)] if name == "prelu" else []
        gradients[:0] = [*weight_gradient(inputs[l], delta), *slopes]
        by_outputs = delta @ wide(weights).T * (factors[l - 1] if l > 0 else 1.0)
    return float(row_losses.mean()), gradients


# ---- optimizers: update number `step`, from 1, of w from its gradient g; state is a list of arrays


def sgd(w: Array, g: Array, state: list[Array], rate: float, step: int) -> tuple[Array, list[Array]]:
    return w - rate * g, []


def momentum(w: Array, g: Array, state: list[Array], rate: float, step: int, momentum: float = 0.9
             ) -> tuple[Array, list[Array]]:
    velocity = momentum * state[0] - rate * g  # Sutskever et al., 2013, equations 1 and 2
    return w + velocity, [velocity]


def nesterov(w: Array, g: Array, state: list[Array], rate: float, step: int, momentum: float = 0.9
             ) -> tuple[Array, list[Array]]:
    velocity = momentum * state[0] - rate * g  # the same, with the gradient taken where the momentum leads
    return w + momentum * velocity - rate * g, [velocity]


def adam(w: Array, g: Array, state: list[Array], rate: float, step: int, beta_1: float = 0.9, beta_2: float = 0.999,
         epsilon: float = 1e-8, epsilon_hat: bool = False) -> tuple[Array, list[Array]]:
    first = beta_1 * state[0] + (1 - beta_1) * g  # Kingma and Ba, 2015, algorithm 1
    second = beta_2 * state[1] + (1 - beta_2) * g**2
    if epsilon_hat:  # the order of computation that they give in section 2
        return w - rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step) * first / (np.sqrt(second) + epsilon), [
            first, second]
    first_hat = first / (1 - beta_1**step)
    second_hat = second / (1 - beta_2**step)
    return w - rate * first_hat / (np.sqrt(second_hat) + epsilon), [first, second]


def nadam(w: Array, g: Array, state: list[Array], rate: float, step: int, beta_1: float = 0.9, beta_2: float = 0.999,
          epsilon: float = 1e-8, epsilon_hat: bool = False) -> tuple[Array, list[Array]]:
    first = beta_1 * state[0] + (1 - beta_1) * g  # Dozat, 2016, with the schedule of momentum he suggests
    second = beta_2 * state[1] + (1 - beta_2) * g**2
    momenta = beta_1 * (1 - 0.5 * 0.96 ** (0.004 * np.arange(1, step + 2)))
    first_hat = (momenta[-1] * first / (1 - np.prod(momenta))
                 + (1 - momenta[-2]) * g / (1 - np.prod(momenta[:-1])))
    second_hat = second / (1 - beta_2**step)
    added = epsilon / np.sqrt(1 - beta_2**step) if epsilon_hat else epsilon
    return w - rate * first_hat / (np.sqrt(second_hat) + added), [first, second]


def adagrad(w: Array, g: Array, state: list[Array], rate: float, step: int, epsilon: float = 1e-10
            ) -> tuple[Array, list[Array]]:
    squares = state[0] + g**2  # Duchi, Hazan and Singer, 2011
    return w - rate * g / (np.sqrt(squares) + epsilon), [squares]


def adadelta(w: Array, g: Array, state: list[Array], rate: float, step: int, rho: float = 0.9, epsilon: float = 1e-6
             ) -> tuple[Array, list[Array]]:
    squares = rho * state[0] + (1 - rho) * g**2  # Zeiler, 2012, algorithm 1
    change = np.sqrt(state[1] + epsilon) / np.sqrt(squares + epsilon) * g
    return w - rate * change, [squares, rho * state[1] + (1 - rho) * change**2]


def rmsprop(w: Array, g: Array, state: list[Array], rate: float, step: int, decay: float = 0.99,
            epsilon: float = 1e-8, momentum: float = 0.0) -> tuple[Array, list[Array]]:
    squares = decay * state[0] + (1 - decay) * g**2  # Tieleman and Hinton, 2012
    velocity = momentum * state[1] + g / (np.sqrt(squares) + epsilon)
    return w - rate * velocity, [squares, velocity if momentum > 0 else state[1]]


RULES: dict[str, tuple[Callable[..., tuple[Array, list[Array]]], int]] = {  # the rule, arrays of state
    "sgd": (sgd, 0), "momentum": (momentum, 1), "nesterov": (nesterov, 1), "adam": (adam, 2), "nadam": (nadam, 2),
    "adagrad": (adagrad, 1), "adadelta": (adadelta, 2), "rmsprop": (rmsprop, 2),
}


def new_state(optimizer: str, w: Any) -> list[Array]:
    return [np.zeros_like(wide(w)) for _ in range(RULES[optimizer][1])]


def update(optimizer: str, w: Any, g: Any, state: list[Array], rate: float, step: int, l2: float = 0.0,
           **settings: float) -> tuple[Array, list[Array]]:
    """One update by a rule's name; L2 regularisation adds l2 w to the gradient."""
    w = wide(w)
    return RULES[optimizer][0](w, wide(g) + l2 * w, state, rate, step, **settings)


def regularise(w: Any, g: Any, rate: float, l1: float = 0.0, weight_decay: float = 0.0, clip_value: float = 0.0
               ) -> tuple[Array, Array]:
    """w and g as an update takes them: clipped gradient, L1, weights that decay (Loshchilov and Hutter, 2019)."""
    w, g = wide(w), wide(g)
    if clip_value > 0:
        g = np.clip(g, -clip_value, clip_value)
    return w - rate * weight_decay * w, g + l1 * np.sign(w)


def train(X: Any, targets: Any, layers: list[Layer], loss: str, optimizer: str, rate: float, batches: Iterable[Any],
          l2: float = 0.0) -> tuple[list[float], list[Layer]]:
    """Losses and layers after one update for each index list of `batches`; only weights are regularised."""
    X, targets = wide(X), wide(targets)
    parameters = parameters_of(layers)
    states = [new_state(optimizer, p) for p in parameters]
    losses = []
    for step, rows in enumerate(batches, 1):
        value, gradients = loss_and_gradients(X[rows], targets[rows], layers, loss)
        losses.append(value)
        for i, g in enumerate(gradients):
            parameters[i], states[i] = update(optimizer, parameters[i], g, states[i], rate, step,
                                              l2=l2 if parameters[i].ndim == 2 else 0.0)
        layers = with_parameters(layers, parameters)
    return losses, layers


# ---- random numbers

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def splitmix64(state: int) -> int:
    """The output function of SplitMix64 (Steele, Lea and Flood, 2014; Vigna's splitmix64.c)."""
    z = state & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def is_permutation(order: Any) -> bool:
    return sorted(np.asarray(order).tolist()) == list(range(len(order)))


# ---- helpers of the tests


def error_bound(terms: int, magnitudes: Any, dtype: Any) -> Any:
    """Bound of the rounding error of a sum of products in `dtype`, however it is ordered.

    `terms` is the number of terms, `magnitudes` the sum of their absolute values (Higham, Accuracy and Stability of
    Numerical Algorithms, 2002, section 3.1: n u / (1 - n u)). Twice that, as the oracle rounds too.
    """
    return 2 * (terms + 2) * np.finfo(dtype).eps * wide(magnitudes) + np.finfo(dtype).tiny


def in_threads(*calls: Callable[[], Any]) -> list[Any]:
    """Make all calls at the same time, a thread each; return their results, or raise the first exception."""
    start = threading.Barrier(len(calls))
    results: list[Any] = [None] * len(calls)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            start.wait()
            results[number] = calls[number]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive(), "a call did not end within half a minute"
    if errors:
        raise errors[0]
    return results


def cuts(items: int, parts: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Cut 0 ... items into `parts` ranges of uneven length, some perhaps empty."""
    inner = np.sort(rng.integers(0, items + 1, parts - 1)).tolist()
    edges = [0, *inner, items]
    return list(pairwise(edges))
