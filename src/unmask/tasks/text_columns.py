"""Which columns of a table hold a text and what is to be made of it: by their names, else the only two there are."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from unmask.data.cells import header_hint
from unmask.data.names import OTHER_NAMES
from unmask.data.rows import Table, check_named
from unmask.errors import DataError
from unmask.tasks.choose import SOURCE_NAMES

MORE_NAMES = {
    "question": ("answer", "answers", "response"),
    "instruction": ("response", "output", "answer"),
    "prompt": ("completion", "response"),
    "dialogue": ("summary",),
    "content": ("summary", "headline", "title"),
}
"""Besides those that name the task by themselves."""
CONTEXT_NAMES = ("context", "passage")
_LANGUAGE = re.compile(r"[a-z]{2,3}([-_][a-z]{2,4})?")  # en, de, zh-cn, pt_br
_SAMPLE = 200


@dataclass(frozen=True)
class TextColumns:
    """Columns of a task from text to text.

    Attributes:
        source: column of the text.
        pair: column of a second source text, or None.
        target: column of what is to be written.
        is_han: whether most target texts have more Han characters than letters of other scripts.
    """

    source: str
    pair: str | None
    target: str
    is_han: bool


def find_texts(table: Table, named: Mapping[str, str]) -> TextColumns:
    """Choose the columns that were not named.

    Args:
        table: to be trained on.
        named: `text_column`, `pair_column` and `label_column` (the target's), where the user gave them.

    Raises:
        DataError: no rows, a named column is not there, there is no header, or nothing looks like source and target.
    """
    source, pair, target = (named.get(name) for name in ("text_column", "pair_column", "label_column"))
    check_named(table, (source, pair, target))
    free = [name for name in table.columns if name not in (source, pair, target)]
    if source is None and target is None and (hint := header_hint(table.columns)):
        raise DataError(
            "no-header", hint, place=f"{table.path}:1", remedy="write a first line with the names of the columns"
        )
    if source is None or target is None:
        source, target = _by_name(free, source, target) or _only_two(free, source, target) or _refuse(table)
    if pair is None and source.strip().lower() == "question":
        pair = next((name for name in free if name.strip().lower() in CONTEXT_NAMES), None)
    return TextColumns(source, pair, target, _is_han([row[target] for row in table.rows[:_SAMPLE]]))


def _by_name(free: list[str], source: str | None, target: str | None) -> tuple[str, str] | None:
    """A known pair of names, or two names of languages in the order of the file."""
    names = {name.strip().lower(): name for name in free}
    for known in (SOURCE_NAMES, MORE_NAMES):
        for first, seconds in known.items():
            for second in seconds:
                given = source or names.get(first), target or names.get(second)
                if given[0] and given[1]:
                    return given[0], given[1]
    languages = [names[name] for name in names if _LANGUAGE.fullmatch(name)]
    return _only_two(languages, source, target)


def _only_two(free: list[str], source: str | None, target: str | None) -> tuple[str, str] | None:
    rest = [name for name in free if name.strip().lower() not in OTHER_NAMES]
    if len(rest) != (source is None) + (target is None):
        return None
    return source or rest[0], target or rest[-1]


def _refuse(table: Table) -> NoReturn:
    raise DataError(
        "no-target-column",
        "no two columns look like a text and what is to be made of it",
        place=table.path,
        value=", ".join(table.columns),
        expected="columns such as source and target, text and summary, question and answer, en and de",
        remedy="name them: --data.text-column SOURCE --data.label-column TARGET",
    )


def _is_han(texts: list[str]) -> bool:
    han = sum("\u3400" <= char <= "\u9fff" for text in texts for char in text)
    return 2 * han > sum(char.isalpha() for text in texts for char in text)
