"""The classes in a column of labels, one a row or several (`a|b`, or a list of JSON), and how uneven they are."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from unmask.data.rows import Table
from unmask.errors import DataError

log = logging.getLogger("unmask")

SEPARATOR = "|"
UNEVEN = 10
VERY_UNEVEN = 1000
NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_FEW_ROWS = 20
_SEPARATORS = "|;,/"  # that labels of a cell may have between them
_DECIMAL = re.compile(r"\s*[-+]?[0-9]+(,[0-9]+)?\s*")

Cell = str | Sequence[str]


@dataclass(frozen=True)
class Classes:
    """Classes of a labelled file.

    Attributes:
        labels: in the order of the logits: numbers by value, other names by the alphabet.
        counts: rows that have each.
        num_rows: rows that may have one; without those whose cell is empty where one is wanted.
        is_multi_label: whether a row may have several of them, or none.
        hints: what the labels may be meant for, if not for classes.
    """

    labels: tuple[str, ...]
    counts: tuple[int, ...]
    num_rows: int
    is_multi_label: bool
    hints: tuple[str, ...] = ()

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of these rows that have each class; with one class a row they sum to 1."""
        return tuple(count / self.num_rows for count in self.counts)

    def advice(self) -> list[str]:
        """What to know about odd labels and rare classes, a line each; nothing where there are none."""
        order = sorted(range(len(self.labels)), key=lambda index: self.counts[index])
        least, most = order[0], order[-1]
        ratio = self.counts[most] / self.counts[least]
        lines = [*self.hints]
        if ratio >= UNEVEN:
            lines.append(
                f"uneven classes: '{self.labels[most]}' has {self.counts[most]:,} rows, '{self.labels[least]}' "
                f"{self.counts[least]:,}: accuracy says little about rare ones; try "
                "--options.class_weights balanced and --metric macro_f1"
            )
        if ratio >= VERY_UNEVEN:
            lines.append(
                f"1 to {ratio:,.0f} is more than weights can mend: label more rows of '{self.labels[least]}', or give "
                f"only a sample of '{self.labels[most]}'"
            )
        single = [self.labels[index] for index in order if self.counts[index] == 1]
        if single:
            some = ", ".join(f"'{name}'" for name in single[:3]) + (", ..." if len(single) > 3 else "")
            lines.append(
                f"{len(single)} of the classes have one row each ({some}): it is learnt from and never checked; label "
                "more such rows, or join classes"
            )
        return lines


def labels_in(cell: Cell, separator: str) -> list[str]:
    """The labels in a cell of several: a list as it is, a text cut at the separator; without empty ones and doubles."""
    parts = [part.strip() for part in cell.split(separator)] if isinstance(cell, str) else list(cell)
    return list(dict.fromkeys(part for part in parts if part))


def find_classes(table: Table, column: str, *, multi_label: bool | None = None, separator: str = SEPARATOR) -> Classes:
    """Find the classes in a column.

    Args:
        table: the rows.
        column: of the labels.
        multi_label: whether a row may have several; by default if a cell is a list, or if joined cells share parts.
        separator: between the labels of a cell.

    An empty cell is no class where a row has one label; `encode` refuses its row.

    Raises:
        DataError: there is one class only, or nearly as many as rows.
    """
    cells: list[Cell] = [row[column] for row in table.rows]
    if multi_label is None:
        multi_label = _are_joined(cells, separator)
    if not multi_label:
        cells = [cell for cell in cells if not isinstance(cell, str) or cell.strip()]
    sets = [labels_in(cell, separator) if multi_label or not isinstance(cell, str) else [cell] for cell in cells]
    counts = Counter(name for names in sets for name in names)
    if len({tuple(sorted(names)) for names in sets}) < 2:
        raise DataError(
            "one-class",
            f"all rows have the same label in column '{column}'",
            place=table.path,
            value=", ".join(sorted(counts)),
            expected="at least two classes",
        )
    hints = () if multi_label else tuple(_hints(set(counts), column, separator))
    if not multi_label and len(cells) > _FEW_ROWS and len(counts) > len(cells) / 2:
        raise DataError(
            "too-many-classes",
            f"the {len(cells)} rows have {len(counts)} different labels in column '{column}'",
            place=table.path,
            expected="classes with several rows each",
            remedy="; ".join(["name another column: --data.label-column NAME", *hints]),
        )
    for names in alike(counts):
        log.warning("%s", told_alike(names))
    labels = _sorted(counts)
    return Classes(labels, tuple(counts[name] for name in labels), len(cells), multi_label, hints)


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of labels that differ only by spaces, case, or the way in which a number is written."""
    groups: dict[object, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(_key(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def differ_by_case(names: Sequence[str]) -> bool:
    """Whether such a group differs by case alone, as `CO` and `Co` may with reason."""
    return len({name.casefold() for name in names}) == 1


def told_alike(names: Sequence[str]) -> str:
    """What is wrong with such a group, and what to do."""
    by, remedy = "spaces, case or zeros", "write each in one way"
    if differ_by_case(names):
        by, remedy = "case", "write those that mean one in one way"
    return f"labels that differ only by {by} are different classes here: {', '.join(map(repr, names))}; {remedy}"


def quoted(name: str) -> str:
    """A label as it is shown: in quotes where they alone show its blanks or commas, or that it is empty."""
    return name if name.strip() == name != "" and "," not in name else f"'{name}'"


def number_in(text: str) -> float | None:
    """The number that a text is, or `None`; a date, an infinity and digits of other scripts are none."""
    return float(text) if NUMBER.fullmatch(text.strip()) else None


def nearest(name: str, labels: Sequence[str]) -> str | None:
    """The class that is the same number, or the same but for case and spaces."""
    return next((label for label in labels if _key(label) == _key(name)), None)


def _are_joined(cells: Sequence[Cell], separator: str) -> bool:
    """Whether some cell is a list, or a part of a joined cell stands in another cell too."""
    if any(not isinstance(cell, str) for cell in cells):
        return True
    different = {cell for cell in cells if isinstance(cell, str)}
    parts = Counter(part for cell in different for part in labels_in(cell, separator))
    joined = [cell for cell in different if len(labels_in(cell, separator)) > 1]
    return any(parts[part] > 1 for cell in joined for part in labels_in(cell, separator))


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    names = list(names)
    if all(re.fullmatch(r"-?[0-9]+", name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _key(name: str) -> object:
    number = number_in(name)
    return name.strip().casefold() if number is None else number


def _hints(names: set[str], column: str, separator: str) -> Iterator[str]:
    """What labels, each of them a class, may be meant for: numbers with a decimal comma, or several labels a row."""
    if names and all(map(_DECIMAL.fullmatch, names)) and any("," in name for name in names):
        yield f"labels in column '{column}' look like numbers with a decimal comma: write 1.5 for 1,5 to estimate them"
        return
    for mark in _SEPARATORS.replace(separator, ""):
        parts = {part for name in names for part in labels_in(name, mark)}
        if len(parts) < len(names) and _are_joined([*names], mark):
            yield f"cells of column '{column}' look like several labels: --options.label_separator '{mark}' parts them"
            return
