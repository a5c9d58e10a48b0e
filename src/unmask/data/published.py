"""Rows of published sets that say with objects and lists what a table says with texts: Winograd schemas, CSL."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from unmask.errors import DataError

NOUN, PRONOUN = "[{}]", "_{}_"
NOTES = {
    "target": "the two spans of 'target' are marked in the text: [noun] and _pronoun_ (CLUEWSC, SuperGLUE's WSC)",
    "keyword": "the list 'keyword' is read as one text, with spaces between (CSL)",
}


def plain(row: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The same row in texts; rows of any other form as they are.

    Args:
        row: as the JSON holds it.
        place: `file:line`, for errors.

    Raises:
        DataError: a span of a Winograd schema does not stand where the row says.
    """
    if changed := _changed(row):
        return _CHANGES[changed](row, place)
    return dict(row)


def note_of(row: Mapping[str, Any]) -> str | None:
    """What `plain` does to a row, in words."""
    changed = _changed(row)
    return NOTES[changed] if changed else None


def _changed(row: Mapping[str, Any]) -> str | None:
    target, words = row.get("target"), row.get("keyword")
    if isinstance(target, dict) and {"span1_text", "span1_index", "span2_text", "span2_index"} <= target.keys():
        return "target" if isinstance(row.get("text"), str) else None
    is_csl = "abst" in row and isinstance(words, list) and all(isinstance(word, str) for word in words)
    return "keyword" if is_csl else None


def _marked(row: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The text with its spans marked, as CLUE's baselines do; offsets count characters, or words (SuperGLUE)."""
    text, target = row["text"], row["target"]
    spans = [
        (_found(text, target[f"{name}_text"], target[f"{name}_index"], place), target[f"{name}_text"], mark)
        for name, mark in (("span1", NOUN), ("span2", PRONOUN))
    ]
    for start, words, mark in sorted(spans, reverse=True):
        text = text[:start] + mark.format(words) + text[start + len(words) :]
    return {name: value for name, value in row.items() if name != "target"} | {"text": text}


def _found(text: str, span: object, index: object, place: str) -> int:
    """First character of a span."""
    number = int(str(index)) if str(index).isdecimal() else -1
    words = [match.start() for match in re.finditer(r"\S+", text)]
    starts = [number, *words[number : number + 1]] if number >= 0 else []
    for start in starts:
        if isinstance(span, str) and span and text[start : start + len(span)] == span:
            return start
    raise DataError(
        "span-mismatch",
        "the text does not hold the span where the row says, counted in characters or in words",
        place=place,
        value=f"{span!r} at {index}",
        remedy="correct the index, or drop the row",
    )


def _joined(row: Mapping[str, Any], place: str) -> dict[str, Any]:
    del place
    return {**row, "keyword": " ".join(row["keyword"])}


_CHANGES: dict[str, Callable[[Mapping[str, Any], str], dict[str, Any]]] = {"target": _marked, "keyword": _joined}
