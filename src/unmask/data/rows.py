"""Tables of texts and labels: CSV, TSV, JSON and Parquet, every value as it is written.

Nothing is converted: `NA`, `null`, `001` and `1e5` stay the texts that they are.
"""

import difflib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unmask.data.cells import Cells, read_cells
from unmask.data.files import JSON_LINES_SUFFIXES, kind, read_lines
from unmask.data.json_rows import read_json
from unmask.errors import DataError

log = logging.getLogger("unmask")

Form = Literal["table", "tagged", "questions", "choices"]
Placed = tuple[int, dict[str, Any] | DataError]
Reject = Callable[[DataError], None]


@dataclass(frozen=True)
class Table:
    """Rows of a file.

    Attributes:
        path: the file.
        columns: names of the columns, in the order of the file.
        rows: one dictionary a row, column -> value: texts in a table, parsed values in other forms.
        lines: line that each row begins at (for Parquet: its row), 1-based.
        form: what the rows are: `table`, `tagged` (words or spans with labels), `questions` (about a context) or
            `choices`.
        tag_column: for files of words in columns, where the tags were found, such as `4 of 4`; `read_rows` takes it as
            `tags` for another file of the same data.
        files: for a folder of small files, the one of each row; empty for a file.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    lines: list[int]
    form: Form = "table"
    tag_column: str | None = None
    files: tuple[str, ...] = ()

    def part(self, indices: Sequence[int]) -> "Table":
        """Some of the rows, in the order given."""
        chosen = [self.rows[index] for index in indices], [self.lines[index] for index in indices]
        files = tuple(self.files[index] for index in indices) if self.files else ()
        return Table(self.path, self.columns, *chosen, self.form, self.tag_column, files)

    def place(self, index: int) -> str:
        """Where row number `index` (from 0) stands: `file:line`, or `file:row N` for Parquet."""
        if self.files:
            return f"{self.files[index]}:{self.lines[index]}"
        return place_of(self.path, self.lines[index])


def read_table(
    path: Path | str,
    columns: Sequence[str] | None = None,
    *,
    names: Sequence[str] | None = None,
    like: Sequence[str] = (),
    reject: Reject | None = None,
) -> Table:
    """Read a table without changing a value.

    CSV is read strictly, its delimiter (comma, semicolon or tab; `|` where the header has none of these) found in the
    header, or named by a first line such as Excel's `sep=;`; TSV has no quoting; numbers and
    truth values of JSON keep their literal text (`1.0`, `1e5`, `true`), those of Parquet get the usual one. Lines
    without any character are skipped. JSON is one object a line or one array of objects; it and Parquet may hold lists
    of texts. A first line that looks like the other lines is no header: the columns are then called 1, 2, 3, and so
    on. Lines that all begin with a label make the columns `label` and `text`; other lines of a .txt file are one text
    each, in the column `text`. All formats may be compressed (.xz .gz .zst .bz2).

    Args:
        path: a .csv, .tsv, .jsonl, .json, .parquet or .txt file, or any other one with tabs.
        columns: the columns to read; others are then not looked at. Default: all.
        names: of all columns, for a file without a header.
        like: names of the columns of another file, for the case that this one has no header and as many cells.
        reject: is told of each bad row, which is then left out; by default the first one ends the reading.

    Raises:
        DataError: unknown format, no rows, a column that is missing or named twice, a ragged row, a null or nested
            value, a damaged file; the place is `file:line`.
    """
    path = Path(path)
    wanted, rows, notes = _opened(path, kind(path), columns, names, like)
    for note in notes:
        log.info("%s", note)
    return _collected(path, wanted, rows, reject)


def iter_table(
    path: Path, columns: Sequence[str] | None = None, *, names: Sequence[str] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a table row by row, as `read_table` does; of JSON lines and texts no more than a row is held in memory.

    Yields:
        The place of each row, `file:line`, and the row.

    Raises:
        DataError: as of `read_table`, when it comes to the row.
    """
    wanted, rows, notes = _opened(path, kind(path), columns, names, ())
    for note in notes:
        log.info("%s", note)
    line = 0
    for line, row in rows:
        if isinstance(row, DataError):
            raise row
        yield place_of(path, line), row
    if not line:
        raise _no_rows(path, wanted)


def place_of(path: Path, line: int) -> str:
    """`file:line`, or `file:row N` for Parquet."""
    return f"{path}:{'row ' if kind(path) == '.parquet' else ''}{line}"


def check_named(table: Table, named: Iterable[str | None]) -> None:
    """Refuse a table that has no rows, or not the columns that were named.

    Args:
        table: to be trained on.
        named: columns; `None` is one that was not named.

    Raises:
        DataError: with the nearest name.
    """
    if not table.rows:
        raise DataError("no-rows", "there are no rows to learn from", place=table.path)
    for name in named:
        if name is not None and name not in table.columns:
            raise missing_column(name, table.columns, table.path)


def missing_column(name: str, names: Sequence[str], place: object, *, remedy: str | None = None) -> DataError:
    """The error for a column that is not there, with the nearest of those that are.

    Args:
        name: of the column.
        names: of the file's columns.
        place: the file.
        remedy: what to do, if there is more to say.
    """
    near = difflib.get_close_matches(name, names, n=1)
    return DataError(
        "missing-column",
        f"there is no column '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""),
        place=place,
        expected=f"one of: {', '.join(names)[:300]}",
        remedy=remedy,
    )


def _opened(
    path: Path, suffix: str, columns: Sequence[str] | None, names: Sequence[str] | None, like: Sequence[str]
) -> tuple[tuple[str, ...], Iterator[Placed], tuple[str, ...]]:
    """Columns, rows and notes of a file."""
    if suffix == ".parquet":
        from unmask.data.parquet_rows import open_parquet, parquet_rows

        content = open_parquet(path)
        wanted = _choose(path, content.column_names, columns)
        return wanted, parquet_rows(path, content, wanted), ()
    if suffix in JSON_LINES_SUFFIXES:
        return read_json(path, columns)
    if suffix == ".txt" and columns and list(columns) == ["text"]:
        return ("text",), ((at, {"text": line}) for at, line in enumerate(read_lines(path), 1) if line), ()
    cells = read_cells(path, names, like)
    wanted = _choose(path, cells.names, columns, cells)
    return wanted, _dictionaries(cells, wanted), cells.notes


def _collected(path: Path, wanted: tuple[str, ...], rows: Iterator[Placed], reject: Reject | None) -> Table:
    values, lines = [], []
    for line, row in rows:
        if not isinstance(row, DataError):
            values.append(row)
            lines.append(line)
        elif reject is None:
            raise row
        else:
            reject(row)
    if not values:
        raise _no_rows(path, wanted)
    return Table(path, wanted, values, lines)


def _no_rows(path: Path, wanted: tuple[str, ...]) -> DataError:
    return DataError("no-rows", "the file has a header and no rows", place=path, value=", ".join(wanted))


def _dictionaries(cells: Cells, wanted: Sequence[str]) -> Iterator[Placed]:
    places = [cells.names.index(name) for name in wanted]
    for line, row in cells.rows:
        yield (
            line,
            row
            if isinstance(row, DataError)
            else {name: row[place] for name, place in zip(wanted, places, strict=True)},
        )


def _choose(
    path: Path, names: Sequence[str], columns: Sequence[str] | None, cells: Cells | None = None
) -> tuple[str, ...]:
    for name in columns or ():
        if name not in names:
            has_header = cells is None or cells.has_header
            remedy = None if has_header else "the file has no header; name all its columns: --columns NAME,NAME,..."
            raise missing_column(name, names, path, remedy=remedy)
    return tuple(columns or names)
