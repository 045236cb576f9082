"""One thread or all of them: what earlier calls of a kind have shown to be faster."""

from __future__ import annotations

import functools
import math
import time
from typing import Any

import numpy as np

from .kernels.linking import kernel_table
from .kernels.simd import TILE_ROWS, TILE_VECTORS, lanes_of
from .kernels.tile import column_tile

SLICE_SECONDS = 0.1  # compiled calls are cut to about this length, for progress and Ctrl-C
TRIAL_SECONDS = 0.01  # length of the first slice, and of those that try another number of threads
SECONDS_BETWEEN_TRIALS = (0.03, 0.5)  # at first, and at most


@functools.cache
def tile_speed(dtype: np.dtype[Any]) -> float:
    """Multiply-adds a second of one core in the micro-kernel, measured."""
    width = TILE_VECTORS * lanes_of(dtype.itemsize)
    steps, tiles = 256, 32  # one call of tens of microseconds: that of a single tile is mostly Python
    rows = TILE_ROWS * tiles
    a, b, c = (np.ones(count, dtype) for count in (steps * rows, steps * width, rows * width))
    kernels = kernel_table(dtype)
    best = math.inf
    for _ in range(50):
        began = time.perf_counter()
        column_tile(kernels, TILE_ROWS, TILE_VECTORS, tiles, steps, a, rows, b, c, 0, 0, 0)
        best = min(best, time.perf_counter() - began)
    return rows * width * steps / best


class ThreadChoice:
    """Chooses between one thread and all of them for calls of a kind, from how long they take.

    On a machine of our own, a step above `LEAST_PARALLEL_WORK` gains by more threads. Where other programs want the
    same processors it may lose by them, a thousandfold if the step is short: a thread that waits at a barrier waits
    for one that is not running. And some pairs of cores are so far apart that small steps lose by it. So when a
    call on all threads is slower than what one core does in the micro-kernel, the next one is run on one thread,
    and the faster way is kept. All threads are tried again soon (another library's threads go on spinning for some
    hundredths of a second after their work), and less and less often where they stay slower. Results do not depend on
    the number of threads.

    Parameters
    ----------
    dtype : of the network
    work : int
        Multiply-adds of a step, or of a prediction.
    many : int
        Number of threads to choose from.
    """

    def __init__(self, dtype: np.dtype[Any], work: int, many: int) -> None:
        self.work = work
        self.many = many
        self.threads = self.many
        self._suspect = 0.9 * tile_speed(dtype) if self.many > 1 else 0.0
        self._speeds: dict[int, float] = {}
        self._steps, self._seconds = 0, 0.0  # of calls since the last judgement
        self._since_trial = 0.0
        self._wait = SECONDS_BETWEEN_TRIALS[0]  # on one thread, until all of them are tried again
        self._trial: int | None = None

    def suits(self, work: int, many: int) -> bool:
        """Whether this choice was made for calls like those, and the number of threads is still the same."""
        return self.work == work and self.many == many

    def next(self) -> tuple[int, float]:
        """Return the number of threads of the next call and the seconds it may take."""
        if self._trial is not None:
            return self._trial, TRIAL_SECONDS
        if self.threads != self.many:
            return self.threads, min(SLICE_SECONDS, max(self._wait - self._since_trial, TRIAL_SECONDS))
        return self.threads, SLICE_SECONDS if self._speeds else TRIAL_SECONDS

    def report(self, threads: int, steps: int, seconds: float) -> None:
        """Tell how long a call of `steps` steps, or predictions, took."""
        # Calls that are shorter than a trial are judged together: a thread that slept is slow to begin.
        self._steps, self._seconds = self._steps + steps, self._seconds + seconds
        if self._seconds < 0.5 * TRIAL_SECONDS:
            return
        steps, seconds, self._steps, self._seconds = self._steps, self._seconds, 0, 0.0
        self._speeds[threads] = steps * self.work / seconds
        self._since_trial += seconds
        if self._trial is not None:
            self._trial, self._since_trial = None, 0.0
            self.threads = max(self._speeds, key=lambda number: self._speeds[number])
            if threads == self.many:  # the longer they have been slower, the less often they are tried
                shortest, longest = SECONDS_BETWEEN_TRIALS
                self._wait = shortest if self.threads == self.many else min(2.0 * self._wait, longest)
        elif self.threads != self.many:
            if self._since_trial >= self._wait:
                self._trial = self.many
        elif self._speeds[self.many] < self._speeds.get(1, 0.0):
            self.threads, self._since_trial = 1, 0.0
        elif self._speeds[self.many] < self._suspect and (
                1 not in self._speeds or self._since_trial > SECONDS_BETWEEN_TRIALS[1]):
            self._trial = 1
