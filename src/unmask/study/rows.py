"""What is in labelled files before anything is trained on them: labels, lengths, copies, and rows that are odd."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unmask.config import resolve
from unmask.data.classes import alike, differ_by_case, told_alike
from unmask.data.recognise import read_rows
from unmask.data.rejects import Rejects
from unmask.data.rows import Table
from unmask.errors import DataError
from unmask.study.row_copies import find_overlaps
from unmask.study.row_faults import misfits, num_words, odd_rows, refused_rows
from unmask.study.row_labels import count_labels
from unmask.study.row_parts import Overlap, Trouble, part_of
from unmask.tasks import find_task
from unmask.tasks.choose import choose
from unmask.tokenizer.load import Tokenizer
from unmask.train.settings import ColumnSettings

MAX_OVERLAP = 0.01
"""Share of a file's rows that may stand in another file too."""
_COLUMNS = ("text_column", "pair_column", "label_column")


@dataclass(frozen=True)
class DataView:
    """What is in some labelled files.

    Attributes:
        task: that they are for.
        notes: what the task makes of the first one.
        files: path and number of rows of each file, by name.
        labels: rows with each label in each file, the most frequent first; empty for tasks without classes.
        unseen: labels that only the first file has, or that another one lacks, a line each.
        unit: what lengths are counted in.
        lengths: of the rows of all files, (N,) int64.
        max_length: of the model, or as asked for; None without either.
        overlaps: copies in one file and between two.
        troubles: odd rows.
        failures: what has to be mended, a line each.
    """

    task: str
    notes: list[str]
    files: dict[str, tuple[str, int]]
    labels: dict[str, dict[str, int]]
    unseen: list[str]
    unit: str
    lengths: np.ndarray
    max_length: int | None
    overlaps: list[Overlap]
    troubles: list[Trouble]
    failures: list[str] = field(default_factory=list)

    @property
    def num_long(self) -> int:
        """Rows that do not fit into one input."""
        return 0 if self.max_length is None else int((self.lengths > self.max_length).sum())

    @property
    def long_share(self) -> float:
        """Part of all tokens that stands behind the end of the first input."""
        if self.max_length is None:
            return 0.0
        return float(np.maximum(self.lengths - self.max_length, 0).sum() / max(1, self.lengths.sum()))

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values; lengths become quantiles."""
        quantiles = (0.0, 0.5, 0.9, 0.99, 1.0)
        lengths = dict(zip(map(str, quantiles), np.quantile(self.lengths, quantiles).tolist(), strict=True))
        found = {name: value for name, value in vars(self).items() if name not in ("lengths", "overlaps", "troubles")}
        return found | {
            "lengths": lengths,
            "num_long": self.num_long,
            "long_share": self.long_share,
            "overlaps": [asdict(one) | {"share": one.share} for one in self.overlaps],
            "troubles": [asdict(one) for one in self.troubles],
        }


@dataclass(frozen=True)
class Measure:
    """How lengths are counted.

    Attributes:
        tokenizer: in its tokens, special ones included; None counts words.
        max_length: longest input.
    """

    tokenizer: Tokenizer | None = None
    max_length: int | None = None

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Length of each text."""
        if self.tokenizer is None:
            return [num_words(text) for text in texts]
        return [len(ids) + self.tokenizer.num_special(False) for ids in self.tokenizer.encode_ids(list(texts))]


def look_at_rows(
    files: Mapping[str, Path],
    *,
    task: str | None = None,
    asked: ColumnSettings | None = None,
    given: dict[str, Any] | None = None,
    measure: Measure | None = None,
    max_overlap: float = MAX_OVERLAP,
) -> DataView:
    """Look at the rows of one file or several of one data set.

    Args:
        files: by the names of the splits, the one to train on first.
        task: that they are for; by default what the first file looks like.
        asked: columns that the user named.
        given: settings of the task.
        measure: of lengths; by default words.
        max_overlap: share of a file's rows that may be in another one.

    Raises:
        DataError: a file cannot be read at all, has no row that can, or lacks a column of texts.
    """
    asked, measure = asked or ColumnSettings(), measure or Measure()
    tables, rejects = _read(files, task, asked)
    first = next(iter(tables.values()))
    named = {name: value for name in _COLUMNS if (value := getattr(asked, name)) is not None}
    task = task or choose(first, named)
    kind = find_task(task)
    notes, failures, options = [], [], None
    try:
        understood = kind.understand(first, {**(given or {}), **named})
        notes, options = understood.notes, resolve(kind.settings_class, understood.settings, given or {})
    except DataError as error:
        failures.append(f"{error.reason} [{error.code}]")
    parts = [part_of(name, table, rejects[name], kind, options) for name, table in tables.items()]
    lengths = [measure.lengths(part.texts) for part in parts]
    troubles = [*odd_rows(parts, lengths), *misfits(parts, options)]
    troubles += [] if options is None else refused_rows(parts, kind, options)
    overlaps = find_overlaps(parts)
    counts, unknown, unseen = count_labels(parts)
    failures += [
        f"{one.name}: {one.count:,} rows, such as {one.examples[0].splitlines()[0]}"
        for one in troubles
        if one.is_failure
    ]
    failures += unknown
    told = list(_alike(counts, parts[0].name))
    troubles += [one for one in told if not one.is_failure]
    failures += [one.name for one in told if one.is_failure]
    failures += [one.told() for one in overlaps if one.inside != one.name and one.share > max_overlap]
    return DataView(
        task=task,
        notes=notes,
        files={part.name: (str(part.table.path), len(part.table.rows)) for part in parts},
        labels=counts,
        unseen=unseen,
        unit="words" if measure.tokenizer is None else "tokens",
        lengths=np.concatenate([np.array(one, np.int64) for one in lengths]),
        max_length=measure.max_length if measure.tokenizer is not None else None,
        overlaps=overlaps,
        troubles=troubles,
        failures=failures,
    )


def _alike(counts: Mapping[str, Mapping[str, int]], name: str) -> Iterator[Trouble]:
    """Labels of a file that nearly have one name; spaces and zeros are mistakes, `CO` and `Co` may be two things."""
    for names in alike(label for label, count in counts.items() if count[name]):
        rows = sum(counts[label][name] for label in names)
        yield Trouble(told_alike(names), rows, [], is_failure=not differ_by_case(names))


def _read(
    files: Mapping[str, Path], task: str | None, asked: ColumnSettings
) -> tuple[dict[str, Table], dict[str, list[DataError]]]:
    """All rows that can be read of each file, and what is wrong with the others."""
    tables: dict[str, Table] = {}
    rejects: dict[str, list[DataError]] = {}
    form, like = find_task(task).form if task else None, tuple[str, ...]()
    tags = asked.label_column
    for name, path in files.items():
        rejected = Rejects()
        tables[name] = read_rows(path, None, form, names=asked.names, like=like, reject=rejected, tags=tags)
        rejects[name] = rejected.errors
        form, like, tags = tables[name].form, like or tables[name].columns, tags or tables[name].tag_column
    return tables, rejects
