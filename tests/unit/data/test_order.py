"""Keyed permutations and the endless stream of samples."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from unmask.data.order import hash_u64, permute, sample_ids, stream_u64

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
# Fixed seeds make the statistics constant; the bound would be passed by chance once in 10,000 tries.
P_VALUE = 1e-4


def slow_mix(state: int) -> int:
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & MASK
    state = (state ^ state >> 27) * 0x94D049BB133111EB & MASK
    return state ^ state >> 31


def slow_hash(*parts: int) -> int:
    state = 0
    for part in parts:
        state = slow_mix((state * GOLDEN + part + GOLDEN) & MASK)
    return state


def slow_permute(position: int, size: int, key: int) -> int:
    if size <= 4096:
        return sorted(range(size), key=lambda place: slow_hash(key, place))[position]
    half_bits = ((size - 1).bit_length() + 1) // 2
    low = (1 << half_bits) - 1
    while True:
        left, right = position >> half_bits, position & low
        for number in range(8):
            left, right = right, left ^ slow_mix((right * GOLDEN + slow_hash(key, number)) & MASK) & low
        position = left << half_bits | right
        if position < size:
            return position


@given(parts=st.lists(st.integers(-(1 << 63), (1 << 64) - 1), min_size=1, max_size=4))
def test_hash_is_its_slow_twin(parts: list[int]) -> None:
    assert hash_u64(*parts).tolist() == [slow_hash(*parts)]


def test_hash_takes_arrays() -> None:
    found = hash_u64(3, np.arange(-2, 3), np.arange(5, dtype=np.int32))
    assert found.dtype == np.uint64
    assert found.tolist() == [slow_hash(3, first, second) for first, second in zip(range(-2, 3), range(5), strict=True)]


def test_stream_is_splitmix() -> None:
    # The reference implementation's first numbers for the seed 1234567.
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert stream_u64(np.array([1234567], np.uint64), np.arange(5)).tolist() == expected


def test_hash_has_no_collisions_and_no_bias() -> None:
    found = hash_u64(1, 1, np.arange(1_000_000))
    assert len(np.unique(found)) == 1_000_000
    bits = np.unpackbits(found.view(np.uint8).reshape(-1, 8), axis=1).mean(axis=0)
    assert np.abs(bits - 0.5).max() < 0.003


@given(size=st.integers(1, 9000), key=st.integers(-5, 1 << 70))
def test_permutation_is_one_to_one(size: int, key: int) -> None:
    assert sorted(permute(np.arange(size), size=size, key=key).tolist()) == list(range(size))


@pytest.mark.parametrize("size", [1, 2, 3, 4095, 4096, 4097, 70_000, 10**9, 1 << 40])
def test_permutation_is_its_slow_twin(size: int) -> None:
    positions = np.unique(np.linspace(0, size - 1, 12).astype(np.int64))
    found = permute(positions, size=size, key=77)
    assert found.tolist() == [slow_permute(int(position), size, 77) for position in positions]


def test_position_outside_is_refused() -> None:
    with pytest.raises(ValueError, match=r"range\(5\)"):
        permute(np.array([5]), size=5, key=0)


@pytest.mark.parametrize("size", [3, 10, 60])
def test_each_position_goes_everywhere(size: int) -> None:
    num_keys = 100 * size
    found = np.stack([permute(np.arange(size), size=size, key=key) for key in range(num_keys)])
    for position in (0, size // 2, size - 1):
        counts = np.bincount(found[:, position], minlength=size)
        assert stats.chisquare(counts).pvalue > P_VALUE


def test_each_position_goes_everywhere_in_a_large_range() -> None:
    size, num_keys = 5000, 4000
    found = np.array([permute(np.array([0, 2500, 4999]), size=size, key=key) for key in range(num_keys)])
    for column in found.T:
        assert stats.chisquare(np.histogram(column, bins=50, range=(0, size))[0]).pvalue > P_VALUE
    assert np.abs(np.corrcoef(found.T) - np.eye(3)).max() < 0.06


def test_all_orders_of_four_are_equally_likely() -> None:
    orders = dict.fromkeys(itertools.permutations(range(4)), 0)
    for key in range(4800):
        orders[tuple(permute(np.arange(4), size=4, key=key).tolist())] += 1
    assert stats.chisquare(list(orders.values())).pvalue > P_VALUE


def test_neighbours_are_spread() -> None:
    size = 100_000
    found = permute(np.arange(size), size=size, key=9)
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.01
    assert abs(np.corrcoef(found, np.arange(size))[0, 1]) < 0.01
    steps = np.histogram((found[1:] - found[:-1]) % size, bins=50, range=(0, size))[0]
    assert stats.chisquare(steps).pvalue > P_VALUE


@given(start=st.integers(0, 10_000), counts=st.lists(st.integers(0, 40), max_size=6), size=st.integers(1, 50))
def test_stream_may_be_cut_anywhere(start: int, counts: list[int], size: int) -> None:
    whole = np.stack(sample_ids(np.arange(start, start + sum(counts)), size=size, seed=3))
    parts, here = [np.empty((2, 0), np.int64)], start
    for count in counts:
        parts.append(np.stack(sample_ids(np.arange(here, here + count), size=size, seed=3)))
        here += count
    assert np.array_equal(whole, np.concatenate(parts, axis=1))


def test_epochs_neither_repeat_nor_skip() -> None:
    epochs, ids = sample_ids(np.arange(4 * 37), size=37, seed=5)
    assert epochs.tolist() == sorted([*range(4)] * 37)
    orders = ids.reshape(4, 37)
    assert np.array_equal(np.sort(orders, axis=1), np.tile(np.arange(37), (4, 1)))
    assert len({tuple(order) for order in orders.tolist()}) == 4


def test_seeds_give_different_orders() -> None:
    orders = {tuple(sample_ids(np.arange(20), size=20, seed=seed)[1].tolist()) for seed in range(100)}
    assert len(orders) == 100
