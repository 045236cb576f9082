"""The same kernels compiled for narrower instruction sets than this processor's.

Numba is told by environment variables which processor to compile for, so each set needs a process of its own, which is
this file run as a script. It makes a small but complete check: elementary functions, forward, gradients, training
with each optimizer, and that results do not depend on the number of threads.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import llvmlite.binding
import naive
import numpy as np
import pytest
from naive import DTYPES

X86 = platform.machine().lower() in ("x86_64", "amd64")
OLD = ("64bit", "cx16", "cx8", "cmov", "fxsr", "mmx", "popcnt", "sahf", "sse", "sse2", "sse3", "ssse3", "sse4.1",
       "sse4.2", "x87", "xsave", "avx")


def host_features() -> list[str]:
    return sorted(name for name, present in llvmlite.binding.get_host_cpu_features().items() if present)


def without_avx512() -> str:
    """This processor's features, without AVX-512 and what is built upon it."""
    features = llvmlite.binding.get_host_cpu_features()
    newer = ("avx512", "avx10", "amx")
    return ",".join(("+" if present and not name.startswith(newer) else "-") + name
                    for name, present in sorted(features.items()))


def without_fma() -> str:
    """The features of a processor that had AVX and neither AVX2 nor fused multiply-add."""
    return ",".join("+" + name for name in host_features() if name in OLD)


# name of the instruction set -> features that the host must have, name of a processor, its features
CHOICES: dict[str, tuple[set[str], str, Any]] = {
    "AVX2": ({"avx2", "fma"}, "haswell", without_avx512),
    "AVX": ({"avx"}, "sandybridge", without_fma),
    "128-bit vectors": (set(), "generic", lambda: ""),
}


@pytest.fixture(scope="module")
def checks() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The checks on all sets that this processor has, begun together: much of their time is one thread's compiling."""
    with contextlib.ExitStack() as stack:
        running = {}
        for name, (needed, processor, features) in CHOICES.items():
            if needed <= set(host_features()):
                environment = {**os.environ, "NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features(),
                               "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
                running[name] = stack.enter_context(subprocess.Popen(
                    [sys.executable, __file__, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                    env=environment))
                stack.callback(running[name].kill)
        yield running


@pytest.mark.parametrize("name", CHOICES)
def test_a_complete_check_passes_on(name: str, checks: dict[str, subprocess.Popen[str]]) -> None:
    if name not in checks:
        pytest.skip(f"this processor lacks {', '.join(sorted(CHOICES[name][0]))}")
    _, errors = checks[name].communicate()
    assert checks[name].returncode == 0, errors


# ---- what runs in a process of its own


LAYERS = [("relu", 33), ("elu", 17), ("tanh", 40), ("leaky_relu", 16), ("sigmoid", 20), ("softmax", 5)]
ALPHAS = {"elu": 1.0, "leaky_relu": 0.01}


def check_elementary() -> None:
    import test_kernels_elementary as elementary

    wider = {"float32": np.float64, "float64": np.longdouble}
    for name in elementary.NAMES:
        for dtype in DTYPES:
            if dtype == "float64" and not elementary.LONG_DOUBLE:
                continue
            x = elementary.samples(name, dtype, 30_000)
            exact = elementary.in_wider_floats(name, x.astype(wider[dtype]))
            worst = elementary.ulp_errors(elementary.evaluate(name, x, dtype), exact).max()
            assert worst < elementary.MOST_ULP[name], f"{name} of {dtype}: {worst} ulp"


def check_model(dtype: str) -> None:
    from fastmlp import MLP, Dense, Trainer

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(100, 30)).astype(dtype), rng.integers(0, 5, 100)
    targets = naive.one_hot(y, 5)

    def build() -> MLP:
        return MLP([30, *(Dense(units, activation) for activation, units in LAYERS)], dtype=dtype, seed=1)

    def described(model: MLP) -> list[naive.Layer]:
        weights = model.get_weights()
        return [(W, b, activation, ALPHAS.get(activation, 0.0))
                for W, b, (activation, _) in zip(weights[::2], weights[1::2], LAYERS, strict=True)]

    model = build()
    tolerance = {"rtol": 0.0, "atol": 300 * float(np.finfo(dtype).eps)}
    np.testing.assert_allclose(model.forward(X), naive.forward(X, described(model)), **tolerance)
    loss, gradients = model.loss_and_gradients(X, y)
    wanted_loss, wanted = naive.loss_and_gradients(X, targets, described(model), "cross_entropy")
    assert abs(loss - wanted_loss) < tolerance["atol"]
    for found, exact in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(found, exact, **tolerance)

    probabilities = naive.softmax(rng.normal(size=(100, 5)))
    cases = (("cross_entropy", probabilities, probabilities), ("mean_squared_error", targets, targets))
    for name, given, numbers in cases:
        loss, gradients = model.loss_and_gradients(X, given, name)
        wanted_loss, wanted = naive.loss_and_gradients(X, numbers, described(model), name)
        assert abs(loss - wanted_loss) < tolerance["atol"]
        for found, exact in zip(gradients, wanted, strict=True):
            np.testing.assert_allclose(found, exact, **tolerance)

    batches = [np.arange(first, min(first + 16, 100)) for first in range(0, 100, 16)]
    for optimizer, rate in (("sgd", 0.1), ("momentum", 0.05), ("nesterov", 0.05), ("adam", 0.003)):
        model = build()
        losses, layers = naive.train(X, targets, described(model), "cross_entropy", optimizer, rate, batches, l2=1e-3)
        trainer = Trainer(model, optimizer=optimizer, learning_rate=rate, batch_size=16, l2=1e-3)
        history = trainer.fit(X, y, epochs=1, shuffle=False, progress=False)
        mean = sum(value * len(rows) for value, rows in zip(losses, batches, strict=True)) / 100
        assert abs(history[0]["loss"] - mean) < 10 * tolerance["atol"]
        for found, exact in zip(model.get_weights(), (p for W, b, _, _ in layers for p in (W, b)), strict=True):
            # Adam divides by the size of a gradient: where that is hardly more than rounding, so is the step.
            close = np.abs(found - exact) < 100 * tolerance["atol"]
            assert close.mean() > (0.99 if optimizer == "adam" else 0.9999), optimizer
            assert np.abs(found - exact).max() < 7 * 2 * rate


def check_products(dtype: str) -> None:
    from fastmlp.kernels import standalone

    rng = np.random.default_rng(0)
    for shape in ((1, 70, 37), (3, 5, 70), (61, 33, 5), (40, 130, 90)):
        X, W, delta = (rng.integers(-4, 5, s).astype(dtype) for s in (shape[:2], shape[1:], shape[::2]))
        b = W[0].copy()
        np.testing.assert_array_equal(standalone.dense_forward(X, W, b), X @ W + b)
        np.testing.assert_array_equal(standalone.dense_backward(delta, W), delta @ W.T)
        gradient, bias_gradient = standalone.weight_gradient(X, delta)
        np.testing.assert_array_equal(gradient, X.T @ delta)
        np.testing.assert_array_equal(bias_gradient, delta.sum(axis=0))


def check_threads() -> None:
    from fastmlp import MLP, Trainer, threads

    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(300, 100)).astype(np.float32), rng.integers(0, 5, 300)
    results = []
    for number in (1, min(2, threads.available_threads())):
        threads.set_num_threads(number)
        model = MLP([100, 150, 70, 5], seed=0)
        Trainer(model, batch_size=64).fit(X, y, epochs=2, progress=False)
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def check(name: str) -> None:
    from fastmlp.kernels.simd import INSTRUCTION_SET

    assert name == INSTRUCTION_SET.name
    for dtype in DTYPES:
        check_model(dtype)
        check_products(dtype)
    check_threads()
    check_elementary()


if __name__ == "__main__":
    check(sys.argv[1])
