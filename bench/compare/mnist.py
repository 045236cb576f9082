"""Time to accuracy: how long training takes until the test images of MNIST are classified well enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from fastmlp import MLP, Trainer
from fastmlp.callbacks import Callback
from fastmlp.datasets import Dataset
from fastmlp.mnist import mean_and_std

from .cases import Array, Case
from .peers import PyTorch
from .results import AccuracyRun, TimeToAccuracy

HIDDEN = 128
BATCH_SIZE = 128
LEARNING_RATE = 4e-3  # the peak of one cycle
EPOCHS = 12
SEEDS = (1, 2, 3)
GOAL = 0.98
PEERS = ("torch",)


@dataclass(frozen=True)
class Split:
    """Standardised training and test images, float32, and their labels."""

    X: Array
    y: Array
    X_test: Array
    y_test: Array
    classes: int

    @classmethod
    def of(cls, data: Dataset) -> Split:
        mean, std = mean_and_std(data.X_train)
        X, X_test = ((images.astype(np.float32) - np.float32(mean)) / np.float32(std)
                     for images in (data.X_train, data.X_test))
        return cls(X, data.y_train, X_test, data.y_test, data.classes)


@dataclass
class Clock:
    """Counts the seconds of training, but not those of testing between the epochs."""

    accuracy: Callable[[], float]
    goal: float
    seconds: float = 0.0
    reached: float | None = None
    accuracies: list[float] = field(default_factory=list)
    began: float = 0.0

    def start_epoch(self) -> None:
        self.began = time.perf_counter()

    def end_epoch(self) -> None:
        self.seconds += time.perf_counter() - self.began
        self.accuracies.append(self.accuracy())
        if self.reached is None and self.accuracies[-1] >= self.goal:
            self.reached = self.seconds

    def run(self, side: str, seed: int) -> AccuracyRun:
        """Return what was found out."""
        return AccuracyRun(side, seed, self.reached, self.accuracies[-1])


class _ClockCallback(Callback):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_epoch_begin(self, trainer: Any, logs: dict[str, Any]) -> None:
        self.clock.start_epoch()

    def on_epoch_end(self, trainer: Any, logs: dict[str, Any]) -> None:
        self.clock.end_epoch()


def train_fastmlp(split: Split, goal: float, epochs: int, seed: int) -> AccuracyRun:
    """Train with fastmlp."""
    model = MLP([split.X.shape[1], HIDDEN, split.classes], seed=seed)
    trainer = Trainer(model, learning_rate=LEARNING_RATE, schedule="one_cycle", batch_size=BATCH_SIZE, seed=seed)
    clock = Clock(lambda: float(np.mean(model.predict(split.X_test) == split.y_test)), goal)
    trainer.fit(split.X, split.y, epochs=epochs, callbacks=[_ClockCallback(clock)], progress=False)
    return clock.run("fastmlp", seed)


def train_torch(split: Split, goal: float, epochs: int, seed: int) -> AccuracyRun:
    """Train with PyTorch: the same weights at the start, the same learning rate at every step."""
    samples, inputs = split.X.shape
    case = Case("", (inputs, HIDDEN, split.classes), BATCH_SIZE, samples, learning_rate=LEARNING_RATE)
    side = PyTorch(case, split.X, split.y, seed)
    schedule = import_module("torch.optim.lr_scheduler").OneCycleLR(
        side.optimizer, LEARNING_RATE, total_steps=epochs * case.steps_per_epoch, cycle_momentum=False)
    clock = Clock(lambda: float(np.mean(side.predict(split.X_test).argmax(1) == split.y_test)), goal)
    for _ in range(epochs):
        clock.start_epoch()
        side.fit(1, schedule)
        clock.end_epoch()
    return clock.run("torch", seed)


TRAIN = {"fastmlp": train_fastmlp, "torch": train_torch}


def measure_time_to_accuracy(data: Dataset, peers: Iterable[str], goal: float = GOAL, epochs: int = EPOCHS,
                             seeds: Iterable[int] = SEEDS) -> TimeToAccuracy:
    """Train with every seed, fastmlp and those of `PEERS` in turns."""
    split = Split.of(data)
    sides = ["fastmlp", *(name for name in PEERS if name in peers)]
    for side in sides:
        TRAIN[side](split, goal, 1, 0)  # warms up
    runs = [TRAIN[side](split, goal, epochs, seed) for seed in seeds for side in sides]
    description = (f"{data.name}, {split.X.shape[1]}-{HIDDEN}-{split.classes}, batch {BATCH_SIZE}, {epochs} epochs of "
                   f"one-cycle Adam with a peak of {LEARNING_RATE:g}")
    return TimeToAccuracy(description, goal, runs)
