"""fastmlp: multilayer perceptrons on the CPU, on hand-written Numba kernels."""

from __future__ import annotations

import importlib
from typing import Any

from . import callbacks, datasets, losses, metrics, optimizers, schedules
from .activations import register_activation
from .augmentation import Augmentation
from .callbacks import Callback, Checkpoint, CSVLogger, EarlyStopping, LearningRateLogger, StopOnNaN
from .fitting import DivergenceWarning
from .gradient_check import GradientReport, gradient_check
from .history import History
from .layers import Dense, Maxout
from .losses import BinaryCrossEntropy, CrossEntropy, Huber, register_loss
from .lr_find import LearningRates, lr_find
from .model import MLP
from .optimizers import LBFGS, SGD, Adadelta, Adagrad, Adam, AdamW, Momentum, NAdam, Nesterov, RMSprop
from .perceptron import ConvergenceWarning, Perceptron
from .scaling import scale_to_range, standardise
from .serialization import ModelFileError
from .threads import get_num_threads, set_num_threads
from .trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "LBFGS",
    "MLP",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Augmentation",
    "BinaryCrossEntropy",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "ConvergenceWarning",
    "CrossEntropy",
    "Dense",
    "DivergenceWarning",
    "EarlyStopping",
    "GradientReport",
    "History",
    "Huber",
    "LearningRateLogger",
    "LearningRates",
    "Maxout",
    "ModelFileError",
    "Momentum",
    "NAdam",
    "Nesterov",
    "Perceptron",
    "RMSprop",
    "StopOnNaN",
    "Trainer",
    "callbacks",
    "datasets",
    "get_num_threads",
    "gradient_check",
    "losses",
    "lr_find",
    "metrics",
    "optimizers",
    "register_activation",
    "register_loss",
    "scale_to_range",
    "schedules",
    "set_num_threads",
    "standardise",
]


ESTIMATORS = ("MLPClassifier", "MLPRegressor")  # imported when asked for: they need scikit-learn


def __dir__() -> list[str]:
    return [*globals(), *ESTIMATORS]


def __getattr__(name: str) -> Any:
    if name in ESTIMATORS:
        return getattr(importlib.import_module(".sklearn", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
