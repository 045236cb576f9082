"""What threads read ahead: every line once, in order, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import Array
from numba import njit, types

from fastmlp import MLP, Trainer, engine
from fastmlp.kernels import layout, read_ahead
from fastmlp.kernels.batches import FLOAT32, FLOAT64, UINT8
from fastmlp.kernels.layout import address_of
from fastmlp.kernels.simd import CACHE_LINE, pointer
from fastmlp.threads import limited_to

INTEGERS = types.Array(types.int64, 1, "C")
BYTES = {FLOAT32: 4, FLOAT64: 8, UINT8: 1}
X = 1 << 20  # address of row 0


@njit(types.void(INTEGERS, INTEGERS, types.int64, INTEGERS, types.int64, types.int64))
def make_list(ahead: Array, context: Array, inputs: int, index: Array, first: int, last: int) -> None:
    read_ahead.make_list(pointer(ahead), pointer(context), inputs, pointer(index), first, last)


@njit(types.UniTuple(types.int64, 2)(INTEGERS, types.int64))
def take_lines(ahead: Array, most: int) -> Any:
    return read_ahead.take_lines(pointer(ahead), most)


@njit(types.void(INTEGERS))
def ask_for_rest(ahead: Array) -> None:
    read_ahead.ask_for_rest(pointer(ahead))


def new_list(kind: int, stride: int, inputs: int, index: Array, first: int, last: int) -> Array:
    context = np.zeros(layout.CONTEXT_FIELDS, np.int64)
    context[[layout.X, layout.X_KIND, layout.X_STRIDE]] = X, kind, stride
    ahead = np.zeros(read_ahead.LIST_FIELDS, np.int64)
    make_list(ahead, context, inputs, index, first, last)
    return ahead


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(sorted(BYTES)), inputs=st.integers(1, 100), gap=st.integers(0, 9), rows=st.integers(1, 6),
       part=st.tuples(st.integers(0, 3), st.integers(1, 4)), most=st.lists(st.integers(0, 9), min_size=1, max_size=9))
def test_every_line_of_every_row_is_taken_once(kind: int, inputs: int, gap: int, rows: int, part: tuple[int, int],
                                               most: list[int]) -> None:
    index = np.random.default_rng(rows).permutation(rows + 3)[:rows].astype(np.int64)
    row_bytes, row_lines = BYTES[kind] * (inputs + gap), -(-BYTES[kind] * inputs // CACHE_LINE)
    all_lines = [X + int(row) * row_bytes + line * CACHE_LINE for row in index for line in range(row_lines)]
    share, shares = part[0] % part[1], part[1]
    first, last = (len(all_lines) * place // shares for place in (share, share + 1))
    ahead = new_list(kind, inputs + gap, inputs, index, first, last)
    taken: list[int] = []
    for number in [*most, *[7] * (last - first + 1)]:
        address, lines = take_lines(ahead, number)
        assert 0 <= lines <= number
        taken += [address + line * CACHE_LINE for line in range(lines)]
    assert taken == all_lines[first:last]
    assert take_lines(ahead, 5) == (0, 0)


def test_nothing_is_left_of_a_list_when_the_rest_was_asked_for() -> None:
    index = np.arange(3)
    for taken in (0, 4, 21):
        ahead = new_list(FLOAT32, 100, 100, index, 0, 21)
        take_lines(ahead, taken)
        ask_for_rest(ahead)
        assert take_lines(ahead, 5) == (0, 0)


@pytest.mark.parametrize("batch", [16, 3])  # with 3 rows no tile has a round to ask in
def test_training_reads_the_rows_of_the_next_batch_ahead(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "NEAR_BYTES", 0)
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(64, 300)).astype(np.float32), rng.integers(0, 3, 64)
    trainer = Trainer(MLP([300, 40, 3]), batch_size=batch)
    with limited_to(1):  # of several, none need have had the last lines last
        trainer.fit(rows, labels, epochs=1, progress=False)
    (call,) = trainer._calls.of_fit.values()
    ahead = call.kept(layout.AHEAD)
    assert ahead[read_ahead.FIRST] == ahead[read_ahead.LAST] == ((64 - 1) % batch + 1) * 19  # lines of the last batch
    assert (ahead[[read_ahead.X, read_ahead.ROW_BYTES, read_ahead.ROW_LINES]] == [address_of(rows), 1200, 19]).all()
