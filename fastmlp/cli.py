"""The command ``fastmlp``: the MNIST training script, and what fastmlp found on this computer."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from . import __version__, mnist


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the command line by default.

    Returns
    -------
    int
        The exit code: 0, 1 if the output cannot be written, or that of `fastmlp.mnist.run`.

    Raises
    ------
    SystemExit
        With code 2 if an argument is wrong; with code 0 after --help and --version.
    """
    parser = argparse.ArgumentParser(prog="fastmlp", description="Fast multilayer perceptrons on the CPU.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    train = commands.add_parser("mnist", help="train on MNIST and test", description="Train on MNIST and test.")
    mnist.add_arguments(train)
    about = "show versions, processor, threads and folders"
    commands.add_parser("info", help=about, description=f"{about.capitalize()}.")
    arguments = parser.parse_args(argv)
    if arguments.command == "mnist":
        return mnist.run(arguments, train.error)
    return _print(info())


def _print(text: str) -> int:
    """Print a text and return the exit code."""
    try:
        print(text, flush=True)
    except OSError as problem:
        return mnist.give_up_output(problem)
    return mnist.DONE


def info() -> str:
    """Return a table of what fastmlp found: versions, processor, threads and folders.

    Returns
    -------
    str
        A line for each finding, its name first. What cannot be found out is "unknown", with the reason.
    """
    findings: list[tuple[str, Callable[[], Any]]] = [
        ("fastmlp", lambda: __version__),
        ("python", _python_version),
        ("numpy", lambda: _module_version("numpy")),
        ("numba", lambda: _module_version("numba")),
        ("llvmlite", lambda: _module_version("llvmlite")),
        ("platform", _platform),
        ("processor", _processor),
        ("instruction set", _instruction_set),
        ("cpu features", _cpu_features),
        ("tile float32", lambda: _tile(4)),
        ("tile float64", lambda: _tile(8)),
        ("threads", _threads),
        ("threading layer", _threading_layer),
        ("kernel cache", _kernel_cache),
        ("data cache", _data_cache),
        ("FASTMLP_DATA", lambda: os.environ.get("FASTMLP_DATA") or "not set"),
    ]
    return "\n".join(f"{name:<17}{_text(find)}" for name, find in findings)


def _text(find: Callable[[], Any]) -> str:
    try:
        return str(find())
    except Exception as problem:  # a report of what is wrong must not fail for it
        return f"unknown ({type(problem).__name__}: {problem})"


def _python_version() -> str:
    import platform

    return f"{platform.python_version()} ({platform.python_implementation()})"


def _module_version(name: str) -> str:
    import importlib

    return str(importlib.import_module(name).__version__)


def _platform() -> str:
    import platform

    return platform.platform()


def _processor() -> str:
    """The name that LLVM has for the processor, or the one that the user gave to Numba."""
    import llvmlite.binding
    from numba import config

    return str(config.CPU_NAME or llvmlite.binding.get_host_cpu_name())


def _instruction_set() -> str:
    from .kernels.simd import INSTRUCTION_SET

    fused = "with" if INSTRUCTION_SET.fused else "without"
    return f"{INSTRUCTION_SET.name}, registers of {INSTRUCTION_SET.register_bytes} bytes, {fused} fused multiply-add"


def _cpu_features() -> str:
    """The features that decide between instruction sets."""
    from .kernels.simd import CPU_FEATURES, INSTRUCTION_SETS

    deciding = frozenset().union(*(row.needs for row in INSTRUCTION_SETS))
    return ", ".join(sorted(deciding & CPU_FEATURES)) or "none that matter"


def _tile(itemsize: int) -> str:
    from .kernels.simd import TILE_ROWS, TILE_VECTORS, lanes_of

    return f"{TILE_ROWS} x {TILE_VECTORS * lanes_of(itemsize)}"


def _threads() -> str:
    from .threads import available_threads, get_num_threads

    return f"{get_num_threads()} of {available_threads()}"


def _threading_layer() -> str:
    from .threads import threading_layer

    layer = threading_layer()
    if layer != "workqueue":
        return layer
    remedy = "pip install tbb"
    if sys.platform == "linux":
        remedy = "install libgomp.so.1 of the system (for example the package libgomp1), or pip install tbb"
    elif sys.platform == "darwin":
        remedy = "install libomp (for example brew install libomp)"
    return f"{layer}, which lets only one thread at a time train or predict; better: {remedy}"


def _kernel_cache() -> str:
    from .kernels.epoch import run

    return str(run.stats.cache_path)


def _data_cache() -> str:
    from .datasets.mnist import ORIGINALS, cache_folder, is_original

    folder = cache_folder()
    present = all(is_original(folder / "mnist" / name, name) for name in ORIGINALS)
    return f"{folder} ({'with' if present else 'without'} MNIST)"
