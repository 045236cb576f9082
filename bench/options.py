"""``python -m bench options``: what each option of a layer and of the trainer costs, beside plain training.

Plain is a layer of relu trained by Adam, nothing else. Each option is measured beside it by itself: the two take turns,
so that whatever else happens on the machine meets them alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import MLP, Augmentation, Dense, Maxout, Trainer, get_num_threads, set_num_threads
from fastmlp.activations import ACTIVATIONS
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.threads import available_threads

from .compare.machine import describe_machine
from .compare.timing import Effort, measure
from .report import format_ratio, format_time

INPUTS, UNITS, CLASSES, BATCH = 784, 128, 10, 128
STEPS, EFFORT = 120, Effort(repeats=7, seconds=0.1)
SMOKE_STEPS, SMOKE_EFFORT = 2, Effort(repeats=1, seconds=0.0)

# So small that the network, and with it the work of a step, stays what it is however long the timing goes on.
LEARNING_RATE = 1e-6

# Arguments of `Trainer`, but for "hidden", the hidden layer.
OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {"hidden": Dense(UNITS, name)} for name in ACTIVATIONS if name != "relu"},
    "maxout": {"hidden": Maxout(UNITS, 2)},
    **{name: {"optimizer": name} for name in OPTIMIZERS if name != "adam"},
    "l1": {"l1": 1e-5},
    "l2": {"l2": 1e-5},
    "weight_decay": {"weight_decay": 1e-5},
    "clip_value": {"clip_value": 1.0},
    "clip_norm": {"clip_norm": 1.0},
    "max_norm": {"hidden": Dense(UNITS, "relu", max_norm=3.0)},
    "dropout": {"hidden": Dense(UNITS, "relu", dropout=0.5)},
    "input_dropout": {"input_dropout": 0.2},
    "input_noise": {"input_noise": 0.1},
    "shift_rotation_scaling": {"augmentation": Augmentation(shift=2.0, rotation=10.0, scaling=0.1)},
    "elastic": {"augmentation": Augmentation(elastic_alpha=36.0, elastic_sigma=5.0)},
    "accumulation": {"accumulation": 4, "batch_size": BATCH // 4},
}
SMOKE = ("gelu", "maxout", "sgd", "l1", "clip_norm", "dropout")


def trainer_with(hidden: Any = UNITS, **options: Any) -> Trainer:
    """Return a trainer of the network 784-128-10, with another hidden layer or other options."""
    settings = {"batch_size": BATCH, "learning_rate": LEARNING_RATE} | options
    return Trainer(MLP([INPUTS, hidden, CLASSES], seed=0), **settings)


def data(steps: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return normal inputs and labels at random, for so many steps an epoch."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((steps * BATCH, INPUTS), np.float32), rng.integers(0, CLASSES, steps * BATCH)


def measure_option(name: str, steps: int, effort: Effort) -> tuple[float, float]:
    """Return the median seconds of a step of plain training, and of one with the option."""
    X, y = data(steps)
    sides = {"plain": trainer_with(), name: trainer_with(**OPTIONS[name])}
    seconds = measure({side: partial(trainer.fit, X, y, epochs=1, progress=False) for side, trainer in sides.items()},
                      effort)
    return seconds["plain"] / steps, seconds[name] / steps


def _name(text: str) -> str:
    if text not in OPTIONS:
        raise argparse.ArgumentTypeError(f"NAME must be of {', '.join(OPTIONS)}, got {text!r}")
    return text


def main(arguments: Sequence[str]) -> int:
    """Print a line for each option that the command line asks for, as soon as it is measured."""
    parser = argparse.ArgumentParser(
        prog="python -m bench options",
        description="Measure what each option costs a training step of a network 784-128-10 in batches of 128.")
    parser.add_argument("names", metavar="NAME", nargs="*", type=_name,
                        help=f"measure only these, of {', '.join(OPTIONS)}")
    parser.add_argument("--threads", type=int, default=1, choices=range(1, available_threads() + 1),
                        help="number of threads; default 1, which other programs disturb least")
    parser.add_argument("--quick", action="store_true", help="a smoke run: a few options, a few steps")
    chosen = parser.parse_args(arguments)
    names = chosen.names or (SMOKE if chosen.quick else OPTIONS)
    steps, effort = (SMOKE_STEPS, SMOKE_EFFORT) if chosen.quick else (STEPS, EFFORT)
    machine = describe_machine()
    print(f"{machine['processor']}, {machine['instruction set']}; threads: {chosen.threads}\n"
          f"{'option':<24}{'plain step':>12}{'with it':>12}{'ratio':>8}", flush=True)
    before = get_num_threads()
    set_num_threads(chosen.threads)
    try:
        for name in names:
            plain, with_it = measure_option(name, steps, effort)
            print(f"{name:<24}{format_time(plain):>12}{format_time(with_it):>12}{format_ratio(with_it / plain):>8}",
                  flush=True)
    finally:
        set_num_threads(before)
    return 0
