"""What an estimator minimises and what it reports: losses and scores as scikit-learn defines them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..losses import LOSSES, Loss, check_loss
from ..validation import check_choice
from .parameters import checks_parameters

Array = NDArray[Any]

NOT_FINITE = ("Solver produced non-finite parameter weights. The input data may contain large values and need to be "
              "preprocessed.")  # the tests of scikit-learn's users go by this text


@dataclass(frozen=True)
class Reported:
    """How the loss that an estimator reports follows from that of the kernels.

    Parameters
    ----------
    factor : float
        On the kernels' loss: a mean over the outputs may have to become a sum, or the other way round.
    offsets : float64 array of shape (n,), optional
        What the targets alone add to the loss of each row; none by default.
    """

    factor: float = 1.0
    offsets: NDArray[np.float64] | None = None

    def mean(self, loss: float, weights: NDArray[np.float64] | None) -> float:
        """Return the mean loss over all rows from the kernels' mean."""
        offset = 0.0 if self.offsets is None else float(np.average(self.offsets, weights=weights))
        return self.factor * loss + offset


@dataclass(frozen=True)
class Objective:
    """What is minimised.

    Parameters
    ----------
    loss : Loss
    output : str
        Our name of the output activation.
    outputs : int
        Number of outputs.
    scale : float
        Factor on the loss, and so on its gradient.
    factor : float
        Factor on the loss that is reported.
    offset : function of the targets (n, outputs), optional
        Returns what is added to the reported loss of each row.
    """

    loss: Loss
    output: str
    outputs: int
    scale: float = 1.0
    factor: float = 1.0
    offset: Callable[[Array], NDArray[np.float64]] | None = None

    def reported(self, y: Array) -> Reported:
        """Return how the loss on these targets is reported."""
        return Reported(self.factor, None if self.offset is None else self.offset(y))


def poisson_offset(y: Array) -> NDArray[np.float64]:
    """Return sum t log t - t for targets (n, outputs): half the deviance is that beside sum a - t log a."""
    t = y.astype(np.float64)
    logs = np.log(t, out=np.zeros_like(t), where=t > 0)
    return np.asarray((t * logs - t).sum(axis=1))


@checks_parameters()
def loss_of_fastmlp(loss: Any, theirs: set[str], default: str) -> Loss:
    """Return a loss from one of our names or an instance; `default` is the output if it does not need another."""
    if isinstance(loss, str):
        loss = LOSSES[check_choice("loss", loss, {*theirs, *LOSSES})]()
    output = loss.output if isinstance(loss, Loss) and loss.output is not None else default
    return check_loss(loss, output)


def r2_score(y: Array, outputs: Array, weights: Array | None) -> float:
    """Return the mean over the outputs of the coefficient of determination; NaN if an output is not finite.

    An output whose targets are all the same counts 1 if it is right everywhere, else 0. A fraction of the time that
    `sklearn.metrics.r2_score` takes, which would show in every epoch of a small set.
    """
    if not np.isfinite(outputs).all() or len(y) < 2:
        return float("nan")
    w = np.ones((len(y), 1)) if weights is None else weights[:, np.newaxis]
    with np.errstate(over="ignore", invalid="ignore"):  # shortly before training diverges
        missing = (w * (y - outputs) ** 2).sum(axis=0)
        total = (w * (y - (w * y).sum(axis=0) / w.sum()) ** 2).sum(axis=0)
        shares = np.divide(missing, total, where=total > 0, out=(missing > 0).astype(np.float64))
        return float((1.0 - shares).mean())
