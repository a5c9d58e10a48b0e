"""The order of samples as a pure function of the seed: keyed permutations instead of shuffled lists.

A sample stream has no state but its position, so that it can be entered anywhere, by any number of readers.
"""

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_ROUNDS = 8
_SORTED_SIZE = 1 << 12
_MASK = (1 << 64) - 1


def hash_u64(*parts: np.ndarray | int) -> np.ndarray:
    """Mix integers into 64 random-looking bits; the same parts always give the same bits.

    With all parts but one fixed this is one-to-one in that part, so that numbered samples never share a key. The
    mixer is the finaliser of SplitMix64 (Steele, Lea and Flood 2014; constants of Stafford's variant 13).

    Args:
        parts: integers or integer arrays of one shape (or shapes that broadcast); negative ones count modulo 2**64.

    Returns:
        uint64 of the broadcast shape, at least (1,).
    """
    state = np.zeros(1, dtype=np.uint64)
    for part in parts:
        state = _mix(state * np.uint64(_GOLDEN) + _unsigned(part) + np.uint64(_GOLDEN))
    return state


def stream_u64(keys: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """Give number `counters` of the random streams that begin at `keys`: SplitMix64, entered anywhere.

    Args:
        keys: well mixed, as from `hash_u64`; uint64.
        counters: whole numbers from 0, of a shape that broadcasts with `keys`.
    """
    return _mix(keys + (_unsigned(counters) + np.uint64(1)) * np.uint64(_GOLDEN))


def below(bits: np.ndarray, sizes: np.ndarray | int) -> np.ndarray:
    """Map random bits onto `range(sizes)`: high half times size, shifted down, biased by less than 2**-32 * size.

    Args:
        bits: uint64.
        sizes: whole numbers from 1 to 2**32, of a shape that broadcasts with `bits`.

    Returns:
        int64 of the broadcast shape.
    """
    return ((bits >> np.uint64(32)) * _unsigned(sizes) >> np.uint64(32)).astype(np.int64)


def permute(positions: np.ndarray, *, size: int, key: int) -> np.ndarray:
    """Map positions one-to-one onto `range(size)`, in an order chosen by the key.

    A balanced Feistel network over the next power of four, walked until it falls below `size` (Black and Rogaway
    2002): any part of the permutation costs the same, and nothing is stored. Up to 4,096 positions are sorted by
    keyed numbers instead, because a Feistel network of few bits has too few permutations.

    Args:
        positions: whole numbers in `range(size)`, (n,).
        size: length of the permuted range, at least 1.
        key: any integer.

    Returns:
        (n,) int64, each in `range(size)`.
    """
    values = np.array(positions, dtype=np.uint64)
    if size < 1 or (len(values) and int(values.max()) >= size):
        raise ValueError(f"positions must lie in range({size})")
    if size <= _SORTED_SIZE:
        return np.argsort(hash_u64(key, np.arange(size)))[values.astype(np.int64)]
    half_bits = ((size - 1).bit_length() + 1) // 2
    keys = hash_u64(key, np.arange(_ROUNDS))
    waiting = np.arange(len(values))
    while len(waiting):
        walked = _feistel(values[waiting], half_bits, keys)
        values[waiting] = walked
        waiting = waiting[walked >= size]
    return values.astype(np.int64)


def sample_ids(numbers: np.ndarray, *, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Give samples of an endless stream that runs epoch after epoch, by their numbers in it.

    Each epoch holds every sample once, in an order of its own.

    Args:
        numbers: positions in the stream, from 0, in any order, (n,) int64.
        size: samples of an epoch.
        seed: of the run.

    Returns:
        Epoch and sample id of each, (n,) int64 both.
    """
    epochs, positions = numbers // size, numbers % size
    ids = np.empty(len(numbers), dtype=np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        ids[here] = permute(positions[here], size=size, key=int(hash_u64(seed, int(epoch))[0]))
    return epochs, ids


def _feistel(values: np.ndarray, half_bits: int, keys: np.ndarray) -> np.ndarray:
    shift, low = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> shift, values & low
    for key in keys:
        left, right = right, left ^ (_mix(right * np.uint64(_GOLDEN) + key) & low)
    return left << shift | right


def _mix(state: np.ndarray) -> np.ndarray:
    """Scramble in place; the argument is always a fresh array of ours."""
    state ^= state >> np.uint64(30)
    state *= np.uint64(0xBF58476D1CE4E5B9)
    state ^= state >> np.uint64(27)
    state *= np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state


def _unsigned(part: np.ndarray | int) -> np.ndarray:
    if isinstance(part, int):
        return np.array([part & _MASK], dtype=np.uint64)
    return np.atleast_1d(part).astype(np.uint64, copy=False)
