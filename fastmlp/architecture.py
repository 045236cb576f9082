"""What follows from a list of layers: its checks, the shapes of the parameters, and the table that kernels read."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .activations import ACTIVATIONS, FLAT
from .arrays import as_numeric
from .initializers import initial_weights
from .kernels import layout
from .layers import MAX_UNITS, Dense, Layer, Maxout
from .validation import check_integer

Array = NDArray[Any]

LAYERS: dict[str, type[Layer]] = {"dense": Dense, "maxout": Maxout}


def check_layers(layers: Any) -> tuple[int, list[Layer]]:
    """Return the number of inputs, and the layers that a user's list describes."""
    allowed = "a list of the number of inputs and one or more layers, each a number of units, a Dense or a Maxout"
    if isinstance(layers, (str, bytes)) or not isinstance(layers, Iterable):
        raise TypeError(f"layers must be {allowed}, got {layers!r}")
    inputs, *rest = list(layers) or [None]
    if inputs is None or not rest:
        raise ValueError(f"layers must be {allowed}, got {layers!r}")
    if isinstance(inputs, (Dense, Maxout)):
        raise TypeError(f"layers must be {allowed}, got {inputs!r} in the place of the number of inputs")
    count = check_integer("layers[0]", inputs, low=1, high=MAX_UNITS)
    return count, [_check_layer(f"layers[{i}]", layer) for i, layer in enumerate(rest, 1)]


def _check_layer(name: str, layer: Any) -> Layer:
    if not isinstance(layer, (Dense, Maxout)):
        return Dense(check_integer(name, layer, low=1, high=MAX_UNITS))
    if type(layer) not in LAYERS.values():  # files and copies hold a layer's kind by name
        raise TypeError(f"{name} must be a number of units, a Dense or a Maxout (not of a subclass), got {layer!r}")
    return layer


def complete_layers(layers: list[Layer], defaults: list[str]) -> tuple[Layer, ...]:
    """Fill in the activations that layers do not name, and check what depends on the place of a layer."""
    complete = tuple(dataclasses.replace(layer, activation=layer.activation or default)
                     if isinstance(layer, Dense) else layer
                     for layer, default in zip(layers, defaults, strict=True))
    last = complete[-1]
    if isinstance(last, Maxout):
        raise ValueError("layers must not end with a Maxout; a Dense layer comes last")
    if last.dropout:
        raise ValueError(f"dropout must be 0 in the last layer, got {last.dropout!r}")
    return complete


def check_weights(weights: Any, shapes: list[tuple[int, ...]]) -> list[Array]:
    """Return the weights as arrays if they are of this number and these shapes."""
    if not isinstance(weights, Iterable):
        raise TypeError(f"weights must be {len(shapes)} arrays, got {weights!r}")
    given = list(weights)
    if len(given) != len(shapes):
        raise ValueError(f"weights must be {len(shapes)} arrays, got {len(given)}")
    arrays = []
    for position, (values, shape) in enumerate(zip(given, shapes, strict=True)):
        array = as_numeric(f"weights[{position}]", values, f"an array of real numbers of shape {shape}")
        if array.shape != shape:
            raise ValueError(f"weights[{position}] must have shape {shape}, got {array.shape}")
        arrays.append(array)
    return arrays


def activation_of(layer: Layer) -> str:
    """Return the name of a layer's activation, for who reads it."""
    return str(layer.activation) if isinstance(layer, Dense) else "maxout"


def warn_of_flat_layers(layers: Iterable[Layer]) -> None:
    """Warn who makes a trainer if gradient descent cannot change the weights of some layers, whatever the data."""
    for number, layer in enumerate(layers):
        name = activation_of(layer)
        if name in FLAT:
            warnings.warn(f"layer {number} has the activation {name!r}, whose derivative is 0: the weights of this "
                          "layer and those below it will not learn", stacklevel=3)
        elif name == "softmax" and layer.units == 1:
            warnings.warn(f"layer {number} has the activation 'softmax' and one unit, whose output is always 1: "
                          "nothing will be learned; for two classes take 'sigmoid', or two units", stacklevel=3)


def shapes_of(layer: Layer, fan_in: int) -> list[tuple[int, ...]]:
    """Shapes of a layer's arrays of parameters: weights, bias, and slopes if they are learned."""
    if isinstance(layer, Maxout):
        return [(fan_in, layer.pieces * layer.units), (layer.pieces * layer.units,)]
    slopes = [(1 if layer.shared else layer.units,)] if layer.activation == "prelu" else []
    return [(fan_in, layer.units), (layer.units,), *slopes]


def first_weights(layer: Layer, fan_in: int, rng: np.random.Generator, dtype: np.dtype[Any]) -> list[Array]:
    """Draw the first parameters of a layer."""
    if isinstance(layer, Maxout):
        pieces = [initial_weights(layer.initializer, fan_in, layer.units, "maxout", rng, dtype)
                  for _ in range(layer.pieces)]
        return [np.concatenate(pieces, axis=1), np.zeros(layer.pieces * layer.units, dtype)]
    weights = [initial_weights(layer.initializer, fan_in, layer.units, str(layer.activation), rng, dtype),
               np.zeros(layer.units, dtype)]
    for shape in shapes_of(layer, fan_in)[2:]:
        weights.append(np.full(shape, _alpha_of(layer), dtype))
    return weights


def table_of(sizes: list[int], layers: tuple[Layer, ...], dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Return the table of layers and their settings, as the kernels see them (`layout`)."""
    activations = [ACTIVATIONS["identity" if isinstance(layer, Maxout) else str(layer.activation)] for layer in layers]
    table = layout.layer_table(
        sizes, [activation.code for activation in activations], dtype,
        pieces=[layer.pieces if isinstance(layer, Maxout) else 0 for layer in layers],
        slopes=[layout.NO_SLOPES if not isinstance(layer, Dense) or layer.activation != "prelu"
                else layout.ONE_SLOPE if layer.shared else layout.A_SLOPE_A_UNIT for layer in layers])
    numbers = np.zeros((len(table), layout.LAYER_SETTINGS))
    rows = iter(range(len(table)))
    for layer, activation in zip(layers, activations, strict=True):
        row = next(rows)
        numbers[row, layout.MAX_NORM] = layer.max_norm or 0.0
        if isinstance(layer, Dense):
            numbers[row, layout.ALPHA] = _alpha_of(layer)
            table[row, layout.FUNCTION] = activation.address(dtype)
        else:
            row = next(rows)
        table[row, layout.DROPOUT] = round(layer.dropout * 2**32)
    return table, numbers


def _alpha_of(layer: Dense) -> float:
    return ACTIVATIONS[str(layer.activation)].alpha if layer.alpha is None else layer.alpha
