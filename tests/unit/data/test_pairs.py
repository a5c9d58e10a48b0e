"""Pairs against a twin of plain lists, and the laws that their labels must follow."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from tests.unit.data.corpora import small_corpus
from tests.unit.data.documents import CLS, SEP, Documents, Sentence, make_corpus, pieces_of
from tests.unit.data.test_masking import slow_stream
from unmask.data.heldout import held_out_ranges
from unmask.data.order import hash_u64
from unmask.data.pairs import PairBlocks
from unmask.errors import DataError

NO_RANGES = np.empty((0, 2), np.int64)


@dataclass
class Chunk:
    """Pieces `first` to `stop` of a stretch of one document."""

    stretch: list[Sentence]
    first: int
    stop: int
    document: int
    is_held_out: bool

    @property
    def pieces(self) -> list[Sentence]:
        return self.stretch[self.first : self.stop]


def slow_chunks(shards: list[Documents], room: int, is_single: bool, ranges: list[tuple[int, int]]) -> list[Chunk]:
    chunks, token = [], 0
    for number, document in enumerate(itertools.chain.from_iterable(shards)):
        stretches: list[tuple[list[Sentence], bool]] = []
        for sentence in document:
            is_held_out = any(start <= token < stop for start, stop in ranges)
            if not stretches or any(token in pair for pair in ranges):
                stretches.append(([], is_held_out))
            stretches[-1][0].extend(pieces_of(sentence, room // 2))
            token += len(sentence)
        for stretch, is_held_out in stretches:
            first = 0
            while first < len(stretch):
                stop = first + 1
                while stop < len(stretch) and (
                    stop - first < 2 if is_single else sum(map(len, stretch[first : stop + 1])) <= room
                ):
                    stop += 1
                if stop - first >= 2:
                    chunks.append(Chunk(stretch, first, stop, number, is_held_out))
                first = stop
    return chunks


def draw(key: int, counter: int, size: int) -> int:
    return (slow_stream(key, counter) >> 32) * size >> 32


def slow_run(stretch: list[Sentence], place: int, true_size: int, is_last: bool, limit: int) -> Sentence:
    """Pieces from `place` on, as near to the wanted number of tokens as they come, but at most `limit`."""
    size = true_size if is_last else limit
    while place and sum(map(len, stretch[place:])) < size:
        place -= 1
    sizes = {stop: sum(map(len, stretch[place:stop])) for stop in range(place + 1, len(stretch) + 1)}
    fitting = [stop for stop, length in sizes.items() if length <= limit]
    if not fitting:
        return stretch[place][:true_size]
    return flat(stretch[place : min(fitting, key=lambda stop: (abs(sizes[stop] - size), -stop))])


def flat(pieces: list[Sentence]) -> Sentence:
    return list(itertools.chain.from_iterable(pieces))


def slow_pair(chunks: list[Chunk], index: int, key: int, *, room: int, is_single: bool, is_swapped: bool) -> tuple:
    """First text, second text and label of one pair."""
    chunk = chunks[index]
    cut = 1 + draw(key, 0, len(chunk.pieces) - 1)
    first, second = flat(chunk.pieces[:cut]), flat(chunk.pieces[cut:])
    label = draw(key, 1, 2)
    if label and is_swapped:
        return second, first, label
    if label:
        others = [one for one in chunks if one.is_held_out == chunk.is_held_out and one.document != chunk.document]
        other = others[draw(key, 2, len(others))]
        place = other.first + draw(key, 3, len(other.pieces))
        is_last = chunk.stop == len(chunk.stretch)
        second = (
            other.stretch[place]
            if is_single
            else slow_run(other.stretch, place, len(second), is_last, room - len(first))
        )
    return first, second, label


tokens = st.tuples(st.integers(5, 300), st.booleans())
sentences = st.lists(tokens, min_size=1, max_size=15)
documents = st.lists(st.lists(sentences, min_size=1, max_size=7), max_size=5)


@pytest.mark.parametrize(("is_single", "is_swapped"), [(False, False), (False, True), (True, False), (True, True)])
@hypothesis.settings(max_examples=50)
@given(shards=st.lists(documents, min_size=1, max_size=3), max_length=st.integers(10, 40), data=st.data())
def test_pairs_are_their_slow_twins(
    is_single: bool, is_swapped: bool, shards: list[Documents], max_length: int, data: st.DataObject
) -> None:
    is_bert = data.draw(st.booleans())
    room = max_length - (3 if is_bert else 4)
    starts = np.cumsum([0] + [len(one) for shard in shards for document in shard for one in document]).tolist()
    edges = data.draw(st.lists(st.sampled_from(starts), unique=True, max_size=4).map(sorted))
    ranges = [(edges[at], edges[at + 1]) for at in range(0, len(edges) - 1, 2)]
    chunks = slow_chunks(shards, room, is_single, ranges)
    for side in (False, True):
        assume(len({one.document for one in chunks if one.is_held_out == side}) != 1 or is_swapped)
    blocks = PairBlocks(
        make_corpus(shards), max_length=max_length, cls_id=CLS, sep_id=SEP, is_bert=is_bert, is_single=is_single,
        is_swapped=is_swapped, held_out=np.array(ranges, np.int64).reshape(-1, 2),
    )  # fmt: skip
    assert blocks.held_out.tolist() == [chunk.is_held_out for chunk in chunks]
    assert blocks.num_unused_tokens == starts[-1] - sum(len(piece) for chunk in chunks for piece in chunk.pieces)
    keys = hash_u64(data.draw(st.integers(0, 1000)), np.arange(len(chunks)))
    packed = blocks.take(np.arange(len(chunks)), keys)
    ids: list[int] = []
    types: list[int] = []
    labels = []
    for index, key in enumerate(keys.tolist()):
        first, second, label = slow_pair(chunks, index, key, room=room, is_single=is_single, is_swapped=is_swapped)
        ids += [CLS, *(id for id, _ in first), SEP]
        types += [0] * (len(first) + 2)
        ids += [SEP] * (not is_bert) + [id for id, _ in second] + [SEP]
        types += [1] * (len(second) + 2 - is_bert)
        labels.append(label)
        assert packed.cu_seqlens[index + 1] == len(ids)
        assert packed.cu_seqlens[index + 1] - packed.cu_seqlens[index] <= blocks.lengths[index] <= max_length
    assert packed.ids.tolist() == ids
    assert packed.token_types is not None
    assert packed.token_types.tolist() == types
    assert packed.pair_labels is not None
    assert packed.pair_labels.tolist() == labels


def real_pairs(folder: Path, *, is_single: bool = False) -> PairBlocks:
    corpus = small_corpus(folder, num_documents=80)
    return PairBlocks(
        corpus, max_length=96, cls_id=CLS, sep_id=SEP, is_bert=False, is_single=is_single, is_swapped=False,
        held_out=held_out_ranges(corpus, num_tokens=2000),
    )  # fmt: skip


def test_labels_are_balanced_and_cuts_uniform(tmp_path: Path) -> None:
    blocks = real_pairs(tmp_path)
    index, copies = 3, 4000
    packed = blocks.take(np.full(copies, index), hash_u64(0, np.arange(copies)))
    assert packed.pair_labels is not None
    assert stats.binomtest(int(packed.pair_labels.sum()), copies).pvalue > 1e-4
    # Where A ends, among pairs that stand as in the text.
    ends = [
        int(np.flatnonzero(packed.special[start:stop])[1])
        for start, stop, label in zip(packed.cu_seqlens, packed.cu_seqlens[1:], packed.pair_labels, strict=False)
        if not label
    ]
    counts = np.unique(ends, return_counts=True)[1]
    assert len(counts) > 1
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("is_single", [False, True])
def test_length_does_not_tell_the_label(is_single: bool, tmp_path: Path) -> None:
    blocks = real_pairs(tmp_path, is_single=is_single)
    lengths, labels = [], []
    for epoch in range(20):
        packed = blocks.take(np.arange(len(blocks)), hash_u64(epoch, np.arange(len(blocks))))
        lengths.append(np.diff(packed.cu_seqlens))
        labels.append(packed.pair_labels)
    flat, classes = np.concatenate(lengths), np.concatenate(labels)
    # The best single bound on the length guesses the label hardly better than a coin.
    separation = stats.ks_2samp(flat[classes == 0], flat[classes == 1]).statistic
    assert separation < 0.12, separation


def test_a_short_document_at_the_end_is_taken_as_far_as_it_goes() -> None:
    long, short = [[(7, True)] * 5] * 40, [[(8, True)] * 3] * 2
    blocks = PairBlocks(
        make_corpus([[long, short]]), max_length=64, cls_id=CLS, sep_id=SEP, is_bert=False, is_single=False,
        is_swapped=False, held_out=NO_RANGES,
    )  # fmt: skip
    packed = blocks.take(np.zeros(50, np.int64), hash_u64(0, np.arange(50)))
    assert packed.pair_labels is not None
    texts = np.split(packed.ids, packed.cu_seqlens[1:-1])
    assert {int((text == 8).sum()) for text, label in zip(texts, packed.pair_labels, strict=True) if label} == {3, 6}
    assert not any((text == 8).any() for text, label in zip(texts, packed.pair_labels, strict=True) if not label)


def test_one_document_has_no_text_from_elsewhere() -> None:
    corpus = make_corpus([[[[(7, True)] * 5] * 20]])
    options = {"max_length": 32, "cls_id": CLS, "sep_id": SEP, "is_bert": False, "is_single": False}
    with pytest.raises(DataError, match="training text is of one document"):
        PairBlocks(corpus, is_swapped=False, held_out=NO_RANGES, **options)
    assert len(PairBlocks(corpus, is_swapped=True, held_out=NO_RANGES, **options)) > 0
