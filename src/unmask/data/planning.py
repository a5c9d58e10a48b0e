"""Where blocks begin: whole sentences, taken greedily; used by `packing` and `pairs`.

Tokens, sentences and documents are counted through all shards of a corpus.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from unmask.data.corpus import Corpus
from unmask.data.shards import Shard

# Jumps from block to block are doubled so many times before they are followed one by one; each doubling halves the
# steps in Python, and costs an array.
_DOUBLINGS = 2


@dataclass(frozen=True, slots=True)
class Pieces:
    """The sentences of a shard, those cut that are longer than allowed.

    Attributes:
        starts: token that each piece begins at, and the end, (n + 1,) int64.
        documents: piece that each document begins with, and the end, (d + 1,) int64.
        num_cut: sentences that were cut.
    """

    starts: np.ndarray
    documents: np.ndarray
    num_cut: int

    @property
    def owners(self) -> np.ndarray:
        """Number of each piece's document, (n,) int64."""
        return np.repeat(np.arange(len(self.documents) - 1), np.diff(self.documents))


def pieces_of(corpus: Corpus, *, longest: int) -> Iterator[Pieces]:
    """Give the sentences of each shard, cut at word starts (where there are any) into at most `longest` tokens."""
    first = 0
    for shard in corpus.shards:
        sentences = shard.sentence_starts.astype(np.int64)
        documents = shard.document_starts.astype(np.int64)
        extra, num_cut = _cuts(shard, sentences, longest)
        places = np.searchsorted(sentences, extra)
        yield Pieces(
            np.insert(sentences, places, extra) + first,
            documents + np.searchsorted(places, documents, "right"),
            num_cut,
        )
        first += len(shard.ids)


def pack_greedily(pieces: Pieces, *, room: int, separators: int, edges: np.ndarray) -> np.ndarray:
    """Fill block after block with pieces as long as they fit.

    Args:
        pieces: none longer than `room`.
        room: tokens of a block without the special ones that it always has.
        separators: special tokens that a block has more for each document but its first.
        edges: tokens at which a block begins in any case, in any order, (e,) int64.

    Returns:
        The piece that each block begins with, and the end, (b + 1,) int64.
    """
    starts = pieces.starts
    breaks = pieces.owners * separators
    # A block of the pieces a to b - 1 has starts[b] - starts[a] tokens and breaks[b - 1] - breaks[a] separators, so the
    # farthest b for every a is one search in a rising list.
    reach = np.searchsorted(starts[1:] + breaks, starts[:-1] + breaks + room, side="right")
    gates = gates_of(pieces, edges)
    return _follow(np.minimum(reach, np.repeat(gates[1:], np.diff(gates))))


def gates_of(pieces: Pieces, edges: np.ndarray) -> np.ndarray:
    """Pieces that begin at an edge, with the first one and the end, ascending, (g,) int64.

    Args:
        pieces: of one shard.
        edges: tokens at which pieces begin, in any order; those outside the shard do not matter.
    """
    inner = edges[(edges > pieces.starts[0]) & (edges < pieces.starts[-1])]
    return np.unique(np.concatenate([[0], np.searchsorted(pieces.starts, inner), [len(pieces.starts) - 1]]))


def _follow(reach: np.ndarray) -> np.ndarray:
    """Jump from piece to piece: 0, reach[0], reach[reach[0]], ... up to the end.

    Most of the jumps are made by doubling: the jumps of jumps are followed one by one, then those between filled in.
    """
    last = len(reach)
    levels = [np.append(reach, last)]
    for _ in range(_DOUBLINGS):
        levels.append(levels[-1][levels[-1]])
    jumps, here, chosen = levels[-1].data, 0, []
    while here < last:
        chosen.append(here)
        here = jumps[here]
    found = np.array(chosen, dtype=np.int64)
    for level in reversed(levels[:-1]):
        found = np.stack([found, level[found]], axis=1).reshape(-1)
    return np.append(found[: np.searchsorted(found, last)], last)


def _cuts(shard: Shard, sentences: np.ndarray, longest: int) -> tuple[np.ndarray, int]:
    """Tokens at which sentences are cut, ascending, and the number of such sentences."""
    long = np.flatnonzero(np.diff(sentences) > longest)
    here, stops = sentences[long], sentences[long + 1]
    bits, back = np.asarray(shard.word_bits), np.arange(longest)
    found = [np.empty(0, np.int64)]
    while len(here):
        # From the farthest place back to the nearest; where no word begins the first one, the farthest, is taken.
        places = (here + longest)[:, None] - back
        is_word = bits[places >> 3] >> (places & 7).astype(np.uint8) & 1
        here = here + longest - is_word.argmax(axis=1)
        found.append(here)
        is_long = stops - here > longest
        here, stops = here[is_long], stops[is_long]
    return np.sort(np.concatenate(found)), len(long)
