"""What Numba's threading layer allows: who may enter a parallel region, and with how many threads."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from numba import types

# Multiply-adds of a step among many below which it runs on one thread: waiting for the others costs more.
LEAST_PARALLEL_WORK = 400_000

CALL_TO_STEP = 4  # the same for a call on its own, for which the others have to be woken, is so many times as much

# For compiled programs: how many threads the next parallel region of the calling thread will have. Numba's functions
# of these names call the same two, but take locks between processes first, or keep a program from being cached.
get_threads = types.ExternalFunction("get_num_threads", types.int32())
set_threads = types.ExternalFunction("set_num_threads", types.void(types.int32))

_layer: str | None = None  # once it has been started
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


def threading_layer() -> str:
    """Name of Numba's threading layer: "omp", "tbb" or "workqueue"; starts it."""
    import numba

    numba.get_num_threads()  # starts the threads
    return str(numba.threading_layer())


def team_of(threads: int) -> contextlib.AbstractContextManager[int]:
    """Let the body enter a parallel region; it is given the number of threads that it may really use.

    Numba's workqueue layer ends the process when two threads enter it at once, so calls take turns there. A child
    made by fork after OpenMP has started would be ended or hang: it works on one thread.
    """
    global _layer
    if threads == 1 or _forked_after_start:
        return contextlib.nullcontext(1)
    if _layer is None:
        _layer = threading_layer()
    return _in_turn(threads) if _layer == "workqueue" else contextlib.nullcontext(threads)


@contextlib.contextmanager
def _in_turn(threads: int) -> Iterator[int]:
    with _one_at_a_time:
        yield threads
