"""Show which kernels a training step spends its time in, sampled by Linux' perf.

    python -m bench.profile_step mnist
    python -m bench.profile_step wide --threads 2 --seconds 10

The tiles of each height and width are functions of their own and appear under their own names. Needs the program perf
and the right to sample a process of one's own.
"""

from __future__ import annotations

import argparse
import inspect
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.compare.cases import HEADLINE
from bench.compare.peers import FastMLP

READY_SECONDS = 120.0


def functions_of(elf: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of the functions in a compiled object (64-bit ELF)."""
    (sections_at,) = struct.unpack_from("<Q", elf, 0x28)
    size, count = struct.unpack_from("<HH", elf, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, sections_at + i * size) for i in range(count)]
    for _, kind, _, _, begin, length, link, _, _, entry in sections:
        if kind != 2:  # symbol table
            continue
        names = sections[link][4]
        for place in range(begin, begin + length, entry):
            name, info, _, _, value, extent = struct.unpack_from("<IBBHQQ", elf, place)
            if info & 15 == 2:
                yield elf[names + name : elf.index(b"\0", names + name)].decode(), value, extent


def write_map() -> None:
    """Have the kernels' addresses written to the file in which perf looks for the names of compiled functions."""
    from numba import types

    from fastmlp.kernels import compilation
    from fastmlp.kernels.linking import Kernel, address_in

    compilation.MOST_PROCESSES = 1  # what another process compiles comes from the cache, and has no names there

    def address(kernel: Kernel, dtype: types.Float) -> int:
        compiled = kernel.compiled(dtype)
        symbols = list(functions_of(compiled._library._get_compiled_object()))
        base = compiled.address - next(value for name, value, _ in symbols if name == compiled._wrapper_name)
        with Path(f"/tmp/perf-{os.getpid()}.map").open("a", encoding="utf-8") as file:
            for name, value, size in symbols:
                shown = name if name.startswith("fastmlp_") else kernel.function.__name__
                file.write(f"{base + value:x} {size:x} {shown}\n")
        return address_in(compiled)

    Kernel.address = address  # type: ignore[method-assign]


def train(shape: str, threads: int, seconds: float, ready: Path) -> None:
    """Train on a shape for some seconds; make the file `ready` once everything is compiled."""
    import fastmlp

    write_map()
    case = next(case for case in HEADLINE if case.name == shape)
    fastmlp.set_num_threads(threads)
    side = FastMLP(case, *case.data())
    side.fit(1)
    ready.touch()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        side.fit(case.epochs_per_call)


def main() -> None:
    parser = argparse.ArgumentParser(description=inspect.getdoc(inspect.getmodule(main)),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=[case.name for case in HEADLINE])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)  # in the process that is sampled
    options = parser.parse_args()
    if options.train:
        train(options.shape, options.threads, options.seconds + 1, options.train)
        return
    if shutil.which("perf") is None:
        parser.error("the program perf is not installed")
    with tempfile.TemporaryDirectory() as folder:
        ready, samples = Path(folder, "ready"), Path(folder, "samples")
        command = [sys.executable, "-m", "bench.profile_step", *sys.argv[1:], "--train", str(ready)]
        # What comes from a cache has no names: everything is compiled anew, which takes ten seconds or more.
        with subprocess.Popen(command, env={**os.environ, "NUMBA_CACHE_DIR": folder}) as trained:
            end = time.monotonic() + READY_SECONDS
            while not ready.exists() and trained.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
            if not ready.exists():
                trained.kill()
                raise SystemExit("the process that trains did not get ready")
            subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-p", str(trained.pid), "-o", str(samples), "--",
                            "sleep", str(options.seconds)], check=True)
        subprocess.run(["perf", "report", "--stdio", "-q", "--sort", "symbol", "--percent-limit", "0.5", "-i",
                        str(samples)], check=True)
        Path(f"/tmp/perf-{trained.pid}.map").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
