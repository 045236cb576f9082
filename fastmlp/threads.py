"""How many threads compiled calls use, and what the threading layer below them allows."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from .kernels.threading_layer import team_of, threading_layer

__all__ = ["available_threads", "get_num_threads", "limited_to", "set_num_threads", "team_of", "threading_layer"]

_chosen: int | None = None
_limit = threading.local()


def available_threads() -> int:
    """Number of threads that may run at once: the processors this process may use, as Numba sees them."""
    from numba import config

    return int(config.NUMBA_NUM_THREADS)


def set_num_threads(threads: int) -> None:
    """Set how many threads training and prediction use; results do not depend on it.

    Parameters
    ----------
    threads : int
        From 1 to the number of processors this process may use (or the environment variable
        NUMBA_NUM_THREADS). Small pieces of work use fewer.

    Raises
    ------
    TypeError, ValueError
        If `threads` is not an integer, or out of that range.
    """
    from .validation import check_integer

    global _chosen
    _chosen = check_integer("threads", threads, low=1, high=available_threads())


def get_num_threads() -> int:
    """Return how many threads training and prediction use; all there are unless `set_num_threads` said otherwise."""
    chosen = _chosen if _chosen is not None else available_threads()
    return min(chosen, getattr(_limit, "threads", chosen))


@contextlib.contextmanager
def limited_to(threads: int) -> Iterator[None]:
    """Let the calls that this Python thread makes in the body use at most so many threads.

    Parameters
    ----------
    threads : int
        At least 1.
    """
    before = vars(_limit).copy()
    _limit.threads = threads
    try:
        yield
    finally:
        vars(_limit).clear()
        vars(_limit).update(before)
