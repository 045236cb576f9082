"""How numbers are written in the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..report import format_time

MISSING = "-"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table; the first column is to the left, the others to the right."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    return ["| " + " | ".join(cells) + " |" for cells in (header, marks, *rows)]


def digits(value: float) -> str:
    """Return a number with two decimals below 10, else with one."""
    return f"{value:.{2 if value < 9.995 else 1}f}"


def ratio_text(ratio: float | None) -> str:
    """Return a ratio, and say so if fastmlp is the slower one."""
    if ratio is None:
        return MISSING
    return digits(ratio) + " (slower)" * (round(ratio, 2) < 1)


def target_text(ratio: float | None, target: float | None) -> str:
    """Return what was reached of what: "3.10 of 3: reached"."""
    if ratio is None or target is None:
        return MISSING
    return f"{digits(ratio)} of {target:g}: {verdict(round(ratio, 2) >= target)}"


def time_target_text(seconds: float, target: float) -> str:
    """Return what was reached of an upper bound: "3.20 us of at most 4 us: reached"."""
    bound = f"{target * 1e6:g} us"
    return f"{format_time(seconds)} of at most {bound}: {verdict(seconds <= target)}"


def verdict(reached: bool) -> str:
    return "reached" if reached else "not reached"


def gigaflops(flops_per_second: float | None) -> str:
    """Return a speed in GF/s."""
    return MISSING if flops_per_second is None else f"{flops_per_second / 1e9:.1f}"


def share(part: float | None, whole: float | None) -> str:
    """Return a part in per cent of a whole."""
    return MISSING if part is None or whole is None else f"{part / whole:.0%}"


def megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
