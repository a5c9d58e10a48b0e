"""The held-out part of a corpus against a twin of plain lists."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.corpora import small_corpus
from tests.unit.data.documents import Documents, make_corpus
from tests.unit.data.test_order import slow_hash
from unmask.data.heldout import held_out_ranges, inside


def slow_held_out(shards: list[Documents], num_tokens: int) -> set[int]:
    """Tokens that are held out."""
    lengths = [[len(sentence) for sentence in document] for shard in shards for document in shard]
    budget = min(num_tokens, int(sum(map(sum, lengths)) * 0.1))
    longest = min(4096, max(1, budget // 8))
    stretches: list[tuple[int, list[range]]] = []  # Nominal size, sentences.
    token = 0
    for document in lengths:
        start, total = token, sum(document)
        cells = [(min(longest, total - at), []) for at in range(0, total, longest)]
        for sentence in document:
            cells[(token - start) // longest][1].append(range(token, token + sentence))
            token += sentence
        stretches += cells
    order = sorted(range(len(stretches)), key=lambda number: slow_hash(0x5EED, number))
    found: set[int] = set()
    taken = 0
    while order and taken < budget:
        size, sentences = stretches[order.pop(0)]
        taken += size
        found.update(token for sentence in sentences for token in sentence)
    return found


sentences = st.integers(1, 60).map(lambda length: [(7, True)] * length)
documents = st.lists(st.lists(sentences, min_size=1, max_size=9), max_size=12)


@given(shards=st.lists(documents, min_size=1, max_size=3), num_tokens=st.integers(1, 400))
def test_choice_is_its_slow_twin(shards: list[Documents], num_tokens: int) -> None:
    corpus = make_corpus(shards)
    ranges = held_out_ranges(corpus, num_tokens=num_tokens)
    found = [token for start, stop in ranges.tolist() for token in range(start, stop)]
    assert found == sorted(slow_held_out(shards, num_tokens))
    assert np.all(ranges[1:, 0] > ranges[:-1, 1])
    starts = np.arange(corpus.num_tokens)
    assert np.flatnonzero(inside(starts, ranges)).tolist() == found


def test_a_tenth_at_most_and_spread_over_the_corpus(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, num_documents=100)
    ranges = held_out_ranges(corpus, num_tokens=10**9)
    share = np.diff(ranges).sum() / corpus.num_tokens
    assert 0.05 < share < 0.15
    assert len(ranges) >= 5
    assert ranges[-1, 0] - ranges[0, 0] > corpus.num_tokens / 2
    bounds = np.concatenate([[0], np.cumsum([len(shard.ids) for shard in corpus.shards])])
    starts = {
        int(first) + start
        for shard, first in zip(corpus.shards, bounds, strict=False)
        for start in shard.sentence_starts.tolist()
    }
    assert set(ranges.reshape(-1).tolist()) <= starts


def test_fewer_tokens_hold_out_a_part_of_the_same() -> None:
    # Stretches of full length in both, so that the keyed order is the same.
    corpus = make_corpus([[[[(7, True)] * 8] * 2048] * 30])
    small, large = (held_out_ranges(corpus, num_tokens=size) for size in (33_000, 45_000))
    assert np.diff(small).sum() >= 33_000
    for start, stop in small.tolist():
        assert any(first <= start and stop <= last for first, last in large.tolist())
