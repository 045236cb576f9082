"""What training leaves behind, in a form that can be compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp import Trainer


def bits(trainer: Trainer) -> list[bytes]:
    """All that training changes: the weights and the optimizer's state."""
    return [*(array.tobytes() for array in trainer.model.get_weights()), trainer._state.tobytes()]


def records_of(trainer: Trainer) -> str:
    """The history, but for what depends on the clock. As text, so that NaN equals NaN."""
    return repr([{name: value for name, value in record.items() if name != "samples_per_second"}
                 for record in trainer.history])


def assert_equal_weights(one: Any, other: Any) -> None:
    """Two estimators have the same weights."""
    for a, b in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)
