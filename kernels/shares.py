"""Who does what in a phase: each member of a team has a share of the items, and helps others when it is done.

The threads of a team seldom run equally fast: cores differ, and other programs take a part of some. So a member takes
the items of its share some at a time, half of what is left and then half of that, and after that takes what others
have left of theirs in the same way. Who does an item makes no difference to its result. As long as all are equally
fast, each keeps to its own share, whose data lie in its caches.

How far a share has been taken is a counter. Each phase has one for each member, which that member sets to 0 before
the barrier that ends `stage` of the next pass.
"""

from __future__ import annotations

from . import layout
from .linking import inlined, inlined_always
from .simd import int64_pointer, shift
from .team import TEAM_SIZE, atomic_load, compare_and_set

# Phases of the layers: that of kind k and layer l has the number k * layers + l.
FORWARD, BACKWARD, UPDATE = range(3)
KINDS = 3

# Multiply-adds below which a phase is left to one thread: sharing it saves less than the caches lose by it.
LEAST_SHARED_WORK = 16_000
# Multiply-adds that are worth the taking: about a microsecond.
LEAST_TAKEN_WORK = 64_000
# Members that one looks at when it is done: each look fetches a cache line from another core.
MOST_HELPED = 4

COUNTERS_OF_A_LINE = layout.ALIGNMENT // 8


def team_memory_size(layers: int, threads: int) -> int:
    """Numbers that the memory of a team has, its counters of shares included."""
    return TEAM_SIZE + threads * layout.round_up(KINDS * layers, COUNTERS_OF_A_LINE)


@inlined
def _counter(context, phase, member):
    lines = (KINDS * context[layout.DEPTH] + COUNTERS_OF_A_LINE - 1) // COUNTERS_OF_A_LINE
    return shift(int64_pointer(context[layout.TEAM]), TEAM_SIZE + member * lines * COUNTERS_OF_A_LINE + phase)


@inlined
def give_back_shares(context, part, parts):
    """Set the counters of a member to 0; to be called where all have left the phases before and none is in the next."""
    if parts > 1:
        for phase in range(KINDS * context[layout.DEPTH]):
            _counter(context, phase, part)[0] = 0


@inlined
def first_in_part(items, part, parts):
    """First item of a part, as many items in each; `part + 1` gives its end."""
    if parts == 1:  # without the two divisions of 26 cycles each that some processors would make of it
        return items if part > 0 else 0
    return items * part // parts


@inlined
def first_of(items, part, parts, work):
    """First item of a part's share of a phase of `work` multiply-adds; `part + 1` gives its end."""
    if work < LEAST_SHARED_WORK:
        return items if part > 0 else 0
    return first_in_part(items, part, parts)


@inlined_always
def take_items(context, kind, l, items, together, work, part, parts, helped):
    """Take items of the phase `kind` of layer `l`: those to do next, from the first up to before the last.

    Parameters
    ----------
    items, work : of the whole phase; multiply-adds
    together : so many items from a multiple of it on are better done by one member
    helped : 0 for the first call, then what the last one returned

    Returns
    -------
    first, last, helped : no items if ``first == last``; there will be no more for this member
    """
    if parts == 1 or work < LEAST_SHARED_WORK:  # without a call: this is all that the phases of a small network need
        return 0, items if part == 0 and helped == 0 else 0, 1
    return _take_shared(context, kind, l, items, together, work, part, parts, helped)


@inlined
def _take_shared(context, kind, l, items, together, work, part, parts, helped):
    """Take items of a phase that is shared, as `take_items`."""
    least = LEAST_TAKEN_WORK * items // work + 1
    while helped < min(parts, 1 + MOST_HELPED):
        member = (part + helped) % parts
        begin, end = items * member // parts, items * (member + 1) // parts
        counter = _counter(context, kind * context[layout.DEPTH] + l, member)
        taken = atomic_load(counter)
        while begin + taken < end:
            first = begin + taken
            last = first + max((end - first + 1) // 2, least)
            last = min(end, (last + together - 1) // together * together)
            found = compare_and_set(counter, taken, last - begin)
            if found == taken:
                return first, last, helped
            taken = found
        helped += 1
    return 0, 0, helped
