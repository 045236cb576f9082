"""Between scikit-learn's description of a network and ours: names, sizes, first weights, and the order of weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..activations import ACTIVATIONS
from ..from_sklearn import OURS
from ..layers import MAX_DROPOUT, MAX_UNITS, Dense
from ..model import MLP
from ..validation import check_choice, check_integer, check_number
from .parameters import checks_parameters

Array = NDArray[Any]

THEIRS = {ours: theirs for theirs, ours in OURS.items()}


@checks_parameters()
def sizes_of(hidden_layer_sizes: Any) -> list[int]:
    """Return the sizes of the hidden layers from a number or numbers of at least 1."""
    sizes = hidden_layer_sizes if np.iterable(hidden_layer_sizes) else [hidden_layer_sizes]
    return [check_integer("hidden_layer_sizes", size, low=1, high=MAX_UNITS) for size in sizes]


@checks_parameters()
def hidden_activations(activation: Any, hidden: int) -> list[str]:
    """Return our names of the hidden layers' activations, from a name for all or a list with one for each."""
    if isinstance(activation, str):
        names = [activation] * max(hidden, 1)
    elif isinstance(activation, (list, tuple)):
        names = list(activation)
        if len(names) != hidden:
            raise ValueError(f"activation must be a name, or a list with one for each of the {hidden} hidden layers, "
                             f"got {activation!r}")
    else:
        raise TypeError(f"activation must be a name or a list of names, got {activation!r}")
    names = [OURS.get(check_choice("activation", name, {*ACTIVATIONS, "logistic"}), name) for name in names]
    return names[:hidden]


@checks_parameters()
def layers_of(units: Sequence[int], activations: Sequence[str], dropout: Any, output: str) -> list[Dense]:
    """Describe the layers.

    Parameters
    ----------
    units : of all layers, the output layer being the last
    activations : our names, one for each hidden layer
    dropout : a number for all hidden layers, or a list with one for each
    output : our name of the output activation
    """
    hidden = len(units) - 1
    rates = list(dropout) if np.iterable(dropout) else [dropout] * hidden
    if len(rates) != hidden:
        raise ValueError(f"dropout must be a number, or a list with one for each of the {hidden} hidden layers, got "
                         f"{dropout!r}")
    rates = [check_number("dropout", rate, low=0.0, high=MAX_DROPOUT) for rate in rates]
    # The weights come from scikit-learn's estimators; drawing others would take time.
    layers = [Dense(count, name, initializer="zeros", dropout=rate)
              for count, name, rate in zip(units, activations, rates, strict=False)]
    return [*layers, Dense(units[-1], output, initializer="zeros")]


def initial_weights(sizes: Sequence[int], activations: Sequence[str], random_state: np.random.RandomState,
                    dtype: np.dtype[Any]) -> tuple[list[Array], list[Array]]:
    """Draw the first weights and biases of all layers, the numbers that scikit-learn draws.

    Uniform on [-b, b] with b = sqrt(factor / (inputs + units)); factor is 2 for "sigmoid", else 6 (Glorot and Bengio,
    2010). The output layer goes by the activation of the layer below.
    """
    coefs, intercepts = [], []
    factors = [2.0 if name == "sigmoid" else 6.0 for name in (*activations, *(activations[-1:] or [""]))]
    for fan_in, units, factor in zip(sizes[:-1], sizes[1:], factors, strict=True):
        bound = np.sqrt(factor / (fan_in + units))
        coefs.append(random_state.uniform(-bound, bound, (fan_in, units)).astype(dtype, copy=False))
        intercepts.append(random_state.uniform(-bound, bound, units).astype(dtype, copy=False))
    return coefs, intercepts


def arrange(coefs: Sequence[Any], intercepts: Sequence[Any], slopes: Iterable[Any],
            activations: Sequence[str]) -> list[Array]:
    """Return weights, biases and slopes in the order of `MLP.get_weights`; missing slopes are as they begin."""
    left = iter(slopes)
    arrays: list[Array] = []
    for number, (coef, intercept) in enumerate(zip(coefs, intercepts, strict=True)):
        arrays += [np.asarray(coef), np.asarray(intercept)]
        if activations[number : number + 1] == ["prelu"]:
            first = np.full(arrays[-1].shape, ACTIVATIONS["prelu"].alpha, arrays[-1].dtype)
            arrays.append(np.asarray(next(left, first)))
    return arrays


def weight_attributes(arrays: Iterable[Array], layers: Iterable[Any]) -> dict[str, list[Array]]:
    """Return the attributes coefs_, intercepts_ and, if there are any, slopes_ for arrays in the order of `MLP`'s."""
    left = iter(arrays)
    attributes: dict[str, list[Array]] = {"coefs_": [], "intercepts_": []}
    for layer in layers:
        attributes["coefs_"].append(next(left))
        attributes["intercepts_"].append(next(left))
        if layer.activation == "prelu":
            attributes.setdefault("slopes_", []).append(next(left))
    return attributes


def is_of(model: MLP, layers: Sequence[Any], dtype: np.dtype[Any]) -> bool:
    """Whether a model has these layers, the number of its inputs being the first, and this dtype."""
    return [model.inputs, *model.layers] == layers and model.dtype == dtype


def sum_of_squares(coefs: Iterable[Array]) -> float:
    """Return the sum of the squares of all weights."""
    # No product of linear algebra: its threads would still spin when ours begin to work.
    return sum(float(np.einsum("ij,ij", coef, coef)) for coef in coefs)


def check_shapes(coefs: Sequence[Any], intercepts: Sequence[Any], inputs: int, outputs: int) -> None:
    """Raise ValueError unless coefs_ and intercepts_, which users may set, are a network from inputs to outputs."""
    shapes = [np.shape(coef) for coef in coefs]
    allowed = f"matrices that lead from {inputs} features to {outputs} outputs"
    if not shapes or any(len(shape) != 2 for shape in shapes):
        raise ValueError(f"coefs_ must be {allowed}, got shapes {shapes}")
    sizes = [shapes[0][0], *(shape[1] for shape in shapes)]
    if [shape[0] for shape in shapes] != sizes[:-1] or (sizes[0], sizes[-1]) != (inputs, outputs):
        raise ValueError(f"coefs_ must be {allowed}, got shapes {shapes}")
    biases = [np.shape(intercept) for intercept in intercepts]
    if biases != [(size,) for size in sizes[1:]]:
        raise ValueError(f"intercepts_ must have the shapes {[(size,) for size in sizes[1:]]}, got {biases}")
