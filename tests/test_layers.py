"""Descriptions of layers, and the tables of names behind them."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fastmlp.activations import ACTIVATIONS
from fastmlp.initializers import INITIALIZERS
from fastmlp.kernels import activations as codes
from fastmlp.layers import MAX_UNITS, Dense


def test_defaults() -> None:
    layer = Dense(5)
    assert (layer.units, layer.activation, layer.alpha, layer.initializer) == (5, None, None, "auto")


def test_every_activation_is_taken() -> None:
    assert [Dense(2, name).activation for name in ACTIVATIONS] == list(ACTIVATIONS)


def test_every_initializer_is_taken() -> None:
    for name in ("auto", *INITIALIZERS):
        assert Dense(2, initializer=name).initializer == name


def test_activations_have_the_codes_of_the_kernels_and_the_usual_parameters() -> None:
    expected = {
        "identity": (codes.IDENTITY, 0.0), "sigmoid": (codes.SIGMOID, 0.0), "tanh": (codes.TANH, 0.0),
        "relu": (codes.RELU, 0.0), "leaky_relu": (codes.LEAKY_RELU, 0.01), "elu": (codes.ELU, 1.0),
        "softmax": (codes.SOFTMAX, 0.0), "selu": (codes.SELU, 0.0), "softplus": (codes.SOFTPLUS, 0.0),
        "exponential": (codes.EXPONENTIAL, 0.0), "step": (codes.STEP, 0.0), "sign": (codes.SIGN, 0.0),
        "gelu": (codes.GELU, 0.0), "silu": (codes.SILU, 0.0), "prelu": (codes.PRELU, 0.25),
    }
    assert {name: (entry.code, entry.alpha) for name, entry in ACTIVATIONS.items()} == expected


def test_numbers_become_plain_ones() -> None:
    layer = Dense(np.int16(7), "elu", alpha=np.float32(0.5))
    assert type(layer.units) is int
    assert type(layer.alpha) is float
    assert layer == Dense(7, "elu", 0.5)


def test_a_description_is_frozen_data() -> None:
    assert Dense(3, "relu") == Dense(3, "relu") != Dense(3, "tanh")
    assert len({Dense(3), Dense(3), Dense(4)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Dense(3).units = 4  # type: ignore[misc]


@pytest.mark.parametrize(("activation", "alpha"), [("leaky_relu", 0.0), ("leaky_relu", 10), ("elu", 0.3)])
def test_alpha_of_those_that_have_one(activation: str, alpha: float) -> None:
    assert Dense(3, activation, alpha).alpha == alpha


@pytest.mark.parametrize(("arguments", "error", "name"), [
    ({"units": 0}, ValueError, "units"),
    ({"units": -3}, ValueError, "units"),
    ({"units": MAX_UNITS + 1}, ValueError, "units"),
    ({"units": 10**12}, ValueError, "units"),
    ({"units": 3.0}, TypeError, "units"),
    ({"units": "3"}, TypeError, "units"),
    ({"units": None}, TypeError, "units"),
    ({"units": True}, TypeError, "units"),
    ({"units": 3, "activation": "swish"}, ValueError, "activation"),
    ({"units": 3, "activation": "ReLU"}, ValueError, "activation"),
    ({"units": 3, "activation": 2}, TypeError, "activation"),
    ({"units": 3, "activation": np.tanh}, TypeError, "activation"),
    ({"units": 3, "activation": "relu", "alpha": 0.1}, ValueError, "alpha"),
    ({"units": 3, "alpha": 0.1}, ValueError, "alpha"),
    ({"units": 3, "activation": "elu", "alpha": -0.1}, ValueError, "alpha"),
    ({"units": 3, "activation": "elu", "alpha": 10.5}, ValueError, "alpha"),
    ({"units": 3, "activation": "elu", "alpha": float("nan")}, ValueError, "alpha"),
    ({"units": 3, "activation": "elu", "alpha": 10**400}, ValueError, "alpha"),
    ({"units": 3, "activation": "leaky_relu", "alpha": "0.1"}, TypeError, "alpha"),
    ({"units": 3, "initializer": "xavier"}, ValueError, "initializer"),
    ({"units": 3, "initializer": ["zeros"]}, (TypeError, ValueError), "initializer"),
    ({"units": 3, "initializer": None}, (TypeError, ValueError), "initializer"),
])
def test_arguments_are_checked_and_named(arguments: dict[str, Any], error: type[Exception], name: str) -> None:
    with pytest.raises(error) as caught:
        Dense(**arguments)
    assert str(caught.value).startswith(name)


def test_what_was_given_is_kept_as_plain_numbers_and_flags() -> None:
    """So that a model of it can be saved."""
    layer = Dense(np.int64(3), "prelu", Fraction(1, 4), dropout=np.longdouble(0.5),  # type: ignore[arg-type]
                  max_norm=np.float32(2), shared=np.True_)  # type: ignore[arg-type]
    assert json.dumps(dataclasses.asdict(layer)) == json.dumps(
        dataclasses.asdict(Dense(3, "prelu", 0.25, dropout=0.5, max_norm=2.0, shared=True)))
