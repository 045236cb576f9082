"""The two tools that look into a step: the machine code of a kernel, and the names that a profile shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from numba import types
from numba.core import config

import fastmlp.kernels.epoch  # noqa: F401  (brings in all kernels)
from bench import machine_code, profile_step
from fastmlp.kernels import compilation, linking, simd, tile, transposes, updates

ROOT = Path(__file__).resolve().parent.parent

needs_fma = pytest.mark.skipif(not (simd.IS_X86 and simd.FUSED), reason="looks for x86's multiply-adds")


@pytest.fixture(scope="module")
def column_tiles() -> str:
    """The machine code of the tiles of the gradient."""
    return machine_code.machine_code(tile.column_tile, types.float32)


def loops_of(column_tiles: str, height: int) -> list[str]:
    """The blocks with multiply-adds of the widest tile of a height."""
    name = f"fastmlp_column_tile_{height}x{simd.TILE_VECTORS}_float32"
    text = column_tiles.split(f"\n{name}:")[1].split(f"\n\t.size\t{name}")[0]
    return machine_code.loops(text, 1)


@needs_fma
@pytest.mark.parametrize("height", [1, simd.TILE_ROWS])
def test_column_tiles_have_whole_steps_in_their_loops_and_no_spills(column_tiles: str, height: int) -> None:
    accumulators = height * simd.TILE_VECTORS
    loops = loops_of(column_tiles, height)
    # Rounds, and the steps that are left: loops that LLVM has not unrolled any further.
    assert {block.count("vfmadd") for block in loops} == {accumulators, tile.STEPS_AT_ONCE * accumulators}
    assert not any(machine_code.SPILL.search(block) for block in loops)
    assert {block.count("prefetch") for block in loops} == {1}  # of what is read ahead


@pytest.mark.skipif(not simd.EMBEDS_BROADCASTS, reason="looks for multiply-adds that read a number for all lanes")
def test_every_third_row_is_read_within_its_multiply_adds(column_tiles: str) -> None:
    rows = len(range(1, simd.TILE_ROWS, tile.ROWS_TO_AN_EMBEDDED))
    block = max(loops_of(column_tiles, simd.TILE_ROWS), key=lambda block: block.count("vfmadd"))
    places = re.findall(r"\((\S+)\)\{1to16\}", block)
    assert len(places) == tile.STEPS_AT_ONCE * rows * simd.TILE_VECTORS
    assert not any("," in registers for registers in places)  # the processor would take it apart


def test_only_blocks_with_enough_multiply_adds_are_shown() -> None:
    text = "start\n.LBB0_1:\n vfmadd a\n.LBB0_2:\n vfmadd b\n vfmadd c\n"
    assert machine_code.loops(text, 2) == [".LBB0_2:\n vfmadd b\n vfmadd c\n"]
    assert len(machine_code.loops(text, 1)) == 2


@needs_fma
def test_the_command_prints_a_kernel() -> None:
    done = subprocess.run([sys.executable, "-m", "bench.machine_code", "update"], cwd=ROOT, check=True,
                          capture_output=True, text=True)
    assert "vsqrtps" in done.stdout or "rsqrt14" in done.stdout
    assert f"# {simd.INSTRUCTION_SET.name}: " in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="compiled objects are ELF on Linux")
def test_the_functions_of_a_compiled_object_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))  # what comes from a cache has no names
    compiled = updates.update.compiled(types.float32)
    symbols = {name: (place, size) for name, place, size in
               profile_step.functions_of(compiled._library._get_compiled_object())}
    place, size = symbols[compiled._wrapper_name]
    assert place >= 0
    assert size > 0


@pytest.mark.skipif(sys.platform != "linux", reason="compiled objects are ELF on Linux")
def test_a_profiled_process_compiles_all_kernels_itself_and_names_them(tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    # `write_map` is meant for a process of its own; what it changes is put back after the test.
    monkeypatch.setattr(linking.Kernel, "address", linking.Kernel.address)
    monkeypatch.setattr(compilation, "MOST_PROCESSES", compilation.MOST_PROCESSES)
    names = Path(f"/tmp/perf-{os.getpid()}.map")
    try:
        profile_step.write_map()
        compilation.compile_missing(linking.KERNELS, types.float32, lambda: None)
        assert all(kernel.is_missing(types.float32) for kernel in linking.KERNELS)
        address = transposes.transpose.address(types.float32)
        places = [line.split() for line in names.read_text(encoding="utf-8").splitlines()]
        assert ["transpose"] in [place[2:] for place in places if int(place[0], 16) == address]
    finally:
        names.unlink(missing_ok=True)
