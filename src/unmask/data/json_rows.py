"""JSON Lines, and JSON arrays of objects, as rows of texts and lists of texts."""

import itertools
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unmask.data.files import parse_json, read_bytes, read_head, read_lines
from unmask.data.names import KNOWN_NAMES
from unmask.data.published import NOTES, kind_of, plain
from unmask.data.sniff import refuse_binary, wrong_encoding
from unmask.errors import DataError

log = logging.getLogger("unmask")

Placed = tuple[int, dict[str, Any] | DataError]
_BLANK = " \t\r\n"
_SHOWN = 5


def read_json(path: Path, columns: Sequence[str] | None) -> tuple[tuple[str, ...], Iterator[Placed], tuple[str, ...]]:
    """Columns, rows and notes of a file of JSON objects; literals keep their text (`1.0`, `1e5`, `true`).

    Without `columns` those of the first row are read, but for those that hold an object there, or a null under a name
    that is not known. A row may lack a key that holds a list in the first one: its list is empty. Keys that the first
    row lacks are not read, and that is told.

    Raises:
        DataError: the file is empty or damaged, or an array that is not JSON.
    """
    is_array = read_head(path).lstrip().startswith("[")
    notes: list[str] = []
    objects = _plain(path, _array(path) if is_array else _lines(path), notes)
    seen: list[Placed] = []
    lists: set[str] = set()
    names: tuple[str, ...] = tuple(columns or ())
    odd: list[str] = []
    for line, row in objects:
        seen.append((line, row))
        if not isinstance(row, DataError):
            odd = [] if columns else [name for name, value in row.items() if _is_odd(name, value)]
            names = names or tuple(name for name in row if name not in odd)
            lists = {name for name in names if isinstance(row.get(name), list)}
            break
    if not seen:
        raise DataError("empty-file", "the file has no rows", place=path, expected="one JSON object on each line")
    if odd:
        notes.append(f"not read, because the first row holds a null or an object there: {', '.join(odd)}")
    rows: Iterator[Placed] = itertools.chain(seen, objects)
    rows = rows if columns else _watched(path, {*names, *odd}, rows)
    return names, _rows(path, names, lists, rows), tuple(f"{path.name}: {note}" for note in notes)


def _plain(path: Path, objects: Iterator[Placed], notes: list[str]) -> Iterator[Placed]:
    """The rows in texts; what is done to the first one is noted."""
    is_first = True
    for line, row in objects:
        if isinstance(row, DataError):
            yield line, row
            continue
        if is_first and (kind := kind_of(row)):
            notes.append(NOTES[kind])
        is_first = False
        try:
            yield line, plain(row, f"{path}:{line}")
        except DataError as error:
            yield line, error


def _watched(path: Path, known: set[str], objects: Iterator[Placed]) -> Iterator[Placed]:
    """The same objects; behind the last one, keys that are not known are told."""
    counts: Counter[str] = Counter()
    first: dict[str, int] = {}
    for line, row in objects:
        if not isinstance(row, DataError):
            for name in row.keys() - known:
                counts[name] += 1
                first.setdefault(name, line)
        yield line, row
    if counts:
        shown = ", ".join(f"{name} ({count:,} rows, first line {first[name]})" for name, count in _most(counts))
        more = f" and {len(counts) - _SHOWN} more keys" * (len(counts) > _SHOWN)
        log.warning("%s: not read, because the first row has no such key: %s%s", path, shown, more)


def _most(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:_SHOWN]


def _is_odd(name: str, value: object) -> bool:
    return isinstance(value, dict) or (value is None and name.strip().lower() not in KNOWN_NAMES)


def _rows(path: Path, names: Sequence[str], lists: set[str], objects: Iterator[Placed]) -> Iterator[Placed]:
    for line, row in objects:
        if isinstance(row, DataError):
            yield line, row
            continue
        try:
            empty: dict[str, Any] = {name: [] for name in lists if name not in row}
            yield line, {name: _cell(f"{path}:{line}", name, row | empty) for name in names}
        except DataError as error:
            yield line, error


def _decoder() -> json.JSONDecoder:
    # Literals keep their text; a string and a number that look alike are the same value of a table.
    return json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_without_duplicates)


def _lines(path: Path) -> Iterator[Placed]:
    decoder = _decoder()
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            yield number, parse_json(path, number, line, decoder)
        except DataError as error:
            yield number, error


def _array(path: Path) -> Iterator[Placed]:
    """Objects of one JSON array, with the lines that they begin at."""
    data = read_bytes(path)
    refuse_binary(path, data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        start = data.rfind(b"\n", 0, error.start) + 1
        line = data.count(b"\n", 0, start) + 1
        raise wrong_encoding(path, line, data[start : error.start + 16], error.start - start, data) from None
    decoder = _decoder()
    at, line = text.index("[") + 1, 1
    seen = 0
    while True:
        while at < len(text) and text[at] in _BLANK:
            at += 1
        line += text.count("\n", seen, at)
        seen = at
        if text[at : at + 1] == "]":
            return
        try:
            row, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise _bad_array(path, line, str(error), text[at : at + 80]) from None
        yield line, row if isinstance(row, dict) else _bad_array(path, line, f"a {type(row).__name__}", str(row)[:80])
        while at < len(text) and text[at] in _BLANK:
            at += 1
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != "]":
            raise _bad_array(path, line, "no comma or bracket behind this object", text[at : at + 80])


def _bad_array(path: Path, line: int, reason: str, value: str) -> DataError:
    return DataError(
        "bad-json",
        f"the array is not one of JSON objects: {reason}",
        place=f"{path}:{line}",
        value=value,
        expected='[{"text": "...", "label": "..."}, ...]',
        remedy="correct it; a file that was cut ends without its bracket",
    )


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(name for name in names if names.count(name) > 1)}' stands twice")
    return row


def _cell(place: str, name: str, row: dict[str, Any]) -> str | list[str]:
    value = row.get(name)
    if isinstance(value, list) and all(isinstance(item, str | bool) for item in value):
        return [_text(place, name, item) for item in value]
    if isinstance(value, str | bool):
        return _text(place, name, value)
    if value is None:
        reason = f"the key '{name}' is null" if name in row else f"the row has no key '{name}'"
        raise DataError(
            "missing-value",
            reason,
            place=place,
            value=", ".join(row)[:200],
            expected="a text, number or truth value under every key that is read",
            remedy="fill it in, drop the row, or name only the columns that are needed",
        )
    raise DataError(
        "nested-value",
        f"the key '{name}' holds a {'list of more than texts' if isinstance(value, list) else 'nested object'}",
        place=place,
        value=json.dumps(value)[:80],
        expected="a text, number, truth value, or a list of them",
        remedy="flatten it, or name only the columns that are needed",
    )


def _text(place: str, name: str, value: str | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(
            "lone-surrogate",
            f"the text under '{name}' holds half of a character pair (an escape such as \\ud83d alone)",
            place=place,
            value=value[:80].encode("ascii", "backslashreplace").decode("ascii"),
            remedy="write the text again from its source; it was cut inside an emoji",
        ) from None
    return value
