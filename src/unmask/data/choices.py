"""Questions with choices: RACE, C3, ChID, ARC, COPA, prompted forms, and one question a line."""

import csv
import io
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unmask.data.files import JSON_LINES_SUFFIXES, expand, kind, read_text
from unmask.data.rows import Table
from unmask.errors import DataError
from unmask.tokenizer.load import check_text

log = logging.getLogger("unmask")

COLUMNS = ("context", "question", "choices", "answer")
UNKNOWN = -1
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# The names that published files have for each part; the first one found is taken.
CONTEXTS = ("context", "article", "passage", "premise", "ctx")
QUESTIONS = ("question", "query", "stem")
CHOICES = ("choices", "options", "endings", "choice")
ANSWERS = ("answer", "gold", "answerKey", "answers", "label")
_TEXT, _NAME, _FROM_0, _FROM_1 = "texts of the choices", "names of the choices", "numbers from 0", "numbers from 1"
_CAUSES = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}
_KEYS = re.compile(r'"(choices|options|endings|choice|context_options)"\s*:\s*[\[{]|"choice1"\s*:|#idiom\d*#')
_HOLE = re.compile(r"#idiom\d*#")  # of ChID
_MOST = 0.75  # of a CSV's rows must be whole for it to be known as one of questions
_FORMS = (
    'lines such as {"context": "", "question": "Why?", "choices": ["a", "b"], "answer": 0}, or files of RACE, C3, ARC '
    "or COPA"
)


def looks_like_choices(path: Path, head: str) -> bool:
    """Whether a file with these first characters holds questions with choices."""
    if kind(path) == ".csv":
        lines = head.replace("\r\n", "\n").replace("\r", "\n")  # as `read_lines`; csv refuses a lone \r
        rows = [row for row in csv.reader(io.StringIO(lines[: lines.rfind("\n") + 1])) if row]
        return sum(_letter(row) is not None for row in rows) > _MOST * len(rows)
    is_json = kind(path) in (*JSON_LINES_SUFFIXES, ".txt") and head.lstrip().startswith(("{", "["))
    return is_json and _KEYS.search(head) is not None and '"qas"' not in head


def read_choices(path: Path) -> Table:
    """Read questions with choices.

    The right choice is given by its text, by its name (a letter, or what the file itself calls it), or by its number
    from 0 or from 1: in one of these ways in all rows, so that an answer never depends on its row alone.

    Args:
        path: JSON, JSON Lines, a CSV without header (question, choices, letter of the answer), or a folder of them, as
            RACE comes.

    Returns:
        A table of the form "choices", a row a question; `answer` is the number of the right choice from 0, or -1
        where the file does not tell.

    Raises:
        DataError: the file is damaged or no such file, a question has fewer than two choices, or its answer is none of
            them, or is given in another way than those before; or two ways fit all rows and differ. The place names the
            line and the question.
    """
    path = Path(path)
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    files: list[str] = []
    answers: list[_Given] = []
    for file in expand([path]):
        for line, record in _lettered(file) if kind(file) == ".csv" else _records(file):
            where = f"{file}:{line}" if not record.get("id") else f"{file}:{line}: question {record['id']}"
            choices, names = _choices(record, where)
            rows.append(_row(record, choices, where))
            lines.append(line)
            files.append(str(file))
            answers.append(_given(record, choices, names, where))
    if not rows:
        raise DataError("no-rows", "the file has no questions", place=path, expected=_FORMS)
    way = _way([one for one in answers if one.ways])
    rows = [row | {"answer": one.ways.get(way, UNKNOWN)} for row, one in zip(rows, answers, strict=True)]
    return Table(path, COLUMNS, rows, lines, "choices", files=tuple(files) if path.is_dir() else ())


@dataclass(frozen=True)
class _Given:
    """An answer as a file gives it.

    Attributes:
        value: what stands there.
        where: place of its row.
        ways: in which it can be read, with the number of the choice that it then is; none where it is not known.
    """

    value: object
    where: str
    ways: dict[str, int]


def _row(record: Mapping[str, Any], choices: list[str], where: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "context": _text(record, CONTEXTS, where, ""),
        "question": _text(record, QUESTIONS, where, ""),
        "choices": choices,
    }
    if not row["question"].strip():
        row |= {"context": "", "question": row["context"]}
    for text in (row["context"], row["question"], *choices):
        check_text(text, where)
    return row


def _choices(record: Mapping[str, Any], where: str) -> tuple[list[str], list[str]]:
    """Texts of the choices, and the names that the file gives them, if it does."""
    given: Any = next((record[name] for name in CHOICES if name in record), None)
    names: list[str] = []
    if isinstance(given, Mapping):  # in columns, as some tools write them
        given, names = given.get("text"), list(map(str, given.get("label", names)))
    elif isinstance(given, list) and given and isinstance(given[0], Mapping):
        names = [str(one.get("label")) for one in given]
        given = [one.get("text") for one in given]
    if not isinstance(given, list) or not all(isinstance(one, str) and one.strip() for one in given):
        raise _wrong(where, "the choices are not a list of texts", given)
    if len(given) < 2:
        raise _wrong(where, f"there are {len(given)} choices", given)
    return given, names[: len(given)]


def _given(record: Mapping[str, Any], choices: list[str], names: list[str], where: str) -> _Given:
    """The answer of a row, in all ways that it can be read; what the file itself calls a choice is no number."""
    value = next((record[name] for name in ANSWERS if name in record), None)
    if value is None or value in ("", UNKNOWN, str(UNKNOWN)):
        return _Given(value, where, {})
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    ways = {_TEXT: choices.index(text)} if value in choices else {}
    called = names or list(LETTERS[: len(choices)])
    if text in called:
        ways[_NAME] = called.index(text)
    if text.isdecimal() and text not in names:
        ways |= {way: int(text) - first for first, way in enumerate((_FROM_0, _FROM_1))}
    ways = {way: choice for way, choice in ways.items() if 0 <= choice < len(choices)}
    if not ways:
        raise _wrong(where, "the answer is none of the choices", value)
    return _Given(value, where, ways)


def _way(answers: Sequence[_Given]) -> str:
    """The one way in which all answers can be read; if no answer is known, any."""
    ways = list(answers[0].ways) if answers else [_TEXT]
    for one in answers:
        left = [way for way in ways if way in one.ways]
        if not left:
            raise DataError(
                "mixed-answers",
                f"the answer is none of the choices, read as those before it are: as {' or '.join(ways)}",
                place=one.where,
                value=one.value,
                expected=f"the same way as in the first row with an answer, {answers[0].where}: {answers[0].value}",
                remedy="give all answers of the file in one way: texts, letters, numbers from 0, or numbers from 1",
            )
        ways = left
    for one in answers:
        if len({one.ways[way] for way in ways}) > 1:
            raise DataError(
                "unclear-answers",
                f"all answers can be read as {' and as '.join(ways)}, which are different choices",
                place=one.where,
                value=one.value,
                expected="numbers of which one is 0, or one is the number of choices; or letters, or texts",
                remedy="write A for the first choice, B for the second, and so on; or leave the answers out",
            )
    return ways[0]


def _text(record: Mapping[str, Any], names: tuple[str, ...], where: str, default: str) -> str:
    name = next((name for name in names if name in record), None)
    value = default if name is None else record[name]
    if not isinstance(value, str):
        raise _wrong(where, f"'{name}' is not a text", value)
    return value


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line and parts of each question of a JSON file."""
    text = read_text(path)
    answers = _answers_beside(path) if _HOLE.search(text) and '"answer"' not in text else {}
    try:
        contents = [(1, json.loads(text))]
    except ValueError:
        contents = [(line, _parse(path, line, one)) for line, one in enumerate(text.split("\n"), 1) if one.strip()]
    position = 0
    for line, content in contents:
        for number, one in enumerate(content if isinstance(content, list) else [content], 1):
            if isinstance(one, list):
                for record in _dialogue(one, f"{path}: entry {number}"):
                    found = text.find(json.dumps(record.get("question"), ensure_ascii=False), position)
                    if found >= 0:
                        line, position = line + text.count("\n", position, found), found
                    yield line, record
            elif isinstance(one, dict):
                yield from ((line, record) for record in _unfolded(one, f"{path}:{line}", answers))
            else:
                raise _wrong(f"{path}:{line}", "it is not an object", one)


def _dialogue(entry: list[Any], where: str) -> Iterator[dict[str, Any]]:
    """C3: [lines of the text, questions, name]."""
    if len(entry) != 3 or not isinstance(entry[0], list) or not isinstance(entry[1], list):
        raise _wrong(where, "it is no [texts, questions, id]", entry)
    context = "\n".join(map(str, entry[0]))
    for number, asked in enumerate(entry[1], 1):
        if not isinstance(asked, dict):
            raise _wrong(where, "the question is not an object", asked)
        yield {"context": context, "id": f"{entry[2]}, {number}", **asked}


def _unfolded(record: dict[str, Any], where: str, answers: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Bring the published forms that are not one question, one list of choices, into that form."""
    if isinstance(record.get("questions"), list):  # RACE: one article, many questions
        columns = [record.get(name) for name in ("questions", "options", "answers")]
        if not all(isinstance(column, list) and len(column) == len(record["questions"]) for column in columns):
            raise _wrong(where, "questions, options and answers are not lists of one length", columns)
        for number, (question, options, answer) in enumerate(zip(*columns, strict=True), 1):
            name = f"{record.get('id', '')}, {number}"
            yield {"context": record.get("article"), "question": question, "options": options, "answer": answer,
                   "id": name}  # fmt: skip
    elif "choice1" in record:  # COPA: a premise, and its cause or its effect
        asked = _CAUSES.get(str(record.get("question")), record.get("question", ""))
        choices = [record[name] for name in sorted(record) if re.fullmatch(r"choice\d", name)]
        yield {**record, "question": asked, "choices": choices}
    elif "context_options" in record:  # Winograd schemas, prompted: the choice goes on with the same words
        yield {"question": f"_ {record.get('continuation', '')}", "choices": record["context_options"],
               "answer": record.get("gold")}  # fmt: skip
    elif "content" in record and "candidates" in record:  # ChID: an idiom is taken out of a text
        yield from _cloze(record, where, answers)
    elif isinstance(record.get("question"), dict):  # ARC as published
        yield {**record, **record["question"], "question": record["question"].get("stem")}
    else:
        yield record


def _cloze(record: dict[str, Any], where: str, answers: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """ChID: one question for each hole of the texts; the other holes of its text are dots."""
    texts = record["content"] if isinstance(record["content"], list) else [record["content"]]
    if not all(isinstance(text, str) and _HOLE.search(text) for text in texts):
        raise _wrong(where, "a text has no hole such as #idiom000378#", record["content"])
    holes = [(text, hole) for text in texts for hole in _HOLE.findall(text)]
    if "answer" in record and len(holes) > 1:
        raise _wrong(where, f"there is one answer for {len(holes)} holes", record["answer"])
    choices = record["candidates"]
    for text, hole in holes:
        number = record.get("answer", answers.get(hole))  # from 0; as a text it cannot be read in another way
        is_one = isinstance(number, int) and isinstance(choices, list) and 0 <= number < len(choices)
        question = _HOLE.sub("……", text.replace(hole, "____"))
        yield {"id": hole, "question": question, "choices": choices, "answer": choices[number] if is_one else number}


def _answers_beside(path: Path) -> Mapping[str, Any]:
    """The answers of ChID as CLUE publishes it: train_answer.json beside train.json, hole to number of the choice."""
    beside = path.with_name(f"{path.name.partition('.')[0]}_answer.json")
    if not beside.is_file():
        log.warning("%s: there is no %s beside it, so its answers are not known", path, beside.name)
        return {}
    found = _parse(beside, 1, read_text(beside))
    if not isinstance(found, dict):
        raise _wrong(f"{beside}:1", "it does not say which choice fills which hole, as {hole: number}", found)
    return found


def _lettered(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """ARC as a CSV without header: question, choices, letter of the right one; empty choices fill a row up.

    Rows without choices, and such whose right choice is cut off, are in one published conversion: left out, and told.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    start, lost = 1, []
    try:
        for row in reader:
            letter = _letter(row)
            if letter is not None:
                yield start, {"question": row[0], "choices": _filled(row), "answer": letter}
            elif row:
                lost.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise _wrong(f"{path}:{start}", f"the row is not CSV: {error}", None) from None
    if lost:
        log.warning(
            "%s: %d rows have no choices, or lack the right one, and are left out: line %s%s",
            path, len(lost), ", ".join(map(str, lost[:5])), ", ..." * (len(lost) > 5),
        )  # fmt: skip


def _filled(row: list[str]) -> list[str]:
    return [cell for cell in row[1:-1] if cell.strip()]


def _letter(row: list[str]) -> str | None:
    """The letter of the right choice, if the row has that choice and another one."""
    letter = row[-1].strip() if row else ""
    names = LETTERS[: len(_filled(row))]
    return letter if len(names) > 1 and len(letter) == 1 and letter in names else None


def _parse(path: Path, line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(
            "bad-json", f"the line is not JSON: {error}", place=f"{path}:{line}", value=text[:80], expected=_FORMS
        ) from None


def _wrong(where: str, reason: str, value: object) -> DataError:
    shown = None if value is None else json.dumps(value, ensure_ascii=False)[:120]
    return DataError("bad-choices", reason, place=where, value=shown, expected=_FORMS)
