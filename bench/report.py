"""The table that ``python -m bench`` prints, made from pytest-benchmark's JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import geometric_mean
from typing import Any


@dataclass
class Case:
    """One line of the table: median seconds of each side, by name; a side that was not measured is missing."""

    operation: str
    shape: str
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """NumPy's time divided by fastmlp's; None if one of them is missing."""
        if self.seconds.keys() < {"fastmlp", "numpy"}:
            return None
        return self.seconds["numpy"] / self.seconds["fastmlp"]


def read_cases(results: dict[str, Any]) -> dict[str, list[Case]]:
    """Return the cases of each section, in the order they ran, from the content of a JSON file."""
    cases: dict[tuple[str, str, str], Case] = {}
    sections: dict[str, list[Case]] = {}
    for benchmark in results["benchmarks"]:
        info = benchmark["extra_info"]
        name = info["section"], info["operation"], info["shape"]
        if name not in cases:
            cases[name] = Case(info["operation"], info["shape"])
            sections.setdefault(info["section"], []).append(cases[name])
        cases[name].seconds[info["side"]] = benchmark["stats"]["median"] / info["steps"]
    return sections


def format_report(results: dict[str, Any]) -> str:
    """Return the table for the content of a JSON file, with a line about the machine above it."""
    sections = read_cases(results)
    cases = [case for section in sections.values() for case in section]
    widths = [max(len(text) for text in column) + 2
              for column in zip(*((case.operation, case.shape) for case in cases), strict=True)]

    def line(operation: str, shape: str, fastmlp: str, numpy: str, ratio: str) -> str:
        return f"  {operation:<{widths[0]}}{shape:<{widths[1]}}{fastmlp:>10}{numpy:>10}{ratio:>8}"

    lines = [format_machine(results["machine_info"])]
    for name, section in sections.items():
        lines += ["", name, line("operation", "shape", "fastmlp", "NumPy", "ratio")]
        for case in section:
            fastmlp, numpy = (format_time(case.seconds.get(side)) for side in ("fastmlp", "numpy"))
            lines.append(line(case.operation, case.shape, fastmlp, numpy, format_ratio(case.ratio)))
        ratios = [case.ratio for case in section if case.ratio is not None]
        lines.append(line("geometric mean", "", "", "", format_ratio(geometric_mean(ratios) if ratios else None)))
    return "\n".join(lines)


def format_machine(info: dict[str, Any]) -> str:
    """Return a line about the machine and the versions."""
    cpu = info["cpu"].get("brand_raw") or info["machine"]
    return (f"{cpu}, {info['cpu']['count']} cores, {info['threads']} threads; fastmlp {info['fastmlp']}, "
            f"numpy {info['numpy']} ({info['blas']}), numba {info['numba']}, Python {info['python_version']}")


def format_time(seconds: float | None) -> str:
    """Return a time with its unit, three digits or more; "-" for None."""
    if seconds is None:
        return "-"
    unit, size = ("s", 1.0) if seconds >= 1 else ("ms", 1e-3) if seconds >= 1e-3 else ("us", 1e-6)
    value = seconds / size
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"


def format_ratio(ratio: float | None) -> str:
    """Return a ratio with two decimals; "-" for None."""
    return "-" if ratio is None else f"{ratio:.2f}"
