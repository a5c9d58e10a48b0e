"""Stretches of characters as pieces and back, on any Unicode and with each family of tokenizer."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.tokenizer.samples import FAMILIES, NASTY, TEXTS, folder_of
from unmask.data.stretches import bare, best_stretches, excerpt, pieces_of
from unmask.tokenizer.load import Tokenizer

CHARACTERS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ANY = st.lists(CHARACTERS | st.sampled_from(NASTY + TEXTS), min_size=1, max_size=3).map(" ".join)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    return {family: Tokenizer.load(folder_of(family, tmp_path_factory.mktemp("t") / family)) for family in FAMILIES}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(text=ANY, family=st.sampled_from(FAMILIES), ends=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_pieces_are_those_that_overlap(
    loaded: dict[str, Tokenizer], text: str, family: str, ends: tuple[float, float]
) -> None:
    start, end = sorted(round(place * len(text)) for place in ends)
    (pieces,) = loaded[family].encode([text])
    overlap = [at for at, (a, b) in enumerate(pieces.offsets) if a < b and a < end and b > start]
    assert pieces_of(pieces, start, end) == ((overlap[0], overlap[-1]) if overlap else None)


def slow_best(logits: np.ndarray, offsets: np.ndarray, longest: int) -> list[tuple[tuple[int, int], float]]:
    """Every stretch in turn."""
    found = [
        ((int(offsets[first, 0]), int(offsets[last, 1])), float(logits[first, 0]) + float(logits[last, 1]))
        for first in range(len(logits))
        for last in range(first, min(len(logits), first + longest))
        if offsets[first, 0] < offsets[first, 1] and offsets[last, 0] < offsets[last, 1]
    ]
    return sorted(found, key=lambda one: -one[1])


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(0, 12), longest=st.integers(1, 14), count=st.integers(1, 30), seed=st.integers(0, 999),
    blank=st.sets(st.integers(0, 11)),
)  # fmt: skip
def test_the_best_stretches_equal_trying_all(size: int, longest: int, count: int, seed: int, blank: set[int]) -> None:
    logits = np.random.default_rng(seed).normal(size=(size, 2)).astype(np.float32)
    offsets = np.array([(at, at + (at not in blank)) for at in range(size)], np.int32).reshape(-1, 2)
    found = best_stretches(logits, offsets, longest=longest, count=count)
    assert found == slow_best(logits, offsets, longest)[:count]


@settings(max_examples=60, deadline=None)
@given(text=ANY, ends=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_bare_stretch_is_the_stripped_one(text: str, ends: tuple[float, float]) -> None:
    start, end = sorted(round(place * len(text)) for place in ends)
    low, high = bare(text, start, end)
    assert text[low:high] == text[start:end].strip()
    assert start <= low <= high <= end


@settings(max_examples=60, deadline=None)
@given(
    text=st.text("abc \u5929", min_size=1, max_size=80),
    spans=st.lists(st.tuples(st.integers(0, 79), st.integers(0, 9)), max_size=3),
    margin=st.integers(1, 20),
)
def test_an_excerpt_shows_every_stretch_with_what_stands_around(
    text: str, spans: list[tuple[int, int]], margin: int
) -> None:
    inside = [(min(start, len(text)), min(start + size, len(text))) for start, size in spans]
    shown, places = excerpt(text, inside, margin)
    assert [shown[a:b] for a, b in places] == [text[a:b] for a, b in inside]
    for part in shown.removeprefix("... ").removesuffix(" ...").split(" ... "):
        assert part in text
    for (a, b), (low, high) in zip(inside, places, strict=True):
        assert text[max(0, a - margin) : a] == shown[low - min(a, margin) : low]
        assert text[b : b + margin] == shown[high : high + min(len(text) - b, margin)]


def test_an_excerpt_says_where_something_is_left_out() -> None:
    assert excerpt("abcdefghijklmnopqrst", [(2, 4), (15, 16)], 2) == ("abcdef ... nopqr ...", [(2, 4), (13, 14)])
    assert excerpt("abcdefghij", [(8, 9), (5, 6)], 2) == ("... defghij", [(9, 10), (6, 7)])
    assert excerpt("abcdefghij", [], 2) == ("abcdef ...", [])
