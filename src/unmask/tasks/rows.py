"""Rows and the answers to them: what all tasks share that needs no network, and no torch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from unmask.config import Settings
from unmask.errors import DataError

Row = Mapping[str, Any]
Place = Callable[[int], object]


@dataclass(frozen=True)
class Prediction:
    """What a task answers about one row; each task has its own fields."""

    def summary(self) -> str:
        """The answer as one line for a terminal, or a few."""
        return "\t".join(str(value) for value in asdict(self).values())

    def record(self) -> dict[str, Any]:
        """The answer for machines: its fields, by name, as far as they say something."""
        return asdict(self)


@dataclass(frozen=True)
class Mark:
    """A stretch of a text to be shown in colour.

    Attributes:
        start: first character.
        end: character behind the last one.
        label: what it is called.
        is_gold: whether it is from the labelled file, not from the model.
    """

    start: int
    end: int
    label: str
    is_gold: bool


@dataclass(frozen=True)
class Mistake:
    """A wrong answer, for reports.

    Attributes:
        text: what was asked.
        label: the right answer.
        answer: the given one.
        score: how sure the model was, or how wrong; the greatest ones are shown first.
        marks: stretches of the text that were or should have been found.
    """

    text: str
    label: str
    answer: str
    score: float
    marks: tuple[Mark, ...] = ()


def row_number(index: int) -> str:
    """The place of a row that came from no file."""
    return f"text {index + 1}"


def text_columns(settings: Settings) -> tuple[str, ...]:
    """Columns of a row that hold its texts, in order."""
    names = (getattr(settings, name, None) for name in ("text_column", "pair_column"))
    return tuple(name for name in names if name is not None)


def cell_of(row: Row, column: str, where: object) -> Any:
    """What stands in a column of a row.

    Raises:
        DataError: there is no such column.
    """
    if column not in row:
        raise DataError(
            "missing-column",
            f"there is no column '{column}'",
            place=where,
            expected=f"one of the columns {', '.join(row)}",
            remedy="name the file's column: --text-column NAME, --pair-column NAME, --label-column NAME",
        )
    return row[column]


def text_of(row: Row, column: str, where: object, *, what: str = "text") -> str:
    """The text in a column of a row.

    Args:
        row: of any form.
        column: that holds it.
        where: place of the row, for errors.
        what: it is, for errors, such as `label`.

    Raises:
        DataError: there is no such column, it holds something else than a text, or nothing but white space.
    """
    text = cell_of(row, column, where)
    if not isinstance(text, str):
        raise _not_a_text(text, column, where)
    if not text.strip():
        raise DataError(
            "empty-text", f"the {what} in column '{column}' is empty", place=where, remedy="fill it or remove the row"
        )
    return text


def rows_of(texts: Iterable[Any], columns: Sequence[str]) -> list[Row]:
    """The rows that ask about texts, pairs of texts, or rows themselves.

    Raises:
        DataError: no list was given, or something in it is none of these, or of more or fewer texts than columns.
    """
    _refuse_one(texts)
    return [_row_of(text, columns, row_number(at)) for at, text in enumerate(texts)]


def check_rows(rows: Sequence[Row], place: Place) -> None:
    """Refuse what is no list of rows.

    Raises:
        DataError: no list was given, or something in it is no mapping.
    """
    _refuse_one(rows)
    for at, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise DataError(
                "not-a-row",
                f"a value of the type {type(row).__name__} stands where a row is wanted",
                place=place(at),
                value=row,
                remedy="give rows as {column: text}",
            )


def _refuse_one(given: object) -> None:
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        what = "string" if isinstance(given, str) else f"value of the type {type(given).__name__}"
        raise DataError("not-a-list", f"a single {what} was given", remedy="pass a list, also of one: [text]")


def _row_of(text: Any, columns: Sequence[str], where: object) -> Row:
    if isinstance(text, Mapping):
        return text
    if isinstance(text, bytes) or not isinstance(text, Iterable):
        raise _not_a_text(text, columns[0], where)
    parts = [text] if isinstance(text, str) else list(text)
    if len(parts) != len(columns):
        raise DataError(
            "wrong-number-of-texts",
            f"this model reads {len(columns)} text(s) a row, {len(parts)} were given",
            place=where,
            value=parts,
            remedy="give pairs as (first, second)" if len(columns) == 2 else "give single texts",
        )
    return dict(zip(columns, parts, strict=True))


def _not_a_text(value: object, column: str, where: object) -> DataError:
    is_list = isinstance(value, list | tuple)
    return DataError(
        "not-a-text",
        f"column '{column}' holds several values where one is wanted"
        if is_list
        else f"column '{column}' holds a value of the type {type(value).__name__}, not a text",
        place=where,
        value=repr(value),
        remedy="give one; or, for rows with several labels: --options.multi_label true"
        if is_list
        else "give a str; missing values, which pandas makes None or nan, have to be filled or left out",
    )
