"""Kernels that are not in the cache on disk yet, compiled by several processes at once.

Numba compiles one function at a time in a process, whatever the number of threads. The kernels are independent of one
another, so where many of them are missing, other processes take a share of them and leave what they compile in the
cache. What they do not get done, for whatever reason, this process does itself.
"""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from numba import config, types

from .linking import Kernel

LEAST_MISSING = 6  # kernels: fewer are compiled sooner than another process has started
MOST_PROCESSES = 8
PATIENCE = 120.0  # seconds that a process may take for its last kernel

# The kernels that take longest to compile begin, so that all processes are done at about the same time.
SLOWEST = ("loss_rows", "stage_rows", "row_tile", "train_part", "forward_backward", "gradient", "apply_gradients",
           "transpose", "activate")

PROGRAM = ("import sys; sys.path[:] = sys.argv[1:]; import fastmlp; "
           "from fastmlp.kernels.compilation import serve; serve()")


def compile_missing(kernels: Sequence[Kernel], dtype: types.Float, meanwhile: Callable[[], object]) -> None:
    """Compile those of the kernels that are not in the cache on disk, if they are many; show the progress.

    `meanwhile` is called in this process while the others start.
    """
    processes = min(config.NUMBA_NUM_THREADS, MOST_PROCESSES)
    if processes < 2 or not _python_can_be_started():
        return
    missing = [kernel for kernel in kernels if kernel.is_missing(dtype)]
    if len(missing) < LEAST_MISSING:
        return
    order = {name: place for place, name in enumerate(SLOWEST)}
    waiting = sorted(missing, key=lambda kernel: -order.get(kernel.function.__name__, len(order)))
    with _progress(len(missing)) as one_done:
        workers = [_Worker(waiting, dtype, one_done) for _ in range(processes - 1)]
        try:
            meanwhile()
            while kernel := _next(waiting):
                kernel.compiled(dtype)
                one_done()
        finally:
            waiting.clear()
            for worker in workers:
                worker.end()


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Callable[[], object]]:
    """Show a progress bar on a terminal; yield what is to be called when a kernel is done."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda: None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc="compiling, once", unit="kernel", leave=False) as bar:
        yield bar.update


def _python_can_be_started() -> bool:
    """Whether `sys.executable` is a Python, and not a program that Python is built into."""
    return not getattr(sys, "frozen", False) and Path(sys.executable or "").stem.lower().startswith("python")


def _next(waiting: list[Kernel]) -> Kernel | None:
    """Take the last of the kernels that wait; several threads may do so at once."""
    try:
        return waiting.pop()
    except IndexError:
        return None


class _Worker:
    """A process that compiles kernels, and the thread that hands it one after the other."""

    def __init__(self, waiting: list[Kernel], dtype: types.Float, done: Callable[[], object]) -> None:
        self._waiting, self._dtype, self._done = waiting, dtype, done
        self._is_done = threading.Event()
        try:
            self._process = subprocess.Popen([sys.executable, "-c", PROGRAM, *sys.path], stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            self._is_done.set()
        else:
            threading.Thread(target=self._hand_out, daemon=True).start()

    def _hand_out(self) -> None:
        with contextlib.suppress(OSError), self._process as process:  # OSError: it ended before it was told to
            assert process.stdin is not None
            assert process.stdout is not None
            answer = process.stdout.readline()  # not before it is ready does it take a kernel from the others
            while answer and (kernel := _next(self._waiting)):
                function = kernel.function
                process.stdin.write(f"{function.__module__} {function.__name__} {self._dtype}\n")
                process.stdin.flush()
                answer = process.stdout.readline()
                self._done()
            self._is_done.set()  # nobody need wait until the process has ended
        self._is_done.set()

    def end(self) -> None:
        """Wait until the process has compiled what it was handed."""
        if not self._is_done.wait(PATIENCE):
            self._process.kill()


def serve() -> None:
    """Compile the kernels that standard input names, and answer each with a line; run by the other processes."""
    print("ready", flush=True)
    for line in sys.stdin:
        module, name, dtype = line.split()
        getattr(importlib.import_module(module), name).compiled(getattr(types, dtype))
        print("done", flush=True)
