"""The model: how it is described, what it computes, and how it is kept."""

from __future__ import annotations

import concurrent.futures
import copy
import json
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastmlp
from fastmlp import MLP, Dense, ModelFileError, Trainer, engine
from fastmlp.activations import ACTIVATIONS
from fastmlp.initializers import initial_weights
from fastmlp.layers import MAX_UNITS
from fastmlp.serialization import read_model_file, write_model_file
from fastmlp.threads import available_threads

Array = np.ndarray[Any, Any]

TOLERANCE = {"float32": {"rtol": 5e-5, "atol": 1e-5}, "float64": {"rtol": 1e-11, "atol": 1e-12}}


def naive_forward(model: MLP, X: Any, mean: Any = 0.0, std: Any = 1.0) -> Array:
    """The model's outputs as the textbook has them, in float64."""
    return naive.forward((np.asarray(X, np.float64) - mean) / std, naive.layers_of(model))


def randomise(model: MLP, seed: int = 0) -> MLP:
    """Give a model weights and biases none of which are zero."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=array.shape) / np.sqrt(array.shape[0] if array.ndim == 2 else 4)
                       for array in model.get_weights()])
    return model


def inputs_for(model: MLP, rows: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=(rows, model.inputs)).astype(model.dtype)


def assert_same_model(found: MLP, expected: MLP) -> None:
    """Everything that makes a model, bit for bit."""
    assert found.inputs == expected.inputs
    assert found.layers == expected.layers
    assert found.dtype == expected.dtype
    for a, b in zip([*found.get_weights(), found.input_mean, found.input_std],
                    [*expected.get_weights(), expected.input_mean, expected.input_std], strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.tobytes() == b.tobytes()


# ---- construction


def activations_of(model: MLP) -> list[str | None]:
    return [layer.activation for layer in model.layers]


def test_sizes_with_the_default_activations() -> None:
    model = MLP([4, 8, 6, 3])
    assert (model.inputs, [layer.units for layer in model.layers], model.outputs) == (4, [8, 6, 3], 3)
    assert activations_of(model) == ["relu", "relu", "softmax"]
    assert model.output == "softmax"
    assert model.dtype == np.float32


def test_one_output_is_sigmoid_by_default() -> None:
    assert MLP([4, 1]).output == "sigmoid"
    assert MLP([4, 8, 1], activation="tanh").output == "sigmoid"


@pytest.mark.parametrize("output", ACTIVATIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_named_activations(activation: str, output: str) -> None:
    assert activations_of(MLP([4, 8, 6, 3], activation=activation, output=output)) == [activation, activation, output]


def test_a_layer_that_names_its_activation_keeps_it() -> None:
    layers = [4, 8, Dense(7, "elu", alpha=0.3, initializer="zeros"), Dense(5), Dense(3, "identity")]
    model = MLP(layers, activation="tanh", output="sigmoid")
    assert model.layers == [Dense(8, "tanh"), Dense(7, "elu", 0.3, "zeros"), Dense(5, "tanh"), Dense(3, "identity")]
    assert model.output == "identity"


def test_layers_may_be_any_iterable_of_any_integers() -> None:
    for layers in ((4, 8, 3), iter([4, 8, 3]), np.array([4, 8, 3]), [np.int8(4), np.uint16(8), Dense(3)]):
        model = MLP(layers)
        assert_same_model(model, MLP([4, 8, 3]))
        assert type(model.inputs) is int


@pytest.mark.parametrize("dtype", ["float64", np.float64, np.dtype("float64"), "f8", float, ">f8"])
def test_dtypes(dtype: Any) -> None:
    model = MLP([4, 8, 3], dtype=dtype)
    assert model.dtype == np.dtype("float64")
    assert model.dtype.isnative
    assert {array.dtype for array in model.get_weights()} == {np.dtype("float64")}


@pytest.mark.parametrize(("arguments", "error", "name"), [
    ({"layers": []}, ValueError, "layers"),
    ({"layers": [4]}, ValueError, "layers"),
    ({"layers": 4}, TypeError, "layers"),
    ({"layers": None}, TypeError, "layers"),
    ({"layers": "4, 3"}, TypeError, "layers"),
    ({"layers": b"43"}, TypeError, "layers"),
    ({"layers": [Dense(4), 3]}, TypeError, "layers"),
    ({"layers": [None, 3]}, (TypeError, ValueError), "layers"),
    ({"layers": [4, None]}, TypeError, r"layers\[1\]"),
    ({"layers": [4, type("Own", (Dense,), {})(8), 3]}, TypeError, r"layers\[1\]"),
    ({"layers": [4.0, 3]}, TypeError, r"layers\[0\]"),
    ({"layers": ["4", 3]}, TypeError, r"layers\[0\]"),
    ({"layers": [True, 3]}, TypeError, r"layers\[0\]"),
    ({"layers": [0, 3]}, ValueError, r"layers\[0\]"),
    ({"layers": [4, 8, 0]}, ValueError, r"layers\[2\]"),
    ({"layers": [4, -8, 3]}, ValueError, r"layers\[1\]"),
    ({"layers": [4, 8.5, 3]}, TypeError, r"layers\[1\]"),
    ({"layers": [4, [8], 3]}, TypeError, r"layers\[1\]"),
    ({"layers": [4, 10**12]}, ValueError, r"layers\[1\]"),
    ({"layers": [10**12, 4]}, ValueError, r"layers\[0\]"),
    ({"layers": [MAX_UNITS, MAX_UNITS]}, ValueError, "layers"),
    ({"activation": "swish"}, ValueError, "activation"),
    ({"activation": None}, TypeError, "activation"),
    ({"activation": np.tanh}, TypeError, "activation"),
    ({"output": "log_softmax"}, ValueError, "output"),
    ({"output": 3}, TypeError, "output"),
    ({"dtype": "float16"}, ValueError, "dtype"),
    ({"dtype": "int32"}, ValueError, "dtype"),
    ({"dtype": None}, ValueError, "dtype"),
    ({"dtype": "single precision"}, TypeError, "dtype"),
    ({"dtype": 32}, TypeError, "dtype"),
    ({"dtype": {"names": ["a"]}}, (TypeError, ValueError), "dtype"),
    ({"dtype": "f4,("}, (TypeError, ValueError), "dtype"),
    ({"seed": -1}, ValueError, "seed"),
    ({"seed": 2**63}, ValueError, "seed"),
    ({"seed": 1.0}, TypeError, "seed"),
    ({"seed": "1"}, TypeError, "seed"),
    ({"seed": True}, TypeError, "seed"),
    ({"input_mean": "0"}, TypeError, "input_mean"),
    ({"input_mean": None}, TypeError, "input_mean"),
    ({"input_mean": 1j}, TypeError, "input_mean"),
    ({"input_mean": [0.0, 1.0]}, ValueError, "input_mean"),
    ({"input_mean": [0.0, [1.0]]}, (TypeError, ValueError), "input_mean"),
    ({"input_mean": np.zeros((1, 4))}, ValueError, "input_mean"),
    ({"input_mean": float("nan")}, ValueError, "input_mean"),
    ({"input_mean": [0.0, 1.0, float("inf"), 0.0]}, ValueError, "input_mean"),
    ({"input_mean": 1e300}, ValueError, "input_mean"),
    ({"input_std": 0.0}, ValueError, "input_std"),
    ({"input_std": -1.0}, ValueError, "input_std"),
    ({"input_std": [1.0, 1.0, 0.0, 1.0]}, ValueError, "input_std"),
    ({"input_std": float("inf")}, ValueError, "input_std"),
    ({"input_std": float("nan")}, ValueError, "input_std"),
    ({"input_std": [1.0] * 5}, ValueError, "input_std"),
    ({"input_std": 1e300}, ValueError, "input_std"),
    ({"input_std": 1e-300}, ValueError, "input_std"),  # zero as float32
    ({"input_std": 1e-40}, ValueError, "input_std"),  # its reciprocal is infinite as float32
])
def test_bad_arguments_are_named(arguments: dict[str, Any], error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=f"^{name} ") as caught:
        MLP(**{"layers": [4, 8, 3], **arguments})
    assert "\n" not in str(caught.value)


def test_a_failed_construction_leaves_nothing_behind() -> None:
    class Kept(MLP):
        made: list[MLP] = []  # noqa: RUF012

        def __new__(cls, *arguments: Any, **options: Any) -> Kept:
            model = super().__new__(cls)
            cls.made.append(model)
            return model

    with pytest.raises(ValueError, match="input_std"):
        Kept([4, 8, 3], input_std=0.0)
    [half_built] = Kept.made
    assert not hasattr(half_built, "network")


def test_lists_that_were_passed_in_are_not_held_on_to() -> None:
    sizes: list[int | Dense] = [4, 8, 3]
    mean = np.ones(4, np.float32)
    model = MLP(sizes, input_mean=mean)
    expected = model.forward(np.ones((1, 4)))
    sizes[1] = 100
    mean[:] = 5
    np.testing.assert_array_equal(model.forward(np.ones((1, 4))), expected)
    assert model.input_mean.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ["input_mean", "input_std"])
def test_the_scaling_cannot_be_changed(name: str, tmp_path: Path) -> None:
    model = MLP([4, 3], input_mean=1.0, input_std=2.0)
    model.save(tmp_path / "m")
    for one in (model, copy.deepcopy(model), MLP.load(tmp_path / "m")):
        with pytest.raises(ValueError, match="read-only"):
            getattr(one, name)[:] = 0
        with pytest.raises(AttributeError, match=f"^{name} cannot be set: make another MLP"):
            setattr(one, name, np.zeros(4))
        assert_same_model(one, MLP([4, 3], input_mean=1.0, input_std=2.0))


# ---- initial weights


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    for layers in ([4, 8, 3], [4, 8, Dense(3, initializer="normal")]):
        a, b, c = MLP(layers, seed=5), MLP(layers, seed=np.int64(5)), MLP(layers, seed=6)
        assert_same_model(a, b)
        for first, second in zip(a.get_weights()[::2], c.get_weights()[::2], strict=True):
            assert not np.array_equal(first, second)


def test_seed_none_takes_another_one_each_time_and_the_default_does_not() -> None:
    assert not np.array_equal(MLP([4, 8, 3], seed=None).get_weights()[0], MLP([4, 8, 3], seed=None).get_weights()[0])
    assert_same_model(MLP([4, 8, 3]), MLP([4, 8, 3], seed=0))


def test_the_largest_seed() -> None:
    assert_same_model(MLP([4, 3], seed=2**63 - 1), MLP([4, 3], seed=2**63 - 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_initial_weights_are_those_of_the_initializers_and_biases_are_zero(dtype: str) -> None:
    model = MLP([7, 20, Dense(9, "tanh", initializer="lecun_normal"), 3], seed=11, dtype=dtype)
    rng = np.random.default_rng(11)
    weights = model.get_weights()
    described = [("auto", 7, 20, "relu"), ("lecun_normal", 20, 9, "tanh"), ("auto", 9, 3, "softmax")]
    for number, arguments in enumerate(described):
        np.testing.assert_array_equal(weights[2 * number], initial_weights(*arguments, rng, dtype))
        np.testing.assert_array_equal(weights[2 * number + 1], 0)


def test_models_of_both_dtypes_begin_with_the_same_weights() -> None:
    for single, double in zip(MLP([5, 9, 2]).get_weights(), MLP([5, 9, 2], dtype="float64").get_weights(), strict=True):
        np.testing.assert_array_equal(single, double.astype(np.float32))


# ---- forward


HIDDEN_SIZES = [[], [7], [33, 5], [16, 31, 18]]  # widths around those of registers and panels, and others
ROWS = (1, 2, 17, 100, 1000)
# Those that pass a rounding error on as a small error: exponentials of exponentials enlarge it, step and sign jump.
STEADY = tuple(name for name in ACTIVATIONS if name not in ("exponential", "step", "sign"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("hidden", HIDDEN_SIZES, ids=lambda sizes: f"depth{len(sizes) + 1}")
@pytest.mark.parametrize("activation", STEADY)
def test_forward_is_that_of_the_textbook(activation: str, hidden: list[int], dtype: str) -> None:
    outputs = list(ACTIVATIONS)
    for inputs, units, output in ((13, 3, "identity"), (1, 1, activation), (20, 19, outputs[len(hidden)])):
        model = randomise(MLP([inputs, *hidden, units], activation=activation, output=output, dtype=dtype))
        for rows in ROWS:
            X = inputs_for(model, rows)
            found = model.forward(X)
            assert found.shape == (rows, units)
            assert found.dtype == model.dtype
            np.testing.assert_allclose(found, naive_forward(model, X), **TOLERANCE[dtype])
        assert rows > model.network.chunk_rows  # so that there was more than one chunk


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("output", ACTIVATIONS)
def test_every_output_activation(output: str, dtype: str) -> None:
    for units in (1, 2, 15, 16, 17, 40):
        model = randomise(MLP([6, 10, units], activation="tanh", output=output, dtype=dtype))
        X = inputs_for(model, 23)
        np.testing.assert_allclose(model.forward(X), naive_forward(model, X), **TOLERANCE[dtype])


@pytest.mark.parametrize("activation", ["leaky_relu", "elu"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 2.5, 10.0])
def test_alpha(activation: str, alpha: float) -> None:
    model = randomise(MLP([6, Dense(10, activation, alpha), Dense(4, activation, alpha)], dtype="float64"))
    X = inputs_for(model, 23)
    np.testing.assert_allclose(model.forward(X), naive_forward(model, X), **TOLERANCE["float64"])


@settings(deadline=None, max_examples=60)
@given(sizes=st.lists(st.integers(1, 70), min_size=2, max_size=5), rows=st.integers(1, 70),
       activation=st.sampled_from(STEADY), output=st.sampled_from(STEADY),
       dtype=st.sampled_from(["float32", "float64"]), seed=st.integers(0, 2**32))
def test_forward_of_any_shape(sizes: list[int], rows: int, activation: str, output: str, dtype: str,
                              seed: int) -> None:
    model = randomise(MLP(sizes, activation=activation, output=output, dtype=dtype), seed)
    X = inputs_for(model, rows, seed)
    np.testing.assert_allclose(model.forward(X), naive_forward(model, X), **TOLERANCE[dtype])


def test_a_wide_layer() -> None:
    model = randomise(MLP([301, 1030, 5], activation="relu", output="identity"))
    X = inputs_for(model, 90)
    np.testing.assert_allclose(model.forward(X), naive_forward(model, X), rtol=1e-4, atol=5e-5)


def test_large_pre_activations_do_not_overflow() -> None:
    X = np.array([[1.0], [-1.0], [1e4], [-1e4], [1e30], [-1e30]])
    for name in ("sigmoid", "tanh", "softmax"):
        model = MLP([1, Dense(3, name)])
        model.set_weights([np.array([[100.0, -50.0, 0.0]]), np.zeros(3)])
        outputs = model.forward(X)
        assert np.isfinite(outputs).all()
        assert (np.abs(outputs) <= 1).all()
        assert outputs[2, 0] == 1
        assert outputs[3, 0] == (-1 if name == "tanh" else 0)


@pytest.mark.parametrize("output", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_rows_give_no_outputs(output: str, dtype: str) -> None:
    model = MLP([4, 5, 3], output=output, dtype=dtype)
    nothing = np.zeros((0, 4))
    outputs = model.forward(nothing)
    assert outputs.shape == (0, 3)
    assert outputs.dtype == model.dtype
    labels = model.predict(nothing)
    assert labels.shape == ((0,) if output == "softmax" else (0, 3))
    assert labels.dtype == (np.int64 if output in ("softmax", "sigmoid") else model.dtype)


def test_forward_does_not_change_its_inputs_or_the_model() -> None:
    model = randomise(MLP([4, 5, 3], input_mean=1.0))
    X = inputs_for(model, 30)
    before, weights = X.copy(), model.get_weights()
    model.forward(X)
    np.testing.assert_array_equal(X, before)
    for a, b in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_results_are_new_arrays_each_time() -> None:
    model = randomise(MLP([4, 5, 3]))
    X = inputs_for(model, 30)
    first = model.forward(X)
    kept = first.copy()
    second = model.forward(-X)
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, kept)
    assert first.flags.writeable
    assert first.flags.c_contiguous


# ---- same bits, however the rows come


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("sizes", [[300, 100, 50, 10], [5, 9, 3], [40, 70, 1], [60, 200]], ids=str)
def test_a_row_gives_the_same_bits_alone_in_a_batch_and_on_any_number_of_threads(
        sizes: list[int], shared: bool, standardised: bool, dtype: str, threads: Callable[[int], None],
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LEAST_PARALLEL_WORK", 0)  # so that two threads are used for any work
    monkeypatch.setattr(engine, "LARGEST_UNSHARED_BYTES", 0 if shared else 1 << 40)
    scaling = {"input_mean": 0.5, "input_std": 2.0} if standardised else {}
    model = randomise(MLP(sizes, activation="elu", dtype=dtype, **scaling))
    X = inputs_for(model, 1500)
    threads(1)
    expected = model.forward(X)
    for rows in (1, 2, 17, 100):
        assert model.forward(X[:rows]).tobytes() == expected[:rows].tobytes()
    for row in (0, 1, 13, 511, 512, 1499):
        assert model.forward(X[row : row + 1]).tobytes() == expected[row].tobytes()
    assert model.forward(X[::-3]).tobytes() == expected[::-3].tobytes()
    threads(2)
    assert model.forward(X).tobytes() == expected.tobytes()
    for rows in (1, 2, 17, 701):
        assert model.forward(X[:rows]).tobytes() == expected[:rows].tobytes()


def test_prediction_really_uses_the_threads(threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    original = engine.team_of

    def team_of(parts: int) -> Any:
        used.append(parts)
        return original(parts)

    monkeypatch.setattr(engine, "team_of", team_of)
    model = MLP([300, 100, 10])
    X = inputs_for(model, 1500)
    threads(1)
    model.forward(X)
    threads(2)
    model.forward(X)
    model.forward(X[:1])  # too little work to share: called directly
    model.forward(X[:1400])  # a number of rows that nothing is known of yet
    assert used == [1, 2, 2]


@pytest.mark.parametrize("moment", ["set_inputs", "predict", "predict_rows", "forget"])
def test_a_prediction_may_interrupt_another(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a handler of signals does that predicts, or evaluates, between any two lines."""
    rng = np.random.default_rng(0)
    model, X, others = MLP([20, 10, 3]), rng.normal(size=(9000, 20)), rng.normal(size=(500, 20))
    if moment == "predict_rows":  # of arrays that need no conversion, and are large
        X = X.astype(np.float32)
    y, trainer = rng.integers(0, 3, 9000), Trainer(model)
    wanted = model.forward(X), model.forward(others), trainer.evaluate(X, y)
    plain, nested = getattr(engine.Call, moment), []

    def interrupted(call: Any, *arguments: Any) -> Any:
        result = plain(call, *arguments)
        if not nested:
            nested.append(None)
            nested[0] = (model.forward(others), trainer.evaluate(X, y))
        return result

    monkeypatch.setattr(engine.Call, moment, interrupted)
    np.testing.assert_array_equal(model.forward(X), wanted[0])
    np.testing.assert_array_equal(nested[0][0], wanted[1])
    assert nested[0][1] == wanted[2]
    if moment != "predict_rows":
        nested.clear()
        assert trainer.evaluate(X, y) == wanted[2]
        assert nested[0][1] == wanted[2]


def test_few_rows_are_shared_out_evenly(threads: Callable[[int], None]) -> None:
    threads(2)
    model = MLP([300, 100, 10])
    shares = []
    for rows in (1, 64, 200, 700, 10_000):
        call = engine.take_prediction_call(model.network, rows, engine.threads_for_call(rows * model.network.work))
        chunk = engine._even_chunk_rows(call, rows)
        assert min(rows, engine.LEAST_CHUNK_ROWS) <= chunk <= model.network.chunk_rows
        shares.append(-(-rows // chunk))
    assert shares[:2] == [1, 2]
    assert [share % 2 for share in shares[1:]] == [0] * 4


def test_predictions_from_several_python_threads_at_once(threads: Callable[[int], None]) -> None:
    threads(min(2, available_threads()))
    models = [randomise(MLP(sizes, activation="tanh", dtype=dtype), seed)
              for seed, (sizes, dtype) in enumerate([([200, 80, 10], "float32"), ([30, 500, 4], "float64"),
                                                     ([3, 4, 2], "float32"), ([200, 80, 10], "float64")])]
    batches = [inputs_for(model, 700) for model in models]
    expected = [model.forward(X).tobytes() for model, X in zip(models, batches, strict=True)]
    start = threading.Barrier(4)

    def work(number: int) -> list[tuple[int, bool]]:
        start.wait(timeout=60)
        found = []
        for turn in range(12):
            which = (number + turn) % 4  # the same model is used from two threads at once, too
            found.append((which, models[which].forward(batches[which]).tobytes() == expected[which]))
        return found

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for results in pool.map(work, [0, 0, 1, 2]):
            assert [which for which, right in results if not right] == []


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_what_was_asked_before_does_not_matter(seed: int, shared: bool, threads: Callable[[int], None],
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of all kinds and sizes, one after the other on one model, against each of them on a fresh one."""
    monkeypatch.setattr(engine, "LEAST_PARALLEL_WORK", 20_000)
    monkeypatch.setattr(engine, "LARGEST_UNSHARED_BYTES", 0 if shared else 1 << 40)
    model = randomise(MLP([40, 30, 5], activation="tanh"))
    trainer = Trainer(model)
    X, y = inputs_for(model, 1300), np.random.default_rng(0).integers(0, 5, 1300)
    rng = np.random.default_rng(seed)
    for _ in range(8):
        threads(int(rng.integers(1, min(2, available_threads()) + 1)))
        rows, dtype = int(rng.choice([1, 3, 64, 500, 513, 1300])), str(rng.choice(["float32", "float64", "uint8"]))
        batch, labels = np.abs(X[:rows]).astype(dtype), y[:rows]
        fresh = copy.deepcopy(model)
        if rng.random() < 0.3:
            assert trainer.evaluate(batch, labels) == Trainer(fresh).evaluate(batch, labels)
        else:
            assert model.forward(batch).tobytes() == fresh.forward(batch).tobytes()
        if rng.random() < 0.2:
            randomise(model, int(rng.integers(100)))


# ---- predict and predict_proba


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predict_labels(dtype: str) -> None:
    model = randomise(MLP([6, 9, 4], dtype=dtype))
    X = inputs_for(model, 300)
    labels = model.predict(X)
    assert labels.dtype == np.int64
    assert labels.shape == (300,)
    np.testing.assert_array_equal(labels, naive_forward(model, X).argmax(axis=1))
    assert len(np.unique(labels)) > 1


@pytest.mark.parametrize("units", [1, 3])
def test_predict_yes_or_no(units: int) -> None:
    model = randomise(MLP([6, 9, units], output="sigmoid", dtype="float64"))
    X = inputs_for(model, 300)
    answers = model.predict(X)
    assert answers.dtype == np.int64
    assert answers.shape == (300, units)
    np.testing.assert_array_equal(answers, naive_forward(model, X) > 0.5)
    assert set(np.unique(answers)) == {0, 1}


@pytest.mark.parametrize("output", ["identity", "tanh", "relu", "leaky_relu", "elu"])
def test_predict_values(output: str) -> None:
    model = randomise(MLP([6, 9, 2], output=output))
    X = inputs_for(model, 30)
    np.testing.assert_array_equal(model.predict(X), model.forward(X))
    with pytest.raises(ValueError, match=f"^predict_proba needs .*'softmax' or 'sigmoid', got '{output}'"):
        model.predict_proba(X)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predict_proba(output: str, dtype: str) -> None:
    model = randomise(MLP([6, 9, 5], output=output, dtype=dtype))
    X = inputs_for(model, 300)
    probabilities = model.predict_proba(X)
    np.testing.assert_array_equal(probabilities, model.forward(X))
    np.testing.assert_allclose(probabilities, naive_forward(model, X), **TOLERANCE[dtype])
    if output == "softmax":
        np.testing.assert_allclose(probabilities.sum(axis=1, dtype=np.float64), 1, rtol=1e-6)


def test_ties_go_to_the_first_class_and_one_half_is_no() -> None:
    model = MLP([2, Dense(3, initializer="zeros")])
    assert model.predict(np.ones((2, 2))).tolist() == [0, 0]
    model = MLP([2, Dense(1, "sigmoid", initializer="zeros")])
    assert model.predict(np.ones((2, 2))).tolist() == [[0], [0]]


@pytest.mark.parametrize("method", ["forward", "predict", "predict_proba"])
@pytest.mark.parametrize(("X", "error"), [
    (np.zeros(4), ValueError), (np.zeros((2, 3)), ValueError), (np.zeros((2, 4, 1)), ValueError), (0.0, ValueError),
    (None, TypeError), (np.zeros((2, 4), complex), TypeError), ([["a"] * 4], TypeError),
    ([[1, 2, 3, 4], [1]], ValueError), (np.full((2, 4), np.nan), ValueError), (np.full((2, 4), np.inf), ValueError),
])
def test_bad_inputs_are_refused_by_name(method: str, X: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"^X must be"):
        getattr(MLP([4, 3]), method)(X)


# ---- scaling of the inputs


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("mean", "std"), [
    (0.0, 255.0), (10, 1), (33.3, 77.7), (np.linspace(-5, 200, 6), 2.0), (1.5, np.linspace(0.5, 90, 6)),
    (np.linspace(-5, 200, 6), np.linspace(0.5, 90, 6)), (np.float16(2), [1, 2, 3, 4, 5, 6]),
])
def test_scaling_is_what_it_is_by_hand(mean: Any, std: Any, dtype: str) -> None:
    model = randomise(MLP([6, 20, 3], activation="tanh", dtype=dtype, input_mean=mean, input_std=std))
    plain = MLP([6, 20, 3], activation="tanh", dtype=dtype)
    plain.set_weights(model.get_weights())
    X = np.random.default_rng(0).normal(mean, std, (40, 6))
    for given_X in (X, X.astype(np.float32), np.asfortranarray(X)):
        scaled = (np.asarray(given_X, np.float64) - np.asarray(mean, np.float64)) / np.asarray(std, np.float64)
        found = model.forward(given_X)
        np.testing.assert_allclose(found, naive_forward(model, given_X, mean, std), **TOLERANCE[dtype])
        np.testing.assert_allclose(found, plain.forward(scaled), **TOLERANCE[dtype])
    np.testing.assert_array_equal(model.input_mean, np.broadcast_to(mean, (6,)).astype(dtype))
    np.testing.assert_array_equal(model.input_std, np.broadcast_to(std, (6,)).astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scaling", [{}, {"input_std": 255}, {"input_mean": 33.3, "input_std": 78.6}], ids=str)
def test_bytes_as_inputs(dtype: str, scaling: dict[str, float]) -> None:
    model = randomise(MLP([50, 20, 3], activation="tanh", dtype=dtype, **scaling))
    if not scaling:  # keep the sums small
        model.set_weights([array / 100 for array in model.get_weights()])
    X = np.random.default_rng(0).integers(0, 256, (60, 50), np.uint8)
    X[0], X[1] = 0, 255
    mean, std = scaling.get("input_mean", 0), scaling.get("input_std", 1)
    np.testing.assert_allclose(model.forward(X), naive_forward(model, X, mean, std), **TOLERANCE[dtype])
    if not scaling:
        assert model.forward(X).tobytes() == model.forward(X.astype(dtype)).tobytes()


def test_arrays_that_are_read_directly_and_others_give_the_same() -> None:
    model = MLP([4, 3], seed=1)
    X = inputs_for(model, 5)
    wanted = model.forward(X)
    read_only = X.copy()
    read_only.flags.writeable = False
    others = [np.asfortranarray(X), np.repeat(X, 2, axis=0)[::2], X.astype(np.float64), X.tolist(), read_only]
    assert model.network.reads_directly(X)
    assert not model.network.reads_directly(X[:, :3])
    for other in others:
        assert not model.network.reads_directly(other)
        np.testing.assert_array_equal(model.forward(other), wanted)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_found_wherever_it_lies(value: float) -> None:
    """By the kernels as they read: in whole registers and in the rest of a row, in few rows and in many."""
    for inputs, rows in ((3, 1), (40, 2), (40, 3000)):
        model = MLP([inputs, 20, 3], activation="sigmoid")
        for row, column in ((0, 0), (rows - 1, inputs - 1)):
            X = inputs_for(model, rows)
            X[row, column] = value
            with pytest.raises(ValueError, match=f"X must be finite.*row {row}, column {column}"):
                model.forward(X)
            X[row, column] = 0.0
            assert np.isfinite(model.forward(X)).all()


# ---- weights


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [[1, 1], [13, 7, 3], [5, 33, 64, 16], [3, 31, 32, 65, 1]], ids=str)
def test_weights_come_back_as_they_were_set(sizes: list[int], dtype: str) -> None:
    model = MLP(sizes, dtype=dtype)
    rng = np.random.default_rng(0)
    shapes = [shape for i, o in pairwise(sizes) for shape in ((i, o), (o,))]
    weights = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    model.set_weights(weights)
    found = model.get_weights()
    assert [array.shape for array in found] == shapes
    for a, b in zip(found, weights, strict=True):
        assert a.dtype == np.dtype(dtype)
        assert a.flags.c_contiguous
        assert a.tobytes() == b.tobytes()


def test_weights_are_copies_both_ways() -> None:
    model = randomise(MLP([4, 5, 3]))
    first = model.get_weights()
    kept = [array.copy() for array in first]
    for array in first:
        array[...] = 100
    for a, b in zip(model.get_weights(), kept, strict=True):
        np.testing.assert_array_equal(a, b)
    model.set_weights(kept)
    kept[0][...] = 100
    assert (model.get_weights()[0] != 100).all()


def test_weights_are_converted() -> None:
    model = MLP([2, 3])
    for weights in (
        [[[1, 2, 3], [4, 5, 6]], [7, 8, 9]],
        (np.array([[1, 2, 3], [4, 5, 6]], np.int8), np.array([7, 8, 9], ">f8")),
        iter([np.asfortranarray([[1.0, 2, 3], [4, 5, 6]]), np.array([9.0, 8, 7])[::-1]]),
        [np.array([[1, 2, 3], [4, 5, 6]], np.float16), np.array([7, 8, 9], np.uint64)],
    ):
        model.set_weights([np.zeros((2, 3)), np.zeros(3)])
        model.set_weights(weights)
        assert [array.tolist() for array in model.get_weights()] == [[[1, 2, 3], [4, 5, 6]], [7, 8, 9]]
        assert model.get_weights()[0].dtype == np.float32
    model.set_weights([np.full((2, 3), True), np.full(3, 1 / 3)])
    assert (model.get_weights()[0] == 1).all()
    assert (model.get_weights()[1] == np.float32(1 / 3)).all()


GOOD = [np.ones((4, 5)), np.ones(5), np.ones((5, 3)), np.ones(3)]


@pytest.mark.parametrize(("weights", "error", "name"), [
    ([], ValueError, "weights must be 4 arrays, got 0"),
    (GOOD[:3], ValueError, "weights must be 4 arrays, got 3"),
    ([*GOOD, np.ones(3)], ValueError, "weights must be 4 arrays, got 5"),
    ([*GOOD[:3], np.ones(4)], ValueError, r"weights\[3\] must have shape \(3,\), got \(4,\)"),
    ([*GOOD[:2], np.ones((3, 5)), GOOD[3]], ValueError, r"weights\[2\]"),
    ([*GOOD[:3], np.ones((1, 3))], ValueError, r"weights\[3\]"),
    ([*GOOD[:3], 1.0], ValueError, r"weights\[3\]"),
    ([*GOOD[:3], None], TypeError, r"weights\[3\]"),
    ([*GOOD[:3], ["a", "b", "c"]], TypeError, r"weights\[3\]"),
    ([*GOOD[:3], np.ones(3, complex)], TypeError, r"weights\[3\]"),
    ([*GOOD[:3], np.zeros(3, "M8[s]")], TypeError, r"weights\[3\]"),
    ([*GOOD[:3], [[1], [1, 2], 3]], (TypeError, ValueError), r"weights\[3\]"),
    (None, TypeError, "weights"),
    (5, TypeError, "weights"),
])
def test_wrong_weights_are_refused_by_name_and_change_nothing(weights: Any, error: type[Exception], name: str) -> None:
    model = MLP([4, 5, 3], seed=2)
    with pytest.raises(error, match=f"^{name}"):
        model.set_weights(weights)
    assert_same_model(model, MLP([4, 5, 3], seed=2))


def test_weights_too_large_for_float32_are_refused_or_become_infinite_but_nothing_in_between() -> None:
    model = MLP([4, 5, 3], seed=2)
    weights = [*GOOD[:2], np.full((5, 3), 1e300), GOOD[3]]
    try:
        model.set_weights(weights)
    except ValueError:
        assert_same_model(model, MLP([4, 5, 3], seed=2))
    else:
        assert (model.get_weights()[0] == 1).all()
        assert np.isposinf(model.get_weights()[2]).all()


def test_set_weights_reaches_the_outputs() -> None:
    model = MLP([2, 2], output="identity")
    model.forward(np.ones((1, 2)))
    model.set_weights([np.array([[1, 2], [3, 4]]), np.array([10, 20])])
    assert model.forward(np.array([[1, 0], [0, 1], [1, 1]])).tolist() == [[11, 22], [13, 24], [14, 26]]


# ---- description


def test_counts() -> None:
    model = MLP([784, 128, 10])
    assert model.parameter_count == 785 * 128 + 129 * 10 == sum(array.size for array in model.get_weights())
    assert MLP([1, 1]).parameter_count == 2


def test_summary_is_a_table_of_the_layers(capsys: pytest.CaptureFixture[str]) -> None:
    assert MLP([784, Dense(128, "elu"), 10], dtype="float64").summary() is None
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0].split() == ["layer", "inputs", "units", "activation", "parameters"]
    assert lines[1].split() == ["0", "784", "128", "elu", "100,480"]
    assert lines[2].split() == ["1", "128", "10", "softmax", "1,290"]
    assert lines[3] == "101,770 parameters, float64, 0.81 MB"
    assert len({len(line) for line in lines[:3]}) == 1


def test_repr_says_what_it_is() -> None:
    model = MLP([4, Dense(8, "tanh"), 3], dtype="float64")
    assert repr(model) == "MLP([4, Dense(8, 'tanh'), Dense(3, 'softmax')], dtype='float64')"
    again = eval(repr(model), {"MLP": MLP, "Dense": Dense})
    assert_same_model(again, model)


# ---- files


def every_kind() -> list[MLP]:
    """Models that between them have all that a file must hold."""
    mean, std = np.linspace(-1, 1, 5), np.linspace(0.1, 3, 5)
    return [
        randomise(MLP([5, 3])),
        randomise(MLP([5, 17, 3], dtype="float64", input_mean=mean, input_std=std)),
        randomise(MLP([5, Dense(9, "elu", 0.25, "normal"), Dense(33, "leaky_relu", 0.2), Dense(1, "tanh")],
                      input_mean=0.1307, input_std=0.3081)),
        randomise(MLP([5, *(Dense(4, name) for name in ACTIVATIONS)])),
    ]


@pytest.mark.parametrize("number", range(4))
def test_a_saved_model_comes_back_bit_for_bit(number: int, tmp_path: Path) -> None:
    model = every_kind()[number]
    path = tmp_path / "model.safetensors"
    model.save(path)
    loaded = MLP.load(path)
    assert type(loaded) is MLP
    assert_same_model(loaded, model)
    X = np.random.default_rng(0).normal(size=(30, 5))
    assert loaded.forward(X).tobytes() == model.forward(X).tobytes()
    model.save(str(path))
    assert_same_model(MLP.load(str(path)), model)


def test_what_is_saved_is_a_copy(tmp_path: Path) -> None:
    model = randomise(MLP([5, 4, 3]))
    expected = copy.deepcopy(model)
    model.save(tmp_path / "m")
    model.set_weights([np.zeros_like(array) for array in model.get_weights()])
    assert_same_model(MLP.load(tmp_path / "m"), expected)


def test_special_numbers_survive(tmp_path: Path) -> None:
    model = MLP([2, 2])
    model.set_weights([np.array([[-0.0, 1e-45], [np.finfo(np.float32).max, 1e-38]], np.float32), np.zeros(2)])
    model.save(tmp_path / "m")
    assert_same_model(MLP.load(tmp_path / "m"), model)


def test_load_of_what_is_no_file_of_a_model(tmp_path: Path) -> None:
    path = tmp_path / "m"
    for contents in (b"", b"junk", bytes(1000), b"\x80\x04N.", b'{"layers": []}'):
        path.write_bytes(contents)
        with pytest.raises(ModelFileError):
            MLP.load(path)
    with pytest.raises(FileNotFoundError):
        MLP.load(tmp_path / "missing")
    with pytest.raises(TypeError, match="path"):
        MLP.load(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="path"):
        MLP([2, 2]).save(None)  # type: ignore[arg-type]


def test_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "m"
    MLP([5, 4, 3]).save(path)
    contents = path.read_bytes()
    for length in range(0, len(contents), 37):
        path.write_bytes(contents[:length])
        with pytest.raises(ModelFileError):
            MLP.load(path)


Mutation = Callable[[dict[str, Any], dict[str, Any]], Any]


def set_layer(number: int, **values: Any) -> Mutation:
    return lambda description, tensors: description["layers"][number].update(values)


def set_description(**values: Any) -> Mutation:
    return lambda description, tensors: description.update(values)


def set_tensor(name: str, values: Any) -> Mutation:
    return lambda description, tensors: tensors.update({name: np.asarray(values)})


MUTATIONS: dict[str, Mutation] = {
    "no inputs": lambda description, tensors: description.pop("inputs"),
    "no dtype": lambda description, tensors: description.pop("dtype"),
    "no layers": lambda description, tensors: description.pop("layers"),
    "inputs is text": set_description(inputs="5"),
    "inputs is null": set_description(inputs=None),
    "inputs is a fraction": set_description(inputs=5.0),
    "inputs is negative": set_description(inputs=-5),
    "inputs is true": set_description(inputs=True),
    "other inputs": set_description(inputs=6),
    "absurd inputs": set_description(inputs=10**12),
    "inputs beyond int64": set_description(inputs=10**30),
    "dtype unknown": set_description(dtype="float16"),
    "dtype is null": set_description(dtype=None),
    "dtype is a list": set_description(dtype=["float32"]),
    "dtype is an object": set_description(dtype={"names": ["a"]}),
    "dtype is half a formula": set_description(dtype="f4,("),
    "dtype is a number": set_description(dtype=10**400),
    "layers is null": set_description(layers=None),
    "layers is a number": set_description(layers=3),
    "layers is text": set_description(layers="abc"),
    "layers is an object": set_description(layers={"0": {"units": 4}}),
    "layers is empty": set_description(layers=[]),
    "a layer is a number": set_description(layers=[4, 3]),
    "a layer is null": set_description(layers=[None, None]),
    "a layer too few": lambda description, tensors: description["layers"].pop(),
    "a layer too many": lambda description, tensors: description["layers"].append(description["layers"][0]),
    "unknown key": set_layer(0, momentum=0.5),
    "unknown kind": set_layer(0, kind="conv"),
    "kind of other keys": set_layer(0, kind="maxout"),
    "dropout is all": set_layer(0, dropout=1.0),
    "dropout is text": set_layer(0, dropout="0.5"),
    "dropout in the last layer": set_layer(1, dropout=0.5),
    "max_norm negative": set_layer(0, max_norm=-1),
    "shared without need": set_layer(0, shared=True),
    "prelu without slopes": set_layer(0, activation="prelu"),
    "unknown activation": set_layer(0, activation="swish"),
    "activation is null": set_layer(0, activation=None),
    "activation is a list": set_layer(1, activation=["relu"]),
    "activation is a number": set_layer(1, activation=3),
    "alpha without need": set_layer(0, activation="relu", alpha=0.5),
    "alpha negative": set_layer(0, alpha=-1),
    "alpha is text": set_layer(0, alpha="0.5"),
    "alpha beyond float": set_layer(0, alpha=10**400),
    "initializer unknown": set_layer(0, initializer="xavier"),
    "initializer is a list": set_layer(0, initializer=[]),
    "initializer is an object": set_layer(0, initializer={"a": 1}),
    "units zero": set_layer(0, units=0),
    "units is text": set_layer(0, units="4"),
    "units is null": set_layer(0, units=None),
    "other units": set_layer(0, units=5),
    "absurd units": set_layer(0, units=10**12),
    "units beyond int64": set_layer(0, units=10**30),
    "all units absurd": lambda description, tensors: [layer.update(units=10**12) for layer in description["layers"]],
    "units at the limit": set_layer(0, units=MAX_UNITS),
    "a terabyte of units": lambda description, tensors: [layer.update(units=2**19) for layer in description["layers"]],
    "a million inputs, one mean": lambda description, tensors: (
        description.update(inputs=2**20), description["layers"][0].update(units=2**18),
        tensors.update(input_mean=np.zeros((), np.float32), input_std=np.ones((), np.float32))),
    "missing weights": lambda description, tensors: tensors.pop("layers.1.weights"),
    "missing bias": lambda description, tensors: tensors.pop("layers.0.bias"),
    "missing mean": lambda description, tensors: tensors.pop("input_mean"),
    "missing std": lambda description, tensors: tensors.pop("input_std"),
    "one tensor more": set_tensor("layers.2.weights", np.zeros((3, 3))),
    "no tensors": lambda description, tensors: tensors.clear(),
    "weights transposed": lambda description, tensors: tensors.update(
        {"layers.0.weights": np.ascontiguousarray(tensors["layers.0.weights"].T)}),
    "bias of another length": set_tensor("layers.1.bias", np.zeros(4, np.float32)),
    "bias with two dimensions": set_tensor("layers.1.bias", np.zeros((1, 3), np.float32)),
    "weights are one number": set_tensor("layers.0.weights", np.float32(1)),
    "weights are empty": set_tensor("layers.0.weights", np.zeros((0, 4), np.float32)),
    "std zero": set_tensor("input_std", np.zeros(5, np.float32)),
    "std negative": set_tensor("input_std", np.full(5, -1, np.float32)),
    "std not a number": set_tensor("input_std", np.full(5, np.nan, np.float32)),
    "mean infinite": set_tensor("input_mean", np.full(5, np.inf, np.float32)),
    "mean of another length": set_tensor("input_mean", np.zeros(4, np.float32)),
    "mean too large for float32": set_tensor("input_mean", np.full(5, 1e300)),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_file_that_describes_no_model_is_refused_without_taking_memory(mutation: str, tmp_path: Path) -> None:
    path = tmp_path / "m"
    MLP([5, Dense(4, "elu", 0.5), 3]).save(path)
    tensors, description = read_model_file(path)
    write_model_file(path, tensors, description)
    assert_same_model(MLP.load(path), MLP([5, Dense(4, "elu", 0.5), 3]))  # unchanged, it is a model

    MUTATIONS[mutation](description, tensors)
    write_model_file(path, tensors, description)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError) as caught:
            MLP.load(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the memory of a process")
@pytest.mark.parametrize(("name", "error"), [("extra", "ModelFileError"), ("layers.1.weights", "ModelFileError"),
                                             ("training.extra", "MemoryError")])
def test_a_tensor_larger_than_memory(name: str, error: str, tmp_path: Path) -> None:
    """Which takes no space on the disk, but for a checkpoint, whose values may be of any size, is never read."""
    path, size = tmp_path / "m", 4 << 30
    model = MLP([5, Dense(4, "elu", 0.5), 3])
    write_model_file(path, model._tensors(), model._describe(), {} if error == "MemoryError" else None)
    contents = path.read_bytes()
    start = 8 + int.from_bytes(contents[:8], "little")
    header, numbers = json.loads(contents[8:start]), contents[start:]
    first = header[name]["data_offsets"][0] if name in header else len(numbers)  # the last one in the file
    header[name] = {"dtype": "F32", "shape": [size // 4], "data_offsets": [first, first + size]}
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + numbers)
    os.truncate(path, 8 + len(encoded) + first + size)
    program = """
import resource, sys
import safetensors
from fastmlp import MLP
from fastmlp.serialization import read_checkpoint_file
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 6 * 2**30,) * 2)  # to map the file, but not for a copy of it
try:
    (read_checkpoint_file if sys.argv[2] == "MemoryError" else MLP.load)(sys.argv[1])
except Exception as problem:
    print(type(problem).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program, str(path), error], capture_output=True, text=True,
                          check=False, env=os.environ | {"PYTHONPATH": str(Path(fastmlp.__file__).parents[1])})
    assert done.stdout == error + "\n", done.stderr


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
                    | st.sampled_from(["float32", "float64", "relu", "auto", "softmax", "f4,f4", "O", ""]),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["units", "activation", "alpha", "initializer"]), inner), max_leaves=6)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_change_of_the_description_gives_a_model_or_a_model_file_error(data: st.DataObject,
                                                                          tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.safetensors"
    MLP([5, Dense(4, "elu", 0.5), 3]).save(path)
    tensors, description = read_model_file(path)
    place: Any = description
    key: Any = data.draw(st.sampled_from(sorted(description)))
    while isinstance(place[key], (dict, list)) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = data.draw(JSON)
    write_model_file(path, tensors, description)
    try:
        model = MLP.load(path)
    except ModelFileError:
        return
    assert model.forward(np.zeros((1, 5))).shape == (1, 3)


# ---- copies


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("way", ["pickle", "deepcopy", "copy"])
def test_copies_are_equal_and_independent(number: int, way: str) -> None:
    model = every_kind()[number]
    if way == "pickle":
        duplicates = [pickle.loads(pickle.dumps(model, protocol)) for protocol in (2, pickle.HIGHEST_PROTOCOL)]
    else:
        duplicates = [copy.deepcopy(model) if way == "deepcopy" else copy.copy(model)]
    for duplicate in duplicates:
        assert type(duplicate) is MLP
        assert_same_model(duplicate, model)
        X = np.random.default_rng(0).normal(size=(30, 5))
        expected = model.forward(X)
        assert duplicate.forward(X).tobytes() == expected.tobytes()
        duplicate.set_weights([np.zeros_like(array) for array in duplicate.get_weights()])
        assert model.forward(X).tobytes() == expected.tobytes()


def test_a_pickle_holds_the_weights_once_and_nothing_of_this_machine() -> None:
    model = randomise(MLP([50, 100, 10]))
    size = sum(array.nbytes for array in model.get_weights())
    assert len(pickle.dumps(model)) < 1.2 * size + 2000
    contents = pickle.dumps(model.__getstate__())
    assert b"address" not in contents
    assert set(model.__getstate__()) == {"description", "tensors"}
