"""Guess which columns of a table hold text and label, from their names first and their values second."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from unmask.data.classes import number_in
from unmask.data.names import LABEL_NAMES, OTHER_NAMES, PAIR_NAMES, SCORE_NAMES, TEXT_NAMES
from unmask.data.order import permute
from unmask.data.rows import Table, check_named
from unmask.errors import DataError

# Characters that a text has on average, at the least.
_TEXT_LENGTH = 4


@dataclass(frozen=True)
class Columns:
    """Columns of a table of labelled texts.

    Attributes:
        text: column of the first text.
        pair: column of the second text, or `None`.
        label: column of the class or number.
    """

    text: str
    pair: str | None
    label: str


def infer_columns(
    table: Table,
    *,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
    is_number: bool = False,
) -> Columns:
    """Choose the columns that were not named.

    Args:
        table: the rows.
        text: column of the text, if it is known.
        pair: column of the second text, if it is known.
        label: column of the class or number, if it is known.
        is_number: the label is a number that is measured, not a class.

    Raises:
        DataError: no rows, a named column is not there, or nothing looks like a text or a label.
    """
    check_named(table, (text, pair, label))
    label = label or (_number_column if is_number else _label_column)(table, taken=(text, pair))
    if text is None:
        text, pair = _text_columns(table, pair, without=label)
    return Columns(text, pair, label)


def split_off(
    strata: Sequence[str], share: float, *, seed: int, groups: Sequence[Hashable | None] = ()
) -> tuple[list[int], list[int]]:
    """Split row numbers into two parts with the same mix of strata, as a pure function of the seed.

    Args:
        strata: one a row, such as its label; a group belongs to the stratum of its first row.
        share: part of each stratum's groups that goes into the second part, at least one of two or more.
        seed: of the draw.
        groups: one a row; rows of one group stay together, and None, like no groups at all, is a row alone.

    Returns:
        Row numbers of the larger and the smaller part, ascending.
    """
    members: dict[Hashable, list[int]] = {}
    for index in range(len(strata)):
        group = groups[index] if groups else None
        members.setdefault(("alone", index) if group is None else ("group", group), []).append(index)
    by_stratum: dict[str, list[list[int]]] = {}
    for rows in members.values():
        by_stratum.setdefault(strata[rows[0]], []).append(rows)
    chosen: set[int] = set()
    for rank, name in enumerate(sorted(by_stratum)):
        units = by_stratum[name]
        count = min(len(units) - 1, max(1, round(len(units) * share)))
        order = permute(np.arange(len(units)), size=len(units), key=seed * 1_000_003 + rank)
        chosen.update(row for place in order[:count] for row in units[int(place)])
    return sorted(set(range(len(strata))) - chosen), sorted(chosen)


def _free(table: Table, taken: tuple[str | None, ...]) -> list[str]:
    return [name for name in table.columns if name not in taken and name.strip().lower() not in OTHER_NAMES]


def _number_column(table: Table, taken: tuple[str | None, ...]) -> str:
    found = [name for name in _free(table, taken) if _are_numbers(table, name)]
    if not found:
        raise DataError(
            "no-number-column",
            "no column holds a number in every row",
            place=table.path,
            value=", ".join(table.columns),
            expected=f"a column named {', '.join(SCORE_NAMES[:3])}..., or one with numbers only",
            remedy="name it: --data.label-column NAME; --data.skip-bad then leaves rows without a number out",
        )
    known = [name for name in found if name.strip().lower() in (*SCORE_NAMES, *LABEL_NAMES)]
    return known[0] if known else max(found, key=lambda name: len(_values(table, name)))


def _are_numbers(table: Table, name: str) -> bool:
    return all(isinstance(value, str) and number_in(value) is not None for value in _values(table, name))


def _label_column(table: Table, taken: tuple[str | None, ...]) -> str:
    free = _free(table, taken)
    for name in free:
        if name.strip().lower() in LABEL_NAMES:
            return name
    lists = [name for name in free if any(isinstance(row[name], list) for row in table.rows)]
    if lists:
        return lists[0]
    few = [name for name in free if 2 <= len(_values(table, name)) <= max(2, min(200, len(table.rows) // 5))]
    if not few:
        raise DataError(
            "no-label-column",
            "no column looks like a label: none has a known name, and none has few different values",
            place=table.path,
            value=", ".join(table.columns),
            expected=f"a column named {', '.join(LABEL_NAMES[:4])}..., or one with repeated values",
            remedy="name it: --data.label-column NAME",
        )
    return min(few, key=lambda name: (_mean_length(table, name), len(_values(table, name))))


def _text_columns(table: Table, pair: str | None, without: str) -> tuple[str, str | None]:
    free = [name for name in table.columns if name not in (without, pair)]
    names = {name.strip().lower(): name for name in free}
    if pair is None:
        for first, second in PAIR_NAMES:
            if first in names and second in names:
                return names[first], names[second]
    for name in TEXT_NAMES:
        if name in names:
            return names[name], pair
    if not free:
        raise DataError(
            "no-text-column",
            f"there is no column beside the label '{without}'",
            place=table.path,
            remedy="name the text's column: --data.text-column NAME",
        )
    texts = [name for name in free if _mean_length(table, name) >= _TEXT_LENGTH and not _are_numbers(table, name)]
    if len(texts) == 2 and pair is None and all(name.isdigit() for name in table.columns):
        return texts[0], texts[1]  # a file without a header, such as SNLI's: both texts count
    return max(free, key=lambda name: _mean_length(table, name)), pair


def _values(table: Table, name: str) -> set[Hashable]:
    """The different values of a column; lists of a column of labels become tuples."""
    values = (row[name] for row in table.rows)
    return {value if isinstance(value, str) else tuple(value) for value in values}


def _mean_length(table: Table, name: str) -> float:
    return sum(len(row[name]) for row in table.rows) / len(table.rows)
