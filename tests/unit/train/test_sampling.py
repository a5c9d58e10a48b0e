"""Balanced epochs: against a slow twin that deals rows by hand, and what users rely on."""

from collections import Counter

import numpy as np
import pytest

from unmask.data.order import permute
from unmask.train.sampling import balanced

STRATA = ["often"] * 70 + ["seldom"] * 20 + ["rare"] * 3


def dealt(strata: list[str], seed: int, epoch: int) -> list[int]:
    """The same rows by walking each stratum's endless stream from its beginning."""
    names = sorted(set(strata))
    quota = -(-len(strata) // len(names))
    drawn = []
    for rank, name in enumerate(names):
        rows = [row for row, one in enumerate(strata) if one == name]
        stream: list[int] = []
        number = 0
        while len(stream) < (epoch + 1) * quota:
            key = (seed * 1_000_003 + number) * len(names) + rank
            stream += [rows[place] for place in permute(np.arange(len(rows)), size=len(rows), key=key)]
            number += 1
        drawn += stream[epoch * quota : (epoch + 1) * quota]
    return drawn


@pytest.mark.parametrize("epoch", [0, 1, 7])
@pytest.mark.parametrize("strata", [STRATA, ["one"] * 5, list("abcab"), ["", "x", ""]])
def test_an_epoch_equals_the_slow_twin(strata: list[str], epoch: int) -> None:
    assert balanced(strata, seed=5, epoch=epoch).tolist() == dealt(strata, 5, epoch)


def test_strata_are_even_and_no_row_comes_much_more_often_than_its_neighbours() -> None:
    drawn = balanced(STRATA, seed=1, epoch=0)
    assert Counter(STRATA[row] for row in drawn) == {"often": 31, "seldom": 31, "rare": 31}
    for name, fewest, most in (("often", 0, 1), ("seldom", 1, 2), ("rare", 10, 11)):
        counts = Counter(int(row) for row in drawn)
        assert {counts[row] for row, one in enumerate(STRATA) if one == name} == {fewest, most}


def test_over_the_epochs_each_row_of_a_frequent_class_has_its_turn() -> None:
    counts = Counter(int(row) for epoch in range(70) for row in balanced(STRATA, seed=1, epoch=epoch))
    assert {counts[row] for row in range(70)} == {31}


def test_seed_and_epoch_decide() -> None:
    first = balanced(STRATA, seed=1, epoch=4)
    assert np.array_equal(first, balanced(STRATA, seed=1, epoch=4))
    assert not np.array_equal(first, balanced(STRATA, seed=2, epoch=4))
    assert not np.array_equal(first, balanced(STRATA, seed=1, epoch=5))
