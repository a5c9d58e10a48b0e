"""Several corpora as one stream, against a twin that counts one sample after the other."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.data.mixture import Mixture

weights_lists = st.lists(st.floats(0.01, 100), min_size=1, max_size=6)


class SlowMixture:
    """Deals samples out one by one; each half is a mixture of its own that counts what it got."""

    def __init__(self, shares: list[float], first: int = 0) -> None:
        self.first, self.seen, self.left_seen = first, 0, 0
        self.halves = None
        if len(shares) > 1:
            middle = len(shares) // 2
            share = np.asarray(shares)[:middle].sum() / np.asarray(shares).sum()
            self.share = Fraction(round(share * 2**32), 2**32)
            self.halves = SlowMixture(shares[:middle], first), SlowMixture(shares[middle:], first + middle)

    def next(self) -> tuple[int, int]:
        self.seen += 1
        if self.halves is None:
            return self.first, self.seen - 1
        is_left = int(self.seen * self.share) > self.left_seen
        self.left_seen += is_left
        return self.halves[0 if is_left else 1].next()


@given(weights=weights_lists)
def test_samples_are_dealt_out_like_by_its_slow_twin(weights: list[float]) -> None:
    mixture = Mixture(weights)
    slow = SlowMixture(mixture.shares.tolist())
    corpora, own = mixture.locate(np.arange(200))
    assert list(zip(corpora.tolist(), own.tolist(), strict=True)) == [slow.next() for _ in range(200)]


@given(weights=weights_lists, start=st.one_of(st.integers(0, 1 << 20), st.integers(0, 1 << 45)))
def test_each_corpus_runs_without_gap_and_near_its_share(weights: list[float], start: int) -> None:
    mixture = Mixture(weights)
    corpora, own = mixture.locate(np.arange(start, start + 300))
    for corpus, share in enumerate(mixture.shares):
        numbers = own[corpora == corpus]
        assert np.array_equal(numbers, np.arange(len(numbers)) + (numbers[0] if len(numbers) else 0))
        assert abs(len(numbers) - 300 * share) <= 2 * len(weights)
        if len(numbers) and start < 1 << 20:
            assert abs(numbers[0] - start * share) <= 2 * len(weights)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_equal_weights_take_turns(count: int) -> None:
    corpora, _ = Mixture([2.0] * count).locate(np.arange(count * 50))
    assert np.bincount(corpora).tolist() == pytest.approx([50] * count, abs=1)


def test_places_may_be_asked_in_any_order() -> None:
    mixture = Mixture([1, 2, 3])
    numbers = np.random.default_rng(0).permutation(500)
    corpora, own = mixture.locate(numbers)
    whole = mixture.locate(np.arange(500))
    assert np.array_equal(corpora, whole[0][numbers])
    assert np.array_equal(own, whole[1][numbers])
