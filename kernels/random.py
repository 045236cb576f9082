"""Random numbers from a counter: the same (seed, stream, position) gives the same number, in any order, on any thread.

The generator is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014), a bijection of 64-bit integers that passes
the usual statistical tests on consecutive counters.
"""

from __future__ import annotations

import numpy as np

from .linking import inlined

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)


@inlined
def mix(x):
    """Scramble a 64-bit unsigned integer, one to one."""
    x = (x ^ (x >> np.uint64(30))) * MIX_1
    x = (x ^ (x >> np.uint64(27))) * MIX_2
    return x ^ (x >> np.uint64(31))


@inlined
def stream_key(seed, stream):
    """Key of the stream of random numbers with number `stream` under `seed`."""
    return mix(mix(np.uint64(seed) + GOLDEN) ^ (np.uint64(stream) * GOLDEN))


@inlined
def random_bits(key, position):
    """64 random bits at a position of a stream."""
    return mix(key + np.uint64(position) * GOLDEN)


@inlined
def random_below(key, position, bound):
    """Random integer in [0, bound) for bound below 2**32: the high part of a product (Lemire, 2019).

    Without rejection: no value is likelier than another by more than a factor 1 + bound / 2**32.
    """
    return np.int64(((random_bits(key, position) >> np.uint64(32)) * np.uint64(bound)) >> np.uint64(32))


@inlined
def shuffle(order, count, seed, stream):
    """Fill `order` with a random permutation of 0 ... count - 1 (Fisher and Yates; Knuth, volume 2, algorithm P)."""
    key = stream_key(seed, stream)
    for i in range(count):
        j = random_below(key, i, i + 1)
        order[i] = order[j]
        order[j] = i
