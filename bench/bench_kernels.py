"""Every function of `fastmlp.kernels.standalone` beside its NumPy form.

The standalone functions check their arrays, copy them to the layout of the kernels and return new arrays; that is
part of their time. They run on one thread, NumPy's matrix products on as many as its BLAS takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench import baseline
from fastmlp.activations import ACTIVATIONS
from fastmlp.kernels import standalone
from fastmlp.losses import LOSSES
from fastmlp.optimizers import OPTIMIZERS

Array = NDArray[Any]
Compare = Callable[..., None]

quick = pytest.mark.quick

RELU = ACTIVATIONS["relu"].code
CROSS_ENTROPY = LOSSES["cross_entropy"]().code

dense_shapes = pytest.mark.parametrize(
    ("rows", "inputs", "units", "dtype"),
    [
        (32, 64, 32, "float32"),
        (1000, 4, 32, "float32"),
        pytest.param(128, 784, 128, "float32", marks=quick),
        (256, 1024, 1024, "float32"),
        (128, 784, 128, "float64"),
    ],
)
output_shapes = pytest.mark.parametrize(
    ("rows", "units", "dtype"),
    [
        (32, 32, "float32"),
        pytest.param(128, 128, "float32", marks=quick),
        (256, 1024, "float32"),
        (128, 128, "float64"),
    ],
)


def normal(dtype: str, *shape: int, seed: int = 0) -> Array:
    """Return standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def describe(dtype: str, *shape: int) -> str:
    """Return a shape as text, with the dtype if it is not float32."""
    return " x ".join(map(str, shape)) + ("" if dtype == "float32" else f", {dtype}")


@dense_shapes
def bench_dense_forward(compare: Compare, rows: int, inputs: int, units: int, dtype: str) -> None:
    X, W, b = normal(dtype, rows, inputs), normal(dtype, inputs, units), normal(dtype, units)
    compare(
        "dense_forward, relu",
        describe(dtype, rows, inputs, units),
        fastmlp=lambda: standalone.dense_forward(X, W, b, RELU),
        numpy=lambda: baseline.relu(baseline.dense_forward(X, W, b)),
    )


@dense_shapes
def bench_dense_backward(compare: Compare, rows: int, inputs: int, units: int, dtype: str) -> None:
    delta, W = normal(dtype, rows, units), normal(dtype, inputs, units)
    a = baseline.relu(normal(dtype, rows, inputs, seed=1))
    compare(
        "dense_backward, relu",
        describe(dtype, rows, inputs, units),
        fastmlp=lambda: standalone.dense_backward(delta, W, a, RELU),
        numpy=lambda: baseline.relu_backward(baseline.dense_backward(delta, W), a),
    )


@dense_shapes
def bench_weight_gradient(compare: Compare, rows: int, inputs: int, units: int, dtype: str) -> None:
    a, delta = normal(dtype, rows, inputs), normal(dtype, rows, units, seed=1)
    compare(
        "weight_gradient",
        describe(dtype, rows, inputs, units),
        fastmlp=lambda: standalone.weight_gradient(a, delta),
        numpy=lambda: baseline.weight_gradient(a, delta),
    )


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky_relu", "elu", "softmax"])
@output_shapes
def bench_activate(compare: Compare, activation: str, rows: int, units: int, dtype: str) -> None:
    z = normal(dtype, rows, units)
    chosen, activate = ACTIVATIONS[activation], baseline.ACTIVATIONS[activation][0]
    compare(
        f"activate, {activation}",
        describe(dtype, rows, units),
        fastmlp=lambda: standalone.activate(z, chosen.code, chosen.alpha),
        numpy=lambda: activate(z),
    )


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky_relu", "elu", "softmax"])
@output_shapes
def bench_activation_backward(compare: Compare, activation: str, rows: int, units: int, dtype: str) -> None:
    delta = normal(dtype, rows, units)
    chosen, (activate, backward) = ACTIVATIONS[activation], baseline.ACTIVATIONS[activation]
    a = activate(normal(dtype, rows, units, seed=1))
    compare(
        f"activation_backward, {activation}",
        describe(dtype, rows, units),
        fastmlp=lambda: standalone.activation_backward(delta, a, chosen.code, chosen.alpha),
        numpy=lambda: backward(delta, a),
    )


@pytest.mark.parametrize("loss", list(baseline.LOSSES))
@pytest.mark.parametrize(
    ("rows", "units", "dtype"),
    [
        pytest.param(128, 10, "float32", marks=quick),
        (1000, 10, "float32"),
        (256, 1024, "float32"),
        (128, 10, "float64"),
    ],
)
def bench_loss_and_delta(compare: Compare, loss: str, rows: int, units: int, dtype: str) -> None:
    outputs, targets = normal(dtype, rows, units), baseline.softmax(normal(dtype, rows, units, seed=1))
    chosen = LOSSES[loss]()
    compare(
        f"loss_and_delta, {loss}",
        describe(dtype, rows, units),
        fastmlp=lambda: standalone.loss_and_delta(outputs, targets, chosen.code, chosen.parameter),
        numpy=lambda: baseline.LOSSES[loss](outputs, targets),
    )


@pytest.mark.parametrize(
    ("rows", "units", "dtype"),
    [
        pytest.param(128, 10, "float32", marks=quick),
        (1000, 10, "float32"),
        (256, 1024, "float32"),
        (128, 10, "float64"),
    ],
)
def bench_loss_and_delta_of_labels(compare: Compare, rows: int, units: int, dtype: str) -> None:
    z, labels = normal(dtype, rows, units), np.random.default_rng(1).integers(0, units, rows)
    compare(
        "loss_and_delta, cross_entropy of labels",
        describe(dtype, rows, units),
        fastmlp=lambda: standalone.loss_and_delta(z, labels, CROSS_ENTROPY),
        numpy=lambda: baseline.cross_entropy(z, labels),
    )


@pytest.mark.parametrize("optimizer", list(baseline.OPTIMIZERS))
@pytest.mark.parametrize(
    ("count", "dtype"),
    [
        (2_410, "float32"),
        pytest.param(101_770, "float32", marks=quick),
        (1_863_690, "float32"),
        (101_770, "float64"),
    ],
)
def bench_update(compare: Compare, optimizer: str, count: int, dtype: str) -> None:
    w, g = normal(dtype, count), normal(dtype, count, seed=1)
    update, slots = baseline.OPTIMIZERS[optimizer]
    state = [np.abs(normal(dtype, count, seed=2)) for _ in range(slots)]
    rule, learning_rate, step = OPTIMIZERS[optimizer](), 1e-3, 10

    def updated() -> Any:
        return standalone.update(rule.code, w, g, state, learning_rate, step, *rule.settings()[:3])

    def results() -> tuple[Any, Any]:
        actual = updated()
        expected = w.copy(), [slot.copy() for slot in state]
        update(expected[0], g, expected[1], learning_rate, step)
        return actual, expected

    compare(
        f"update, {optimizer}",
        describe(dtype, count),
        fastmlp=updated,
        numpy=lambda: update(w, g, state, learning_rate, step),
        results=results,
    )
