"""The report in Markdown, made from what was measured."""

from __future__ import annotations

from collections.abc import Iterable

from ..report import format_time
from .cases import HEADLINE, HEADLINE_MEAN_TARGET, NEVER_SLOWER, PRODUCT_LEAST, PRODUCT_MEAN_TARGET
from .products import FORMS
from .results import AccuracyRun, Comparison, Products, Results, Scaling, Start, TimeToAccuracy, mean_ratio
from .wording import (
    MISSING,
    digits,
    gigaflops,
    megabytes,
    ratio_text,
    share,
    table,
    target_text,
    time_target_text,
    verdict,
)


def format_report(results: Results, picture: str | None = None) -> str:
    """Return the report.

    Parameters
    ----------
    results : Results
    picture : str, optional
        Address of the picture, as the report should link to it.
    """
    parts = [_introduction(results)]
    if picture:
        parts.append([f"![Training speed of fastmlp relative to its peers]({picture})"])
    if results.headline:
        parts.append(_headline(results))
    if results.further:
        parts.append(["## Training: more shapes", "", *_training_table(results, results.further)])
    if results.prediction:
        parts.append(_prediction(results))
    if results.products:
        parts.append(_products(results))
    if results.threads:
        parts.append(_threads(results.threads))
    if results.start:
        parts.append(_start(results, results.start))
    if results.mnist:
        parts.append(_mnist(results, results.mnist))
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _introduction(results: Results) -> list[str]:
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    lines = ["# fastmlp beside its peers", "",
             f"- Date: {results.date}",
             f"- Machine: {machine}"]
    if results.peak:
        lines.append(f"- Peak of fused multiply-adds in float32: {gigaflops(results.peak.one)} GF/s on one core, "
                     f"{gigaflops(results.peak.all)} GF/s on all")
    lines.append(f"- Versions: {versions}")
    lines.append(f"- Peers: {', '.join(results.peers.values()) or 'none'}")
    lines += [f"- {name}: not installed" for name in results.missing]
    lines += ["", "To repeat it:", "", f"    {results.command}", "",
              "All in float32. Times are medians; a ratio is the peer's time divided by that of fastmlp: below 1, "
              "which is marked \"slower\", fastmlp is the slower one. Targets are for the ratio to the fastest of all "
              "peers. How to read the sections is in bench/README.md."]
    if results.quick:
        lines += ["", "This was a quick run, to see that everything works: its times are too short to be relied on."]
    return lines


# ---- comparisons with peers


def _labels(results: Results, comparisons: Iterable[Comparison]) -> dict[str, str]:
    """Return name and label of the peers that occur in some comparisons."""
    measured = {peer for case in comparisons for peer in case.peers}
    return {name: label for name, label in results.peers.items() if name in measured}


def _best(case: Comparison, labels: dict[str, str]) -> str:
    return MISSING if case.best_peer is None else f"{labels[case.best_peer]} {ratio_text(case.best_ratio)}"


def _headline(results: Results) -> list[str]:
    lines = ["## Training", "",
             "Adam, shuffled mini-batches, all cores: the time of one step, and the ratio of each peer.", "",
             *_training_table(results, results.headline)]
    if len(results.headline) == len(HEADLINE):  # the target is for all of them
        lines += ["", "Geometric mean of the ratios to the best peer of each network: "
                  f"{target_text(mean_ratio(results.headline), HEADLINE_MEAN_TARGET)}."]
    return lines


def _training_table(results: Results, cases: list[Comparison]) -> list[str]:
    labels = _labels(results, cases)
    peak = results.peak.all if results.peak else None
    targets = any(case.target for case in cases)
    header = ["name", "network", "fastmlp", "GF/s", "of the peak", *labels.values(), "best peer"]
    rows = []
    for case in cases:
        cells = [case.name, case.description, format_time(case.seconds["fastmlp"]), gigaflops(case.flops_per_second),
                 share(case.flops_per_second, peak), *(ratio_text(case.ratio(peer)) for peer in labels),
                 _best(case, labels)]
        rows.append(cells + [target_text(case.best_ratio, case.target)] * targets)
    means = [ratio_text(mean_ratio(cases, peer)) for peer in labels]
    rows.append(["geometric mean", "", "", "", "", *means, ratio_text(mean_ratio(cases)), *[""] * targets])
    return table(header + ["target"] * targets, rows)


def _prediction(results: Results) -> list[str]:
    labels = _labels(results, results.prediction)
    rows = []
    for case in results.prediction:
        target = (time_target_text(case.seconds["fastmlp"], case.target_seconds) if case.target_seconds is not None else
                  target_text(case.best_ratio, case.target))
        rows.append([case.name, case.description, format_time(case.seconds["fastmlp"]),
                     *(ratio_text(case.ratio(peer)) for peer in labels), _best(case, labels), target])
    return ["## Prediction", "", "One call of `predict_proba` from Python, NumPy array to NumPy array.", "",
            *table(["network", "rows", "fastmlp", *labels.values(), "best peer", "target"], rows)]


# ---- matrix products


def _products(results: Results) -> list[str]:
    lines = ["## Matrix products", "",
             "Rows of a batch x inputs x units of a layer. " +
             " ".join(f"{form.capitalize()}: {formula}." for form, formula in FORMS.items()), "",
             *_product_summary(results.products)]
    under = [f"- {group.form}, {_threads_text(group.threads)}, {case.name}: {ratio_text(case.best_ratio)}"
             for group in results.products for case in group.comparisons if _is_under(case)]
    if under:
        lines += ["", f"Under {PRODUCT_LEAST:g} of the best peer:", "", *under]
    for group in results.products:
        lines += ["", f"### {group.form.capitalize()}, {_threads_text(group.threads)}", "",
                  *_product_table(results, group.comparisons)]
    return lines


def _product_summary(products: list[Products]) -> list[str]:
    rows = []
    for group in products:
        mean = target_text(mean_ratio(group.comparisons), PRODUCT_MEAN_TARGET)
        ratios = [case.best_ratio for case in group.comparisons if case.best_ratio is not None]
        least = target_text(min(ratios), PRODUCT_LEAST) if ratios else MISSING
        rows.append([group.form, str(group.threads), mean, least, str(sum(map(_is_under, group.comparisons)))])
    return table(["form", "threads", "geometric mean (best peer)", "least", f"shapes under {PRODUCT_LEAST:g}"], rows)


def _is_under(case: Comparison) -> bool:
    return case.best_ratio is not None and round(case.best_ratio, 2) < PRODUCT_LEAST


def _product_table(results: Results, cases: list[Comparison]) -> list[str]:
    labels = _labels(results, cases)
    rows = [[case.name, format_time(case.seconds["fastmlp"]), gigaflops(case.flops_per_second),
             *(ratio_text(case.ratio(peer)) for peer in labels), _best(case, labels)] for case in cases]
    return table(["rows x inputs x units", "fastmlp", "GF/s", *labels.values(), "best peer"], rows)


def _threads_text(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


# ---- fastmlp alone


def _threads(scalings: list[Scaling]) -> list[str]:
    counts = list(scalings[0].seconds)
    rows = [[case.name, case.description, *(format_time(case.seconds[threads]) for threads in counts),
             *([target_text(case.speed_up, case.target)] if len(counts) > 1 else [])] for case in scalings]
    header = ["name", "network", *map(_threads_text, counts), *(["all against one"] if len(counts) > 1 else [])]
    return ["## Threads", "",
            f"The time of a training step. {NEVER_SLOWER:g} stands for never slower, with allowance for noise.", "",
            *table(header, rows)]


def _start(results: Results, start: Start) -> list[str]:
    names = {"fastmlp": "fastmlp", **results.peers}
    lines = ["## Start", "", "In a fresh process.", "",
             *table(["imports", "seconds"],
                    [[names[side], f"{seconds:.2f}"] for side, seconds in start.imports.items()]), "",
             "Import and first training of a small network: "
             f"{start.first_fit_warm_cache:.2f} s; {start.first_fit_empty_cache:.2f} s where the kernels must be "
             "compiled first."]
    if start.memory is not None:
        memory = start.memory
        lines += ["", f"An epoch on as much data as MNIST takes {megabytes(memory.overhead)} over the imports "
                  f"({megabytes(memory.imports)}), the data ({megabytes(memory.data)}), the parameters and the "
                  f"optimizer's state ({megabytes(memory.parameters + memory.optimizer_state)}); "
                  f"{megabytes(memory.kernels)} of it for loading the compiled kernels."]
    return lines


def _mnist(results: Results, measured: TimeToAccuracy) -> list[str]:
    sides = list(dict.fromkeys(run.side for run in measured.runs))
    names = {"fastmlp": "fastmlp", **results.peers}
    runs = {(run.side, run.seed): run for run in measured.runs}
    seeds = list(dict.fromkeys(run.seed for run in measured.runs))
    rows = [[str(seed), *(_run_text(runs[side, seed]) for side in sides)] for seed in seeds]
    mine = measured.typical_seconds("fastmlp")
    lines = [f"## Time to {measured.goal:.1%} test accuracy", "", f"{measured.description}; training time only.", "",
             *table(["seed", *(names[side] for side in sides)], rows)]
    for side in sides[1:]:
        theirs = measured.typical_seconds(side)
        if mine is not None and theirs is not None:
            lines += ["", f"{names[side]} takes {digits(theirs / mine)} times as long (medians)."]
    return lines


def _run_text(run: AccuracyRun) -> str:
    time = verdict(False) if run.seconds is None else f"{run.seconds:.2f} s"
    return f"{time} ({run.final_accuracy:.2%} at the end)"
