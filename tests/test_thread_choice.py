"""The choice between one thread and many while training runs, on a machine of given speeds."""

from __future__ import annotations

import pytest

from fastmlp import MLP, engine, thread_choice
from fastmlp.thread_choice import SECONDS_BETWEEN_TRIALS, SLICE_SECONDS, TRIAL_SECONDS, ThreadChoice, tile_speed


@pytest.fixture
def choice(monkeypatch: pytest.MonkeyPatch) -> ThreadChoice:
    monkeypatch.setattr(engine, "get_num_threads", lambda: 4)
    monkeypatch.setattr(thread_choice, "tile_speed", lambda dtype: 1e9)
    network = MLP([100, 100, 10]).network
    work = 64 * network.training_work
    return ThreadChoice(network.dtype, work, engine.threads_for(work))


def run(choice: ThreadChoice, slices: int, speeds: dict[int, float]) -> list[int]:
    """Run slices on a machine of given speeds, in multiply-adds a second by number of threads."""
    used = []
    for _ in range(slices):
        threads, limit = choice.next()
        used.append(threads)
        steps = max(1, int(limit * speeds[threads] / choice.work))
        choice.report(threads, steps, steps * choice.work / speeds[threads])
    return used


def test_many_threads_that_are_fast_are_kept_without_a_trial(choice: ThreadChoice) -> None:
    assert set(run(choice, 50, {4: 3e9, 1: 0.9e9})) == {4}


def test_many_threads_that_are_slow_are_given_up_after_one_slice(choice: ThreadChoice) -> None:
    assert run(choice, 3, {4: 0.1e9, 1: 0.9e9}) == [4, 1, 1]
    assert choice.threads == 1


def test_one_thread_that_is_slower_still_changes_nothing(choice: ThreadChoice) -> None:
    used = run(choice, 5, {4: 0.5e9, 1: 0.3e9})
    assert used == [4, 1, 4, 4, 4]


def test_many_threads_are_tried_again_and_taken_up_when_they_are_faster(choice: ThreadChoice) -> None:
    run(choice, 3, {4: 0.1e9, 1: 0.9e9})
    assert choice.threads == 1
    used = run(choice, 20, {4: 3e9, 1: 0.9e9})
    assert 4 in used
    assert used[-1] == choice.threads == 4


def test_trials_are_a_small_part_of_the_time(choice: ThreadChoice) -> None:
    used = run(choice, 200, {4: 0.1e9, 1: 0.9e9})
    assert used.count(4) * TRIAL_SECONDS < 0.05 * used.count(1) * SLICE_SECONDS


def test_small_steps_run_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "get_num_threads", lambda: 4)
    network = MLP([2, 8, 8, 1]).network
    work = 10 * network.training_work
    choice = ThreadChoice(network.dtype, work, engine.threads_for(work))
    assert set(run(choice, 30, {1: 1e6})) == {1}


def test_many_threads_that_become_slower_than_one_are_given_up_at_once(choice: ThreadChoice) -> None:
    assert run(choice, 5, {4: 0.5e9, 1: 0.3e9}) == [4, 1, 4, 4, 4]
    assert run(choice, 3, {4: 0.1e9, 1: 0.3e9}) == [4, 1, 1]


def test_many_threads_are_tried_again_soon_and_then_less_and_less_often(choice: ThreadChoice) -> None:
    slow = {4: 0.1e9, 1: 0.9e9}
    assert run(choice, 2, slow) == [4, 1]
    waits, seconds = [], 0.0
    while len(waits) < 8:
        threads, limit = choice.next()
        if threads == 4:
            waits.append(seconds)
            seconds = 0.0
        else:
            seconds += limit
        assert run(choice, 1, slow) == [threads]
    shortest, longest = SECONDS_BETWEEN_TRIALS
    for wait, wanted in zip(waits, [shortest * 2**i for i in range(5)] + [longest] * 3, strict=True):
        assert wait == pytest.approx(min(wanted, longest), abs=2 * TRIAL_SECONDS)
    used = run(choice, 20, {4: 3e9, 1: 0.9e9})  # the others are gone
    assert used[-1] == 4
    assert run(choice, 1, slow) == [4]
    assert used.count(4) > 10
    assert choice.next() == (1, pytest.approx(shortest))  # and come again: what was is forgotten


def test_a_choice_suits_calls_of_the_same_work_only(choice: ThreadChoice) -> None:
    assert choice.suits(choice.work, choice.many)
    assert not choice.suits(choice.work + 1, choice.many)
    assert not choice.suits(choice.work, choice.many + 1)


def test_the_micro_kernel_is_timed() -> None:
    assert 1e7 < tile_speed(MLP([2, 2]).dtype) < 1e13
