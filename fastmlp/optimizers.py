"""Optimizers: plain data that names an update rule of the kernels and holds its constants.

The formulas and their sources are in `fastmlp.kernels.updates`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .kernels import updates as codes
from .validation import check_number


@dataclass(frozen=True)
class Optimizer:
    """Base class: the code of the update in the kernels and its settings, two decay rates and an epsilon."""

    code: ClassVar[int]

    @property
    def slots(self) -> int:
        """Number of state vectors, each as long as the parameters."""
        return codes.STATE_SLOTS[self.code]

    def settings(self) -> tuple[float, float, float]:
        """Return the two decay rates and the epsilon that the kernels take; zero for those a rule does not have."""
        return 0.0, 0.0, 0.0


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent: w <- w - r g."""

    code: ClassVar[int] = codes.SGD


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Gradient descent with momentum: v <- mu v - r g; w <- w + v (Polyak, 1964).

    Parameters
    ----------
    momentum : float
        mu, at least 0 and below 1; default 0.9.
    """

    momentum: float = 0.9
    code: ClassVar[int] = codes.MOMENTUM

    def __post_init__(self) -> None:
        check_number("momentum", self.momentum, low=0.0, high=1.0, below=True)

    def settings(self) -> tuple[float, float, float]:
        """Return the two decay rates and the epsilon that the kernels take."""
        return self.momentum, 0.0, 0.0


@dataclass(frozen=True)
class Nesterov(Momentum):
    """Nesterov's accelerated gradient: v <- mu v - r g; w <- w + mu v - r g (Sutskever et al., 2013).

    Parameters
    ----------
    momentum : float
        mu, at least 0 and below 1; default 0.9.
    """

    code: ClassVar[int] = codes.NESTEROV


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015, algorithm 1).

    Parameters
    ----------
    beta_1, beta_2 : float
        Decay rates of the first and second moment, at least 0 and below 1; default 0.9 and 0.999.
    epsilon : float
        Added to the square root of the second moment, from 1e-16 to 1e3; default 1e-8.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    code: ClassVar[int] = codes.ADAM

    def __post_init__(self) -> None:
        check_number("beta_1", self.beta_1, low=0.0, high=1.0, below=True)
        check_number("beta_2", self.beta_2, low=0.0, high=1.0, below=True)
        check_number("epsilon", self.epsilon, low=1e-16, high=1e3)

    def settings(self) -> tuple[float, float, float]:
        """Return the two decay rates and the epsilon that the kernels take."""
        return self.beta_1, self.beta_2, self.epsilon


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "momentum": Momentum, "nesterov": Nesterov, "adam": Adam}


def check_optimizer(optimizer: Any) -> Optimizer:
    """Return an optimizer from its name, with default settings, or from an instance."""
    allowed = f"one of {', '.join(map(repr, OPTIMIZERS))}, or an instance of SGD, Momentum, Nesterov or Adam"
    if isinstance(optimizer, (SGD, Momentum, Adam)):
        return optimizer
    if not isinstance(optimizer, str):
        raise TypeError(f"optimizer must be {allowed}, got {optimizer!r}")
    if optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer must be {allowed}, got {optimizer!r}")
    return OPTIMIZERS[optimizer]()
