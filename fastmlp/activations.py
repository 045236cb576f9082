"""Names of the activations and the codes the kernels know them by."""

from __future__ import annotations

from dataclasses import dataclass

from .kernels import activations as codes


@dataclass(frozen=True)
class Activation:
    """An activation: its code in the kernels and its parameter, if it has one."""

    code: int
    alpha: float = 0.0


ACTIVATIONS = {
    "identity": Activation(codes.IDENTITY),
    "sigmoid": Activation(codes.SIGMOID),
    "tanh": Activation(codes.TANH),
    "relu": Activation(codes.RELU),
    "leaky_relu": Activation(codes.LEAKY_RELU, alpha=0.01),
    "elu": Activation(codes.ELU, alpha=1.0),
    "softmax": Activation(codes.SOFTMAX),
}
