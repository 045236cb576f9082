"""The machine and the versions that a report is about; nothing that names the computer or its user."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import numba
import numpy as np

import fastmlp
from fastmlp.kernels.simd import INSTRUCTION_SET
from fastmlp.threads import available_threads

from .peers import SIDES


def describe_machine() -> dict[str, str]:
    """Return the processor, the number of cores in use and the instruction set of the kernels."""
    return {"processor": processor_name(), "cores": str(available_threads()),
            "instruction set": f"{INSTRUCTION_SET.name}, registers of {INSTRUCTION_SET.register_bytes} bytes",
            "system": f"{platform.system()}, {platform.machine()}"}


def processor_name() -> str:
    """Return what the system calls the processor."""
    if platform.system() == "Linux":
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    if platform.system() == "Darwin":
        done = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return platform.processor() or platform.machine()


def describe_versions(peers: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python, of fastmlp and what it stands on, and of the peers."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"].get("name", "unknown BLAS")
    versions = {"Python": platform.python_version(), "fastmlp": fastmlp.__version__, "Numba": numba.__version__,
                "NumPy": f"{np.__version__} ({blas})"}
    others = (SIDES[name] for name in peers if name != "numpy")
    return versions | {side.label: metadata.version(side.distribution) for side in others}
