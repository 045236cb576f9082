"""What is measured: networks to train and to predict with, matrix products, and the targets they are held to."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..baseline import OUTPUT_LOSSES

Array = NDArray[Any]

# A timed call of training ends after about so many samples, steps or floating-point operations.
SAMPLES_PER_CALL = 100_000
STEPS_PER_CALL = 4_000
FLOPS_PER_CALL = 2e11


@dataclass(frozen=True)
class Case:
    """A network and how it is trained.

    Parameters
    ----------
    name : str
    sizes : tuple of int
        Number of inputs, then the units of each layer.
    batch_size, samples : int
        `samples` is a multiple of `batch_size`: every library makes the same steps.
    activation, output, optimizer : str
        Names as `fastmlp` knows them.
    learning_rate : float
    target : float, optional
        How many times as long as fastmlp the fastest of the others should take.
    """

    name: str
    sizes: tuple[int, ...]
    batch_size: int
    samples: int
    activation: str = "relu"
    output: str = "softmax"
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    target: float | None = None

    @property
    def loss(self) -> str:
        """Name of the loss that goes with the output."""
        return OUTPUT_LOSSES[self.output]

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.samples // self.batch_size)

    @property
    def flops_per_step(self) -> int:
        """Floating-point operations of the matrix products of one step."""
        return self.batch_size * flops_per_sample(self.sizes)

    @property
    def epochs_per_call(self) -> int:
        """Epochs of one timed call."""
        epochs = min(SAMPLES_PER_CALL / self.samples, STEPS_PER_CALL / self.steps_per_epoch,
                     FLOPS_PER_CALL / (self.flops_per_step * self.steps_per_epoch))
        return max(1, int(epochs))

    @property
    def description(self) -> str:
        """Layers, batch and activation; output and optimizer where they are not the usual ones."""
        parts = [network_name(self.sizes), f"batch {self.batch_size:,}", self.activation]
        parts += [f"{self.output} output"] * (self.output != "softmax")
        parts += [self.optimizer] * (self.optimizer != "adam")
        return ", ".join(parts)

    def data(self) -> tuple[Array, Array]:
        """Return normal inputs, and labels or values at random.

        Returns
        -------
        X : float32 array (samples, inputs)
        y : array
            int64 labels (samples,) with softmax output, else float32 (samples, outputs); 0 or 1 with sigmoid output.
        """
        rng = np.random.default_rng(0)
        X = rng.standard_normal((self.samples, self.sizes[0]), np.float32)
        if self.output == "softmax":
            return X, rng.integers(0, self.sizes[-1], self.samples)
        shape = (self.samples, self.sizes[-1])
        if self.output == "sigmoid":
            return X, rng.integers(0, 2, shape).astype(np.float32)
        return X, rng.standard_normal(shape, np.float32)


def network_name(sizes: tuple[int, ...]) -> str:
    """Return the sizes with hyphens; four layers or more of equal size in a row as ``8x16``."""
    parts = [str(sizes[0])]
    for units, run in groupby(sizes[1:]):
        layers = len(list(run))
        parts += [f"{layers}x{units}"] if layers >= 4 else [str(units)] * layers
    return "-".join(parts)


def flops_per_sample(sizes: tuple[int, ...]) -> int:
    """Return the floating-point operations that training needs for a sample.

    Two for each weight forward, two for its gradient, and two to pass the delta back, which the first layer does not
    need: 6 * weights - 2 * weights of the first layer.
    """
    weights = [inputs * units for inputs, units in pairwise(sizes)]
    return 6 * sum(weights) - 2 * weights[0]


# ---- training, with Adam on the headline shapes

HEADLINE = (
    Case("tiny", (2, 8, 8, 1), 10, 1_000, "tanh", "sigmoid", target=8),
    Case("chains", (4, 32, 16, 4), 10_000, 10_000, "tanh", target=12),
    Case("digits", (64, 32, 10), 32, 1_792, target=5),
    Case("mnist32", (784, 128, 10), 32, 19_200, target=3),
    Case("mnist", (784, 128, 10), 128, 59_904, target=2.5),
    Case("mnist3", (784, 256, 128, 10), 128, 29_952, target=2),
    Case("wide", (784, 1024, 1024, 10), 256, 12_800, target=1.3),
    Case("ciresan", (784, 2500, 2000, 1500, 1000, 500, 10), 256, 2_560, target=1.25),
)
HEADLINE_MEAN_TARGET = 3.0

FURTHER = (
    Case("deep", (*[16] * 9, 4), 32, 6_400),
    Case("few-outputs", (3000, 16, 2), 64, 3_200),
    Case("odd", (77, 33, 5), 50, 5_000),
    Case("regression", (13, 64, 64, 1), 32, 6_400, output="identity"),
    Case("sigmoid", (784, 128, 10), 128, 12_800, "sigmoid"),
    Case("tanh", (256, 256, 256, 10), 64, 6_400, "tanh"),
    Case("elu", (256, 256, 256, 10), 64, 6_400, "elu"),
    Case("sgd", (784, 128, 10), 128, 12_800, optimizer="sgd"),
    Case("momentum", (784, 128, 10), 128, 12_800, optimizer="momentum"),
    Case("nesterov", (784, 128, 10), 128, 12_800, optimizer="nesterov"),
    Case("batch-1", (64, 32, 10), 1, 1_792),
    Case("batch-8", (784, 128, 10), 8, 6_400),
    Case("batch-1000", (784, 128, 10), 1_000, 20_000),
)

QUICK_TRAINING = ("tiny", "digits", "odd")

# ---- threads: the time on one divided by that on all

SCALING_TARGET = 1.8
SCALING_SHAPES = ("mnist", "mnist3", "wide", "ciresan")  # those that the target is for; the others:
NEVER_SLOWER = 0.95  # with allowance for noise
QUICK_THREADS = ("digits",)

# ---- prediction


@dataclass(frozen=True)
class PredictionCase:
    """A network to predict with, and rows to predict; `target` as in `Case`, `target_seconds` for fastmlp alone."""

    sizes: tuple[int, ...]
    rows: int
    target: float | None = None
    target_seconds: float | None = None


PREDICTION = (
    PredictionCase((4, 32, 2), 1, target_seconds=4e-6),
    PredictionCase((4, 32, 2), 64),
    PredictionCase((4, 32, 2), 1_000),
    PredictionCase((4, 32, 2), 10_000, target=4),
    PredictionCase((64, 32, 10), 1),
    PredictionCase((64, 32, 10), 64),
    PredictionCase((64, 32, 10), 1_000),
    PredictionCase((64, 32, 10), 10_000, target=1.3),
    PredictionCase((784, 128, 10), 1, target_seconds=8e-6),
    PredictionCase((784, 128, 10), 64),
    PredictionCase((784, 128, 10), 1_000),
    PredictionCase((784, 128, 10), 10_000, target=1.3),
    PredictionCase((784, 1024, 1024, 10), 1),
    PredictionCase((784, 1024, 1024, 10), 64),
    PredictionCase((784, 1024, 1024, 10), 1_000),
    PredictionCase((784, 1024, 1024, 10), 10_000, target=1.3),
)
QUICK_PREDICTION = tuple(case for case in PREDICTION if case.sizes[0] < 100 and case.rows <= 64)

# ---- matrix products: rows of a batch, inputs and units of a layer

PRODUCT_SHAPES = (
    (10, 2, 8),
    (10, 8, 8),
    (1, 64, 32),
    (1, 784, 128),
    (8, 300, 100),
    (32, 32, 10),
    (32, 64, 32),
    (64, 13, 64),
    (77, 33, 5),
    (61, 117, 203),
    (32, 784, 128),
    (128, 128, 10),
    (128, 784, 128),
    (128, 256, 128),
    (128, 784, 256),
    (127, 785, 129),
    (256, 1024, 10),
    (256, 784, 1024),
    (256, 1024, 1024),
    (256, 1000, 500),
    (256, 1500, 1000),
    (256, 784, 2500),
    (256, 2000, 1500),
    (256, 2500, 2000),
    (1000, 3000, 16),
    (1000, 784, 128),
    (10_000, 4, 32),
    (10_000, 32, 16),
)
PRODUCT_MEAN_TARGET = 1.15
PRODUCT_LEAST = 0.95
QUICK_PRODUCTS = ((32, 64, 32), (77, 33, 5), (128, 784, 128))
