"""Several registers in lockstep: each is read and written in its place, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from naive import DTYPES, Array
from numba import njit

from fastmlp.kernels.lockstep import at_once, load_several, store_several
from fastmlp.kernels.simd import lanes, lanes_of, pointer


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("registers", [1, 2, 3, 4, 5, 7, 8, 13])
def test_several_registers_at_once_are_read_and_written_each_in_its_place(registers: int, dtype: str) -> None:
    """The last one takes the place of those that are missing in the last group; nothing beyond is touched."""

    @njit
    def double(block: Array, count: int) -> None:
        base = pointer(block)
        for i in range(0, count, at_once(base)):
            value = load_several(base, i, count - lanes(base))
            store_several(base, i, count - lanes(base), value * 2.0)

    count = registers * lanes_of(np.dtype(dtype).itemsize)
    block = np.arange(1, count + 5, dtype=dtype)
    expected = np.where(np.arange(count + 4) < count, 2 * block, block)
    double(block, count)
    np.testing.assert_array_equal(block, expected)
