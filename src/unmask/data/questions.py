"""Questions about texts: SQuAD 1.1 and 2.0, CMRC 2018 in both its forms, DRCD, and one question a line.

An answer that does not stand where its file says is moved to where it does stand, and that is told. One that stands
nowhere in its text keeps `start` -1: nothing can be learned from it, but answers are still scored against it.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unmask import storage
from unmask.data.files import JSON_LINES_SUFFIXES, kind, read_text
from unmask.data.rows import Table
from unmask.errors import DataError
from unmask.tokenizer.load import check_text

log = logging.getLogger("unmask")

COLUMNS = ("id", "title", "context", "question", "answers", "is_impossible")
_SHOWN = 3
_NESTED = re.compile(r'"(paragraphs|qas)"\s*:\s*\[|"context_text"\s*:')
_ID = re.compile(r'"(?:query_)?id"\s*:\s*("(?:[^"\\]|\\.)*"|[^\s,}\]]+)')
_FLAT = re.compile(r'"answers"\s*:\s*[\[{]')
_FORMS = (
    'SQuAD\'s {"data": [{"paragraphs": [{"context": ..., "qas": [...]}]}]}, or one question with its context a line'
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A right answer to a question about a text.

    Attributes:
        text: as it stands in the text.
        start: its first character there; -1 where it stands nowhere in it.
    """

    text: str
    start: int


@dataclass
class _Oddities:
    """Answers that were not where their file says, and questions that ask nothing."""

    total: int = 0
    chosen: int = 0
    moved: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    questions: int = 0
    empty: list[str] = field(default_factory=list)

    def tell(self, path: Path) -> None:
        if self.chosen:
            log.info(
                "%s: it gives no places; %d of %d answers stand more than once in their text, and the first place "
                "is taken", path, self.chosen, self.total,
            )  # fmt: skip
        answers = f"{self.total} answers"
        for cases, of_all, fate in (
            (self.moved, answers, "do not stand where the file says and were moved to the nearest place"),
            (self.lost, answers, "stand nowhere in their text: not learned from, only scored against"),
            (self.empty, f"{self.questions} questions", "are empty: kept, so that scores are of all rows"),
        ):
            if cases:
                more = f"\n  and {len(cases) - _SHOWN} more" * (len(cases) > _SHOWN)
                shown = "".join(f"\n  line {case.removeprefix(f'{path}:')}" for case in cases[:_SHOWN])
                log.warning("%s: %d of %s %s%s%s", path, len(cases), of_all, fate, shown, more)


class _Lines:
    """Lines of questions, found by their ids in the order of the text; behind one that is not found, the last known."""

    def __init__(self, text: str) -> None:
        self._text, self._line, self._position = text, 1, 0
        self._places = _ID.finditer(text)

    def of(self, given: object) -> int:
        if given is not None:
            literals = (json.dumps(given), json.dumps(given, ensure_ascii=False))
            # the places are used up by the first id that is not there, so that the text is gone through once
            found = next((one.start() for one in self._places if one[1] in literals), self._position)
            self._line += self._text.count("\n", self._position, found)
            self._position = found
        return self._line


def looks_like_questions(path: Path, head: str) -> bool:
    """Whether a file with these first characters holds questions about texts."""
    if kind(path) not in JSON_LINES_SUFFIXES:
        return False
    return bool(_NESTED.search(head)) or bool(_FLAT.search(head) and '"context"' in head and '"question"' in head)


def read_questions(path: Path) -> Table:
    """Read questions with their contexts and answers.

    Args:
        path: a JSON file as SQuAD, CMRC or DRCD have it, or JSON Lines with `context`, `question` and `answers`.

    Returns:
        A table of the form "questions", a row a question; `answers` is a list of `Answer`.

    Raises:
        DataError: the file is damaged or no such file, or a part of it is missing or of a wrong kind; the place names
            line, article and question.
    """
    path = Path(path)
    text = read_text(path)
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    odd = _Oddities()
    for line, where, row in _questions(path, text):
        context, question = _get(row, where, "context", str), _get(row, where, "question", str)
        for one in (context, question):
            check_text(one, where)
        odd.questions += 1
        if not question.strip():
            odd.empty.append(where)
        given = _answers(row.get("answers"), where)
        is_blank = all(not answer for answer, _ in given)
        found = [_placed(context, *one, where, odd) for one in given if one[0]]
        rows.append(
            {
                "id": row["id"],
                "title": row["title"],
                "context": context,
                "question": question,
                "answers": found,
                "is_impossible": bool(row.get("is_impossible", is_blank and "answers" in row)),
            }
        )
        lines.append(line)
    if not rows:
        raise DataError("no-rows", "the file has no questions", place=path, expected=_FORMS)
    if len({row["id"] for row in rows}) < len(rows):
        log.warning("%s: several questions have the same id, so a file of answers cannot tell them apart", path)
    odd.tell(path)
    return Table(path, COLUMNS, rows, lines, "questions")


def write_answers(path: Path, answers: Mapping[str, str]) -> None:
    """Write answers as the official scripts read them: {id of a question: text}, empty for no answer."""
    storage.write_text(Path(path), json.dumps(dict(answers), ensure_ascii=False, indent=0) + "\n")


def _questions(path: Path, text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Line, place and parts of each question, under the names of SQuAD."""
    if _NESTED.search(text) is None:
        yield from _flat_questions(path, text)
        return
    lines = _Lines(text)
    for number, (title, paragraph, where) in enumerate(_paragraphs(path, text), 1):
        for index, entry in enumerate(_list(paragraph, f"{path}: {where}", "qas"), 1):
            asked = _dict(entry, f"{path}: {where}, question {index}")
            name = str(asked.get("id", asked.get("query_id", f"{number}-{index}")))
            line = lines.of(asked.get("id", asked.get("query_id")))
            question = {"id": name, "title": title, "context": paragraph.get("context", paragraph.get("context_text"))}
            question |= {"question": asked.get("question", asked.get("query_text"))}
            question |= {key: asked[key] for key in ("answers", "is_impossible") if key in asked}
            yield line, f"{path}:{line}: {where}, question {name}", question


def _paragraphs(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Title, content and place of each context."""
    content = _parse(path, text)
    articles = _list(content, str(path), "data") if isinstance(content, dict) else content
    for number, article in enumerate(articles, 1):
        article = _dict(article, f"{path}: article {number}")
        title = str(article.get("title", ""))
        where = f"article {number}" + f" '{title}'" * bool(title)
        if "paragraphs" not in article:
            yield title, article, where
            continue
        for index, paragraph in enumerate(_list(article, f"{path}: {where}", "paragraphs"), 1):
            yield title, _dict(paragraph, f"{path}: {where}, paragraph {index}"), f"{where}, paragraph {index}"


def _flat_questions(path: Path, text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    for number, (line, one) in enumerate(_flat_rows(path, text), 1):
        row = _dict(one, f"{path}:{line}")
        name = str(row.get("id", number))
        yield line, f"{path}:{line}: question {name}", {"title": "", **row, "id": name}


def _flat_rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Line and content of each row, of an array or of JSON Lines."""
    if text.lstrip().startswith("["):
        lines = _Lines(text)
        for row in _parse(path, text):
            yield lines.of(row.get("id") if isinstance(row, dict) else None), row
        return
    for line, one in enumerate(text.split("\n"), 1):
        if one.strip():
            yield line, _parse(path, one, line)


def _answers(given: object, where: str) -> list[tuple[str, int | None]]:
    """Texts and first characters of answers, whichever way they are written; blank texts are empty."""
    if isinstance(given, Mapping):  # columns, as some tools write them
        given = [
            {"text": text, "answer_start": start}
            for text, start in zip(given.get("text", ()), given.get("answer_start", ()), strict=False)
        ]
    if given is not None and not isinstance(given, list):
        raise _wrong(where, "'answers'", given, list)
    found: list[tuple[str, int | None]] = []
    for one in given or ():
        if isinstance(one, str | float | int):  # CMRC 2018 has numbers among its texts
            found.append((str(one).strip(), None))
            continue
        text = _get(_dict(one, where), where, "text", str)
        found.append((text if text.strip() else "", _get(one, where, "answer_start", int) if text.strip() else None))
    return found


def _placed(context: str, text: str, start: int | None, where: str, odd: _Oddities) -> Answer:
    odd.total += 1
    if start is not None and start >= 0 and context.startswith(text, start):
        return Answer(text, start)
    bare = text.strip()
    found = _occurrences(context, bare)
    if not found:
        odd.lost.append(f"{where}: '{_short(text)}'")
        return Answer(text, -1)
    if start is None:
        odd.chosen += len(found) > 1
        return Answer(bare, found[0])
    nearest = min(found, key=lambda place: abs(place - start))
    stands = context[max(0, start) :][: len(text)]
    odd.moved.append(
        f"{where}: at {start} stands '{_short(stands)}', not '{_short(text)}', which is at {nearest}"
        + f" and at {len(found) - 1} other places" * (len(found) > 1)
    )
    return Answer(bare, nearest)


def _occurrences(text: str, part: str) -> list[int]:
    found = []
    at = text.find(part)
    while at >= 0:
        found.append(at)
        at = text.find(part, at + 1)
    return found


def _parse(path: Path, text: str, line: int = 1) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        where = line + getattr(error, "lineno", 1) - 1
        raise DataError(
            "bad-json",
            f"the file is not JSON: {error}",
            place=f"{path}:{where}",
            expected=_FORMS,
            remedy="copy the file again if it was cut; otherwise correct the line",
        ) from None


def _dict(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "it", value, dict)
    return value


def _list(value: Mapping[str, Any], where: str, name: str) -> Sequence[Any]:
    found: Sequence[Any] = _get(value, where, name, list)
    return found


def _get(value: Mapping[str, Any], where: str, name: str, wanted: type) -> Any:
    if not _is(value.get(name), wanted):
        raise _wrong(where, f"'{name}'", value.get(name), wanted)
    return value[name]


def _is(value: object, wanted: type) -> bool:
    return isinstance(value, wanted) and not isinstance(value, bool)


def _wrong(where: str, name: str, value: object, wanted: type) -> DataError:
    kinds = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}
    return DataError(
        "bad-questions",
        f"{name} is missing" if value is None else f"{name} is not {kinds[wanted]}",
        place=where,
        value=None if value is None else json.dumps(value, ensure_ascii=False)[:80],
        expected=_FORMS,
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else f"{line[:37]}..."
