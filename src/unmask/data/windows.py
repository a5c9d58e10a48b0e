"""Long texts as overlapping windows, the same for all tasks, in training and use: nothing is cut off in silence."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from unmask.errors import UsageError
from unmask.tokenizer.load import Pieces, Sequence, Tokenizer

LongTexts = Literal["window", "cut"]
"""Texts that are longer than the input are read in windows, or only their first window is."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a text as the model takes it.

    Attributes:
        sequence: with special tokens, and with the text that stays the same in all windows.
        start: first piece of the moving text that is in it.
        end: piece behind the last one.
        first: place of that first piece in `sequence.input_ids`.
    """

    sequence: Sequence
    start: int
    end: int
    first: int


def windows(
    tokenizer: Tokenizer,
    text: Pieces,
    *,
    max_length: int,
    stride: int | None = None,
    fixed: Pieces | None = None,
    is_last: bool = True,
    long_texts: LongTexts = "window",
) -> Iterator[Window]:
    """Cut a text into windows that overlap.

    Args:
        tokenizer: puts the special tokens.
        text: the text that moves; an empty one gives one window.
        max_length: the most tokens of a window, special tokens included.
        stride: pieces from the start of one window to that of the next; no more than fit, so that none is skipped. By
            default half of `max_length`.
        fixed: a text that stands in every window, such as a question; its end is cut off where it is longer than
            `fixed_room`.
        is_last: whether the moving text is the second of the pair.
        long_texts: `cut` ends with the first window.

    Yields:
        The windows, in order; the last one ends with the text, if it is not cut.

    Raises:
        UsageError: `max_length` has no room for a piece of the text.
    """
    held = None if fixed is None else part(fixed, 0, fixed_room(tokenizer, max_length))
    room = max_length - tokenizer.num_special(held is not None) - (0 if held is None else len(held.ids))
    if room < 1:
        raise UsageError(
            "max-length",
            "max_length has no room for a text beside the special tokens",
            value=max_length,
            expected=f"at least {max_length + 1 - room}",
        )
    step = max(1, min(stride or max_length // 2, room))
    start = 0
    while True:
        end = min(len(text.ids), start + room)
        piece = part(text, start, end)
        if held is None:
            sequence = tokenizer.assemble(piece, max_length=max_length)
        elif is_last:
            sequence = tokenizer.assemble(held, piece, max_length=max_length)
        else:
            sequence = tokenizer.assemble(piece, held, max_length=max_length)
        owner = int(held is not None and is_last)
        owned = (sequence.sequence_ids == owner).nonzero()[0]
        yield Window(sequence, start, end, int(owned[0]) if len(owned) else 1)
        if end >= len(text.ids) or long_texts == "cut":
            return
        start += step


def fixed_room(tokenizer: Tokenizer, max_length: int) -> int:
    """The most pieces of a text that stands in every window: half of the room, so that the moving text gets as many."""
    return max(0, max_length - tokenizer.num_special(is_pair=True)) // 2


def part(pieces: Pieces, start: int, end: int) -> Pieces:
    """The pieces from `start` to `end`, without it; their offsets stay those of the whole text."""
    return Pieces(pieces.ids[start:end], pieces.offsets[start:end], pieces.word_starts[start:end])
