"""fastmlp: multilayer perceptrons on the CPU, on hand-written Numba kernels."""

from __future__ import annotations

from .callbacks import Callback, EarlyStopping
from .history import History
from .layers import Dense
from .model import MLP
from .optimizers import SGD, Adam, Momentum, Nesterov
from .serialization import ModelFileError
from .threads import get_num_threads, set_num_threads
from .trainer import DivergenceWarning, Trainer

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "Callback",
    "Dense",
    "DivergenceWarning",
    "EarlyStopping",
    "History",
    "ModelFileError",
    "Momentum",
    "Nesterov",
    "Trainer",
    "get_num_threads",
    "set_num_threads",
]
