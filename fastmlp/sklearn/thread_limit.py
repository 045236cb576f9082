"""A number of threads for the calls of one estimator."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from .. import threads

_lock = threading.Lock()
_users = 0  # estimators that work under a limit of their own
_before: int | None = None


@contextlib.contextmanager
def limited_threads(number: int | None) -> Iterator[None]:
    """Run the body with that number of threads, at most those there are; None leaves it as it is.

    Where several do so at once, the last to begin decides, and the last to end restores what was; results do not
    depend on it.
    """
    global _users, _before
    if number is None:
        yield
        return
    with _lock:
        if _users == 0:
            _before = threads._chosen
        _users += 1
        available = threads.available_threads()
        threads.set_num_threads(available if number == -1 else min(number, available))
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                threads._chosen = _before
