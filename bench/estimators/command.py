"""``python -m bench estimators``: measure, then write the report."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from ..compare.command import QUICK_EFFORT, say
from ..compare.machine import describe_machine, describe_versions
from ..compare.options import BENCH
from ..compare.results import Comparison
from ..compare.timing import Effort
from ..compare.wording import ratio_text
from ..report import format_time
from .report import format_report
from .results import Results

REPORT = BENCH / "ESTIMATORS.md"
SEEDS, QUICK_SEEDS = 10, 2
FIT_EFFORT = Effort(repeats=5, seconds=0.2)
GRID_EFFORT = Effort(repeats=3, seconds=0.0)
QUICK_GRID_EFFORT = Effort(repeats=1, seconds=0.0)


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments ask for; return the exit code, which is 0 however the comparison comes out."""
    chosen = parse(arguments)
    if find_spec("sklearn") is None:
        print("This benchmark needs scikit-learn: pip install scikit-learn", file=sys.stderr)
        return 2
    report = format_report(measure(chosen))
    if chosen.output:
        chosen.output.write_text(report, encoding="utf-8")
    else:
        say("\n" + report)
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options.

    Raises
    ------
    SystemExit
        With code 2 if an option is wrong; with code 0 after --help.
    """
    parser = argparse.ArgumentParser(
        prog="python -m bench estimators",
        description="Measure fastmlp's MLPClassifier and MLPRegressor beside scikit-learn's, and write a report.")
    parser.add_argument("--quick", action="store_true",
                        help="a smoke run: short times; the report is printed unless --output is given")
    parser.add_argument("--data", metavar="FOLDER", type=Path,
                        help="folder with the four IDX files of MNIST, which is left out without them")
    parser.add_argument("--seeds", metavar="N", type=int,
                        help=f"number of seeds of the scores, 2 or more (default: {SEEDS}, with --quick {QUICK_SEEDS})")
    parser.add_argument("--output", metavar="FILE", type=Path, help=f"the report (default: bench/{REPORT.name})")
    options = parser.parse_args(arguments)

    if options.data is not None and not options.data.is_dir():
        parser.error(f"argument --data: there is no folder {options.data}")
    if options.seeds is None:
        options.seeds = QUICK_SEEDS if options.quick else SEEDS
    if options.seeds < 2:
        parser.error(f"argument --seeds: must be 2 or more, got {options.seeds}")
    if not options.quick:
        options.output = options.output or REPORT
    if options.output is not None and not options.output.absolute().parent.is_dir():
        parser.error(f"argument --output: there is no folder {options.output.parent}")
    return options


def command_line(options: argparse.Namespace) -> str:
    """Return the command that measures the same again, without the paths of this computer."""
    parts = ["python -m bench estimators"]
    parts += ["--quick"] * options.quick
    parts += ["--data FOLDER"] * (options.data is not None)
    parts += [f"--seeds {options.seeds}"] * (options.seeds != (QUICK_SEEDS if options.quick else SEEDS))
    return " ".join(parts)


def measure(chosen: argparse.Namespace) -> Results:
    """Measure fits, the grid search and scores."""
    from . import measuring, problems  # they need scikit-learn

    results = Results(datetime.date.today().isoformat(), command_line(chosen), chosen.quick, f"0 to {chosen.seeds - 1}",
                      describe_machine(), describe_versions(["sklearn"]))
    selected = problems.QUICK if chosen.quick else problems.SMALL
    if chosen.data is None:
        say("MNIST is left out without --data")
    else:
        selected += problems.QUICK_MNIST if chosen.quick else problems.MNIST

    say("\nfits")
    for problem in selected:
        effort = QUICK_EFFORT if chosen.quick else FIT_EFFORT
        results.fits.append(told(measuring.compare_fit(problem, problem.load(chosen.data), effort)))

    say("\ngrid search")
    grid, folds, effort = ((problems.QUICK_GRID, problems.QUICK_FOLDS, QUICK_GRID_EFFORT) if chosen.quick else
                           (problems.GRID, problems.GRID_FOLDS, GRID_EFFORT))
    digits = selected[0]
    results.grids.append(told(measuring.compare_grid(digits, digits.load(None), grid, folds, effort)))

    say("\nscores")
    for problem in selected:
        if problem.scored_epochs:
            split = problem.load(chosen.data)
            results.scores.append(measuring.compare_scores(problem, split, range(chosen.seeds)))
    return results


def told(comparison: Comparison) -> Comparison:
    """Print a line about a comparison; return it."""
    times = [f"{label} {format_time(comparison.seconds[side])}"
             for side, label in (("fastmlp", "fastmlp"), ("sklearn", "scikit-learn"))]
    say(f"  {comparison.name}, {comparison.description}: {', '.join(times)}, ratio {ratio_text(comparison.best_ratio)}")
    return comparison
