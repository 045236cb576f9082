"""What was measured, as plain data; the report is made from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import mean, stdev

from ..compare.results import Comparison


@dataclass(frozen=True)
class Scores:
    """Scores on the test rows, one for each seed, by side."""

    name: str
    description: str
    scores: dict[str, list[float]]

    def mean(self, side: str) -> float:
        return mean(self.scores[side])

    def standard_error(self, side: str) -> float:
        """Return the standard error of the mean."""
        return stdev(self.scores[side]) / math.sqrt(len(self.scores[side]))

    @property
    def is_as_good(self) -> bool:
        """Whether fastmlp's mean is above scikit-learn's, or within one standard error of the difference below it."""
        error = math.hypot(self.standard_error("fastmlp"), self.standard_error("sklearn"))
        return self.mean("fastmlp") >= self.mean("sklearn") - error


@dataclass
class Results:
    """All that a run measured."""

    date: str
    command: str  # that measures the same again
    quick: bool  # too short for figures
    seeds: str  # of the scores
    machine: dict[str, str]
    versions: dict[str, str]
    fits: list[Comparison] = field(default_factory=list)
    grids: list[Comparison] = field(default_factory=list)
    scores: list[Scores] = field(default_factory=list)
