"""Training: the time of a step, beside the peers and on different numbers of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from fastmlp import get_num_threads, set_num_threads

from .cases import NEVER_SLOWER, SCALING_SHAPES, SCALING_TARGET, Case
from .peers import FastMLP, make_sides
from .results import Comparison, Scaling
from .timing import Effort, measure


def compare_training(case: Case, peers: Iterable[str], effort: Effort, epochs: int) -> Comparison:
    """Measure a training step of fastmlp and of the peers that can train the case, in calls of so many epochs."""
    sides = {name: partial(side.fit, epochs) for name, side in make_sides(case, peers).items()}
    seconds = measure(sides, effort)
    steps = epochs * case.steps_per_epoch
    return Comparison(case.name, case.description, {name: value / steps for name, value in seconds.items()},
                      case.flops_per_step, case.target)


def measure_scaling(case: Case, counts: Sequence[int], effort: Effort, epochs: int) -> Scaling:
    """Measure a training step of fastmlp on different numbers of threads, in calls of so many epochs."""
    X, y = case.data()
    before = get_num_threads()
    try:
        seconds = measure({threads: _fit_on(threads, FastMLP(case, X, y), epochs) for threads in counts}, effort)
    finally:
        set_num_threads(before)
    steps = epochs * case.steps_per_epoch
    target = SCALING_TARGET if case.name in SCALING_SHAPES else NEVER_SLOWER
    return Scaling(case.name, case.description, {threads: value / steps for threads, value in seconds.items()}, target)


def _fit_on(threads: int, side: FastMLP, epochs: int) -> Callable[[], None]:
    def fit() -> None:
        set_num_threads(threads)
        side.fit(epochs)

    return fit


def thread_counts(available: int) -> list[int]:
    """Return 1, 2, 4, 8 ... and, at the end, all threads there are."""
    counts = [1]
    while 2 * counts[-1] < available:
        counts.append(2 * counts[-1])
    return counts + [available] * (available > 1)
