"""Blocks of whole sentences against a plain greedy loop."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.corpora import small_corpus
from tests.unit.data.documents import CLS, SEP, Documents, make_shard, pieces_of
from unmask.data.packing import PackedBlocks, SentenceBlocks, joined
from unmask.data.shards import Shard
from unmask.errors import UsageError

KINDS = ("joined", "isolated", "apart")
Token = tuple[int, bool, bool]


def slow_texts(documents: Documents, max_length: int, kind: str, edges: set[int]) -> list[list[list[Token]]]:
    """Greedy packing as one would explain it: blocks of texts of tokens as (id, begins a word, is special).

    `edges` are tokens at which a block ends in any case.
    """
    blocks: list[list[list[tuple[int, bool]]]] = []  # Blocks of parts, one for each document in them.
    here = 0
    for document in documents:
        is_new_document = True
        for sentence in document:
            for piece in pieces_of(sentence, max_length - 2):
                block = blocks[-1] if blocks else []
                parts = len(block) + is_new_document
                specials = {"joined": 1 + parts, "isolated": 2 * parts, "apart": 2}[kind]
                fits = sum(map(len, block)) + len(piece) + specials <= max_length
                if not block or not fits or here in edges or (kind == "apart" and is_new_document):
                    blocks.append([[]])
                elif is_new_document:
                    block.append([])
                blocks[-1][-1].extend(piece)
                here += len(piece)
                is_new_document = False
    return [_with_special(block, kind) for block in blocks]


def _with_special(parts: list[list[tuple[int, bool]]], kind: str) -> list[list[Token]]:
    texts: list[list[Token]] = []
    for part in parts:
        if not texts or kind == "isolated":
            texts.append([(CLS, True, True)])
        texts[-1] += [(id, start, False) for id, start in part] + [(SEP, True, True)]
    return texts


def texts_of(packed: PackedBlocks) -> list[list[list[Token]]]:
    """The blocks of a batch in the form of `slow_texts`."""
    tokens = list(zip(packed.ids.tolist(), packed.word_starts.tolist(), packed.special.tolist(), strict=True))
    bounds = packed.cu_seqlens.tolist()
    blocks = []
    for start, stop in zip(packed.block_starts[:-1].tolist(), packed.block_starts[1:].tolist(), strict=True):
        inner = bounds[bounds.index(start) : bounds.index(stop) + 1]
        blocks.append([tokens[a:b] for a, b in itertools.pairwise(inner)])
    return blocks


def pack(shards: list[Shard], max_length: int, **more: object) -> SentenceBlocks:
    return SentenceBlocks(SimpleNamespace(shards=tuple(shards)), max_length=max_length, cls_id=CLS, sep_id=SEP, **more)


tokens = st.tuples(st.integers(5, 300), st.booleans())
sentences = st.lists(tokens, min_size=1, max_size=25)
documents = st.lists(st.lists(sentences, min_size=1, max_size=5), max_size=8)


@pytest.mark.parametrize("kind", KINDS)
@given(shards=st.lists(documents, min_size=1, max_size=3), max_length=st.integers(8, 40), data=st.data())
def test_blocks_are_those_of_the_greedy_loop(
    kind: str, shards: list[Documents], max_length: int, data: st.DataObject
) -> None:
    lengths = [[len(sentence) for document in shard for sentence in document] for shard in shards]
    starts = np.cumsum([0] + [length for shard in lengths for length in shard]).tolist()
    edges = data.draw(st.lists(st.sampled_from(starts), unique=True, max_size=6).map(sorted))
    ranges = np.array(edges[: len(edges) // 2 * 2], np.int64).reshape(-1, 2)
    blocks = pack([make_shard(shard) for shard in shards], max_length, documents=kind, held_out=ranges)
    expected, flags, first = [], [], 0
    for shard, sizes in zip(shards, lengths, strict=True):
        found = slow_texts(shard, max_length, kind, {int(edge) - first for edge in ranges.reshape(-1)})
        here = first
        for block in found:
            flags.append(any(start <= here < stop for start, stop in ranges.tolist()))
            here += sum(not token[2] for text in block for token in text)
        expected += found
        first += sum(sizes)
    assert texts_of(blocks.take(np.arange(len(blocks)))) == expected
    assert blocks.lengths.tolist() == [sum(map(len, block)) for block in expected]
    assert blocks.held_out.tolist() == flags
    num_long = sum(length > max_length - 2 for shard in lengths for length in shard)
    assert blocks.num_cut_sentences == num_long


@pytest.mark.parametrize("kind", KINDS)
def test_take_lays_blocks_end_to_end(kind: str, tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path)
    assert len(corpus.shards) > 2
    blocks = SentenceBlocks(corpus, max_length=64, cls_id=CLS, sep_id=SEP, documents=kind)
    chosen = np.random.default_rng(0).permutation(len(blocks))
    packed = blocks.take(chosen)
    assert texts_of(packed) == [texts_of(blocks.take(np.array([index])))[0] for index in chosen]
    assert texts_of(joined([blocks.take(chosen[:7]), blocks.take(chosen[7:])])) == texts_of(packed)
    assert (packed.ids.dtype, packed.cu_seqlens.dtype, packed.block_starts.dtype) == (np.int32, np.int32, np.int32)
    assert np.count_nonzero(~packed.special) == corpus.num_tokens
    assert blocks.mean_length == len(packed.ids) / len(blocks)


@pytest.mark.parametrize("kind", KINDS)
def test_no_token_is_lost_or_moved(kind: str, tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path)
    blocks = SentenceBlocks(corpus, max_length=32, cls_id=CLS, sep_id=SEP, documents=kind)
    packed = blocks.take(np.arange(len(blocks)))
    assert np.array_equal(packed.ids[~packed.special], np.concatenate([shard.ids for shard in corpus.shards]))
    words = np.concatenate([shard.word_starts(0, len(shard.ids)) for shard in corpus.shards])
    assert np.array_equal(packed.word_starts[~packed.special], words)


def test_long_chains_of_blocks_are_followed_to_the_end() -> None:
    # Far more blocks than one doubled jump spans, and a rest that no jump hits exactly.
    documents: Documents = [[[(7, True)] * 5] * 3001]
    blocks = pack([make_shard(documents)], 12)
    assert blocks.lengths.tolist() == [12] * 1500 + [7]


def test_nothing_to_take() -> None:
    assert len(pack([make_shard([])], 16)) == 0
    assert pack([make_shard([[[(7, True)]]])], 16).take(np.array([], np.int64)).cu_seqlens.tolist() == [0]


@pytest.mark.parametrize("index", [-1, 1])
def test_number_outside_is_an_error(index: int) -> None:
    with pytest.raises(IndexError, match="from 0 to 0"):
        pack([make_shard([[[(7, True)]]])], 16).take(np.array([index]))


def test_short_blocks_are_refused() -> None:
    with pytest.raises(UsageError, match="hold no text"):
        pack([make_shard([])], 7)
