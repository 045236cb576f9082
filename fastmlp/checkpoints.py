"""Checkpoints: a trainer in a file, from which training goes on with the bits it would have had without a break.

A checkpoint is a model file (`fastmlp.serialization`) with all that training has beside the model: the optimizer's
state as tensors ``training.optimizer.<slot>.<name of the parameters>``, and what `_describe` returns as JSON. JSON has
neither NaN nor infinity nor arrays; objects with a single key stand for them: ``{"$float": "nan"}``, and
``{"$tensor": name}`` for an array that lies in the file under that name.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .architecture import check_weights
from .augmentation import Augmentation
from .callbacks import callback_states
from .history import History
from .losses import LOSSES, Loss
from .metrics import ModelMetric, check_metrics
from .model import MLP
from .optimizers import LBFGS, OPTIMIZERS, Optimizer
from .schedules import SCHEDULES, Schedule, WarmUp
from .serialization import (
    TRAINING_PREFIX,
    damage_reported,
    read_checkpoint_file,
    read_model_header,
    write_model_file,
)
from .validation import check_flag, check_integer

if TYPE_CHECKING:
    from .trainer import Trainer

Array = NDArray[Any]
AnyTrainer = TypeVar("AnyTrainer", bound="Trainer")

FLOAT, TENSOR = "$float", "$tensor"  # keys of the objects that stand for what JSON does not know
NOT_FINITE = ("nan", "inf", "-inf")
MOST_EPOCHS = (1 << 63) - 1  # of a call of `fit`
OPTIMIZER_KINDS: dict[str, type[Optimizer]] = {**OPTIMIZERS, "lbfgs": LBFGS}
SCHEDULE_KINDS: dict[str, type[Schedule]] = {**SCHEDULES, "warm_up": WarmUp}


def save_trainer(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint; see `Trainer.save`."""
    tensors: dict[str, Array] = {}
    training = {name: _encode(name, value, tensors) for name, value in _describe(trainer).items()}
    for name, array in zip(_state_names(trainer.model, trainer.optimizer),
                           (array for slot in trainer._unpacked_state() for array in slot), strict=True):
        tensors[name] = array
    model = trainer.model
    write_model_file(path, model._tensors() | tensors, model._describe(), training)


def load_trainer(kind: type[AnyTrainer], path: str | os.PathLike[str], schedule: Any, metrics: Any) -> AnyTrainer:
    """Read a checkpoint; see `Trainer.load`."""
    shapes, description = read_model_header(path)
    with damage_reported(path, "checkpoint"):
        MLP._described(description, shapes)  # before any tensor is read
    tensors, description, encoded = read_checkpoint_file(path)
    of_training = {name: tensors.pop(name) for name in list(tensors) if name.startswith(TRAINING_PREFIX)}
    with damage_reported(path, "checkpoint"):
        model = MLP._from_description(description, tensors)
        saved = {name: _decode(value, of_training) for name, value in encoded.items()}
        loss = _made("loss", saved["loss"], LOSSES, hint="; one of your own must be registered by register_loss before")
        optimizer = _made("optimizer", saved["optimizer"], OPTIMIZER_KINDS)
        state = _check_state(of_training, model, optimizer)
        saved_schedule = None if saved["schedule"] is None else _made_schedule(saved["schedule"])
        saved_metrics = _check_kind("metrics", saved["metrics"], dict)
    schedule = _chosen_schedule(saved_schedule, schedule)
    metrics = _chosen_metrics(saved_metrics, metrics, model.output)
    with damage_reported(path, "checkpoint"):
        settings = _check_kind("settings", saved["settings"], dict)
        trainer = kind(model, loss=loss, optimizer=optimizer, schedule=schedule, metrics=metrics,
                       augmentation=_made_augmentation(saved["augmentation"]), **settings)
        if trainer._settings() != settings:
            raise ValueError(f"settings must be like {trainer._settings()}, got {settings}")
        trainer._pack_state(state)
        _restore(trainer, saved)
    return trainer


def _describe(trainer: Trainer) -> dict[str, Any]:
    """Return all that a trainer has beside its model and the optimizer's state, as plain data and arrays."""
    within_fit = trainer.unfinished is not None
    return {
        "settings": trainer._settings(),
        "loss": _loss_description(trainer.loss),
        "optimizer": _description("optimizer", trainer.optimizer, OPTIMIZER_KINDS),
        "schedule": _schedule_description(trainer.schedule),
        "schedule_state": trainer.schedule_state,
        "augmentation": None if trainer.augmentation is None else dataclasses.asdict(trainer.augmentation),
        "metrics": {metric.name: _is_known(metric, trainer.model.output) for metric in trainer.metrics},
        "steps": trainer.steps,
        "epochs": trainer.epochs,
        "stop_training": trainer.stop_training,
        "unfinished": trainer.unfinished,
        # Those that were taken before callbacks were told of the end of training are the right ones.
        "callback_states": (trainer.callback_states or callback_states(trainer.callbacks)) if within_fit else [],
        "history": trainer.history.records,
    }


def _restore(trainer: Trainer, saved: dict[str, Any]) -> None:
    """Set what training has changed in a trainer that is new."""
    trainer.steps, trainer.epochs = saved["steps"], saved["epochs"]
    trainer.stop_training = check_flag("stop_training", saved["stop_training"])
    trainer.schedule_state = _check_kind("schedule_state", saved["schedule_state"], dict)
    for name, value in trainer.schedule_state.items():
        _check_kind(f"schedule_state[{name!r}]", value, int, float)
    trainer.unfinished = _check_unfinished(saved["unfinished"], trainer)
    trainer.callback_states = _check_callback_states(saved["callback_states"])
    trainer.history = History()
    for record in _check_kind("history", saved["history"], list):
        trainer.history.append(record)


# ---- parts of a trainer as plain data


def _description(what: str, part: Any, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return the name and the fields of a dataclass that `kinds` knows."""
    for name, kind in kinds.items():
        if type(part) is kind:
            return {"kind": name} | {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    raise ValueError(f"{what} must be one of {', '.join(map(repr, kinds))} to be saved, got {part!r}")


def _made(what: str, description: Any, kinds: Mapping[str, Any], hint: str = "") -> Any:
    """Return the dataclass that `_description` described."""
    settings = dict(_check_kind(what, description, dict))
    name = settings.pop("kind", None)
    if not isinstance(name, str) or name not in kinds:
        raise ValueError(f"{what} must be one of {', '.join(map(repr, kinds))}, got {name!r}{hint}")
    return kinds[name](**settings)


def _made_augmentation(description: Any) -> Augmentation | None:
    if description is None:
        return None
    settings = dict(_check_kind("augmentation", description, dict))
    return Augmentation(**settings | {"shape": tuple(_check_kind("shape", settings.get("shape"), list, tuple))})


def _loss_description(loss: Loss) -> dict[str, Any]:
    maker = LOSSES.get(loss.name)
    if maker is not None and not isinstance(maker, type) and maker() == loss:
        return {"kind": loss.name}  # a user's function: it has a name only
    return _description("loss", loss, LOSSES)


def _schedule_description(schedule: Schedule) -> dict[str, Any] | None:
    """Return None for a function or a class of the user's, and for a rise to one of these."""
    if type(schedule) not in SCHEDULE_KINDS.values():
        return None
    description = _description("schedule", schedule, SCHEDULE_KINDS)
    if isinstance(schedule, WarmUp):
        description["then"] = _schedule_description(schedule.then)
        if description["then"] is None:
            return None
    return description


def _made_schedule(description: Any) -> Schedule:
    if isinstance(description, dict) and "then" in description:
        description = {**description, "then": _made_schedule(description["then"])}
    schedule: Schedule = _made("schedule", description, SCHEDULE_KINDS)
    return schedule


def _chosen_schedule(saved: Schedule | None, given: Any) -> Any:
    if saved is None and given is None:
        raise ValueError("schedule must be given for this checkpoint, whose schedule is a function or class of one's "
                         "own: Trainer.load(path, schedule=...), got None")
    if saved is not None and given is not None:
        raise ValueError(f"schedule must be None for this checkpoint, which holds {saved!r}, got {given!r}")
    return given if saved is None else saved


def _is_known(metric: ModelMetric, output: str) -> bool:
    """Whether a metric is the one of fastmlp that has its name, and no function of the user's."""
    try:
        [known] = check_metrics([metric.name], output)
    except ValueError:
        return False
    # That of "top_5" is made anew each time, as a partial of the same function.
    return getattr(known.function, "func", known.function) is getattr(metric.function, "func", metric.function)


def _chosen_metrics(saved: dict[str, Any], given: Any, output: str) -> list[Any]:
    if given is None:
        functions = [name for name, known in saved.items() if not known]
        if functions:
            raise ValueError(f"metrics must be given for this checkpoint, some of which are functions of one's own "
                             f"({', '.join(map(repr, functions))}): Trainer.load(path, metrics=[...]), got None")
        return list(saved)
    metrics = check_metrics(given, output)
    names = [metric.name for metric in metrics]
    if names != list(saved):
        raise ValueError(f"metrics must be those of this checkpoint, {list(saved)}, got {names}")
    return [metric.name if _is_known(metric, output) else metric.function for metric in metrics]


def _state_names(model: MLP, optimizer: Optimizer) -> list[str]:
    """Names of the tensors of the optimizer's state, slot by slot."""
    return [f"{TRAINING_PREFIX}optimizer.{slot}.{name}" for slot in range(optimizer.slots) for name in model._names()]


# ---- checks of what a file holds


def _check_kind(name: str, value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds):
        raise TypeError(f"{name} must be {' or '.join(kind.__name__ for kind in kinds)}, got {value!r}")
    return value


def _check_state(tensors: dict[str, Array], model: MLP, optimizer: Optimizer) -> list[list[Array]]:
    """Return the optimizer's state, slot by slot, of tensors that must hold nothing else."""
    names = _state_names(model, optimizer)
    if set(tensors) != set(names):
        raise ValueError(f"expected the tensors {names} beside the model's, got {sorted(tensors)}")
    shapes = model._shapes()
    for name, shape in zip(names, shapes * optimizer.slots, strict=True):
        if tensors[name].shape != shape or tensors[name].dtype != model.dtype:
            raise ValueError(f"{name} must be {model.dtype} of shape {shape}, got {tensors[name].dtype} of shape "
                             f"{tensors[name].shape}")
    return [[tensors[name] for name in names[first : first + len(shapes)]]
            for first in range(0, len(names), len(shapes))]


def _check_unfinished(unfinished: Any, trainer: Trainer) -> dict[str, Any] | None:
    if unfinished is None:
        return None
    _check_kind("unfinished", unfinished, dict)
    first_update = check_integer("first_update", unfinished["first_update"], low=0, high=trainer.steps)
    first_epoch = check_integer("first_epoch", unfinished["first_epoch"], low=0, high=trainer.epochs)
    all_epochs = check_integer("epochs", unfinished["epochs"], low=max(trainer.epochs - first_epoch, 1),
                               high=MOST_EPOCHS)
    checked: dict[str, Any] = {"epochs": all_epochs, "first_update": first_update, "first_epoch": first_epoch}
    if "losses" in unfinished:
        losses = _check_kind("losses", unfinished["losses"], np.ndarray)
        if losses.dtype != np.float64 or losses.ndim != 1 or not 0 < len(losses) <= trainer.steps - first_update:
            raise ValueError(f"losses must be float64, one for each of up to {trainer.steps - first_update} updates, "
                             f"got {losses.dtype} of shape {losses.shape}")
        checked["losses"] = losses
    if "weights" in unfinished:
        checked["weights"] = check_weights(unfinished["weights"], trainer.model._shapes())
    return checked


def _check_callback_states(states: Any) -> list[dict[str, Any]]:
    checked: list[dict[str, Any]] = []
    for entry in _check_kind("callback_states", states, list):
        _check_kind("callback_states[...]", entry, dict)
        checked.append({"position": check_integer("position", entry["position"], low=len(checked)),
                        "class": _check_kind("class", entry["class"], str),
                        "state": _check_kind("state", entry["state"], dict)})
    return checked


# ---- values as JSON


def _encode(name: str, value: Any, tensors: dict[str, Array]) -> Any:
    """Return a value as JSON knows it; arrays are put into `tensors`."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {FLOAT: str(value)}
    if isinstance(value, np.ndarray):
        place = f"{TRAINING_PREFIX}values.{len(tensors)}"
        tensors[place] = value
        return {TENSOR: place}
    if isinstance(value, (list, tuple)):
        return [_encode(f"{name}[{i}]", element, tensors) for i, element in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) and key not in (FLOAT, TENSOR) for key in value):
        return {key: _encode(f"{name}[{key!r}]", element, tensors) for key, element in value.items()}
    raise TypeError(f"{name} must be None, a bool, number, str or array, or a list or dict (with str keys) of these, "
                    f"to be saved, got {value!r}")


def _decode(value: Any, tensors: dict[str, Array]) -> Any:
    """Return what `_encode` was given; arrays are taken out of `tensors`."""
    if isinstance(value, list):
        return [_decode(element, tensors) for element in value]
    if not isinstance(value, dict):
        return value
    if FLOAT in value:
        if value[FLOAT] not in NOT_FINITE:
            raise ValueError(f"{FLOAT} must be one of {', '.join(NOT_FINITE)}, got {value[FLOAT]!r}")
        return float(value[FLOAT])
    if TENSOR in value:
        return tensors.pop(value[TENSOR])
    return {key: _decode(element, tensors) for key, element in value.items()}
