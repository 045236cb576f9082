"""The choice between one thread and many while training runs."""

from __future__ import annotations

import pytest

import fastmlp
from fastmlp import MLP, engine

STEPS = 100


@pytest.fixture
def choice(monkeypatch: pytest.MonkeyPatch) -> engine.ThreadChoice:
    monkeypatch.setattr(engine, "get_num_threads", lambda: 4)
    monkeypatch.setattr(engine, "tile_speed", lambda dtype: 1e9)
    return engine.ThreadChoice(MLP([100, 100, 10]).network, 64)


def run(choice: engine.ThreadChoice, slices: int, speeds: dict[int, float]) -> list[int]:
    """Run slices on a machine of given speeds, in multiply-adds a second by number of threads."""
    used = []
    for _ in range(slices):
        threads, limit = choice.next()
        used.append(threads)
        steps = max(1, int(limit * speeds[threads] / choice.work))
        choice.report(threads, steps, steps * choice.work / speeds[threads])
    return used


def test_the_work_of_a_step_counts_no_delta_for_the_inputs() -> None:
    network = MLP([10, 32, 16]).network
    assert engine.training_work(network, 5) == 5 * (2 * 10 * 32 + 3 * 32 * 16)


def test_many_threads_that_are_fast_are_kept_without_a_trial(choice: engine.ThreadChoice) -> None:
    assert set(run(choice, 50, {4: 3e9, 1: 0.9e9})) == {4}


def test_many_threads_that_are_slow_are_given_up_after_one_slice(choice: engine.ThreadChoice) -> None:
    used = run(choice, 5, {4: 0.1e9, 1: 0.9e9})
    assert used == [4, 1, 1, 1, 1]


def test_one_thread_that_is_slower_still_changes_nothing(choice: engine.ThreadChoice) -> None:
    used = run(choice, 5, {4: 0.5e9, 1: 0.3e9})
    assert used == [4, 1, 4, 4, 4]


def test_many_threads_are_tried_again_and_taken_up_when_they_are_faster(choice: engine.ThreadChoice) -> None:
    run(choice, 3, {4: 0.1e9, 1: 0.9e9})
    assert choice.threads == 1
    used = run(choice, 20, {4: 3e9, 1: 0.9e9})
    assert 4 in used
    assert used[-1] == choice.threads == 4


def test_trials_are_a_small_part_of_the_time(choice: engine.ThreadChoice) -> None:
    used = run(choice, 200, {4: 0.1e9, 1: 0.9e9})
    assert used.count(4) * engine.TRIAL_SECONDS < 0.05 * used.count(1) * engine.SLICE_SECONDS


def test_small_steps_run_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "get_num_threads", lambda: 4)
    choice = engine.ThreadChoice(MLP([2, 8, 8, 1]).network, 10)
    assert set(run(choice, 30, {1: 1e6})) == {1}


def test_a_choice_suits_steps_of_the_same_work_only(choice: engine.ThreadChoice) -> None:
    network = MLP([100, 100, 10]).network
    assert choice.suits(network, 64)
    assert not choice.suits(network, 65)


def test_the_micro_kernel_is_timed() -> None:
    assert 1e7 < engine.tile_speed(fastmlp.MLP([2, 2]).dtype) < 1e13
