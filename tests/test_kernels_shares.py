"""Shares of a phase: every item is done once, whoever comes, and a member that is done helps the others."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import Array, in_threads
from numba import njit, types

from fastmlp.kernels import layout, shares
from fastmlp.kernels.shares import BACKWARD, FORWARD, LEAST_SHARED_WORK, LEAST_TAKEN_WORK, MOST_HELPED, UPDATE
from fastmlp.kernels.simd import int64_pointer, pointer
from fastmlp.kernels.team import barrier

INTEGERS = types.Array(types.int64, 1, "C")
GUARD = 64  # numbers behind the memory of a team
HEAVY = 1 << 40  # multiply-adds, so that every item is worth taking on its own


@njit(types.UniTuple(types.int64, 3)(INTEGERS, *[types.int64] * 8), nogil=True)
def take(context: Array, kind: int, layer: int, items: int, together: int, work: int, part: int, parts: int,
         helped: int) -> Any:
    return shares.take_items(pointer(context), kind, layer, items, together, work, part, parts, helped)


@njit(types.void(INTEGERS, types.int64, types.int64), nogil=True)
def give_back(context: Array, part: int, parts: int) -> None:
    shares.give_back_shares(pointer(context), part, parts)


@njit(types.void(INTEGERS, types.int64, types.int64, types.int64, types.int64, INTEGERS), nogil=True)
def race(context: Array, part: int, parts: int, rounds: int, items: int, done: Array) -> None:
    """Go through a phase over and over as a member of a team; count in `done` how often it did each item."""
    team = int64_pointer(context[layout.TEAM])
    for _ in range(rounds):
        shares.give_back_shares(pointer(context), part, parts)
        barrier(team, parts)
        helped = 0
        while True:
            first, last, helped = shares.take_items(pointer(context), UPDATE, 0, items, 1, HEAVY, part, parts, helped)
            if first == last:
                break
            for item in range(first, last):
                done[item] += 1
        barrier(team, parts)


class Team:
    """The memory of a team, and what its members take."""

    def __init__(self, parts: int, layers: int = 3) -> None:
        self.parts = parts
        size = shares.team_memory_size(layers, parts)
        memory = layout.aligned_zeros(size + GUARD, np.dtype(np.int64))
        self.memory, self.behind = memory[:size], memory[size:]
        self.context = np.zeros(layout.CONTEXT_FIELDS, np.int64)
        self.context[layout.TEAM], self.context[layout.DEPTH] = self.memory.ctypes.data, layers

    def ranges(self, part: int, items: int, kind: int = FORWARD, layer: int = 0, together: int = 1,
               work: int = HEAVY) -> list[tuple[int, int]]:
        """All ranges that a member takes, one after the other, with nobody else at work."""
        found, helped = [], 0
        while True:
            first, last, helped = take(self.context, kind, layer, items, together, work, part, self.parts, helped)
            if first == last:
                return found
            found.append((first, last))

    def give_back(self) -> None:
        for part in range(self.parts):
            give_back(self.context, part, self.parts)


def items_of(ranges: list[tuple[int, int]]) -> list[int]:
    return [item for first, last in ranges for item in range(first, last)]


@given(st.integers(2, 1 + MOST_HELPED), st.integers(1, 300), st.integers(1, 9), st.integers(LEAST_SHARED_WORK, HEAVY))
@settings(deadline=None)
def test_one_member_does_the_work_of_all_that_do_not_come(parts: int, items: int, together: int, work: int) -> None:
    team = Team(parts)
    late = parts - 1
    assert sorted(items_of(team.ranges(late, items, together=together, work=work))) == list(range(items))
    for part in range(parts):
        assert team.ranges(part, items, together=together, work=work) == []


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_threads_do_every_item_once(parts: int) -> None:
    team, items, rounds = Team(parts), 31, 2000 if parts == 2 else 50
    done = np.zeros((parts, items), np.int64)
    in_threads(*(functools.partial(race, team.context, part, parts, rounds, items, done[part])
                 for part in range(parts)))
    np.testing.assert_array_equal(done.sum(0), rounds)


def test_a_member_begins_with_its_own_share_and_halves_what_it_takes() -> None:
    team = Team(2)
    begun = [take(team.context, FORWARD, 0, 64, 1, HEAVY, part, 2, 0) for part in (0, 1)]
    assert begun == [(0, 16, 0), (32, 48, 0)]
    assert take(team.context, FORWARD, 0, 64, 1, HEAVY, 0, 2, 0) == (16, 24, 0)
    assert team.ranges(0, 64)[-1][1] == 64  # and then helps the other


def test_little_is_not_cut_up() -> None:
    assert Team(2).ranges(0, 10, work=LEAST_SHARED_WORK - 1) == [(0, 10)]
    assert Team(2).ranges(1, 10, work=LEAST_SHARED_WORK - 1) == []
    assert Team(2).ranges(0, 10, work=LEAST_SHARED_WORK) == [(0, 5), (5, 10)]
    for first, last in Team(2).ranges(0, 1000, work=16 * LEAST_TAKEN_WORK)[:-1]:
        assert (last - first) * 16 >= 1000 or last in (500, 1000)


@pytest.mark.parametrize("part", [0, 1])
def test_items_that_belong_together_are_not_parted(part: int) -> None:
    for first, last in Team(2).ranges(part, 70, together=7):
        assert (first % 7 == 0 or first == 35) and (last % 7 == 0 or last == 35)


def test_one_thread_takes_all_at_once_and_leaves_the_counters_alone() -> None:
    team = Team(1)
    assert team.ranges(0, 10) == team.ranges(0, 10) == [(0, 10)]
    assert not team.memory.any()


def test_nobody_looks_at_more_than_some_others() -> None:
    team = Team(MOST_HELPED + 2)
    assert len(items_of(team.ranges(0, 10 * team.parts))) == 10 * (MOST_HELPED + 1)


@pytest.mark.parametrize("layers", [1, 3, 8, 11])
def test_phases_have_shares_of_their_own_until_they_are_given_back(layers: int) -> None:
    team = Team(3, layers)
    for _ in range(2):
        for kind in (FORWARD, BACKWARD, UPDATE):
            for layer in range(layers):
                assert sorted(items_of(team.ranges(1, 30, kind, layer))) == list(range(30))
                assert team.ranges(2, 30, kind, layer) == []
        assert not team.behind.any()
        team.give_back()
        assert not team.memory.any()
