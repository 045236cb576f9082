"""Optimizers as users name them: defaults, checks, and what they tell the kernels."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, Trainer
from fastmlp.kernels import updates
from fastmlp.optimizers import (
    LBFGS,
    OPTIMIZERS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Momentum,
    NAdam,
    Nesterov,
    Optimizer,
    RMSprop,
    check_optimizer,
)


@pytest.mark.parametrize(("name", "kind", "code", "slots"), [
    ("sgd", SGD, updates.SGD, 0),
    ("momentum", Momentum, updates.MOMENTUM, 1),
    ("nesterov", Nesterov, updates.NESTEROV, 1),
    ("adam", Adam, updates.ADAM, 2),
    ("adamw", AdamW, updates.ADAM, 2),
    ("nadam", NAdam, updates.NADAM, 2),
    ("adagrad", Adagrad, updates.ADAGRAD, 1),
    ("adadelta", Adadelta, updates.ADADELTA, 2),
    ("rmsprop", RMSprop, updates.RMSPROP, 2),
])
def test_names_codes_and_slots(name: str, kind: type[Optimizer], code: int, slots: int) -> None:
    optimizer = check_optimizer(name)
    assert type(optimizer) is kind
    assert optimizer == kind()
    assert optimizer.code == code
    assert optimizer.slots == slots
    assert OPTIMIZERS[name] is kind


def test_all_optimizers_are_public_and_have_codes_of_their_own() -> None:
    assert list(OPTIMIZERS) == ["sgd", "momentum", "nesterov", "adam", "adamw", "nadam", "adagrad", "adadelta",
                                "rmsprop"]
    assert len({kind.code for kind in OPTIMIZERS.values()}) == len(OPTIMIZERS) - 1  # AdamW has Adam's
    for kind in OPTIMIZERS.values():
        assert getattr(fastmlp, kind.__name__) is kind


def test_settings_are_two_decay_rates_and_epsilons_with_the_usual_defaults() -> None:
    assert SGD().settings() == (0.0, 0.0, 0.0, 0.0)
    assert Momentum().settings() == (0.9, 0.0, 0.0, 0.0)
    assert Nesterov(0.5).settings() == (0.5, 0.0, 0.0, 0.0)
    assert Adam().settings() == (0.9, 0.999, 1e-8, 0.0)
    for kind in (Adam, AdamW, NAdam):
        assert kind(beta_1=0.8, beta_2=0.99, epsilon=1e-7).settings() == (0.8, 0.99, 1e-7, 0.0)
        assert kind(epsilon_hat=True).settings() == (0.9, 0.999, 1e-8, 1.0)
    assert AdamW().settings() == NAdam().settings() == Adam().settings()
    assert Adagrad().settings() == (0.0, 0.0, 1e-10, 0.0)
    assert Adagrad(epsilon=1e-7).settings() == (0.0, 0.0, 1e-7, 0.0)
    assert Adadelta().settings() == (0.0, 0.9, 1e-6, 0.0)
    assert Adadelta(rho=0.95, epsilon=1e-7).settings() == (0.0, 0.95, 1e-7, 0.0)
    assert RMSprop().settings() == (0.0, 0.99, 1e-8, 0.0)
    assert RMSprop(decay=0.9, epsilon=1e-7, momentum=0.5).settings() == (0.5, 0.9, 1e-7, 0.0)


def test_only_adamw_has_a_decay_of_weights() -> None:
    assert AdamW().weight_decay == 0.01
    assert AdamW(weight_decay=0).weight_decay == 0
    for name, kind in OPTIMIZERS.items():
        assert (kind().weight_decay > 0) == (name == "adamw")


class WithoutSlots(Adam):
    """Of which the kernels would write the state where there is none."""

    slots = 0  # type: ignore[assignment]


class Plain(SGD):
    pass


def test_an_instance_is_taken_as_it_is() -> None:
    optimizer = Adam(beta_1=0.8)
    assert check_optimizer(optimizer) is optimizer


def test_optimizers_are_plain_frozen_data() -> None:
    assert Momentum(0.5) == Momentum(0.5) != Momentum(0.6)
    assert Momentum(0.5) != Nesterov(0.5)
    assert repr(Adam()) == "Adam(beta_1=0.9, beta_2=0.999, epsilon=1e-08, epsilon_hat=False)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        Adam().beta_1 = 0.5  # type: ignore[misc]


@pytest.mark.parametrize("kind", [Momentum, Nesterov])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.999999, 1.0, 0, 1])
def test_momentum_from_zero_to_one(kind: type[Momentum], momentum: float) -> None:
    assert kind(momentum).settings()[0] == momentum


@pytest.mark.parametrize(("kind", "arguments", "error"), [
    (Momentum, {"momentum": 1.001}, ValueError),
    (Momentum, {"momentum": -0.1}, ValueError),
    (Momentum, {"momentum": float("nan")}, ValueError),
    (Momentum, {"momentum": "0.9"}, TypeError),
    (Nesterov, {"momentum": 1.5}, ValueError),
    (Nesterov, {"momentum": None}, TypeError),
    (Adam, {"beta_1": 1.0}, ValueError),
    (Adam, {"beta_1": -1e-9}, ValueError),
    (Adam, {"beta_1": True}, TypeError),
    (Adam, {"beta_2": 1}, ValueError),
    (Adam, {"beta_2": float("inf")}, ValueError),
    (Adam, {"beta_2": [0.9]}, TypeError),
    (Adam, {"epsilon": 0.0}, ValueError),
    (Adam, {"epsilon": -1e-8}, ValueError),
    (Adam, {"epsilon": float("inf")}, ValueError),
    (Adam, {"epsilon": "tiny"}, TypeError),
    (AdamW, {"beta_1": 1.0}, ValueError),
    (AdamW, {"epsilon": 0.0}, ValueError),
    (AdamW, {"weight_decay": -0.01}, ValueError),
    (AdamW, {"weight_decay": float("inf")}, ValueError),
    (AdamW, {"weight_decay": None}, TypeError),
    (NAdam, {"beta_1": 1.0}, ValueError),
    (NAdam, {"beta_2": "0.9"}, TypeError),
    (NAdam, {"epsilon": 0}, ValueError),
    (Adagrad, {"epsilon": 0.0}, ValueError),
    (Adagrad, {"epsilon": True}, TypeError),
    (Adadelta, {"rho": 1.0}, ValueError),
    (Adadelta, {"rho": None}, TypeError),
    (Adadelta, {"epsilon": 0.0}, ValueError),
    (RMSprop, {"decay": 1.0}, ValueError),
    (RMSprop, {"decay": "0.9"}, TypeError),
    (RMSprop, {"epsilon": -1e-8}, ValueError),
    (RMSprop, {"momentum": 1.0}, ValueError),
    (RMSprop, {"momentum": -0.5}, ValueError),
])
def test_settings_are_checked_and_named(kind: type[Optimizer], arguments: dict[str, Any],
                                        error: type[Exception]) -> None:
    [(name, value)] = arguments.items()
    with pytest.raises(error) as caught:
        kind(**arguments)
    assert str(caught.value).startswith(f"{name} must be a finite number")
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(("value", "error"), [
    ("Adam", ValueError), ("RMSprop", ValueError), ("", ValueError),
    (None, TypeError), (3, TypeError), (Adam, TypeError), (object(), TypeError), (Optimizer(), TypeError),
    (WithoutSlots(), TypeError), (Plain(), TypeError),
])
def test_anything_else_is_refused_and_told_what_there_is(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^optimizer must be one of 'sgd', .*'rmsprop', or an instance of SGD, .*RMSprop"):
        check_optimizer(value)


@pytest.mark.parametrize("number", [Fraction(1, 2), np.float32(0.5), np.longdouble(0.5)])
def test_numbers_are_kept_as_floats(number: Any, tmp_path: Path) -> None:
    for kind in (*OPTIMIZERS.values(), LBFGS):
        names = [field.name for field in dataclasses.fields(kind) if field.type == "float"]
        optimizer = kind(**dict.fromkeys(names, number))
        assert optimizer == kind(**dict.fromkeys(names, 0.5))
        assert all(type(getattr(optimizer, name)) is float for name in names)
        Trainer(MLP([4, 2]), optimizer=optimizer).save(tmp_path / "c")
        assert Trainer.load(tmp_path / "c").optimizer == optimizer


def test_flags_and_counts_are_kept_as_plain_ones() -> None:
    assert type(Adam(epsilon_hat=np.True_).epsilon_hat) is bool  # type: ignore[arg-type]
    assert type(LBFGS(memory=np.int64(5)).memory) is int  # type: ignore[arg-type]
    assert type(LBFGS(max_evaluations=np.int64(5)).max_evaluations) is int  # type: ignore[arg-type]


def test_epsilon_hat_is_a_flag() -> None:
    with pytest.raises(TypeError, match=r"^epsilon_hat must be True or False, got 1$"):
        Adam(epsilon_hat=1)  # type: ignore[arg-type]
