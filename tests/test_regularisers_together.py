"""Regularisation and disturbances at once: whole runs of training against a replay in NumPy on float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import naive
import numpy as np
import pytest
from naive import DTYPES, GOLDEN, MASK, Array, splitmix64
from panels import padded_columns
from test_kernels_noise import factors, normal_numbers, positions_of

from fastmlp import MLP, Dense, Trainer, engine
from fastmlp.thread_choice import SLICE_SECONDS, ThreadChoice

ROWS, INPUTS, CLASSES, MEAN, EPOCHS, SEED = 640, 21, 5, 0.3, 2, 7
SLOPES, HIDDEN_WEIGHTS = 4, (0, 2)  # places in W0, b0, W1, b1, slopes, W2, b2
TOLERANCES = {"float32": 3e-5, "float64": 1e-8}
RATES = {"sgd": 0.05, "nesterov": 0.02, "adam": 0.01, "rmsprop": 0.01}

# Options of the trainer, beside dropout and max_norm, which are the layers'. Each is so strong that it shows.
PENALTIES = {"l1": 0.02, "l2": 0.1, "weight_decay": 0.2, "regularise_biases": True}
CLIPPING = {"clip_value": 0.05, "clip_norm": 0.3, "max_norm": 0.8}
DISTURBANCES = {"dropout": 0.3, "input_dropout": 0.2, "input_noise": 0.5}
EVERYTHING = PENALTIES | CLIPPING | DISTURBANCES
TABLE: dict[str, dict[str, Any]] = {
    "penalties": PENALTIES,
    "clipping": CLIPPING,
    "disturbances": DISTURBANCES,
    "everything": EVERYTHING,
    "everything, biases are free": EVERYTHING | {"regularise_biases": False},
    "everything that needs no whole gradient": EVERYTHING | {"clip_norm": 0.0},
}

# A short batch last; in two groups of rows; in passes.
BATCHES: dict[str, dict[str, int]] = {"small": {"batch_size": 48}, "groups": {"batch_size": 320},
                                      "passes": {"batch_size": 40, "accumulation": 3}}


def data() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return rng.normal(MEAN, 1.0, (ROWS, INPUTS)), rng.integers(0, CLASSES, ROWS)


def model_with(options: dict[str, Any], dtype: str) -> MLP:
    """Two hidden layers, one with learned slopes, and biases that are not zero."""
    shared = {"dropout": options.get("dropout", 0.0), "max_norm": options.get("max_norm")}
    model = MLP([INPUTS, Dense(40, "tanh", **shared), Dense(19, "prelu", **shared), CLASSES], dtype=dtype, seed=0,
                input_mean=MEAN)
    rng = np.random.default_rng(1)
    model.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in model.get_weights()])
    return model


# ---- the replay


def stream_key(seed: int, stream: int) -> int:
    """`kernels.random.stream_key`."""
    return splitmix64(splitmix64(seed + GOLDEN) ^ (stream * GOLDEN & MASK))


def key_of(update: int, layer: int) -> int:
    """Key of what a layer draws in an update, from 0; the inputs are the layers -1 (dropout) and -2 (noise)."""
    return stream_key(stream_key(SEED, -1 - update), layer)


def kept(update: int, layer: int, rows: int, units: int, rate: float, dtype: str) -> Array:
    """What dropout multiplies the outputs of a layer by."""
    return factors(key_of(update, layer), 0, padded_columns(units, dtype), rows, units, rate)


def disturbed(X: Array, update: int, options: dict[str, Any], dtype: str) -> Array:
    """Inputs with noise, some of them dropped."""
    numbers = normal_numbers(key_of(update, -2), positions_of(0, padded_columns(INPUTS, dtype), *X.shape))
    noise = options.get("input_noise", 0.0) * numbers
    return np.asarray((X + noise) * kept(update, -1, *X.shape, options.get("input_dropout", 0.0), dtype))


def changed(parameters: list[Array], gradients: list[Array], states: list[list[Array]], options: dict[str, Any],
            optimizer: str, update: int) -> list[Array]:
    """The parameters after an update; `states` is changed in place."""
    rate, after = RATES[optimizer], []
    norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
    scale = min(1.0, options["clip_norm"] / (norm + 1e-6)) if options.get("clip_norm") else 1.0  # as PyTorch has it
    for i, (w, g) in enumerate(zip(parameters, gradients, strict=True)):
        decays = i != SLOPES and (w.ndim == 2 or options.get("regularise_biases", False))
        l1, l2, weight_decay = (options.get(name, 0.0) if decays else 0.0 for name in ("l1", "l2", "weight_decay"))
        w, g = naive.regularise(w, scale * g, rate, l1, weight_decay, options.get("clip_value", 0.0))
        w, states[i] = naive.update(optimizer, w, g, states[i], rate, update + 1, l2)
        if i in HIDDEN_WEIGHTS and "max_norm" in options:
            w = w * np.minimum(1, options["max_norm"] / np.linalg.norm(w, axis=0))
        after.append(w)
    return after


def replay(options: dict[str, Any], optimizer: str, dtype: str, batch: int) -> tuple[list[float], list[Array]]:
    """Mean losses of the epochs, and the parameters after them."""
    X, y = data()
    X, targets = naive.stage(X, MEAN), naive.one_hot(y, CLASSES)
    layers = naive.layers_of(model_with(options, dtype))
    parameters = naive.parameters_of(layers)
    states = [naive.new_state(optimizer, p) for p in parameters]
    losses = [0.0] * EPOCHS
    begins = range(0, ROWS, batch)
    for update in range(EPOCHS * len(begins)):
        epoch, number = divmod(update, len(begins))
        rows = slice(begins[number], min(begins[number] + batch, ROWS))
        count = rows.stop - rows.start
        dropped = [kept(update, l, count, len(bias), options.get("dropout", 0.0), dtype)
                   for l, (_, bias, _, _) in enumerate(layers[:-1])]
        loss, gradients = naive.loss_and_gradients(disturbed(X[rows], update, options, dtype), targets[rows], layers,
                                                   "cross_entropy", [*dropped, 1.0])
        losses[epoch] += loss * count / ROWS
        parameters = changed(parameters, gradients, states, options, optimizer, update)
        layers = naive.with_parameters(layers, parameters)
    return losses, parameters


# ---- the tests


@pytest.mark.parametrize("number_of_threads", (1, 2))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", RATES)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("name", TABLE)
def test_training_is_that_of_the_replay(name: str, batch: str, optimizer: str, dtype: str, number_of_threads: int,
                                        threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    threads(number_of_threads)
    monkeypatch.setattr(engine, "LEAST_PARALLEL_WORK", 1)
    monkeypatch.setattr(ThreadChoice, "next", lambda choice: (choice.many, SLICE_SECONDS))
    X, y = data()
    model = model_with(TABLE[name], dtype)
    of_trainer = {option: value for option, value in TABLE[name].items() if option not in ("dropout", "max_norm")}
    trainer = Trainer(model, optimizer=optimizer, learning_rate=RATES[optimizer], seed=SEED, **BATCHES[batch],
                      **of_trainer)
    history = trainer.fit(X, y, epochs=EPOCHS, shuffle=False, progress=False)

    losses, parameters = replay(TABLE[name], optimizer, dtype, trainer.batch_size * trainer.accumulation)
    np.testing.assert_allclose(history["loss"], losses, rtol=TOLERANCES[dtype])
    # l1 pulls a small weight to and fro across zero, by so much in an update; in float32 the last digits decide where
    # it ends.
    pull = 2 * RATES[optimizer] * TABLE[name].get("l1", 0.0) if dtype == "float32" else 0.0
    for found, wanted in zip(model.get_weights(), parameters, strict=True):
        is_pulled = (np.abs(wanted) < pull) & (np.abs(found) < pull)
        np.testing.assert_allclose(np.where(is_pulled, wanted, found), wanted, rtol=0, atol=TOLERANCES[dtype])


@pytest.mark.parametrize("optimizer", RATES)
@pytest.mark.parametrize("option", EVERYTHING)
def test_each_of_them_makes_a_difference(option: str, optimizer: str) -> None:
    """So that the test above would fail in both dtypes if one of them did nothing."""
    batch = BATCHES["small"]["batch_size"]
    without = {name: value for name, value in EVERYTHING.items() if name != option}
    pairs = zip(replay(EVERYTHING, optimizer, "float64", batch)[1], replay(without, optimizer, "float64", batch)[1],
                strict=True)
    assert max(np.abs(a - b).max() for a, b in pairs) > 40 * TOLERANCES["float32"]
