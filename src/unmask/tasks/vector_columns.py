"""What a file of texts tells of their similarity: triplets, pairs, scored pairs, or nothing but texts."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from unmask.data.names import LABEL_NAMES, PAIR_NAMES, SCORE_NAMES, TEXT_NAMES
from unmask.data.rows import Table, check_named
from unmask.errors import DataError
from unmask.tasks.number_reader import numbers_of

_PAIR_NAMES = (("anchor", "positive"), ("sent0", "sent1"), ("query", "positive"), ("question", "answer"), *PAIR_NAMES)
_NEGATIVE = re.compile(r"(hard_)?negatives?|hard_negs?|(hard_)?neg(ative)?_?\d+")
_SCORE_NAMES = (*SCORE_NAMES, *LABEL_NAMES)


def find_columns(table: Table, named: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Choose the columns that were not named.

    Args:
        table: to be trained on.
        named: settings that the user gave.

    Returns:
        Settings of the task, and lines that tell the user.

    Raises:
        DataError: no rows, a named column is not there, or a score is no number.
    """
    names = {name.strip().lower(): name for name in table.columns}
    found = {key: named[key] for key in ("text_column", "pair_column", "label_column") if key in named}
    negatives = tuple(split(named.get("negative_columns", ())))
    check_named(table, (*found.values(), *negatives))
    if "text_column" not in found:
        pair = next(((names[a], names[b]) for a, b in _PAIR_NAMES if a in names and b in names), None)
        if pair is None or "pair_column" in found:
            found["text_column"] = _text_column(table, names, taken={*found.values(), *negatives})
        else:
            found["text_column"], found["pair_column"] = pair
    if "pair_column" in found and "text_column" not in named and "label_column" not in found and not negatives:
        negatives = tuple(name for low, name in names.items() if _NEGATIVE.fullmatch(low))
        found |= {} if negatives else _first(names, "label_column", _SCORE_NAMES)
    if "label_column" in found and negatives:
        raise DataError(
            "scores-and-negatives",
            "pairs either have scores, or belong together and have texts that mean something else beside them",
            place=table.path,
            value=f"{found['label_column']}, {', '.join(negatives)}",
            remedy="name one: --data.label-column NAME, or --options.negative_columns NAME",
        )
    if "label_column" not in found:
        return found | ({"negative_columns": negatives} if negatives else {}), [_told(found, negatives)]
    scores = numbers_of(table.rows, found["label_column"], table.place, skip_bad=named.get("skip_bad", False))
    low, high = map(float, split(named.get("score_range", (min(0.0, *scores), max(scores)))))
    return found | {"score_range": (low, high)}, [_told(found, ()) + f" from {low:g} (cosine 0) to {high:g} (cosine 1)"]


def split(value: Any) -> Any:
    """What stands in a flag with commas between, `1,5`, apart; anything else as it is."""
    return value.split(",") if isinstance(value, str) else value


def _text_column(table: Table, names: Mapping[str, str], taken: set[str]) -> str:
    """A column with a usual name, or that with the longest texts."""
    for name in TEXT_NAMES:
        if name in names and names[name] not in taken:
            return names[name]
    free = [name for name in table.columns if name not in taken]
    if not free:
        raise DataError(
            "no-text-column", "there is no column for the first text", place=table.path, value=", ".join(table.columns)
        )
    return max(free, key=lambda name: sum(len(row[name]) for row in table.rows))


def _first(names: Mapping[str, str], key: str, usual: tuple[str, ...]) -> dict[str, str]:
    return next(({key: names[name]} for name in usual if name in names), {})


def _told(found: Mapping[str, str], negatives: Sequence[str]) -> str:
    text, pair = found["text_column"], found.get("pair_column")
    if pair is None:
        return f"plain texts: {text} | each is compared with itself under other dropout (SimCSE)"
    if "label_column" in found:
        return f"scored pairs: {text} + {pair} | similarity: {found['label_column']}"
    return f"pairs: {text} + {pair}" + (f" | and another meaning: {' + '.join(negatives)}" if negatives else "")
