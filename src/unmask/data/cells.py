"""Lines of text as rows of cells: CSV, TSV and the published layouts without a header.

Every reader gives pairs of a line number and a row, or the error that this row is, so that whoever reads may go on.
"""

import csv
import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unmask.data.files import MAX_LINE_BYTES, kind, read_head, read_lines
from unmask.data.names import KNOWN_NAMES
from unmask.errors import DataError

log = logging.getLogger("unmask")

Placed = tuple[int, list[str] | DataError]


@dataclass(frozen=True)
class Layout:
    """A published format without a header.

    Attributes:
        name: what it is called.
        first: what its first line looks like.
        names: of its columns.
        is_open: whether some rows have further cells, which mean nothing.
    """

    name: str
    first: re.Pattern[str]
    names: tuple[str, ...]
    is_open: bool = False


_COLA = Layout("CoLA", re.compile(r"[\w-]+\t[01]\t\*?\t[^\t]+"), ("source", "label", "mark", "sentence"))
_STS = Layout(
    "the STS benchmark",
    re.compile(r"main-\w+\t[^\t]+\t[^\t]+\t\d+\t\d\.\d+\t[^\t]+\t[^\t]+(\t.*)?"),
    ("genre", "file", "year", "number", "score", "sentence1", "sentence2"),
    is_open=True,
)
LAYOUTS = (_COLA, _STS)
_NUMBER = re.compile(r"\s*[-+]?\d+(\.\d+)?\s*")
# What Excel writes and reads as the first line of a file whose delimiter is not that of its locale.
_DELIMITER_LINE = re.compile(r"(\"?)sep=([^\r\n])\1[\r\n]*", re.IGNORECASE)
_LOOKED_AT = 100  # lines in which the delimiter is looked for
# A label before the text: a number, fastText's `__label__x`, or TREC's `ABBR:exp`.
_LABEL_TEXT = re.compile(r"(?:-?\d{1,3}|__label__\S+|[A-Z]+:[a-z]+) +\S")


@dataclass(frozen=True)
class Cells:
    """Rows of a file of text.

    Attributes:
        names: of the columns.
        rows: line and cells of each row, or what is wrong with it.
        notes: what was found out about the file.
        has_header: whether the names stand in the file.
    """

    names: tuple[str, ...]
    rows: list[Placed]
    notes: tuple[str, ...] = ()
    has_header: bool = True


def read_cells(path: Path, names: Sequence[str] | None = None, like: Sequence[str] = ()) -> Cells:
    """Read a .csv or .tsv file, or any other file whose lines have tabs or begin with a label, or one text a line.

    Args:
        path: the file.
        names: of the columns of a file without a header; by default they are looked for in the first line.
        like: names of the columns of another file, which are taken if this one has no header and as many cells.

    Raises:
        DataError: unknown format, no header, a column that is named twice, a damaged file.
    """
    suffix, head = kind(path), _complete_lines(read_head(path))
    layout = next((one for one in LAYOUTS if head and one.first.fullmatch(head[0])), None)
    if layout is not None:
        return _laid_out(path, layout)
    if suffix == ".csv":
        return _named(path, _csv_rows(path), names, like)
    if suffix == ".tsv" or _is_tabbed(head):
        return _named(path, _tab_rows(path), names, like)
    if head and all(_LABEL_TEXT.match(line) for line in head):
        return _labelled(path)
    if suffix == ".txt":
        return Cells(("text",), [(number, [line]) for number, line in enumerate(read_lines(path), 1) if line])
    raise DataError(
        "unknown-format",
        (f"the name ends in '{suffix}', which says nothing," if suffix else "the name has no suffix,")
        + " and its lines do not all have the same number of tabs",
        place=path,
        expected="a name that ends in .csv, .tsv, .jsonl, .parquet or .txt (and perhaps .gz, .xz, .zst, .bz2)",
        remedy="rename it if it is one of these; of other formats, write the rows as JSON Lines",
    )


def header_hint(columns: Sequence[str]) -> str | None:
    """Say why the names of the columns look like a row, that is, like a file without a header; None if they do not."""
    for name in columns:
        if len(name) > 80 or re.search(r"\S \S.* \S.*\w[.!?]$|[。！？]", name) or name.count(" ") > 5:
            return f"the first line looks like a row, not like names of columns: '{name[:60]}'"
        if re.fullmatch(r"[-+]?\d+\.\d+", name):
            return f"the first line holds the number {name}"
    return None


def _named(path: Path, rows: Iterator[Placed], names: Sequence[str] | None, like: Sequence[str]) -> Cells:
    """Rows whose first line may be a header: it is one unless names are given or it looks like the other rows."""
    found = list(rows)
    notes = _drop_blank_end(path, found)
    if not found:
        raise DataError("empty-file", "the file is empty", place=path, expected="a header and rows")
    line, first = found[0]
    if isinstance(first, DataError):
        raise first
    if names:
        notes += _check_first(f"{path}:{line}", first, found[1:], names)
    reason = "names are given" if names else _row_reason(first, found[1:])
    if reason:
        numbers = [str(number) for number in range(1, len(first) + 1)]
        chosen = tuple(names or (like if len(like) == len(first) else numbers))
        note = f"{path.name} has no header ({reason}); its columns are {', '.join(chosen)}"
        return Cells(chosen, _checked(path, chosen, found), (note, *notes), has_header=False)
    if len(set(first)) < len(first):
        twice = next(name for name in first if first.count(name) > 1)
        raise DataError(
            "duplicate-column",
            f"two columns have the name '{twice}'",
            place=f"{path}:{line}",
            value=", ".join(first)[:200],
            remedy="give each column its own name in the first line",
        )
    return Cells(tuple(first), _checked(path, first, found[1:]), notes)


def _drop_blank_end(path: Path, rows: list[Placed]) -> tuple[str, ...]:
    """Take the last rows off that have several cells and nothing in any, as spreadsheets write them; gives the note."""
    last = len(rows)
    while rows and isinstance(cells := rows[-1][1], list) and len(cells) > 1 and not any(map(str.strip, cells)):
        rows.pop()
    lost = last - len(rows)
    return (f"{path.name}: {lost} rows at its end have nothing in any cell and are left out",) if lost else ()


def _check_first(place: str, first: list[str], rest: Sequence[Placed], names: Sequence[str]) -> tuple[str, ...]:
    """Refuse names that are given for a file whose first line holds usual names, or these, and nothing else.

    Returns:
        A note where only some cells are such names, for these may be words of a row.

    Raises:
        DataError: all cells are such names, and some are in no other row.
    """
    if header_hint(first) or any(_NUMBER.fullmatch(cell) or cell.count(" ") > 2 for cell in first):
        return ()
    usual = KNOWN_NAMES | {name.strip().casefold() for name in names}
    odd = []
    for at, cell in enumerate(map(str.strip, first)):
        values = {row[at].strip() for _, row in rest if isinstance(row, list) and len(row) > at}
        odd += [cell] if cell.casefold() in usual and values and cell not in values else []
    if not odd:
        return ()
    if any(cell.strip().casefold() not in usual for cell in first):
        return (f"{place} is read as a row, since names are given; '{odd[0]}' in it looks like one of a column",)
    raise DataError(
        "named-header",
        f"names of columns are given, as for a file without a header, but '{odd[0]}' in the first line looks like one",
        place=place,
        value=", ".join(first)[:200],
        expected="a row, if names of all columns are given",
        remedy="leave --columns (--data.columns) out, and name columns of the header by --text-column and "
        "--label-column; if the line is a row, let another one stand before it",
    )


def _row_reason(first: list[str], rest: Sequence[Placed]) -> str | None:
    """Why the first line is a row and no header; None if it is one."""
    if any(name.strip().lower() in KNOWN_NAMES for name in first):
        return None
    if [name.strip() for name in first] in ([str(at + start) for at in range(len(first))] for start in (0, 1)):
        return None
    for place, name in enumerate(first):
        values = [row[place] for _, row in rest if isinstance(row, list) and len(row) > place]
        if name and name in values and 2 * len(set(values)) <= len(values) + 1:
            return f"'{name}' stands in it as in other lines"
    return header_hint(first)


def _checked(path: Path, names: Sequence[str], rows: Sequence[Placed], *, is_open: bool = False) -> list[Placed]:
    """The rows, with an error in place of each that has too many or too few cells."""
    checked: list[Placed] = []
    for line, cells in rows:
        if isinstance(cells, list) and is_open:
            cells = cells[: len(names)]
        if isinstance(cells, list) and len(cells) != len(names):
            cells = DataError(
                "ragged-row",
                f"row: expected {len(names)} fields, saw {len(cells)}: '{' | '.join(cells)[:120]}'",
                place=f"{path}:{line}",
                expected=", ".join(names)[:200],
                remedy='put a .csv cell with the delimiter into "quotes"; a .tsv cell cannot hold a tab or newline',
            )
        checked.append((line, cells))
    return checked


def _laid_out(path: Path, layout: Layout) -> Cells:
    rows = _checked(path, layout.names, list(_tab_rows(path)), is_open=layout.is_open)
    note = f"{path.name} has the layout of {layout.name}: {', '.join(layout.names)}"
    return Cells(layout.names, rows, (note,), has_header=False)


def _labelled(path: Path) -> Cells:
    rows: list[Placed] = []
    for number, line in enumerate(read_lines(path), 1):
        if not line:
            continue
        label, _, text = line.partition(" ")
        rows.append((number, [label.removeprefix("__label__"), text.strip()]))
    return Cells(("label", "text"), rows, (f"{path.name}: a label before each text",), has_header=False)


def _csv_rows(path: Path) -> Iterator[Placed]:
    lines = read_lines(path, keep_ends=True)
    head = list(itertools.islice(lines, _LOOKED_AT))
    csv.field_size_limit(MAX_LINE_BYTES)
    named = _DELIMITER_LINE.fullmatch(head[0]) if head else None
    delimiter = named[2] if named else _delimiter(head)
    passed = 1 if named else 0
    reader = csv.reader(itertools.chain(head[passed:], lines), delimiter=delimiter, strict=True)
    while True:
        start = passed + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield start, _bad_csv(path, start, str(error))
            continue
        if cells is None:
            return
        if cells:
            yield start, cells


def _bad_csv(path: Path, line: int, error: str) -> DataError:
    is_open = "unexpected end" in error or "field larger" in error
    return DataError(
        "bad-csv",
        "the quote that opens a cell in this row is never closed" if is_open else f"the row is not CSV: {error}",
        place=f"{path}:{line}",
        expected='a quote inside a "cell" written twice: ""',
        remedy="correct the row, or name the file .tsv if its cells are parted by tabs and quotes mean nothing",
    )


def _delimiter(head: Sequence[str]) -> str:
    """The one of comma, semicolon and tab that occurs most often in the first line outside quotes; comma if none does.

    A bar parts cells only where the header has bars and none of these, so that it never cuts labels such as `a|b`.
    """
    bare = re.sub(r'"[^"]*"', "", next((line for line in head if line.strip("\r\n")), ""))
    if "|" in bare and not any(mark in bare for mark in ",;\t") and _is_barred(head):
        return "|"
    return max(",;\t", key=lambda mark: (bare.count(mark), mark == ","))


def _is_barred(head: Sequence[str]) -> bool:
    """Whether bars part names of columns, and most of the first rows have as many cells as there are names."""
    first, *rows = [row for row in csv.reader(head, delimiter="|") if row]
    are_names = all(name.strip() for name in first) and header_hint(first) is None
    return are_names and 2 * sum(len(row) == len(first) for row in rows) >= len(rows)


def _tab_rows(path: Path) -> Iterator[Placed]:
    num_quoted = 0
    for number, line in enumerate(read_lines(path), 1):
        if line:
            cells = line.split("\t")
            num_quoted += any(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)
            yield number, cells
    if num_quoted:
        log.info("%s: %d rows have cells in quotes, which stay in the text: .tsv has no quoting", path, num_quoted)


def _is_tabbed(head: Sequence[str]) -> bool:
    """Whether all lines have tabs, and the same number of them."""
    counts = {line.count("\t") for line in head}
    return len(head) > 1 and len(counts) == 1 and 0 not in counts


def _complete_lines(head: str) -> list[str]:
    """Lines of the beginning of a file that have words in them; the last one counts only if it is the only one."""
    lines = re.split(r"\r\n|\n|\r", head)
    return [line for line in (lines[:-1] if len(lines) > 1 else lines) if line.strip()]
