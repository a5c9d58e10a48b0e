"""Rows of files, of standard input and of the command line, as the commands that use a model read them."""

import itertools
import logging
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from unmask.cli import heavy
from unmask.errors import DataError, UsageError

log = logging.getLogger("unmask")

Read = TypeVar("Read")
Placed = tuple[object, dict[str, Any] | DataError]
"""Where a row comes from, and the row, or what is wrong with it."""

_COLUMNS = ("text_column", "pair_column", "label_column")  # fields of settings, and flags


def labelled(file: Path, task: Any, names: list[str] | None, *, skip_bad: bool = False) -> Any:
    """Rows of a file; with `skip_bad` those that the task can take."""
    rejects = heavy("unmask.data.rejects:Rejects")() if skip_bad else None
    tags = getattr(task.settings, "label_column", None)
    read_rows = heavy("unmask.data.recognise:read_rows")

    def read(columns: Sequence[str]) -> Any:
        return read_rows(file, columns, task.form, names=names, reject=rejects, tags=tags)

    table, others = _read_alike(read, task, file, task.columns, names)
    if others:
        table = replace(table, columns=task.columns, rows=[_renamed(row, others) for row in table.rows])
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
    if has_lines(task, file):
        lines = heavy("unmask.data.files:read_lines")(file)
        yield from _rows(str(file), columns, _parts(lines, columns))
    elif task.form == "table" and file.is_file():
        read = partial(_table_rows if skip_bad else _iterated_rows, file, names)
        rows, others = _read_alike(read, task, file, tuple(dict.fromkeys((*columns, *keep))), names)
        yield from ((place, row if isinstance(row, DataError) else _renamed(row, others)) for place, row in rows)
    else:
        form = None if task.form == "tagged" else task.form  # a tagger answers about texts of any file
        table = heavy("unmask.data.recognise:read_rows")(file, columns, form, names=names)
        for name in keep:
            if table.rows and name not in table.rows[0]:
                raise heavy("unmask.data.rows:missing_column")(name, tuple(table.rows[0]), file)
        yield from ((table.place(index), row) for index, row in enumerate(table.rows))


def has_lines(task: Any, file: Path) -> bool:
    """Whether a file is read as one text a line, without columns."""
    return file.suffix == ".txt" and task.form == "table"


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


def _iterated_rows(file: Path, names: list[str] | None, columns: Sequence[str]) -> Iterator[Placed]:
    """One by one, up to the first that cannot be read."""
    rows = heavy("unmask.data.rows:iter_table")(file, columns, names=names)
    first = next(rows)  # says what is wrong with the file as a whole
    return itertools.chain([first], _up_to_error(rows))


def _up_to_error(rows: Iterator[Placed]) -> Iterator[Placed]:
    try:
        yield from rows
    except DataError as error:
        yield error.details["place"], error


def _table_rows(file: Path, names: list[str] | None, columns: Sequence[str]) -> Iterator[Placed]:
    """All of them, those that cannot be read as their errors."""
    errors: list[DataError] = []
    table = heavy("unmask.data.rows:read_table")(file, columns, names=names, reject=errors.append)
    rows: list[Placed] = [(table.place(index), row) for index, row in enumerate(table.rows)]
    return iter(sorted(rows + [(error.details["place"], error) for error in errors], key=lambda one: line_of(one[0])))


def _read_alike(
    read: Callable[[Sequence[str]], Read], task: Any, file: Path, wanted: Sequence[str], names: list[str] | None
) -> tuple[Read, dict[str, str]]:
    """Read columns of a file; of those that are not there, others that are called alike but for case.

    Args:
        read: does it, by the names that the file has.
        task: names the columns in its settings.
        file: that is read.
        wanted: names of the columns.
        names: of all columns, for a table without a header.

    Returns:
        What was read, and the wanted names of columns that have another one in the file.

    Raises:
        DataError: there is no such column; the flags that name another one are told.
    """
    try:
        return read(wanted), {}
    except DataError as error:
        if error.code != "missing-column" or task.form != "table":
            raise
        _, first = next(heavy("unmask.data.rows:iter_table")(file, names=names))
        alike = {name: _alike(name, first) for name in wanted if name not in first}
        if not alike or None in alike.values():
            error.details["fix"] = error.details["fix"] or _flags(task, alike)
            raise
    others = {str(column): name for name, column in alike.items()}
    for column, name in others.items():
        log.info("%s: its column '%s' is taken for '%s'", file, column, name)
    return read([alike.get(name) or name for name in wanted]), others


def _alike(name: str, columns: Iterable[str]) -> str | None:
    found = [column for column in columns if column.strip().casefold() == name.strip().casefold()]
    return found[0] if len(found) == 1 else None


def _flags(task: Any, missing: Collection[Any]) -> str | None:
    fields = [name for name in _COLUMNS if getattr(task.settings, name, None) in missing]
    flags = ", ".join(f"--{name.replace('_', '-')} NAME" for name in fields)
    return f"name the file's column: {flags}" if flags else None


def _renamed(row: dict[str, Any], others: dict[str, str]) -> dict[str, Any]:
    return {others.get(name, name): value for name, value in row.items()} if others else row
