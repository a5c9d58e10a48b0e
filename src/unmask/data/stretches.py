"""Stretches of a text as pieces, and pieces as stretches of characters again, exact on any Unicode."""

from collections.abc import Sequence

import numpy as np

from unmask.tokenizer.load import Pieces


def pieces_of(pieces: Pieces, start: int, end: int) -> tuple[int, int] | None:
    """First and last piece that hold the characters from `start` to `end`, without it.

    A piece that the stretch cuts is taken whole. `None` where no piece holds any of them: white space, or a control
    character that the tokenizer drops.
    """
    solid = np.flatnonzero(pieces.offsets[:, 0] < pieces.offsets[:, 1])
    first = int(np.searchsorted(pieces.offsets[solid, 1], start, side="right"))
    last = int(np.searchsorted(pieces.offsets[solid, 0], end, side="left")) - 1
    return (int(solid[first]), int(solid[last])) if first <= last else None


def best_stretches(
    logits: np.ndarray, offsets: np.ndarray, *, longest: int, count: int
) -> list[tuple[tuple[int, int], float]]:
    """The stretches with the greatest sums of the logit of their first piece and that of their last one.

    Args:
        logits: of first and last piece, (m, 2) float.
        offsets: characters of each piece, (m, 2); pieces without any are no place to begin or end.
        longest: most pieces of a stretch.
        count: how many to give, at most.

    Returns:
        First character, character behind the last one, and sum; greatest sum first.
    """
    size = len(logits)
    width = min(longest, size)
    if not width:
        return []
    solid = offsets[:, :1] < offsets[:, 1:]
    starts, ends = np.where(solid, logits, -np.inf).T
    table = np.lib.stride_tricks.sliding_window_view(np.append(ends, np.full(width - 1, -np.inf)), width)
    sums = (starts[:, None] + table).ravel()
    kept = min(count, int((sums > -np.inf).sum()))
    if not kept:
        return []
    chosen = np.argpartition(-sums, kept - 1)[:kept]
    chosen = chosen[np.lexsort((chosen, -sums[chosen]))]
    first, more = np.divmod(chosen, width)
    characters = zip(offsets[first, 0].tolist(), offsets[first + more, 1].tolist(), strict=True)
    return list(zip(characters, sums[chosen].tolist(), strict=True))


def bare(text: str, start: int, end: int) -> tuple[int, int]:
    """The stretch without white space at its ends."""
    part = text[start:end]
    low = start + len(part) - len(part.lstrip())
    return low, low + len(part.strip())


def excerpt(text: str, spans: Sequence[tuple[int, int]], margin: int) -> tuple[str, list[tuple[int, int]]]:
    """What stands around some stretches of a long text, and where they are in it.

    Args:
        text: the whole text.
        spans: stretches that have to be in it; without any it is the text's beginning.
        margin: characters to be shown at both sides of each.

    Returns:
        The excerpt, with "..." where something is left out, and the stretches' places in it, in their order.
    """
    shown: list[tuple[int, int]] = []
    for start, end in sorted(spans) or [(0, 2 * margin)]:
        low, high = max(0, start - margin), min(len(text), end + margin)
        if shown and low <= shown[-1][1]:
            shown[-1] = shown[-1][0], max(high, shown[-1][1])
        else:
            shown.append((low, high))
    made, moves = "", []
    for low, high in shown:
        made += "... " if low else ""
        moves.append((low, high, len(made) - low))
        made += text[low:high] + (" " if high < len(text) else "")
    made += "..." if shown[-1][1] < len(text) else ""
    places = [next((a + move, b + move) for low, high, move in moves if low <= a and b <= high) for a, b in spans]
    return made, places
