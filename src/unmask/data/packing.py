"""Blocks of whole sentences, in the order of the text: FULL-SENTENCES and DOC-SENTENCES.

Section 4.2 of the RoBERTa paper: each input is packed with full sentences sampled contiguously from one or more
documents, at most 512 tokens in all; inputs may cross document boundaries, where an extra separator is added
(FULL-SENTENCES), or may not (DOC-SENTENCES). Attention in a block that crosses may be kept within each document.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unmask.data.corpus import Corpus
from unmask.data.heldout import inside
from unmask.data.planning import pack_greedily, pieces_of
from unmask.data.shards import Shard
from unmask.errors import UsageError

# What stands before a run of tokens.
NOTHING, OPENING, SEPARATOR = range(3)
Documents = Literal["joined", "isolated", "apart"]
_SEPARATORS: dict[Documents, int] = {"joined": 1, "isolated": 2, "apart": 0}


@dataclass(frozen=True, slots=True)
class PackedBlocks:
    """Blocks laid end to end.

    Attributes:
        ids: (T,) int32.
        cu_seqlens: where each text begins, and the end, (texts + 1,) int32; a block is one text, or one for each of
            its documents if these are isolated.
        block_starts: where each block begins, and the end, (B + 1,) int32.
        special: True at special tokens, (T,) bool.
        word_starts: True where a word begins, and at special tokens, (T,) bool.
        token_types: 0 in the first part of a pair and 1 in the second, (T,) int8; `None` without pairs.
        pair_labels: class of each pair, (B,) int64; `None` without pairs.
    """

    ids: np.ndarray
    cu_seqlens: np.ndarray
    block_starts: np.ndarray
    special: np.ndarray
    word_starts: np.ndarray
    token_types: np.ndarray | None = None
    pair_labels: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of a corpus' tokens in the order in which they are laid out; a separator stands behind each.

    Attributes:
        starts: first token, counted through all shards, (R,) int64.
        stops: token behind the last one, (R,) int64.
        heads: what stands before: `NOTHING`, `OPENING` (a text begins here) or `SEPARATOR`, (R,) int8.
        blocks: place of the run's block in the batch, ascending from 0 without gaps, (R,) int64.
    """

    starts: np.ndarray
    stops: np.ndarray
    heads: np.ndarray
    blocks: np.ndarray

    @property
    def widths(self) -> np.ndarray:
        """Tokens of each run with the special ones before and behind it, (R,) int64."""
        return self.stops - self.starts + (self.heads != NOTHING) + 1


class TokenReader:
    """Reads runs of tokens, counted through all shards, and lays them out.

    Args:
        shards: of the corpus.
        cls_id: id that opens a text.
        sep_id: id of a separator.
    """

    def __init__(self, shards: Sequence[Shard], *, cls_id: int, sep_id: int) -> None:
        # Plain arrays: slices and gathers of memory maps pay for their class each time.
        self._arrays = [(np.asarray(shard.ids), np.asarray(shard.word_bits)) for shard in shards]
        self._first_tokens = np.cumsum([0] + [len(shard.ids) for shard in shards])
        self._cls_id, self._sep_id = cls_id, sep_id

    def lay_out(self, runs: Runs) -> PackedBlocks:
        """Copy runs, each within one shard, into one batch."""
        sizes = runs.stops - runs.starts
        widths = runs.widths
        ends = np.cumsum(widths)
        total = int(ends[-1]) if len(ends) else 0
        ids = np.full(total, self._sep_id, np.int32)
        word_starts, special = np.ones(total, bool), np.ones(total, bool)
        shards = np.searchsorted(self._first_tokens, runs.starts, side="right") - 1
        for shard in np.unique(shards):
            here = shards == shard
            targets = _ranges((ends - 1 - sizes)[here], sizes[here])
            sources = _ranges((runs.starts - self._first_tokens[shards])[here], sizes[here])
            tokens, bits = self._arrays[shard]
            ids[targets] = tokens[sources]
            word_starts[targets] = bits[sources >> 3] >> (sources & 7) & 1
            special[targets] = False
        openings = (ends - widths)[runs.heads == OPENING]
        ids[openings] = self._cls_id
        firsts = np.concatenate([[True], runs.blocks[1:] != runs.blocks[:-1]])[: len(ends)]
        return PackedBlocks(
            ids,
            np.append(openings, total).astype(np.int32),
            np.append((ends - widths)[firsts], total).astype(np.int32),
            special,
            word_starts,
        )


class SentenceBlocks:
    """The blocks of a corpus: `<s> sentences </s>`.

    A block takes whole sentences as long as they fit. A sentence longer than a block is cut, at word starts where
    there are any. Blocks do not cross shards nor the edges of held-out text. `len()` is the number of blocks.

    Args:
        corpus: the corpus.
        max_length: tokens of a block at most, special ones counted.
        cls_id: id that opens a text.
        sep_id: id that closes it, and that stands between documents.
        documents: `joined`: a block may run into the next document, with one more `</s>` between the two; `isolated`:
            likewise, but each document's part is a text of its own with its own special tokens; `apart`: a block
            ends with its document.
        held_out: ranges of held-out text, as from `held_out_ranges`, (H, 2) int64.

    Attributes:
        lengths: tokens of each block, special ones counted, (N,) int32.
        held_out: whether each block is held out, (N,) bool.
        mean_length: tokens of a training block in the mean.
        num_cut_sentences: sentences longer than a block.
        num_unused_tokens: tokens of the corpus in no block; always 0.

    Raises:
        UsageError: `max_length` is too small for any text.
    """

    num_unused_tokens = 0

    def __init__(
        self,
        corpus: Corpus,
        *,
        max_length: int,
        cls_id: int,
        sep_id: int,
        documents: Documents = "joined",
        held_out: np.ndarray | None = None,
    ) -> None:
        check_length(max_length)
        ranges = np.empty((0, 2), np.int64) if held_out is None else held_out
        self._reader = TokenReader(corpus.shards, cls_id=cls_id, sep_id=sep_id)
        self._join = NOTHING if documents == "joined" else OPENING
        separators = _SEPARATORS[documents]
        starts, lengths, openings = [], [], []
        self.num_cut_sentences = 0
        for pieces in pieces_of(corpus, longest=max_length - 2):
            edges = np.append(ranges, pieces.starts[pieces.documents] if documents == "apart" else ranges)
            firsts = pack_greedily(pieces, room=max_length - 2, separators=separators, edges=edges)
            owners = pieces.owners
            breaks = owners[firsts[1:] - 1] - owners[firsts[:-1]]
            starts.append(pieces.starts[firsts[:-1]])
            lengths.append((np.diff(pieces.starts[firsts]) + breaks * separators + 2).astype(np.int32))
            openings.append(pieces.starts[pieces.documents[:-1]])
            self.num_cut_sentences += pieces.num_cut
        num_tokens = sum(len(shard.ids) for shard in corpus.shards)
        self._starts = np.concatenate([*starts, [num_tokens]])
        self._documents = np.concatenate([np.empty(0, np.int64), *openings])
        self.lengths = np.concatenate([np.empty(0, np.int32), *lengths])
        self.held_out = inside(self._starts[:-1], ranges)
        self.mean_length = mean_of(self.lengths[~self.held_out])

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> PackedBlocks:
        """Read blocks, laid end to end in the order of `indices`, (B,); `keys` decide nothing in this format."""
        indices = check_indices(indices, len(self))
        starts, stops = self._starts[indices], self._starts[indices + 1]
        first = np.searchsorted(self._documents, starts, side="right")
        counts = np.searchsorted(self._documents, stops, side="left") - first + 1
        blocks = np.repeat(np.arange(len(indices)), counts)
        places = _ranges(first - 1, counts)
        begins = np.maximum(self._documents[places], starts[blocks])
        is_first = np.concatenate([[True], blocks[1:] != blocks[:-1]])[: len(blocks)]
        ends = np.where(np.append(is_first[1:], True), stops[blocks], np.append(begins[1:], 0))
        heads = np.where(is_first, OPENING, self._join).astype(np.int8)
        return self._reader.lay_out(Runs(begins, ends[: len(begins)], heads, blocks))


def joined(parts: Sequence[PackedBlocks]) -> PackedBlocks:
    """Lay batches of one format end to end, in order."""
    if len(parts) == 1:
        return parts[0]
    sizes = np.cumsum([0] + [len(part.ids) for part in parts])

    def flat(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    def starts(name: str) -> np.ndarray:
        shifted = [getattr(part, name)[:-1] + size for part, size in zip(parts, sizes, strict=False)]
        return np.concatenate([*shifted, sizes[-1:]]).astype(np.int32)

    has_pairs = parts[0].pair_labels is not None
    return PackedBlocks(
        flat("ids"),
        starts("cu_seqlens"),
        starts("block_starts"),
        flat("special"),
        flat("word_starts"),
        flat("token_types") if has_pairs else None,
        flat("pair_labels") if has_pairs else None,
    )


def mean_of(lengths: np.ndarray) -> float:
    """The mean, 0 of nothing."""
    return float(lengths.mean()) if len(lengths) else 0.0


def check_length(max_length: int) -> None:
    """Refuse blocks that are too short for any text."""
    if max_length < 8:
        raise UsageError("max-length", "blocks this short hold no text", value=max_length, expected="8 or more")


def check_indices(indices: np.ndarray, count: int) -> np.ndarray:
    """Block numbers as int64, each in `range(count)`."""
    indices = np.asarray(indices, dtype=np.int64)
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < count:
        raise IndexError(f"blocks are numbered from 0 to {count - 1}")
    return indices


def _ranges(starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The numbers from each start on, `sizes` of each, one run after the other."""
    ends = np.cumsum(sizes)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + sizes, sizes)
