"""What only a fresh process can tell: ``python -m bench.compare.fresh_process WHAT`` prints it as JSON.

WHAT is ``import`` and names of modules, ``first_fit``, or ``memory`` and the name of a headline shape. Imports stand
inside the functions, because they are part of what is measured.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

STATUS = Path("/proc/self/status")  # of this process, on Linux


def import_seconds(*modules: str) -> float:
    """Return the seconds of importing modules."""
    began = time.perf_counter()
    for module in modules:
        import_module(module)
    return time.perf_counter() - began


def first_fit_seconds() -> float:
    """Return the seconds of the imports and of training a small network for the first time."""
    began = time.perf_counter()
    import numpy as np

    from fastmlp import MLP, Trainer

    X, y = np.zeros((256, 20), np.float32), np.arange(256) % 3
    Trainer(MLP([20, 16, 3])).fit(X, y, epochs=1, progress=False)
    return time.perf_counter() - began


def memory_use(name: str) -> dict[str, int] | None:
    """Return the fields of `results.Memory` for an epoch of a headline shape; None if the system does not tell."""
    import numpy as np

    from fastmlp import MLP, Trainer

    from .cases import HEADLINE

    if not STATUS.exists():
        return None
    imports = resident_bytes("VmRSS")
    Trainer(MLP([4, 3])).fit(np.zeros((32, 4), np.float32), np.zeros(32, int), epochs=1, progress=False)
    kernels = resident_bytes("VmRSS") - imports
    case = next(case for case in HEADLINE if case.name == name)
    X, y = case.data()
    trainer = Trainer(MLP(list(case.sizes), case.activation, case.output), case.loss, case.optimizer,
                      batch_size=case.batch_size)
    trainer.fit(X, y, epochs=1, progress=False)
    parameters = trainer.model.parameter_count * trainer.model.dtype.itemsize
    return {"imports": imports, "data": X.nbytes + y.nbytes, "parameters": parameters,
            "optimizer_state": trainer.optimizer.slots * parameters, "kernels": kernels,
            "peak": resident_bytes("VmHWM")}


def resident_bytes(field: str) -> int:
    """Return the memory in use, "VmRSS", or the most that ever was, "VmHWM".

    The resource module's ru_maxrss is no use: a process inherits it from the one that started it.
    """
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def main(what: str, *arguments: str) -> None:
    """Measure and print."""
    functions: dict[str, Callable[..., object]] = {
        "import": import_seconds, "first_fit": first_fit_seconds, "memory": memory_use}
    print(json.dumps(functions[what](*arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])
