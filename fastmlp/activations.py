"""Names of the activations and the codes the kernels know them by; and activations of one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .custom import UserFunction, activation_function
from .kernels import activations as codes


@dataclass(frozen=True)
class Activation:
    """An activation: its code in the kernels, its parameter and the user's functions, if it has them."""

    code: int
    alpha: float = 0.0
    function: UserFunction | None = None

    def address(self, dtype: np.dtype[Any]) -> int:
        """Address of the user's function; 0 for an activation of the kernels."""
        return 0 if self.function is None else self.function.address(dtype)


ACTIVATIONS = {
    "identity": Activation(codes.IDENTITY),
    "sigmoid": Activation(codes.SIGMOID),
    "tanh": Activation(codes.TANH),
    "relu": Activation(codes.RELU),
    "leaky_relu": Activation(codes.LEAKY_RELU, alpha=0.01),
    "prelu": Activation(codes.PRELU, alpha=0.25),
    "elu": Activation(codes.ELU, alpha=1.0),
    "selu": Activation(codes.SELU),
    "gelu": Activation(codes.GELU),
    "silu": Activation(codes.SILU),
    "softplus": Activation(codes.SOFTPLUS),
    "exponential": Activation(codes.EXPONENTIAL),
    "softmax": Activation(codes.SOFTMAX),
    "step": Activation(codes.STEP),
    "sign": Activation(codes.SIGN),
}


# From which number to which the outputs go, where that is not all of them.
RANGES = {
    "sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, np.inf), "softplus": (0.0, np.inf),
    "exponential": (0.0, np.inf), "step": (0.0, 1.0), "sign": (-1.0, 1.0),
}

# Those whose derivative is 0 everywhere.
FLAT = ("step", "sign")


def register_activation(name: str, value: Callable[[float], float], derivative: Callable[[float], float]) -> None:
    """Make an activation of one's own known by a name.

    Models hold the name only: before one is loaded from a file, or in another process, the name must be registered.

    Parameters
    ----------
    name : str
        How layers will know it; a name that was registered may be registered anew, for the models made after that.
    value : function
        f(z): a number in, a number out. Numba compiles it, so it may use arithmetic, conditions and `math`. A
        division by 0 gives infinity or NaN. Where the function raises an exception all the same, in training or
        prediction, the unit's output is NaN, and training ends as it does where the loss is not finite.
    derivative : function
        f'(z), in the same way.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of its kind, if the name is one of fastmlp's own, or if the derivative does not agree with
        difference quotients of the value from -4 to 4; kinks are passed over.

    Examples
    --------
    >>> register_activation("cube", lambda z: z**3, lambda z: 3 * z**2)
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"name must be a str, got {name!r}")
    if name in ACTIVATIONS and ACTIVATIONS[name].function is None:
        raise ValueError(f"name must not be that of an activation of fastmlp, got {name!r}")
    ACTIVATIONS[name] = Activation(codes.CUSTOM, function=activation_function(value, derivative))
