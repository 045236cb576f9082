"""Descriptions of layers: plain data, from which a model is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .activations import ACTIVATIONS
from .initializers import check_initializer
from .validation import check_choice, check_flag, check_integer, check_number

MAX_UNITS = 1 << 24  # a limit that keeps sizes in bytes far from overflow
MAX_DROPOUT = 0.999


def _check_shared(layer: Any) -> None:
    """Check what all kinds of layers have."""
    object.__setattr__(layer, "units", check_integer("units", layer.units, low=1, high=MAX_UNITS))
    object.__setattr__(layer, "dropout", check_number("dropout", layer.dropout, low=0.0, high=MAX_DROPOUT))
    if layer.max_norm is not None:
        object.__setattr__(layer, "max_norm", check_number("max_norm", layer.max_norm, low=0.0, above=True))
    check_initializer(layer.initializer)


@dataclass(frozen=True)
class Dense:
    """A fully connected layer: ``f(x W + b)``.

    Parameters
    ----------
    units : int
        Number of units, at least 1.
    activation : str, optional
        A name of `fastmlp.activations.ACTIVATIONS`, or one that `register_activation` made known; by default the
        model's: its `activation` in hidden layers, its `output` in the last.
    alpha : float, optional
        Slope of "leaky_relu" for negative inputs (default 0.01), alpha of "elu" (default 1.0), or slope that "prelu"
        begins with (default 0.25); from 0 to 10.
    initializer : str
        How weights are drawn: "auto" (He normal for relu, leaky_relu, prelu, elu, gelu and silu, LeCun normal for selu,
        else Glorot uniform), or a name of `fastmlp.initializers.INITIALIZERS`. Biases begin at zero.
    dropout : float
        Probability that an output is set to zero in training, from 0 (default) to 0.999; those that are left are
        divided by 1 - dropout, so that nothing is to be done in prediction (Srivastava et al., 2014). Not for softmax,
        nor for the last layer.
    max_norm : float, optional
        Largest Euclidean norm of the weights into a unit: after each update longer ones are shortened to it
        (Srivastava et al., 2014, section 5.1). By default any.
    shared : bool
        Whether all units of a "prelu" layer share one slope; default False, a slope for each.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, or not allowed.
    """

    units: int
    activation: str | None = None
    alpha: float | None = None
    initializer: str = "auto"
    dropout: float = 0.0
    max_norm: float | None = None
    shared: bool = False

    def __post_init__(self) -> None:
        _check_shared(self)
        if self.activation is not None:
            check_choice("activation", self.activation, ACTIVATIONS)
        if self.alpha is not None:
            if self.activation not in ("leaky_relu", "elu", "prelu"):
                raise ValueError("alpha is a parameter of leaky_relu, elu and prelu, got "
                                 f"activation={self.activation!r}")
            object.__setattr__(self, "alpha", check_number("alpha", self.alpha, low=0.0, high=10.0))
        object.__setattr__(self, "shared", check_flag("shared", self.shared))
        if self.shared and self.activation != "prelu":
            raise ValueError(f"shared is a parameter of prelu, got activation={self.activation!r}")
        if self.dropout and self.activation == "softmax":
            raise ValueError("dropout must be 0 in a layer with activation 'softmax', whose outputs sum to 1, got "
                             f"{self.dropout!r}")


@dataclass(frozen=True)
class Maxout:
    """A layer whose units each give the largest of several weighted sums of the inputs (Goodfellow et al., 2013).

    Its weights are an array (inputs, pieces * units) and its biases one of (pieces * units,): the first `units` columns
    are those of the first piece, and so on. It can be any layer but the last.

    Parameters
    ----------
    units : int
        Number of units, at least 1.
    pieces : int
        Number of sums that a unit takes the largest of, from 2 (default) to 64.
    initializer, dropout, max_norm
        As in `Dense`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, or not allowed.
    """

    units: int
    pieces: int = 2
    initializer: str = "auto"
    dropout: float = 0.0
    max_norm: float | None = None

    def __post_init__(self) -> None:
        _check_shared(self)
        object.__setattr__(self, "pieces", check_integer("pieces", self.pieces, low=2, high=64))


Layer = Dense | Maxout
