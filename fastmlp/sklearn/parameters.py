"""Errors of parameters, as scikit-learn raises them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sklearn.utils._param_validation import InvalidParameterError


@contextlib.contextmanager
def checks_parameters() -> Iterator[None]:
    """Raise errors of our checks as scikit-learn's kind, which is both a ValueError and a TypeError."""
    try:
        yield
    except (TypeError, ValueError) as problem:
        raise InvalidParameterError(str(problem)) from problem
