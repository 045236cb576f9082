"""The training step in its parts, for loops written by hand: zero the gradients, forward, loss, backward, update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import engine
from .arrays import Source, Targets, check_inputs
from .kernels import layout

if TYPE_CHECKING:
    from .trainer import Trainer


class StepByHand:
    """What a trainer keeps between the parts of a step: the batch, its targets, and the sum of the gradients.

    The gradient is computed by the same kernels as in `Trainer.fit`, and the update is made from it by the same
    ones: the weights have the same bits.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.gradients: NDArray[Any] | None = None
        self.source: Source | None = None
        self.targets: Targets | None = None
        self.rows_of_update = 0  # rows of `backward` since the last update: each has random numbers of its own
        self._call: engine.Call | None = None

    def forward(self, X: Any) -> NDArray[Any]:
        model = self.trainer.model
        self.source, self.targets = check_inputs(X, model.inputs, model.dtype), None
        return model.forward(X)

    def compute_loss(self, y: Any, sample_weight: Any) -> float:
        trainer, source = self.trainer, self.source
        if source is None:
            raise ValueError("compute_loss needs outputs: call forward(X) before it")
        model = trainer.model
        self.targets = trainer.loss.check_targets(y, source.rows, model.outputs, model.dtype, sample_weight)
        loss, _ = engine.evaluate(model.network, source, self.targets)
        return loss

    def backward(self) -> None:
        if self.source is None or self.targets is None:
            raise ValueError("backward needs a loss: call forward(X) and compute_loss(y) before it")
        call = self._prepared(self.source.rows, layout.GRADIENT)
        call.set_inputs(self.source)
        call.set_targets(self.targets)
        gradients = call.kept(layout.GRADIENTS)
        count = len(self.trainer.model.network.parameters)
        call.context[layout.ACCUMULATE] = self.gradients is not None
        call.context[layout.FIRST_ROW] = self.rows_of_update
        if self.gradients is not None:
            gradients[:count] = self.gradients
        self._run(call, self.source.rows)
        call.forget_data()
        self.gradients = gradients[:count].copy()
        self.rows_of_update += self.source.rows

    def update(self, rates: NDArray[np.float64]) -> None:
        if self.gradients is None:
            raise ValueError("update needs gradients: call backward() before it")
        call = self._prepared(1 if self.source is None else self.source.rows, layout.UPDATE)
        call.kept(layout.GRADIENTS)[: len(self.gradients)] = self.gradients
        call.set_steps(0, rates)
        self._run(call, call.rows)
        self.trainer.steps += 1
        self.rows_of_update = 0

    def _prepared(self, rows: int, phase: int) -> engine.Call:
        """Return a call for a phase of a step of so many rows."""
        call, trainer = self._call, self.trainer
        if call is None or call.context[layout.ROWS] != rows:
            call = self._call = trainer._calls.make(rows, rows, gradients=True)
        trainer._calls.set_optimizer(call)
        call.context[layout.PHASES] = phase
        call.context[layout.DEFERRED] = 1
        call.context[layout.SAMPLES] = rows
        call.context[layout.UPDATES_BEFORE] = trainer.steps
        call.context[layout.NOT_FINITE] = 0
        call.set_steps(0, np.zeros(1))
        return call

    def _run(self, call: engine.Call, rows: int) -> None:
        call.train(engine.threads_for_call(rows * self.trainer.model.network.training_work))
