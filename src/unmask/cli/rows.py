"""Rows of files, of standard input and of the command line, as the commands that use a model read them."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unmask.cli import heavy
from unmask.errors import DataError, UsageError

Placed = tuple[object, dict[str, Any] | DataError]
"""Where a row comes from, and the row, or what is wrong with it."""


def labelled(file: Path, task: Any, names: list[str] | None, *, skip_bad: bool = False) -> Any:
    """Rows of a file; with `skip_bad` those that the task can take."""
    rejects = heavy("unmask.data.rejects:Rejects")() if skip_bad else None
    tags = getattr(task.settings, "label_column", None)
    read = heavy("unmask.data.recognise:read_rows")
    table = read(file, task.columns, task.form, names=names, reject=rejects, tags=tags)
    if rejects is not None:
        table = heavy("unmask.tasks.sound:sound_rows")(task, table, rejects)
        rejects.write(Path(f"{file.name}.rejects"))
    return table


def given_rows(task: Any, texts: tuple[str, ...], pairs: list[str]) -> Iterator[Placed]:
    """Rows of the texts that were typed behind the command, or of standard input, one a line.

    Args:
        task: that answers.
        texts: first ones; none are read from standard input.
        pairs: second texts, as many, or none.

    Raises:
        UsageError: there are more or fewer texts than the model reads.
    """
    columns = task.text_columns
    if not texts:
        yield from _rows("stdin", columns, _parts(stdin_lines(), columns))
        return
    number = 2 if pairs else 1
    if number != len(columns):
        raise UsageError(
            "wrong-number-of-texts",
            f"this model reads {len(columns)} text(s), {number} were given",
            remedy="give the second text with --pair, or after a tab" if len(columns) == 2 else "leave out --pair",
        )
    yield from _rows("text", columns, map(list, zip(texts, pairs, strict=True)) if pairs else ([one] for one in texts))


def file_rows(
    task: Any, file: Path, names: list[str] | None, *, keep: Sequence[str] = (), skip_bad: bool = False
) -> Iterator[Placed]:
    """Rows of a file, without labels.

    Args:
        task: that answers.
        file: table, .txt file with one text a line, or another format that the task reads.
        names: of all columns, for a table without a header.
        keep: further columns to read.
        skip_bad: go on behind a row of a table that cannot be read; the whole table is then held in memory.

    Raises:
        DataError: the file cannot be read at all.
    """
    columns = task.text_columns
    if file.suffix == ".txt" and task.form == "table":
        lines = heavy("unmask.data.files:read_lines")(file)
        yield from _rows(str(file), columns, _parts(lines, columns))
    elif task.form == "table" and file.is_file():
        wanted = tuple(dict.fromkeys((*columns, *keep)))
        yield from (_table_rows if skip_bad else _iterated_rows)(file, wanted, names)
    else:
        form = None if task.form == "tagged" else task.form  # a tagger answers about texts of any file
        table = heavy("unmask.data.recognise:read_rows")(file, columns, form, names=names)
        for name in keep:
            if table.rows and name not in table.rows[0]:
                raise heavy("unmask.data.rows:missing_column")(name, tuple(table.rows[0]), file)
        yield from ((table.place(index), row) for index, row in enumerate(table.rows))


def line_of(place: object) -> int:
    """Number of the line, row or text that a place ends with."""
    return int(str(place).rpartition(":")[2].rpartition(" ")[2])


def stdin_lines() -> Iterator[str | DataError]:
    """Lines of standard input, without their ends; a line that is not UTF-8 as its error."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            yield DataError(
                "wrong-encoding",
                f"byte {error.start + 1} of the line is not UTF-8",
                place=f"stdin:{number}",
                value=f"0x{line[error.start]:02x}",
                remedy="pipe it through iconv -t utf-8 first",
            )


def _parts(lines: Iterable[str | DataError], columns: tuple[str, ...]) -> Iterator[list[str] | DataError]:
    for line in lines:
        yield line if isinstance(line, DataError) else line.split("\t") if len(columns) > 1 else [line]


def _rows(source: str, columns: tuple[str, ...], given: Iterable[list[str] | DataError]) -> Iterator[Placed]:
    for number, parts in enumerate(given, 1):
        place = f"{source}:{number}"
        if isinstance(parts, DataError):
            yield place, parts
        elif len(parts) == len(columns):
            yield place, dict(zip(columns, parts, strict=True))
        else:
            yield (
                place,
                DataError(
                    "wrong-number-of-texts",
                    f"this model reads {len(columns)} text(s) a row, {len(parts)} were given",
                    place=place,
                    remedy="part the texts by a tab",
                ),
            )


def _iterated_rows(file: Path, columns: tuple[str, ...], names: list[str] | None) -> Iterator[Placed]:
    """One by one, up to the first that cannot be read."""
    has_begun = False
    try:
        for placed in heavy("unmask.data.rows:iter_table")(file, columns, names=names):
            has_begun = True
            yield placed
    except DataError as error:
        if not has_begun:  # the file as a whole may be wrong
            raise
        yield error.details["place"], error


def _table_rows(file: Path, columns: tuple[str, ...], names: list[str] | None) -> Iterator[Placed]:
    """All of them, those that cannot be read as their errors."""
    errors: list[DataError] = []
    table = heavy("unmask.data.rows:read_table")(file, columns, names=names, reject=errors.append)
    rows: list[Placed] = [(table.place(index), row) for index, row in enumerate(table.rows)]
    yield from sorted(rows + [(error.details["place"], error) for error in errors], key=lambda one: line_of(one[0]))
