"""``python -m bench compare``: measure section by section, then write the report, the picture and the JSON file."""

from __future__ import annotations

import argparse
import datetime
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from fastmlp.datasets import load_mnist
from fastmlp.threads import available_threads

from ..report import format_time
from . import cases, options, picture, products
from .machine import describe_machine, describe_versions
from .mnist import measure_time_to_accuracy
from .peak import measure_peak
from .peers import PEERS
from .prediction import compare_prediction
from .report import format_report
from .results import Comparison, Products, Results
from .start import measure_start
from .timing import Effort
from .training import compare_training, measure_scaling, thread_counts
from .wording import ratio_text

TRAINING_EFFORT = Effort(repeats=5, seconds=0.2)
PREDICTION_EFFORT = Effort(repeats=7, seconds=0.05)
PRODUCT_EFFORT = Effort(repeats=7, seconds=0.02)
QUICK_EFFORT = Effort(repeats=3, seconds=0.01)
PEAK_REPEATS = 7
START_REPEATS = 5
QUICK_START_REPEATS = 1
QUICK_EPOCHS, QUICK_SEEDS = 2, (1,)


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments ask for; return the exit code, which is 0 however the comparison comes out."""
    chosen = options.parse(arguments)
    results = measure(chosen)
    if chosen.json:
        chosen.json.write_text(json.dumps(asdict(results), indent=1) + "\n", encoding="utf-8")
    link = draw_picture(results, chosen.picture, chosen.output)
    report = format_report(results, link)
    if chosen.output:
        chosen.output.write_text(report, encoding="utf-8")
    else:
        say("\n" + report)
    return 0


def say(text: str) -> None:
    """Print at once: a run takes long."""
    print(text, flush=True)


def draw_picture(results: Results, path: Path | None, report: Path | None) -> str | None:
    """Draw the picture if there is something to draw; return how the report should link to it."""
    if path is None or not results.headline or not results.peers:
        return None
    if find_spec("matplotlib") is None:
        say("matplotlib is not installed: the report comes without a picture")
        return None
    machine = f"{results.machine['processor']}, {results.machine['cores']} cores"
    picture.draw(results.headline, results.peers, machine, path)
    return None if report is None else Path(os.path.relpath(path, report.parent)).as_posix()


# ---- measuring


def measure(chosen: argparse.Namespace) -> Results:
    """Measure the sections that were chosen, with the peers that are installed."""
    peers = [name for name in chosen.peers if PEERS[name].is_installed()]
    missing = [PEERS[name].label for name in chosen.peers if name not in peers]
    for label in missing:
        say(f"{label} is not installed: left out")
    results = Results(
        datetime.date.today().isoformat(), options.command_line(chosen), chosen.quick, describe_machine(),
        describe_versions(peers), missing, {name: PEERS[name].label for name in peers})
    results.peak = measure_peak(available_threads(), PEAK_REPEATS)
    sections: dict[str, Callable[[argparse.Namespace, list[str], Results], None]] = {
        "training": measure_training, "prediction": measure_prediction, "products": measure_products,
        "threads": measure_threads, "start": start_section, "mnist": mnist_section}
    for name in chosen.sections:
        say(f"\n{name}")
        sections[name](chosen, peers, results)
    return results


def measure_training(chosen: argparse.Namespace, peers: list[str], results: Results) -> None:
    effort = QUICK_EFFORT if chosen.quick else TRAINING_EFFORT
    names = chosen.shapes or (cases.QUICK_TRAINING if chosen.quick else None)
    for group, measured in ((cases.HEADLINE, results.headline), (cases.FURTHER, results.further)):
        for case in group:
            if names is None or case.name in names:
                epochs = 1 if chosen.quick else case.epochs_per_call
                measured.append(told(compare_training(case, peers, effort, epochs), results))
    if results.peak is not None:  # the machine may have been busy the first time
        results.peak = results.peak.best_of(measure_peak(available_threads(), PEAK_REPEATS))


def measure_prediction(chosen: argparse.Namespace, peers: list[str], results: Results) -> None:
    effort = QUICK_EFFORT if chosen.quick else PREDICTION_EFFORT
    for case in cases.QUICK_PREDICTION if chosen.quick else cases.PREDICTION:
        results.prediction.append(told(compare_prediction(case, peers, effort), results))


def measure_products(chosen: argparse.Namespace, peers: list[str], results: Results) -> None:
    if find_spec("threadpoolctl") is None:
        say("threadpoolctl is not installed: NumPy cannot be held to a number of threads, and is left out")
        peers = [name for name in peers if name != "numpy"]
    effort = QUICK_EFFORT if chosen.quick else PRODUCT_EFFORT
    shapes = cases.QUICK_PRODUCTS if chosen.quick else cases.PRODUCT_SHAPES
    for form in products.FORMS:
        for threads in sorted({1, available_threads()}):
            say(f"{form}, {threads} thread{'s' * (threads > 1)}")
            results.products.append(Products(form, threads, [
                told(products.compare_product(form, shape, threads, peers, effort), results) for shape in shapes]))


def measure_threads(chosen: argparse.Namespace, peers: list[str], results: Results) -> None:
    effort = QUICK_EFFORT if chosen.quick else TRAINING_EFFORT
    names = chosen.shapes or (cases.QUICK_THREADS if chosen.quick else None)
    for case in cases.HEADLINE:
        if names is None or case.name in names:
            epochs = 1 if chosen.quick else case.epochs_per_call
            scaling = measure_scaling(case, thread_counts(available_threads()), effort, epochs)
            results.threads.append(scaling)
            times = ", ".join(f"{threads}: {format_time(seconds)}" for threads, seconds in scaling.seconds.items())
            say(f"  {case.name}, {case.description}: threads {times}")


def start_section(chosen: argparse.Namespace, peers: list[str], results: Results) -> None:
    results.start = measure_start(peers, QUICK_START_REPEATS if chosen.quick else START_REPEATS)
    say(f"  first fit {results.start.first_fit_warm_cache:.2f} s")


def mnist_section(chosen: argparse.Namespace, peers: list[str], results: Results) -> None:
    data = load_mnist(chosen.data)
    if chosen.quick:
        results.mnist = measure_time_to_accuracy(data, peers, epochs=QUICK_EPOCHS, seeds=QUICK_SEEDS)
    else:
        results.mnist = measure_time_to_accuracy(data, peers)
    for run in results.mnist.runs:
        say(f"  {run.side}, seed {run.seed}: {run.seconds} s, {run.final_accuracy:.2%} at the end")


def told(comparison: Comparison, results: Results) -> Comparison:
    """Print a line about a comparison; return it."""
    sides = [f"fastmlp {format_time(comparison.seconds['fastmlp'])}"]
    sides += [f"{results.peers[peer]} {ratio_text(comparison.ratio(peer))}" for peer in comparison.peers]
    say(f"  {comparison.name}, {comparison.description}: {', '.join(sides)}")
    return comparison
