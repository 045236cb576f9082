"""The compiled calls that a trainer trains with: made for its settings, and kept for the next time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import engine
from .kernels import layout
from .kernels.updates import (
    CLIP_NORM,
    CLIP_VALUE,
    DECAYS_BIASES,
    L1,
    L2,
    L2_OF_SUM,
    LOSS_SCALE,
    OF_OPTIMIZER,
    WEIGHT_DECAY,
)
from .threads import get_num_threads

if TYPE_CHECKING:
    from .trainer import Trainer


class TrainingCalls:
    """Makes the calls that a trainer needs, and keeps that of the last `step` and that of the last `fit`.

    To make one takes a third of a millisecond, in which a small network is trained for hundreds of steps.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.of_step: engine.Call | None = None
        self.of_fit: dict[tuple[Any, ...], engine.Call] = {}  # one at most, by what it is for

    def make(self, batch: int, samples: int, *, gradients: bool = False) -> engine.Call:
        """Make a call for steps of `batch` rows with the trainer's optimizer and its state."""
        trainer = self.trainer
        pass_rows = trainer.batch_size if trainer.accumulation > 1 else None
        call = engine.training_call(trainer.model.network, batch, gradients=gradients or trainer.clip_norm > 0.0,
                                    pass_rows=pass_rows, augmentation=trainer.augmentation)
        self.set_optimizer(call)
        call.keep(layout.ORDER, np.arange(samples))
        call.context[layout.ORDER_EPOCH] = -1
        return call

    def for_step(self, rows: int) -> engine.Call:
        """Return a call for a single step: that of the last one, if it was for as many rows."""
        call, clips = self.of_step, self.trainer.clip_norm > 0.0
        if call is None or call.context[layout.ROWS] != rows or clips > bool(call.context[layout.GRADIENTS]):
            call = self.of_step = self.make(rows, rows)
        else:
            self.set_optimizer(call)
        return call

    def take_for_fit(self, batch: int, samples: int) -> tuple[engine.Call, tuple[Any, ...]]:
        """Take a call for `fit`, and what it is for; it is that of the last `fit` if that was for the same.

        When `fit` is over, it is to be put back with `keep_of_fit`.
        """
        trainer = self.trainer
        purpose = (id(trainer.model.network), batch, samples, trainer.batch_size, trainer.accumulation,
                   trainer.clip_norm > 0.0, get_num_threads())
        call, self.of_fit = self.of_fit.get(purpose), {}
        if call is None:
            call = self.make(batch, samples)
            call.note_as_made()
        else:
            call.kept(layout.ORDER)[:] = np.arange(samples)
            self.set_optimizer(call)
        return call, purpose

    def keep_of_fit(self, call: engine.Call, purpose: tuple[Any, ...]) -> None:
        call.renew()
        self.of_fit = {purpose: call}

    def set_optimizer(self, call: engine.Call) -> None:
        """Set what of a call comes from the trainer's settings and from the state of its optimizer."""
        trainer = self.trainer
        call.keep(layout.STATE, trainer._state)
        call.context[layout.SEED] = trainer.seed
        call.context[layout.OPTIMIZER] = trainer.optimizer.code
        settings = call.kept(layout.SETTINGS)
        settings[L1], settings[L2], settings[WEIGHT_DECAY] = trainer.l1, trainer.l2, trainer.weight_decay
        settings[CLIP_NORM], settings[CLIP_VALUE] = trainer.clip_norm, trainer.clip_value
        settings[DECAYS_BIASES] = trainer.regularise_biases
        settings[LOSS_SCALE], settings[L2_OF_SUM] = trainer._loss_scale, trainer._l2_of_sum
        settings[OF_OPTIMIZER] = trainer.optimizer.settings()
        call.context[layout.DEFERRED] = trainer.clip_norm > 0.0
        call.disturb_inputs(trainer.input_dropout, trainer.input_noise)
