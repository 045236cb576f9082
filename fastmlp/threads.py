"""How many threads compiled calls use, and what the threading layer below them allows."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_chosen: int | None = None
_forked_after_start = False
_one_at_a_time = threading.RLock()


def _after_fork_in_child() -> None:
    global _forked_after_start, _one_at_a_time
    # Whether Numba's threads had been started, by whomever; this is the flag that Numba itself goes by.
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    _forked_after_start = _forked_after_start or bool(getattr(parallel, "_is_initialized", False))
    _one_at_a_time = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


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


def threading_layer() -> str:
    """Name of Numba's threading layer: "omp", "tbb" or "workqueue"; starts it."""
    import numba

    numba.get_num_threads()  # starts the threads
    return str(numba.threading_layer())


@contextlib.contextmanager
def team_of(threads: int) -> Iterator[int]:
    """Run the body with Numba set to `threads` threads; yield the number that may really be used.

    Numba's workqueue layer ends the process when two threads enter it at once, so calls take turns there. A child
    made by fork after OpenMP has started would be ended or hang: it works on one thread.
    """
    if threads == 1 or _forked_after_start:
        yield 1
        return
    import numba

    layer = threading_layer()
    before = numba.get_num_threads()
    with _one_at_a_time if layer == "workqueue" else contextlib.nullcontext():
        numba.set_num_threads(threads)
        try:
            yield threads
        finally:
            numba.set_num_threads(before)
