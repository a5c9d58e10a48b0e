"""FULL-SENTENCES packing: whole sentences, in the order of the text, up to the length of a block.

Section 4.2 of the RoBERTa paper: each input is packed with full sentences sampled contiguously from one or more
documents, at most 512 tokens in all; inputs may cross document boundaries, where an extra separator is added.
"""

import itertools
import logging
from dataclasses import dataclass

import numpy as np

from unmask.data.corpus import Corpus
from unmask.data.shards import Shard
from unmask.errors import UsageError

log = logging.getLogger("unmask")


@dataclass(frozen=True, slots=True)
class Block:
    """One input of pre-training.

    Attributes:
        ids: with special tokens, (n,) int32.
        word_starts: True where a word begins, and at special tokens, (n,) bool.
        is_special: True at `<s>` and `</s>`, (n,) bool.
    """

    ids: np.ndarray
    word_starts: np.ndarray
    is_special: np.ndarray


@dataclass(frozen=True, slots=True)
class PackedBlocks:
    """Blocks laid end to end.

    Attributes:
        ids: (T,) int32.
        cu_seqlens: where each block begins, and the end, (B + 1,) int32.
        special: True at special tokens, (T,) bool.
        word_starts: True where a word begins, and at special tokens, (T,) bool.
    """

    ids: np.ndarray
    cu_seqlens: np.ndarray
    special: np.ndarray
    word_starts: np.ndarray


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where the blocks of one shard begin.

    Attributes:
        starts: token that each block begins at, and the end, (b + 1,) int64.
        documents: token that each document begins at, (d,) int64.
        lengths: tokens of each block with special ones, (b,) int32.
        num_cut: sentences that were longer than a block.
    """

    starts: np.ndarray
    documents: np.ndarray
    lengths: np.ndarray
    num_cut: int


class FullSentences:
    """The blocks of a corpus: `<s> sentences </s>`, with one more `</s>` between two documents.

    A block takes whole sentences as long as they fit. A sentence longer than a block is cut, at word starts where
    there are any. Blocks do not cross shards. `len()` is the number of blocks.

    Args:
        corpus: the corpus.
        max_length: tokens of a block at most, special ones counted.
        cls_id: id that opens a block.
        sep_id: id that closes it, and that stands between documents.

    Attributes:
        lengths: tokens of each block, special ones counted, (N,) int32.
        fill: tokens in blocks, special ones counted, over blocks times `max_length`; 1 would leave no room unused.
        num_cut_sentences: sentences longer than a block.

    Raises:
        UsageError: `max_length` is too small for any text.
    """

    def __init__(self, corpus: Corpus, *, max_length: int, cls_id: int, sep_id: int) -> None:
        if max_length < 8:
            raise UsageError("max-length", "blocks this short hold no text", value=max_length, expected="8 or more")
        self._shards = corpus.shards
        self._cls_id, self._sep_id = cls_id, sep_id
        self._plans = [_plan(shard, max_length - 2) for shard in corpus.shards]
        self._first_blocks = np.cumsum([0] + [len(plan.lengths) for plan in self._plans])
        self.lengths = np.concatenate([np.empty(0, np.int32), *(plan.lengths for plan in self._plans)])
        self.fill = float(self.lengths.sum()) / max(1, len(self.lengths) * max_length)
        self.num_cut_sentences = sum(plan.num_cut for plan in self._plans)
        if self.num_cut_sentences:
            log.info("%d sentences are longer than a block of %d and were cut", self.num_cut_sentences, max_length)

    def __len__(self) -> int:
        return len(self.lengths)

    def get(self, index: int) -> Block:
        """Read one block."""
        packed = self.take(np.array([index]))
        return Block(packed.ids, packed.word_starts, packed.special)

    def take(self, indices: np.ndarray) -> PackedBlocks:
        """Read blocks, laid end to end in the order of `indices`, (B,)."""
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self):
            raise IndexError(f"blocks are numbered from 0 to {len(self) - 1}")
        cu_seqlens = np.concatenate([[0], np.cumsum(self.lengths[indices])]).astype(np.int32)
        total = int(cu_seqlens[-1])
        packed = PackedBlocks(
            np.full(total, self._sep_id, np.int32), cu_seqlens, np.ones(total, bool), np.ones(total, bool)
        )
        numbers = np.searchsorted(self._first_blocks, indices, side="right") - 1
        for index, number, start in zip(indices, numbers, cu_seqlens, strict=False):
            self._read(int(number), int(index - self._first_blocks[number]), packed, int(start))
        packed.ids[cu_seqlens[:-1]] = self._cls_id
        return packed

    def _read(self, number: int, block: int, packed: PackedBlocks, place: int) -> None:
        """Copy the text of one block, document by document, to behind its `<s>`; the rest stays `</s>`."""
        shard, plan = self._shards[number], self._plans[number]
        start, stop = int(plan.starts[block]), int(plan.starts[block + 1])
        words = shard.word_starts(start, stop)
        first = np.searchsorted(plan.documents, start, side="right")
        last = np.searchsorted(plan.documents, stop, side="left")
        bounds = [start, *plan.documents[first:last].tolist(), stop]
        place += 1
        for begin, end in itertools.pairwise(bounds):
            behind = place + end - begin
            packed.ids[place:behind] = shard.ids[begin:end]
            packed.word_starts[place:behind] = words[begin - start : end - start]
            packed.special[place:behind] = False
            place = behind + 1


def _plan(shard: Shard, room: int) -> _Plan:
    """Decide where the blocks of a shard begin.

    Args:
        shard: the shard.
        room: tokens of a block between its two special tokens.
    """
    sentences = shard.sentence_starts.astype(np.int64)
    documents = sentences[shard.document_starts[:-1].astype(np.int64)]
    bounds, num_cut = _cut_long_sentences(shard, sentences, room)
    # Separators before the sentence that begins at a bound, counted from the start of the shard.
    breaks = np.searchsorted(documents, bounds[:-1], side="right")
    # A block from bound a to bound b holds bounds[b] - bounds[a] tokens and breaks[b - 1] - breaks[a] separators, so
    # the farthest b for every a is one search in a rising list.
    reach = np.searchsorted(bounds[1:] + breaks, bounds[:-1] + breaks + room, side="right")
    chosen = _follow(reach)
    starts = bounds[chosen]
    separators = breaks[chosen[1:] - 1] - breaks[chosen[:-1]]
    return _Plan(starts, documents, (np.diff(starts) + separators + 2).astype(np.int32), num_cut)


def _follow(reach: np.ndarray) -> np.ndarray:
    """Jump from bound to bound: 0, reach[0], reach[reach[0]], ... up to the last bound."""
    jumps = reach.tolist()
    chosen, here, last = [0], 0, len(jumps)
    while here < last:
        here = jumps[here]
        chosen.append(here)
    return np.array(chosen, dtype=np.int64)


def _cut_long_sentences(shard: Shard, sentences: np.ndarray, room: int) -> tuple[np.ndarray, int]:
    """Add bounds inside sentences that are longer than a block; returns all bounds and the number of such sentences."""
    long = np.flatnonzero(np.diff(sentences) > room)
    extra: list[int] = []
    for sentence in long:
        start, stop = int(sentences[sentence]), int(sentences[sentence + 1])
        words = shard.word_starts(start, stop)
        here = start
        while stop - here > room:
            inside = np.flatnonzero(words[here + 1 - start : here + room + 1 - start])
            here += int(inside[-1]) + 1 if len(inside) else room
            extra.append(here)
    return np.sort(np.concatenate([sentences, np.array(extra, dtype=np.int64)])), len(long)
