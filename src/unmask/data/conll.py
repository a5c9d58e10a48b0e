"""Words and tags in columns, one word a line and a blank line between sentences: CoNLL 2000, 2003 and their kin."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unmask.data.files import kind, read_lines
from unmask.data.rows import Table
from unmask.data.spans import STRAY, Span, is_unspaced
from unmask.data.tags import OUTSIDE, bad_tag, chunks_of, is_chunk_tag, is_iob1
from unmask.errors import DataError

DOCUMENT = "-DOCSTART-"
JOINT = "\x02"
MARK = "#"
MAX_COLUMNS = 10
# With fewer documents than this, keeping each whole would leave no choice when a dev set is split off.
MIN_DOCUMENTS = 10
_SUFFIXES = (".conll", ".iob", ".iob2", ".bio")
PLACE = re.compile(r"(\d+) of (\d+)")
"""Where tags were found in a file, for others of the same number of columns."""
_TAG_SHARE = 0.95
_USUAL_SHARE = 0.9
_MAX_TAGS = 200


@dataclass(slots=True)
class Sentence:
    """Lines between two blank ones.

    Attributes:
        document: number of the document that it is in, or 0.
        lines: number of each line.
        cells: of each line.
    """

    document: int
    lines: list[int] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)


def looks_like_conll(path: Path, head: str) -> bool:
    """Whether a file has one word and its tags on each line.

    Args:
        path: its name tells it from a table.
        head: its first characters.
    """
    if kind(path) in _SUFFIXES:  # a bad line in it is to be named, not to make it another format
        return True
    if kind(path) in (".csv", ".parquet") or head.lstrip()[:1] in ("{", "["):
        return False
    lines = head.split("\n")[: -1 if len(head) > 1000 else None]
    sentences, width = _cut(enumerate(lines, 1))
    cells = [cells for one in sentences for cells in one.cells]
    usual = [row for row in cells if len(row) == width]
    if not 2 <= width <= MAX_COLUMNS or len(usual) < _USUAL_SHARE * len(cells):
        return False
    values = [Counter(column) for column in zip(*usual, strict=True)]
    if any(set(values[at]) != {OUTSIDE} for at in _chunk_columns(values)):
        return kind(path) != ".tsv" or len(sentences) > 1
    is_closed = len(values[-1]) <= min(_MAX_TAGS, len(cells) // 3) and "" not in values[-1]
    return len(sentences) > 1 and len(usual) == len(cells) and is_closed


def read_conll(path: Path, column: str | None = None) -> Table:
    """Read sentences of words with one tag each; each becomes a text with character spans.

    Columns are parted by tabs, or by spaces. The column of the tags is the last one that holds tags of chunks, or
    else the last one that varies; a first column that counts the words is passed over. IOB1, IOB2, BIOES, BILOU and
    BMES are told apart by the tags; where no tag is one of a chunk, each word is a span of its own (parts of speech).
    Words are joined by spaces, those of Chinese, Japanese or Thai without. Lines of comments at the start of a sentence
    and `-DOCSTART-` are no words; the latter mark documents. A digit that stands behind each word, as in the Weibo
    corpus, is taken off.

    The mark # may be a word, too. A line that begins with it is a comment where it has another number of cells than a
    word and its tags, or a `=` in the last one; and `# 17`, parted by a space, where no cell of it fits the tags: it is
    no tag of a chunk in a file of such, or it is a number where no tag is one.

    Args:
        path: the file, compressed or not.
        column: number of the column of the tags, from 1, or `4 of 4` for a file of four columns; by default, and in a
            file of another width than that, it is found.

    Returns:
        Rows with `text`, `words`, `spans`, and where they are `document` and `doubts`, spans that begin with I-
        against the scheme.

    Raises:
        DataError: a line has another number of columns than most, an empty word, or a tag that is none; there are no
            sentences or no such column. The line is named.
    """
    sentences, width = _cut(enumerate(read_lines(path), 1))
    if not sentences:
        raise DataError("empty-file", "the file has no sentences", place=path, expected="one word and its tag a line")
    for one in sentences:
        _check(path, one, width)
    values = _values(sentences, width)
    word_at, tag_at = _choose_columns(path, values, sentences, column)
    has_digits = _has_digits(values[word_at])
    words = [[cells[word_at][:-1] if has_digits else cells[word_at] for cells in one.cells] for one in sentences]
    tags = [[cells[tag_at] for cells in one.cells] for one in sentences]
    has_chunks = tag_at in _chunk_columns(values)
    if has_chunks:
        for one, row in zip(sentences, tags, strict=True):
            for line, tag in zip(one.lines, row, strict=True):
                if not is_chunk_tag(tag):
                    raise bad_tag(tag, f"{path}:{line}")
    table = table_of(
        path, words, tags, [one.lines[0] for one in sentences], [one.document for one in sentences], has_chunks
    )
    return replace(table, tag_column=f"{tag_at + 1} of {width}")


def looks_like_joined(path: Path, head: str) -> bool:
    """Whether each row holds a sentence whose words, and then its tags, are joined by the control character U+0002.

    Args:
        path: not looked at.
        head: the file's first characters.
    """
    del path
    first = head.split("\n", 2)[1:2]
    return bool(first) and first[0].count(JOINT) > 0 and first[0].count("\t") == 1


def read_joined(path: Path) -> Table:
    """Read a header, and in each row the words of a sentence, a tab and their tags (the layout of ERNIE's MSRA files).

    Args:
        path: the file, compressed or not.

    Raises:
        DataError: a row has not as many words as tags, or a tag that is none; the line is named.
    """
    words, tags, lines = [], [], []
    for number, line in enumerate(read_lines(path), 1):
        if number == 1 or not line:
            continue
        forms, names = ([*cell.split(JOINT)] for cell in line.split("\t")) if line.count("\t") == 1 else ([], [""])
        if len(forms) != len(names) or "" in forms:
            raise DataError(
                "ragged-row",
                f"the row has {len(forms)} words and {len(names)} tags",
                place=f"{path}:{number}",
                expected="words joined by U+0002, a tab, as many tags joined by U+0002",
            )
        for name in names:
            if not is_chunk_tag(name):
                raise bad_tag(name, f"{path}:{number}")
        words.append(forms)
        tags.append(names)
        lines.append(number)
    return table_of(path, words, tags, lines, [0] * len(lines), has_chunks=True)


def table_of(
    path: Path,
    words: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]],
    lines: Sequence[int],
    documents: Sequence[object],
    has_chunks: bool,
) -> Table:
    """The rows of a file of sentences.

    Args:
        path: of the file.
        words: of each sentence.
        tags: one for each word; an empty one is none.
        lines: that each sentence begins at.
        documents: that each sentence is in.
        has_chunks: whether the tags are of chunks, and not of single words.
    """
    is_unspaced_text = _is_unspaced_text(words)
    may_stray = has_chunks and not is_iob1(tags)
    rows = []
    for forms, row in zip(words, tags, strict=True):
        text, ranges = join(forms, is_unspaced_text)
        rows.append(row_of(text, ranges, row, has_chunks=has_chunks, may_stray=may_stray))
    return Table(path, ("text", "words", "spans"), with_documents(rows, documents), list(lines), "tagged")


def with_documents(rows: list[dict[str, Any]], documents: Sequence[object]) -> list[dict[str, Any]]:
    """Rows that say which document they are in, if there are at least `MIN_DOCUMENTS`."""
    if len(set(documents)) < MIN_DOCUMENTS:
        return rows
    return [row | {"document": document} for row, document in zip(rows, documents, strict=True)]


def join(words: Sequence[str], is_unspaced_text: bool) -> tuple[str, list[tuple[int, int]]]:
    """Put words together to a text, with the range of each in it.

    Args:
        words: in order.
        is_unspaced_text: whether a space stands only between longer words that both are of a spaced script.
    """
    parts: list[str] = []
    ranges: list[tuple[int, int]] = []
    at, before = 0, ""
    for word in words:
        if before and not (is_unspaced_text and _touch(before, word)):
            parts.append(" ")
            at += 1
        parts.append(word)
        ranges.append((at, at + len(word)))
        at += len(word)
        before = word
    return "".join(parts), ranges


def row_of(
    text: str, ranges: list[tuple[int, int]], tags: Sequence[str], *, has_chunks: bool, may_stray: bool
) -> dict[str, Any]:
    """A row of the form `tagged` from words and their tags."""
    row: dict[str, Any] = {"text": text, "words": ranges}
    if not has_chunks:
        return row | {"spans": [Span(*place, tag) for place, tag in zip(ranges, tags, strict=True) if tag]}
    chunks = chunks_of(tags)
    spans = [Span(ranges[one.first][0], ranges[one.end - 1][1], one.label) for one in chunks]
    strays = [(span, STRAY) for span, one in zip(spans, chunks, strict=True) if one.is_stray and may_stray]
    return row | {"spans": spans} | ({"doubts": strays} if strays else {})


def _cut(lines: Iterable[tuple[int, str]]) -> tuple[list[Sentence], int]:
    """Sentences and the usual number of columns."""
    numbered = list(lines)
    first = next((line for _, line in numbered if line.strip(" \t") and line[:1] != "#"), "")
    has_tabs = "\t" in first
    found = list(_sentences(numbered, _by_tabs if has_tabs else _by_spaces))
    sizes = Counter(len(cells) for one in found[:1000] for cells in one.cells)
    width = max(sizes, key=lambda size: sizes[size], default=0)
    has_marks = not has_tabs and any(one.cells and one.cells[0][0] == MARK for one in found)
    tags = _tags(found, width) if has_marks else None
    for one in found:
        while one.cells and _is_comment(one.cells[0], width, tags):
            del one.cells[0], one.lines[0]
    return [one for one in found if one.cells], width


def _is_comment(cells: list[str], width: int, tags: dict[int, Counter[str]] | None) -> bool:
    """Whether the first line of a sentence is about it, as `read_conll` says."""
    if not cells[0].startswith(MARK):
        return False
    if len(cells) != width or "=" in cells[-1]:
        return True
    return cells[0] == MARK and tags is not None and not any(_fits(cells[at], known) for at, known in tags.items())


def _tags(sentences: Sequence[Sentence], width: int) -> dict[int, Counter[str]]:
    """Values of the columns that hold tags of chunks, or else of the last column, beside all marks #."""
    rows = [cells for one in sentences for cells in one.cells if len(cells) == width and cells[0] != MARK]
    values = [Counter(cells[at] for cells in rows) for at in range(width)]
    return {at: values[at] for at in _chunk_columns(values) or [width - 1]}


def _fits(cell: str, known: Counter[str]) -> bool:
    """Whether a cell may be a tag of a column with these values."""
    if _is_of_chunks(known):
        return cell in (OUTSIDE, *known) or (is_chunk_tag(cell) and len(cell) > 1)
    return not cell.isdecimal() or any(map(str.isdecimal, known))


def _sentences(lines: Iterable[tuple[int, str]], split: Any) -> Iterator[Sentence]:
    document = 0
    sentence = Sentence(document)
    for number, line in lines:
        is_mark = line.startswith(DOCUMENT)
        document += is_mark
        if is_mark or not line.strip(" \t\r"):
            yield sentence
            sentence = Sentence(document)
        else:
            sentence.lines.append(number)
            sentence.cells.append(split(line))
    yield sentence


def _by_tabs(line: str) -> list[str]:
    word, *rest = line.rstrip("\r\n").split("\t")
    return [word, *(cell.strip(" ") for cell in rest)]


def _by_spaces(line: str) -> list[str]:
    # Not str.split(): U+3000 and the no-break space are words in some files.
    cells = line.rstrip("\r\n ").split(" ")
    return cells if "" not in cells else re.split(" +", " ".join(cells))


def _check(path: Path, sentence: Sentence, width: int) -> None:
    for line, cells in zip(sentence.lines, sentence.cells, strict=True):
        if len(cells) != width or not 2 <= width <= MAX_COLUMNS:
            raise DataError(
                "ragged-row",
                f"expected {width} columns, saw {len(cells)}: '{' | '.join(cells)[:120]}'",
                place=f"{path}:{line}",
                expected=f"2 to {MAX_COLUMNS} columns on each line, parted by tabs or by spaces; "
                "a blank line between sentences",
                remedy="mend the line",
            )
        if not cells[0]:
            raise DataError("empty-word", "the line has no word before its tag", place=f"{path}:{line}")


def _values(sentences: Sequence[Sentence], width: int) -> list[Counter[str]]:
    return [Counter(cells[at] for one in sentences for cells in one.cells) for at in range(width)]


def _chunk_columns(values: Sequence[Counter[str]]) -> list[int]:
    """Columns that hold tags of chunks, but for a few mistakes."""
    return [at for at, column in enumerate(values) if _is_of_chunks(column)]


def _is_of_chunks(column: Counter[str]) -> bool:
    good = sum(count for tag, count in column.items() if is_chunk_tag(tag))
    return good >= _TAG_SHARE * sum(column.values())


def _choose_columns(
    path: Path, values: Sequence[Counter[str]], sentences: Sequence[Sentence], column: str | None
) -> tuple[int, int]:
    """Places of the words and of their tags."""
    counts = all(cells[0] == str(at) for one in sentences for at, cells in enumerate(one.cells, 1))
    word = 1 if counts and len(values) > 2 else 0
    found = PLACE.fullmatch(column or "")
    named = column if found is None else found[1] if int(found[2]) == len(values) else None
    if named is not None:
        if not named.isdigit() or not 1 <= int(named) <= len(values):
            raise DataError(
                "missing-column",
                f"there is no column '{column}'",
                place=path,
                expected=f"a number from 1 to {len(values)}",
            )
        tag = int(named) - 1
    else:
        chunked = [at for at in _chunk_columns(values) if set(values[at]) != {OUTSIDE}] or _chunk_columns(values)
        varied = [at for at in range(word + 1, len(values)) if len(values[at]) > 1]
        tag = (chunked or varied or [len(values) - 1])[-1]
    return (word, tag) if tag != word else (word + 1, tag)


def _has_digits(words: Counter[str]) -> bool:
    """Whether each word has a digit behind it, as in the Weibo corpus (its place in the segmented word)."""
    stems = [word[:-1] for word in words]
    return all(stems) and all(word[-1] in "0123456789" for word in words) and any(map(is_unspaced, "".join(stems)))


def _is_unspaced_text(sentences: Sequence[Sequence[str]]) -> bool:
    """Whether a third of the first words have a character of a script that is written without spaces."""
    words = [word for one in sentences[:200] for word in one]
    return 3 * sum(any(map(is_unspaced, word)) for word in words) >= len(words)


def _touch(before: str, word: str) -> bool:
    """Whether no space stands between two words of an unspaced text."""
    return len(before) == len(word) == 1 or is_unspaced(before[-1]) or is_unspaced(word[0])
