"""``python -m bench``: run the benchmarks and print a table of fastmlp's and NumPy's times.

``python -m bench compare``, ``... estimators`` and ``... options`` are commands of their own, in
`bench.compare`, `bench.estimators` and `bench.options`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from .report import format_report

QUICK = ["-m", "quick", "--benchmark-max-time=0.02"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; return the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["compare"]:
        from .compare import command

        return command.main(given[1:])
    if given[:1] == ["options"]:
        from . import options as options_command

        return options_command.main(given[1:])
    if given[:1] == ["estimators"]:
        from .estimators import command as estimators

        return estimators.main(given[1:])
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Benchmark fastmlp against plain NumPy.",
        epilog="python -m bench compare measures it beside other libraries, python -m bench estimators its estimators "
               "beside scikit-learn's, python -m bench options what its options cost; each has a --help of its own.")
    parser.add_argument("--quick", action="store_true", help="a smoke run: fewer shapes, short times")
    parser.add_argument("-k", metavar="PATTERN", dest="pattern", help="run only what matches, as with pytest's -k")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write pytest-benchmark's JSON to FILE")
    options = parser.parse_args(given)
    if options.json and not options.json.absolute().parent.is_dir():
        parser.error(f"--json: there is no folder {options.json.parent}")
    if find_spec("pytest_benchmark") is None:
        print("The benchmarks need pytest-benchmark: pip install pytest-benchmark", file=sys.stderr)
        return 2
    return run(options.quick, options.pattern, options.json)


def run(quick: bool, pattern: str | None, json_file: Path | None) -> int:
    """Run the benchmarks and print the table.

    Parameters
    ----------
    quick : bool
        Whether to run few cases, and for a short time each.
    pattern : str or None
        Which benchmarks to run, as pytest's -k; None for all.
    json_file : Path or None
        Where to keep pytest-benchmark's JSON.

    Returns
    -------
    int
        pytest's exit code: not 0 if a benchmark failed, or none was found.
    """
    import pytest

    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "benchmarks.json")
        arguments = [str(Path(__file__).parent), "-q", "--benchmark-quiet", f"--benchmark-json={results}"]
        if quick:
            arguments += QUICK
        if pattern is not None:
            arguments += ["-k", pattern]
        code = int(pytest.main(arguments))
        if results.exists() and results.stat().st_size:
            print("\n" + format_report(json.loads(results.read_text(encoding="utf-8"))))
            if json_file:
                shutil.copyfile(results, json_file)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
