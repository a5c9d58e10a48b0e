"""Byte-level BPE learned on top of merges that exist (Sennrich et al. 2016, algorithm 1), on a table of words.

Counts are Python's integers, which have no upper bound: no pair is too frequent to be counted.
"""

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from tokenizers import Regex, pre_tokenizers

from unmask.tokenizer.formats import byte_alphabet

Pair = tuple[int, int]

_BYTES = byte_alphabet()
_HAN = pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated")


class PairTable:
    """How often each two pieces stand side by side in a table of words, kept up to date while pieces are merged.

    Args:
        words: ids of the pieces of each word.
        counts: how often each word occurs.
    """

    def __init__(self, words: Sequence[Sequence[int]], counts: Sequence[int]) -> None:
        self._words = [list(word) for word in words]
        self._weights = counts
        self._counts: defaultdict[Pair, int] = defaultdict(int)
        self._places: defaultdict[Pair, set[int]] = defaultdict(set)
        for index in range(len(self._words)):
            self._enter(index)
        self._heap = [(-count, pair) for pair, count in self._counts.items()]
        heapq.heapify(self._heap)

    def take(self) -> tuple[Pair, int] | None:
        """The most frequent pair that was not taken yet, with its count; of equal ones that of the lowest ids."""
        while self._heap:
            noted, pair = heapq.heappop(self._heap)
            count = self._counts.get(pair, 0)
            if count == -noted:
                return pair, count
            if count:
                heapq.heappush(self._heap, (-count, pair))
        return None

    def merge(self, pair: Pair, merged: int) -> None:
        """Put one piece in the place of a pair, wherever it stands."""
        grown: set[Pair] = set()
        for index in sorted(self._places[pair]):
            self._leave(index)
            self._words[index] = _merged(self._words[index], pair, merged)
            self._enter(index)
            grown.update(two for two in itertools.pairwise(self._words[index]) if merged in two)
        for two in grown:
            heapq.heappush(self._heap, (-self._counts[two], two))

    def _enter(self, index: int) -> None:
        for pair in itertools.pairwise(self._words[index]):
            self._counts[pair] += self._weights[index]
            self._places[pair].add(index)

    def _leave(self, index: int) -> None:
        for pair in itertools.pairwise(self._words[index]):
            self._counts[pair] -= self._weights[index]
            self._places[pair].discard(index)
            if not self._counts[pair]:
                del self._counts[pair]


def learn_merges(
    words: Sequence[tuple[list[int], int]],
    vocab: dict[str, int],
    *,
    num_pieces: int,
    first_id: int,
    min_frequency: int,
    max_piece_bytes: int,
) -> list[tuple[str, str]]:
    """Learn merges that go behind those of a byte-level vocabulary.

    Every merge makes a piece that the vocabulary lacked, so the old merges, which come first, never see one of them:
    cutting a word with old and new merges is cutting it with the old ones and going on with the new ones.

    Args:
        words: ids of the pieces of each word under the old merges, and how often it occurs.
        vocab: old pieces, in the byte-level alphabet, and their ids.
        num_pieces: the most merges to learn.
        first_id: id of the first new piece.
        min_frequency: pairs seen less often are not merged.
        max_piece_bytes: the longest new piece.

    Returns:
        The merges in their order; number i makes the piece of id `first_id + i`.
    """
    names, known = {id: piece for piece, id in vocab.items()}, set(vocab)
    runs: Counter[tuple[int, ...]] = Counter()
    for ids, count in words:
        for run in _without_han(ids, names):
            runs[run] += count
    table = PairTable(list(runs), list(runs.values()))
    merges: list[tuple[str, str]] = []
    while len(merges) < num_pieces and (taken := table.take()) is not None:
        pair, count = taken
        if count < min_frequency:
            break
        left, right = names[pair[0]], names[pair[1]]
        piece = left + right
        if piece in known or len(piece) > max_piece_bytes or not is_whole(piece):
            continue
        merged = first_id + len(merges)
        names[merged] = piece
        known.add(piece)
        merges.append((left, right))
        table.merge(pair, merged)
    return merges


def is_whole(piece: str) -> bool:
    """Whether a piece may be learned: whole characters without Han, one Han character, or a part of one character.

    Chinese has no spaces, so a merge over two Han characters could glue half a clause into one piece; and a piece
    that ends within a character can never be shown.

    Args:
        piece: in the byte-level alphabet.
    """
    raw = bytes(_BYTES[char] for char in piece)
    try:
        return len(_HAN.pre_tokenize_str(raw.decode("utf-8"))) == 1
    except UnicodeDecodeError:
        starts = [at for at, byte in enumerate(raw) if byte & 0xC0 != 0x80]
        return starts in ([], [0])


def _without_han(ids: list[int], names: dict[int, str]) -> Iterator[tuple[int, ...]]:
    """A word in runs between which nothing may be merged, see `is_whole`: cut before and behind each Han character.

    A pre-token of Chinese can be a whole clause; its runs are few, short, and the same in every clause.
    """
    raw = bytes(_BYTES[char] for id in ids for char in names[id])
    parts = [part for part, _ in _HAN.pre_tokenize_str(raw.decode("utf-8", "replace"))]
    cuts = set(itertools.accumulate(len(part.encode("utf-8")) for part in parts)) if len(parts) > 1 else set()
    begin = at = 0
    for index, id in enumerate(ids, 1):
        at += len(names[id])
        if at in cuts or index == len(ids):
            yield tuple(ids[begin:index])
            begin = index


def _merged(word: list[int], pair: Pair, merged: int) -> list[int]:
    found = []
    at = 0
    while at < len(word):
        is_pair = at + 1 < len(word) and (word[at], word[at + 1]) == pair
        found.append(merged if is_pair else word[at])
        at += 2 if is_pair else 1
    return found
