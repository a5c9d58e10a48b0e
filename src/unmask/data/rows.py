"""Tables of texts and labels: CSV, TSV, JSON Lines and Parquet, every value as it is written.

Nothing is converted: `NA`, `null`, `001` and `1e5` stay the texts that they are.
"""

import csv
import difflib
import io
import itertools
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow
from pyarrow import parquet, types

from unmask.data.files import JSON_LINES_SUFFIXES, MAX_LINE_BYTES, kind, parse_json, read_bytes, read_lines
from unmask.errors import DataError

log = logging.getLogger("unmask")

Form = Literal["table", "tagged", "questions", "choices"]
Row = tuple[int, list[str]]


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
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    lines: list[int]
    form: Form = "table"

    def part(self, indices: Sequence[int]) -> "Table":
        """Some of the rows, in the order given."""
        chosen = [self.rows[index] for index in indices], [self.lines[index] for index in indices]
        return Table(self.path, self.columns, *chosen, self.form)

    def place(self, index: int) -> str:
        """Where row number `index` (from 0) stands: `file:line`, or `file:row N` for Parquet."""
        word = "row " if kind(self.path) == ".parquet" else ""
        return f"{self.path}:{word}{self.lines[index]}"


def read_table(path: Path | str, columns: Sequence[str] | None = None) -> Table:
    """Read a table without changing a value.

    CSV is read strictly, its delimiter (comma, semicolon or tab) found in the header; TSV has no quoting; numbers and
    truth values of JSON keep their literal text (`1.0`, `1e5`, `true`), those of Parquet get the usual one. Lines
    without any character are skipped. A .txt file has one text a line, in the column `text`. All formats may be
    compressed (.xz .gz .zst .bz2).

    Args:
        path: a .csv, .tsv, .jsonl, .parquet or .txt file.
        columns: the columns to read; others are then not looked at. Default: all.

    Raises:
        DataError: unknown format, no header, no rows, a column that is missing or named twice, a ragged row, a null or
            nested value, a damaged file; the place is `file:line`.
    """
    path = Path(path)
    suffix = kind(path)
    if suffix in (".csv", ".tsv"):
        table = _from_cells(path, _csv_rows(path) if suffix == ".csv" else _tsv_rows(path), columns)
    elif suffix in JSON_LINES_SUFFIXES:
        table = _from_json(path, columns)
    elif suffix == ".parquet":
        table = _from_parquet(path, columns)
    elif suffix == ".txt":
        table = _from_cells(path, _text_rows(path), columns)
    else:
        raise DataError(
            "unknown-format",
            f"the name ends in '{suffix}', so the format is not known" if suffix else "the name has no suffix",
            place=path,
            expected="a name that ends in .csv, .tsv, .jsonl, .parquet or .txt (and perhaps .gz, .xz, .zst, .bz2)",
            remedy="rename the file",
        )
    if not table.rows:
        raise DataError("no-rows", "the file has a header and no rows", place=path, value=", ".join(table.columns))
    return table


def header_hint(columns: Sequence[str]) -> str | None:
    """Say why the names of the columns look like a row, that is, like a file without a header; None if they do not."""
    for name in columns:
        if len(name) > 80 or re.search(r"\w[.!?]$|[。！？]", name) or name.count(" ") > 5:
            return f"the first line looks like a row, not like names of columns: '{name[:60]}'"
        if re.fullmatch(r"[-+]?\d+\.\d+", name):
            return f"the first line holds the number {name}; does the file lack a header?"
    return None


def _from_cells(path: Path, rows: Iterator[Row], columns: Sequence[str] | None) -> Table:
    header = next(rows, None)
    if header is None:
        raise DataError("empty-file", "the file is empty", place=path, expected="a header and rows")
    names = header[1]
    hint = header_hint(names)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(
            "duplicate-column",
            f"two columns have the name '{twice}'" + (f"; {hint}" if hint else ""),
            place=f"{path}:{header[0]}",
            value=", ".join(names)[:200],
            remedy="give each column its own name in the first line",
        )
    if hint:
        log.warning("%s:%d: %s", path, header[0], hint)
    wanted = _choose(path, names, columns)
    places = [names.index(name) for name in wanted]
    values, lines = [], []
    for line, cells in rows:
        if len(cells) != len(names):
            raise DataError(
                "ragged-row",
                f"row: expected {len(names)} fields, saw {len(cells)}: '{' | '.join(cells)[:120]}'",
                place=f"{path}:{line}",
                expected=", ".join(names)[:200],
                remedy='put a .csv cell with the delimiter into "quotes"; a .tsv cell cannot hold a tab or newline',
            )
        values.append({name: cells[place] for name, place in zip(wanted, places, strict=True)})
        lines.append(line)
    return Table(path, wanted, values, lines)


def _csv_rows(path: Path) -> Iterator[Row]:
    lines = read_lines(path, keep_ends=True)
    head = []
    for line in lines:
        head.append(line)
        if line.strip("\r\n"):
            break
    csv.field_size_limit(MAX_LINE_BYTES)
    delimiter = _delimiter("".join(head))
    reader = csv.reader(itertools.chain(head, lines), delimiter=delimiter, strict=True)
    start = 1
    try:
        for cells in reader:
            if cells:
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        is_open = "unexpected end" in str(error) or "field larger" in str(error)
        raise DataError(
            "bad-csv",
            "the quote that opens a cell in this row is never closed" if is_open else f"the row is not CSV: {error}",
            place=f"{path}:{start}",
            expected='a quote inside a "cell" written twice: ""',
            remedy="correct the row, or name the file .tsv if its cells are parted by tabs and quotes mean nothing",
        ) from None


def _text_rows(path: Path) -> Iterator[Row]:
    yield 0, ["text"]
    yield from ((number, [line]) for number, line in enumerate(read_lines(path), 1) if line)


def _delimiter(header: str) -> str:
    """The one of comma, semicolon and tab that occurs most often outside quotes; comma if none does."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(",;\t", key=lambda mark: (bare.count(mark), mark == ","))


def _tsv_rows(path: Path) -> Iterator[Row]:
    num_quoted = 0
    for number, line in enumerate(read_lines(path), 1):
        if line:
            cells = line.split("\t")
            num_quoted += any(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)
            yield number, cells
    if num_quoted:
        log.info("%s: %d rows have cells in quotes, which stay in the text: .tsv has no quoting", path, num_quoted)


def _from_json(path: Path, columns: Sequence[str] | None) -> Table:
    # Literals keep their text; a string and a number that look alike are the same value of a table.
    decoder = json.JSONDecoder(
        parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_without_duplicates
    )
    wanted: tuple[str, ...] | None = tuple(columns) if columns else None
    values, lines = [], []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        row = parse_json(path, number, line, decoder)
        if wanted is None:
            wanted = tuple(row)
        extra = [] if columns else [name for name in row if name not in wanted]
        if extra:
            raise DataError(
                "ragged-row",
                f"the row has the key '{extra[0]}', which the first row has not",
                place=f"{path}:{number}",
                expected=", ".join(wanted)[:200],
                remedy="give every row the same keys, or name the columns to be read",
            )
        values.append({name: _json_text(f"{path}:{number}", name, row) for name in wanted})
        lines.append(number)
    if wanted is None or not values:
        raise DataError("empty-file", "the file has no rows", place=path, expected="one JSON object on each line")
    return Table(path, wanted, values, lines)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(name for name in names if names.count(name) > 1)}' stands twice")
    return row


def _json_text(place: str, name: str, row: dict[str, object]) -> str:
    value = row.get(name)
    if isinstance(value, str):
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
    if isinstance(value, bool):
        return "true" if value else "false"
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
        f"the key '{name}' holds a {'list' if isinstance(value, list) else 'nested object'}",
        place=place,
        value=json.dumps(value)[:80],
        expected="a text, number or truth value",
        remedy="flatten it, or name only the columns that are needed",
    )


def _from_parquet(path: Path, columns: Sequence[str] | None) -> Table:
    try:
        table = parquet.read_table(io.BytesIO(read_bytes(path)))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            "bad-parquet",
            f"the file is not Parquet, or it is cut: {str(error).splitlines()[0]}",
            place=path,
            remedy="write or copy the file again",
        ) from None
    wanted = _choose(path, table.column_names, columns)
    cells = {name: _parquet_texts(path, name, table.column(name)) for name in wanted}
    rows = [dict(zip(wanted, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    return Table(path, wanted, rows, list(range(1, len(rows) + 1)))


def _parquet_texts(path: Path, name: str, column: pyarrow.ChunkedArray) -> list[str]:
    form = column.type
    if types.is_dictionary(form):
        form = form.value_type
        column = column.cast(form)
    is_text = types.is_string(form) or types.is_large_string(form) or types.is_string_view(form)
    is_value = types.is_integer(form) or types.is_floating(form) or types.is_boolean(form) or types.is_decimal(form)
    is_date = types.is_temporal(form)
    if not (is_text or is_value or is_date or types.is_null(form)):
        raise DataError(
            "nested-value",
            f"the column '{name}' holds {form}, not texts, numbers, dates or truth values",
            place=path,
            remedy="flatten it, or name only the columns that are needed",
        )
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(
            "missing-value",
            f"the column '{name}' has {column.null_count} nulls",
            place=f"{path}:row {row + 1}",
            remedy="fill them in, drop the rows, or name only the columns that are needed",
        )
    if types.is_floating(form):
        return [str(value) for value in column.to_numpy()]
    try:
        return column.cast(pyarrow.string()).to_pylist()
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError("bad-parquet", f"the column '{name}' is not text: {error}", place=path) from None


def _choose(path: Path, names: Sequence[str], columns: Sequence[str] | None) -> tuple[str, ...]:
    for name in columns or ():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise DataError(
                "missing-column",
                f"there is no column '{name}'" + (f"; did you mean '{near[0]}'?" if near else ""),
                place=path,
                expected=f"one of: {', '.join(names)[:300]}",
            )
    return tuple(columns or names)
