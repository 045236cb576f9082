"""Training: `Trainer.fit` beside the baseline's, on the same data, from the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.baseline import OUTPUT_LOSSES, NumpyMLP
from fastmlp import MLP, Trainer

quick = pytest.mark.quick

# So small that the network, and with it the work of a step, stays what it is however long the timing goes on.
LEARNING_RATE = 1e-5


@dataclass(frozen=True)
class Case:
    """A network, how it is trained, and the length of the `fit` calls that are timed."""

    sizes: tuple[int, ...]
    batch_size: int
    samples: int
    epochs: int = 1
    activation: str = "relu"
    output: str = "softmax"
    optimizer: str = "adam"
    dtype: str = "float32"

    def __str__(self) -> str:
        parts = ["-".join(map(str, self.sizes)), f"batch {self.batch_size}"]
        return ", ".join(parts + [self.dtype] * (self.dtype != "float32"))

    def data(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return normal inputs, and labels or targets at random."""
        rng = np.random.default_rng(0)
        X = rng.standard_normal((self.samples, self.sizes[0])).astype(self.dtype)
        if self.output == "softmax":
            return X, rng.integers(0, self.sizes[-1], self.samples)
        return X, rng.random((self.samples, self.sizes[-1])).astype(self.dtype)


MNIST = Case((784, 128, 10), 128, 2560)

CASES = [
    pytest.param(Case((2, 8, 8, 1), 10, 1000, epochs=10, activation="tanh", output="sigmoid"), marks=quick),
    Case((4, 32, 16, 4), 1000, 10_000, epochs=2, activation="tanh", output="identity"),
    pytest.param(Case((64, 32, 10), 32, 1792, epochs=5), marks=quick),
    Case((784, 128, 10), 32, 1600),
    pytest.param(MNIST, marks=quick),
    replace(MNIST, optimizer="sgd"),
    replace(MNIST, optimizer="momentum"),
    replace(MNIST, optimizer="nesterov"),
    replace(MNIST, dtype="float64"),
    Case((784, 256, 128, 10), 128, 2560),
    Case((784, 1024, 1024, 10), 256, 1024),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case}, {case.optimizer}")
def bench_fit(compare: Callable[..., None], case: Case) -> None:
    X, y = case.data()
    model = MLP(list(case.sizes), activation=case.activation, output=case.output, dtype=case.dtype)
    trainer = Trainer(model, OUTPUT_LOSSES[case.output], case.optimizer, LEARNING_RATE, batch_size=case.batch_size)
    reference = NumpyMLP(list(case.sizes), case.activation, case.output, case.dtype)
    start = model.get_weights()
    reference.parameters = model.get_weights()

    def fit_numpy(epochs: int, shuffle: bool = True) -> None:
        reference.fit(X, y, epochs, case.batch_size, LEARNING_RATE, case.optimizer, shuffle)

    def results() -> tuple[Any, Any]:
        """Train both for an epoch in the same order; return how far the weights moved."""
        trainer.fit(X, y, epochs=1, progress=False, shuffle=False)
        fit_numpy(epochs=1, shuffle=False)
        moved, moved_numpy = ([after - before for after, before in zip(weights, start, strict=True)]
                              for weights in (model.get_weights(), reference.parameters))
        return moved, moved_numpy

    compare(
        f"step, {case.optimizer}",
        str(case),
        fastmlp=lambda: trainer.fit(X, y, epochs=case.epochs, progress=False),
        numpy=lambda: fit_numpy(case.epochs),
        results=results,
        tolerance=1e-2,
        steps=case.epochs * -(-case.samples // case.batch_size),
    )
