"""Start: what an import and the first training cost in a fresh process, in seconds and in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from .peers import SIDES
from .results import Memory, Start

ROOT = Path(__file__).parents[2]
MEMORY_SHAPE = "mnist"


def measure_start(peers: Iterable[str], repeats: int) -> Start:
    """Measure imports, the first fit with an empty and with a warm cache of compiled kernels, and the memory."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        # Modules are bytecode already, as those of the peers and of any installed package are.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        _import_seconds(environment, SIDES["fastmlp"].packages)
        empty = in_fresh_process(environment, "first_fit")
        warm = median(in_fresh_process(environment, "first_fit") for _ in range(repeats))
        memory = in_fresh_process(environment, "memory", MEMORY_SHAPE)
        imports = {name: median(_import_seconds(environment, SIDES[name].packages) for _ in range(repeats))
                   for name in ("fastmlp", *peers)}
    return Start(imports, empty, warm, None if memory is None else Memory(**memory))


def _import_seconds(environment: Mapping[str, str], packages: Iterable[str]) -> float:
    seconds: float = in_fresh_process(environment, "import", *packages)
    return seconds


def in_fresh_process(environment: Mapping[str, str], *arguments: str) -> Any:
    """Return what `fresh_process` measures when it is given these arguments."""
    done = subprocess.run([sys.executable, "-m", f"{__package__}.fresh_process", *arguments], cwd=ROOT,
                          env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)
