"""Losses as users give them: by name or as an instance, and nothing else."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from fastmlp import MLP, CrossEntropy, Huber, Trainer, losses
from fastmlp.losses import LOSSES, Loss, MeanSquaredError, check_loss


class WithACode(MeanSquaredError):
    code = 100


class Plain(Huber):
    pass


@pytest.mark.parametrize("loss", [WithACode(), Plain(2.0), Loss(), MeanSquaredError, 3, None])
def test_only_fastmlp_s_own_classes_are_taken(loss: Any) -> None:
    """The kernels take a code they do not know for an address, and call what lies there."""
    model = MLP([4, 1], output="identity")
    allowed = "^loss must be one of .*, or an instance such as .*register_loss"
    for call in (lambda: check_loss(loss, "identity"), lambda: Trainer(model, loss),
                 lambda: model.loss_and_gradients(np.zeros((2, 4)), np.zeros((2, 1)), loss)):
        with pytest.raises(TypeError, match=f"{allowed}.*got {re.escape(repr(loss))}"):
            call()


def test_a_maker_in_the_registry_may_make_nothing_else_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "own", WithACode)
    with pytest.raises(TypeError, match=r"^loss must be one of"):
        check_loss("own", "identity")


def test_names_and_instances_are_taken() -> None:
    for name, kind in LOSSES.items():
        output = kind().output or "identity"
        assert check_loss(name, output) == check_loss(kind(), output) == kind()
    assert check_loss(losses.Huber(2.0), "identity").parameter == 2.0


@pytest.mark.parametrize("number", [Fraction(1, 2), np.float32(0.5), np.longdouble(0.5), 0.5])
def test_numbers_are_kept_as_floats(number: Any, tmp_path: Any) -> None:
    for loss in (Huber(number), CrossEntropy(number)):
        assert type(loss.parameter) is float and loss.parameter == 0.5
        assert loss == type(loss)(0.5) and repr(loss) == repr(type(loss)(0.5))
    Trainer(MLP([4, 2]), CrossEntropy(number)).save(tmp_path / "c")
    assert Trainer.load(tmp_path / "c").loss == CrossEntropy(0.5)
