"""Names of the losses, the codes the kernels know them by, and the targets each one takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .arrays import Source, as_numeric, check_labels, check_targets
from .kernels import losses as codes
from .validation import check_choice


@dataclass(frozen=True)
class Loss:
    """A loss: its code in the kernels and the output activation it needs, None for any."""

    name: str
    code: int
    output: str | None

    @property
    def counts_hits(self) -> bool:
        """Whether an accuracy goes with the loss."""
        return self.output is not None

    def check_targets(self, y: Any, rows: int, outputs: int, dtype: np.dtype[Any]) -> Source:
        """Check the argument y and describe it to the kernels.

        Cross entropy takes integer labels (rows,) or probabilities (rows, outputs), the other losses real numbers
        (rows, outputs), for binary cross entropy from 0 to 1.
        """
        if self.code == codes.CROSS_ENTROPY:
            if as_numeric("y", y, "labels or probabilities").ndim == 2:
                return check_targets(y, rows, outputs, dtype, low=0.0, high=1.0, distribution=True)
            return check_labels(y, rows, outputs)
        if self.code == codes.BINARY_CROSS_ENTROPY:
            return check_targets(y, rows, outputs, dtype, low=0.0, high=1.0)
        return check_targets(y, rows, outputs, dtype)


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("cross_entropy", codes.CROSS_ENTROPY, "softmax"),
        Loss("binary_cross_entropy", codes.BINARY_CROSS_ENTROPY, "sigmoid"),
        Loss("half_squared_error", codes.HALF_SQUARED_ERROR, None),
        Loss("mean_squared_error", codes.MEAN_SQUARED_ERROR, None),
    )
}


def check_loss(name: Any, output: str) -> Loss:
    """Return the loss called `name`, if it goes with the output activation `output`."""
    loss = LOSSES[check_choice("loss", name, LOSSES)]
    if loss.output is not None and loss.output != output:
        raise ValueError(f"loss {loss.name!r} needs a model with output={loss.output!r}, got output={output!r}")
    return loss
