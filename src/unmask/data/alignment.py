"""Words and pieces of one text, by their characters: each word gets pieces of its own, in one window of a long text."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from unmask.data.windows import Window
from unmask.tokenizer.load import Pieces, Tokenizer


def encode_words(tokenizer: Tokenizer, texts: list[str], words: Sequence[np.ndarray]) -> list[Pieces]:
    """Cut texts into pieces none of which reaches over the edge of a word.

    The whole text is encoded, as in pre-training. Where a piece covers several words, such as two Chinese characters,
    its text is cut at their edges and each part encoded alone.

    Args:
        tokenizer: gives the pieces.
        texts: n of them.
        words: ranges of characters of each text's words, (w, 2) int32, in order and without overlap.

    Raises:
        DataError: a text holds half of a surrogate pair.
    """
    return [
        _cut_at_words(tokenizer, text, pieces, ranges)
        for text, pieces, ranges in zip(texts, tokenizer.encode(texts), words, strict=True)
    ]


def piece_ranges(pieces: Pieces, words: np.ndarray) -> np.ndarray:
    """First piece of each word, and the one behind its last, (w, 2) int64; equal for a word without pieces.

    Args:
        pieces: of the text.
        words: ranges of characters, (w, 2) int32, in order.
    """
    starts, ends = pieces.offsets[:, 0], pieces.offsets[:, 1]
    first = np.searchsorted(ends, words[:, 0], side="right")
    end = np.searchsorted(starts, words[:, 1], side="left")
    return np.stack([first, np.maximum(first, end)], axis=1)


def owners(parts: Sequence[Window], ranges: np.ndarray) -> np.ndarray:
    """The window that decides each word: of those that have its first piece, where it stands farthest from an edge.

    Args:
        parts: windows of one text, in order.
        ranges: of each word's pieces, (w, 2).

    Returns:
        (w,) int64, ascending; -1 where no window has the word's first piece, or the word has none.
    """
    starts = np.array([one.start for one in parts])[:, None]
    ends = np.array([one.end for one in parts])[:, None]
    room = np.minimum(ranges[:, 0] - starts, ends - ranges[:, 1])
    is_in = (starts <= ranges[:, 0]) & (ranges[:, 0] < ends) & (ranges[:, 0] < ranges[:, 1])
    best = np.where(is_in, room, np.iinfo(np.int64).min).argmax(axis=0)
    return np.where(is_in.any(axis=0), best, -1)


def _cut_at_words(tokenizer: Tokenizer, text: str, pieces: Pieces, words: np.ndarray) -> Pieces:
    starts, ends = pieces.offsets[:, 0], pieces.offsets[:, 1]
    # Pieces that share a character (bytes of one) stay together: each run of them is cut as a whole.
    begins = np.flatnonzero(np.append(True, starts[1:] >= np.maximum.accumulate(ends)[:-1])[: len(starts)])
    stops = np.append(begins[1:], len(starts))
    lows, highs = starts[begins], np.maximum.reduceat(ends, begins) if len(begins) else ends
    first = np.searchsorted(words[:, 1], lows, side="right")
    last = np.searchsorted(words[:, 0], highs, side="left") - 1
    crossing = np.flatnonzero(first < last)
    if not len(crossing):
        return pieces
    parts: list[Pieces] = []
    at = 0
    for run in crossing:
        begin, stop = int(begins[run]), int(stops[run])
        parts.append(_slice(pieces, at, begin))
        edges = [int(lows[run]), *(int(edge) for edge in words[first[run] + 1 : last[run] + 1, 0]), int(highs[run])]
        leads = bool(pieces.word_starts[begin]) and edges[0] > 0 and text[edges[0] - 1] == " "
        parts += _encode_parts(tokenizer, text, edges, leads)
        at = stop
    parts.append(_slice(pieces, at, len(starts)))
    return Pieces(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.word_starts for part in parts]),
    )


def _encode_parts(tokenizer: Tokenizer, text: str, edges: list[int], leads: bool) -> list[Pieces]:
    """Pieces of the stretches between edges; `leads` says that the first one has its space before it in its piece."""
    spans = list(pairwise(edges))
    if leads:
        spans[0] = (spans[0][0] - 1, spans[0][1])
    encoded = tokenizer.encode([text[start:end] for start, end in spans])
    return [
        Pieces(part.ids, part.offsets + np.int32(start), part.word_starts)
        for part, (start, _) in zip(encoded, spans, strict=True)
    ]


def _slice(pieces: Pieces, start: int, end: int) -> Pieces:
    return Pieces(pieces.ids[start:end], pieces.offsets[start:end], pieces.word_starts[start:end])
