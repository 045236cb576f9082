"""The options of ``python -m bench compare``, checked before anything is measured."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from .cases import FURTHER, HEADLINE
from .peers import PEERS

SECTIONS = ("training", "prediction", "products", "threads", "start", "mnist")
BENCH = Path(__file__).parents[1]
REPORT, PICTURE = "RESULTS.md", "results.svg"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options.

    Raises
    ------
    SystemExit
        With code 2 if an option is wrong; with code 0 after --help.
    """
    names = [case.name for case in HEADLINE + FURTHER]
    parser = argparse.ArgumentParser(
        prog="python -m bench compare",
        description="Measure fastmlp beside every peer that is installed, and write a report and a picture.")
    parser.add_argument("--quick", action="store_true",
                        help="a smoke run: few cases, short times; the report is printed unless --output is given")
    parser.add_argument("--sections", metavar="NAME,...", type=_names("sections", SECTIONS),
                        help=f"measure only these, of {', '.join(SECTIONS)} (default: all; mnist only with --data)")
    parser.add_argument("--shapes", metavar="NAME", nargs="+", choices=names,
                        help=f"train only these networks, of {', '.join(names)}")
    parser.add_argument("--peers", metavar="NAME,...", type=_names("peers", PEERS), default=list(PEERS),
                        help=f"compare only with these, of {', '.join(PEERS)}")
    parser.add_argument("--data", metavar="FOLDER", type=Path, help="folder with the four IDX files of MNIST")
    parser.add_argument("--output", metavar="FILE", type=Path, help=f"the report (default: bench/{REPORT})")
    parser.add_argument("--picture", metavar="FILE", type=Path,
                        help=f"the picture (default: {PICTURE} beside the report)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write what was measured as JSON")
    options = parser.parse_args(arguments)

    if options.sections is None:
        options.sections = [name for name in SECTIONS if name != "mnist" or options.data]
    if "mnist" in options.sections and options.data is None:
        parser.error("argument --sections: mnist needs --data")
    if options.data is not None and not options.data.is_dir():
        parser.error(f"argument --data: there is no folder {options.data}")
    if not options.quick:
        options.output = options.output or BENCH / REPORT
        options.picture = options.picture or options.output.with_name(PICTURE)
    for name in ("output", "picture", "json"):
        path = getattr(options, name)
        if path is not None and not path.absolute().parent.is_dir():
            parser.error(f"argument --{name}: there is no folder {path.parent}")
    return options


def _names(option: str, allowed: Iterable[str]) -> Callable[[str], list[str]]:
    """Make the type of an option that takes names separated by commas; they come in the order of `allowed`."""
    allowed = list(allowed)

    def convert(text: str) -> list[str]:
        given = text.split(",")
        for name in given:
            if name not in allowed:
                raise argparse.ArgumentTypeError(f"{option} must be of {', '.join(allowed)}, got {name!r}")
        return [name for name in allowed if name in given]

    return convert


def command_line(options: argparse.Namespace) -> str:
    """Return the command that measures the same again, without the paths of this computer."""
    parts = ["python -m bench compare"]
    parts += ["--quick"] * options.quick
    if options.sections != [name for name in SECTIONS if name != "mnist" or options.data]:
        parts.append(f"--sections {','.join(options.sections)}")
    if options.shapes:
        parts.append(f"--shapes {' '.join(options.shapes)}")
    if options.peers != list(PEERS):
        parts.append(f"--peers {','.join(options.peers)}")
    parts += ["--data FOLDER"] * ("mnist" in options.sections)
    return " ".join(parts)
