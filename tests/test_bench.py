"""The benchmarks: the NumPy baseline is right, agrees with fastmlp, and the report says what was measured."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import naive
import numpy as np
import pytest
from numpy.typing import NDArray

from bench import __main__ as command
from bench import baseline, report
from bench.baseline import NumpyMLP
from bench.conftest import assert_same
from fastmlp import MLP, Trainer

Array = NDArray[Any]

ROOT = Path(__file__).parents[1]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def targets_for(output: str, rows: int, units: int) -> Array:
    rng = np.random.default_rng(5)
    return rng.integers(0, units, rows) if output == "softmax" else rng.random((rows, units))


def finite_differences(function: Callable[[], float], x: Array, h: float = 1e-6) -> Array:
    """The gradient of a function by x, one element at a time."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        x[index] = kept + h
        above = function()
        x[index] = kept - h
        below = function()
        x[index] = kept
        gradient[index] = (above - below) / (2 * h)
    return gradient


# ---- the baseline


@pytest.mark.parametrize("name", list(baseline.ACTIVATIONS))
def test_activation_backward_is_the_derivative(name: str) -> None:
    activate, backward = baseline.ACTIVATIONS[name]
    z, delta = normal(4, 5), normal(4, 5, seed=1)
    expected = finite_differences(lambda: float(np.sum(delta * activate(z))), z)
    np.testing.assert_allclose(backward(delta, activate(z)), expected, atol=1e-8)


def test_activations_have_their_values() -> None:
    z = np.array([[-2.0, 0.5]])
    np.testing.assert_allclose(baseline.sigmoid(z), [[1 / (1 + math.exp(2)), 1 / (1 + math.exp(-0.5))]])
    np.testing.assert_allclose(baseline.tanh(z), [[math.tanh(-2), math.tanh(0.5)]])
    np.testing.assert_allclose(baseline.relu(z), [[0, 0.5]])
    np.testing.assert_allclose(baseline.leaky_relu(z), [[-0.02, 0.5]])
    np.testing.assert_allclose(baseline.elu(z), [[math.exp(-2) - 1, 0.5]])
    np.testing.assert_allclose(baseline.softmax(z), np.array([[1, math.exp(2.5)]]) / (1 + math.exp(2.5)))


@pytest.mark.parametrize("name", list(baseline.LOSSES))
def test_delta_is_the_derivative_of_the_loss(name: str) -> None:
    loss = baseline.LOSSES[name]
    outputs, targets = normal(4, 3), baseline.softmax(normal(4, 3, seed=1))
    expected = finite_differences(lambda: loss(outputs, targets)[0], outputs)
    np.testing.assert_allclose(loss(outputs, targets)[1], expected, atol=1e-8)


def test_losses_have_their_values() -> None:
    z, labels = normal(4, 3), np.array([0, 2, 1, 1])
    one_hot, t = np.eye(3)[labels], np.random.default_rng(1).random((4, 3))
    p, s = baseline.softmax(z), baseline.sigmoid(z)
    assert baseline.cross_entropy(z, labels)[0] == pytest.approx(-np.mean([np.log(p[i, labels[i]]) for i in range(4)]))
    assert_same(baseline.cross_entropy(z, labels), baseline.cross_entropy(z, one_hot))
    expected = -np.mean(t * np.log(s) + (1 - t) * np.log(1 - s))
    assert baseline.binary_cross_entropy(z, t)[0] == pytest.approx(expected)
    assert baseline.half_squared_error(z, t)[0] == pytest.approx(np.mean(0.5 * np.sum((z - t) ** 2, axis=1)))
    assert baseline.mean_squared_error(z, t)[0] == pytest.approx(np.mean((z - t) ** 2))
    assert baseline.mean_absolute_error(z, t)[0] == pytest.approx(np.mean(np.abs(z - t)))
    assert baseline.huber(z, t)[0] == pytest.approx(naive.huber(z, t)[0].mean())
    assert baseline.huber(z, t, 0.3)[0] == pytest.approx(naive.huber(z, t, 0.3)[0].mean())
    assert baseline.hinge(z, 2 * one_hot - 1)[0] == pytest.approx(np.maximum(0, 1 - z * (2 * one_hot - 1)).mean())
    assert baseline.poisson(z, t)[0] == pytest.approx(np.mean(np.exp(z) - t * z))


@pytest.mark.parametrize("output", list(baseline.OUTPUT_LOSSES))
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky_relu", "elu"])
def test_gradients_against_finite_differences(activation: str, output: str) -> None:
    network = NumpyMLP([3, 5, 4, 2], activation, output, "float64", seed=3)
    X, y = normal(6, 3), targets_for(output, 6, 2)
    _, gradients = network.loss_and_gradients(X, y)
    assert len(gradients) == len(network.parameters) == 6
    for parameter, gradient in zip(network.parameters, gradients, strict=True):
        expected = finite_differences(lambda: network.loss_and_gradients(X, y)[0], parameter)
        np.testing.assert_allclose(gradient, expected, atol=1e-8)


@pytest.mark.parametrize("optimizer", list(baseline.OPTIMIZERS))
def test_updates_against_naive_formulas(optimizer: str) -> None:
    update, slots = baseline.OPTIMIZERS[optimizer]
    w, state = normal(7), [np.zeros(7) for _ in range(slots)]
    expected, expected_state = w.copy(), naive.new_state(optimizer, w)
    for step in range(1, 6):
        g = normal(7, seed=step)
        update(w, g, state, 0.01, step)
        expected, expected_state = naive.update(optimizer, expected, g, expected_state, 0.01, step)
    np.testing.assert_allclose(w, expected, rtol=1e-12)
    for slot, wanted in zip(state, expected_state, strict=True):
        np.testing.assert_allclose(slot, wanted, rtol=1e-12)


@pytest.mark.parametrize(("activation", "output"), [("relu", "softmax"), ("tanh", "sigmoid"), ("elu", "identity")])
@pytest.mark.parametrize("optimizer", list(baseline.OPTIMIZERS))
def test_training_agrees_with_fastmlp(optimizer: str, activation: str, output: str) -> None:
    sizes = [5, 8, 6, 3]
    X, y = normal(50, 5), targets_for(output, 50, 3)
    network = NumpyMLP(sizes, activation, output, "float64", seed=1)
    model = MLP(sizes, activation, output, "float64")
    model.set_weights(network.parameters)
    trainer = Trainer(model, baseline.OUTPUT_LOSSES[output], optimizer, learning_rate=0.01, batch_size=16)

    losses = network.fit(X, y, epochs=4, batch_size=16, learning_rate=0.01, optimizer=optimizer, shuffle=False)
    history = trainer.fit(X, y, epochs=4, progress=False, shuffle=False)

    for parameter, weight in zip(network.parameters, model.get_weights(), strict=True):
        np.testing.assert_allclose(parameter, weight, rtol=0, atol=1e-9)
    np.testing.assert_allclose(losses, [record["loss"] for record in history], rtol=1e-9)
    np.testing.assert_allclose(network.predict_proba(X), model.forward(X), rtol=0, atol=1e-8)


def test_float32_stays_float32() -> None:
    X, y = normal(20, 4).astype("float32"), targets_for("softmax", 20, 3)
    network = NumpyMLP([4, 6, 3])
    network.fit(X, y, epochs=1, batch_size=8)
    assert {array.dtype.name for array in [*network.parameters, *network.forward(X), network.predict_proba(X)]} == {
        "float32"}


def test_fit_shuffles_and_learns() -> None:
    X = normal(200, 2)
    y = (X[:, 0] * X[:, 1] > 0).astype(np.int64)
    runs = [NumpyMLP([2, 16, 2], "tanh", dtype="float64", seed=seed).fit(X, y, epochs=40, learning_rate=0.02)
            for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]
    assert runs[0][-1] < 0.3 < runs[0][0]


# ---- the comparison and its report


def test_assert_same_finds_a_difference() -> None:
    one = np.ones(3, np.float32)
    assert_same((1.0, [one, one]), (1.0, [one, one]))
    for actual in ((1.1, [one, one]), (1.0, [one, one * 1.001]), (1.0, [one]), (1.0, [one, one.astype("float64")])):
        with pytest.raises(AssertionError):
            assert_same(actual, (1.0, [one, one]))
    assert_same(one * 1.001, one, tolerance=0.01)


def measured(section: str, operation: str, side: str, median: float, steps: int = 1) -> dict[str, Any]:
    info = {"section": section, "operation": operation, "shape": "8 x 8", "side": side, "steps": steps}
    return {"stats": {"median": median}, "extra_info": info}


RESULTS = {
    "machine_info": {"cpu": {"brand_raw": "A processor", "count": 4}, "machine": "x86_64", "threads": 3,
                     "fastmlp": "1.0", "numpy": "2.0", "numba": "0.61", "blas": "openblas", "python_version": "3.12.1"},
    "benchmarks": [
        measured("kernels", "update, sgd", "fastmlp", 2e-6),
        measured("kernels", "update, sgd", "numpy", 16e-6),
        measured("kernels", "update, adam", "fastmlp", 4e-3),
        measured("kernels", "update, adam", "numpy", 2e-3),
        measured("kernels", "update, nesterov", "numpy", 1.5),
        measured("training", "step, adam", "fastmlp", 0.05, steps=10),
        measured("training", "step, adam", "numpy", 0.5, steps=10),
    ],
}


def test_report_shows_times_ratios_and_geometric_means() -> None:
    lines = [" ".join(line.split()) for line in report.format_report(RESULTS).splitlines()]
    assert lines == [
        "A processor, 4 cores, 3 threads; fastmlp 1.0, numpy 2.0 (openblas), numba 0.61, Python 3.12.1",
        "",
        "kernels",
        "operation shape fastmlp NumPy ratio",
        "update, sgd 8 x 8 2.00 us 16.0 us 8.00",
        "update, adam 8 x 8 4.00 ms 2.00 ms 0.50",
        "update, nesterov 8 x 8 - 1.50 s -",
        "geometric mean 2.00",
        "",
        "training",
        "operation shape fastmlp NumPy ratio",
        "step, adam 8 x 8 5.00 ms 50.0 ms 10.00",
        "geometric mean 10.00",
    ]


def test_command_passes_on_a_failure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                                     tmp_path: Path) -> None:
    def failing_run(arguments: list[str]) -> int:
        (option,) = (text for text in arguments if text.startswith("--benchmark-json="))
        Path(option.partition("=")[2]).write_text(json.dumps(RESULTS))
        return 1

    monkeypatch.setattr(pytest, "main", failing_run)
    assert command.main(["--json", str(tmp_path / "kept.json")]) == 1
    assert report.format_report(RESULTS) in capsys.readouterr().out
    assert json.loads((tmp_path / "kept.json").read_text()) == RESULTS


def test_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert command.main([]) == 2
    assert "pip install pytest-benchmark" in capsys.readouterr().err


def test_command_runs_benchmarks(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    file = tmp_path / "results.json"
    done = subprocess.run([sys.executable, "-m", "bench", "--quick", "-k", "update and sgd", "--json", str(file)],
                          cwd=ROOT, env={**os.environ, "PYTEST_ADDOPTS": ""}, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith(report.format_report(json.loads(file.read_text())))
    ((case,),) = report.read_cases(json.loads(file.read_text())).values()
    assert case.operation == "update, sgd"
    assert set(case.seconds) == {"fastmlp", "numpy"}
