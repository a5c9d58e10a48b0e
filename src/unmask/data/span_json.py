"""Texts with labelled character spans, or words with tags, as JSON objects."""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unmask.data.conll import table_of
from unmask.data.files import JSON_LINES_SUFFIXES, kind, parse_json, read_lines
from unmask.data.rows import Table
from unmask.data.spans import Span
from unmask.data.tags import OUTSIDE, bad_tag, is_chunk_tag
from unmask.errors import DataError

SPAN_KEYS = ("spans", "entities", "label", "labels", "annotations", "ner")
_SURE_KEYS = ("spans", "entities")  # with these names, an empty list too is one of spans
TEXT_KEYS = ("text", "sentence", "data", "content")
WORD_KEYS = ("tokens", "words")
TAG_KEYS = ("ner_tags", "tags", "labels", "pos_tags", "upos", "ner", "label")
_STARTS = ("start", "start_offset", "begin", "start_idx", "from")
_ENDS = ("end", "end_offset", "stop", "end_idx", "to")
_LABELS = ("label", "type", "entity", "tag", "entity_group", "class", "category")
_MENTIONS = ("text", "word", "mention", "surface", "value")
OTHER_TEXT = "does not hold the text that it is said to: '{}'; its numbers are off"

Object = dict[str, Any]


def looks_like_span_json(path: Path, head: str) -> bool:
    """Whether an object at the start holds a text and a list of spans, or words and tags.

    Args:
        path: its suffix is one of JSON.
        head: the file's first characters; the file itself is looked at if its first object is longer.
    """
    if kind(path) not in JSON_LINES_SUFFIXES or not head.lstrip().startswith("{"):
        return False
    found = list(_complete(head)) or [value for _, value in itertools.islice(_objects(path), 1)]
    return any(_word_keys(value) is not None or _span_keys(value) is not None for value in found)


def read_span_json(path: Path) -> Table:
    """Read texts with character spans, one object a line or printed over several lines.

    `{"text", "spans": [{"start", "end", "label"}]}`, with the usual other names of the keys (`entities`,
    `start_offset`, `type`, ...); spans as lists `[start, end, label]`; CLUENER's nested form, `{"text", "label":
    {label: {mention: [[first, last]]}}}`, whose ends are inclusive, as no other ones are; words with tags, `{"tokens":
    [...], "ner_tags": ["B-PER", ...]}`. Where a span names its own text, the two are compared.

    Args:
        path: the file, compressed or not.

    Returns:
        Rows with `text`, `words` (None for spans) and `spans`, and `doubts` for spans whose own text is another.

    Raises:
        DataError: an object has no text or spans, or a span no number; the line is named.
    """
    lines, values = [], []
    for line, value in _objects(path):
        lines.append(line)
        values.append(value)
    if not values:
        raise DataError("empty-file", "the file has no rows", place=path, expected="one JSON object on each line")
    keys = next((keys for value in values if (keys := _word_keys(value)) is not None), None)
    if keys is not None:
        return _from_words(path, lines, values, keys)
    chosen = next((keys for value in values if (keys := _span_keys(value)) is not None), None)
    if chosen is None:
        raise DataError(
            "no-spans-key",
            "the object holds no text with spans",
            place=f"{path}:{lines[0]}",
            value=", ".join(values[0])[:200],
            expected='{"text": "...", "spans": [{"start": 0, "end": 5, "label": "PER"}]}',
        )
    rows = [_row(f"{path}:{line}", value, *chosen) for line, value in zip(lines, values, strict=True)]
    return Table(path, ("text", "words", "spans"), rows, lines, "tagged")


def _objects(path: Path) -> Iterator[tuple[int, Object]]:
    """Objects with the line that each begins at: one a line, or each over several, ended by a `}` without indent."""
    decoder = json.JSONDecoder()
    start = 0
    held: list[str] = []
    for number, line in enumerate(read_lines(path), 1):
        if not held and not line.strip():
            continue
        start = start if held else number
        held.append(line)
        if line.startswith("}") or (len(held) == 1 and line.rstrip() != "{"):
            yield start, parse_json(path, start, "\n".join(held), decoder)
            held = []
    if held:
        yield start, parse_json(path, start, "\n".join(held), decoder)


def _complete(head: str) -> Iterator[Object]:
    """The objects that are whole in the head of a file."""
    decoder, rest = json.JSONDecoder(), head.lstrip()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except ValueError:
            return
        if isinstance(value, dict):
            yield value
        rest = rest[end:].lstrip()


def _word_keys(value: Mapping[str, Any]) -> tuple[str, str] | None:
    word = next((key for key in WORD_KEYS if isinstance(value.get(key), list)), None)
    if word is None:
        return None
    tag = next((key for key in TAG_KEYS if _is_list_like(value.get(key), value[word])), None)
    return None if tag is None else (word, tag)


def _is_list_like(tags: object, words: list) -> bool:
    return isinstance(tags, list) and len(tags) == len(words) and all(isinstance(tag, str | int) for tag in tags)


def _span_keys(value: Mapping[str, Any]) -> tuple[str, str] | None:
    text = next((key for key in TEXT_KEYS if isinstance(value.get(key), str)), None)
    named = (key for key in SPAN_KEYS if value.get(key) or key in _SURE_KEYS)
    spans = next((key for key in named if _is_span_list(value.get(key))), None)
    return None if text is None or spans is None else (text, spans)


def _is_span_list(value: object) -> bool:
    """Whether a value is a list of spans or CLUENER's nested form."""
    if isinstance(value, dict):
        return all(isinstance(mentions, dict) for mentions in value.values())
    if not isinstance(value, list):
        return False
    return all(
        (isinstance(one, dict) and any(key in one for key in _STARTS)) or (isinstance(one, list) and len(one) == 3)
        for one in value
    )


def _from_words(path: Path, lines: list[int], values: list[Object], keys: tuple[str, str]) -> Table:
    words: list[list[str]] = []
    tags: list[list[str]] = []
    for line, value in zip(lines, values, strict=True):
        forms, names = value.get(keys[0]), value.get(keys[1])
        place = f"{path}:{line}"
        if not isinstance(forms, list) or not isinstance(names, list) or not _is_list_like(names, forms):
            raise DataError("ragged-row", f"'{keys[0]}' and '{keys[1]}' are not two lists of one length", place=place)
        if any(not isinstance(name, str) for name in names):
            raise DataError(
                "unnamed-tags",
                f"the tags under '{keys[1]}' are numbers, and the file does not name them",
                place=place,
                value=str(names)[:80],
                expected='names, such as ["B-PER", "O"]',
                remedy="write the names in place of the numbers; the data set's description has them",
            )
        words.append([str(form) for form in forms])
        tags.append(names)
    flat = [tag for row in tags for tag in row]
    has_chunks = sum(map(is_chunk_tag, flat)) >= 0.95 * len(flat) and set(flat) != {OUTSIDE}
    for line, row in zip(lines, tags, strict=True):
        for tag in row:
            if has_chunks and not is_chunk_tag(tag):
                raise bad_tag(tag, f"{path}:{line}")
    return table_of(path, words, tags, lines, [0] * len(words), has_chunks)


def _row(place: str, value: Object, text_key: str, span_key: str) -> Object:
    text, given = value.get(text_key), value.get(span_key)
    if not isinstance(text, str) or given is None:
        missing = text_key if not isinstance(text, str) else span_key
        raise DataError("missing-value", f"the object has no '{missing}'", place=place, value=", ".join(value)[:200])
    spans, doubts = [], []
    for start, end, label, mention in _nested(given) if isinstance(given, dict) else _listed(place, given):
        if not isinstance(start, int) or not isinstance(end, int) or not isinstance(label, str) or not label:
            raise DataError(
                "bad-span",
                "a span is not two numbers and a label",
                place=place,
                value=f"{start!r}, {end!r}, {label!r}",
                expected='{"start": 0, "end": 5, "label": "PER"} or [0, 5, "PER"]',
            )
        span = Span(start, end, label)
        spans.append(span)
        if isinstance(mention, str) and text[max(start, 0) : max(end, 0)] != mention:
            doubts.append((span, OTHER_TEXT.format(mention)))
    return {"text": text, "words": None, "spans": spans} | ({"doubts": doubts} if doubts else {})


def _listed(place: str, given: object) -> Iterator[tuple[Any, Any, Any, Any]]:
    if not isinstance(given, list):
        raise DataError("bad-span", "the spans are no list", place=place, value=str(given)[:80])
    for one in given:
        if isinstance(one, dict):
            yield tuple(_first(one, names) for names in (_STARTS, _ENDS, _LABELS, _MENTIONS))
        elif isinstance(one, list) and len(one) == 3:
            yield (*one, None)
        else:
            yield one, None, None, None


def _nested(given: Object) -> Iterator[tuple[Any, Any, Any, Any]]:
    """CLUENER's form, whose ends are inclusive."""
    for label, mentions in given.items():
        for mention, places in mentions.items():
            for first, last in places:
                yield first, last + 1, label, mention


def _first(one: Object, names: tuple[str, ...]) -> Any:
    return next((one[name] for name in names if name in one), None)
