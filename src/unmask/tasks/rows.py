"""Rows and the answers to them: what all tasks share that needs no network, and no torch."""

from collections.abc import Callable, Mapping, Sequence
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
        DataError: there is no such column, it holds a list, or nothing but white space.
    """
    text = cell_of(row, column, where)
    if not isinstance(text, str):
        raise DataError(
            "not-a-text",
            f"column '{column}' holds several values where one is wanted",
            place=where,
            value=text,
            remedy="give one; or, for rows with several labels: --options.multi_label true",
        )
    if not text.strip():
        raise DataError(
            "empty-text", f"the {what} in column '{column}' is empty", place=where, remedy="fill it or remove the row"
        )
    return text


def row_of(text: str | Sequence[str] | Mapping[str, Any], columns: Sequence[str]) -> Row:
    """The row that asks about a text, a pair of texts, or the row itself.

    Raises:
        DataError: there are more or fewer texts than columns.
    """
    if isinstance(text, Mapping):
        return text
    parts = [text] if isinstance(text, str) else list(text)
    if len(parts) != len(columns):
        raise DataError(
            "wrong-number-of-texts",
            f"this model reads {len(columns)} text(s) a row, {len(parts)} were given",
            value=parts,
            remedy="give pairs as (first, second)" if len(columns) == 2 else "give single texts",
        )
    return dict(zip(columns, parts, strict=True))
