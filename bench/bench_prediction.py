"""Prediction: `MLP.predict_proba` beside the baseline's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bench.baseline import NumpyMLP
from fastmlp import MLP


@pytest.mark.parametrize("rows", [pytest.param(1, marks=pytest.mark.quick), 64,
                                  pytest.param(1000, marks=pytest.mark.quick), 10_000])
@pytest.mark.parametrize("sizes", [(64, 32, 10), (784, 128, 10), (784, 256, 128, 10)],
                         ids=lambda sizes: "-".join(map(str, sizes)))
def bench_predict_proba(compare: Callable[..., None], sizes: tuple[int, ...], rows: int) -> None:
    X = np.random.default_rng(0).standard_normal((rows, sizes[0])).astype("float32")
    model, reference = MLP(list(sizes)), NumpyMLP(list(sizes))
    reference.parameters = model.get_weights()
    compare(
        "predict_proba",
        f"{'-'.join(map(str, sizes))}, {rows} row{'s' * (rows > 1)}",
        fastmlp=lambda: model.predict_proba(X),
        numpy=lambda: reference.predict_proba(X),
    )
