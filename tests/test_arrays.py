"""Inputs and targets: every array that holds numbers works, every other is refused by name before anything changes."""

from __future__ import annotations

import datetime
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp import MLP, DivergenceWarning, Trainer, arrays, engine
from fastmlp.arrays import check_inputs, check_labels, check_targets, require_finite
from fastmlp.thread_choice import ThreadChoice

Array = np.ndarray[Any, Any]

ROWS, INPUTS = 20, 6
RNG = np.random.default_rng(0)
CLEAN = RNG.integers(0, 100, (ROWS, INPUTS)).astype(np.float64)  # exact in every dtype
LABELS = RNG.integers(0, 3, ROWS)

INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
FLOATS = ["float16", "float32", "float64", "longdouble"]


def state_of(trainer: Trainer) -> Any:
    """All that a call could change; the history last, as it holds times."""
    return ([array.tobytes() for array in trainer.model.get_weights()], trainer._state.tobytes(), trainer.steps,
            trainer.epochs, trainer.history.to_dict())


def make_trainer(loss: str = "cross_entropy", output: str = "softmax", units: int = 3,
                 dtype: str = "float32") -> Trainer:
    """A trainer that has already made some steps."""
    trainer = Trainer(MLP([INPUTS, 5, units], output=output, dtype=dtype, input_std=50), loss, batch_size=7)
    y = {"cross_entropy": LABELS % units, "binary_cross_entropy": np.full((ROWS, units), 0.5)}
    trainer.fit(CLEAN, y.get(loss, np.ones((ROWS, units))), epochs=1, progress=False)
    return trainer


def calls_of(trainer: Trainer) -> dict[str, Callable[[Any, Any], Any]]:
    """Everything that takes inputs and targets."""
    return {
        "fit": lambda X, y: trainer.fit(X, y, epochs=1, progress=False),
        "step": trainer.step,
        "evaluate": trainer.evaluate,
        "loss_and_gradients": lambda X, y: trainer.model.loss_and_gradients(X, y, trainer.loss.name),
        "validation_data": lambda X, y: trainer.fit(CLEAN[:4], LABELS[:4] if trainer.loss.name == "cross_entropy"
                                                    else np.zeros((4, trainer.model.outputs)), epochs=1,
                                                    validation_data=(X, y), progress=False),
    }


CALLS = list(calls_of(make_trainer()))


def check_refused(call: str, trainer: Trainer, X: Any, y: Any, error: Any, message: str) -> None:
    before = state_of(trainer)
    prefix = "validation_data: " if call == "validation_data" else ""
    with pytest.raises(error, match=f"^{prefix}{message}"):
        calls_of(trainer)[call](X, y)
    assert state_of(trainer) == before


# ---- inputs that are refused


def with_number(number: Any, row: int, column: int, dtype: str = "float64") -> Array:
    X = CLEAN.astype(dtype)
    X[row, column] = number
    return X


BAD_INPUTS: dict[str, tuple[Any, type[Exception]]] = {
    "one dimension": (CLEAN[0], ValueError),
    "three dimensions": (CLEAN[np.newaxis], ValueError),
    "a number": (1.0, ValueError),
    "too few columns": (CLEAN[:, :-1], ValueError),
    "too many columns": (np.hstack([CLEAN, CLEAN]), ValueError),
    "transposed": (CLEAN[:INPUTS - 1].T, ValueError),
    "no rows": (CLEAN[:0], ValueError),
    "no columns": (CLEAN[:, :0], ValueError),
    "an empty list": ([], ValueError),
    "ragged lists": ([[1.0] * INPUTS] * (ROWS - 1) + [[1.0]], ValueError),
    "rows of arrays": ([np.ones(INPUTS), np.ones(INPUTS + 1)], ValueError),
    "nothing": (None, TypeError),
    "text": ("numbers", TypeError),
    "strings": (CLEAN.astype(str), TypeError),
    "bytes": (CLEAN.astype("S"), TypeError),
    "complex": (CLEAN + 0j, TypeError),
    "objects": (CLEAN.astype(object), TypeError),
    "datetimes": (np.zeros((ROWS, INPUTS), "M8[s]"), TypeError),
    "time spans": (np.zeros((ROWS, INPUTS), "m8[s]"), TypeError),
    "dates": ([[datetime.date(2000, 1, 1)] * INPUTS] * ROWS, TypeError),
    "records": (np.zeros((ROWS, INPUTS), [("a", "f4")]), TypeError),
    "raw memory": (np.zeros((ROWS, INPUTS), "V4"), TypeError),
    "a dict": ({"a": 1}, TypeError),
    "a function": (len, TypeError),
    "whole numbers beyond 64 bits": ([[10**30] * INPUTS] * ROWS, TypeError),
    "nan first": (with_number(np.nan, 0, 0), ValueError),
    "nan last": (with_number(np.nan, -1, -1), ValueError),
    "nan in the middle": (with_number(np.nan, 9, 3), ValueError),
    "inf first": (with_number(np.inf, 0, 0), ValueError),
    "inf last": (with_number(-np.inf, -1, -1), ValueError),
    "nan in float32": (with_number(np.nan, 9, 3, "float32"), ValueError),
    "inf in float32": (with_number(np.inf, 9, 3, "float32"), ValueError),
    "nan in float16": (with_number(np.nan, 9, 3, "float16"), ValueError),
    "inf in float16": (with_number(-np.inf, 9, 3, "float16"), ValueError),
    "nan in long double": (with_number(np.nan, 9, 3, "longdouble"), ValueError),
    "nan with the bytes swapped": (with_number(np.nan, 9, 3).astype(">f8"), ValueError),
    "nan in columns": (np.asfortranarray(with_number(np.nan, 9, 3)), ValueError),
    "nan and inf": (with_number([np.nan, np.inf], 9, [2, 3]), ValueError),
    "too large for float32": (with_number(1e39, 9, 3), ValueError),
    "far too large for float32": (with_number(-1e300, 9, 3), ValueError),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", BAD_INPUTS)
def test_bad_inputs_are_refused_before_anything_is_changed(kind: str, call: str) -> None:
    X, error = BAD_INPUTS[kind]
    check_refused(call, make_trainer(), X, LABELS, error, "X must be")


def test_errors_say_what_was_found() -> None:
    model = MLP([INPUTS, 3])
    for X, message in (
        (CLEAN[:, :2], rf"^X must be an array of real numbers of shape \(rows, {INPUTS}\), got shape \({ROWS}, 2\)$"),
        (CLEAN + 0j, r"got dtype complex128$"),
        (np.ma.masked_less(CLEAN, 0.0), r"^X must be .*, got a masked array; fill in what is masked"),
        (None, r"got NoneType$"),
        (with_number(np.nan, 9, 3), r"^X must be finite as float32, got nan in row 9, column 3$"),
        (with_number(-np.inf, ROWS - 1, 0), rf"got -inf in row {ROWS - 1}, column 0$"),
        (with_number(1e39, 0, 5), r"got 1e\+39 in row 0, column 5$"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            model.forward(X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (17_777, 42), (23_999, 99)])
def test_one_wrong_number_in_a_large_array(row: int, column: int, layout: Any, dtype: str) -> None:
    """Far into many blocks, and in a batch that would come only after thousands of others."""
    X = np.asarray(np.broadcast_to(np.linspace(-1, 1, 100), (24_000, 100)), dtype, order=layout).copy(layout)
    assert X.nbytes > 2 * arrays.BLOCK_BYTES
    y = np.zeros(len(X), int)
    trainer = Trainer(MLP([100, 3]))
    before = state_of(trainer)
    for number in (np.nan, np.inf):
        X[row, column] = number
        with pytest.raises(ValueError, match=rf"^X must be finite as float32, got {number} in row {row}, column"):
            trainer.fit(X, y, epochs=1, progress=False)
    assert state_of(trainer) == before


# Sets above this size may be searched while training goes on; what a user sees must be the same.
LARGE_ROWS = 24_000


def large_inputs(dtype: str = "float32") -> Array:
    return np.random.default_rng(0).normal(size=(LARGE_ROWS, 100)).astype(dtype)


def test_one_wrong_number_among_the_rows_held_out_of_a_large_array() -> None:
    X, y = large_inputs(), np.zeros(LARGE_ROWS, int)
    X[-1, 5] = np.nan
    trainer = Trainer(MLP([100, 3]))
    before = state_of(trainer)
    with pytest.raises(ValueError, match=r"^X must be finite as float32, got nan"):
        trainer.fit(X, y, epochs=1, validation_split=0.1, progress=False)
    assert state_of(trainer) == before


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky_relu", "elu", "softmax", "identity"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e39])
def test_wrong_numbers_in_large_arrays_are_found_whatever_the_network(activation: str, optimizer: str, number: float,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmlp.fit_arguments.LARGE_BYTES", 100)
    X = CLEAN / 100
    X[7, 2] = number
    for batch, scaling in ((6, {}), (ROWS, {"input_mean": 0.5})):
        trainer = Trainer(MLP([INPUTS, 5, 3], activation=activation, **scaling), optimizer=optimizer, batch_size=batch)
        trainer.fit(CLEAN, LABELS, epochs=1, progress=False)
        before = state_of(trainer)
        with pytest.raises(ValueError, match=r"^X must be finite as float32, got .* in row 7, column 2$"):
            trainer.fit(X, LABELS, epochs=3, progress=False)
        assert state_of(trainer) == before


@pytest.mark.parametrize("std", [1.0, 1e10])
def test_small_and_large_arrays_are_judged_alike(std: float) -> None:
    """Numbers too large for float32, even where scaling brings them back into its range."""
    X = large_inputs("float64")
    X[3, 3] = 1e39
    answers = []
    for rows in (10, LARGE_ROWS):
        trainer = Trainer(MLP([100, 3], input_std=std))
        try:
            trainer.fit(X[:rows], np.zeros(rows, int), epochs=1, progress=False)
        except ValueError as error:
            answers.append(str(error))
        else:
            answers.append("accepted")
    assert answers[0] == answers[1]


def test_a_wrong_number_is_found_where_training_diverges_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmlp.fit_arguments.LARGE_BYTES", 100)
    X, y = np.full((30, 4), 1e30, np.float32), np.ones((30, 1))
    for number in (np.nan, 1.0):
        X[29, 2] = number
        trainer = Trainer(MLP([4, 1], output="identity"), loss="mean_squared_error", optimizer="sgd", batch_size=5)
        before = state_of(trainer)
        if np.isnan(number):
            with pytest.raises(ValueError, match="X must be finite as float32, got nan in row 29, column 2"):
                trainer.fit(X, y, epochs=1, shuffle=False, progress=False)
            assert state_of(trainer) == before
        else:
            with pytest.warns(DivergenceWarning):
                trainer.fit(X, y, epochs=1, shuffle=False, progress=False)


def test_an_interrupt_while_training_on_wrong_numbers_leaves_no_ruined_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes before the first epoch is over, after the row with the NaN."""
    original = engine.Call.train

    def train(call: engine.Call, threads: int) -> None:
        original(call, threads)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine.Call, "train", train)
    monkeypatch.setattr(ThreadChoice, "next", lambda choice: (1, 1e-12))  # slices of one step
    X = large_inputs()
    X[0] = np.nan
    trainer = Trainer(MLP([100, 3]))
    with pytest.raises((KeyboardInterrupt, ValueError)):
        trainer.fit(X, np.zeros(LARGE_ROWS, int), epochs=1, shuffle=False, progress=False)
    assert all(np.isfinite(array).all() for array in trainer.model.get_weights())


@settings(deadline=None, max_examples=60)
@given(rows=st.integers(1, 40), columns=st.integers(1, 12), data=st.data(), dtype=st.sampled_from(FLOATS),
       number=st.sampled_from([np.nan, np.inf, -np.inf]), block=st.integers(1, 400))
def test_no_wrong_number_is_missed_whatever_the_blocks(rows: int, columns: int, data: st.DataObject, dtype: str,
                                                       number: float, block: int) -> None:
    array = np.ones((rows, columns), dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "BLOCK_BYTES", block)
        require_finite("X", array, np.dtype("float32"))
        place = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
        array[place] = number
        with pytest.raises(ValueError, match=rf"in row {place[0]}, column {place[1]}$"):
            require_finite("X", array, np.dtype("float32"))


def test_the_largest_numbers_of_a_dtype_are_fine() -> None:
    for dtype in ("float32", "float64"):
        largest = np.finfo(dtype).max
        X = np.full((40, 3), largest, dtype)
        X[::2] *= -1
        check_inputs(X, 3, np.dtype(dtype))
        check_inputs(X.astype(np.float64), 3, np.dtype(dtype))
        check_targets(X, 40, 3, np.dtype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("X", [
    np.full((30, 4), 255, np.float16),  # the squares alone are too large for float16
    np.full((30, 4), 60_000, np.float16),
    np.full((30, 4), 1e30, np.float32),
    np.full((30, 4), 1e30, np.float64),
    np.full((30, 4), 1e-30, np.float32),
    np.full((30, 4), 2**63, np.uint64),
], ids=lambda X: f"{X[0, 0]:.0e} {X.dtype}")
def test_finite_numbers_of_any_size_raise_no_warning(X: Array, dtype: str) -> None:
    """Warnings are errors here."""
    model = MLP([4, 3], dtype=dtype)
    model.set_weights([np.full((4, 3), 1e-31), np.zeros(3)])
    np.testing.assert_allclose(model.forward(X), 1 / 3, rtol=1e-5)


def test_numbers_too_large_for_float32_suit_a_float64_model() -> None:
    model = MLP([2, 2], output="identity", dtype="float64")
    model.set_weights([np.eye(2), np.zeros(2)])
    assert model.forward([[1e300, -1e39]]).tolist() == [[1e300, -1e39]]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("model_dtype", ["float32", "float64"])
def test_floats_of_one_dtype_in_a_model_of_another_raise_no_warning(dtype: str, model_dtype: str) -> None:
    trainer = make_trainer(dtype=model_dtype)
    X = CLEAN.astype(dtype)
    for call in calls_of(trainer).values():
        call(X, LABELS)
    trainer.model.forward(X)


# ---- labels and targets that are refused


def with_label(label: Any, position: int, dtype: Any = np.int64) -> Array:
    y = LABELS.astype(dtype)
    y[position] = label
    return y


PROBABILITIES = np.full((ROWS, 3), 1 / 3)

BAD_LABELS: dict[str, tuple[Any, type[Exception]]] = {
    "negative first": (with_label(-1, 0), ValueError),
    "negative last": (with_label(-1, -1), ValueError),
    "too large": (with_label(3, 10), ValueError),
    "far too large": (with_label(2**62, 10), ValueError),
    "beyond int64": (with_label(2**64 - 1, 10, np.uint64), ValueError),
    "not whole": (with_label(0.5, 10, float), ValueError),
    "nan": (with_label(np.nan, 10, float), ValueError),
    "inf": (with_label(np.inf, 10, float), ValueError),
    "a huge float": (with_label(1e300, 10, float), ValueError),
    "too short": (LABELS[:-1], ValueError),
    "too long": (np.append(LABELS, 0), ValueError),
    "none": (LABELS[:0], ValueError),
    "a column": (LABELS[:, np.newaxis], ValueError),
    "a row": (LABELS[np.newaxis], ValueError),
    "three dimensions": (LABELS.reshape(ROWS, 1, 1), ValueError),
    "a number": (1, ValueError),
    "nothing": (None, TypeError),
    "strings": (LABELS.astype(str), TypeError),
    "text": ("0" * ROWS, TypeError),
    "objects": (LABELS.astype(object), TypeError),
    "complex": (LABELS + 0j, TypeError),
    "datetimes": (LABELS.astype("M8[s]"), TypeError),
    "ragged": ([[1], *LABELS[1:].tolist()], ValueError),
    "ragged rows": ([[1.0, 0.0, 0.0]] * (ROWS - 1) + [[1.0]], ValueError),
    "two columns of three": (PROBABILITIES[:, :2], ValueError),
    "a row too few": (PROBABILITIES[1:], ValueError),
    "does not sum to one": (PROBABILITIES * 1.1, ValueError),
    "sums to nothing": (PROBABILITIES * 0, ValueError),
    "negative probability": (PROBABILITIES + np.array([-0.5, 0.25, 0.25]), ValueError),
    "probability above one": (PROBABILITIES + np.array([1.0, -0.5, -0.5]), ValueError),
    "nan probability": (np.where(np.arange(3 * ROWS).reshape(ROWS, 3) == 7, np.nan, 1 / 3), ValueError),
    "complex probability": (PROBABILITIES + 0j, TypeError),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", BAD_LABELS)
def test_bad_labels_are_refused_before_anything_is_changed(kind: str, call: str) -> None:
    y, error = BAD_LABELS[kind]
    check_refused(call, make_trainer(), CLEAN, y, error, "y must ")


def test_errors_of_labels_say_what_was_found() -> None:
    trainer = Trainer(MLP([INPUTS, 3]))
    for y, message in (
        (with_label(7, 13), rf"^y must be whole numbers from 0 to 2 of shape \({ROWS},\), got 7 at position 13$"),
        (with_label(-1, 2), r"got -1 at position 2$"),
        (with_label(0.5, 4, float), r"got 0\.5 at position 4$"),
        (LABELS[:-1], rf"one for each row of X, got shape \({ROWS - 1},\)$"),
        (PROBABILITIES * 1.5, r"^y must hold probabilities that sum to 1 in each row, got 1\.5 in row 0$"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer.step(CLEAN, y)


REAL = np.linspace(-3, 3, ROWS * 2).reshape(ROWS, 2)


def real_with(number: float, row: int, column: int) -> Array:
    y = REAL.copy()
    y[row, column] = number
    return y


BAD_TARGETS: dict[str, tuple[Any, type[Exception]]] = {
    "one dimension": (REAL[:, 0], ValueError),
    "too few columns": (REAL[:, :1], ValueError),
    "too many columns": (np.hstack([REAL, REAL]), ValueError),
    "too few rows": (REAL[1:], ValueError),
    "no rows": (REAL[:0], ValueError),
    "three dimensions": (REAL[np.newaxis], ValueError),
    "nan first": (real_with(np.nan, 0, 0), ValueError),
    "nan last": (real_with(np.nan, -1, -1), ValueError),
    "inf": (real_with(np.inf, 7, 1), ValueError),
    "too large for float32": (real_with(1e39, 7, 1), ValueError),
    "nothing": (None, TypeError),
    "strings": (REAL.astype(str), TypeError),
    "complex": (REAL + 0j, TypeError),
    "objects": (REAL.astype(object), TypeError),
    "ragged": ([[1.0, 2.0]] * (ROWS - 1) + [[1.0]], ValueError),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", BAD_TARGETS)
def test_bad_targets_are_refused_before_anything_is_changed(kind: str, call: str) -> None:
    y, error = BAD_TARGETS[kind]
    check_refused(call, make_trainer("mean_squared_error", "identity", 2), CLEAN, y, error, "y must be")


@pytest.mark.parametrize("y", [np.full((ROWS, 2), 1.01), np.full((ROWS, 2), -1e-9), np.full((ROWS, 2), 255, np.uint8)])
def test_targets_of_binary_cross_entropy_are_from_zero_to_one(y: Array) -> None:
    trainer = make_trainer("binary_cross_entropy", "sigmoid", 2)
    check_refused("fit", trainer, CLEAN, y, ValueError, r"y must be .* from 0 to 1, got values from")
    trainer.step(CLEAN, np.tile([0, 1], (ROWS, 1)))


# ---- arrays that work, of every dtype and layout

LAYOUTS: dict[str, Callable[[Array], Any]] = {
    "as it is": lambda X: X,
    "Fortran": np.asfortranarray,
    "transposed": lambda X: np.ascontiguousarray(X.T).T,
    "rows reversed": lambda X: np.ascontiguousarray(X[::-1])[::-1],
    "columns reversed": lambda X: np.ascontiguousarray(X[:, ::-1])[:, ::-1],
    "both reversed": lambda X: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
    "every second row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "every second row from behind": lambda X: np.repeat(X[::-1], 2, axis=0)[::-2],
    "every second column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "part of a wider array": lambda X: np.hstack([X[:, :1], X, X])[:, 1 : X.shape[1] + 1],
    "read-only": lambda X: read_only(X.copy()),
    "byte order": lambda X: X.astype(X.dtype.newbyteorder()),
    "unaligned": lambda X: unaligned(X),
    "a field of records": lambda X: field(X, align=False),
    "a field of aligned records": lambda X: field(X, align=True),
    "lists": lambda X: X.tolist(),
    "tuples of arrays": tuple,
    "a subclass": lambda X: X.view(Renamed),
    "has __array__": lambda X: HasArray(X),
    "memoryview": lambda X: memoryview(X) if X.dtype.char not in "eg" else X,
}


class Renamed(np.ndarray[Any, Any]):
    """A subclass of arrays that changes nothing."""


class HasArray:
    """Knows how to become an array, as the tables and tensors of other libraries do."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self.array if dtype is None else self.array.astype(dtype)


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def unaligned(X: Array) -> Array:
    memory = b"\0" + X.tobytes()
    return np.frombuffer(memory, X.dtype, offset=1).reshape(X.shape)


def field(X: Array, align: bool) -> Array:
    records = np.zeros(X.shape[0], np.dtype([("x", X.dtype, X.shape[1:]), ("id", "u1")], align=align))
    records["x"] = X
    return records["x"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, "bool"])
def test_every_dtype_and_layout_of_inputs_gives_the_same_result(dtype: str, layout: str) -> None:
    values = CLEAN > 50 if dtype == "bool" else CLEAN
    X = LAYOUTS[layout](values.astype(dtype))
    for model_dtype in ("float32", "float64"):
        clean = values.astype(model_dtype)
        for scaling in ({}, {"input_std": 64.0}):  # a power of two: exact, too
            model = MLP([INPUTS, 5, 3], dtype=model_dtype, **scaling)
            assert model.forward(X).tobytes() == model.forward(clean).tobytes()
            first, second = (Trainer(MLP([INPUTS, 5, 3], dtype=model_dtype, **scaling), batch_size=6)
                             for _ in range(2))
            first.fit(X, LABELS, epochs=2, progress=False)
            second.fit(clean, LABELS, epochs=2, progress=False)
            assert [array.tobytes() for array in first.model.get_weights()] == [
                array.tobytes() for array in second.model.get_weights()]
            assert first.evaluate(X, LABELS) == second.evaluate(clean, LABELS)


@settings(deadline=None, max_examples=80)
@given(dtype=st.sampled_from([*INTEGERS, *FLOATS]), rows=st.integers(1, 12), columns=st.integers(1, 20),
       model_dtype=st.sampled_from(["float32", "float64"]), swap=st.booleans(), data=st.data())
def test_any_strides(dtype: str, rows: int, columns: int, model_dtype: str, swap: bool, data: st.DataObject) -> None:
    """Slices with any steps, of arrays in any order, with dimensions exchanged or stretched by broadcasting."""
    row_step = data.draw(st.sampled_from([-3, -2, -1, 1, 2, 3]))
    column_step = data.draw(st.sampled_from([-2, -1, 1, 2]))
    base = np.random.default_rng(rows * columns).integers(0, 100, (rows * 3, columns * 2)).astype(dtype)
    base = np.asarray(base, order=data.draw(st.sampled_from("CF")))
    X = base[::row_step, ::column_step][:rows, :columns]
    stretch = data.draw(st.sampled_from(["neither", "rows", "columns"]))
    if stretch == "rows":
        X = np.broadcast_to(X[:1], X.shape)
    if stretch == "columns":
        X = np.broadcast_to(X[:, :1], X.shape)
    if swap:
        X = X.T
    clean = np.array(X, model_dtype, order="C")
    model = MLP([clean.shape[1], 4, 2], activation="tanh", dtype=model_dtype)
    assert model.forward(X).tobytes() == model.forward(clean).tobytes()
    y = np.arange(len(clean)) % 2
    found, expected = model.loss_and_gradients(X, y), model.loss_and_gradients(clean, y)
    assert found[0] == expected[0]
    assert [g.tobytes() for g in found[1]] == [g.tobytes() for g in expected[1]]


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int16"])
def test_inputs_of_stride_zero(dtype: str) -> None:
    row = CLEAN[3].astype(dtype)
    trainer = make_trainer()
    for X in (np.broadcast_to(row, (ROWS, INPUTS)), np.broadcast_to(row[:, np.newaxis], (INPUTS, INPUTS)),
              np.broadcast_to(row[0], (ROWS, INPUTS))):
        clean = np.array(X, np.float32)
        assert trainer.model.forward(X).tobytes() == trainer.model.forward(clean).tobytes()
        y = LABELS[: len(X)]
        assert trainer.evaluate(X, y) == trainer.evaluate(clean, y)
        trainer.fit(X, y, epochs=1, progress=False)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int32", ">f4"])
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_file_mapped_into_memory(dtype: str, mode: Any, tmp_path: Path) -> None:
    CLEAN.astype(dtype).tofile(tmp_path / "X")
    X = np.memmap(tmp_path / "X", dtype, mode, shape=CLEAN.shape)
    mapped, plain = make_trainer(), make_trainer()
    mapped.fit(X, LABELS, epochs=2, progress=False)
    plain.fit(CLEAN.astype(np.float32), LABELS, epochs=2, progress=False)
    assert state_of(mapped)[:4] == state_of(plain)[:4]
    assert np.fromfile(tmp_path / "X", dtype).tolist() == CLEAN.ravel().tolist()


def test_one_input_and_one_row() -> None:
    model = MLP([1, 2])
    column = np.arange(12.0).reshape(3, 4)[:, 1:2]  # neither contiguous nor in need of a copy
    assert check_inputs(column, 1, np.dtype("float64")).array is column
    np.testing.assert_array_equal(model.forward(column), model.forward([[1], [5], [9]]))
    row = np.asfortranarray(CLEAN)[4:5]
    np.testing.assert_array_equal(MLP([INPUTS, 2]).forward(row), MLP([INPUTS, 2]).forward(row.tolist()))


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("layout", ["as it is", "rows reversed", "every second row", "part of a wider array",
                                    "read-only", "a subclass", "every second row from behind"])
def test_what_the_kernels_can_read_is_read_where_it_lies(layout: str, dtype: str) -> None:
    X = LAYOUTS[layout](CLEAN.astype(dtype))
    for model_dtype in ("float32", "float64"):
        source = check_inputs(X, INPUTS, np.dtype(model_dtype))
        assert np.shares_memory(source.array, X)
        assert source.address == X.ctypes.data
        assert source.stride * X.itemsize == X.strides[0]
        first, rest = source.split(7)
        assert (first.rows, rest.rows) == (7, ROWS - 7)
        assert rest.address == X[7:].ctypes.data
        np.testing.assert_array_equal(rest.array, X[7:])


# ---- labels and targets of every dtype and layout


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, ">i4", ">f8"])
@pytest.mark.parametrize("layout", ["as it is", "reversed", "every second", "read-only", "unaligned", "list", "column"])
def test_every_dtype_and_layout_of_labels_gives_the_same_result(dtype: str, layout: str) -> None:
    y: Any = LABELS.astype(dtype)
    y = {
        "as it is": lambda: y, "reversed": lambda: y[::-1].copy()[::-1], "every second": lambda: np.repeat(y, 2)[::2],
        "read-only": lambda: read_only(y.copy()), "unaligned": lambda: unaligned(y), "list": y.tolist,
        "column": lambda: np.stack([y, y], axis=1)[:, 0],
    }[layout]()
    found, expected = make_trainer(), make_trainer()
    found.fit(CLEAN, y, epochs=2, progress=False)
    expected.fit(CLEAN, LABELS, epochs=2, progress=False)
    assert state_of(found)[:4] == state_of(expected)[:4]
    assert found.evaluate(CLEAN, y) == expected.evaluate(CLEAN, LABELS)


def test_true_and_false_are_labels_of_two_classes() -> None:
    found, expected = make_trainer(units=2), make_trainer(units=2)
    found.step(CLEAN, LABELS > 0)
    expected.step(CLEAN, np.where(LABELS > 0, 1, 0))
    assert state_of(found)[:4] == state_of(expected)[:4]


def test_labels_that_fit_are_not_copied() -> None:
    assert check_labels(LABELS, ROWS, 3).address == LABELS.ctypes.data


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_every_dtype_and_layout_of_targets_gives_the_same_result(dtype: str, layout: str) -> None:
    values = CLEAN[:, :2]
    y = LAYOUTS[layout](np.ascontiguousarray(values.astype(dtype)))
    for model_dtype in ("float32", "float64"):
        found, expected = (make_trainer("half_squared_error", "identity", 2, model_dtype) for _ in range(2))
        clean = values.astype(model_dtype)
        found.fit(CLEAN, y, epochs=2, progress=False)
        expected.fit(CLEAN, clean, epochs=2, progress=False)
        assert state_of(found)[:4] == state_of(expected)[:4]
        assert found.evaluate(CLEAN, y) == expected.evaluate(CLEAN, clean)


@pytest.mark.parametrize("y", [
    np.eye(3)[LABELS], np.eye(3, dtype=np.uint8)[LABELS], np.eye(3, dtype=bool)[LABELS], np.eye(3)[LABELS].tolist(),
    np.asfortranarray(np.eye(3, dtype=np.float32)[LABELS]), np.eye(3, dtype=np.float16)[LABELS],
], ids=["float64", "uint8", "bool", "lists", "Fortran", "float16"])
def test_one_hot_rows_of_every_dtype_are_probabilities(y: Any) -> None:
    found, expected = make_trainer(), make_trainer()
    found.step(CLEAN, y)
    expected.step(CLEAN, np.eye(3)[LABELS])
    assert state_of(found)[:4] == state_of(expected)[:4]


def test_targets_of_one_output_may_be_flat() -> None:
    flat, column = (make_trainer("mean_squared_error", "identity", 1) for _ in range(2))
    target = CLEAN[:, 0]
    flat.fit(CLEAN, target, epochs=2, progress=False)
    column.fit(CLEAN, target[:, np.newaxis], epochs=2, progress=False)
    assert state_of(flat)[:4] == state_of(column)[:4]
    flat.step(CLEAN, np.broadcast_to(np.float32(2), ROWS))
    column.step(CLEAN, np.full((ROWS, 1), 2.0))
    assert state_of(flat)[:4] == state_of(column)[:4]


def test_inputs_and_targets_are_left_as_they_are() -> None:
    for dtype in ("float32", "float64", "uint8"):
        X, y = CLEAN.astype(dtype), LABELS.copy()
        trainer = make_trainer()
        trainer.fit(X, y, epochs=2, progress=False, validation_split=0.2)
        trainer.step(X, y)
        trainer.evaluate(X, y)
        np.testing.assert_array_equal(X, CLEAN)
        np.testing.assert_array_equal(y, LABELS)


# ---- memory


def peak_of(call: Callable[[], Any]) -> int:
    """Most bytes that were allocated at a time during a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


FEATURES, FEW, MANY = 784, 2000, 9000


@pytest.fixture(scope="module")
def images() -> Array:
    return np.random.default_rng(0).integers(0, 256, (MANY, FEATURES), np.uint8)


@pytest.mark.parametrize("kind", ["float32", "uint8", "float64", "scaled float32", "int32 labels", "rows reversed"])
def test_training_allocates_next_to_nothing_for_more_rows(kind: str, images: Array) -> None:
    """The order of the rows takes 8 bytes a row, converted labels 8 more; a copy of X would take 784 at least."""
    dtype = kind if kind in ("float32", "uint8", "float64") else "float32"
    X, y = images.astype(dtype), np.arange(MANY) % 10
    if kind == "int32 labels":
        y = y.astype(np.int32)
    if kind == "rows reversed":
        X = X[::-1]
    scaling = {"input_mean": 33.0, "input_std": 78.0} if kind == "scaled float32" else {}
    peaks = []
    for rows in (FEW, MANY):
        trainer = Trainer(MLP([FEATURES, 16, 10], **scaling), batch_size=128)
        # Compiles and imports; on other rows, or the memory of this call would be used again.
        trainer.fit(X[: FEW // 2], y[: FEW // 2], epochs=1, progress=False)
        peaks.append(peak_of(lambda rows=rows, trainer=trainer: trainer.fit(X[:rows], y[:rows], epochs=2,
                                                                            progress=False)))
    allowed_once = 10 * sum(array.nbytes for array in trainer.model.get_weights())
    assert peaks[1] - peaks[0] <= 16 * (MANY - FEW) + allowed_once < X[FEW:].nbytes / X.itemsize / 5


def test_evaluation_and_prediction_allocate_their_results(images: Array) -> None:
    y = np.arange(MANY) % 10
    trainer = Trainer(MLP([FEATURES, 16, 10]))
    trainer.evaluate(images[:FEW], y[:FEW])
    few, many = (peak_of(lambda rows=rows: trainer.evaluate(images[:rows], y[:rows])) for rows in (FEW, MANY))
    assert many - few <= 4 * (MANY - FEW)
    few, many = (peak_of(lambda rows=rows: trainer.model.forward(images[:rows])) for rows in (FEW, MANY))
    assert many - few <= (10 * 4 + 4) * (MANY - FEW)


def test_the_search_for_nan_copies_no_more_than_blocks(images: Array) -> None:
    X = images.astype(np.float32)[:, : FEATURES - 1]  # rows that do not follow one another
    peak = peak_of(lambda: check_inputs(X, FEATURES - 1, np.dtype("float32")))
    assert peak <= 2 * arrays.BLOCK_BYTES + 100_000
