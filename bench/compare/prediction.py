"""Prediction from Python: one call of `predict_proba` on a NumPy array, beside the peers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np

from .cases import Case, PredictionCase, network_name
from .peers import make_sides
from .results import Comparison
from .timing import Effort, measure

SKLEARN_ROWS = (1, 10_000)  # the ends of the range are enough for the slowest


def compare_prediction(case: PredictionCase, peers: Iterable[str], effort: Effort) -> Comparison:
    """Measure a prediction of fastmlp and of the peers."""
    chosen = [name for name in peers if name != "sklearn" or case.rows in SKLEARN_ROWS]
    sides = make_sides(Case("", case.sizes, batch_size=100, samples=1_000), chosen)
    X = np.random.default_rng(1).standard_normal((case.rows, case.sizes[0]), np.float32)
    for side in sides.values():
        side.fit(1)  # scikit-learn predicts only then
    seconds = measure({name: partial(side.predict, X) for name, side in sides.items()}, effort)
    return Comparison(network_name(case.sizes), f"{case.rows:,} row{'s' * (case.rows > 1)}", seconds,
                      target=case.target, target_seconds=case.target_seconds)
