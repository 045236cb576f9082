"""A team of threads that go through the same program and wait for one another at barriers.

A parallel loop of Numba costs 1 to 3 microseconds each time it is entered, as much as a whole phase of a small
step. So a loop is entered once for many steps, with one iteration a thread, and between phases the threads meet at
a barrier made of one counter: 0.03 to 0.2 microseconds.

Barriers need every member to be running at the same time, which a threading layer need not grant: it may run two
iterations on one thread, one after the other. So the members first `join`. If they have not all come within a
bounded time, the team is given up: iteration 0 then does all the work alone and the others return at once. As
results do not depend on the number of threads, nothing else changes.
"""

from __future__ import annotations

import os

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .linking import inlined
from .simd import IS_ARM64, IS_X86, shift

# Places in the team's memory, int64, each on a cache line of its own. Zero before the first call of join.
ARRIVED, STATE, COUNTER, NEXT_CHUNK = 0, 16, 32, 48
TEAM_SIZE = 64

WAITING, TOGETHER, GIVEN_UP = 0, 1, 2

SPINS_BEFORE_YIELD = 4000  # about 50 to 150 microseconds, more than most phases last
NAP_MICROSECONDS = 50
PAUSES_OF_A_NAP = 2000  # about as long, where there is no system call for it
# Naps that a member takes until it no longer waits for the others to join: some 40 milliseconds, or a second or two
# where other programs want the processor. (Yields would not do: each may last until the others' turn is over.)
MOST_NAPS = 400

IS_POSIX = os.name == "posix"


@intrinsic
def atomic_add(typing_context, base, amount):
    """Add to the integer at a pointer as one indivisible step; return what was there before."""

    def generate(context, builder, sig, values):
        return builder.atomic_rmw("add", values[0], values[1], "seq_cst")

    return types.int64(base, types.int64), generate


@intrinsic
def atomic_load(typing_context, base):
    """Read the integer at a pointer, and see all that was written before it was."""

    def generate(context, builder, sig, values):
        return builder.load_atomic(values[0], "acquire", 8)

    return types.int64(base), generate


@intrinsic
def compare_and_set(typing_context, base, expected, new):
    """Set the integer at a pointer to `new` if it is `expected`; return what was there before."""

    def generate(context, builder, sig, values):
        found = builder.cmpxchg(values[0], values[1], values[2], "seq_cst", "seq_cst")
        return builder.extract_value(found, 0)

    return types.int64(base, types.int64, types.int64), generate


@intrinsic
def pause(typing_context):
    """Tell the processor that this thread is spinning."""

    def generate(context, builder, sig, values):
        if IS_X86:
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause")
            builder.call(function, [])
        elif IS_ARM64:
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.VoidType(), [ir.IntType(32)]), "llvm.aarch64.hint")
            builder.call(function, [ir.IntType(32)(1)])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def yield_processor(typing_context):
    """Let another thread run on this processor."""

    def generate(context, builder, sig, values):
        if IS_POSIX:
            function = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(ir.IntType(32), []), "sched_yield")
            builder.call(function, [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _sleep(typing_context):
    """Sleep for NAP_MICROSECONDS; only on POSIX systems."""

    def generate(context, builder, sig, values):
        kind = ir.IntType(32)
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), "usleep")
        builder.call(function, [kind(NAP_MICROSECONDS)])
        return context.get_dummy_value()

    return types.void(), generate


@inlined
def nap():
    """Wait for a moment that others can use."""
    if IS_POSIX:
        _sleep()
    else:
        for _ in range(PAUSES_OF_A_NAP):
            pause()


@inlined
def _wait_a_moment(rounds):
    if rounds < SPINS_BEFORE_YIELD:
        pause()
    else:
        yield_processor()


@inlined
def join(team, part, parts):
    """Meet the other members; return their number, 1 if this one is to work alone, 0 if it is to return."""
    if parts == 1:
        return 1
    if atomic_add(shift(team, ARRIVED), 1) == parts - 1:
        compare_and_set(shift(team, STATE), WAITING, TOGETHER)
    rounds = 0
    while atomic_load(shift(team, STATE)) == WAITING:
        rounds += 1
        if rounds < SPINS_BEFORE_YIELD:
            pause()
        elif rounds < SPINS_BEFORE_YIELD + MOST_NAPS:
            nap()
        else:
            compare_and_set(shift(team, STATE), WAITING, GIVEN_UP)
    if atomic_load(shift(team, STATE)) == TOGETHER:
        return parts
    return 1 if part == 0 else 0


@inlined
def barrier(team, parts):
    """Wait until all members have come here.

    The counter is at a multiple of `parts` when a barrier begins, and nobody gets past it before the next multiple.
    """
    if parts == 1:
        return
    counter = shift(team, COUNTER)
    goal = (atomic_add(counter, 1) // parts + 1) * parts
    rounds = 0
    while atomic_load(counter) < goal:
        rounds += 1
        _wait_a_moment(rounds)
