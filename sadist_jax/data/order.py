"""Which sample stands at a position of the endless stream, as a pure function of (seed, position).

Nothing here has a state: any worker, on any host, after any restart, computes the same answer for a position.
"""

import numpy as np

from sadist_jax.errors import BadInput

_MASK = 2**64 - 1
_ROUNDS = 8


def generator(seed: int, position: int, attempt: int = 0) -> np.random.Generator:
    """Random numbers of one position: Philox with (seed, position) as its key, `attempt` in the top of its counter."""
    if not 0 <= seed <= _MASK:
        raise BadInput(f"seed is {seed}; it must be a whole number from 0 to 2**64 - 1")
    key = np.array([seed, position], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, attempt], np.uint64)))


def sample_index(position: int, length: int, seed: int, shuffle: bool) -> int:
    """Index into a source of `length` for a position; every epoch shows every sample once, shuffled by its own key."""
    epoch, place = divmod(position, length)
    return permute(place, length, seed, epoch) if shuffle else place


def permute(index: int, length: int, seed: int, epoch: int) -> int:
    """Image of `index` under a keyed permutation of range(length), without a table of it.

    A Feistel network on the smallest even number of bits that holds `length`, walked until it lands inside (Black and
    Rogaway, Ciphers with arbitrary finite domains, 2002). 11 million samples would otherwise need a new 88 MB table
    in every worker at every epoch.
    """
    half = max(3, ((length - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    key = _mix(seed ^ _mix(epoch + 1))
    while True:
        left, right = index >> half, index & low
        for r in range(_ROUNDS):
            left, right = right, left ^ (_mix(key + (r << 56) + right) & low)
        index = left << half | right
        if index < length:
            return index


def _mix(x: int) -> int:
    """splitmix64's step (Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)
