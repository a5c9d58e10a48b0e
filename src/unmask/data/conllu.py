"""Words and parts of speech of Universal Dependencies (CoNLL-U), with the original text."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unmask.data.conll import PLACE, row_of, with_documents
from unmask.data.files import read_lines
from unmask.data.rows import Table, missing_column
from unmask.errors import DataError

COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
_NUMBER = re.compile(r"[0-9]+(-[0-9]+|\.[0-9]+)?")
_NOTHING = "_"


@dataclass(slots=True)
class _Sentence:
    line: int
    document: int
    text: str | None = None
    tokens: list[tuple[int, list[str]]] = field(default_factory=list)


def looks_like_conllu(path: Path, head: str) -> bool:
    """Whether the first line that is no comment has the ten columns of CoNLL-U, the first one a number.

    Args:
        path: not looked at.
        head: the file's first characters.
    """
    del path
    first = next((line for line in head.splitlines() if line.strip() and not line.startswith("#")), "")
    cells = first.split("\t")
    return len(cells) == len(COLUMNS) and _NUMBER.fullmatch(cells[0]) is not None


def read_conllu(path: Path, column: str | None = None) -> Table:
    """Read sentences of CoNLL-U: one span on each word, labelled with its part of speech.

    The text is that of `# text = `; where the words are not found in it, or it is not there, they are put together as
    `SpaceAfter=No` says. The words of a multiword token (`2-3`) have their own ranges if they spell it (`can` `not`);
    else it is one word, its labels joined by `+` (`du`: `ADP+DET`). Empty nodes (`8.1`) are left out. A word whose
    label is `_` has no span.

    Args:
        path: the file, compressed or not.
        column: name of the labels' column, by default `upos`; a place such as `4 of 4`, which is that of tags in other
            files, says nothing here.

    Returns:
        Rows with `text`, `words` and `spans`, and `document` where `# newdoc` marks enough of them.

    Raises:
        DataError: a line has not ten columns, or a number that is none; there is no such column.
    """
    name = "upos" if column is None or PLACE.fullmatch(column) else column.lower()
    if name not in COLUMNS:
        raise missing_column(name, COLUMNS, path)
    sentences = [one for one in _sentences(path) if one.tokens]
    if not sentences:
        raise DataError("empty-file", "the file has no sentences", place=path, expected="ten columns, parted by tabs")
    rows = with_documents([_row(one, COLUMNS.index(name)) for one in sentences], [one.document for one in sentences])
    return Table(path, ("text", "words", "spans"), rows, [one.line for one in sentences], "tagged")


def _sentences(path: Path) -> list[_Sentence]:
    found = [_Sentence(1, 0)]
    document = 0
    for number, line in enumerate(read_lines(path), 1):
        one = found[-1]
        if not line.strip():
            found.append(_Sentence(number + 1, document))
        elif line.startswith("#"):
            document += line.startswith("# newdoc")
            one.document = document
            one.text = line.removeprefix("# text = ") if line.startswith("# text = ") else one.text
        else:
            cells = line.split("\t")
            if len(cells) != len(COLUMNS) or not _NUMBER.fullmatch(cells[0]):
                raise DataError(
                    "ragged-row",
                    f"expected {len(COLUMNS)} columns and a number in the first, saw {len(cells)}: "
                    f"'{' | '.join(cells)[:120]}'",
                    place=f"{path}:{number}",
                    expected=", ".join(COLUMNS),
                    remedy="mend the line; columns are parted by single tabs",
                )
            one.tokens.append((number, cells))
    return found


def _row(sentence: _Sentence, at: int) -> dict[str, Any]:
    surface = _surface([cells for _, cells in sentence.tokens])
    places = None if sentence.text is None else _found(sentence.text, [form for form, _, _ in surface])
    text = sentence.text
    if places is None or text is None:
        text, places = _spaced([(form, has_space) for form, _, has_space in surface])
    ranges, tags = [], []
    for (start, end), (form, words, _) in zip(places, surface, strict=True):
        labels = ["" if cells[at] == _NOTHING else cells[at] for cells in words]
        if "".join(cells[1] for cells in words) == form:
            for cells, label in zip(words, labels, strict=True):
                ranges.append((start, start + len(cells[1])))
                tags.append(label)
                start += len(cells[1])
        else:
            ranges.append((start, end))
            tags.append("+".join(label for label in labels if label))
    return row_of(text, ranges, tags, has_chunks=False, may_stray=False)


def _surface(tokens: list[list[str]]) -> list[tuple[str, list[list[str]], bool]]:
    """Tokens as they are written: form, the words in each, whether a space follows."""
    found: list[tuple[str, list[list[str]], bool]] = []
    last = 0  # number of the last word of the multiword token before
    for cells in tokens:
        number, _, end = cells[0].partition("-")
        if "." in number:
            continue
        has_space = "SpaceAfter=No" not in cells[-1].split("|")
        if end:
            last = int(end)
            found.append((cells[1], [], has_space))
        elif int(number) <= last:
            found[-1][1].append(cells)
        else:
            found.append((cells[1], [cells], has_space))
    return found


def _found(text: str, forms: list[str]) -> list[tuple[int, int]] | None:
    """Ranges of forms that stand in a text in order, with nothing but white space between; None if they do not."""
    places, at = [], 0
    for form in forms:
        while at < len(text) and text[at].isspace() and not text.startswith(form, at):
            at += 1
        if not form or not text.startswith(form, at):
            return None
        places.append((at, at + len(form)))
        at += len(form)
    return places if not text[at:].strip() else None


def _spaced(forms: list[tuple[str, bool]]) -> tuple[str, list[tuple[int, int]]]:
    text, places = "", []
    for form, has_space in forms:
        places.append((len(text), len(text) + len(form)))
        text += form + " " * has_space
    return text.rstrip(" "), places
