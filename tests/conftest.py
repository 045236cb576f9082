"""What several test files share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fastmlp import get_num_threads, set_num_threads
from fastmlp.activations import ACTIVATIONS
from fastmlp.losses import LOSSES
from fastmlp.thread_choice import ThreadChoice
from fastmlp.threads import available_threads


@pytest.fixture(scope="module")
def registries() -> Iterator[None]:
    """Forget, when the tests of a file are done, the activations and losses that they registered."""
    before = dict(ACTIVATIONS), dict(LOSSES)
    yield
    for registry, entries in ((ACTIVATIONS, before[0]), (LOSSES, before[1])):
        registry.clear()
        registry.update(entries)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """`set_num_threads`, undone afterwards; skips where there are not so many."""
    before = get_num_threads()

    def choose(number: int) -> None:
        if number > available_threads():
            pytest.skip(f"there are only {available_threads()} threads")
        set_num_threads(number)

    yield choose
    set_num_threads(before)


@pytest.fixture
def step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of a single step: none may take any time."""
    original = ThreadChoice.next
    monkeypatch.setattr(ThreadChoice, "next", lambda choice: (original(choice)[0], 1e-12))
