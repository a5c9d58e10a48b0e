"""What is written of answers: lines for people, JSON lines, a table."""

import contextlib
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated, Any, TextIO

from cyclopts import Parameter

from unmask.cli import heavy, say
from unmask.cli.rows import Placed, line_of
from unmask.config import Settings
from unmask.errors import DataError, UsageError

FORMATS = (".jsonl", ".csv")
Write = Callable[[Placed, Any], None]
_BESIDE = ("line", "input", "kept", "output", "reason")  # what a record has beside the answer's own fields


class Written(Settings):
    """What is written of the answers, and where."""

    keep: Annotated[list[str] | None, Parameter(consume_multiple=True)] = None
    """Other columns of FILE to write with the answers, such as `--keep id date`."""
    output: Path | None = None
    """New file for the answers, written whole or not at all: JSON lines (.jsonl) or a table (.csv)."""
    skip_bad: bool = False
    """Go on behind rows that cannot be answered, such as empty texts; the whole table is then held in memory."""

    def check(self) -> None:
        """Refuse an output that cannot be written, before anything is computed.

        Raises:
            UsageError: it exists, or its name says no format.
        """
        if self.output is not None and self.output.suffix not in FORMATS:
            raise UsageError(
                "unknown-format",
                "the name of the output does not say its format",
                value=self.output,
                expected=f"a name that ends in {' or '.join(FORMATS)}",
            )
        if self.output is not None:
            heavy("unmask.storage:refuse_existing")(self.output)

    @contextlib.contextmanager
    def open(self, columns: Sequence[str], *, json: bool) -> Iterator[Write]:
        """What writes a row and its answer.

        Args:
            columns: of the texts, which are written in any case.
            json: write objects to standard output, not lines for people.
        """
        kept = [name for name in self.keep or () if name not in columns]
        if self.output is None:
            yield lambda placed, answer: say(
                record(placed, answer, kept) if json else line((*columns, *kept), placed, answer)
            )
            return
        with heavy("unmask.storage:new_file")(self.output) as file:
            if self.output.suffix == ".jsonl":
                yield lambda placed, answer: file.write(_json(record(placed, answer, kept)) + "\n")
                return
            table = _CsvTable(file, has_reasons=self.skip_bad)
            yield lambda placed, answer: table.add(record(placed, answer, kept))
            table.finish()


def record(placed: Placed, answer: Any, kept: Sequence[str]) -> dict[str, Any]:
    """A row and its answer for machines.

    Args:
        placed: the row, and where it comes from.
        answer: a prediction, or why there is none.
        kept: columns that go with it.
    """
    place, row = placed
    told: dict[str, Any] = {"line": line_of(place), "input": None}
    if not isinstance(row, DataError):
        told["input"] = {name: value for name, value in row.items() if name not in kept}
        if kept:
            told["kept"] = {name: row[name] for name in kept}
    if isinstance(answer, DataError):
        return told | {"output": None, "reason": f"{answer.reason} [{answer.code}]"}
    return told | answer.record()


def line(columns: Sequence[str], placed: Placed, answer: Any) -> str:
    """An answer for people, and what it is about; nothing where there is none."""
    row = placed[1]
    if isinstance(answer, DataError) or isinstance(row, DataError):
        return ""
    told: str = answer.summary()
    return told if "\n" in told else "\t".join([told, *(str(row[name]) for name in columns if name in row)])


class _CsvTable:
    """Records as rows of a table; the first answer says which columns it has."""

    def __init__(self, file: TextIO, *, has_reasons: bool) -> None:
        self._file = file
        self._last = ["reason"] * has_reasons
        self._held: list[dict[str, Any]] = []
        self._writer: csv.DictWriter[str] | None = None

    def add(self, told: dict[str, Any]) -> None:
        """Write a record, or hold it until there is an answer."""
        self._held.append(told)
        if self._writer is not None or "output" not in told:
            self.finish()

    def finish(self) -> None:
        """Write what is held."""
        rows = [_flat(told) for told in self._held]
        self._held = []
        if self._writer is None:
            names = [name for name in (rows[-1] if rows else {}) if name != "reason"]
            self._writer = csv.DictWriter(
                self._file, names + self._last, extrasaction="ignore", lineterminator="\n", restval=""
            )
            self._writer.writeheader()
        self._writer.writerows(rows)


def _flat(told: dict[str, Any]) -> dict[str, str]:
    """One level of names; those of the answer begin with `answer_`, for a column of the file may be called alike."""
    answer = {f"answer_{name}": value for name, value in told.items() if name not in _BESIDE}
    flat = {"line": told["line"], **(told["input"] or {}), **told.get("kept", {}), **answer}
    if "reason" in told:
        flat["reason"] = told["reason"]
    return {
        name: "" if value is None else value if isinstance(value, str) else _json(value) for name, value in flat.items()
    }


def _json(value: Any) -> str:
    return dumps(value, ensure_ascii=False, default=asdict)
