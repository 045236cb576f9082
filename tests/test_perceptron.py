"""The perceptron: what it can learn and what not, the bound on its mistakes, scikit-learn's, wrong arguments."""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Perceptron as SklearnPerceptron

from fastmlp.kernels.perceptron import learn_epoch, net_inputs
from fastmlp.perceptron import ConvergenceWarning, Perceptron, PerceptronResult

Array = np.ndarray[Any, Any]

CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
GATES = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "NAND": [1, 1, 1, 0], "NOR": [1, 0, 0, 0]}
XOR = [0, 1, 1, 0]
LOWEST = {"step": 0, "sign": -1}

activations = pytest.mark.parametrize("activation", LOWEST)


def labels_of(positive: Any, activation: str) -> Array:
    return np.where(positive, 1, LOWEST[activation])


def naive_fit(X: Array, y: Array, activation: str, rate: float, epochs: int) -> tuple[Array, list[int]]:
    """Rosenblatt's rule in a few lines, from zero: the parameters, bias last, and the mistakes of each epoch."""
    extended = np.column_stack([X, np.ones(len(X))])
    parameters = np.zeros(extended.shape[1])
    mistakes: list[int] = []
    while len(mistakes) < epochs and 0 not in mistakes:
        mistakes.append(0)
        for x, t in zip(extended, y, strict=True):
            a = 1 if x @ parameters >= 0 else LOWEST[activation]
            mistakes[-1] += int(a != t)
            parameters = parameters + rate * (t - a) * x
    return parameters, mistakes


# ---- logic gates


@activations
@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("gate", GATES)
def test_gates_are_learned(gate: str, seed: int | None, activation: str) -> None:
    y = labels_of(GATES[gate], activation)
    unit = Perceptron(2, activation, seed=seed)
    result = unit.fit(CORNERS, y)
    assert result.converged
    assert result.mistakes[-1] == 0 not in result.mistakes[:-1]
    predicted = unit.predict(CORNERS)
    assert predicted.dtype == np.int64
    np.testing.assert_array_equal(predicted, y)


@activations
@pytest.mark.parametrize("seed", [None, 0])
def test_xor_is_not(activation: str, seed: int | None) -> None:
    unit = Perceptron(2, activation, seed=seed)
    y = labels_of(XOR, activation)
    with pytest.warns(ConvergenceWarning, match="linearly separable") as caught:
        result = unit.fit(CORNERS, y, epochs=50)
    assert not result.converged
    assert len(result.mistakes) == 50
    assert min(result.mistakes) > 0
    wrong = np.count_nonzero(unit.predict(CORNERS) != y)
    assert f"{wrong} of 4 rows were still wrong after 50 epochs" in str(caught[0].message)
    assert caught[0].filename == __file__


def test_gates_set_by_hand_make_xor() -> None:
    nand, either, both = Perceptron(2), Perceptron(2), Perceptron(2)
    nand.weights, nand.bias = [-1, -1], 1.5
    either.weights, either.bias = [1, 1], -0.5
    both.weights, both.bias = [1, 1], -1.5
    hidden = np.column_stack([nand.predict(CORNERS), either.predict(CORNERS)])
    assert both.predict(hidden).tolist() == XOR


@activations
def test_zero_counts_as_positive(activation: str) -> None:
    unit = Perceptron(1, activation)
    assert unit.decision_function([[5.0], [-5.0]]).tolist() == [0, 0]
    assert unit.predict([[5.0], [-5.0]]).tolist() == [1, 1]
    unit.weights = [1.0]
    assert unit.predict([[0.0], [-1e-300]]).tolist() == [1, LOWEST[activation]]


# ---- the rule


def test_one_step_by_hand() -> None:
    unit = Perceptron(2, learning_rate=0.5)
    result = unit.fit([[3.0, -2.0]], [0], epochs=1)
    assert (unit.weights.tolist(), unit.bias) == ([-1.5, 1.0], -0.5)
    assert result == PerceptronResult([1], converged=True)  # a mistake when its turn came, and right ever after
    unit = Perceptron(2, "sign", learning_rate=0.5)
    unit.fit([[3.0, -2.0]], [-1])
    assert (unit.weights.tolist(), unit.bias) == ([-3.0, 2.0], -1.0)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 6), st.sampled_from(["step", "sign"]),
       st.sampled_from([1.0, 0.5, 8.0]), st.integers(1, 20))
def test_as_a_plain_loop(seed: int, rows: int, inputs: int, activation: str, rate: float, epochs: int) -> None:
    """On whole numbers every sum is exact, ties at zero included."""
    rng = np.random.default_rng(seed)
    X, y = rng.integers(-3, 4, (rows, inputs)), labels_of(rng.random(rows) < 0.5, activation)
    expected, mistakes = naive_fit(X, y, activation, rate, epochs)
    unit = Perceptron(inputs, activation, rate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = unit.fit(X, y, epochs)
    assert result.mistakes == mistakes
    np.testing.assert_array_equal([*unit.weights, unit.bias], expected)
    np.testing.assert_array_equal(unit.decision_function(X), X @ expected[:-1] + expected[-1])
    assert result.converged == bool((unit.predict(X) == y).all())


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 60), st.integers(1, 8), st.sampled_from(["step", "sign"]),
       st.sampled_from([0.01, 1.0, 7.0]))
def test_separable_rows_are_learned_within_the_bound_of_novikoff(seed: int, rows: int, inputs: int, activation: str,
                                                                 rate: float) -> None:
    rng = np.random.default_rng(seed)
    separator = rng.normal(size=inputs + 1)
    separator /= np.linalg.norm(separator)
    extended = np.column_stack([rng.normal(size=(rows, inputs)), np.ones(rows)])
    extended = extended[np.abs(extended @ separator) > 0.1]
    if len(extended) == 0:
        return
    distances = extended @ separator
    bound = (np.linalg.norm(extended, axis=1).max() / np.abs(distances).min()) ** 2
    unit = Perceptron(inputs, activation, rate)
    y = labels_of(distances > 0, activation)
    result = unit.fit(extended[:, :-1], y, epochs=math.floor(bound) + 1)
    assert result.converged
    assert sum(result.mistakes) <= bound
    np.testing.assert_array_equal(unit.predict(extended[:, :-1]), y)


@activations
def test_as_scikit_learn_after_each_row_and_each_epoch(activation: str) -> None:
    """scikit-learn takes a net input of zero for wrong whatever the label; after one row with the lower label from
    zero weights, which is wrong in both, there is none. Its steps are those of labels 0 and 1."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 5))
    positive = X @ rng.normal(size=5) + rng.normal(size=40) > 0
    positive[0] = False
    y = labels_of(positive, activation)
    steps = 1 if activation == "step" else 2
    other = SklearnPerceptron(shuffle=False, penalty=None, tol=None, eta0=1.0)
    unit = Perceptron(5, activation)

    def agree() -> None:
        np.testing.assert_allclose(unit.weights, steps * other.coef_[0], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(unit.bias, steps * other.intercept_[0], rtol=1e-12, atol=1e-12)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for i in range(40):
            other.partial_fit(X[i : i + 1], y[i : i + 1], classes=np.unique(y))
            unit.fit(X[i : i + 1], y[i : i + 1], epochs=1)
            agree()
        for epochs in (1, 2, 7):
            other = SklearnPerceptron(shuffle=False, penalty=None, tol=None, eta0=1.0, max_iter=epochs).fit(X, y)
            unit = Perceptron(5, activation)
            unit.fit(X, y, epochs)
            agree()
            np.testing.assert_array_equal(unit.predict(X), other.predict(X))
            np.testing.assert_allclose(unit.decision_function(X), steps * other.decision_function(X), atol=1e-12)


def test_fit_goes_on_from_where_it_stood() -> None:
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(50, 4)), rng.integers(0, 2, 50)
    for seed in (None, 5):
        at_once, in_parts = Perceptron(4, seed=seed), Perceptron(4, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            whole = at_once.fit(X, y, 6).mistakes
            assert in_parts.fit(X, y, 2).mistakes + in_parts.fit(X, y, 4).mistakes == whole
        np.testing.assert_array_equal(at_once.weights, in_parts.weights)


def test_the_seed_draws_small_weights_and_orders() -> None:
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(50, 4)), rng.integers(0, 2, 50)

    def learned(seed: int | None, weights: Any = None) -> tuple[list[float], list[int]]:
        unit = Perceptron(4, seed=seed)
        if weights is not None:
            unit.weights, unit.bias = weights, 0.0
        with pytest.warns(ConvergenceWarning):
            mistakes = unit.fit(X, y, 5).mistakes
        return [*unit.weights, unit.bias], mistakes

    assert not Perceptron(4).weights.any()
    assert Perceptron(4).bias == 0
    drawn = Perceptron(1000, seed=0)
    assert np.abs(drawn.weights).max() <= 0.05
    assert np.abs(drawn.weights).max() > 0.045
    assert drawn.bias != 0
    assert learned(1) == learned(1) != learned(2)
    assert learned(1, np.zeros(4)) != learned(None)  # the order alone


def test_any_memory_layout_and_dtype_give_the_same() -> None:
    rng = np.random.default_rng(1)
    X = rng.integers(0, 9, (30, 6))
    y = (X @ rng.normal(size=6) > 0).astype(int)
    reference = Perceptron(6)
    reference.fit(X, y, epochs=3000)
    compiled = len(learn_epoch.signatures), len(net_inputs.signatures)
    read_only = X.astype(float)
    read_only.flags.writeable = False
    unaligned = np.zeros(30 * 6 * 8 + 1, np.uint8)[1:].view(float).reshape(30, 6)
    unaligned[...] = X
    wide = np.zeros((30, 13))
    wide[:, 1::2] = X
    for other in (X.astype(np.uint8), X.astype(np.float32), X.astype(">f8"), np.asfortranarray(X, float), X.tolist(),
                  read_only, unaligned, wide[:, 1::2]):
        unit = Perceptron(6)
        unit.fit(other, y.astype(bool), epochs=3000)
        np.testing.assert_array_equal(unit.weights, reference.weights)
        np.testing.assert_array_equal(unit.predict(other), y)
    assert (len(learn_epoch.signatures), len(net_inputs.signatures)) == compiled
    assert X.flags.writeable


# ---- the object


def test_weights_are_handed_out_as_copies() -> None:
    unit = Perceptron(2)
    before = unit.weights
    with pytest.raises(ValueError, match="read-only"):
        before[0] = 1
    given_weights = np.array([1.0, 2.0])
    unit.weights = given_weights
    given_weights[0] = 7
    assert unit.weights.tolist() == [1, 2]
    assert before.tolist() == [0, 0]


def test_copies_and_pickles_go_on_alike() -> None:
    unit = Perceptron(2, "sign", 0.5, seed=4)
    others = [copy.deepcopy(unit), pickle.loads(pickle.dumps(unit))]
    y = labels_of(GATES["NAND"], "sign")
    expected = unit.fit(CORNERS, y)
    for other in others:
        assert other.fit(CORNERS, y) == expected
        np.testing.assert_array_equal(other.weights, unit.weights)
        assert (other.inputs, other.activation, other.learning_rate) == (2, "sign", 0.5)
    assert repr(unit) == "Perceptron(2, activation='sign', learning_rate=0.5)"


def test_no_rows_are_fine_to_predict_only() -> None:
    unit = Perceptron(3)
    assert unit.predict(np.zeros((0, 3))).shape == (0,)
    assert unit.decision_function(np.zeros((0, 3))).shape == (0,)
    with pytest.raises(ValueError, match=r"^X must .* at least one row"):
        unit.fit(np.zeros((0, 3)), np.zeros(0))


# ---- what is wrong


@pytest.mark.parametrize(("arguments", "error", "name"), [
    ({"inputs": 0}, ValueError, "inputs"),
    ({"inputs": 2.0}, TypeError, "inputs"),
    ({"inputs": True}, TypeError, "inputs"),
    ({"inputs": 10**12}, ValueError, "inputs"),
    ({"activation": "relu"}, ValueError, "activation"),
    ({"activation": None}, TypeError, "activation"),
    ({"learning_rate": 0}, ValueError, "learning_rate"),
    ({"learning_rate": -1.0}, ValueError, "learning_rate"),
    ({"learning_rate": math.nan}, ValueError, "learning_rate"),
    ({"learning_rate": "1"}, TypeError, "learning_rate"),
    ({"seed": -1}, ValueError, "seed"),
    ({"seed": 1.5}, TypeError, "seed"),
])
def test_arguments_are_checked_and_named(arguments: dict[str, Any], error: type[Exception], name: str) -> None:
    with pytest.raises(error, match=f"^{name} must be"):
        Perceptron(**{"inputs": 2, **arguments})


@pytest.mark.parametrize(("arguments", "error", "name"), [
    ({"X": [[0, math.nan]] * 4}, ValueError, "X"),
    ({"X": [[0, math.inf]] * 4}, ValueError, "X"),
    ({"X": [[0]] * 4}, ValueError, "X"),
    ({"X": [0, 1]}, ValueError, "X"),
    ({"X": [["a", "b"]] * 4}, TypeError, "X"),
    ({"X": [[1j, 0]] * 4}, TypeError, "X"),
    ({"X": [[0, 1], [0]]}, ValueError, "X"),
    ({"y": [0, 1, 1]}, ValueError, "y"),
    ({"y": [[0], [1], [1], [1]]}, ValueError, "y"),
    ({"y": [0, 1, 1, 2]}, ValueError, "y"),
    ({"y": [0, 1, 1, -1]}, ValueError, "y"),
    ({"y": [0, 1, 1, 0.5]}, ValueError, "y"),
    ({"y": [0, 1, 1, math.nan]}, ValueError, "y"),
    ({"y": ["0", "1", "1", "0"]}, TypeError, "y"),
    ({"epochs": 0}, ValueError, "epochs"),
    ({"epochs": 2.0}, TypeError, "epochs"),
])
def test_data_is_checked_before_anything_is_changed(arguments: dict[str, Any], error: type[Exception],
                                                    name: str) -> None:
    unit = Perceptron(2, seed=0)
    before = pickle.dumps(unit)
    with pytest.raises(error, match=f"^{name} must be"):
        unit.fit(**{"X": CORNERS, "y": GATES["AND"], **arguments})
    assert pickle.dumps(unit) == before
    if name == "X":
        for method in (unit.predict, unit.decision_function):
            with pytest.raises(error, match=r"^X must be"):
                method(arguments["X"])


def test_the_message_names_the_labels() -> None:
    with pytest.raises(ValueError, match=r"labels 0 and 1 .*activation='step', got -1 at position 2"):
        Perceptron(2).fit(CORNERS, [1, 1, -1, 1])
    with pytest.raises(ValueError, match=r"labels -1 and 1 .*activation='sign', got 0 at position 0"):
        Perceptron(2, "sign").fit(CORNERS, [0, 1, 1, 1])


@pytest.mark.parametrize(("name", "value", "error"), [
    ("weights", [1.0], ValueError),
    ("weights", [[1.0, 2.0]], ValueError),
    ("weights", 1.0, ValueError),
    ("weights", [1.0, math.nan], ValueError),
    ("weights", [1.0, -math.inf], ValueError),
    ("weights", ["1", "2"], TypeError),
    ("weights", None, TypeError),
    ("bias", math.nan, ValueError),
    ("bias", [1.0], TypeError),
    ("bias", None, TypeError),
])
def test_what_is_set_is_checked(name: str, value: Any, error: type[Exception]) -> None:
    unit = Perceptron(2, seed=0)
    before = pickle.dumps(unit)
    with pytest.raises(error, match=f"^{name} must be"):
        setattr(unit, name, value)
    assert pickle.dumps(unit) == before


@pytest.mark.parametrize("name", ["inputs", "activation", "learning_rate"])
def test_the_rest_cannot_be_set(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Perceptron(2), name, 1)


@pytest.mark.parametrize("epochs", [1, 10])
def test_overflow_is_an_error_and_leaves_the_weights_of_the_epoch_before(epochs: int) -> None:
    unit = Perceptron(1, learning_rate=10.0)
    with pytest.raises(OverflowError, match=r"in epoch 0: .* learning_rate than 10"):
        unit.fit([[1e308]], [0], epochs)
    assert (unit.weights.tolist(), unit.bias) == ([0], 0)
    unit.weights = [1e200]
    for method in (unit.decision_function, unit.predict):
        with pytest.raises(OverflowError, match="row 1 of X"):
            method([[1.0], [1e200]])
