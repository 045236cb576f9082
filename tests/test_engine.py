"""The memory of a compiled call, batches in passes, and what is shared among threads."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import naive
import numpy as np
import panels
import pytest
from naive import DTYPES, Array

import fastmlp
from fastmlp import MLP, Augmentation, Dense, Maxout, Trainer, engine
from fastmlp.arrays import check_inputs
from fastmlp.kernels import activations, layout
from fastmlp.kernels.augmentation import IMAGES_AT_ONCE, scratch_size
from fastmlp.kernels.epoch import predict_part
from fastmlp.kernels.simd import TILE_ROWS

OPTIMIZERS = tuple(naive.RULES)

# Sizes, hidden activation, output activation, loss.
NETWORKS = {"relu": ([17, 33, 20, 10], "relu", "softmax", "cross_entropy"),
            "softmax inside": ([17, 33, 20, 10], "softmax", "softmax", "mean_squared_error"),
            "one layer": ([40, 3], "relu", "sigmoid", "binary_cross_entropy"),
            "learned slopes": ([17, 33, 20, 10], "prelu", "softmax", "cross_entropy"),
            "kept slopes": ([17, 33, 20, 10], "gelu", "silu", "huber")}


# ---- memory


def check_places(places: list[tuple[int, int]], size: int, dtype: Any) -> None:
    """Stretches (begin, length) that begin at cache lines, none overlapping another, all within `size`."""
    places = sorted(places)
    assert all(begin * np.dtype(dtype).itemsize % layout.ALIGNMENT == 0 for begin, _ in places)
    assert all(begin + length <= following for (begin, length), (following, _) in pairwise(places))
    assert places[0][0] >= 0
    assert sum(places[-1]) <= size


LAYERS: dict[str, list[Any]] = {
    **{name: [sizes[0], *(Dense(units, activation) for units in sizes[1:-1]), Dense(sizes[-1], output)]
       for name, (sizes, activation, output, _) in NETWORKS.items()},
    "maxout": [17, Maxout(33, 3), Maxout(20, dropout=0.5), Dense(10, "softmax")],
    "dropout": [17, Dense(33, "tanh", dropout=0.5), Dense(20, "prelu", dropout=0.5), Dense(10, "softmax")],
}


def kept_in_training(table: Array, drops: bool) -> list[bool]:
    """For each row of the table whether the backward pass needs more than the outputs."""
    return [code in (activations.GELU, activations.SILU, activations.PRELU) or (drops and dropout > 0)
            for code, dropout in table[:, [layout.ACTIVATION, layout.DROPOUT]]]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("shared", (True, False))
@pytest.mark.parametrize("use", ("training", "gradients", "prediction"))  # with dropout, without, nothing kept at all
def test_the_memory_of_a_call_has_room_for_everything_without_overlap(name: str, dtype: str, shared: bool,
                                                                      use: str) -> None:
    network = MLP(LAYERS[name], dtype=dtype).network
    rows, threads = 37, 3
    training, drops = use != "prediction", use == "training"
    images = Augmentation((network.inputs, 1), shift=1.0) if drops else None
    call = engine.Call(network, rows, threads, shared=shared, training=training, drops=drops, augmentation=images)
    context, table = call.context, call.kept(layout.LAYERS)
    workspace, scratch = call.kept(layout.WORKSPACE), call.kept(layout.SCRATCH)
    sizes = [network.inputs, *table[:, layout.UNITS].tolist()]

    assert bool(table[:, layout.DROPOUT].any()) == (drops and name in ("maxout", "dropout"))
    keeps = kept_in_training(network.table, drops)
    assert (table[:, layout.KEPT] != 0).tolist() == [training and kept for kept in keeps]
    assert (table[:, layout.DELTAS] != 0).tolist() == [training] * (len(table) - 1) + [True]
    fields = (layout.OUTPUTS, layout.DELTAS, layout.KEPT)
    blocks = [(int(layer[field]), panels.panels_size(rows, units, dtype))
              for layer, units in zip(table, sizes[1:], strict=True) for field in fields
              if field == layout.OUTPUTS or layer[field]]
    blocks.append((int(context[layout.STAGED]), panels.panels_size(rows, sizes[0], dtype)))
    check_places(blocks, len(workspace) if shared else int(context[layout.WORKSPACE_SIZE]), dtype)
    if shared:
        assert context[layout.WORKSPACE_SIZE] == 0
    else:
        assert len(workspace) == threads * context[layout.WORKSPACE_SIZE]

    widest = max(sizes[1:] if name == "softmax inside" else sizes[-1:])
    register_of_rows = panels.padded_columns(widest, dtype) * panels.lanes(dtype)
    width = panels.panel_width(dtype)
    augmented = [(int(context[layout.SCRATCH_IMAGE]), scratch_size(network.inputs, 1)),
                 (int(context[layout.SCRATCH_AUGMENTED]), IMAGES_AT_ONCE * network.inputs)] if drops else []
    check_places([*augmented, (0, (width + 1) * width),
                  (int(context[layout.SCRATCH_ROWS]), 3 * register_of_rows + 2 * panels.lanes(dtype)),
                  (int(context[layout.SCRATCH_PANEL]), (max(sizes[2:], default=0) + 1) * width),
                  (int(context[layout.SCRATCH_LINE]), sizes[0])],
                 int(context[layout.SCRATCH_SIZE]), dtype)
    assert len(scratch) == threads * context[layout.SCRATCH_SIZE]
    for array in (workspace, scratch):
        assert array.dtype == dtype
        assert array.ctypes.data % layout.ALIGNMENT == 0
    assert context[layout.SCRATCH_SIZE] * np.dtype(dtype).itemsize % layout.ALIGNMENT == 0


# ---- passes


def test_a_batch_goes_through_at_once_or_in_passes_of_bounded_size() -> None:
    large = MLP([300, 200, 10]).network
    for batch, rows in ((1, 1), (64, 64), (engine.MOST_PASS_ROWS, engine.MOST_PASS_ROWS),
                        (engine.MOST_PASS_ROWS + 1, engine.MOST_PASS_ROWS), (60_000, engine.MOST_PASS_ROWS)):
        call = engine.training_call(large, batch)
        assert (call.context[layout.ROWS], call.context[layout.PASS_ROWS]) == (batch, rows)
        assert call.context[layout.GROUPS] == 1
        # The sum of the gradients of several passes needs a place; where the update follows at once, none is taken.
        assert (call.context[layout.GRADIENTS] != 0) == (batch > rows)
        assert len(call.kept(layout.ROW_LOSSES)) == batch
    assert engine.training_call(large, 1, gradients=True).context[layout.GRADIENTS] != 0


def test_a_group_goes_through_in_passes_that_stay_in_the_cache() -> None:
    small = MLP([5, 7, 3]).network
    for batch in (256, 1000, 100_000):
        call = engine.training_call(small, batch)
        groups, rows = call.context[layout.GROUPS], call.context[layout.PASS_ROWS]
        assert groups > 1
        assert rows <= -(-batch // groups)
        assert rows <= TILE_ROWS or rows * 2 * small.table[:, layout.PADDED].sum() * 4 <= engine.PASS_BYTES
        assert len(call.kept(layout.GRADIENTS)) == groups * len(small.parameters)


def data_for(name: str, rows: int, dtype: str) -> tuple[MLP, str, Array, Array, Array]:
    """A network, its loss, inputs, targets, and the targets as probabilities."""
    sizes, activation, output, loss = NETWORKS[name]
    rng = np.random.default_rng(1)
    X = rng.normal(size=(rows, sizes[0])).astype(dtype)
    if loss == "cross_entropy":
        y = rng.integers(0, sizes[-1], rows)
        return MLP(sizes, activation, output, dtype=dtype, seed=0), loss, X, y, naive.one_hot(y, sizes[-1])
    y = rng.random((rows, sizes[-1])).astype(dtype)
    return MLP(sizes, activation, output, dtype=dtype, seed=0), loss, X, y, y


def in_passes(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(engine, "MOST_PASS_ROWS", rows)
    monkeypatch.setattr(engine, "MOST_GROUPS", 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rows", (7, 30, 59, 60))  # 60 in passes of 7, 7 ... 4; of 30, 30; of 59, 1; at once
def test_losses_and_gradients_of_a_batch_in_passes(name: str, rows: int, dtype: str,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    in_passes(monkeypatch, rows)
    model, loss, X, y, targets = data_for(name, 60, dtype)
    value, gradients = model.loss_and_gradients(X, y, loss)
    wanted, exact = naive.loss_and_gradients(X, targets, naive.layers_of(model), loss)
    tolerance = 200 * float(np.finfo(dtype).eps)
    assert value == pytest.approx(wanted, rel=tolerance)
    for found, gradient in zip(gradients, exact, strict=True):
        np.testing.assert_allclose(found, gradient, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_training_in_passes_is_training_at_once_but_for_rounding(name: str, optimizer: str,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 50, 50 and 13 rows, the last one of a single pass; two epochs."""

    def train() -> tuple[list[float], list[Array]]:
        model, loss, X, y, _ = data_for(name, 113, "float64")
        trainer = Trainer(model, loss, optimizer, batch_size=50, l2=0.01, seed=3)
        history = trainer.fit(X, y, epochs=2, progress=False)
        return [float(record["loss"]) for record in history], model.get_weights()

    losses, weights = train()
    in_passes(monkeypatch, 20)
    losses_in_passes, weights_in_passes = train()
    np.testing.assert_allclose(losses_in_passes, losses, rtol=1e-9)
    for found, wanted in zip(weights_in_passes, weights, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES)
def test_passes_have_the_same_bits_on_any_number_of_threads(dtype: str, threads: Callable[[int], None],
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LEAST_PARALLEL_WORK", 0)
    in_passes(monkeypatch, 100)
    results = []
    for number in (1, 2):
        threads(number)
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(450, 200)).astype(dtype), rng.integers(0, 10, 450)
        model = MLP([200, 150, 10], dtype=dtype, seed=0)
        Trainer(model, "cross_entropy", "adam", batch_size=250).fit(X, y, epochs=2, progress=False)
        results.append(model.get_weights())
    for found, wanted in zip(*results, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ("float32", "float64", "uint8"))
def test_asking_for_rows_in_advance_changes_no_result(dtype: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for near in (engine.NEAR_BYTES, 0):
        monkeypatch.setattr(engine, "NEAR_BYTES", near)
        rng = np.random.default_rng(0)
        X, y = rng.integers(0, 255, (113, 50)).astype(kind), rng.integers(0, 10, 113)
        model = MLP([50, 40, 10], dtype=dtype, seed=0, input_mean=128.0, input_std=64.0)
        trainer = Trainer(model, "cross_entropy", "momentum", batch_size=50)
        trainer.fit(X, y, epochs=3, progress=False)
        assert trainer.evaluate(X, y)["loss"] > 0
        results.append(model.get_weights())
    for found, wanted in zip(*results, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_call_knows_whether_its_inputs_are_far_and_of_the_networks_dtype() -> None:
    network = MLP([64, 5]).network
    call = engine.training_call(network, 10)
    many = engine.NEAR_BYTES // 64 + 1
    for X, far, direct in ((np.zeros((10, 64), "float32"), 0, 1), (np.zeros((10, 64), "float64"), 0, 0),
                           (np.zeros((10, 64), "uint8"), 0, 0), (np.zeros((many, 64), "uint8"), 1, 0),
                           (np.zeros((many, 64), "float32"), 1, 1)):
        call.set_inputs(fastmlp.arrays.check_inputs(X, 64, network.dtype))
        assert (call.context[layout.X_FAR], call.context[layout.X_DIRECT]) == (far, direct)


# ---- threads


def test_the_work_of_a_step_counts_no_delta_for_the_inputs() -> None:
    network = MLP([10, 32, 16]).network
    assert network.training_work == 2 * 10 * 32 + 3 * 32 * 16


def test_members_that_do_not_come_together_predict_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a threading layer runs the parts one after the other on one thread."""
    monkeypatch.setattr(engine, "LARGEST_UNSHARED_BYTES", 0)
    model = MLP([7, 30, 5])
    X = np.random.default_rng(0).normal(size=(600, 7)).astype(np.float32)
    wanted = model.forward(X)
    network = model.network
    for parts in ((0, 1), (1, 0)):
        call = engine.Call(network, 256, 2, shared=True, training=False)
        results = np.zeros((600, 5), np.float32)
        call.context[layout.SHARES_CHUNKS], call.context[layout.ROWS] = 1, 256
        call.keep(layout.ORDER, np.zeros(512, np.int64))
        call.keep(layout.RESULTS, results)
        call.set_inputs(check_inputs(X, 7, network.dtype))
        for part in parts:
            predict_part(call.kept(layout.KERNELS), part, 2, network.parameters, call.context)
        np.testing.assert_array_equal(results, wanted)
