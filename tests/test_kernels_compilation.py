"""Kernels that are missing in the cache on disk, compiled by several processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from numba import types

import fastmlp
from fastmlp.kernels import compilation
from fastmlp.kernels.linking import Kernel
from fastmlp.kernels.noise import add_noise, drop
from fastmlp.kernels.updates import regularise

IN_A_NEW_CACHE = """
import time
from numba import types
from fastmlp.kernels import compilation
from fastmlp.kernels.linking import Kernel
from fastmlp.kernels.noise import add_noise, drop
from fastmlp.kernels.updates import regularise

kernels = [regularise, drop, add_noise]
assert all(kernel.is_missing(types.float64) for kernel in kernels)
done = []
waiting = kernels[:2]
worker = compilation._Worker(waiting, types.float64, lambda: done.append(1))
while len(done) < 2:
    time.sleep(0.01)
worker.end()
assert not waiting
assert [kernel.is_missing(types.float64) for kernel in kernels] == [False, False, True]
assert [kernel.compiled(types.float64).cache_hits for kernel in kernels] == [1, 1, 0]

compilation.LEAST_MISSING = 2
compilation.config.NUMBA_NUM_THREADS = 2
in_this_process = []
original = Kernel.compiled
def compiled(kernel, dtype, **options):
    in_this_process.append(kernel)
    time.sleep(5)  # time enough for the other process
    return original(kernel, dtype, **options)
Kernel.compiled = compiled
compilation.compile_missing(kernels, types.float32, lambda: done.append(0))
assert done.pop() == 0
assert not any(kernel.is_missing(types.float32) for kernel in kernels)
assert 0 < len(in_this_process) < 3, in_this_process
"""


def test_another_process_leaves_what_it_compiles_in_the_cache(tmp_path: Path) -> None:
    paths = [str(Path(fastmlp.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run([sys.executable, "-c", IN_A_NEW_CACHE], env=environment, capture_output=True, text=True,
                          timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def kernels() -> list[Kernel]:
    return [regularise, drop, add_noise]


def test_a_process_that_ends_at_once_leaves_the_kernels_to_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = kernels()
    for program in ("raise SystemExit(1)", "print('ready')"):
        monkeypatch.setattr(compilation, "PROGRAM", program)
        worker = compilation._Worker(waiting, types.float32, lambda: None)
        worker.end()
        assert worker._process.wait(30) in (0, 1)
    assert len(waiting) >= 2  # the second may have been handed one


def test_a_process_that_cannot_be_started_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(Path(__file__).parent / "no-python-here"))
    waiting = kernels()
    compilation._Worker(waiting, types.float32, lambda: None).end()
    assert len(waiting) == 3


def test_a_process_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "PROGRAM", "import time; time.sleep(1000)")
    monkeypatch.setattr(compilation, "PATIENCE", 0.2)
    waiting = kernels()
    worker = compilation._Worker(waiting, types.float32, lambda: None)
    began = time.perf_counter()
    worker.end()
    assert worker._process.wait(30) != 0
    assert time.perf_counter() - began < 60
    assert len(waiting) == 3


@pytest.mark.parametrize(("executable", "frozen", "can"), [
    (sys.executable, False, True), ("/opt/editor/editor", False, False), ("", False, False), (None, False, False),
    (sys.executable, True, False),
])
def test_only_a_python_is_started(executable: Any, frozen: bool, can: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    assert compilation._python_can_be_started() is can


@pytest.mark.parametrize("missing", [0, compilation.LEAST_MISSING - 1])
def test_few_kernels_are_left_to_this_process(missing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(range(100))
    monkeypatch.setattr(Kernel, "is_missing", lambda self, dtype: next(names) < missing)
    monkeypatch.setattr(Kernel, "compiled", lambda *arguments: pytest.fail("compiled"))
    monkeypatch.setattr(compilation.config, "NUMBA_NUM_THREADS", 2)
    monkeypatch.setattr(compilation, "_Worker", lambda *arguments: pytest.fail("started a process"))
    compilation.compile_missing(kernels() * 4, types.float32, lambda: None)
    assert next(names) == 12


def test_one_processor_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kernel, "is_missing", lambda self, dtype: pytest.fail("looked"))
    monkeypatch.setattr(compilation.config, "NUMBA_NUM_THREADS", 1)
    compilation.compile_missing(kernels() * 4, types.float32, lambda: None)
