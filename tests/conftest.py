"""What several test files share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fastmlp import get_num_threads, set_num_threads
from fastmlp.threads import available_threads


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
