"""The compiled learning rule: against a plain loop, and inside its arrays."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_kernels_memory import MPROTECT, Guard

from fastmlp.kernels.perceptron import OVERFLOW, learn_epoch, net_inputs

Array = np.ndarray[Any, Any]


def naive_epoch(X: Array, targets: Array, order: Array, lowest: float, rate: float, parameters: Array) -> int:
    """The rule on Python floats, in place."""
    mistakes = 0
    for row in order:
        z = 0.0
        for w, x in zip(parameters, X[row], strict=False):
            z += float(w) * float(x)
        output = 1.0 if z + float(parameters[-1]) >= 0 else lowest
        if output != targets[row]:
            mistakes += 1
            step = rate * (float(targets[row]) - output)
            parameters[:-1] += step * X[row]
            parameters[-1] += step
    return mistakes


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 20), st.integers(1, 9), st.sampled_from([0.0, -1.0]),
       st.sampled_from([1.0, 0.1, 3.0]))
def test_the_same_bits_as_a_plain_loop(seed: int, rows: int, inputs: int, lowest: float, rate: float) -> None:
    rng = np.random.default_rng(seed)
    X, targets = rng.normal(size=(rows, inputs)), rng.choice([lowest, 1.0], rows)
    order = rng.integers(0, rows, 3 * rows)
    found = rng.normal(size=inputs + 1)
    expected = found.copy()
    assert learn_epoch(X, targets, order, lowest, rate, found) == naive_epoch(X, targets, order, lowest, rate, expected)
    np.testing.assert_array_equal(found, expected)
    z = np.zeros(rows)
    net_inputs(X, found, z)
    np.testing.assert_allclose(z, X @ found[:-1] + found[-1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("lowest", [0.0, -1.0])
def test_a_net_input_of_zero_is_on_the_upper_side(lowest: float) -> None:
    X, order = np.array([[1.0]]), np.array([0])
    parameters = np.array([2.0, -2.0])
    assert learn_epoch(X, np.array([1.0]), order, lowest, 1.0, parameters) == 0
    assert learn_epoch(X, np.array([lowest]), order, lowest, 1.0, parameters) == 1
    assert parameters.tolist() == [2 + (lowest - 1), -2 + (lowest - 1)]


@pytest.mark.parametrize("parameters", [[1e308, 1e308, 0.0], [1.0, np.inf, 0.0], [1e308, -1e308, np.nan]])
def test_what_overflows_is_reported(parameters: list[float]) -> None:
    X = np.array([[10.0, 10.0]])
    assert learn_epoch(X, np.ones(1), np.array([0]), 0.0, 1.0, np.array(parameters)) == OVERFLOW


def run_inside(placement: str) -> None:
    """Run the kernels on arrays that touch a protected page of memory."""
    guard = Guard(placement)
    rng = np.random.default_rng(0)
    for rows, inputs in ((1, 1), (5, 3), (17, 16), (33, 70)):
        X, targets = guard.copy(rng.normal(size=(rows, inputs))), guard.copy(np.arange(rows) % 2.0)
        parameters, order = guard.zeros(inputs + 1), guard.copy(np.arange(rows))
        assert learn_epoch(X, targets, order, 0.0, 1.0, parameters) > 0
        z = guard.empty(rows, np.float64)
        net_inputs(X, parameters, z)
        assert np.isfinite(z).all()


@pytest.mark.skipif(MPROTECT is None, reason="needs mprotect")
@pytest.mark.parametrize("placement", ["end", "begin"])
def test_the_kernels_stay_inside_their_arrays(placement: str) -> None:
    done = subprocess.run([sys.executable, __file__, placement], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    run_inside(sys.argv[1])
