"""The report in Markdown, made from what was measured."""

from __future__ import annotations

from ..compare.results import Comparison
from ..compare.wording import ratio_text, table, target_text
from ..report import format_time
from .results import Results, Scores


def format_report(results: Results) -> str:
    """Return the report."""
    parts = [
        _introduction(results),
        ["## One fit", "",
         "A call of `fit` with the default settings. Neither side stops before the last epoch (`tol=0`).", "",
         *_times(results.fits)],
        ["## A grid search", "",
         "A call of `GridSearchCV.fit` whose processes run already. No training stops before the last epoch.", "",
         *_times(results.grids)],
        ["## Scores", "",
         "On test rows that training has not seen: mean and standard error over the seeds (`random_state`) "
         f"{results.seeds}. Every setting is the default, `tol` too. \"As good\" means above scikit-learn's mean, or "
         "less than one standard error of the difference below it.", "",
         *_scores(results.scores)],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _introduction(results: Results) -> list[str]:
    machine, versions = (", ".join(f"{name} {value}" for name, value in described.items())
                         for described in (results.machine, results.versions))
    lines = ["# fastmlp's MLPClassifier and MLPRegressor beside scikit-learn's", "",
             f"- Date: {results.date}",
             f"- Machine: {machine}",
             f"- Versions: {versions}",
             "", "To repeat it:", "", f"    {results.command}", "",
             "Times are medians; a ratio is scikit-learn's time divided by that of fastmlp: below 1, which is marked "
             "\"slower\", fastmlp is the slower one. How it is measured is in bench/README.md."]
    if results.quick:
        lines += ["", "This was a quick run, to see that everything works: its times are too short to be relied on."]
    return lines


def _times(cases: list[Comparison]) -> list[str]:
    rows = [[case.name, case.description, *(format_time(case.seconds[side]) for side in ("fastmlp", "sklearn")),
             ratio_text(case.best_ratio), target_text(case.best_ratio, case.target)] for case in cases]
    return table(["data", "work", "fastmlp", "scikit-learn", "ratio", "target"], rows)


def _scores(measured: list[Scores]) -> list[str]:
    rows = [[case.name, case.description,
             *(f"{case.mean(side):.4f} ± {case.standard_error(side):.4f}" for side in ("fastmlp", "sklearn")),
             "yes" if case.is_as_good else "no"] for case in measured]
    return table(["data", "what", "fastmlp", "scikit-learn", "as good"], rows)
