"""Callbacks: objects that `Trainer.fit` calls at the start and the end of training and of every epoch.

A callback is any object that has one or more of the four methods of `Callback`; it need not derive from it. A plain
function will do as well.

A callback that has the methods ``state_dict()`` and ``load_state_dict(state)`` has a state: checkpoints made within
`Trainer.fit` hold it, and a call of `fit` that goes on from one hands it back. A state is a dict of None, bool, int,
float, str, arrays, and lists and dicts (with str keys) of these; an empty one need not be handed back.
"""

from .base import EVENTS, Callback, check_callbacks, notify
from .checkpoint import Checkpoint
from .csv_logger import CSVLogger
from .early_stopping import EarlyStopping
from .learning_rate_logger import LearningRateLogger
from .monitoring import check_watched
from .states import callback_states, has_state, load_callback_states
from .stop_on_nan import StopOnNaN

__all__ = [
    "EVENTS",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LearningRateLogger",
    "StopOnNaN",
    "callback_states",
    "check_callbacks",
    "check_watched",
    "has_state",
    "load_callback_states",
    "notify",
]
