"""Rows of published sets that say with objects and lists what a table says with texts: Winograd schemas, CSL."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from unmask.errors import DataError

NOUN, PRONOUN = ("_", "_"), ("[", "]")  # the marks of CLUE's baseline
NOTES = {
    "target": "the two spans of 'target' are marked in the text: _noun_ and [pronoun] (CLUEWSC, SuperGLUE's WSC)",
    "keyword": "the list 'keyword' is read as one text, with spaces between (CSL)",
}
_TARGET = {"span1_text", "span1_index", "span2_text", "span2_index"}


def kind_of(row: Mapping[str, Any]) -> str | None:
    """Which of `NOTES` holds for a row; `None` for a row of texts."""
    target, words = row.get("target"), row.get("keyword")
    if isinstance(target, dict) and target.keys() >= _TARGET:
        return "target" if isinstance(row.get("text"), str) else None
    is_csl = "abst" in row and isinstance(words, list) and all(isinstance(word, str) for word in words)
    return "keyword" if is_csl else None


def plain(row: dict[str, Any], place: str) -> dict[str, Any]:
    """The same row in texts; a row of any other form as it is.

    Args:
        row: as the JSON holds it.
        place: `file:line`, for errors.

    Raises:
        DataError: a span of a Winograd schema does not stand where the row says.
    """
    kind = kind_of(row)
    return _CHANGES[kind](row, place) if kind else row


def _marked(row: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The text with its spans marked. Indices count words (SuperGLUE) or characters (CLUE), both of a row alike."""
    text, target = row["text"], row["target"]
    named = [(target[f"{name}_text"], target[f"{name}_index"]) for name in ("span1", "span2")]
    spans = _found(text, named, _word_starts(text)) or _found(text, named, range(len(text)))
    if not spans:
        raise DataError(
            "span-mismatch",
            "the text does not hold both spans where the row says, counted in words or in characters",
            place=place,
            value="; ".join(f"{span!r} at {index}" for span, index in named),
            remedy="correct the index, or drop the row; --skip-bad leaves such rows out",
        )
    marks = []  # where each goes: at one place the end of the inner span first, and the outer one begins first
    for (start, end), (opening, closing) in zip(spans, (NOUN, PRONOUN), strict=True):
        marks += [(start, 1, start - end, opening), (end, 0, end - start, closing)]
    for at, _, _, mark in sorted(marks, reverse=True):
        text = text[:at] + mark + text[at:]
    return {name: value for name, value in row.items() if name != "target"} | {"text": text}


def _found(text: str, named: list[tuple[Any, Any]], starts: Any) -> list[tuple[int, int]]:
    """Characters of all spans, each at the place with its number; none if one of them does not stand there.

    As published, a span may differ from its text in case and white space, and in marks at either end.
    """
    found = []
    for span, index in named:
        words = re.sub(r"^\W+|\W+$", "", span).split() if isinstance(span, str) else []
        number = int(str(index)) if str(index).isdecimal() else len(starts)
        if not words or number >= len(starts):
            return []
        pattern = re.compile(r"[^\w\s]*(" + r"\s+".join(map(re.escape, words)) + ")", re.IGNORECASE)
        if not (match := pattern.match(text, starts[number])):
            return []
        found.append(match.span(1))
    return found


def _word_starts(text: str) -> list[int]:
    return [match.start() for match in re.finditer(r"\S+", text)]


def _joined(row: Mapping[str, Any], place: str) -> dict[str, Any]:
    del place
    return {**row, "keyword": " ".join(row["keyword"])}


_CHANGES: dict[str, Callable[[Mapping[str, Any], str], dict[str, Any]]] = {"target": _marked, "keyword": _joined}
