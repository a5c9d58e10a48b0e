"""Labelled stretches of a text, in characters; the words that they stand on; what to do with those that are off."""

import functools
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from unmask.data.tags import Chunk
from unmask.errors import DataError

Policy = Literal["strict", "contract", "expand", "drop"]
UnitRule = Literal["joined", "runs", "characters"]
Range = tuple[int, int]

# Scripts that are written without spaces: kana and Han (with their marks and full-width forms), Thai, Lao, Khmer,
# Myanmar. A span may begin at any of their characters.
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x312F),
    (0x31A0, 0x33FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF00, 0xFFEF),
    (0x20000, 0x323AF),
)
STRAY = "goes on with a chunk that has not begun: a tag I- where its scheme has B-"
_NO_WORD = "\u200b\ufeff"  # the zero-width space and the byte order mark
_JOINER = "\u200d"
_APOSTROPHES = "'\u2019"
_INNER = f".-/&@_{_APOSTROPHES}"
_INNER_DIGITS = ",:"


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A labelled stretch of a text: `text[start:end]`.

    Attributes:
        start: first character.
        end: character behind the last one.
        label: what it is, such as `PER`.
    """

    start: int
    end: int
    label: str


def is_unspaced(char: str) -> bool:
    """Whether a character belongs to a script that is written without spaces between words."""
    return any(low <= ord(char) <= high for low, high in _UNSPACED)


def units(text: str, rule: UnitRule = "runs") -> list[Range]:
    """Cut a text into the units that spans are made of; together they are all that is not white space.

    `runs`: a run of letters and digits; each character of a script without spaces; each other mark; combining marks,
    and what a zero-width joiner joins, belong to the character before. `characters`: each letter and digit alone.
    `joined`: as `runs`, but marks inside a word belong to it (`U.S.`, `al-Ani`, `3,5`), and an apostrophe with one or
    two letters behind it is a unit (`'s`), as labelled files of words mostly have it.

    Returns:
        Ranges of characters, in order.
    """
    found: list[Range] = []
    kinds: list[str] = []
    before, is_glued = "space", False
    for at, char in enumerate(text):
        kind = _kind(char)
        if kind == "extend" and before != "space":
            found[-1] = (found[-1][0], at + 1)
            is_glued = char == _JOINER and before == "mark"
            continue
        if kind != "space":
            if is_glued or (kind == before == "letter" and rule != "characters"):
                found[-1] = (found[-1][0], at + 1)
            else:
                found.append((at, at + 1))
                kinds.append(kind)
        before, is_glued = kind, False
    return _joined(text, found, kinds) if rule == "joined" else found


def faults(text: str, spans: Sequence[Span], words: Sequence[Range]) -> list[tuple[Span, str]]:
    """Say which spans do not stand on words, one after the other, and why.

    Args:
        text: that the spans are in.
        spans: in any order.
        words: ranges of its words, in order.
    """
    starts, ends = {start for start, _ in words}, {end for _, end in words}
    found = []
    for span in spans:
        part = text[max(0, span.start) : max(0, span.end)]
        if span.start >= span.end:
            found.append((span, "is empty"))
        elif span.start < 0 or span.end > len(text):
            found.append((span, f"reaches out of the text, which has {len(text)} characters"))
        elif part != part.strip():
            found.append((span, "begins or ends with white space"))
        elif span.start not in starts or span.end not in ends:
            found.append((span, "begins or ends inside a word"))
    order = sorted(spans)
    found += [(b, f"overlaps with {text[a.start : a.end]!r}") for a, b in pairwise(order) if b.start < a.end]
    return found


def fit(
    text: str,
    spans: Sequence[Span],
    words: Sequence[Range],
    *,
    policy: Policy | None = None,
    doubts: Sequence[tuple[Span, str]] = (),
    place: object = None,
) -> list[Chunk]:
    """Put spans onto words: each becomes a run of them.

    Args:
        text: that the spans are in.
        spans: in any order.
        words: ranges of its words, in order.
        policy: what becomes of a span that is off. `strict`: an error; `None` too, but a tag I- behind O begins a span,
            as conlleval has it. `contract`: the words that are wholly in it. `expand`: the words that it touches.
            `drop`: nothing. Of two that overlap the longer one stays.
        doubts: spans that the reader doubts, with the reason.
        place: of the row, for the error.

    Raises:
        DataError: a span is off and the policy is strict; the text is shown with the span marked.
    """
    off = faults(text, spans, words) + [doubt for doubt in doubts if policy is not None or doubt[1] != STRAY]
    if off and policy in (None, "strict"):
        span, reason = off[0]
        raise DataError(
            "misfit-span",
            f"the span {span.start} to {span.end}, '{span.label}', {reason}:\n{drawn(text, span)}",
            place=place,
            expected="spans that do not overlap and begin and end with a word",
            remedy="mend the file, or choose what becomes of such spans: span_policy contract, expand or drop",
        )
    if policy == "drop":
        lost = {span for span, _ in off}
        spans = [span for span in spans if span not in lost]
    starts, ends = [start for start, _ in words], [end for _, end in words]
    chunks = []
    for span in spans:
        first, end = bisect_right(ends, span.start), bisect_left(starts, span.end)
        if policy == "contract":
            first, end = bisect_left(starts, span.start), bisect_right(ends, span.end)
        if first < end:
            chunks.append(Chunk(first, end, span.label))
    return _apart(chunks)


def drawn(text: str, span: Span, width: int = 72) -> str:
    """A span's surroundings, with ^^^ under the span and its label: two lines, indented."""
    start = min(max(0, span.start), len(text))
    end = min(max(start, span.end), len(text))
    first = max(0, start - width // 2)
    last = min(len(text), max(end, first + width))
    shown = "".join(" " if char.isspace() else char for char in text[first:last])
    lead = sum(map(_columns, text[first:start]))
    marks = "^" * max(1, sum(map(_columns, text[start:end])))
    return f"    {shown}\n    {' ' * lead}{marks} {span.label}"


def _apart(chunks: list[Chunk]) -> list[Chunk]:
    """Chunks without those that overlap a longer one, in order."""
    in_order = sorted(chunks)
    if all(a.end <= b.first for a, b in pairwise(in_order)):
        return in_order
    kept: list[Chunk] = []
    for chunk in sorted(chunks, key=lambda one: (one.first - one.end, one.first)):
        if all(chunk.end <= other.first or other.end <= chunk.first for other in kept):
            kept.append(chunk)
    return sorted(kept)


@functools.cache
def _kind(char: str) -> str:
    category = unicodedata.category(char)
    if char.isspace() or category in ("Cc", "Zs", "Zl", "Zp") or char in _NO_WORD:
        return "space"
    if category[0] == "M" or category == "Cf" or "\U0001f3fb" <= char <= "\U0001f3ff":
        return "extend"
    if is_unspaced(char):
        return "single"
    return "letter" if category[0] in "LN" else "mark"


def _joined(text: str, found: list[Range], kinds: list[str]) -> list[Range]:
    """Runs with the marks inside a word put together."""
    merged: list[Range] = []
    at = 0
    while at < len(found):
        start, end = found[at]
        at += 1
        while kinds[at - 1] == "letter" and _is_inner(text, found[at - 1 : at + 2], kinds[at : at + 2]):
            end = found[at + 1][1]
            at += 2
        is_short = kinds[at - 1] == "letter" and text[end - 2 : end - 1] == "." and end - start > 2
        if is_short and at < len(found) and found[at] == (end, end + 1) and text[end] == ".":
            end, at = end + 1, at + 1
        is_clitic = text[start:end] in _APOSTROPHES and merged and merged[-1][1] == start and at < len(found)
        if is_clitic and found[at][0] == end and kinds[at] == "letter" and found[at][1] - end <= 2:
            end, at = found[at][1], at + 1
        merged.append((start, end))
    return merged


def _is_inner(text: str, three: list[Range], kinds: list[str]) -> bool:
    """Whether there are three units, and the middle one is a mark inside a word; `kinds` are those of the last two."""
    if kinds[:2] != ["mark", "letter"]:
        return False
    before, mark, behind = three
    char = text[mark[0] : mark[1]]
    if before[1] != mark[0] or mark[1] != behind[0] or len(char) != 1:
        return False
    if char in _APOSTROPHES:
        return behind[1] - behind[0] > 2
    is_number = text[before[1] - 1].isdigit() and text[behind[0]].isdigit()
    return char in _INNER or (char in _INNER_DIGITS and is_number)


def _columns(char: str) -> int:
    """Columns of a character on a terminal."""
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
