"""Print the machine code of a kernel, as this processor or another would run it.

    python -m bench.machine_code row_tile | less
    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx2,+fma,+avx,+sse2 python -m bench.machine_code row_tile
"""

from __future__ import annotations

import argparse
import inspect
import re

from numba import types

import fastmlp.kernels.epoch  # noqa: F401  (brings in all kernels)
from fastmlp.kernels import simd
from fastmlp.kernels.linking import KERNELS, Kernel

# A register written to the stack: in a hot loop there should be none.
SPILL = re.compile(r"vmov\w+\s+%[xyz]mm\d+, -?\d*\(%rsp\)")


def machine_code(kernel: Kernel, dtype: types.Float) -> str:
    """Compile a kernel, without the cache, and return its assembler text."""
    return str(kernel.compiled(dtype, cached=False)._library.get_asm_str())


def loops(text: str, least: int) -> list[str]:
    """Return the blocks of the text that hold at least `least` multiply-adds."""
    return [block for block in re.split(r"\n(?=\.LBB)", text) if block.count("vfmadd") >= least]


def main() -> None:
    names = {kernel.function.__name__: kernel for kernel in KERNELS}
    parser = argparse.ArgumentParser(description=inspect.getdoc(inspect.getmodule(main)),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel", choices=sorted(names))
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--loops", type=int, metavar="N", help="only the blocks with N fused multiply-adds or more")
    options = parser.parse_args()
    text = machine_code(names[options.kernel], getattr(types, options.dtype))
    shown = text if options.loops is None else "\n\n".join(loops(text, options.loops))
    print(shown)
    print(f"# {simd.INSTRUCTION_SET.name}: {shown.count('vfmadd')} multiply-adds, "
          f"{len(SPILL.findall(shown))} registers spilled")


if __name__ == "__main__":
    main()
