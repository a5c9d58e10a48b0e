"""FULL-SENTENCES blocks against a plain greedy loop."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.corpora import small_corpus
from unmask.data.packing import FullSentences
from unmask.data.shards import Shard
from unmask.errors import UsageError

CLS, SEP = 0, 2
# Documents of sentences of tokens; a token is a pair of id and "begins a word".
Documents = list[list[list[tuple[int, bool]]]]


def make_shard(documents: Documents) -> Shard:
    sentences = [sentence for document in documents for sentence in document]
    tokens = [token for sentence in sentences for token in sentence]
    lengths = np.cumsum([0] + [len(sentence) for sentence in sentences])
    counts = np.cumsum([0] + [len(document) for document in documents])
    return Shard(
        np.array([id for id, _ in tokens], np.uint16),
        lengths.astype(np.uint64),
        counts.astype(np.uint64),
        np.packbits(np.array([start for _, start in tokens], bool), bitorder="little"),
    )


def pieces_of(sentence: list[tuple[int, bool]], room: int) -> list[list[tuple[int, bool]]]:
    """A long sentence in parts of at most `room` tokens, cut before the last word start that fits."""
    pieces = []
    while len(sentence) > room:
        cut = next((place for place in range(room, 0, -1) if sentence[place][1]), room)
        pieces.append(sentence[:cut])
        sentence = sentence[cut:]
    return [*pieces, sentence]


def slow_blocks(documents: Documents, max_length: int) -> list[list[tuple[int, bool, bool]]]:
    """Greedy packing as one would explain it; tokens as (id, begins a word, is special)."""
    room = max_length - 2
    blocks: list[list[tuple[int, bool, bool]]] = []
    block: list[tuple[int, bool, bool]] = []
    for document in documents:
        is_first = True
        for sentence in document:
            for piece in pieces_of(sentence, room):
                separator = [(SEP, True, True)] if block and is_first else []
                if block and len(block) + len(separator) + len(piece) > room:
                    blocks.append(block)
                    block, separator = [], []
                block += separator + [(id, start, False) for id, start in piece]
                is_first = False
    if block:
        blocks.append(block)
    return [[(CLS, True, True), *block, (SEP, True, True)] for block in blocks]


def pack(shards: list[Shard], max_length: int) -> FullSentences:
    return FullSentences(SimpleNamespace(shards=tuple(shards)), max_length=max_length, cls_id=CLS, sep_id=SEP)


tokens = st.tuples(st.integers(5, 300), st.booleans())
sentences = st.lists(tokens, min_size=1, max_size=25)
documents = st.lists(st.lists(sentences, min_size=1, max_size=5), max_size=8)


@given(shards=st.lists(documents, min_size=1, max_size=3), max_length=st.integers(8, 40))
def test_blocks_are_those_of_the_greedy_loop(shards: list[Documents], max_length: int) -> None:
    blocks = pack([make_shard(shard) for shard in shards], max_length)
    expected = [block for shard in shards for block in slow_blocks(shard, max_length)]
    found = []
    for index in range(len(blocks)):
        block = blocks.get(index)
        found.append(list(zip(block.ids.tolist(), block.word_starts.tolist(), block.is_special.tolist(), strict=True)))
    assert found == expected
    assert blocks.lengths.tolist() == [len(block) for block in expected]
    num_long = sum(len(one) > max_length - 2 for shard in shards for document in shard for one in document)
    assert blocks.num_cut_sentences == num_long


def test_take_lays_blocks_end_to_end(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path)
    assert len(corpus.shards) > 2
    blocks = FullSentences(corpus, max_length=64, cls_id=CLS, sep_id=SEP)
    chosen = np.random.default_rng(0).permutation(len(blocks))
    packed = blocks.take(chosen)
    for place, index in enumerate(chosen):
        block = blocks.get(index)
        inside = slice(packed.cu_seqlens[place], packed.cu_seqlens[place + 1])
        assert np.array_equal(packed.ids[inside], block.ids)
        assert np.array_equal(packed.special[inside], block.is_special)
        assert np.array_equal(packed.word_starts[inside], block.word_starts)
    assert (packed.ids.dtype, packed.cu_seqlens.dtype) == (np.int32, np.int32)
    assert np.count_nonzero(~packed.special) == corpus.num_tokens
    assert blocks.fill == len(packed.ids) / (len(blocks) * 64) > 0.8


def test_no_token_is_lost_or_moved(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path)
    packed = (blocks := FullSentences(corpus, max_length=32, cls_id=CLS, sep_id=SEP)).take(np.arange(len(blocks)))
    assert np.array_equal(packed.ids[~packed.special], np.concatenate([shard.ids for shard in corpus.shards]))
    words = np.concatenate([shard.word_starts(0, len(shard.ids)) for shard in corpus.shards])
    assert np.array_equal(packed.word_starts[~packed.special], words)


def test_nothing_to_take() -> None:
    assert len(pack([make_shard([])], 16)) == 0
    assert pack([make_shard([[[(7, True)]]])], 16).take(np.array([], np.int64)).cu_seqlens.tolist() == [0]


@pytest.mark.parametrize("index", [-1, 1])
def test_number_outside_is_an_error(index: int) -> None:
    with pytest.raises(IndexError, match="from 0 to 0"):
        pack([make_shard([[[(7, True)]]])], 16).get(index)


def test_short_blocks_are_refused() -> None:
    with pytest.raises(UsageError, match="hold no text"):
        pack([make_shard([])], 7)
