"""What the benchmarks share: the fixture that compares two sides, and a description of the machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

import fastmlp
from bench.compare.timing import SECONDS_TO_SETTLE

TOLERANCES = {"float32": 1e-5, "float64": 1e-12}


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Add to the JSON what the times depend on."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    machine_info |= {
        "threads": fastmlp.get_num_threads(),
        "fastmlp": fastmlp.__version__,
        "numpy": np.__version__,
        "numba": numba.__version__,
        "blas": blas.get("name", "unknown BLAS"),
    }


def assert_same(actual: Any, expected: Any, tolerance: float | None = None) -> None:
    """Check two numbers, arrays, or nested sequences of them for equality.

    Parameters
    ----------
    actual, expected : float, array, list or tuple
    tolerance : float, optional
        Largest Euclidean norm of the difference, relative to that of each array; by default some rounding errors of
        its dtype.
    """
    if isinstance(expected, (list, tuple)):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other, tolerance)
        return
    assert np.shape(actual) == np.shape(expected)
    dtype = "float32"
    if isinstance(expected, np.ndarray):
        assert actual.dtype == expected.dtype
        dtype = expected.dtype.name
    allowed = TOLERANCES[dtype] if tolerance is None else tolerance
    assert np.linalg.norm(actual - expected) <= allowed * np.linalg.norm(expected)


@pytest.hookimpl(trylast=True)  # after the other parameters: the two sides of a case run one after the other
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every benchmark for both sides."""
    if "compare" in metafunc.fixturenames:
        metafunc.parametrize("compare", ["fastmlp", "numpy"], indirect=True)


@pytest.fixture
def compare(request: pytest.FixtureRequest, benchmark: Any) -> Callable[..., None]:
    """Return a function that times one side of a comparison; the fixture's parameter says which."""

    def run(operation: str, shape: str, fastmlp: Callable[[], Any], numpy: Callable[[], Any],
            results: Callable[[], tuple[Any, Any]] | None = None, tolerance: float | None = None,
            steps: int = 1) -> None:
        """Check that both sides compute the same, then time one of them.

        Parameters
        ----------
        operation, shape : str
            What is computed, and on what; together they are the name of the benchmark group.
        fastmlp, numpy : functions without arguments
            The two sides.
        results : function without arguments, optional
            Returns what each side computed, to be checked; by default the two sides are called.
        tolerance : float, optional
            Of the check, see `assert_same`.
        steps : int
            Number of steps in a call; the report divides by it.
        """
        assert_same(*(results() if results else (fastmlp(), numpy())), tolerance)
        side = {"fastmlp": fastmlp, "numpy": numpy}[request.param]
        side()  # compiles, fills caches
        time.sleep(SECONDS_TO_SETTLE)
        section = request.module.__name__.rpartition("bench_")[2]
        benchmark.group = f"{section}: {operation}, {shape}"
        benchmark.extra_info |= {"section": section, "operation": operation, "shape": shape, "side": request.param,
                                 "steps": steps}
        benchmark(side)

    return run
