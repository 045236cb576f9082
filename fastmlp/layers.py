"""Descriptions of layers: plain data, from which a model is built."""

from __future__ import annotations

from dataclasses import dataclass

from .activations import ACTIVATIONS
from .initializers import check_initializer
from .validation import check_choice, check_integer, check_number


@dataclass(frozen=True)
class Dense:
    """A fully connected layer: ``f(x W + b)``.

    Parameters
    ----------
    units : int
        Number of units, at least 1.
    activation : str, optional
        "identity", "sigmoid", "tanh", "relu", "leaky_relu", "elu" or "softmax"; by default the model's: its
        `activation` in hidden layers, its `output` in the last.
    alpha : float, optional
        Slope of "leaky_relu" for negative inputs (default 0.01), or alpha of "elu" (default 1.0); from 0 to 10.
    initializer : str
        How weights are drawn: "auto" (He normal for relu, leaky relu and elu; else Glorot uniform), or a name of
        `fastmlp.initializers.INITIALIZERS`. Biases begin at zero.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, or not allowed.
    """

    units: int
    activation: str | None = None
    alpha: float | None = None
    initializer: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", check_integer("units", self.units, low=1, high=MAX_UNITS))
        if self.activation is not None:
            check_choice("activation", self.activation, ACTIVATIONS)
        if self.alpha is not None:
            if self.activation not in ("leaky_relu", "elu"):
                raise ValueError(f"alpha is a parameter of leaky_relu and elu, got activation={self.activation!r}")
            object.__setattr__(self, "alpha", check_number("alpha", self.alpha, low=0.0, high=10.0))
        check_initializer(self.initializer)


MAX_UNITS = 1 << 24  # a limit that keeps sizes in bytes far from overflow
