"""Kernels compiled one by one: the table of addresses, the cache on disk, and imports that compile nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from naive import DTYPES, Array, in_threads
from numba import njit, types

import fastmlp
from fastmlp.kernels import activations
from fastmlp.kernels.linking import KERNELS, kernel_table
from fastmlp.kernels.simd import lanes_of, pointer


def run_python(script: str, root: Path, cache: Path | None, **variables: str) -> Any:
    """Run a script with the package that lies in `root`, and a cache of its own or this process's; return its JSON."""
    environment = {**os.environ, **({} if cache is None else {"NUMBA_CACHE_DIR": str(cache)}),
                   "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)]), **variables}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False,
                          env=environment, cwd=root)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A private copy of the package, with its kernels as a folder inside."""
    root = tmp_path / "copy"
    shutil.copytree(Path(fastmlp.__file__).parent, root / "fastmlp", ignore=shutil.ignore_patterns("__pycache__"))
    assert (root / "fastmlp" / "kernels" / "elementary.py").is_file()
    return root


# ---- the table of addresses


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_table_holds_an_address_for_every_kernel(dtype: str) -> None:
    table = kernel_table(np.dtype(dtype))
    assert table.dtype == np.int64
    assert all(address != 0 or entry.on_demand for entry, address in zip(KERNELS, table[: len(KERNELS)], strict=True))
    kernel_table(np.dtype(dtype), *KERNELS)
    assert (table[: len(KERNELS)] != 0).all()
    assert not table[len(KERNELS) :].any()
    assert len(set(table[: len(KERNELS)].tolist())) == len(KERNELS)
    assert [entry.slot for entry in KERNELS] == list(range(len(KERNELS)))


def test_the_two_dtypes_have_kernels_of_their_own_and_others_have_none() -> None:
    single, double = (set(kernel_table(np.dtype(dtype), *KERNELS).tolist()) for dtype in DTYPES)
    assert single & double == {0}
    with pytest.raises(KeyError):
        kernel_table(np.dtype(np.float16))


def test_the_table_is_made_once() -> None:
    assert kernel_table(np.dtype(np.float32)) is kernel_table(np.dtype("float32"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_kernel_gives_the_same_from_python_and_from_compiled_code(dtype: str) -> None:
    array = types.Array(types.float32 if dtype == "float32" else types.float64, 1, "C")

    @njit(types.void(types.Array(types.int64, 1, "C"), types.float64, array, types.int64))
    def call(kernels: Array, alpha: float, block: Array, count: int) -> None:
        activations.activate(pointer(kernels), activations.ELU, alpha, pointer(block), count)

    count = 3 * lanes_of(np.dtype(dtype).itemsize)
    z = np.linspace(-2, 2, count).astype(dtype)
    compiled, called = z.copy(), z.copy()
    call(kernel_table(np.dtype(dtype)), 0.5, compiled, count)
    activations.activate(kernel_table(np.dtype(dtype)), activations.ELU, 0.5, called, count)
    np.testing.assert_array_equal(compiled, called)
    assert (called[z < 0] > z[z < 0]).all()


def test_threads_may_ask_for_a_table_at_the_same_time() -> None:
    tables = in_threads(*[lambda: kernel_table(np.dtype(np.float32))] * 4)
    assert all(np.array_equal(table, tables[0]) for table in tables)


def test_a_kernel_is_described_by_its_function() -> None:
    assert activations.activate.__name__ == "activate"
    assert "z by f(z)" in str(activations.activate.__doc__)


# ---- importing


IMPORT = """
import json, os, pkgutil
from numba.core import event
with event.install_recorder("numba:run_pass") as recorder:
    import fastmlp, fastmlp.kernels
    names = [module.name for module in pkgutil.iter_modules(fastmlp.kernels.__path__)]
    for name in names:
        __import__("fastmlp.kernels." + name)
    model = fastmlp.MLP([3, 4, 2], seed=0)
    fastmlp.Trainer(model)
cached = [name for _, _, files in os.walk(os.environ["NUMBA_CACHE_DIR"]) for name in files]
print(json.dumps([names, len(recorder.buffer), cached]))
"""


def test_importing_and_building_a_model_compiles_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    names, passes, cached = run_python(IMPORT, Path(fastmlp.__file__).parent.parent, cache)
    assert "dense" in names
    assert passes == 0
    assert cached == []


# ---- the cache on disk


# Compiles or loads one kernel and the entry point, tells how many compiler passes ran, and applies tanh.
USE = """
import json
import numpy as np
from numba import types
from numba.core import event
from fastmlp.kernels import activations, epoch
from fastmlp.kernels.linking import KERNELS
with event.install_recorder("numba:run_pass") as recorder:
    table = np.zeros(len(KERNELS), np.int64)
    table[activations.activate.slot] = activations.activate.address(types.float32)
    passes = len(recorder.buffer)
    epoch.run.compile((types.int64, types.int64, types.int64[::1]))
block = np.full(64, 0.5, np.float32)
activations.activate(table, activations.TANH, 0.0, block, 64)
print(json.dumps([float(block[0]), passes, len(recorder.buffer) - passes]))
"""

REPLACED = """

@vector_function
def tanh(x: Lanes) -> Lanes:
    return x * 4.0
"""


def test_the_cache_serves_the_next_process_and_is_renewed_when_a_source_file_changes(copy: Path) -> None:
    cache = copy.parent / "cache"
    value, kernel_passes, entry_passes = run_python(USE, copy, cache)
    assert value == pytest.approx(np.tanh(0.5), rel=1e-6)
    assert kernel_passes > 0
    assert entry_passes > 0

    assert run_python(USE, copy, cache) == [value, 0, 0], "the cache was not used"

    # The formula is in another file than the kernel; its time stamp stays, as after a copy or a checkout.
    changed = copy / "fastmlp" / "kernels" / "elementary.py"
    before, stamp = changed.read_text(), changed.stat()
    changed.write_text(before + REPLACED)
    os.utime(changed, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    value_changed, kernel_passes, entry_passes = run_python(USE, copy, cache)
    assert value_changed == 2.0, "the kernel of the old source file was used"
    assert kernel_passes > 0
    assert entry_passes > 0, "the entry point holds on to kernels of the old source file"

    changed.write_text(before)
    assert run_python(USE, copy, cache)[0] == value


# Trains, predicts and evaluates, and tells which of Numba's modules for compiling were imported.
TRAIN = """
import json, sys
import numpy as np
from fastmlp import MLP, Trainer, set_num_threads
set_num_threads(2)
X, y = np.ones((4000, 784), np.float32), np.arange(4000) % 3
trainer = Trainer(MLP([784, 128, 3]), batch_size=512)
trainer.fit(X, y, epochs=1, validation_split=0.1, progress=False)
trainer.model.predict(X)
for_compiling = "numba.np.arraymath", "numba.cpython.unicode", "scipy.linalg"
print(json.dumps([name for name in for_compiling if name in sys.modules]))
"""


def test_what_comes_from_the_cache_needs_no_compiler() -> None:
    """It would be half a second and 40 MB of imports."""
    root = Path(fastmlp.__file__).parent.parent
    run_python(TRAIN, root, None)  # in case that the cache is empty
    assert run_python(TRAIN, root, None) == []


def test_all_source_files_count(copy: Path) -> None:
    stamp = """
import json
from fastmlp.kernels.linking import sources_stamp
print(json.dumps(sources_stamp()))
"""
    cache = copy.parent / "cache"
    first = run_python(stamp, copy, cache)
    assert run_python(stamp, copy, cache) == first
    stamps = {first}
    for name in ("random.py", "simd.py"):
        path = copy / "fastmlp" / "kernels" / name
        path.write_text(path.read_text() + "\n# changed\n")
        stamps.add(run_python(stamp, copy, cache))
    assert len(stamps) == 3


def test_where_no_cache_can_be_written_kernels_are_compiled_in_each_process(copy: Path) -> None:
    """Neither beside the package, nor in the user's folder, nor where NUMBA_CACHE_DIR says."""
    nowhere = copy.parent / "a file"
    nowhere.write_text("no folder can be made in here")
    (copy / "fastmlp" / "kernels" / "__pycache__").write_text("nor here")
    blocked = {name: str(nowhere / name) for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "USERPROFILE")}
    for _ in range(2):
        value, kernel_passes, entry_passes = run_python(USE, copy, nowhere / "cache", PYTHONDONTWRITEBYTECODE="1",
                                                        **blocked)
        assert value == pytest.approx(np.tanh(0.5), rel=1e-6)
        assert kernel_passes > 0
        assert entry_passes > 0


def test_without_compilation_the_import_says_what_to_do() -> None:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1",
                   "PYTHONPATH": os.pathsep.join([str(Path(fastmlp.__file__).parents[1]), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, "-c", "import fastmlp"], capture_output=True, text=True, check=False,
                          env=environment)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: fastmlp cannot be imported with NUMBA_DISABLE_JIT=1")
