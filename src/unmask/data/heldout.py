"""Which text of a corpus is never trained on: whole documents, or stretches of long ones, chosen by a fixed key.

The choice depends on the corpus and on the number of tokens alone, so that runs with other seeds, block lengths or
input formats are scored on the same text.
"""

import numpy as np

from unmask.data.corpus import Corpus
from unmask.data.order import hash_u64

_KEY = 0x5EED
LONGEST_STRETCH = 4096
MAX_SHARE = 0.1
# A small corpus gives up at least so many stretches, not one large piece.
_MIN_STRETCHES = 8


def held_out_ranges(corpus: Corpus, *, num_tokens: int) -> np.ndarray:
    """Choose the held-out text of a corpus.

    A document longer than 4,096 tokens (in a small corpus less) is divided into stretches that begin and end with
    sentences. Documents and stretches are taken in keyed order until they have `num_tokens` tokens or a tenth of the
    corpus.

    Args:
        corpus: the corpus.
        num_tokens: tokens to hold out, about.

    Returns:
        First token of each range and the token behind it, in order, apart from each other, (H, 2) int64; tokens are
        counted through all shards.
    """
    budget = min(num_tokens, int(corpus.num_tokens * MAX_SHARE))
    longest = min(LONGEST_STRETCH, max(1, budget // _MIN_STRETCHES))
    documents = [shard.sentence_starts[shard.document_starts].astype(np.int64) for shard in corpus.shards]
    lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(starts) for starts in documents)])
    counts = -(-lengths // longest)
    owners = np.repeat(np.arange(len(lengths)), counts)
    cells = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
    order = np.argsort(hash_u64(_KEY, np.arange(len(owners))), kind="stable")
    sizes = np.minimum(longest, lengths[owners] - cells * longest)[order]
    chosen = order[: np.searchsorted(np.cumsum(sizes), budget) + 1] if budget else order[:0]
    ranges, first_document, first_token = [np.empty((0, 2), np.int64)], 0, 0
    for shard, starts in zip(corpus.shards, documents, strict=True):
        local = owners[chosen] - first_document
        here = (local >= 0) & (local < len(starts) - 1)
        begins = starts[local[here]] + cells[chosen][here] * longest
        ends = np.minimum(begins + longest, starts[local[here] + 1])
        # A stretch holds the sentences that begin in its cell.
        places = np.searchsorted(shard.sentence_starts, np.stack([begins, ends], axis=1))
        ranges.append(shard.sentence_starts[places].astype(np.int64) + first_token)
        first_document += len(starts) - 1
        first_token += len(shard.ids)
    return _joined(np.concatenate(ranges))


def inside(starts: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Which of the places lie in a range.

    Args:
        starts: ascending tokens, (N,) int64.
        ranges: as from `held_out_ranges`, (H, 2) int64.

    Returns:
        (N,) bool.
    """
    flags = np.zeros(len(starts), dtype=bool)
    for first, stop in np.searchsorted(starts, ranges):
        flags[first:stop] = True
    return flags


def _joined(ranges: np.ndarray) -> np.ndarray:
    """Sort ranges, drop empty ones and join those that touch."""
    ranges = ranges[ranges[:, 0] < ranges[:, 1]]
    ranges = ranges[np.argsort(ranges[:, 0])]
    gaps = ranges[1:, 0] != ranges[:-1, 1]
    firsts = ranges[np.concatenate([[True], gaps])[: len(ranges)], 0]
    stops = ranges[np.concatenate([gaps, [True]])[: len(ranges)], 1]
    return np.stack([firsts, stops], axis=1)
