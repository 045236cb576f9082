"""Teams of threads: joining, barriers, and members that never come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from naive import Array, in_threads
from numba import njit, types

from fastmlp.kernels import layout, team
from fastmlp.kernels.simd import pointer, shift

INTEGERS = types.Array(types.int64, 1, "C")


def new_team() -> Array:
    return layout.aligned_zeros(team.TEAM_SIZE, np.dtype(np.int64))


@njit(types.int64(INTEGERS, types.int64, types.int64), nogil=True)
def join(memory: Array, part: int, parts: int) -> Any:
    return team.join(pointer(memory), part, parts)


@njit(types.int64(INTEGERS, types.int64, types.int64, types.int64, INTEGERS), nogil=True)
def march(memory: Array, part: int, parts: int, rounds: int, places: Array) -> Any:
    """Join, then write one's round and read everybody's between barriers; return how often one was elsewhere."""
    found = team.join(pointer(memory), part, parts)
    if found != parts:
        return -1
    wrong = 0
    for number in range(1, rounds + 1):
        places[16 * part] = number
        team.barrier(pointer(memory), parts)
        for other in range(parts):
            wrong += team.atomic_load(shift(pointer(places), 16 * other)) != number
        team.barrier(pointer(memory), parts)
    return wrong


@njit(types.float64(INTEGERS, types.int64, types.int64, types.int64, types.Array(types.float64, 1, "C")), nogil=True)
def relax(memory: Array, part: int, parts: int, rounds: int, x: Array) -> Any:
    """Replace x by sums of neighbours, over and over, each member a share: every round needs the others' last one."""
    parts = team.join(pointer(memory), part, parts)
    if parts == 0:
        return 0.0
    if parts == 1:
        part = 0
    n = len(x) // 2
    for number in range(rounds):
        old, new = (0, n) if number % 2 == 0 else (n, 0)
        for i in range(n * part // parts, n * (part + 1) // parts):
            x[new + i] = 0.5 * (x[old + (i + 1) % n] + x[old + (i + n - 1) % n])
        team.barrier(pointer(memory), parts)
    return 1.0


def alone(memory: Array, part: int, parts: int) -> Any:
    """Join with no other member there."""
    return in_threads(lambda: join(memory, part, parts))[0]


def run_team(function: Any, parts: int, *arguments: Any) -> list[Any]:
    memory = new_team()
    return in_threads(*(lambda part=part: function(memory, part, parts, *arguments) for part in range(parts)))


# ---- a team of one


def test_one_member_joins_and_passes_barriers_without_touching_the_team() -> None:
    memory = np.full(team.TEAM_SIZE, 99)
    assert join(memory, 0, 1) == 1

    @njit(types.void(INTEGERS))
    def barrier(memory: Array) -> None:
        team.barrier(pointer(memory), 1)

    barrier(memory)
    assert (memory == 99).all()


# ---- several members


@pytest.mark.parametrize("parts", (2, 3))
def test_all_members_are_told_that_the_team_is_complete(parts: int) -> None:
    assert run_team(join, parts) == [parts] * parts


@pytest.mark.parametrize("parts", (2, 3))
def test_no_member_is_ever_a_round_ahead_or_behind(parts: int) -> None:
    rounds = 3000 if parts == 2 else 300  # with more members than processors each round waits for the system
    assert run_team(march, parts, rounds, np.zeros(16 * parts, np.int64)) == [0] * parts


def test_members_see_what_the_others_wrote_before_the_barrier() -> None:
    start = np.random.default_rng(0).normal(size=64)
    results = []
    for parts in (1, 2, 3):
        x = np.concatenate([start, np.zeros(64)])
        assert run_team(relax, parts, 1001, x) == [1.0] * parts
        results.append(x)
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


def test_a_member_that_comes_late_to_a_barrier_is_waited_for() -> None:
    @njit(types.void(INTEGERS), nogil=True)
    def barrier(memory: Array) -> None:
        team.barrier(pointer(memory), 2)

    memory = new_team()
    passed = threading.Event()

    def first() -> None:
        barrier(memory)
        passed.set()

    thread = threading.Thread(target=first, daemon=True)
    thread.start()
    assert not passed.wait(0.1)
    barrier(memory)
    assert passed.wait(10)
    thread.join()


# ---- members that never come, or too late


def test_a_team_whose_other_member_never_comes_is_given_up_and_part_0_works_alone() -> None:
    memory = new_team()
    began = time.perf_counter()
    assert alone(memory, 0, 2) == 1
    assert time.perf_counter() - began < 20
    assert alone(memory, 1, 2) == 0, "a member that comes after the team was given up has nothing to do"


def test_a_part_that_comes_first_and_alone_leaves_the_work_to_part_0() -> None:
    memory = new_team()
    assert alone(memory, 1, 2) == 0
    assert alone(memory, 0, 2) == 1


def test_of_three_members_two_do_not_make_a_team() -> None:
    memory = new_team()
    assert in_threads(lambda: join(memory, 0, 3), lambda: join(memory, 2, 3)) == [1, 0]
    assert alone(memory, 1, 3) == 0


def test_the_work_of_a_team_that_was_given_up_is_done_once_and_whole() -> None:
    """As when a threading layer runs the parts one after the other on one thread."""
    start = np.random.default_rng(1).normal(size=64)
    alone = np.concatenate([start, np.zeros(64)])
    relax(new_team(), 0, 1, 100, alone)
    for order in ((0, 1), (1, 0)):
        memory, x = new_team(), np.concatenate([start, np.zeros(64)])
        one_after_the_other = in_threads(
            lambda memory=memory, x=x, order=order: [relax(memory, part, 2, 100, x) for part in order])[0]
        assert sum(one_after_the_other) == 1.0
        np.testing.assert_array_equal(x, alone)


def test_however_late_a_member_comes_both_agree_on_whether_they_are_a_team() -> None:
    """Delays around the time after which a member stops waiting."""
    began = time.perf_counter()
    alone(new_team(), 0, 2)
    patience = time.perf_counter() - began
    outcomes = set()
    for share in (0.0, 0.9, 1.0, 1.1):
        memory = new_team()

        def late(memory: Array = memory, delay: float = share * patience) -> Any:
            time.sleep(delay)
            return join(memory, 1, 2)

        outcomes.add(tuple(in_threads(lambda memory=memory: join(memory, 0, 2), late)))
    assert outcomes <= {(2, 2), (1, 0)}
    assert (2, 2) in outcomes


BUSY = """
import os, subprocess, sys, time
import test_kernels_team as tests
memory = tests.new_team()
processor = sorted(os.sched_getaffinity(0))[-1]
os.sched_setaffinity(0, {processor})
busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
try:
    began = time.perf_counter()
    assert tests.join(memory, 0, 2) == 1
    print(time.perf_counter() - began)
finally:
    for process in busy:
        process.kill()
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs to choose a processor")
def test_a_team_is_given_up_in_bounded_time_on_a_processor_that_others_use() -> None:
    """A member that lets others run between its looks may come back only milliseconds later each time."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True, start_new_session=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
                          ) as process:
        try:
            output, _ = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail("the team was not given up within 20 seconds")
    assert process.returncode == 0
    assert float(output) < 10


# ---- memory


def test_the_counters_lie_on_cache_lines_of_their_own() -> None:
    places = sorted((team.ARRIVED, team.STATE, team.COUNTER, team.NEXT_CHUNK))
    assert all(b - a >= layout.ALIGNMENT // 8 for a, b in zip(places, [*places[1:], team.TEAM_SIZE], strict=True))
    assert new_team().ctypes.data % layout.ALIGNMENT == 0


def test_atomic_additions_of_threads_at_once_are_all_counted() -> None:
    @njit(types.void(INTEGERS, types.int64), nogil=True)
    def count(memory: Array, times: int) -> None:
        for _ in range(times):
            team.atomic_add(pointer(memory), 1)

    memory = np.zeros(1, np.int64)
    in_threads(lambda: count(memory, 200_000), lambda: count(memory, 200_000))
    assert memory[0] == 400_000
