"""Time and score the estimators of both libraries, which have the same names and parameters."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import sklearn.neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, ParameterGrid

import fastmlp.sklearn

from ..compare.command import say
from ..compare.mnist import Split
from ..compare.results import Comparison
from ..compare.timing import Effort, measure
from .problems import GRID_TARGET, Problem
from .results import Scores

SIDES: dict[str, Any] = {"fastmlp": fastmlp.sklearn, "sklearn": sklearn.neural_network}
GRID_JOBS = 2


def estimator_of(side: str, problem: Problem, epochs: int, **settings: Any) -> Any:
    """Return one side's estimator for a problem, new."""
    kind = getattr(SIDES[side], problem.estimator)
    return kind(hidden_layer_sizes=problem.hidden, max_iter=epochs, **settings)


def timed_estimator(side: str, problem: Problem) -> Any:
    """Return an estimator that trains for all epochs, whatever becomes of the loss."""
    epochs = problem.timed_epochs
    return estimator_of(side, problem, epochs, tol=0.0, n_iter_no_change=epochs, random_state=0)


@contextmanager
def unconverged() -> Iterator[None]:
    """Let training end before it has converged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def compare_fit(problem: Problem, split: Split, effort: Effort) -> Comparison:
    """Measure calls of `fit`."""
    def fit(side: str) -> None:
        timed_estimator(side, problem).fit(split.X, split.y)

    with unconverged():
        seconds = measure({side: partial(fit, side) for side in SIDES}, effort)
    description = f"{problem.network(split)}, {problem.dtype}, {len(split.X):,} rows, {problem.timed_epochs} epochs"
    return Comparison(problem.name, description, seconds, target=problem.target)


def compare_grid(problem: Problem, split: Split, grid: Mapping[str, list[Any]], folds: int,
                 effort: Effort) -> Comparison:
    """Measure grid searches; their processes are started before the time is taken."""
    def search(side: str) -> None:
        GridSearchCV(timed_estimator(side, problem), grid, n_jobs=GRID_JOBS, cv=folds).fit(split.X, split.y)

    with unconverged():
        seconds = measure({side: partial(search, side) for side in SIDES}, effort)
    description = (f"{len(ParameterGrid(grid))} settings, {folds} folds, {GRID_JOBS} processes, {len(split.X):,} rows, "
                   f"{problem.timed_epochs} epochs")
    return Comparison(problem.name, description, seconds, target=GRID_TARGET)


def compare_scores(problem: Problem, split: Split, seeds: Iterable[int]) -> Scores:
    """Fit with each seed, and score on the test rows."""
    scores: dict[str, list[float]] = {side: [] for side in SIDES}
    with unconverged():
        for seed in seeds:
            for side in SIDES:
                estimator = estimator_of(side, problem, problem.scored_epochs, random_state=seed)
                estimator.fit(split.X, split.y)
                scores[side].append(float(estimator.score(split.X_test, split.y_test)))
            say(f"  {problem.name}, seed {seed}: fastmlp {scores['fastmlp'][-1]:.4f}, "
                f"scikit-learn {scores['sklearn'][-1]:.4f}")
    description = f"{problem.score}, {problem.network(split)}, at most {problem.scored_epochs} epochs"
    return Scores(problem.name, description, scores)
