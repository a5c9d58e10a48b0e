"""Pairs of texts with a label: SEGMENT-PAIR and SENTENCE-PAIR of section 4.2 of the RoBERTa paper.

Next-sentence prediction (Devlin et al. 2019, section 3.1): the second text is the true continuation (0) or comes from
another document (1). Sentence order (Lan et al. 2020, section 3.1): the second text always continues the first, and
the two are in order (0) or swapped (1).
"""

from dataclasses import dataclass

import numpy as np

from unmask.data.corpus import Corpus
from unmask.data.heldout import inside
from unmask.data.order import below, stream_u64
from unmask.data.packing import (
    NOTHING,
    OPENING,
    SEPARATOR,
    PackedBlocks,
    Runs,
    TokenReader,
    check_indices,
    check_length,
    mean_of,
)
from unmask.data.planning import Pieces, gates_of, pack_greedily, pieces_of
from unmask.errors import DataError

# What the keyed numbers of a sample are for.
_CUT, _LABEL, _OTHER, _PLACE = range(4)


@dataclass(frozen=True, slots=True)
class _Chunks:
    """Runs of two pieces or more, each of which gives one pair; pieces are counted through all shards.

    Attributes:
        firsts: first piece of each, (N,) int64.
        stops: piece behind the last one, (N,) int64.
        openings: first piece of its document, or of its stretch of held-out or training text, (N,) int64.
        limits: piece behind that, (N,) int64.
        documents: its document, ascending, (N,) int64.
    """

    firsts: np.ndarray
    stops: np.ndarray
    openings: np.ndarray
    limits: np.ndarray
    documents: np.ndarray


class PairBlocks:
    """The pairs of a corpus: `<s> A </s></s> B </s>`, in the BERT form `[CLS] A [SEP] B [SEP]`.

    The text is cut into chunks of whole sentences of one document, once for all; where a chunk is divided into A and
    B, the label, and the text from elsewhere that stands for B, are decided by the keys given to `take`. Sentences
    longer than half a block are cut, and count as several. `len()` is the number of chunks.

    Args:
        corpus: the corpus.
        max_length: tokens of a pair at most, special ones counted.
        cls_id: id that opens a pair.
        sep_id: id that closes each text.
        is_bert: one separator between the two texts instead of two.
        is_single: A and B are one sentence each, not as many as fit.
        is_swapped: the label is that of sentence order, not of next-sentence prediction.
        held_out: ranges of held-out text, as from `held_out_ranges`, (H, 2) int64.

    Attributes:
        lengths: most tokens of each pair, special ones counted, (N,) int32.
        held_out: whether each pair is held out, (N,) bool; text for B comes from the same side.
        mean_length: tokens of a training pair that stands as in the text, in the mean.
        num_cut_sentences: sentences longer than half a block.
        num_unused_tokens: tokens of sentences without another one of their document to pair with.

    Raises:
        UsageError: `max_length` is too small for any text.
        DataError: there is no other document to take text from.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        max_length: int,
        cls_id: int,
        sep_id: int,
        is_bert: bool,
        is_single: bool,
        is_swapped: bool,
        held_out: np.ndarray,
    ) -> None:
        check_length(max_length)
        self._reader = TokenReader(corpus.shards, cls_id=cls_id, sep_id=sep_id)
        self._head = NOTHING if is_bert else SEPARATOR
        self._is_single, self._is_swapped = is_single, is_swapped
        num_special = 3 if is_bert else 4
        self._room = max_length - num_special
        parts = list(pieces_of(corpus, longest=self._room // 2))
        self._starts = np.concatenate([[0], *(part.starts[1:] for part in parts)])
        self._chunks = self._cut(parts, held_out)
        begins, ends = self._starts[self._chunks.firsts], self._starts[self._chunks.stops]
        self.held_out = inside(begins, held_out)
        self.num_cut_sentences = sum(part.num_cut for part in parts)
        self.num_unused_tokens = int(self._starts[-1] - (ends - begins).sum())
        self.mean_length = mean_of((ends - begins)[~self.held_out] + num_special)
        self.lengths = (ends - begins + num_special if is_swapped else np.full(len(self), max_length)).astype(np.int32)
        if not is_swapped:
            self._check_documents()
        self._sides = [np.flatnonzero(self.held_out == side) for side in (False, True)]

    def __len__(self) -> int:
        return len(self._chunks.firsts)

    def take(self, indices: np.ndarray, keys: np.ndarray) -> PackedBlocks:
        """Read pairs, laid end to end.

        Args:
            indices: of the chunks, (B,).
            keys: that decide about each pair, (B,) uint64.
        """
        indices = check_indices(indices, len(self))
        firsts, stops = self._chunks.firsts[indices], self._chunks.stops[indices]
        cuts = firsts + 1 + below(stream_u64(keys, np.array(_CUT)), stops - firsts - 1)
        labels = below(stream_u64(keys, np.array(_LABEL)), 2)
        first = np.stack([self._starts[firsts], self._starts[cuts]], axis=1)
        second = np.stack([self._starts[cuts], self._starts[stops]], axis=1)
        changed = np.flatnonzero(labels)
        if self._is_swapped:
            first[changed], second[changed] = second[changed], first[changed]
        else:
            sizes, rooms = second[changed, 1] - second[changed, 0], self._room - (first[changed, 1] - first[changed, 0])
            second[changed] = self._elsewhere(indices[changed], keys[changed], sizes, rooms)
        spans = np.stack([first, second], axis=1).reshape(-1, 2)
        heads = np.tile(np.array([OPENING, self._head], np.int8), len(indices))
        runs = Runs(spans[:, 0], spans[:, 1], heads, np.repeat(np.arange(len(indices)), 2))
        packed = self._reader.lay_out(runs)
        types = np.repeat(np.tile(np.array([0, 1], np.int8), len(indices)), runs.widths)
        return PackedBlocks(
            packed.ids, packed.cu_seqlens, packed.block_starts, packed.special, packed.word_starts, types, labels
        )

    def _cut(self, parts: list[Pieces], held_out: np.ndarray) -> _Chunks:
        """Cut the pieces of all shards into chunks; pieces that are left alone belong to none."""
        found, piece, document = [], 0, 0
        for part in parts:
            edges = np.append(held_out, part.starts[part.documents])
            gates = gates_of(part, edges)
            if self._is_single:
                bounds = _twos(gates)
            else:
                bounds = pack_greedily(part, room=self._room, separators=0, edges=edges)
            firsts, stops = bounds[:-1], bounds[1:]
            places = np.searchsorted(gates, firsts, side="right")
            owners = part.owners[firsts]
            is_pair = stops - firsts >= 2
            pieces = np.stack([firsts, stops, gates[places - 1], gates[places % len(gates)]]) + piece
            found.append(np.concatenate([pieces, owners[None] + document])[:, is_pair])
            piece += len(part.starts) - 1
            document += len(part.documents) - 1
        return _Chunks(*np.concatenate([np.empty((5, 0), np.int64), *found], axis=1))

    def _elsewhere(self, indices: np.ndarray, keys: np.ndarray, sizes: np.ndarray, rooms: np.ndarray) -> np.ndarray:
        """Text of another document for each pair: whole sentences, about as long as what it stands for.

        Otherwise a model could tell the labels by the lengths.

        Args:
            indices: of the pairs, (B,).
            keys: of the pairs, (B,) uint64.
            sizes: tokens of the true second text, (B,) int64.
            rooms: most tokens, (B,) int64.

        Returns:
            First token and the token behind the last, (B, 2) int64.
        """
        others = self._others(indices, keys)
        firsts, stops, limits = self._chunks.firsts[others], self._chunks.stops[others], self._chunks.limits[others]
        begins = firsts + below(stream_u64(keys, np.array(_PLACE)), stops - firsts)
        if self._is_single:
            return self._starts[np.stack([begins, begins + 1], axis=1)]
        # Chunks are as full as they can be, but for the last one of a document.
        is_last = self._chunks.stops[indices] == self._chunks.limits[indices]
        wanted = np.where(is_last, sizes, rooms)
        # Near the end of a document there may be too little text: begin earlier.
        latest = np.searchsorted(self._starts, self._starts[limits] - wanted, side="right") - 1
        begins = np.maximum(np.minimum(begins, latest), self._chunks.openings[others])
        tokens = self._starts[begins]
        ends = np.minimum(np.searchsorted(self._starts, tokens + wanted), limits)
        over, under = self._starts[ends] - tokens - wanted, tokens + wanted - self._starts[ends - 1]
        ends -= (over > under) | (over > rooms - wanted)
        behind = self._starts[np.maximum(ends, begins + 1)]
        return np.stack([tokens, np.where(behind - tokens > rooms, tokens + sizes, behind)], axis=1)

    def _others(self, indices: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """A chunk of another document on the same side for each pair, (B,) int64."""
        others = np.empty_like(indices)
        draws = stream_u64(keys, np.array(_OTHER))
        for side, numbers in enumerate(self._sides):
            here = np.flatnonzero(self.held_out[indices] == bool(side))
            documents = self._chunks.documents[numbers]
            own = self._chunks.documents[indices[here]]
            # Draw among the chunks of the other documents: those of the own one stand side by side and are jumped over.
            first, stop = np.searchsorted(documents, own, "left"), np.searchsorted(documents, own, "right")
            chosen = below(draws[here], len(numbers) - (stop - first)) if len(here) else here
            others[here] = numbers[np.where(chosen >= first, chosen + stop - first, chosen)]
        return others

    def _check_documents(self) -> None:
        for side, name in ((False, "training"), (True, "held-out")):
            documents = self._chunks.documents[self.held_out == side]
            if len(documents) and documents[0] == documents[-1]:
                raise DataError(
                    "one-document",
                    f"all {name} text is of one document: next-sentence prediction needs text from another",
                    remedy="build the corpus with more documents (blank lines between them), or take mlm+sop",
                )


def _twos(gates: np.ndarray) -> np.ndarray:
    """Bounds of runs of two pieces between gates, the last one of each shorter where the number is odd."""
    counts = -(-np.diff(gates) // 2)
    places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.append(np.repeat(gates[:-1], counts) + 2 * places, gates[-1])
