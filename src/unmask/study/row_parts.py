"""Labelled files as `unmask debug data` looks at them: rows with their texts, what is compared, and their labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unmask.config import Settings
from unmask.data.classes import labels_in
from unmask.data.rows import Form, Table, missing_column
from unmask.errors import DataError
from unmask.tasks.base import Row, Task

SHOWN = 3


@dataclass(frozen=True)
class Part:
    """One of the files.

    Attributes:
        name: `train`, `dev`, `test`, or that of the file.
        table: its rows.
        texts: the texts of each row, joined.
        empty: rows that have a text with nothing in it.
        units: what is compared with other files: the context of a question, else the texts.
        labels: labels of each row.
        rejects: rows that cannot be read.
    """

    name: str
    table: Table
    texts: list[str]
    empty: list[int]
    units: list[str]
    labels: list[list[str]]
    rejects: list[DataError]


@dataclass(frozen=True)
class Trouble:
    """Rows that are odd in one way.

    Attributes:
        name: what is odd.
        count: number of rows.
        examples: place and beginning of a few.
        is_failure: whether training would refuse them, or scores could not be believed.
    """

    name: str
    count: int
    examples: list[str]
    is_failure: bool = False


@dataclass(frozen=True)
class Overlap:
    """Rows of a file that are in another one, or earlier in the same one.

    Attributes:
        inside: name of the file that was there before.
        name: name of the file whose rows are counted; the same for copies in one file.
        rows: number of its rows.
        equal: rows that are equal after normalising.
        near: further rows that are nearly equal.
        contradicting: equal ones that have another label there.
        examples: both places and the text of a few.
    """

    inside: str
    name: str
    rows: int
    equal: int
    near: int
    contradicting: int
    examples: list[str]

    @property
    def share(self) -> float:
        """Part of the rows that are equal or near."""
        return (self.equal + self.near) / self.rows

    def told(self) -> str:
        """The figures as a sentence."""
        where = "are copies of earlier rows" if self.inside == self.name else f"are in {self.inside} too"
        near = f", {self.near:,} more nearly" if self.near else ""
        other = f"; {self.contradicting:,} have another label there" if self.contradicting else ""
        return f"{self.name}: {self.equal:,} of {self.rows:,} rows {where}{near} ({self.share:.1%}){other}"


def part_of(name: str, table: Table, rejects: list[DataError], kind: type[Task], options: Settings | None) -> Part:
    """A file as it is looked at.

    Args:
        name: of the part.
        table: its rows.
        rejects: rows that cannot be read.
        kind: the task.
        options: settings that the task understood; None where it understood nothing.

    Raises:
        DataError: the rows lack a column that the task reads texts from.
    """
    try:
        texts = [_texts(row, kind, options) for row in table.rows]
    except KeyError as error:
        raise missing_column(error.args[0], table.columns, table.path) from None
    joined = ["\n".join(one) for one in texts]
    is_about = table.form in ("questions", "choices")
    units = [row["context"] or text for row, text in zip(table.rows, joined, strict=True)] if is_about else joined
    empty = [at for at, one in enumerate(texts) if not all(text.strip() for text in one)]
    values = {} if options is None else options.model_dump()
    labels = [_labels(row, table.form, values) for row in table.rows]
    return Part(name, table, joined, empty, units, labels, rejects)


def place_of(part: Part, index: int) -> str:
    """Where a row stands, without the folder of its file."""
    return part.table.place(index).removeprefix(f"{part.table.path.parent}/")


def excerpt(part: Part, index: int, start: int = 0, width: int = 60) -> str:
    """Place of a row and a bit of its text, on one line; what cannot be printed is written as an escape."""
    first = max(0, start - width // 3)
    text = part.texts[index][first : first + 4 * width]
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(text.split(" ")))
    shown = f"{'...' if first else ''}{shown[:width]}{'...' if len(shown) > width else ''}"
    return f"{place_of(part, index)}  {shown}".rstrip()


def _texts(row: Row, kind: type[Task], options: Settings | None) -> list[str]:
    if options is not None:
        return kind.texts(row, options)
    return [value for value in row.values() if isinstance(value, str)]


def _labels(row: Row, form: Form, options: Mapping[str, Any]) -> list[str]:
    """The labels of a row: classes, or names of spans; numbers and texts to be written are none."""
    if form == "tagged":
        return [span.label for span in row["spans"]]
    if form == "questions":
        return ["without answer" if row["is_impossible"] else "with answer"]
    if form == "choices":
        return [f"choice {row['answer'] + 1}"] if row["answer"] >= 0 else []
    cell = row.get(options.get("label_column", ""))
    if cell is None or len(options.get("labels") or ()) < 2:
        return []
    is_several = options.get("multi_label") or not isinstance(cell, str)
    if is_several:
        return labels_in(cell, options.get("label_separator", "|"))
    return [cell] if cell.strip() else []
