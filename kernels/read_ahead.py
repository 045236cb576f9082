"""The rows of the next batch, asked for while the tiles of a gradient are computed.

Rows that are shuffled lie anywhere in memory, where no processor foresees them, and a core that waits for some twelve
cache lines cannot ask for more. Asking for all the lines of an item of the gradient at once took 6 to 8 % of a step of
784-128-10. So a tile asks for one line in each round of its loop: the next of a list that each thread has.
"""

from __future__ import annotations

from . import layout
from .batches import element_bytes, lines_of_row
from .linking import inlined
from .simd import CACHE_LINE, address_at, int64_pointer, prefetch, uint8_pointer

# A thread's list: the cache lines FIRST to LAST, counted through all the rows that INDEX (address: int64) names. X is
# the address of row 0; ROW_BYTES lead from one row to the next, of which ROW_LINES lines are read.
FIRST, LAST, X, ROW_BYTES, ROW_LINES, INDEX = range(6)
LIST_FIELDS = 8  # int64: a cache line, so that no two threads write to the same one


@inlined
def make_list(ahead, context, inputs, index, first, last):
    """Make a list of the cache lines `first` to `last` of the rows of X that `index` names."""
    kind = context[layout.X_KIND]
    ahead[FIRST], ahead[LAST] = first, last
    ahead[X], ahead[INDEX] = context[layout.X], address_at(index)
    ahead[ROW_BYTES] = context[layout.X_STRIDE] * element_bytes(kind)
    ahead[ROW_LINES] = lines_of_row(kind, inputs)


@inlined
def take_lines(ahead, most):
    """Take lines of one row from a list, at most so many; return the address of the first and their number."""
    left = ahead[LAST] - ahead[FIRST]
    if left == 0:
        return 0, 0
    row = ahead[FIRST] // ahead[ROW_LINES]
    line = ahead[FIRST] - row * ahead[ROW_LINES]
    lines = min(left, most, ahead[ROW_LINES] - line)
    ahead[FIRST] += lines
    return ahead[X] + int64_pointer(ahead[INDEX])[row] * ahead[ROW_BYTES] + line * CACHE_LINE, lines


@inlined
def ask_for_rest(ahead):
    """Ask for all that is left of a list, where there were too few tiles for it."""
    while ahead[FIRST] < ahead[LAST]:
        address, lines = take_lines(ahead, ahead[LAST])
        for line in range(lines):
            prefetch(uint8_pointer(address), line * CACHE_LINE)
