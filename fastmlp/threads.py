"""How many threads compiled calls use, and what the threading layer below them allows."""

from __future__ import annotations

from .kernels.threading_layer import team_of, threading_layer

__all__ = ["available_threads", "get_num_threads", "set_num_threads", "team_of", "threading_layer"]

_chosen: int | None = None


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
    return _chosen if _chosen is not None else available_threads()
