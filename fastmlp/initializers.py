"""How the weights of a layer are drawn before training.

Every initializer is a function ``(inputs, units, rng) -> W`` that returns float64 weights of shape
(inputs, units). The variances are chosen so that activations, or gradients, neither grow nor shrink from
layer to layer. A uniform distribution on [-limit, limit] has variance limit**2 / 3; the normal
distributions are not truncated.

References
----------
- Y. LeCun, L. Bottou, G. B. Orr, K.-R. Mueller, "Efficient BackProp", 1998, section 4.6.
- X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks",
  AISTATS 2010, equations 12 and 16.
- K. He, X. Zhang, S. Ren, J. Sun, "Delving Deep into Rectifiers: Surpassing Human-Level Performance on
  ImageNet Classification", ICCV 2015, equation 10.
- G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, "Self-Normalizing Neural Networks", NIPS 2017: LeCun's
  variance keeps the outputs of selu at mean 0 and variance 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .validation import check_choice, check_integer

Weights = NDArray[np.float64]


def glorot_uniform(inputs: int, units: int, rng: np.random.Generator) -> Weights:
    """Uniform on [-limit, limit], limit = sqrt(6 / (inputs + units)) (Glorot & Bengio 2010)."""
    return _uniform(math.sqrt(6 / (inputs + units)), inputs, units, rng)


def glorot_normal(inputs: int, units: int, rng: np.random.Generator) -> Weights:
    """Normal with standard deviation sqrt(2 / (inputs + units)) (Glorot & Bengio 2010)."""
    return _normal(math.sqrt(2 / (inputs + units)), inputs, units, rng)


def he_uniform(inputs: int, units: int, rng: np.random.Generator) -> Weights:
    """Uniform on [-limit, limit], limit = sqrt(6 / inputs) (He et al. 2015)."""
    return _uniform(math.sqrt(6 / inputs), inputs, units, rng)


def he_normal(inputs: int, units: int, rng: np.random.Generator) -> Weights:
    """Normal with standard deviation sqrt(2 / inputs) (He et al. 2015)."""
    return _normal(math.sqrt(2 / inputs), inputs, units, rng)


def lecun_uniform(inputs: int, units: int, rng: np.random.Generator) -> Weights:
    """Uniform on [-limit, limit], limit = sqrt(3 / inputs) (LeCun et al. 1998)."""
    return _uniform(math.sqrt(3 / inputs), inputs, units, rng)


def lecun_normal(inputs: int, units: int, rng: np.random.Generator) -> Weights:
    """Normal with standard deviation sqrt(1 / inputs) (LeCun et al. 1998)."""
    return _normal(math.sqrt(1 / inputs), inputs, units, rng)


def uniform(inputs: int, units: int, rng: np.random.Generator) -> Weights:
    """Uniform on [-0.05, 0.05], whatever the layer's size, as Keras's RandomUniform."""
    return _uniform(0.05, inputs, units, rng)


def normal(inputs: int, units: int, rng: np.random.Generator) -> Weights:
    """Normal with standard deviation 0.05, whatever the layer's size, as Keras's RandomNormal."""
    return _normal(0.05, inputs, units, rng)


def zeros(inputs: int, units: int, rng: np.random.Generator) -> Weights:
    """All zero. Units that start equal stay equal: of use only in a network without hidden layers."""
    return np.zeros((inputs, units))


def _uniform(limit: float, inputs: int, units: int, rng: np.random.Generator) -> Weights:
    return rng.uniform(-limit, limit, (inputs, units))


def _normal(deviation: float, inputs: int, units: int, rng: np.random.Generator) -> Weights:
    return rng.normal(0.0, deviation, (inputs, units))


INITIALIZERS: dict[str, Callable[[int, int, np.random.Generator], Weights]] = {
    "glorot_uniform": glorot_uniform,
    "glorot_normal": glorot_normal,
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "lecun_uniform": lecun_uniform,
    "lecun_normal": lecun_normal,
    "uniform": uniform,
    "normal": normal,
    "zeros": zeros,
}

# Activations that let about half of the signal through: "auto" starts them with He's larger weights.
_RECTIFIERS = ("relu", "leaky_relu", "prelu", "elu", "gelu", "silu")


def _automatic(activation: str) -> str:
    """Return the name of the initializer that "auto" stands for."""
    if activation == "selu":
        return "lecun_normal"
    return "he_normal" if activation in _RECTIFIERS else "glorot_uniform"


def check_initializer(name: str) -> str:
    """Check the name of an initializer.

    Parameters
    ----------
    name : str
        ``"auto"`` or a key of `INITIALIZERS`.

    Returns
    -------
    str
        The name.

    Raises
    ------
    TypeError, ValueError
        If there is no initializer of that name; the message lists the allowed names.
    """
    return check_choice("initializer", name, ["auto", *INITIALIZERS])


def initial_weights(
    name: str, inputs: int, units: int, activation: str, rng: np.random.Generator, dtype: DTypeLike
) -> NDArray[np.floating[Any]]:
    """Draw the first weights of a layer.

    Parameters
    ----------
    name : str
        A key of `INITIALIZERS`, or ``"auto"``: ``"he_normal"`` if the layer's activation is relu,
        leaky_relu, prelu, elu, gelu or silu, ``"lecun_normal"`` if it is selu, else ``"glorot_uniform"``.
    inputs, units : int
        The layer's size, both at least 1.
    activation : str
        Name of the layer's activation; only ``"auto"`` looks at it.
    rng : numpy.random.Generator
        Source of the random numbers; it moves on by as many as are drawn.
    dtype : float32 or float64
        Type of the result. The numbers are drawn as float64 and then rounded, so models of both types
        start from the same weights.

    Returns
    -------
    ndarray of dtype, shape (inputs, units)
        The weights, in C order.

    Raises
    ------
    ValueError
        If `name` is unknown, `inputs` or `units` is less than 1, or `dtype` is neither float32 nor float64.
    TypeError
        If `inputs` or `units` is not an int, or `rng` not a numpy Generator.
    """
    check_initializer(name)
    inputs, units = check_integer("inputs", inputs, low=1), check_integer("units", units, low=1)
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {rng!r}")
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
    if name == "auto":
        name = _automatic(activation)
    return INITIALIZERS[name](inputs, units, rng).astype(dtype, copy=False)
